/** A certificate that nobody vouches for. Loaded only where an app believes one in a header: its library is large. */
import { KeyObject, webcrypto } from 'node:crypto'
import { CLIENT_AUTH } from '../../x509/key-usage.ts'
import { basicConstraints, extendedKeyUsage, makeCertificate, P256 } from '../../x509/make-certificate.ts'

/** Milliseconds, to both sides: clocks differ. */
const VALID = 24 * 60 * 60 * 1000

export interface ForgedCertificate {
  /** DER. */
  readonly certificate: Buffer
  /** PEM, for a handshake with a proxy that may not look at who has issued it. */
  readonly key: string
}

export async function forgeCertificate (commonName: string): Promise<ForgedCertificate> {
  const { publicKey, privateKey } = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
  const subject = { commonName, organisation: 'fastify-http-security check-proxy' }
  const certificate = await makeCertificate({
    issuer: subject,
    subject,
    notBefore: new Date(Date.now() - VALID),
    notAfter: new Date(Date.now() + VALID),
    publicKey,
    extensions: [basicConstraints(false), extendedKeyUsage(CLIENT_AUTH)]
  }, privateKey)
  return { certificate, key: KeyObject.from(privateKey).export({ type: 'pkcs8', format: 'pem' }) as string }
}
