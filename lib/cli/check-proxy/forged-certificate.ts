/** A certificate that nobody vouches for. Loaded only where an app believes one in a header: its libraries are large. */
// @peculiar/x509 needs it, and needs it first
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { KeyObject, webcrypto } from 'node:crypto'

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
/** Milliseconds, to both sides: clocks differ. */
const VALID = 24 * 60 * 60 * 1000

export interface ForgedCertificate {
  /** DER. */
  readonly certificate: Buffer
  /** PEM, for a handshake with a proxy that may not look at who has issued it. */
  readonly key: string
}

export async function forgeCertificate (commonName: string): Promise<ForgedCertificate> {
  const keys = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}, O=fastify-http-security check-proxy`,
    notBefore: new Date(Date.now() - VALID),
    notAfter: new Date(Date.now() + VALID),
    keys,
    signingAlgorithm: P256,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])
    ]
  })
  return { certificate: Buffer.from(certificate.rawData), key: KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }) as string }
}
