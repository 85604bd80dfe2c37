import t, { type Test } from 'tap'
import { once } from 'node:events'
import type http from 'node:http'
import http2 from 'node:http2'
import type https from 'node:https'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { WebSocket } from 'ws'
import httpSecurity, { type ClientsDocument, type HttpSecurityOptions } from '../../lib/index.ts'
import { enableTls } from '../../lib/tls/index.ts'
import { type Answer, ask, askHttp2 } from '../fixtures/ask.ts'
import { capture, forgeHeaders, type Seen } from '../fixtures/forgeries.ts'
import { portOf } from '../fixtures/network.ts'
import { authority, issue, revocationList, selfSigned, type Identity } from '../fixtures/pki.ts'
import { oid, seq, text } from '../fixtures/chains.ts'
import { believed, type Proxy, type ProxyKind, type ProxyOptions, proxyFile, proxyKinds, startProxy, underscored, withoutProxy } from '../fixtures/proxies.ts'
import { askingServer, keepLog, listenOnFreePort, type LogLine, makePki } from '../fixtures/serve.ts'
import { until } from '../fixtures/time.ts'
import { connectWire, echoed, openSocket } from '../fixtures/wire.ts'
import { der, tags } from '../fixtures/x509.ts'

const base = await makePki()
const revoked = await issue(base.ca, { subject: 'CN=Revoked' })
const pki = { ...base, crl: await revocationList(base.ca, [revoked]) }

/** Those who come: with what they present. */
const clients: Record<string, Identity | undefined> = {
  anonymous: undefined,
  valid: pki.client,
  'self-signed': await selfSigned(),
  expired: await issue(pki.ca, { days: [-3, -1] }),
  revoked,
  'for servers': await issue(pki.ca, { purpose: 'server' }),
  'of another authority': await issue(await authority('Another CA'))
}

const start = (t: Test, kind: ProxyKind, upstream: number, options: Partial<ProxyOptions> = {}): Promise<Proxy> => startProxy(t, kind, { upstream, pki, ...options })
const identify = (identity: Identity | undefined) => ({ ca: pki.ca.cert, servername: 'localhost', ...identity && { cert: identity.cert, key: identity.key } })

// What each sends

type Sent = Record<string, string> | 'a 400 of its own' | 'no connection'
const base64 = ({ cert }: Identity): string => cert.replaceAll(/-----[A-Z ]+-----|\n/g, '')
const jane = pki.client

const sends: Record<ProxyKind, Record<string, Sent>> = {
  nginx: {
    anonymous: { 'x-ssl-client-verify': 'NONE' },
    valid: { 'x-ssl-client-cert': encodeURIComponent(jane.cert), 'x-ssl-client-verify': 'SUCCESS' },
    'self-signed': 'a 400 of its own',
    expired: 'a 400 of its own',
    revoked: 'a 400 of its own',
    'for servers': 'a 400 of its own',
    'of another authority': 'a 400 of its own'
  },
  haproxy: {
    anonymous: {},
    valid: { 'client-cert': `:${base64(jane)}:`, 'x-ssl-client-verify': '0' },
    'self-signed': 'no connection',
    expired: 'no connection',
    revoked: 'no connection',
    'for servers': 'no connection',
    'of another authority': 'no connection'
  },
  apache: {
    anonymous: { 'x-ssl-client-verify': 'NONE' },
    valid: { 'x-ssl-client-cert': jane.cert.replaceAll('\n', ' ').trim(), 'x-ssl-client-verify': 'SUCCESS' },
    'self-signed': 'no connection',
    expired: 'no connection',
    revoked: 'no connection',
    'for servers': 'no connection',
    'of another authority': 'no connection'
  },
  caddy: {
    anonymous: {},
    valid: { 'x-ssl-client-cert': base64(jane) },
    'self-signed': 'no connection',
    expired: 'no connection',
    // It reads no lists: this is for the app to find out
    revoked: { 'x-ssl-client-cert': base64(revoked) },
    'for servers': 'no connection',
    'of another authority': 'no connection'
  }
}

for (const kind of proxyKinds) {
  t.test(`${kind} sends the app the certificate headers of each client`, { skip: withoutProxy(kind) }, async (t) => {
    const { port, seen } = await capture(t)
    const proxy = await start(t, kind, port)
    for (const [who, identity] of Object.entries(clients)) {
      seen.length = 0
      const wire = await connectWire(t, { port: proxy.https, ...identify(identity) })
      const answer = await wire.get('/a%2Fb//c;d?e=%20f')
      wire.socket.destroy()
      const [request] = seen
      if (request === undefined) {
        t.equal(answer === undefined ? 'no connection' : `a ${answer.status} of its own`, sends[kind][who], who)
        continue
      }
      t.equal(request.url, '/a%2Fb//c;d?e=%20f', 'the address as it was written')
      const sent = Object.fromEntries(request.headers.map(([name, value]) => [name.toLowerCase(), value]))
      const { 'x-forwarded-proto': protocol, 'x-forwarded-host': host, 'x-forwarded-for': address, ...rest } = sent
      t.same([protocol, host, address, rest.host], ['https', 'localhost', '127.0.0.1', 'localhost'], who)
      t.same(Object.fromEntries(Object.entries(rest).filter(([name]) => believed.includes(name))), sends[kind][who], who)
    }
  })
}

// What clients cannot send

const forge = (t: Test, { https }: Proxy, seen: Seen[], { identity, isQuick }: { identity?: Identity, isQuick?: boolean } = {}): Promise<string[]> => forgeHeaders(t, { port: https, ...identify(identity) }, seen, isQuick)

/** The lines that set or remove such a header, and those that need no line: what the proxy overwrites anyway, or sets after. */
const lines: Record<ProxyKind, { strip: RegExp, overwritten: readonly string[] }> = {
  nginx: { strip: /^ +proxy_set_header (?!Host|Upgrade|Connection).*\n/gm, overwritten: [] },
  haproxy: { strip: /^ +http-request del-header .*\n/gm, overwritten: ['x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-for'] },
  apache: { strip: /^RequestHeader unset .*\n/gm, overwritten: ['x-ssl-client-verify', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-for'] },
  caddy: { strip: /^\t+request_header -.*\n/gm, overwritten: ['x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-for'] }
}

for (const kind of proxyKinds) {
  t.test(`${kind} removes every header of a client that the app could believe`, { skip: withoutProxy(kind) }, async (t) => {
    const { port, seen } = await capture(t)
    const proxy = await start(t, kind, port)
    t.same(await forge(t, proxy, seen), [], 'of no client')
    t.same(await forge(t, proxy, seen, { identity: pki.client }), [], 'of a client with a certificate')
  })

  t.test(`${kind}: each line that removes a header is needed`, { skip: withoutProxy(kind) }, async (t) => {
    const { strip, overwritten } = lines[kind]
    const { port, seen } = await capture(t)
    const bare = await start(t, kind, port, { config: (text) => text.replaceAll(strip, '').replace('underscores_in_headers off', 'underscores_in_headers on') })
    const through = await forge(t, bare, seen, { isQuick: true })
    for (const spelling of ['in lower case', 'in Title-Case', 'IN CAPITALS', 'twice', 'over HTTP/2', 'over HTTP/2, twice']) {
      t.same(believed.filter((name) => !through.includes(`${name}, ${spelling}`)), overwritten, `without any, all of them arrive: ${spelling}`)
    }
    for (const spelling of ['with_underscores', 'With_Underscores', 'over HTTP/2, with_underscores']) {
      t.same(believed.filter((name) => !through.includes(`${name}, ${spelling}`)), [], `without any, all of them arrive: ${spelling}`)
    }
    // HAProxy's file has [-_] for -
    const plain = (line: string): string => line.toLowerCase().replaceAll('[-_]', '-')
    const names = [...proxyFile(kind).matchAll(strip)].map(([line]) => plain(line))
    t.same(believed.filter((name) => !names.some((line) => line.includes(name))), kind === 'caddy' ? overwritten : [], 'there is a line for each')

    const chain = await start(t, kind, port, { config: (text) => text.replaceAll(strip, (line) => plain(line).includes('client-cert-chain') ? '' : line) })
    t.same(new Set((await forge(t, chain, seen, { isQuick: true })).map((found) => found.split(', ')[0])), new Set(['client-cert-chain']), 'without one, one arrives')
  })
}

t.test('nginx: one proxy_set_header in a location makes the inherited list ineffective', { skip: withoutProxy('nginx') }, async (t) => {
  const { port, seen } = await capture(t)
  const proxy = await start(t, 'nginx', port, { config: (text) => text.replaceAll('proxy_pass', 'proxy_set_header X-Request-Id $request_id; proxy_pass') })
  const through = await forge(t, proxy, seen, { isQuick: true })
  t.same(believed.filter((name) => !through.includes(`${name}, in lower case`)), [])
})

t.test('nginx: of two lines for one header, an empty one takes away what a client writes, and leaves what the other says', { skip: withoutProxy('nginx') }, async (t) => {
  // As examples/proxies/ingress-nginx.yaml has it: its own lines come after those of the controller.
  const { port, seen } = await capture(t)
  const emptied = Object.keys(sends.nginx!.valid!).map((name) => `proxy_set_header ${name} "";\n`).join('')
  const proxy = await start(t, 'nginx', port, { config: instead('    # How the client came.\n', emptied) })
  for (const who of ['valid', 'anonymous']) {
    const wire = await connectWire(t, { port: proxy.https, ...identify(clients[who]) })
    t.equal((await wire.get('/'))?.body, 'seen')
    wire.socket.destroy()
    const headers = Object.fromEntries(seen.pop()!.headers.map(([name, value]) => [name.toLowerCase(), value]))
    for (const [name, value] of Object.entries(sends.nginx[who]!)) t.equal(headers[name], value, `${who}: ${name}`)
  }
  t.same(await forge(t, proxy, seen, { isQuick: true }), [])
  const alone = await start(t, 'nginx', port, { config: (text) => instead('    # How the client came.\n', emptied)(text.replaceAll(/^ +proxy_set_header X-SSL-.*\n/gm, '')) })
  t.same(await forge(t, alone, seen, { isQuick: true }), [])
})

// What becomes of a header that the proxy sets, when the client names it in Connection (RFC 9110 §7.6.1)

const keeps: Record<ProxyKind, readonly string[]> = {
  nginx: believed,
  haproxy: believed,
  apache: [],
  caddy: ['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto']
}

for (const kind of proxyKinds) {
  t.test(`${kind}: a header that the proxy sets and the client names in Connection arrives or is gone`, { skip: withoutProxy(kind) }, async (t) => {
    const { port, seen } = await capture(t)
    const proxy = await start(t, kind, port)
    const wire = await connectWire(t, { port: proxy.https, ...identify(pki.client) })
    const sent = async (lines: string): Promise<string[]> => {
      seen.length = 0
      t.equal((await wire.send(`GET / HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n`))?.body, 'seen')
      return seen[0]!.headers.map(([name]) => name.toLowerCase()).filter((name) => believed.includes(name)).sort()
    }
    const usual = await sent('')
    t.ok(usual.length >= 4)
    for (const name of usual) {
      t.same(await sent(`Connection: ${name}\r\n`), keeps[kind].includes(name) ? usual : usual.filter((other) => other !== name), name)
    }
    t.same(await sent(`Connection: ${usual.join(', ')}\r\n`), usual.filter((name) => keeps[kind].includes(name)))
  })
}

// What the app makes of it

type ProxySettings = NonNullable<HttpSecurityOptions['proxy']>

/** As examples/proxies/README.md says. */
const settings: Record<ProxyKind, ProxySettings> = {
  nginx: { trust: 'loopback', certificate: 'nginx' },
  haproxy: { trust: 'loopback', certificate: 'haproxy' },
  apache: { trust: 'loopback', certificate: 'apache' },
  caddy: { trust: 'loopback', certificate: 'caddy', ca: pki.ca.cert, crl: pki.crl }
}

interface Report { name: string, details: Record<string, unknown> }
const report = (request: FastifyRequest): Report => ({ name: request.clientCertificateValue('SubjectCN'), details: { ...request.clientCertificateGetDetails() } })

interface App { app: FastifyInstance, port: number, reached: string[], connections: () => number }

async function listen (t: Test, options: HttpSecurityOptions, https?: https.ServerOptions): Promise<App> {
  const reached: string[] = []
  const app = Fastify({ forceCloseConnections: true, ...https !== undefined && { https } } as object)
  t.teardown(() => app.close())
  await app.register(httpSecurity, options)
  await app.register(websocket)
  for (const level of ['none', 'tls', 'mtls'] as const) {
    app.get(`/${level}`, { httpSecurity: level }, async (request) => {
      reached.push(level)
      return report(request)
    })
  }
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'page')
  app.get('/live', { websocket: true, httpSecurity: 'mtls' }, (socket, request) => {
    reached.push('live')
    socket.on('message', (message) => socket.send(`${request.clientCertificateValue('SubjectCN')} says ${String(message)}`))
  })
  app.get('/stored', { httpSecurity: 'mtls' }, async (request, reply) => {
    reached.push('stored')
    reply.header('cache-control', 'public, max-age=60').header('x-accel-expires', '60')
    return report(request)
  })
  app.get('/public', { httpSecurity: 'tls' }, async (_request, reply) => {
    reached.push('public')
    reply.header('cache-control', 'public, max-age=60')
    return 'for everybody'
  })
  let connections = 0
  app.server.on('connection', () => { connections++ })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, reached, port: portOf(app), connections: () => connections }
}

interface Behind extends App {
  proxy: Proxy
  /** What a client is answered by the proxy; `undefined` where there is no connection. */
  come (path: string, identity?: Identity, headers?: http.OutgoingHttpHeaders): Promise<Answer | undefined>
}

async function behind (t: Test, kind: ProxyKind, { proxy: changes, https, ...options }: Partial<ProxyOptions> & { proxy?: ProxySettings, https?: https.ServerOptions } = {}): Promise<Behind> {
  const served = await listen(t, { proxy: changes ?? settings[kind] }, https)
  const proxy = await start(t, kind, served.port, options)
  return {
    ...served,
    proxy,
    come: (path, identity, headers) => ask({ port: proxy.https, path, headers: { host: 'localhost', ...headers }, tls: identify(identity) }).catch((error: NodeJS.ErrnoException) => {
      if (/^ERR_SSL|ECONNRESET|EPIPE/.test(error.code ?? '')) return undefined
      throw error
    })
  }
}

const readReport = (answer: Answer | undefined): Report => JSON.parse(answer!.body) as Report
const codeOf = (answer: Answer | undefined): string => answer === undefined ? 'no connection' : `${answer.status}${answer.status === 200 ? '' : ` ${/FST_HTTP_SECURITY_(\w+)/.exec(answer.body)?.[1] ?? 'of the proxy'}`}`
const isIn = (answer: Answer | undefined): boolean => answer?.status === 200

/** Each of them, on each route: no client gets in that should not, and what handlers are told is so. */
async function expectNoOtherClient (t: Test, { come, reached }: Behind, expected: Partial<Record<string, string>>): Promise<void> {
  for (const [who, identity] of Object.entries(clients)) {
    reached.length = 0
    const answer = await come('/mtls', identity)
    if (expected[who] !== undefined) t.equal(codeOf(answer), expected[who], who)
    t.same(reached, who === 'valid' ? ['mtls'] : [], `${who}: ${codeOf(answer)}`)
    for (const path of ['/tls', '/none']) {
      const answer = await come(path, identity)
      if (!isIn(answer)) continue
      const { name, details } = readReport(answer)
      t.same([details.isValid, name], who === 'valid' ? [true, 'Jane'] : [false, ''], `${who}, ${path}`)
      if (who === 'anonymous') t.equal(details.isPresent, false)
    }
  }
}

for (const kind of proxyKinds) {
  t.test(`${kind}: only a valid certificate is admitted, with the details of a direct connection`, { skip: withoutProxy(kind) }, async (t) => {
    const served = await behind(t, kind)
    const bad = { nginx: '400 of the proxy', haproxy: 'no connection', apache: 'no connection', caddy: 'no connection' }[kind]
    await expectNoOtherClient(t, served, {
      anonymous: '403 CERTIFICATE_REQUIRED',
      valid: '200',
      'self-signed': bad,
      expired: bad,
      'for servers': bad,
      revoked: kind === 'caddy' ? '403 CERTIFICATE_REVOKED' : bad
    })
    for (const path of ['/tls', '/none']) t.equal(codeOf(await served.come(path)), '200', 'who has none is welcome elsewhere')

    const direct = await listen(t, {}, askingServer(pki))
    const own = readReport(await ask({ port: direct.port, path: '/mtls', headers: { host: 'localhost' }, tls: identify(pki.client) }))
    t.equal(own.name, 'Jane')
    t.same(readReport(await served.come('/mtls', pki.client)), { name: 'Jane', details: { ...own.details, serverSubject: '', serverIssuer: '' } })

    const session = http2.connect(`https://localhost:${served.proxy.https}`, identify(pki.client)).on('error', () => {})
    t.teardown(() => session.destroy())
    t.equal(readReport(await askHttp2(session, { ':path': '/mtls', ':authority': 'localhost' })).name, 'Jane', 'over HTTP/2')
  })

  t.test(`${kind}: plain HTTP is insecure, whatever headers it has`, { skip: withoutProxy(kind) }, async (t) => {
    const { proxy, reached } = await behind(t, kind)
    for (const headers of [{}, forged(kind), { ...forged(kind), connection: 'x-forwarded-proto' }]) {
      const get = (path: string): Promise<Answer> => ask({ port: proxy.http, path, headers: { ...headers, host: 'localhost' } })
      const page = await get('/page?a=b')
      t.same([page.status, page.headers.location], [308, 'https://localhost/page?a=b'])
      t.equal(codeOf(await get('/tls')), '403 TLS_REQUIRED')
      t.equal(codeOf(await get('/mtls')), '403 TLS_REQUIRED')
      t.match(readReport(await get('/none')), { name: '', details: { isPresent: false, isValid: false } })
    }
    t.same(new Set(reached), new Set(['none']))
  })
}

// Another client's certificate, in every header, as the proxy would write it

const boss = await issue(pki.ca, { subject: 'CN=Boss' })
const spaced = ({ cert }: Identity): string => cert.replaceAll('\n', ' ').trim()

function forged (kind: ProxyKind): Record<string, string> {
  const escaped = encodeURIComponent(boss.cert)
  return {
    'client-cert': `:${base64(boss)}:`,
    'client-cert-chain': `:${base64(boss)}:`,
    'x-ssl-client-cert': { nginx: escaped, haproxy: escaped, apache: spaced(boss), caddy: base64(boss) }[kind],
    'x-ssl-client-verify': kind === 'haproxy' ? '0' : 'SUCCESS',
    'ssl-client-cert': escaped,
    'ssl-client-verify': 'SUCCESS',
    'x-forwarded-client-cert': `Cert="${escaped}"`,
    'x-forwarded-tls-client-cert': base64(boss),
    'x-amzn-mtls-clientcert': escaped,
    'x-amzn-mtls-clientcert-leaf': escaped,
    'x-arr-clientcert': base64(boss),
    'cf-client-cert-der-base64': base64(boss),
    'x-forwarded-proto': 'https'
  }
}

/** Whoever names headers in Connection: all of them, the verdict, or the certificate. Who does so harms only themselves. */
const named: Record<ProxyKind, [all: string, verdict: string, certificate: string]> = {
  // Says nothing of what the client names
  nginx: ['200', '200', '200'],
  // Passes Connection on: the app does not believe what is named there
  haproxy: ['403 TLS_REQUIRED', '403 CERTIFICATE_REQUIRED', '403 CERTIFICATE_REQUIRED'],
  // Drop the headers
  apache: ['403 TLS_REQUIRED', '400 BAD_REQUEST', '403 CERTIFICATE_REQUIRED'],
  caddy: ['403 CERTIFICATE_REQUIRED', '200', '403 CERTIFICATE_REQUIRED']
}

for (const kind of proxyKinds) {
  const headers = forged(kind)
  const names = Object.keys(headers)
  const mapNames = (map: (name: string) => string): http.OutgoingHttpHeaders => Object.fromEntries(Object.entries(headers).map(([name, value]) => [map(name), value]))
  const [all, verdict, certificate] = named[kind]
  /** What is sent, and what a client with a valid certificate is answered. */
  const attempts: Record<string, [headers: http.OutgoingHttpHeaders, answer: string]> = {
    'as the proxy writes them': [headers, '200'],
    'with underscores': [mapNames(underscored), '200'],
    twice: [Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value, value]])), '200'],
    'named in Connection': [{ ...headers, connection: names.join(', ') }, all],
    'the verdict named in Connection': [{ ...headers, connection: 'x-ssl-client-verify' }, verdict],
    'the certificate named in Connection': [{ ...headers, connection: 'x-ssl-client-cert, client-cert' }, certificate],
    'only named in Connection': [{ connection: names.join(', ') }, all]
  }

  t.test(`${kind}: forged headers of a client have no effect`, { skip: withoutProxy(kind) }, async (t) => {
    const { come, reached } = await behind(t, kind)
    for (const [how, [headers, expected]] of Object.entries(attempts)) {
      for (const [who, identity] of Object.entries(clients)) {
        reached.length = 0
        const answer = await come('/mtls', identity, headers)
        if (who !== 'valid') t.same(reached, [], `${who}, ${how}: ${codeOf(answer)}`)
        else t.same([codeOf(answer), isIn(answer) && readReport(answer).name], [expected, expected === '200' && 'Jane'], how)
      }
    }
  })

  t.test(`${kind}: forged headers of a client have an effect without the lines that remove them`, { skip: withoutProxy(kind) }, async (t) => {
    const { come } = await behind(t, kind, { config: (text) => text.replaceAll(lines[kind].strip, '').replaceAll(/^ +RequestHeader set X-SSL.*\n/gm, '').replaceAll('$scheme', 'https') })
    t.equal(readReport(await come('/mtls', undefined, headers)).name, 'Boss')
  })

  t.test(`${kind}: a resumed session has the certificate of its client`, { skip: withoutProxy(kind) }, async (t) => {
    const { proxy } = await behind(t, kind)
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
      for (const identity of [pki.client, undefined]) {
        const first = await connectWire(t, { port: proxy.https, ...identify(identity), maxVersion })
        const answers = [await first.get('/tls')]
        const session = await first.ticket
        first.socket.destroy()
        // Whatever is presented beside a session that is resumed does not count
        const second = await connectWire(t, { port: proxy.https, ...identify(identity === undefined ? pki.client : undefined), maxVersion, session })
        t.equal(second.socket.isSessionReused(), true, maxVersion)
        answers.push(await second.get('/tls'))
        second.socket.destroy()
        t.same(answers.map((answer) => readReport(answer).name), identity === undefined ? ['', ''] : ['Jane', 'Jane'], maxVersion)
      }
    }
  })

  t.test(`${kind}: WebSockets reach the app with the certificate of their client`, { skip: withoutProxy(kind) }, async (t) => {
    const { proxy, reached } = await behind(t, kind)
    const open = (identity?: Identity): WebSocket => new WebSocket(`wss://localhost:${proxy.https}/live`, { headers: { host: 'localhost' }, ...identify(identity), lookup: (_host: string, _options: unknown, done: (error: null, addresses: unknown) => void) => done(null, [{ address: '127.0.0.1', family: 4 }]) } as object)
    const socket = open(pki.client)
    await once(socket, 'open')
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), 'Jane says hello')
    socket.terminate()
    const [, { statusCode }] = await once(open().on('error', () => {}), 'unexpected-response') as [unknown, { statusCode: number }]
    t.equal(statusCode, 403)
    t.same(reached, ['live'])
  })
}

// Configurations with a mistake in them, which the app makes up for

/** A replacement that has to happen. */
function instead (from: string | RegExp, to: string): (text: string) => string {
  return (text) => {
    const done = text.replace(from, to)
    if (done === text) throw new Error(`no ${String(from)}`)
    return done
  }
}

t.test('nginx: with optional_no_ca, untrusted certificates arrive, marked as FAILED', { skip: withoutProxy('nginx') }, async (t) => {
  const served = await behind(t, 'nginx', { config: instead('ssl_verify_client       optional;', 'ssl_verify_client optional_no_ca;') })
  await expectNoOtherClient(t, served, { anonymous: '403 CERTIFICATE_REQUIRED', valid: '200', expired: '400 of the proxy', 'of another authority': '403 CERTIFICATE_UNTRUSTED' })
  const { details } = readReport(await served.come('/tls', clients['of another authority']))
  t.same([details.isPresent, details.isValid], [true, false], 'they do arrive')
})

t.test('nginx: with error_page 495, invalid certificates arrive, marked as FAILED', { skip: withoutProxy('nginx') }, async (t) => {
  const served = await behind(t, 'nginx', { config: instead('ssl_verify_depth        2;', 'ssl_verify_depth 2; error_page 495 = @app; location @app { proxy_pass http://app; }') })
  await expectNoOtherClient(t, served, {
    anonymous: '403 CERTIFICATE_REQUIRED',
    valid: '200',
    // That an authority has no list comes before that it is no authority
    'self-signed': '403 REVOCATION_UNKNOWN',
    expired: '403 CERTIFICATE_EXPIRED',
    revoked: '403 CERTIFICATE_REVOKED',
    'for servers': '403 CERTIFICATE_INVALID',
    'of another authority': '403 CERTIFICATE_UNTRUSTED'
  })
})

t.test('nginx: the own certificate of a proxy is not taken for that of its clients', { skip: withoutProxy('nginx') }, async (t) => {
  const own = await issue(pki.ca, { subject: 'CN=Proxy' })
  const served = await behind(t, 'nginx', {
    https: askingServer(pki),
    files: { 'proxy.pem': own.cert, 'proxy.key': own.key },
    config: (text) => text.replaceAll('proxy_pass http://app;', 'proxy_pass https://app; proxy_ssl_certificate DIR/proxy.pem; proxy_ssl_certificate_key DIR/proxy.key;')
  })
  await expectNoOtherClient(t, served, { anonymous: '403 CERTIFICATE_REQUIRED', valid: '200' })
  const { status } = await ask({ port: served.port, path: '/mtls', headers: { 'x-forwarded-proto': 'https' }, tls: identify(own) })
  t.equal(status, 403, 'nor is it a client itself')
})

/** Each encrypts its connections to the app, and proves itself by `edge.pem` and `edge.key`. */
const proving: Partial<Record<ProxyKind, (text: string) => string>> = {
  nginx: (text) => text.replaceAll('proxy_pass http://app;', 'proxy_pass https://app; proxy_ssl_certificate DIR/edge.pem; proxy_ssl_certificate_key DIR/edge.key;'),
  haproxy: (text) => text.replace(/server +app +\S+/, '$& ssl verify none crt DIR/edge-and-key.pem')
}
for (const kind of Object.keys(proving) as ProxyKind[]) {
  t.test(`${kind} proves itself by its own certificate, until administrators take it out of the clients document`, { skip: withoutProxy(kind) }, async (t) => {
    const mesh = await authority('Mesh CA')
    const edge = await issue(mesh, { subject: 'CN=Edge', san: [{ type: 'dns', value: 'edge.example' }] })
    const withEdge: ClientsDocument = { clients: { edge: { certificates: [{ san: 'DNS:edge.example', issuedBy: 'mesh' }] }, jane: { certificates: [{ fingerprint256: pki.client.certificate.fingerprint256 }] } } }
    let document = withEdge
    let changed = (): void => {}
    const log: LogLine[] = []
    const tls = await enableTls({ certificates: { cert: pki.server.cert, key: pki.server.key }, clientCertificates: { ca: { mesh: mesh.cert } } })
    t.teardown(() => tls.close())
    const app = Fastify({ logger: keepLog(log), forceCloseConnections: true, https: tls.https } as never) as unknown as FastifyInstance
    await app.register(httpSecurity, {
      tls,
      clients: { load: async () => document, watch (listener) { changed = listener; return () => {} } },
      proxy: { trust: { client: 'edge', from: '127.0.0.1' }, certificate: kind as 'nginx' | 'haproxy' }
    })
    await app.register(websocket)
    for (const level of ['none', 'tls', 'mtls'] as const) {
      app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async ({ httpSecurity: { secure, client } }) => [secure, client?.name ?? null])
    }
    app.get('/live', { httpSecurity: { level: 'mtls', kind: 'rest' }, websocket: true } as object, ((socket: WebSocket) => { socket.on('message', (data) => { socket.send(String(data)) }) }) as never)
    const port = await listenOnFreePort(t, app)
    const proxy = await start(t, kind, port, { config: proving[kind]!, files: { 'edge.pem': edge.cert, 'edge.key': edge.key, 'edge-and-key.pem': edge.cert + edge.key } })
    const come = async (path: string, identity?: Identity): Promise<unknown> => {
      const { status, body } = await ask({ port: proxy.https, path, tls: identify(identity) })
      return status === 200 ? JSON.parse(body) : `${status} ${(JSON.parse(body) as { code: string }).code.replace('FST_HTTP_SECURITY_', '')}`
    }
    const all = async (): Promise<unknown[]> => [await come('/none', pki.client), await come('/tls', pki.client), await come('/mtls', pki.client), await come('/none'), await come('/tls'), await come('/mtls')]
    const believed = [[true, 'jane'], [true, 'jane'], [true, 'jane'], [true, null], [true, null], '403 CERTIFICATE_REQUIRED']
    const refused = [[false, null], '403 TLS_REQUIRED', '403 TLS_REQUIRED', [false, null], '403 TLS_REQUIRED', '403 TLS_REQUIRED']
    t.strictSame(await all(), believed)
    t.strictSame([(await ask({ port: proxy.http, path: '/none' })).body, (await ask({ port: proxy.http, path: '/tls' })).status], ['[false,null]', 403], 'over plain HTTP')
    const socket = await openSocket(t, `wss://localhost:${proxy.https}/live`, identify(pki.client))
    t.equal(await echoed(socket), 'hello')
    const closed = once(socket, 'close')
    document = { clients: { jane: withEdge.clients.jane! } }
    changed()
    await closed
    t.strictSame(await all(), refused, 'taken out')
    t.match(log.find(({ ignored }) => ignored !== undefined), { ignored: 'the certificate of a proxy, because the clients document does not have it; "edge" in proxy.trust, at 127.0.0.1' })
    document = withEdge
    changed()
    t.ok(await until(async () => (await come('/tls')) !== '403 TLS_REQUIRED'))
    t.strictSame(await all(), believed, 'and back')
  })
}

t.test('nginx: clients on one upstream connection keep their own certificates', { skip: withoutProxy('nginx') }, async (t) => {
  const { come, connections } = await behind(t, 'nginx', { config: instead('keepalive 16;', 'keepalive 1;') })
  const john = await issue(pki.ca, { subject: 'CN=John' })
  const seen: string[] = []
  for (const identity of [pki.client, undefined, john, undefined, pki.client]) {
    const answer = await come('/mtls', identity)
    seen.push(isIn(answer) ? readReport(answer).name : codeOf(answer))
  }
  t.same(seen, ['Jane', '403 CERTIFICATE_REQUIRED', 'John', '403 CERTIFICATE_REQUIRED', 'Jane'])
  t.equal(connections(), 1)
})

t.test('nginx: proxy_cache gives no answer of one client to another', { skip: withoutProxy('nginx') }, async (t) => {
  const { come, reached } = await behind(t, 'nginx', { config: instead('http {\n', 'http {\nproxy_cache_path DIR/cache keys_zone=cache:1m;\nproxy_cache cache;\n') })
  const john = await issue(pki.ca, { subject: 'CN=John' })
  for (let twice = 0; twice < 2; twice++) t.equal((await come('/public'))!.body, 'for everybody')
  t.same(reached, ['public'], 'it does store')
  const seen: string[] = []
  for (const identity of [pki.client, john, undefined, pki.client]) {
    const answer = await come('/stored', identity)
    seen.push(isIn(answer) ? readReport(answer).name : codeOf(answer))
  }
  t.same(seen, ['Jane', 'John', '403 CERTIFICATE_REQUIRED', 'Jane'])
})

t.test('HAProxy: with crt-ignore-err, the verdict of an invalid certificate is not 0', { skip: withoutProxy('haproxy') }, async (t) => {
  const served = await behind(t, 'haproxy', { config: instead('verify optional', 'verify optional ca-ignore-err all crt-ignore-err all') })
  await expectNoOtherClient(t, served, {
    anonymous: '403 CERTIFICATE_REQUIRED',
    valid: '200',
    'self-signed': '403 REVOCATION_UNKNOWN',
    expired: '403 CERTIFICATE_EXPIRED',
    revoked: '403 CERTIFICATE_REVOKED',
    'for servers': '403 CERTIFICATE_INVALID',
    'of another authority': '403 CERTIFICATE_UNTRUSTED'
  })
})

t.test('HAProxy: the verdict of a client without a certificate is 0, too', { skip: withoutProxy('haproxy') }, async (t) => {
  const served = await behind(t, 'haproxy', { config: (text) => text.replaceAll(' if { ssl_c_used }', '') })
  await expectNoOtherClient(t, served, { anonymous: '400 BAD_REQUEST', valid: '200' })
})

t.test('Apache: with optional_no_ca, or without the condition, untrusted certificates are refused by the app', { skip: withoutProxy('apache') }, async (t) => {
  // Where it reads revocation lists it refuses certificates of authorities without one, and so all of those
  const lax = await behind(t, 'apache', { config: (text) => instead('SSLVerifyClient optional', 'SSLVerifyClient optional_no_ca')(instead(/SSLCARevocationCheck .*/, '')(text)) })
  for (const who of ['self-signed', 'of another authority']) {
    t.equal(codeOf(await lax.come('/mtls', clients[who])), '403 CERTIFICATE_UNTRUSTED', who)
    t.match(readReport(await lax.come('/tls', clients[who])), { name: '', details: { isPresent: true, isValid: false } }, who)
  }
  t.equal(codeOf(await lax.come('/mtls')), '403 CERTIFICATE_REQUIRED')
  t.equal(codeOf(await lax.come('/mtls', pki.client)), '200')
  t.same(lax.reached, ['tls', 'tls', 'mtls'])

  const plain = await behind(t, 'apache', { config: instead(' "expr=%{SSL_CLIENT_VERIFY} != \'NONE\'"', '') })
  await expectNoOtherClient(t, plain, { anonymous: '403 CERTIFICATE_REQUIRED', valid: '200' })
})

t.test('Caddy: each client CA has a line of its own', { skip: withoutProxy('caddy') }, async (t) => {
  const second = await authority('Second CA')
  const both = { ca: pki.ca.cert + second.cert, crl: pki.crl + await revocationList(second) }
  const [ofFirst, ofSecond] = [pki.client, await issue(second, { subject: 'CN=Jill' })]
  const LINE = 'trusted_ca_cert_file /etc/ssl/partners-ca.pem'
  const oneFile = await behind(t, 'caddy', { proxy: { ...settings.caddy, ...both }, files: { 'partners-ca.pem': both.ca } })
  t.strictSame([codeOf(await oneFile.come('/mtls', ofFirst)), codeOf(await oneFile.come('/mtls', ofSecond))], ['200', 'no connection'], 'of one file, the first')
  const lines = await behind(t, 'caddy', { proxy: { ...settings.caddy, ...both }, config: instead(LINE, `${LINE}\n\t\t\ttrusted_ca_cert_file DIR/second.pem`), files: { 'second.pem': second.cert } })
  t.strictSame([codeOf(await lines.come('/mtls', ofFirst)), codeOf(await lines.come('/mtls', ofSecond))], ['200', '200'])
  t.equal(codeOf(await lines.come('/none', undefined, { host: '127.0.0.1' })), '421 of the proxy', 'by address, no client gets in')
})

t.test('Caddy: the app verifies certificates that Caddy does not', { skip: withoutProxy('caddy') }, async (t) => {
  for (const mode of ['request', 'require']) {
    const served = await behind(t, 'caddy', { config: (text) => instead('mode verify_if_given', `mode ${mode}`)(instead('trusted_ca_cert_file /', '# /')(text)) })
    await expectNoOtherClient(t, served, {
      anonymous: mode === 'request' ? '403 CERTIFICATE_REQUIRED' : 'no connection',
      valid: '200',
      'self-signed': '403 CERTIFICATE_UNTRUSTED',
      expired: '403 CERTIFICATE_EXPIRED',
      revoked: '403 CERTIFICATE_REVOKED',
      'for servers': '403 CERTIFICATE_INVALID',
      'of another authority': '403 CERTIFICATE_UNTRUSTED'
    })
  }
  const plain = await behind(t, 'caddy', { config: instead('request_header @certificate', 'request_header') })
  await expectNoOtherClient(t, plain, { anonymous: '403 CERTIFICATE_REQUIRED', valid: '200' })
})

// Names, instead of certificates

const attribute = (type: string, value: string): Buffer => seq(oid(type), text(value))
const rdns = (...all: Array<Array<[type: string, value: string]>>): Buffer => seq(...all.map((rdn) => der(tags.set, ...rdn.map(([type, value]) => attribute(type, value)))))
const [CN, O, UID] = ['2.5.4.3', '2.5.4.10', '0.9.2342.19200300.100.1.1']

/** What is in a subject that wants to be another one, or that is hard to write. */
const subjects: Record<string, Buffer> = {
  ordinary: rdns([['2.5.4.6', 'PT']], [[O, 'Acme']], [[CN, 'Jane']]),
  'a comma': rdns([[CN, 'x,O=Acme']]),
  'a comma, in UTF-8': rdns([[O, 'Acm\u00e9']], [[CN, 'x,O=Acm\u00e9 \u65e5\u672c']]),
  'a plus': rdns([[CN, 'x+O=Acme']]),
  'a slash': rdns([[CN, 'x/O=Acme']]),
  'several attributes': rdns([[CN, 'a'], [O, 'b,c'], [UID, 'u+v']], [[CN, 'd']]),
  quotes: rdns([[CN, '"a" <b>; c\\,O=Acme\\']]),
  '# first': rdns([[CN, '#0C0141']], [[O, '#']]),
  'spaces at the edges': rdns([[CN, ' a ']], [[O, ' b ']]),
  'a space at the very end': rdns([[O, 'Acme\\ ']], [[CN, 'a']]),
  'control characters': rdns([[CN, 'a\r\nX-SSL-Client-Verify: SUCCESS\0']]),
  'a type without a name': rdns([['1.2.3.4', 'x,CN=admin']], [[CN, 'x']]),
  'an empty value': rdns([[CN, '']], [[O, 'Acme']])
}

type NamingKind = Exclude<ProxyKind, 'caddy'>
const SHA256 = 'X-Client-SHA256'

/** How each is told to forward a name; and the form of OpenSSL on one line, as it was once. */
const naming: Record<NamingKind, { header: string, value: string, name: (text: string) => string, oneLine: (text: string) => string }> = {
  nginx: { header: 'x-ssl-client-cert', value: 'SUCCESS', name: instead('$ssl_client_escaped_cert', '$ssl_client_s_dn'), oneLine: instead('$ssl_client_escaped_cert', '$ssl_client_s_dn_legacy') },
  haproxy: { header: 'client-cert', value: '0', name: instead('":%[ssl_c_der,base64]:"', '%[ssl_c_s_dn(,0,rfc2253)]'), oneLine: instead('":%[ssl_c_der,base64]:"', '%[ssl_c_s_dn]') },
  apache: { header: 'x-ssl-client-cert', value: 'SUCCESS', name: instead('%{SSL_CLIENT_CERT}s', '%{SSL_CLIENT_S_DN}s'), oneLine: (text) => instead('SSLVerifyClient optional', 'SSLVerifyClient optional\n    SSLOptions +LegacyDNStringFormat')(instead('%{SSL_CLIENT_CERT}s', '%{SSL_CLIENT_S_DN}s')(text)) }
}

for (const kind of Object.keys(naming) as NamingKind[]) {
  const { header, value, name, oneLine } = naming[kind]
  const certificate = { header, encoding: 'dn', verified: { header: 'x-ssl-client-verify', value } } as const
  t.test(`${kind}: a name that it forwards is read as exactly that of the certificate`, { skip: withoutProxy(kind) }, async (t) => {
    const direct = await listen(t, {}, askingServer(pki))
    const served = await behind(t, kind, { proxy: { trust: 'loopback', certificate }, config: name })
    for (const [what, subject] of Object.entries(subjects)) {
      const identity = await issue(pki.ca, { subject })
      const own = readReport(await ask({ port: direct.port, path: '/mtls', headers: { host: 'localhost' }, tls: identify(identity) }))
      const { name, details } = readReport(await served.come('/mtls', identity))
      t.same([details.subject, name, details.isValid, details.cookie, details.issuer], [own.details.subject, own.name, true, '', ''], what)
    }
    await expectNoOtherClient(t, served, { anonymous: '403 CERTIFICATE_REQUIRED', valid: '200' })
  })

  t.test(`${kind}: a name on one line, as OpenSSL once wrote it, is refused`, { skip: withoutProxy(kind) }, async (t) => {
    const served = await behind(t, kind, { proxy: { trust: 'loopback', certificate }, config: oneLine })
    t.equal(codeOf(await served.come('/mtls', pki.client)), '400 BAD_REQUEST')
    t.equal(codeOf(await served.come('/mtls')), '403 CERTIFICATE_REQUIRED')
  })
}

t.test('HAProxy: the fingerprint beside a name is that of the certificate', { skip: withoutProxy('haproxy') }, async (t) => {
  const { header, value, name } = naming.haproxy
  const served = await behind(t, 'haproxy', {
    proxy: { trust: 'loopback', certificate: { header, encoding: 'dn', verified: { header: 'x-ssl-client-verify', value }, fingerprint: SHA256 } },
    config: (text) => instead('    # How the client came.', `    http-request del-header ^x[-_]client[-_]sha256$ -m reg\n    http-request set-header ${SHA256} %[ssl_c_der,sha2(256),hex] if { ssl_c_used }\n`)(name(text))
  })
  const { details } = readReport(await served.come('/mtls', pki.client, { [SHA256]: 'ab'.repeat(32) }))
  t.equal(details.cookie, pki.client.certificate.fingerprint256.replaceAll(':', '').toLowerCase())
  t.equal(codeOf(await served.come('/mtls', undefined, { [SHA256]: 'ab'.repeat(32) })), '403 CERTIFICATE_REQUIRED')
})
