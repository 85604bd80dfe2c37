import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import lowest from 'fastify-lowest'
import t, { type Test } from 'tap'
import httpSecurity, { type ClientsDocument, type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type EnabledTls, enableTls } from '../lib/tls/index.ts'
import { TrustStore } from '../lib/trust/store.ts'
import { ask, outcomeOf } from './fixtures/ask.ts'
import { extension, type Made, make } from './fixtures/chains.ts'
import { enabled, handshake } from './fixtures/enabled.ts'
import { authority, type Authority, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { run } from './fixtures/programs.ts'
import { keepLog, type LogLine } from './fixtures/serve.ts'
import { cpuTime } from './fixtures/time.ts'
import { certificatesOf } from './fixtures/verified.ts'
import { connectWire } from './fixtures/wire.ts'
import { der, tags } from './fixtures/x509.ts'

const ca = await authority('CA')
const other = await authority('Other')
const server = await issueServer(ca)
const jane = await issue(ca, { subject: 'CN=Jane' })
const bob = await issue(other, { subject: 'CN=Bob' })
const good = { cert: server.cert, key: server.key }
const trusted = { ca: ca.cert }

t.test('a revoked client is refused, however long the CRL is', async (t) => {
  const dir = t.testdir({ 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) })
  const { tls, get } = await enabled(t, { certificates: good, clientCertificates: { ca: join(dir, 'ca.pem'), crl: join(dir, 'crl.pem') } })
  t.equal(outcomeOf(await get('/mtls', jane, trusted)), '200')
  const others = Array.from({ length: 6_000 }, (_, index) => ({ certificate: { serialNumber: (0x4000_0000 + index).toString(16) } } as Authority))
  writeFileSync(join(dir, 'crl.pem'), await revocationList(ca, [...others, jane]))
  await tls.reload()
  t.equal(outcomeOf(await get('/mtls', jane, trusted)), '403 CERTIFICATE_REVOKED')
})

t.test('removing a client CA from the file does not end revocation checks', async (t) => {
  const dir = t.testdir({ 'ca.pem': ca.cert + other.cert, 'crl.pem': await revocationList(ca) })
  const { tls, get } = await enabled(t, { certificates: good, clientCertificates: { ca: join(dir, 'ca.pem'), crl: join(dir, 'crl.pem') } })
  t.equal(outcomeOf(await get('/mtls', bob, trusted)), '403 REVOCATION_UNKNOWN', 'there is no list of his authority')
  writeFileSync(join(dir, 'ca.pem'), other.cert)
  await tls.reload()
  t.equal(outcomeOf(await get('/mtls', bob, trusted)), '403 REVOCATION_UNKNOWN', 'still not')

  const first = await issue(ca, { ca: true, subject: 'CN=First', purpose: 'none' })
  const last = await issue(first, { ca: true, subject: 'CN=Last', purpose: 'none' })
  const june = await issue(last, { subject: 'CN=June' })
  const lists = await revocationList(ca) + await revocationList(first) + await revocationList(last, [june])
  writeFileSync(join(dir, 'ca.pem'), ca.cert + first.cert + last.cert)
  writeFileSync(join(dir, 'crl.pem'), lists)
  await tls.reload()
  const chained = { cert: june.cert + last.cert + first.cert, key: june.key }
  t.equal(outcomeOf(await get('/mtls', chained, trusted)), '403 CERTIFICATE_REVOKED')
  writeFileSync(join(dir, 'ca.pem'), ca.cert)
  await tls.reload()
  t.equal(outcomeOf(await get('/mtls', chained, trusted)), '403 CERTIFICATE_REVOKED', 'by a list of an authority that clients send along')
})

t.test('an unchanged policy file does not undo a policy that was enforced since', async (t) => {
  const dir = t.testdir({ 'policy.json': '{}' })
  const app = Fastify({ https: good })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { default: 'none', policy: join(dir, 'policy.json') })
  app.get('/', async () => 'x')
  await app.ready()
  app.httpSecurity.enforce({ environment: { forceHttpsForIntegrations: true } })
  await sleep(1_000)
  t.equal(app.httpSecurity.routes()[0]?.level, 'tls')
  writeFileSync(join(dir, 'policy.json'), '{ }')
  await sleep(1_000)
  t.equal(app.httpSecurity.routes()[0]?.level, 'tls', 'nor one that says the same in other words')
})

/** An app that trusts Jane, until she is revoked. */
async function revocable (t: Test): Promise<{ app: FastifyInstance, tls: EnabledTls, revoke: () => Promise<void> }> {
  const dir = t.testdir({ 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) })
  const tls = await enableTls({ certificates: good, clientCertificates: { ca: join(dir, 'ca.pem'), crl: join(dir, 'crl.pem') } })
  const app = Fastify({ https: tls.https, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  return {
    app: app as unknown as FastifyInstance,
    tls,
    async revoke () {
      writeFileSync(join(dir, 'crl.pem'), await revocationList(ca, [jane]))
      await tls.reload()
    }
  }
}

t.test('the client certificate is checked again after a body that an own hook reads', async (t) => {
  const { app, tls, revoke } = await revocable(t)
  app.addContentTypeParser('text/x', (_request, _payload, done) => done(null))
  app.addHook('preHandler', async ({ raw }) => { if (raw.method === 'POST') for await (const chunk of raw) t.ok(chunk) })
  const reached: string[] = []
  app.post('/', { httpSecurity: 'mtls' }, async () => { reached.push('/'); return 'x' })
  const { https } = await tls.listen(app, { https: 0 })
  const wire = await connectWire(t, { port: https.port, ca: ca.cert, cert: jane.cert, key: jane.key, servername: 'localhost' })
  const arrived = once(app.server, 'request')
  const answer = wire.send('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhel')
  await arrived
  await sleep(50)
  await revoke()
  wire.socket.write('lo')
  t.equal(outcomeOf((await answer)!), '403 CERTIFICATE_REVOKED')
  t.strictSame(reached, [])
})

t.test('the client certificate is checked again after slow hooks of a request without a body', async (t) => {
  const { app, tls, revoke } = await revocable(t)
  let release = (): void => {}
  const released = new Promise<void>((resolve) => { release = resolve })
  app.addHook('onRequest', async ({ headers }) => { if (headers['x-slow'] !== undefined) await released })
  app.addHook('preHandler', async ({ raw }) => { if (raw.headers['content-length'] !== undefined) for await (const chunk of raw) t.ok(chunk) })
  const reached: string[] = []
  app.route({ method: ['GET', 'TRACE'], url: '/', httpSecurity: 'mtls', handler: async ({ method }) => { reached.push(method); return 'x' } })
  const { https } = await tls.listen(app, { https: 0 })
  const connect = async () => await connectWire(t, { port: https.port, ca: ca.cert, cert: jane.cert, key: jane.key, servername: 'localhost' })
  t.equal((await (await connect()).get('/'))?.status, 200)
  const requests = ['GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1\r\n\r\n', 'TRACE / HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1\r\n\r\n', 'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nh']
  const wires = await Promise.all(requests.map(connect))
  const answers = wires.map(async (wire, index) => await wire.send(requests[index]!))
  await sleep(100)
  await revoke()
  release()
  wires.at(-1)!.socket.write('i')
  t.strictSame((await Promise.all(answers)).map((answer) => outcomeOf(answer!)), Array(3).fill('403 CERTIFICATE_REVOKED'))
  t.strictSame(reached, ['GET'])
})

t.test('a route that a policy may raise to mtls is checked again after the body only once it is raised', async (t) => {
  const tls = await enableTls({ certificates: good, clientCertificates: { ca: ca.cert } })
  const app = Fastify({ https: tls.https, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, flows: { '/partners': 'mtls' } })
  app.post('/:tenant/list', async () => 'x')
  const { https } = await tls.listen(app, { https: 0 })
  const post = async (path: string, identity?: Authority): Promise<number> => (await ask({ port: https.port, path, method: 'POST', tls: { ca: ca.cert, ...identity && { cert: identity.cert, key: identity.key } } })).status
  t.strictSame([await post('/shop/list'), await post('/partners/list'), await post('/partners/list', jane)], [200, 403, 200])
})

t.test('a certificate that OpenSSL takes at boot works in handshakes, and a refused one does not end the process', async (t) => {
  const dir = t.testdir()
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:1024', '-nodes', '-keyout', join(dir, 'weak.key'), '-out', join(dir, 'weak.pem'), '-subj', '/CN=weak.test', '-addext', 'subjectAltName=DNS:weak.test', '-days', '2'], { stdio: 'ignore' })
  const certificates = [good, { cert: join(dir, 'weak.pem'), key: join(dir, 'weak.key') }]
  const { port } = await enabled(t, { certificates, https: { ciphers: 'DEFAULT:@SECLEVEL=0' } }, { anonymous: true })
  t.match((await handshake(port, { servername: 'weak.test', rejectUnauthorized: false, ciphers: 'DEFAULT:@SECLEVEL=0' })).subject, /weak\.test/)

  const served = await enabled(t, { certificates: good }, { anonymous: true })
  const told: unknown[] = []
  const gone = Object.defineProperty({}, 'server', { get () { throw new Error('no memory') } })
  Reflect.apply(served.tls.https.SNICallback!, gone, ['localhost', (error: unknown) => { told.push(error) }])
  t.match(told, [{ message: 'no memory' }], 'Node hangs up on the one client')
  t.ok(await handshake(served.port, { servername: 'localhost', rejectUnauthorized: false }), 'and the next one is served')
})

t.test('TLS contexts are made once, at boot, and not for each client', async (t) => {
  const dir = t.testdir({ 'ca.pem': ca.cert })
  const { cert, key } = await issueServer(ca, ['shop.test'])
  const { tls: ours, port, get } = await enabled(t, { certificates: [good, { cert, key }], clientCertificates: { 'shop.test': { ca: join(dir, 'ca.pem') } } })
  const { createSecureContext } = tls
  let made = 0
  tls.createSecureContext = ((options: tls.SecureContextOptions) => {
    // The server's own one is made anew by setSecureContext
    if (!('sessionIdContext' in options)) made++
    return createSecureContext(options)
  }) as never
  syncBuiltinESMExports()
  t.teardown(() => {
    tls.createSecureContext = createSecureContext
    syncBuiltinESMExports()
  })
  for (const content of [ca.cert + other.cert, ca.cert]) {
    writeFileSync(join(dir, 'ca.pem'), content)
    made = 0
    await ours.reload()
    const before = made
    t.ok(before > 0, 'to be tried')
    for (const host of ['shop.test', 'localhost', 'shop.test', 'unknown.test']) t.equal(await subjectAt(port, host), host === 'shop.test' ? 'CN=shop.test' : 'CN=localhost', host)
    t.equal(made, before, content)
  }
  const options = { ...trusted, servername: 'shop.test', checkServerIdentity: () => undefined }
  t.equal(outcomeOf(await get('/mtls', jane, options)), '421 MISDIRECTED', 'its Host is another one')
})

/** Without `tls.connect`, which makes a context as well. */
async function subjectAt (port: number, host: string): Promise<string> {
  const asking = run('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', host])
  asking.child.stdin!.end()
  return /subject=(.*)/.exec((await asking).stdout)![1]!.replace(' = ', '=')
}

t.test('no error message contains a private key or its passphrase', async (t) => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  const base64 = (privateKey.export({ type: 'pkcs8', format: 'der' }) as Buffer).toString('base64')
  const jwk = privateKey.export({ format: 'jwk' })
  const secrets = [base64.slice(-30), jwk.d!, 'open sesame', Buffer.from('open sesame').toString('hex')]
  const keys = [base64, `"${base64}"`, JSON.stringify(jwk), jwk, `data:application/x-pem-file;base64,${base64}`, `Bag Attributes\n${base64}\n-----END PRIVATE KEY-----`, [pem], { pem }]
  const told = async (options: unknown): Promise<string> => {
    const error = await enableTls(options as never).then(() => { throw new Error('it was taken') }, (error: Error) => error)
    return `${error.message} ${error.stack ?? ''} ${String((error as { cause?: Error }).cause?.message)}`
  }
  for (const key of keys) {
    const text = await told({ certificates: { cert: server.cert, key } })
    for (const secret of secrets) t.notOk(text.includes(secret), `${JSON.stringify(key).slice(0, 20)}: ${text.slice(0, 100)}`)
  }
  for (const passphrase of [1234567, { text: 'open sesame' }, Buffer.from('open sesame')]) {
    const text = await told({ certificates: { ...good, passphrase } })
    t.notMatch(text, /1234567|open sesame|6f70656e/)
  }
  t.notMatch(await told({ certificates: { cert: 5, key: 'open sesame', passphrase: 'open sesame' } }), /open sesame/)
})

t.test('large certificate files do not block the event loop', async (t) => {
  const policy = join(t.testdir({ 'deep.json': '['.repeat(500_000) }), 'deep.json')
  const block = `-----BEGIN CERTIFICATE-----\nA${' '.repeat(200_000)}!\n-----END CERTIFICATE-----\n`
  t.ok(await cpuTime(async () => {
    await t.rejects(enableTls({ certificates: { cert: block, key: server.key } }), { message: /not base64/ })
    await t.rejects(enableTls({ certificates: good, clientCertificates: { ca: ca.cert.repeat(501) } }), { message: /there are 501 authorities, more than 500/ })
    await t.rejects(async () => await Fastify().register(httpSecurity, { policy }), { code: 'FST_HTTP_SECURITY_INVALID_POLICY', message: /deep\.json:1:65: / })
  }) < 2_000)
})

t.test('with trustProxy, a forwarded host counts only where the request names it', async (t) => {
  const hosts = await Promise.all(['a.test', 'b.test'].map(async (name) => await issueServer(ca, [name])))
  const tls = await enableTls({ certificates: hosts.map(({ cert, key }) => ({ cert, key })), clientCertificates: { 'a.test': { ca: ca.cert }, 'b.test': { ca: other.cert } } })
  const app = Fastify({ https: tls.https, trustProxy: true, forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  app.get('/', { httpSecurity: 'mtls' }, async ({ hostname }) => hostname)
  const { https } = await tls.listen(app, { https: 0 })
  const get = async (headers: Record<string, string>): Promise<number> => (await ask({ port: https.port, path: '/', headers: { host: 'a.test', ...headers }, tls: { ca: ca.cert, cert: jane.cert, key: jane.key, servername: 'a.test', checkServerIdentity: () => undefined } })).status
  t.equal(await get({}), 200)
  t.equal(await get({ 'x-forwarded-host': 'a.test' }), 200)
  t.equal(await get({ 'x-forwarded-host': 'b.test' }), 421)
  t.equal(await get({ 'x-forwarded-host': 'a.test, b.test' }), 421)
})

// Rules

/** What somebody, or nobody, is answered over HTTPS: `200 body`, or the code. */
async function answered (app: object, url: string, who?: Authority): Promise<string> {
  const { statusCode, body } = await inject(app as FastifyInstance, { url, secure: true, ...who && { clientCertificate: who.cert } })
  return statusCode === 200 ? `200 ${body}` : outcomeOf({ status: statusCode, body })
}

async function ruled (t: Test, options: HttpSecurityOptions = {}, make: unknown = Fastify): Promise<{ app: FastifyInstance, log: LogLine[] }> {
  const log: LogLine[] = []
  const app = (make as typeof Fastify)({ logger: keepLog(log) }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, options)
  return { app, log }
}

const ofJane = { level: 'mtls', allow: [{ subject: { CN: 'Jane' } }] } as const

t.test('the rules of a flow without a prefix and without routes hold for its not-found handler, and are checked at boot', async (t) => {
  const { app, log } = await ruled(t)
  app.register(async (flow) => { flow.setNotFoundHandler(async () => 'nothing') }, { httpSecurity: { ...ofJane, allow: [...ofJane.allow, 'nobody'] } })
  t.strictSame([await answered(app, '/x', jane), await answered(app, '/x', bob)], ['200 nothing', '403 CERTIFICATE_NOT_ALLOWED'])
  t.match(log.filter(({ msg }) => msg.includes('rules name')), [{ msg: /'nobody'/ }])
  const labelled = await ruled(t, { proxy: { trust: 'loopback', certificate: 'nginx' } })
  labelled.app.register(async (flow) => { flow.setNotFoundHandler(async () => 'nothing') }, { httpSecurity: { level: 'mtls', allow: [{ issuedBy: 'partners' }] } })
  await t.rejects(async () => await labelled.app.ready(), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /can never be known/ })
})

t.test('a not-found handler behind a verify that waits is answered for like any other, and ends no process', async (t) => {
  const handlers: Record<string, [handler: (request: unknown, reply: { send (body: string): unknown }) => unknown, answer: string]> = {
    'a promise': [async () => 'nothing', '200 nothing'],
    send: [(_request, reply) => { reply.send('sent') }, '200 sent'],
    'a rejection': [async () => { throw Object.assign(new Error(), { statusCode: 404, code: 'GONE' }) }, '404 GONE'],
    'an error': [() => { throw Object.assign(new Error(), { statusCode: 404, code: 'GONE' }) }, '404 GONE']
  }
  // Where an earlier route calls callNotFound, Fastify 5.8.4 runs no hooks.
  for (const [name, make] of Object.entries({ lowest, newest: Fastify })) {
    for (const [kind, [handler, answer]] of Object.entries(handlers)) {
      const { app } = await ruled(t, { default: 'none' }, make)
      app.get('/early', (_request, reply) => { reply.callNotFound() })
      const verify = async (certificate: unknown): Promise<boolean> => await sleep(1, (certificate as { subject: string }).subject === 'CN=Jane')
      app.register(async (flow) => { flow.setNotFoundHandler(handler as never) }, { httpSecurity: { level: 'mtls', verify } })
      for (const path of ['/early', '/unknown']) {
        t.equal(await answered(app, path, jane), answer, `${name}, ${path}: ${kind}`)
        t.equal(await answered(app, path, bob), '403 CERTIFICATE_NOT_ALLOWED', `${name}, ${path}: ${kind}`)
      }
    }
  }
})

t.test('of several flows with one prefix, unknown paths meet all', async (t) => {
  const flows = [{ level: 'tls' } as const, ofJane, undefined]
  for (const [prefix, other, path] of [['/p', '/p', '/p/x'], ['/:a', '/:b', '/p/x']] as const) {
    for (const order of [[0, 1, 2], [1, 0, 2], [2, 1, 0]]) {
      const { app } = await ruled(t)
      app.setNotFoundHandler(async () => 'nothing')
      for (const [at, flow] of order.entries()) app.register(async () => {}, { prefix: at === 0 ? prefix : other, ...flows[flow] && { httpSecurity: flows[flow] } })
      t.strictSame([await answered(app, path), await answered(app, path, bob), await answered(app, path, jane)], ['403 CERTIFICATE_REQUIRED', '403 CERTIFICATE_NOT_ALLOWED', '200 nothing'], `${prefix}, ${order}`)
      t.equal(await answered(app, '/'), '200 nothing')
    }
  }
})

t.test('a document that says one thing many times is read, and looked up, quickly', async (t) => {
  const isJane = { subject: { CN: 'Jane' } }
  const documents: ClientsDocument[] = [
    { clients: { jane: { certificates: Array.from({ length: 50_000 }, () => isJane) } } },
    { clients: Object.fromEntries(Array.from({ length: 150_000 }, (_, index) => [index === 0 ? 'jane' : `j${index}`, { certificates: [isJane] }])) }
  ]
  for (const document of documents) {
    const source = { load: async () => document }
    let app: FastifyInstance | undefined
    const spent = await cpuTime(async () => { ({ app } = await ruled(t, { clients: source })) })
    t.ok(spent < 2_000, `${spent} ms`)
    app!.get('/', { httpSecurity: { level: 'mtls', allow: ['jane'] } }, async ({ httpSecurity }) => httpSecurity.client?.name)
    t.equal(await answered(app!, '/', jane), '200 jane')
  }
})

t.test('a valid certificate keeps its label, however many look-alikes of its CA are known', async (t) => {
  const caOf = (subject: string, issuer?: Made, extensions = {}): Made => make({ ca: true, subject, ...issuer && { issuer }, extensions })
  const [ours, theirs] = [caOf('CN=Ours'), caOf('CN=Theirs')]
  const policy = caOf('CN=Policy', ours)
  const issuing = caOf('CN=Issuing', policy)
  const attacker = caOf('CN=Attacker', theirs)
  const labels = new Map([['ours', certificatesOf([ours])], ['theirs', certificatesOf([theirs])]])
  const store = new TrustStore({ cas: [...labels.values()].flat(), labels, crls: [], isRevocationChecked: false, unknown: 'refuse' })
  const judge = (leaf: Made, ...others: Made[]): string | undefined => store.judge(leaf.certificate, certificatesOf(others), Date.now()).error
  const imitate = (count: number): void => {
    for (let index = 0; index < count; index++) {
      const lookAlike = caOf('CN=Issuing', attacker, { subjectKey: extension('2.5.29.14', der(tags.octetString, issuing.keyId)) })
      t.equal(judge(make({ issuer: lookAlike, extensions: { authorityKey: undefined } }), lookAlike, attacker), undefined)
    }
  }
  imitate(250)
  const client = make({ issuer: issuing })
  t.equal(judge(client, issuing, policy), undefined)
  // What is known has changed, so that labels are looked for again.
  imitate(1)
  // As in a resumed session, which brings no intermediates.
  t.equal(judge(client), undefined)
  t.strictSame([...store.labelsOf(client.certificate, [], Date.now())], ['ours'])
  const { epoch } = store
  store.update({ ...store.content, labels: new Map([['renamed', certificatesOf([ours])], ['theirs', certificatesOf([theirs])]]) })
  t.ok(store.epoch > epoch)
  t.equal(judge(client, issuing, policy), undefined)
  t.strictSame([...store.labelsOf(client.certificate, [], Date.now())], ['renamed'])
})

t.test('an error of verify that cannot be logged refuses the request, and ends no process', async (t) => {
  const unreadable = new Proxy({}, { get () { throw new Error('not to be read') } })
  const { app } = await ruled(t)
  app.get('/', { httpSecurity: { level: 'mtls', verify: async () => { throw unreadable } } }, async () => 'hello')
  app.get('/at-once', { httpSecurity: { level: 'mtls', verify: () => { throw unreadable } } }, async () => 'hello')
  for (const path of ['/', '/at-once']) t.equal(await answered(app, path, jane), '403 CERTIFICATE_NOT_ALLOWED', path)
})
