/** The header `Forwarded` (RFC 7239). */
import parse from 'forwarded-parse'

/**
 * The `proto` of each element (RFC 7239 §5.4). A malformed header says nothing, and neither does one that does not say
 * exactly one `proto` in each element (§4: a parameter must not occur twice), since its writers do not agree.
 */
export function protocolsIn (header: string): string[] {
  try {
    const protocols = parse(header).map(({ proto = '' }) => proto)
    return header.match(/proto=/gi)?.length === protocols.length ? protocols : ['']
  } catch {
    return ['']
  }
}
