/** The names and addresses that certificates are made for. */
import { isIP } from 'node:net'
import { DevelopmentCertificatesError } from '../../errors.ts'

/** Letters, digits and hyphens (RFC 5890 §2.3.1), one leading wildcard label (RFC 6125 §6.4.3), no trailing dot. */
const dnsName = /^(?=.{1,253}$)(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/

/** A DNS name or an address, each written in the one way that comparisons expect. */
export interface DevelopmentHost {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

/**
 * Checks host names and addresses and writes them in their usual form: lower case, IPv6 shortened (RFC 5952).
 *
 * @param hosts - DNS names (`shop.test`, `*.shop.test`), IPv4 or IPv6 addresses (`::1`, without brackets or zone)
 * @throws FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES for an empty list and for anything that is not a host
 */
export function parseDevelopmentHosts (hosts: readonly string[]): readonly DevelopmentHost[] {
  if (!Array.isArray(hosts) || hosts.length === 0) {
    throw new DevelopmentCertificatesError('hosts must be a list of at least one DNS name or IP address')
  }
  return Object.freeze(hosts.map(parseHost))
}

function parseHost (host: unknown): DevelopmentHost {
  const name = String(host).toLowerCase()
  // An all-digit last label is an address or nothing, never a DNS name (RFC 1123 §2.1)
  const value = isIP(name) === 6 ? shortened(name) : name
  if (isIP(value) !== 0) return Object.freeze({ type: 'ip', value })
  if (dnsName.test(value) && !/(?:^|\.)\d+$/.test(value)) return Object.freeze({ type: 'dns', value })
  throw new DevelopmentCertificatesError(
    `hosts: ${JSON.stringify(host)} is neither a DNS name (international ones in their xn-- form) nor an IP address without brackets`)
}

/** IPv6 as RFC 5952 has it, also for the forms that end in an IPv4 address. With a zone it is no host of a certificate. */
function shortened (address: string): string {
  const url = `http://[${address}]`
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : address.replace('%', ' zone ')
}
