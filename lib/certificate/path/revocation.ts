/**
 * Whether the certificates of a path were revoked (RFC 5280 §6.3), by lists that were given beforehand.
 */
import type { Facts } from './facts.ts'
import type { RevocationList } from './lists.ts'
import type { Work } from './work.ts'

/** What lists say of a certificate, and how long that is so. */
export interface Standing {
  /** Undefined: it was not revoked, or no revocation is checked. */
  readonly error?: string
  /** The first moment and the last one (inclusive), in milliseconds since the epoch. */
  readonly from: number
  readonly until: number
}

export type StandingOf = (certificate: Facts, issuer: Facts, now: number, work: Work) => Standing

/** With any list, every certificate needs one of its issuer. */
export function createStandingOf (lists: readonly RevocationList[]): StandingOf {
  if (lists.length === 0) return () => ({ from: -Infinity, until: Infinity })
  const byIssuer = new Map<string, RevocationList[]>()
  for (const list of lists) byIssuer.set(list.issuer, [...byIssuer.get(list.issuer) ?? [], list])
  for (const all of byIssuer.values()) all.sort((one, other) => other.thisUpdate - one.thisUpdate)

  return ({ fields }, issuer, now, work) => {
    const own = byIssuer.get(issuer.subject) ?? []
    if (own.length === 0) return refused('UNABLE_TO_GET_CRL')
    if (!issuer.uses.maySignLists) return refused('KEYUSAGE_NO_CRL_SIGN')
    const signed = own.filter((list) => list.isSignedBy(issuer, work))
    if (signed.length === 0) return refused('CRL_SIGNATURE_FAILURE')
    // The newest alone: an older one may list somebody who was only suspended, and not list who was revoked since.
    const list = signed.find((one) => problemOfDates(one, now) === undefined)
    if (list === undefined) return refused(problemOfDates(signed[0]!, now)!)
    if (list.problem !== undefined) return refused(list.problem)
    if (list.has(fields.serialNumber)) return refused('CERT_REVOKED')
    const next = Math.min(...signed.map(({ thisUpdate }) => thisUpdate > now ? thisUpdate - 1 : Infinity))
    return { from: list.thisUpdate, until: Math.min(list.nextUpdate, next) }
  }
}

function refused (error: string): Standing {
  return { error, from: NaN, until: NaN }
}

function problemOfDates ({ thisUpdate, nextUpdate }: RevocationList, now: number): string | undefined {
  if (thisUpdate > now) return 'CRL_NOT_YET_VALID'
  return now > nextUpdate ? 'CRL_HAS_EXPIRED' : undefined
}
