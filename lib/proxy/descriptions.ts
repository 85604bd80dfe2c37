/**
 * Reads what a proxy says of a client's certificate instead of forwarding it: Envoy's header without `Cert`, as Istio sets it,
 * and distinguished names. Begin with {@link createReadDescription}. Loaded only where a proxy is so configured.
 */
import { describedCertificate, type DescribedCertificate } from '../x509/known-certificate.ts'
import { readNameString } from '../x509/name-strings.ts'
import type { Description } from './presets.ts'

/** How a proxy describes a certificate. */
export interface DescribedBy {
  /** The header that has the description. */
  readonly header: string
  readonly encoding: Description
  /** The header that has the fingerprint, if any has. */
  readonly fingerprint: string | undefined
}

/**
 * @param text the value of the header
 * @param fingerprint that of the header with the fingerprint
 * @returns a string that says what is wrong, for the log
 */
export type ReadDescription = (text: string, fingerprint: string | undefined) => DescribedCertificate | string

export function createReadDescription (by: DescribedBy): ReadDescription {
  return by.encoding === 'dn' ? (text, fingerprint) => readDn(by, text, fingerprint) : (text) => readXfcc(by, text)
}

// Distinguished names

/** An escaped space at the very end, without the space: HTTP strips white space at the end of a value. */
const ENDS_WITH_SPACE = /(?:^|[^\\])(?:\\\\)*\\$/

function readDn ({ header, fingerprint: fingerprintHeader }: DescribedBy, text: string, given: string | undefined): DescribedCertificate | string {
  // In this form of OpenSSL, a value may look like an attribute: /CN=x/O=Acme is one of two names.
  if (text.startsWith('/')) return `${header} has OpenSSL's one-line form, in which a name can imitate another one; write nginx: $ssl_client_s_dn, not $ssl_client_s_dn_legacy; HAProxy: ssl_c_s_dn(,0,rfc2253); Apache: no SSLOptions +LegacyDNStringFormat`
  const subject = readNameString(ENDS_WITH_SPACE.test(text) ? `${text} ` : text)
  if (typeof subject === 'string') return `${header} is not exactly a distinguished name (RFC 2253, RFC 4514): ${subject}`
  if (fingerprintHeader === undefined) return describedCertificate({ subject })
  const problem = problemOfFingerprint(given)
  return problem === undefined ? describedCertificate({ subject, fingerprint256: fingerprintOf(given!) }) : `${fingerprintHeader} ${problem}`
}

const SHA256 = /^[0-9A-Fa-f]{64}$/

function problemOfFingerprint (given: string | undefined): string | undefined {
  if (given === undefined) return 'is missing'
  if (SHA256.test(given)) return undefined
  return `is not a SHA-256: 64 hex digits, without colons${/^[0-9A-Fa-f]{40}$/.test(given) ? '. It is a SHA-1, which does not identify a certificate' : ''}`
}

/** As Node writes it. */
function fingerprintOf (hex: string): string {
  return hex.toUpperCase().replace(/..(?!$)/g, '$&:')
}

// Envoy's X-Forwarded-Client-Cert

/**
 * One element, and nothing else. Envoy writes URIs as they are, without quotes, and clients may choose theirs: with a comma, a
 * URI would begin another element, and with a semicolon another pair. The subject is escaped as in RFC 2253, so that its quotes
 * are no end. `URI` is empty where the certificate has none, and there is one for each that it has.
 */
const ELEMENT = /^By=[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+;Hash=([0-9A-Fa-f]{64});Subject="([^"\\]*(?:\\[^][^"\\]*)*)";URI=([\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]*)$/

function readXfcc ({ header }: DescribedBy, text: string): DescribedCertificate | string {
  const match = ELEMENT.exec(text)
  if (match === null) return `${header} is not exactly one element By=…;Hash=…;Subject="…";URI=…, which Envoy writes of a certificate with at most one URI (forward_client_cert_details: SANITIZE_SET; set_current_client_cert_details: subject and uri alone)`
  const [, hash, written, uri] = match
  const subject = readNameString(written!)
  if (typeof subject === 'string') return `Subject of ${header} is not exactly a distinguished name (RFC 2253): ${subject}`
  return describedCertificate({ subject, fingerprint256: fingerprintOf(hash!), ...uri !== '' && { alternativeNames: [{ kind: 'URI', value: uri! }] } })
}
