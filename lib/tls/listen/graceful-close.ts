/** Ports that close as one. */
import type { EventEmitter } from 'node:events'
import type { Server as HttpServer } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { errorCodes } from 'fastify'
import { patch, spareKeptAlive } from '../../internals.ts'

/** Milliseconds that what is under way has to end when the app closes. */
const GRACE = 5_000
/** Milliseconds between looks for connections that have become idle since. */
const SWEEP = 100

interface GracefulClose {
  /** Rejects when they close. */
  readonly closed: Promise<never>
  /** Leaves the app's server as it was and the other ports closed. Once they close, that goes its way. */
  giveUp (): void
}

/**
 * Has all ports close whenever the app's own server does, which is then done when all are.
 *
 * Fastify closes its server after the preClose hooks, when WebSockets have been told, and before the onClose hooks,
 * which release what requests still need. No hook comes between the two, and none can be added to an app that is
 * ready: so it is the server's own `close` that closes them all.
 */
export function closeGracefully (app: object, own: Port, others: readonly HttpServer[]): GracefulClose {
  const { close, closeAllConnections } = own
  const connections = new Connections([own, ...others])
  let isClosing = false
  let reject: (reason: Error) => void
  const closed = new Promise<never>((_resolve, _reject) => { reject = _reject })
  // Of interest while they open only
  closed.catch(() => {})

  const methods: Partial<Port> = {
    close (callback) {
      isClosing = true
      reject(new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER())
      const closeIdle = (): void => {
        connections.closeIdle()
        connections.closeUnused()
      }
      const sweep = setInterval(closeIdle, SWEEP)
      const force = setTimeout(() => connections.destroyAll(), GRACE)
      let left = 1 + others.length
      let failure: Error | undefined
      const onClose = (error?: Error): void => {
        failure ??= error
        if (--left > 0) return
        clearInterval(sweep)
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
    // Told to force, Fastify calls it just before `close()`, whatever is under way. Whoever else does means it
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

/** What is open on the ports of an app, and how it ends. */

/** What Node's servers for HTTP have, though HTTP/2 has the first one only, and a server of somebody's own perhaps none. */
interface Port extends Server {
  closeIdleConnections? (): void
  closeAllConnections? (): void
}

/** Milliseconds that a connection has for its first request, which may be on its way. */
const FIRST_REQUEST = 250

export class Connections {
  /** As they were accepted, and those over TLS a second time once their handshake is done: what is written is in those. */
  readonly #sockets = new Set<Socket>()
  /** Node 24 keeps a list of its own, the ones before it do not. */
  readonly #sessions = new Set<ServerHttp2Session>()
  /** When each was opened, by `performance.now()`. */
  readonly #since = new WeakMap<object, number>()
  /** What Node's servers have for it: it closes what they take for idle. */
  readonly #closeIdleOf: Array<() => void> = []
  readonly #undo: Array<() => void> = []
  #isClosing = false

  constructor (ports: readonly Port[]) {
    for (const port of ports) {
      const endLate = (socket: Socket): void => this.#destroyUnusedLater([socket])
      this.#keep(port, 'connection', this.#sockets, endLate)
      this.#keep(port, 'secureConnection', this.#sockets, endLate)
      this.#keep(port, 'session', this.#sessions, (session) => { setTimeout(() => session.close(), FIRST_REQUEST).unref() })
      this.#closeAsHere(port)
    }
  }

  /** Leaves the servers as they were. */
  forget (): void {
    for (const undo of this.#undo) undo()
  }

  /**
   * Closes what no request is under way on, or has arrived for. A session of HTTP/2 is told so, and closes after those under
   * way (RFC 9113 §6.8).
   */
  closeIdle (): void {
    const octets = new Map([...this.#sockets].map((socket) => [socket, octetsOf(socket)]))
    const sessions = [...this.#sessions]
    afterReading(() => {
      // Node takes a connection for idle when the handler has ended the response, though most of it may still wait to be sent
      const busy = [...this.#sockets].filter((socket) => socket.writableLength > 0 || !Object.is(octetsOf(socket), octets.get(socket)))
      // It calls `destroy()` of each, and returns when it is done
      const restore = busy.map((socket) => patch(socket, { destroy: () => socket }))
      for (const close of this.#closeIdleOf) close()
      for (const undo of restore) undo()
      for (const session of sessions) session.close()
    })
  }

  /**
   * Closes what nothing was ever sent on, not even the first byte of a handshake, or nothing after it: to Node that is not
   * idle until `headersTimeout`. One that is new is given the time for a request that is on its way.
   */
  closeUnused (): void {
    afterReading(() => {
      const young: Socket[] = []
      for (const socket of this.#sockets) {
        if (!isUnused(socket)) continue
        if (performance.now() - this.#since.get(socket)! < FIRST_REQUEST) young.push(socket)
        else socket.destroy()
      }
      if (young.length > 0) this.#destroyUnusedLater(young)
    })
    // Handshakes that are under way end later.
    this.#isClosing = true
  }

  #destroyUnusedLater (young: readonly Socket[]): void {
    setTimeout(() => { for (const socket of young) if (isUnused(socket)) socket.destroy() }, FIRST_REQUEST).unref()
  }

  /** Whatever is under way: requests, handshakes, what has been upgraded to another protocol. */
  destroyAll (): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** @param endLate what becomes of one that comes while the port is closing */
  #keep<Item extends EventEmitter> (port: Port, event: string, open: Set<Item>, endLate: (item: Item) => void): void {
    function forget (this: Item): void { open.delete(this) }
    const keep = (item: Item): void => {
      open.add(item)
      this.#since.set(item, performance.now())
      item.on('close', forget)
      if (this.#isClosing && !port.listening) endLate(item)
    }
    port.on(event, keep)
    this.#undo.push(() => port.off(event, keep))
  }

  /** Node's `server.close()` begins with closing idle connections, in Node 20 to 24, and Fastify closes them before it. */
  #closeAsHere (port: Port): void {
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

/** In both directions. */
function octetsOf ({ bytesRead, bytesWritten }: Socket): number {
  return bytesRead + bytesWritten
}

function isUnused ({ bytesRead }: Socket): boolean {
  return bytesRead === 0
}

/** What has arrived was read by then: a request that lies in the kernel makes no connection busy. */
function afterReading (work: () => void): void {
  setImmediate(() => setImmediate(work))
}
