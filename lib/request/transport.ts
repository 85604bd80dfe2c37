/**
 * Whether a request came over HTTPS: on its own connection, or by the word of a trusted proxy.
 */
import type { Options } from '../options/resolve.ts'
import { otherPresetIn } from '../proxy/presets.ts'
import type { PeerCertificate } from '../trust/peer-certificate.ts'
import { type Connection, isEncrypted, isHttp2, isWebSocketUpgrade, type RawRequest, socketOf } from './connection.ts'

/** How this application knows. Resolved once, so that an application without a proxy does not pay for one. */
export interface Transport {
  /** Whether the client came over HTTPS. */
  isSecure (raw: RawRequest, connection: Connection | undefined): boolean
  /** The same of a request that was secure before. A proxy of ours whose revocation is not known any more still counts. */
  isStillSecure (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether the peer is a proxy of ours: then its socket, encryption and certificate say nothing of the client. */
  isProxied (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether a proxy of ours, which the peer is known to be, says that the client came over HTTPS. */
  saysSecure (raw: RawRequest): boolean
  /** Whether the client itself came over HTTPS on this connection, so that its certificate is the client's. */
  isDirectTls (connection: Connection | undefined): boolean
  /** Whether a proxy of ours forwarded the request from TLS early data (RFC 8470 §5.1). */
  isEarly (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether a proxy of ours has forwarded more headers than Node puts into `headers`: which are missing is not known. */
  isTruncated (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether a peer that is no trusted proxy sends the header of a certificate; undefined where no header is believed. */
  hasUntrustedHeader: ((raw: RawRequest, connection: Connection | undefined) => boolean) | undefined
  /** What an administrator should know of the headers: a wrong `proxy.trust`, or a proxy that does not say how clients come, is an endless redirect. */
  hints (raw: RawRequest, connection: Connection | undefined): Hints
  /** Proxies that prove themselves by their certificates; undefined where addresses alone decide. */
  readonly proxies: Proxies | undefined
  /** Whether the peer has the certificate of a proxy, and nothing makes it one. */
  isDisproved (raw: RawRequest, connection: Connection | undefined): boolean
}

/** Proxies that prove themselves by the certificates of their own connections: see proven-proxies.ts. */
export interface Proxies {
  /** Whether the certificate of a connection is, or ever was, that of a proxy: then it is never a client's. */
  isOfProxy (connection: Connection | undefined): boolean
  /** The same of a certificate that was forwarded. */
  isCertificateOfProxy (found: PeerCertificate): boolean
  /** Whether the peer is a proxy now. */
  believes (raw: RawRequest, connection: Connection | undefined): boolean
  /** Why a peer with such a certificate is not; undefined where it is, and for all other peers. */
  problemOf (raw: RawRequest, connection: Connection | undefined): Problem | undefined
  /** Whether only a new connection of the peer can change that. */
  isStuck (raw: RawRequest, connection: Connection | undefined): boolean
}

export interface Problem {
  /** For the log. */
  readonly text: string
  /** It may be one only until a revocation status is known. */
  readonly isPending: boolean
}

/** For the log. */
export interface Hints {
  /** A forwarded header that was ignored, and the peer that sent it. */
  readonly ignored?: string | undefined
  /** What is wrong with one that a proxy of ours has forwarded. */
  readonly forwarded?: string | undefined
}

const NO_HINTS: Hints = Object.freeze({})

const never = (): boolean => false

/** Without a proxy, only the connection itself says anything. */
const DIRECT: Transport = {
  isSecure: (_raw, connection) => isEncrypted(connection),
  isStillSecure: (_raw, connection) => isEncrypted(connection),
  isProxied: never,
  saysSecure: never,
  isDirectTls: isEncrypted,
  isEarly: never,
  isTruncated: never,
  hasUntrustedHeader: undefined,
  hints: () => NO_HINTS,
  proxies: undefined,
  isDisproved: never
}

/** @param proxies those that prove themselves by certificates, where there are any */
export async function createTransport ({ proxy }: Pick<Options, 'proxy'>, proxies?: Proxies): Promise<Transport> {
  if (proxy === undefined) return DIRECT

  // Loaded only where a proxy is trusted.
  const { openForwardedProtocol } = await import('../proxy/forwarded-protocol.ts')
  const protocol = await openForwardedProtocol(proxy.protocol)
  const certificateHeader = proxy.certificate?.header
  const hasTrustedAddress = (connection: Connection | undefined): boolean => {
    const socket = socketOf(connection)
    return socket !== undefined && proxy.trusts(socket)
  }
  const isProxied = proxies === undefined
    ? (_raw: RawRequest, connection: Connection | undefined) => hasTrustedAddress(connection)
    : (raw: RawRequest, connection: Connection | undefined) => hasTrustedAddress(connection) || proxies.believes(raw, connection)
  // A peer that has gone may have been the proxy, whose encryption says nothing of the client.
  const isDirectTls = (connection: Connection | undefined): boolean =>
    !hasTrustedAddress(connection) && isEncrypted(connection) && socketOf(connection)?.remoteAddress !== undefined && proxies?.isOfProxy(connection) !== true
  const saysSecure = (raw: RawRequest): boolean => !mayBeTruncated(raw) && protocol.isSecure(raw, isWebSocketUpgrade(raw))
  const problemOf = (raw: RawRequest, connection: Connection | undefined): Problem | undefined =>
    proxies === undefined || hasTrustedAddress(connection) ? undefined : proxies.problemOf(raw, connection)
  const isSecure = (raw: RawRequest, connection: Connection | undefined): boolean => isProxied(raw, connection) ? saysSecure(raw) : isDirectTls(connection)
  return {
    proxies,
    // What was said by a connection that has gone stays said.
    isDisproved: (raw, connection) => socketOf(connection) !== undefined && problemOf(raw, connection) !== undefined,
    isStillSecure: (raw, connection) => problemOf(raw, connection)?.isPending === true ? saysSecure(raw) : isSecure(raw, connection),
    isProxied,
    isDirectTls,
    saysSecure,
    isSecure,
    // RFC 8470 §5.1: several of it, or any other value, count as one `1`.
    isEarly: (raw, connection) => raw.headers['early-data'] !== undefined && isProxied(raw, connection),
    // Under `injectWS` there are neither lines nor a socket.
    isTruncated: (raw, connection) => isProxied(raw, connection) && mayBeTruncated(raw),
    hasUntrustedHeader: certificateHeader === undefined ? undefined : (raw, connection) => raw.headers[certificateHeader] !== undefined && !isProxied(raw, connection),
    hints (raw, connection) {
      const problem = problemOf(raw, connection)
      if (problem !== undefined) return { ignored: problem.text }
      if (isProxied(raw, connection)) return { forwarded: protocol.problem(raw, isWebSocketUpgrade(raw)) ?? (proxy.certificate && otherPresetIn(proxy.certificate, raw.headers)) }
      const ignored = [proxy.protocol.header, certificateHeader].find((name) => name !== undefined && raw.headers[name] !== undefined)
      if (ignored === undefined) return NO_HINTS
      return { ignored: `${ignored} of ${socketOf(connection)?.remoteAddress ?? 'a peer without an address'}, which ${proxies === undefined ? 'is not in proxy.trust' : 'nothing in proxy.trust makes a proxy'}` }
    }
  }
}

/**
 * Node comes with 31 lines at a time, and lets go of what comes after `server.maxHeadersCount` of them: 1,000 unless it
 * says otherwise, and 0 is without end. Where it has that many, there may have been more. Over HTTP/2 such a
 * request does not come at all.
 */
function mayBeTruncated (raw: RawRequest): boolean {
  if (isHttp2(raw)) return false
  const most = (raw.socket as { server?: { maxHeadersCount?: number | null } }).server?.maxHeadersCount ?? 1_000
  return most > 0 && raw.rawHeaders.length >= 2 * most
}
