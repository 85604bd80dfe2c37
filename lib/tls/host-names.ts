/** Host names, and who answers for them: an exact name before a wildcard, in any case, with or without a last dot. */
import type { X509Certificate } from 'node:crypto'
import { isIP, isIPv6, SocketAddress } from 'node:net'
import { attributeValues, subjectOf } from '../x509/distinguished-names.ts'
import { alternativeNamesOf } from '../x509/general-names.ts'

/** A DNS name as it is compared: SNI comes in any case, and a name may end in a dot (RFC 6066 §3, RFC 1034 §3.1). */
export function normalise (name: string): string {
  return name.toLowerCase().replace(/\.$/, '')
}

/**
 * The names and addresses that a certificate is good for: its alternative names, and only where it has no DNS name or
 * address among them, its common name (RFC 6125 §6.4.4): browsers take the former alone.
 */
export function hostsOf (certificate: X509Certificate): readonly string[] {
  const names = alternativeNamesOf(certificate).filter(({ kind }) => kind === 'DNS' || kind === 'IP').map(({ value }) => normalise(value))
  return Object.freeze(names.length > 0 ? names : attributeValues(subjectOf(certificate), 'CN').map(normalise))
}

/** What belongs to which name. */
export class NameMap<Value> {
  readonly #exact = new Map<string, Value>()
  /** By what follows the one label that a wildcard stands for (RFC 6125 §6.4.3). */
  readonly #wildcards = new Map<string, Value>()

  /** Whoever comes first keeps a name. Answers who has it then. */
  add (name: string, value: Value): Value {
    const normal = normalise(name)
    const [map, key] = normal.startsWith('*.') ? [this.#wildcards, normal.slice(2)] : [this.#exact, normal]
    if (!map.has(key)) map.set(key, value)
    return map.get(key)!
  }

  /** @param name a DNS name or an address, IPv6 with or without brackets */
  get (name: string): Value | undefined {
    const normal = normalise(name)
    const address = addressOf(normal)
    if (address !== undefined) return this.#exact.get(address)
    const dot = normal.indexOf('.')
    return this.#exact.get(normal) ?? (dot > 0 ? this.#wildcards.get(normal.slice(dot + 1)) : undefined)
  }
}

/** An address in the one form that certificates' are written in here. */
function addressOf (host: string): string | undefined {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  // An address with a zone (RFC 4007 §11) is on one machine only, and in no certificate.
  if (isIP(bare) === 0 || bare.includes('%')) return undefined
  return isIPv6(bare) ? new SocketAddress({ address: bare, family: 'ipv6' }).address : bare
}
