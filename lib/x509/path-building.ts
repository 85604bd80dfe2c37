/**
 * Path building (RFC 4158): candidate paths from a certificate to a trust anchor, by names, key identifiers and key usage.
 * Begin with `PathBuilder.paths`. Keys are used only by `Signatures`, which caches which certificate has signed which.
 */
import type { X509Certificate } from 'node:crypto'
import type { Budget } from './budget.ts'
import { readOr } from './der.ts'
import { strengthOf } from './keys.ts'
import { parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

/** From a client's or a CA's certificate to a trust anchor, both included. */
export type Path = readonly ParsedCertificate[]

/** The maximum length of a path. Paths on the web have three or four certificates. */
const MOST_CERTIFICATES = 10

/** Pairs of certificates that are compared for one client: CAs may look alike, and certify each other in circles. */
const MOST_PAIRS = 2000

/** Builds the paths of one certificate. */
export class PathBuilder {
  readonly #trusted: TrustAnchors
  readonly #start: ParsedCertificate
  readonly #sent = new BySubject()
  readonly #allSent = new Set<ParsedCertificate>()
  #pairs = MOST_PAIRS
  #deadEnd: Path | undefined

  /** @param others the certificates that the client sent: any, in any order, none of them trusted */
  constructor (trusted: TrustAnchors, start: ParsedCertificate, others: ReadonlyArray<X509Certificate | ParsedCertificate>) {
    this.#trusted = trusted
    this.#start = start
    const all = others.flatMap((each) => readOr(() => ['fields' in each ? trusted.same(each) : trusted.parsedOf(each)], []))
    for (const parsed of new Map(all.map((parsed) => [parsed.certificate.fingerprint256, parsed])).values()) {
      if (trusted.configured.named(parsed.subject).includes(parsed)) continue
      this.#sent.add(parsed)
      this.#allSent.add(parsed)
    }
  }

  /** The error where there is no path: that of the shortest one that ends without an issuer. */
  get deadEnd (): string {
    return reasonOfDeadEnd(this.#deadEnd!)
  }

  /**
   * Shortest paths first, and all paths over configured and sent certificates before those over remembered ones. So an
   * attacker whose look-alikes of an intermediate are remembered cannot get in the way of a client that sends the real one.
   */
  * paths (): Generator<Path> {
    const { configured, remembered } = this.#trusted
    const start = [this.#start]
    if (this.#trusted.isAnchor(this.#start)) {
      yield start
      return
    }
    /** Paths over configured and sent certificates that do not end in an anchor, by length, from 1 on. */
    const unfinished: Path[][] = []
    for (let paths: Path[] = [start]; paths.length > 0;) {
      unfinished.push(paths)
      const longer: Path[] = []
      yield * this.#extend(paths, [configured, this.#sent], longer)
      paths = longer
    }
    let paths: Path[] = []
    for (let index = 0; paths.length > 0 || index < unfinished.length; index++) {
      const longer: Path[] = []
      yield * this.#extend(paths, [configured, this.#sent, remembered], longer)
      yield * this.#extend(unfinished[index] ?? [], [remembered], longer)
      paths = longer
    }
  }

  /** Extends paths by one certificate. Yields those that end in an anchor; adds the others to `longer`. */
  * #extend (paths: readonly Path[], sources: readonly BySubject[], longer: Path[]): Generator<Path> {
    for (const path of paths) {
      let isDeadEnd = true
      for (const issuer of this.#issuersOf(path, sources)) {
        isDeadEnd = false
        const next = [...path, issuer]
        if (this.#trusted.isAnchor(issuer)) yield next
        else longer.push(next)
      }
      if (isDeadEnd) this.#deadEnd ??= path
    }
  }

  /** `checkIssued` compares names, key identifiers and key usage, and needs extensions that OpenSSL can read in both. */
  * #issuersOf (path: Path, sources: readonly BySubject[]): Generator<ParsedCertificate> {
    const { certificate, issuer, looksSelfSigned } = path.at(-1)!
    // OpenSSL stops at a certificate that looks self-signed, whichever key has signed it.
    if (looksSelfSigned || path.length === MOST_CERTIFICATES) return
    for (const source of sources) {
      for (const parsed of source.named(issuer)) {
        if (source === this.#trusted.remembered && this.#allSent.has(parsed)) continue
        if (this.#pairs-- <= 0) return
        // CAs may have certified each other.
        if (certificate.checkIssued(parsed.certificate) && !path.includes(parsed)) yield parsed
      }
    }
  }
}

function reasonOfDeadEnd (path: Path): string {
  if (path.at(-1)!.isSelfIssued) return path.length === 1 ? 'DEPTH_ZERO_SELF_SIGNED_CERT' : 'SELF_SIGNED_CERT_IN_CHAIN'
  return path.length === 1 ? 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' : 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'
}

// Certificates that paths are built from

/** The certificates that paths can use without a client sending them: configured and remembered ones, each of them once. */
export class TrustAnchors {
  /** Trust anchors, and configured CAs that lead to them. */
  readonly configured = new BySubject()
  /** Intermediates of paths that were valid. */
  readonly remembered = new BySubject()
  readonly #byFingerprint = new Map<string, ParsedCertificate>()
  readonly #anchors = new Set<ParsedCertificate>()

  constructor (authorities: readonly X509Certificate[]) {
    for (const certificate of authorities) {
      const parsed = this.#add(certificate, this.configured)
      // Self-signed, as OpenSSL decides it. Its signature is not verified: the administrator's choice makes it an anchor.
      if (parsed !== undefined && certificate.checkIssued(certificate)) this.#anchors.add(parsed)
    }
  }

  /** Adds an intermediate. It never becomes an anchor, whatever it says of itself. */
  remember (certificate: X509Certificate): void {
    this.#add(certificate, this.remembered)
  }

  forget ({ fingerprint256 }: X509Certificate): void {
    const parsed = this.#byFingerprint.get(fingerprint256)
    if (parsed === undefined || !this.remembered.named(parsed.subject).includes(parsed)) return
    this.#byFingerprint.delete(fingerprint256)
    this.remembered.remove(parsed)
  }

  /** The parsed certificate that is stored, or a new one. Throws where the certificate cannot be parsed. */
  parsedOf (certificate: X509Certificate): ParsedCertificate {
    return this.#byFingerprint.get(certificate.fingerprint256) ?? parseCertificate(certificate)
  }

  /** The parsed certificate that is stored for the same certificate, or else the argument. */
  same (parsed: ParsedCertificate): ParsedCertificate {
    return this.#byFingerprint.get(parsed.certificate.fingerprint256) ?? parsed
  }

  isAnchor (parsed: ParsedCertificate): boolean {
    return this.#anchors.has(parsed)
  }

  #add (certificate: X509Certificate, where: BySubject): ParsedCertificate | undefined {
    const parsed = this.#byFingerprint.has(certificate.fingerprint256) ? undefined : readOr(() => parseCertificate(certificate), undefined)
    if (parsed === undefined) return undefined
    this.#byFingerprint.set(certificate.fingerprint256, parsed)
    where.add(parsed)
    return parsed
  }
}

/** Certificates by their canonical subject, in the order in which they were added. */
class BySubject {
  readonly #all = new Map<string, ParsedCertificate[]>()

  add (parsed: ParsedCertificate): void {
    const alike = this.#all.get(parsed.subject)
    if (alike === undefined) this.#all.set(parsed.subject, [parsed])
    else alike.push(parsed)
  }

  remove (parsed: ParsedCertificate): void {
    const alike = this.named(parsed.subject).filter((each) => each !== parsed)
    if (alike.length === 0) this.#all.delete(parsed.subject)
    else this.#all.set(parsed.subject, alike)
  }

  named (subject: string): readonly ParsedCertificate[] {
    return this.#all.get(subject) ?? []
  }
}

// Signatures of certificates (RFC 5280 §6.1.3 a 1): the only part that needs keys, and time

/** Results are cached as long as the certificates live: those of configured CAs, for ever. */
export class Signatures {
  readonly #isLegacy: boolean
  readonly #known = new WeakMap<ParsedCertificate, WeakMap<ParsedCertificate, boolean>>()

  /** @param isLegacy whether SHA-1 and short keys are accepted */
  constructor (isLegacy: boolean) {
    this.#isLegacy = isLegacy
  }

  problemOf (certificate: ParsedCertificate, issuer: ParsedCertificate, budget: Budget): string | undefined {
    if (certificate.scheme === undefined && !(this.#isLegacy && certificate.isLegacyScheme)) return 'CA_MD_TOO_WEAK'
    const known = this.#knownOf(certificate)
    if (!known.has(issuer) && budget.takeSignature(strengthOf(issuer, this.#isLegacy)!.work)) known.set(issuer, certificate.certificate.verify(issuer.certificate.publicKey))
    return known.get(issuer) === true ? undefined : 'CERT_SIGNATURE_FAILURE'
  }

  #knownOf (certificate: ParsedCertificate): WeakMap<ParsedCertificate, boolean> {
    const known = this.#known.get(certificate) ?? new WeakMap<ParsedCertificate, boolean>()
    this.#known.set(certificate, known)
    return known
  }
}
