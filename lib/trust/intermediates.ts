/**
 * CA certificates that were in verified paths: clients send them in full handshakes only, and a resumed session brings
 * the leaf alone. They are candidates for paths, which are verified anew each time: no verdict is remembered.
 */
import type { X509Certificate } from 'node:crypto'

/**
 * For each anchor, of those that it has issued itself, and of all others: whoever has a CA of their own below an anchor can
 * make any number of the latter, which must not drive out the CAs of other partners.
 */
const MOST = 256

interface Known {
  readonly direct: Map<string, X509Certificate>
  readonly deeper: Map<string, X509Certificate>
}

export class Intermediates {
  /** Told of each one that is new. */
  onAdd: ((certificate: X509Certificate) => void) | undefined
  readonly #byAnchor = new Map<string, Known>()

  add (anchor: X509Certificate, certificate: X509Certificate): void {
    let known = this.#byAnchor.get(anchor.fingerprint256)
    if (known === undefined) this.#byAnchor.set(anchor.fingerprint256, known = { direct: new Map(), deeper: new Map() })
    const certificates = certificate.checkIssued(anchor) ? known.direct : known.deeper
    const { fingerprint256 } = certificate
    const isNew = !certificates.delete(fingerprint256)
    // Those that were met last stay longest.
    certificates.set(fingerprint256, certificate)
    if (!isNew) return
    if (certificates.size > MOST) certificates.delete(certificates.keys().next().value!)
    this.onAdd?.(certificate)
  }

  /** All of them, each once. */
  certificates (): readonly X509Certificate[] {
    const all = [...this.#byAnchor.values()].flatMap(({ direct, deeper }) => [...direct, ...deeper])
    return [...new Map(all).values()]
  }
}
