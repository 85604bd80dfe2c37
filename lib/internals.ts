/**
 * The one place for what is read of Node's and Fastify's internals, but for the TLS sockets of lib/tls/servers.ts. Node's
 * server keeps most of its options as properties, and Fastify its state behind symbols: neither is documented, so a test
 * pins each, and what is not found counts as not there.
 */
import { X509Certificate } from 'node:crypto'
import { Server } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions, RawServerBase } from 'fastify'
import type { ServedApp, TlsInterface } from './tls-interface.ts'

export interface ServerFacts {
  /** Its connections are Node's own. With `serverFactory` they may be anything, and say of themselves what they like. */
  readonly isOfNode: boolean
  readonly isTls: boolean
  readonly asksForCertificates: boolean
  readonly rejectsUnauthorized: boolean
  /** Clients' certificates are verified against an explicit `ca` that holds a certificate. */
  readonly hasClientAuthorities: boolean
  readonly hasPfx: boolean
  /** Contexts by server name: `addContext`. */
  readonly hasContexts: boolean
  /** Contexts by server name: the option `SNICallback`. */
  readonly sniCallback: unknown
  /** The application keeps TLS sessions itself, and with them verdicts. */
  readonly hasSessionHandlers: boolean
  /** Fastify answers malformed URLs with a function of the user's. */
  readonly hasFrameworkErrors: boolean
}

interface TlsServerProperties {
  requestCert?: boolean
  rejectUnauthorized?: boolean
  ca?: unknown
  pfx?: unknown
  _contexts?: unknown[]
}

export function serverFactsOf (app: FastifyInstance): ServerFacts {
  const { server } = app
  const { requestCert, rejectUnauthorized, ca, pfx, _contexts = [] } = server as TlsServerProperties
  const fastifyOptions = bySymbol(app, 'fastify.options') as FastifyServerOptions | undefined
  const isOfNode = isServerOfNode(server)
  return Object.freeze({
    isOfNode,
    isTls: server instanceof TlsServer,
    asksForCertificates: requestCert === true,
    rejectsUnauthorized: rejectUnauthorized !== false,
    hasClientAuthorities: holdsCertificate(ca),
    hasPfx: pfx !== undefined && pfx !== null,
    hasContexts: _contexts.length > 0,
    sniCallback: bySymbol(server, 'snicallback'),
    hasSessionHandlers: isOfNode && server.listenerCount('newSession') + server.listenerCount('resumeSession') > 0,
    hasFrameworkErrors: fastifyOptions?.frameworkErrors !== undefined
  })
}

export const NOT_OF_NODE = "the server that serverFactory made is none of Node's, so that nobody knows whether what its connections say is so. Let it make one with node:https, node:http2 or node:http"

/** Those of `node:tls`, `node:https` and `node:http2` are, too. */
export function isServerOfNode (server: unknown): boolean {
  return server instanceof Server
}

/** One of Node's without TLS. */
export function isPlainServer (server: unknown): boolean {
  return isServerOfNode(server) && !(server instanceof TlsServer)
}

const linkedApps = new WeakMap<object, ServedApp>()

/** The one app behind an instance and its child contexts, for `fastify-http-security/tls`. */
export function servedApp (app: { readonly server: RawServerBase, readonly log: unknown }): ServedApp {
  let linked = linkedApps.get(app.server)
  if (linked === undefined) {
    linked = {
      log: app.log as ServedApp['log'],
      servers: () => [app.server as Server, ...(bySymbol(app, 'fastify.serverBindings') as Server[] | undefined ?? [])]
    }
    linkedApps.set(app.server, linked)
  }
  return linked
}

/** By server, which child contexts share: those that the testing subpath drives without TLS. */
const simulated = new WeakSet<object>()

/** Lets an app be ready without TLS. It then still refuses whatever comes over the network without it. */
export function allowWithoutTls (server: object): void {
  simulated.add(server)
}

export function isAllowedWithoutTls (server: object): boolean {
  return simulated.has(server)
}

/** Why an app cannot be reached over HTTPS today, if it cannot. */
export function tlsObstacle (app: FastifyInstance, { proxy, tls }: { proxy: unknown, tls: TlsInterface | undefined }): string | undefined {
  const { server } = app
  if (isAllowedWithoutTls(server)) return undefined
  if (!isServerOfNode(server)) return NOT_OF_NODE
  if (proxy !== undefined) return undefined
  if (!(server instanceof TlsServer)) return 'the server speaks plain HTTP, and no proxy is trusted'
  const end = tls?.isOurs(server) === true ? tls.validUntil : endOf(server)
  return end < Date.now() ? `the server's certificate has expired, on ${new Date(end).toUTCString()}` : undefined
}

/** When the certificate of Node's options ends, in milliseconds since the epoch; NaN where it is not there or not PEM. */
function endOf (server: TlsServer): number {
  try {
    return Date.parse(new X509Certificate([(server as { cert?: unknown }).cert].flat()[0] as string).validTo)
  } catch {
    return NaN
  }
}

const plainPorts = new WeakMap<object, number>()

/** Notes where an app is reached over plain HTTP, beside its own server. */
export function listensPlainly (server: object, port: number): void {
  plainPorts.set(server, port)
}

export function plainPortOf (server: object): number | undefined {
  return plainPorts.get(server)
}

/** Whether a server was created with this `SNICallback`. */
export function hasSniCallback (server: object, callback: unknown): boolean {
  return bySymbol(server, 'snicallback') === callback
}

/** Whether a not-found handler of this very instance has been set. */
export function hasNotFoundHandler (app: FastifyInstance): boolean {
  return bySymbol(app, 'fastify.canSetNotFoundHandler') === false
}

/** Whether Fastify waits for the body of such requests. */
export function readsBodyOf (app: FastifyInstance, method: string): boolean {
  const { bodyless } = Object(bySymbol(app, 'fastify.acceptedHTTPMethods')) as { bodyless?: ReadonlySet<string> }
  return bodyless?.has(method) !== true
}

export const NOTHING_TO_SERVE = 'the app is ready and has no route, and none can be added any more: unless a hook answers, every request gets 404. Add routes first; a framework over Fastify does when it is initialised (Nest: await app.init())'

const empty = new WeakSet<object>()

/** Notes that it is so with the app of a server. */
export function noteEmpty (server: object): void {
  empty.add(server)
}

export function isEmpty (server: object): boolean {
  return empty.has(server)
}

/** The hooks of an instance, and of those around it; `undefined` where Fastify's internals do not tell. */
export function hooksOf (app: FastifyInstance, stages: readonly string[]): readonly unknown[] | undefined {
  const hooks = bySymbol(app, 'fastify.hooks')
  return hooks === undefined ? undefined : stages.flatMap((stage) => Reflect.get(Object(hooks), stage) as unknown[])
}

/** How many child contexts of an instance there are; 0 where Fastify's internals do not tell. */
export function childrenOf (app: FastifyInstance): number {
  return (bySymbol(app, 'fastify.children') as unknown[] | undefined)?.length ?? 0
}

/**
 * Tells the `config` of the route that a request is for. `request.routeOptions` does so, too, and makes an object of a
 * dozen options each time: more than all else that a request pays for.
 */
export function createConfigOf (): (request: FastifyRequest) => object | undefined {
  // One Fastify has one, which each of its requests has.
  let kContext: symbol | undefined
  return function configOf (request) {
    kContext ??= Object.getOwnPropertySymbols(request).find(({ description }) => description === 'fastify.context')
    const context = kContext === undefined ? undefined : (request as unknown as Record<symbol, { config?: object } | undefined>)[kContext]
    return context === undefined ? request.routeOptions.config : context.config
  }
}

/** What `request.signal` is aborted by; none where it was not asked for, or Fastify has let go of the reply. */
export function signalOf (request: FastifyRequest): AbortController | null | undefined {
  return bySymbol(request, 'fastify.request.signal') as AbortController | null | undefined
}

/** Node's `ca`: PEM text, or a list of it. What does not parse is skipped there without a word. */
function holdsCertificate (ca: unknown): boolean {
  // Without it, an error would be made and caught: half a millisecond at every start.
  if (ca === undefined) return false
  return [ca].flat(2).some((item) => {
    try {
      return new X509Certificate(item as string).raw.length > 0 && /-----BEGIN /.test(String(item))
    } catch {
      return false
    }
  })
}

/** By description: to look through all symbols for each route would take long. Other copies of a package have others. */
const symbols = new Map<string, symbol>()

/** What Node or Fastify keeps behind a symbol of this description; what is not found counts as not there. */
function bySymbol (object: object, description: string): unknown {
  const known = symbols.get(description)
  if (known !== undefined && known in object) return Reflect.get(object, known)
  let holder: object | null = object
  while (holder !== null) {
    const symbol = Object.getOwnPropertySymbols(holder).find((key) => key.description === description)
    if (symbol !== undefined) {
      symbols.set(description, symbol)
      return Reflect.get(holder, symbol)
    }
    holder = Object.getPrototypeOf(holder)
  }
  return undefined
}

/** Whether it closes, or has closed. `app.listen()` opens it again all the same, and nothing would close it then. */
export function isClosing (app: object): boolean {
  return (bySymbol(app, 'fastify.state') as { closing?: boolean } | undefined)?.closing === true
}

/**
 * With `forceCloseConnections: true` and a server that has no `closeAllConnections`, as with HTTP/2, Fastify keeps a list
 * of the connections that clients asked to keep alive, on both ports, and destroys those just before it closes its server,
 * requests under way or not. This takes them out of its sight.
 *
 * @returns what undoes it
 */
export function spareKeptAlive (app: object): () => void {
  const list = bySymbol(app, 'fastify.keepAliveConnections')
  return list instanceof Set ? patch(list, { [Symbol.iterator]: () => new Set().values() }) : () => {}
}

/** Whether a request is being answered on an HTTP/1 connection. Not so after an upgrade: Node takes its parser off then. */
export function isAnswering (socket: object): boolean {
  const { parser, _httpMessage } = socket as { parser?: unknown, _httpMessage?: unknown }
  return parser !== null && _httpMessage !== undefined && _httpMessage !== null
}

/**
 * Puts other methods on an object of Node's or Fastify's.
 *
 * @returns what leaves it as it was
 */
export function patch<Target extends object> (target: Target, methods: Partial<Target>): () => void {
  const before = Reflect.ownKeys(methods).map((key) => [key, Reflect.getOwnPropertyDescriptor(target, key)] as const)
  Object.assign(target, methods)
  return () => {
    for (const [key, descriptor] of before) {
      Reflect.deleteProperty(target, key)
      if (descriptor !== undefined) Reflect.defineProperty(target, key, descriptor)
    }
  }
}
