/**
 * What OCSP responders (RFC 6960) say of certificates: asked when a handshake ends, and again at half the life of an answer,
 * so that no request waits for the next one.
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

/** Milliseconds after which a certificate that nobody has presented is not asked about any more. */
const UNUSED = 60 * 60_000
/** Milliseconds between looks for answers that are at half their life, and the longest life that an answer is believed to have. */
const LOOK = 5_000
const LONGEST_LIFE = 24 * 60 * 60_000
/** Milliseconds until a certificate is asked about again whose answer does not count. Others need not wait for that. */
const AFTER_FAILURE = 60_000
/** Certificates that are asked about. */
const MOST = 10_000

interface KnownStatus {
  readonly key: string
  readonly certificate: ParsedCertificate
  /** As it was in the path that was looked at last: certificates of one authority are renewed. */
  issuer: ParsedCertificate
  /** The anchor of the path that it was found in, or an authority directly below: see revocation.ts. */
  readonly owner: string
  readonly url: string
  answer: OcspAnswer | undefined
  /** When the answer came, in milliseconds since the epoch. */
  answeredAt: number
  /** From asking until the answer was read. */
  question: SharedFetch | undefined
  askedNotBefore: number
  /** Whether it was looked for an answer of before a restart. */
  isRestored: boolean
  usedAt: number
  /** What was said last of the certificate, which judgements may go by. */
  told: OcspStatus['status'] | undefined
}

interface Circumstances {
  readonly fetcher: Fetcher
  /** Where answers are kept. */
  readonly directory?: CacheDirectory | undefined
  /** Asked instead of those that certificates name. */
  readonly url: string | undefined
  /** Told of an answer that is another one than was said before. */
  readonly changed: () => void
  readonly problems: FetchProblems
  /** Ends all that is under way. */
  readonly signal: () => AbortSignal
  /** Certificates that are asked about; 10,000. */
  readonly most?: number
}

export class OcspResponders implements OcspAnswers {
  readonly #circumstances: Circumstances
  /** By what an answer is about (RFC 6960 §4.1.1), whatever path and certificate of the issuer there are. */
  readonly #known = new Map<string, KnownStatus>()
  /** The same by owner, those that were looked at last at the end. */
  readonly #entries = new Map<string, Map<string, KnownStatus>>()
  /** Answers that are still to be written, by the names of their files. */
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
    if (!isCurrent || isAtHalf(entry, now)) this.#ask(entry, now)
    // What is known to be revoked stays so, when the answer has ended as well.
    const status = isCurrent || answer?.status === 'revoked' ? answer.status : 'none'
    const pending = status === 'none' ? entry.question?.pending : undefined
    if (pending === undefined) entry.told = status
    return { status, from: Math.min(answer?.thisUpdate ?? -Infinity, entry.answeredAt), until: isCurrent ? answer.nextUpdate : Infinity, pending }
  }

  /** Asks anew in good time. Answers what stops it. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      for (const entry of this.#known.values()) {
        if (now - entry.usedAt < UNUSED && (entry.answer === undefined || isAtHalf(entry, now))) this.#ask(entry, now)
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
      entry = { key, certificate, issuer, owner: owner.certificate.fingerprint256, url, answer: undefined, answeredAt: -Infinity, question: undefined, askedNotBefore: -Infinity, isRestored: this.#circumstances.directory === undefined, usedAt: NaN, told: undefined }
      this.#known.set(key, entry)
    }
    entry.issuer = issuer
    const entries = this.#entries.get(entry.owner) ?? new Map<string, KnownStatus>()
    this.#entries.set(entry.owner, entries)
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  /** Whoever has a CA of their own can name any number. */
  #admits (url: string, { certificate }: ParsedCertificate): boolean {
    const { fetcher, problems } = this.#circumstances
    const owner = certificate.fingerprint256
    const isAdmitted = fetcher.admit(url, owner)
    if (!isAdmitted) problems.failed(owner, `below ${describe(certificate)}`, `certificates name more than ${MOST_URLS} URLs, and no others are asked`)
    return isAdmitted
  }

  /**
   * The one that was not looked at for the longest time, of the owner that has most of them: whoever has a CA of their own
   * can make any number. Those that were revoked go last.
   */
  #forget (): void {
    const [owner, entries] = [...this.#entries].reduce((one, other) => other[1].size > one[1].size ? other : one)
    const all = entries.values()
    let entry = all.next().value!
    const first = entry
    while (entry.answer?.status === 'revoked') {
      // Not looked at again before all others.
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

  #ask (entry: KnownStatus, now: number): void {
    const { fetcher, problems, signal } = this.#circumstances
    const { url, owner } = entry
    if (entry.question !== undefined) return
    // What was kept is looked for also where the responder is known to be down.
    if (entry.isRestored && (now < entry.askedNotBefore || fetcher.delayOf(url, owner) > 0)) return
    const ending = signal()
    entry.question = new SharedFetch(new Promise<void>((resolve) => {
      this.#answer(entry, ending, resolve).then(() => problems.succeeded(url), (error: Error) => {
        if (ending.aborted) return
        // Of one that does not answer at all, the fetcher knows when to ask it again.
        if (fetcher.delayOf(url, owner) === 0) entry.askedNotBefore = Date.now() + AFTER_FAILURE
        problems.failed(url, publicUrl(url), error.message)
      }).finally(() => {
        entry.question = undefined
        resolve()
      })
    }))
  }

  /** @param found called as soon as there is an answer that counts */
  async #answer (entry: KnownStatus, signal: AbortSignal, found: () => void): Promise<void> {
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

  /** What was kept is only as good as what is fetched: it is signed. */
  async #restore (entry: KnownStatus): Promise<void> {
    const { certificate, issuer } = entry
    const kept = await this.#circumstances.directory?.read(nameOf(entry))
    entry.isRestored = true
    if (kept === undefined) return
    const now = Math.min(kept.writtenAt, Date.now())
    const answer = readOr(() => readOcspResponse(kept.bytes, { certificate, issuer, nonce: undefined, now }), undefined)
    if (answer !== undefined) this.#take(entry, answer, now)
  }

  /** At leisure, and only the last one where several have come meanwhile. */
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

  /** Nothing goes backwards: an answer of before, sent again, takes the place of none. */
  #take (entry: KnownStatus, answer: OcspAnswer, answeredAt: number): void {
    const { answer: before, told } = entry
    const isReplayed = before !== undefined && (answer.thisUpdate < before.thisUpdate || (answer.thisUpdate === before.thisUpdate && before.status === 'revoked' && answer.status !== 'revoked'))
    if (isReplayed) throw new Error('its answer is older than the one before, which stays')
    entry.answer = answer
    entry.answeredAt = answeredAt
    // Whoever was refused for want of an answer is looked at again soon, and whoever was let in without one still is.
    const isGoodAtLast = told === 'none' && answer.status === 'good'
    if (told !== undefined && told !== answer.status && !isGoodAtLast) this.#circumstances.changed()
  }
}

function nameOf ({ key }: KnownStatus): string {
  return `ocsp-${createHash('sha256').update(key, 'latin1').digest('hex').slice(0, 40)}.der`
}

function isAtHalf ({ answer, answeredAt }: KnownStatus, now: number): boolean {
  return answer !== undefined && now > answeredAt + Math.min(answer.nextUpdate - answeredAt, LONGEST_LIFE) / 2
}
