/**
 * CORS preflights: browsers never send a certificate with one, so that a preflight for an `mtls` route must reach
 * whoever answers preflights, and nobody else.
 */
import type { Http2ServerRequest } from 'node:http2'
import type { RouteOptions, onRequestHookHandler, preHandlerHookHandler } from 'fastify'
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
export function guardedHooks (own: OwnHooks, guard: Guard): OwnHooks {
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
