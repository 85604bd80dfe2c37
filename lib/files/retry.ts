/** Tries again, later each time: soon for what passes at once, and not too often for what stays. */

/** Milliseconds until the first time unless said otherwise, twice as long each time, and at most. */
const FIRST = 500
const MOST = 5_000

/** Keeps no process alive. */
export class Retry {
  readonly #first: number
  #delay: number
  #timer: NodeJS.Timeout | undefined

  /** @param first milliseconds */
  constructor (first = FIRST) {
    this.#first = first
    this.#delay = first
  }

  /** Instead of what was to be tried before. */
  later (attempt: () => void): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(attempt, this.#delay).unref()
    this.#delay = Math.min(2 * this.#delay, MOST)
  }

  /** Nothing is tried any more. */
  cancel (): void {
    clearTimeout(this.#timer)
  }

  /** The next failure is a first one. */
  reset (): void {
    this.cancel()
    this.#delay = this.#first
  }
}
