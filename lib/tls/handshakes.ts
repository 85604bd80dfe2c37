/**
 * What Node's TLS sockets tell at the end of a handshake, and not any more a moment later. None of it is documented: this is
 * the one place for it, and test/handshakes.test.ts pins each on every version of Node.
 */
import type { X509Certificate } from 'node:crypto'
import type { Server, Socket } from 'node:net'
import { type Server as TlsServer, TLSSocket } from 'node:tls'

/** Certificates that a client sends along with its own; more are not looked at. OpenSSL takes 100 KiB of them. */
const MOST_OTHERS = 9

/** Node's own listener for connections, which creates the TLSSocket: without SNI, nothing else gets to see it before its handshake is done. */
const ACCEPT = 'tlsConnectionListener'

type Listener = (this: Server, socket: Socket) => void

export interface HandshakeListeners {
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
