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

export class Sessions {
  /** For servers that are created now. */
  readonly keys: Buffer = randomBytes(KEYS_BYTES)
  readonly #changed: () => void
  #generation = 0
  #renewedAt = -Infinity
  #timer: NodeJS.Timeout | undefined

  /** @param changed has servers take another session id context */
  constructor (changed: () => void) {
    this.#changed = changed
  }

  /**
   * The session id context that goes with the ticket keys of a server: of workers of a cluster, those are the same, which
   * then resume each other's sessions.
   */
  idFor (keys: Buffer): string {
    return Buffer.from(hkdfSync('sha256', keys, '', `fastify-http-security session id context ${this.#generation}`, ID_BYTES)).toString('base64')
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
