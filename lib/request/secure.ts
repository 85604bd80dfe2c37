/**
 * Whether a request came over HTTPS.
 */
import type { Options } from '../options/resolve.ts'
import { isForwardedSecure } from '../proxy/forwarded.ts'
import { type Connection, type RawRequest, isEncrypted, socketOf } from './connection.ts'
import { isWebSocketUpgrade } from './upgrade.ts'

/** How this application knows. Resolved once, so that nobody without a proxy pays for one. */
export interface Transport {
  /** Whether the client came over HTTPS. */
  isSecure (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether the peer is a proxy of ours: then its socket, encryption and certificate say nothing of the client. */
  isProxied (connection: Connection | undefined): boolean
  /** Whether the client itself came over HTTPS on this connection, so that its certificate is the client's. */
  isOwn (connection: Connection | undefined): boolean
  /** Whether a proxy of ours forwarded the request from TLS early data (RFC 8470 §5.1). */
  isEarly (raw: RawRequest, connection: Connection | undefined): boolean
  /** Whether somebody who is no proxy of ours says which certificate the client has; not there where nobody may. */
  isForged: ((raw: RawRequest, connection: Connection | undefined) => boolean) | undefined
  /** Says that a forwarded header was ignored, for the log: a wrong `proxy.trust` is an endless redirect. */
  ignored (raw: RawRequest, connection: Connection | undefined): string | undefined
}

/** Without a proxy, only the connection itself says anything. */
const DIRECT: Transport = {
  isSecure: (_raw, connection) => isEncrypted(connection),
  isProxied: () => false,
  isOwn: isEncrypted,
  isEarly: () => false,
  isForged: undefined,
  ignored: () => undefined
}

export function createTransport ({ proxy }: Pick<Options, 'proxy'>): Transport {
  if (proxy === undefined) return DIRECT

  const certificateHeader = proxy.certificate?.header
  const isProxied = (connection: Connection | undefined): boolean => {
    const socket = socketOf(connection)
    return socket !== undefined && proxy.trusts(socket)
  }
  // A peer that has gone may have been the proxy, whose encryption says nothing of the client.
  const isOwn = (connection: Connection | undefined): boolean =>
    !isProxied(connection) && isEncrypted(connection) && socketOf(connection)?.remoteAddress !== undefined
  return {
    isProxied,
    isOwn,
    isSecure: (raw, connection) => isProxied(connection)
      ? isForwardedSecure(raw.headers, proxy.protocol, isWebSocketUpgrade(raw))
      : isOwn(connection),
    // RFC 8470 §5.1: several of it, or any other value, count as one `1`.
    isEarly: (raw, connection) => raw.headers['early-data'] !== undefined && isProxied(connection),
    isForged: certificateHeader === undefined ? undefined : (raw, connection) => raw.headers[certificateHeader] !== undefined && !isProxied(connection),
    ignored (raw, connection) {
      const ignored = [proxy.protocol, certificateHeader].find((name) => name !== undefined && raw.headers[name] !== undefined)
      if (ignored === undefined || isProxied(connection)) return undefined
      return `${ignored} of ${socketOf(connection)?.remoteAddress ?? 'a peer without an address'}, which is not in proxy.trust`
    }
  }
}
