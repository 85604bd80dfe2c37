/**
 * The host that a request names, where hosts have client CAs of their own: HTTP/2 and kept connections take requests for
 * any (RFC 9113 §9.1.1), and the CAs that count are those of the host that is asked for.
 */
import type { FastifyRequest } from 'fastify'
import type { TlsInterface } from '../link.ts'
import { parseHost } from '../url/host.ts'

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

/** Which of the hosts with client CAs of their own a request is for; undefined where it names several, or too many. */
export function hostGroupOf (request: FastifyRequest, tls: TlsInterface): string | undefined {
  const groups = namedHosts(request)?.map((host) => tls.hostGroupOf(host))
  if (groups === undefined) return undefined
  const [group = '', ...others] = groups
  return others.every((other) => tls.trustOf(other) === tls.trustOf(group)) ? group : undefined
}

/** By whose CAs the certificate of a request is judged, for the log. */
export function trustOfHost (request: FastifyRequest, tls: TlsInterface): string {
  const group = hostGroupOf(request, tls)
  if (group === undefined) return 'nobody: the hosts that are named have different authorities'
  return group === '' ? 'nobody: the host is not in clientCertificates' : `clientCertificates['${group}']`
}
