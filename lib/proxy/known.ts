/**
 * Certificates that were verified before, by the header that they came in.
 */
import { createRequire } from 'node:module'
import type { LRUCache as Cache } from 'lru-cache'
import type { Encoding } from './presets.ts'

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

export function createKnown<Value> (encoding: Encoding): Known<Value> {
  // Loaded for whom a proxy serves.
  const { LRUCache } = createRequire(import.meta.url)('lru-cache') as { LRUCache: typeof Cache }
  const cache = new LRUCache<string, Entry<Value>>({
    maxSize: MOST_BYTES,
    sizeCalculation: ({ text, beside = '' }) => OVERHEAD + 2 * (text.length + beside.length)
  })
  return {
    get (text, beside) {
      const entry = cache.get(keyOf(text, encoding))
      return entry !== undefined && entry.text === text && entry.beside === beside ? entry.value : undefined
    },
    set (text, beside, value) {
      cache.set(keyOf(text, encoding), { text, beside, value })
    }
  }
}

/**
 * To hash all of a header takes longer than to compare it: a piece is enough that differs between certificates. Should it
 * not, the newer one takes the place of the other. Of Envoy's it is the hash, of others the signature at the end. V8 copies
 * pieces of up to twelve characters; longer ones refer to the header, and take longer to compare.
 */
function keyOf (text: string, encoding: Encoding): string {
  if (encoding !== 'xfcc') return text.slice(-60, -48)
  const at = text.indexOf('Hash=')
  return text.slice(at + 5, at + 17)
}
