/**
 * The judgement on a client certificate: that of a connection, where `socket.authorized` alone can be true for an
 * anonymous client, or the one that a trusted proxy forwards with a request.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { type Presented, absent, presented } from '../certificate/presented.ts'
import { refusalOf } from '../certificate/reasons.ts'
import type { Refusal } from '../errors.ts'
import { FOREVER, type TlsLink } from '../link.ts'
import type { ReadForwarded } from '../proxy/certificate.ts'
import { type Connection, type RawRequest, connectionOf, isSimulated, socketOf, tlsSocketOf } from './connection.ts'
import type { Transport } from './secure.ts'

/** What was presented, and counts. */
export type Valid = Presented & { readonly leaf: X509Certificate }

/** What an application knows of the certificates that its clients presented. */
export interface Verdicts {
  /**
   * The certificate that comes with a request: read once a connection, or once a request where a proxy forwards it. None
   * on the connection of a proxy, whose certificate is its own.
   */
  presentedBy (request: FastifyRequest, connection?: Connection, now?: number): Presented
  /** Why it does not count, or `undefined` where it does. */
  judge (request: FastifyRequest, connection?: Connection): Refusal | undefined
  /** Whether what came with a request counts now: that of a connection which has gone may not any more. */
  isValid (presented: Presented, request: FastifyRequest): presented is Valid
  /** What verification has found, in the words of OpenSSL or of a proxy; null where it is content. */
  reasonOf (request: FastifyRequest): string | null
  /** Whether anybody has looked at the certificate that a proxy forwards with a request, or for one. */
  dependsOnForwarded (raw: object): boolean
}

const NOBODY = absent()

export function createVerdicts (transport: Transport, tls: TlsLink | undefined, readForwarded: ReadForwarded | undefined): Verdicts {
  /** On the connection itself, which is found faster than anything beside it. */
  const kPresented = Symbol('fastify-http-security presented')
  /** On a request: what was forwarded with it. Never on a connection, which carries the requests of many clients. */
  const kForwarded = Symbol('fastify-http-security forwarded')
  type Carrying = RawRequest & { [kForwarded]?: Presented }

  function presentedOn (connection: Connection | undefined): Presented {
    if (connection === undefined) return NOBODY
    return (connection as { [kPresented]?: Presented })[kPresented] ?? read(connection)
  }

  function read (connection: Connection): Presented {
    const socket = tlsSocketOf(connection)
    // One that has gone cannot be asked any more.
    if (socket === undefined || !transport.isOwn(connection)) return NOBODY
    // Whoever renegotiates on TLS 1.2 becomes somebody else on a connection that was judged before.
    socket.disableRenegotiation()
    const leaf = socket.getPeerX509Certificate()
    // The certificate cannot change under the connection from now on.
    const found = leaf === undefined ? NOBODY : presented(leaf, { term: tls === undefined || isSimulated(socket) ? FOREVER : tls.termOf(socket) })
    Object.defineProperty(connection, kPresented, { value: found })
    return found
  }

  /** Read again where whom we trust has changed since: there is no connection to the client that could be made anew. */
  function presentedWith (request: FastifyRequest, connection: Connection | undefined, now: number): Presented {
    const raw = request.raw as Carrying
    const kept = raw[kForwarded]
    // Also where an authority or a list has ended meanwhile, of which the certificate itself says nothing.
    if (kept?.term.isInForce === true && !(now > kept.until)) return kept
    if (!transport.isProxied(connection)) return presentedOn(connection)
    if (!transport.saysSecure(raw)) return NOBODY
    return (raw[kForwarded] = readForwarded!(raw, now))
  }

  const presentedBy: Verdicts['presentedBy'] = readForwarded === undefined
    ? (request, connection = connectionOf(request)) => presentedOn(connection)
    : (request, connection = connectionOf(request), now = Date.now()) => presentedWith(request, connection, now)

  return {
    presentedBy,
    judge (request, connection = connectionOf(request)) {
      const now = Date.now()
      return judge(presentedBy(request, connection, now), connection, now)
    },
    isValid: (presented, request): presented is Valid => judge(presented, connectionOf(request), Date.now()) === undefined,
    dependsOnForwarded: (raw) => (raw as Carrying)[kForwarded] !== undefined,
    reasonOf (request) {
      const connection = connectionOf(request)
      const { isForwarded, reason } = presentedBy(request, connection)
      return (isForwarded ? reason : errorOf(connection)) ?? null
    }
  }
}

/**
 * `authorized` and `authorizationError` are read again on every request, and both: a TLS 1.2 renegotiation may change
 * one and not the other. So is the clock: a verdict outlives its certificate on a connection that is kept alive, and on
 * one that is resumed.
 */
function judge ({ leaf, notBefore, notAfter, term, isForwarded, refusal }: Presented, connection: Connection | undefined, now: number): Refusal | undefined {
  // A resumed session without a certificate is "authorized" in Node before 24.21 (nodejs/node#35317).
  if (leaf === undefined) return refusal ?? 'certificateRequired'
  // Whoever was refused before may be welcome by now, and the other way round.
  if (!term.isInForce) return 'misdirected'
  const found = isForwarded ? refusal : refusalOn(connection)
  if (found !== undefined) return found
  if (now > notAfter) return 'certificateExpired'
  if (now < notBefore) return 'certificateNotYetValid'
  // Neither comparison holds for a date that could not be read.
  return now >= notBefore && now <= notAfter ? undefined : 'certificateInvalid'
}

/** Why the TLS of a connection does not vouch for its certificate. */
function refusalOn (connection: Connection | undefined): Refusal | undefined {
  const socket = socketOf(connection)
  if (socket === undefined) return 'certificateRequired'
  const error = errorOf(connection)
  return socket.authorized === true && error === null ? undefined : refusalOf(error)
}

function errorOf (connection: Connection | undefined): string | null | undefined {
  return socketOf(connection)?.authorizationError as unknown as string | null | undefined
}
