/**
 * The string and time types that certificates use (RFC 5280 §4.1.2.4 and §4.1.2.5).
 */
import { isUtf8 } from 'node:buffer'
import { contentOf, derOf } from './der.ts'
import type { Element } from './der.ts'

const UTC_TIME = 0x17
const GENERALIZED_TIME = 0x18

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
  const text = digitsOf(element)
  if (!/^\d{14}Z$/.test(text)) return NaN
  const number = (from: number, to: number): number => Number(text.slice(from, to))
  const [year, month, day, hour, minute, second] = [number(0, 4), number(4, 6), number(6, 8), number(8, 10), number(10, 12), number(12, 14)]
  if (hour > 23 || minute > 59 || second > 59) return NaN
  const date = new Date(0)
  // Not Date.UTC: to it the years below 100 are those of the twentieth century.
  date.setUTCFullYear(year, month - 1, day)
  date.setUTCHours(hour, minute, second)
  // 31 February would be 3 March.
  return date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day ? date.getTime() : NaN
}

/** With a year of four digits: those of UTCTime are 1950 to 2049 (RFC 5280 §4.1.2.5.1). */
function digitsOf (element: Element | undefined): string {
  if (element?.tag === GENERALIZED_TIME) return latin1(element)
  if (element?.tag !== UTC_TIME) return ''
  const digits = latin1(element)
  return `${digits >= '50' ? '19' : '20'}${digits}`
}
