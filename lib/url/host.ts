/**
 * Parses a Host header strictly. Begin with {@link parseHost}.
 */
import { isIPv4, isIPv6 } from 'node:net'

interface Host {
  /** As it was written, an IPv6 address in brackets. */
  readonly name: string
  readonly port: number | undefined
}

/** `host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2), without characters that no DNS name or address has: `%`, `!`, `~` and the like. */
const HOST = /^(?<name>\[[\da-f:.]+\]|(?!-)(?:[a-z\d_-]+\.)*[a-z\d_-]+\.?)(?::(?<port>\d{0,5}))?$/i

/** Characters of a DNS name (RFC 1035 §2.3.4) and a port. */
const LONGEST = 261

/** The host and port of a Host header; `undefined` for one that is malformed, or that software reads in different ways. */
export function parseHost (authority: string): Host | undefined {
  const groups = authority.length <= LONGEST ? HOST.exec(authority)?.groups : undefined
  if (groups === undefined) return undefined
  const name = groups.name!
  const port = groups.port ? Number(groups.port) : undefined
  if (port !== undefined && (port === 0 || port > 65_535)) return undefined
  return isReadAlike(name) ? { name, port } : undefined
}

/** Whether browsers read the same host: they read `1.2.3` and `0x7f.1` as other hosts (WHATWG URL §3.5). */
function isReadAlike (name: string): boolean {
  if (name.startsWith('[')) return isIPv6(name.slice(1, -1))
  return isIPv4(name) || (URL.canParse(`https://${name}`) && new URL(`https://${name}`).hostname === name.toLowerCase())
}
