/**
 * Which issuer a certificate or a list means by its authority key identifier (RFC 5280 §4.2.1.1).
 */
import { contentOf, elementOf, elementsIn, INTEGER, OCTET_STRING } from '../der.ts'
import { assertTaken, type Extensions, idOf, partsOf, takeFrom } from './extensions.ts'
import type { ParsedCertificate } from './facts.ts'
import { DIRECTORY_NAME, generalNameOf } from './general-names.ts'

const SUBJECT_KEY_IDENTIFIER = idOf('2.5.29.14')
export const AUTHORITY_KEY_IDENTIFIER = idOf('2.5.29.35')

const KEY = 0x80
const NAMES = 0xa1
const SERIAL_NUMBER = 0x82

export type NamesIssuer = (issuer: Pick<ParsedCertificate, 'keyId' | 'fields' | 'issuer'>) => boolean

/** The content of the subject key identifier. */
export function keyIdOf (extensions: Extensions): Buffer | undefined {
  const extension = extensions.get(SUBJECT_KEY_IDENTIFIER)
  return extension === undefined ? undefined : contentOf(elementOf(extension.value), OCTET_STRING)
}

/** Whether an issuer is the one that is meant: by key, or by certificate. Everybody is where none of them is named. */
export function issuerNamedBy (extensions: Extensions): NamesIssuer {
  const identifier = extensions.get(AUTHORITY_KEY_IDENTIFIER)
  const parts = identifier === undefined ? [] : partsOf(identifier)
  const [key, names, serialNumber] = [takeFrom(parts, KEY), takeFrom(parts, NAMES), takeFrom(parts, SERIAL_NUMBER)]
  assertTaken(parts)
  const name = names === undefined ? undefined : elementsIn(names, NAMES).map(generalNameOf).find(({ kind }) => kind === DIRECTORY_NAME)
  return ({ keyId, fields, issuer }) =>
    (key === undefined || keyId === undefined || keyId.equals(contentOf(key, KEY))) &&
    (serialNumber === undefined || contentOf(fields.serialNumber, INTEGER).equals(contentOf(serialNumber, SERIAL_NUMBER))) &&
    (name === undefined || issuer === name.text)
}
