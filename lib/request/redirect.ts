/**
 * Where an insecure request is sent: the same URL on HTTPS, on the host that was asked for.
 */
import type { AddressInfo } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import { plainPortOf } from '../internals.ts'
import type { Options } from '../options/resolve.ts'
import { isNamedIn } from '../proxy/forwarded-certificate.ts'
import { parseHost } from '../url/host.ts'
import { connectionOf, connectionOfRaw, type RawRequest } from './connection.ts'
import type { Transport } from './transport.ts'

/** What a header value may hold (RFC 9110 §5.5); Node throws at anything else. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** The URL to redirect to, or why there is none. */
type Located = { readonly url: string } | { readonly obstacle: string }
export type Locate = (request: FastifyRequest) => Located

export function createLocate ({ redirect, proxy, tls }: Pick<Options, 'redirect' | 'proxy' | 'tls'>, transport: Transport): Locate {
  return function locate (request) {
    const { raw, originalUrl } = request
    const isProxied = transport.isProxied(connectionOf(request))
    const target = splitTarget(originalUrl)
    const authority = hostOf(raw, isProxied && proxy?.host === 'x-forwarded-host')
    if (authority === undefined) return { obstacle: 'no host is named, or several are' }
    // RFC 9112 §3.2.2: an absolute-form target names the host too. Two names are one too many.
    if (target.authority !== undefined && target.authority.toLowerCase() !== authority.toLowerCase()) return { obstacle: 'the target names another host' }
    const host = parseHost(authority)
    if (host === undefined) return { obstacle: 'it is no host' }
    if (redirect.hosts?.has(host.name.toLowerCase()) === false) return { obstacle: 'it is not in redirect.hosts' }
    if (!FIELD_VALUE.test(target.path)) return { obstacle: 'no header can hold the path' }
    // A proxy has certificates of its own.
    if (tls !== undefined && !isProxied && !tls.covers(host.name)) return { obstacle: 'no certificate of the server covers it' }
    const port = redirect.httpsPort ?? (isProxied ? 443 : listeningPort(request, host.port))
    return { url: `https://${host.name}${port === 443 ? '' : `:${port}`}${target.path}` }
  }
}

/** What a client says of the host, for the log. */
export function namedHost ({ raw: { headers } }: FastifyRequest): string {
  return [headers[':authority'], headers.host, headers['x-forwarded-host']].filter((name) => name !== undefined).join(' ')
}

/**
 * The one host that a request names. Node joins or drops further lines of a header; here they are an error, and so is a
 * forwarded one that is named in Connection: nobody knows who wrote it.
 */
function hostOf ({ headers, rawHeaders }: RawRequest, isForwarded: boolean): string | undefined {
  const name = isForwarded && headers['x-forwarded-host'] !== undefined ? 'x-forwarded-host' : 'host'
  let lines = 0
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.toLowerCase() === name) lines++
  if (lines > 1 || (isForwarded && isNamedIn(headers.connection, name))) return undefined
  return (headers[name] ?? headers[':authority']) as string | undefined
}

/** The path as it came, byte for byte, and the authority of an absolute-form target (RFC 9112 §3.2.2). */
function splitTarget (target: string): { path: string, authority?: string } {
  if (target.startsWith('/')) return { path: target }
  const [, authority, path] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)(.*)$/is.exec(target) ?? ['', undefined, `/${target}`]
  return { path: path!.startsWith('/') ? path! : `/${path!}`, authority }
}

/** Where the client named the port of the very listener it reached, the port that our HTTPS listens on; else 443. */
function listeningPort ({ raw, server: app }: FastifyRequest, port = 80): number {
  return raw.socket?.localPort === port ? httpsPortOf(app.server) : 443
}

function httpsPortOf (server: object): number {
  if (!(server instanceof TlsServer)) return 443
  const address = server.address() as AddressInfo | string | null
  return typeof address === 'object' && address !== null ? address.port : 443
}

/** Keeps the Location of an answer to a request that came over HTTPS there: see `upgradeLocation`. */
export function createKeepLocation ({ redirect, proxy }: Pick<Options, 'redirect' | 'proxy'>, transport: Transport, server: object): (location: string, raw: RawRequest) => string {
  const httpsByDefault = redirect.httpsPort ?? 443
  return function keepLocation (location, raw) {
    const isProxied = transport.isProxied(connectionOfRaw(raw))
    const authority = hostOf(raw, isProxied && proxy?.host === 'x-forwarded-host')
    return upgradeLocation(location, authority ?? '', {
      // A proxy's clients know nothing of our ports.
      http: isProxied ? undefined : plainPortOf(server),
      https: redirect.httpsPort ?? httpsPortOf(server),
      httpsByDefault
    })
  }
}

/**
 * Redirects of handlers: what came over HTTPS does not leave it for our own HTTP port.
 */

interface Ports {
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
