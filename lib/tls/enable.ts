/** TLS for an app: certificates from files or for development, kept up to date while the app serves. */
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

/** A certificate of the server. Frozen. */
export interface ServerCertificate {
  /** The hosts that it is good for: names in lower case, wildcards, addresses. */
  readonly names: readonly string[]
  readonly subject: string
  readonly issuer: string
  readonly validFrom: Date
  readonly validUntil: Date
  /** SHA-256, 64 lower-case hex digits. */
  readonly fingerprint256: string
  /** The file it is from, as it was written in the options. */
  readonly source: string
}

/** What `enableTls` makes. */
export interface EnabledTls {
  /** For `Fastify({ https })`, with `http2: true` too. */
  readonly https: ServerOptions
  /** What was made for development, with where it lies and how to trust it; undefined with `certificates`. */
  readonly development: DevelopmentCertificates | undefined
  /** Listens for HTTPS, and for plain HTTP where `http` is given: see {@link listen}. */
  listen<
    Server extends RawServerBase,
    Request extends RawRequestDefaultExpression<Server>,
    Reply extends RawReplyDefaultExpression<Server>,
    Logger extends FastifyBaseLogger,
    TypeProvider extends FastifyTypeProvider
  > (app: FastifyInstance<Server, Request, Reply, Logger, TypeProvider>, options: ListenOptions): Promise<ListenResult>
  /**
   * Reads everything again, now.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES with the reason; what was in force stays
   */
  reload (): Promise<void>
  /** The certificates that are in force, the one for clients that name no host first. */
  certificates (): readonly ServerCertificate[]
  /** What client certificates are judged by, for each host of `clientCertificates`; the empty string is all other hosts. */
  trust (): ReadonlyArray<TrustInForce & { readonly host: string }>
  /** Stops watching files. The app that was given `tls` does it when it closes. */
  close (): void
}

/**
 * Reads, checks and watches certificates, and makes Node's options of them.
 *
 * Files are watched: what replaces them is checked as at first, and then serves the next handshake of every server, with
 * no connection dropped. What is wrong is logged, and what was in force stays. When client CAs or revocation lists change,
 * or end, each client is judged anew with its next request, on kept and resumed connections too: whoever still counts
 * notices nothing, whoever does not is refused, and its WebSockets end.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS; FST_HTTP_SECURITY_INVALID_CERTIFICATES with the file's name and the reason;
 * FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES
 */
export async function enableTls (input: EnableTlsOptions): Promise<EnabledTls> {
  const options = resolveTlsOptions(input)
  const keeper = await TlsController.create(options)
  return Object.freeze({
    get https () { return keeper.https() },
    get development () { return keeper.certificates.development },
    async listen (app, listenOptions) {
      if (!keeper.isOurs(app.server)) throw new InvalidOptionsError('tls.listen: this app was not created with the options of this tls: Fastify({ https: tls.https })')
      const linked = servedApp(app)
      await keeper.attach(linked)
      app.server.once('close', () => keeper.release(linked))
      return await listen(app, listenOptions)
    },
    reload: () => keeper.reload(),
    certificates: () => Object.freeze(keeper.certificates.keyPairs.map(rowOf)),
    trust: () => Object.freeze(keeper.trustInForce),
    close: () => keeper.close(),
    [kTlsInterface]: keeper
  } satisfies EnabledTls & { [kTlsInterface]: TlsInterface }) as EnabledTls
}

function rowOf ({ chain: [leaf], hosts, source }: KeyPair): ServerCertificate {
  const { notBefore, notAfter } = validityOf(leaf)
  return Object.freeze({
    names: hosts,
    subject: formatName(subjectOf(leaf)),
    issuer: formatName(issuerOf(leaf)),
    validFrom: new Date(notBefore),
    validUntil: new Date(notAfter),
    fingerprint256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
    source
  })
}
