/**
 * Requests that ask to leave HTTP (RFC 9110 §7.8).
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { RawRequest } from './connection.ts'

/** What is looked at of Upgrade, in characters and in members: clients name one protocol, or two. */
const LONGEST_UPGRADE = 256
const MOST_PROTOCOLS = 16

/** RFC 6455 §4.2.1. */
export function isWebSocketUpgrade ({ headers: { upgrade } }: RawRequest): boolean {
  return upgrade !== undefined && upgrade.slice(0, LONGEST_UPGRADE).split(',', MOST_PROTOCOLS).some((protocol) => /^\s*websocket\s*(?:\/|$)/i.test(protocol))
}

/** Node has let go of the socket of an upgrade. Unless we end it with the answer, it stays open and keeps `close()` waiting. */
export function endWithAnswer ({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (!(raw as { upgrade?: boolean }).upgrade) return
  const { socket } = raw
  reply.header('connection', 'close')
  reply.raw.once('close', () => socket.destroy())
  reply.raw.once('finish', () => socket.destroySoon())
}
