/**
 * Redirects: the HTTPS URL of an insecure request, on the host that it asked for ({@link createLocate}), and the `Location`
 * of handlers' own redirects, which must not lead from HTTPS back to HTTP ({@link createKeepLocation}).
 */
import type { AddressInfo } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import { plainPortOf } from '../internals.ts'
import type { Options } from '../options/resolve.ts'
import { isNamedIn } from '../proxy/raw-headers.ts'
import { parseHost } from '../url/host.ts'
import { connectionOf, connectionOfRaw, type RawRequest } from './connection.ts'
import type { Transport } from './transport.ts'

/** The characters of a header value (RFC 9110 §5.5). Node throws at any other. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** The URL to redirect to, or why there is none. */
type Located = { readonly url: string } | { readonly obstacle: string }
export type Locate = (request: FastifyRequest) => Located

export function createLocate ({ redirect, proxy, tls }: Pick<Options, 'redirect' | 'proxy' | 'tls'>, transport: Transport): Locate {
  return function locate (request) {
    const { raw, originalUrl } = request
    const isProxied = transport.isProxied(raw, connectionOf(request))
    const target = splitTarget(originalUrl)
    const authority = hostOf(raw, isProxied && proxy?.host === 'x-forwarded-host')
    if (authority === undefined) return { obstacle: 'no host is named, or several are' }
    // RFC 9112 §3.2.2: an absolute-form target names the host, too. It must be the same one.
    if (target.authority !== undefined && target.authority.toLowerCase() !== authority.toLowerCase()) return { obstacle: 'the target names another host' }
    const host = parseHost(authority)
    if (host === undefined) return { obstacle: 'it is no host' }
    if (redirect.hosts?.has(host.name.toLowerCase()) === false) return { obstacle: 'it is not in redirect.hosts' }
    if (!FIELD_VALUE.test(target.path)) return { obstacle: 'no header can hold the path' }
    // A proxy has its own certificates.
    if (tls !== undefined && !isProxied && !tls.covers(host.name)) return { obstacle: 'no certificate of the server covers it' }
    const port = redirect.httpsPort ?? (isProxied ? 443 : listeningPort(request, host.port))
    return { url: `https://${host.name}${port === 443 ? '' : `:${port}`}${target.path}` }
  }
}

/** Every host that a client names, for the log. */
export function namedHost ({ raw: { headers } }: FastifyRequest): string {
  return [headers[':authority'], headers.host, headers['x-forwarded-host']].filter((name) => name !== undefined).join(' ')
}

/**
 * The host that a request names; `undefined` where it names none or several. Node joins or drops further lines of a header;
 * here they are an error. So is a forwarded host that is named in Connection, because the client may have written it.
 */
function hostOf ({ headers, rawHeaders }: RawRequest, isForwarded: boolean): string | undefined {
  const name = isForwarded && headers['x-forwarded-host'] !== undefined ? 'x-forwarded-host' : 'host'
  let lines = 0
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.toLowerCase() === name) lines++
  if (lines > 1 || (isForwarded && isNamedIn(headers.connection, name))) return undefined
  return (headers[name] ?? headers[':authority']) as string | undefined
}

/** The path, byte for byte, and the authority of an absolute-form target (RFC 9112 §3.2.2). */
function splitTarget (target: string): { path: string, authority?: string } {
  if (target.startsWith('/')) return { path: target }
  const [, authority, path] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)(.*)$/is.exec(target) ?? ['', undefined, `/${target}`]
  return { path: path!.startsWith('/') ? path! : `/${path!}`, authority }
}

/** The port that HTTPS listens on where the client named the port of the listener that it reached; else 443. */
function listeningPort ({ raw, server: app }: FastifyRequest, port = 80): number {
  return raw.socket?.localPort === port ? httpsPortOf(app.server) : 443
}

function httpsPortOf (server: object): number {
  if (!(server instanceof TlsServer)) return 443
  const address = server.address() as AddressInfo | string | null
  return typeof address === 'object' && address !== null ? address.port : 443
}

/** Keeps clients on HTTPS: rewrites a `Location` that answers a request over HTTPS, as {@link upgradeLocation} says. */
export function createKeepLocation ({ redirect, proxy }: Pick<Options, 'redirect' | 'proxy'>, transport: Transport, server: object): (location: string, raw: RawRequest) => string {
  const httpsByDefault = redirect.httpsPort ?? 443
  return function keepLocation (location, raw) {
    const isProxied = transport.isProxied(raw, connectionOfRaw(raw))
    const authority = hostOf(raw, isProxied && proxy?.host === 'x-forwarded-host')
    return upgradeLocation(location, authority ?? '', {
      // Clients behind a proxy do not see our ports.
      http: isProxied ? undefined : plainPortOf(server),
      https: redirect.httpsPort ?? httpsPortOf(server),
      httpsByDefault
    })
  }
}

// Redirects of handlers

interface Ports {
  /** The port of our own HTTP listener; `undefined` where there is none. */
  readonly http: number | undefined
  /** The port of HTTPS that corresponds to it. */
  readonly https: number
  /** The port of HTTPS for clients that name no port: 443, or the option `httpsPort`. */
  readonly httpsByDefault: number
}

/**
 * Changes a Location (RFC 9110 §10.2.2) to HTTPS where it is plain HTTP on the request's own host and on our own port for
 * that. Any other stays as it is. Path and query stay byte for byte.
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
  // A client that used the default port of HTTPS came through a port mapping, which maps port 80, too.
  return port === 80 && ownPort === httpsByDefault ? httpsByDefault : undefined
}
