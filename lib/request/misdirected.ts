/**
 * Requests on the connection of another host: HTTP/2 and kept connections take any (RFC 9113 §9.1.1), which is one too
 * many where each host has client authorities of its own.
 */
import type { FastifyRequest } from 'fastify'
import type { Options } from '../options/resolve.ts'
import { parseHost } from '../url/host.ts'
import { connectionOf, isSimulated, tlsSocketOf } from './connection.ts'
import type { Transport } from './secure.ts'

/** Each proxy adds one, of 253 characters (RFC 1035 §2.3.4) and a port. */
const MOST_FORWARDED = 8
const LONGEST_FORWARDED = 2_048

/** Every host that a request names, in whatever place handlers may read it; `''` for what is none. `undefined`: there are too many. */
function namedHosts ({ raw, originalUrl }: FastifyRequest): string[] | undefined {
  const { headers: { host, ':authority': authority, 'x-forwarded-host': forwarded } } = raw
  const named = new Set([host, authority, authorityOf(originalUrl), authorityOf(raw.url!)] as Array<string | undefined>)
  // With Fastify's trustProxy, `request.hostname` is what that says.
  const text = String(forwarded ?? '')
  if (text.length > LONGEST_FORWARDED) return undefined
  const others = text.split(',', MOST_FORWARDED + 1)
  if (others.length > MOST_FORWARDED) return undefined
  for (const other of others) named.add(other.trim() || undefined)
  return [...named].flatMap((name) => name === undefined ? [] : parseHost(name)?.name ?? '')
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
    // A hook before ours may have waited while the client went.
    if (socket === undefined || isSimulated(socket)) return false
    const hosts = namedHosts(request)
    return hosts === undefined || hosts.some((host) => isMisdirected(socket, host))
  }
}
