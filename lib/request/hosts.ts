/**
 * The host that a request names, where hosts have client CAs of their own: HTTP/2 and kept connections take requests for
 * any (RFC 9113 §9.1.1), and the CAs that count are those of the host that is asked for.
 */
import type { FastifyRequest } from 'fastify'
import type { TlsLink } from '../link.ts'
import { parseHost } from '../url/host.ts'

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

/** Which of the hosts with client CAs of their own a request is for; undefined where it names several. */
export function hostGroupOf (request: FastifyRequest, tls: TlsLink): string | undefined {
  const [group = '', ...others] = namedHosts(request).map((host) => tls.hostGroupOf(host))
  return others.every((other) => tls.trustOf(other) === tls.trustOf(group)) ? group : undefined
}
