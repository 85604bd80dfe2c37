/**
 * What a trusted proxy says of how a client came.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { createRequire } from 'node:module'
import type parseForwarded from 'forwarded-parse'
import { isNamedIn } from './lines.ts'

/** Loaded with the first such header: few have one. */
let parse: typeof parseForwarded | undefined

/**
 * Whether the client came over HTTPS. A chain of proxies is secure only if every hop of it is; silence is not.
 *
 * @param isUpgrade on a WebSocket handshake a proxy may say `wss`
 */
export function isForwardedSecure (headers: IncomingHttpHeaders, protocol: 'x-forwarded-proto' | 'forwarded', isUpgrade: boolean): boolean {
  const header = headers[protocol]
  // Who names it in Connection may have had a proxy remove the one that counts.
  if (typeof header !== 'string' || isNamedIn(headers.connection, protocol)) return false
  if (header === 'https' && protocol === 'x-forwarded-proto') return true
  const protocols = protocol === 'forwarded' ? forwardedProtocols(header) : header.split(',')
  return protocols.every((value) => {
    const name = value.trim().toLowerCase()
    return name === 'https' || (name === 'wss' && isUpgrade)
  })
}

/**
 * The `proto` of each element (RFC 7239 §5.4). A malformed header says nothing, and neither does one that does not say
 * exactly one `proto` in each element (§4: a parameter must not occur twice), since its writers do not agree.
 */
function forwardedProtocols (header: string): string[] {
  try {
    parse ??= createRequire(import.meta.url)('forwarded-parse') as typeof parseForwarded
    const protocols = parse(header).map(({ proto = '' }) => proto)
    return header.match(/proto=/gi)?.length === protocols.length ? protocols : ['']
  } catch {
    return ['']
  }
}
