/** A policy in a JSON file. */
import { InvalidPolicyError } from '../errors.ts'
import { readRegular } from '../files/read.ts'

/** Bytes: thousands of applications. */
const LARGEST = 1024 * 1024
const WRITABLE_BY_OTHERS = 0o002

/** What a file says, and what is odd about it. */
export interface PolicyFile {
  readonly input: unknown
  readonly warning: string | undefined
}

/**
 * @param path absolute
 * @param name what to call it: the path as it was written
 * @throws FST_HTTP_SECURITY_INVALID_POLICY with the line and the column where it is no JSON
 */
export async function readPolicyFile (path: string, name: string): Promise<PolicyFile> {
  const { text, mode } = await read(path, name)
  return {
    input: await parse(text, name),
    warning: (mode & WRITABLE_BY_OTHERS) === 0 ? undefined : `${name} can be written by every user of this machine, and with it what is enforced`
  }
}

async function read (path: string, name: string): Promise<{ text: string, mode: number }> {
  try {
    const { bytes, mode } = await readRegular(path, LARGEST)
    return { text: bytes.toString(), mode }
  } catch (cause) {
    throw new InvalidPolicyError(`${name}: cannot be read: ${(cause as Error).message}`, { cause })
  }
}

async function parse (text: string, name: string): Promise<unknown> {
  // Windows editors write a byte order mark, which JSON does not have (RFC 8259 §8.1).
  const json = text.replace(/^\uFEFF/, '')
  try {
    const input: unknown = JSON.parse(json)
    await requireOnce(json, name)
    return input
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw new InvalidPolicyError(`${name}:${placeOf(await positionOf(cause, json), json)}: no JSON: ${cause.message}`, { cause })
  }
}

/** Of two values for a name, `JSON.parse` takes the last one without a word (RFC 8259 §4), and a switch would be lost. */
async function requireOnce (json: string, name: string): Promise<void> {
  const { visit } = await import('jsonc-parser')
  const open: Array<Set<string>> = []
  visit(json, {
    onObjectBegin: () => { open.push(new Set()) },
    onObjectEnd: () => { open.pop() },
    onObjectProperty (property, offset) {
      const seen = open.at(-1)!
      if (seen.has(property)) throw new InvalidPolicyError(`${name}:${placeOf(offset, json)}: ${JSON.stringify(property)} is there twice`)
      seen.add(property)
    }
  })
}

function placeOf (offset: number, json: string): string {
  const lines = json.slice(0, offset).split('\n')
  return `${lines.length}:${lines.at(-1)!.length + 1}`
}

/** Where an error is. V8 tells it of some only. */
async function positionOf ({ message }: Error, json: string): Promise<number> {
  const told = /at position (\d+)/.exec(message)
  if (told !== null) return Number(told[1])
  const { parse } = await import('jsonc-parser')
  const errors: Array<{ offset: number }> = []
  try {
    parse(json, errors as never, { disallowComments: true, allowTrailingComma: false })
  } catch {
    // Thousands of brackets, one in the other, are too deep for it.
  }
  return Math.min(json.length, ...errors.slice(0, 1).map(({ offset }) => offset))
}
