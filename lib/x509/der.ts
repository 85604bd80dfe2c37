/**
 * DER (X.690 §8 and §10): a strict reader for the parts of certificates, CRLs and OCSP answers that Node gives only as text
 * or not at all, and a small writer (`der`). Begin with `elementOf`, `elementsIn` and `contentOf`; then object identifiers
 * (`dottedOf`), strings (`textOf`) and times (`timeOf`).
 *
 * Why not Node's text? `X509Certificate.subject` prints a BIT STRING, an ObjectDescriptor or even a SEQUENCE as if its
 * bytes were characters, so that it looks like a real `CN=admin`. It is `undefined` both for an empty subject and for one
 * that Node cannot print. Names of attributes depend on OpenSSL's table. The bytes say exactly what they are.
 *
 * OpenSSL also accepts BER inside a certificate (indefinite or padded lengths, strings in pieces). RFC 5280 §4.1 demands
 * DER, so BER is rejected here: such a certificate has no names, and so matches no rule.
 */
import { isUtf8 } from 'node:buffer'

export const BOOLEAN = 0x01
export const INTEGER = 0x02
export const BIT_STRING = 0x03
export const OCTET_STRING = 0x04
export const OBJECT_IDENTIFIER = 0x06
export const SEQUENCE = 0x30
export const SET = 0x31

/** One tag, length and value, as offsets into `bytes`. Not as slices: a name has dozens of elements, and slices cost more. */
export interface Element {
  readonly bytes: Buffer
  /** The identifier octet: class, primitive or constructed, and number. */
  readonly tag: number
  /** The offset of the tag. */
  readonly offset: number
  /** The offset of the content. */
  readonly start: number
  /** The offset after the element. */
  readonly end: number
}

/** The result of `read`, or `otherwise` where it throws: for malformed certificates, which must not throw further up. */
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

/** The one element that `bytes` consist of. Throws where anything follows it. */
export function elementOf (bytes: Buffer): Element {
  const element = elementAt(bytes, 0, bytes.length)
  if (element.end !== bytes.length) throw notDer()
  return element
}

/** The elements inside `element`. Throws where it is absent, has another tag, or has anything else inside. */
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

/** The content of `element`. Throws where it is absent or has another tag. */
export function contentOf (element: Element | undefined, tag: number): Buffer {
  if (element?.tag !== tag) throw notDer()
  return element.bytes.subarray(element.start, element.end)
}

/** The whole element, with tag and length. */
export function derOf (element: Element): Buffer {
  return element.bytes.subarray(element.offset, element.end)
}

/** The element at `offset`, which must end by `limit`: to go through elements without keeping them. */
export function elementAt (bytes: Buffer, offset: number, limit: number): Element {
  const tag = bytes[offset]
  if ((tag & 0x1f) === 0x1f) throw notDer() // a tag of several octets, which X.509 does not use
  let start = offset + 2
  let length = bytes[offset + 1]
  if (length >= 0x80) {
    const octets = length & 0x7f
    if (octets === 0 || octets > 4) throw notDer() // an indefinite length, or one longer than any certificate
    length = 0
    for (const end = start + octets; start < end; start++) length = length * 256 + bytes[start]
    if (length < 0x80 || bytes[offset + 2] === 0) throw notDer() // not the shortest form
  }
  const end = start + length
  if (!(end <= limit)) throw notDer() // also for NaN: a length that is beyond the last byte
  return { bytes, tag, offset, start, end }
}

// Object identifiers (X.690 §8.19)

/** Octets. RFC 5280 appendix B expects 20 arcs; this is enough for several arcs of 128 bits. */
const MAX_OCTETS = 128

/**
 * The content octets of an object identifier as dotted numbers: `2.5.4.3`. Throws where they are malformed.
 *
 * Arcs may be of any size (UUIDs have 128 bits), so BigInt is needed. The length is bounded because the time to print a
 * number grows with the square of its length (CVE-2023-2650).
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

/** Throws where the content octets are empty, are truncated, or have a padded arc. */
export function assertIdentifier (content: Buffer): void {
  let isWhole = true
  for (const octet of content) {
    if (isWhole && octet === 0x80) throw notDer()
    isWhole = octet < 0x80
  }
  if (!isWhole || content.length === 0) throw notDer()
}

/** The content octets of an object identifier from our own source code. */
export function octetsOf (dotted: string): Buffer {
  const [root, second, ...arcs] = dotted.split('.').map(Number)
  const octets: number[] = []
  for (const arc of [root * 40 + second, ...arcs]) appendArc(octets, arc)
  return Buffer.from(octets)
}

function appendArc (octets: number[], arc: number): void {
  const last = octets.push(arc % 128) - 1
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) octets.splice(last, 0, rest % 128 | 0x80)
}

// Strings and times (RFC 5280 §4.1.2.4 and §4.1.2.5)

/** By tag: UTCTime and GeneralizedTime. */
const YEAR_DIGITS: ReadonlyMap<number, number> = new Map([[0x17, 2], [0x18, 4]])
const ZERO = 0x30
const Z = 0x5a

/** Milliseconds after which the calendar repeats: needed because `Date.UTC` adds 1900 to years below 100. */
const FOUR_CENTURIES = 146_097 * 86_400_000

type Decode = (element: Element) => string | undefined

/** By tag. TeletexString is read as Latin-1, as OpenSSL does and as issuers wrote it. */
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
 * The characters of a string, without loss.
 *
 * Any other type, and a string that cannot be decoded without loss, becomes `#` and its DER in hex (RFC 4514 §2.4): it
 * never looks like the text that its bytes would spell.
 */
export function textOf (element: Element): string {
  return decoders.get(element.tag)?.(element) ?? hexOf(element)
}

/** `#` and the element's DER in upper-case hex (RFC 4514 §2.4). */
export function hexOf (element: Element): string {
  return `#${derOf(element).toString('hex').toUpperCase()}`
}

/** Each content octet as one character. */
export function latin1 ({ bytes, start, end }: Element): string {
  return bytes.toString('latin1', start, end)
}

function utf8 ({ bytes, start, end }: Element): string | undefined {
  const text = bytes.toString('utf8', start, end)
  // An invalid string always contains the replacement character, so only such strings are checked.
  return !text.includes('\ufffd') || isUtf8(bytes.subarray(start, end)) ? text : undefined
}

/** BMPString has two octets a character, but issuers put UTF-16 there: surrogate pairs are read, lone surrogates are not. */
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
 * A UTCTime or GeneralizedTime in milliseconds since the epoch. NaN for what RFC 5280 §4.1.2.5 does not allow: missing
 * seconds, fractions of a second, another zone than Z, a date that does not exist. OpenSSL refuses such certificates, too.
 */
export function timeOf (element: Element | undefined): number {
  if (element === undefined) return NaN
  const { bytes, tag, start, end } = element
  const yearDigits = YEAR_DIGITS.get(tag)
  if (yearDigits === undefined || end - start !== yearDigits + 11 || bytes[end - 1] !== Z) return NaN
  // Parsed by hand for speed: each new certificate needs two dates, and nothing else about it took as long.
  for (let at = start; at < end - 1; at++) if (bytes[at] < ZERO || bytes[at] > ZERO + 9) return NaN
  const rest = start + yearDigits
  const [hour, minute, second] = [pairAt(bytes, rest + 4), pairAt(bytes, rest + 6), pairAt(bytes, rest + 8)]
  if (hour > 23 || minute > 59 || second > 59) return NaN
  const month = pairAt(bytes, rest) - 1
  const day = pairAt(bytes, rest + 2)
  const date = new Date(Date.UTC(yearAt(bytes, start, yearDigits) + 400, month, day, hour, minute, second))
  // Date.UTC turns 31 February into 3 March.
  return date.getUTCMonth() === month && date.getUTCDate() === day ? date.getTime() - FOUR_CENTURIES : NaN
}

/** UTCTime means the years 1950 to 2049 (RFC 5280 §4.1.2.5.1). */
function yearAt (bytes: Buffer, at: number, digits: number): number {
  const pair = pairAt(bytes, at)
  if (digits === 2) return pair + (pair >= 50 ? 1900 : 2000)
  return pair * 100 + pairAt(bytes, at + 2)
}

function pairAt (bytes: Buffer, at: number): number {
  return (bytes[at] - ZERO) * 10 + bytes[at + 1] - ZERO
}

// Writer (X.690 §8.1, §10.1): only for the few structures that the libraries cannot write

export const tags = { octetString: 0x04, utf8String: 0x0c, printableString: 0x13, ia5String: 0x16, bmpString: 0x1e, sequence: 0x30, set: 0x31 } as const

/** One element: its tag, the length of its contents, and the contents. */
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
