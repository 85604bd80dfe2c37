/**
 * The public key of a certificate (RFC 5280 §4.1.2.7).
 */
import type { X509Certificate } from 'node:crypto'
import { derOf, readOr } from './der.ts'
import { fieldsOf } from './fields.ts'

/** What OpenSSL says of keys whose size is their algorithm's (RFC 8032 §5.1 and §5.2): `s_client` prints 256 and 456. */
const EDWARDS_BITS: ReadonlyMap<string | undefined, number> = new Map([['ed25519', 256], ['ed448', 456]])

/**
 * The size of a certificate's key in bits: the modulus of RSA and DSA, the order of an elliptic curve.
 * Undefined when there is no certificate, or a key that OpenSSL cannot use.
 */
export function keyBits (certificate: X509Certificate | undefined): number | undefined {
  if (certificate === undefined) return undefined
  return readOr(() => {
    const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey
    return EDWARDS_BITS.get(asymmetricKeyType) ?? asymmetricKeyDetails?.modulusLength ?? curveBits(asymmetricKeyDetails?.namedCurve)
  }, undefined)
}

/**
 * Of a curve Node tells the name only, and OpenSSL's names say the size: `prime256v1`, `brainpoolP320r1`. The old object
 * knows more, but to ask it (`toLegacyObject()`) of a brainpool curve ends a process of Node 24.
 */
export function curveBits (name: string | undefined): number | undefined {
  if (name === 'SM2') return 256
  const digits = /\d{3}/.exec(name ?? '')
  return digits === null ? undefined : Number(digits[0])
}

/** The SubjectPublicKeyInfo in base64, exactly as it is in the certificate; empty when that is not DER. */
export function publicKeyOf (certificate: X509Certificate): string {
  return readOr(() => derOf(fieldsOf(certificate).publicKey).toString('base64'), '')
}
