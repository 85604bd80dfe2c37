/**
 * SecureContexts are made here: one for each combination of a server certificate and client CAs that a host needs.
 * Begin with `Contexts.create`. `options()` is for clients without SNI, `offersFor()` for clients with SNI.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import { isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import { derOf, readOr } from '../x509/der.ts'
import { fieldsOf } from '../x509/fields.ts'
import { InvalidCertificatesError } from '../errors.ts'
import { pemOf } from '../files/pem.ts'
import { nearest } from '../options/validation-errors.ts'
import { Slices } from '../slices.ts'
import type { Certificates, KeyPair } from './credentials.ts'
import { NameMap } from './host-names.ts'
import { type KeyPairs, type Offer, ownKeyPairs, preferencesOf } from './key-kinds.ts'
import type { CasByHost } from './client-cas.ts'

interface ContextsInput {
  readonly certificates: Certificates
  readonly cas: CasByHost
  /** The option `https` of `enableTls`. */
  readonly extra: ServerOptions
}

/** A certificate and client CAs that are served together. */
export interface Combination {
  /** Equal for equal certificates and client CAs. */
  readonly id: string
  /** Equal for equal kinds of keys and equal options. */
  readonly kind: string
  readonly keyPair: KeyPair
  /** All that are offered with it, itself included. */
  readonly keyPairs: KeyPairs
  readonly cas: readonly X509Certificate[]
  /** The option that the client CAs come from, for messages; undefined if there are none. */
  readonly role: string | undefined
  /** The SecureContexts for SNI. Undefined: that of the server itself, for clients without SNI. */
  readonly offers: (() => readonly [Offer, ...Offer[]]) | undefined
}

/**
 * Octets. The CertificateRequest message lists the names of the client CAs. Each name has a length of two octets before
 * it.
 */
const MOST_CA_NAMES = 65_535

/** How many host names a message lists: a certificate may have hundreds. */
const MOST_NAMES = 3

/** For hosts without client CAs. An explicit empty list: without one, Node trusts the public roots. */
const NO_CAS: readonly X509Certificate[] = Object.freeze([])

/**
 * SecureContexts by the key of their combination. Making one takes two milliseconds, and most of them stay the same in
 * a reload.
 */
type ContextCache = Map<string, SecureContext>

const EMPTY_CACHE: ContextCache = new Map()

/** All SecureContexts for one state of certificates and client CAs. After a reload, there is another object. */
export class Contexts {
  readonly #input: ContextsInput
  /** The order of signature algorithms and cipher suites, for the server's own context: Node takes it from there. */
  readonly #preferences: ServerOptions
  /** By host, one for each kind of key. */
  readonly #keyPairs = new NameMap<KeyPair[]>()
  /** For clients that name no host, or an unknown one. */
  readonly #first: KeyPairs
  /** Those of them that the server's own context has. */
  readonly #own: KeyPairs
  readonly #hostGroups = new NameMap<string>()
  /** Warnings: names of a certificate that are served with another certificate. */
  readonly #nameWarnings: readonly string[]
  readonly #cache: ContextCache = new Map()
  readonly #previousCache: ContextCache

  /**
   * Makes all SecureContexts, of which those that have not changed are taken over.
   *
   * @param before those in force
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES OpenSSL does not accept the credentials or client CAs, or a
   * certificate would never be served
   */
  static async create (input: ContextsInput, before?: Contexts): Promise<Contexts> {
    const contexts = new Contexts(input, before === undefined ? EMPTY_CACHE : before.#cache)
    for (const [host, each] of input.cas) requireCaNamesFit(roleOf(host), each)
    const slices = new Slices()
    for (const { keyPair, cas, role } of contexts.combinations) {
      await slices.rest()
      contexts.#make(keyPair, cas, role)
    }
    return contexts
  }

  private constructor (input: ContextsInput, previousCache: ContextCache) {
    const { certificates: { keyPairs }, cas, extra } = input
    this.#input = input
    this.#previousCache = previousCache
    for (const host of cas.keys()) if (host !== '') this.#hostGroups.add(host, host)
    const hosts = new Set(keyPairs.flatMap((keyPair) => this.#add(keyPair)))
    this.#first = this.#firstOf(keyPairs)
    this.#nameWarnings = keyPairs.flatMap((keyPair) => this.#warningsOf(keyPair))
    const all = [this.#first, ...hosts]
    this.#own = ownKeyPairs(this.#first, all)
    this.#preferences = preferencesOf(this.#own, all, extra)
  }

  /**
   * The same certificates with other client CAs. SecureContexts that exist already are taken over, all others are
   * dropped.
   *
   * @param prepared SecureContexts that were made in advance with these client CAs
   */
  with (cas: CasByHost, prepared?: Contexts): Contexts {
    const contexts = new Contexts({ ...this.#input, cas }, EMPTY_CACHE)
    const known = new Map([...this.#previousCache, ...this.#cache, ...prepared === undefined ? EMPTY_CACHE : prepared.#cache])
    for (const { keyPair, cas } of contexts.combinations) {
      const key = contexts.#keyOf(keyPair, cas)
      if (known.has(key)) contexts.#cache.set(key, known.get(key)!)
    }
    return contexts
  }

  /** Unusual, but possibly intended: for the log. By what is said once, however often certificates come and go. */
  get warnings (): ReadonlyMap<string, string> {
    const { certificates: { development, keyPairs }, cas } = this.#input
    const uncovered = [...cas.keys()].filter((host) => host !== '' && !this.covers(host) && !keyPairs.some(({ hosts }) => hosts.includes(host)))
    const nameless = keyPairs.filter(({ hosts }) => hosts.length === 0).map(({ source }) => `${source}: names no host, so that no client takes it for one`)
    const others = [
      ...this.#nameWarnings,
      ...uncovered.map((host) => {
        const meant = nearest(host, keyPairs.flatMap(({ hosts }) => hosts).filter((other) => !cas.has(other)))
        return `clientCertificates: no certificate is good for ${host}${meant === undefined ? '' : `. Did you mean '${meant}'?`}`
      })
    ]
    // For development certificates, this is said once, when they are created.
    const openEnds = development === undefined ? openEndsOf(keyPairs) : []
    const byText = (warnings: readonly string[]) => warnings.map((warning) => [warning, warning] as const)
    return new Map([...byText(nameless), ...openEnds, ...byText(others)])
  }

  /**
   * Options for `https.createServer` and `setSecureContext`. Always all of them: `setSecureContext` resets those that
   * are missing.
   */
  options (): ServerOptions {
    return { ...this.#input.extra, ...this.#preferences, ...certificateOf(...this.#own), ca: pemsOf(this.#input.cas.get('') ?? NO_CAS) }
  }

  /**
   * The SecureContexts for a client with SNI, one for each kind of key. Node takes the certificate and the client CAs from
   * them; their other options decide what is strong enough.
   */
  offersFor (servername: string): readonly [Offer, ...Offer[]] {
    const { keyPairs, cas } = this.#selectFor(servername)
    return this.#offersOf(keyPairs, cas)
  }

  /** Whether a client with this SNI name gets the same as a client without SNI. */
  isDefault (servername: string): boolean {
    const { keyPairs, cas } = this.#selectFor(servername)
    return cas === (this.#input.cas.get('') ?? NO_CAS) && keyPairs.length === this.#own.length && keyPairs.every((keyPair) => this.#own.includes(keyPair))
  }

  /** Whether clients of a host group are asked for a certificate: it has client CAs. */
  asksIn (hostGroup: string): boolean {
    return (this.#input.cas.get(hostGroup) ?? NO_CAS).length > 0
  }

  /** Whether one of the certificates covers a host. */
  covers (host: string): boolean {
    return this.#keyPairs.get(host) !== undefined
  }

  /** Which hosts of the certificates were not covered before, and which ones are not covered any more. */
  hostsSince (before: Contexts): { readonly added: readonly string[], readonly gone: readonly string[] } {
    const missing = (from: Contexts, of: Contexts): string[] => [...new Set(of.#input.certificates.keyPairs.flatMap(({ hosts }) => hosts))].filter((host) => from.#keyPairs.own(host) === undefined && !from.covers(host))
    return { added: missing(before, this), gone: missing(this, before) }
  }

  /** Every combination that is served, each one once, for any number of hosts. */
  get combinations (): readonly Combination[] {
    const { certificates: { keyPairs: all }, cas: byHost } = this.#input
    const combinations = new Map<string, Combination>()
    const add = (keyPairs: KeyPairs, cas: readonly X509Certificate[], group: string, offers: Combination['offers']): void => {
      const kind = [...keyPairs.map(({ keyKind }) => keyKind), this.#preferences.sigalgs, this.#preferences.ciphers].join(' ')
      const role = cas.length === 0 ? undefined : roleOf(group)
      for (const keyPair of keyPairs) {
        const id = [this.#keyOf(keyPair, cas), ...keyPairs.length > 1 ? keyPairs.map(({ fingerprint }) => fingerprint) : []].join(' ')
        if (!combinations.has(id)) combinations.set(id, { id, kind, keyPair, keyPairs, cas, role, offers })
      }
    }
    const others = byHost.get('') ?? NO_CAS
    add(this.#own, others, '', undefined)
    if (this.#own.length < this.#first.length) add(this.#first, others, '', () => this.#offersOf(this.#first, others))
    for (const host of [...all.flatMap(({ hosts }) => hosts.filter((host) => isIP(host) === 0)), ...byHost.keys()]) {
      if (host === '') continue
      const { keyPairs, cas, group } = this.#selectFor(host)
      add(keyPairs, cas, group, () => this.#offersOf(keyPairs, cas))
    }
    return [...combinations.values()]
  }

  #selectFor (host: string): { readonly keyPairs: KeyPairs, readonly cas: readonly X509Certificate[], readonly group: string } {
    const group = this.#hostGroups.get(host) ?? ''
    return { keyPairs: this.#keyPairs.get(host) ?? this.#first, cas: this.#input.cas.get(group) ?? NO_CAS, group }
  }

  /** Adds a certificate for each of its hosts, where there is none yet with a key of its kind; returns all that its DNS names have. */
  #add (keyPair: KeyPair): Array<readonly KeyPair[]> {
    return keyPair.hosts.flatMap((host) => {
      const served = this.#keyPairs.add(host, [])
      if (!served.some(({ keyKind }) => keyKind === keyPair.keyKind)) served.push(keyPair)
      return isIP(host) === 0 ? [served] : []
    })
  }

  /** The first certificate, and those with keys of other kinds that are for all of its hosts as well. */
  #firstOf ([first, ...others]: readonly KeyPair[]): KeyPairs {
    return first === undefined ? [] : [first, ...others.filter((other) => first.hosts.length > 0 && first.hosts.every((host) => this.#keyPairs.own(host)!.includes(other)))]
  }

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES it would never be served */
  #warningsOf (keyPair: KeyPair): string[] {
    const { hosts, source, keyKind } = keyPair
    const names = new Map<KeyPair, string[]>()
    for (const host of hosts) {
      // A client cannot name an IP address in the handshake (RFC 6066 §3).
      if (isIP(host) !== 0) continue
      const owner = this.#keyPairs.own(host)!.find((served) => served.keyKind === keyKind)!
      const kept = names.get(owner)
      if (kept === undefined) names.set(owner, [host])
      else kept.push(host)
    }
    const shared = [...names].filter(([owner]) => owner !== keyPair)
      .map(([owner, kept]) => `${enumerate(kept)} ${kept.length > 1 ? 'are' : 'is'} served with ${owner.source}`)
    if (names.has(keyPair) || this.#first.includes(keyPair)) return shared.map((which) => `${source}: ${which}, which comes first`)
    const reason = shared.length > 0
      ? `${shared.join(', ')}, which come${shared.length > 1 ? '' : 's'} first, and a host has one certificate for each kind of key (${keyKind})`
      : `it names no host${hosts.length > 0 ? ' but addresses, which clients do not name in a handshake (RFC 6066 §3)' : ''}; put it first`
    throw new InvalidCertificatesError(`${source}: would never be served: ${reason}`)
  }

  #offersOf (keyPairs: KeyPairs, cas: readonly X509Certificate[]): readonly [Offer, ...Offer[]] {
    return keyPairs.map((keyPair) => ({ keyKind: keyPair.keyKind, context: this.#contextOf(keyPair, cas) })) as unknown as readonly [Offer, ...Offer[]]
  }

  #contextOf (keyPair: KeyPair, cas: readonly X509Certificate[]): SecureContext {
    const key = this.#keyOf(keyPair, cas)
    let context = this.#cache.get(key)
    if (context === undefined) {
      context = this.#previousCache.get(key) ?? createSecureContext({ ...this.#input.extra, ...certificateOf(keyPair), ca: pemsOf(cas) })
      this.#cache.set(key, context)
    }
    return context
  }

  #keyOf (keyPair: KeyPair, cas: readonly X509Certificate[]): string {
    return `${keyPair.fingerprint} ${fingerprintOf(cas)}`
  }

  #make (keyPair: KeyPair, cas: readonly X509Certificate[], role: string | undefined): void {
    try {
      this.#contextOf(keyPair, cas)
    } catch (cause) {
      throw new InvalidCertificatesError(`${keyPair.source}${role === undefined ? '' : ` with the authorities of ${role}`}: OpenSSL does not take it: ${(cause as Error).message}`, { cause })
    }
  }
}

function roleOf (host: string): string {
  return host === '' ? 'clientCertificates' : `clientCertificates['${host}']`
}

function requireCaNamesFit (role: string, cas: readonly X509Certificate[]): void {
  const octets = cas.reduce((sum, certificate) => sum + 2 + readOr(() => derOf(fieldsOf(certificate).subject).length, 0), 0)
  if (octets <= MOST_CA_NAMES) return
  throw new InvalidCertificatesError(`${role}: the names of the ${cas.length} authorities have ${octets} bytes with their lengths, and the CertificateRequest of a handshake holds ${MOST_CA_NAMES} (RFC 5246 §7.4.4, RFC 8446 §4.2.4): every handshake would fail`)
}

function pemsOf (cas: readonly X509Certificate[]): string[] {
  return cas.map(({ raw }) => pemOf('CERTIFICATE', raw))
}

const fingerprints = new WeakMap<readonly X509Certificate[], string>()

function fingerprintOf (cas: readonly X509Certificate[]): string {
  let fingerprint = fingerprints.get(cas)
  if (fingerprint === undefined) {
    const hash = createHash('sha256')
    for (const { raw } of cas) hash.update(raw)
    fingerprints.set(cas, fingerprint = hash.digest('hex'))
  }
  return fingerprint
}

/** Warnings by issuer: whoever runs a CA of his own may have thousands of hosts, which come and go. */
function openEndsOf (keyPairs: readonly KeyPair[]): Array<readonly [issuer: string, warning: string]> {
  const byIssuer = new Map<string, KeyPair[]>()
  for (const keyPair of keyPairs) {
    if (keyPair.openEnd === undefined) continue
    const { issuer } = keyPair.openEnd
    const alike = byIssuer.get(issuer)
    if (alike === undefined) byIssuer.set(issuer, [keyPair])
    else alike.push(keyPair)
  }
  return [...byIssuer].map(([issuer, [{ source, openEnd }, ...others]]) => [issuer,
    `${source}: the chain ends with ${openEnd!.end}, whose issuer ${issuer} is not in the file and no public root: clients have to know it${others.length > 0 ? ` (the same holds for ${enumerate(others.map(({ source }) => source))})` : ''}`
  ])
}

/** Lists only where there are several. */
function certificateOf (...keyPairs: KeyPairs) {
  const [certs, keys] = [keyPairs.map(({ cert }) => cert), keyPairs.map(({ key }) => key)]
  return keyPairs.length === 1 ? { cert: certs[0], key: keys[0] } : { cert: certs, key: keys }
}

/** Host names in a message. */
export function enumerate (names: readonly string[]): string {
  const [few, more] = [names.slice(0, MOST_NAMES), names.length - MOST_NAMES]
  return more > 0 ? `${few.join(', ')} and ${more} more` : few.join(' and ')
}
