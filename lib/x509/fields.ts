/**
 * Where things are in a certificate (RFC 5280 §4.1).
 */
import { X509Certificate } from 'node:crypto'
import { BOOLEAN, contentOf, type Element, elementAt, elementOf, elementsIn, INTEGER, notDer, OBJECT_IDENTIFIER, OCTET_STRING, octetsOf, readOr, SEQUENCE, timeOf } from './der.ts'

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

/**
 * The extensions of certificates and revocation lists (RFC 5280 §4.2), and the small parts that they are made of.
 *
 * Everything is exactly what it should be, or an error: OpenSSL reads more than DER (a string in pieces, a length that is
 * padded), and what it reads there must not be something else here, or nothing.
 */

export interface Extension {
  readonly isCritical: boolean
  /** What is inside of the OCTET STRING. */
  readonly value: Buffer
}

/** By the content octets of their object identifiers, as `octetsOf` has them, in Latin-1. */
export type Extensions = ReadonlyMap<string, Extension>

/** The key of an extension, or of anything else that an object identifier names. */
export function idOf (dotted: string): string {
  return octetsOf(dotted).toString('latin1')
}

/** The same of one that was read. */
export function idNamedBy (identifier: Element | undefined): string {
  return contentOf(identifier, OBJECT_IDENTIFIER).toString('latin1')
}

/** An INTEGER that is not negative; Infinity where it has more than six octets. */
export function integerOf (element: Element | undefined): number {
  const content = contentOf(element, INTEGER)
  if (!isShortest(element!) || content[0] >= 0x80) throw notDer()
  return content.length > 6 ? Infinity : content.readUIntBE(0, content.length)
}

/** Whether the content is that of an INTEGER in the shortest form (X.690 §8.3.2). */
export function isShortest ({ bytes, start, end }: Element): boolean {
  if (start === end) return false
  const [first, second] = [bytes[start], bytes[start + 1]]
  return end === start + 1 || (first === 0 ? second >= 0x80 : first !== 0xff || second < 0x80)
}

/** The extensions of a certificate or of a revocation list: a SEQUENCE in its own explicit tag. */
export function extensionsIn (element: Element | undefined): Extensions {
  return element === undefined ? new Map<string, Extension>() : extensionsOf(onlyElementIn(element))
}

/** One extension or more (RFC 5280 §4.1). */
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

/** Whether the parts of an extension say so: an identifier, `critical` or not, and a value. The default is not spelled out (X.690 §11.5). */
function isCritical (parts: readonly Element[]): boolean {
  if (parts.length === 2) return false
  if (parts.length !== 3 || !booleanOf(parts[1])) throw notDer()
  return true
}

/** BER has 255 ways to say true, and OpenSSL knows them all. */
export function booleanOf (element: Element): boolean {
  const content = contentOf(element, BOOLEAN)
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw notDer()
  return content[0] !== 0
}

/** The elements of an extension that is a SEQUENCE. */
export function partsOf ({ value }: Extension): Element[] {
  return elementsIn(elementOf(value), SEQUENCE)
}

/** What is inside of an explicit tag. */
export function onlyElementIn (element: Element): Element {
  const [inner, ...more] = elementsIn(element, element.tag)
  if (inner === undefined || more.length > 0) throw notDer()
  return inner
}

/** The first of `elements`, taken out of there, if it has one of these tags: for parts that may be left out. */
export function takeFrom (elements: Element[], ...tags: readonly number[]): Element | undefined {
  return elements.length > 0 && tags.includes(elements[0].tag) ? elements.shift() : undefined
}

/** Throws where not everything was taken. */
export function assertTaken (elements: readonly Element[]): void {
  if (elements.length > 0) throw notDer()
}

/** The certificate that the bytes are, and nothing else: Node ignores what follows one, and reads PEM, too. */
export function certificateOf (der: Buffer): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(der)
    return certificate.raw.equals(der) ? certificate : undefined
  } catch {
    return undefined
  }
}
