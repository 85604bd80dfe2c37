/**
 * TLS session resumption: the ticket keys (`keysFor`) and the session id context (`idFor`) of the servers.
 *
 * A client that resumes a session proved possession of its private key in an earlier handshake, and that is all that
 * counts here. Its certificate is judged again each time. So sessions stay valid when certificates or client CAs
 * change.
 *
 * In a resumption, OpenSSL neither asks for a certificate nor verifies one again, and no intermediate certificates are
 * sent. If that is needed, the servers get another session id context (`renew`): OpenSSL resumes no session of another
 * context (`SSL_CTX_set_session_id_context`), so every later connection makes one full handshake, and none fails.
 */
import { hkdfSync, randomBytes } from 'node:crypto'

/** Bytes of Node's `ticketKeys`: a name of 16 bytes, and two keys. */
const KEYS_BYTES = 48
/** Bytes. OpenSSL accepts 32 at most: in base64, these are 32 characters. */
const ID_BYTES = 24
/** Milliseconds. A full handshake costs a server as much as two or three resumptions. */
const RENEWAL_INTERVAL = 60_000
/** Milliseconds between checks whether a new day has begun. */
const DAY_CHECK_INTERVAL = 60_000
const DAY = 86_400_000

/** The secret of all instances that resume each other's sessions. */
interface SharedSecret {
  /**
   * 32 bytes or more. Its holder can decrypt recorded TLS 1.2 traffic from the time of its use, and can resume as any
   * client.
   */
  readonly secret: Buffer
  /** Servers with other names here do not resume each other's sessions. */
  readonly scope: readonly string[]
}

/** Session resumption of all servers of one `enableTls`. */
export class Sessions {
  readonly #random = randomBytes(KEYS_BYTES)
  readonly #onChange: () => void
  #shared: SharedSecret | undefined
  #day = today()
  #generation = 0
  #renewedAt = -Infinity
  #timer: NodeJS.Timeout | undefined

  /** @param onChange called when the servers need other ticket keys, or another session id context */
  constructor (onChange: () => void) {
    this.#onChange = onChange
  }

  /**
   * From now on, instances with the same secret resume each other's sessions; without a secret, only the workers of a
   * cluster do.
   */
  share (shared: SharedSecret | undefined): void {
    this.#shared = shared
  }

  /**
   * Changes the ticket keys every day: Node has only one at a time.
   *
   * @returns a function that stops it
   */
  watch (): () => void {
    const timer = setInterval(() => {
      if (this.#day === today()) return
      this.#day = today()
      if (this.#shared === undefined) return
      // With new keys, all instances that share the secret begin with the same context again, even if one of them has
      // renewed it.
      this.#generation = 0
      this.#onChange()
    }, DAY_CHECK_INTERVAL).unref()
    return () => clearInterval(timer)
  }

  /**
   * The ticket keys of a server. With a secret, they are derived from it; without one, the server keeps its own keys,
   * which cluster workers receive from their primary.
   */
  keysFor (own = this.#random): Buffer {
    return this.#shared === undefined ? own : derive(this.#shared, 'ticket keys', String(this.#day), KEYS_BYTES)
  }

  /** The session id context for these ticket keys. */
  idFor (keys: Buffer): string {
    return derive({ secret: keys, scope: this.#shared?.scope ?? [] }, 'session id context', String(this.#generation), ID_BYTES).toString('base64')
  }

  /** Makes every later connection do a full handshake: at once, or one minute after the last time. */
  renew (): void {
    const left = this.#renewedAt + RENEWAL_INTERVAL - Date.now()
    if (left <= 0) this.renewNow()
    else this.#timer ??= setTimeout(() => this.renewNow(), Math.min(left, RENEWAL_INTERVAL)).unref()
  }

  /** The same, at once, however often: no client must be able to cause it. */
  renewNow (): void {
    this.close()
    this.#renewedAt = Date.now()
    this.#generation++
    this.#onChange()
  }

  close (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

/** HKDF (RFC 5869) with SHA-256. */
function derive ({ secret, scope }: SharedSecret, purpose: string, period: string, bytes: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', JSON.stringify(['fastify-http-security', purpose, period, ...scope]), bytes))
}

/** The number of the day in UTC. */
function today (): number {
  return Math.floor(Date.now() / DAY)
}
