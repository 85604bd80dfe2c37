/**
 * Answers requests that may not pass: with a redirect, a SOAP fault, or a Fastify error. It depends on the element's kind
 * and, where it has none, on what the client asks for. Begin with {@link createAnswers}; {@link createReports} is report mode.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { codeOf, type Refusal, refusals } from '../errors.ts'
import type { Kind } from '../levels.ts'
import type { TlsInterface } from '../tls-interface.ts'
import { connectionOf, endWithAnswer, isHttp2, isSession, isWebSocketUpgrade, sayGoodbye } from './connection.ts'
import { type Locate, namedHost } from './redirect.ts'
import { logRedirect, logRefusal, type RefusalHints, type RuleHints, silenceSecondLog } from './refusal-log.ts'
import type { Transport } from './transport.ts'
import { trustOfHost, type Verdicts } from './client-certificate.ts'
import type { Violations } from './violations.ts'

type Refuse = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, refusal: Refusal, kind: Kind | undefined, hints?: RefusalHints & RuleHints) => void
type RefuseInsecure = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, kind: Kind | undefined) => void

/** Answers a request that may not pass. */
interface Answers {
  readonly refuse: Refuse
  /** Redirects an insecure request to HTTPS where that is safe and a person's browser asks; else refuses it. */
  readonly refuseInsecure: RefuseInsecure
}

/** Refusals that depend on the client CAs of a host. */
const OF_CERTIFICATES: ReadonlySet<Refusal> = new Set(['certificateRequired', 'certificateUntrusted', 'misdirected'])

/** Seconds: a CA issues a certificate within a minute, or a person has to do something. */
const RETRY_AFTER = 30

export function createAnswers ({ locate, tls, transport, verdicts, violations, statusCode }: {
  locate: Locate
  tls: TlsInterface | undefined
  transport: Transport
  verdicts: Verdicts
  violations: Violations
  /** The status code of redirects. */
  statusCode: number
}): Answers {
  /** @param wanted what the client asks for, parsed once */
  function refuseAs (wanted: Wanted, ...[request, reply, done, refusal, kind, hints = {}]: Parameters<Refuse>): void {
    endWithAnswer(request, reply)
    // For these two kinds the answer depends on the client's Accept.
    if (kind === undefined || kind === 'soap') varyByAccept(reply)
    const error = new refusals[refusal]()
    const connection = connectionOf(request)
    logRefusal(request, verdicts, error.code, {
      ...transport.hints(request.raw, connection),
      ...tls?.differsByHost === true && OF_CERTIFICATES.has(refusal) && transport.isDirectTls(connection) && { host: namedHost(request), trust: trustOfHost(request, tls) },
      ...hints
    })
    violations.add(request, 'enforce', codeOf[refusal], 'refusal', hints.client)
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
    if (tls?.isPending === true && !transport.isProxied(request.raw, connectionOf(request))) {
      reply.header('retry-after', RETRY_AFTER)
      return refuseAs(wanted, request, reply, done, 'certificatePending', kind)
    }
    if (!isRedirectable(request, kind, wanted)) return refuseAs(wanted, request, reply, done, 'tlsRequired', kind)
    const located = locate(request)
    if ('obstacle' in located) return refuseAs(wanted, request, reply, done, 'badRequest', kind, { host: namedHost(request), reason: located.obstacle })
    logRedirect(request, transport.hints(request.raw, connectionOf(request)))
    violations.add(request, 'enforce', codeOf.tlsRequired, 'redirect')
    endWithAnswer(request, reply)
    if (kind === undefined) varyByAccept(reply)
    // Not to be cached, because a policy may change. Only HSTS is meant to last.
    const answer = (): void => { reply.code(statusCode).header('location', located.url).header('cache-control', 'no-store').send() }
    if (transport.proxies?.isStuck(request.raw, connectionOf(request)) === true) leaveConnection(request, reply, answer)
    else answer()
  }

  return { refuse: (...args) => refuseAs(wantedOf(args[0], args[4]), ...args), refuseInsecure }
}

/** Report mode: every request passes. What it would have got is counted, once for each request. */
export function createReports ({ locate, violations }: { locate: Locate, violations: Violations }): Answers {
  const noted = new WeakSet<FastifyRequest>()

  function note (request: FastifyRequest, refusal: Refusal, answer: 'refusal' | 'redirect', client?: string | null): void {
    if (noted.has(request)) return
    noted.add(request)
    violations.add(request, 'report', codeOf[refusal], answer, client)
  }

  return {
    refuse (request, _reply, done, refusal, _kind, hints) {
      note(request, refusal, 'refusal', hints?.client)
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

/** Ends the connection with the answer, because only on a new one can the client succeed (RFC 9110 §15.5.20). */
function leaveConnection (request: FastifyRequest, reply: FastifyReply, answer: () => void): void {
  const connection = connectionOf(request)
  if (!isHttp2(request.raw)) reply.header('connection', 'close')
  if (!isSession(connection)) return answer()
  // GOAWAY before the answer: a client that asks again at once must not do so on this connection.
  sayGoodbye(connection).then(answer)
}

const NOTHING_WANTED: Wanted = Object.freeze({ html: false, soap: undefined })

/** For a screen or a REST service, what the client asks for does not matter. */
function wantedOf ({ raw }: FastifyRequest, kind: Kind | undefined): Wanted {
  return kind === undefined || kind === 'soap' ? wantedBy(raw.headers) : NOTHING_WANTED
}

/** A GET or HEAD of a person's browser, without `Authorization`: those credentials have leaked, and a redirect would hide that. */
function isRedirectable ({ raw }: FastifyRequest, kind: Kind | undefined, { html, soap }: Wanted): boolean {
  const { method, headers } = raw
  if ((method !== 'GET' && method !== 'HEAD') || headers.authorization !== undefined || isWebSocketUpgrade(raw)) return false
  return kind === 'screen' || (kind === undefined && soap === undefined && html)
}

/** Adds Accept to Vary (RFC 9110 §12.5.5), and keeps what other plugins have set. */
function varyByAccept (reply: FastifyReply): void {
  const varied = reply.getHeader('vary')
  reply.header('vary', varied === undefined ? 'Accept' : `${String(varied)}, Accept`)
}

// What the client asks for

interface Wanted {
  /** Accept names HTML. A wildcard does not count, because programs send it, too. */
  readonly html: boolean
  /** The SOAP version of the request, or `undefined` for one that is not SOAP (SOAP 1.1 §6.1.1; RFC 3902 for 1.2). */
  readonly soap: '1.1' | '1.2' | undefined
}

const HTML: ReadonlySet<string> = new Set(['text/html', 'application/xhtml+xml'])
const SOAP_12 = 'application/soap+xml'

/** Limits of what is parsed of a header: characters and members. Browsers send ten types in two hundred characters. */
const LONGEST = 2_048
const MOST_RANGES = 32

/** Only types with a weight above 0 count (RFC 9110 §12.4.2, §12.5.1). This parses: call it once for each request. */
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

// SOAP faults
//
// Sent directly, not through the error handler, because SOAP clients understand no other answer.

interface Fault { code: string, message: string, statusCode?: number }

/** Codes and messages are our own, and have no character that XML would need to escape. */
const FAULTS = {
  // SOAP 1.1 §4.4: without `detail`, which would mean that the body had been processed.
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

function sendFault (reply: FastifyReply, version: '1.1' | '1.2', fault: Fault): void {
  const { type, body } = FAULTS[version](fault)
  reply.code(fault.statusCode!).type(type).send(body)
}
