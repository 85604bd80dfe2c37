/**
 * Base64 (RFC 4648 §4) in the one spelling that writing its bytes gives. Node's own reader takes many: other alphabets,
 * white space, no padding or too much, bits that count for nothing. Writing the bytes again and comparing would do, too, and
 * takes two to three times as long where OpenSSL has just had the processor's caches.
 */

export interface Style {
  /** What comes after every 64 characters, and after the last ones (RFC 7468 §2); without it there are no lines. */
  readonly newline?: string
  /** `+`, `/` and `=` are `%2B`, `%2F` and `%3D`. */
  readonly isEscaped?: boolean
}

export interface Content {
  readonly bytes: Buffer
  /** Where something else begins in the text. */
  readonly end: number
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
const LINE = 64
const NONE = -1

/** Six bits each, by octet: of the alphabet, and of what of it is never percent-encoded. */
const [sextets, unescapedSextets] = [ALPHABET, ALPHABET.slice(0, -2)].map((alphabet) => {
  const table = new Int8Array(256).fill(NONE)
  for (const [value, character] of [...alphabet].entries()) table[character.charCodeAt(0)] = value
  return table
}) as [Int8Array, Int8Array]

/**
 * @param text in UTF-8: octets are read faster than characters, and those of ASCII mean nothing else
 * @param at where it begins in the text
 * @param most bytes
 * @returns undefined where it is longer, empty, or not exactly what writing its bytes gives
 */
export function readBase64 (text: Buffer, at: number, { newline = '', isEscaped = false }: Style, most: number): Content | undefined {
  const table = isEscaped ? unescapedSextets : sextets
  const bytes = Buffer.allocUnsafe(Math.min(most, text.length - at) + 3)
  let length = 0
  let count = 0
  let bits = 0
  while (at < text.length && length <= most) {
    let sextet = table[text[at]!]!
    let width = 1
    if (sextet === NONE && isEscaped) {
      sextet = escapedAt(text, at)
      width = 3
    }
    if (sextet === NONE) break
    at += width
    bits = bits << 6 | sextet
    if (++count % 4 === 0) {
      bytes[length++] = bits >> 16
      bytes[length++] = bits >> 8
      bytes[length++] = bits
    }
    if (count % LINE === 0) {
      if (!isAt(text, at, newline)) return undefined
      at += newline.length
    }
  }
  const rest = count % 4
  if (rest > 0) {
    const padding = (isEscaped ? '%3D' : '=').repeat(4 - rest)
    const spare = rest === 2 ? 4 : 2
    if (rest === 1 || (bits & ((1 << spare) - 1)) !== 0 || !isAt(text, at, padding)) return undefined
    at += padding.length
    bits >>= spare
    if (rest === 3) bytes[length++] = bits >> 8
    bytes[length++] = bits
  }
  if (count % LINE !== 0) {
    if (!isAt(text, at, newline)) return undefined
    at += newline.length
  }
  return length === 0 || length > most ? undefined : { bytes: bytes.subarray(0, length), end: at }
}

/** `+` or `/`, percent-encoded. */
function escapedAt (text: Buffer, at: number): number {
  if (isAt(text, at, '%2B')) return 62
  return isAt(text, at, '%2F') ? 63 : NONE
}

/** @param ascii what may be there */
export function isAt (text: Buffer, at: number, ascii: string): boolean {
  for (let index = 0; index < ascii.length; index++) if (text[at + index] !== ascii.charCodeAt(index)) return false
  return true
}
