/**
 * Whether a certificate that a reverse proxy forwarded is one of a client to be trusted (RFC 5280 §6): what OpenSSL does
 * for those that connect to us directly, done again for those that do not, as Node has no way to ask OpenSSL.
 *
 * What `openssl verify -purpose sslclient -auth_level 2` refuses is refused, also with `-crl_check_all` and lists; what
 * it accepts is accepted. We are stricter:
 *
 * - certificates and lists must be DER, not BER, and no extension may be there twice;
 * - every certificate must be one of version 3, and every authority have `basicConstraints`; a self-signed client that is
 *   an authority of its own must have no keyUsage, or one with keyCertSign;
 * - keys must be RSA of 2048 to 16384 bits, EC on named curves of 224 bits, Ed25519 or Ed448; signatures, those of lists
 *   too, must be made with one of these and SHA-2, in RSASSA-PSS with the same hash twice;
 * - policyConstraints, policyMappings and inhibitAnyPolicy must not be critical, as no policy is looked at;
 * - RFC 3779 resources and proxyCertInfo must not be there at all;
 * - name constraints: a URI with a user name or anything else that is read in several ways is refused where any is
 *   constrained, so is an otherName, and an address in Unicode (RFC 8398) where addresses are; so is a common name with
 *   NUL, and more than 131,072 pairs of a name and a constraint;
 * - revocation lists with an issuingDistributionPoint, a deltaCRLIndicator or critical extensions of entries do not
 *   count, nor do lists of another key of the same authority; whoever is listed as "removed from CRL" is revoked, as only
 *   a delta may say so;
 * - at most four certificates beside the client's, and ten in a path.
 *
 * And more lenient: where authorities look alike, OpenSSL takes the first that could be an issuer, and the newest of
 * lists that could be its issuer's. Here the ones are found whose signatures are right. And the last second of a
 * certificate is one of its validity (RFC 5280 §4.1.2.5), which it is not to OpenSSL.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from '../der.ts'
import { hasStrongKey } from './algorithms.ts'
import { problemOfNames } from './constraints.ts'
import { type Facts, factsOf, readableFacts } from './facts.ts'
import { problemOfForm, problemOfPurpose } from './purposes.ts'
import { createStandingOf, type StandingOf } from './revocation.ts'
import { type Path, Search, Trusted } from './search.ts'
import { Signatures } from './signatures.ts'

/** An answer about a certificate, and how long it is one. */
export interface Verification {
  /**
   * What is wrong, in OpenSSL's words, like `tlsSocket.authorizationError`: `CERT_HAS_EXPIRED`, `CERT_REVOKED`, …
   * Undefined: nothing, the certificate is valid.
   */
  readonly error: string | undefined
  /** The first moment that a valid certificate is known to be valid: the latest start of what was looked at. NaN if it is not. */
  readonly from: number
  /** The last moment (inclusive, in milliseconds since the epoch): the earliest end of certificates and lists. NaN if it is not valid. */
  readonly until: number
}

/**
 * Verifies a client certificate. Never throws, whatever the certificates are: those who wrote them may be attackers.
 *
 * @param others what was forwarded along with it, in any order, the root too or not; at most four
 * @param now milliseconds since the epoch
 */
export type VerifyPath = (leaf: X509Certificate, others: readonly X509Certificate[], now: number) => Verification

type ProblemOfSignature = (certificate: Facts, issuer: Facts) => string | undefined

/** More would only take time. */
const MOST_OTHERS = 4

/**
 * @param authorities roots, one of which a path must end in, and any that clients need not send
 * @param lists the DER of revocation lists; with any, every certificate of a path needs one of its issuer, the root too
 */
export function createVerifyPath (authorities: readonly X509Certificate[], lists: readonly Buffer[]): VerifyPath {
  const trusted = new Trusted(authorities)
  const signatures = new Signatures()
  const standingOf = createStandingOf(lists)
  return (leaf, others, now) => readOr(() => {
    if (others.length > MOST_OTHERS) return refused('CERT_CHAIN_TOO_LONG')
    const search = new Search(trusted, factsOf(leaf), readableFacts(others))
    const problemOfSignature = signatures.counted()
    let first: Verification | undefined
    for (const path of search.paths()) {
      const answer = readOr(() => verify(path, now, problemOfSignature, standingOf), refused('UNSPECIFIED'))
      if (answer.error === undefined) return answer
      first ??= answer
    }
    return first ?? refused(search.deadEnd)
  }, refused('UNSPECIFIED'))
}

function verify (path: Path, now: number, problemOfSignature: ProblemOfSignature, standingOf: StandingOf): Verification {
  const problem = problemOfCertificates(path, now, problemOfSignature) ?? problemOfNames(path)
  if (problem !== undefined) return refused(problem)
  const standings = path.map((facts, index) => standingOf(facts, path[index + 1] ?? facts, now))
  const error = standings.find(({ error }) => error !== undefined)?.error
  if (error !== undefined) return refused(error)
  const lists = standings.flatMap(({ list }) => list ?? [])
  return {
    error: undefined,
    from: Math.max(...path.map(({ validity }) => validity.notBefore), ...lists.map(({ thisUpdate }) => thisUpdate)),
    until: Math.min(...path.map(({ validity }) => validity.notAfter), ...lists.map(({ nextUpdate }) => nextUpdate))
  }
}

/** From the trusted end: a key is not used before it is known to be an authority's, and one of a sensible size. */
function problemOfCertificates (path: Path, now: number, problemOfSignature: ProblemOfSignature): string | undefined {
  for (let index = path.length - 1; index >= 0; index--) {
    const facts = path[index]
    const issuer = path[index + 1]
    const problem = problemOfForm(facts) ??
      (issuer === undefined ? undefined : problemOfSignature(facts, issuer)) ??
      (hasStrongKey(facts) ? undefined : index === 0 ? 'EE_KEY_TOO_SMALL' : 'CA_KEY_TOO_SMALL') ??
      problemOfPurpose(path, index) ??
      problemOfDates(facts, now)
    if (problem !== undefined) return problem
  }
  return undefined
}

function problemOfDates ({ validity: { notBefore, notAfter } }: Facts, now: number): string | undefined {
  // What has no readable date is in none.
  if (!(notBefore <= now)) return 'CERT_NOT_YET_VALID'
  return now <= notAfter ? undefined : 'CERT_HAS_EXPIRED'
}

function refused (error: string): Verification {
  return { error, from: NaN, until: NaN }
}
