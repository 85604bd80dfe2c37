/**
 * The vocabulary: how an element may be reached, and what it is.
 *
 * A level's rank is its place in the list, so that "stricter" is a comparison of numbers.
 */

/** `none` < `tls` (HTTPS is used) < `mtls` (HTTPS is used and a valid client certificate is required). */
export const LEVELS = ['none', 'tls', 'mtls'] as const
/** A page a person looks at, and the two integrations: exposed REST and SOAP services. */
export const KINDS = ['screen', 'rest', 'soap'] as const

export type Level = typeof LEVELS[number]
export type Kind = typeof KINDS[number]

/** Ranks, for code that compares levels. */
export const NONE = 0
export const TLS = 1
export const MTLS = 2
export type Rank = typeof NONE | typeof TLS | typeof MTLS

const RANKS: ReadonlyMap<Level, Rank> = new Map([['none', NONE], ['tls', TLS], ['mtls', MTLS]])

/** The rank of a level; no level is the laxest. */
export function rankOf (level: Level | undefined): Rank {
  if (level === undefined) return NONE
  const rank = RANKS.get(level)
  // Checked where it came in; but whoever changes it after that must not end up with no level at all.
  if (rank === undefined) throw new TypeError(`no such level: ${String(level)}`)
  return rank
}

/** The stricter of two ranks. */
export function stricter (a: Rank, b: Rank): Rank {
  return a > b ? a : b
}
