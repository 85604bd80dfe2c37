/** A certificate and its key in one file, as browsers and telephones import them: PKCS #12 (RFC 7292). */
import { createPrivateKey, createPublicKey, createHash, X509Certificate } from 'node:crypto'
import * as pkijs from 'pkijs'
import { der, tags } from '../../material/encode.ts'
import { ITERATIONS, type Pair } from './set.ts'

const KEY_BAG = '1.2.840.113549.1.12.10.1.2'
const CERTIFICATE_BAG = '1.2.840.113549.1.12.10.1.3'
// As DER, they go nowhere else (RFC 2985 §5.5.1 and §5.5.2)
const FRIENDLY_NAME = Buffer.from('06092a864886f70d010914', 'hex')
const LOCAL_KEY_ID = Buffer.from('06092a864886f70d010915', 'hex')

/**
 * The certificate lies in the file unencrypted, so that a reader without the password can tell whose it is.
 *
 * @param password - ASCII
 */
export async function pkcs12 ({ cert, key }: Pair, password: string): Promise<Buffer> {
  const secret = bytes(Buffer.from(password))
  const attributes = bagAttributes(key)
  const bag = new pkijs.PKCS8ShroudedKeyBag({
    parsedValue: pkijs.PrivateKeyInfo.fromBER(createPrivateKey(key).export({ format: 'der', type: 'pkcs8' }))
  })
  await bag.makeInternalValues({
    password: secret,
    contentEncryptionAlgorithm: { name: 'AES-CBC', length: 256 },
    hmacHashAlgorithm: 'SHA-256',
    iterationCount: ITERATIONS
  })
  const certificate = new pkijs.CertBag({ parsedValue: pkijs.Certificate.fromBER(new X509Certificate(cert).raw) })
  const safe = new pkijs.AuthenticatedSafe({
    parsedValue: {
      safeContents: [{
        privacyMode: 0,
        value: new pkijs.SafeContents({
          safeBags: [
            new pkijs.SafeBag({ bagId: KEY_BAG, bagValue: bag, bagAttributes: attributes }),
            new pkijs.SafeBag({ bagId: CERTIFICATE_BAG, bagValue: certificate, bagAttributes: attributes })
          ]
        })
      }]
    }
  })
  await safe.makeInternalValues({ safeContents: [{}] })
  const pfx = new pkijs.PFX({ parsedValue: { integrityMode: 0, authenticatedSafe: safe } })
  await pfx.makeInternalValues({
    password: secret,
    iterations: ITERATIONS,
    pbkdf2HashAlgorithm: { name: 'SHA-256' },
    hmacHashAlgorithm: 'SHA-256'
  })
  return Buffer.from(pfx.toSchema().toBER())
}

/** Firefox pairs a key with its certificate by localKeyID, and lists them by friendlyName. */
function bagAttributes (key: string): pkijs.Attribute[] {
  const id = createHash('sha1').update(createPublicKey(key).export({ format: 'der', type: 'spki' })).digest()
  const name = Buffer.from('development client', 'utf16le').swap16()
  return [
    pkijs.Attribute.fromBER(der(tags.sequence, LOCAL_KEY_ID, der(tags.set, der(tags.octetString, id)))),
    pkijs.Attribute.fromBER(der(tags.sequence, FRIENDLY_NAME, der(tags.set, der(tags.bmpString, name))))
  ]
}

/** An ArrayBuffer of its own: Node's small buffers share one. */
const bytes = (buffer: Buffer): ArrayBuffer => new Uint8Array(buffer).buffer
