/**
 * Certificates that were verified before, by the header that they came in.
 */
import { LRUCache } from 'lru-cache'
import type { Written } from './chain.ts'
import { type Format, formats } from './encodings.ts'

/** Of memory, as well as can be told: some two thousand certificates. */
const MOST_BYTES = 64 * 1024 * 1024
/** What OpenSSL and Node take for a parsed certificate, */
const OVERHEAD = 8 * 1024
/** and for each character of its text: a name of three letters takes a hundred bytes, and somebody may have thousands. */
const BYTES_A_CHARACTER = 16

const HASH = 'Hash='

interface Verified<Value> {
  readonly text: string
  readonly companion: string | undefined
  readonly value: Value
}

export interface VerifiedCache<Value> {
  get (text: string, companion: string | undefined): Value | undefined
  set (text: string, companion: string | undefined, value: Value): void
}

export function createVerifiedCache<Value> (written: Written): VerifiedCache<Value> {
  const keyOf = createKeyOf(written)
  const cache = new LRUCache<string, Verified<Value>>({
    maxSize: MOST_BYTES,
    sizeCalculation: ({ text, companion = '' }) => OVERHEAD + BYTES_A_CHARACTER * (text.length + companion.length)
  })
  return {
    get (text, companion) {
      const entry = cache.get(keyOf(text))
      return entry !== undefined && entry.text === text && entry.companion === companion ? entry.value : undefined
    },
    set (text, companion, value) {
      cache.set(keyOf(text), { text, companion, value })
    }
  }
}

/**
 * To hash all of a header takes longer than to compare it: a piece is enough that differs between clients. Should it not,
 * the newer one takes the place of the other. Of Envoy's it is the hash, of others what the client's certificate, which is
 * the first one, ends with: a signature. V8 copies pieces of up to twelve characters; longer ones refer to the header, and
 * take longer to compare.
 */
function createKeyOf ({ encoding, hops }: Written): (text: string) => string {
  if (encoding === 'xfcc') {
    return (text) => {
      let at = text.length
      for (let hop = 0; hop < hops; hop++) at = text.lastIndexOf(HASH, at - 1)
      return text.slice(at + HASH.length, at + HASH.length + 12)
    }
  }
  const { begin, end, separators }: Format = formats[encoding]
  const after = end === '' ? separators![0]! : end
  return (text) => {
    const found = separators === undefined ? text.length - end.length : text.indexOf(after, begin.length)
    const at = found === -1 ? text.length : found
    return text.slice(at - 30, at - 18)
  }
}
