import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { isNobodyThere, offersHttp2, parseAnswer, unreachable } from '../lib/cli/check-proxy/probe-request.ts'
import { forgeriesOf, headersOf } from '../lib/cli/check-proxy/forgeries.ts'
import { forgeCertificate } from '../lib/cli/check-proxy/forged-certificate.ts'
import { leaksOf } from '../lib/cli/check-proxy/leaks.ts'
import { loadsApp } from '../lib/cli/main.ts'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { createReadDescription } from '../lib/proxy/descriptions.ts'
import { chainIn } from '../lib/proxy/encodings.ts'
import type { WholeEncoding } from '../lib/proxy/presets.ts'
import type { Name } from '../lib/x509/distinguished-names.ts'
import { type Answer, askHttp2 } from './fixtures/ask.ts'
import { type Checked, checker, checkFiles, found, makeProbeToken, parseProbeToken, PROBE_HEADER, PROBE_PATH, type ProbeAnswer, type ProxyOption, serveProxied, waysOf } from './fixtures/check-proxy.ts'
import { command, type Result } from './fixtures/command.ts'
import { plainNode, typescript } from './fixtures/programs.ts'
import { issue } from './fixtures/pki.ts'
import { type HeaderLines, reverseProxy, type ReverseProxyOptions } from './fixtures/reverse-proxy.ts'
import { freePort, portOf } from './fixtures/network.ts'
import { makePki } from './fixtures/serve.ts'

const pki = await makePki()
const dir = t.testdir(checkFiles(pki))
const check = checker(dir)
const VARIABLE = 'FASTIFY_HTTP_SECURITY_PROBE'

// The path

/** Of paths of the same length. */
const comparable = ({ status, headers: { date, ...headers }, body }: Answer, path: string) => JSON.parse(JSON.stringify({ status, headers, body }).replaceAll(path, 'PATH')) as unknown

t.test('the probe path exists only for requests with the token', async (t) => {
  const probe = makeProbeToken(1)
  const unknown = '/.well-known/'.padEnd(PROBE_PATH.length, 'x')
  const cases: Array<[name: string, options: HttpSecurityOptions, declare?: (app: FastifyInstance) => unknown]> = [
    ['of Fastify', {}],
    ['default none', { default: 'none' }],
    ['minimum mtls', { minimum: 'mtls', unsatisfiable: 'warn' }],
    ['reporting', { mode: 'report' }],
    ['flows', { flows: { '/.well-known': { level: 'none', kind: 'screen' } } }],
    ['a handler of the app', {}, (app) => { app.setNotFoundHandler(async ({ url }, reply) => reply.code(404).header('x-own', 'yes').send(`no ${url}`)) }],
    ['a wildcard of the app', { helmet: {} }, (app) => { app.get('/*', { httpSecurity: 'none' }, async ({ url }) => `page ${url}`) }]
  ]
  for (const [name, options, declare] of cases) {
    const { get } = await serveProxied(t, { trust: 'loopback', probe }, options, declare)
    for (const how of [{}, { 'x-forwarded-proto': 'https' }, { accept: 'text/html' }] as Array<Record<string, string>>) {
      const expected = comparable(await get(unknown, how), unknown)
      for (const given of [{}, { [PROBE_HEADER]: '' }, { [PROBE_HEADER]: makeProbeToken(1) }, { [PROBE_HEADER]: `${probe}, ${probe}` }, { [PROBE_HEADER]: [probe, probe] }, { x_http_security_probe: probe }] as Array<Record<string, string | string[]>>) {
        t.strictSame(comparable(await get(PROBE_PATH, { ...how, ...given }), PROBE_PATH), expected, `${name}: ${JSON.stringify(Object.keys({ ...how, ...given }))}`)
      }
      for (const method of ['POST', 'HEAD', 'OPTIONS']) {
        t.strictSame(comparable(await get(PROBE_PATH, { ...how, [PROBE_HEADER]: probe }, method), PROBE_PATH), comparable(await get(unknown, how, method), unknown), `${name}: ${method}`)
      }
    }
    const { status, headers, body } = await get(PROBE_PATH, { 'x-forwarded-proto': 'https', [PROBE_HEADER]: probe })
    if (name === 'minimum mtls') {
      t.equal(status, 403, name)
      t.match(body, /CERTIFICATE_REQUIRED/, name)
    } else {
      t.equal(status, 200, name)
      t.match(headers, { 'cache-control': 'no-store', 'content-type': /^application\/json/ }, name)
    }
    t.match(await get('/', { 'x-forwarded-proto': 'https', [PROBE_HEADER]: probe }), options.minimum === 'mtls' ? { status: 403 } : { body: 'home' }, 'the token opens nothing else')
  }
})

t.test('the probe path is gone once the token has expired, and does not exist without a token', async (t) => {
  const probe = makeProbeToken(1)
  const { get, app, log } = await serveProxied(t, { trust: 'loopback', probe })
  const token = { 'x-forwarded-proto': 'https', [PROBE_HEADER]: probe }
  t.equal((await get(PROBE_PATH, token)).status, 200)
  t.match(app.httpSecurity.routes(), [{ methods: ['GET'], url: PROBE_PATH, level: 'none' }, { url: '/' }])
  t.match(app.httpSecurity.print(), /GET +\/\.well-known\/fastify-http-security .* none +none +route/)
  t.match(log[0], { level: 30, msg: /until \d.*Z, GET \/\.well-known/ })
  t.notMatch(JSON.stringify([log, app.httpSecurity.routes(), app.printRoutes()]), probe.slice(11))
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 61_000
  t.strictSame(comparable(await get(PROBE_PATH, token), PROBE_PATH), comparable(await get('/'.padEnd(PROBE_PATH.length, 'x'), token), '/'.padEnd(PROBE_PATH.length, 'x')))
  Date.now = now

  const expired = makeProbeToken(-1)
  for (const proxy of [undefined, { trust: 'loopback' }, { trust: 'loopback', probe: expired }]) {
    const { get, app, log } = await serveProxied(t, proxy, { unsatisfiable: 'warn' })
    t.equal(app.httpSecurity.routes().length, 1)
    t.match((await get(PROBE_PATH, { 'x-forwarded-proto': 'https', [PROBE_HEADER]: expired })).status, proxy === undefined ? 403 : 404)
    t.equal(log.some(({ level, msg }) => level === 40 && /proxy\.probe has expired/.test(msg)), proxy?.probe !== undefined)
  }
})

t.test('the probe answers with every header that the app believes, as it arrived', async (t) => {
  const probe = makeProbeToken(1)
  const probed = async (t: Test, proxy: Partial<ProxyOption>, headers: Record<string, string | string[]>): Promise<ProbeAnswer> => {
    const { get } = await serveProxied(t, { trust: 'loopback', probe, ...proxy })
    return JSON.parse((await get(PROBE_PATH, { ...headers, [PROBE_HEADER]: probe })).body) as ProbeAnswer
  }
  const early = { name: 'early-data', role: 'early-data', values: [], underscored: [] }
  t.strictSame(await probed(t, {}, { 'X-Forwarded-Proto': ['https', 'https'], x_forwarded_PROTO: 'a', 'x-forwarded-host': 'not.believed', authorization: 'secret', 'early-data': '1' }), {
    version: 1,
    isTrusted: true,
    secure: true,
    certificate: { isPresent: false, isValid: false, fingerprint256: '', subject: '', code: 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', reason: '' },
    headers: [{ name: 'x-forwarded-proto', role: 'protocol', expected: 'https', values: ['https', 'https'], underscored: ['a'] }, { ...early, values: ['1'] }]
  })
  const der = new X509Certificate(pki.client.cert).raw
  t.match(await probed(t, { host: 'x-forwarded-host', protocol: 'forwarded', certificate: 'nginx' }, { forwarded: 'proto=https', 'x-ssl-client-cert': encodeURIComponent(pki.client.cert), 'x-ssl-client-verify': 'SUCCESS', 'X_SSL-client_verify': 'NONE', 'x-forwarded-host': 'a.test' }), {
    secure: true,
    certificate: { isPresent: true, isValid: true, fingerprint256: createHash('sha256').update(der).digest('hex') },
    headers: [
      { name: 'forwarded', role: 'protocol', expected: 'https', values: ['proto=https'] },
      { name: 'x-forwarded-host', role: 'host', values: ['a.test'] },
      { name: 'x-ssl-client-cert', role: 'certificate', encoding: 'url-pem', values: [encodeURIComponent(pki.client.cert)] },
      { name: 'x-ssl-client-verify', role: 'verdict', expected: 'SUCCESS', values: ['SUCCESS'], underscored: ['NONE'] },
      early
    ]
  })
  t.match((await probed(t, { certificate: 'rfc9440' }, {})).headers.map(({ name, role }) => [name, role]), [['x-forwarded-proto', 'protocol'], ['client-cert', 'certificate'], ['early-data', 'early-data']])
  for (const [proxy, expected] of [
    [{ protocol: 'azure' }, { name: 'x-arr-ssl', role: 'protocol', present: true }], [{ protocol: 'cloudfront' }, { name: 'cloudfront-forwarded-proto', role: 'protocol', expected: 'https' }],
    [{ protocol: { header: 'X-Forwarded-Ssl', value: 'On' }, hops: 2 }, { name: 'x-forwarded-ssl', role: 'protocol', expected: 'on', hops: 2 }]
  ] as Array<[Partial<ProxyOption>, object]>) t.strictSame((await probed(t, proxy, {})).headers[0], { ...expected, values: [], underscored: [] })
  t.match(await probed(t, { trust: '192.0.2.1' }, { 'x-forwarded-proto': 'https' }), { isTrusted: false, secure: false })
  t.match((await probed(t, { certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca: pki.ca.cert }, { 'x-forwarded-proto': 'https', 'client-cert-chain': 'x' })).headers[2], { name: 'client-cert-chain', role: 'chain', values: ['x'] })
})

t.test('a login hook can leave out the probe route, and no other route by its config', async (t) => {
  const probe = makeProbeToken(1)
  const { get } = await serveProxied(t, { trust: 'loopback', probe }, { default: 'none' }, (app) => {
    app.addHook('onRequest', async (request, reply) => {
      if ((request.routeOptions.config as { httpSecurityProbe?: boolean }).httpSecurityProbe !== true) return await reply.code(401).send('log in')
    })
  })
  const status = async (path: string, given: string): Promise<number> => (await get(path, { [PROBE_HEADER]: given })).status
  t.strictSame([await status(PROBE_PATH, probe), await status(`/below/${PROBE_PATH.slice(1)}`, probe)], [200, 200])
  t.strictSame([await status('/', probe), await status(`/below${PROBE_PATH}`, makeProbeToken(1)), await status('/unknown', probe)], [401, 401, 401])
})

t.test('the probe answers over HTTP/2', async (t) => {
  const probe = makeProbeToken(1)
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { proxy: { trust: 'loopback', probe } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = http2.connect(`http://127.0.0.1:${portOf(app)}`)
  t.teardown(() => session.destroy())
  const { body } = await askHttp2(session, { ':path': PROBE_PATH, [PROBE_HEADER]: probe, 'x-forwarded-proto': ['https', 'https'] })
  t.match(JSON.parse(body), { isTrusted: true, secure: true, headers: [{ values: ['https', 'https'] }, {}] })
  t.equal((await askHttp2(session, { ':path': PROBE_PATH, 'x-forwarded-proto': 'https' })).status, 404)
})

t.test('child contexts of one app may each have a probe token', async (t) => {
  const tokens = [makeProbeToken(1), makeProbeToken(2)]
  const app = Fastify()
  t.teardown(() => app.close())
  for (const [at, probe] of tokens.entries()) {
    app.register(async (child) => { await child.register(httpSecurity, { proxy: { trust: 'loopback', probe } }) }, { prefix: `/${at}` })
  }
  for (const [at, probe] of tokens.entries()) {
    for (const path of [0, 1]) t.equal((await app.inject({ url: `/${path}${PROBE_PATH}`, headers: { [PROBE_HEADER]: probe } })).statusCode, path === at ? 200 : 404)
  }
})

t.test('probe requests do not fill the log, and refused requests are logged as before', async (t) => {
  const probe = makeProbeToken(1)
  const { get, log } = await serveProxied(t, { trust: 'loopback', probe }, { default: 'tls' })
  const lines = async (...asking: Parameters<typeof get>) => {
    const before = log.length
    const { status } = await get(...asking)
    return [status, ...log.slice(before).map(({ msg }) => msg)]
  }
  t.strictSame(await lines(PROBE_PATH, { 'x-forwarded-proto': 'https', [PROBE_HEADER]: probe }), [200])
  const refused = await lines('/unknown')
  t.strictSame(refused, [403, 'incoming request', 'http-security: request refused', 'request completed'])
  for (const headers of [{}, { [PROBE_HEADER]: makeProbeToken(1) }] as Array<Record<string, string>>) t.strictSame(await lines(PROBE_PATH, headers), refused)
})

t.test('the probe route is the same in every audit, and is no problem of it', async (t) => {
  const probe = makeProbeToken(1)
  const { app } = await serveProxied(t, { trust: 'loopback', probe })
  t.match(app.httpSecurity.print(), /GET +\/\.well-known\/fastify-http-security \{"httpSecurityProbe":"token"\} /)
  t.match(app.printRoutes(), '{"httpSecurityProbe":"token"}')
  const shown = `${JSON.stringify(app.httpSecurity.routes())} ${inspect(app.httpSecurity.routes(), { depth: 9 })}`
  t.match(shown, /"constraints":\{"httpSecurityProbe":"token"\}.*httpSecurityProbe: token /s)
  t.notMatch(shown, probe.slice(0, 10))

  const module = new URL('../lib/index.ts', import.meta.url).href
  const dir = t.testdir({
    'app.mjs': `import Fastify from 'fastify'
      import httpSecurity from ${JSON.stringify(module)}
      export default async () => {
        const app = Fastify()
        await app.register(httpSecurity, { proxy: { trust: 'loopback', probe: process.env.${VARIABLE} } })
        app.get('/', async () => 'home')
        if (process.env.OPEN) app.get('/.well-known/other', { httpSecurity: 'none', constraints: { host: 'a.test' } }, async () => 'open')
        return app
      }`
  })
  t.teardown(() => { for (const name of [VARIABLE, 'OPEN']) Reflect.deleteProperty(process.env, name) })
  const audited = []
  for (const minutes of [1, 2]) {
    process.env[VARIABLE] = makeProbeToken(minutes)
    audited.push(await command('audit', join(dir, 'app.mjs'), '--minimum', 'tls', '--json'))
  }
  t.match(audited[0], { code: 0, stderr: '' })
  t.match(JSON.parse(audited[0]!.stdout), { problems: [], routes: [{ url: '/' }, { url: '/*', level: 'none', constraints: { httpSecurityProbe: 'token' } }, { url: PROBE_PATH, level: 'none', constraints: { httpSecurityProbe: 'token' } }] })
  t.strictSame(audited[0], audited[1])
  process.env.OPEN = 'yes'
  t.match(await command('audit', join(dir, 'app.mjs'), '--minimum', 'tls'), { code: 1, stderr: /: below the minimum, tls:\n {2}GET, HEAD \/\.well-known\/other \{"host":"a\.test"\}\n$/ }, 'others are')
})

// Forgeries

t.test('a forged certificate of check-proxy is readable in every encoding', async (t) => {
  const { certificate, key } = await forgeCertificate('mark')
  const { subject } = new X509Certificate(certificate)
  t.match(subject, /CN=mark/)
  t.ok(new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key)))
  for (const encoding of ['rfc9440', 'url-pem', 'url-pem-aws', 'pem-spaces', 'base64-der', 'xfcc'] satisfies WholeEncoding[]) {
    const [{ forged: [one] }] = forgeriesOf([{ name: 'client-cert', role: 'certificate', encoding }], { text: 'mark', certificate, isPlain: false }, ['as it is']) as [ReturnType<typeof forgeriesOf>[0]]
    t.match(chainIn({ encoding, hops: 1 }, one!.value!, undefined)[0], { subject }, encoding)
  }
})

t.test('a forged description of check-proxy is readable, and has the name and the fingerprint of its certificate', async (t) => {
  const { certificate } = await forgeCertificate('mark')
  const { fingerprint256, subject } = new X509Certificate(certificate)
  const headers = [{ name: 'd', role: 'certificate', encoding: 'dn' }, { name: 'v', role: 'verdict', expected: 'SUCCESS' }, { name: 'f', role: 'fingerprint' }] as const
  const sent = (all: Parameters<typeof forgeriesOf>[0]): Array<Record<string, string>> => forgeriesOf(all, { text: 'mark', certificate, isPlain: false }, ['as it is']).map(headersOf) as Array<Record<string, string>>
  const all = sent(headers)
  t.strictSame(all.map((one) => Object.keys(one).join(' ')), ['d', 'd', 'v', 'v', 'f', 'f', 'd v f', 'd v f'], 'each alone, and together')
  const together = all.at(-1)!
  const readDn = createReadDescription({ header: 'd', encoding: 'dn', fingerprint: 'f' })
  for (const read of [readDn(together.d!, together.f), createReadDescription({ header: 'x', encoding: 'xfcc-described', fingerprint: undefined })(sent([{ name: 'x', role: 'certificate', encoding: 'xfcc-described' }])[0]!.x!, undefined)]) {
    t.match(read, { fingerprint256 })
    t.equal((read as { subject: Name }).subject.flat().map(({ type, value }) => `${type}=${value}`).join('\n'), subject)
  }
})

t.test('check-proxy forges each header in each way, those of a certificate together, and all of them together', async (t) => {
  const certificate = Buffer.from('der')
  const mark = { text: 'mark', certificate, isPlain: false }
  const sent = (headers: Parameters<typeof forgeriesOf>[0], ways: Parameters<typeof forgeriesOf>[2], isPlain = false) => forgeriesOf(headers, { ...mark, isPlain }, ways).map(headersOf)
  t.strictSame(sent([{ name: 'forwarded', role: 'protocol', expected: 'https' }], ['as it is', 'in mixed case', 'with underscores', 'twice', 'named in Connection', 'only named in Connection']), [
    { forwarded: 'for=mark;proto=http' }, { FoRwArDeD: 'for=mark;proto=http' }, { forwarded: 'for=mark;proto=http' }, { forwarded: ['for=mark;proto=http', 'for=mark;proto=http'] },
    { forwarded: 'for=mark;proto=http', Connection: 'close, forwarded' }, { Connection: 'close, forwarded' }
  ])
  t.strictSame(sent([{ name: 'forwarded', role: 'protocol', expected: 'https' }, { name: 'x-forwarded-host', role: 'host' }], ['as it is', 'in mixed case', 'with underscores', 'only named in Connection']), [
    { forwarded: 'for=mark;proto=http' }, { 'x-forwarded-host': 'mark.invalid' }, { forwarded: 'for=mark;proto=https', 'x-forwarded-host': 'mark.invalid' },
    { FoRwArDeD: 'for=mark;proto=http' }, { 'X-FoRwArDeD-HoSt': 'mark.invalid' }, { FoRwArDeD: 'for=mark;proto=https', 'X-FoRwArDeD-HoSt': 'mark.invalid' },
    { forwarded: 'for=mark;proto=http' }, { x_forwarded_host: 'mark.invalid' }, { forwarded: 'for=mark;proto=https', x_forwarded_host: 'mark.invalid' },
    { Connection: 'close, forwarded' }, { Connection: 'close, x-forwarded-host' }, { Connection: 'close, forwarded, x-forwarded-host' }
  ])
  const some = [{ name: 'x-forwarded-proto', role: 'protocol', expected: 'https' }, { name: 'early-data', role: 'early-data' }, { name: 'c', role: 'certificate', encoding: 'base64-der' }] as const
  const protocol = (header: object, isPlain = true): unknown[] => sent([{ name: 'p', role: 'protocol', ...header }], ['as it is'], isPlain).map(({ p }) => p)
  t.strictSame(protocol({ expected: 'on' }), ['on', 'mark'])
  t.strictSame(protocol({ expected: 'on' }, false), ['off', 'mark'])
  t.strictSame([protocol({ present: true }), protocol({ present: true }, false)], [['mark'], ['mark']], 'any text')
  t.strictSame(protocol({ expected: 'https', hops: 2 }), ['https, https, https', 'https', 'mark'], 'one more than the app counts')
  t.strictSame(sent([{ name: 'forwarded', role: 'protocol', expected: 'https', hops: 1 }], ['as it is'], true), [{ forwarded: 'for=mark;proto=https, for=mark;proto=https' }, { forwarded: 'for=mark;proto=https' }])
  t.strictSame(sent(some, ['as it is']), [
    { 'x-forwarded-proto': 'http' }, { 'x-forwarded-proto': 'mark' }, { 'early-data': '1' }, { 'early-data': 'mark' }, { c: 'ZGVy' }, { c: 'mark' }, { 'x-forwarded-proto': 'https', c: 'ZGVy' }
  ], 'early data would get the rest refused')
  t.strictSame(sent(some, ['as it is'], true).slice(0, 2), [{ 'x-forwarded-proto': 'https' }, { 'x-forwarded-proto': 'mark' }], 'what is not true over plain HTTP')
  t.strictSame(sent([{ name: 'c', role: 'certificate', encoding: 'rfc9440' }, { name: 'chain', role: 'chain' }, { name: 'p', role: 'protocol', expected: 'https' }], ['as it is', 'only named in Connection']), [
    { c: ':ZGVy:' }, { c: 'mark' }, { chain: ':ZGVy:' }, { chain: 'mark' }, { p: 'http' }, { p: 'mark' }, { c: ':ZGVy:', chain: ':ZGVy:' }, { c: ':ZGVy:', chain: ':ZGVy:', p: 'https' },
    { Connection: 'close, c' }, { Connection: 'close, chain' }, { Connection: 'close, p' }, { Connection: 'close, c, chain' }, { Connection: 'close, c, chain, p' }
  ])
  t.strictSame(sent([{ name: 'c', role: 'certificate', encoding: 'rfc9440' }, { name: 'v', role: 'verdict', expected: 'SUCCESS' }], ['twice']).at(-1), { c: [':ZGVy:', ':ZGVy:'], v: ['SUCCESS', 'SUCCESS'] })
})

// The command

t.test('probe-token prints a token and nothing else', async (t) => {
  const { code, stdout, stderr } = await command('probe-token')
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /^\S+\n$/)
  t.ok(Math.abs(parseProbeToken(stdout.trim())!.expires - Date.now() - 3_600_000) < 2_000)
  t.ok(Math.abs(parseProbeToken((await command('probe-token', '--minutes', '5')).stdout.trim())!.expires - Date.now() - 300_000) < 2_000)
  for (const args of [['--minutes', '0'], ['--minutes', '1441'], ['--minutes', '1.5'], ['--minutes', ''], ['--minutes=-5'], ['--minutes'], ['--hours', '1'], ['x']]) {
    t.match(await command('probe-token', ...args), { code: 2, stdout: '', stderr: /[^]*Usage: / }, args.join(' '))
  }
  t.match([['audit'], ['check-proxy'], ['probe-token'], ['x'], []].map(loadsApp), [true, false, false, false, false])
})

t.test('check-proxy and probe-token run in one process', async (t) => {
  const entry = [...typescript, fileURLToPath(new URL('../lib/cli/index.ts', import.meta.url))]
  const run = (args: string[]) => new Promise<Result>((resolve) => {
    execFile('env', [...plainNode, ...entry, ...args], { timeout: 60_000 }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }))
  })
  const [token, bad] = await Promise.all([run(['probe-token']), run(['check-proxy', 'ftp://shop.example'])]) as [Result, Result]
  t.match(token, { code: 0, stdout: /^\d+\.[0-9a-f]+\n$/, stderr: '' })
  t.match(bad, { code: 2, stdout: '', stderr: /the URL is not allowed/ })
})

interface Through extends Partial<ReverseProxyOptions> {
  proxy?: Partial<ProxyOption>
  options?: HttpSecurityOptions
  args?: string[]
  timeout?: number
  declare?: (app: FastifyInstance) => unknown
  path?: string
  probe?: string
}

const BELIEVED = new Set(['x-forwarded-proto', 'forwarded', 'x-forwarded-host', 'x-ssl-client-cert', 'x-ssl-client-verify', 'client-cert', 'client-cert-chain', 'x-forwarded-client-cert', 'early-data', 'x-forwarded-ssl', 'x-arr-ssl', 'cloudfront-forwarded-proto'])
const normal = (name: string): string => name.toLowerCase().replaceAll('_', '-')
const https: HeaderLines = [['X-Forwarded-Proto', 'https']]
const own: HeaderLines = [...https, ['X-SSL-Client-Verify', 'NONE']]

/** Removes what clients write, in any spelling, and sets its own. */
const setting = (...set: HeaderLines) => (lines: HeaderLines): HeaderLines => [...lines.filter(([name]) => !BELIEVED.has(normal(name))), ...set]
const safe = setting(...own)
/** The same, but for some headers of which clients have the say. */
const letting = (own: HeaderLines) => (...names: string[]) => (lines: HeaderLines): HeaderLines => [
  ...setting(...own.filter(([name]) => !names.includes(name.toLowerCase()) || !lines.some(([other]) => other.toLowerCase() === name.toLowerCase())))(lines),
  ...lines.filter(([name]) => names.includes(name.toLowerCase()))
]

const passing = letting(own)

/** Fewer headers, fewer requests. */
const bare: Through = { proxy: { certificate: undefined } }

/** The command, through a proxy to an app. */
async function through (t: Test, { proxy = {}, options, args = [], timeout, declare, path = '', rewrite = safe, probe = makeProbeToken(5), ...more }: Through): Promise<Checked> {
  const { port: upstream } = await serveProxied(t, { trust: 'loopback', certificate: 'nginx', probe, ...proxy }, options, declare)
  const port = await reverseProxy(t, { upstream, pki, rewrite, ...more })
  return await check(`https://localhost:${port}${path}`, probe, args, timeout === undefined ? {} : { request: timeout })
}

t.test('check-proxy finds nothing behind a proxy that sets and removes every header', async (t) => {
  const plain = await through(t, {})
  t.strictSame({ ...plain, stdout: plain.stdout.replaceAll(/:\d{4,5}(?=[ /])/g, '') }, {
    code: 0,
    stdout: 'nothing got through: 56 forged requests to https://localhost over HTTP/1.1 (HTTP/2 is not offered), of x-forwarded-proto, x-ssl-client-cert, x-ssl-client-verify, early-data\n' +
      'plain HTTP was not tested, by which a proxy may let through what it keeps out here: give its URL as well, such as http://localhost\n' +
      'other paths were not tested, which a proxy may treat in another way (nginx: each location): give the URL of one of each as well, such as https://localhost/partners\n' +
      'no client certificate was tested, so that it is not known whether clients can identify themselves: give --cert and --key\n',
    stderr: '',
    report: undefined
  })
  const { code, report } = await through(t, { http2: true, args: ['--json'], proxy: { certificate: undefined, host: 'x-forwarded-host' }, rewrite: setting(...https, ['x-forwarded-host', 'localhost']) })
  t.equal(code, 0)
  t.match(report, {
    version: 1,
    urls: [{ url: /^https:\/\/localhost:\d+$/, protocols: ['HTTP/1.1', 'HTTP/2'], forgeries: 52, note: null }],
    headers: ['x-forwarded-proto', 'x-forwarded-host', 'early-data'],
    findings: [],
    unanswered: [],
    untested: [/^plain HTTP was not tested, .*: give its URL as well, such as http:\/\/localhost$/, /^other paths were not tested/]
  })
})

t.test('check-proxy finds a proxy that lets a client write the certificate header', async (t) => {
  const both = await through(t, { rewrite: passing('x-ssl-client-cert', 'x-ssl-client-verify'), http2: true, args: ['--json'] })
  t.equal(both.code, 1)
  t.strictSame(found(both), ['CERTIFICATE_BELIEVED ARRIVED x-ssl-client-cert', 'ARRIVED x-ssl-client-verify'])
  t.strictSame(waysOf(both, 'CERTIFICATE_BELIEVED'), ['HTTP/1.1 as it is', 'HTTP/1.1 in mixed case', 'HTTP/1.1 named in Connection', 'HTTP/2 as it is'])
  t.strictSame(waysOf(both, 'ARRIVED'), ['HTTP/1.1 twice', 'HTTP/2 twice'], 'each way with the worst that comes of it')
  t.match(await through(t, { rewrite: passing('x-ssl-client-cert') }), { code: 1, stdout: /^problem {2}x-ssl-client-cert: the app takes a self-made certificate.*not for a valid one \(HTTP\/1\.1 as it is, [^)]*\); it arrives as the client wrote it \(HTTP\/1\.1 twice\)\. Have the proxy remove [^.]*\n1 problem: 56 forged requests to .*\n/ }, 'one remedy')
  t.strictSame(found(await through(t, { rewrite: passing('x-ssl-client-verify'), args: ['--json'] })), ['ARRIVED x-ssl-client-verify'])
  for (const [proxy, name] of [[{ certificate: 'rfc9440' }, 'client-cert'], [{ certificate: { header: 'x-forwarded-client-cert', encoding: 'xfcc', verified: 'presence' } }, 'x-forwarded-client-cert']] as Array<[Partial<ProxyOption>, string]>) {
    t.strictSame(found(await through(t, { proxy, rewrite: passing(name), args: ['--json'] })), [`CERTIFICATE_BELIEVED ARRIVED ${name}`])
  }
  t.strictSame(found(await through(t, { proxy: { certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca: pki.ca.cert }, rewrite: passing('client-cert', 'client-cert-chain'), args: ['--json'] })), ['CERTIFICATE_SEEN ARRIVED client-cert', 'ARRIVED client-cert-chain'], 'of no client, as the app verifies it')
})

t.test('check-proxy finds a proxy that appends to a header, or removes one spelling alone', async (t) => {
  const appending = await through(t, {
    args: ['--json'],
    rewrite: (lines) => safe(lines).map(([name, value]) => !own.some(([set]) => set === name) ? [name, value] : [name, [...lines.filter(([other]) => other.toLowerCase() === name.toLowerCase()).map(([, theirs]) => theirs), value].join(', ')])
  })
  t.strictSame(found(appending), ['ARRIVED x-forwarded-proto', 'ARRIVED x-ssl-client-verify'])
  const quoting = await through(t, { args: ['--json'], rewrite: (lines) => safe(lines).map(([name, value]) => [name, name === 'X-SSL-Client-Verify' ? `NONE (was ${lines.find(([other]) => other === 'x-ssl-client-verify')?.[1]})` : value]) })
  t.strictSame(found(quoting), ['ARRIVED x-ssl-client-verify'])
  const lower = await through(t, { args: ['--json'], rewrite: (lines) => [...lines.filter(([name]) => !BELIEVED.has(name)), ...own] })
  t.match(found(lower)[0], 'CERTIFICATE_')
  t.strictSame(waysOf(lower, 'ARRIVED'), ['HTTP/1.1 in mixed case'])
  t.strictSame(found(await through(t, { args: ['--json'], rewrite: (lines) => [...lines.filter(([name]) => !BELIEVED.has(name.toLowerCase())), ...own] })), ['UNDERSCORED x-forwarded-proto', 'UNDERSCORED x-ssl-client-cert', 'UNDERSCORED x-ssl-client-verify', '(EARLY_DATA early-data)'])
  const last = await through(t, { args: ['--json'], proxy: { host: 'x-forwarded-host', protocol: 'forwarded' }, rewrite: (lines) => [...lines.filter(([name], at) => !BELIEVED.has(normal(name)) || at !== lines.findLastIndex(([other]) => other === name)), ['Forwarded', 'proto=https'], ['x-ssl-client-verify', 'NONE']] })
  t.strictSame(found(last), ['CERTIFICATE_SEEN x-ssl-client-cert', 'ARRIVED forwarded', 'ARRIVED x-forwarded-host', 'ARRIVED x-ssl-client-verify', '(EARLY_DATA early-data)'])
  t.strictSame(waysOf(last, 'ARRIVED'), ['HTTP/1.1 twice'])
})

t.test('check-proxy notes that a proxy passes on Early-Data, as RFC 8470 has it', async (t) => {
  const result = await through(t, { ...bare, args: ['--json'], rewrite: passing('early-data') })
  t.equal(result.code, 0)
  t.strictSame(found(result), ['(EARLY_DATA early-data)'])
})

t.test('check-proxy notes headers that a client can remove by Connection, which fails closed', async (t) => {
  const stripping = (lines: HeaderLines, connection: string) => safe(lines).filter(([name]) => !connection.toLowerCase().split(/, ?/).includes(name.toLowerCase()))
  const result = await through(t, { args: ['--json'], rewrite: stripping })
  t.equal(result.code, 0)
  t.strictSame(found(result), ['(LOST x-forwarded-proto)', '(LOST x-ssl-client-verify)'])
  t.strictSame(waysOf(result, 'LOST'), ['HTTP/1.1 named in Connection', 'HTTP/1.1 only named in Connection'])
  t.match((await through(t, { rewrite: stripping })).stdout, /^note {5}x-forwarded-proto: .*\nnote .*\nnothing got through/)

  const refused = await through(t, { args: ['--json'], rewrite: stripping, options: { minimum: 'tls' } })
  t.strictSame(found(refused), ['(LOST x-forwarded-proto)', '(LOST x-ssl-client-verify)'], 'also where the app refuses that')
  t.equal(refused.code, 0)
  const distrusted = await through(t, { ...bare, args: ['--json'], rewrite: (lines, connection) => [...safe(lines), ['Connection', connection]] })
  t.strictSame(found(distrusted), ['(LOST x-forwarded-proto)'], 'where Connection itself is passed on, which the app looks at')
})

t.test('check-proxy counts a forged header that the app refuses as one that has reached it', async (t) => {
  const result = await through(t, { ...bare, args: ['--json'], rewrite: passing('x-forwarded-proto', 'early-data'), options: { minimum: 'tls' } })
  t.equal(result.code, 1)
  t.strictSame(found(result), ['REFUSED x-forwarded-proto', '(EARLY_DATA early-data)'])
  const client = await through(t, {
    args: ['--json', '--cert', '--key'],
    rewrite: (lines) => [...passing('early-data')(lines).filter(([name]) => name !== 'X-SSL-Client-Verify'), ['x-ssl-client-cert', encodeURIComponent(pki.client.cert)], ['x-ssl-client-verify', 'SUCCESS']],
    options: { minimum: 'mtls' }
  })
  t.strictSame(found(client), ['(EARLY_DATA early-data)'], 'a client with a certificate of its own')
  t.equal(client.code, 0)
  const screen = await through(t, { ...bare, args: ['--json'], rewrite: passing('x-forwarded-proto'), options: { minimum: 'tls', default: { kind: 'screen' } } })
  t.strictSame(found(screen), ['REFUSED x-forwarded-proto'], 'a redirect')
})

t.test('check-proxy finds an app that does not trust its proxy, and a proxy that sends no header', async (t) => {
  t.match(await through(t, { proxy: { certificate: undefined, trust: '192.0.2.1' } }), { code: 1, stdout: /^problem {2}the app does not trust.* \(HTTP\/1\.1 nothing forged\)\..*proxy\.trust\n1 problem: / })
  t.match(await through(t, { ...bare, rewrite: setting() }), { code: 1, stdout: /^problem {2}x-forwarded-proto: the proxy does not say/ })
  t.strictSame(found(await through(t, { http2: true, args: ['--json'], rewrite: setting(...https, ['x-ssl-client-cert', encodeURIComponent(pki.client.cert)], ['x-ssl-client-verify', 'SUCCESS']) })), ['CERTIFICATE_OF_NOBODY x-ssl-client-cert'])
})

t.test('check-proxy finds a proxy that is not trusted and has a client certificate of its own', (t) => {
  const answer: ProbeAnswer = { version: 1, isTrusted: false, secure: true, certificate: { isPresent: true, isValid: true, fingerprint256: 'x', subject: 'CN=x', code: '', reason: '' }, headers: [{ name: 'x-forwarded-proto', role: 'protocol', values: [], underscored: [] }] }
  t.strictSame(leaksOf(answer, { isPlain: false, client: undefined }), [{ code: 'CERTIFICATE_OF_NOBODY', header: null }, { code: 'NOT_TRUSTED', header: null }])
  t.strictSame(leaksOf(answer, { isPlain: false, client: { fingerprint256: 'x', subject: 'CN=x' } }), [{ code: 'NOT_TRUSTED', header: null }])
  t.strictSame(leaksOf(answer, { isPlain: true, client: { fingerprint256: 'x', subject: 'CN=x' } }), [{ code: 'CERTIFICATE_OF_NOBODY', header: null }, { code: 'NOT_TRUSTED_PLAIN', header: null }])
  t.end()
})

t.test('check-proxy counts a proxy that refuses forged requests as safe', async (t) => {
  const forged = (lines: HeaderLines): boolean => lines.some(([name]) => BELIEVED.has(normal(name)))
  const refuses: Through = {
    http2: true,
    answers (lines, response, version) {
      if (!forged(lines)) return false
      // As nginx does over HTTP/2 what HTTP/1.1 has a status for.
      if (version === '2.0' && 'stream' in response) (response.stream as { close: (code: number) => void }).close(1)
      else response.writeHead(400).end()
      return true
    }
  }
  t.match(await through(t, refuses), { code: 0, stdout: /^nothing got through: 86 / })
})

t.test('check-proxy ends with exit code 2 where answers leave something unknown', async (t) => {
  const unknown = (how: Through['answers']): Through => ({ ...bare, args: ['--json'], timeout: 1_000, answers: (lines, response, version) => lines.some(([name]) => name.toLowerCase() === 'early-data') && how!(lines, response, version) })
  for (const [status, name] of [[404, 'not found'], [429, 'too many'], [503, 'unavailable'], [200, 'a page']] as const) {
    const { code, report } = await through(t, unknown((_lines, response) => { response.writeHead(status).end('x'); return true }))
    t.equal(code, 2, name)
    t.equal(report!.unanswered.length, 5)
    t.match(report!.unanswered[0], /^https:\/\/localhost:\d+ early-data: no answer of the app, and no refusal of the proxy \(HTTP\/1\.1 as it is\)$/)
  }
  const { code, stdout } = await through(t, { ...unknown((_lines, response) => { response.socket!.destroy(); return true }), args: [] })
  t.equal(code, 2)
  t.match(stdout, /^unknown {2}https:\S+ early-data: [^]*\nnot known: /)
  const worse = await through(t, { ...unknown((_lines, response) => { response.writeHead(503).end(); return true }), rewrite: passing('x-forwarded-proto') })
  t.equal(worse.code, 1, 'a problem is one all the same')

  let others = 0
  const other = JSON.stringify({ version: 1, isTrusted: true, secure: true, certificate: { isPresent: false, isValid: false, fingerprint256: '', subject: '', code: 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', reason: '' }, headers: [] } satisfies ProbeAnswer)
  const mixed = await through(t, { ...bare, args: ['--json'], answers: (_lines, response) => others++ === 2 && Boolean(response.end(other)) })
  t.match(mixed, { code: 2, report: { unanswered: [/ x-forwarded-proto: no answer of the app/] } }, 'another process, with other options')

  let asked = 0
  const tired = await through(t, { ...bare, args: ['--json'], answers: (_lines, response) => ++asked > 10 && Boolean(response.writeHead(403).end('enough')) })
  t.equal(tired.code, 2, 'a proxy that has had enough would look like a safe one')
  t.match(tired.report!.unanswered, [/answers with 403 and is no probe/])
  let over = 0
  const second = await through(t, { ...bare, args: ['--json'], http2: true, answers: (_lines, response, version) => version === '2.0' && over++ === 0 && Boolean(response.writeHead(502).end()) })
  t.match(second, { code: 2, report: { unanswered: [/answers with 502/] } })
})

t.test('check-proxy says what to do where the app cannot be reached', async (t) => {
  const expired = makeProbeToken(-1)
  const refused = async (through: Promise<Result>, message: RegExp, name = String(message)): Promise<void> => {
    const { code, stdout, stderr } = await through
    t.equal(code, 2, name)
    t.equal(stdout, '', name)
    t.match(stderr, message, name)
  }
  await refused(through(t, { proxy: { probe: makeProbeToken(5) } }), /is not there \(404\): proxy\.probe of the app is another token/)
  await refused(through(t, { probe: expired }), /is not there \(404\): the token has expired/)
  await refused(through(t, { rewrite: setting(), options: { minimum: 'tls' } }), /is refused by the app with 403 \(FST_HTTP_SECURITY_TLS_REQUIRED\)/)
  await refused(through(t, { answers: (_lines, response) => Boolean(response.writeHead(401).end()) }), /answers with 401 and is no probe/)
  for (const body of ['<html>', '{}', 'null', '{"version":2,"headers":[]}', '{"version":1}']) {
    await refused(through(t, { answers: (_lines, response) => Boolean(response.end(body)) }), /something else than a probe/, body)
  }
  await refused(through(t, { answers: (_lines, response) => Boolean(response.end('x'.repeat(2 ** 21))) }), /cannot be asked over HTTP\/1\.1: the answer is too long/)
  await refused(through(t, { timeout: 200, answers: () => true }), /over HTTP\/1\.1: no answer within 0\.2 seconds/)
  await refused(through(t, { timeout: 300, answers: (_lines, response) => Boolean(response.writeHead(200).write('x')) }), /cannot be asked over HTTP\/1\.1: /, 'half of an answer')

  // Over HTTP/2 what was fine over HTTP/1.1 is not all that there is.
  const silent = await through(t, { ...bare, http2: true, timeout: 500, args: ['--json'], answers: (_lines, _response, version) => version === '2.0' })
  t.match(silent, { code: 2, report: { unanswered: [/over HTTP\/2: no answer within 0\.5 seconds/] } })
  const closing = await through(t, { ...bare, http2: true, args: ['--json'], answers (_lines, response, version) { if (version !== '2.0') return false; (response as unknown as { stream: { close: (code: number) => void } }).stream.close(8); return true } })
  t.match(closing, { code: 2, report: { unanswered: [/over HTTP\/2: the connection was closed/] } }, 'a stream that is cancelled')
  await refused(through(t, { tls: { ALPNCallback: ({ protocols }: { protocols: string[] }) => protocols.includes('h2') ? undefined : 'http/1.1' } as never }), /cannot be asked over HTTP\/2: /)

  await t.rejects(offersHttp2({ url: new URL('https://127.0.0.1'), tls: { ca: Buffer.from(pki.ca.cert) }, timeout: 1_000 }), 'on port 443, too')

  const otherPki = await makePki()
  const port = await reverseProxy(t, { upstream: 1, pki: otherPki, rewrite: safe })
  await refused(check(`https://localhost:${port}`, expired), /cannot be asked over HTTP\/1\.1: .*\. --ca names the authorities to trust/)
  const named = await reverseProxy(t, { upstream: 1, pki: { ...pki, server: await issue(pki.ca, { purpose: 'server', san: [{ type: 'dns', value: 'other.test' }] }) }, rewrite: safe })
  await refused(check(`https://localhost:${named}`, expired), /altnames|does not match/i)
  await refused(check(`https://127.0.0.1:${await freePort()}`, expired), /ECONNREFUSED/)
})

// Plain HTTP

interface Both extends Omit<Through, 'rewrite' | 'answers'> {
  over?: ReverseProxyOptions['rewrite']
  /** By port 80, so to speak. */
  plain?: ReverseProxyOptions['rewrite']
  answers?: ReverseProxyOptions['answers']
  /** Of plain HTTP. */
  path?: string
}
const http: HeaderLines = [['X-Forwarded-Proto', 'http']]
const passingPlain = letting(http)
const all = [...BELIEVED]

/** Through both listeners of a proxy to one app. */
async function both (t: Test, { proxy = {}, options, args = ['--json'], over = safe, plain = setting(...http), probe = makeProbeToken(5), answers, timeout = 10_000, path = '/' }: Both): Promise<Checked> {
  const { port: upstream } = await serveProxied(t, { trust: 'loopback', certificate: 'nginx', probe, ...proxy }, options)
  const https = await reverseProxy(t, { upstream, pki, rewrite: over })
  const http = await reverseProxy(t, { upstream, pki, rewrite: plain, isPlain: true, answers })
  return await check([`http://localhost:${http}${path}`, `https://localhost:${https}`, `https://localhost:${https}/`], probe, args, { request: timeout })
}

/** The ports differ. */
const withoutPorts = (text: string): string => text.replaceAll(/(localhost):\d+/g, '$1')

t.test('check-proxy finds nothing over plain HTTP where the proxy sets and removes headers there, too', async (t) => {
  const { code, stdout } = await both(t, { args: [] })
  t.equal(code, 0)
  t.match(withoutPorts(stdout), /^nothing got through: 56 forged requests to https:\/\/localhost over HTTP\/1\.1 \(HTTP\/2 is not offered\), 56 forged requests to http:\/\/localhost over HTTP\/1\.1, of x-forwarded-proto, x-ssl-client-cert, x-ssl-client-verify, early-data\nother paths .*\nno client certificate .*\n$/)
  t.match(await both(t, { plain: setting(...http, ['x-ssl-client-verify', 'NONE']), args: ['--json', '--cert', '--key'], over: setting(...https, ['x-ssl-client-cert', encodeURIComponent(pki.client.cert)], ['x-ssl-client-verify', 'SUCCESS']) }), { code: 0, report: { findings: [] } }, 'there is no certificate over plain HTTP')
})

t.test('check-proxy finds a proxy that is safe over HTTPS alone, with the worst first and its URL', async (t) => {
  const result = await both(t, { plain: passingPlain(...all), args: [] })
  t.equal(result.code, 1)
  const lines = withoutPorts(result.stdout).split('\n')
  t.match(lines[0], /^problem {2}x-ssl-client-cert: the app takes a self-made certificate.* for a valid one.* \(http:\/\/localhost: HTTP\/1\.1 all together as it is, all together in mixed case, all together named in Connection\); it arrives as/)
  t.match(lines[1], /^problem {2}x-forwarded-proto: over plain HTTP, the app believes that the client came over HTTPS, since the client says so \(http:\/\/localhost: HTTP\/1\.1 as it is, /)
  t.match(lines.at(-4), /^3 problems: /)

  const proto = await both(t, { ...bare, plain: passingPlain('x-forwarded-proto') })
  t.strictSame(found(proto), ['SECURE_BELIEVED x-forwarded-proto'])
  const both443 = await both(t, { plain: passingPlain(...all), over: passing('x-ssl-client-verify'), args: [] })
  t.match(withoutPorts(both443.stdout), /x-ssl-client-verify: it arrives as the client wrote it \(https:\/\/localhost: HTTP\/1\.1 as it is, [^;]*; http:\/\/localhost: HTTP\/1\.1 as it is/)
  t.strictSame(found(await both(t, { ...bare, plain: setting(...https) })), ['ALWAYS_SECURE x-forwarded-proto'], 'https, whoever comes')
  t.strictSame(found(await both(t, { plain: setting(...https, ['x-ssl-client-cert', encodeURIComponent(pki.client.cert)], ['x-ssl-client-verify', 'SUCCESS']) })), ['ALWAYS_SECURE x-forwarded-proto', 'CERTIFICATE_OF_NOBODY x-ssl-client-cert'])
})

// Other ways to say how a client came

/** Appends to what clients write, as a proxy does that is one of several. */
const appending = (name: string, value: string) => (lines: HeaderLines): HeaderLines =>
  [...lines.filter(([other]) => !BELIEVED.has(normal(other))), [name, [...lines.filter(([other]) => other.toLowerCase() === name.toLowerCase()).map(([, theirs]) => theirs), value].join(', ')]]

t.test('check-proxy forges what an app believes of the protocol, however it is said', async (t) => {
  for (const [protocol, name, over, plain] of [
    [{ header: 'x-forwarded-ssl', value: 'on' }, 'x-forwarded-ssl', 'on', 'off'], ['cloudfront', 'cloudfront-forwarded-proto', 'https', 'http'], ['azure', 'x-arr-ssl', '2048|CN=a|CN=b', undefined], ['forwarded', 'forwarded', 'proto=https', 'proto=http']
  ] as Array<[ProxyOption['protocol'], string, string, string | undefined]>) {
    const [https, http] = [over, plain].map((value): HeaderLines => value === undefined ? [] : [[name, value]]) as [HeaderLines, HeaderLines]
    const asked: Both = { proxy: { certificate: undefined, protocol }, over: setting(...https), plain: setting(...http) }
    const safe = await both(t, asked)
    t.match(safe, { code: 0, report: { headers: [name, 'early-data'], findings: [], unanswered: [] } }, name)
    t.strictSame(found(await both(t, { ...asked, plain: letting(http)(name) })), [`SECURE_BELIEVED ${name === 'forwarded' ? '' : 'ARRIVED '}${name}`], `${name} over plain HTTP: two lines count only where Node joins them`)
    t.strictSame(found(await both(t, { ...asked, over: letting(https)(name) })), [`ARRIVED ${name}`], `${name} over HTTPS`)
    t.strictSame(found(await both(t, { ...asked, plain: setting(...https) })), [`ALWAYS_SECURE ${name}`])
    t.match((await both(t, { ...asked, args: [], over: setting() })).stdout, new RegExp(`^problem {2}${name}: the proxy does not say .*\\(proxy\\.protocol\\), and how many proxies append to it \\(proxy\\.hops\\)\n`))
    t.match(found(await both(t, { ...asked, plain: (lines) => [...lines.filter(([other]) => !BELIEVED.has(other.toLowerCase())), ...http] })), name.includes('-') ? [`UNDERSCORED ${name}`] : [], 'another spelling')
  }
})

t.test('check-proxy takes what is left of the values that an app counts as no harm', async (t) => {
  for (const [name, protocol, https, http] of [['X-Forwarded-Proto', 'x-forwarded-proto', 'https', 'http'], ['Forwarded', 'forwarded', 'for="a, b";proto=https', 'for="a, b";proto=http'], ['X-Forwarded-Ssl', { header: 'x-forwarded-ssl', value: 'on' }, 'on', 'off']] as Array<[string, ProxyOption['protocol'], string, string]>) {
    const header = name.toLowerCase()
    const asked: Both = { proxy: { certificate: undefined, protocol, hops: 1 }, over: appending(name, https), plain: appending(name, http) }
    t.match(await both(t, asked), { code: 0, report: { headers: [header, 'early-data'], findings: [], unanswered: [] } }, name)
    t.strictSame(found(await both(t, { ...asked, proxy: { ...asked.proxy, hops: undefined } })), [`ARRIVED ${header}`], 'which it is where all values count')
    t.strictSame(found(await both(t, { ...asked, proxy: { ...asked.proxy, hops: 2 } })), [`SECURE_BELIEVED NOT_SECURE ARRIVED ${header}`], 'one proxy less than the app counts')
    const two = { ...asked, proxy: { ...asked.proxy, hops: 2 } }
    const inner = (value: string) => (lines: HeaderLines): HeaderLines => lines.map(([other, theirs]) => other.toLowerCase() === header ? [other, `${theirs}, ${value}`] : [other, theirs])
    t.match(await both(t, { ...two, over: (lines) => inner(http)(appending(name, https)(lines)), plain: (lines) => inner(http)(appending(name, http)(lines)) }), { code: 0, report: { findings: [] } }, 'two proxies')
    t.strictSame(found(await both(t, { ...asked, over: letting([[name, https]])(header), plain: letting([[name, http]])(header) })), [`SECURE_BELIEVED ARRIVED ${header}`], 'one that sets it where it is missing')
    t.strictSame(found(await both(t, { ...asked, over: (lines) => [...lines.filter(([other]) => !BELIEVED.has(normal(other)) || other.toLowerCase() === header), [name, https]] })), [`ARRIVED ${header}`], 'a line of its own beside that of the client')
  }
  const odd = await both(t, { proxy: { certificate: undefined, protocol: 'forwarded', hops: 1 }, over: (lines) => appending('Forwarded', 'proto=https')(lines).map(([name, value]) => [name, name === 'Forwarded' && value.includes('for=') ? `x="${value.split(',')[0]}` : value]), plain: appending('Forwarded', 'proto=http') })
  t.strictSame(found(odd), ['ARRIVED forwarded'], 'with a quote that has no end')
})

t.test('check-proxy takes refused or redirected plain HTTP as fine, and still sends forgeries there', async (t) => {
  for (const [options, note] of [[{ minimum: 'tls' }, /is fine: the app refuses plain HTTP \(403\)/], [{ minimum: 'tls', default: { kind: 'screen' } }, /is fine: it redirects to HTTPS \(308\)/]] as Array<[HttpSecurityOptions, RegExp]>) {
    const safe = await both(t, { ...bare, options })
    t.match(safe, { code: 0, report: { urls: [{ note: null, forgeries: 22 }, { note, forgeries: 22 }], findings: [], unanswered: [] } })
    t.strictSame(found(await both(t, { ...bare, options, plain: passingPlain('x-forwarded-proto') })), ['SECURE_BELIEVED x-forwarded-proto'])
  }
  const beside = await both(t, { ...bare, args: [], options: { minimum: 'tls' }, plain: passingPlain('x-forwarded-proto') })
  t.notMatch(beside.stdout, /is fine/, 'not beside a problem of the same URL')
  t.match(await both(t, { ...bare, options: { minimum: 'tls' }, path: '/other' }), { code: 2, report: { findings: [], unanswered: [/^http:.*\/other is refused by the app with 403 \(FST_HTTP_SECURITY_TLS_REQUIRED\), as a path is that it does not know/] } }, 'a path that was not reached over HTTPS')
  const strict: Both = {
    options: { minimum: 'mtls' },
    args: ['--json', '--cert', '--key'],
    over: setting(...https, ['x-ssl-client-cert', encodeURIComponent(pki.client.cert)], ['x-ssl-client-verify', 'SUCCESS'])
  }
  t.strictSame(found(await both(t, { ...strict, plain: passingPlain('x-forwarded-proto') })), ['SECURE_BELIEVED x-forwarded-proto'], 'who is asked for a certificate is taken for a client over HTTPS')
  t.strictSame(found(await both(t, { ...strict, plain: passingPlain(...all) })).slice(0, 2), ['CERTIFICATE_BELIEVED x-ssl-client-cert', 'SECURE_BELIEVED x-forwarded-proto'])

  for (const [status, headers, code] of [[301, { location: 'https://localhost/' }, 0], [403, {}, 0], [426, {}, 0], [301, { location: 'http://localhost/' }, 2], [301, {}, 2], [404, {}, 2], [200, {}, 2], [502, {}, 2]] as const) {
    const result = await both(t, { ...bare, answers: (_lines, response) => Boolean(response.writeHead(status, headers).end('x')) })
    t.match(result, { code, report: { findings: [], unanswered: code === 0 ? [] : [/^http:/] } }, `${status} ${JSON.stringify(headers)}`)
  }
  let asked = 0
  t.match(await both(t, { ...bare, answers: (_lines, response) => asked++ > 3 && Boolean(response.writeHead(403).end()) }), { code: 2, report: { unanswered: [/has answered in another way in the end: is fine: plain HTTP is refused \(403\)/] } })
  let times = 0
  t.match(await both(t, { ...bare, answers: (_lines, response) => times++ < 2 && Boolean(response.writeHead(403).end()) }), { code: 2, report: { unanswered: [/has answered in another way in the end: with a probe/] } })
})

t.test('check-proxy takes a closed HTTP port as fine, and finds that an app without a proxy believes no header', async (t) => {
  const probe = makeProbeToken(5)
  const { port: upstream } = await serveProxied(t, { trust: 'loopback', probe })
  const port = await reverseProxy(t, { upstream, pki, rewrite: safe })
  const closed = await freePort()
  const closedPort = await check([`https://localhost:${port}`, `http://127.0.0.1:${closed}`], probe)
  t.match(closedPort, { code: 0, stdout: new RegExp(`^note {5}http://127\\.0\\.0\\.1:${closed} is fine: nothing listens there\nnothing got through: .* 0 forged requests to http://127\\.0\\.0\\.1:${closed}, of`) })
  t.match(await check(`http://127.0.0.1:${closed}`, probe), { code: 2, stderr: /cannot be asked over HTTP\/1\.1: .*ECONNREFUSED/ }, 'but tells nothing')
  const stuck = net.createServer().listen(0, '127.0.0.1')
  await once(stuck, 'listening')
  t.teardown(() => stuck.close())
  t.match(await check([`https://localhost:${port}`, `http://127.0.0.1:${portOf(stuck)}`], probe, [], { request: 500 }), { code: 2, stdout: /unknown {2}http:.*no answer within 0\.5 seconds/ })

  const { port: open } = await serveProxied(t, { trust: '192.0.2.1', certificate: 'nginx', probe })
  const direct = await check(`http://localhost:${open}`, probe, ['--json'])
  t.match(direct, { code: 0, report: { untested: [/^HTTPS was not tested, .* such as https:\/\/localhost$/, /^other paths/] } })
  t.strictSame(found(direct), ['(NOT_TRUSTED_PLAIN null)'])
  const { port: trusting } = await serveProxied(t, { trust: 'loopback', certificate: 'nginx', probe })
  t.strictSame(found(await check(`http://localhost:${trusting}`, probe, ['--json'])).slice(0, 2), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED x-ssl-client-cert', 'SECURE_BELIEVED ARRIVED UNDERSCORED x-forwarded-proto'], 'without its proxy, from an address that is trusted')
  const { port: refusing } = await serveProxied(t, { trust: 'loopback', probe }, { minimum: 'tls' })
  t.match(await check(`http://localhost:${refusing}`, probe), { code: 2, stderr: /TLS_REQUIRED.*give its https: URL as well/ })

  const failed = (code: string): Error => Object.assign(new Error(code), { code })
  t.equal(isNobodyThere(failed('ECONNREFUSED')), true)
  t.equal(isNobodyThere(new AggregateError([failed('ENETUNREACH'), failed('ECONNREFUSED')])), true, 'no way to one of its addresses')
  t.equal(isNobodyThere(new AggregateError([failed('ETIMEDOUT'), failed('ECONNREFUSED')])), false)
  t.equal(isNobodyThere(failed('ENETUNREACH')), false)
  t.equal(unreachable({ name: 'http://shop.example' }, 'HTTP/1.1', Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })).message, 'http://shop.example cannot be asked over HTTP/1.1: ECONNREFUSED', 'several addresses have no message')
})

t.test('check-proxy finds forged protocol and certificate headers together behind a proxy that sets nothing', async (t) => {
  const result = await through(t, { args: ['--json'], rewrite: (lines) => lines })
  t.strictSame(found(result), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED x-ssl-client-cert', 'NOT_SECURE ARRIVED UNDERSCORED x-forwarded-proto', 'ARRIVED UNDERSCORED x-ssl-client-verify', '(EARLY_DATA early-data)'])
  t.strictSame(waysOf(result, 'CERTIFICATE_BELIEVED'), ['HTTP/1.1 all together as it is', 'HTTP/1.1 all together in mixed case', 'HTTP/1.1 all together named in Connection'])
  t.ok(result.report!.findings.every(({ isProblem, remedy }) => isProblem ? typeof remedy === 'string' : remedy === null), 'one remedy each')
})

// The client's certificate

t.test('check-proxy finds an app that does not see the certificate of --cert, or not as valid', async (t) => {
  const other = await issue(pki.ca, { subject: 'CN=Other' })
  const client = { name: 'x-ssl-client-cert', value: encodeURIComponent(pki.client.cert) }
  const identified: Through = { args: ['--json', '--cert', '--key'] }
  const cases: Array<[name: string, set: HeaderLines, expected: string[], proxy?: Partial<ProxyOption>]> = [
    ['as it is', [[client.name, client.value], ['x-ssl-client-verify', 'SUCCESS']], []],
    ['not forwarded', [['x-ssl-client-verify', 'SUCCESS']], ['CERTIFICATE_NOT_SEEN x-ssl-client-cert']],
    ['empty', [[client.name, ''], ['x-ssl-client-verify', 'SUCCESS']], ['CERTIFICATE_NOT_SEEN x-ssl-client-cert']],
    ['a fingerprint', [[client.name, new X509Certificate(pki.client.cert).fingerprint256], ['x-ssl-client-verify', 'SUCCESS']], ['CERTIFICATE_NOT_SEEN x-ssl-client-cert']],
    ['another verdict', [[client.name, client.value], ['x-ssl-client-verify', 'OK']], ['CERTIFICATE_NOT_VALID x-ssl-client-verify']],
    ['of another client', [[client.name, encodeURIComponent(other.cert)], ['x-ssl-client-verify', 'SUCCESS']], ['CERTIFICATE_OF_ANOTHER x-ssl-client-cert']],
    ['of another authority', [['client-cert', `:${new X509Certificate(pki.client.cert).raw.toString('base64')}:`]], ['CERTIFICATE_NOT_VALID client-cert'], { certificate: { header: 'client-cert', encoding: 'rfc9440', verified: 'here' }, ca: (await makePki()).ca.cert }],
    ['for the proxy alone', [], [], { certificate: undefined }]
  ]
  for (const [name, set, expected, proxy = {}] of cases) {
    const result = await through(t, { ...identified, proxy, rewrite: setting(...https, ...set) })
    t.strictSame(found(result), expected, name)
    t.equal(result.code, expected.length === 0 ? 0 : 1, name)
  }
  const refused = await through(t, { ...identified, rewrite: setting(...own), options: { minimum: 'mtls' } })
  t.match(refused, { code: 2, stderr: /CERTIFICATE_REQUIRED.*does not see that of --cert/ })
  t.match(await through(t, { rewrite: setting(...own), options: { minimum: 'mtls' } }), { code: 2, stderr: /CERTIFICATE_REQUIRED.*Give a client certificate with --cert/ })
  const revoked = await through(t, { args: ['--cert', '--key'], rewrite: setting(...https, [client.name, client.value], ['x-ssl-client-verify', 'FAILED:certificate revoked']) })
  t.match(revoked, { code: 1, stdout: /does not take it for a valid one, so that no client can identify itself: FST_HTTP_SECURITY_CERTIFICATE_REVOKED CERT_REVOKED \(/ })
  t.match(await check('https://localhost', makeProbeToken(1), ['--key', '--cert', join(dir, 'key.pem')]), { code: 2, stderr: /key\.pem holds no certificate in PEM/ })
})

// Proxies that describe the client

t.test('check-proxy finds descriptions of clients that a proxy lets through, and compares that of --cert', async (t) => {
  const { fingerprint256, subject } = new X509Certificate(pki.client.cert)
  const name = subject.split('\n').reverse().join(',')
  const sha256 = fingerprint256.replaceAll(':', '')
  const dn = { header: 'x-dn', encoding: 'dn', verified: { header: 'x-verify', value: 'SUCCESS' } } as const
  const byName: Partial<ProxyOption> = { certificate: dn }
  const byHash: Partial<ProxyOption> = { certificate: { ...dn, fingerprint: 'x-sha256' } }
  const istio: Partial<ProxyOption> = { certificate: 'istio' }
  const said: HeaderLines = [['x-dn', name], ['x-verify', 'SUCCESS'], ['x-sha256', sha256]]
  const saidByIstio: HeaderLines = [['x-forwarded-client-cert', `By=spiffe://a;Hash=${sha256};Subject="${name}";URI=`]]
  const removing = (...set: HeaderLines) => (lines: HeaderLines): HeaderLines => [...setting(...https, ...set)(lines.filter(([name]) => !/^x[-_](dn|verify|sha256)$/i.test(name)))]
  const alone = /the certificate of --cert was compared by its subject alone/
  for (const [why, proxy, set, expected] of [
    ['a name alone', byName, said, []],
    ['with a fingerprint', byHash, said, []],
    ['Istio', istio, saidByIstio, []],
    ['another name', byName, [['x-dn', 'CN=Joe'], ['x-verify', 'SUCCESS']], ['CERTIFICATE_OF_ANOTHER x-dn']],
    ['another fingerprint', byHash, [['x-dn', name], ['x-verify', 'SUCCESS'], ['x-sha256', 'ab'.repeat(32)]], ['CERTIFICATE_OF_ANOTHER x-dn']],
    ['no fingerprint', byHash, [['x-dn', name], ['x-verify', 'SUCCESS']], ['CERTIFICATE_NOT_SEEN x-dn']],
    ['another verdict', byName, [['x-dn', name], ['x-verify', 'OK']], ['CERTIFICATE_NOT_VALID x-verify']],
    ['one line of OpenSSL', byName, [['x-dn', '/O=Acme/CN=Jane'], ['x-verify', 'SUCCESS']], ['CERTIFICATE_NOT_SEEN x-dn']],
    ['one of Istio for everybody', istio, saidByIstio.map(([header, value]) => [header, value.replace(/Hash=../, 'Hash=00')]), ['CERTIFICATE_OF_ANOTHER x-forwarded-client-cert']]
  ] as Array<[string, Partial<ProxyOption>, HeaderLines, string[]]>) {
    const result = await through(t, { args: ['--json', '--cert', '--key'], proxy, rewrite: removing(...set) })
    t.strictSame(found(result), expected, why)
    t.equal(result.code, expected.length === 0 ? 0 : 1)
    t.equal(result.report!.untested.some((line) => alone.test(line)), proxy === byName, `${why}: whether the name alone is known is said`)
  }

  const letThrough = (lines: HeaderLines): HeaderLines => [...setting()(lines), ...https, ...lines.filter(([name]) => normal(name) === 'x-forwarded-client-cert')]
  t.strictSame(found(await through(t, { args: ['--json'], proxy: byName, rewrite: letThrough })), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED x-dn', 'ARRIVED UNDERSCORED x-verify'])
  t.strictSame(found(await through(t, { args: ['--json'], proxy: byHash, rewrite: letThrough })), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED x-dn', 'ARRIVED UNDERSCORED x-sha256', 'ARRIVED UNDERSCORED x-verify'])
  t.strictSame(found(await through(t, { args: ['--json'], proxy: istio, rewrite: letThrough })), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED x-forwarded-client-cert'])
  // The proxy says who it is, and clients say by which certificate, or the other way around.
  const some = (names: string[]) => (lines: HeaderLines): HeaderLines => [
    ...removing(...said.filter(([name]) => !names.includes(name) || !lines.some(([other]) => other.toLowerCase() === name)))(lines),
    ...lines.filter(([name]) => names.includes(name.toLowerCase()))
  ]
  for (const one of ['x-dn', 'x-sha256']) {
    t.equal(found(await through(t, { args: ['--json', '--cert', '--key'], proxy: byHash, rewrite: some([one]) }))[0]!.replace(/ .* /, ' '), 'CERTIFICATE_BELIEVED x-dn', `clients write ${one}`)
  }
})

// Servers that mean no good

t.test('check-proxy takes a probe answer of another shape as no answer', (t) => {
  const certificate = { isPresent: false, isValid: false, fingerprint256: '', subject: '', code: '', reason: '' }
  const header = { name: 'x-forwarded-proto', role: 'protocol', expected: 'https', values: [], underscored: [] }
  const answer = { version: 1, isTrusted: true, secure: true, certificate, headers: [header] }
  const withHeader = (more: object): object => ({ ...answer, headers: [{ ...header, ...more }] })
  const fine = [answer, { ...answer, headers: [] }, withHeader({ role: 'verdict', expected: 'SUCCESS' }), withHeader({ role: 'certificate', encoding: 'xfcc' }), withHeader({ expected: undefined, present: true }), withHeader({ hops: 10 }), withHeader({ role: 'host', expected: undefined })]
  for (const one of fine) t.strictSame(parseAnswer(JSON.stringify(one)), JSON.parse(JSON.stringify(one)))
  const odd: unknown[] = [
    null, 1, [], 'x', {}, { ...answer, version: '1' }, { ...answer, isTrusted: 1 }, { ...answer, secure: null }, { ...answer, certificate: null },
    { ...answer, certificate: { ...certificate, isPresent: 1 } }, { ...answer, certificate: { ...certificate, isValid: 1 } }, { ...answer, certificate: { ...certificate, fingerprint256: 7 } }, { ...answer, certificate: { ...certificate, subject: 7 } }, { ...answer, certificate: { ...certificate, fingerprint256: '\u001b[2J' } },
    { ...answer, headers: {} }, { ...answer, headers: [null] }, { ...answer, headers: Array(17).fill(header) },
    ...[{ name: 1 }, { name: 'a\u001b[2J' }, { name: 'A' }, { name: 'a_b' }, { name: '' }, { name: 'a'.repeat(2000) }, { role: 'x' }, { role: 'certificate' }, { role: 'certificate', encoding: 'toString' }, { role: 'verdict', expected: undefined }, { role: 'verdict', expected: undefined, present: true }, { role: 'verdict', expected: 1 }, { expected: undefined }, { expected: undefined, present: 1 }, { expected: 1 }, { hops: 0 }, { hops: 11 }, { hops: 1.5 }, { hops: '1' }, { values: 'x' }, { values: [1] }, { values: Array(101).fill('') }, { underscored: null }].map(withHeader)
  ]
  for (const one of odd) t.equal(parseAnswer(JSON.stringify(one)), undefined, JSON.stringify(one)?.slice(0, 99))
  for (const body of ['', '{', '['.repeat(1_000_000)]) t.equal(parseAnswer(body), undefined)
  t.end()
})

t.test('no server makes check-proxy hang, or write control characters to a terminal', async (t) => {
  const token = makeProbeToken(5)
  const raw = async (answer: string | ((socket: net.Socket) => void)): Promise<string> => {
    const sockets = new Set<net.Socket>()
    const server = net.createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {}).once('data', () => typeof answer === 'string' ? socket.write(answer) : answer(socket))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => { server.close(); for (const socket of sockets) socket.destroy() })
    return `http://127.0.0.1:${portOf(server)}`
  }
  const asked = async (answer: Parameters<typeof raw>[0]) => await check(await raw(answer), token, [], { request: 400 })
  const body = JSON.stringify({ version: 1 }).replace('1', '"\u001b[2J"')
  const failed = { code: 2, stdout: '' }
  t.match(await asked('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'), { ...failed, stderr: /cannot be asked/ })
  t.match(await asked((socket) => { const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 5); socket.once('close', () => clearInterval(timer)) }), { ...failed, stderr: /no answer within 0\.4 seconds/ })
  t.match(await asked(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(10_000)}\r\n`), { ...failed, stderr: /cannot be asked/ })
  t.match(await asked(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`), { ...failed, stderr: /something else than a probe/ })
  const refusal = `FST_HTTP_SECURITY_${'X'.repeat(5_000)}`
  const long = await asked(`HTTP/1.1 403 \u001b[2J\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`)
  t.match(long, failed)
  t.ok(long.stderr.length < 1_000)
  t.notMatch(long.stderr, '\u001b')

  // A name that its authority vouches for, and a verdict that cannot be sent.
  const evil = await issue(pki.ca, { subject: 'CN=\u001b[2Jevil', purpose: 'server' })
  const port = await reverseProxy(t, { upstream: 1, pki: { ...pki, server: evil }, rewrite: safe })
  const named = await check(`https://localhost:${port}`, token)
  t.match(named, { ...failed, stderr: /\\u\{1b\}\[2Jevil/ })
  t.notMatch(named.stderr, '\u001b')
  const probe: ProbeAnswer = {
    version: 1,
    isTrusted: true,
    secure: true,
    certificate: { isPresent: false, isValid: false, fingerprint256: '', subject: '', code: 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', reason: '' },
    headers: [{ name: 'x-verdict', role: 'verdict', expected: 'a\r\nb', values: [], underscored: [] }]
  }
  const verdict = await through(t, { http2: true, answers: (_lines, response) => Boolean(response.end(JSON.stringify(probe))) })
  t.match(verdict, { code: 2, stdout: /unknown .* x-verdict: no answer/ })
  t.notMatch(verdict.stdout, '\r')

  const { port: upstream } = await serveProxied(t, { trust: 'loopback', probe: token })
  const slow = await check(`https://localhost:${await reverseProxy(t, { upstream, pki, rewrite: safe })}`, token, [], { all: 0 })
  t.match(slow, { code: 2, stdout: /unknown .* was left after 0 seconds/ })
})

t.test('check-proxy explains answers 431 and 400 of a server', async (t) => {
  t.match(await through(t, { rewrite: (lines) => [...safe(lines), ['x-long', 'x'.repeat(20_000)]] }), { code: 2, stderr: /answers with 431: the headers are too large.*Fastify\(\{ http: \{ maxHeaderSize \} \}\)/ })
  t.match(await through(t, { answers: (_lines, response) => Boolean(response.writeHead(400).end('{"error":"Bad Request","message":"Client Error","statusCode":400}')) }), { code: 2, stderr: /answers with 400.*ssl_client_escaped_cert.*--cert and --key/ })
})

t.test('check-proxy works below a path, by IP address, and with the token in the environment', async (t) => {
  const probe = makeProbeToken(5)
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  app.register(async (child) => { await child.register(httpSecurity, { proxy: { trust: 'loopback', probe } }) }, { prefix: '/shop' })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const port = await reverseProxy(t, { upstream: portOf(app), pki, rewrite: safe, http2: true })
  const ca = join(dir, 'ca.pem')
  t.teardown(() => { Reflect.deleteProperty(process.env, VARIABLE) })
  process.env[VARIABLE] = probe
  t.match(await command('check-proxy', `https://127.0.0.1:${port}/shop/`, '--ca', ca), { code: 0, stdout: /^nothing got through: .* to https:\/\/127\.0\.0\.1:\d+\/shop over HTTP\/1\.1 and HTTP\/2, of x-forwarded-proto, early-data\nplain HTTP was not tested.* http:\/\/127\.0\.0\.1\/shop\nother paths .* such as https:\/\/127\.0\.0\.1:\d+\/\n$/, stderr: '' })
  t.match(await command('check-proxy', `https://127.0.0.1:${port}/`, '--ca', ca), { code: 2, stderr: /404.*proxy\.probe of the app is another token, or none/ })
  const both = await command('check-proxy', `https://127.0.0.1:${port}/`, `https://127.0.0.1:${port}/shop`, '--ca', ca)
  t.match(both, { code: 2, stdout: /^unknown {2}https:\/\/127\.0\.0\.1:\d+ is not there \(404\)[^]*not known: .* to https:\/\/127\.0\.0\.1:\d+\/shop over/, stderr: '' }, 'one that does not answer stops no other')
  const none = await command('check-proxy', `https://127.0.0.1:${port}/`, `https://127.0.0.1:${port}/other`, '--ca', ca)
  t.match(none, { code: 2, stdout: '', stderr: /:\d+ is not there[^]*\/other is not there/ })
})

t.test('wrong arguments of check-proxy print the usage', async (t) => {
  const url = 'https://shop.example'
  const dir = t.testdir({ token: makeProbeToken(1), empty: '\n', secret: 'correct horse' })
  const token = ['--token-file', join(dir, 'token')]
  Reflect.deleteProperty(process.env, VARIABLE)
  const wrong: Array<[args: string[], message: RegExp]> = [
    [[], /check-proxy takes one or more URLs/],
    [[url, '--cert', 'x', ...token], /--cert and --key belong together/],
    [[url, '--key', 'x', ...token], /--cert and --key belong together/],
    [[url, '--token', 'x'], /--token/],
    [[url], /a token is missing: FASTIFY_HTTP_SECURITY_PROBE is not there or empty/],
    [[url, '--token-file', join(dir, 'empty')], /a token is missing/],
    [[url, '--token-file', join(dir, 'secret')], /secret holds no token/],
    ...Object.entries({
      'shop.example': 'it is none, or without https:// or http://',
      '': 'it is none',
      'localhost:8443': 'its scheme is localhost:, and neither https: nor http:',
      'ftp://shop.example': 'its scheme is ftp:',
      'https://a@shop.example': 'it has a user',
      'http://:a@shop.example': 'it has a password',
      'https://shop.example?horse': 'it has a query',
      'http://shop.example#horse': 'it has a fragment'
    }).map(([bad, reason]): [string[], RegExp] => [[url, bad, ...token], new RegExp(`the URL is not allowed: ${reason}`)])
  ]
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await command('check-proxy', ...args)
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
    t.match(stderr, /^Usage: fastify-http-security audit/m)
    t.notMatch(stderr, /horse|:a@/)
  }
  t.match(await command('check-proxy', url, ...token, '--ca', join(dir, 'missing')), { code: 2, stderr: /missing cannot be read: ENOENT/ })
  t.match((await command('--help')).stdout, /--token-file <file>[^]*--minutes <number>/)
})
