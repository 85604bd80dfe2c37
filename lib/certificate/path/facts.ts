/**
 * What the verification of a path asks of a certificate, read from its bytes once: a certificate may be in a thousand paths.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from '../der.ts'
import { type CertificateFields, fieldsOf, type Validity, validityOf } from '../fields.ts'
import { isLegacyScheme, type Scheme, schemeOf } from './algorithms.ts'
import { canonicalName } from './canonical.ts'
import { type Extensions, extensionsIn } from './extensions.ts'
import { issuerNamedBy, keyIdOf } from './issuers.ts'
import { type NameConstraints, nameConstraintsOf, type ConstrainedNames, constrainedNamesOf } from './names.ts'
import { type CertificatePolicies, certificatePoliciesOf } from './policies.ts'
import { problemOfForm } from './purposes.ts'
import { type KeyUsage, keyUsageOf } from './uses.ts'

export interface ParsedCertificate {
  readonly certificate: X509Certificate
  readonly fields: CertificateFields
  readonly validity: Validity
  readonly extensions: Extensions
  /** In canonical form. */
  readonly subject: string
  readonly issuer: string
  /** Its issuer has the same name (RFC 5280 §6.1): the same authority with another key, or a root. */
  readonly isSelfIssued: boolean
  /** Nothing speaks against it being issued by itself, whoever signed it. */
  readonly looksSelfSigned: boolean
  /** The subject key identifier. */
  readonly keyId: Buffer | undefined
  /** How it was signed; undefined: not strongly enough. */
  readonly scheme: Scheme | undefined
  /** It was signed with SHA-1. */
  readonly isLegacyScheme: boolean
  readonly keyUsage: KeyUsage
  readonly names: ConstrainedNames
  /** For whom it may issue; undefined: for anybody. */
  readonly constraints: NameConstraints | undefined
  /** What it was issued under; undefined: that cannot be read. */
  readonly policies: CertificatePolicies | undefined
  /** What is wrong with it wherever it is in a path. */
  readonly problem: string | undefined
  /** It is of X.509 version 1, which has no extensions. */
  readonly isVersion1: boolean
}

/** Throws where the certificate, or one of the extensions that are looked at, is not DER, or is there twice (RFC 5280 §4.2). */
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
