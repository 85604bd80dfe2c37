/**
 * Whether the certificates of a path were revoked (RFC 5280 §6.3), by the CRLs and the OCSP answers that are in force.
 *
 * What is known to be revoked stays revoked when a CRL or an answer has ended, until a newer one says otherwise; only what
 * is in date can say that a certificate is good. What neither says anything of is for the option `unknown` to decide.
 *
 * By CRLs, what `openssl verify -crl_check_all` refuses is refused, and what it accepts is accepted, but for this:
 *
 * - an anchor is trusted for what it is: no list is needed of it, and none revokes it. OpenSSL wants one of each root;
 * - CRLs must be DER, and exactly as RFC 5280 §5 has them (certificate/crl.ts), and be signed as strongly as certificates.
 *   Whoever is listed as "removed from CRL" in what is no delta is revoked. Of an issuing distribution point, of critical
 *   extensions of entries, and of indirect CRLs, what cannot be used says nothing, and no other CRL is kept from its say;
 * - the newest CRL of one key and one scope decides, also when it has ended: OpenSSL then takes an older one;
 * - any authority of the issuer's name below the same anchor may have signed, as RFC 5280 §6.3.3 f has it (OpenSSL: one of
 *   the same path), and if any of them has listed the certificate, it is revoked. Of one that was revoked itself, CRLs say
 *   nothing but that;
 * - a CRL without a scope is about all reasons, whatever reasons the certificate names for where it is (RFC 5280 §6.3.3);
 * - deltas are added to their base, which must be in date (OpenSSL: with `-use_deltas`, and either of them is enough), and
 *   their revocations stay when they have ended.
 */
import { type Crl, isDeltaOn } from '../x509/crl.ts'
import { contentOf, derOf, INTEGER } from '../x509/der.ts'
import type { Validity } from '../x509/fields.ts'
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { AuthorityPath, RevocationStatus } from '../x509/path-validation.ts'
import type { Budget } from '../x509/budget.ts'

/** What is asked of a certificate that is none of the CRLs' to answer. */
export interface OcspAnswers {
  /** Undefined where no answer is known; a promise where one is on its way. */
  statusOf (certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate, now: number): OcspStatus | undefined
}

/** What a responder has said. */
export interface OcspStatus {
  readonly status: 'good' | 'revoked' | 'unknown' | 'none'
  /** Milliseconds since the epoch, inclusive. */
  readonly from: number
  readonly until: number
  /** An answer is being asked for. */
  readonly pending: Promise<unknown> | undefined
}

export interface RevocationOptions {
  readonly crls: readonly Crl[]
  readonly ocsp: OcspAnswers | undefined
  /** Has the CRLs fetched that a certificate names. A promise where any is on its way. */
  readonly fetchFor: ((certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate, now: number) => Promise<unknown> | undefined) | undefined
  /** Whether anything is checked at all. */
  readonly isChecked: boolean
  /** Of a certificate of which nothing is known. */
  readonly unknown: 'refuse' | 'allow'
  /** Certificates that may have signed a CRL besides the issuer in the path: those of the same name. */
  readonly authoritiesNamed: (subject: string) => readonly ParsedCertificate[]
  /** The valid path of such an authority to an anchor (RFC 5280 §6.3.3 f), also over these others; undefined: it has none. */
  readonly pathTo: (authority: ParsedCertificate, anchor: ParsedCertificate, now: number, others: readonly ParsedCertificate[]) => AuthorityPath | undefined
}

/** The newest base CRL of one key and one scope, and the newest delta that adds to it. */
interface Issue {
  readonly base: Crl | undefined
  readonly delta: Crl | undefined
  /** When a list that has not begun yet does, or Infinity. */
  readonly next: number
  /** Who has signed it was revoked: it cannot say that a certificate is good. */
  readonly isOfRevoked: boolean
}

/** Who has signed a CRL, and from when until when it may have. */
interface Signer {
  readonly key: string
  readonly validity: Validity
  readonly isRevoked: boolean
}

const ALWAYS: RevocationStatus = Object.freeze({ from: -Infinity, until: Infinity })

export class Revocation {
  readonly #options: RevocationOptions
  readonly #byIssuer = new Map<string, Crl[]>()

  constructor (options: RevocationOptions) {
    this.#options = options
    for (const crl of options.crls) {
      if (crl.unusable !== undefined) continue
      const own = this.#byIssuer.get(crl.issuer)
      if (own === undefined) this.#byIssuer.set(crl.issuer, [crl])
      else own.push(crl)
    }
  }

  /**
   * Of every certificate of a path but its anchor, which is trusted for what it is.
   *
   * @param path the client's certificate first
   * @param waitFor takes what has to be waited for, for an answer that is pending
   */
  statusOf (path: readonly ParsedCertificate[], now: number, work: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    if (!this.#options.isChecked) return ALWAYS
    let from = -Infinity
    let until = Infinity
    let isPending = false
    let unknown: RevocationStatus | undefined
    for (let index = path.length - 2; index >= 0; index--) {
      const status = this.#statusAt(path, index, now, work, waitFor)
      if (status.error === 'CERT_REVOKED') return status
      if (status.error !== undefined) unknown ??= status
      isPending ||= status.pending === true
      from = Math.max(from, status.from)
      until = Math.min(until, status.until)
    }
    // What is asked of one may be that it was revoked, which says more than that nothing is known of another.
    if (isPending) return { from: NaN, until: NaN, pending: true }
    // A CRL that was not looked at any more may have listed it.
    return unknown ?? (work.isUsedUp ? refused('UNSPECIFIED') : { from, until })
  }

  #statusAt (path: readonly ParsedCertificate[], index: number, now: number, work: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    const [certificate, issuer, owner] = [path[index]!, path[index + 1]!, ownerOf(path, index)]
    const byCrls = this.#byCrls(path, index, now, work, waitFor)
    // Also where it is revoked: a CRL that is of use is kept.
    const onItsWay = this.#options.fetchFor?.(certificate, issuer, owner, now)
    if (byCrls.error === 'CERT_REVOKED') return byCrls
    const isCrlPending = byCrls.error !== undefined && onItsWay !== undefined
    if (isCrlPending) waitFor(onItsWay)
    const answer = this.#options.ocsp?.statusOf(certificate, issuer, owner, now)
    if (answer?.status === 'revoked') return refused('CERT_REVOKED')
    // Signed by the responder: it was asked of a certificate that it knows nothing of.
    if (answer?.status === 'unknown' && byCrls.pending !== true) return refused('OCSP_CERT_UNKNOWN')
    if (answer?.pending !== undefined) waitFor(answer.pending)
    const isPending = byCrls.pending === true || isCrlPending || answer?.pending !== undefined
    const isGoodByOcsp = answer?.status === 'good'
    if (byCrls.error === undefined || isGoodByOcsp) {
      return {
        from: Math.max(byCrls.error === undefined ? byCrls.from : -Infinity, isGoodByOcsp ? answer.from : -Infinity),
        until: Math.min(byCrls.error === undefined ? byCrls.until : Infinity, isGoodByOcsp ? answer.until : Infinity),
        pending: isPending
      }
    }
    if (isPending) return { from: NaN, until: NaN, pending: true }
    return this.#options.unknown === 'allow' ? { from: -Infinity, until: this.#nextOf(issuer, now) } : byCrls
  }

  /** @param isOfSigner what a revoked signer has listed counts as well: the path of none has to be looked at */
  #byCrls (path: readonly ParsedCertificate[], index: number, now: number, work: Budget, waitFor: (answer: Promise<unknown>) => void, isOfSigner = false): RevocationStatus {
    const certificate = path[index]!
    const issuer = path[index + 1]!
    const own = this.#byIssuer.get(issuer.subject) ?? []
    if (own.length === 0) return refused('UNABLE_TO_GET_CRL')
    const inScope = own.filter((crl) => crl.scope.covers(certificate))
    if (inScope.length === 0) return refused('DIFFERENT_CRL_SCOPE')
    const groups = new Map<string, { readonly isRevoked: boolean, readonly crls: Crl[] }>()
    const ends = [Infinity]
    let isPending = false
    for (const crl of inScope) {
      const signer = this.#signerOf(crl, path, issuer, now, work, isOfSigner)
      if (signer instanceof Promise) {
        waitFor(signer)
        isPending = true
      } else if (signer !== undefined) {
        const { key, isRevoked, validity } = signer
        const name = `${isRevoked} ${key} ${crl.scope.key}`
        groups.set(name, { isRevoked, crls: [...groups.get(name)?.crls ?? [], crl] })
        ends.push(validity.notAfter)
      }
    }
    const serialNumber = contentOf(certificate.fields.serialNumber, INTEGER)
    const all = [...groups.values()].map(({ crls, isRevoked }) => latestOf(crls, now, isRevoked))
    if (all.some((issue) => isRevokedBy(issue, serialNumber, now))) return refused('CERT_REVOKED')
    if (isPending) return { from: NaN, until: NaN, pending: true }
    const issues = all.filter(({ isOfRevoked }) => !isOfRevoked)
    const inDate = issues.flatMap(({ base, delta }) => base === undefined || now > base.nextUpdate ? [] : [base, ...delta === undefined || now > delta.nextUpdate ? [] : [delta]])
    if (inDate.length === 0) return refused(problemOf(inScope, issues, issuer, now))
    return {
      from: Math.max(...inDate.map(({ thisUpdate }) => thisUpdate)),
      until: Math.min(...ends, ...inDate.map(({ nextUpdate }) => nextUpdate), ...all.map(({ next }) => next - 1))
    }
  }

  /**
   * The authority that has signed a CRL and may have: the issuer in the path, or another certificate of its name, as after
   * a change of keys, that is in the path or leads to the same anchor. A promise where signatures are still to be verified.
   */
  #signerOf (crl: Crl, path: readonly ParsedCertificate[], issuer: ParsedCertificate, now: number, work: Budget, isOfSigner: boolean): Signer | Promise<unknown> | undefined {
    const [, ...authorities] = path
    const unknown: Array<Promise<unknown>> = []
    let revoked: Signer | undefined
    for (const candidate of new Set([issuer, ...authorities.filter(({ subject }) => subject === issuer.subject), ...this.#options.authoritiesNamed(issuer.subject)])) {
      if (!candidate.keyUsage.maySignCrls || !crl.namesIssuer(candidate)) continue
      const isSigned = crl.isKnownSignedBy(candidate)
      // Certificates that clients send are new ones each time: only so many signatures are verified for one of them.
      if (isSigned === undefined && work.takeCrlSignature()) unknown.push(crl.isSignedBy(candidate))
      if (isSigned !== true) continue
      const key = keyOf(candidate)
      // Those of the path are asked about anyway.
      if (authorities.includes(candidate)) return { key, validity: candidate.validity, isRevoked: false }
      // A search for a path is worth a signature: certificates of one key may be many, and all of them revoked.
      if (!work.takeSignature(1)) break
      const found = this.#options.pathTo(candidate, authorities.at(-1)!, now, authorities)
      if (found === undefined) continue
      if (isOfSigner) return { key, validity: found, isRevoked: false }
      const status = this.#statusOfSigner(found, now, work, (answer) => unknown.push(answer))
      if (status.pending) continue
      const signer = { key, validity: { ...found, notAfter: status.until }, isRevoked: status.error !== undefined }
      if (!signer.isRevoked) return signer
      revoked ??= signer
    }
    return unknown.length === 0 ? revoked : Promise.all(unknown)
  }

  /** Whether CRLs say that somebody who has signed one was revoked (PKITS 4.4.21), and until when that is known. */
  #statusOfSigner ({ path, notBefore, notAfter }: AuthorityPath, now: number, work: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    const statuses = path.slice(1).map((_, index) => this.#byCrls(path, index, now, work, waitFor, true))
    return {
      error: statuses.find(({ error }) => error === 'CERT_REVOKED')?.error,
      from: notBefore,
      until: Math.min(notAfter, ...path.slice(1).map((issuer) => this.#nextOf(issuer, now))),
      pending: statuses.some(({ pending }) => pending)
    }
  }

  /** When something that is not in force yet may be, and say more than nothing. */
  #nextOf (issuer: ParsedCertificate, now: number): number {
    return Math.min(...(this.#byIssuer.get(issuer.subject) ?? []).map(({ thisUpdate }) => thisUpdate > now ? thisUpdate - 1 : Infinity), Infinity)
  }
}

/** The key of an authority, comparable. */
export function keyOf ({ fields }: ParsedCertificate): string {
  return derOf(fields.publicKey).toString('latin1')
}

/** Of CRLs of one key and one scope. What has not begun yet counts for nothing. */
function latestOf (crls: readonly Crl[], now: number, isOfRevoked = false): Issue {
  const begun = crls.filter(({ thisUpdate }) => thisUpdate <= now)
  const base = newest(begun.filter(({ baseNumber }) => baseNumber === undefined))
  const deltas = begun.filter((crl) => base !== undefined && isDeltaOn(crl, base))
  return {
    base,
    delta: newest(deltas),
    next: Math.min(...crls.map(({ thisUpdate }) => thisUpdate > now ? thisUpdate : Infinity)),
    isOfRevoked
  }
}

function newest (crls: readonly Crl[]): Crl | undefined {
  return crls.reduce<Crl | undefined>((latest, crl) => latest === undefined || isNewer(crl, latest) ? crl : latest, undefined)
}

/** Numbers of one issuer and scope only grow (RFC 5280 §5.2.3); one that has none goes by its date. */
export function isNewer (one: Crl, other: Crl): boolean {
  if (one.thisUpdate !== other.thisUpdate) return one.thisUpdate > other.thisUpdate
  return (one.number ?? -1n) > (other.number ?? -1n)
}

/** Of one issuer and one scope. */
export function isAlike (one: Crl, other: Crl): boolean {
  return one.issuer === other.issuer && one.scope.key === other.scope.key
}

export function isDelta ({ baseNumber }: Crl): boolean {
  return baseNumber !== undefined
}

/** Whether a CRL says all that a delta CRL has said, or that it is not so any more: numbers only grow (RFC 5280 §5.2.3). */
export function supersedes (crl: Crl, delta: Crl): boolean {
  return isAlike(crl, delta) && crl.number !== undefined && crl.number >= delta.number! + (isDelta(crl) ? 1n : 0n)
}

function isRevokedBy ({ base, delta }: Issue, serialNumber: Buffer, now: number): boolean {
  const changed = delta?.statusOf(serialNumber)
  if (changed === 'revoked') return true
  // What a delta takes back is good news, which ends with it.
  if (changed === 'removed' && now <= delta!.nextUpdate) return false
  return base?.statusOf(serialNumber) === 'revoked'
}

/** In OpenSSL's words: why no CRL could say that a certificate is good. */
function problemOf (inScope: readonly Crl[], issues: readonly Issue[], issuer: ParsedCertificate, now: number): string {
  if (!issuer.keyUsage.maySignCrls) return 'KEYUSAGE_NO_CRL_SIGN'
  if (issues.some(({ base }) => base !== undefined)) return 'CRL_HAS_EXPIRED'
  if (inScope.some(({ thisUpdate }) => thisUpdate > now)) return 'CRL_NOT_YET_VALID'
  return issues.length > 0 ? 'UNABLE_TO_GET_CRL' : 'CRL_SIGNATURE_FAILURE'
}

/**
 * For whom the network is asked about a certificate of a path: for the anchor, if that has issued it, or for the authority
 * directly below the anchor, with all that is below that one. Each partner with a CA of its own has a share of its own.
 */
function ownerOf (path: readonly ParsedCertificate[], index: number): ParsedCertificate {
  return index < path.length - 2 ? path.at(-2)! : path.at(-1)!
}

function refused (error: string): RevocationStatus {
  return { error, from: NaN, until: NaN }
}
