/**
 * Not-found handlers belong to no route, so that what guards the handlers of routes is put before them here.
 *
 * An instance-wide preHandler hook would do, but every request would pay for it.
 */
import type { FastifyInstance, preHandlerHookHandler } from 'fastify'

type Handler = (...args: never[]) => unknown
interface Options { preHandler?: unknown, preValidation?: unknown }
type SetNotFoundHandler = (options: Options, handler?: Handler) => FastifyInstance

/** Puts `guard` before every not-found handler that is set from now on, here and below. */
export function guardNotFoundHandlers (app: FastifyInstance, guard: preHandlerHookHandler): void {
  const setNotFoundHandler = app.setNotFoundHandler as unknown as SetNotFoundHandler
  app.setNotFoundHandler = function (this: FastifyInstance, first: Options | Handler = {}, second?: Handler) {
    const [options, handler] = typeof first === 'function' ? [{}, first] : [first, second]
    const { preHandler = [], preValidation } = options as Options
    return setNotFoundHandler.call(this, {
      ...options,
      // Its own hooks are as much behind it as the handler; `reply.callNotFound()` runs the last ones only.
      ...preValidation !== undefined && { preValidation: [guard, preValidation].flat() },
      preHandler: [guard, preHandler].flat()
    }, handler)
  } as unknown as typeof app.setNotFoundHandler
}
