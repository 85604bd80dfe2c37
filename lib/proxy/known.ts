/**
 * Certificates that were verified before, by the header that they came in.
 */
import { createRequire } from 'node:module'
import type { LRUCache as Cache } from 'lru-cache'

/** Of memory, as well as can be told: some ten thousand certificates. */
const MOST_BYTES = 64 * 1024 * 1024
/** What OpenSSL and Node take for a parsed certificate, beside its text. */
const OVERHEAD = 4 * 1024

interface Entry<Value> {
  readonly text: string
  readonly beside: string | undefined
  readonly value: Value
}

export interface Known<Value> {
  get (text: string, beside: string | undefined): Value | undefined
  set (text: string, beside: string | undefined, value: Value): void
}

export function createKnown<Value> (): Known<Value> {
  // Loaded for whom a proxy serves.
  const { LRUCache } = createRequire(import.meta.url)('lru-cache') as { LRUCache: typeof Cache }
  const cache = new LRUCache<string, Entry<Value>>({
    maxSize: MOST_BYTES,
    sizeCalculation: ({ text, beside = '' }) => OVERHEAD + 2 * (text.length + beside.length)
  })
  return {
    get (text, beside) {
      const entry = cache.get(keyOf(text))
      return entry !== undefined && entry.text === text && entry.beside === beside ? entry.value : undefined
    },
    set (text, beside, value) {
      cache.set(keyOf(text), { text, beside, value })
    }
  }
}

/**
 * To hash all of a header takes longer than to compare it. These are pieces that differ between certificates, of the key
 * and of the signature; should they not, the newer one takes the place of the other.
 */
function keyOf (text: string): string {
  const middle = text.length >> 1
  return text.slice(middle, middle + 32) + text.slice(-96, -48)
}
