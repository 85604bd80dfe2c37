/**
 * Refuses `httpSecurity` where Fastify would drop it without a word: on a plugin that is not encapsulated, whose routes
 * belong to the instance around it, and in what a function returns, which no onRegister hook gets to see.
 */
import type { FastifyInstance } from 'fastify'
import { NoEffectError } from '../errors.ts'
import type { Flows } from './flows.ts'
import { readRegisterOption } from './option.ts'

const EXAMPLE = 'register(async (i) => i.register(plugin, options), { httpSecurity })'

type Register = (plugin: unknown, options?: unknown) => unknown

/**
 * Watches `register` of an instance and of all below it.
 *
 * @param fail takes what comes to light too late to be thrown from `register`; it belongs to the boot's errors
 * @throws FST_HTTP_SECURITY_NO_EFFECT, FST_HTTP_SECURITY_INVALID_OPTIONS from `register`
 */
export function requireEncapsulation (app: FastifyInstance, flows: Flows, fail: (error: Error) => void): void {
  const register = app.register as Register
  app.register = function (this: FastifyInstance, plugin: unknown, options?: unknown) {
    // A flow may pass its own options on: what the instance was registered with has its effect there already.
    const hasNoEffect = (given: unknown): boolean => {
      const declared = readRegisterOption(this, given, () => `options of register for ${nameOfPlugin(plugin)}`)
      return declared !== undefined && !flows.holds(this, declared)
    }
    if (typeof options === 'function') {
      return register.call(this, plugin, function (this: unknown, ...args: unknown[]) {
        const returned: unknown = options.apply(this, args)
        try {
          if (hasNoEffect(returned)) throw new NoEffectError(`httpSecurity has no effect in the options that a function returns, as given to register for ${nameOfPlugin(plugin)}; give it to a flow around that plugin: ${EXAMPLE}`)
        } catch (error) {
          fail(error as Error)
        }
        return returned
      })
    }
    if (hasNoEffect(options)) {
      if (isThenable(plugin)) plugin.then((loaded) => { if (!isEncapsulated(loaded)) fail(notEncapsulated(loaded)) }, () => {})
      else if (!isEncapsulated(plugin)) throw notEncapsulated(plugin)
    }
    return register.call(this, plugin, options)
  } as typeof app.register
}

/** `skip-override` is how fastify-plugin marks a plugin. */
function isEncapsulated (plugin: unknown): boolean {
  return !Reflect.get(Object(functionOf(plugin)), Symbol.for('skip-override'))
}

function notEncapsulated (plugin: unknown): Error {
  return new NoEffectError(`httpSecurity has no effect on ${nameOfPlugin(plugin)}, which is made with fastify-plugin and so not encapsulated; give it to a flow around it: ${EXAMPLE}`)
}

function nameOfPlugin (plugin: unknown): string {
  const fn = Object(functionOf(plugin))
  const displayName: unknown = Reflect.get(fn, Symbol.for('fastify.display-name')) ?? Reflect.get(fn, 'name')
  return displayName === '' || displayName === undefined ? 'an anonymous plugin' : `the plugin ${String(displayName)}`
}

/** A plugin may come as a module: `{ default: plugin }`. */
function functionOf (plugin: unknown): unknown {
  return typeof plugin === 'function' ? plugin : (plugin as { default?: unknown } | null | undefined)?.default
}

function isThenable (plugin: unknown): plugin is PromiseLike<unknown> {
  return typeof (plugin as { then?: unknown } | null | undefined)?.then === 'function'
}
