/**
 * Requests on the connection of another host: HTTP/2 and kept connections take any (RFC 9113 §9.1.1), which is one too
 * many where each host has client authorities of its own.
 */
import type { FastifyRequest } from 'fastify'
import type { Options } from '../options/resolve.ts'
import { connectionOf, isSimulated, socketOf } from './connection.ts'
import type { Transport } from './secure.ts'

/** Whether a request is for another host than its connection; `undefined` where all hosts trust the same authorities. */
export function createIsElsewhere ({ tls }: Pick<Options, 'tls'>, transport: Transport): ((request: FastifyRequest) => boolean) | undefined {
  const isMisdirected = tls?.isMisdirected
  if (isMisdirected === undefined) return undefined
  return function isElsewhere (request) {
    const connection = connectionOf(request)
    if (!transport.isOwn(connection)) return false
    const socket = socketOf(connection)!
    const { host, ':authority': authority = host } = request.raw.headers
    return !isSimulated(socket) && isMisdirected(socket, authority as string ?? '')
  }
}
