/**
 * What is compared over HTTP: each protects the same one route.
 */
import { createRequire } from 'node:module'
import type { ServerOptions } from 'node:https'
import type { TLSSocket } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { EnabledTls } from '../../lib/tls/index.ts'
import httpSecurity, { enableTls } from './built.ts'
import { type Identities, askingServer } from './identities.ts'

export type Transport = 'http' | 'https' | 'mtls'

export interface Contender {
  /** Node's options for its server; the same for all others. */
  readonly https?: (identities: Identities) => Promise<ServerOptions>
  readonly protect: (app: FastifyInstance, transport: Transport) => unknown
  readonly over: readonly Transport[]
  /** What a client without a certificate gets over mTLS. */
  readonly anonymous: number
  /** A header that proves that it did something. */
  readonly header?: string
}

const LEVELS = { http: 'none', https: 'tls', mtls: 'mtls' } as const
const EVERYWHERE = ['http', 'https', 'mtls'] as const

export const BARE = 'bare'
export const AGAIN = 'bare, again'
export const SUBJECT = 'this plugin'
export const HSTS = 'this plugin, HSTS'
export const ENABLE_TLS = 'this plugin, enableTls'

export const contenders: Readonly<Record<string, Contender>> = {
  [BARE]: { protect: noop, over: EVERYWHERE, anonymous: 200 },
  // Against itself: what the noise is.
  [AGAIN]: { protect: noop, over: ['https', 'mtls'], anonymous: 200 },
  [SUBJECT]: { protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport] }), over: EVERYWHERE, anonymous: 403 },
  [HSTS]: { protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport], policy: { environment: { hsts: { maxAge: 31_536_000 } } } }), over: ['https'], anonymous: 200, header: 'strict-transport-security' },
  [ENABLE_TLS]: { https: fromEnableTls, protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport], tls }), over: ['https', 'mtls'], anonymous: 403 },
  'a check by hand': { protect: checkByHand, over: ['mtls'], anonymous: 403 },
  'client-certificate-auth': { protect: clientCertificateAuth, over: ['mtls'], anonymous: 401 },
  '@fastify/helmet': { protect: helmet, over: ['http', 'https'], anonymous: 200, header: 'strict-transport-security' }
}

/** A process serves one contender. */
let tls: EnabledTls | undefined

/** The options of the others, from PEM text: there is nothing to watch, as there is nothing to compare watching with. */
async function fromEnableTls (identities: Identities): Promise<ServerOptions> {
  const { cert, key, ca } = askingServer(identities)
  tls = await enableTls({ certificates: { cert: cert as string, key: key as string }, clientCertificates: { ca: ca as string } })
  return tls.https
}

function noop (app: FastifyInstance): void {
  app.addHook('onRequest', (_request, _reply, done) => done())
}

/** As people write it. It lets in anonymous clients that resume a session. */
function checkByHand (app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const socket = request.raw.socket as TLSSocket
    const certificate = socket.getPeerCertificate()
    if (!socket.authorized || Object.keys(certificate).length === 0) return reply.code(403).send('Forbidden')
  })
}

type Middleware = (request: object, response: object, next: (error?: Error & { status?: number }) => void) => void

/** An Express middleware: what it expects of Express is put there. */
export function clientCertificateAuth (app: FastifyInstance): void {
  const create = createRequire(import.meta.url)('client-certificate-auth') as (allow: (certificate: object) => boolean) => Middleware
  const middleware = create(() => true)
  app.addHook('onRequest', (request, reply, done) => {
    middleware(Object.assign(request.raw, { secure: true }), reply.raw, (error) => {
      if (error?.status !== undefined) reply.code(error.status)
      done(error)
    })
  })
}

async function helmet (app: FastifyInstance): Promise<void> {
  noop(app)
  const { default: plugin } = await import('@fastify/helmet')
  await app.register(plugin)
}
