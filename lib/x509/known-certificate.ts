/**
 * What is known of a client certificate, whoever asks: all that is in it, or what a proxy has said of it. Begin with
 * {@link knownOf}.
 */
import type { X509Certificate } from 'node:crypto'
import { issuerOf, type Name, NO_NAME, subjectOf } from './distinguished-names.ts'
import { NO_VALIDITY, type Validity, validityOf } from './fields.ts'
import { type AlternativeName, alternativeNamesOf, NO_NAMES } from './general-names.ts'

/** A certificate, as far as it is known. What is not known is empty. */
export interface KnownCertificate {
  /** All of it; undefined where it is only described. */
  readonly whole: X509Certificate | undefined
  readonly subject: Name
  readonly issuer: Name
  readonly alternativeNames: readonly AlternativeName[]
  /** The SHA-256 of its DER, as Node writes it: upper-case hex with colons. */
  readonly fingerprint256: string
  /** As Node writes it. */
  readonly serialNumber: string
  readonly validity: Validity
}

/** A certificate that was presented, or forwarded: read anew with each question. */
export class WholeCertificate implements KnownCertificate {
  readonly whole: X509Certificate

  constructor (certificate: X509Certificate) {
    this.whole = certificate
  }

  get subject (): Name {
    return subjectOf(this.whole)
  }

  get issuer (): Name {
    return issuerOf(this.whole)
  }

  get alternativeNames (): readonly AlternativeName[] {
    return alternativeNamesOf(this.whole)
  }

  get fingerprint256 (): string {
    return this.whole.fingerprint256
  }

  get serialNumber (): string {
    return this.whole.serialNumber
  }

  get validity (): Validity {
    return validityOf(this.whole)
  }
}

/** A certificate that a proxy has verified and then described, instead of forwarding it. */
export interface DescribedCertificate extends KnownCertificate {
  readonly whole: undefined
}

/** @param known what the proxy has said */
export function describedCertificate ({ subject = NO_NAME, alternativeNames = NO_NAMES, fingerprint256 = '' }: Partial<Pick<KnownCertificate, 'subject' | 'alternativeNames' | 'fingerprint256'>>): DescribedCertificate {
  return Object.freeze({ whole: undefined, subject, issuer: NO_NAME, alternativeNames, fingerprint256, serialNumber: '', validity: NO_VALIDITY })
}

/** What is known of a certificate that is present. */
export function knownOf ({ leaf, described }: { readonly leaf: X509Certificate | undefined, readonly described: DescribedCertificate | undefined }): KnownCertificate {
  return described ?? new WholeCertificate(leaf!)
}
