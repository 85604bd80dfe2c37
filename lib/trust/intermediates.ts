/**
 * CA certificates that were in verified paths: clients send them in full handshakes only, and a resumed session brings
 * the leaf alone. They are candidates for paths, which are verified anew each time: no verdict is remembered.
 */
import type { X509Certificate } from 'node:crypto'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { readOr } from '../x509/der.ts'
import { certificatesIn, pemOf } from '../files/pem.ts'
import type { CacheDirectory } from './cache-directory.ts'

/**
 * For each anchor, of those that it has issued itself, and of all others: whoever has a CA of their own below an anchor can
 * make any number of the latter, which must not drive out the CAs of other partners.
 */
const MOST = 256
/** Milliseconds between two files that are written: the same may have a new one in each handshake. */
const LEAST_BETWEEN = 1_000

interface Known {
  readonly direct: Map<string, X509Certificate>
  readonly deeper: Map<string, X509Certificate>
}

export class Intermediates {
  /** Told of each one that is new, and of each one that has made room. */
  onAdd: ((certificate: X509Certificate) => void) | undefined
  onRemove: ((certificate: X509Certificate) => void) | undefined
  readonly #byAnchor = new Map<string, Known>()
  readonly #directory: CacheDirectory | undefined
  /** Anchors whose intermediates are still to be written. */
  readonly #changed = new Set<string>()
  #isWriting = false

  constructor (directory?: CacheDirectory) {
    this.#directory = directory
  }

  /** What was kept of anchors: candidates like all others, which are verified in each path. */
  async restore (anchors: readonly X509Certificate[]): Promise<void> {
    for (const anchor of anchors) {
      const name = nameOf(anchor.fingerprint256)
      const kept = await this.#directory?.read(name)
      const certificates = kept === undefined ? [] : readOr(() => certificatesIn({ name, bytes: kept.bytes }), [])
      for (const certificate of certificates) this.#add(anchor, certificate)
    }
  }

  add (anchor: X509Certificate, certificate: X509Certificate): void {
    if (!this.#add(anchor, certificate) || this.#directory === undefined) return
    this.#changed.add(anchor.fingerprint256)
    if (!this.#isWriting) this.#write(this.#directory)
  }

  #add (anchor: X509Certificate, certificate: X509Certificate): boolean {
    let known = this.#byAnchor.get(anchor.fingerprint256)
    if (known === undefined) this.#byAnchor.set(anchor.fingerprint256, known = { direct: new Map(), deeper: new Map() })
    const certificates = certificate.checkIssued(anchor) ? known.direct : known.deeper
    const { fingerprint256 } = certificate
    const isNew = !certificates.delete(fingerprint256)
    // Those that were met last stay longest.
    certificates.set(fingerprint256, certificate)
    if (!isNew) return false
    if (certificates.size > MOST) this.#removeFirst(certificates)
    this.onAdd?.(certificate)
    return true
  }

  #removeFirst (certificates: Map<string, X509Certificate>): void {
    const [fingerprint, certificate] = certificates.entries().next().value!
    certificates.delete(fingerprint)
    // It may lead to another anchor as well.
    const isKnown = [...this.#byAnchor.values()].some(({ direct, deeper }) => direct.has(fingerprint) || deeper.has(fingerprint))
    if (!isKnown) this.onRemove?.(certificate)
  }

  /** One anchor after the other, with all that have come meanwhile. */
  async #write (directory: CacheDirectory): Promise<void> {
    this.#isWriting = true
    for (const anchor of this.#changed) {
      await setImmediate()
      this.#changed.delete(anchor)
      const { direct, deeper } = this.#byAnchor.get(anchor)!
      const pem = [...direct.values(), ...deeper.values()].map(({ raw }) => pemOf('CERTIFICATE', raw))
      await directory.write(nameOf(anchor), Buffer.from(pem.join('')))
      await setTimeout(LEAST_BETWEEN, undefined, { ref: false })
    }
    this.#isWriting = false
  }

  /** All of them, each once. */
  certificates (): readonly X509Certificate[] {
    const all = [...this.#byAnchor.values()].flatMap(({ direct, deeper }) => [...direct, ...deeper])
    return [...new Map(all).values()]
  }
}

/** In PEM, by the fingerprint of their anchor. */
function nameOf (anchor: string): string {
  return `intermediates-${anchor.replaceAll(':', '').toLowerCase()}.pem`
}
