/**
 * What a trusted proxy says of how a client came.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { isNamedIn } from './lines.ts'

/** @param isUpgrade on a WebSocket handshake a proxy may say `wss` */
export type IsForwardedSecure = (headers: IncomingHttpHeaders, isUpgrade: boolean) => boolean

/** Whether the client came over HTTPS. A chain of proxies is secure only if every hop of it is; silence is not. */
export async function openForwardedProtocol (protocol: 'x-forwarded-proto' | 'forwarded'): Promise<IsForwardedSecure> {
  // Loaded where a proxy uses it: few do.
  const protocolsIn = protocol === 'forwarded' ? (await import('./rfc7239.ts')).protocolsIn : (header: string) => header.split(',')
  return function isForwardedSecure (headers, isUpgrade) {
    const header = headers[protocol]
    // Who names it in Connection may have had a proxy remove the one that counts.
    if (typeof header !== 'string' || isNamedIn(headers.connection, protocol)) return false
    if (header === 'https' && protocol === 'x-forwarded-proto') return true
    return protocolsIn(header).every((value) => {
      const name = value.trim().toLowerCase()
      return name === 'https' || (name === 'wss' && isUpgrade)
    })
  }
}
