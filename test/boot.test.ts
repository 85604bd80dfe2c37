import t from 'tap'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import type { ServerOptions } from 'node:https'
import type { Server as TlsServer } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { authority } from './fixtures/pki.ts'
import { type LogLine, askingServer, keepLog, makePki } from './fixtures/serve.ts'

const pki = await makePki()
const asking = askingServer(pki)

/** What the boot of an app with one route of a level says: its error or its warnings. */
async function boot (level: 'none' | 'tls' | 'mtls', https: ServerOptions | undefined, { options = {}, fastify = {}, prepare = () => {} }: { options?: HttpSecurityOptions, fastify?: FastifyServerOptions, prepare?: (app: FastifyInstance) => void } = {}): Promise<string> {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log), ...https && { https }, ...fastify } as never) as unknown as FastifyInstance
  try {
    await app.register(httpSecurity, options)
    app.get('/x', { httpSecurity: level }, async () => 'x')
    prepare(app)
    await app.ready()
    return log.filter((line) => line.level === 40).map(({ code, msg }) => [code, msg].join(' ').trim()).join('\n')
  } catch (error) {
    const { code, message } = error as Error & { code: string }
    return `${code}: ${message}`
  } finally {
    await app.close()
  }
}

t.test('a server that can deliver what its routes ask for boots without a word', async (t) => {
  t.equal(await boot('none', undefined), '')
  t.equal(await boot('tls', asking), '')
  t.equal(await boot('tls', { key: pki.server.key, cert: pki.server.cert }), '')
  t.equal(await boot('mtls', asking), '')
  t.equal(await boot('mtls', { ...asking, rejectUnauthorized: undefined }), '', 'nobody without a certificate is meant to come')
  t.equal(await boot('mtls', { ...asking, ca: [pki.server.cert, Buffer.from(pki.ca.cert)] }), '')
  t.equal(await boot('tls', undefined, { options: { proxy: { trust: 'loopback' } } }), '')
})

t.test('a level that the server can never deliver is a boot error that lists the routes', async (t) => {
  const pfx = (() => {
    const dir = t.testdir({ 'server.pem': pki.server.cert, 'server.key': pki.server.key })
    execFileSync('openssl', ['pkcs12', '-export', '-in', 'server.pem', '-inkey', 'server.key', '-passout', 'pass:', '-out', 'server.p12'], { cwd: dir })
    return readFileSync(`${dir}/server.p12`)
  })()
  const cases: Array<[what: string, answer: Promise<string>, message: RegExp]> = [
    ['plain', boot('tls', undefined), /^FST_HTTP_SECURITY_UNSATISFIABLE: level 'tls' can never be met: the server speaks plain HTTP, and no proxy is trusted.* inject of fastify-http-security\/testing .*:\n {2}GET, HEAD \/x$/],
    ['plain, mtls', boot('mtls', undefined), /UNSATISFIABLE: .*'tls' can never be met[^]*level 'mtls' cannot be met with certainty: the server speaks plain HTTP\./],
    ['behind a proxy', boot('mtls', undefined, { options: { proxy: { trust: 'unix' } } }), /level 'mtls' cannot be met with certainty: .*it is not known how the proxy forwards client certificates/],
    ['minimum', boot('none', undefined, { options: { minimum: 'tls' } }), /'tls' can never be met/],
    ['does not ask', boot('mtls', { ...asking, requestCert: false }), /does not ask for client certificates\. Set requestCert/],
    ['no ca', boot('mtls', { ...asking, ca: undefined }), /trusts no certificate authority of its own for clients/],
    ['null ca', boot('mtls', { ...asking, ca: null as never }), /trusts no certificate authority/],
    ['empty ca', boot('mtls', { ...asking, ca: '' }), /trusts no certificate authority/],
    ['no ca in the list', boot('mtls', { ...asking, ca: [] }), /trusts no certificate authority/],
    ['garbage', boot('mtls', { ...asking, ca: 'garbage' }), /trusts no certificate authority/],
    ['garbage in PEM', boot('mtls', { ...asking, ca: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }), /trusts no certificate authority/],
    ['DER', boot('mtls', { ...asking, ca: Buffer.from(pki.ca.certificate.rawData) }), /trusts no certificate authority/],
    ['pfx', boot('mtls', { pfx, passphrase: '', ca: pki.ca.cert, requestCert: true, rejectUnauthorized: false }), /was given a pfx/],
    ['SNICallback', boot('mtls', { ...asking, SNICallback: (_name, done) => done(null) }), /contexts of the server by name/],
    ['addContext', boot('mtls', asking, { prepare: (app) => (app.server as unknown as TlsServer).addContext('b.test', { key: pki.server.key, cert: pki.server.cert }) }), /contexts of the server by name/]
  ]
  for (const [what, answer, message] of cases) t.match(await answer, message, what)

  t.match(await boot('mtls', undefined, { options: { unsatisfiable: 'warn' } }), /^FST_HTTP_SECURITY_UNSATISFIABLE http-security: level 'tls' can never be met/, 'a warning where that is asked for')
  const many = await boot('tls', undefined, { prepare: (app) => { for (let i = 0; i < 30; i++) app.get(`/${i}`, async () => 'x') } })
  t.match(many, /GET, HEAD \/x\n[^]*GET, HEAD \/18\n {2}and 11 more$/)
})

t.test('what works but surprises is a warning', async (t) => {
  const stranger = await authority('Public CA')
  t.match(await boot('tls', { ...asking, ca: stranger.cert, rejectUnauthorized: true }), /^http-security: rejectUnauthorized is true, so that clients without a certificate reach no route at all; set it to false:\n {2}GET, HEAD \/x$/)
  t.match(await boot('tls', { ...asking, rejectUnauthorized: undefined }), /rejectUnauthorized is true/)
  for (const helmet of [{ hsts: true }, { strictTransportSecurity: { maxAge: 1 } }]) t.match(await boot('none', undefined, { options: { helmet } }), /^http-security: the HSTS of helmet is off/)
  t.equal(await boot('none', undefined, { options: { helmet: { hsts: false } } }), '')
  t.match(await boot('none', undefined, { fastify: { frameworkErrors: (error, _request, reply) => { reply.send(error as never) } } }), /^http-security: frameworkErrors is set/)
})

t.test('a server of a serverFactory is looked at like any other', async (t) => {
  const fastify = { serverFactory: ((handler: never) => createTlsServer(asking, handler)) as never }
  t.equal(await boot('mtls', undefined, { fastify }), '')
})
