/**
 * Distinguished names (RFC 5280 §4.1.2.4): read exactly, printed so that no value passes for something else.
 */
import type { X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, dottedOf, type Element, elementsIn, hexOf, latin1, notDer, OBJECT_IDENTIFIER, octetsOf, readOr, SEQUENCE, SET, textOf } from './der.ts'
import { fieldsOf } from './fields.ts'

/** One attribute of a name. */
interface Attribute {
  /** The short name (`CN`, `emailAddress`), or the dotted object identifier of a type that has none. */
  readonly type: string
  /** The raw value, nothing escaped; `#` and the DER in hex when it is no string (RFC 4514 §2.4). */
  readonly value: string
}

/** Nearly always one attribute; several in a multi-valued RDN. */
type RelativeDistinguishedName = readonly Attribute[]

/** In the certificate's order: the most general part first, as a rule. */
export type Name = readonly RelativeDistinguishedName[]

const NO_NAME: Name = Object.freeze([])

/** The 65 control characters (C0, DEL and C1), made once: a certificate has room for 90,000 of them. */
const ESCAPES: ReadonlyMap<string, string> = new Map([...Array(0xa0).keys()]
  .map((code) => String.fromCharCode(code))
  .filter((character) => /\p{Control}/u.test(character))
  .map((character) => [character, Buffer.from(character).toString('hex').toUpperCase().replace(/../g, '\\$&')]))

/** The subject of a certificate (RFC 5280 §4.1.2.6); empty when it has none, is absent or is not DER. */
export function subjectOf (certificate: X509Certificate | undefined): Name {
  if (certificate === undefined) return NO_NAME
  return readOr(() => parseName(fieldsOf(certificate).subject), NO_NAME)
}

/** The issuer of a certificate (RFC 5280 §4.1.2.4); empty when it is absent or is not DER. */
export function issuerOf (certificate: X509Certificate | undefined): Name {
  if (certificate === undefined) return NO_NAME
  return readOr(() => parseName(fieldsOf(certificate).issuer), NO_NAME)
}

/** A name from its DER, frozen. Throws when it is none. */
export function parseName (element: Element): Name {
  return Object.freeze(elementsIn(element, SEQUENCE).map((set) => {
    const attributes = elementsIn(set, SET)
    if (attributes.length === 0) throw notDer()
    return Object.freeze(attributes.map(parseAttribute))
  }))
}

function parseAttribute (element: Element): Attribute {
  const parts = elementsIn(element, SEQUENCE)
  if (parts.length !== 2) throw notDer()
  return Object.freeze({ type: typeOf(parts[0]), value: textOf(parts[1]) })
}

/**
 * A name as one line: `C=PT, O=Acme, CN=Jane`, in the certificate's order, multi-valued RDNs joined by ` + `.
 *
 * A value with `,`, `+`, `;`, `"`, a control character or an edge space is in double quotes, with `"` and `\` escaped by
 * `\` and control characters as the hex of their UTF-8 (`\0D`), so that a line of a log stays one line.
 */
export function formatName (name: Name): string {
  return name.map((rdn) => rdn.map(formatAttribute).join(' + ')).join(', ')
}

function formatAttribute ({ type, value }: Attribute): string {
  if (!/[,+;"\p{Control}]|^ | $/u.test(value)) return `${type}=${value}`
  return `${type}="${value.replace(/["\\\p{Control}]/gu, (character) => ESCAPES.get(character) ?? `\\${character}`)}"`
}

/**
 * The raw values of an attribute, in the name's order.
 *
 * @param key CN, C, L, O, OU, S or ST, T (title), GN, I (initials), E or Email, SERIALNUMBER, DC, UID; in any case
 */
export function attributeValues (name: Name, key: string): string[] {
  const wanted = attributeTypeOf(key)
  return name.flat().filter(({ type }) => type === wanted).map(({ value }) => value)
}

/**
 * The raw value of an attribute, repeated ones joined with `;`, or an empty string.
 *
 * A value may contain `;` itself: to compare, take `attributeValues`.
 */
export function attributeValue (name: Name, key: string): string {
  return attributeValues(name, key).join(';')
}

/**
 * What the attributes of names are called (X.520, RFC 4519, PKCS #9, CA/Browser Forum).
 */

/** Object identifiers and the short names that OpenSSL, and so Node, prints. Any other is told as its dotted numbers. */
const SHORT_NAMES = {
  '2.5.4.3': 'CN',
  '2.5.4.4': 'SN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.12': 'title',
  '2.5.4.13': 'description',
  '2.5.4.15': 'businessCategory',
  '2.5.4.16': 'postalAddress',
  '2.5.4.17': 'postalCode',
  '2.5.4.18': 'postOfficeBox',
  '2.5.4.20': 'telephoneNumber',
  '2.5.4.41': 'name',
  '2.5.4.42': 'GN',
  '2.5.4.43': 'initials',
  '2.5.4.44': 'generationQualifier',
  '2.5.4.45': 'x500UniqueIdentifier',
  '2.5.4.46': 'dnQualifier',
  '2.5.4.65': 'pseudonym',
  '2.5.4.72': 'role',
  '2.5.4.97': 'organizationIdentifier',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.3': 'mail',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
  '1.2.840.113549.1.9.2': 'unstructuredName',
  '1.2.840.113549.1.9.8': 'unstructuredAddress',
  '1.3.6.1.4.1.311.60.2.1.1': 'jurisdictionL',
  '1.3.6.1.4.1.311.60.2.1.2': 'jurisdictionST',
  '1.3.6.1.4.1.311.60.2.1.3': 'jurisdictionC'
}

/** By the content octets as Latin-1, so that known types are found without being decoded. */
const NAMES_BY_OCTETS: ReadonlyMap<string, string> = new Map(
  Object.entries(SHORT_NAMES).map(([dotted, name]) => [octetsOf(dotted).toString('latin1'), name]))

/** Keys that attributes are asked for by, and the short name each stands for. */
const TYPES_BY_KEY: ReadonlyMap<string, string> = new Map(Object.entries({
  CN: 'CN',
  C: 'C',
  L: 'L',
  O: 'O',
  OU: 'OU',
  S: 'ST',
  ST: 'ST',
  T: 'title',
  GN: 'GN',
  I: 'initials',
  E: 'emailAddress',
  EMAIL: 'emailAddress',
  SERIALNUMBER: 'serialNumber',
  DC: 'DC',
  UID: 'UID'
}))

/** Every attribute key, in upper case. */
export const attributeKeys: readonly string[] = Object.freeze([...TYPES_BY_KEY.keys()])

/** The short name of an attribute type, or its dotted object identifier when it has none. Throws when it is no OID. */
function typeOf (element: Element | undefined): string {
  if (element?.tag !== OBJECT_IDENTIFIER) throw notDer()
  return NAMES_BY_OCTETS.get(latin1(element)) ?? dottedOf(contentOf(element, OBJECT_IDENTIFIER))
}

/** The attribute type that a key (`CN`, `s`, `Email`) asks for, in any case; undefined when it is no key. */
export function attributeTypeOf (key: string): string | undefined {
  return TYPES_BY_KEY.get(key.toUpperCase())
}

/**
 * Distinguished names as they are compared (RFC 5280 §7.1): case and white space do not matter, nor which string type
 * an issuer chose. The same as OpenSSL's canonical encoding, so that both find the same issuers and subtrees.
 */

/** UTF8String, PrintableString, TeletexString, IA5String, UniversalString, BMPString; not NumericString. OpenSSL takes no other text in a name. */
const FOLDED: ReadonlySet<number> = new Set([0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e])

interface CanonicalAttribute {
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
