/** Warns that a certificate will end soon or has ended, and that a CRL is out of date. Begin with `Expiry.look`. */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from '../x509/fields.ts'
import { describe } from './pem.ts'

const MINUTE = 60 * 1000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
/**
 * Days before the end, and percent of the lifetime for a certificate of less than {@link LONG}. It is renewed when a third
 * of its lifetime is left, or earlier: what is renewed in time is not warned of. Negative time is left once the end has
 * passed: the instant of notAfter itself is valid (RFC 5280 §4.1.2.5).
 */
const THRESHOLDS = [0, 1, 7, 14, 30]
/** Milliseconds: the lifetime from which thresholds are days. */
const LONG = 90 * DAY

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
      const { notBefore, notAfter } = validityOf(certificate)
      const [left, lifetime] = [notAfter - Date.now(), notAfter - notBefore]
      const unit = lifetime < LONG ? lifetime / 100 : DAY
      const threshold = THRESHOLDS.find((count) => left < count * unit)
      if (threshold === undefined) continue
      const when = left < 0 ? 'has expired' : `ends in ${inWords(left)}`
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

/** Milliseconds in the largest unit of which there are two or more, rounded down. */
function inWords (left: number): string {
  if (left >= 2 * DAY) return `${Math.floor(left / DAY)} days`
  if (left >= 2 * HOUR) return `${Math.floor(left / HOUR)} hours`
  return left >= 2 * MINUTE ? `${Math.floor(left / MINUTE)} minutes` : 'less than two minutes'
}
