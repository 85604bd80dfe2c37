import t from 'tap'
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { plain, plainNode } from './fixtures/node.ts'
import { install } from './fixtures/package.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

const { dir, tarball, files } = await install(t)

t.test('the packed package: import, require, what is in it and what is not', async (t) => {
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

  t.ok(files.includes('dist/lib/index.d.ts') && files.includes('dist/types/fastify.d.ts') && files.includes('LICENSE'))
  t.strictSame(files.filter((path) => !/^(dist\/|README|LICENSE|CHANGELOG|SECURITY|package\.json|policy\.schema\.json|examples\/proxies\/)/.test(path)), [])
  t.strictSame(files.filter((path) => /\/schema|compile/.test(path)), [], 'TypeBox schemas stay at home')
  t.ok(files.includes('examples/proxies/nginx.conf'), 'configurations to paste, which the README links to')
})

t.test('publint and are-the-types-wrong have nothing to say', async (t) => {
  const bin = join(root, 'node_modules', '.bin')
  await t.resolves(run('env', [...plain, join(bin, 'publint'), '--strict', '--pack', 'false'], { cwd: root }))
  await t.resolves(run('env', [...plain, join(bin, 'attw'), tarball, '--profile', 'esm-only']))
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
