/**
 * Graceful close. `closeGracefully` makes all ports of an app close with its own server; `Connections` tracks what is
 * open on the ports, and closes what is idle.
 */
import type { EventEmitter } from 'node:events'
import type { Server as HttpServer } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { errorCodes } from 'fastify'
import { isAnswering, patch, spareKeptAlive } from '../../internals.ts'

/** Milliseconds that open requests have to end when the app closes. */
const GRACE = 5_000
/** Milliseconds that open requests have to end when only some connections do. */
const LONGEST_ANSWER = 10_000
/** Milliseconds between checks for connections that have become idle. */
const IDLE_CHECK_INTERVAL = 100

interface GracefulClose {
  /** Rejects when the ports close. */
  readonly closed: Promise<never>
  /** Restores the app's server, and closes the other ports. Does nothing once they are closing. */
  giveUp (): void
}

/**
 * Makes all ports close when the app's own server closes, which then is done when all ports are.
 *
 * Fastify closes its server after the preClose hooks, in which WebSockets are closed, and before the onClose hooks,
 * which release what requests still need. There is no hook between the two, and none can be added to an app that is
 * ready. So the server's own `close` is replaced.
 */
export function closeGracefully (app: object, own: Port, others: readonly HttpServer[]): GracefulClose {
  const { close, closeAllConnections } = own
  const connections = new Connections([own, ...others])
  let isClosing = false
  let reject: (reason: Error) => void
  const closed = new Promise<never>((_resolve, _reject) => { reject = _reject })
  // Used only while the ports open
  closed.catch(() => {})

  const methods: Partial<Port> = {
    close (callback) {
      isClosing = true
      reject(new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER())
      const closeIdle = (): void => {
        connections.closeIdle()
        connections.closeUnused()
      }
      const idleCheck = setInterval(closeIdle, IDLE_CHECK_INTERVAL)
      const force = setTimeout(() => connections.destroyAll(), GRACE)
      let left = 1 + others.length
      let failure: Error | undefined
      const onClose = (error?: Error): void => {
        failure ??= error
        if (--left > 0) return
        clearInterval(idleCheck)
        clearTimeout(force)
        callback?.(failure)
      }
      Reflect.apply(close, own, [onClose])
      for (const port of others) port.close(() => onClose())
      closeIdle()
      return own
    }
  }
  if (closeAllConnections !== undefined) {
    const closeAll = (): void => {
      Reflect.apply(closeAllConnections, own, [])
      for (const port of others) port.closeAllConnections()
    }
    // With `forceCloseConnections`, Fastify calls this just before `close()`, whatever is open. A call without
    // `close()` is meant
    methods.closeAllConnections = () => {
      if (isClosing) closeAll()
      else queueMicrotask(() => { if (!isClosing) closeAll() })
    }
  }
  const undo = [patch(own, methods), spareKeptAlive(app), () => connections.forget()]

  return {
    closed,
    giveUp () {
      if (isClosing) return
      for (const each of undo) each()
      for (const port of others) {
        port.close()
        port.closeAllConnections()
      }
    }
  }
}

// The open connections of an app

/**
 * The methods of Node's HTTP servers. An HTTP/2 server has only the first one, and a server that a user made may have
 * neither.
 */
interface Port extends Server {
  closeIdleConnections? (): void
  closeAllConnections? (): void
}

/** Milliseconds that a connection has for its first request, which may be on its way. */
const FIRST_REQUEST = 250

/** Tracks the connections of some servers, and closes those without an open request. */
export class Connections {
  /**
   * Sockets as they were accepted; TLS sockets are there a second time after their handshake: data to be written is in
   * these.
   */
  readonly #sockets = new Set<Socket>()
  /** HTTP/2 sessions. Node 24 has a list of its own, earlier versions do not. */
  readonly #sessions = new Set<ServerHttp2Session>()
  /** When each one was opened, by `performance.now()`. */
  readonly #since = new WeakMap<object, number>()
  /** Node's own `closeIdleConnections` of each server, which closes what Node considers idle. */
  readonly #closeIdleOf: Array<() => void> = []
  readonly #undo: Array<() => void> = []
  #isClosing = false

  constructor (ports: readonly Port[]) {
    for (const port of ports) {
      const endLate = (socket: Socket): void => this.#destroyIfStillUnused([socket])
      this.#track(port, 'connection', this.#sockets, endLate)
      this.#track(port, 'secureConnection', this.#sockets, endLate)
      this.#track(port, 'session', this.#sessions, (session) => { setTimeout(() => session.close(), FIRST_REQUEST).unref() })
      this.#replaceCloseIdle(port)
    }
  }

  /** Restores the servers. */
  forget (): void {
    for (const undo of this.#undo) undo()
  }

  /**
   * Closes every connection without an open request, and without one that has arrived. An HTTP/2 session gets GOAWAY,
   * and closes after its open requests (RFC 9113 §6.8).
   */
  closeIdle (): void {
    const octets = new Map([...this.#sockets].map((socket) => [socket, octetsOf(socket)]))
    const sessions = [...this.#sessions]
    afterReading(() => {
      // Node considers a connection idle when the handler has ended the response, even if most of it is not sent yet
      const busy = [...this.#sockets].filter((socket) => socket.writableLength > 0 || !Object.is(octetsOf(socket), octets.get(socket)))
      // `closeIdleConnections` calls `destroy()` of each idle socket, synchronously: the busy ones get one that does
      // nothing
      const restore = busy.map((socket) => patch(socket, { destroy: () => socket }))
      for (const close of this.#closeIdleOf) close()
      for (const undo of restore) undo()
      for (const session of sessions) session.close()
    })
  }

  /**
   * Closes every connection on which nothing was ever received, not even the first byte of a handshake, or nothing
   * after the handshake: Node does not consider these idle until `headersTimeout`. New ones stay for a short time:
   * their request may be on its way.
   */
  closeUnused (): void {
    afterReading(() => {
      const recent: Socket[] = []
      for (const socket of this.#sockets) {
        if (!isUnused(socket)) continue
        if (performance.now() - this.#since.get(socket)! < FIRST_REQUEST) recent.push(socket)
        else socket.destroy()
      }
      if (recent.length > 0) this.#destroyIfStillUnused(recent)
    })
    // Connections whose handshake is not done yet are closed later.
    this.#isClosing = true
  }

  #destroyIfStillUnused (recent: readonly Socket[]): void {
    setTimeout(() => { for (const socket of recent) if (isUnused(socket)) socket.destroy() }, FIRST_REQUEST).unref()
  }

  /** Closes everything: also requests, handshakes, and connections upgraded to another protocol. */
  destroyAll (): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /**
   * Ends some connections: where a request is being answered, after the answer or in ten seconds; all others at once, also
   * those upgraded to another protocol.
   *
   * @param isMeant called with sockets as they were accepted, and with TLS sockets
   */
  end (isMeant: (socket: object) => boolean): void {
    const sessions = [...this.#sessions].filter(({ socket }) => isMeant(socket))
    for (const session of sessions) session.close()
    // Those of HTTP/2 close with their sessions.
    let left = [...this.#sockets].filter((socket) => isMeant(socket) && (socket as TLSSocket).alpnProtocol !== 'h2')
    const look = (): void => {
      left = left.filter((socket) => isAnswering(socket) || !socket.destroy().destroyed)
      if (left.length === 0) clearInterval(timer)
    }
    const timer = setInterval(look, IDLE_CHECK_INTERVAL).unref()
    afterReading(look)
    setTimeout(() => { for (const each of [...sessions, ...left]) each.destroy() }, LONGEST_ANSWER).unref()
  }

  /** @param endLate called for an item that is opened while the port is closing */
  #track<Item extends EventEmitter> (port: Port, event: string, open: Set<Item>, endLate: (item: Item) => void): void {
    function forget (this: Item): void { open.delete(this) }
    const track = (item: Item): void => {
      open.add(item)
      this.#since.set(item, performance.now())
      item.on('close', forget)
      if (this.#isClosing && !port.listening) endLate(item)
    }
    port.on(event, track)
    this.#undo.push(() => port.off(event, track))
  }

  /**
   * In Node 20 to 24, `server.close()` begins with `closeIdleConnections()`, and Fastify calls that before it as well:
   * both get our version.
   */
  #replaceCloseIdle (port: Port): void {
    const { closeIdleConnections } = port
    if (closeIdleConnections === undefined) return
    this.#closeIdleOf.push(() => Reflect.apply(closeIdleConnections, port, []))
    this.#undo.push(patch(port, {
      closeIdleConnections: () => {
        this.closeIdle()
        this.closeUnused()
      }
    }))
  }
}

/** The number of octets in both directions. */
function octetsOf ({ bytesRead, bytesWritten }: Socket): number {
  return bytesRead + bytesWritten
}

function isUnused ({ bytesRead }: Socket): boolean {
  return bytesRead === 0
}

/**
 * Calls `work` after Node has read all data that has arrived: a request that is still in the kernel makes no connection
 * busy.
 */
function afterReading (work: () => void): void {
  setImmediate(() => setImmediate(work))
}
