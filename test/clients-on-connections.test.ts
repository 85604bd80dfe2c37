/**
 * Clients and rules over real connections: new, kept and resumed ones, HTTP/1.1, HTTP/2 and WebSockets, on sockets and in the
 * headers of a proxy, before and after the document changes.
 */
import t, { type Test } from 'tap'
import http2 from 'node:http2'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity, { type ClientsDocument, type HttpSecurityOptions } from '../lib/index.ts'
import { enableTls } from '../lib/tls/index.ts'
import { askHttp2, ask, type Answer, outcomeOf } from './fixtures/ask.ts'
import { reused } from './fixtures/context.ts'
import { written } from './fixtures/forward.ts'
import { type Authority, authority, issue, issueServer } from './fixtures/pki.ts'
import { type LogLine, keepLog, listenOnFreePort } from './fixtures/serve.ts'
import { until } from './fixtures/time.ts'
import { connectWire, echoed, openSocket } from './fixtures/wire.ts'

const [partners, staff] = await Promise.all([authority('Partners'), authority('Staff')])
const server = await issueServer(partners)
/** Below the root of staff, with the name of the partners' CA. */
const imitation = await issue(staff, { subject: 'CN=Partners', ca: true })
const chainOf = (leaf: Authority, ...issuers: Authority[]): Authority => ({ ...leaf, cert: leaf.cert + issuers.map(({ cert }) => cert).join('') })
const globex = await issue(partners, { subject: 'CN=orders, O=Globex' })
const people = {
  acme: await issue(partners, { subject: 'CN=orders, O=Acme' }),
  globex,
  jane: await issue(staff, { subject: 'CN=Jane' }),
  imitator: chainOf(await issue(imitation, { subject: 'CN=orders, O=Acme' }), imitation),
  'staff who calls itself Acme': await issue(staff, { subject: 'CN=orders, O=Acme' }),
  'a stranger': await issue(partners, { subject: 'CN=orders, O=Initech' })
}
type Person = keyof typeof people
const everyone = Object.keys(people) as Person[]

const isAcme = { subject: { O: 'Acme', CN: 'orders' }, issuedBy: 'partners' }
const before: ClientsDocument = {
  clients: {
    acme: { groups: ['writers'], certificates: [isAcme] },
    globex: { certificates: [{ fingerprint256: globex.certificate.fingerprint256 }] },
    jane: { groups: ['staff'], certificates: [{ subject: { CN: 'Jane' }, issuedBy: 'staff' }] }
  }
}
/** Acme is taken out, Globex may write, and Jane's certificate was replaced by another one. */
const after: ClientsDocument = {
  clients: {
    globex: { groups: ['writers'], certificates: before.clients.globex!.certificates },
    jane: { groups: ['staff'], certificates: [{ fingerprint256: 'ab'.repeat(32) }] }
  }
}

const rules = {
  '/any': undefined,
  '/acme': ['acme'],
  '/writers': [{ group: 'writers' }],
  '/partners': [{ issuedBy: 'partners' }],
  '/staff': [{ issuedBy: 'staff' }],
  '/issuer-name': [{ issuer: { CN: 'Partners' }, issuedBy: 'partners' }]
} as const
type Path = keyof typeof rules
const paths = Object.keys(rules) as Path[]

/** The rule in other words: whom each path admits. */
const ADMITTED: Record<'before' | 'after', Record<Path, readonly Person[]>> = {
  before: {
    '/any': everyone,
    '/acme': ['acme'],
    '/writers': ['acme'],
    '/partners': ['acme', 'globex', 'a stranger'],
    '/staff': ['jane', 'imitator', 'staff who calls itself Acme'],
    '/issuer-name': ['acme', 'globex', 'a stranger']
  },
  after: {
    '/any': everyone,
    '/acme': [],
    '/writers': ['globex'],
    '/partners': ['acme', 'globex', 'a stranger'],
    '/staff': ['jane', 'imitator', 'staff who calls itself Acme'],
    '/issuer-name': ['acme', 'globex', 'a stranger']
  }
}
const NAMES = { before: { acme: 'acme', globex: 'globex', jane: 'jane' }, after: { globex: 'globex' } } as Record<'before' | 'after', Partial<Record<Person, string>>>

function declare (app: FastifyInstance): void {
  for (const path of paths) {
    const httpSecurity = { level: 'mtls' as const, kind: 'rest' as const, ...rules[path] && { allow: rules[path] } }
    app.get(path, { httpSecurity }, async (request) => request.httpSecurity.client?.name ?? 'unknown')
    app.get(`${path}/live`, { httpSecurity, websocket: true } as object, ((socket: { on (event: string, listener: (data: unknown) => void): void, send (data: string): void }) => { socket.on('message', (data) => { socket.send(String(data)) }) }) as never)
  }
}

async function serving (t: Test, { http2 = false, ...options }: HttpSecurityOptions & { http2?: boolean } = {}) {
  let document = before
  let changed = (): void => {}
  const log: LogLine[] = []
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { partners: partners.cert, staff: staff.cert } } })
  t.teardown(() => tls.close())
  const app = Fastify({ logger: keepLog(log), forceCloseConnections: true, https: tls.https, ...http2 && { http2: true } } as never) as unknown as FastifyInstance
  await app.register(httpSecurity, { tls, clients: { load: async () => document, watch (listener: () => void) { changed = listener; return () => {} } }, ...options })
  await app.register(websocket)
  declare(app)
  const port = await listenOnFreePort(t, app)
  const full: boolean[] = []
  app.server.on('secureConnection', (socket: TLSSocket) => { full.push(!socket.isSessionReused()) })
  return {
    app,
    port,
    log,
    full,
    async change (): Promise<void> {
      const lines = log.length
      document = after
      changed()
      if (!await until(() => log.slice(lines).some(({ msg }) => msg === 'http-security: the clients have changed'))) throw new Error('the document is not in force')
    }
  }
}

const ofClient = (person: Person) => ({ ca: partners.cert, cert: people[person].cert, key: people[person].key })

type Asking = (path: Path) => Promise<Pick<Answer, 'status' | 'body'>>

function check (t: Test, phase: 'before' | 'after', person: Person, how: string, answers: ReadonlyArray<readonly [Path, Pick<Answer, 'status' | 'body'>]>): void {
  for (const [path, { status, body }] of answers) {
    const isAdmitted = ADMITTED[phase][path].includes(person)
    const text = status === 200 ? body : (JSON.parse(body) as { code: string }).code
    t.strictSame([status, text], isAdmitted ? [200, NAMES[phase][person] ?? 'unknown'] : [403, 'FST_HTTP_SECURITY_CERTIFICATE_NOT_ALLOWED'], `${phase} the change: ${person} at ${path}, ${how}`)
  }
}

async function all (asking: Asking) {
  const answers: Array<readonly [Path, Pick<Answer, 'status' | 'body'>]> = []
  for (const path of paths) answers.push([path, await asking(path)])
  return answers
}

t.test('who × rule × connection × before and after a change: as stated', async (t) => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const served = await serving(t)
    const kept = new Map<Person, https.Agent>()
    const askOver = (agent: https.Agent, person: Person): Asking => async (path) => await ask({ port: served.port, path, agent, tls: ofClient(person) })
    for (const phase of ['before', 'after'] as const) {
      for (const person of everyone) {
        const agent = kept.get(person) ?? new https.Agent({ keepAlive: true, maxSockets: 1, maxVersion: version, minVersion: version })
        kept.set(person, agent)
        t.teardown(() => agent.destroy())
        const handshakes = served.full.length
        check(t, phase, person, `${version}, kept`, await all(askOver(agent, person)))
        t.equal(served.full.length - handshakes, phase === 'before' ? 1 : 0, 'one connection for all of it, which goes on after the change')
        const resuming = new https.Agent({ keepAlive: false, maxVersion: version, minVersion: version })
        await askOver(resuming, person)('/any')
        const first = served.full.length
        check(t, phase, person, `${version}, resumed`, await all(askOver(resuming, person)))
        t.strictSame(served.full.slice(first), paths.map(() => false), 'each on a resumed session, with the leaf alone')
      }
      if (phase === 'before') await served.change()
    }
  }
})

t.test('the same over HTTP/2', async (t) => {
  const served = await serving(t, { http2: true })
  const sessions = new Map<Person, http2.ClientHttp2Session>()
  for (const phase of ['before', 'after'] as const) {
    for (const person of everyone) {
      if (!sessions.has(person)) {
        const session = http2.connect(`https://localhost:${served.port}`, reused(ofClient(person)))
        session.on('error', () => {})
        t.teardown(() => session.destroy())
        sessions.set(person, session)
      }
      check(t, phase, person, 'HTTP/2', await all(async (path) => await askHttp2(sessions.get(person)!, { ':path': path })))
    }
    if (phase === 'before') await served.change()
  }
  t.equal(served.full.length, everyone.length, 'on the connections of before')
})

t.test('the same where a proxy forwards certificates that are verified here', async (t) => {
  let document = before
  let changed = (): void => {}
  const app = Fastify() as unknown as FastifyInstance
  await app.register(httpSecurity, {
    clients: { load: async () => document, watch (listener: () => void) { changed = listener; return () => {} } },
    proxy: { trust: 'loopback', certificate: { header: 'x-client', encoding: 'rfc9440', verified: 'here' }, ca: { partners: partners.cert, staff: staff.cert } }
  })
  await app.register(websocket)
  declare(app)
  const port = await listenOnFreePort(t, app)
  const headersOf = (person: Person): Record<string, string> => {
    const chain: Record<string, string> = person === 'imitator' ? { 'client-cert-chain': written.rfc9440(imitation.cert) } : {}
    return { 'x-forwarded-proto': 'https', 'x-client': written.rfc9440(people[person].cert.slice(0, people[person].cert.indexOf('-----END CERTIFICATE-----') + 26)), ...chain }
  }
  for (const phase of ['before', 'after'] as const) {
    for (const time of ['first', 'again']) {
      for (const person of everyone) check(t, phase, person, `forwarded, ${time}`, await all(async (path) => await ask({ port, path, headers: headersOf(person) })))
    }
    document = after
    changed()
    if (phase === 'before') t.ok(await until(async () => (await ask({ port, path: '/acme', headers: headersOf('acme') })).status === 403))
  }
})

t.test('a change ends the WebSockets of those whom it takes away from, at once, and nobody else notices', async (t) => {
  const served = await serving(t)
  const open = async (person: Person, path: Path) => await openSocket(t, `wss://localhost:${served.port}${path}/live`, ofClient(person))
  const sockets = {
    ended: [await open('acme', '/acme'), await open('acme', '/writers')],
    kept: [await open('acme', '/any'), await open('acme', '/partners'), await open('globex', '/partners'), await open('jane', '/staff')]
  }
  t.teardown(() => { for (const socket of Object.values(sockets).flat()) socket.terminate() })
  const ended = Promise.all(sockets.ended.map(async (socket) => await new Promise<number>((resolve) => { socket.once('close', () => resolve(performance.now())) })))
  const kept = await connectWire(t, { port: served.port, ...ofClient('globex') })
  t.equal((await kept.get('/writers'))?.status, 403)
  const started = performance.now()
  await served.change()
  const times = await ended
  t.ok(Math.max(...times) - started < 2_000, 'at once')
  for (const socket of sockets.kept) t.equal(await echoed(socket), 'hello', 'goes on')
  t.equal((await kept.get('/writers'))?.status, 200, 'who may come now gets in on the connection that it had')
  t.equal(outcomeOf(await (await connectWire(t, { port: served.port, ...ofClient('acme') })).get('/writers')), '403 CERTIFICATE_NOT_ALLOWED')
  await t.rejects(open('acme', '/acme'), 'nor does a WebSocket open any more')
})

t.test('a new certificate beside the old one: a rotation without a gap', async (t) => {
  const next = await issue(partners, { subject: 'CN=orders, O=Globex' })
  const documents: ClientsDocument[] = [[globex], [globex, next], [next]].map((certificates) => ({ clients: { globex: { certificates: certificates.map(({ certificate }) => ({ fingerprint256: certificate.fingerprint256 })) } } }))
  let document = documents[0]!
  let changed = (): void => {}
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: partners.cert } })
  t.teardown(() => tls.close())
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log), https: tls.https, forceCloseConnections: true } as never) as unknown as FastifyInstance
  await app.register(httpSecurity, { tls, clients: { load: async () => document, watch (listener: () => void) { changed = listener; return () => {} } } })
  await app.register(websocket)
  app.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['globex'] } }, async () => 'hello')
  app.get('/live', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['globex'] }, websocket: true } as object, ((socket: { on (event: string, listener: (data: unknown) => void): void, send (data: string): void }) => { socket.on('message', (data) => { socket.send(String(data)) }) }) as never)
  const port = await listenOnFreePort(t, app)
  const of = ({ cert, key }: Authority) => ({ ca: partners.cert, cert, key })
  const old = await openSocket(t, `wss://localhost:${port}/live`, of(globex))
  t.teardown(() => old.terminate())
  const statuses = async (): Promise<number[]> => [(await ask({ port, path: '/', tls: of(globex) })).status, (await ask({ port, path: '/', tls: of(next) })).status]
  t.strictSame(await statuses(), [200, 403])
  const use = async (at: number): Promise<void> => {
    const count = log.filter(({ msg }) => msg.endsWith('the clients have changed')).length
    document = documents[at]!
    changed()
    t.ok(await until(() => log.filter(({ msg }) => msg.endsWith('the clients have changed')).length > count))
  }
  await use(1)
  t.strictSame(await statuses(), [200, 200], 'both')
  t.equal(await echoed(old), 'hello')
  const closed = new Promise((resolve) => { old.once('close', resolve) })
  await use(2)
  await closed
  t.strictSame(await statuses(), [403, 200], 'the new one alone')
})

t.test('a label that can never be known is a boot error, in a rule and in the document; later, such a document is not taken', async (t) => {
  const rule = { allow: [{ issuedBy: 'partners' }] }
  const documentWith = (label: string): ClientsDocument => ({ clients: { acme: { certificates: [{ san: 'DNS:a.test', issuedBy: label }] } } })
  const boot = async (options: HttpSecurityOptions, fastify: object, allow?: typeof rule): Promise<void> => {
    const app = Fastify(fastify) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, options)
    app.get('/', { httpSecurity: { level: 'mtls', ...allow } }, async () => '')
    await app.ready()
  }
  const own = { https: { cert: server.cert, key: server.key, ca: partners.cert, requestCert: true, rejectUnauthorized: false } }
  const enabled = async () => {
    const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { staff: staff.cert } } })
    t.teardown(() => tls.close())
    return tls
  }
  const proxy = { trust: 'loopback', certificate: 'nginx' } as const
  const cases: Array<readonly [options: HttpSecurityOptions, fastify: object, message: string]> = [
    [{}, own, 'issuedBy: "partners" can never be known: the server was not made with enableTls'],
    [{ proxy }, {}, 'issuedBy: "partners" can never be known: the proxy verifies client certificates, and does not say by which of its CAs'],
    [{ proxy: { trust: 'loopback', certificate: 'caddy', ca: staff.cert } }, {}, 'issuedBy: "partners" is not a label of client CAs; no client CAs have a label here'],
    ...await Promise.all([enabled(), enabled()]).then((each) => each.map((tls) => [{ tls }, { https: tls.https }, 'issuedBy: "partners" is not a label of client CAs; allowed: "staff"'] as const))
  ]
  for (const [options, fastify, message] of cases.slice(0, 4)) await t.rejects(boot(options, fastify, rule), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: `httpSecurity of route GET, HEAD /: allow: 0: ${message}` }, message)
  for (const [options, fastify, message] of cases.filter((_, at) => at !== 3)) await t.rejects(boot({ ...options, clients: documentWith('partners') }, fastify), { code: 'FST_HTTP_SECURITY_INVALID_CLIENTS', message: `clients: clients: acme: certificates: 0: ${message}` }, message)

  let document = documentWith('staff')
  let changed = (): void => {}
  const log: LogLine[] = []
  const tls = await enabled()
  const app = Fastify({ logger: keepLog(log), https: tls.https } as never) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, clients: { load: async () => document, watch (listener: () => void) { changed = listener; return () => {} } } })
  await app.ready()
  document = documentWith('partners')
  changed()
  t.ok(await until(() => log.some(({ msg }) => msg.includes('the clients were not changed, and the ones before stay in force: clients: clients: acme: certificates: 0: issuedBy: "partners" is not a label of client CAs; allowed: "staff"'))))
})

t.test('a connection may be used for any number of routes, each with a rule of its own', async (t) => {
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: partners.cert } })
  t.teardown(() => tls.close())
  const app = Fastify({ https: tls.https, forceCloseConnections: true } as never) as unknown as FastifyInstance
  await app.register(httpSecurity, { tls, clients: { clients: { acme: { certificates: [{ subject: { O: 'Acme' } }] } } } })
  for (let n = 0; n < 100; n++) app.get(`/${n}`, { httpSecurity: { level: 'mtls', kind: 'rest', allow: [n % 3 === 0 ? 'acme' : `other ${n}`] } }, async () => 'in')
  const wire = await connectWire(t, { port: await listenOnFreePort(t, app), ...ofClient('acme') })
  for (const round of [1, 2]) {
    for (let n = 0; n < 100; n++) t.equal((await wire.get(`/${n}`))?.status, n % 3 === 0 ? 200 : 403, `/${n}, round ${round}`)
  }
})
