/**
 * A client certificate as it was presented: on the client's own connection, or through a proxy.
 */
import type { X509Certificate } from 'node:crypto'
import type { Refusal } from '../errors.ts'
import { validityOf } from '../x509/fields.ts'
import { refusalOf } from '../x509/reasons.ts'
import { holds, type Judgement, type TrustStore } from './store.ts'

export interface PeerCertificate {
  /** The client's own certificate; no verdict stands without one. */
  readonly leaf: X509Certificate | undefined
  /** What came along with it, in the order in which it was sent. */
  readonly others: readonly X509Certificate[]
  /** Milliseconds since the epoch, as in the certificate; NaN where it cannot be read. */
  readonly notBefore: number
  readonly notAfter: number
  /** It came in a header of a trusted proxy. */
  readonly isForwarded: boolean
  /** Why a forwarded one does not count, whoever is trusted; `undefined` where nothing speaks against it. */
  readonly refusal: Refusal | undefined
  /** The same in the words of the proxy that verified it, or what is wrong with the header. */
  readonly reason: string | undefined
  /** Where we verify it: what came of that last. */
  verdict: Verdict | undefined
  /** The same under the trust of each host, once its connection was used for several. */
  verdicts: Map<TrustStore, Verdict> | undefined
}

/** A judgement, and what follows from it. */
export interface Verdict {
  readonly judgement: Judgement
  readonly refusal: Refusal | undefined
  /** In OpenSSL's words; null where there is none. */
  readonly reason: string | null
}

type Circumstances = Partial<Pick<PeerCertificate, 'others' | 'isForwarded' | 'refusal' | 'reason'>>

const NONE: readonly X509Certificate[] = Object.freeze([])

export function peerCertificate (leaf: X509Certificate, { others = NONE, isForwarded = false, refusal, reason }: Circumstances = {}): PeerCertificate {
  const { notBefore, notAfter } = validityOf(leaf)
  return { leaf, others, notBefore, notAfter, isForwarded, refusal, reason, verdict: undefined, verdicts: undefined }
}

/** @param circumstances why, where it is more than that no certificate was presented */
export function noPeerCertificate ({ isForwarded = false, refusal, reason }: Circumstances = {}): PeerCertificate {
  return { leaf: undefined, others: NONE, notBefore: NaN, notAfter: NaN, isForwarded, refusal, reason, verdict: undefined, verdicts: undefined }
}

/** What is known already, if it is about this moment. */
export function keptVerdict ({ verdict: last, verdicts }: PeerCertificate, store: TrustStore, now: number): Verdict | undefined {
  const verdict = last?.judgement.store === store ? last : verdicts?.get(store)
  return verdict !== undefined && holds(verdict.judgement, now) ? verdict : undefined
}

export function keepVerdict (found: PeerCertificate, verdict: Verdict): Verdict {
  const { verdict: last } = found
  const { store } = verdict.judgement
  if (last !== undefined && last.judgement.store !== store) found.verdicts ??= new Map([[last.judgement.store, last]])
  found.verdicts?.set(store, verdict)
  return (found.verdict = verdict)
}

export function verdictOf (judgement: Judgement): Verdict {
  const { error } = judgement
  return { judgement, refusal: error === undefined ? undefined : refusalOf(error), reason: error ?? null }
}

/** Neither comparison holds for a date that could not be read. */
export function refusalOfDates ({ notBefore, notAfter }: PeerCertificate, now: number): Refusal | undefined {
  if (now > notAfter) return 'certificateExpired'
  if (now < notBefore) return 'certificateNotYetValid'
  return now >= notBefore && now <= notAfter ? undefined : 'certificateInvalid'
}
