/** Reads files that others may replace while we look. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

export interface RegularFile {
  readonly bytes: Buffer
  /** Rights and owner, as `stat` has them. */
  readonly mode: number
  readonly uid: number
}

/**
 * Reads a regular file whole.
 *
 * @param largest bytes
 * @param isLinkFollowed false: a symbolic link is not a regular file
 * @throws Node's error, or one that says what else it is
 */
export async function readRegular (path: string, largest: number, isLinkFollowed = true): Promise<RegularFile> {
  // A named pipe would keep one of four threads waiting for somebody who writes.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | (isLinkFollowed ? 0 : constants.O_NOFOLLOW))
  try {
    const info = await file.stat()
    if (!info.isFile()) throw new Error('it is not a regular file')
    if (info.size > largest) throw new Error(`it has more than ${largest} bytes`)
    return { bytes: await file.readFile(), mode: info.mode, uid: info.uid }
  } finally {
    await file.close()
  }
}
