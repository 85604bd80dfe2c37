/** Reads files that others may replace while we look. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

export interface RegularFile {
  readonly bytes: Buffer
  /** As `stat` has it. */
  readonly mode: number
  /** A user's number. */
  readonly owner: number
  /** When it was written, in milliseconds since the epoch. */
  readonly modified: number
}

/**
 * Reads a regular file whole.
 *
 * @param largest bytes
 * @throws Node's error, or one that says what else it is
 */
export async function readRegular (path: string, largest: number): Promise<RegularFile> {
  // A named pipe would keep one of four threads waiting for somebody who writes.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const info = await file.stat()
    if (!info.isFile()) throw new Error('it is not a regular file')
    if (info.size > largest) throw new Error(`it has more than ${largest} bytes`)
    return { bytes: await file.readFile(), mode: info.mode, owner: info.uid, modified: info.mtimeMs }
  } finally {
    await file.close()
  }
}
