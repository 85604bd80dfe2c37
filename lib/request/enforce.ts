/**
 * The one hook that every request meets. A request that passes pays for a lookup and comparisons: nothing is parsed,
 * awaited or allocated for it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, onRequestHookHandler } from 'fastify'
import { addRules, NO_RULES, type Rule } from '../clients/rules.ts'
import type { Options } from '../options/resolve.ts'
import { MTLS, NONE, rankOf, stricter } from '../levels.ts'
import type { Flows } from '../routes/inheritance.ts'
import { createWithholdHsts } from '../response/hsts.ts'
import type { RouteIndexKey } from '../routes/register.ts'
import { createConfigOf } from '../internals.ts'
import { ambiguityIn, entryOf, isAmbiguous, isGuarded, isReported, kindIn, rankIn, type RouteEntry, type RouteTable, type TableState, underPolicy, withRank } from '../routes/route-table.ts'
import { isPlain, isTarget } from '../url/path-readings.ts'
import { AdmittedRequests } from './close-revoked.ts'
import { type Connection, type RawRequest, connectionOf, isHttp2 } from './connection.ts'
import { type Guard, isPreflight } from './guards.ts'
import { createLocate } from './redirect.ts'
import { createAnswers, createReports } from './refuse.ts'
import type { Transport } from './transport.ts'
import type { Rules } from './rules.ts'
import type { Verdicts } from './client-certificate.ts'
import type { Violations } from './violations.ts'

const SLASH = 47

export interface Enforcement {
  /** For onRequest. */
  readonly enforce: onRequestHookHandler
  /** For what preflights must not reach: see guards.ts. */
  readonly guardPreflight: Guard
  /** Re-check after the body, or after hooks that took their time: see guards.ts. */
  readonly checkAgain: Guard
  /** For the not-found handler, which belongs to no route. */
  readonly guardNotFound: Guard
  /** What a request must meet; `undefined` where that is not known. */
  readonly entryFor: (request: FastifyRequest) => RouteEntry | undefined
  /** What goes on after requests were admitted. */
  readonly admitted: AdmittedRequests
}

/** Milliseconds that a request waits for what is not known of its certificate. */
const LONGEST_WAIT = 3_000

/** What has come may lead on to something else: the signature of a list that was fetched, by an authority that the client has sent. */
async function waitFor (pendingNow: () => Promise<unknown> | undefined): Promise<void> {
  const start = performance.now()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, LONGEST_WAIT) })
  for (let pending = pendingNow(); pending !== undefined && performance.now() - start < LONGEST_WAIT; pending = pendingNow()) await Promise.race([pending, late])
  clearTimeout(timer)
}

export function createEnforcement ({ options, flows, table, indexKey, transport, verdicts, rules, violations, protectFromDowngrade, guarded }: {
  options: Options
  flows: Flows
  table: RouteTable
  indexKey: RouteIndexKey
  transport: Transport
  verdicts: Verdicts
  /** Loaded when the app is ready, where there are rules. */
  rules: () => Rules | undefined
  violations: Violations
  /** Keeps the answer from leading away from HTTPS, and from caches that would give it to others. */
  protectFromDowngrade: ((reply: FastifyReply) => void) | undefined
  /** Instances whose not-found handlers are guarded. */
  guarded: WeakSet<FastifyInstance>
}): Enforcement {
  const configOf = createConfigOf()
  const locate = createLocate(options, transport)
  const isEnforced = options.mode === 'enforce'
  const withholdHsts = isEnforced ? createWithholdHsts() : undefined
  const reports = createReports({ locate, violations })
  const { refuse, refuseInsecure } = isEnforced
    ? createAnswers({ locate, tls: options.tls, transport, verdicts, violations, statusCode: options.redirect.statusCode })
    : reports
  /** Of requests that are looked at twice: what they met first, should a policy change in between. */
  const states = new WeakMap<FastifyRequest, TableState>()
  /** Requests that a proxy has forwarded which proves itself by its certificate, and that were admitted without one of their own. */
  const withoutCertificate = new WeakSet<FastifyRequest>()
  const admitted = new AdmittedRequests(isAdmitted, (request) => !isEnforced || isAnswered(request))

  function enforce (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    check(request, reply, done, table.state, true)
  }

  /** Where the exemption of preflights ends, nothing is taken for granted of what hooks have let pass or changed. */
  function guardPreflight (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    if (request.raw.method === 'OPTIONS') check(request, reply, done, stateFor(request), false)
    else done()
  }

  /** Trust in clients may have changed since, or the certificate may have expired. */
  function checkAgain (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    // It has a guard of its own.
    if (request.raw.method === 'OPTIONS') return done()
    const entry = entryFor(request, table.state)!
    if (rankIn(entry) === MTLS) requireCertificate(request, reply, done, entry)
    else done()
  }

  /** Also reached by `reply.callNotFound()`, from a route whose level is not that of the not-found handler. */
  function guardNotFound (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    check(request, reply, done, stateFor(request), false)
  }

  function stateFor (request: FastifyRequest): TableState {
    return states.get(request) ?? table.state
  }

  function check (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, state: TableState, isFirst: boolean): void {
    const { raw } = request
    const connection = connectionOf(request)
    const isSecure = transport.isSecure(raw, connection)
    if (isFirst && isSecure) {
      if (protectFromDowngrade !== undefined) protectFromDowngrade(reply)
      if (isEnforced && state.policy.hsts !== undefined) reply.header('strict-transport-security', state.policy.hsts)
    } else if (isFirst && withholdHsts !== undefined) {
      withholdHsts(reply)
    }
    if (isFirst && transport.hasUntrustedHeader?.(raw, connection) === true) violations.ignored(request)
    if (isMalformed(request) || transport.isTruncated(raw, connection)) return refuse(request, reply, done, 'badRequest', undefined)
    const entry = entryFor(request, state)
    if (entry === undefined) return refuse(request, reply, done, 'unknownRoute', undefined)
    if (isFirst && isGuarded(entry)) states.set(request, state)
    if ((raw as { upgrade?: boolean }).upgrade === true) admitted.upgrade(request)
    const rank = rankIn(entry)
    if (transport.isEarly(raw, connection) && (rank === MTLS || !isSafe(raw))) return refuse(request, reply, done, 'tooEarly', kindIn(entry))
    if (rank === NONE && !isReported(entry)) return done()
    if (!isSecure) return (rank === NONE ? reports.refuseInsecure : refuseInsecure)(request, reply, done, kindIn(entry))
    if (rank !== MTLS || (isFirst && isGuarded(entry) && isPreflight(raw))) return pass(request, reply, done, connection)
    requireCertificate(request, reply, done, entry, connection)
  }

  /** Without a certificate of the client's. */
  function pass (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, connection: Connection | undefined): void {
    if (transport.proxies?.isOfProxy(connection) === true) {
      withoutCertificate.add(request)
      admit(request, reply, done)
    } else {
      done()
    }
  }

  function requireCertificate (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, entry: RouteEntry, connection = connectionOf(request)): void {
    const refusal = verdicts.judge(request, connection)
    if (transport.proxies !== undefined) withoutCertificate.delete(request)
    if (refusal === undefined) return requireRules(request, reply, done, entry, connection)
    const isPending = isEnforced && verdicts.pendingFor(request) !== undefined
    if (isPending) waitFor(() => verdicts.pendingFor(request)).then(() => requireKnownCertificate(request, reply, done, entry)).catch(done)
    else refuse(request, reply, done, refusal, kindIn(entry))
  }

  /** After a wait, the certificate is judged once more, and what is not known by then is refused. */
  function requireKnownCertificate (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, entry: RouteEntry, mayWait = true): void {
    const refusal = verdicts.judge(request)
    if (refusal === undefined) requireRules(request, reply, done, entry, connectionOf(request), mayWait)
    else refuse(request, reply, done, refusal, kindIn(entry))
  }

  /** For a valid certificate. */
  function requireRules (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction, entry: RouteEntry, connection = connectionOf(request), mayWait = true): void {
    const required = rulesFor(request)
    if (required.length === 0) return admit(request, reply, done)
    const asked = rules()!
    const unlisted = asked.refusing(request, required, connection)
    // Of another path of the certificate, which may be what a rule asks for.
    if ((unlisted !== undefined || asked.mayBeSuspended) && mayWait && isEnforced && asked.pendingFor(request) !== undefined) {
      waitFor(() => asked.pendingFor(request)).then(() => requireKnownCertificate(request, reply, done, entry, false)).catch(done)
      return
    }
    const refusing = unlisted ?? asked.verify(request, required)
    if (refusing === undefined) admit(request, reply, done)
    // The certificate or the client may not count any more by then; what `verify` has answered is known, also where it could not be logged.
    else if (refusing instanceof Promise) refusing.catch(() => {}).then(() => requireKnownCertificate(request, reply, done, entry, mayWait)).catch(done)
    else refuse(request, reply, done, 'certificateNotAllowed', kindIn(entry), { rule: refusing, ...asked.whoIs(request) })
  }

  function admit ({ raw }: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    // What leaves HTTP has no answer that would end.
    if ((raw as { upgrade?: boolean }).upgrade !== true) admitted.answer(reply)
    done()
  }

  /** Of a connection that was upgraded. */
  function isAdmitted (request: FastifyRequest): boolean {
    const entry = entryFor(request, table.state)
    if (!isEnforced || (entry !== undefined && rankIn(entry) === NONE)) return true
    const connection = connectionOf(request)
    if (entry === undefined || !transport.isStillSecure(request.raw, connection)) return false
    return rankIn(entry) !== MTLS || stillCounts(request)
  }

  /** Of an answer that takes long. */
  function isAnswered (request: FastifyRequest): boolean {
    if (transport.proxies !== undefined && !transport.isStillSecure(request.raw, connectionOf(request))) return false
    return withoutCertificate.has(request) || stillCounts(request)
  }

  /** Whether the certificate that a request was admitted by counts, and all `allow` still admit it. */
  function stillCounts (request: FastifyRequest): boolean {
    if (!verdicts.stillCounts(request)) return false
    const required = rulesFor(request)
    // Until its revocation is known, nothing is known of its paths.
    if (required.length === 0 || verdicts.pendingFor(request) !== undefined) return true
    const asked = rules()!
    return asked.refusing(request, required) === undefined || asked.pendingFor(request) !== undefined
  }

  /** The rules that a request has to meet where its level is `mtls`. */
  function rulesFor (request: FastifyRequest): readonly Rule[] {
    const routeIndex = (configOf(request) as Record<RouteIndexKey, number> | undefined)?.[indexKey]
    if (routeIndex === undefined) return addRules(flows.ofInstance(request.server).rules ?? NO_RULES, unknownTargets(request).rules)
    const own = table.rulesOf(routeIndex)
    if (own === undefined) return NO_RULES
    return own.ambiguity === 'no' || (own.ambiguity === 'by spelling' && isPlainlySpelled(request)) ? own.rules : addRules(own.rules, rulesOfTargets(request))
  }

  function entryFor (request: FastifyRequest, state: TableState): RouteEntry | undefined {
    const routeIndex = (configOf(request) as Record<RouteIndexKey, number> | undefined)?.[indexKey]
    if (routeIndex === undefined) return request.is404 ? entryForUnknown(request, state) : undefined
    const entry = state.entries[routeIndex]!
    return isAmbiguous(entry) ? entryBySpelling(request, entry) : entry
  }

  const rankOfTargets = oncePerRequest((url, originalUrl) =>
    originalUrl === url ? flows.rankOfTarget(url) : stricter(flows.rankOfTarget(url), flows.rankOfTarget(originalUrl)))

  const rulesOfTargets = oncePerRequest((url, originalUrl) =>
    originalUrl === url ? flows.rulesOfTarget(url) : addRules(flows.rulesOfTarget(url), flows.rulesOfTarget(originalUrl)))

  const unknownTargets = oncePerRequest((url, originalUrl) => {
    const first = flows.ofUnknown(url)
    if (originalUrl === url) return first
    const other = flows.ofUnknown(originalUrl)
    return { kind: first.kind, rank: stricter(first.rank, other.rank), rules: addRules(first.rules, other.rules) }
  })

  /** Nothing that only an odd spelling could change is looked up for an ordinary one. */
  function isPlainlySpelled ({ raw: { url }, originalUrl }: FastifyRequest): boolean {
    return url === originalUrl && isPlain(url)
  }

  function entryBySpelling (request: FastifyRequest, entry: RouteEntry): RouteEntry {
    if (ambiguityIn(entry) === 'by spelling' && isPlainlySpelled(request)) return entry
    return withRank(entry, stricter(rankIn(entry), rankOfTargets(request)))
  }

  function entryForUnknown (request: FastifyRequest, { policy }: TableState): RouteEntry {
    const { server } = request
    // The not-found handler may belong to a flow without a prefix.
    const flow = flows.ofInstance(server)
    const { rank, kind } = unknownTargets(request)
    const declared = entryOf(stricter(stricter(rank, rankOf(flow.level)), options.minimum), kind ?? flow.kind, 'no', guarded.has(server))
    return underPolicy(declared, policy)
  }

  return { enforce, guardPreflight, checkAgain, guardNotFound, entryFor: (request) => entryFor(request, table.state), admitted }
}

/**
 * What follows from a request's targets: worked out once, and again only where a hook has changed them. `rewriteUrl` gives
 * a request two, and a handler may read either.
 */
function oncePerRequest<Value> (workOut: (url: string, originalUrl: string) => Value): (request: FastifyRequest) => Value {
  const known = new WeakMap<FastifyRequest, { readonly url: string, readonly originalUrl: string, readonly value: Value }>()
  return function valueFor (request) {
    const url = request.raw.url!
    const { originalUrl } = request
    let kept = known.get(request)
    if (kept?.url !== url || kept.originalUrl !== originalUrl) known.set(request, kept = { url, originalUrl, value: workOut(url, originalUrl) })
    return kept.value
  }
}

/** RFC 9110 §9.2.1: sent a second time, it changes nothing. */
function isSafe ({ method }: RawRequest): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS' || method === 'TRACE'
}

/** What Fastify's router would read in another way than the handler that gets the URL next. */
function isMalformed (request: FastifyRequest): boolean {
  const { raw } = request
  if (raw.url!.charCodeAt(0) !== SLASH && !isTarget(raw.url!, raw.method)) return true
  if (raw.httpVersionMajor !== 2) return false
  // llhttp lets an HTTP/1 request say that it is HTTP/2.0.
  if (!isHttp2(raw)) return true
  return contradictsItself(raw)
}

/** RFC 9113 §8.3.1: Fastify finds routes by `host`, even where `:authority` names another one. */
function contradictsItself ({ headers: { host, ':authority': authority } }: RawRequest): boolean {
  return host !== undefined && authority !== undefined && host.toLowerCase() !== (authority as string).toLowerCase()
}
