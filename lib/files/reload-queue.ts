/**
 * The reload queue: loads what is in force again when its source changes, which is a file or a source that a user
 * wrote. Begin with `ReloadQueue.once`. A later request wins over an earlier one, and a load that fails changes
 * nothing.
 */

/** Milliseconds. After this time, a load that has not ended is logged, and does not block the next one. */
const SLOW = 10_000
/** How many different failures are remembered. */
const MOST_REPORTED = 100

/**
 * What a queue loads, in three steps: whether a failure may pass depends on the step. A failure of `load` or `take` is
 * tried again until it succeeds. A failure of `check` is an error in the content, which stays until the content
 * changes.
 */
interface Reloadable<Loaded, Value = Loaded> {
  /** What is being done, for messages: `reading policy.json`. */
  readonly loading: string
  /**
   * Milliseconds before the first retry, for a load that is expensive.
   *
   * @default 500
   */
  readonly retryAfter?: number
  /** Rejects for a reason that may pass: no file descriptors, no network, and so on. */
  load (): Promise<Loaded>
  /** Throws if the content is wrong. */
  check (loaded: Loaded): Value | Promise<Value>
  /** Puts it in force. Throws if that is not possible now, such as while the server's certificate has expired. */
  take (value: Value): void
  /** A load failed, and what was in force stays. Called once for each message, until a load succeeds. */
  failed (error: Error): void
  /** A load succeeded after a failure. */
  recovered (): void
  /** A load takes long. */
  waiting (message: string): void
}

/** Loads again on request: one load after the other, but a load that takes too long does not block the next one. */
export class ReloadQueue<Loaded, Value = Loaded> {
  readonly #reloadable: Reloadable<Loaded, Value>
  readonly #retry: Retry
  readonly #reported = new Set<string>()
  /** The number of the last request. */
  #requested = 0
  /** Requests up to this number are in force, or superseded. */
  #settled = 0
  /** The load that a new request waits for: resolves when it has ended, or takes too long. */
  #current: Promise<void> | undefined
  /** The load after it, one for all requests until it begins. */
  #next: Promise<void> | undefined
  #slow: NodeJS.Timeout | undefined
  #isStarted = false
  /** The process has to stay alive while `begin` waits. */
  #isBooting = false

  constructor (reloadable: Reloadable<Loaded, Value>) {
    this.#reloadable = reloadable
    this.#retry = new Retry(reloadable.retryAfter)
  }

  /**
   * Loads for the first time, and starts. Changes during this are loaded next.
   *
   * @param most milliseconds for this load
   * @param late makes the error if it takes longer
   * @throws what the load rejects with; the queue is stopped then
   */
  async begin (most: number, late: (message: string) => Error): Promise<void> {
    this.#isStarted = true
    this.#isBooting = true
    let timer: NodeJS.Timeout | undefined
    const end = new Promise<never>((_resolve, reject) => {
      if (most < Infinity) timer = setTimeout(() => reject(late(this.#notEnded(most))), most)
    })
    try {
      await Promise.race([this.once(), end])
    } catch (error) {
      this.stop()
      throw error
    } finally {
      this.#isBooting = false
      clearTimeout(timer)
    }
  }

  /** From now on, failures are reported and tried again. */
  start (): void {
    this.#isStarted = true
  }

  /** Stops: the current load has no effect any more. */
  stop (): void {
    this.#isStarted = false
    this.supersede()
    this.#slow?.unref()
  }

  /** Something else was put in force: earlier requests have no effect any more. */
  supersede (): void {
    this.#settled = this.#requested
    this.#current = undefined
    this.#retry.reset()
    this.#reported.clear()
  }

  /** The source has changed. Before `start`, this has no effect: the content is loaded anyway. */
  changed (): void {
    if (!this.#isStarted) return
    this.#retry.reset()
    this.#loadInBackground()
  }

  /** Loads what is there now, after the current load. Rejects if that fails; it is then tried again. */
  async once (): Promise<void> {
    this.#requested++
    if (this.#current === undefined) return await this.#run()
    this.#next ??= this.#current.then(async () => {
      this.#next = undefined
      if (this.#requested > this.#settled) await this.#run()
    })
    await this.#next
  }

  #loadInBackground (): void {
    this.once().catch((error: Error) => this.#reportFailure(error))
  }

  async #run (): Promise<void> {
    const load = this.#load(this.#requested)
    const current = this.#untilSlow(load, this.#requested).then(() => {
      if (this.#current === current) this.#current = undefined
    })
    this.#current = current
    await load
  }

  async #load (number: number): Promise<void> {
    this.#retry.cancel()
    let mayPass = true
    try {
      const loaded = await this.#reloadable.load()
      if (number <= this.#settled) return
      mayPass = false
      const value = await this.#reloadable.check(loaded)
      if (number <= this.#settled) return
      mayPass = true
      this.#reloadable.take(value)
    } catch (error) {
      if (number <= this.#settled) return
      if (mayPass && this.#isStarted) this.#retry.later(() => this.#loadInBackground())
      throw error
    }
    this.#settled = number
    if (number === this.#requested) this.#recover()
  }

  /** Resolves when a load has ended, or when the next one should not wait for it any more. */
  async #untilSlow (load: Promise<void>, number: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const slow = setTimeout(() => {
        if (number > this.#settled) this.#reportSlow()
        resolve()
      }, SLOW)
      if (!this.#isBooting) slow.unref()
      this.#slow = slow
      load.catch(() => {}).then(() => {
        clearTimeout(slow)
        resolve()
      })
    })
  }

  /** During {@link begin}, its caller gets the error. */
  #reportFailure (error: Error): void {
    if (this.#isStarted && !this.#isBooting && this.#isNew(error.message)) this.#reloadable.failed(error)
  }

  #reportSlow (): void {
    const message = this.#notEnded(SLOW)
    if (this.#isNew(message)) this.#reloadable.waiting(message)
  }

  #recover (): void {
    this.#retry.reset()
    if (this.#reported.size === 0) return
    this.#reported.clear()
    this.#reloadable.recovered()
  }

  #isNew (message: string): boolean {
    if (this.#reported.has(message)) return false
    if (this.#reported.size === MOST_REPORTED) this.#reported.clear()
    this.#reported.add(message)
    return true
  }

  #notEnded (milliseconds: number): string {
    return `${this.#reloadable.loading} has not ended after ${Number((milliseconds / 1_000).toPrecision(2))} seconds`
  }
}

// Retries with growing delays: soon for a failure that passes at once, and not too often for one that stays

/** Milliseconds before the first retry unless given; each delay is twice the one before, up to a maximum. */
const FIRST = 500
const MOST = 5_000

/** A timer for retries. Keeps no process alive. */
export class Retry {
  readonly #first: number
  #delay: number
  #timer: NodeJS.Timeout | undefined

  /** @param first milliseconds before the first retry */
  constructor (first = FIRST) {
    this.#first = first
    this.#delay = first
  }

  /** Schedules an attempt, instead of the one before. */
  later (attempt: () => void): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(attempt, this.#delay).unref()
    this.#delay = Math.min(2 * this.#delay, MOST)
  }

  /** Cancels the attempt. */
  cancel (): void {
    clearTimeout(this.#timer)
  }

  /** Cancels the attempt, and the next failure has the first delay again. */
  reset (): void {
    this.cancel()
    this.#delay = this.#first
  }
}
