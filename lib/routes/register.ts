/**
 * Registration: reads `httpSecurity` from routes and flows as Fastify meets them, and fills the table.
 */
import type { FastifyInstance, FastifyPluginOptions, RouteOptions } from 'fastify'
import type { Declaration, RouteSecurity, Source } from '../../types/index.ts'
import { InvalidOptionsError } from '../errors.ts'
import { LEVELS, MTLS, rankOf } from '../levels.ts'
import { type Options, resolveDeclaration } from '../options/resolve.ts'
import type { Flows } from './flows.ts'
import { nameOf } from './print.ts'
import { type RouteTable, shareMethods } from './table.ts'

/** Where a route's `config` holds its slot. A symbol of its own for each plugin instance, since tables differ. */
export type SlotKey = symbol

/**
 * Watches what is registered from now on.
 *
 * @returns what tells, at boot, which route an onRoute hook has changed after its level was worked out
 */
export function watchRegistrations (app: FastifyInstance, { options, flows, table, slotKey }: {
  options: Options
  flows: Flows
  table: RouteTable
  slotKey: SlotKey
}): () => string | undefined {
  let latest: Registration | undefined
  let registered: Array<{ route: RouteOptions, seen: Seen }> = []

  app.addHook('onRegister', function (this: FastifyInstance, instance, registerOptions: FastifyPluginOptions) {
    const declaration = resolveDeclaration(registerOptions.httpSecurity, () => nameOfFlow(instance))
    flows.enter(this, instance, declaration, Boolean(registerOptions.prefix))
  })

  app.addHook('onRoute', function (this: FastifyInstance, route) {
    const methods = Array.isArray(route.method) ? route.method : [route.method]
    if (latest !== undefined && isAutomaticHead(this, route, methods, latest)) {
      table.addMethod(latest.slot, 'HEAD')
    } else {
      const row = resolveRoute(this, route, methods)
      const own = typeof route.httpSecurity === 'string' || route.httpSecurity?.level !== undefined
      latest = {
        instance: this,
        slot: table.add(row, own ? 'no' : flows.slipOf(route.url, rankOf(row.level))),
        methods,
        url: route.url,
        handler: route.handler,
        httpSecurity: route.httpSecurity,
        constraints: route.constraints
      }
    }
    // The config may be the user's own object, shared among routes: it is replaced, never changed.
    // With what Fastify is about to add, in its order, so that V8 shares one shape among all of them.
    route.config = { ...route.config, url: route.url, method: route.method, [slotKey]: latest.slot } as typeof route.config
    registered.push({ route, seen: { slot: latest.slot, httpSecurity: route.httpSecurity, url: route.url, method: route.method } })
  })

  return function changedRoute () {
    const changes = registered.flatMap(({ route, seen }) => {
      const part = changedPart(route, seen, slotKey)
      return part === undefined ? [] : [`the ${part} of route ${nameOf({ methods: [seen.method].flat(), url: seen.url })}`]
    })
    registered = []
    return changes[0]
  }

  function resolveRoute (instance: FastifyInstance, route: RouteOptions, methods: string[]): RouteSecurity {
    const own = resolveDeclaration(route.httpSecurity, () => `route ${nameOf({ methods, url: route.url })}`)
    const flow = flows.ofInstance(instance)
    const prefix = flows.ofPattern(route.url)
    const declared = own.level ?? flow.level ?? prefix.level ?? options.default.level
    const kind = own.kind ?? flow.kind ?? prefix.kind ?? options.default.kind
    const rank = Math.max(rankOf(declared), options.minimum)
    if (options.forbidsMtlsOnRest && rank === MTLS && kind === 'rest') {
      throw new InvalidOptionsError(`httpSecurity of route ${nameOf({ methods, url: route.url })}: 'mtls' is not allowed on a rest element with profile: 'outsystems', where client certificates do not apply to exposed REST APIs; allowed: 'none', 'tls'`)
    }
    const level = LEVELS[rank]!
    const source = rank > rankOf(declared) ? 'minimum' : sourceOf(own, flow, prefix)
    const row = { methods: shareMethods(methods), url: route.url, kind, declared, level, source }
    return route.constraints === undefined ? row : { ...row, constraints: route.constraints }
  }
}

/** The slot of a route whose onRoute hooks have begun to run. */
export function slotOf (route: RouteOptions, slotKey: SlotKey): number {
  return Reflect.get(route.config!, slotKey) as number
}

interface Registration extends Pick<RouteOptions, 'handler' | 'httpSecurity' | 'constraints' | 'url'> {
  instance: FastifyInstance
  slot: number
  methods: readonly string[]
}

/** Fastify registers the HEAD of a GET right after it, with the same options; of two paths for `/` the slash differs. */
function isAutomaticHead (instance: FastifyInstance, route: RouteOptions, methods: readonly string[], latest: Registration): boolean {
  return instance === latest.instance && methods.length === 1 && methods[0] === 'HEAD' &&
    latest.methods.includes('GET') &&
    route.handler === latest.handler &&
    route.httpSecurity === latest.httpSecurity &&
    route.constraints === latest.constraints &&
    withoutSlash(route.url) === withoutSlash(latest.url)
}

/** What a level was worked out from. */
type Seen = Pick<RouteOptions, 'httpSecurity' | 'url' | 'method'> & { slot: number }

/** What an onRoute hook has changed after ours, too late to count. Fastify itself gives a route for `/` its second URL. */
function changedPart (route: RouteOptions, seen: Seen, slotKey: SlotKey): string | undefined {
  if (Reflect.get(Object(route.config), slotKey) !== seen.slot) return 'config'
  if (route.httpSecurity !== seen.httpSecurity) return 'httpSecurity'
  if (withoutSlash(route.url) !== withoutSlash(seen.url)) return 'url'
  return String(route.method) === String(seen.method) ? undefined : 'method'
}

function withoutSlash (url: string): string {
  return url.endsWith('/') ? url.slice(0, -1) : url
}

function sourceOf (own: Declaration, flow: Declaration, prefix: Declaration): Source {
  if (own.level !== undefined) return 'route'
  if (flow.level !== undefined) return 'flow'
  return prefix.level !== undefined ? 'prefix' : 'default'
}

/** Plugins without a name go by their source text, which is no name. */
function nameOfFlow ({ pluginName, prefix }: FastifyInstance): string {
  const name = /^[\w$@./-]+$/.test(pluginName) ? `the flow ${pluginName}` : 'an anonymous flow'
  return prefix === '' ? name : `${name} at ${prefix}`
}
