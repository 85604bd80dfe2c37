import { X509Certificate } from 'node:crypto'
import t from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity, { type ClientsDocument, type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { ask } from './fixtures/ask.ts'
import { issue } from './fixtures/pki.ts'
import { makePki, serve } from './fixtures/serve.ts'
import { until } from './fixtures/time.ts'

const pki = await makePki()

async function build (): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(httpSecurity)
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async (request) => `${request.protocol} ${request.httpSecurity.secure}`)
  app.get('/ip', async ({ ip }) => ip)
  app.post('/partners', { httpSecurity: 'mtls' }, async (request) => ({ who: request.clientCertificateValue('SubjectCN'), body: request.body, details: request.clientCertificateGetDetails() }))
  return app
}

t.test('inject() of /testing needs neither sockets nor TLS', async (t) => {
  const app = await build()
  t.teardown(() => app.close())
  t.match(await inject(app, '/page'), { statusCode: 308, headers: { location: 'https://localhost/page' } })
  t.match(await inject(app, { url: '/page', headers: { host: 'shop.test' } }), { statusCode: 308, headers: { location: 'https://shop.test/page' } })
  t.match(await inject(app, { url: '/page', secure: true }), { statusCode: 200, body: 'https true' })
  t.match(await inject(app, { url: '/partners', method: 'POST', secure: true }), { statusCode: 403, body: /CERTIFICATE_REQUIRED/ })
  const answer = await inject(app, { url: '/partners', method: 'POST', payload: { a: 1 }, clientCertificate: pki.client.cert })
  t.match(answer.json(), { who: 'Jane', body: { a: 1 }, details: { isValid: true, subject: 'CN=Jane, O=Acme', serverSubject: '' } })
  const expired = await issue(pki.ca, { days: [-10, -1] })
  t.match(await inject(app, { url: '/partners', method: 'POST', clientCertificate: expired.cert }), { statusCode: 403, body: /CERTIFICATE_EXPIRED/ })
  t.match(await inject(app, { url: '/page', secure: false }), { statusCode: 308 }, 'one request says nothing of the next')
  t.match(await inject(app, { url: '/page', secure: undefined, clientCertificate: undefined }), { statusCode: 308 }, 'what is undefined is not given')
  for (const options of [{}, { remoteAddress: undefined as unknown as string }]) {
    t.equal((await inject(app, { url: '/ip', secure: true, ...options })).body, '192.0.2.1', 'an address where nothing listens')
  }
  t.equal((await inject(app, { url: '/ip', secure: true, remoteAddress: '10.0.0.1' })).body, '10.0.0.1')
})

t.test('inject() of /testing refuses contradicting options', async (t) => {
  const app = await build()
  t.teardown(() => app.close())
  await t.rejects(inject(app, { url: '/', secure: false, clientCertificate: pki.client.cert }), TypeError)
  await t.rejects(inject(app, { url: '/', clientCertificate: 'garbage' }), { name: 'TypeError', message: /has to be a certificate as PEM text/ })
  await t.rejects(inject(app, { url: '/', secure: false, client: 'acme' }), { name: 'TypeError', message: /secure must not be false/ })
  await t.rejects(inject(app, { url: '/', client: 'acme', clientCertificate: pki.client.cert }), { name: 'TypeError', message: /one of clientCertificate and client/ })
})

const NOT_ALLOWED = { statusCode: 403, body: /CERTIFICATE_NOT_ALLOWED/ }
const acme = { groups: ['writers', 'writers', 'staff'], certificates: [{ fingerprint256: 'ab'.repeat(32) }, { san: 'DNS:acme.example' }] }
const document: ClientsDocument = {
  clients: {
    // By its certificate, a client of this name would be another one.
    first: { certificates: [{ subject: { CN: 'acme' } }] },
    acme,
    globex: { certificates: [{ san: 'URI:spiffe://globex.example', issuedBy: 'partners' }] },
    initech: { suspended: true, groups: ['writers'], certificates: [{ subject: { CN: 'initech' } }] },
    'Ação, Lda_1': { certificates: [{ subject: { CN: 'x' } }] },
    ['long '.repeat(25)]: { certificates: [{ subject: { CN: 'y' } }] }
  }
}

async function buildWith (clients: HttpSecurityOptions['clients'], options: HttpSecurityOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(httpSecurity, { clients, flows: { '/partners': { level: 'mtls', kind: 'rest' } }, ...options })
  app.get('/partners', async (request) => ({
    client: request.httpSecurity.client,
    value: request.clientCertificateValue('Client'),
    cn: request.clientCertificateValue('SubjectCN'),
    certificate: request.clientCertificate?.toString(),
    isValid: request.clientCertificateGetDetails().isValid
  }))
  app.get('/partners/acme', { httpSecurity: { allow: ['acme'] } }, async () => 'acme')
  app.post('/partners/orders', { httpSecurity: { allow: [{ group: 'writers' }] } }, async () => 'ordered')
  app.get('/partners/described', { httpSecurity: { allow: [{ subject: { CN: 'globex' } }], verify: (certificate) => certificate?.subject === 'CN=globex' } }, async () => 'described')
  return app
}

t.test('inject() of /testing sends a request as a client of the clients document, by name', async (t) => {
  const app = await buildWith(document)
  t.teardown(() => app.close())
  const as = async (client: string, url = '/partners', method: 'GET' | 'POST' = 'GET') => await inject(app, { method, url, client })
  const whoAmI = async (client: string) => (await as(client)).json<{ client: object, certificate: string, cn: string }>()

  t.match(await whoAmI('acme'), { client: { name: 'acme', groups: ['writers', 'staff'] }, value: 'acme', cn: 'acme', isValid: true })
  t.match(await whoAmI('globex'), { client: { name: 'globex', groups: [] }, value: 'globex', cn: 'globex' })
  for (const name of Object.keys(document.clients).slice(-2)) t.match(await whoAmI(name), { client: { name }, cn: name })
  t.match(await as('acme', '/partners/acme'), { statusCode: 200, body: 'acme' })
  t.match(await as('globex', '/partners/acme'), NOT_ALLOWED)
  t.match(await as('first', '/partners/acme'), NOT_ALLOWED)
  t.match(await as('acme', '/partners/orders', 'POST'), { statusCode: 200, body: 'ordered' })
  t.match(await as('globex', '/partners/orders', 'POST'), NOT_ALLOWED)
  t.match(await as('globex', '/partners/described'), { statusCode: 200 }, 'rules that describe certificates see that of the client')
  t.match(await as('acme', '/partners/described'), NOT_ALLOWED)

  t.match(await as('initech', '/partners/orders', 'POST'), NOT_ALLOWED, 'a suspended client is refused')
  t.match((await as('initech')).json(), { client: null, value: '', cn: 'initech' }, 'and has no name')
  t.match(await inject(app, { url: '/partners/acme', clientCertificate: (await whoAmI('acme')).certificate }), NOT_ALLOWED, 'the certificate alone is that of the client that it matches')
  t.match(await inject(app, { url: '/partners/acme', secure: true, client: 'acme', clientCertificate: undefined }), { statusCode: 200 })
  t.match(await inject(app, { url: '/partners', secure: true, client: undefined }), { statusCode: 403, body: /CERTIFICATE_REQUIRED/ })

  t.equal((await whoAmI('acme')).certificate, (await whoAmI('acme')).certificate, 'its certificate is made once')
  t.not((await whoAmI('acme')).certificate, (await whoAmI('globex')).certificate)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  for (const date of [Date.UTC(1999, 0), Date.UTC(2100, 0)]) {
    Date.now = () => date
    t.match(await as('acme', '/partners/acme'), { statusCode: 200 }, 'it is in date whatever the clock of a test says')
  }
})

t.test('inject() of /testing refuses clients that the clients document in force does not have', async (t) => {
  let [clients, changed] = [document, () => {}]
  const app = await buildWith({ load: async () => clients, watch: (notify) => { changed = notify; return () => {} } })
  t.teardown(() => app.close())
  const as = async (client: string) => await inject(app, { url: '/partners/acme', client })
  await t.rejects(as('acmee'), { name: 'TypeError', message: 'client: "acmee" is not in the clients document, which has "first", "acme", "globex", "initech", "Ação, Lda_1", "long long long long long long long long long long long long long long long long long long long long long long long long long ". Did you mean "acme"?' })
  await t.rejects(as('zzzzzz'), { name: 'TypeError', message: /long "$/ }, 'nothing is like it')
  for (const name of ['', '__proto__', 'constructor', 5 as unknown as string]) await t.rejects(as(name), { name: 'TypeError', message: /is not in the clients document/ })
  t.equal((await as('acme')).statusCode, 200)

  clients = { clients: { ...Object.fromEntries(Array.from({ length: 30 }, (_, number) => [`c${number}`, acme])) } }
  changed()
  t.ok(await until(async () => await as('acme').then(() => false, (error: Error) => error.message.endsWith('"c19" and 10 more'))))
  t.match(await as('c3'), NOT_ALLOWED)
  clients = { clients: {} }
  changed()
  t.ok(await until(async () => await as('acme').then(() => false, (error: Error) => error.message.endsWith('has no clients'))))

  const none = await build()
  t.teardown(() => none.close())
  await t.rejects(inject(none, { url: '/page', client: 'acme' }), { name: 'TypeError', message: /the app has no clients document: the option clients is missing/ })
  const rulesOnly = await buildWith(undefined)
  t.teardown(() => rulesOnly.close())
  await t.rejects(inject(rulesOnly, { url: '/partners', client: 'acme' }), { name: 'TypeError', message: /the option clients is missing/ })
})

t.test('a client that inject() of /testing names counts where its document does, and not through a proxy', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const [prefix, name] of [['/a', 'acme'], ['/b', 'globex']] as const) {
    await app.register(async (context) => {
      await context.register(httpSecurity, { clients: { clients: { [name]: acme } }, default: { level: 'mtls', kind: 'rest' } })
      context.get('/', { httpSecurity: { allow: ['acme', 'globex'] } }, async (request) => request.httpSecurity.client?.name)
    }, { prefix })
  }
  t.match(await inject(app, { url: '/a', client: 'acme' }), { statusCode: 200, body: 'acme' })
  t.match(await inject(app, { url: '/b', client: 'globex' }), { statusCode: 200, body: 'globex' })
  t.match(await inject(app, { url: '/b', client: 'acme' }), NOT_ALLOWED)

  const proxied = await buildWith({ clients: { acme, globex: { certificates: [{ subject: { CN: 'globex' } }] } } }, { proxy: { trust: 'loopback', certificate: 'rfc9440' } })
  t.teardown(() => proxied.close())
  const headers = { 'x-forwarded-proto': 'https', 'client-cert': `:${new X509Certificate(pki.client.cert).raw.toString('base64')}:` }
  const forwarded = { url: '/partners', remoteAddress: '127.0.0.1', headers }
  t.match((await inject(proxied, forwarded)).json(), { client: null, cn: 'Jane' })
  t.match((await inject(proxied, { ...forwarded, client: 'acme' })).json(), { client: null, cn: 'Jane' }, 'a certificate that a proxy forwards says who it is')
  t.match((await inject(proxied, { url: '/partners', client: 'acme' })).json(), { client: { name: 'acme' } })
})

t.test('no request over the network can pass for one of inject() of /testing', async (t) => {
  const app = await build()
  t.teardown(() => app.close())
  t.equal((await inject(app, { url: '/page', secure: true })).statusCode, 200)
  t.match(await app.inject('/page'), { statusCode: 308 }, 'nor does the plain app.inject')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  t.equal((await ask({ port, path: '/page', headers: { secure: 'true', clientcertificate: 'x' } })).status, 308)
  t.equal((await ask({ port, path: '/partners', method: 'POST', headers: { secure: 'true', client: 'acme' } })).status, 403)

  // Over TLS, on a connection of its own, with a certificate that is valid
  const served = await serve(t, pki, (app) => {
    app.get('/acme', { httpSecurity: { level: 'mtls', allow: ['acme'] } }, async (request) => request.httpSecurity.client?.name)
  }, { options: { clients: { clients: { acme } } } })
  t.match(await inject(served.app, { url: '/acme', client: 'acme' }), { statusCode: 200, body: 'acme' })
  t.match(await served.secure('/acme', pki.client, { headers: { client: 'acme' } }), { status: 403, body: /CERTIFICATE_NOT_ALLOWED/ })
})
