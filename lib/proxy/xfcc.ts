/**
 * Envoy's X-Forwarded-Client-Cert: elements by `,`, pairs by `;`, values in double quotes where they need it.
 */

/** Of whom one element tells: keys in lower case. */
export type XfccElement = ReadonlyMap<string, string>

/** A certificate may have several of these names, and then they are several pairs. */
const REPEATABLE: ReadonlySet<string> = new Set(['by', 'uri', 'dns'])

/** Of Node's own limit for all headers, 16 KiB, four times as much. */
const MOST_CHARACTERS = 64 * 1024

/** One pair, and what follows it. Every character is looked at once. */
const PAIR = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))(?:([,;])|$)/y

/**
 * @returns the elements, the nearest proxy's last; `undefined` where the value is not exactly such a list, tells the same of
 * a client twice, or is longer than any that a proxy writes
 */
export function parseXfcc (text: string): XfccElement[] | undefined {
  if (text.length > MOST_CHARACTERS) return undefined
  const elements: XfccElement[] = []
  let element = new Map<string, string>()
  let offset = 0
  while (true) {
    PAIR.lastIndex = offset
    const match = PAIR.exec(text)
    if (match === null) return undefined
    const [whole, name, quoted, plain, separator] = match
    const key = name!.toLowerCase()
    if (element.has(key) && !REPEATABLE.has(key)) return undefined
    element.set(key, quoted === undefined ? plain! : quoted.replaceAll(/\\(.)/g, '$1'))
    offset += whole.length
    if (separator !== ';') {
      elements.push(element)
      element = new Map()
    }
    if (separator === undefined) return elements
  }
}
