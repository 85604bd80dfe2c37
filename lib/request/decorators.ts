/**
 * The request decorators: `httpSecurity`, `clientCertificate`, `clientCertificateGetDetails` and `clientCertificateValue`.
 * Begin with {@link decorateRequests}.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { CertificateDetails, RequestSecurity } from '../../types/index.ts'
import { LEVELS, MTLS } from '../levels.ts'
import { kindIn, rankIn } from '../routes/route-table.ts'
import type { PeerCertificate } from '../trust/peer-certificate.ts'
import type { CertificateNames } from '../x509/details.ts'
import { refusalOf } from '../x509/reasons.ts'
import { certificateReader } from './certificate-reader.ts'
import { connectionOf, socketOf } from './connection.ts'
import type { Enforcement } from './enforce.ts'
import type { Rules } from './rules.ts'
import type { Transport } from './transport.ts'
import type { Verdicts } from './client-certificate.ts'

export function decorateRequests (app: FastifyInstance, { entryFor }: Enforcement, transport: Transport, verdicts: Verdicts, rules: () => Rules | undefined): void {
  app.decorateRequest('httpSecurity', {
    getter (this: FastifyRequest): RequestSecurity {
      const entry = entryFor(this)
      return Object.freeze({
        secure: transport.isSecure(this.raw, connectionOf(this)),
        level: LEVELS[entry === undefined ? MTLS : rankIn(entry)]!,
        kind: entry === undefined ? undefined : kindIn(entry),
        client: rules()?.clientOf(this) ?? null
      })
    }
  })
  app.decorateRequest('clientCertificate', {
    getter (this: FastifyRequest) {
      return validLeafOf(this, verdicts) ?? null
    }
  })
  app.decorateRequest('clientCertificateGetDetails', function (this: FastifyRequest) {
    return detailsOf(this, verdicts)
  })
  app.decorateRequest('clientCertificateValue', function (this: FastifyRequest, key: string) {
    // Another document may give it another name: it is not kept as a value of the certificate.
    if (String(key).toLowerCase() === 'client') return rules()?.clientOf(this)?.name ?? ''
    return valueOf(this, verdicts, key)
  })
}

// The client certificate, worked out once for each connection, or once for each certificate that a proxy forwards

/** The details where none was presented. */
export const ABSENT: CertificateDetails = Object.freeze({
  isPresent: false,
  isValid: false,
  flags: 0,
  cookie: '',
  subject: '',
  issuer: '',
  serialNumber: '',
  validFrom: null,
  validUntil: null,
  serverSubject: '',
  serverIssuer: ''
})

/** What has been worked out for a peer certificate. */
interface Memo {
  /** `null`: not asked for yet. */
  server: X509Certificate | undefined | null
  /** The details while the certificate is valid, and those for when it is not. */
  valid?: CertificateDetails
  invalid?: CertificateDetails
  readonly values: Map<string, string>
}
const memos = new WeakMap<PeerCertificate, Memo>()

/** The details of the peer certificate, valid or not. */
export function detailsOf (request: FastifyRequest, verdicts: Verdicts): CertificateDetails {
  const presented = verdicts.presentedBy(request)
  return describe(request, presented, verdicts.isValid(presented, request), verdicts)
}

/** The certificate where it is valid, and not only described. */
function validLeafOf (request: FastifyRequest, { presentedBy, isValid, leafOf }: Verdicts): X509Certificate | undefined {
  return isValid(presentedBy(request), request) ? leafOf(request) : undefined
}

/** A value of a valid certificate only, because an attacker can make a self-signed one with `CN=admin`. */
function valueOf (request: FastifyRequest, verdicts: Verdicts, key: string): string {
  const presented = verdicts.presentedBy(request)
  if (!verdicts.isValid(presented, request) || typeof key !== 'string') return ''
  const memo = memoOf(presented)
  // In lower case, because a key in mixed case has 2 ** length spellings.
  const name = key.toLowerCase()
  let value = memo.values.get(name)
  if (value === undefined) {
    // Getters, so that only what the key needs is worked out: Node takes longest for the server's own certificate.
    const { certificateValue, knownOf } = certificateReader()
    value = certificateValue(name, {
      get certificate () { return knownOf(presented) },
      get details () { return describe(request, presented, true, verdicts) },
      get server () { return serverCertificateOf(request, presented, memo) }
    })
    // Only known keys have a value, so that the map stays small.
    if (value !== '') {
      memo.values.set(name, value)
      presented.grow?.(bytesOf([name, value]))
    }
  }
  return value
}

function describe (request: FastifyRequest, presented: PeerCertificate, isValid: boolean, { reasonOf }: Verdicts): CertificateDetails {
  if (!presented.isPresent) return ABSENT
  const memo = memoOf(presented)
  const name = isValid ? 'valid' : 'invalid'
  const known = memo[name]
  if (known !== undefined) return known
  const { describeCertificate, knownOf } = certificateReader()
  const details = describeCertificate(knownOf(presented), {
    isValid,
    isIssuerKnown: isValid || refusalOf(reasonOf(request)) !== 'certificateUntrusted',
    server: serverNamesFor(serverCertificateOf(request, presented, memo))
  })
  presented.grow?.(bytesOf(Object.values(details)))
  return (memo[name] = details)
}

/** Bytes of a value that is kept, estimated: two for a character, and some for objects. */
function bytesOf (parts: readonly unknown[]): number {
  return parts.reduce((sum: number, part) => sum + BYTES_A_PART + (typeof part === 'string' ? 2 * part.length : 0), 0)
}

const BYTES_A_PART = 64
/** With its Map, and its place in the WeakMap. */
const BYTES_A_MEMO = 512

function memoOf (presented: PeerCertificate): Memo {
  let memo = memos.get(presented)
  if (memo === undefined) {
    memo = { server: null, values: new Map() }
    memos.set(presented, memo)
    presented.grow?.(BYTES_A_MEMO)
  }
  return memo
}

/** `undefined` behind a proxy, which presents its own certificate to clients. */
function serverCertificateOf (request: FastifyRequest, { isForwarded }: PeerCertificate, memo: Memo): X509Certificate | undefined {
  if (memo.server === null) memo.server = isForwarded ? undefined : socketOf(connectionOf(request))?.getX509Certificate()
  return memo.server
}

/** Server certificates whose names are cached, for all connections. */
const MOST_SERVERS = 64
const namesByFingerprint = new Map<string, CertificateNames>()

function serverNamesFor (server: X509Certificate | undefined): CertificateNames | undefined {
  if (server === undefined) return undefined
  const { fingerprint256 } = server
  let names = namesByFingerprint.get(fingerprint256)
  if (names === undefined) {
    if (namesByFingerprint.size === MOST_SERVERS) namesByFingerprint.clear()
    const { namesOf, WholeCertificate } = certificateReader()
    names = namesOf(new WholeCertificate(server))
    namesByFingerprint.set(fingerprint256, names)
  }
  return names
}
