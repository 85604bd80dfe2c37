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
  /** Says that a forwarded header was ignored, for the log: a wrong `proxy.trust` is an endless redirect. */
  ignored (raw: RawRequest, connection: Connection | undefined): string | undefined
}

export function createTransport ({ proxy }: Pick<Options, 'proxy'>): Transport {
  if (proxy === undefined) return { isSecure: (_raw, connection) => isEncrypted(connection), isProxied: () => false, isOwn: isEncrypted, ignored: () => undefined }

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
    ignored: (raw, connection) => raw.headers[proxy.protocol] === undefined || isProxied(connection)
      ? undefined
      : `${proxy.protocol} of ${socketOf(connection)?.remoteAddress ?? 'a peer without an address'}, which is not in proxy.trust`
  }
}
