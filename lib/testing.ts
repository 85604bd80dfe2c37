/**
 * For unit tests of applications: requests as if over HTTPS, with or without a client certificate, and no socket.
 */
import { X509Certificate } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import lightMyRequest, { type InjectOptions, type Response } from 'light-my-request'
import { allowWithoutTls } from './boot.ts'

export interface SecureInjectOptions extends InjectOptions {
  /** As if over HTTPS. Default: whether a certificate is given. */
  secure?: boolean
  /** A client certificate, as PEM, that the server's authorities vouch for; its dates are checked as ever. */
  clientCertificate?: string
}

/**
 * Drives an application like `app.inject`, as if over HTTPS. The application needs no TLS for it: call this instead of
 * `app.ready()`, whose checks of the server are left out here.
 *
 * @param options those of `app.inject`, `secure` and `clientCertificate`; a string is the URL
 * @throws TypeError for a certificate without HTTPS, Error for one that is none
 */
export async function inject (app: FastifyInstance, options: SecureInjectOptions | string): Promise<Response> {
  const { secure, clientCertificate, ...rest } = typeof options === 'string' ? { url: options } as SecureInjectOptions : options
  const leaf = clientCertificate === undefined ? undefined : new X509Certificate(clientCertificate)
  if (leaf !== undefined && secure === false) throw new TypeError('a client certificate is presented over HTTPS only: secure must not be false')
  allowWithoutTls(app)
  await app.ready()
  return lightMyRequest((request, response) => {
    // The made-up socket belongs to this one request, so nothing that comes by the network can look like it.
    if (secure ?? leaf !== undefined) Object.assign((request as unknown as IncomingMessage).socket, simulatedTls(leaf))
    app.routing(request as never, response as never)
  }, rest)
}

/** What the plugin reads of Node's TLSSocket, with the answers that Node gives. */
function simulatedTls (leaf: X509Certificate | undefined): object {
  return {
    encrypted: true,
    authorized: leaf !== undefined,
    authorizationError: leaf === undefined ? 'UNABLE_TO_GET_ISSUER_CERT' : null,
    getPeerX509Certificate: () => leaf,
    getX509Certificate: () => undefined,
    disableRenegotiation: () => {}
  }
}
