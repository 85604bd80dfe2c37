/**
 * Public keys (RFC 5280 §4.1.2.7) and signature algorithms: `keyBits` is the size of a key; `schemeOf` and `strengthOf` say
 * which signatures and keys are strong enough, `isSignature` verifies a signature.
 *
 * The key of a client is read from its bytes, not by Node: `asymmetricKeyDetails` aborts the process for the point at
 * infinity (Node 20 and 22) and for a DSA key that is a negative number (Node 20), `toLegacyObject()` for a brainpool curve
 * (Node 24). OpenSSL accepts all of these in a handshake.
 */
import { constants, type KeyObject, verify, type VerifyKeyObjectInput, type X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, derOf, type Element, elementOf, elementsIn, INTEGER, OBJECT_IDENTIFIER, octetsOf, readOr, SEQUENCE } from './der.ts'
import { type CertificateFields, fieldsOf, idNamedBy, idOf, integerOf } from './fields.ts'

interface Curve {
  /** Bits of the order of the curve, as OpenSSL counts. */
  readonly bits: number
  /** The field is a binary field, of 2^m elements. */
  readonly isBinary: boolean
}

const EC_PUBLIC_KEY = octetsOf('1.2.840.10045.2.1')

type ReadBits = (info: Element, key: Element | undefined, parameters: Element | undefined) => number | undefined

/** By algorithm. The arguments are a SubjectPublicKeyInfo, its key and its parameters; throws where they are malformed. */
const SIZES: ReadonlyMap<string, ReadBits> = new Map(Object.entries({
  '1.2.840.113549.1.1.1': modulusBits,
  // RSASSA-PSS
  '1.2.840.113549.1.1.10': modulusBits,
  // DSA: the prime p is the first parameter. There are none where they are inherited from the issuer (RFC 3279 §2.3.2).
  '1.2.840.10040.4.1': (_info, _key, parameters) => bitsIn(elementsIn(parameters, SEQUENCE)[0]),
  '1.2.840.10045.2.1': (info) => curveOf(info)?.bits,
  // Ed25519 and Ed448 have one size each (RFC 8032 §5.1 and §5.2): the numbers that OpenSSL's `s_client` prints.
  '1.3.101.112': () => 256,
  '1.3.101.113': () => 456
} satisfies Record<string, ReadBits>).map(([id, read]) => [octetsOf(id).toString('latin1'), read]))

/** Bits of the order, by the last arc of the object identifier, of all curves that OpenSSL knows by name. */
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

/** By the content octets of the identifier: made when the first key on a curve is read, not at every start. */
let curves: ReadonlyMap<string, Curve> | undefined

/** First octet of a point (SEC 1 §2.3.3): compressed, uncompressed, hybrid. 0, or what OpenSSL may read as 0, is infinity. */
const POINTS: readonly (number | undefined)[] = [2, 3, 4, 6, 7]

/**
 * The size of a certificate's key in bits: the modulus of RSA and DSA, the order of an elliptic curve. Undefined where
 * there is no certificate, the key is malformed or of another type, or its curve is not a named one.
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

/** The SubjectPublicKeyInfo in base64, exactly as it is in the certificate; empty where that is not DER. */
export function publicKeyOf (certificate: X509Certificate): string {
  return readOr(() => derOf(fieldsOf(certificate).publicKey).toString('base64'), '')
}

/** The modulus is the first field of an RSAPublicKey (RFC 8017 §A.1.1). */
function modulusBits (_info: Element, key: Element | undefined): number | undefined {
  const content = contentOf(key, BIT_STRING)
  const [unused] = content
  return unused === 0 ? bitsIn(elementsIn(elementOf(content.subarray(1)), SEQUENCE)[0]) : undefined
}

/** Bits of an INTEGER that cannot be negative: if its first bit is set, a leading zero is missing, which OpenSSL ignores. */
function bitsIn (integer: Element | undefined): number | undefined {
  const content = contentOf(integer, INTEGER)
  const first = content.findIndex((octet) => octet !== 0)
  return first === -1 ? undefined : (content.length - first) * 8 - (Math.clz32(content[first]!) - 24)
}

/**
 * The named curve of a SubjectPublicKeyInfo (RFC 5480 §2.1.1) whose point has a valid first octet. Explicit parameters are
 * rejected: they can describe any curve, and imitate a known one (CVE-2020-0601). Throws where the element is malformed.
 */
function curveOf (info: Element): Curve | undefined {
  const [algorithm, key] = elementsIn(info, SEQUENCE)
  const [type, parameters] = elementsIn(algorithm, SEQUENCE)
  if (!contentOf(type, OBJECT_IDENTIFIER).equals(EC_PUBLIC_KEY) || parameters?.tag !== OBJECT_IDENTIFIER) return undefined
  const [unused, form] = contentOf(key, BIT_STRING)
  if (unused !== 0 || !POINTS.includes(form)) return undefined
  curves ??= new Map([...curvesOf(PRIME_CURVES, false), ...curvesOf(BINARY_CURVES, true)])
  return curves.get(contentOf(parameters, OBJECT_IDENTIFIER).toString('latin1'))
}

function curvesOf (table: typeof PRIME_CURVES, isBinary: boolean): Array<[string, Curve]> {
  return Object.entries(table).flatMap(([arc, all]) => Object.entries(all).map(([last, bits]): [string, Curve] => [octetsOf(`${arc}.${last}`).toString('latin1'), { bits, isBinary }]))
}

// Strength of signatures and keys: 112 bits of security, as OpenSSL's security level 2 (`-auth_level 2`)

/** A signature algorithm with its parameters. */
export interface Scheme {
  /** Types of keys, as in Node's `asymmetricKeyType`. */
  readonly keys: readonly string[]
  /** Absent where the algorithm includes the hash (Ed25519, Ed448). */
  readonly hash?: string
  /** Only for RSASSA-PSS. */
  readonly saltLength?: number
}

/** Of a key that is strong enough. */
interface Strength {
  /** The time to verify one signature, where RSA with 2048 bits is 1: see `Budget`. */
  readonly work: number
}

/** The largest modulus that OpenSSL computes with. */
const MOST_RSA_BITS = 16_384
/** NIST SP 800-57 part 1: 112 bits of security; and 80 bits, which OpenSSL's security level 1 asks for. */
const LEAST = { rsa: 2048, curve: 224 }
const LEAST_LEGACY = { rsa: 1024, curve: 160 }

/** 65537 in practice. Verifying with one as long as the modulus, which OpenSSL allows up to 3072 bits, takes milliseconds. */
const MOST_EXPONENT = 2n ** 64n

/** Bits of a curve on which verification would take as long as with RSA of 2048 bits; no curve so small is strong. */
const CURVE_UNIT = 128
const EDWARDS_WORK = 4

const RSASSA_PSS = idOf('1.2.840.113549.1.1.10')
const MGF1 = idOf('1.2.840.113549.1.1.8')

/** RFC 4055 §2.1 and FIPS 180-4. MD5 and SHA-1 are broken, so they are not here. */
const HASHES: ReadonlyMap<string, string> = new Map([
  [idOf('2.16.840.1.101.3.4.2.1'), 'sha256'],
  [idOf('2.16.840.1.101.3.4.2.2'), 'sha384'],
  [idOf('2.16.840.1.101.3.4.2.3'), 'sha512'],
  [idOf('2.16.840.1.101.3.4.2.4'), 'sha224']
])

/** RFC 4055 §5, RFC 5758 §3.2, RFC 8410 §3. */
const SCHEMES: ReadonlyMap<string, Scheme> = new Map([
  [idOf('1.2.840.113549.1.1.14'), { keys: ['rsa'], hash: 'sha224' }],
  [idOf('1.2.840.113549.1.1.11'), { keys: ['rsa'], hash: 'sha256' }],
  [idOf('1.2.840.113549.1.1.12'), { keys: ['rsa'], hash: 'sha384' }],
  [idOf('1.2.840.113549.1.1.13'), { keys: ['rsa'], hash: 'sha512' }],
  [idOf('1.2.840.10045.4.3.1'), { keys: ['ec'], hash: 'sha224' }],
  [idOf('1.2.840.10045.4.3.2'), { keys: ['ec'], hash: 'sha256' }],
  [idOf('1.2.840.10045.4.3.3'), { keys: ['ec'], hash: 'sha384' }],
  [idOf('1.2.840.10045.4.3.4'), { keys: ['ec'], hash: 'sha512' }],
  [idOf('1.3.101.112'), { keys: ['ed25519'] }],
  [idOf('1.3.101.113'), { keys: ['ed448'] }]
])

/** The algorithm of an AlgorithmIdentifier; undefined where it is weak or not known. Throws where it is malformed. */
export function schemeOf (algorithm: Element): Scheme | undefined {
  const [identifier, parameters] = elementsIn(algorithm, SEQUENCE)
  const id = idNamedBy(identifier)
  return id === RSASSA_PSS ? pssScheme(parameters) : SCHEMES.get(id)
}

/** SHA-1, for the option `legacy`: to forge a certificate with it, an attacker must be able to choose most of its content. */
const LEGACY_SCHEMES: ReadonlySet<string> = new Set(['1.2.840.113549.1.1.5', '1.2.840.10045.4.1'].map(idOf))

export function isLegacyScheme (algorithm: Element): boolean {
  return LEGACY_SCHEMES.has(idNamedBy(elementsIn(algorithm, SEQUENCE)[0]))
}

/**
 * RSASSA-PSS-params (RFC 4055 §3.1): [0] a hash, [1] MGF1 with a hash, [2] a salt length. The defaults are SHA-1 and 20.
 * The two hashes may differ, but they never do in practice, and Node cannot verify such signatures.
 */
function pssScheme (parameters: Element): Scheme | undefined {
  const [hash, mask, salt] = [0xa0, 0xa1, 0xa2].map((tag) => {
    const element = elementsIn(parameters, SEQUENCE).find((parameter) => parameter.tag === tag)
    return element === undefined ? undefined : elementsIn(element, tag)[0]
  })
  if (hash === undefined || mask === undefined) return undefined
  const [generator, maskHash] = elementsIn(mask, SEQUENCE)
  const name = hashOf(hash)
  if (name === undefined || hashOf(maskHash) !== name || idNamedBy(generator) !== MGF1) return undefined
  return { keys: ['rsa', 'rsa-pss'], hash: name, saltLength: salt === undefined ? 20 : integerOf(salt) }
}

function hashOf (algorithm: Element): string | undefined {
  return HASHES.get(idNamedBy(elementsIn(algorithm, SEQUENCE)[0]))
}

/** The parts of a `ParsedCertificate` that are needed here. */
interface Certificate {
  readonly certificate: X509Certificate
  readonly fields: CertificateFields
}

/** Cached strengths: without and with the option `legacy`. */
const strengths = [new WeakMap<Certificate, { readonly strength: Strength | undefined }>(), new WeakMap<Certificate, { readonly strength: Strength | undefined }>()] as const

/** Undefined where the key of a certificate is not strong enough, or OpenSSL cannot read it. */
export function strengthOf (parsed: Certificate, isLegacy = false): Strength | undefined {
  const answers = strengths[isLegacy ? 1 : 0]
  const answer = answers.get(parsed) ?? { strength: readOr(() => readStrength(parsed, isLegacy ? LEAST_LEGACY : LEAST), undefined) }
  answers.set(parsed, answer)
  return answer.strength
}

/** Of an EC key, Node is asked for nothing but its type: more could abort the process (see the top of this file). */
function readStrength ({ certificate: { publicKey }, fields }: Certificate, least: typeof LEAST): Strength | undefined {
  switch (publicKey.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss': {
      const { modulusLength = 0, publicExponent = 0n } = publicKey.asymmetricKeyDetails!
      const isStrong = modulusLength >= least.rsa && modulusLength <= MOST_RSA_BITS && publicExponent < MOST_EXPONENT
      return isStrong ? { work: (modulusLength / LEAST.rsa) ** 2 } : undefined
    }
    case 'ec': {
      const curve = curveOf(fields.publicKey)
      return curve !== undefined && curve.bits >= least.curve && !curve.isBinary ? { work: (curve.bits / CURVE_UNIT) ** 2 } : undefined
    }
    case 'ed25519':
    case 'ed448': return { work: EDWARDS_WORK }
    default: return undefined
  }
}

/** Whether `signature` is a valid signature of `data`. Throws where the key cannot make such signatures. */
export function isSignature (signature: Buffer, data: Buffer, scheme: Scheme, key: KeyObject): boolean {
  const input = verifierOf(scheme, key)
  return input !== undefined && verify(scheme.hash, data, input, signature)
}

/** The key as `crypto.verify` takes it; undefined where the key is of a type that the scheme does not allow. */
export function verifierOf ({ keys, saltLength }: Scheme, key: KeyObject): VerifyKeyObjectInput | undefined {
  if (!keys.includes(key.asymmetricKeyType!)) return undefined
  return saltLength === undefined ? { key } : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }
}
