/** Says in good time that a certificate will end, and that a revocation list has ended. */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from '../x509/fields.ts'
import { describe } from './pem.ts'

const MINUTE = 60 * 1000
const DAY = 24 * 60 * MINUTE
/** Days before the end; less than 0 is left when it has passed: the instant of notAfter itself is valid (RFC 5280 §4.1.2.5). */
const THRESHOLDS = [0, 1, 7, 14, 30]

/** What a server depends on. */
export interface Ending {
  readonly certificates: ReadonlyArray<{ readonly certificate: X509Certificate, readonly source: string }>
  readonly crls: readonly EndingCrl[]
}

interface EndingCrl {
  readonly source: string
  readonly crl: { readonly fingerprint: string, readonly issuerName: string, readonly nextUpdate: number }
}

export class Expiry {
  readonly #warn: (message: string) => void
  /** By certificate and threshold, and by list. */
  readonly #told = new Set<string>()

  /** @param warn called once for each certificate and each threshold that it has passed, and once for each list */
  constructor (warn: (message: string) => void) {
    this.#warn = warn
  }

  /** Looks every minute, and keeps no process alive. Answers what stops it. */
  watch (current: () => Ending): () => void {
    const timer = setInterval(() => this.look(current()), MINUTE).unref()
    return () => clearInterval(timer)
  }

  look ({ certificates, crls }: Ending): void {
    for (const { certificate, source } of certificates) {
      const { notAfter } = validityOf(certificate)
      const left = notAfter - Date.now()
      const threshold = THRESHOLDS.find((days) => left < days * DAY)
      if (threshold === undefined) continue
      const when = left < 0 ? 'has expired' : `ends in ${left < DAY ? 'less than a day' : `${Math.floor(left / DAY)} days`}`
      this.#once(`${certificate.fingerprint256} ${threshold}`, `${source}: ${describe(certificate)} ${when}, on ${new Date(notAfter).toUTCString()}`)
    }
    for (const { crl: { fingerprint, issuerName, nextUpdate }, source } of crls) {
      if (Date.now() > nextUpdate) this.#once(fingerprint, `${source}: the revocation list of ${issuerName} is out of date since ${new Date(nextUpdate).toUTCString()}: of its certificates, it only says which are revoked`)
    }
  }

  #once (key: string, message: string): void {
    if (this.#told.has(key)) return
    this.#told.add(key)
    this.#warn(message)
  }
}
