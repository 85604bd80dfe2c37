/**
 * Whether a client used HTTPS, as a trusted proxy says in X-Forwarded-Proto or Forwarded. Begin with
 * {@link openForwardedProtocol}.
 */
import type { IncomingHttpHeaders } from 'node:http'

/** @param isUpgrade on a WebSocket handshake a proxy may say `wss` */
type IsForwardedSecure = (headers: IncomingHttpHeaders, isUpgrade: boolean) => boolean

/** Whether the client came over HTTPS. A chain of proxies is secure only if every hop is; a missing header is insecure. */
export async function openForwardedProtocol (protocol: 'x-forwarded-proto' | 'forwarded'): Promise<IsForwardedSecure> {
  // Imported only where it is used, which is rare.
  const protocolsIn = protocol === 'forwarded' ? createProtocolsIn((await import('forwarded-parse')).default) : (header: string) => header.split(',')
  return function isForwardedSecure (headers, isUpgrade) {
    const header = headers[protocol]
    // A client that names it in Connection may have made a proxy remove the value that counts.
    if (typeof header !== 'string' || isNamedIn(headers.connection, protocol)) return false
    if (header === 'https' && protocol === 'x-forwarded-proto') return true
    return protocolsIn(header).every((value) => {
      const name = value.trim().toLowerCase()
      return name === 'https' || (name === 'wss' && isUpgrade)
    })
  }
}

/**
 * The `proto` of each element of a Forwarded header (RFC 7239 §5.4). A malformed header counts as insecure, and so does one
 * without exactly one `proto` in each element (§4: a parameter must not occur twice), because its writers do not agree.
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

/** Whether a Connection header names another header, which makes that one hop-by-hop (RFC 9110 §7.6.1). */
export function isNamedIn (connection: string | undefined, header: string): boolean {
  // Nearly every value is `close`, `keep-alive` or `upgrade`.
  if (connection === undefined || connection.length < header.length) return false
  return connection.toLowerCase().split(',').some((option) => option.trim() === header)
}
