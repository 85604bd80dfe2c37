/**
 * Requests on the connection of another host: HTTP/2 and kept connections take any (RFC 9113 §9.1.1), which is one too
 * many where each host has client authorities of its own.
 */
import type { FastifyRequest } from 'fastify'
import type { Options } from '../options/resolve.ts'
import { parseHost } from '../url/host.ts'
import { connectionOf, isSimulated, tlsSocketOf } from './connection.ts'
import type { Transport } from './secure.ts'

/** Every host that a request names, in whatever place handlers may read it; empty for what is none. */
function namedHosts ({ raw, originalUrl }: FastifyRequest): string[] {
  const { headers: { host, ':authority': authority, 'x-forwarded-host': forwarded } } = raw
  // With Fastify's trustProxy, `request.hostname` is what that says.
  return [host, authority as string | undefined, ...String(forwarded ?? '').split(',').map((part) => part.trim() || undefined), authorityOf(originalUrl), authorityOf(raw.url!)]
    .flatMap((named) => named === undefined ? [] : parseHost(named)?.name ?? '')
}

/** That of an absolute-form target, which counts before the Host (RFC 9112 §3.2.2). */
function authorityOf (target: string): string | undefined {
  return target.startsWith('/') ? undefined : /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1]
}

/** Whether a request is for another host than its connection; `undefined` where all hosts trust the same authorities. */
export function createIsElsewhere ({ tls }: Pick<Options, 'tls'>, transport: Transport): ((request: FastifyRequest) => boolean) | undefined {
  const isMisdirected = tls?.isMisdirected
  if (isMisdirected === undefined) return undefined
  return function isElsewhere (request) {
    const connection = connectionOf(request)
    if (!transport.isOwn(connection)) return false
    const socket = tlsSocketOf(connection)
    // A hook before ours may have taken its time: whoever has gone is for no host.
    return socket !== undefined && !isSimulated(socket) && namedHosts(request).some((host) => isMisdirected(socket, host))
  }
}
