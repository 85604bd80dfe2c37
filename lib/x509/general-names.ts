/**
 * GeneralNames (RFC 5280 §4.2.1.6). Begin with `alternativeNamesOf`: the subject alternative names of a certificate, for
 * rules and logs. `generalNameOf`, below, parses a GeneralName for comparison in path validation.
 *
 * Parsed from the bytes, because the text that Node gives is quoted, and cannot be compared.
 */
import type { X509Certificate } from 'node:crypto'
import { SocketAddress } from 'node:net'
import { contentOf, dottedOf, type Element, elementOf, elementsIn, hexOf, latin1, notDer, octetsOf, readOr, SEQUENCE, textOf } from './der.ts'
import { canonicalName, formatName, lowerCase, parseName } from './distinguished-names.ts'
import { extensionOf, idNamedBy, onlyElementIn } from './fields.ts'

/** One alternative name. */
export interface AlternativeName {
  /** `DNS`, `URI`, `email`, `IP`, `UPN`; also `DirName`, `RID`, `otherName`, `X400Name`, `EdiPartyName`. */
  readonly kind: string
  /** The raw value; addresses as Node prints them (`127.0.0.1`, `::1`); `#` and hex where there is no text form. */
  readonly value: string
}

interface NameKind { readonly kind: string, readonly read: (element: Element) => string }

const SUBJECT_ALT_NAME = octetsOf('2.5.29.17')
const UTF8_STRING = 0x0c

export const NO_NAMES: readonly AlternativeName[] = Object.freeze([])

/** By tag: the choices of GeneralName. */
const NAME_KINDS: ReadonlyMap<number, NameKind> = new Map([
  [0xa0, { kind: 'otherName', read: hexOf }],
  [0x81, { kind: 'email', read: latin1 }],
  [0x82, { kind: 'DNS', read: latin1 }],
  [0xa3, { kind: 'X400Name', read: hexOf }],
  [0xa4, { kind: 'DirName', read: (element) => formatName(parseName(elementsIn(element, 0xa4)[0])) }],
  [0xa5, { kind: 'EdiPartyName', read: hexOf }],
  [0x86, { kind: 'URI', read: latin1 }],
  [0x87, { kind: 'IP', read: address }],
  [0x88, { kind: 'RID', read: (element) => dottedOf(contentOf(element, 0x88)) }]
])

/** The subject alternative names of a certificate, in its order, frozen; empty where one of them cannot be read. */
export function alternativeNamesOf (certificate: X509Certificate): readonly AlternativeName[] {
  return readOr(() => {
    const extension = extensionOf(certificate, SUBJECT_ALT_NAME)
    if (extension === undefined) return NO_NAMES
    return Object.freeze(elementsIn(elementOf(extension), SEQUENCE).map(parseAlternativeName))
  }, NO_NAMES)
}

/** `DNS:jane.test`, `IP:::1`: the form that rules are written in. */
export function formatAlternativeName ({ kind, value }: AlternativeName): string {
  return `${kind}:${value}`
}

function parseAlternativeName (element: Element): AlternativeName {
  const entry = NAME_KINDS.get(element.tag)
  if (entry === undefined) throw notDer()
  const principal = readOr(() => userPrincipalNameIn(element), undefined)
  if (principal !== undefined) return Object.freeze({ kind: 'UPN', value: principal })
  return Object.freeze({ kind: entry.kind, value: entry.read(element) })
}

/** The UserPrincipalName of a smart card ([MS-WCCE] §2.2.2.7.7.4): an otherName that holds a UTF8String. */
function userPrincipalNameIn (element: Element): string | undefined {
  if (element.tag !== OTHER_NAME) return undefined
  const [type, value, ...more] = elementsIn(element, OTHER_NAME)
  if (more.length > 0 || value?.tag !== 0xa0 || idNamedBy(type) !== USER_PRINCIPAL_NAME) return undefined
  const name = onlyElementIn(value)
  return name.tag === UTF8_STRING ? textOf(name) : undefined
}

function address (element: Element): string {
  const content = contentOf(element, 0x87)
  if (content.length === 4) return content.join('.')
  if (content.length !== 16) return hexOf(element)
  const groups = content.toString('hex').match(/.{4}/g)
  return new SocketAddress({ address: groups?.join(':'), family: 'ipv6' }).address // compressed, as in `remoteAddress`
}

// GeneralNames for comparison (RFC 5280 §4.2.1.6)
// Parsed once: a certificate may have thousands of names, and each may be compared with thousands of subtrees.

/** The choices of GeneralName, by tag. In DER, strings are primitive; OpenSSL also reads constructed ones (in pieces). */
const OTHER_NAME = 0xa0
export const EMAIL = 0x81
export const DNS = 0x82
const X400_ADDRESS = 0xa3
export const DIRECTORY_NAME = 0xa4
const EDI_PARTY_NAME = 0xa5
export const URI = 0x86
export const IP = 0x87
const REGISTERED_ID = 0x88

const USER_PRINCIPAL_NAME = '\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03' // 1.3.6.1.4.1.311.20.2.3
const SMTP_UTF8_MAILBOX = '\x2b\x06\x01\x05\x05\x07\x08\x09' // 1.3.6.1.5.5.7.8.9

/**
 * A scheme, `//`, and a host with an optional port. Rejected is everything that browsers and versions of OpenSSL read
 * differently: user names and any other `@`, queries without a path, a second colon.
 */
const WITH_HOST = /^[a-z][a-z\d+.-]*:\/\/([\w.-]+)(?::\d{1,5}(?:\/[\x21-\x3f\x41-\x7e]*)?|\/[\x21-\x39\x3b-\x3f\x41-\x7e]*)?$/

export interface GeneralName {
  /** The tag of the choice. */
  readonly kind: number
  /** Hosts, email addresses and URIs in lower case; directory names in canonical form; others octet by octet. */
  readonly text: string
  /** The host of an email address or a URI, where it is clear. */
  readonly host?: string | undefined
  /** The local part of an email address, before the last `@`: its case matters (RFC 5321 §2.4), that of the host does not. */
  readonly local?: string | undefined
}

/** Throws where the element is malformed. */
export function generalNameOf (element: Element): GeneralName {
  const { tag: kind } = element
  switch (kind) {
    case OTHER_NAME: return otherNameOf(element)
    case DIRECTORY_NAME: return { kind, text: canonicalName(onlyElementIn(element)) }
    case EMAIL: return addressOf(latin1(element))
    case DNS: return hostOf(latin1(element))
    case URI: return uriOf(lowerCase(latin1(element)))
    case X400_ADDRESS:
    case EDI_PARTY_NAME:
    case IP:
    case REGISTERED_ID: return { kind, text: latin1(element) }
    default: throw notDer()
  }
}

/** `jane@host.test`, or `host.test` in a subtree. No host where there is a NUL: some software would end the name there. */
export function addressOf (text: string): GeneralName {
  const at = text.lastIndexOf('@')
  const folded = lowerCase(text)
  return { kind: EMAIL, text: folded, host: text.includes('\0') ? undefined : folded.slice(at + 1), local: at === -1 ? undefined : text.slice(0, at) }
}

export function hostOf (text: string): GeneralName {
  return { kind: DNS, text: lowerCase(text) }
}

function uriOf (text: string): GeneralName {
  return { kind: URI, text, host: WITH_HOST.exec(text)?.[1] }
}

function otherNameOf (element: Element): GeneralName {
  const [type, value, ...more] = elementsIn(element, OTHER_NAME)
  if (value?.tag !== 0xa0 || more.length > 0) throw notDer()
  onlyElementIn(value)
  // SmtpUTF8Mailbox (RFC 8398) counts as an email address for constraints, but there is no way to compare it.
  return idNamedBy(type) === SMTP_UTF8_MAILBOX ? { kind: EMAIL, text: '' } : { kind: OTHER_NAME, text: '' }
}
