/** The options of `acme`. Begin with `resolveAcmeOptions`: it checks unknown input and returns one frozen object. */
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { InvalidOptionsError } from '../errors.ts'
import { type FileOrContent, locate, type Located } from '../files/pem.ts'
import { explain, show } from '../options/validation-errors.ts'
import { AcmeOptionsSchema, isAcmeOptions } from './checks.generated.ts'
import { type AccountBinding, isHttps } from './client.ts'

/** Options of {@link acme}. */
export interface AcmeOptions {
  /**
   * The URL of the CA's directory (RFC 8555 §7.1.1). Try the CA's staging directory first: the limits of the other one are
   * few orders a week.
   *
   * @example
   * ```ts
   * directoryUrl: 'https://acme-staging-v02.api.letsencrypt.org/directory'
   * ```
   */
  readonly directoryUrl: string
  /**
   * The names of the certificate, 1 to 100: host names, and with `dns` also wildcards. In ASCII: `xn--bcher-kva.example`.
   */
  readonly domains: readonly string[]
  /** Where the CA may write to about the account. Many CAs need none. */
  readonly email?: string | undefined
  /**
   * A directory of this app alone, mode 0700, for account key, certificates and what is under way, each file with mode 0600.
   * Processes and machines that share it share the certificate: one of them orders.
   */
  readonly dir: string
  /** `true`: you have read the terms of service of the CA, and agree (RFC 8555 §7.3). */
  readonly termsOfServiceAgreed: true
  /**
   * The kind of the certificate's key: ECDSA with P-256, or RSA with 2,048 bits.
   *
   * @default 'ecdsa'
   */
  readonly keyType?: 'ecdsa' | 'rsa' | undefined
  /**
   * An account with the CA to which the ACME account will belong (RFC 8555 §7.3.4): its identifier, and its key in base64url,
   * both as the CA gave them.
   */
  readonly externalAccountBinding?: { readonly kid: string, readonly hmacKey: string } | undefined
  /**
   * Proves by DNS that the names are yours (dns-01, RFC 8555 §8.4) instead of HTTP: for wildcards, and for servers that the CA
   * does not reach. Each function has ten minutes.
   */
  readonly dns?: DnsRecords | undefined
  /**
   * CAs that issue the certificate of the ACME server itself, for one of your own: a file, or PEM.
   *
   * @default the public roots of Node
   */
  readonly ca?: FileOrContent | undefined
}

/** How TXT records come and go. A name may have several at a time. */
export interface DnsRecords {
  /**
   * Adds a TXT record, and resolves when every name server of the zone has it.
   *
   * @param name `_acme-challenge.shop.example`
   * @param value 43 characters
   */
  add (name: string, value: string): Promise<void>
  /** Removes it again. Also called after a failure. */
  remove (name: string, value: string): Promise<void>
}

/** The options of `acme`, checked. */
export interface ResolvedAcmeOptions {
  readonly directoryUrl: string
  /** In lower case, sorted, without repetition. */
  readonly domains: readonly string[]
  readonly email: string | undefined
  /** Absolute. */
  readonly dir: string
  readonly keyType: 'ecdsa' | 'rsa'
  readonly binding: AccountBinding | undefined
  readonly dns: DnsRecords | undefined
  readonly ca: Located | undefined
  /** For names of files: which CA, and which certificate of it. */
  readonly ids: { readonly ca: string, readonly certificate: string }
}

const SUBJECT = 'options of acme'
/** Names in a certificate: what Let's Encrypt allows. */
const MOST_DOMAINS = 100
/** Labels of letters, digits and hyphens (RFC 1123 §2.1); the last one is no number, as in an address. */
const DOMAIN = /^(?:\*\.)?(?=[^*]{1,253}$)(?:(?!-)[a-z\d-]{1,63}(?<!-)\.)*(?!-|\d+$)[a-z\d-]{1,63}(?<!-)$/
const EMAIL = /^[^\s@,?&]{1,64}@[^\s@,?&]{1,255}$/
const BASE64URL = /^[\w-]{1,1024}={0,2}$/

/**
 * Checks the options of `acme`.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveAcmeOptions (input: unknown): ResolvedAcmeOptions {
  if (!isAcmeOptions(input)) throw new InvalidOptionsError(explain(SUBJECT, AcmeOptionsSchema, input))
  const { directoryUrl, email, dir, termsOfServiceAgreed, keyType = 'ecdsa', externalAccountBinding: binding, dns, ca, ...options } = input as AcmeOptions
  if (termsOfServiceAgreed !== true) throw notAllowed('termsOfServiceAgreed', termsOfServiceAgreed, 'true, once you have read the terms of service of the CA and agree')
  if (!isHttps(directoryUrl)) throw notAllowed('directoryUrl', directoryUrl, 'an https: URL')
  if (dir === '') throw notAllowed('dir', dir, 'the path of a directory of this app alone')
  if (email !== undefined && !EMAIL.test(email)) throw notAllowed('email', email, 'one address')
  const domains = [...new Set(options.domains.map((domain) => domain.toLowerCase()))].sort()
  if (domains.length > MOST_DOMAINS) throw new InvalidOptionsError(`${SUBJECT}: domains: there are ${domains.length}; allowed: up to ${MOST_DOMAINS}`)
  const wrong = domains.find((domain) => !DOMAIN.test(domain) || (domain.startsWith('*') && dns === undefined))
  if (wrong !== undefined) throw notAllowed('domains', wrong, `host names in ASCII, such as 'shop.example'${dns === undefined ? "; with the option dns, also wildcards such as '*.shop.example'" : ''}`)
  const notFunction = dns === undefined ? undefined : (['add', 'remove'] as const).find((name) => typeof dns[name] !== 'function')
  if (notFunction !== undefined) throw notAllowed(`dns: ${notFunction}`, dns![notFunction], 'a function')
  // A key in another form would be refused by the CA only. It is not shown.
  if (binding !== undefined && !BASE64URL.test(binding.hmacKey)) throw new InvalidOptionsError(`${SUBJECT}: externalAccountBinding: hmacKey: it is not base64url`)
  if (ca === '' || (typeof ca === 'object' && !(ca instanceof Uint8Array))) throw new InvalidOptionsError(`${SUBJECT}: ca: allowed are the path of a file, PEM text, or a Buffer`)
  const { href } = new URL(directoryUrl)
  return Object.freeze({
    directoryUrl: href,
    domains: Object.freeze(domains),
    email,
    dir: resolve(dir),
    keyType,
    binding: binding && { kid: binding.kid, hmacKey: Buffer.from(binding.hmacKey, 'base64url') },
    dns,
    ca: ca === undefined ? undefined : locate(ca),
    ids: { ca: idOf(href), certificate: idOf([...domains, keyType].join()) }
  })
}

function notAllowed (name: string, value: unknown, allowed: string): Error {
  return new InvalidOptionsError(`${SUBJECT}: ${name}: ${show(value)} is not allowed; allowed: ${allowed}`)
}

function idOf (text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
