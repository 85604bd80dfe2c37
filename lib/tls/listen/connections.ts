/** What is open on the ports of an app, and how it ends. */
import type { EventEmitter } from 'node:events'
import type { ServerHttp2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { override } from './override.ts'

/** What Node's servers for HTTP have, though HTTP/2 has the first one only, and a server of somebody's own perhaps none. */
export interface Port extends Server {
  closeIdleConnections? (): void
  closeAllConnections? (): void
}

export class Connections {
  readonly #ports: readonly Port[]
  /** As they were accepted, and those over TLS a second time once their handshake is done: what is written is in those. */
  readonly #sockets = new Set<Socket>()
  /** Node 24 keeps a list of its own, the ones before it do not. */
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #undo: Array<() => void> = []

  constructor (ports: readonly Port[]) {
    this.#ports = ports
    for (const port of ports) {
      this.#keep(port, 'connection', this.#sockets)
      this.#keep(port, 'secureConnection', this.#sockets)
      this.#keep(port, 'session', this.#sessions)
      this.#spareUnsent(port)
    }
  }

  /** Leaves the servers as they were. */
  forget (): void {
    for (const undo of this.#undo) undo()
  }

  /** Closes what no request is under way on. A session of HTTP/2 is told so, and closes after those under way (RFC 9113 §6.8). */
  closeIdle (): void {
    for (const port of this.#ports) port.closeIdleConnections?.()
    for (const session of this.#sessions) session.close()
  }

  /** Whatever is under way: requests, handshakes, what has been upgraded to another protocol. */
  destroyAll (): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #keep<Item extends EventEmitter> (port: Port, event: string, open: Set<Item>): void {
    function forget (this: Item): void { open.delete(this) }
    const keep = (item: Item): void => {
      open.add(item)
      item.on('close', forget)
    }
    port.on(event, keep)
    this.#undo.push(() => port.off(event, keep))
  }

  /**
   * Node takes a connection for idle when the handler has ended the response, though most of it may still wait to be
   * sent, and cuts it off. Its `server.close()` begins with that too, in Node 20 to 24.
   */
  #spareUnsent (port: Port): void {
    const { closeIdleConnections } = port
    if (closeIdleConnections === undefined) return
    this.#undo.push(override(port, {
      closeIdleConnections: () => {
        // It calls `destroy()` of each, and returns when it is done
        const unsent = [...this.#sockets].filter(({ writableLength }) => writableLength > 0)
        const restore = unsent.map((socket) => override(socket, { destroy: () => socket }))
        Reflect.apply(closeIdleConnections, port, [])
        for (const undo of restore) undo()
      }
    }))
  }
}
