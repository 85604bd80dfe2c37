/**
 * What Node's TLS sockets tell at the end of a handshake, and not any more a moment later. None of it is documented: this is
 * the one place for it, and test/handshakes.test.ts pins each on every version of Node.
 */
import type { X509Certificate } from 'node:crypto'
import type { Server, Socket } from 'node:net'
import { type Server as TlsServer, TLSSocket } from 'node:tls'

/** Certificates that a client sends along with its own; more are not looked at. OpenSSL takes 100 KiB of them. */
const MOST_OTHERS = 9

/**
 * Calls `tell` for each connection of a server, just before Node itself looks at a handshake that is done: Node 24 looks at the peer
 * certificate itself and lets go of the intermediate certificates that came with it, and Node 20 and 22 have them at the
 * first look alone.
 *
 * @returns what leaves the server as it was
 */
export function onHandshake (server: Server, tell: (socket: TLSSocket) => void): () => void {
  // Node's own listener, which creates the TLSSocket: without SNI, nothing else gets to see it before its handshake is done.
  const [accept] = server.listeners('connection') as Array<(socket: Socket) => void>
  if (accept === undefined) return () => {}
  function acceptAndTell (this: Server, socket: Socket): void {
    const undo = beforeSecureListener(tell)
    try {
      Reflect.apply(accept!, this, [socket])
    } finally {
      undo()
    }
  }
  server.off('connection', accept)
  server.prependListener('connection', acceptAndTell)
  return () => {
    server.off('connection', acceptAndTell)
    server.prependListener('connection', accept)
  }
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
