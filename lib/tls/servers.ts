/** The servers that are kept up to date, and their connections. */
import type { ServerOptions } from 'node:https'
import type { Server } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import type { ServedApp } from '../link.ts'
import { type HandshakeListeners, onHandshake } from './handshakes.ts'
import { Connections } from './listen/connections.ts'
import { answerPlainHttp } from './listen/not-tls.ts'
import type { Sessions } from './sessions.ts'

/** What Node keeps of the options of a server, and resets when it is told others. */
const RESET = ['minVersion', 'maxVersion', 'ciphers', 'ecdhCurve', 'sigalgs'] as const

interface Circumstances {
  /** What each server is told, as it is now. */
  readonly options: () => ServerOptions
  /** Whether a server was created with such options: no other one is touched. */
  readonly isOurs: (server: Server) => boolean
  readonly handshake: HandshakeListeners
}

export class Servers {
  readonly #sessions: Sessions
  readonly #circumstances: Circumstances
  readonly #apps = new Set<ServedApp>()
  /** Until they close: options that were others when they were created. */
  readonly #kept = new Map<TlsServer, readonly string[]>()

  constructor (sessions: Sessions, circumstances: Circumstances) {
    this.#sessions = sessions
    this.#circumstances = circumstances
  }

  get apps (): ReadonlySet<ServedApp> {
    return this.#apps
  }

  attach (app: ServedApp): void {
    this.#apps.add(app)
    for (const server of app.servers()) this.add(server)
  }

  release (app: ServedApp): void {
    this.#apps.delete(app)
  }

  add (server: Server): void {
    const ours = server as TlsServer
    if (this.#kept.has(ours) || !this.#circumstances.isOurs(server)) return
    const options = this.#circumstances.options()
    this.#kept.set(ours, RESET.filter((name) => Reflect.get(ours, name) !== options[name]))
    // It was created with what was handed out then.
    this.#tell(ours, options)
    const forget = onHandshake(ours, this.#circumstances.handshake)
    // An app that listens by itself closes as gracefully as by tls.listen().
    const connections = new Connections([ours])
    // A worker of a cluster is told the ticket keys of the others when it listens.
    const listening = (): void => this.#tell(ours, this.#circumstances.options())
    ours.on('listening', listening)
    ours.once('close', () => {
      this.#kept.delete(ours)
      ours.off('listening', listening)
      forget()
      connections.forget()
    })
    answerPlainHttp(ours)
  }

  changedOptions (server: object): readonly string[] {
    return this.#kept.get(server as TlsServer) ?? []
  }

  /** Every handshake from now on is made with what is in force. */
  update (): void {
    for (const app of this.#apps) for (const server of app.servers()) this.add(server)
    const options = this.#circumstances.options()
    for (const server of this.#kept.keys()) this.#tell(server, options)
  }

  /** The ticket keys stay, whatever else changes: without them, every client would make a full handshake. */
  #tell (server: TlsServer, options: ServerOptions): void {
    const ticketKeys = this.#sessions.keysFor(server.getTicketKeys())
    server.setSecureContext({ ...options, ticketKeys, sessionIdContext: this.#sessions.idFor(ticketKeys) })
  }
}
