import t from 'tap'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { plain, plainNode, run, repository as root } from './fixtures/programs.ts'
import { install } from './fixtures/package.ts'
import { build } from 'esbuild'
import { authority, issue, issueServer } from './fixtures/pki.ts'

const { dir, tarball, files } = await install(t)

t.test('the packed package can be imported and required, and has the files that it should', async (t) => {
  await writeFile(join(dir, 'import.mjs'), `
    import Fastify from 'fastify'
    import httpSecurity from 'fastify-http-security'
    import { inject } from 'fastify-http-security/testing'
    import { acme } from 'fastify-http-security/acme'
    import { developmentCertificates, enableTls, listen } from 'fastify-http-security/tls'
    const app = Fastify()
    await app.register(httpSecurity)
    app.get('/', async () => 'x')
    console.log((await inject(app, '/')).statusCode, typeof enableTls, typeof developmentCertificates, typeof listen, typeof acme)`)
  await writeFile(join(dir, 'require.cjs'), `
    const httpSecurity = require('fastify-http-security')
    const { inject } = require('fastify-http-security/testing')
    const app = require('fastify')()
    app.register(httpSecurity).after(() => app.get('/', async () => 'x'))
    inject(app, { url: '/', secure: true }).then(({ statusCode }) => console.log(statusCode))`)
  await writeFile(join(dir, 'wrong.mjs'), `
    import Fastify from 'fastify'
    import httpSecurity from 'fastify-http-security'
    await Fastify().register(httpSecurity, { default: 'tsl' })`)
  const output = async (file: string): Promise<string> => (await run('env', [...plainNode, file], { cwd: dir })).stdout.trim()
  t.equal(await output('import.mjs'), '403 function function function function')
  t.equal(await output('require.cjs'), '200')
  await t.rejects(output('wrong.mjs'), /default: 'tsl' is not allowed; allowed: 'none', 'tls', 'mtls'/, 'errors are explained')

  t.ok(files.includes('dist/lib/index.d.ts') && files.includes('dist/types/fastify.d.ts') && files.includes('LICENSE'))
  t.strictSame(files.filter((path) => !/^(dist\/|README|LICENSE|CHANGELOG|SECURITY|package\.json|(policy|clients)\.schema\.json|docs\/|examples\/)/.test(path)), [])
  t.strictSame(files.filter((path) => /\/schema|compile/.test(path)), [], 'TypeBox schemas stay at home')
  const ranges = await Promise.all(['package.json', 'node_modules/fastify/package.json'].map(async (path) => (JSON.parse(await readFile(join(root, path), 'utf8')) as { dependencies: Record<string, string> }).dependencies['light-my-request']))
  t.match(ranges, [/^\^6\./, /^\^6\./], 'one copy with that of Fastify, whichever the user has')
  for (const path of ['examples/proxies/nginx.conf', 'examples/shop.ts', 'docs/getting-started.md']) t.ok(files.includes(path), `${path}, which the README leads to`)
  for (const path of ['policy.schema.json', 'clients.schema.json']) t.ok(files.includes(path), `${path}, which documents name`)
})

t.test('TypeScript that compiles to CommonJS can import the package, with module nodenext', async (t) => {
  await mkdir(join(dir, 'typed'))
  const file = join(dir, 'typed', 'app.cts')
  await writeFile(file, `
    import Fastify from 'fastify'
    import httpSecurity from 'fastify-http-security'
    import { inject } from 'fastify-http-security/testing'
    const app = Fastify()
    app.register(httpSecurity, { default: 'tls' }).after(() => { app.get('/', { httpSecurity: 'tls' }, async () => 'x') })
    inject(app, { url: '/', secure: true }).then(({ statusCode }) => console.log(statusCode))`)
  // Whoever compiles with this flag may only give `undefined` where the types say so: it has to be all members that are optional
  const strict = join(dir, 'typed', 'strict.mts')
  await writeFile(strict, `
    import type { FastifyContextConfig, RegisterOptions, RouteShorthandOptions } from 'fastify'
    import type { ClientDefinition, Declaration, DocumentSource, ForwardedCertificateOptions, HstsPolicy, HttpSecurityOptions, Policy, PolicySource, ProxyOptions, RedirectOptions } from 'fastify-http-security'
    import type { AcmeOptions } from 'fastify-http-security/acme'
    import type { SecureInjectOptions } from 'fastify-http-security/testing'
    import type { CertificateOptions, ClientCertificatesOptions, DevelopmentCertificatesOptions, EnabledTls, EnableTlsOptions, ListenOptions } from 'fastify-http-security/tls'
    type Optional<Options> = { [Name in keyof Options as {} extends Pick<Options, Name> ? Name : never]-?: Options[Name] }
    type Refusing<Options> = { [Name in keyof Optional<Options>]: undefined extends Optional<Options>[Name] ? never : Name }[keyof Optional<Options>]
    type Own<Options> = Pick<Options, keyof Options & 'httpSecurity'>
    export const refusing: [
      Refusing<HttpSecurityOptions>, Refusing<Declaration>, Refusing<RedirectOptions>, Refusing<ProxyOptions>, Refusing<ForwardedCertificateOptions>,
      Refusing<Policy>, Refusing<NonNullable<Policy['environment']>>, Refusing<HstsPolicy>, Refusing<PolicySource>, Refusing<ClientDefinition>, Refusing<DocumentSource<object>>,
      Refusing<Own<RouteShorthandOptions>>, Refusing<Own<FastifyContextConfig>>, Refusing<Own<RegisterOptions>>,
      Refusing<EnableTlsOptions>, Refusing<CertificateOptions>, Refusing<ClientCertificatesOptions>, Refusing<DevelopmentCertificatesOptions>, Refusing<ListenOptions>, Refusing<AcmeOptions>,
      Refusing<Pick<SecureInjectOptions, 'secure' | 'clientCertificate' | 'client'>>
    ] extends never[] ? true : never = true
    export const refused: Refusing<{ some?: string }> = 'some'
    export const options = (tls: EnabledTls | undefined): HttpSecurityOptions => ({ tls, proxy: undefined, onViolation: undefined })`)
  const options = ['--ignoreConfig', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2023', '--types', 'node', '--typeRoots', join(root, 'node_modules/@types'), '--strict', '--skipLibCheck']
  await t.resolves(run('env', [...plain, join(root, 'node_modules/.bin/tsc'), ...options, file, strict], { cwd: dir }))
  t.equal((await run('env', [...plainNode, 'typed/app.cjs'], { cwd: dir })).stdout.trim(), '200')
})

t.test('publint and are-the-types-wrong find nothing wrong with the package', async (t) => {
  const bin = join(root, 'node_modules', '.bin')
  await t.resolves(run('env', [...plain, join(bin, 'publint'), '--strict', '--pack', 'false'], { cwd: root }))
  await t.resolves(run('env', [...plain, join(bin, 'attw'), tarball, '--profile', 'esm-only']))
})

/** The URLs of what a script loads, which stands in the repository. */
async function loadedBy (script: string): Promise<string> {
  const loader = `
    import { writeSync } from 'node:fs'
    export async function resolve (specifier, context, next) {
      const found = await next(specifier, context)
      writeSync(2, found.url + '\\n')
      return found
    }`
  const { stderr } = await run('env', [
    ...plainNode, '--no-warnings', '--experimental-loader', `data:text/javascript,${encodeURIComponent(loader)}`,
    '--input-type=module', '-e', script
  ], { cwd: root })
  return stderr
}

t.test('the plugin loads no large dependency', async (t) => {
  const stderr = await loadedBy("await import('./dist/lib/index.js')")
  t.match(stderr, /fastify-plugin/)
  t.notMatch(stderr, /typebox|helmet|peculiar|pkijs|asn1js|noble|light-my-request|forwarded-parse/)
  t.notMatch(await loadedBy("await import('./dist/lib/tls/index.js')"), /dist\/lib\/acme/, 'nor does fastify-http-security/tls load what obtains certificates')
  t.match(await loadedBy("await import('./dist/lib/acme/index.js')"), /dist\/lib\/acme/)
})

t.test('what reads client certificates is loaded where one can come, and nowhere else', async (t) => {
  const { cert, key } = await issueServer(await authority('Server CA'))
  const boot = (server: object, options: object, more = '') => loadedBy(`
    import Fastify from 'fastify'
    import httpSecurity from './dist/lib/index.js'
    import { inject } from './dist/lib/testing.js'
    const app = Fastify(${JSON.stringify(server)})
    await app.register(httpSecurity, ${JSON.stringify(options)})
    app.get('/', { httpSecurity: 'none' }, async () => 'x')
    await inject(app, { url: '/', secure: true })
    ${more}`)
  const reader = /chunks\/details-\w+\.js/
  t.notMatch(await boot({}, {}), reader)
  t.notMatch(await boot({}, { proxy: { trust: 'loopback' } }), reader)
  t.match(await boot({}, { proxy: { trust: 'loopback', certificate: 'nginx' } }), reader)
  t.match(await boot({ https: { cert, key } }, {}), reader)
  t.match(await boot({}, {}, `await inject(app, { url: '/', clientCertificate: ${JSON.stringify(cert)} })`), reader)
})

t.test('a bundled app, as CommonJS and as an ES module, runs without node_modules', async (t) => {
  const ca = await authority('CA')
  const jane = await issue(ca, { subject: 'CN=Jane' })
  await Promise.all((['cjs', 'esm'] as const).map(async (format) => {
    const dir = await mkdtemp(join(tmpdir(), 'bundle-'))
    t.teardown(() => rm(dir, { recursive: true, force: true }))
    const file = join(dir, format === 'cjs' ? 'app.cjs' : 'app.mjs')
    const { warnings } = await build({
      entryPoints: [join(root, 'test/fixtures/apps/bundled.mjs')],
      outfile: file,
      bundle: true,
      platform: 'node',
      format,
      logLevel: 'silent',
      // Fastify is CommonJS, and asks for what is built into Node.
      ...format === 'esm' && { banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)" } }
    })
    t.strictSame(warnings, [], format)
    const { stdout } = await run('env', [...plainNode, file, JSON.stringify({ ca: ca.cert, cert: jane.cert })], { cwd: dir, env: { PATH: process.env.PATH } })
    const { errors, ...answers } = JSON.parse(stdout.split('\n').findLast((line) => line.startsWith('{'))!) as Record<string, unknown> & { errors: string[] }
    t.match(answers, {
      overTls: 'Jane',
      named: 'acme',
      insecure: { statusCode: 308, location: 'https://shop.test/tls' },
      secure: { statusCode: 200, body: 'in' },
      forwarded: { statusCode: 200, body: 'in' },
      presence: { statusCode: 200, body: 'Jane' },
      here: { statusCode: 200, body: 'Jane' },
      notHere: { statusCode: 403 },
      policy: { statusCode: 308, location: 'https://shop.test/tls' }
    }, format)
    t.match(errors, [
      /^FST_HTTP_SECURITY_INVALID_OPTIONS: .*: default: 'tsl' is not allowed; allowed: 'none', 'tls', 'mtls'/,
      /^FST_HTTP_SECURITY_INVALID_OPTIONS: .*: proxy: trust: 'proxy\.test' is not allowed \(proxy\.test is neither an address nor a range\)/,
      /^FST_HTTP_SECURITY_INVALID_POLICY: wrong\.json:1:21: no JSON: a name in double quotes is expected here/,
      /^FST_HTTP_SECURITY_INVALID_OPTIONS: httpSecurity of route GET \/x: unknown option 'knd'/,
      /^FST_HTTP_SECURITY_INVALID_OPTIONS: options of enableTls: certificates: /
    ], format)
  }))
})
