import t, { type Test } from 'tap'
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { type EnabledTls, enableTls } from '../lib/tls/index.ts'
import { type Answer, ask } from './fixtures/ask.ts'
import { skip } from './fixtures/openssl.ts'
import { type Identity, authority, issue, issueServer, revocationList } from './fixtures/pki.ts'

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const home = process.cwd()

/** The code blocks of a language below a heading, and above the next one. */
function blocksOf (heading: string, language: string): string[] {
  const [, section = ''] = README.split(new RegExp(`^#+ ${heading}$`, 'm'))
  const [own] = section.split(/^#+ /m)
  return [...own!.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, code]) => code!)
}

interface Ran { tls?: EnabledTls, app?: FastifyInstance }

/** Runs what a reader would paste, in a folder with these files, and closes what it leaves open. */
async function run (t: Test, code: string, files: Record<string, string>): Promise<{ tls: EnabledTls, app: FastifyInstance }> {
  process.chdir(t.testdir(files))
  t.teardown(() => process.chdir(home))
  const script = code.replaceAll(/^import .*\n/gm, '').replace(/http: 8080, https: 8443/, 'http: 0, https: 0').replace('logger: true', 'logger: false')
  const AsyncFunction = (async () => {}).constructor as new (...source: string[]) => (...values: unknown[]) => Promise<Ran>
  const quiet = { print () {}, log () {} }
  const ran = await new AsyncFunction('Fastify', 'httpSecurity', 'enableTls', 'console', `${script}\nreturn { ...typeof tls !== 'undefined' && { tls }, ...typeof app !== 'undefined' && { app } }`)(Fastify, httpSecurity, enableTls, quiet)
  t.teardown(async () => {
    await ran.app?.close()
    ran.tls?.close()
  })
  return ran as Required<Ran>
}

const [partners, staff, serverCa] = await Promise.all([authority('Partners'), authority('Staff'), authority('Server CA')])
const [jane, sam] = await Promise.all([issue(partners, { subject: 'CN=Jane' }), issue(staff, { subject: 'CN=Sam' })])

async function serverFiles (names: Record<string, readonly string[]>): Promise<Record<string, string>> {
  const files = await Promise.all(Object.entries(names).map(async ([name, hosts]) => {
    const { cert, key } = await issueServer(serverCa, hosts)
    return [[`${name}.pem`, cert], [`${name}.key`, key]]
  }))
  return Object.fromEntries(files.flat()) as Record<string, string>
}

t.test('Usage: runs with the certificates that its three commands make', { skip }, async (t) => {
  const [commands] = blocksOf('Usage', 'sh')
  t.equal(commands!.trim().split('\n').length, 3)
  const dir = t.testdir()
  const { status, stderr } = spawnSync('sh', ['-e'], { cwd: dir, input: commands!, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const files = Object.fromEntries(readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), 'utf8')]))
  const { tls, app } = await run(t, blocksOf('Usage', 'ts')[0]!, files)
  t.match(tls.certificates(), [{ names: ['localhost', '127.0.0.1'] }])
  const { port } = app.server.address() as AddressInfo
  const get = async (path: string, identity?: { cert: string, key: string }): Promise<Answer> => await ask({ port, path, tls: { ca: files['partners-ca.pem']!, servername: 'localhost', ...identity } as object })
  const client = { cert: files['client.pem']!, key: files['client.key']! }
  const { status: welcome, body } = await get('/partners/me', client)
  t.match({ welcome, ...JSON.parse(body) as object }, { welcome: 200, who: 'Jane', certificate: { isValid: true } })
  t.match(await get('/partners/me'), { status: 403 })
  t.match(await get('/payments/', client), { status: 200 })
  app.httpSecurity.enforce({ environment: { forceHttpsForScreens: true } })
  t.match(await app.inject('/health'), { statusCode: 200 }, 'a health check over plain HTTP is no page')
})

t.test('Several hosts: routes are tied to hosts, with or without a port, and no partner reaches what is for staff', async (t) => {
  const [code] = blocksOf('Several hosts', 'ts')
  const { tls, app } = await run(t, code!, {
    ...await serverFiles({ shop: ['shop.example'], partners: ['partners.example'], admin: ['admin.example'] }),
    'partners-ca.pem': partners.cert,
    'staff-ca.pem': staff.cert,
    'staff.crl': await revocationList(staff)
  })
  const { https: { port } } = await tls.listen(app, { https: 0 })
  const statusFor = async ({ cert, key }: Identity, host: string, path: string): Promise<number> => {
    const [servername] = host.split(':')
    return (await ask({ port, path, headers: { host }, tls: { cert, key, servername: servername!.toLowerCase(), ca: serverCa.cert } as object })).status
  }
  for (const suffix of ['', `:${port}`]) {
    t.equal(await statusFor(jane, `partners.example${suffix}`, '/partners/me'), 200)
    t.equal(await statusFor(sam, `admin.example${suffix}`, '/admin'), 200)
    t.equal(await statusFor(sam, `ADMIN.example${suffix}`, '/admin'), 200)
    t.equal(await statusFor(jane, `partners.example${suffix}`, '/admin'), 404)
    t.equal(await statusFor(jane, `admin.example${suffix}`, '/admin'), 403)
    t.equal(await statusFor(sam, `partners.example${suffix}`, '/admin'), 403)
  }
})

t.test('Behind a proxy: redirects go to hosts of ours alone', async (t) => {
  const [code] = blocksOf('Behind a proxy', 'ts')
  const { app } = await run(t, code!.replace(/^await app\.listen.*$/m, ''), {})
  const redirected = async (host: string): Promise<unknown> => {
    const { statusCode, headers: { location } } = await app.inject({ url: '/x', remoteAddress: '10.1.2.3', headers: { host, 'x-forwarded-proto': 'http', accept: 'text/html' } })
    return statusCode === 308 ? location : statusCode
  }
  t.equal(await redirected('shop.example'), 'https://shop.example/x')
  t.equal(await redirected('evil.example'), 400)
})

t.test('Policies: the developers\' line takes the smallest file, and the one of administrators', async (t) => {
  const [code] = blocksOf('Policies', 'ts')
  const [example] = blocksOf('For administrators', 'json')
  const [smallest] = /`(\{ "environment": \{\} \})`/.exec(README)!.slice(1)
  for (const [name, text] of [['smallest', smallest!], ['example', example!]] as const) {
    await t.test(name, async (t) => {
      const { app } = await run(t, `const app = Fastify()\n${code!}`, { 'policy.json': text })
      app.get('/api', { httpSecurity: { level: 'none', kind: 'rest' } }, async () => 'api')
      await app.ready()
      t.equal((await app.inject('/api')).statusCode, 200)
      t.equal(app.httpSecurity.violations().length, name === 'example' ? 1 : 0, 'what is for shop is in force: the example reports')
    })
  }
})

t.test('Files: of two authorities that each have their list, the clients of both get in', async (t) => {
  const [code] = blocksOf('Files', 'ts')
  const server = await issueServer(serverCa)
  const { tls } = await run(t, code!, {
    'fullchain.pem': server.cert,
    'privkey.pem': server.key,
    'partners-ca.pem': partners.cert,
    'staff-ca.pem': staff.cert,
    'partners.crl': await revocationList(partners),
    'staff.crl': await revocationList(staff)
  })
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, default: 'mtls' })
  app.get('/', async (request) => request.clientCertificateValue('SubjectCN'))
  const { https: { port } } = await tls.listen(app, { https: 0 })
  for (const { cert, key, name } of [jane, sam]) t.match(await ask({ port, tls: { cert, key, ca: serverCa.cert } }), { status: 200, body: name.slice(3) })
})
