import { X509Certificate } from 'node:crypto'

/** The certificate that the bytes are, and nothing else: Node ignores what follows one, and reads PEM, too. */
export function certificateOf (der: Buffer): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(der)
    return certificate.raw.equals(der) ? certificate : undefined
  } catch {
    return undefined
  }
}
