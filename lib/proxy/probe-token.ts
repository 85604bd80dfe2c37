/**
 * The token of the probe: its holder may ask the app which headers the proxy lets through. It gives access to nothing else,
 * and expires soon. Begin with {@link makeProbeToken} and {@link parseProbeToken}.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { inspect } from 'node:util'

/** The path that an app answers at. */
export const PROBE_PATH = '/.well-known/fastify-http-security'
/** Its routes. A proxy may treat each path in its own way: for /partners/, the path is /partners/.well-known/fastify-http-security. */
export const PROBE_URLS: readonly string[] = [PROBE_PATH, '/*']
/** The header that has the token. Not the query, which would end up in logs. */
export const PROBE_HEADER = 'x-http-security-probe'
/** The name of the routes' constraint. */
export const PROBE_CONSTRAINT = 'httpSecurityProbe'
/** The longest time in minutes: a token that lasts longer would be forgotten in a configuration. */
export const MOST_MINUTES = 24 * 60

/** The time of its expiry in Unix seconds, and 128 random bits. */
const TOKEN = /^([1-9]\d{0,11})\.[0-9a-f]{32}$/

/**
 * An expected token. It is one of a route's constraints, which are printed; hence neither the token is printed, which is a
 * secret, nor its expiry, which would differ between two audits that are compared.
 */
export class ProbeToken {
  /** Milliseconds since the epoch. */
  readonly expires: number
  readonly #hash: Buffer

  constructor (expires: number, hash: Buffer) {
    this.expires = expires
    this.#hash = hash
    Object.freeze(this)
  }

  /** In constant time: hashes have the same length, and an attacker cannot choose the hash. */
  isOf (hash: Buffer): boolean {
    return timingSafeEqual(this.#hash, hash)
  }

  // Not toString: the router would compare tokens by it.
  toJSON (): string {
    return 'token'
  }

  [inspect.custom] (): string {
    return this.toJSON()
  }
}

/** A new token, as text. */
export function makeProbeToken (minutes: number): string {
  return `${Math.floor(Date.now() / 1000) + minutes * 60}.${randomBytes(16).toString('hex')}`
}

/** A token from its text, expired or not; `undefined` where the text is not one. */
export function parseProbeToken (text: string): ProbeToken | undefined {
  const match = TOKEN.exec(text)
  return match === null ? undefined : new ProbeToken(Number(match[1]) * 1000, hashProbeToken(text))
}

/** @param text that a client has sent */
export function hashProbeToken (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/**
 * Whether a client has sent this token, and it has not expired.
 *
 * @param given the hash of what the client has sent
 */
export function isProbeToken (token: ProbeToken, given: Buffer): boolean {
  const isIt = token.isOf(given)
  return isIt && Date.now() < token.expires
}
