/**
 * A JSON reader (RFC 8259) for files that people write and that decide what is enforced. Begin with `readJson`. Its
 * errors have line and column, and it is stricter than `JSON.parse`, which silently takes the last of two values with
 * the same name (RFC 8259 §4).
 *
 * Nothing here is recursive: a file with nothing but brackets is an error like any other.
 */
import { Slices } from '../slices.ts'

/** Nesting of arrays and objects. RFC 8259 §9 allows a limit, and no document of ours has a tenth of it. */
const MOST_DEPTH = 64

/** Tokens that are read in a fraction of a millisecond. */
const PIECE = 1_024

const SPACE = /[ \t\n\r]*/y
/** A string without its closing quote, as far as it is valid (RFC 8259 §7). */
const STRING = /"[ !#-[\]-\uffff]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[ !#-[\]-\uffff]*)*/y
/** A token (RFC 8259 §2, §3, §6). */
const TOKEN = new RegExp(String.raw`[{}[\]:,]|${STRING.source}"|true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?`, 'y')

/** What is expected next, for messages. */
const EXPECTED = {
  value: 'a value',
  name: 'a name in double quotes',
  colon: "':'",
  comma: "',' or the end of what was begun",
  nothing: 'nothing more'
} as const

/**
 * Parses JSON strictly.
 *
 * @throws SyntaxError that begins with line and column: `3:14: no JSON: …`
 */
export function readJson (text: string): unknown {
  const pieces = check(text)
  while (pieces.next().done !== true);
  return JSON.parse(text)
}

/** The same in slices, between which requests are served: a document may have megabytes. */
export async function readJsonInSlices (text: string): Promise<unknown> {
  const slices = new Slices()
  const pieces = check(text)
  while (pieces.next().done !== true) await slices.rest()
  return JSON.parse(text)
}

/** Yields after each piece of the text. */
function * check (text: string): Generator<undefined, void> {
  /** The arrays and objects that are open: a set of its names for an object, undefined for an array. */
  const open: Array<Set<unknown> | undefined> = []
  let expected: keyof typeof EXPECTED = 'value'
  /** An array or object was just opened, so it may be closed: it is empty. */
  let mayEnd = false
  let { token, start: at, end } = tokenAt(text, 0)
  for (let tokens = 1; at < text.length || expected !== 'nothing'; tokens++) {
    if (tokens % PIECE === 0) yield
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
    ({ token, start: at, end } = tokenAt(text, end))
  }
}

/** The next token from an offset on; `''` where there is none. */
export function tokenAt (text: string, offset: number): { readonly token: string, readonly start: number, readonly end: number } {
  const start = endOf(SPACE, text, offset)
  const end = endOf(TOKEN, text, start)
  return { token: text.slice(start, end), start, end }
}

/** The end of a match at this offset, or the offset itself if there is no match. */
function endOf (pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

function errorAt (offset: number, text: string, reason: string): SyntaxError {
  const lines = text.slice(0, offset).split('\n')
  return new SyntaxError(`${lines.length}:${lines.at(-1)!.length + 1}: ${reason}`)
}
