/** Long work in slices, between which everything else has its turn. */
import { setImmediate } from 'node:timers/promises'

/** Milliseconds that a slice may take, but for its last piece. */
const SLICE = 4
/** Octets that are hashed, decoded or walked through in a fraction of a millisecond. */
const PIECE = 64 * 1024

/** What is awaited between two slices. */
export type Pause = () => Promise<unknown>

let last: Promise<unknown> = Promise.resolve()

/** However many works are under way, in each turn of the event loop one of them has a slice. */
function nextTurn (): Promise<unknown> {
  last = last.then(async () => { await setImmediate() })
  return last
}

export class Slices {
  readonly #pause: Pause
  /** The first slice begins with a turn of its own: many works may be begun at once. */
  #since = -Infinity

  constructor (pause: Pause = nextTurn) {
    this.#pause = pause
  }

  /** Awaited between two pieces of work, each of which takes less than a millisecond. */
  async rest (): Promise<void> {
    if (performance.now() - this.#since <= SLICE) return
    await this.#pause()
    this.#since = performance.now()
  }

  /** Gives out all of `bytes`, piece by piece. */
  async * piecesOf (bytes: Buffer): AsyncGenerator<Buffer> {
    for (let offset = 0; offset < bytes.length; offset += PIECE) {
      await this.rest()
      yield bytes.subarray(offset, offset + PIECE)
    }
  }
}
