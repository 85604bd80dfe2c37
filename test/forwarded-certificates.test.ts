/**
 * Client certificates that a proxy forwards, with the proxy's words over real sockets. Real proxies: proxies.test.ts.
 */
import t, { type Test } from 'tap'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { type Answer, ask, askHttp2, askRaw } from './fixtures/ask.ts'
import { VerifiedCache } from '../lib/proxy/forwarded-certificate.ts'
import { derOf, escapePem, hashOf, isDescription, WHOLE_ENCODINGS, written, PRESETS, type Preset } from './fixtures/forward.ts'
import type { WholeEncoding as Encoding } from '../lib/proxy/presets.ts'
import { authority, issue, selfSigned } from './fixtures/pki.ts'
import { type LogLine, makePki, serve, serveHttp } from './fixtures/serve.ts'

const pki = await makePki()
const { ca, client: jane } = pki
const joe = await issue(ca, { subject: 'CN=Joe, O=Acme' })
const https = { 'x-forwarded-proto': 'https' }

type Headers = Record<string, string | string[]>
interface Behind {
  app: FastifyInstance
  port: number
  log: LogLine[]
  /** Names of those who got to the handler of an `mtls` route. */
  reached: string[]
  get (path: string, headers?: Headers, more?: object): Promise<Answer>
  /** The code of the refusal, or the body. */
  code (path: string, headers?: Headers, more?: object): Promise<string>
}

/** An app behind a proxy on loopback that speaks plain HTTP to it. */
async function behind (t: Test, proxy: Omit<NonNullable<HttpSecurityOptions['proxy']>, 'trust'> & { trust?: string }, options: HttpSecurityOptions = {}): Promise<Behind> {
  const reached: string[] = []
  // Large headers, lest Node refuse what we should
  const { app, port, log } = await serveHttp(t, { proxy: { trust: 'loopback', ...proxy }, ...options }, (app) => {
    const answer = (request: FastifyRequest): string => {
      const { isPresent, isValid, flags } = request.clientCertificateGetDetails()
      return JSON.stringify({ isPresent, isValid, flags, name: request.clientCertificateValue('SubjectCN'), leaf: request.clientCertificate?.subject ?? null })
    }
    app.get('/mtls', { httpSecurity: 'mtls' }, async (request) => { reached.push(request.clientCertificateValue('SubjectCN')); return answer(request) })
    app.post('/mtls', { httpSecurity: 'mtls' }, async (request) => { reached.push(request.clientCertificateValue('SubjectCN')); return answer(request) })
    app.get('/tls', async (request) => answer(request))
    app.post('/tls', async () => 'in')
    app.get('/none', { httpSecurity: 'none' }, async (request) => answer(request))
    app.post('/none', { httpSecurity: 'none' }, async () => 'in')
    app.get('/plain', { httpSecurity: 'tls' }, async () => 'in')
    app.get('/shared', { httpSecurity: 'mtls' }, async (_request, reply) => { reply.header('Cache-Control', 'max-age=60').header('vary', 'Accept'); return 'in' })
    app.get('/shared-raw', { httpSecurity: 'mtls' }, (_request, reply) => { reply.hijack(); reply.raw.setHeader('cache-control', 'max-age=60'); reply.raw.writeHead(200, 'fine'); reply.raw.end('in') })
    app.get('/shared-list', { httpSecurity: 'mtls' }, (_request, reply) => { reply.hijack(); reply.raw.writeHead(200, ['Cache-Control', 'max-age=60', 'Vary', 'Accept', 'Vary', 'Origin']); reply.raw.end('in') })
    app.get('/shared-pairs', { httpSecurity: 'mtls' }, (_request, reply) => { reply.hijack(); reply.raw.writeHead(200, [['Cache-Control', 'max-age=60'], ['X-Other', 'x']] as never); reply.raw.end('in') })
    app.get('/control', { httpSecurity: 'mtls' }, async (request, reply) => { reply.header('cache-control', decodeURIComponent(request.url.split('?')[1]!)); return 'in' })
    app.get('/targeted', { httpSecurity: 'mtls' }, async (_request, reply) => {
      reply.raw.setHeader('Surrogate-Control', 'max-age=60')
      reply.header('X-Accel-Expires', '60').header('CDN-Cache-Control', 'max-age=60').header('Cloudflare-CDN-Cache-Control', 'max-age=60').header('Edge-Control', 'max-age=60').header('x-other', 'kept')
      return 'in'
    })
    app.get('/twice', { httpSecurity: 'mtls' }, (_request, reply) => { reply.hijack(); reply.raw.writeHead(200, { 'Cache-Control': 'public;x', vary: 'Accept', 'cache-control': 'private, max-age=60', Vary: 'Origin' }); reply.raw.end('in') })
    app.get('/shared-frozen', { httpSecurity: 'mtls' }, (_request, reply) => { reply.hijack(); reply.raw.writeHead(200, Object.freeze({ 'CACHE-CONTROL': 'max-age=60' })); reply.raw.end('in') })
    app.get('/private', { httpSecurity: 'mtls' }, async (_request, reply) => { reply.header('cache-control', 'private, no-store'); return 'in' })
  }, { http: { maxHeaderSize: 128 * 1024 } })
  const get: Behind['get'] = (path, headers = {}, more = {}) => ask({ port, path, headers: { ...https, ...headers }, ...more })
  const code: Behind['code'] = async (...args) => {
    const { status, body } = await get(...args)
    return status === 200 ? 'in' : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
  }
  return { app, port, log, reached, get, code }
}

/** What a proxy of a preset says of a client. */
function sayingOf (preset: Preset, pem: string, verdict?: string): Headers {
  const { header, encoding, verified } = PRESETS[preset]
  return { [header]: written[encoding](pem), ...typeof verified === 'object' && { [verified.header]: verdict ?? verified.value } }
}

t.test('with every proxy preset, the holder of a valid certificate is admitted by name', async (t) => {
  for (const preset of Object.keys(PRESETS) as Preset[]) {
    const { encoding, verified } = PRESETS[preset]
    // See described-certificates.test.ts.
    if (isDescription(encoding)) continue
    const { get, code, reached } = await behind(t, { certificate: preset, ...verified === 'here' && { ca: ca.cert } })
    const { body } = await get('/mtls', sayingOf(preset, jane.cert))
    t.strictSame(JSON.parse(body), { isPresent: true, isValid: true, flags: 1, name: 'Jane', leaf: 'O=Acme\nCN=Jane'.split('\n').reverse().join('\n') }, preset)
    t.strictSame(JSON.parse((await get('/tls', sayingOf(preset, joe.cert))).body).name, 'Joe', `${preset}, on a route that does not ask for it`)
    t.equal(await code('/mtls'), '403 CERTIFICATE_REQUIRED', `${preset}, no client certificate`)
    const expired = (await issue(ca, { subject: 'CN=Joe', days: [-2, -1] })).cert
    t.equal(await code('/mtls', sayingOf(preset, expired)), '403 CERTIFICATE_EXPIRED', `${preset}, whatever the proxy says of dates`)
    t.equal(await code('/mtls', sayingOf(preset, (await issue(ca, { days: [1, 2] })).cert)), '403 CERTIFICATE_NOT_YET_VALID', preset)
    t.equal(await code('/mtls', { ...sayingOf(preset, jane.cert), 'x-forwarded-proto': 'http' }), '403 TLS_REQUIRED', `${preset}, over HTTP`)
    t.strictSame(JSON.parse((await get('/none', { ...sayingOf(preset, jane.cert), 'x-forwarded-proto': 'http' })).body).isPresent, false, `${preset}: over HTTP there is no certificate`)
    if (verified === 'here') {
      t.equal(await code('/mtls', sayingOf(preset, (await selfSigned()).cert)), '403 CERTIFICATE_UNTRUSTED', preset)
      t.equal(await code('/mtls', sayingOf(preset, (await issue(await authority('Test CA'))).cert)), '403 CERTIFICATE_UNTRUSTED', `${preset}: a look-alike`)
      t.equal(await code('/mtls', sayingOf(preset, (await issue(ca, { purpose: 'server' })).cert)), '403 CERTIFICATE_INVALID', preset)
    }
    t.strictSame(reached, ['Jane'], preset)
  }
})

t.test('details of a forwarded certificate are those of a direct connection, but for the server\'s', async (t) => {
  const direct = await serve(t, pki, (app) => { app.get('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateGetDetails()) })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate: 'nginx' } })
  app.get('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateGetDetails())
  const forwarded = JSON.parse((await app.inject({ url: '/', headers: { ...https, ...sayingOf('nginx', jane.cert) } })).body)
  t.strictSame(forwarded, { ...JSON.parse((await direct.secure('/', jane)).body), serverSubject: '', serverIssuer: '' })
})

t.test('the Client-Cert example of RFC 9440 is read, and nothing that differs from its format', async (t) => {
  const vectors = JSON.parse(readFileSync(new URL('fixtures/rfc9440.json', import.meta.url), 'utf8'))
  const now = Date.now
  t.teardown(() => { Date.now = now })
  // The example's leaf was valid for a year
  Date.now = () => Date.UTC(2020, 5, 1)
  const { code, get } = await behind(t, { certificate: { header: 'Client-Cert', encoding: 'rfc9440', verified: 'here' }, ca: vectors.pem[2] })
  const example = { 'client-cert': vectors['client-cert'], 'client-cert-chain': vectors['client-cert-chain'] }
  t.equal(await code('/mtls', { 'client-cert': vectors['client-cert'] }), '403 CERTIFICATE_UNTRUSTED', 'without its intermediate')
  t.equal(JSON.parse((await get('/mtls', example)).body).name, 'BC')
  t.equal(await code('/mtls', { ...example, 'client-cert-chain': vectors['client-cert-chain'].replaceAll(', ', ',') }), 'in', 'the space of a list is optional')
  t.equal(await code('/mtls', { 'client-cert': vectors['client-cert'] }), 'in', 'without its intermediate, which is known by now')
  const text = vectors['client-cert'] as string
  for (const [name, value] of Object.entries({
    'no padding': text.replace('=:', ':'),
    'more padding': text.replace('=:', '==:'),
    'another alphabet': text.replaceAll('+', '-').replaceAll('/', '_'),
    'white space inside': `${text.slice(0, 40)} ${text.slice(40)}`,
    'white space within the colons': text.replace(':', ': '),
    parameters: `${text};a=1`,
    'several items': `${text}, ${text}`,
    'no colon before': text.slice(1),
    'no colon after': text.slice(0, -1),
    'colons within': text.replace('MIIB', 'MIIB:'),
    nothing: '::',
    'a string': `"${text.slice(1, -1)}"`,
    'odd last bits': text.replace('hk=:', 'hl=:'),
    PEM: written['url-pem'](vectors.pem[0]),
    'one byte more': `:${Buffer.concat([derOf(vectors.pem[0]), Buffer.of(0)]).toString('base64')}:`,
    'one byte less': `:${derOf(vectors.pem[0]).subarray(0, -1).toString('base64')}:`,
    'two certificates in one': `:${Buffer.concat([derOf(vectors.pem[0]), derOf(vectors.pem[1])]).toString('base64')}:`,
    'PEM in base64': `:${Buffer.from(vectors.pem[0]).toString('base64')}:`
  })) t.equal(await code('/mtls', { ...example, 'client-cert': value }), '400 BAD_REQUEST', name)
  for (const [name, value] of Object.entries({
    'not a list': vectors['client-cert-chain'].replace(', ', ' '),
    'an empty member': vectors['client-cert-chain'].replace(', ', ', , '),
    'nothing at all': '',
    'parameters in it': vectors['client-cert-chain'].replace(', ', ';a, '),
    'more than five in all': Array(5).fill(text).join(', '),
    'more than 16 KiB': `:${Buffer.alloc(16 * 1024).toString('base64')}:`
  })) t.equal(await code('/mtls', { ...example, 'client-cert-chain': value }), '400 BAD_REQUEST', `the chain: ${name}`)
  t.equal(await code('/mtls', { ...example, 'client-cert': [text, text] }), '400 BAD_REQUEST', 'two lines')
  t.equal(await code('/mtls', { ...example, 'client-cert-chain': [example['client-cert-chain'], example['client-cert-chain']] }), '400 BAD_REQUEST', 'two lines of the chain')
  Date.now = now
  t.equal(await code('/mtls', example), '403 CERTIFICATE_EXPIRED', 'today, though it was taken before')
})

t.test('contradicting or empty certificate headers are no certificate', async (t) => {
  const proxies = Object.fromEntries(await Promise.all((['nginx', 'haproxy', 'apache', 'caddy'] as const).map(async (preset) =>
    [preset, await behind(t, { certificate: preset, ...preset === 'caddy' && { ca: ca.cert } })] as const)))
  const saying = (preset: Preset, verdict?: string): Headers => sayingOf(preset, jane.cert, verdict)
  const cert = 'x-ssl-client-cert'
  const verify = 'x-ssl-client-verify'
  const cases: Array<[preset: string, headers: Headers, answer: string, name: string]> = [
    ['nginx', { [verify]: 'SUCCESS' }, '403 CERTIFICATE_REQUIRED', 'a verdict without a certificate'],
    ['nginx', { [cert]: '', [verify]: 'SUCCESS' }, '403 CERTIFICATE_REQUIRED', 'an empty one with a verdict'],
    ['nginx', { [cert]: '', [verify]: 'NONE' }, '403 CERTIFICATE_REQUIRED', 'no certificate'],
    ['nginx', { [cert]: written['url-pem'](jane.cert) }, '400 BAD_REQUEST', 'no verdict'],
    ['nginx', saying('nginx', ''), '403 CERTIFICATE_INVALID', 'an empty verdict'],
    ['nginx', saying('nginx', 'success'), '403 CERTIFICATE_INVALID', 'another case'],
    ['nginx', saying('nginx', 'SUCCESSFUL'), '403 CERTIFICATE_INVALID', 'more than the verdict'],
    ['nginx', saying('nginx', 'NONE'), '403 CERTIFICATE_INVALID', 'a certificate with the verdict that there is none'],
    ['nginx', saying('nginx', 'FAILED:certificate has expired'), '403 CERTIFICATE_EXPIRED', 'nginx'],
    ['nginx', saying('nginx', 'FAILED:certificate revoked'), '403 CERTIFICATE_REVOKED', 'nginx'],
    ['nginx', saying('nginx', 'FAILED:self signed certificate'), '403 CERTIFICATE_UNTRUSTED', 'nginx with OpenSSL 1.1'],
    ['nginx', saying('nginx', 'FAILED:self-signed certificate'), '403 CERTIFICATE_UNTRUSTED', 'nginx'],
    ['nginx', saying('nginx', 'FAILED:unable to verify the first certificate'), '403 CERTIFICATE_UNTRUSTED', 'nginx'],
    ['nginx', saying('nginx', 'FAILED:unsuitable certificate purpose'), '403 CERTIFICATE_INVALID', 'nginx'],
    ['nginx', { ...saying('nginx'), [verify]: ['FAILED:certificate has expired', 'SUCCESS'] }, '400 BAD_REQUEST', 'two verdicts'],
    ['nginx', { ...saying('nginx'), [verify]: ['SUCCESS', 'SUCCESS'] }, '400 BAD_REQUEST', 'the same one twice'],
    ['nginx', { ...saying('nginx'), [cert]: [written['url-pem'](jane.cert), written['url-pem'](joe.cert)] }, '400 BAD_REQUEST', 'two certificates'],
    ['nginx', { ...saying('nginx'), [cert]: ['', written['url-pem'](joe.cert)] }, '400 BAD_REQUEST', 'one and an empty one'],
    ['nginx', { ...saying('nginx'), connection: 'close, X-SSL-Client-Verify' }, '403 CERTIFICATE_REQUIRED', 'the verdict named in Connection'],
    ['nginx', { ...saying('nginx'), connection: `${cert}, close` }, '403 CERTIFICATE_REQUIRED', 'the certificate named in Connection'],
    ['nginx', { ...saying('nginx'), connection: ['close', cert] }, '403 CERTIFICATE_REQUIRED', 'in a second line of it'],
    ['nginx', { ...saying('nginx'), connection: 'close, x-ssl-client-certificate' }, 'in', 'another header named in Connection'],
    ['nginx', { ...saying('nginx'), connection: 'x-forwarded-proto, close' }, '403 TLS_REQUIRED', 'X-Forwarded-Proto named in Connection'],
    ['nginx', { x_ssl_client_cert: written['url-pem'](jane.cert), x_ssl_client_verify: 'SUCCESS' }, '403 CERTIFICATE_REQUIRED', 'underscores'],
    ['nginx', { ...saying('nginx', 'NONE'), x_ssl_client_verify: 'SUCCESS' }, '403 CERTIFICATE_INVALID', 'a verdict with underscores'],
    ['nginx', { 'X-SSL-Client-Cert': written['url-pem'](jane.cert), 'X-Ssl-Client-Verify': 'SUCCESS' }, 'in', 'names have no case'],
    ['nginx', { [cert]: `${written['url-pem'](jane.cert)}%0A`, [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'one newline too many'],
    ['nginx', { [cert]: written['url-pem'](jane.cert).replace(/%0A$/, ''), [verify]: 'SUCCESS' }, 'in', 'without the last newline'],
    ['nginx', { [cert]: written['url-pem'](jane.cert).replaceAll('%2B', '%2b').replace('%0A', '%0a'), [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'another way to percent-encode'],
    ['nginx', { [cert]: written['url-pem'](jane.cert).replaceAll('%0A', ''), [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'all on one line'],
    ['nginx', { [cert]: jane.cert.replaceAll('\n', ' '), [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'PEM that is not encoded'],
    ['nginx', { [cert]: `x${written['url-pem'](jane.cert)}`, [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'something before it'],
    ['nginx', { [cert]: written['url-pem'](jane.cert + joe.cert), [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'two in one'],
    ['nginx', { [cert]: 'garbage', [verify]: 'FAILED:certificate has expired' }, '400 BAD_REQUEST', 'garbage, refused anyway'],
    ['haproxy', { [verify]: '0' }, '403 CERTIFICATE_REQUIRED', 'HAProxy says 0 without a certificate, too'],
    ['haproxy', { 'client-cert': '', [verify]: '0' }, '403 CERTIFICATE_REQUIRED', 'an empty header'],
    ['haproxy', { 'client-cert': '::', [verify]: '0' }, '400 BAD_REQUEST', 'an empty byte sequence'],
    ['haproxy', saying('haproxy', '10'), '403 CERTIFICATE_EXPIRED', 'HAProxy'],
    ['haproxy', saying('haproxy', '18'), '403 CERTIFICATE_UNTRUSTED', 'HAProxy'],
    ['haproxy', saying('haproxy', '23'), '403 CERTIFICATE_REVOKED', 'HAProxy'],
    ['haproxy', saying('haproxy', '00'), '403 CERTIFICATE_INVALID', 'not exactly 0'],
    ['apache', { [cert]: '(null)', [verify]: 'NONE' }, '403 CERTIFICATE_REQUIRED', 'Apache, no certificate'],
    ['apache', { [cert]: '(null)', [verify]: 'SUCCESS' }, '403 CERTIFICATE_REQUIRED', 'Apache, no certificate, successfully'],
    ['apache', saying('apache', 'GENEROUS'), '403 CERTIFICATE_UNTRUSTED', 'Apache, optional_no_ca'],
    ['apache', saying('apache', '(null)'), '403 CERTIFICATE_INVALID', 'Apache, no verdict'],
    ['apache', { [cert]: written['pem-spaces'](jane.cert).replaceAll(' ', '  '), [verify]: 'SUCCESS' }, '400 BAD_REQUEST', 'more white space'],
    ['caddy', { [cert]: '{http.request.tls.client.certificate_der_base64}' }, '403 CERTIFICATE_REQUIRED', 'Caddy, no certificate'],
    ['caddy', { [cert]: '{x}{y}' }, '400 BAD_REQUEST', 'no placeholder'],
    ['caddy', { [cert]: `${written['base64-der'](jane.cert)},${written['base64-der'](joe.cert)}` }, '400 BAD_REQUEST', 'a list that is no chain'],
    ['caddy', { [cert]: `${written['base64-der'](jane.cert)},${written['base64-der'](ca.cert)}` }, 'in', 'a chain']
  ]
  for (const [preset, headers, answer, name] of cases) t.equal(await proxies[preset]!.code('/mtls', headers), answer, `${preset}: ${name}`)
  for (const [preset, headers, answer, name] of cases) {
    const { status, body } = await proxies[preset]!.get('/tls', headers)
    if (headers.connection === 'x-forwarded-proto, close') continue
    t.equal(status, 200, `${preset}: ${name}: nothing is asked for, and nothing is refused`)
    t.equal(JSON.parse(body).isValid, answer === 'in', `${preset}: ${name}`)
  }
  const { body } = await proxies.nginx!.get('/tls', saying('nginx', 'FAILED:unable to verify the first certificate'))
  t.strictSame(JSON.parse(body), { isPresent: true, isValid: false, flags: 3, name: '', leaf: null }, 'what is not valid is told of, and no more')
})

t.test('the log says what was wrong with a forwarded certificate', async (t) => {
  const { get, log } = await behind(t, { certificate: 'nginx' })
  await get('/mtls', { ...sayingOf('nginx', jane.cert), 'x-ssl-client-verify': `FAILED:${'x'.repeat(300)}` })
  await get('/mtls', { 'x-ssl-client-cert': 'x', 'x-ssl-client-verify': 'SUCCESS' })
  await get('/mtls', { 'x-ssl-client-cert': ['x', 'y'] })
  await get('/mtls', { 'x-ssl-client-cert': 'x', connection: 'close, x-ssl-client-cert' })
  await get('/mtls', { 'x-ssl-client-cert': 'x' })
  await get('/mtls')
  const lines = log.filter(({ msg }) => msg.startsWith('http-security'))
  t.match(lines[0], { code: 'FST_HTTP_SECURITY_CERTIFICATE_INVALID', certificate: { subject: 'CN=Jane, O=Acme', error: /^x-ssl-client-verify is FAILED:x{98}…$/ } })
  t.strictSame(lines.slice(1).map(({ forwarded }) => forwarded), [
    'x-ssl-client-cert is not exactly a certificate in url-pem', 'x-ssl-client-cert is there twice',
    'x-ssl-client-cert is named in Connection, so nobody knows who wrote it', 'x-ssl-client-verify is missing', undefined
  ])
})

t.test('what proxies write in the field is read exactly, or the log says what it is', async (t) => {
  const intermediate = await issue(ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const ann = await issue(intermediate, { subject: 'CN=Ann' })
  const another = await authority('Another CA')
  const [pem, der] = [jane.cert, derOf(jane.cert)]
  const base64 = der.toString('base64')
  const cas = [ca, intermediate, another].map(({ cert }) => written['base64-der'](cert))
  const [root, middle, extra] = cas
  const anns = written['base64-der'](ann.cert)
  // Go's url.QueryEscape
  const escaped = (text: string): string => text.replaceAll('+', '%2B').replaceAll('/', '%2F').replaceAll('=', '%3D')
  const onOneLine = (space: string, newline: string, text = base64): string => `-----BEGIN${space}CERTIFICATE-----${newline}${text}${newline}-----END${space}CERTIFICATE-----`
  const as = (encoding: Encoding): string => `is in another encoding: it is written as ${encoding}; set encoding: '${encoding}'`
  const inexact = (encoding: Encoding): string => `is not exactly a certificate in ${encoding}`
  const quotes = 'is in double quotes: the proxy has to write it without them (HAProxy: without %{+Q})'
  const colons = 'has no colons around its base64 (RFC 9440 §2.2). In HAProxy: ":%[ssl_c_der,base64]:"'
  const together = 'holds several certificates in one base64: each has to be encoded by itself'
  const unbroken = 'is PEM without line breaks before and after its base64 (RFC 7468 §2)'
  const trusted = pem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE')
  const pkcs7 = Buffer.concat([Buffer.from('3082', 'hex'), Buffer.of((der.length + 15) >> 8, (der.length + 15) & 255), Buffer.from('06092a864886f70d010702a08200', 'hex'), Buffer.of(0), der])
  const lf = (text: string, newline: string): string => text.trim().replaceAll('\n', newline)
  const NAME = 'Jane'
  const NONE = '403 CERTIFICATE_REQUIRED'
  const cases: ReadonlyArray<readonly [Encoding, value: string, answer: string, why: string]> = [
    ['base64-der', escaped(base64), NAME, 'Traefik before 2.9.2'],
    ['base64-der', `${escaped(anns)},${escaped(middle!)}`, 'Ann', 'with a chain'],
    ['base64-der', `${escaped(anns)}%2C${escaped(middle!)}`, inexact('base64-der'), 'no version escapes the comma'],
    ['base64-der', `${escaped(anns)},${middle!}`, inexact('base64-der'), 'escaped in part'],
    ['base64-der', escaped(base64).toLowerCase(), inexact('base64-der'), 'another case'],
    ['base64-der', escaped(base64).replaceAll(/%../g, (code) => code.toLowerCase()), 'has small letters in its percent-encoding (RFC 3986 §2.1): %2f, where it has to be %2F', 'in small letters'],
    ['base64-der', `"${base64}"`, NAME, 'HAProxy with %{+Q}'],
    ['base64-der', `"${escaped(base64)}"`, quotes, 'both'],
    ['base64-der', `"${anns}","${middle!}"`, inexact('base64-der'), 'a list of quoted ones'],
    ['base64-der', `"${anns},${middle!}"`, quotes, 'a quoted list'],
    ['base64-der', `"${base64}`, inexact('base64-der'), 'one quote'],
    ['base64-der', '"', inexact('base64-der'), 'nothing but a quote'],
    ['base64-der', `${anns},${middle!}`, 'Ann', 'a chain'],
    ['base64-der', `${anns},${extra!},${root!},${middle!}`, 'Ann', 'out of order, with another CA'],
    ['base64-der', `${anns},${anns},${middle!}`, 'Ann', 'itself again'],
    ['base64-der', `${middle!},${anns}`, 'lists two clients: the proxy has to overwrite what clients send, not to append to it', 'the issuer first'],
    ['base64-der', `${base64},${written['base64-der'](joe.cert)}`, 'lists two clients: the proxy has to overwrite what clients send, not to append to it', 'what a client sent, and a proxy has appended to'],
    ['base64-der', `${anns},${middle!},MAA=`, inexact('base64-der'), 'a chain that ends in none'],
    ['base64-der', Array(6).fill(root).join(','), inexact('base64-der'), 'six'],
    ['base64-der', Buffer.concat([derOf(ann.cert), derOf(intermediate.cert)]).toString('base64'), together, 'a chain as one DER blob (HAProxy: ssl_c_chain_der)'],
    ['base64-der', Buffer.concat([der, Buffer.of(0)]).toString('base64'), inexact('base64-der'), 'a byte more'],
    ['base64-der', pkcs7.toString('base64'), 'is PKCS #7, where it has to be the certificate itself', 'PKCS #7'],
    ['base64-der', Buffer.from(pem).toString('base64'), 'is base64 of PEM, where it has to be of DER', 'PEM in base64'],
    ['base64-der', escapePem(pem), as('url-pem'), 'PEM'],
    ['base64-der', written['pem-spaces'](pem), as('pem-spaces'), 'PEM'],
    ['base64-der', written['url-pem-aws'](pem), as('url-pem-aws'), 'PEM'],
    ['base64-der', written.rfc9440(pem), as('rfc9440'), 'RFC 9440'],
    ['base64-der', written.xfcc(pem), as('xfcc'), 'Envoy'],
    ['base64-der', 'By=spiffe://a', inexact('base64-der'), 'Envoy, without a certificate'],
    ['base64-der', 'AAAA', inexact('base64-der'), 'base64 of something'],
    ['base64-der', `${escapePem(pem)}${'%0A'.repeat(3_000)}`, inexact('base64-der'), 'PEM and much behind it'],
    ['rfc9440', base64, colons, 'without colons'],
    ['rfc9440', `"${base64}"`, colons, 'quoted, without colons'],
    ['rfc9440', `":${base64}:"`, quotes, 'quoted'],
    ['rfc9440', `:${anns}:, :${middle!}:`, 'holds several certificates, where rfc9440 has one', 'the chain'],
    ['rfc9440', `:${Buffer.concat([derOf(ann.cert), derOf(intermediate.cert)]).toString('base64')}:`, together, 'a chain as one DER blob'],
    ['rfc9440', Buffer.concat([derOf(ann.cert), derOf(intermediate.cert)]).toString('base64'), together, 'that without colons'],
    ['rfc9440', escapePem(pem), as('url-pem'), 'PEM'],
    ['url-pem', onOneLine('%20', '%0A', escaped(base64)), NAME, 'base64 on one line'],
    ['url-pem', `${onOneLine('%20', '%0A', escaped(base64))}%0A`, NAME, 'and a newline'],
    ['url-pem', `${onOneLine('%20', '%0A', escaped(base64))}%0A%0A`, inexact('url-pem'), 'and two'],
    ['url-pem', escapePem(pem).replace(/^(.*?%0A.*?)%0A/, '$1'), inexact('url-pem'), 'a line of more than 64'],
    ['url-pem', onOneLine('%20', '', escaped(base64)), unbroken, 'all on one line'],
    ['url-pem', onOneLine(' ', ''), unbroken, 'all on one line, not encoded'],
    ['url-pem', lf(pem, ' '), as('pem-spaces'), 'PEM with spaces'],
    ['url-pem', base64, as('base64-der'), 'base64'],
    ['url-pem', Buffer.from(pem).toString('base64'), 'is base64 of PEM, where it has to be of DER', 'PEM in base64'],
    ['url-pem', `"${escapePem(pem)}"`, quotes, 'quoted'],
    ['url-pem', escapePem(pem + joe.cert), 'holds several certificates, where url-pem has one', 'two in one'],
    ['url-pem', escapePem(pem).replaceAll(/%../g, (code) => code.toLowerCase()), 'has small letters in its percent-encoding (RFC 3986 §2.1): %2f, where it has to be %2F', 'in small letters'],
    ['url-pem', escapePem(pem).replaceAll('%0A', '%0D%0A'), 'has line breaks of two characters, %0D%0A, where they have to be %0A', 'CRLF'],
    ['url-pem', escapePem(pem).replaceAll('%20', '+'), 'has + for its spaces, as forms are encoded, where they have to be %20', 'a form'],
    ['url-pem', escapePem(trusted), 'is PEM of TRUSTED CERTIFICATE, not of CERTIFICATE', 'what only OpenSSL reads'],
    ['url-pem', escapePem(pem.replaceAll('CERTIFICATE', 'PKCS7')), 'is PEM of PKCS7, not of CERTIFICATE', 'PKCS #7'],
    ['url-pem', escapePem(pkcs7.toString('base64')), inexact('url-pem'), 'neither'],
    ['url-pem-aws', onOneLine('%20', '%0A'), NAME, 'base64 on one line'],
    ['url-pem-aws', written['url-pem-aws'](pem + another.cert + ca.cert), NAME, 'a chain, out of order'],
    ['url-pem-aws', written['url-pem-aws'](pem + joe.cert), 'lists two clients: the proxy has to overwrite what clients send, not to append to it', 'two clients'],
    ['url-pem-aws', escapePem(pem), as('url-pem'), 'all percent-encoded'],
    ['pem-spaces', onOneLine(' ', ' '), NAME, 'base64 on one line'],
    ['pem-spaces', onOneLine(' ', ''), unbroken, 'all on one line'],
    ['pem-spaces', escapePem(pem), as('url-pem'), 'nginx'],
    ['pem-spaces', base64, as('base64-der'), 'base64'],
    ['pem-spaces', lf(pem + joe.cert, ' '), 'holds several certificates, where pem-spaces has one', 'two in one'],
    ['pem-spaces', lf(pem, '\t'), inexact('pem-spaces'), 'tabs'],
    ['pem-spaces', lf(trusted, ' '), 'is PEM of TRUSTED CERTIFICATE, not of CERTIFICATE', 'what only OpenSSL reads'],
    ['xfcc', escapePem(pem), as('url-pem'), 'PEM'],
    ['xfcc', `Hash=${hashOf(pem)};Cert="${onOneLine('%20', '%0A', escaped(base64))}"`, inexact('xfcc'), 'not as Envoy writes it'],
    ...(['rfc9440', 'base64-der', 'url-pem', 'url-pem-aws', 'pem-spaces', 'xfcc'] as const).flatMap((encoding) => [
      [encoding, '""', NONE, 'HAProxy with %{+Q}, without a certificate'] as const,
      [encoding, '""""', inexact(encoding), 'two of them'] as const
    ])
  ]
  const apps = new Map<Encoding, Behind>()
  for (const encoding of WHOLE_ENCODINGS) apps.set(encoding, await behind(t, { certificate: { header: 'x-cert', encoding, verified: 'here' }, ca: ca.cert }))
  for (const [encoding, value, expected, why] of cases) {
    const { get, log } = apps.get(encoding)!
    log.length = 0
    const { status, body } = await get('/mtls', { 'x-cert': value })
    const { name, code } = JSON.parse(body)
    const refusal = log.find(({ msg }) => msg === 'http-security: request refused')
    const answer = status === 200 ? name : status === 403 ? `403 ${/FST_HTTP_SECURITY_(\w+)/.exec(code)![1]}` : `${status} ${String(refusal?.forwarded)}`
    t.equal(answer, /^(?:\w+|403 .*)$/.test(expected) ? expected : `400 x-cert ${expected}`, `${encoding}: ${why}`)
  }

  const chained = await behind(t, { certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca: ca.cert })
  for (const [chain, sentence] of [
    [`:${middle!}:;a`, 'client-cert-chain is not exactly a list of certificates (RFC 9440 §2.3)'],
    [Array(5).fill(`:${middle!}:`).join(', '), 'client-cert holds more than 5 certificates, with those of its chain'],
    [`:${Buffer.alloc(16 * 1024).toString('base64')}:`, 'client-cert holds more than 16 KiB of certificates, with those of its chain'],
    [':MAA=:', 'client-cert is not exactly a certificate in rfc9440']
  ] as const) {
    chained.log.length = 0
    t.equal((await chained.get('/mtls', { 'client-cert': `:${anns}:`, 'client-cert-chain': chain })).status, 400)
    t.equal(chained.log.find(({ forwarded }) => forwarded !== undefined)?.forwarded, sentence)
  }
})

t.test('X-Forwarded-Client-Cert of Envoy is read', async (t) => {
  const certificate = { header: 'x-forwarded-client-cert', encoding: 'xfcc', verified: 'presence' } as const
  const one = await behind(t, { certificate })
  const two = await behind(t, { certificate: { ...certificate, hops: 2 } })
  const name = async ({ get }: Behind, value: string | string[]): Promise<string> => {
    const { status, body } = await get('/mtls', { 'x-forwarded-client-cert': value })
    return status === 200 ? JSON.parse(body).name : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)![1]}`
  }
  const [janes, joes] = [written.xfcc(jane.cert), written.xfcc(joe.cert)]
  const cert = (pem: string): string => `Cert="${escapePem(pem)}"`
  t.equal(await name(one, janes), 'Jane')
  t.equal(await name(one, `${janes},${joes}`), 'Joe', 'the last element is that of the nearest proxy')
  t.equal(await name(two, `${janes},${joes}`), 'Jane', 'with two proxies the one before it')
  t.equal(await name(two, `${joes},${janes},${joes}`), 'Jane', 'and not what was there before')
  t.equal(await name(two, joes), '403 CERTIFICATE_REQUIRED', 'whoever did not come by both has none')
  t.equal(await name(one, `Hash=${hashOf(jane.cert)};cert="${escapePem(jane.cert)}"`), 'Jane', 'keys have no case')
  t.equal(await name(one, `Hash=${hashOf(jane.cert).toUpperCase()};${cert(jane.cert)}`), 'Jane', 'nor has the hash')
  t.equal(await name(one, `Hash=${hashOf(jane.cert)};${cert(jane.cert)};Chain="${escapePem(jane.cert + ca.cert)}"`), 'Jane')
  const bad = '400 BAD_REQUEST'
  t.equal(await name(one, `${'a=b,'.repeat(14_000)}${janes}`), 'Jane', 'whoever came before')
  t.equal(await name(one, `${'a=b,'.repeat(17_000)}${janes}`), bad, 'longer than any that a proxy writes')
  for (const [value, answer, why] of [
    [`Hash=${hashOf(jane.cert)};Subject="CN=Jane"`, '403 CERTIFICATE_REQUIRED', 'without Cert'],
    [`Hash=${hashOf(joe.cert)};${cert(jane.cert)}`, bad, 'the hash of another'],
    [cert(jane.cert), bad, 'no hash'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};${cert(joe.cert)}`, bad, 'two of them'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};CERT="${escapePem(joe.cert)}"`, bad, 'two of them, in another case'],
    [`Hash=${hashOf(jane.cert)};Hash=${hashOf(joe.cert)};${cert(joe.cert)}`, bad, 'two hashes'],
    [`Hash=${hashOf(jane.cert)};Cert="";Subject=""`, bad, 'an empty one'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};`, bad, 'an empty pair'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)},`, bad, 'an empty element'],
    [`Hash=${hashOf(jane.cert)}; ${cert(jane.cert)}`, bad, 'a space'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};Subject="CN=x`, bad, 'a quote that does not end'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};Subject="CN=x"y`, bad, 'something after a quote'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};Subject=a"b`, bad, 'a quote inside'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};Chain="x"`, bad, 'a chain that is none'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};=x`, bad, 'no key'],
    [`Hash=${hashOf(jane.cert)};${cert(jane.cert)};x`, bad, 'no value'],
    [`Hash=${hashOf(joe.cert)};Subject="\\";${cert(jane.cert)},Hash=x";${cert(joe.cert)}`, bad, 'what is quoted is a value'],
    [`${janes};Subject="x,${joes}`, bad, 'an element within quotes']
  ] as const) t.equal(await name(one, value), answer, why)
  t.equal(await name(one, [janes, joes]), bad, 'two lines')
  t.equal(await name(one, `Subject="x,${janes.replaceAll('\\', '\\\\').replaceAll('"', '\\"')};Hash=y",${joes}`), 'Joe', 'a subject that looks like an element')
})

t.test('certificate headers of a peer outside proxy.trust are ignored, and logged', async (t) => {
  const violations: unknown[] = []
  const { code, get, app, log } = await behind(t, { trust: '192.0.2.1', certificate: 'nginx' }, { onViolation: (violation) => { violations.push(violation) } })
  const saying = sayingOf('nginx', jane.cert)
  t.equal(await code('/mtls', saying), '403 TLS_REQUIRED')
  t.equal(JSON.parse((await get('/none', saying)).body).isPresent, false)
  for (let i = 0; i < 5; i++) await get('/none', saying)
  t.equal(await code('/none'), 'in')
  const ignored = { code: 'FST_HTTP_SECURITY_HEADER_IGNORED', answer: 'ignored', mode: 'enforce', method: 'GET' }
  t.strictSame(app.httpSecurity.violations().filter(({ answer }) => answer === 'ignored'), [{ ...ignored, url: '/mtls', count: 1 }, { ...ignored, url: '/none', count: 6 }])
  t.equal(violations.length, 8)
  t.strictSame(violations[0], { ...ignored, url: '/mtls' })
  const lines = log.filter(({ level, msg }) => level === 40 && msg.includes('not in proxy.trust'))
  t.match(lines, [{ url: '/mtls', count: 1, lastClient: '127.0.0.1' }, { url: '/none', count: 1 }])
  t.equal(lines.length, 2, 'one line a minute for each route')
  await app.close()
  t.match(log.filter(({ msg }) => msg.includes('not in proxy.trust')).at(-1), { url: '/none', count: 5 }, 'and the rest in the end')

  const tls = await serve(t, pki, (app) => {
    app.get('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateValue('SubjectCN'))
  }, { options: { proxy: { trust: '192.0.2.1', certificate: 'nginx' } } })
  t.equal((await tls.secure('/', joe, { headers: { ...https, ...saying } })).body, 'Joe', 'whoever comes directly is who they are')
  t.equal((await tls.secure('/', undefined, { headers: { ...https, ...saying } })).status, 403)
})

t.test('the own certificate of a re-encrypting proxy is not that of its clients', async (t) => {
  for (const http2 of [false, true]) {
    const served = await serve(t, pki, (app) => {
      app.get('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateValue('SubjectCN'))
    }, { http2, options: { proxy: { trust: 'loopback', certificate: 'haproxy' } } })
    const proxy = await issue(ca, { subject: 'CN=proxy' })
    const session = http2 ? served.session(proxy) : undefined
    const name = async (headers: Headers): Promise<string> => {
      const { status, body } = session === undefined ? await served.secure('/', proxy, { headers }) : await askHttp2(session, { ':path': '/', ...headers })
      return status === 200 ? body : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)![1]}`
    }
    t.equal(await name({ ...https, 'x-ssl-client-verify': '0' }), '403 CERTIFICATE_REQUIRED')
    t.equal(await name({ ...https, ...sayingOf('haproxy', jane.cert) }), 'Jane')
    t.equal(await name(https), '403 CERTIFICATE_REQUIRED')
    t.equal(await name({ ...https, ...sayingOf('haproxy', joe.cert) }), 'Joe')
    t.equal(await name({ ...https, ...sayingOf('haproxy', joe.cert), 'client-cert': [written.rfc9440(joe.cert), written.rfc9440(jane.cert)] }), '400 BAD_REQUEST', 'lines that repeat are seen')
    t.equal(await name({ ...https, ...sayingOf('haproxy', joe.cert), 'x-ssl-client-verify': ['0', '0'] }), '400 BAD_REQUEST')
    t.equal(await name(sayingOf('haproxy', jane.cert)), '403 TLS_REQUIRED')
  }
})

t.test('clients that share an upstream connection share no certificate', async (t) => {
  const { port, get } = await behind(t, { certificate: 'nginx' })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const seen: string[] = []
  for (const who of [jane, undefined, joe, undefined, jane, joe]) {
    const { status, body } = await get('/mtls', who === undefined ? { 'x-ssl-client-verify': 'NONE' } : sayingOf('nginx', who.cert), { agent })
    seen.push(status === 200 ? JSON.parse(body).name : String(status))
  }
  t.strictSame(seen, ['Jane', '403', 'Joe', '403', 'Jane', 'Joe'])
  const line = (headers: Headers): string => `GET /tls HTTP/1.1\r\nHost: a\r\n${Object.entries({ ...https, ...headers }).map(([name, value]) => `${name}: ${String(value)}\r\n`).join('')}`
  const pipelined = await askRaw(port, `${line(sayingOf('nginx', jane.cert))}\r\n${line({})}\r\n${line(sayingOf('nginx', joe.cert))}Connection: close\r\n\r\n`)
  t.strictSame([...pipelined.matchAll(/"name":"(\w*)"/g)].map(([, name]) => name), ['Jane', '', 'Joe'], 'pipelined, too')
})

t.test('a forwarded certificate is one object for all of a request, however many others come meanwhile', async (t) => {
  const verified = new WeakMap<FastifyRequest, object>()
  let enter = (): void => {}
  let release = (): void => {}
  const entered = new Promise<void>((resolve) => { enter = resolve })
  const released = new Promise<void>((resolve) => { release = resolve })
  const seen: object[] = []
  const { port } = await serveHttp(t, { proxy: { trust: 'loopback', certificate: 'rfc9440' } }, (app) => {
    const verify = (certificate: object | null, request: FastifyRequest): boolean => { verified.set(request, certificate!); return true }
    app.get('/', { httpSecurity: { level: 'mtls', verify } }, async (request) => {
      seen.push(request.clientCertificate!)
      if (request.headers['x-slow'] !== undefined) {
        enter()
        await released
      }
      return { isOne: request.clientCertificate === verified.get(request), name: request.clientCertificateValue('SubjectCN'), raw: request.clientCertificate!.raw.toString('base64') }
    })
  }, { http: { maxHeaderSize: 128 * 1024 } })
  const come = async (pem: string, headers: Headers = {}): Promise<{ isOne: boolean, name: string, raw: string }> => JSON.parse((await ask({ port, path: '/', headers: { ...https, 'client-cert': written.rfc9440(pem), ...headers } })).body)
  const slow = come(jane.cert, { 'x-slow': '1' })
  await entered
  // Each takes a quarter of a megabyte of the memory for parsed ones.
  const large = await issue(ca, { subject: 'CN=Large', san: [{ type: 'dns', value: `${'a'.repeat(11_000)}.test` }] })
  const others = Array.from({ length: 20 }, (_, index) => {
    const der = derOf(large.cert)
    der.writeUInt32BE(index, der.length - 20)
    return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
  })
  for (const other of others) t.match(await come(other), { isOne: true, name: 'Large' })
  const again = await come(jane.cert)
  release()
  const answer = { isOne: true, name: 'Jane', raw: derOf(jane.cert).toString('base64') }
  t.strictSame([await slow, again], [answer, answer])
  t.not(seen[0], seen.at(-1), 'which may be another one for another request')
})

t.test('what is kept with a forwarded certificate counts as memory, however many names it has', async (t) => {
  const { grow } = VerifiedCache.prototype
  t.teardown(() => { VerifiedCache.prototype.grow = grow })
  let bytes = 0
  VerifiedCache.prototype.grow = function (certificate, more) {
    bytes += more
    grow.call(this, certificate, more)
  }
  const { port } = await serveHttp(t, { proxy: { trust: 'loopback', certificate: 'rfc9440' } }, (app) => {
    for (const name of ['a', 'b', 'c', 'd']) app.get(`/${name}`, { httpSecurity: { level: 'mtls', allow: [{ subject: { CN: name } }, { subject: { CN: 'Jane' } }] } }, async () => 'in')
    app.get('/value', async (request) => request.clientCertificateValue('SAN:DNS'))
    app.get('/details', async (request) => request.clientCertificateGetDetails())
  }, { http: { maxHeaderSize: 128 * 1024 } })
  const pem = (await issue(ca, { subject: `CN=Jane, O=${'o'.repeat(60)}`, san: Array.from({ length: 500 }, (_, index) => ({ type: 'dns' as const, value: `n${index}.test` })) })).cert
  const grown = async (path: string): Promise<[body: string, bytes: number]> => {
    bytes = 0
    const { body } = await ask({ port, path, headers: { ...https, 'client-cert': written.rfc9440(pem) } })
    return [body, bytes]
  }
  const [value, ofValue] = await grown('/value')
  t.match(value, 'n499.test')
  t.ok(ofValue >= 2 * value.length, `${ofValue} for ${value.length} characters`)
  const [details, ofDetails] = await grown('/details')
  t.ok(ofDetails >= details.length / 2 && ofDetails > 500, `${ofDetails} for ${details.length} characters`)
  t.strictSame([(await grown('/value'))[1], (await grown('/details'))[1]], [0, 0], 'once')
  t.strictSame([await grown('/a'), await grown('/a')], [['in', 0], ['in', 0]], 'the last list is in the entry')
  for (const path of ['/b', '/c', '/d']) {
    const [body, more] = await grown(path)
    t.ok(body === 'in' && more > 0, `${path}: ${body}, ${more}`)
  }
})

t.test('a request with more headers than Node reads is refused, since the rest could contradict them', async (t) => {
  for (const [most, count] of [[undefined, 1_100], [50, 60]] as const) {
    const { app, port } = await behind(t, { certificate: 'nginx' })
    if (most !== undefined) app.server.maxHeadersCount = most
    const request = (lines: number, last: string, path = '/tls'): string => `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n${'a: b\r\n'.repeat(lines)}${last}\r\n\r\n`
    t.match(await askRaw(port, request(10, 'X-Forwarded-Proto: http')), '403 Forbidden')
    // Newer versions of Node refuse it themselves
    const refused = /^HTTP\/1\.1 (?:400 Bad Request|431 Request Header Fields Too Large)\r/
    t.match(await askRaw(port, request(count, 'X-Forwarded-Proto: http')), refused)
    t.match(await askRaw(port, request(count, 'Early-Data: 1', '/none')), refused)
    t.match(await askRaw(port, request(10, 'A: b')), '200 OK')
  }
  const unlimited = await behind(t, { certificate: 'nginx' })
  unlimited.app.server.maxHeadersCount = 0
  t.match(await askRaw(unlimited.port, `GET /tls HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n${'a: b\r\n'.repeat(1_100)}\r\n`), '200 OK', 'unless it has no limit')

  const lines = ['Host: a', 'X-Forwarded-Proto: https', `X-SSL-Client-Cert: ${escapePem(jane.cert)}`, 'X-SSL-Client-Verify: SUCCESS', 'Connection: close']
  for (const mode of ['enforce', 'report'] as const) {
    for (const most of [31, 62, 1_000]) {
      const { app, port, reached } = await behind(t, { certificate: 'nginx' }, { mode })
      app.server.maxHeadersCount = most
      const come = async (count: number, last: string, path = '/mtls'): Promise<string> =>
        await askRaw(port, `GET ${path} HTTP/1.1\r\n${[...lines, ...Array<string>(count - lines.length).fill('a: b'), last].join('\r\n')}\r\n\r\n`)
      for (const last of ['X-SSL-Client-Cert: x', 'X-SSL-Client-Verify: NONE', 'Connection: X-SSL-Client-Cert', 'X-Forwarded-Proto: http', 'Early-Data: 1']) {
        // Node lets go of everything after `most` where it comes with as many at a time, and of no more than what is put together otherwise.
        for (const count of [most, most + 5]) {
          await come(count, last)
          t.notMatch(await come(count, last, '/tls'), /"name":"Jane"/, `${mode}, ${most}: ${last} after ${count}`)
        }
      }
      t.strictSame(reached.filter((name) => name !== ''), [], `${mode}, ${most}`)
      t.match(await come(most - 2, 'A: b'), /"name":"Jane"/, 'there is room for one more')
    }
  }
})

t.test('a request in early data is refused with 425 where it is not safe to send again (RFC 8470)', async (t) => {
  const { get, code, port } = await behind(t, { certificate: 'nginx' })
  const early = { 'early-data': '1' }
  const post = { method: 'POST', headers: undefined }
  t.equal(await code('/mtls', { ...sayingOf('nginx', jane.cert), ...early }), '425 TOO_EARLY')
  t.equal(await code('/mtls', early), '425 TOO_EARLY', 'before anything is said of a certificate')
  t.equal(await code('/tls', early), 'in', 'a GET may be sent again')
  t.equal(await code('/none', early), 'in')
  for (const path of ['/tls', '/none']) t.equal((await ask({ port, ...post, path, headers: { ...https, ...early } })).status, 425, `POST ${path}`)
  t.equal((await ask({ port, ...post, path: '/tls', headers: https })).body, 'in')
  for (const value of ['0', '', '1, 1', 'yes', ['1', '1']]) t.equal((await get('/mtls', { ...sayingOf('nginx', jane.cert), 'early-data': value })).status, 425, `§5.1: ${JSON.stringify(value)} counts as 1`)
  const { body, headers } = await get('/mtls', early)
  t.match(JSON.parse(body), { statusCode: 425, code: 'FST_HTTP_SECURITY_TOO_EARLY' })
  t.equal(headers.location, undefined)
  const untrusting = await behind(t, { trust: '192.0.2.1', certificate: 'nginx' })
  t.equal((await ask({ port: untrusting.port, method: 'POST', path: '/none', headers: early })).status, 200, 'only a proxy of ours has a say')
  const reporting = await behind(t, { certificate: 'nginx' }, { mode: 'report' })
  t.equal((await ask({ port: reporting.port, method: 'POST', path: '/none', headers: { ...https, ...early } })).status, 200)
  t.match(reporting.app.httpSecurity.violations(), [{ code: 'FST_HTTP_SECURITY_TOO_EARLY', mode: 'report' }])
})

t.test('answers that depend on a forwarded certificate are not cacheable (RFC 9440 §3.1)', async (t) => {
  for (const mode of ['enforce', 'report'] as const) {
    const { get } = await behind(t, { certificate: 'nginx' }, { mode })
    const saying = sayingOf('nginx', jane.cert)
    const vary = 'x-ssl-client-cert, x-ssl-client-verify'
    const headersOf = async (path: string, headers?: Headers): Promise<[string | undefined, string | undefined]> => {
      const answer = await get(path, headers)
      return [answer.headers['cache-control'], answer.headers.vary]
    }
    t.strictSame(await headersOf('/mtls', saying), ['no-store', undefined], mode)
    t.strictSame(await headersOf('/tls', saying), ['no-store', undefined], 'a handler has looked at it')
    t.strictSame(await headersOf('/tls'), ['no-store', undefined], 'also where there is none')
    t.strictSame(await headersOf('/plain', saying), [undefined, undefined], 'there is none')
    t.strictSame(await headersOf('/shared', saying), ['max-age=60, private', `Accept, ${vary}`], 'what is meant to be stored is stored by its client, and by certificate')
    t.strictSame(await headersOf('/shared-raw', saying), ['max-age=60, private', vary], 'whoever writes it')
    t.strictSame(await headersOf('/shared-list', saying), ['max-age=60, private', `Accept,Origin, ${vary}`], 'in whatever form')
    t.strictSame(await headersOf('/shared-pairs', saying), ['max-age=60, private', vary], mode)
    t.strictSame(await headersOf('/shared-frozen', saying), ['max-age=60, private', vary], mode)
    t.strictSame(await headersOf('/private', saying), ['private, no-store', vary], mode)
    for (const [control, kept] of [
      ['public, max-age=60', 'max-age=60, private'], ['Public', 'private'], ['s-maxage=60, max-age=1', 'max-age=1, private'], ['private="set-cookie", max-age=1', 'private="set-cookie", max-age=1, private'],
      ['no-cache="a, private, b", max-age=60', 'no-cache="a, private, b", max-age=60, private'], ['no-cache="a\\", private", max-age=60', 'no-cache="a\\", private", max-age=60, private'],
      ['no-cache="a, private', 'no-store'], ['', 'private'], [' , public,', 'private'],
      ['max-age=60, x-no-store', 'max-age=60, x-no-store, private'], ['PRIVATE, max-age=1', 'PRIVATE, max-age=1'], ['publicity', 'publicity, private']
    ]) t.equal((await get(`/control?${encodeURIComponent(control!)}`, saying)).headers['cache-control'], kept, control)
    const { headers } = await get('/targeted', saying)
    t.strictSame(['x-accel-expires', 'surrogate-control', 'cdn-cache-control', 'cloudflare-cdn-cache-control', 'edge-control', 'x-other', 'cache-control'].map((name) => headers[name]),
      [undefined, undefined, undefined, undefined, undefined, 'kept', 'no-store'], 'instructions to one cache')
    t.strictSame(await headersOf('/twice', saying), ['public;x, private, max-age=60', `Accept, Origin, ${vary}`], 'spelled in two ways')
    if (mode === 'enforce') t.equal((await get('/mtls')).headers['cache-control'], 'no-store', 'refusals')
  }
  const direct = await serve(t, pki, (app) => { app.get('/', { httpSecurity: 'mtls' }, async () => 'in') }, { options: { proxy: { trust: '192.0.2.1', certificate: 'nginx' } } })
  t.equal((await direct.secure('/', jane)).headers['cache-control'], undefined, 'on a connection of its own, no cache is between')
})

t.test('contradicting options of proxy.certificate are errors', async (t) => {
  const message = async (proxy: object): Promise<string> => {
    const app = Fastify()
    try {
      await app.register(httpSecurity, { proxy: { trust: 'loopback', ...proxy } } as never)
      await app.ready()
      return 'none'
    } catch (error) {
      return `${(error as { code: string }).code} ${(error as Error).message}`
    } finally {
      await app.close()
    }
  }
  for (const [proxy, pattern] of [
    [{ certificate: 'ngnix' }, /INVALID_OPTIONS.*certificate: 'ngnix' is not allowed; allowed: 'nginx', .*'aws-alb-passthrough'/],
    [{ certificate: 'caddy' }, /INVALID_OPTIONS.*ca is missing: .*verified: 'here'/],
    [{ certificate: 'nginx', ca: ca.cert }, /INVALID_OPTIONS.*ca has no effect/],
    [{ certificate: 'nginx', crl: 'x' }, /INVALID_OPTIONS.*crl has no effect/],
    [{ ca: ca.cert }, /INVALID_OPTIONS.*ca has no effect: certificate is missing/],
    [{ certificate: 'caddy', ca: '' }, /INVALID_OPTIONS.*'' is not allowed/],
    [{ certificate: 'caddy', ca: ca.cert, crl: [''] }, /INVALID_OPTIONS.*'' is not allowed/],
    [{ certificate: 7 }, /an object { header, encoding, verified, hops\?, fingerprint\? }/],
    [{ certificate: { header: 'x_client_cert', encoding: 'rfc9440', verified: 'presence' } }, /INVALID_OPTIONS.*'x_client_cert' is not allowed/],
    [{ certificate: { header: 'Cookie', encoding: 'rfc9440', verified: 'presence' } }, /INVALID_OPTIONS.*'Cookie' is not allowed/],
    [{ certificate: { header: 'x cert', encoding: 'rfc9440', verified: 'presence' } }, /INVALID_OPTIONS.*'x cert' is not allowed/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440', verified: { header: 'X-Cert', value: '1' } } }, /INVALID_OPTIONS.*is the header of the certificate itself/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440', verified: { header: 'x_v', value: '1' } } }, /INVALID_OPTIONS.*'x_v' is not allowed/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440', verified: { header: 'x-v', value: '' } } }, /INVALID_OPTIONS.*value: '' is not allowed/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440', verified: 'presence', hops: 2 } }, /INVALID_OPTIONS.*hops: 2 has no effect/],
    [{ certificate: { header: 'x-cert', encoding: 'xfcc', verified: 'presence', hops: 0 } }, /INVALID_OPTIONS.*hops/],
    [{ certificate: { header: 'x-cert', encoding: 'der', verified: 'presence' } }, /INVALID_OPTIONS.*encoding: 'der' is not allowed/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440', verified: true } }, /INVALID_OPTIONS.*verified/],
    [{ certificate: { header: 'x-cert', encoding: 'rfc9440' } }, /INVALID_OPTIONS.*verified is missing/],
    [{ certificate: 'caddy', ca: [] }, /INVALID_OPTIONS.*ca/],
    [{ certificate: 'caddy', ca: 'no-such-file.pem' }, /INVALID_CERTIFICATES.*no-such-file.pem: cannot be read: ENOENT/],
    [{ certificate: 'caddy', ca: jane.cert }, /INVALID_CERTIFICATES.*is no authority/],
    [{ certificate: 'caddy', ca: ca.cert, crl: ca.cert }, /INVALID_CERTIFICATES.*holds no CRL/]
  ] as const) t.match(await message(proxy), pattern)
})

t.test('mtls is deliverable behind a proxy only if the proxy forwards certificates', async (t) => {
  const boot = async (proxy: object | undefined, https?: object): Promise<string> => {
    const app = Fastify({ ...https !== undefined && { https } } as never) as unknown as FastifyInstance
    try {
      await app.register(httpSecurity, { ...proxy !== undefined && { proxy: { trust: 'loopback', ...proxy } as never } })
      app.get('/', { httpSecurity: 'mtls' }, async () => 'x')
      await app.ready()
      return 'boots'
    } catch (error) {
      return (error as Error).message
    } finally {
      await app.close()
    }
  }
  const { key, cert } = pki.server
  t.equal(await boot({ certificate: 'nginx' }), 'boots')
  t.match(await boot({}), 'it is not known how the proxy forwards client certificates. Set proxy.certificate')
  t.equal(await boot({ certificate: 'nginx' }, { key, cert }), 'boots', 'those who come directly have none')
  t.match(await boot({ certificate: 'nginx' }, { key, cert, requestCert: true, rejectUnauthorized: false }), 'the server trusts no certificate authority of its own')
  t.equal(await boot({ certificate: 'nginx' }, { key, cert, ca: ca.cert, requestCert: true, rejectUnauthorized: false }), 'boots')
})
