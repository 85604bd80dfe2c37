import t from 'tap'
import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import type { HttpSecurityOptions, Violation } from '../lib/index.ts'
import { issue } from './fixtures/pki.ts'
import { ask, askRaw } from './fixtures/ask.ts'
import { makePki, serve, serveHttp } from './fixtures/serve.ts'

const pki = await makePki()
const code = (name: string): string => `FST_HTTP_SECURITY_${name}`

function declare (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): void {
  app.get('/screen', { httpSecurity: { level: 'tls', kind: 'screen' } }, async (request) => hit(request))
  app.get('/rest', { httpSecurity: { level: 'tls', kind: 'rest' } }, async (request) => hit(request))
  app.get('/mtls', { httpSecurity: 'mtls' }, async (request, reply) => reply.header('set-cookie', 'a=b').send(hit(request)))
  app.get('/away', { httpSecurity: 'none' }, async (_request, reply) => reply.redirect('http://localhost/x'))
  app.options('/rest', { httpSecurity: { level: 'tls', kind: 'rest' } }, async (request) => hit(request))
  app.setNotFoundHandler(async (request, reply) => reply.code(404).send(hit(request)))
}

t.test('in report mode nothing is refused, redirected or rewritten, and everything is counted', async (t) => {
  const options: HttpSecurityOptions = { mode: 'report', secureCookies: true, policy: { environment: { hsts: { maxAge: 60 } } } }
  const served = await serve(t, pki, declare, { options, https: { ca: undefined, requestCert: false } })
  t.match(served.log.find(({ code: is }) => is === code('UNSATISFIABLE')), { level: 40 }, 'what cannot be met is a warning')
  for (const [path, status] of [['/screen', 200], ['/rest', 200], ['/mtls', 200], ['/nothing', 404], ['/elsewhere', 404]] as const) {
    t.equal((await served.insecure(path)).status, status, path)
  }
  t.equal((await served.insecure('/rest', { method: 'OPTIONS', headers: { origin: 'http://a.test', 'access-control-request-method': 'GET' } })).status, 200)
  t.match(await askRaw(served.http, 'GET /screen HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 200/)
  t.match(await askRaw(served.http, 'GET *screen HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 (200|404)/)
  const secure = await served.secure('/mtls')
  t.match(secure, { status: 200, headers: { 'set-cookie': ['a=b'] } }, 'cookies stay as they are')
  t.equal(secure.headers['strict-transport-security'], undefined, 'no HSTS')
  t.equal((await served.secure('/away', undefined, { headers: { host: 'localhost' } })).headers.location, 'http://localhost/x')

  const rows = served.app.httpSecurity.violations()
  t.ok(Object.isFrozen(rows) && Object.isFrozen(rows[0]))
  const row = (name: string, answer: string, method: string, url: string | null, count: number) => ({ code: code(name), answer, mode: 'report', method, url, count })
  t.strictSame(rows.filter(({ code: is }) => is !== code('BAD_REQUEST')), [
    row('TLS_REQUIRED', 'redirect', 'GET', '/screen', 1),
    row('TLS_REQUIRED', 'refusal', 'GET', '/rest', 1),
    row('TLS_REQUIRED', 'refusal', 'GET', '/mtls', 1),
    row('TLS_REQUIRED', 'refusal', '', null, 2),
    row('TLS_REQUIRED', 'refusal', 'OPTIONS', '/rest', 1),
    row('CERTIFICATE_REQUIRED', 'refusal', 'GET', '/mtls', 1)
  ], 'all unknown paths are one row, and what is looked at twice counts once')
  t.equal(rows.filter(({ code: is }) => is === code('BAD_REQUEST')).reduce((sum, { count }) => sum + count, 0), 2)
})

t.test('the address of the last client is printable in the log, where Fastify has it from a header', async (t) => {
  const { port, log } = await serveHttp(t, { mode: 'report' }, (app) => { app.get('/', { httpSecurity: { level: 'tls', kind: 'rest' } }, async () => 'in') }, { trustProxy: true })
  t.equal((await ask({ port, headers: { 'x-forwarded-for': `\u009b2J\u0085${'x'.repeat(9_000)}` } })).status, 200)
  t.strictSame(log.flatMap(({ lastClient }) => lastClient ?? []), [`\\u{9b}2J\\u{85}${'x'.repeat(64 - 14)}…`])
})

t.test('in report mode WebSockets stay open, whatever their client certificate is', async (t) => {
  const served = await serve(t, pki, async (app, hit) => {
    await app.register(websocket)
    app.get('/live', { websocket: true, httpSecurity: 'mtls' }, (socket, request) => {
      hit(request)
      socket.on('message', (message) => { socket.send(String(message)) })
    })
  }, { options: { mode: 'report' } })
  const socket = new WebSocket(`ws://localhost:${served.http}/live`)
  t.teardown(() => socket.terminate())
  await once(socket, 'open')
  // They are looked at twice a second, and when a policy changes
  served.app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  await sleep(600)
  const answer = once(socket, 'message')
  socket.send('hello')
  t.equal(String((await answer)[0]), 'hello')
})

t.test('a silent route logs no violations, which are counted all the same', async (t) => {
  const violations: Violation[] = []
  const served = await serve(t, pki, (app) => {
    app.get('/silent', { logLevel: 'silent', httpSecurity: { level: 'mtls', kind: 'rest' } }, async () => 'reached')
    app.get('/loud', { httpSecurity: { level: 'mtls', kind: 'rest' } }, async () => 'reached')
  }, { options: { onViolation: (violation) => { violations.push(violation) } } })
  for (const path of ['/silent', '/loud']) {
    t.equal((await served.insecure(path)).status, 403, path)
    t.equal((await served.secure(path)).status, 403, path)
  }
  t.strictSame(served.log.filter(({ msg }) => msg.includes('refused')).map(({ route }) => route), ['/loud', '/loud'])
  t.strictSame(served.app.httpSecurity.violations().map(({ url, count }) => [url, count]), [['/silent', 1], ['/silent', 1], ['/loud', 1], ['/loud', 1]])
  t.equal(violations.length, 4)
})

t.test('violations are logged with one line a minute for each route and reason, with a count', async (t) => {
  const served = await serve(t, pki, declare, { options: { mode: 'report' } })
  const lines = () => served.log.filter(({ msg }) => /would have been (?:refused|redirected), were/.test(msg)).map(({ url, count, level }) => [url, count, level])
  const { now } = Date
  t.teardown(() => { Date.now = now })
  for (let i = 0; i < 5; i++) await served.insecure('/rest')
  await served.insecure('/screen')
  t.strictSame(lines(), [['/rest', 1, 40], ['/screen', 1, 40]])
  t.match(served.log.filter(({ lastClient }) => lastClient === '127.0.0.1').map(({ msg }) => msg), [/refused/, /redirected/])
  Date.now = () => now() + 61_000
  await served.insecure('/rest')
  t.strictSame(lines()[2], ['/rest', 5, 40], 'those in between are in the count')
  await served.insecure('/screen')
  await served.insecure('/screen')
  t.equal(lines().length, 4)
  await served.app.close()
  t.strictSame(lines().slice(4), [['/screen', 1, 40]], 'and what is left is told when the app closes')
})

t.test('violations after the last log line are logged a minute later, also if no more come', async (t) => {
  const ticks: Array<() => void> = []
  const { setInterval } = globalThis
  t.teardown(() => { globalThis.setInterval = setInterval })
  globalThis.setInterval = ((tick: () => void, milliseconds: number) => {
    if (milliseconds !== 60_000) return setInterval(tick, milliseconds)
    ticks.push(tick)
    return setInterval(() => {}, milliseconds)
  }) as never
  const served = await serve(t, pki, declare, { options: { mode: 'report' } })
  for (let i = 0; i < 3; i++) await served.insecure('/rest')
  t.equal(ticks.length, 1)
  ticks[0]!()
  ticks[0]!()
  t.strictSame(served.log.filter(({ msg }) => /were it not/.test(msg)).map(({ count }) => count), [1, 2])
})

t.test('a policy in report mode reports what the policy adds, and everything else is enforced', async (t) => {
  const options: HttpSecurityOptions = { default: 'none', application: 'shop', policy: { environment: { mode: 'report', forceHttpsForScreens: true, forceHttpsForIntegrations: true, hsts: { maxAge: 5 } } } }
  const served = await serve(t, pki, (app, hit) => {
    declare(app, hit)
    app.get('/open', { httpSecurity: { kind: 'screen' } }, async (request) => hit(request))
  }, { options })
  t.equal((await served.insecure('/screen')).status, 308, 'what is declared is enforced')
  t.equal((await served.insecure('/mtls')).status, 403)
  t.equal((await served.insecure('/open')).status, 200)
  t.equal((await served.insecure('/nothing')).status, 404)
  t.equal((await served.secure('/open')).headers['strict-transport-security'], undefined)
  const reported = () => served.app.httpSecurity.violations().filter(({ mode }) => mode === 'report').map(({ url, answer, count }) => [url, answer, count])
  t.strictSame(reported(), [['/open', 'redirect', 1], [null, 'refusal', 1]])
  t.equal(served.app.httpSecurity.routes().find(({ url }) => url === '/open')?.level, 'none')
  served.app.httpSecurity.enforce({ environment: { mode: 'report', forceHttpsForScreens: true }, applications: { shop: { forceHttpsForScreens: true } } })
  t.equal((await served.insecure('/open')).status, 308, 'the application enforces what the environment only reports')
  served.app.httpSecurity.enforce({ applications: { shop: { mode: 'report', forceHttpsForScreens: true } } })
  t.equal((await served.insecure('/open')).status, 200)
  t.equal((await served.insecure('/nothing')).status, 404)
  t.strictSame(reported(), [['/open', 'redirect', 2], [null, 'refusal', 2]])
})

t.test('each violation goes to onViolation and to a diagnostics channel, and errors thrown there do no harm', async (t) => {
  const told: Array<[Violation, string]> = []
  const published: unknown[] = []
  const subscriber = (message: unknown): void => { published.push(message) }
  channel('fastify-http-security:violation').subscribe(subscriber)
  t.teardown(() => channel('fastify-http-security:violation').unsubscribe(subscriber))
  let answer = (): unknown => undefined
  const served = await serve(t, pki, declare, { options: { onViolation: (violation, { url }) => { told.push([violation, url]); return answer() } } })
  const expired = await issue(pki.ca, { days: [-2, -1] })
  t.equal((await served.secure('/mtls?x', expired)).status, 403)
  t.equal((await served.insecure('/screen')).status, 308)
  t.match(told, [
    [{ code: code('CERTIFICATE_EXPIRED'), answer: 'refusal', mode: 'enforce', method: 'GET', url: '/mtls' }, '/mtls?x'],
    [{ code: code('TLS_REQUIRED'), answer: 'redirect', mode: 'enforce', method: 'GET', url: '/screen' }, '/screen']
  ])
  t.strictSame(published, told.map(([violation]) => violation))
  t.ok(Object.isFrozen(published[0]))

  const failures = () => served.log.filter(({ msg }) => /onViolation has failed/.test(msg)).length
  answer = () => { throw new Error('on purpose') }
  t.equal((await served.insecure('/rest')).status, 403)
  t.equal(failures(), 1)
  answer = () => Promise.reject(new Error('on purpose'))
  t.equal((await served.insecure('/rest')).status, 403)
  await sleep(10)
  t.equal(failures(), 2)
  t.equal((await served.secure('/mtls', pki.client)).status, 200)
  t.strictSame(served.app.httpSecurity.violations().map(({ code: is, count }) => [is, count]), [[code('CERTIFICATE_EXPIRED'), 1], [code('TLS_REQUIRED'), 1], [code('TLS_REQUIRED'), 2]])
})

t.test('violation counters do not grow with the paths that clients ask for', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/:name', async () => 'x')
    app.route({ method: ['GET', 'POST'], url: '/both', handler: async () => 'x' })
  })
  for (let i = 0; i < 50; i++) {
    await served.insecure(`/${i}`)
    await served.insecure(`/unknown/${i}`, { method: i % 2 === 0 ? 'DELETE' : 'PROPFIND' })
    await served.insecure('/both', { method: i % 2 === 0 ? 'GET' : 'POST' })
  }
  t.strictSame(served.app.httpSecurity.violations().map(({ url, method, count }) => [url, method, count]), [['/:name', 'GET', 50], [null, '', 50], ['/both', 'GET, POST', 50]])
})
