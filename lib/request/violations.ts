/**
 * What was refused, or would have been: counted, and told to whoever wants to know. Nobody's answer waits for it, and
 * nothing that listens can harm it.
 */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Violation, ViolationCount } from '../../types/index.ts'
import { HEADER_IGNORED } from '../errors.ts'

/** `node:diagnostics_channel`: receives a {@link Violation} for each. */
const violationChannel = channel('fastify-http-security:violation')

/** Milliseconds between two lines of the log on the same. */
const PERIOD = 60_000

interface Counter extends Violation {
  count: number
  /** When the log last had a line on it, in milliseconds since the epoch. */
  toldAt: number
  told: number
  /** The address of the client that came last: whom to talk to before anything is enforced. */
  client: string
}

const WORDS: Readonly<Record<Violation['answer'], string>> = {
  refusal: 'would have been refused, were it not in report mode',
  redirect: 'would have been redirected, were it not in report mode',
  ignored: 'a client certificate header of a peer that is not in proxy.trust was ignored'
}

/** Nothing else in the log tells of it. */
function passes ({ mode, answer }: Violation): boolean {
  return mode === 'report' || answer === 'ignored'
}

type OnViolation = (violation: Violation, request: FastifyRequest) => unknown

export class Violations {
  /** As many as there are routes times reasons: of unknown paths there is one row for each reason. */
  readonly #counters = new Map<string, Counter>()
  readonly #onViolation: OnViolation | undefined
  readonly #log: FastifyBaseLogger
  #timer: NodeJS.Timeout | undefined

  constructor (log: FastifyBaseLogger, onViolation: OnViolation | undefined) {
    this.#log = log
    this.#onViolation = onViolation
  }

  /** A certificate header of somebody who is no proxy of ours. */
  ignored (request: FastifyRequest): void {
    this.add(request, 'enforce', HEADER_IGNORED, 'ignored')
  }

  /** Counts one. Of what passes, the log has a line a minute on each kind, with the number. */
  add (request: FastifyRequest, mode: Violation['mode'], code: Violation['code'], answer: Violation['answer']): void {
    const { url = null, method = '' } = request.is404 ? {} : request.routeOptions
    const violation: Violation = Object.freeze({ code, answer, mode, method: [method].flat().join(', '), url })
    const counter = this.#counterOf(violation)
    counter.count++
    counter.client = request.ip
    if (passes(violation)) {
      if (Date.now() - counter.toldAt >= PERIOD) this.#tell(counter)
      this.#timer ??= setInterval(() => this.#tellAll(), PERIOD).unref()
    }
    if (violationChannel.hasSubscribers) violationChannel.publish(violation)
    if (this.#onViolation !== undefined) this.#call(this.#onViolation, violation, request)
  }

  rows (): readonly ViolationCount[] {
    return Object.freeze([...this.#counters.values()].map(({ toldAt, told, client, ...row }) => Object.freeze(row)))
  }

  /** What the log does not know yet. */
  close (): void {
    clearInterval(this.#timer)
    this.#tellAll()
  }

  #tellAll (): void {
    for (const counter of this.#counters.values()) if (passes(counter) && counter.count > counter.told) this.#tell(counter)
  }

  #counterOf (violation: Violation): Counter {
    const key = Object.values(violation).join(' ')
    let counter = this.#counters.get(key)
    if (counter === undefined) this.#counters.set(key, counter = { ...violation, count: 0, toldAt: -Infinity, told: 0, client: '' })
    return counter
  }

  #tell (counter: Counter): void {
    const { toldAt, told, count, client, ...violation } = counter
    this.#log.warn({ ...violation, count: count - told, lastClient: client }, `http-security: ${WORDS[violation.answer]}`)
    counter.toldAt = Date.now()
    counter.told = count
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
