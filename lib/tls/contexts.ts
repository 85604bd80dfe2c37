/**
 * SecureContexts are made here: one for each combination of a server certificate and client CAs that a host needs.
 * Begin with `Contexts.create`. `options()` is for clients without SNI, `contextFor()` for clients with SNI.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import { isIP } from 'node:net'
import { createSecureContext, DEFAULT_CIPHERS, type SecureContext } from 'node:tls'
import { derOf, readOr } from '../x509/der.ts'
import { fieldsOf } from '../x509/fields.ts'
import { InvalidCertificatesError } from '../errors.ts'
import { pemOf } from '../files/pem.ts'
import { nearest } from '../options/validation-errors.ts'
import { Slices } from '../slices.ts'
import type { Certificates, KeyPair } from './credentials.ts'
import { NameMap } from './host-names.ts'
import type { CasByHost } from './client-cas.ts'

interface ContextsInput {
  readonly certificates: Certificates
  readonly cas: CasByHost
  /** The option `https` of `enableTls`. */
  readonly extra: ServerOptions
}

/** A certificate and client CAs that are served together. */
export interface Combination {
  /** Equal for equal certificate, client CAs and options. */
  readonly id: string
  /** Equal for an equal kind of key and equal options. */
  readonly kind: string
  readonly keyPair: KeyPair
  readonly cas: readonly X509Certificate[]
  /** The option that the client CAs come from, for messages; undefined if there are none. */
  readonly role: string | undefined
  /** The SecureContext for SNI. Undefined: that of the server itself, for clients without SNI. */
  readonly context: (() => SecureContext) | undefined
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
  readonly #common: ServerOptions
  readonly #commonKey: string
  readonly #keyPairs = new NameMap<KeyPair>()
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
    this.#common = { ...extra, ...preferOtherKeyKinds(keyPairs, extra) }
    this.#commonKey = JSON.stringify([this.#common.sigalgs, this.#common.ciphers])
    this.#previousCache = previousCache
    for (const host of cas.keys()) if (host !== '') this.#hostGroups.add(host, host)
    this.#nameWarnings = keyPairs.flatMap((keyPair, index) => this.#add(keyPair, index === 0))
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
    for (const { id } of contexts.combinations) if (known.has(id)) contexts.#cache.set(id, known.get(id)!)
    return contexts
  }

  /** Unusual, but possibly intended: for the log. */
  get warnings (): readonly string[] {
    const { certificates: { development, keyPairs }, cas } = this.#input
    const uncovered = [...cas.keys()].filter((host) => host !== '' && !this.covers(host) && !keyPairs.some(({ hosts }) => hosts.includes(host)))
    return [
      // For development certificates, this is said once, when they are created.
      ...(development === undefined ? keyPairs : []).flatMap(({ warnings }) => warnings),
      ...this.#nameWarnings,
      ...uncovered.map((host) => {
        const meant = nearest(host, keyPairs.flatMap(({ hosts }) => hosts).filter((other) => !cas.has(other)))
        return `clientCertificates: no certificate is good for ${host}${meant === undefined ? '' : `. Did you mean '${meant}'?`}`
      })
    ]
  }

  /**
   * Options for `https.createServer` and `setSecureContext`. Always all of them: `setSecureContext` resets those that
   * are missing.
   */
  options (): ServerOptions {
    const { certificates: { keyPairs: [keyPair] }, cas } = this.#input
    return { ...this.#common, ...certificateOf(keyPair), ca: pemsOf(cas.get('') ?? NO_CAS) }
  }

  /**
   * The SecureContext for a client with SNI. Node takes the certificate and the client CAs from it; its other options
   * decide what is strong enough.
   */
  contextFor (servername: string): SecureContext {
    const [keyPair, cas] = this.#selectFor(servername)
    return this.#contextOf(keyPair, cas)
  }

  /** Whether a client with this SNI name gets the same as a client without SNI. */
  isDefault (servername: string): boolean {
    const { certificates: { keyPairs: [keyPair] }, cas } = this.#input
    const selected = this.#selectFor(servername)
    return selected[0] === keyPair && selected[1] === (cas.get('') ?? NO_CAS)
  }

  /** Whether one of the certificates covers a host. */
  covers (host: string): boolean {
    return this.#keyPairs.get(host) !== undefined
  }

  /** Which hosts of the certificates were not covered before, and which ones are not covered any more. */
  hostsSince (before: Contexts): { readonly added: readonly string[], readonly gone: readonly string[] } {
    const missing = (from: Contexts, of: Contexts): string[] => [...new Set(of.#input.certificates.keyPairs.flatMap(({ hosts }) => hosts))].filter((host) => !from.covers(host))
    return { added: missing(before, this), gone: missing(this, before) }
  }

  /** Every combination that is served, each one once, for any number of hosts. */
  get combinations (): readonly Combination[] {
    const { certificates: { keyPairs }, cas: byHost } = this.#input
    const all = new Map<string, Combination>()
    const add = (keyPair: KeyPair, cas: readonly X509Certificate[], group: string, context: Combination['context']): void => {
      const id = this.#keyOf(keyPair, cas)
      if (!all.has(id)) all.set(id, { id, kind: `${keyPair.keyKind} ${this.#commonKey}`, keyPair, cas, role: cas.length === 0 ? undefined : roleOf(group), context })
    }
    add(keyPairs[0], byHost.get('') ?? NO_CAS, '', undefined)
    for (const host of [...keyPairs.flatMap(({ hosts }) => hosts.filter((host) => isIP(host) === 0)), ...byHost.keys()]) {
      if (host === '') continue
      const [keyPair, cas, group] = this.#selectFor(host)
      add(keyPair, cas, group, () => this.#contextOf(keyPair, cas))
    }
    return [...all.values()]
  }

  #selectFor (host: string): [KeyPair, readonly X509Certificate[], string] {
    const { certificates: { keyPairs }, cas } = this.#input
    const group = this.#hostGroups.get(host) ?? ''
    return [this.#keyPairs.get(host) ?? keyPairs[0], cas.get(group) ?? NO_CAS, group]
  }

  /**
   * Adds a certificate for each of its names, and returns warnings.
   *
   * @param isFirst it is also for clients without SNI
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES it would never be served
   */
  #add (keyPair: KeyPair, isFirst: boolean): string[] {
    const { hosts, source } = keyPair
    const names = new Map<KeyPair, string[]>()
    for (const host of hosts) {
      const owner = this.#keyPairs.add(host, keyPair)
      // A client cannot name an IP address in the handshake (RFC 6066 §3).
      if (isIP(host) !== 0) continue
      const kept = names.get(owner)
      if (kept === undefined) names.set(owner, [host])
      else kept.push(host)
    }
    const shared = [...names].filter(([owner]) => owner !== keyPair)
      .map(([owner, kept]) => `${enumerate(kept)} ${kept.length > 1 ? 'are' : 'is'} served with ${owner.source}`)
    if (isFirst || names.has(keyPair)) return shared.map((which) => `${source}: ${which}, which comes first`)
    const reason = shared.length > 0
      ? `${shared.join(', ')}, which come${shared.length > 1 ? '' : 's'} first, and a host has one certificate`
      : `it names no host${hosts.length > 0 ? ' but addresses, which clients do not name in a handshake (RFC 6066 §3)' : ''}; put it first`
    throw new InvalidCertificatesError(`${source}: would never be served: ${reason}`)
  }

  #contextOf (keyPair: KeyPair, cas: readonly X509Certificate[]): SecureContext {
    const key = this.#keyOf(keyPair, cas)
    let context = this.#cache.get(key)
    if (context === undefined) {
      context = this.#previousCache.get(key) ?? createSecureContext({ ...this.#common, ...certificateOf(keyPair), ca: pemsOf(cas) })
      this.#cache.set(key, context)
    }
    return context
  }

  #keyOf (keyPair: KeyPair, cas: readonly X509Certificate[]): string {
    return `${keyPair.fingerprint} ${fingerprintOf(cas)} ${this.#commonKey}`
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

function certificateOf ({ cert, key }: KeyPair) {
  return { cert, key }
}

/**
 * Signature algorithms by kind of key, in OpenSSL's names: those of TLS 1.3, and a pattern that also matches the older
 * names.
 */
const SIGNATURES: ReadonlyArray<readonly [kind: KeyPair['keyKind'], names: readonly string[], pattern: RegExp]> = [
  ['Ed25519', ['ed25519'], /^ed25519$/i],
  ['Ed448', ['ed448'], /^ed448$/i],
  ['EC', ['ecdsa_secp256r1_sha256', 'ecdsa_secp384r1_sha384', 'ecdsa_secp521r1_sha512'], /^ecdsa/i],
  ['RSA-PSS', ['rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512'], /^rsa_pss_pss/i],
  ['RSA', ['rsa_pss_rsae_sha256', 'rsa_pss_rsae_sha384', 'rsa_pss_rsae_sha512', 'rsa_pkcs1_sha256', 'rsa_pkcs1_sha384', 'rsa_pkcs1_sha512'], /^(?:rsa(?!_pss_pss)|pss)/i]
]

/**
 * Makes clients choose the certificate of their host. Node adds the certificate of SNI to the default one and does not
 * replace it: if their keys are of different kinds, the client chooses between the two. So the kind of the default key
 * comes last in the signature algorithms (TLS 1.3) and cipher suites (TLS 1.2), and the order of the server counts.
 */
function preferOtherKeyKinds (keyPairs: Certificates['keyPairs'], { ciphers = DEFAULT_CIPHERS, sigalgs }: ServerOptions): ServerOptions {
  const { keyKind } = keyPairs[0]
  if (keyPairs.every((keyPair) => keyPair.keyKind === keyKind)) return {}
  const [, , pattern] = SIGNATURES.find(([kind]) => kind === keyKind)!
  const all = sigalgs?.split(':') ?? SIGNATURES.flatMap(([, names]) => names)
  return {
    sigalgs: [...all.filter((name) => !pattern.test(name)), ...all.filter((name) => pattern.test(name))].join(':'),
    // Cipher suites of TLS 1.3 are for every kind of key. OpenSSL does not accept an order (`:+aRSA`) without another
    // suite.
    ciphers: ciphers.split(':').every((name) => name.startsWith('TLS_')) ? ciphers : `${ciphers}:+${keyKind.startsWith('RSA') ? 'aRSA' : 'aECDSA'}`,
    honorCipherOrder: true
  }
}

/** Host names in a message. */
export function enumerate (names: readonly string[]): string {
  const [few, more] = [names.slice(0, MOST_NAMES), names.length - MOST_NAMES]
  return more > 0 ? `${few.join(', ')} and ${more} more` : few.join(' and ')
}
