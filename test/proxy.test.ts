import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import http2 from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type Answer, ask, askHttp2 } from './fixtures/ask.ts'
import { portOf } from './fixtures/network.ts'
import { issue } from './fixtures/pki.ts'
import { keepLog, listenOnFreePort, type LogLine, makePki, serve, serveHttp } from './fixtures/serve.ts'

const pki = await makePki()

/** An application behind a proxy on loopback, over plain HTTP. */
async function behind (t: Test, proxy: HttpSecurityOptions['proxy'], options: HttpSecurityOptions = {}): Promise<(headers: Record<string, string | string[]>, path?: string) => Promise<string>> {
  const { port } = await serveHttp(t, { proxy, unsatisfiable: 'warn', ...options }, (app) => {
    app.get('/tls', { httpSecurity: { kind: 'screen' } }, async (request) => `${request.httpSecurity.secure}`)
    app.get('/mtls', { httpSecurity: 'mtls' }, async () => 'in')
  })
  return async (headers, path = '/tls') => {
    const answer = await ask({ port, path, headers: { host: 'app.internal:3000', ...headers } })
    return answer.headers.location ?? `${answer.status} ${/FST_HTTP_SECURITY_(\w+)/.exec(answer.body)?.[1] ?? answer.body}`
  }
}

t.test('X-Forwarded-Proto of a trusted proxy makes a request secure only if every value is https', async (t) => {
  const get = await behind(t, { trust: ['127.0.0.0/8'] })
  const away = 'https://app.internal/tls'
  for (const [value, answer] of [
    ['https', '200 true'], ['HTTPS', '200 true'], ['https, https', '200 true'], [['https', 'https'], '200 true'],
    ['http', away], ['', away], ['https,http', away], ['http, https', away], [['https', 'http'], away], ['https,', away], ['httpss', away], ['wss', away], ['ftp', away]
  ] as Array<[string | string[], string]>) t.equal(await get({ 'x-forwarded-proto': value }), answer, JSON.stringify(value))
  t.equal(await get({}), away, 'silence is insecure')
  t.equal(await get({ forwarded: 'proto=https' }), away, 'the other header is not looked at')
  t.equal(await get({ x_forwarded_proto: 'https' }), away, 'nor are underscores')
  t.equal(await get({ 'x-forwarded-proto': 'https', connection: 'close, X-Forwarded-Proto' }), away, 'nor what Connection names: any client can write it')
  t.equal(await get({ 'x-forwarded-proto': 'https' }, '/mtls'), '403 CERTIFICATE_REQUIRED')
  t.equal(await get({ 'x-forwarded-proto': 'wss', upgrade: 'websocket', connection: 'upgrade' }), '200 true', 'wss on a WebSocket handshake')
})

t.test('Forwarded (RFC 7239) of a trusted proxy makes a request secure only if its proto is https', async (t) => {
  const get = await behind(t, { trust: 'loopback', protocol: 'forwarded' })
  const away = 'https://app.internal/tls'
  for (const [value, answer] of [
    ['proto=https', '200 true'], ['for=192.0.2.1;Proto="HTTPS";by=x, for=x;proto=https', '200 true'],
    ['proto=http', away], ['for=192.0.2.1', away], ['proto=https, for=192.0.2.1', away], ['proto=https, proto=http', away],
    ['proto=http;proto=https', away], ['proto=https;', away], ['proto="https', away], ['', away], ['for="proto=https"', away]
  ] as const) t.equal(await get({ forwarded: value }), answer, value)
})

// Every way in which proxies say it

type ProxyOption = NonNullable<HttpSecurityOptions['proxy']>
type Lines = Array<[name: string, value: string]>
/** `true`: the client came over HTTPS. Else it did not, and the log says why; null where it says nothing, of plain HTTP. */
type Row = [lines: Lines, outcome: true | string | null]

const xfp = (...values: string[]): Lines => values.map((value) => ['X-Forwarded-Proto', value])
const forwarded = (...values: string[]): Lines => values.map((value) => ['Forwarded', value])
const one = (name: string, ...values: string[]): Lines => values.map((value) => [name, value])
const connection = (value: string): [string, string] => ['Connection', value]

const unknown = 'so nobody knows'
const eachHttps = 'each value has to be https; with proxy.hops, one alone counts, from the right'
const missing = 'is missing: the proxy has to say how clients come'
const notIncluded = 'is missing: the origin request policy of CloudFront has to include it'
const ifIt = 'if it is the proxy that writes it, whatever clients send'

const ROWS: Array<[option: Pick<ProxyOption, 'protocol' | 'hops'>, rows: Row[]]> = [
  [{}, [
    [xfp('https'), true], [xfp('HttpS'), true], [xfp('https , https'), true], [xfp('https', 'HTTPS'), true],
    [xfp('http'), null], [xfp('http, http'), null], [xfp('ws'), null], [xfp('http', 'http'), null],
    [[], `x-forwarded-proto ${missing}`],
    [xfp(''), 'x-forwarded-proto is empty'], [xfp('https,'), 'x-forwarded-proto is https,: a value is empty'], [xfp(',https'), 'x-forwarded-proto is ,https: a value is empty'],
    [xfp('https,http'), `x-forwarded-proto is https,http: ${eachHttps}`], [xfp('http', 'https'), `x-forwarded-proto is http, https: ${eachHttps}`],
    [xfp('wss'), 'x-forwarded-proto is wss: it has to be https'], [xfp('"https"'), 'x-forwarded-proto is "https": it has to be https'], [xfp('https;x'), 'x-forwarded-proto is https;x: it has to be https'], [xfp('\u00a0https'), 'x-forwarded-proto is \u00a0https: it has to be https'],
    [xfp('a\u0085\u009b[2J'), 'x-forwarded-proto is a\\u{85}\\u{9b}[2J: it has to be https'], [xfp('x'.repeat(9_000)), `x-forwarded-proto is …${'x'.repeat(80)}: it has to be https`],
    [[...xfp('https'), connection('close, X-Forwarded-Proto')], `x-forwarded-proto is named in Connection, ${unknown} who wrote it`],
    [one('x_forwarded_proto', 'https'), `x-forwarded-proto ${missing}`],
    [one('CloudFront-Forwarded-Proto', 'https'), `x-forwarded-proto is missing, but cloudfront-forwarded-proto is there: proxy.protocol: 'cloudfront', ${ifIt}`],
    [one('X-ARR-SSL', 'x'), `x-forwarded-proto is missing, but x-arr-ssl is there: proxy.protocol: 'azure', ${ifIt}`],
    [one('Forwarded', 'proto=https'), `x-forwarded-proto is missing, but forwarded is there: proxy.protocol: 'forwarded', ${ifIt}`],
    [[...xfp('http'), ...one('CloudFront-Forwarded-Proto', 'HTTPS')], `x-forwarded-proto is http, but cloudfront-forwarded-proto says HTTPS: proxy.protocol: 'cloudfront', ${ifIt}`],
    [[...xfp('http'), ...one('CloudFront-Forwarded-Proto', 'http')], null], [[...xfp('http'), ...one('X-ARR-SSL', 'x')], `x-forwarded-proto is http, but x-arr-ssl says HTTPS: proxy.protocol: 'azure', ${ifIt}`],
    [one('X-Forwarded-Ssl', 'on'), `x-forwarded-proto is missing, but x-forwarded-ssl is there: proxy.protocol: { header: 'x-forwarded-ssl', value: 'on' }, ${ifIt}`]
  ]],
  [{ hops: 1 }, [
    [xfp('https'), true], [xfp('http, HTTPS'), true], [xfp('"\\, "" , ,\u0085,https'), true], [xfp(`${'x'.repeat(9_000)},https`), true], [xfp(',https'), true],
    [xfp('http'), null], [xfp('https,http'), 'x-forwarded-proto is https,http: by proxy.hops: 1, the last value counts, which says plain HTTP'],
    [xfp('https,'), 'x-forwarded-proto is https,: a value is empty'], [xfp(''), 'x-forwarded-proto is empty'], [[], `x-forwarded-proto ${missing}`],
    [xfp(`${'https,'.repeat(1_000)}ftp`), /* the end */ `x-forwarded-proto is …${`${'https,'.repeat(1_000)}ftp`.slice(-80)}: the last value has to be https`],
    [xfp('https', 'https'), `x-forwarded-proto is there twice, ${unknown} which of the two the proxy wrote`],
    [[...xfp('https'), ['x-forwarded-proto', 'https']], `x-forwarded-proto is there twice, ${unknown} which of the two the proxy wrote`],
    [[...xfp('https'), ['x_forwarded_proto', 'http']], true],
    [[...xfp('https'), connection('x-forwarded-proto')], `x-forwarded-proto is named in Connection, ${unknown} who wrote it`]
  ]],
  [{ hops: 3 }, [
    [xfp('https,http,http'), true], [xfp('http,http,https,ftp,x'), true], [xfp('"https,https, a ,b'), true],
    [xfp('http,http,http'), null], [xfp('https, http, https, https'), 'x-forwarded-proto is https, http, https, https: by proxy.hops: 3, value 3 from the right counts, which says plain HTTP'],
    [xfp('https, ftp, https, https'), 'x-forwarded-proto is https, ftp, https, https: value 3 from the right has to be https'],
    [xfp('https,https'), 'x-forwarded-proto is https,https: fewer values than proxy.hops: 3'], [xfp('https,,https'), 'x-forwarded-proto is https,,https: a value is empty'], [xfp('https,https, '), 'x-forwarded-proto is https,https,: a value is empty'],
    [xfp(',https,https'), 'x-forwarded-proto is ,https,https: a value is empty'], [xfp(''), 'x-forwarded-proto is empty'], [xfp(',https,http,http'), true]
  ]],
  [{ protocol: 'forwarded' }, [
    [forwarded('proto=https'), true], [forwarded('for=192.0.2.1;Proto="HTTPS";by=x, for=x;proto=https'), true], [forwarded('proto=https', 'proto=https'), true], [forwarded('for="a, \\"b\\\\";proto=https'), true],
    [forwarded('proto=http'), null], [forwarded('for=a;proto=http, for=b;proto=http'), null],
    [[], `forwarded ${missing}`], [xfp('https'), `forwarded is missing, but x-forwarded-proto is there: proxy.protocol: 'x-forwarded-proto', ${ifIt}`],
    [forwarded('for=a;proto=https, for=b'), 'forwarded is for=a;proto=https, for=b: each element has to have exactly one proto'], [forwarded('for="proto=https"'), 'forwarded is for="proto=https": each element has to have exactly one proto'],
    [forwarded('proto=http;proto=https'), 'forwarded is proto=http;proto=https: each element has to have exactly one proto'],
    [forwarded('proto=https, proto=http'), `forwarded is proto=https, proto=http: ${eachHttps}`], [forwarded('proto=https', 'proto=http'), `forwarded is proto=https, proto=http: ${eachHttps}`],
    [forwarded('proto=ftp'), 'forwarded is proto=ftp: it has to be https'], [forwarded('proto=https;'), 'forwarded is proto=https;: malformed (RFC 7239 §4)'], [forwarded('proto="https'), 'forwarded is proto="https: malformed (RFC 7239 §4)'],
    [forwarded('proto=https, '), 'forwarded is proto=https,: a value is empty'], [forwarded('https'), 'forwarded is https: malformed (RFC 7239 §4)'], [forwarded(''), 'forwarded is empty']
  ]],
  [{ protocol: 'forwarded', hops: 2 }, [
    [forwarded('proto=https, for=b'), true], [forwarded('proto=http, for="[2001:db8::1]:4711";proto=https;host="a, \\"b\\\\", for=b;proto=http'), true], [forwarded('for="a, b";=;proto, proto=https, x=y'), true],
    [forwarded(`${'"'.repeat(9_001)},proto=https, for=b`), true], [forwarded('proto="https";host="\\\\\\"", for="\\\\"'), true],
    [forwarded('proto=http, for=b'), null], [forwarded('proto=https, proto=http, for=b'), 'forwarded is proto=https, proto=http, for=b: by proxy.hops: 2, value 2 from the right counts, which says plain HTTP'],
    [forwarded('proto=https'), 'forwarded is proto=https: fewer values than proxy.hops: 2'], [forwarded('proto=https, for=a, for=b'), 'forwarded is proto=https, for=a, for=b: value 2 from the right has to have exactly one proto'],
    [forwarded('proto=https,,for=b'), 'forwarded is proto=https,,for=b: a value is empty'], [forwarded('proto=https, for=a b'), 'forwarded is proto=https, for=a b: malformed (RFC 7239 §4)'],
    [forwarded('proto=https, for=b"'), 'forwarded is proto=https, for=b": malformed (RFC 7239 §4)'], [forwarded('proto=https, for="b\\"'), 'forwarded is proto=https, for="b\\": malformed (RFC 7239 §4)'],
    [forwarded('proto=https', 'for=b'), `forwarded is there twice, ${unknown} which of the two the proxy wrote`]
  ]],
  [{ protocol: 'cloudfront' }, [
    [one('CloudFront-Forwarded-Proto', 'https'), true], [one('cloudfront-forwarded-proto', 'HTTPS, https'), true], [one('CloudFront-Forwarded-Proto', 'http'), null],
    [one('CloudFront-Forwarded-Proto', 'https', 'https'), `cloudfront-forwarded-proto is there twice, ${unknown} which of the two the proxy wrote`],
    [one('CloudFront_Forwarded_Proto', 'https'), `cloudfront-forwarded-proto ${notIncluded}`], [xfp('https'), `cloudfront-forwarded-proto ${notIncluded}`],
    [[...one('CloudFront-Forwarded-Proto', 'https'), connection('cloudfront-forwarded-proto')], `cloudfront-forwarded-proto is named in Connection, ${unknown} who wrote it`]
  ]],
  [{ protocol: 'azure' }, [
    [one('X-ARR-SSL', '2048|256|CN=Microsoft, O=x|CN=*.azurewebsites.net'), true], [one('x-arr-ssl', 'off'), true],
    [one('X-ARR-SSL', ''), 'x-arr-ssl is empty'], [one('X-ARR-SSL', 'a', 'a'), `x-arr-ssl is there twice, ${unknown} which of the two the proxy wrote`],
    [[], null], [xfp('http'), null], [one('X_ARR_SSL', 'x'), null], [xfp('https'), null],
    [[...one('X-ARR-SSL', 'a'), connection('close, x-arr-ssl')], `x-arr-ssl is named in Connection, ${unknown} who wrote it`]
  ]],
  [{ protocol: { header: 'X-Forwarded-Ssl', value: 'On' } }, [
    [one('X-Forwarded-Ssl', 'on'), true], [one('X-Forwarded-SSL', 'ON'), true], [one('X-Forwarded-Ssl', 'on, on'), true],
    [one('X-Forwarded-Ssl', 'off'), null], [one('X-Forwarded-Ssl', 'on, off'), 'x-forwarded-ssl is on, off: each value has to be on; with proxy.hops, one alone counts, from the right'],
    [one('X-Forwarded-Ssl', 'o'), 'x-forwarded-ssl is o: it has to be on'], [one('X-Forwarded-Ssl', 'https'), 'x-forwarded-ssl is https: it has to be on'], [one('X-Forwarded-Ssl', 'wss'), 'x-forwarded-ssl is wss: it has to be on'],
    [one('X-Forwarded-Ssl', 'on', 'on'), `x-forwarded-ssl is there twice, ${unknown} which of the two the proxy wrote`], [xfp('https'), `x-forwarded-ssl is missing, but x-forwarded-proto is there: proxy.protocol: 'x-forwarded-proto', ${ifIt}`]
  ]],
  [{ protocol: { header: 'x-forwarded-scheme', value: 'https' }, hops: 2 }, [
    [one('X-Forwarded-Scheme', 'https, http'), true], [one('X-Forwarded-Scheme', 'http, https, http'), true], [one('X-Forwarded-Scheme', 'https'), 'x-forwarded-scheme is https: fewer values than proxy.hops: 2']
  ]],
  [{ protocol: { header: 'X-Forwarded-Proto', value: 'HTTPS' } }, [[xfp('https', 'https'), true], [xfp('https'), true], [xfp('http', 'https'), `x-forwarded-proto is http, https: ${eachHttps}`]]],
  [{ protocol: { header: 'x-client-tls', present: true, value: undefined }, hops: undefined }, [[one('X-Client-TLS', 'TLSv1.3'), true], [[], null]]]
]

const named = (option: object, lines: Lines): string => `${JSON.stringify(option)} ${JSON.stringify(lines).slice(0, 99)}`

/** Lines of one name together, as clients of Node take them. */
function grouped (lines: Lines): Record<string, string[]> {
  const headers: Record<string, string[]> = {}
  for (const [name, value] of lines) (headers[name.toLowerCase()] ??= []).push(value)
  return headers
}

t.test('whatever proxies say it in, a client came over HTTPS only if they say so, and the log says what is wrong', async (t) => {
  for (const [option, rows] of ROWS) {
    const { port, log } = await serveHttp(t, { proxy: { trust: 'loopback', ...option } }, (app) => { app.get('/', { httpSecurity: { kind: 'rest' } }, async () => 'in') })
    for (const [lines, outcome] of rows) {
      const { status } = await ask({ port, headers: [['Host', 'a.test'], ...lines].flat() })
      t.equal(status, outcome === true ? 200 : 403, named(option, lines))
      if (outcome !== true) t.equal(log.findLast(({ msg }) => msg === 'http-security: request refused')?.forwarded, outcome ?? undefined, named(option, lines))
    }
  }
})

t.test('proxies say it over HTTP/2 as over HTTP/1.1', async (t) => {
  for (const [option, rows] of ROWS) {
    const app = Fastify({ http2: true })
    await app.register(httpSecurity, { proxy: { trust: 'loopback', ...option } })
    app.get('/', async () => 'in')
    const port = await listenOnFreePort(t, app)
    const session = http2.connect(`http://127.0.0.1:${port}`)
    t.teardown(() => session.destroy())
    for (const [lines, outcome] of rows) {
      // Connection does not exist there, and other clients would not send these octets
      if (lines.some(([name, value]) => name === 'Connection' || /[^ -~]/.test(value))) continue
      const { status } = await askHttp2(session, { ':path': '/', ...grouped(lines) })
      t.equal(status, outcome === true ? 200 : 403, named(option, lines))
    }
  }
})

t.test('proxies say it of a WebSocket upgrade, where wss is https', async (t) => {
  const upgraded = async (t: Test, option: Pick<ProxyOption, 'protocol' | 'hops'>): Promise<(lines: Lines) => Promise<number>> => {
    const { port } = await serveHttp(t, { proxy: { trust: 'loopback', ...option } }, async (app) => {
      await app.register(websocket)
      app.get('/', { websocket: true }, (socket) => { socket.send('in') })
    })
    return async (lines) => await new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: grouped(lines) as never })
      socket.once('open', () => { socket.terminate(); resolve(101) })
      socket.once('unexpected-response', (request, { statusCode }) => { request.destroy(); resolve(statusCode!) })
      socket.on('error', reject)
    })
  }
  for (const [option, rows] of ROWS) {
    const status = await upgraded(t, option)
    for (const [lines, outcome] of rows) {
      // The client writes a Connection of its own
      if (lines.some(([name, value]) => name === 'Connection' || /[^ -~]/.test(value))) continue
      const isWss = typeof outcome === 'string' && /^x-forwarded-proto is wss:/.test(outcome)
      t.equal(await status(lines), outcome === true || isWss ? 101 : 403, named(option, lines))
    }
  }
  for (const [option, lines, expected] of [
    [{}, xfp('wss, https'), 101], [{}, xfp('WSS'), 101], [{}, xfp('wss, ws'), 403], [{ hops: 1 }, xfp('ws, wss'), 101], [{ hops: 2 }, xfp('wss, ws'), 101],
    [{ protocol: 'forwarded' }, forwarded('proto=wss'), 101], [{ protocol: { header: 'x-scheme', value: 'https' } }, one('X-Scheme', 'wss'), 101], [{ protocol: { header: 'x-scheme', value: 'on' } }, one('X-Scheme', 'wss'), 403]
  ] as Array<[Pick<ProxyOption, 'protocol' | 'hops'>, Lines, number]>) t.equal(await (await upgraded(t, option))(lines), expected, named(option, lines))
})

t.test('options of the protocol that cannot be meant are errors', async (t) => {
  const message = async (proxy: Partial<ProxyOption>): Promise<string> => {
    const app = Fastify()
    t.teardown(() => app.close())
    return await app.register(httpSecurity, { proxy: { trust: 'loopback', ...proxy } }).then(() => '', (error: Error) => error.message.replace('options of fastify-http-security: proxy: ', ''))
  }
  const own = 'allowed: a header of its own, of letters, digits and hyphens, such as \'x-forwarded-ssl\''
  const either = 'protocol: allowed: either value, what the header says for HTTPS, or present: true, where it is there for HTTPS alone'
  for (const [proxy, expected] of [
    [{ protocol: 'x-forwarded-ssl' }, "protocol: 'x-forwarded-ssl' is not allowed; allowed: 'x-forwarded-proto', 'forwarded', 'cloudfront', 'azure', an object { header, value?, present? }"],
    [{ protocol: { header: 'x-a' } }, either], [{ protocol: { header: 'x-a', value: 'on', present: true } }, either],
    [{ protocol: { header: 'x-a', present: false } }, 'protocol: present: false is not allowed; allowed: true'],
    [{ protocol: { value: 'on' } }, 'protocol: header is missing'],
    [{ protocol: { header: 'x-a', values: 'on' } }, "protocol: unknown option 'values'; known are header, value, present. Did you mean 'value'?"],
    ...['x_forwarded_ssl', 'x a', 'Forwarded', 'Host', 'x-forwarded-host', 'connection', ''].map((header) => [{ protocol: { header, value: 'on' } }, `protocol: header: '${header}' is not allowed; ${own}`] as const),
    [{ protocol: { header: 'x-forwarded-proto', value: 'on' } }, `protocol: header: 'x-forwarded-proto' is not allowed; ${own}`], [{ protocol: { header: 'x-forwarded-proto', present: true } }, `protocol: header: 'x-forwarded-proto' is not allowed; ${own}`],
    ...['', ' ', 'on,on', 'o n', 'on\t', 'ön', '"on"'].map((value) => [{ protocol: { header: 'x-a', value } }, `protocol: value: ${value === 'on\t' ? "'on\\t'" : `'${value}'`} is not allowed; allowed: what the proxy says of HTTPS, without comma or space, such as 'on'`] as const),
    [{ protocol: { header: 'X-Forwarded-SSL', present: true } }, "protocol: present: x-forwarded-ssl may be there for plain HTTP, too; allowed: { header: 'x-forwarded-ssl', value: 'on' }"],
    [{ protocol: { header: 'cloudfront-forwarded-proto', present: true } }, "protocol: present: cloudfront-forwarded-proto may be there for plain HTTP, too; allowed: 'cloudfront'"],
    [{ protocol: { header: 'X-SSL-Client-Cert', value: 'on' }, certificate: 'nginx' }, "protocol: 'x-ssl-client-cert' is a header of the certificate"],
    [{ protocol: { header: 'X-SSL-Client-Verify', value: 'SUCCESS' }, certificate: 'nginx' }, "protocol: 'x-ssl-client-verify' is a header of the certificate"],
    [{ protocol: { header: 'client-cert-chain', present: true }, ca: pki.ca.cert, certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' } }, "protocol: 'client-cert-chain' is a header of the certificate"],
    [{ protocol: { header: 'x-ssl-client-cert', present: true }, certificate: 'apache' }, "protocol: 'x-ssl-client-cert' is a header of the certificate"],
    [{ protocol: 'azure', certificate: { header: 'x-arr-ssl', encoding: 'rfc9440', verified: 'presence' } }, "protocol: 'x-arr-ssl' is a header of the certificate"],
    [{ protocol: 'azure', hops: 1 }, 'hops: 1 has no effect: x-arr-ssl is there or not, and is no list; allowed: a protocol with values'],
    [{ protocol: { header: 'x-a', present: true }, hops: 2 }, 'hops: 2 has no effect: x-a is there or not, and is no list; allowed: a protocol with values'],
    [{ hops: 0 }, 'hops: 0 is not allowed; allowed: 1 to 10'], [{ hops: 11 }, 'hops: 11 is not allowed; allowed: 1 to 10'], [{ hops: 1.5 }, 'hops: 1.5 is not allowed; allowed: an integer'], [{ hops: '1' }, "hops: '1' is not allowed; allowed: an integer"]
  ] as Array<[Partial<ProxyOption>, string]>) t.equal(await message(proxy), expected, JSON.stringify(proxy))
  t.equal(await message({ protocol: { header: 'X-Forwarded-Proto', value: 'https' }, hops: 10 }), '')
})

t.test('the log warns once of a protocol that only the network makes true', async (t) => {
  for (const [option, expected] of [
    [{}, []], [{ hops: 1 }, []], [{ protocol: 'forwarded' }, []], [{ protocol: { header: 'x-forwarded-ssl', value: 'on' } }, []],
    [{ hops: 2 }, ['proxy.hops: 2']], [{ protocol: 'cloudfront' }, ["proxy.protocol: 'cloudfront'"]], [{ protocol: 'cloudfront', hops: 2 }, ["proxy.protocol: 'cloudfront' with proxy.hops: 2"]], [{ protocol: 'azure' }, ["proxy.protocol: 'azure'"]],
    [{ protocol: { header: 'CloudFront-Forwarded-Proto', value: 'https' } }, ["proxy.protocol: 'cloudfront'"]]
  ] as Array<[Partial<ProxyOption>, string[]]>) {
    const { log } = await serveHttp(t, { proxy: { trust: 'loopback', ...option } }, (app) => { app.get('/', async () => 'in') })
    t.strictSame(log.filter(({ level }) => level === 40).map(({ msg }) => msg), expected.map((relied) => `http-security: ${relied} holds only if each proxy takes requests from the one before alone, which only the network can guarantee: whoever else reaches one of them can claim to have come over HTTPS`), JSON.stringify(option))
  }
})

t.test('forwarding headers of an untrusted peer are ignored', async (t) => {
  const get = await behind(t, { trust: '192.0.2.1', host: 'x-forwarded-host' })
  t.equal(await get({ 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.test' }), 'https://app.internal/tls')
  const bare = await behind(t, undefined)
  t.equal(await bare({ 'x-forwarded-proto': 'https' }), 'https://app.internal/tls')
})

t.test('the log says which peer\'s header was ignored, since a wrong proxy.trust is an endless redirect', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: '10.0.0.0/8' } })
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  app.get('/api', { httpSecurity: { kind: 'rest' } }, async () => 'x')
  const headers = { 'x-forwarded-proto': 'https' }
  for (const url of ['/page', '/api']) await app.inject({ url, headers })
  await app.inject({ url: '/page', headers: { ...headers, host: 'a b' } })
  await app.inject({ url: '/page' })
  const ignored = 'x-forwarded-proto of 127.0.0.1, which is not in proxy.trust'
  t.match(log.filter(({ msg }) => msg.startsWith('http-security')), [
    { level: 30, msg: 'http-security: request redirected', route: '/page', ignored },
    { level: 30, msg: 'http-security: request refused', route: '/api', code: 'FST_HTTP_SECURITY_TLS_REQUIRED', ignored },
    { level: 30, msg: 'http-security: request refused', route: '/page', code: 'FST_HTTP_SECURITY_BAD_REQUEST', ignored, host: 'a b' }
  ])
  t.equal(log.filter(({ msg }) => msg.startsWith('http-security')).length, 3)
})

t.test('the log says what is wrong with a trusted proxy\'s header, since a missing one is an endless redirect', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'haproxy' } })
  app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'x')
  app.get('/api', { httpSecurity: { kind: 'rest', level: 'mtls' } }, async () => 'x')
  const said = async (url: string, headers: Record<string, string>): Promise<unknown[]> => {
    log.length = 0
    await app.inject({ url, headers })
    return log.filter(({ msg }) => msg.startsWith('http-security')).map(({ forwarded }) => forwarded)
  }
  const missing = 'x-forwarded-proto is missing: the proxy has to say how clients come'
  t.strictSame(await said('/page', {}), [missing])
  t.strictSame(await said('/api', {}), [missing])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'http' }), [], 'a redirect that is right is not worth a line')
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'http' }), [undefined])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'https, http' }), ['x-forwarded-proto is https, http: each value has to be https; with proxy.hops, one alone counts, from the right'])
  t.strictSame(await said('/page', { 'x-forwarded-proto': 'https', connection: 'x-forwarded-proto' }), ['x-forwarded-proto is named in Connection, so nobody knows who wrote it'])
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https' }), [undefined])
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https', 'x-ssl-client-cert': 'x' }), ['there is no client-cert, but x-ssl-client-cert, which proxy.certificate does not read'], 'another proxy than the one that was configured')
  t.strictSame(await said('/api', { 'x-forwarded-proto': 'https', 'client-cert': '', 'x-ssl-client-cert': 'x' }), [undefined])
})

t.test('a redirect behind a proxy goes to the host that proxy.host says', async (t) => {
  const get = await behind(t, { trust: 'loopback', host: 'x-forwarded-host' }, { redirect: { hosts: ['public.test', 'app.internal'] } })
  t.equal(await get({ 'x-forwarded-host': 'public.test' }), 'https://public.test/tls')
  t.equal(await get({ 'x-forwarded-host': 'public.test:8080' }), 'https://public.test/tls', 'never a listening port')
  t.equal(await get({}), 'https://app.internal/tls', 'a proxy that does not say it leaves Host as it is')
  for (const value of ['evil.test', 'public.test, evil.test', ['public.test', 'evil.test'], '', 'a b']) t.equal(await get({ 'x-forwarded-host': value }), '400 BAD_REQUEST', JSON.stringify(value))
  t.equal(await get({ 'x-forwarded-host': 'public.test', connection: 'close, X-Forwarded-Host' }), '400 BAD_REQUEST', 'named in Connection')
  const port = await behind(t, { trust: 'loopback' }, { redirect: { httpsPort: 8443 } })
  t.equal(await port({ 'x-forwarded-host': 'evil.test' }), 'https://app.internal:8443/tls')
})

t.test('TLS and certificate of a trusted proxy say nothing of its client', async (t) => {
  const proxyIdentity = await issue(pki.ca, { subject: 'CN=proxy' })
  const served = await serve(t, pki, (app, hit) => {
    app.get('/tls', async (request) => `${hit(request)} ${request.httpSecurity.secure} ${request.clientCertificateGetDetails().isPresent}`)
    app.get('/mtls', { httpSecurity: 'mtls' }, async (request) => hit(request))
    app.get('/none', { httpSecurity: 'none' }, async (request) => `${hit(request)} ${request.clientCertificateGetDetails().isPresent} ${request.clientCertificate === null} ${request.clientCertificateValue('SubjectCN') === ''}`)
  }, { options: { proxy: { trust: '127.0.0.1' } } })
  const code = ({ status, body }: Answer): string => `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
  t.equal(code(await served.secure('/tls', proxyIdentity)), '403 TLS_REQUIRED')
  t.equal(code(await served.secure('/mtls', proxyIdentity)), '403 TLS_REQUIRED')
  const headers = { 'x-forwarded-proto': 'https' }
  t.equal(code(await served.secure('/mtls', proxyIdentity, { headers })), '403 CERTIFICATE_REQUIRED')
  t.equal(code(await served.secure('/tls', proxyIdentity, { headers })), '200 reached true false')
  t.equal(code(await served.secure('/none', proxyIdentity)), '200 reached false true true')
  t.equal(code(await served.insecure('/tls', { headers })), '200 reached true false', 'over plain HTTP too')
  t.equal(served.log.filter(({ certificate }) => certificate !== undefined).length, 0, 'nor does the log take it for the client\'s')
})

t.test('an injected WebSocket has no socket, and is insecure', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'nginx' } })
  await app.register(websocket)
  app.get('/none', { httpSecurity: 'none', websocket: true }, (socket) => { socket.send('hello') })
  app.get('/mtls', { httpSecurity: 'mtls', websocket: true }, (socket) => { socket.send('hello') })
  await app.ready()
  const said = await new Promise((resolve, reject) => {
    app.injectWS('/none', {}, { onInit: (socket) => { socket.on('message', (data) => resolve(String(data))) } }).then((socket) => t.teardown(() => socket.terminate()), reject)
  })
  t.equal(said, 'hello')
  await t.rejects(app.injectWS('/mtls', { headers: { 'x-forwarded-proto': 'https', 'x-ssl-client-verify': 'SUCCESS' } }))
})

t.test('nothing of one client is remembered for the next on the same upstream connection', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback' } })
  app.get('/tls', async () => 'in')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const port = portOf(app)
  for (const protocol of ['https', 'http', 'https', undefined]) {
    const { status } = await ask({ port, path: '/tls', agent, headers: protocol === undefined ? {} : { 'x-forwarded-proto': protocol } })
    t.equal(status, protocol === 'https' ? 200 : 403, String(protocol))
  }
})

t.test('trust: \'unix\' trusts peers of a unix socket listener, and no others', async (t) => {
  const build = async (proxy: HttpSecurityOptions['proxy']): Promise<FastifyInstance> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(httpSecurity, { proxy })
    app.get('/tls', async () => 'in')
    return app
  }
  const headers = { 'x-forwarded-proto': 'https' }
  // The path of a unix socket has at most 107 bytes
  const dir = mkdtempSync(join(tmpdir(), 'unix-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'app.sock')
  const get = (options: http.RequestOptions): Promise<number> => new Promise((resolve, reject) => {
    http.get({ path: '/tls', headers, agent: false, ...options }, (response) => { response.resume(); resolve(response.statusCode!) }).on('error', reject)
  })

  const unix = await build({ trust: 'unix' })
  await unix.listen({ path })
  t.equal(await get({ socketPath: path }), 200)
  const beside = http.createServer((request, response) => unix.routing(request, response)).listen(0, '127.0.0.1')
  t.teardown(() => { beside.close(); beside.closeAllConnections() })
  await new Promise((resolve) => beside.once('listening', resolve))
  t.equal(await get({ port: portOf(beside), host: '127.0.0.1' }), 403, 'the same app by TCP')

  const other = await build({ trust: 'loopback' })
  await other.listen({ path: `${path}2` })
  t.equal(await get({ socketPath: `${path}2` }), 403, 'unless that is said, a unix socket is no proxy')
})

t.test('injected requests count as those of a client, unless they come from the address of a proxy', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback' } })
  app.get('/tls', async () => 'in')
  t.equal((await inject(app, { url: '/tls', headers: { 'x-forwarded-proto': 'https' } })).statusCode, 200)
  t.equal((await inject(app, { url: '/tls', remoteAddress: '192.0.2.1', headers: { 'x-forwarded-proto': 'https' } })).statusCode, 403)
  t.equal((await inject(app, { url: '/tls', secure: true })).statusCode, 200)
  t.equal((await inject(app, { url: '/tls', secure: true, remoteAddress: '127.0.0.1' })).statusCode, 403)
})

t.test('a re-encrypting proxy over HTTP/2 is trusted as over HTTP/1.1', async (t) => {
  const served = await serve(t, pki, (app, hit) => { app.get('/tls', async (request) => hit(request)) }, { http2: true, options: { proxy: { trust: '127.0.0.1' } } })
  const session = served.session(pki.client)
  t.equal((await askHttp2(session, { ':path': '/tls', 'x-forwarded-proto': 'https' })).status, 200)
  t.equal((await askHttp2(session, { ':path': '/tls' })).status, 403)
  t.equal((await new Promise<number>((resolve) => https.get({ host: '127.0.0.1', port: served.https, path: '/tls', ca: pki.ca.cert, agent: false }, (response) => { response.resume(); resolve(response.statusCode!) }))), 403)
})
