/** Plain HTTP on the HTTPS port. */
import { Socket } from 'node:net'
import type { Server, TLSSocket } from 'node:tls'

/**
 * What OpenSSL says of a method of HTTP where TLS should begin: 3.0 (Node 20) knows GET, HEAD, POST, PUT and CONNECT, 3.5
 * OPTIONS, DELETE, PATCH and TRACE, too. Of all else, which may be SSH or SMTP as well, it says ERR_SSL_WRONG_VERSION_NUMBER,
 * and Node has no way to the bytes: that is hung up on.
 */
const codes = new Set(['ERR_SSL_HTTP_REQUEST', 'ERR_SSL_HTTPS_PROXY_REQUEST'])

const body = 'This port speaks HTTPS: use https://\n'
/** The same for everybody, and nothing of the request, which nobody has read. */
const answer = [
  'HTTP/1.1 400 Bad Request', 'Connection: close', 'Cache-Control: no-store', 'Content-Type: text/plain; charset=utf-8',
  `Content-Length: ${body.length}`, '', body
].join('\r\n')

const answering = new WeakSet<Server>()

/**
 * Has requests without TLS answered with a 400 (RFC 9110 §15.5.1) that says so; by itself, Node hangs up. Once a server,
 * however often it is called.
 */
export function answerPlainHttp (server: Server): void {
  if (answering.has(server)) return
  answering.add(server)
  // Ahead of everybody else, who may destroy the socket
  server.prependListener('tlsClientError', onError)
}

function onError (error: NodeJS.ErrnoException, socket: TLSSocket): void {
  if (!codes.has(String(error.code))) return
  // What lies below TLS. Node has no documented way to it: without it, the client is hung up on as before
  const raw: unknown = Reflect.get(socket, '_parent')
  if (!(raw instanceof Socket) || !raw.writable) return
  // The client may be gone, and nobody else listens
  raw.on('error', ignore)
  // Node destroys the socket with the TLS on it right after this, and what has been written is on its way by then
  raw.end(answer)
}

function ignore (): void {}
