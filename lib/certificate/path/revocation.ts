/**
 * Whether the certificates of a path were revoked (RFC 5280 §6.3), by lists that were given beforehand.
 */
import { readOr } from '../der.ts'
import type { Facts } from './facts.ts'
import { readList, type RevocationList } from './lists.ts'
import type { Work } from './work.ts'

/** A list that counts, or what is wrong; neither where no revocation is checked. */
export interface Standing {
  readonly error?: string
  readonly list?: RevocationList
}

export type StandingOf = (certificate: Facts, issuer: Facts, now: number, work: Work) => Standing

/** With any list, also with one that cannot be read, every certificate needs one of its issuer. */
export function createStandingOf (lists: readonly Buffer[]): StandingOf {
  if (lists.length === 0) return () => ({})
  const byIssuer = new Map<string, RevocationList[]>()
  for (const list of lists.flatMap((der) => readOr(() => [readList(der)], []))) {
    byIssuer.set(list.issuer, [...byIssuer.get(list.issuer) ?? [], list])
  }
  // The newest first: with two of them, an older one may list somebody who was only suspended.
  for (const all of byIssuer.values()) all.sort((one, other) => other.thisUpdate - one.thisUpdate)

  return ({ fields }, issuer, now, work) => {
    const own = byIssuer.get(issuer.subject) ?? []
    if (own.length === 0) return { error: 'UNABLE_TO_GET_CRL' }
    if (!issuer.uses.maySignLists) return { error: 'KEYUSAGE_NO_CRL_SIGN' }
    const signed = own.filter((list) => list.isSignedBy(issuer, work))
    if (signed.length === 0) return { error: 'CRL_SIGNATURE_FAILURE' }
    const problems = signed.map((list) => problemOf(list, now))
    const list = signed[problems.indexOf(undefined)]
    if (list === undefined) return { error: problems[0] }
    return list.has(fields.serialNumber) ? { error: 'CERT_REVOKED' } : { list }
  }
}

function problemOf ({ problem, thisUpdate, nextUpdate }: RevocationList, now: number): string | undefined {
  // What has no readable date is in none.
  if (!(thisUpdate <= now)) return 'CRL_NOT_YET_VALID'
  if (!(now <= nextUpdate)) return 'CRL_HAS_EXPIRED'
  return problem
}
