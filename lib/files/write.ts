/** Writing files that other processes may read at the same time, and that must not be lost: `replaceFile`. */
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

interface NewFile {
  /** A path on the same file system where nothing is. */
  readonly temporary: string
  /** The file mode, as in `chmod`. */
  readonly mode: number
  /** Who it shall belong to, if not to the user and group that new files belong to. */
  readonly owner?: { readonly uid: number, readonly gid: number }
  /** Called when all is written: what rejects here leaves the file as it was. */
  ready? (): Promise<void>
}

/**
 * Puts bytes in the place of a file, as a whole or not at all: who reads it has the old bytes or the new ones, also after the
 * machine lost power.
 *
 * @throws Node's error, or that of `ready`; the file is as it was then
 */
export async function replaceFile (path: string, bytes: Buffer, { temporary, mode, owner, ready }: NewFile): Promise<void> {
  try {
    const file = await open(temporary, 'wx', mode)
    try {
      await file.writeFile(bytes)
      if (owner !== undefined) await file.chown(owner.uid, owner.gid).catch((cause: Error) => { throw new Error(`its owner and group cannot be kept: ${cause.message}`, { cause }) })
      // What the process masks off new files (umask), and what chown takes away
      await file.chmod(mode)
      await file.sync()
    } finally {
      await file.close()
    }
    await ready?.()
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(dirname(path)).catch(() => {})
}

/** Makes a rename last. Windows and some network file systems have nothing of the kind; the file is in its place then, too. */
async function syncDirectory (path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
