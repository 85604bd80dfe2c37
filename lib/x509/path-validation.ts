/**
 * Whether a certificate is one of a client to be trusted (RFC 5280 §6), and by which paths: Node has no way to ask OpenSSL
 * that of a certificate that a proxy forwarded, or again, when trust has changed.
 *
 * What `openssl verify -purpose sslclient -auth_level 2 -policy anyPolicy` refuses is refused; what it accepts is accepted
 * (of revocation, lib/trust/revocation.ts says the same). We are stricter:
 *
 * - certificates must be DER, not BER, wherever they are looked at: names (GeneralNames have one of nine tags, no string is
 *   in pieces, no part of a name is empty), the extensions about uses, names and keys. No extension may be there twice. An
 *   authority that is configured counts for nothing without that;
 * - every certificate must be one of version 3, and every authority have `basicConstraints`; a self-signed client that is
 *   an authority of its own must have no keyUsage, or one with keyCertSign;
 * - keys must be RSA of 2048 to 16384 bits with an exponent below 2^64, EC on named curves of 224 bits over a prime field,
 *   at a point other than infinity, Ed25519 or Ed448; signatures must be made with one of these and SHA-2, in RSASSA-PSS
 *   with the same hash twice;
 * - a self-issued certificate that is no anchor must say by its authority key identifier that another key has signed it:
 *   otherwise it is taken for self-signed, by OpenSSL only if it has the type of key that its signature is made with;
 * - policies are looked at, as with `-policy anyPolicy`, critical or not (policies.ts): OpenSSL's servers look at none. Of
 *   these extensions none may be an empty list; a client of its issuer's name counts among the certificates after which
 *   a policy is required (RFC 5280 §6.1.5 a), and its mappings bring back nothing;
 * - RFC 3779 resources and proxyCertInfo must not be there at all;
 * - name constraints: a URI with a user name or anything else that is read in several ways is refused where any is
 *   constrained, so is an otherName, and an address in Unicode (RFC 8398) where addresses are; so is a common name with
 *   NUL, and an address where one with NUL is constrained;
 * - at most nine certificates beside the client's, ten in a path, and 2000 steps in search of one; for all paths together
 *   what work.ts says: signatures worth 48 of P-256, 2 MiB of names that are compared, the signatures of 16 lists that
 *   are not known yet. What is used up ends the search: the client is refused.
 *
 * And more lenient: where authorities look alike, OpenSSL takes the first that could be an issuer. Here the ones are found
 * whose signatures are right. And the last second of a certificate is one of its validity (RFC 5280 §4.1.2.5), which it is
 * not to OpenSSL. And where policies are mapped in so many ways that OpenSSL gives up its tree, at 1000 nodes, our graph may
 * still be small.
 */
import type { X509Certificate } from 'node:crypto'
import { Budget } from './budget.ts'
import { problemOfPolicies } from './certificate-policies.ts'
import { derOf, readOr } from './der.ts'
import type { Validity } from './fields.ts'
import { problemOfPurpose } from './key-usage.ts'
import { strengthOf } from './keys.ts'
import { problemOfNames } from './name-constraints.ts'
import { parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'
import { type Path, PathBuilder, Signatures, TrustAnchors } from './path-building.ts'
import { PROBLEMS_IN_WORDS, UNREADABLE } from './reasons.ts'

/** An answer about a certificate, and how long it is one. */
interface Verification {
  /**
   * What is wrong, in OpenSSL's words, like `tlsSocket.authorizationError`: `CERT_HAS_EXPIRED`, `CERT_REVOKED`, …
   * Undefined: nothing, the certificate is valid.
   */
  readonly error: string | undefined
  /** The first moment that a valid certificate is known to be valid: the latest start of what was looked at. NaN if it is not. */
  readonly from: number
  /**
   * The last moment (inclusive, in milliseconds since the epoch): the earliest end of certificates and of what is known of
   * revocation. NaN if it is not valid.
   */
  readonly until: number
}

export interface PathVerification extends Verification {
  /**
   * From the client to the anchor, both included. With an error the path that it is one of, if there is any: which
   * authorities the certificate would be of.
   */
  readonly path: Path | undefined
  /** Nothing but the revocation of this path is not known yet: ask again. Not valid before: `error` says so as well. */
  readonly pending: boolean
}

/** Of an authority to its anchor, both included, and from when until when it is valid. */
export interface AuthorityPath extends Validity {
  readonly path: Path
}

/** What is known of the revocation of the certificates of a path, and from when until when (inclusive, in milliseconds since the epoch). */
export interface RevocationStatus {
  /** Undefined: none was revoked, or none is asked about. */
  readonly error?: string | undefined
  /** Somebody has to be asked first. */
  readonly pending?: boolean | undefined
  readonly from: number
  readonly until: number
}

/**
 * Asked only of paths that are valid in all else.
 *
 * @param path from the client to the anchor
 * @param work what may still be done for this client
 */
export type RevocationStatusOf = (path: Path, now: number, work: Budget) => RevocationStatus

/** More would only take time. */
const MOST_OTHERS = 9

/** Verifies client certificates. Never throws, whatever the certificates are: those who wrote them may be attackers. */
export class PathVerifier {
  readonly #trusted: TrustAnchors
  readonly #signatures: Signatures
  readonly #isLegacy: boolean

  /**
   * @param authorities roots, one of which a path must end in, and any that clients need not send
   * @param isLegacy whether RSA keys of 1024 bits, curves of 160, SHA-1, and clients and roots of X.509 version 1 pass
   */
  constructor (authorities: readonly X509Certificate[], isLegacy = false) {
    this.#trusted = new TrustAnchors(authorities)
    this.#signatures = new Signatures(isLegacy)
    this.#isLegacy = isLegacy
  }

  /**
   * Remembers the certificate of an authority, which clients then need not send: it leads to an anchor, but is never one.
   * One that is known already changes nothing; how many there are is up to the caller.
   */
  addIntermediate (certificate: X509Certificate): void {
    readOr(() => this.#trusted.remember(certificate), undefined)
  }

  /** Forgets one that was remembered. */
  removeIntermediate (certificate: X509Certificate): void {
    this.#trusted.forget(certificate)
  }

  /** The authorities of a name, by their canonical subject: those that are configured, and those that are remembered. */
  named (subject: string): readonly ParsedCertificate[] {
    const { configured, remembered } = this.#trusted
    return [...configured.named(subject), ...remembered.named(subject)]
  }

  /**
   * The first valid path, or why there is none: one that is pending; else what is wrong with the revocation of the first
   * that is valid in all else; else what is wrong with the first one.
   *
   * @param others what the client sent along with it, in any order, the root too or not; at most nine
   * @param now milliseconds since the epoch
   * @param statusOf without, no revocation is checked
   */
  verify (leaf: X509Certificate | ParsedCertificate, others: readonly X509Certificate[], now: number, statusOf?: RevocationStatusOf): PathVerification {
    return this.validPaths(leaf, others, now, statusOf).next().value
  }

  /** Every valid path, the shortest first, as far as work.ts lets us look; returned is why there are no more. */
  * validPaths (leaf: X509Certificate | ParsedCertificate, others: readonly X509Certificate[], now: number, statusOf: RevocationStatusOf = unchecked): Generator<PathVerification, PathVerification> {
    if (others.length > MOST_OTHERS) return refused('CERT_CHAIN_TOO_LONG')
    const work = new Budget()
    let first: PathVerification | undefined
    let revoked: PathVerification | undefined
    let pending: PathVerification | undefined
    try {
      const search = new PathBuilder(this.#trusted, 'fields' in leaf ? this.#trusted.same(leaf) : this.#trusted.factsOf(leaf), others)
      for (const path of search.paths()) {
        const problem = readOr(() => this.#problemOfPath(path, now, work, true), 'UNSPECIFIED')
        if (problem !== undefined) {
          first ??= refused(problem, path)
        } else {
          const answer = answerOf(path, readOr(() => statusOf(path, now, work), { error: 'UNSPECIFIED', from: NaN, until: NaN }))
          if (answer.error === undefined) yield answer
          else if (answer.pending) pending ??= answer
          else revoked ??= answer
        }
        if (work.isUsedUp) break
      }
      return pending ?? revoked ?? first ?? refused(search.deadEnd)
    } catch {
      return refused('UNSPECIFIED')
    }
  }

  /**
   * Whether an authority, or whoever signs lists for one with a key for that alone, has a valid path to an anchor of this
   * name and key (RFC 5280 §6.3.3 f), by what is configured and remembered; revocation is not looked at. Each authority of
   * a valid path has one.
   *
   * @param others what it may lead over as well
   * @param now milliseconds since the epoch
   * @returns undefined where there is none
   */
  verifyAuthority (authority: ParsedCertificate, anchor: ParsedCertificate, now: number, others: readonly ParsedCertificate[] = []): AuthorityPath | undefined {
    return readOr(() => {
      const work = new Budget()
      for (const path of new PathBuilder(this.#trusted, this.#trusted.factsOf(authority.certificate), others).paths()) {
        if (isSamePath(path.at(-1)!, anchor) && this.#problemOfPath(path, now, work, false) === undefined) return { path, ...validityOfPath(path) }
        if (work.isUsedUp) break
      }
      return undefined
    }, undefined)
  }

  #problemOfPath (path: Path, now: number, work: Budget, isOfClient: boolean): string | undefined {
    return this.#problemOfCertificates(path, now, work, isOfClient) ??
      problemOfNames(isOfClient ? path : [withoutNames(path[0]), ...path], work) ??
      problemOfPolicies(path, work)
  }

  /** From the trusted end: a key is not used before it is known to be an authority's, and one of a sensible size. */
  #problemOfCertificates (path: Path, now: number, work: Budget, isOfClient: boolean): string | undefined {
    for (let index = path.length - 1; index >= 0; index--) {
      const facts = path[index]
      const issuer = path[index + 1]
      const isEnd = issuer === undefined || (index === 0 && isOfClient)
      const problem = (this.#isLegacy && facts.isVersion1 && isEnd ? undefined : facts.problem) ??
        (issuer === undefined ? undefined : this.#signatures.problemOf(facts, issuer, work)) ??
        (strengthOf(facts, this.#isLegacy) === undefined ? index === 0 && isOfClient ? 'EE_KEY_TOO_SMALL' : 'CA_KEY_TOO_SMALL' : undefined) ??
        problemOfPurpose(path, index, isOfClient, this.#isLegacy) ??
        problemOfDates(facts, now)
      if (problem !== undefined) return problem
    }
    return undefined
  }
}

function unchecked (): RevocationStatus {
  return { from: -Infinity, until: Infinity }
}

/** The name of a client, where there is none: what binds an authority is then what would bind it above one. */
function withoutNames (facts: ParsedCertificate): ParsedCertificate {
  return { ...facts, names: { ...facts.names, all: [], ofClient: [] } }
}

function isSamePath (anchor: ParsedCertificate, other: ParsedCertificate): boolean {
  return anchor.subject === other.subject && derOf(anchor.fields.publicKey).equals(derOf(other.fields.publicKey))
}

function problemOfDates ({ validity: { notBefore, notAfter } }: ParsedCertificate, now: number): string | undefined {
  // What has no readable date is in none.
  if (!(notBefore <= now)) return 'CERT_NOT_YET_VALID'
  return now <= notAfter ? undefined : 'CERT_HAS_EXPIRED'
}

function answerOf (path: Path, { error, pending = false, from, until }: RevocationStatus): PathVerification {
  // OpenSSL's word for what is still to be asked.
  if (error !== undefined || pending) return { ...refused(error ?? 'OCSP_VERIFY_NEEDED', path), pending }
  const { notBefore, notAfter } = validityOfPath(path)
  return { error, path, from: Math.max(from, notBefore), until: Math.min(until, notAfter), pending }
}

function validityOfPath (path: Path): Validity {
  return { notBefore: Math.max(...path.map(({ validity }) => validity.notBefore)), notAfter: Math.min(...path.map(({ validity }) => validity.notAfter)) }
}

function refused (error: string, path?: Path): PathVerification {
  return { error, path, from: NaN, until: NaN, pending: false }
}

/**
 * Whether a configured authority can be of any use: none that cannot is in a valid path, now or later.
 */

/**
 * Why no certificate is ever valid by this authority, for a warning; undefined: one may be. Dates are not looked at, nor
 * whether there is an anchor above it.
 *
 * @param isLegacy as of `PathVerifier`
 */
export function problemOfAuthority (certificate: X509Certificate, isLegacy = false): string | undefined {
  const facts = readOr(() => parseCertificate(certificate), undefined)
  if (facts === undefined) return UNREADABLE
  const isAnchor = certificate.checkIssued(certificate)
  const problem = (isLegacy && facts.isVersion1 && isAnchor ? undefined : facts.problem) ??
    (isAnchor ? undefined : problemOfIssued(facts, isLegacy)) ??
    (strengthOf(facts, isLegacy) === undefined ? 'CA_KEY_TOO_SMALL' : problemOfUse(facts, isAnchor, isLegacy))
  return problem === undefined ? undefined : `${PROBLEMS_IN_WORDS.get(problem)!} (${problem})`
}

/** An anchor's own signature and policies do not count. */
function problemOfIssued ({ policies, scheme, isLegacyScheme, looksSelfSigned }: ParsedCertificate, isLegacy: boolean): string | undefined {
  if (policies === undefined) return 'INVALID_POLICY_EXTENSION'
  // By its keyUsage it has not signed itself: nothing leads on from it.
  if (looksSelfSigned) return 'INVALID_CA'
  return scheme === undefined && !(isLegacy && isLegacyScheme) ? 'CA_MD_TOO_WEAK' : undefined
}

/** A self-signed client may be configured as an authority of its own. */
function problemOfUse (facts: ParsedCertificate, isAnchor: boolean, isLegacy: boolean): string | undefined {
  const isClient = isAnchor && problemOfPurpose([facts], 0, true) === undefined
  return isClient ? undefined : problemOfPurpose([facts], 0, false, isLegacy)
}
