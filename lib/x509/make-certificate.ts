/**
 * Makes certificates (RFC 5280 §4) of ECDSA keys. Loaded only when there is one to be made: pkijs takes longer to load
 * than a small app takes to start.
 */
import { hash, webcrypto } from 'node:crypto'
import { type BaseBlock, BitString, Integer, OctetString } from 'asn1js'
import { AuthorityKeyIdentifier, BasicConstraints, Certificate, Extension, ExtKeyUsage, RelativeDistinguishedNames, Time, TimeType } from 'pkijs'
import { der, OBJECT_IDENTIFIER, octetsOf, tags } from './der.ts'

export const P256 = { name: 'ECDSA', namedCurve: 'P-256' } as const

/** Octets. RFC 5280 §4.1.2.2 allows 20. */
const SERIAL_NUMBER = 16

interface CertificateDraft {
  readonly issuer: DistinguishedName
  readonly subject: DistinguishedName
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKey: webcrypto.CryptoKey
  readonly extensions: Extension[]
}

interface DistinguishedName {
  readonly commonName: string
  readonly organisation?: string
}

/** A certificate in DER. */
export async function makeCertificate ({ issuer, subject, notBefore, notAfter, publicKey, extensions }: CertificateDraft, signingKey: webcrypto.CryptoKey): Promise<Buffer> {
  const certificate = new Certificate({
    version: 2, // which is called v3
    serialNumber: new Integer({ valueHex: randomSerialNumber() }),
    issuer: nameOf(issuer),
    notBefore: timeOf(notBefore),
    notAfter: timeOf(notAfter),
    subject: nameOf(subject),
    extensions
  })
  await certificate.subjectPublicKeyInfo.importKey(publicKey)
  await certificate.sign(signingKey, 'SHA-256')
  return Buffer.from(certificate.toSchema().toBER())
}

/** Positive, and in DER as it is. */
function randomSerialNumber (): Uint8Array<ArrayBuffer> {
  const octets = webcrypto.getRandomValues(new Uint8Array(SERIAL_NUMBER))
  octets[0] = 0x40 | (octets[0] & 0x3f)
  return octets
}

/** From bytes, which pkijs keeps: of a list of attributes it would make one RDN. */
function nameOf ({ commonName, organisation }: DistinguishedName): RelativeDistinguishedNames {
  return RelativeDistinguishedNames.fromBER(der(tags.sequence, rdn('2.5.4.3', commonName), ...organisation === undefined ? [] : [rdn('2.5.4.10', organisation)]))
}

/** RFC 5280 §4.1.2.4: a PrintableString has few characters (X.680 §41.4), a UTF8String has all. */
function rdn (type: string, value: string): Buffer {
  const tag = /^[a-z\d '()+,\-./:=?]*$/i.test(value) ? tags.printableString : tags.utf8String
  return der(tags.set, der(tags.sequence, der(OBJECT_IDENTIFIER, octetsOf(type)), der(tag, Buffer.from(value))))
}

/** RFC 5280 §4.1.2.5: UTCTime ends with 2049. */
function timeOf (value: Date): Time {
  return new Time({ type: value.getUTCFullYear() < 2050 ? TimeType.UTCTime : TimeType.GeneralizedTime, value })
}

export function basicConstraints (cA: boolean, pathLenConstraint?: number): Extension {
  return extension('2.5.29.19', true, new BasicConstraints({ cA, ...pathLenConstraint !== undefined && { pathLenConstraint } }).toSchema())
}

/** @param bits of the first octet */
export function keyUsage (bits: number): Extension {
  // In DER, a list of named bits ends with the last one that is set (X.690 §11.2.2)
  const unusedBits = 31 - Math.clz32(bits & -bits)
  return extension('2.5.29.15', true, new BitString({ valueHex: Uint8Array.of(bits), unusedBits }))
}

export function extendedKeyUsage (purpose: string): Extension {
  return extension('2.5.29.37', false, new ExtKeyUsage({ keyPurposes: [purpose] }).toSchema())
}

export async function subjectKeyIdentifier (publicKey: webcrypto.CryptoKey): Promise<Extension> {
  return extension('2.5.29.14', false, await keyIdentifierOf(publicKey))
}

export async function authorityKeyIdentifier (publicKey: webcrypto.CryptoKey): Promise<Extension> {
  return extension('2.5.29.35', false, new AuthorityKeyIdentifier({ keyIdentifier: await keyIdentifierOf(publicKey) }).toSchema())
}

/** RFC 5280 §4.2.1.2 (1). */
async function keyIdentifierOf (publicKey: webcrypto.CryptoKey): Promise<OctetString> {
  const point = await webcrypto.subtle.exportKey('raw', publicKey)
  return new OctetString({ valueHex: hash('sha1', new Uint8Array(point), 'buffer') })
}

/** @param value what the OCTET STRING holds, or that in DER */
export function extension (extnID: string, critical: boolean, value: BaseBlock | Buffer): Extension {
  // In an ArrayBuffer of its own: Node's small buffers share one
  return new Extension({ extnID, critical, extnValue: Buffer.isBuffer(value) ? new Uint8Array(value).buffer : value.toBER() })
}
