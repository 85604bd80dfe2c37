/** Ports that close as one. */
import type { Server as HttpServer } from 'node:http'
import { errorCodes } from 'fastify'
import { Connections, type Port } from './connections.ts'
import { patch } from './override.ts'
import { spareKeptAlive } from './state.ts'

/** Milliseconds that what is under way has to end when the app closes. */
const GRACE = 5_000
/** Milliseconds between looks for connections that have become idle since. */
const SWEEP = 100

export interface GracefulClose {
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
