/**
 * Guards: checks that run after the onRequest hook, before what they protect.
 *
 * - {@link guardRoute}: CORS preflights. Browsers never send a certificate with one, so that a preflight for an `mtls` route
 *   must reach the hook of a CORS plugin, and not the route itself.
 * - {@link guardNotFoundHandlers}: not-found handlers, which belong to no route.
 * - {@link checkAgainAfterBody}: a certificate may cease to count while a request waits for its body or for other hooks.
 */
import type { Http2ServerRequest } from 'node:http2'
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler, preHandlerHookHandler, RouteOptions } from 'fastify'
import { hooksOf, readsBodyOf } from '../internals.ts'
import type { RawRequest } from './connection.ts'

/** A CORS-preflight request (Fetch §4.8). It has no body, which on HTTP/2 the headers alone do not show. */
export function isPreflight (raw: RawRequest): boolean {
  const { method, headers } = raw
  return method === 'OPTIONS' &&
    (raw as Partial<Http2ServerRequest>).stream?.endAfterHeaders !== false &&
    headers.origin !== undefined &&
    headers['access-control-request-method'] !== undefined &&
    headers['transfer-encoding'] === undefined &&
    (headers['content-length'] ?? '0') === '0'
}

/** A callback-style hook that fits every stage before the handler. */
export type Guard = onRequestHookHandler & preHandlerHookHandler

const OWN_STAGES = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const
type OwnHooks = { [Stage in typeof OWN_STAGES[number]]?: unknown }

/**
 * Puts `guard` before the own hooks and the handler of a route that answers OPTIONS. Instance hooks, in which CORS plugins
 * answer, run before that. Done after all onRoute hooks, so that none of them puts a hook before the guard; Fastify reads a
 * route's hooks when all plugins have loaded.
 *
 * @returns whether the route answers OPTIONS: only then are its preflights exempt
 */
export function guardRoute (route: RouteOptions, guard: Guard): boolean {
  if (![route.method].flat().includes('OPTIONS')) return false
  queueMicrotask(() => Object.assign(route, guardedHooks(route as OwnHooks, guard)))
  return true
}

/** The own hooks of a route or a not-found handler, with the guard before the first hook of each stage, and before the handler. */
function guardedHooks (own: OwnHooks, guard: Guard): OwnHooks {
  return Object.fromEntries(OWN_STAGES
    .filter((stage) => stage === 'preHandler' || (own[stage] ?? undefined) !== undefined)
    .map((stage) => [stage, [stage === 'preParsing' ? guardPayload(guard) : guard, own[stage] ?? []].flat()]))
}

/** For preParsing, whose hooks have the payload as a further parameter. */
function guardPayload (guard: Guard) {
  return function (this: unknown, ...[request, reply, , done]: [Parameters<Guard>[0], Parameters<Guard>[1], unknown, Parameters<Guard>[2]]): void {
    guard.call(this as never, request, reply, done)
  }
}

// Not-found handlers
//
// An instance-wide preHandler hook would be simpler, but would cost every request time.

type Handler = (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) => unknown
type SetNotFoundHandler = (options: object, handler?: Handler) => FastifyInstance

/**
 * Puts `guard` before every not-found handler that is set from now on, in this context and below, and before its own hooks.
 *
 * @param guarded the instances whose handlers have the guard; added to here
 */
export function guardNotFoundHandlers (app: FastifyInstance, guard: Guard, guarded: WeakSet<FastifyInstance>): void {
  const passed = new WeakSet<FastifyRequest>()
  const guardHooks: Guard = (request, reply, done) => {
    guard.call(app, request, reply, (error) => {
      if (error === undefined) passed.add(request)
      done(error)
    })
  }
  // Fastify 5.8 runs no hooks where a route that was registered before the handler calls `reply.callNotFound()`.
  const guardHandler = (handler: Handler): Handler => function (request, reply) {
    if (passed.has(request)) return handler.call(this, request, reply)
    // The guard may wait. Fastify sends what a promise has, also its error; the reply stands for one that is sent by itself.
    const passes = new Promise<void>((resolve, reject) => {
      guard.call(this, request, reply, (error) => error === undefined ? resolve() : reject(error))
    })
    return passes.then(() => {
      const answer = handler.call(this, request, reply)
      return answer === undefined ? reply : answer
    })
  }
  const setNotFoundHandler = app.setNotFoundHandler as unknown as SetNotFoundHandler
  app.setNotFoundHandler = function (this: FastifyInstance, first?: object | Handler | null, second?: Handler) {
    const [options, handler] = typeof first === 'function' ? [{}, first as Handler] : [first ?? {}, second]
    guarded.add(this)
    return setNotFoundHandler.call(this, { ...options, ...guardedHooks(options, guardHooks) }, typeof handler === 'function' ? guardHandler(handler) : handler)
  } as unknown as typeof app.setNotFoundHandler
}

// Requests that take long: the client decides when its body ends, and other hooks may be asynchronous

type Hooks = Pick<RouteOptions, 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler'>

/**
 * Puts `guard`, which judges the certificate again, before the handler; for a route with a body also after the body has been
 * parsed, before the route's own hooks.
 *
 * @param enforce our own onRequest hook, which is not a reason to check again
 */
export function checkAgainAfterBody (instance: FastifyInstance, route: RouteOptions, guard: Guard, enforce: unknown): void {
  // After all onRoute hooks, so that none of them puts a hook before the guard.
  queueMicrotask(() => {
    const own: Hooks = { ...route }
    const hasBody = [route.method].flat().some((method) => readsBodyOf(instance, method.toUpperCase()))
    if (hasBody) Object.assign(route, { preValidation: [guard, ...[own.preValidation ?? []].flat()] })
    // A getter, because each further stage costs as much time as all our other checks, and hooks may still be added: Fastify reads it
    // when all plugins have loaded.
    Object.defineProperty(route, 'preHandler', {
      enumerable: true,
      configurable: true,
      get: () => hasBody || mayWait(instance, own, enforce) ? [guard, ...[own.preHandler ?? []].flat()] : own.preHandler,
      set: (hooks: Hooks['preHandler']) => { own.preHandler = hooks }
    })
  })
}

/** Whether a request may wait before the handler: any other hook may be asynchronous. */
function mayWait (instance: FastifyInstance, { onRequest, preParsing, preValidation }: Hooks, enforce: unknown): boolean {
  const others = hooksOf(instance, ['onRequest', 'preParsing', 'preValidation', 'preHandler'])?.filter((hook) => hook !== enforce)
  return others === undefined || [...others, ...[onRequest ?? [], preParsing ?? [], preValidation ?? []].flat()].length > 0
}
