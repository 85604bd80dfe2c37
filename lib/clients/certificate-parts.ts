/**
 * What a certificate has of each part that an entry may name: see certificate-entry.ts. Begin with {@link partsOf}.
 */
import type { X509Certificate } from 'node:crypto'
import { attributeValues, issuerOf, type Name, subjectOf } from '../x509/distinguished-names.ts'
import { alternativeNamesOf } from '../x509/general-names.ts'
import { attributeValue, canonicalSerial, type CertificateParts, FINGERPRINT, ISSUED_BY, SERIAL_NUMBER } from './certificate-entry.ts'

/**
 * The parts of a certificate, each read when it is asked for first.
 *
 * @param labels those of the client CAs that its valid paths lead over
 */
export function partsOf (leaf: X509Certificate, labels: ReadonlySet<string>): CertificateParts {
  const known = new Map<string, readonly string[]>()
  let subject: Name | undefined
  let issuer: Name | undefined

  function read (name: string): readonly string[] {
    if (name === FINGERPRINT) return [leaf.fingerprint256.replaceAll(':', '').toLowerCase()]
    if (name === SERIAL_NUMBER) return [canonicalSerial(leaf.serialNumber)]
    if (name === ISSUED_BY) return [...labels]
    const [whose, key] = name.split(' ') as ['subject' | 'issuer' | 'san', string]
    if (whose === 'san') return [...new Set(alternativeNamesOf(leaf).filter(({ kind }) => kind === key).map(({ value }) => value))]
    const values = attributeValues(whose === 'subject' ? subject ??= subjectOf(leaf) : issuer ??= issuerOf(leaf), key)
    return values.length === 0 ? [] : [attributeValue(values)]
  }

  return {
    valuesOf (name) {
      let values = known.get(name)
      if (values === undefined) known.set(name, values = read(name))
      return values
    }
  }
}
