/**
 * Failures of requests for CRLs and OCSP responses, and waiting for such requests: `FetchProblems` logs a failure when it
 * begins, changes and ends, so that it does not flood the log; `SharedFetch` limits how long requests wait for an answer.
 */

/** Milliseconds between two warnings about one subject. */
const LEAST_BETWEEN = 60_000
/** Subjects that are remembered. */
const MOST = 1_000

interface FetchProblem {
  readonly subject: string
  /** The problem now, and the problem that was logged last; undefined where there is none. */
  current: string | undefined
  logged: string | undefined
  /** When it was logged, in milliseconds since the epoch. */
  loggedAt: number
}

export class FetchProblems {
  readonly #what: string
  readonly #tell: (level: 'info' | 'warn', message: string) => void
  readonly #problems = new Map<string, FetchProblem>()

  /** @param what what is requested, for messages: `OCSP` */
  constructor (what: string, tell: (level: 'info' | 'warn', message: string) => void) {
    this.#what = what
    this.#tell = tell
  }

  /** All problems now. */
  get current (): readonly string[] {
    return [...this.#problems.values()].flatMap(({ subject, current }) => current === undefined ? [] : `${this.#what}: ${subject}: ${current}`)
  }

  has (key: string): boolean {
    return this.#problems.get(key)?.current !== undefined
  }

  /**
   * @param subject what failed, such as a URL without its query
   * @param message may begin with the subject
   */
  failed (key: string, subject: string, message: string): void {
    const current = message.startsWith(`${subject}: `) ? message.slice(subject.length + 2) : message
    const problem = this.#of(key, subject)
    problem.current = current
    const now = Date.now()
    if (problem.logged === current || now - problem.loggedAt < LEAST_BETWEEN) return
    problem.logged = current
    problem.loggedAt = now
    this.#tell('warn', `${this.#what}: ${subject}: ${current}`)
  }

  succeeded (key: string): void {
    const problem = this.#problems.get(key)
    if (problem === undefined) return
    const { subject, logged } = problem
    problem.current = problem.logged = undefined
    if (logged !== undefined) this.#tell('info', `${this.#what}: ${subject}: all is well again`)
  }

  #of (key: string, subject: string): FetchProblem {
    let problem = this.#problems.get(key)
    if (problem === undefined) {
      if (this.#problems.size === MOST) this.#problems.delete(this.#problems.keys().next().value!)
      this.#problems.set(key, problem = { subject, current: undefined, logged: undefined, loggedAt: -Infinity })
    }
    return problem
  }
}

// Waiting: requests wait three seconds for an answer; one that comes later counts from then on

/** Milliseconds. */
const LONGEST_WAIT = 3_000

export class SharedFetch {
  #pending: Promise<void> | undefined

  /** @param answered resolves once there is an answer, or once it is clear that there will be none; never rejects */
  constructor (answered: Promise<void>) {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, LONGEST_WAIT).unref() })
    // One timer for all who wait: when it is over, there is nothing to wait for any more.
    this.#pending = Promise.race([answered, late]).then(() => {
      clearTimeout(timer)
      this.#pending = undefined
    })
  }

  /** What to wait for; undefined where there is an answer, or the time is over. */
  get pending (): Promise<void> | undefined {
    return this.#pending
  }
}
