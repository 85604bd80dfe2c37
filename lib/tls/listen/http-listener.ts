/** The plain HTTP server beside an app's TLS server. */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import type { RawServerBase } from 'fastify'

/** What Node takes at creation only. These are own properties of every server, though Node documents them as options. */
const creationOptions = [
  'connectionsCheckingInterval', 'httpValidation', 'insecureHTTPParser', 'joinDuplicateHeaders', 'maxHeaderSize',
  'requireHostHeader', 'shouldUpgradeCallback'
] as const

/** Limits and timeouts that may also be set later. An HTTP/2 server has some of them only. */
const limits = [
  'headersTimeout', 'keepAliveTimeout', 'keepAliveTimeoutBuffer', 'maxHeadersCount', 'maxRequestsPerSocket', 'requestTimeout', 'timeout'
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
