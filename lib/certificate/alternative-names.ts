/**
 * Subject alternative names (RFC 5280 §4.2.1.6), read from the bytes: Node's text quotes, and cannot be compared.
 */
import type { X509Certificate } from 'node:crypto'
import { SocketAddress } from 'node:net'
import { contentOf, elementOf, elementsIn, notDer, readOr, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { extensionOf } from './fields.ts'
import { formatName, parseName } from './names.ts'
import { dottedOf, octetsOf } from './object-identifiers.ts'
import { hexOf, latin1 } from './text.ts'

/** One alternative name. */
export interface AlternativeName {
  /** `DNS`, `URI`, `email`, `IP`; also `DirName`, `RID`, `otherName`, `X400Name`, `EdiPartyName`. */
  readonly kind: string
  /** The raw value; addresses as Node prints them (`127.0.0.1`, `::1`); `#` and hex where there is no text form. */
  readonly value: string
}

interface NameKind { readonly kind: string, readonly read: (element: Element) => string }

const SUBJECT_ALT_NAME = octetsOf('2.5.29.17')

const NO_NAMES: readonly AlternativeName[] = Object.freeze([])

/** By the tag of GeneralName's choices. */
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

/** The subject alternative names of a certificate, in its order, frozen; none when one of them cannot be read. */
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
  return Object.freeze({ kind: entry.kind, value: entry.read(element) })
}

function address (element: Element): string {
  const content = contentOf(element, 0x87)
  if (content.length === 4) return content.join('.')
  if (content.length !== 16) return hexOf(element)
  const groups = content.toString('hex').match(/.{4}/g)
  return new SocketAddress({ address: groups?.join(':'), family: 'ipv6' }).address // compressed as `remoteAddress` is
}
