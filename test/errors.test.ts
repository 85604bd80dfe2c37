import t from 'tap'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as errors from '../lib/errors.ts'
import { digestOf } from '../lib/files/digest.ts'
import { openSource } from '../lib/files/document.ts'
import { acme } from '../lib/acme/index.ts'
import httpSecurity, { type HttpSecurityErrorCode } from '../lib/index.ts'
import { POLICY } from '../lib/policy/policy.ts'
import { inject } from '../lib/testing.ts'
import { developmentCertificates, enableTls } from '../lib/tls/index.ts'
import { askRaw } from './fixtures/ask.ts'
import { issue, selfSigned } from './fixtures/pki.ts'
import { makePki, serve } from './fixtures/serve.ts'

const pki = await makePki()
const codes = [...Object.values(errors.refusals), ...Object.values(errors).filter((value) => typeof value === 'function')].map((Type) => new Type().code)

type WithoutPrefix<Code> = Code extends `FST_HTTP_SECURITY_${infer Name}` ? Name : never

/** What each code is provoked with: the code that came. Its type holds the public union against the codes. */
const provoke: Record<WithoutPrefix<HttpSecurityErrorCode>, () => Promise<string>> = {
  TLS_REQUIRED: () => refused({ url: '/mtls' }),
  CERTIFICATE_REQUIRED: () => refused({ url: '/mtls', secure: true }),
  CERTIFICATE_UNTRUSTED: async () => overTls(await selfSigned()),
  CERTIFICATE_EXPIRED: async () => refused({ url: '/mtls', clientCertificate: (await issue(pki.ca, { days: [-2, -1] })).cert }),
  CERTIFICATE_NOT_YET_VALID: async () => refused({ url: '/mtls', clientCertificate: (await issue(pki.ca, { days: [1, 2] })).cert }),
  CERTIFICATE_REVOKED: async () => refusedBySocket('CERT_REVOKED'),
  REVOCATION_UNKNOWN: async () => refusedBySocket('UNABLE_TO_GET_CRL'),
  CERTIFICATE_NOT_ALLOWED: () => refused({ url: '/acme', clientCertificate: pki.client.cert }),
  CERTIFICATE_INVALID: async () => overTls(await issue(pki.ca, { purpose: 'server' })),
  MISDIRECTED: async () => {
    const { ca, server, client } = pki
    const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { localhost: { ca: ca.cert } } })
    const served = await serve(t, pki, (app) => { app.get('/', { httpSecurity: 'mtls' }, async () => 'x') }, { options: { tls }, https: tls.https })
    return codeIn((await served.secure('/', client, { headers: { host: 'other.test' }, tls: { servername: 'localhost' } })).body)
  },
  TOO_EARLY: async () => {
    const app = Fastify()
    await app.register(httpSecurity, { proxy: { trust: 'loopback' } })
    app.post('/', { httpSecurity: 'none' }, async () => 'x')
    const { body } = await app.inject({ method: 'POST', url: '/', headers: { 'early-data': '1' } })
    await app.close()
    return codeIn(body)
  },
  CERTIFICATE_PENDING: async () => {
    const certificates = acme({ directoryUrl: 'https://localhost:1', domains: ['shop.example'], dir: join(t.testdir(), 'acme'), termsOfServiceAgreed: true })
    const tls = await enableTls({ certificates })
    const served = await serve(t, pki, (app) => { app.get('/', { httpSecurity: 'tls' }, async () => 'x') }, { options: { tls }, https: tls.https })
    return codeIn((await served.insecure('/')).body)
  },
  UNKNOWN_ROUTE: () => refused({ url: '/early', secure: true }),
  BAD_REQUEST: async () => {
    const served = await serve(t, pki, (app) => { app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'x') })
    return codeIn(await askRaw(served.http, 'GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n'))
  },
  INVALID_OPTIONS: () => boot((app) => app.register(httpSecurity, { default: 'tsl' as never })),
  NO_EFFECT: () => boot(async (app) => { await app.register(httpSecurity); await app.register(fp(async () => {}), { httpSecurity: 'tls' }) }),
  LOADED_LATE: () => boot((app) => { app.get('/', async () => 'x'); return app.register(httpSecurity) }),
  UNSATISFIABLE: () => boot(async (app) => { await app.register(httpSecurity); app.get('/', async () => 'x') }),
  INVALID_POLICY: () => boot((app) => app.register(httpSecurity, { policy: { environment: { hsts: {} } } as never })),
  INVALID_CLIENTS: () => boot((app) => app.register(httpSecurity, { clients: { clients: { acme: { certificates: [] } } } })),
  CONFLICT: () => saved(t.testdir({ 'policy.json': '{}' }), '0'.repeat(64)),
  NOT_SAVED: () => saved(join(t.testdirName, 'nowhere'), digestOf({})),
  INVALID_CERTIFICATES: () => enableTls({ certificates: { cert: pki.server.cert, key: pki.client.key } }).then(() => 'none', ({ code }) => code as string),
  DEVELOPMENT_CERTIFICATES: () => developmentCertificates({ hosts: ['no host'] }).then(() => 'none', ({ code }) => code as string)
}

const saved = (dir: string, expected: string): Promise<string> =>
  openSource(join(dir, 'policy.json'), POLICY, () => {}).save({ environment: {} }, expected).then(() => 'none', ({ code }) => code as string)

const codeIn = (text: string): string => /FST_HTTP_SECURITY_\w+/.exec(text)?.[0] ?? text

async function refused (options: Parameters<typeof inject>[1]): Promise<string> {
  const app = Fastify()
  await app.register(async (child) => {
    child.get('/early', async () => 'x')
    await child.register(httpSecurity)
    child.get('/mtls', { httpSecurity: 'mtls' }, async () => 'x')
    child.get('/acme', { httpSecurity: { level: 'mtls', allow: ['acme'] } }, async () => 'x')
  })
  const { body } = await inject(app, options)
  await app.close()
  return codeIn(body)
}

async function overTls (identity: { cert: string, key: string }): Promise<string> {
  const served = await serve(t, pki, (app) => { app.get('/', { httpSecurity: 'mtls' }, async () => 'x') })
  return codeIn((await served.secure('/', identity)).body)
}

/** Over a real socket with a revocation list: client-certificates.test.ts. */
async function refusedBySocket (authorizationError: string): Promise<string> {
  const app = Fastify()
  app.addHook('onRequest', async (request) => { Object.assign(request.raw.socket, { authorized: false, authorizationError }) })
  await app.register(httpSecurity)
  app.get('/', { httpSecurity: 'mtls' }, async () => 'x')
  const { body } = await inject(app, { url: '/', clientCertificate: pki.client.cert })
  await app.close()
  return codeIn(body)
}

async function boot (register: (app: FastifyInstance) => unknown): Promise<string> {
  const app = Fastify()
  try {
    await register(app)
    await app.ready()
    return 'none'
  } catch (error) {
    return (error as Error & { code: string }).code
  } finally {
    await app.close()
  }
}

t.test('every error code can be provoked', async (t) => {
  t.strictSame(Object.keys(provoke).map((name) => `FST_HTTP_SECURITY_${name}`).sort(), [...codes].sort(), 'and none is without a test')
  for (const [name, cause] of Object.entries(provoke)) t.equal(await cause(), `FST_HTTP_SECURITY_${name}`, name)
})

t.test('a refusal is counted by the code that it is answered with', async (t) => {
  t.strictSame(errors.codeOf, Object.fromEntries(Object.entries(errors.refusals).map(([refusal, Type]) => [refusal, new Type().code])))
})

t.test('every error code has a row in docs/errors.md, with its status', async (t) => {
  const page = await readFile(new URL('../docs/errors.md', import.meta.url), 'utf8')
  const rows = [...page.matchAll(/^\| `(FST_HTTP_SECURITY_\w+)` \|(?: (\d{3}) \|)?/gm)]
  t.strictSame(rows.map(([, code]) => code).sort(), [...codes].sort())
  const statuses = Object.fromEntries(Object.values(errors.refusals).map((Type) => [new Type().code, String(new Type().statusCode)]))
  t.strictSame(Object.fromEntries(rows.filter(([, , status]) => status !== undefined).map(([, code, status]) => [code, status])), statuses)
})
