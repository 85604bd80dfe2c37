/**
 * The string and time types that certificates use (RFC 5280 §4.1.2.4 and §4.1.2.5).
 */
import { isUtf8 } from 'node:buffer'
import { contentOf, derOf } from './der.ts'
import type { Element } from './der.ts'

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
