/**
 * Labels of client CAs (`ca: { partners: … }`): which of them a valid path has. Begin with `CaLabels.ofPath`.
 *
 * A label belongs to a CA, which is a name and a key (RFC 5280 §6.1.1 d), and not to one certificate of it. Otherwise, when
 * the CA `partners` below the root `staff` has its certificate renewed, or certified by another CA, its clients could send the
 * new one, which has no label, and count as `staff`.
 */
import type { X509Certificate } from 'node:crypto'
import { derOf, readOr } from '../x509/der.ts'
import { parseCertificate, type ParsedCertificate } from '../x509/parsed-certificate.ts'

/** The client CAs by label. */
export type LabelledCas = ReadonlyMap<string, readonly X509Certificate[]>

/** A CA with more than one label. */
interface Ambiguous {
  readonly certificate: X509Certificate
  readonly labels: readonly string[]
}

export class CaLabels {
  /** All labels. */
  readonly names: ReadonlySet<string>
  /** The labels of each CA, and one of its certificates. */
  readonly #byCa = new Map<string, { readonly certificate: X509Certificate, readonly labels: Set<string> }>()

  constructor (cas: LabelledCas = new Map()) {
    this.names = new Set(cas.keys())
    for (const [label, certificates] of cas) {
      for (const certificate of certificates) {
        // What cannot be parsed is in no valid path.
        const ca = readOr(() => caOf(parseCertificate(certificate)), undefined)
        if (ca === undefined) continue
        const known = this.#byCa.get(ca)
        if (known === undefined) this.#byCa.set(ca, { certificate, labels: new Set([label]) })
        else known.labels.add(label)
      }
    }
  }

  /**
   * The label of the labelled CA nearest to the client. A CA with several labels gives none of them, nor one from further up:
   * it is not known whose clients these are.
   *
   * @param path from the client to the anchor; a self-signed client may be its own anchor
   */
  ofPath (path: readonly ParsedCertificate[]): string | undefined {
    const [nearest] = path.flatMap((parsed) => this.#byCa.get(caOf(parsed)) ?? [])
    return nearest?.labels.size === 1 ? [...nearest.labels][0] : undefined
  }

  /** CAs that give no label, because they have several. */
  get ambiguous (): readonly Ambiguous[] {
    return [...this.#byCa.values()].filter(({ labels }) => labels.size > 1).map(({ certificate, labels }) => ({ certificate, labels: [...labels] }))
  }
}

/** Name and key. DER says itself where it ends, so that no two pairs are the same text. */
function caOf ({ fields, subject }: ParsedCertificate): string {
  return derOf(fields.publicKey).toString('latin1') + subject
}
