/**
 * Keeps what is in force up to date with where it comes from: files, or a source that others made. What was asked for
 * later is newer, and what fails changes nothing.
 */
/** Milliseconds until a load that does not end is told of, and nothing waits for it any more. */
const SLOW = 10_000
/** Different failures that are remembered. */
const MOST_TOLD = 100

/**
 * What is loaded, in three steps, since it depends on where it fails whether that may pass. What cannot be loaded, or
 * not be in force now, is tried again until it can; what the content has wrong is wrong until that changes.
 */
interface Reloadable<Loaded, Value = Loaded> {
  /** What goes on meanwhile, for messages: `reading policy.json`. */
  readonly loading: string
  /** Milliseconds until the first attempt after a failure, where a load takes much. */
  readonly retryAfter?: number
  /** Rejects for want of descriptors, network, or whatever else may pass. */
  load (): Promise<Loaded>
  /** Throws where the content is wrong. */
  check (loaded: Loaded): Value
  /** Puts it in force. Throws where that cannot be now, such as while the server's certificate has expired. */
  take (value: Value): void
  /** What was in force stays. Called once for each message, until all is well again. */
  failed (error: Error): void
  /** All is well again. */
  recovered (): void
  /** A load goes on for long. */
  waiting (message: string): void
}

export class ReloadQueue<Loaded, Value = Loaded> {
  readonly #what: Reloadable<Loaded, Value>
  readonly #retry: Retry
  readonly #told = new Set<string>()
  /** How often it was asked for. */
  #asked = 0
  /** What was asked for up to then is in force, or comes too late. */
  #settled = 0
  /** What has to be waited for: resolves when the load under way has ended, or takes too long. */
  #current: Promise<void> | undefined
  /** The load that follows it, however often it is asked for until it begins. */
  #next: Promise<void> | undefined
  #slow: NodeJS.Timeout | undefined
  #isStarted = false
  /** The process has to live until it is told what it waits for. */
  #isBooting = false

  constructor (what: Reloadable<Loaded, Value>) {
    this.#what = what
    this.#retry = new Retry(what.retryAfter)
  }

  /**
   * Loads for the first time, and starts. What changes meanwhile is loaded next.
   *
   * @param most milliseconds that it may take, and what to reject with then
   * @throws what the load rejects with, and has stopped then
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

  /** What fails is told of, and tried again. */
  start (): void {
    this.#isStarted = true
  }

  /** What is under way comes too late. */
  stop (): void {
    this.#isStarted = false
    this.supersede()
    this.#slow?.unref()
  }

  /** Something else is in force: what was asked for before comes too late. */
  supersede (): void {
    this.#settled = this.#asked
    this.#current = undefined
    this.#retry.reset()
    this.#told.clear()
  }

  /** There may be something else to load. Before it has started, that is loaded anyway. */
  changed (): void {
    if (!this.#isStarted) return
    this.#retry.reset()
    this.#keep()
  }

  /** Loads what is there now, after what is under way. Rejects where that fails, and it is tried again. */
  async once (): Promise<void> {
    this.#asked++
    if (this.#current === undefined) return await this.#run()
    this.#next ??= this.#current.then(async () => {
      this.#next = undefined
      if (this.#asked > this.#settled) await this.#run()
    })
    await this.#next
  }

  #keep (): void {
    this.once().catch((error: Error) => this.#fail(error))
  }

  async #run (): Promise<void> {
    const load = this.#load(this.#asked)
    const current = this.#untilSlow(load, this.#asked).then(() => {
      if (this.#current === current) this.#current = undefined
    })
    this.#current = current
    await load
  }

  async #load (number: number): Promise<void> {
    this.#retry.cancel()
    let mayPass = true
    try {
      const loaded = await this.#what.load()
      if (number <= this.#settled) return
      mayPass = false
      const value = this.#what.check(loaded)
      mayPass = true
      this.#what.take(value)
    } catch (error) {
      if (number <= this.#settled) return
      if (mayPass && this.#isStarted) this.#retry.later(() => this.#keep())
      throw error
    }
    this.#settled = number
    if (number === this.#asked) this.#recover()
  }

  /** Resolves when a load has ended, or nothing should wait for it any more. */
  async #untilSlow (load: Promise<void>, number: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const slow = setTimeout(() => {
        if (number > this.#settled) this.#wait()
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

  /** What fails while it begins is said by what {@link begin} rejects with. */
  #fail (error: Error): void {
    if (this.#isStarted && !this.#isBooting && this.#isNew(error.message)) this.#what.failed(error)
  }

  #wait (): void {
    const message = this.#notEnded(SLOW)
    if (this.#isNew(message)) this.#what.waiting(message)
  }

  #recover (): void {
    this.#retry.reset()
    if (this.#told.size === 0) return
    this.#told.clear()
    this.#what.recovered()
  }

  #isNew (message: string): boolean {
    if (this.#told.has(message)) return false
    if (this.#told.size === MOST_TOLD) this.#told.clear()
    this.#told.add(message)
    return true
  }

  #notEnded (milliseconds: number): string {
    return `${this.#what.loading} has not ended after ${milliseconds / 1_000} seconds`
  }
}

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
