/**
 * The entry point: `enableTls` reads the certificates, keeps them up to date while the app serves, and returns Node's
 * options for the server. The work is done by the TLS controller, see controller.ts.
 */
import type { ServerOptions } from 'node:https'
import type { FastifyBaseLogger, FastifyInstance, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerBase } from 'fastify'
import { validityOf } from '../x509/fields.ts'
import { formatName, issuerOf, subjectOf } from '../x509/distinguished-names.ts'
import { InvalidOptionsError } from '../errors.ts'
import { kTlsInterface, type TlsInterface } from '../tls-interface.ts'
import { servedApp } from '../internals.ts'
import type { TrustInForce } from '../trust/client-trust.ts'
import type { DevelopmentCertificates } from './development/certificates.ts'
import { TlsController } from './controller.ts'
import { type ListenOptions, type ListenResult, listen } from './listen/listen.ts'
import type { KeyPair } from './credentials.ts'
import { type EnableTlsOptions, resolveTlsOptions } from './options.ts'

/** A certificate of the server that is in force. Frozen. */
export interface ServerCertificate {
  /**
   * The hosts that the certificate covers: DNS names and wildcards in lower case, IP addresses. From its subject
   * alternative names; from its common names only if it has no alternative name of these kinds (RFC 6125 §6.4.4).
   */
  readonly names: readonly string[]
  /** Distinguished name as one line: `C=PT, O=Acme, CN=shop.example`, in the order of the certificate. */
  readonly subject: string
  /** Distinguished name of the CA that issued it, in the same form. */
  readonly issuer: string
  /** RFC 5280 §4.1.2.5: notBefore. */
  readonly validFrom: Date
  /** RFC 5280 §4.1.2.5: notAfter, which is still valid. */
  readonly validUntil: Date
  /** SHA-256 of the certificate in DER: 64 lower-case hex digits, without colons. */
  readonly fingerprint256: string
  /**
   * The path of the file, as it was written in the options. Content that was given instead of a path is named by its
   * option: `certificates[0].cert`; that of a source by its first host: `certificates['shop.example']`.
   */
  readonly source: string
  /** It is there. */
  readonly pending: undefined
}

/** A certificate that is not there yet, and is being obtained, as by `acme`. Frozen. */
export interface PendingCertificate {
  /** The names that it is to be for, of those that no certificate in force covers. */
  readonly names: readonly string[]
  /** Nothing is known of it yet. */
  readonly subject: ''
  /** Nothing is known of it yet. */
  readonly issuer: ''
  /** It has no dates yet. */
  readonly validFrom: null
  /** It has no dates yet. */
  readonly validUntil: null
  /** It has none yet. */
  readonly fingerprint256: ''
  /** The URL of the CA's directory, without its query. */
  readonly source: string
  /** What is waited for, or what has gone wrong last and when it is tried again: `localhost:14000: ECONNREFUSED; it is tried again at …`. */
  readonly pending: string
}

/** The result of {@link enableTls}. Frozen. Give it to the plugin as the option `tls`, and its `https` to Fastify. */
export interface EnabledTls {
  /**
   * Options for `Fastify({ https })`, also with `http2: true`. A new object each time it is read, with what is in force
   * at that moment; servers that exist are updated without it.
   */
  readonly https: ServerOptions
  /**
   * The development certificates, where their files are, and how to trust them. Undefined with the option
   * `certificates`.
   */
  readonly development: DevelopmentCertificates | undefined
  /**
   * Listens for HTTPS, and also for plain HTTP if `options.http` is given: see {@link listen}, which says what closing
   * does.
   *
   * @param app an app that was created with the `https` of this object
   * @returns the addresses of both ports
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS the app was not created with `Fastify({ https: tls.https })`, or an
   * option is wrong
   * @throws FST_ERR_REOPENED_SERVER, FST_ERR_REOPENED_CLOSE_SERVER of Fastify: the app listens already, or closes
   * @throws what `app.ready()` throws, and Node's own error (`EADDRINUSE`, `EACCES`, `ENOTFOUND`, …) if a port cannot
   * be opened
   * @example
   * ```ts
   * const { http, https } = await tls.listen(app, { http: 8080, https: 8443, host: '0.0.0.0' })
   * console.log(https.port)
   * ```
   */
  listen<
    Server extends RawServerBase,
    Request extends RawRequestDefaultExpression<Server>,
    Reply extends RawReplyDefaultExpression<Server>,
    Logger extends FastifyBaseLogger,
    TypeProvider extends FastifyTypeProvider
  > (app: FastifyInstance<Server, Request, Reply, Logger, TypeProvider>, options: ListenOptions): Promise<ListenResult>
  /**
   * Reads everything again, now: files, what a source of certificates resolves to, and the values in the options as they
   * are by then. Not needed in general: files are watched, and so is a source with `watch`.
   *
   * Server certificates and each set of client CAs are independent. A part that cannot be read stays in force as it
   * was; the other parts are replaced.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES with the name of the file and the reason
   * @throws FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES with `development`: see {@link developmentCertificates}
   * @example
   * ```ts
   * process.on('SIGHUP', () => {
   *   tls.reload().catch((error) => app.log.error(error))
   * })
   * ```
   */
  reload (): Promise<void>
  /**
   * The server certificates that are in force, in the order of the options. The first one is also for clients that name
   * no host, or an unknown one. A frozen list. Client CAs and CRLs are in {@link EnabledTls.trust}.
   *
   * After them, what is still waited for, where `acme` obtains a certificate for names that none of these covers: with
   * `pending`, which says why, and without dates.
   *
   * @example
   * ```ts
   * for (const { names, source, validUntil, pending } of tls.certificates()) {
   *   console.log(names, pending === undefined ? `until ${validUntil.toISOString()}` : `from ${source}: ${pending}`)
   * }
   * ```
   */
  certificates (): ReadonlyArray<ServerCertificate | PendingCertificate>
  /**
   * The client CAs and CRLs that are in force, and what does not answer: one entry for each host of
   * `clientCertificates`. The `host` of the entry for all other hosts is the empty string. Empty if the server asks for
   * no client certificates. A frozen list.
   *
   * @example
   * ```ts
   * for (const { host, authorities, lists, problems } of tls.trust()) {
   *   console.log(host || 'every other host', authorities.map(({ subject }) => subject), lists.length, problems)
   * }
   * ```
   */
  trust (): ReadonlyArray<TrustInForce & { readonly host: string }>
  /**
   * Stops watching files. Not needed after `tls.listen()`, or if the app was given `tls`: it is done when the last such
   * app closes. Servers that still listen go on with what is in force.
   */
  close (): void
}

/**
 * Reads, checks and watches the server's certificates and the client CAs, and returns Node's options for a TLS server.
 *
 * Files are watched. New content is checked in the same way as at the start, then it is used for the next handshake of
 * every server. No connection is dropped. If new content is wrong, an error is logged and the old content stays in
 * force.
 *
 * When client CAs, CRLs or OCSP answers change or end, every client is judged again at its next request, also on open
 * connections and in resumed sessions. A client whose certificate is still valid notices nothing. Any other client is
 * refused, and its WebSockets end.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS an option is wrong; says which one, and what is allowed
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES a certificate, key, CA, CRL or secret cannot be used, or no handshake
 * succeeds with it; with the name of the file and the reason
 * @throws FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES with `development`: see {@link developmentCertificates}
 * @example
 * ```ts
 * import Fastify from 'fastify'
 * import httpSecurity from 'fastify-http-security'
 * import { enableTls } from 'fastify-http-security/tls'
 *
 * const tls = await enableTls({
 *   certificates: { cert: 'fullchain.pem', key: 'privkey.pem' },
 *   clientCertificates: { ca: 'partners-ca.pem', crl: 'partners.crl' }
 * })
 * const app = Fastify({ logger: true, https: tls.https })
 * await app.register(httpSecurity, { tls })
 * await tls.listen(app, { http: 8080, https: 8443 })
 * ```
 */
export async function enableTls (input: EnableTlsOptions): Promise<EnabledTls> {
  const options = resolveTlsOptions(input)
  const controller = await TlsController.create(options)
  return Object.freeze({
    get https () { return controller.https() },
    get development () { return controller.certificates.development },
    async listen (app, listenOptions) {
      if (!controller.isOurs(app.server)) throw new InvalidOptionsError('tls.listen: this app was not created with the options of this tls: Fastify({ https: tls.https })')
      const served = servedApp(app)
      await controller.attach(served)
      app.server.once('close', () => controller.release(served))
      return await listen(app, listenOptions)
    },
    reload: () => controller.reload(),
    certificates: () => Object.freeze([...controller.certificates.keyPairs.map(serverCertificateOf), ...pendingCertificates(controller)]),
    trust: () => Object.freeze(controller.trustInForce),
    close: () => controller.close(),
    [kTlsInterface]: controller
  } satisfies EnabledTls & { [kTlsInterface]: TlsInterface }) as EnabledTls
}

function serverCertificateOf ({ chain: [leaf], hosts, source }: KeyPair): ServerCertificate {
  const { notBefore, notAfter } = validityOf(leaf)
  return Object.freeze({
    names: hosts,
    subject: formatName(subjectOf(leaf)),
    issuer: formatName(issuerOf(leaf)),
    validFrom: new Date(notBefore),
    validUntil: new Date(notAfter),
    fingerprint256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
    source,
    pending: undefined
  })
}

/** One, or none. */
function pendingCertificates ({ awaited }: TlsController): PendingCertificate[] {
  if (awaited === undefined) return []
  const { names, source, reason } = awaited
  return [Object.freeze({ names: Object.freeze(names), subject: '', issuer: '', validFrom: null, validUntil: null, fingerprint256: '', source, pending: reason })]
}
