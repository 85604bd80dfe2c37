/**
 * Distinguished names (RFC 5280 §4.1.2.4): read exactly, printed so that no value passes for something else.
 */
import type { X509Certificate } from 'node:crypto'
import { attributeTypeOf, typeOf } from './attribute-types.ts'
import { elementsIn, notDer, readOr, SEQUENCE, SET } from './der.ts'
import type { Element } from './der.ts'
import { fieldsOf } from './fields.ts'
import { textOf } from './text.ts'

/** One attribute of a name. */
export interface Attribute {
  /** The short name (`CN`, `emailAddress`), or the dotted object identifier of a type that has none. */
  readonly type: string
  /** The raw value, nothing escaped; `#` and the DER in hex when it is no string (RFC 4514 §2.4). */
  readonly value: string
}

/** Nearly always one attribute; several in a multi-valued RDN. */
export type RelativeDistinguishedName = readonly Attribute[]

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
