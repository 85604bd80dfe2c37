/**
 * Waiting: who sends a body decides when it ends, hooks of others may take their time, and a verdict may have ended by then.
 */
import type { RouteOptions } from 'fastify'
import type { Guard } from './preflight.ts'

/** Fastify reads no body of these, unless somebody tells it to. */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/** Has a verdict looked at again before the handler, and once the body is there, before anything of the route sees it. */
export function guardAfterWaiting (route: RouteOptions, guard: Guard): void {
  const hasBody = ![route.method].flat().every((method) => WITHOUT_BODY.has(method.toUpperCase()))
  // Once all onRoute hooks have had their turn: none of them gets before it.
  queueMicrotask(() => {
    Object.assign(route, {
      ...hasBody && { preValidation: [guard, ...[route.preValidation ?? []].flat()] },
      // Instance hooks may have read the body, or waited for something else.
      preHandler: [guard, ...[route.preHandler ?? []].flat()]
    })
  })
}
