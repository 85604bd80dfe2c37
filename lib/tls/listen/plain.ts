/** The plain HTTP server beside an app's TLS server. */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { RawServerBase } from 'fastify'

/** Milliseconds that open requests and WebSockets have to end when the app closes. */
const GRACE = 5_000
/** Milliseconds between looks for connections that have become idle since. */
const SWEEP = 100

/** What Node takes at creation only. These are own properties of every server, though Node documents them as options. */
const creationOptions = [
  'connectionsCheckingInterval', 'insecureHTTPParser', 'joinDuplicateHeaders', 'maxHeaderSize', 'requireHostHeader'
] as const

/** Limits and timeouts that may also be set later. An HTTP/2 server has some of them only. */
const limits = [
  'headersTimeout', 'keepAliveTimeout', 'maxHeadersCount', 'maxRequestsPerSocket', 'requestTimeout', 'timeout'
] as const

/**
 * A server, not listening yet, that treats connections and requests as `secure` does.
 *
 * @param secure - the app's own server, after the app's `ready()`: WebSocket plugins have put their listeners by then
 */
export function createPlainServer (secure: RawServerBase, onRequest: RequestListener): Server {
  const plain = createServer(pick(secure, creationOptions), onRequest)
  Object.assign(plain, pick(secure, limits))
  // Fastify answers malformed requests here
  plain.on('clientError', (error, socket) => { forward(secure, 'clientError', socket, error, socket) })
  // With a listener, Node leaves every request that asks for an upgrade to it; without, it serves them as they are
  if (secure.listenerCount('upgrade') > 0) {
    plain.on('upgrade', (request, socket, head) => { forward(secure, 'upgrade', socket, request, socket, head) })
  }
  return plain
}

/** Nobody listens any more when the app closes. */
function forward (secure: RawServerBase, event: string, socket: Duplex, ...args: unknown[]): void {
  if (!secure.emit(event, ...args)) socket.destroy()
}

function pick<Name extends string> (server: RawServerBase, names: readonly Name[]): Partial<Record<Name, never>> {
  const present = names.filter((name) => Reflect.get(server, name) !== undefined)
  return Object.fromEntries(present.map((name) => [name, Reflect.get(server, name)])) as Partial<Record<Name, never>>
}

/**
 * Has `plain` close whenever `secure` closes, which is then done when both are.
 *
 * Fastify closes its server after the preClose hooks, when WebSockets have been told, and before the onClose hooks,
 * which release what requests still need. No hook comes between the two, and none can be added to an app that is
 * ready: so it is the server's own `close` that closes both.
 *
 * @returns what undoes it
 */
export function closeTogether (secure: RawServerBase, plain: Server): () => void {
  const { close } = secure
  const sockets = new Set<Socket>()
  plain.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  let drained: Promise<void> | undefined
  secure.close = function (callback) {
    drained ??= drain(plain, sockets)
    return Reflect.apply(close, this, [(error?: Error) => { drained?.then(() => callback?.(error)) }])
  }
  return () => { secure.close = close }
}

/** Stops accepting, closes what is idle as soon as it is, and the rest after a while. Upgraded connections count. */
function drain (plain: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    const sweep = setInterval(() => plain.closeIdleConnections(), SWEEP)
    const force = setTimeout(() => { for (const socket of sockets) socket.destroy() }, GRACE)
    plain.close(() => {
      clearInterval(sweep)
      clearTimeout(force)
      resolve()
    })
  })
}
