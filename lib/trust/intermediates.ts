/**
 * CA certificates that were in verified paths: clients send them in full handshakes only, and a resumed session brings
 * the leaf alone. They are candidates for paths, which are verified anew each time: no verdict is remembered.
 */
import { X509Certificate } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { readOr } from '../certificate/der.ts'
import { pemOf } from '../material/pem.ts'
import type { Directory } from './directory.ts'

/**
 * For each anchor, of those that it has issued itself, and of all others: whoever has a CA of their own below an anchor can
 * make any number of the latter, which must not drive out the CAs of other partners.
 */
const MOST = 256

/** Where they are kept across restarts: PEM, each after the fingerprint of its anchor. */
const FILE = 'intermediates.json'

interface Kept { readonly anchor: string, readonly isDirect: boolean, readonly pem: string }

interface Known {
  readonly direct: Map<string, X509Certificate>
  readonly deeper: Map<string, X509Certificate>
}

export class Intermediates {
  /** Told of each one that is new, and of each one that has made room. */
  onAdd: ((certificate: X509Certificate) => void) | undefined
  onRemove: ((certificate: X509Certificate) => void) | undefined
  readonly #byAnchor = new Map<string, Known>()
  readonly #directory: Directory | undefined
  #isWriting = false

  constructor (directory?: Directory) {
    this.#directory = directory
  }

  /** What was kept: candidates like all others, which are verified in each path. */
  async restore (): Promise<void> {
    const kept = await this.#directory?.read(FILE)
    const entries = kept === undefined ? [] : readOr(() => JSON.parse(kept.bytes.toString()) as Kept[], [])
    for (const entry of Array.isArray(entries) ? entries : []) {
      readOr(() => this.#add(String(entry.anchor), entry.isDirect === true, new X509Certificate(entry.pem)), undefined)
    }
  }

  add (anchor: X509Certificate, certificate: X509Certificate): void {
    if (this.#add(anchor.fingerprint256, certificate.checkIssued(anchor), certificate)) this.#write()
  }

  #add (anchor: string, isDirect: boolean, certificate: X509Certificate): boolean {
    let known = this.#byAnchor.get(anchor)
    if (known === undefined) this.#byAnchor.set(anchor, known = { direct: new Map(), deeper: new Map() })
    const certificates = isDirect ? known.direct : known.deeper
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

  /** One time after the other, and with all that have come meanwhile. */
  async #write (): Promise<void> {
    if (this.#directory === undefined || this.#isWriting) return
    this.#isWriting = true
    await setImmediate()
    this.#isWriting = false
    await this.#directory.write(FILE, Buffer.from(JSON.stringify(this.#kept(), null, 2)))
  }

  #kept (): Kept[] {
    return [...this.#byAnchor].flatMap(([anchor, { direct, deeper }]) => [
      ...[...direct.values()].map((certificate) => ({ anchor, isDirect: true, pem: pemOf('CERTIFICATE', certificate.raw) })),
      ...[...deeper.values()].map((certificate) => ({ anchor, isDirect: false, pem: pemOf('CERTIFICATE', certificate.raw) }))
    ])
  }

  /** All of them, each once. */
  certificates (): readonly X509Certificate[] {
    const all = [...this.#byAnchor.values()].flatMap(({ direct, deeper }) => [...direct, ...deeper])
    return [...new Map(all).values()]
  }
}
