/**
 * Whatever a client may send: no redirect leaves the host, no header or log line is forged, and the server keeps serving.
 */
import t from 'tap'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { attributeValues, formatName, type Name, parseName } from '../lib/x509/distinguished-names.ts'
import type { TlsInterface } from '../lib/tls-interface.ts'
import { hostGroupOf } from '../lib/request/client-certificate.ts'
import { createLocate } from '../lib/request/redirect.ts'
import { createTransport } from '../lib/request/transport.ts'
import { resolveOptions } from '../lib/options/resolve.ts'
import { askHttp2, askRaw } from './fixtures/ask.ts'
import { commonName, oid, seq, text } from './fixtures/chains.ts'
import { reused } from './fixtures/context.ts'
import { authority, issue, selfSigned } from './fixtures/pki.ts'
import { makePki, serve } from './fixtures/serve.ts'
import { der, elementOf, tags } from './fixtures/x509.ts'

const pki = await makePki()

/** Text as an attacker would have it: what names, headers and URLs are made of, and anything else. */
const nasty = fc.string({ unit: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...',+;="\\#<> /:@%[]?.\r\n\t\0\x7f\x85aZ09CNO'.split('')) }, { weight: 1, arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }) }) })
const types = ['C', 'O', 'OU', 'CN', 'L', 'ST', 'DC', 'UID', 'emailAddress', 'title', 'GN', 'initials', 'serialNumber']
const keyOf: Record<string, string> = { emailAddress: 'E', title: 'T', initials: 'I', serialNumber: 'SERIALNUMBER' }
const oidOf: Record<string, string> = { C: '2.5.4.6', O: '2.5.4.10', OU: '2.5.4.11', CN: '2.5.4.3', L: '2.5.4.7', ST: '2.5.4.8', DC: '0.9.2342.19200300.100.1.25', UID: '0.9.2342.19200300.100.1.1', emailAddress: '1.2.840.113549.1.9.1', title: '2.5.4.12', GN: '2.5.4.42', initials: '2.5.4.43', serialNumber: '2.5.4.5' }
const names: fc.Arbitrary<Name> = fc.array(fc.array(fc.record({ type: fc.constantFrom(...types), value: nasty }), { minLength: 1, maxLength: 3 }), { maxLength: 4 })

/** A name, in DER and read again: within a SET the order is DER's. */
function encode (name: Name): Name {
  const rdns = name.map((rdn) => rdn.map(({ type, value }) => seq(oid(oidOf[type]!), text(value))).sort(Buffer.compare))
  return parseName(elementOf(seq(...rdns.map((attributes) => der(tags.set, ...attributes)))))
}

/** Reads the format again, by its documented rules and nothing else. */
function reread (text: string): Name {
  const name: Array<Array<{ type: string, value: string }>> = []
  let rest = text
  let joined = false
  while (rest !== '') {
    const [, type, quoted, plain = ''] = /^([\w.]+)=(?:"((?:[^"\\]|\\["\\]|(?:\\[\dA-F]{2})+)*)"|([^,+;"]*?(?=, | \+ |$)))/.exec(rest) ?? []
    if (type === undefined) throw new Error(`unreadable: ${rest}`)
    const length = type.length + 1 + (quoted === undefined ? plain.length : quoted.length + 2)
    const value = quoted === undefined ? plain : quoted.replaceAll(/(?:\\[\dA-F]{2})+|\\(["\\])/g, (match, character?: string) => character ?? Buffer.from(match.replaceAll('\\', ''), 'hex').toString())
    if (joined) name.at(-1)!.push({ type, value })
    else name.push([{ type, value }])
    rest = rest.slice(length)
    if (rest === '') break
    joined = rest.startsWith(' + ')
    if (!joined && !rest.startsWith(', ')) throw new Error(`no separator: ${rest}`)
    rest = rest.slice(joined ? 3 : 2)
    if (rest === '') throw new Error('ends with a separator')
  }
  return name
}

t.test('for any distinguished name, parsing and formatting agree, and no attribute can imitate another', async (t) => {
  fc.assert(fc.property(names, (name) => {
    const parsed = encode(name)
    const sorted = (rdns: Name): string => JSON.stringify(rdns.map((rdn) => rdn.map(({ type, value }) => `${type}=${value}`).sort()))
    if (sorted(parsed) !== sorted(name)) throw new Error(`parsed as ${JSON.stringify(parsed)}`)
    const text = formatName(parsed)
    if (/\p{Cc}/u.test(text)) throw new Error('a control character')
    if (sorted(reread(text)) !== sorted(name)) throw new Error(`formatted as ${text}`)
    for (const type of types) {
      const expected = parsed.flat().filter((attribute) => attribute.type === type).map(({ value }) => value)
      if (JSON.stringify(attributeValues(parsed, keyOf[type] ?? type)) !== JSON.stringify(expected)) throw new Error(type)
    }
  }), { numRuns: 2_000 })
  t.pass()
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
  }), { numRuns: 20_000 })
  t.ok(redirects > 1_000, `${redirects} of them were redirects`)
})

t.test('hostile requests over a socket are answered once, and the server keeps serving', async (t) => {
  const declare = (app: FastifyInstance): void => {
    app.get('/*', { httpSecurity: { kind: 'screen' } }, async () => 'x')
    app.get('/health', { httpSecurity: 'none' }, async () => 'ok')
  }
  const served = await serve(t, pki, declare)
  const statuses = new Map<string, number>()
  const targets = ['/', '//evil.com', '/\\evil.com', '/%0d%0aSet-Cookie:a=b', '/@evil.com', '/#@evil.com', '/a?b=http://evil.com', 'http://evil.com/', 'http://a.test@evil.com/', 'https://a.test:443/', 'http:evil.com', '*', 'evil.com:80', '/\x01', '/\xff', `/${'a'.repeat(8_000)}`, '/%', '/%zz', `/${'../'.repeat(1_000)}`]
  const hosts = ['a.test', 'a b', 'evil.com/', 'a@b', '[::1', '[::1]', '', 'a'.repeat(8_000), 'a:99999', 'a:0', 'a%2fb', 'a\x00b', 'a\x7fb', 'a\tb', 'a.test\r\nHost: evil.com', 'a.test\r\nX-Forwarded-Host: evil.com', '\xe9.test']
  for (const target of targets) {
    for (const host of hosts) {
      const answer = await askRaw(served.http, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
      const [head = ''] = answer.split('\r\n\r\n')
      const status = /^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]
      t.match(status, /^(?:308|4\d\d)$/, `${JSON.stringify(target).slice(0, 40)} at ${JSON.stringify(host).slice(0, 40)}`)
      statuses.set(status!, (statuses.get(status!) ?? 0) + 1)
      t.equal((answer.match(/^HTTP\/1\.1 /gm) ?? []).length, 1, 'one answer')
      t.notMatch(head, /^set-cookie/im, host)
      const location = /^location: (.*)$/im.exec(head)?.[1]
      if (location !== undefined) t.match(new URL(location), { protocol: 'https:', host: host.startsWith('[') ? '[::1]' : 'a.test', username: '' })
    }
  }
  t.ok(statuses.get('308')! > 10, JSON.stringify([...statuses]))
  t.equal((await served.insecure('/health')).body, 'ok')
})

t.test('HTTP/2 requests with hostile pseudo-headers are answered, and the server keeps serving', async (t) => {
  const served = await serve(t, pki, (app) => { app.get('/*', { httpSecurity: 'mtls' }, async () => 'x') }, { http2: true })
  for (const headers of [{ ':path': '//evil.com' }, { ':path': '/', ':authority': 'evil.com/' }, { ':path': '/', ':authority': 'a b' }, { ':path': '/', host: 'b.test' }, { ':path': '*', ':method': 'OPTIONS' }, { ':path': '/', ':scheme': 'javascript' }, { ':path': '/', ':authority': '' }]) {
    const answer = await askHttp2(served.session(), headers).catch(() => undefined)
    t.match(answer?.status ?? 400, /^4/, JSON.stringify(headers))
    t.equal(answer?.headers.location, undefined)
  }
  t.equal((await askHttp2(served.session(pki.client), { ':path': '/' })).status, 200)
})

t.test('large and lying client certificates are read as what they are', async (t) => {
  const seen: Array<{ cn: string, o: string, subject: string }> = []
  const served = await serve(t, pki, (app) => {
    app.get('/x', { httpSecurity: 'mtls' }, async (request) => {
      seen.push({ cn: request.clientCertificateValue('SubjectCN'), o: request.clientCertificateValue('SubjectO'), subject: request.clientCertificateGetDetails().subject })
      return 'x'
    })
  })
  for (const [cn, subject] of [
    ['x, O=evil', 'CN="x, O=evil"'],
    [' lead, CN=admin', 'CN=" lead, CN=admin"'],
    ['x\r\nO=evil', 'CN="x\\0D\\0AO=evil"'],
    ['x + O=evil', 'CN="x + O=evil"'],
    ['"\\', 'CN="\\"\\\\"'],
    ['Zoë 漢字', 'CN=Zoë 漢字'],
    ['x'.repeat(10_000), `CN=${'x'.repeat(10_000)}`]
  ] as const) {
    const identity = await issue(pki.ca, { subject: commonName(cn), san: cn.length > 9_000 ? Array.from({ length: 200 }, (_, i) => ({ type: 'dns' as const, value: `${i}.example` })) : undefined })
    seen.length = 0
    t.equal((await served.secure('/x', identity)).status, 200, cn)
    t.strictSame(seen, [{ cn, o: '', subject }], cn.slice(0, 40))
  }
  const stranger = await authority('Other CA')
  for (const identity of [await issue(stranger, { subject: commonName('a\r\n{"level":60,"msg":"forged"}') }), await selfSigned({ subject: `CN=${'y'.repeat(10_000)}` })]) t.equal((await served.secure('/x', identity)).status, 403)
  t.equal(served.log.filter(({ msg }) => msg === 'forged').length, 0)
  t.ok(served.log.every((line) => JSON.stringify(line).length < 3_000))
})

t.test('clients that connect and disconnect at any moment do not stop the server', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/x', { httpSecurity: { level: 'mtls', kind: 'screen' } }, async () => 'x')
    app.get('/health', { httpSecurity: 'none' }, async () => 'ok')
  })
  for (let i = 0; i < 100; i++) {
    const plain = net.connect(served.http, '127.0.0.1')
    plain.on('error', () => {})
    await once(plain, 'connect')
    plain.write('GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n'.repeat(1 + i % 3))
    if (i % 2 === 0) plain.resetAndDestroy()
    else plain.end()
    const secure = tls.connect(reused({ port: served.https, host: '127.0.0.1', ca: pki.ca.cert, ...i % 3 === 0 && { cert: pki.client.cert, key: pki.client.key } }))
    secure.on('error', () => {})
    await once(secure, 'secureConnect')
    secure.write('GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n'.repeat(1 + i % 3))
    setImmediate(() => secure.destroy())
  }
  t.equal((await served.insecure('/health')).body, 'ok')
  t.equal((await served.secure('/x', pki.client)).body, 'x')
  t.equal(served.log.filter(({ level }) => level >= 50).length, 0)
})

/** How long each of several takes, as a multiple of the first: medians of many rounds in which each has its turn. */
async function ratios (rounds: number, asks: Record<string, () => unknown>): Promise<Record<string, number>> {
  const times = new Map(Object.keys(asks).map((name): [string, number[]] => [name, []]))
  for (let round = -rounds / 2; round < rounds; round++) {
    for (const [name, ask] of Object.entries(asks)) {
      const start = performance.now()
      await ask()
      // V8 compiles meanwhile
      if (round >= 0) times.get(name)!.push(performance.now() - start)
    }
  }
  const medians = [...times].map(([name, all]): [string, number] => [name, all.sort((a, b) => a - b)[rounds >> 1]!])
  return Object.fromEntries(medians.map(([name, median]) => [name, median / medians[0]![1]]))
}

t.test('a hostile Accept, Upgrade or Content-Type costs little more than an ordinary one', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { unsatisfiable: 'warn' })
  app.get('/', async () => 'x')
  await app.ready()
  const get = (headers: Record<string, string>) => async () => {
    const { statusCode } = await app.inject({ url: '/', headers })
    if (statusCode !== 403 && statusCode !== 308) throw new Error(String(statusCode))
  }
  const commas = readFileSync(new URL('fixtures/accept-commas.txt', import.meta.url), 'latin1').trim()
  t.equal((await app.inject({ url: '/', headers: { accept: commas } })).statusCode, (await app.inject({ url: '/', headers: { accept: '*/*' } })).statusCode)
  const found = await ratios(200, {
    ordinary: get({ accept: '*/*' }),
    commas: get({ accept: commas }),
    ranges: get({ accept: 'a/b,'.repeat(3_800) }),
    weights: get({ accept: 'text/html;q=0,'.repeat(1_000) }),
    parameters: get({ accept: `text/html${';'.repeat(15_000)}` }),
    spaces: get({ accept: `text/html${' '.repeat(15_000)}x` }),
    upgrades: get({ accept: '*/*', upgrade: ', '.repeat(7_500) }),
    contents: get({ accept: '*/*', 'content-type': ' ; '.repeat(5_000) })
  })
  t.comment(JSON.stringify(found))
  // Three times is the limit, and less than two is usual
  for (const [name, ratio] of Object.entries(found)) t.ok(ratio < 6, `${name}: ${ratio.toFixed(1)} times`)
})

t.test('a hostile X-Forwarded-Host costs little more than an ordinary one, where hosts have authorities of their own', async (t) => {
  const socket = { encrypted: true, getPeerX509Certificate () {} }
  const tls = { hostGroupOf: () => 'a.test', trustOf: () => t } as unknown as TlsInterface
  const request = (forwarded?: string): FastifyRequest => ({ originalUrl: '/', raw: { url: '/', headers: { host: 'a.test', 'x-forwarded-host': forwarded }, socket } }) as unknown as FastifyRequest
  const ask = (forwarded: string) => () => { for (let i = 0; i < 50; i++) hostGroupOf(request(forwarded), tls) }
  t.equal(hostGroupOf(request('a.test, b.test'), tls), 'a.test')
  for (const [what, forwarded] of [['many', 'b.test,'.repeat(9)], ['thousands', 'b.test,'.repeat(2_000)], ['one without an end', 'b.'.repeat(2_000)]] as const) t.equal(hostGroupOf(request(forwarded), tls), undefined, `nobody looks at ${what}`)
  const found = await ratios(200, { ordinary: ask('b.test'), same: ask('b.test,'.repeat(2_000)), commas: ask(','.repeat(15_000)), others: ask(Array.from({ length: 2_000 }, (_, i) => `${i}.test`).join()), spaces: ask(' '.repeat(15_000)), long: ask('b.'.repeat(7_000)) })
  t.comment(JSON.stringify(found))
  for (const [name, ratio] of Object.entries(found)) t.ok(ratio < 8, `${name}: ${ratio.toFixed(1)} times`)
})

t.test('a hostile path of 4 KiB that no route knows costs little more than a bare 404', async (t) => {
  const [bare, app] = [Fastify(), Fastify()]
  t.teardown(async () => { await bare.close(); await app.close() })
  bare.addHook('onRequest', (_request, _reply, done) => done())
  await app.register(httpSecurity, { default: 'none', flows: { '/shop': 'none', '/shop/a': 'none' } })
  for (const each of [bare, app]) await each.ready()
  const units = ['a', '/a', '/.', '/\\', '//', ';a', '%41a', '%2541', '%2525252541a', '%c3%a4', '%09', '%5c', '/%2e', '/shop/.', '/shop;a', '\u00c3\u00a4', '\u00ef\u00bc\u008f']
  for (const prefix of ['', '/shop/a']) {
    for (const unit of units) {
      // As it comes by the network, in one piece: `inject` would escape it
      const url = Buffer.from(`${prefix}/x${unit.repeat((4_080 - prefix.length) / unit.length)}`, 'latin1').toString('latin1')
      const raw = Object.assign(new http.IncomingMessage(new net.Socket()), { method: 'GET', url, headers: { host: 'a.test' } })
      const get = (app: FastifyInstance) => () => {
        const response = new http.ServerResponse(raw)
        app.routing(raw, response)
        if (response.statusCode !== 404) throw new Error(String(response.statusCode))
      }
      const { plugin } = await ratios(100, { bare: get(bare), plugin: get(app) })
      t.comment(JSON.stringify(unit), plugin!.toFixed(1))
      // Four times is the limit, and two are usual; coverage is counted in loops, too, which takes as long again
      t.ok(plugin! < 8, `${JSON.stringify(prefix + unit)}: ${plugin!.toFixed(1)} times`)
    }
  }
})
