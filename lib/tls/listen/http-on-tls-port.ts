/** Plain HTTP on the HTTPS port: answers it with a readable 400 (RFC 9110 §15.5.1). Begin with `answerPlainHttp`. */
import { Socket } from 'node:net'
import type { Server, TLSSocket } from 'node:tls'

/**
 * Error codes of OpenSSL for an HTTP method in place of a TLS record. OpenSSL 3.0 (Node 20) recognises GET, HEAD, POST,
 * PUT and CONNECT; OpenSSL 3.5 also OPTIONS, DELETE, PATCH and TRACE. For everything else, which may also be SSH or
 * SMTP, the code is ERR_SSL_WRONG_VERSION_NUMBER, and Node gives no access to the bytes: that connection is closed
 * without an answer.
 */
const codes = new Set(['ERR_SSL_HTTP_REQUEST', 'ERR_SSL_HTTPS_PROXY_REQUEST'])

const body = 'This port speaks HTTPS: use https://\n'
/** The same answer for every client. It contains nothing of the request, which was not parsed. */
const answer = [
  'HTTP/1.1 400 Bad Request', 'Connection: close', 'Cache-Control: no-store', 'Content-Type: text/plain; charset=utf-8',
  `Content-Length: ${body.length}`, '', body
].join('\r\n')

const answering = new WeakSet<Server>()

/**
 * Answers requests without TLS with a 400 that says so; Node itself closes the connection. Only the first call for a
 * server has an effect.
 */
export function answerPlainHttp (server: Server): void {
  if (answering.has(server)) return
  answering.add(server)
  // Before all other listeners, which may destroy the socket
  server.prependListener('tlsClientError', onError)
}

function onError (error: NodeJS.ErrnoException, socket: TLSSocket): void {
  if (!codes.has(String(error.code))) return
  // The TCP socket below TLS, for which Node has no documented API. Without it, the connection is closed without an
  // answer
  const raw: unknown = Reflect.get(socket, '_parent')
  if (!(raw instanceof Socket) || !raw.writable) return
  // The client may have closed the connection, and there is no other 'error' listener
  raw.on('error', ignore)
  // Node destroys the TLS socket right after this; by then, the answer is on its way
  raw.end(answer)
}

function ignore (): void {}
