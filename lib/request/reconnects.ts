/**
 * Which clients connect again in vain: what full handshakes have said of leaves that were refused, so that none is sent for
 * another one again and again.
 */
import type { X509Certificate } from 'node:crypto'
import type { Verdict } from '../trust/presented.ts'
import type { Judgement } from '../trust/store.ts'

/** Leaves; of more, the first are forgotten. */
const MOST = 1_000
/** Milliseconds. What is not known of a revocation may be known a minute later. */
const PASSING = 60_000

interface Refused {
  readonly verdict: Verdict
  /** By `performance.now()`. */
  readonly until: number
}

export class Reconnects {
  readonly #refused = new Map<string, Refused>()
  readonly #distrusted = new Map<string, true>()

  /** Our verification has refused a certificate, with all that the client had sent. */
  refused ({ fingerprint256 }: X509Certificate, verdict: Verdict): void {
    remember(this.#refused, fingerprint256, { verdict, until: verdict.refusal === 'revocationUnknown' ? performance.now() + PASSING : Infinity })
  }

  /** What a full handshake under the same trust has said; undefined where none was seen here. */
  refusalOf ({ fingerprint256 }: X509Certificate, judgement: Judgement): Verdict | undefined {
    const known = this.#refused.get(fingerprint256)
    if (known === undefined || performance.now() > known.until) return undefined
    const { refusal, reason, judgement: { store, epoch } } = known.verdict
    return store === judgement.store && epoch === judgement.epoch ? { judgement, refusal, reason } : undefined
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
