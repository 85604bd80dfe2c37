/**
 * Reads the certificate chain in the header of a proxy. Begin with {@link chainIn}. {@link decode} and {@link encode} read
 * and write one encoding; `parseXfcc` reads Envoy's header. What a value is that is not read, `encoding-problems.ts` says.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import { certificateOf } from '../x509/fields.ts'
import type { WholeEncoding } from './presets.ts'

export type Chain = readonly [leaf: X509Certificate, ...others: X509Certificate[]]

/** Why a value holds no certificate. */
export const ABSENT = 'absent'
export const MALFORMED = 'malformed'

/** How a proxy writes a certificate. */
export interface Written {
  readonly encoding: WholeEncoding
  /** Only for XFCC: which element counts, from the right. */
  readonly hops: number
}

/**
 * The client's certificate first, and then those of the chain.
 *
 * @param text the value of the certificate header
 * @param companion the value of Client-Cert-Chain (RFC 9440 §2.3)
 */
export function chainIn ({ encoding, hops }: Written, text: string, companion: string | undefined): Chain | typeof ABSENT | typeof MALFORMED {
  if (encoding === 'xfcc') return elementIn(text, hops)
  const list = listIn(encoding, text)
  if (list === undefined) return MALFORMED
  if (companion === undefined) return parseChain(list, [])
  const others = decode(formats['rfc9440-chain'], companion)
  return others === undefined ? MALFORMED : parseChain(list, others)
}

/** Only the element of our own outermost proxy counts: elements further left may be written by the client. */
function elementIn (text: string, hops: number): ReturnType<typeof chainIn> {
  const elements = parseXfcc(text)
  if (elements === undefined) return MALFORMED
  const element = elements.at(-hops)
  const certificate = element?.get('cert')
  if (certificate === undefined) return ABSENT
  const list = decode(formats['url-pem'], certificate)
  const chain = element!.get('chain')
  const others = chain === undefined ? [] : decode(formats['url-pem-chain'], chain)
  if (list === undefined || others === undefined) return MALFORMED
  const hash = createHash('sha256').update(list[0]!).digest('hex')
  // Envoy's Chain begins with the certificate itself.
  return hash === element!.get('hash')?.toLowerCase() ? parseChain(list, others.filter((der) => !der.equals(list[0]!))) : MALFORMED
}

function parseChain (list: readonly Buffer[], companion: readonly Buffer[]): Chain | typeof MALFORMED {
  const certificates: X509Certificate[] = []
  let left = MOST_BYTES
  for (const der of companion.length === 0 ? list : [...list, ...companion]) {
    left -= der.length
    const certificate = left < 0 || certificates.length === MOST_CERTIFICATES ? undefined : certificateOf(der)
    if (certificate === undefined) return MALFORMED
    certificates.push(certificate)
  }
  // TLS lets clients send CAs in any order, and more than are needed (RFC 8446 §4.4.2), and others only look for a path among
  // them. But a proxy that appends its own value to one that the client sent makes a list, too, in which the client's value
  // comes first. Hence a list has no second client.
  for (let index = 1; index < list.length; index++) {
    if (!certificates[index]!.ca && !list[index]!.equals(list[0]!)) return MALFORMED
  }
  return certificates as [X509Certificate, ...X509Certificate[]]
}

// Encodings
//
// A value is accepted only if encoding the bytes again gives the very same text: no other alphabet, padding, line length,
// white space or case, no parameters, and no text before or after.

/** Certificates of a chain, the client's own included. */
export const MOST_CERTIFICATES = 5
/** Bytes of all certificates of a chain together. */
export const MOST_BYTES = 16 * 1024

export interface Format {
  /** The text before and after the base64 of a certificate. */
  readonly begin: string
  readonly end: string
  /** The text that ends each line of base64, where it has lines. */
  readonly newline?: string
  /** All base64 is one line. Otherwise lines have 64 characters. */
  readonly isOneLine?: boolean
  /** `+`, `/` and `=` are percent-encoded. */
  readonly isEscaped?: boolean
  /** The texts that may separate two certificates, where there may be several. */
  readonly separators?: readonly string[]
  /** Optional text at the very end. */
  readonly last?: string
}

/** A byte sequence (RFC 8941 §3.3.5) without parameters. */
const byteSequence: Format = { begin: ':', end: ':' }

/** PEM (RFC 7468 §3). The newline after the last line may be missing. */
function pem (space: string, newline: string): Format {
  return { begin: `-----BEGIN${space}CERTIFICATE-----${newline}`, end: `-----END${space}CERTIFICATE-----`, newline, last: newline }
}

const urlPem = pem('%20', '%0A')

export const formats = {
  rfc9440: byteSequence,
  /** RFC 9440 §2.3: a list (RFC 8941 §3.1). */
  'rfc9440-chain': { ...byteSequence, separators: [', ', ','] },
  'base64-der': { begin: '', end: '', separators: [','] },
  /** nginx, `$ssl_client_escaped_cert`; Envoy, `Cert`. */
  'url-pem': { ...urlPem, isEscaped: true },
  /** Envoy, `Chain`. */
  'url-pem-chain': { ...urlPem, isEscaped: true, separators: ['%0A'] },
  /** With `+`, `/` and `=` as they are. */
  'url-pem-aws': { ...urlPem, separators: ['%0A'] },
  /** Apache. Without the last space, because HTTP strips white space at the end of a value. */
  'pem-spaces': { ...pem(' ', ' '), last: '' }
} as const satisfies Record<string, Format>

const oneLine = (format: Format): Format => ({ ...format, isOneLine: true })

/** The formats that are read of an encoding: that of nearly all its proxies first, and then those of a few. */
export const readings: Readonly<Record<Exclude<WholeEncoding, 'xfcc'>, readonly Format[]>> = {
  rfc9440: [formats.rfc9440],
  // Traefik before 2.9.2 escapes each certificate of a list; HAProxy's `%{+Q}` writes quotes.
  'base64-der': [formats['base64-der'], { ...formats['base64-der'], isEscaped: true }, { begin: '"', end: '"' }],
  'url-pem': [formats['url-pem'], oneLine(formats['url-pem'])],
  'url-pem-aws': [formats['url-pem-aws'], oneLine(formats['url-pem-aws'])],
  'pem-spaces': [formats['pem-spaces'], oneLine(formats['pem-spaces'])]
}

/** As `decode`, of every format of an encoding. */
export function listIn (encoding: Exclude<WholeEncoding, 'xfcc'>, text: string): Buffer[] | undefined {
  for (const format of readings[encoding]) {
    const list = decode(format, text)
    if (list !== undefined) return list
  }
  return undefined
}

/** The DER of the certificates in a header value, in its order; `undefined` where the value is not exactly in that format. */
export function decode (format: Format, value: string): Buffer[] | undefined {
  const { separators = [], last = '' } = format
  const certificates: Buffer[] = []
  let at = 0
  let left = MOST_BYTES
  while (true) {
    const end = endOf(format, value, at)
    const der = decodeOne(format, value.slice(at, end))
    if (der === undefined || der.length > left) return undefined
    certificates.push(der)
    left -= der.length
    if (end === value.length || (end + last.length === value.length && value.endsWith(last))) return certificates
    const separator = separators.find((each) => value.startsWith(each, end))
    if (separator === undefined || certificates.length === MOST_CERTIFICATES) return undefined
    at = end + separator.length
  }
}

/** Where the certificate that begins at `at` ends; the end of the value where there is no end mark. */
function endOf (format: Format, value: string, at: number): number {
  const { begin, end, separators } = format
  const found = end === '' ? value.indexOf(separators![0]!, at) : value.indexOf(end, at + begin.length)
  return found === -1 ? value.length : found + end.length
}

/** Node's base64 decoder accepts other alphabets, white space, and any padding: hence the bytes are encoded again and compared. */
function decodeOne (format: Format, text: string): Buffer | undefined {
  const { begin, end, newline = '', isEscaped = false } = format
  if (!text.startsWith(begin)) return undefined
  let base64 = text.slice(begin.length, text.length - end.length)
  if (newline !== '') base64 = base64.replaceAll(newline, '')
  if (isEscaped) base64 = base64.replaceAll('%2B', '+').replaceAll('%2F', '/').replaceAll('%3D', '=')
  const der = Buffer.from(base64, 'base64')
  return der.length > 0 && encode(format, der) === text ? der : undefined
}

/** Writes a certificate as a proxy does. */
export function encode (format: Format, der: Buffer): string {
  const { begin, end, newline, isEscaped = false, isOneLine = false } = format
  const base64 = der.toString('base64')
  const lines = newline === undefined ? base64 : isOneLine ? `${base64}\n` : base64.replace(/.{1,64}/g, '$&\n')
  return `${begin}${(isEscaped ? encodeURIComponent(lines) : lines).replaceAll('\n', newline ?? '')}${end}`
}

// Envoy's X-Forwarded-Client-Cert: elements separated by `,`, pairs by `;`, values in double quotes where they need it

/** The pairs of one element; keys in lower case. */
type XfccElement = ReadonlyMap<string, string>

/** A certificate may have several of these names, each in a pair of its own. */
const REPEATABLE: ReadonlySet<string> = new Set(['by', 'uri', 'dns'])

/** Four times Node's default limit for all headers together, 16 KiB. */
const MOST_CHARACTERS = 64 * 1024

/** One pair and the separator after it. Every character is looked at once. */
const PAIR = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))(?:([,;])|$)/y

/**
 * @returns the elements, the nearest proxy's last; `undefined` where the value is malformed, has a key twice in an element,
 * or is longer than proxies write it
 */
export function parseXfcc (text: string): XfccElement[] | undefined {
  if (text.length > MOST_CHARACTERS) return undefined
  const elements: XfccElement[] = []
  let element = new Map<string, string>()
  let offset = 0
  while (true) {
    PAIR.lastIndex = offset
    const match = PAIR.exec(text)
    if (match === null) return undefined
    const [whole, name, quoted, plain, separator] = match
    const key = name!.toLowerCase()
    if (element.has(key) && !REPEATABLE.has(key)) return undefined
    element.set(key, quoted === undefined ? plain! : quoted.replaceAll(/\\(.)/g, '$1'))
    offset += whole.length
    if (separator !== ';') {
      elements.push(element)
      element = new Map()
    }
    if (separator === undefined) return elements
  }
}
