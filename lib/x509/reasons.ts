/**
 * Why a certificate is refused: OpenSSL's error names and texts, as Node, proxies and our own path validation report them.
 * Begin with `refusalOf` (our error for a reason), `reasonNamed` (a forwarded reason).
 */
import type { Refusal } from '../errors.ts'

/**
 * OpenSSL's verification errors (`man X509_STORE_CTX_get_error`): the number that HAProxy forwards, the name that Node
 * gives it, and the text that nginx and Apache forward. Any other one becomes `certificateInvalid`.
 */
const REASONS: ReadonlyArray<readonly [number: number, name: string, text: string, refusal: Refusal]> = [
  [2, 'UNABLE_TO_GET_ISSUER_CERT', 'unable to get issuer certificate', 'certificateUntrusted'],
  // The CRL errors do not say whether the issuer is trusted: OpenSSL looks for a CRL before it checks trust.
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
  // The CRL is of a CA that is not trusted, or not any more.
  [33, 'UNABLE_TO_GET_CRL_ISSUER', 'unable to get CRL issuer certificate', 'certificateUntrusted'],
  [35, 'KEYUSAGE_NO_CRL_SIGN', 'key usage does not include CRL signing', 'revocationUnknown'],
  [36, 'UNHANDLED_CRITICAL_CRL_EXTENSION', 'unhandled critical CRL extension', 'revocationUnknown'],
  [44, 'DIFFERENT_CRL_SCOPE', 'different CRL scope', 'revocationUnknown'],
  // The OCSP response is still to come.
  [73, 'OCSP_VERIFY_NEEDED', 'OCSP verification is needed', 'revocationUnknown'],
  // A signed answer of the responder (RFC 6960 §2.2), which no option overrides.
  [75, 'OCSP_CERT_UNKNOWN', 'Certificate unknown to OCSP responder', 'revocationUnknown']
]

const byName: ReadonlyMap<string, Refusal> = new Map(REASONS.map(([, name, , refusal]) => [name, refusal]))
const nameByWord: ReadonlyMap<string, string> = new Map(REASONS.flatMap(([number, name, text]) => [[String(number), name], [text, name]] as const))

/** The refusal for a reason, by its name such as `CERT_HAS_EXPIRED`. */
export function refusalOf (reason: string | null | undefined): Refusal {
  return byName.get(String(reason)) ?? 'certificateInvalid'
}

/**
 * The name of the reason that a proxy forwarded: `FAILED:certificate has expired` (nginx, Apache), `10` (HAProxy).
 * Undefined where it is not known.
 */
export function reasonNamed (verdict: string): string | undefined {
  // Apache does not know the issuer, and was configured to let the certificate pass.
  if (verdict === 'GENEROUS') return 'CERT_UNTRUSTED'
  // OpenSSL 1.1 wrote "self signed", without the hyphen.
  const word = verdict.replace(/^FAILED:/, '').replace(/^self signed/, 'self-signed')
  return nameByWord.get(word)
}
