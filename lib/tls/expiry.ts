/** Says in good time that a certificate will end. */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from '../certificate/fields.ts'
import { describe } from '../material/pem.ts'
import { type Material, trustsIn } from './material/material.ts'

const HOUR = 60 * 60 * 1000
const DAY = 24 * HOUR
/** Days before the end; less than 0 is left when it has passed: the instant of notAfter itself is valid (RFC 5280 §4.1.2.5). */
const THRESHOLDS = [0, 1, 7, 14, 30]

export class Expiry {
  readonly #warn: (message: string) => void
  /** By certificate and threshold. */
  readonly #told = new Set<string>()

  /** @param warn called once for each certificate and each threshold that it has passed */
  constructor (warn: (message: string) => void) {
    this.#warn = warn
  }

  /** Looks every hour, and keeps no process alive. Answers what stops it. */
  watch (current: () => Material): () => void {
    const timer = setInterval(() => this.look(current()), HOUR).unref()
    return () => clearInterval(timer)
  }

  look (material: Material): void {
    for (const { certificate, source } of expiringIn(material)) {
      const { notAfter } = validityOf(certificate)
      const left = notAfter - Date.now()
      const threshold = THRESHOLDS.find((days) => left < days * DAY)
      const key = `${certificate.fingerprint256} ${threshold}`
      if (threshold === undefined || this.#told.has(key)) continue
      this.#told.add(key)
      const when = left < 0 ? 'has expired' : `ends in ${left < DAY ? 'less than a day' : `${Math.floor(left / DAY)} days`}`
      this.#warn(`${source}: ${describe(certificate)} ${when}, on ${new Date(notAfter).toUTCString()}`)
    }
  }
}

/** Every certificate that a server depends on: its own, their issuers, and the clients' authorities. */
function expiringIn ({ identities, trust }: Material): Array<{ certificate: X509Certificate, source: string }> {
  return [
    ...identities.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))),
    ...trustsIn(trust).flatMap(({ authorities }) => authorities)
  ]
}
