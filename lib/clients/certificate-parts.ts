/**
 * What a certificate has of each part that an entry may name: see certificate-entry.ts. Begin with {@link partsOf}.
 */
import { attributeTypeOf, type Name } from '../x509/distinguished-names.ts'
import type { AlternativeName } from '../x509/general-names.ts'
import type { KnownCertificate } from '../x509/known-certificate.ts'
import { ATTRIBUTES, attributeValue, canonicalSerial, type CertificateParts, FINGERPRINT, ISSUED_BY, SERIAL_NUMBER } from './certificate-entry.ts'

const NONE: readonly string[] = Object.freeze([])

/** The type of each attribute that an entry may name. */
const TYPES: ReadonlyMap<string, string | undefined> = new Map(ATTRIBUTES.map((attribute) => [attribute, attributeTypeOf(attribute)]))

/**
 * The parts of a certificate, each read when it is asked for first. What is not known of it matches nothing.
 *
 * @param labels those of the client CAs that its valid paths lead over
 */
export function partsOf (certificate: KnownCertificate, labels: ReadonlySet<string>): CertificateParts {
  let subject: Values | undefined
  let issuer: Values | undefined
  let alternatives: Values | undefined

  function valuesOf (name: string): readonly string[] {
    if (name === FINGERPRINT) return [certificate.fingerprint256]
    if (name === SERIAL_NUMBER) return [canonicalSerial(certificate.serialNumber)]
    if (name === ISSUED_BY) return [...labels]
    const [whose, key] = splitName(name)
    if (whose === 'san') return (alternatives ??= valuesByKind(certificate.alternativeNames)).get(key) ?? NONE
    const values = (whose === 'subject' ? subject ??= valuesByType(certificate.subject) : issuer ??= valuesByType(certificate.issuer)).get(TYPES.get(key)!)
    return values === undefined ? NONE : [attributeValue(values)]
  }

  return { valuesOf }
}

type Values = ReadonlyMap<string, readonly string[]>

function splitName (name: string): readonly [whose: string, key: string] {
  const space = name.indexOf(' ')
  return [name.slice(0, space), name.slice(space + 1)]
}

function valuesByType (name: Name): Values {
  const values = new Map<string, string[]>()
  for (const rdn of name) for (const { type, value } of rdn) add(values, type, value)
  return values
}

function valuesByKind (names: readonly AlternativeName[]): Values {
  const values = new Map<string, string[]>()
  for (const { kind, value } of names) add(values, kind, value)
  return values
}

function add (values: Map<string, string[]>, key: string, value: string): void {
  const others = values.get(key)
  if (others === undefined) values.set(key, [value])
  else others.push(value)
}
