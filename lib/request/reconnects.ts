/**
 * Which clients connect again in vain: what full handshakes have said of leaves that were refused, so that none is sent for
 * another one again and again.
 */
import type { X509Certificate } from 'node:crypto'
import type { Verdict } from '../trust/presented.ts'

/** Leaves; of more, the first are forgotten. */
const MOST = 1_000

type Reason = Pick<Verdict, 'refusal' | 'reason'>

export class Reconnects {
  readonly #refused = new Map<string, Reason>()
  readonly #distrusted = new Map<string, true>()

  /** Our verification has refused a certificate, with all that the client had sent. */
  refused ({ fingerprint256 }: X509Certificate, { refusal, reason }: Verdict): void {
    remember(this.#refused, fingerprint256, { refusal, reason })
  }

  /** Why it did; undefined where no full handshake was seen here. */
  refusalOf ({ fingerprint256 }: X509Certificate): Reason | undefined {
    return this.#refused.get(fingerprint256)
  }

  /** OpenSSL has refused one that counts for us. */
  distrusted ({ fingerprint256 }: X509Certificate): void {
    remember(this.#distrusted, fingerprint256, true)
  }

  isDistrusted ({ fingerprint256 }: X509Certificate): boolean {
    return this.#distrusted.has(fingerprint256)
  }

  admitted ({ fingerprint256 }: X509Certificate): void {
    this.#refused.delete(fingerprint256)
    this.#distrusted.delete(fingerprint256)
  }
}

function remember<Value> (map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key)
  if (map.size === MOST) map.delete(map.keys().next().value!)
  map.set(key, value)
}
