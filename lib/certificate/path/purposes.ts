/**
 * What a certificate may be used for (RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.12), in the way of OpenSSL's `sslclient`
 * purpose.
 */
import { BIT_STRING, contentOf, elementOf, INTEGER } from '../der.ts'
import { type Facts, idOf, integerOf, isSelfIssued, nameOf, partsOf } from './facts.ts'

const KEY_USAGE = idOf('2.5.29.15')
const BASIC_CONSTRAINTS = idOf('2.5.29.19')
const EXTENDED_KEY_USAGE = idOf('2.5.29.37')
const NETSCAPE_TYPE = idOf('2.16.840.1.113730.1.1')
const CLIENT_AUTH = idOf('1.3.6.1.5.5.7.3.2')

/** Bits of the first octet. */
const DIGITAL_SIGNATURE = 0x80
const KEY_AGREEMENT = 0x08
const CRL_SIGN = 0x02
const NETSCAPE_SSL_CLIENT = 0x80

/** What may be critical: what is looked at here or by OpenSSL, and what changes nothing for a client certificate. */
const HANDLED: ReadonlySet<string> = new Set([
  KEY_USAGE,
  BASIC_CONSTRAINTS,
  EXTENDED_KEY_USAGE,
  NETSCAPE_TYPE,
  ...[
    '2.5.29.17', // subjectAltName
    '2.5.29.30', // nameConstraints
    '2.5.29.31', // cRLDistributionPoints
    '2.5.29.32', // certificatePolicies: no policy is asked for
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
export function problemOfForm ({ fields: { version }, extensions }: Facts): string | undefined {
  // Older ones have no extensions to say that somebody is no authority.
  if (version === undefined || !contentOf(version, version.tag).equals(VERSION_3)) return 'CERT_REJECTED'
  for (const [id, { isCritical }] of extensions) {
    if (isCritical && !HANDLED.has(id)) return 'UNHANDLED_CRITICAL_EXTENSION'
  }
  return REFUSED.some((id) => extensions.has(id)) ? 'CERT_REJECTED' : undefined
}

/** What keeps the certificate at this place in a path, where 0 is the client, from being used there. */
export function problemOfPurpose (path: readonly Facts[], index: number): string | undefined {
  if (!isForClients(path[index])) return 'INVALID_PURPOSE'
  return index === 0 ? problemOfClient(path[0]) : problemOfAuthority(path, index)
}

/** Whether an issuer may sign revocation lists: what has no keyUsage may (RFC 5280 §4.2.1.3). */
export function maySignLists (facts: Facts): boolean {
  return hasAnyBit(facts, KEY_USAGE, CRL_SIGN)
}

/** anyExtendedKeyUsage is not enough for OpenSSL, hence not for us. */
function isForClients ({ extensions }: Facts): boolean {
  const usages = extensions.get(EXTENDED_KEY_USAGE)
  return usages === undefined || partsOf(usages).some((usage) => nameOf(usage) === CLIENT_AUTH)
}

function problemOfClient (client: Facts): string | undefined {
  const isUsable = hasAnyBit(client, KEY_USAGE, DIGITAL_SIGNATURE | KEY_AGREEMENT) && hasAnyBit(client, NETSCAPE_TYPE, NETSCAPE_SSL_CLIENT)
  return isUsable ? undefined : 'INVALID_PURPOSE'
}

function problemOfAuthority (path: readonly Facts[], index: number): string | undefined {
  // basicConstraints with cA, and keyCertSign where there is a keyUsage.
  if (!path[index].certificate.ca) return 'INVALID_CA'
  const below = path.slice(1, index).filter((facts) => !isSelfIssued(facts)).length
  return below > pathLengthOf(path[index]) ? 'PATH_LENGTH_EXCEEDED' : undefined
}

function pathLengthOf ({ extensions }: Facts): number {
  const length = partsOf(extensions.get(BASIC_CONSTRAINTS)!).find(({ tag }) => tag === INTEGER)
  return length === undefined ? Infinity : integerOf(length)
}

/** Whether a BIT STRING has one of these bits; true where there is none. OpenSSL clears the bits that are said to be unused. */
function hasAnyBit ({ extensions }: Facts, id: string, bits: number): boolean {
  const extension = extensions.get(id)
  if (extension === undefined) return true
  const [unused, first, second] = contentOf(elementOf(extension.value), BIT_STRING)
  return (first & bits & (second === undefined ? 0xff << unused : 0xff)) !== 0
}
