/**
 * The client certificate that a trusted proxy forwards. Begin with {@link createForwardedReader}: it reads the header
 * strictly, verifies the certificate once, and caches it by the header's value; never by the connection, which carries
 * requests of many clients. A {@link CachedCertificate} is what it caches.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Refusal } from '../errors.ts'
import type { TrustOptions } from '../trust/options.ts'
import { describedPeerCertificate, type Fingerprints, keptVerdict, noPeerCertificate, peerCertificate, type PeerCertificate, refusalOfDates, type TrustState, type Verdict, verdictOf } from '../trust/peer-certificate.ts'
import type { TrustStore } from '../trust/store.ts'
import type { DescribedCertificate } from '../x509/known-certificate.ts'
import { reasonNamed, refusalOf } from '../x509/reasons.ts'
import type { ReadDescription } from './descriptions.ts'
import { problemOf } from './encoding-problems.ts'
import { ABSENT, type Chain, chainIn, type Format, formats, MALFORMED, type Written } from './encodings.ts'
import { certificateHeaderNames, type CertificateHeaderNames, certificateHeadersOf, type ForwardedBy, isDescription, type VerdictHeader } from './presets.ts'
import { createIsNamed, type IsNamed, isNamedIn } from './raw-headers.ts'

export interface CertificateHeaders extends ForwardedBy {
  /** Only for XFCC: how many trusted proxies have added an element of their own, the nearest one included. */
  readonly hops: number
}

const withoutCertificate = (refusal: Refusal, reason?: string): PeerCertificate => noPeerCertificate({ isForwarded: true, refusal, reason })

const WITHOUT_CERTIFICATE = withoutCertificate('certificateRequired')

/** The value that proxies write for a client without certificate: empty, `""` (HAProxy), `(null)` (Apache), `{name}` (Caddy). */
const PLACEHOLDER = /^(?:""|\(null\)|\{[^{}]*\})?$/

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
  const { verified } = headers
  // Not that of a description, which `readDescription` knows.
  const written = headers as CertificateHeaders & Written
  const readCertificate = readDescription === undefined ? readChain : describe
  const names = certificateHeaderNames(headers)
  const shortest = Math.min(...names.map(({ length }) => length))
  const readRawHeaders = createReadRawHeaders(certificateHeadersOf(headers))
  const cache = new VerifiedCache<CachedCertificate>(headers, readDescription !== undefined ? DESCRIPTIONS : trust === undefined ? CERTIFICATES : CERTIFICATES_VERIFIED_HERE)
  const chains = new VerifiedCache<ParsedChain>(headers, PARSED_CHAINS)
  const source: Source = {
    chainOf ({ text, companion }) {
      const known = chains.get(text, companion)
      if (known !== undefined) return known.chain
      const chain = chainIn(written, text, companion) as Chain
      chains.set(new ParsedChain(text, companion, chain))
      return chain
    },
    grow: (certificate, bytes) => cache.grow(certificate, bytes)
  }

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
    if (!counts(found, now)) return found
    const cached = new CachedCertificate(source, certificate, beside, found, trust !== undefined)
    cache.set(cached)
    if (found.leaf !== undefined) chains.set(new ParsedChain(certificate, beside, [found.leaf, ...found.others]))
    return cached
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
    const chain = chainIn(written, text, companion)
    if (chain === ABSENT) return withoutCertificate('certificateRequired', `${headers.header} tells of a client and has no Cert; what Istio sets is read with certificate: 'istio'`)
    if (chain === MALFORMED) return PLACEHOLDER.test(text) ? WITHOUT_CERTIFICATE : withoutCertificate('badRequest', problemOf(written, text, companion))
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
// In place of `request.headers`: see raw-headers.ts.

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

// Cache of verified certificates

interface Source {
  /** The parsed certificates in a value that was read before: kept for the last ones that were asked for, or parsed again. */
  chainOf (cached: Cached): Chain
  /** A certificate takes more memory from now on. */
  grow (certificate: CachedCertificate, bytes: number): void
}

/** What is found by the value of a header. In one object, because each further one of ten thousand is far away in memory. */
export class Cached {
  readonly text: string
  readonly companion: string | undefined
  /** Of memory, estimated: set by the cache. */
  bytes = 0

  constructor (text: string, companion: string | undefined) {
    this.text = text
    this.companion = companion
  }
}

class ParsedChain extends Cached {
  readonly chain: Chain

  constructor (text: string, companion: string | undefined, chain: Chain) {
    super(text, companion)
    this.chain = chain
  }
}

/**
 * A certificate that counts, without the parsed one, which takes ten times the memory: the text of the header, and plain
 * values of what was worked out. Nothing in it may refer to a parsed certificate. Whoever asks for that may get a new object
 * each time.
 */
class CachedCertificate extends Cached implements PeerCertificate {
  readonly isPresent = true
  readonly isForwarded = true
  readonly refusal = undefined
  readonly reason = undefined
  readonly notBefore: number
  readonly notAfter: number
  readonly described: DescribedCertificate | undefined
  readonly fingerprints: Fingerprints | undefined
  verdict: Verdict | undefined
  verdicts: Map<TrustState, Verdict> | undefined
  identities: readonly object[] | undefined
  readonly #source: Source

  constructor (source: Source, text: string, companion: string | undefined, { leaf, described, others, notBefore, notAfter, verdict }: PeerCertificate, isVerifiedHere: boolean) {
    super(text, companion)
    this.notBefore = notBefore
    this.notAfter = notAfter
    this.described = described
    this.fingerprints = isVerifiedHere ? { leaf: leaf!.fingerprint256, others: others.map(({ fingerprint256 }) => fingerprint256) } : undefined
    this.verdict = verdict
    this.#source = source
  }

  get leaf (): X509Certificate | undefined {
    return this.#chain[0]
  }

  get others (): readonly X509Certificate[] {
    return this.#chain.slice(1)
  }

  /** Empty where it is only described. */
  get #chain (): readonly X509Certificate[] {
    return this.described === undefined ? this.#source.chainOf(this) : []
  }

  grow (bytes: number): void {
    this.#source.grow(this, bytes)
  }
}

/** How much memory a cache may take, estimated, in bytes. */
interface Budget {
  readonly most: number
  /** For each entry, besides its text. */
  readonly overhead: number
  /** For each character of its text. */
  readonly perCharacter: number
}

/**
 * As measured, a certificate takes 330 bytes besides its text, and 150 more with its place in the clients document: the last
 * 30,000 of 500 characters are always kept, or 12,000 of 2,000. What is worked out for one later (details and values, in
 * request/decorators.ts), some 1.6 kB, is counted when it comes, because a certificate may have thousands of names.
 */
const CERTIFICATES: Budget = { most: 60 * 1024 * 1024, overhead: 512, perCharacter: 1 }
/** With a verdict, and with fingerprints. */
const CERTIFICATES_VERIFIED_HERE: Budget = { ...CERTIFICATES, overhead: 1280 }
/** What was read of a description is kept beside it: a name of three letters takes a hundred bytes. */
const DESCRIPTIONS: Budget = { ...CERTIFICATES, perCharacter: 64 }
/**
 * The last one or two hundred that were parsed. OpenSSL and Node take eight kilobytes for one, and a hundred bytes for a name
 * of three letters.
 */
const PARSED_CHAINS: Budget = { most: 4 * 1024 * 1024, overhead: 8 * 1024, perCharacter: 16 }

const HASH = 'Hash='

/**
 * A cache by header value, in two generations: when the younger one takes half of the memory, it becomes the older one, and
 * the older one is dropped. An entry that is used moves to the younger one, so that the last used ones, up to half of the
 * memory, are always kept.
 */
export class VerifiedCache<Value extends Cached> {
  readonly #keyOf: (text: string) => string
  readonly #budget: Budget
  #young = new Map<string, Value>()
  #old = new Map<string, Value>()
  #bytes = 0

  constructor (written: Pick<CertificateHeaders, 'encoding' | 'hops'>, budget: Budget) {
    this.#keyOf = createKeyOf(written)
    this.#budget = budget
  }

  get (text: string, companion: string | undefined): Value | undefined {
    const key = this.#keyOf(text)
    const young = this.#young.get(key)
    const found = young ?? this.#old.get(key)
    if (found === undefined || found.text !== text || found.companion !== companion) return undefined
    if (young === undefined) this.#add(key, found)
    return found
  }

  set (value: Value): void {
    const { text, companion = '' } = value
    const { overhead, perCharacter } = this.#budget
    value.bytes = overhead + perCharacter * (text.length + companion.length)
    this.#add(this.#keyOf(text), value)
  }

  /** An entry takes more memory from now on. */
  grow (value: Value, bytes: number): void {
    value.bytes += bytes
    if (this.#young.get(this.#keyOf(value.text)) === value) this.#count(bytes)
  }

  #add (key: string, value: Value): void {
    const before = this.#young.get(key)
    this.#young.set(key, value)
    this.#count(value.bytes - (before?.bytes ?? 0))
  }

  #count (bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes <= this.#budget.most / 2) return
    this.#old = this.#young
    this.#young = new Map()
    this.#bytes = 0
  }
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
