/**
 * How a refusal looks, by what the element is and who asks: a redirect, a SOAP fault, or a Fastify error.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { codeOf, type Refusal, refusals } from '../errors.ts'
import type { Kind } from '../levels.ts'
import type { TlsInterface } from '../tls-interface.ts'
import { connectionOf, endWithAnswer, isHttp2, isSession, isWebSocketUpgrade, sayGoodbye } from './connection.ts'
import { type Locate, namedHost } from './redirect.ts'
import { logRedirect, logRefusal, type RefusalHints, silenceSecondLog } from './refusal-log.ts'
import type { Transport } from './transport.ts'
import { trustOfHost, type Verdicts } from './verdict.ts'
import type { Violations } from './violations.ts'

type Refuse = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, refusal: Refusal, kind: Kind | undefined, hints?: RefusalHints) => void
type RefuseInsecure = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, kind: Kind | undefined) => void

/** What a request gets that may not pass. */
interface Answers {
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

/**
 * What kind of answer an undeclared element's client asks for.
 */

/** What a client asks for. */
interface Wanted {
  /** It names HTML; that it takes anything does not mean that a person is looking. */
  readonly html: boolean
  /** The SOAP version of the request, or `undefined` for one that is not SOAP (SOAP 1.1 §6.1.1; RFC 3902 for 1.2). */
  readonly soap: '1.1' | '1.2' | undefined
}

const HTML: ReadonlySet<string> = new Set(['text/html', 'application/xhtml+xml'])
const SOAP_12 = 'application/soap+xml'

/** What is looked at of a header, in characters and in members: browsers name ten types in two hundred characters. */
const LONGEST = 2_048
const MOST_RANGES = 32

/** Looks for what is named with a weight above 0 (RFC 9110 §12.4.2, §12.5.1). Parses: once a request. */
function wantedBy ({ accept, 'content-type': contentType, soapaction }: IncomingHttpHeaders): Wanted {
  let html = false
  let isSoap12 = contentType !== undefined && mediaTypeOf(contentType.slice(0, LONGEST)) === SOAP_12
  for (const range of accept === undefined ? [] : accept.slice(0, LONGEST).split(',', MOST_RANGES)) {
    const type = mediaTypeOf(range)
    if (HTML.has(type)) html ||= weightOf(range) > 0
    else if (type === SOAP_12) isSoap12 ||= weightOf(range) > 0
  }
  return { html, soap: isSoap12 ? '1.2' : soapaction === undefined ? undefined : '1.1' }
}

function mediaTypeOf (value: string): string {
  return value.split(';', 1)[0]!.trim().toLowerCase()
}

function weightOf (range: string): number {
  const weight = /;\s*q\s*=\s*([^;]*)/i.exec(range)
  return weight === null ? 1 : Number(weight[1])
}

/**
 * Refusals as SOAP faults, sent directly: SOAP clients read nothing else.
 */

interface Fault { code: string, message: string, statusCode?: number }

/** Our codes and messages hold no character that XML would have escaped. */
const FAULTS = {
  // SOAP 1.1 §4.4: no `detail`, which would say that the body had been processed.
  1.1: ({ code, message }: Fault) => ({
    type: 'text/xml; charset=utf-8',
    body: '<?xml version="1.0" encoding="utf-8"?>' +
      '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><soap:Fault>' +
      `<faultcode>soap:Client</faultcode><faultstring>${code}: ${message}</faultstring>` +
      '</soap:Fault></soap:Body></soap:Envelope>'
  }),
  // SOAP 1.2 part 1 §5.4.
  1.2: ({ code, message }: Fault) => ({
    type: 'application/soap+xml; charset=utf-8',
    body: '<?xml version="1.0" encoding="utf-8"?>' +
      '<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope"><env:Body><env:Fault>' +
      `<env:Code><env:Value>env:Sender</env:Value></env:Code><env:Reason><env:Text xml:lang="en">${code}: ${message}</env:Text></env:Reason>` +
      '</env:Fault></env:Body></env:Envelope>'
  })
} as const

/** Answers with a fault of the client's SOAP version. */
function sendFault (reply: FastifyReply, version: '1.1' | '1.2', fault: Fault): void {
  const { type, body } = FAULTS[version](fault)
  reply.code(fault.statusCode!).type(type).send(body)
}
