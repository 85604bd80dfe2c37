/** Where `enableTls` says what there is to say: in the logs of apps, of which there is none at first. */
import type { ServedApp } from '../link.ts'

/** Milliseconds that an app may take to come before the process is warned as well. */
const PATIENCE = 5_000
/** Lines that are kept for an app, the latest: a file may be written badly for months where none ever comes. */
const MOST_KEPT = 100

interface Line {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly code: string | undefined
  /** The process was warned of it. */
  isTold: boolean
}

export class BootLog {
  readonly #apps: () => ReadonlySet<ServedApp>
  #kept: Line[] = []
  #timer: NodeJS.Timeout | undefined

  /** @param apps whose logs these are, as of now */
  constructor (apps: () => ReadonlySet<ServedApp>) {
    this.#apps = apps
  }

  /** Before there is an app, a line is kept for its log; warnings and errors are told to the process if none comes. */
  write (level: Line['level'], message: string, code?: string): void {
    const line = { level, message, code, isTold: level === 'info' }
    const apps = this.#apps()
    for (const app of apps) tell(app, line)
    if (apps.size > 0) return
    this.#kept.push(line)
    if (this.#kept.length > MOST_KEPT) warnProcess(this.#kept.shift()!)
    this.#timer ??= setTimeout(() => this.#warnProcess(), PATIENCE).unref()
  }

  /** Gives an app what was kept, and answers these messages. */
  tellKept (app: ServedApp): string[] {
    return this.#forget().map((line) => {
      tell(app, line)
      return line.message
    })
  }

  /** No app comes any more. */
  close (): void {
    for (const line of this.#forget()) warnProcess(line)
  }

  #warnProcess (): void {
    this.#timer = undefined
    for (const line of this.#kept) warnProcess(line)
  }

  #forget (): Line[] {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const kept = this.#kept
    this.#kept = []
    return kept
  }
}

function tell ({ log }: ServedApp, { level, message, code }: Line): void {
  log[level]({ ...(code !== undefined && { code }) }, `http-security: ${message}`)
}

function warnProcess (line: Line): void {
  if (line.isTold) return
  line.isTold = true
  process.emitWarning(line.message, { code: line.code ?? 'FST_HTTP_SECURITY' })
}
