/** The servers that are kept up to date, and their connections. */
import type { ServerOptions } from 'node:https'
import type { ServerHttp2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import type { LinkedApp } from '../link.ts'
import { answerPlainHttp } from './listen/not-tls.ts'
import type { IdentifiedTerm, Terms } from './terms.ts'

interface Kept {
  /** Weakly: a server that nobody needs any more does not say so. */
  readonly server: WeakRef<TlsServer>
  /** By what it was last told: a server that could not be told serves by a term that has ended. */
  term: IdentifiedTerm
}

export class Servers {
  readonly #terms: Terms
  readonly #options: () => ServerOptions
  readonly #isOurs: (server: Server) => boolean
  readonly #apps = new Set<LinkedApp>()
  readonly #kept = new Set<Kept>()
  readonly #known = new WeakSet<Server>()
  readonly #sessions = new Set<ServerHttp2Session>()

  /**
   * @param options what each server is told, as it is now
   * @param isOurs whether a server was created with such options: no other one is touched
   */
  constructor (terms: Terms, options: () => ServerOptions, isOurs: (server: Server) => boolean) {
    this.#terms = terms
    this.#options = options
    this.#isOurs = isOurs
  }

  get apps (): ReadonlySet<LinkedApp> {
    return this.#apps
  }

  attach (app: LinkedApp): void {
    this.#apps.add(app)
    for (const server of app.servers()) this.add(server)
  }

  release (app: LinkedApp): void {
    this.#apps.delete(app)
  }

  add (server: Server): void {
    if (this.#known.has(server) || !this.#isOurs(server)) return
    this.#known.add(server)
    const ours = server as TlsServer
    // It was created with what was handed out then.
    ours.setSecureContext(this.#options())
    const kept = { server: new WeakRef(ours), term: this.#terms.current }
    this.#kept.add(kept)
    server.on('connection', (socket: Socket) => { this.#terms.accept(socket, kept.term) })
    server.on('session', (session: ServerHttp2Session) => {
      this.#sessions.add(session)
      session.once('close', () => this.#sessions.delete(session))
    })
    answerPlainHttp(ours)
  }

  /** Every handshake from now on is made with what is in force. */
  update (): void {
    for (const app of this.#apps) for (const server of app.servers()) this.add(server)
    const options = this.#options()
    for (const kept of this.#kept) {
      const server = kept.server.deref()
      if (server === undefined) {
        this.#kept.delete(kept)
      } else {
        server.setSecureContext(options)
        kept.term = this.#terms.current
      }
    }
  }

  /** Has clients come again: at once where nothing is under way, else after it. */
  reconnectAll (): void {
    // With GOAWAY, clients make no further requests on a session, and those under way are answered (RFC 9113 §6.8).
    for (const session of this.#sessions) session.close()
    for (const { server } of this.#kept) closeIdle(server.deref())
  }
}

function closeIdle (server: (Server & { closeIdleConnections?: () => void }) | undefined): void {
  server?.closeIdleConnections?.()
}
