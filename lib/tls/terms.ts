/**
 * Under which trust in clients a connection was made.
 *
 * Each term has a secret id, which is the session id context of its servers: OpenSSL keeps it in a session, also in one
 * that a client brings back as a ticket, and resumes none of another context (`SSL_CTX_set_session_id_context`). So no
 * verdict crosses a change of trust, nor a process, whatever keys tickets are encrypted with: those of a cluster's
 * workers are shared.
 */
import { createHash, randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { type RunningTerm, type Term, beginTerm, endTerm } from '../link.ts'

/** For connections that nobody knows the term of. */
export const ENDED: Term = Object.freeze({ isInForce: false, onEnd: new Set<() => void>() })

/** OpenSSL takes 32 bytes at most: these are 32 characters of base64. */
const ID_BYTES = 24

export interface IdentifiedTerm extends Term {
  /** The session id context of servers that serve by it. */
  readonly id: string
}

export class Terms {
  #current = begin()
  /** By the socket below TLS, as it was when the connection came: a handshake may end in another term than it began in. */
  readonly #accepted = new WeakMap<object, Term>()

  get current (): IdentifiedTerm {
    return this.#current
  }

  /** @param term that of the server, at this moment */
  accept (socket: Socket, term: Term): void {
    this.#accepted.set(socket, term)
  }

  /** Ends the term, and with it all that was judged in it. */
  next (): void {
    const ended = this.#current
    this.#current = begin()
    endTerm(ended)
  }

  /** The term of a connection's full handshake. */
  termOf (socket: TLSSocket): Term {
    return this.#accepted.get(below(socket)) ?? this.#bySession(socket)
  }

  #bySession (socket: TLSSocket): Term {
    const session = socket.getSession()
    const { id } = this.#current
    return session?.includes(id) === true || session?.includes(boundTo(socket.servername, id)) === true ? this.#current : ENDED
  }
}

/** Node 22.23.5 and 24.22.3 bind sessions to the host that a client names: this is their session id context. */
function boundTo (servername: TLSSocket['servername'], id: string): Buffer {
  return createHash('sha256').update(`${id}\0${servername || ''}`).digest()
}

/**
 * The socket below TLS: that of the server's 'connection' event, or else the one on top of it. Not documented, and 8 µs
 * faster than the session; the same for the proxies of HTTP/2.
 */
export function below (socket: TLSSocket): object {
  const parent: unknown = Reflect.get(socket, '_parent')
  return parent instanceof Socket ? parent : socket
}

function begin (): IdentifiedTerm & RunningTerm {
  return { id: randomBytes(ID_BYTES).toString('base64'), ...beginTerm() }
}
