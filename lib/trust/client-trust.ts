/**
 * The configured client CAs and CRLs of a TLS server's host or of a proxy, kept up to date with their files and URLs. Begin
 * with `ClientTrust.open`: it loads them (load.ts) into a `TrustStore` (store.ts), which validates client certificates.
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
import { Intermediates } from './intermediates.ts'
import type { Online } from './online.ts'
import { type TrustOptions, checksRevocation, isOnline } from './options.ts'
import { areSameCas, isAllElseInForce, isSignedByAny, type LoadedTrust, loadTrust, type SourcedCrl } from './load.ts'
import { TrustStore } from './store.ts'
import { warningsOf } from './warnings.ts'

/** CAs by whose keys the signature of a CRL is verified in advance. */
const MOST_SIGNERS = 8

/** Writes to the log. */
export type Tell = (level: 'info' | 'warn' | 'error', message: string, code?: string) => void

/** The CAs and CRLs in force now, by which client certificates are judged. */
export interface TrustInForce {
  /**
   * Client CAs: subject as text (RFC 4514); the end of validity, notAfter (RFC 5280 §4.1.2.5); SHA-256 in 64 lower-case hex
   * digits; the file that each is from; and its label, if it has one.
   */
  readonly authorities: ReadonlyArray<{ readonly subject: string, readonly validUntil: Date, readonly fingerprint256: string, readonly source: string, readonly label?: string }>
  /**
   * CRLs, also expired ones, which still revoke; `nextUpdate`, their end (RFC 5280 §5.1.2.5), is null where a CRL has none.
   * URLs are without query.
   */
  readonly lists: ReadonlyArray<{ readonly issuer: string, readonly entries: number, readonly thisUpdate: Date, readonly nextUpdate: Date | null, readonly source: string }>
  /** Servers of CRLs and OCSP responders that do not answer, or not as they should. */
  readonly problems: readonly string[]
}

interface Circumstances {
  /** The option, for messages: `clientCertificates`, `proxy`. */
  readonly role: string
  readonly log: Tell
  /** Rejects where a server could not use these CAs. */
  readonly prepare?: (cas: readonly X509Certificate[]) => Promise<void>
}

export class ClientTrust {
  readonly store: TrustStore
  /** Called after the CAs have changed, with whether any was added: TLS servers send their names in handshakes. */
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
    // Also without a change of files: an incomplete file may become complete, and a CRL may become valid.
    check: (loaded) => loaded,
    take: (loaded) => this.#take(loaded),
    failed: (error) => this.#rejected(error),
    recovered: () => this.#circumstances.log('info', `${this.#circumstances.role}: all client CAs and revocation lists are read again`),
    waiting: (message) => this.#circumstances.log('warn', `${this.#circumstances.role}: ${message}`)
  })

  /** Warnings from before `open` has finished, when nothing is logged yet. */
  readonly #early: string[] = []
  #isOpen = false
  #loaded: LoadedTrust
  #cas: readonly X509Certificate[]
  #stop: (() => void) | undefined

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_INVALID_OPTIONS */
  static async open (options: TrustOptions, circumstances: Circumstances): Promise<ClientTrust> {
    const reader = new FileReader()
    const loaded = await loadTrust(options, circumstances.role, reader)
    const warn = (message: string): void => trust.#warn(message)
    const directory = options.dir === undefined
      ? undefined
      : await (await import('./cache-directory.ts')).openCacheDirectory(options.dir, { option: `${circumstances.role}.dir`, warn })
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
    const trust: ClientTrust = new ClientTrust(options, circumstances, { reader, loaded, online, intermediates })
    await intermediates.restore(trust.#cas)
    await trust.#verifySignatures(trust.#crls)
    await online?.begin()
    trust.#isOpen = true
    return trust
  }

  private constructor (options: TrustOptions, circumstances: Circumstances, { reader, loaded, online, intermediates }: { reader: FileReader, loaded: LoadedTrust, online: Online | undefined, intermediates: Intermediates }) {
    this.#options = options
    this.#circumstances = circumstances
    this.#reader = reader
    this.#online = online
    this.#loaded = loaded
    this.#cas = certificatesOf(loaded)
    this.store = new TrustStore(this.#content(), { intermediates, ocsp: online?.responders, fetchFor: online?.fetchFor })
  }

  /** The same array as long as the CAs are the same. */
  get cas (): readonly X509Certificate[] {
    return this.#cas
  }

  /** The labels in the options: the same as long as the app runs. */
  get labels (): ReadonlySet<string> {
    return this.store.labels
  }

  /** Problems of what was loaded, and servers that do not answer now. */
  get warnings (): readonly string[] {
    return [...warningsOf(this.#loaded, this.#options), ...[...this.#early, ...this.#online?.problems ?? []].map((message) => `${this.#circumstances.role}: ${message}`)]
  }

  get inForce (): TrustInForce {
    return Object.freeze({
      authorities: Object.freeze(this.#loaded.cas.map(({ certificate, source, label }) =>
        Object.freeze({ subject: formatName(subjectOf(certificate)), validUntil: new Date(validityOf(certificate).notAfter), fingerprint256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(), source, ...label !== undefined && { label } }))),
      lists: Object.freeze(this.#crls.map(({ crl, source }) =>
        Object.freeze({ issuer: crl.issuerName, entries: crl.size, thisUpdate: new Date(crl.thisUpdate), nextUpdate: crl.nextUpdate === Infinity ? null : new Date(crl.nextUpdate), source }))),
      problems: Object.freeze([...this.#online?.problems ?? []])
    })
  }

  /** Follows the files and URLs from now on. Does not keep the process alive. */
  watch (): void {
    const paths = [...this.#options.ca.map(({ source }) => source), ...this.#options.crl].flatMap((source) => pathOf(source) ?? [])
    this.#reloading.start()
    const stops = [watchFiles(paths, () => this.#reloading.changed()), this.#expiry.watch(() => this.#ending), this.#online?.watch(), () => this.#reloading.stop()]
    this.#stop = () => { for (const stop of stops) stop?.() }
  }

  /** Logs what will expire soon, or has expired. */
  look (): void {
    this.#expiry.look(this.#ending)
  }

  /**
   * Reloads what has changed, now.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, and what was in force stays in force
   */
  async reload (): Promise<void> {
    await this.#reloading.once()
  }

  close (): void {
    this.#stop?.()
    this.#stop = undefined
  }

  /** Everything that takes time, and everything that may fail. */
  async #load (): Promise<LoadedTrust> {
    const next = await loadTrust(this.#options, this.#circumstances.role, this.#reader, this.#loaded)
    await this.#verifySignatures(next.crls)
    if (!areSameCas(this.#loaded.cas, next.cas)) await this.#circumstances.prepare?.(certificatesOf(next))
    return next
  }

  #take (next: LoadedTrust): void {
    const before = this.#loaded
    const [casChanged, crlsChanged] = [!areSameCas(before.cas, next.cas), fingerprintsOf(before) !== fingerprintsOf(next)]
    // Also where a CA changes its label and nothing else: handshakes are the same then.
    const labelsChanged = before.labels !== next.labels
    if (casChanged || labelsChanged || crlsChanged) {
      this.#loaded = next
      if (casChanged) this.#cas = certificatesOf(next)
      // First of all: what is no longer trusted must not count from now on, even if a later step fails.
      this.store.update(this.#content())
      const wasAdded = next.cas.some(({ certificate }) => !before.cas.some((other) => other.certificate.raw.equals(certificate.raw)))
      if (casChanged) for (const tell of this.onCasChange) tell(wasAdded)
      const what = [...casChanged ? ['client CAs'] : labelsChanged ? ['labels of client CAs'] : [], ...crlsChanged ? ['revocation lists'] : []].join(' and ')
      this.#circumstances.log('info', `${this.#circumstances.role}: ${what} were read anew and are in force`)
      // What still is as it was is not said again. What has just happened to a CRL is, however often.
      const known = new Set(warningsOf({ ...before, warnings: [] }, this.#options))
      for (const warning of warningsOf(next, this.#options)) if (!known.has(warning)) this.#circumstances.log('warn', warning)
      this.look()
    }
    if (next.rejected !== undefined) throw next.rejected
  }

  /** Takes over CRLs that were fetched. */
  async #takeOnline (): Promise<void> {
    await this.#verifySignatures(this.#crls)
    this.store.update(this.#content())
    if (this.#isOpen) this.look()
  }

  /** In advance, also for CRLs that intermediate CAs have signed, which clients send: no request should wait for this. */
  async #verifySignatures (crls: readonly SourcedCrl[]): Promise<void> {
    await Promise.all(crls.map(async ({ crl }) => await isSignedByAny(crl, this.#likelySigners(crl))))
  }

  /**
   * Limited, because an attacker with a CA can give any number of CA certificates a partner's name, and each key costs time
   * in proportion to the CRL's size. CAs that are left out are tried when a client needs them.
   */
  #likelySigners (crl: Crl): ParsedCertificate[] {
    const { crls } = this.store.content
    const rank = (parsed: ParsedCertificate): number => {
      if (this.#cas.some((ca) => ca.raw.equals(parsed.certificate.raw))) return 0
      if (crls.some((before) => before.issuer === crl.issuer && before.isKnownSignedBy(parsed) === true)) return 1
      return parsed.keyId === undefined ? 3 : 2
    }
    const ranked = this.store.authoritiesNamed(crl.issuer).filter((parsed) => crl.namesIssuer(parsed)).map((parsed) => ({ parsed, rank: rank(parsed) }))
    return ranked.sort((one, other) => one.rank - other.rank).slice(0, MOST_SIGNERS).map(({ parsed }) => parsed)
  }

  get #ending (): Ending {
    return { certificates: this.#loaded.cas, crls: this.#crls }
  }

  get #crls (): readonly SourcedCrl[] {
    return [...this.#loaded.crls, ...this.#online?.crls ?? []]
  }

  #content () {
    const { unknown, isLegacy } = this.#options
    return { cas: this.#cas, labels: this.#loaded.labels, crls: this.#crls.map(({ crl }) => crl), isRevocationChecked: checksRevocation(this.#options), unknown, isLegacy }
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

function fingerprintsOf ({ crls }: LoadedTrust): string {
  return crls.map(({ crl }) => crl.fingerprint).sort().join()
}
