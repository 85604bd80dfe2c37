/**
 * `fastify-http-security/testing`, for unit tests of applications: {@link inject} sends a request as if over HTTPS, with or
 * without a client certificate, and without a network connection.
 */
import { webcrypto, X509Certificate } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerBase } from 'fastify'
import lightMyRequest, { type InjectOptions, type Response } from 'light-my-request'
import { nearest } from './options/validation-errors.ts'
import { loadCertificateReader } from './request/certificate-reader.ts'
import { simulate } from './request/connection.ts'
import { allowWithoutTls } from './internals.ts'
import { CLIENT_AUTH } from './x509/key-usage.ts'

/** The options of `app.inject`, and these. */
export interface SecureInjectOptions extends InjectOptions {
  /**
   * `true`: as if over HTTPS, from the address 192.0.2.1 unless `remoteAddress` gives another one.
   *
   * @default whether `client` or `clientCertificate` is given
   */
  secure?: boolean | undefined
  /**
   * A client certificate, as PEM, that counts as issued by a client CA of the server. Its dates are checked.
   *
   * @default undefined: the client presents no certificate
   */
  clientCertificate?: string | undefined
  /**
   * The name of a client of the clients document that is in force: the request counts as one of this client, and presents a
   * certificate whose subject is `CN=<name>`. Rules that name the client or one of its groups admit it; a suspended client is
   * refused. Rules that describe certificates, and `verify`, see that certificate: give them another one by `clientCertificate`.
   *
   * @default undefined: the certificate says which client it is
   * @example
   * const { statusCode } = await inject(app, { method: 'POST', url: '/partners/orders', client: 'globex' }) // 403: it may only read
   */
  client?: string | undefined
}

/**
 * Sends a request to an application like `app.inject`, as if over HTTPS. The application needs no TLS for it: call this
 * instead of `app.ready()`, because the checks of the server at boot are left out here.
 *
 * @param app that has registered the plugin; it need not be ready
 * @param options those of `app.inject`, `secure`, and one of `clientCertificate` and `client`; a string is the URL
 * @throws TypeError for a certificate or a client with `secure: false`, for both together, for text that is not a certificate, and
 * for a client that the clients document does not have
 * @example
 * const { statusCode } = await inject(app, { url: '/account', secure: true })
 * const { body } = await inject(app, { url: '/partners/me', clientCertificate: readFileSync('client.pem', 'utf8') })
 * const { json } = await inject(app, { url: '/partners/me', client: 'acme' })
 */
export async function inject<
  Server extends RawServerBase,
  Request extends RawRequestDefaultExpression<Server>,
  Reply extends RawReplyDefaultExpression<Server>,
  Logger extends FastifyBaseLogger,
  TypeProvider extends FastifyTypeProvider
> (app: FastifyInstance<Server, Request, Reply, Logger, TypeProvider>, options: SecureInjectOptions | string): Promise<Response> {
  const { secure, clientCertificate, client, ...rest } = typeof options === 'string' ? { url: options } as SecureInjectOptions : options
  const presented = clientCertificate === undefined ? undefined : parseClientCertificate(clientCertificate)
  const hasCertificate = presented !== undefined || client !== undefined
  if (presented !== undefined && client !== undefined) throw new TypeError('give one of clientCertificate and client: a request has one certificate')
  if (hasCertificate && secure === false) throw new TypeError('a client certificate is presented over HTTPS only: secure must not be false')
  const isSecure = secure ?? hasCertificate
  if (hasCertificate) await loadCertificateReader()
  allowWithoutTls(app.server)
  await app.ready()
  const leaf = client === undefined ? presented : await certificateOf(client, app.server)
  return lightMyRequest((request, response) => {
    // The simulated socket belongs to this one request, so no request from the network can look like it.
    if (isSecure) simulate(Object.assign((request as unknown as IncomingMessage).socket, simulatedTls(leaf)), client)
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

// Clients by name

/** Names of clients in an error. */
const MOST_NAMED = 20

/** In force whatever clock a test sets: from 1970 until what RFC 5280 §4.1.2.5 has for "no end". */
const FOREVER = { notBefore: new Date(0), notAfter: new Date('9999-12-31T23:59:59Z') }

const certificates = new Map<string, Promise<X509Certificate>>()

/** @throws TypeError for a client that the clients document in force does not have */
async function certificateOf (client: string, server: object): Promise<X509Certificate> {
  const { clientNamesOf } = await import('./request/rules.ts')
  const names = clientNamesOf(server)
  if (names === undefined) throw new TypeError(`client: ${JSON.stringify(client)}: the app has no clients document: the option clients is missing`)
  if (!names.includes(client)) throw new TypeError(`client: ${JSON.stringify(client)} is not in the clients document, which has ${listOf(names)}${suggestion(String(client), names)}`)
  let certificate = certificates.get(client)
  if (certificate === undefined) certificates.set(client, certificate = makeClientCertificate(client))
  return await certificate
}

function listOf (names: readonly string[]): string {
  if (names.length === 0) return 'no clients'
  const named = names.slice(0, MOST_NAMED).map((name) => JSON.stringify(name)).join(', ')
  return names.length > MOST_NAMED ? `${named} and ${names.length - MOST_NAMED} more` : named
}

function suggestion (client: string, names: readonly string[]): string {
  const meant = nearest(client, names)
  return meant === undefined ? '' : `. Did you mean ${JSON.stringify(meant)}?`
}

async function makeClientCertificate (client: string): Promise<X509Certificate> {
  // Imported only if needed: most tests do without.
  const { basicConstraints, extendedKeyUsage, makeCertificate, P256 } = await import('./x509/make-certificate.ts')
  const { publicKey, privateKey } = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify'])
  const name = { commonName: client }
  const extensions = [basicConstraints(false), extendedKeyUsage(CLIENT_AUTH)]
  return new X509Certificate(await makeCertificate({ ...FOREVER, issuer: name, subject: name, publicKey, extensions }, privateKey))
}
