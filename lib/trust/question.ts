/** What is asked of the network while requests wait for it: for three seconds, and what comes later counts from then on. */

/** Milliseconds. */
const LONGEST_WAIT = 3_000

export class SharedFetch {
  #pending: Promise<void> | undefined

  /** @param answered resolves, and never rejects, once there is an answer, or will be none */
  constructor (answered: Promise<void>) {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, LONGEST_WAIT).unref() })
    // By one clock for all who wait: whoever looks again after it finds nothing to wait for.
    this.#pending = Promise.race([answered, late]).then(() => {
      clearTimeout(timer)
      this.#pending = undefined
    })
  }

  /** What is to be waited for; undefined where it is answered, or was waited for long enough. */
  get pending (): Promise<void> | undefined {
    return this.#pending
  }
}
