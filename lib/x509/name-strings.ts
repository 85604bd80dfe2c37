/**
 * Distinguished names as proxies write them on one line: RFC 4514, and RFC 2253 as OpenSSL and BoringSSL write it
 * (XN_FLAG_RFC2253). Begin with {@link readNameString}.
 *
 * A value is accepted only if writing it again gives the same text, so that no value looks like an attribute, and each name
 * has one spelling. OpenSSL escapes what is not ASCII octet by octet, others do not: both are read.
 */
import { isUtf8 } from 'node:buffer'
import { elementOf, readOr, textOf } from './der.ts'
import { type Attribute, type Name, type RelativeDistinguishedName, SHORT_NAMES } from './distinguished-names.ts'

/** Half of what Node reads of all headers together. */
const MOST_CHARACTERS = 8 * 1024

/** One attribute, its value as it is written, and the separator after it. Every character is looked at once. */
const ATTRIBUTE = /([A-Za-z][A-Za-z0-9-]*|[0-2](?:\.(?:0|[1-9][0-9]*))+)=([^\\,+]*(?:\\[^][^\\,+]*)*)([,+]|$)/y

/** A value that needs no escapes, and has none. */
const PLAIN = /^(?![ #])[^"+,;<>\\\x00-\x1f\x7f-\uffff]*(?<! )$/ // eslint-disable-line no-control-regex

/** The DER of a value (RFC 4514 §2.4), in upper case (OpenSSL) or lower case. */
const HEX = /^#(?:(?:[0-9A-F]{2})+|(?:[0-9a-f]{2})+)$/

/** One escape: an octet in hex, or a character. */
const ESCAPE = /\\(?:([0-9A-Fa-f]{2})|([^]))/g

/** What is escaped by its hex: control characters, and with OpenSSL every octet beyond ASCII. */
const CONTROL = /[\x00-\x1f\x7f]/g // eslint-disable-line no-control-regex
const NOT_PRINTABLE = /[\x00-\x1f\x7f-\xff]/g // eslint-disable-line no-control-regex

/**
 * Names that OpenSSL prints for types which {@link SHORT_NAMES} has by their numbers alone, and other spellings: of RFC 4514
 * §3, and of Go and Java. Case counts: to OpenSSL, `uid` is not `UID`.
 */
const OTHER_NAMES = {
  STREET: 'street',
  SERIALNUMBER: 'serialNumber',
  POSTALCODE: 'postalCode',
  uid: '0.9.2342.19200300.100.1.44',
  roomNumber: '0.9.2342.19200300.100.1.6',
  homePostalAddress: '0.9.2342.19200300.100.1.39',
  personalTitle: '0.9.2342.19200300.100.1.40',
  mobileTelephoneNumber: '0.9.2342.19200300.100.1.41',
  challengePassword: '1.2.840.113549.1.9.7',
  physicalDeliveryOfficeName: '2.5.4.19',
  facsimileTelephoneNumber: '2.5.4.23',
  registeredAddress: '2.5.4.26',
  houseIdentifier: '2.5.4.51',
  dmdName: '2.5.4.54',
  c3: '2.5.4.98',
  n3: '2.5.4.99',
  dnsName: '2.5.4.100',
  OGRN: '1.2.643.100.1',
  SNILS: '1.2.643.100.3',
  OGRNIP: '1.2.643.100.5',
  INN: '1.2.643.3.131.1.1'
}

const TYPES: ReadonlyMap<string, string> = new Map([...Object.values(SHORT_NAMES).map((name): [string, string] => [name, name]), ...Object.entries(OTHER_NAMES)])
const TYPES_BY_NUMBER: ReadonlyMap<string, string> = new Map(Object.entries(SHORT_NAMES))

/**
 * @param text the octets of the text, each as one character, as Node has header values
 * @returns the name in the certificate's order, which is the reverse of the text's; a string that says what is wrong with it
 * @see RFC 4514, RFC 2253
 */
export function readNameString (text: string): Name | string {
  if (text.length > MOST_CHARACTERS) return `it is longer than ${MOST_CHARACTERS} characters`
  const name: RelativeDistinguishedName[] = []
  if (text === '') return name
  let rdn: Attribute[] = []
  let offset = 0
  while (true) {
    ATTRIBUTE.lastIndex = offset
    const match = ATTRIBUTE.exec(text)
    if (match === null) return `no attribute begins at character ${offset + 1}`
    const [whole, key, written, separator] = match
    const isNumber = key! < 'A'
    const type = isNumber ? TYPES_BY_NUMBER.get(key!) ?? key! : TYPES.get(key!)
    if (type === undefined) return `${key!.slice(0, 64)} is no known attribute`
    const value = isNumber && !written!.startsWith('#') ? undefined : valueOf(written!)
    if (value === undefined) return `the value of ${key!.slice(0, 64)} is not exactly as RFC 2253 or RFC 4514 write it`
    rdn.push({ type, value })
    if (separator !== '+') {
      name.push(rdn.reverse())
      rdn = []
    }
    if (separator === '') return name.reverse()
    offset += whole.length
  }
}

function valueOf (written: string): string | undefined {
  if (PLAIN.test(written)) return written
  // OpenSSL escapes a `#` that is first, but not where it is also last.
  if (written === '#') return written
  if (written.startsWith('#')) return HEX.test(written) ? readOr(() => textOf(elementOf(Buffer.from(written.slice(1), 'hex'))), undefined) : undefined
  const octets = Buffer.from(written.replace(ESCAPE, (_escape, hex?: string, character?: string) => hex === undefined ? character! : String.fromCharCode(parseInt(hex, 16))), 'latin1')
  if (!isUtf8(octets)) return undefined
  const unescaped = octets.toString('latin1')
  return written === escape(unescaped, CONTROL) || written === escape(unescaped, NOT_PRINTABLE) ? octets.toString() : undefined
}

function escape (octets: string, unprintable: RegExp): string {
  return octets.replace(/["+,;<>\\]|^[ #]| $/g, '\\$&').replace(unprintable, (octet) => `\\${octet.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
}
