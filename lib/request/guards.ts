/**
 * CORS preflights: browsers never send a certificate with one, so that a preflight for an `mtls` route must reach
 * whoever answers preflights, and nobody else.
 */
import type { Http2ServerRequest } from 'node:http2'
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler, preHandlerHookHandler, RouteOptions } from 'fastify'
import { hooksOf, readsBodyOf } from '../internals.ts'
import type { RawRequest } from './connection.ts'

/** The Fetch standard's CORS-preflight request (§4.8). It has no body, which on HTTP/2 no header tells. */
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
 * Ends the exemption of preflights where a route that answers OPTIONS begins. Instance hooks, where CORS plugins answer,
 * have run by then. Done once all onRoute hooks have had their turn, so that none of them gets before it; Fastify takes
 * a route's hooks when everything has loaded.
 *
 * @returns whether it does: no other route is exempt
 */
export function guardRoute (route: RouteOptions, guard: Guard): boolean {
  if (![route.method].flat().includes('OPTIONS')) return false
  queueMicrotask(() => Object.assign(route, guardedHooks(route as OwnHooks, guard)))
  return true
}

/** A route's or a not-found handler's own hooks, with the guard before the first of each stage, and before the handler. */
function guardedHooks (own: OwnHooks, guard: Guard): OwnHooks {
  return Object.fromEntries(OWN_STAGES
    .filter((stage) => stage === 'preHandler' || (own[stage] ?? undefined) !== undefined)
    .map((stage) => [stage, [stage === 'preParsing' ? guardPayload(guard) : guard, own[stage] ?? []].flat()]))
}

/** preParsing hooks are given the payload, too. */
function guardPayload (guard: Guard) {
  return function (this: unknown, ...[request, reply, , done]: [Parameters<Guard>[0], Parameters<Guard>[1], unknown, Parameters<Guard>[2]]): void {
    guard.call(this as never, request, reply, done)
  }
}

/**
 * Not-found handlers belong to no route, so that what guards the handlers of routes is put before them here.
 *
 * An instance-wide preHandler hook would do, but every request would pay for it.
 */

type Handler = (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) => unknown
type SetNotFoundHandler = (options: object, handler?: Handler) => FastifyInstance

/**
 * Puts `guard` before every not-found handler that is set from now on, here and below, and before its own hooks.
 *
 * @param guarded takes the instances whose handlers it stands before
 */
export function guardNotFoundHandlers (app: FastifyInstance, guard: Guard, guarded: WeakSet<FastifyInstance>): void {
  const passed = new WeakSet<FastifyRequest>()
  const guardHooks: Guard = (request, reply, done) => {
    guard.call(app, request, reply, (error) => {
      if (error === undefined) passed.add(request)
      done(error)
    })
  }
  // Fastify 5.8 has no hooks where a route that was registered before the handler calls `reply.callNotFound()`.
  const guardHandler = (handler: Handler): Handler => function (request, reply) {
    if (passed.has(request)) return handler.call(this, request, reply)
    // What answers it, if it does not pass.
    let answer: unknown = reply
    guard.call(this, request, reply, (error) => { answer = error === undefined ? handler.call(this, request, reply) : reply.send(error) })
    return answer
  }
  const setNotFoundHandler = app.setNotFoundHandler as unknown as SetNotFoundHandler
  app.setNotFoundHandler = function (this: FastifyInstance, first?: object | Handler | null, second?: Handler) {
    const [options, handler] = typeof first === 'function' ? [{}, first as Handler] : [first ?? {}, second]
    guarded.add(this)
    return setNotFoundHandler.call(this, { ...options, ...guardedHooks(options, guardHooks) }, typeof handler === 'function' ? guardHandler(handler) : handler)
  } as unknown as typeof app.setNotFoundHandler
}

/**
 * Waiting: who sends a body decides when it ends, hooks of others may take their time, and a verdict may have ended by then.
 */

type Hooks = Pick<RouteOptions, 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler'>

/**
 * Has a verdict looked at again before the handler, and once the body is there, before anything of the route sees it.
 *
 * @param enforce the one hook that nobody has to wait for
 */
export function checkAgainAfterBody (instance: FastifyInstance, route: RouteOptions, guard: Guard, enforce: unknown): void {
  // Once all onRoute hooks have had their turn: none of them gets before it.
  queueMicrotask(() => {
    const own: Hooks = { ...route }
    const hasBody = [route.method].flat().some((method) => readsBodyOf(instance, method.toUpperCase()))
    if (hasBody) Object.assign(route, { preValidation: [guard, ...[own.preValidation ?? []].flat()] })
    // Each stage takes as long as all else that we do. Fastify asks when everything has loaded: hooks may come until then.
    Object.defineProperty(route, 'preHandler', {
      enumerable: true,
      configurable: true,
      get: () => hasBody || mayWait(instance, own, enforce) ? [guard, ...[own.preHandler ?? []].flat()] : own.preHandler,
      set: (hooks: Hooks['preHandler']) => { own.preHandler = hooks }
    })
  })
}

function mayWait (instance: FastifyInstance, { onRequest, preParsing, preValidation }: Hooks, enforce: unknown): boolean {
  const others = hooksOf(instance, ['onRequest', 'preParsing', 'preValidation', 'preHandler'])?.filter((hook) => hook !== enforce)
  return others === undefined || [...others, ...[onRequest ?? [], preParsing ?? [], preValidation ?? []].flat()].length > 0
}
