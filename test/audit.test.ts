import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { answerToParent, CHILD_FLAG, runInChildProcess, takeChildFlag } from '../lib/cli/child-process.ts'
import type { Io } from '../lib/cli/io.ts'
import { type Result, command } from './fixtures/command.ts'
import { plainNode, typescript, run, repository as root } from './fixtures/programs.ts'
import { issueServer, authority } from './fixtures/pki.ts'

const apps = 'test/fixtures/apps'

const audit = (...args: string[]): Promise<Result> => command('audit', ...args)

/** The command as people run it. */
async function runNode (command: readonly string[], cwd = root, env: readonly string[] = []): Promise<Result> {
  return new Promise((resolve) => {
    execFile('env', [...plainNode.slice(0, -1), ...env, ...plainNode.slice(-1), ...command], { cwd, timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

const entry = [...typescript, join(root, 'lib/cli/index.ts')]

/** A folder with the package as `npm run build` bundles it, made once for all tests and not where others are looking. */
const packaged = once(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'audit-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const { bin, dependencies, scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Record<'bin' | 'dependencies' | 'scripts', Record<string, string>>
  const home = join(dir, 'node_modules', 'fastify-http-security')
  await mkdir(home, { recursive: true })
  await symlink(join(root, 'package.json'), join(home, 'package.json'))
  for (const name of [...Object.keys(dependencies), 'fastify']) {
    await mkdir(join(dir, 'node_modules', name, '..'), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(dir, 'node_modules', name))
  }
  const bundle = scripts.bundle!.replace('--outdir=dist/lib', () => `--outdir='${join(home, 'dist/lib')}'`)
  await run('sh', ['-c', bundle], { cwd: root, env: { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}` } })
  return { dir, path: join(home, bin['fastify-http-security']!) }
})

function once<T> (make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}

/** Modules with the packages of this project and its plugin at hand. */
function modules (t: Test, files: Record<string, string>): (name: string) => string {
  const head = `import Fastify from 'fastify'
    import fp from 'fastify-plugin'
    import httpSecurity from ${JSON.stringify(new URL('../lib/index.ts', import.meta.url).href)}
    const build = async (options, fastify) => {
      const app = Fastify(fastify)
      await app.register(httpSecurity, options)
      return app
    }\n`
  const dir = t.testdir(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, name.endsWith('.mjs') ? head + text : text])))
  return (name) => join(dir, name)
}

t.test('audit prints the table of routes to stdout', async (t) => {
  const { code, stdout, stderr } = await audit(`${apps}/shop.ts`)
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /^METHODS +URL +KIND +DECLARED +LEVEL +SOURCE\nGET, HEAD +\/health +undeclared +none +none +route\nPUT, POST +\/cart +rest +none +none +route\n/)
})

t.test('audit --json prints a document that two runs can be compared by', async (t) => {
  const { code, stdout, stderr } = await audit(`${apps}/shop.ts`, '--json')
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /^{\n {2}"version": 1,\n {2}"minimum": null,\n {2}"routes": \[\n {4}{\n {6}"methods": \[[^]*\],\n {2}"problems": \[\]\n}\n$/)
  const row = (methods: string, url: string, kind: string | null, level: string, source: string, constraints: object | null = null) => ({ methods: methods.split(' '), url, constraints, kind, declared: level, level, source })
  const expected = {
    version: 1,
    minimum: null,
    routes: [
      row('GET HEAD', '/', null, 'tls', 'default', { host: '/^shop\\./', version: '2.0.0' }),
      row('GET HEAD', '/', null, 'tls', 'default', { host: 'shop.example', version: '1.0.0' }),
      row('GET HEAD', '/account', 'screen', 'tls', 'default'),
      row('POST PUT', '/cart', 'rest', 'none', 'route'),
      row('GET HEAD', '/health', null, 'none', 'route')
    ],
    problems: []
  }
  t.equal(stdout, `${JSON.stringify(expected, null, 2)}\n`, 'sorted, with the keys in one order')
  t.equal((await audit('--json', `${apps}/shop-shuffled.ts`)).stdout, stdout, 'whatever the order in the source')
})

t.test('audit --minimum reports a route below the minimum as a problem', async (t) => {
  const { code, stdout, stderr } = await audit(`${apps}/shop.ts`, '--minimum', 'tls', '--json')
  t.equal(code, 1)
  const { minimum, problems } = JSON.parse(stdout)
  t.equal(minimum, 'tls')
  t.strictSame(problems, [{ code: 'BELOW_MINIMUM', message: 'below the minimum, tls', routes: ['POST, PUT /cart', 'GET, HEAD /health'] }])
  t.equal(stderr, 'fastify-http-security: below the minimum, tls:\n  POST, PUT /cart\n  GET, HEAD /health\n')
  t.match(await audit(`${apps}/shop.ts`, '--minimum=mtls'), { code: 1, stdout: /^METHODS/, stderr: /: below the minimum, mtls:\n {2}GET, HEAD \/ {"host":"\/\^shop\\\\.\/","version":"2.0.0"}\n/ })
  t.match(await audit(`${apps}/shop.ts`, '--minimum', 'none'), { code: 0, stderr: '' })
})

t.test('audit --minimum leaves the routes of check-proxy alone, and no others that look like them', async (t) => {
  const token = (await command('probe-token')).stdout.trim()
  const at = modules(t, {
    'probe.mjs': `export default async () => {
      const app = await build({ proxy: { trust: 'loopback', probe: ${JSON.stringify(token)} } })
      app.get('/account', async () => 'x')
      return app
    }`,
    'theirs.mjs': `export default async () => {
      const kept = new Map()
      const app = await build({ proxy: { trust: 'loopback' } }, { constraints: { httpSecurityProbe: {
        name: 'httpSecurityProbe',
        storage: () => ({ get: (key) => kept.get(key), set: (key, value) => { kept.set(key, value) } }),
        deriveConstraint: ({ headers }) => headers['x-probe'],
        validate () {}
      } } })
      app.get('/.well-known/fastify-http-security', { httpSecurity: 'none', exposeHeadRoute: false, constraints: { httpSecurityProbe: 'token' } }, async () => 'open')
      return app
    }`
  })
  t.match(await audit(at('probe.mjs'), '--minimum', 'tls'), { code: 0, stdout: /\.well-known[^\n]*none/ })
  t.match(await audit(at('theirs.mjs'), '--minimum', 'tls'), { code: 1, stderr: /below the minimum, tls:\n {2}GET \/\.well-known\/fastify-http-security \{"httpSecurityProbe":"token"\}\n$/ })
})

t.test('audit reports a level that the server can never deliver, and prints the table all the same', async (t) => {
  const at = modules(t, {
    'warn.mjs': "export default async () => { const app = await build({ unsatisfiable: 'warn' }); app.get('/z', async () => 'z'); return app }",
    'exported.cjs': 'exports.__esModule = true; exports.default = () => import("./warn.mjs").then((module) => module.default())'
  })
  const { code, stdout, stderr } = await audit(`${apps}/plain.ts`)
  t.equal(code, 1)
  t.match(stdout, /^METHODS[^]*\/z[^]*\/partners[^]*\/health/)
  t.match(stderr, /^fastify-http-security: level 'mtls' cannot be met with certainty: the server speaks plain HTTP:\n {2}GET, HEAD \/partners\nfastify-http-security: level 'tls' can never be met: [^\n]+:\n {2}GET, HEAD \/partners\n {2}GET, HEAD \/z\nfastify-http-security: without rules[^\n]+:\n {2}GET, HEAD \/partners\n$/)

  const { problems } = JSON.parse((await audit(`${apps}/plain.ts`, '--json')).stdout)
  t.match(problems, [
    { code: 'UNSATISFIABLE', message: /^level 'mtls'/, routes: ['GET, HEAD /partners'] },
    { code: 'UNSATISFIABLE', message: /^level 'tls'/, routes: ['GET, HEAD /partners', 'GET, HEAD /z'] }
  ])
  for (const name of ['warn.mjs', 'exported.cjs']) t.match(await audit(at(name)), { code: 1, stdout: /\/z/, stderr: /'tls' can never be met/ }, 'a warning of the app is a problem here')

  const { default: build } = await import('./fixtures/apps/plain.ts')
  await t.rejects(build(), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE' }, 'elsewhere the boot fails as ever')
})

t.test('audit has the rules of routes, and tells of routes that any certificate reaches', async (t) => {
  const at = modules(t, {
    'rules.mjs': `export default async () => {
      const app = await build({ unsatisfiable: 'warn', clients: { clients: { acme: { certificates: [{ san: 'DNS:a.test', issuedBy: 'partners' }] } } }, flows: { '/b': { level: 'mtls', allow: [{ group: 'x' }] } } })
      app.get('/b', async () => '')
      app.get('/b/open', { httpSecurity: 'none' }, async () => '')
      app.get('/a', { httpSecurity: { level: 'mtls' } }, async () => '')
      app.get('/c', { httpSecurity: { level: 'mtls', verify: () => true } }, async () => '')
      return app
    }`,
    'no-label.mjs': `
      import { authority, issueServer } from ${JSON.stringify(new URL('fixtures/pki.ts', import.meta.url).href)}
      import { enableTls } from ${JSON.stringify(new URL('../lib/tls/index.ts', import.meta.url).href)}
      export default async () => {
        const ca = await authority('CA')
        const { cert, key } = await issueServer(ca)
        const tls = await enableTls({ certificates: { cert, key }, clientCertificates: { ca: { partners: ca.cert } } })
        const app = await build({ tls }, { https: tls.https })
        app.get('/', { httpSecurity: { level: 'mtls', allow: [{ issuedBy: 'partner' }] } }, async () => '')
        return app
      }`
  })
  const told = await audit(at('rules.mjs'))
  t.match(told.stdout, /RULES\n(?:.*\n)*.*\/b .*group x\n.*\/b\/open.*not applied\n.*\/a .*anyone\n.*\/c .*verify\(\)\n/)
  t.match(told.stderr, /without rules, so that anyone with a certificate of any client CA gets in \(with --require-rules, a problem\):\n {2}GET, HEAD \/a\n$/)
  const { routes, problems } = JSON.parse((await audit(at('rules.mjs'), '--json', '--require-rules')).stdout)
  t.match(routes.map(({ url, allow, rules }: { url: string, allow?: unknown, rules?: unknown }) => ({ url, allow, rules })), [
    { url: '/a', allow: undefined, rules: undefined },
    { url: '/b', allow: [{ group: 'x' }], rules: [{ by: 'flows: /b', allow: [{ group: 'x' }] }] },
    { url: '/b/open', allow: undefined, rules: 'not applied' },
    { url: '/c', allow: undefined, rules: [{ by: 'route', verify: true }] }
  ])
  t.match(problems.at(-1), { code: 'WITHOUT_RULES', routes: ['GET, HEAD /a'] })
  t.match(await audit(at('no-label.mjs')), { code: 2, stderr: /httpSecurity of route GET, HEAD \/: allow: 0: issuedBy: "partner" is not a label of client CAs; allowed: "partners"/ })
})

t.test('audit runs a plugin on a server of its own, and says that nothing is known of the app\'s', async (t) => {
  const at = modules(t, {
    'marked.mjs': "export default fp(async (app) => { await app.register(httpSecurity); app.get('/x', { httpSecurity: 'mtls' }, async () => 'x') }, { name: 'marked', dependencies: [] })",
    'rest.mjs': "export default async (...args) => { const [app] = args; if (app) { await app.register(httpSecurity); app.get('/x', { httpSecurity: 'none' }, async () => 'x') } }"
  })
  const unknown = /^fastify-http-security: .* exports a plugin.*\n$/
  const { code, stdout, stderr } = await audit(`${apps}/plugin.ts`)
  t.equal(code, 0)
  t.match(stdout, /\/account +undeclared +tls/)
  t.match(stderr, unknown)
  t.match(await audit(`${apps}/plugin.ts`, '--minimum', 'tls'), { code: 1, stderr: /below the minimum, tls:\n {2}GET, HEAD \/health\n$/ })
  t.match(await audit(at('marked.mjs')), { code: 0, stdout: /mtls/, stderr: /^fastify-http-security: .* exports a plugin.*\nfastify-http-security: without rules[^\n]+:\n {2}GET, HEAD \/x\n$/ })
  t.match(await audit(at('rest.mjs')), { code: 0, stdout: /none/, stderr: '' }, 'without a parameter, but it makes no instance')
  t.match(await audit(`${apps}/callback.cjs`), { code: 0, stdout: /\/health/, stderr: '' })
})

t.test('audit registers a plugin on the copy of Fastify that the plugin itself resolves', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'audit-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const text = (module: string): string => `
    import httpSecurity from ${JSON.stringify(new URL('../lib/index.ts', import.meta.url).href)}
    ${module}`
  await writeFile(join(dir, 'app.mjs'), text('export default async (app) => { await app.register(httpSecurity); app.get("/" + app.mark, async () => "x") }'))
  t.match(await audit(join(dir, 'app.mjs')), { code: 0, stdout: /\/undefined/ }, 'the one of the command where there is none')
  await mkdir(join(dir, 'node_modules/fastify'), { recursive: true })
  await writeFile(join(dir, 'node_modules/fastify/index.js'), `const Fastify = require(${JSON.stringify(join(root, 'node_modules/fastify'))}); module.exports = () => { const app = Fastify(); app.decorate('mark', 'theirs'); return app }`)
  await writeFile(join(dir, 'again.mjs'), text('export default async (app) => { await app.register(httpSecurity); app.get("/" + app.mark, async () => "x") }'))
  t.match(await audit(join(dir, 'again.mjs')), { code: 0, stdout: /\/theirs/ })
})

t.test('audit --policy prints the levels that a policy would give', async (t) => {
  const at = modules(t, {
    'none.mjs': "export default async () => { const app = await build({ default: 'none' }); app.get('/x', async () => 'x'); return app }",
    'own.mjs': `export default async () => {
      const app = await build({ default: 'none', application: 'shop', proxy: { trust: 'loopback' }, policy: { environment: { forceHttpsForIntegrations: true } } })
      app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'x')
      app.get('/api', { httpSecurity: { kind: 'rest' } }, async () => 'x')
      return app
    }`,
    'plugin.mjs': "export default async (app) => { await app.register(httpSecurity, { default: 'none' }); app.get('/x', async () => 'x') }",
    'screens.json': '{ "applications": { "shop": { "forceHttpsForScreens": true } } }',
    'hsts.json': '{ "environment": { "hsts": { "maxAge": 60 } } }',
    'none.json': '{}',
    'bad.json': '{ "environment": { "force": true } }',
    'broken.json': '{\n  "environment": \n}'
  })
  t.match(await audit(at('own.mjs')), { code: 0, stdout: /\/page +screen +none +none +default\n.*\/api +rest +none +tls +policy\n/ }, 'that of the app')
  t.match(await audit(at('own.mjs'), '--policy', at('screens.json')), { code: 0, stdout: /\/page +screen +none +tls +policy\n.*\/api +rest +none +none +default\n/ }, 'another one instead')
  t.match(await audit(at('own.mjs'), '--policy', at('screens.json'), '--minimum', 'tls'), { code: 1, stderr: /tls:\n {2}GET, HEAD \/api\n$/ })

  t.match(await audit(at('none.mjs')), { code: 0 })
  t.match(await audit(at('none.mjs'), '--policy', at('none.json')), { code: 0 })
  const { code, stdout } = await audit(at('none.mjs'), '--policy', at('hsts.json'), '--json')
  t.equal(code, 1)
  t.match(JSON.parse(stdout), { routes: [{ level: 'tls', source: 'policy' }], problems: [{ code: 'INVALID_POLICY', message: 'the policy forces HTTPS, and that cannot be met: the server speaks plain HTTP, and no proxy is trusted', routes: ['GET, HEAD /x'] }] })
  t.match(await audit(at('plugin.mjs'), '--policy', at('hsts.json')), { code: 0, stdout: /\/x +undeclared +none +tls +policy/, stderr: /exports a plugin/ })

  for (const [name, message] of [
    ['bad.json', /bad\.json: environment: .*force/],
    ['broken.json', /broken\.json:3:1: no JSON/],
    ['missing.json', /missing\.json: cannot be read/]
  ] as const) {
    t.match(await audit(at('own.mjs'), '--policy', at(name)), { code: 2, stdout: '', stderr: message }, name)
  }
})

t.test('audit warns of a policy file that every user can write', { skip: process.platform === 'win32' }, async (t) => {
  const dir = t.testdir({ 'policy.json': '{}' })
  const { chmod } = await import('node:fs/promises')
  await chmod(join(dir, 'policy.json'), 0o666)
  t.match(await audit(`${apps}/shop.ts`, '--policy', join(dir, 'policy.json')), { code: 0, stderr: /can be written by every user/ })
})

t.test('audit reports what is wrong with the certificates of the app', async (t) => {
  const ca = await authority('CA')
  const [good, expired] = [await issueServer(ca), await issueServer(ca, ['localhost'], { days: [-10, -1] })]
  const source = ({ cert, key }: { cert: string, key: string }): string => `export default async () => {
    const app = await build({ default: 'none', policy: { environment: { forceHttpsForScreens: true } } }, { https: ${JSON.stringify({ cert, key })} })
    app.get('/x', { httpSecurity: 'tls' }, async () => 'x')
    return app
  }`
  const at = modules(t, { 'good.mjs': source(good), 'expired.mjs': source(expired) })
  t.match(await audit(at('good.mjs')), { code: 0, stderr: '' })
  t.match(await audit(at('expired.mjs')), { code: 1, stderr: /the policy forces HTTPS, and that cannot be met: the server's certificate has expired/ })
})

t.test('audit says that an app is in report mode', async (t) => {
  const at = modules(t, { 'report.mjs': "export default async () => { const app = await build({ mode: 'report', proxy: { trust: 'loopback' } }); app.get('/x', async () => 'x'); return app }" })
  t.match(await audit(at('report.mjs')), { code: 0, stdout: /\/x/, stderr: /mode: 'report'.*nothing of this is enforced/ })
})

t.test('audit says in words why a file cannot be audited', async (t) => {
  const at = modules(t, {
    'nothing.mjs': 'export const app = Fastify()',
    'listens.mjs': "const app = await build({}); app.get('/x', async () => 'x'); await app.listen({ port: 0 }); setTimeout(() => app.close(), 1)",
    'object.cjs': 'module.exports = { app: {} }',
    'null.mjs': 'export default null',
    'throws.mjs': "throw new Error('no database')",
    'value.mjs': "throw 'a string'",
    'syntax.mjs': 'export default (',
    'missing.mjs': "import 'not-there'",
    'factory.mjs': "export default async () => { throw new Error('no configuration') }",
    'unprotected.mjs': "export default () => { const app = Fastify(); app.get('/', async () => 'x'); return app }",
    'unprotected-plugin.mjs': "export default async (app) => { app.get('/', async () => 'x') }",
    'child.mjs': "export default () => { const app = Fastify(); app.register(async (child) => { await child.register(httpSecurity); child.get('/', async () => 'x') }); return app }",
    'options.mjs': "export default () => { const app = Fastify(); app.register(httpSecurity, { default: 'tsl' }); return app }",
    'ready.mjs': "export default async () => { const app = await build({}); app.addHook('onReady', async () => { throw new Error('no cache') }); return app }",
    'late.mjs': "export default () => { const app = Fastify(); app.get('/', async () => 'x'); app.register(httpSecurity); return app }",
    'older.mjs': 'export default { ready: async () => {}, printRoutes () {}, close: async () => {}, server: {}, httpSecurity: {} }'
  })
  const stack = /\n {4}at /
  const cases: Array<[file: string, message: RegExp, ofTheApp?: boolean]> = [
    ['not-there.js', /not-there\.js: no such file\n$/],
    ['nothing.mjs/app.js', /app\.js: cannot be read: ENOTDIR/],
    ['.', /: is not a file\n$/],
    ['nothing.mjs', /nothing\.mjs exports nothing that can be audited.*default export.*module\.exports/],
    ['listens.mjs', /exports nothing that can be audited/],
    ['object.cjs', /exports nothing that can be audited/],
    ['null.mjs', /exports nothing that can be audited/],
    ['throws.mjs', /throws\.mjs cannot be imported: Error: no database/, true],
    ['value.mjs', /value\.mjs cannot be imported: 'a string'\n$/],
    ['syntax.mjs', /syntax\.mjs cannot be imported: [^]*SyntaxError/i, true],
    ['missing.mjs', /missing\.mjs cannot be imported: [^]*not-there/, true],
    ['factory.mjs', /factory\.mjs: its function made no app: Error: no configuration/, true],
    ['unprotected.mjs', /unprotected\.mjs does not register fastify-http-security\n$/],
    ['unprotected-plugin.mjs', /does not register fastify-http-security.*a function that makes an instance has to declare no parameters/],
    ['child.mjs', /child\.mjs registers fastify-http-security in a child context.*Register it at root/],
    ['options.mjs', /options\.mjs does not boot: .*default: 'tsl' is not allowed.* \(FST_HTTP_SECURITY_INVALID_OPTIONS\)\n$/],
    ['ready.mjs', /ready\.mjs does not boot: Error: no cache/, true],
    ['late.mjs', /late\.mjs does not boot: routes were declared before fastify-http-security/],
    ['older.mjs', /older\.mjs uses a version of fastify-http-security that this command does not understand/]
  ]
  for (const [file, message, ofTheApp = false] of cases) {
    const { code, stdout, stderr } = await audit(file === '.' ? '.' : at(file), '--json')
    t.equal(code, 2, file)
    t.equal(stdout, '', file)
    t.match(stderr, message, file)
    t.match(stderr, /^fastify-http-security: /, file)
    if (ofTheApp) t.match(stderr, stack, `${file}: an error of the app has its stack`)
    else t.notMatch(stderr, stack, `${file}: no stack`)
  }
})

t.test('wrong arguments of the command print its usage', async (t) => {
  const usage = /^Usage: fastify-http-security audit <file>/m
  for (const argv of [['--help'], ['-h'], ['audit', '--help'], ['audit', 'app.js', '-h']]) {
    t.match(await command(...argv), { code: 0, stdout: usage, stderr: '' }, argv.join(' '))
  }
  const { stdout: ofAudit } = await command('audit', '--help')
  t.match(ofAudit, /--minimum <level>[^]*Exit code: 0/)
  t.notMatch(ofAudit, /check-proxy|probe-token/, 'of one command alone')
  t.match(await command('--help'), { stdout: /audit <file>[^]*check-proxy <url>[^]*probe-token \[/ })
  t.match(await command('--version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/, stderr: '' })
  const wrong: Array<[argv: string[], message: RegExp]> = [
    [[], /a command is missing/],
    [['frobnicate'], /there is no command frobnicate/],
    [['toString'], /there is no command toString/],
    [['--json'], /there is no command --json/],
    [['audit'], /audit takes one file/],
    [['audit', 'a.js', 'b.js'], /audit takes one file/],
    [['audit', 'a.js', '--verbose'], /--verbose/],
    [['audit', 'a.js', '--json=yes'], /--json/],
    [['audit', 'a.js', '--minimum'], /--minimum/],
    [['audit', 'a.js', '--minimum', 'tsl'], /--minimum: 'tsl' is not allowed; allowed: 'none', 'tls', 'mtls'/]
  ]
  for (const [argv, message] of wrong) {
    const { code, stdout, stderr } = await command(...argv)
    t.equal(code, 2)
    t.equal(stdout, '')
    t.match(stderr, message)
    t.match(stderr, usage)
    t.notMatch(stderr, /\n {4}at /)
  }
})

t.test('audit closes the app, and does not wait for one that does not close', async (t) => {
  const at = modules(t, {
    'closes.mjs': "export default async () => { const app = await build({}); app.addHook('onClose', async () => { process.emit('audit:closed') }); return app }",
    'fails.mjs': "export default async () => { const app = await build({}); app.addHook('onReady', async () => { throw new Error('no cache') }); app.addHook('onClose', async () => { process.emit('audit:closed') }); return app }",
    'stuck.mjs': "export default async () => { const app = await build({}); app.addHook('onClose', () => new Promise(() => {})); return app }",
    'throws.mjs': "export default async () => { const app = await build({}); app.addHook('onClose', async () => { throw new Error('cannot close') }); return app }"
  })
  let closed = 0
  const count = (): void => { closed++ }
  process.on('audit:closed' as never, count)
  t.teardown(() => process.off('audit:closed', count))
  t.match(await audit(at('closes.mjs')), { code: 0, stderr: '' })
  t.equal(closed, 1)
  t.match(await audit(at('fails.mjs')), { code: 2 })
  t.equal(closed, 2, 'also when it did not boot')
  t.match(await audit(at('stuck.mjs')), { code: 0, stdout: /^METHODS/, stderr: /stuck\.mjs does not close/ })
  t.match(await audit(at('throws.mjs')), { code: 0, stdout: /^METHODS/, stderr: /throws\.mjs does not close: Error: cannot close/ })
})

t.test('the answer of the child process counts, and an end without an answer is an error', async (t) => {
  const io = () => {
    const written = { stdout: '', stderr: '' }
    return { written, stdout: { write: (text: string) => { written.stdout += text } }, stderr: { write: (text: string) => { written.stderr += text } } }
  }
  const answers = io()
  t.equal(await runInChildProcess(['-e', 'fs.writeFileSync(3, JSON.stringify({ code: 1, stdout: "x".repeat(1e6) })); setInterval(() => {}, 1e3); process.exit(0)'], answers), 1)
  t.equal(answers.written.stdout.length, 1e6)
  t.equal(answers.written.stderr, '')

  for (const script of ['process.exit(0)', ...['{', '{}', '1', 'null', '{"code":7,"stdout":""}', '{"code":0}'].map((text) => `fs.writeSync(3, ${JSON.stringify(text)}); process.exit(0)`)]) {
    const silent = io()
    t.equal(await runInChildProcess(['-e', script], silent), 2, script)
    t.strictSame(silent.written.stdout, '', script)
    t.match(silent.written.stderr, /the process ended \(0\) before .* was done/, script)
  }

  const before = process.listenerCount('SIGTERM')
  const ended = io()
  const ending = runInChildProcess(['-e', 'setInterval(() => {}, 1e3)'], ended)
  process.listeners('SIGTERM').at(-1)!('SIGTERM')
  t.equal(await ending, 2)
  t.match(ended.written.stderr, /the process ended \(SIGTERM\)/)
  t.equal(process.listenerCount('SIGTERM'), before)

  const argv = ['node', 'cli', CHILD_FLAG, 'audit', 'app.js']
  t.equal(takeChildFlag(argv), true)
  t.strictSame(argv, ['node', 'cli', 'audit', 'app.js'], 'as the app would find them elsewhere')
  t.equal(takeChildFlag(argv), false)
  const path = join(t.testdir({}), 'answer')
  const fd = openSync(path, 'w')
  const command = async ({ stdout }: Io): Promise<number> => { stdout.write('a'); stdout.write('b'); return 1 }
  t.equal(await answerToParent(command, fd), 1)
  closeSync(fd)
  t.strictSame(JSON.parse(readFileSync(path, 'utf8')), { code: 1, stdout: 'ab' })
  t.equal(await answerToParent(command, 1_000_000), 2, 'no parent listens')
})

t.test('the command writes nothing but its answer to stdout, and ends whatever the app has left open', async (t) => {
  const { path } = await packaged()
  const dir = t.testdir({
    'exits.mjs': 'process.exit(0)',
    'waits.mjs': 'export default () => new Promise(() => {})',
    'crashes.mjs': "setTimeout(() => { throw new Error('later') }, 1); export default () => new Promise((resolve) => setTimeout(resolve, 1e6))"
  })
  // What was a way to ask for that, in an environment that says so by chance.
  const env = (fd: string): string => `FASTIFY_HTTP_SECURITY_ANSWER_FD=${fd}`
  const [table, json, usage, exits, waits, crashes, checks, unheard] = await Promise.all([
    [...typescript, path, 'audit', `./${apps}/noisy.ts`],
    [...typescript, path, 'audit', `${apps}/noisy.ts`, '--json', '--minimum', 'tls'],
    [path],
    [path, 'audit', join(dir, 'exits.mjs')],
    [path, 'audit', join(dir, 'waits.mjs')],
    [path, 'audit', join(dir, 'crashes.mjs')]
  ].map((argv) => runNode(argv)).concat(
    runNode([path, 'check-proxy'], root, [env('1')]),
    runNode([...typescript, path, CHILD_FLAG, 'audit', `${apps}/noisy.ts`], root, [env('7')])
  )) as [Result, Result, Result, Result, Result, Result, Result, Result]
  t.equal(table.code, 0)
  t.equal(table.stdout, 'METHODS    URL      KIND        DECLARED  LEVEL  SOURCE\nGET, HEAD  /health  undeclared  none      none   route\n')
  t.match(table.stderr, /noise of console\.log[^]*noise of the file descriptor[^]*noise of a logger/)
  t.equal(json.code, 1)
  t.match(JSON.parse(json.stdout), { minimum: 'tls', problems: [{ code: 'BELOW_MINIMUM' }] })
  t.match(usage, { code: 2, stdout: '', stderr: /Usage/ })
  t.match(exits, { code: 2, stdout: '', stderr: /the process ended \(0\)/ })
  t.match(waits, { code: 2, stdout: '', stderr: /the process ended/ })
  t.match(crashes, { code: 2, stdout: '', stderr: /Error: later\n {4}at [^]*the process ended \(1\)/ })
  t.match(checks, { code: 2, stdout: '', stderr: /Usage/ })
  t.match(unheard, { code: 2, stderr: /the answer cannot be handed over: E(?:BADF|INVAL)/ })
})

t.test('the command of the built package audits ES modules and CommonJS', async (t) => {
  const { dir, path } = await packaged()
  t.match(await readFile(path, 'utf8'), /^#!\/usr\/bin\/env node\n/)

  const routes = "app.get('/account', async () => 'x'); app.get('/health', { httpSecurity: 'none' }, async () => 'x')"
  await writeFile(join(dir, 'instance.cjs'), `const app = require('fastify')({ logger: true })\napp.register(require('fastify-http-security')).after(() => { ${routes} })\nmodule.exports = app`)
  await writeFile(join(dir, 'plugin.cjs'), `module.exports = function (app, options, done) { app.register(require('fastify-http-security')).after(() => { ${routes} }); done() }`)
  await writeFile(join(dir, 'factory.mjs'), `import Fastify from 'fastify'\nimport httpSecurity from 'fastify-http-security'\nexport default async () => { const app = Fastify(); await app.register(httpSecurity, { proxy: { trust: 'loopback' } }); ${routes}; return app }`)
  const [instance, plugin, factory, other] = await Promise.all([
    runNode([path, 'audit', 'instance.cjs'], dir),
    runNode([path, 'audit', 'plugin.cjs'], dir),
    runNode([path, 'audit', 'factory.mjs'], dir),
    runNode([...entry, 'audit', 'instance.cjs'], dir)
  ])
  const expected = 'METHODS    URL       KIND        DECLARED  LEVEL  SOURCE\nGET, HEAD  /account  undeclared  tls       tls    default\nGET, HEAD  /health   undeclared  none      none   route\n'
  t.match(instance, { code: 1, stdout: expected, stderr: /'tls' can never be met/ })
  t.match(plugin, { code: 0, stdout: expected, stderr: /exports a plugin/ })
  t.strictSame(factory, { code: 0, stdout: expected, stderr: '' })
  t.match(other, { code: 1, stdout: expected, stderr: /'tls' can never be met/ }, 'also by another copy than that of the app')
})
