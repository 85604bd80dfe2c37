/**
 * The client certificate that a trusted proxy forwards: read strictly, judged once, and remembered by what the header
 * says, never by the connection it came on, which carries many clients.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { type Presented, absent, presented } from '../certificate/presented.ts'
import { reasonNamed, refusalOf } from '../certificate/reasons.ts'
import type { Refusal } from '../errors.ts'
import type { ClientCertificatesOptions } from '../material/authorities.ts'
import type { Located } from '../material/source.ts'
import type { Authorities } from './authorities.ts'
import { ABSENT, MALFORMED, chainIn } from './chain.ts'
import { createReadLines, isNamedIn } from './lines.ts'
import { CHAIN_HEADER, type ForwardedBy, PRESETS, type Verdict } from './presets.ts'

export interface CertificateHeaders extends ForwardedBy {
  /** Of XFCC: how many trusted proxies have added an element of their own, the nearest one included. */
  readonly hops: number
}

const nobody = (refusal: Refusal, reason?: string): Presented => absent({ isForwarded: true, refusal, reason })

const NOBODY = nobody('certificateRequired')

/** What proxies write in place of a value that they do not have: nothing, `(null)` (Apache), `{name}` (Caddy). */
const PLACEHOLDER = /^(?:\(null\)|\{[^{}]*\})?$/

/** Every header that is believed for a certificate. */
export function namesOf ({ header, encoding, verified }: ForwardedBy): [certificate: string] | [certificate: string, beside: string] {
  if (typeof verified === 'object') return [header, verified.header]
  return verified === 'here' && encoding === 'rfc9440' ? [header, CHAIN_HEADER] : [header]
}

export interface ForwardedOptions {
  readonly certificate: CertificateHeaders | undefined
  /** Whom to verify by, where that is done here. */
  readonly authorities: ClientCertificatesOptions<Located> | undefined
}

/** What an app needs to read what its proxy forwards; authorities are watched until it closes. */
export async function openForwarded (app: FastifyInstance, proxy: ForwardedOptions | undefined): Promise<ReadForwarded | undefined> {
  if (proxy?.certificate === undefined) return undefined
  if (proxy.authorities === undefined) return await createReadForwarded(proxy.certificate, undefined)
  // Loaded for whom it verifies.
  const { Authorities } = await import('./authorities.ts')
  const authorities = await Authorities.read(proxy.authorities, app.log)
  app.addHook('onClose', async () => authorities.close())
  return await createReadForwarded(proxy.certificate, authorities)
}

/** What of a request tells which certificate it came with. */
export interface Received {
  readonly rawHeaders: readonly string[]
  /** Node joins all lines of `Connection`. */
  readonly headers: { readonly connection?: string | undefined }
}

/** @param now milliseconds since the epoch */
export type ReadForwarded = (received: Received, now: number) => Presented

/** @param authorities for `verified: 'here'` */
export async function createReadForwarded (headers: CertificateHeaders, authorities: Authorities | undefined): Promise<ReadForwarded> {
  const { verified, encoding } = headers
  const names = namesOf(headers)
  const shortest = Math.min(...names.map(({ length }) => length))
  const readLines = createReadLines(names)
  // Loaded for whom a proxy forwards certificates.
  const { createKnown } = await import('./known.ts')
  const known = createKnown<Presented>(headers)

  return function readForwarded ({ rawHeaders, headers: { connection } }, now) {
    const { certificate, beside, repeated } = readLines(rawHeaders)
    if (repeated !== undefined) return nobody('badRequest', `${repeated} is there twice`)
    if (certificate === undefined) return NOBODY
    const hopByHop = namedIn(connection)
    if (hopByHop !== undefined) return nobody('certificateRequired', `${hopByHop} is named in Connection, so nobody knows who wrote it`)
    const isVouchedFor = typeof verified !== 'object' || beside === verified.value
    const chain = verified === 'here' ? beside : undefined
    const remembered = isVouchedFor ? known.get(certificate, chain) : undefined
    if (remembered !== undefined && remembered.term.isInForce && isIn(remembered, now)) return remembered
    if (!isVouchedFor) return rejected(certificate, beside, verified, now)
    const read = parse(certificate, chain, now)
    // Whatever else clients may make a proxy forward takes no room.
    if (read.refusal === undefined && isIn(read, now)) known.set(certificate, chain, read)
    return read
  }

  function namedIn (connection: string | undefined): string | undefined {
    // Nearly all are `close` or `keep-alive`.
    if (connection === undefined || connection.length < shortest) return undefined
    for (const name of names) if (isNamedIn(connection, name)) return name
    return undefined
  }

  /** Forwarded by a proxy that has verified it, and says that it is not valid: told in the log and in the details. */
  function rejected (certificate: string, verdict: string | undefined, { header, value }: Verdict, now: number): Presented {
    const read = parse(certificate, undefined, now)
    if (read === NOBODY) return read
    if (verdict === undefined) return nobody('badRequest', `${header} is missing`)
    if (read.leaf === undefined) return read
    const reason = reasonNamed(verdict) ?? `${header} is ${verdict === '' ? 'empty' : verdict}, not ${value}`
    return Object.freeze({ ...read, refusal: refusalOf(reason), reason })
  }

  function parse (text: string, beside: string | undefined, now: number): Presented {
    const chain = chainIn(headers, text, beside)
    if (chain === ABSENT) return nobody('certificateRequired', `${headers.header} tells of a client and has no Cert`)
    if (chain === MALFORMED) return PLACEHOLDER.test(text) ? NOBODY : nobody('badRequest', `${headers.header} is not exactly a certificate in ${encoding}`)
    const [leaf, ...others] = chain
    const { error, from, until, term } = authorities?.verify(leaf, others, now) ?? {}
    return presented(leaf, { from, until, term, isForwarded: true, refusal: error === undefined ? undefined : refusalOf(error), reason: error })
  }
}

/** Neither comparison holds for a date that could not be read. */
function isIn ({ from, until }: Presented, now: number): boolean {
  return now >= from && now <= until
}

/** The header of another proxy than the one that was configured, for the log: nobody else would tell. */
export function strayIn ({ header }: ForwardedBy, headers: IncomingHttpHeaders): string | undefined {
  if (headers[header] !== undefined) return undefined
  const stray = Object.values(PRESETS).find((preset) => headers[preset.header] !== undefined)
  return stray === undefined ? undefined : `there is no ${header}, but ${stray.header}, which proxy.certificate does not read`
}
