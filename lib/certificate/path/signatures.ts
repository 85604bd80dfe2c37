/**
 * Who has signed what: the one question that needs keys, and time.
 */
import { strengthOf } from './algorithms.ts'
import type { ParsedCertificate } from './facts.ts'
import type { Budget } from './work.ts'

/** Answers that last as long as the certificates: those about authorities, for good. */
export class Signatures {
  readonly #isLegacy: boolean
  readonly #known = new WeakMap<ParsedCertificate, WeakMap<ParsedCertificate, boolean>>()

  /** @param isLegacy whether SHA-1 and short keys pass */
  constructor (isLegacy: boolean) {
    this.#isLegacy = isLegacy
  }

  problemOf (certificate: ParsedCertificate, issuer: ParsedCertificate, work: Budget): string | undefined {
    if (certificate.scheme === undefined && !(this.#isLegacy && certificate.isLegacyScheme)) return 'CA_MD_TOO_WEAK'
    const known = this.#knownOf(certificate)
    if (!known.has(issuer) && work.takeSignature(strengthOf(issuer, this.#isLegacy)!.work)) known.set(issuer, certificate.certificate.verify(issuer.certificate.publicKey))
    return known.get(issuer) === true ? undefined : 'CERT_SIGNATURE_FAILURE'
  }

  #knownOf (certificate: ParsedCertificate): WeakMap<ParsedCertificate, boolean> {
    const known = this.#known.get(certificate) ?? new WeakMap<ParsedCertificate, boolean>()
    this.#known.set(certificate, known)
    return known
  }
}
