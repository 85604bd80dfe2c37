/**
 * The client CAs of each host, by the host name of SNI. Begin with `ClientCas.open`. Each set of client CAs with its
 * CRLs is a `ClientTrust` (trust/client-trust.ts), and its `TrustStore` judges client certificates.
 */
import type { X509Certificate } from 'node:crypto'
import { ClientTrust, type Tell, type TrustInForce } from '../trust/client-trust.ts'
import { resolveTrustOptions, type TrustOptions } from '../trust/options.ts'
import { TrustStore } from '../trust/store.ts'
import type { DevelopmentCertificates } from './development/certificates.ts'
import { NameMap } from './host-names.ts'
import type { TlsOptions } from './options.ts'

/** Client CAs by host name as in the options. The empty string is for all other hosts. */
export type CasByHost = ReadonlyMap<string, readonly X509Certificate[]>

interface Callbacks {
  readonly log: Tell
  /** Called before new client CAs are in force. Rejects if no handshake succeeds with them. */
  readonly prepare: (host: string, cas: readonly X509Certificate[]) => Promise<void>
}

/** For hosts without client CAs: trusts no client certificate. */
const NO_CLIENTS = new TrustStore({ cas: [], crls: [], isRevocationChecked: false, unknown: 'refuse' })

/** The client CAs of all hosts, kept up to date. */
export class ClientCas {
  /** Called after any change. */
  onChange: (() => void) | undefined
  /** Called after the client CAs have changed; `wasAdded` says whether there is a new one. */
  onCasChange: ((wasAdded: boolean) => void) | undefined
  readonly #trustByHost: ReadonlyMap<string, ClientTrust>
  readonly #hostGroups = new NameMap<string>()

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES */
  static async open ({ otherwise, byHost }: TlsOptions['clientCertificates'], development: DevelopmentCertificates | undefined, { log, prepare }: Callbacks): Promise<ClientCas> {
    // With client CAs by host name, hosts that are not listed trust no client.
    const fallback = development !== undefined && byHost.size === 0 ? resolveTrustOptions({ ca: development.files.ca }, 'clientCertificates') : undefined
    const options = new Map<string, TrustOptions>(byHost)
    const otherHosts = otherwise ?? fallback
    if (otherHosts !== undefined) options.set('', otherHosts)
    const trustByHost = new Map<string, ClientTrust>()
    for (const [host, each] of options) {
      const role = host === '' ? 'clientCertificates' : `clientCertificates['${host}']`
      trustByHost.set(host, await ClientTrust.open(each, { role, log, prepare: async (cas) => await prepare(host, cas) }))
    }
    return new ClientCas(trustByHost)
  }

  private constructor (trustByHost: ReadonlyMap<string, ClientTrust>) {
    this.#trustByHost = trustByHost
    for (const [host, trust] of trustByHost) {
      if (host !== '') this.#hostGroups.add(host, host)
      trust.store.onChange.add(() => this.onChange?.())
      trust.onCasChange.add((wasAdded) => this.onCasChange?.(wasAdded))
    }
  }

  get asksForCertificates (): boolean {
    return this.#trustByHost.size > 0
  }

  get differsByHost (): boolean {
    return [...this.#trustByHost.keys()].some((host) => host !== '')
  }

  /** What is in force, by host name as in the options. The empty string is for all other hosts. */
  get inForce (): ReadonlyArray<TrustInForce & { readonly host: string }> {
    return [...this.#trustByHost].map(([host, trust]) => Object.freeze({ host, ...trust.inForce }))
  }

  /** Hosts with client CAs of their own. */
  get hosts (): readonly string[] {
    return [...this.#trustByHost.keys()].filter((host) => host !== '')
  }

  /** The labels of client CAs of any host. */
  get labels (): ReadonlySet<string> {
    return new Set(this.#all.flatMap(({ labels }) => [...labels]))
  }

  get warnings (): readonly string[] {
    return this.#all.flatMap(({ warnings }) => warnings)
  }

  cas (): CasByHost {
    return new Map([...this.#trustByHost].map(([host, { cas }]) => [host, cas]))
  }

  /** The host group of a host: the entry of the options that applies to it, or the empty string if none does. */
  groupOf (host: string): string {
    return this.#hostGroups.get(host) ?? ''
  }

  storeOf (group: string): TrustStore {
    return this.#trustByHost.get(group)?.store ?? NO_CLIENTS
  }

  get stores (): readonly TrustStore[] {
    return this.#all.map(({ store }) => store)
  }

  /**
   * Starts to watch the files.
   *
   * @returns a function that stops it
   */
  watch (): () => void {
    for (const trust of this.#all) trust.watch()
    return () => { for (const trust of this.#all) trust.close() }
  }

  /** Warns of certificates and CRLs that will end soon, or have ended. */
  look (): void {
    for (const trust of this.#all) trust.look()
  }

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES; everything that could be read is in force then */
  async reload (): Promise<void> {
    const results = await Promise.allSettled(this.#all.map(async (trust) => await trust.reload()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  get #all (): readonly ClientTrust[] {
    return [...this.#trustByHost.values()]
  }
}
