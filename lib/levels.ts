/**
 * Levels (how an element may be reached) and kinds (what it is).
 *
 * A level's rank is its place in the list, so that "stricter" is a comparison of numbers.
 */

export const LEVELS = ['none', 'tls', 'mtls'] as const
export const KINDS = ['screen', 'rest', 'soap'] as const

/**
 * How an element may be reached. `'none'` < `'tls'` < `'mtls'`.
 *
 * - `'none'`: over HTTP and HTTPS.
 * - `'tls'`: over HTTPS; a client certificate is accepted, and not required.
 * - `'mtls'`: over HTTPS, with a valid client certificate.
 */
export type Level = typeof LEVELS[number]

/**
 * What an element is; it decides how a refusal looks.
 *
 * - `'screen'`: a page that a person looks at. An insecure GET or HEAD is redirected to HTTPS.
 * - `'rest'`: an exposed REST service. A refusal is a Fastify error.
 * - `'soap'`: an exposed SOAP service. A refusal is a SOAP fault.
 *
 * `'rest'` and `'soap'` together are integrations. An element without a kind is undeclared: what the request asks for
 * (`Accept`, `SOAPAction`) decides.
 */
export type Kind = typeof KINDS[number]

/** Ranks, for code that compares levels. */
export const NONE = 0
export const TLS = 1
export const MTLS = 2
export type Rank = typeof NONE | typeof TLS | typeof MTLS

const RANKS: ReadonlyMap<Level, Rank> = new Map([['none', NONE], ['tls', TLS], ['mtls', MTLS]])

/** The rank of a level; no level is the least strict. */
export function rankOf (level: Level | undefined): Rank {
  if (level === undefined) return NONE
  const rank = RANKS.get(level)
  // The option was validated; but code that changes it afterwards must not end up with no level at all.
  if (rank === undefined) throw new TypeError(`no such level: ${String(level)}`)
  return rank
}

/** The stricter of two ranks. */
export function stricter (a: Rank, b: Rank): Rank {
  return a > b ? a : b
}
