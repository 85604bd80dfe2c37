/**
 * The judgement on a client certificate, under the trust in force: that of a connection, where `socket.authorized` alone
 * can be true for an anonymous client, or the one that a trusted proxy forwards with a request.
 */
import type { X509Certificate } from 'node:crypto'
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

/** What was presented, and counts. */
type Valid = PeerCertificate & { readonly leaf: X509Certificate }

/** What an application knows of the certificates that its clients presented. */
export interface Verdicts {
  /**
   * The certificate that comes with a request: read once a connection, or once a request where a proxy forwards it. None
   * on the connection of a proxy, whose certificate is its own.
   */
  presentedBy (request: FastifyRequest, connection?: Connection): PeerCertificate
  /** Why it does not count, or `undefined` where it does. What is not known yet does not count. */
  judge (request: FastifyRequest, connection?: Connection): Refusal | undefined
  /** Whether what came with a request counts now: that of a connection which has gone may not any more. */
  isValid (found: PeerCertificate, request: FastifyRequest): found is Valid
  /** What has to be waited for until it is known whether it counts; undefined where it is known. */
  pendingFor (request: FastifyRequest): Promise<unknown> | undefined
  /** What verification has found, in the words of OpenSSL or of a proxy; null where it is content. */
  reasonOf (request: FastifyRequest): string | null
  /** Whether the certificate of a request that was admitted by it still counts, or is not known not to. */
  stillCounts (request: FastifyRequest): boolean
  /** Whether the client has to connect again to fare better: OpenSSL has refused its certificate, and will not look again. */
  isStuck (request: FastifyRequest): boolean
  /** Whether anything has looked at the certificate that a proxy forwards with a request, or for one. */
  dependsOnForwarded (raw: object): boolean
}

const NO_CERTIFICATE = noPeerCertificate()

export function createVerdicts (transport: Transport, tls: TlsInterface | undefined, forwarded: ForwardedReader | undefined): Verdicts {
  /** On the connection itself, which is found faster than anything beside it. */
  const kPresented = Symbol('fastify-http-security presented')
  /** On a request: what was forwarded with it. Never on a connection, which carries the requests of many clients. */
  const kForwarded = Symbol('fastify-http-security forwarded')
  type Carrying = RawRequest & { [kForwarded]?: PeerCertificate }
  const reconnects = new Reconnects()

  function presentedOn (connection: Connection | undefined): PeerCertificate {
    if (connection === undefined) return NO_CERTIFICATE
    return (connection as { [kPresented]?: PeerCertificate })[kPresented] ?? read(connection)
  }

  function read (connection: Connection): PeerCertificate {
    const socket = tlsSocketOf(connection)
    // Of a connection that has gone, it is not known any more who was at the other end.
    if (socket === undefined || !transport.isDirectTls(connection)) return NO_CERTIFICATE
    // A client that renegotiates on TLS 1.2 becomes another one on a connection that was judged before.
    socket.disableRenegotiation()
    const leaf = socket.getPeerX509Certificate()
    const others = tls === undefined || isSimulated(socket) ? undefined : tls.handshakeOf(socket).others
    // The certificate cannot change under the connection from now on.
    const found = leaf === undefined ? NO_CERTIFICATE : peerCertificate(leaf, { others })
    Object.defineProperty(connection, kPresented, { value: found })
    return found
  }

  function presentedWith (raw: RawRequest, connection: Connection | undefined): PeerCertificate {
    if (forwarded === undefined) return presentedOn(connection)
    // Also of a proxy's connection that has gone since.
    const kept = (raw as Carrying)[kForwarded]
    if (kept !== undefined) return kept
    if (!transport.isProxied(connection)) return presentedOn(connection)
    if (!transport.saysSecure(raw)) return NO_CERTIFICATE
    return ((raw as Carrying)[kForwarded] = forwarded.read(raw, Date.now()))
  }

  function verdictOn (found: PeerCertificate, connection: Connection | undefined, now: number, store: TrustStore): Verdict {
    const kept = keptVerdict(found, store, now)
    if (kept !== undefined) return kept
    const judgement = store.judge(found.leaf!, found.others, now)
    return keepVerdict(found, found.isForwarded ? verdictOf(judgement) : verdictOnSocket(judgement, found.leaf!, connection))
  }

  /** `authorized` is a condition of a full handshake: what OpenSSL has refused there is admitted by nothing else. */
  function verdictOnSocket (judgement: Judgement, leaf: X509Certificate, connection: Connection | undefined): Verdict {
    const socket = tlsSocketOf(connection)
    if (socket === undefined) return { judgement, refusal: 'certificateRequired', reason: null }
    const { isResumed, wasValid, host } = tls!.handshakeOf(socket)
    const { error, store } = judgement
    const isAuthorized = socket.authorized === true && (socket.authorizationError ?? null) === null
    // The client was asked for certificates of other CAs, and may have one of these as well.
    const isOfAnotherHost = host !== undefined && tls!.trustOf(host) !== store
    if (error !== undefined) {
      const verdict = verdictOf(judgement)
      if (!isResumed) reconnects.refused(leaf, verdict)
      if (verdict.refusal !== 'certificateUntrusted') return verdict
      if (isOfAnotherHost) return { ...verdict, refusal: 'misdirected' }
      // Of its certificates, a resumed session brings the leaf alone.
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
    // It was refused before its authority was there, or before it began: a resumption would say so for ever.
    if (!reconnects.isDistrusted(leaf)) return again(judgement)
    tls!.renewSessionsWithNextCa()
    return { judgement, refusal: refusalOf(reason), reason }
  }

  function again (judgement: Judgement): Verdict {
    tls!.renewSessions()
    return { judgement, refusal: 'misdirected', reason: null }
  }

  /** By whom the certificate of a request is judged; undefined: by Node or by the proxy, once and for all. */
  function trustFor (request: FastifyRequest, { isForwarded }: PeerCertificate, connection: Connection | undefined): TrustStore | 'misdirected' | undefined {
    if (isForwarded) return forwarded!.trust
    const socket = tlsSocketOf(connection)
    if (tls === undefined || (socket !== undefined && isSimulated(socket))) return undefined
    if (!tls.differsByHost) return tls.trustOf('')
    const host = hostGroupOf(request, tls)
    return host === undefined ? 'misdirected' : tls.trustOf(host)
  }

  function judge (found: PeerCertificate, request: FastifyRequest, connection: Connection | undefined): Verdict | Refusal | undefined {
    const { leaf, refusal } = found
    if (leaf === undefined) return refusal ?? refusalOfNone(request, connection)
    if (refusal !== undefined) return refusal
    const now = Date.now()
    const store = trustFor(request, found, connection)
    if (store === 'misdirected') return store
    if (store !== undefined) return verdictOn(found, connection, now, store)
    return (found.isForwarded ? undefined : refusalByNode(connection)) ?? refusalOfDates(found, now)
  }

  /** A client that could not have been asked for the certificate that this host's clients have may have one all the same. */
  function refusalOfNone (request: FastifyRequest, connection: Connection | undefined): Refusal {
    if (tls === undefined || !tls.differsByHost || !transport.isDirectTls(connection)) return 'certificateRequired'
    const socket = tlsSocketOf(connection)
    if (socket === undefined || isSimulated(socket)) return 'certificateRequired'
    const [asked, host] = [tls.handshakeOf(socket).host, hostGroupOf(request, tls)]
    return host === undefined || (asked !== undefined && tls.trustOf(asked) !== tls.trustOf(host)) ? 'misdirected' : 'certificateRequired'
  }

  return {
    presentedBy: (request, connection = connectionOf(request)) => presentedWith(request.raw, connection),
    judge: (request, connection = connectionOf(request)) => refusalIn(judge(presentedWith(request.raw, connection), request, connection)),
    isValid: (found, request): found is Valid => refusalIn(judge(found, request, connectionOf(request))) === undefined,
    pendingFor (request) {
      const connection = connectionOf(request)
      const verdict = judge(presentedWith(request.raw, connection), request, connection)
      return typeof verdict === 'object' ? verdict.judgement.pending : undefined
    },
    reasonOf (request) {
      const connection = connectionOf(request)
      const found = presentedWith(request.raw, connection)
      const { leaf, refusal, reason, isForwarded } = found
      if (refusal !== undefined || leaf === undefined) return reason ?? null
      const verdict = judge(found, request, connection)
      if (typeof verdict === 'object') return verdict.reason
      return isForwarded ? reason ?? null : errorOf(connection) ?? null
    },
    stillCounts (request) {
      const connection = connectionOf(request)
      const verdict = judge(presentedWith(request.raw, connection), request, connection)
      return refusalIn(verdict) === undefined || (typeof verdict === 'object' && verdict.judgement.pending !== undefined)
    },
    isStuck (request) {
      const connection = connectionOf(request)
      const { leaf, isForwarded } = presentedWith(request.raw, connection)
      return tls !== undefined && leaf !== undefined && !isForwarded && socketOf(connection)?.authorized !== true
    },
    dependsOnForwarded: (raw) => (raw as Carrying)[kForwarded] !== undefined
  }
}

function refusalIn (verdict: Verdict | Refusal | undefined): Refusal | undefined {
  return typeof verdict === 'object' ? verdict.refusal : verdict
}

/**
 * Why the TLS of a connection does not vouch for its certificate, on a server of options that are not ours. Both are read
 * again on every request: a TLS 1.2 renegotiation may change one and not the other. A resumed session without a
 * certificate is "authorized" in Node before 24.21 (nodejs/node#35317).
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

/**
 * The host that a request names, where hosts have client CAs of their own: HTTP/2 and kept connections take requests for
 * any (RFC 9113 §9.1.1), and the CAs that count are those of the host that is asked for.
 */

/** Each proxy adds one, of 253 characters (RFC 1035 §2.3.4) and a port. */
const MOST_FORWARDED = 8
const LONGEST_FORWARDED = 2_048

/** Every host that a request names, in whatever place handlers may read it; `''` for what is none. `undefined`: there are too many. */
function namedHosts ({ raw, originalUrl }: FastifyRequest): string[] | undefined {
  const { headers: { host, ':authority': authority, 'x-forwarded-host': forwarded } } = raw
  const named = new Set([host, authority, authorityOf(originalUrl), authorityOf(raw.url!)] as Array<string | undefined>)
  // With Fastify's trustProxy, `request.hostname` is what that says.
  const text = String(forwarded ?? '')
  if (text.length > LONGEST_FORWARDED) return undefined
  const others = text.split(',', MOST_FORWARDED + 1)
  if (others.length > MOST_FORWARDED) return undefined
  for (const other of others) named.add(other.trim() || undefined)
  return [...named].flatMap((name) => name === undefined ? [] : parseHost(name)?.name ?? '')
}

/** That of an absolute-form target, which counts before the Host (RFC 9112 §3.2.2). */
function authorityOf (target: string): string | undefined {
  return target.startsWith('/') ? undefined : /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1]
}

/** Which of the hosts with client CAs of their own a request is for; undefined where it names several, or too many. */
export function hostGroupOf (request: FastifyRequest, tls: TlsInterface): string | undefined {
  const groups = namedHosts(request)?.map((host) => tls.hostGroupOf(host))
  if (groups === undefined) return undefined
  const [group = '', ...others] = groups
  return others.every((other) => tls.trustOf(other) === tls.trustOf(group)) ? group : undefined
}

/** By whose CAs the certificate of a request is judged, for the log. */
export function trustOfHost (request: FastifyRequest, tls: TlsInterface): string {
  const group = hostGroupOf(request, tls)
  if (group === undefined) return 'nobody: the hosts that are named have different authorities'
  return group === '' ? 'nobody: the host is not in clientCertificates' : `clientCertificates['${group}']`
}

/**
 * Which clients connect again in vain: what full handshakes have said of leaves that were refused, so that none is sent for
 * another one again and again.
 */

/** Leaves; of more, the first are forgotten. */
const MOST = 1_000
/** Milliseconds. What is not known of a revocation may be known a minute later. */
const PASSING = 60_000

interface Refused {
  readonly verdict: Verdict
  /** By `performance.now()`. */
  readonly until: number
}

export class Reconnects {
  readonly #refused = new Map<string, Refused>()
  readonly #distrusted = new Map<string, true>()

  /** Our verification has refused a certificate, with all that the client had sent. */
  refused ({ fingerprint256 }: X509Certificate, verdict: Verdict): void {
    remember(this.#refused, fingerprint256, { verdict, until: verdict.refusal === 'revocationUnknown' ? performance.now() + PASSING : Infinity })
  }

  /** What a full handshake under the same trust has said; undefined where none was seen here. */
  refusalOf ({ fingerprint256 }: X509Certificate, judgement: Judgement): Verdict | undefined {
    const known = this.#refused.get(fingerprint256)
    if (known === undefined || performance.now() > known.until) return undefined
    const { refusal, reason, judgement: { store, epoch } } = known.verdict
    return store === judgement.store && epoch === judgement.epoch ? { judgement, refusal, reason } : undefined
  }

  /** OpenSSL has refused one that counts for us. */
  distrusted ({ fingerprint256 }: X509Certificate): void {
    remember(this.#distrusted, fingerprint256, true)
  }

  isDistrusted ({ fingerprint256 }: X509Certificate): boolean {
    return this.#distrusted.has(fingerprint256)
  }

  admitted ({ fingerprint256 }: X509Certificate): void {
    this.#refused.delete(fingerprint256)
    this.#distrusted.delete(fingerprint256)
  }
}

function remember<Value> (map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key)
  if (map.size === MOST) map.delete(map.keys().next().value!)
  map.set(key, value)
}
