/**
 * Whether a certificate that a reverse proxy forwarded is one of a client to be trusted (RFC 5280 §6): what OpenSSL does
 * for those that connect to us directly, done again for those that do not, as Node has no way to ask OpenSSL.
 *
 * What `openssl verify -purpose sslclient -auth_level 2 -policy anyPolicy` refuses is refused, also with `-crl_check_all` and lists; what
 * it accepts is accepted. We are stricter:
 *
 * - certificates and lists must be DER, not BER, wherever they are looked at: names (GeneralNames have one of nine tags, no
 *   string is in pieces, no part of a name is empty), the extensions about uses, names and keys, and all of a list, which
 *   is of a version that may have what it has. No extension may be there twice, none may say that it is not critical. An
 *   authority that is configured counts for nothing without that;
 * - every certificate must be one of version 3, and every authority have `basicConstraints`; a self-signed client that is
 *   an authority of its own must have no keyUsage, or one with keyCertSign;
 * - keys must be RSA of 2048 to 16384 bits with an exponent below 2^64, EC on named curves of 224 bits over a prime field,
 *   at a point other than infinity, Ed25519 or Ed448; signatures, those of lists too, must be made with one of these and
 *   SHA-2, in RSASSA-PSS with the same hash twice;
 * - a self-issued certificate that is no anchor must say by its authority key identifier that another key has signed it:
 *   otherwise it is taken for self-signed, by OpenSSL only if it has the type of key that its signature is made with;
 * - policies are looked at, as with `-policy anyPolicy`, critical or not (policies.ts): OpenSSL's servers look at none. Of
 *   these extensions none may be an empty list; a client of its issuer's name counts among the certificates after which
 *   a policy is required (RFC 5280 §6.1.5 a), and its mappings bring back nothing;
 * - RFC 3779 resources and proxyCertInfo must not be there at all;
 * - name constraints: a URI with a user name or anything else that is read in several ways is refused where any is
 *   constrained, so is an otherName, and an address in Unicode (RFC 8398) where addresses are; so is a common name with
 *   NUL, and an address where one with NUL is constrained;
 * - the newest of an authority's lists that are in force decides: where it has an issuingDistributionPoint, a
 *   deltaCRLIndicator or critical extensions of entries, nobody of that authority is let in, whatever older ones say. Lists
 *   of another key of the same authority do not count; whoever is listed as "removed from CRL" is revoked, as only
 *   a delta may say so, and so is whoever is listed as that of another issuer, if that is not critical;
 * - at most four certificates beside the client's, ten in a path, and 2000 steps in search of one; for all paths together
 *   what work.ts says: signatures worth 48 of P-256, 2 MiB of names that are compared, the signatures of 16 lists that
 *   are not known yet. What is used up ends the search: the client is refused.
 *
 * And more lenient: where authorities look alike, OpenSSL takes the first that could be an issuer, and the newest of
 * lists that could be its issuer's. Here the ones are found whose signatures are right. And the last second of a
 * certificate is one of its validity (RFC 5280 §4.1.2.5), which it is not to OpenSSL. And where policies are mapped in so
 * many ways that OpenSSL gives up its tree, at 1000 nodes, our graph may still be small.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from '../der.ts'
import { strengthOf } from './algorithms.ts'
import { problemOfNames } from './constraints.ts'
import { type Facts, factsOf, readableFacts } from './facts.ts'
import type { RevocationList } from './lists.ts'
import { problemOfPolicies } from './policies.ts'
import { problemOfPurpose } from './purposes.ts'
import { createStandingOf, type Standing } from './revocation.ts'
import { type Path, Search, Trusted } from './search.ts'
import { Signatures } from './signatures.ts'
import { Work } from './work.ts'

/** An answer about a certificate, and how long it is one. */
export interface Verification {
  /**
   * What is wrong, in OpenSSL's words, like `tlsSocket.authorizationError`: `CERT_HAS_EXPIRED`, `CERT_REVOKED`, …
   * Undefined: nothing, the certificate is valid.
   */
  readonly error: string | undefined
  /** The first moment that a valid certificate is known to be valid: the latest start of what was looked at. NaN if it is not. */
  readonly from: number
  /**
   * The last moment (inclusive, in milliseconds since the epoch): the earliest end of certificates and lists, or just before
   * another list begins. NaN if it is not valid.
   */
  readonly until: number
}

/**
 * Verifies a client certificate. Never throws, whatever the certificates are: those who wrote them may be attackers.
 *
 * @param others what was forwarded along with it, in any order, the root too or not; at most four
 * @param now milliseconds since the epoch
 */
export type VerifyPath = (leaf: X509Certificate, others: readonly X509Certificate[], now: number) => Verification

export interface RevocationStatus {
  readonly error?: string
  readonly pending?: boolean
  readonly from: number
  readonly until: number
}
export type RevocationStatusOf = (path: readonly Facts[], now: number, work: Work) => RevocationStatus
export interface PathVerification extends Verification {
  readonly path: readonly Facts[] | undefined
  readonly pending: boolean
}

export class PathVerifier {
  readonly #trusted: Trusted
  readonly #signatures = new Signatures()
  constructor (authorities: readonly X509Certificate[]) {
    this.#trusted = new Trusted(authorities)
  }

  addIntermediate (certificate: X509Certificate): void {
    this.#trusted.add(certificate)
  }

  named (subject: string): readonly Facts[] {
    return this.#trusted.named(subject)
  }

  verify (leaf: X509Certificate | Facts, others: readonly X509Certificate[], now: number, statusOf: RevocationStatusOf = () => ({ from: -Infinity, until: Infinity })): PathVerification {
    return readOr(() => {
      const search = new Search(this.#trusted, 'fields' in leaf ? leaf : factsOf(leaf), readableFacts(others.slice(0, 9)))
      const work = new Work()
      let first: PathVerification | undefined
      let pending = false
      for (const path of search.paths()) {
        const answer = readOr(() => this.#verify(path, now, work, statusOf), { ...refused('UNSPECIFIED'), path: undefined, pending: false })
        if (answer.error === undefined && !answer.pending) return answer
        pending ||= answer.pending
        first ??= answer
        if (work.isUsedUp) break
      }
      return first === undefined ? { ...refused(search.deadEnd), path: undefined, pending: false } : { ...first, pending }
    }, { ...refused('UNSPECIFIED'), path: undefined, pending: false })
  }

  #verify (path: Path, now: number, work: Work, statusOf: RevocationStatusOf): PathVerification {
    const problemOfSignature = (certificate: Facts, issuer: Facts): string | undefined => this.#signatures.problemOf(certificate, issuer, work)
    const problem = problemOfCertificates(path, now, { work, problemOfSignature, standingOf: () => ({ from: 0, until: 0 }) }) ?? problemOfNames(path, work) ?? problemOfPolicies(path, work)
    if (problem !== undefined) return { ...refused(problem), path, pending: false }
    const status = statusOf(path, now, work)
    if (status.error !== undefined) return { ...refused(status.error), path, pending: false }
    return {
      error: undefined,
      path,
      pending: status.pending === true,
      from: Math.max(...path.map(({ validity }) => validity.notBefore), status.from),
      until: Math.min(...path.map(({ validity }) => validity.notAfter), status.until)
    }
  }

  verifyAuthority (authority: Facts, anchor: Facts, now: number): boolean {
    const search = new Search(this.#trusted, authority, [])
    const work = new Work()
    for (const path of search.paths()) {
      if (path.at(-1)!.certificate.fingerprint256 !== anchor.certificate.fingerprint256) continue
      if (problemOfCertificates([authority, ...path], now, { work, problemOfSignature: (certificate, issuer) => certificate === issuer ? undefined : this.#signatures.problemOf(certificate, issuer, work), standingOf: () => ({ from: 0, until: 0 }) }) === undefined) return true
    }
    return false
  }
}

export function problemOfAuthority (_certificate: X509Certificate): string | undefined {
  return undefined
}

/** What is asked of a certificate and its issuer, for one client. */
interface Questions {
  readonly work: Work
  readonly problemOfSignature: (certificate: Facts, issuer: Facts) => string | undefined
  readonly standingOf: (certificate: Facts, issuer: Facts) => Standing
}

/** More would only take time. */
const MOST_OTHERS = 4

/**
 * @param authorities roots, one of which a path must end in, and any that clients need not send
 * @param lists with any, every certificate of a path needs one of its issuer, the root too
 */
export function createVerifyPath (authorities: readonly X509Certificate[], lists: readonly RevocationList[]): VerifyPath {
  const trusted = new Trusted(authorities)
  const signatures = new Signatures()
  const standingOf = createStandingOf(lists)
  return (leaf, others, now) => readOr(() => {
    if (others.length > MOST_OTHERS) return refused('CERT_CHAIN_TOO_LONG')
    const search = new Search(trusted, factsOf(leaf), readableFacts(others))
    const work = new Work()
    const questions: Questions = {
      work,
      problemOfSignature: (certificate, issuer) => signatures.problemOf(certificate, issuer, work),
      standingOf: (certificate, issuer) => standingOf(certificate, issuer, now, work)
    }
    let first: Verification | undefined
    for (const path of search.paths()) {
      const answer = readOr(() => verify(path, now, questions), refused('UNSPECIFIED'))
      if (answer.error === undefined) return answer
      first ??= answer
      if (work.isUsedUp) break
    }
    return first ?? refused(search.deadEnd)
  }, refused('UNSPECIFIED'))
}

function verify (path: Path, now: number, questions: Questions): Verification {
  const problem = problemOfCertificates(path, now, questions) ?? problemOfNames(path, questions.work) ?? problemOfPolicies(path, questions.work)
  if (problem !== undefined) return refused(problem)
  const standings: Standing[] = []
  for (const [index, facts] of path.entries()) {
    const standing = questions.standingOf(facts, path[index + 1] ?? facts)
    if (standing.error !== undefined) return refused(standing.error)
    standings.push(standing)
  }
  return {
    error: undefined,
    from: Math.max(...path.map(({ validity }) => validity.notBefore), ...standings.map(({ from }) => from)),
    until: Math.min(...path.map(({ validity }) => validity.notAfter), ...standings.map(({ until }) => until))
  }
}

/** From the trusted end: a key is not used before it is known to be an authority's, and one of a sensible size. */
function problemOfCertificates (path: Path, now: number, { problemOfSignature }: Questions): string | undefined {
  for (let index = path.length - 1; index >= 0; index--) {
    const facts = path[index]
    const issuer = path[index + 1]
    const problem = facts.problem ??
      (issuer === undefined ? undefined : problemOfSignature(facts, issuer)) ??
      (strengthOf(facts) === undefined ? index === 0 ? 'EE_KEY_TOO_SMALL' : 'CA_KEY_TOO_SMALL' : undefined) ??
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
