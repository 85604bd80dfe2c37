/**
 * The connection of a request: Node's socket, or the session on HTTP/2, where `raw.socket` is another proxy object for
 * each stream and loses its connection once the stream has ended.
 */
import type { FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Http2ServerRequest, ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'

export type RawRequest = IncomingMessage | Http2ServerRequest
export type Connection = Socket | ServerHttp2Session

/**
 * Where an HTTP/2 request keeps its session, for who asks after its stream has ended: an access log in onResponse. No
 * decorator, which Fastify would set on every request, HTTP/1.1 included.
 */
const kSession = Symbol('fastify-http-security session')

/** The connection of a request, which is missing where there never was one (`injectWS`). */
export function connectionOf (request: FastifyRequest): Connection | undefined {
  const { raw } = request
  if (!isHttp2(raw)) return connectionOfRaw(raw)
  const kept = request as FastifyRequest & { [kSession]: ServerHttp2Session | undefined }
  kept[kSession] ??= connectionOfRaw(raw) as ServerHttp2Session | undefined
  return kept[kSession]
}

/** That of a request which has not been answered yet. */
export function connectionOfRaw (raw: RawRequest): Connection | undefined {
  return isHttp2(raw) ? raw.stream.session as ServerHttp2Session | undefined : raw.socket
}

/** By what it is, not by what it says: `httpVersion` is the client's word. */
export function isHttp2 (raw: RawRequest): raw is Http2ServerRequest {
  return (raw as Partial<Http2ServerRequest>).stream !== undefined
}

export function isSession (connection: Connection | undefined): connection is ServerHttp2Session {
  return connection !== undefined && 'goaway' in connection
}

/** Node's socket of a connection. It may be no TLS socket at all; a session that has ended has none. */
export function socketOf (connection: Connection | undefined): TLSSocket | undefined {
  if (!isSession(connection)) return connection as TLSSocket | undefined
  return connection.destroyed ? undefined : connection.socket as TLSSocket
}

/** The same where it is one that TLS of Node's own is on, and is still there: nothing else can be asked for a certificate. */
export function tlsSocketOf (connection: Connection | undefined): TLSSocket | undefined {
  const socket = socketOf(connection)
  return typeof socket?.getPeerX509Certificate === 'function' ? socket : undefined
}

const simulated = new WeakSet<object>()

/** Marks a socket that the testing subpath made up; none that the network brings is ever marked. */
export function simulate (socket: object): void {
  simulated.add(socket)
}

export function isSimulated (socket: object): boolean {
  return simulated.has(socket)
}

/** Only the connection's own word counts: not `request.protocol`, which may be a header, nor HTTP/2's `:scheme`. */
export function isEncrypted (connection: Connection | undefined): boolean {
  return (connection as { encrypted?: boolean } | undefined)?.encrypted === true
}
