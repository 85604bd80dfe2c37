/**
 * A lock for several processes, and for several tasks of one: `withLock`. Whoever has it prepares files in a directory of
 * its own, and renames them to where they belong. Once the lock was taken away from it, that fails.
 */
import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { lstat, mkdir, rename, rm, rmdir, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { unless } from './read.ts'

/** Only the owner may see what is prepared. */
const OWNER_DIRECTORY = 0o700

/** How to wait for a lock that others may have for long. */
interface Waiting {
  /** Milliseconds between two looks. */
  readonly pause: number
  /** Ends the waiting, which keeps no process alive. */
  readonly signal: AbortSignal
}

/** Milliseconds. The holder sets the time of the lock anew more often: an older one was left by a process that died. */
const ABANDONED = 10_000
const HEARTBEAT = ABANDONED / 5
const RETRY = 20

/**
 * Does `work` while nobody else has the lock.
 *
 * A holder that stands still for ten seconds counts as dead, and the lock is taken away from it. If it lives after all, it
 * does no harm: its `staging` has gone, and renaming a file from there fails.
 *
 * @param lock the path of a directory that exists while somebody has the lock, on the file system of the files
 * @param work gets the path of an empty directory in it, in which it prepares its files
 * @param waiting for work that takes minutes
 * @throws what `work` throws, and the reason of the signal
 */
export async function withLock<Result> (lock: string, work: (staging: string) => Promise<Result>, waiting?: Waiting): Promise<Result> {
  const staging = join(lock, randomUUID())
  let waitsFor: { readonly holder: string, readonly since: number } | undefined
  while (!await isMade(lock, staging)) {
    const info = await lstat(lock).catch(unless('ENOENT'))
    if (info !== undefined) {
      // The age is measured from when this process first saw the heartbeat, too: the clock may be wrong
      const holder = `${info.ino} ${info.birthtimeMs} ${info.mtimeMs}`
      if (waitsFor?.holder !== holder) waitsFor = { holder, since: performance.now() }
      if (isAbandoned(info, performance.now() - waitsFor.since)) await evict(lock)
    }
    await setTimeout(waiting?.pause ?? RETRY, undefined, waiting && { signal: waiting.signal, ref: false })
  }
  const heartbeat = setInterval(() => utimes(lock, new Date(), new Date()).catch(() => {}), HEARTBEAT).unref()
  try {
    return await work(staging)
  } finally {
    clearInterval(heartbeat)
    await rm(staging, { recursive: true, force: true })
    // Not empty where it was taken away: then it is somebody else's
    await rmdir(lock).catch(() => {})
  }
}

/** Between the two steps, the lock may be released by one from which it was taken away. */
async function isMade (lock: string, staging: string): Promise<boolean> {
  const isFree = await mkdir(lock, { mode: OWNER_DIRECTORY }).then(() => true, unless('EEXIST'))
  return isFree === true && await mkdir(staging, { mode: OWNER_DIRECTORY }).then(() => true, unless('ENOENT')) === true
}

/**
 * Whether the process of a lock has died. A symbolic link without a target or a named pipe was never a lock; a lock with a
 * time in the future does not belong to a running process.
 */
function isAbandoned (info: Stats, waited: number): boolean {
  return !info.isDirectory() || Math.abs(Date.now() - info.mtimeMs) >= ABANDONED || waited >= ABANDONED
}

/** Removes the lock of a dead process. It is renamed first: of several processes that see it, only one succeeds. */
export async function evict (lock: string): Promise<void> {
  const abandoned = `${lock}-${randomUUID()}`
  await rename(lock, abandoned).catch(unless('ENOENT'))
  await rm(abandoned, { recursive: true, force: true })
}
