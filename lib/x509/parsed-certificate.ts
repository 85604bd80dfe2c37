/**
 * The parts of a certificate that path validation needs. Begin with `parseCertificate`: it parses the bytes once, because
 * one certificate may be in a thousand paths. `issuerNamedBy` reads the authority key identifier.
 */
import type { X509Certificate } from 'node:crypto'
import { type CertificatePolicies, certificatePoliciesOf } from './certificate-policies.ts'
import { contentOf, elementOf, elementsIn, INTEGER, OCTET_STRING, readOr } from './der.ts'
import { canonicalName } from './distinguished-names.ts'
import { assertTaken, type CertificateFields, type Extensions, extensionsIn, fieldsOf, idOf, partsOf, takeFrom, type Validity, validityOf } from './fields.ts'
import { DIRECTORY_NAME, generalNameOf } from './general-names.ts'
import { type KeyUsage, keyUsageOf, problemOfForm } from './key-usage.ts'
import { isLegacyScheme, type Scheme, schemeOf } from './keys.ts'
import { type ConstrainedNames, constrainedNamesOf, type NameConstraints, nameConstraintsOf } from './name-constraints.ts'

export interface ParsedCertificate {
  readonly certificate: X509Certificate
  readonly fields: CertificateFields
  readonly validity: Validity
  readonly extensions: Extensions
  /** In canonical form: see `canonicalName`. */
  readonly subject: string
  readonly issuer: string
  /** Subject and issuer are the same name (RFC 5280 §6.1): a root, or the same CA with another key. */
  readonly isSelfIssued: boolean
  /** Self-issued, and its authority key identifier does not name another key or certificate; the signature is not checked. */
  readonly looksSelfSigned: boolean
  /** The subject key identifier. */
  readonly keyId: Buffer | undefined
  /** The algorithm of its signature; undefined where it is too weak or not known. */
  readonly scheme: Scheme | undefined
  /** It was signed with SHA-1. */
  readonly isLegacyScheme: boolean
  readonly keyUsage: KeyUsage
  readonly names: ConstrainedNames
  /** Undefined where it may issue for all names. */
  readonly constraints: NameConstraints | undefined
  /** Undefined where they cannot be read. */
  readonly policies: CertificatePolicies | undefined
  /** The error that the certificate has at any place in a path. */
  readonly problem: string | undefined
  /** X.509 version 1, without extensions. */
  readonly isVersion1: boolean
}

/** Throws where the certificate or an extension that is read is not DER, or an extension is there twice (RFC 5280 §4.2). */
export function parseCertificate (certificate: X509Certificate): ParsedCertificate {
  const fields = fieldsOf(certificate)
  const extensions = extensionsIn(fields.extensions)
  const [subject, issuer] = [canonicalName(fields.subject), canonicalName(fields.issuer)]
  const keyId = keyIdOf(extensions)
  const isSelfIssued = subject === issuer
  const isNamed = issuerNamedBy(extensions)({ keyId, fields, issuer })
  return {
    certificate,
    fields,
    validity: validityOf(certificate),
    extensions,
    subject,
    issuer,
    isSelfIssued,
    looksSelfSigned: isSelfIssued && isNamed,
    keyId,
    scheme: readOr(() => schemeOf(fields.signatureAlgorithm), undefined),
    isLegacyScheme: readOr(() => isLegacyScheme(fields.signatureAlgorithm), false),
    keyUsage: keyUsageOf(extensions),
    names: constrainedNamesOf(fields.subject, subject, extensions),
    constraints: nameConstraintsOf(extensions),
    policies: certificatePoliciesOf(extensions),
    problem: problemOfForm({ fields, extensions }),
    isVersion1: fields.version === undefined && extensions.size === 0
  }
}

// Key identifiers: which issuer a certificate or a CRL means (RFC 5280 §4.2.1.1, §4.2.1.2)

const SUBJECT_KEY_IDENTIFIER = idOf('2.5.29.14')
export const AUTHORITY_KEY_IDENTIFIER = idOf('2.5.29.35')

const KEY = 0x80
const NAMES = 0xa1
const SERIAL_NUMBER = 0x82

type NamesIssuer = (issuer: Pick<ParsedCertificate, 'keyId' | 'fields' | 'issuer'>) => boolean

function keyIdOf (extensions: Extensions): Buffer | undefined {
  const extension = extensions.get(SUBJECT_KEY_IDENTIFIER)
  return extension === undefined ? undefined : contentOf(elementOf(extension.value), OCTET_STRING)
}

/** Whether an issuer is meant, by key identifier or by issuer and serial number. Without the extension, every issuer is. */
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
