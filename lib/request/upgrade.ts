/**
 * Requests that ask to leave HTTP (RFC 9110 §7.8).
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { RawRequest } from './connection.ts'
import type { Verdicts } from './verdict.ts'

/** Milliseconds. Timers stand still while a machine sleeps, and the clock may be set: after this it is looked at again. */
const LONGEST_WAIT = 60_000

/** What is looked at of Upgrade, in characters and in members: clients name one protocol, or two. */
const LONGEST_UPGRADE = 256
const MOST_PROTOCOLS = 16

/** RFC 6455 §4.2.1. */
export function isWebSocketUpgrade ({ headers: { upgrade } }: RawRequest): boolean {
  return upgrade !== undefined && upgrade.slice(0, LONGEST_UPGRADE).split(',', MOST_PROTOCOLS).some((protocol) => /^\s*websocket\s*(?:\/|$)/i.test(protocol))
}

/** Ends an upgraded connection when the verdict that it began with does: by expiry, or by a change of trust. */
export function endWithVerdict (request: FastifyRequest, { presentedBy, judge }: Verdicts): void {
  const { socket } = request.raw
  // Of one that has gone, nothing more would be heard.
  if (socket.destroyed || judge(request) !== undefined) return
  const { term } = presentedBy(request)
  const end = (): void => { socket.destroy() }
  let timer: NodeJS.Timeout
  const wait = (): void => {
    const left = presentedBy(request).until + 1 - Date.now()
    timer = setTimeout(look, Math.min(left, LONGEST_WAIT)).unref()
  }
  const look = (): void => {
    if (judge(request) === undefined) wait()
    else end()
  }
  wait()
  term.onEnd.add(end)
  socket.once('close', () => {
    clearTimeout(timer)
    term.onEnd.delete(end)
  })
}

/** Node has let go of the socket of an upgrade. Unless we end it with the answer, it stays open and keeps `close()` waiting. */
export function endWithAnswer ({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (!(raw as { upgrade?: boolean }).upgrade) return
  const { socket } = raw
  reply.header('connection', 'close')
  reply.raw.once('close', () => socket.destroy())
  reply.raw.once('finish', () => socket.destroySoon())
}
