/**
 * Bodies: who sends one decides when it ends, and a verdict may have ended by then.
 */
import type { RouteOptions } from 'fastify'
import type { Guard } from './preflight.ts'

/** Fastify reads no body of these. */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/** Has a verdict looked at again once the body is there, before anything of the route sees it. */
export function guardBodyOf (route: RouteOptions, guard: Guard): void {
  if ([route.method].flat().every((method) => WITHOUT_BODY.has(method.toUpperCase()))) return
  // Once all onRoute hooks have had their turn: none of them gets before it.
  queueMicrotask(() => {
    Object.assign(route, {
      preValidation: [guard, ...[route.preValidation ?? []].flat()],
      // Some read it in an instance's preHandler hook.
      preHandler: [guard, ...[route.preHandler ?? []].flat()]
    })
  })
}
