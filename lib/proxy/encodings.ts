/**
 * How proxies write a certificate into a header. A value is taken only if writing the bytes again gives the very same
 * text: no other alphabet, padding, line length, white space or case, no parameters, and nothing before or after.
 */

/** Certificates of a chain, the client's own included. */
export const MOST_CERTIFICATES = 5
/** All of their bytes. */
export const MOST_BYTES = 16 * 1024

export interface Format {
  readonly read: (text: string) => Buffer
  readonly write: (der: Buffer) => string
  /** What stands between two certificates, where there may be several. */
  readonly separator?: string | RegExp
}

const base64: Format = {
  read: (text) => Buffer.from(text, 'base64'),
  write: (der) => der.toString('base64')
}

/** RFC 8941 §3.3.5, without parameters. */
const byteSequence: Format = {
  read: (text) => base64.read(text.slice(1, -1)),
  write: (der) => `:${base64.write(der)}:`
}

interface PemStyle {
  readonly space: string
  readonly newline: string
  /** `+`, `/` and `=` are percent-encoded. */
  readonly isEscaped?: boolean
}

/** RFC 7468 §3: lines of 64 characters. The newline after the last one may be missing. */
function pem ({ space, newline, isEscaped = false }: PemStyle): Format {
  const begin = `-----BEGIN${space}CERTIFICATE-----${newline}`
  const end = `-----END${space}CERTIFICATE-----`
  const escape = (text: string): string => isEscaped ? text.replaceAll('+', '%2B').replaceAll('/', '%2F').replaceAll('=', '%3D') : text
  const unescape = (text: string): string => isEscaped ? text.replaceAll('%2B', '+').replaceAll('%2F', '/').replaceAll('%3D', '=') : text
  return {
    read: (text) => base64.read(unescape(text.slice(begin.length, -end.length).replaceAll(newline, ''))),
    write: (der) => `${begin}${escape(base64.write(der).replace(/.{1,64}/g, '$&\n')).replaceAll('\n', newline)}${end}`
  }
}

const escapedPem = pem({ space: '%20', newline: '%0A', isEscaped: true })
const BETWEEN_BLOCKS = /(?<=-----END%20CERTIFICATE-----)%0A(?=-)/

export const formats = {
  rfc9440: byteSequence,
  /** RFC 9440 §2.3: a list (RFC 8941 §3.1). */
  'rfc9440-chain': { ...byteSequence, separator: /, ?/ },
  'base64-der': { ...base64, separator: ',' },
  /** nginx, `$ssl_client_escaped_cert`; Envoy, `Cert`. */
  'url-pem': escapedPem,
  /** Envoy, `Chain`. */
  'url-pem-chain': { ...escapedPem, separator: BETWEEN_BLOCKS },
  /** With `+`, `/` and `=` as they are. */
  'url-pem-aws': { ...pem({ space: '%20', newline: '%0A' }), separator: BETWEEN_BLOCKS },
  /** Apache: HTTP cuts off the last space. */
  'pem-spaces': pem({ space: ' ', newline: ' ' })
} as const satisfies Record<string, Format>

/** The DER of the certificates in a header value, in its order; `undefined` where it is not exactly that. */
export function decode ({ read, write, separator }: Format, text: string): Buffer[] | undefined {
  const parts = (separator === undefined ? [text] : text.split(separator, MOST_CERTIFICATES + 1)).map(withoutNewline)
  if (parts.length > MOST_CERTIFICATES) return undefined
  const certificates = parts.map(read)
  const bytes = certificates.reduce((sum, { length }) => sum + length, 0)
  return bytes > 0 && bytes <= MOST_BYTES && certificates.every((der, index) => write(der) === parts[index]) ? certificates : undefined
}

function withoutNewline (text: string): string {
  return text.endsWith('-----%0A') ? text.slice(0, -3) : text
}
