/**
 * The OCSP status (RFC 6960) of certificates: responders are asked when a handshake ends, and again at half the lifetime of
 * a response, so that no request waits for the next one. Begin with `OcspResponders.statusOf`.
 */
import { createHash, randomBytes } from 'node:crypto'
import { describe } from '../files/pem.ts'
import { readOr } from '../x509/der.ts'
import { certIdOf, createOcspRequest, MOST_OCSP_OCTETS, NONCE_OCTETS, OCSP_REQUEST, OCSP_RESPONSE, type OcspAnswer, readOcspResponse, responderOf } from '../x509/ocsp.ts'
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { CacheDirectory } from './cache-directory.ts'
import { type FetchProblems, SharedFetch } from './fetch-problems.ts'
import { type Fetcher, MOST_URLS, publicUrl } from './fetch.ts'
import type { OcspAnswers, OcspStatus } from './revocation.ts'

/** Milliseconds after which no status is requested any more for a certificate that no client has presented. */
const UNUSED = 60 * 60_000
/** Milliseconds: between checks for responses at half their lifetime; and the longest lifetime that is assumed. */
const LOOK = 5_000
const LONGEST_LIFE = 24 * 60 * 60_000
/** Milliseconds until the next request for a certificate whose response does not count; others are not delayed. */
const AFTER_FAILURE = 60_000
/** Certificates that are tracked. */
const MOST = 10_000

interface KnownStatus {
  readonly key: string
  readonly certificate: ParsedCertificate
  /** From the most recent path: the certificates of a CA are renewed. */
  issuer: ParsedCertificate
  /** The anchor of the path that it was found in, or the CA directly below it: see `ownerOf` in revocation.ts. */
  readonly owner: string
  readonly url: string
  answer: OcspAnswer | undefined
  /** When the response was received, in milliseconds since the epoch. */
  answeredAt: number
  /** Pending from the request until the response was read. */
  request: SharedFetch | undefined
  askedNotBefore: number
  /** Whether the directory was searched for a response from before a restart. */
  isRestored: boolean
  usedAt: number
  /** The status that `statusOf` returned last: verdicts may depend on it. */
  lastStatus: OcspStatus['status'] | undefined
}

interface Circumstances {
  readonly fetcher: Fetcher
  /** Keeps responses across restarts. */
  readonly directory?: CacheDirectory | undefined
  /** The configured responder; undefined for those that certificates name. */
  readonly url: string | undefined
  /** Called when a status is different from the one before. */
  readonly changed: () => void
  readonly problems: FetchProblems
  /** Aborts all requests. */
  readonly signal: () => AbortSignal
  /** Certificates that are tracked; 10,000 by default. */
  readonly most?: number
}

export class OcspResponders implements OcspAnswers {
  readonly #circumstances: Circumstances
  /** By CertID (RFC 6960 §4.1.1), which does not depend on the path or on the certificate of the issuer. */
  readonly #known = new Map<string, KnownStatus>()
  /** The same by owner, least recently used first. */
  readonly #entries = new Map<string, Map<string, KnownStatus>>()
  /** Responses that have still to be written, by file name. */
  readonly #unwritten = new Map<string, Buffer>()
  #isWriting = false

  constructor (circumstances: Circumstances) {
    this.#circumstances = circumstances
  }

  statusOf (certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate, now: number): OcspStatus | undefined {
    const entry = this.#entryOf(certificate, issuer, owner)
    if (entry === undefined) return undefined
    entry.usedAt = now
    const { answer } = entry
    const isCurrent = answer !== undefined && now <= answer.nextUpdate
    if (!isCurrent || isAtHalf(entry, now)) this.#request(entry, now)
    // A certificate that was revoked stays revoked after the response has expired.
    const status = isCurrent || answer?.status === 'revoked' ? answer.status : 'none'
    const pending = status === 'none' ? entry.request?.pending : undefined
    if (pending === undefined) entry.lastStatus = status
    return { status, from: Math.min(answer?.thisUpdate ?? -Infinity, entry.answeredAt), until: isCurrent ? answer.nextUpdate : Infinity, pending }
  }

  /** Asks again before responses expire. Returns a function that stops this. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      for (const entry of this.#known.values()) {
        if (now - entry.usedAt < UNUSED && (entry.answer === undefined || isAtHalf(entry, now))) this.#request(entry, now)
      }
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  #entryOf (certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate): KnownStatus | undefined {
    const key = certIdOf(certificate, issuer).toString('latin1')
    let entry = this.#known.get(key)
    if (entry === undefined) {
      const url = this.#circumstances.url ?? responderOf(certificate)
      if (url === undefined || !this.#admits(url, owner)) return undefined
      if (this.#known.size === (this.#circumstances.most ?? MOST)) this.#forget()
      entry = { key, certificate, issuer, owner: owner.certificate.fingerprint256, url, answer: undefined, answeredAt: -Infinity, request: undefined, askedNotBefore: -Infinity, isRestored: this.#circumstances.directory === undefined, usedAt: NaN, lastStatus: undefined }
      this.#known.set(key, entry)
    }
    entry.issuer = issuer
    const entries = this.#entries.get(entry.owner) ?? new Map<string, KnownStatus>()
    this.#entries.set(entry.owner, entries)
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  /** Whether a URL may be asked: an attacker with a CA can put any number into certificates. */
  #admits (url: string, { certificate }: ParsedCertificate): boolean {
    const { fetcher, problems } = this.#circumstances
    const owner = certificate.fingerprint256
    const isAdmitted = fetcher.admit(url, owner)
    if (!isAdmitted) problems.failed(owner, `below ${describe(certificate)}`, `certificates name more than ${MOST_URLS} URLs, and no others are asked`)
    return isAdmitted
  }

  /**
   * Forgets one certificate of the owner that has most, because an attacker with a CA can make any number: the least
   * recently used one, revoked ones last.
   */
  #forget (): void {
    const [owner, entries] = [...this.#entries].reduce((one, other) => other[1].size > one[1].size ? other : one)
    const all = entries.values()
    let entry = all.next().value!
    const first = entry
    while (entry.answer?.status === 'revoked') {
      // To the end, so that it is not reached again before all others.
      entries.delete(entry.key)
      entries.set(entry.key, entry)
      entry = all.next().value!
      if (entry === first) break
    }
    entries.delete(entry.key)
    this.#known.delete(entry.key)
    this.#unwritten.delete(nameOf(entry))
    this.#circumstances.directory?.remove(nameOf(entry))
    if (entries.size === 0) this.#entries.delete(owner)
  }

  #request (entry: KnownStatus, now: number): void {
    const { fetcher, problems, signal } = this.#circumstances
    const { url, owner } = entry
    if (entry.request !== undefined) return
    // The directory is searched even where the responder is known to be down.
    if (entry.isRestored && (now < entry.askedNotBefore || fetcher.delayOf(url, owner) > 0)) return
    const abortSignal = signal()
    entry.request = new SharedFetch(new Promise<void>((resolve) => {
      this.#fetch(entry, abortSignal, resolve).then(() => problems.succeeded(url), (error: Error) => {
        if (abortSignal.aborted) return
        // Where the responder does not answer at all, the fetcher's backoff decides.
        if (fetcher.delayOf(url, owner) === 0) entry.askedNotBefore = Date.now() + AFTER_FAILURE
        problems.failed(url, publicUrl(url), error.message)
      }).finally(() => {
        entry.request = undefined
        resolve()
      })
    }))
  }

  /** @param found called as soon as there is a response that counts */
  async #fetch (entry: KnownStatus, signal: AbortSignal, found: () => void): Promise<void> {
    if (!entry.isRestored) await this.#restore(entry)
    const { certificate, issuer, url, owner, answer: before } = entry
    if (before !== undefined && (before.status === 'revoked' || Date.now() <= before.nextUpdate)) found()
    const nonce = randomBytes(NONCE_OCTETS)
    const body = { type: OCSP_REQUEST, bytes: createOcspRequest(certificate, issuer, nonce) }
    const response = await this.#circumstances.fetcher.fetch(url, { owner, accept: OCSP_RESPONSE, most: MOST_OCSP_OCTETS, body, signal })
    const now = Date.now()
    const answer = readOcspResponse(response, { certificate, issuer, nonce, now })
    this.#take(entry, answer, now)
    if (answer.status !== before?.status || answer.thisUpdate !== before.thisUpdate) this.#keep(entry, response)
  }

  /** A copy is treated like a received response: its signature is verified. */
  async #restore (entry: KnownStatus): Promise<void> {
    const { certificate, issuer } = entry
    const kept = await this.#circumstances.directory?.read(nameOf(entry))
    entry.isRestored = true
    if (kept === undefined) return
    const now = Math.min(kept.writtenAt, Date.now())
    const answer = readOr(() => readOcspResponse(kept.bytes, { certificate, issuer, nonce: undefined, now }), undefined)
    if (answer !== undefined) this.#take(entry, answer, now)
  }

  /** Writes later, and only the last of several responses that have come meanwhile. */
  #keep (entry: KnownStatus, response: Buffer): void {
    const { directory } = this.#circumstances
    if (directory === undefined || this.#known.get(entry.key) !== entry) return
    this.#unwritten.set(nameOf(entry), response)
    if (!this.#isWriting) this.#write(directory)
  }

  async #write (directory: CacheDirectory): Promise<void> {
    this.#isWriting = true
    for (const [name, response] of this.#unwritten) {
      this.#unwritten.delete(name)
      await directory.write(name, response)
    }
    this.#isWriting = false
  }

  /** No rollback: a replayed older response does not replace a newer one. */
  #take (entry: KnownStatus, answer: OcspAnswer, answeredAt: number): void {
    const { answer: before, lastStatus } = entry
    const isReplayed = before !== undefined && (answer.thisUpdate < before.thisUpdate || (answer.thisUpdate === before.thisUpdate && before.status === 'revoked' && answer.status !== 'revoked'))
    if (isReplayed) throw new Error('its answer is older than the one before, which stays')
    entry.answer = answer
    entry.answeredAt = answeredAt
    // A client that was refused for lack of a response is judged again soon, and one that was admitted without one still is.
    const isGoodAtLast = lastStatus === 'none' && answer.status === 'good'
    if (lastStatus !== undefined && lastStatus !== answer.status && !isGoodAtLast) this.#circumstances.changed()
  }
}

function nameOf ({ key }: KnownStatus): string {
  return `ocsp-${createHash('sha256').update(key, 'latin1').digest('hex').slice(0, 40)}.der`
}

function isAtHalf ({ answer, answeredAt }: KnownStatus, now: number): boolean {
  return answer !== undefined && now > answeredAt + Math.min(answer.nextUpdate - answeredAt, LONGEST_LIFE) / 2
}
