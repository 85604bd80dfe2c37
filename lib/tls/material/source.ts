/** Where certificates, keys and lists come from: a file, or their content. */
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { InvalidCertificatesError } from '../../errors.ts'

/** The path of a file, relative to the working directory; or PEM text; or the bytes of a file. */
export type Source = string | Uint8Array

/** What was read, and what to call it in messages. */
export interface Content {
  readonly name: string
  readonly bytes: Buffer
}

/** Bytes. The largest revocation lists of public authorities have about half of it; a device file has no end. */
const LARGEST = 64 * 1024 * 1024

/** The file behind a source, as an absolute path; none where it is content. */
export function pathOf (source: Source): string | undefined {
  return typeof source === 'string' && !isPem(source) ? resolve(source) : undefined
}

/**
 * Reads a source whole.
 *
 * @param role what it is, for a source that has no name: `certificates[0].key`
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when a file is missing, unreadable, empty, too large, or no regular file
 */
export async function read (source: Source, role: string): Promise<Content> {
  const path = pathOf(source)
  if (path === undefined) return { name: role, bytes: Buffer.from(source as string) }
  // As it was written: that is what people look for in their configuration.
  const name = source as string
  try {
    return { name, bytes: await readRegular(path) }
  } catch (cause) {
    throw invalid(name, `cannot be read: ${(cause as Error).message}`, cause)
  }
}

async function readRegular (path: string): Promise<Buffer> {
  // Before it is opened: a named pipe would wait for somebody who writes.
  const info = await stat(path)
  if (!info.isFile()) throw new Error('it is not a regular file')
  if (info.size > LARGEST) throw new Error(`it has more than ${LARGEST} bytes`)
  const bytes = await readFile(path)
  if (bytes.length === 0) throw new Error('it is empty')
  return bytes
}

/** An error that names the file. */
export function invalid (name: string, reason: string, cause?: unknown): Error {
  return new InvalidCertificatesError(`${name}: ${reason}`, { cause })
}

function isPem (text: string): boolean {
  return text.includes('-----BEGIN ')
}
