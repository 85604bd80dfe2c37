/**
 * What is compared over HTTP: each protects the same one route.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { ServerOptions } from 'node:https'
import type { Server, TLSSocket } from 'node:tls'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import type { EnabledTls } from '../../lib/tls/index.ts'
import { pemOf } from '../../test/fixtures/chains.ts'
import httpSecurity, { enableTls } from './built.ts'
import { type Identities, askingServer } from './identities.ts'

export type Transport = 'http' | 'https' | 'mtls'

export interface Contender {
  /** Node's options for its server; the same for all others. */
  readonly https?: (identities: Identities) => Promise<ServerOptions>
  readonly protect: (app: FastifyInstance, transport: Transport, identities: Identities) => unknown
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
export const NO_HOOK = 'bare, without a hook'
export const SUBJECT = 'this plugin'
export const HSTS = 'this plugin, HSTS'
export const ENABLE_TLS = 'this plugin, enableTls'

/** Served by name for what they alone have to do: with `crl` or `hosts` of the identities. */
export const LIST = 'enableTls, with a list'
export const NODE_LIST = 'node:https, with a list'
export const HOSTS = 'enableTls, with many hosts'
export const NODE_HOSTS = 'node:https, with many hosts'

export const contenders: Readonly<Record<string, Contender>> = {
  [BARE]: { protect: noop, over: EVERYWHERE, anonymous: 200 },
  // Against itself: what the noise is.
  [AGAIN]: { protect: noop, over: ['https', 'mtls'], anonymous: 200 },
  [NO_HOOK]: { protect () {}, over: [], anonymous: 200 },
  [SUBJECT]: { protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport] }), over: EVERYWHERE, anonymous: 403 },
  [HSTS]: { protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport], policy: { environment: { hsts: { maxAge: 31_536_000 } } } }), over: ['https'], anonymous: 200, header: 'strict-transport-security' },
  [ENABLE_TLS]: { https: fromEnableTls, protect: (app, transport) => app.register(httpSecurity, { default: LEVELS[transport], tls }), over: ['https', 'mtls'], anonymous: 403 },
  [LIST]: { https: fromEnableTls, protect: live, over: [], anonymous: 403 },
  [NODE_LIST]: { https: async (identities) => ({ ...askingServer(identities), crl: pemOf('X509 CRL', readFileSync(identities.crl!)) }), protect: noop, over: [], anonymous: 200 },
  [HOSTS]: { https: fromEnableTls, protect: live, over: [], anonymous: 403 },
  [NODE_HOSTS]: { protect: addContexts, over: [], anonymous: 200 },
  'a check by hand': { protect: checkByHand, over: ['mtls'], anonymous: 403 },
  'client-certificate-auth': { protect: clientCertificateAuth, over: ['mtls'], anonymous: 401 },
  '@fastify/helmet': { protect: helmet, over: ['http', 'https'], anonymous: 200, header: 'strict-transport-security' }
}

/** A process serves one contender. */
export let tls: EnabledTls | undefined

/** The options of the others, from text: there is nothing to watch, as there is nothing to compare watching with. */
async function fromEnableTls (identities: Identities): Promise<ServerOptions> {
  const { server: { cert, key }, client: { ca }, crl, hosts = [] } = identities
  tls = await enableTls({ certificates: [{ cert, key }, ...hosts], clientCertificates: { ca, ...crl !== undefined && { crl } } })
  return tls.https
}

/** With a WebSocket, `/live`, which sends what it is sent. */
async function live (app: FastifyInstance): Promise<void> {
  await app.register(httpSecurity, { default: 'mtls', tls })
  await app.register(websocket)
  app.get('/live', { websocket: true }, (socket) => { socket.on('message', (message) => { socket.send(String(message)) }) })
}

function addContexts (app: FastifyInstance, _transport: Transport, { hosts = [] }: Identities): void {
  noop(app)
  for (const { cert, key } of hosts) {
    const pem = readFileSync(cert)
    const name = new X509Certificate(pem).subjectAltName!.replace(/^DNS:([^,]+).*/, '$1')
    ;(app.server as unknown as Server).addContext(name, { cert: pem, key: readFileSync(key) })
  }
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
