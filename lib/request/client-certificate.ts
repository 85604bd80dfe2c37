/**
 * Judges the client certificate of a request under the trust in force: that of the connection, where `socket.authorized`
 * alone can be true for a client without certificate, or the one that a trusted proxy forwards. Begin with
 * {@link createVerdicts}. Further parts: the certificates of connections, whoever's they are; the host whose client CAs count;
 * and clients that reconnect in vain.
 */
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import type { Refusal } from '../errors.ts'
import type { ForwardedReader } from '../proxy/forwarded-certificate.ts'
import type { TlsInterface } from '../tls-interface.ts'
import { type Judgement, keepVerdict, keptVerdict, noPeerCertificate, peerCertificate, type PeerCertificate, refusalOfDates, type Verdict, verdictOf } from '../trust/peer-certificate.ts'
import type { TrustStore } from '../trust/store.ts'
import { parseHost } from '../url/host.ts'
import { refusalOf } from '../x509/reasons.ts'
import { type Connection, connectionOf, isSimulated, type RawRequest, socketOf, tlsSocketOf } from './connection.ts'
import type { Transport } from './transport.ts'

/** The verdicts on client certificates. */
export interface Verdicts {
  /**
   * The peer certificate of a request: read once for each connection, or once for each request where a proxy forwards it. The
   * certificate of a proxy's own connection never counts as the client's.
   */
  presentedBy (request: FastifyRequest, connection?: Connection): PeerCertificate
  /** The certificate itself, valid or not: one object for all of a request, though one that is cached may be parsed again. */
  leafOf (request: FastifyRequest): X509Certificate | undefined
  /** Why it does not count; `undefined` where it does. A certificate whose revocation is not known yet does not count. */
  judge (request: FastifyRequest, connection?: Connection): Refusal | undefined
  /** Whether the certificate of a request counts now. It may not any more once its connection has gone. */
  isValid (found: PeerCertificate, request: FastifyRequest): boolean
  /** Resolves when more is known about its revocation; `undefined` where it is known already whether it counts. */
  pendingFor (request: FastifyRequest): Promise<unknown> | undefined
  /** The labels of the client CAs that valid paths of a certificate lead over; the same set until they change. */
  labelsOf (found: PeerCertificate, request: FastifyRequest): ReadonlySet<string>
  /** Resolves when more of these labels may be known; `undefined` where all are. */
  labelsPending (found: PeerCertificate, request: FastifyRequest): Promise<unknown> | undefined
  /** The error that verification has found, as OpenSSL or the proxy names it; `null` where there is none. */
  reasonOf (request: FastifyRequest): string | null
  /** Whether a certificate that a request was admitted by still counts. One whose revocation is not known yet does. */
  stillCounts (request: FastifyRequest): boolean
  /** Whether only a new connection can change the verdict, because OpenSSL has refused the certificate of this one for good. */
  isStuck (request: FastifyRequest): boolean
  /** Whether any code has read the forwarded headers of a request for a certificate, so that the answer may depend on them. */
  dependsOnForwarded (raw: object): boolean
}

const NO_CERTIFICATE = noPeerCertificate()
const NO_LABELS: ReadonlySet<string> = new Set()
/** A proxy in front of ours has forwarded nobody's certificate but presented its own. */
const OF_PROXY = noPeerCertificate({ isForwarded: true, reason: 'the certificate of a proxy (proxy.trust), which is never a client\'s' })

export function createVerdicts (transport: Transport, connections: ConnectionCertificates, tls: TlsInterface | undefined, forwarded: ForwardedReader | undefined): Verdicts {
  /** On the connection itself, where it is found faster than in a WeakMap. */
  const kPresented = Symbol('fastify-http-security presented')
  const { proxies } = transport
  /** On a request. Never on the proxy's connection, which carries requests of many clients. */
  const kForwarded = Symbol('fastify-http-security forwarded')
  /** Its certificate, once a handler has it. */
  const kLeaf = Symbol('fastify-http-security leaf')
  type Carrying = RawRequest & { [kForwarded]?: PeerCertificate, [kLeaf]?: X509Certificate | undefined }

  function presentedDirectly (connection: Connection | undefined): PeerCertificate {
    if (connection === undefined) return NO_CERTIFICATE
    return (connection as { [kPresented]?: PeerCertificate })[kPresented] ?? read(connection)
  }

  function read (connection: Connection): PeerCertificate {
    // Once a connection has gone, its socket does not tell the peer any more.
    if (!transport.isDirectTls(connection)) return NO_CERTIFICATE
    const found = connections.certificateOf(connection)
    Object.defineProperty(connection, kPresented, { value: found })
    return found
  }

  /** A later clients document may say that a certificate is that of a proxy. */
  const presentedOn = proxies === undefined
    ? presentedDirectly
    : (connection: Connection | undefined): PeerCertificate => proxies.isOfProxy(connection) ? NO_CERTIFICATE : presentedDirectly(connection)

  function presentedWith (raw: RawRequest, connection: Connection | undefined): PeerCertificate {
    if (forwarded === undefined) return presentedOn(connection)
    // Before the connection is looked at: the proxy may have disconnected since.
    const kept = (raw as Carrying)[kForwarded]
    if (kept !== undefined) return kept
    if (!transport.isProxied(raw, connection)) return presentedOn(connection)
    if (!transport.saysSecure(raw)) return NO_CERTIFICATE
    const found = forwarded.read(raw, Date.now())
    return ((raw as Carrying)[kForwarded] = proxies?.isCertificateOfProxy(found) === true ? OF_PROXY : found)
  }

  /**
   * As long as the proxy is believed that has forwarded it.
   *
   * @param isRequired the request needs a valid certificate, so that its client is asked again if it was not asked
   */
  function judge (found: PeerCertificate, request: FastifyRequest, connection: Connection | undefined, isRequired = false): Verdict | Refusal | undefined {
    if (found.isForwarded && proxies !== undefined && transport.isDisproved(request.raw, connection)) return 'certificateRequired'
    return judgeAlone(found, request, connection, isRequired)
  }

  function judgeAlone (found: PeerCertificate, request: FastifyRequest, connection: Connection | undefined, isRequired = false): Verdict | Refusal | undefined {
    const { isPresent, refusal } = found
    if (!isPresent) return refusal ?? (transport.isDirectTls(connection) ? connections.refusalOfNone(request, connection, isRequired) : 'certificateRequired')
    if (refusal !== undefined) return refusal
    if (!found.isForwarded) return connections.judge(found, request, connection)
    const now = Date.now()
    const { trust } = forwarded!
    return trust === undefined ? refusalOfDates(found, now) : keptVerdict(found, trust, now) ?? keepVerdict(found, verdictOf(trust.judge(found.leaf!, found.others, now)))
  }

  /** The trust that judges the certificate of a request; `undefined` where Node or the proxy has decided. */
  function trustFor (request: FastifyRequest, { isForwarded }: PeerCertificate, connection: Connection | undefined): TrustStore | 'misdirected' | undefined {
    return isForwarded ? forwarded!.trust : connections.trustFor(request, connection)
  }

  return {
    presentedBy: (request, connection = connectionOf(request)) => presentedWith(request.raw, connection),
    leafOf (request) {
      const raw = request.raw as Carrying
      const found = presentedWith(raw, connectionOf(request))
      if (found.isForwarded) raw[kLeaf] ??= found.leaf
      return found.isForwarded ? raw[kLeaf] : found.leaf
    },
    judge: (request, connection = connectionOf(request)) => refusalIn(judge(presentedWith(request.raw, connection), request, connection, true)),
    isValid: (found, request) => refusalIn(judge(found, request, connectionOf(request))) === undefined,
    pendingFor (request) {
      const connection = connectionOf(request)
      const verdict = judge(presentedWith(request.raw, connection), request, connection)
      return typeof verdict === 'object' ? verdict.judgement.pending : undefined
    },
    labelsOf (found, request) {
      const store = trustFor(request, found, connectionOf(request))
      if (store === undefined || store === 'misdirected') return NO_LABELS
      const now = Date.now()
      const known = found.fingerprints && store.knownLabelsOf(found.fingerprints, now)
      return known ?? store.labelsOf(found.leaf!, found.others, now)
    },
    labelsPending (found, request) {
      // While it was waited for, the certificate may have become that of a proxy.
      if (!found.isPresent) return undefined
      const store = trustFor(request, found, connectionOf(request))
      if (store === undefined || store === 'misdirected') return undefined
      return store.labelsPending(found.fingerprints === undefined ? found.leaf! : { fingerprint256: found.fingerprints.leaf })
    },
    reasonOf (request) {
      const connection = connectionOf(request)
      const found = presentedWith(request.raw, connection)
      const { isPresent, refusal, reason, isForwarded } = found
      if (refusal !== undefined || !isPresent) return reason ?? null
      const verdict = judge(found, request, connection)
      if (typeof verdict === 'object') return verdict.reason
      return isForwarded ? reason ?? null : errorOf(connection) ?? null
    },
    stillCounts (request) {
      const connection = connectionOf(request)
      const verdict = judgeAlone(presentedWith(request.raw, connection), request, connection)
      return refusalIn(verdict) === undefined || (typeof verdict === 'object' && verdict.judgement.pending !== undefined)
    },
    isStuck (request) {
      const connection = connectionOf(request)
      if (proxies?.isStuck(request.raw, connection) === true) return true
      const { isPresent, isForwarded } = presentedWith(request.raw, connection)
      return tls !== undefined && isPresent && !isForwarded && socketOf(connection)?.authorized !== true
    },
    dependsOnForwarded: (raw) => (raw as Carrying)[kForwarded] !== undefined
  }
}

// The certificates of connections
//
// Whoever's they are: the client's, or that of a proxy's own connection. Nothing here asks which.

/** The certificates that peers present on their own connections. */
export interface ConnectionCertificates {
  /** Read once for each connection. */
  certificateOf (connection: Connection): PeerCertificate
  /** The verdict on one that was presented: a {@link Verdict} where we verify it ourselves, else why it does not count. */
  judge (found: PeerCertificate, request: Targets, connection: Connection | undefined): Verdict | Refusal | undefined
  /**
   * Why a client without a certificate is refused over its own TLS connection.
   *
   * @param isRequired the request needs a valid certificate, so that its client is asked again if it was not asked
   */
  refusalOfNone (request: Targets, connection: Connection | undefined, isRequired: boolean): Refusal
  /** The trust that judges it; `undefined` where Node decides. */
  trustFor (request: Targets, connection: Connection | undefined): TrustStore | 'misdirected' | undefined
}

/** What of a request says which host is meant. */
export interface Targets { readonly raw: RawRequest, readonly originalUrl: string }

/** @param mayCome whether a client certificate can come, so that the reader has been loaded; if not, none counts */
export function createConnectionCertificates (tls: TlsInterface | undefined, mayCome: boolean): ConnectionCertificates {
  const kCertificate = Symbol('fastify-http-security certificate')
  const reconnects = new Reconnects()

  function read (connection: Connection): PeerCertificate {
    const socket = tlsSocketOf(connection)
    if (socket === undefined) return NO_CERTIFICATE
    // The boot knew of no TLS here, and let no level be 'mtls'.
    if (!mayCome && !isSimulated(socket)) return NO_CERTIFICATE
    // By a TLS 1.2 renegotiation, the client could present another certificate on a connection that was judged before.
    socket.disableRenegotiation()
    const leaf = socket.getPeerX509Certificate()
    const others = tls === undefined || isSimulated(socket) ? undefined : tls.handshakeOf(socket).others
    // The certificate cannot change under the connection from now on.
    const found = leaf === undefined ? NO_CERTIFICATE : peerCertificate(leaf, { others })
    Object.defineProperty(connection, kCertificate, { value: found })
    return found
  }

  function trustFor (request: Targets, connection: Connection | undefined): TrustStore | 'misdirected' | undefined {
    const socket = tlsSocketOf(connection)
    if (tls === undefined || (socket !== undefined && isSimulated(socket))) return undefined
    if (!tls.differsByHost) return tls.trustOf('')
    const host = hostGroupOf(request, tls)
    return host === undefined ? 'misdirected' : tls.trustOf(host)
  }

  /** Without a certificate: 421 where the client may have one and was not asked for one of this host's CAs. */
  function refusalOfNone (request: Targets, connection: Connection | undefined, isRequired: boolean): Refusal {
    const socket = tls?.differsByHost === true ? tlsSocketOf(connection) : undefined
    if (tls === undefined || socket === undefined || isSimulated(socket)) return 'certificateRequired'
    const [asked, host] = [tls.handshakeOf(socket).host, hostGroupOf(request, tls)]
    if (host === undefined) return 'misdirected'
    if (asked !== undefined) {
      if (tls.trustOf(asked) !== tls.trustOf(host)) return 'misdirected'
      if (isRequired) reconnects.hadNone(socket, host)
      return 'certificateRequired'
    }
    // Nothing tells at which host a resumed session began. It may be one that does not ask, and whoever resumes is not asked.
    if (host === '' || reconnects.isKnownToHaveNone(socket, host)) return 'certificateRequired'
    if (isRequired) tls.renewSessions()
    return 'misdirected'
  }

  /** `authorized` is a condition in a full handshake: a certificate that OpenSSL refused there is never admitted by our own judgement. */
  function verdictOnSocket (judgement: Judgement, leaf: X509Certificate, connection: Connection | undefined): Verdict {
    const socket = tlsSocketOf(connection)
    if (socket === undefined) return { judgement, refusal: 'certificateRequired', reason: null }
    const { isResumed, wasValid, host } = tls!.handshakeOf(socket)
    const { error, store } = judgement
    const isAuthorized = socket.authorized === true && (socket.authorizationError ?? null) === null
    // Then the server asked for certificates of other CAs; the client may also have one of the right CAs.
    const isOfAnotherHost = host !== undefined && tls!.trustOf(host) !== store
    if (error !== undefined) {
      const verdict = verdictOf(judgement)
      if (!isResumed) reconnects.refused(leaf, verdict)
      if (verdict.refusal !== 'certificateUntrusted') return verdict
      if (isOfAnotherHost) return { ...verdict, refusal: 'misdirected' }
      // A resumed session has only the leaf, without intermediates. A full handshake may bring them.
      if (!isResumed || !isAuthorized || tls!.knowsPathOf(leaf)) return verdict
      return reconnects.refusalOf(leaf, judgement) ?? again(judgement)
    }
    if (isAuthorized) {
      reconnects.admitted(leaf)
      return verdictOf(judgement)
    }
    const reason = String(socket.authorizationError)
    if (!isResumed && isOfAnotherHost) return { judgement, refusal: 'misdirected', reason }
    if (!isResumed && wasValid) reconnects.distrusted(leaf)
    // OpenSSL refused it before its CA was added, or before its validity began. Each resumption would repeat that.
    if (!reconnects.isDistrusted(leaf)) return again(judgement)
    tls!.renewSessionsWithNextCa()
    return { judgement, refusal: refusalOf(reason), reason }
  }

  function again (judgement: Judgement): Verdict {
    tls!.renewSessions()
    return { judgement, refusal: 'misdirected', reason: null }
  }

  return {
    certificateOf: (connection) => (connection as { [kCertificate]?: PeerCertificate })[kCertificate] ?? read(connection),
    trustFor,
    refusalOfNone,
    judge (found, request, connection) {
      const now = Date.now()
      const store = trustFor(request, connection)
      if (store === 'misdirected') return store
      if (store === undefined) return refusalByNode(connection) ?? refusalOfDates(found, now)
      return keptVerdict(found, store, now) ?? keepVerdict(found, verdictOnSocket(store.judge(found.leaf!, found.others, now), found.leaf!, connection))
    }
  }
}

export function refusalIn (verdict: Verdict | Refusal | undefined): Refusal | undefined {
  return typeof verdict === 'object' ? verdict.refusal : verdict
}

/**
 * Why Node has refused the certificate of a connection, on a server without `enableTls`. `authorized` and
 * `authorizationError` are read again on every request: a TLS 1.2 renegotiation may change one and not the other. A resumed
 * session without a certificate is "authorized" in Node before 24.21 (nodejs/node#35317).
 */
function refusalByNode (connection: Connection | undefined): Refusal | undefined {
  const socket = socketOf(connection)
  if (socket === undefined) return 'certificateRequired'
  const error = errorOf(connection)
  return socket.authorized === true && error === null ? undefined : refusalOf(error)
}

function errorOf (connection: Connection | undefined): string | null | undefined {
  return socketOf(connection)?.authorizationError as unknown as string | null | undefined
}

// The host of a request, where hosts have their own client CAs
//
// A kept or HTTP/2 connection takes requests for any host (RFC 9113 §9.1.1). The CAs of the host that the request names count.

/** Hosts, and characters, in X-Forwarded-Host. Each proxy adds one host, of 253 characters (RFC 1035 §2.3.4) and a port. */
const MOST_FORWARDED = 8
const LONGEST_FORWARDED = 2_048

/** Every host that a request names where a handler may read it; `''` for a malformed one. `undefined`: there are too many. */
function namedHosts ({ raw, originalUrl }: Targets): string[] | undefined {
  const { headers: { host, ':authority': authority, 'x-forwarded-host': forwarded } } = raw
  const named = new Set([host, authority, authorityOf(originalUrl), authorityOf(raw.url!)] as Array<string | undefined>)
  // With Fastify's trustProxy, `request.hostname` is from this header.
  const text = String(forwarded ?? '')
  if (text.length > LONGEST_FORWARDED) return undefined
  const others = text.split(',', MOST_FORWARDED + 1)
  if (others.length > MOST_FORWARDED) return undefined
  for (const other of others) named.add(other.trim() || undefined)
  return [...named].flatMap((name) => name === undefined ? [] : parseHost(name)?.name ?? '')
}

/** The authority of an absolute-form target, which takes precedence over Host (RFC 9112 §3.2.2). */
function authorityOf (target: string): string | undefined {
  return target.startsWith('/') ? undefined : /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1]
}

/**
 * The key in `clientCertificates` of the host that a request names, `''` for any other host; `undefined` where it names too
 * many hosts, or hosts with different client CAs.
 */
export function hostGroupOf (request: Targets, tls: TlsInterface): string | undefined {
  const groups = namedHosts(request)?.map((host) => tls.hostGroupOf(host))
  if (groups === undefined) return undefined
  const [group = '', ...others] = groups
  return others.every((other) => tls.trustOf(other) === tls.trustOf(group)) ? group : undefined
}

/** Which client CAs a certificate was judged by, for the log. */
export function trustOfHost (request: FastifyRequest, tls: TlsInterface): string {
  const group = hostGroupOf(request, tls)
  if (group === undefined) return 'nobody: the hosts that are named have different authorities'
  return group === '' ? 'nobody: the host is not in clientCertificates' : `clientCertificates['${group}']`
}

// Clients that reconnect in vain

/** Leaves, and addresses, that are remembered; beyond, the oldest is forgotten. */
const MOST_REMEMBERED = 1_000
/** Milliseconds for which an unknown revocation is remembered, because it may be known later. */
const UNKNOWN_FOR = 60_000
/** Milliseconds for which an address is remembered: other clients may have the same. Sessions of TLS last half as long in Node. */
const NONE_FOR = 600_000

interface Refused {
  readonly verdict: Verdict
  /** Milliseconds by `performance.now()`. */
  readonly until: number
}

/** Remembers what full handshakes have refused, so that a client is not asked again and again to reconnect. */
export class Reconnects {
  readonly #refused = new Map<string, Refused>()
  readonly #distrusted = new Map<string, true>()
  /** By address and host group: until when, in milliseconds by `performance.now()`. */
  readonly #withoutAny = new Map<string, number>()

  /** Our verification has refused a certificate in a full handshake, with all intermediates that the client sent. */
  refused ({ fingerprint256 }: X509Certificate, verdict: Verdict): void {
    remember(this.#refused, fingerprint256, { verdict, until: verdict.refusal === 'revocationUnknown' ? performance.now() + UNKNOWN_FOR : Infinity })
  }

  /** The verdict of a full handshake under the same trust; `undefined` where there was none. */
  refusalOf ({ fingerprint256 }: X509Certificate, judgement: Judgement): Verdict | undefined {
    const known = this.#refused.get(fingerprint256)
    if (known === undefined || performance.now() > known.until) return undefined
    const { refusal, reason, judgement: { store, epoch } } = known.verdict
    return store === judgement.store && epoch === judgement.epoch ? { judgement, refusal, reason } : undefined
  }

  /** OpenSSL has refused a certificate that our verification admits. */
  distrusted ({ fingerprint256 }: X509Certificate): void {
    remember(this.#distrusted, fingerprint256, true)
  }

  isDistrusted ({ fingerprint256 }: X509Certificate): boolean {
    return this.#distrusted.has(fingerprint256)
  }

  /** In a full handshake, a client was asked for a certificate of this host group, and had none. */
  hadNone ({ remoteAddress }: TLSSocket, hostGroup: string): void {
    remember(this.#withoutAny, `${remoteAddress} ${hostGroup}`, performance.now() + NONE_FOR)
  }

  /** So a client that resumes a session has most likely been asked, too. */
  isKnownToHaveNone ({ remoteAddress }: TLSSocket, hostGroup: string): boolean {
    const until = this.#withoutAny.get(`${remoteAddress} ${hostGroup}`)
    return until !== undefined && performance.now() <= until
  }

  admitted ({ fingerprint256 }: X509Certificate): void {
    this.#refused.delete(fingerprint256)
    this.#distrusted.delete(fingerprint256)
  }
}

function remember<Value> (map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key)
  if (map.size === MOST_REMEMBERED) map.delete(map.keys().next().value!)
  map.set(key, value)
}
