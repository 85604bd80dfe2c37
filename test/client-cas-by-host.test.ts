import t, { type Test } from 'tap'
import { constants } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import { join } from 'node:path'
import tls, { type ConnectionOptions, type SecureVersion } from 'node:tls'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import httpSecurity from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { kTlsInterface, type TlsInterface } from '../lib/tls-interface.ts'
import { type EnableTlsOptions, enableTls } from '../lib/tls/index.ts'
import { TrustStore } from '../lib/trust/store.ts'
import { type Answer, ask, askHttp2, outcomeOf } from './fixtures/ask.ts'
import { reused, VERSIONS, keepSessions } from './fixtures/context.ts'
import { withoutIPv6, portOf } from './fixtures/network.ts'
import { plain, typescript, run, withoutOpenssl } from './fixtures/programs.ts'
import { type Identity, authority, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { until } from './fixtures/time.ts'
import { askWithTwoNames } from './fixtures/tls13.ts'
import { type LogLine, keepLog } from './fixtures/serve.ts'
import { type Trusting, serveTrust } from './fixtures/trust.ts'
import { connectWire } from './fixtures/wire.ts'

const MISDIRECTED = '421 MISDIRECTED'
const UNTRUSTED = '403 CERTIFICATE_UNTRUSTED'
const REQUIRED = '403 CERTIFICATE_REQUIRED'

const [caA, caB, serverCa] = await Promise.all([authority('CA of A'), authority('CA of B'), authority('Server CA')])
const [serverA, serverB, anna, ben] = await Promise.all([
  issueServer(serverCa, ['a.test']), issueServer(serverCa, ['b.test']), issue(caA, { subject: 'CN=Anna' }), issue(caB, { subject: 'CN=Ben' })
])
const certificates = [serverA, serverB].map(({ cert, key }) => ({ cert, key }))
const byHost = { certificates, clientCertificates: { 'a.test': { ca: caA.cert }, 'b.test': { ca: caB.cert } } }
const serveHosts = (t: Test, tls: Partial<EnableTlsOptions> = byHost, more: object = {}): Promise<Trusting> => serveTrust(t, { server: serverA, tls, ...more })

/** By name, and without a check of the server's. */
const as = (identity: Identity | undefined, servername: string, version: SecureVersion = 'TLSv1.3'): ConnectionOptions => ({
  ca: serverCa.cert, ...identity && { cert: identity.cert, key: identity.key }, servername, minVersion: version, maxVersion: version, checkServerIdentity: () => undefined
})
const answerOf = (answer: Answer | undefined): string => answer !== undefined && answer.status < 400 ? `${answer.status} ${answer.body}`.trim() : outcomeOf(answer)

/** One request on a connection of its own, by what a client says in its handshake and in its request. */
interface Asking { identity?: Identity, servername: string, host: string, version?: SecureVersion, path?: string }

async function askHttp1 (t: Test, { https }: Trusting, { identity, servername, host, version, path = '/partners' }: Asking): Promise<string> {
  const wire = await connectWire(t, { port: https, ...as(identity, servername, version) })
  const answer = await wire.get(path, { Host: host })
  if (answer?.status === 421) await wire.closed
  return answerOf(answer)
}

async function askOverHttp2 (t: Test, { https }: Trusting, { identity, servername, host, version, path = '/partners' }: Asking): Promise<string> {
  // Of an address, Node makes no SNI
  const session = http2.connect(`https://127.0.0.1:${https}`, { ...reused(as(identity, servername, version)), ...servername === '' && { servername: undefined } })
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  const closed = new Promise((resolve) => { session.once('close', resolve) })
  const answer = await askHttp2(session, { ':path': path, ':authority': host })
  if (answer.status === 421) await closed
  return answerOf(answer)
}

/** Whose client CAs a handshake is for. Who names no host is asked all the same, and who names an unknown one is not. */
const SERVERNAMES = { 'a.test': 'A', 'b.test': 'B', 'B.TEST': 'B', 'b.test.': 'B', '': 'none', 'x.test': 'none' } as const
const hosts = ({ https }: Trusting) => ({
  'a.test': 'A', 'b.test': 'B', [`B.test:${https}`]: 'B', 'b.test.': 'B', 'b.test:': 'B', [`127.0.0.1:${https}`]: 'none', 'unknown.test': 'none', 'a.b.test': 'none', 'b.test:x': 'none'
})

for (const version of VERSIONS) {
  for (const [protocol, askOne] of [['HTTP/1.1', askHttp1], ['HTTP/2', askOverHttp2]] as const) {
    t.test(`${version}, ${protocol}: a client of one host is never served as one of another, whatever hosts SNI and Host name`, async (t) => {
      const served = await serveHosts(t, byHost, { http2: protocol === 'HTTP/2' })
      let welcome = 0
      for (const [name, identity, its] of [['Anna', anna, 'A'], ['Ben', ben, 'B']] as const) {
        for (const [servername, judgedBy] of Object.entries(SERVERNAMES)) {
          for (const [host, due] of Object.entries(hosts(served))) {
            const refused = servername === 'x.test' ? REQUIRED : UNTRUSTED
            const expected = judgedBy !== due ? MISDIRECTED : judgedBy === its ? `200 ${name}` : refused
            if (expected.startsWith('200')) welcome++
            t.equal(await askOne(t, served, { identity, servername, host, version }), expected, `${name}, SNI ${servername}, Host ${host}`)
          }
        }
      }
      t.equal(served.reached.length, welcome)
      t.equal(served.reached.filter((line) => line.endsWith('Anna')).length, 1, 'Anna is let in by her own host and name alone')
      t.equal(await askOne(t, served, { servername: 'a.test', host: 'a.test', version, path: '/tls' }), '200 {"isPresent":false,"isValid":false,"value":"","certificate":null}')
      for (const path of ['/tls', '/none']) t.match(await askOne(t, served, { servername: 'a.test', host: 'b.test', version, path }), /^200 /, `${path}: whoever asks for no certificate may be reached on any connection`)
      t.equal(await askOne(t, served, { identity: anna, servername: 'a.test', host: 'b.test', version, path: '/tls' }), '200 {"isPresent":true,"isValid":false,"value":"","certificate":null}')
      t.equal(await askOne(t, served, { servername: 'a.test', host: 'b.test', version }), MISDIRECTED, 'on another connection, it would be asked for another certificate')
      for (const identity of [undefined, anna]) t.equal(await askOne(t, served, { identity, servername: 'x.test', host: 'y.test', version, path: '/tls' }), '200 {"isPresent":false,"isValid":false,"value":"","certificate":null}', 'two hosts without client CAs are alike, and ask nobody')
    })
  }
}

/** The names of CAs in the CertificateRequest of a handshake; `undefined` where none was sent. OpenSSL's client shows both. */
async function namesAskedFor (port: number, servername: string | undefined, version: SecureVersion, alpn: string): Promise<readonly string[] | undefined> {
  const name = servername === undefined ? ['-noservername'] : ['-servername', servername]
  const { stdout } = await run('sh', ['-c', 'exec openssl s_client "$@" < /dev/null', 's_client', '-msg', '-connect', `127.0.0.1:${port}`, ...name, '-alpn', alpn, version === 'TLSv1.2' ? '-tls1_2' : '-tls1_3'], { maxBuffer: 2 ** 24 })
  if (!/^>>> .*, Finished/m.test(stdout) || !stdout.includes(`ALPN protocol: ${alpn}\n`)) throw new Error('no handshake')
  if (!/^<<< .*, CertificateRequest/m.test(stdout)) return undefined
  return [.../^Acceptable client certificate CA names\n((?:CN = .*\n)*)/m.exec(stdout)?.[1]?.matchAll(/CN = (.*)/g) ?? []].map(([, name]) => name!)
}

for (const version of VERSIONS) {
  for (const [protocol, alpn] of [['HTTP/1.1', 'http/1.1'], ['HTTP/2', 'h2']] as const) {
    t.test(`${version}, ${protocol}: a certificate is asked for at hosts with client CAs alone, by the names of their own CAs`, { skip: withoutOpenssl }, async (t) => {
      const wild = await issueServer(serverCa, ['*.shop.test', 'shop.test'])
      const serve = async (clientCertificates: EnableTlsOptions['clientCertificates'], files: Record<string, string> = {}) =>
        await serveHosts(t, { certificates: [...certificates, wild].map(({ cert, key }) => ({ cert, key })), clientCertificates }, { http2: protocol === 'HTTP/2', files, options: { unsatisfiable: 'warn' } })
      const asked = async ({ https }: Trusting, ...servernames: Array<string | undefined>): Promise<Array<readonly string[] | undefined>> => {
        const names = []
        for (const servername of servernames) names.push(await namesAskedFor(https, servername, version, alpn))
        return names
      }
      const [ofA, ofB] = [['CA of A'], ['CA of B']]
      const byHost = await serve({ 'a.test': { ca: join(t.testdirName, 'a.pem') }, '*.shop.test': { ca: caB.cert } }, { 'a.pem': caA.cert })
      t.strictSame(await asked(byHost, 'a.test', 'A.TEST', 'x.shop.test'), [ofA, ofA, ofB])
      t.strictSame(await asked(byHost, 'b.test', 'shop.test', 'a.x.shop.test', 'unknown.test'), Array(4).fill(undefined))
      t.strictSame(await asked(byHost, undefined), [[]], 'who names no host is asked, since nothing is known of it')
      byHost.write({ 'a.pem': `${caB.cert}${caA.cert}` })
      await byHost.tls.reload()
      t.strictSame(await asked(byHost, 'a.test', 'b.test'), [[...ofB, ...ofA], undefined], 'after a change')

      t.strictSame(await asked(await serve({ ca: caA.cert }), 'a.test', 'unknown.test', undefined), [ofA, ofA, ofA], 'with client CAs for all hosts, everyone is asked')
      t.strictSame(await asked(await serve(undefined), 'a.test', undefined), [undefined, undefined], 'and without any, nobody')
    })
  }

  for (const protocol of ['HTTP/1.1', 'HTTP/2'] as const) {
    t.test(`${version}, ${protocol}: a client that comes to a host with client CAs by a session of one that does not ask is asked, and let in`, async (t) => {
      const served = await serveHosts(t, byHost, { http2: protocol === 'HTTP/2' })
      const isBound = await bindsSessionsToNames(t)
      /** One request, with the session that the client had, and that it has then. */
      const askWith = async (identity: Identity | undefined, name: string, session?: Buffer, path = '/partners') => {
        const options = { port: served.https, ...as(identity, name, version), ...session !== undefined && { session } }
        const wire = await connectWire(t, { ...options, ...protocol === 'HTTP/2' && { ALPNProtocols: ['h2'] } })
        let ticket = session
        wire.ticket.then((given) => { ticket = given }, () => {})
        const isResumed = wire.socket.isSessionReused()
        const answer = protocol === 'HTTP/2'
          ? await askHttp2(http2.connect(`https://${name}`, { createConnection: () => wire.socket }).on('error', () => {}), { ':path': path, ':authority': name })
          : await wire.get(path, { Host: name })
        wire.socket.destroy()
        return { answer: answerOf(answer), session: ticket!, isResumed }
      }
      const isQuiet = async (identity: Identity | undefined) => {
        const { answer, session } = await askWith(identity, 'x.test', undefined, '/tls')
        t.match(answer, /^200 \{"isPresent":false/)
        return session
      }

      // Anna has a certificate for a.test, and kept a session of x.test
      const first = await askWith(anna, 'a.test', await isQuiet(anna))
      t.strictSame([first.answer, first.isResumed], isBound ? ['200 Anna', false] : [MISDIRECTED, true])
      const second = await askWith(anna, 'a.test', first.session)
      t.strictSame([second.answer, second.isResumed], ['200 Anna', isBound], 'at once, on a connection that resumes nothing')
      const third = await askWith(anna, 'a.test', second.session)
      t.strictSame([third.answer, third.isResumed], ['200 Anna', true])
      const quiet = await askWith(anna, 'x.test', third.session, '/tls')
      t.strictSame([quiet.answer, quiet.isResumed], [`200 {"isPresent":${!isBound},"isValid":false,"value":"","certificate":null}`, !isBound], 'there, nobody trusts it')

      // Without a certificate, it stays at one answer
      const none = await askWith(undefined, 'a.test')
      const again = await askWith(undefined, 'a.test', none.session)
      t.strictSame([none.answer, again.answer, again.isResumed], [REQUIRED, REQUIRED, true])
      const elsewhere = await askWith(undefined, 'a.test', await isQuiet(undefined))
      t.strictSame([elsewhere.answer, elsewhere.isResumed], [REQUIRED, !isBound])
      const kept = await askWith(undefined, 'a.test', elsewhere.session)
      t.strictSame([kept.answer, kept.isResumed], [REQUIRED, true], 'and the others keep their sessions')
      // Where nobody is asked, another connection changes nothing
      const unasked = await askWith(anna, 'x.test', await isQuiet(anna))
      t.strictSame([unasked.answer, unasked.isResumed], [REQUIRED, true])
    })
  }
}

t.test('a session without a certificate that is resumed at a host with client CAs leads to full handshakes where one is required alone', async (t) => {
  const served = await serveHosts(t)
  const link = served.tls as unknown as Record<symbol, TlsInterface>
  const renewed = t.capture(link[kTlsInterface]!, 'renewSessions')
  const { session } = await wireWith('x.test')
  async function wireWith (name: string, session?: Buffer) {
    const wire = await connectWire(t, { port: served.https, ...as(undefined, name), ...session !== undefined && { session } })
    if (session === undefined) t.match(answerOf(await wire.get('/tls', { Host: name })), /^200/)
    return { wire, session: session ?? await wire.ticket }
  }
  const { wire } = await wireWith('a.test', session)
  // What a handler reads of a certificate asks nobody for one
  for (const path of ['/tls', '/none']) t.match(answerOf(await wire.get(path, { Host: 'a.test' })), /^200 .*"isPresent":false/)
  t.equal(renewed().length, 0)
  const due = await bindsSessionsToNames(t) ? [REQUIRED, 0] : [MISDIRECTED, 1]
  t.strictSame([answerOf(await wire.get('/partners', { Host: 'a.test' })), renewed().length], due)
})

t.test('on a connection for several hosts, each request is judged by the client CAs of its own host', async (t) => {
  const both = await issueServer(serverCa, ['a.test', 'b.test'])
  const shared = { certificates: { cert: both.cert, key: both.key }, clientCertificates: { 'a.test': { ca: caA.cert, crl: join(t.testdirName, 'a.crl') }, 'b.test': { ca: caA.cert, crl: await revocationList(caA) } } }
  const served = await serveHosts(t, shared, { http2: true, files: { 'a.crl': await revocationList(caA) } })
  const ask = async (session: http2.ClientHttp2Session, authority: string, path = '/partners') => answerOf(await askHttp2(session, { ':path': path, ':authority': authority }))
  const connect = (identity: Identity): http2.ClientHttp2Session => {
    const session = http2.connect(`https://127.0.0.1:${served.https}`, reused(as(identity, 'a.test')))
    t.teardown(() => session.destroy())
    return session.on('error', () => {})
  }
  const joe = await issue(caA, { subject: 'CN=Joe' })
  const [annas, joes] = [connect(anna), connect(joe)]
  t.strictSame([await ask(annas, 'a.test'), await ask(annas, 'b.test')], ['200 Anna', '200 Anna'])
  const judged = t.capture(TrustStore.prototype, 'judge', TrustStore.prototype.judge)
  for (let times = 0; times < 10; times++) for (const host of ['a.test', 'b.test']) await ask(annas, host)
  t.equal(judged().length, 0)

  // Revoked at one of them
  const long = (session: http2.ClientHttp2Session, authority: string) => {
    const stream = session.request({ ':path': '/slow', ':authority': authority }).on('error', () => {})
    return { ended: new Promise<string>((resolve) => { stream.once('response', ({ ':status': status }) => resolve(String(status))).once('close', () => resolve('cut off')) }) }
  }
  const [atA, atB, others] = [long(annas, 'a.test'), long(annas, 'b.test'), long(joes, 'a.test')]
  await until(() => served.reached.filter((line) => line.startsWith('GET /slow')).length >= 3)
  served.write({ 'a.crl': await revocationList(caA, [anna]) })
  await served.tls.reload()
  // What was asked last says nothing of what was asked before
  t.strictSame([await ask(annas, 'a.test'), await ask(annas, 'b.test'), await ask(joes, 'b.test')], ['403 CERTIFICATE_REVOKED', '200 Anna', '200 Joe'])
  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 10_000
  t.equal(await atA.ended, 'cut off')
  t.equal(await ask(annas, 'b.test'), '200 Anna')
  served.release()
  t.strictSame([await atB.ended, await others.ended], ['200', '200'])
})

t.test('another SNI after HelloRetryRequest does not give access to another host', async (t) => {
  const served = await serveHosts(t)
  const askTwice = async (identity: Identity, names: readonly [string, string], host: string) =>
    await askWithTwoNames(served.https, names, identity, `GET /partners HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
  t.match(await askTwice(anna, ['a.test', 'a.test'], 'a.test'), /^HTTP\/1.1 200 OK[^]*Anna$/)
  t.match(await askTwice(anna, ['b.test', 'b.test'], 'b.test'), /^HTTP\/1.1 403 Forbidden/)
  served.reached.length = 0
  const answer = await askTwice(anna, ['a.test', 'b.test'], 'b.test').catch(({ message }: Error) => message)
  t.match(answer, /^(?:HTTP\/1.1 421 |alert 47$)/, 'Node asks for a context once, OpenSSL keeps the last name; from 22.23.5 and 24.22.3 on, it is no handshake')
  t.strictSame(served.reached, [])
  for (const [names, due] of [[['x.test', 'a.test'], '421 '], [['a.test', 'x.test'], '200 OK[^]*Anna$']] as const) {
    const answer = await askTwice(anna, names, 'a.test').catch(({ message }: Error) => message)
    t.match(answer, new RegExp(`^(?:HTTP/1.1 ${due}|alert 47$)`), `${String(names)}: the first name says whether a certificate is asked for, and of whose CAs`)
  }
})

t.test('an absolute request target does not give access to another host', async (t) => {
  const served = await serveHosts(t)
  const wire = await connectWire(t, { port: served.https, ...as(anna, 'a.test') })
  t.equal(answerOf(await wire.send('GET https://a.test/partners HTTP/1.1\r\nHost: a.test\r\n\r\n')), '200 Anna')
  for (const target of ['https://b.test/partners', `https://B.test:${served.https}/partners`, 'http://b.test/partners']) {
    const wire = await connectWire(t, { port: served.https, ...as(anna, 'a.test') })
    t.match(answerOf(await wire.send(`GET ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`)), /^(?:421|400)/, `${target}: RFC 9112 §3.2.2 has it count, not the Host`)
  }
  t.strictSame(served.reached.length, 1)
})

t.test('a forwarded host does not give access to another host, with trustProxy too', async (t) => {
  const tls = await enableTls(byHost)
  const app = Fastify({ https: tls.https, trustProxy: true, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  app.get('/partners', { httpSecurity: 'mtls' }, async ({ hostname }) => hostname)
  const { https: { port } } = await tls.listen(app, { https: 0 })
  const askAs = async (headers: Record<string, string>): Promise<string> => answerOf(await (await connectWire(t, { port, ...as(anna, 'a.test') })).get('/partners', { Host: 'a.test', ...headers }))
  t.equal(await askAs({}), '200 a.test')
  t.equal(await askAs({ 'X-Forwarded-Host': 'a.test' }), '200 a.test')
  t.equal(await askAs({ 'X-Forwarded-Host': 'b.test' }), MISDIRECTED)
  t.equal(await askAs({ 'X-Forwarded-Host': 'a.test, a.test:443,a.test' }), '200 a.test')
  t.equal(await askAs({ 'X-Forwarded-Host': 'a.test,'.repeat(2_000) }), MISDIRECTED, 'of thousands, none is looked at')
  const anonymous = await connectWire(t, { port, ...as(undefined, 'a.test') })
  t.equal(answerOf(await anonymous.get('/partners', { Host: 'a.test', 'X-Forwarded-Host': 'b.test' })), MISDIRECTED, 'without a certificate')
})

t.test('a client that disconnects during an earlier hook is of no host, and ends no process', async (t) => {
  for (const isHttp2 of [false, true]) {
    const tls = await enableTls(byHost)
    const app = Fastify({ http2: isHttp2, https: tls.https, forceCloseConnections: true } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    // As tracing does, which notes how the request came
    const noted: unknown[] = []
    app.addHook('onRequest', async ({ httpSecurity, raw }) => {
      noted.push(httpSecurity.secure)
      const { stream } = raw as unknown as Partial<http2.Http2ServerRequest>
      if (stream === undefined) raw.socket.destroy()
      else stream.session?.destroy()
      await new Promise((resolve) => setImmediate(resolve))
    })
    await app.register(httpSecurity, { tls })
    const answered = new Promise<string | undefined>((resolve) => { app.addHook('onError', async (_request, _reply, error) => resolve((error as { code?: string }).code)) })
    app.get('/gone', { httpSecurity: 'mtls' }, async () => 'x')
    const { https: { port } } = await tls.listen(app, { https: 0 })
    const asking = { identity: anna, servername: 'a.test', host: 'a.test', path: '/gone' }
    await (isHttp2 ? askOverHttp2 : askHttp1)(t, { https: port } as Trusting, asking).catch(() => {})
    t.strictSame(noted, [true])
    t.match(await answered, /^FST_HTTP_SECURITY_(?:CERTIFICATE|TLS)_REQUIRED$/, 'and is refused, as whoever has no certificate')
  }
})

t.test('a WebSocket to another host than SNI named is refused as misdirected', async (t) => {
  const served = await serveHosts(t)
  const open = (host: string, path: string) => new Promise<string>((resolve, reject) => {
    const socket = new WebSocket(`wss://127.0.0.1:${served.https}${path}`, { ...as(anna, 'a.test'), headers: { host } } as object)
    t.teardown(() => socket.terminate())
    socket.once('open', () => resolve('open')).once('error', reject).once('unexpected-response', (_request, response) => resolve(String(response.statusCode)))
  })
  t.equal(await open('a.test', '/live'), 'open')
  t.equal(await open('b.test', '/live'), '421')
  t.equal(await open('b.test', '/open'), 'open', 'unless it needs no certificate')
  t.equal(served.reached.length, 2)
})

for (const version of VERSIONS) {
  t.test(`${version}: a TLS session of one host that is resumed at another is judged by the CAs of that host`, async (t) => {
    const served = await serveHosts(t)
    const first = await connectWire(t, { port: served.https, ...as(anna, 'a.test', version) })
    t.equal(answerOf(await first.get('/partners', { Host: 'a.test' })), '200 Anna')
    const session = await first.ticket
    const binds = await bindsSessionsToNames(t)
    served.naive.length = 0
    for (const [name, code] of [['b.test', UNTRUSTED], ['a.test', '200 Anna'], ['', UNTRUSTED]] as const) {
      const wire = await connectWire(t, { port: served.https, ...as(anna, name, version), session })
      t.strictSame([answerOf(await wire.get('/partners', { Host: name || '127.0.0.1' })), wire.socket.isSessionReused()], [code, name === 'a.test' || !binds], name)
    }
    if (!binds) t.strictSame(served.naive, Array(3).fill({ authorized: true, reused: true }), '`authorized` alone would have let it in')
  })

  t.test(`${version}: a TLS session from a session store that is resumed at another host is judged by the CAs of that host`, async (t) => {
    const served = await serveHosts(t, { ...byHost, https: { secureOptions: constants.SSL_OP_NO_TICKET } })
    const counts = keepSessions(served.app.server as unknown as tls.Server)
    const first = await connectWire(t, { port: served.https, ...as(anna, 'a.test', version) })
    t.equal(answerOf(await first.get('/partners', { Host: 'a.test' })), '200 Anna')
    const session = await first.ticket
    served.naive.length = 0
    for (const name of ['b.test', 'a.test', '']) {
      const wire = await connectWire(t, { port: served.https, ...as(anna, name, version), session })
      t.equal(answerOf(await wire.get('/partners', { Host: name || '127.0.0.1' })), name === 'a.test' ? '200 Anna' : UNTRUSTED, name)
      // Its name is that of the session, whatever the client says (RFC 6066 §3)
      if (version === 'TLSv1.2') t.equal(answerOf(await (await connectWire(t, { port: served.https, ...as(anna, name, version), session })).get('/partners', { Host: 'a.test' })), await bindsSessionsToNames(t) && name !== 'a.test' ? MISDIRECTED : '200 Anna')
    }
    if (version === 'TLSv1.2') {
      t.equal(counts.found, 6)
      const resumed = served.naive.filter(({ reused }) => reused)
      t.strictSame(resumed, Array(await bindsSessionsToNames(t) ? 2 : 6).fill({ authorized: true, reused: true }), '`authorized` alone would have let it in')
    }
  })
}

/** Whether this Node resumes a session for the host alone that it was made for: 22.23.5 and 24.22.3 do. */
async function bindsSessionsToNames (t: Test): Promise<boolean> {
  const id = 'a session id context'
  const server = tls.createServer({ cert: serverA.cert, key: serverA.key, sessionIdContext: id }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const client = tls.connect({ port: portOf(server), ...as(undefined, 'a.test') })
  const [socket] = await once(server, 'secureConnection') as [tls.TLSSocket]
  const session = socket.getSession()!
  client.destroy()
  return !session.includes(id)
}

t.test('a TLS session is good for all hosts with the same client CAs', async (t) => {
  for (const version of VERSIONS) {
    const served = await serveHosts(t, { certificates, clientCertificates: { ca: caA.cert } })
    for (const servername of ['a.test', 'b.test', 'x.test', '']) {
      for (const host of ['a.test', 'b.test', 'x.test', '127.0.0.1']) t.equal(await askHttp1(t, served, { identity: anna, servername, host, version }), '200 Anna', `${servername}, ${host}`)
    }
    const first = await connectWire(t, { port: served.https, ...as(anna, 'a.test', version) })
    const session = await first.ticket
    for (const [name, isReused] of [['a.test', true], ['b.test', !await bindsSessionsToNames(t)]] as const) {
      const again = await connectWire(t, { port: served.https, ...as(anna, name, version), session })
      t.strictSame([answerOf(await again.get('/partners', { Host: name })), again.socket.isSessionReused()], ['200 Anna', isReused], `${version}, ${name}`)
    }
  }
})

t.test('the client CAs of an exact host name go before those of a wildcard', async (t) => {
  const [server, paying] = [await issueServer(serverCa, ['*.shop.test', 'shop.test']), await issueServer(serverCa, ['pay.shop.test'])]
  const served = await serveHosts(t, { certificates: [server, paying].map(({ cert, key }) => ({ cert, key })), clientCertificates: { '*.Shop.test.': { ca: caA.cert }, 'pay.shop.test': { ca: caB.cert } } })
  const askAs = async (identity: Identity, servername: string, host: string) => await askHttp1(t, served, { identity, servername, host })
  t.equal(await askAs(anna, 'x.shop.test', 'x.shop.test'), '200 Anna')
  t.equal(await askAs(anna, 'x.shop.test', 'Y.shop.test:1'), '200 Anna', 'the same authorities')
  t.equal(await askAs(anna, '*.shop.test', 'x.shop.test'), '200 Anna')
  for (const other of ['pay.shop.test', 'PAY.shop.test.', 'shop.test', 'a.b.shop.test', '.shop.test', '']) {
    t.equal(await askAs(anna, 'x.shop.test', other), MISDIRECTED, other)
    const isAsked = other === '' || other.toLowerCase().startsWith('pay.')
    if (!other.startsWith('.')) t.equal(await askAs(anna, other, other || '127.0.0.1'), isAsked ? UNTRUSTED : REQUIRED, other)
  }
  t.equal(await askAs(ben, 'pay.shop.test', 'pay.shop.test'), '200 Ben')
  t.equal(await askAs(ben, 'x.shop.test', 'x.shop.test'), UNTRUSTED)
})

t.test('a name that is no valid host does not match a wildcard', async (t) => {
  const served = await serveHosts(t, { certificates, clientCertificates: { '*.test': { ca: caA.cert }, 'b.test': { ca: caB.cert } } })
  t.equal(await askHttp1(t, served, { identity: anna, servername: 'a.test', host: 'a.test' }), '200 Anna')
  // For whoever reads it as a URL, each names b.test
  for (const host of ['x@b.test', 'x:y@b.test', 'b\t.test']) t.match(await askHttp1(t, served, { identity: anna, servername: 'a.test', host }), /^4/, host)
  t.equal(served.reached.length, 1)
})

t.test('when the CAs of one host change, clients of the other ones notice nothing', async (t) => {
  const served = await serveHosts(t, { certificates, clientCertificates: { 'a.test': { ca: caA.cert }, 'b.test': { ca: join(t.testdirName, 'b.pem') } } }, { files: { 'b.pem': caA.cert } })
  const [annas, anonymous] = [await connectWire(t, { port: served.https, ...as(anna, 'a.test') }), await connectWire(t, { port: served.https, ...as(undefined, 'b.test') })]
  t.equal(answerOf(await annas.get('/partners', { Host: 'b.test' })), '200 Anna', 'as long as both trust the same')
  const slow = [annas, anonymous].map(async (wire) => await wire.get('/slow/tls', { Host: 'b.test' }))
  await until(() => served.reached.length >= 3)
  served.write({ 'b.pem': caB.cert })
  await served.tls.reload()
  served.release()
  for (const answer of await Promise.all(slow)) t.equal(answer?.status, 200)
  t.match(answerOf(await anonymous.get('/tls', { Host: 'b.test' })), /^200/)
  t.equal(answerOf(await annas.get('/partners', { Host: 'a.test' })), '200 Anna', 'on the same connection')
  t.equal(answerOf(await annas.get('/partners', { Host: 'b.test' })), MISDIRECTED)
  t.equal(await askHttp1(t, served, { identity: anna, servername: 'a.test', host: 'a.test' }), '200 Anna')
  t.equal(await askHttp1(t, served, { identity: anna, servername: 'a.test', host: 'b.test' }), MISDIRECTED)
  t.equal(await askHttp1(t, served, { identity: anna, servername: 'b.test', host: 'b.test' }), UNTRUSTED)
  t.equal(await askHttp1(t, served, { identity: ben, servername: 'b.test', host: 'b.test' }), '200 Ben')
})

t.test('with development certificates, client CAs by host apply to those hosts alone', async (t) => {
  const served = await serveHosts(t, { certificates: undefined, development: { dir: join(t.testdir(), '.certs'), hosts: ['localhost', 'a.test'] }, clientCertificates: { 'a.test': { ca: caA.cert } } })
  const developer = served.tls.development!.client
  const own = { ca: served.tls.development!.https.ca }
  const askAs = async (identity: Identity, servername: string, host: string): Promise<string> => {
    const wire = await connectWire(t, { port: served.https, ...as(identity, servername), ...own })
    return answerOf(await wire.get('/partners', { Host: host }))
  }
  t.equal(await askAs(anna, 'a.test', 'a.test'), '200 Anna')
  t.equal(await askAs(developer, 'a.test', 'a.test'), UNTRUSTED)
  t.equal(await askAs(developer, 'a.test:1', 'a.test'), MISDIRECTED, 'a name with a port is no name of ours')
  t.equal(await askAs(developer, 'localhost', 'localhost'), REQUIRED)
})

t.test('plain HTTP is redirected for every host that a certificate covers, and for no other', async (t) => {
  const wild = await issueServer(serverCa, ['shop.test', '*.shop.test'])
  const { cert, key } = wild
  const served = await serveHosts(t, { ...byHost, certificates: [...certificates, { cert, key }] })
  const { http, https } = served
  const redirected = async (host: string, headers: Record<string, string> = {}): Promise<string> => {
    const answer = await ask({ port: http, path: '/tls?x=%41', headers: { host, accept: 'text/html', ...headers } })
    return answer.status === 308 ? answer.headers.location! : answerOf(answer)
  }
  t.equal(await redirected('a.test'), 'https://a.test/tls?x=%41')
  t.equal(await redirected(`B.test:${http}`), `https://B.test:${https}/tls?x=%41`)
  t.equal(await redirected('b.test.'), 'https://b.test./tls?x=%41')
  t.equal(await redirected('b.test:8080'), 'https://b.test/tls?x=%41')
  t.equal(await redirected(`127.0.0.1:${http}`), `https://127.0.0.1:${https}/tls?x=%41`)
  t.equal(await redirected(`shop.test:${http}`), `https://shop.test:${https}/tls?x=%41`)
  t.equal(await redirected(`x.shop.test:${http}`), `https://x.shop.test:${https}/tls?x=%41`)
  for (const host of ['unknown.test', 'test', 'a.b.shop.test', '.shop.test', '*.shop.test', '127.0.0.2', '[::1]', 'a.test:0', 'a.test:x', 'x@a.test', 'a.test, b.test', `localhost:${http}`, '2130706433', '0x7f.1']) {
    t.equal(await redirected(host), '400 BAD_REQUEST', host)
  }
  t.equal(await redirected('a.test', { 'x-forwarded-host': 'evil.test' }), 'https://a.test/tls?x=%41')
  for (const servername of ['a.test', 'b.test']) t.match(await askHttp1(t, served, { servername, host: servername, path: '/tls' }), /^200/, servername)
  t.match(answerOf(await ask({ port: http, path: '/none', headers: { host: 'unknown.test' } })), /^200/, 'what needs no HTTPS is for any host')
})

t.test('plain HTTP is redirected for an IPv6 address that a certificate covers', { skip: withoutIPv6 }, async (t) => {
  const { cert, key } = await issue(serverCa, { subject: 'CN=six', purpose: 'server', san: [{ type: 'ip', value: '::1' }] })
  const tls = await enableTls({ certificates: { cert, key } })
  const app = await appWith(t, tls.https)
  await app.register(httpSecurity, { tls })
  app.get('/', async () => 'here')
  const { http, https } = await tls.listen(app, { http: 0, https: 0, host: '::1' })
  const redirected = async (host: string): Promise<string> => {
    const answer = await ask({ host: '::1', port: http!.port, headers: { host, accept: 'text/html' } })
    return answer.status === 308 ? answer.headers.location! : answerOf(answer)
  }
  t.equal(await redirected(`[::1]:${http!.port}`), `https://[::1]:${https.port}/`)
  t.equal(await redirected(`[0:0:0:0:0:0:0:1]:${http!.port}`), `https://[0:0:0:0:0:0:0:1]:${https.port}/`)
  for (const host of ['[::2]', '::1', 'localhost', '127.0.0.1']) t.equal(await redirected(host), '400 BAD_REQUEST', host)
  t.match(await ask({ host: '::1', port: https.port, tls: { ca: serverCa.cert, checkServerIdentity: () => undefined } }), { status: 200, body: 'here' })
})

async function appWith (t: Test, https?: object): Promise<FastifyInstance> {
  const app = Fastify({ forceCloseConnections: true, ...https && { https } } as never) as unknown as FastifyInstance
  t.teardown(() => app.close())
  return app
}

t.test('the log says why there is no redirect, and by which host\'s client CAs a certificate was judged', async (t) => {
  const served = await serveHosts(t)
  const said = async (asking: Promise<unknown>): Promise<unknown> => {
    served.log.length = 0
    await asking
    const { code, host, reason, trust } = served.log.find(({ msg }) => msg === 'http-security: request refused')!
    return [code!.replace('FST_HTTP_SECURITY_', ''), host, trust ?? reason]
  }
  const redirect = (host: string, path = '/tls'): Promise<Answer> => ask({ port: served.http, path, headers: { host, accept: 'text/html' } })
  t.strictSame(await said(redirect('unknown.test')), ['BAD_REQUEST', 'unknown.test', 'no certificate of the server covers it'])
  t.strictSame(await said(redirect('x y')), ['BAD_REQUEST', 'x y', 'it is no host'])
  t.strictSame(await said(redirect('a.test', 'http://b.test/tls')), ['BAD_REQUEST', 'a.test', 'the target names another host'])
  const asBen = (servername: string, host = servername, headers = {}): Promise<Answer | undefined> => connectWire(t, { port: served.https, ...as(ben, servername) }).then(async (wire) => await wire.get('/partners', { Host: host, ...headers }))
  t.strictSame(await said(asBen('a.test')), ['CERTIFICATE_UNTRUSTED', 'a.test', "clientCertificates['a.test']"])
  t.strictSame(await said(asBen('unknown.test')), ['CERTIFICATE_REQUIRED', 'unknown.test', 'nobody: the host is not in clientCertificates'])
  t.strictSame(await said(asBen('', 'unknown.test')), ['CERTIFICATE_UNTRUSTED', 'unknown.test', 'nobody: the host is not in clientCertificates'])
  t.strictSame(await said(asBen('b.test', 'a.test')), ['MISDIRECTED', 'a.test', "clientCertificates['a.test']"])
  t.strictSame(await said(asBen('b.test', 'b.test', { 'X-Forwarded-Host': 'a.test' })), ['MISDIRECTED', 'b.test a.test', 'nobody: the hosts that are named have different authorities'])
  t.strictSame(await said(ask({ port: served.https, path: '/partners', headers: { host: 'a.test' }, tls: as(undefined, 'a.test') as object })), ['CERTIFICATE_REQUIRED', 'a.test', "clientCertificates['a.test']"])
})

t.test('a first host without client CAs, and client CAs of a misspelt host, are warnings', async (t) => {
  const warnings = async (clientCertificates: EnableTlsOptions['clientCertificates'], constraints: Record<string, string> = {}): Promise<string[]> => {
    const tls = await enableTls({ certificates, clientCertificates })
    const lines: LogLine[] = []
    const app = Fastify({ logger: keepLog(lines), https: tls.https })
    t.teardown(() => app.close())
    await app.register(httpSecurity, { tls })
    app.get('/x', { httpSecurity: 'mtls', constraints }, async () => 'x')
    app.get('/y', async () => 'y')
    await app.ready()
    return lines.map(({ msg }) => msg).filter((line) => /clientCertificates(?! *\[|\.ca)/.test(line) && !/ ends in /.test(line))
  }
  const ca = caB.cert
  t.match(await warnings({ 'b.test': { ca } }), [/^http-security: clientCertificates has no authorities for the hosts of the first certificate \(a\.test, 127\.0\.0\.1\): there, nobody reaches what has level 'mtls'\..*:\n {2}GET, HEAD \/x$/])
  t.strictSame(await warnings({ 'b.test': { ca } }, { host: 'b.test' }), [])
  t.strictSame(await warnings({ 'a.test': { ca } }), [])
  t.strictSame(await warnings({ ca }), [])
  t.strictSame(await warnings({ 'a.test': { ca }, 'b.tst': { ca } }), ["http-security: clientCertificates: no certificate is good for b.tst. Did you mean 'b.test'?"])
  t.strictSame(await warnings({ 'a.test': { ca }, 'elsewhere.example': { ca } }), ['http-security: clientCertificates: no certificate is good for elsewhere.example'])
})

t.test('contradicting options of client CAs by host stop the boot', async (t) => {
  const asking = await enableTls(byHost)
  const silent = await enableTls({ certificates })
  t.teardown(() => { asking.close(); silent.close() })
  const boot = async (https: object | undefined, options: object, prepare: (app: FastifyInstance) => void = () => {}): Promise<string> => {
    const app = await appWith(t, https)
    try {
      await app.register(httpSecurity, options)
      app.get('/x', { httpSecurity: 'mtls' }, async () => 'x')
      prepare(app)
      await app.ready()
      return ''
    } catch (error) {
      const { code, message } = error as Error & { code: string }
      return `${code}: ${message}`
    }
  }
  t.equal(await boot(asking.https, { tls: asking }), '')
  const plain = { cert: serverA.cert, key: serverA.key, ca: caA.cert, requestCert: true, rejectUnauthorized: false }
  t.match(await boot(plain, { tls: asking }), /^FST_HTTP_SECURITY_UNSATISFIABLE: the option tls has no effect: the server was not created with its options/)
  t.match(await boot(undefined, { tls: asking }), /^FST_HTTP_SECURITY_UNSATISFIABLE: /)
  t.match(await boot(silent.https, { tls: asking }), /^FST_HTTP_SECURITY_UNSATISFIABLE: the option tls has no effect/)
  t.match(await boot(silent.https, { tls: silent }), /^FST_HTTP_SECURITY_UNSATISFIABLE: level 'mtls' cannot be met with certainty: enableTls was given no clientCertificates/)
  t.match(await boot(asking.https, { tls: asking }, ({ server }) => (server as unknown as tls.Server).addContext('b.test', { cert: serverB.cert, key: serverB.key })), /^FST_HTTP_SECURITY_UNSATISFIABLE: .*contexts of the server by name/)
  for (const extra of [{ minVersion: 'TLSv1.3' }, { maxVersion: 'TLSv1.2' }, { ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' }, { ecdhCurve: 'P-384' }, { sigalgs: 'ed25519' }]) {
    // enableTls takes them as `https`; beside its options they would be gone when the server is told again
    t.match(await boot({ ...asking.https, ...extra }, { tls: asking }), /^FST_HTTP_SECURITY_/, Object.keys(extra)[0])
  }
  for (const tls of [{}, { https: asking.https }, 'tls', null]) t.match(await boot(asking.https, { tls }), /^FST_HTTP_SECURITY_INVALID_OPTIONS: /)

  const other = await appWith(t, silent.https)
  await t.rejects(asking.listen(other, { https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /was not created with the options of this tls/ })
  await t.rejects(asking.listen(await appWith(t), { https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' })
})

t.test('invalid and repeated hosts in clientCertificates are errors', async (t) => {
  const ca = caA.cert
  const wrong: Record<string, EnableTlsOptions['clientCertificates']> = {
    'shop.test:443': { 'shop.test:443': { ca } },
    'https://shop.test': { 'https://shop.test': { ca } },
    '*': { '*': { ca } },
    'a.*.test': { 'a.*.test': { ca } },
    'SHOP.test.': { 'shop.test': { ca }, 'SHOP.test.': { ca: caB.cert } },
    // Clients name no address in their handshake (RFC 6066 §3), so that no client could ever come
    '127.0.0.1': { '127.0.0.1': { ca } }
  }
  for (const [host, clientCertificates] of Object.entries(wrong)) {
    await t.rejects(enableTls({ certificates, clientCertificates }).then((tls) => tls.close()), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' }, host)
  }
})

t.test('inject() of /testing needs no certificates of a server, with the option tls too', async (t) => {
  for (const https of [true, false]) {
    const tls = await enableTls(byHost)
    const app = await appWith(t, https ? tls.https : undefined)
    await app.register(httpSecurity, { tls })
    app.get('/partners', { httpSecurity: 'mtls' }, async ({ clientCertificate }) => clientCertificate?.subject)
    app.get('/tls', { httpSecurity: { kind: 'screen' } }, async () => 'tls')
    for (const host of ['a.test', 'b.test', 'unknown.test']) {
      t.match(await inject(app, { url: '/partners', headers: { host }, clientCertificate: anna.cert }), { statusCode: 200, body: 'CN=Anna' }, host)
      t.match(await inject(app, { url: '/partners', headers: { host }, secure: true }), { statusCode: 403 }, host)
      t.match(await inject(app, { url: '/tls', headers: { host }, secure: true }), { statusCode: 200 }, host)
    }
    t.match(await inject(app, { url: '/tls', headers: { host: 'a.test' } }), { statusCode: 308, headers: { location: 'https://a.test/tls' } })
    t.match(await inject(app, { url: '/tls', headers: { host: 'unknown.test' } }), { statusCode: 400 })
  }
})

t.test('client CAs are those of the option alone, and never the root certificates of Node', async (t) => {
  const dir = t.testdir({ 'server.pem': serverA.cert, 'server.key': serverA.key, 'client.pem': anna.cert, 'client.key': anna.key, 'other.pem': caB.cert, 'public.pem': caA.cert })
  const { stdout } = await run('env', [...plain, `NODE_EXTRA_CA_CERTS=${join(dir, 'public.pem')}`, process.execPath, ...typescript, fileURLToPath(new URL('fixtures/roots.ts', import.meta.url)), dir])
  const refused = { listed: '403 FST_HTTP_SECURITY_CERTIFICATE_UNTRUSTED', unlisted: '403 FST_HTTP_SECURITY_CERTIFICATE_UNTRUSTED', nameless: '403 FST_HTTP_SECURITY_CERTIFICATE_UNTRUSTED' }
  const unasked = { listed: '403 FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', unlisted: '403 FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', nameless: '403 FST_HTTP_SECURITY_CERTIFICATE_REQUIRED' }
  t.strictSame(JSON.parse(stdout.trim().split('\n').at(-1)!), { plain: 'let in', none: unasked, all: refused, byHost: { ...refused, unlisted: unasked.unlisted } })
})
