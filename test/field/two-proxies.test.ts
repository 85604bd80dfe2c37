/**
 * Two proxies in a row, as examples/proxies/two-in-a-row has them: the first ends TLS and verifies client certificates, the
 * second passes on what it says. Each has an address of its own.
 */
import t, { type Test } from 'tap'
import type http from 'node:http'
import websocket from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import { type Answer, ask, askRaw } from '../fixtures/ask.ts'
import type { ProxyOption } from '../fixtures/check-proxy.ts'
import { capture, FORGED, forgeHeaders, type Seen, spellings } from '../fixtures/forgeries.ts'
import { escapePem, written } from '../fixtures/forward.ts'
import { authority, type Identity, issue, revocationList, selfSigned } from '../fixtures/pki.ts'
import { ADDRESSES, believed, type InnerKind, startProxy, underscored, withoutProxy } from '../fixtures/proxies.ts'
import { makePki, serveHttp } from '../fixtures/serve.ts'
import { connectWire, echoed, openSocket } from '../fixtures/wire.ts'

const base = await makePki()
const revoked = await issue(base.ca, { subject: 'CN=Revoked' })
const pki = { ...base, crl: await revocationList(base.ca, [revoked]) }
const boss = await issue(pki.ca, { subject: 'CN=Boss' })

/** Those who come, and what they present. */
const clients: Record<string, Identity | undefined> = {
  anonymous: undefined,
  valid: pki.client,
  'self-signed': await selfSigned(),
  expired: await issue(pki.ca, { days: [-3, -1] }),
  revoked,
  'of another authority': await issue(await authority('Another CA'))
}

const identify = (identity: Identity | undefined) => ({ ca: pki.ca.cert, servername: 'localhost', ...identity && { cert: identity.cert, key: identity.key } })

type Change = (text: string) => string
const same: Change = (text) => text

/** A replacement that has to happen. */
function instead (from: string | RegExp, to: string): Change {
  return (text) => {
    const done = text.replace(from, to)
    if (done === text) throw new Error(`no ${String(from)}`)
    return done
  }
}

interface Pair {
  outer: 'nginx' | 'haproxy'
  inner: InnerKind
  /** Has the first one come from an address of its own. */
  from: Change
  /** What the first one says of a client with a certificate, and of one without. */
  says: { certificate: Record<string, string>, none: Record<string, string> }
  /** The line of the second one by which it takes requests from the first one alone. */
  alone: RegExp
  /** The second one says nothing of how the first came. */
  silent: Change
}

const pairs: Pair[] = [
  {
    outer: 'nginx',
    inner: 'inner haproxy',
    from: instead('http {\n', `http {\nproxy_bind ${ADDRESSES.outer};\n`),
    says: {
      certificate: { 'x-ssl-client-cert': encodeURIComponent(pki.client.cert), 'x-ssl-client-verify': 'SUCCESS' },
      none: { 'x-ssl-client-verify': 'NONE' }
    },
    alone: /^ +http-request deny .*\n/m,
    silent: instead(/^ +http-request set-header X-Forwarded-Proto .*\n/m, '')
  },
  {
    outer: 'haproxy',
    inner: 'inner nginx',
    from: instead('server app 127.0.0.1:3000', `server app 127.0.0.1:3000 source ${ADDRESSES.outer}`),
    says: { certificate: { 'client-cert': written.rfc9440(pki.client.cert), 'x-ssl-client-verify': '0' }, none: {} },
    alone: /^ +allow .*\n +deny all;\n/m,
    silent: instead(/^ +proxy_set_header X-Forwarded-Proto .*\n/m, '')
  }
]

interface Ports { https: number, http: number, inner: number }

async function start (t: Test, { outer, inner, from }: Pair, upstream: number, change: { outer?: Change, inner?: Change } = {}): Promise<Ports> {
  const second = await startProxy(t, inner, { upstream, pki, config: change.inner ?? same })
  const first = await startProxy(t, outer, { upstream: second.http, pki, config: (text) => from((change.outer ?? same)(text)) })
  return { https: first.https, http: first.http, inner: second.http }
}

interface Report { name: string, isPresent: boolean, isValid: boolean }
function report (request: FastifyRequest): Report {
  const { isPresent, isValid } = request.clientCertificateGetDetails()
  return { name: request.clientCertificateValue('SubjectCN'), isPresent, isValid }
}

interface Behind extends Ports {
  app: number
  reached: string[]
  /** What a client is answered by way of both; `undefined` where there is no connection. */
  come (path: string, identity?: Identity, headers?: http.OutgoingHttpHeaders): Promise<Answer | undefined>
}

async function behind (t: Test, pair: Pair, { proxy, ...change }: { outer?: Change, inner?: Change, proxy?: Partial<ProxyOption> } = {}): Promise<Behind> {
  const reached: string[] = []
  const { port } = await serveHttp(t, { proxy: { trust: ADDRESSES.inner, certificate: pair.outer, hops: 2, ...proxy } }, async (app) => {
    await app.register(websocket)
    for (const level of ['none', 'tls', 'mtls'] as const) {
      app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => {
        reached.push(level)
        return report(request)
      })
    }
    app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'page')
    app.get('/live', { websocket: true, httpSecurity: 'mtls' }, (socket) => { socket.on('message', (data) => { socket.send(String(data)) }) })
  })
  const ports = await start(t, pair, port, change)
  return {
    ...ports,
    app: port,
    reached,
    come: (path, identity, headers) => ask({ port: ports.https, path, headers: { host: 'localhost', ...headers }, tls: identify(identity) }).catch((error: NodeJS.ErrnoException) => {
      if (/^ERR_SSL|ECONNRESET|EPIPE/.test(error.code ?? '')) return undefined
      throw error
    })
  }
}

const readReport = (answer: Answer | undefined): Report => JSON.parse(answer!.body) as Report
const codeOf = (answer: Answer | undefined): string => answer === undefined ? 'no connection' : `${answer.status}${answer.status === 200 ? '' : ` ${/FST_HTTP_SECURITY_(\w+)/.exec(answer.body)?.[1] ?? 'of a proxy'}`}`

/** Another client's certificate in every header that an application can be told to believe, as proxies write it. */
const forged: Record<string, string> = {
  'client-cert': written.rfc9440(boss.cert),
  'client-cert-chain': written.rfc9440(boss.cert),
  'x-ssl-client-cert': escapePem(boss.cert),
  'ssl-client-cert': escapePem(boss.cert),
  'ssl-client-verify': 'SUCCESS',
  'x-forwarded-client-cert': written.xfcc(boss.cert),
  'x-forwarded-tls-client-cert': written['base64-der'](boss.cert),
  'x-forwarded-proto': 'https, https',
  'x-forwarded-host': 'evil.test'
}
const verdictOf = ({ outer }: Pair): string => outer === 'haproxy' ? '0' : 'SUCCESS'
const mapped = (headers: Record<string, string>, map: (name: string) => string): Record<string, string> => Object.fromEntries(Object.entries(headers).map(([name, value]) => [map(name), value]))
const title = (name: string): string => name.replaceAll(/(^|-)(.)/g, (letters) => letters.toUpperCase())

/** The same headers, written in every way. */
function waysOf (pair: Pair): Record<string, http.OutgoingHttpHeaders> {
  const headers = { ...forged, 'x-ssl-client-verify': verdictOf(pair) }
  return {
    'as a proxy writes them': headers,
    'in Title-Case': mapped(headers, title),
    with_underscores: mapped(headers, underscored),
    twice: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value, value]])),
    'one https': { ...headers, 'x-forwarded-proto': 'https' }
  }
}

for (const pair of pairs) {
  const { outer, inner, says } = pair
  const skip = withoutProxy(outer, inner)
  const both = `${outer} in front of ${inner.replace('inner ', '')}`

  t.test(`${both}: the app is sent what the first one says of each client, and how the first one came`, { skip }, async (t) => {
    const { port, seen } = await capture(t)
    const { https, http } = await start(t, pair, port)
    const sentOf = ({ headers }: Seen): Record<string, string> => {
      const sent: Record<string, string> = {}
      for (const [name, value] of headers) sent[name.toLowerCase()] = name.toLowerCase() in sent ? `${sent[name.toLowerCase()]!}, ${value}` : value
      return Object.fromEntries(Object.entries(sent).filter(([name]) => believed.includes(name)))
    }
    const others = { 'x-forwarded-host': 'localhost', 'x-forwarded-for': '127.0.0.1' }
    for (const [identity, certificate] of [[pki.client, says.certificate], [undefined, says.none]] as const) {
      t.equal((await ask({ port: https, path: '/', headers: { host: 'localhost' }, tls: identify(identity) })).body, 'seen')
      t.strictSame(sentOf(seen.pop()!), { ...others, ...certificate, 'x-forwarded-proto': 'https, http' })
    }
    t.equal((await ask({ port: http, path: '/', headers: { host: 'localhost' } })).body, 'seen')
    t.strictSame(sentOf(seen.pop()!), { ...others, 'x-forwarded-proto': 'http, http' })
  })

  t.test(`${both}: nothing gets through that a client writes`, { skip }, async (t) => {
    const { port, seen } = await capture(t)
    const { https } = await start(t, pair, port)
    for (const identity of [undefined, pki.client]) t.strictSame(await forgeHeaders(t, { port: https, ...identify(identity) }, seen), [], identity === undefined ? 'without a certificate' : 'with one')
  })

  t.test(`${both}: nothing at all gets through from somebody who talks to the second one directly`, { skip }, async (t) => {
    const { port, seen } = await capture(t)
    const ports = await start(t, pair, port)
    for (const [spelling, write] of Object.entries(spellings)) {
      for (const name of believed) t.match(await askRaw(ports.inner, `GET / HTTP/1.1\r\nHost: localhost\r\n${write(name)}Connection: close\r\n\r\n`), /^HTTP\/1\.1 403 /, `${name}, ${spelling}`)
    }
    t.strictSame(seen, [])
    const open = await start(t, pair, port, { inner: instead(pair.alone, '') })
    await askRaw(open.inner, `GET / HTTP/1.1\r\nHost: localhost\r\nX-SSL-Client-Cert: ${FORGED}\r\nConnection: close\r\n\r\n`)
    t.ok(seen.pop()!.headers.some(([, value]) => value === FORGED), 'which is for one line alone')
  })

  t.test(`${both}: a client with a valid certificate is known by it, and nobody else gets in`, { skip }, async (t) => {
    const { come, reached, https } = await behind(t, pair)
    for (const [who, identity] of Object.entries(clients)) {
      reached.length = 0
      const answer = await come('/mtls', identity)
      t.strictSame(reached, who === 'valid' ? ['mtls'] : [], `${who}: ${codeOf(answer)}`)
    }
    t.strictSame(readReport(await come('/mtls', pki.client)), { name: 'Jane', isPresent: true, isValid: true })
    t.equal(codeOf(await come('/mtls')), '403 CERTIFICATE_REQUIRED')
    for (const path of ['/tls', '/none']) t.strictSame(readReport(await come(path)), { name: '', isPresent: false, isValid: false }, 'who has none is welcome elsewhere')
    t.equal((await come('/page'))!.body, 'page')

    const first = await connectWire(t, { port: https, ...identify(pki.client) })
    const [before, session] = [await first.get('/mtls'), await first.ticket]
    first.socket.destroy()
    const second = await connectWire(t, { port: https, ...identify(pki.client), session })
    t.ok(second.socket.isSessionReused())
    t.strictSame([readReport(before).name, readReport(await second.get('/mtls')).name], ['Jane', 'Jane'], 'on a resumed connection, too')
    t.equal(await echoed(await openSocket(t, `wss://localhost:${https}/live`, { ...identify(pki.client), headers: { host: 'localhost' } } as object)), 'hello', 'over a WebSocket')
  })

  t.test(`${both}: forged headers of a client have no effect`, { skip }, async (t) => {
    const { come, reached, http } = await behind(t, pair)
    for (const [way, headers] of Object.entries(waysOf(pair))) {
      t.strictSame(readReport(await come('/mtls', pki.client, headers)), { name: 'Jane', isPresent: true, isValid: true }, way)
      for (const who of ['anonymous', 'self-signed', 'revoked']) {
        reached.length = 0
        const answer = await come('/mtls', clients[who], headers)
        t.strictSame(reached, [], `${who}, ${way}: ${codeOf(answer)}`)
      }
      const insecure = async (path: string): Promise<Answer> => await ask({ port: http, path, headers: { ...headers, host: 'localhost' } })
      const page = await insecure('/page?a=b')
      t.strictSame([page.status, page.headers.location], [308, 'https://localhost/page?a=b'], `over plain HTTP, ${way}`)
      t.strictSame([codeOf(await insecure('/tls')), codeOf(await insecure('/mtls'))], ['403 TLS_REQUIRED', '403 TLS_REQUIRED'], way)
      t.match(readReport(await insecure('/none')), { name: '', isPresent: false }, way)
    }
    const names = [...Object.keys(forged), 'x-ssl-client-verify']
    for (const connection of [names.join(', '), 'x-forwarded-proto', 'X-SSL-Client-Cert, Client-Cert', 'x-ssl-client-verify']) {
      // Neither says what Connection names: nginx writes its own. So nothing of it is lost, either.
      const answer = await come('/mtls', pki.client, { ...forged, connection })
      t.strictSame(readReport(answer), { name: 'Jane', isPresent: true, isValid: true }, `named in Connection: ${connection}`)
      t.equal(codeOf(await come('/mtls', undefined, { ...forged, connection })), '403 CERTIFICATE_REQUIRED', connection)
    }
  })

  t.test(`${both}: forged headers of somebody who talks to the second one, or to the app, have no effect`, { skip }, async (t) => {
    const closed = await behind(t, pair)
    for (const [way, headers] of Object.entries(waysOf(pair))) {
      for (const path of ['/mtls', '/tls', '/none', '/page']) {
        t.equal(codeOf(await ask({ port: closed.inner, path, headers: { ...headers, host: 'localhost' } })), '403 of a proxy', `${path}, ${way}, to the second`)
      }
      t.equal(codeOf(await ask({ port: closed.app, path: '/mtls', headers: { ...headers, host: 'localhost' } })), '403 TLS_REQUIRED', `${way}, to the app`)
    }
    t.strictSame(closed.reached, [])
    const open = await behind(t, pair, { inner: instead(pair.alone, '') })
    const headers = { ...forged, 'x-forwarded-proto': 'https', 'x-ssl-client-verify': verdictOf(pair), host: 'localhost' }
    t.equal(readReport(await ask({ port: open.inner, path: '/mtls', headers })).name, 'Boss', 'which is for one line alone')
  })

  t.test(`${both}: hops says which proxy's word counts`, { skip }, async (t) => {
    /** The page over HTTPS and over plain HTTP. */
    const pages = async ({ come, http }: Behind): Promise<string[]> => {
      const plain = await ask({ port: http, path: '/page', headers: { host: 'localhost' } })
      return [codeOf(await come('/page')).slice(0, 3), String(plain.status)]
    }
    // Each appends: the last value is of plain HTTP between them.
    t.strictSame(await pages(await behind(t, pair)), ['200', '308'])
    for (const hops of [undefined, 1, 3]) t.strictSame(await pages(await behind(t, pair, { proxy: { hops } })), ['308', '308'], `hops: ${hops}`)
    // The second passes on what the first one says.
    for (const hops of [undefined, 1]) t.strictSame(await pages(await behind(t, pair, { inner: pair.silent, proxy: { hops } })), ['200', '308'], `one value, hops: ${hops}`)
    t.strictSame(await pages(await behind(t, pair, { inner: pair.silent })), ['308', '308'], 'one value, hops: 2')
    // The first one lets the client's value be.
    const lax: Change = (text) => text.replaceAll(/^ +(?:proxy_set_header|http-request).*forwarded(?:\[-_\]|-)proto.*\n/gim, '')
    const open = await behind(t, pair, { outer: lax })
    t.equal((await ask({ port: open.http, path: '/page', headers: { host: 'localhost', 'x-forwarded-proto': 'https' } })).status, 200, 'which the first one has to write itself')
  })
}
