/**
 * Intermediate CA certificates of valid paths. Clients send them in full handshakes only; a resumed session has the leaf
 * alone. They are only candidates: each path over them is validated anew, and no verdict is remembered.
 */
import type { X509Certificate } from 'node:crypto'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { readOr } from '../x509/der.ts'
import { certificatesIn, pemOf } from '../files/pem.ts'
import type { CacheDirectory } from './cache-directory.ts'

/**
 * For each anchor: of the CAs that it has issued itself, and of all others. An attacker with a CA below an anchor can make
 * any number of the latter, and they must not push out the CAs of other partners.
 */
const MOST = 256
/** Milliseconds between two writes: one anchor may have a new intermediate in each handshake. */
const LEAST_BETWEEN = 1_000

interface Known {
  readonly direct: Map<string, X509Certificate>
  readonly deeper: Map<string, X509Certificate>
}

export class Intermediates {
  /** Called with each new intermediate, and with each one that was removed to make room. */
  onAdd: ((certificate: X509Certificate) => void) | undefined
  onRemove: ((certificate: X509Certificate) => void) | undefined
  readonly #byAnchor = new Map<string, Known>()
  readonly #directory: CacheDirectory | undefined
  /** Anchors whose intermediates have still to be written. */
  readonly #changed = new Set<string>()
  #isWriting = false

  constructor (directory?: CacheDirectory) {
    this.#directory = directory
  }

  /** Restores the intermediates of these anchors from the directory. They are candidates like all others. */
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
    // Least recently seen first.
    certificates.set(fingerprint256, certificate)
    if (!isNew) return false
    if (certificates.size > MOST) this.#removeFirst(certificates)
    this.onAdd?.(certificate)
    return true
  }

  #removeFirst (certificates: Map<string, X509Certificate>): void {
    const [fingerprint, certificate] = certificates.entries().next().value!
    certificates.delete(fingerprint)
    // It may still be an intermediate of another anchor.
    const isKnown = [...this.#byAnchor.values()].some(({ direct, deeper }) => direct.has(fingerprint) || deeper.has(fingerprint))
    if (!isKnown) this.onRemove?.(certificate)
  }

  /** Writes one anchor after the other, each with everything that was added meanwhile. */
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

  /** All intermediates, each of them once. */
  certificates (): readonly X509Certificate[] {
    const all = [...this.#byAnchor.values()].flatMap(({ direct, deeper }) => [...direct, ...deeper])
    return [...new Map(all).values()]
  }
}

/** A file in PEM, named after the fingerprint of the anchor. */
function nameOf (anchor: string): string {
  return `intermediates-${anchor.replaceAll(':', '').toLowerCase()}.pem`
}
