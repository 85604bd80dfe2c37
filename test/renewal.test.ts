/**
 * What goes on while trust is renewed: clients that count notice nothing of it, those that count again are back with their
 * next request or the one after it, and what takes long ends when its client does not count any more.
 */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import type { ClientRequest } from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'
import { WebSocket } from 'ws'
import { ask, askHttp2 } from './fixtures/ask.ts'
import { type Identity, authority, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { serveTrust } from './fixtures/trust.ts'
import { startCluster } from './fixtures/workers.ts'

const [acme, other, serverCa] = await Promise.all([authority('Acme CA'), authority('Other CA'), authority('Server CA')])
const [server, jane, joe, branch] = await Promise.all([
  issueServer(serverCa), issue(acme, { subject: 'CN=Jane' }), issue(other, { subject: 'CN=Joe' }), issue(acme, { subject: 'CN=Branch CA', ca: true, purpose: 'none' })
])
const june = await issue(branch, { subject: 'CN=June' })
const chain = { cert: june.cert + branch.cert, key: june.key }
const before = { ca: acme.cert + other.cert, crl: (await Promise.all([acme, branch, other].map(async (ca) => await revocationList(ca)))).join('') }
const tlsOf = (identity?: Identity) => ({ ca: serverCa.cert, ...identity && { cert: identity.cert, key: identity.key } })

/** A client program: one connection, which it keeps, and its latest session, with which it opens another one. */
interface Client {
  /** Rejects where it is not served. */
  ask (): Promise<void>
  /** Its connection is closed, so that its next request opens one. */
  reconnect (): unknown
  close (): void
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
      close () { dispatcher.close() }
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
  const strangers = await Promise.all(Array.from({ length: unused }, async (_, index) => await authority(`Unused CA ${index}`)))
  const changes: Array<Record<string, string>> = []
  let [own, others] = ['', '']
  for (let index = 0; index < times; index++) {
    const days = [-1 + index / 1000, 30] as const
    own = (await Promise.all([acme, branch].map(async (ca) => await revocationList(ca, [], days)))).join('')
    changes.push({ 'crl.pem': own + (others || await revocationList(other)) })
    others = await revocationList(other, [], days)
    changes.push({ 'crl.pem': own + others })
  }
  const cas = (count: number) => ({ 'ca.pem': ca + strangers.slice(0, count).map(({ cert }) => cert).join('') })
  for (let count = 1; count <= unused; count++) changes.push(cas(count))
  for (let count = unused - 1; count >= 0; count--) changes.push(cas(count))
  return changes
}

t.test('renewals under load: no request fails, no WebSocket is lost, and no client makes a second full handshake', async (t) => {
  const served = await serveTrust(t, { server, ...before, http2: true })
  let full = 0
  let resumed = 0
  served.app.server.on('secureConnection', (socket: TLSSocket) => { if (socket.isSessionReused()) resumed++; else full++ })
  served.app.server.prependListener('request', (request: https.RequestOptions, response: { shouldKeepAlive: boolean }) => {
    if (Reflect.has(request.headers!, 'x-last')) response.shouldKeepAlive = false
  })
  const clients = startClients(t, served.https, 50)
  t.strictSame(await askAll(clients), [])
  t.equal(full, clients.length, 'one for each client')
  const changes = await renewals(before.ca, 20, 5)
  const failures: string[] = []
  for (const [index, files] of changes.entries()) {
    failures.push(...await askDuring(clients, index, async () => {
      served.write(files)
      await served.tls.reload()
    }))
  }
  failures.push(...await askAll(clients))
  t.strictSame(failures, [])
  t.equal(full, clients.length, 'and none after that')
  t.ok(resumed > clients.length, `${resumed} connections were resumed meanwhile`)
  t.equal(served.log.filter(({ msg }) => msg.includes('read anew')).length, changes.length)
})

t.test('nor with two workers of a cluster, which read what has changed one after the other', async (t) => {
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
