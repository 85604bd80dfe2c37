/**
 * The connection of a request. On HTTP/2 `raw.socket` is another proxy object for each stream, and falls back to the
 * stream once that has ended, so what is kept for a connection is kept by its session.
 */
import type { IncomingMessage } from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import type { TLSSocket } from 'node:tls'

export type RawRequest = IncomingMessage | Http2ServerRequest

/** Node's socket, which may be no TLS socket at all, or missing (`injectWS`). */
export function socketOf (raw: RawRequest): TLSSocket | undefined {
  return raw.socket as TLSSocket | undefined
}

/** What identifies a connection for as long as it lasts. */
export function connectionOf (raw: RawRequest): object | undefined {
  return (raw as Partial<Http2ServerRequest>).stream?.session ?? raw.socket
}

/** Only the socket's own word counts: not `request.protocol`, which may be a header, nor HTTP/2's `:scheme`. */
export function isEncrypted (raw: RawRequest): boolean {
  return socketOf(raw)?.encrypted === true
}
