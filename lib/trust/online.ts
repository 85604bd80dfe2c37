/** What is asked of the network about revocation. Loaded only where anything is. */
import type { Facts } from '../certificate/path/facts.ts'
import { distributionPointsOf } from '../certificate/crl-scope.ts'
import type { Directory } from './directory.ts'
import { Downloads } from './downloads.ts'
import { Fetcher } from './fetch.ts'
import type { TrustOptions } from './options.ts'
import { Responders } from './responders.ts'
import type { SourcedCrl } from './read.ts'

interface Circumstances {
  readonly directory: Directory | undefined
  /** CRLs have come: awaited, since their signatures have to be verified before they count. */
  readonly crlsChanged: () => Promise<void>
  /** An answer may change what was judged before. */
  readonly answersChanged: () => void
  readonly warn: (message: string) => void
}

export class Online {
  readonly responders: Responders | undefined
  readonly #downloads: Downloads
  readonly #options: TrustOptions

  constructor (options: TrustOptions, { directory, crlsChanged, answersChanged, warn }: Circumstances) {
    const fetcher = new Fetcher({ allow: options.allow })
    this.#options = options
    this.#downloads = new Downloads({ fetcher, directory, changed: crlsChanged, warn })
    this.responders = options.asksResponders ? new Responders({ fetcher, url: options.responder, changed: answersChanged, warn }) : undefined
  }

  get crls (): readonly SourcedCrl[] {
    return this.#downloads.crls
  }

  async begin (): Promise<void> {
    await this.#downloads.begin(this.#options.urls)
  }

  /** Has the CRLs fetched that a certificate names, if that is asked for. A promise where any is on its way. */
  fetchFor (certificate: Facts, anchor: Facts, now: number): Promise<unknown> | undefined {
    if (!this.#options.followsDistributionPoints) return undefined
    return this.#downloads.want(distributionPointsOf(certificate).flatMap(({ urls }) => urls), anchor.certificate.fingerprint256, now)
  }

  /** Answers what stops it. */
  watch (): () => void {
    const stops = [this.#downloads.watch(), this.responders?.watch()]
    return () => { for (const stop of stops) stop?.() }
  }
}
