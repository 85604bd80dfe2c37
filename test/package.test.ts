import t from 'tap'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { authority, issue } from './fixtures/pki.ts'
import { plainNode } from './fixtures/node.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

/** The package as npm packs it, installed where the example lies beside it. */
async function install (t: { teardown (fn: () => unknown): void }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'package-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', dir], { cwd: root })
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }]
  await mkdir(join(dir, 'node_modules', 'fastify-http-security'), { recursive: true })
  await run('tar', ['-xzf', join(dir, filename), '--strip-components=1', '-C', join(dir, 'node_modules', 'fastify-http-security')])
  // Its dependencies are those that are installed here
  const { dependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  for (const name of [...Object.keys(dependencies), 'fastify']) {
    await mkdir(join(dir, 'node_modules', name, '..'), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(dir, 'node_modules', name))
  }
  return dir
}

t.test('the packed package: import, require, what is in it and what is not', async (t) => {
  const dir = await install(t)
  await writeFile(join(dir, 'import.mjs'), `
    import Fastify from 'fastify'
    import httpSecurity from 'fastify-http-security'
    import { inject } from 'fastify-http-security/testing'
    import { developmentCertificates, enableTls, listen } from 'fastify-http-security/tls'
    const app = Fastify()
    await app.register(httpSecurity)
    app.get('/', async () => 'x')
    console.log((await inject(app, '/')).statusCode, typeof enableTls, typeof developmentCertificates, typeof listen)`)
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
  t.equal(await output('import.mjs'), '403 function function function')
  t.equal(await output('require.cjs'), '200')
  await t.rejects(output('wrong.mjs'), /default: 'tsl' is not allowed; allowed: 'none', 'tls', 'mtls'/, 'errors are explained')

  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--dry-run', '--json'], { cwd: root })
  const files = (JSON.parse(stdout) as [{ files: Array<{ path: string }> }])[0].files.map(({ path }) => path)
  t.ok(files.includes('dist/lib/index.d.ts') && files.includes('dist/types/fastify.d.ts') && files.includes('LICENSE'))
  t.strictSame(files.filter((path) => !/^(dist\/|README|LICENSE|CHANGELOG|SECURITY|package\.json|policy\.schema\.json|examples\/proxies\/)/.test(path)), [])
  t.strictSame(files.filter((path) => /\/schema|compile/.test(path)), [], 'TypeBox schemas stay at home')
  t.ok(files.includes('examples/proxies/nginx.conf'), 'configurations to paste, which the README links to')
})

t.test('publint and are-the-types-wrong have nothing to say', async (t) => {
  const bin = join(root, 'node_modules', '.bin')
  await t.resolves(run(join(bin, 'publint'), ['--strict', '--pack', 'false'], { cwd: root }))
  await t.resolves(run(join(bin, 'attw'), ['--pack', '.', '--profile', 'esm-only'], { cwd: root }))
})

t.test('nothing heavy is loaded with the plugin', async (t) => {
  const loader = `
    import { writeSync } from 'node:fs'
    export async function resolve (specifier, context, next) {
      const found = await next(specifier, context)
      writeSync(2, found.url + '\\n')
      return found
    }`
  const { stderr } = await run('env', [
    ...plainNode, '--no-warnings', '--experimental-loader', `data:text/javascript,${encodeURIComponent(loader)}`,
    '--input-type=module', '-e', `await import(${JSON.stringify(join(root, 'dist/lib/index.js'))})`
  ], { cwd: root })
  t.match(stderr, /fastify-plugin/)
  t.notMatch(stderr, /typebox|helmet|peculiar|pkijs|reflect-metadata|light-my-request/)
})

t.test('an app that is bundled, as CommonJS and as an ES module, runs alone in a folder', async (t) => {
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

t.test('npm start: the curl lines it prints do what they say when pasted', async (t) => {
  const dir = await install(t)
  await cp(join(root, 'examples'), join(dir, 'examples'), { recursive: true })
  await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
  const example = spawn('env', [...plainNode, '--import', import.meta.resolve('tsx'), 'examples/shop.ts'], { cwd: dir, env: { ...process.env, HTTP_PORT: '0', HTTPS_PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => example.kill('SIGKILL'))
  const output = await until(example, 'The health check is there for everybody:\ncurl', 'health\n')
  t.match(output, /^METHODS +URL +KIND +DECLARED +LEVEL +SOURCE$/m)
  t.match(output, /It can vouch for these names only/, 'made on first use, and how to trust them is said')

  const lines = output.split('\n').filter((line) => line.startsWith('curl'))
  const expected = [
    /^HTTP\/1\.1 308 [^]*location: https:\/\/127\.0\.0\.1:\d+\/shop\r/,
    /^HTTP\/1\.1 200 [^]*<h1>The shop<\/h1>/,
    /^HTTP\/1\.1 403 [^]*FST_HTTP_SECURITY_CERTIFICATE_REQUIRED/,
    /^HTTP\/1\.1 200 [^]*"who":"development client"/,
    /^HTTP\/1\.1 403 [^]*<faultcode>/,
    /^HTTP\/1\.1 200 [^]*"status":"ok"/
  ]
  t.equal(lines.length, expected.length)
  for (const [i, line] of lines.entries()) t.match((await run('sh', ['-c', line], { cwd: tmpdir() })).stdout, expected[i]!, line)

  example.kill('SIGINT')
  const [code] = await once(example, 'exit') as [number]
  t.equal(code, 0, 'and it ends when it is told to')
})

async function until (child: ChildProcess, ...marks: string[]): Promise<string> {
  let output = ''
  for await (const chunk of child.stdout!.setEncoding('utf8')) {
    output += chunk as string
    if (marks.every((mark) => output.includes(mark))) return output
  }
  throw new Error(`it ended: ${output}`)
}
