/**
 * fastify-http-security: a route, or a flow of routes, says how it may be reached, and it holds.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { HttpSecurityOptions } from '../types/index.ts'
import '../types/fastify.ts'
import { checkServer, requireNoRoutes } from './boot.ts'
import { resolveOptions } from './options/resolve.ts'
import { createEnforcement } from './request/enforce.ts'
import { decorateRequests } from './request/decorate.ts'
import { guardRoute } from './request/preflight.ts'
import { createTransport } from './request/secure.ts'
import { requireEncapsulation } from './routes/encapsulation.ts'
import { Flows } from './routes/flows.ts'
import { print } from './routes/print.ts'
import { watchRegistrations } from './routes/register.ts'
import { RouteTable } from './routes/table.ts'

export type * from '../types/index.ts'

async function httpSecurity (app: FastifyInstance, input: HttpSecurityOptions): Promise<void> {
  const options = resolveOptions(input)
  requireNoRoutes(app)

  // Registration: every route's level is worked out as it comes.
  const slotKey = Symbol('fastify-http-security')
  const flows = new Flows(options)
  const table = new RouteTable()
  const lateErrors: Error[] = []
  requireEncapsulation(app, (error) => lateErrors.push(error))
  watchRegistrations(app, { options, flows, table, slotKey })

  // Requests: one hook enforces it, before anything else looks at them.
  const transport = createTransport(options)
  const enforcement = createEnforcement({ options, flows, table, slotKey, transport })
  app.addHook('onRequest', enforcement.enforce)
  app.addHook('preHandler', enforcement.guardNotFound)
  app.addHook('onRoute', (route) => guardRoute(route, enforcement.guardPreflight))
  decorateRequests(app, enforcement, transport)
  if (options.helmet !== undefined) {
    const { default: helmet } = await import('@fastify/helmet')
    const { hsts, strictTransportSecurity, ...rest } = options.helmet
    await app.register(helmet, { ...rest, hsts: false })
  }

  // Boot: what the server can never deliver stops here.
  app.addHook('onReady', async () => {
    if (lateErrors.length > 0) throw lateErrors[0]
    checkServer(app, options, table)
  })
  app.decorate('httpSecurity', Object.freeze({ routes: () => table.rows(), print: () => print(table.rows()) }))
}

export default fp(httpSecurity, { name: 'fastify-http-security', fastify: '^5.8.3' })
