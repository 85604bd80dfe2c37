/**
 * GeneralNames (RFC 5280 §4.2.1.6) in the form in which they are compared: made once for each, as there may be thousands
 * in a certificate, and each may be held against thousands.
 */
import { elementsIn, notDer } from '../der.ts'
import type { Element } from '../der.ts'
import { latin1 } from '../text.ts'
import { canonicalName, lowerCase } from './canonical.ts'
import { idNamedBy, onlyElementIn } from './extensions.ts'

/** GeneralName's choices, by tag. There are no others: what is primitive is so in DER, and OpenSSL reads it in pieces, too. */
export const OTHER_NAME = 0xa0
export const EMAIL = 0x81
export const DNS = 0x82
export const X400_ADDRESS = 0xa3
export const DIRECTORY_NAME = 0xa4
export const EDI_PARTY_NAME = 0xa5
export const URI = 0x86
export const IP = 0x87
export const REGISTERED_ID = 0x88

const SMTP_UTF8_MAILBOX = '\x2b\x06\x01\x05\x05\x07\x08\x09' // 1.3.6.1.5.5.7.8.9

/**
 * A scheme, `//`, and a host alone or with a port. What browsers and OpenSSL's versions read differently (user names
 * and other `@`, queries without a path, another colon) is not read at all.
 */
const WITH_HOST = /^[a-z][a-z\d+.-]*:\/\/([\w.-]+)(?::\d{1,5}(?:\/[\x21-\x3f\x41-\x7e]*)?|\/[\x21-\x39\x3b-\x3f\x41-\x7e]*)?$/

export interface GeneralName {
  /** The tag of the choice. */
  readonly kind: number
  /** Hosts, addresses and URIs in lower case; distinguished names in canonical form; else a character for each octet. */
  readonly text: string
  /** Of an address or a URI, if it can be told. */
  readonly host?: string | undefined
  /** Of an address, what is before the last `@`: whose it is matters with its case (RFC 5321 §2.4), the host does not. */
  readonly local?: string | undefined
}

/** Throws where it is none. */
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

/** Of `jane@host.test`; of `host.test` as well, which a subtree may be. With NUL there is no host: it would end there for some. */
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
  // An address in Unicode (RFC 8398) is held against what is said of addresses, and is nothing that could be compared.
  return idNamedBy(type) === SMTP_UTF8_MAILBOX ? { kind: EMAIL, text: '' } : { kind: OTHER_NAME, text: '' }
}
