/**
 * The revocation status of a path (RFC 5280 §6.3), by the CRLs and OCSP responses in force: begin with
 * `Revocation.statusOf`.
 *
 * What is revoked stays revoked after its CRL or response has expired, until a newer one says otherwise; only a CRL or
 * response that is in date can say that a certificate is good. Where neither says anything, the option `unknown` decides.
 *
 * With CRLs, what `openssl verify -crl_check_all` refuses is refused, and what it accepts is accepted, except for this:
 *
 * - An anchor is trusted as it is: it needs no CRL, and no CRL revokes it. OpenSSL demands a CRL for each root.
 * - CRLs must be DER and exactly as in RFC 5280 §5 (x509/crl.ts), and as strongly signed as certificates. An entry with the
 *   reason removeFromCRL in a complete CRL revokes. A CRL that cannot be used (for its issuing distribution point, for
 *   critical extensions of its entries, or because it is indirect) says nothing, and does not hinder any other CRL.
 * - The newest CRL of one key and one scope decides, even if it has expired; OpenSSL then takes an older one.
 * - The signer of a CRL may be any CA with the issuer's name below the same anchor (RFC 5280 §6.3.3 f; OpenSSL: one in the
 *   same path). If the CRL of any of them lists the certificate, it is revoked. CRLs of a revoked signer can only revoke.
 * - A CRL without a scope covers all reasons, whatever reasons the certificate's distribution point has (RFC 5280 §6.3.3).
 * - Delta CRLs apply to their base, which must be in date (OpenSSL: with `-use_deltas`, and either of them is enough).
 *   Their revocations remain after they have expired.
 */
import { type Crl, isDeltaOn } from '../x509/crl.ts'
import { contentOf, derOf, INTEGER } from '../x509/der.ts'
import type { Validity } from '../x509/fields.ts'
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { AuthorityPath, RevocationStatus } from '../x509/path-validation.ts'
import type { Budget } from '../x509/budget.ts'

/** OCSP, as an interface: see ocsp-responders.ts. */
export interface OcspAnswers {
  /** Undefined where no responder is asked; `pending` where a response is awaited. */
  statusOf (certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate, now: number): OcspStatus | undefined
}

/** The OCSP status of a certificate. */
export interface OcspStatus {
  readonly status: 'good' | 'revoked' | 'unknown' | 'none'
  /** Milliseconds since the epoch, inclusive. */
  readonly from: number
  readonly until: number
  /** A request is pending. */
  readonly pending: Promise<unknown> | undefined
}

export interface RevocationOptions {
  readonly crls: readonly Crl[]
  readonly ocsp: OcspAnswers | undefined
  /** Fetches the CRLs that a certificate names. Returns a promise while a request is pending. */
  readonly fetchFor: ((certificate: ParsedCertificate, issuer: ParsedCertificate, owner: ParsedCertificate, now: number) => Promise<unknown> | undefined) | undefined
  /** Whether revocation is checked at all. */
  readonly isChecked: boolean
  /** For certificates whose status is not known. */
  readonly unknown: 'refuse' | 'allow'
  /** CAs that may have signed a CRL besides the issuer in the path: those with the same name. */
  readonly authoritiesNamed: (subject: string) => readonly ParsedCertificate[]
  /** The valid path of such a CA to an anchor (RFC 5280 §6.3.3 f), also over these others; undefined where there is none. */
  readonly pathTo: (authority: ParsedCertificate, anchor: ParsedCertificate, now: number, others: readonly ParsedCertificate[]) => AuthorityPath | undefined
}

/** The newest base CRL of one key and one scope, and the newest delta CRL that applies to it. */
interface CrlPair {
  readonly base: Crl | undefined
  readonly delta: Crl | undefined
  /** When a CRL that is not valid yet becomes valid; Infinity where there is none. */
  readonly next: number
  /** Its signer was revoked: it cannot say that a certificate is good. */
  readonly isSignerRevoked: boolean
}

/** The key that has signed a CRL, and the period in which its certificates are valid. */
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
      const ofIssuer = this.#byIssuer.get(crl.issuer)
      if (ofIssuer === undefined) this.#byIssuer.set(crl.issuer, [crl])
      else ofIssuer.push(crl)
    }
  }

  /**
   * The status of every certificate of a path except its anchor, which is trusted as it is.
   *
   * @param path the client's certificate first
   * @param waitFor receives what to wait for, where the status is pending
   */
  statusOf (path: readonly ParsedCertificate[], now: number, budget: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    if (!this.#options.isChecked) return ALWAYS
    let from = -Infinity
    let until = Infinity
    let isPending = false
    let unknown: RevocationStatus | undefined
    for (let index = path.length - 2; index >= 0; index--) {
      const status = this.#statusAt(path, index, now, budget, waitFor)
      if (status.error === 'CERT_REVOKED') return status
      if (status.error !== undefined) unknown ??= status
      isPending ||= status.pending === true
      from = Math.max(from, status.from)
      until = Math.min(until, status.until)
    }
    // Pending before unknown: the answer may be that a certificate was revoked, which is the stronger reason.
    if (isPending) return { from: NaN, until: NaN, pending: true }
    // A CRL that was skipped because the budget was spent may list a certificate.
    return unknown ?? (budget.isUsedUp ? refused('UNSPECIFIED') : { from, until })
  }

  #statusAt (path: readonly ParsedCertificate[], index: number, now: number, budget: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    const [certificate, issuer, owner] = [path[index]!, path[index + 1]!, ownerOf(path, index)]
    const byCrls = this.#byCrls(path, index, now, budget, waitFor)
    // Also where the certificate is revoked: this counts as use of the CRLs, which are kept for that.
    const crlsPending = this.#options.fetchFor?.(certificate, issuer, owner, now)
    if (byCrls.error === 'CERT_REVOKED') return byCrls
    const isCrlPending = byCrls.error !== undefined && crlsPending !== undefined
    if (isCrlPending) waitFor(crlsPending)
    const answer = this.#options.ocsp?.statusOf(certificate, issuer, owner, now)
    if (answer?.status === 'revoked') return refused('CERT_REVOKED')
    // Signed by the responder: it does not know the certificate.
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

  /** @param isOfSigner for the status of a CRL signer: CRLs of revoked signers count as well, so no path of one is checked */
  #byCrls (path: readonly ParsedCertificate[], index: number, now: number, budget: Budget, waitFor: (answer: Promise<unknown>) => void, isOfSigner = false): RevocationStatus {
    const certificate = path[index]!
    const issuer = path[index + 1]!
    const ofIssuer = this.#byIssuer.get(issuer.subject) ?? []
    if (ofIssuer.length === 0) return refused('UNABLE_TO_GET_CRL')
    const inScope = ofIssuer.filter((crl) => crl.scope.covers(certificate))
    if (inScope.length === 0) return refused('DIFFERENT_CRL_SCOPE')
    const groups = new Map<string, { readonly isRevoked: boolean, readonly crls: Crl[] }>()
    const ends = [Infinity]
    let isPending = false
    for (const crl of inScope) {
      const signer = this.#signerOf(crl, path, issuer, now, budget, isOfSigner)
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
    if (all.some((pair) => isRevokedBy(pair, serialNumber, now))) return refused('CERT_REVOKED')
    if (isPending) return { from: NaN, until: NaN, pending: true }
    const pairs = all.filter(({ isSignerRevoked }) => !isSignerRevoked)
    const inDate = pairs.flatMap(({ base, delta }) => base === undefined || now > base.nextUpdate ? [] : [base, ...delta === undefined || now > delta.nextUpdate ? [] : [delta]])
    if (inDate.length === 0) return refused(problemOf(inScope, pairs, issuer, now))
    return {
      from: Math.max(...inDate.map(({ thisUpdate }) => thisUpdate)),
      until: Math.min(...ends, ...inDate.map(({ nextUpdate }) => nextUpdate), ...all.map(({ next }) => next - 1))
    }
  }

  /**
   * The CA that has signed a CRL and was allowed to: the issuer in the path, or another CA certificate with its name (as
   * after a change of keys) that is in the path or leads to the same anchor. A promise until signatures are verified.
   */
  #signerOf (crl: Crl, path: readonly ParsedCertificate[], issuer: ParsedCertificate, now: number, budget: Budget, isOfSigner: boolean): Signer | Promise<unknown> | undefined {
    const [, ...authorities] = path
    const unknown: Array<Promise<unknown>> = []
    let revoked: Signer | undefined
    for (const candidate of new Set([issuer, ...authorities.filter(({ subject }) => subject === issuer.subject), ...this.#options.authoritiesNamed(issuer.subject)])) {
      if (!candidate.keyUsage.maySignCrls || !crl.namesIssuer(candidate)) continue
      const isSigned = crl.isKnownSignedBy(candidate)
      // A client can send new CA certificates each time, so the verifications for one client are limited.
      if (isSigned === undefined && budget.takeCrlSignature()) unknown.push(crl.isSignedBy(candidate))
      if (isSigned !== true) continue
      const key = keyOf(candidate)
      // The revocation of CAs in the path is checked anyway.
      if (authorities.includes(candidate)) return { key, validity: candidate.validity, isRevoked: false }
      // Path building costs as much as a signature: certificates of one key may be many, and all of them revoked.
      if (!budget.takeSignature(1)) break
      const found = this.#options.pathTo(candidate, authorities.at(-1)!, now, authorities)
      if (found === undefined) continue
      if (isOfSigner) return { key, validity: found, isRevoked: false }
      const status = this.#statusOfSigner(found, now, budget, (answer) => unknown.push(answer))
      if (status.pending) continue
      const signer = { key, validity: { ...found, notAfter: status.until }, isRevoked: status.error !== undefined }
      if (!signer.isRevoked) return signer
      revoked ??= signer
    }
    return unknown.length === 0 ? revoked : Promise.all(unknown)
  }

  /** Whether CRLs revoke the signer of a CRL (PKITS 4.4.21), and until when that is known. */
  #statusOfSigner ({ path, notBefore, notAfter }: AuthorityPath, now: number, budget: Budget, waitFor: (answer: Promise<unknown>) => void): RevocationStatus {
    const statuses = path.slice(1).map((_, index) => this.#byCrls(path, index, now, budget, waitFor, true))
    return {
      error: statuses.find(({ error }) => error === 'CERT_REVOKED')?.error,
      from: notBefore,
      until: Math.min(notAfter, ...path.slice(1).map((issuer) => this.#nextOf(issuer, now))),
      pending: statuses.some(({ pending }) => pending)
    }
  }

  /** The last moment before a CRL becomes valid that is not valid yet: the status may then become known. */
  #nextOf (issuer: ParsedCertificate, now: number): number {
    return Math.min(...(this.#byIssuer.get(issuer.subject) ?? []).map(({ thisUpdate }) => thisUpdate > now ? thisUpdate - 1 : Infinity), Infinity)
  }
}

/** The key of a CA, in a form that can be compared. */
export function keyOf ({ fields }: ParsedCertificate): string {
  return derOf(fields.publicKey).toString('latin1')
}

/** Of CRLs of one key and one scope. CRLs that are not valid yet do not count. */
function latestOf (crls: readonly Crl[], now: number, isSignerRevoked = false): CrlPair {
  const begun = crls.filter(({ thisUpdate }) => thisUpdate <= now)
  const base = newest(begun.filter(({ baseNumber }) => baseNumber === undefined))
  const deltas = begun.filter((crl) => base !== undefined && isDeltaOn(crl, base))
  return {
    base,
    delta: newest(deltas),
    next: Math.min(...crls.map(({ thisUpdate }) => thisUpdate > now ? thisUpdate : Infinity)),
    isSignerRevoked
  }
}

function newest (crls: readonly Crl[]): Crl | undefined {
  return crls.reduce<Crl | undefined>((latest, crl) => latest === undefined || isNewer(crl, latest) ? crl : latest, undefined)
}

/** By date, then by CRL number: the numbers of one issuer and scope only grow (RFC 5280 §5.2.3). */
export function isNewer (one: Crl, other: Crl): boolean {
  if (one.thisUpdate !== other.thisUpdate) return one.thisUpdate > other.thisUpdate
  return (one.number ?? -1n) > (other.number ?? -1n)
}

/** Whether two CRLs have the same issuer and scope. */
export function isAlike (one: Crl, other: Crl): boolean {
  return one.issuer === other.issuer && one.scope.key === other.scope.key
}

export function isDelta ({ baseNumber }: Crl): boolean {
  return baseNumber !== undefined
}

/** Whether a CRL includes everything that a delta CRL says, or revises it: CRL numbers only grow (RFC 5280 §5.2.3). */
export function supersedes (crl: Crl, delta: Crl): boolean {
  return isAlike(crl, delta) && crl.number !== undefined && crl.number >= delta.number! + (isDelta(crl) ? 1n : 0n)
}

function isRevokedBy ({ base, delta }: CrlPair, serialNumber: Buffer, now: number): boolean {
  const changed = delta?.statusOf(serialNumber)
  if (changed === 'revoked') return true
  // That a delta CRL takes a revocation back counts only while the delta is in date.
  if (changed === 'removed' && now <= delta!.nextUpdate) return false
  return base?.statusOf(serialNumber) === 'revoked'
}

/** OpenSSL's error for why no CRL could say that a certificate is good. */
function problemOf (inScope: readonly Crl[], pairs: readonly CrlPair[], issuer: ParsedCertificate, now: number): string {
  if (!issuer.keyUsage.maySignCrls) return 'KEYUSAGE_NO_CRL_SIGN'
  if (pairs.some(({ base }) => base !== undefined)) return 'CRL_HAS_EXPIRED'
  if (inScope.some(({ thisUpdate }) => thisUpdate > now)) return 'CRL_NOT_YET_VALID'
  return pairs.length > 0 ? 'UNABLE_TO_GET_CRL' : 'CRL_SIGNATURE_FAILURE'
}

/**
 * The owner of network requests about a certificate, for limits: the anchor, where it has issued the certificate; otherwise
 * the CA directly below the anchor, with everything below it. So each partner with a CA of its own has a share of its own.
 */
function ownerOf (path: readonly ParsedCertificate[], index: number): ParsedCertificate {
  return index < path.length - 2 ? path.at(-2)! : path.at(-1)!
}

function refused (error: string): RevocationStatus {
  return { error, from: NaN, until: NaN }
}
