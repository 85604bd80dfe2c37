/** PKCS #10 (RFC 2986): asks a CA for a certificate for DNS names. */
import { createPublicKey, type KeyObject, sign } from 'node:crypto'
import { BIT_STRING, der, INTEGER, OBJECT_IDENTIFIER, octetsOf, tags } from './der.ts'

const NULL = 0x05
/** `[0]` of a CertificationRequestInfo: its attributes. */
const ATTRIBUTES = 0xa0
/** `[2]` of a GeneralName (RFC 5280 §4.2.1.6): dNSName. */
const DNS_NAME = 0x82

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14'
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17'
/** By the type of the key: RFC 5758 §3.2 and RFC 4055 §5. */
const SIGNATURES: Readonly<Record<string, readonly Buffer[]>> = {
  ec: [oid('1.2.840.10045.4.3.2')],
  rsa: [oid('1.2.840.113549.1.1.11'), der(NULL)]
}

/**
 * A certification request in DER, signed with SHA-256. Its subject is empty: the names are alternative names.
 *
 * @param key the private key of the certificate: RSA, or ECDSA with P-256
 * @param names DNS names and wildcards, in ASCII
 */
export function certificateRequest (key: KeyObject, names: readonly string[]): Buffer {
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const alternatives = der(tags.sequence, ...names.map((name) => der(DNS_NAME, Buffer.from(name, 'latin1'))))
  const extensions = der(tags.sequence, der(tags.sequence, oid(SUBJECT_ALTERNATIVE_NAME), der(tags.octetString, alternatives)))
  const attribute = der(tags.sequence, oid(EXTENSION_REQUEST), der(tags.set, extensions))
  const info = der(tags.sequence, der(INTEGER, Buffer.of(0)), der(tags.sequence), publicKey, der(ATTRIBUTES, attribute))
  const algorithm = der(tags.sequence, ...SIGNATURES[key.asymmetricKeyType!]!)
  return der(tags.sequence, info, algorithm, der(BIT_STRING, Buffer.of(0), sign('sha256', info, key)))
}

function oid (dotted: string): Buffer {
  return der(OBJECT_IDENTIFIER, octetsOf(dotted))
}
