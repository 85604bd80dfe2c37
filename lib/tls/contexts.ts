/** What is told to Node: one context for clients that name no host, and for each host the one that it is due. */
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
  /** Further options of Node. */
  readonly extra: ServerOptions
}

/** A certificate and client CAs that are served together. */
export interface Combination {
  /** The same for the same certificate, CAs and options. */
  readonly id: string
  /** The same for the same kind of key and options. */
  readonly kind: string
  readonly keyPair: KeyPair
  readonly cas: readonly X509Certificate[]
  /** The CAs in words, where there are any. */
  readonly role: string | undefined
  /** What is served by name; undefined: the server's own, for clients that name no host. */
  readonly context: (() => SecureContext) | undefined
}

/** Octets. A server that asks for a certificate says whose it takes: each name with its length, which has two octets. */
const MOST_CA_NAMES = 65_535

/** In a message: a certificate may have hundreds. */
const MOST_NAMES = 3

/** Of hosts without client CAs: without an explicit list, Node trusts the public roots. */
const NO_CAS: readonly X509Certificate[] = Object.freeze([])

/** Contexts by what they are made of: each takes two milliseconds, and most stay when something changes. */
type Made = Map<string, SecureContext>

const NONE: Made = new Map()

export class Contexts {
  readonly #input: ContextsInput
  readonly #common: ServerOptions
  readonly #commonKey: string
  readonly #keyPairs = new NameMap<KeyPair>()
  readonly #hosts = new NameMap<string>()
  /** Which names of a certificate are served with another one, in words. */
  readonly #shared: readonly string[]
  readonly #made: Made = new Map()
  readonly #madeBefore: Made

  /**
   * Makes them of what was read, and tries what is new.
   *
   * @param before those in force, which are used again where they are the same
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when OpenSSL does not take what was read
   */
  static async create (input: ContextsInput, before?: Contexts): Promise<Contexts> {
    const contexts = new Contexts(input, before === undefined ? NONE : before.#made)
    for (const [host, each] of input.cas) requireRoom(roleOf(host), each)
    const slices = new Slices()
    for (const { keyPair, cas, role } of contexts.combinations) {
      await slices.rest()
      contexts.#make(keyPair, cas, role)
    }
    return contexts
  }

  private constructor (input: ContextsInput, madeBefore: Made) {
    const { certificates: { keyPairs }, cas, extra } = input
    this.#input = input
    this.#common = { ...extra, ...ranked(keyPairs, extra) }
    this.#commonKey = JSON.stringify([this.#common.sigalgs, this.#common.ciphers])
    this.#madeBefore = madeBefore
    for (const host of cas.keys()) if (host !== '') this.#hosts.add(host, host)
    this.#shared = keyPairs.flatMap((keyPair, index) => this.#add(keyPair, index === 0))
  }

  /**
   * The same with other CAs. What is served with them is used again where it was made before; all else is let go.
   *
   * @param prepared some that were made with CAs which are to come
   */
  with (cas: CasByHost, prepared?: Contexts): Contexts {
    const contexts = new Contexts({ ...this.#input, cas }, NONE)
    const known = new Map([...this.#madeBefore, ...this.#made, ...prepared === undefined ? NONE : prepared.#made])
    for (const { id } of contexts.combinations) if (known.has(id)) contexts.#made.set(id, known.get(id)!)
    return contexts
  }

  /** What is odd, but may be meant. */
  get warnings (): readonly string[] {
    const { certificates: { development, keyPairs }, cas } = this.#input
    const uncovered = [...cas.keys()].filter((host) => host !== '' && !this.covers(host) && !keyPairs.some(({ hosts }) => hosts.includes(host)))
    return [
      // How to have development certificates trusted is said when they are made.
      ...(development === undefined ? keyPairs : []).flatMap(({ warnings }) => warnings),
      ...this.#shared,
      ...uncovered.map((host) => {
        const meant = nearest(host, keyPairs.flatMap(({ hosts }) => hosts).filter((other) => !cas.has(other)))
        return `clientCertificates: no certificate is good for ${host}${meant === undefined ? '' : `. Did you mean '${meant}'?`}`
      })
    ]
  }

  /** Options of `https.createServer` and `setSecureContext`: always all of them, for what is missing is reset. */
  options (): ServerOptions {
    const { certificates: { keyPairs: [keyPair] }, cas } = this.#input
    return { ...this.#common, ...certificateOf(keyPair), ca: pemsOf(cas.get('') ?? NO_CAS) }
  }

  /** For a client that names a host (SNI). Node takes certificate and CAs of it; the rest decides what is good enough. */
  contextFor (servername: string): SecureContext {
    const [keyPair, cas] = this.#dueTo(servername)
    return this.#contextOf(keyPair, cas)
  }

  /** Whether a client that names a host is served as one that names none. */
  isDefault (servername: string): boolean {
    const { certificates: { keyPairs: [keyPair] }, cas } = this.#input
    const due = this.#dueTo(servername)
    return due[0] === keyPair && due[1] === (cas.get('') ?? NO_CAS)
  }

  /** Every combination that is served, each once: by which host it is makes no difference. */
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
      const [keyPair, cas, group] = this.#dueTo(host)
      add(keyPair, cas, group, () => this.#contextOf(keyPair, cas))
    }
    return [...all.values()]
  }

  #dueTo (host: string): [KeyPair, readonly X509Certificate[], string] {
    const { certificates: { keyPairs }, cas } = this.#input
    const group = this.#hosts.get(host) ?? ''
    return [this.#keyPairs.get(host) ?? keyPairs[0], cas.get(group) ?? NO_CAS, group]
  }

  /** Whether a client that asked for a host would take one of the certificates for it. */
  covers (host: string): boolean {
    return this.#keyPairs.get(host) !== undefined
  }

  /**
   * @param isFirst it is for clients that name no host, too
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES where it would never be served
   */
  #add (keyPair: KeyPair, isFirst: boolean): string[] {
    const { hosts, source } = keyPair
    const names = new Map<KeyPair, string[]>()
    for (const host of hosts) {
      const keeper = this.#keyPairs.add(host, keyPair)
      // Clients name no address in a handshake (RFC 6066 §3).
      if (isIP(host) !== 0) continue
      const kept = names.get(keeper)
      if (kept === undefined) names.set(keeper, [host])
      else kept.push(host)
    }
    const shared = [...names].filter(([keeper]) => keeper !== keyPair)
      .map(([keeper, kept]) => `${listed(kept)} ${kept.length > 1 ? 'are' : 'is'} served with ${keeper.source}`)
    if (isFirst || names.has(keyPair)) return shared.map((which) => `${source}: ${which}, which comes first`)
    const reason = shared.length > 0
      ? `${shared.join(', ')}, which come${shared.length > 1 ? '' : 's'} first, and a host has one certificate`
      : `it names no host${hosts.length > 0 ? ' but addresses, which clients do not name in a handshake (RFC 6066 §3)' : ''}; put it first`
    throw new InvalidCertificatesError(`${source}: would never be served: ${reason}`)
  }

  #contextOf (keyPair: KeyPair, cas: readonly X509Certificate[]): SecureContext {
    const key = this.#keyOf(keyPair, cas)
    let context = this.#made.get(key)
    if (context === undefined) {
      context = this.#madeBefore.get(key) ?? createSecureContext({ ...this.#common, ...certificateOf(keyPair), ca: pemsOf(cas) })
      this.#made.set(key, context)
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

function requireRoom (role: string, cas: readonly X509Certificate[]): void {
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

/** By kind of key, what a server signs with, in the names of OpenSSL: those of TLS 1.3, and its older ones. */
const SIGNATURES: ReadonlyArray<readonly [kind: KeyPair['keyKind'], names: readonly string[], pattern: RegExp]> = [
  ['Ed25519', ['ed25519'], /^ed25519$/i],
  ['Ed448', ['ed448'], /^ed448$/i],
  ['EC', ['ecdsa_secp256r1_sha256', 'ecdsa_secp384r1_sha384', 'ecdsa_secp521r1_sha512'], /^ecdsa/i],
  ['RSA-PSS', ['rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512'], /^rsa_pss_pss/i],
  ['RSA', ['rsa_pss_rsae_sha256', 'rsa_pss_rsae_sha384', 'rsa_pss_rsae_sha512', 'rsa_pkcs1_sha256', 'rsa_pkcs1_sha384', 'rsa_pkcs1_sha512'], /^(?:rsa(?!_pss_pss)|pss)/i]
]

/**
 * Node puts the certificate of a host beside the default one, not in its place: of two with keys of different kinds, the
 * client would choose. So the kind of the default's key comes last, of those that the server is willing to sign with
 * (TLS 1.3) and in its cipher suites (TLS 1.2).
 */
function ranked (keyPairs: Certificates['keyPairs'], { ciphers = DEFAULT_CIPHERS, sigalgs }: ServerOptions): ServerOptions {
  const { keyKind } = keyPairs[0]
  if (keyPairs.every((keyPair) => keyPair.keyKind === keyKind)) return {}
  const [, , pattern] = SIGNATURES.find(([kind]) => kind === keyKind)!
  const all = sigalgs?.split(':') ?? SIGNATURES.flatMap(([, names]) => names)
  return {
    sigalgs: [...all.filter((name) => !pattern.test(name)), ...all.filter((name) => pattern.test(name))].join(':'),
    // Suites of TLS 1.3 are for keys of every kind; OpenSSL takes no order without a suite.
    ciphers: ciphers.split(':').every((name) => name.startsWith('TLS_')) ? ciphers : `${ciphers}:+${keyKind.startsWith('RSA') ? 'aRSA' : 'aECDSA'}`,
    honorCipherOrder: true
  }
}

function listed (names: readonly string[]): string {
  const [few, more] = [names.slice(0, MOST_NAMES), names.length - MOST_NAMES]
  return more > 0 ? `${few.join(', ')} and ${more} more` : few.join(' and ')
}
