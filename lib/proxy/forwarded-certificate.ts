/**
 * The client certificate that a trusted proxy forwards. Begin with {@link createForwardedReader}: it reads the header
 * strictly, verifies the certificate once, and caches it by the header's value; never by the connection, which carries
 * requests of many clients.
 */
import type { FastifyInstance } from 'fastify'
import type { Refusal } from '../errors.ts'
import type { TrustOptions } from '../trust/options.ts'
import { describedPeerCertificate, keptVerdict, noPeerCertificate, peerCertificate, type PeerCertificate, refusalOfDates, verdictOf } from '../trust/peer-certificate.ts'
import type { TrustStore } from '../trust/store.ts'
import { reasonNamed, refusalOf } from '../x509/reasons.ts'
import type { ReadDescription } from './descriptions.ts'
import { ABSENT, chainIn, type Format, formats, MALFORMED, type Written } from './encodings.ts'
import { isNamedIn } from './forwarded-protocol.ts'
import { certificateHeaderNames, type CertificateHeaderNames, certificateHeadersOf, type ForwardedBy, isDescription, type VerdictHeader } from './presets.ts'

export interface CertificateHeaders extends ForwardedBy {
  /** Only for XFCC: how many trusted proxies have added an element of their own, the nearest one included. */
  readonly hops: number
}

const withoutCertificate = (refusal: Refusal, reason?: string): PeerCertificate => noPeerCertificate({ isForwarded: true, refusal, reason })

const WITHOUT_CERTIFICATE = withoutCertificate('certificateRequired')

/** The value that proxies write for a client without certificate: empty, `(null)` (Apache), `{name}` (Caddy). */
const PLACEHOLDER = /^(?:\(null\)|\{[^{}]*\})?$/

/**
 * The reader of an app's proxy, which forwards certificates. Client CAs and CRLs are watched until the app closes.
 *
 * @param authorities the client CAs, for `verified: 'here'`
 */
export async function openForwarded (app: FastifyInstance, headers: CertificateHeaders, authorities: TrustOptions | undefined): Promise<ForwardedReader> {
  const trust = authorities === undefined ? undefined : await openTrust(app, authorities)
  return createForwardedReader(headers, trust, await descriptionReaderOf(headers))
}

/** For an encoding that only describes a certificate. */
async function descriptionReaderOf ({ header, encoding, fingerprint }: CertificateHeaders): Promise<ReadDescription | undefined> {
  if (!isDescription(encoding)) return undefined
  // Imported only where it is used, which is rare.
  const { createReadDescription } = await import('./descriptions.ts')
  return createReadDescription({ header, encoding, fingerprint })
}

async function openTrust (app: FastifyInstance, authorities: TrustOptions): Promise<TrustStore> {
  // Imported only where certificates are verified here.
  const { ClientTrust } = await import('../trust/client-trust.ts')
  const trust = await ClientTrust.open(authorities, { role: 'proxy', log: (level, message, code) => app.log[level]({ code }, `http-security: ${message}`) })
  for (const warning of trust.warnings) app.log.warn(`http-security: ${warning}`)
  trust.look()
  trust.watch()
  app.addHook('onClose', async () => trust.close())
  return trust.store
}

/** The parts of a request that are read for its certificate. */
interface Received {
  readonly rawHeaders: readonly string[]
  /** Node joins all lines of `Connection`. */
  readonly headers: { readonly connection?: string | undefined }
}

export interface ForwardedReader {
  /** @param now milliseconds since the epoch */
  read (received: Received, now: number): PeerCertificate
  /** The client CAs and CRLs in force, for `verified: 'here'`. */
  readonly trust: TrustStore | undefined
}

/**
 * @param trust for `verified: 'here'`
 * @param readDescription for encodings that only describe a certificate
 */
export function createForwardedReader (headers: CertificateHeaders, trust: TrustStore | undefined, readDescription?: ReadDescription): ForwardedReader {
  const { verified, encoding } = headers
  const readCertificate = readDescription === undefined ? readChain : describe
  const names = certificateHeaderNames(headers)
  const shortest = Math.min(...names.map(({ length }) => length))
  const readRawHeaders = createReadRawHeaders(certificateHeadersOf(headers))
  const cache = new VerifiedCache<PeerCertificate>(headers)

  function read ({ rawHeaders, headers: { connection } }: Received, now: number): PeerCertificate {
    const { certificate, companion, fingerprint, repeated } = readRawHeaders(rawHeaders)
    if (repeated !== undefined) return withoutCertificate('badRequest', `${repeated} is there twice`)
    if (certificate === undefined) return WITHOUT_CERTIFICATE
    const hopByHop = hopByHopIn(connection)
    if (hopByHop !== undefined) return withoutCertificate('certificateRequired', `${hopByHop} is named in Connection, so nobody knows who wrote it`)
    const isVerified = typeof verified !== 'object' || companion === verified.value
    if (!isVerified) return rejected(certificate, companion, fingerprint, verified)
    const beside = verified === 'here' ? companion : fingerprint
    return cache.get(certificate, beside) ?? verify(certificate, beside, now)
  }

  function verify (certificate: string, beside: string | undefined, now: number): PeerCertificate {
    const found = readCertificate(certificate, beside)
    // Only valid certificates are cached: anything else that clients make a proxy forward must take no room.
    if (counts(found, now)) cache.set(certificate, beside, found)
    return found
  }

  function counts (found: PeerCertificate, now: number): boolean {
    if (!found.isPresent || found.refusal !== undefined) return false
    if (trust === undefined) return refusalOfDates(found, now) === undefined
    found.verdict = keptVerdict(found, trust, now) ?? verdictOf(trust.judge(found.leaf!, found.others, now))
    return found.verdict.refusal === undefined
  }

  function hopByHopIn (connection: string | undefined): string | undefined {
    // Nearly every value is `close` or `keep-alive`.
    if (connection === undefined || connection.length < shortest) return undefined
    for (const header of names) if (isNamedIn(connection, header)) return header
    return undefined
  }

  /** A certificate that the proxy has verified and rejected. It still appears in the log and in the details. */
  function rejected (certificate: string, verdict: string | undefined, fingerprint: string | undefined, { header, value }: VerdictHeader): PeerCertificate {
    const found = readCertificate(certificate, fingerprint)
    if (found === WITHOUT_CERTIFICATE) return found
    if (verdict === undefined) return withoutCertificate('badRequest', `${header} is missing`)
    if (!found.isPresent) return found
    const reason = reasonNamed(verdict) ?? `${header} is ${verdict === '' ? 'empty' : verdict}, not ${value}`
    return { ...found, refusal: refusalOf(reason), reason }
  }

  function readChain (text: string, companion: string | undefined): PeerCertificate {
    const chain = chainIn(headers as Written, text, companion)
    if (chain === ABSENT) return withoutCertificate('certificateRequired', `${headers.header} tells of a client and has no Cert; what Istio sets is read with certificate: 'istio'`)
    if (chain === MALFORMED) return PLACEHOLDER.test(text) ? WITHOUT_CERTIFICATE : withoutCertificate('badRequest', `${headers.header} is not exactly a certificate in ${encoding}`)
    const [leaf, ...others] = chain
    return peerCertificate(leaf, { others, isForwarded: true })
  }

  function describe (text: string, fingerprint: string | undefined): PeerCertificate {
    if (PLACEHOLDER.test(text)) return WITHOUT_CERTIFICATE
    const described = readDescription!(text, fingerprint)
    return typeof described === 'string' ? withoutCertificate('badRequest', described) : describedPeerCertificate(described)
  }

  return { read, trust }
}

// Raw header lines
//
// In place of `request.headers`, because Node joins the lines of a header, or drops all but the first. Then a line that the
// proxy wrote could not be told from one that the client sent and the proxy passed on.

/** The values of these headers. A name with `_` for `-` is another header, and ignored. */
interface RawHeaders {
  readonly certificate: string | undefined
  /** The companion header: the verdict, or the chain. */
  readonly companion: string | undefined
  readonly fingerprint: string | undefined
  /** The name of a header that is there twice. */
  readonly repeated: string | undefined
}

/** @param names in lower case */
function createReadRawHeaders (names: CertificateHeaderNames): (rawHeaders: readonly string[]) => RawHeaders {
  const [isCertificate, isCompanion, isFingerprint] = [names.certificate, names.companion, names.fingerprint].map((name) => name === undefined ? () => false : createIsNamed(name)) as [IsNamed, IsNamed, IsNamed]

  return function readRawHeaders (rawHeaders) {
    let certificate: string | undefined
    let companion: string | undefined
    let fingerprint: string | undefined
    let repeated: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const spelled = rawHeaders[i]!
      if (isCertificate(spelled)) {
        if (certificate !== undefined) repeated = names.certificate
        certificate = rawHeaders[i + 1]
      } else if (isCompanion(spelled)) {
        if (companion !== undefined) repeated = names.companion
        companion = rawHeaders[i + 1]
      } else if (isFingerprint(spelled)) {
        if (fingerprint !== undefined) repeated = names.fingerprint
        fingerprint = rawHeaders[i + 1]
      }
    }
    return { certificate, companion, fingerprint, repeated }
  }
}

type IsNamed = (spelled: string) => boolean

/**
 * Compares header names without case. Converting each name to lower case would take longer: nearly all other names differ in
 * length or last letter, and a proxy always spells a name the same way.
 */
function createIsNamed (header: string): IsNamed {
  const { length } = header
  const last = length - 1
  const lastLetter = header.charCodeAt(last) | 32
  let latest = ''
  return (spelled) => {
    if (spelled.length !== length || (spelled.charCodeAt(last) | 32) !== lastLetter) return false
    if (spelled === latest) return true
    if (spelled.toLowerCase() !== header) return false
    latest = spelled
    return true
  }
}

// Cache of verified certificates

/** Bytes of memory, estimated: about two thousand certificates. */
const MOST_BYTES = 64 * 1024 * 1024
/** Bytes that OpenSSL and Node take for a parsed certificate, besides those for its text. */
const OVERHEAD = 8 * 1024
/** Bytes for each character of its text: a name of three letters takes a hundred bytes, and a certificate may have thousands. */
const BYTES_A_CHARACTER = 16

const HASH = 'Hash='

interface Verified<Value> {
  readonly text: string
  readonly companion: string | undefined
  readonly value: Value
}

/**
 * A cache by header value, in two generations: when the younger one takes half of the memory, it becomes the older one, and
 * the older one is dropped. An entry that is used moves to the younger one, so that the last used ones, up to half of the
 * memory, are always kept.
 */
export class VerifiedCache<Value> {
  readonly #keyOf: (text: string) => string
  #young = new Map<string, Verified<Value>>()
  #old = new Map<string, Verified<Value>>()
  #bytes = 0

  constructor (written: Pick<CertificateHeaders, 'encoding' | 'hops'>) {
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
 * The key of a header value: a piece of it that differs between clients, because hashing the whole value takes longer than
 * comparing it. Where two clients have the same piece, the newer one replaces the other. For Envoy the piece is from the
 * hash; for others from the signature, which is the end of the client's certificate, the first one. V8 copies pieces of up
 * to twelve characters; longer ones refer to the header, and take longer to compare.
 */
function createKeyOf ({ encoding, hops }: Pick<CertificateHeaders, 'encoding' | 'hops'>): (text: string) => string {
  // Of a description, which is short, any piece may be the same for many clients.
  if (isDescription(encoding)) return (text) => text
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
