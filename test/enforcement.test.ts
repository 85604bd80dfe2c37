import t, { type Test } from 'tap'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import cors from '@fastify/cors'
import fastifyStatic from '@fastify/static'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import WebSocket from 'ws'
import httpSecurity from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type Answer, ask, askHttp2, askRaw } from './fixtures/ask.ts'
import { commonName } from './fixtures/chains.ts'
import { reused } from './fixtures/context.ts'
import { portOf } from './fixtures/network.ts'
import { authority, issue } from './fixtures/pki.ts'
import { type Served, askingServer, makePki, serve, listenOnFreePort } from './fixtures/serve.ts'
import { until, AT_ONCE } from './fixtures/time.ts'
import { connectWire } from './fixtures/wire.ts'

const pki = await makePki()
const HTML = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }
const SOAP_11 = { soapaction: '""', 'content-type': 'text/xml' }
const SOAP_12 = { 'content-type': 'application/soap+xml; charset=utf-8' }

/** A refusal in a word: `308 https://…`, `403 TLS_REQUIRED`, `403 fault 1.2 TLS_REQUIRED`. */
function inWords ({ status, headers, body }: Answer): string {
  if (headers.location !== undefined) return `${status} ${headers.location}`
  const code = /FST_(?:HTTP_SECURITY_)?(\w+)/.exec(body)?.[1] ?? body
  const fault = { 'application/soap+xml; charset=utf-8': 'fault 1.2 ', 'text/xml; charset=utf-8': 'fault 1.1 ' }[String(headers['content-type'])] ?? ''
  return `${status} ${fault}${code}`
}

t.test('a request is answered, redirected or refused by the level and kind of its route and by the client', async (t) => {
  const served = await serve(t, pki, (app, hit) => {
    for (const kind of ['screen', 'rest', 'soap', undefined] as const) {
      for (const level of ['none', 'tls', 'mtls'] as const) app.all(`/${kind}/${level}`, { httpSecurity: { kind, level } }, async (request) => hit(request))
    }
  })
  const to = (path: string): string => `308 https://127.0.0.1:${served.https}${path}`
  const cases: Array<[path: string, options: object, answer: string, vary?: string]> = [
    ['/screen/tls', {}, to('/screen/tls')],
    ['/screen/mtls?a=1', { headers: { accept: '*/*' } }, to('/screen/mtls?a=1')],
    ['/screen/tls', { method: 'HEAD' }, to('/screen/tls')],
    ['/screen/tls', { method: 'POST', headers: HTML }, '403 TLS_REQUIRED'],
    ['/screen/tls', { method: 'OPTIONS' }, '403 TLS_REQUIRED'],
    ['/screen/tls', { headers: { ...HTML, authorization: 'Bearer x' } }, '403 TLS_REQUIRED'],
    ['/screen/tls', { headers: { ...HTML, authorization: '' } }, '403 TLS_REQUIRED'],
    ['/screen/tls', { headers: { ...HTML, upgrade: 'websocket', connection: 'upgrade' } }, '403 TLS_REQUIRED'],
    ['/screen/tls', { headers: { ...HTML, upgrade: 'h2c', connection: 'upgrade' } }, to('/screen/tls')],
    ['/screen/tls', { headers: SOAP_12 }, to('/screen/tls')],
    ['/rest/tls', { headers: HTML }, '403 TLS_REQUIRED'],
    ['/rest/tls', { headers: SOAP_12 }, '403 TLS_REQUIRED'],
    ['/rest/mtls', { method: 'DELETE' }, '403 TLS_REQUIRED'],
    ['/soap/tls', { headers: HTML }, '403 fault 1.1 TLS_REQUIRED', 'Accept'],
    ['/soap/tls', { method: 'POST', headers: SOAP_12 }, '403 fault 1.2 TLS_REQUIRED', 'Accept'],
    ['/soap/tls', { method: 'POST', headers: SOAP_11 }, '403 fault 1.1 TLS_REQUIRED', 'Accept'],
    ['/soap/tls', { headers: { accept: 'application/soap+xml' } }, '403 fault 1.2 TLS_REQUIRED', 'Accept'],
    ['/soap/tls', { headers: { upgrade: 'WebSocket', connection: 'upgrade' } }, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', { headers: HTML }, to('/undefined/tls'), 'Accept'],
    ['/undefined/tls', { headers: { accept: 'application/xhtml+xml' } }, to('/undefined/tls'), 'Accept'],
    ['/undefined/tls', { headers: { accept: 'text/HTML;level=1; Q=0.1' } }, to('/undefined/tls'), 'Accept'],
    ['/undefined/tls', { headers: { accept: 'text/html;q=0, */*' } }, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', { headers: { accept: 'text/html;q=x' } }, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', { headers: { accept: '*/*, text/*' } }, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', {}, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', { method: 'POST', headers: HTML }, '403 TLS_REQUIRED', 'Accept'],
    ['/undefined/tls', { headers: { ...HTML, soapaction: 'x' } }, '403 fault 1.1 TLS_REQUIRED', 'Accept'],
    ['/undefined/mtls', { headers: { accept: 'text/html, application/soap+xml;q=0.5' } }, '403 fault 1.2 TLS_REQUIRED', 'Accept'],
    ['/undefined/mtls', { headers: { accept: 'text/html, application/soap+xml;q=0' } }, to('/undefined/mtls'), 'Accept']
  ]
  for (const [path, options, answer, vary] of cases) {
    const got = await served.insecure(path, options)
    t.equal(inWords(got).replace(/^403 $/, '403 TLS_REQUIRED'), answer, `${JSON.stringify(options)} ${path}`)
    t.equal(got.headers.vary, vary, 'Vary')
    if (got.status === 308) t.equal(got.headers['cache-control'], 'no-store')
  }
  t.strictSame(served.reached, [])

  for (const [path, headers, answer] of [
    ['/screen/mtls', HTML, '403 CERTIFICATE_REQUIRED'],
    ['/rest/mtls', SOAP_12, '403 CERTIFICATE_REQUIRED'],
    ['/soap/mtls', {}, '403 fault 1.1 CERTIFICATE_REQUIRED'],
    ['/undefined/mtls', HTML, '403 CERTIFICATE_REQUIRED'],
    ['/undefined/mtls', SOAP_12, '403 fault 1.2 CERTIFICATE_REQUIRED']
  ] as const) t.equal(inWords(await served.secure(path, undefined, { headers })), answer, `${path} over HTTPS`)
  t.strictSame(served.reached, [])

  for (const kind of ['screen', 'rest', 'soap', 'undefined']) {
    t.equal(inWords(await served.insecure(`/${kind}/none`)), '200 reached', kind)
    t.equal(inWords(await served.secure(`/${kind}/none`)), '200 reached', 'none is served over HTTPS when asked over HTTPS')
    t.equal(inWords(await served.secure(`/${kind}/tls`)), '200 reached', kind)
    t.equal(inWords(await served.secure(`/${kind}/mtls`, pki.client)), '200 reached', kind)
  }
  const codes = served.log.filter(({ code }) => code !== undefined)
  t.equal(codes.length, cases.filter(([, , answer]) => answer.startsWith('403')).length + 5, 'each refusal is one line')
  t.match(codes[0], { level: 30, code: 'FST_HTTP_SECURITY_TLS_REQUIRED', route: '/screen/tls' })
})

t.test('the body of a refusal has code and message alone, and an error handler may change it', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/x', { httpSecurity: 'mtls' }, async () => 'x')
    app.register(async (flow) => {
      flow.setErrorHandler((error, _request, reply) => {
        reply.log.info({ mine: true }, 'handled')
        return reply.code(418).send({ mine: (error as Error & { code: string }).code })
      })
      flow.get('/mine', { httpSecurity: 'mtls' }, async () => 'x')
    })
  })
  t.strictSame(JSON.parse((await served.secure('/x')).body), { statusCode: 403, code: 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', error: 'Forbidden', message: 'A client certificate is required' })
  t.match(await served.secure('/mine'), { status: 418, body: '{"mine":"FST_HTTP_SECURITY_CERTIFICATE_REQUIRED"}' })
  t.match(served.log.find(({ mine }) => mine), { msg: 'handled' }, 'and log what it likes')
})

t.test('the body of a refused request is not parsed', async (t) => {
  const served = await serve(t, pki, (app, hit) => { app.post('/partners', { httpSecurity: 'mtls' }, async (request) => hit(request)) })
  const malformed = { method: 'POST', payload: '{', headers: { 'content-type': 'application/json' } }
  t.equal((await served.secure('/partners', undefined, malformed)).status, 403)
  t.equal((await served.secure('/partners', pki.client, malformed)).status, 400)
  t.strictSame(served.reached, [])
})

t.test('redirects to HTTPS have the status, port and host that the options say', async (t) => {
  const declare = (app: FastifyInstance): void => { app.get('/*', { httpSecurity: { kind: 'screen' } }, async () => 'x') }
  const plain = await serve(t, pki, declare)
  const host = (served: Served, host: string, path = '/x') => served.insecure(path, { headers: { host } }).then(inWords)
  t.equal(await host(plain, `shop.test:${plain.http}`), `308 https://shop.test:${plain.https}/x`, 'who names our HTTP port is sent to our HTTPS port')
  t.equal(await host(plain, `[::1]:${plain.http}`), `308 https://[::1]:${plain.https}/x`)
  t.equal(await host(plain, 'shop.test'), '308 https://shop.test/x', 'who does not came by another way')
  t.equal(await host(plain, 'shop.test:8080'), '308 https://shop.test/x')
  t.equal(await host(plain, 'SHOP.test:', '/%2F/..//a?b=%0d%0a&c=//d'), '308 https://SHOP.test/%2F/..//a?b=%0d%0a&c=//d', 'byte for byte')

  const chosen = await serve(t, pki, declare, { options: { redirect: { statusCode: 302, httpsPort: 8443, hosts: ['Shop.test', '[::1]'] } } })
  t.equal(await host(chosen, `shop.TEST:${chosen.http}`), '302 https://shop.TEST:8443/x')
  t.equal(await host(chosen, '[::1]'), '302 https://[::1]:8443/x')
  t.equal(await host(chosen, 'evil.test'), '400 BAD_REQUEST')

  const standard = await serve(t, pki, declare, { options: { redirect: { httpsPort: 443 } } })
  t.equal(await host(standard, `a.test:${standard.http}`), '308 https://a.test/x')

  for (const bad of ['a b', 'evil.com/', 'a@b', '[::1', '[::g]', 'a..b', '-', 'a%2e', 'a:0', 'a:65536', 'a:123456', 'a:b', '1.2.3', '0x7f.1', `${'a'.repeat(262)}`, '"a"', 'a,b']) {
    t.match(await askRaw(plain.http, `GET /x HTTP/1.1\r\nHost: ${bad}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 400 [^]*BAD_REQUEST/, `Host: ${bad}`)
  }
  const raw = async (start: string, ...hosts: string[]): Promise<string> => {
    const answer = await askRaw(plain.http, `${start} HTTP/1.1\r\n${hosts.map((name) => `Host: ${name}\r\n`).join('')}Connection: close\r\n\r\n`)
    return /^HTTP\/1\.1 (\d+)/.exec(answer)![1]! + (/location: (.*)/i.exec(answer)?.[1] ?? '').replace(/^/, ' ')
  }
  t.equal(await raw('GET /x', 'a.test', 'b.test'), '400 ')
  t.equal(await raw('GET /x', ''), '400 ')
  t.equal(await raw('GET http://a.test/x?y', 'A.test'), '308 https://A.test/x?y', 'absolute form')
  t.equal(await raw('GET http://evil.test/x', 'a.test'), '400 ')
  t.equal(await raw('GET //evil.test/x', 'a.test'), '308 https://a.test//evil.test/x')
  t.equal(await raw('GET /\\evil.test', 'a.test'), '308 https://a.test/\\evil.test')
  t.equal(await raw('GET /@evil.test', 'a.test'), '308 https://a.test/@evil.test')
  t.equal(await raw('GET /x#y', 'a.test'), '308 https://a.test/x#y')
  t.equal(await raw('GET http://a.test', 'a.test'), '308 https://a.test/')
  t.equal(await raw('GET *', 'a.test'), '400 ')
})

t.test('with rewriteUrl, a redirect goes to the URL that was asked for', async (t) => {
  const served = await serve(t, pki, (app, hit) => {
    app.get('/internal/*', { httpSecurity: { kind: 'screen', level: 'tls' } }, async (request) => hit(request))
    app.get('/files/*', async (request) => hit(request))
    app.get('/*', async (request) => hit(request))
  }, {
    options: { default: 'none', flows: { '/partners': 'mtls' } },
    fastify: { rewriteUrl: ({ url }) => url!.startsWith('/dl/') ? `/files/${url!.split('/').at(-1)}` : url!.startsWith('/partners') ? url!.replace('/partners', '/other') : url!.replace(/^\/(?!other)/, '/internal/') }
  })
  t.equal(inWords(await served.insecure('/public?x')), `308 https://127.0.0.1:${served.https}/public?x`)
  t.equal(inWords(await served.secure('/partners/x')), '403 CERTIFICATE_REQUIRED', 'both URLs count for a flow')
  t.equal(inWords(await served.secure('/other/x')), '200 reached')
  t.equal(inWords(await served.secure('/partners/x', undefined, { method: 'POST' })), '403 CERTIFICATE_REQUIRED', 'nor does it matter that no route knows it')
  t.equal((await served.secure('/other/x', undefined, { method: 'POST' })).status, 404)
  t.equal(inWords(await served.secure('/dl/x')), '200 reached')
  t.equal(inWords(await served.secure('/dl/..;/partners')), '403 CERTIFICATE_REQUIRED', 'also where only the one that was asked for is odd')
})

t.test('a wildcard or parametric route under the prefix of a flow takes the stricter level', async (t) => {
  const served = await serve(t, pki, (app, hit) => {
    app.get('/:tenant/list', async (request) => hit(request))
    app.get('/*', async (request) => `${hit(request)} ${request.httpSecurity.level}`)
    app.get('/files/*', async (request) => hit(request))
    app.get('/own/:id', { httpSecurity: 'none' }, async (request) => hit(request))
  }, { options: { flows: { '/partners': 'mtls', '/partners/open': 'none' } } })
  for (const path of ['/partners/list', '/partners', '/partners/q', '/PARTNERS/q', '//partners/q', '/%70artners/q', '/%2570artners/q', '/partners;a', '/a/../partners/q', '/a/..%2fpartners/q', '/partners%2fq', '/\\partners/q', '/./partners/q', '/files/../partners/q', '/files/%2e%2e/partners/q', '/files/..%5cpartners/q', '/partners/open/../q', '/%25ff/../partners/q', `/%${'25'.repeat(20)}70artners/q`]) {
    const url = await served.secure(path)
    t.equal(inWords(url), '403 CERTIFICATE_REQUIRED', path)
    t.equal((await served.secure(path, pki.client)).status, 200, `${path} with a certificate`)
  }
  t.match(served.log.find(({ code }) => code !== undefined), { route: '/:tenant/list' })
  for (const path of ['/shop/list', '/partnership', '/files/partners', '/x/partners', '/partners/open/q']) t.equal((await served.secure(path)).status, 200, path)
  t.equal((await served.secure('/own/..%2fpartners')).status, 200, 'unless the route itself declares its level')
  t.equal((await served.secure('/x')).body, 'reached tls')
  t.equal((await served.secure('/partners/q', pki.client)).body, 'reached mtls')
})

t.test('a flow protects its prefix however the path is spelled: in octets, escapes, case and Unicode', async (t) => {
  // As Node has them: a character for each octet
  const targets = readFileSync(new URL('fixtures/targets.txt', import.meta.url), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as string)
  const flows = { '/k\u00e4se': 'mtls', '/partners': 'mtls' } as const
  const ways = {
    'a wildcard': await serve(t, pki, (app, hit) => { app.get('/*', { httpSecurity: undefined }, async (request) => hit(request)) }, { http2: true, options: { flows } }),
    'a not-found handler': await serve(t, pki, (app, hit) => { app.setNotFoundHandler(async (request) => hit(request)) }, { http2: true, options: { flows } })
  }
  for (const [way, served] of Object.entries(ways)) {
    const [anonymous, jane] = [served.session(), served.session(pki.client)]
    const connect = async () => await connectWire(t, { port: served.https, ca: pki.ca.cert })
    let wire = await connect()
    for (const target of [...targets, '/parTner\u00c5\u00bf', '/ka\u00cc\u0088se', '/k\u00e4se', '/%EF%BD%90artners']) {
      t.equal(inWords(await askHttp2(anonymous, { ':path': target })), '403 CERTIFICATE_REQUIRED', `${way}, HTTP/2: ${JSON.stringify(target)}`)
      t.equal((await askHttp2(jane, { ':path': target })).status, 200, 'with a certificate')
      // A malformed request may end its connection
      const answer = await wire.get(target) ?? await (wire = await connect()).get(target)
      t.match(answer?.status, /^40[03]$/, `${way}, HTTP/1.1`)
    }
    served.reached.length = 0
    for (const target of ['/k\u00c3\u00b6se', '/kase', '/partner', '/partn%C3%A9rs', '/shop/k%C3%A4se']) t.equal((await askHttp2(anonymous, { ':path': target })).status, 200, `${way}: ${target} is another path`)
    t.equal(served.reached.length, 5, way)
  }
  const declared = await serve(t, pki, (app, hit) => {
    app.get('/K\u00c4SE/:id', async (request) => hit(request))
    app.get('/ka\u0308:rest', async (request) => hit(request))
  }, { options: { flows } })
  t.strictSame(declared.app.httpSecurity.routes().map(({ url, level }) => [url, level]), [['/K\u00c4SE/:id', 'mtls'], ['/ka\u0308:rest', 'tls']])
  t.equal(inWords(await declared.secure('/ka%CC%88se')), '403 CERTIFICATE_REQUIRED')
  const twice = Fastify()
  await t.rejects(async () => await twice.register(httpSecurity, { flows: { '/stra\u00dfe': 'mtls', '/STRASSE': 'tls' } }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /there twice/ })
})

t.test('a path that a router and a handler could read differently is refused', async (t) => {
  const served = await serve(t, pki, async (app, hit) => {
    await app.register(websocket)
    app.get('/:tenant/list', async (request) => hit(request))
    app.get('/:tenant/live', { websocket: true }, (_socket, request) => { hit(request) })
    app.all('/*', async (request) => hit(request))
    app.register(async (flow) => { flow.setNotFoundHandler(async (request) => hit(request)) }, { prefix: '/partners/nf' })
  }, { http2: true, options: { default: 'none', flows: { '/partners': 'mtls' } } })
  for (const start of ['GET *partners/list', 'GET xpartners/list', 'POST *partners/nf/zz', 'GET HTTP://a.test/partners/list', 'GET http://a?/partners/list', 'GET *']) {
    const answer = await askRaw(served.http, `${start} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`)
    t.match(answer, /^HTTP\/1\.1 400 /, start)
  }
  t.match(await askRaw(served.http, 'GET *partners/live HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'), /^HTTP\/1\.1 400 /)
  for (const path of ['xpartners/list', '*partners/list']) t.equal((await askHttp2(served.session(), { ':scheme': 'foo', ':path': path })).status, 400, `HTTP/2 ${path}`)
  t.strictSame(served.reached, [])
  t.equal((await served.insecure('/x/list')).body, 'reached')
  for (const path of ['//x/partners/secret', '///x/partners/secret', '/\\x/partners/secret', '/%2fx/partners/secret', '/%09partners/secret']) {
    t.equal(inWords(await served.secure(path)), '403 CERTIFICATE_REQUIRED', `${path}, which new URL() reads as /partners/secret`)
  }
})

t.test('an unknown path takes the strictest of its prefix, minimum and default', async (t) => {
  const served = await serve(t, pki, async (app, hit) => {
    app.setNotFoundHandler(async (request) => hit(request))
    app.register(async (flow) => {
      flow.setNotFoundHandler(async (request) => hit(request))
      flow.get('/known', async () => 'known')
    }, { prefix: '/payments', httpSecurity: { level: 'mtls', kind: 'soap' } })
    app.register(async (tenant) => { tenant.register(async () => {}, { prefix: '/secret' }) }, { prefix: '/:tenant', httpSecurity: 'mtls' })
    app.register(async () => {}, { prefix: '/silent' })
  }, { options: { default: 'none', flows: { '/partners': 'mtls', '/pages': { level: 'tls', kind: 'screen' } } } })
  for (const path of ['/PARTNERS/q', '//partners/q', '/%70artners/q', '/partners;a', '/a/../partners/q', '/partners', '/partners#x/../..', '/partners/%2e%2e/x', `/%${'25'.repeat(20)}`, '/payments/q', '/PAYMENTS;x', '/acme/secret/q']) {
    const status = (await served.secure(path)).status
    t.equal(status, 403, path)
    t.equal((await served.secure(path, pki.client)).body, 'reached', `${path} with a certificate`)
  }
  t.equal(inWords(await served.secure('/payments/q')), '403 fault 1.1 CERTIFICATE_REQUIRED', 'its kind is the flow\'s')
  t.equal(inWords(await served.insecure('/pages/q')), `308 https://127.0.0.1:${served.https}/pages/q`)
  served.reached.length = 0
  t.equal((await served.insecure('/')).body, 'reached', 'and no more than that')
  t.strictSame(served.reached, ['GET /'])

  const minimum = await serve(t, pki, (app, hit) => { app.setNotFoundHandler(async (request) => hit(request)) }, { options: { default: 'none', minimum: 'mtls' } })
  for (const path of ['/x', '/PARTNERS/q', '//partners/q', '/%70artners/q', '/partners;a', '/a/../partners/q']) {
    t.equal((await minimum.secure(path)).status, 403, `${path} under minimum`)
    t.equal((await minimum.secure(path, pki.client)).body, 'reached', path)
  }

  const within = await serve(t, pki, (app, hit) => app.register(async (flow) => { flow.setNotFoundHandler(async (request) => hit(request)) }, { httpSecurity: 'mtls' }), { options: { default: 'none' } })
  t.equal((await within.secure('/x')).status, 403, 'a not-found handler inside a flow without a prefix')
  t.equal((await within.secure('/x', pki.client)).body, 'reached')
  t.equal((await within.secure('/x', undefined, { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } })).status, 403)
  t.equal((await within.secure('/x', pki.client, { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } })).body, 'reached')
})

t.test('a not-found handler cannot be reached by way of a laxer route', async (t) => {
  const root = t.testdir({ 'index.html': 'the index' })
  const served = await serve(t, pki, (app, hit) => {
    app.register(fastifyStatic, { root })
    app.register(async (flow) => { flow.setNotFoundHandler(async (request) => hit(request)) }, { httpSecurity: 'mtls' })
    app.get('/lax', async (_request, reply) => { reply.callNotFound() })
  }, { options: { default: 'none' } })
  t.equal((await served.insecure('/index.html')).body, 'the index')
  for (const path of ['/missing.html', '/lax']) {
    t.equal(inWords(await served.insecure(path)), '403 TLS_REQUIRED', path)
    t.equal(inWords(await served.secure(path)), '403 CERTIFICATE_REQUIRED', path)
    t.equal((await served.secure(path, pki.client)).body, 'reached', path)
  }
})

t.test('the guard stays in front of the hooks that a later onRoute hook adds', async (t) => {
  const preflight = { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } }
  const served = await serve(t, pki, (app, hit) => {
    const count = async (request: FastifyRequest): Promise<void> => { hit(request) }
    app.addHook('onRoute', (route) => { Object.assign(route, route.url === '/replaced' ? { preHandler: [count] } : { onRequest: [count], preValidation: count, preHandler: [count, route.preHandler ?? []].flat() }) })
    app.all('/replaced', async (request) => hit(request))
    app.options('/added', async (request) => hit(request))
  }, { options: { default: 'mtls' } })
  for (const path of ['/replaced', '/added']) {
    t.equal(inWords(await served.secure(path, undefined, preflight)), '403 CERTIFICATE_REQUIRED', path)
    t.strictSame(served.reached, [], path)
    t.equal((await served.secure(path, pki.client, preflight)).body, 'reached', path)
    served.reached.length = 0
  }
})

t.test('a not-found handler that a child set before the plugin is protected, for CORS preflights too', async (t) => {
  const app = Fastify({ https: askingServer(pki) })
  t.teardown(() => app.close())
  let reached = 0
  app.register(async (early) => { early.setNotFoundHandler(async () => { reached++; return 'reached' }) }, { prefix: '/partners' })
  await app.register(httpSecurity, { flows: { '/partners': 'mtls' } })
  app.register(async (late) => { Reflect.apply(late.setNotFoundHandler, late, [null, async () => 'late']) }, { prefix: '/late' })
  app.register(async (late) => { late.setNotFoundHandler({ preHandler: null, preValidation: null, onRequest: async () => { reached++ } } as object, async () => 'late') }, { prefix: '/partners/late' })
  const port = await listenOnFreePort(t, app)
  for (const path of ['/partners/x', '/partners/late/x']) {
    for (const headers of [{}, { origin: 'https://a.test', 'access-control-request-method': 'GET' }]) t.equal((await ask({ port, path, method: 'OPTIONS', headers, tls: { ca: pki.ca.cert } })).status, 403, path)
  }
  t.equal(reached, 0)
  t.equal((await ask({ port, path: '/late/x', tls: { ca: pki.ca.cert } })).body, 'late')
})

t.test('an HTTP/1 request that claims HTTP/2.0 is refused, and its connection closed', async (t) => {
  const served = await webSockets(t, { forceCloseConnections: undefined })
  for (const headers of ['', 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n', 'Origin: x\r\nAccess-Control-Request-Method: GET\r\n']) {
    for (const method of ['GET', 'OPTIONS']) {
      const answer = await askRaw(served.http, `${method} /ws HTTP/2.0\r\nHost: a.test\r\n${headers}${headers.includes('Upgrade') ? '' : 'Connection: close\r\n'}\r\n`)
      t.match(answer, /^HTTP\/1\.1 (?:400|505) /, headers)
    }
  }
  const start = performance.now()
  await served.app.close()
  t.ok(performance.now() - start < AT_ONCE)
  t.strictSame(served.reached, [])
})

t.test('a not-found handler and its hooks are protected, for CORS preflights too', async (t) => {
  const preflight = { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } }
  const served = await serve(t, pki, (app, hit) => {
    const count = async (request: FastifyRequest): Promise<void> => { hit(request) }
    app.register(async (flow) => {
      flow.setNotFoundHandler({ preValidation: [count], preHandler: count }, async (request) => hit(request))
    }, { prefix: '/pay', httpSecurity: 'mtls' })
    app.register(async (flow) => { Reflect.apply(flow.setNotFoundHandler, flow, []) }, { prefix: '/plain' })
  }, { options: { default: 'none' } })
  t.equal(inWords(await served.secure('/pay/zzz', undefined, preflight)), '403 CERTIFICATE_REQUIRED')
  t.strictSame(served.reached, [])
  t.equal((await served.secure('/pay/zzz', pki.client, preflight)).body, 'reached')
  t.equal((await served.insecure('/plain/x')).status, 404)

  const refusing = await serve(t, pki, async (app, hit) => {
    await app.register(cors, { origin: false })
    app.setNotFoundHandler(async (request) => hit(request))
  }, { options: { default: 'none', flows: { '/lax': 'tls' } } })
  t.equal(inWords(await refusing.insecure('/lax/zzz', preflight)), '403 TLS_REQUIRED', 'held to tls, by way of the route of @fastify/cors')
  t.strictSame(refusing.reached, [])

  const posing = await serve(t, pki, (app, hit) => {
    app.setNotFoundHandler({ config: { url: '/x' } } as object, async (request) => hit(request))
    app.get('/lax', async (_request, reply) => { reply.callNotFound() })
  }, { options: { default: 'none' } })
  t.equal(inWords(await posing.secure('/lax')), '403 UNKNOWN_ROUTE', 'a not-found handler that poses as a route is an unknown one')
  t.strictSame(posing.reached, [])
})

t.test('CORS preflights reach the plugin that answers them, and no handler', async (t) => {
  const preflight = { origin: 'https://app.test', 'access-control-request-method': 'POST' }
  const declare = (before: (app: FastifyInstance) => unknown) => async (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): Promise<void> => {
    await before(app)
    app.all('/all', { httpSecurity: 'mtls' }, async (request) => hit(request))
    const count = async (request: { method: string, url: string }): Promise<void> => { hit(request) }
    app.options('/hooked', { httpSecurity: 'mtls', onRequest: count, preParsing: [count], preValidation: count, preHandler: [count] }, async (request) => hit(request))
    app.options('/stage', { httpSecurity: 'mtls', preParsing: async (request, _reply, payload) => { hit(request); return payload } }, async (request) => hit(request))
    app.options('/lax', async (request) => hit(request))
  }
  const bare = await serve(t, pki, declare(() => {}))
  for (const path of ['/all', '/hooked', '/stage']) {
    t.equal(inWords(await bare.secure(path, undefined, { method: 'OPTIONS', headers: preflight })), '403 CERTIFICATE_REQUIRED', `${path}: forged, as nothing answers preflights`)
    t.strictSame(bare.reached, [], path)
    t.equal((await bare.secure(path, pki.client, { method: 'OPTIONS', headers: preflight })).body, 'reached', `${path} with a certificate`)
    bare.reached.length = 0
  }
  t.equal((await bare.secure('/lax', undefined, { method: 'OPTIONS', headers: preflight })).body, 'reached')
  bare.reached.length = 0
  t.equal(inWords(await bare.insecure('/all', { method: 'OPTIONS', headers: preflight })), '403 TLS_REQUIRED', 'held to tls')
  for (const [headers, payload] of [[{ origin: 'https://app.test' }], [{ 'access-control-request-method': 'GET' }], [{ ...preflight, 'content-length': '1' }, '{'], [{ ...preflight, 'transfer-encoding': 'chunked' }, '{']] as Array<[object, string?]>) {
    t.equal(inWords(await bare.secure('/all', undefined, { method: 'OPTIONS', headers: headers as never, payload })), '403 CERTIFICATE_REQUIRED', JSON.stringify(headers))
  }
  t.equal(inWords(await bare.secure('/all', undefined, { method: 'GET', headers: preflight })), '403 CERTIFICATE_REQUIRED', 'Access-Control-Request-Method on a GET')
  t.strictSame(bare.reached, [])

  const http2 = await serve(t, pki, (app, hit) => {
    app.addContentTypeParser('text/x', (request, payload, done) => { hit(request); payload.resume(); done(null) })
    app.all('/all', { httpSecurity: 'mtls' }, async (request) => hit(request))
  }, { http2: true })
  const stream = http2.session().request({ ':method': 'OPTIONS', ':path': '/all', ...preflight, 'content-type': 'text/x' }, { endStream: false })
  stream.end('x'.repeat(5_000))
  const [received] = await once(stream, 'response') as [{ ':status': number }]
  t.equal(received[':status'], 403, 'on HTTP/2 a body needs no header, and a preflight has none')
  t.strictSame(http2.reached, [])

  const changed = await serve(t, pki, (app, hit) => {
    app.addHook('onRequest', async ({ raw }) => { delete raw.headers.origin })
    app.all('/all', { httpSecurity: 'mtls' }, async (request) => hit(request))
  })
  t.equal(inWords(await changed.secure('/all', undefined, { method: 'OPTIONS', headers: preflight })), '403 CERTIFICATE_REQUIRED', 'a hook that changes the request changes nothing')
  t.strictSame(changed.reached, [])

  for (const hook of ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const) {
    const answered = await serve(t, pki, declare((app) => app.register(cors, { origin: 'https://app.test', hook })))
    const answer = await answered.secure('/all', undefined, { method: 'OPTIONS', headers: preflight })
    t.match(answer, { status: 204, headers: { 'access-control-allow-origin': 'https://app.test' } }, `@fastify/cors in ${hook}`)
    t.equal(inWords(await answered.secure('/all', undefined, { method: 'POST', headers: preflight })), '403 CERTIFICATE_REQUIRED', hook)
    t.strictSame(answered.reached, [], hook)
  }
})

t.test('automatic HEAD routes have the level of their GET', async (t) => {
  const served = await serve(t, pki, (app, hit) => {
    app.get('/x', { httpSecurity: 'mtls' }, async (request) => hit(request))
    app.register(async (flow) => { flow.get('/', async (request) => hit(request)) }, { prefix: '/flow', httpSecurity: 'mtls' })
  })
  for (const path of ['/x', '/flow', '/flow/']) {
    t.equal((await served.secure(path, undefined, { method: 'HEAD' })).status, 403, path)
    t.equal((await served.secure(path, undefined, { method: 'GET' })).status, 403, path)
    t.equal((await served.secure(path, pki.client, { method: 'HEAD' })).status, 200, path)
  }
})

t.test('HTTP/2 requests get the same answers, and have one host', async (t) => {
  const served = await serve(t, pki, (app, hit) => {
    app.get('/x', { httpSecurity: 'mtls' }, async (request) => hit(request))
    app.get('/none', { httpSecurity: 'none' }, async (request) => hit(request))
    app.get('/security', async (request) => request.httpSecurity)
  }, { http2: true })
  const session = served.session()
  t.equal(inWords(await askHttp2(session, { ':path': '/x' })), '403 CERTIFICATE_REQUIRED')
  t.equal(inWords(await askHttp2(session, { ':path': '/unknown' })), '404 {"message":"Route GET:/unknown not found","error":"Not Found","statusCode":404}')
  for (const path of ['/none', '/x']) t.equal(inWords(await askHttp2(session, { ':path': path, ':authority': 'a.test', host: 'b.test' })), '400 BAD_REQUEST', `:authority unlike host at ${path}`)
  t.equal(inWords(await askHttp2(session, { ':path': '/none', ':authority': 'a.test', host: 'A.test' })), '200 reached')
  t.match(JSON.parse((await askHttp2(session, { ':path': '/security', ':scheme': 'http' })).body), { secure: true, level: 'tls' })
})

t.test('request.httpSecurity has the level, kind and transport of a request', async (t) => {
  const served = await serve(t, pki, (app) => {
    app.get('/x', { httpSecurity: { level: 'none', kind: 'rest' } }, async (request) => ({ ...request.httpSecurity, frozen: Object.isFrozen(request.httpSecurity) }))
  })
  t.strictSame(JSON.parse((await served.insecure('/x')).body), { secure: false, level: 'none', kind: 'rest', client: null, frozen: true })
  t.strictSame(JSON.parse((await served.secure('/x')).body), { secure: true, level: 'none', kind: 'rest', client: null, frozen: true })
})

async function webSockets (t: Test, fastify: FastifyServerOptions = {}): Promise<Served> {
  return serve(t, pki, async (app, hit) => {
    await app.register(websocket)
    app.get('/ws', { websocket: true, httpSecurity: 'mtls' }, (socket, request) => {
      hit(request)
      socket.send(request.clientCertificateValue('SubjectCN'))
    })
    app.get('/screen', { httpSecurity: { level: 'tls', kind: 'screen' } }, async () => 'x')
    app.get('/slow', { websocket: true, httpSecurity: 'mtls', errorHandler: async (error, _request, reply) => { await new Promise((resolve) => setTimeout(resolve, 20)); reply.send(error) } }, () => {})
  }, { fastify })
}

t.test('a WebSocket handshake is a request like any other', async (t) => {
  const served = await webSockets(t)
  const open = new WebSocket(`wss://localhost:${served.https}/ws`, { ca: pki.ca.cert, cert: pki.client.cert, key: pki.client.key })
  const [message] = await once(open, 'message') as [Buffer]
  t.equal(message.toString(), 'Jane')
  open.terminate()

  for (const [url, options] of [[`wss://localhost:${served.https}/ws`, { ca: pki.ca.cert }], [`ws://127.0.0.1:${served.http}/ws`, {}], [`ws://127.0.0.1:${served.http}/screen`, { headers: HTML }], [`wss://localhost:${served.https}/slow`, { ca: pki.ca.cert }]] as const) {
    const refused = new WebSocket(url, options)
    const [error] = await once(refused, 'error') as [Error]
    t.match(error.message, /403/, url)
  }
  t.equal(served.reached.length, 1)
  t.equal((await served.insecure('/screen', { headers: { ...HTML, upgrade: 'h2c', connection: 'upgrade' } })).status, 308, 'other upgrades are redirected')
  await served.app.injectWS('/ws').then(() => t.fail('let in'), (error: Error) => t.match(error.message, /403/, 'without a socket there is no certificate'))
})

t.test('1,000 refused WebSocket upgrades leave no connection, and close() resolves at once', async (t) => {
  // As Fastify closes by default: it waits for whatever is open
  const served = await webSockets(t, { forceCloseConnections: undefined })
  const handshake = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`
  const refused = (connect: () => net.Socket): Promise<string> => new Promise((resolve, reject) => {
    const socket = connect()
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('error', reject).on('end', () => {
      // Not a word from the client: the server has ended both ways by itself
      setTimeout(() => socket.destroy(), 500)
      resolve(text)
    })
    socket.write(handshake('/ws'))
  })
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => refused(() => i % 2 === 0
      ? net.connect({ port: served.http, host: '127.0.0.1', allowHalfOpen: true })
      : tls.connect(reused({ port: served.https, host: '127.0.0.1', ca: pki.ca.cert, allowHalfOpen: true } as tls.ConnectionOptions)))))
    t.ok(answers.every((text) => text.startsWith('HTTP/1.1 403') && text.includes('}')), 'the answer arrives whole')
  }
  const connections = (): Promise<number> => new Promise((resolve) => served.app.server.getConnections((_, count) => resolve(count)))
  t.ok(await until(async () => await connections() === 0), 'no connection is left')
  const start = performance.now()
  await served.app.close()
  t.ok(performance.now() - start < AT_ONCE, `closed in ${Math.round(performance.now() - start)} ms`)
  t.strictSame(served.reached, [])
})

t.test('refusals keep the Vary header of other plugins', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, reply) => { reply.header('vary', 'Origin') })
  await app.register(httpSecurity)
  app.get('/x', async () => 'x')
  t.equal((await inject(app, '/x')).headers.vary, 'Origin, Accept')
})

t.test('HTTP/2 without TLS is insecure', async (t) => {
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { unsatisfiable: 'warn' })
  app.get('/x', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = http2.connect(`http://127.0.0.1:${portOf(app)}`)
  t.teardown(() => session.destroy())
  t.equal(inWords(await askHttp2(session, { ':path': '/x', ':authority': 'a.test', ':scheme': 'https' })), '308 https://a.test/x')
})

t.test('an HTTPS server on a unix socket has no port to redirect to', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'unix-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const app = Fastify({ https: askingServer(pki) })
  t.teardown(() => app.close())
  await app.register(httpSecurity)
  app.get('/x', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  await app.ready()
  const plain = http.createServer((request, response) => app.routing(request, response)).listen(0, '127.0.0.1')
  t.teardown(() => plain.close())
  await once(plain, 'listening')
  const port = portOf(plain)
  t.equal(inWords(await ask({ port, path: '/x' })), '308 https://127.0.0.1/x', 'not listening yet')
  await app.listen({ path: join(dir, 'app.sock') })
  t.equal(inWords(await ask({ port, path: '/x' })), '308 https://127.0.0.1/x')
})

t.test('names in a certificate cannot forge log lines', async (t) => {
  const otherCa = await authority('Other CA')
  const served = await serve(t, pki, (app) => { app.get('/x', { httpSecurity: 'mtls' }, async () => 'x') })
  const mallory = await issue(otherCa, { subject: commonName(`a\r\n{"level":60}\u2028\u202e${'x'.repeat(200)}`) })
  t.equal((await served.secure('/x', mallory)).status, 403)
  const { certificate } = served.log.find(({ code }) => code !== undefined) as unknown as { certificate: { subject: string } }
  t.match(certificate.subject, /^CN="a\\0D\\0A\{/)
  t.notMatch(certificate.subject, /[\r\n\u2028\u202e]/)
  t.ok(certificate.subject.length <= 129)
  t.equal((await served.secure('/x', await issue(otherCa, { subject: '' }))).status, 403)
  t.match(served.log.findLast(({ code }) => code !== undefined), { certificate: { subject: '' } })
})
