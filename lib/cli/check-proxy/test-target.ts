/** The test of one URL: all requests of `check-proxy` to it. Begin with `test`. */
import { X509Certificate, randomBytes } from 'node:crypto'
import type { BelievedHeader, ProbeAnswer } from '../../request/probe.ts'
import { isNobodyThere, noProbe, offersHttp2, parseAnswer, type Reply, request, type Target, unreachable } from './probe-request.ts'
import { CANARY_LENGTH, type Canary, type Protocol, WAYS, forgeriesOf, headersOf } from './forgeries.ts'
import { Failure } from '../io.ts'
import { type Before, type Identity, identityOf, leaksIn, leaksOf, leaksOfSelfSigned } from './leaks.ts'
import type { Findings, Tested } from './report.ts'
import { probeBelow } from './targets.ts'

/** After so many requests without an answer, no more are sent. */
const MOST_UNANSWERED = 5

interface TestInput {
  /** The results of the URLs before. */
  readonly reached: readonly Outcome[]
  readonly findings: Findings
  /** Milliseconds for the whole test. */
  readonly most: number
}

export interface Outcome extends Tested {
  readonly headers: readonly BelievedHeader[]
  readonly unanswered: readonly string[]
}

/**
 * Tests one URL.
 *
 * @throws Failure if there is no result at all
 */
export async function test (target: Target, { reached, findings, most }: TestInput): Promise<Outcome> {
  const deadline = Date.now() + most
  const known = knownFrom(reached, target)
  const first = await open(target, 'HTTP/1.1', known)
  const { headers } = first.answer
  const { note } = first
  if (first.hasNoListener) return { url: target.name, protocols: [], forgeries: 0, note, headers, unanswered: [] }
  const protocols: Protocol[] = await hasHttp2(target) ? ['HTTP/1.1', 'HTTP/2'] : ['HTTP/1.1']
  const { canary, key, forged } = await createCanary(first.answer, target)
  const unanswered: string[] = []
  let forgeries = 0
  try {
    for (const protocol of protocols) {
      const before = await open(target, protocol, known)
      if (!before.isRefused) findings.add(leaksOf(before.answer, target), target.name, protocol, undefined)
      for (const forgery of forgeriesOf(before.answer.headers, canary, WAYS[protocol])) {
        if (unanswered.length === MOST_UNANSWERED) break
        if (Date.now() >= deadline) throw new Failure(`${target.name} was left after ${most / 1000} seconds: it answers too slowly for all forgeries`)
        const reply = await request[protocol](target, headersOf(forgery)).catch(() => undefined)
        const leaks = reply && leaksIn(before, reply, forgery, { isPlain: target.isPlain, forged })
        forgeries++
        if (leaks !== undefined) findings.add(leaks, target.name, protocol, forgery)
        else unanswered.push(`${target.name} ${forgery.forged.map(({ header }) => header.name).join(', ')}: no answer of the app, and no refusal of the proxy (${protocol} ${forgery.way})`)
      }
    }
    if (key !== undefined && !target.isPlain) {
      findings.add(leaksOfSelfSigned(await requestWithSelfSigned(target, canary.certificate, key), forged), target.name, 'HTTP/1.1', { way: 'in the handshake', isAll: false })
    }
    // The probe has to answer at the end as well: an expired token, or a proxy that blocks this client, would look like
    // a proxy that lets nothing through.
    const last = await open(target, 'HTTP/1.1', known)
    if (last.note !== note) throw new Failure(`${target.name} has answered in another way in the end: ${last.note ?? 'with a probe'}`)
  } catch (error) {
    // What was found so far is kept.
    unanswered.push((error as Failure).message)
  }
  return { url: target.name, protocols, forgeries, note, headers, unanswered }
}

/** A request with a self-signed client certificate. A proxy that verifies it may end the connection. */
async function requestWithSelfSigned (target: Target, certificate: Buffer, key: string): Promise<Reply | undefined> {
  const cert = new X509Certificate(certificate).toString()
  return await request['HTTP/1.1']({ ...target, tls: { ...target.tls, cert, key } }, {}).catch(() => undefined)
}

async function createCanary ({ headers }: ProbeAnswer, { isPlain }: Target): Promise<{ canary: Canary, forged: Identity, key?: string }> {
  const text = randomBytes(CANARY_LENGTH / 2).toString('hex')
  if (!readsCertificates(headers)) return { canary: { text, certificate: Buffer.alloc(0), isPlain }, forged: { fingerprint256: text, subject: text } }
  const { forgeCertificate } = await import('./forged-certificate.ts')
  const { certificate, key } = await forgeCertificate(text)
  return { canary: { text, certificate, isPlain }, key, forged: identityOf(new X509Certificate(certificate)) }
}

export function readsCertificates (headers: readonly BelievedHeader[]): boolean {
  return headers.some(({ role }) => role === 'certificate')
}

/** What is known of the app from the URLs before. */
interface Known {
  readonly headers: readonly BelievedHeader[]
  /** The probe was reached on the same path: so a refusal is not about an unknown path. */
  readonly isSamePath: boolean
}

function knownFrom (reached: readonly Outcome[], { url }: Target): Known | undefined {
  const [first] = reached
  const probed = reached.filter(({ note }) => note === null).map((outcome) => probeBelow(outcome.url).pathname)
  return first && { headers: first.headers, isSamePath: probed.includes(url.pathname) }
}

interface Opening extends Before {
  /** Nothing listens. */
  readonly hasNoListener: boolean
  /** What answers instead of the probe. */
  readonly note: string | null
}

/** The request without a forgery, with which all others are compared. */
async function open (target: Target, protocol: Protocol, known: Known | undefined): Promise<Opening> {
  const mayRefuse = target.isPlain && known !== undefined
  let reply: Reply
  try {
    reply = await request[protocol](target, {})
  } catch (error) {
    if (mayRefuse && isNobodyThere(error)) return { answer: emptyAnswer(known.headers), isRefused: true, hasNoListener: true, note: 'is fine: nothing listens there' }
    throw unreachable(target, protocol, error)
  }
  const answer = reply.status === 200 ? parseAnswer(reply.body) : undefined
  if (answer !== undefined) return { answer, isRefused: false, hasNoListener: false, note: null }
  const note = mayRefuse ? noteOf(reply, known) : undefined
  if (note === undefined) throw noProbe(target, reply)
  return { answer: emptyAnswer(known!.headers), isRefused: true, hasNoListener: false, note }
}

/** Status codes with which proxies refuse plain HTTP; 400 is for HTTP on an HTTPS port. */
const REFUSALS: ReadonlySet<number> = new Set([400, 403, 421, 426])

/** Only for plain HTTP, where it is fine if the probe is not reached. */
function noteOf ({ status, location = '', body }: Reply, { isSamePath }: Known): string | undefined {
  if (status >= 300 && status < 400 && /^https:/i.test(location)) return `is fine: it redirects to HTTPS (${status})`
  if (body.includes('FST_HTTP_SECURITY_TLS_REQUIRED')) return isSamePath ? `is fine: the app refuses plain HTTP (${status})` : undefined
  return REFUSALS.has(status) ? `is fine: plain HTTP is refused (${status})` : undefined
}

/** The answer of an app that received none of these headers. */
function emptyAnswer (headers: readonly BelievedHeader[]): ProbeAnswer {
  return {
    version: 1,
    isTrusted: true,
    secure: false,
    certificate: { isPresent: false, isValid: false, fingerprint256: '', subject: '', code: '', reason: '' },
    headers: headers.map((header) => ({ ...header, values: [], underscored: [] }))
  }
}

async function hasHttp2 (target: Target): Promise<boolean> {
  if (target.isPlain) return false
  try {
    return await offersHttp2(target)
  } catch (error) {
    throw unreachable(target, 'HTTP/2', error)
  }
}
