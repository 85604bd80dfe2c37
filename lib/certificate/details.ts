/**
 * What `request.clientCertificateGetDetails()` answers.
 */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from './fields.ts'
import { formatName, issuerOf, subjectOf } from './names.ts'

export { validityOf } from './fields.ts'
export type { Validity } from './fields.ts'

/** Bits of {@link CertificateDetails.flags}. */
const PRESENT = 1
const ISSUER_UNKNOWN = 2

/** A client certificate as it was presented, whether valid or not. Frozen. */
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

/** What is known of a certificate and its connection beside its bytes. */
export interface DetailsInput {
  /** The verdict. Never believed of a certificate that is absent. */
  readonly isValid: boolean
  /** Its issuer is one the server recognises. */
  readonly isIssuerKnown: boolean
  /** Names of the server's own certificate. */
  readonly server?: ServerNames
}

/** The server's own certificate in words: worked out once for each certificate, not for each connection. */
export interface ServerNames {
  readonly subject: string
  readonly issuer: string
}

const NO_NAMES: ServerNames = Object.freeze({ subject: '', issuer: '' })

/** Describes a server's certificate for {@link describeCertificate}. */
export function serverNamesOf (certificate: X509Certificate | undefined): ServerNames {
  return Object.freeze({ subject: formatName(subjectOf(certificate)), issuer: formatName(issuerOf(certificate)) })
}

/** Describes the certificate that a client presented, or that none was. Frozen; never throws. */
export function describeCertificate (certificate: X509Certificate | undefined, facts: DetailsInput): CertificateDetails {
  const { subject: serverSubject, issuer: serverIssuer } = facts.server ?? NO_NAMES
  if (certificate === undefined) {
    return Object.freeze({
      isPresent: false,
      isValid: false,
      flags: 0,
      cookie: '',
      subject: '',
      issuer: '',
      serialNumber: '',
      validFrom: null,
      validUntil: null,
      serverSubject,
      serverIssuer
    })
  }
  const { notBefore, notAfter } = validityOf(certificate)
  return Object.freeze({
    isPresent: true,
    isValid: facts.isValid,
    flags: facts.isIssuerKnown ? PRESENT : PRESENT | ISSUER_UNKNOWN,
    cookie: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    subject: formatName(subjectOf(certificate)),
    issuer: formatName(issuerOf(certificate)),
    serialNumber: formatSerialNumber(certificate.serialNumber),
    // Dates cannot be frozen, and this object is handed out again and again: everybody gets one of their own.
    get validFrom () { return toDate(notBefore) },
    get validUntil () { return toDate(notAfter) },
    serverSubject,
    serverIssuer
  })
}

/** Node prints hex that may have an odd number of digits, `0` for zero, and `-05` for a negative number. */
function formatSerialNumber (text: string): string {
  const sign = text.startsWith('-') ? '-' : ''
  const digits = text.slice(sign.length)
  const even = digits.padStart(digits.length + digits.length % 2, '0')
  return sign + even.replace(/..(?!$)/g, '$&-')
}

function toDate (time: number): Date | null {
  return Number.isNaN(time) ? null : new Date(time)
}
