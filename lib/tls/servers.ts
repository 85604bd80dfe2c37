/** The servers that are kept up to date, and their connections. */
import type { ServerOptions } from 'node:https'
import type { Server, Socket } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import type { LinkedApp } from '../link.ts'
import { Connections } from './listen/connections.ts'
import { answerPlainHttp } from './listen/not-tls.ts'
import type { IdentifiedTerm, Terms } from './terms.ts'

/** What Node keeps of the options of a server, and resets when it is told others. */
const RESET = ['minVersion', 'maxVersion', 'ciphers', 'ecdhCurve', 'sigalgs'] as const

interface Kept {
  /** Options that were others when it was created. */
  readonly changed: readonly string[]
  readonly connections: Connections
  /** By what it was last told: a server that could not be told serves by a term that has ended. */
  term: IdentifiedTerm
}

export class Servers {
  readonly #terms: Terms
  readonly #options: () => ServerOptions
  readonly #isOurs: (server: Server) => boolean
  readonly #apps = new Set<LinkedApp>()
  /** Until they close. */
  readonly #kept = new Map<Server, Kept>()

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
    if (this.#kept.has(server) || !this.#isOurs(server)) return
    const ours = server as TlsServer
    const options = this.#options()
    const changed = RESET.filter((name) => Reflect.get(ours, name) !== options[name])
    // It was created with what was handed out then.
    ours.setSecureContext(options)
    const connections = new Connections([ours])
    const kept: Kept = { changed, connections, term: this.#terms.current }
    const accept = (socket: Socket): void => { this.#terms.accept(socket, kept.term) }
    this.#kept.set(ours, kept)
    ours.on('connection', accept)
    ours.once('close', () => {
      this.#kept.delete(ours)
      ours.off('connection', accept)
      connections.forget()
    })
    answerPlainHttp(ours)
  }

  changedOptions (server: object): readonly string[] {
    return this.#kept.get(server as Server)?.changed ?? []
  }

  /** Every handshake from now on is made with what is in force. */
  update (): void {
    for (const app of this.#apps) for (const server of app.servers()) this.add(server)
    const options = this.#options()
    for (const [server, kept] of this.#kept) {
      (server as TlsServer).setSecureContext(options)
      kept.term = this.#terms.current
    }
  }

  /** Has clients come again: at once where nothing is under way; else the next request on a connection is refused. */
  reconnectAll (): void {
    for (const { connections } of this.#kept.values()) connections.closeIdle()
  }
}
