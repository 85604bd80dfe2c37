/**
 * Paths from a certificate to a trust anchor (RFC 4158), by what they say of each other: no key is used here.
 */
import type { X509Certificate } from 'node:crypto'
import { type Facts, readableFacts } from './facts.ts'

/** From the client to a self-signed authority, both included. */
export type Path = readonly Facts[]

/** Longer paths are not looked for; those of the web have three or four certificates. */
const MOST_CERTIFICATES = 10

/** Pairs of certificates that are compared for one client: authorities may look alike, and name each other in circles. */
const MOST_PAIRS = 2000

/** The configured authorities: anchors, and others whose certificates clients need not send. */
export class Trusted {
  readonly #bySubject = new Map<string, Facts[]>()
  readonly #byFingerprint = new Map<string, Facts>()
  readonly #anchors = new Set<Facts>()

  constructor (authorities: readonly X509Certificate[]) {
    for (const facts of readableFacts(authorities)) {
      const { certificate, subject } = facts
      const alike = this.#bySubject.get(subject)
      if (alike === undefined) this.#bySubject.set(subject, [facts])
      else alike.push(facts)
      this.#byFingerprint.set(certificate.fingerprint256, facts)
      // What OpenSSL calls self-signed. Its signature would prove nothing: it was chosen by whoever configured it.
      if (certificate.checkIssued(certificate)) this.#anchors.add(facts)
    }
  }

  add (certificate: X509Certificate): void {
    for (const facts of readableFacts([certificate])) {
      if (this.#byFingerprint.has(certificate.fingerprint256)) continue
      const alike = this.#bySubject.get(facts.subject)
      if (alike === undefined) this.#bySubject.set(facts.subject, [facts])
      else alike.push(facts)
      this.#byFingerprint.set(certificate.fingerprint256, facts)
    }
  }

  named (subject: string): readonly Facts[] {
    return this.#bySubject.get(subject) ?? []
  }

  /** The same certificate, if it is one of them. */
  same ({ certificate }: Facts): Facts | undefined {
    return this.#byFingerprint.get(certificate.fingerprint256)
  }

  isAnchor (facts: Facts): boolean {
    return this.#anchors.has(facts)
  }
}

/** For one client. */
export class Search {
  readonly #trusted: Trusted
  readonly #client: Facts
  /** By subject. */
  readonly #others = new Map<string, Facts[]>()
  #pairs = MOST_PAIRS
  readonly #deadEnds: string[] = []

  /** @param others what the client sent along: any certificates in any order, nobody of whom is trusted */
  constructor (trusted: Trusted, client: Facts, others: readonly Facts[]) {
    this.#trusted = trusted
    this.#client = trusted.same(client) ?? client
    const unknown = others.filter((facts) => trusted.same(facts) === undefined)
    for (const facts of new Map(unknown.map((facts) => [facts.certificate.fingerprint256, facts])).values()) {
      this.#others.set(facts.subject, [...this.#others.get(facts.subject) ?? [], facts])
    }
  }

  /** Why there is no path, of the first that leads nowhere. */
  get deadEnd (): string {
    return String(this.#deadEnds[0])
  }

  paths (): Generator<Path> {
    return this.#pathsFrom([this.#client])
  }

  * #pathsFrom (path: Path): Generator<Path> {
    const last = path.at(-1)!
    if (this.#trusted.isAnchor(last)) {
      yield path
      return
    }
    let isDeadEnd = true
    // Where something looks self-signed OpenSSL goes no further, whoever has signed it.
    for (const issuer of last.looksSelfSigned ? [] : this.#issuersOf(last)) {
      // Authorities may have certified each other.
      if (path.includes(issuer) || path.length === MOST_CERTIFICATES) continue
      isDeadEnd = false
      yield * this.#pathsFrom([...path, issuer])
    }
    if (isDeadEnd) this.#deadEnds.push(reasonOf(path))
  }

  /** By names, key identifiers and key usage, and only where OpenSSL can read the extensions of both. */
  * #issuersOf ({ certificate, issuer }: Facts): Generator<Facts> {
    for (const facts of [...this.#trusted.named(issuer), ...this.#others.get(issuer) ?? []]) {
      if (this.#pairs-- <= 0) return
      if (certificate.checkIssued(facts.certificate)) yield facts
    }
  }
}

function reasonOf (path: Path): string {
  if (path.at(-1)!.isSelfIssued) return path.length === 1 ? 'DEPTH_ZERO_SELF_SIGNED_CERT' : 'SELF_SIGNED_CERT_IN_CHAIN'
  return path.length === 1 ? 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' : 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'
}
