/**
 * Not-found handlers belong to no route, so that what guards the handlers of routes is put before them here.
 *
 * An instance-wide preHandler hook would do, but every request would pay for it.
 */
import type { FastifyInstance } from 'fastify'
import { type Guard, guardedHooks } from './preflight.ts'

type Handler = (...args: never[]) => unknown
type SetNotFoundHandler = (options: object, handler?: Handler) => FastifyInstance

/**
 * Puts `guard` before every not-found handler that is set from now on, here and below, and before its own hooks.
 *
 * @param guarded takes the instances whose handlers it stands before
 */
export function guardNotFoundHandlers (app: FastifyInstance, guard: Guard, guarded: WeakSet<FastifyInstance>): void {
  const setNotFoundHandler = app.setNotFoundHandler as unknown as SetNotFoundHandler
  app.setNotFoundHandler = function (this: FastifyInstance, first?: object | Handler | null, second?: Handler) {
    const [options, handler] = typeof first === 'function' ? [{}, first as Handler] : [first ?? {}, second]
    guarded.add(this)
    return setNotFoundHandler.call(this, { ...options, ...guardedHooks(options, guard) }, handler)
  } as unknown as typeof app.setNotFoundHandler
}
