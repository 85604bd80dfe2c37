/** What is told to Node: one context for clients that name no host, and for each host the one that it is due. */
import { constants, createHash } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import { isIP } from 'node:net'
import { createSecureContext, DEFAULT_CIPHERS, type SecureContext } from 'node:tls'
import { InvalidCertificatesError } from '../errors.ts'
import { type ClientTrust, NOBODY } from '../material/authorities.ts'
import type { Identity } from './material/identity.ts'
import { type Material, trustsIn } from './material/material.ts'
import { NameMap } from './names.ts'

/** A certificate and client authorities that are served together. */
export interface Combination {
  /** The same for the same certificate, authorities and options. */
  readonly id: string
  /** The same for the same kind of key and options. */
  readonly kind: string
  readonly identity: Identity
  readonly trust: ClientTrust
  /** What is served by name; undefined: the server's own, for clients that name no host. */
  readonly context: (() => SecureContext) | undefined
}

/** In a message: a certificate may have hundreds. */
const MOST_NAMES = 3

export class Contexts {
  readonly material: Material
  /** The same for the same certificates and the same trust. */
  readonly fingerprint: string
  /** The same for the same trust in clients. */
  readonly trustFingerprint: string
  /** Clients are vouched for by others at one host than at another. */
  readonly differByHost: boolean
  readonly #extra: ServerOptions
  readonly #identities = new NameMap<Identity>()
  readonly #groups = new NameMap<string>()
  /** Which names of a certificate are served with another one, in words. */
  readonly #shared: readonly string[]
  readonly #made = new Map<Identity, Map<ClientTrust, SecureContext>>()

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when OpenSSL does not take what was read */
  constructor (material: Material, extra: ServerOptions) {
    const { identities, trust } = material
    this.material = material
    this.#extra = extra
    for (const host of trust.byHost.keys()) this.#groups.add(host, host)
    this.#shared = identities.flatMap((identity, index) => this.#add(identity, index === 0))
    const trusts = trustsIn(trust)
    this.differByHost = trusts.length > 1
    this.trustFingerprint = hash([trust.otherwise.fingerprint, ...[...trust.byHost].map(([host, { fingerprint }]) => `${host} ${fingerprint}`)])
    this.fingerprint = hash([this.trustFingerprint, ...identities.map(({ cert, key }) => cert + key)])
    // All that could fail fails here, not in a handshake.
    for (const identity of identities) this.#check(identity.source, () => this.#make(identity, NOBODY))
    for (const each of trusts) this.#check(each.authorities[0]?.source ?? '', () => this.#make(identities[0], each))
  }

  /** What is odd, but may be meant. */
  get warnings (): readonly string[] {
    const { development, identities, trust } = this.material
    const uncovered = [...trust.byHost.keys()].filter((host) => !this.covers(host) && !identities.some(({ hosts }) => hosts.includes(host)))
    return [
      // How to have development certificates trusted is said when they are made.
      ...(development === undefined ? identities : []).flatMap(({ warnings }) => warnings),
      ...this.#shared,
      ...trustsIn(trust).flatMap(({ warnings }) => warnings),
      ...uncovered.map((host) => `clientCertificates: no certificate is good for ${host}`)
    ]
  }

  /** Options of `https.createServer` and `setSecureContext`: always all of them, for what is missing is reset. */
  options (sessionIdContext: string): ServerOptions {
    const { identities: [identity], trust } = this.material
    return { ...this.#common(), ...certificateOf(identity), ...trustOf(trust.otherwise), sessionIdContext }
  }

  /** Every combination that is served, each once: by which host it is makes no difference. */
  get combinations (): readonly Combination[] {
    const { identities, trust } = this.material
    const settings = JSON.stringify([ranked(identities, this.#extra), this.differByHost])
    const all = new Map<string, Combination>()
    const seen = new Map<Identity, Set<ClientTrust>>(identities.map((identity) => [identity, new Set()]))
    const add = (identity: Identity, trust: ClientTrust, context: Combination['context']): void => {
      const trusts = seen.get(identity)!
      if (trusts.has(trust)) return
      trusts.add(trust)
      const id = hash([settings, identity.cert, identity.key, trust.fingerprint])
      if (!all.has(id)) all.set(id, { id, kind: `${identity.keyKind} ${settings}`, identity, trust, context })
    }
    add(identities[0], trust.otherwise, undefined)
    for (const host of [...identities.flatMap(({ hosts }) => hosts.filter((host) => isIP(host) === 0)), ...trust.byHost.keys()]) {
      const [identity, own] = this.#dueTo(host)
      add(identity, own, () => this.#contextOf(identity, own))
    }
    return [...all.values()]
  }

  /** For a client that names a host (SNI). Node takes certificate and trust of it; the rest decides what is good enough. */
  contextFor (servername: string): SecureContext {
    return this.#contextOf(...this.#dueTo(servername))
  }

  #dueTo (host: string): [Identity, ClientTrust] {
    return [this.#identities.get(host) ?? this.material.identities[0], this.trustOf(this.groupOf(host))]
  }

  #contextOf (identity: Identity, trust: ClientTrust): SecureContext {
    let byTrust = this.#made.get(identity)
    if (byTrust === undefined) this.#made.set(identity, byTrust = new Map())
    let context = byTrust.get(trust)
    if (context === undefined) byTrust.set(trust, context = this.#make(identity, trust))
    return context
  }

  /** Which of the hosts that have client authorities of their own a host is, by its name in the options; the empty string for others. */
  groupOf (host: string): string {
    return this.#groups.get(host) ?? ''
  }

  /** Who vouches for the clients of such a group of hosts. */
  trustOf (group: string): ClientTrust {
    return this.material.trust.byHost.get(group) ?? this.material.trust.otherwise
  }

  /** Whether a client that asked for a host would take one of the certificates for it. */
  covers (host: string): boolean {
    return this.#identities.get(host) !== undefined
  }

  /**
   * @param isFirst it is for clients that name no host, too
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES where it would never be served
   */
  #add (identity: Identity, isFirst: boolean): string[] {
    const { hosts, source } = identity
    const names = new Map<Identity, string[]>()
    for (const host of hosts) {
      const keeper = this.#identities.add(host, identity)
      // Clients name no address in a handshake (RFC 6066 §3).
      if (isIP(host) !== 0) continue
      const kept = names.get(keeper)
      if (kept === undefined) names.set(keeper, [host])
      else kept.push(host)
    }
    const shared = [...names].filter(([keeper]) => keeper !== identity)
      .map(([keeper, kept]) => `${listed(kept)} ${kept.length > 1 ? 'are' : 'is'} served with ${keeper.source}`)
    if (isFirst || names.has(identity)) return shared.map((which) => `${source}: ${which}, which comes first`)
    const reason = shared.length > 0
      ? `${shared.join(', ')}, which come${shared.length > 1 ? '' : 's'} first, and a host has one certificate`
      : `it names no host${hosts.length > 0 ? ' but addresses, which clients do not name in a handshake (RFC 6066 §3)' : ''}; put it first`
    throw new InvalidCertificatesError(`${source}: would never be served: ${reason}`)
  }

  #common (): ServerOptions {
    return {
      ...this.#extra,
      ...ranked(this.material.identities, this.#extra),
      // A session does not tell which host's authorities it was judged by, and on TLS 1.2 not even the host: none is resumed.
      ...(this.differByHost && { secureOptions: this.#extra.secureOptions! | constants.SSL_OP_NO_TICKET })
    }
  }

  #make (identity: Identity, trust: ClientTrust): SecureContext {
    return createSecureContext({ ...this.#common(), ...certificateOf(identity), ...trustOf(trust) })
  }

  #check (source: string, make: () => unknown): void {
    try {
      make()
    } catch (cause) {
      throw new InvalidCertificatesError(`${source}: OpenSSL does not take it: ${(cause as Error).message}`, { cause })
    }
  }
}

function certificateOf ({ cert, key }: Identity) {
  return { cert, key }
}

/** `ca` is always there: without it, Node trusts the public roots. */
function trustOf ({ ca, crl }: ClientTrust) {
  return { ca: [...ca], ...(crl.length > 0 && { crl: [...crl] }) }
}

/** By kind of key, what a server signs with, in the names of OpenSSL: those of TLS 1.3, and its older ones. */
const SIGNATURES: ReadonlyArray<readonly [kind: Identity['keyKind'], names: readonly string[], pattern: RegExp]> = [
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
function ranked (identities: Material['identities'], { ciphers = DEFAULT_CIPHERS, sigalgs }: ServerOptions): ServerOptions {
  const { keyKind } = identities[0]
  if (identities.every((identity) => identity.keyKind === keyKind)) return {}
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

function hash (parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
