/**
 * Trust in clients: the authorities that issue their certificates, what is known of revoked ones, and the answer to
 * whether a certificate counts, which changes with either. One for each set of `clientCertificates`, and one for
 * `proxy.ca`.
 */
import type { X509Certificate } from 'node:crypto'
import type { Crl } from '../x509/crl.ts'
import { readOr } from '../x509/der.ts'
import { type Validity, validityOf } from '../x509/fields.ts'
import { parseCertificate, type ParsedCertificate } from '../x509/parsed-certificate.ts'
import { PathVerifier } from '../x509/path-validation.ts'
import { Intermediates } from './intermediates.ts'
import { type OcspAnswers, Revocation, type RevocationOptions } from './revocation.ts'

/** The answer about a certificate, and how long it holds. Frozen. */
export interface Judgement {
  readonly store: TrustStore
  readonly epoch: number
  /** What is wrong, in OpenSSL's words like `authorizationError`; undefined where the certificate counts. */
  readonly error: string | undefined
  /** The moments between which it is known to be so, in milliseconds since the epoch, inclusive: none while it is pending. */
  readonly from: number
  readonly until: number
  /** What has to be waited for; undefined where nothing has. */
  readonly pending: Promise<unknown> | undefined
}

/** What a store goes by. */
export interface TrustContent {
  readonly cas: readonly X509Certificate[]
  readonly crls: readonly Crl[]
  /** Whether revocation is checked: any CRLs or responders were configured. */
  readonly isRevocationChecked: boolean
  readonly unknown: 'refuse' | 'allow'
  /** Short keys, SHA-1 and X.509 version 1 pass. */
  readonly isLegacy?: boolean
}

/** Valid answers that are kept by leaf: connections of one client are many. */
const MOST_ANSWERS = 10_000
/**
 * Milliseconds that an answer holds at most where the network is asked: after that, it is asked again about who still comes;
 * and whoever was refused since it did not answer gets in soon after it does.
 */
const LONGEST_VALID = 10 * 60_000
const LONGEST_REFUSED = 5_000
/** Authorities that were taken out, and are still known by name. */
const MOST_FORMER = 1_000

export class TrustStore {
  /** Another number after each change: an answer of before does not hold. */
  epoch = 0
  /** Called after each change. */
  readonly onChange = new Set<() => void>()
  readonly #intermediates: Intermediates
  readonly #ocsp: OcspAnswers | undefined
  readonly #fetchFor: RevocationOptions['fetchFor']
  #content: TrustContent
  #verifier: PathVerifier
  #revocation: Revocation
  /** By leaf: the certificate as it was parsed, so that its signature is verified once, and the answer. */
  readonly #answers = new Map<string, { readonly facts: ParsedCertificate, readonly judgement: Judgement }>()
  /** CAs that were taken out: their clients are not trusted any more, rather than unknown. */
  readonly #former = new Map<string, X509Certificate>()
  /** By all CAs that are or were there; made when it is asked for. */
  #everTrusted: PathVerifier | undefined
  /** The last moments before something that was configured or remembered begins, and those at which it ends. */
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

  /** Other content, from the next request on. */
  update (content: TrustContent): void {
    const before = this.#content
    this.#content = content
    if (!isSameContent(before.cas, content.cas)) {
      for (const ca of before.cas) if (this.#former.size < MOST_FORMER && !content.cas.includes(ca)) this.#former.set(ca.fingerprint256, ca)
      this.#verifier = this.#createVerifier()
    }
    this.changed()
  }

  /** Something that answers go by has changed: a CRL, an answer of a responder, an authority. */
  changed (): void {
    this.#revocation = this.#createRevocation()
    this.#boundaries = this.#boundariesOf()
    this.epoch++
    for (const tell of this.onChange) tell()
  }

  /**
   * Whether a client certificate counts. Never throws, whatever the certificates are.
   *
   * @param others what came with it, in any order
   * @param now milliseconds since the epoch
   */
  judge (leaf: X509Certificate, others: readonly X509Certificate[], now: number): Judgement {
    const { fingerprint256 } = leaf
    const kept = this.#answers.get(fingerprint256)
    if (kept !== undefined && holds(kept.judgement, now)) return kept.judgement
    const facts = kept?.facts ?? readOr(() => parseCertificate(leaf), undefined)
    if (facts === undefined) return this.#judgement('UNSPECIFIED', [-Infinity, Infinity], [])
    const waitsFor: Array<Promise<unknown>> = []
    const { error, path, from, until, pending } = this.#verifier.verify(facts, others, now, (path, now, work) => this.#revocation.statusOf(path, now, work, (answer) => waitsFor.push(answer)))
    if (pending) return this.#judgement(error, [Infinity, -Infinity], waitsFor)
    if (error !== undefined) return this.#judgement(error, this.#steadyAround([facts.validity, ...others.map(validityOf)], now, now + (this.#isOnline ? LONGEST_REFUSED : Infinity)), [])
    for (const authority of path!.slice(1, -1)) this.#intermediates.add(path!.at(-1)!.certificate, authority.certificate)
    const judgement = this.#judgement(undefined, [from, Math.min(until, now + (this.#isOnline ? LONGEST_VALID : Infinity))], [])
    this.#keep(fingerprint256, facts, judgement)
    return judgement
  }

  /**
   * Whether a certificate leads to a CA that is, or was, configured, by what is known here: where it does not, that of a
   * client that resumes a session may have a path that only its full handshake would show.
   */
  knowsPathOf (leaf: X509Certificate): boolean {
    this.#everTrusted ??= this.#verifierOf([...this.#content.cas, ...this.#former.values()])
    const { path, error } = this.#everTrusted.verify(leaf, [], Date.now())
    // A namesake of its issuer is known.
    return path !== undefined && error !== 'CERT_SIGNATURE_FAILURE'
  }

  /** CA certificates that may have signed something: those that are configured, and those of verified paths. */
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

  #judgement (error: string | undefined, [from, until]: readonly [number, number], waitsFor: ReadonlyArray<Promise<unknown>>): Judgement {
    return Object.freeze({ store: this, epoch: this.epoch, error, from, until, pending: waitsFor.length === 0 ? undefined : Promise.allSettled(waitsFor) })
  }

  #keep (fingerprint256: string, facts: ParsedCertificate, judgement: Judgement): void {
    // The oldest goes first: those that are asked for again are put at the end.
    this.#answers.delete(fingerprint256)
    this.#answers.set(fingerprint256, { facts, judgement })
    if (this.#answers.size <= MOST_ANSWERS) return
    const [oldest] = this.#answers.keys()
    this.#answers.delete(oldest!)
  }

  /** A refusal holds while nothing begins or ends: a client that is refused shall not cost a search for each request. */
  #steadyAround (validities: readonly Validity[], now: number, most: number): readonly [number, number] {
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

/** Whether an answer is one about this moment. */
export function holds ({ store, epoch, from, until }: Judgement, now: number): boolean {
  return epoch === store.epoch && now >= from && now <= until
}

/** The last one before a certificate begins, and the last one of it. */
function lastMoments ({ notBefore, notAfter }: Validity): number[] {
  return [notBefore - 1, notAfter]
}

function isSameContent (one: readonly X509Certificate[], other: readonly X509Certificate[]): boolean {
  return one.length === other.length && one.every(({ raw }, index) => raw.equals(other[index]!.raw))
}
