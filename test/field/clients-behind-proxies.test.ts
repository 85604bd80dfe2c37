/**
 * Clients and rules behind real proxies: whose connections to the app are kept, and carry the requests of many clients. Where the
 * app verifies certificates itself (Caddy), it also knows by which CAs; where it takes the word of the proxy, it does not.
 */
import t, { type Test } from 'tap'
import http2 from 'node:http2'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity, { type Allowed, type ClientsDocument, type HttpSecurityOptions } from '../../lib/index.ts'
import { ask, askHttp2, type Answer, outcomeOf } from '../fixtures/ask.ts'
import { reused } from '../fixtures/context.ts'
import { type Authority, authority, issue, issueServer, revocationList } from '../fixtures/pki.ts'
import { type ProxyKind, proxyKinds, startProxy, withoutProxy } from '../fixtures/proxies.ts'
import { keepLog, listenOnFreePort, type LogLine } from '../fixtures/serve.ts'
import { until } from '../fixtures/time.ts'
import { echoed, openSocket } from '../fixtures/wire.ts'

const [partners, staff] = await Promise.all([authority('Partners'), authority('Staff')])
const server = await issueServer(partners)
/** Below the root of staff, with the name of the partners' CA. */
const imitation = await issue(staff, { subject: 'CN=Partners', ca: true })
const chained = (leaf: Authority): Authority => ({ ...leaf, cert: leaf.cert + imitation.cert })
const globex = await issue(partners, { subject: 'CN=orders, O=Globex' })
const people = {
  acme: await issue(partners, { subject: 'CN=orders, O=Acme' }),
  globex,
  jane: await issue(staff, { subject: 'CN=Jane' }),
  imitator: chained(await issue(imitation, { subject: 'CN=orders, O=Acme' })),
  'staff who calls itself Acme': await issue(staff, { subject: 'CN=orders, O=Acme' }),
  'a stranger': await issue(partners, { subject: 'CN=orders, O=Initech' })
}
type Person = keyof typeof people
const everyone = Object.keys(people) as Person[]

/** Two CAs have one name: each list says by which key it is. */
const lists = await Promise.all([partners, staff, imitation].map(async (ca) => await revocationList(ca, [], undefined, true)))
const proxyPki = { server, ca: { cert: partners.cert + staff.cert }, crl: lists.join('') }
const ca = { partners: partners.cert, staff: staff.cert + imitation.cert }

/** Who has verified a certificate: the proxy, which forwards its verdict, or the app. */
type By = 'the proxy' | 'the app'

interface Behind {
  readonly by: By
  readonly proxy: NonNullable<HttpSecurityOptions['proxy']>
  /** Has the proxy keep few connections to the app, and trust both roots. */
  readonly config: (text: string) => string
}

const behind: Record<ProxyKind, Behind> = {
  nginx: { by: 'the proxy', proxy: { trust: 'loopback', certificate: 'nginx' }, config: instead('keepalive 16;', 'keepalive 1;') },
  haproxy: { by: 'the proxy', proxy: { trust: 'loopback', certificate: 'haproxy' }, config: instead('timeout connect 5s', 'timeout connect 5s\n    http-reuse always') },
  apache: { by: 'the proxy', proxy: { trust: 'loopback', certificate: 'apache' }, config: (text) => text },
  caddy: { by: 'the app', proxy: { trust: 'loopback', certificate: 'caddy', ca }, config: instead('trusted_ca_cert_file /etc/ssl/partners-ca.pem', 'trusted_ca_cert_file /etc/ssl/partners-ca.pem\n\t\t\ttrusted_ca_cert_file DIR/staff.pem') }
}

/** A replacement that has to happen. */
function instead (from: string, to: string): (text: string) => string {
  return (text) => {
    if (!text.includes(from)) throw new Error(`no ${from}`)
    return text.replace(from, to)
  }
}

/** What says that somebody is of the partners' CA: without labels, its name, which others can have. */
const ofPartners: Record<By, object> = { 'the proxy': { issuer: { CN: 'Partners' } }, 'the app': { issuedBy: 'partners' } }
const ofStaff: Record<By, object> = { 'the proxy': { issuer: { CN: 'Staff' } }, 'the app': { issuedBy: 'staff' } }

const documents = (by: By): Record<'before' | 'after', ClientsDocument> => {
  const before = {
    acme: { groups: ['writers'], certificates: [{ subject: { O: 'Acme', CN: 'orders' }, ...ofPartners[by] }] },
    globex: { certificates: [{ fingerprint256: globex.certificate.fingerprint256 }] },
    jane: { groups: ['staff'], certificates: [{ subject: { CN: 'Jane' }, ...ofStaff[by] }] }
  }
  // Acme is taken out, Globex may write, and Jane's certificate was replaced by another one.
  const after = {
    globex: { groups: ['writers'], certificates: before.globex.certificates },
    jane: { groups: ['staff'], certificates: [{ fingerprint256: 'ab'.repeat(32) }] }
  }
  return { before: { clients: before }, after: { clients: after } }
}

const rulesOf = (by: By) => ({
  '/any': undefined,
  '/acme': ['acme'],
  '/writers': [{ group: 'writers' }],
  '/partners': [ofPartners[by]],
  '/staff': [ofStaff[by]]
} as Record<Path, readonly Allowed[] | undefined>)
type Path = '/any' | '/acme' | '/writers' | '/partners' | '/staff'
const paths: readonly Path[] = ['/any', '/acme', '/writers', '/partners', '/staff']

/** Whom each path admits. */
const ADMITTED: Record<By, Record<'before' | 'after', Record<Path, readonly Person[]>>> = {
  'the app': {
    before: {
      '/any': everyone,
      '/acme': ['acme'],
      '/writers': ['acme'],
      '/partners': ['acme', 'globex', 'a stranger'],
      '/staff': ['jane', 'imitator', 'staff who calls itself Acme']
    },
    after: {
      '/any': everyone,
      '/acme': [],
      '/writers': ['globex'],
      '/partners': ['acme', 'globex', 'a stranger'],
      '/staff': ['jane', 'imitator', 'staff who calls itself Acme']
    }
  },
  // Whoever has the name counts: it is all that is known.
  'the proxy': {
    before: {
      '/any': everyone,
      '/acme': ['acme', 'imitator'],
      '/writers': ['acme', 'imitator'],
      '/partners': ['acme', 'globex', 'a stranger', 'imitator'],
      '/staff': ['jane', 'staff who calls itself Acme']
    },
    after: {
      '/any': everyone,
      '/acme': [],
      '/writers': ['globex'],
      '/partners': ['acme', 'globex', 'a stranger', 'imitator'],
      '/staff': ['jane', 'staff who calls itself Acme']
    }
  }
}
const NAMES: Record<By, Record<'before' | 'after', Partial<Record<Person, string>>>> = {
  'the app': { before: { acme: 'acme', globex: 'globex', jane: 'jane' }, after: { globex: 'globex' } },
  'the proxy': { before: { acme: 'acme', imitator: 'acme', globex: 'globex', jane: 'jane' }, after: { globex: 'globex' } }
}

async function serving (t: Test, kind: ProxyKind) {
  const { by, proxy, config } = behind[kind]
  const log: LogLine[] = []
  let document = documents(by).before
  let changed = (): void => {}
  const app = Fastify({ logger: keepLog(log), forceCloseConnections: true }) as unknown as FastifyInstance
  await app.register(httpSecurity, { proxy, clients: { load: async () => document, watch (listener: () => void) { changed = listener; return () => {} } } })
  await app.register(websocket)
  const rules = rulesOf(by)
  for (const path of paths) {
    const httpSecurity = { level: 'mtls' as const, kind: 'rest' as const, ...rules[path] && { allow: rules[path] } }
    app.get(path, { httpSecurity }, async (request) => request.httpSecurity.client?.name ?? 'unknown')
    app.get(`${path}/live`, { httpSecurity, websocket: true }, (socket) => { socket.on('message', (data) => { socket.send(String(data)) }) })
  }
  /** Connections of the proxy, each with the certificates that it has carried. */
  const carried = new Map<unknown, Set<string>>()
  app.addHook('onRequest', async (request) => {
    const { socket } = request.raw
    if (!carried.has(socket)) carried.set(socket, new Set())
    carried.get(socket)!.add(request.clientCertificateGetDetails().cookie)
  })
  const upstream = await listenOnFreePort(t, app)
  const { https } = await startProxy(t, kind, { upstream, pki: proxyPki, config, files: { 'partners-ca.pem': kind === 'caddy' ? partners.cert : proxyPki.ca.cert, 'staff.pem': staff.cert } })
  return {
    by,
    https,
    carried,
    log,
    async use (value: ClientsDocument, message: RegExp): Promise<void> {
      const lines = log.length
      document = value
      changed()
      if (!await until(() => log.slice(lines).some(({ msg }) => message.test(msg)))) throw new Error(`no ${message}`)
    }
  }
}

const CHANGED = /the clients have changed$/
const ofClient = (person: Person) => ({ ca: partners.cert, servername: 'localhost', cert: people[person].cert, key: people[person].key })

function check (t: Test, by: By, phase: 'before' | 'after', person: Person, path: Path, { status, body }: Pick<Answer, 'status' | 'body'>, how: string): void {
  const isAdmitted = ADMITTED[by][phase][path].includes(person)
  const text = status === 200 ? body : outcomeOf({ status, body })
  t.strictSame([status, text], isAdmitted ? [200, NAMES[by][phase][person] ?? 'unknown'] : [403, '403 CERTIFICATE_NOT_ALLOWED'], `${phase} the change: ${person} at ${path}, ${how}`)
}

for (const kind of proxyKinds) {
  t.test(`${kind}: who × rule × before and after a change: as stated, on connections that carry many clients`, { skip: withoutProxy(kind) }, async (t) => {
    const served = await serving(t, kind)
    const { by, https } = served
    const sessions = new Map(everyone.map((person) => {
      const session = http2.connect(`https://localhost:${https}`, reused(ofClient(person)))
      session.on('error', () => {})
      t.teardown(() => session.destroy())
      return [person, session]
    }))
    for (const phase of ['before', 'after'] as const) {
      served.carried.clear()
      for (const round of [everyone, [...everyone].reverse()]) {
        for (const path of paths) {
          for (const person of round) check(t, by, phase, person, path, await ask({ port: https, path, headers: { host: 'localhost' }, tls: ofClient(person) }), 'one after the other')
        }
      }
      const most = Math.max(...[...served.carried.values()].map(({ size }) => size))
      // How many depends on how many connections the proxy keeps.
      t.ok(most > 1, `a connection has carried ${most} of ${everyone.length} clients`)
      await Promise.all(paths.flatMap((path) => everyone.map(async (person) => {
        check(t, by, phase, person, path, await askHttp2(sessions.get(person)!, { ':path': path, ':authority': 'localhost' }), 'all at once')
      })))
      if (phase === 'before') await served.use(documents(by).after, CHANGED)
    }
  })

  t.test(`${kind}: a change ends the WebSockets of those whom it takes away from`, { skip: withoutProxy(kind) }, async (t) => {
    const served = await serving(t, kind)
    const open = async (person: Person, path: Path) => {
      const socket = await openSocket(t, `wss://localhost:${served.https}${path}/live`, { ...ofClient(person), headers: { host: 'localhost' } } as object)
      t.teardown(() => socket.terminate())
      return socket
    }
    const [taken, other, stranger] = [await open('acme', '/acme'), await open('acme', '/partners'), await open('a stranger', '/any')]
    const closed = new Promise((resolve) => { taken.once('close', resolve) })
    t.equal(await echoed(taken), 'hello')
    await served.use(documents(served.by).after, CHANGED)
    await closed
    t.strictSame([await echoed(other), await echoed(stranger)], ['hello', 'hello'])
    await t.rejects(open('acme', '/acme'))
  })
}

t.test('where the proxy verifies, nothing may ask for a label, and the error says why', async (t) => {
  const why = /issuedBy: "partners" can never be known: the proxy verifies client certificates, and does not say by which of its CAs\. Have whole certificates forwarded and verified here \(proxy: \{ certificate: \{ …, verified: 'here' \}, ca: /
  const boot = async (options: HttpSecurityOptions, allow?: readonly Allowed[]): Promise<void> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(httpSecurity, { proxy: behind.nginx.proxy, ...options })
    app.get('/', { httpSecurity: { level: 'mtls', ...allow && { allow } } }, async () => 'hello')
    await app.ready()
  }
  await boot({})
  const document: ClientsDocument = { clients: { acme: { certificates: [{ subject: { O: 'Acme' }, issuedBy: 'partners' }] } } }
  await t.rejects(boot({ clients: document }), { code: 'FST_HTTP_SECURITY_INVALID_CLIENTS', message: why })
  await t.rejects(boot({ clients: document }), { message: /^clients: clients: acme: certificates: 0: / })
  await t.rejects(boot({}, [{ issuedBy: 'partners' }]), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: why })
  await t.rejects(boot({ flows: { '/partners': { allow: [{ issuedBy: 'partners' }] } } }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: why })
})

t.test('nginx: a later document that asks for a label is not taken, and the one before stays in force', { skip: withoutProxy('nginx') }, async (t) => {
  const { by, https, use } = await serving(t, 'nginx')
  await use({ clients: { 'a stranger': { certificates: [{ issuedBy: 'partners' }] } } }, /the clients were not changed, and the ones before stay in force: .*can never be known: the proxy verifies/)
  for (const path of paths) for (const person of everyone) check(t, by, 'before', person, path, await ask({ port: https, path, headers: { host: 'localhost' }, tls: ofClient(person) }), 'still')
})
