/**
 * The path of a request target in every way that a handler may read it. Begin with {@link spellings}, which gives texts;
 * prefix-tree.ts then reads each text segment by segment.
 *
 * Fastify finds a declared route by its own rules, and that route's level holds, however the URL is written. But a not-found
 * handler, a wildcard or a parameter passes the URL on, and the next reader may decode it once more, resolve its dots, or
 * cut it elsewhere. The strictest of all readings counts, so that none of them escapes a flow.
 */
import { isAscii, isUtf8 } from 'node:buffer'

/** How often nested percent-encoding is decoded. A legitimate client does not nest it deeper. */
const MOST_DECODINGS = 5
/** Characters of a path that is not plain. A legitimate client does not send a longer one. */
const LONGEST = 4_096
/** The same for a path with octets that are not ASCII, which browsers percent-encode. */
const LONGEST_RAW = 1_024

/** Characters. A text of up to this length is read faster as a string than by making a Buffer of it first. */
const SHORT = 128

/** Characters up to this one are invisible. */
const SPACE = 0x20
const PERCENT = 0x25
const QUERY = 0x3f

const PLAIN = 1
const SLASH = 2
const DOT = 3
const SEPARATOR = 4
const INVISIBLE = 5

/**
 * The class of each octet in a path; 0 for any other. A path of 4 KiB is read several times: testing characters takes twice
 * as long as this table, and a regular expression five times as long.
 */
const CLASSES = Uint8Array.from({ length: 256 }, (_, octet) => classOf(String.fromCharCode(octet)))

function classOf (character: string): number {
  if (character === '/') return SLASH
  if (character === '.') return DOT
  if (/[\\;?#]/.test(character)) return SEPARATOR
  if (/[\t\n\r]/.test(character)) return INVISIBLE
  return /[\w~!$&'()*+,=:@-]/.test(character) ? PLAIN : 0
}

/** Characters that Unicode compatibility normalisation turns into a slash, a dot, another character that a path is cut at, or a space. */
const REWRITTEN = /[\u00a0\u037e\u2000-\u200a\u2024-\u2026\u202f\u2047-\u2049\u205f\u2100\u2101\u2105\u2106\u2488-\u249b\u3000\u33c2\u33c7\u33d8\ufe14\ufe16\ufe19\ufe30\ufe52\ufe54\ufe56\ufe5f\ufe68\ufe6a\uff03\uff05\uff0e\uff0f\uff1b\uff1f\uff3c]|\ud83c\udd00/
/** A percent sign of that kind, before characters that become hexadecimal digits. */
const REWRITTEN_ESCAPE = /[\ufe6a\uff05][\da-f\uff10-\uff19\uff21-\uff26\uff41-\uff46]{2}/i

/** The value of each hexadecimal digit; 255 for any other octet. */
const HEX = Uint8Array.from({ length: 256 }, (_, octet) => {
  const value = parseInt(String.fromCharCode(octet), 16)
  return Number.isNaN(value) ? 255 : value
})

/**
 * Whether a request target is a path, an absolute URL (RFC 9112 §3.2), or `*` with OPTIONS, which all software reads alike.
 *
 * Routers look at a target's path from its second character on: they read `*partners` as `/partners`. llhttp lets it pass,
 * as nghttp2 does with any `:path` whose `:scheme` it does not know.
 */
export function isTarget (target: string, method: string | undefined): boolean {
  return target.startsWith('/') || /^https?:\/\/[^/?#\\]+(?:\/|$)/.test(target) || (target === '*' && method === 'OPTIONS')
}

/**
 * Every text that a handler may read as the path of a request target. `null`: there are too many.
 *
 * That includes every path with a segment `..`, however it is encoded: which segment it removes depends on whether the
 * reader first decodes, merges slashes or cuts, and how often. Legitimate clients resolve dots before they send a request.
 */
export function spellings (target: string): readonly string[] | null {
  const path = pathOf(target)
  if (isPlain(path)) return [path]
  const isRaw = !isAsciiText(path)
  if (path.length > (isRaw ? LONGEST_RAW : LONGEST)) return null
  const texts = isRaw || path.includes('%') ? decodingsOf(path, isRaw) : [path]
  if (texts === null || texts.some(isAmbiguous)) return null
  return texts.flatMap((text) => {
    const visible = visiblePart(text)
    return visible === text ? [text] : [text, visible]
  })
}

/**
 * The canonical form of a text. It is the same for all texts that a reader may treat as equal: that differ in case, whether
 * the reader converts to lower case or to upper (`ſ` becomes `S`), or in Unicode normalisation (UAX #15).
 */
export function foldText (text: string): string {
  const lower = text.toLowerCase()
  if (isAsciiText(lower)) return lower
  // Greek has another lower-case sigma at the end of a word.
  return text.normalize('NFKD').toLowerCase().toUpperCase().toLowerCase().normalize('NFKD').replaceAll('ς', 'σ')
}

/** The canonical form of a path from our own configuration: a `flows` key, or a route's URL pattern. */
export function fold (path: string): string {
  return foldText(path).replaceAll(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '')
}

/** The path of a target: without the authority of an absolute-form target (RFC 9112 §3.2.2) and without query. Routers read `*` as `/`. */
function pathOf (target: string): string {
  const path = target === '*' ? '/' : target.replace(/^https?:\/\/[^/?#]*/, '')
  return path.split('?', 1)[0] || '/'
}

/** Whether a target's path has one reading only: no encoding, no dots or slashes to remove, no parameters, no backslash, no segment that ends in a dot. */
export function isPlain (target: string): boolean {
  const isLong = target.length > SHORT
  if (isLong && !isAsciiText(target)) return false
  const octets = isLong ? Buffer.from(target, 'latin1') : undefined
  let before = 0
  for (let at = 0; at < target.length; at++) {
    const code = octets === undefined ? target.charCodeAt(at) : octets[at]!
    if (code === QUERY) break
    const kind = CLASSES[code]
    if (kind === SLASH || kind === DOT) {
      if (before === SLASH || (before === DOT && kind === SLASH)) return false
    } else if (kind !== PLAIN) {
      return false
    }
    before = kind
  }
  return before !== DOT && target.startsWith('/')
}

function isAsciiText (text: string): boolean {
  return Buffer.byteLength(text) === text.length
}

/** A path decoded zero times, once, and so on, because a handler may stop at any of them. `null`: nested too deep, or ambiguous. */
function decodingsOf (path: string, isRaw: boolean): string[] | null {
  const all: string[] = []
  for (let octets of isRaw ? octetsOf(path) : [Buffer.from(path, 'latin1')]) {
    for (let decodings = 0; ; decodings++) {
      const texts = decodings > MOST_DECODINGS ? null : textsOf(octets)
      if (texts === null) return null
      all.push(...texts)
      const decoded = decode(octets)
      if (decoded === octets) break
      octets = decoded
    }
  }
  return all
}

/** Node makes a character of each octet. Readers may take these characters as they are, or put octets and decoded escapes together. */
function octetsOf (path: string): Buffer[] {
  const characters = Buffer.from(path, 'utf8')
  // A Fastify hook may have made a URL that no client can send.
  return /[^\0-\xff]/.test(path) ? [characters] : [Buffer.from(path, 'latin1'), characters]
}

/**
 * Octets as text: in UTF-8, for invalid UTF-8 with U+FFFD and also in Latin-1; and the same after Unicode normalisation.
 * `null` where normalisation makes an escape, which would be decoded once more.
 */
function textsOf (octets: Buffer): string[] | null {
  if (isAscii(octets)) return [octets.toString('latin1')]
  const texts = isUtf8(octets) ? [octets.toString('utf8')] : [octets.toString('utf8'), octets.toString('latin1')]
  if (texts.some((text) => REWRITTEN_ESCAPE.test(text))) return null
  return texts.flatMap((text) => REWRITTEN.test(text) ? [text, text.normalize('NFKD')] : [text])
}

/** A path as URL parsers read it: without tabs and newlines, and without control characters and spaces at the end (WHATWG URL §4.4). */
function visiblePart (text: string): string {
  let end = text.length
  // Ends, because a path begins with a slash.
  while (text.charCodeAt(end - 1) <= SPACE) end--
  // Looking for one character is ten times as fast as a regular expression.
  const isVisible = !text.includes('\t') && !text.includes('\n') && !text.includes('\r')
  return isVisible ? text.slice(0, end) : text.slice(0, end).replaceAll(/[\t\n\r]/g, '')
}

/**
 * Whether readers disagree too much: about `..`; about NUL, which ends a path for some; about `;` with an encoded slash; or about
 * `%u0070`, which is `p` for JavaScript's `unescape` and some Windows servers, and not decoded by others.
 */
function isAmbiguous (text: string): boolean {
  return isTraversal(text) || text.includes('\0') || (text.includes(';') && (text.includes('%2f') || text.includes('%2F'))) || (text.includes('%') && /%u[\da-f]{4}/i.test(text))
}

/** Whether a segment is `..`, also for a reader that treats a backslash as a slash, or cuts at `;`, `?` or `#`. */
function isTraversal (text: string): boolean {
  if (!text.includes('.')) return false
  const octets = Buffer.from(text, 'utf8')
  let end = octets.length
  while (octets[end - 1]! <= SPACE) end--
  /** Dots of the segment; three for a segment that has other characters. */
  let dots = 0
  for (let at = 0; at < end; at++) {
    const kind = CLASSES[octets[at]!]
    if (kind === DOT) {
      dots++
    } else if (kind === SLASH || kind === SEPARATOR) {
      if (dots === 2) return true
      dots = 0
    } else if (kind !== INVISIBLE) {
      dots = 3
    }
  }
  return dots === 2
}

/** Percent-decoding that never throws; returns the same object where there is nothing to decode. */
function decode (octets: Buffer): Buffer {
  const first = octets.indexOf(PERCENT)
  if (first === -1) return octets
  const decoded = Buffer.allocUnsafe(octets.length)
  let length = octets.copy(decoded, 0, 0, first)
  for (let at = first; at < octets.length; at++) {
    let octet = octets[at]!
    if (octet === PERCENT && at + 2 < octets.length) {
      const [high, low] = [HEX[octets[at + 1]!]!, HEX[octets[at + 2]!]!]
      if (high < 16 && low < 16) {
        octet = high * 16 + low
        at += 2
      }
    }
    decoded[length++] = octet
  }
  return length === octets.length ? octets : decoded.subarray(0, length)
}
