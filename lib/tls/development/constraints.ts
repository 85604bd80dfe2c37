/** What a development authority may vouch for. */
import { der, tags } from '../../material/encode.ts'
import type { DevelopmentHost } from './hosts.ts'

export const NAME_CONSTRAINTS = '2.5.29.30'
const PERMITTED = 0xa0
const EXCLUDED = 0xa1
/** GeneralName's choices (RFC 5280 §4.2.1.6). */
const DNS_NAME = 0x82
const IP_ADDRESS = 0x87

/** All there is of each type. A type that no constraint names is not constrained at all (RFC 5280 §4.2.1.10). */
const EVERYTHING: ReadonlyArray<readonly [type: DevelopmentHost['type'], name: Buffer]> = [
  ['dns', der(DNS_NAME)],
  ['ip', der(IP_ADDRESS, Buffer.alloc(8))],
  ['ip', der(IP_ADDRESS, Buffer.alloc(32))]
]

/**
 * The value of the nameConstraints extension (RFC 5280 §4.2.1.10) that permits `hosts` and nothing else: the same octets for
 * the same hosts in any order. A DNS name permits the names below it too: the standard has no way to say less.
 */
export function nameConstraints (hosts: readonly DevelopmentHost[]): Buffer {
  const permitted = [...new Set(hosts.map(({ type, value }) => subtree(type === 'dns' ? encodeDnsName(value) : address(value)).toString('latin1')))]
  const excluded = EVERYTHING.filter(([type]) => !hosts.some((host) => host.type === type)).map(([, name]) => subtree(name))
  return der(tags.sequence,
    der(PERMITTED, ...permitted.sort().map((octets) => Buffer.from(octets, 'latin1'))),
    ...(excluded.length > 0 ? [der(EXCLUDED, ...excluded)] : []))
}

function encodeDnsName (host: string): Buffer {
  return der(DNS_NAME, Buffer.from(host.replace(/^\*\./, '')))
}

/** And a mask of as many bits. */
function address (host: string): Buffer {
  const octets = Buffer.from(host.includes(':') ? octetsOfGroups(host) : host.split('.').map(Number))
  return der(IP_ADDRESS, octets, Buffer.alloc(octets.length, 0xff))
}

/** @param host as RFC 5952 writes it, without an IPv4 address in it */
function octetsOfGroups (host: string): number[] {
  const [head, tail] = host.split('::').map((groups) => groups.split(':').filter(Boolean))
  const groups = tail === undefined ? head! : [...head!, ...Array<string>(8 - head!.length - tail.length).fill('0'), ...tail]
  return groups.map((group) => parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff])
}

function subtree (name: Buffer): Buffer {
  return der(tags.sequence, name)
}
