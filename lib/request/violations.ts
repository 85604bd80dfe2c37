/**
 * Counts what was refused or redirected, or in report mode would have been, and reports it: to the log, `onViolation` and a
 * diagnostics channel. No answer waits for a listener, or is changed by its errors. Begin with {@link Violations.add}.
 */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Violation, ViolationCount } from '../../types/index.ts'
import { HEADER_IGNORED } from '../errors.ts'
import { printable } from '../text.ts'

/** `node:diagnostics_channel`: receives a {@link Violation} for each. */
const violationChannel = channel('fastify-http-security:violation')

/** Milliseconds between two lines of the log about the same counter. */
const PERIOD = 60_000
/** Counters for single clients, of all routes together. */
const MOST_CLIENTS = 1_000

interface Counter extends Violation {
  count: number
  /** When it was last logged, in milliseconds since the epoch. */
  loggedAt: number
  /** The count that was last logged. */
  logged: number
  /** The address of the last client, which an administrator needs before anything is enforced; undefined over a Unix socket. */
  lastClient: string | undefined
}

/** Characters of an address in the log: with Fastify's trustProxy it is from a header. */
const LONGEST = 64

const WORDS: Readonly<Record<Violation['answer'], string>> = {
  refusal: 'would have been refused, were it not in report mode',
  redirect: 'would have been redirected, were it not in report mode',
  ignored: 'a client certificate header of a peer that is not in proxy.trust was ignored'
}

/** Whether the request goes on. Then no other line of the log mentions the violation. */
function passes ({ mode, answer }: Violation): boolean {
  return mode === 'report' || answer === 'ignored'
}

type OnViolation = (violation: Violation, request: FastifyRequest) => unknown

export class Violations {
  /** At most routes times codes, because all unknown paths share one row for each code; and some for single clients. */
  readonly #counters = new Map<string, Counter>()
  /** Counters for single clients. */
  #clients = 0
  readonly #onViolation: OnViolation | undefined
  readonly #log: FastifyBaseLogger
  #timer: NodeJS.Timeout | undefined

  constructor (log: FastifyBaseLogger, onViolation: OnViolation | undefined) {
    this.#log = log
    this.#onViolation = onViolation
  }

  /** Counts a certificate header from a peer that is not a trusted proxy. */
  ignored (request: FastifyRequest): void {
    this.add(request, 'enforce', HEADER_IGNORED, 'ignored')
  }

  /**
   * Counts a violation. Where the request goes on, the log has one line a minute for each counter, with the number.
   *
   * @param client whom rules did not admit
   */
  add (request: FastifyRequest, mode: Violation['mode'], code: Violation['code'], answer: Violation['answer'], client: string | null = null): void {
    const { url = null, method = '' } = request.is404 ? {} : request.routeOptions
    const violation: Violation = Object.freeze({ code, answer, mode, method: [method].flat().join(', '), url, ...(client !== null && { client }) })
    const counter = this.#counterOf(violation)
    counter.count++
    counter.lastClient = request.ip
    if (passes(violation)) {
      if (Date.now() - counter.loggedAt >= PERIOD) this.#logCounter(counter)
      this.#timer ??= setInterval(() => this.#logAll(), PERIOD).unref()
    }
    if (violationChannel.hasSubscribers) violationChannel.publish(violation)
    if (this.#onViolation !== undefined) this.#call(this.#onViolation, violation, request)
  }

  rows (): readonly ViolationCount[] {
    return Object.freeze([...this.#counters.values()].map(({ loggedAt, logged, lastClient, ...row }) => Object.freeze(row)))
  }

  /** Logs what is not logged yet. */
  close (): void {
    clearInterval(this.#timer)
    this.#logAll()
  }

  #logAll (): void {
    for (const counter of this.#counters.values()) if (passes(counter) && counter.count > counter.logged) this.#logCounter(counter)
  }

  #counterOf (violation: Violation): Counter {
    const { client, ...ofAll } = violation
    const key = Object.values(violation).join('\n')
    const known = this.#counters.get(key)
    if (known !== undefined) return known
    // Beyond, clients of a route are counted together.
    if (client !== undefined && ++this.#clients > MOST_CLIENTS) return this.#counterOf(ofAll)
    const counter = { ...violation, count: 0, loggedAt: -Infinity, logged: 0, lastClient: '' }
    this.#counters.set(key, counter)
    return counter
  }

  #logCounter (counter: Counter): void {
    const { loggedAt, logged, count, lastClient, ...violation } = counter
    this.#log.warn({ ...violation, count: count - logged, lastClient: lastClient && printable(lastClient, LONGEST) }, `http-security: ${WORDS[violation.answer]}`)
    counter.loggedAt = Date.now()
    counter.logged = count
  }

  #call (onViolation: OnViolation, violation: Violation, request: FastifyRequest): void {
    const failed = (error: unknown): void => { this.#log.error({ err: error }, 'http-security: onViolation has failed') }
    try {
      Promise.resolve(onViolation(violation, request)).catch(failed)
    } catch (error) {
      failed(error)
    }
  }
}
