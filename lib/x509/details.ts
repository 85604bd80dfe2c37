/**
 * A certificate as values for applications: `describeCertificate` (`request.clientCertificateGetDetails()`) and
 * `certificateValue` (`request.clientCertificateValue(key)`).
 */
import type { X509Certificate } from 'node:crypto'
import { attributeKeys, attributeValue, formatName, issuerOf, type Name, subjectOf } from './distinguished-names.ts'
import { formatAlternativeName } from './general-names.ts'
import { keyBits, publicKeyOf } from './keys.ts'
import type { KnownCertificate } from './known-certificate.ts'

export { validityOf } from './fields.ts'
export type { Validity } from './fields.ts'
export { knownOf, WholeCertificate } from './known-certificate.ts'

/** Bits of {@link CertificateDetails.flags}. */
const PRESENT = 1
const ISSUER_UNKNOWN = 2

/**
 * A client certificate as it was presented, whether valid or not. Frozen. Of one that a proxy has only described, what is not
 * known is empty or null.
 */
export interface CertificateDetails {
  /** A certificate was presented. */
  readonly isPresent: boolean
  /** It is present and valid in every respect but the route's rules; false when absent. */
  readonly isValid: boolean
  /** Bit 0 (1): present. Bit 1 (2): its issuer is not one the server recognises. 0 when absent. */
  readonly flags: number
  /** A stable id: the SHA-256 fingerprint of the DER, 64 lower-case hex digits; empty when absent. */
  readonly cookie: string
  /** `C=PT, O=Acme, CN=Jane`, in the certificate's order (RFC 5280 §4.1.2.6); may be empty. */
  readonly subject: string
  /** The same of its issuer (RFC 5280 §4.1.2.4). */
  readonly issuer: string
  /**
   * Bytes in upper-case hex with hyphens, `04-67-F3-02` (RFC 5280 §4.1.2.2); zero is `00`. A negative one, which the RFC
   * forbids and asks to be handled gracefully, is its magnitude after a hyphen: `-05`.
   */
  readonly serialNumber: string
  /** The first moment of its validity (RFC 5280 §4.1.2.5), a new Date each time; null when absent or unreadable. */
  readonly validFrom: Date | null
  /** The last moment of its validity. */
  readonly validUntil: Date | null
  /** The subject of the server's own certificate on this connection; empty where no client certificate is present. */
  readonly serverSubject: string
  /** The issuer of the server's own certificate on this connection. */
  readonly serverIssuer: string
}

/** What is known of a certificate and its connection besides its bytes. */
interface DetailsInput {
  /** The verdict. */
  readonly isValid: boolean
  /** Its issuer is one the server recognises. */
  readonly isIssuerKnown: boolean
  /** Of the server's own certificate on this connection. */
  readonly server?: CertificateNames
}

/** The names in a certificate, as text; of the server's own one they are computed once for each certificate, not for each connection. */
export interface CertificateNames {
  readonly subject: string
  readonly issuer: string
}

const NO_NAMES: CertificateNames = Object.freeze({ subject: '', issuer: '' })

/** The names in a certificate, `C=PT, O=Acme, CN=Jane`. */
export function namesOf ({ subject, issuer }: KnownCertificate): CertificateNames {
  return Object.freeze({ subject: formatName(subject), issuer: formatName(issuer) })
}

/** All alternative names as text: `DNS:a.test;IP:::1`. */
export function formatAlternativeNames ({ alternativeNames }: KnownCertificate): string {
  return alternativeNames.map(formatAlternativeName).join(';')
}

/** Describes the certificate that a client presented, valid or not. Frozen; never throws. */
export function describeCertificate (certificate: KnownCertificate, input: DetailsInput): CertificateDetails {
  const { subject: serverSubject, issuer: serverIssuer } = input.server ?? NO_NAMES
  const { notBefore, notAfter } = certificate.validity
  return Object.freeze({
    isPresent: true,
    isValid: input.isValid,
    flags: input.isIssuerKnown ? PRESENT : PRESENT | ISSUER_UNKNOWN,
    cookie: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    subject: formatName(certificate.subject),
    issuer: formatName(certificate.issuer),
    serialNumber: formatSerialNumber(certificate.serialNumber),
    // A Date cannot be frozen, and this object is returned many times: each caller gets a Date of its own.
    get validFrom () { return toDate(notBefore) },
    get validUntil () { return toDate(notAfter) },
    serverSubject,
    serverIssuer
  })
}

/** Node prints hex that may have an odd number of digits: `0` for zero, and `-05` for a negative number. */
function formatSerialNumber (text: string): string {
  const sign = text.startsWith('-') ? '-' : ''
  const digits = text.slice(sign.length)
  const even = digits.padStart(digits.length + digits.length % 2, '0')
  return sign + even.replace(/..(?!$)/g, '$&-')
}

function toDate (time: number): Date | null {
  return Number.isNaN(time) ? null : new Date(time)
}

// Single values, by key: only for a valid certificate

/** The sources of a value. The caller asks only when the certificate is valid. */
interface ValueInput {
  readonly certificate: KnownCertificate
  readonly details: CertificateDetails
  /** The server's own certificate on this connection. */
  readonly server?: X509Certificate
}

type Read = (source: ValueInput) => string
type ValueRow = readonly [key: string, read: Read]

/** The fields of the details as text: booleans as `true` or `false`, numbers in decimal, dates as HTTP dates. */
const fields: readonly ValueRow[] = [
  ['isPresent', ({ details }) => String(details.isPresent)],
  ['isValid', ({ details }) => String(details.isValid)],
  ['flags', ({ details }) => String(details.flags)],
  ['cookie', ({ details }) => details.cookie],
  ['subject', ({ details }) => details.subject],
  ['issuer', ({ details }) => details.issuer],
  ['serialNumber', ({ details }) => details.serialNumber],
  ['validFrom', ({ details }) => httpDate(details.validFrom)],
  ['validUntil', ({ details }) => httpDate(details.validUntil)],
  ['serverSubject', ({ details }) => details.serverSubject],
  ['serverIssuer', ({ details }) => details.serverIssuer]
]

/** Each attribute of each of the four names, such as `SubjectCN` and `ServerIssuerO`. */
const attributes: readonly ValueRow[] = [
  ...attributesOf('Subject', ({ certificate }) => certificate.subject),
  ...attributesOf('Issuer', ({ certificate }) => certificate.issuer),
  ...attributesOf('ServerSubject', ({ server }) => subjectOf(server)),
  ...attributesOf('ServerIssuer', ({ server }) => issuerOf(server))
]

const others: readonly ValueRow[] = [
  ['KeySize', ({ certificate: { whole } }) => bits(whole)],
  ['SecretKeySize', ({ server }) => bits(server)],
  ['Certificate', ({ certificate: { whole } }) => whole?.raw.toString('base64') ?? ''],
  ['PublicKey', ({ certificate: { whole } }) => whole === undefined ? '' : publicKeyOf(whole)],
  ['Encoding', ({ certificate: { whole } }) => whole === undefined ? '' : '1'], // X.509 in ASN.1, the only one there is
  ['Fingerprint256', ({ certificate }) => certificate.fingerprint256],
  ['x5t#S256', ({ certificate }) => Buffer.from(certificate.fingerprint256.replaceAll(':', ''), 'hex').toString('base64url')],
  ['SubjectAltName', ({ certificate }) => formatAlternativeNames(certificate)],
  ...['DNS', 'URI', 'email', 'IP', 'UPN'].map((kind): ValueRow => [`SAN:${kind}`, ({ certificate }) => alternativeValues(certificate, kind)])
]

const entries: readonly ValueRow[] = [...fields, ...attributes, ...others]
const readers: ReadonlyMap<string, Read> = new Map(entries.map(([key, read]) => [key.toLowerCase(), read]))

/** Every key, in the case that is documented. */
export const certificateValueKeys: readonly string[] = Object.freeze(entries.map(([key]) => key))

/**
 * One value of a client certificate, always a string; empty when the certificate has no such value or there is no such key.
 *
 * | key, in any case | value |
 * |---|---|
 * | any field of {@link CertificateDetails} | booleans as `true` and `false`, flags in decimal, `ValidFrom` and `ValidUntil` as HTTP dates (RFC 9110 §5.6.7) |
 * | `Subject`, `Issuer`, `ServerSubject`, `ServerIssuer` and CN, C, L, O, OU, S or ST, T, GN, I, E or Email, SERIALNUMBER, DC, UID | the raw value, repeated ones joined with `;` |
 * | `KeySize`, `SecretKeySize` | bits of the client's and of the server's key |
 * | `Certificate`, `PublicKey` | base64 of the DER; of the SubjectPublicKeyInfo |
 * | `Encoding` | `1` |
 * | `Fingerprint256` | as Node and OpenSSL print it: upper-case hex with colons |
 * | `x5t#S256` | base64url of the SHA-256 of the DER (RFC 8705 §3.1), as in the `cnf` of a bound token |
 * | `SubjectAltName` | `DNS:a.test;IP:::1` |
 * | `SAN:DNS`, `SAN:URI`, `SAN:email`, `SAN:IP`, `SAN:UPN` | values of one kind, joined with `;` |
 *
 * A value is computed only when it is asked for. It never changes for a certificate, so that callers can cache it; cache only
 * values that are not empty, as keys may come from anywhere.
 */
export function certificateValue (key: string, source: ValueInput): string {
  if (typeof key !== 'string') return ''
  return readers.get(key.toLowerCase())?.(source) ?? ''
}

function attributesOf (prefix: string, nameOf: (source: ValueInput) => Name): ValueRow[] {
  return attributeKeys.map((key) => [`${prefix}${key}`, (source) => attributeValue(nameOf(source), key)])
}

function alternativeValues ({ alternativeNames }: KnownCertificate, kind: string): string {
  return alternativeNames.filter((name) => name.kind === kind).map(({ value }) => value).join(';')
}

function bits (certificate: X509Certificate | undefined): string {
  return String(keyBits(certificate) ?? '')
}

/** An IMF-fixdate (RFC 9110 §5.6.7), or empty. */
function httpDate (date: Date | null): string {
  return date?.toUTCString() ?? ''
}
