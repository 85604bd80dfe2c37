/**
 * Who has signed what: the one question that needs keys, and time.
 */
import { schemeOf } from './algorithms.ts'
import type { Facts } from './facts.ts'

/** Signatures that are verified for one client: authorities may look alike. */
const MOST_SIGNATURES = 64

/** Answers that last as long as the certificates: those about authorities, for good. */
export class Signatures {
  readonly #known = new WeakMap<Facts, WeakMap<Facts, boolean>>()

  /** For one client. */
  counted (): (certificate: Facts, issuer: Facts) => string | undefined {
    let left = MOST_SIGNATURES
    return (certificate, issuer) => {
      if (schemeOf(certificate.fields.signatureAlgorithm) === undefined) return 'CA_MD_TOO_WEAK'
      const known = this.#knownOf(certificate)
      if (!known.has(issuer) && left-- > 0) known.set(issuer, certificate.certificate.verify(issuer.certificate.publicKey))
      return known.get(issuer) === true ? undefined : 'CERT_SIGNATURE_FAILURE'
    }
  }

  #knownOf (certificate: Facts): WeakMap<Facts, boolean> {
    const known = this.#known.get(certificate) ?? new WeakMap<Facts, boolean>()
    this.#known.set(certificate, known)
    return known
  }
}
