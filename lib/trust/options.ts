/** The options for client CAs and revocation: `resolveTrustOptions` turns unknown input into one frozen object. */
import { inspect } from 'node:util'
import { InvalidOptionsError } from '../errors.ts'
import { type FileOrContent, locate, type Located } from '../files/pem.ts'
import { Destinations } from './fetch.ts'

/** The CRLs that certificates name (CRL distribution points, RFC 5280 §4.2.1.13). */
const DISTRIBUTION_POINTS = 'distribution-points'

/**
 * Which client certificates count: the client CAs, and how revocation is checked.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a wrong option; FST_HTTP_SECURITY_INVALID_CERTIFICATES where a CA or CRL
 * cannot be used
 */
export interface ClientCertificatesOptions {
  /**
   * The client CAs as PEM, roots included. Files are watched.
   *
   * An object gives them labels: names of up to 63 letters, digits, `.`, `_` and `-`, by which rules tell their clients apart
   * (`issuedBy`). The label of a certificate is that of the labelled CA nearest to it, over every valid path. A CA with two
   * labels gives none.
   *
   * @example
   * ```ts
   * ca: { partners: 'partners-ca.pem', staff: ['staff-ca.pem', 'staff-root.pem'] }
   * ```
   */
  readonly ca: FileOrContent | readonly FileOrContent[] | Readonly<Record<string, FileOrContent | readonly FileOrContent[]>>
  /**
   * CRLs (RFC 5280 §5): files in PEM or DER (one may not exist yet), their content, `http:` and `https:` URLs, and
   * `'distribution-points'`: those that certificates name (RFC 5280 §4.2.1.13), at public addresses. Files are watched.
   *
   * @default undefined: revocation is not checked by CRLs
   */
  readonly crl?: FileOrContent | readonly FileOrContent[] | undefined
  /**
   * `true`: the OCSP responder that each certificate names is asked (RFC 6960). `{ url }`: this responder is asked about
   * every certificate.
   *
   * @default false
   */
  readonly ocsp?: boolean | { readonly url: string } | undefined
  /**
   * Where revocation is checked: what happens to a certificate that no CRL and no OCSP response in force covers.
   * `'refuse'` answers with `FST_HTTP_SECURITY_REVOCATION_UNKNOWN`.
   *
   * @default 'refuse'
   */
  readonly unknown?: 'refuse' | 'allow' | undefined
  /**
   * `true`: these count, too, where OpenSSL has accepted them: RSA keys from 1024 bits, curves from 160 bits, signatures
   * with SHA-1, client certificates and roots of X.509 version 1. CRLs and OCSP responses have to be as strong as without it.
   *
   * @default false
   */
  readonly legacy?: boolean | undefined
  /**
   * A directory of this app alone, mode 0700, where fetched CRLs and intermediate CAs are kept across restarts.
   *
   * @default undefined: nothing is kept
   */
  readonly dir?: string | undefined
  /**
   * Destinations, besides public addresses at ports 80 and 443, that URLs in certificates may lead to: addresses, networks
   * (`10.1.0.0/16`, `[fd00::/8]:8080`) and hosts (`pki.internal:8080`). URLs in these options are allowed as they are.
   *
   * @default []
   */
  readonly allow?: readonly string[] | undefined
}

/** Names of the options: where `ca` could also be a host, the names in it tell. */
export const TRUST_OPTIONS: readonly string[] = ['ca', 'crl', 'ocsp', 'unknown', 'legacy', 'dir', 'allow'] satisfies Array<keyof ClientCertificatesOptions>

/** A file of client CAs, or its content. */
export interface CaSource {
  readonly source: Located
  /** Undefined where the option has no labels. */
  readonly label: string | undefined
}

export interface TrustOptions {
  readonly ca: readonly CaSource[]
  /** Files and content. */
  readonly crl: readonly Located[]
  readonly urls: readonly string[]
  readonly followsDistributionPoints: boolean
  readonly asksResponders: boolean
  /** The configured responder, instead of those that certificates name. */
  readonly responder: string | undefined
  readonly unknown: 'refuse' | 'allow'
  readonly isLegacy: boolean
  readonly dir: string | undefined
  readonly allow: readonly string[]
}

/**
 * @param subject the beginning of messages: `options of enableTls: clientCertificates`
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveTrustOptions ({ ca, crl = [], ocsp = false, unknown = 'refuse', legacy = false, dir, allow = [] }: ClientCertificatesOptions, subject: string): TrustOptions {
  const crls = [crl].flat() as FileOrContent[]
  const cas = resolveCas(ca, `${subject}: ca`)
  for (const source of crls) requireContent(source, `${subject}: crl`)
  const urls = crls.filter(isUrl)
  const responder = typeof ocsp === 'object' ? ocsp.url : undefined
  for (const url of urls) requireUrl(url, `${subject}: crl`)
  if (responder !== undefined) requireUrl(responder, `${subject}: ocsp: url`)
  for (const source of crls) requireNoOtherWord(source, `${subject}: crl`)
  if (dir === '') throw new InvalidOptionsError(`${subject}: dir: '' is not allowed; allowed: the path of a directory of our own`)
  requireDestinations(allow, subject)
  return Object.freeze({
    ca: cas,
    crl: crls.filter((source: unknown) => !isUrl(source) && source !== DISTRIBUTION_POINTS).map((source) => locate(source)),
    urls,
    followsDistributionPoints: crls.includes(DISTRIBUTION_POINTS),
    asksResponders: ocsp !== false,
    responder,
    unknown,
    isLegacy: legacy,
    dir,
    allow
  })
}

/** Letters, digits, `.`, `_` and `-`. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

function resolveCas (ca: ClientCertificatesOptions['ca'], option: string): readonly CaSource[] {
  if (!isByLabel(ca)) return resolveSources(ca, undefined, option)
  const labels = Object.entries(ca)
  if (labels.length === 0) throw new InvalidOptionsError(`${option}: an object without labels is not allowed; allowed: the path of a file, PEM text, a Buffer, or an object such as { partners: 'partners-ca.pem' }`)
  return labels.flatMap(([label, sources]) => {
    // A name that every object has, such as `constructor`, is a mistake, or worse.
    if (!LABEL.test(label) || label in Object.prototype) throw new InvalidOptionsError(`${option}: the label ${inspect(label)} is not allowed; allowed: 1 to 63 letters, digits, '.', '_' and '-', the first of them a letter or digit`)
    return resolveSources(sources, label, `${option}: ${label}`)
  })
}

/** Whether it is an object of labels: any object that is neither a list nor bytes. */
function isByLabel (ca: ClientCertificatesOptions['ca']): ca is Readonly<Record<string, FileOrContent | readonly FileOrContent[]>> {
  return typeof ca === 'object' && !Array.isArray(ca) && !ArrayBuffer.isView(ca)
}

function resolveSources (sources: FileOrContent | readonly FileOrContent[], label: string | undefined, option: string): CaSource[] {
  const list = [sources].flat() as FileOrContent[]
  if (list.length === 0) throw new InvalidOptionsError(`${option}: an empty list is not allowed; allowed: the path of a file, PEM text, or a Buffer`)
  for (const source of list) requireContent(source, option)
  return list.map((source) => Object.freeze({ source: locate(source), label }))
}

/** Whether revocation is checked at all. */
export function checksRevocation (options: TrustOptions): boolean {
  return options.crl.length > 0 || isOnline(options)
}

/** Whether revocation is checked over the network. */
export function isOnline ({ urls, followsDistributionPoints, asksResponders }: TrustOptions): boolean {
  return urls.length > 0 || followsDistributionPoints || asksResponders
}

function isUrl (source: unknown): source is string {
  return typeof source === 'string' && /^https?:/i.test(source)
}

/** The error does not show the URL: there may be a password in it. */
function requireUrl (url: string, option: string): void {
  const parsed = isUrl(url) && URL.canParse(url) ? new URL(url) : undefined
  if (parsed !== undefined && parsed.username === '' && parsed.password === '' && isDestination(destinationOf(url))) return
  throw new InvalidOptionsError(`${option}: this URL is not allowed; allowed: 'http://host/path' or 'https://host/path', without user name and password`)
}

/** A misspelt keyword or scheme would otherwise count as the path of a file, which may be missing. */
function requireNoOtherWord (source: unknown, option: string): void {
  if (typeof source !== 'string' || isUrl(source) || source === DISTRIBUTION_POINTS) return
  const scheme = /^[a-z][a-z\d+.-]*(?=:\/\/)/i.exec(source)?.[0]
  if (scheme !== undefined) throw new InvalidOptionsError(`${option}: a URL of the scheme '${scheme}' is not allowed; allowed: http and https`)
  if (/^distribution[^a-z]?points?$/i.test(source)) throw new InvalidOptionsError(`${option}: '${source}' is not allowed; allowed: '${DISTRIBUTION_POINTS}'`)
}

function requireDestinations (allow: readonly string[], subject: string): void {
  const entry = allow.find((entry) => !isDestination(entry))
  if (entry !== undefined) throw new InvalidOptionsError(`${subject}: allow: '${entry}' is not allowed; allowed: addresses and networks (10.1.0.0/16, [fd00::/8]:8080) and hosts (pki.internal:8080)`)
}

function isDestination (entry: string): boolean {
  try {
    return new Destinations([entry]) !== undefined
  } catch {
    return false
  }
}

/** Host and port of a URL, in the form of the option `allow`. */
export function destinationOf (url: string): string {
  const { host, port, protocol } = new URL(url)
  return port === '' ? `${host}:${protocol === 'https:' ? 443 : 80}` : host
}

/** The schema can only check that an option is an object, and nothing that is in it. */
function requireContent (source: unknown, option: string): void {
  if ((typeof source === 'string' && source !== '') || source instanceof Uint8Array) return
  throw new InvalidOptionsError(`${option}: ${source === '' ? "''" : typeof source === 'object' ? 'an object' : typeof source} is not allowed; allowed: the path of a file, PEM text, or a Buffer`)
}
