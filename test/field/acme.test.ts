/**
 * Certificates by ACME from Debian's `pebble`, by apps that listen. What pebble cannot be brought to is in acme.test.ts.
 */
import t, { type Test } from 'tap'
import { type ChildProcess, spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { type AcmeOptions, acme } from '../../lib/acme/index.ts'
import httpSecurity from '../../lib/index.ts'
import { acmeInterfaceOf } from '../../lib/tls-interface.ts'
import { enableTls } from '../../lib/tls/index.ts'
import { ask, askHttp2 } from '../fixtures/ask.ts'
import { freePort } from '../fixtures/network.ts'
import { plainNode, typescript } from '../fixtures/programs.ts'
import { startPebble, withoutPebble } from '../fixtures/pebble.ts'
import { keepLog, type LogLine } from '../fixtures/serve.ts'
import { MINUTE, until } from '../fixtures/time.ts'

const skip = withoutPebble

interface Program {
  child: ChildProcess
  /** What it said, a line each: fixtures/acme-app.ts says what. */
  said: string[]
  has (what: RegExp): boolean
  kill (): Promise<void>
}

/** A process of its own with a source, which answers HTTP where pebble asks, if it is told to. */
function start (t: Test, options: AcmeOptions, http?: number): Program {
  const child = spawn('env', [...plainNode, ...typescript, fileURLToPath(new URL('../fixtures/acme-app.ts', import.meta.url)), JSON.stringify({ options, http })], { stdio: ['ignore', 'pipe', 'inherit'] })
  const said: string[] = []
  createInterface(child.stdout!).on('line', (line) => said.push(line))
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  t.teardown(kill)
  return { child, said, has: (what) => said.some((line) => what.test(line)), kill }
}

async function certificateAt (port: number, ca: string): Promise<X509Certificate> {
  const socket = connect({ host: '127.0.0.1', port, ca, servername: 'shop.example' })
  await once(socket, 'secureConnect')
  const certificate = socket.getPeerX509Certificate()!
  socket.destroy()
  return certificate
}

const certificatesOf = ({ said }: Program): string[] => said.filter((line) => line.startsWith('certificate ')).map((line) => line.slice(12))

/** What is wrong with the modes of a directory, at any moment until it is asked. */
function watchModes (dir: string): () => string[] {
  const wrong = new Set<string>()
  const look = (path: string): void => {
    const info = statSync(path, { throwIfNoEntry: false })
    if (info === undefined) return
    if ((info.mode & 0o077) !== 0) wrong.add(`${path.slice(dir.length)} ${(info.mode & 0o777).toString(8)}`)
    if (!info.isDirectory()) return
    try {
      for (const name of readdirSync(path)) look(join(path, name))
    } catch {
      // It has gone meanwhile.
    }
  }
  const timer = setInterval(() => look(dir), 1)
  return () => {
    clearInterval(timer)
    return [...wrong]
  }
}

t.test('an app from nothing to HTTPS, on its own two ports', { skip }, async (t) => {
  const pebble = await startPebble(t, { isDown: true })
  const log: LogLine[] = []
  const tls = await enableTls({ certificates: acme({ ...pebble.options, domains: ['shop.example', 'www.shop.example'], dir: join(t.testdirName, 'acme') }) })
  const app = Fastify({ logger: keepLog(log), https: tls.https }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  app.get('/', { httpSecurity: { kind: 'screen' } }, async () => 'the page')
  app.get('/health', { httpSecurity: 'none' }, async () => 'health')
  const { https } = await tls.listen(app, { http: pebble.http, https: 0 })
  const get = async (path: string) => await ask({ port: pebble.http, path, headers: { host: 'shop.example' } })
  t.match(await get('/'), { status: 503, body: /FST_HTTP_SECURITY_CERTIFICATE_PENDING/ })
  t.match(await get('/health'), { status: 200 })
  await t.rejects(ask({ port: https.port, tls: { rejectUnauthorized: false, servername: 'shop.example' } }))

  await pebble.start()
  t.match(tls.certificates(), [{ names: ['shop.example', 'www.shop.example'], pending: /ECONNREFUSED; it is tried again|it is being ordered/ }])
  t.ok(await until(() => tls.certificates()[0]!.pending === undefined))
  t.match(await get('/'), { status: 308, headers: { location: 'https://shop.example/' } })
  const ca = await pebble.root()
  for (const servername of ['shop.example', 'www.shop.example']) t.equal((await ask({ port: https.port, tls: { ca, servername } })).body, 'the page')
  t.ok(log.some(({ msg }) => msg.startsWith('http-security: acme: shop.example and 1 more: a certificate was obtained')))
  const tokens = [...pebble.log().matchAll(/acme-challenge\/([\w-]+)/g)].map(([, token]) => token!)
  t.ok(tokens.length > 0)
  t.notOk(tokens.some((token) => JSON.stringify(log).includes(token)), 'no token is in the log')
})

t.test('processes that share a directory: one orders, whichever is asked answers, all have it; a restart orders nothing', { skip }, async (t) => {
  const pebble = await startPebble(t)
  const dir = join(t.testdirName, 'acme')
  const wrongModes = watchModes(dir)
  const options: AcmeOptions = { ...pebble.options, domains: ['shop.example', 'www.shop.example'], dir }
  const ports = [await freePort(), await freePort()]
  const programs = ports.map((port) => start(t, options, port))
  // What is before them asks one after the other.
  const tokens: string[] = []
  let turn = 0
  const balancer = http.createServer(({ url, headers }, response) => {
    tokens.push(url!.split('/').at(-1)!)
    http.get({ host: '127.0.0.1', port: ports[turn++ % 2], path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    }).on('error', () => response.destroy())
  })
  t.teardown(() => balancer.close())
  await once(balancer.listen(pebble.http, '127.0.0.1'), 'listening')

  t.ok(await until(() => programs.every((program) => certificatesOf(program).length > 0)))
  t.equal(new Set(programs.flatMap(certificatesOf)).size, 1)
  t.equal(pebble.orders(), 1)
  t.ok(tokens.length >= 4, 'both have answered')
  t.strictSame(wrongModes(), [], 'nothing could be read by others at any moment')
  t.equal(programs.flatMap(({ said }) => said).filter((line) => line.startsWith('info') && line.includes('was obtained')).length, 1)

  // Verified by a client that trusts pebble's root
  const source = acme(options)
  const tls = await enableTls({ certificates: source })
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  app.get('/', async () => 'reached')
  const { https } = await tls.listen(app, { https: 0 })
  t.equal((await ask({ port: https.port, tls: { ca: await pebble.root(), servername: 'www.shop.example' } })).body, 'reached')
  t.strictSame(tls.certificates().map(({ names }) => names), [['shop.example', 'www.shop.example']])

  await Promise.all(programs.map(async ({ kill }) => await kill()))
  const again = start(t, options, ports[0]!)
  t.ok(await until(() => again.has(/^listening/)))
  await until(() => pebble.log().match(/GET \/dir/g)!.length >= 3)
  t.equal(pebble.orders(), 1)
  t.equal([...programs, again].filter(({ said }) => said.some((line) => /PRIVATE KEY/.test(line) || tokens.some((token) => line.includes(token)))).length, 0)
})

t.test('a process that is killed in the middle of an order: the next one takes its lock, and goes on with the order', { skip }, async (t) => {
  const pebble = await startPebble(t)
  const options: AcmeOptions = { ...pebble.options, domains: ['shop.example'], dir: join(t.testdirName, 'acme') }
  const first = start(t, options, pebble.http)
  const files = (): string[] => readdirSync(options.dir)
  t.ok(await until(() => first.has(/^listening/) && files().some((name) => name.startsWith('challenges-'))))
  await first.kill()
  t.equal(pebble.orders(), 1)
  const second = start(t, options, pebble.http)
  t.ok(await until(() => second.has(/^listening/)))
  t.ok(await until(() => certificatesOf(second).length > 0), second.said.join('\n'))
  t.equal(pebble.orders(), 1)
  t.strictSame(files().filter((name) => name.startsWith('challenges-')), [])
})

t.test('a wildcard by dns-01, half of the nonces refused, with an external account', { skip }, async (t) => {
  const hmacKey = 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W'
  const pebble = await startPebble(t, { env: { PEBBLE_WFE_NONCEREJECT: '50' }, config: { externalAccountBindingRequired: true, externalAccountMACKeys: { 'kid-1': hmacKey } } })
  const options: AcmeOptions = { ...pebble.options, domains: ['*.shop.example', 'shop.example'], keyType: 'rsa', dns: pebble.dns, dir: join(t.testdirName, 'acme') }
  const log: string[] = []
  const without = acme(options)
  acmeInterfaceOf(without)!.logTo((level, message) => log.push(`${level} ${message}`))
  const stop = without.watch(() => {})
  t.ok(await until(() => log.length > 0))
  stop()
  t.match(log, [/^error acme: \*\.shop\.example and 1 more: no certificate was obtained: externalAccountRequired/])

  const dir = join(t.testdirName, 'bound')
  const source = acme({ ...options, dir, externalAccountBinding: { kid: 'kid-1', hmacKey } })
  t.teardown(source.watch(() => {}))
  t.ok(await until(async () => (await source.load()).length > 0))
  const { cert } = (await source.load())[0]!
  t.equal(new X509Certificate(cert).checkHost('any.shop.example'), '*.shop.example')
  t.equal(new X509Certificate(cert).publicKey.asymmetricKeyType, 'rsa')
})

t.test('a CA that is down is asked again until it is there, and one that has begun anew is given a new account', { skip }, async (t) => {
  const pebble = await startPebble(t, { isDown: true })
  const options: AcmeOptions = { ...pebble.options, domains: ['shop.example'], dir: join(t.testdirName, 'acme') }
  const program = start(t, options, pebble.http)
  t.ok(await until(() => program.has(/^error acme: shop\.example: no certificate was obtained: localhost:\d+: ECONNREFUSED; it is tried again at /)))
  await pebble.start()
  t.ok(await until(() => certificatesOf(program).length > 0))
  await program.kill()
  await pebble.stop()
  await pebble.start()
  const other = start(t, { ...options, domains: ['other.example'] }, pebble.http)
  t.ok(await until(() => other.has(/was obtained/)))
})

t.test('certificates of twenty seconds are renewed under traffic, and none that has expired is served', { skip }, async (t) => {
  const pebble = await startPebble(t, { config: { certificateValidityPeriod: 20 } })
  const options: AcmeOptions = { ...pebble.options, domains: ['shop.example'], dir: join(t.testdirName, 'acme'), dns: pebble.dns }
  const first = acme(options)
  const stop = first.watch(() => {})
  t.ok(await until(async () => (await first.load()).length > 0))
  stop()

  const tls = await enableTls({ certificates: acme(options) })
  const app = Fastify({ http2: true, https: tls.https } as never) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(websocket)
  app.get('/', async () => 'reached')
  app.get('/live', { websocket: true }, (socket) => { socket.on('message', (message) => { socket.send(String(message)) }) })
  const { https } = await tls.listen(app, { https: 0 })
  const ca = await pebble.root()
  const session = http2.connect(`https://127.0.0.1:${https.port}`, { ca, servername: 'shop.example' })
  t.teardown(() => session.destroy())
  const socket = new WebSocket(`wss://127.0.0.1:${https.port}/live`, { ca, checkServerIdentity: () => undefined } as object)
  t.teardown(() => socket.terminate())
  await once(socket, 'open')
  const served = new Map<string, number>()
  const failed: string[] = []
  const kept = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => kept.destroy())
  for (const end = performance.now() + MINUTE; served.size < 3 && performance.now() < end;) {
    try {
      const certificate = await certificateAt(https.port, ca)
      if (Date.now() > Date.parse(certificate.validTo)) failed.push('expired')
      served.set(certificate.fingerprint256, Date.parse(certificate.validTo))
      const { status } = await ask({ port: https.port, agent: kept, tls: { ca, servername: 'shop.example', agent: kept } })
      const other = await askHttp2(session, { ':path': '/' })
      socket.send('live')
      const [message] = await once(socket, 'message', { signal: AbortSignal.timeout(10_000) })
      if (status !== 200 || other.status !== 200 || String(message) !== 'live') failed.push(`${status} ${other.status} ${String(message)}`)
    } catch (error) {
      failed.push((error as Error).message)
    }
    await delay(20)
  }
  t.equal(served.size, 3)
  t.strictSame(failed, [])
  t.equal(pebble.orders(), 3, 'with no order more than needed')
})
