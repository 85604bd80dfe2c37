/**
 * What goes on while trust is renewed: clients that count notice nothing of it, those that count again are back with their
 * next request or the one after it, and what takes long ends when its client does not count any more.
 */
import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import type { ClientRequest } from 'node:http'
import http2, { type Http2ServerRequest } from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { SecureVersion, TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { WebSocket } from 'ws'
import { enableTls, type EnableTlsOptions } from '../lib/tls/index.ts'
import { ask, askHttp2, outcomeOf } from './fixtures/ask.ts'
import { type Draft, identityOf, make } from './fixtures/chains.ts'
import { VERSIONS } from './fixtures/context.ts'
import { crlPem, makeCrl } from './fixtures/crls.ts'
import { portOf } from './fixtures/network.ts'
import { authority, type Identity, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { DAY, until } from './fixtures/time.ts'
import { serveTrust } from './fixtures/trust.ts'
import { connectFrames, connectWire, echoed, forwardInThread, holdBack, openSocket } from './fixtures/wire.ts'
import { startCluster } from './fixtures/workers.ts'

const [acme, other, serverCa] = await Promise.all([authority('Acme CA'), authority('Other CA'), authority('Server CA')])
const [server, jane, joe, branch] = await Promise.all([
  issueServer(serverCa), issue(acme, { subject: 'CN=Jane' }), issue(other, { subject: 'CN=Joe' }), issue(acme, { subject: 'CN=Branch CA', ca: true, purpose: 'none' })
])
const june = await issue(branch, { subject: 'CN=June' })
const chain = { cert: june.cert + branch.cert, key: june.key }
const before = { ca: acme.cert + other.cert, crl: (await Promise.all([acme, branch, other].map(async (ca) => await revocationList(ca)))).join('') }
const revokedJane = (await Promise.all([revocationList(acme, [jane]), revocationList(branch), revocationList(other)])).join('')
const tlsOf = (identity?: Identity) => ({ ca: serverCa.cert, ...identity && { cert: identity.cert, key: identity.key } })

/** A client program: one connection, which it keeps, and its latest session, with which it opens another one. */
interface Client {
  /** Rejects where it is not served. */
  ask (): Promise<void>
  /** Its connection is closed, so that its next request opens one. */
  reconnect (): unknown
  close (): unknown
}
type Start = (port: number, identity: Identity | undefined) => Client

const pathFor = (identity: Identity | undefined) => identity === undefined ? '/tls' : '/partners'
const requireServed = (status: number | undefined, body: unknown): void => { if (status !== 200) throw new Error(`${status} ${String(body)}`) }

/** undici, as Node has it: its class is that of the agent that `fetch` goes by unless it is given another one. Read with the first fetch: sessions are kept until they end, not until garbage is collected. */
process.env.UNDICI_NO_FG = 'yes'
await fetch('data:,')
const { constructor: Agent } = Reflect.get(globalThis, Symbol.for('undici.globalDispatcher.1')) as { constructor: new (options: object) => { close (): Promise<void> } }

const KINDS: Record<string, Start> = {
  fetch (port, identity) {
    const dispatcher = new Agent({ connections: 1, connect: tlsOf(identity) })
    let isLast = false
    return {
      async ask () {
        const answer = await fetch(`https://localhost:${port}${pathFor(identity)}`, { dispatcher, headers: isLast ? { 'x-last': 'yes' } : {} } as RequestInit)
        requireServed(answer.status, await answer.text())
        isLast = false
      },
      // It has no way to close a connection, and is told to by the answer
      reconnect () { isLast = true },
      close () { return dispatcher.close() }
    }
  },

  'https.Agent' (port, identity) {
    const agent = new https.Agent({ ...tlsOf(identity), keepAlive: true, maxSockets: 1 })
    return {
      async ask () {
        const { status, body } = await ask({ port, path: pathFor(identity), host: 'localhost', tls: { agent } })
        requireServed(status, body)
      },
      reconnect () { agent.destroy() },
      close () { agent.destroy() }
    }
  },

  'node:http2' (port, identity) {
    let session: Buffer | undefined
    let connection: http2.ClientHttp2Session | undefined
    let failed: Error | undefined
    const open = (): http2.ClientHttp2Session => {
      const opened = http2.connect(`https://localhost:${port}`, { ...tlsOf(identity), session } as http2.SecureClientSessionOptions)
      opened.on('error', (error) => { failed = error })
      opened.socket.on('session', (ticket: Buffer) => { session = ticket })
      return opened
    }
    return {
      async ask () {
        if (connection?.closed === true) throw new Error('its connection was closed')
        const { status, body } = await askHttp2(connection ??= open(), { ':path': pathFor(identity) })
        requireServed(status, body)
        if (failed !== undefined) throw failed
      },
      reconnect () {
        connection?.close()
        connection = undefined
      },
      close () { connection?.destroy() }
    }
  },

  ws (port, identity) {
    let session: Buffer | undefined
    let socket: WebSocket | undefined
    const open = async (): Promise<WebSocket> => {
      const opened = new WebSocket(`wss://localhost:${port}${identity === undefined ? '/open' : '/live'}`, { ...tlsOf(identity), session } as object)
      ;(opened as unknown as { _req: ClientRequest })._req.once('socket', (below: TLSSocket) => { below.on('session', (ticket) => { session = ticket }) })
      await once(opened, 'open')
      return opened
    }
    return {
      async ask () {
        socket ??= await open()
        if (socket.readyState !== WebSocket.OPEN) throw new Error('its WebSocket was lost')
        const answer = once(socket, 'message', { signal: AbortSignal.timeout(20_000) })
        socket.send('hello')
        requireServed(String((await answer)[0]) === 'hello' ? 200 : undefined, 'another message')
      },
      async reconnect () {
        const closed = socket
        socket = undefined
        closed?.close()
        if (closed !== undefined) await once(closed, 'close')
      },
      close () { socket?.terminate() }
    }
  }
}

/** Of each kind so many, one in five anonymous; one in ten of the others has an intermediate CA. */
function startClients (t: Test, port: number, ofEachKind: number): Client[] {
  const clients = Object.values(KINDS).flatMap((start) => Array.from({ length: ofEachKind }, (_, index) => start(port, index % 5 === 0 ? undefined : index % 10 === 1 ? chain : index % 2 === 0 ? jane : joe)))
  t.teardown(() => { for (const client of clients) client.close() })
  return clients
}

/** All of them ask once, and some then leave their connection. Answers what failed. */
async function askAll (clients: readonly Client[], leaves: (index: number) => boolean = () => false): Promise<string[]> {
  const failures: string[] = []
  await Promise.all(clients.map(async (client, index) => {
    try {
      await client.ask()
      if (leaves(index)) await client.reconnect()
    } catch (error) {
      failures.push(`client ${index}: ${(error as Error).message}`)
    }
  }))
  return failures
}

/** The same of every second one, while something changes. */
async function askDuring (clients: readonly Client[], round: number, change: () => Promise<unknown>): Promise<string[]> {
  const half = clients.filter((_, index) => (index + round) % 2 === 0)
  const [failures] = await Promise.all([askAll(half, (index) => (index + round) % 8 === 0), change()])
  return failures.map((failure) => `round ${round}, ${failure}`)
}

/** Lists that are renewed, another authority's too; and authorities that come and go. */
async function renewals (ca: string, times: number, unused: number): Promise<Array<Record<string, string>>> {
  const unusedCas = await Promise.all(Array.from({ length: unused }, async (_, index) => await authority(`Unused CA ${index}`)))
  const changes: Array<Record<string, string>> = []
  let [own, others] = ['', '']
  for (let index = 0; index < times; index++) {
    const days = [-1 + index / 1000, 30] as const
    own = (await Promise.all([acme, branch].map(async (ca) => await revocationList(ca, [], days)))).join('')
    changes.push({ 'crl.pem': own + (others || await revocationList(other)) })
    others = await revocationList(other, [], days)
    changes.push({ 'crl.pem': own + others })
  }
  const cas = (count: number) => ({ 'ca.pem': ca + unusedCas.slice(0, count).map(({ cert }) => cert).join('') })
  for (let count = 1; count <= unused; count++) changes.push(cas(count))
  for (let count = unused - 1; count >= 0; count--) changes.push(cas(count))
  return changes
}

/** An app, and how many connections it has had. */
async function serveCounting (t: Test, options: Parameters<typeof serveTrust>[1]) {
  const served = await serveTrust(t, {
    http2: true,
    ...options,
    declare (app) {
      app.addHook('onRequest', async ({ headers }, reply) => { if ('x-last' in headers) reply.header('connection', 'close') })
      options.declare?.(app)
    }
  })
  const counts = { full: 0, resumed: 0 }
  served.app.server.on('secureConnection', (socket: TLSSocket) => { counts[socket.isSessionReused() ? 'resumed' : 'full']++ })
  return Object.assign(served, { counts, async change (files: Record<string, string>) { served.write(files); await served.tls.reload() } })
}

t.test('renewals under load: no request fails, no WebSocket is lost, and no client makes a second full handshake', async (t) => {
  const served = await serveCounting(t, { server, ...before })
  const { counts } = served
  const clients = startClients(t, served.https, 30)
  t.strictSame(await askAll(clients), [])
  t.equal(counts.full, clients.length, 'one for each client')
  const changes = await renewals(before.ca, 20, 5)
  const failures: string[] = []
  for (const [index, files] of changes.entries()) {
    failures.push(...await askDuring(clients, index, async () => await served.change(files)))
  }
  failures.push(...await askAll(clients))
  t.strictSame(failures, [])
  t.equal(counts.full, clients.length, 'and none after that')
  t.ok(counts.resumed > clients.length, `${counts.resumed} connections were resumed meanwhile`)
  t.equal(served.log.filter(({ msg }) => msg.includes('read anew')).length, changes.length)
})

t.test('renewals under load in a cluster of two workers: no request fails, and no client makes a second full handshake', async (t) => {
  // Each worker knows the path of every client, whichever of them it has shaken hands with
  const ca = before.ca + branch.cert
  const cluster = await startCluster(t, { 'server.pem': server.cert, 'server.key': server.key, 'ca.pem': ca, 'crl.pem': before.crl })
  const full = async (): Promise<number> => await cluster.fullHandshakes(1) + await cluster.fullHandshakes(2)
  const clients = startClients(t, cluster.plugin, 10)
  const failures = await askAll(clients)
  t.equal(await full(), clients.length, 'one for each client')
  for (const [index, files] of (await renewals(ca, 2, 1)).entries()) {
    cluster.write(files)
    for (const worker of [1, 2]) failures.push(...await askDuring(clients, index, async () => await cluster.reload(worker)))
  }
  failures.push(...await askAll(clients))
  t.strictSame(failures, [])
  t.equal(await full(), clients.length, 'and none after that')
})

const made = (draft: Draft) => identityOf(make(draft))

interface Asker {
  /** `200`, or the status and what of the code differs. */
  ask (): Promise<string>
  /** Closes its connection. The next request is made on another one, with the session of this one. */
  leave (): void
}

/** Plain clients, which keep a connection until it ends, and a session until there is a later one. */
const CLIENTS: Record<string, (t: Test, port: number, identity: Identity) => Asker> = {
  'HTTP/1.1' (t, port, identity) {
    const agent = new https.Agent({ ...tlsOf(identity), keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    return {
      ask: async () => outcomeOf(await ask({ port, path: '/partners', host: 'localhost', tls: { agent } })),
      leave () { agent.destroy() }
    }
  },
  'HTTP/2' (t, port, identity) {
    let session: Buffer | undefined
    let connection: http2.ClientHttp2Session | undefined
    const leave = (): void => {
      connection?.close()
      connection = undefined
    }
    t.teardown(leave)
    return {
      leave,
      async ask () {
        if (connection === undefined) {
          connection = http2.connect(`https://localhost:${port}`, { ...tlsOf(identity), session } as http2.SecureClientSessionOptions)
          const opened = connection
          const left = (): void => { if (connection === opened) connection = undefined }
          opened.on('error', () => {}).on('goaway', left).on('close', left)
          opened.socket.on('session', (ticket: Buffer) => { session = ticket })
        }
        return outcomeOf(await askHttp2(connection, { ':path': '/partners' }))
      }
    }
  }
}

async function answers (client: Asker, times: number): Promise<string[]> {
  const all: string[] = []
  while (all.length < times) all.push(await client.ask())
  return all
}

/** In again at the first or the second request, and from then on. */
function isBack ([first, ...others]: readonly string[]): boolean {
  return (first === '200' || first === '421 MISDIRECTED') && others.every((answer) => answer === '200')
}

for (const [protocol, connect] of Object.entries(CLIENTS)) {
  t.test(`over ${protocol}, a refused client whose CA is added later is admitted`, async (t) => {
    const served = await serveCounting(t, { server, ca: other.cert })
    const client = connect(t, served.https, jane)
    t.strictSame(await answers(client, 3), Array(3).fill('403 CERTIFICATE_UNTRUSTED'))
    await served.change({ 'ca.pem': before.ca })
    const { full } = served.counts
    t.ok(isBack(await answers(client, 4)))
    t.equal(served.counts.full, full + 1)
  })

  t.test(`over ${protocol}, a refused client whose expired root is renewed is admitted`, async (t) => {
    const root = make({ ca: true, subject: 'CN=Root', days: [-20, -1] })
    const renewed = make({ ca: true, subject: 'CN=Root', like: root, days: [-1, 30] })
    const served = await serveCounting(t, { server, ca: root.pem + other.cert })
    const client = connect(t, served.https, made({ issuer: root }))
    t.strictSame(await answers(client, 3), Array(3).fill('403 CERTIFICATE_EXPIRED'))
    await served.change({ 'ca.pem': renewed.pem + other.cert })
    t.ok(isBack(await answers(client, 4)))
  })

  t.test(`over ${protocol}, a client that was admitted before its root expired is admitted again once the root is renewed`, async (t) => {
    const root = make({ ca: true, subject: 'CN=Root', days: [-20, 5] })
    const renewed = make({ ca: true, subject: 'CN=Root', like: root, days: [-1, 20] })
    const served = await serveCounting(t, { server, ca: root.pem + other.cert })
    const client = connect(t, served.https, made({ issuer: root }))
    t.strictSame(await answers(client, 2), ['200', '200'])
    const { now } = Date
    t.teardown(() => { Date.now = now })
    Date.now = () => now() + 6 * DAY
    t.strictSame(await answers(client, 2), Array(2).fill('403 CERTIFICATE_EXPIRED'))
    await served.change({ 'ca.pem': renewed.pem + other.cert })
    t.ok(isBack(await answers(client, 3)))
  })
}

t.test('a client whose certificate is not valid yet is admitted when it is, though OpenSSL\'s clock is a moment behind', async (t) => {
  const { now } = Date
  t.teardown(() => { Date.now = now })
  const begins = Math.ceil(now() / 1000) * 1000 + 2000
  const identity = await issue(acme, { days: [(begins - now()) / DAY, 30] })
  const served = await serveCounting(t, { server, ca: acme.cert })
  const clients = Object.values(CLIENTS).map((connect) => connect(t, served.https, identity))
  const early = await Promise.all(Object.values(CLIENTS).map(async (connect) => connect(t, (await serveCounting(t, { server, ca: acme.cert })).https, identity)))
  for (const client of clients) t.strictSame(await answers(client, 2), Array(2).fill('403 CERTIFICATE_NOT_YET_VALID'))
  Date.now = () => now() + 3000
  for (const client of early) t.equal(await client.ask(), '421 MISDIRECTED')
  Date.now = now
  await new Promise((resolve) => setTimeout(resolve, begins + 20 - now()))
  for (const client of clients) t.ok(isBack(await answers(client, 4)))
  for (const client of early) t.strictSame(await answers(client, 3), Array(3).fill('200'))
})

/** A port that leads to one server after another: what a client takes for one server is another process after a restart. */
async function leadTo (t: Test, first: number): Promise<{ port: number, leadTo (next: number): void }> {
  let target = first
  const sockets = new Set<net.Socket>()
  const front = net.createServer((client) => {
    const server = net.connect(target, '127.0.0.1')
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => { client.destroy(); server.destroy() })
    }
    client.pipe(server).pipe(client)
  })
  await once(front.listen(0, '127.0.0.1'), 'listening')
  const close = (): void => { for (const socket of sockets) socket.destroy() }
  t.teardown(() => { front.close(); close() })
  return {
    port: portOf(front),
    leadTo (next) { target = next }
  }
}

const secret = Buffer.alloc(32, 7)
const secretFile = join(t.testdir({ 'session.key': secret }), 'session.key')

t.test('a client that resumes its session on a server that does not know its intermediates is admitted by a full handshake', async (t) => {
  // The intermediate CA of before has the same name as the one of now
  const root = make({ ca: true, subject: 'CN=Root' })
  const [old, current] = [make({ ca: true, subject: 'CN=Issuing CA', issuer: root }), make({ ca: true, subject: 'CN=Issuing CA', issuer: root })]
  const [olds, currents] = [old, current].map((issuer) => {
    const { cert, key } = made({ issuer })
    return { cert: cert + issuer.pem, key }
  }) as [Identity, Identity]
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    for (const [what, isKnown] of [['that of another one is', true], ['none is', false]] as const) {
      const start = async () => await serveCounting(t, { server, ca: root.pem, tls: { sessions: { secret } } })
      const [first, second] = [await start(), await start()]
      const front = await leadTo(t, first.https)
      const client = connect(t, front.port, olds)
      t.strictSame(await answers(client, 2), ['200', '200'], what)
      if (isKnown) t.equal(await connect(t, second.https, currents).ask(), '200')
      client.leave()
      front.leadTo(second.https)
      const { full } = second.counts
      t.ok(isBack(await answers(client, 4)), `${protocol}, ${what}`)
      t.equal(second.counts.full, full + 1, `${protocol}, ${what}`)
    }
  }
})

t.test('a client that is refused after a full handshake is not asked for another one', async (t) => {
  const root = make({ ca: true, subject: 'CN=Root' })
  // Which OpenSSL takes for the issuer, as it comes first
  const namesake = make({ ca: true, subject: 'CN=Namesake', extensions: { subjectKey: undefined, authorityKey: undefined } })
  const nameless = make({ ca: true, subject: 'CN=Namesake', extensions: { subjectKey: undefined, authorityKey: undefined } })
  // SHA-1, which OpenSSL takes in what is not at its second security level
  const weak = make({ ca: true, subject: 'CN=Weak CA', issuer: root, kind: 'rsa1024' })
  const lax = made({ issuer: weak })
  const clients: Array<[what: string, identity: Identity, answer: string]> = [
    ['OpenSSL refuses it, and we would not', made({ issuer: nameless, extensions: { authorityKey: undefined } }), '403 CERTIFICATE_UNTRUSTED'],
    ['we refuse it, and OpenSSL would not', { cert: lax.cert + weak.pem, key: lax.key }, '403 CERTIFICATE_INVALID']
  ]
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    for (const [what, identity, answer] of clients) {
      const served = await serveCounting(t, { server, ca: namesake.pem + nameless.pem + root.pem })
      const client = connect(t, served.https, identity)
      const all: string[] = []
      for (let connection = 0; connection < 4; connection++) {
        all.push(await client.ask())
        client.leave()
      }
      t.strictSame(all, Array(4).fill(answer), `${protocol}, ${what}`)
      t.equal(served.counts.full, 1, what)
    }
  }
})

t.test('with legacy, clients of X.509 version 1 are judged like others, on kept and resumed connections', async (t) => {
  const root = make({ ca: true, subject: 'CN=Root' })
  // X.509 v1 has no extensions
  const v1 = { issuer: root, version: 1, extensions: { usage: undefined, purposes: undefined, subjectKey: undefined, authorityKey: undefined } }
  const [lax, ended, revoked] = [make({ ...v1, subject: 'CN=Lax' }), make({ ...v1, days: [-3, -1] }), make({ ...v1, subject: 'CN=Revoked' })]
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    const strict = await serveCounting(t, { server, ca: root.pem })
    t.equal(await connect(t, strict.https, identityOf(lax)).ask(), '403 CERTIFICATE_INVALID', protocol)

    const served = await serveCounting(t, { server, ca: root.pem, crl: crlPem(makeCrl(root, { entries: [revoked] })), clients: { legacy: true } })
    const client = connect(t, served.https, identityOf(lax))
    t.strictSame(await answers(client, 2), ['200', '200'], protocol)
    client.leave()
    t.equal(await client.ask(), '200', protocol)
    t.strictSame(served.counts, { full: 1, resumed: 1 }, protocol)
    t.equal(await connect(t, served.https, identityOf(revoked)).ask(), '403 CERTIFICATE_REVOKED', protocol)
    t.equal(await connect(t, served.https, identityOf(ended)).ask(), '403 CERTIFICATE_EXPIRED', protocol)
    t.equal(await connect(t, served.https, joe).ask(), '403 CERTIFICATE_UNTRUSTED', protocol)
    await served.change({ 'ca.pem': root.pem + acme.cert })
    t.equal(await client.ask(), '200', 'another CA does not concern it')
    await served.change({ 'crl.pem': crlPem(makeCrl(root, { entries: [revoked, lax] })) })
    t.equal(await client.ask(), '403 CERTIFICATE_REVOKED', protocol)
  }
})

t.test('a client with unknown revocation status is admitted once a CRL is there', async (t) => {
  const root = make({ ca: true, subject: 'CN=Root' })
  const branch = make({ ca: true, subject: 'CN=Branch', issuer: root })
  const leaf = made({ issuer: branch })
  const list = crlPem(makeCrl(root))
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    const served = await serveCounting(t, { server, ca: root.pem, crl: list })
    const client = connect(t, served.https, { cert: leaf.cert + branch.pem, key: leaf.key })
    t.equal(await client.ask(), '403 REVOCATION_UNKNOWN', protocol)
    client.leave()
    t.equal(await client.ask(), '403 REVOCATION_UNKNOWN', 'nor is it sent for a full handshake at once')
    await served.change({ 'crl.pem': list + crlPem(makeCrl(branch)) })
    client.leave()
    t.ok(isBack(await answers(client, 4)), protocol)
  }
})

t.test('a client whose handshake is under way while its CA is added is admitted', async (t) => {
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    const served = await serveCounting(t, { server, ca: other.cert })
    const { port, held, open } = await holdBack(t, served.https, 1)
    const client = connect(t, port, jane)
    const first = client.ask()
    await held
    await served.change({ 'ca.pem': before.ca })
    open()
    t.ok(isBack([await first, ...await answers(client, 4)]), protocol)
  }
})

t.test('clients are sent for a full handshake once a minute at most, and the next one waits until then', async (t) => {
  const third = await authority('Third CA')
  const jim = await issue(third, { subject: 'CN=Jim' })
  for (const [protocol, connect] of Object.entries(CLIENTS)) {
    const served = await serveCounting(t, { server, ca: other.cert })
    const [janes, jims, joes] = [jane, jim, joe].map((identity) => connect(t, served.https, identity)) as [Asker, Asker, Asker]
    t.equal(await joes.ask(), '200', protocol)
    t.equal(await janes.ask(), '403 CERTIFICATE_UNTRUSTED', protocol)
    await served.change({ 'ca.pem': before.ca })
    t.ok(isBack(await answers(janes, 2)), protocol)
    t.equal(await jims.ask(), '403 CERTIFICATE_UNTRUSTED', protocol)
    await served.change({ 'ca.pem': before.ca + third.cert })
    joes.leave()
    await joes.ask()
    const { full } = served.counts
    for (const client of [janes, joes]) client.leave()
    t.strictSame([await jims.ask(), await jims.ask(), await janes.ask(), await joes.ask()], ['421 MISDIRECTED', '421 MISDIRECTED', '200', '200'], protocol)
    t.equal(served.counts.full, full, 'no other client notices')

    const { now } = Date
    Date.now = () => now() + 61_000
    t.ok(isBack(await answers(jims, 3)), protocol)
    Date.now = now
    t.equal(served.counts.full, full + 1, protocol)
  }
})

const never = new Promise(() => {})

/** What takes long: what is sent with a request, and what its handler does until it is told to stop. */
const LONG: Record<string, { method: 'GET' | 'POST', handle: (reply: FastifyReply, stop: Promise<unknown>) => unknown }> = {
  'server-sent events': { method: 'GET', handle: (reply, stop) => reply.header('content-type', 'text/event-stream').send(ticking('data: tick\n\n', stop)) },
  'a download': { method: 'GET', handle: (reply, stop) => reply.header('content-length', 1e9).send(ticking('x'.repeat(1000), stop)) },
  'a long poll': { method: 'GET', handle: async () => await never },
  'an upload': { method: 'POST', handle: async ({ request }) => { (request.body as Readable).resume().on('error', () => {}); await never } }
}

function ticking (text: string, stop: Promise<unknown>): Readable {
  const stream = new Readable({ read () {} })
  const timer = setInterval(() => stream.push(text), 10)
  stop.then(() => clearInterval(timer))
  return stream
}

/** One that goes on, as its client sees it: what has come so far, and how it ends. */
interface Long { received: number, readonly ended: Promise<string>, isOver: boolean, stop (): void }

function watch (stream: Readable, ...others: EventEmitter[]): Long {
  const long = { received: 0, isOver: false, ended: Promise.resolve(''), stop: () => { stream.destroy() } }
  stream.on('data', (chunk: Buffer) => { long.received += chunk.length })
  long.ended = new Promise((resolve) => {
    const over = (how: string): void => { long.isOver = true; resolve(how) }
    for (const emitter of [stream, ...others]) emitter.on('error', () => over('cut off'))
    stream.on('end', () => over('ended'))
  })
  return long
}

const LONG_OVER: Record<string, (t: Test, port: number, identity: Identity | undefined) => (method: string, path: string) => Long> = {
  'HTTP/1.1': (t, port, identity) => (method, path) => {
    const request = https.request({ ...tlsOf(identity), port, host: 'localhost', agent: false, method, path, headers: method === 'GET' ? {} : { 'content-type': 'application/octet-stream', 'content-length': 100 } })
    t.teardown(() => request.destroy())
    const body = new PassThrough()
    request.on('response', (response) => { response.on('error', (error) => body.destroy(error)).pipe(body) })
    if (method === 'GET') request.end()
    else request.write('some of it')
    return watch(body, request)
  },
  'HTTP/2' (t, port, identity) {
    const session = http2.connect(`https://localhost:${port}`, tlsOf(identity))
    t.teardown(() => session.destroy())
    session.on('error', () => {})
    return (method, path) => {
      const stream = session.request({ ':method': method, ':path': path, 'content-type': 'application/octet-stream' }, { endStream: method === 'GET' })
      if (method === 'POST') stream.write('some of it')
      return watch(stream)
    }
  }
}

for (const [protocol, connect] of Object.entries(LONG_OVER)) {
  t.test(`over ${protocol}, a long answer ends ten seconds after its client is not trusted any more, and no other does`, async (t) => {
    const noted: string[] = []
    const served = await serveCounting(t, {
      server,
      ...before,
      declare (app) {
        app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload))
        for (const [what, { method, handle }] of Object.entries(LONG)) {
          for (const level of ['mtls', 'tls'] as const) {
            app.route({
              method,
              url: `/${level}/${what.replaceAll(' ', '-')}`,
              httpSecurity: level,
              async handler (request, reply) {
                const who = `${level} ${what} ${request.clientCertificateValue('SubjectCN')}`
                noted.push(`${who}: begins`)
                const { socket } = request.raw
                const stop = once(request.signal, 'abort').then(() => noted.push(`${who}: told${socket.destroyed ? ' late' : ''}`))
                reply.raw.on('close', () => noted.push(`${who}: closed`))
                return await handle(reply, stop)
              }
            })
          }
        }
      }
    })
    const { now } = performance
    t.teardown(() => { performance.now = now })
    const all = Object.entries(LONG).flatMap(([what, { method }]) => {
      const [janes, joes, anonymous] = [jane, joe, undefined].map((identity) => connect(t, served.https, identity)) as [ReturnType<typeof connect>, ReturnType<typeof connect>, ReturnType<typeof connect>]
      const path = what.replaceAll(' ', '-')
      return [
        { name: `mtls ${what} Jane`, ends: true, long: janes(method, `/mtls/${path}`) },
        { name: `tls ${what} Jane`, ends: false, long: janes(method, `/tls/${path}`) },
        { name: `mtls ${what} Joe`, ends: false, long: joes(method, `/mtls/${path}`) },
        { name: `tls ${what} `, ends: false, long: anonymous(method, `/tls/${path}`) }
      ]
    })
    const goOn = async (): Promise<void> => {
      const ticks = all.filter(({ name, long }) => /events|download/.test(name) && !long.isOver)
      for (const { long } of ticks) long.received = 0
      await until(() => ticks.every(({ long }) => long.received > 0))
    }
    await until(() => noted.length >= all.length)
    await goOn()
    await served.change({ 'crl.pem': revokedJane })
    await goOn()
    t.strictSame(all.filter(({ long }) => long.isOver), [], 'nothing ends before that')
    performance.now = () => now.call(performance) + 10_000
    const ending = all.filter(({ ends }) => ends)
    t.strictSame(await Promise.all(ending.map(async ({ long }) => await long.ended)), ending.map(() => 'cut off'))
    await goOn()
    t.strictSame(all.filter(({ long }) => long.isOver).map(({ name }) => name), ending.map(({ name }) => name))
    for (const { name } of ending) t.strictSame(noted.filter((line) => line.startsWith(`${name}: `)), [`${name}: begins`, `${name}: told`, `${name}: closed`], name)
    t.equal(noted.length, all.length + 2 * ending.length)
  })
}

t.test('a long answer goes on where its client is trusted again within ten seconds', async (t) => {
  const served = await serveCounting(t, { server, ...before, declare: (app) => { app.get('/ticks', { httpSecurity: 'mtls' }, async (request, reply) => await reply.send(ticking('tick', once(request.signal, 'abort')))) } })
  const long = LONG_OVER['HTTP/1.1']!(t, served.https, jane)('GET', '/ticks')
  const more = async (): Promise<void> => {
    const { received } = long
    await until(() => long.received !== received)
  }
  await more()
  await served.change({ 'crl.pem': revokedJane })
  await served.change({ 'crl.pem': before.crl })
  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 10_000
  // It is looked at twice a second
  await new Promise((resolve) => setTimeout(resolve, 600))
  await more()
  t.notOk(long.isOver)
})

t.test('a disconnected client is not judged by client CAs that changed since', async (t) => {
  const asked = new EventEmitter<{ request: [FastifyRequest] }>()
  const served = await serveCounting(t, { server, ...before, declare: (app) => { app.get('/long', { httpSecurity: 'mtls' }, (request) => { asked.emit('request', request) }) } })
  const client = http2.connect(`https://localhost:${served.https}`, tlsOf(jane))
  client.on('error', () => {})
  client.request({ ':path': '/long' }).on('error', () => {})
  const [request] = await once(asked, 'request') as [FastifyRequest]
  const gone = once((request.raw as unknown as Http2ServerRequest).stream.session!, 'close')
  client.destroy()
  await gone
  t.match(request.clientCertificateGetDetails(), { isPresent: true, isValid: true })
  await served.change({ 'crl.pem': (await Promise.all([acme, branch, other].map(async (ca) => await revocationList(ca, [], [-0.5, 30])))).join('') })
  t.match(request.clientCertificateGetDetails(), { isPresent: true, isValid: false })
})

t.test('WebSockets end when a new policy would not admit them, without a client certificate too', async (t) => {
  const served = await serveCounting(t, {
    server,
    ...before,
    declare: (app) => { app.get('/anyone', { websocket: true, httpSecurity: 'none' }, (socket: WebSocket) => { socket.on('message', (message) => { socket.send(String(message)) }) }) }
  })
  const plain = await openSocket(t, `ws://localhost:${served.http}/anyone`, tlsOf())
  const others = [await openSocket(t, `wss://localhost:${served.https}/anyone`, tlsOf()), await openSocket(t, `wss://localhost:${served.https}/anyone`, tlsOf(jane)), await openSocket(t, `wss://localhost:${served.https}/live`, tlsOf(jane))]
  t.equal(await echoed(plain), 'hello')
  const closed = once(plain, 'close')
  served.app.httpSecurity.enforce({})
  t.equal(await echoed(plain), 'hello', 'nor does one without a certificate when it would be admitted again')
  served.app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  await closed
  for (const socket of others) t.equal(await echoed(socket), 'hello')
  await t.rejects(openSocket(t, `ws://localhost:${served.http}/anyone`, tlsOf()), /403/)
})

t.test('WebSockets end when the CA, intermediate or CRL of their client certificate expires', async (t) => {
  const [root, lasting] = [make({ ca: true, subject: 'CN=Root', days: [-1, 15] }), make({ ca: true, subject: 'CN=Lasting' })]
  const short = make({ ca: true, subject: 'CN=Short', issuer: lasting, days: [-1, 5] })
  const { cert, key } = made({ issuer: short })
  const lists = [root, lasting, short].map((issuer) => crlPem(makeCrl(issuer))).join('')
  const served = await serveCounting(t, { server, ca: root.pem + lasting.pem + acme.cert, crl: lists + await revocationList(acme, [], [-1, 10]) })
  const open = async (identity: Identity) => await openSocket(t, `wss://localhost:${served.https}/live`, tlsOf(identity))
  const stays = await open(made({ issuer: lasting }))
  const ending = { 6: await open({ cert: cert + short.pem, key }), 11: await open(jane), 16: await open(made({ issuer: root })) }
  const { now } = Date
  t.teardown(() => { Date.now = now })
  for (const [days, socket] of Object.entries(ending)) {
    t.equal(await echoed(socket), 'hello', days)
    Date.now = () => now() + Number(days) * DAY
    await once(socket, 'close')
  }
  t.equal(await echoed(stays), 'hello')
})

const LAST = 2 ** 31 - 1

t.test('HTTP/2 sessions end with two GOAWAY frames, and requests sent before are served', async (t) => {
  const served = await serveCounting(t, { server, ca: other.cert })
  const frames = await connectFrames(t, { port: await forwardInThread(t, served.https), ...tlsOf(jane) })
  // While the first one is refused, it is in the kernel, and Node has not read it
  served.app.server.prependOnceListener('request', () => {
    frames.request(3, { ':path': '/tls' })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  })
  frames.request(1, { ':path': '/partners' })
  await frames.closed
  t.strictSame([...new Set(frames.goaways)], [LAST, 3], 'RFC 9113 §6.8')
  t.strictSame([...frames.answered].sort(), [1, 3])
  t.strictSame(served.reached, ['GET /tls '])

  // However many are refused at once, and however long the others take
  const many = await connectFrames(t, { port: served.https, ...tlsOf(jane) })
  const streams = Array.from({ length: 20 }, (_, index) => 2 * index + 1)
  many.socket.cork()
  for (const stream of streams) many.request(stream, { ':path': '/partners' })
  many.request(41, { ':path': '/slow/tls' })
  many.socket.uncork()
  await many.goaway
  // On its way by then: it is told that it was not seen
  many.request(43, { ':path': '/tls' })
  await until(() => many.answered.size === 20 && served.reached.length === 2)
  served.release()
  await many.closed
  t.strictSame([...new Set(many.goaways)], [LAST, 41])
  t.strictSame([...many.answered].sort((one, other) => one - other), [...streams, 41])
})

/** One request on a connection of its own: what it is answered, whether it has resumed a session, and its own one. */
async function askOnce (t: Test, { https }: { https: number }, identity: Identity, version: SecureVersion, session?: Buffer) {
  const wire = await connectWire(t, { port: https, ...tlsOf(identity), minVersion: version, maxVersion: version, session })
  const answer = await wire.get('/partners')
  return { answer: answer === undefined ? 'closed' : outcomeOf(answer), isResumed: wire.socket.isSessionReused(), ticket: wire.ticket }
}

t.test('with a shared session secret, servers of one application and the same hosts resume each other\'s sessions, and no others do', async (t) => {
  const another = await issueServer(serverCa, ['localhost', 'shop.test'])
  const trusting = (more: Partial<EnableTlsOptions>, application?: string, identity = server) => serveCounting(t, { server: identity, ca: before.ca, tls: more, options: application === undefined ? {} : { application } })
  const first = await trusting({ sessions: { secret: secretFile } }, 'shop')
  const others = {
    'the same, given as bytes': { isResumed: true, served: await trusting({ sessions: { secret } }, 'shop') },
    'another secret': { isResumed: false, served: await trusting({ sessions: { secret: Buffer.alloc(32, 8) } }, 'shop') },
    'no secret': { isResumed: false, served: await trusting({}, 'shop') },
    'another application': { isResumed: false, served: await trusting({ sessions: { secret } }, 'forum') },
    'no application': { isResumed: false, served: await trusting({ sessions: { secret } }) },
    'another host': { isResumed: false, served: await trusting({ sessions: { secret } }, 'shop', another) },
    'another host with client CAs of its own': { isResumed: false, served: await trusting({ sessions: { secret }, clientCertificates: { localhost: { ca: before.ca }, 'shop.test': { ca: acme.cert } } }, 'shop') }
  }
  for (const version of VERSIONS) {
    const { answer, ticket } = await askOnce(t, first, jane, version)
    t.equal(answer, '200', version)
    for (const [what, { isResumed, served }] of Object.entries(others)) {
      t.match(await askOnce(t, served, jane, version, await ticket), { answer: '200', isResumed }, `${version}, ${what}`)
    }
  }
  // What the other one has judged by does not count here
  const stricter = others['the same, given as bytes'].served
  const { ticket } = await askOnce(t, first, joe, 'TLSv1.3')
  await stricter.change({ 'ca.pem': acme.cert })
  t.match(await askOnce(t, stricter, joe, 'TLSv1.3', await ticket), { answer: '403 CERTIFICATE_UNTRUSTED', isResumed: true })
})

t.test('ticket keys change each day, with one full handshake for each client and no failure', async (t) => {
  // The day is looked at once a minute
  const { setInterval } = globalThis
  const { now } = Date
  t.teardown(() => { Date.now = now })
  globalThis.setInterval = ((call: () => void, milliseconds: number) => setInterval(call, milliseconds === 60_000 ? 10 : milliseconds)) as typeof setInterval
  const start = async () => await serveCounting(t, { server, ca: before.ca, tls: { sessions: { secret } } })
  const [served, other] = await start().then(async (first) => [first, await start()] as const).finally(() => { globalThis.setInterval = setInterval })
  const clients = startClients(t, served.https, 5)
  t.strictSame(await askAll(clients, () => true), [])
  t.equal(served.counts.full, clients.length)
  t.strictSame(await askAll(clients, () => true), [])
  t.equal(served.counts.full, clients.length, 'resumed until then')
  // A client was refused before its CA is added: its sessions alone are renewed
  const { ticket: old } = await askOnce(t, other, jane, 'TLSv1.3')
  t.match(await askOnce(t, served, jane, 'TLSv1.3', await old), { isResumed: true })
  const added = await authority('Added')
  t.match(await askOnce(t, served, await issue(added), 'TLSv1.3'), { answer: '403 CERTIFICATE_UNTRUSTED' })
  await served.change({ 'ca.pem': before.ca + added.cert })
  t.match(await askOnce(t, served, jane, 'TLSv1.3', await old), { answer: '200', isResumed: false })
  for (let times = 0; times < 2; times++) t.strictSame(await askAll(clients, () => true), [])

  const { ticket } = await askOnce(t, served, jane, 'TLSv1.3')
  const { full } = served.counts
  Date.now = () => now() + DAY
  await new Promise((resolve) => setTimeout(resolve, 100))
  // What fetch is told to leave it leaves with its next answer
  for (let times = 0; times < 2; times++) t.strictSame(await askAll(clients, () => true), [])
  t.equal(served.counts.full, full + clients.length, 'one for each client')
  t.strictSame(await askAll(clients), [])
  t.equal(served.counts.full, full + clients.length, 'and none after that')
  t.match(await askOnce(t, other, jane, 'TLSv1.3', await ticket), { answer: '200', isResumed: false })
  const { ticket: fresh } = await askOnce(t, served, jane, 'TLSv1.3')
  t.match(await askOnce(t, other, jane, 'TLSv1.3', await fresh), { answer: '200', isResumed: true }, 'the others have the same')
})

t.test('a new session secret in its file is used from then on, and an invalid one is not', async (t) => {
  const served = await serveCounting(t, { server, ca: before.ca, files: { 'session.key': 'a secret of thirty-two characters' }, tls: { sessions: { secret: join(t.testdirName, 'session.key') } } })
  const kept = CLIENTS['HTTP/1.1']!(t, served.https, joe)
  t.equal(await kept.ask(), '200')
  const { ticket } = await askOnce(t, served, jane, 'TLSv1.3')
  for (const content of ['too short', '']) {
    await t.rejects(served.change({ 'session.key': content }), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: content === '' ? /sessions\.secret: its file cannot be read: it is empty/ : /session\.key: a secret of 32 bytes or more is needed: openssl rand -out FILE 32/ })
    t.match(await askOnce(t, served, jane, 'TLSv1.3', await ticket), { answer: '200', isResumed: true }, 'the one before stays')
  }
  await served.change({ 'session.key': 'another one of thirty-two characters' })
  const { full } = served.counts
  const again = await askOnce(t, served, jane, 'TLSv1.3', await ticket)
  t.match(again, { answer: '200', isResumed: false })
  t.match(await askOnce(t, served, jane, 'TLSv1.3', await again.ticket), { answer: '200', isResumed: true })
  t.equal(await kept.ask(), '200')
  t.equal(served.counts.full, full + 1, 'kept connections go on')
})

t.test('a session secret is not revealed, and is copied when it is given', async (t) => {
  const texts = ['correct-horse-battery-staple-and-more', randomBytes(48).toString('base64'), randomBytes(32).toString('hex')]
  const isToldBy = (value: unknown, text: string): boolean => inspect(value, { depth: 10, showHidden: true, getters: true }).includes(text.slice(0, 12))
  const certificates = { cert: server.cert, key: server.key }
  for (const text of texts) {
    // Taken for the path of a file
    const error = await enableTls({ certificates, sessions: { secret: text } }).catch((error: Error) => error)
    t.match(error, { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: /^sessions\.secret: / }, text)
    t.notOk(isToldBy(error, text), text)
    for (const sessions of [{ secret: [text] }, { secret: { [text]: text } }, { secret: text, more: text }, text]) {
      const error = await enableTls({ certificates, sessions } as never).catch((error: Error) => error)
      t.match(error, { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' })
      t.notOk(isToldBy(error, text), inspect(error))
    }
    const short = await enableTls({ certificates, sessions: { secret: Buffer.from(text.slice(0, 31)) } }).catch((error: Error) => error)
    t.match(short, { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: 'sessions.secret: a secret of 32 bytes or more is needed: openssl rand -out FILE 32' }, text)
    t.notOk(isToldBy(short, text), text)
  }
  const bytes = Buffer.from(secret)
  const start = async (given: Buffer) => await serveCounting(t, { server, ca: before.ca, tls: { sessions: { secret: given } } })
  const [wiped, other] = [await start(bytes), await start(secret)]
  bytes.fill(0)
  const renewed = await issueServer(serverCa)
  await wiped.change({ 'server.pem': renewed.cert, 'server.key': renewed.key })
  const { ticket } = await askOnce(t, wiped, jane, 'TLSv1.3')
  t.match(await askOnce(t, other, jane, 'TLSv1.3', await ticket), { answer: '200', isResumed: true })
  for (const encoding of ['utf8', 'hex', 'base64'] as const) t.notMatch(JSON.stringify([wiped.log, wiped.tls.certificates(), wiped.app.httpSecurity]), secret.toString(encoding), encoding)
})
