/**
 * Loads an app from a module: from a plugin, as fastify-cli does, or from an instance or a function that makes one.
 * Begin with `load`.
 */
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { fastify as Fastify, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { explain, Failure } from './io.ts'

/** An object around the instance: to await an instance makes it load its plugins. */
export interface Loaded {
  readonly app: FastifyInstance
  /** The module exports a plugin: the server is one that this command made, and not the one that the app will get. */
  readonly isPlugin: boolean
}

const EXPECTED = 'as its default export (ES modules) or module.exports (CommonJS), it needs a Fastify instance, a plugin (app, options), or a function without parameters that makes an instance'

/**
 * Loads an app.
 *
 * @param name a path, relative to the working directory
 * @throws Failure
 */
export async function load (name: string): Promise<Loaded> {
  const path = resolve(name)
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new Failure(`${name}: ${error.code === 'ENOENT' ? 'no such file' : `cannot be read: ${error.message}`}`)
  })
  if (!info.isFile()) throw new Failure(`${name}: is not a file`)
  const exported = await importDefault(path, name)
  if (isInstance(exported)) return { app: exported, isPlugin: false }
  if (typeof exported !== 'function') throw new Failure(`${name} exports nothing that can be audited: ${EXPECTED}`)
  const made = exported.length === 0 ? await make(exported as () => unknown, name) : undefined
  return made ?? await register(exported as FastifyPluginAsync, path)
}

async function importDefault (path: string, name: string): Promise<unknown> {
  try {
    const { default: exported } = await import(pathToFileURL(path).href) as { default: unknown }
    // An ES module that was compiled to CommonJS.
    const { __esModule: isCompiled, default: inner } = Object(exported) as { __esModule?: boolean, default?: unknown }
    return isCompiled === true ? inner : exported
  } catch (error) {
    throw new Failure(`${name} cannot be imported: ${explain(error)}`, { cause: error })
  }
}

async function make (factory: () => unknown, name: string): Promise<Loaded | undefined> {
  try {
    const answered = factory()
    const made = isInstance(answered) ? answered : await answered
    return isInstance(made) ? { app: made, isPlugin: false } : undefined
  } catch (error) {
    throw new Failure(`${name}: its function made no app: ${explain(error)}`, { cause: error })
  }
}

/** Registers a plugin at root, so that it protects and decorates the whole app. */
async function register (plugin: FastifyPluginAsync, path: string): Promise<Loaded> {
  const { default: fastify } = await import(locateFastify(path)) as { default: typeof Fastify }
  const app = fastify()
  // A plugin made with fastify-plugin has a name and dependencies already.
  app.register(Reflect.has(plugin, Symbol.for('skip-override')) ? plugin : fp(plugin))
  return { app, isPlugin: true }
}

/** The Fastify of the app: several versions may be installed. */
function locateFastify (path: string): string {
  try {
    return pathToFileURL(createRequire(path).resolve('fastify')).href
  } catch {
    return 'fastify'
  }
}

function isInstance (value: unknown): value is FastifyInstance {
  const { ready, printRoutes } = Object(value) as Partial<FastifyInstance>
  return typeof ready === 'function' && typeof printRoutes === 'function'
}
