/**
 * Paths from a certificate to a trust anchor (RFC 4158), by what they say of each other: no key is used here.
 */
import type { X509Certificate } from 'node:crypto'
import type { Budget } from './budget.ts'
import { readOr } from './der.ts'
import { strengthOf } from './keys.ts'
import { parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

/** From a client, or an authority, to a self-signed authority, both included. */
export type Path = readonly ParsedCertificate[]

/** Longer paths are not looked for; those of the web have three or four certificates. */
const MOST_CERTIFICATES = 10

/** Pairs of certificates that are compared in one search: authorities may look alike, and name each other in circles. */
const MOST_PAIRS = 2000

/** Certificates by their canonical subject, in the order in which they came. */
class BySubject {
  readonly #all = new Map<string, ParsedCertificate[]>()

  add (facts: ParsedCertificate): void {
    const alike = this.#all.get(facts.subject)
    if (alike === undefined) this.#all.set(facts.subject, [facts])
    else alike.push(facts)
  }

  remove (facts: ParsedCertificate): void {
    const alike = this.named(facts.subject).filter((each) => each !== facts)
    if (alike.length === 0) this.#all.delete(facts.subject)
    else this.#all.set(facts.subject, alike)
  }

  named (subject: string): readonly ParsedCertificate[] {
    return this.#all.get(subject) ?? []
  }
}

/** What paths may lead over that nobody has to send. Each certificate is there once. */
export class TrustAnchors {
  /** Anchors, and others that lead to them. */
  readonly configured = new BySubject()
  /** Intermediates of paths that were valid. */
  readonly remembered = new BySubject()
  readonly #byFingerprint = new Map<string, ParsedCertificate>()
  readonly #anchors = new Set<ParsedCertificate>()

  constructor (authorities: readonly X509Certificate[]) {
    for (const certificate of authorities) {
      const facts = this.#add(certificate, this.configured)
      // What OpenSSL calls self-signed. Its signature would prove nothing: it was chosen by whoever configured it.
      if (facts !== undefined && certificate.checkIssued(certificate)) this.#anchors.add(facts)
    }
  }

  /** Never as an anchor, whatever it says of itself. */
  remember (certificate: X509Certificate): void {
    this.#add(certificate, this.remembered)
  }

  forget ({ fingerprint256 }: X509Certificate): void {
    const facts = this.#byFingerprint.get(fingerprint256)
    if (facts === undefined || !this.remembered.named(facts.subject).includes(facts)) return
    this.#byFingerprint.delete(fingerprint256)
    this.remembered.remove(facts)
  }

  /** What is known of a certificate already, or read from it. Throws where that cannot be. */
  factsOf (certificate: X509Certificate): ParsedCertificate {
    return this.#byFingerprint.get(certificate.fingerprint256) ?? parseCertificate(certificate)
  }

  /** The same certificate as it was read before, if it was. */
  same (facts: ParsedCertificate): ParsedCertificate {
    return this.#byFingerprint.get(facts.certificate.fingerprint256) ?? facts
  }

  isAnchor (facts: ParsedCertificate): boolean {
    return this.#anchors.has(facts)
  }

  #add (certificate: X509Certificate, where: BySubject): ParsedCertificate | undefined {
    const facts = this.#byFingerprint.has(certificate.fingerprint256) ? undefined : readOr(() => parseCertificate(certificate), undefined)
    if (facts === undefined) return undefined
    this.#byFingerprint.set(certificate.fingerprint256, facts)
    where.add(facts)
    return facts
  }
}

/** For one certificate. */
export class PathBuilder {
  readonly #trusted: TrustAnchors
  readonly #start: ParsedCertificate
  readonly #sent = new BySubject()
  readonly #allSent = new Set<ParsedCertificate>()
  #pairs = MOST_PAIRS
  #deadEnd: Path | undefined

  /** @param others what the client sent along: any certificates in any order, nobody of whom is trusted */
  constructor (trusted: TrustAnchors, start: ParsedCertificate, others: ReadonlyArray<X509Certificate | ParsedCertificate>) {
    this.#trusted = trusted
    this.#start = start
    const all = others.flatMap((each) => readOr(() => ['fields' in each ? trusted.same(each) : trusted.factsOf(each)], []))
    for (const facts of new Map(all.map((facts) => [facts.certificate.fingerprint256, facts])).values()) {
      if (trusted.configured.named(facts.subject).includes(facts)) continue
      this.#sent.add(facts)
      this.#allSent.add(facts)
    }
  }

  /** Why there is no path, of the shortest that leads nowhere. */
  get deadEnd (): string {
    return reasonOfDeadEnd(this.#deadEnd!)
  }

  /**
   * The shortest first; before all others those of what is configured and what the client sent along. So whoever has
   * look-alikes of an intermediate remembered stands in the way of nobody who sends it.
   */
  * paths (): Generator<Path> {
    const { configured, remembered } = this.#trusted
    const start = [this.#start]
    if (this.#trusted.isAnchor(this.#start)) {
      yield start
      return
    }
    /** By length, from that of one on. */
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

  /** Those by one that lead to an anchor; the others go to `longer`. */
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

  /** By names, key identifiers and key usage, and only where OpenSSL can read the extensions of both. */
  * #issuersOf (path: Path, sources: readonly BySubject[]): Generator<ParsedCertificate> {
    const { certificate, issuer, looksSelfSigned } = path.at(-1)!
    // Where something looks self-signed OpenSSL goes no further, whoever has signed it.
    if (looksSelfSigned || path.length === MOST_CERTIFICATES) return
    for (const source of sources) {
      for (const facts of source.named(issuer)) {
        if (source === this.#trusted.remembered && this.#allSent.has(facts)) continue
        if (this.#pairs-- <= 0) return
        // Authorities may have certified each other.
        if (certificate.checkIssued(facts.certificate) && !path.includes(facts)) yield facts
      }
    }
  }
}

function reasonOfDeadEnd (path: Path): string {
  if (path.at(-1)!.isSelfIssued) return path.length === 1 ? 'DEPTH_ZERO_SELF_SIGNED_CERT' : 'SELF_SIGNED_CERT_IN_CHAIN'
  return path.length === 1 ? 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' : 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'
}

/**
 * Who has signed what: the one question that needs keys, and time.
 */

/** Answers that last as long as the certificates: those about authorities, for good. */
export class Signatures {
  readonly #isLegacy: boolean
  readonly #known = new WeakMap<ParsedCertificate, WeakMap<ParsedCertificate, boolean>>()

  /** @param isLegacy whether SHA-1 and short keys pass */
  constructor (isLegacy: boolean) {
    this.#isLegacy = isLegacy
  }

  problemOf (certificate: ParsedCertificate, issuer: ParsedCertificate, work: Budget): string | undefined {
    if (certificate.scheme === undefined && !(this.#isLegacy && certificate.isLegacyScheme)) return 'CA_MD_TOO_WEAK'
    const known = this.#knownOf(certificate)
    if (!known.has(issuer) && work.takeSignature(strengthOf(issuer, this.#isLegacy)!.work)) known.set(issuer, certificate.certificate.verify(issuer.certificate.publicKey))
    return known.get(issuer) === true ? undefined : 'CERT_SIGNATURE_FAILURE'
  }

  #knownOf (certificate: ParsedCertificate): WeakMap<ParsedCertificate, boolean> {
    const known = this.#known.get(certificate) ?? new WeakMap<ParsedCertificate, boolean>()
    this.#known.set(certificate, known)
    return known
  }
}
