/**
 * The canonical path of a request target, and the other paths that a handler might still read in it.
 *
 * Fastify finds a declared route by its own rules and that route's slot holds, however the URL was spelled. But a
 * not-found handler, a wildcard or a parameter passes the URL on, and whoever reads it next may decode it once more,
 * resolve its dots, or cut it elsewhere. The stricter of all readings counts, so that none of them leaves a flow.
 */

/** Percent-encoding around percent-encoding is unwrapped this often; what is wrapped deeper has no honest reading. */
const MOST_DECODINGS = 5

/** Nothing in here needs a second look: no encoding, no dots, no slashes to merge, no parameters, no backslash. */
const PLAIN = /^(?:\/[\w~!$&'()*+,=:@-]+)*\/?$/

/** Every reading of a request target, canonical form first: lower case, no trailing slash. `null`: too deeply encoded. */
export function spellings (target: string): readonly string[] | null {
  const path = pathOf(target)
  if (PLAIN.test(path)) return [fold(path)]

  const readings = new Set<string>()
  let encoded = path
  for (let decodings = 0; decodings <= MOST_DECODINGS; decodings++) {
    const decoded = decode(encoded)
    // A handler may stop after any number of decodings.
    addReadings(decoded, readings)
    if (decoded === encoded) return [...readings]
    encoded = decoded
  }
  return null
}

/** The canonical form of a path that is known to be written plainly: a `flows` key, or a route's URL pattern. */
export function fold (path: string): string {
  return path.toLowerCase().replaceAll(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '')
}

/** Without the authority of an absolute-form target (RFC 9112 §3.2.2) and without query. */
function pathOf (target: string): string {
  const path = target.startsWith('/') ? target : target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '')
  return path.split('?', 1)[0] || '/'
}

function addReadings (path: string, readings: Set<string>): void {
  const slashed = `/${path.replaceAll('\\', '/')}`
  // `/a;b/c` is `/a` to who cuts at the semicolon, and `/a/c` to who drops the segment's parameters (RFC 3986 §3.3).
  for (const reading of [slashed.replace(/[;#?].*$/s, ''), slashed.replaceAll(/;[^/]*/g, ''), slashed]) {
    readings.add(fold(withoutDots(reading)))
    readings.add(fold(reading))
  }
}

/** RFC 3986 §5.2.4, empty segments dropped first so that `/a//../b` is `/b`, as file systems have it. */
function withoutDots (path: string): string {
  const segments: string[] = []
  for (const segment of path.split('/')) {
    if (segment === '..') segments.pop()
    else if (segment !== '.' && segment !== '') segments.push(segment)
  }
  return `/${segments.join('/')}`
}

/** Percent-decoding that never throws: where the bytes are no UTF-8, ASCII is decoded alone. */
function decode (path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path.replaceAll(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  }
}
