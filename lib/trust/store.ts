/**
 * The trust in client certificates: CAs, CRLs and OCSP, and the judgement whether a certificate is valid, which is cached
 * and changes with any of them. Begin with `TrustStore.judge`. There is one store for each `clientCertificates` and
 * `proxy.ca`.
 */
import type { X509Certificate } from 'node:crypto'
import type { Crl } from '../x509/crl.ts'
import { readOr } from '../x509/der.ts'
import { type Validity, validityOf } from '../x509/fields.ts'
import { parseCertificate, type ParsedCertificate } from '../x509/parsed-certificate.ts'
import { PathVerifier } from '../x509/path-validation.ts'
import { explainProblem } from '../x509/problems-in-words.ts'
import { Intermediates } from './intermediates.ts'
import { holds, type Judgement, type TrustState } from './peer-certificate.ts'
import { type OcspAnswers, Revocation, type RevocationOptions } from './revocation.ts'

/** The CAs, CRLs and options of a store. */
export interface TrustContent {
  readonly cas: readonly X509Certificate[]
  readonly crls: readonly Crl[]
  /** Whether revocation is checked: CRLs or OCSP are configured. */
  readonly isRevocationChecked: boolean
  readonly unknown: 'refuse' | 'allow'
  /** Whether short keys, SHA-1 and X.509 version 1 are accepted. */
  readonly isLegacy?: boolean
}

/** Judgements of valid certificates that are cached: a client has many connections. */
const MOST_ANSWERS = 10_000
/**
 * Milliseconds that a judgement holds at most, where revocation is checked over the network: a valid one, so that clients
 * that still come are checked again; a refusal, so that a client gets in soon after a server has answered.
 */
const LONGEST_VALID = 10 * 60_000
const LONGEST_REFUSED = 5_000
/** Removed CAs that are still known by name. */
const MOST_FORMER = 1_000

export class TrustStore implements TrustState {
  /** The trust epoch: changes with each change, and makes all earlier judgements invalid. */
  epoch = 0
  readonly onChange = new Set<() => void>()
  readonly #intermediates: Intermediates
  readonly #ocsp: OcspAnswers | undefined
  readonly #fetchFor: RevocationOptions['fetchFor']
  #content: TrustContent
  #verifier: PathVerifier
  #revocation: Revocation
  /** By leaf: the judgement, and the parsed certificate, so that its signature is verified only once. */
  readonly #answers = new Map<string, { readonly parsed: ParsedCertificate, readonly judgement: Judgement }>()
  /** Removed CAs: their clients are reported as no longer trusted, not as unknown. */
  readonly #former = new Map<string, X509Certificate>()
  /** With all present and removed CAs; created when it is needed. */
  #everTrusted: PathVerifier | undefined
  /** The last moments before a certificate or CRL becomes valid, and the last moments of their validity. */
  #boundaries: readonly number[] = []

  constructor (content: TrustContent, { intermediates = new Intermediates(), ocsp, fetchFor }: { intermediates?: Intermediates, ocsp?: OcspAnswers | undefined, fetchFor?: RevocationOptions['fetchFor'] } = {}) {
    this.#intermediates = intermediates
    this.#ocsp = ocsp
    this.#fetchFor = fetchFor
    this.#content = content
    this.#verifier = this.#createVerifier()
    this.#revocation = this.#createRevocation()
    this.#boundaries = this.#boundariesOf()
  }

  get content (): TrustContent {
    return this.#content
  }

  /** Replaces the content, from the next request on. */
  update (content: TrustContent): void {
    const before = this.#content
    this.#content = content
    if (!isSameContent(before.cas, content.cas)) {
      for (const ca of before.cas) if (this.#former.size < MOST_FORMER && !content.cas.includes(ca)) this.#former.set(ca.fingerprint256, ca)
      this.#verifier = this.#createVerifier()
    }
    this.changed()
  }

  /** Called after a change of anything that judgements are based on: a CRL, an OCSP status, a CA. */
  changed (): void {
    this.#revocation = this.#createRevocation()
    this.#boundaries = this.#boundariesOf()
    this.epoch++
    for (const tell of this.onChange) tell()
  }

  /**
   * Whether a client certificate is valid. Never throws, whatever the certificates are.
   *
   * @param others the other certificates that were sent, in any order
   * @param now milliseconds since the epoch
   */
  judge (leaf: X509Certificate, others: readonly X509Certificate[], now: number): Judgement {
    const { fingerprint256 } = leaf
    const kept = this.#answers.get(fingerprint256)
    if (kept !== undefined && holds(kept.judgement, now)) return kept.judgement
    const parsed = kept?.parsed ?? readOr(() => parseCertificate(leaf), undefined)
    if (parsed === undefined) return this.#judgement('UNSPECIFIED', [-Infinity, Infinity], [])
    const waitsFor: Array<Promise<unknown>> = []
    const { error, path, from, until, pending } = this.#verifier.verify(parsed, others, now, (path, now, budget) => this.#revocation.statusOf(path, now, budget, (answer) => waitsFor.push(answer)))
    if (pending) return this.#judgement(error, [Infinity, -Infinity], waitsFor)
    if (error !== undefined) return this.#judgement(error, this.#periodOfRefusal([parsed.validity, ...others.map(validityOf)], now, now + (this.#isOnline ? LONGEST_REFUSED : Infinity)), [])
    for (const authority of path!.slice(1, -1)) this.#intermediates.add(path!.at(-1)!.certificate, authority.certificate)
    const judgement = this.#judgement(undefined, [from, Math.min(until, now + (this.#isOnline ? LONGEST_VALID : Infinity))], [])
    this.#keep(fingerprint256, parsed, judgement)
    return judgement
  }

  /**
   * Whether a path from a certificate to a present or removed CA is known here. Where there is none, a client that resumes
   * a session may still have one, over intermediates that only a full handshake brings.
   */
  knowsPathOf (leaf: X509Certificate): boolean {
    this.#everTrusted ??= this.#verifierOf([...this.#content.cas, ...this.#former.values()])
    const { path, error } = this.#everTrusted.verify(leaf, [], Date.now())
    // With CERT_SIGNATURE_FAILURE, only a CA with the issuer's name is known, not the issuer.
    return path !== undefined && error !== 'CERT_SIGNATURE_FAILURE'
  }

  /** CAs with this name that may have signed something: configured ones, and intermediates of valid paths. */
  authoritiesNamed (subject: string): readonly ParsedCertificate[] {
    return this.#verifier.named(subject)
  }

  get #isOnline (): boolean {
    return this.#ocsp !== undefined || this.#fetchFor !== undefined
  }

  #createVerifier (): PathVerifier {
    const verifier = this.#verifierOf(this.#content.cas)
    this.#everTrusted = undefined
    this.#intermediates.onRemove = (certificate) => {
      verifier.removeIntermediate(certificate)
      this.#everTrusted?.removeIntermediate(certificate)
    }
    this.#intermediates.onAdd = (certificate) => {
      verifier.addIntermediate(certificate)
      this.#everTrusted?.addIntermediate(certificate)
      this.#boundaries = this.#boundariesOf()
    }
    return verifier
  }

  #verifierOf (cas: readonly X509Certificate[]): PathVerifier {
    const verifier = new PathVerifier(cas, this.#content.isLegacy)
    for (const certificate of this.#intermediates.certificates()) verifier.addIntermediate(certificate)
    return verifier
  }

  #createRevocation (): Revocation {
    const verifier = this.#verifier
    return new Revocation({
      crls: this.#content.crls,
      ocsp: this.#ocsp,
      fetchFor: this.#fetchFor,
      isChecked: this.#content.isRevocationChecked,
      unknown: this.#content.unknown,
      authoritiesNamed: (subject) => verifier.named(subject),
      pathTo: (authority, anchor, now, others) => verifier.verifyAuthority(authority, anchor, now, others)
    })
  }

  explain (leaf: X509Certificate, error: string): string | undefined {
    return explainProblem(leaf, error)
  }

  #judgement (error: string | undefined, [from, until]: readonly [number, number], waitsFor: ReadonlyArray<Promise<unknown>>): Judgement {
    return Object.freeze({ store: this, epoch: this.epoch, error, from, until, pending: waitsFor.length === 0 ? undefined : Promise.allSettled(waitsFor) })
  }

  #keep (fingerprint256: string, parsed: ParsedCertificate, judgement: Judgement): void {
    // The oldest is removed first: a judgement that is renewed moves to the end.
    this.#answers.delete(fingerprint256)
    this.#answers.set(fingerprint256, { parsed, judgement })
    if (this.#answers.size <= MOST_ANSWERS) return
    const [oldest] = this.#answers.keys()
    this.#answers.delete(oldest!)
  }

  /** A refusal holds until a certificate or CRL becomes valid or expires, so that no path is built for each request. */
  #periodOfRefusal (validities: readonly Validity[], now: number, most: number): readonly [number, number] {
    let [from, until] = [-Infinity, most]
    for (const last of [...validities.flatMap(lastMoments), ...this.#boundaries]) {
      if (last >= now) until = Math.min(until, last)
      else from = Math.max(from, last + 1)
    }
    return [from, until]
  }

  #boundariesOf (): readonly number[] {
    const { cas, crls } = this.#content
    return [
      ...[...cas, ...this.#intermediates.certificates()].map(validityOf).flatMap(lastMoments),
      ...crls.flatMap(({ thisUpdate, nextUpdate }) => [thisUpdate - 1, nextUpdate])
    ]
  }
}

/** The last moment before a certificate becomes valid, and the last moment of its validity. */
function lastMoments ({ notBefore, notAfter }: Validity): number[] {
  return [notBefore - 1, notAfter]
}

function isSameContent (one: readonly X509Certificate[], other: readonly X509Certificate[]): boolean {
  return one.length === other.length && one.every(({ raw }, index) => raw.equals(other[index]!.raw))
}
