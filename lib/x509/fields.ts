/**
 * The fields of a certificate (RFC 5280 §4.1) and its extensions (§4.2), not interpreted yet. Begin with `fieldsOf`,
 * `validityOf` and `extensionsIn`; the readers of small ASN.1 parts at the end are shared by all parsers of extensions.
 */
import { X509Certificate } from 'node:crypto'
import { BOOLEAN, contentOf, type Element, elementAt, elementOf, elementsIn, INTEGER, notDer, OBJECT_IDENTIFIER, OCTET_STRING, octetsOf, readOr, SEQUENCE, timeOf } from './der.ts'

const VERSION = 0xa0
const EXTENSIONS = 0xa3

/** Fields of the certificate, not parsed further. */
export interface CertificateFields {
  /** Absent in version 1. */
  readonly version: Element | undefined
  readonly serialNumber: Element
  /** The one next to the signature. It is signed only if it equals the one in the TBSCertificate: OpenSSL checks that. */
  readonly signatureAlgorithm: Element
  readonly issuer: Element
  readonly validity: Element
  readonly subject: Element
  /** The SubjectPublicKeyInfo. */
  readonly publicKey: Element
  /** Absent in version 1. */
  readonly extensions: Element | undefined
}

/** notBefore and notAfter, both inclusive, in milliseconds since the epoch; NaN where unreadable. */
export interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

/** The number of fields from serialNumber to validity: signature, issuer, validity. */
const FIELDS_TO_VALIDITY = 3

export const NO_VALIDITY: Validity = Object.freeze({ notBefore: NaN, notAfter: NaN })

/** The fields of a certificate. Throws where it is not DER: wrap it in `readOr`. */
export function fieldsOf (certificate: X509Certificate): CertificateFields {
  const [tbs, signatureAlgorithm] = elementsIn(elementOf(certificate.raw), SEQUENCE)
  const all = elementsIn(tbs, SEQUENCE)
  const version = all[0]?.tag === VERSION ? all[0] : undefined // absent in version 1
  const [serialNumber, , issuer, validity, subject, publicKey] = version === undefined ? all : all.slice(1)
  const extensions = all.find(({ tag }) => tag === EXTENSIONS)
  return { version, serialNumber, signatureAlgorithm, issuer, validity, subject, publicKey, extensions }
}

/**
 * The validity period of a certificate (RFC 5280 §4.1.2.5), in milliseconds since the epoch.
 *
 * NaN where unreadable. Comparisons with NaN are false: test whether now is inside the period, not whether it is outside.
 */
export function validityOf (certificate: X509Certificate): Validity {
  return readOr(() => {
    const { raw } = certificate
    const tbs = elementAt(raw, elementOf(raw).start, raw.length)
    // For speed, nothing after the validity is read: of each new certificate, this is all that is needed at first.
    let field = elementAt(raw, tbs.start, tbs.end)
    if (field.tag === VERSION) field = elementAt(raw, field.end, tbs.end)
    for (let left = FIELDS_TO_VALIDITY; left > 0; left--) field = elementAt(raw, field.end, tbs.end)
    const [notBefore, notAfter] = elementsIn(field, SEQUENCE)
    return Object.freeze({ notBefore: timeOf(notBefore), notAfter: timeOf(notAfter) })
  }, NO_VALIDITY)
}

/**
 * The value of one extension, by the content octets of its object identifier, or undefined.
 * Throws where it is there twice, which RFC 5280 §4.2 forbids, or where the certificate is not DER.
 */
export function extensionOf (certificate: X509Certificate, identifier: Buffer): Buffer | undefined {
  const { extensions } = fieldsOf(certificate)
  if (extensions === undefined) return undefined
  let found: Element | undefined
  for (const extension of elementsIn(elementsIn(extensions, EXTENSIONS)[0], SEQUENCE)) {
    const parts = elementsIn(extension, SEQUENCE)
    if (!isNamed(parts[0], identifier)) continue
    if (found !== undefined) throw new RangeError('An extension is there twice')
    found = parts.at(-1) // `critical` is optional
  }
  return found && contentOf(found, OCTET_STRING)
}

/** Without a copy of the octets: a certificate has ten extensions. */
function isNamed (name: Element | undefined, identifier: Buffer): boolean {
  return name?.tag === OBJECT_IDENTIFIER && name.bytes.compare(identifier, 0, identifier.length, name.start, name.end) === 0
}

/** The certificate in these bytes. Undefined where they are anything else: Node also accepts trailing bytes, and PEM. */
export function certificateOf (der: Buffer): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(der)
    return certificate.raw.equals(der) ? certificate : undefined
  } catch {
    return undefined
  }
}

// Extensions of certificates and CRLs (RFC 5280 §4.2 and §5.2), and readers of their parts
// Anything but well-formed DER is an error. OpenSSL reads more than DER (a string in pieces, a padded length), and what it
// reads must never be read differently here, or be missed.

export interface Extension {
  readonly isCritical: boolean
  /** The content of the OCTET STRING. */
  readonly value: Buffer
}

/** By object identifier: its content octets, as of `octetsOf`, in Latin-1. */
export type Extensions = ReadonlyMap<string, Extension>

/** The key of an object identifier in {@link Extensions}; also used to compare other object identifiers. */
export function idOf (dotted: string): string {
  return octetsOf(dotted).toString('latin1')
}

/** The same key, of an object identifier that was parsed. */
export function idNamedBy (identifier: Element | undefined): string {
  return contentOf(identifier, OBJECT_IDENTIFIER).toString('latin1')
}

/** A non-negative INTEGER; Infinity where it has more than six octets. */
export function integerOf (element: Element | undefined): number {
  const content = contentOf(element, INTEGER)
  if (!isShortest(element!) || content[0] >= 0x80) throw notDer()
  return content.length > 6 ? Infinity : content.readUIntBE(0, content.length)
}

/** Whether an INTEGER is in the shortest form (X.690 §8.3.2). */
export function isShortest ({ bytes, start, end }: Element): boolean {
  if (start === end) return false
  const [first, second] = [bytes[start], bytes[start + 1]]
  return end === start + 1 || (first === 0 ? second >= 0x80 : first !== 0xff || second < 0x80)
}

/** The extensions of a certificate, CRL or OCSP answer: a SEQUENCE in an explicit tag. Empty where absent. */
export function extensionsIn (element: Element | undefined): Extensions {
  return element === undefined ? new Map<string, Extension>() : extensionsOf(onlyElementIn(element))
}

/** The extensions in a SEQUENCE, which has at least one (RFC 5280 §4.1). */
export function extensionsOf (sequence: Element): Extensions {
  const extensions = new Map<string, Extension>()
  for (const extension of elementsIn(sequence, SEQUENCE)) {
    const parts = elementsIn(extension, SEQUENCE)
    const id = idNamedBy(parts[0])
    if (extensions.has(id)) throw new RangeError('An extension is there twice')
    extensions.set(id, { isCritical: isCritical(parts), value: contentOf(parts.at(-1), OCTET_STRING) })
  }
  if (extensions.size === 0) throw notDer()
  return extensions
}

/** The parts of an extension are an identifier, an optional `critical`, and a value. FALSE is not written (X.690 §11.5). */
function isCritical (parts: readonly Element[]): boolean {
  if (parts.length === 2) return false
  if (parts.length !== 3 || !booleanOf(parts[1])) throw notDer()
  return true
}

/** A BOOLEAN. BER allows 255 values for TRUE, and OpenSSL accepts all of them; DER allows one. */
export function booleanOf (element: Element): boolean {
  const content = contentOf(element, BOOLEAN)
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw notDer()
  return content[0] !== 0
}

/** The elements of an extension whose value is a SEQUENCE. */
export function partsOf ({ value }: Extension): Element[] {
  return elementsIn(elementOf(value), SEQUENCE)
}

/** The one element inside of an explicit tag. */
export function onlyElementIn (element: Element): Element {
  const [inner, ...more] = elementsIn(element, element.tag)
  if (inner === undefined || more.length > 0) throw notDer()
  return inner
}

/** Removes and returns the first element where it has one of these tags: for optional fields. */
export function takeFrom (elements: Element[], ...tags: readonly number[]): Element | undefined {
  return elements.length > 0 && tags.includes(elements[0].tag) ? elements.shift() : undefined
}

/** Throws where elements are left over. */
export function assertTaken (elements: readonly Element[]): void {
  if (elements.length > 0) throw notDer()
}
