import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import tls from 'node:tls'
import { promisify } from 'node:util'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import httpSecurity from '../lib/index.ts'
import { enableTls, listen, type ListenResult } from '../lib/tls/index.ts'
import { ask, askHttp2, askRaw } from './fixtures/ask.ts'
import { AT_ONCE } from './fixtures/time.ts'
import { holdBack } from './fixtures/wire.ts'
import { authority, issueServer } from './fixtures/pki.ts'
import { freePort, hasIPv6, portOf, refusesConnections } from './fixtures/network.ts'

const authorityOfTests = await authority('Test CA')
const { cert, key } = await issueServer(authorityOfTests)
const ca = authorityOfTests.cert
const secureContext = tls.createSecureContext({ ca })
/** OpenSSL 3.0, in Node 20, takes other methods than GET, HEAD, POST, PUT and CONNECT for any garbage. */
const knowsAllMethods = !process.versions.openssl.startsWith('3.0.')
/** More than the buffers of two sockets hold. */
const LARGE = 10_000_000

interface AppOptions { http2?: boolean, fastify?: object, https?: object }

/** An app that tells what it saw, on both ports. */
function appWith (t: Test, options: AppOptions = {}): FastifyInstance {
  const settings = { ...options.fastify, https: { cert, key, ...options.https } }
  const app = (options.http2
    ? Fastify({ ...settings, http2: true, https: { allowHTTP1: true, ...settings.https } })
    : Fastify(settings)) as unknown as FastifyInstance
  t.teardown(() => app.close())
  app.get('/', async (request) => ({ protocol: request.protocol, version: request.raw.httpVersion, local: request.socket.localAddress }))
  app.post('/', async () => 'posted')
  // Under way until the app closes, and a while longer
  app.get('/slow', async () => {
    while (app.server.listening) await wait(20)
    await wait(300)
    return 'slow'
  })
  app.get('/large', async () => Buffer.alloc(LARGE, 'x'))
  app.get('/stuck', (_, reply) => { reply.raw.write('…') })
  return app
}

interface Client { tls?: boolean, path?: string, agent?: http.Agent, port?: number, payload?: string, method?: string, headers?: http.OutgoingHttpHeaders, setHost?: boolean }
const get = async ({ tls = false, ...options }: Client, addresses: ListenResult) =>
  ask({ port: tls ? addresses.https.port : addresses.http!.port, ...options, ...tls && { tls: { ca } } })

/** One app for each kind of server. */
const kinds = [{ http2: false }, { http2: true }]
/** What Fastify may be told of connections when it closes. */
const forces = [undefined, 'idle', true]
const variants = [true, false].flatMap((hasPlain) => kinds.flatMap((kind) => forces.map((forceCloseConnections) => ({ ...kind, hasPlain, fastify: { forceCloseConnections } }))))
const nameOf = ({ http2, hasPlain, fastify }: typeof variants[number]): string => `${http2 ? 'http2' : 'https'}${hasPlain ? ' and http' : ''} ${JSON.stringify(fastify)}`
/** Ports, and how to speak to them. */
const oversOf = ({ hasPlain }: { hasPlain: boolean }) => hasPlain ? ['tcp', 'tls'] as const : ['tls'] as const
const portsFor = ({ hasPlain }: { hasPlain: boolean }) => ({ https: 0, ...hasPlain && { http: 0 } })

function sessionWith (t: Test, { https: { port } }: ListenResult): http2.ClientHttp2Session {
  const session = http2.connect(`https://127.0.0.1:${port}`, { ca }).on('error', () => {})
  t.teardown(() => session.destroy())
  return session
}

/** A connection that bytes can be written to at once, to one of the ports. */
async function connect (t: Test, { https, http }: Pick<ListenResult, 'https' | 'http'>, over: 'tls' | 'tcp to tls' | 'tcp', session?: Buffer): Promise<net.Socket> {
  const socket = over === 'tls'
    ? tls.connect({ host: '127.0.0.1', port: https.port, secureContext, session })
    : net.connect(over === 'tcp' ? http!.port : https.port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, over === 'tls' ? 'secureConnect' : 'connect')
  return socket
}

const closeOf = (stream: net.Socket | http2.ClientHttp2Stream): Promise<void> => new Promise((resolve) => {
  if (stream.closed) resolve()
  stream.once('close', resolve)
  stream.resume()
})

const timed = async (promise: Promise<unknown>): Promise<number> => {
  const began = Date.now()
  await promise
  return Date.now() - began
}

t.test('listen() serves one app on both ports', async (t) => {
  const app = appWith(t)
  const addresses = await listen(app, { http: 0, https: 0 })
  t.match(addresses, { http: { address: '127.0.0.1', port: Number }, https: { address: '127.0.0.1', port: Number } })
  t.ok(Object.isFrozen(addresses) && Object.isFrozen(addresses.http) && Object.isFrozen(addresses.https))
  t.strictSame(JSON.parse((await get({}, addresses)).body), { protocol: 'http', version: '1.1', local: '127.0.0.1' })
  t.strictSame(JSON.parse((await get({ tls: true }, addresses)).body), { protocol: 'https', version: '1.1', local: '127.0.0.1' })
  t.equal((await get({ path: '/nothing' }, addresses)).status, 404)
  await app.close()
  t.ok(await refusesConnections(addresses.http!.port))
  t.ok(await refusesConnections(addresses.https.port))
})

t.test('listen() takes an app that is ready already, and may leave out the HTTP port', async (t) => {
  const app = appWith(t)
  await app.ready()
  const addresses = await listen(app, { http: 0, https: 0 })
  t.equal((await get({}, addresses)).status, 200)
  await app.close()
  t.ok(await refusesConnections(addresses.http!.port))

  const alone = await listen(appWith(t), { https: 0 })
  t.strictSame(Object.keys(alone), ['https'])
  t.equal((await get({ tls: true }, alone)).status, 200)
})

t.test('listen() serves an HTTP/2 app on both ports', async (t) => {
  const addresses = await listen(appWith(t, { http2: true }), { http: 0, https: 0 })
  t.match(JSON.parse((await get({}, addresses)).body), { protocol: 'http', version: '1.1' })
  t.match(JSON.parse((await get({ tls: true }, addresses)).body), { protocol: 'https', version: '1.1' })
  const session = sessionWith(t, addresses)
  t.match(JSON.parse((await askHttp2(session, { ':path': '/' })).body), { protocol: 'https', version: '2.0' })
})

t.test('WebSockets work on the HTTP and the HTTPS port', async (t) => {
  const app = appWith(t)
  await app.register(websocket)
  app.get('/echo', { websocket: true }, (socket, request) => {
    socket.on('message', (message) => { socket.send(`${request.protocol}: ${String(message)}`) })
  })
  const addresses = await listen(app, { http: 0, https: 0 })
  const { http: plain, https: secure } = addresses
  const sockets = [`ws://127.0.0.1:${plain?.port}/echo`, `wss://127.0.0.1:${secure.port}/echo`]
    .map((url) => new WebSocket(url, { ca }))
  for (const [index, protocol] of ['http', 'https'].entries()) {
    const socket = sockets[index]
    await once(socket, 'open')
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), `${protocol}: hello`)
  }
  t.equal((await get({}, addresses)).status, 200, 'and plain requests go on')

  // As when the app closes: the plugin is gone, but somebody still asks
  app.server.removeAllListeners('upgrade')
  await t.rejects(once(new WebSocket(`ws://127.0.0.1:${plain?.port}/echo`), 'open'), { code: 'ECONNRESET' })

  const closed = sockets.map((socket) => once(socket, 'close'))
  t.ok(await timed(app.close()) < AT_ONCE)
  await Promise.all(closed)
})

t.test('without a WebSocket plugin, a request for an upgrade is served as an ordinary one on both ports', async (t) => {
  const addresses = await listen(appWith(t), { http: 0, https: 0 })
  const headers = { connection: 'upgrade', upgrade: 'websocket' }
  for (const tls of [false, true]) t.equal((await get({ tls, headers }, addresses)).status, 200)
})

t.test('both ports decide alike which request is an upgrade', async (t) => {
  // Node 20 does not ask, and gives every upgrade to the listeners
  const app = appWith(t, { https: { shouldUpgradeCallback: ({ headers }: http.IncomingMessage) => headers.upgrade === 'own' } })
  app.server.on('upgrade', (_, socket) => { socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n') })
  const addresses = await listen(app, { http: 0, https: 0 })
  for (const protocol of ['own', 'h2c']) {
    const answers = []
    for (const over of ['tcp', 'tls'] as const) {
      const socket = await connect(t, addresses, over)
      socket.write(`GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ${protocol}\r\n\r\n`)
      answers.push(String(await once(socket, 'data')).slice(0, 12))
    }
    t.equal(answers[0], answers[1], protocol)
    if (protocol === 'own') t.equal(answers[0], 'HTTP/1.1 101')
  }
})

t.test('both ports answer a malformed request alike', async (t) => {
  const addresses = await listen(appWith(t), { http: 0, https: 0 })
  const answers = []
  for (const over of ['tcp', 'tls'] as const) {
    const socket = await connect(t, addresses, over)
    socket.write('GET / HTTP/1.1\r\nno colon\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += String(chunk)
    answers.push(text)
  }
  t.match(answers[0], /^HTTP\/1.1 400 Bad Request\r\n[^]*Client Error/)
  t.equal(answers[0], answers[1])
})

t.test('both ports have the limits and timeouts of the server', async (t) => {
  const app = appWith(t, {
    fastify: { keepAliveTimeout: 9_000, maxRequestsPerSocket: 2 }, https: { maxHeaderSize: 32_768, requireHostHeader: false }
  })
  const addresses = await listen(app, { http: 0, https: 0 })
  for (const [tls, Agent] of [[false, http.Agent], [true, https.Agent]] as const) {
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const init = { tls, agent, headers: { long: 'x'.repeat(20_000) } }
    t.match(await get(init, addresses), { status: 200, headers: { 'keep-alive': 'timeout=9, max=2', connection: 'keep-alive' } })
    t.match(await get(init, addresses), { status: 200, headers: { connection: 'close' } })
    t.equal((await get({ tls, headers: { long: 'x'.repeat(40_000) } }, addresses)).status, 431)
    t.equal((await get({ tls, setHost: false }, addresses)).status, 200)
  }
})

t.test('a client that sends its headers slowly is cut off on both ports', async (t) => {
  const limits = { headersTimeout: 500, connectionsCheckingInterval: 100 }
  for (const kind of kinds) {
    const app = appWith(t, { ...kind, https: limits })
    // Node 20 and 22 do not read these options for HTTP/2, but heed the properties
    Object.assign(app.server, limits)
    const addresses = await listen(app, { http: 0, https: 0 })
    await Promise.all((['tcp', 'tls'] as const).map(async (over) => {
      const socket = await connect(t, addresses, over)
      socket.write('GET / HTTP/1.1\r\nhost: a\r\nslow: ')
      const drip = setInterval(() => { socket.write('x') }, 100)
      let text = ''
      socket.on('data', (chunk) => { text += String(chunk) })
      const after = await timed(closeOf(socket)).finally(() => clearInterval(drip))
      t.ok(after > 300 && after < 30_000, `${over} after ${after} ms`)
      t.match(text, /^HTTP\/1.1 408 /)
    }))
  }
})

for (const kind of kinds) {
  t.test(`a thousand idle connections on each port do not delay close(), ${JSON.stringify(kind)}`, async (t) => {
    const app = appWith(t, kind)
    // Fastify does not set it for HTTP/2, and they are to be idle for longer than by default
    app.server.keepAliveTimeout = 60_000
    const addresses = await listen(app, { http: 0, https: 0 })
    const sockets: net.Socket[] = []
    // A thousand full handshakes take long
    const first = await connect(t, addresses, 'tls') as tls.TLSSocket
    const [session] = await once(first, 'session') as [Buffer]
    for (const over of ['tcp', 'tls'] as const) {
      // A hundred at a time, or they wait for each other
      for (let made = 0; made < 1_000; made += 100) {
        sockets.push(...await Promise.all(Array.from({ length: 100 }, async () => {
          const socket = await connect(t, addresses, over, session)
          socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
          await once(socket, 'data')
          return socket
        })))
      }
    }
    first.destroy()
    t.notOk(sockets.some(({ closed }) => closed))
    const closed = Promise.all(sockets.map(closeOf))
    const after = await timed(app.close())
    t.ok(after < AT_ONCE, `${after} ms`)
    await closed
  })
}

t.test('close() ends idle connections at once, whatever forceCloseConnections is', async (t) => {
  await Promise.all(variants.map(async (variant) => {
    const app = appWith(t, variant)
    const addresses = await listen(app, portsFor(variant))
    for (const over of oversOf(variant)) {
      const agent = new (over === 'tls' ? https : http).Agent({ keepAlive: true })
      t.teardown(() => agent.destroy())
      await get({ tls: over === 'tls', agent }, addresses)
    }
    if (variant.http2) await askHttp2(sessionWith(t, addresses), { ':path': '/' })
    const after = await timed(app.close())
    t.ok(after < AT_ONCE, `${nameOf(variant)}: ${after} ms`)
    t.ok(await refusesConnections(addresses.https.port))
  }))
})

t.test('close() ends unused connections at once, whatever forceCloseConnections is', async (t) => {
  const open = async (variant: typeof variants[number], addresses: ListenResult): Promise<Array<Promise<void>>> => {
    const sockets: net.Socket[] = [await connect(t, addresses, 'tcp to tls')]
    for (const over of oversOf(variant)) sockets.push(await connect(t, addresses, over))
    if (variant.http2) {
      const session = sessionWith(t, addresses)
      await once(session, 'connect')
      const silent = tls.connect({ host: '127.0.0.1', port: addresses.https.port, secureContext, ALPNProtocols: ['h2'] }).on('error', () => {})
      await once(silent, 'secureConnect')
      sockets.push(silent)
    }
    return sockets.map(closeOf)
  }
  for (const age of [0, 400]) {
    await Promise.all(variants.map(async (variant) => {
      const app = appWith(t, variant)
      const addresses = await listen(app, portsFor(variant))
      const closed = await open(variant, addresses)
      await wait(age)
      const after = await timed(app.close())
      t.ok(after < 1_500, `${nameOf(variant)}, open for ${age} ms: ${after} ms`)
      await Promise.all(closed)
    }))
  }
})

t.test('close() ends unused connections at once where the app listens without listen()', async (t) => {
  for (const kind of kinds) {
    const enabled = await enableTls({ certificates: { cert, key } })
    const app = Fastify({ ...kind.http2 && { http2: true }, https: enabled.https } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, { tls: enabled })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const addresses = { https: app.server.address() as net.AddressInfo }
    const closed = [await connect(t, addresses, 'tls'), await connect(t, addresses, 'tcp to tls')].map(closeOf)
    const after = await timed(app.close())
    t.ok(after < 1_500, `${after} ms`)
    await Promise.all(closed)
  }
})

t.test('a TLS handshake that ends during close() delays it no longer than it takes', async (t) => {
  for (const ALPNProtocols of [['http/1.1'], ['h2']]) {
    const enabled = await enableTls({ certificates: { cert, key } })
    const app = Fastify({ http2: true, https: { ...enabled.https, allowHTTP1: true } } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(httpSecurity, { tls: enabled })
    await app.listen({ port: 0, host: '127.0.0.1' })
    // The client's last flight, and what it says after that
    const proxy = await holdBack(t, portOf(app), 1)
    const socket = tls.connect({ host: '127.0.0.1', port: proxy.port, secureContext, ALPNProtocols }).on('error', () => {})
    t.teardown(() => socket.destroy())
    await once(socket, 'secureConnect')
    if (ALPNProtocols[0] === 'h2') http2.connect('https://localhost', { createConnection: () => socket }).on('error', () => {})
    const closing = timed(app.close())
    await wait(100)
    proxy.open()
    t.ok(await closing < AT_ONCE, ALPNProtocols[0])
  }
})

t.test('a first request that is on its way during close() is answered', async (t) => {
  await Promise.all(variants.map(async (variant) => {
    const app = appWith(t, { ...variant, fastify: { ...variant.fastify, return503OnClosing: false } })
    const addresses = await listen(app, portsFor(variant))
    const answers = oversOf(variant).map(async (over) => {
      const socket = await connect(t, addresses, over)
      return async () => {
        // Just after close() has begun: beside a busy process, any longer might be too long.
        await wait(10)
        socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
        return await Promise.race([once(socket, 'data').then(String), once(socket, 'close').then(() => 'closed')])
      }
    })
    const asking = (await Promise.all(answers)).map(async (ask) => await ask())
    await app.close()
    for (const answer of await Promise.all(asking)) t.match(answer, /^HTTP\/1\.1 200 /, nameOf(variant))
  }))
})

t.test('a request that has reached the machine before close() is answered', async (t) => {
  await Promise.all(variants.map(async (variant) => {
    const app = appWith(t, { ...variant, fastify: { ...variant.fastify, return503OnClosing: false } })
    const addresses = await listen(app, portsFor(variant))
    const kept: net.Socket[] = []
    for (const over of oversOf(variant)) {
      const unused = await connect(t, addresses, over)
      const used = await connect(t, addresses, over)
      used.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
      await once(used, 'data')
      kept.push(unused, used)
    }
    await wait(300)
    const answers = kept.map(async (socket) => String(await once(socket, 'data')))
    for (const socket of kept) socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    // Unread, as nothing else was done since
    app.server.close()
    for (const answer of await Promise.all(answers)) t.match(answer, /^HTTP\/1\.1 200 /, nameOf(variant))
    await app.close()
  }))
})

t.test('requests under way are answered in full before close() resolves, whatever forceCloseConnections is', async (t) => {
  const answer = async (variant: typeof variants[number]): Promise<void> => {
    const app = appWith(t, variant)
    const order: string[] = []
    app.addHook('onResponse', async () => { order.push('answered') })
    app.addHook('onClose', async () => { order.push('released') })
    const addresses = await listen(app, portsFor(variant))
    const name = nameOf(variant)

    const slow = []
    const large = []
    for (const over of oversOf(variant)) {
      const agent = new (over === 'tls' ? https : http).Agent({ keepAlive: true })
      t.teardown(() => agent.destroy())
      // Somebody who asks for the connection to be kept, and somebody who does not
      slow.push(get({ tls: over === 'tls', path: '/slow', agent }, addresses), get({ tls: over === 'tls', path: '/slow' }, addresses))
      const socket = await connect(t, addresses, over)
      socket.write('GET /large HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n')
      large.push(await begun(socket))
    }
    if (variant.http2) {
      slow.push(askHttp2(sessionWith(t, addresses), { ':path': '/slow' }))
      large.push(await begun(sessionWith(t, addresses).request({ ':path': '/large' })))
    }
    await wait(50)

    const closing = timed(app.close())
    await wait(50)
    t.ok(await refusesConnections(addresses.https.port) && (addresses.http === undefined || await refusesConnections(addresses.http.port)), `${name}: no new ones`)
    t.strictSame((await Promise.all(slow)).map(({ body }) => body), slow.map(() => 'slow'), name)
    for (const size of await Promise.all(large.map((rest) => rest()))) t.ok(size >= LARGE, `${name}: ${size} bytes`)
    const after = await closing
    t.ok(after < 4_000, `${name}: connections are not waited for, ${after} ms`)
    t.strictSame(order, [...order.slice(1).fill('answered'), 'released'], 'what the requests need is released after them')
  }
  // Not all at once, or they are slow for another reason
  for (const force of forces) {
    await Promise.all(variants.filter(({ fastify }) => fastify.forceCloseConnections === force).map(answer))
  }
})

/** Waits for the first of what a stream has to say; the rest is read later, and its size told when it has ended. */
async function begun (stream: net.Socket | http2.ClientHttp2Stream): Promise<() => Promise<number>> {
  stream.on('error', () => {})
  let size = 0
  const [first] = await once(stream, 'data') as [Buffer]
  stream.pause()
  size += first.length
  return async () => {
    stream.on('data', (chunk: Buffer) => { size += chunk.length })
    await closeOf(stream)
    return size
  }
}

t.test('an answer that never ends is cut off some time after close(), whatever forceCloseConnections is', async (t) => {
  await Promise.all(variants.map(async (variant) => {
    const app = appWith(t, variant)
    // Somebody's own protocol, which does not know of closing
    app.server.on('upgrade', (_, socket) => { socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n') })
    const addresses = await listen(app, portsFor(variant))
    const left: Array<net.Socket | http2.ClientHttp2Stream> = []
    for (const over of oversOf(variant)) {
      const stuck = await connect(t, addresses, over)
      stuck.write('GET /stuck HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n')
      const upgraded = await connect(t, addresses, over)
      upgraded.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: own\r\n\r\n')
      const halfway = await connect(t, addresses, over)
      halfway.write('GET / HTTP/1.1\r\nhost: a')
      await Promise.all([once(stuck, 'data'), once(upgraded, 'data')])
      left.push(stuck, upgraded, halfway)
    }
    const halfHandshake = await connect(t, addresses, 'tcp to tls')
    halfHandshake.write(Buffer.from('1603010200010001fc0303', 'hex'))
    left.push(halfHandshake)
    if (variant.http2) {
      const stream = sessionWith(t, addresses).request({ ':path': '/stuck' }).on('error', () => {})
      await once(stream, 'data')
      left.push(stream)
    }
    const closed = left.map(closeOf)
    const after = await timed(app.close())
    t.ok(after > 4_000 && after < 30_000, `${nameOf(variant)}: ${after} ms`)
    await Promise.all(closed)
  }))
})

t.test('closeAllConnections() ends the connections of both ports', async (t) => {
  const app = appWith(t)
  const addresses = await listen(app, { http: 0, https: 0 })
  const stuck = async (): Promise<net.Socket[]> => {
    const sockets = []
    for (const over of ['tcp', 'tls'] as const) {
      const socket = await connect(t, addresses, over)
      socket.write('GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n')
      await once(socket, 'data')
      sockets.push(socket)
    }
    return sockets
  }
  const before = (await stuck()).map(closeOf)
  app.server.closeAllConnections()
  await Promise.all(before)
  t.equal((await get({}, addresses)).status, 200, 'and goes on')

  const during = (await stuck()).map(closeOf)
  const closing = timed(app.close())
  await wait(100)
  app.server.closeAllConnections()
  t.ok(await closing < AT_ONCE)
  await Promise.all(during)
})

t.test('plain HTTP to the HTTPS port is answered with 400 and an explanation', async (t) => {
  for (const kind of kinds) {
    const app = appWith(t, kind)
    app.server.on('tlsClientError', (_, socket) => { Reflect.get(socket, '_parent').destroy() })
    const addresses = await listen(app, { http: 0, https: 0 })
    const { port } = addresses.https
    for (const [method, payload] of [['GET'], ['POST', 'x'], ['POST', 'x'.repeat(100_000)], ['PUT', 'x'], ['OPTIONS'], ['DELETE'], ['PATCH', 'x']] as const) {
      if (!['GET', 'POST', 'PUT'].includes(method) && !knowsAllMethods) continue
      const { status, headers, body } = await ask({ port, method, payload, path: '/secret' })
      t.equal(status, 400, method)
      t.match(body, /HTTPS.*https:/, method)
      t.match(headers, { 'content-type': /^text\/plain/, 'content-length': String(body.length), connection: 'close', 'cache-control': 'no-store' }, method)
    }
    const once = await askRaw(port, 'CONNECT secret:443 HTTP/1.1\r\nhost: secret\r\n\r\n')
    t.equal(once.split('HTTP/1.1 400').length, 2, 'once')
    t.notMatch(once, 'secret')
    t.equal((await get({ tls: true }, addresses)).status, 200)
    t.ok(await timed(app.close()) < AT_ONCE, 'and nothing is left of it')
  }
})

t.test('other bytes without TLS to the HTTPS port do no harm', async (t) => {
  for (const kind of kinds) {
    const app = appWith(t, kind)
    const addresses = await listen(app, { https: 0 })
    const errors: unknown[] = []
    app.server.on('tlsClientError', (error) => errors.push(error))
    for (const bytes of ['SSH-2.0-OpenSSH_9.2p1\r\n', 'EHLO mail.test\r\n', 'garbage garbage', 'get / HTTP/1.1\r\n\r\n', '\0'.repeat(20)]) {
      t.notMatch(await askRaw(addresses.https.port, bytes), /HTTP/i, `no answer of HTTP to ${JSON.stringify(bytes)}`)
    }
    const closed: Array<Promise<unknown>> = []
    for (const bytes of ['GET', '\0\0\0\0\0\0\0\0', 'garbage garbage', '\x80\x80\x01\x03\x01garbage', '\x16\x03\x01\x00\x05hello', 'POST / HTTP/1.1\r\n\r\n' + 'x'.repeat(10_000_000)]) {
      const socket = await connect(t, addresses, 'tcp to tls')
      socket.write(bytes, 'latin1')
      closed.push(closeOf(socket))
      // Some of it may yet become TLS
      setTimeout(() => socket.destroy(), 500)
    }
    for (let gone = 0; gone < 20; gone++) {
      const socket = await connect(t, addresses, 'tcp to tls')
      socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
      if (gone % 2 === 0) socket.resetAndDestroy()
      else setImmediate(() => socket.destroy())
    }
    await Promise.all(closed)
    const old = tls.connect({ host: '127.0.0.1', port: addresses.https.port, ca, maxVersion: 'TLSv1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' })
    await t.rejects(once(old, 'secureConnect'), { code: /^ERR_SSL_/ }, 'a client of TLS is told in TLS')
    t.ok(errors.length >= 4)
    t.equal((await get({ tls: true }, addresses)).status, 200)
    t.equal(await promisify(app.server.getConnections.bind(app.server))() <= 1, true)
    t.ok(await timed(app.close()) < AT_ONCE)
  }
})

t.test('a port in use leaves nothing open, and listen() can be called again with another', async (t) => {
  for (const kind of kinds) {
    const app = appWith(t, { ...kind, fastify: { forceCloseConnections: true } })
    const taken = net.createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    t.teardown(() => taken.close())
    const port = portOf(taken)
    await app.ready()
    const { server } = app
    const facts = () => ({
      names: Object.getOwnPropertyNames(server).sort(),
      close: server.close,
      listeners: server.eventNames().filter((name) => name !== 'tlsClientError').map((name) => [name, server.listenerCount(name)])
    })
    const resources = () => process.getActiveResourcesInfo().filter((name) => /Timeout|TCPServer/.test(name)).length
    const free = await freePort()
    await wait(10)
    const before = facts()
    const resourcesBefore = resources()
    // Not an address of ours (RFC 5737): as with a port that is not for everybody, Node's error comes from the listening itself
    const host = '192.0.2.1'
    for (let tries = 0; tries < 5; tries++) {
      await t.rejects(listen(app, { http: port, https: free }), { code: 'EADDRINUSE', port })
      await t.rejects(listen(app, { http: free, https: port }), { code: 'EADDRINUSE', port })
      await t.rejects(listen(app, { https: port }), { code: 'EADDRINUSE', port })
      await t.rejects(listen(app, { http: 0, https: 0, host }), { code: 'EADDRNOTAVAIL' })
      await t.rejects(listen(app, { https: 0, host }), { code: 'EADDRNOTAVAIL' })
    }
    t.ok(await refusesConnections(free))
    t.equal(server.listening, false)
    await wait(10)
    t.strictSame(facts(), before, 'the app is as it was')
    t.ok(resources() <= resourcesBefore, 'and nothing else is left')
    t.equal(server.listenerCount('tlsClientError') <= 2, true)
    await t.rejects(listen(app, { http: 70_000, https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' })

    const addresses = await listen(app, { http: 0, https: 0 })
    t.equal((await get({}, addresses)).status, 200)
    await t.rejects(listen(app, { http: free, https: 0 }), { code: 'FST_ERR_REOPENED_SERVER' }, 'twice')
    t.ok(await refusesConnections(free))
    await app.close()
    t.ok(await refusesConnections(addresses.http!.port), 'the first one still closes with the app')
  }
})

t.test('close() of an app that could not listen resolves at once', async (t) => {
  for (const http of [undefined, 0]) {
    const app = appWith(t)
    await t.rejects(listen(app, { http, https: 0, host: '192.0.2.1' }), { code: 'EADDRNOTAVAIL' })
    t.ok(await timed(app.close()) < AT_ONCE)
  }
})

t.test('two calls of listen() at the same time do not undo each other', async (t) => {
  const app = appWith(t)
  const [first, second] = await Promise.allSettled([listen(app, { http: 0, https: 0 }), listen(app, { http: 0, https: 0 })])
  t.match([first, second], [{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'FST_ERR_REOPENED_SERVER' } }])
  await app.close()
  t.ok(first.status === 'fulfilled' && await refusesConnections(first.value.http!.port))
})

t.test('listen() refuses an app that is closing or closed', async (t) => {
  const closed = { code: 'FST_ERR_REOPENED_CLOSE_SERVER' }
  for (const http of [undefined, 0]) {
    const app = appWith(t)
    await app.close()
    await t.rejects(listen(app, { http, https: 0 }), closed)
    t.equal(app.server.listening, false)

    const listened = appWith(t)
    await listen(listened, { http, https: 0 })
    await listened.close()
    await t.rejects(listen(listened, { http, https: 0 }), closed)
    t.equal(listened.server.listening, false)

    const hooked = appWith(t)
    hooked.addHook('preClose', async () => { await t.rejects(listen(hooked, { http, https: 0 }), closed, 'in a hook') })
    await hooked.ready()
    await hooked.close()
    t.equal(hooked.server.listening, false)
  }
})

t.test('an app that begins to close during listen() is closed', async (t) => {
  const outcomes = new Set<string>()
  for (const kind of kinds) {
    for (const isReady of [false, true]) {
      for (const hook of [0, 20]) {
        for (let turns = 0; turns < 12; turns++) {
          const app = appWith(t, kind)
          app.addHook('preClose', async () => { await wait(hook) })
          if (isReady) await app.ready()
          const [http, https] = [await freePort(), await freePort()]
          const opening = listen(app, { http, https }).then(() => 'opened', ({ code }) => code)
          for (let turned = 0; turned < turns; turned++) await turn()
          await app.close()
          outcomes.add(await opening)
          await wait(5)
          t.ok(await refusesConnections(http) && await refusesConnections(https), `closed after ${turns} turns`)
        }
      }
    }
  }
  t.strictSame([...outcomes].sort(), ['FST_ERR_REOPENED_CLOSE_SERVER', 'opened'])
})

t.test('an app that Fastify opens although it began to close is closed then', async (t) => {
  for (const http of [undefined, 0]) {
    const app = appWith(t)
    app.addHook('preClose', async () => { await wait(50) })
    const open = app.listen.bind(app) as (options: object) => Promise<string>
    let opened: Promise<string> | undefined
    Object.assign(app, {
      listen (options: object) {
        app.close()
        opened = open(options)
        return opened
      }
    })
    await t.rejects(listen(app, { http, https: 0 }), { code: 'FST_ERR_REOPENED_CLOSE_SERVER' })
    const { port } = new URL(await opened!)
    await turn()
    t.equal(app.server.listening, false)
    t.ok(await refusesConnections(Number(port)))
  }
})

t.test('an app that closes before listen() has opened it is never opened', async (t) => {
  const app = appWith(t)
  let opened = false
  app.server.on('listening', () => { opened = true })
  const ready = app.ready.bind(app)
  Object.assign(app, {
    async ready () {
      await ready()
      await app.close()
    }
  })
  await t.rejects(listen(app, { http: 0, https: 0 }), { code: 'FST_ERR_REOPENED_CLOSE_SERVER' })
  t.notOk(opened)
})

t.test('listen() does not wait for a server that is closed before it listens', async (t) => {
  for (const http of [undefined, 0]) {
    const app = appWith(t)
    const { server } = app
    const { listen: begin } = server
    Object.assign(server, {
      listen (...args: unknown[]) {
        Reflect.apply(begin, server, args)
        server.close()
      }
    })
    await t.rejects(listen(app, { http, https: 0 }), { code: 'FST_ERR_REOPENED_CLOSE_SERVER' })
    t.equal(server.listening, false)
  }
})

t.test('listen() takes an app with a serverFactory', async (t) => {
  let inner: http.Server | undefined
  const app = Fastify({
    https: { cert, key },
    serverFactory (handler) {
      inner = http.createServer(handler as http.RequestListener)
      return tls.createServer({ cert, key }, (socket) => inner!.emit('connection', socket)) as unknown as https.Server
    }
  })
  t.teardown(() => app.close())
  app.get('/', async () => 'own')
  const { close } = app.server
  const own = { close (...args: []) { return Reflect.apply(close, app.server, args) } }
  Object.assign(app.server, own)
  await t.rejects(listen(app as never, { https: 0, host: '192.0.2.1' }), { code: 'EADDRNOTAVAIL' })
  t.equal(app.server.close, own.close, 'with what was put on it')
  const addresses = await listen(app as never, { http: 0, https: 0 })
  for (const tls of [false, true]) t.equal((await get({ tls }, addresses)).body, 'own')
  const silent = closeOf(await connect(t, addresses, 'tls'))
  const after = await timed(app.close())
  t.ok(after < 1_500, `${after} ms`)
  await silent
})

t.test('a host name is resolved to one address for both ports', async (t) => {
  const app = appWith(t)
  const addresses = await listen(app, { http: 0, https: 0, host: 'localhost' })
  t.equal(addresses.http?.address, addresses.https.address)
  t.equal(app.addresses().length, 1, 'no hidden second server')
  await t.rejects(listen(appWith(t), { https: 0, host: 'no-such-host.invalid' }), { code: /ENOTFOUND|EAI_AGAIN/ })
  await t.rejects(listen(appWith(t), { https: 0, host: '' }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /host is empty/ })
})

t.test('listen() refuses an app without TLS, and does not serve it in plain text', async (t) => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  await t.rejects(listen(app, { https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /no TLS/ })
  t.equal(app.server.listening, false)
})

t.test('listen() logs its URLs', async (t) => {
  for (const [host, url] of [['127.0.0.1', 'http://127.0.0.1'], ...(hasIPv6 ? [['::1', 'http://[::1]']] : [])]) {
    const lines: string[] = []
    const stream = { write: (line: string) => { lines.push(JSON.parse(line).msg) } }
    const app = appWith(t, { fastify: { logger: { stream } } })
    const addresses = await listen(app, { http: 0, https: 0, host })
    t.ok(lines.includes(`Server listening at ${url}:${addresses.http?.port}`), host)
  }
})

t.test('invalid options of listen() are errors', async (t) => {
  const app = appWith(t)
  for (const options of [{ port: 0 }, { http: 0 }, { https: '0' }, { https: -1 }, { https: 0, http: 65_536 }, { https: 1.5 }]) {
    await t.rejects(listen(app, options as never), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /is no port/ }, JSON.stringify(options))
  }
  await t.rejects(listen(app, { htpp: 0, https: 0 } as never), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /^listen: unknown option 'htpp'; known are http, https, host\. Did you mean 'http'\?$/ })
})
