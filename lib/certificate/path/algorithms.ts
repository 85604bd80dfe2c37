/**
 * Which keys and signatures are strong enough: 112 bits, as OpenSSL's security level 2 has it (`-auth_level 2`).
 */
import { constants, type KeyObject, verify, type VerifyKeyObjectInput } from 'node:crypto'
import { elementsIn, readOr, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { curveOf } from '../keys.ts'
import { idOf, integerOf, idNamedBy } from './extensions.ts'
import type { ParsedCertificate } from './facts.ts'

/** How something was signed. */
export interface Scheme {
  /** Types of keys, as Node calls them. */
  readonly keys: readonly string[]
  /** Absent where the algorithm has one of its own. */
  readonly hash?: string
  /** Of RSASSA-PSS. */
  readonly saltLength?: number
}

/** What is known of a key that is strong enough. */
export interface Strength {
  /** What it takes to verify a signature, in the time that one with RSA of 2048 bits may take. */
  readonly work: number
}

/** OpenSSL does not compute with a modulus of more. */
const MOST_RSA_BITS = 16_384
/** NIST SP 800-57 part 1: 112 bits of security; and 80, which OpenSSL's security level 1 asks for. */
const LEAST = { rsa: 2048, curve: 224 }
const LEAST_LEGACY = { rsa: 1024, curve: 160 }

/** 65537 in practice. With one as long as the modulus, which OpenSSL takes up to 3072 bits, a signature takes milliseconds. */
const MOST_EXPONENT = 2n ** 64n

/** A curve of 128 bits, if there were a strong one, would be worth a signature with RSA. */
const CURVE_UNIT = 128
const EDWARDS_WORK = 4

const RSASSA_PSS = idOf('1.2.840.113549.1.1.10')
const MGF1 = idOf('1.2.840.113549.1.1.8')

/** RFC 4055 §2.1 and FIPS 180-4. MD5 and SHA-1 are broken, hence not here. */
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

/** What an AlgorithmIdentifier says, if that is strong enough. Throws when it is none. */
export function schemeOf (algorithm: Element): Scheme | undefined {
  const [identifier, parameters] = elementsIn(algorithm, SEQUENCE)
  const id = idNamedBy(identifier)
  return id === RSASSA_PSS ? pssScheme(parameters) : SCHEMES.get(id)
}

/** With SHA-1, which `legacy` lets pass: forging a certificate with it takes somebody who is let choose most of it. */
const LEGACY_SCHEMES: ReadonlySet<string> = new Set(['1.2.840.113549.1.1.5', '1.2.840.10045.4.1'].map(idOf))

export function isLegacyScheme (algorithm: Element): boolean {
  return LEGACY_SCHEMES.has(idNamedBy(elementsIn(algorithm, SEQUENCE)[0]))
}

/** By whether legacy keys pass. */
const known = [new WeakMap<ParsedCertificate, { readonly strength: Strength | undefined }>(), new WeakMap<ParsedCertificate, { readonly strength: Strength | undefined }>()] as const

/** Undefined where the key of a certificate is not strong enough, or OpenSSL cannot read it. */
export function strengthOf (facts: ParsedCertificate, isLegacy = false): Strength | undefined {
  const answers = known[isLegacy ? 1 : 0]
  const answer = answers.get(facts) ?? { strength: readOr(() => readStrength(facts, isLegacy ? LEAST_LEGACY : LEAST), undefined) }
  answers.set(facts, answer)
  return answer.strength
}

/** Nothing but its type is asked of a key on a curve: more could abort the process (see keys.ts). */
function readStrength ({ certificate: { publicKey }, fields }: ParsedCertificate, least: typeof LEAST): Strength | undefined {
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

/** Whether `signature` is one of `data`. Throws where the key cannot make such signatures. */
export function isSignature (signature: Buffer, data: Buffer, scheme: Scheme, key: KeyObject): boolean {
  const input = verifierOf(scheme, key)
  return input !== undefined && verify(scheme.hash, data, input, signature)
}

/** What Node verifies signatures of a scheme by; undefined where the key is for others. */
export function verifierOf ({ keys, saltLength }: Scheme, key: KeyObject): VerifyKeyObjectInput | undefined {
  if (!keys.includes(key.asymmetricKeyType!)) return undefined
  return saltLength === undefined ? { key } : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }
}

/**
 * RFC 4055 §3.1: [0] a hash, [1] MGF1 with a hash, [2] a salt length. The defaults are SHA-1 and 20. Two different
 * hashes are allowed, but nobody has them, and Node cannot be asked to verify them.
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
