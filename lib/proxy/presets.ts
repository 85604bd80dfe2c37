/**
 * How proxies forward a client certificate: in which header, in which encoding, and who has verified it. Begin with
 * {@link PRESETS}. {@link PROTOCOLS}: in which header they say how a client came.
 */
import type { IncomingHttpHeaders } from 'node:http'

/** Those of a whole certificate, which `encodings.ts` reads. */
export const WHOLE_ENCODINGS = ['rfc9440', 'url-pem', 'url-pem-aws', 'pem-spaces', 'base64-der', 'xfcc'] as const

/** Those that only describe it, which `descriptions.ts` reads. */
export const DESCRIPTIONS = ['xfcc-described', 'dn'] as const

export const ENCODINGS = [...WHOLE_ENCODINGS, ...DESCRIPTIONS] as const

/**
 * How a certificate, or a description of it, is written in a header.
 *
 * - `'rfc9440'`: `:base64 of the DER:` (RFC 9440 §2.2).
 * - `'url-pem'`: percent-encoded PEM.
 * - `'url-pem-aws'`: percent-encoded PEM with `+`, `/` and `=` as they are.
 * - `'pem-spaces'`: PEM with spaces for newlines.
 * - `'base64-der'`: base64 of the DER.
 * - `'xfcc'`: Envoy's X-Forwarded-Client-Cert.
 * - `'xfcc-described'`: the same without the certificate: By, Hash, Subject, URI.
 * - `'dn'`: the distinguished name of its subject (RFC 2253, RFC 4514).
 */
export type Encoding = WholeEncoding | Description

/** How a whole certificate is written. */
export type WholeEncoding = typeof WHOLE_ENCODINGS[number]

/** How a certificate is described, that is not forwarded. */
export type Description = typeof DESCRIPTIONS[number]

export function isDescription (encoding: Encoding): encoding is Description {
  return (DESCRIPTIONS as readonly string[]).includes(encoding)
}

/**
 * What says that the certificate is valid: another header of the proxy; that it is there at all (`'presence'`: the
 * deployer's word that only verified ones are forwarded); or this application, which verifies the chain (`'here'`).
 */
export type Verified = VerdictHeader | 'presence' | 'here'

/** The header in which a proxy says whether it has verified the client certificate. */
export interface VerdictHeader {
  /** Its name. */
  readonly header: string
  /** The value that means valid, such as `SUCCESS`. It is compared exactly. */
  readonly value: string
}

export interface ForwardedBy {
  readonly header: string
  readonly encoding: Encoding
  readonly verified: Verified
  /** Beside a distinguished name: the header that has the SHA-256 of the certificate. */
  readonly fingerprint?: string | undefined
}

const openssl = (value: string): Verified => ({ header: 'x-ssl-client-verify', value })

export const PRESETS = {
  nginx: { header: 'x-ssl-client-cert', encoding: 'url-pem', verified: openssl('SUCCESS') },
  'ingress-nginx': { header: 'ssl-client-cert', encoding: 'url-pem', verified: { header: 'ssl-client-verify', value: 'SUCCESS' } },
  // HAProxy also says `0` of a client without certificate: the certificate has to be there, too.
  haproxy: { header: 'client-cert', encoding: 'rfc9440', verified: openssl('0') },
  apache: { header: 'x-ssl-client-cert', encoding: 'pem-spaces', verified: openssl('SUCCESS') },
  rfc9440: { header: 'client-cert', encoding: 'rfc9440', verified: 'presence' },
  'aws-alb': { header: 'x-amzn-mtls-clientcert-leaf', encoding: 'url-pem-aws', verified: 'presence' },
  gcp: { header: 'client-cert', encoding: 'rfc9440', verified: 'presence' },
  istio: { header: 'x-forwarded-client-cert', encoding: 'xfcc-described', verified: 'presence' },
  // These forward no verdict, or none that can be relied on.
  caddy: { header: 'x-ssl-client-cert', encoding: 'base64-der', verified: 'here' },
  envoy: { header: 'x-forwarded-client-cert', encoding: 'xfcc', verified: 'here' },
  traefik: { header: 'x-forwarded-tls-client-cert', encoding: 'base64-der', verified: 'here' },
  cloudflare: { header: 'cf-client-cert-der-base64', encoding: 'base64-der', verified: 'here' },
  azure: { header: 'x-arr-clientcert', encoding: 'base64-der', verified: 'here' },
  'aws-alb-passthrough': { header: 'x-amzn-mtls-clientcert', encoding: 'url-pem-aws', verified: 'here' }
} as const satisfies Record<string, ForwardedBy>

/** The name of a proxy whose header, encoding and verdict are known. */
export type Preset = keyof typeof PRESETS

/** RFC 9440 §2.3: the other certificates of the chain. Read where this application verifies it. */
export const CHAIN_HEADER = 'client-cert-chain'

/** The headers that are read for a certificate. */
export interface CertificateHeaderNames {
  readonly certificate: string
  /** The verdict, or the chain. */
  readonly companion: string | undefined
  readonly fingerprint: string | undefined
}

export function certificateHeadersOf ({ header, encoding, verified, fingerprint }: ForwardedBy): CertificateHeaderNames {
  const chain = verified === 'here' && encoding === 'rfc9440' ? CHAIN_HEADER : undefined
  return { certificate: header, companion: typeof verified === 'object' ? verified.header : chain, fingerprint }
}

/** The same as a list. */
export function certificateHeaderNames (headers: ForwardedBy): string[] {
  return Object.values(certificateHeadersOf(headers)).filter((name) => name !== undefined)
}

/** A hint for the log where the header of another preset has come than that of the configured one. */
export function otherPresetIn ({ header }: ForwardedBy, headers: IncomingHttpHeaders): string | undefined {
  if (headers[header] !== undefined) return undefined
  const other = Object.values(PRESETS).find((preset) => headers[preset.header] !== undefined)
  return other === undefined ? undefined : `there is no ${header}, but ${other.header}, which proxy.certificate does not read`
}

// How a client came

/** A header that says whether the client used HTTPS. */
export interface ProtocolHeader {
  readonly header: string
  /** The value that means HTTPS. */
  readonly value?: string | undefined
  /** In place of a value: the header is there for HTTPS alone. */
  readonly present?: true | undefined
}

export const PROTOCOLS = {
  'x-forwarded-proto': { header: 'x-forwarded-proto', value: 'https' },
  // RFC 7239: the parameter `proto`.
  forwarded: { header: 'forwarded', value: 'https' },
  cloudfront: { header: 'cloudfront-forwarded-proto', value: 'https' },
  // Details of the proxy's own certificate.
  azure: { header: 'x-arr-ssl', present: true }
} as const satisfies Record<string, ProtocolHeader>

/** The name of what says whether a client used HTTPS. */
export type ProtocolPreset = keyof typeof PROTOCOLS

/** What is known from the field besides, with the value that means HTTPS. */
const SPELLED_OUT = { 'x-forwarded-ssl': 'on', 'x-forwarded-scheme': 'https', 'x-forwarded-protocol': 'https', 'front-end-https': 'on', 'x-url-scheme': 'https' }

/** Every header that is known to say it, with the option that reads it. */
export const KNOWN_PROTOCOLS: ReadonlyArray<ProtocolHeader & { readonly option: string }> = [
  ...Object.entries(PROTOCOLS).map(([name, header]) => ({ ...header, option: `'${name}'` })),
  ...Object.entries(SPELLED_OUT).map(([header, value]) => ({ header, value, option: `{ header: '${header}', value: '${value}' }` }))
]
