/**
 * What the attributes of names are called (X.520, RFC 4519, PKCS #9, CA/Browser Forum).
 */
import { contentOf, notDer, OBJECT_IDENTIFIER } from './der.ts'
import type { Element } from './der.ts'
import { dottedOf, octetsOf } from './object-identifiers.ts'
import { latin1 } from './text.ts'

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
export function typeOf (element: Element | undefined): string {
  if (element?.tag !== OBJECT_IDENTIFIER) throw notDer()
  return NAMES_BY_OCTETS.get(latin1(element)) ?? dottedOf(contentOf(element, OBJECT_IDENTIFIER))
}

/** The attribute type that a key (`CN`, `s`, `Email`) asks for, in any case; undefined when it is no key. */
export function attributeTypeOf (key: string): string | undefined {
  return TYPES_BY_KEY.get(key.toUpperCase())
}
