/**
 * Makes development certificates. Loaded only when there are some to be made: what it imports takes longer to load
 * than a small app takes to start.
 */
import { createHash, createPrivateKey, createPublicKey, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import * as pkijs from 'pkijs'
import { pemOf } from '../../files/pem.ts'
import { der, tags } from '../../x509/der.ts'
import { CLIENT_AUTH, CRL_SIGN, DIGITAL_SIGNATURE, KEY_CERT_SIGN, SERVER_AUTH } from '../../x509/key-usage.ts'
import { authorityKeyIdentifier, basicConstraints, extendedKeyUsage, extension, keyUsage, makeCertificate, P256, subjectKeyIdentifier } from '../../x509/make-certificate.ts'
import { type CertificateSet, type ClientPair, clientsComment, COMMENT, type DevelopmentHost, ITERATIONS, NAME_CONSTRAINTS, nameConstraints, ORGANISATION, type Pair, PASSWORD, SUBJECT_ALT_NAME, subjectAlternativeName } from './certificate-set.ts'

const DAY = 24 * 60 * 60 * 1000
/** Days. The authority is as short-lived as what it issued, for its key is gone. */
const VALID_DAYS = 90
/** Milliseconds. Clocks differ between a container, its host and a telephone. */
const BACKDATED = 60 * 60 * 1000

/** Signs with a key that nothing outside this closure can reach, and that is not extractable. */
export interface Authority {
  readonly cert: string
  /** @param usage the extended key usage */
  issue (commonName: string, usage: string, names?: readonly DevelopmentHost[]): Promise<Pair>
}

/** A new authority, a server's certificate for `hosts`, and those of clients. The authority's key is dropped. */
export async function issueCertificates (hosts: readonly DevelopmentHost[], clients: readonly string[]): Promise<CertificateSet> {
  const authority = await createAuthority(hosts, clients)
  const issueTo = async (name: string): Promise<ClientPair> => {
    // No alternative names: they would have to be among the hosts, which a client is not
    const pair = await authority.issue(name, CLIENT_AUTH)
    return { ...pair, p12: await pkcs12(pair, PASSWORD, name) }
  }
  const [server, client, ...others] = await Promise.all([
    authority.issue('development server', SERVER_AUTH, hosts),
    issueTo('development client'),
    ...clients.map(issueTo)
  ])
  return { ca: authority.cert, server, client, clients: new Map(clients.map((name, index) => [name, others[index]!])) }
}

/**
 * An authority that can vouch for `hosts` only (RFC 5280 §4.2.1.10), and for no further authority.
 *
 * @param clients whom it is going to issue certificates to, by name
 */
export async function createAuthority (hosts: readonly DevelopmentHost[], clients: readonly string[] = []): Promise<Authority> {
  const { publicKey, privateKey } = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify'])
  // A name of its own for each: browsers confuse authorities of one name, and people must tell which to remove
  const issuer = { commonName: `Development CA ${randomBytes(4).toString('hex')}`, organisation: ORGANISATION }
  const validity = { notBefore: new Date(Date.now() - BACKDATED), notAfter: new Date(Date.now() + VALID_DAYS * DAY) }
  const ca = await makeCertificate({
    ...validity,
    issuer,
    subject: issuer,
    publicKey,
    extensions: [
      basicConstraints(true, 0),
      keyUsage(KEY_CERT_SIGN | CRL_SIGN),
      extension(NAME_CONSTRAINTS, true, nameConstraints(hosts)),
      ...(clients.length > 0 ? [extension(COMMENT, false, clientsComment(clients))] : []),
      await subjectKeyIdentifier(publicKey)
    ]
  }, privateKey)
  return {
    cert: pemOf('CERTIFICATE', ca),
    async issue (commonName, usage, names = []) {
      const own = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
      const certificate = await makeCertificate({
        ...validity,
        issuer,
        subject: { commonName, organisation: ORGANISATION },
        publicKey: own.publicKey,
        extensions: [
          basicConstraints(false),
          keyUsage(DIGITAL_SIGNATURE),
          extendedKeyUsage(usage),
          await subjectKeyIdentifier(own.publicKey),
          await authorityKeyIdentifier(publicKey),
          ...(names.length > 0 ? [extension(SUBJECT_ALT_NAME, false, subjectAlternativeName(names))] : [])
        ]
      }, privateKey)
      return { cert: pemOf('CERTIFICATE', certificate), key: KeyObject.from(own.privateKey).export({ type: 'pkcs8', format: 'pem' }) as string }
    }
  }
}

/** A certificate and its key in one file, as browsers and telephones import them: PKCS #12 (RFC 7292). */

const KEY_BAG = '1.2.840.113549.1.12.10.1.2'
const CERTIFICATE_BAG = '1.2.840.113549.1.12.10.1.3'
// As DER, they go nowhere else (RFC 2985 §5.5.1 and §5.5.2)
const FRIENDLY_NAME = Buffer.from('06092a864886f70d010914', 'hex')
const LOCAL_KEY_ID = Buffer.from('06092a864886f70d010915', 'hex')

/**
 * The certificate lies in the file unencrypted, so that a reader without the password can tell whose it is.
 *
 * @param password - ASCII
 * @param name by which browsers list it
 */
export async function pkcs12 ({ cert, key }: Pair, password: string, name = 'development client'): Promise<Buffer> {
  const secret = bytes(Buffer.from(password))
  const attributes = bagAttributes(key, name)
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
function bagAttributes (key: string, name: string): pkijs.Attribute[] {
  const id = createHash('sha1').update(createPublicKey(key).export({ format: 'der', type: 'spki' })).digest()
  return [
    pkijs.Attribute.fromBER(der(tags.sequence, LOCAL_KEY_ID, der(tags.set, der(tags.octetString, id)))),
    pkijs.Attribute.fromBER(der(tags.sequence, FRIENDLY_NAME, der(tags.set, der(tags.bmpString, Buffer.from(name, 'utf16le').swap16()))))
  ]
}

/** An ArrayBuffer of its own: Node's small buffers share one. */
const bytes = (buffer: Buffer): ArrayBuffer => new Uint8Array(buffer).buffer
