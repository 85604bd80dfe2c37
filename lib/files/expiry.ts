/** Warns that a certificate will end soon or has ended, and that a CRL is out of date. Begin with `Expiry.look`. */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from '../x509/fields.ts'
import { describe } from './pem.ts'

const MINUTE = 60 * 1000
const DAY = 24 * 60 * MINUTE
/**
 * Days before the end. Negative time is left once it has passed: the instant of notAfter itself is valid (RFC 5280
 * §4.1.2.5).
 */
const THRESHOLDS = [0, 1, 7, 14, 30]

/** The certificates and CRLs that a server depends on. */
export interface Ending {
  readonly certificates: ReadonlyArray<{ readonly certificate: X509Certificate, readonly source: string }>
  readonly crls: readonly EndingCrl[]
}

interface EndingCrl {
  readonly source: string
  readonly crl: { readonly fingerprint: string, readonly issuerName: string, readonly nextUpdate: number }
}

/** Warns once for each certificate and threshold, and once for each CRL. */
export class Expiry {
  readonly #warn: (message: string) => void
  /** The warnings that were given: by certificate and threshold, and by CRL. */
  readonly #warned = new Set<string>()

  /** @param warn called once for each certificate and each threshold that it has passed, and once for each CRL */
  constructor (warn: (message: string) => void) {
    this.#warn = warn
  }

  /**
   * Checks every minute. Keeps no process alive.
   *
   * @param current the certificates and CRLs in force, read at each check
   * @returns a function that stops it
   */
  watch (current: () => Ending): () => void {
    const timer = setInterval(() => this.look(current()), MINUTE).unref()
    return () => clearInterval(timer)
  }

  /** Checks now. */
  look ({ certificates, crls }: Ending): void {
    for (const { certificate, source } of certificates) {
      const { notAfter } = validityOf(certificate)
      const left = notAfter - Date.now()
      const threshold = THRESHOLDS.find((days) => left < days * DAY)
      if (threshold === undefined) continue
      const when = left < 0 ? 'has expired' : `ends in ${left < DAY ? 'less than a day' : `${Math.floor(left / DAY)} days`}`
      this.#warnOnce(`${certificate.fingerprint256} ${threshold}`, `${source}: ${describe(certificate)} ${when}, on ${new Date(notAfter).toUTCString()}`)
    }
    for (const { crl: { fingerprint, issuerName, nextUpdate }, source } of crls) {
      if (Date.now() > nextUpdate) this.#warnOnce(fingerprint, `${source}: the revocation list of ${issuerName} is out of date since ${new Date(nextUpdate).toUTCString()}: of its certificates, it only says which are revoked`)
    }
  }

  #warnOnce (key: string, message: string): void {
    if (this.#warned.has(key)) return
    this.#warned.add(key)
    this.#warn(message)
  }
}
