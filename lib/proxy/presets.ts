/**
 * How proxies forward a client certificate: in which header, how it is written, and who has verified it.
 */

/** How a certificate is written in a header: see encodings.ts. */
export const ENCODINGS = ['rfc9440', 'url-pem', 'url-pem-aws', 'pem-spaces', 'base64-der', 'xfcc'] as const
export type Encoding = typeof ENCODINGS[number]

/**
 * Who says that the certificate is valid: another header of the proxy; that it is there at all (`'presence'`: the
 * deployer's word that only verified ones are forwarded); or this application, which verifies the chain (`'here'`).
 */
export type Verified = VerdictHeader | 'presence' | 'here'

export interface VerdictHeader {
  readonly header: string
  readonly value: string
}

export interface ForwardedBy {
  readonly header: string
  readonly encoding: Encoding
  readonly verified: Verified
}

const openssl = (value: string): Verified => ({ header: 'x-ssl-client-verify', value })

export const PRESETS = {
  nginx: { header: 'x-ssl-client-cert', encoding: 'url-pem', verified: openssl('SUCCESS') },
  'ingress-nginx': { header: 'ssl-client-cert', encoding: 'url-pem', verified: { header: 'ssl-client-verify', value: 'SUCCESS' } },
  // `0` is also what HAProxy says of nobody: the certificate has to be there, too.
  haproxy: { header: 'client-cert', encoding: 'rfc9440', verified: openssl('0') },
  apache: { header: 'x-ssl-client-cert', encoding: 'pem-spaces', verified: openssl('SUCCESS') },
  rfc9440: { header: 'client-cert', encoding: 'rfc9440', verified: 'presence' },
  'aws-alb': { header: 'x-amzn-mtls-clientcert-leaf', encoding: 'url-pem-aws', verified: 'presence' },
  gcp: { header: 'client-cert', encoding: 'rfc9440', verified: 'presence' },
  // Those that say nothing of a verdict, or nothing that can be relied on.
  caddy: { header: 'x-ssl-client-cert', encoding: 'base64-der', verified: 'here' },
  envoy: { header: 'x-forwarded-client-cert', encoding: 'xfcc', verified: 'here' },
  traefik: { header: 'x-forwarded-tls-client-cert', encoding: 'base64-der', verified: 'here' },
  cloudflare: { header: 'cf-client-cert-der-base64', encoding: 'base64-der', verified: 'here' },
  azure: { header: 'x-arr-clientcert', encoding: 'base64-der', verified: 'here' },
  'aws-alb-passthrough': { header: 'x-amzn-mtls-clientcert', encoding: 'url-pem-aws', verified: 'here' }
} as const satisfies Record<string, ForwardedBy>

export type Preset = keyof typeof PRESETS

/** RFC 9440 §2.3: the other certificates of the chain. Read where we verify it ourselves. */
export const CHAIN_HEADER = 'client-cert-chain'
