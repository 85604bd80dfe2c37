/**
 * Client CAs and CRLs as they were configured, kept up to date with where they come from: for the hosts of a TLS server,
 * and for what a proxy forwards.
 */
import type { X509Certificate } from 'node:crypto'
import { Reloading } from '../files/reloading.ts'
import { watchFiles } from '../files/watch.ts'
import { type Ending, Expiry } from '../material/expiry.ts'
import { type Located, SourceReader, pathOf } from '../material/source.ts'
import { type ClientCertificatesOptions, type TrustMaterial, isAllElseInForce, isSame, readTrust } from './read.ts'
import { TrustStore } from './store.ts'

export type Level = 'info' | 'warn' | 'error'

interface Circumstances {
  /** What to call it in messages: `clientCertificates`, `proxy`. */
  readonly role: string
  readonly log: (level: Level, object: object, message: string) => void
  /** Rejects where other CAs could not be in force. */
  readonly prepare?: (cas: readonly X509Certificate[]) => Promise<void>
}

export class ClientTrust {
  readonly store: TrustStore
  /** Called after the CAs have changed, which clients are told of in handshakes, with whether any was added. */
  readonly onCasChange = new Set<(wasAdded: boolean) => void>()
  readonly #options: ClientCertificatesOptions<Located>
  readonly #circumstances: Circumstances
  readonly #reader: SourceReader
  readonly #expiry = new Expiry((message) => this.#log('warn', message))
  readonly #reloading = new Reloading(async () => await this.#load(), (error) => this.#rejected(error))
  #material: TrustMaterial
  #stop: (() => void) | undefined

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES */
  static async open (options: ClientCertificatesOptions<Located>, circumstances: Circumstances): Promise<ClientTrust> {
    const reader = new SourceReader()
    return new ClientTrust(options, circumstances, reader, await readTrust(options, circumstances.role, reader))
  }

  private constructor (options: ClientCertificatesOptions<Located>, circumstances: Circumstances, reader: SourceReader, material: TrustMaterial) {
    this.#options = options
    this.#circumstances = circumstances
    this.#reader = reader
    this.#material = material
    this.store = new TrustStore(this.#contentOf(material))
  }

  get cas (): readonly X509Certificate[] {
    return this.#material.cas.map(({ certificate }) => certificate)
  }

  get warnings (): readonly string[] {
    return this.#material.warnings
  }

  /** Follows the sources from now on; keeps no process alive. */
  watch (): void {
    if (this.#stop !== undefined) return
    const paths = [this.#options.ca, this.#options.crl ?? []].flat().flatMap((source) => pathOf(source as Located) ?? [])
    const stops = [watchFiles(paths, () => this.#reloading.keep()), this.#expiry.watch(() => endingIn(this.#material)), () => this.#reloading.stop()]
    this.#stop = () => { for (const stop of stops) stop() }
  }

  /** Says what is about to end, or has ended. */
  look (): void {
    this.#expiry.look(endingIn(this.#material))
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

  async #load (): Promise<void> {
    const before = this.#material
    const next = await readTrust(this.#options, this.#circumstances.role, this.#reader, before)
    const [casChanged, crlsChanged] = [!isSame(before.cas, next.cas), fingerprintsOf(before) !== fingerprintsOf(next)]
    if (casChanged || crlsChanged) {
      await this.#verifySignatures(next)
      if (casChanged) await this.#circumstances.prepare?.(next.cas.map(({ certificate }) => certificate))
      this.#material = next
      // What does not count any more does not from this moment on, whatever comes next.
      this.store.update(this.#contentOf(next))
      const wasAdded = next.cas.some(({ certificate }) => !before.cas.some((other) => other.certificate.raw.equals(certificate.raw)))
      if (casChanged) for (const tell of this.onCasChange) tell(wasAdded)
      const what = [...casChanged ? ['client CAs'] : [], ...crlsChanged ? ['revocation lists'] : []].join(' and ')
      this.#log('info', `${what} were read anew and are in force`)
      for (const warning of next.warnings) this.#log('warn', warning)
      this.look()
    }
    if (next.rejected !== undefined) throw next.rejected
  }

  /** Those that intermediate CAs have signed, which clients send along: no request shall wait for it. */
  async #verifySignatures ({ crls }: TrustMaterial): Promise<void> {
    await Promise.all(crls.flatMap(({ crl }) => this.store.authoritiesNamed(crl.issuer).map(async (facts) => await crl.isSignedBy(facts))))
  }

  #contentOf ({ cas, crls }: TrustMaterial) {
    const { crl, unknown = 'refuse', legacy: isLegacy = false } = this.#options
    return { cas: cas.map(({ certificate }) => certificate), crls: crls.map(({ crl }) => crl), isRevocationChecked: crl !== undefined, unknown, isLegacy }
  }

  #rejected (error: Error & { code?: string }): void {
    const what = isAllElseInForce(error) ? 'not all revocation lists were changed' : 'client CAs and revocation lists were not changed, and those before stay in force'
    this.#circumstances.log('error', { code: error.code }, `http-security: ${this.#circumstances.role}: ${what}: ${error.message}`)
  }

  #log (level: Level, message: string): void {
    this.#circumstances.log(level, {}, `http-security: ${message}`)
  }
}

function fingerprintsOf ({ crls }: TrustMaterial): string {
  return crls.map(({ crl }) => crl.fingerprint).sort().join()
}

function endingIn ({ cas, crls }: TrustMaterial): Ending {
  return { certificates: cas, crls }
}
