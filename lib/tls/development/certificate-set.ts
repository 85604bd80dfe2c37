/**
 * A set of development certificates (CA, server, clients) that was made together. Begin with `isValid`: whether a set on
 * disk can still be used. Then what the CA says of itself: its name constraints and its clients; and the host names and
 * clients that it is made for.
 */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import { DevelopmentCertificatesError, InvalidOptionsError } from '../../errors.ts'
import { blocksIn, certificatesIn } from '../../files/pem.ts'
import { show } from '../../options/validation-errors.ts'
import { der, elementOf, readOr, tags } from '../../x509/der.ts'
import { formatName, subjectOf } from '../../x509/distinguished-names.ts'
import { extensionsIn, fieldsOf, idOf } from '../../x509/fields.ts'
import { CLIENT_AUTH, keyUsageOf, SERVER_AUTH } from '../../x509/key-usage.ts'
import { iterationsOfPfx, privateKeyIn } from '../private-key.ts'

/** Milliseconds. Certificates with less time left are replaced, so that they do not end during a working day. */
const LEAST_TIME_LEFT = 7 * 24 * 60 * 60 * 1000

/** The password of `client.p12`. It protects nothing, the same key is in `client.key`: some programs need a password. */
export const PASSWORD = 'development'

/**
 * Iterations of the MAC and key of `client.p12`: OpenSSL's own default. More would make a start slower and protect
 * nothing.
 */
export const ITERATIONS = 2048

/** In every subject. */
export const ORGANISATION = 'fastify-http-security development'

/** A certificate and its key, as PEM (RFC 7468). */
export interface Pair {
  readonly cert: string
  readonly key: string
}

/** The certificate of a client, also as PKCS #12. */
export interface ClientPair extends Pair {
  readonly p12: Buffer
}

/** Everything that was made together. The private key of the CA is not here, and nowhere else. */
export interface CertificateSet {
  readonly ca: string
  readonly server: Pair
  readonly client: ClientPair
  /** By name. */
  readonly clients: ReadonlyMap<string, ClientPair>
}

/**
 * Whether a set can be used: everything parses, belongs together, is in date with days to spare and covers every host;
 * the CA can issue certificates for these hosts only (and the names below them), was made for these clients and no
 * others; each client has the certificate of its name; and the private key of the CA is not there.
 *
 * @param others the contents of other files in the directory
 */
export function isValid ({ ca, server, client, clients }: CertificateSet, hosts: readonly DevelopmentHost[], others: readonly Buffer[]): boolean {
  try {
    const authority = onlyCertificateIn(ca)
    const all = [client, ...clients.values()]
    return isCurrent(authority) && isConstrained(authority, hosts) && isFor(authority, [...clients.keys()]) &&
      isIssued(server, authority, SERVER_AUTH, hosts) &&
      all.every((each) => isIssued(each, authority, CLIENT_AUTH, []) && isPacked(each)) &&
      [...clients].every(([name, each]) => hasNameOf(name, each) && !hasNameOf(name, client)) &&
      ![ca, ...[server, ...all].flatMap(({ cert, key }) => [cert, key]), ...others].some((content) => holdsKeyOf(authority, content))
  } catch {
    // The functions above throw if something does not parse
    return false
  }
}

/** A second certificate in `ca.pem` would be trusted as well. */
function onlyCertificateIn (pem: string): X509Certificate {
  const [certificate, ...more] = certificatesIn({ name: 'certificate', bytes: Buffer.from(pem) })
  if (more.length > 0) throw new Error('There is another one')
  return certificate!
}

/** Whether the CA is for these hosts only, and cannot issue another CA. */
function isConstrained (authority: X509Certificate, hosts: readonly DevelopmentHost[]): boolean {
  const extensions = extensionsIn(fieldsOf(authority).extensions)
  const constraints = extensions.get(idOf(NAME_CONSTRAINTS))
  return authority.ca && keyUsageOf(extensions).pathLength === 0 && constraints?.isCritical === true && constraints.value.equals(nameConstraints(hosts))
}

/** Whether the CA has issued certificates to these clients and to no others, whose keys may be anywhere by now. */
function isFor (authority: X509Certificate, clients: readonly string[]): boolean {
  const comment = extensionsIn(fieldsOf(authority).extensions).get(idOf(COMMENT))?.value
  return clients.length === 0 ? comment === undefined : comment?.equals(clientsComment(clients)) === true
}

function hasNameOf (client: string, { cert }: Pair): boolean {
  return formatName(subjectOf(new X509Certificate(cert))) === `CN=${client}, O=${ORGANISATION}`
}

function isIssued ({ cert, key }: Pair, authority: X509Certificate, usage: string, hosts: readonly DevelopmentHost[]): boolean {
  const certificate = onlyCertificateIn(cert)
  // Node's types say string, but it is a list of extended key usages
  const usages = certificate.keyUsage as unknown as readonly string[] | undefined
  return isCurrent(certificate) && !certificate.ca && usages?.join() === usage &&
    certificate.checkPrivateKey(privateKeyIn({ name: 'key', bytes: Buffer.from(key) }, undefined)) &&
    // `checkIssued` compares names, `verify` checks the signature
    certificate.checkIssued(authority) && certificate.verify(authority.publicKey) &&
    hosts.every(({ type, value }) => (type === 'ip' ? certificate.checkIP(value) : certificate.checkHost(value)) !== undefined)
}

/** Whether any PEM block is the private key of the CA. */
function holdsKeyOf (authority: X509Certificate, content: string | Buffer): boolean {
  const blocks = readOr(() => blocksIn({ name: 'file', bytes: Buffer.from(content as string) }), [])
  return blocks.some(({ text }) => readOr(() => authority.checkPrivateKey(privateKeyIn({ name: 'key', bytes: Buffer.from(text) }, undefined)), false))
}

/** Node 20 has no `validToDate`. */
function isCurrent ({ validFrom, validTo }: X509Certificate): boolean {
  return Date.parse(validFrom) <= Date.now() && Date.parse(validTo) > Date.now() + LEAST_TIME_LEFT
}

/**
 * Whether `client.p12` opens, in not much more time than one that was made here, and contains this certificate, which
 * is stored unencrypted in it.
 */
function isPacked ({ cert, p12 }: ClientPair): boolean {
  if (iterationsOfPfx(p12) > 2 * ITERATIONS) return false
  createSecureContext({ pfx: p12, passphrase: PASSWORD })
  return p12.includes(new X509Certificate(cert).raw)
}

// The name constraints of a development CA

export const NAME_CONSTRAINTS = '2.5.29.30'
export const SUBJECT_ALT_NAME = '2.5.29.17'
const PERMITTED = 0xa0
const EXCLUDED = 0xa1
/** GeneralName choices (RFC 5280 §4.2.1.6). */
const DNS_NAME = 0x82
const IP_ADDRESS = 0x87

/**
 * The subtrees that cover everything, by type. A type without a constraint is not restricted at all (RFC 5280
 * §4.2.1.10).
 */
const EVERYTHING: ReadonlyArray<readonly [type: DevelopmentHost['type'], name: Buffer]> = [
  ['dns', der(DNS_NAME)],
  ['ip', der(IP_ADDRESS, Buffer.alloc(8))],
  ['ip', der(IP_ADDRESS, Buffer.alloc(32))]
]

/**
 * The value of the nameConstraints extension (RFC 5280 §4.2.1.10) that permits `hosts` and nothing else. The order of
 * `hosts` makes no difference. A DNS name also permits the names below it: the standard cannot express less.
 */
export function nameConstraints (hosts: readonly DevelopmentHost[]): Buffer {
  const permitted = [...new Set(hosts.map(({ type, value }) => subtree(type === 'dns' ? encodeDnsName(value) : address(value)).toString('latin1')))]
  const excluded = EVERYTHING.filter(([type]) => !hosts.some((host) => host.type === type)).map(([, name]) => subtree(name))
  return der(tags.sequence,
    der(PERMITTED, ...permitted.sort().map((octets) => Buffer.from(octets, 'latin1'))),
    ...(excluded.length > 0 ? [der(EXCLUDED, ...excluded)] : []))
}

/** The value of the subjectAltName extension (RFC 5280 §4.2.1.6). */
export function subjectAlternativeName (hosts: readonly DevelopmentHost[]): Buffer {
  return der(tags.sequence, ...hosts.map(({ type, value }) => type === 'dns' ? der(DNS_NAME, Buffer.from(value)) : der(IP_ADDRESS, octetsOfAddress(value))))
}

function encodeDnsName (host: string): Buffer {
  return der(DNS_NAME, Buffer.from(host.replace(/^\*\./, '')))
}

/** An IP address, with a mask of the same length. */
function address (host: string): Buffer {
  const octets = octetsOfAddress(host)
  return der(IP_ADDRESS, octets, Buffer.alloc(octets.length, 0xff))
}

export function octetsOfAddress (host: string): Buffer {
  return Buffer.from(host.includes(':') ? octetsOfGroups(host) : host.split('.').map(Number))
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

// The clients of a development CA

/** A comment of Netscape's, which every program passes over, and which `openssl x509 -text` prints. */
export const COMMENT = '2.16.840.1.113730.1.13'
const COMMENT_BEGIN = 'clients: '

/** The value of the comment by which a CA says which clients it was made for. Their order makes no difference. */
export function clientsComment (clients: readonly string[]): Buffer {
  return der(tags.ia5String, Buffer.from(`${COMMENT_BEGIN}${[...clients].sort().join(', ')}`))
}

/** The clients that a CA says it was made for; none where it cannot be read. */
export function clientsNamedBy (ca: string): string[] {
  return readOr(() => {
    const { bytes, start, end } = elementOf(extensionsIn(fieldsOf(new X509Certificate(ca)).extensions).get(idOf(COMMENT))!.value)
    const text = bytes.toString('latin1', start, end)
    return text.startsWith(COMMENT_BEGIN) ? text.slice(COMMENT_BEGIN.length).split(', ').filter((name) => CLIENT_NAME.test(name)) : []
  }, [])
}

/** A part of file names. */
const CLIENT_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/

/**
 * Checks names of clients.
 *
 * @param subject for messages
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a name that is not allowed, or is there twice
 */
export function parseDevelopmentClients (clients: readonly string[], subject: string): readonly string[] {
  const names = [...clients]
  for (const [index, name] of names.entries()) {
    if (!CLIENT_NAME.test(name)) {
      throw new InvalidOptionsError(`${subject}: clients: ${show(name)} is not allowed; allowed: names of 1 to 63 lower-case letters, digits and hyphens, that do not begin with a hyphen`)
    }
    if (names.indexOf(name) !== index) throw new InvalidOptionsError(`${subject}: clients: ${show(name)} is there twice`)
  }
  return Object.freeze(names)
}

// The host names and IP addresses that certificates are made for

/** Letters, digits and hyphens (RFC 5890 §2.3.1), one leading wildcard label (RFC 6125 §6.4.3), no trailing dot. */
const dnsName = /^(?=.{1,253}$)(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/

/** A DNS name or an IP address, in the one form that comparisons expect. */
export interface DevelopmentHost {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

/**
 * Checks host names and IP addresses, and returns them in their usual form: lower case, IPv6 shortened (RFC 5952).
 *
 * @param hosts DNS names (`shop.test`, `*.shop.test`), IPv4 or IPv6 addresses (`::1`, without brackets or zone)
 * @throws FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES for an empty list, and for anything that is not a host
 */
export function parseDevelopmentHosts (hosts: readonly string[]): readonly DevelopmentHost[] {
  if (!Array.isArray(hosts) || hosts.length === 0) {
    throw new DevelopmentCertificatesError('hosts must be a list of at least one DNS name or IP address')
  }
  return Object.freeze(hosts.map(parseHost))
}

function parseHost (host: unknown): DevelopmentHost {
  const name = String(host).toLowerCase()
  // A last label of digits only is part of an IP address, never of a DNS name (RFC 1123 §2.1)
  const value = isIP(name) === 6 ? shortened(name) : name
  if (isIP(value) !== 0) return Object.freeze({ type: 'ip', value })
  if (dnsName.test(value) && !/(?:^|\.)\d+$/.test(value)) return Object.freeze({ type: 'dns', value })
  throw new DevelopmentCertificatesError(
    `hosts: ${JSON.stringify(host)} is neither a DNS name (international ones in their xn-- form) nor an IP address without brackets`)
}

/**
 * IPv6 as RFC 5952 writes it, also for forms that end in an IPv4 address. An address with a zone cannot be in a
 * certificate.
 */
function shortened (address: string): string {
  const url = `http://[${address}]`
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : address.replace('%', ' zone ')
}
