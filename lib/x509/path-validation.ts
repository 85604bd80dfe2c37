/**
 * Path validation (RFC 5280 §6): whether a client certificate is valid, and by which path. Begin with
 * `PathVerifier.verify`. Node cannot ask OpenSSL about a certificate that a proxy forwarded, or ask again after trust has
 * changed.
 *
 * What `openssl verify -purpose sslclient -auth_level 2 -policy anyPolicy` refuses is refused; what it accepts is accepted
 * (trust/revocation.ts says the same of revocation). The differences where we are stricter:
 *
 * - Certificates must be DER, not BER, wherever they are parsed: names (GeneralNames have one of nine tags, no string is in
 *   pieces, no part of a name is empty), and the extensions about usage, names and keys. No extension may be there twice. A
 *   configured CA that breaks this rule is not used.
 * - Every certificate must be of version 3, and every CA must have `basicConstraints`. A self-signed client that is its own
 *   trust anchor must have no keyUsage, or one with keyCertSign.
 * - Keys must be RSA of 2048 to 16384 bits with an exponent below 2^64, EC on named curves of at least 224 bits over a
 *   prime field with a point other than infinity, Ed25519 or Ed448. Signatures must be made with one of these and SHA-2; in
 *   RSASSA-PSS, with the same hash twice.
 * - A self-issued certificate that is no anchor must say by its authority key identifier that another key has signed it.
 *   Otherwise it counts as self-signed; for OpenSSL, only if it has the type of key that its signature is made with.
 * - Certificate policies are processed as with `-policy anyPolicy`, critical or not (certificate-policies.ts); OpenSSL's
 *   servers process none. None of these extensions may be an empty list. A self-issued client certificate counts among
 *   those after which an explicit policy is required (RFC 5280 §6.1.5 a), and its mappings bring back no policy.
 * - RFC 3779 resources and proxyCertInfo must not be there at all.
 * - Name constraints: where URIs are constrained, a URI with a user name or anything else that software reads in several
 *   ways is refused. An otherName is refused where otherNames are constrained, an address in Unicode (RFC 8398) where email
 *   addresses are, an email address where one with NUL is constrained, and a common name with NUL where any name is.
 * - Limits: nine certificates besides the client's, ten in a path, and 2000 steps of path building. For all paths together,
 *   the limits of budget.ts: signatures worth 48 with P-256, 2 MiB of names to compare, and the signatures of 16 CRLs that
 *   are not verified yet. Where a limit is reached, path building ends and the client is refused.
 *
 * The differences where we are more lenient:
 *
 * - Where CAs look alike, OpenSSL takes the first that could be the issuer. Here, the ones with the right signature are
 *   found.
 * - The last second of a certificate is part of its validity (RFC 5280 §4.1.2.5); for OpenSSL it is not.
 * - Where policy mappings make OpenSSL give up its tree, at 1000 nodes, our policy graph may still be small.
 */
import type { X509Certificate } from 'node:crypto'
import { Budget } from './budget.ts'
import { problemOfPolicies } from './certificate-policies.ts'
import { derOf, readOr } from './der.ts'
import type { Validity } from './fields.ts'
import { problemOfPurpose } from './key-usage.ts'
import { strengthOf } from './keys.ts'
import { problemOfNames } from './name-constraints.ts'
import type { ParsedCertificate } from './parsed-certificate.ts'
import { type Path, PathBuilder, Signatures, TrustAnchors } from './path-building.ts'

/** The result for a certificate, and the period in which it holds. */
interface Verification {
  /**
   * OpenSSL's name of the error, as in `tlsSocket.authorizationError`: `CERT_HAS_EXPIRED`, `CERT_REVOKED`, …
   * Undefined where the certificate is valid.
   */
  readonly error: string | undefined
  /** The first moment of validity: the latest start of all that was used. NaN where the certificate is not valid. */
  readonly from: number
  /**
   * The last moment of validity, inclusive, in milliseconds since the epoch: the earliest end of the certificates and of
   * their revocation statuses. NaN where the certificate is not valid.
   */
  readonly until: number
}

export interface PathVerification extends Verification {
  /**
   * From the client to the anchor, both included. With an error: the path that has the error, where there is one, which
   * shows the CAs of the certificate.
   */
  readonly path: Path | undefined
  /** Only the revocation status of this path is missing: try again later. Until then it is not valid, and has an `error`. */
  readonly pending: boolean
}

/** From a CA to its anchor, both included, and the period in which the path is valid. */
export interface AuthorityPath extends Validity {
  readonly path: Path
}

/** The revocation status of a path, and the period in which it holds: inclusive, in milliseconds since the epoch. */
export interface RevocationStatus {
  /** Undefined where no certificate was revoked, or revocation is not checked. */
  readonly error?: string | undefined
  /** A status has to be fetched first. */
  readonly pending?: boolean | undefined
  readonly from: number
  readonly until: number
}

/**
 * Called only for paths that are valid in all other respects.
 *
 * @param path from the client to the anchor
 * @param budget the work that may still be done for this client
 */
export type RevocationStatusOf = (path: Path, now: number, budget: Budget) => RevocationStatus

/** Certificates besides the client's. More would only take time. */
const MOST_OTHERS = 9

/** Verifies client certificates. Never throws, whatever the certificates are: an attacker may have written them. */
export class PathVerifier {
  readonly #trusted: TrustAnchors
  readonly #signatures: Signatures
  readonly #isLegacy: boolean

  /**
   * @param authorities the trust anchors (roots), and intermediates that clients need not send
   * @param isLegacy whether RSA of 1024 bits, curves of 160, SHA-1, and clients and roots of X.509 version 1 are accepted
   */
  constructor (authorities: readonly X509Certificate[], isLegacy = false) {
    this.#trusted = new TrustAnchors(authorities)
    this.#signatures = new Signatures(isLegacy)
    this.#isLegacy = isLegacy
  }

  /**
   * Remembers an intermediate CA, which clients then need not send: it may lead to an anchor, but never is one. A
   * certificate that is known already changes nothing. The caller limits the number.
   */
  addIntermediate (certificate: X509Certificate): void {
    readOr(() => this.#trusted.remember(certificate), undefined)
  }

  removeIntermediate (certificate: X509Certificate): void {
    this.#trusted.forget(certificate)
  }

  /** The configured and remembered CAs with this canonical subject. */
  named (subject: string): readonly ParsedCertificate[] {
    const { configured, remembered } = this.#trusted
    return [...configured.named(subject), ...remembered.named(subject)]
  }

  /**
   * The first valid path. Where there is none: a path whose status is pending; else the error in the revocation of the
   * first path that is valid in all other respects; else the error of the first path.
   *
   * @param others the certificates that the client sent besides, in any order, with or without the root; at most nine
   * @param now milliseconds since the epoch
   * @param statusOf the revocation check; none by default
   */
  verify (leaf: X509Certificate | ParsedCertificate, others: readonly X509Certificate[], now: number, statusOf?: RevocationStatusOf): PathVerification {
    return this.validPaths(leaf, others, now, statusOf).next().value
  }

  /** Yields every valid path, the shortest first, as long as the budget lasts. Returns why there are no more. */
  * validPaths (leaf: X509Certificate | ParsedCertificate, others: readonly X509Certificate[], now: number, statusOf: RevocationStatusOf = unchecked): Generator<PathVerification, PathVerification> {
    if (others.length > MOST_OTHERS) return refused('CERT_CHAIN_TOO_LONG')
    const budget = new Budget()
    let first: PathVerification | undefined
    let revoked: PathVerification | undefined
    let pending: PathVerification | undefined
    try {
      const builder = new PathBuilder(this.#trusted, 'fields' in leaf ? this.#trusted.same(leaf) : this.#trusted.parsedOf(leaf), others)
      for (const path of builder.paths()) {
        const problem = readOr(() => this.#problemOfPath(path, now, budget, true), 'UNSPECIFIED')
        if (problem !== undefined) {
          first ??= refused(problem, path)
        } else {
          const answer = answerOf(path, readOr(() => statusOf(path, now, budget), { error: 'UNSPECIFIED', from: NaN, until: NaN }))
          if (answer.error === undefined) yield answer
          else if (answer.pending) pending ??= answer
          else revoked ??= answer
        }
        if (budget.isUsedUp) break
      }
      return pending ?? revoked ?? first ?? refused(builder.deadEnd)
    } catch {
      return refused('UNSPECIFIED')
    }
  }

  /**
   * The valid path of a CA, or of a certificate whose key signs CRLs only, to an anchor of this name and key (RFC 5280
   * §6.3.3 f), over configured and remembered certificates. Revocation is not checked. Each CA of a valid path has one.
   *
   * @param others more certificates that the path may use
   * @param now milliseconds since the epoch
   * @returns undefined where there is none
   */
  verifyAuthority (authority: ParsedCertificate, anchor: ParsedCertificate, now: number, others: readonly ParsedCertificate[] = []): AuthorityPath | undefined {
    return readOr(() => {
      const budget = new Budget()
      for (const path of new PathBuilder(this.#trusted, this.#trusted.parsedOf(authority.certificate), others).paths()) {
        if (isSamePath(path.at(-1)!, anchor) && this.#problemOfPath(path, now, budget, false) === undefined) return { path, ...validityOfPath(path) }
        if (budget.isUsedUp) break
      }
      return undefined
    }, undefined)
  }

  #problemOfPath (path: Path, now: number, budget: Budget, isOfClient: boolean): string | undefined {
    return this.#problemOfCertificates(path, now, budget, isOfClient) ??
      problemOfNames(isOfClient ? path : [withoutNames(path[0]), ...path], budget) ??
      problemOfPolicies(path, budget)
  }

  /** From the anchor down: a key is used only after it is known to be a CA's, and of a reasonable size. */
  #problemOfCertificates (path: Path, now: number, budget: Budget, isOfClient: boolean): string | undefined {
    for (let index = path.length - 1; index >= 0; index--) {
      const parsed = path[index]
      const issuer = path[index + 1]
      const isEnd = issuer === undefined || (index === 0 && isOfClient)
      const problem = (this.#isLegacy && parsed.isVersion1 && isEnd ? undefined : parsed.problem) ??
        (issuer === undefined ? undefined : this.#signatures.problemOf(parsed, issuer, budget)) ??
        (strengthOf(parsed, this.#isLegacy) === undefined ? index === 0 && isOfClient ? 'EE_KEY_TOO_SMALL' : 'CA_KEY_TOO_SMALL' : undefined) ??
        problemOfPurpose(path, index, isOfClient, this.#isLegacy) ??
        problemOfDates(parsed, now)
      if (problem !== undefined) return problem
    }
    return undefined
  }
}

function unchecked (): RevocationStatus {
  return { from: -Infinity, until: Infinity }
}

/** Stands for a client without names below a CA, so that the CA is checked as a CA above a client would be. */
function withoutNames (parsed: ParsedCertificate): ParsedCertificate {
  return { ...parsed, names: { ...parsed.names, all: [], ofClient: [] } }
}

function isSamePath (anchor: ParsedCertificate, other: ParsedCertificate): boolean {
  return anchor.subject === other.subject && derOf(anchor.fields.publicKey).equals(derOf(other.fields.publicKey))
}

function problemOfDates ({ validity: { notBefore, notAfter } }: ParsedCertificate, now: number): string | undefined {
  // Negated, because an unreadable date is NaN: such a certificate is never in date.
  if (!(notBefore <= now)) return 'CERT_NOT_YET_VALID'
  return now <= notAfter ? undefined : 'CERT_HAS_EXPIRED'
}

function answerOf (path: Path, { error, pending = false, from, until }: RevocationStatus): PathVerification {
  // OpenSSL's error for a status that is still to be asked for.
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
