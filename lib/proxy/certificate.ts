/**
 * The client certificate that a trusted proxy forwards: read strictly, judged once, and remembered by what the header
 * says, never by the connection it came on, which carries many clients.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { reasonNamed, refusalOf } from '../certificate/reasons.ts'
import type { Refusal } from '../errors.ts'
import { type PeerCertificate, noPeerCertificate, keptVerdict, peerCertificate, refusalOfDates, verdictOf } from '../trust/presented.ts'
import type { TrustOptions } from '../trust/options.ts'
import type { TrustStore } from '../trust/store.ts'
import { ABSENT, MALFORMED, chainIn } from './chain.ts'
import { createReadRawHeaders, isNamedIn } from './lines.ts'
import { CHAIN_HEADER, type ForwardedBy, PRESETS, type VerdictHeader } from './presets.ts'

export interface CertificateHeaders extends ForwardedBy {
  /** Of XFCC: how many trusted proxies have added an element of their own, the nearest one included. */
  readonly hops: number
}

const withoutCertificate = (refusal: Refusal, reason?: string): PeerCertificate => noPeerCertificate({ isForwarded: true, refusal, reason })

const WITHOUT_CERTIFICATE = withoutCertificate('certificateRequired')

/** What proxies write in place of a value that they do not have: nothing, `(null)` (Apache), `{name}` (Caddy). */
const PLACEHOLDER = /^(?:\(null\)|\{[^{}]*\})?$/

/** Every header that is believed for a certificate. */
export function certificateHeaderNames ({ header, encoding, verified }: ForwardedBy): [certificate: string] | [certificate: string, companion: string] {
  if (typeof verified === 'object') return [header, verified.header]
  return verified === 'here' && encoding === 'rfc9440' ? [header, CHAIN_HEADER] : [header]
}

export interface ForwardedOptions {
  readonly certificate: CertificateHeaders | undefined
  /** What to verify by, where that is done here. */
  readonly authorities: TrustOptions | undefined
}

/** What an app needs to read what its proxy forwards; what it verifies by is watched until it closes. */
export async function openForwarded (app: FastifyInstance, proxy: ForwardedOptions | undefined): Promise<ForwardedReader | undefined> {
  if (proxy?.certificate === undefined) return undefined
  if (proxy.authorities === undefined) return await createForwardedReader(proxy.certificate, undefined)
  // Loaded only where certificates are verified here.
  const { ClientTrust } = await import('../trust/client-trust.ts')
  const trust = await ClientTrust.open(proxy.authorities, { role: 'proxy', log: (level, message, code) => app.log[level]({ code }, `http-security: ${message}`) })
  for (const warning of trust.warnings) app.log.warn(`http-security: ${warning}`)
  trust.look()
  trust.watch()
  app.addHook('onClose', async () => trust.close())
  return await createForwardedReader(proxy.certificate, trust.store)
}

/** What of a request tells which certificate it came with. */
export interface Received {
  readonly rawHeaders: readonly string[]
  /** Node joins all lines of `Connection`. */
  readonly headers: { readonly connection?: string | undefined }
}

export interface ForwardedReader {
  /** @param now milliseconds since the epoch */
  read (received: Received, now: number): PeerCertificate
  /** What certificates are judged by, for `verified: 'here'`. */
  readonly trust: TrustStore | undefined
}

/** @param trust for `verified: 'here'` */
export async function createForwardedReader (headers: CertificateHeaders, trust: TrustStore | undefined): Promise<ForwardedReader> {
  const { verified, encoding } = headers
  const names = certificateHeaderNames(headers)
  const shortest = Math.min(...names.map(({ length }) => length))
  const readLines = createReadRawHeaders(names)
  // Loaded only where a proxy forwards certificates.
  const { createVerifiedCache } = await import('./known.ts')
  const known = createVerifiedCache<PeerCertificate>(headers)

  function read ({ rawHeaders, headers: { connection } }: Received, now: number): PeerCertificate {
    const { certificate, companion, repeated } = readLines(rawHeaders)
    if (repeated !== undefined) return withoutCertificate('badRequest', `${repeated} is there twice`)
    if (certificate === undefined) return WITHOUT_CERTIFICATE
    const hopByHop = hopByHopIn(connection)
    if (hopByHop !== undefined) return withoutCertificate('certificateRequired', `${hopByHop} is named in Connection, so nobody knows who wrote it`)
    const isVerified = typeof verified !== 'object' || companion === verified.value
    const chain = verified === 'here' ? companion : undefined
    const remembered = isVerified ? known.get(certificate, chain) : undefined
    if (remembered !== undefined) return remembered
    if (!isVerified) return rejected(certificate, companion, verified)
    const found = readChain(certificate, chain)
    // Whatever else clients may make a proxy forward takes no room.
    if (counts(found, now)) known.set(certificate, chain, found)
    return found
  }

  function counts (found: PeerCertificate, now: number): boolean {
    if (found.leaf === undefined || found.refusal !== undefined) return false
    if (trust === undefined) return refusalOfDates(found, now) === undefined
    found.verdict = keptVerdict(found, trust, now) ?? verdictOf(trust.judge(found.leaf, found.others, now))
    return found.verdict.refusal === undefined
  }

  function hopByHopIn (connection: string | undefined): string | undefined {
    // Nearly all are `close` or `keep-alive`.
    if (connection === undefined || connection.length < shortest) return undefined
    for (const name of names) if (isNamedIn(connection, name)) return name
    return undefined
  }

  /** Forwarded by a proxy that has verified it, and says that it is not valid: told in the log and in the details. */
  function rejected (certificate: string, verdict: string | undefined, { header, value }: VerdictHeader): PeerCertificate {
    const found = readChain(certificate, undefined)
    if (found === WITHOUT_CERTIFICATE) return found
    if (verdict === undefined) return withoutCertificate('badRequest', `${header} is missing`)
    if (found.leaf === undefined) return found
    const reason = reasonNamed(verdict) ?? `${header} is ${verdict === '' ? 'empty' : verdict}, not ${value}`
    return { ...found, refusal: refusalOf(reason), reason }
  }

  function readChain (text: string, companion: string | undefined): PeerCertificate {
    const chain = chainIn(headers, text, companion)
    if (chain === ABSENT) return withoutCertificate('certificateRequired', `${headers.header} tells of a client and has no Cert`)
    if (chain === MALFORMED) return PLACEHOLDER.test(text) ? WITHOUT_CERTIFICATE : withoutCertificate('badRequest', `${headers.header} is not exactly a certificate in ${encoding}`)
    const [leaf, ...others] = chain
    return peerCertificate(leaf, { others, isForwarded: true })
  }

  return { read, trust }
}

/** The header of another proxy than the one that was configured, for the log: nobody else would tell. */
export function otherPresetIn ({ header }: ForwardedBy, headers: IncomingHttpHeaders): string | undefined {
  if (headers[header] !== undefined) return undefined
  const stray = Object.values(PRESETS).find((preset) => headers[preset.header] !== undefined)
  return stray === undefined ? undefined : `there is no ${header}, but ${stray.header}, which proxy.certificate does not read`
}
