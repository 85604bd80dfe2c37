/**
 * Distinguished names as they are compared (RFC 5280 §7.1): case and white space do not matter, nor which string type
 * an issuer chose. The same as OpenSSL's canonical encoding, so that both find the same issuers and subtrees.
 */
import { BIT_STRING, contentOf, elementsIn, notDer, OBJECT_IDENTIFIER, SEQUENCE, SET } from '../der.ts'
import type { Element } from '../der.ts'
import { hexOf, textOf } from '../text.ts'

/** UTF8String, PrintableString, TeletexString, IA5String, UniversalString, BMPString; not NumericString. OpenSSL takes no other text in a name. */
const FOLDED: ReadonlySet<number> = new Set([0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e])

export interface CanonicalAttribute {
  readonly type: Element
  readonly value: Element
}

/**
 * A name as text that is equal for equal names, and that starts with the text of another name if that is a subtree it
 * is in. Each RDN is a JSON array, whose end nothing inside of it looks like. Throws when it is no name.
 */
export function canonicalName (element: Element): string {
  return elementsIn(element, SEQUENCE).map((rdn) => canonicalRdn(rdn)).join('')
}

/** One part of a name, with which a name goes on; it may have a tag of its own. Throws when it is none. */
export function canonicalRdn (element: Element, tag: number = SET): string {
  // DER sorts a SET, other encoders may not.
  return JSON.stringify(attributesIn(element, tag).map(canonicalAttribute).sort())
}

/**
 * The attributes of a name, by RDN. Throws when it is no name, or one that OpenSSL reads as another: it drops RDNs
 * without an attribute, and takes a string in pieces (constructed, as BER has it) for one of the same type.
 */
export function rdnsOf (element: Element): CanonicalAttribute[][] {
  return elementsIn(element, SEQUENCE).map((rdn) => attributesIn(rdn, SET))
}

/** Letters of ASCII in lower case, all else as it is: no locale, no Unicode. */
export function lowerCase (text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

function attributesIn (rdn: Element, tag: number): CanonicalAttribute[] {
  const attributes = elementsIn(rdn, tag).map(attributeOf)
  if (attributes.length === 0) throw notDer()
  return attributes
}

function attributeOf (element: Element): CanonicalAttribute {
  const [type, value, ...more] = elementsIn(element, SEQUENCE)
  if (value === undefined || more.length > 0 || (value.tag >= 0x20 && value.tag !== SEQUENCE)) throw notDer()
  return { type, value }
}

function canonicalAttribute ({ type, value }: CanonicalAttribute): string {
  if (value.tag === BIT_STRING && !isPadded(contentOf(value, BIT_STRING))) throw notDer()
  return `${contentOf(type, OBJECT_IDENTIFIER).toString('hex')}=${FOLDED.has(value.tag) ? folded(value) : hexOf(value)}`
}

/** With zeros (X.690 §11.2.1), where OpenSSL looks at none of the bits that are no part of it. */
function isPadded (content: Buffer): boolean {
  const unused = (1 << content[0]!) - 1
  return content.length === 1 ? unused === 0 : (content.at(-1)! & unused) === 0
}

/** With quotation marks, which no hexadecimal form has. */
function folded (value: Element): string {
  return `"${lowerCase(textOf(value).replace(/[ \t-\r]+/g, ' ').replace(/^ | $/g, ''))}"`
}
