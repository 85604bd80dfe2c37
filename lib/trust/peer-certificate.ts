/**
 * A client certificate as it was presented, on the client's own connection or by a proxy, with its last verdict. Begin with
 * `peerCertificate`; `keptVerdict` and `keepVerdict` are the cache of verdicts.
 */
import type { X509Certificate } from 'node:crypto'
import type { Refusal } from '../errors.ts'
import type { DescribedCertificate } from '../x509/known-certificate.ts'
import { validityOf } from '../x509/fields.ts'
import { refusalOf } from '../x509/reasons.ts'

/** What a judgement is made by: see store.ts, which is loaded only where there are client CAs of our own. */
export interface TrustState {
  /** The trust epoch: changes with each change, and makes all earlier judgements invalid. */
  readonly epoch: number
  /**
   * The labels of the client CAs that a certificate is issued by, over every valid path: see `TrustStore.labelsOf`. Empty
   * where it is not valid.
   */
  labelsOf (leaf: X509Certificate, others: readonly X509Certificate[], now: number): ReadonlySet<string>
  /** The problem with a certificate in words, for the log; undefined where OpenSSL's name of the error says it all. */
  explain (leaf: X509Certificate, error: string): string | undefined
}

/** The result for a certificate, and the period in which it holds. Frozen. */
export interface Judgement {
  readonly store: TrustState
  readonly epoch: number
  /** OpenSSL's name of the error, as in `authorizationError`; undefined where the certificate is valid. */
  readonly error: string | undefined
  /** The period, inclusive, in milliseconds since the epoch; empty while the judgement is pending. */
  readonly from: number
  readonly until: number
  /** What to wait for; undefined where there is nothing. */
  readonly pending: Promise<unknown> | undefined
}

export interface PeerCertificate {
  /** Whether there is a certificate, valid or not: in `leaf`, or described by a proxy. Without one there is no verdict. */
  readonly isPresent: boolean
  /**
   * The client's own certificate; undefined where there is none, and where a proxy has only described it. One that is cached is
   * parsed when it is asked for: for `isPresent`, do not ask.
   */
  readonly leaf: X509Certificate | undefined
  /** What a proxy has said of the certificate instead of forwarding it. */
  readonly described: DescribedCertificate | undefined
  /** The other certificates that were sent, in their order. */
  readonly others: readonly X509Certificate[]
  /** Of one that is cached, where its chain is verified here: what its labels are known by. */
  readonly fingerprints: Fingerprints | undefined
  /** Milliseconds since the epoch, as in the certificate; NaN where it cannot be read, without limits where it is described. */
  readonly notBefore: number
  readonly notAfter: number
  /** Whether it came in a header of a trusted proxy. */
  readonly isForwarded: boolean
  /** Why a forwarded certificate does not count, whatever the CAs; `undefined` where there is no such reason. */
  readonly refusal: Refusal | undefined
  /** The same in the words of the proxy that verified it, or the problem with the header. */
  readonly reason: string | undefined
  /** The last verdict, where we verify the certificate ourselves. */
  verdict: Verdict | undefined
  /** The verdicts for several hosts, each with its own trust, once a connection was used for several. */
  verdicts: Map<TrustState, Verdict> | undefined
  /** Whose it is, as request/rules.ts has worked it out: here it is found faster than in a WeakMap. */
  identities: readonly object[] | undefined
  /** Counts bytes of memory that are kept with it from now on, where it is cached. */
  grow?: (bytes: number) => void
}

/** `fingerprint256` of the client's certificate and of the others. */
export interface Fingerprints {
  readonly leaf: string
  readonly others: readonly string[]
}

/** A judgement, and the refusal that follows from it. */
export interface Verdict {
  readonly judgement: Judgement
  readonly refusal: Refusal | undefined
  /** OpenSSL's name of the error; null where there is none. */
  readonly reason: string | null
}

type Circumstances = Partial<Pick<PeerCertificate, 'others' | 'isForwarded' | 'refusal' | 'reason'>>

const NONE: readonly X509Certificate[] = Object.freeze([])

export function peerCertificate (leaf: X509Certificate, { others = NONE, isForwarded = false, refusal, reason }: Circumstances = {}): PeerCertificate {
  const { notBefore, notAfter } = validityOf(leaf)
  return { isPresent: true, leaf, described: undefined, others, fingerprints: undefined, notBefore, notAfter, isForwarded, refusal, reason, verdict: undefined, verdicts: undefined, identities: undefined }
}

/** Its dates are not judged: the proxy has not forwarded them. */
export function describedPeerCertificate (described: DescribedCertificate, { refusal, reason }: Circumstances = {}): PeerCertificate {
  return { isPresent: true, leaf: undefined, described, others: NONE, fingerprints: undefined, notBefore: -Infinity, notAfter: Infinity, isForwarded: true, refusal, reason, verdict: undefined, verdicts: undefined, identities: undefined }
}

/** @param circumstances the reason, where it is not simply that no certificate was presented */
export function noPeerCertificate ({ isForwarded = false, refusal, reason }: Circumstances = {}): PeerCertificate {
  return { isPresent: false, leaf: undefined, described: undefined, others: NONE, fingerprints: undefined, notBefore: NaN, notAfter: NaN, isForwarded, refusal, reason, verdict: undefined, verdicts: undefined, identities: undefined }
}

/** The cached verdict, where it is still valid now. */
export function keptVerdict ({ verdict: last, verdicts }: PeerCertificate, store: TrustState, now: number): Verdict | undefined {
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

/** Invalid also where a date could not be read: every comparison with NaN is false. */
export function refusalOfDates ({ notBefore, notAfter }: PeerCertificate, now: number): Refusal | undefined {
  if (now > notAfter) return 'certificateExpired'
  if (now < notBefore) return 'certificateNotYetValid'
  return now >= notBefore && now <= notAfter ? undefined : 'certificateInvalid'
}

/** Whether a judgement is still valid at this moment. */
export function holds ({ store, epoch, from, until }: Judgement, now: number): boolean {
  return epoch === store.epoch && now >= from && now <= until
}
