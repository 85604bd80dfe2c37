/**
 * The trust in client certificates: CAs, CRLs and OCSP, and the judgement whether a certificate is valid, which is cached
 * and changes with any of them. Begin with `TrustStore.judge`. There is one store for each `clientCertificates` and
 * `proxy.ca`.
 */
import type { X509Certificate } from 'node:crypto'
import type { Crl } from '../x509/crl.ts'
import { derOf, readOr } from '../x509/der.ts'
import { type CertificateFields, fieldsOf, type Validity, validityOf } from '../x509/fields.ts'
import { parseCertificate, type ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { Path } from '../x509/path-building.ts'
import { type PathVerification, PathVerifier } from '../x509/path-validation.ts'
import { explainProblem } from '../x509/problems-in-words.ts'
import { Intermediates } from './intermediates.ts'
import { CaLabels, type LabelledCas } from './labels.ts'
import { type Fingerprints, holds, type Judgement, type TrustState } from './peer-certificate.ts'
import { type OcspAnswers, Revocation, type RevocationOptions } from './revocation.ts'

/** The CAs, CRLs and options of a store. */
export interface TrustContent {
  readonly cas: readonly X509Certificate[]
  /** All of these again, where they have labels. */
  readonly labels?: LabelledCas
  readonly crls: readonly Crl[]
  /** Whether revocation is checked: CRLs or OCSP are configured. */
  readonly isRevocationChecked: boolean
  readonly unknown: 'refuse' | 'allow'
  /** Whether short keys, SHA-1 and X.509 version 1 are accepted. */
  readonly isLegacy?: boolean
}

/** Judgements of valid certificates, and labels, that are cached: a client has many connections. */
const MOST_ANSWERS = 10_000
/**
 * Milliseconds that a judgement holds at most, where revocation is checked over the network: a valid one, so that clients
 * that still come are checked again; a refusal, so that a client gets in soon after a server has answered.
 */
const LONGEST_VALID = 10 * 60_000
const LONGEST_REFUSED = 5_000
/** Removed CAs that are still known by name. */
const MOST_FORMER = 1_000
/** Certificates that came with one leaf, and were looked at: more of them are not, until something changes. */
const MOST_LOOKED_AT = 64
/** Valid paths of one leaf, the shortest first, that are searched for labels: CAs that certify each other have any number. */
const MOST_PATHS = 100

const NONE: ReadonlySet<string> = new Set()

/** The labels of a leaf. */
interface LabelsOfLeaf {
  readonly labels: ReadonlySet<string>
  /** The period in which they hold, inclusive, in milliseconds since the epoch. */
  readonly from: number
  readonly until: number
  /** Fingerprints of certificates that were sent with the leaf, and can add no more labels. */
  readonly lookedAt: Set<string>
  /** The keys of the CAs in its valid paths: only another certificate of one of these CAs can be on a further path. */
  readonly keys: ReadonlySet<string>
  /** Settles when the revocation status of a further path is known; undefined where nothing is waited for. */
  readonly pending: Promise<unknown> | undefined
}

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
  /** By leaf: the judgement, the label of the path that it was found by, and the parsed certificate, so that its signature is verified only once. */
  readonly #answers = new Map<string, { readonly parsed: ParsedCertificate, readonly judgement: Judgement, readonly label: string | undefined }>()
  #labels: CaLabels
  /** By leaf. A new map with each change of what is configured. */
  #labelsByLeaf = new Map<string, LabelsOfLeaf>()
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
    this.#labels = new CaLabels(content.labels)
    this.#verifier = this.#createVerifier()
    this.#revocation = this.#createRevocation()
    this.#boundaries = this.#boundariesOf()
  }

  get content (): TrustContent {
    return this.#content
  }

  /** The labels that are configured. */
  get labels (): ReadonlySet<string> {
    return this.#labels.names
  }

  /** Replaces the content, from the next request on. */
  update (content: TrustContent): void {
    const before = this.#content
    this.#content = content
    if (!isSameContent(before.cas, content.cas)) {
      for (const ca of before.cas) if (this.#former.size < MOST_FORMER && !content.cas.includes(ca)) this.#former.set(ca.fingerprint256, ca)
      this.#verifier = this.#createVerifier()
    }
    if (content.labels !== before.labels) this.#labels = new CaLabels(content.labels)
    this.changed()
  }

  /** Called after a change of anything that judgements are based on: a CRL, an OCSP status, a CA. */
  changed (): void {
    this.#revocation = this.#createRevocation()
    this.#boundaries = this.#boundariesOf()
    this.#labelsByLeaf = new Map()
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
    const judgement = this.#judged(leaf, others, now)
    // Only a full handshake brings these certificates. A session that is resumed later, and is asked for its labels, needs them.
    if (judgement.error === undefined && others.length > 0) this.labelsOf(leaf, others, now)
    return judgement
  }

  #judged (leaf: X509Certificate, others: readonly X509Certificate[], now: number): Judgement {
    const { fingerprint256 } = leaf
    const kept = this.#answers.get(fingerprint256)
    if (kept !== undefined && holds(kept.judgement, now)) return kept.judgement
    const parsed = kept?.parsed ?? readOr(() => parseCertificate(leaf), undefined)
    if (parsed === undefined) return this.#judgement('UNSPECIFIED', [-Infinity, Infinity], [])
    const waitsFor: Array<Promise<unknown>> = []
    const { error, path, from, until, pending } = this.#validPathsOf(parsed, others, now, waitsFor).next().value
    if (pending) return this.#judgement(error, [Infinity, -Infinity], waitsFor)
    if (error !== undefined) return this.#judgement(error, this.#periodOfRefusal([parsed.validity, ...others.map(validityOf)], now, now + (this.#isOnline ? LONGEST_REFUSED : Infinity)), [])
    this.#remember(path!)
    const judgement = this.#judgement(undefined, [from, Math.min(until, now + (this.#isOnline ? LONGEST_VALID : Infinity))], [])
    keepLast(this.#answers, fingerprint256, { parsed, judgement, label: this.#labels.ofPath(path!) })
    return judgement
  }

  /**
   * The labels of the client CAs that have issued a certificate: of every valid path, the label nearest to the leaf. Empty
   * where the certificate is not valid. Never throws. What is known is found in a Map.
   *
   * So that the answer does not depend on which client sends what, and when:
   *
   * - It is that of the leaf alone, over what is configured or known, and what was sent can only add to it. Too many
   *   certificates, or look-alikes that use up the budget, take nothing from it.
   * - Whatever was sent with a leaf and was not looked at yet is looked at, also where the answer is cached. Intermediates of
   *   every valid path are remembered, not only those of the first one. A new one that has the key of a CA on the path of
   *   another leaf may be on a further path of it, whose answer is then worked out anew. (One with another key cannot: it has
   *   not signed what is on that path. Otherwise whoever has a CA could have all leaves searched again, as often as it likes.)
   *   So only the first client that sends an intermediate makes a difference: before it, the path is not known to anybody.
   * - The path by which the certificate was judged valid is one of them, also where look-alikes of its CAs, which another
   *   client has made known since, use up the budget of a session that was resumed, and brings no intermediates.
   * - A path whose revocation status has still to be fetched is not valid yet: see `labelsPending`.
   *
   * @param others the other certificates that were sent, in any order
   * @param now milliseconds since the epoch
   */
  labelsOf (leaf: X509Certificate, others: readonly X509Certificate[], now: number): ReadonlySet<string> {
    const { fingerprint256 } = leaf
    const known = this.knownLabelsOf({ leaf: fingerprint256, others: others.map(({ fingerprint256 }) => fingerprint256) }, now)
    if (known !== undefined) return known
    const kept = this.#labelsByLeaf.get(fingerprint256)
    const isCurrent = kept !== undefined && now >= kept.from && now <= kept.until
    const answer = this.#answers.get(fingerprint256)
    const judged = answer !== undefined && holds(answer.judgement, now) ? answer : undefined
    const parsed = answer?.parsed ?? readOr(() => parseCertificate(leaf), undefined)
    if (parsed === undefined) return NONE
    const waitsFor: Array<Promise<unknown>> = []
    const paths = (others.length === 0 ? [others] : [others, []]).flatMap((sent) => first(this.#validPathsOf(parsed, sent, now, waitsFor), MOST_PATHS))
    for (const { path } of paths) this.#remember(path!)
    const labels = new Set([...isCurrent ? kept.labels : [], ...judged?.label === undefined ? [] : [judged.label], ...paths.flatMap(({ path }) => this.#labels.ofPath(path!) ?? [])])
    const pending = waitsFor.length === 0 ? undefined : Promise.allSettled(waitsFor)
    const [from, until] = this.#periodOfRefusal([parsed.validity, ...others.map(validityOf)], now, now + (this.#isOnline ? LONGEST_REFUSED : Infinity), this.#ownBoundaries)
    const lookedAt = isCurrent ? kept.lookedAt : new Set<string>()
    const periods = [...paths, ...judged === undefined ? [] : [judged.judgement], ...isCurrent ? [kept] : []]
    for (const other of others) lookedAt.add(other.fingerprint256)
    const entry: LabelsOfLeaf = {
      labels,
      from: Math.max(from, ...periods.map(({ from }) => from)),
      until: Math.min(until, ...periods.map(({ until }) => until)),
      lookedAt,
      keys: new Set([...isCurrent ? kept.keys : [], ...paths.flatMap(({ path }) => path!.slice(1).map(({ fields }) => keyOf(fields)))]),
      pending
    }
    const byLeaf = this.#labelsByLeaf
    keepLast(byLeaf, fingerprint256, entry)
    pending?.then(() => { if (byLeaf.get(fingerprint256) === entry) byLeaf.delete(fingerprint256) })
    return labels
  }

  /** The same where it is known already, so that the certificates need not be parsed; undefined where it is not. */
  knownLabelsOf ({ leaf, others }: Fingerprints, now: number): ReadonlySet<string> | undefined {
    if (this.labels.size === 0) return NONE
    const kept = this.#labelsByLeaf.get(leaf)
    if (kept === undefined || now < kept.from || now > kept.until) return undefined
    // A holder of many connections, each with other certificates, must not make each request search.
    return kept.lookedAt.size >= MOST_LOOKED_AT || others.every((other) => kept.lookedAt.has(other)) ? kept.labels : undefined
  }

  /** Settles when more labels of a leaf may be known, because the revocation status of a path is; undefined where none is fetched. */
  labelsPending ({ fingerprint256 }: Pick<X509Certificate, 'fingerprint256'>): Promise<unknown> | undefined {
    return this.#labelsByLeaf.get(fingerprint256)?.pending
  }

  /** Forgets the labels of leaves that a new intermediate may add to: see `labelsOf`. */
  #forgetLabels (intermediate: X509Certificate): void {
    const key = readOr(() => keyOf(fieldsOf(intermediate)), undefined)
    for (const [leaf, { keys }] of this.#labelsByLeaf) if (key === undefined || keys.size === 0 || keys.has(key)) this.#labelsByLeaf.delete(leaf)
  }

  #validPathsOf (leaf: ParsedCertificate, others: readonly X509Certificate[], now: number, waitsFor: Array<Promise<unknown>>): Generator<PathVerification, PathVerification> {
    return this.#verifier.validPaths(leaf, others, now, (path, now, budget) => this.#revocation.statusOf(path, now, budget, (answer) => waitsFor.push(answer)))
  }

  #remember (path: Path): void {
    for (const authority of path.slice(1, -1)) this.#intermediates.add(path.at(-1)!.certificate, authority.certificate)
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
      this.#forgetLabels(certificate)
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

  /** A refusal holds until a certificate or CRL becomes valid or expires, so that no path is built for each request. */
  #periodOfRefusal (validities: readonly Validity[], now: number, most: number, boundaries = this.#boundaries): readonly [number, number] {
    let [from, until] = [-Infinity, most]
    for (const last of [...validities.flatMap(lastMoments), ...boundaries]) {
      if (last >= now) until = Math.min(until, last)
      else from = Math.max(from, last + 1)
    }
    return [from, until]
  }

  #boundariesOf (): readonly number[] {
    return [...this.#ownBoundaries, ...this.#intermediates.certificates().map(validityOf).flatMap(lastMoments)]
  }

  /** Of what is configured alone. */
  get #ownBoundaries (): readonly number[] {
    const { cas, crls } = this.#content
    return [
      ...cas.map(validityOf).flatMap(lastMoments),
      ...crls.flatMap(({ thisUpdate, nextUpdate }) => [thisUpdate - 1, nextUpdate])
    ]
  }
}

function first<Item> (items: Iterable<Item>, most: number): Item[] {
  const found: Item[] = []
  for (const item of items) if (found.push(item) === most) break
  return found
}

/** The key of a certificate. DER says itself where it ends. */
function keyOf ({ publicKey }: CertificateFields): string {
  return derOf(publicKey).toString('latin1')
}

/** The oldest is removed first: an answer that is renewed moves to the end. */
function keepLast<Answer> (answers: Map<string, Answer>, leaf: string, answer: Answer): void {
  answers.delete(leaf)
  answers.set(leaf, answer)
  if (answers.size > MOST_ANSWERS) answers.delete(answers.keys().next().value!)
}

/** The last moment before a certificate becomes valid, and the last moment of its validity. */
function lastMoments ({ notBefore, notAfter }: Validity): number[] {
  return [notBefore - 1, notAfter]
}

function isSameContent (one: readonly X509Certificate[], other: readonly X509Certificate[]): boolean {
  return one.length === other.length && one.every(({ raw }, index) => raw.equals(other[index]!.raw))
}
