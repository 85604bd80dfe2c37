import t, { type Test } from 'tap'
import { channel } from 'node:diagnostics_channel'
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { connect } from 'node:http2'
import https, { type Server } from 'node:https'
import { join } from 'node:path'
import { mock } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import Fastify, { type FastifyInstance } from 'fastify'
import { readJson } from '../lib/files/json.ts'
import httpSecurity, { type Kind, type Level, type Policy, type PolicyChange, type PolicySource } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { enableTls } from '../lib/tls/index.ts'
import { type Answer, ask, askHttp2 } from './fixtures/ask.ts'
import { portOf } from './fixtures/network.ts'
import { plainNode, typescript, run } from './fixtures/programs.ts'
import { issueServer } from './fixtures/pki.ts'
import { type LogLine, askingServer, keepLog, makePki, serve } from './fixtures/serve.ts'
import { until, DAY } from './fixtures/time.ts'

const pki = await makePki()
const LEVELS = ['none', 'tls', 'mtls'] as const
const KINDS = ['screen', 'rest', 'soap', undefined] as const
const invalid = { code: 'FST_HTTP_SECURITY_INVALID_POLICY' }

/** Every declaration: `/none/screen`, …, `/mtls/undeclared`. */
const elements = LEVELS.flatMap((level) => KINDS.map((kind) => ({ level, kind, url: `/${level}/${kind ?? 'undeclared'}` })))
function declareAll (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): void {
  for (const { level, kind, url } of elements) app.get(url, { httpSecurity: { level, ...(kind && { kind }) } }, async (request) => hit(request))
}

interface Switches { hsts: boolean, screens: boolean, integrations: boolean, appScreens: boolean, appIntegrations: boolean }
const booleans = [false, true]
const everySwitch: Switches[] = booleans.flatMap((hsts) => booleans.flatMap((screens) => booleans.flatMap((integrations) =>
  booleans.flatMap((appScreens) => booleans.map((appIntegrations) => ({ hsts, screens, integrations, appScreens, appIntegrations }))))))

const policyOf = ({ hsts, screens, integrations, appScreens, appIntegrations }: Switches): Policy => ({
  environment: { ...(hsts && { hsts: { maxAge: 60 } }), forceHttpsForScreens: screens, forceHttpsForIntegrations: integrations },
  applications: { shop: { forceHttpsForScreens: appScreens, forceHttpsForIntegrations: appIntegrations }, other: { forceHttpsForScreens: true, forceHttpsForIntegrations: true } }
})

/** The rule, in other words than the library's. */
function expectedLevel (declared: Level, kind: Kind | undefined, minimum: Level, on: Switches): Level {
  const isScreen = kind === 'screen' || kind === undefined
  const isIntegration = kind === 'rest' || kind === 'soap' || kind === undefined
  const isForced = (isScreen && (on.hsts || on.screens || on.appScreens)) || (isIntegration && (on.integrations || on.appIntegrations))
  return LEVELS[Math.max(LEVELS.indexOf(declared), LEVELS.indexOf(minimum), isForced ? 1 : 0)]!
}

t.test('the level of a route is the strictest of its declaration, the minimum and the policy', async (t) => {
  let combinations = 0
  for (const minimum of LEVELS) {
    const app = Fastify({ https: askingServer(pki) })
    t.teardown(() => app.close())
    await app.register(httpSecurity, { minimum, application: 'shop' })
    declareAll(app as unknown as FastifyInstance, () => '')
    await app.ready()
    for (const on of everySwitch) {
      app.httpSecurity.enforce(policyOf(on))
      const rows = new Map(app.httpSecurity.routes().map((row) => [row.url, row]))
      for (const { level: declared, kind, url } of elements) {
        combinations++
        const { level, source } = rows.get(url)!
        const expected = expectedLevel(declared, kind, minimum, on)
        const raisedByMinimum = LEVELS.indexOf(minimum) > LEVELS.indexOf(declared)
        const expectedSource = expected !== declared && !(raisedByMinimum && expected === minimum) ? 'policy' : raisedByMinimum ? 'minimum' : 'route'
        if (level !== expected || source !== expectedSource) t.fail(`${url}, minimum ${minimum}, ${JSON.stringify(on)}: ${level} by ${source}`)
      }
    }
  }
  t.equal(combinations, 3 * 32 * 12)
})

t.test('requests on both ports meet the level that the policy gives', async (t) => {
  const served = await serve(t, pki, declareAll, { options: { application: 'shop' } })
  const [agent, secureAgent] = [new http.Agent({ keepAlive: true }), new https.Agent({ keepAlive: true })]
  t.teardown(() => { agent.destroy(); secureAgent.destroy() })
  let requests = 0
  for (const on of everySwitch) {
    served.app.httpSecurity.enforce(policyOf(on))
    for (const { level: declared, kind, url } of elements) {
      const level = expectedLevel(declared, kind, 'none', on)
      for (const accept of ['text/html', '*/*']) {
        const insecure = await served.insecure(url, { headers: { accept }, agent })
        const asksAsPerson = kind === 'screen' || (kind === undefined && accept === 'text/html')
        const expected = level === 'none' ? 200 : asksAsPerson ? 308 : 403
        if (insecure.status !== expected || insecure.headers['strict-transport-security'] !== undefined) t.fail(`${url} over HTTP, ${JSON.stringify(on)}: ${insecure.status}`)
        requests++
      }
      const secure = await served.secure(url, undefined, { agent: secureAgent })
      const hsts = on.hsts ? 'max-age=60' : undefined
      if (secure.status !== (level === 'mtls' ? 403 : 200) || secure.headers['strict-transport-security'] !== hsts) t.fail(`${url} over HTTPS, ${JSON.stringify(on)}: ${secure.status}`)
      requests++
    }
  }
  t.equal(requests, 32 * 12 * 3)
  // Paths that no route knows are both a screen and an integration.
  const unknown = await serve(t, pki, () => {}, { options: { default: 'none' } })
  t.equal((await unknown.insecure('/nothing')).status, 404)
  unknown.app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  t.equal((await unknown.insecure('/nothing')).status, 403)
  t.equal((await unknown.secure('/nothing')).status, 404)
})

t.test('HSTS is on every answer over HTTPS, and on none over HTTP', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/', async () => 'x')
    app.get('/error', async () => { throw new Error('on purpose') })
    app.get('/mtls', { httpSecurity: 'mtls' }, async () => 'x')
    app.get('/away', async (_request, reply) => reply.redirect('/'))
    app.get('/none', { httpSecurity: 'none' }, async () => 'x')
  }, { options: { policy: { environment: { hsts: { maxAge: 31_536_000, includeSubDomains: true, preload: true } } } } })
  const value = 'max-age=31536000; includeSubDomains; preload'
  for (const [path, status] of [['/', 200], ['/error', 500], ['/mtls', 403], ['/away', 302], ['/none', 200], ['/nothing', 404]] as const) {
    const { status: is, headers } = await served.secure(path)
    t.strictSame([is, headers['strict-transport-security']], [status, value], path)
    t.equal((await served.insecure(path, { headers: { accept: 'text/html' } })).headers['strict-transport-security'], undefined, path)
  }
  served.app.httpSecurity.enforce({ environment: { hsts: { maxAge: 0 } } })
  t.equal((await served.secure('/')).headers['strict-transport-security'], 'max-age=0', 'it is taken back')
  t.equal((await served.insecure('/none')).status, 200, 'and forces nothing')
  served.app.httpSecurity.enforce({})
  t.equal((await served.secure('/')).headers['strict-transport-security'], undefined)
})

t.test('with @fastify/helmet before or after, there is one HSTS header, and it is the policy\'s', async (t) => {
  const { default: helmet } = await import('@fastify/helmet')
  for (const order of ['before', 'after', 'by option'] as const) {
    const app = Fastify({ https: askingServer(pki) })
    t.teardown(() => app.close())
    const register = async (): Promise<void> => { await app.register(helmet, { hsts: { maxAge: 1 } }) }
    if (order === 'before') await register()
    await app.register(httpSecurity, { policy: { environment: { hsts: { maxAge: 2 } } }, ...(order === 'by option' && { helmet: {} }) })
    if (order === 'after') await register()
    app.get('/', async () => 'x')
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as { port: number }
    const request = https.get({ host: '127.0.0.1', port, ca: pki.ca.cert, agent: false })
    const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve))
    response.resume()
    const lines = response.rawHeaders.flatMap((name, index) => /^strict-transport/i.test(name) ? [response.rawHeaders[index + 1]] : [])
    t.strictSame(lines, ['max-age=2'], order)
    t.match(response.headers, { 'x-frame-options': 'SAMEORIGIN' }, order)
  }
})

t.test('HSTS of the app, of @fastify/helmet or of an upstream never goes out over HTTP', async (t) => {
  const { default: helmet } = await import('@fastify/helmet')
  const value = 'max-age=31536000; includeSubDomains'
  const kept: Record<string, string> = Object.freeze({ 'Strict-Transport-Security': value, 'X-Kept': 'yes' })
  const heads: Record<string, unknown[]> = {
    object: [200, kept],
    reason: [200, 'Fine', { 'strict-transport-security': value, 'x-kept': 'yes' }],
    list: [200, ['STRICT-TRANSPORT-SECURITY', value, 'X-Kept', 'yes']],
    pairs: [200, [['Strict-Transport-Security', value], ['X-Kept', 'yes']]]
  }
  const declare = (app: FastifyInstance): void => {
    app.get('/', async (_request, reply) => reply.header('x-kept', 'yes').send('x'))
    app.get('/own', async (_request, reply) => reply.header('Strict-Transport-Security', value).header('x-kept', 'yes').send('x'))
    app.get('/error', async (_request, reply) => { reply.header('x-kept', 'yes'); throw new Error('on purpose') })
    app.get('/implicit', (_request, reply) => { reply.hijack(); reply.raw.setHeader('Strict-Transport-Security', value); reply.raw.setHeader('X-Kept', 'yes'); reply.raw.end('x') })
    for (const [name, head] of Object.entries(heads)) {
      app.get(`/${name}`, (_request, reply) => { reply.hijack(); Reflect.apply(reply.raw.writeHead, reply.raw, head); reply.raw.end('x') })
    }
    app.get('/tls', { httpSecurity: { level: 'tls', kind: 'screen' } }, async () => 'x')
    app.get('/rest', { httpSecurity: { level: 'tls', kind: 'rest' } }, async () => 'x')
  }
  const paths = ['/', '/own', '/error', '/implicit', '/object', '/list', '/tls', '/rest', '/nothing']
  for (const order of ['before', 'after'] as const) {
    for (const http2 of [false, true]) {
      const app = Fastify({ http2, https: { ...askingServer(pki), allowHTTP1: true }, forceCloseConnections: true } as never) as unknown as FastifyInstance
      const plain = Fastify({ http2, forceCloseConnections: true } as never) as unknown as FastifyInstance
      for (const each of [app, plain]) {
        t.teardown(() => each.close())
        if (order === 'before') await each.register(helmet)
        await each.register(httpSecurity, { default: 'none', unsatisfiable: 'warn', ...each === app && { policy: {} } })
        if (order === 'after') await each.register(helmet)
        declare(each)
        await each.listen({ host: '127.0.0.1', port: 0 })
      }
      const sessions = new Map([app, plain].map((each) => [each, http2 ? connect(`${each === app ? 'https' : 'http'}://localhost:${portOf(each)}`, { ca: pki.ca.cert }) : undefined]))
      t.teardown(() => { for (const session of sessions.values()) session?.destroy() })
      const get = async (each: FastifyInstance, path: string): Promise<Answer> => {
        const session = sessions.get(each)
        return session === undefined ? await ask({ port: portOf(each), path, ...each === app && { tls: { ca: pki.ca.cert } } }) : await askHttp2(session, { ':path': path })
      }
      // Of pairs and reasons, HTTP/2 of Node makes nothing
      for (const path of [...paths, ...http2 ? [] : ['/reason', '/pairs']]) {
        const { status, headers } = await get(plain, path)
        t.equal(headers['strict-transport-security'], undefined, `${path} over HTTP/${http2 ? 2 : 1}, helmet ${order}`)
        if (status === 200) t.equal(headers['x-kept'], 'yes', 'and all else does')
        if (['/', '/own', '/error', '/object'].includes(path)) t.match((await get(app, path)).headers['strict-transport-security'], /^max-age=31536000/, 'over HTTPS, it is theirs to say')
      }
      t.strictSame([(await get(plain, '/tls')).status, (await get(plain, '/rest')).status], [308, 403], 'redirects and refusals among them')
    }
  }
  t.match(kept, { 'Strict-Transport-Security': value }, 'what was given to Node is as it was')

  const proxied = await serve(t, pki, declare, { options: { default: 'none', proxy: { trust: '127.0.0.1' } } })
  for (const proto of ['http', 'https']) {
    const { headers } = await proxied.insecure('/own', { headers: { 'x-forwarded-proto': proto } })
    t.equal(headers['strict-transport-security'], proto === 'https' ? value : undefined, `by a proxy, over ${proto}`)
  }
  const reported = await serve(t, pki, declare, { options: { default: 'none', mode: 'report' } })
  t.equal((await reported.insecure('/own')).headers['strict-transport-security'], value, 'in report mode, nothing is rewritten')
})

t.test('under load, every answer is that of one policy or of the other', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/', { httpSecurity: { level: 'none', kind: 'screen' } }, async (request) => request.httpSecurity.level)
  }, { http2: true, options: { default: 'none' } })
  const policies: Policy[] = [{}, { environment: { hsts: { maxAge: 5 } } }]
  /** What is seen of a policy, by how one asks. */
  const faces = { insecure: ['200 none -', '308  -'], secure: ['200 none -', '200 tls max-age=5'] }
  const seen = { insecure: new Map<string, number>(), secure: new Map<string, number>() }
  const note = (how: 'insecure' | 'secure', status: number, body: string, hsts: unknown): void => {
    const face = `${status} ${body} ${String(hsts ?? '-')}`
    seen[how].set(face, (seen[how].get(face) ?? 0) + 1)
  }
  const load = { isOver: false }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
  const secureAgent = new https.Agent({ keepAlive: true, maxSockets: 8 })
  t.teardown(() => { agent.destroy(); secureAgent.destroy() })
  const session = served.session()
  const loads = [
    ...Array.from({ length: 3 }, () => async () => { const { status, body } = await served.insecure('/', { agent }); note('insecure', status, body, undefined) }),
    ...Array.from({ length: 3 }, () => async () => { const { status, body, headers } = await served.secure('/', undefined, { agent: secureAgent }); note('secure', status, body, headers['strict-transport-security']) }),
    ...Array.from({ length: 3 }, () => async () => { const { status, body, headers } = await askHttp2(session, { ':path': '/' }); note('secure', status, body, headers['strict-transport-security']) })
  ].map(async (ask) => {
    while (!load.isOver) {
      await ask()
      await sleep(10)
    }
  })

  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heaps: number[] = []
  const began = Date.now()
  let flips = 0
  const isSeen = (): boolean => (['insecure', 'secure'] as const).every((how) => faces[how].every((face) => seen[how].get(face)! > 20))
  for (const most = began + 60_000; Date.now() - began < 5_000 || (!isSeen() && Date.now() < most);) {
    // 200 a second, caught up with when timers are late.
    while (flips < (Date.now() - began) / 5) served.app.httpSecurity.enforce(policies[++flips % 2]!)
    if (heaps.length < Math.floor((Date.now() - began) / 1_000)) {
      // The log that is kept has two lines for every request.
      served.log.splice(0, Infinity, ...served.log.filter(({ msg }) => msg === 'http-security: the policy has changed'))
      collect()
      heaps.push(process.memoryUsage().heapUsed)
    }
    await sleep(5)
  }
  load.isOver = true
  await Promise.all(loads)
  t.ok(flips >= 990, `${flips} times`)
  for (const how of ['insecure', 'secure'] as const) {
    t.strictSame([...seen[how].keys()].filter((face) => !faces[how].includes(face)), [], how)
    for (const face of faces[how]) t.ok(seen[how].get(face)! > 20, `${how}: ${face}, ${seen[how].get(face)} times`)
  }
  t.ok(heaps.at(-1)! - heaps[0]! < 8 * 1024 * 1024, `memory does not grow: ${heaps.map((bytes) => Math.round(bytes / 1024 / 1024)).join(', ')} MiB`)
  const lines = served.log.filter(({ msg }) => msg === 'http-security: the policy has changed')
  t.ok(lines.length <= (Date.now() - began) / 1_000 + 3, `${lines.length} lines`)
  t.ok(lines.some(({ changes }) => changes as number > 50), 'changes within a second are one line')
})

t.test('a change of policy is one line of the log, and in full on a diagnostics channel', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ https: askingServer(pki), logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none', application: 'shop' })
  for (let i = 0; i < 30; i++) app.get(`/screens/${i}`, { httpSecurity: { kind: 'screen' } }, async () => 'x')
  app.get('/api', { httpSecurity: { kind: 'rest' } }, async () => 'x')
  await app.ready()
  const published: PolicyChange[] = []
  const subscriber = (message: unknown): void => { published.push(message as PolicyChange) }
  channel('fastify-http-security:policy').subscribe(subscriber)
  t.teardown(() => channel('fastify-http-security:policy').unsubscribe(subscriber))

  app.httpSecurity.enforce({ applications: { shop: { forceHttpsForScreens: true } } })
  const [line] = log.filter(({ by }) => by === 'enforce')
  t.match(line, { level: 30, raised: 30, lowered: 0, changes: 1, hsts: { from: null, to: null } })
  t.equal((line?.routes as unknown[]).length, 20)
  t.strictSame((line?.routes as unknown[])[0], { methods: ['GET', 'HEAD'], url: '/screens/0', from: 'none', to: 'tls' })
  t.match(published, [{ by: 'enforce', raised: 30, lowered: 0 }])
  t.equal(published[0]?.routes.length, 30)

  app.httpSecurity.enforce({ environment: { hsts: { maxAge: 1 }, forceHttpsForIntegrations: true } })
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  t.equal(published.length, 3, 'the same policy again is no change')
  t.equal(log.filter(({ by }) => by === 'enforce').length, 1, 'not within a second')
  t.strictSame(app.httpSecurity.policy, { environment: { forceHttpsForIntegrations: true } })
  await app.close()
  t.match(log.filter(({ by }) => by === 'enforce')[1], { raised: 1, lowered: 30, changes: 2 }, 'what is left is told when the app closes')
})

const DEEP = '['.repeat(60_000) + ']'.repeat(60_000)
const cyclic: Record<string, unknown> = {}
for (let index = 0; index < 1_000; index++) cyclic[index] = cyclic

t.test('an invalid policy is refused with the place and the reason, and changes nothing', async (t) => {
  const app = Fastify({ https: askingServer(pki) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none' })
  app.get('/', async () => 'x')
  await app.ready()
  app.httpSecurity.enforce({ environment: { forceHttpsForScreens: true } })
  const before = app.httpSecurity.policy
  t.ok(Object.isFrozen(before) && Object.isFrozen(before.environment))
  for (const [policy, message] of [
    [undefined, /policy: undefined is not allowed/],
    ['{}', /policy: '\{\}' is not allowed/],
    [{ enviroment: {} }, /policy: unknown option 'enviroment'; known are \$schema, environment, applications\. Did you mean 'environment'\?$/],
    [{ environment: { forceHTTPSForScreen: true } }, /environment: unknown option 'forceHTTPSForScreen'.* Did you mean 'forceHttpsForScreens'\?$/],
    [{ applications: { shop: {}, 'a/b~c': { forceHttpsForIntegration: true } } }, /applications: a\/b~c: unknown option 'forceHttpsForIntegration'.* Did you mean 'forceHttpsForIntegrations'\?$/],
    [{ environment: { forceHttpsForScreens: 'yes' } }, /policy: environment: forceHttpsForScreens: 'yes' is not allowed; allowed: true or false/],
    [{ environment: { hsts: {} } }, /policy: environment: hsts: maxAge is missing/],
    [{ environment: { hsts: { maxAge: -1 } } }, /maxAge: -1 is not allowed; allowed: 0 to/],
    [{ environment: { hsts: { maxAge: 1.5 } } }, /maxAge: 1.5 is not allowed/],
    [{ environment: { mode: 'off' } }, /environment: mode: 'off' is not allowed; allowed: 'enforce', 'report'/],
    [{ applications: { shop: { hsts: { maxAge: 1 } } } }, /applications: shop: unknown option 'hsts'/],
    [JSON.parse('{"__proto__": {"environment": {}}}'), /policy: '__proto__': not allowed as a name/],
    [JSON.parse('{"applications": {"__proto__": {"forceHttpsForScreens": true}}}'), /policy: applications: '__proto__': not allowed as a name/],
    [JSON.parse(DEEP), /policy: \[ \[ \[Array\] \] \] is not allowed/],
    [{ environment: JSON.parse(DEEP) }, /policy: environment: \[ \[ \[Array\] \] \] is not allowed/],
    [cyclic, /policy: unknown option '0'/],
    [{ environment: cyclic }, /policy: environment: unknown option '0'/],
    [{ applications: cyclic }, /policy: applications: 0: unknown option '0'/],
    [{ applications: { 'two\nlines': 42 } }, /policy: applications: two\nlines: 42 is not allowed/],
    [{ applications: Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [index, index])) }, /policy: applications: 0: 0 is not allowed/]
  ] as const) {
    t.throws(() => app.httpSecurity.enforce(policy as never), { ...invalid, message }, String(message))
    t.equal(app.httpSecurity.policy, before, policy)
  }
  t.equal(app.httpSecurity.routes()[0]?.level, 'tls')
  const given = { environment: { forceHttpsForScreens: true, forceHttpsForIntegrations: true } }
  app.httpSecurity.enforce(given)
  given.environment.forceHttpsForScreens = false
  t.strictSame(app.httpSecurity.policy.environment?.forceHttpsForScreens, true, 'it is a copy')
  app.httpSecurity.enforce({ $schema: './policy.schema.json', applications: { constructor: { forceHttpsForScreens: true } } } as never)
  t.equal(app.httpSecurity.routes()[0]?.level, 'none', 'names are looked up as own keys: this one has none')
})

t.test('a policy that forces HTTPS is refused where the server cannot deliver it at that time', async (t) => {
  const forced: Policy = { environment: { forceHttpsForScreens: true } }
  const boot = async (options: object, fastify: object = {}): Promise<FastifyInstance> => {
    const app = Fastify(fastify) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, { default: 'none', ...options })
    app.get('/', async () => 'x')
    await app.ready()
    return app
  }
  await t.rejects(boot({ policy: forced }), { ...invalid, message: /forces HTTPS, and that cannot be met: the server speaks plain HTTP/ })
  await t.rejects(boot({ policy: { environment: { hsts: { maxAge: 0 } } } }), invalid)
  const plain = await boot({})
  t.throws(() => plain.httpSecurity.enforce(forced), { ...invalid, message: /plain HTTP/ })
  t.strictSame(plain.httpSecurity.policy, {})
  plain.httpSecurity.enforce({ environment: { ...forced.environment, mode: 'report' } })
  plain.httpSecurity.enforce({ applications: { other: { forceHttpsForScreens: true } } })
  await t.resolves(boot({ policy: forced, mode: 'report' }), 'what is only reported needs nothing')
  await t.resolves(boot({ policy: forced, proxy: { trust: '127.0.0.1' } }), 'a proxy does it')
  const old = await issueServer(pki.ca, ['localhost'], { days: [-2, -1] })
  await t.rejects(boot({ policy: forced }, { https: { key: old.key, cert: old.cert } }), { ...invalid, message: /the server's certificate has expired, on / })
  await t.resolves(boot({ policy: forced }, { https: { key: pki.server.key, cert: [pki.server.cert] } }))
  const tls = await enableTls({ certificates: { cert: pki.server.cert, key: pki.server.key } })
  const enabled = await boot({ policy: forced, tls }, { https: tls.https })
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 40 * DAY
  t.throws(() => enabled.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } }), { ...invalid, message: /the server's certificate has expired/ })
  Date.now = now
  const unknown = await boot({ policy: forced }, { https: {} })
  t.equal(unknown.httpSecurity.routes()[0]?.level, 'tls', 'a certificate that nobody shows us has the benefit of the doubt')
  const simulated = Fastify()
  t.teardown(() => simulated.close())
  await simulated.register(httpSecurity, { default: 'none', policy: forced })
  simulated.get('/', async () => 'x')
  t.equal((await inject(simulated, '/')).statusCode, 403, 'unit tests need no TLS')
})

/** An app with a policy file, and what waits until it has been read. */
async function withFile (t: Test, path: string) {
  const log: LogLine[] = []
  const app = Fastify({ https: askingServer(pki), logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none', application: 'shop', policy: path })
  app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  await app.ready()
  const becomes = async (level: Level, what: string): Promise<void> => {
    await until(() => app.httpSecurity.routes()[0]!.level === level)
    t.equal(app.httpSecurity.routes()[0]!.level, level, what)
  }
  const logs = async (pattern: RegExp): Promise<LogLine | undefined> => {
    const find = (): LogLine | undefined => log.find(({ msg }) => pattern.test(msg))
    await until(() => find() !== undefined)
    return find()
  }
  return { app, log, becomes, logs }
}
const ON = JSON.stringify({ applications: { shop: { forceHttpsForScreens: true } } })
const OFF = JSON.stringify({ applications: { shop: { forceHttpsForScreens: false } } }, null, 2)

t.test('a policy file is reloaded when it changes, however it is written', async (t) => {
  const dir = t.testdir({ 'policy.json': `\uFEFF${ON}` })
  const path = join(dir, 'policy.json')
  const { becomes, logs, log } = await withFile(t, path)
  await becomes('tls', 'at boot')
  writeFileSync(path, OFF)
  await becomes('none', 'written in place')
  t.match(await logs(/the policy has changed/), { by: path, lowered: 1 })
  writeFileSync(`${path}.new`, ON)
  renameSync(`${path}.new`, path)
  await becomes('tls', 'renamed over')
  rmSync(path)
  t.match(await logs(/stays in force.*cannot be read: ENOENT/), { level: 50, code: invalid.code })
  await becomes('tls', 'a file that is gone changes nothing')
  writeFileSync(path, OFF)
  await becomes('none', 'it comes back')
  writeFileSync(path, `${ON.slice(0, 16)}\n  oops`)
  t.match((await logs(/no JSON/))?.msg, `${path}:2:3: no JSON`)
  writeFileSync(path, ON.slice(0, 30))
  t.match(await logs(/policy\.json:1:31: no JSON/), { level: 50 }, 'cut off')
  await becomes('none', 'the last good one stays')
  writeFileSync(path, `{\n  "environment": ${DEEP}\n}`)
  t.match(await logs(/policy\.json:2:81: more than 64 arrays and objects are in one another/), { level: 50, code: invalid.code }, 'a tower of brackets')
  await becomes('none', 'the last good one stays')
  writeFileSync(path, '{"environment": {"hsts": 1}}')
  t.match((await logs(/hsts/))?.msg, `${path}: environment: hsts: 1 is not allowed`)
  t.notOk(log.some(({ msg }) => /written by every user/.test(msg)))
  chmodSync(path, 0o666)
  writeFileSync(path, ON)
  await becomes('tls', 'a good one again')
  t.ok(log.some(({ msg, level }) => level === 40 && /can be written by every user/.test(msg)))
})

t.test('a policy file that could not be read for want of file descriptors is loaded once there are some', async (t) => {
  const path = join(t.testdir({ 'policy.json': OFF }), 'policy.json')
  const script = `
    const { closeSync, openSync, writeSync } = await import('node:fs')
    const { default: Fastify } = await import('fastify')
    const { default: httpSecurity } = await import('./lib/index.ts')
    const path = ${JSON.stringify(path)}
    const told = []
    const app = Fastify({ logger: { stream: { write (line) { told.push(line) } } } })
    await app.register(httpSecurity, { default: 'none', application: 'shop', proxy: { trust: 'loopback' }, policy: path })
    app.get('/', async () => 'x')
    await app.ready()
    const until = async (isSo) => { while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20)) }
    const written = openSync(path, 'w')
    writeSync(written, ${JSON.stringify(ON)})
    const held = []
    try { for (;;) held.push(openSync('/dev/null')) } catch {}
    await until(() => told.some((line) => line.includes('cannot be read: EMFILE')))
    for (const fd of held) closeSync(fd)
    await until(() => app.httpSecurity.routes()[0].level === 'tls')
    await app.close()
    console.log(told.filter((line) => line.includes('EMFILE')).length, told.filter((line) => line.includes('loaded again')).length)`
  const { stdout } = await run('sh', ['-c', 'ulimit -n 200; exec env "$@"', 'sh', ...plainNode, ...typescript, '--input-type=module', '-e', script], { timeout: 20_000 })
  t.equal(stdout.trim(), '1 1')
})

t.test('a policy file in a Kubernetes volume is reloaded when its symbolic link is swapped', async (t) => {
  const dir = t.testdir({ '..one': { 'policy.json': ON } })
  symlinkSync('..one', join(dir, '..data'))
  symlinkSync('..data/policy.json', join(dir, 'policy.json'))
  const { becomes } = await withFile(t, join(dir, 'policy.json'))
  await becomes('tls', 'at boot')
  mkdirSync(join(dir, '..two'))
  writeFileSync(join(dir, '..two', 'policy.json'), OFF)
  symlinkSync('..two', join(dir, '..data_tmp'))
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'))
  rmSync(join(dir, '..one'), { recursive: true })
  await becomes('none', 'swapped')
})

t.test('a policy without this application is logged, and one with a repeated key is refused', async (t) => {
  for (const [application, message] of [[undefined, 'this one has no name'], ['Shop', 'this one is "Shop"']] as const) {
    const log: LogLine[] = []
    const app = Fastify({ https: askingServer(pki), logger: keepLog(log) })
    t.teardown(() => app.close())
    await app.register(httpSecurity, { default: 'none', application, policy: JSON.parse(ON) })
    app.get('/', async () => 'x')
    await app.ready()
    t.ok(log.some(({ msg, level }) => level === 40 && msg.includes('names the applications "shop"') && msg.includes(message)), message)
    t.match(log.find(({ msg }) => /a policy is in force/.test(msg)), { level: 30, by: 'options', raised: 0, forces: { screen: 'no', undeclared: 'no' } })
    t.equal(app.httpSecurity.routes()[0]?.level, 'none')
  }
  const path = join(t.testdir({ 'policy.json': '{\n  "environment": {"forceHttpsForScreens": true},\n  "environment": {}\n}' }), 'policy.json')
  const app = Fastify({ https: askingServer(pki) })
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(httpSecurity, { policy: path }), { ...invalid, message: /policy\.json:3:3: "environment" is there twice/ })
})

t.test('a policy file is JSON as JSON.parse reads it, and errors have line and column', async (t) => {
  for (const [text, message] of [
    ['', '1:1: no JSON: a value is expected here'],
    ['{"a" 1}', "1:6: no JSON: ':' is expected here"],
    ['[\n 1,\n 2 3]', "3:4: no JSON: ',' or the end of what was begun is expected here"],
    ['{"a": [}', '1:8: no JSON: a value is expected here'],
    ['{} {}', '1:4: no JSON: nothing more is expected here'],
    ['["a\nb"]', '1:4: no JSON: this string has no end, or a character that has to be escaped'],
    ['"a', '1:3: no JSON: this string has no end, or a character that has to be escaped'],
    ['"\\x"', '1:2: no JSON: this string has no end, or a character that has to be escaped'],
    ['{"a": {"a": 1}, "b": 2, "\\u0061": 3}', '1:25: "\\u0061" is there twice']
  ] as const) t.throws(() => readJson(text), { name: 'SyntaxError', message }, text)
  t.strictSame(readJson(' {"a": [], "b": {}, "c": [1, -0.5e+3, "\\u00e9\\n", true, null, {"a": 1}]}\n'), { a: [], b: {}, c: [1, -500, '\u00e9\n', true, null, { a: 1 }] })

  const piece = fc.constantFrom('{', '}', '[', ']', ':', ',', '"a"', '"b"', '"', '\\', '\\u0061', 'true', 'nul', '1', '-', '0', '.5', 'e3', ' ', '\n', '\u00a0', '\u0001', '{"a":', '[1,')
  const texts = fc.oneof(fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')), fc.json(), fc.json().chain((json) => fc.nat(json.length).map((at) => json.slice(0, at) + json.slice(at + 1))))
  const counts = { taken: 0, refused: 0 }
  const read = (reader: (text: string) => unknown, text: string): unknown => {
    try {
      return { value: reader(text) }
    } catch (error) {
      return /is there twice|in one another/.test(String(error)) ? 'stricter' : 'none'
    }
  }
  fc.assert(fc.property(texts, (text) => {
    const ours = read(readJson, text)
    counts[ours === 'none' ? 'refused' : 'taken']++
    return ours === 'stricter' || JSON.stringify(ours) === JSON.stringify(read(JSON.parse, text))
  }), { numRuns: 5_000 })
  t.ok(counts.taken > 500 && counts.refused > 500, JSON.stringify(counts))
})

t.test('an invalid policy file stops the boot', async (t) => {
  const dir = t.testdir({ folder: {}, 'large.json': `{}${' '.repeat(1024 * 1024)}`, 'broken.json': '{\n  "environment": {,}\n}', 'deep.json': DEEP, 'wrong.json': '{"application": {}}' })
  for (const [file, message] of [
    ['missing.json', /missing\.json: cannot be read: ENOENT/], ['folder', /folder: cannot be read: it is not a regular file/],
    ['large.json', /it has more than 1048576 bytes/], ['broken.json', /broken\.json:2:19: no JSON: a name in double quotes is expected here/], ['deep.json', /deep\.json:1:65: more than 64 arrays and objects are in one another/], ['wrong.json', /wrong\.json: unknown option 'application'/]
  ] as const) {
    const app = Fastify({ https: askingServer(pki) })
    await t.rejects(async () => await app.register(httpSecurity, { policy: join(dir, file) }), { ...invalid, message })
    await app.close()
  }
})

t.test('a custom policy source is loaded at boot and when it says so, and the last load wins', async (t) => {
  let answer: () => Promise<unknown> = async () => JSON.parse(ON)
  let changed = (): void => {}
  let stopped = 0
  const policy: PolicySource = { load: () => answer(), watch: (tell) => { changed = tell; return () => { stopped++ } } }
  const log: LogLine[] = []
  const app = Fastify({ https: askingServer(pki), logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none', application: 'shop', policy })
  app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  await app.ready()
  const level = (): Level => app.httpSecurity.routes()[0]!.level
  t.equal(level(), 'tls')
  answer = async () => JSON.parse(OFF)
  changed()
  await sleep(10)
  t.equal(level(), 'none')
  t.equal(log.find(({ msg }) => /policy has changed/.test(msg))?.by, 'source')

  let release = (): void => {}
  answer = async () => { await new Promise<void>((resolve) => { release = resolve }); return JSON.parse(ON) }
  changed()
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  release()
  await sleep(10)
  t.equal(level(), 'none', 'what was asked for before enforce() comes too late')

  for (const [what, message] of [[new Error('no network'), /the source did not load: no network/], ['a string', /the source did not load: a string/]] as const) {
    answer = () => { throw what }
    changed()
    await sleep(10)
    t.ok(log.some(({ msg, level }) => level === 50 && message.test(msg)))
  }
  await app.close()
  t.equal(stopped, 1)
  const silent = Fastify({ https: askingServer(pki) })
  t.teardown(() => silent.close())
  await silent.register(httpSecurity, { policy: { load: async () => ({}) } })
  await t.resolves(async () => await silent.ready(), 'a source need not watch')
})

/** An app whose policy comes from a source, and what its log has of it. */
async function withSource (t: Test, source: PolicySource, fastify: object = {}) {
  const log: LogLine[] = []
  const app = Fastify({ https: askingServer(pki), logger: keepLog(log), ...fastify }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none', application: 'shop', policy: source })
  app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  await app.ready()
  return {
    app,
    level: () => app.httpSecurity.routes()[0]!.level,
    lines: (pattern: RegExp) => log.filter(({ msg }) => pattern.test(msg))
  }
}

/** A source by hand: each call of `load` waits for its answer. */
function handSource () {
  const loads: Array<{ resolve (policy: string): void, reject (error: unknown): void }> = []
  let changed = (): void => {}
  const source: PolicySource = {
    load: async () => JSON.parse(await new Promise<string>((resolve, reject) => { loads.push({ resolve, reject }) })),
    watch: (tell) => { changed = tell; return () => {} }
  }
  /** Parts of the plugin are loaded before the source is. */
  const begun = async (): Promise<void> => { while (loads.length === 0) await new Promise(setImmediate) }
  return { source, loads, begun, changed: () => changed() }
}

/** Time goes by when it is told to: what is tried again is so within five seconds. */
function stopTime (t: Test): (milliseconds: number) => Promise<void> {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  return async (milliseconds) => {
    mock.timers.tick(milliseconds)
    await settled()
  }
}

/** Whatever is due at once has been done. */
const settled = async (): Promise<void> => { for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate) }

t.test('a failed load of a policy is retried until it succeeds, and logged once', async (t) => {
  let answer = async (): Promise<unknown> => JSON.parse(OFF)
  let changed = (): void => {}
  let loads = 0
  const pass = stopTime(t)
  const { app, level, lines } = await withSource(t, { load: () => { loads++; return answer() }, watch: (tell) => { changed = tell; return () => {} } })
  answer = async () => { throw new Error('no network') }
  changed()
  await settled()
  for (const milliseconds of [500, 1_000, 2_000, 4_000, 5_000, 5_000]) await pass(milliseconds)
  t.equal(loads, 2 + 6, 'it is tried again')
  t.equal(level(), 'none')
  t.equal(lines(/stays in force: policy: the source did not load: no network/).length, 1)
  answer = async () => JSON.parse(ON)
  await pass(5_000)
  t.equal(level(), 'tls', 'in force, with no other change')
  t.match(lines(/the policy is loaded again/), [{ level: 30, by: 'source' }])

  answer = async () => { throw new Error('no network') }
  changed()
  await settled()
  t.equal(lines(/no network/).length, 2, 'after it was there, that is news')
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  answer = async () => JSON.parse(ON)
  const before = loads
  await pass(60_000)
  t.strictSame([level(), loads], ['none', before], 'another one has come')
  for (let index = 0; index < 110; index++) {
    answer = async () => { throw new Error(`no network ${index}`) }
    changed()
    await settled()
  }
  t.equal(lines(/no network \d/).length, 110, 'each failure once')
})

t.test('an invalid policy is not loaded again until it changes', async (t) => {
  let answer: unknown = JSON.parse(OFF)
  let changed = (): void => {}
  let loads = 0
  const pass = stopTime(t)
  const { level, lines } = await withSource(t, { load: async () => { loads++; return answer }, watch: (tell) => { changed = tell; return () => {} } })
  for (const [wrong, message] of [[JSON.parse(DEEP), /policy: \[ \[ \[Array\] \] \] is not allowed/], [{ environment: { hsts: 1 } }, /hsts: 1 is not allowed/]] as const) {
    answer = wrong
    changed()
    await settled()
    t.match(lines(message), [{ level: 50, code: invalid.code }], wrong)
  }
  answer = JSON.parse(ON)
  const before = loads
  await pass(60_000)
  t.strictSame([level(), loads], ['none', before])
  changed()
  await settled()
  t.equal(level(), 'tls')
})

t.test('a policy that was refused while the certificate had expired is in force once there is another one', async (t) => {
  const old = await issueServer(pki.ca, ['localhost'], { days: [-2, -1] })
  let answer: unknown = JSON.parse(OFF)
  let changed = (): void => {}
  const pass = stopTime(t)
  const { app, level, lines } = await withSource(t, { load: async () => answer, watch: (tell) => { changed = tell; return () => {} } })
  const server = app.server as unknown as Server
  server.setSecureContext({ ...askingServer(pki), key: old.key, cert: old.cert })
  answer = JSON.parse(ON)
  changed()
  await settled()
  t.match(lines(/forces HTTPS, and that cannot be met: the server's certificate has expired/), [{ level: 50, code: invalid.code }])
  t.equal(level(), 'none')
  t.throws(() => app.httpSecurity.enforce(JSON.parse(ON)), invalid)
  server.setSecureContext(askingServer(pki))
  await pass(500)
  t.equal(level(), 'tls', 'in force')
  t.equal(lines(/certificate has expired/).length, 1)
})

t.test('no quick change of a policy is lost, whichever load fails', async (t) => {
  const { source, loads, begun, changed } = handSource()
  const boot = withSource(t, source)
  await begun()
  changed()
  loads[0]!.resolve(OFF)
  const { level, lines } = await boot
  t.equal(level(), 'none')
  t.equal(loads.length, 2, 'a change during the first load is heard of')
  loads[1]!.resolve(ON)
  await settled()
  t.equal(level(), 'tls')

  changed()
  changed()
  loads[2]!.resolve(OFF)
  await settled()
  t.equal(level(), 'none', 'the first of two')
  loads[3]!.reject(new Error('no network'))
  await settled()
  t.equal(level(), 'none', 'the second has failed')
  t.equal(lines(/no network/).length, 1)
})

t.test('a policy load that does not end is logged after ten seconds, and keeps no later one back', async (t) => {
  const { source, loads, begun, changed } = handSource()
  const pass = stopTime(t)
  const boot = withSource(t, source, { pluginTimeout: 0 })
  await begun()
  await pass(10_000)
  loads[0]!.resolve(OFF)
  const { app, level, lines } = await boot
  const told = /policy: load\(\) of the source has not ended after 10 seconds/
  t.match(lines(told), [{ level: 40 }], 'at boot')

  changed()
  await pass(10_000)
  t.equal(lines(told).length, 2, 'and later')
  changed()
  loads[2]!.resolve(ON)
  await settled()
  t.equal(level(), 'tls', 'what comes next is loaded')
  t.equal(lines(/the policy is loaded again/).length, 2)
  loads[1]!.resolve(OFF)
  await settled()
  t.equal(level(), 'tls', 'and what ends after it is too old')

  changed()
  await pass(10_000)
  changed()
  loads[3]!.resolve(OFF)
  await settled()
  t.equal(level(), 'none', 'unless nothing newer is in force')
  loads[4]!.resolve(ON)
  await settled()
  t.equal(level(), 'tls')

  changed()
  changed()
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  changed()
  loads[6]!.resolve(OFF)
  await settled()
  t.strictSame(app.httpSecurity.policy, JSON.parse(OFF), 'what was asked for before enforce() keeps nothing back, either')
  loads[5]!.reject(new Error('too late'))
  await settled()
  t.strictSame([loads.length, lines(/too late/).length], [7, 0])
  changed()
  await app.close()
  await pass(20_000)
  t.equal(lines(told).length, 3, 'nothing is told of an app that has closed')
})

t.test('a policy load that does not end stops the boot with its own error before the timeout of Fastify', async (t) => {
  const app = Fastify({ https: askingServer(pki), pluginTimeout: 2_000 })
  t.teardown(() => app.close())
  let stopped = 0
  const policy: PolicySource = { load: () => new Promise(() => {}), watch: () => () => { stopped++ } }
  await t.rejects(async () => await app.register(httpSecurity, { policy }), { ...invalid, message: /^policy: load\(\) of the source has not ended after 1\.\d seconds$/ })
  t.equal(stopped, 1)
})

t.test('the app closes whatever watch() of a policy source does', async (t) => {
  let answer: unknown = JSON.parse(OFF)
  let tell = (): void => {}
  const load = async (): Promise<unknown> => answer
  const close = async (app: FastifyInstance): Promise<void> => { await t.resolves(app.close()) }
  const cast = (watch: unknown): PolicySource => ({ load, watch } as PolicySource)

  const pass = stopTime(t)
  let stopped = 0
  let subscribed = (): void => {}
  const later = await withSource(t, cast(async (changed: () => void) => {
    await new Promise<void>((resolve) => { subscribed = resolve })
    tell = changed
    return () => { stopped++ }
  }))
  answer = JSON.parse(ON)
  subscribed()
  await settled()
  t.equal(later.level(), 'tls', 'what changed before it was watched')
  answer = JSON.parse(OFF)
  tell()
  await settled()
  t.equal(later.level(), 'none')
  await close(later.app)
  t.equal(stopped, 1)
  tell()
  const early = await withSource(t, cast(async () => { await new Promise<void>((resolve) => { subscribed = resolve }); return () => { stopped++ } }))
  await close(early.app)
  subscribed()
  await settled()
  t.equal(stopped, 2, 'closed before it was watched')

  let attempts = 0
  const failing = await withSource(t, cast(async (changed: () => void) => {
    if (++attempts < 3) throw new Error('no channel')
    tell = changed
    return () => { throw new Error('stuck') }
  }))
  for (const milliseconds of [500, 1_000, 60_000]) await pass(milliseconds)
  t.equal(attempts, 3, 'it is tried again')
  t.match(failing.lines(/cannot be watched/), [{ level: 40, msg: /policy: the source cannot be watched, so that nobody hears of changes: no channel/ }])
  await close(failing.app)
  t.equal(failing.lines(/cannot be stopped: stuck/).length, 1)

  const thrown = await withSource(t, cast(() => { throw Object.create(null) }))
  await close(thrown.app)
  t.match(thrown.lines(/cannot be watched.*: \[Object: null prototype\] \{\}/), [{ level: 40 }])
  const rejected = await withSource(t, cast(async () => { await new Promise<void>((resolve) => { subscribed = resolve }); throw new Error('too late') }))
  await close(rejected.app)
  subscribed()
  await settled()
  t.equal(rejected.lines(/too late/).length, 0)
  for (const [watch, said] of [[() => 42, /cannot be stopped: its watch\(\) answered 42; allowed: a function that stops it, or nothing/], [async () => ({ close () {} }), /answered \{ close: \[Function: close\] \}/], [() => undefined, undefined], [async () => null, undefined], [() => new Promise(() => {}), undefined]] as const) {
    const odd = await withSource(t, cast(watch))
    await settled()
    await close(odd.app)
    t.equal(odd.lines(said ?? /cannot be/).length, said === undefined ? 0 : 1, String(watch))
  }
})

t.test('a policy that is enforced before the app is ready holds from the first request on', async (t) => {
  const app = Fastify({ https: askingServer(pki) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none' })
  app.httpSecurity.enforce({ environment: { forceHttpsForScreens: true } })
  app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  t.equal(app.httpSecurity.routes()[0]?.level, 'tls')
  await app.ready()
  t.equal((await app.inject({ url: '/', headers: { host: 'localhost' } })).statusCode, 308)
})
