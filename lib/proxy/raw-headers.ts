/**
 * Header lines as they came, one by one. Node joins the lines of a header, or drops all but the first: then a line that the
 * proxy wrote could not be told from one that the client sent and the proxy passed on. A name with `_` for `-` is another
 * header.
 */

/** More than one line of a header. */
export const TWICE: unique symbol = Symbol('there twice')

/**
 * Reads the only line of a header; undefined where there is none.
 *
 * @param header in lower case
 */
export function createReadLine (header: string): (rawHeaders: readonly string[]) => string | typeof TWICE | undefined {
  const isNamed = createIsNamed(header)
  return function readLine (rawHeaders) {
    let line: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (!isNamed(rawHeaders[i]!)) continue
      if (line !== undefined) return TWICE
      line = rawHeaders[i + 1]
    }
    return line
  }
}

export type IsNamed = (spelled: string) => boolean

/**
 * Compares header names without case. Converting each name to lower case would take longer: nearly all other names differ in
 * length or last letter, and a proxy always spells a name the same way.
 */
export function createIsNamed (header: string): IsNamed {
  const { length } = header
  const last = length - 1
  const lastLetter = header.charCodeAt(last) | 32
  let latest = ''
  return (spelled) => {
    if (spelled.length !== length || (spelled.charCodeAt(last) | 32) !== lastLetter) return false
    if (spelled === latest) return true
    if (spelled.toLowerCase() !== header) return false
    latest = spelled
    return true
  }
}

/** Whether a Connection header names another header, which makes that one hop-by-hop (RFC 9110 §7.6.1). */
export function isNamedIn (connection: string | undefined, header: string): boolean {
  // Nearly every value is `close`, `keep-alive` or `upgrade`.
  if (connection === undefined || connection.length < header.length) return false
  return connection.toLowerCase().split(',').some((option) => option.trim() === header)
}
