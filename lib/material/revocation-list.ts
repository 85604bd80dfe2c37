/** A revocation list that was read, and what is said of one that is not in force. */
import type { X509Certificate } from 'node:crypto'
import type { RevocationList as ParsedList } from '../certificate/path/lists.ts'

export interface RevocationList {
  readonly source: string
  readonly der: Buffer
  /** What it says, read strictly. */
  readonly parsed: ParsedList
  /** Who issued it, in words. */
  readonly issuer: string
  /** DER of the same. */
  readonly name: Buffer
  readonly fingerprint: string
  /** Milliseconds since the epoch; Infinity where it does not say. */
  readonly thisUpdate: number
  readonly nextUpdate: number
  /** It was read outside of its dates: every client of its issuer is then refused. */
  readonly isStale: boolean
  /** Whether an authority is its issuer. */
  isOf (authority: X509Certificate): boolean
}

/** Whether two are of the same issuer. */
export function isBeside (one: RevocationList, other: RevocationList): boolean {
  return one.name.equals(other.name)
}

/** Of one that is not in force now. */
export function stalenessOf ({ issuer, thisUpdate, nextUpdate }: RevocationList): string {
  return Date.now() < thisUpdate
    ? `the revocation list of ${issuer} is not valid before ${new Date(thisUpdate).toUTCString()}`
    : `the revocation list of ${issuer} is out of date since ${new Date(nextUpdate).toUTCString()}`
}

export function outOfDate (list: RevocationList): string {
  return `${list.source}: ${stalenessOf(list)}: until there is a new one, clients of ${list.issuer} are refused`
}
