/** What has failed is left alone for a while, and for longer each time. */

/** Milliseconds. */
const SHORTEST = 5_000
const LONGEST = 10 * 60_000

/** Of failures that are remembered. The ones that are forgotten first are those that have not failed for the longest time. */
const MOST = 10_000

interface Failure {
  readonly reason: string
  readonly times: number
  /** By the clock. */
  readonly until: number
}

export class Backoff {
  readonly #clock: () => number
  readonly #failures = new Map<string, Failure>()

  /** @param clock milliseconds since whenever */
  constructor (clock: () => number) {
    this.#clock = clock
  }

  /** Why something is left alone, and for how many milliseconds; undefined where it is not. */
  get (key: string): { readonly reason: string, readonly left: number } | undefined {
    const failure = this.#failures.get(key)
    const left = failure === undefined ? 0 : failure.until - this.#clock()
    return failure !== undefined && left > 0 ? { reason: failure.reason, left } : undefined
  }

  /** @returns milliseconds that it is left alone: 5 s at first, at most 10 min, less up to a quarter, lest all begin again at once */
  failed (key: string, reason: string): number {
    const times = (this.#failures.get(key)?.times ?? 0) + 1
    const delay = Math.min(SHORTEST * 2 ** (times - 1), LONGEST) * (1 - Math.random() / 4)
    this.#failures.delete(key)
    this.#failures.set(key, { reason, times, until: this.#clock() + delay })
    if (this.#failures.size > MOST) this.#failures.delete(this.#failures.keys().next().value!)
    return delay
  }

  succeeded (key: string): void {
    this.#failures.delete(key)
  }
}
