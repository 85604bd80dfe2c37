/** Watches a source that others made, whatever its `watch` does. */
import { inspect } from 'node:util'
import { Retry } from './retry.ts'

export interface Watchable {
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
