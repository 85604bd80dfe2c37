/** All that `check-proxy` sends to one URL, and what comes of it. */
import { createHash, randomBytes } from 'node:crypto'
import type { BelievedHeader, ProbeAnswer } from '../../request/probe.ts'
import { type Reply, type Target, ask, isNobody, offersHttp2 } from './ask.ts'
import { type Forgery, MARK_LENGTH, type Mark, type Protocol, WAYS, forgeriesOf, headersOf } from './forgeries.ts'
import { Failure } from '../io.ts'
import { type Before, leaksIn, leaksOf } from './leaks.ts'
import { parseAnswer } from './probe-answer.ts'
import type { Findings } from './findings.ts'
import { noProbe, unreachable } from './hints.ts'
import type { Tested } from './report.ts'

/** Requests without an answer, after which no more are made. */
const MOST_UNANSWERED = 5

export interface Circumstances {
  /** What the app is known to believe from another URL; without, this one has to answer. */
  readonly known: readonly BelievedHeader[] | undefined
  readonly findings: Findings
  /** Milliseconds that all of it may take. */
  readonly most: number
}

export interface Outcome extends Tested {
  readonly headers: readonly BelievedHeader[]
  readonly unanswered: readonly string[]
}

/** @throws Failure where it tells nothing */
export async function test (target: Target, { known, findings, most }: Circumstances): Promise<Outcome> {
  const deadline = Date.now() + most
  const first = await open(target, 'HTTP/1.1', known)
  const { headers } = first.answer
  const { note } = first
  if (first.isNobody) return { url: target.name, protocols: [], forgeries: 0, note, headers, unanswered: [] }
  const protocols: Protocol[] = await hasHttp2(target) ? ['HTTP/1.1', 'HTTP/2'] : ['HTTP/1.1']
  const mark = await makeMark(first.answer, target)
  const unanswered: string[] = []
  let forgeries = 0
  try {
    for (const protocol of protocols) {
      const before = await open(target, protocol, known)
      if (!before.isRefused) findings.add(leaksOf(before.answer, target), target.name, protocol, undefined)
      for (const forgery of forgeriesOf(before.answer.headers, mark, WAYS[protocol])) {
        if (unanswered.length === MOST_UNANSWERED) break
        if (Date.now() >= deadline) throw new Failure(`${target.name} was left after ${most / 1000} seconds: it answers too slowly for all forgeries`)
        const leaks = await send(target, protocol, forgery, before, mark)
        forgeries++
        if (leaks !== undefined) findings.add(leaks, target.name, protocol, forgery)
        else unanswered.push(`${target.name} ${forgery.forged.map(({ header }) => header.name).join(', ')}: no answer of the app, and no refusal of the proxy (${protocol} ${forgery.way})`)
      }
    }
    // A token that expires, or a proxy that has had enough, would look like one that lets nothing through.
    const last = await open(target, 'HTTP/1.1', known)
    if (last.note !== note) throw new Failure(`${target.name} has answered in another way in the end: ${last.note ?? 'with a probe'}`)
  } catch (error) {
    // What was found until then is not lost.
    unanswered.push((error as Failure).message)
  }
  return { url: target.name, protocols, forgeries, note, headers, unanswered }
}

async function send (target: Target, protocol: Protocol, forgery: Forgery, before: Before, { certificate }: Mark): Promise<ReturnType<typeof leaksIn>> {
  const reply = await ask[protocol](target, headersOf(forgery)).catch(() => undefined)
  return reply && leaksIn(before, reply, forgery, { isPlain: target.isPlain, fingerprint: createHash('sha256').update(certificate).digest('hex') })
}

async function makeMark ({ headers }: ProbeAnswer, { isPlain }: Target): Promise<Mark> {
  const text = randomBytes(MARK_LENGTH / 2).toString('hex')
  if (!headers.some(({ role }) => role === 'certificate')) return { text, certificate: Buffer.alloc(0), isPlain }
  const { forgeCertificate } = await import('./forged-certificate.ts')
  return { text, certificate: await forgeCertificate(text), isPlain }
}

interface Opening extends Before {
  readonly isNobody: boolean
  /** What there is instead of the probe. */
  readonly note: string | null
}

/** Without anything forged: what all others are compared with. */
async function open (target: Target, protocol: Protocol, known: readonly BelievedHeader[] | undefined): Promise<Opening> {
  const mayRefuse = target.isPlain && known !== undefined
  let reply: Reply
  try {
    reply = await ask[protocol](target, {})
  } catch (error) {
    if (mayRefuse && isNobody(error)) return { answer: silence(known), isRefused: true, isNobody: true, note: 'is fine: nothing listens there' }
    throw unreachable(target, protocol, error)
  }
  const answer = reply.status === 200 ? parseAnswer(reply.body) : undefined
  if (answer !== undefined) return { answer, isRefused: false, isNobody: false, note: null }
  const note = mayRefuse ? noteOf(reply) : undefined
  if (note === undefined) throw noProbe(target, reply)
  return { answer: silence(known!), isRefused: true, isNobody: false, note }
}

/** What a proxy answers with that wants no plain HTTP; 400 to HTTP on a port for HTTPS. */
const REFUSALS: ReadonlySet<number> = new Set([400, 403, 421, 426])

/** Over plain HTTP alone, where it is fine not to get to the probe. */
function noteOf ({ status, location = '', body }: Reply): string | undefined {
  if (status >= 300 && status < 400 && /^https:/i.test(location)) return `is fine: it redirects to HTTPS (${status})`
  if (body.includes('FST_HTTP_SECURITY_TLS_REQUIRED')) return `is fine: the app refuses plain HTTP (${status})`
  return REFUSALS.has(status) ? `is fine: plain HTTP is refused (${status})` : undefined
}

/** Of an app that has seen nothing of these headers. */
function silence (headers: readonly BelievedHeader[]): ProbeAnswer {
  return {
    version: 1,
    isTrusted: true,
    secure: false,
    certificate: { isPresent: false, isValid: false, fingerprint256: '' },
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
