/**
 * `fastify-http-security/testing`, for unit tests of applications: {@link inject} sends a request as if over HTTPS, with or
 * without a client certificate, and without a network connection.
 */
import { X509Certificate } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerBase } from 'fastify'
import lightMyRequest, { type InjectOptions, type Response } from 'light-my-request'
import { loadCertificateReader } from './request/certificate-reader.ts'
import { simulate } from './request/connection.ts'
import { allowWithoutTls } from './internals.ts'

/** The options of `app.inject`, and these. */
export interface SecureInjectOptions extends InjectOptions {
  /**
   * `true`: as if over HTTPS, from the address 192.0.2.1 unless `remoteAddress` gives another one.
   *
   * @default whether `clientCertificate` is given
   */
  secure?: boolean | undefined
  /**
   * A client certificate, as PEM, that counts as issued by a client CA of the server. Its dates are checked.
   *
   * @default undefined: the client presents no certificate
   */
  clientCertificate?: string | undefined
}

/**
 * Sends a request to an application like `app.inject`, as if over HTTPS. The application needs no TLS for it: call this
 * instead of `app.ready()`, because the checks of the server at boot are left out here.
 *
 * @param app that has registered the plugin; it need not be ready
 * @param options those of `app.inject`, `secure` and `clientCertificate`; a string is the URL
 * @throws TypeError for a certificate with `secure: false`, or for text that is not a certificate
 * @example
 * const { statusCode } = await inject(app, { url: '/account', secure: true })
 * const { body } = await inject(app, { url: '/partners/me', clientCertificate: readFileSync('client.pem', 'utf8') })
 */
export async function inject<
  Server extends RawServerBase,
  Request extends RawRequestDefaultExpression<Server>,
  Reply extends RawReplyDefaultExpression<Server>,
  Logger extends FastifyBaseLogger,
  TypeProvider extends FastifyTypeProvider
> (app: FastifyInstance<Server, Request, Reply, Logger, TypeProvider>, options: SecureInjectOptions | string): Promise<Response> {
  const { secure, clientCertificate, ...rest } = typeof options === 'string' ? { url: options } as SecureInjectOptions : options
  const leaf = clientCertificate === undefined ? undefined : parseClientCertificate(clientCertificate)
  if (leaf !== undefined && secure === false) throw new TypeError('a client certificate is presented over HTTPS only: secure must not be false')
  const isSecure = secure ?? leaf !== undefined
  if (leaf !== undefined) await loadCertificateReader()
  allowWithoutTls(app.server)
  await app.ready()
  return lightMyRequest((request, response) => {
    // The simulated socket belongs to this one request, so no request from the network can look like it.
    if (isSecure) simulate(Object.assign((request as unknown as IncomingMessage).socket, simulatedTls(leaf)))
    app.routing(request as never, response as never)
  // A peer on loopback may be a trusted proxy, whose own TLS says nothing of the client; no proxy has an address of RFC 5737.
  }, isSecure ? { ...rest, remoteAddress: rest.remoteAddress ?? '192.0.2.1' } : rest)
}

function parseClientCertificate (pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new TypeError('clientCertificate has to be a certificate as PEM text', { cause })
  }
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
