/**
 * The entry point: `acme` makes a source of certificates. `Renewals` is what it does while it is watched: it has certificates
 * ordered and renewed in time (order.ts, renewal.ts), and follows what other processes have put in the directory (store.ts).
 */
import { blocksIn, FileReader } from '../files/pem.ts'
import { watchFiles } from '../files/watch.ts'
import { type AcmeInterface, kAcmeInterface } from '../tls-interface.ts'
import { validityOf } from '../x509/fields.ts'
import { Challenges } from './challenges.ts'
import { AcmeClient, AcmeProblem, type RenewalInfo } from './client.ts'
import { type AcmeOptions, type ResolvedAcmeOptions, resolveAcmeOptions } from './options.ts'
import { isFinal, obtain } from './order.ts'
import { certificateId, nextQuestion, pauseAfter, plannedRenewal } from './renewal.ts'
import { isCurrent, NO_PROGRESS, type Obtained, type Progress, Store, type Writer } from './store.ts'

/** A source of certificates, for the option `certificates` of `enableTls`. Frozen. */
export interface AcmeSource {
  /**
   * The certificate that is there now, with its chain and key in PEM; an empty list until the first one is there.
   *
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS the option `dir` names what is no directory of this user alone
   */
  load (): Promise<ReadonlyArray<{ readonly cert: string, readonly key: string }>>
  /** Obtains and renews the certificate from now on; `changed` is called when there is another one. Returns what ends it. */
  watch (changed: () => void): () => void
}

/**
 * A source of certificates: obtained from a CA by ACME (RFC 8555), and renewed when the CA says so (RFC 9773), else after two
 * thirds of their lifetime.
 *
 * The CA proves that the names are yours by a request to port 80 of each, which `tls.listen(app, { http, https })` answers; or,
 * with the option `dns`, by TXT records.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 * @example
 * ```ts
 * const tls = await enableTls({
 *   certificates: acme({
 *     directoryUrl: 'https://acme-v02.api.letsencrypt.org/directory',
 *     domains: ['shop.example', 'www.shop.example'],
 *     dir: '/var/lib/shop/acme',
 *     termsOfServiceAgreed: true
 *   })
 * })
 * ```
 */
export function acme (options: AcmeOptions): AcmeSource {
  const renewals = new Renewals(resolveAcmeOptions(options))
  return Object.freeze({
    load: async () => await renewals.load(),
    watch: (changed) => renewals.watch(changed),
    [kAcmeInterface]: renewals
  } satisfies AcmeSource & { [kAcmeInterface]: AcmeInterface })
}

/** Milliseconds. The clock may jump, as after a machine has slept: what is due is looked for at least so often. */
const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** Milliseconds between two looks in any case; and for which a CA may have us wait at most. */
const SHORTEST_PAUSE = 1_000
const LONGEST_PAUSE = 7 * 24 * HOUR

class Renewals implements AcmeInterface {
  readonly #options: ResolvedAcmeOptions
  readonly #challenges = new Challenges()
  readonly #reader = new FileReader()
  readonly #changed = new Set<() => void>()
  #store: Promise<Store> | undefined
  /** The certificate for these options, in force or not. */
  #own: Obtained | undefined
  /** What {@link load} has answered: the fingerprint of the leaf. */
  #loaded = ''
  /** For {@link plannedRenewal}: another one for each certificate. */
  #random = Math.random()
  #info: Pick<RenewalInfo, 'start' | 'end'> | undefined
  /** When the CA is asked for renewal information again, and how often it has not answered. */
  #questions = { at: 0, failures: 0 }
  #progress: Progress = NO_PROGRESS
  /** Attempts that the CA did not answer, and when the next one may be; why the last one has failed. */
  #unanswered: { readonly failures: number, readonly until: number, readonly reason?: string } = { failures: 0, until: 0 }
  #isListening = false
  #stop: AbortController | undefined
  #timer: NodeJS.Timeout | undefined
  #isWorking = false
  #log: Parameters<AcmeInterface['logTo']>[0] = (level, message) => { if (level !== 'info') process.emitWarning(message, { code: 'FST_HTTP_SECURITY' }) }

  constructor (options: ResolvedAcmeOptions) {
    this.#options = options
  }

  answer (...args: Parameters<AcmeInterface['answer']>): boolean {
    return this.#challenges.answer(...args)
  }

  get needsHttp (): boolean {
    return this.#options.dns === undefined
  }

  get awaited (): AcmeInterface['awaited'] {
    const { domains, directoryUrl } = this.#options
    // What else a URL may have is for the CA alone.
    const { origin, pathname } = new URL(directoryUrl)
    return { names: domains, source: `${origin}${pathname}`, reason: this.#reason }
  }

  /** Why there is no certificate yet. */
  get #reason (): string {
    if (!this.#canProve) return 'the HTTP port is not open yet'
    const [refused, unanswered] = [heeded(this.#progress.notBefore), heeded(this.#unanswered.until)]
    // What is waited for longer.
    const { reason } = unanswered > refused ? this.#unanswered : this.#progress
    const next = Math.max(refused, unanswered)
    return reason === undefined ? 'it is being ordered' : `${reason}; it is tried again ${next > Date.now() ? `at ${new Date(next).toUTCString()}` : 'now'}`
  }

  listens (): void {
    this.#isListening = true
    this.#look()
  }

  logTo (write: Parameters<AcmeInterface['logTo']>[0]): void {
    this.#log = write
  }

  async load (): ReturnType<AcmeSource['load']> {
    const served = await this.#read()
    this.#loaded = idOf(served)
    return served === undefined ? [] : [{ cert: served.cert, key: served.key }]
  }

  watch (changed: () => void): () => void {
    // Each call has a function of its own, also where `changed` is the same.
    const tell = (): void => changed()
    this.#changed.add(tell)
    if (this.#changed.size === 1) this.#start()
    return () => {
      if (this.#changed.delete(tell) && this.#changed.size === 0) this.#end()
    }
  }

  #start (): void {
    const stop = this.#stop = new AbortController()
    this.#open().then((store) => {
      if (stop.signal.aborted) return
      const unwatch = watchFiles(store.watched, () => { this.#follow().catch((error) => this.#failed(error)) })
      stop.signal.addEventListener('abort', unwatch)
      if (!this.#canProve) this.#say('info', `${this.#subject}: a certificate is ordered once tls.listen has opened the HTTP port`)
      this.#look()
    // It was said where it was loaded.
    }, () => {})
  }

  #end (): void {
    clearTimeout(this.#timer)
    this.#stop!.abort(new Error('acme: it was stopped'))
    this.#stop = undefined
    this.#isListening = false
  }

  async #open (): Promise<Store> {
    this.#store ??= Store.open(this.#options)
    // Another attempt may succeed.
    this.#store.catch(() => { this.#store = undefined })
    return await this.#store
  }

  /** What can be served now. */
  async #read (): Promise<Obtained | undefined> {
    const store = await this.#open()
    const own = await store.certificate()
    if (idOf(own) !== idOf(this.#own)) {
      this.#own = own
      this.#random = Math.random()
      this.#info = undefined
      this.#questions = { at: 0, failures: 0 }
    }
    this.#progress = await store.progress()
    return own !== undefined && isCurrent(own) ? own : await store.stopgap(this.#options.domains)
  }

  /** Takes over what this process or another one has written. */
  async #follow (): Promise<void> {
    const store = await this.#open()
    this.#challenges.set(await store.challenges())
    if (idOf(await this.#read()) !== this.#loaded) for (const changed of this.#changed) changed()
  }

  #look (): void {
    clearTimeout(this.#timer)
    if (this.#stop !== undefined && !this.#isWorking) this.#work(this.#stop.signal)
  }

  async #work (signal: AbortSignal): Promise<void> {
    this.#isWorking = true
    try {
      await this.#follow()
      await this.#ask(signal)
      if (this.#dueAt() <= Date.now()) await this.#order(signal)
    } catch (error) {
      if (!signal.aborted) this.#failed(error as Error)
    }
    this.#isWorking = false
    // Others may have begun to watch since it was stopped.
    if (signal.aborted) return this.#look()
    const next = Math.min(this.#dueAt(), this.#own === undefined ? Infinity : this.#questions.at) - Date.now()
    this.#timer = setTimeout(() => this.#look(), Math.min(Math.max(next, SHORTEST_PAUSE), MINUTE)).unref()
  }

  /** Whether the CA can see that the names are ours. */
  get #canProve (): boolean {
    return this.#isListening || !this.needsHttp
  }

  /** When a certificate is ordered, in milliseconds since the epoch. */
  #dueAt (): number {
    if (!this.#canProve) return Infinity
    const allowed = Math.max(heeded(this.#progress.notBefore), heeded(this.#unanswered.until))
    return this.#own === undefined ? allowed : Math.max(allowed, plannedRenewal(this.#own.leaf, this.#info, this.#random))
  }

  /** Whether the CA wants the certificate to be renewed earlier or later. That it does not answer changes nothing. */
  async #ask (signal: AbortSignal): Promise<void> {
    const id = this.#own && certificateId(this.#own.leaf)
    if (id === undefined || heeded(this.#questions.at) > Date.now()) return
    try {
      const info = await (await this.#client(signal)).renewalInfo(id)
      this.#info = info
      this.#questions = { at: nextQuestion(info, Date.now()), failures: 0 }
    } catch (error) {
      const failures = this.#questions.failures + 1
      this.#questions = { at: pauseUntil('unreachable', failures, error), failures }
    }
  }

  async #order (signal: AbortSignal): Promise<void> {
    const store = await this.#open()
    await store.locked(async (writer) => {
      // Another process may have ordered meanwhile.
      await this.#follow()
      if (this.#dueAt() > Date.now()) return
      const progress = this.#progress
      try {
        const client = await this.#client(signal)
        const warn = (message: string): void => this.#say('warn', `${this.#subject}: ${message}`)
        const { leaf } = await obtain({ options: this.#options, client, store, writer, challenges: this.#challenges, before: this.#own, warn, signal }, progress)
        const { notAfter } = validityOf(leaf)
        // Whatever the CA says of it: not the next one at once.
        await writer.saveProgress({ ...NO_PROGRESS, notBefore: Date.now() + Math.min((notAfter - Date.now()) / 2, HOUR) })
        this.#unanswered = { failures: 0, until: 0 }
        this.#say('info', `${this.#subject}: a certificate was obtained, until ${new Date(notAfter).toUTCString()}`)
      } catch (error) {
        if (signal.aborted || !(error instanceof AcmeProblem) || error.status >= 500) throw error
        await this.#writeDown(error, progress.failures + 1, store, writer)
      }
    }, signal)
    await this.#follow()
  }

  /** For all processes, and after a restart: what the CA has refused counts for it. */
  async #writeDown (problem: AcmeProblem, failures: number, store: Store, writer: Writer): Promise<void> {
    const state = isFinal(problem) ? NO_PROGRESS : await store.progress()
    this.#progress = { ...state, failures, notBefore: pauseUntil('refused', failures, problem), reason: problem.message }
    await writer.saveProgress(this.#progress)
    this.#tell(problem.message, this.#progress.notBefore)
  }

  #failed (error: Error): void {
    const failures = this.#unanswered.failures + 1
    this.#unanswered = { failures, until: pauseUntil('unreachable', failures, error), reason: error.message }
    this.#tell(error.message, this.#unanswered.until)
  }

  #tell (reason: string, next: number): void {
    const isServed = this.#own !== undefined && isCurrent(this.#own)
    this.#say(isServed ? 'warn' : 'error', `${this.#subject}: no certificate was obtained: ${reason}; it is tried again at ${new Date(next).toUTCString()}`)
  }

  #say (level: 'info' | 'warn' | 'error', message: string): void {
    try {
      this.#log(level, message)
    } catch {
      // A log that fails ends nothing else.
    }
  }

  get #subject (): string {
    const [first, ...more] = this.#options.domains
    return `acme: ${first}${more.length === 0 ? '' : ` and ${more.length} more`}`
  }

  async #client (signal: AbortSignal): Promise<AcmeClient> {
    const { directoryUrl, ca } = this.#options
    return new AcmeClient({ directoryUrl, ca: ca && blocksIn(await this.#reader.read(ca, 'ca')).map(({ text }) => text), signal })
  }
}

function idOf (obtained: Obtained | undefined): string {
  return obtained?.leaf.fingerprint256 ?? ''
}

/** A time before which nothing is to be done; none where the clock was set back since. */
function heeded (at: number): number {
  return at > Date.now() + LONGEST_PAUSE ? 0 : at
}

/** In milliseconds since the epoch: not earlier than the CA says. */
function pauseUntil (kind: Parameters<typeof pauseAfter>[1], failures: number, error: unknown): number {
  const { retryAt = 0 } = error instanceof AcmeProblem ? error : {}
  return Math.max(Date.now() + pauseAfter(failures, kind, Math.random()), Math.min(retryAt, Date.now() + LONGEST_PAUSE))
}
