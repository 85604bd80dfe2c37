import t, { type Test } from 'tap'
import { constants, randomBytes, X509Certificate } from 'node:crypto'
import dns from 'node:dns'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { ClientRequest } from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import type tls from 'node:tls'
import type { SecureVersion, TLSSocket } from 'node:tls'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { WebSocket } from 'ws'
import httpSecurity from '../lib/index.ts'
import { enableTls } from '../lib/tls/index.ts'
import { ask, askHttp2, outcomeOf } from './fixtures/ask.ts'
import { make, identityOf } from './fixtures/chains.ts'
import { reused, VERSIONS, keepSessions } from './fixtures/context.ts'
import { withoutIPv6, portOf } from './fixtures/network.ts'
import { type Identity, authority, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { askingServer, serve } from './fixtures/serve.ts'
import { type Trusting, serveTrust } from './fixtures/trust.ts'
import { cpuTime, DAY, until } from './fixtures/time.ts'
import { connectFrames, connectWire, holdBack, echoed, openSocket } from './fixtures/wire.ts'
import { startCluster } from './fixtures/workers.ts'

const [acme, other, serverCa] = await Promise.all([authority('Acme CA'), authority('Other CA'), authority('Server CA')])
const [server, jane, joe] = await Promise.all([issueServer(serverCa), issue(acme, { subject: 'CN=Jane' }), issue(other, { subject: 'CN=Joe' })])
const branch = await issue(acme, { subject: 'CN=Branch CA', ca: true, purpose: 'none' })
const june = await issue(branch, { subject: 'CN=June' })
const lists = { acme: await revocationList(acme), branch: await revocationList(branch), other: await revocationList(other) }
const before = { server, ca: acme.cert + other.cert, crl: lists.acme + lists.branch + lists.other }

t.test('a certificate of X.509 v1, as openssl makes it without extensions, is refused with words in the log alone', async (t) => {
  const ca = make({ ca: true, subject: 'CN=Acme' })
  const old = make({ issuer: ca, version: 1 })
  const served = await serveTrust(t, { server, ca: ca.pem })
  const answer = await ask({ port: served.https, path: '/partners', tls: { ca: serverCa.cert, cert: old.pem, key: identityOf(old).key } })
  t.strictSame([answer.status, JSON.parse(answer.body)], [403, { statusCode: 403, code: 'FST_HTTP_SECURITY_CERTIFICATE_INVALID', error: 'Forbidden', message: 'The client certificate is not valid' }])
  t.match(served.log.find(({ code }) => code?.endsWith('_INVALID')), { certificate: { error: 'CERT_REJECTED', reason: /^it is not of X\.509 version 3/ } })
})

interface Change {
  /** The clients that it meets. Joe is never met. */
  victim: Identity
  name: string
  files: Record<string, string>
  code: string
}

const CHANGES: Record<string, Change> = {
  'its serial number goes on the revocation list': {
    victim: jane,
    name: 'Jane',
    files: { 'crl.pem': await revocationList(acme, [jane]) + lists.branch + lists.other },
    code: 'CERTIFICATE_REVOKED'
  },
  'its issuer goes on the revocation list of the root': {
    victim: { cert: june.cert + branch.cert, key: june.key },
    name: 'June',
    files: { 'crl.pem': await revocationList(acme, [branch]) + lists.branch + lists.other },
    code: 'CERTIFICATE_REVOKED'
  },
  'its authority is taken out': { victim: jane, name: 'Jane', files: { 'ca.pem': other.cert, 'crl.pem': lists.other }, code: 'CERTIFICATE_UNTRUSTED' }
}

const as = ({ cert, key }: Identity, version: SecureVersion) => ({ ca: serverCa.cert, cert, key, minVersion: version, maxVersion: version })

/** One connection of a client, whatever it speaks. */
interface Client {
  /** What a request is answered, or `closed`. */
  ask (): Promise<string>
  readonly isReused: boolean
  readonly ticket: Promise<Buffer>
  readonly closed: Promise<unknown>
}
type Connect = (t: Test, served: Trusting, identity: Identity, version: SecureVersion, more?: { session?: Buffer, servername?: string }) => Promise<Client>

const PROTOCOLS: Record<string, Connect> = {
  async 'HTTP/1.1' (t, served, identity, version, more) {
    const wire = await connectWire(t, { port: served.https, ...as(identity, version), ...more })
    return { ask: async () => outcomeOf(await wire.get('/partners')), isReused: wire.socket.isSessionReused(), ticket: wire.ticket, closed: wire.closed }
  },

  async 'HTTP/2' (t, served, identity, version, more) {
    // Node names the URL's host, unless that is an address
    const client = http2.connect(`https://${more?.servername === '' ? '127.0.0.1' : 'localhost'}:${served.https}`, { ...reused(as(identity, version)), ...more })
    client.on('error', () => {})
    t.teardown(() => client.destroy())
    const ticket = once(client.socket, 'session').then(([ticket]) => ticket as Buffer)
    ticket.catch(() => {})
    const closed = Promise.all(['goaway', 'close'].map((event) => new Promise((resolve) => { client.once(event, resolve) })))
    await once(client, 'connect')
    return {
      ask: async () => await askHttp2(client, { ':path': '/partners' }).then(outcomeOf, () => 'closed'),
      isReused: (client.socket as TLSSocket).isSessionReused(),
      ticket,
      closed
    }
  },

  /** Its handshake is a request, and each message another one. */
  async 'a WebSocket' (t, served, identity, version, more) {
    let isReused = false
    let sawTicket: (ticket: Buffer) => void
    const ticket = new Promise<Buffer>((resolve) => { sawTicket = resolve })
    const socket = new WebSocket(`wss://localhost:${served.https}/live`, { ...as(identity, version), ...more } as object)
    t.teardown(() => socket.terminate())
    let sawClose: (value?: unknown) => void
    const closed = new Promise((resolve) => { sawClose = resolve })
    socket.once('close', sawClose!)
    const opened = new Promise<string>((resolve, reject) => {
      socket.once('open', () => resolve('200'))
      socket.on('error', reject)
      socket.once('unexpected-response', (_request, response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (chunk) => { body += chunk }).on('end', () => resolve(outcomeOf({ status: response.statusCode!, body })))
      })
    })
    const request = (socket as unknown as { _req: ClientRequest })._req
    request.once('socket', (below: TLSSocket) => {
      below.once('session', sawTicket).once('close', sawClose)
      below.once('secureConnect', () => { isReused = below.isSessionReused() })
    })
    const first = await opened
    return {
      async ask () {
        if (first !== '200') return first
        if (socket.readyState !== WebSocket.OPEN) return 'closed'
        socket.send('hello')
        return await Promise.race([once(socket, 'message').then(() => '200'), closed.then(() => 'closed')])
      },
      get isReused () { return isReused },
      ticket,
      closed
    }
  }
}

for (const version of VERSIONS) {
  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    const isSocket = protocol === 'a WebSocket'
    for (const [what, { victim, name, files, code }] of Object.entries(CHANGES)) {
      t.test(`${version}, ${protocol}: a client is refused when ${what}, and others notice nothing`, async (t) => {
        const served = await serveTrust(t, { ...before, http2: protocol === 'HTTP/2' })
        const [old, joes] = [await connect(t, served, victim, version), await connect(t, served, joe, version)]
        t.equal(await old.ask(), '200')
        t.equal(await joes.ask(), '200')
        const resumed = await connect(t, served, victim, version, { session: await old.ticket })
        t.strictSame([await resumed.ask(), resumed.isReused], ['200', true], 'until then, it may resume')
        const tickets = [await old.ticket, await joes.ticket] as const

        served.write(files)
        await served.tls.reload()
        served.reached.length = 0
        served.naive.length = 0
        if (isSocket) await Promise.all([old.closed, resumed.closed])
        for (const kept of [old, resumed]) t.equal(await kept.ask(), isSocket ? 'closed' : `403 ${code}`, 'on a connection that was there')
        for (const session of [undefined, tickets[0]]) {
          const again = await connect(t, served, victim, version, { session })
          t.strictSame([await again.ask(), again.isReused], [`403 ${code}`, session !== undefined], session === undefined ? 'on a new connection' : 'with its session of before')
        }
        t.strictSame(served.reached, [], 'no handler was reached')
        t.strictSame(served.naive[1], { authorized: true, reused: true }, '`authorized` alone would have let it in')

        t.equal(await joes.ask(), '200', 'others go on')
        const back = await connect(t, served, joe, version, { session: tickets[1] })
        t.strictSame([await back.ask(), back.isReused], ['200', true], 'and resume their sessions')
        t.equal(served.reached.length, isSocket ? 1 : 2)
        t.notMatch(served.reached.join(), name)
      })
    }
  }
}

const revoked = CHANGES['its serial number goes on the revocation list']!.files
const REVOKED = '403 CERTIFICATE_REVOKED'
const VALID = { isPresent: true, isValid: true, value: 'Jane', certificate: 'CN=Jane' }
const INVALID = { isPresent: true, isValid: false, value: '', certificate: null }
const ABSENT = { ...INVALID, isPresent: false }

t.test('a changed CRL file applies within a second', async (t) => {
  const served = await serveTrust(t, before)
  const old = await PROTOCOLS['HTTP/1.1']!(t, served, jane, 'TLSv1.3')
  t.equal(await old.ask(), '200')
  served.write(revoked)
  const start = performance.now()
  await until(() => served.log.some(({ msg }) => msg.includes('read anew')))
  t.equal(await old.ask(), REVOKED)
  t.ok(performance.now() - start < 2000, `${performance.now() - start} ms`)
  t.match(served.log.filter(({ msg }) => msg.includes('read anew')), [{ level: 30, msg: 'http-security: clientCertificates: revocation lists were read anew and are in force' }], 'and is logged once')
})

for (const version of VERSIONS) {
  t.test(`${version}: a request under way when its client is revoked is answered, and the next one refused`, async (t) => {
    const served = await serveTrust(t, before)
    const sockets: TLSSocket[] = []
    served.app.server.on('secureConnection', (socket: TLSSocket) => { sockets.push(socket) })
    const connect = () => connectWire(t, { port: served.https, ...as(jane, version) })
    const wires = [await connect(), await connect(), await connect()] as const
    const [next, pipelined, halved] = wires
    const slow = wires.slice(0, 2).map(async (wire) => await wire.get('/slow'))
    const half = halved.send('GET /partners HTTP/1.1\r\nHost: localhost\r\n')
    await until(() => served.reached.length === 2)

    served.write(revoked)
    await served.tls.reload()
    const second = pipelined.get('/partners')
    halved.socket.write('\r\n')
    t.equal(outcomeOf(await half), REVOKED, 'a request that was not whole')
    served.release()
    for (const answer of await Promise.all(slow)) t.match(answer, { status: 200, body: `Jane, then ${JSON.stringify(INVALID)}` }, 'it is answered, though it no longer has a valid certificate')
    t.equal(outcomeOf(await second), REVOKED, 'pipelined')
    t.equal(outcomeOf(await next.get('/partners')), REVOKED, 'sequential')
    t.strictSame(served.reached, ['GET /slow Jane', 'GET /slow Jane'])
    t.strictSame(sockets.map(({ authorized, authorizationError }) => [authorized, authorizationError]), Array(3).fill([true, null]), '`authorized` alone would have let it in')
  })

  const held: Array<[what: string, writes: number, servername?: string]> = [
    ['before it has said anything', 0], ['before it has said anything, and then names no host', 0, ''], ['half-way through its handshake', 1]
  ]
  for (const [what, writes, servername = 'localhost'] of held) {
    t.test(`${version}: a connection that is held back while client CAs change, ${what}, is judged by the new ones`, async (t) => {
      for (const protocol of ['HTTP/1.1', 'HTTP/2']) {
        const served = await serveTrust(t, { ...before, http2: protocol === 'HTTP/2' })
        const connect = PROTOCOLS[protocol]!
        const proxies = [await holdBack(t, served.https, writes), await holdBack(t, served.https, writes)]
        const clients = [jane, joe].map(async (identity, index) => await connect(t, { ...served, https: proxies[index]!.port }, identity, version, { servername }))
        for (const { held } of proxies) await held
        await until(() => served.accepted === 2)
        served.write(revoked)
        await served.tls.reload()
        for (const { open } of proxies) open()
        const [janes, joes] = await Promise.all(clients)
        t.equal(await janes!.ask(), REVOKED, protocol)
        t.equal(await joes!.ask(), '200', protocol)
        t.strictSame(served.reached.map((line) => line.split(' ').at(-1)), ['Joe'], protocol)
        t.strictSame(served.naive.map(({ authorized }) => authorized), [true, true], '`authorized` alone would have let both in')
      }
    })
  }
}

for (const isHttp2 of [false, true]) {
  t.test(`over HTTP/${isHttp2 ? 2 : 1.1}, a request whose body is incomplete when its client is revoked is refused`, async (t) => {
    for (const [method, path] of [['POST', '/partners'], ['PUT', '/partners'], ['DELETE', '/partners'], ['OPTIONS', '/partners'], ['POST', '/hidden/x']] as const) {
      const served = await serveTrust(t, { ...before, http2: isHttp2 })
      const arrived = once(served.app.server, 'request')
      const change = async (): Promise<void> => {
        await arrived
        served.write(revoked)
        await served.tls.reload()
      }
      if (isHttp2) {
        const frames = await connectFrames(t, { port: served.https, ...as(jane, 'TLSv1.3') })
        frames.request(1, { ':path': path, ':method': method, 'content-type': 'text/plain' }, false)
        await change()
        frames.finish(1)
        await until(() => frames.answered.has(1))
      } else {
        const wire = await connectWire(t, { port: served.https, ...as(jane, 'TLSv1.3') })
        const answer = wire.send(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel`)
        await change()
        wire.socket.write('lo')
        t.equal(outcomeOf(await answer), REVOKED, `${method} ${path}`)
      }
      t.strictSame(served.reached, [], 'or else each request that was begun in time is one more, whenever it ends')
    }
  })
}

t.test('a request whose body is incomplete when its client certificate expires is refused', async (t) => {
  const { now } = Date
  t.teardown(() => { Date.now = now })
  const served = await serveTrust(t, before)
  const arrived = once(served.app.server, 'request')
  const wire = await connectWire(t, { port: served.https, ...as(jane, 'TLSv1.3') })
  const answer = wire.send('POST /partners HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel')
  await arrived
  Date.now = () => now() + 31 * DAY
  wire.socket.write('lo')
  t.equal(outcomeOf(await answer), '403 CERTIFICATE_EXPIRED')
  t.strictSame(served.reached, [])
})

t.test('a client whose CA is added is admitted with its next request, and resumes sessions from then on', async (t) => {
  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    const served = await serveTrust(t, { server, ca: other.cert, http2: protocol === 'HTTP/2' })
    const old = await connect(t, served, jane, 'TLSv1.3')
    t.equal(await old.ask(), '403 CERTIFICATE_UNTRUSTED', protocol)
    const session = await old.ticket
    await old.closed
    served.write({ 'ca.pem': other.cert + acme.cert })
    await served.tls.reload()
    const again = await connect(t, served, jane, 'TLSv1.3', { session })
    t.strictSame([await again.ask(), again.isReused], ['200', false], `${protocol}: its session would replay that OpenSSL did not know its CA`)
    const third = await connect(t, served, jane, 'TLSv1.3', { session: await again.ticket })
    t.strictSame([await third.ask(), third.isReused], ['200', true], protocol)
    t.strictSame(served.reached.length, 2, protocol)
  }
})

t.test('a client that was revoked by mistake is admitted again on the same connection', async (t) => {
  for (const version of VERSIONS) {
    const served = await serveTrust(t, before)
    const wire = await connectWire(t, { port: served.https, ...as(jane, version) })
    t.equal(outcomeOf(await wire.get('/partners')), '200', version)
    served.write(revoked)
    await served.tls.reload()
    t.equal(outcomeOf(await wire.get('/partners')), REVOKED, version)
    served.write({ 'crl.pem': before.crl })
    await served.tls.reload()
    t.equal(outcomeOf(await wire.get('/partners')), '200', version)
  }
})

t.test('a certificate that is not trusted any more is present and invalid for handlers', async (t) => {
  for (const level of ['tls', 'none'] as const) {
    const served = await serveTrust(t, before)
    const wire = await connectWire(t, { port: served.https, ...as(jane, 'TLSv1.3') })
    const details = async (): Promise<unknown> => JSON.parse((await wire.get(`/${level}`))!.body)
    t.strictSame(await details(), VALID, level)
    const slow = wire.get(`/slow/${level}`)
    await until(() => served.reached.length === 2)
    served.write(revoked)
    await served.tls.reload()
    served.release()
    t.strictSame(JSON.parse((await slow)!.body), INVALID, 'to a handler that was under way')
    t.strictSame(await details(), INVALID, 'and to every later one')
    t.equal(outcomeOf(await wire.get('/partners')), REVOKED, level)
  }
})

t.test('clients without a certificate notice nothing of changed client CAs', async (t) => {
  for (const isHttp2 of [false, true]) {
    const served = await serveTrust(t, { ...before, http2: isHttp2 })
    const anonymous = { ca: serverCa.cert }
    const [busy, idle] = [await connectWire(t, { port: served.https, ...anonymous }), await connectWire(t, { port: served.https, ...anonymous })]
    const slow = busy.get('/slow/tls')
    t.equal(outcomeOf(await idle.get('/tls')), '200')
    const live = await openSocket(t, `wss://localhost:${served.https}/open`, anonymous)
    await until(() => served.reached.length === 3)
    for (const files of [revoked, { 'ca.pem': other.cert }]) {
      served.write(files)
      await served.tls.reload()
    }
    served.release()
    t.strictSame(JSON.parse((await slow)!.body), ABSENT)
    for (const wire of [busy, idle]) {
      for (const level of ['tls', 'none']) t.strictSame(JSON.parse((await wire.get(`/${level}`))!.body), ABSENT, `on the same connection: ${level}`)
      t.equal(outcomeOf(await wire.get('/partners')), '403 CERTIFICATE_REQUIRED')
    }
    t.equal(await echoed(live), 'hello', 'WebSockets stay')
    const again = await connectWire(t, { port: served.https, ...anonymous, session: await idle.ticket })
    t.strictSame([outcomeOf(await again.get('/tls')), again.socket.isSessionReused()], ['200', true])
  }
})

for (const isHttp2 of [false, true]) {
  t.test(`WebSockets end when their client is not trusted any more${isHttp2 ? ', of an app that speaks HTTP/2' : ''}`, async (t) => {
    const served = await serveTrust(t, { ...before, http2: isHttp2 })
    const mallory = await issue(await authority('Elsewhere'))
    const janes = [await openSocket(t, `wss://localhost:${served.https}/live`, as(jane, 'TLSv1.3')), await openSocket(t, `wss://localhost:${served.https}/live`, as(jane, 'TLSv1.2'))]
    const others = [await openSocket(t, `wss://localhost:${served.https}/live`, as(joe, 'TLSv1.3')), await openSocket(t, `wss://localhost:${served.https}/open`, as(jane, 'TLSv1.3')), await openSocket(t, `wss://localhost:${served.https}/open`, as(mallory, 'TLSv1.3'))]
    const arrived = once(served.app.server, 'upgrade')
    const opening = new WebSocket(`wss://localhost:${served.https}/slow/live`, as(jane, 'TLSv1.3'))
    t.teardown(() => opening.terminate())
    await arrived
    const ended = [...janes, opening].map(async (socket) => await new Promise((resolve) => { socket.on('error', () => {}).once('close', resolve) }))
    served.reached.length = 0
    served.write(revoked)
    await served.tls.reload()
    await Promise.all(ended)
    served.release()
    for (const socket of others) t.equal(await echoed(socket), 'hello', 'those that would be admitted stay')
    t.equal(await echoed(await openSocket(t, `wss://localhost:${served.https}/live`, as(joe, 'TLSv1.3'))), 'hello')
    await t.rejects(openSocket(t, `wss://localhost:${served.https}/live`, as(jane, 'TLSv1.3')), /403/)
    t.strictSame(served.reached, ['GET /live Joe'])
  })
}

t.test('a new server certificate, or an unreadable CRL, does not affect clients', async (t) => {
  for (const isHttp2 of [false, true]) {
    const served = await serveTrust(t, { ...before, http2: isHttp2 })
    const wire = await connectWire(t, { port: served.https, ...as(jane, 'TLSv1.3') })
    t.equal(outcomeOf(await wire.get('/partners')), '200')
    const live = await openSocket(t, `wss://localhost:${served.https}/live`, as(jane, 'TLSv1.3'))
    const session = http2.connect(`https://localhost:${served.https}`, as(jane, 'TLSv1.3'))
    session.on('error', () => {})
    t.teardown(() => session.destroy())
    if (isHttp2) t.equal(outcomeOf(await askHttp2(session, { ':path': '/partners' })), '200')

    await t.rejects(async () => {
      served.write({ 'crl.pem': 'garbage' })
      await served.tls.reload()
    }, { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES' })
    const renewed = await issueServer(serverCa)
    served.write({ 'server.pem': renewed.cert, 'server.key': renewed.key, 'crl.pem': lists.other + lists.acme + lists.branch + lists.acme, 'ca.pem': other.cert + acme.cert })
    await served.tls.reload()
    t.equal(outcomeOf(await wire.get('/partners')), '200')
    t.equal(await echoed(live), 'hello')
    if (isHttp2) t.equal(outcomeOf(await askHttp2(session, { ':path': '/partners' })), '200')
    const again = await connectWire(t, { port: served.https, ...as(jane, 'TLSv1.3') })
    t.equal(outcomeOf(await again.get('/partners')), '200')
    t.not(again.socket.getPeerCertificate().fingerprint256, wire.socket.getPeerCertificate().fingerprint256)
  }
})

for (const version of VERSIONS) {
  t.test(`${version}: a client whose CA is removed is refused as untrusted, though the CRL of that CA is left`, async (t) => {
    const served = await serveTrust(t, before)
    served.write({ 'ca.pem': other.cert })
    await served.tls.reload()
    const wire = await connectWire(t, { port: served.https, ...as(jane, version) })
    // With TLS 1.3, the server sees the certificate after that
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.equal(outcomeOf(await wire.get('/partners')), '403 CERTIFICATE_UNTRUSTED')
    t.strictSame(served.reached, [])
  })
}

t.test('the CRL of a removed client CA admits no client', async (t) => {
  // Of the other authority there is no CRL, so that its revoked certificates are unknown
  const served = await serveTrust(t, { server, ca: acme.cert + other.cert, crl: lists.acme })
  const ask = async (identity: Identity): Promise<string> => outcomeOf(await (await connectWire(t, { port: served.https, ...as(identity, 'TLSv1.3') })).get('/partners'))
  t.equal(await ask(jane), '200')
  t.equal(await ask(joe), '403 REVOCATION_UNKNOWN')
  served.write({ 'ca.pem': other.cert })
  await served.tls.reload()
  t.equal(await ask(joe), '403 REVOCATION_UNKNOWN', 'as it would be after a restart')
  t.equal(served.reached.length, 1)
})

t.test('the CRL of an intermediate CA counts, whether its certificate is in the file or sent by clients', async (t) => {
  const chain = { cert: june.cert + branch.cert, key: june.key }
  const ask = async ({ https }: Trusting): Promise<string> => outcomeOf(await (await connectWire(t, { port: https, ...as(chain, 'TLSv1.3') })).get('/partners'))
  const served = await serveTrust(t, { server, ca: acme.cert + branch.cert, crl: lists.acme + await revocationList(branch, [june]) })
  t.equal(await ask(served), '403 CERTIFICATE_REVOKED')
  served.write({ 'ca.pem': acme.cert })
  await served.tls.reload()
  t.equal(await ask(served), '403 CERTIFICATE_REVOKED')
  served.write({ 'crl.pem': lists.acme + lists.branch })
  await served.tls.reload()
  t.equal(await ask(served), '200')
})

t.test('a client CA that is renewed many times under one name does not stop the server', async (t) => {
  const renewed = await Promise.all(Array.from({ length: 11 }, async () => await authority('Acme CA')))
  const served = await serveTrust(t, { server, ca: other.cert + renewed.map(({ cert }) => cert).join(''), crl: lists.other + await revocationList(renewed[0]!) })
  served.write({ 'ca.pem': other.cert })
  t.ok(await cpuTime(() => served.tls.reload()) < 2000)
})

t.test('a connection that is handed to the server by emit(\'connection\') is judged like any other', async (t) => {
  const served = await serveTrust(t, before)
  const listener = net.createServer((socket) => {
    // As libraries for the PROXY protocol do it
    const duplex = new Duplex({ read () { socket.resume() }, write (chunk, _encoding, done) { socket.write(chunk, done) }, final (done) { socket.end(done) }, destroy (error, done) { socket.destroy(); done(error) } })
    socket.on('data', (chunk) => { if (!duplex.push(chunk)) socket.pause() }).on('close', () => duplex.destroy()).on('error', () => {})
    duplex.on('error', () => {})
    served.app.server.emit('connection', duplex)
  })
  t.teardown(() => listener.close())
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  const port = portOf(listener)
  const proxy = await holdBack(t, port, 1)
  const kept = await connectWire(t, { port, ...as(jane, 'TLSv1.3') })
  t.equal(outcomeOf(await kept.get('/partners')), '200')
  const slow = kept.get('/slow')
  await until(() => served.reached.length === 2)
  const held = connectWire(t, { port: proxy.port, ...as(jane, 'TLSv1.3') })
  await proxy.held
  await until(() => served.accepted === 2)

  served.write(revoked)
  await served.tls.reload()
  proxy.open()
  t.equal(outcomeOf(await (await held).get('/partners')), REVOKED, 'held back')
  served.release()
  t.match(await slow, { status: 200 })
  t.equal(outcomeOf(await kept.get('/partners')), REVOKED, 'kept')
  t.equal(outcomeOf(await (await connectWire(t, { port, ...as(jane, 'TLSv1.3') })).get('/partners')), '403 CERTIFICATE_REVOKED')
  t.equal(outcomeOf(await (await connectWire(t, { port, ...as(joe, 'TLSv1.3') })).get('/partners')), '200')
  t.equal(served.reached.length, 3)
})

t.test('a further server with the same TLS options does not trust clients of removed CAs', async (t) => {
  // A client that names no host meets nothing of ours but what the server was created with
  for (const servername of ['', 'localhost']) {
    const served = await serveTrust(t, before)
    const further = https.createServer(served.tls.https, (request, response) => served.app.routing(request, response))
    t.teardown(() => { further.close(); further.closeAllConnections() })
    await once(further.listen(0, '127.0.0.1'), 'listening')
    const port = portOf(further)
    const connect = async (session?: Buffer) => await connectWire(t, { port, ...as(jane, 'TLSv1.3'), servername, session })
    const [idle, busy] = [await connect(), await connect()]
    t.equal(outcomeOf(await idle.get('/partners')), '200', servername)
    const slow = busy.get('/slow')
    await until(() => served.reached.length === 2)
    served.write(revoked)
    await served.tls.reload()
    served.release()
    t.match(await slow, { status: 200 }, servername)
    t.equal(outcomeOf(await busy.get('/partners')), REVOKED, 'kept')
    const again = await connect(await idle.ticket)
    t.equal(outcomeOf(await again.get('/partners')), REVOKED, 'resumed')
    t.equal(served.reached.length, 2, servername)
  }
})

t.test('both servers that Fastify makes for localhost apply changed client CAs', { skip: withoutIPv6 }, async (t) => {
  const dir = t.testdir({ 'ca.pem': before.ca, 'crl.pem': before.crl })
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: join(dir, 'ca.pem'), crl: join(dir, 'crl.pem') } })
  const app = Fastify({ https: tls.https, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  const gates: Array<() => void> = []
  app.get('/partners', { httpSecurity: 'mtls' }, async () => 'reached')
  app.get('/slow', { httpSecurity: 'mtls' }, async () => await new Promise((resolve) => { gates.push(() => resolve('reached')) }))
  // Whatever was handed out when the app was created is old by then
  writeFileSync(join(dir, 'crl.pem'), revoked['crl.pem']!)
  await tls.reload()
  const { lookup } = dns
  t.teardown(() => { dns.lookup = lookup })
  dns.lookup = ((name: string, ...args: [object, (...answer: unknown[]) => void]) => {
    if (name !== 'localhost') return Reflect.apply(lookup, dns, [name, ...args])
    const addresses = [{ address: '127.0.0.1', family: 4 }, { address: '::1', family: 6 }]
    if (Reflect.get(args[0], 'all')) args[1](null, addresses)
    else (args.at(-1) as (...answer: unknown[]) => void)(null, '127.0.0.1', 4)
  }) as never
  await app.listen({ port: 0, host: 'localhost' })
  const [{ port }] = app.addresses() as [net.AddressInfo]
  for (const host of ['::1', '127.0.0.1']) {
    const wire = await connectWire(t, { host, port, ...as(jane, 'TLSv1.3') })
    t.equal(outcomeOf(await wire.get('/partners')), '403 CERTIFICATE_REVOKED', host)
    const [kept, busy] = [await connectWire(t, { host, port, ...as(joe, 'TLSv1.3') }), await connectWire(t, { host, port, ...as(joe, 'TLSv1.3') })]
    t.equal(outcomeOf(await kept.get('/partners')), '200', host)
    const slow = busy.get('/slow')
    await until(() => gates.length > 0)
    writeFileSync(join(dir, 'crl.pem'), lists.acme + lists.branch + await revocationList(other, [joe]))
    await tls.reload()
    gates.pop()!()
    t.equal(outcomeOf(await slow), '200', host)
    t.equal(outcomeOf(await busy.get('/partners')), REVOKED, host)
    const again = await connectWire(t, { host, port, ...as(joe, 'TLSv1.3'), session: await kept.ticket })
    t.strictSame([outcomeOf(await again.get('/partners')), again.socket.isSessionReused()], ['403 CERTIFICATE_REVOKED', true], host)
    writeFileSync(join(dir, 'crl.pem'), revoked['crl.pem']!)
    await tls.reload()
  }
})

t.test('client CAs that change while no app is there apply to the next app from its first request', async (t) => {
  const served = await serveTrust(t, before)
  await served.app.close()
  served.write(revoked)
  const app = Fastify({ https: served.tls.https, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls: served.tls })
  app.get('/partners', { httpSecurity: 'mtls' }, async () => 'reached')
  const { https: { port } } = await served.tls.listen(app, { https: 0 })
  t.equal(outcomeOf(await (await connectWire(t, { port, ...as(jane, 'TLSv1.3') })).get('/partners')), '403 CERTIFICATE_REVOKED')
})

t.test('an app with the TLS of enableTls but without the option tls does not boot', async (t) => {
  for (const level of ['mtls', 'tls'] as const) {
    const { tls } = await serveTrust(t, before)
    const app = Fastify({ https: tls.https })
    t.teardown(() => app.close())
    await app.register(httpSecurity)
    // It may look at certificates on any level, and would take one for valid that is not any more
    app.get('/x', { httpSecurity: level }, async (request) => request.clientCertificate?.subject)
    await t.rejects(async () => await app.ready(), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE' }, level)
  }
})

/** One request at each of two workers, which take turns, with the same session. */
async function askBoth (t: Test, port: number, identity: Identity, version: SecureVersion, session?: Buffer): Promise<{ said: string[], tickets: () => Promise<Buffer[]> }> {
  const seen = new Map<string, { said: string, ticket: Promise<Buffer> }>()
  while (seen.size < 2) {
    const wire = await connectWire(t, { port, ...as(identity, version), session })
    const answer = await wire.get('/partners')
    const worker = String(answer?.headers['x-worker'])
    seen.set(worker, { said: `${worker}: ${answer?.status === 200 ? answer.body : outcomeOf(answer)}${wire.socket.isSessionReused() ? ', resumed' : ''}`, ticket: wire.ticket })
  }
  const inOrder = [...seen].sort().map(([, each]) => each)
  return { said: inOrder.map(({ said }) => said), tickets: async () => await Promise.all(inOrder.map(async ({ ticket }) => await ticket)) }
}

t.test('in a cluster, sessions are resumed at any worker, and judged by the client CAs in force', async (t) => {
  const jack = await issue(other, { subject: 'CN=Jack' })
  const cluster = await startCluster(t, { 'server.pem': server.cert, 'server.key': server.key, 'ca.pem': before.ca, 'crl.pem': before.crl })
  const kept = []
  for (const version of VERSIONS) {
    for (const [identity, after] of [[jane, '403 CERTIFICATE_UNTRUSTED'], [jack, '403 CERTIFICATE_REVOKED'], [joe, 'reached']] as const) {
      const tickets = await (await askBoth(t, cluster.plugin, identity, version)).tickets()
      kept.push({ version, identity, after, tickets })
      const { said } = await askBoth(t, cluster.plugin, identity, version, tickets[0])
      t.strictSame(said, ['1: reached, resumed', '2: reached, resumed'], 'workers resume each other\'s sessions')
    }
  }
  const naive = await Promise.all(VERSIONS.map(async (version) => ({ version, tickets: await (await askBoth(t, cluster.plain, jane, version)).tickets() })))

  cluster.write({ 'ca.pem': other.cert, 'crl.pem': await revocationList(other, [jack]) })
  await Promise.all([cluster.replace(2, 3), cluster.reload(1)])
  const count = async () => [await cluster.count(1), await cluster.count(3)].flat()
  for (const { version, identity, after, tickets } of kept) {
    const counts = await count()
    for (const session of [undefined, ...tickets]) {
      const { said } = await askBoth(t, cluster.plugin, identity, version, session)
      // The new worker has never known that CA, and has seen all that its client has in a full handshake
      t.strictSame(said, [1, 3].map((worker) => `${worker}: ${after}${session === undefined ? '' : ', resumed'}`), version)
    }
    if (after !== 'reached') t.strictSame(await count(), counts, 'no handler was reached')
  }
  for (const { version, tickets } of naive) {
    t.match((await askBoth(t, cluster.plain, jane, version)).said, ['1: authorized', '3: not authorized'], version)
    for (const session of tickets) t.strictSame((await askBoth(t, cluster.plain, jane, version, session)).said[1], '3: authorized, resumed', '`authorized` alone would have let it in: workers share the keys of tickets')
  }
})

const LET_IN = '{"authorized":true}'

/** A plain server, by whose `authorized` a client is let in. */
async function plainServer (t: Test, options: https.ServerOptions, prepare: (server: https.Server) => void = () => {}): Promise<{ port: number, server: https.Server }> {
  const plain = https.createServer({ cert: server.cert, key: server.key, requestCert: true, rejectUnauthorized: false, ...options }, ({ socket }, response) => {
    response.end(JSON.stringify({ authorized: (socket as TLSSocket).authorized }))
  })
  prepare(plain)
  t.teardown(() => { plain.close(); plain.closeAllConnections() })
  await once(plain.listen(0, '127.0.0.1'), 'listening')
  return { port: portOf(plain), server: plain }
}

t.test('servers that share ticket keys do not share verdicts on clients', async (t) => {
  const ticketKeys = randomBytes(48)
  const plain = [await plainServer(t, { ca: acme.cert, ticketKeys }), await plainServer(t, { ca: other.cert, ticketKeys })] as const
  const ours = [await serveTrust(t, { server, ca: acme.cert }), await serveTrust(t, { server, ca: other.cert })] as const
  for (const { app } of ours) (app.server as unknown as https.Server).setTicketKeys(ticketKeys)
  for (const version of VERSIONS) {
    const ask = async (port: number, session?: Buffer) => {
      const wire = await connectWire(t, { port, ...as(jane, version), session })
      const answer = await wire.get('/partners')
      return { answer, ticket: wire.ticket, said: [answer!.status === 403 ? outcomeOf(answer) : answer!.body, wire.socket.isSessionReused()] }
    }
    const naive = await ask(plain[0].port)
    t.strictSame((await ask(plain[1].port, await naive.ticket)).said, [LET_IN, true], '`authorized` alone would let it in')
    const first = await ask(ours[0].https)
    t.strictSame((await ask(ours[0].https, await first.ticket)).said, ['Jane', true], version)
    t.strictSame((await ask(ours[1].https, await first.ticket)).said, ['403 CERTIFICATE_UNTRUSTED', false], version)

    // The same server, after a change, with the keys that it had
    plain[0].server.setSecureContext({ cert: server.cert, key: server.key, ca: other.cert, ticketKeys })
    t.strictSame((await ask(plain[0].port, await naive.ticket)).said, [LET_IN, true], version)
    ours[0].write({ 'ca.pem': other.cert })
    await ours[0].tls.reload()
    ;(ours[0].app.server as unknown as https.Server).setTicketKeys(ticketKeys)
    t.equal((await ask(ours[0].https, await first.ticket)).said[0], '403 CERTIFICATE_UNTRUSTED', version)
    plain[0].server.setSecureContext({ cert: server.cert, key: server.key, ca: acme.cert, ticketKeys })
    ours[0].write({ 'ca.pem': acme.cert })
    await ours[0].tls.reload()
    ;(ours[0].app.server as unknown as https.Server).setTicketKeys(ticketKeys)
  }
  t.match(ours[1].reached, [])
  await t.rejects(enableTls({ certificates: { cert: server.cert, key: server.key }, https: { ticketKeys } as object }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /'ticketKeys' is not allowed/ })
})

t.test('sessions in a session store do not keep a verdict on their client', async (t) => {
  const noTickets = { secureOptions: constants.SSL_OP_NO_TICKET }
  const ask = async (port: number, session?: Buffer) => {
    const wire = await connectWire(t, { port, ...as(jane, 'TLSv1.2'), session })
    const answer = await wire.get('/partners')
    return { session: wire.socket.getSession(), said: [answer!.status === 403 ? outcomeOf(answer) : answer!.body, wire.socket.isSessionReused()] }
  }
  const plain = await plainServer(t, { ca: before.ca, ...noTickets }, keepSessions)
  const naive = await ask(plain.port)
  plain.server.setSecureContext({ cert: server.cert, key: server.key, ca: other.cert, ...noTickets })
  t.strictSame((await ask(plain.port)).said, ['{"authorized":false}', false])
  t.strictSame((await ask(plain.port, naive.session)).said, [LET_IN, true], '`authorized` alone would let it in')

  const served = await serveTrust(t, { server, ca: before.ca, tls: { https: noTickets } })
  const counts = keepSessions(served.app.server as unknown as tls.Server)
  const first = await ask(served.https)
  t.strictSame((await ask(served.https, first.session)).said, ['Jane', true], 'they do what they do')
  served.write({ 'ca.pem': other.cert })
  await served.tls.reload()
  const { asked } = counts
  t.strictSame((await ask(served.https, first.session)).said, ['403 CERTIFICATE_UNTRUSTED', true], 'within what is in force')
  t.equal(counts.asked, asked + 1)

  for (const event of ['newSession', 'resumeSession']) {
    const app = Fastify({ https: askingServer({ ca: acme, server }) })
    t.teardown(() => app.close())
    await app.register(httpSecurity)
    app.get('/partners', { httpSecurity: 'mtls' }, async () => 'reached')
    app.server.on(event, () => {})
    await t.rejects(async () => await app.ready(), { code: 'FST_HTTP_SECURITY_UNSATISFIABLE', message: /sessions are kept by listeners for newSession or resumeSession/ }, `${event}, without enableTls`)
  }
})

/** Node's own options, without enableTls. */
async function plainApp (t: Test, ca = acme): Promise<number> {
  const served = await serve(t, { ca, server, client: jane }, async (app, hit) => {
    await app.register(websocket)
    app.get('/live', { websocket: true, httpSecurity: 'mtls' }, (socket, request) => {
      hit(request)
      socket.on('message', (message) => { socket.send(String(message)) })
    })
    app.get('/partners', { httpSecurity: 'mtls' }, async (request) => hit(request))
  })
  return served.https
}

t.test('a WebSocket ends when its certificate does, with enableTls and without', async (t) => {
  const ports = { 'with enableTls': (await serveTrust(t, { server, ca: acme.cert })).https, without: await plainApp(t) }
  const short = await issue(acme, { subject: 'CN=Jane', days: [-1, 1 / 24] })
  const notAfter = new Date(new X509Certificate(short.cert).validTo).getTime()
  // As long as all of them may need to open, on a busy machine
  const [{ now }, ahead] = [Date, notAfter - Date.now() - 3_000]
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + ahead
  await Promise.all(Object.entries(ports).map(async ([what, port]) => {
    const options = as(short, 'TLSv1.3')
    const [live, long] = [await openSocket(t, `wss://localhost:${port}/live`, options), await openSocket(t, `wss://localhost:${port}/live`, as(jane, 'TLSv1.3'))]
    const wire = await connectWire(t, { port, ...options })
    t.match(await wire.get('/partners'), { status: 200 })
    t.equal(await echoed(live), 'hello')
    await once(live, 'close')
    const late = Date.now() - notAfter
    t.ok(late > 0 && late < 10_000, `${what}: ${late} ms after its last second`)
    t.equal(outcomeOf(await wire.get('/partners')), '403 CERTIFICATE_EXPIRED')
    await t.rejects(openSocket(t, `wss://localhost:${port}/live`, options), /403/)
    t.equal(await echoed(long), 'hello', 'others stay')
  }))
})

t.test('a WebSocket ends when its certificate expires while the machine is suspended', async (t) => {
  const long = await authority('Long CA', [-1, 90])
  const lasting = await issue(long, { subject: 'CN=Jane', days: [-1, 60] })
  const end = new Date(new X509Certificate(lasting.cert).validTo).getTime()
  const { now } = Date
  t.teardown(() => { Date.now = now })
  for (const port of [(await serveTrust(t, { server, ca: long.cert })).https, await plainApp(t, long)]) {
    Date.now = now
    const socket = await openSocket(t, `wss://localhost:${port}/live`, as(lasting, 'TLSv1.3'))
    const closed = once(socket, 'close')
    Date.now = () => now() + 20 * DAY
    await new Promise((resolve) => setTimeout(resolve, 700))
    t.equal(await echoed(socket), 'hello', 'it has months left')
    Date.now = () => end + 1
    await closed
  }
})
