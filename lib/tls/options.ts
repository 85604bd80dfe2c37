/**
 * The options of `enableTls`. Begin with `resolveTlsOptions`: it checks unknown input and returns one frozen, typed
 * object. Files are not read here, see credentials.ts.
 */
import { constants } from 'node:crypto'
import type { SecureServerOptions } from 'node:http2'
import type { ServerOptions } from 'node:https'
import { resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { WatchedSource } from '../../types/source.ts'
import { InvalidOptionsError } from '../errors.ts'
import { isSource } from '../files/document.ts'
import { EnableTlsOptionsSchema, isEnableTlsOptions } from './checks.generated.ts'
import { explain, show } from '../options/validation-errors.ts'
import type { DevelopmentCertificatesOptions } from './development/certificates.ts'
import { type ClientCertificatesOptions, TRUST_OPTIONS, type TrustOptions, resolveTrustOptions } from '../trust/options.ts'
import type { CertificateSource } from './certificate-source.ts'
import type { CertificateOptions } from './credentials.ts'
import { locate, type Located } from '../files/pem.ts'
import { normalise } from './host-names.ts'

/** Options of {@link enableTls}. Give exactly one of `certificates` and `development`. */
export interface EnableTlsOptions {
  /**
   * The server's certificates, each with its chain and private key.
   *
   * A client gets the certificate of the host that it names in the handshake (SNI, RFC 6066 §3): an exact name before a
   * wildcard, and of two certificates with the same name and kind of key the first one. With keys of several kinds (RSA
   * and ECDSA), it gets one that it can verify. A client that names no host, or an unknown host, gets the first
   * certificate of the list, or one with another kind of key for the same hosts.
   *
   * Or a source of such a list: what `load` resolves to, at most 10 seconds after the start, and then whenever `watch`
   * says so, and at each {@link EnabledTls.reload}. What is wrong is logged, and the certificates before stay in force.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES the source does not load, or what it resolves to cannot be used
   * @example
   * ```ts
   * certificates: [
   *   { cert: 'shop.pem', key: 'shop.key' },
   *   { pfx: 'partners.p12', passphrase: process.env.PFX_PASSPHRASE }
   * ]
   * ```
   */
  readonly certificates?: CertificateOptions | readonly CertificateOptions[] | WatchedSource<CertificateOptions | readonly CertificateOptions[]> | undefined
  /**
   * Certificates for a developer's own machine, created on first use: see {@link developmentCertificates}. `true` takes
   * its defaults, `false` is the same as nothing. Without `clientCertificates`, the server then also asks for client
   * certificates and trusts the development CA for them.
   *
   * @default false
   */
  readonly development?: boolean | DevelopmentCertificatesOptions | undefined
  /**
   * The CAs that issue client certificates, and how revocation is checked: for every host, or by host name
   * (`shop.example`, or `*.shop.example` for the names one label below). CAs may have labels, by which rules tell their
   * clients apart.
   *
   * By host name, all hosts that are not listed trust no client certificate, and do not ask for one: browsers show no
   * dialog there. Host names ignore case and a trailing dot. IP addresses are not allowed: a client cannot name one in
   * the handshake (RFC 6066 §3).
   *
   * @default none: clients are not asked for a certificate, except with `development`
   * @example
   * ```ts
   * clientCertificates: { 'partners.example': { ca: 'partners-ca.pem', crl: 'partners.crl' } }
   * ```
   */
  readonly clientCertificates?: ClientCertificatesOptions | Readonly<Record<string, ClientCertificatesOptions>> | undefined
  /**
   * The secret from which the TLS session ticket keys (RFC 5077, RFC 8446 §4.6.1) are derived, for several machines
   * that resume each other's TLS sessions. Give the path of a file, or the bytes: 32 bytes or more.
   *
   * Keep it like a private key: its holder can resume a session as any client, and can decrypt recorded TLS 1.2 traffic
   * of the time in which it was used.
   *
   * @default none: only the workers of one `node:cluster` resume each other's sessions
   */
  readonly sessions?: { readonly secret: string | Uint8Array } | undefined
  /**
   * More options of Node's `https.createServer` and `http2.createSecureServer`, such as `minVersion` or
   * `headersTimeout`.
   *
   * These differ from Node: `allowHTTP1` is `true` unless given; `handshakeTimeout` is 10 000 milliseconds unless
   * given, and at most (Node: 120 000); renegotiation in TLS 1.2 is always off. Options that `enableTls` sets itself
   * are an error: `key`, `cert`, `pfx`, `passphrase`, `ca`, `crl`, `secureContext`, `SNICallback`, `requestCert`,
   * `rejectUnauthorized`, `ticketKeys` and `sessionIdContext`.
   */
  readonly https?: Omit<ServerOptions & SecureServerOptions, typeof MANAGED[number]> | undefined
}

/** The options of `enableTls`, checked. */
export interface TlsOptions {
  readonly source: CertificateSource
  readonly clientCertificates: {
    /** For hosts that are not in `byHost`. */
    readonly otherwise: TrustOptions | undefined
    /** By host name, in lower case and without a trailing dot. */
    readonly byHost: ReadonlyMap<string, TrustOptions>
  }
  /** The option `sessions.secret`. */
  readonly secret: Located | undefined
  /** The option `https`, with our defaults. */
  readonly extra: ServerOptions
}

const SUBJECT = 'options of enableTls'
/** Milliseconds. The default of Node is two minutes, for each of any number of connections. */
export const LONGEST_HANDSHAKE = 10_000

/**
 * Options of Node that `enableTls` sets itself. If a user could set one of them, it would undo what `enableTls`
 * promises.
 */
const MANAGED = [
  'key', 'cert', 'pfx', 'passphrase', 'ca', 'crl', 'secureContext', 'SNICallback', 'requestCert', 'rejectUnauthorized',
  'ticketKeys', 'sessionIdContext'
] as const

/**
 * Checks the options of `enableTls`.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveTlsOptions (input: unknown): TlsOptions {
  const { certificates } = Object(input) as { certificates?: unknown }
  const given = withCertificates(input, isCertificateSource(certificates) ? undefined : certificates)
  if (!isEnableTlsOptions(given)) throw new InvalidOptionsError(explain(SUBJECT, EnableTlsOptionsSchema, given))
  const options = given as EnableTlsOptions
  return Object.freeze({
    source: resolveSource(certificates, options.development),
    clientCertificates: resolveClientCertificates(options.clientCertificates),
    secret: resolveSecret(options.sessions),
    extra: resolveExtra(options.https ?? {})
  })
}

function isCertificateSource (certificates: unknown): boolean {
  return isSource(Object(certificates))
}

/** The options as they are checked. They may be an object with getters, or inherit from defaults. */
function withCertificates (input: unknown, certificates: unknown): unknown {
  if (!('certificates' in Object(input))) return input
  return Object.create(Object.getPrototypeOf(input), {
    ...Object.getOwnPropertyDescriptors(input as object),
    certificates: { enumerable: true, value: withGivenParts(certificates) }
  })
}

/** The names that are there tell the kinds of certificates apart, so `pfx: undefined` must not be one. */
function withGivenParts (certificates: unknown): unknown {
  return Array.isArray(certificates) ? certificates.map(withoutUndefined) : withoutUndefined(certificates)
}

/** A copy, of an object that is no bytes. */
function withoutUndefined<Value> (value: Value): Value {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) return value
  return Object.values(value).includes(undefined) ? Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as Value : value
}

function resolveSource (certificates: unknown, development: EnableTlsOptions['development']): CertificateSource {
  const isDevelopment = development !== undefined && development !== false
  if (isDevelopment === (certificates !== undefined)) {
    throw new InvalidOptionsError(`${SUBJECT}: give exactly one source of certificates: certificates, or development`)
  }
  if (isDevelopment) return { development: { ...(development === true ? {} : development), dir: directoryOf(development) } }
  const dir = process.cwd()
  const isAnswer = isCertificateSource(certificates)
  if (!isAnswer) locateCertificates(certificates, dir, SUBJECT)
  return { certificates: certificates as object, locate: (current) => checkCertificates(current, dir, isAnswer ? 'answer of the source' : SUBJECT) }
}

/**
 * Checks certificates that a source answers, or those of the options as they are by now.
 *
 * @param dir what their paths are relative to
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
function checkCertificates (current: unknown, dir: string, subject: string): ReturnType<typeof locateCertificates> {
  // Text and bytes may be a private key, and are not shown.
  const other = [current].flat().find((each) => typeof each === 'string' || ArrayBuffer.isView(each))
  if (other !== undefined) throw new InvalidOptionsError(`${subject}: certificates: ${typeof other === 'string' ? 'a string' : 'a Buffer'} is not allowed; allowed: an object { cert, key, passphrase? } or { pfx, passphrase? }, or a list of these`)
  const given = { certificates: withGivenParts(current) ?? null }
  if (!isEnableTlsOptions(given)) throw new InvalidOptionsError(explain(subject, EnableTlsOptionsSchema, given))
  return locateCertificates(given.certificates, dir, subject)
}

function locateCertificates (certificates: unknown, dir: string, subject: string): ReadonlyArray<CertificateOptions<Located>> {
  return ([certificates].flat() as CertificateOptions[]).map(({ cert, key, pfx, passphrase }) => {
    requireBytes(subject, cert, key, pfx)
    return Object.freeze({
      ...(cert !== undefined && { cert: locate(cert, dir) }), ...(key !== undefined && { key: locate(key, dir) }), ...(pfx !== undefined && { pfx: locate(pfx, dir) }), passphrase
    })
  })
}

/** Now: the working directory may change. An empty one stays so, and is refused. */
function directoryOf (development: boolean | DevelopmentCertificatesOptions): string {
  const { dir = '.certs' } = Object(development) as DevelopmentCertificatesOptions
  return dir === '' ? dir : resolve(dir)
}

function resolveClientCertificates (option: EnableTlsOptions['clientCertificates']): TlsOptions['clientCertificates'] {
  if (option === undefined) return { otherwise: undefined, byHost: new Map() }
  if (isForEveryHost(option)) return { otherwise: resolveTrustOptions(option, `${SUBJECT}: clientCertificates`), byHost: new Map() }
  const byHost = new Map<string, TrustOptions>()
  for (const [host, trust] of Object.entries(option)) {
    if (!HOST.test(host)) throw new InvalidOptionsError(`${SUBJECT}: clientCertificates: ${show(host)} is not allowed; allowed: ca and crl, or host names such as 'shop.example' and '*.shop.example'`)
    if (byHost.has(normalise(host))) throw new InvalidOptionsError(`${SUBJECT}: clientCertificates: ${show(host)} is there twice; host names ignore case and a last dot`)
    byHost.set(normalise(host), resolveTrustOptions(trust, `${SUBJECT}: clientCertificates: ${show(host)}`))
  }
  return { otherwise: undefined, byHost }
}

/** Host names, but no IP addresses: a client cannot name an address in the handshake (RFC 6066 §3). */
const HOST = /^(?:\*\.)?(?:[a-z\d_-]+\.)*(?!\d+\.?$)[a-z\d_-]+\.?$/i

/** Whether the option is for every host: it has `ca`. But if everything in it looks like the options of a host, then `ca` is one. */
function isForEveryHost (option: NonNullable<EnableTlsOptions['clientCertificates']>): option is ClientCertificatesOptions {
  return Object.hasOwn(option, 'ca') && !Object.values(option).every(isForOneHost)
}

/** An object of labels may have the label `ca`, too, but hardly no other than names of options. */
function isForOneHost (option: unknown): boolean {
  return Object.hasOwn(Object(option), 'ca') && Object.keys(option as object).every((name) => TRUST_OPTIONS.includes(name))
}

function resolveSecret (sessions: EnableTlsOptions['sessions']): Located | undefined {
  if (sessions === undefined) return undefined
  requireBytes(SUBJECT, sessions.secret)
  return locate(sessions.secret)
}

/**
 * The schema only says that a source is a string or an object: here, an empty string and an object without bytes are
 * refused.
 */
function requireBytes (subject: string, ...sources: unknown[]): void {
  for (const source of sources) {
    if (source === '' || (typeof source === 'object' && !(source instanceof Uint8Array))) {
      // The value is not shown: it may be a private key.
      throw new InvalidOptionsError(`${subject}: ${source === '' ? 'an empty string' : 'an object'} for a certificate, key or list is not allowed; allowed: the path of a file, PEM text, or a Buffer`)
    }
  }
}

function resolveExtra (given: NonNullable<EnableTlsOptions['https']>): ServerOptions {
  const managed = MANAGED.find((name) => Object.hasOwn(given, name))
  if (managed !== undefined) {
    throw new InvalidOptionsError(`${SUBJECT}: https: '${managed}' is not allowed, for enableTls works it out; certificates and authorities go in certificates and clientCertificates`)
  }
  const https = withoutUndefined(given)
  const { handshakeTimeout = LONGEST_HANDSHAKE } = https
  if (typeof handshakeTimeout !== 'number' || !(handshakeTimeout > 0 && handshakeTimeout <= LONGEST_HANDSHAKE)) {
    throw new InvalidOptionsError(`${SUBJECT}: https: handshakeTimeout: ${show(handshakeTimeout)} is not allowed; allowed: 1 to ${LONGEST_HANDSHAKE} milliseconds`)
  }
  const extra = {
    // With Fastify's option `http2`, clients of HTTP/1.1 are served as well.
    allowHTTP1: true,
    ...https,
    handshakeTimeout,
    // By renegotiation in TLS 1.2, a client could present another certificate on a connection that was already judged.
    secureOptions: (https.secureOptions ?? 0) | constants.SSL_OP_NO_RENEGOTIATION
  }
  try {
    // Without a `ca`, Node would load all public roots.
    createSecureContext({ ...extra, ca: [] })
  } catch (cause) {
    throw new InvalidOptionsError(`${SUBJECT}: https: OpenSSL does not take it: ${(cause as Error).message}`, { cause })
  }
  return Object.freeze(extra)
}
