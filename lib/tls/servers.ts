/** The servers that are kept up to date, and their connections. */
import type { X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import type { Server, Socket } from 'node:net'
import { type Server as TlsServer, TLSSocket } from 'node:tls'
import type { ServedApp } from '../tls-interface.ts'
import { Connections } from './listen/graceful-close.ts'
import { answerPlainHttp } from './listen/http-on-tls-port.ts'
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

/**
 * What Node's TLS sockets tell at the end of a handshake, and not any more a moment later. None of it is documented: this is
 * the one place for it, and test/handshakes.test.ts pins each on every version of Node.
 */

/** Certificates that a client sends along with its own; more are not looked at. OpenSSL takes 100 KiB of them. */
const MOST_OTHERS = 9

/** Node's own listener for connections, which creates the TLSSocket: without SNI, nothing else gets to see it before its handshake is done. */
const ACCEPT = 'tlsConnectionListener'

type Listener = (this: Server, socket: Socket) => void

interface HandshakeListeners {
  /** With what the server is told to serve now. */
  created (socket: TLSSocket): void
  done (socket: TLSSocket): void
}

/**
 * Calls `done` for each connection of a server, just before Node itself looks at a handshake that is done: Node 24 looks at
 * the peer certificate itself and lets go of the intermediate certificates that came with it, and Node 20 and 22 have them
 * at the first look alone.
 *
 * @param listeners must not throw: that would end the process
 * @returns what leaves the server as it was
 */
export function onHandshake (server: Server, listeners: HandshakeListeners): () => void {
  const accept = (server.listeners('connection') as Listener[]).find(({ name }) => name === ACCEPT)
  if (accept === undefined) return () => {}
  function acceptAndTell (this: Server, socket: Socket): void {
    told = listeners
    try {
      Reflect.apply(accept!, this, [socket])
      // Something else was put in the place of ours, and does not call it.
      if (told !== undefined) override()
    } finally {
      told = undefined
    }
  }
  replaceListener(server, accept, acceptAndTell)
  if (servers.size === 0) override()
  servers.add(server)
  return () => {
    if (!servers.delete(server)) return
    replaceListener(server, acceptAndTell, accept)
    if (servers.size === 0) restore()
  }
}

/** In its place: others may have to come before it, and others after it. */
function replaceListener (server: Server, listener: Listener, by: Listener): void {
  const listeners = server.rawListeners('connection') as Listener[]
  for (const each of listeners) server.off('connection', each)
  for (const each of listeners) server.on('connection', each === listener ? by : each)
}

/** Who is told of the TLSSocket that is being created. */
let told: HandshakeListeners | undefined
const servers = new Set<Server>()
let restore: () => void

/**
 * While there are servers, what is `told` is put before Node's own listener of 'secure', which Node puts on each TLSSocket
 * that it creates. Not for each connection anew: to change a prototype makes V8 forget what it has compiled for it, which
 * was half as much again as a handshake takes.
 */
function override (): void {
  const { prototype } = TLSSocket
  const own = Object.getOwnPropertyDescriptor(prototype, 'on')
  const { on } = prototype
  const listen = function (this: TLSSocket, event: string, listener: () => void): TLSSocket {
    if (told !== undefined && event === 'secure') {
      const { created, done } = told
      told = undefined
      created(this)
      Reflect.apply(on, this, [event, () => done(this)])
    }
    return Reflect.apply(on, this, [event, listener]) as TLSSocket
  }
  Object.defineProperty(prototype, 'on', { configurable: true, writable: true, value: listen })
  restore = () => {
    // What was put in its place since may go on calling it.
    if (Object.getOwnPropertyDescriptor(prototype, 'on')?.value !== listen) return
    Reflect.deleteProperty(prototype, 'on')
    if (own !== undefined) Object.defineProperty(prototype, 'on', own)
  }
}

/** The certificates that a client has sent, its own first; none where it has presented none. To be asked for once. */
export function sentBy (socket: TLSSocket): readonly X509Certificate[] {
  const certificates: X509Certificate[] = []
  let certificate = socket.getPeerX509Certificate()
  while (certificate !== undefined && certificates.length <= MOST_OTHERS) {
    certificates.push(certificate)
    certificate = certificate.issuerCertificate
  }
  return certificates
}

/** The server that has accepted a connection. */
export function serverOf (socket: TLSSocket): TlsServer | undefined {
  return Reflect.get(socket, 'server') as TlsServer | undefined
}
