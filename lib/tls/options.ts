/** Unknown input for `enableTls` becomes one frozen, typed object here. */
import { constants } from 'node:crypto'
import type { SecureServerOptions } from 'node:http2'
import type { ServerOptions } from 'node:https'
import { resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import { InvalidOptionsError } from '../errors.ts'
import { EnableTlsOptionsSchema, isEnableTlsOptions } from './checks.ts'
import { explain, show } from '../options/validation-errors.ts'
import type { DevelopmentCertificatesOptions } from './development/certificates.ts'
import { type ClientCertificatesOptions, type TrustOptions, resolveTrustOptions } from '../trust/options.ts'
import type { CertificateOptions, CertificateSource } from './credentials.ts'
import { locate, type Located } from '../files/pem.ts'
import { normalise } from './host-names.ts'

/** Exactly one of `certificates` and `development`. */
export interface EnableTlsOptions {
  /** The server's certificates. Chosen by the host that a client names (SNI, RFC 6066 §3); the first one for all others. */
  readonly certificates?: CertificateOptions | readonly CertificateOptions[]
  /** Certificates for a developer's own machine, made on first use; clients' too, unless `clientCertificates` is given. */
  readonly development?: boolean | DevelopmentCertificatesOptions
  /** Who issues client certificates: for every host; or by host name (`*.shop.test` too), and nobody for other hosts. */
  readonly clientCertificates?: ClientCertificatesOptions | Readonly<Record<string, ClientCertificatesOptions>>
  /**
   * What instances share that resume each other's TLS sessions: the path of a file, or bytes, of 32 bytes or more. It is
   * worth the key of every client, and of what was recorded of TLS 1.2 in its time: keep it like a private key.
   */
  readonly sessions?: { readonly secret: string | Uint8Array }
  /** Further options of Node's `https.createServer` and `http2.createSecureServer`, such as `minVersion` or `headersTimeout`. */
  readonly https?: Omit<ServerOptions & SecureServerOptions, typeof OURS[number]>
}

export interface TlsOptions {
  readonly source: CertificateSource
  readonly clientCertificates: {
    readonly otherwise: TrustOptions | undefined
    readonly byHost: ReadonlyMap<string, TrustOptions>
  }
  /** What sessions are shared by. */
  readonly secret: Located | undefined
  readonly extra: ServerOptions
}

const SUBJECT = 'options of enableTls'
/** Milliseconds; Node's own default is two minutes, for each of any number of connections. */
export const LONGEST_HANDSHAKE = 10_000

/** Options of Node that are worked out here: given beside it, each would undo a promise. */
const OURS = [
  'key', 'cert', 'pfx', 'passphrase', 'ca', 'crl', 'secureContext', 'SNICallback', 'requestCert', 'rejectUnauthorized',
  'ticketKeys', 'sessionIdContext'
] as const

/**
 * The options of `enableTls`.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveTlsOptions (input: unknown): TlsOptions {
  if (!isEnableTlsOptions(input)) throw new InvalidOptionsError(explain(SUBJECT, EnableTlsOptionsSchema, input))
  const options = input as EnableTlsOptions
  return Object.freeze({
    source: resolveSource(options),
    clientCertificates: resolveClientCertificates(options.clientCertificates),
    secret: resolveSecret(options.sessions),
    extra: resolveExtra(options.https ?? {})
  })
}

function resolveSource ({ certificates, development }: EnableTlsOptions): CertificateSource {
  const isDevelopment = development !== undefined && development !== false
  if (isDevelopment === (certificates !== undefined)) {
    throw new InvalidOptionsError(`${SUBJECT}: give exactly one source of certificates: certificates, or development`)
  }
  if (isDevelopment) return { development: { ...(development === true ? {} : development), dir: resolve((development as DevelopmentCertificatesOptions).dir ?? '.certs') } }
  const list = [certificates!].flat() as CertificateOptions[]
  for (const { cert, key, pfx } of list) requireBytes(cert, key, pfx)
  return {
    certificates: Object.freeze(list.map(({ cert, key, pfx, passphrase }) => Object.freeze({
      ...(cert !== undefined && { cert: locate(cert) }), ...(key !== undefined && { key: locate(key) }), ...(pfx !== undefined && { pfx: locate(pfx) }), passphrase
    })))
  }
}

function resolveClientCertificates (option: EnableTlsOptions['clientCertificates']): TlsOptions['clientCertificates'] {
  if (option === undefined) return { otherwise: undefined, byHost: new Map() }
  if (isForAll(option)) return { otherwise: resolveTrustOptions(option, `${SUBJECT}: clientCertificates`), byHost: new Map() }
  const byHost = new Map<string, TrustOptions>()
  for (const [host, trust] of Object.entries(option)) {
    if (!HOST.test(host)) throw new InvalidOptionsError(`${SUBJECT}: clientCertificates: ${show(host)} is not allowed; allowed: ca and crl, or host names such as 'shop.example' and '*.shop.example'`)
    if (byHost.has(normalise(host))) throw new InvalidOptionsError(`${SUBJECT}: clientCertificates: ${show(host)} is there twice; host names ignore case and a last dot`)
    byHost.set(normalise(host), resolveTrustOptions(trust, `${SUBJECT}: clientCertificates: ${show(host)}`))
  }
  return { otherwise: undefined, byHost }
}

/** No address: clients name none in a handshake (RFC 6066 §3). */
const HOST = /^(?:\*\.)?(?:[a-z\d_-]+\.)*(?!\d+\.?$)[a-z\d_-]+\.?$/i

/** Unless `ca` is a host. */
function isForAll (option: NonNullable<EnableTlsOptions['clientCertificates']>): option is ClientCertificatesOptions {
  return Object.hasOwn(option, 'ca') && !Object.hasOwn(Object(option.ca), 'ca')
}

function resolveSecret (sessions: EnableTlsOptions['sessions']): Located | undefined {
  if (sessions === undefined) return undefined
  requireBytes(sessions.secret)
  return locate(sessions.secret)
}

/** The schema can only say that it is an object. */
function requireBytes (...sources: unknown[]): void {
  for (const source of sources) {
    if (source === '' || (typeof source === 'object' && !(source instanceof Uint8Array))) {
      // Not what it is: it may be a key.
      throw new InvalidOptionsError(`${SUBJECT}: ${source === '' ? 'an empty string' : 'an object'} for a certificate, key or list is not allowed; allowed: the path of a file, PEM text, or a Buffer`)
    }
  }
}

function resolveExtra (https: NonNullable<EnableTlsOptions['https']>): ServerOptions {
  const ours = OURS.find((name) => Object.hasOwn(https, name))
  if (ours !== undefined) {
    throw new InvalidOptionsError(`${SUBJECT}: https: '${ours}' is not allowed, for enableTls works it out; certificates and authorities go in certificates and clientCertificates`)
  }
  const { handshakeTimeout = LONGEST_HANDSHAKE } = https
  if (typeof handshakeTimeout !== 'number' || !(handshakeTimeout > 0 && handshakeTimeout <= LONGEST_HANDSHAKE)) {
    throw new InvalidOptionsError(`${SUBJECT}: https: handshakeTimeout: ${show(handshakeTimeout)} is not allowed; allowed: 1 to ${LONGEST_HANDSHAKE} milliseconds`)
  }
  const extra = {
    // Fastify's http2 option, too: clients of HTTP/1.1 are answered as well.
    allowHTTP1: true,
    ...https,
    handshakeTimeout,
    // Whoever renegotiates on TLS 1.2 becomes somebody else on a connection that was judged before.
    secureOptions: (https.secureOptions ?? 0) | constants.SSL_OP_NO_RENEGOTIATION
  }
  try {
    // Without any, the public roots would be loaded.
    createSecureContext({ ...extra, ca: [] })
  } catch (cause) {
    throw new InvalidOptionsError(`${SUBJECT}: https: OpenSSL does not take it: ${(cause as Error).message}`, { cause })
  }
  return Object.freeze(extra)
}
