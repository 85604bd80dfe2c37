/**
 * Redirects of handlers: what came over HTTPS does not leave it for our own HTTP port.
 */
import { parseHost } from '../url/host.ts'

export interface Ports {
  /** Where we listen for plain HTTP, if we do. */
  readonly http: number | undefined
  /** Where the same is reached over HTTPS. */
  readonly https: number
  /** Where clients reach HTTPS who came by no port: 443, or what the options say. */
  readonly httpsByDefault: number
}

/**
 * A Location (RFC 9110 §10.2.2) on HTTPS, where it names plain HTTP on the request's own host and our own port for that;
 * else as it is. Path and query stay byte for byte.
 *
 * @param authority the host of the request, with its port
 */
export function upgradeLocation (location: string, authority: string, ports: Ports): string {
  const [, named, rest] = /^http:\/\/([^/?#\\]*)((?:[/?#].*)?)$/is.exec(location) ?? []
  if (named === undefined) return location
  const own = parseHost(authority)
  const host = parseHost(named)
  if (own === undefined || host === undefined || host.name.toLowerCase() !== own.name.toLowerCase()) return location
  const port = httpsPortFor(host.port ?? 80, own.port ?? 443, ports)
  if (port === undefined) return location
  return `https://${host.name}${port === 443 ? '' : `:${port}`}${rest!}`
}

function httpsPortFor (port: number, ownPort: number, { http, https, httpsByDefault }: Ports): number | undefined {
  if (port === http) return https
  // Whoever came by the usual port came through something that maps both of them.
  return port === 80 && ownPort === httpsByDefault ? httpsByDefault : undefined
}
