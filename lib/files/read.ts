/** Reads files that others may replace while we look. */
import { type BigIntStats, constants } from 'node:fs'
import { open } from 'node:fs/promises'

export interface RegularFile {
  readonly bytes: Buffer
  /** Rights, as `stat` has them. */
  readonly mode: number
  /** A user's number. */
  readonly owner: number
  /** When it was written, in milliseconds since the epoch. */
  readonly modified: number
  /** What the file looked like; undefined where it was written just now, and might be again without looking otherwise. */
  readonly state: FileState | undefined
}

export type FileState = Pick<BigIntStats, 'dev' | 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>

/** Nanoseconds. File systems count in up to two seconds, and what is written twice within one step looks the same. */
const UNSETTLED = 3_000_000_000n

/** Whether a file still looks as it did when it was read. */
export function isUnchanged (state: FileState, now: FileState): boolean {
  return state.dev === now.dev && state.ino === now.ino && state.size === now.size && state.mtimeNs === now.mtimeNs && state.ctimeNs === now.ctimeNs
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
    const info = await file.stat({ bigint: true })
    if (!info.isFile()) throw new Error('it is not a regular file')
    if (info.size > largest) throw new Error(`it has more than ${largest} bytes`)
    const isSettled = BigInt(Date.now()) * 1_000_000n - info.ctimeNs > UNSETTLED
    return { bytes: await file.readFile(), mode: Number(info.mode), owner: Number(info.uid), modified: Number(info.mtimeMs), state: isSettled ? info : undefined }
  } finally {
    await file.close()
  }
}
