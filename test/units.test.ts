/**
 * What is quicker shown without a socket, or cannot be brought about with one.
 */
import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { mock } from 'node:test'
import type { FastifyRequest } from 'fastify'
import { Reloading } from '../lib/files/reloading.ts'
import { rankOf } from '../lib/levels.ts'
import { detailsOf } from '../lib/request/details.ts'
import { parseHost } from '../lib/url/host.ts'
import { linkedApp } from '../lib/server.ts'
import { createTransport } from '../lib/request/secure.ts'
import { createVerdicts } from '../lib/request/verdict.ts'
import { PrefixTree } from '../lib/url/prefixes.ts'
import { isTarget, spellings } from '../lib/url/spellings.ts'
import { makePki } from './fixtures/serve.ts'
import { cpuTime } from './fixtures/until.ts'

const pki = await makePki()
const leaf = new X509Certificate(pki.client.cert)

/** A request on a TLS connection. */
function requestOn (socket: object): FastifyRequest {
  return { raw: { socket: { encrypted: true, authorized: true, authorizationError: null, disableRenegotiation () {}, getPeerX509Certificate: () => leaf, getX509Certificate: () => undefined, ...socket } } } as unknown as FastifyRequest
}

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
    ['/shop#x', '/shop', '/shop#x'],
    ['/a/./b', '/a/b', '/a/./b'],
    ['/.//x/shop', '/x/shop', '/shop'],
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
    ['/a%3Fb', '/a', '/a?b'],
    ['/%09shop%20', '/shop'],
    ['/sh%0aop', '/shop'],
    ['/%ff/%41', '/\ufffd/a'],
    ['/caf%25C3%25A9/%25ff', '/caf\u00e9/\ufffd'],
    ['/a/pub%2f.%', '/a/pub%2f.%', '/a/pub/.%']
  ]
  for (const [target, ...readings] of cases) {
    const got = spellings(target)
    t.strictSame(readings.filter((reading) => got?.includes(reading) !== true), [], `${target}: ${String(got)}`)
  }
  t.equal(spellings('/%25252525252541'), null, 'wrapped too deeply')
  t.equal(spellings(`/${'%41'.repeat(2_000)}`), null, 'too long to be looked at twice')
  for (const target of ['/a/../b', '/..', '/a//../b', '/%2e%2e/b', '/.%2E', '/a%2fb/%2e%2e/b', '/%252e./b', '/a/..\\b', '/a/..;x/b', '/x;a/../b', '/a/..#', '/a/.%09./b', '/..%3fx', '/;x=1%2f%2fapi/%70artners']) t.equal(spellings(target), null, `${target} is whatever its reader takes it for`)
  t.strictSame(spellings(`/${'a'.repeat(8_000)}`), [`/${'a'.repeat(8_000)}`], 'unless there is nothing to look at')
})

t.test('a target that begins with anything but a slash is none', async (t) => {
  for (const target of ['/', '/x', '//x', 'http://a.test/', 'https://a.test:8443/x', 'http://a.test']) t.equal(isTarget(target, 'GET'), true, target)
  t.equal(isTarget('*', 'OPTIONS'), true)
  for (const target of ['*', '*partners', 'xpartners', '', 'http:/a/x', 'http://', 'http:///x', 'http://a?/partners', 'http://a#/partners', 'http://a\\b/partners', 'HTTP://a.test/x', 'ftp://a.test/x']) t.equal(isTarget(target, 'GET'), false, target)
})

t.test('no target takes more than linear time', async (t) => {
  for (const unit of ['%25', '../', '/;a', '//', ';', '\\', '%2e%2e/', '%', '/a', '%ff']) {
    const time = (length: number): Promise<number> => {
      const target = `/${unit.repeat(length / unit.length)}`
      return cpuTime(() => { for (let i = 0; i < 5; i++) spellings(target) })
    }
    await time(8_000)
    t.ok(await time(64_000) < 500, unit)
  }
})

t.test('what is no level has no rank', async (t) => {
  t.equal(rankOf('mtls'), 2)
  t.throws(() => rankOf('tsl' as never), /no such level: tsl/)
})

t.test('prefixes cover whole segments, and a parameter stands for any', async (t) => {
  const tree = new PrefixTree<string>()
  tree.set('/', 'root')
  tree.set('/shop', 'shop')
  tree.set('/shop/cart', 'cart')
  tree.set('/:tenant/cart', 'tenant', (segment) => segment.startsWith(':'))
  t.strictSame(tree.covering('/'), ['root'])
  t.strictSame(tree.covering('/shopping'), ['root'])
  t.strictSame(tree.covering('/shop/x/y'), ['root', 'shop'])
  t.strictSame(tree.covering('/shop/cart'), ['root', 'shop', 'cart', 'tenant'])
  t.strictSame(tree.covering('/x/cart/y'), ['root', 'tenant'])
})

t.test('an app of another Fastify, which keeps its further servers elsewhere, has its own', async (t) => {
  const server = {}
  t.strictSame(linkedApp({ server, log: {} } as never).servers(), [server])
})

t.test('a host is what every reader reads alike', async (t) => {
  for (const [host, expected] of [
    ['a.test', { name: 'a.test', port: undefined }], ['A.test.:443', { name: 'A.test.', port: 443 }], ['a_b.test:', { name: 'a_b.test', port: undefined }],
    ['127.0.0.1:1', { name: '127.0.0.1', port: 1 }], ['[::1]:65535', { name: '[::1]', port: 65_535 }], ['xn--mnchen-3ya.test', { name: 'xn--mnchen-3ya.test', port: undefined }],
    ['', undefined], ['a:b', undefined], [':80', undefined], ['a:0', undefined], ['a:65536', undefined], ['1.2.3', undefined], ['0x7f.1', undefined], ['127.0.0.1.', undefined], ['[::1', undefined], ['[]', undefined], ['[fe80::1%25eth0]', undefined], ['münchen.test', undefined]
  ] as const) t.strictSame(parseHost(host), expected, host)
})

t.test('a certificate whose dates cannot be read is not valid', async (t) => {
  const { judge } = createVerdicts(createTransport({ proxy: undefined }), undefined, undefined)
  const raw = Buffer.from(leaf.raw)
  // The first digit of each UTCTime becomes a letter
  for (let at = raw.indexOf('170d', 0, 'hex'); at !== -1; at = raw.indexOf('170d', at + 2, 'hex')) raw[at + 2] = 0x78
  t.equal(judge(requestOn({ getPeerX509Certificate: () => ({ ...leaf, raw }) })), 'certificateInvalid')
  t.equal(judge(requestOn({})), undefined)
})

t.test('the names of servers are kept, but not of every server there ever was', async (t) => {
  const verdicts = createVerdicts(createTransport({ proxy: undefined }), undefined, undefined)
  const subjects = new Set<string>()
  for (let i = 0; i < 200; i++) {
    const server = { fingerprint256: String(i), raw: new X509Certificate(pki.server.cert).raw }
    subjects.add(detailsOf(requestOn({ getX509Certificate: () => server }), verdicts).serverSubject)
  }
  t.strictSame([...subjects], ['CN=localhost'])
})

t.test('what fails again for the same reason is told once, and something else is told', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const told: string[] = []
  const reasons = ['not begun', 'not begun', 'not begun', 'cut off', 'not begun']
  let loads = 0
  const reloading = new Reloading(async () => {
    const reason = reasons[loads++]
    if (reason !== undefined) throw new Error(reason)
  }, ({ message }) => told.push(message))
  reloading.keep()
  for (let tries = 0; tries < 20; tries++) {
    await new Promise((resolve) => setImmediate(resolve))
    mock.timers.tick(5_000)
  }
  t.strictSame(told, ['not begun', 'cut off', 'not begun'])
  t.equal(loads, 6, 'until it succeeds')
})
