/**
 * Where a URL that was found in a certificate may lead: to the public Internet, at the ports of HTTP. Whoever writes
 * certificates would else have this machine ask its neighbours (server-side request forgery).
 */
import { BlockList, isIP, isIPv6 } from 'node:net'
import { InvalidOptionsError } from '../errors.ts'

/** http and https. */
const USUAL_PORTS: readonly number[] = [80, 443]

/** What is not public, by the IANA's registries of special-purpose addresses (RFC 6890, RFC 8190). */
const SPECIAL: readonly string[] = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16',
  '192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '198.18.0.0/15', // benchmarks
  '224.0.0.0/3', // multicast, reserved, broadcast
  '168.63.129.16/32', // the host of each virtual machine at Azure, which is not registered
  // All but 2000::/3: with it go loopback, link-local, unique local, multicast, and IPv4 addresses that are mapped, translated (NAT64) or compatible.
  '::/3', '4000::/2', '8000::/1',
  '2001::/23', // Teredo, benchmarks, ORCHID
  '2001:db8::/32', '3fff::/20', // documentation
  '2002::/16' // 6to4
]

/** `[address or network]:port`, `name:port`; the port may be left out. */
const ENTRY = /^(?:\[([\da-f:.]+(?:\/\d{1,3})?)\]|([^\s:[\]?#@\\]+))(?::(\d{1,5}))?$/i

/** Addresses of one family: to a BlockList, `::/3` has those of IPv4 in it. */
interface Network {
  readonly family: 'ipv4' | 'ipv6'
  readonly addresses: BlockList
}

const special: readonly Network[] = SPECIAL.map((network) => networkOf(network)!)

/** Where requests may go. */
export class Destinations {
  readonly #networks: Array<Network & { readonly ports: readonly number[] }> = []
  /** Names with a port. */
  readonly #hosts = new Set<string>()
  readonly #ports = new Set(USUAL_PORTS)

  /**
   * @param allow what may be reached besides: addresses and networks (`10.1.0.0/16`, `[fd00::/8]:8080`), by whatever name, and
   * hosts (`ocsp.internal:8080`), at whatever address; at ports 80 and 443 where there is none
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for anything else
   */
  constructor (allow: readonly string[]) {
    for (const entry of allow) this.#allow(entry)
  }

  #allow (entry: string): void {
    const [, bracketed, plain, port] = isIPv6(entry.split('/')[0]) ? [undefined, entry] : ENTRY.exec(entry) ?? []
    const host = bracketed ?? plain ?? ''
    const ports = port === undefined ? USUAL_PORTS : [Number(port)]
    const network = networkOf(host)
    if (network !== undefined) this.#networks.push({ ...network, ports })
    else if (isName(host)) for (const port of ports) this.#hosts.add(`${host.toLowerCase()}:${port}`)
    else throw new InvalidOptionsError(`'${entry}' cannot be allowed: it must be an address or a network (10.1.0.0/16, [fd00::/8]:8080) or a host (ocsp.internal:8080)`)
    for (const port of ports) this.#ports.add(port)
  }

  /** Whether there is anything at this port that may be reached. */
  hasPort (port: number): boolean {
    return this.#ports.has(port)
  }

  /** Whether this host was named, so that it may be reached wherever it is. */
  hasHost (host: string, port: number): boolean {
    return this.#hosts.has(`${host}:${port}`)
  }

  /** Whether a connection may be made to an address. What is none may not. */
  hasAddress (address: string, port: number): boolean {
    if (isIP(address) === 0) return false
    if (this.#networks.some((network) => network.ports.includes(port) && isIn(network, address))) return true
    return USUAL_PORTS.includes(port) && !special.some((network) => isIn(network, address))
  }
}

function isIn ({ family, addresses }: Network, address: string): boolean {
  return familyOf(address) === family && addresses.check(address, family)
}

function familyOf (address: string): Network['family'] {
  return isIPv6(address) ? 'ipv6' : 'ipv4'
}

/** Undefined where it is neither an address nor a network. */
function networkOf (text: string): Network | undefined {
  const [address, prefix, ...more] = text.split('/')
  const family = familyOf(address)
  const bits = family === 'ipv4' ? 32 : 128
  const length = prefix === undefined ? bits : Number(prefix)
  if (isIP(address) === 0 || more.length > 0 || prefix === '' || !(length <= bits)) return undefined
  const addresses = new BlockList()
  addresses.addSubnet(address, length, family)
  return { family, addresses }
}

/** A name of ASCII as URLs have it, which is no address in disguise (`127.1`). */
function isName (host: string): boolean {
  return /^[\w.-]+$/.test(host) && URL.canParse(`http://${host}`) && new URL(`http://${host}`).hostname === host.toLowerCase()
}
