/**
 * The judgement on a connection's client certificate. `socket.authorized` alone can be true for an anonymous client.
 */
import type { X509Certificate } from 'node:crypto'
import { validityOf } from '../certificate/details.ts'
import type { Refusal } from '../errors.ts'
import { FOREVER, type Term, type TlsLink } from '../link.ts'
import { type Connection, isSimulated, socketOf } from './connection.ts'
import type { Transport } from './secure.ts'

/** What is kept of a connection. The certificate cannot change under it, because renegotiation is off. */
export interface Presented {
  /** The client's own certificate; no verdict stands without one. */
  readonly leaf: X509Certificate | undefined
  /** Milliseconds since the epoch, as in the certificate; NaN where it cannot be read. */
  readonly notBefore: number
  readonly notAfter: number
  /** Whom the server trusted when the connection was made. */
  readonly term: Term
}

/** What an application knows of the certificates that its clients presented. */
export interface Verdicts {
  /** The certificate presented on a connection, read once; none on the connection of a proxy, whose certificate is its own. */
  presentedOn (connection: Connection | undefined): Presented
  /** Why the client certificate on a connection does not count, or `undefined` where it does. */
  judge (connection: Connection | undefined): Refusal | undefined
}

const NOBODY: Presented = Object.freeze({ leaf: undefined, notBefore: NaN, notAfter: NaN, term: FOREVER })

export function createVerdicts (transport: Transport, tls: TlsLink | undefined): Verdicts {
  /** On the connection itself, which is found faster than anything beside it. */
  const kPresented = Symbol('fastify-http-security presented')

  function presentedOn (connection: Connection | undefined): Presented {
    if (connection === undefined) return NOBODY
    return (connection as { [kPresented]?: Presented })[kPresented] ?? read(connection)
  }

  function read (connection: Connection): Presented {
    if (!transport.isOwn(connection)) return NOBODY
    const socket = socketOf(connection)!
    // Whoever renegotiates on TLS 1.2 becomes somebody else on a connection that was judged before.
    socket.disableRenegotiation()
    const leaf = socket.getPeerX509Certificate()
    const presented = leaf === undefined
      ? NOBODY
      : Object.freeze({ leaf, ...validityOf(leaf), term: tls === undefined || isSimulated(socket) ? FOREVER : tls.termOf(socket) })
    Object.defineProperty(connection, kPresented, { value: presented })
    return presented
  }

  return { presentedOn, judge: (connection) => judge(connection, presentedOn(connection)) }
}

/**
 * `authorized` and `authorizationError` are read again on every request, and both: a TLS 1.2 renegotiation may change
 * one and not the other. So is the clock: a verdict outlives its certificate on a connection that is kept alive, and on
 * one that is resumed.
 */
function judge (connection: Connection | undefined, { leaf, notBefore, notAfter, term }: Presented): Refusal | undefined {
  // A resumed session without a certificate is "authorized" in Node before 24.21 (nodejs/node#35317).
  if (leaf === undefined) return 'certificateRequired'
  const socket = socketOf(connection)
  if (socket === undefined) return 'certificateRequired'
  // Whoever was refused before may be welcome by now, and the other way round.
  if (!term.isInForce) return 'misdirected'
  const error = socket.authorizationError as unknown as string | null | undefined
  if (socket.authorized !== true || error !== null) return refusalOf(error)
  const now = Date.now()
  if (now > notAfter) return 'certificateExpired'
  if (now < notBefore) return 'certificateNotYetValid'
  // Neither comparison holds for a date that could not be read.
  return now >= notBefore && now <= notAfter ? undefined : 'certificateInvalid'
}

/** OpenSSL's reasons (`man openssl-verification-options`) by the answer they get; any other is `certificateInvalid`. */
const REFUSALS: ReadonlyMap<string, Refusal> = new Map([
  ['CERT_HAS_EXPIRED', 'certificateExpired'],
  ['CERT_NOT_YET_VALID', 'certificateNotYetValid'],
  ['CERT_REVOKED', 'certificateRevoked'],
  ['CERT_UNTRUSTED', 'certificateUntrusted'],
  ['CERT_SIGNATURE_FAILURE', 'certificateUntrusted'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'certificateUntrusted'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'certificateUntrusted'],
  // A list of an authority that is not trusted, or not any more.
  ['UNABLE_TO_GET_CRL_ISSUER', 'certificateUntrusted'],
  ['UNABLE_TO_GET_ISSUER_CERT', 'certificateUntrusted'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'certificateUntrusted'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'certificateUntrusted']
])

function refusalOf (error: string | null | undefined): Refusal {
  return REFUSALS.get(String(error)) ?? 'certificateInvalid'
}

/** Whether verification failed because no authority that the server trusts issued the certificate. */
export function isIssuerUnknown (connection: Connection | undefined): boolean {
  const error = socketOf(connection)?.authorizationError as unknown as string | null | undefined
  return refusalOf(error) === 'certificateUntrusted'
}
