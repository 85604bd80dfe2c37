/**
 * What goes on after a request has been admitted: connections that were upgraded, and answers that take their time. When
 * trust or a policy changes, and when something ends, those that would not be admitted now are ended.
 */
import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import { setImmediate } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { Slices } from '../slices.ts'
import type { RawRequest } from './connection.ts'

type Response = ServerResponse | Http2ServerResponse

/** Milliseconds between looks at the clock. Not one timer for each end: timers stand still while a machine is suspended. */
const LOOK = 500
/** Milliseconds that an answer to a client that does not count any more may still take. */
const GRACE = 10_000
/** Answers that are noted before those that are done are forgotten. */
const SWEEP = 1_024

export class Admitted {
  readonly #isAdmitted: (request: FastifyRequest) => boolean
  readonly #stillCounts: (raw: RawRequest) => boolean
  readonly #upgraded = new Set<FastifyRequest>()
  #answering: Response[] = []
  #sweepAt = SWEEP
  /** Answers to clients that do not count any more, and when they end, in milliseconds since the epoch. */
  readonly #ending = new Map<Response, number>()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false
  #lookAgain = false

  /**
   * @param isAdmitted whether a request would be admitted now
   * @param stillCounts whether the certificate of a request that was admitted by it counts now
   */
  constructor (isAdmitted: (request: FastifyRequest) => boolean, stillCounts: (raw: RawRequest) => boolean) {
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
  answer (response: Response): void {
    if (this.#answering.push(response) >= this.#sweepAt) this.#sweep()
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
      for (const response of [...this.#answering]) {
        if (this.#stillCounts(response.req)) this.#ending.delete(response)
        else if (!this.#ending.has(response)) this.#ending.set(response, Date.now() + GRACE)
        await slices.rest()
      }
      for (const [response, at] of this.#ending) {
        if (Date.now() < at) continue
        this.#ending.delete(response)
        end(response)
      }
    }
  }

  #sweep (): void {
    this.#answering = this.#answering.filter((response) => !isDone(response))
    this.#sweepAt = this.#answering.length + SWEEP
    for (const response of this.#ending.keys()) if (isDone(response)) this.#ending.delete(response)
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

function isDone (response: Response): boolean {
  return response.writableFinished || ('stream' in response ? response.stream.destroyed : response.destroyed)
}

/** `request.signal` first, which goes by the request's 'close'; what it has the handler do has had its turn before the connection ends. */
function end (response: Response): void {
  response.req.destroy()
  setImmediate().then(() => response.destroy())
}
