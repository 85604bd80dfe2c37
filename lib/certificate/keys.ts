/**
 * The public key of a certificate (RFC 5280 §4.1.2.7), read from its bytes.
 *
 * Node is asked nothing about a client's key. `asymmetricKeyDetails` aborts the process for the point at
 * infinity (Node 20 and 22) and for a DSA key that is a negative number (Node 20), `toLegacyObject()` for a brainpool curve
 * (Node 24): OpenSSL takes all of these in a handshake.
 */
import type { X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, derOf, elementOf, elementsIn, INTEGER, OBJECT_IDENTIFIER, readOr, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { fieldsOf } from './fields.ts'
import { octetsOf } from './object-identifiers.ts'

export interface Curve {
  /** Of the order, as OpenSSL counts. */
  readonly bits: number
  /** Over a field of two to some power. */
  readonly isBinary: boolean
}

const EC_PUBLIC_KEY = octetsOf('1.2.840.10045.2.1')

type ReadBits = (info: Element, key: Element | undefined, parameters: Element | undefined) => number | undefined

/** By algorithm: that of a SubjectPublicKeyInfo, of its key and its parameters. Throws when they are not what they should be. */
const SIZES: ReadonlyMap<string, ReadBits> = new Map(Object.entries({
  '1.2.840.113549.1.1.1': modulusBits,
  // RSASSA-PSS
  '1.2.840.113549.1.1.10': modulusBits,
  // DSA: its prime p is the first of its parameters, which its issuer's may be (RFC 3279 §2.3.2)
  '1.2.840.10040.4.1': (_info, _key, parameters) => bitsIn(elementsIn(parameters, SEQUENCE)[0]),
  '1.2.840.10045.2.1': (info) => curveOf(info)?.bits,
  // Ed25519 and Ed448: the algorithm has one size (RFC 8032 §5.1 and §5.2). OpenSSL's `s_client` says as many.
  '1.3.101.112': () => 256,
  '1.3.101.113': () => 456
} satisfies Record<string, ReadBits>).map(([id, read]) => [octetsOf(id).toString('latin1'), read]))

/** The orders' bits by the last number of an identifier, of all curves that OpenSSL knows by name. */
const PRIME_CURVES: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  // SEC 2
  '1.3.132.0': { 6: 112, 7: 110, 8: 161, 9: 161, 10: 256, 28: 128, 29: 126, 30: 161, 31: 192, 32: 225, 33: 224, 34: 384, 35: 521 },
  // ANSI X9.62: prime192v1 to prime256v1
  '1.2.840.10045.3.1': { 1: 192, 2: 192, 3: 192, 4: 239, 5: 239, 6: 239, 7: 256 },
  // RFC 5639, brainpool: random and twisted
  '1.3.36.3.3.2.8.1.1': { 1: 160, 2: 160, 3: 192, 4: 192, 5: 224, 6: 224, 7: 256, 8: 256, 9: 320, 10: 320, 11: 384, 12: 384, 13: 512, 14: 512 },
  // WTLS
  '2.23.43.1.4': { 6: 112, 7: 161, 8: 113, 9: 161, 12: 224 },
  // SM2
  '1.2.156.10197.1': { 301: 256 }
}

const BINARY_CURVES: typeof PRIME_CURVES = {
  '1.3.132.0': { 1: 163, 2: 162, 3: 238, 4: 113, 5: 113, 15: 163, 16: 281, 17: 282, 22: 131, 23: 131, 24: 193, 25: 193, 26: 232, 27: 233, 36: 407, 37: 409, 38: 570, 39: 570 },
  '1.2.840.10045.3.0': { 1: 163, 2: 162, 3: 162, 4: 161, 5: 191, 6: 190, 7: 189, 10: 193, 11: 238, 12: 237, 13: 236, 16: 257, 17: 289, 18: 353, 19: 353, 20: 418 },
  '2.23.43.1.4': { 1: 112, 3: 163, 4: 113, 5: 163, 10: 232, 11: 233 }
}

const CURVES: ReadonlyMap<string, Curve> = new Map([...curvesOf(PRIME_CURVES, false), ...curvesOf(BINARY_CURVES, true)])

/** SEC 1 §2.3.3: compressed, not compressed, both. Infinity (0) is no key, nor is what OpenSSL may read as that. */
const POINTS: readonly (number | undefined)[] = [2, 3, 4, 6, 7]

/**
 * The size of a certificate's key in bits: the modulus of RSA and DSA, the order of an elliptic curve.
 * Undefined when there is no certificate, or a key of another kind, or one on a curve that has no name, or what is no key.
 */
export function keyBits (certificate: X509Certificate | undefined): number | undefined {
  if (certificate === undefined) return undefined
  return readOr(() => {
    const info = fieldsOf(certificate).publicKey
    const [algorithm, key] = elementsIn(info, SEQUENCE)
    const [type, parameters] = elementsIn(algorithm, SEQUENCE)
    return SIZES.get(contentOf(type, OBJECT_IDENTIFIER).toString('latin1'))?.(info, key, parameters)
  }, undefined)
}

/** Of an RSAPublicKey (RFC 8017 §A.1.1), which starts with its modulus. */
function modulusBits (_info: Element, key: Element | undefined): number | undefined {
  const content = contentOf(key, BIT_STRING)
  const [unused] = content
  return unused === 0 ? bitsIn(elementsIn(elementOf(content.subarray(1)), SEQUENCE)[0]) : undefined
}

/** Of an INTEGER that cannot be negative: what has its first bit set was written without the zero before it, and OpenSSL reads it as this. */
function bitsIn (integer: Element | undefined): number | undefined {
  const content = contentOf(integer, INTEGER)
  const first = content.findIndex((octet) => octet !== 0)
  return first === -1 ? undefined : (content.length - first) * 8 - (Math.clz32(content[first]!) - 24)
}

/**
 * The curve that a SubjectPublicKeyInfo names (RFC 5480 §2.1.1), with a point that may be on it. One that is spelled out
 * may be any, and look like a known one (CVE-2020-0601). Throws when the bytes are no SubjectPublicKeyInfo.
 */
export function curveOf (info: Element): Curve | undefined {
  const [algorithm, key] = elementsIn(info, SEQUENCE)
  const [type, parameters] = elementsIn(algorithm, SEQUENCE)
  if (!contentOf(type, OBJECT_IDENTIFIER).equals(EC_PUBLIC_KEY) || parameters?.tag !== OBJECT_IDENTIFIER) return undefined
  const [unused, form] = contentOf(key, BIT_STRING)
  return unused === 0 && POINTS.includes(form) ? CURVES.get(contentOf(parameters, OBJECT_IDENTIFIER).toString('latin1')) : undefined
}

/** The SubjectPublicKeyInfo in base64, exactly as it is in the certificate; empty when that is not DER. */
export function publicKeyOf (certificate: X509Certificate): string {
  return readOr(() => derOf(fieldsOf(certificate).publicKey).toString('base64'), '')
}

function curvesOf (table: typeof PRIME_CURVES, isBinary: boolean): Array<[string, Curve]> {
  return Object.entries(table).flatMap(([arc, all]) => Object.entries(all).map(([last, bits]): [string, Curve] => [octetsOf(`${arc}.${last}`).toString('latin1'), { bits, isBinary }]))
}
