/** What `check-proxy` sends: forged copies of every header that an app believes, in each way that proxies are known to let one through. */
import { createHash } from 'node:crypto'
import { encode, formats } from '../../proxy/encodings.ts'
import type { BelievedHeader } from '../../request/probe.ts'

/** How a header is spelled or sent. */
export type Way = 'as it is' | 'in mixed case' | 'with underscores' | 'twice' | 'named in Connection' | 'only named in Connection'

/** HTTP/2 has lower-case names, and no Connection (RFC 9113 §8.2). */
export const WAYS = {
  'HTTP/1.1': ['as it is', 'in mixed case', 'with underscores', 'twice', 'named in Connection', 'only named in Connection'],
  'HTTP/2': ['as it is', 'with underscores', 'twice']
} as const satisfies Record<string, readonly Way[]>

export type Protocol = keyof typeof WAYS

/** A header, and what it says; without a value it is not sent, but named in Connection. */
export interface Forged {
  readonly header: BelievedHeader
  readonly value: string | undefined
}

/** One request. */
export interface Forgery {
  readonly way: Way
  readonly forged: readonly Forged[]
  /** With the protocol and everything else that makes a client somebody. */
  readonly isAll: boolean
}

/** Of the text of a mark. */
export const CANARY_LENGTH = 16

/** What forged values are recognised by. */
export interface Canary {
  /** Random, in lower-case hex digits. */
  readonly text: string
  /** The DER of a certificate that was made for this; empty where the app reads none. */
  readonly certificate: Buffer
  /** What clients of this URL would forge: that they came over HTTPS, where they did not. */
  readonly isPlain: boolean
}

const OF_CERTIFICATE: ReadonlySet<BelievedHeader['role']> = new Set<BelievedHeader['role']>(['certificate', 'verdict', 'chain'])

/**
 * One after the other, those that make a certificate together, and all that is believed of a client together: where nobody
 * says that it came over HTTPS, no certificate counts. Early data would only get it refused.
 */
export function forgeriesOf (headers: readonly BelievedHeader[], mark: Canary, ways: readonly Way[]): Forgery[] {
  const ofCertificate = headers.filter(({ role }) => OF_CERTIFICATE.has(role))
  const all = headers.filter(({ role }) => role !== 'early-data')
  return ways.flatMap((way) => [
    ...headers.flatMap((header) => valuesOf(header, mark, way).map((value): Forgery => ({ way, forged: [{ header, value }], isAll: false }))),
    ...together(ofCertificate, mark, way, false),
    ...together(all, mark, way, true)
  ])
}

/** The certificate of a client over HTTPS counts, which is the one thing that is true of this one, too. */
function together (headers: readonly BelievedHeader[], mark: Canary, way: Way, isAll: boolean): Forgery[] {
  if (headers.length < 2) return []
  return [{ way, isAll, forged: headers.map((header) => ({ header, value: valuesOf(header, { ...mark, isPlain: true }, way)[0] })) }]
}

/** As Node's clients take them: an array is several lines. */
export function headersOf ({ way, forged }: Pick<Forgery, 'way' | 'forged'>): Record<string, string | string[]> {
  const sent = forged.flatMap(({ header: { name }, value }) => value === undefined ? [] : [[spell(name, way), way === 'twice' ? [value, value] : value]])
  const isNamed = way === 'named in Connection' || way === 'only named in Connection'
  return {
    ...Object.fromEntries(sent) as Record<string, string | string[]>,
    ...isNamed && { Connection: ['close', ...forged.map(({ header }) => header.name)].join(', ') }
  }
}

/** The one that would do the most harm first. */
function valuesOf (header: BelievedHeader, mark: Canary, way: Way): Array<string | undefined> {
  return way === 'only named in Connection' ? [undefined] : [...harmful(header, mark)]
}

function harmful ({ name, role, encoding, expected }: BelievedHeader, { text, certificate, isPlain }: Canary): string[] {
  // Some proxies pass on a protocol that there is, and nothing else. The one that is true could not be told apart.
  const untrue = isPlain ? 'https' : 'http'
  switch (role) {
    case 'protocol': return name === 'forwarded' ? [`for=${text};proto=${untrue}`] : [untrue, text]
    case 'host': return [`${text}.invalid`]
    case 'certificate': return [encoding === 'xfcc' ? xfcc(certificate) : encode(formats[encoding!], certificate), text]
    case 'verdict': return [expected!, text]
    case 'chain': return [encode(formats['rfc9440-chain'], certificate), text]
    case 'early-data': return ['1', text]
  }
}

function xfcc (certificate: Buffer): string {
  return `Hash=${createHash('sha256').update(certificate).digest('hex')};Cert="${encode(formats['url-pem'], certificate)}"`
}

function spell (name: string, way: Way): string {
  switch (way) {
    case 'with underscores': return name.replaceAll('-', '_')
    case 'in mixed case': return name.replaceAll(/[a-z]/g, (letter, at: number) => at % 2 === 0 ? letter.toUpperCase() : letter)
    default: return name
  }
}
