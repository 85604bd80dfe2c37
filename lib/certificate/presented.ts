/**
 * A client certificate as it was presented: on the client's own connection, or through a proxy.
 */
import type { X509Certificate } from 'node:crypto'
import type { Refusal } from '../errors.ts'
import { FOREVER, type Term } from '../link.ts'
import { validityOf } from './fields.ts'

/** Frozen. */
export interface Presented {
  /** The client's own certificate; no verdict stands without one. */
  readonly leaf: X509Certificate | undefined
  /** Milliseconds since the epoch, as in the certificate; NaN where it cannot be read. */
  readonly notBefore: number
  readonly notAfter: number
  /** Between these a verdict can be good: an authority or a list may begin after the certificate does, or end before. */
  readonly from: number
  readonly until: number
  /** Whom the server trusted when it was verified. */
  readonly term: Term
  /** Judged for good but for its dates. The verdict of a connection is read from the connection again and again. */
  readonly isForwarded: boolean
  /** Why a forwarded one does not count, its dates apart; `undefined` where it does. */
  readonly refusal: Refusal | undefined
  /** The same in the words of whoever verified it, or what is wrong with the header. */
  readonly reason: string | undefined
}

type Facts = Partial<Omit<Presented, 'leaf' | 'notBefore' | 'notAfter'>>

export function presented (leaf: X509Certificate, { from, until, term = FOREVER, isForwarded = false, refusal, reason }: Facts): Presented {
  const { notBefore, notAfter } = validityOf(leaf)
  return Object.freeze({ leaf, notBefore, notAfter, from: from ?? notBefore, until: until ?? notAfter, term, isForwarded, refusal, reason })
}

/** @param reason why, where it is not plain that nobody presented anything */
export function absent ({ isForwarded = false, refusal, reason }: Facts = {}): Presented {
  return Object.freeze({ leaf: undefined, notBefore: NaN, notAfter: NaN, from: NaN, until: NaN, term: FOREVER, isForwarded, refusal, reason })
}
