/**
 * Not-found handlers belong to no route, so that what guards the handlers of routes is put before them here.
 *
 * An instance-wide preHandler hook would do, but every request would pay for it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Guard, guardedHooks } from './preflight.ts'

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
