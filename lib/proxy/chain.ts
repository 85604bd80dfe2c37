/**
 * The certificates in what a proxy forwards: the client's own first.
 */
import { type X509Certificate, createHash } from 'node:crypto'
import { certificateOf } from '../certificate/certificate-of.ts'
import { MOST_BYTES, MOST_CERTIFICATES, decode, formats } from './encodings.ts'
import type { Encoding } from './presets.ts'
import { parseXfcc } from './xfcc.ts'

export type Chain = readonly [leaf: X509Certificate, ...others: X509Certificate[]]

/** Why a value holds no certificate. */
export const ABSENT = 'absent'
export const MALFORMED = 'malformed'

/** How a proxy writes a certificate. */
export interface Written {
  readonly encoding: Encoding
  /** Of XFCC: which element counts, from the right. */
  readonly hops: number
}

/**
 * @param text the header's value
 * @param companion that of Client-Cert-Chain (RFC 9440 §2.3)
 */
export function chainIn ({ encoding, hops }: Written, text: string, companion: string | undefined): Chain | typeof ABSENT | typeof MALFORMED {
  if (encoding === 'xfcc') return elementIn(text, hops)
  const found = decode(formats[encoding], text)
  if (found === undefined) return MALFORMED
  if (companion === undefined) return parseChain(found, [])
  const others = decode(formats['rfc9440-chain'], companion)
  return others === undefined ? MALFORMED : parseChain(found, others)
}

/** Whoever is further away than our own proxies may have written what stands further left. */
function elementIn (text: string, hops: number): ReturnType<typeof chainIn> {
  const elements = parseXfcc(text)
  if (elements === undefined) return MALFORMED
  const element = elements.at(-hops)
  const certificate = element?.get('cert')
  if (certificate === undefined) return ABSENT
  const found = decode(formats['url-pem'], certificate)
  const chain = element!.get('chain')
  const others = chain === undefined ? [] : decode(formats['url-pem-chain'], chain)
  if (found === undefined || others === undefined) return MALFORMED
  const hash = createHash('sha256').update(found[0]!).digest('hex')
  // Envoy's Chain begins with the certificate itself.
  return hash === element!.get('hash')?.toLowerCase() ? parseChain(found, others.filter((der) => !der.equals(found[0]!))) : MALFORMED
}

function parseChain (list: readonly Buffer[], companion: readonly Buffer[]): Chain | typeof MALFORMED {
  const certificates: X509Certificate[] = []
  let left = MOST_BYTES
  for (const der of companion.length === 0 ? list : [...list, ...companion]) {
    left -= der.length
    const certificate = left < 0 || certificates.length === MOST_CERTIFICATES ? undefined : certificateOf(der)
    if (certificate === undefined) return MALFORMED
    certificates.push(certificate)
  }
  // A proxy that adds its certificate to what the client sent makes such a list, too, and the client's comes first.
  for (let index = 1; index < list.length; index++) {
    if (!isIssuer(certificates[index]!, certificates[index - 1]!)) return MALFORMED
  }
  return certificates as [X509Certificate, ...X509Certificate[]]
}

function isIssuer (issuer: X509Certificate, certificate: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer)
}
