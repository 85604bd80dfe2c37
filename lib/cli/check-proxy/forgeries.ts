/**
 * The forged requests of `check-proxy`: copies of every header that an app trusts, in each way in which a proxy is
 * known to let one through. Begin with `forgeriesOf`.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { encode, formats } from '../../proxy/encodings.ts'
import type { Encoding } from '../../proxy/presets.ts'
import type { BelievedHeader } from '../../request/probe.ts'
import { subjectOf } from '../../x509/distinguished-names.ts'

/** How a header is spelled, or sent. */
export type Way = 'as it is' | 'in mixed case' | 'with underscores' | 'twice' | 'named in Connection' | 'only named in Connection'

/** HTTP/2 has only lower-case names, and no Connection header (RFC 9113 §8.2). */
export const WAYS = {
  'HTTP/1.1': ['as it is', 'in mixed case', 'with underscores', 'twice', 'named in Connection', 'only named in Connection'],
  'HTTP/2': ['as it is', 'with underscores', 'twice']
} as const satisfies Record<string, readonly Way[]>

export type Protocol = keyof typeof WAYS

/** A header and its forged value. Without a value it is not sent, but only named in the Connection header. */
export interface Forged {
  readonly header: BelievedHeader
  readonly value: string | undefined
}

/** One forged request. */
export interface Forgery {
  readonly way: Way
  readonly forged: readonly Forged[]
  /** It has all headers together: the protocol, and everything that identifies a client. */
  readonly isAll: boolean
}

/** The length of the canary text. */
export const CANARY_LENGTH = 16

/** What forged values are recognised by. */
export interface Canary {
  /** Random lower-case hex digits. */
  readonly text: string
  /** A self-signed certificate made for this test, in DER; empty if the app reads no certificates. */
  readonly certificate: Buffer
  /** The URL is plain HTTP. Its clients would forge that they came over HTTPS. */
  readonly isPlain: boolean
}

const OF_CERTIFICATE: ReadonlySet<BelievedHeader['role']> = new Set<BelievedHeader['role']>(['certificate', 'verdict', 'chain', 'fingerprint'])

/**
 * The forged requests: each header alone; those that describe a certificate together; and all headers together, because
 * without a protocol header that says HTTPS, no certificate counts. That last request has no early-data header: it
 * would only get the request refused.
 */
export function forgeriesOf (headers: readonly BelievedHeader[], canary: Canary, ways: readonly Way[]): Forgery[] {
  const ofCertificate = headers.filter(({ role }) => OF_CERTIFICATE.has(role))
  const all = headers.filter(({ role }) => role !== 'early-data')
  return ways.flatMap((way) => [
    ...headers.flatMap((header) => valuesOf(header, canary, way).map((value): Forgery => ({ way, forged: [{ header, value }], isAll: false }))),
    ...together(ofCertificate, canary, way, false),
    ...together(all, canary, way, true)
  ])
}

/**
 * Several headers in one request. The protocol is forged as HTTPS, without which no certificate counts, also for an
 * https: URL, where it is true.
 */
function together (headers: readonly BelievedHeader[], canary: Canary, way: Way, isAll: boolean): Forgery[] {
  if (headers.length < 2) return []
  return [{ way, isAll, forged: headers.map((header) => ({ header, value: valuesOf(header, { ...canary, isPlain: true }, way)[0] })) }]
}

/** Headers for Node's clients: an array is sent as several lines. */
export function headersOf ({ way, forged }: Pick<Forgery, 'way' | 'forged'>): Record<string, string | string[]> {
  const sent = forged.flatMap(({ header: { name }, value }) => value === undefined ? [] : [[spell(name, way), way === 'twice' ? [value, value] : value]])
  const isNamed = way === 'named in Connection' || way === 'only named in Connection'
  return {
    ...Object.fromEntries(sent) as Record<string, string | string[]>,
    ...isNamed && { Connection: ['close', ...forged.map(({ header }) => header.name)].join(', ') }
  }
}

/** The most harmful value first. */
function valuesOf (header: BelievedHeader, canary: Canary, way: Way): Array<string | undefined> {
  return way === 'only named in Connection' ? [undefined] : [...harmful(header, canary)]
}

function harmful (header: BelievedHeader, { text, certificate, isPlain }: Canary): string[] {
  const { role, encoding, expected } = header
  switch (role) {
    case 'protocol': return protocolsOf(header, text, isPlain)
    case 'host': return [`${text}.invalid`]
    case 'certificate': return [write(encoding!, certificate), text]
    case 'verdict': return [expected!, text]
    case 'chain': return [encode(formats['rfc9440-chain'], certificate), text]
    case 'fingerprint': return [hashOf(certificate), text]
    case 'early-data': return ['1', text]
  }
}

/** Where the app counts values from the right, also more than it counts: what proxies append is then not enough. */
function protocolsOf ({ name, expected, present, hops }: BelievedHeader, text: string, isPlain: boolean): string[] {
  if (present) return [text]
  // Some proxies only let a valid protocol through. The true one could not be told apart from that of the proxy.
  const untrue = isPlain ? expected! : expected === 'https' ? 'http' : 'off'
  const value = name === 'forwarded' ? `for=${text};proto=${untrue}` : untrue
  return [
    ...hops === undefined ? [] : [Array<string>(hops + 1).fill(value).join(', ')],
    value,
    ...name === 'forwarded' ? [] : [text]
  ]
}

function write (encoding: Encoding, certificate: Buffer): string {
  switch (encoding) {
    case 'xfcc': return `Hash=${hashOf(certificate)};Cert="${encode(formats['url-pem'], certificate)}"`
    case 'xfcc-described': return `By=urn:check-proxy;Hash=${hashOf(certificate)};Subject="${nameIn(certificate)}";URI=urn:check-proxy`
    case 'dn': return nameIn(certificate)
    default: return encode(formats[encoding], certificate)
  }
}

function hashOf (certificate: Buffer): string {
  return createHash('sha256').update(certificate).digest('hex')
}

/** Its subject (RFC 4514 §2.1). No value of a forged certificate needs an escape. */
function nameIn (certificate: Buffer): string {
  return subjectOf(new X509Certificate(certificate)).flat().map(({ type, value }) => `${type}=${value}`).reverse().join(',')
}

function spell (name: string, way: Way): string {
  switch (way) {
    case 'with underscores': return name.replaceAll('-', '_')
    case 'in mixed case': return name.replaceAll(/[a-z]/g, (letter, at: number) => at % 2 === 0 ? letter.toUpperCase() : letter)
    default: return name
  }
}
