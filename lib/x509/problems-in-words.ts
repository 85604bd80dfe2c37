/**
 * What path validation finds wrong with a certificate, in words: for the log of a refused client (`explainProblem`), and for
 * warnings about configured CAs that can never be a part of a valid path (`problemOfAuthority`). Some of OpenSSL's names
 * stand for more here than what OpenSSL refuses with them.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from './der.ts'
import { problemOfPurpose } from './key-usage.ts'
import { strengthOf } from './keys.ts'
import { parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

const UNREADABLE = 'it is not exactly as RFC 5280 has it: DER, and no extension twice'
const WEAK_KEY = 'its key is too weak, or of a kind that is not known here'

/** Problems of a certificate by itself, at any place in a path. */
const PROBLEMS_IN_WORDS: ReadonlyMap<string, string> = new Map([
  ['CERT_REJECTED', 'it is not of X.509 version 3, or has extensions of RFC 3779 or RFC 3820'],
  ['UNHANDLED_CRITICAL_EXTENSION', 'it has a critical extension that is not known here'],
  ['INVALID_POLICY_EXTENSION', 'its policies are not exactly as RFC 5280 has them'],
  ['CA_MD_TOO_WEAK', 'it was not signed with SHA-2, Ed25519 or Ed448'],
  ['CA_KEY_TOO_SMALL', WEAK_KEY],
  ['EE_KEY_TOO_SMALL', WEAK_KEY],
  ['INVALID_PURPOSE', 'its extended key usage, or its keyUsage, is not for clients'],
  ['INVALID_CA', 'by its basicConstraints or keyUsage it may issue no certificates']
])

/** Reasons why a client's certificate does not lead to a trust anchor. */
const WORDS_OF_PATHS: ReadonlyMap<string, string> = new Map([
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'its issuer is no authority that counts here, and the client sent no intermediate of that name'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'the intermediates that are known lead to no authority that counts here'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'it is self-signed, and not among the authorities'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'it leads to a root that is not among the authorities'],
  ['CERT_SIGNATURE_FAILURE', 'the authority of its issuer\'s name has not signed it: it has another key']
])

/**
 * Why our path validation refuses a client's certificate; undefined where the name says enough, or no reason is known.
 *
 * @param problem OpenSSL's name of the error
 */
export function explainProblem (leaf: X509Certificate, problem: string): string | undefined {
  const ofPath = WORDS_OF_PATHS.get(problem)
  if (ofPath !== undefined) return ofPath
  const parsed = readOnce(leaf)
  if (parsed === undefined) return UNREADABLE
  const words = PROBLEMS_IN_WORDS.get(problem)
  return words === undefined || hasProblem(parsed, problem) ? words : `of an authority above it: ${words}`
}

/** Parsed once: a refused client may try again on one connection without limit, with a thousand names in its certificate. */
const read = new WeakMap<X509Certificate, ParsedCertificate | undefined>()

function readOnce (leaf: X509Certificate): ParsedCertificate | undefined {
  if (!read.has(leaf)) read.set(leaf, readOr(() => parseCertificate(leaf), undefined))
  return read.get(leaf)
}

function hasProblem (parsed: ParsedCertificate, problem: string): boolean {
  const { problem: ofForm, scheme, policies } = parsed
  switch (problem) {
    case 'CA_MD_TOO_WEAK': return scheme === undefined
    case 'EE_KEY_TOO_SMALL': return strengthOf(parsed) === undefined
    case 'INVALID_POLICY_EXTENSION': return policies === undefined
    default: return ofForm === problem || problemOfPurpose([parsed], 0, true) === problem
  }
}

// Warnings about configured CAs that can never be part of a valid path

/**
 * Why no certificate of this CA can ever be valid, for a warning; undefined where one may be. Neither its dates are
 * checked, nor whether there is an anchor above it.
 *
 * @param isLegacy as in `PathVerifier`
 */
export function problemOfAuthority (certificate: X509Certificate, isLegacy = false): string | undefined {
  const parsed = readOr(() => parseCertificate(certificate), undefined)
  if (parsed === undefined) return UNREADABLE
  const isAnchor = certificate.checkIssued(certificate)
  const problem = (isLegacy && parsed.isVersion1 && isAnchor ? undefined : parsed.problem) ??
    (isAnchor ? undefined : problemOfIssued(parsed, isLegacy)) ??
    (strengthOf(parsed, isLegacy) === undefined ? 'CA_KEY_TOO_SMALL' : problemOfUse(parsed, isAnchor, isLegacy))
  return problem === undefined ? undefined : `${PROBLEMS_IN_WORDS.get(problem)!} (${problem})`
}

/** Checks that do not apply to anchors, whose own signature and policies do not count. */
function problemOfIssued ({ policies, scheme, isLegacyScheme, looksSelfSigned }: ParsedCertificate, isLegacy: boolean): string | undefined {
  if (policies === undefined) return 'INVALID_POLICY_EXTENSION'
  // By its keyUsage it cannot have signed itself, so it is no anchor; but path building stops where it looks self-signed.
  if (looksSelfSigned) return 'INVALID_CA'
  return scheme === undefined && !(isLegacy && isLegacyScheme) ? 'CA_MD_TOO_WEAK' : undefined
}

/** A self-signed client may be configured as its own trust anchor. */
function problemOfUse (parsed: ParsedCertificate, isAnchor: boolean, isLegacy: boolean): string | undefined {
  const isClient = isAnchor && problemOfPurpose([parsed], 0, true) === undefined
  return isClient ? undefined : problemOfPurpose([parsed], 0, false, isLegacy)
}
