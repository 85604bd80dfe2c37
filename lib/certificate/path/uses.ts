/**
 * What the extensions of a certificate say that it may be used for (RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.12).
 */
import { BIT_STRING, BOOLEAN, contentOf, elementOf, INTEGER, notDer } from '../der.ts'
import { assertTaken, booleanOf, type Extension, type Extensions, idOf, integerOf, idNamedBy, partsOf, takeFrom } from './extensions.ts'

export const KEY_USAGE = idOf('2.5.29.15')
export const BASIC_CONSTRAINTS = idOf('2.5.29.19')
export const EXTENDED_KEY_USAGE = idOf('2.5.29.37')
export const NETSCAPE_TYPE = idOf('2.16.840.1.113730.1.1')
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
