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

/**
 * Calls `tell` for each connection of a server, just before Node itself looks at a handshake that is done: Node 24 looks at
 * the peer certificate itself and lets go of the intermediate certificates that came with it, and Node 20 and 22 have them
 * at the first look alone.
 *
 * @param tell must not throw: that would end the process
 * @returns what leaves the server as it was
 */
export function onHandshake (server: Server, tell: (socket: TLSSocket) => void): () => void {
  const accept = (server.listeners('connection') as Listener[]).find(({ name }) => name === ACCEPT)
  if (accept === undefined) return () => {}
  function acceptAndTell (this: Server, socket: Socket): void {
    const undo = beforeSecureListener(tell)
    try {
      Reflect.apply(accept!, this, [socket])
    } finally {
      undo()
    }
  }
  replaceListener(server, accept, acceptAndTell)
  return () => replaceListener(server, acceptAndTell, accept)
}

/** In its place: others may have to come before it, and others after it. */
function replaceListener (server: Server, listener: Listener, by: Listener): void {
  const listeners = server.rawListeners('connection') as Listener[]
  for (const each of listeners) server.off('connection', each)
  for (const each of listeners) server.on('connection', each === listener ? by : each)
}

/** Puts a listener of the next TLSSocket's 'secure' before Node's own, which is put on while the socket is created. */
function beforeSecureListener (tell: (socket: TLSSocket) => void): () => void {
  const { prototype } = TLSSocket
  const own = Object.getOwnPropertyDescriptor(prototype, 'on')
  const { on } = prototype
  const undo = (): void => {
    Reflect.deleteProperty(prototype, 'on')
    if (own !== undefined) Object.defineProperty(prototype, 'on', own)
  }
  const listen = function (this: TLSSocket, ...args: Parameters<TLSSocket['on']>): TLSSocket {
    if (args[0] as string === 'secure') {
      undo()
      Reflect.apply(on, this, ['secure', () => tell(this)])
    }
    return Reflect.apply(on, this, args) as TLSSocket
  }
  Object.defineProperty(prototype, 'on', { configurable: true, writable: true, value: listen })
  return undo
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
