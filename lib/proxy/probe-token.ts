/**
 * The token that opens the probe: who has it may ask the app what its proxy let through. It opens nothing else, and soon
 * nothing at all.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { inspect } from 'node:util'

/** Where an app answers. */
export const PROBE_PATH = '/.well-known/fastify-http-security'
/** Its routes. A proxy may treat each path in its own way: of /partners/ it is asked at /partners/.well-known/fastify-http-security. */
export const PROBE_URLS: readonly string[] = [PROBE_PATH, '/*']
/** The header that a token comes in: a query would end up in logs. */
export const PROBE_HEADER = 'x-http-security-probe'
/** The router's constraint that the route has. */
export const PROBE_CONSTRAINT = 'httpSecurityProbe'
/** Minutes: what lasts longer is forgotten in a configuration. */
export const MOST_MINUTES = 24 * 60

/** When it expires, in Unix seconds, and 128 random bits. */
const TOKEN = /^([1-9]\d{0,11})\.[0-9a-f]{32}$/

/**
 * A token that is expected. It does not show in what prints it, nor does its expiry, which is another one each time: a
 * route has it among its constraints, and audits are compared.
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

  /** How long the comparison takes says nothing: hashes are of one length, and nobody can choose theirs. */
  isOf (hash: Buffer): boolean {
    return timingSafeEqual(this.#hash, hash)
  }

  // No toString, which the router would compare tokens by.
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

/** The token that a text is, expired or not; `undefined` where it is none. */
export function parseProbeToken (text: string): ProbeToken | undefined {
  const match = TOKEN.exec(text)
  return match === null ? undefined : new ProbeToken(Number(match[1]) * 1000, hashProbeToken(text))
}

/** Of whatever text somebody sends. */
export function hashProbeToken (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/**
 * Whether it is that token, and still opens something.
 *
 * @param given the hash of what was sent
 */
export function isProbeToken (token: ProbeToken, given: Buffer): boolean {
  const isIt = token.isOf(given)
  return isIt && Date.now() < token.expires
}
