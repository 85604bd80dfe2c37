/**
 * Key usage, extended key usage and basic constraints (RFC 5280 §4.2.1.3, §4.2.1.12, §4.2.1.9): `keyUsageOf` parses them,
 * `problemOfPurpose` checks them for a place in a path, `problemOfForm` rejects versions and extensions not handled here.
 */
import type { X509Certificate } from 'node:crypto'
import { POLICY_EXTENSIONS } from './certificate-policies.ts'
import { BIT_STRING, BOOLEAN, contentOf, elementOf, INTEGER, notDer } from './der.ts'
import { assertTaken, booleanOf, type CertificateFields, type Extension, type Extensions, idNamedBy, idOf, integerOf, partsOf, takeFrom } from './fields.ts'

export const KEY_USAGE = idOf('2.5.29.15')
export const BASIC_CONSTRAINTS = idOf('2.5.29.19')
export const EXTENDED_KEY_USAGE = idOf('2.5.29.37')
const NETSCAPE_TYPE = idOf('2.16.840.1.113730.1.1')

/** Extended key usages (RFC 5280 §4.2.1.12). */
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const CLIENT_AUTH_ID = idOf(CLIENT_AUTH)

/** Bits of the first octet of KeyUsage and of the Netscape certificate type. */
export const DIGITAL_SIGNATURE = 0x80
const KEY_AGREEMENT = 0x08
export const KEY_CERT_SIGN = 0x04
export const CRL_SIGN = 0x02
const NETSCAPE_SSL_CLIENT = 0x80
const ANY = 0xff

export interface KeyUsage {
  /** The extended key usage has clientAuth, or is absent. Checked of CA certificates as well. */
  readonly isForClients: boolean
  /** The key usage allows a TLS client to authenticate. */
  readonly mayConnect: boolean
  /** cRLSign is set, or there is no key usage (RFC 5280 §4.2.1.3). */
  readonly maySignCrls: boolean
  /** cRLSign is set and keyCertSign is not: a key that a CA uses for CRLs only. */
  readonly signsCrlsOnly: boolean
  /** The pathLenConstraint: how many CA certificates may be below it; Infinity where absent. */
  readonly pathLength: number
}

/** Throws where one of these extensions is malformed. */
export function keyUsageOf (extensions: Extensions): KeyUsage {
  const read = <Value>(id: string, value: (extension: Extension) => Value, otherwise: Value): Value => {
    const extension = extensions.get(id)
    return extension === undefined ? otherwise : value(extension)
  }
  const [usage, netscape] = [read(KEY_USAGE, bitsOf, ANY), read(NETSCAPE_TYPE, bitsOf, ANY)]
  return {
    // anyExtendedKeyUsage is not enough for OpenSSL, so it is not enough here.
    isForClients: read(EXTENDED_KEY_USAGE, (extension) => partsOf(extension).map(idNamedBy).includes(CLIENT_AUTH_ID), true),
    mayConnect: (usage & (DIGITAL_SIGNATURE | KEY_AGREEMENT)) !== 0 && (netscape & NETSCAPE_SSL_CLIENT) !== 0,
    maySignCrls: (usage & CRL_SIGN) !== 0,
    signsCrlsOnly: (usage & (CRL_SIGN | KEY_CERT_SIGN)) === CRL_SIGN,
    pathLength: read(BASIC_CONSTRAINTS, pathLengthOf, Infinity)
  }
}

/** The pathLenConstraint. Whether the certificate is a CA at all is taken from Node (`certificate.ca`). */
function pathLengthOf (extension: Extension): number {
  const parts = partsOf(extension)
  const isAuthority = takeFrom(parts, BOOLEAN)
  if (isAuthority !== undefined) booleanOf(isAuthority)
  const length = takeFrom(parts, INTEGER)
  assertTaken(parts)
  return length === undefined ? Infinity : integerOf(length)
}

/** The first eight bits of a BIT STRING. Unused bits are cleared, as OpenSSL does. */
export function bitsOf ({ value }: Extension): number {
  const [unused, first, second] = contentOf(elementOf(value), BIT_STRING)
  if (unused === undefined || unused > 7) throw notDer()
  return first & (second === undefined ? 0xff << unused : 0xff)
}

// Checks: what OpenSSL's purpose `sslclient` checks

/** Extensions that may be critical: those that are checked here or by OpenSSL, and those that do not matter for a client. */
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

/** Extensions that limit a certificate in ways that are not implemented here: refused, whether critical or not. */
const REFUSED: readonly string[] = [
  '1.3.6.1.5.5.7.1.7', // IP address blocks (RFC 3779)
  '1.3.6.1.5.5.7.1.8', // autonomous system numbers (RFC 3779)
  '1.3.6.1.5.5.7.1.14' // proxyCertInfo (RFC 3820): issued by an end entity, not by a CA
].map(idOf)

const VERSION_3 = Buffer.of(0x02, 0x01, 0x02)

/** The error in the form of a certificate, whatever its place in a path. */
export function problemOfForm ({ fields: { version }, extensions }: { readonly fields: CertificateFields, readonly extensions: Extensions }): string | undefined {
  // Older versions have no extensions, so nothing says whether the subject is a CA.
  if (version === undefined || !contentOf(version, version.tag).equals(VERSION_3)) return 'CERT_REJECTED'
  for (const [id, { isCritical }] of extensions) {
    if (isCritical && !HANDLED.has(id)) return 'UNHANDLED_CRITICAL_EXTENSION'
  }
  return REFUSED.some((id) => extensions.has(id)) ? 'CERT_REJECTED' : undefined
}

/** The parts of a `ParsedCertificate` that are needed here. */
interface Certificate {
  readonly certificate: X509Certificate
  readonly keyUsage: KeyUsage
  readonly isSelfIssued: boolean
  readonly isVersion1: boolean
}

/**
 * Why a certificate may not be used at its place in a path; index 0 is the first one.
 *
 * @param isOfClient whether the first certificate is a client's. Otherwise it is a CA's, or of a key that signs CRLs only
 * @param isLegacy whether an anchor of version 1 is accepted, which has no extensions to say that it is a CA
 */
export function problemOfPurpose (path: readonly Certificate[], index: number, isOfClient: boolean, isLegacy = false): string | undefined {
  const { keyUsage, certificate, isVersion1 } = path[index]
  if (index === 0 && !isOfClient && keyUsage.signsCrlsOnly) return undefined
  if (!keyUsage.isForClients) return 'INVALID_PURPOSE'
  if (index === 0 && isOfClient) return keyUsage.mayConnect ? undefined : 'INVALID_PURPOSE'
  // `ca`: basicConstraints with cA, and keyCertSign where there is a key usage.
  if (!certificate.ca && !(isLegacy && isVersion1 && index === path.length - 1)) return 'INVALID_CA'
  const below = path.slice(isOfClient ? 1 : 0, index).filter((parsed) => !parsed.isSelfIssued).length
  return below > keyUsage.pathLength ? 'PATH_LENGTH_EXCEEDED' : undefined
}
