/**
 * The connection of a request: Node's socket, or for HTTP/2 the session, because `raw.socket` is another proxy object there
 * for each stream, and loses its connection once the stream has ended. Begin with {@link connectionOf}.
 */
import type { IncomingMessage } from 'node:http'
import { constants, type Http2ServerRequest, type ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import type { FastifyReply, FastifyRequest } from 'fastify'

export type RawRequest = IncomingMessage | Http2ServerRequest
export type Connection = Socket | ServerHttp2Session

/**
 * An HTTP/2 request keeps its session here, for code that runs after its stream has ended, such as an access log in
 * onResponse. Not a decorator, which Fastify would set on every request, HTTP/1.1 included.
 */
const kSession = Symbol('fastify-http-security session')

/** The connection of a request; `undefined` where there never was one (`injectWS`). */
export function connectionOf (request: FastifyRequest): Connection | undefined {
  const { raw } = request
  if (!isHttp2(raw)) return connectionOfRaw(raw)
  const kept = request as FastifyRequest & { [kSession]: ServerHttp2Session | undefined }
  kept[kSession] ??= connectionOfRaw(raw) as ServerHttp2Session | undefined
  return kept[kSession]
}

/** The same for a request that has not been answered yet. */
export function connectionOfRaw (raw: RawRequest): Connection | undefined {
  return isHttp2(raw) ? raw.stream.session as ServerHttp2Session | undefined : raw.socket
}

/** By its type, not by `httpVersion`, which an HTTP/1 client can set. */
export function isHttp2 (raw: RawRequest): raw is Http2ServerRequest {
  return (raw as Partial<Http2ServerRequest>).stream !== undefined
}

export function isSession (connection: Connection | undefined): connection is ServerHttp2Session {
  return connection !== undefined && 'goaway' in connection
}

/** Node's socket of a connection. It may be a socket without TLS; a session that has ended has no socket. */
export function socketOf (connection: Connection | undefined): TLSSocket | undefined {
  if (!isSession(connection)) return connection as TLSSocket | undefined
  return connection.destroyed ? undefined : connection.socket as TLSSocket
}

/** The same where it is a TLS socket of Node: only such a socket can be asked for a certificate. */
export function tlsSocketOf (connection: Connection | undefined): TLSSocket | undefined {
  const socket = socketOf(connection)
  return typeof socket?.getPeerX509Certificate === 'function' ? socket : undefined
}

/** With the name of the client, where a test gives one. */
const simulated = new WeakMap<object, string | undefined>()

/** Marks a socket that `fastify-http-security/testing` simulates. A socket from the network is never marked. */
export function simulate (socket: object, client?: string): void {
  simulated.set(socket, client)
}

export function isSimulated (socket: object): boolean {
  return simulated.has(socket)
}

/** The name of the client that a simulated connection counts as one of, whatever its certificate; `undefined` for all other connections. */
export function simulatedClientOf (connection: Connection | undefined): string | undefined {
  return simulated.get(connection as object)
}

/** Only the connection itself counts: not `request.protocol`, which may be from a header, nor HTTP/2's `:scheme`. */
export function isEncrypted (connection: Connection | undefined): boolean {
  return (connection as { encrypted?: boolean } | undefined)?.encrypted === true
}

// Upgrades (RFC 9110 §7.8)

/** Limits of what is parsed of Upgrade: characters and members. Clients name one protocol, or two. */
const LONGEST_UPGRADE = 256
const MOST_PROTOCOLS = 16

/** Whether it is a WebSocket handshake (RFC 6455 §4.2.1). */
export function isWebSocketUpgrade ({ headers: { upgrade } }: RawRequest): boolean {
  return upgrade !== undefined && upgrade.slice(0, LONGEST_UPGRADE).split(',', MOST_PROTOCOLS).some((protocol) => /^\s*websocket\s*(?:\/|$)/i.test(protocol))
}

/** Ends the socket of an upgrade with the answer. Node does not manage it any more: it would stay open, and keep `close()` waiting. */
export function endWithAnswer ({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (!(raw as { upgrade?: boolean }).upgrade) return
  const { socket } = raw
  reply.header('connection', 'close')
  reply.raw.once('close', () => socket.destroy())
  reply.raw.once('finish', () => socket.destroySoon())
}

// Graceful shutdown of an HTTP/2 session

/** The highest stream identifier (RFC 9113 §6.8). */
const ANY_STREAM = 2 ** 31 - 1

/**
 * Makes a client open no more streams, and serves those that it has opened (RFC 9113 §6.8).
 *
 * The second GOAWAY does not wait for a round trip after the first: nghttp2 ignores every stream that comes after the first
 * one (Node cannot call `nghttp2_submit_shutdown_notice`). So the client learns at once that streams still on their way were
 * not processed, and may send them again on another connection.
 */
export async function sayGoodbye (session: ServerHttp2Session): Promise<void> {
  // Requests may be unread in the kernel's buffer. After the second turn, they have been read.
  await setImmediate()
  await setImmediate()
  if (session.closed || session.destroyed) return
  session.goaway(constants.NGHTTP2_NO_ERROR, ANY_STREAM)
  session.close()
}
