/**
 * Certificates from a source of the application, and from a value that it changes: hosts that come and go.
 */
import { once } from 'node:events'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import tls, { type ConnectionOptions, type SecureVersion } from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { type CertificateOptions, enableTls, type EnableTlsOptions } from '../lib/tls/index.ts'
import { askHttp2 } from './fixtures/ask.ts'
import { reused, VERSIONS } from './fixtures/context.ts'
import { appOf, enabled, fingerprintOf, handshake, INVALID_CERTIFICATES } from './fixtures/enabled.ts'
import { type Authority, authority, type Identity, issue, issueServer, lastingDays as days } from './fixtures/pki.ts'
import { pkcs12 } from './fixtures/pkcs12.ts'
import { AT_ONCE, until } from './fixtures/time.ts'
import { serveTrust } from './fixtures/trust.ts'
import { connectWire, type Wire } from './fixtures/wire.ts'

const ERROR = 50

const [root, clients] = await Promise.all([authority('Servers', days), authority('Clients', days)])
const intermediate = await issue(root, { subject: 'CN=Intermediate', ca: true, purpose: 'none', days })
const jane = await issue(clients, { subject: 'CN=Jane', days })
const issued = async (host: string, more: object = {}): Promise<CertificateOptions & Identity> => pairOf(await issueServer(intermediate, [host], { days, ...more }))
/** Its chain ends with the root, so that there is nothing to warn of. */
function pairOf ({ cert, key }: Identity): Identity {
  return { cert: cert + intermediate.cert + root.cert, key }
}
const [a, b, c] = await Promise.all([issued('a.test'), issued('b.test'), issued('c.test')])

/** What a test's source answers, and how often it was asked. */
class Source {
  loads = 0
  stopped = 0
  answer: () => unknown
  changed: () => void = () => {}

  constructor (answer: unknown) {
    this.answer = () => answer
  }

  async load (): Promise<never> {
    this.loads++
    return await this.answer() as never
  }

  watch (changed: () => void): () => void {
    this.changed = changed
    return () => { this.stopped++ }
  }

  /** From now on, it answers something else, and says so. */
  set (answer: unknown): void {
    this.answer = () => answer
    this.changed()
  }
}

const shownAt = async (port: number, servername: string): Promise<string> => (await handshake(port, { ca: root.cert, servername })).fingerprint

t.test('hosts of a source come, change and go, each from the next handshake, and the others go on', async (t) => {
  const source = new Source([a, b])
  const { tls, port, log, complaints } = await enabled(t, { certificates: source })
  t.equal(source.loads, 1, 'loaded once')
  const shows = async (host: string, pair: Identity): Promise<boolean> => await shownAt(port, host) === fingerprintOf(pair)
  t.ok(await shows('b.test', b) && await shows('c.test', a), 'the first is for other hosts')
  const kept = await connectWire(t, { port, ca: root.cert, servername: 'a.test', checkServerIdentity: () => undefined })
  t.match(await kept.get('/'), { status: 200 })

  source.set([a, b, c])
  t.ok(await until(() => tls.certificates().length === 3))
  t.ok(await shows('c.test', c), 'served from its first handshake')
  const renewed = await issued('b.test')
  source.set([c, renewed, a])
  t.ok(await until(() => tls.certificates()[0]!.names[0] === 'c.test'))
  t.ok(await shows('b.test', renewed) && await shows('a.test', a) && await shows('other.test', c), 'in any order, of which the first is for others')
  source.set([a, renewed])
  t.ok(await until(() => tls.certificates().length === 2))
  t.ok(await shows('c.test', a), 'gone')
  source.set(c)
  t.ok(await until(() => tls.certificates().length === 1), 'or one alone')
  t.match(tls.certificates(), [{ names: ['c.test', '127.0.0.1'], source: "certificates['c.test']" }])
  t.strictSame(complaints(), [])
  t.match(log.filter(({ msg }) => /certificates were read anew/.test(msg)).map(({ msg }) => msg.replace('http-security: certificates were read anew and are in force', '')), [
    '; hosts that were added: c.test', '', '; hosts that are gone: c.test', '; hosts that were added: c.test; hosts that are gone: a.test and b.test'
  ])
})

t.test('with a source, only what has changed is made anew, wherever in the answer it is', async (t) => {
  const pairs = await Promise.all(Array.from({ length: 40 }, async (_, index) => await issued(`h${index}.test`)))
  const source = new Source(pairs)
  const { tls: enabledTls, port, complaints } = await enabled(t, { certificates: source })
  const made = t.capture(tls, 'createSecureContext', tls.createSecureContext)
  syncBuiltinESMExports()
  t.teardown(() => syncBuiltinESMExports())
  source.answer = () => [c, ...pairs].map(({ cert, key }) => ({ cert: Buffer.from(cert as string), key: Buffer.from(key as string) }))
  await enabledTls.reload()
  t.ok(made().length < 10, 'one is added before all others, and the others come as something else')
  await enabledTls.reload()
  t.equal(made().length, 0, 'nothing has changed')
  t.equal(await shownAt(port, 'h39.test'), fingerprintOf(pairs[39]!))
  t.strictSame(complaints(), [])
})

t.test('an issuer that clients have to know is said once, however many hosts of it come and go', async (t) => {
  const other = await authority('Private', days)
  const of = async (ca: Authority, host: string): Promise<Identity> => {
    const { cert, key } = await issueServer(ca, [host], { days })
    return { cert, key }
  }
  const source = new Source([await of(root, 'x.test')])
  const { tls, complaints } = await enabled(t, { certificates: source })
  const said = (issuer: string, host: string): string => `http-security: certificates['${host}']: the chain ends with CN=${host}, whose issuer CN=${issuer} is not in the file and no public root: clients have to know it`
  t.strictSame(complaints(), [said('Servers', 'x.test')])
  for (const hosts of [['x.test', 'y.test'], ['y.test'], ['z.test', 'y.test']]) {
    source.answer = async () => await Promise.all(hosts.map(async (host) => await of(root, host)))
    await tls.reload()
  }
  t.equal(complaints().length, 1, 'also where all are renewed')
  const [first, second] = [await of(other, 'p.test'), await of(other, 'q.test')]
  source.answer = () => [a, first, second]
  await tls.reload()
  t.strictSame(complaints().slice(1), [`${said('Private', 'p.test')} (the same holds for certificates['q.test'])`])
})

t.test('of a short-lived certificate that is renewed in time, nothing is said', async (t) => {
  const lasting = async (host: string, from: number, to: number): Promise<Identity> => await issued(host, { days: [from, to] })
  // Six days, of which a third is left
  const source = new Source([await lasting('a.test', -4, 2)])
  const { tls, complaints } = await enabled(t, { certificates: source })
  t.strictSame(complaints(), [])
  source.answer = async () => [await lasting('a.test', -4.5, 1.51)]
  await tls.reload()
  t.match(complaints(), [/^http-security: certificates\['a\.test'\]: CN=a\.test ends in 36 hours, on /])
})

const expired = await issued('b.test', { days: [-9, -1] })
const early = await issued('b.test', { days: [1, 9] })
const address = pairOf(await issue(root, { purpose: 'server', days, san: [{ type: 'ip', value: '127.0.0.1' }] }))
const BAD: Record<string, readonly [answer: () => unknown, message: RegExp]> = {
  'it rejects': [() => Promise.reject(new Error('no connection')), /^certificates: the source did not load: no connection$/],
  'it throws what is no error': [() => { throw null }, /^certificates: the source did not load: null$/], // eslint-disable-line no-throw-literal
  nothing: [() => undefined, /^answer of the source: certificates: null is not allowed; allowed: an object \{ cert, key, passphrase\? \}/],
  'an empty list': [() => [], /^answer of the source: certificates: \[\] is not allowed; allowed: .*at least 1 item/],
  'another source': [() => new Source(a), /^answer of the source: certificates: /],
  text: [() => a.key, /^answer of the source: certificates: a string is not allowed; allowed: an object \{ cert, key, passphrase\? \} or \{ pfx, passphrase\? \}, or a list of these$/],
  'bytes in a list': [() => [a, Buffer.from(b.key as string)], /^answer of the source: certificates: a Buffer is not allowed; allowed: an object/],
  'half a pair': [() => [a, { cert: b.cert }], /^answer of the source: certificates: 1: key is missing$/],
  'a key that is no text': [() => [a, { cert: b.cert, key: { pem: b.key } }], /^answer of the source: an object for a certificate, key or list is not allowed/],
  'an empty certificate': [() => [a, { cert: '', key: b.key }], /^answer of the source: an empty string for a certificate/],
  'a certificate that is cut off': [() => [a, { cert: (b.cert as string).slice(0, 300), key: b.key }], /^certificates\[1\]\.cert: is cut off/],
  'a key without its certificate': [() => [a, { cert: Buffer.from('x'), key: b.key }], /^certificates\[1\]\.cert: holds no certificate/],
  'the key of another one': [() => [a, { cert: b.cert, key: c.key }], /^certificates\[1\]\.key: is not the key of certificates\[1\]\.cert \(CN=b\.test\)$/],
  'a file that is not there': [() => [a, { cert: '/nowhere/b.pem', key: b.key }], /^\/nowhere\/b\.pem: cannot be read: ENOENT$/],
  'one that has expired': [() => [a, expired], /^certificates\[1\]\.cert: CN=b\.test has expired, on /],
  'one that is not valid yet': [() => [a, early], /^certificates\[1\]\.cert: CN=b\.test is not valid before /],
  'one that could never be served': [() => [a, b, b], /^certificates\['b\.test'\]: would never be served: b\.test is served with certificates\['b\.test'\], which comes first/],
  'one for no host': [() => [a, address], /^certificates\[1\]\.cert|^certificates\['127\.0\.0\.1'\]: would never be served: it names no host but addresses/]
}

t.test('a bad answer of a source stops the boot', async (t) => {
  for (const [what, [answer, message]] of Object.entries(BAD)) {
    const source = new Source(undefined)
    source.answer = answer
    await t.rejects(enableTls({ certificates: source }), { code: INVALID_CERTIFICATES, message }, what)
    t.equal(source.stopped, 1, `${what}: it is not watched any more`)
  }
  const key = Buffer.from(a.key).toString('base64')
  const error: Error = await enableTls({ certificates: new Source({ cert: a.cert, key }) as never }).then(() => { throw new Error('taken') }, (error) => error)
  t.notMatch(error.message, key.slice(0, 30), 'and no message has a key')
})

t.test('a bad answer of a source later leaves what is in force, and is named in the log', async (t) => {
  const source = new Source([a, b])
  const { tls, port, log } = await enabled(t, { certificates: source })
  const errors = () => log.filter(({ level }) => level === ERROR)
  for (const [what, [answer, message]] of Object.entries(BAD)) {
    log.length = 0
    source.answer = answer
    source.changed()
    t.ok(await until(() => errors().length > 0), what)
    t.equal(errors()[0]!.code, INVALID_CERTIFICATES, what)
    t.match(errors()[0]!.msg.replace('http-security: certificates were not changed, and the ones before stay in force: ', ''), message, what)
    await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message }, `${what}: reload() says so, too`)
    t.equal(await shownAt(port, 'b.test'), fingerprintOf(b), what)
    source.set([a, b])
    t.ok(await until(() => log.some(({ msg }) => msg === 'http-security: all certificates are read again')), `${what}: over`)
  }
  const { cert, key } = await issueServer(intermediate, ['b.test'], { days })
  source.answer = () => [{ cert, key }, a]
  await t.rejects(tls.reload(), { message: /^certificates\[0\]\.cert: lacks an intermediate certificate that the chain in force has: CN=Intermediate$/ }, 'also in another place')
})

t.test('a source that failed is asked again', async (t) => {
  const source = new Source(a)
  const { tls, log } = await enabled(t, { certificates: { load: () => source.load() } })
  source.answer = () => { throw new Error('no connection') }
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  await t.rejects(tls.reload(), { message: /no connection/ })
  source.answer = () => b
  mock.timers.tick(5_000)
  mock.timers.reset()
  t.ok(await until(() => tls.certificates()[0]!.names[0] === 'b.test'))
  t.match(log.at(-1), { msg: /are in force; hosts that were added: b\.test/ })
})

t.test('a source that does not answer stops the boot after ten seconds, and later holds up no other answer', async (t) => {
  const endless = () => new Promise<never>(() => {})
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const booting = enableTls({ certificates: { load: endless } })
  mock.timers.tick(10_000)
  await t.rejects(booting, { code: INVALID_CERTIFICATES, message: /^certificates: load\(\) of the source has not ended after 10 seconds$/ })
  mock.timers.reset()

  const source = new Source(a)
  const { tls, port, log } = await enabled(t, { certificates: source })
  source.answer = endless
  mock.timers.enable({ apis: ['setTimeout'] })
  source.changed()
  mock.timers.tick(10_000)
  mock.timers.reset()
  t.match(log.at(-1), { level: 40, msg: 'http-security: certificates: load() of the source has not ended after 10 seconds' })
  t.equal(await shownAt(port, 'a.test'), fingerprintOf(a), 'what is in force goes on')
  source.set(b)
  t.ok(await until(() => tls.certificates()[0]!.names[0] === 'b.test'))
})

t.test('a source is watched from before its first load until the last app closes, and again with the next one', async (t) => {
  const source = new Source(a)
  source.answer = () => {
    source.answer = () => b
    source.changed()
    return a
  }
  const { tls, app } = await enabled(t, { certificates: source })
  t.ok(await until(() => tls.certificates()[0]!.names[0] === 'b.test'), 'a change during the first load')
  t.equal(source.stopped, 0)
  await app.close()
  t.equal(source.stopped, 1)
  source.set(c)
  t.equal(tls.certificates()[0]!.names[0], 'b.test')
  const next = await appOf(t, tls, { anonymous: true })
  t.equal(await shownAt(next.port, 'c.test'), fingerprintOf(c), 'what has changed meanwhile')
  source.set(a)
  t.ok(await until(() => tls.certificates()[0]!.names[0] === 'a.test'))
})

t.test('a source that cannot be watched is a warning', async (t) => {
  const { complaints } = await enabled(t, { certificates: { load: async () => a, watch: () => { throw new Error('no listener') } } })
  t.strictSame(complaints(), ['http-security: certificates: the source cannot be watched, so that nobody hears of changes: no listener'])
  await t.rejects(enableTls({ certificates: { load: 'a.pem' } as never }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /unknown option 'load'/ })
  await t.rejects(enableTls({ certificates: new Source(a), development: true }), { message: /give exactly one source of certificates/ })
})

t.test('files that a source names are watched as long as it names them', async (t) => {
  const direct = await issueServer(root, ['c.test'], { days })
  const dir = t.testdir({ 'b.pem': b.cert as string, 'b.key': b.key as string, 'c.p12': await pkcs12(direct, 'secret') })
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  process.chdir(dir)
  const source = new Source([a])
  const { tls, port } = await enabled(t, { certificates: source })
  process.chdir(cwd)
  source.set([a, { cert: 'b.pem', key: './b.key' }])
  t.ok(await until(() => tls.certificates().length === 2), 'relative to where the process was')
  t.equal(tls.certificates()[1]!.source, 'b.pem')
  const renewed = await issued('b.test')
  for (const [name, content] of [['b.pem', renewed.cert], ['b.key', renewed.key]] as const) {
    writeFileSync(join(dir, `.${name}`), content)
    renameSync(join(dir, `.${name}`), join(dir, name))
  }
  t.ok(await until(async () => await shownAt(port, 'b.test') === fingerprintOf(renewed)), 'without a word of the source')
  // Issued by the root, for a PFX of tests has the leaf alone.
  source.set([a, { pfx: 'c.p12', passphrase: 'secret' }])
  t.ok(await until(() => tls.certificates()[1]!.source === 'c.p12'))
  t.equal(await shownAt(port, 'c.test'), fingerprintOf(direct))
  rmSync(join(dir, 'b.pem'))
  await t.resolves(tls.reload(), 'and is not needed any more')
})

t.test('reload() sees what a value has become', async (t) => {
  const cert = Buffer.from(a.cert)
  const key = Buffer.from(a.key)
  const list: CertificateOptions[] = [{ cert, key }]
  let current: CertificateOptions = c
  for (const [certificates, change, host] of [
    [list, () => { list.unshift(b) }, 'b.test'],
    [{ get cert () { return current.cert }, get key () { return current.key } }, () => { current = b }, 'b.test']
  ] as ReadonlyArray<[EnableTlsOptions['certificates'], () => void, string]>) {
    const { tls, port } = await enabled(t, { certificates })
    change()
    await tls.reload()
    t.equal(await shownAt(port, host), fingerprintOf(b))
    t.strictSame(tls.certificates().map(({ source }) => source), ['certificates[0].cert', 'certificates[1].cert'].slice(0, tls.certificates().length), 'named by its place')
  }
  list.shift()
  const { tls, port } = await enabled(t, { certificates: list })
  key.fill(0)
  await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message: /^certificates\[0\]\.key: holds no private key/ })
  list.length = 0
  await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message: /^options of enableTls: certificates: \[\] is not allowed/ })
  t.equal(await shownAt(port, 'a.test'), fingerprintOf(a), 'what is wrong leaves what is in force')
})

const as = (servername: string | undefined, version: SecureVersion = 'TLSv1.3', identity: Identity = jane): ConnectionOptions => ({
  ca: root.cert, cert: identity.cert, key: identity.key, servername, minVersion: version, maxVersion: version, checkServerIdentity: () => undefined
})

async function open (t: Test, port: number, host: string, path = '/live'): Promise<WebSocket> {
  const socket = new WebSocket(`wss://127.0.0.1:${port}${path}`, { ...reused(as(host)), headers: { host } } as object)
  t.teardown(() => socket.terminate())
  await once(socket, 'open')
  return socket
}

t.test('a host that is taken away ends what was judged for it, and nothing else', async (t) => {
  const source = new Source([a, b])
  const byHost = { 'a.test': { ca: clients.cert }, 'b.test': { ca: clients.cert } }
  const served = await serveTrust(t, { server: a, tls: { certificates: source as never, clientCertificates: byHost } })
  const wires = async (host: string) => await Promise.all(VERSIONS.map(async (version) => await connectWire(t, { port: served.https, ...as(host, version) })))
  const [atA, atB] = [await wires('a.test'), await wires('b.test')]
  for (const [host, all] of [['a.test', atA], ['b.test', atB]] as const) for (const wire of all) t.match(await wire.get('/partners', { Host: host }), { status: 200, body: 'Jane' })
  const unnamed = await connectWire(t, { port: served.https, ...as('') })
  const resumed = async (host: string, wires: readonly Wire[]) => await Promise.all(VERSIONS.map(async (version, index) => {
    const wire = await connectWire(t, { port: served.https, ...as(host, version), session: await wires[index]!.ticket })
    t.ok(wire.socket.isSessionReused())
    return wire
  }))
  const [resumedAtA, resumedAtB] = [await resumed('a.test', atA), await resumed('b.test', atB)]
  t.match(await unnamed.get('/tls', { Host: '127.0.0.1' }), { status: 200 })
  const [socketAtA, socketAtB] = [await open(t, served.https, 'a.test'), await open(t, served.https, 'b.test')]
  const busy = await connectWire(t, { port: served.https, ...as('b.test') })
  served.reached.length = 0
  const slow = busy.get('/slow', { Host: 'b.test' })
  t.ok(await until(() => served.reached.length === 1))
  const sessions = await Promise.all(atB.map(async (wire) => await wire.ticket))

  const closed = once(socketAtB, 'close')
  const began = performance.now()
  source.set([a])
  await Promise.all([closed, ...[...atB, ...resumedAtB].map(async (wire) => await wire.closed)])
  t.ok(performance.now() - began < AT_ONCE, 'idle connections and WebSockets, at once')
  await resumedAtA[VERSIONS.indexOf('TLSv1.2')]!.closed
  t.pass('a session of TLS 1.2 does not tell whose it is')
  served.release()
  t.match(await slow, { status: 200, body: 'Jane' }, 'a request that was admitted is finished')
  await busy.closed
  for (const [index, version] of VERSIONS.entries()) {
    const again = await connectWire(t, { port: served.https, ...as('b.test', version), session: sessions[index] })
    t.notOk(again.socket.isSessionReused(), `${version}: no session from before is resumed`)
    t.equal(again.socket.getPeerX509Certificate()!.fingerprint256, fingerprintOf(a), 'the first certificate is for unknown hosts')
  }
  for (const wire of [...atA, resumedAtA[VERSIONS.indexOf('TLSv1.3')]!]) t.match(await wire.get('/partners', { Host: 'a.test' }), { status: 200, body: 'Jane' })
  t.match(await unnamed.get('/tls', { Host: '127.0.0.1' }), { status: 200 })
  t.equal(socketAtA.readyState, WebSocket.OPEN)
  source.set([b, a])
  t.ok(await until(() => served.tls.certificates().length === 2))
  t.match(await (await connectWire(t, { port: served.https, ...as('b.test') })).get('/partners', { Host: 'b.test' }), { status: 200, body: 'Jane' }, 'and back')
  for (const wire of atA) t.match(await wire.get('/partners', { Host: 'a.test' }), { status: 200 })
})

t.test('with a secret for sessions, machines from which a host was taken away resume sessions of those that never had it', async (t) => {
  const sessions = { secret: Buffer.alloc(32, 7) }
  const source = new Source([a, b])
  const one = await enabled(t, { certificates: source, sessions })
  const options = { ca: root.cert, servername: 'a.test' }
  const before = await handshake(one.port, { ...options, keepsSession: true })
  source.set([a])
  t.ok(await until(() => one.tls.certificates().length === 1))
  t.notOk((await handshake(one.port, { ...options, session: before.session })).isResumed)
  const after = await handshake(one.port, { ...options, keepsSession: true })
  const other = await enabled(t, { certificates: new Source([a]), sessions })
  t.ok((await handshake(other.port, { ...options, session: after.session })).isResumed)
})

t.test('over HTTP/2, connections of a host that is taken away end after their requests, ten seconds later at most', async (t) => {
  const source = new Source([a, b])
  const served = await serveTrust(t, { server: a, http2: true, tls: { certificates: source as never, clientCertificates: { ca: clients.cert } } })
  const connect = (host: string): http2.ClientHttp2Session => {
    const session = http2.connect(`https://127.0.0.1:${served.https}`, reused(as(host)))
    session.on('error', () => {})
    t.teardown(() => session.destroy())
    return session
  }
  const ask = async (session: http2.ClientHttp2Session, path: string) => await askHttp2(session, { ':path': path, ':authority': 'b.test' })
  const [atA, atB, slow, endless] = [connect('a.test'), connect('b.test'), connect('b.test'), connect('b.test')]
  for (const session of [atA, atB]) t.match(await ask(session, '/partners'), { status: 200, body: 'Jane' })
  const answer = ask(slow, '/slow')
  t.ok(await until(() => served.reached.length === 3))
  const [first, done, ended] = [atB, slow, endless].map(async (session) => await once(session, 'close'))
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  await served.tls.reload()
  source.answer = () => [a]
  await served.tls.reload()
  await first
  served.release()
  t.match(await answer, { status: 200, body: 'Jane' })
  await done
  const cut = ask(endless, '/slow').catch((error: Error) => error)
  mock.timers.tick(10_000)
  mock.timers.reset()
  await Promise.all([ended, cut])
  t.match(await ask(atA, '/partners'), { status: 200 })
})

t.test('a connection that was opened before its host is taken away ends with its handshake', async (t) => {
  const source = new Source([a, b])
  const { tls: enabledTls, app, port } = await enabled(t, { certificates: source })
  const raw = net.connect(port, '127.0.0.1')
  t.teardown(() => raw.destroy())
  await once(app.server, 'connection')
  source.answer = () => [a]
  await enabledTls.reload()
  const client = tls.connect({ socket: raw, ...as('b.test') }).on('error', () => {})
  await once(client, 'close')
  t.pass()
})
