/**
 * Proxies that prove themselves by the certificates of their own connections (`proxy.trust: { client, from }`). Loaded only
 * where there are any. Begin with {@link ProvenProxies}.
 *
 * Two questions, whose answers are not opposites:
 *
 * - Whether a certificate is that of a proxy (`isOfProxy`). Then it is never a visitor's: whoever comes through a proxy would
 *   else have the proxy's certificate. Names decide, also those of earlier documents; dates, CAs and addresses do not.
 * - Whether its bearer is believed (`believes`): by a verdict as on any client's certificate, by the clients document in force,
 *   and by its address. Asked anew for every request.
 */
import type { FastifyBaseLogger } from 'fastify'
import type { Clients, KnownClient } from '../clients/clients.ts'
import { ALTERNATIVE, FINGERPRINT, type ResolvedEntry } from '../clients/certificate-entry.ts'
import { partsOf } from '../clients/certificate-parts.ts'
import type { ProxiesAmongClients } from '../clients/clients-manager.ts'
import type { Refusal } from '../errors.ts'
import type { Proxy, ProxyClient } from '../options/proxy.ts'
import type { PeerCertificate } from '../trust/peer-certificate.ts'
import { knownOf, type KnownCertificate } from '../x509/known-certificate.ts'
import { type ConnectionCertificates, refusalIn, type Targets } from './client-certificate.ts'
import { type Connection, isEncrypted, type RawRequest, simulatedClientOf, socketOf } from './connection.ts'
import type { Problem, Proxies } from './transport.ts'

/** Names of certificates of earlier documents that are remembered; beyond, the oldest is forgotten. */
const MOST_FORMER = 10_000

/** Certificates of peers that were warned of. */
const MOST_WARNED = 100

/** What is known of a connection. */
interface Kept {
  /** The count of documents that it was worked out with. */
  readonly documents: number
  readonly bearer: Bearer | undefined
  /** It comes over TLS from the address of a proxy, and is none. */
  readonly isNeighbour: boolean
}

/** What is known of a certificate that is that of a proxy. */
interface Bearer {
  readonly found: PeerCertificate
  /** Of the client whose it is, or was. */
  readonly name: string
  /** Nothing but its address says so, because no document has had the client yet. */
  readonly isByAddress: boolean
  /** Whose it is by the document, and the labels of its paths, that it was looked up with last. */
  clients?: Clients
  labels?: ReadonlySet<string>
  matching: readonly KnownClient[]
}

const NO_LABELS: ReadonlySet<string> = new Set()

/** Why a certificate does not count, as the log says it: because … */
const REASONS: Partial<Record<Refusal, string>> = {
  certificateExpired: 'it has expired',
  certificateNotYetValid: 'it is not valid yet',
  certificateRevoked: 'it was revoked',
  revocationUnknown: 'its revocation is not known',
  certificateUntrusted: 'no client CA has issued it',
  misdirected: 'only another connection can tell whether it is valid'
}

export class ProvenProxies implements Proxies, ProxiesAmongClients {
  readonly names: ReadonlySet<string>
  readonly #items: readonly ProxyClient[]
  /** Headers that proxies add. */
  readonly #added: readonly string[]
  readonly #connections: ConnectionCertificates
  readonly #log: FastifyBaseLogger
  readonly #warned = new Set<string>()
  #clients!: Clients
  /** Fingerprints and alternative names by which certificates of proxies are known, each with the name of the client: of the document in force, and of earlier ones. */
  #known = new Map<string, string>()
  readonly #former = new Map<string, string>()
  /** Clients that a document has had. */
  readonly #had = new Set<string>()
  /** Documents so far. */
  #documents = 0
  readonly #kBearer = Symbol('fastify-http-security bearer')

  constructor ({ clients: items, protocol }: Pick<Proxy, 'clients' | 'protocol'>, connections: ConnectionCertificates, log: FastifyBaseLogger) {
    this.#items = items
    this.#added = [protocol.header, 'x-forwarded-proto', 'x-forwarded-for', 'forwarded']
    this.#connections = connections
    this.#log = log
    this.names = new Set(items.map(({ name }) => name))
  }

  /** What was once a proxy's stays one: its connections, and the proxy itself, do not know of a new document. */
  learn (clients: Clients): void {
    for (const [key, name] of this.#known) {
      this.#former.delete(key)
      this.#former.set(key, name)
    }
    for (const key of this.#former.keys()) {
      if (this.#former.size <= MOST_FORMER) break
      this.#former.delete(key)
    }
    this.#known = new Map([...clients.proxies].flatMap(([name, entries]) => entries.map((entry) => [keyOf(entry), name])))
    for (const name of clients.proxies.keys()) this.#had.add(name)
    this.#clients = clients
    this.#documents++
  }

  isOfProxy (connection: Connection | undefined): boolean {
    return this.#bearerOf(connection) !== undefined
  }

  isCertificateOfProxy (found: PeerCertificate): boolean {
    return found.isPresent && this.#ownerOf(knownOf(found)) !== undefined
  }

  believes (raw: RawRequest, connection: Connection | undefined): boolean {
    if (connection === undefined) return false
    const { bearer, isNeighbour } = this.#keptOf(connection)
    if (isNeighbour && this.#added.some((name) => raw.headers[name] !== undefined)) this.#warn(connection)
    return bearer !== undefined && this.#problemWith(bearer, raw, connection) === undefined
  }

  problemOf (raw: RawRequest, connection: Connection | undefined): Problem | undefined {
    const bearer = this.#bearerOf(connection)
    return bearer && this.#problemWith(bearer, raw, connection!)
  }

  isStuck (raw: RawRequest, connection: Connection | undefined): boolean {
    const bearer = this.#bearerOf(connection)
    if (bearer === undefined) return false
    const verdict = this.#connections.judge(bearer.found, targetsOf(raw), connection)
    if (typeof verdict !== 'object' || verdict.refusal === undefined) return false
    // Not where the host is another one: visitors name it, and must not have the proxy connect again and again.
    return (verdict.refusal === 'misdirected' && verdict.reason === null) || socketOf(connection)?.authorized !== true
  }

  #bearerOf (connection: Connection | undefined): Bearer | undefined {
    return connection && this.#keptOf(connection).bearer
  }

  #keptOf (connection: Connection): Kept {
    const kept = (connection as unknown as Record<symbol, Kept | undefined>)[this.#kBearer]
    // For as long as the connection lasts, or until the next document.
    if (kept !== undefined && (kept.bearer?.isByAddress === false || kept.documents === this.#documents)) return kept
    const bearer = this.#recognise(connection)
    const value: Kept = { documents: this.#documents, bearer, isNeighbour: bearer === undefined && isEncrypted(connection) && this.#itemFrom(connection) !== undefined }
    Object.defineProperty(connection, this.#kBearer, { value, configurable: true })
    return value
  }

  #itemFrom (connection: Connection, isMeant: (item: ProxyClient) => boolean = () => true): ProxyClient | undefined {
    const socket = socketOf(connection)
    return socket && this.#items.find((item) => isMeant(item) && item.from(socket))
  }

  #recognise (connection: Connection): Bearer | undefined {
    const found = this.#connections.certificateOf(connection)
    if (!found.isPresent) return undefined
    const simulated = simulatedClientOf(connection)
    const owner = simulated === undefined ? this.#ownerOf(knownOf(found)) : this.names.has(simulated) ? simulated : undefined
    if (owner !== undefined) return { found, name: owner, isByAddress: false, matching: [] }
    // Nothing is known of the proxy's certificate, which must not become that of everybody who comes through the proxy.
    const item = this.#itemFrom(connection, ({ name }) => !this.#had.has(name))
    return item && { found, name: item.name, isByAddress: true, matching: [] }
  }

  /** The client that a certificate is, or was, that of, by its names alone. */
  #ownerOf ({ fingerprint256, alternativeNames }: KnownCertificate): string | undefined {
    const keys = [`${FINGERPRINT} ${fingerprint256}`, ...alternativeNames.map(({ kind, value }) => `${ALTERNATIVE}${kind} ${value}`)]
    for (const key of keys) {
      const name = this.#known.get(key) ?? this.#former.get(key)
      if (name !== undefined) return name
    }
    return undefined
  }

  #problemWith (bearer: Bearer, raw: RawRequest, connection: Connection): Problem | undefined {
    const { found, name, isByAddress } = bearer
    if (isByAddress) return problem(name, 'the clients document has no such client', connection)
    const targets = targetsOf(raw)
    const verdict = this.#connections.judge(found, targets, connection)
    const refusal = refusalIn(verdict)
    if (refusal !== undefined) {
      const { judgement, reason } = typeof verdict === 'object' ? verdict : {}
      const isPending = judgement?.pending !== undefined
      const words = reason == null ? undefined : judgement?.store.explain(found.leaf!, reason)
      const why = REASONS[refusal] ?? `it is not valid (${String(reason)}${words === undefined ? '' : `: ${words}`})`
      return problem(name, `${why}${isPending ? ' yet' : ''}`, connection, isPending)
    }
    const [client] = this.#matching(bearer, targets, connection)
    if (client === undefined || this.#clients.suspendsByIssuer) {
      // Another path may have the label that an entry asks for, once the revocation of all that is on it is known.
      const store = this.#connections.trustFor(targets, connection)
      if (typeof store === 'object' && store.labelsPending(found.leaf!) !== undefined) return problem(name, 'it is not known yet who has issued it', connection, true)
      if (client === undefined) return problem(name, 'the clients document does not have it', connection)
    }
    if (bearer.matching.some(({ isSuspended }) => isSuspended)) return problem(name, 'the client is suspended', connection)
    if (!this.names.has(client.client.name)) return problem(name, 'the clients document has it as another client\'s', connection)
    return this.#itemFrom(connection, (item) => item.name === client.client.name) === undefined ? problem(name, 'its address is not in from', connection) : undefined
  }

  /** That of a proxy whose certificate was renewed, and is not in the document, is like that of any client. */
  #warn (connection: Connection): void {
    const certificate = this.#connections.certificateOf(connection).leaf?.fingerprint256
    const what = certificate === undefined ? 'without a certificate' : `with the certificate ${certificate}, which the clients document does not have as that of a proxy`
    if (this.#warned.has(what) || this.#warned.size === MOST_WARNED) return
    this.#warned.add(what)
    this.#log.warn(`http-security: ${String(socketOf(connection)?.remoteAddress)}, an address in proxy.trust, forwards requests ${what}. If it is a proxy, all who come through it count as one client, over HTTPS${certificate === undefined ? '; have it present its certificate' : ' and with that certificate; put it into the document'}`)
  }

  #matching (bearer: Bearer, targets: Targets, connection: Connection): readonly KnownClient[] {
    const clients = this.#clients
    const { found } = bearer
    const asksForIssuer = clients.labels.size + clients.proxyLabels.size > 0
    const store = asksForIssuer ? this.#connections.trustFor(targets, connection) : undefined
    const labels = typeof store === 'object' ? store.labelsOf(found.leaf!, found.others, Date.now()) : NO_LABELS
    if (bearer.clients === clients && bearer.labels === labels) return bearer.matching
    const simulated = simulatedClientOf(connection)
    bearer.clients = clients
    bearer.labels = labels
    return (bearer.matching = simulated === undefined ? clients.find(partsOf(knownOf(found), labels)) : [clients.named(simulated)].filter((client) => client !== undefined))
  }
}

/** The part of an entry by which a certificate is recognised: see `isExact`. */
function keyOf (entry: ResolvedEntry): string {
  const part = entry.find(([name]) => name === FINGERPRINT) ?? entry.find(([name]) => name.startsWith(ALTERNATIVE))!
  return part.join(' ')
}

function targetsOf (raw: RawRequest): Targets {
  // As Fastify works it out.
  return { raw, originalUrl: (raw as { originalUrl?: string }).originalUrl ?? raw.url! }
}

function problem (name: string, reason: string, connection: Connection, isPending = false): Problem {
  return { isPending, text: `the certificate of a proxy, because ${reason}; ${JSON.stringify(name)} in proxy.trust, at ${socketOf(connection)?.remoteAddress ?? 'no address'}` }
}
