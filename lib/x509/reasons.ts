/**
 * Why a certificate does not count, in the words of whoever verified it, and the answer that it gets.
 */
import type { X509Certificate } from 'node:crypto'
import type { Refusal } from '../errors.ts'
import { readOr } from './der.ts'
import { problemOfPurpose } from './key-usage.ts'
import { strengthOf } from './keys.ts'
import { parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

/**
 * OpenSSL's reasons (`man X509_STORE_CTX_get_error`): the number that HAProxy forwards, the name that Node gives it, and
 * the text that nginx and Apache forward. Any other is `certificateInvalid`.
 */
const REASONS: ReadonlyArray<readonly [number: number, name: string, text: string, refusal: Refusal]> = [
  [2, 'UNABLE_TO_GET_ISSUER_CERT', 'unable to get issuer certificate', 'certificateUntrusted'],
  // Of the issuer, none of these says anything: OpenSSL looks for a list before it looks for trust.
  [3, 'UNABLE_TO_GET_CRL', 'unable to get certificate CRL', 'revocationUnknown'],
  [7, 'CERT_SIGNATURE_FAILURE', 'certificate signature failure', 'certificateUntrusted'],
  [8, 'CRL_SIGNATURE_FAILURE', 'CRL signature failure', 'revocationUnknown'],
  [9, 'CERT_NOT_YET_VALID', 'certificate is not yet valid', 'certificateNotYetValid'],
  [10, 'CERT_HAS_EXPIRED', 'certificate has expired', 'certificateExpired'],
  [11, 'CRL_NOT_YET_VALID', 'CRL is not yet valid', 'revocationUnknown'],
  [12, 'CRL_HAS_EXPIRED', 'CRL has expired', 'revocationUnknown'],
  [18, 'DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate', 'certificateUntrusted'],
  [19, 'SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain', 'certificateUntrusted'],
  [20, 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'unable to get local issuer certificate', 'certificateUntrusted'],
  [21, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify the first certificate', 'certificateUntrusted'],
  [23, 'CERT_REVOKED', 'certificate revoked', 'certificateRevoked'],
  [26, 'INVALID_PURPOSE', 'unsuitable certificate purpose', 'certificateInvalid'],
  [27, 'CERT_UNTRUSTED', 'certificate not trusted', 'certificateUntrusted'],
  // A list of an authority that is not trusted, or not any more.
  [33, 'UNABLE_TO_GET_CRL_ISSUER', 'unable to get CRL issuer certificate', 'certificateUntrusted'],
  [35, 'KEYUSAGE_NO_CRL_SIGN', 'key usage does not include CRL signing', 'revocationUnknown'],
  [36, 'UNHANDLED_CRITICAL_CRL_EXTENSION', 'unhandled critical CRL extension', 'revocationUnknown'],
  [44, 'DIFFERENT_CRL_SCOPE', 'different CRL scope', 'revocationUnknown'],
  // An answer is on its way.
  [73, 'OCSP_VERIFY_NEEDED', 'OCSP verification is needed', 'revocationUnknown'],
  // A responder's signed word (RFC 6960 §2.2), which no option overrules.
  [75, 'OCSP_CERT_UNKNOWN', 'Certificate unknown to OCSP responder', 'revocationUnknown']
]

const byName: ReadonlyMap<string, Refusal> = new Map(REASONS.map(([, name, , refusal]) => [name, refusal]))
const nameByWord: ReadonlyMap<string, string> = new Map(REASONS.flatMap(([number, name, text]) => [[String(number), name], [text, name]] as const))

/** The answer to a reason by its name, such as `CERT_HAS_EXPIRED`. */
export function refusalOf (reason: string | null | undefined): Refusal {
  return byName.get(String(reason)) ?? 'certificateInvalid'
}

/**
 * The name of a reason that a proxy puts in its own words: `FAILED:certificate has expired` (nginx, Apache), `10`
 * (HAProxy); `undefined` where it is not known.
 */
export function reasonNamed (verdict: string): string | undefined {
  // Apache: nobody here knows the issuer, and it was told not to mind.
  if (verdict === 'GENEROUS') return 'CERT_UNTRUSTED'
  // OpenSSL 1.1 wrote it in two words.
  const word = verdict.replace(/^FAILED:/, '').replace(/^self signed/, 'self-signed')
  return nameByWord.get(word)
}

/**
 * What is wrong with a certificate in words, for logs: OpenSSL's names were made for what OpenSSL refuses, and here some mean
 * more than that.
 */

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
