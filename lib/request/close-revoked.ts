/**
 * Ends what goes on after a request was admitted, once the request would not be admitted any more: upgraded connections
 * (WebSockets), and answers that take long. Begin with {@link AdmittedRequests.look}, which is called when trust or the
 * policy changes, and every half second.
 */
import type { ServerResponse } from 'node:http'
import { constants, type Http2ServerResponse } from 'node:http2'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { signalOf } from '../internals.ts'
import { Slices } from '../slices.ts'

/** Milliseconds between two looks. Not one timer for each certificate's end: timers stand still while a machine is suspended. */
const LOOK = 500
/** Milliseconds that an answer may still take after the client's certificate has ceased to count. */
const GRACE = 10_000
/** New answers that are noted before finished ones are removed. */
const SWEEP = 1_024

/** An answer that is under way. */
type Answer = Pick<FastifyReply, 'request'> & { readonly raw: ServerResponse | Http2ServerResponse }

export class AdmittedRequests {
  readonly #isAdmitted: (request: FastifyRequest) => boolean
  readonly #stillCounts: (request: FastifyRequest) => boolean
  readonly #upgraded = new Set<FastifyRequest>()
  #answering: Answer[] = []
  #sweepAt = SWEEP
  /** Answers to clients whose certificate does not count any more, and when they end, by `performance.now()`. */
  readonly #ending = new Map<Answer, number>()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false
  #lookAgain = false

  /**
   * @param isAdmitted whether a request would be admitted now
   * @param stillCounts whether the certificate that a request was admitted by still counts
   */
  constructor (isAdmitted: (request: FastifyRequest) => boolean, stillCounts: (request: FastifyRequest) => boolean) {
    this.#isAdmitted = isAdmitted
    this.#stillCounts = stillCounts
  }

  /** Notes a request that leaves HTTP. Its connection ends when the request would not be admitted any more. */
  upgrade (request: FastifyRequest): void {
    const { socket } = request.raw
    if (socket.destroyed) return
    this.#upgraded.add(request)
    socket.once('close', () => { this.#upgraded.delete(request) })
    this.#watch()
  }

  /** Notes a request that was admitted by its certificate and is about to be answered. */
  answer (reply: Answer): void {
    if (this.#answering.push(reply) >= this.#sweepAt) this.#sweep()
    if (this.#timer === undefined) this.#watch()
  }

  /** Judges all of them again, in slices, between which other requests are served. */
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

/** The socket is looked at, too: where an answer waits behind another one on its connection, Node does not mark it as closed. */
function isUnderWay ({ raw, request }: Answer): boolean {
  return !raw.writableFinished && !('stream' in raw ? raw.stream.destroyed : raw.destroyed || request.raw.socket.destroyed)
}

/** Aborts `request.signal` first, so that the handler can react before the connection or stream is cut off. */
function end ({ raw, request }: Answer): void {
  signalOf(request)?.abort()
  setImmediate(() => {
    // Not CANCEL: Node's clients would take what has arrived for the whole body.
    if ('stream' in raw) raw.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    else raw.destroy()
  })
}
