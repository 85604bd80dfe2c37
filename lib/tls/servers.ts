/**
 * The TLS servers of the apps, updated with `setSecureContext` after each reload (class `Servers`), the end of each
 * handshake on them (`onHandshake`), and handshakes without a CertificateRequest (`askForNoCertificate`).
 */
import type { X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import type { Server, Socket } from 'node:net'
import { type Server as TlsServer, TLSSocket } from 'node:tls'
import type { ServedApp } from '../tls-interface.ts'
import { Connections } from './listen/graceful-close.ts'
import { answerPlainHttp } from './listen/http-on-tls-port.ts'
import type { Sessions } from './sessions.ts'

/** Options that Node keeps as properties of a server, and overwrites in `setSecureContext`. */
const OVERWRITTEN_OPTIONS = ['minVersion', 'maxVersion', 'ciphers', 'ecdhCurve', 'sigalgs'] as const

interface Callbacks {
  /** Node's options for a server, with what is in force now. */
  readonly options: () => ServerOptions
  /** Whether a server was created with such options. No other server is changed. */
  readonly isOurs: (server: Server) => boolean
  readonly handshake: HandshakeListeners
}

/** The apps, and their servers until these close. */
export class Servers {
  readonly #sessions: Sessions
  readonly #callbacks: Callbacks
  readonly #apps = new Set<ServedApp>()
  /** By server: the options that had another value when it was created, and what is open. */
  readonly #tracked = new Map<TlsServer, { readonly changed: readonly string[], readonly connections: Connections }>()

  constructor (sessions: Sessions, callbacks: Callbacks) {
    this.#sessions = sessions
    this.#callbacks = callbacks
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
    if (this.#tracked.has(ours) || !this.#callbacks.isOurs(server)) return
    const options = this.#callbacks.options()
    const changed = OVERWRITTEN_OPTIONS.filter((name) => Reflect.get(ours, name) !== options[name])
    // An app with `app.listen()` closes as gracefully as one with `tls.listen()`.
    const connections = new Connections([ours])
    this.#tracked.set(ours, { changed, connections })
    // It was created with the options of an earlier moment.
    this.#applyOptions(ours, options)
    const forget = onHandshake(ours, this.#callbacks.handshake)
    // A cluster worker receives the ticket keys of the others when it listens.
    const listening = (): void => this.#applyOptions(ours, this.#callbacks.options())
    ours.on('listening', listening)
    ours.once('close', () => {
      this.#tracked.delete(ours)
      ours.off('listening', listening)
      forget()
      connections.forget()
    })
    answerPlainHttp(ours)
  }

  changedOptions (server: object): readonly string[] {
    return this.#tracked.get(server as TlsServer)?.changed ?? []
  }

  /** From now on, every handshake uses what is in force. */
  update (): void {
    for (const app of this.#apps) for (const server of app.servers()) this.add(server)
    const options = this.#callbacks.options()
    for (const server of this.#tracked.keys()) this.#applyOptions(server, options)
  }

  /** Ends some of the connections, after the requests that are being answered. */
  endConnections (isMeant: (socket: object) => boolean): void {
    for (const { connections } of this.#tracked.values()) connections.end(isMeant)
  }

  /** The ticket keys stay the same, whatever else changes: otherwise every client would have to make a full handshake. */
  #applyOptions (server: TlsServer, options: ServerOptions): void {
    const ticketKeys = this.#sessions.keysFor(server.getTicketKeys())
    server.setSecureContext({ ...options, ticketKeys, sessionIdContext: this.#sessions.idFor(ticketKeys) })
  }
}

// Handshakes
//
// When a handshake ends, a TLSSocket of Node has the certificates that the client sent, and a moment later it has not.
// While it goes on, the TLSSocket has what keeps OpenSSL from asking for one. All of this is undocumented: this is the
// only place that uses it, and test/handshakes.test.ts pins each part for every version of Node.

/** How many certificates besides the client's own one are read. OpenSSL accepts 100 KiB of them. */
const MOST_OTHERS = 9

/**
 * The name of Node's listener that creates the TLSSocket. Without SNI, nothing else gets the socket before its
 * handshake is done.
 */
const ACCEPT = 'tlsConnectionListener'

/** The listeners for the TLSSocket that is being created. */
let pendingListeners: HandshakeListeners | undefined
const patchedServers = new Set<Server>()
let restoreSocketPrototype: () => void

type Listener = (this: Server, socket: Socket) => void

interface HandshakeListeners {
  /** Called when the TLSSocket is created, with the SecureContext of that moment. */
  created (socket: TLSSocket): void
  /** Called when its handshake is done. */
  done (socket: TLSSocket): void
}

/**
 * Calls `done` for each connection of a server, just before Node's own code sees the finished handshake. Later is too
 * late: Node 24 reads the peer certificate there and drops the intermediate certificates that came with it; Node 20 and
 * 22 return them only on the first read.
 *
 * @param listeners must not throw: that would end the process
 * @returns a function that undoes it
 */
export function onHandshake (server: Server, listeners: HandshakeListeners): () => void {
  const accept = (server.listeners('connection') as Listener[]).find(({ name }) => name === ACCEPT)
  if (accept === undefined) return () => {}
  function acceptAndNotify (this: Server, socket: Socket): void {
    pendingListeners = listeners
    try {
      Reflect.apply(accept!, this, [socket])
      // `TLSSocket.prototype.on` was replaced by other code, which does not call our method.
      if (pendingListeners !== undefined) patchSocketPrototype()
    } finally {
      pendingListeners = undefined
    }
  }
  replaceListener(server, accept, acceptAndNotify)
  if (patchedServers.size === 0) patchSocketPrototype()
  patchedServers.add(server)
  return () => {
    if (!patchedServers.delete(server)) return
    replaceListener(server, acceptAndNotify, accept)
    if (patchedServers.size === 0) restoreSocketPrototype()
  }
}

/** Keeps the place in the list: other listeners may have to come before or after it. */
function replaceListener (server: Server, listener: Listener, by: Listener): void {
  const listeners = server.rawListeners('connection') as Listener[]
  for (const each of listeners) server.off('connection', each)
  for (const each of listeners) server.on('connection', each === listener ? by : each)
}

/**
 * While there are servers, `TLSSocket.prototype.on` is replaced. Node adds its own listener of 'secure' to each
 * TLSSocket that it creates, and ours is added before that one. The prototype is not changed for each connection: V8
 * would drop the code that it compiled for TLS sockets, and a handshake would take 1.5 times the CPU time.
 */
function patchSocketPrototype (): void {
  const { prototype } = TLSSocket
  const own = Object.getOwnPropertyDescriptor(prototype, 'on')
  const { on } = prototype
  const listen = function (this: TLSSocket, event: string, listener: () => void): TLSSocket {
    if (pendingListeners !== undefined && event === 'secure') {
      const { created, done } = pendingListeners
      pendingListeners = undefined
      created(this)
      Reflect.apply(on, this, [event, () => done(this)])
    }
    return Reflect.apply(on, this, [event, listener]) as TLSSocket
  }
  Object.defineProperty(prototype, 'on', { configurable: true, writable: true, value: listen })
  restoreSocketPrototype = () => {
    // Other code that replaced our method may still call it.
    if (Object.getOwnPropertyDescriptor(prototype, 'on')?.value !== listen) return
    Reflect.deleteProperty(prototype, 'on')
    if (own !== undefined) Object.defineProperty(prototype, 'on', own)
  }
}

/**
 * The certificates that a client has sent, its own one first; none if it presented none. May be called once for each
 * socket.
 */
export function sentBy (socket: TLSSocket): readonly X509Certificate[] {
  const certificates: X509Certificate[] = []
  let certificate = socket.getPeerX509Certificate()
  while (certificate !== undefined && certificates.length <= MOST_OTHERS) {
    certificates.push(certificate)
    certificate = certificate.issuerCertificate
  }
  return certificates
}

/**
 * Node's own call of `setVerifyMode`. Node ends the process if an internal method gets other arguments than it expects,
 * so it is called only as this version of Node calls it.
 */
const CALL_OF_NODE = '._handle.setVerifyMode(requestCert, rejectUnauthorized)'

const canSetVerifyMode = Function.prototype.toString.call(TLSSocket.prototype.renegotiate).includes(CALL_OF_NODE)

/**
 * Keeps OpenSSL from sending a CertificateRequest (RFC 8446 §4.3.2, RFC 5246 §7.4.4) to this client. For `SNICallback`,
 * which comes before that is sent. If Node does not have what this needs, the client is asked.
 */
export function askForNoCertificate (socket: TLSSocket): void {
  const handle = Reflect.get(socket, '_handle') as { setVerifyMode?: (requestCert: boolean, rejectUnauthorized: boolean) => void } | null
  if (!canSetVerifyMode || typeof handle?.setVerifyMode !== 'function') return
  try {
    handle.setVerifyMode(false, false)
  } catch {
    // The handshake goes on, with a CertificateRequest.
  }
}

/** The server that accepted a connection. */
export function serverOf (socket: TLSSocket): TlsServer | undefined {
  return Reflect.get(socket, 'server') as TlsServer | undefined
}
