/**
 * Host names and wildcards: how they are compared (`normalise`), which ones a certificate covers (`hostsOf`), and a map
 * from host names to values (`NameMap`). An exact name comes before a wildcard; case and a trailing dot are ignored.
 */
import type { X509Certificate } from 'node:crypto'
import { isIP, isIPv6, SocketAddress } from 'node:net'
import { attributeValues, subjectOf } from '../x509/distinguished-names.ts'
import { alternativeNamesOf } from '../x509/general-names.ts'

/**
 * The form in which DNS names are compared: SNI comes in any case, and a name may end in a dot (RFC 6066 §3, RFC 1034
 * §3.1).
 */
export function normalise (name: string): string {
  return name.toLowerCase().replace(/\.$/, '')
}

/**
 * The DNS names and IP addresses that a certificate covers: its subject alternative names. Only if these have no DNS
 * name and no address, its common names are used (RFC 6125 §6.4.4); browsers ignore common names.
 */
export function hostsOf (certificate: X509Certificate): readonly string[] {
  const names = alternativeNamesOf(certificate).filter(({ kind }) => kind === 'DNS' || kind === 'IP').map(({ value }) => normalise(value))
  return Object.freeze(names.length > 0 ? names : attributeValues(subjectOf(certificate), 'CN').map(normalise))
}

/** A map from host names to values, with wildcards. */
export class NameMap<Value> {
  readonly #exact = new Map<string, Value>()
  /** Key: what follows the one label that `*` stands for (RFC 6125 §6.4.3). */
  readonly #wildcards = new Map<string, Value>()

  /**
   * Adds a name. A name that is there already keeps its first value.
   *
   * @returns the value that the name has now
   */
  add (name: string, value: Value): Value {
    const normal = normalise(name)
    const [map, key] = normal.startsWith('*.') ? [this.#wildcards, normal.slice(2)] : [this.#exact, normal]
    if (!map.has(key)) map.set(key, value)
    return map.get(key)!
  }

  /** The value of a name or wildcard that was added. */
  own (name: string): Value | undefined {
    const normal = normalise(name)
    return normal.startsWith('*.') ? this.#wildcards.get(normal.slice(2)) : this.#exact.get(normal)
  }

  /** @param name a DNS name, or an IP address; IPv6 with or without brackets */
  get (name: string): Value | undefined {
    const normal = normalise(name)
    const address = addressOf(normal)
    if (address !== undefined) return this.#exact.get(address)
    const dot = normal.indexOf('.')
    return this.#exact.get(normal) ?? (dot > 0 ? this.#wildcards.get(normal.slice(dot + 1)) : undefined)
  }
}

/** An IP address in the form in which those of certificates are written here. */
function addressOf (host: string): string | undefined {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  // An address with a zone (RFC 4007 §11) is valid on one machine only, and in no certificate.
  if (isIP(bare) === 0 || bare.includes('%')) return undefined
  return isIPv6(bare) ? new SocketAddress({ address: bare, family: 'ipv6' }).address : bare
}
