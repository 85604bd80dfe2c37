/**
 * Registration: reads `httpSecurity` from routes and flows as Fastify registers them, and fills the route table. Begin with
 * `watchRegistrations`; `requireEncapsulation` refuses `httpSecurity` where it would have no effect.
 */
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, FastifyPluginOptions, HTTPMethods, RouteOptions } from 'fastify'
import { OF_ROUTE } from '../clients/rules.ts'
import { InvalidOptionsError, NoEffectError } from '../errors.ts'
import { rankOf } from '../levels.ts'
import { type Declared, declarationOf, NOTHING, type Options, resolveDeclaration } from '../options/resolve.ts'
import { show } from '../options/validation-errors.ts'
import { type Flows, resolveRoute } from './inheritance.ts'
import { nameOf, type RouteTable, shareMethods } from './route-table.ts'

/** Where a route's `config` holds its index in the table. A symbol of its own for each plugin instance, since tables differ. */
export type RouteIndexKey = symbol

/**
 * Watches what is registered from now on.
 *
 * @returns what tells, at boot, which route an onRoute hook has changed after its level was worked out
 */
export function watchRegistrations (app: FastifyInstance, { options, flows, table, indexKey }: {
  options: Options
  flows: Flows
  table: RouteTable
  indexKey: RouteIndexKey
}): () => string | undefined {
  // Fastify has a default for it, and leaves it out of its types.
  const { exposeHeadRoutes } = app.initialConfig as { exposeHeadRoutes?: boolean }
  let registrations = new Registrations()

  app.addHook('onRegister', function (this: FastifyInstance, instance, registerOptions: FastifyPluginOptions) {
    const name = (): string => nameOfFlow(instance)
    const declaration = resolveDeclaration(readRegisterOption(this, registerOptions, name), name, () => `httpSecurity of ${name()}`)
    flows.enter(this, instance, declaration, Boolean(registerOptions.prefix))
  })

  app.addHook('onRoute', function (this: FastifyInstance, route) {
    const methods = Array.isArray(route.method) ? route.method : [route.method]
    // The config may be the user's own object, shared among routes: it is replaced, never changed.
    // With what Fastify is about to add, in its order, so that V8 shares one shape among all of them.
    const config: Config = { ...route.config, url: route.url, method: route.method, [indexKey]: -1 }
    const { own, configured } = readDeclarations(route, config, () => `route ${nameOf({ methods, url: route.url })}`)
    const registration: Registration = {
      route,
      instance: this,
      routeIndex: -1,
      own,
      configured,
      methods: shareMethods(methods),
      url: route.url,
      prefix: prefixOf(route),
      hasHead: methods.includes('GET') && (route.exposeHeadRoute ?? exposeHeadRoutes) === true
    }
    const get = methods.length === 1 && methods[0] === 'HEAD' ? registrations.getOf(registration) : undefined
    if (get === undefined) {
      const { row, rules } = resolveRoute({ methods: registration.methods, url: route.url, constraints: route.constraints, instance: this, own: declaredIn(registration) }, flows, options)
      registration.routeIndex = table.add(row, declaredIn(registration).level === undefined ? flows.ambiguityOf(route.url, rankOf(row.level)) : 'no', rules)
    } else {
      registration.routeIndex = get.routeIndex
      table.addMethod(get.routeIndex, 'HEAD')
    }
    registrations.add(registration)
    config[indexKey] = registration.routeIndex
    route.config = config as typeof route.config
  })

  return function changedRoute () {
    const changed = registrations.all.find((registration) => changedPart(app, registration, indexKey) !== undefined)
    // None comes after the boot.
    registrations = new Registrations()
    return changed && `the ${changedPart(app, changed, indexKey)} of route ${nameOf(changed)}`
  }
}

/** The index in the table of a route whose onRoute hooks have begun to run. */
export function routeIndexOf (route: RouteOptions, indexKey: RouteIndexKey): number {
  return Reflect.get(route.config!, indexKey) as number
}

/** What becomes a route's `config`. */
type Config = Record<PropertyKey, unknown>

/** What a route declares in either place; the other one is empty, or says the same. */
interface DeclaredTwice {
  /** By its option. */
  readonly own: Declared
  /** By its `config`. */
  readonly configured: Declared
}

/** A call of our hook: what a level was worked out from. */
interface Registration extends DeclaredTwice {
  readonly route: RouteOptions
  readonly instance: FastifyInstance
  routeIndex: number
  readonly methods: readonly string[]
  readonly url: string
  /** That of the instance. */
  readonly prefix: string
  /** Fastify makes a HEAD of it. */
  readonly hasHead: boolean
}

/**
 * A route says it by its own option, or by its `config`, which is all that a framework over Fastify may let through.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
function readDeclarations (route: RouteOptions, config: Config, name: () => string): DeclaredTwice {
  const own = resolveDeclaration(readOption(route, name), ofRoute, () => `httpSecurity of ${name()}`)
  // Most have none.
  if (route.config === undefined) return { own, configured: NOTHING }
  const configured = resolveDeclaration(readOption(config, () => `config of ${name()}`), ofRoute, () => `config.httpSecurity of ${name()}`)
  if (own !== NOTHING && configured !== NOTHING && !isDeepStrictEqual(own, configured)) {
    throw new InvalidOptionsError(`httpSecurity of ${name()}: ${show(route.httpSecurity)} is not allowed beside config: { httpSecurity: ${show(config.httpSecurity)} }; allowed: one of the two, or both alike`)
  }
  return { own, configured }
}

/** The same for a GET and its HEAD. */
const ofRoute = (): string => OF_ROUTE

function declaredIn ({ own, configured }: DeclaredTwice): Declared {
  return own === NOTHING ? configured : own
}

class Registrations {
  readonly all: Registration[] = []
  /** GETs by their URL, those with the same one by turns: as many of `all` as were looked through. */
  readonly #gets = new Map<string, Registration[]>()
  #lookedThrough = 0

  add (registration: Registration): void {
    this.all.push(registration)
  }

  /**
   * The GET that Fastify made a HEAD of: from the options that the GET was given, once all onRoute hooks have run for it.
   * It is the one before, unless they have registered other routes in between.
   */
  getOf (head: Registration): Registration | undefined {
    const latest = this.all.at(-1)
    if (latest !== undefined && isHeadOf(head, latest)) return latest
    for (const registration of this.all.slice(this.#lookedThrough)) {
      if (!registration.hasHead) continue
      const url = rootOf(registration)
      const gets = this.#gets.get(url)
      if (gets === undefined) this.#gets.set(url, [registration])
      else gets.push(registration)
    }
    this.#lookedThrough = this.all.length
    return this.#gets.get(rootOf(head))?.findLast((get) => isHeadOf(head, get))
  }
}

/** Whether they differ in their method alone. A HEAD that declares something else is a route of its own. */
function isHeadOf (head: Registration, get: Registration): boolean {
  return get.hasHead && get.instance === head.instance && rootOf(get) === rootOf(head) &&
    isAlike(declaredIn(get), declaredIn(head)) && isAlike(get.route.constraints, head.route.constraints)
}

/** What an onRoute hook after ours, or other code that holds the same object, has changed: too late to count. */
function changedPart (app: FastifyInstance, registration: Registration, indexKey: RouteIndexKey): string | undefined {
  const { route, routeIndex, own, configured, methods } = registration
  const config: object = Object(route.config)
  if (Reflect.get(config, indexKey) !== routeIndex) return 'config'
  if (!isAlike(declarationOf(route.httpSecurity, ofRoute()), own)) return 'httpSecurity'
  if (!isAlike(declarationOf(Reflect.get(config, 'httpSecurity'), ofRoute()), configured)) return 'config.httpSecurity'
  if (String(route.method) !== String(methods)) return 'method'
  return isUrlStill(app, registration) ? undefined : 'url'
}

/** Fastify itself gives a route for `/` a second URL, of which hooks are not told, and which hides what they did to the first. */
function isUrlStill (app: FastifyInstance, { route: { url, constraints = {} }, url: first, prefix, methods }: Registration): boolean {
  if (url === first) return true
  if (first !== prefix || url !== `${prefix}/`) return false
  // The router may have merged slashes (ignoreDuplicateSlashes).
  const spelled = [first, first.replaceAll(/\/{2,}/g, '/')]
  return methods.every((method) => spelled.some((url) => app.hasRoute({ method: method as HTTPMethods, url, constraints })))
}

/** One URL for the two that a route for `/` has under a prefix: `/p` and `/p/`, or `/p/` and `/p//`. */
function rootOf ({ url, prefix }: Registration): string {
  return url.length === prefix.length + 1 && url === `${prefix}/` ? prefix : url
}

function isAlike (a: unknown, b: unknown): boolean {
  return a === b || isDeepStrictEqual(a, b)
}

/** Of the instance that the route was registered in. Fastify tells onRoute hooks. */
function prefixOf (route: RouteOptions): string {
  return (route as RouteOptions & { prefix: string }).prefix
}

/** Plugins without a name go by their source text, which is no name. */
function nameOfFlow ({ pluginName, prefix }: FastifyInstance): string {
  const name = /^[\w$@./-]+$/.test(pluginName) ? `the flow ${pluginName}` : 'an anonymous flow'
  return prefix === '' ? name : `${name} at ${prefix}`
}

// Where `httpSecurity` is written: on a route, in its `config`, and in the options of `register`

const NAME = 'httpSecurity'

/**
 * What `httpSecurity` is in the options of a route or of `register`, or in a `config`; `undefined` where it is not there.
 *
 * @param subject whose options these are, should the name be misspelled
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a key that differs in its case only: it would have no effect
 */
function readOption (options: unknown, subject: () => string): unknown {
  for (const key in Object(options)) {
    if (key.length === NAME.length && key !== NAME && key.toLowerCase() === NAME.toLowerCase()) {
      throw new InvalidOptionsError(`${subject()}: unknown option ${show(key)}; did you mean ${show(NAME)}?`)
    }
  }
  return (options as { [NAME]?: unknown } | null | undefined)?.[NAME]
}

/** The same of the options of `register`, where an instance may stand for options: what decorates it is no declaration. */
function readRegisterOption (instance: FastifyInstance, options: unknown, subject: () => string): unknown {
  const value = readOption(options, subject)
  return value === instance[NAME] ? undefined : value
}

// Refuses `httpSecurity` where Fastify would drop it without a word: on a plugin that is not encapsulated, whose routes
// belong to the instance around it, and in what a function returns, which no onRegister hook gets to see

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
