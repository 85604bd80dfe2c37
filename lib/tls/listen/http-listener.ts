/**
 * The plain HTTP listener: a second server for an app whose own server is a TLS server, with the same limits and
 * events.
 */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import type { RawServerBase } from 'fastify'

/**
 * Options that Node reads only at creation. Every server has them as own properties, though they are documented as
 * options.
 */
const creationOptions = [
  'connectionsCheckingInterval', 'httpValidation', 'insecureHTTPParser', 'joinDuplicateHeaders', 'maxHeaderSize',
  'requireHostHeader', 'shouldUpgradeCallback'
] as const

/** Limits and timeouts that can be set later. An HTTP/2 server has only some of them. */
const limits = [
  'headersTimeout', 'keepAliveTimeout', 'keepAliveTimeoutBuffer', 'maxHeadersCount', 'maxRequestsPerSocket', 'requestTimeout', 'timeout'
] as const

/**
 * Creates a server, not listening yet, that treats connections and requests in the same way as `secure`.
 *
 * @param secure the app's own server, after `app.ready()`: WebSocket plugins have added their listeners by then
 */
export function createPlainServer (secure: RawServerBase, onRequest: RequestListener): Server {
  const plain = createServer(pick(secure, creationOptions), onRequest)
  Object.assign(plain, pick(secure, limits))
  // Fastify answers malformed requests here
  plain.on('clientError', (error, socket) => { forward(secure, 'clientError', socket, error, socket) })
  // With a listener, Node passes every request for an upgrade to it; without one, Node serves the request without an
  // upgrade
  if (secure.listenerCount('upgrade') > 0) {
    plain.on('upgrade', (request, socket, head) => { forward(secure, 'upgrade', socket, request, socket, head) })
  }
  return plain
}

/**
 * Emits an event on the app's own server. When the app closes, it has no listeners any more: then the socket is closed.
 */
function forward (secure: RawServerBase, event: string, socket: Duplex, ...args: unknown[]): void {
  if (!secure.emit(event, ...args)) socket.destroy()
}

function pick<Name extends string> (server: RawServerBase, names: readonly Name[]): Partial<Record<Name, never>> {
  const present = names.filter((name) => Reflect.get(server, name) !== undefined)
  return Object.fromEntries(present.map((name) => [name, Reflect.get(server, name)])) as Partial<Record<Name, never>>
}
