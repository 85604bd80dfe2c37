/**
 * The path of a request target, and the other paths that a handler might still read in it: as texts here, and text by
 * text, segment by segment, in prefixes.ts.
 *
 * Fastify finds a declared route by its own rules and that route's slot holds, however the URL was spelled. But a
 * not-found handler, a wildcard or a parameter passes the URL on, and whoever reads it next may decode it once more,
 * resolve its dots, or cut it elsewhere. The stricter of all readings counts, so that none of them leaves a flow.
 */
import { isAscii, isUtf8 } from 'node:buffer'

/** Percent-encoding around percent-encoding is unwrapped this often; what is wrapped deeper has no honest reading. */
const MOST_DECODINGS = 5
/** Characters. Neither has a path that is longer and needs a second look, */
const LONGEST = 4_096
/** or one with octets that are no ASCII, which browsers escape. */
const LONGEST_RAW = 1_024

/** Characters that are read faster as they are than in a Buffer that has to be made first. */
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
 * What each octet is in a path; 0 where none of that. A path of 4 KiB is read several times: character by character that
 * takes twice as long, and a pattern five times.
 */
const CLASSES = Uint8Array.from({ length: 256 }, (_, octet) => classOf(String.fromCharCode(octet)))

function classOf (character: string): number {
  if (character === '/') return SLASH
  if (character === '.') return DOT
  if (/[\\;?#]/.test(character)) return SEPARATOR
  if (/[\t\n\r]/.test(character)) return INVISIBLE
  return /[\w~!$&'()*+,=:@-]/.test(character) ? PLAIN : 0
}

/** What Unicode's compatibility forms have instead of a slash, a dot, or what else a path is cut at; or of a space. */
const REWRITTEN = /[\u00a0\u037e\u2000-\u200a\u2024-\u2026\u202f\u2047-\u2049\u205f\u2100\u2101\u2105\u2106\u2488-\u249b\u3000\u33c2\u33c7\u33d8\ufe14\ufe16\ufe19\ufe30\ufe52\ufe54\ufe56\ufe5f\ufe68\ufe6a\uff03\uff05\uff0e\uff0f\uff1b\uff1f\uff3c]|\ud83c\udd00/
/** Such a percent sign, before what are digits then. */
const REWRITTEN_ESCAPE = /[\ufe6a\uff05][\da-f\uff10-\uff19\uff21-\uff26\uff41-\uff46]{2}/i

/** The value of each hexadecimal digit; 255 for what is none. */
const HEX = Uint8Array.from({ length: 256 }, (_, octet) => {
  const value = parseInt(String.fromCharCode(octet), 16)
  return Number.isNaN(value) ? 255 : value
})

/**
 * Whether a request target has a form that every reader reads alike: a path, an URL (RFC 9112 §3.2), or `*` with OPTIONS.
 *
 * Routers look at a target's path from its second character on. `*partners` is `/partners` to them, and llhttp lets it
 * pass, as nghttp2 does with any `:path` whose `:scheme` it does not know.
 */
export function isTarget (target: string, method: string | undefined): boolean {
  return target.startsWith('/') || /^https?:\/\/[^/?#\\]+(?:\/|$)/.test(target) || (target === '*' && method === 'OPTIONS')
}

/**
 * Every text that a reader may take the path of a request target for. `null`: there are too many.
 *
 * That is so where a segment is `..`, in whatever way it is written: what it takes away depends on whether the reader
 * decodes first, merges slashes first, cuts first, and where it stops. Honest clients resolve dots before they ask.
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
 * The canonical form of a text, in which all texts are the same that any reader may take for each other: those that differ
 * in case, whether it turns them to lower case or to upper (`ſ` is `S` then), and in how Unicode writes a character (UAX #15).
 */
export function foldText (text: string): string {
  const lower = text.toLowerCase()
  if (isAsciiText(lower)) return lower
  // The last letter of a word has a form of its own in Greek.
  return text.normalize('NFKD').toLowerCase().toUpperCase().toLowerCase().normalize('NFKD').replaceAll('ς', 'σ')
}

/** The canonical form of a path that is known to be written plainly: a `flows` key, or a route's URL pattern. */
export function fold (path: string): string {
  return foldText(path).replaceAll(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '')
}

/** Without the authority of an absolute-form target (RFC 9112 §3.2.2) and without query; `*` is the root to a router. */
function pathOf (target: string): string {
  const path = target === '*' ? '/' : target.replace(/^https?:\/\/[^/?#]*/, '')
  return path.split('?', 1)[0] || '/'
}

/** Whether nothing in a target's path needs a second look: no encoding, no dots or slashes to drop, no parameters, no backslash, no segment that ends in a dot. */
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

/** A path decoded not at all, once, and so on, for a handler may stop anywhere. `null`: it does not end, or not in one way. */
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

/** Node makes a character of each octet. Readers may take these for characters, or put octets and escapes together. */
function octetsOf (path: string): Buffer[] {
  const characters = Buffer.from(path, 'utf8')
  // A hook of Fastify's may have made a URL that no client can send.
  return /[^\0-\xff]/.test(path) ? [characters] : [Buffer.from(path, 'latin1'), characters]
}

/**
 * What octets spell: in UTF-8, with U+FFFD for what is none, or else in Latin-1; and the same as Unicode normalises it.
 * `null` where that makes something that is decoded once more.
 */
function textsOf (octets: Buffer): string[] | null {
  if (isAscii(octets)) return [octets.toString('latin1')]
  const texts = isUtf8(octets) ? [octets.toString('utf8')] : [octets.toString('utf8'), octets.toString('latin1')]
  if (texts.some((text) => REWRITTEN_ESCAPE.test(text))) return null
  return texts.flatMap((text) => REWRITTEN.test(text) ? [text, text.normalize('NFKD')] : [text])
}

/** As URL parsers see it: without what cannot be seen, inside and at the end (WHATWG URL §4.4). */
function visiblePart (text: string): string {
  let end = text.length
  // A path begins with a slash.
  while (text.charCodeAt(end - 1) <= SPACE) end--
  // To look for one character is ten times as fast as a pattern.
  const isSeen = !text.includes('\t') && !text.includes('\n') && !text.includes('\r')
  return isSeen ? text.slice(0, end) : text.slice(0, end).replaceAll(/[\t\n\r]/g, '')
}

/** NUL ends a path for some; `%u0070` is `p` for JavaScript's `unescape` and some servers of Windows, and nothing for others. */
function isAmbiguous (text: string): boolean {
  return isTraversal(text) || text.includes('\0') || (text.includes(';') && (text.includes('%2f') || text.includes('%2F'))) || (text.includes('%') && /%u[\da-f]{4}/i.test(text))
}

/** Whether a segment is `..`, also for a reader that takes a backslash for a slash, or cuts at `;`, `?` or `#`. */
function isTraversal (text: string): boolean {
  if (!text.includes('.')) return false
  const octets = Buffer.from(text, 'utf8')
  let end = octets.length
  while (octets[end - 1]! <= SPACE) end--
  /** Of the segment; three for any that has something else. */
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

/** Percent-decoding that never throws; the same octets where there is none. */
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
