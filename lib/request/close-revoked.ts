/**
 * What goes on after a request has been admitted: connections that were upgraded, and answers that take their time. When
 * trust or a policy changes, and when something ends, those that would not be admitted now are ended.
 */
import type { ServerResponse } from 'node:http'
import { constants, type Http2ServerResponse } from 'node:http2'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { signalOf } from '../internals.ts'
import { Slices } from '../slices.ts'

/** Milliseconds between looks at the clock. Not one timer for each end: timers stand still while a machine is suspended. */
const LOOK = 500
/** Milliseconds that an answer to a client that does not count any more may still take. */
const GRACE = 10_000
/** Answers that are noted before those that are done are forgotten. */
const SWEEP = 1_024

/** One that is under way. */
type Answer = Pick<FastifyReply, 'request'> & { readonly raw: ServerResponse | Http2ServerResponse }

export class AdmittedRequests {
  readonly #isAdmitted: (request: FastifyRequest) => boolean
  readonly #stillCounts: (request: FastifyRequest) => boolean
  readonly #upgraded = new Set<FastifyRequest>()
  #answering: Answer[] = []
  #sweepAt = SWEEP
  /** Those to clients that do not count any more, and when they end, by `performance.now()`. */
  readonly #ending = new Map<Answer, number>()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false
  #lookAgain = false

  /**
   * @param isAdmitted whether a request would be admitted now
   * @param stillCounts whether the certificate of a request that was admitted by it counts now
   */
  constructor (isAdmitted: (request: FastifyRequest) => boolean, stillCounts: (request: FastifyRequest) => boolean) {
    this.#isAdmitted = isAdmitted
    this.#stillCounts = stillCounts
  }

  /** A request that leaves HTTP: its connection ends when it would not be admitted any more. */
  upgrade (request: FastifyRequest): void {
    const { socket } = request.raw
    if (socket.destroyed) return
    this.#upgraded.add(request)
    socket.once('close', () => { this.#upgraded.delete(request) })
    this.#watch()
  }

  /** A request that was admitted by its certificate and is about to be answered. */
  answer (reply: Answer): void {
    if (this.#answering.push(reply) >= this.#sweepAt) this.#sweep()
    if (this.#timer === undefined) this.#watch()
  }

  /** Looks at all of them anew, in slices. */
  look (): void {
    this.#lookAgain = true
    if (this.#isLooking) return
    this.#isLooking = true
    this.#lookAtAll().finally(() => { this.#isLooking = false })
  }

  close (): void {
    clearInterval(this.#timer)
  }

  async #lookAtAll (): Promise<void> {
    while (this.#lookAgain) {
      this.#lookAgain = false
      const slices = new Slices()
      for (const request of [...this.#upgraded]) {
        if (!this.#isAdmitted(request)) request.raw.socket.destroy()
        await slices.rest()
      }
      this.#sweep()
      for (const answer of [...this.#answering]) {
        if (this.#stillCounts(answer.request)) this.#ending.delete(answer)
        else if (!this.#ending.has(answer)) this.#ending.set(answer, performance.now() + GRACE)
        await slices.rest()
      }
      for (const [answer, at] of this.#ending) {
        if (performance.now() < at) continue
        this.#ending.delete(answer)
        end(answer)
      }
    }
  }

  #sweep (): void {
    this.#answering = this.#answering.filter(isUnderWay)
    this.#sweepAt = this.#answering.length + SWEEP
    for (const answer of this.#ending.keys()) if (!isUnderWay(answer)) this.#ending.delete(answer)
  }

  #watch (): void {
    this.#timer ??= setInterval(() => {
      this.look()
      if (this.#upgraded.size + this.#answering.length > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }, LOOK).unref()
  }
}

/** Of those that wait behind another one on their connection, Node does not say that it has closed. */
function isUnderWay ({ raw, request }: Answer): boolean {
  return !raw.writableFinished && !('stream' in raw ? raw.stream.destroyed : raw.destroyed || request.raw.socket.destroyed)
}

/** `request.signal` first: what it has the handler do has its turn before the connection or stream is cut off. */
function end ({ raw, request }: Answer): void {
  signalOf(request)?.abort()
  setImmediate(() => {
    // With CANCEL, Node's clients take what has come for all of it.
    if ('stream' in raw) raw.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    else raw.destroy()
  })
}
