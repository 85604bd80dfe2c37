/**
 * What the plugin costs a request, in process: an app with the plugin beside the same app with a no-op hook. Both are
 * given the same requests, which came by real connections, through `app.routing`.
 */
import { channel } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { do_not_optimize as keep } from 'mitata'
import type { CertificateEntry, ClientsDocument, Policy } from '../lib/index.ts'
import httpSecurity from './support/built.ts'
import { type Client, type Connections, Sink, openConnections } from './support/connections.ts'
import { requireAnswer } from './support/correctness.ts'
import { type Identities, askingServer, makeIdentities } from './support/identities.ts'
import { type Batches, duration, type Estimate, estimate, once, pairedDifference } from './support/statistics.ts'
import { type Measured, type Table, againstLimits } from './support/table.ts'

const LEVELS = ['none', 'tls', 'mtls'] as const
type Level = typeof LEVELS[number]

/** In nanoseconds. */
const HOOK_LIMITS: Record<Level, number> = { none: 80, tls: 120, mtls: 200 }
const WHO_PASSES: Record<Level, Client> = { none: 'insecure', tls: 'anonymous', mtls: 'known' }
const STATUSES: Record<Level, Record<Client, number>> = {
  none: { insecure: 200, anonymous: 200, known: 200, chained: 200 },
  tls: { insecure: 403, anonymous: 200, known: 200, chained: 200 },
  mtls: { insecure: 403, anonymous: 403, known: 200, chained: 200 }
}

export async function hook ({ long }: { long: boolean }): Promise<Table[]> {
  const identities = await makeIdentities()
  const apps = {
    bare: await createApp(identities, bareHook),
    subject: await createApp(identities, withPlugin)
  }
  const connections = await openConnections(identities)
  try {
    await checkAnswers(apps, connections)
    return [
      againstLimits('The hook over a no-op hook', 'ns', 0, await overNoop(apps, connections, { pairs: long ? 10_000 : 3000, size: 300 })),
      againstLimits('Client certificates', 'µs', 2, await certificates(apps, connections, long ? 2000 : 500)),
      againstLimits('10,000 clients: lookup on a new connection', 'µs', 2, await lookups(apps, connections, long ? 500 : 150)),
      againstLimits('A change of 10,000 clients', 'ms', 1, [{ what: 'the longest block until it is in force', value: await changesOfClients(long ? 30 : 10), limit: 20 }]),
      againstLimits('A path of 4 KiB that no route knows', '× a bare 404', 2, await unknownPaths(identities, connections, long ? 4000 : 1000))
    ]
  } finally {
    connections.close()
  }
}

type Apps = Readonly<Record<'bare' | 'subject', FastifyInstance>>

/** The request that a handler was reached with last. */
let latest: FastifyRequest | undefined

async function createApp (identities: Identities, protect: (app: FastifyInstance) => unknown): Promise<FastifyInstance> {
  const app = Fastify({ https: askingServer(identities) }) as unknown as FastifyInstance
  await protect(app)
  for (const level of LEVELS) {
    app.get(`/${level}`, { httpSecurity: level }, (request, reply) => {
      latest = request
      reply.send('reached')
    })
  }
  app.get('/allow', { httpSecurity: { level: 'mtls', allow: ['client-1', { group: 'writers' }] } }, (request, reply) => {
    latest = request
    reply.send('reached')
  })
  // As many as a policy has to be changed for.
  for (let i = 0; i < 10_000; i++) app.get(`/other-${i}`, (_request, reply) => { reply.send('reached') })
  await app.ready()
  return app
}

function bareHook (app: FastifyInstance): void {
  app.addHook('onRequest', (_request, _reply, done) => done())
}

async function withPlugin (app: FastifyInstance): Promise<void> {
  await app.register(httpSecurity, { clients: clients.source })
}

/** Runs without waiting: nothing here is asynchronous for a request that passes. Each has a response of its own. */
function ask (app: FastifyInstance, raw: IncomingMessage): Sink {
  const sink = new Sink()
  app.routing(raw, sink.asResponse())
  return sink
}

async function checkAnswers (apps: Apps, connections: Connections): Promise<void> {
  for (const level of LEVELS) {
    for (const client of ['insecure', 'anonymous', 'known', 'chained'] as const) {
      const raw = await connections.connect(client, `/${level}`)
      for (const [name, status] of [['bare', 200], ['subject', STATUSES[level][client]]] as const) {
        requireAnswer(`${name}: ${client} client at ${level}`, ask(apps[name], raw).statusCode, status)
      }
    }
  }
}

async function overNoop (apps: Apps, connections: Connections, batches: Batches): Promise<Measured[]> {
  const rows: Array<{ what: string, level: Level, path?: string, limit: number, policy?: Policy }> = [
    ...LEVELS.map((level) => ({ what: level === 'mtls' ? 'mtls, on a known connection' : level, level, limit: HOOK_LIMITS[level] })),
    { what: 'mtls with allow, among 10,000 clients', level: 'mtls', path: '/allow', limit: 260 },
    // One app: V8 does not compile the same for several in a process, and few have several.
    { what: 'tls, with HSTS', level: 'tls', limit: 200, policy: { environment: { hsts: { maxAge: 600 } } } },
    { what: 'tls, after 1,000 changes of policy', level: 'tls', limit: HOOK_LIMITS.tls, policy: { environment: { forceHttpsForIntegrations: true } } }
  ]
  const measured: Measured[] = []
  for (const { what, level, path = `/${level}`, limit, policy } of rows) {
    if (policy !== undefined) for (let i = 0; i <= 1000; i++) apps.subject.httpSecurity.enforce(i % 2 === 0 ? policy : {})
    const raw = await connections.connect(WHO_PASSES[level], path)
    measured.push({ what, value: pairedDifference(() => { ask(apps.bare, raw) }, () => { ask(apps.subject, raw) }, batches), limit })
    requireAnswer(`${what}, at the end`, ask(apps.subject, raw).statusCode, 200)
  }
  apps.subject.httpSecurity.enforce({})
  return measured
}

/** What happens once a connection is timed once on each of many; what happens again, in batches on the last of them. */
async function certificates (apps: Apps, connections: Connections, count: number): Promise<Measured[]> {
  const known = await connectMany(connections, 'known', count * 2)
  const server = (known[0]!.socket as TLSSocket).getX509Certificate()
  const first: number[] = []
  const details: number[] = []
  const detailsAndServer: number[] = []
  for (const [i, raw] of known.entries()) {
    // Node makes a new X509Certificate of the server's own each time it is asked. On every other connection it is there.
    if (i % 2 === 0) Object.assign(raw.socket, { getX509Certificate: () => server })
    first.push(firstRequest(apps, raw))
    const took = once(() => keep(latest!.clientCertificateGetDetails()))
    const times = i % 2 === 0 ? details : detailsAndServer
    times.push(took)
  }
  const request = latest!
  const batches = { pairs: 500, size: 1000 }
  const measured: Measured[] = [
    { what: 'first mtls request on a connection, one connection after the other', value: microseconds(first), limit: 15 },
    { what: '  its client sent its issuer\'s certificate, too', value: microseconds((await connectMany(connections, 'chained', count)).map((raw) => firstRequest(apps, raw))) },
    { what: '  right after a handshake, with cold caches', value: microseconds(await afterHandshakes(apps, connections, count)) },
    { what: 'details, first on a connection, server names apart', value: microseconds(details), limit: 25 },
    { what: '  with them', value: microseconds(detailsAndServer) },
    { what: 'details, again', value: microseconds(duration(() => keep(request.clientCertificateGetDetails()), batches)), limit: 0.1 },
    { what: 'value SubjectCN, again', value: microseconds(duration(() => keep(request.clientCertificateValue('SubjectCN')), batches)), limit: 0.1 }
  ]
  const { subject, serverSubject } = request.clientCertificateGetDetails()
  requireAnswer('subject', subject, 'C=PT, O=Acme, OU=Partners, CN=Jane')
  requireAnswer('serverSubject', serverSubject, 'CN=localhost')
  requireAnswer('SubjectCN', request.clientCertificateValue('SubjectCN'), 'Jane')
  return measured
}

const CLIENTS = 10_000

/** How clients are described; the client of `known` by its subject, unless all are by their fingerprint. */
const KINDS: Readonly<Record<string, (n: number) => CertificateEntry>> = {
  'by fingerprint': (n) => ({ fingerprint256: n.toString(16).padStart(64, '0') }),
  'by subject': (n) => ({ subject: { CN: `client-${n}`, O: 'Acme' } }),
  'by alternative name': (n) => ({ san: `URI:spiffe://acme.test/${n}` }),
  'a third by each': (n) => Object.values(KINDS)[n % 3]!(n)
}
const JANE = 7_000

function manyClients (group: string, kind = 'a third by each', jane: CertificateEntry = { subject: { CN: 'Jane', O: 'Acme' } }): ClientsDocument {
  return { clients: Object.fromEntries(Array.from({ length: CLIENTS }, (_, n) => [`client-${n}`, { groups: [group], certificates: [n === JANE ? jane : KINDS[kind]!(n)] }])) }
}

/** The document of the app with the plugin, which can be changed. */
const clients = {
  document: manyClients('writers'),
  changed: (): void => {},
  source: {
    load: async (): Promise<ClientsDocument> => clients.document,
    watch (changed: () => void) {
      clients.changed = changed
      return () => {}
    }
  }
}

/** Milliseconds of the longest time in which nothing else had its turn, until another document is in force. */
async function changeClients (document: ClientsDocument): Promise<number> {
  const changes: unknown[] = []
  const heard = (change: unknown): void => { changes.push(change) }
  channel('fastify-http-security:clients').subscribe(heard)
  clients.document = document
  clients.changed()
  let longest = 0
  for (let last = performance.now(); changes.length === 0;) {
    await new Promise((resolve) => { setImmediate(resolve) })
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
  }
  channel('fastify-http-security:clients').unsubscribe(heard)
  return longest
}

/** What is known of a client is worked out once for each connection: the first request there, over one that needs no client. */
async function lookups (apps: Apps, connections: Connections, count: number): Promise<Measured[]> {
  const measured: Measured[] = []
  for (const kind of Object.keys(KINDS)) {
    const [sample] = await connectMany(connections, 'known', 1)
    const { fingerprint256 } = (sample!.socket as TLSSocket).getPeerX509Certificate()!
    await changeClients(manyClients('writers', kind, kind === 'by fingerprint' ? { fingerprint256 } : undefined))
    const [withRules, without] = [await connectMany(connections, 'known', count * 2, '/allow'), await connectMany(connections, 'known', count * 2)]
    const times: number[] = []
    for (let i = 0; i < count * 2; i++) {
      const first = i % 2 === 0 ? [withRules[i]!, without[i]!] : [without[i]!, withRules[i]!]
      const [one, other] = first.map((raw) => firstRequest(apps, raw)) as [number, number]
      if (i >= count) times.push(i % 2 === 0 ? one - other : other - one)
    }
    ask(apps.subject, withRules[0]!)
    requireAnswer('client', latest!.httpSecurity.client?.name, `client-${JANE}`)
    measured.push({ what: kind, value: microseconds(times), limit: 5 })
  }
  return measured
}

/** How long nothing else has its turn while a changed document is loaded. */
async function changesOfClients (count: number): Promise<Estimate> {
  const blocks: number[] = []
  for (let i = 0; i < count; i++) blocks.push(await changeClients(manyClients(`group-${i}`)))
  return estimate(blocks)
}

/** What is hard to read in one: each of many times, by turns with the app without the plugin. */
const UNITS = ['a', '/a', '/.', '/\\', '//', ';a', '%41a', '%2541', '%2525252541a', '%c3%a4', '%09', '%5c', '/%2e', '/shop/.', '/shop;a']

async function unknownPaths (identities: Identities, connections: Connections, rounds: number): Promise<Measured[]> {
  const create = (): FastifyInstance => Fastify({ https: askingServer(identities) }) as unknown as FastifyInstance
  const [bare, subject] = [create(), create()]
  bareHook(bare)
  await subject.register(httpSecurity, { default: 'none', flows: { '/shop': 'none', '/shop/a': 'none' } })
  for (const app of [bare, subject]) await app.ready()
  const measured: Measured[] = []
  for (const unit of UNITS) {
    const raw = await connections.connect('anonymous', `/shop/a/x${unit.repeat(4_071 / unit.length)}`)
    const ratios: number[] = []
    for (let round = -rounds / 2; round < rounds; round++) {
      const alone = once(() => { ask(bare, raw) })
      const ratio = once(() => { ask(subject, raw) }) / alone
      if (round >= 0) ratios.push(ratio)
    }
    requireAnswer(unit, ask(subject, raw).statusCode, 404)
    measured.push({ what: `of ${unit}`, value: estimate(ratios), limit: 4 })
  }
  return measured
}

async function connectMany (connections: Connections, client: Client, count: number, path = '/mtls'): Promise<IncomingMessage[]> {
  const requests: IncomingMessage[] = []
  while (requests.length < count) requests.push(await connections.connect(client, path))
  return requests
}

async function afterHandshakes (apps: Apps, connections: Connections, count: number): Promise<number[]> {
  const times: number[] = []
  while (times.length < count) times.push(firstRequest(apps, await connections.connect('known', '/mtls')))
  return times
}

/** Nanoseconds beyond the app without the plugin, which is asked first. */
function firstRequest ({ bare, subject }: Apps, raw: IncomingMessage): number {
  let sink: Sink | undefined
  const without = once(() => { sink = ask(bare, raw) })
  const time = once(() => { sink = ask(subject, raw) }) - without
  requireAnswer('first request on a connection', sink?.statusCode, 200)
  return time
}

function microseconds (nanoseconds: readonly number[] | Measured['value']): Measured['value'] {
  const { median, low, high } = 'median' in nanoseconds ? nanoseconds : estimate(nanoseconds)
  return { median: median / 1e3, low: low / 1e3, high: high / 1e3 }
}
