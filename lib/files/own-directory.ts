/** Directories that nobody else may read or write. */
import { chmod, lstat, mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'

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
