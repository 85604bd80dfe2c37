/**
 * Reads JSON (RFC 8259) that people write and that decides what is enforced: with the place of what is wrong, and more
 * strictly than `JSON.parse`, which takes the last of two values for one name without a word (§4).
 *
 * Nothing here calls itself: a file of nothing but brackets is told of like any other.
 */

/** Arrays and objects in one another. RFC 8259 §9 leaves it to its readers, and no document of ours has a tenth of it. */
const MOST_DEPTH = 64

const SPACE = /[ \t\n\r]*/y
/** A string as far as it is one (RFC 8259 §7). */
const STRING = /"[ !#-[\]-\uffff]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[ !#-[\]-\uffff]*)*/y
/** RFC 8259 §2, §3, §6. */
const TOKEN = new RegExp(String.raw`[{}[\]:,]|${STRING.source}"|true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?`, 'y')

/** What comes next, in words. */
const EXPECTED = {
  value: 'a value',
  name: 'a name in double quotes',
  colon: "':'",
  comma: "',' or the end of what was begun",
  nothing: 'nothing more'
} as const

/** @throws SyntaxError that begins with line and column: `3:14: no JSON: …` */
export function readJson (text: string): unknown {
  check(text)
  return JSON.parse(text)
}

function check (text: string): void {
  /** What has begun and not ended: an object with the names in it, or an array without. */
  const open: Array<Set<unknown> | undefined> = []
  let expected: keyof typeof EXPECTED = 'value'
  /** What has just begun may end. */
  let mayEnd = false
  let at = endOf(SPACE, text, 0)
  while (at < text.length || expected !== 'nothing') {
    const end = endOf(TOKEN, text, at)
    const token = text.slice(at, end)
    const names = open.at(-1)
    if (open.length > 0 && (mayEnd || expected === 'comma') && token === (names === undefined ? ']' : '}')) {
      open.pop()
      expected = open.length === 0 ? 'nothing' : 'comma'
      mayEnd = false
    } else if (expected === 'value' && (token === '[' || token === '{')) {
      if (open.length === MOST_DEPTH) throw errorAt(at, text, `more than ${MOST_DEPTH} arrays and objects are in one another`)
      open.push(token === '[' ? undefined : new Set())
      expected = token === '[' ? 'value' : 'name'
      mayEnd = true
    } else if (expected === 'value' && /^[^}\]:,]/.test(token)) {
      expected = open.length === 0 ? 'nothing' : 'comma'
      mayEnd = false
    } else if (expected === 'name' && token.startsWith('"')) {
      const name: unknown = JSON.parse(token)
      if (names!.has(name)) throw errorAt(at, text, `${token} is there twice`)
      names!.add(name)
      expected = 'colon'
      mayEnd = false
    } else if (expected === 'colon' && token === ':') {
      expected = 'value'
    } else if (expected === 'comma' && token === ',') {
      expected = names === undefined ? 'value' : 'name'
    } else if (token === '' && text[at] === '"') {
      throw errorAt(endOf(STRING, text, at), text, 'no JSON: this string has no end, or a character that has to be escaped')
    } else {
      throw errorAt(at, text, `no JSON: ${EXPECTED[expected]} is expected here`)
    }
    at = endOf(SPACE, text, end)
  }
}

/** Where what matches there ends; where it begins if nothing does. */
function endOf (pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

function errorAt (offset: number, text: string, reason: string): SyntaxError {
  const lines = text.slice(0, offset).split('\n')
  return new SyntaxError(`${lines.length}:${lines.at(-1)!.length + 1}: ${reason}`)
}
