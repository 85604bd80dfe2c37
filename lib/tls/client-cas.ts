/** Who issues client certificates, by the host that clients ask for. */
import type { X509Certificate } from 'node:crypto'
import { ClientTrust, type Tell, type TrustInForce } from '../trust/client-trust.ts'
import { resolveTrustOptions, type TrustOptions } from '../trust/options.ts'
import { TrustStore } from '../trust/store.ts'
import type { DevelopmentCertificates } from './development/certificates.ts'
import { NameMap } from './host-names.ts'
import type { TlsOptions } from './options.ts'

/** CAs by host, by its name in the options; those for all other hosts under the empty string. */
export type CasByHost = ReadonlyMap<string, readonly X509Certificate[]>

interface Circumstances {
  readonly log: Tell
  /** Rejects where CAs cannot be told to clients. */
  readonly prepare: (host: string, cas: readonly X509Certificate[]) => Promise<void>
}

/** Of hosts without client CAs. */
const NO_CLIENTS = new TrustStore({ cas: [], crls: [], isRevocationChecked: false, unknown: 'refuse' })

export class ClientCas {
  /** Called after any change. */
  onChange: (() => void) | undefined
  /** Called after CAs have changed, with whether any was added. */
  onCasChange: ((wasAdded: boolean) => void) | undefined
  readonly #trusts: ReadonlyMap<string, ClientTrust>
  readonly #groups = new NameMap<string>()

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES */
  static async open ({ otherwise, byHost }: TlsOptions['clientCertificates'], development: DevelopmentCertificates | undefined, { log, prepare }: Circumstances): Promise<ClientCas> {
    // Of hosts by name, those that are not named trust no client.
    const fallback = development !== undefined && byHost.size === 0 ? resolveTrustOptions({ ca: development.files.ca }, 'clientCertificates') : undefined
    const options = new Map<string, TrustOptions>(byHost)
    const ofOthers = otherwise ?? fallback
    if (ofOthers !== undefined) options.set('', ofOthers)
    const trusts = new Map<string, ClientTrust>()
    for (const [host, each] of options) {
      const role = host === '' ? 'clientCertificates' : `clientCertificates['${host}']`
      trusts.set(host, await ClientTrust.open(each, { role, log, prepare: async (cas) => await prepare(host, cas) }))
    }
    return new ClientCas(trusts)
  }

  private constructor (trusts: ReadonlyMap<string, ClientTrust>) {
    this.#trusts = trusts
    for (const [host, trust] of trusts) {
      if (host !== '') this.#groups.add(host, host)
      trust.store.onChange.add(() => this.onChange?.())
      trust.onCasChange.add((wasAdded) => this.onCasChange?.(wasAdded))
    }
  }

  get asksForCertificates (): boolean {
    return this.#trusts.size > 0
  }

  get differsByHost (): boolean {
    return [...this.#trusts.keys()].some((host) => host !== '')
  }

  /** By host, as in the options; the empty string for the others. */
  get inForce (): ReadonlyArray<TrustInForce & { readonly host: string }> {
    return [...this.#trusts].map(([host, trust]) => Object.freeze({ host, ...trust.inForce }))
  }

  /** Hosts with client CAs of their own. */
  get hosts (): readonly string[] {
    return [...this.#trusts.keys()].filter((host) => host !== '')
  }

  get warnings (): readonly string[] {
    return this.#all.flatMap(({ warnings }) => warnings)
  }

  cas (): CasByHost {
    return new Map([...this.#trusts].map(([host, { cas }]) => [host, cas]))
  }

  /** Which of the hosts with client CAs of their own a host is, by its name in the options; the empty string for others. */
  groupOf (host: string): string {
    return this.#groups.get(host) ?? ''
  }

  storeOf (group: string): TrustStore {
    return this.#trusts.get(group)?.store ?? NO_CLIENTS
  }

  get stores (): readonly TrustStore[] {
    return this.#all.map(({ store }) => store)
  }

  /** Follows the files from now on. Answers what stops it. */
  watch (): () => void {
    for (const trust of this.#all) trust.watch()
    return () => { for (const trust of this.#all) trust.close() }
  }

  /** Says what is about to end, or has ended. */
  look (): void {
    for (const trust of this.#all) trust.look()
  }

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES; all that can be is in force then */
  async reload (): Promise<void> {
    const results = await Promise.allSettled(this.#all.map(async (trust) => await trust.reload()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  get #all (): readonly ClientTrust[] {
    return [...this.#trusts.values()]
  }
}
