/**
 * TLS sessions: a client that resumes one has proved possession of its key before, and no more. What counts is judged anew
 * each time, so that sessions outlive every change of certificates and of trust.
 *
 * The one thing that a resumption cannot do is to have OpenSSL look again, or to bring intermediate certificates. Where that is
 * needed, servers get another session id context: OpenSSL resumes no session of another one
 * (`SSL_CTX_set_session_id_context`), so that each later connection makes one full handshake, and none fails.
 */
import { hkdfSync, randomBytes } from 'node:crypto'

/** What Node takes: a name of 16 bytes, and two keys. */
const KEYS_BYTES = 48
/** OpenSSL takes 32 bytes at most: these are 32 characters of base64. */
const ID_BYTES = 24
/** Milliseconds: a full handshake costs a server as much as two or three resumptions. */
const LEAST_BETWEEN = 60_000
/** Milliseconds between looks at the day. */
const LOOK = 60_000
const DAY = 86_400_000

/** What instances share that resume each other's sessions. */
interface SharedSecret {
  /** 32 bytes or more. It opens what was recorded of TLS 1.2 in its time, and is worth the key of every client. */
  readonly secret: Buffer
  /** Names that differ between servers which must not resume each other's sessions. */
  readonly scope: readonly string[]
}

export class Sessions {
  readonly #random = randomBytes(KEYS_BYTES)
  readonly #changed: () => void
  #shared: SharedSecret | undefined
  #day = today()
  #generation = 0
  #renewedAt = -Infinity
  #timer: NodeJS.Timeout | undefined

  /** @param changed has servers take other ticket keys, or another session id context */
  constructor (changed: () => void) {
    this.#changed = changed
  }

  /** From now on, sessions are shared by who has the same secret; without one, by the workers of a cluster alone. */
  share (shared: SharedSecret | undefined): void {
    this.#shared = shared
  }

  /** Looks for another day, which has another key: Node has one at a time. Answers what stops it. */
  watch (): () => void {
    const timer = setInterval(() => {
      if (this.#day === today()) return
      this.#day = today()
      if (this.#shared === undefined) return
      // The keys are others: those who share them have one context again, whichever of them was renewed.
      this.#generation = 0
      this.#changed()
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  /**
   * The ticket keys of a server: derived from the secret; without one those that it has, which workers of a cluster are
   * told by their primary.
   */
  keysFor (own = this.#random): Buffer {
    return this.#shared === undefined ? own : derive(this.#shared, 'ticket keys', String(this.#day), KEYS_BYTES)
  }

  /** The session id context that goes with ticket keys. */
  idFor (keys: Buffer): string {
    return derive({ secret: keys, scope: this.#shared?.scope ?? [] }, 'session id context', String(this.#generation), ID_BYTES).toString('base64')
  }

  /** Has each later connection make a full handshake: now, or when the last time is a minute ago. */
  renew (): void {
    const left = this.#renewedAt + LEAST_BETWEEN - Date.now()
    if (left <= 0) this.#renew()
    else this.#timer ??= setTimeout(() => this.#renew(), Math.min(left, LEAST_BETWEEN)).unref()
  }

  close (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #renew (): void {
    this.close()
    this.#renewedAt = Date.now()
    this.#generation++
    this.#changed()
  }
}

/** RFC 5869, with SHA-256. */
function derive ({ secret, scope }: SharedSecret, purpose: string, period: string, bytes: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', JSON.stringify(['fastify-http-security', purpose, period, ...scope]), bytes))
}

/** In UTC. */
function today (): number {
  return Math.floor(Date.now() / DAY)
}
