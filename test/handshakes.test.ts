/**
 * What lib/tls/servers.ts relies on, and Node does not document: pinned for the version that runs this. Others are tried by
 * hand: `/path/to/node --import tsx test/handshakes.test.ts`.
 */
import { once } from 'node:events'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { Duplex } from 'node:stream'
import tls, { TLSSocket, type ConnectionOptions, type SecureVersion, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { askForNoCertificate, onHandshake, sentBy, serverOf } from '../lib/tls/servers.ts'
import { type Made, make, identityOf } from './fixtures/chains.ts'
import { portOf } from './fixtures/network.ts'

const root = make({ ca: true, subject: 'CN=Root' })
const [middle, last] = [make({ ca: true, subject: 'CN=Middle', issuer: root }), make({ ca: true, subject: 'CN=Unused', issuer: root })]
const server = make({ subject: 'CN=localhost', extensions: { purposes: undefined } })
const chainOf = (issuer: Made, ...more: Made[]) => {
  const leaf = make({ issuer, subject: 'CN=Jane' })
  return { cert: [leaf, issuer, ...more].map(({ pem }) => pem).join(''), key: identityOf(leaf).key }
}
const otherCa = make({ ca: true, subject: 'CN=Other' })
const CLIENTS = {
  'of a known CA': [chainOf(middle, last, root), ['CN=Jane', 'CN=Middle', 'CN=Unused', 'CN=Root'], true],
  'of another CA': [chainOf(make({ ca: true, subject: 'CN=Below', issuer: otherCa }), otherCa), ['CN=Jane', 'CN=Below', 'CN=Other'], false],
  'without a certificate': [{}, [], false]
} as const

/** What is put on sockets, which HTTP/2 hides behind another object. */
const kAsked = Symbol('asked')
const kTold = Symbol('told')
const kCreated = Symbol('created')
type Marked = TLSSocket & { [kCreated]?: true, [kAsked]?: string, [kTold]?: Told }

const NEVER = { created: () => t.fail('there is no TLS'), done: () => t.fail('there is no TLS') }

interface Told {
  sent: Array<string | undefined>
  asked: string | undefined
  isResumed: boolean
  /** Not said before Node has looked. */
  authorized: boolean
  isOurs: boolean
  /** What is there of it when a request has come. */
  later?: { isTold: boolean, authorized: boolean, asked: string | undefined }
}

interface Listening { port: number, server: tls.Server, told: Told[], undo: () => void }

const KINDS: Record<string, { create: (options: TlsOptions) => tls.Server, protocol: string }> = {
  https: { create: (options) => https.createServer(options), protocol: 'http/1.1' },
  http2: { create: (options) => http2.createSecureServer({ ...options, allowHTTP1: true }) as unknown as tls.Server, protocol: 'h2' },
  'http2, asked over HTTP/1.1': { create: (options) => http2.createSecureServer({ ...options, allowHTTP1: true }) as unknown as tls.Server, protocol: 'http/1.1' }
}

/** The host in whose handshakes no certificate is asked for. */
const QUIET = 'quiet.test'

async function listen (t: Test, kind: string, prepare: (server: tls.Server) => void = () => {}, quieten = askForNoCertificate): Promise<Listening> {
  const told: Told[] = []
  const options: TlsOptions = {
    cert: server.pem,
    key: identityOf(server).key,
    ca: root.pem,
    requestCert: true,
    rejectUnauthorized: false,
    SNICallback (this: Marked, servername: string, done: (error: Error | null, context?: tls.SecureContext) => void) {
      this[kAsked] ??= `${servername} at ${serverOf(this) === created && this[kCreated] === true ? 'this server' : 'another one'}`
      if (servername === QUIET) quieten(this)
      done(null)
    }
  } as TlsOptions
  const created = KINDS[kind]!.create(options)
  prepare(created)
  const done = (socket: Marked): void => {
    const mine = { sent: sentBy(socket).map(({ subject }) => subject), asked: socket[kAsked], isResumed: socket.isSessionReused(), authorized: socket.authorized, isOurs: serverOf(socket) === created }
    socket[kTold] = mine
    told.push(mine)
  }
  const undo = onHandshake(created, { created: (socket: Marked) => { socket[kCreated] = true }, done })
  // The socket of a request over HTTP/2 is a proxy object for the stream, that of a session another one
  created.on('request', (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => {
    const socket = (request.stream === undefined ? request.socket : request.stream.session!.socket) as Marked
    const seen = socket[kTold] ?? {} as Told
    seen.later = { isTold: true, authorized: socket.authorized, asked: socket[kAsked] }
    response.end('x')
  })
  created.listen(0, '127.0.0.1')
  await once(created, 'listening')
  t.teardown(() => {
    undo()
    created.close()
  })
  return { port: portOf(created), server: created, told, undo }
}

/** One request, on a connection of its own. */
async function ask (t: Test, kind: string, port: number, options: ConnectionOptions): Promise<{ session: Buffer | undefined, isResumed: boolean }> {
  const { protocol } = KINDS[kind]!
  const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: [protocol], ...options })
  t.teardown(() => socket.destroy())
  // Of a session that is resumed there is no other one, on TLS 1.2
  const ticket = options.session === undefined ? once(socket, 'session') as Promise<[Buffer]> : undefined
  await once(socket, 'secureConnect')
  if (protocol === 'h2') {
    const session = http2.connect('https://localhost', { createConnection: () => socket })
    const stream = session.request({ ':path': '/' })
    await once(stream.resume(), 'end')
  } else {
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(socket, 'data')
  }
  const [session] = await ticket ?? []
  const isResumed = socket.isSessionReused()
  socket.destroy()
  return { session, isResumed }
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const satisfies readonly SecureVersion[]) {
  for (const kind of Object.keys(KINDS)) {
    t.test(`${version}, ${kind}: after a handshake all certificates of the client are known, and after a resumed one its leaf alone`, async (t) => {
      const { port, told } = await listen(t, kind)
      for (const [who, [identity, sent, isKnown]] of Object.entries(CLIENTS)) {
        for (const servername of ['a.test', undefined]) {
          const options = { ...identity, ...servername !== undefined && { servername }, minVersion: version, maxVersion: version }
          const asked = servername === undefined ? undefined : 'a.test at this server'
          const { session, isResumed } = await ask(t, kind, port, options)
          const what = `${who}${servername === undefined ? ', who names no host' : ''}`
          t.equal(isResumed, false)
          const later = { isTold: true, authorized: isKnown, asked }
          t.strictSame(told.splice(0), [{ sent, asked, isResumed: false, authorized: false, isOurs: true, later }], `${what}: once, before Node has looked, and what is put on the socket is there later`)

          t.equal((await ask(t, kind, port, { ...options, session })).isResumed, true)
          // Its context is chosen already, and nothing asks for one. Of an anonymous client, Node before 24.21 says more (nodejs/node#35317)
          const [{ later: { authorized, ...rest }, ...resumed }] = told.splice(0) as [Required<Told>]
          t.strictSame({ ...resumed, ...rest }, { sent: sent.slice(0, 1), asked: undefined, isResumed: true, authorized: false, isOurs: true, isTold: true }, `${what}, resumed`)
          if (sent.length > 0) t.equal(authorized, isKnown)
        }
      }
    })
  }
}

const known = CLIENTS['of a known CA'][0]

for (const version of ['TLSv1.2', 'TLSv1.3'] as const satisfies readonly SecureVersion[]) {
  for (const kind of Object.keys(KINDS)) {
    t.test(`${version}, ${kind}: in a handshake of a host that does not ask, a client presents no certificate, and elsewhere it does`, async (t) => {
      const { port, told } = await listen(t, kind)
      for (const [identity, sent] of Object.values(CLIENTS)) {
        const options = { ...identity, minVersion: version, maxVersion: version }
        const { session } = await ask(t, kind, port, { ...options, servername: QUIET })
        const asked = `${QUIET} at this server`
        t.strictSame(told.splice(0), [{ sent: [], asked, isResumed: false, authorized: false, isOurs: true, later: { isTold: true, authorized: false, asked } }])
        await ask(t, kind, port, { ...options, servername: 'a.test' })
        t.strictSame(told.splice(0)[0]!.sent, sent)
        t.equal((await ask(t, kind, port, { ...options, servername: QUIET, session })).isResumed, true)
        // `authorized` is true here before Node 24.21 (nodejs/node#35317)
        t.match(told.splice(0), [{ sent: [], isResumed: true }])
      }
    })
  }
}

t.test('where Node does not have what keeps it from asking, or refuses it, a certificate is asked for', async (t) => {
  type WithHandle = { _handle: { setVerifyMode?: unknown } }
  const gone = (socket: TLSSocket): void => {
    Object.assign((socket as unknown as WithHandle)._handle, { setVerifyMode: undefined })
    askForNoCertificate(socket)
  }
  const refused = (socket: TLSSocket): void => {
    Object.assign((socket as unknown as WithHandle)._handle, { setVerifyMode: () => { throw new TypeError('no') } })
    askForNoCertificate(socket)
  }
  const { prototype } = TLSSocket
  const { renegotiate } = prototype
  t.teardown(() => { prototype.renegotiate = renegotiate })
  prototype.renegotiate = function () { return false }
  // It looks once, when it is loaded
  const again = '../lib/tls/servers.ts?again'
  const other = await import(again) as { askForNoCertificate: typeof askForNoCertificate }
  prototype.renegotiate = renegotiate
  for (const [what, quieten] of Object.entries({ gone, refused, 'called by Node in another way': other.askForNoCertificate })) {
    for (const kind of Object.keys(KINDS)) {
      const { port, told } = await listen(t, kind, undefined, quieten)
      await ask(t, kind, port, { ...known, servername: QUIET })
      t.match(told, [{ sent: ['CN=Jane', 'CN=Middle', 'CN=Unused', 'CN=Root'], later: { authorized: true } }], `${kind}: ${what}`)
    }
  }
  t.doesNotThrow(() => askForNoCertificate(new TLSSocket(new net.Socket())))
  t.doesNotThrow(() => askForNoCertificate({ _handle: null } as unknown as TLSSocket))
})

t.test('a TLS server keeps the listeners and methods that others have set when ours are removed', async (t) => {
  const heard: string[] = []
  const others = ['before', 'after', 'once'].map((name) => Object.defineProperty(() => { heard.push(name) }, 'name', { value: name }))
  const own = Object.getOwnPropertyDescriptor(TLSSocket.prototype, 'on')
  t.equal(own, undefined)
  for (const kind of Object.keys(KINDS)) {
    let before: unknown[] = []
    const { port, server, told, undo } = await listen(t, kind, (server) => {
      server.prependListener('connection', others[0]!)
      server.on('connection', others[1]!)
      server.once('connection', others[2]!)
      before = server.rawListeners('connection')
    })
    t.equal(server.listenerCount('connection'), before.length, kind)
    await ask(t, kind, port, known)
    await ask(t, kind, port, known)
    t.strictSame([heard.splice(0), told.splice(0).length], [['before', 'after', 'once', 'before', 'after'], 2], 'each in its turn')
    for (let times = 0; times < 2; times++) undo()
    t.strictSame(server.rawListeners('connection'), before.filter((listener) => (listener as { listener?: unknown }).listener !== others[2]), kind)
    await ask(t, kind, port, known)
    t.strictSame([heard.splice(0), told.length], [['before', 'after'], 0], 'and nothing is told any more')
    t.strictSame(Object.getOwnPropertyDescriptor(TLSSocket.prototype, 'on'), own, kind)
  }
  const plain = net.createServer()
  const undo = onHandshake(plain, NEVER)
  t.equal(plain.listenerCount('connection'), 0)
  undo()
  const other = net.createServer(() => {})
  onHandshake(other, NEVER)()
  t.equal(other.listenerCount('connection'), 1)
})

t.test('changes of others to TLSSocket stay as they are, whether made before ours or after', async (t) => {
  const { prototype } = TLSSocket
  let calls = 0
  const changed: PropertyDescriptor = {
    configurable: true,
    writable: true,
    enumerable: false,
    value (this: TLSSocket, ...args: Parameters<TLSSocket['on']>) {
      calls++
      return Reflect.apply(Duplex.prototype.on, this, args) as TLSSocket
    }
  }
  t.teardown(() => Reflect.deleteProperty(prototype, 'on'))
  Object.defineProperty(prototype, 'on', changed)
  const before = await listen(t, 'https')
  await ask(t, 'https', before.port, known)
  t.equal(before.told.length, 1)
  t.ok(calls > 0)
  before.undo()
  t.strictSame(Object.getOwnPropertyDescriptor(prototype, 'on'), changed)

  Reflect.deleteProperty(prototype, 'on')
  const after = await listen(t, 'https')
  Object.defineProperty(prototype, 'on', changed)
  for (let connections = 0; connections < 3; connections++) await ask(t, 'https', after.port, known)
  t.equal(after.told.length, 2, 'all but the first one, whose listener was not called')
  Object.defineProperty(prototype, 'on', changed)
  after.undo()
  t.strictSame(Object.getOwnPropertyDescriptor(prototype, 'on'), changed)
})

t.test('a handshake of a connection that was handed to the server is seen', async (t) => {
  const { port, server, told } = await listen(t, 'https')
  const handing = net.createServer((socket) => {
    // As libraries for the PROXY protocol do it
    const duplex = new Duplex({ read () { socket.resume() }, write (chunk, _encoding, done) { socket.write(chunk, done) }, final (done) { socket.end(done) } })
    socket.on('data', (chunk) => { if (!duplex.push(chunk)) socket.pause() }).on('error', () => {}).on('close', () => duplex.destroy())
    server.emit('connection', duplex)
  }).listen(0, '127.0.0.1')
  t.teardown(() => handing.close())
  await once(handing, 'listening')
  await ask(t, 'https', portOf(handing), { ...known, servername: 'a.test' })
  t.match(told.splice(0), [{ sent: ['CN=Jane', 'CN=Middle', 'CN=Unused', 'CN=Root'], asked: 'a.test at this server', isOurs: true }])

  const failed = once(server, 'tlsClientError')
  const plain = net.connect(port, '127.0.0.1', () => plain.end('no handshake at all'))
  plain.on('error', () => {}).resume()
  await failed
  // What cannot become one: Node throws before there is a TLSSocket
  t.throws(() => server.emit('connection', {}))
  t.strictSame(told, [])
  await ask(t, 'https', port, known)
  t.equal(told.length, 1, 'and the next one is')
})

t.test('of a long client chain, only as many certificates are read as a path may have', async (t) => {
  const { port, told } = await listen(t, 'https')
  const many = Array.from({ length: 12 }, (_, index) => make({ ca: true, subject: `CN=${index}`, issuer: root }))
  await ask(t, 'https', port, chainOf(middle, ...many))
  t.strictSame(told[0]!.sent, ['CN=Jane', 'CN=Middle', ...Array.from({ length: 8 }, (_, index) => `CN=${index}`)])
})
