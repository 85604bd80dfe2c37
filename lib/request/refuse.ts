/**
 * How a refusal looks, by what the element is and who asks: a redirect, a SOAP fault, or a Fastify error.
 */
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { type Refusal, codeOf, refusals } from '../errors.ts'
import { sayGoodbye } from '../goodbye.ts'
import type { Kind } from '../levels.ts'
import type { TlsInterface } from '../link.ts'
import { type Wanted, wantedBy } from './accept.ts'
import { connectionOf, isHttp2, isSession } from './connection.ts'
import { trustOfHost } from './hosts.ts'
import { type RefusalHints, logRedirect, logRefusal, silenceSecondLog } from './log.ts'
import { type Locate, namedHost } from './redirect.ts'
import type { Transport } from './secure.ts'
import { sendFault } from './soap.ts'
import { endWithAnswer, isWebSocketUpgrade } from './upgrade.ts'
import type { Verdicts } from './verdict.ts'
import type { Violations } from './violations.ts'

export type Refuse = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, refusal: Refusal, kind: Kind | undefined, hints?: RefusalHints) => void
export type RefuseInsecure = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, kind: Kind | undefined) => void

/** What a request gets that may not pass. */
export interface Answers {
  readonly refuse: Refuse
  /** Sends an insecure request to HTTPS where that is safe and somebody would follow; else refuses it. */
  readonly refuseInsecure: RefuseInsecure
}

/** Who is trusted at a host decides these. */
const OF_CERTIFICATES: ReadonlySet<Refusal> = new Set(['certificateRequired', 'certificateUntrusted', 'misdirected'])

export function createAnswers ({ locate, tls, transport, verdicts, violations, statusCode }: {
  locate: Locate
  tls: TlsInterface | undefined
  transport: Transport
  verdicts: Verdicts
  violations: Violations
  /** Of redirects. */
  statusCode: number
}): Answers {
  /** @param wanted what the client asks for, which is looked at once */
  function refuseAs (wanted: Wanted, ...[request, reply, done, refusal, kind, hints = {}]: Parameters<Refuse>): void {
    endWithAnswer(request, reply)
    // A redirect, a fault or JSON: for these two it was the client's Accept that decided.
    if (kind === undefined || kind === 'soap') varyByAccept(reply)
    const error = new refusals[refusal]()
    const connection = connectionOf(request)
    logRefusal(request, verdicts, error.code, {
      ...transport.hints(request.raw, connection),
      ...tls?.differsByHost === true && OF_CERTIFICATES.has(refusal) && transport.isDirectTls(connection) && { host: namedHost(request), trust: trustOfHost(request, tls) },
      ...hints
    })
    violations.add(request, 'enforce', codeOf[refusal], 'refusal')
    const isSoap = kind === 'soap' || (kind === undefined && wanted.soap !== undefined)
    const answer = (): void => {
      if (isSoap && !isWebSocketUpgrade(request.raw)) {
        sendFault(reply, wanted.soap ?? '1.1', error)
      } else {
        silenceSecondLog(request, reply, error)
        done(error)
      }
    }
    if (refusal === 'misdirected' || verdicts.isStuck(request)) leaveConnection(request, reply, answer)
    else answer()
  }

  function refuseInsecure (...[request, reply, done, kind]: Parameters<RefuseInsecure>): void {
    const wanted = wantedOf(request, kind)
    if (!isRedirectable(request, kind, wanted)) return refuseAs(wanted, request, reply, done, 'tlsRequired', kind)
    const located = locate(request)
    if ('obstacle' in located) return refuseAs(wanted, request, reply, done, 'badRequest', kind, { host: namedHost(request), reason: located.obstacle })
    logRedirect(request, transport.hints(request.raw, connectionOf(request)))
    violations.add(request, 'enforce', codeOf.tlsRequired, 'redirect')
    endWithAnswer(request, reply)
    if (kind === undefined) varyByAccept(reply)
    // Never stored: a policy may change tomorrow, and what is meant for ever is what HSTS says.
    reply.code(statusCode).header('location', located.url).header('cache-control', 'no-store').send()
  }

  return { refuse: (...args) => refuseAs(wantedOf(args[0], args[4]), ...args), refuseInsecure }
}

/** In report mode: everybody passes, and what they would have got is counted, once a request. */
export function createReports ({ locate, violations }: { locate: Locate, violations: Violations }): Answers {
  const noted = new WeakSet<FastifyRequest>()

  function note (request: FastifyRequest, refusal: Refusal, answer: 'refusal' | 'redirect'): void {
    if (noted.has(request)) return
    noted.add(request)
    violations.add(request, 'report', codeOf[refusal], answer)
  }

  return {
    refuse (request, _reply, done, refusal) {
      note(request, refusal, 'refusal')
      done()
    },
    refuseInsecure (request, _reply, done, kind) {
      if (!isRedirectable(request, kind, wantedOf(request, kind))) note(request, 'tlsRequired', 'refusal')
      else if ('obstacle' in locate(request)) note(request, 'badRequest', 'refusal')
      else note(request, 'tlsRequired', 'redirect')
      done()
    }
  }
}

/** Answers, and has the client try again on another connection: on this one it would fare no better (RFC 9110 §15.5.20). */
function leaveConnection (request: FastifyRequest, reply: FastifyReply, answer: () => void): void {
  const connection = connectionOf(request)
  if (!isHttp2(request.raw)) reply.header('connection', 'close')
  if (!isSession(connection)) return answer()
  // Before the answer: who asks again at once shall not do so on this one.
  sayGoodbye(connection).then(answer)
}

const NOTHING_WANTED: Wanted = Object.freeze({ html: false, soap: undefined })

/** A screen is a screen, whatever its client asks for, and so is what is exposed as REST. */
function wantedOf ({ raw }: FastifyRequest, kind: Kind | undefined): Wanted {
  return kind === undefined || kind === 'soap' ? wantedBy(raw.headers) : NOTHING_WANTED
}

/** A GET or HEAD that a person's browser made. With credentials, what it carried has leaked: a redirect would hide that. */
function isRedirectable ({ raw }: FastifyRequest, kind: Kind | undefined, { html, soap }: Wanted): boolean {
  const { method, headers } = raw
  if ((method !== 'GET' && method !== 'HEAD') || headers.authorization !== undefined || isWebSocketUpgrade(raw)) return false
  return kind === 'screen' || (kind === undefined && soap === undefined && html)
}

/** RFC 9110 §12.5.5; what other plugins vary by is kept. */
function varyByAccept (reply: FastifyReply): void {
  const varied = reply.getHeader('vary')
  reply.header('vary', varied === undefined ? 'Accept' : `${String(varied)}, Accept`)
}
