/**
 * The canonical path of a request target, and the other paths that a handler might still read in it.
 *
 * Fastify finds a declared route by its own rules and that route's slot holds, however the URL was spelled. But a
 * not-found handler, a wildcard or a parameter passes the URL on, and whoever reads it next may decode it once more,
 * resolve its dots, or cut it elsewhere. The stricter of all readings counts, so that none of them leaves a flow.
 */

/** Percent-encoding around percent-encoding is unwrapped this often; what is wrapped deeper has no honest reading. */
const MOST_DECODINGS = 5
/** Characters. Neither has a path that is longer and needs a second look. */
const LONGEST = 4_096

/** Characters up to this one are invisible. */
const SPACE = 0x20

/** Nothing in here needs a second look: no encoding, no dots, no slashes to merge, no parameters, no backslash. */
const PLAIN = /^(?:\/[\w~!$&'()*+,=:@-]+)*\/?$/

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
 * Every reading of a request target, in lower case and without a trailing slash. `null`: there are too many.
 *
 * That is so where a segment is `..`, in whatever way it is written: what it takes away depends on whether the reader
 * decodes first, merges slashes first, cuts first, and where it stops. Honest clients resolve dots before they ask.
 */
export function spellings (target: string): readonly string[] | null {
  const path = pathOf(target)
  if (PLAIN.test(path)) return [fold(path)]
  if (path.length > LONGEST) return null

  const readings = new Set<string>()
  let encoded = path
  for (let decodings = 0; decodings <= MOST_DECODINGS; decodings++) {
    if (isAmbiguous(encoded)) return null
    // A handler may stop after any number of decodings.
    addReadings(encoded, readings)
    const decoded = decode(encoded)
    if (decoded === encoded) return [...readings]
    encoded = decoded
  }
  return null
}

/** The canonical form of a path that is known to be written plainly: a `flows` key, or a route's URL pattern. */
export function fold (path: string): string {
  return path.toLowerCase().replaceAll(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '')
}

/** Without the authority of an absolute-form target (RFC 9112 §3.2.2) and without query; `*` is the root to a router. */
function pathOf (target: string): string {
  const path = target === '*' ? '/' : target.replace(/^https?:\/\/[^/?#]*/, '')
  return path.split('?', 1)[0] || '/'
}

function isAmbiguous (path: string): boolean {
  return visiblePart(path).split(/[/;?#]/).includes('..') || (path.includes(';') && /%2f/i.test(path))
}

function addReadings (path: string, readings: Set<string>): void {
  const visible = visiblePart(path)
  // To URL parsers `//x/shop` names the host x and the path `/shop`; some have dropped single dots before they look, or look twice.
  const undotted = visible.replaceAll(/(?<=^|\/)\.(?:\/|$)/g, '')
  const hostless = [visible, undotted].flatMap((text) => [withoutHost(text), withoutHost(withoutHost(text))])
  for (const text of new Set([path, path.replaceAll('\\', '/'), visible, undotted, ...hostless])) {
    // `/a;b/c` is `/a` to who cuts at the semicolon, and `/a/c` to who drops the segment's parameters (RFC 3986 §3.3).
    const cuts = [text, text.replace(/[;#?].*$/s, ''), text.replace(/[#?].*$/s, ''), text.replace(/;.*$/s, ''), text.replaceAll(/;[^/]*/g, '')]
    for (const reading of new Set(cuts)) readings.add(fold(`/${reading}`))
  }
}

/** As URL parsers see it, with backslashes as slashes and without what cannot be seen, inside and at the end (WHATWG URL §4.4). */
function visiblePart (path: string): string {
  const text = path.replaceAll('\\', '/').replaceAll(/[\t\n\r]/g, '')
  // A path begins with a slash.
  let end = text.length
  while (text.charCodeAt(end - 1) <= SPACE) end--
  return text.slice(0, end)
}

function withoutHost (path: string): string {
  return path.replace(/^\/{2,}[^/]*/, '')
}

/** Percent-decoding that never throws: bytes that are no UTF-8 become U+FFFD, and their neighbours what they are. */
function decode (path: string): string {
  return path.replaceAll(/(?:%[\da-f]{2})+/gi, (run) => Buffer.from(run.replaceAll('%', ''), 'hex').toString('utf8'))
}
