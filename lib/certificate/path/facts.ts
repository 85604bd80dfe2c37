/**
 * What the verification of a path asks of a certificate, read from its bytes once.
 */
import type { X509Certificate } from 'node:crypto'
import { BOOLEAN, contentOf, elementOf, elementsIn, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, readOr, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { type CertificateFields, fieldsOf, type Validity, validityOf } from '../fields.ts'
import { octetsOf } from '../object-identifiers.ts'
import { canonicalName } from './canonical.ts'

export interface Extension {
  readonly isCritical: boolean
  /** What is inside of the OCTET STRING. */
  readonly value: Buffer
}

/** By the content octets of their object identifiers, as `octetsOf` has them, in Latin-1. */
export type Extensions = ReadonlyMap<string, Extension>

export interface Facts {
  readonly certificate: X509Certificate
  readonly fields: CertificateFields
  readonly validity: Validity
  readonly extensions: Extensions
  /** In canonical form. */
  readonly subject: string
  readonly issuer: string
}

export const NO_EXTENSIONS: Extensions = new Map()

/** The key of an extension, or of anything else that an object identifier names. */
export function idOf (dotted: string): string {
  return octetsOf(dotted).toString('latin1')
}

/** The same of one that was read. */
export function nameOf (identifier: Element | undefined): string {
  return contentOf(identifier, OBJECT_IDENTIFIER).toString('latin1')
}

/** An INTEGER that is not negative; Infinity where it has more than six octets. */
export function integerOf (element: Element): number {
  const content = contentOf(element, INTEGER)
  return content.length > 6 ? Infinity : content.readUIntBE(0, content.length)
}

/** Throws where the certificate is not DER, or has an extension twice (RFC 5280 §4.2). */
export function factsOf (certificate: X509Certificate): Facts {
  const fields = fieldsOf(certificate)
  return {
    certificate,
    fields,
    validity: validityOf(certificate),
    extensions: fields.extensions === undefined ? NO_EXTENSIONS : extensionsIn(fields.extensions),
    subject: canonicalName(fields.subject),
    issuer: canonicalName(fields.issuer)
  }
}

/** Those that can be read. */
export function readableFacts (certificates: readonly X509Certificate[]): Facts[] {
  return certificates.flatMap((certificate) => readOr(() => [factsOf(certificate)], []))
}

/** Its issuer has the same name (RFC 5280 §6.1): the same authority with another key, or a root. */
export function isSelfIssued ({ subject, issuer }: Facts): boolean {
  return subject === issuer
}

/** The extensions of a certificate or of a revocation list: a SEQUENCE in its own explicit tag. */
export function extensionsIn (element: Element): Extensions {
  const extensions = new Map<string, Extension>()
  for (const extension of elementsIn(elementsIn(element, element.tag)[0], SEQUENCE)) {
    const parts = elementsIn(extension, SEQUENCE)
    const id = nameOf(parts[0])
    if (extensions.has(id)) throw new RangeError('An extension is there twice')
    extensions.set(id, { isCritical: isCritical(parts), value: contentOf(parts.at(-1), OCTET_STRING) })
  }
  return extensions
}

/** Whether the parts of an extension say so. BER has 255 ways to say true, and OpenSSL knows them all. */
export function isCritical (parts: readonly Element[]): boolean {
  return parts[1].tag === BOOLEAN && contentOf(parts[1], BOOLEAN).some((octet) => octet !== 0)
}

/** The elements of an extension that is a SEQUENCE. */
export function partsOf ({ value }: Extension): Element[] {
  return elementsIn(elementOf(value), SEQUENCE)
}
