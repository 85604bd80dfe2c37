/** One generation of development certificates, and whether it is still good. */
import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { iterationsOfPfx } from '../material/encryption-cost.ts'
import { privateKeyIn } from '../material/private-key.ts'
import type { Host } from './hosts.ts'

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

/** Whether all of the set parses, belongs together, is in date with days to spare, and names every host. */
export function isValid ({ ca, server, client }: CertificateSet, hosts: readonly Host[]): boolean {
  try {
    const authority = new X509Certificate(ca)
    return isCurrent(authority) &&
      isIssued(server, authority, hosts) && isIssued(client, authority, []) && isPacked(client)
  } catch {
    // Something does not parse, and OpenSSL says so by throwing
    return false
  }
}

function isIssued ({ cert, key }: Pair, authority: X509Certificate, hosts: readonly Host[]): boolean {
  const certificate = new X509Certificate(cert)
  return isCurrent(certificate) && certificate.checkPrivateKey(privateKeyIn({ name: 'key', bytes: Buffer.from(key) }, undefined)) &&
    // The first compares names, the second the signature
    certificate.checkIssued(authority) && certificate.verify(authority.publicKey) &&
    hosts.every(({ type, value }) => (type === 'ip' ? certificate.checkIP(value) : certificate.checkHost(value)) !== undefined)
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
