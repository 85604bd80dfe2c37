/**
 * What is wrong with a certificate in words, for logs: OpenSSL's names were made for what OpenSSL refuses, and here some mean
 * more than that.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from '../der.ts'
import { strengthOf } from './algorithms.ts'
import { type ParsedCertificate, parseCertificate } from './facts.ts'
import { problemOfPurpose } from './purposes.ts'

export const UNREADABLE = 'it is not exactly as RFC 5280 has it: DER, and no extension twice'
const WEAK_KEY = 'its key is too weak, or of a kind that is not known here'

/** Of a certificate by itself, wherever it is in a path. */
export const PROBLEMS_IN_WORDS: ReadonlyMap<string, string> = new Map([
  ['CERT_REJECTED', 'it is not of X.509 version 3, or has extensions of RFC 3779 or RFC 3820'],
  ['UNHANDLED_CRITICAL_EXTENSION', 'it has a critical extension that is not known here'],
  ['INVALID_POLICY_EXTENSION', 'its policies are not exactly as RFC 5280 has them'],
  ['CA_MD_TOO_WEAK', 'it was not signed with SHA-2, Ed25519 or Ed448'],
  ['CA_KEY_TOO_SMALL', WEAK_KEY],
  ['EE_KEY_TOO_SMALL', WEAK_KEY],
  ['INVALID_PURPOSE', 'its extended key usage, or its keyUsage, is not for clients'],
  ['INVALID_CA', 'by its basicConstraints or keyUsage it may issue no certificates']
])

/** Of how a client's certificate leads to no authority. */
const WORDS_OF_PATHS: ReadonlyMap<string, string> = new Map([
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'its issuer is no authority that counts here, and the client sent no intermediate of that name'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'the intermediates that are known lead to no authority that counts here'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'it is self-signed, and not among the authorities'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'it leads to a root that is not among the authorities'],
  ['CERT_SIGNATURE_FAILURE', 'the authority of its issuer\'s name has not signed it: it has another key']
])

/**
 * Why our verification has refused a client's certificate; undefined where the name says it all, or nobody knows.
 *
 * @param problem in OpenSSL's words
 */
export function explainProblem (leaf: X509Certificate, problem: string): string | undefined {
  const ofPath = WORDS_OF_PATHS.get(problem)
  if (ofPath !== undefined) return ofPath
  const facts = readOnce(leaf)
  if (facts === undefined) return UNREADABLE
  const words = PROBLEMS_IN_WORDS.get(problem)
  return words === undefined || hasProblem(facts, problem) ? words : `of an authority above it: ${words}`
}

/** Whoever is refused may ask again on the same connection, as often as they like, with a thousand names in a certificate. */
const read = new WeakMap<X509Certificate, ParsedCertificate | undefined>()

function readOnce (leaf: X509Certificate): ParsedCertificate | undefined {
  if (!read.has(leaf)) read.set(leaf, readOr(() => parseCertificate(leaf), undefined))
  return read.get(leaf)
}

function hasProblem (facts: ParsedCertificate, problem: string): boolean {
  const { problem: ofForm, scheme, policies } = facts
  switch (problem) {
    case 'CA_MD_TOO_WEAK': return scheme === undefined
    case 'EE_KEY_TOO_SMALL': return strengthOf(facts) === undefined
    case 'INVALID_POLICY_EXTENSION': return policies === undefined
    default: return ofForm === problem || problemOfPurpose([facts], 0, true) === problem
  }
}
