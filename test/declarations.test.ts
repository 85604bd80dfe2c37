import t from 'tap'
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import httpProxy from '@fastify/http-proxy'
import fastifyStatic from '@fastify/static'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fc from 'fast-check'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyContextConfig, type FastifyInstance, type RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { Errors } from 'typebox/schema'
import { Settings } from 'typebox/system'
import httpSecurity, { type HttpSecurityOption, type HttpSecurityOptions } from '../lib/index.ts'
import { InvalidOptionsError, LoadedLateError, NoEffectError } from '../lib/errors.ts'
import { compileChecks, DeclarationSchema, EnableTlsOptionsSchema, PluginOptionsSchema, PolicySchema, writeChecks } from '../lib/options/schema.ts'
import { resolveOptions } from '../lib/options/resolve.ts'
import { type SchemaError, errorsIn } from '../lib/options/validation-errors.ts'
import { inject } from '../lib/testing.ts'
import { portOf } from './fixtures/network.ts'
import { type LogLine, keepLog, makePki } from './fixtures/serve.ts'

const handler = async () => 'reached'

/** The levels and sources of an app's routes by url. */
async function tableOf (options: HttpSecurityOptions, declare: (app: FastifyInstance) => unknown): Promise<Record<string, string>> {
  const app = Fastify()
  await app.register(httpSecurity, { unsatisfiable: 'warn', ...options })
  await declare(app)
  await app.ready()
  const table = Object.fromEntries(app.httpSecurity.routes().map(({ url, level, source, kind }) => [url, [level, source, kind].filter((part) => part !== undefined).join(' ')]))
  await app.close()
  return table
}

/** The error of a boot. */
async function bootError (options: unknown, declare: (app: FastifyInstance) => unknown = () => {}): Promise<Error & { code?: string }> {
  const app = Fastify()
  try {
    await app.register(httpSecurity, options as HttpSecurityOptions)
    await declare(app)
    await app.ready()
  } catch (error) {
    return error as Error
  } finally {
    await app.close()
  }
  throw new Error('it booted')
}

t.test('the nearest declaration wins: route, flows from the inside, longest prefix, default', async (t) => {
  const table = await tableOf({ flows: { '/shop': 'none', '/shop/cart/': 'mtls', '/shop/cart/open': { kind: 'screen' } } }, async (app) => {
    app.get('/', handler)
    app.get('/shop', handler)
    app.get('/shopping', handler)
    app.get('/shop/cart', handler)
    app.get('/shop/cart/:id', handler)
    app.get('/shop/cart:id', handler)
    app.get('/shop/cart/open/x', handler)
    app.get('/SHOP//Cart/upper', handler)
    app.get('/shop/cart/own', { httpSecurity: 'tls' }, handler)
    await app.register(async (outer) => {
      outer.get('/outer', handler)
      await outer.register(async (inner) => {
        inner.get('/', handler)
        inner.get('/shop/cart/flow', { httpSecurity: { kind: 'screen' } }, handler)
      }, { prefix: '/inner', httpSecurity: { level: 'none' } })
      await outer.register(fp(async (same) => { same.get('/same', handler) }))
      await outer.register(async (silent) => { silent.get('/silent', handler) })
    }, { httpSecurity: { level: 'mtls', kind: 'soap' } })
  })
  t.strictSame(table, {
    '/': 'tls default',
    '/shop': 'none prefix',
    '/shopping': 'tls default',
    '/shop/cart': 'mtls prefix',
    '/shop/cart/:id': 'mtls prefix',
    '/shop/cart:id': 'none prefix',
    '/shop/cart/open/x': 'mtls prefix screen',
    '/SHOP//Cart/upper': 'mtls prefix',
    '/shop/cart/own': 'tls route',
    '/outer': 'mtls flow soap',
    '/same': 'mtls flow soap',
    '/silent': 'mtls flow soap',
    '/inner': 'none flow soap',
    '/inner/shop/cart/flow': 'none flow screen'
  })
})

t.test('the options default, minimum and profile set the levels of routes', async (t) => {
  t.strictSame(await tableOf({ default: { level: 'none', kind: 'rest' }, minimum: 'tls' }, (app) => {
    app.get('/a', handler)
    app.get('/b', { httpSecurity: { level: 'mtls', kind: undefined } }, handler)
    app.get('/c', { httpSecurity: { level: undefined, kind: 'screen' } }, handler)
    app.get('/d', { httpSecurity: 'tls' }, handler)
  }), { '/a': 'tls minimum rest', '/b': 'mtls route rest', '/c': 'tls minimum screen', '/d': 'tls route rest' })

  t.strictSame(await tableOf({ profile: 'outsystems' }, (app) => {
    app.get('/a', handler)
    app.get('/b', { httpSecurity: { level: 'mtls', kind: 'soap' } }, handler)
  }), { '/a': 'none default', '/b': 'mtls route soap' })
  t.strictSame(await tableOf({ profile: 'outsystems', default: 'tls' }, (app) => { app.get('/a', handler) }), { '/a': 'tls default' })

  const rest = await bootError({ profile: 'outsystems' }, (app) => app.get('/api', { httpSecurity: { level: 'mtls', kind: 'rest' } }, handler))
  t.type(rest, InvalidOptionsError)
  t.match(rest.message, /route GET \/api: 'mtls' is not allowed on a rest element/)
})

t.test('undefined options count as left out', async (t) => {
  const parts = { level: undefined, kind: undefined }
  const forced = { mode: undefined, forceHttpsForScreens: undefined, forceHttpsForIntegrations: undefined }
  const nothing = { default: undefined, flows: undefined, minimum: undefined, profile: undefined, redirect: undefined, proxy: undefined, tls: undefined, helmet: undefined, unsatisfiable: undefined, application: undefined, policy: undefined, mode: undefined, secureCookies: undefined, onViolation: undefined }
  const proxy = { trust: '127.0.0.1', protocol: undefined, host: undefined, certificate: undefined, ca: undefined, crl: undefined, ocsp: undefined, unknown: undefined, dir: undefined, allow: undefined, probe: undefined }
  t.strictSame(await resolveOptions(nothing), await resolveOptions({}))
  for (const options of [
    nothing,
    { ...nothing, default: parts, flows: { '/a': parts }, redirect: { statusCode: undefined, httpsPort: undefined, hosts: undefined }, proxy, helmet: { hsts: undefined } },
    { ...nothing, proxy: { ...proxy, certificate: { header: 'x-cert', encoding: 'rfc9440', verified: 'presence', hops: undefined } }, policy: { environment: undefined, applications: undefined } },
    { ...nothing, proxy, policy: { environment: { ...forced, hsts: undefined }, applications: { shop: forced } } },
    { ...nothing, proxy, policy: { environment: { ...forced, hsts: { maxAge: 0, includeSubDomains: undefined, preload: undefined } } } },
    { ...nothing, proxy, policy: { load: async () => ({ environment: forced }), watch: undefined } }
  ] satisfies HttpSecurityOptions[]) {
    t.strictSame(await tableOf({ ...options, unsatisfiable: 'warn' }, (app) => {
      app.get('/a', { httpSecurity: undefined, config: { httpSecurity: undefined } }, handler)
      app.get('/b', { httpSecurity: parts, config: { httpSecurity: parts } }, handler)
      app.register(async (flow) => { flow.get('/c', handler) }, { httpSecurity: undefined })
    }), { '/a': 'tls default', '/b': 'tls default', '/c': 'tls default' })
  }
})

t.test('what is added to an app while the plugin is loading stops the boot, since it would not be protected', async (t) => {
  // A policy that comes over the network
  const policy = { load: async () => { await delay(50); return {} } }
  const boot = async (options: object, add: (app: FastifyInstance) => void): Promise<FastifyInstance> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await Promise.all([app.register(httpSecurity, { default: 'mtls', unsatisfiable: 'warn', policy, ...options }), delay(20).then(() => add(app))])
    await app.ready()
    return app
  }
  for (const [what, add] of Object.entries<(app: FastifyInstance) => void>({
    'a not-found handler': (app) => app.setNotFoundHandler(handler),
    'an onRequest hook': (app) => app.addHook('onRequest', async () => {}),
    'a plugin': (app) => { app.register(async (child) => { child.addHook('onRequest', async (_request, reply) => await reply.send('first')) }) }
  })) {
    await t.rejects(boot({}, add), { code: 'FST_HTTP_SECURITY_LOADED_LATE', message: new RegExp(`^${what} came while`) }, what)
  }
  const app = await boot({ helmet: {} }, () => {})
  t.match(await app.inject('/unknown'), { statusCode: 403, headers: { 'x-frame-options': 'SAMEORIGIN' } }, 'helmet is no other plugin')
})

t.test('a key of flows that no route is under is a warning at boot, since it may be misspelled', async (t) => {
  const warningsWith = async (flows: Record<string, 'tls' | 'mtls'>, ...urls: string[]): Promise<string[]> => {
    const lines: string[] = []
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line).msg) } } } })
    await app.register(httpSecurity, { flows, proxy: { trust: 'loopback', certificate: 'nginx' } })
    for (const url of urls) app.get(url, handler)
    await app.ready()
    await app.close()
    return lines.filter((line) => line.includes('flows'))
  }
  t.match(await warningsWith({ '/partner': 'mtls' }, '/partners/me', '/shop'), [/^http-security: flows: no route is under '\/partner' \(did you mean '\/partners'\?\)/])
  t.match(await warningsWith({ '/alpha': 'tls', '/beta/gamma': 'tls', '/delta': 'tls' }, '/x/y', '/delta/e'), [/under '\/alpha'.*, '\/beta\/gamma'/])
  t.match(await warningsWith(Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`/x${index}x`, 'tls'])), '/'), [/and 10 more/])
  for (const [key, url] of [['/shop', '/shop'], ['/shop', '/Shop/'], ['/shop', '/shop/cart'], ['/shop/cart', '/shop/:id'], ['/shop/a/b', '/shop/*'], ['/shop', '*'], ['/', '/shop'], ['/', '/'], ['/shop', '/:any'], ['/caf\u00e9', '/cafe\u0301/x']] as const) {
    t.strictSame(await warningsWith({ [key]: 'mtls' }, url), [], `${key} has ${url}`)
  }
  t.equal((await warningsWith({ '/shop': 'tls' }, '/shopping')).length, 1, 'by whole segments')
})

t.test('routes() has a row for each registration, and print() prints them as a table', async (t) => {
  const app = Fastify()
  await app.register(httpSecurity, { minimum: 'tls', unsatisfiable: 'warn' })
  app.get('/page', { httpSecurity: { level: 'none', kind: 'screen' } }, handler)
  app.route({ method: ['GET', 'POST'], url: '/both', handler })
  app.get('/alone', { exposeHeadRoute: false }, handler)
  app.head('/alone', { httpSecurity: 'mtls' }, handler)
  app.get('/hosted', { constraints: { host: 'shop.test' } }, handler)
  await app.register(async (flow) => { flow.get('/', { constraints: {} }, handler) }, { prefix: '/flow' })
  t.strictSame(app.httpSecurity.routes(), [
    { methods: ['GET', 'HEAD'], url: '/page', kind: 'screen', declared: 'none', level: 'tls', source: 'minimum' },
    { methods: ['GET', 'POST', 'HEAD'], url: '/both', kind: undefined, declared: 'tls', level: 'tls', source: 'default' },
    { methods: ['GET'], url: '/alone', kind: undefined, declared: 'tls', level: 'tls', source: 'default' },
    { methods: ['HEAD'], url: '/alone', kind: undefined, declared: 'mtls', level: 'mtls', source: 'route' },
    { methods: ['GET', 'HEAD'], url: '/hosted', constraints: { host: 'shop.test' }, kind: undefined, declared: 'tls', level: 'tls', source: 'default' },
    { methods: ['GET', 'HEAD'], url: '/flow', kind: undefined, declared: 'tls', level: 'tls', source: 'default' }
  ])
  t.ok(app.httpSecurity.routes().every((row) => Object.isFrozen(row) && Object.isFrozen(row.methods)))
  t.equal(app.httpSecurity.print(), [
    'METHODS          URL                           KIND        DECLARED  LEVEL  SOURCE',
    'GET, HEAD        /page                         screen      none      tls    minimum',
    'GET, POST, HEAD  /both                         undeclared  tls       tls    default',
    'GET              /alone                        undeclared  tls       tls    default',
    'HEAD             /alone                        undeclared  mtls      mtls   route',
    'GET, HEAD        /hosted {"host":"shop.test"}  undeclared  tls       tls    default',
    'GET, HEAD        /flow                         undeclared  tls       tls    default',
    ''
  ].join('\n'))
  await app.close()
})

t.test('the config object of a route is neither changed nor lost', async (t) => {
  const shared = Object.freeze({ mine: 1 })
  const app = Fastify()
  await app.register(httpSecurity)
  app.get('/a', { config: shared, httpSecurity: 'none' } as object, async (request) => (request.routeOptions.config as { mine?: number }).mine)
  app.get('/b', { config: shared, httpSecurity: 'tls' } as object, handler)
  t.equal((await inject(app, '/a')).body, '1')
  t.equal((await inject(app, '/b')).statusCode, 403)
  await app.close()
})

t.test('the route table grows with the number of routes', async (t) => {
  const table = await tableOf({}, (app) => {
    for (let i = 0; i < 200; i++) app.get(`/${i}`, { httpSecurity: i % 2 === 0 ? 'none' : 'mtls' }, handler)
  })
  t.equal(table['/198'], 'none route')
  t.equal(table['/199'], 'mtls route')
})

t.test('errors of options say where a wrong value is, which one, and what is allowed', async (t) => {
  const proto = JSON.parse('{ "__proto__": "mtls" }') as object
  const cases: Array<[options: unknown, message: RegExp]> = [
    [{ onViolation: 'log' }, /options of fastify-http-security: onViolation: 'log' is not allowed; allowed: a function/],
    [{ tls: {} }, /tls: \{\} is not allowed; allowed: what `await enableTls/],
    [{ clientCertificate: {} }, /options of fastify-http-security: unknown option 'clientCertificate'; known are default, flows,/],
    [proto, /unknown option '__proto__'/],
    [{ constructor: 1 }, /unknown option 'constructor'/],
    [{ default: 'tsl' }, /default: 'tsl' is not allowed; allowed: 'none', 'tls', 'mtls', an object \{ level\?, kind\?, allow\?, verify\? \}/],
    [{ default: null }, /default: null is not allowed/],
    [{ minimum: '__proto__' }, /minimum: '__proto__' is not allowed; allowed: 'none', 'tls', 'mtls'/],
    [{ minimum: 'constructor' }, /minimum: 'constructor' is not allowed/],
    [{ profile: 'other' }, /profile: 'other' is not allowed; allowed: 'outsystems'/],
    [{ flows: [] }, /flows: \[\] is not allowed; allowed: an object/],
    [{ flows: { '/a': 42 } }, /flows: \/a: 42 is not allowed/],
    [{ flows: { '/a': { level: 'constructor' } } }, /flows: \/a: level: 'constructor' is not allowed; allowed: 'none', 'tls', 'mtls'/],
    [{ flows: { '/a': { level: 'tls', knid: 'rest' } } }, /flows: \/a: unknown option 'knid'; known are level, kind, allow, verify\. Did you mean 'kind'\?$/],
    [{ redirect: { port: 8443 } }, /redirect: unknown option 'port'; known are statusCode, httpsPort, hosts\. Did you mean 'httpsPort'\?$/],
    [{ proxy: { trusted: 'unix' } }, /proxy: unknown option 'trusted'.* Did you mean 'trust'\?$/],
    [{ proxy: { trust: 'unix', certificate: { header: 'x', encodnig: 'xfcc', verified: 'here' } } }, /proxy: certificate: unknown option 'encodnig'.* Did you mean 'encoding'\?$/],
    [{ proxy: { trust: 'unix', certificate: { header: 'x', encoding: 'xfcc', verified: { header: 'y', valeu: 'z' } } } }, /proxy: certificate: verified: unknown option 'valeu'.* Did you mean 'value'\?$/],
    [{ flows: proto }, /flows: '__proto__' is not allowed; allowed: absolute, static paths/],
    [{ flows: { constructor: 'mtls' } }, /flows: 'constructor' is not allowed/],
    ...['shop', '', '/:id', '/a/*', '//a', '/a//b', '/%61', '/a?b', '/a#b', '/a;b', '/a\\b', '/a/../b', '/./a', '/a b', '/a\nb', '/..'].map((key): [unknown, RegExp] => [{ flows: { [key]: 'tls' } }, /flows: .* is not allowed; allowed: absolute, static paths/]),
    [{ flows: { '/a': 'tls', '/A/': 'none' } }, /flows: '\/A\/' is there twice; keys ignore case, how Unicode writes a character, and a trailing slash/],
    [{ redirect: { statusCode: 303 } }, /redirect: statusCode: 303 is not allowed; allowed: 301, 302, 307, 308/],
    [{ redirect: { httpsPort: 0 } }, /redirect: httpsPort: 0 is not allowed; allowed: 1 to 65535/],
    [{ redirect: { httpsPort: 65536 } }, /redirect: httpsPort: 65536 is not allowed; allowed: 1 to 65535/],
    [{ redirect: { httpsPort: 443.5 } }, /redirect: httpsPort: 443.5 is not allowed; allowed: an integer/],
    [{ redirect: { hosts: 'a.test' } }, /redirect: hosts: 'a.test' is not allowed; allowed: an array/],
    [{ redirect: { hosts: [] } }, /redirect: hosts: \[\] is not allowed; allowed: at least 1 items/],
    [{ redirect: { hosts: [''] } }, /redirect: hosts: '' is not allowed/],
    ...['https://a.test', 'a.test:80', 'a.test/x', 'a b', '[::1', '[nope]', '*.a.test', 'münchen.test'].map((host): [unknown, RegExp] => [{ redirect: { hosts: [host] } }, /redirect: hosts: .* is not allowed; allowed: whole host names without scheme, port or path/]),
    [{ proxy: {} }, /proxy: trust is missing/],
    [{ proxy: { trust: true } }, /proxy: trust: true is not allowed; allowed: a string, an array/],
    [{ proxy: { trust: 1 } }, /proxy: trust: 1 is not allowed/],
    [{ proxy: { trust: [] } }, /proxy: trust: \[\] is not allowed \(nobody is named\)/],
    [{ proxy: { trust: 'everybody' } }, /proxy: trust: 'everybody' is not allowed \(everybody is neither an address nor a range\)/],
    [{ proxy: { trust: ['1'] } }, /proxy: trust: \[ '1' \] is not allowed \(1 is neither/],
    [{ proxy: { trust: '0.0.0.0/0' } }, /proxy: trust: '0.0.0.0\/0' is not allowed \(invalid range/],
    [{ proxy: { trust: 'unix', protocol: 'x-proto' } }, /proxy: protocol: 'x-proto' is not allowed; allowed: 'x-forwarded-proto', 'forwarded'/],
    [{ proxy: { trust: 'unix', host: 'x-host' } }, /proxy: host: 'x-host' is not allowed; allowed: 'host', 'x-forwarded-host'/],
    [{ helmet: true }, /helmet: true is not allowed; allowed: an object/],
    [{ unsatisfiable: 'x'.repeat(200) }, /unsatisfiable: 'x{79}… is not allowed; allowed: 'error', 'warn'/]
  ]
  for (const [options, message] of cases) {
    const error = await bootError(options)
    t.equal(error.code, 'FST_HTTP_SECURITY_INVALID_OPTIONS', error.message)
    t.match(error.message, message)
  }
  for (const [httpSecurity, message] of [
    ['tsl', /httpSecurity of route POST \/x: 'tsl' is not allowed/],
    [42, /httpSecurity of route POST \/x: 42 is not allowed/],
    [null, /httpSecurity of route POST \/x: null is not allowed/],
    [{ level: '__proto__' }, /level: '__proto__' is not allowed/],
    [{ kind: 'page' }, /kind: 'page' is not allowed; allowed: 'screen', 'rest', 'soap'/],
    [{ clientCertificate: {} }, /unknown option 'clientCertificate'; known are level, kind/],
    [JSON.parse('{ "__proto__": "mtls" }'), /unknown option '__proto__'/]
  ] as Array<[never, RegExp]>) {
    const error = await bootError({}, (app) => app.post('/x', { httpSecurity }, handler))
    t.type(error, InvalidOptionsError)
    t.match(error.message, message, httpSecurity)
  }
  t.match((await bootError({}, (app) => app.register(async function payments () {}, { prefix: '/pay', httpSecurity: 'tsl' as never }))).message,
    /httpSecurity of the flow payments at \/pay: 'tsl' is not allowed/)
  t.match((await bootError({}, (app) => app.register(async function payments () {}, { httpSecurity: 'tsl' as never }))).message,
    /httpSecurity of the flow payments: 'tsl' is not allowed/)
  t.match((await bootError({}, (app) => app.register(async (flow) => { flow.get('/x', handler) }, { prefix: '/pay', httpSecurity: 'tsl' as never }))).message,
    /httpSecurity of an anonymous flow at \/pay: 'tsl' is not allowed/)
  t.match((await bootError({}, (app) => app.all('/all', { httpSecurity: 42 as never }, handler))).message, /route GET, .*, POST.* \/all: 42/)
})

t.test('for random options, wrong values never pass and right ones do', async (t) => {
  const wrong = [null, 0, 'x', true, [], ['tls'], () => {}, Symbol('x'), { x: 1 }]
  const levels = ['none', 'tls', 'mtls']
  const declarations = [...levels, {}, ...levels.map((level) => ({ level })), ...['screen', 'rest', 'soap'].map((kind) => ({ kind })), { level: undefined, kind: undefined }]
  const right: Record<string, unknown[]> = {
    default: declarations,
    minimum: levels,
    profile: ['outsystems'],
    unsatisfiable: ['error', 'warn'],
    helmet: [{}, { x: 1 }],
    flows: [{}, ...declarations.map((declaration) => ({ '/a': declaration }))],
    redirect: [{}, ...[301, 302, 307, 308].map((statusCode) => ({ statusCode })), { httpsPort: 1 }, { httpsPort: 65_535 }, { hosts: ['a.test'] }],
    proxy: [{ trust: 'unix' }, { trust: ['unix', '::1'] }, ...['x-forwarded-proto', 'forwarded'].map((protocol) => ({ trust: 'unix', protocol })), ...['host', 'x-forwarded-host'].map((host) => ({ trust: 'unix', host }))]
  }
  for (const [name, values] of Object.entries(right)) {
    for (const value of [undefined, ...values]) await t.resolves(resolveOptions({ [name]: value }), `${name}: ${inspect(value)}`)
    for (const value of wrong) {
      if (!values.some((good) => JSON.stringify(good) === JSON.stringify(value))) await t.rejects(resolveOptions({ [name]: value }), InvalidOptionsError, `${name}: ${inspect(value)}`)
    }
  }
  const nested: Array<(value: unknown) => unknown> = [
    (level) => ({ default: { level } }), (kind) => ({ default: { kind } }), (level) => ({ flows: { '/a': { level } } }), (kind) => ({ flows: { '/a': { kind } } }), (flow) => ({ flows: { '/a': flow } }),
    (statusCode) => ({ redirect: { statusCode } }), (httpsPort) => ({ redirect: { httpsPort } }), (hosts) => ({ redirect: { hosts } }),
    (trust) => ({ proxy: { trust } }), (protocol) => ({ proxy: { trust: 'unix', protocol } }), (host) => ({ proxy: { trust: 'unix', host } })
  ]
  for (const nest of nested) {
    for (const value of wrong) {
      if (JSON.stringify(nest(value)) === '{"redirect":{"hosts":["tls"]}}') continue
      await t.rejects(resolveOptions(nest(value)), InvalidOptionsError, inspect(nest(value)))
    }
  }
  for (const value of [...wrong, undefined]) await t.rejects(resolveOptions(value), InvalidOptionsError)
})

t.test('the compiled option checks are those of the schemas', async (t) => {
  const dir = pathToFileURL(`${t.testdir({ lib: { options: {}, policy: {}, clients: {}, tls: {}, acme: {} } })}/lib/options/`)
  await writeChecks(dir)
  for (const path of compileChecks().keys()) {
    const [made, committed] = await Promise.all([new URL(path, dir), new URL(path, new URL('../lib/options/', import.meta.url))].map((file) => readFile(file, 'utf8')))
    t.equal(committed, made, `${path}, or else: npm run schemas`)
  }
})

t.test('the compiled option checks find the errors that TypeBox finds', async (t) => {
  Settings.Set({ maxErrors: 1_000 })
  t.teardown(() => Settings.Reset())
  const schemas = { DeclarationSchema, PluginOptionsSchema, EnableTlsOptionsSchema, PolicySchema }
  const names = fc.constantFrom(...new Set(JSON.stringify(schemas).match(/(?<=")[\w$-]+(?=":)/g)!), 'a/b~c', 'two\nlines', '__proto__')
  const words = fc.constantFrom('none', 'mtls', 'screen', 'nginx', 'here', 'loopback', '/a', 0, 1, 301, 1.5, -1, 65_536, true, null, undefined, '', NaN, Infinity, new Uint8Array(1))
  const { tree: values } = fc.letrec((tie) => ({
    tree: fc.oneof({ maxDepth: 4, depthIdentifier: 'tree' }, words, fc.dictionary(names, tie('tree'), { maxKeys: 4 }), fc.array(tie('tree'), { maxLength: 2 }))
  }))
  const counts = { right: 0, wrong: 0 }
  for (const [name, schema] of Object.entries(schemas)) {
    fc.assert(fc.property(values, (value) => {
      const ours = errorsIn(schema, value).map(keyOf).sort()
      // False has no errors of its own, and records none but those of their values.
      const theirs = Errors(schema, value)[1]
        .filter(({ keyword, schemaPath }) => keyword !== 'boolean' && (keyword !== 'additionalProperties' || at(schema, schemaPath).additionalProperties === false))
        .map(keyOf).sort()
      counts[ours.length === 0 ? 'right' : 'wrong']++
      return ours.length === 100 || JSON.stringify(ours) === JSON.stringify(theirs)
    }), { numRuns: 500 })
    t.equal(errorsIn(schema, Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [index, {}]))).length <= 100, true, name)
  }
  t.ok(counts.right > 5 && counts.wrong > 500, JSON.stringify(counts))
  t.equal(errorsIn(PluginOptionsSchema, { flows: Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`/${index}`, 1])) }).length, 100, 'no more than anybody reads')
  let deep: unknown = []
  for (let depth = 0; depth < 50_000; depth++) deep = [deep]
  const cyclic: Record<string, unknown> = {}
  for (let index = 0; index < 1_000; index++) cyclic[`x${index}`] = cyclic
  for (const value of [deep, cyclic, [cyclic]]) {
    for (const options of [value, { default: value }, { flows: { '/a': value } }, { flows: value }, { proxy: value }]) await t.rejects(resolveOptions(options), InvalidOptionsError)
  }

  function keyOf ({ keyword, schemaPath, instancePath, params }: Pick<SchemaError, 'keyword' | 'schemaPath' | 'instancePath'> & { params: object }): string {
    return JSON.stringify([keyword, schemaPath, instancePath, { ...params, comparison: undefined }])
  }
  function at (schema: object, path: string): { additionalProperties?: unknown } {
    return path.split('/').slice(1).reduce<object>((node, part) => Reflect.get(node, part) as object, schema)
  }
})

t.test('httpSecurity where it could not take effect is an error', async (t) => {
  const plugin = async function partners (app: FastifyInstance) { app.get('/x', handler) }
  // fastify-plugin marks the very function it is given
  const unencapsulated = fp(async function partners () {})
  const named = fp(async () => {}, { name: 'named' })
  const httpSecurity = 'mtls'
  const cases: Array<[declare: (app: FastifyInstance) => unknown, message: RegExp]> = [
    [(app) => app.register(unencapsulated, { httpSecurity }), /no effect on the plugin partners.*, which is made with fastify-plugin.*register\(async \(i\) => i\.register\(plugin, options\), \{ httpSecurity \}\)/],
    [(app) => app.register(named, { httpSecurity }), /no effect on the plugin named/],
    [(app) => app.register({ default: unencapsulated } as never, { httpSecurity }), /no effect on the plugin partners/],
    [(app) => app.register(Promise.resolve({ default: unencapsulated }), { httpSecurity }), /no effect on the plugin partners/],
    [(app) => app.register(Object.assign((() => async () => {})(), { [Symbol.for('skip-override')]: true }), { httpSecurity }), /no effect on an anonymous plugin/],
    [(app) => app.register(async (child) => { await child.register(unencapsulated, { httpSecurity }) }), /no effect on the plugin partners/],
    [(app) => app.register(plugin, () => ({ httpSecurity })), /no effect in the options that a function returns, as given to register for the plugin partners; give.*register\(async/]
  ]
  for (const [declare, message] of cases) {
    const error = await bootError({ unsatisfiable: 'warn' }, declare)
    t.type(error, NoEffectError)
    t.match(error.message, message)
  }
  t.strictSame(await tableOf({}, async (app) => {
    app.register(Promise.resolve({ default: plugin }), { httpSecurity })
    app.register(async (child) => { child.get('/fn', handler) }, () => ({}))
    app.register(fp(async () => {}), { prefix: '/not-declaring' })
    app.register(async (i) => i.register(fp(async (j) => { j.get('/inside', handler) })), { httpSecurity })
    app.register(async () => {}, () => undefined as never)
    app.register(async () => {}, null as never)
  }), { '/x': 'mtls flow', '/fn': 'tls default', '/inside': 'mtls flow' })

  const missing = await bootError({}, (app) => app.register(Promise.reject(new Error('no such module')), { httpSecurity }))
  t.match(missing.message, /no such module/)
})

t.test('routes that were registered before the plugin are a boot error at the root', async (t) => {
  const early = Fastify()
  early.get('/early', handler)
  await t.rejects(async () => { await early.register(httpSecurity) }, { code: new LoadedLateError('').code, message: /put `await app\.register\(httpSecurity\)` first[^]*early/ })
  await early.close()

  const notAwaited = Fastify()
  notAwaited.register(httpSecurity)
  notAwaited.get('/early', handler)
  await t.rejects(async () => { await notAwaited.ready() }, { code: 'FST_HTTP_SECURITY_LOADED_LATE' })
  await notAwaited.close()
})

t.test('a registration in a child context protects that context alone, and the log says so', async (t) => {
  const log: LogLine[] = []
  const tested = Fastify({ logger: keepLog(log) })
  tested.get('/outside', handler)
  await tested.register(async (child) => {
    child.get('/before', handler)
    await child.register(httpSecurity, { default: 'none', flows: { '/strict': 'tls' } })
    child.get('/inside', handler)
    child.get('/strict', handler)
  })
  t.equal((await inject(tested, '/outside')).statusCode, 200)
  t.equal((await inject(tested, '/inside')).statusCode, 200)
  t.equal((await inject(tested, '/strict')).statusCode, 403)
  t.equal((await inject(tested, { url: '/strict', secure: true })).statusCode, 200)
  const before = await inject(tested, { url: '/before', secure: true })
  t.equal(before.statusCode, 403, 'a route that the plugin has not seen lets nobody in')
  t.match(before.json(), { code: 'FST_HTTP_SECURITY_UNKNOWN_ROUTE' })
  t.equal(log.filter(({ msg }) => msg.includes('child context')).length, 1)
  await tested.close()
})

t.test('a second registration of the plugin is an error', async (t) => {
  const app = Fastify()
  await app.register(httpSecurity)
  await t.rejects(async () => { await app.register(httpSecurity) }, { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: /registered already/ })
  await app.close()
  const error = await bootError({}, (app) => app.register(async (child) => { await child.register(httpSecurity, { default: 'mtls' }) }))
  t.match(error, { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: /registered already/ })
})

t.test('an onRoute hook that changes a route after its level was worked out is a boot error', async (t) => {
  const changes: Array<[part: string, change: (route: RouteOptions) => void]> = [
    ['config', (route) => { route.config = {} as never }],
    ['config', (route) => { delete route.config }],
    ['httpSecurity', (route) => { route.httpSecurity = 'mtls' }],
    ['httpSecurity', (route) => { route.httpSecurity = 'tsl' as never }],
    ['config.httpSecurity', (route) => { route.config = { ...route.config!, httpSecurity: 'mtls' } }],
    ['config.httpSecurity', (route) => { route.config!.httpSecurity = 'none' }],
    ['url', (route) => { route.url = '/partners/x' }],
    ['url', (route) => { route.url += '/' }],
    ['method', (route) => { route.method = ['GET', 'OPTIONS'] }]
  ]
  for (const [part, change] of changes) {
    const error = await bootError({ default: 'none' }, (app) => {
      app.addHook('onRoute', (route) => { if (route.url === '/x' && route.method !== 'HEAD') change(route) })
      app.get('/fine', handler)
      app.get('/x', handler)
      app.register(async (flow) => { flow.get('/', handler) }, { prefix: '/both' })
    })
    t.match(error, { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: new RegExp(`changed the ${part} of route GET /x after`) }, part)
  }
  const inPlace: Array<[part: string, options: object, change: (route: RouteOptions) => void]> = [
    ['httpSecurity', { httpSecurity: { level: 'tls' } }, (route) => { Object.assign(route.httpSecurity as object, { level: 'mtls' }) }],
    ['httpSecurity', { httpSecurity: { level: 'tls' } }, (route) => { delete route.httpSecurity }],
    ['config.httpSecurity', { config: { httpSecurity: { level: 'tls' } } }, (route) => { Object.assign(route.config!.httpSecurity as object, { kind: 'rest' }) }],
    ['config.httpSecurity', { config: { httpSecurity: 'tls' } }, (route) => { delete route.config!.httpSecurity }],
    ['method', { method: ['GET', 'POST'] }, (route) => { (route.method as string[]).push('OPTIONS') }]
  ]
  for (const [part, options, change] of inPlace) {
    const error = await bootError({ default: 'none', unsatisfiable: 'warn' }, (app) => {
      app.addHook('onRoute', (route) => { if (route.method !== 'HEAD') change(route) })
      app.route({ method: 'GET', url: '/x', handler, ...options } as RouteOptions)
    })
    t.match(error, { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: new RegExp(`changed the ${part} of route GET.* /x after`) }, part)
  }
  for (const prefix of ['/p', '/p/', '/a//b']) {
    const error = await bootError({ default: 'none' }, (app) => {
      app.addHook('onRoute', (route) => { if (route.url === prefix) route.url = '/partners' })
      app.register(async (flow) => { flow.get('/', { exposeHeadRoute: false }, handler) }, { prefix })
    })
    t.match(error, { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: new RegExp(`changed the url of route GET ${prefix} after`) }, `${prefix}, which the second URL of its route hides`)
  }
  const app = Fastify()
  app.addHook('onRoute', (route) => { if (route.url === '/x') route.httpSecurity = 'mtls' })
  await app.register(httpSecurity, { default: 'none', unsatisfiable: 'warn' })
  app.get('/x', handler)
  t.equal(app.httpSecurity.routes()[0]!.level, 'mtls', 'a hook that was there before may declare')
  await app.ready()
  await app.close()
})

t.test('a not-found handler that was set before the plugin is a boot error', async (t) => {
  const app = Fastify()
  app.setNotFoundHandler(handler)
  await t.rejects(async () => { await app.register(httpSecurity) }, { code: 'FST_HTTP_SECURITY_LOADED_LATE', message: /a not-found handler was set before/ })
  await app.close()
})

t.test('config: { httpSecurity } counts as the option of a route', async (t) => {
  const shared = Object.freeze({ httpSecurity: Object.freeze({ level: 'mtls', kind: 'rest' }), mine: 1 }) as FastifyContextConfig
  const app = Fastify()
  await app.register(httpSecurity, { default: 'none', flows: { '/pages': { kind: 'screen' } } })
  app.get('/string', { config: { httpSecurity: 'mtls' } }, handler)
  app.get('/part', { config: { httpSecurity: { kind: 'soap' } } }, handler)
  app.get('/pages/inherits', { config: { httpSecurity: { level: 'tls' } } }, handler)
  app.get('/undefined', { config: { httpSecurity: undefined } as never }, handler)
  app.get('/both', { httpSecurity: 'tls', config: { httpSecurity: { level: 'tls' } } }, handler)
  app.get('/shared/1', { config: shared }, async ({ routeOptions: { config } }) => (config as { mine?: number }).mine)
  app.route({ method: ['POST', 'GET'], url: '/shared/2', config: shared, handler })
  await app.register(async (flow) => { flow.get('/', { config: shared }, handler) }, { prefix: '/flow', httpSecurity: 'tls' })
  t.strictSame(app.httpSecurity.routes().map(({ methods, url, level, source, kind }) => [methods.join(), url, level, source, kind]), [
    ['GET,HEAD', '/string', 'mtls', 'route', undefined],
    ['GET,HEAD', '/part', 'none', 'default', 'soap'],
    ['GET,HEAD', '/pages/inherits', 'tls', 'route', 'screen'],
    ['GET,HEAD', '/undefined', 'none', 'default', undefined],
    ['GET,HEAD', '/both', 'tls', 'route', undefined],
    ['GET,HEAD', '/shared/1', 'mtls', 'route', 'rest'],
    ['POST,GET,HEAD', '/shared/2', 'mtls', 'route', 'rest'],
    ['GET,HEAD', '/flow', 'mtls', 'route', 'rest']
  ])
  for (const [method, url] of [['GET', '/string'], ['HEAD', '/string'], ['GET', '/shared/1'], ['POST', '/shared/2'], ['HEAD', '/shared/2'], ['GET', '/flow'], ['GET', '/flow/'], ['HEAD', '/flow/']] as const) {
    t.equal((await inject(app, { method, url, secure: true })).statusCode, 403, `${method} ${url}`)
  }
  t.equal((await inject(app, { url: '/shared/1', clientCertificate: (await makePki()).client.cert })).body, '1')
  await app.close()

  for (const [options, message] of [
    [{ httpSecurity: 'tls', config: { httpSecurity: 'mtls' } }, /httpSecurity of route GET \/x: 'tls' is not allowed beside config: \{ httpSecurity: 'mtls' \}; allowed: one of the two, or both alike/],
    [{ httpSecurity: { level: 'tls' }, config: { httpSecurity: { level: 'tls', kind: 'rest' } } }, /not allowed beside config/],
    [{ httpSecurity: {}, config: { httpSecurity: 'none' } }, /not allowed beside config/],
    [{ config: { httpSecurity: 'tsl' } }, /config\.httpSecurity of route GET \/x: 'tsl' is not allowed; allowed: 'none'/],
    [{ config: { httpSecurity: null } }, /config\.httpSecurity of route GET \/x: null is not allowed/],
    [{ httpSecurity: 'mtls', config: { httpSecurity: 'tsl' } }, /config\.httpSecurity of route GET \/x: 'tsl' is not allowed; allowed: 'none'/]
  ] as Array<[never, RegExp]>) {
    const error = await bootError({}, (app) => app.get('/x', options, handler))
    t.type(error, InvalidOptionsError)
    t.match(error.message, message, options)
  }
  t.match((await bootError({ profile: 'outsystems' }, (app) => app.get('/x', { config: shared }, handler))).message, /'mtls' is not allowed on a rest element/)
})

t.test('httpSecurity in another case, such as httpsecurity, is an error', async (t) => {
  const plugin = async (): Promise<void> => {}
  const cases: Array<[declare: (app: FastifyInstance) => unknown, message: RegExp]> = [
    [(app) => app.get('/x', { httpsecurity: 'mtls' } as object, handler), /route GET \/x: unknown option 'httpsecurity'; did you mean 'httpSecurity'\?/],
    [(app) => app.get('/x', { httpSecurity: 'tls', HTTPSecurity: undefined } as object, handler), /route GET \/x: unknown option 'HTTPSecurity'/],
    [(app) => app.get('/x', { config: { HttpSecurity: 'mtls' } } as object, handler), /config of route GET \/x: unknown option 'HttpSecurity'; did you mean/],
    [(app) => app.register(plugin, { httpsecurity: 'mtls' } as object), /options of register for the plugin plugin: unknown option 'httpsecurity'; did you mean/],
    [(app) => app.register(fp(async function partners () {}), { httpsecurity: 'mtls' } as object), /options of register for the plugin partners.*: unknown option 'httpsecurity'/],
    [(app) => app.register(plugin, () => ({ httpsecurity: 'mtls' })), /options of register for the plugin plugin: unknown option 'httpsecurity'/],
    [(app) => app.register(plugin, Object.create({ httpsecurity: 'mtls' }) as object), /unknown option 'httpsecurity'/]
  ]
  for (const [declare, message] of cases) {
    const error = await bootError({}, declare)
    t.type(error, InvalidOptionsError)
    t.match(error.message, message)
  }
  const sameTick = Fastify()
  sameTick.register(httpSecurity)
  sameTick.register(async function flow () {}, { prefix: '/pay', HTTPsecurity: 'mtls' } as object)
  await t.rejects(async () => { await sameTick.ready() }, { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /the flow flow at \/pay: unknown option 'HTTPsecurity'/ })
  await sameTick.close()
})

t.test('prefixes of flows may end in a slash', async (t) => {
  const prefixes = ['/p', '/q/', 'r/', '/', '/:a/s/', '/:a/t', '/a/b/', '/c//d', '/E//F/', '/g-:id(^\\d+$)/']
  for (const routerOptions of [{}, { ignoreTrailingSlash: true }, { ignoreDuplicateSlashes: true }, { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true }, { caseSensitive: false }]) {
    for (const prefixTrailingSlash of ['both', 'slash', 'no-slash'] as const) {
      const app = Fastify({ routerOptions } as object)
      await app.register(httpSecurity, { default: 'none' })
      for (const prefix of prefixes) {
        app.register(async (flow) => {
          flow.get('/', { prefixTrailingSlash }, handler)
          flow.route({ method: ['POST', 'PUT'], url: '/', prefixTrailingSlash, handler })
          await flow.register(async (inner) => { inner.get('/', handler) }, { prefix: '/inner/' })
        }, { prefix, httpSecurity: 'mtls' })
      }
      const where = `${prefixTrailingSlash}, ${JSON.stringify(routerOptions)}`
      await t.resolves(inject(app, '/'), where)
      t.strictSame(app.httpSecurity.routes().map(({ methods, level }) => `${methods.join()} ${level}`), prefixes.flatMap(() => ['GET,HEAD mtls', 'POST,PUT mtls', 'GET,HEAD mtls']), where)
      for (const prefix of prefixes) {
        const url = `/${prefix}`.replace('//', '/').replace(':a', 'x').replace(/:id.*\)/, '1')
        const inner = `${url}/inner/`.replace(/(?<!c|E)\/\//, '/')
        const answers = await Promise.all([inner, url, `${url}/`, url.replace(/(?<=.)\/$/, '')].map((url) => inject(app, { url, secure: true })))
        const [innerCode, ...codes] = answers.map(({ statusCode }) => statusCode)
        t.ok(innerCode === 403 && codes.includes(403) && codes.every((code) => code === 403 || code === 404), `${prefix}, ${where}: ${innerCode}, ${codes.join()}`)
      }
      await app.close()
    }
  }
})

t.test('flows apply to plugins that register a prefix with a slash and pass their options on', async (t) => {
  const upstream = Fastify()
  upstream.get('/*', async ({ url }) => `upstream ${url}`)
  await upstream.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => upstream.close())
  const base = `http://127.0.0.1:${portOf(upstream)}`
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none' })
  await app.register(httpProxy, { upstream: base, prefix: '/up/', httpSecurity: 'mtls' } as never)
  await app.register(httpProxy, { upstream: base, prefix: '/open/' })
  await app.register(swagger)
  await app.register(async (flow, options) => { await flow.register(swaggerUi, { routePrefix: '/docs/', ...options }) }, { httpSecurity: { level: 'mtls', kind: 'screen' } } as object)
  await app.register(async (flow) => { await flow.register(fastifyStatic, { root: import.meta.dirname, index: 'boot.test.ts' }) }, { prefix: '/s/', httpSecurity: 'mtls' })
  const { cert } = (await makePki()).client
  for (const [url, opened] of [['/up/', 200], ['/up/x', 200], ['/docs/', 200], ['/docs/json', 200], ['/docs/static/index.html', 302], ['/s/', 200], ['/s/boot.test.ts', 200]] as const) {
    t.equal((await inject(app, { url, secure: true })).statusCode, 403, `${url} without a certificate`)
    t.equal((await inject(app, { url, clientCertificate: cert })).statusCode, opened, `${url} with one`)
  }
  t.equal((await inject(app, '/open/x')).body, 'upstream /x')
})

t.test('the level of a flow applies to plugins that are not encapsulated', async (t) => {
  const inside = fp(async (app: FastifyInstance) => { app.get('/inside', handler) })
  const passesOn = async (flow: FastifyInstance, options: object): Promise<void> => {
    await flow.register(inside, { ...options, prefix: '' })
    await flow.register(Promise.resolve({ default: fp(async () => {}) }), options)
    await flow.register(fp(async () => {}), () => options)
  }
  for (const declared of ['mtls', { level: 'mtls', kind: 'rest' }, { kind: 'rest' }, {}] as HttpSecurityOption[]) {
    t.match(await tableOf({}, (app) => { app.register(passesOn, { prefix: '/p', httpSecurity: declared }) }), { '/p/inside': /flow|default/ }, inspect(declared))
  }
  t.match(await tableOf({}, (app) => {
    app.register(async (flow) => {
      // The same in other words, and what an inner flow inherits.
      await flow.register(fp(async () => {}), { httpSecurity: { level: 'mtls' } })
      await flow.register(async (inner) => { await inner.register(inside, { httpSecurity: 'mtls' }) })
    }, { httpSecurity: { level: 'mtls', kind: 'rest' } })
  }), { '/inside': 'mtls flow rest' })
  for (const [around, given] of [['tls', 'mtls'], ['mtls', 'tls'], ['mtls', { kind: 'rest' }], [undefined, 'tls'], ['mtls', 'tsl']] as Array<[HttpSecurityOption, HttpSecurityOption]>) {
    const error = await bootError({ unsatisfiable: 'warn' }, (app) => app.register(async (flow) => { await flow.register(inside, { httpSecurity: given }) }, { httpSecurity: around }))
    t.match(error, { code: 'FST_HTTP_SECURITY_NO_EFFECT' }, inspect([around, given]))
  }
  t.equal((await tableOf({}, (app) => {
    app.register(async (flow) => { flow.get('/x', handler) }, (parent: FastifyInstance) => parent)
    app.register(fp(async () => {}), (parent: FastifyInstance) => parent)
    app.register(async () => {}, app as object)
  }))['/x'], 'tls default', 'an instance is no declaration, though our decorator is on it')
})

t.test('a GET and its automatic HEAD are one row, also where an onRoute hook adds routes in between', async (t) => {
  for (const isBefore of [true, false]) {
    const app = Fastify()
    const addHook = (): unknown => app.addHook('onRoute', function (route) {
      const { url, method, constraints } = route
      route.handler = route.handler.bind(this) as typeof handler
      if (constraints !== undefined) route.constraints = { ...constraints }
      if (method === 'GET' && url === '/x' && constraints === undefined) {
        this.options(url, handler)
        this.get(`/api${url}`, handler)
        this.route({ method: 'GET', url, constraints: { host: 'other.test' }, httpSecurity: 'mtls', handler })
      }
    })
    if (isBefore) addHook()
    await app.register(httpSecurity, { unsatisfiable: 'warn' })
    if (!isBefore) addHook()
    app.get('/api/hosted', { constraints: { host: 'a.test' } }, handler)
    app.get('/x', { exposeHeadRoute: true }, handler)
    app.get('/api/alone', { exposeHeadRoute: false }, handler)
    app.head('/api/alone', handler)
    await app.ready()
    const rows = app.httpSecurity.routes().map(({ methods, url, constraints, level }) => [methods.join(), url, constraints?.host, level].join(' ').replace('  ', ' '))
    t.strictSame(rows.sort(), [
      'GET /api/alone tls', 'GET,HEAD /api/hosted a.test tls', 'GET,HEAD /api/x tls', 'GET,HEAD /x other.test mtls', 'GET,HEAD /x tls', 'HEAD /api/alone tls', 'OPTIONS /x tls'
    ])
    await app.close()
  }
})

t.test('a HEAD route of another instance is no automatic one', async (t) => {
  const table = await tableOf({ default: 'none', unsatisfiable: 'warn' }, (app) => {
    app.register(async (lax) => { lax.get('/x', { exposeHeadRoute: false }, handler) })
    app.register(async (strict) => { strict.head('/x', handler) }, { httpSecurity: 'mtls' })
  })
  t.strictSame(table, { '/x': 'mtls flow' })
})

t.test('a route of unknown level is as strict as can be', async (t) => {
  const app = Fastify()
  app.setErrorHandler((error: Error & { code: string }, request, reply) => { reply.code(403).send({ code: error.code, ...request.httpSecurity }) })
  await app.register(async (child) => {
    child.get('/before', handler)
    await child.register(httpSecurity)
  })
  t.strictSame((await inject(app, { url: '/before', secure: true })).json(), { code: 'FST_HTTP_SECURITY_UNKNOWN_ROUTE', secure: true, level: 'mtls', client: null })
  await app.close()
})

t.test('@fastify/helmet is registered where the option asks for it, without its HSTS', async (t) => {
  for (const helmet of [{}, { hsts: true }, { strictTransportSecurity: true }] as Array<NonNullable<HttpSecurityOptions['helmet']>>) {
    const app = Fastify()
    await app.register(httpSecurity, { helmet })
    app.get('/', handler)
    const { headers } = await inject(app, { url: '/', secure: true })
    t.equal(headers['x-content-type-options'], 'nosniff')
    t.equal(headers['strict-transport-security'], undefined)
    t.equal((await inject(app, '/')).headers['x-content-type-options'], 'nosniff', 'on refusals, too')
    await app.close()
  }
})
