/** What is wrong with what is asked of the network: told when it begins, changes and is over, lest logs fill. */

/** Milliseconds between two times that one thing is told to be wrong. */
const LEAST_BETWEEN = 60_000
/** Things that are remembered to be wrong. */
const MOST = 1_000

interface FetchProblem {
  readonly subject: string
  /** What is wrong now, and what was told to be; undefined: nothing. */
  current: string | undefined
  told: string | undefined
  /** Milliseconds since the epoch. */
  toldAt: number
}

export class FetchProblems {
  readonly #what: string
  readonly #tell: (level: 'info' | 'warn', message: string) => void
  readonly #problems = new Map<string, FetchProblem>()

  /** @param what is asked for, for messages: `OCSP` */
  constructor (what: string, tell: (level: 'info' | 'warn', message: string) => void) {
    this.#what = what
    this.#tell = tell
  }

  /** What is wrong now. */
  get current (): readonly string[] {
    return [...this.#problems.values()].flatMap(({ subject, current }) => current === undefined ? [] : `${this.#what}: ${subject}: ${current}`)
  }

  has (key: string): boolean {
    return this.#problems.get(key)?.current !== undefined
  }

  /**
   * @param subject what it is about, such as a URL without its query
   * @param message may begin with the subject
   */
  failed (key: string, subject: string, message: string): void {
    const current = message.startsWith(`${subject}: `) ? message.slice(subject.length + 2) : message
    const problem = this.#of(key, subject)
    problem.current = current
    const now = Date.now()
    if (problem.told === current || now - problem.toldAt < LEAST_BETWEEN) return
    problem.told = current
    problem.toldAt = now
    this.#tell('warn', `${this.#what}: ${subject}: ${current}`)
  }

  succeeded (key: string): void {
    const problem = this.#problems.get(key)
    if (problem === undefined) return
    const { subject, told } = problem
    problem.current = problem.told = undefined
    if (told !== undefined) this.#tell('info', `${this.#what}: ${subject}: all is well again`)
  }

  #of (key: string, subject: string): FetchProblem {
    let problem = this.#problems.get(key)
    if (problem === undefined) {
      if (this.#problems.size === MOST) this.#problems.delete(this.#problems.keys().next().value!)
      this.#problems.set(key, problem = { subject, current: undefined, told: undefined, toldAt: -Infinity })
    }
    return problem
  }
}

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
