/**
 * Units of lib/tls and lib/files: what is quicker shown without a server, or cannot be brought about with one.
 */
import t from 'tap'
import { EventEmitter, once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { dirname, join } from 'node:path'
import { duplexPair } from 'node:stream'
import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import tls from 'node:tls'
import { Expiry } from '../lib/files/expiry.ts'
import { FileReader } from '../lib/files/pem.ts'
import { ReloadQueue } from '../lib/files/reload-queue.ts'
import { watchFiles } from '../lib/files/watch.ts'
import type { ServedApp } from '../lib/tls-interface.ts'
import { openCertificateSource } from '../lib/tls/certificate-source.ts'
import { BootLog } from '../lib/tls/controller.ts'
import { endingIn, readCertificates } from '../lib/tls/credentials.ts'
import { evict } from '../lib/files/lock.ts'
import { NameMap } from '../lib/tls/host-names.ts'
import { answerPlainHttp } from '../lib/tls/listen/http-on-tls-port.ts'
import { resolveTlsOptions } from '../lib/tls/options.ts'
import { settled } from '../lib/tls/test-handshakes.ts'
import { loadTrust } from '../lib/trust/load.ts'
import { INVALID_CERTIFICATES } from './fixtures/enabled.ts'
import { authority, issueServer, revocationList } from './fixtures/pki.ts'
import { DAY } from './fixtures/time.ts'

const root = await authority('Servers')
const { cert, key } = await issueServer(root)

t.test('host names are told from IP addresses, however they are written', async (t) => {
  const map = new NameMap<string>()
  for (const [name, value] of [['*.Shop.test.', 'wildcard'], ['shop.test', 'exact'], ['SHOP.TEST', 'late'], ['::1', 'v6'], ['127.0.0.1', 'v4'], ['*.0.0.1', 'no address']] as const) map.add(name, value)
  for (const [name, value] of [
    ['a.shop.test', 'wildcard'], ['Shop.Test.', 'exact'], ['.shop.test', undefined], ['test', undefined], ['', undefined],
    ['[::1]', 'v6'], ['0:0::1', 'v6'], ['::2', undefined], ['::1%lo', undefined], ['[::1', undefined], ['127.0.0.1', 'v4'], ['128.0.0.1', undefined]
  ] as const) t.equal(map.get(name), value, name)
})

t.test('a test handshake that does not end is a failure', async (t) => {
  const [here, there] = duplexPair()
  const server = new tls.TLSSocket(here, { isServer: true, cert, key })
  const client = new tls.TLSSocket(duplexPair()[0])
  t.teardown(() => { server.destroy(); client.destroy(); there.destroy() })
  await t.rejects(settled(server, client, 20), { message: 'it has not ended after 20 milliseconds' })
  const failing = settled(server, client, 60_000)
  server.emit('error', new Error('not of OpenSSL'))
  await t.rejects(failing, { message: 'not of OpenSSL' })
})

t.test('answering plain HTTP on the HTTPS port is set up once for each server, however often it is asked for', async (t) => {
  const server = tls.createServer({ cert, key })
  t.teardown(() => server.close())
  const { length } = server.listeners('tlsClientError')
  for (let times = 0; times < 3; times++) answerPlainHttp(server)
  t.equal(server.listeners('tlsClientError').length, length + 1)
})

t.test('plain HTTP to the HTTPS port is hung up on where Node gives no access to the socket below TLS', async (t) => {
  const server = tls.createServer({ cert, key })
  t.teardown(() => server.close())
  answerPlainHttp(server)
  const error = Object.assign(new Error(), { code: 'ERR_SSL_HTTP_REQUEST' })
  for (const parent of [undefined, null, {}, new net.Socket().destroy()]) {
    t.doesNotThrow(() => server.emit('tlsClientError', error, { _parent: parent }))
  }
})

t.test('a lock on development certificates that is released while another process looks at it is free', async (t) => {
  await t.resolves(evict(join(t.testdir({ file: '' }), '.new')))
  await t.rejects(evict(join(t.testdirName, 'file', '.new')), { code: 'ENOTDIR' }, 'whatever else is wrong is said')
})

t.test('messages become process warnings where an app comes late, and are logged when it comes', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const { emitWarning } = process
  t.teardown(() => {
    mock.timers.reset()
    process.emitWarning = emitWarning
  })
  const warnings: Array<[message: string, code: string]> = []
  process.emitWarning = ((message: string, { code }: { code: string }) => { warnings.push([message, code]) }) as never
  const told = () => warnings.filter(([message]) => message.includes('late app')).map(([message, code]) => `${message} ${code}`)
  const apps = new Set<ServedApp>()
  const log = new BootLog(() => apps)
  log.write('error', 'late app 1', INVALID_CERTIFICATES)
  log.write('info', 'late app 2')
  mock.timers.tick(4_999)
  t.strictSame(told(), [])
  mock.timers.tick(1)
  log.write('warn', 'late app 3')
  t.strictSame(told(), [`late app 1 ${INVALID_CERTIFICATES}`])

  const lines: Array<[level: string, code: string | undefined, message: string]> = []
  const write = (level: string) => ({ code }: { code?: string }, message: string) => { lines.push([level, code, message]) }
  const app = { log: { info: write('info'), warn: write('warn'), error: write('error') }, servers: () => [] } as unknown as ServedApp
  apps.add(app)
  t.strictSame(log.tellKept(app), ['late app 1', 'late app 2', 'late app 3'])
  t.strictSame(log.tellKept(app), [])
  log.write('warn', 'late app 4')
  t.strictSame(lines, [['error', INVALID_CERTIFICATES, 'http-security: late app 1'], ['info', undefined, 'http-security: late app 2'], ['warn', undefined, 'http-security: late app 3'], ['warn', undefined, 'http-security: late app 4']])
  mock.timers.tick(10_000)
  t.equal(told().length, 1, 'what an app was told is no business of the process')

  apps.delete(app)
  for (let i = 0; i < 101; i++) log.write('warn', `late app, long gone ${i}`)
  t.strictSame(told().slice(1), ['late app, long gone 0 FST_HTTP_SECURITY'], 'what is kept is bounded, and nothing is lost')
  log.close()
  t.equal(told().length, 1 + 101)
  mock.timers.tick(10_000)
  t.equal(told().length, 1 + 101)
})

t.test('expiry warnings come as time passes, at each threshold', async (t) => {
  // On a whole second, as certificates end: some looks fall on the very instant.
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: Math.floor(Date.now() / 1000) * 1000 })
  t.teardown(() => mock.timers.reset())
  const pair = await issueServer(root, ['localhost'], { days: [-50, 40] })
  const short = await authority('Short', [-55, 35])
  const { source, clientCertificates: { otherwise } } = resolveTlsOptions({ certificates: { cert: pair.cert, key: pair.key }, clientCertificates: { ca: short.cert, crl: await revocationList(short, [], [-1, 20]) } })
  const reader = new FileReader()
  const { cas, crls } = await loadTrust(otherwise!, 'clientCertificates', reader)
  const { certificates } = endingIn(await readCertificates(await openCertificateSource(source, () => {}).load(), reader))
  const ending = { certificates: [...certificates, ...cas], crls }
  const told: Array<[day: number, message: string]> = []
  let hours = 0
  const expiry = new Expiry((message) => told.push([hours / 24, message.replace(/, on .*/, '')]))
  const stop = expiry.watch(() => ending)
  t.teardown(() => stop())
  for (; hours < 50 * 24; hours++) mock.timers.tick(DAY / 24)
  const of = (name: string) => told.filter(([, message]) => message.includes(`: CN=${name} `)).map(([day, message]) => `${Math.round(day)} ${message.split(/CN=\w+ /)[1]}`)
  t.strictSame(of('localhost'), ['10 ends in 29 days', '26 ends in 13 days', '33 ends in 6 days', '39 ends in 23 hours', '40 has expired'])
  t.strictSame(of('Short'), ['5 ends in 29 days', '21 ends in 13 days', '28 ends in 6 days', '34 ends in 23 hours', '35 has expired'])
  t.strictSame(told.filter(([, message]) => /list/.test(message)).map(([day, message]) => [Math.round(day), message.replace(/since .* GMT/, 'since')]), [[20, 'clientCertificates.crl: the revocation list of CN=Short is out of date since: of its certificates, it only says which are revoked']])
  t.equal(told.length, 11)
  stop()
  expiry.look(ending)
  mock.timers.tick(DAY)
  t.equal(told.length, 11, 'and no more when it was stopped')
})

t.test('of certificates of less than 90 days, expiry warnings come by their lifetime', async (t) => {
  const now = Math.floor(Date.now() / 1000) * 1000
  mock.timers.enable({ apis: ['setInterval', 'Date'], now })
  t.teardown(() => mock.timers.reset())
  const told: string[] = []
  const expiry = new Expiry((message) => told.push(`${left}: ${message.replace(/^.*CN=\w+ |, on .*/g, '')}`))
  let left = 0
  /** Looks at a certificate as its end comes closer; what is said at which percent of its lifetime. */
  const warnings = async (lifetime: number, percents: readonly number[]): Promise<string[]> => {
    told.length = 0
    const { certificate } = await authority('Short', [0, lifetime])
    for (left of percents) {
      mock.timers.setTime(now + lifetime * DAY * (1 - left / 100))
      expiry.look({ certificates: [{ certificate, source: 'ca' }], crls: [] })
    }
    mock.timers.setTime(now)
    return [...told]
  }
  const percents = [100, 34, 33, 30, 29, 15, 14, 13.5, 8, 6.5, 2, 0.5, 0, -1]
  t.strictSame(await warnings(6, percents), ['29: ends in 41 hours', '13.5: ends in 19 hours', '6.5: ends in 9 hours', '0.5: ends in 43 minutes', '-1: has expired'])
  t.strictSame(await warnings(47, percents), ['29: ends in 13 days', '13.5: ends in 6 days', '6.5: ends in 3 days', '0.5: ends in 5 hours', '-1: has expired'])
  t.strictSame(await warnings(1 / 24, percents), ['29: ends in 17 minutes', '13.5: ends in 8 minutes', '6.5: ends in 3 minutes', '0.5: ends in less than two minutes', '-1: has expired'])
  t.strictSame(await warnings(90, [34, 33, 32]), ['33: ends in 29 days'], 'from 90 days on, they are days')
})

// Files

t.test('files in a missing directory are watched', async (t) => {
  const path = join(t.testdir(), 'later', 'file')
  const changed = new EventEmitter()
  t.teardown(watchFiles([path], () => changed.emit('changed')))
  // Watching keeps no process alive
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  await once(changed, 'changed')
  mkdirSync(dirname(path))
  writeFileSync(path, 'x')
  await once(changed, 'changed')
})

t.test('a file that many hosts share is watched without a warning of Node', async (t) => {
  const warnings: string[] = []
  const warned = ({ message }: Error): void => { warnings.push(message) }
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const path = join(t.testdir({ file: '' }), 'file')
  for (let host = 0; host < 12; host++) t.teardown(watchFiles([path], () => {}))
  await setImmediate()
  t.strictSame(warnings, [])
})

t.test('a change before watching begins is not loaded when watching begins', async (t) => {
  let loads = 0
  const reloading = new ReloadQueue({ loading: 'it', load: async () => ++loads, check: (loaded) => loaded, take () {}, failed () {}, recovered () {}, waiting () {} })
  reloading.changed()
  await setImmediate()
  t.equal(loads, 0)
  reloading.start()
  reloading.changed()
  await setImmediate()
  t.equal(loads, 1)
  reloading.stop()
})
