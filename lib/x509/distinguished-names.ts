/**
 * Distinguished names (RFC 5280 §4.1.2.4): parsed exactly, printed so that no value can imitate another, and compared.
 * Begin with `subjectOf`; then `formatName` prints a name, `attributeValues` reads an attribute, `canonicalName` compares.
 */
import type { X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, dottedOf, type Element, elementsIn, hexOf, latin1, notDer, OBJECT_IDENTIFIER, octetsOf, readOr, SEQUENCE, SET, textOf } from './der.ts'
import { fieldsOf } from './fields.ts'

/** One attribute of a name. */
export interface Attribute {
  /** The short name (`CN`, `emailAddress`), or the dotted object identifier of a type that has none. */
  readonly type: string
  /** The raw value, without escapes; `#` and the DER in hex where it is not a string (RFC 4514 §2.4). */
  readonly value: string
}

/** Usually one attribute; several in a multi-valued RDN. */
export type RelativeDistinguishedName = readonly Attribute[]

/** In the certificate's order: usually the most general part first. */
export type Name = readonly RelativeDistinguishedName[]

export const NO_NAME: Name = Object.freeze([])

/** The escapes of the 65 control characters (C0, DEL and C1), computed once: a certificate has room for 90,000 of them. */
const ESCAPES: ReadonlyMap<string, string> = new Map([...Array(0xa0).keys()]
  .map((code) => String.fromCharCode(code))
  .filter((character) => /\p{Control}/u.test(character))
  .map((character) => [character, Buffer.from(character).toString('hex').toUpperCase().replace(/../g, '\\$&')]))

/** The subject of a certificate (RFC 5280 §4.1.2.6); empty where it is empty or not DER, or there is no certificate. */
export function subjectOf (certificate: X509Certificate | undefined): Name {
  if (certificate === undefined) return NO_NAME
  return readOr(() => parseName(fieldsOf(certificate).subject), NO_NAME)
}

/** The issuer of a certificate (RFC 5280 §4.1.2.4); empty where it is not DER, or there is no certificate. */
export function issuerOf (certificate: X509Certificate | undefined): Name {
  if (certificate === undefined) return NO_NAME
  return readOr(() => parseName(fieldsOf(certificate).issuer), NO_NAME)
}

/** Parses a name. Frozen. Throws where it is malformed. */
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
 * A name on one line: `C=PT, O=Acme, CN=Jane`, in the certificate's order, multi-valued RDNs joined by ` + `.
 *
 * A value with `,`, `+`, `;`, `"`, a control character, or a space at either end is in double quotes. In quotes, `"` and
 * `\` are escaped with `\`, control characters as the hex of their UTF-8 (`\0D`), so that a line of a log stays one line.
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
 * A value may itself contain `;`: use `attributeValues` to compare.
 */
export function attributeValue (name: Name, key: string): string {
  return attributeValues(name, key).join(';')
}

// Attribute types and their short names (X.520, RFC 4519, PKCS #9, CA/Browser Forum)

/** Object identifiers, and the short names that OpenSSL, and so Node, prints. Other types are printed as dotted numbers. */
export const SHORT_NAMES = {
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

/** By the content octets as Latin-1, so that known types need no decoding. */
const NAMES_BY_OCTETS: ReadonlyMap<string, string> = new Map(
  Object.entries(SHORT_NAMES).map(([dotted, name]) => [octetsOf(dotted).toString('latin1'), name]))

/** The keys of `attributeValues`, and the short name that each stands for. */
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

/** The short name of an attribute type, or its dotted object identifier where it has none. Throws where it is malformed. */
function typeOf (element: Element | undefined): string {
  if (element?.tag !== OBJECT_IDENTIFIER) throw notDer()
  return NAMES_BY_OCTETS.get(latin1(element)) ?? dottedOf(contentOf(element, OBJECT_IDENTIFIER))
}

/** The attribute type of a key (`CN`, `s`, `Email`), in any case; undefined where there is no such key. */
export function attributeTypeOf (key: string): string | undefined {
  return TYPES_BY_KEY.get(key.toUpperCase())
}

// Comparison: the canonical form of names (RFC 5280 §7.1)
// Case, white space and the string type that an issuer chose do not matter. The form is the same as OpenSSL's canonical
// encoding, so that both find the same issuers and subtrees.

/**
 * The tags of UTF8String, PrintableString, TeletexString, IA5String, UniversalString and BMPString; not of NumericString.
 * OpenSSL takes no other type in a name for text.
 */
const FOLDED: ReadonlySet<number> = new Set([0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e])

interface CanonicalAttribute {
  readonly type: Element
  readonly value: Element
}

/**
 * A name in canonical form: equal for equal names, and a prefix of the names in its subtree. Each RDN is a JSON array, and
 * nothing inside of an array looks like its end. Throws where the name is malformed.
 */
export function canonicalName (element: Element): string {
  return elementsIn(element, SEQUENCE).map((rdn) => canonicalRdn(rdn)).join('')
}

/** One RDN in canonical form, to append to a canonical name; `tag` is for an implicit one. Throws where malformed. */
export function canonicalRdn (element: Element, tag: number = SET): string {
  // DER sorts a SET; other encoders may not.
  return JSON.stringify(attributesIn(element, tag).map(canonicalAttribute).sort())
}

/**
 * The attributes of a name, by RDN. Throws where the name is malformed, or where OpenSSL would read another name: it drops
 * RDNs without an attribute, and reads a constructed string (in pieces, as in BER) as a string of the same type.
 */
export function rdnsOf (element: Element): CanonicalAttribute[][] {
  return elementsIn(element, SEQUENCE).map((rdn) => attributesIn(rdn, SET))
}

/** ASCII letters in lower case, everything else unchanged: independent of locale and Unicode. */
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

/** Whether the unused bits are zero (X.690 §11.2.1). OpenSSL ignores those bits. */
function isPadded (content: Buffer): boolean {
  const unused = (1 << content[0]!) - 1
  return content.length === 1 ? unused === 0 : (content.at(-1)! & unused) === 0
}

/** In quotation marks, which the hexadecimal form never has. */
function folded (value: Element): string {
  return `"${lowerCase(textOf(value).replace(/[ \t-\r]+/g, ' ').replace(/^ | $/g, ''))}"`
}
