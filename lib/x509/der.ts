import { isUtf8 } from 'node:buffer'

/**
 * A strict reader of DER (X.690 §10), for the few parts of a certificate that Node tells only as text.
 *
 * Why not Node's text? `X509Certificate.subject` prints an attribute that is a BIT STRING, an ObjectDescriptor or even a
 * SEQUENCE as if its bytes were characters, so that it cannot be told from a real `CN=admin`; it knows an empty subject
 * and one that it cannot print only as `undefined`. Names of attributes depend on OpenSSL's table. The bytes say
 * exactly what they are.
 *
 * OpenSSL also accepts BER inside a certificate (indefinite or padded lengths, strings in pieces). That is not DER,
 * which RFC 5280 §4.1 demands, and is not read here: such a certificate has no names, and so matches nothing.
 */

export const BOOLEAN = 0x01
export const INTEGER = 0x02
export const BIT_STRING = 0x03
export const OCTET_STRING = 0x04
export const OBJECT_IDENTIFIER = 0x06
export const SEQUENCE = 0x30
export const SET = 0x31

/** One tag, length and value: where they are in `bytes`. No slices: a name has dozens of these, and a slice costs more. */
export interface Element {
  readonly bytes: Buffer
  /** The identifier octet: class, constructed or primitive, and number. */
  readonly tag: number
  /** Where the tag is. */
  readonly offset: number
  /** Where the content starts. */
  readonly start: number
  /** Where the element ends. */
  readonly end: number
}

/** What `read` answers, or `otherwise` where the bytes are not what they should be: odd certificates throw nothing. */
export function readOr<Value> (read: () => Value, otherwise: Value): Value {
  try {
    return read()
  } catch {
    return otherwise
  }
}

export function notDer (): Error {
  return new RangeError('Not DER')
}

/** The one element that `bytes` are. Throws where something follows it. */
export function elementOf (bytes: Buffer): Element {
  const element = elementAt(bytes, 0, bytes.length)
  if (element.end !== bytes.length) throw notDer()
  return element
}

/** The elements inside `element`, which must be there and tagged `tag`. Throws where there is anything else inside. */
export function elementsIn (element: Element | undefined, tag: number): Element[] {
  if (element?.tag !== tag) throw notDer()
  const elements: Element[] = []
  let offset = element.start
  while (offset < element.end) {
    const inner = elementAt(element.bytes, offset, element.end)
    elements.push(inner)
    offset = inner.end
  }
  return elements
}

/** The content of `element`, which must be there and tagged `tag`. */
export function contentOf (element: Element | undefined, tag: number): Buffer {
  if (element?.tag !== tag) throw notDer()
  return element.bytes.subarray(element.start, element.end)
}

/** The whole of `element`, with tag and length. */
export function derOf (element: Element): Buffer {
  return element.bytes.subarray(element.offset, element.end)
}

/** The element at `offset`, which must end by `limit`: for what is walked through without being kept. */
export function elementAt (bytes: Buffer, offset: number, limit: number): Element {
  const tag = bytes[offset]
  if ((tag & 0x1f) === 0x1f) throw notDer() // tags of several octets: X.509 has none
  let start = offset + 2
  let length = bytes[offset + 1]
  if (length >= 0x80) {
    const octets = length & 0x7f
    if (octets === 0 || octets > 4) throw notDer() // an indefinite length, or one that no certificate has
    length = 0
    for (const end = start + octets; start < end; start++) length = length * 256 + bytes[start]
    if (length < 0x80 || bytes[offset + 2] === 0) throw notDer() // not the shortest form
  }
  const end = start + length
  if (!(end <= limit)) throw notDer() // nor is a length beyond the last byte, which is not a number
  return { bytes, tag, offset, start, end }
}

/**
 * Object identifiers (X.690 §8.19).
 */

/** RFC 5280 appendix B expects 20 arcs; this has room for several of 128 bits. */
const MAX_OCTETS = 128

/**
 * The content octets of an object identifier as dotted numbers: `2.5.4.3`. Throws when they are none.
 *
 * Arcs may be of any size (UUIDs have 128 bits), hence the BigInt; the length is bounded because printing a number takes
 * time that grows with the square of it (CVE-2023-2650).
 */
export function dottedOf (content: Buffer): string {
  if (content.length > MAX_OCTETS) throw notDer()
  assertIdentifier(content)
  const arcs: bigint[] = []
  let arc = 0n
  for (const octet of content) {
    arc = (arc << 7n) | BigInt(octet & 0x7f)
    if (octet >= 0x80) continue
    arcs.push(arc)
    arc = 0n
  }
  const root = arcs[0] < 80n ? arcs[0] / 40n : 2n
  return [root, arcs[0] - root * 40n, ...arcs.slice(1)].join('.')
}

/** Throws where the content octets are no object identifier: none at all, or one that is cut off, or has an arc that is padded. */
export function assertIdentifier (content: Buffer): void {
  let isWhole = true
  for (const octet of content) {
    if (isWhole && octet === 0x80) throw notDer()
    isWhole = octet < 0x80
  }
  if (!isWhole || content.length === 0) throw notDer()
}

/** The content octets of an object identifier that we wrote down ourselves. */
export function octetsOf (dotted: string): Buffer {
  const [root, second, ...arcs] = dotted.split('.').map(Number)
  return Buffer.from([root * 40 + second, ...arcs].flatMap(octetsOfArc))
}

function octetsOfArc (arc: number): number[] {
  return arc < 128 ? [arc] : [...octetsOfArc(Math.floor(arc / 128)).map((octet) => octet | 0x80), arc % 128]
}

/**
 * The string and time types that certificates use (RFC 5280 §4.1.2.4 and §4.1.2.5).
 */

/** By tag: UTCTime, GeneralizedTime. */
const YEAR_DIGITS: ReadonlyMap<number, number> = new Map([[0x17, 2], [0x18, 4]])
const ZERO = 0x30
const Z = 0x5a

/** Milliseconds, after which the calendar repeats itself: to `Date.UTC` years below 100 are those of the twentieth century. */
const FOUR_CENTURIES = 146_097 * 86_400_000

type Decode = (element: Element) => string | undefined

/** By tag. TeletexString is read as Latin-1, as OpenSSL and everybody who issued one does. */
const decoders: ReadonlyMap<number, Decode> = new Map<number, Decode>([
  [0x0c, utf8], // UTF8String
  [0x12, latin1], // NumericString
  [0x13, latin1], // PrintableString
  [0x14, latin1], // TeletexString
  [0x16, latin1], // IA5String
  [0x1c, utf32], // UniversalString
  [0x1e, utf16] // BMPString
])

/**
 * The characters of a string, exactly.
 *
 * What is no string, or is none that could be read without loss, is `#` and its DER in hex, as RFC 4514 §2.4 has it: it
 * never looks like the text that its bytes would spell.
 */
export function textOf (element: Element): string {
  return decoders.get(element.tag)?.(element) ?? hexOf(element)
}

/** `#` and the element's DER in upper-case hex (RFC 4514 §2.4). */
export function hexOf (element: Element): string {
  return `#${derOf(element).toString('hex').toUpperCase()}`
}

/** The content octets, each as the character of its number. */
export function latin1 ({ bytes, start, end }: Element): string {
  return bytes.toString('latin1', start, end)
}

function utf8 ({ bytes, start, end }: Element): string | undefined {
  const text = bytes.toString('utf8', start, end)
  // Only what decodes to a replacement character can have been replaced.
  return !text.includes('\ufffd') || isUtf8(bytes.subarray(start, end)) ? text : undefined
}

/** BMPString is two octets a character; issuers put UTF-16 there, so surrogate pairs are read, halves of one are not. */
function utf16 (element: Element): string | undefined {
  const content = contentOf(element, element.tag)
  if (content.length % 2 !== 0) return undefined
  const text = Buffer.from(content).swap16().toString('utf16le')
  return /\p{Surrogate}/u.test(text) ? undefined : text
}

function utf32 (element: Element): string | undefined {
  const content = contentOf(element, element.tag)
  if (content.length % 4 !== 0) return undefined
  let text = ''
  for (let offset = 0; offset < content.length; offset += 4) {
    const point = content.readUInt32BE(offset)
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return undefined
    text += String.fromCodePoint(point)
  }
  return text
}

/**
 * A UTCTime or GeneralizedTime in milliseconds since the epoch; NaN for what RFC 5280 §4.1.2.5 does not allow: no
 * seconds, fractions of one, another zone than Z, a date that does not exist. OpenSSL verifies no certificate with one of these either.
 */
export function timeOf (element: Element | undefined): number {
  if (element === undefined) return NaN
  const { bytes, tag, start, end } = element
  const yearDigits = YEAR_DIGITS.get(tag)
  if (yearDigits === undefined || end - start !== yearDigits + 11 || bytes[end - 1] !== Z) return NaN
  // By hand: every new certificate is asked for two of these, and by nothing else for that long.
  for (let at = start; at < end - 1; at++) if (bytes[at] < ZERO || bytes[at] > ZERO + 9) return NaN
  const rest = start + yearDigits
  const [hour, minute, second] = [pairAt(bytes, rest + 4), pairAt(bytes, rest + 6), pairAt(bytes, rest + 8)]
  if (hour > 23 || minute > 59 || second > 59) return NaN
  const month = pairAt(bytes, rest) - 1
  const day = pairAt(bytes, rest + 2)
  const date = new Date(Date.UTC(yearAt(bytes, start, yearDigits) + 400, month, day, hour, minute, second))
  // 31 February would be 3 March.
  return date.getUTCMonth() === month && date.getUTCDate() === day ? date.getTime() - FOUR_CENTURIES : NaN
}

/** Those of UTCTime are 1950 to 2049 (RFC 5280 §4.1.2.5.1). */
function yearAt (bytes: Buffer, at: number, digits: number): number {
  const pair = pairAt(bytes, at)
  if (digits === 2) return pair + (pair >= 50 ? 1900 : 2000)
  return pair * 100 + pairAt(bytes, at + 2)
}

function pairAt (bytes: Buffer, at: number): number {
  return (bytes[at] - ZERO) * 10 + bytes[at + 1] - ZERO
}

/** DER (X.690 §8.1, §10.1): just enough for the few structures that the libraries leave to us. */

/** Tags that are used here. */
export const tags = { octetString: 0x04, bmpString: 0x1e, sequence: 0x30, set: 0x31 } as const

/** One element: its tag, the length of its contents, and them. */
export function der (tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents)
  return Buffer.concat([Buffer.of(tag), length(body.length), body])
}

function length (bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.of(bytes)
  const hex = bytes.toString(16)
  const digits = Buffer.from(hex.padStart(hex.length + hex.length % 2, '0'), 'hex')
  return Buffer.concat([Buffer.of(0x80 | digits.length), digits])
}
