/**
 * What the extensions of a certificate say that it may be used for (RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.12).
 */
import type { X509Certificate } from 'node:crypto'
import { POLICY_EXTENSIONS } from './certificate-policies.ts'
import { BIT_STRING, BOOLEAN, contentOf, elementOf, INTEGER, notDer } from './der.ts'
import { assertTaken, booleanOf, type CertificateFields, type Extension, type Extensions, idNamedBy, idOf, integerOf, partsOf, takeFrom } from './fields.ts'

export const KEY_USAGE = idOf('2.5.29.15')
export const BASIC_CONSTRAINTS = idOf('2.5.29.19')
export const EXTENDED_KEY_USAGE = idOf('2.5.29.37')
const NETSCAPE_TYPE = idOf('2.16.840.1.113730.1.1')
const CLIENT_AUTH = idOf('1.3.6.1.5.5.7.3.2')

/** Bits of the first octet. */
const DIGITAL_SIGNATURE = 0x80
const KEY_AGREEMENT = 0x08
const KEY_CERT_SIGN = 0x04
const CRL_SIGN = 0x02
const NETSCAPE_SSL_CLIENT = 0x80
const ANY = 0xff

export interface KeyUsage {
  /** By its extended key usage; also an authority's. */
  readonly isForClients: boolean
  /** By its key usage, where the key is a client's. */
  readonly mayConnect: boolean
  /** What has no key usage may (RFC 5280 §4.2.1.3). */
  readonly maySignCrls: boolean
  /** It says so, and not that it may certify: an authority's key for that alone. */
  readonly signsCrlsOnly: boolean
  /** How many authorities may be below it. */
  readonly pathLength: number
}

/** Throws where one of these extensions is not exactly what it should be. */
export function keyUsageOf (extensions: Extensions): KeyUsage {
  const read = <Value>(id: string, value: (extension: Extension) => Value, otherwise: Value): Value => {
    const extension = extensions.get(id)
    return extension === undefined ? otherwise : value(extension)
  }
  const [usage, netscape] = [read(KEY_USAGE, bitsOf, ANY), read(NETSCAPE_TYPE, bitsOf, ANY)]
  return {
    // anyExtendedKeyUsage is not enough for OpenSSL, hence not for us.
    isForClients: read(EXTENDED_KEY_USAGE, (extension) => partsOf(extension).map(idNamedBy).includes(CLIENT_AUTH), true),
    mayConnect: (usage & (DIGITAL_SIGNATURE | KEY_AGREEMENT)) !== 0 && (netscape & NETSCAPE_SSL_CLIENT) !== 0,
    maySignCrls: (usage & CRL_SIGN) !== 0,
    signsCrlsOnly: (usage & (CRL_SIGN | KEY_CERT_SIGN)) === CRL_SIGN,
    pathLength: read(BASIC_CONSTRAINTS, pathLengthOf, Infinity)
  }
}

/** Whether it is an authority at all is what Node says of it (`certificate.ca`). */
function pathLengthOf (extension: Extension): number {
  const parts = partsOf(extension)
  const isAuthority = takeFrom(parts, BOOLEAN)
  if (isAuthority !== undefined) booleanOf(isAuthority)
  const length = takeFrom(parts, INTEGER)
  assertTaken(parts)
  return length === undefined ? Infinity : integerOf(length)
}

/** The first eight bits of a BIT STRING. OpenSSL clears those that are said to be unused. */
export function bitsOf ({ value }: Extension): number {
  const [unused, first, second] = contentOf(elementOf(value), BIT_STRING)
  if (unused === undefined || unused > 7) throw notDer()
  return first & (second === undefined ? 0xff << unused : 0xff)
}

/**
 * What a certificate may be used for, in the way of OpenSSL's `sslclient` purpose.
 */

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
export function problemOfForm ({ fields: { version }, extensions }: { readonly fields: CertificateFields, readonly extensions: Extensions }): string | undefined {
  // Older ones have no extensions to say that somebody is no authority.
  if (version === undefined || !contentOf(version, version.tag).equals(VERSION_3)) return 'CERT_REJECTED'
  for (const [id, { isCritical }] of extensions) {
    if (isCritical && !HANDLED.has(id)) return 'UNHANDLED_CRITICAL_EXTENSION'
  }
  return REFUSED.some((id) => extensions.has(id)) ? 'CERT_REJECTED' : undefined
}

/** What is read of a certificate here. */
interface Certificate {
  readonly certificate: X509Certificate
  readonly keyUsage: KeyUsage
  readonly isSelfIssued: boolean
  readonly isVersion1: boolean
}

/**
 * What keeps the certificate at this place in a path, where 0 is its first, from being used there.
 *
 * @param isOfClient whether the first is a client. Else it is an authority, or whoever signs lists for one with a key for that alone.
 * @param isLegacy whether an anchor of version 1 passes, which has no extensions to say that it is an authority
 */
export function problemOfPurpose (path: readonly Certificate[], index: number, isOfClient: boolean, isLegacy = false): string | undefined {
  const { keyUsage, certificate, isVersion1 } = path[index]
  if (index === 0 && !isOfClient && keyUsage.signsCrlsOnly) return undefined
  if (!keyUsage.isForClients) return 'INVALID_PURPOSE'
  if (index === 0 && isOfClient) return keyUsage.mayConnect ? undefined : 'INVALID_PURPOSE'
  // basicConstraints with cA, and keyCertSign where there is a keyUsage.
  if (!certificate.ca && !(isLegacy && isVersion1 && index === path.length - 1)) return 'INVALID_CA'
  const below = path.slice(isOfClient ? 1 : 0, index).filter((parsed) => !parsed.isSelfIssued).length
  return below > keyUsage.pathLength ? 'PATH_LENGTH_EXCEEDED' : undefined
}
