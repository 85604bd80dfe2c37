/**
 * What a client certificate costs that a proxy forwards, in process: an app with the plugin beside the same app with a
 * no-op hook. Every request is a new object with new strings, as every request that comes by the network has them.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance } from 'fastify'
import { do_not_optimize as keep } from 'mitata'
import { escapePem } from '../test/fixtures/forward.ts'
import { authority, issue } from '../test/fixtures/pki.ts'
import httpSecurity from './support/built.ts'
import { openConnections, Sink } from './support/connections.ts'
import { clientCertificateAuth } from './support/contenders.ts'
import { requireAnswer } from './support/correctness.ts'
import { makeIdentities } from './support/identities.ts'
import { type Estimate, estimate, once, pairedDifference } from './support/statistics.ts'
import { type Measured, type Table, againstLimits } from './support/table.ts'

type Apps = Readonly<Record<'bare' | 'byHand' | 'nginx' | 'here' | 'presence', FastifyInstance>>

const bytesOf = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'latin1'))

/** What other requests have, too. */
const OTHERS = bytesOf(['Host', 'app.test', 'User-Agent', 'Mozilla/5.0', 'Accept', '*/*', 'Accept-Encoding', 'gzip, br', 'X-Request-Id', 'b6f0d3', 'X-Forwarded-For', '192.0.2.7', 'X-Forwarded-Proto', 'https', 'Connection', 'keep-alive'])

export async function forwarded ({ long }: { long: boolean }): Promise<Table[]> {
  const ca = await authority('Client CA')
  const intermediate = await issue(ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const apps: Apps = {
    // Node makes them of the lines when they are asked for first, by a logger or a handler: that is not the plugin's cost.
    bare: await createApp((app) => { app.addHook('onRequest', (request, _reply, done) => { keep(request.headers); done() }) }),
    // As people write it, when they look at the verdict at all.
    byHand: await createApp((app) => {
      app.addHook('onRequest', (request, reply, done) => {
        const { 'x-ssl-client-verify': verdict, 'x-ssl-client-cert': certificate } = request.headers
        if (verdict !== 'SUCCESS') {
          reply.code(403).send()
          return
        }
        keep(new X509Certificate(decodeURIComponent(certificate as string)))
        done()
      })
    }),
    nginx: await createApp(async (app) => { await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'nginx' } }) }),
    here: await createApp(async (app) => { await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca: ca.cert } }) }),
    presence: await createApp(async (app) => { await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'rfc9440' } }) })
  }
  const nginx = ({ cert }: { cert: string }): string[] => ['X-SSL-Client-Verify', 'SUCCESS', 'X-SSL-Client-Cert', escapePem(cert)]
  const jane = await issue(ca, { subject: 'CN=Jane' })
  const anonymous = ask(apps.nginx, requests(['X-SSL-Client-Verify', 'NONE'])()).statusCode
  requireAnswer('nobody', anonymous, 403)
  requireAnswer('a refused certificate', ask(apps.nginx, requests(nginx(jane).with(1, 'FAILED:x'))()).statusCode, 403)

  const next = requests(nginx(jane))
  // Long batches: the requests take so much memory that the garbage of one in three short ones is collected in the next.
  const seen = pairedDifference(() => { ask(apps.bare, next()) }, () => { ask(apps.nginx, next()) }, { pairs: long ? 600 : 200, size: 1000 })
  requireAnswer('seen before', ask(apps.nginx, next()).statusCode, 200)

  const count = long ? 1000 : 300
  const others = await Promise.all(Array.from({ length: 2 * count }, () => issue(ca)))
  const all = others.map((who, i) => {
    const headers = nginx(who)
    // What happens first finds colder caches.
    const [first, second] = (i % 2 === 0 ? ['byHand', 'nginx'] as const : ['nginx', 'byHand'] as const).map((name) => [name, beyondBare(apps, name, headers)] as const)
    return Object.fromEntries([first!, second!]) as Record<'byHand' | 'nginx', number>
  })
  // V8 compiles for good what has run some hundred times.
  const [atFirst, pairs] = [all.slice(0, count), all.slice(count)]
  const chain = `:${new X509Certificate(intermediate.cert).raw.toString('base64')}:`
  const below = await Promise.all(Array.from({ length: 100 }, () => issue(intermediate)))
  const verified = below.map(({ cert }) => beyondBare(apps, 'here', ['Client-Cert', `:${new X509Certificate(cert).raw.toString('base64')}:`, 'Client-Cert-Chain', chain]))
  const rows: Measured[] = [
    { what: 'seen before, over a no-op hook', value: microseconds(seen), limit: 1 },
    ...beyondMany(apps, jane, long),
    { what: 'new, verified by the proxy', value: microseconds(estimate(pairs.map(({ nginx }) => nginx))) },
    { what: '  by hand, with new X509Certificate()', value: microseconds(estimate(pairs.map(({ byHand }) => byHand))) },
    { what: 'new, with an intermediate, verified here', value: microseconds(estimate(verified)) },
    { what: 'client-certificate-auth, on a socket: it reads no header', value: microseconds(await byOthers(long ? 2000 : 500)) }
  ]
  const bytes = await bytesOfOne(jane)
  await Promise.all(Object.values(apps).map(async (app) => await app.close()))
  const ratioOf = (some: typeof all): Estimate => estimate(some.map(({ nginx, byHand }) => nginx / byHand))
  return [
    againstLimits('Certificates that a proxy forwards', 'µs', 2, rows),
    againstLimits('A new one', '×', 2, [
      { what: 'this plugin to new X509Certificate() by hand', value: ratioOf(pairs), limit: 1.2 },
      { what: `  the first ${count} of a process`, value: ratioOf(atFirst) }
    ]),
    againstLimits('Memory for one that was seen before', 'bytes', 0, [{ what: `one of ${MANY.toLocaleString('en')}, in V8's heap and beside it`, value: { median: bytes, low: bytes, high: bytes } }])
  ]
}

/** Distinct certificates. */
const MANY = 10_000

/** Many clients, all of them seen before: each as often as any other, or the n-th of them 1/n times as often as the first (Zipf). */
function beyondMany ({ bare, presence }: Apps, { cert }: { cert: string }, long: boolean): Measured[] {
  const all = imitations(new X509Certificate(cert).raw).map((der) => requests(['Client-Cert', `:${der.toString('base64')}:`]))
  for (const next of all) requireAnswer('one of many', ask(presence, next()).statusCode, 200)
  const distributions: ReadonlyArray<readonly [name: string, draw: (part: number) => number]> = [
    ['each as often', (part) => Math.floor(part * MANY)],
    ['Zipf', (part) => Math.floor(MANY ** part) - 1]
  ]
  return distributions.map(([name, draw]) => {
    const random = randomParts()
    const drawn = Array.from({ length: MANY }, () => all[draw(random())]!)
    let [one, other] = [0, 0]
    const value = pairedDifference(() => { ask(bare, drawn[one++ % MANY]!()) }, () => { ask(presence, drawn[other++ % MANY]!()) }, { pairs: long ? 3000 : 1000, size: 200 })
    return { what: `seen before, one of ${MANY.toLocaleString('en')}, ${name}`, value: microseconds(value), limit: 1 }
  })
}

async function bytesOfOne ({ cert }: { cert: string }): Promise<number> {
  const app = await createApp(async (app) => { await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'rfc9440' } }) })
  const all = imitations(new X509Certificate(cert).raw)
  const see = (some: readonly Buffer[]): void => { for (const der of some) ask(app, requests(['Client-Cert', `:${der.toString('base64')}:`])()) }
  // The last few hundred are kept parsed, too.
  see(all.slice(0, 1000))
  const before = await bytesInUse()
  see(all.slice(1000))
  const after = await bytesInUse()
  await app.close()
  return (after - before) / (MANY - 1000)
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

async function bytesInUse (): Promise<number> {
  // What is finalized by one is free after the next.
  for (let turn = 0; turn < 3; turn++) {
    collectGarbage()
    await nextTurn()
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Certificates that differ in their serial number and, as the proxy is believed, in a signature of nothing. */
function imitations (der: Buffer): Buffer[] {
  const serial = der.indexOf(Buffer.from(new X509Certificate(der).serialNumber, 'hex'))
  return Array.from({ length: MANY }, (_, index) => {
    const imitation = Buffer.from(der)
    imitation.writeUInt32BE(index, serial + 4)
    // Below the DER of the signature, which nobody reads here.
    const hash = createHash('sha256').update(String(index)).digest()
    hash.copy(imitation, imitation.length - hash.length)
    return imitation
  })
}

/** The same ones in each run, from 0 to 1 (mulberry32). */
function randomParts (): () => number {
  let state = 1
  return () => {
    state = (state + 0x6D2B79F5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function createApp (protect: (app: FastifyInstance) => unknown): Promise<FastifyInstance> {
  const app = Fastify()
  await protect(app)
  app.get('/', { httpSecurity: 'mtls' }, (_request, reply) => { reply.send('reached') })
  await app.ready()
  return app
}

function ask (app: FastifyInstance, raw: IncomingMessage): Sink {
  const sink = new Sink()
  // Node has it on every response.
  Object.assign(sink, { req: raw })
  app.routing(raw, sink.asResponse())
  return sink
}

const PROXY = Object.defineProperty(new Socket(), 'remoteAddress', { value: '127.0.0.1' })

/** Makes requests, each of new strings: who hashes or compares a header pays for it every time. */
function requests (headers: readonly string[]): () => IncomingMessage {
  const bytes = [...OTHERS, ...bytesOf(headers)]
  return () => {
    const raw = new IncomingMessage(PROXY) as IncomingMessage & { _addHeaderLines: (lines: string[], count: number) => void }
    // As Node's own parser does.
    raw._addHeaderLines(bytes.map((each) => each.toString('latin1')), bytes.length)
    Object.assign(raw, { method: 'GET', url: '/', httpVersionMajor: 1, httpVersionMinor: 1 })
    return raw
  }
}

/** Nanoseconds, of what happens only once. */
function beyondBare (apps: Apps, subject: Exclude<keyof Apps, 'bare'>, headers: readonly string[]): number {
  const next = requests(headers)
  const [first, second] = [next(), next()]
  const without = once(() => { ask(apps.bare, first) })
  let sink: Sink | undefined
  const took = once(() => { sink = ask(apps[subject], second) })
  requireAnswer(`new, ${subject}`, sink?.statusCode, 200)
  return took - without
}

async function byOthers (count: number): Promise<Estimate> {
  const connections = await openConnections(await makeIdentities())
  try {
    const bare = await createApp((app) => { app.addHook('onRequest', (_request, _reply, done) => done()) })
    const other = await createApp(clientCertificateAuth)
    const raw = await connections.connect('known', '/')
    const difference = pairedDifference(() => { ask(bare, raw) }, () => { ask(other, raw) }, { pairs: count, size: 10 })
    requireAnswer('client-certificate-auth', ask(other, raw).statusCode, 200)
    return difference
  } finally {
    connections.close()
  }
}

function microseconds ({ median, low, high }: Estimate): Estimate {
  return { median: median / 1e3, low: low / 1e3, high: high / 1e3 }
}
