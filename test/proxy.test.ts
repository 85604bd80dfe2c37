import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type Answer, ask } from './fixtures/ask.ts'
import { portOf } from './fixtures/network.ts'
import { issue } from './fixtures/pki.ts'
import { keepLog, type LogLine, makePki, serve, serveHttp } from './fixtures/serve.ts'

const pki = await makePki()

/** An application behind a proxy on loopback, over plain HTTP. */
async function behind (t: Test, proxy: HttpSecurityOptions['proxy'], options: HttpSecurityOptions = {}): Promise<(headers: Record<string, string | string[]>, path?: string) => Promise<string>> {
  const { port } = await serveHttp(t, { proxy, unsatisfiable: 'warn', ...options }, (app) => {
    app.get('/tls', { httpSecurity: { kind: 'screen' } }, async (request) => `${request.httpSecurity.secure}`)
    app.get('/mtls', { httpSecurity: 'mtls' }, async () => 'in')
  })
  return async (headers, path = '/tls') => {
    const answer = await ask({ port, path, headers: { host: 'app.internal:3000', ...headers } })
    return answer.headers.location ?? `${answer.status} ${/FST_HTTP_SECURITY_(\w+)/.exec(answer.body)?.[1] ?? answer.body}`
  }
}

t.test('X-Forwarded-Proto of a trusted proxy makes a request secure only if every value is https', async (t) => {
  const get = await behind(t, { trust: ['127.0.0.0/8'] })
  const away = 'https://app.internal/tls'
  for (const [value, answer] of [
    ['https', '200 true'], ['HTTPS', '200 true'], ['https, https', '200 true'], [['https', 'https'], '200 true'],
    ['http', away], ['', away], ['https,http', away], ['http, https', away], [['https', 'http'], away], ['https,', away], ['httpss', away], ['wss', away], ['ftp', away]
  ] as Array<[string | string[], string]>) t.equal(await get({ 'x-forwarded-proto': value }), answer, JSON.stringify(value))
  t.equal(await get({}), away, 'silence is insecure')
  t.equal(await get({ forwarded: 'proto=https' }), away, 'the other header is not looked at')
  t.equal(await get({ x_forwarded_proto: 'https' }), away, 'nor are underscores')
  t.equal(await get({ 'x-forwarded-proto': 'https', connection: 'close, X-Forwarded-Proto' }), away, 'nor what Connection names: any client can write it')
  t.equal(await get({ 'x-forwarded-proto': 'https' }, '/mtls'), '403 CERTIFICATE_REQUIRED')
  t.equal(await get({ 'x-forwarded-proto': 'wss', upgrade: 'websocket', connection: 'upgrade' }), '200 true', 'wss on a WebSocket handshake')
})

t.test('Forwarded (RFC 7239) of a trusted proxy makes a request secure only if its proto is https', async (t) => {
  const get = await behind(t, { trust: 'loopback', protocol: 'forwarded' })
  const away = 'https://app.internal/tls'
  for (const [value, answer] of [
    ['proto=https', '200 true'], ['for=192.0.2.1;Proto="HTTPS";by=x, for=x;proto=https', '200 true'],
    ['proto=http', away], ['for=192.0.2.1', away], ['proto=https, for=192.0.2.1', away], ['proto=https, proto=http', away],
    ['proto=http;proto=https', away], ['proto=https;', away], ['proto="https', away], ['', away], ['for="proto=https"', away]
  ] as const) t.equal(await get({ forwarded: value }), answer, value)
})

t.test('forwarding headers of an untrusted peer are ignored', async (t) => {
  const get = await behind(t, { trust: '192.0.2.1', host: 'x-forwarded-host' })
  t.equal(await get({ 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.test' }), 'https://app.internal/tls')
  const bare = await behind(t, undefined)
  t.equal(await bare({ 'x-forwarded-proto': 'https' }), 'https://app.internal/tls')
})

t.test('the log says which peer\'s header was ignored, since a wrong proxy.trust is an endless redirect', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: '10.0.0.0/8' } })
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  app.get('/api', { httpSecurity: { kind: 'rest' } }, async () => 'x')
  const headers = { 'x-forwarded-proto': 'https' }
  for (const url of ['/page', '/api']) await app.inject({ url, headers })
  await app.inject({ url: '/page', headers: { ...headers, host: 'a b' } })
  await app.inject({ url: '/page' })
  const ignored = 'x-forwarded-proto of 127.0.0.1, which is not in proxy.trust'
  t.match(log.filter(({ msg }) => msg.startsWith('http-security')), [
    { level: 30, msg: 'http-security: request redirected', route: '/page', ignored },
    { level: 30, msg: 'http-security: request refused', route: '/api', code: 'FST_HTTP_SECURITY_TLS_REQUIRED', ignored },
    { level: 30, msg: 'http-security: request refused', route: '/page', code: 'FST_HTTP_SECURITY_BAD_REQUEST', ignored, host: 'a b' }
  ])
  t.equal(log.filter(({ msg }) => msg.startsWith('http-security')).length, 3)
})

t.test('the log says what is wrong with a trusted proxy\'s header, since a missing one is an endless redirect', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'haproxy' } })
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  app.get('/api', { httpSecurity: { kind: 'rest', level: 'mtls' } }, async () => 'x')
  const said = async (url: string, headers: Record<string, string>): Promise<unknown[]> => {
    log.length = 0
    await app.inject({ url, headers })
    return log.filter(({ msg }) => msg.startsWith('http-security')).map(({ forwarded }) => forwarded)
  }
  const missing = 'x-forwarded-proto is missing: the proxy has to say how clients come'
  t.strictSame(await said('/page', {}), [missing])
  t.strictSame(await said('/api', {}), [missing])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'http' }), [], 'a redirect that is right is not worth a line')
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'http' }), [undefined])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'https, http' }), ['x-forwarded-proto is https, http'])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'https', connection: 'x-forwarded-proto' }), ['x-forwarded-proto is named in Connection, so nobody knows who wrote it'])
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https' }), [undefined])
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https', 'x-ssl-client-cert': 'x' }), ['there is no client-cert, but x-ssl-client-cert, which proxy.certificate does not read'], 'another proxy than the one that was configured')
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https', 'client-cert': '', 'x-ssl-client-cert': 'x' }), [undefined])
})

t.test('a redirect behind a proxy goes to the host that proxy.host says', async (t) => {
  const get = await behind(t, { trust: 'loopback', host: 'x-forwarded-host' }, { redirect: { hosts: ['public.test', 'app.internal'] } })
  t.equal(await get({ 'x-forwarded-host': 'public.test' }), 'https://public.test/tls')
  t.equal(await get({ 'x-forwarded-host': 'public.test:8080' }), 'https://public.test/tls', 'never a listening port')
  t.equal(await get({}), 'https://app.internal/tls', 'a proxy that does not say it leaves Host as it is')
  for (const value of ['evil.test', 'public.test, evil.test', ['public.test', 'evil.test'], '', 'a b']) t.equal(await get({ 'x-forwarded-host': value }), '400 BAD_REQUEST', JSON.stringify(value))
  t.equal(await get({ 'x-forwarded-host': 'public.test', connection: 'close, X-Forwarded-Host' }), '400 BAD_REQUEST', 'named in Connection')
  const port = await behind(t, { trust: 'loopback' }, { redirect: { httpsPort: 8443 } })
  t.equal(await port({ 'x-forwarded-host': 'evil.test' }), 'https://app.internal:8443/tls')
})

t.test('TLS and certificate of a trusted proxy say nothing of its client', async (t) => {
  const proxyIdentity = await issue(pki.ca, { subject: 'CN=proxy' })
  const served = await serve(t, pki, (app, hit) => {
    app.get('/tls', async (request) => `${hit(request)} ${request.httpSecurity.secure} ${request.clientCertificateGetDetails().isPresent}`)
    app.get('/mtls', { httpSecurity: 'mtls' }, async (request) => hit(request))
    app.get('/none', { httpSecurity: 'none' }, async (request) => `${hit(request)} ${request.clientCertificateGetDetails().isPresent} ${request.clientCertificate === null} ${request.clientCertificateValue('SubjectCN') === ''}`)
  }, { options: { proxy: { trust: '127.0.0.1' } } })
  const code = ({ status, body }: Answer): string => `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
  t.equal(code(await served.secure('/tls', proxyIdentity)), '403 TLS_REQUIRED')
  t.equal(code(await served.secure('/mtls', proxyIdentity)), '403 TLS_REQUIRED')
  const headers = { 'x-forwarded-proto': 'https' }
  t.equal(code(await served.secure('/mtls', proxyIdentity, { headers })), '403 CERTIFICATE_REQUIRED')
  t.equal(code(await served.secure('/tls', proxyIdentity, { headers })), '200 reached true false')
  t.equal(code(await served.secure('/none', proxyIdentity)), '200 reached false true true')
  t.equal(code(await served.insecure('/tls', { headers })), '200 reached true false', 'over plain HTTP too')
  t.equal(served.log.filter(({ certificate }) => certificate !== undefined).length, 0, 'nor does the log take it for the client\'s')
})

t.test('an injected WebSocket has no socket, and is insecure', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'nginx' } })
  await app.register(websocket)
  app.get('/none', { httpSecurity: 'none', websocket: true }, (socket) => { socket.send('hello') })
  app.get('/mtls', { httpSecurity: 'mtls', websocket: true }, (socket) => { socket.send('hello') })
  await app.ready()
  const said = await new Promise((resolve, reject) => {
    app.injectWS('/none', {}, { onInit: (socket) => { socket.on('message', (data) => resolve(String(data))) } }).then((socket) => t.teardown(() => socket.terminate()), reject)
  })
  t.equal(said, 'hello')
  await t.rejects(app.injectWS('/mtls', { headers: { 'x-forwarded-proto': 'https', 'x-ssl-client-verify': 'SUCCESS' } }))
})

t.test('nothing of one client is remembered for the next on the same upstream connection', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback' } })
  app.get('/tls', async () => 'in')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const port = portOf(app)
  for (const protocol of ['https', 'http', 'https', undefined]) {
    const { status } = await ask({ port, path: '/tls', agent, headers: protocol === undefined ? {} : { 'x-forwarded-proto': protocol } })
    t.equal(status, protocol === 'https' ? 200 : 403, String(protocol))
  }
})

t.test('trust: \'unix\' trusts peers of a unix socket listener, and no others', async (t) => {
  const build = async (proxy: HttpSecurityOptions['proxy']): Promise<FastifyInstance> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(httpSecurity, { proxy })
    app.get('/tls', async () => 'in')
    return app
  }
  const headers = { 'x-forwarded-proto': 'https' }
  // The path of a unix socket has at most 107 bytes
  const dir = mkdtempSync(join(tmpdir(), 'unix-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'app.sock')
  const get = (options: http.RequestOptions): Promise<number> => new Promise((resolve, reject) => {
    http.get({ path: '/tls', headers, agent: false, ...options }, (response) => { response.resume(); resolve(response.statusCode!) }).on('error', reject)
  })

  const unix = await build({ trust: 'unix' })
  await unix.listen({ path })
  t.equal(await get({ socketPath: path }), 200)
  const beside = http.createServer((request, response) => unix.routing(request, response)).listen(0, '127.0.0.1')
  t.teardown(() => { beside.close(); beside.closeAllConnections() })
  await new Promise((resolve) => beside.once('listening', resolve))
  t.equal(await get({ port: portOf(beside), host: '127.0.0.1' }), 403, 'the same app by TCP')

  const other = await build({ trust: 'loopback' })
  await other.listen({ path: `${path}2` })
  t.equal(await get({ socketPath: `${path}2` }), 403, 'unless that is said, a unix socket is no proxy')
})

t.test('injected requests count as those of a client, unless they come from the address of a proxy', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback' } })
  app.get('/tls', async () => 'in')
  t.equal((await inject(app, { url: '/tls', headers: { 'x-forwarded-proto': 'https' } })).statusCode, 200)
  t.equal((await inject(app, { url: '/tls', remoteAddress: '192.0.2.1', headers: { 'x-forwarded-proto': 'https' } })).statusCode, 403)
  t.equal((await inject(app, { url: '/tls', secure: true })).statusCode, 200)
  t.equal((await inject(app, { url: '/tls', secure: true, remoteAddress: '127.0.0.1' })).statusCode, 403)
})

t.test('a re-encrypting proxy over HTTP/2 is trusted as over HTTP/1.1', async (t) => {
  const served = await serve(t, pki, (app, hit) => { app.get('/tls', async (request) => hit(request)) }, { http2: true, options: { proxy: { trust: '127.0.0.1' } } })
  const session = served.session(pki.client)
  const { askHttp2 } = await import('./fixtures/ask.ts')
  t.equal((await askHttp2(session, { ':path': '/tls', 'x-forwarded-proto': 'https' })).status, 200)
  t.equal((await askHttp2(session, { ':path': '/tls' })).status, 403)
  t.equal((await new Promise<number>((resolve) => https.get({ host: '127.0.0.1', port: served.https, path: '/tls', ca: pki.ca.cert, agent: false }, (response) => { response.resume(); resolve(response.statusCode!) }))), 403)
})
