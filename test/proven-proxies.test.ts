/**
 * Proxies that prove themselves by their own client certificates, `proxy.trust: { client, from }`: who is believed, in every
 * state of such a certificate, on every kind of connection, and what visitors are while it is not.
 */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import http2 from 'node:http2'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { WebSocket } from 'ws'
import httpSecurity, { type ClientDefinition, type ClientsDocument, type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type EnabledTls, enableTls, type EnableTlsOptions } from '../lib/tls/index.ts'
import { type Answer, ask, askHttp2 } from './fixtures/ask.ts'
import { reused } from './fixtures/context.ts'
import { alternatives, type Made, make, names } from './fixtures/chains.ts'
import { written } from './fixtures/forward.ts'
import { ocspResponse } from './fixtures/ocsp.ts'
import { moveClock, responder, serveWeb } from './fixtures/online.ts'
import { type Authority, type Identity, authority, issue, issueServer, revocationList, selfSigned } from './fixtures/pki.ts'
import { type LogLine, askingServer, keepLog, listenOnFreePort } from './fixtures/serve.ts'
import { DAY, HOUR, until } from './fixtures/time.ts'
import { connectWire, echoed, openSocket, type Wire } from './fixtures/wire.ts'

const long = [-1, 90] as const
const [mesh, partners] = await Promise.all([authority('Mesh CA', long), authority('Partners CA', long)])
const server = await issueServer(mesh, ['localhost'], { days: long })
const EDGE = 'edge.mesh.example'
const san = [{ type: 'dns' as const, value: EDGE }]
const proxy = await issue(mesh, { subject: 'CN=Edge', san })
const renewed = await issue(mesh, { subject: 'CN=Edge', san, days: long })
const neighbour = await issue(mesh, { subject: 'CN=Neighbour', days: long })
const imitation = await selfSigned({ subject: 'CN=Edge', san })
const visitor = await issue(partners, { subject: 'CN=Jane, O=Acme', days: long })

const byFingerprint = (...identities: Authority[]): ClientDefinition['certificates'] => identities.map(({ certificate }) => ({ fingerprint256: certificate.fingerprint256 })) as ClientDefinition['certificates']
const bySan: ClientDefinition['certificates'] = [{ san: `DNS:${EDGE}`, issuedBy: 'mesh' }]
const ENTRIES = { 'by fingerprint': byFingerprint(proxy), 'by name and CA': bySan }
const others: ClientsDocument['clients'] = {
  jane: { groups: ['writers'], certificates: byFingerprint(visitor) },
  neighbour: { certificates: byFingerprint(neighbour) }
}
const documentWith = (edge?: Partial<ClientDefinition>, before: ClientsDocument['clients'] = {}): ClientsDocument =>
  ({ clients: { ...before, ...edge && { edge: { certificates: byFingerprint(proxy), ...edge } as ClientDefinition }, ...others } })

/** What a request offers. */
function seen (request: FastifyRequest) {
  const { isPresent, isValid } = request.clientCertificateGetDetails()
  return { secure: request.httpSecurity.secure, isPresent, isValid, value: request.clientCertificateValue('SubjectCN'), client: request.httpSecurity.client?.name ?? null, certificate: request.clientCertificate?.subject ?? null }
}

interface Serving extends Partial<Pick<HttpSecurityOptions, 'clients'>> {
  trust?: NonNullable<HttpSecurityOptions['proxy']>['trust']
  document?: ClientsDocument
  certificate?: NonNullable<HttpSecurityOptions['proxy']>['certificate']
  isHttp2?: boolean
  tls?: Partial<EnableTlsOptions>
  clientCertificates?: object
}

const fromHere = { client: 'edge', from: '127.0.0.1' }

async function serving (t: Test, { trust = fromHere, document = documentWith({}), certificate = 'rfc9440', isHttp2 = false, clientCertificates, tls: more }: Serving = {}) {
  let current = document
  let changed = (): void => {}
  const log: LogLine[] = []
  const crl = join(t.testdirName, `crl-${Math.random()}.pem`)
  const write = async (...revoked: Authority[]): Promise<void> => { writeFileSync(crl, await revocationList(mesh, revoked, long)) }
  await write()
  const tls: EnabledTls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { mesh: mesh.cert }, crl, ...clientCertificates }, ...more } as EnableTlsOptions)
  t.teardown(() => tls.close())
  const app = Fastify({ logger: keepLog(log), forceCloseConnections: true, https: tls.https, ...isHttp2 && { http2: true } } as never) as unknown as FastifyInstance
  await app.register(httpSecurity, { tls, clients: { load: async () => current, watch (listener: () => void) { changed = listener; return () => {} } }, proxy: { trust, certificate } })
  await app.register(websocket)
  const gates: Array<() => void> = []
  const wait = async (): Promise<void> => { await new Promise<void>((resolve) => { gates.push(resolve) }) }
  const slow = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    reply.raw.write('begun ')
    const before = seen(request)
    await wait()
    reply.raw.end(JSON.stringify({ before, after: seen(request), isAborted: request.signal.aborted }))
    return await reply
  }
  app.register(async (deep) => {
    deep.setNotFoundHandler(slow)
    deep.get('/leads', { httpSecurity: 'tls' }, (_request, reply) => { reply.callNotFound() })
  }, { prefix: '/deep', httpSecurity: { level: 'mtls', kind: 'rest' } })
  for (const level of ['none', 'tls', 'mtls'] as const) {
    app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => seen(request))
    app.get(`/slow/${level}`, { httpSecurity: { level, kind: 'rest' } }, slow)
    const echo = (socket: WebSocket): void => { socket.on('message', (data) => { socket.send(String(data)) }) }
    app.get(`/live/${level}`, { httpSecurity: { level, kind: 'rest' }, websocket: true } as object, echo as never)
  }
  app.get('/screen', { httpSecurity: { level: 'tls', kind: 'screen' } }, async (request) => seen(request))
  app.get('/writers', { httpSecurity: { level: 'mtls', kind: 'rest', allow: [{ group: 'writers' }] } }, async (request) => seen(request))
  app.post('/writers', { httpSecurity: { level: 'mtls', kind: 'rest', allow: [{ group: 'writers' }] } }, async (request) => seen(request))
  const port = await listenOnFreePort(t, app)
  return {
    app,
    port,
    log,
    gates,
    tls,
    put (document: ClientsDocument): void {
      current = document
      changed()
    },
    async change (document: ClientsDocument): Promise<void> {
      const lines = log.length
      current = document
      changed()
      if (!await until(() => log.slice(lines).some(({ msg }) => msg === 'http-security: the clients have changed'))) throw new Error('the document is not in force')
    },
    async revoke (...revoked: Authority[]): Promise<void> {
      await write(...revoked)
      await tls.reload()
    }
  }
}
type Served = Awaited<ReturnType<typeof serving>>

/** What the proxy says of a visitor over HTTPS, who has a certificate or none. */
const SAYS = {
  'with a certificate': { 'x-forwarded-proto': 'https', 'client-cert': written.rfc9440(visitor.cert) },
  'without one': { 'x-forwarded-proto': 'https' }
}
type Visitor = keyof typeof SAYS
const LEVELS = ['none', 'tls', 'mtls'] as const
const nothing = { isPresent: false, isValid: false, value: '', client: null, certificate: null }
const ofJane = { isPresent: true, isValid: true, value: 'Jane', client: 'jane', certificate: 'CN=Jane\nO=Acme' }
const ofNeighbour = { isPresent: true, isValid: true, value: 'Neighbour', client: 'neighbour', certificate: 'CN=Neighbour' }

/** What is expected of a request at each level. */
type Expected = Record<typeof LEVELS[number], object | string>
const shown = ({ status, body }: Pick<Answer, 'status' | 'body'>): unknown => status === 200 ? JSON.parse(body) : `${status} ${(JSON.parse(body) as { code: string }).code.replace('FST_HTTP_SECURITY_', '')}`
const REFUSED: Expected = { none: { secure: false, ...nothing }, tls: '403 TLS_REQUIRED', mtls: '403 TLS_REQUIRED' }
const ANONYMOUS: Expected = { none: { secure: true, ...nothing }, tls: { secure: true, ...nothing }, mtls: '403 CERTIFICATE_REQUIRED' }
const all = (what: object): Expected => ({ none: { secure: true, ...what }, tls: { secure: true, ...what }, mtls: { secure: true, ...what } })
const BELIEVED: Record<Visitor, Expected> = { 'with a certificate': all(ofJane), 'without one': ANONYMOUS }

type Get = (path: string, headers: Record<string, string>) => Promise<Pick<Answer, 'status' | 'body'> | undefined>

/** Who connects. */
const PEERS: Record<string, { identity?: Identity, options?: { localAddress?: string } }> = {
  'the proxy': { identity: proxy },
  'the proxy, from elsewhere': { identity: proxy, options: { localAddress: '127.0.0.2' } },
  'another client of the same CA': { identity: neighbour },
  'no certificate': {}
}
type Peer = keyof typeof PEERS

const tlsOf = (peer: Peer): ConnectionOptions => ({ ca: mesh.cert, ...PEERS[peer]!.identity && { cert: PEERS[peer]!.identity.cert, key: PEERS[peer]!.identity.key }, ...PEERS[peer]!.options })

async function check (t: Test, get: Get, expected: Record<Visitor, Expected>, what: string): Promise<void> {
  for (const visitor of Object.keys(SAYS) as Visitor[]) {
    for (const level of LEVELS) t.strictSame(shown((await get(`/${level}`, SAYS[visitor]))!), expected[visitor][level], `${what}: a visitor ${visitor}, ${level}`)
  }
}

const both = (expected: Expected): Record<Visitor, Expected> => ({ 'with a certificate': expected, 'without one': expected })

/** The states of the proxy's certificate: how each comes about, and what the log says then. */
const STATES: Record<string, { begin (served: Served, t: Test, certificates: ClientDefinition['certificates']): Promise<unknown> | void, why: RegExp }> = {
  expired: { begin (_served, t) { const now = Date.now; t.teardown(() => { Date.now = now }); Date.now = () => now() + 31 * DAY }, why: /^the certificate of a proxy, because it has expired; "edge" in proxy\.trust, at 127\.0\.0\.1$/ },
  revoked: { begin: async (served) => await served.revoke(proxy), why: /because it was revoked; "edge"/ },
  'of a client that was taken out': { begin: async (served) => await served.change(documentWith()), why: /because the clients document does not have it; "edge"/ },
  'of a client that is suspended': { begin: async (served, _t, certificates) => await served.change(documentWith({ certificates, suspended: true })), why: /because the client is suspended/ },
  'replaced by another one': { begin: async (served) => await served.change(documentWith({ certificates: [{ fingerprint256: 'ab'.repeat(32) }] })), why: /because the clients document does not have it/ },
  "another client's now": { begin: async (served, _t, certificates) => await served.change(documentWith({ certificates }, { thief: { certificates: byFingerprint(proxy) } })), why: /because the clients document has it as another client's/ }
}

t.test('who × state × connection × visitor: believed, or insecure and without certificate', async (t) => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const [state, { begin, why }, how, certificates] of Object.entries(STATES).flatMap(([state, what]) => Object.entries(ENTRIES).map(([how, entries]) => [state, what, how, entries] as const))) {
      await t.test(`${version}: the certificate, known ${how}, is ${state}`, async (t) => {
        t.testdir({})
        const served = await serving(t, { document: documentWith({ certificates }) })
        const open = async (peer: Peer, session?: Buffer): Promise<Wire> => await connectWire(t, { port: served.port, minVersion: version, maxVersion: version, ...tlsOf(peer), ...session && { session } })
        const kept = new Map<Peer, Wire>()
        const tickets = new Map<Peer, Buffer>()
        const before: Record<Peer, Record<Visitor, Expected>> = {
          'the proxy': BELIEVED,
          'the proxy, from elsewhere': both(REFUSED),
          'another client of the same CA': both(all(ofNeighbour)),
          'no certificate': both(ANONYMOUS)
        }
        for (const peer of Object.keys(PEERS)) {
          const wire = await open(peer)
          kept.set(peer, wire)
          await check(t, wire.get, before[peer]!, `before: ${peer}`)
          tickets.set(peer, await wire.ticket)
        }
        await begin(served, t, certificates)
        const lines = served.log.length
        for (const peer of Object.keys(PEERS)) {
          const expected = peer === 'the proxy' ? both(REFUSED) : before[peer]!
          await check(t, kept.get(peer)!.get, expected, `${peer}, kept`)
          const again = await open(peer, tickets.get(peer))
          await check(t, again.get, expected, `${peer}, resumed`)
          t.equal(again.socket.isSessionReused(), true, 'which it was')
          await check(t, (await open(peer)).get, expected, `${peer}, new`)
        }
        const told = served.log.slice(lines).filter(({ code, ignored }) => code === 'FST_HTTP_SECURITY_TLS_REQUIRED' && String(ignored).endsWith('127.0.0.1') && why.test(String(ignored)))
        t.equal(told.length, 3 * 4, 'the log says why, in the line of each refusal')
      })
    }
  }
})

t.test('the same over HTTP/2', async (t) => {
  for (const [state, { begin }] of Object.entries(STATES)) {
    await t.test(`the certificate is ${state}`, async (t) => {
      t.testdir({})
      const served = await serving(t, { isHttp2: true })
      const open = (peer: Peer): { get: Get, session: http2.ClientHttp2Session } => {
        const session = http2.connect(`https://localhost:${served.port}`, reused(tlsOf(peer)) as http2.SecureClientSessionOptions)
        session.on('error', () => {})
        t.teardown(() => session.destroy())
        return { session, get: async (path, headers) => await askHttp2(session, { ':path': path, ...headers }) }
      }
      const [kept, next] = [open('the proxy'), open('another client of the same CA')]
      await check(t, kept.get, BELIEVED, 'before: the proxy')
      await check(t, next.get, both(all(ofNeighbour)), 'before: another client')
      await check(t, open('the proxy, from elsewhere').get, both(REFUSED), 'before: from elsewhere')
      await begin(served, t, byFingerprint(proxy))
      await check(t, kept.get, both(REFUSED), 'kept')
      await check(t, open('the proxy').get, both(REFUSED), 'new')
      await check(t, next.get, both(all(ofNeighbour)), 'another client')
      t.equal(kept.session.closed, false, 'the connection of the proxy goes on, since it may be believed again')
    })
  }
})

t.test('a proxy that was not believed is believed again, on the connection that it has', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const { get } = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  await check(t, get, BELIEVED, 'at first')
  for (const [without, withIt] of [
    [async () => await served.change(documentWith()), async () => await served.change(documentWith({}))],
    [async () => await served.revoke(proxy), async () => await served.revoke()]
  ] as const) {
    await without()
    await check(t, get, both(REFUSED), 'not any more')
    await withIt()
    await check(t, get, BELIEVED, 'again')
  }
})

t.test('what a proxy of an earlier document had is never a visitor\'s certificate, on new connections neither', async (t) => {
  t.testdir({})
  const served = await serving(t)
  await served.change(documentWith({ certificates: byFingerprint(renewed) }))
  await served.change(documentWith())
  for (const identity of [proxy, renewed]) {
    const { get } = await connectWire(t, { port: served.port, ca: mesh.cert, cert: identity.cert, key: identity.key })
    await check(t, get, both(REFUSED), identity.name)
  }
  const { get } = await connectWire(t, { port: served.port, ...tlsOf('another client of the same CA') })
  await check(t, get, both(all(ofNeighbour)), 'nobody else notices')
})

t.test('a certificate that becomes a proxy\'s is none of a client\'s any more, on the connection that it has', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const { get } = await connectWire(t, { port: served.port, ca: mesh.cert, cert: renewed.cert, key: renewed.key })
  t.match(shown((await get('/mtls', SAYS['with a certificate']))!), { secure: true, value: 'Edge', client: null }, 'a client like any other')
  await served.change(documentWith({ certificates: byFingerprint(proxy, renewed) }))
  await check(t, get, BELIEVED, 'a proxy')
})

t.test('a self-made certificate with the name of a proxy is no proxy\'s word, and no client\'s certificate', async (t) => {
  t.testdir({})
  const named = await serving(t, { document: documentWith({ certificates: bySan }) })
  const get: Get = async (path, headers) => await (await connectWire(t, { port: named.port, ca: mesh.cert, cert: imitation.cert, key: imitation.key })).get(path, headers)
  await check(t, get, both(REFUSED), 'known by name')
  t.match(named.log.find(({ code }) => code === 'FST_HTTP_SECURITY_TLS_REQUIRED')?.ignored, /because no client CA has issued it; "edge"/)

  const pinned = await serving(t)
  const stranger = await connectWire(t, { port: pinned.port, ca: mesh.cert, cert: imitation.cert, key: imitation.key })
  t.strictSame(shown((await stranger.get('/tls', SAYS['with a certificate']))!), { secure: true, ...nothing, isPresent: true }, 'where only a fingerprint counts, its bearer is a client without a valid certificate')

  const next = await connectWire(t, { port: named.port, ca: mesh.cert, cert: renewed.cert, key: renewed.key })
  await check(t, next.get, BELIEVED, 'a renewed certificate of its CA is the proxy\'s')
})

const webSocketOptions = (visitor: Visitor): ConnectionOptions => ({ ...tlsOf('the proxy'), headers: SAYS[visitor] } as ConnectionOptions)

/** What has come of an answer, and whether that was all. */
async function begin ({ port }: Served, path: string, peer: Peer, headers: Record<string, string>) {
  const request = https.get({ host: '127.0.0.1', port, path, agent: false, headers, ...reused(tlsOf(peer)) } as https.RequestOptions)
  const [response] = await once(request, 'response') as [IncomingMessage]
  const answer = { body: '', state: 'under way' }
  response.setEncoding('utf8').on('data', (chunk: string) => { answer.body += chunk }).on('error', () => {})
  response.on('close', () => { answer.state = response.complete ? 'complete' : 'cut off' })
  return answer
}

/** Waits until all that goes on has been judged again: what an insecure peer has open ends then. */
async function looked (t: Test, { app, port }: Served, insecure: ConnectionOptions): Promise<void> {
  const socket = await openSocket(t, `wss://127.0.0.1:${port}/live/none`, insecure)
  const closed = once(socket, 'close')
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  await closed
  app.httpSecurity.enforce({ environment: {} })
}

t.test('WebSockets through a proxy end with it, at once, and nobody else\'s do', async (t) => {
  for (const [state, { begin }] of Object.entries(STATES)) {
    if (state === 'expired') continue
    await t.test(state, async (t) => {
      t.testdir({})
      const served = await serving(t)
      const open = async (level: string, options: ConnectionOptions): Promise<WebSocket> => await openSocket(t, `wss://127.0.0.1:${served.port}/live/${level}`, options)
      const ended = await Promise.all([open('tls', webSocketOptions('without one')), open('tls', webSocketOptions('with a certificate')), open('mtls', webSocketOptions('with a certificate'))])
      const going = await Promise.all([open('none', webSocketOptions('without one')), open('mtls', tlsOf('another client of the same CA')), open('tls', tlsOf('no certificate'))])
      for (const socket of [...ended, ...going]) t.equal(await echoed(socket), 'hello')
      const closed = Promise.all(ended.map(async (socket) => await once(socket, 'close')))
      await begin(served, t, byFingerprint(proxy))
      await closed
      for (const socket of going) t.equal(await echoed(socket), 'hello', 'goes on')
      await t.rejects(open('tls', webSocketOptions('without one')), 'nor does another one open')
    })
  }
})

t.test('a WebSocket ends when the certificate of its proxy ends', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const socket = await openSocket(t, `wss://127.0.0.1:${served.port}/live/tls`, webSocketOptions('without one'))
  const closed = once(socket, 'close')
  const now = Date.now
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 31 * DAY
  await closed
})

t.test('an answer that takes long is ended ten seconds after the proxy has ceased to be believed', async (t) => {
  const clock = moveClock(t)
  t.testdir({})
  const served = await serving(t)
  const [one, none] = [SAYS['with a certificate'], SAYS['without one']]
  const ended = [await begin(served, '/slow/tls', 'the proxy', none), await begin(served, '/slow/mtls', 'the proxy', one)]
  const going = [await begin(served, '/slow/none', 'the proxy', none), await begin(served, '/slow/tls', 'no certificate', none), await begin(served, '/slow/mtls', 'another client of the same CA', none)]
  t.ok(await until(() => served.gates.length === 5))
  await looked(t, served, tlsOf('the proxy, from elsewhere'))
  clock.advance(60_000)
  await looked(t, served, tlsOf('the proxy, from elsewhere'))
  t.strictSame(ended.map(({ state }) => state), ['under way', 'under way'], 'while it is believed')
  await served.change(documentWith())
  t.ok(await until(() => { clock.advance(100); return ended.every(({ state }) => state === 'cut off') }))
  for (const open of served.gates) open()
  t.ok(await until(() => going.every(({ state }) => state === 'complete')), 'those of others are finished')
  t.match(JSON.parse(going[2]!.body.replace('begun ', '')), { after: { secure: true, ...ofNeighbour }, isAborted: false })
})

t.test('an answer that takes long ends with the certificate of the visitor, also where a route without one has led to it', async (t) => {
  const clock = moveClock(t)
  t.testdir({})
  const served = await serving(t)
  const short = await issue(partners, { subject: 'CN=Joe', days: [-1, 10] })
  const headers = { 'x-forwarded-proto': 'https', 'client-cert': written.rfc9440(short.cert) }
  const ended = [await begin(served, '/slow/mtls', 'the proxy', headers), await begin(served, '/deep/leads', 'the proxy', headers)]
  const going = await begin(served, '/slow/tls', 'the proxy', headers)
  clock.advance(11 * DAY)
  t.ok(await until(() => { clock.advance(100); return ended.every(({ state }) => state === 'cut off') }))
  t.ok(await until(() => served.gates.length === 3))
  for (const open of served.gates) open()
  t.ok(await until(() => going.state === 'complete'), 'at tls, no certificate was asked for')
})

t.test('a request that is under way when its proxy ceases to be believed is insecure from then on, and its certificate does not count', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const wire = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  const answer = ask({ port: served.port, path: '/slow/mtls', headers: SAYS['with a certificate'], tls: tlsOf('the proxy') })
  t.ok(await until(() => served.gates.length === 1))
  // This one has passed the first check, and waits for its body
  let began = 0
  served.app.server.on('request', () => { began++ })
  const posted = wire.send(`POST /writers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n${Object.entries(SAYS['with a certificate']).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n{`)
  t.ok(await until(() => began === 1))
  await served.change(documentWith())
  for (const open of served.gates) open()
  const { before, after } = JSON.parse((await answer).body.replace('begun ', '')) as Record<'before' | 'after', object>
  t.strictSame(before, { secure: true, ...ofJane })
  t.strictSame(after, { secure: false, ...nothing, isPresent: true })
  wire.socket.write('}')
  t.equal(shown((await posted)!), '403 CERTIFICATE_REQUIRED')
})

t.test('while the revocation of its certificate is not known, a proxy is not believed, and nothing waits for that; what was admitted goes on', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  t.testdir({})
  const made = make({ issuer: mesh.made, subject: 'CN=Edge', days: long, extensions: { access: responder(web.url('/edge')), san: alternatives(names.dns(EDGE)) } })
  const held: Array<(status: 'good' | 'revoked') => void> = []
  web.replies.set('/edge', (_body, response) => { held.push((status) => response.end(ocspResponse({ certificate: made, issuer: mesh.made, status, nextUpdate: HOUR }))); return undefined })
  const served = await serving(t, { document: documentWith({ certificates: bySan }), clientCertificates: { crl: undefined, ocsp: true, allow: [`127.0.0.1:${web.port}`] } })
  const identity = { ca: mesh.cert, cert: made.pem, key: made.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
  const { get } = await connectWire(t, { port: served.port, ...identity })
  await check(t, get, both(REFUSED), 'before it is known')
  t.match(served.log.find(({ ignored }) => ignored !== undefined)?.ignored, /because its revocation is not known yet; "edge"/)
  const answer = async (status: 'good' | 'revoked'): Promise<void> => {
    t.ok(await until(() => held.length > 0))
    for (const reply of held.splice(0)) reply(status)
  }
  await answer('good')
  t.ok(await until(async () => (await get('/tls', SAYS['without one']))!.status === 200))
  await check(t, get, BELIEVED, 'once it is')
  const socket = await openSocket(t, `wss://127.0.0.1:${served.port}/live/mtls`, { ...identity, headers: SAYS['with a certificate'] } as ConnectionOptions)
  clock.advance(2 * HOUR)
  await check(t, get, both(REFUSED), 'what was known has ended')
  await looked(t, served, { ca: mesh.cert, cert: imitation.cert, key: imitation.key })
  t.equal(await echoed(socket), 'hello', 'what was admitted goes on')
  const closed = once(socket, 'close')
  await answer('revoked')
  await closed
  await check(t, get, both(REFUSED), 'revoked')
})

t.test('while it is not known who has issued its certificate, a proxy that is known by that is not believed', async (t) => {
  const web = await serveWeb(t)
  t.testdir({})
  const caOf = (subject: string, issuer?: Made, more: object = {}): Made => make({ ca: true, subject, days: long, ...issuer && { issuer }, ...more })
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a, { extensions: { access: responder(web.url('/byA')) } })
  const byB = caOf('CN=Shared', b, { like: byA, extensions: { access: responder(web.url('/byB')) } })
  const made = make({ issuer: byA, subject: 'CN=Edge', days: long, extensions: { access: responder(web.url('/edge')), san: alternatives(names.dns(EDGE)) } })
  web.replies.set('/edge', () => ocspResponse({ certificate: made, issuer: byA }))
  web.replies.set('/byA', () => ocspResponse({ certificate: byA, issuer: a }))
  let isHeld = true
  const held: Array<() => void> = []
  web.replies.set('/byB', (_body, response) => {
    const bytes = ocspResponse({ certificate: byB, issuer: b })
    if (isHeld) held.push(() => response.end(bytes))
    return isHeld ? undefined : bytes
  })
  const clientCertificates = { ca: { a: a.pem, b: b.pem }, crl: undefined, ocsp: true, allow: [`127.0.0.1:${web.port}`] }
  const bySanOf = (issuedBy: string): ClientDefinition['certificates'] => [{ san: `DNS:${EDGE}`, issuedBy }]
  const served = await serving(t, { document: documentWith({ certificates: bySanOf('b') }), clientCertificates })
  const suspending = await serving(t, { trust: [fromHere, { client: 'other', from: '127.0.0.1' }], document: documentWith({ certificates: bySanOf('a') }, { other: { suspended: true, certificates: bySanOf('b') } }), clientCertificates })
  const identity = { ca: mesh.cert, cert: made.pem + byA.pem + byB.pem, key: made.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
  const [first, second] = [await connectWire(t, { port: served.port, ...identity }), await connectWire(t, { port: suspending.port, ...identity })]
  for (const [{ get }, { log }] of [[first, served], [second, suspending]] as const) {
    t.ok(await until(async () => {
      await get('/tls', SAYS['without one'])
      return log.some(({ ignored }) => /because it is not known yet who has issued it/.test(String(ignored)))
    }))
    await check(t, get, both(REFUSED), 'before it is known')
  }
  isHeld = false
  for (const go of held) go()
  t.ok(await until(async () => (await first.get('/tls', SAYS['without one']))!.status === 200))
  await check(t, first.get, BELIEVED, 'once it is')
  t.ok(await until(async () => {
    await second.get('/tls', SAYS['without one'])
    return suspending.log.some(({ ignored }) => /because the client is suspended/.test(String(ignored)))
  }))
  await check(t, second.get, both(REFUSED), 'and suspended by it')
})

t.test('items of a list are alternatives; an address that is trusted needs no certificate', async (t) => {
  t.testdir({})
  const served = await serving(t, { trust: ['127.0.0.3', fromHere, { client: 'neighbour', from: ['127.0.0.4', '127.0.0.5'] }] })
  const from = async (localAddress: string, identity?: Identity): Promise<Get> => (await connectWire(t, { port: served.port, ca: mesh.cert, localAddress, ...identity && { cert: identity.cert, key: identity.key } } as ConnectionOptions)).get
  await check(t, await from('127.0.0.1', proxy), BELIEVED, 'by its certificate')
  await check(t, await from('127.0.0.3'), BELIEVED, 'by its address')
  await check(t, await from('127.0.0.3', imitation), BELIEVED, 'by its address, whatever its certificate')
  await check(t, await from('127.0.0.5', neighbour), BELIEVED, 'another one')
  await check(t, await from('127.0.0.1', neighbour), both(REFUSED), 'from the address of another one')
  await check(t, await from('127.0.0.4', proxy), both(REFUSED), 'and the other way round')
  await served.change(documentWith({ suspended: true }))
  await check(t, await from('127.0.0.3', proxy), BELIEVED, 'by its address, though its certificate counts for nothing')
})

t.test('a certificate of a proxy that another proxy forwards is nobody\'s', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const { get } = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  const headers = { 'x-forwarded-proto': 'https', 'client-cert': written.rfc9440(proxy.cert) }
  for (const level of LEVELS) t.strictSame(shown((await get(`/${level}`, headers))!), ANONYMOUS[level])
  t.match(served.log.find(({ code }) => code === 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED'), { forwarded: 'the certificate of a proxy (proxy.trust), which is never a client\'s' })
  t.strictSame(shown((await get('/writers', SAYS['with a certificate']))!), { secure: true, ...ofJane }, 'rules are about the visitor')
})

t.test('until the clients document has the proxy, nobody is it, and what may be its certificate is nobody\'s', async (t) => {
  t.testdir({})
  const served = await serving(t, { document: documentWith() })
  const warning = 'http-security: proxy.trust names the client "edge", which the clients document does not have; until it does, nobody is this proxy'
  const warnings = (): number => served.log.filter(({ level, msg }) => level === 40 && msg === warning).length
  t.equal(warnings(), 1)
  const get = new Map<Peer, Get>()
  for (const peer of Object.keys(PEERS)) get.set(peer, (await connectWire(t, { port: served.port, ...tlsOf(peer) })).get)
  await check(t, get.get('the proxy')!, both(REFUSED), 'the proxy')
  await check(t, get.get('another client of the same CA')!, both(REFUSED), 'another client, from there')
  await check(t, get.get('no certificate')!, both(ANONYMOUS), 'whoever has none')
  t.strictSame(shown((await get.get('the proxy, from elsewhere')!('/tls', {}))!), { secure: true, ...nothing, isPresent: true, isValid: true, value: 'Edge', certificate: proxy.certificate.subject }, 'nobody knows it, elsewhere')
  t.match(served.log.find(({ ignored }) => ignored !== undefined)?.ignored, /because the clients document has no such client; "edge" in proxy\.trust, at 127\.0\.0\.1$/)
  await served.change(documentWith({}))
  await check(t, get.get('the proxy')!, BELIEVED, 'the proxy, on the same connection')
  await check(t, get.get('another client of the same CA')!, both(all(ofNeighbour)), 'another client')
  await check(t, get.get('the proxy, from elsewhere')!, both(REFUSED), 'from elsewhere')
  await served.change(documentWith())
  t.equal(warnings(), 2, 'and when it is taken out')
  await check(t, get.get('another client of the same CA')!, both(all(ofNeighbour)), 'which is nothing to others any more')
})

t.test('where certificates are only described, that of a proxy in front of another one may not be told from a visitor\'s: the log says so', async (t) => {
  t.testdir({})
  const two = [fromHere, { client: 'neighbour', from: '127.0.0.1' }]
  const dn = { header: 'x-dn', encoding: 'dn', verified: 'presence' } as const
  for (const [trust, certificate, expected] of [
    [two, 'istio', /outer one counts as a visitor's unless the clients document has it by fingerprint256 or a URI$/], [two, { ...dn, fingerprint: 'x-sha256' }, /unless the clients document has it by fingerprint256$/],
    [two, dn, /and cannot be told from one; have certificates forwarded whole, or with a fingerprint$/], [fromHere, dn, undefined], [two, 'rfc9440', undefined]
  ] as Array<[Serving['trust'], Serving['certificate'], RegExp | undefined]>) {
    const { log } = await serving(t, { trust, certificate })
    const [warning] = log.filter(({ level, msg }) => level === 40 && msg.includes('in front of one another'))
    if (expected === undefined) t.equal(warning, undefined)
    else t.match(warning?.msg, expected)
  }
})

t.test('an entry of a proxy that others could match makes the document bad: at boot, and later', async (t) => {
  t.testdir({})
  const wrong: Array<ClientDefinition['certificates'][number]> = [{ san: `DNS:${EDGE}` }, { subject: { CN: 'Edge' }, issuedBy: 'mesh' }, { issuedBy: 'mesh' }, { subject: { CN: 'Edge' } }]
  for (const entry of wrong) {
    await t.rejects(serving(t, { document: documentWith({ certificates: [...byFingerprint(proxy), entry] as ClientDefinition['certificates'] }) }), {
      code: 'FST_HTTP_SECURITY_INVALID_CLIENTS',
      message: 'clients: clients: edge: certificates: 1: needs fingerprint256, or san with issuedBy, because this client is a proxy (proxy.trust), which may say of any visitor who it is'
    }, JSON.stringify(entry))
  }
  await t.rejects(serving(t, { document: documentWith({ certificates: [{ san: 'DNS:a.test', issuedBy: 'partners' }] }) }), { code: 'FST_HTTP_SECURITY_INVALID_CLIENTS', message: /edge: certificates: 0: issuedBy: "partners" is not a label of client CAs; allowed: "mesh"/ })
  const served = await serving(t)
  const { get } = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  served.put(documentWith({ certificates: [wrong[0]!] }))
  t.ok(await until(() => served.log.some(({ level, msg }) => level === 50 && /the clients were not changed.*edge: certificates: 0: needs fingerprint256/.test(msg))))
  await check(t, get, BELIEVED, 'the last good one stays')
})

t.test('over a Unix socket', async (t) => {
  const dir = t.testdir({})
  const log: LogLine[] = []
  const listen = async (edge: Partial<ClientDefinition>, socketPath: string): Promise<string> => {
    const app = Fastify({ logger: keepLog(log), https: askingServer({ ca: mesh, server }), forceCloseConnections: true } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, { clients: documentWith(edge), proxy: { trust: { client: 'edge', from: 'unix' }, certificate: 'rfc9440' } })
    for (const level of LEVELS) app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => seen(request))
    await app.listen({ path: socketPath })
    return socketPath
  }
  const [socketPath, suspended] = [await listen({}, join(dir, 'app.sock')), await listen({ suspended: true }, join(dir, 'suspended.sock'))]
  const as = (identity: Identity, at = socketPath): Get => async (path, headers) => await new Promise((resolve, reject) => {
    https.get({ socketPath: at, path, headers, agent: false, servername: 'localhost', ca: mesh.cert, cert: identity.cert, key: identity.key }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => resolve({ status: response.statusCode!, body }))
    }).on('error', reject)
  })
  await check(t, as(proxy), BELIEVED, 'the proxy')
  await check(t, as(neighbour), both(REFUSED), 'another client: who comes over a Unix socket has no address, and is never direct')
  await check(t, as(proxy, suspended), both(REFUSED), 'a suspended one')
  t.match(log.find(({ ignored }) => /suspended/.test(String(ignored))), { ignored: 'the certificate of a proxy, because the client is suspended; "edge" in proxy.trust, at no address' })
})

t.test('on a server of Node\'s own options, its verdict and the dates decide', async (t) => {
  const boot = async (certificates: ClientDefinition['certificates'], ca = mesh): Promise<number> => {
    const app = Fastify({ https: { ...askingServer({ ca, server }), key: server.key, cert: server.cert }, forceCloseConnections: true } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, { clients: documentWith({ certificates }), proxy: { trust: fromHere, certificate: 'rfc9440' } })
    for (const level of LEVELS) app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => seen(request))
    return await listenOnFreePort(t, app)
  }
  const port = await boot(byFingerprint(proxy))
  const { get } = await connectWire(t, { port, ...tlsOf('the proxy') })
  await check(t, get, BELIEVED, 'valid')
  await check(t, (await connectWire(t, { port: await boot(byFingerprint(proxy), partners), ...tlsOf('the proxy') })).get, both(REFUSED), 'of another CA')
  await t.rejects(boot(bySan), { code: 'FST_HTTP_SECURITY_INVALID_CLIENTS', message: /edge: certificates: 0: issuedBy: "mesh" can never be known: the server was not made with enableTls/ })
  const now = Date.now
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 31 * DAY
  await check(t, get, both(REFUSED), 'expired')
})

t.test('what can never hold is an error at boot', async (t) => {
  const boot = async (options: HttpSecurityOptions, fastify: object = {}): Promise<void> => {
    const app = Fastify(fastify) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, options)
    app.get('/', { httpSecurity: 'none' }, async () => '')
    await app.ready()
  }
  const options: HttpSecurityOptions = { clients: documentWith({}), proxy: { trust: ['10.0.0.1', { client: 'edge', from: ['10.0.0.0/8', 'loopback'] }] } }
  await t.rejects(boot({ proxy: options.proxy }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /proxy: trust: client 'edge' is nobody: the option clients is missing/ })
  for (const [trust, message] of [
    [{ client: 'edge' }, /proxy: trust: from is missing/],
    [{ from: '10.0.0.1' }, /proxy: trust: client is missing/],
    [{ client: 'edge', from: [] }, /proxy: trust: client 'edge': from: \[\] is not allowed \(nobody is named\)/],
    [{ client: 'edge', from: '0.0.0.0/0' }, /proxy: trust: client 'edge': from: '0\.0\.0\.0\/0' is not allowed/],
    [[{ client: '__proto__', from: 'loopback' }], /proxy: trust: client: '__proto__' is not allowed; allowed: the name of a client/],
    [['loopback', { client: 'edge', from: 'loopback', hops: 1 }], /proxy: trust: 1: unknown option 'hops'; known are client, from/],
    [[], /proxy: trust: \[\] is not allowed \(nobody is named\)/]
  ] as const) await t.rejects(boot({ ...options, proxy: { trust } as never }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
  const told = /proxy\.trust: no proxy can prove with certainty that it is the client 'edge': /
  await t.rejects(boot(options), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE', message: new RegExp(`${told.source}the server speaks plain HTTP`) })
  const https = askingServer({ ca: mesh, server })
  await t.rejects(boot(options, { https: { ...https, requestCert: false } }), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE', message: new RegExp(`${told.source}the server does not ask for client certificates`) })
  await t.rejects(boot(options, { https: { ...https, ca: undefined } }), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE', message: new RegExp(`${told.source}the server trusts no certificate authority of its own`) })
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key } })
  t.teardown(() => tls.close())
  await t.rejects(boot({ ...options, tls }, { https: tls.https }), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE', message: new RegExp(`${told.source}enableTls was given no clientCertificates`) })
  await boot(options, { https })
  await boot({ ...options, unsatisfiable: 'warn' })
})

t.test('a proxy is judged by the client CAs of the host that the request names', async (t) => {
  t.testdir({})
  const twoHosts = await issueServer(mesh, ['localhost', 'b.test'], { days: long })
  const served = await serving(t, { tls: { certificates: { cert: twoHosts.cert, key: twoHosts.key }, clientCertificates: { localhost: { ca: mesh.cert }, 'b.test': { ca: partners.cert } } } })
  const kept = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  await check(t, kept.get, BELIEVED, 'its host')
  const other = await kept.get('/tls', { ...SAYS['without one'], Host: 'b.test' })
  t.equal(shown(other!), '403 TLS_REQUIRED')
  t.not(other!.headers.connection, 'close', 'visitors, who name the host, do not have the proxy connect anew')
  t.match(served.log.find(({ ignored }) => ignored !== undefined)?.ignored, /because only another connection can tell whether it is valid/)
})

t.test('a proxy whose CA is added after it has connected connects anew: what OpenSSL has refused stays refused on its connection', async (t) => {
  const dir = t.testdir({ 'ca.pem': partners.cert })
  const served = await serving(t, { clientCertificates: { ca: join(dir, 'ca.pem'), crl: undefined } })
  const refusedBefore = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  const screen = await connectWire(t, { port: served.port, ...tlsOf('the proxy') })
  t.strictSame(shown((await refusedBefore.get('/none', {}))!), REFUSED.none)
  t.strictSame(shown((await screen.get('/none', {}))!), REFUSED.none)
  writeFileSync(join(dir, 'ca.pem'), partners.cert + mesh.cert)
  await served.tls.reload()
  const answer = await refusedBefore.get('/tls', SAYS['without one'])
  t.match([shown(answer!), answer!.headers.connection], ['403 TLS_REQUIRED', 'close'])
  const redirect = await screen.get('/screen', SAYS['without one'])
  t.match([redirect!.status, redirect!.headers.connection], [308, 'close'])
  t.match(served.log.find(({ msg }) => msg.endsWith('request redirected')), { ignored: /^the certificate of a proxy, because / }, 'a redirect that may be endless says why')
  await check(t, (await connectWire(t, { port: served.port, ...tlsOf('the proxy') })).get, BELIEVED, 'the next one')
})

t.test('a certificate that is for servers only proves nothing', async (t) => {
  t.testdir({})
  const wrong = await issueServer(mesh, [EDGE])
  const served = await serving(t, { document: documentWith({ certificates: byFingerprint(wrong) }) })
  const { get } = await connectWire(t, { port: served.port, ca: mesh.cert, cert: wrong.cert, key: wrong.key })
  t.strictSame(shown((await get('/tls', SAYS['without one']))!), '403 TLS_REQUIRED')
  t.match(served.log.find(({ ignored }) => ignored !== undefined)?.ignored, /because it is not valid \(INVALID_PURPOSE: its extended key usage/)
})

t.test('unit tests name the proxy', async (t) => {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { clients: documentWith({ certificates: bySan }), proxy: { trust: { client: 'edge', from: '10.0.0.0/8' }, certificate: 'rfc9440' } })
  for (const level of LEVELS) app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => seen(request))
  const as = (client: string, remoteAddress?: string): Get => async (url, headers) => {
    const { statusCode, body } = await inject(app, { url, headers, client, remoteAddress })
    return { status: statusCode, body }
  }
  await check(t, as('edge', '10.1.2.3'), BELIEVED, 'the proxy')
  await check(t, as('edge'), both(REFUSED), 'from elsewhere')
  t.match(shown((await as('neighbour', '10.1.2.3')('/mtls', SAYS['with a certificate']))!), { secure: true, client: 'neighbour', value: 'neighbour' }, 'another client')
})

t.test('a peer at the address of a proxy that forwards requests and does not prove itself is warned of, once for each certificate', async (t) => {
  t.testdir({})
  const served = await serving(t)
  const from = async (identity: Identity | undefined, localAddress: string): Promise<Get> => (await connectWire(t, { port: served.port, ca: mesh.cert, localAddress, ...identity && { cert: identity.cert, key: identity.key } } as ConnectionOptions)).get
  const warnings = (): string[] => served.log.filter(({ level }) => level === 40).map(({ msg }) => msg).filter((msg) => msg.includes('forwards requests'))
  for (const [identity, address, headers] of [[proxy, '127.0.0.1', { 'x-forwarded-proto': 'https' }], [neighbour, '127.0.0.1', {}], [neighbour, '127.0.0.2', { 'x-forwarded-proto': 'https' }]] as const) {
    t.equal((await (await from(identity, address))('/tls', headers))!.status, 200)
  }
  t.strictSame(warnings(), [])
  for (const [name, value] of [['x-forwarded-proto', 'https'], ['forwarded', 'proto=https'], ['x-forwarded-for', '192.0.2.1']] as const) {
    for (const identity of [neighbour, undefined]) t.equal((await (await from(identity, '127.0.0.1'))('/tls', { [name]: value }))!.status, 200)
  }
  t.strictSame(warnings(), [
    `http-security: 127.0.0.1, an address in proxy.trust, forwards requests with the certificate ${neighbour.certificate.fingerprint256}, which the clients document does not have as that of a proxy. If it is a proxy, all who come through it count as one client, over HTTPS and with that certificate; put it into the document`,
    'http-security: 127.0.0.1, an address in proxy.trust, forwards requests without a certificate. If it is a proxy, all who come through it count as one client, over HTTPS; have it present its certificate'
  ])
})
