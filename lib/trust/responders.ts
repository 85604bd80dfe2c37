/**
 * What OCSP responders (RFC 6960) say of certificates: asked when a handshake ends, and again at half the life of an answer,
 * so that no request waits for the next one.
 */
import { randomBytes } from 'node:crypto'
import { contentOf, INTEGER } from '../certificate/der.ts'
import type { Facts } from '../certificate/path/facts.ts'
import { type Fetcher, publicUrl } from './fetch.ts'
import { createOcspRequest, MOST_OCSP_OCTETS, NONCE_OCTETS, OCSP_REQUEST, OCSP_RESPONSE, type OcspAnswer, readOcspResponse, responderOf } from './ocsp.ts'
import type { OcspAnswers, OcspStatus } from './revocation.ts'

/** Milliseconds that a question is waited for; what comes later counts from then on. */
const LONGEST_WAIT = 3_000
/** Milliseconds after which a certificate that nobody has presented is not asked about any more. */
const UNUSED = 60 * 60_000
/** Milliseconds between looks for answers that are at half their life, and the longest life that an answer is believed to have. */
const LOOK = 5_000
const LONGEST_LIFE = 24 * 60 * 60_000
/** Milliseconds after an answer that does not count until the same certificate is asked about again. */
const AFTER_LIE = 60_000
/** Certificates that are asked about. Those that were revoked are forgotten last. */
const MOST = 4_000

interface Entry {
  readonly certificate: Facts
  readonly issuer: Facts
  /** The anchor of the path that it was found in. */
  readonly owner: string
  answer: OcspAnswer | undefined
  /** When the answer came, in milliseconds since the epoch. */
  answeredAt: number
  question: { readonly promise: Promise<void>, readonly askedAt: number } | undefined
  /** After an answer that does not count: no other certificate of that responder has to wait. */
  askedNotBefore: number
  usedAt: number
}

const NONE: OcspStatus = Object.freeze({ status: 'none', from: -Infinity, until: Infinity, pending: undefined })

interface Circumstances {
  readonly fetcher: Fetcher
  /** Asked instead of those that certificates name. */
  readonly url: string | undefined
  /** Told of an answer that may change what was judged before. */
  readonly changed: () => void
  readonly warn: (message: string) => void
}

export class Responders implements OcspAnswers {
  readonly #circumstances: Circumstances
  readonly #entries = new Map<string, Entry>()
  /** Failures that were told, by responder. */
  readonly #told = new Map<string, string>()

  constructor (circumstances: Circumstances) {
    this.#circumstances = circumstances
  }

  statusOf (certificate: Facts, issuer: Facts, anchor: Facts, now: number): OcspStatus {
    const url = this.#urlOf(certificate)
    if (url === undefined) return NONE
    const entry = this.#entryOf(certificate, issuer, anchor)
    entry.usedAt = now
    const { answer } = entry
    const isCurrent = answer !== undefined && now <= answer.nextUpdate
    if (!isCurrent || isAtHalf(entry, now)) this.#ask(entry, url, now)
    // What is known to be revoked stays so, when the answer has ended as well.
    if (answer?.status === 'revoked') return { status: 'revoked', from: -Infinity, until: Infinity, pending: undefined }
    if (isCurrent) return { status: answer.status, from: Math.min(answer.thisUpdate, entry.answeredAt), until: answer.nextUpdate, pending: undefined }
    const { question } = entry
    return question !== undefined && now - question.askedAt < LONGEST_WAIT ? { ...NONE, pending: question.promise } : NONE
  }

  /** Asks anew in good time. Answers what stops it. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      for (const entry of this.#entries.values()) {
        const url = this.#urlOf(entry.certificate)
        if (url !== undefined && now - entry.usedAt < UNUSED && (entry.answer === undefined || isAtHalf(entry, now))) this.#ask(entry, url, now)
      }
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  #urlOf (certificate: Facts): string | undefined {
    return this.#circumstances.url ?? responderOf(certificate)
  }

  #entryOf (certificate: Facts, issuer: Facts, anchor: Facts): Entry {
    const key = `${issuer.certificate.fingerprint256} ${contentOf(certificate.fields.serialNumber, INTEGER).toString('hex')}`
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      if (this.#entries.size >= MOST) this.#forget()
      this.#entries.set(key, entry = { certificate, issuer, owner: anchor.certificate.fingerprint256, answer: undefined, answeredAt: NaN, question: undefined, askedNotBefore: -Infinity, usedAt: NaN })
    }
    return entry
  }

  #forget (): void {
    const key = [...this.#entries].find(([, { answer, question }]) => answer?.status !== 'revoked' && question === undefined)?.[0] ?? this.#entries.keys().next().value!
    this.#entries.delete(key)
  }

  #ask (entry: Entry, url: string, now: number): void {
    const { fetcher } = this.#circumstances
    if (entry.question !== undefined || now < entry.askedNotBefore || fetcher.delayOf(url, entry.owner) > 0) return
    const nonce = randomBytes(NONCE_OCTETS)
    const { certificate, issuer, owner } = entry
    const promise = fetcher.fetch(url, { owner, accept: OCSP_RESPONSE, most: MOST_OCSP_OCTETS, body: { type: OCSP_REQUEST, bytes: createOcspRequest(certificate, issuer, nonce) } })
      .then((response) => this.#take(entry, readOcspResponse(response, { certificate, issuer, nonce, now: Date.now() })))
      .then(() => { this.#told.delete(url) }, (error: Error) => {
        entry.askedNotBefore = Date.now() + AFTER_LIE
        this.#tell(url, error.message.startsWith(publicUrl(url)) ? error.message : `${publicUrl(url)}: ${error.message}`)
      })
      .finally(() => { entry.question = undefined })
    entry.question = { promise, askedAt: now }
  }

  /** Nothing goes backwards: an answer of before, sent again, takes the place of none. */
  #take (entry: Entry, answer: OcspAnswer): void {
    const before = entry.answer
    if (before !== undefined && answer.thisUpdate < before.thisUpdate) return
    const wasWaitedFor = before === undefined && entry.question !== undefined && Date.now() - entry.question.askedAt < LONGEST_WAIT
    entry.answer = answer
    entry.answeredAt = Date.now()
    if (before?.status !== answer.status && !(wasWaitedFor && answer.status === 'good')) this.#circumstances.changed()
  }

  #tell (url: string, message: string): void {
    if (this.#told.get(url) === message) return
    if (this.#told.size >= MOST) this.#told.clear()
    this.#told.set(url, message)
    this.#circumstances.warn(`OCSP: ${message}`)
  }
}

function isAtHalf ({ answer, answeredAt }: Entry, now: number): boolean {
  return answer !== undefined && now > answeredAt + Math.min(answer.nextUpdate - answeredAt, LONGEST_LIFE) / 2
}
