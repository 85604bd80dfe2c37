import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { promisify } from 'node:util'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { developmentCertificates, listen, type DevelopmentCertificates } from '../lib/tls/index.ts'
import { evict } from '../lib/tls/development/directory.ts'
import { parseHosts } from '../lib/tls/development/hosts.ts'
import { createAuthority } from '../lib/tls/development/issue.ts'
import { ExtendedKeyUsage } from '@peculiar/x509'
import { plainNode } from './fixtures/node.ts'

const run = promisify(execFile)
const has = (program: string, ...version: string[]): Promise<boolean> => run(program, version).then(() => true, () => false)
const hasOpenssl = await has('openssl', 'version')
const hasCurl = await has('curl', '--version')
const hasIPv6 = Object.values(networkInterfaces()).flat().some((address) => address?.address === '::1')

const DAY = 24 * 60 * 60 * 1000
const FILES = ['ca.pem', 'client.key', 'client.p12', 'client.pem', 'server.key', 'server.pem']
const development = { code: 'FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES' }
const certificatesIn = (t: Test, hosts?: string[]): Promise<DevelopmentCertificates> =>
  developmentCertificates({ hosts, dir: join(t.testdir(), '.certs') })

const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(FILES.map((name) => [name, readFileSync(join(dir, name), 'latin1') + lstatSync(join(dir, name)).mtimeMs]))

/** What a client that trusts `ca` sees of a server that asks for client certificates. */
async function handshake (t: Test, { https: pems }: DevelopmentCertificates, options: tls.ConnectionOptions): Promise<string> {
  const server = tls.createServer({ ...pems, requestCert: true }, (socket) => {
    socket.end(socket.getPeerX509Certificate()?.subject ?? 'nobody')
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as net.AddressInfo
  const socket = tls.connect({ host: '127.0.0.1', port, ca: pems.ca, ...options })
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

/** Asks OpenSSL: the `tls.checkServerIdentity` of Node 22.23 fails for every IPv6 address. */
const isFor = (host: string) => (_: string, { raw }: tls.PeerCertificate): Error | undefined => {
  const certificate = new X509Certificate(raw)
  const found = net.isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)
  return found === undefined ? new Error(`not for ${host}`) : undefined
}

t.test('a client that trusts the authority is at home by every name, and shows its own certificate', async (t) => {
  const certificates = await certificatesIn(t)
  const { client } = certificates
  t.match(await handshake(t, certificates, { servername: 'localhost', cert: client.cert, key: client.key }), 'CN=development client')
  t.match(await handshake(t, certificates, { pfx: client.p12, passphrase: client.password }), 'CN=development client')
  t.match(await handshake(t, certificates, {
    cert: client.cert,
    key: client.key,
    checkServerIdentity: isFor('::1')
  }), 'CN=development client')
  await t.rejects(handshake(t, certificates, { cert: client.cert, key: client.key, servername: 'other.test' }),
    { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  const stranger = await developmentCertificates({ dir: join(t.testdirName, 'stranger') })
  const unknown = handshake(t, certificates, { cert: stranger.client.cert, key: stranger.client.key })
  t.equal(await unknown.catch(() => ''), '', 'a client of another authority is not let in')
})

t.test('they lie in .certs under the working directory, private and out of git', async (t) => {
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  process.chdir(t.testdir())
  const umask = process.umask(0)
  t.teardown(() => process.umask(umask))

  const certificates = await developmentCertificates()
  const dir = join(process.cwd(), '.certs')
  t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES])
  t.equal(readFileSync(join(dir, '.gitignore'), 'utf8'), '*\n')
  const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8)
  t.equal(mode(dir), '700')
  for (const name of FILES) t.equal(mode(join(dir, name)), name.endsWith('.pem') ? '644' : '600', name)

  t.match(certificates, { dir, created: true, hosts: ['localhost', '127.0.0.1', '::1'], files: { clientP12: join(dir, 'client.p12') } })
  t.equal(certificates.https.key, readFileSync(certificates.files.serverKey, 'utf8'))
  t.equal(certificates.client.cert, readFileSync(certificates.files.clientCert, 'utf8'))
  for (const part of [certificates, certificates.hosts, certificates.files, certificates.https, certificates.client]) {
    t.ok(Object.isFrozen(part))
  }
})

t.test('they say how to be trusted', async (t) => {
  const { trust, files, https: { ca } } = await developmentCertificates({ dir: join(t.testdir(), "Joe's certs") })
  t.match(trust, `NODE_EXTRA_CA_CERTS='${files.ca.replace("'", "'\\''")}'`)
  t.match(trust, `--cert '${files.clientCert.replace("'", "'\\''")}'`)
  const names = /"(Development CA [0-9a-f]{8})"/.exec(trust)
  t.match(ca, 'BEGIN CERTIFICATE')
  t.match(trust, `-n '${names?.[1]}' -i`)
  t.match(trust, 'password: development')
})

t.test('nothing is overwritten while it is valid', async (t) => {
  const first = await certificatesIn(t)
  const before = contents(first.dir)
  writeFileSync(join(first.dir, '.gitignore'), '*\n!ca.pem\n')
  chmodSync(first.dir, 0o755)

  const second = await developmentCertificates({ dir: first.dir })
  t.strictSame({ ...second, created: true }, first)
  t.equal(second.created, false)
  t.equal((await developmentCertificates({ dir: first.dir, hosts: ['LOCALHOST'] })).created, false, 'one of the hosts')
  t.strictSame(contents(first.dir), before)
  t.equal(lstatSync(first.dir).mode & 0o777, 0o700, 'closed again')

  rmSync(first.files.ca)
  t.equal((await developmentCertificates({ dir: first.dir })).created, true)
  t.equal(readFileSync(join(first.dir, '.gitignore'), 'utf8'), '*\n!ca.pem\n', 'the .gitignore is theirs now')
})

t.test('all are made anew when anything is missing or bad', async (t) => {
  const other = await developmentCertificates({ dir: join(t.testdir(), 'other') })
  const bad: Record<string, (files: DevelopmentCertificates['files']) => unknown> = {
    'a file is missing': (files) => rmSync(files.clientP12),
    'a file is empty': (files) => writeFileSync(files.serverCert, ''),
    'a key does not parse': (files) => writeFileSync(files.clientKey, 'key'),
    'the server has the key of another': (files) => writeFileSync(files.serverKey, other.https.key),
    'the client has the key of another': (files) => writeFileSync(files.clientKey, other.client.key),
    'the authority is another': (files) => writeFileSync(files.ca, other.https.ca),
    'the authority is no authority': (files) => writeFileSync(files.ca, readFileSync(files.serverCert)),
    'the client is of another authority': (files) => {
      writeFileSync(files.clientCert, other.client.cert)
      writeFileSync(files.clientKey, other.client.key)
      writeFileSync(files.clientP12, other.client.p12)
    },
    'client.p12 is of another': (files) => writeFileSync(files.clientP12, other.client.p12),
    'client.p12 does not open': (files) => writeFileSync(files.clientP12, readFileSync(files.clientP12).subarray(0, -1))
  }
  const dir = join(t.testdirName, '.certs')
  let last = await developmentCertificates({ dir })
  for (const [what, spoil] of Object.entries(bad)) {
    spoil(last.files)
    const next = await developmentCertificates({ dir })
    t.equal(next.created, true, what)
    t.not(next.https.ca, last.https.ca)
    t.equal((await developmentCertificates({ dir })).created, false, 'and then they are good')
    last = next
  }
  const wider = await developmentCertificates({ dir, hosts: ['localhost', 'shop.test'] })
  t.equal(wider.created, true, 'a host is not covered')

  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 80 * DAY
  t.equal((await developmentCertificates({ dir, hosts: ['shop.test'] })).created, false, 'ten days left')
  Date.now = () => now() + 84 * DAY
  t.equal((await developmentCertificates({ dir, hosts: ['shop.test'] })).created, true, 'six days left')
  Date.now = () => now() - 2 * DAY
  t.equal((await developmentCertificates({ dir, hosts: ['shop.test'] })).created, true, 'from the future')
})

t.test('in production there are none', async (t) => {
  const { NODE_ENV } = process.env
  t.teardown(() => { NODE_ENV === undefined ? delete process.env.NODE_ENV : process.env.NODE_ENV = NODE_ENV })
  process.env.NODE_ENV = 'production'
  const dir = join(t.testdir(), '.certs')
  await t.rejects(developmentCertificates({ dir }), { ...development, message: /NODE_ENV is production/ })
  t.notOk(existsSync(dir))
})

t.test('keys are not written where somebody else decided', async (t) => {
  const root = t.testdir({ elsewhere: {}, file: '' })
  const refuses = async (t: Test, dir: string, message: RegExp): Promise<void> => {
    await t.rejects(developmentCertificates({ dir }), { ...development, message })
  }
  for (const target of ['elsewhere', 'nowhere']) {
    symlinkSync(join(root, target), join(root, `to-${target}`))
    await refuses(t, join(root, `to-${target}`), /is a symbolic link/)
    await refuses(t, join(root, `to-${target}/`), /is a symbolic link/)
  }
  await refuses(t, join(root, 'file'), /is not a directory/)
  t.strictSame(readdirSync(join(root, 'elsewhere')), [])

  await t.rejects(developmentCertificates({ dir: join(root, 'file', '.certs') }), { ...development, cause: { code: 'EEXIST' } })
  mkdirSync(join(root, 'taken', 'server.key'), { recursive: true })
  await t.rejects(developmentCertificates({ dir: join(root, 'taken') }), { ...development, cause: { code: 'EISDIR' } })
  t.notOk(existsSync(join(root, 'taken', '.new')), 'what was begun is removed')

  mkdirSync(join(root, 'theirs'))
  const { getuid } = process
  t.teardown(() => { process.getuid = getuid })
  process.getuid = () => lstatSync(root).uid + 1
  await refuses(t, join(root, 'theirs'), /belongs to another user/)
  t.strictSame(readdirSync(join(root, 'theirs')), [])
})

t.test('processes that start together agree', async (t) => {
  const dir = join(t.testdir(), '.certs')
  const script = `const { developmentCertificates } = await import('./lib/tls/development/certificates.ts')
    console.log(JSON.stringify(await developmentCertificates({ dir: process.argv[1] })))`
  const start = async (): Promise<DevelopmentCertificates> =>
    JSON.parse((await run('env', [...plainNode, '--import', 'tsx', '--input-type=module', '--eval', script, dir])).stdout)

  for (const what of ['at first', 'when they are bad']) {
    const all = await Promise.all([start(), start(), start(), developmentCertificates({ dir }), developmentCertificates({ dir })])
    t.equal(all.filter(({ created }) => created).length, 1, what)
    const unlike = (certificates: DevelopmentCertificates): unknown => [certificates.https, certificates.client.cert]
    for (const each of all) t.strictSame(unlike(each), unlike(all[0]))
    t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES])
    rmSync(all[0].files.serverKey)
  }
})

t.test('a process waits for another that is writing, but not for a dead one', async (t) => {
  const dir = join(t.testdir({ '.certs': { '.new': {} } }), '.certs')
  const waiting = developmentCertificates({ dir })
  const release = setTimeout(() => rmdirSync(join(dir, '.new')), 500)
  t.teardown(() => clearTimeout(release))
  const began = Date.now()
  t.equal((await waiting).created, true)
  t.ok(Date.now() - began > 300, 'waited')

  mkdirSync(join(dir, '.new'))
  writeFileSync(join(dir, '.new', 'server.key'), '')
  utimesSync(join(dir, '.new'), new Date(), new Date(Date.now() - 60_000))
  rmSync(join(dir, 'ca.pem'))
  t.equal((await developmentCertificates({ dir })).created, true)
  t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES])
})

t.test('hosts may be names, wildcards and addresses, and nothing else', async (t) => {
  const dir = t.testdir()
  const long = Array.from({ length: 40 }, (_, number) => `host-${number}.example.test`)
  for (const [hosts, good, wrong] of [
    [['*.Shop.test'], 'a.shop.test', 'shop.test'],
    [['::FFFF:127.0.0.1'], '::ffff:7f00:1', '127.0.0.1'],
    [long, 'host-39.example.test', 'host-40.example.test']
  ] as const) {
    const certificates = await developmentCertificates({ hosts, dir: join(dir, hosts[0].replaceAll(/\W/g, '-')) })
    const { cert, key } = certificates.client
    const check = (host: string) => handshake(t, certificates, {
      cert, key, checkServerIdentity: isFor(host)
    })
    t.match(await check(good), 'CN=development client')
    await t.rejects(check(wrong), { message: `not for ${wrong}` })
  }
  for (const host of ['', 'a b', '[::1]', 'fe80::1%eth0', 'http://a.test', 'a.test:8443', 'shop.test.', '*', 'a.*.test', '256.0.0.1', 'münchen.test', 'a,b', '-a.test']) {
    await t.rejects(developmentCertificates({ hosts: [host], dir }), development, host)
  }
  await t.rejects(developmentCertificates({ hosts: [], dir }), development)
})

t.test('OpenSSL agrees, strictly, and the authority can vouch for no other host', { skip: !hasOpenssl && 'no openssl' }, async (t) => {
  const dir = t.testdir()
  const verify = (purpose: string, ca: string, cert: string): Promise<string> =>
    run('openssl', ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', ca, cert])
      .then(({ stdout }) => stdout, ({ stderr }) => stderr)

  for (const hosts of [['localhost', '127.0.0.1', '::1'], ['*.shop.test'], ['127.0.0.1']]) {
    const { files } = await developmentCertificates({ hosts, dir: join(dir, String(hosts.length) + hosts[0].length) })
    t.match(await verify('sslserver', files.ca, files.serverCert), /: OK$/m)
    t.match(await verify('sslclient', files.ca, files.clientCert), /: OK$/m)
    t.match(await verify('sslclient', files.ca, files.serverCert), /unsuitable certificate purpose/)
    t.match(await verify('sslserver', files.ca, files.clientCert), /unsuitable certificate purpose/)
    t.match((await run('openssl', ['pkcs12', '-in', files.clientP12, '-passin', 'pass:development', '-nodes'])).stdout, 'PRIVATE KEY')

    // The authority's own key is gone: another one, made in the same way
    const authority = await createAuthority(parseHosts(hosts))
    writeFileSync(join(dir, 'ca.pem'), authority.cert)
    for (const other of ['evil.test', 'localhost.evil.test', '10.0.0.1', '::2']) {
      writeFileSync(join(dir, 'other.pem'), (await authority.issue('server', ExtendedKeyUsage.serverAuth, parseHosts([other]))).cert)
      t.match(await verify('sslserver', join(dir, 'ca.pem'), join(dir, 'other.pem')), /(permitted|excluded) subtree violation/, other)
    }
  }
})

/** An app that tells what it saw, on both ports. */
async function appWith (t: Test, options: { certificates?: DevelopmentCertificates, fastify?: object, https?: object } = {}) {
  const certificates = options.certificates ?? await certificatesIn(t)
  const app = Fastify({ ...options.fastify, https: { ...certificates.https, ...options.https } })
  t.teardown(() => app.close())
  app.get('/', async (request) => ({ protocol: request.protocol, local: request.socket.localAddress }))
  app.get('/slow', async () => {
    await new Promise((resolve) => { setTimeout(resolve, 500) })
    return 'slow'
  })
  app.get('/stuck', (_, reply) => { reply.raw.write('…') })
  const get = (port: number | undefined, path = '/', init: https.RequestOptions = {}): Promise<Answer> =>
    answer((init.protocol === 'https:' ? https : http).get({ host: '127.0.0.1', port, path, ca: certificates.https.ca, agent: false, ...init }))
  return { app, certificates, get }
}

interface Answer { status?: number, headers: http.IncomingHttpHeaders, body: string }

async function answer (request: http.ClientRequest): Promise<Answer> {
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode, headers: response.headers, body }
}

const refuses = (port: number, host = '127.0.0.1'): Promise<boolean> => new Promise((resolve) => {
  const socket = net.connect(port, host, () => { socket.destroy(); resolve(false) })
  socket.on('error', () => resolve(true))
})

t.test('one app answers on both ports', async (t) => {
  const { app, get } = await appWith(t)
  const addresses = await listen(app, { http: 0, https: 0 })
  t.match(addresses, { http: { address: '127.0.0.1', port: Number }, https: { address: '127.0.0.1', port: Number } })
  t.ok(Object.isFrozen(addresses) && Object.isFrozen(addresses.http) && Object.isFrozen(addresses.https))
  t.strictSame(JSON.parse((await get(addresses.http?.port)).body), { protocol: 'http', local: '127.0.0.1' })
  t.strictSame(JSON.parse((await get(addresses.https.port, '/', { protocol: 'https:' })).body), { protocol: 'https', local: '127.0.0.1' })
  t.equal((await get(addresses.http?.port, '/nothing')).status, 404)
  await app.close()
  t.ok(await refuses(Number(addresses.http?.port)))
  t.ok(await refuses(addresses.https.port))
})

t.test('the p12 file is good for curl', { skip: !hasCurl && 'no curl' }, async (t) => {
  const { app, certificates: { files } } = await appWith(t, { https: { requestCert: true } })
  const { https: secure } = await listen(app, { https: 0 })
  const { stdout } = await run('curl', ['--silent', '--show-error', '--noproxy', '*', '--cacert', files.ca,
    '--cert-type', 'P12', '--cert', `${files.clientP12}:development`, `https://127.0.0.1:${secure.port}/`])
  t.match(stdout, 'https')
})

t.test('one app may be ready already, or have no plain port', async (t) => {
  const { app, get } = await appWith(t)
  await app.ready()
  const addresses = await listen(app, { http: 0, https: 0 })
  t.equal((await get(addresses.http?.port)).status, 200)
  await app.close()
  t.ok(await refuses(Number(addresses.http?.port)))

  const { app: alone } = await appWith(t)
  t.strictSame(Object.keys(await listen(alone, { https: 0 })), ['https'])
})

t.test('an app for HTTP/2 answers on both ports too', async (t) => {
  const certificates = await certificatesIn(t)
  const app = Fastify({ http2: true, https: { ...certificates.https, allowHTTP1: true } })
  t.teardown(() => app.close())
  app.get('/', async (request) => `${request.protocol} ${request.raw.httpVersion}`)
  const addresses = await listen(app, { http: 0, https: 0 })
  const { body } = await answer(http.get({ host: '127.0.0.1', port: addresses.http?.port, agent: false }))
  t.equal(body, 'http 1.1')
  const session = http2.connect(`https://127.0.0.1:${addresses.https.port}`, { ca: certificates.https.ca })
  let text = ''
  for await (const chunk of session.request({ ':path': '/' })) text += String(chunk)
  t.equal(text, 'https 2.0')
  session.close()
})

t.test('WebSockets work on both ports', async (t) => {
  const { app, certificates, get } = await appWith(t)
  await app.register(websocket)
  app.get('/echo', { websocket: true }, (socket, request) => {
    socket.on('message', (message) => { socket.send(`${request.protocol}: ${String(message)}`) })
  })
  const { http: plain, https: secure } = await listen(app, { http: 0, https: 0 })
  const sockets = [`ws://127.0.0.1:${plain?.port}/echo`, `wss://127.0.0.1:${secure.port}/echo`]
    .map((url) => new WebSocket(url, { ca: certificates.https.ca }))
  for (const [index, protocol] of ['http', 'https'].entries()) {
    const socket = sockets[index]
    await once(socket, 'open')
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), `${protocol}: hello`)
  }
  t.equal((await get(plain?.port)).status, 200, 'and plain requests go on')

  // As when the app closes: the plugin is gone, but somebody still asks
  app.server.removeAllListeners('upgrade')
  await t.rejects(once(new WebSocket(`ws://127.0.0.1:${plain?.port}/echo`), 'open'), { code: 'ECONNRESET' })

  const closed = sockets.map((socket) => once(socket, 'close'))
  await app.close()
  await Promise.all(closed)
})

t.test('without WebSockets, a request that asks for an upgrade is served as it is', async (t) => {
  const { app, get } = await appWith(t)
  const { http: plain, https: secure } = await listen(app, { http: 0, https: 0 })
  const headers = { connection: 'upgrade', upgrade: 'websocket' }
  t.equal((await get(plain?.port, '/', { headers })).status, 200)
  t.equal((await get(secure.port, '/', { headers, protocol: 'https:' })).status, 200)
})

t.test('a malformed request is answered alike', async (t) => {
  const { app, certificates } = await appWith(t)
  const { http: plain, https: secure } = await listen(app, { http: 0, https: 0 })
  const answers = []
  for (const socket of [
    net.connect(Number(plain?.port), '127.0.0.1'),
    tls.connect({ host: '127.0.0.1', port: secure.port, ca: certificates.https.ca })
  ]) {
    socket.write('GET / HTTP/1.1\r\nno colon\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += String(chunk)
    answers.push(text)
  }
  t.match(answers[0], /^HTTP\/1.1 400 Bad Request\r\n[^]*Client Error/)
  t.equal(answers[0], answers[1])
})

t.test('limits and timeouts are the same', async (t) => {
  const { app, get } = await appWith(t, {
    fastify: { keepAliveTimeout: 9_000, maxRequestsPerSocket: 2 }, https: { maxHeaderSize: 32_768, requireHostHeader: false }
  })
  const { http: plain, https: secure } = await listen(app, { http: 0, https: 0 })
  for (const [port, protocol, Agent] of [[plain?.port, 'http:', http.Agent], [secure.port, 'https:', https.Agent]] as const) {
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const init = { protocol, agent, headers: { long: 'x'.repeat(20_000) } }
    t.match(await get(port, '/', init), { status: 200, headers: { 'keep-alive': 'timeout=9, max=2', connection: 'keep-alive' } })
    t.match(await get(port, '/', init), { status: 200, headers: { connection: 'close' } })
    t.equal((await get(port, '/', { protocol, headers: { long: 'x'.repeat(40_000) } })).status, 431)
    t.equal((await get(port, '/', { protocol, setHost: false })).status, 200)
  }
})

t.test('idle connections do not keep the app from closing, on either port', async (t) => {
  const { app, get } = await appWith(t)
  const { http: plain, https: secure } = await listen(app, { http: 0, https: 0 })
  const agents = [new http.Agent({ keepAlive: true }), new https.Agent({ keepAlive: true })] as const
  t.teardown(() => { for (const agent of agents) agent.destroy() })
  await get(plain?.port, '/', { agent: agents[0] })
  await get(secure.port, '/', { agent: agents[1], protocol: 'https:' })
  const began = Date.now()
  await app.close()
  t.ok(Date.now() - began < 2_000)
})

t.test('a request that is under way is answered before the app closes, and its connection is not waited for', async (t) => {
  const { app, get } = await appWith(t)
  const order: string[] = []
  app.addHook('onResponse', async () => { order.push('answered') })
  app.addHook('onClose', async () => { order.push('released') })
  const { http: plain } = await listen(app, { http: 0, https: 0 })
  const agent = new http.Agent({ keepAlive: true })
  t.teardown(() => agent.destroy())
  const slow = get(plain?.port, '/slow', { agent })
  await new Promise((resolve) => { setTimeout(resolve, 100) })
  const began = Date.now()
  const closing = app.close()
  await new Promise((resolve) => { setTimeout(resolve, 100) })
  t.ok(await refuses(Number(plain?.port)), 'no new ones')
  t.equal((await slow).body, 'slow')
  await closing
  t.strictSame(order, ['answered', 'released'], 'what the request needs is released after it')
  t.ok(Date.now() - began < 2_000)
})

t.test('what never ends is ended after a while', async (t) => {
  const { app } = await appWith(t)
  // Somebody's own protocol, which does not know of closing
  app.server.on('upgrade', (_, socket) => { socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n') })
  const { http: plain } = await listen(app, { http: 0, https: 0 })
  const stuck = http.get({ host: '127.0.0.1', port: plain?.port, path: '/stuck', agent: false })
  stuck.on('error', () => {})
  const [response] = await once(stuck, 'response') as [http.IncomingMessage]
  const silent = net.connect(Number(plain?.port), '127.0.0.1')
  const upgraded = net.connect(Number(plain?.port), '127.0.0.1')
  upgraded.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: own\r\n\r\n')
  await once(upgraded, 'data')
  const ended = [response, silent, upgraded].map((stream) => new Promise((resolve) => {
    stream.on('error', resolve).on('close', resolve).resume()
  }))
  const began = Date.now()
  await app.close()
  t.ok(Date.now() - began > 4_000 && Date.now() - began < 9_000, '5 seconds')
  await Promise.all(ended)
})

t.test('a port that is taken leaves nothing open, and a free one can be tried after it', async (t) => {
  const { app, get } = await appWith(t)
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as net.AddressInfo
  await app.ready()
  const { close } = app.server
  // Free a moment ago
  const spare = net.createServer().listen(0, '127.0.0.1')
  await once(spare, 'listening')
  const { port: free } = spare.address() as net.AddressInfo
  await promisify(spare.close.bind(spare))()

  await t.rejects(listen(app, { http: port, https: free }), { code: 'EADDRINUSE', port })
  t.ok(await refuses(free))
  await t.rejects(listen(app, { http: free, https: port }), { code: 'EADDRINUSE', port })
  t.ok(await refuses(free))
  t.equal(app.server.listening, false)
  t.equal(app.server.close, close, 'the app is as it was')
  await t.rejects(listen(app, { http: 70_000, https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' })

  const addresses = await listen(app, { http: 0, https: 0 })
  t.equal((await get(addresses.http?.port)).status, 200)
  await t.rejects(listen(app, { http: free, https: 0 }), { code: 'FST_ERR_REOPENED_SERVER' }, 'twice')
  t.ok(await refuses(free))
  await app.close()
  t.ok(await refuses(Number(addresses.http?.port)), 'the first one still closes with the app')
})

t.test('a name is one address, for both ports', async (t) => {
  const { app } = await appWith(t)
  const addresses = await listen(app, { http: 0, https: 0, host: 'localhost' })
  t.equal(addresses.http?.address, addresses.https.address)
  t.equal(app.addresses().length, 1, 'no hidden second server')
  await t.rejects(listen(app, { https: 0, host: 'no-such-host.invalid' }), { code: /ENOTFOUND|EAI_AGAIN/ })
  await t.rejects(listen(app, { https: 0, host: '' }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /host is empty/ })
})

t.test('an app without TLS is refused, not served in plain text', async (t) => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  await t.rejects(listen(app, { https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /no TLS/ })
  t.equal(app.server.listening, false)
})

t.test('the addresses are logged, ready to be followed', async (t) => {
  for (const [host, url] of [['127.0.0.1', 'http://127.0.0.1'], ...(hasIPv6 ? [['::1', 'http://[::1]']] : [])]) {
    const lines: string[] = []
    const stream = { write: (line: string) => { lines.push(JSON.parse(line).msg) } }
    const { app } = await appWith(t, { fastify: { logger: { stream } } })
    const addresses = await listen(app, { http: 0, https: 0, host })
    t.ok(lines.includes(`Server listening at ${url}:${addresses.http?.port}`))
  }
})

t.test('options that are none are told', async (t) => {
  await t.rejects(developmentCertificates({ directory: t.testdir() } as object), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /unknown option 'directory'; known are hosts, dir/ })
  const app = Fastify({ https: {} })
  t.teardown(() => app.close())
  for (const options of [{ port: 0 }, { http: 0 }, { https: '0' }, { https: -1 }, { https: 0, http: 65_536 }, { https: 1.5 }]) {
    await t.rejects(listen(app, options as never), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /is no port/ }, JSON.stringify(options))
  }
})

t.test('a claim that is given back while another process looks at it is none', async (t) => {
  await t.resolves(evict(join(t.testdir({ file: '' }), '.new')))
  await t.rejects(evict(join(t.testdirName, 'file', '.new')), { code: 'ENOTDIR' }, 'whatever else is wrong is said')
})
