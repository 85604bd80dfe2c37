/**
 * The connection of a request: Node's socket, or the session on HTTP/2, where `raw.socket` is another proxy object for
 * each stream and loses its connection once the stream has ended.
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

/**
 * Requests that ask to leave HTTP (RFC 9110 §7.8).
 */

/** What is looked at of Upgrade, in characters and in members: clients name one protocol, or two. */
const LONGEST_UPGRADE = 256
const MOST_PROTOCOLS = 16

/** RFC 6455 §4.2.1. */
export function isWebSocketUpgrade ({ headers: { upgrade } }: RawRequest): boolean {
  return upgrade !== undefined && upgrade.slice(0, LONGEST_UPGRADE).split(',', MOST_PROTOCOLS).some((protocol) => /^\s*websocket\s*(?:\/|$)/i.test(protocol))
}

/** Node has let go of the socket of an upgrade. Unless we end it with the answer, it stays open and keeps `close()` waiting. */
export function endWithAnswer ({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (!(raw as { upgrade?: boolean }).upgrade) return
  const { socket } = raw
  reply.header('connection', 'close')
  reply.raw.once('close', () => socket.destroy())
  reply.raw.once('finish', () => socket.destroySoon())
}

/** Ends a session of HTTP/2 without losing what has reached this machine (RFC 9113 §6.8). */

/** The highest stream identifier that there is. */
const ANY_STREAM = 2 ** 31 - 1

/**
 * Has a client open no more streams, and serves those that it has opened.
 *
 * No round trip is waited for between both GOAWAYs: nghttp2 ignores every stream that comes after the first one (Node
 * cannot call `nghttp2_submit_shutdown_notice`). So what was still on its way is told at once that it was not seen, which
 * means that it may be sent again on another connection.
 */
export async function sayGoodbye (session: ServerHttp2Session): Promise<void> {
  // Requests may lie unread in the kernel: with the second one, they have been read.
  await setImmediate()
  await setImmediate()
  if (session.closed || session.destroyed) return
  session.goaway(constants.NGHTTP2_NO_ERROR, ANY_STREAM)
  session.close()
}
