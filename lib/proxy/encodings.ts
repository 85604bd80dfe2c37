/**
 * How proxies write a certificate into a header. A value is taken only if writing the bytes again would give the very same
 * text: no other alphabet, padding, line length, white space or case, no parameters, and nothing before or after.
 */
import { isAt, readBase64 } from './base64.ts'

/** Certificates of a chain, the client's own included. */
export const MOST_CERTIFICATES = 5
/** All of their bytes. */
export const MOST_BYTES = 16 * 1024

export interface Format {
  /** What stands around the base64 of a certificate. */
  readonly begin: string
  readonly end: string
  /** What ends each line of it, where it has lines. */
  readonly newline?: string
  /** `+`, `/` and `=` are percent-encoded. */
  readonly isEscaped?: boolean
  /** What stands between two certificates, where there may be several. */
  readonly separators?: readonly string[]
  /** What may stand at the very end, or not. */
  readonly last?: string
}

/** RFC 8941 §3.3.5, without parameters. */
const byteSequence: Format = { begin: ':', end: ':' }

/** RFC 7468 §3. The newline after the last line may be missing. */
function pem (space: string, newline: string): Format {
  return { begin: `-----BEGIN${space}CERTIFICATE-----${newline}`, end: `-----END${space}CERTIFICATE-----`, newline, last: newline }
}

const urlPem = pem('%20', '%0A')

export const formats = {
  rfc9440: byteSequence,
  /** RFC 9440 §2.3: a list (RFC 8941 §3.1). */
  'rfc9440-chain': { ...byteSequence, separators: [', ', ','] },
  'base64-der': { begin: '', end: '', separators: [','] },
  /** nginx, `$ssl_client_escaped_cert`; Envoy, `Cert`. */
  'url-pem': { ...urlPem, isEscaped: true },
  /** Envoy, `Chain`. */
  'url-pem-chain': { ...urlPem, isEscaped: true, separators: ['%0A'] },
  /** With `+`, `/` and `=` as they are. */
  'url-pem-aws': { ...urlPem, separators: ['%0A'] },
  /** Apache: HTTP cuts off the last space. */
  'pem-spaces': { ...pem(' ', ' '), last: '' }
} as const satisfies Record<string, Format>

/** The DER of the certificates in a header value, in its order; `undefined` where it is not exactly that. */
export function decode (format: Format, value: string): Buffer[] | undefined {
  const { begin, end, separators = [], last = '' } = format
  const text = Buffer.from(value)
  const certificates: Buffer[] = []
  let at = 0
  let left = MOST_BYTES
  while (true) {
    const content = isAt(text, at, begin) ? readBase64(text, at + begin.length, format, left) : undefined
    if (content === undefined || !isAt(text, content.end, end)) return undefined
    certificates.push(content.bytes)
    left -= content.bytes.length
    at = content.end + end.length
    if (at === text.length || (at + last.length === text.length && isAt(text, at, last))) return certificates
    const separator = separators.find((each) => isAt(text, at, each))
    if (separator === undefined || certificates.length === MOST_CERTIFICATES) return undefined
    at += separator.length
  }
}

/** Writes one as a proxy does. */
export function encode ({ begin, end, newline, isEscaped = false }: Format, der: Buffer): string {
  const base64 = der.toString('base64')
  const lines = newline === undefined ? base64 : base64.replace(/.{1,64}/g, '$&\n')
  return `${begin}${(isEscaped ? encodeURIComponent(lines) : lines).replaceAll('\n', newline ?? '')}${end}`
}
