/**
 * The client certificate that a trusted proxy forwards: read strictly, judged once, and remembered by what the header
 * says, never by the connection it came on, which carries many clients.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Refusal } from '../errors.ts'
import type { TrustOptions } from '../trust/options.ts'
import { keptVerdict, noPeerCertificate, peerCertificate, type PeerCertificate, refusalOfDates, verdictOf } from '../trust/peer-certificate.ts'
import type { TrustStore } from '../trust/store.ts'
import { reasonNamed, refusalOf } from '../x509/reasons.ts'
import { ABSENT, chainIn, type Format, formats, MALFORMED, type Written } from './encodings.ts'
import { CHAIN_HEADER, type ForwardedBy, PRESETS, type VerdictHeader } from './presets.ts'

export interface CertificateHeaders extends ForwardedBy {
  /** Of XFCC: how many trusted proxies have added an element of their own, the nearest one included. */
  readonly hops: number
}

const withoutCertificate = (refusal: Refusal, reason?: string): PeerCertificate => noPeerCertificate({ isForwarded: true, refusal, reason })

const WITHOUT_CERTIFICATE = withoutCertificate('certificateRequired')

/** What proxies write in place of a value that they do not have: nothing, `(null)` (Apache), `{name}` (Caddy). */
const PLACEHOLDER = /^(?:\(null\)|\{[^{}]*\})?$/

/** Every header that is believed for a certificate. */
export function certificateHeaderNames ({ header, encoding, verified }: ForwardedBy): [certificate: string] | [certificate: string, companion: string] {
  if (typeof verified === 'object') return [header, verified.header]
  return verified === 'here' && encoding === 'rfc9440' ? [header, CHAIN_HEADER] : [header]
}

export interface ForwardedOptions {
  readonly certificate: CertificateHeaders | undefined
  /** What to verify by, where that is done here. */
  readonly authorities: TrustOptions | undefined
}

/** What an app needs to read what its proxy forwards; what it verifies by is watched until it closes. */
export async function openForwarded (app: FastifyInstance, proxy: ForwardedOptions | undefined): Promise<ForwardedReader | undefined> {
  if (proxy?.certificate === undefined) return undefined
  if (proxy.authorities === undefined) return createForwardedReader(proxy.certificate, undefined)
  // Loaded only where certificates are verified here.
  const { ClientTrust } = await import('../trust/client-trust.ts')
  const trust = await ClientTrust.open(proxy.authorities, { role: 'proxy', log: (level, message, code) => app.log[level]({ code }, `http-security: ${message}`) })
  for (const warning of trust.warnings) app.log.warn(`http-security: ${warning}`)
  trust.look()
  trust.watch()
  app.addHook('onClose', async () => trust.close())
  return createForwardedReader(proxy.certificate, trust.store)
}

/** What of a request tells which certificate it came with. */
interface Received {
  readonly rawHeaders: readonly string[]
  /** Node joins all lines of `Connection`. */
  readonly headers: { readonly connection?: string | undefined }
}

export interface ForwardedReader {
  /** @param now milliseconds since the epoch */
  read (received: Received, now: number): PeerCertificate
  /** What certificates are judged by, for `verified: 'here'`. */
  readonly trust: TrustStore | undefined
}

/** @param trust for `verified: 'here'` */
export function createForwardedReader (headers: CertificateHeaders, trust: TrustStore | undefined): ForwardedReader {
  const { verified, encoding } = headers
  const names = certificateHeaderNames(headers)
  const shortest = Math.min(...names.map(({ length }) => length))
  const readLines = createReadRawHeaders(names)
  const known = new VerifiedCache<PeerCertificate>(headers)

  function read ({ rawHeaders, headers: { connection } }: Received, now: number): PeerCertificate {
    const { certificate, companion, repeated } = readLines(rawHeaders)
    if (repeated !== undefined) return withoutCertificate('badRequest', `${repeated} is there twice`)
    if (certificate === undefined) return WITHOUT_CERTIFICATE
    const hopByHop = hopByHopIn(connection)
    if (hopByHop !== undefined) return withoutCertificate('certificateRequired', `${hopByHop} is named in Connection, so nobody knows who wrote it`)
    const isVerified = typeof verified !== 'object' || companion === verified.value
    const chain = verified === 'here' ? companion : undefined
    const remembered = isVerified ? known.get(certificate, chain) : undefined
    if (remembered !== undefined) return remembered
    if (!isVerified) return rejected(certificate, companion, verified)
    const found = readChain(certificate, chain)
    // Whatever else clients may make a proxy forward takes no room.
    if (counts(found, now)) known.set(certificate, chain, found)
    return found
  }

  function counts (found: PeerCertificate, now: number): boolean {
    if (found.leaf === undefined || found.refusal !== undefined) return false
    if (trust === undefined) return refusalOfDates(found, now) === undefined
    found.verdict = keptVerdict(found, trust, now) ?? verdictOf(trust.judge(found.leaf, found.others, now))
    return found.verdict.refusal === undefined
  }

  function hopByHopIn (connection: string | undefined): string | undefined {
    // Nearly all are `close` or `keep-alive`.
    if (connection === undefined || connection.length < shortest) return undefined
    for (const name of names) if (isNamedIn(connection, name)) return name
    return undefined
  }

  /** Forwarded by a proxy that has verified it, and says that it is not valid: told in the log and in the details. */
  function rejected (certificate: string, verdict: string | undefined, { header, value }: VerdictHeader): PeerCertificate {
    const found = readChain(certificate, undefined)
    if (found === WITHOUT_CERTIFICATE) return found
    if (verdict === undefined) return withoutCertificate('badRequest', `${header} is missing`)
    if (found.leaf === undefined) return found
    const reason = reasonNamed(verdict) ?? `${header} is ${verdict === '' ? 'empty' : verdict}, not ${value}`
    return { ...found, refusal: refusalOf(reason), reason }
  }

  function readChain (text: string, companion: string | undefined): PeerCertificate {
    const chain = chainIn(headers, text, companion)
    if (chain === ABSENT) return withoutCertificate('certificateRequired', `${headers.header} tells of a client and has no Cert`)
    if (chain === MALFORMED) return PLACEHOLDER.test(text) ? WITHOUT_CERTIFICATE : withoutCertificate('badRequest', `${headers.header} is not exactly a certificate in ${encoding}`)
    const [leaf, ...others] = chain
    return peerCertificate(leaf, { others, isForwarded: true })
  }

  return { read, trust }
}

/** The header of another proxy than the one that was configured, for the log: nobody else would tell. */
export function otherPresetIn ({ header }: ForwardedBy, headers: IncomingHttpHeaders): string | undefined {
  if (headers[header] !== undefined) return undefined
  const stray = Object.values(PRESETS).find((preset) => headers[preset.header] !== undefined)
  return stray === undefined ? undefined : `there is no ${header}, but ${stray.header}, which proxy.certificate does not read`
}

/**
 * What a trusted proxy says, line by line. Node joins the lines of a header, or drops all but the first: then nobody
 * could tell what the proxy wrote from what it passed on.
 */

/** Of two headers; spellings with `_` are other headers, which nothing here believes. */
interface RawHeaders {
  /** `undefined`: there is none. */
  readonly certificate: string | undefined
  /** What comes beside it: its verdict, or its chain. */
  readonly companion: string | undefined
  /** The header that is there twice. */
  readonly repeated: string | undefined
}

/** @param names in lower case: that of the certificate and, where there is one, that of what comes beside it */
function createReadRawHeaders ([certificateName, companionName]: readonly [string, string?]): (rawHeaders: readonly string[]) => RawHeaders {
  const isCertificate = createIsNamed(certificateName)
  const isCompanion = companionName === undefined ? () => false : createIsNamed(companionName)

  return function readRawHeaders (rawHeaders) {
    let certificate: string | undefined
    let companion: string | undefined
    let repeated: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const spelled = rawHeaders[i]!
      if (isCertificate(spelled)) {
        if (certificate !== undefined) repeated = certificateName
        certificate = rawHeaders[i + 1]
      } else if (isCompanion(spelled)) {
        if (companion !== undefined) repeated = companionName
        companion = rawHeaders[i + 1]
      }
    }
    return { certificate, companion, repeated }
  }
}

/**
 * Whether a header has that name, in whatever case. Nearly all that have another one are out by their length or their
 * last letter, and a proxy always spells a name the same: to make a string in lower case takes longer than all of this.
 */
function createIsNamed (name: string): (spelled: string) => boolean {
  const { length } = name
  const last = length - 1
  const lastLetter = name.charCodeAt(last) | 32
  let latest = name
  return (spelled) => {
    if (spelled.length !== length || (spelled.charCodeAt(last) | 32) !== lastLetter) return false
    if (spelled === latest) return true
    if (spelled.toLowerCase() !== name) return false
    latest = spelled
    return true
  }
}

/** Whether a Connection header names another one. */
export function isNamedIn (connection: string | undefined, name: string): boolean {
  // Nearly all are `close`, `keep-alive` or `upgrade`.
  if (connection === undefined || connection.length < name.length) return false
  return connection.toLowerCase().split(',').some((option) => option.trim() === name)
}

/** Of memory, as well as can be told: some two thousand certificates. */
const MOST_BYTES = 64 * 1024 * 1024
/** What OpenSSL and Node take for a parsed certificate, */
const OVERHEAD = 8 * 1024
/** and for each character of its text: a name of three letters takes a hundred bytes, and a certificate may have thousands. */
const BYTES_A_CHARACTER = 16

const HASH = 'Hash='

interface Verified<Value> {
  readonly text: string
  readonly companion: string | undefined
  readonly value: Value
}

/**
 * Certificates that were verified before, by the header that they came in, in two generations: once the younger one has
 * half of the memory, it becomes the older one, and what was not asked for since then is dropped. Of whatever was asked
 * for last, half the memory is always kept.
 */
export class VerifiedCache<Value> {
  readonly #keyOf: (text: string) => string
  #young = new Map<string, Verified<Value>>()
  #old = new Map<string, Verified<Value>>()
  #bytes = 0

  constructor (written: Written) {
    this.#keyOf = createKeyOf(written)
  }

  get (text: string, companion: string | undefined): Value | undefined {
    const key = this.#keyOf(text)
    const young = this.#young.get(key)
    const found = young ?? this.#old.get(key)
    if (found === undefined || found.text !== text || found.companion !== companion) return undefined
    if (young === undefined) this.#add(key, found)
    return found.value
  }

  set (text: string, companion: string | undefined, value: Value): void {
    this.#add(this.#keyOf(text), { text, companion, value })
  }

  #add (key: string, verified: Verified<Value>): void {
    const before = this.#young.get(key)
    if (before !== undefined) this.#bytes -= bytesOf(before)
    this.#young.set(key, verified)
    this.#bytes += bytesOf(verified)
    if (this.#bytes <= MOST_BYTES / 2) return
    this.#old = this.#young
    this.#young = new Map()
    this.#bytes = 0
  }
}

function bytesOf ({ text, companion = '' }: Verified<unknown>): number {
  return OVERHEAD + BYTES_A_CHARACTER * (text.length + companion.length)
}

/**
 * To hash all of a header takes longer than to compare it: a piece is enough that differs between clients. Should it not,
 * the newer one takes the place of the other. Of Envoy's it is the hash, of others what the client's certificate, which is
 * the first one, ends with: a signature. V8 copies pieces of up to twelve characters; longer ones refer to the header, and
 * take longer to compare.
 */
function createKeyOf ({ encoding, hops }: Written): (text: string) => string {
  if (encoding === 'xfcc') {
    return (text) => {
      let at = text.length
      for (let hop = 0; hop < hops; hop++) at = text.lastIndexOf(HASH, at - 1)
      return text.slice(at + HASH.length, at + HASH.length + 12)
    }
  }
  const { begin, end, separators }: Format = formats[encoding]
  const after = end === '' ? separators![0]! : end
  return (text) => {
    const found = separators === undefined ? text.length - end.length : text.indexOf(after, begin.length)
    const at = found === -1 ? text.length : found
    return text.slice(at - 30, at - 18)
  }
}
