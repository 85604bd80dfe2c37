import t, { type Test } from 'tap'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { SecureVersion, TLSSocket } from 'node:tls'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { type Answer, ask, askHttp2 } from './fixtures/ask.ts'
import { opensslIn } from './fixtures/openssl.ts'
import { type Identity, authority, issue, issueServer, selfSigned } from './fixtures/pki.ts'
import { type Served, askingServer, makePki, serve, listenOnFreePort } from './fixtures/serve.ts'
import { DAY } from './fixtures/time.ts'
import { certificateValueKeys } from './fixtures/x509.ts'

const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
/** Node before 24.21 takes an anonymous client that resumes its session for authorized (nodejs/node#35317). */
const trustsAnonymousResumption = major < 24 || (major === 24 && minor < 21)

const pki = await makePki()
const [otherCa, lookAlike] = await Promise.all([authority('Other CA'), authority('Test CA')])
const chainOf = (leaf: Identity, issuer: Identity): Identity => ({ cert: leaf.cert + issuer.cert, key: leaf.key })

const identities: Record<string, { identity?: Identity, code?: string }> = {
  'no certificate': { code: 'CERTIFICATE_REQUIRED' },
  'a valid one': { identity: pki.client },
  'a self-signed one': { identity: await selfSigned(), code: 'CERTIFICATE_UNTRUSTED' },
  'one of another CA': { identity: await issue(otherCa), code: 'CERTIFICATE_UNTRUSTED' },
  'one of a CA with the same name': { identity: await issue(lookAlike), code: 'CERTIFICATE_UNTRUSTED' },
  'an expired one': { identity: await issue(pki.ca, { days: [-10, -1] }), code: 'CERTIFICATE_EXPIRED' },
  'one that is not valid yet': { identity: await issue(pki.ca, { days: [1, 10] }), code: 'CERTIFICATE_NOT_YET_VALID' },
  'one for servers only': { identity: await issueServer(pki.ca), code: 'CERTIFICATE_INVALID' },
  'one signed by a leaf': { identity: chainOf(await issue(pki.client, { subject: 'CN=Mallory' }), pki.client), code: 'CERTIFICATE_INVALID' }
}

function declare (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): void {
  app.get('/partners', { httpSecurity: 'mtls' }, async (request) => `${hit(request)} ${request.clientCertificateValue('SubjectCN')}`)
  app.get('/tls', async (request) => `${hit(request)} ${request.clientCertificateValue('SubjectCN')} ${request.clientCertificate?.subject ?? 'null'} ${request.clientCertificateGetDetails().flags}`)
}

function check (t: Test, answer: Answer, code: string | undefined, name: string): void {
  if (code === undefined) t.match(answer, { status: 200, body: 'reached Jane' }, name)
  else t.match({ ...answer, body: JSON.parse(answer.body) }, { status: 403, body: { code: `FST_HTTP_SECURITY_${code}`, statusCode: 403 } }, name)
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${version}: mtls routes admit valid client certificates alone, on new and kept connections`, async (t) => {
    const served = await serve(t, pki, declare)
    for (const [name, { identity, code }] of Object.entries(identities)) {
      const agent = new https.Agent({ keepAlive: true, maxSockets: 1, maxVersion: version, minVersion: version })
      t.teardown(() => agent.destroy())
      for (const time of ['first', 'again']) {
        check(t, await served.secure('/partners', identity, { agent }), code, `${name}, ${time}`)
      }
      const open = await served.secure('/tls', identity, { agent })
      t.equal(open.body, `reached ${code === undefined ? 'Jane CN=Jane\nO=Acme 1' : ` null ${flagsOf(name)}`}`, `${name} reads nothing that anyone could have made up`)
    }
    t.equal(served.reached.filter((url) => url === 'GET /partners').length, 2, 'handlers saw the valid ones only')
    const refused = served.log.filter(({ code }) => code?.startsWith('FST_HTTP_SECURITY_CERTIFICATE'))
    t.equal(refused.length, 2 * (Object.keys(identities).length - 1), 'a line for each refusal')
    t.match(refused.find(({ code }) => code?.endsWith('_EXPIRED')), { level: 30, route: '/partners', certificate: { subject: 'CN=Jane', issuer: 'CN=Test CA', error: 'CERT_HAS_EXPIRED' } })
    t.equal(served.log.filter(({ err }) => err !== undefined).length, 0, 'and no other one')
  })
}

function flagsOf (name: string): number {
  if (name === 'no certificate') return 0
  return /self-signed|another CA|same name/.test(name) ? 3 : 1
}

t.test('mtls routes admit valid client certificates alone, over HTTP/2 and HTTP/1.1 on one server', async (t) => {
  const served = await serve(t, pki, declare, { http2: true })
  for (const [name, { identity, code }] of Object.entries(identities)) {
    const session = served.session(identity)
    for (const time of ['first', 'again']) check(t, await askHttp2(session, { ':path': '/partners' }), code, `${name}, ${time}`)
    check(t, await served.secure('/partners', identity), code, `${name}, HTTP/1.1`)
  }
  const session = served.session(pki.client)
  t.equal((await askHttp2(session, { ':path': '/tls' })).body, 'reached Jane CN=Jane\nO=Acme 1')
  t.equal((await askHttp2(session, { ':path': '/tls', ':scheme': 'http' })).status, 200, ':scheme says nothing')
})

/** Two requests of one client, the second on a resumed session, whatever the first was answered. */
async function resumed (served: Served, path: string, identity?: Identity, version: SecureVersion = 'TLSv1.3'): Promise<Answer[]> {
  const agent = new https.Agent({ keepAlive: false, maxVersion: version })
  const reused: boolean[] = []
  const first = await served.secure(path, identity, { agent })
  const second = await new Promise<Answer>((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: served.https, path, agent, ca: pki.ca.cert, ...identity && { cert: identity.cert, key: identity.key } }, (response) => {
      reused.push((response.socket as TLSSocket).isSessionReused())
      let body = ''
      response.setEncoding('utf8').on('data', (chunk) => { body += chunk }).on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }))
    })
    request.on('error', reject).end()
  })
  agent.destroy()
  if (!reused[0]) throw new Error('the session was not resumed')
  return [first, second]
}

t.test('an anonymous client that resumes its session stays anonymous (nodejs/node#35317)', async (t) => {
  for (const isHttp2 of [false, true]) {
    const served = await serve(t, pki, declare, { http2: isHttp2 })
    const naive: boolean[] = []
    served.app.server.on('secureConnection', (socket: TLSSocket) => { naive.push(socket.authorized) })
    for (const answer of await resumed(served, '/partners')) check(t, answer, 'CERTIFICATE_REQUIRED', 'HTTP/1.1')
    if (trustsAnonymousResumption) t.strictSame(naive, [false, true], '`authorized` alone would have let it in')
    t.strictSame(served.reached, [])
  }

  const served = await serve(t, pki, declare, { http2: true })
  const first = served.session()
  const ticket = new Promise<Buffer>((resolve) => { (first.socket as TLSSocket).on('session', resolve) })
  check(t, await askHttp2(first, { ':path': '/partners' }), 'CERTIFICATE_REQUIRED', 'HTTP/2')
  const second = served.session(undefined, { session: await ticket })
  check(t, await askHttp2(second, { ':path': '/partners' }), 'CERTIFICATE_REQUIRED', 'HTTP/2, resumed')
  t.equal((second.socket as TLSSocket).isSessionReused(), true)
})

t.test('a client with a certificate may resume its session', async (t) => {
  const served = await serve(t, pki, declare)
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const answer of await resumed(served, '/partners', pki.client, version)) check(t, answer, undefined, version)
  }
})

t.test('a certificate that expires on a kept or resumed connection is refused', async (t) => {
  const now = Date.now
  t.teardown(() => { Date.now = now })
  const served = await serve(t, pki, declare)
  const naive: boolean[] = []
  served.app.server.on('secureConnection', (socket: TLSSocket) => { naive.push(socket.authorized) })

  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  check(t, await served.secure('/partners', pki.client, { agent }), undefined, 'valid')
  Date.now = () => now() + 31 * DAY
  check(t, await served.secure('/partners', pki.client, { agent }), 'CERTIFICATE_EXPIRED', 'kept')
  for (const answer of await resumed(served, '/partners', pki.client)) check(t, answer, 'CERTIFICATE_EXPIRED', 'resumed')
  t.equal((await served.secure('/tls', pki.client, { agent })).body, 'reached  null 1', 'nor do its values')
  Date.now = () => now() - 2 * DAY
  check(t, await served.secure('/partners', pki.client, { agent }), 'CERTIFICATE_NOT_YET_VALID', 'a clock set back')
  Date.now = now
  check(t, await served.secure('/partners', pki.client, { agent }), undefined, 'and set right')
  t.equal((await served.secure('/tls', pki.client, { agent })).body, 'reached Jane CN=Jane\nO=Acme 1')
  t.strictSame(naive, [true, true, true], '`authorized` never changed')
})

t.test('"no certificate" and "root missing" are told apart, though Node reports the same error for both', async (t) => {
  const intermediate = await issue(pki.ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const leaf = await issue(intermediate, { subject: 'CN=Jane, O=Acme' })
  const served = await serve(t, pki, declare, { https: { ca: otherCa.cert } })
  const errors: unknown[] = []
  served.app.server.on('secureConnection', (socket: TLSSocket) => { errors.push(socket.authorizationError) })
  check(t, await served.secure('/partners'), 'CERTIFICATE_REQUIRED', 'none')
  check(t, await served.secure('/partners', leaf), 'CERTIFICATE_UNTRUSTED', 'intermediate missing')
  check(t, await served.secure('/partners', chainOf(leaf, intermediate)), 'CERTIFICATE_UNTRUSTED', 'root missing')
  t.equal(errors[0], 'UNABLE_TO_GET_ISSUER_CERT', 'an error though there is no certificate')

  const complete = await serve(t, pki, declare)
  check(t, await complete.secure('/partners', chainOf(leaf, intermediate)), undefined, 'a chain')
})

t.test('servers that do not ask for certificates, or are anonymous, see none and do not crash', async (t) => {
  const served = await serve(t, pki, declare, { options: { unsatisfiable: 'warn' }, https: { requestCert: false } })
  check(t, await served.secure('/partners', pki.client), 'CERTIFICATE_REQUIRED', 'not asked')
  t.equal((await served.secure('/tls', pki.client)).body, 'reached  null 0')
  t.match(served.log.find(({ code }) => code === 'FST_HTTP_SECURITY_UNSATISFIABLE'), { level: 40, msg: /does not ask for client certificates[^]*GET, HEAD \/partners/ })
})

t.test('a revoked certificate, and one that no CRL covers, are refused', async (t) => {
  const dir = t.testdir({ 'index.txt': '', 'ca.pem': pki.ca.cert, 'ca.key': pki.ca.key, 'jane.pem': pki.client.cert, crlnumber: '01\n', 'ca.cnf': '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=1\ncertificate=ca.pem\nprivate_key=ca.key\n' })
  const openssl = opensslIn(dir)
  openssl('ca', '-config', 'ca.cnf', '-revoke', 'jane.pem')
  openssl('ca', '-config', 'ca.cnf', '-gencrl', '-out', 'crl.pem')
  const served = await serve(t, pki, declare, { https: { crl: readFileSync(`${dir}/crl.pem`) } })
  check(t, await served.secure('/partners', pki.client), 'CERTIFICATE_REVOKED', 'revoked')
  check(t, await served.secure('/partners', await issue(pki.ca, { subject: 'CN=Jane' })), undefined, 'another one')

  const uncheckable = await serve(t, { ...pki, ca: otherCa }, declare, { https: { key: pki.server.key, cert: pki.server.cert, crl: readFileSync(`${dir}/crl.pem`) } })
  check(t, await ask({ port: uncheckable.https, path: '/partners', tls: { ca: pki.ca.cert, ...await issue(otherCa) } }), 'REVOCATION_UNKNOWN', 'no CRL for its CA')
})

/** How a request comes, and what it is known by. */
interface Way { app?: object, options?: HttpSecurityOptions, peer?: Identity, headers?: Record<string, string>, connect: 'http' | 'https' | 'h2' | 'h2c' | 'wss' }

const forwarded = { 'x-forwarded-proto': 'https', 'client-cert': `:${Buffer.from(pki.client.cert.replace(/-----[^-]+-----|\n/g, ''), 'base64').toString('base64')}:` }
const behindProxy = { proxy: { trust: '127.0.0.1', certificate: 'rfc9440' as const } }
const edge = await issue(pki.ca, { subject: 'CN=Edge' })
const behindProvenProxy: HttpSecurityOptions = { clients: { clients: { edge: { certificates: [{ fingerprint256: edge.certificate.fingerprint256 }] } } }, proxy: { trust: { client: 'edge', from: '127.0.0.1' }, certificate: 'rfc9440' } }
const ways: Record<string, Way> = {
  HTTP: { connect: 'http' },
  HTTPS: { connect: 'https', app: { https: askingServer(pki) } },
  'HTTP/2': { connect: 'h2', app: { http2: true, https: askingServer(pki) } },
  'plain HTTP/2': { connect: 'h2c', app: { http2: true } },
  'a WebSocket': { connect: 'wss', app: { https: askingServer(pki) } },
  'a proxy': { connect: 'http', options: behindProxy, headers: forwarded },
  'a proxy, HTTPS': { connect: 'https', app: { https: askingServer(pki) }, options: behindProxy, headers: forwarded },
  'a proxy, HTTP/2': { connect: 'h2', app: { http2: true, https: askingServer(pki) }, options: behindProxy, headers: forwarded },
  'a proxy, plain HTTP/2': { connect: 'h2c', app: { http2: true }, options: behindProxy, headers: forwarded },
  'a proxy that proves itself, HTTPS': { connect: 'https', app: { https: askingServer(pki) }, options: behindProvenProxy, peer: edge, headers: forwarded },
  'a proxy that proves itself, HTTP/2': { connect: 'h2', app: { http2: true, https: askingServer(pki) }, options: behindProvenProxy, peer: edge, headers: forwarded },
  'no proxy, HTTP/2': { connect: 'h2', app: { http2: true, https: askingServer(pki) }, options: { ...behindProxy, proxy: { ...behindProxy.proxy, trust: '192.0.2.1' } }, headers: forwarded }
}

/** All that a request offers; what throws is told as what it throws. */
function offered (request: FastifyRequest): Record<string, unknown> {
  const read = (what: () => unknown): unknown => { try { return what() } catch (error) { return `throws ${String(error)}` } }
  return {
    security: read(() => request.httpSecurity.level),
    certificate: read(() => request.clientCertificate?.subject ?? null),
    present: read(() => request.clientCertificateGetDetails().isPresent),
    valid: read(() => request.clientCertificateGetDetails().isValid),
    values: read(() => [...new Set(certificateValueKeys.map((key) => request.clientCertificateValue(key)))].length)
  }
}

// They wait for the network, and not for each other
t.jobs = Object.keys(ways).length
for (const [name, { app: settings, options, headers, connect, peer = pki.client }] of Object.entries(ways)) {
  t.test(`decorators of a request whose client has disconnected do not throw: ${name}`, { buffered: true }, async (t) => {
    /** Of the request under way: what each stage was offered, and what its route does. */
    let stages = new Map<string, Record<string, unknown>>()
    let handle: (request: FastifyRequest, reply: FastifyReply) => unknown = () => 'x'
    const app = Fastify({ ...settings, forceCloseConnections: true } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    const note = (stage: string, request: FastifyRequest): void => { stages.set(stage, offered(request)) }
    // It comes before ours and takes its time, as tracing does
    app.addHook('onRequest', async (request) => { if (request.url === '/early') await handle(request, undefined as never) })
    await app.register(httpSecurity, { unsatisfiable: 'warn', ...options })
    await app.register(websocket)
    app.addHook('onRequest', async (request, { raw }) => {
      for (const event of ['close', 'aborted', 'error']) request.raw.on(event, () => note(`request ${event}`, request))
      for (const event of ['close', 'finish']) raw.on(event, () => note(`reply ${event}`, request))
      const { stream } = request.raw as unknown as Partial<http2.Http2ServerRequest>
      for (const event of ['close', 'aborted']) stream?.on(event, () => note(`stream ${event}`, request))
      stream?.session?.on('close', () => note('session close', request))
      if (stream === undefined) request.raw.socket.on('close', () => note('socket close', request))
    })
    app.addHook('onRequestAbort', async (request) => note('onRequestAbort', request))
    app.addHook('onTimeout', async (request) => note('onTimeout', request))
    app.addHook('onSend', async (request) => note('onSend', request))
    app.addHook('onResponse', async (request) => note('onResponse', request))
    for (const level of ['none', 'tls', 'mtls'] as const) app.get(`/${level}`, { httpSecurity: level }, async (request, reply) => await handle(request, reply))
    app.get('/early', { httpSecurity: 'mtls' }, async () => 'x')
    app.get('/live', { httpSecurity: 'none', websocket: true }, (_socket, request) => { handle(request, undefined as never) })
    const port = await listenOnFreePort(t, app)
    const identity = { ca: pki.ca.cert, cert: peer.cert, key: peer.key, servername: 'localhost' }

    /** Asks, and answers what cuts the client's end: its connection, or its stream. */
    const send = (path: string): { cut: (stream?: boolean) => void } => {
      if (connect === 'h2' || connect === 'h2c') {
        const session = http2.connect(`${connect === 'h2' ? 'https' : 'http'}://localhost:${port}`, identity)
        const stream = session.on('error', () => {}).request({ ':path': path, accept: 'text/html', ...headers }).on('error', () => {})
        return { cut: (onlyStream) => { if (onlyStream === true) stream.close(http2.constants.NGHTTP2_CANCEL); else session.destroy() } }
      }
      const upgrade = connect === 'wss' && { connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' }
      const request = (connect === 'http' ? http : https).get({ host: '127.0.0.1', port, path, agent: false, ...identity, headers: { accept: 'text/html', ...upgrade, ...headers } }).on('error', () => {})
      let upgraded: Socket | undefined
      request.on('upgrade', (_response, socket: Socket) => { upgraded = socket.on('error', () => {}) })
      return { cut: () => { request.destroy(); upgraded?.destroy() } }
    }
    const drop = ({ raw }: FastifyRequest): void => {
      const { stream } = raw as unknown as Partial<http2.Http2ServerRequest>
      if (stream === undefined) raw.socket.destroy()
      else stream.session?.destroy()
    }
    const gone = async ({ raw }: FastifyRequest): Promise<void> => {
      const { stream } = raw as unknown as Partial<http2.Http2ServerRequest>
      const end = stream ?? raw.socket
      if (!end.destroyed) await new Promise((resolve) => { end.once('close', resolve) })
      await new Promise((resolve) => setImmediate(resolve))
    }
    /** One request; by the time that it is done, every stage has been asked. */
    const ask = async (path: string, end: (request: FastifyRequest, cut: (stream?: boolean) => void) => unknown, hijack = false): Promise<typeof stages> => {
      stages = new Map()
      const asked = new Promise<void>((resolve) => {
        handle = async (request, reply) => {
          if (hijack && path !== '/early' && path !== '/live') reply.hijack()
          await end(request, cut)
          await gone(request)
          note('after that', request)
          setTimeout(resolve, 10)
          return hijack ? undefined : 'x'
        }
      })
      const { cut } = send(path)
      await asked
      cut()
      return stages
    }
    const ends: Record<string, (request: FastifyRequest, cut: (stream?: boolean) => void) => unknown> = {
      'by the client': (_request, cut) => cut(),
      'by the client, after hijack()': (_request, cut) => cut(),
      'by the server': drop,
      'by the client, this stream': (_request, cut) => cut(true),
      'by a timeout': ({ raw }) => { raw.socket.setTimeout(20) }
    }
    const isReachable = (path: string): boolean => connect !== 'wss' && (path === '/none' || connect === 'https' || connect === 'h2' || headers !== undefined)
    const paths = [...['/none', '/tls', '/mtls'].filter((path) => isReachable(path) && !(name.startsWith('no proxy') && path !== '/none')), '/early', ...connect === 'wss' ? ['/live'] : []]
    for (const [how, end] of Object.entries(ends)) {
      // Who has nothing to end would wait for ever
      if (how === 'by a timeout' && (connect !== 'https' && connect !== 'http')) continue
      for (const path of paths) {
        if (how === 'by a timeout' && path !== '/none') continue
        const seen = await ask(path, end, how.endsWith('hijack()'))
        for (const [stage, offer] of seen) {
          t.notMatch(JSON.stringify(offer), /throws/, `${path}, ended ${how}: ${stage}`)
          // The certificate was not read before: the client has gone, unless only a stream has
          if (path === '/none' && options === undefined && stage !== 'onTimeout' && how !== 'by the client, this stream') t.match(offer, { security: 'none', certificate: null, present: false, valid: false, values: 1 }, `${path}, ended ${how}: ${stage}`)
        }
        t.ok(seen.size > 0, path)
        if (how === 'by a timeout') t.ok(seen.has('onTimeout'))
      }
    }
    handle = () => 'x'
    t.match(await app.inject('/none'), { statusCode: 200, body: 'x' }, 'and the app goes on')
  })
}
