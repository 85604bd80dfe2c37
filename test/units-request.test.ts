/**
 * Units of lib/url, lib/routes, lib/request, lib/response, lib/proxy and lib/internals.ts: what is quicker shown without a
 * socket, or cannot be brought about with one.
 */
import t from 'tap'
import crypto, { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import type { TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type FastifyRequest, type RouteOptions } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { childrenOf, createConfigOf, hooksOf, isClosing, servedApp, spareKeptAlive } from '../lib/internals.ts'
import { rankOf } from '../lib/levels.ts'
import { resolveOptions } from '../lib/options/resolve.ts'
import { NO_POLICY } from '../lib/policy/policy.ts'
import { hashProbeToken, isProbeToken, makeProbeToken, MOST_MINUTES, parseProbeToken } from '../lib/proxy/probe-token.ts'
import { resolveClients } from '../lib/clients/clients.ts'
import { compileTrust } from '../lib/proxy/trusted-peers.ts'
import { loadCertificateReader } from '../lib/request/certificate-reader.ts'
import { createConnectionCertificates, createVerdicts, hostGroupOf, Reconnects } from '../lib/request/client-certificate.ts'
import { AdmittedRequests } from '../lib/request/close-revoked.ts'
import { detailsOf } from '../lib/request/decorators.ts'
import { checkAgainAfterBody, guardRoute } from '../lib/request/guards.ts'
import { createLocate, upgradeLocation } from '../lib/request/redirect.ts'
import { ProvenProxies } from '../lib/request/proven-proxies.ts'
import { createTransport } from '../lib/request/transport.ts'
import { secureCookie } from '../lib/response/downgrade-protection.ts'
import { isGuarded, RouteTable } from '../lib/routes/route-table.ts'
import { inject } from '../lib/testing.ts'
import type { TlsInterface } from '../lib/tls-interface.ts'
import type { Judgement } from '../lib/trust/peer-certificate.ts'
import { printable } from '../lib/text.ts'
import { parseHost } from '../lib/url/host.ts'
import { fold, foldText, isPlain, isTarget, spellings } from '../lib/url/path-readings.ts'
import { PrefixTree } from '../lib/url/prefix-tree.ts'
import { nasty } from './fixtures/nasty.ts'
import { portOf } from './fixtures/network.ts'
import { makePki } from './fixtures/serve.ts'
import { cpuTime, ratios, until } from './fixtures/time.ts'

await loadCertificateReader()

const pki = await makePki()
const leaf = new X509Certificate(pki.client.cert)

/** A request on a TLS connection. */
function requestOn (socket: object): FastifyRequest {
  return { raw: { socket: { encrypted: true, authorized: true, authorizationError: null, disableRenegotiation () {}, getPeerX509Certificate: () => leaf, getX509Certificate: () => undefined, ...socket } } } as unknown as FastifyRequest
}

/** What prefixes say in each reading of a target; `null`: there are too many. */
function readings (target: string, prefixes: readonly string[]): string[][] | null {
  const tree = new PrefixTree<string>()
  for (const prefix of prefixes) tree.add(fold(prefix), prefix, (segment) => segment.startsWith(':'))
  const texts = spellings(target)
  return texts && (tree.readings(texts) as string[][] | null)
}
const isReadAs = (target: string, path: string): boolean => readings(target, [path])?.some((reading) => reading.includes(path)) === true
/** As Node has the octets of a target: a character of each. */
const octets = (text: string): string => Buffer.from(text).toString('latin1')

t.test('every reading of a request target', async (t) => {
  // What each target has to be read as, among others
  const cases: Array<[target: string, ...readings: string[]]> = [
    ['/', '/'],
    ['', '/'],
    ['*', '/'],
    ['/Shop/Cart/', '/shop/cart'],
    ['/shop?/../x', '/shop'],
    ['http://a.test/Shop', '/shop'],
    ['https://a.test', '/'],
    ['//shop', '/shop', '/'],
    ['//x/shop', '/x/shop', '/shop'],
    ['/\\x/shop', '/x/shop', '/shop'],
    ['/%2fx/shop', '/%2fx/shop', '/x/shop', '/shop'],
    ['/shop;a=b', '/shop', '/shop;a=b'],
    ['/a;b/c', '/a', '/a/c', '/a;b/c'],
    ['/;b/c', '/c', '/;b/c'],
    ['/.;b/c', '/c'],
    ['/shop./cart', '/shop./cart', '/shop/cart'],
    ['/shop%20/cart.', '/shop/cart', '/shop /cart.'],
    ['/shop..', '/shop', '/shop..'],
    ['/a;b\\c/d', '/a/d', '/a/c/d', '/a;b\\c/d'],
    ['/shop#x', '/shop', '/shop#x'],
    ['/a/./b', '/a/b', '/a/./b'],
    ['/.//x/shop', '/x/shop', '/shop'],
    ['//./x/shop', '/x/shop', '/shop'],
    ['/%2e//x/shop', '/shop'],
    ['//y//x/shop', '/shop'],
    ['/x#y;/z', '/x', '/x#y'],
    ['/x;y#/z', '/x', '/x;y'],
    ['/a..b/..c', '/a..b/..c'],
    ['/%53hop', '/shop', '/%53hop'],
    ['/%2573hop', '/%73hop', '/shop'],
    ['/a%2Fb', '/a/b', '/a%2fb'],
    ['/a%5Cb', '/a/b', '/a\\b'],
    ['/a\\b', '/a/b', '/a\\b'],
    ['/\\/b', '/b', '/\\/b'],
    ['/a%3Fb', '/a', '/a?b'],
    ['/%09shop%20', '/shop'],
    ['/sh%0aop', '/shop'],
    ['/%ff/%41', '/\ufffd/a', '/\u00ff/a'],
    ['/caf%25C3%25A9/%25ff', '/caf\u00e9/\ufffd'],
    ['/a/pub%2f.%', '/a/pub%2f.%', '/a/pub/.%'],
    // Octets and escapes, and both of one character; what Latin-1 has of them, and what Node's strings do
    [octets('/k\u00e4se/x'), '/k\u00e4se/x', '/k\u00c3\u00a4se/x'],
    ['/k\u00c3%A4se', '/k\u00e4se'],
    ['/k%C3\u00a4se', '/k\u00e4se'],
    ['/k\u00c3%25A4se', '/k\u00e4se'],
    ['/k\u00e4se', '/k\u00e4se'],
    ['/k%E4se', '/k\u00e4se'],
    ['/k\u20ac%C3%A4', '/k\u20ac\u00e4'],
    // Case both ways, and Unicode's ways to write a character
    ['/K%C3%84SE', '/k\u00e4se'],
    ['/ka%CC%88se', '/k\u00e4se'],
    ['/k%C3%A4se', '/ka\u0308se'],
    ['/partner%C5%BF', '/partners'],
    ['/%E2%84%AAind', '/kind'],
    [octets('/\u212aind'), '/kind'],
    ['/stra%C3%9Fe', '/STRASSE'],
    ['/%EF%BD%90artners', '/partners'],
    ['/a%EF%BC%8Fpartners', '/a/partners'],
    ['/partners%C2%A0', '/partners'],
    ['/100%EF%BC%85off', '/100%off'],
    ['/%CE%BF%CE%B4%CE%BF%CF%82', '/\u03bf\u03b4\u03bf\u03c3'],
    ['/\u03bf\u03b4\u03bf\u03c3', '/\u039f\u0394\u039f\u03a3']
  ]
  for (const [target, ...paths] of cases) t.strictSame(paths.filter((path) => !isReadAs(target, path)), [], target)
  t.strictSame(readings('/Shop/cart', ['/', '/shop', '/cart', '/shop/cart/x']), [['/', '/shop']], 'an ordinary one has one')
  t.equal(isReadAs('/partn%C3%AErs', '/partners'), false)
  t.equal(isReadAs('/shopping', '/shop'), false)
  for (const target of ['/%u0070artners', '/%25U0070artners', '/partners%00x', '/a/%2500', '/a/..%20']) t.equal(readings(target, ['/partners']), null, `${target} has no honest reading`)
  t.not(readings('/%uzzzz', ['/partners']), null)
  t.equal(spellings('/%25252525252541'), null, 'wrapped too deeply')
  t.equal(spellings(`/${'%41'.repeat(2_000)}`), null, 'too long to be looked at twice')
  for (const target of ['/a/../b', '/..', '/a//../b', '/%2e%2e/b', '/.%2E', '/a%2fb/%2e%2e/b', '/%252e./b', '/a/..\\b', '/a/..;x/b', '/x;a/../b', '/a/..#', '/a/.%09./b', '/..%3fx', '/;x=1%2f%2fapi/%70artners', '/%E2%80%A5/b', '/%EF%BC%8E%EF%BC%8E/b', '/%EF%BC%8570artners', '/%EF%B9%AA%EF%BC%97%EF%BC%90artners']) t.equal(spellings(target), null, `${target} is whatever its reader takes it for`)
  for (const target of [`/a${'/.'.repeat(100)}`, `/a${'/;x'.repeat(100)}`, `/a${'/./;x'.repeat(50)}`, `/a${'/a;x'.repeat(100)}`, `//x//x${'/;x'.repeat(62)}`]) t.equal(readings(target, ['/a/b', ...Array.from({ length: 100 }, (_, i) => '/a'.repeat(i + 1))]), null, `${target.slice(0, 12)}: nor is there an end of what these may be`)
  t.equal(spellings(octets(`/${'\u00e4'.repeat(1_000)}`)), null, 'too long for what browsers escape')
  t.strictSame(spellings(`/${'a'.repeat(8_000)}`), [`/${'a'.repeat(8_000)}`], 'unless there is nothing to look at')
})

t.test('every Unicode character is folded like the readings of path parsers', async (t) => {
  const odd: string[] = []
  for (let code = 0; code < 0x3_0000; code++) {
    const character = String.fromCodePoint(code)
    if (character.toUpperCase() === character && character.toLowerCase() === character && character.normalize('NFKD') === character) continue
    const folded = foldText(character)
    const forms = [character.toUpperCase(), character.toLowerCase(), character.normalize('NFC'), character.normalize('NFD'), character.normalize('NFKC'), character.normalize('NFKC').toUpperCase(), folded]
    // Some make slashes or dots of them, and spaces at the end are not seen
    if (/[/\\.;?#%]|\s$/.test(character.normalize('NFKD'))) t.equal(spellings(`/a${encodeURIComponent(character)}`)?.includes(`/a${character.normalize('NFKD')}`), true, code.toString(16))
    if (!forms.every((form) => foldText(form) === folded)) odd.push(character)
  }
  t.strictSame(odd, [])
})

t.test('a request target that does not begin with a slash is invalid', async (t) => {
  for (const target of ['/', '/x', '//x', 'http://a.test/', 'https://a.test:8443/x', 'http://a.test']) t.equal(isTarget(target, 'GET'), true, target)
  t.equal(isTarget('*', 'OPTIONS'), true)
  for (const target of ['*', '*partners', 'xpartners', '', 'http:/a/x', 'http://', 'http:///x', 'http://a?/partners', 'http://a#/partners', 'http://a\\b/partners', 'HTTP://a.test/x', 'ftp://a.test/x']) t.equal(isTarget(target, 'GET'), false, target)
})

t.test('reading a request target takes linear time', async (t) => {
  for (const unit of ['%25', '../', '/;a', '//', ';', '\\', '%2e%2e/', '%', '/a', '%ff']) {
    const time = (length: number): Promise<number> => {
      const target = `/${unit.repeat(length / unit.length)}`
      return cpuTime(() => { for (let i = 0; i < 5; i++) readings(target, ['/a', '/shop', '/:x/y']) })
    }
    await time(8_000)
    t.ok(await time(64_000) < 500, unit)
  }
})

t.test('an unknown level has no rank', async (t) => {
  t.equal(rankOf('mtls'), 2)
  t.throws(() => rankOf('tsl' as never), /no such level: tsl/)
})

t.test('prefixes cover whole segments, and a parameter stands for any segment', async (t) => {
  const tree = new PrefixTree<string>()
  tree.add('/', 'root')
  tree.add('/shop', 'shop')
  tree.add('/shop/cart', 'cart')
  tree.add('/:tenant/cart', 'tenant', (segment) => segment.startsWith(':'))
  t.strictSame(tree.covering('/'), ['root'])
  t.strictSame(tree.covering('/shopping'), ['root'])
  t.strictSame(tree.covering('/shop/x/y'), ['root', 'shop'])
  t.strictSame(tree.covering('/shop/cart'), ['root', 'shop', 'cart'])
  t.strictSame(tree.readings(['/shop/cart']), [['root', 'shop', 'cart'], ['root', 'tenant']])
  t.strictSame(tree.readings(['/x/cart/y']), [['root', 'tenant']])
})

t.test('a route is exempt for CORS preflights only if its handler is guarded', async (t) => {
  const table = new RouteTable(NO_POLICY)
  const slot = table.add({ methods: ['OPTIONS'], url: '/', kind: undefined, declared: 'mtls', level: 'mtls', source: 'route' }, 'no', undefined)
  t.equal(isGuarded(table.state.entries[slot]!), false)
  t.equal(guardRoute({ method: 'GET' } as RouteOptions, () => {}), false)
  if (guardRoute({ method: ['GET', 'OPTIONS'] } as RouteOptions, () => {})) table.exemptPreflights(slot)
  t.equal(isGuarded(table.state.entries[slot]!), true)
  table.seal()
  t.equal(isGuarded(table.state.entries[slot]!), true)
})

t.test('an app of a Fastify version that keeps further servers elsewhere has its own server', async (t) => {
  const server = {}
  t.strictSame(servedApp({ server, log: {} } as never).servers(), [server])
  t.equal(childrenOf({} as never), 0)
  t.equal(hooksOf({} as never, ['onRequest']), undefined, 'and its hooks are unknown')
})

t.test('the config of a request\'s route is read in every version of Fastify', async (t) => {
  let asked = 0
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (request) => {
    Object.defineProperty(request, 'routeOptions', { get () { asked++; return {} } })
  })
  await app.register(httpSecurity)
  app.get('/', { httpSecurity: 'none' }, async () => 'x')
  t.equal((await inject(app, '/')).statusCode, 200)
  t.equal((await inject(app, { url: '/nothing', secure: true })).statusCode, 404)
  t.equal(asked, 0)
  const config = {}
  t.equal(createConfigOf()({ routeOptions: { config } } as unknown as FastifyRequest), config)
})

t.test('a Host header is accepted only if every parser reads the same host', async (t) => {
  for (const [host, expected] of [
    ['a.test', { name: 'a.test', port: undefined }], ['A.test.:443', { name: 'A.test.', port: 443 }], ['a_b.test:', { name: 'a_b.test', port: undefined }],
    ['127.0.0.1:1', { name: '127.0.0.1', port: 1 }], ['[::1]:65535', { name: '[::1]', port: 65_535 }], ['xn--mnchen-3ya.test', { name: 'xn--mnchen-3ya.test', port: undefined }],
    ['', undefined], ['a:b', undefined], [':80', undefined], ['a:0', undefined], ['a:65536', undefined], ['1.2.3', undefined], ['0x7f.1', undefined], ['127.0.0.1.', undefined], ['[::1', undefined], ['[]', undefined], ['[fe80::1%25eth0]', undefined], ['münchen.test', undefined]
  ] as const) t.strictSame(parseHost(host), expected, host)
})

t.test('a client certificate with unreadable dates is not valid', async (t) => {
  const { judge } = createVerdicts(await createTransport({ proxy: undefined }), createConnectionCertificates(undefined, true), undefined, undefined)
  const raw = Buffer.from(leaf.raw)
  // The first digit of each UTCTime becomes a letter
  for (let at = raw.indexOf('170d', 0, 'hex'); at !== -1; at = raw.indexOf('170d', at + 2, 'hex')) raw[at + 2] = 0x78
  t.equal(judge(requestOn({ getPeerX509Certificate: () => ({ ...leaf, raw }) })), 'certificateInvalid')
  t.equal(judge(requestOn({})), undefined)
})

t.test('names of server certificates are cached in a bounded number', async (t) => {
  const verdicts = createVerdicts(await createTransport({ proxy: undefined }), createConnectionCertificates(undefined, true), undefined, undefined)
  const subjects = new Set<string>()
  for (let i = 0; i < 200; i++) {
    const server = { fingerprint256: String(i), raw: new X509Certificate(pki.server.cert).raw }
    subjects.add(detailsOf(requestOn({ getX509Certificate: () => server }), verdicts).serverSubject)
  }
  t.strictSame([...subjects], ['CN=localhost'])
})

t.test('the client certificate of a long answer counts until the answer or the connection ends', async (t) => {
  const { stillCounts, presentedBy } = createVerdicts(await createTransport({ proxy: undefined }), createConnectionCertificates(undefined, true), undefined, undefined)
  const request = requestOn({})
  t.equal(presentedBy(request).leaf, leaf)
  t.equal(stillCounts(request), true)
  t.equal(stillCounts({ raw: { ...request.raw, socket: new net.Socket() } } as never), false)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => Date.parse(leaf.validTo) + 1000
  t.equal(stillCounts(request), false)
})

t.test('clients that reconnect in vain are remembered in a bounded number, and until client CAs change', async (t) => {
  const reconnects = new Reconnects()
  const client = (index: number) => ({ fingerprint256: String(index) }) as X509Certificate
  const judgement = (epoch = 0, store = t) => ({ store, epoch }) as unknown as Judgement
  const reasonOf = (index: number, under = judgement()) => reconnects.refusalOf(client(index), under)?.reason
  for (let index = 0; index <= 1000; index++) {
    reconnects.distrusted(client(index))
    reconnects.refused(client(index), { refusal: 'certificateInvalid', reason: 'INVALID_CA', judgement: judgement() })
  }
  t.strictSame([0, 1, 1000].map((index) => reconnects.isDistrusted(client(index))), [false, true, true])
  t.strictSame([0, 1, 1000].map((index) => reasonOf(index)), [undefined, 'INVALID_CA', 'INVALID_CA'])
  t.equal(reasonOf(1, judgement(1)), undefined)
  t.equal(reasonOf(1, judgement(0, {} as typeof t)), undefined)
  reconnects.refused(client(1), { refusal: 'revocationUnknown', reason: 'UNABLE_TO_GET_CRL', judgement: judgement() })
  t.equal(reasonOf(1), 'UNABLE_TO_GET_CRL')
  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 61_000
  t.strictSame([reasonOf(1), reasonOf(2)], [undefined, 'INVALID_CA'], 'what may pass is forgotten after a minute')
})

t.test('addresses of clients without a certificate are remembered in a bounded number, for ten minutes and one host', (t) => {
  const reconnects = new Reconnects()
  const from = (remoteAddress: string | undefined) => ({ remoteAddress }) as TLSSocket
  for (let index = 0; index <= 1000; index++) reconnects.hadNone(from(`10.0.0.${index}`), 'a.test')
  t.strictSame([0, 1, 1000].map((index) => reconnects.isKnownToHaveNone(from(`10.0.0.${index}`), 'a.test')), [false, true, true])
  t.equal(reconnects.isKnownToHaveNone(from('10.0.0.1'), 'b.test'), false)
  reconnects.hadNone(from(undefined), 'a.test')
  t.equal(reconnects.isKnownToHaveNone(from(undefined), 'a.test'), true, 'on a Unix socket')
  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 601_000
  t.equal(reconnects.isKnownToHaveNone(from('10.0.0.1000'), 'a.test'), false)
  t.end()
})

t.test('a request target is plain if nothing in its path has two readings', async (t) => {
  for (const target of ['/', '/shop/cart.html', '/shop?/../a;b\\c%2f']) t.equal(isPlain(target), true, target)
  for (const target of ['', 'shop', '*', 'http://a.test/shop', '//', '/shop//', '/./shop', '/shop/..', '/shop.', '/shop./cart', '/sh%6fp', '/shop;a', '/shop\\', '/caf\u00e9']) t.equal(isPlain(target), false, target)
})

t.test('the second check of a certificate is skipped where no hook can wait, and done where that is not known', async (t) => {
  const guard = (): void => {}
  const enforce = (): void => {}
  const own = (): void => {}
  const guarded = async (declare: (app: FastifyInstance) => unknown, more: object = {}, instance?: FastifyInstance): Promise<unknown> => {
    const app = Fastify()
    app.addHook('onRequest', enforce)
    const route = { method: 'GET', url: '/', handler: own, preHandler: own, ...more } as unknown as RouteOptions
    checkAgainAfterBody(instance ?? app, route, guard, enforce)
    await Promise.resolve()
    await declare(app)
    return route.preHandler
  }
  t.equal(await guarded(() => {}), own)
  for (const stage of ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const) t.strictSame(await guarded(async (app) => { app.addHook(stage as 'onRequest', own); await app.after() }), [guard, own], stage)
  for (const stage of ['onRequest', 'preParsing', 'preValidation']) t.strictSame(await guarded(() => {}, { [stage]: own }), [guard, own], `${stage} of its own`)
  t.strictSame(await guarded(() => {}, { method: ['GET', 'POST'] }), [guard, own])
  t.strictSame(await guarded(() => {}, { onRequest: own, preHandler: undefined }), [guard])
  t.strictSame(await guarded(() => {}, {}, {} as FastifyInstance), [guard, own], 'another Fastify, whose hooks are unknown')
  const odd = { [Symbol('fastify.acceptedHTTPMethods')]: { bodyless: new Set(['GET']) } } as unknown as FastifyInstance
  t.strictSame(await guarded(() => {}, {}, odd), [guard, own], 'whose hooks are elsewhere')
  const app = Fastify().addHttpMethod('GET', { hasBody: true, overrideExisting: true } as never)
  t.strictSame(await guarded(() => {}, {}, app), [guard, own], 'GET with a body')
  const route = { method: 'GET', url: '/', handler: own, onRequest: own } as unknown as RouteOptions
  checkAgainAfterBody(app, route, guard, enforce)
  await Promise.resolve()
  route.preHandler = own
  t.strictSame(route.preHandler, [guard, own], 'nor is it taken away later')
})

t.test('a Location to our own HTTP port is rewritten to the HTTPS port, and no other is changed', async (t) => {
  const ports = { http: 8080, https: 8443, httpsByDefault: 443 }
  for (const [location, authority, expected] of [
    ['http://a.test:8080/x?y#z', 'a.test:8443', 'https://a.test:8443/x?y#z'],
    ['HTTP://A.test:8080', 'a.TEST:8443', 'https://A.test:8443'],
    ['http://[::1]:8080/', '[::1]:8443', 'https://[::1]:8443/'],
    ['http://a.test/x', 'a.test', 'https://a.test/x'],
    ['http://a.test:80/x', 'a.test:443', 'https://a.test/x'],
    ['http://a.test:8080/%0d\u00e9', 'a.test:8443', 'https://a.test:8443/%0d\u00e9'],
    ['http://a.test/x', 'a.test:8443', undefined],
    ['http://a.test:9090/', 'a.test:8443', undefined],
    ['http://b.test:8080/', 'a.test:8443', undefined],
    ['http://a.test:8080@b.test/', 'a.test:8443', undefined],
    ['http://a.test:8080\\@b.test/', 'a.test:8443', undefined],
    ['http:a.test:8080/', 'a.test:8443', undefined],
    ['https://a.test:8080/', 'a.test:8443', undefined],
    ['/x', 'a.test', undefined],
    ['//a.test:8080/', 'a.test', undefined],
    ['http://a.test:8080/', '', undefined],
    ['http://a.test:8080/', 'a b', undefined]
  ] as const) t.equal(upgradeLocation(location, authority, ports), expected ?? location, `${location} at ${authority}`)
  const behindProxy = { http: undefined, https: 9443, httpsByDefault: 9443 }
  t.equal(upgradeLocation('http://a.test/', 'a.test:9443', behindProxy), 'https://a.test:9443/')
  t.equal(upgradeLocation('http://a.test/', 'a.test', behindProxy), 'http://a.test/')
})

t.test('a cookie is marked Secure once, whatever its other attributes are called', async (t) => {
  for (const [given, expected] of [
    ['a=b', 'a=b; Secure'], ['a=b; Path=/secure; HttpOnly', 'a=b; Path=/secure; HttpOnly; Secure'], ['secure=1', 'secure=1; Secure'], ['a=secure', 'a=secure; Secure'],
    ['a=b; Secure', 'a=b; Secure'], ['a=b;SECURE ;Path=/', 'a=b;SECURE ;Path=/'], ['a=b; secure=1', 'a=b; secure=1'], ['a=b; Securely', 'a=b; Securely; Secure'], ['', '; Secure']
  ] as const) t.equal(secureCookie(given), expected)
})

t.test('what proxies had in earlier documents is remembered, the last of it if it is very much', async (t) => {
  const fingerprintOf = (index: number): string => index.toString(16).toUpperCase().padStart(64, '0').replace(/..(?!$)/g, '$&:')
  const proxies = new ProvenProxies({ clients: [{ name: 'edge', from: () => true }], protocol: { header: 'x-forwarded-proto', value: 'https', hops: undefined } }, createConnectionCertificates(undefined, true), {} as never)
  const isKnown = (index: number): boolean => proxies.isCertificateOfProxy({ isPresent: true, leaf: { fingerprint256: fingerprintOf(index) } } as never)
  for (const first of [0, 6_000, 12_000]) {
    const certificates = Array.from({ length: 6_000 }, (_, index) => ({ fingerprint256: fingerprintOf(first + index) }))
    proxies.learn(await resolveClients({ clients: { edge: { certificates } } }, 'x', proxies.names))
  }
  t.strictSame([0, 1_999, 2_000, 11_999, 12_000, 17_999].map(isKnown), [false, false, true, true, true, true])
  t.equal(proxies.isCertificateOfProxy({ isPresent: false } as never), false)
})

t.test('a certificate that has become a proxy\'s has no labels that anything waits for', async (t) => {
  const verdicts = createVerdicts(await createTransport({ proxy: undefined }), createConnectionCertificates(undefined, true), undefined, undefined)
  t.equal(verdicts.labelsPending({ isPresent: false } as never, {} as never), undefined)
})

t.test('a peer that has disconnected is neither a proxy nor secure', async (t) => {
  const transport = await createTransport(await resolveOptions({ proxy: { trust: '127.0.0.1' } }))
  const socket = { encrypted: true, remoteAddress: undefined } as never
  t.equal(transport.isSecure({ headers: { 'x-forwarded-proto': 'https' } } as never, socket), false)
  t.equal(transport.isSecure({ headers: {} } as never, { encrypted: true, remoteAddress: '192.0.2.1' } as never), true, 'a client that comes directly')
  t.equal(transport.isSecure({ headers: {} } as never, undefined), false)

  const headers = { 'x-forwarded-proto': 'https' }
  const gone = await createTransport(await resolveOptions({ proxy: { trust: 'unix' } }))
  t.equal(gone.hints({ headers } as never, { remoteAddress: undefined } as never).ignored, 'x-forwarded-proto of a peer without an address, which is not in proxy.trust')
})

t.test('a peer is trusted by its address, or as one of a unix socket that the server listens on', async (t) => {
  const trusts = compileTrust(['unix', '192.0.2.1'])
  t.equal(trusts({ remoteAddress: undefined } as net.Socket), false, 'no address and no listener')
  t.equal(trusts({ remoteAddress: undefined, server: { address: () => ({ port: 1 }) } } as never), false, 'a client that has gone')
  t.equal(trusts({ remoteAddress: undefined, server: { address: () => '/run/app.sock' } } as never), true)
  t.equal(trusts({ remoteAddress: '192.0.2.1' } as net.Socket), true)
  t.equal(trusts({ remoteAddress: '::ffff:192.0.2.1' } as net.Socket), true)
  t.equal(trusts({ remoteAddress: 'nonsense' } as net.Socket), false)
  const going = { remoteAddress: undefined } as unknown as { remoteAddress: string | undefined }
  t.equal(trusts(going as net.Socket), false)
  going.remoteAddress = '192.0.2.1'
  t.equal(trusts(going as net.Socket), true, 'what could not be known is not remembered')
  for (const word of ['::ffff:0:0/96', '::FFFF:0.0.0.0/90', '10.0.0.0/08']) t.throws(() => compileTrust(word), TypeError, word)
  t.equal(compileTrust('::ffff:192.0.2.1')({ remoteAddress: '192.0.2.1' } as net.Socket), true)
})

t.test('finished answers are not watched any more, also pipelined ones of which Node emits no close', async (t) => {
  const looked: string[] = []
  const admitted = new AdmittedRequests(() => true, ({ raw: { url } }) => looked.push(url!) > 0)
  t.teardown(() => admitted.close())
  const arrived: string[] = []
  const app = createServer((request, response) => {
    admitted.answer({ raw: response, request: { raw: request } as FastifyRequest })
    if (arrived.push(request.url!) === 1) response.end()
  })
  t.teardown(() => app.close())
  await once(app.listen(0, '127.0.0.1'), 'listening')
  const client = net.connect(portOf(app), '127.0.0.1')
  for (const path of ['/done', '/first', '/second']) client.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  const look = async (): Promise<string[]> => {
    looked.length = 0
    admitted.look()
    await new Promise((resolve) => setTimeout(resolve, 20))
    return looked
  }
  await until(() => arrived.length >= 3)
  t.strictSame(await look(), ['/first', '/second'])
  client.destroy()
  for (const deadline = Date.now() + 1000; (await look()).length > 0 && Date.now() < deadline;);
  t.strictSame(looked, [])
})

t.test('finished answers are not kept in memory where there are many', async (t) => {
  const admitted = new AdmittedRequests(() => true, () => true)
  t.teardown(() => admitted.close())
  let asked = 0
  const raw = { get writableFinished () { return asked++ >= 0 } }
  for (let answers = 0; answers < 3000; answers++) admitted.answer({ raw, request: {} } as never)
  t.equal(asked, 2048, 'each that there was is looked at once')
})

t.test('a WebSocket upgrade whose client has disconnected is not watched', async (t) => {
  const admitted = new AdmittedRequests(() => t.fail('nothing is looked at'), () => true)
  t.teardown(() => admitted.close())
  admitted.upgrade({ raw: { socket: new net.Socket().destroy() } } as FastifyRequest)
  admitted.look()
})

t.test('options that Fastify does not reveal count as unset', async (t) => {
  t.equal(isClosing({}), false)
  t.doesNotThrow(spareKeptAlive({}))
})

t.test('for any Host and request target, a redirect goes to https on the same host, or there is none', async (t) => {
  const options = await resolveOptions({})
  const locate = createLocate(options, await createTransport(options))
  const ask = (host: string, url: string): string | undefined => {
    const located = locate({ raw: { headers: { host }, rawHeaders: ['Host', host], socket: { localPort: 8080 } }, originalUrl: url, server: { server: {} } } as unknown as FastifyRequest)
    return 'url' in located ? located.url : undefined
  }
  const hosts = fc.oneof(nasty, fc.domain(), fc.ipV4(), fc.ipV6().map((ip) => `[${ip}]`), fc.tuple(fc.domain(), fc.integer({ min: -1, max: 70_000 })).map(([name, port]) => `${name}:${port}`), fc.tuple(fc.domain(), nasty).map(([name, text]) => name + text))
  const targets = fc.oneof(nasty, nasty.map((text) => `/${text}`), nasty.map((text) => `//${text}`), fc.tuple(fc.domain(), nasty).map(([name, text]) => `http://${name}${text}`), fc.webUrl())
  let redirects = 0
  fc.assert(fc.property(hosts, targets, (host, target) => {
    const location = ask(host, target)
    if (location === undefined) return
    redirects++
    // eslint-disable-next-line no-control-regex -- that there is none is what is tested
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(location)) throw new Error('a control character')
    const url = new URL(location)
    const asked = new URL(`http://${host}`)
    if (url.protocol !== 'https:' || url.hostname !== asked.hostname || url.username !== '' || url.port !== '') throw new Error(location)
    if (target.startsWith('/') && !location.endsWith(target)) throw new Error('not byte for byte')
  }), { numRuns: 5_000 })
  t.ok(redirects > 200, `${redirects} of them were redirects`)
})

t.test('a hostile X-Forwarded-Host costs little more than an ordinary one, where hosts have authorities of their own', async (t) => {
  const socket = { encrypted: true, getPeerX509Certificate () {} }
  const tls = { hostGroupOf: () => 'a.test', trustOf: () => t } as unknown as TlsInterface
  const request = (forwarded?: string): FastifyRequest => ({ originalUrl: '/', raw: { url: '/', headers: { host: 'a.test', 'x-forwarded-host': forwarded }, socket } }) as unknown as FastifyRequest
  const ask = (forwarded: string) => () => { for (let i = 0; i < 50; i++) hostGroupOf(request(forwarded), tls) }
  t.equal(hostGroupOf(request('a.test, b.test'), tls), 'a.test')
  for (const [what, forwarded] of [['many', 'b.test,'.repeat(9)], ['thousands', 'b.test,'.repeat(2_000)], ['one without an end', 'b.'.repeat(2_000)]] as const) t.equal(hostGroupOf(request(forwarded), tls), undefined, `${what}: not looked at`)
  const found = await ratios(200, { ordinary: ask('b.test'), same: ask('b.test,'.repeat(2_000)), commas: ask(','.repeat(15_000)), others: ask(Array.from({ length: 2_000 }, (_, i) => `${i}.test`).join()), spaces: ask(' '.repeat(15_000)), long: ask('b.'.repeat(7_000)) })
  t.comment(JSON.stringify(found))
  for (const [name, ratio] of Object.entries(found)) t.ok(ratio < 8, `${name}: ${ratio.toFixed(1)} times`)
})

t.test('control characters, and what else a terminal acts on, are escaped in text of others', async (t) => {
  t.equal(printable('a\u001b[2J\u009b\u202e\u2028\n\ud800é', 128), 'a\\u{1b}[2J\\u{9b}\\u{202e}\\u{2028}\\u{a}\\u{d800}é')
  t.equal(printable('x'.repeat(1000), 300).length, 301)
})

// Probe tokens

t.test('a probe token is 128 random bits and the time it expires', async (t) => {
  const text = makeProbeToken(60)
  t.match(text, /^\d{10}\.[0-9a-f]{32}$/)
  t.not(makeProbeToken(60), text)
  const token = parseProbeToken(text)!
  t.ok(Math.abs(token.expires - Date.now() - 3_600_000) < 2_000)
  t.equal(isProbeToken(token, hashProbeToken(text)), true)
  const wrong = [makeProbeToken(60), '', text.slice(0, -1), `${text}0`, text.toUpperCase(), `${Number(text.slice(0, 10)) + 1}${text.slice(10)}`]
  for (const other of wrong) t.equal(isProbeToken(token, hashProbeToken(other)), other === text, other)
  const expired = makeProbeToken(-1)
  t.equal(isProbeToken(parseProbeToken(expired)!, hashProbeToken(expired)), false, 'not after that')
  for (const malformed of ['', 'x', '1', `0${text}`, ` ${text}`, `${text}\n`, `${text}0`, text.slice(0, -1), text.replace('.', ','), `1.5${text.slice(10)}`, `1234567890123${text.slice(10)}`, text.slice(10)]) {
    t.equal(parseProbeToken(malformed), undefined, JSON.stringify(malformed))
  }
  const shown = `${JSON.stringify(token)} ${t.fullname} ${String(token)} ${inspect(token, { showHidden: true })}`
  t.notMatch(shown, text.slice(11))
})

t.test('the comparison of probe tokens takes constant time', async (t) => {
  const compared: string[] = []
  const { timingSafeEqual } = crypto
  t.teardown(() => {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  })
  crypto.timingSafeEqual = (a, b) => {
    compared.push(`${a.byteLength} ${b.byteLength}`)
    return timingSafeEqual(a, b)
  }
  syncBuiltinESMExports()
  const expired = makeProbeToken(-1)
  const token = parseProbeToken(expired)!
  for (const given of ['', 'x', expired]) isProbeToken(token, hashProbeToken(given))
  t.strictSame(compared, ['32 32', '32 32', '32 32'], 'hashes of one length, after it has expired, too')
})

t.test('proxy.probe takes only a token, for a day at most, and its errors do not reveal the token', async (t) => {
  const resolve = async (probe: unknown) => await resolveOptions({ proxy: { trust: 'loopback', probe } })
  t.equal((await resolve(undefined)).proxy!.probe, undefined)
  t.equal((await resolve('')).proxy!.probe, undefined, 'a variable of the environment that is set, and to nothing')
  t.ok((await resolve(makeProbeToken(MOST_MINUTES))).proxy!.probe)
  t.ok((await resolve(makeProbeToken(-1))).proxy!.probe, 'an expired one is told of in the log')
  const long = makeProbeToken(MOST_MINUTES + 1)
  const secret = 'correct horse battery staple'
  for (const [probe, message] of [[long, /proxy: probe: this token expires more than 24 hours/], [secret, /proxy: probe: this is no token/], [{ secret }, /probe: a value of type object is not allowed/], [7_777_777, /probe: a value of type number/]] as const) {
    await t.rejects(resolve(probe), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
    t.notMatch(await messageOf(resolve(probe)), new RegExp(`horse|7777|${long.slice(11)}`))
  }
  const inList = await messageOf(resolveOptions({ proxy: [{ trust: 'loopback', probe: secret }] }))
  t.match(inList, /probe: '…'/)
  t.notMatch(inList, 'horse')
})

async function messageOf (failing: Promise<unknown>): Promise<string> {
  return await failing.then(String, (error: Error) => error.message)
}
