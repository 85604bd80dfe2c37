import t from 'tap'
import { execFileSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createSecureServer } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import type { ServerOptions } from 'node:https'
import tls, { type Server as TlsServer } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import lowest from 'fastify-lowest'
import fp from 'fastify-plugin'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { enableTls } from '../lib/tls/index.ts'
import { ask } from './fixtures/ask.ts'
import { listening } from './fixtures/network.ts'
import { authority } from './fixtures/pki.ts'
import { type LogLine, askingServer, keepLog, makePki, serve } from './fixtures/serve.ts'

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
  t.equal(await boot('mtls', { ...asking, rejectUnauthorized: undefined }), '', 'a client without a certificate is not meant to come')
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
    ['DER', boot('mtls', { ...asking, ca: pki.ca.certificate.raw }), /trusts no certificate authority/],
    ['pfx', boot('mtls', { pfx, passphrase: '', ca: pki.ca.cert, requestCert: true, rejectUnauthorized: false }), /was given a pfx/],
    ['SNICallback', boot('mtls', { ...asking, SNICallback: (_name, done) => done(null) }), /contexts of the server by name/],
    ['addContext', boot('mtls', asking, { prepare: (app) => (app.server as unknown as TlsServer).addContext('b.test', { key: pki.server.key, cert: pki.server.cert }) }), /contexts of the server by name/]
  ]
  for (const [what, answer, message] of cases) t.match(await answer, message, what)

  t.match(await boot('mtls', undefined, { options: { unsatisfiable: 'warn' } }), /^FST_HTTP_SECURITY_UNSATISFIABLE http-security: level 'tls' can never be met/, 'a warning where that is asked for')
  const many = await boot('tls', undefined, { prepare: (app) => { for (let i = 0; i < 30; i++) app.get(`/${i}`, async () => 'x') } })
  t.match(many, /GET, HEAD \/x\n[^]*GET, HEAD \/18\n {2}and 11 more$/)
})

t.test('a configuration that works but surprises is a warning at boot', async (t) => {
  const publicCa = await authority('Public CA')
  t.match(await boot('tls', { ...asking, ca: publicCa.cert, rejectUnauthorized: true }), /^http-security: rejectUnauthorized is true, so that clients without a certificate reach no route at all; set it to false:\n {2}GET, HEAD \/x$/)
  t.match(await boot('tls', { ...asking, rejectUnauthorized: undefined }), /rejectUnauthorized is true/)
  for (const helmet of [{ hsts: true }, { strictTransportSecurity: { maxAge: 1 } }]) t.match(await boot('none', undefined, { options: { helmet } }), /^http-security: the HSTS of helmet is off/)
  t.equal(await boot('none', undefined, { options: { helmet: { hsts: false } } }), '')
  t.match(await boot('none', undefined, { fastify: { frameworkErrors: (error, _request, reply) => { reply.send(error as never) } } }), /^http-security: frameworkErrors is set/)
})

t.test('a server of a serverFactory is checked at boot like any other', async (t) => {
  const fastify = { serverFactory: ((handler: never) => createTlsServer(asking, handler)) as never }
  t.equal(await boot('mtls', undefined, { fastify }), '')
  t.match(await boot('tls', undefined, { fastify: { serverFactory: (handler) => createServer(handler) } }), /UNSATISFIABLE: level 'tls' can never be met: the server speaks plain HTTP/)
  t.equal(await boot('tls', undefined, { fastify: { serverFactory: (handler) => createServer(handler) }, options: { proxy: { trust: 'loopback' } } }), '', 'the connections of a proxy are real, too')

  const { client } = pki
  const tls = await enableTls({ certificates: { cert: pki.server.cert, key: pki.server.key }, clientCertificates: { ca: pki.ca.cert } })
  for (const { serverFactory, options } of [
    { serverFactory: (handler: never) => createTlsServer(asking, handler), options: {} },
    { serverFactory: (handler: never, { https }: { https: ServerOptions }) => createTlsServer(https, handler), options: { tls } },
    { serverFactory: (handler: never, { https }: { https: ServerOptions }) => createSecureServer(https, handler), options: { tls } }
  ] as Array<{ serverFactory: never, options: HttpSecurityOptions }>) {
    const served = await serve(t, pki, (app) => { app.get('/x', { httpSecurity: { level: 'mtls', kind: 'rest' } }, async () => 'reached') }, { options, fastify: { serverFactory }, https: tls.https })
    t.equal((await served.secure('/x')).status, 403)
    t.equal((await served.insecure('/x')).status, 403)
    t.equal((await served.secure('/x', client)).body, 'reached')
  }
})

t.test('over TLS that the boot cannot see, a certificate counts where such levels were let be, and else for nothing', async (t) => {
  const { ca, client } = pki
  for (const { options, level, seen } of [
    { options: {}, level: 'tls', seen: '' },
    { options: { default: 'none' }, level: 'none', seen: '' },
    { options: { unsatisfiable: 'warn' }, level: 'mtls', seen: 'Jane' },
    { options: { mode: 'report' }, level: 'mtls', seen: 'Jane' }
  ] as const) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(httpSecurity, options)
    app.get('/x', { httpSecurity: level }, async (request) => ({ details: request.clientCertificateGetDetails().isPresent, name: request.clientCertificateValue('SubjectCN'), leaf: request.clientCertificate !== null }))
    // Here, they load what reads certificates.
    t.match(await inject(app, { url: '/x', clientCertificate: client.cert }).then((answer) => answer.json()), { details: true, name: 'Jane', leaf: true })
    const { port } = await listening(t, tls.createServer(asking, (socket) => app.server.emit('connection', socket)))
    const { status, body } = await ask({ port, path: '/x', tls: { ca: ca.cert, cert: client.cert, key: client.key } })
    t.equal(status, 200)
    t.strictSame(JSON.parse(body), { details: seen !== '', name: seen, leaf: seen !== '' }, JSON.stringify(options))
  }
})

t.test('a server of a serverFactory whose connections are not of Node can deliver no level but none', async (t) => {
  /** What its sockets say is whatever it likes. */
  class MadeUp extends EventEmitter {
    requestCert = true
    rejectUnauthorized = false
    ca = pki.ca.cert
    close (done: () => void): void { done() }
  }
  const fastify = { serverFactory: (() => new MadeUp()) as never }
  for (const options of [{}, { proxy: { trust: 'loopback', certificate: 'rfc9440' } }] as HttpSecurityOptions[]) {
    for (const level of ['tls', 'mtls'] as const) {
      t.match(await boot(level, undefined, { fastify, options }), /^FST_HTTP_SECURITY_UNSATISFIABLE: the levels 'tls' and 'mtls' can never be met: the server that serverFactory made is none of Node's, .*\. Routes:\n {2}GET, HEAD \/x$/, level)
    }
    t.equal(await boot('none', undefined, { fastify, options }), '')
    t.match(await boot('none', undefined, { fastify, options: { ...options, policy: { environment: { forceHttpsForScreens: true } } } }), /INVALID_POLICY: the policy forces HTTPS, and that cannot be met: the server that serverFactory made is none of Node's/)
  }
  const app = Fastify(fastify)
  await app.register(httpSecurity)
  await t.resolves(async () => { await app.ready() }, 'nothing is asked of it that only Node\'s have')
  await app.close()
})

t.test('onRequest hooks that were added before the plugin are warned of, once', async (t) => {
  const warningsOf = async (prepare: (app: FastifyInstance) => unknown): Promise<string[]> => {
    const log: LogLine[] = []
    const app = Fastify({ logger: keepLog(log) })
    await prepare(app)
    await app.after()
    app.get('/x', { httpSecurity: 'none' }, async () => 'x')
    await app.ready()
    await app.close()
    return log.filter(({ level, msg }) => level === 40 && !msg.includes('child context')).map(({ msg }) => msg)
  }
  const runMiddie = async (): Promise<void> => {}
  t.match(await warningsOf(async (app) => {
    app.addHook('onRequest', runMiddie)
    app.addHook('onRequest', (_request, _reply, done) => { done() })
    app.addHook('preHandler', async () => {})
    await app.register(httpSecurity)
    app.addHook('onRequest', async () => {})
  }), [/^http-security: 2 onRequest hooks were added before fastify-http-security: runMiddie, anonymous\. .*Put `await app\.register\(httpSecurity\)` before/])
  t.match(await warningsOf((app) => {
    app.register(fp(async (same) => { same.addHook('onRequest', runMiddie) }))
    app.register(httpSecurity)
    app.addHook('onRequest', async () => {})
  }), [/^http-security: 1 onRequest hook was added before fastify-http-security: runMiddie\./])
  t.match(await warningsOf(async (app) => {
    for (let i = 0; i < 30; i++) app.addHook('onRequest', runMiddie)
    await app.register(async (child) => { await child.register(httpSecurity, { default: 'none' }) })
  }), [/: 30 onRequest hooks were added before fastify-http-security: (?:runMiddie, ){19}runMiddie and 10 more\./])
  t.strictSame(await warningsOf(async (app) => {
    await app.register(httpSecurity, { helmet: {} })
    app.addHook('onRequest', runMiddie)
  }), [])
})

t.test('an app that is ready before its routes are registered is warned of', async (t) => {
  const tls = await enableTls({ certificates: { cert: pki.server.cert, key: pki.server.key } })
  const { emitWarning } = process
  t.teardown(() => { process.emitWarning = emitWarning })
  /** What its log says, and the process. */
  const warningsOf = async (prepare: (app: FastifyInstance) => unknown, hasLog = true): Promise<string[]> => {
    const log: LogLine[] = []
    const warnings: string[] = []
    process.emitWarning = ((message: string) => { warnings.push(message) }) as never
    const app = Fastify({ ...hasLog && { logger: keepLog(log) }, https: tls.https }) as unknown as FastifyInstance
    await app.register(httpSecurity, { tls })
    await prepare(app)
    await tls.listen(app, { https: 0 })
    await app.close()
    return [...log.filter(({ level }) => level === 40).map(({ msg }) => msg), ...warnings].filter((message) => message.includes('no route'))
  }
  const expected = /^http-security: the app is ready and has no route, .*\(Nest: await app\.init\(\)\)$/
  for (const prepare of [() => {}, (app: FastifyInstance) => app.addHook('onRequest', async function runMiddie () {})]) {
    const warnings = await warningsOf(prepare)
    t.match(warnings, [expected])
    t.equal(warnings.length, 1)
  }
  t.match(await warningsOf(() => {}, false), [/^listen: the app is ready and has no route/], 'as Nest has none unless told otherwise')
  const answering: Array<(app: FastifyInstance) => unknown> = [
    (app) => app.get('/', async () => 'x'),
    (app) => app.setNotFoundHandler(async () => 'x'),
    (app) => app.register(async (flow) => { flow.setNotFoundHandler(async () => 'x') }, { prefix: '/x' }),
    (app) => app.server.on('upgrade', () => {}),
    (app) => app.server.on('request', () => {})
  ]
  for (const prepare of answering) t.strictSame(await warningsOf(prepare), [], prepare.toString())
})

t.test('the plugin is registered once on each line of ancestors, and a second time is an error', async (t) => {
  const code = 'FST_HTTP_SECURITY_NO_EFFECT'
  const register = (options?: HttpSecurityOptions) => async (app: FastifyInstance): Promise<void> => { await app.register(httpSecurity, { default: 'none', ...options }) }
  const cases: Array<[prepare: (app: FastifyInstance) => unknown, message: RegExp]> = [
    [async (app) => { await register()(app); await register()(app) }, /registered already, here or in a context around/],
    [async (app) => { await register()(app); await app.register(register()) }, /registered already, here or in a context around/],
    [async (app) => { await register()(app); await app.register(async (child) => { await child.register(register()) }) }, /registered already, here or in a context around/],
    [async (app) => { await app.register(register()); await register()(app) }, /registered already, in a context within this one.*register it here alone, and first/],
    [async (app) => { await app.register(async (child) => { await child.register(async (grandchild) => { await grandchild.register(register()) }); await register()(child) }) }, /registered already, in a context within/]
  ]
  for (const [prepare, message] of cases) {
    const app = Fastify()
    await t.rejects(async () => { await prepare(app); await app.ready() }, { code, message })
    await app.close()
  }
  const app = Fastify()
  for (const [prefix, level] of [['/a', 'mtls'], ['/b', 'none']] as const) {
    await app.register(async (child) => {
      await child.register(httpSecurity, { default: level })
      child.get('/x', async () => 'reached')
    }, { prefix })
  }
  t.equal((await inject(app, { url: '/a/x', secure: true })).statusCode, 403)
  t.equal((await inject(app, '/b/x')).body, 'reached', 'contexts beside each other have each their own')
  await app.close()
})

t.test('the plugin works with the lowest supported version of Fastify, and with the newest', async (t) => {
  const { peerDependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { peerDependencies: { fastify: string } }
  t.equal(peerDependencies.fastify, `^${(lowest as unknown as typeof Fastify)().version}`, 'the lowest is the one that is tested')
  t.equal((Reflect.get(httpSecurity, Symbol.for('plugin-meta')) as { fastify: string }).fastify, peerDependencies.fastify)
  t.match(readFileSync(new URL('../README.md', import.meta.url), 'utf8'), `from ${peerDependencies.fastify.slice(1)} |`)

  const { client } = pki
  const preflight = { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } }
  for (const [name, fastify] of Object.entries({ lowest: lowest as unknown as typeof Fastify, newest: Fastify })) {
    for (const http2 of [false, true]) {
      const served = await serve(t, pki, async (app, hit) => {
        app.get('/early', (_request, reply) => { reply.callNotFound() })
        app.get('/page', { httpSecurity: { level: 'tls', kind: 'screen' } }, async (request) => hit(request))
        app.get('/partners', { config: { httpSecurity: 'mtls' } }, async (request) => `${hit(request)} by ${request.clientCertificateValue('SubjectCN')}`)
        app.options('/partners', { httpSecurity: 'mtls' }, async (request) => hit(request))
        app.post('/upload', { httpSecurity: 'mtls' }, async (request) => hit(request))
        await app.register(async (flow) => { flow.get('/', async (request) => hit(request)) }, { prefix: '/p/', httpSecurity: 'mtls' })
        app.register(async (flow) => { flow.setNotFoundHandler({ preHandler: async () => {} }, async (request) => hit(request)) }, { httpSecurity: 'mtls' })
      }, { make: fastify, http2, options: { default: 'none', flows: { '/secret': 'mtls' } } })
      t.equal(served.app.version === Fastify().version, name === 'newest', served.app.version)
      t.equal((await served.insecure('/page')).status, 308, name)
      for (const path of ['/partners', '/p', '/p/', '/p//', '/early', '/secret/x', '/%73ecret/x']) {
        t.equal((await served.insecure(path)).status, 403, `${name}, insecure: ${path}`)
        t.equal((await served.secure(path)).status, 403, `${name}, anonymous: ${path}`)
      }
      t.equal((await served.secure('/partners', undefined, { method: 'HEAD' })).status, 403)
      t.equal((await served.secure('/partners', undefined, preflight)).status, 403)
      t.equal((await served.secure('/upload', undefined, { method: 'POST', payload: 'x' })).status, 403)
      t.strictSame(served.reached, [], `${name}: no handler was reached`)
      t.equal((await served.secure('/partners', client)).body, 'reached by Jane')
      for (const path of ['/page', '/p/', '/early', '/secret/x']) t.equal((await served.secure(path, client)).body, 'reached', `${name}: ${path}`)
      t.equal((await served.secure('/partners', client, preflight)).body, 'reached')
    }
  }
})
