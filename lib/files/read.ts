/** Reads files that others may replace while we look. */
import { type BigIntStats, constants } from 'node:fs'
import { chmod, lstat, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

interface RegularFile {
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

/** Directories that nobody else may read or write. */

const OWNER = 0o700
const WRITABLE_BY_OTHERS = 0o022

/**
 * Makes a directory, readable by its owner only, or checks the one that is there.
 *
 * @returns whether others could write there before, who may have put there what they like
 * @throws Node's error, or one that says why files would end up where somebody else decided: behind a symbolic link, in what is
 * no directory, or in another user's
 */
export async function prepareOwnDirectory (dir: string): Promise<boolean> {
  await mkdir(dirname(dir), { recursive: true })
  await mkdir(dir, { mode: OWNER }).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error })
  // Not followed: the link's own nature counts
  const info = await lstat(dir)
  if (info.isSymbolicLink()) throw new Error('it is a symbolic link: give the directory itself')
  if (!info.isDirectory()) throw new Error('it is not a directory')
  if (!isOwn(info.uid)) throw new Error('it belongs to another user')
  if ((info.mode & 0o777) !== OWNER) await chmod(dir, OWNER)
  return process.getuid !== undefined && (info.mode & WRITABLE_BY_OTHERS) !== 0
}

/** Whether a user's number is that of this process. Windows has none. */
export function isOwn (owner: number): boolean {
  return process.getuid === undefined || owner === process.getuid()
}
