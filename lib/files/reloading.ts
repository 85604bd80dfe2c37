/** Reads files anew, one time after the other: what is read later is newer. */

/** Milliseconds. A file may be complete by then, or a revocation list have begun, and no change would tell. */
const RETRY = 5_000

export class Reloading {
  readonly #load: () => Promise<void>
  readonly #failed: (error: Error) => void
  #last: Promise<void> = Promise.resolve()
  #retry: NodeJS.Timeout | undefined
  #isStopped = false

  /**
   * @param load rejects where not all of it could be taken over
   * @param failed told of each failure of {@link keep}
   */
  constructor (load: () => Promise<void>, failed: (error: Error) => void) {
    this.#load = load
    this.#failed = failed
  }

  /** Rejects with what `load` does. */
  async once (): Promise<void> {
    const loading = this.#last.then(this.#load)
    this.#last = loading.catch(() => {})
    return await loading
  }

  /** Tries until it succeeds. Keeps no process alive. */
  keep (): void {
    this.#isStopped = false
    this.#try(undefined)
  }

  stop (): void {
    this.#isStopped = true
    clearTimeout(this.#retry)
  }

  /** @param told the failure that is known, and not told again */
  #try (told: string | undefined): void {
    clearTimeout(this.#retry)
    this.once().catch((error: Error) => {
      if (this.#isStopped) return
      if (error.message !== told) this.#failed(error)
      // Of several that have failed, one tries again.
      clearTimeout(this.#retry)
      this.#retry = setTimeout(() => this.#try(error.message), RETRY).unref()
    })
  }
}
