/**
 * Whether a request came over HTTPS.
 */
import type { Options } from '../options/resolve.ts'
import { isForwardedSecure } from '../proxy/forwarded.ts'
import { type RawRequest, isEncrypted, socketOf } from './connection.ts'
import { isWebSocketUpgrade } from './upgrade.ts'

/** How this application knows. Resolved once, so that nobody without a proxy pays for one. */
export interface Transport {
  /** Whether the client came over HTTPS. */
  isSecure (raw: RawRequest): boolean
  /** Whether the peer is a proxy of ours: then its socket, encryption and certificate say nothing of the client. */
  isProxied (raw: RawRequest): boolean
}

export function createTransport ({ proxy }: Pick<Options, 'proxy'>): Transport {
  if (proxy === undefined) return { isSecure: isEncrypted, isProxied: () => false }

  const isProxied = (raw: RawRequest): boolean => {
    const socket = socketOf(raw)
    return socket !== undefined && proxy.trusts(socket)
  }
  return {
    isProxied,
    isSecure: (raw) => isProxied(raw)
      ? isForwardedSecure(raw.headers, proxy.protocol, isWebSocketUpgrade(raw))
      : isEncrypted(raw)
  }
}
