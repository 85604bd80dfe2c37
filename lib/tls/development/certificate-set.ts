/** One generation of development certificates, and whether it is still good. */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import { DevelopmentCertificatesError } from '../../errors.ts'
import { blocksIn, certificatesIn } from '../../files/pem.ts'
import { der, readOr, tags } from '../../x509/der.ts'
import { extensionsIn, fieldsOf, idOf } from '../../x509/fields.ts'
import { keyUsageOf } from '../../x509/key-usage.ts'
import { iterationsOfPfx, privateKeyIn } from '../private-key.ts'

/** RFC 5280 §4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** Milliseconds: certificates that end sooner are made anew, lest they end while somebody works. */
const TO_SPARE = 7 * 24 * 60 * 60 * 1000

/** What opens `client.p12`. It keeps nothing secret (the key lies beside it): programs insist on one. */
export const PASSWORD = 'development'

/** Of that file's MAC and of its key: OpenSSL's own default. More would slow a start down and protect nothing. */
export const ITERATIONS = 2048

/** A certificate and its key, as PEM (RFC 7468). */
export interface Pair {
  readonly cert: string
  readonly key: string
}

/** All that was made together. The authority has no key here, nor anywhere. */
export interface CertificateSet {
  readonly ca: string
  readonly server: Pair
  readonly client: Pair & { readonly p12: Buffer }
}

/**
 * Whether all of the set parses, belongs together, is in date with days to spare, names every host, and is what is said of
 * it: of an authority that can vouch for these hosts only (and the names below them), and whose key is not there.
 *
 * @param others whatever else lies beside it
 */
export function isValid ({ ca, server, client }: CertificateSet, hosts: readonly DevelopmentHost[], others: readonly Buffer[]): boolean {
  try {
    const authority = onlyCertificateIn(ca)
    return isCurrent(authority) && isConstrained(authority, hosts) &&
      isIssued(server, authority, SERVER_AUTH, hosts) && isIssued(client, authority, CLIENT_AUTH, []) && isPacked(client) &&
      ![ca, server.cert, server.key, client.cert, client.key, ...others].some((content) => holdsKeyOf(authority, content))
  } catch {
    // Something does not parse, and whoever was to read it says so by throwing
    return false
  }
}

/** More than one in `ca.pem` would be trusted as well. */
function onlyCertificateIn (pem: string): X509Certificate {
  const [certificate, ...more] = certificatesIn({ name: 'certificate', bytes: Buffer.from(pem) })
  if (more.length > 0) throw new Error('There is another one')
  return certificate!
}

/** For these hosts only, and for no further authority. */
function isConstrained (authority: X509Certificate, hosts: readonly DevelopmentHost[]): boolean {
  const extensions = extensionsIn(fieldsOf(authority).extensions)
  const constraints = extensions.get(idOf(NAME_CONSTRAINTS))
  return authority.ca && keyUsageOf(extensions).pathLength === 0 && constraints?.isCritical === true && constraints.value.equals(nameConstraints(hosts))
}

function isIssued ({ cert, key }: Pair, authority: X509Certificate, usage: string, hosts: readonly DevelopmentHost[]): boolean {
  const certificate = onlyCertificateIn(cert)
  // Node's types have it as text; it is a list of extended key usages
  const usages = certificate.keyUsage as unknown as readonly string[] | undefined
  return isCurrent(certificate) && !certificate.ca && usages?.join() === usage &&
    certificate.checkPrivateKey(privateKeyIn({ name: 'key', bytes: Buffer.from(key) }, undefined)) &&
    // The first compares names, the second the signature
    certificate.checkIssued(authority) && certificate.verify(authority.publicKey) &&
    hosts.every(({ type, value }) => (type === 'ip' ? certificate.checkIP(value) : certificate.checkHost(value)) !== undefined)
}

/** In any block of PEM. */
function holdsKeyOf (authority: X509Certificate, content: string | Buffer): boolean {
  const blocks = readOr(() => blocksIn({ name: 'file', bytes: Buffer.from(content as string) }), [])
  return blocks.some(({ text }) => readOr(() => authority.checkPrivateKey(privateKeyIn({ name: 'key', bytes: Buffer.from(text) }, undefined)), false))
}

/** `validToDate` is not there on Node 20. */
function isCurrent ({ validFrom, validTo }: X509Certificate): boolean {
  return Date.parse(validFrom) <= Date.now() && Date.parse(validTo) > Date.now() + TO_SPARE
}

/** `client.p12` opens, without taking more time than one that was made here, and holds this certificate, which lies in it unencrypted. */
function isPacked ({ cert, p12 }: CertificateSet['client']): boolean {
  if (iterationsOfPfx(p12) > 2 * ITERATIONS) return false
  createSecureContext({ pfx: p12, passphrase: PASSWORD })
  return p12.includes(new X509Certificate(cert).raw)
}

/** What a development authority may vouch for. */

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

/** The names and addresses that certificates are made for. */

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
