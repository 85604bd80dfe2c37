/** One generation of development certificates, and whether it is still good. */
import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { readOr } from '../../certificate/der.ts'
import { fieldsOf } from '../../certificate/fields.ts'
import { extensionsIn, idOf } from '../../certificate/path/extensions.ts'
import { keyUsageOf } from '../../certificate/path/uses.ts'
import { blocksIn, certificatesIn } from '../../material/pem.ts'
import { iterationsOfPfx } from '../material/encryption-cost.ts'
import { privateKeyIn } from '../material/private-key.ts'
import { NAME_CONSTRAINTS, nameConstraints } from './constraints.ts'
import type { DevelopmentHost } from './hosts.ts'

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
