/**
 * What a trusted proxy says of how a client came.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { isNamedIn } from './forwarded-certificate.ts'

/** @param isUpgrade on a WebSocket handshake a proxy may say `wss` */
type IsForwardedSecure = (headers: IncomingHttpHeaders, isUpgrade: boolean) => boolean

/** Whether the client came over HTTPS. A chain of proxies is secure only if every hop of it is; silence is not. */
export async function openForwardedProtocol (protocol: 'x-forwarded-proto' | 'forwarded'): Promise<IsForwardedSecure> {
  // Loaded where a proxy uses it: few do.
  const protocolsIn = protocol === 'forwarded' ? createProtocolsIn((await import('forwarded-parse')).default) : (header: string) => header.split(',')
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

/**
 * The `proto` of each element of a header `Forwarded` (RFC 7239 §5.4). A malformed header says nothing, and neither does one
 * that does not say exactly one `proto` in each element (§4: a parameter must not occur twice), since its writers do not
 * agree.
 */
function createProtocolsIn (parse: (header: string) => Array<Partial<Record<string, string>>>): (header: string) => string[] {
  return function protocolsIn (header) {
    try {
      const protocols = parse(header).map(({ proto = '' }) => proto)
      return header.match(/proto=/gi)?.length === protocols.length ? protocols : ['']
    } catch {
      return ['']
    }
  }
}
