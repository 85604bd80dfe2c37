/** A certificate that nobody vouches for. Loaded only where an app believes one in a header: its libraries are large. */
// @peculiar/x509 needs it, and needs it first
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { webcrypto } from 'node:crypto'

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
/** Milliseconds, to both sides: clocks differ. */
const VALID = 24 * 60 * 60 * 1000

/**
 * Its key is dropped at once, so that it is good for nothing but being recognised.
 *
 * @returns its DER
 */
export async function forgeCertificate (commonName: string): Promise<Buffer> {
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}, O=fastify-http-security check-proxy`,
    notBefore: new Date(Date.now() - VALID),
    notAfter: new Date(Date.now() + VALID),
    keys: await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify']),
    signingAlgorithm: P256,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])
    ]
  })
  return Buffer.from(certificate.rawData)
}
