/** Tells when files have changed, and have stopped changing. */
import { unwatchFile, watch, watchFile } from 'node:fs'
import { basename, dirname } from 'node:path'
import { inspect } from 'node:util'
import { Retry } from './reload-queue.ts'

/**
 * Milliseconds between looks. Files are looked at, not waited for alone: `fs.watch` hears nothing on network file systems
 * and bind mounts, follows the file that was replaced, and sees no symbolic link change further up, as in a Kubernetes volume.
 */
const INTERVAL = 250
/** Milliseconds for each file between two looks: with thousands of files, looks become rarer. */
const LOOK = 5
/** Milliseconds without a change until files count as written: longer than a look, which has to see that nothing changed. */
const QUIET = 300
/** Milliseconds. Files that never rest are told of, too. */
const LONGEST_WAIT = 2_000

/**
 * Watches files, through renames, writes in place, symbolic links on any part of the path, and while they are not there.
 * Keeps no process alive.
 *
 * @param paths absolute
 * @param changed called once at first, lest a change be missed that came before, and then once for changes that come together
 * @returns what stops it
 */
export function watchFiles (paths: readonly string[], changed: () => void): () => void {
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
  // What changed between being read and being watched would go unnoticed.
  let timer: NodeJS.Timeout = setTimeout(changed, QUIET).unref()
  const unique = [...new Set(paths)]
  for (const path of unique) {
    watchFile(path, { interval: Math.max(INTERVAL, unique.length * LOOK), persistent: false }, listener)
  }
  const stopListening = listenTo(unique, listener)
  return () => {
    clearTimeout(timer)
    stopListening()
    for (const path of unique) unwatchFile(path, listener)
  }
}

/** Hears of changes at once where the system tells: however many files there are, one that changes has not to wait for its look. */
function listenTo (paths: readonly string[], listener: () => void): () => void {
  const namesIn = new Map<string, Set<string>>()
  for (const path of paths) namesIn.set(dirname(path), (namesIn.get(dirname(path)) ?? new Set()).add(basename(path)))
  const watchers = [...namesIn].flatMap(([dir, names]) => {
    try {
      const watcher = watch(dir, { persistent: false }, (_event, name) => { if (name === null || names.has(name)) listener() })
      return watcher.on('error', () => watcher.close())
    } catch {
      // It is not there, or the system listens to no more of them.
      return []
    }
  })
  return () => { for (const watcher of watchers) watcher.close() }
}

/** Watches a source that others made, whatever its `watch` does. */

interface Watchable {
  /** Should answer what stops it, or a promise of that. */
  watch? (changed: () => void): unknown
}

/**
 * @param changed called when the source says so, and once it watches if that took time: what changed before went unnoticed
 * @param failed told once why it is not watched, which is tried again, or why it cannot be stopped
 * @returns what stops it, and never throws
 */
export function watchSource (source: Watchable, changed: () => void, failed: (reason: string) => void): () => void {
  const retry = new Retry()
  let isStopped = false
  let told: string | undefined
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
    if (reason !== told) failed(reason)
    told = reason
  }

  begin()
  return () => {
    isStopped = true
    retry.cancel()
    finish()
  }
}

/** What others throw may be anything. */
export function reasonOf (error: unknown): string {
  const { message = error } = Object(error) as { message?: unknown }
  return typeof message === 'string' ? message : inspect(message, { depth: 0 })
}
