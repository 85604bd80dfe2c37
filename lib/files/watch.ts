/** Watching files (`watchFiles`), and a policy source that a user wrote (`watchSource`), for changes. */
import { unwatchFile, watch, watchFile } from 'node:fs'
import { basename, dirname } from 'node:path'
import { inspect } from 'node:util'
import { Retry } from './reload-queue.ts'

/**
 * Milliseconds between polls. Files are polled, and `fs.watch` is used only in addition: it reports nothing on network
 * file systems and bind mounts, follows the file that was replaced, and does not see when a symbolic link further up
 * the path changes, as in a Kubernetes volume.
 */
const POLL_INTERVAL = 250
/** Milliseconds for each file between two polls: thousands of files are polled less often. */
const POLL_PER_FILE = 5
/**
 * Milliseconds without a change until files count as written: longer than a poll, which has to see that nothing
 * changed.
 */
const QUIET = 300
/** Milliseconds. Files that change all the time are reported as well. */
const LONGEST_WAIT = 2_000

/**
 * Watches files: renames, writes in place, symbolic links in any part of the path; also while a file does not exist.
 * Keeps no process alive.
 *
 * @param paths absolute
 * @param changed called once at the start, so that no earlier change is missed, and then once for changes that come
 * together
 * @returns a function that stops it
 */
export function watchFiles (paths: readonly string[], changed: () => void): () => void {
  if (paths.length === 0) return () => {}
  let first: number | undefined
  const tell = (): void => {
    first = undefined
    changed()
  }
  const listener = (): void => {
    const now = performance.now()
    first ??= now
    clearTimeout(timer)
    timer = setTimeout(tell, Math.min(QUIET, first + LONGEST_WAIT - now)).unref()
  }
  // A change between reading and watching would be missed.
  let timer: NodeJS.Timeout = setTimeout(changed, QUIET).unref()
  const unique = [...new Set(paths)]
  for (const path of unique) {
    // Node has one watcher for each file, and warns of more than ten listeners: a hundred hosts may share a CA.
    watchFile(path, { interval: Math.max(POLL_INTERVAL, unique.length * POLL_PER_FILE), persistent: false }, listener).setMaxListeners(0)
  }
  const stopListening = listenTo(unique, listener)
  return () => {
    clearTimeout(timer)
    stopListening()
    for (const path of unique) unwatchFile(path, listener)
  }
}

/** Reports changes at once where `fs.watch` works: with many files, a change does not wait for its poll. */
function listenTo (paths: readonly string[], listener: () => void): () => void {
  const namesIn = new Map<string, Set<string>>()
  for (const path of paths) namesIn.set(dirname(path), (namesIn.get(dirname(path)) ?? new Set()).add(basename(path)))
  const watchers = [...namesIn].flatMap(([dir, names]) => {
    try {
      const watcher = watch(dir, { persistent: false }, (_event, name) => { if (name === null || names.has(name)) listener() })
      return watcher.on('error', () => watcher.close())
    } catch {
      // The directory does not exist, or the system has no more watchers.
      return []
    }
  })
  return () => { for (const watcher of watchers) watcher.close() }
}

// Sources that a user wrote

interface Watchable {
  /** Should return a function that stops it, or a promise of one. */
  watch? (changed: () => void): unknown
}

/**
 * Watches a source, whatever its `watch` does.
 *
 * @param changed called when the source reports a change, and once after an asynchronous `watch` has begun: an earlier
 * change would be missed
 * @param failed called with the reason if the source cannot be watched, which is tried again, or cannot be stopped
 * @returns a function that stops it; never throws
 */
export function watchSource (source: Watchable, changed: () => void, failed: (reason: string) => void): () => void {
  const retry = new Retry()
  let isStopped = false
  let reported: string | undefined
  let end: (() => unknown) | undefined

  async function begin (): Promise<void> {
    try {
      const answer = source.watch?.(() => { if (!isStopped) changed() })
      const stop = await answer
      end = requireStop(stop)
      if (isStopped) finish()
      else if (stop !== answer) changed()
    } catch (error) {
      if (isStopped) return
      tell(`cannot be watched, so that nobody hears of changes: ${reasonOf(error)}`)
      retry.later(begin)
    }
  }

  function requireStop (stop: unknown): (() => unknown) | undefined {
    if (typeof stop === 'function') return stop as () => unknown
    if (stop !== undefined && stop !== null) tell(`cannot be stopped: its watch() answered ${inspect(stop, { depth: 0 })}; allowed: a function that stops it, or nothing`)
    return undefined
  }

  async function finish (): Promise<void> {
    const stop = end
    end = undefined
    try {
      await stop?.()
    } catch (error) {
      failed(`cannot be stopped: ${reasonOf(error)}`)
    }
  }

  function tell (reason: string): void {
    if (reason !== reported) failed(reason)
    reported = reason
  }

  begin()
  return () => {
    isStopped = true
    retry.cancel()
    finish()
  }
}

/** The message of a thrown value, which may be anything. */
export function reasonOf (error: unknown): string {
  const { message = error } = Object(error) as { message?: unknown }
  return typeof message === 'string' ? message : inspect(message, { depth: 0 })
}
