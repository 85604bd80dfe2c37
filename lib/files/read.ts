/**
 * Reading files that other processes may replace at the same time (`readRegular`), and directories that only this user
 * may use (`prepareOwnDirectory`).
 */
import { type BigIntStats, constants } from 'node:fs'
import { chmod, lstat, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

interface RegularFile {
  readonly bytes: Buffer
  /** The file mode, as in `stat`. */
  readonly mode: number
  /** The user id of the owner. */
  readonly owner: number
  /** The time of the last modification, in milliseconds since the epoch. */
  readonly modified: number
  /** For `isUnchanged`. Undefined if the file was written a moment ago: it may be written again and look the same. */
  readonly state: FileState | undefined
}

/** The properties that show whether a file has changed. */
export type FileState = Pick<BigIntStats, 'dev' | 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>

/** Nanoseconds. File systems have time steps of up to two seconds, and two writes in one step look the same. */
const UNSETTLED = 3_000_000_000n

/** Whether a file looks the same as when it was read. */
export function isUnchanged (state: FileState, now: FileState): boolean {
  return state.dev === now.dev && state.ino === now.ino && state.size === now.size && state.mtimeNs === now.mtimeNs && state.ctimeNs === now.ctimeNs
}

/**
 * Reads a whole regular file.
 *
 * @param largest bytes
 * @param isLinkFollowed if false, a symbolic link is not a regular file
 * @throws Node's error, or one that says why it is refused
 */
export async function readRegular (path: string, largest: number, isLinkFollowed = true): Promise<RegularFile> {
  // Without O_NONBLOCK, opening a named pipe would block one of four threads until another process writes to it.
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

// Directories of this user

const OWNER = 0o700
const WRITABLE_BY_OTHERS = 0o022

/**
 * Creates a directory, readable by its owner only, or checks the one that exists.
 *
 * @returns whether other users could write to it before, and so may have planted files
 * @throws Node's error, or one that says why another user could decide where the files are written: a symbolic link, no
 * directory, or another user's directory
 */
export async function prepareOwnDirectory (dir: string): Promise<boolean> {
  await mkdir(dirname(dir), { recursive: true })
  await mkdir(dir, { mode: OWNER }).catch(unless('EEXIST'))
  // `lstat`: a symbolic link is checked itself
  const info = await lstat(dir)
  if (info.isSymbolicLink()) throw new Error('it is a symbolic link: give the directory itself')
  if (!info.isDirectory()) throw new Error('it is not a directory')
  if (!isOwn(info.uid)) throw new Error('it belongs to another user')
  if ((info.mode & 0o777) !== OWNER) await chmod(dir, OWNER)
  return process.getuid !== undefined && (info.mode & WRITABLE_BY_OTHERS) !== 0
}

/** Whether a user id is that of this process. Always true on Windows, which has none. */
export function isOwn (owner: number): boolean {
  return process.getuid === undefined || owner === process.getuid()
}

// Errors

/** For `catch`: ignores one expected error code. */
export const unless = (code: string) => (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== code) throw error
}
