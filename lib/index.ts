/**
 * fastify-http-security: a route, or a flow of routes, says how it may be reached, and it holds.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { HttpSecurityOptions } from '../types/index.ts'
import '../types/fastify.ts'
import { attachTls, checkServer, isRoot, requireFirst, requireUnchanged } from './boot.ts'
import { resolveOptions } from './options/resolve.ts'
import { createEnforcement } from './request/enforce.ts'
import { decorateRequests } from './request/decorate.ts'
import { guardNotFoundHandlers } from './request/not-found.ts'
import { guardRoute } from './request/preflight.ts'
import { createTransport } from './request/secure.ts'
import { createVerdicts } from './request/verdict.ts'
import { registerHelmet } from './response/helmet.ts'
import { requireEncapsulation } from './routes/encapsulation.ts'
import { Flows } from './routes/flows.ts'
import { print } from './routes/print.ts'
import { watchRegistrations } from './routes/register.ts'
import { RouteTable } from './routes/table.ts'

export type * from '../types/index.ts'

async function httpSecurity (app: FastifyInstance, input: HttpSecurityOptions): Promise<void> {
  const options = resolveOptions(input)
  requireFirst(app)
  if (options.tls !== undefined) attachTls(app, options.tls)

  // Registration: every route's level is worked out as it comes.
  const slotKey = Symbol('fastify-http-security')
  const flows = new Flows(options)
  const table = new RouteTable()
  const lateErrors: Error[] = []
  requireEncapsulation(app, (error) => lateErrors.push(error))
  const changedRoute = watchRegistrations(app, { options, flows, table, slotKey })

  // Helmet only sets headers, and refusals should have them, too.
  if (options.helmet !== undefined) await registerHelmet(app, options.helmet)

  // Requests: one hook enforces it, before anything else looks at them.
  const transport = createTransport(options)
  const verdicts = createVerdicts(transport, options.tls)
  // At root, Fastify's own handler is no secret, and nobody has set another one before.
  const guarded = new WeakSet(isRoot(app) ? [app] : [])
  const enforcement = createEnforcement({ options, flows, table, slotKey, transport, verdicts, guarded })
  app.addHook('onRequest', enforcement.enforce)
  guardNotFoundHandlers(app, enforcement.guardNotFound, guarded)
  app.addHook('onRoute', (route) => guardRoute(route, enforcement.guardPreflight))
  decorateRequests(app, enforcement, transport, verdicts)

  // Boot: what the server can never deliver stops here.
  app.addHook('onReady', async () => {
    if (lateErrors.length > 0) throw lateErrors[0]
    requireUnchanged(changedRoute())
    table.trim()
    checkServer(app, options, table)
  })
  app.decorate('httpSecurity', Object.freeze({ routes: () => table.rows(), print: () => print(table.rows()) }))
}

export default fp(httpSecurity, { name: 'fastify-http-security', fastify: '^5.8.3' })
