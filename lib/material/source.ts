/** Where certificates, keys and lists come from: a file, or their content. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { InvalidCertificatesError } from '../errors.ts'
import { type FileState, isUnchanged, readRegular } from '../files/read.ts'

/** The path of a file, relative to the working directory; or PEM text; or the bytes of a file. */
export type FileOrContent = string | Uint8Array

/** What was read, and what to call it in messages. */
export interface Content {
  readonly name: string
  readonly bytes: Buffer
}

/** Bytes. The largest revocation lists of public authorities have about a quarter of it; a device file has no end. */
const LARGEST = 128 * 1024 * 1024

/** What is rather content in a form that is not read than the path of a file, and may be a key. */
const CONTENT = /[\r\n{}"]|^\s*data:|^[\w+/=-]{40,}$/

/** A file by its absolute path, which holds when the process goes elsewhere, and as it was written. */
export interface NamedFile { readonly path: string, readonly name: string }
export type Located = Buffer | NamedFile

/** Of content, a copy: whoever wipes theirs does not change ours, which is looked at again with each reload. */
export function locate (source: FileOrContent): Located {
  return typeof source === 'string' && !isPem(source) ? Object.freeze({ path: resolve(source), name: source }) : Buffer.from(source as string)
}

/** The file behind a source; none where it is content. */
export function pathOf (source: Located): string | undefined {
  return 'path' in source ? source.path : undefined
}

/**
 * Reads sources, and files anew only where they look changed: what has not changed is the very `Content` that was read
 * before, so that what was made of it can be used again.
 */
export class FileReader {
  readonly #read = new Map<string, { readonly state: FileState | undefined, readonly content: Content }>()

  /**
   * Reads a source whole.
   *
   * @param role what it is, for a source that has no name: `certificates[0].key`
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when a file is missing, unreadable, empty, too large, or no regular file
   */
  async read (source: Located, role: string): Promise<Content> {
    if (!('path' in source)) return this.#keep(role, undefined, { name: role, bytes: source })
    // As it was written: that is what people look for in their configuration.
    const { path, name } = source
    try {
      const kept = this.#read.get(path)
      if (kept?.state !== undefined && isUnchanged(kept.state, await stat(path, { bigint: true }))) return kept.content
      const { bytes, state } = await readRegular(path, LARGEST)
      if (bytes.length === 0) throw new Error('it is empty')
      return this.#keep(path, state, { name, bytes })
    } catch (cause) {
      // A key in base64, or without its BEGIN line, looks like a path: it is not for the log, nor what Node says of it.
      if (CONTENT.test(name)) throw invalid(role, 'is neither PEM nor the path of a file')
      const { code, message } = cause as NodeJS.ErrnoException
      throw invalid(name, `cannot be read: ${code ?? message}`, cause)
    }
  }

  #keep (key: string, state: FileState | undefined, content: Content): Content {
    const kept = this.#read.get(key)?.content
    const same = kept !== undefined && kept.name === content.name && kept.bytes.equals(content.bytes) ? kept : content
    this.#read.set(key, { state, content: same })
    return same
  }
}

/** An error that names the file. */
export function invalid (name: string, reason: string, cause?: unknown): Error {
  return new InvalidCertificatesError(`${name}: ${reason}`, { cause })
}

function isPem (text: string): boolean {
  return text.includes('-----BEGIN ')
}
