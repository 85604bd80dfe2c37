/**
 * What is quicker shown without a socket, or cannot be brought about with one.
 */
import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { dirname, join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import Fastify, { type FastifyRequest, type RouteOptions } from 'fastify'
import { ReloadQueue } from '../lib/files/reload-queue.ts'
import { watchFiles } from '../lib/files/watch.ts'
import httpSecurity from '../lib/index.ts'
import { rankOf } from '../lib/levels.ts'
import { NO_POLICY } from '../lib/policy/policy.ts'
import { detailsOf } from '../lib/request/decorators.ts'
import { guardRoute } from '../lib/request/guards.ts'
import { isGuarded, RouteTable } from '../lib/routes/route-table.ts'
import { parseHost } from '../lib/url/host.ts'
import { childrenOf, createConfigOf, hooksOf, servedApp } from '../lib/internals.ts'
import { createTransport } from '../lib/request/transport.ts'
import { createVerdicts, Reconnects } from '../lib/request/client-certificate.ts'
import { inject } from '../lib/testing.ts'
import type { Judgement } from '../lib/trust/peer-certificate.ts'
import { PrefixTree } from '../lib/url/prefix-tree.ts'
import { fold, foldText, isPlain, isTarget, spellings } from '../lib/url/path-readings.ts'
import { makePki } from './fixtures/serve.ts'
import { cpuTime } from './fixtures/time.ts'

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
  t.equal(hooksOf({} as never, ['onRequest']), undefined, 'and nobody knows of its hooks')
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
  const { judge } = createVerdicts(await createTransport({ proxy: undefined }), undefined, undefined)
  const raw = Buffer.from(leaf.raw)
  // The first digit of each UTCTime becomes a letter
  for (let at = raw.indexOf('170d', 0, 'hex'); at !== -1; at = raw.indexOf('170d', at + 2, 'hex')) raw[at + 2] = 0x78
  t.equal(judge(requestOn({ getPeerX509Certificate: () => ({ ...leaf, raw }) })), 'certificateInvalid')
  t.equal(judge(requestOn({})), undefined)
})

t.test('names of server certificates are cached in a bounded number', async (t) => {
  const verdicts = createVerdicts(await createTransport({ proxy: undefined }), undefined, undefined)
  const subjects = new Set<string>()
  for (let i = 0; i < 200; i++) {
    const server = { fingerprint256: String(i), raw: new X509Certificate(pki.server.cert).raw }
    subjects.add(detailsOf(requestOn({ getX509Certificate: () => server }), verdicts).serverSubject)
  }
  t.strictSame([...subjects], ['CN=localhost'])
})

t.test('the client certificate of a long answer counts until the answer or the connection ends', async (t) => {
  const { stillCounts, presentedBy } = createVerdicts(await createTransport({ proxy: undefined }), undefined, undefined)
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

t.test('a request target is plain if nothing in its path has two readings', async (t) => {
  for (const target of ['/', '/shop/cart.html', '/shop?/../a;b\\c%2f']) t.equal(isPlain(target), true, target)
  for (const target of ['', 'shop', '*', 'http://a.test/shop', '//', '/shop//', '/./shop', '/shop/..', '/shop.', '/shop./cart', '/sh%6fp', '/shop;a', '/shop\\', '/caf\u00e9']) t.equal(isPlain(target), false, target)
})

t.test('files in a missing directory are watched', async (t) => {
  const path = join(t.testdir(), 'later', 'file')
  const changed = new EventEmitter()
  t.teardown(watchFiles([path], () => changed.emit('changed')))
  // Watching keeps no process alive
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  await once(changed, 'changed')
  mkdirSync(dirname(path))
  writeFileSync(path, 'x')
  await once(changed, 'changed')
})

t.test('a file that many hosts share is watched without a warning of Node', async (t) => {
  const warnings: string[] = []
  const warned = ({ message }: Error): void => { warnings.push(message) }
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const path = join(t.testdir({ file: '' }), 'file')
  for (let host = 0; host < 12; host++) t.teardown(watchFiles([path], () => {}))
  await setImmediate()
  t.strictSame(warnings, [])
})

t.test('a change before watching begins is not loaded when watching begins', async (t) => {
  let loads = 0
  const reloading = new ReloadQueue({ loading: 'it', load: async () => ++loads, check: (loaded) => loaded, take () {}, failed () {}, recovered () {}, waiting () {} })
  reloading.changed()
  await setImmediate()
  t.equal(loads, 0)
  reloading.start()
  reloading.changed()
  await setImmediate()
  t.equal(loads, 1)
  reloading.stop()
})
