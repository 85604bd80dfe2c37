/**
 * `@fastify/helmet`, for whoever gives options for it. HSTS is not its business: that depends on how a request came.
 */
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'

export async function registerHelmet (app: FastifyInstance, options: FastifyHelmetOptions): Promise<void> {
  const { default: helmet } = await import('@fastify/helmet')
  const { hsts, strictTransportSecurity, ...rest } = options
  await app.register(helmet, { ...rest, hsts: false })
}
