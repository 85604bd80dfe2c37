/**
 * Whatever a client may send: no redirect leaves the host, no header or log line is forged, and the server keeps serving.
 */
import t from 'tap'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { askHttp2, askRaw } from './fixtures/ask.ts'
import { commonName } from './fixtures/chains.ts'
import { reused } from './fixtures/context.ts'
import { authority, issue, selfSigned } from './fixtures/pki.ts'
import { makePki, serve } from './fixtures/serve.ts'
import { ratios } from './fixtures/time.ts'

const pki = await makePki()

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
  const otherCa = await authority('Other CA')
  for (const identity of [await issue(otherCa, { subject: commonName('a\r\n{"level":60,"msg":"forged"}') }), await selfSigned({ subject: `CN=${'y'.repeat(10_000)}` })]) t.equal((await served.secure('/x', identity)).status, 403)
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
