import t from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { ask } from './fixtures/ask.ts'
import { issue } from './fixtures/pki.ts'
import { makePki } from './fixtures/serve.ts'

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
})

t.test('no request over the network can pass for one of inject() of /testing', async (t) => {
  const app = await build()
  t.teardown(() => app.close())
  t.equal((await inject(app, { url: '/page', secure: true })).statusCode, 200)
  t.match(await app.inject('/page'), { statusCode: 308 }, 'nor does the plain app.inject')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  t.equal((await ask({ port, path: '/page', headers: { secure: 'true', clientcertificate: 'x' } })).status, 308)
  t.equal((await ask({ port, path: '/partners', method: 'POST', headers: { secure: 'true' } })).status, 403)
})
