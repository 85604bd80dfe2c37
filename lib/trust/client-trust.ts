/**
 * Client CAs and CRLs as they were configured, kept up to date with where they come from: for the hosts of a TLS server,
 * and for what a proxy forwards.
 */
import type { X509Certificate } from 'node:crypto'
import type { Crl } from '../x509/crl.ts'
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import { validityOf } from '../x509/fields.ts'
import { formatName, subjectOf } from '../x509/distinguished-names.ts'
import { ReloadQueue } from '../files/reload-queue.ts'
import { watchFiles } from '../files/watch.ts'
import { type Ending, Expiry } from '../files/expiry.ts'
import { FileReader, pathOf } from '../files/pem.ts'
import type { CacheDirectory } from './cache-directory.ts'
import { Intermediates } from './intermediates.ts'
import type { Online } from './online.ts'
import { type TrustOptions, checksRevocation, isOnline } from './options.ts'
import { areSameCas, isAllElseInForce, isSignedByAny, type LoadedTrust, loadTrust, type SourcedCrl } from './load.ts'
import { TrustStore } from './store.ts'

/** Authorities by whose keys the signature of a CRL is verified before anybody needs it. */
const MOST_SIGNERS = 8

/** Where there is something to say. */
export type Tell = (level: 'info' | 'warn' | 'error', message: string, code?: string) => void

/** What client certificates are judged by, as of now. */
export interface TrustInForce {
  /** Client CAs: their names as text (RFC 4514), until when, and the file that each is from. */
  readonly authorities: ReadonlyArray<{ readonly subject: string, readonly validUntil: Date, readonly source: string }>
  /** CRLs, ended ones too, which still say who was revoked; `nextUpdate` is null where a CRL has none. URLs are without query. */
  readonly lists: ReadonlyArray<{ readonly issuer: string, readonly entries: number, readonly thisUpdate: Date, readonly nextUpdate: Date | null, readonly source: string }>
  /** What does not answer, or not as it should: list servers and OCSP responders. */
  readonly problems: readonly string[]
}

interface Circumstances {
  /** What to call it in messages: `clientCertificates`, `proxy`. */
  readonly role: string
  readonly log: Tell
  /** Rejects where other CAs could not be in force. */
  readonly prepare?: (cas: readonly X509Certificate[]) => Promise<void>
}

export class ClientTrust {
  readonly store: TrustStore
  /** Called after the CAs have changed, which clients are told of in handshakes, with whether any was added. */
  readonly onCasChange = new Set<(wasAdded: boolean) => void>()
  readonly #options: TrustOptions
  readonly #circumstances: Circumstances
  readonly #reader: FileReader
  readonly #online: Online | undefined
  readonly #expiry = new Expiry((message) => this.#circumstances.log('warn', message))
  readonly #reloading = new ReloadQueue<LoadedTrust>({
    loading: 'reading client CAs and revocation lists',
    retryAfter: 5_000,
    load: async () => await this.#load(),
    // A file may be complete soon, or a list begin, and no change would tell.
    check: (material) => material,
    take: (material) => this.#take(material),
    failed: (error) => this.#rejected(error),
    recovered: () => this.#circumstances.log('info', `${this.#circumstances.role}: all client CAs and revocation lists are read again`),
    waiting: (message) => this.#circumstances.log('warn', `${this.#circumstances.role}: ${message}`)
  })

  /** Warnings of before it was open, when nothing is logged yet. */
  readonly #early: string[] = []
  #isOpen = false
  #material: LoadedTrust
  #cas: readonly X509Certificate[]
  #stop: (() => void) | undefined

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_INVALID_OPTIONS */
  static async open (options: TrustOptions, circumstances: Circumstances): Promise<ClientTrust> {
    const reader = new FileReader()
    const material = await loadTrust(options, circumstances.role, reader)
    const warn = (message: string): void => trust.#warn(message)
    const directory = options.dir === undefined ? undefined : await openKept(options.dir, circumstances, warn)
    const intermediates = new Intermediates(directory)
    const online = isOnline(options)
      ? new (await import('./online.ts')).Online(options, {
        directory,
        authoritiesNamed: (subject) => trust.store.authoritiesNamed(subject),
        crlsChanged: async () => await trust.#takeOnline(),
        answersChanged: () => trust.store.changed(),
        tell: (level, message) => trust.#tell(level, message),
        warn
      })
      : undefined
    const trust: ClientTrust = new ClientTrust(options, circumstances, { reader, material, online, intermediates })
    await intermediates.restore(trust.#cas)
    await trust.#verifySignatures(trust.#crls)
    await online?.begin()
    trust.#isOpen = true
    return trust
  }

  private constructor (options: TrustOptions, circumstances: Circumstances, { reader, material, online, intermediates }: { reader: FileReader, material: LoadedTrust, online: Online | undefined, intermediates: Intermediates }) {
    this.#options = options
    this.#circumstances = circumstances
    this.#reader = reader
    this.#online = online
    this.#material = material
    this.#cas = certificatesOf(material)
    this.store = new TrustStore(this.#content(), { intermediates, ocsp: online?.responders, fetchFor: online?.fetchFor })
  }

  /** The same list while it is the same. */
  get cas (): readonly X509Certificate[] {
    return this.#cas
  }

  /** What is odd, and what does not answer now. */
  get warnings (): readonly string[] {
    return [...this.#material.warnings, ...[...this.#early, ...this.#online?.problems ?? []].map((message) => `${this.#circumstances.role}: ${message}`)]
  }

  get inForce (): TrustInForce {
    return Object.freeze({
      authorities: Object.freeze(this.#material.cas.map(({ certificate, source }) =>
        Object.freeze({ subject: formatName(subjectOf(certificate)), validUntil: new Date(validityOf(certificate).notAfter), source }))),
      lists: Object.freeze(this.#crls.map(({ crl, source }) =>
        Object.freeze({ issuer: crl.issuerName, entries: crl.size, thisUpdate: new Date(crl.thisUpdate), nextUpdate: crl.nextUpdate === Infinity ? null : new Date(crl.nextUpdate), source }))),
      problems: Object.freeze([...this.#online?.problems ?? []])
    })
  }

  /** Follows the sources from now on; keeps no process alive. */
  watch (): void {
    const paths = [...this.#options.ca, ...this.#options.crl].flatMap((source) => pathOf(source) ?? [])
    this.#reloading.start()
    const stops = [watchFiles(paths, () => this.#reloading.changed()), this.#expiry.watch(() => this.#ending), this.#online?.watch(), () => this.#reloading.stop()]
    this.#stop = () => { for (const stop of stops) stop?.() }
  }

  /** Says what is about to end, or has ended. */
  look (): void {
    this.#expiry.look(this.#ending)
  }

  /**
   * Reads what has changed, now.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES; what was in force stays
   */
  async reload (): Promise<void> {
    await this.#reloading.once()
  }

  close (): void {
    this.#stop?.()
    this.#stop = undefined
  }

  /** All that takes time, and all that may fail. */
  async #load (): Promise<LoadedTrust> {
    const next = await loadTrust(this.#options, this.#circumstances.role, this.#reader, this.#material)
    await this.#verifySignatures(next.crls)
    if (!areSameCas(this.#material.cas, next.cas)) await this.#circumstances.prepare?.(certificatesOf(next))
    return next
  }

  #take (next: LoadedTrust): void {
    const before = this.#material
    const [casChanged, crlsChanged] = [!areSameCas(before.cas, next.cas), fingerprintsOf(before) !== fingerprintsOf(next)]
    if (casChanged || crlsChanged) {
      this.#material = next
      if (casChanged) this.#cas = certificatesOf(next)
      // What does not count any more does not from this moment on, whatever comes next.
      this.store.update(this.#content())
      const wasAdded = next.cas.some(({ certificate }) => !before.cas.some((other) => other.certificate.raw.equals(certificate.raw)))
      if (casChanged) for (const tell of this.onCasChange) tell(wasAdded)
      const what = [...casChanged ? ['client CAs'] : [], ...crlsChanged ? ['revocation lists'] : []].join(' and ')
      this.#circumstances.log('info', `${this.#circumstances.role}: ${what} were read anew and are in force`)
      for (const warning of next.warnings) this.#circumstances.log('warn', warning)
      this.look()
    }
    if (next.rejected !== undefined) throw next.rejected
  }

  /** CRLs were fetched. */
  async #takeOnline (): Promise<void> {
    await this.#verifySignatures(this.#crls)
    this.store.update(this.#content())
    if (this.#isOpen) this.look()
  }

  /** Those that intermediate CAs have signed, too, which clients send along: no request shall wait for it. */
  async #verifySignatures (crls: readonly SourcedCrl[]): Promise<void> {
    await Promise.all(crls.map(async ({ crl }) => await isSignedByAny(crl, this.#likelySigners(crl))))
  }

  /**
   * Whoever has a CA of their own can give any number of others the name of a partner's, and a list takes its length for each
   * key. All that are left out are asked about when a client comes that they matter to.
   */
  #likelySigners (crl: Crl): ParsedCertificate[] {
    const { crls } = this.store.content
    const rank = (facts: ParsedCertificate): number => {
      if (this.#cas.some((ca) => ca.raw.equals(facts.certificate.raw))) return 0
      if (crls.some((before) => before.issuer === crl.issuer && before.isKnownSignedBy(facts) === true)) return 1
      return facts.keyId === undefined ? 3 : 2
    }
    const ranked = this.store.authoritiesNamed(crl.issuer).filter((facts) => crl.namesIssuer(facts)).map((facts) => ({ facts, rank: rank(facts) }))
    return ranked.sort((one, other) => one.rank - other.rank).slice(0, MOST_SIGNERS).map(({ facts }) => facts)
  }

  get #ending (): Ending {
    return { certificates: this.#material.cas, crls: this.#crls }
  }

  get #crls (): readonly SourcedCrl[] {
    return [...this.#material.crls, ...this.#online?.crls ?? []]
  }

  #content () {
    const { unknown, isLegacy } = this.#options
    return { cas: this.#cas, crls: this.#crls.map(({ crl }) => crl), isRevocationChecked: checksRevocation(this.#options), unknown, isLegacy }
  }

  #rejected (error: Error & { code?: string }): void {
    const what = isAllElseInForce(error) ? 'not all revocation lists were changed' : 'client CAs and revocation lists were not changed, and the ones before stay in force'
    this.#circumstances.log('error', `${this.#circumstances.role}: ${what}: ${error.message}`, error.code)
  }

  #warn (message: string): void {
    if (this.#isOpen) this.#tell('warn', message)
    else this.#early.push(message)
  }

  #tell (level: 'info' | 'warn', message: string): void {
    if (this.#isOpen) this.#circumstances.log(level, `${this.#circumstances.role}: ${message}`)
  }
}

function certificatesOf ({ cas }: LoadedTrust): readonly X509Certificate[] {
  return cas.map(({ certificate }) => certificate)
}

async function openKept (dir: string, { role }: Circumstances, warn: (message: string) => void): Promise<CacheDirectory> {
  const { openCacheDirectory } = await import('./cache-directory.ts')
  return await openCacheDirectory(dir, { option: `${role}.dir`, warn })
}

function fingerprintsOf ({ crls }: LoadedTrust): string {
  return crls.map(({ crl }) => crl.fingerprint).sort().join()
}
