/**
 * What a certificate may be used for, in the way of OpenSSL's `sslclient` purpose.
 */
import { contentOf } from '../der.ts'
import { idOf } from './extensions.ts'
import type { ParsedCertificate } from './facts.ts'
import { POLICY_EXTENSIONS } from './policies.ts'
import { BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, KEY_USAGE, NETSCAPE_TYPE } from './uses.ts'

/** What may be critical: what is looked at here or by OpenSSL, and what changes nothing for a client certificate. */
const HANDLED: ReadonlySet<string> = new Set([
  KEY_USAGE,
  BASIC_CONSTRAINTS,
  EXTENDED_KEY_USAGE,
  NETSCAPE_TYPE,
  ...POLICY_EXTENSIONS,
  ...[
    '2.5.29.17', // subjectAltName
    '2.5.29.30', // nameConstraints
    '2.5.29.31', // cRLDistributionPoints
    '1.3.6.1.5.5.7.48.1.5' // OCSP noCheck
  ].map(idOf)
])

/** These limit what a certificate is worth in ways that are not worked out here: critical or not, they are refused. */
const REFUSED: readonly string[] = [
  '1.3.6.1.5.5.7.1.7', // IP addresses and
  '1.3.6.1.5.5.7.1.8', // autonomous systems (RFC 3779)
  '1.3.6.1.5.5.7.1.14' // proxyCertInfo (RFC 3820): issued by somebody who is no authority
].map(idOf)

const VERSION_3 = Buffer.of(0x02, 0x01, 0x02)

/** What is wrong with the form of a certificate, wherever it is in a path. */
export function problemOfForm ({ fields: { version }, extensions }: Pick<ParsedCertificate, 'fields' | 'extensions'>): string | undefined {
  // Older ones have no extensions to say that somebody is no authority.
  if (version === undefined || !contentOf(version, version.tag).equals(VERSION_3)) return 'CERT_REJECTED'
  for (const [id, { isCritical }] of extensions) {
    if (isCritical && !HANDLED.has(id)) return 'UNHANDLED_CRITICAL_EXTENSION'
  }
  return REFUSED.some((id) => extensions.has(id)) ? 'CERT_REJECTED' : undefined
}

/**
 * What keeps the certificate at this place in a path, where 0 is its first, from being used there.
 *
 * @param isOfClient whether the first is a client. Else it is an authority, or whoever signs lists for one with a key for that alone.
 * @param isLegacy whether an anchor of version 1 passes, which has no extensions to say that it is an authority
 */
export function problemOfPurpose (path: readonly ParsedCertificate[], index: number, isOfClient: boolean, isLegacy = false): string | undefined {
  const { keyUsage, certificate, isVersion1 } = path[index]
  if (index === 0 && !isOfClient && keyUsage.signsCrlsOnly) return undefined
  if (!keyUsage.isForClients) return 'INVALID_PURPOSE'
  if (index === 0 && isOfClient) return keyUsage.mayConnect ? undefined : 'INVALID_PURPOSE'
  // basicConstraints with cA, and keyCertSign where there is a keyUsage.
  if (!certificate.ca && !(isLegacy && isVersion1 && index === path.length - 1)) return 'INVALID_CA'
  const below = path.slice(isOfClient ? 1 : 0, index).filter((facts) => !facts.isSelfIssued).length
  return below > keyUsage.pathLength ? 'PATH_LENGTH_EXCEEDED' : undefined
}
