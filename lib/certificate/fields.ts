/**
 * Where things are in a certificate (RFC 5280 §4.1).
 */
import type { X509Certificate } from 'node:crypto'
import { contentOf, elementAt, elementOf, elementsIn, OBJECT_IDENTIFIER, OCTET_STRING, readOr, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { timeOf } from './text.ts'

const VERSION = 0xa0
const EXTENSIONS = 0xa3

/** Fields of the TBSCertificate, not looked into yet. */
export interface CertificateFields {
  /** Absent in certificates of version 1. */
  readonly version: Element | undefined
  readonly serialNumber: Element
  /** The outer one, beside the signature: it is signed only if it equals the inner one, which OpenSSL checks. */
  readonly signatureAlgorithm: Element
  readonly issuer: Element
  readonly validity: Element
  readonly subject: Element
  /** The SubjectPublicKeyInfo. */
  readonly publicKey: Element
  /** Absent in certificates of version 1. */
  readonly extensions: Element | undefined
}

/** Both ends of a certificate's validity, inclusive, in milliseconds since the epoch; NaN when unreadable. */
export interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

/** From the serial number on: signature, issuer, validity. */
const FIELDS_TO_VALIDITY = 3

const NO_VALIDITY: Validity = Object.freeze({ notBefore: NaN, notAfter: NaN })

/** The fields of a certificate. Throws when its bytes are not DER: wrap it in `readOr`. */
export function fieldsOf (certificate: X509Certificate): CertificateFields {
  const [tbs, signatureAlgorithm] = elementsIn(elementOf(certificate.raw), SEQUENCE)
  const all = elementsIn(tbs, SEQUENCE)
  const version = all[0]?.tag === VERSION ? all[0] : undefined // a certificate of version 1 does not say so
  const [serialNumber, , issuer, validity, subject, publicKey] = version === undefined ? all : all.slice(1)
  const extensions = all.find(({ tag }) => tag === EXTENSIONS)
  return { version, serialNumber, signatureAlgorithm, issuer, validity, subject, publicKey, extensions }
}

/**
 * When a certificate is valid, in milliseconds since the epoch (RFC 5280 §4.1.2.5).
 *
 * NaN when unreadable, which is neither before nor after anything: ask whether now is inside, not whether it is outside.
 */
export function validityOf (certificate: X509Certificate): Validity {
  return readOr(() => {
    const { raw } = certificate
    const tbs = elementAt(raw, elementOf(raw).start, raw.length)
    // Every new certificate is asked for this, and for nothing else: what comes after it is not looked at.
    let field = elementAt(raw, tbs.start, tbs.end)
    if (field.tag === VERSION) field = elementAt(raw, field.end, tbs.end)
    for (let left = FIELDS_TO_VALIDITY; left > 0; left--) field = elementAt(raw, field.end, tbs.end)
    const [notBefore, notAfter] = elementsIn(field, SEQUENCE)
    return Object.freeze({ notBefore: timeOf(notBefore), notAfter: timeOf(notAfter) })
  }, NO_VALIDITY)
}

/**
 * The value of the extension with this object identifier (content octets), or undefined.
 * Throws where there are two of it, which RFC 5280 §4.2 forbids, or the bytes are not DER.
 */
export function extensionOf (certificate: X509Certificate, identifier: Buffer): Buffer | undefined {
  const { extensions } = fieldsOf(certificate)
  if (extensions === undefined) return undefined
  const found = elementsIn(elementsIn(extensions, EXTENSIONS)[0], SEQUENCE)
    .map((extension) => elementsIn(extension, SEQUENCE))
    .filter(([name]) => contentOf(name, OBJECT_IDENTIFIER).equals(identifier))
  if (found.length > 1) throw new RangeError('An extension is there twice')
  return found.length === 0 ? undefined : contentOf(found[0].at(-1), OCTET_STRING) // after an optional `critical`
}
