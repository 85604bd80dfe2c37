/** Revocation over the network: CRL downloads and OCSP responders, wired together. Loaded only where the options need it. */
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import { distributionPointsOf } from '../x509/crl.ts'
import type { CacheDirectory } from './cache-directory.ts'
import { CrlDownloads } from './crl-downloads.ts'
import { Fetcher } from './fetch.ts'
import { destinationOf, type TrustOptions } from './options.ts'
import { FetchProblems } from './fetch-problems.ts'
import type { SourcedCrl } from './load.ts'
import { OcspResponders } from './ocsp-responders.ts'
import type { RevocationOptions } from './revocation.ts'

interface Circumstances {
  readonly directory: CacheDirectory | undefined
  /** CA certificates that may have signed a CRL, by their canonical name. */
  readonly authoritiesNamed: (subject: string) => readonly ParsedCertificate[]
  /** Called after CRLs were fetched, and awaited, because their signatures have to be verified before they count. */
  readonly crlsChanged: () => Promise<void>
  /** Called when an OCSP status is different from the one that verdicts were based on. */
  readonly answersChanged: () => void
  /** Silent while the app boots: see {@link Online.problems}. */
  readonly tell: (level: 'info' | 'warn', message: string) => void
  readonly warn: (message: string) => void
}

export class Online {
  readonly responders: OcspResponders | undefined
  /** Fetches the CRLs that a certificate names; undefined where the options do not ask for that. */
  readonly fetchFor: RevocationOptions['fetchFor']
  readonly #urls: readonly string[]
  readonly #downloads: CrlDownloads
  readonly #problems: readonly FetchProblems[]
  #controller = new AbortController()

  constructor ({ urls, responder: url, allow, asksResponders, followsDistributionPoints }: TrustOptions, { directory, authoritiesNamed, crlsChanged, answersChanged, tell, warn }: Circumstances) {
    // URLs that an administrator configures are always allowed, but that does not allow them for certificates.
    const fetchers = { named: new Fetcher({ allow: [urls, url ?? []].flat().map(destinationOf) }), found: new Fetcher({ allow }) }
    const signal = (): AbortSignal => this.#controller.signal
    const problems = { crl: new FetchProblems('crl', tell), ocsp: new FetchProblems('OCSP', tell) }
    this.#urls = urls
    this.#problems = [problems.crl, problems.ocsp]
    this.#downloads = new CrlDownloads({ fetchers, directory, authoritiesNamed, changed: crlsChanged, problems: problems.crl, warn, signal })
    this.responders = asksResponders ? new OcspResponders({ directory, fetcher: url === undefined ? fetchers.found : fetchers.named, url, changed: answersChanged, problems: problems.ocsp, signal }) : undefined
    this.fetchFor = followsDistributionPoints
      ? (certificate, issuer, owner, now) => this.#downloads.want(distributionPointsOf(certificate).flatMap(({ urls }) => urls), issuer, owner, now)
      : undefined
  }

  get crls (): readonly SourcedCrl[] {
    return this.#downloads.crls
  }

  /** Servers that do not answer, or not as they should. */
  get problems (): readonly string[] {
    return this.#problems.flatMap(({ current }) => current)
  }

  async begin (): Promise<void> {
    await this.#downloads.begin(this.#urls)
  }

  /** Keeps everything up to date. Returns a function that stops this, and aborts all requests. */
  watch (): () => void {
    const stops = [this.#downloads.watch(), this.responders?.watch()]
    return () => {
      for (const stop of stops) stop?.()
      this.#controller.abort()
      this.#controller = new AbortController()
    }
  }
}
