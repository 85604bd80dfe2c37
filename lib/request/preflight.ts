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
    (raw.httpVersionMajor !== 2 || (raw as Http2ServerRequest).stream.endAfterHeaders === true) &&
    headers.origin !== undefined &&
    headers['access-control-request-method'] !== undefined &&
    headers['transfer-encoding'] === undefined &&
    (headers['content-length'] ?? '0') === '0'
}

/** A callback-style hook that fits every stage before the handler. */
export type Guard = onRequestHookHandler & preHandlerHookHandler

const OWN_STAGES = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const

/**
 * Ends the exemption of preflights where the route begins: before the first of its own hooks, and before its handler.
 * Instance hooks, where CORS plugins answer, have run by then.
 */
export function guardRoute (route: RouteOptions, guard: Guard): void {
  const methods = Array.isArray(route.method) ? route.method : [route.method]
  if (!methods.includes('OPTIONS')) return
  for (const stage of OWN_STAGES) {
    const own = route[stage]
    if (own !== undefined || stage === 'preHandler') {
      Object.assign(route, { [stage]: [stage === 'preParsing' ? guardPayload(guard) : guard, ...[own ?? []].flat()] })
    }
  }
}

/** preParsing hooks are given the payload, too. */
function guardPayload (guard: Guard) {
  return function (this: unknown, ...[request, reply, , done]: [Parameters<Guard>[0], Parameters<Guard>[1], unknown, Parameters<Guard>[2]]): void {
    guard.call(this as never, request, reply, done)
  }
}
