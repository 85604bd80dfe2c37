/**
 * The client certificate as requests offer it, worked out once a connection.
 */
import type { X509Certificate } from 'node:crypto'
import type { CertificateDetails } from '../../types/index.ts'
import { type ServerNames, describeCertificate, serverNamesOf } from '../certificate/details.ts'
import { certificateValue } from '../certificate/values.ts'
import { type Connection, socketOf } from './connection.ts'
import { type Presented, type Verdicts, isIssuerUnknown } from './verdict.ts'

const ABSENT = describeCertificate(undefined, { isValid: false, isIssuerKnown: false })

/** What has been worked out for a connection's certificate. */
interface Memo {
  /** `null`: not asked for yet. */
  server: X509Certificate | undefined | null
  /** One description while the certificate is valid, and another one after that. */
  valid?: CertificateDetails
  invalid?: CertificateDetails
  readonly values: Map<string, string>
}
const memos = new WeakMap<Presented, Memo>()

/** What a client presented. */
export function detailsOf (connection: Connection | undefined, { presentedOn, judge }: Verdicts): CertificateDetails {
  const presented = presentedOn(connection)
  if (presented.leaf === undefined) return ABSENT
  return describe(connection, presented, judge(connection) === undefined)
}

/** The certificate, where it is valid in every respect but the route's rules. */
export function validLeafOf (connection: Connection | undefined, { presentedOn, judge }: Verdicts): X509Certificate | undefined {
  return judge(connection) === undefined ? presentedOn(connection).leaf : undefined
}

/** A value of a valid certificate: anyone can make themselves one that says `CN=admin`. */
export function valueOf (connection: Connection | undefined, { presentedOn, judge }: Verdicts, key: string): string {
  if (judge(connection) !== undefined || typeof key !== 'string') return ''
  const presented = presentedOn(connection)
  const memo = memoOf(presented)
  // Keys may come from anywhere, in 2 ** length spellings.
  const name = key.toLowerCase()
  let value = memo.values.get(name)
  if (value === undefined) {
    const certificate = presented.leaf!
    // Worked out for who asks for it: Node takes most of its time for the server's own certificate.
    value = certificateValue(name, {
      certificate,
      get details () { return describe(connection, presented, true) },
      get server () { return serverOf(connection, memo) }
    })
    // Those that mean something are few.
    if (value !== '') memo.values.set(name, value)
  }
  return value
}

function describe (connection: Connection | undefined, presented: Presented, isValid: boolean): CertificateDetails {
  const memo = memoOf(presented)
  const name = isValid ? 'valid' : 'invalid'
  memo[name] ??= describeCertificate(presented.leaf, {
    isValid,
    isIssuerKnown: isValid || !isIssuerUnknown(connection),
    server: namesOf(serverOf(connection, memo))
  })
  return memo[name]
}

function memoOf (presented: Presented): Memo {
  let memo = memos.get(presented)
  if (memo === undefined) {
    memo = { server: null, values: new Map() }
    memos.set(presented, memo)
  }
  return memo
}

function serverOf (connection: Connection | undefined, memo: Memo): X509Certificate | undefined {
  if (memo.server === null) memo.server = socketOf(connection)?.getX509Certificate()
  return memo.server
}

/** A server has few certificates, and as many connections as there are clients. */
const MOST_SERVERS = 64
const namesByFingerprint = new Map<string, ServerNames>()

function namesOf (server: X509Certificate | undefined): ServerNames | undefined {
  if (server === undefined) return undefined
  const { fingerprint256 } = server
  let names = namesByFingerprint.get(fingerprint256)
  if (names === undefined) {
    if (namesByFingerprint.size === MOST_SERVERS) namesByFingerprint.clear()
    names = serverNamesOf(server)
    namesByFingerprint.set(fingerprint256, names)
  }
  return names
}
