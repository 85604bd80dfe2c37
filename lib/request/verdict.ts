/**
 * The judgement on a client certificate, under the trust in force: that of a connection, where `socket.authorized` alone
 * can be true for an anonymous client, or the one that a trusted proxy forwards with a request.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { refusalOf } from '../certificate/reasons.ts'
import type { Refusal } from '../errors.ts'
import type { TlsInterface } from '../link.ts'
import type { ForwardedReader } from '../proxy/certificate.ts'
import { type PeerCertificate, type Verdict, noPeerCertificate, keepVerdict, keptVerdict, peerCertificate, refusalOfDates, verdictOf } from '../trust/presented.ts'
import type { Judgement, TrustStore } from '../trust/store.ts'
import { type Connection, type RawRequest, connectionOf, isSimulated, socketOf, tlsSocketOf } from './connection.ts'
import { hostGroupOf } from './hosts.ts'
import { Reconnects } from './reconnects.ts'
import type { Transport } from './secure.ts'

/** What was presented, and counts. */
export type Valid = PeerCertificate & { readonly leaf: X509Certificate }

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
