/**
 * Waiting: who sends a body decides when it ends, hooks of others may take their time, and a verdict may have ended by then.
 */
import type { FastifyInstance, RouteOptions } from 'fastify'
import { hooksOf, readsBodyOf } from '../server.ts'
import type { Guard } from './preflight.ts'

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
