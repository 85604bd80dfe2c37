/** A policy in a JSON file. */
import { readFile, stat } from 'node:fs/promises'
import { InvalidPolicyError } from '../errors.ts'

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
    // Before it is opened: a named pipe would wait for somebody who writes.
    const info = await stat(path)
    if (!info.isFile()) throw new Error('it is not a regular file')
    if (info.size > LARGEST) throw new Error(`it has more than ${LARGEST} bytes`)
    return { text: await readFile(path, 'utf8'), mode: info.mode }
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
  parse(json, errors as never, { disallowComments: true, allowTrailingComma: false })
  return Math.min(json.length, ...errors.map(({ offset }) => offset))
}
