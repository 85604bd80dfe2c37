/**
 * What `request.clientCertificateValue(key)` answers for a certificate that is valid.
 */
import type { X509Certificate } from 'node:crypto'
import { alternativeNamesOf, formatAlternativeName } from './alternative-names.ts'
import { attributeKeys } from './attribute-types.ts'
import type { CertificateDetails } from './details.ts'
import { keyBits, publicKeyOf } from './keys.ts'
import { attributeValue, issuerOf, subjectOf } from './names.ts'
import type { Name } from './names.ts'

/** Where values come from. The caller asks only when the certificate is valid. */
export interface ValueInput {
  readonly certificate: X509Certificate
  readonly details: CertificateDetails
  /** The server's own certificate on this connection. */
  readonly server?: X509Certificate
}

type Read = (source: ValueInput) => string
type ValueRow = readonly [key: string, read: Read]

/** Fields of the details, as text: booleans as `true` or `false`, numbers in decimal, dates as HTTP dates. */
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

/** Each attribute of each of the four names: `SubjectCN`, `ServerIssuerO`. */
const attributes: readonly ValueRow[] = [
  ...attributesOf('Subject', ({ certificate }) => subjectOf(certificate)),
  ...attributesOf('Issuer', ({ certificate }) => issuerOf(certificate)),
  ...attributesOf('ServerSubject', ({ server }) => subjectOf(server)),
  ...attributesOf('ServerIssuer', ({ server }) => issuerOf(server))
]

const others: readonly ValueRow[] = [
  ['KeySize', ({ certificate }) => bits(certificate)],
  ['SecretKeySize', ({ server }) => bits(server)],
  ['Certificate', ({ certificate }) => certificate.raw.toString('base64')],
  ['PublicKey', ({ certificate }) => publicKeyOf(certificate)],
  ['Encoding', () => '1'], // X.509 in ASN.1, the only one there is
  ['Fingerprint256', ({ certificate }) => certificate.fingerprint256],
  ['SubjectAltName', ({ certificate }) => alternativeNamesOf(certificate).map(formatAlternativeName).join(';')],
  ...['DNS', 'URI', 'email', 'IP'].map((kind): ValueRow => [`SAN:${kind}`, ({ certificate }) => alternativeValues(certificate, kind)])
]

const entries: readonly ValueRow[] = [...fields, ...attributes, ...others]
const readers: ReadonlyMap<string, Read> = new Map(entries.map(([key, read]) => [key.toLowerCase(), read]))

/** Every key, as it is documented. */
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
 * | `SubjectAltName` | `DNS:a.test;IP:::1` |
 * | `SAN:DNS`, `SAN:URI`, `SAN:email`, `SAN:IP` | values of one kind, joined with `;` |
 *
 * Nothing is worked out before it is asked for. Answers stay the same for a certificate, so that callers can keep them;
 * keep those that are not empty only, as keys may come from anywhere.
 */
export function certificateValue (key: string, source: ValueInput): string {
  if (typeof key !== 'string') return ''
  return readers.get(key.toLowerCase())?.(source) ?? ''
}

function attributesOf (prefix: string, nameOf: (source: ValueInput) => Name): ValueRow[] {
  return attributeKeys.map((key) => [`${prefix}${key}`, (source) => attributeValue(nameOf(source), key)])
}

function alternativeValues (certificate: X509Certificate, kind: string): string {
  return alternativeNamesOf(certificate).filter((name) => name.kind === kind).map(({ value }) => value).join(';')
}

function bits (certificate: X509Certificate | undefined): string {
  return String(keyBits(certificate) ?? '')
}

/** IMF-fixdate (RFC 9110 §5.6.7), or empty. */
function httpDate (date: Date | null): string {
  return date?.toUTCString() ?? ''
}
