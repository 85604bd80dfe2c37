/**
 * Clients that a proxy describes instead of forwarding their certificates: distinguished names, and Envoy's header as Istio sets
 * it. Real proxies: proxies.test.ts.
 */
import t, { type Test } from 'tap'
import websocket from '@fastify/websocket'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import httpSecurity, { type Allowed, type ClientsDocument, type HttpSecurityOptions } from '../lib/index.ts'
import { createForwardedReader } from '../lib/proxy/forwarded-certificate.ts'
import { createReadDescription } from '../lib/proxy/descriptions.ts'
import { type Answer, ask } from './fixtures/ask.ts'
import { hashOf, written } from './fixtures/forward.ts'
import { issue } from './fixtures/pki.ts'
import { keepLog, listenOnFreePort, type LogLine, makePki, serveHttp } from './fixtures/serve.ts'
import { until } from './fixtures/time.ts'
import { echoed, openSocket } from './fixtures/wire.ts'
import { offeredKeys } from './fixtures/x509.ts'

const { ca, client: jane } = await makePki()
const https = { 'x-forwarded-proto': 'https' }
const BAD = '400 BAD_REQUEST'
const NONE = '403 CERTIFICATE_REQUIRED'

type Proxy = NonNullable<HttpSecurityOptions['proxy']>
type Headers = Record<string, string | string[]>

const presence: Proxy = { trust: 'loopback', certificate: { header: 'x-dn', encoding: 'dn', verified: 'presence' } }
const verdict: Proxy = { trust: 'loopback', certificate: { header: 'x-dn', encoding: 'dn', verified: { header: 'x-verify', value: 'SUCCESS' }, fingerprint: 'x-sha256' } }
const istio: Proxy = { trust: 'loopback', certificate: 'istio' }

interface Behind {
  app: FastifyInstance
  log: LogLine[]
  get (path: string, headers?: Headers): Promise<Answer>
  /** The code of the refusal, or the subject. */
  said (headers: Headers, path?: string): Promise<string>
  /** Problems with headers that were logged. */
  problems (): unknown[]
}

async function behind (t: Test, proxy: Proxy, options: HttpSecurityOptions = {}, declare: (app: FastifyInstance) => unknown = () => {}): Promise<Behind> {
  const { app, port, log } = await serveHttp(t, { proxy, ...options }, async (app) => {
    const details = (request: FastifyRequest) => ({ ...request.clientCertificateGetDetails() })
    app.get('/mtls', { httpSecurity: 'mtls' }, async (request) => details(request))
    app.get('/tls', { httpSecurity: 'tls' }, async (request) => details(request))
    app.get('/all', { httpSecurity: 'mtls' }, async (request) => ({
      details: details(request),
      values: Object.fromEntries(offeredKeys.map((key) => [key, request.clientCertificateValue(key as never)])),
      certificate: request.clientCertificate
    }))
    await declare(app)
  })
  const get: Behind['get'] = (path, headers = {}) => ask({ port, path, headers: { ...https, ...headers } })
  return {
    app,
    log,
    get,
    async said (headers, path = '/mtls') {
      const { status, body } = await get(path, headers)
      return status === 200 ? JSON.parse(body).subject : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
    },
    problems: () => log.filter(({ msg }) => msg === 'http-security: request refused').map(({ forwarded }) => forwarded)
  }
}

const hash = 'ab'.repeat(32)
const fingerprint = hash.toUpperCase().replace(/..(?!$)/g, '$&:')

t.test('a client is known by the name that its proxy forwards, in the forms of nginx, Apache and HAProxy', async (t) => {
  const { said } = await behind(t, presence)
  const cases: Array<[sent: string, subject: string, why: string]> = [
    ['CN=Jane,O=Acme,C=PT', 'C=PT, O=Acme, CN=Jane', 'in the certificate\'s order'],
    ['CN=x\\,O=Acme,O=Acm\\C3\\A9 \\"x\\" \\<y\\>\\;z,C=PT', 'C=PT, O="Acmé \\"x\\" <y>;z", CN="x,O=Acme"', 'nginx and HAProxy'],
    [Buffer.from('CN=x\\,O=Acme,O=Acmé \\"x\\" \\<y\\>\\;z,C=PT').toString('latin1'), 'C=PT, O="Acmé \\"x\\" <y>;z", CN="x,O=Acme"', 'Apache'],
    ['UID=u+O=A+CN=B,CN=a/O=Acme', 'CN=a/O=Acme, CN=B + O=A + UID=u', 'several attributes'],
    ['CN=x\\\\y,1.2.3.4=#0C0568656C6C6F', '1.2.3.4=hello, CN=x\\y', 'a type without a name'],
    ['CN=\\ #a\\ ,O=Acme', 'O=Acme, CN=" #a "', 'spaces at the edges'],
    ['O=Acme,CN=\\ #a\\', 'CN=" #a ", O=Acme', 'a space at the very end, which HTTP removes'],
    ['CN=\\\\\\', 'CN="\\\\ "', 'behind a backslash'],
    ['CN=a\\\\', 'CN=a\\', 'a backslash at the very end'],
    ['CN=#', 'CN=#', 'a # alone'],
    ['emailAddress=jane@a.test,CN=Jane', 'CN=Jane, emailAddress=jane@a.test', 'short names of OpenSSL'],
    ['CN=', 'CN=', 'an empty value']
  ]
  for (const [sent, subject, why] of cases) t.equal(await said({ 'x-dn': sent }), subject, why)
})

t.test('what is not exactly a name in RFC 2253 or RFC 4514 is refused, and the log says why', async (t) => {
  const { said, problems, get } = await behind(t, presence)
  const no = 'x-dn is not exactly a distinguished name (RFC 2253, RFC 4514): '
  const cases: Array<[sent: string | string[], problem: string | RegExp]> = [
    ['/C=PT/O=Acme/CN=Jane', /^x-dn has OpenSSL's one-line form, .*nginx: \$ssl_client_s_dn, not \$ssl_client_s_dn_legacy; HAProxy: ssl_c_s_dn\(,0,rfc2253\); Apache: no SSLOptions \+LegacyDNStringFormat$/],
    [`${'X'.repeat(5_000)}=x`, `${no}${'X'.repeat(64)} is no known attribute`],
    ['CN=Jane, O=Acme', `${no}no attribute begins at character 9`],
    ['CN=Jane,XY=a', `${no}XY is no known attribute`],
    ['CN=a"b', `${no}the value of CN is not exactly as RFC 2253 or RFC 4514 write it`],
    ['CN=\u00e9', `${no}the value of CN is not exactly as RFC 2253 or RFC 4514 write it`],
    ['CN=x,', `${no}no attribute begins at character 6`],
    [['CN=x', 'CN=y'], 'x-dn is there twice'],
    [`CN=${'x'.repeat(9_000)}`, `${no}it is longer than 8192 characters`]
  ]
  for (const [sent] of cases) t.equal(await said({ 'x-dn': sent }), BAD)
  t.equal((await get('/tls', { 'x-dn': '/CN=x' })).status, 200, 'where nothing is asked for, nothing is refused')
  for (const [at, problem] of problems().entries()) t.match(problem, cases[at]![1])
  t.equal(problems().length, cases.length)
  for (const none of ['', '(null)', '{ssl_client_s_dn}']) t.equal(await said({ 'x-dn': none }), NONE, `"${none}"`)
  t.equal(await said({}), NONE)
  t.equal(await said({ 'x-dn': 'CN=x', connection: 'close, x-dn' }), NONE)
  t.equal(await said({ 'x-dn': 'CN=x', 'x-forwarded-proto': 'http' }), '403 TLS_REQUIRED')
})

t.test('with a verdict header and a fingerprint, each has to be there and right', async (t) => {
  const { said, get, log, problems } = await behind(t, verdict)
  const all = { 'x-dn': 'CN=Jane,O=Acme', 'x-verify': 'SUCCESS', 'x-sha256': hash }
  const jane = 'O=Acme, CN=Jane'
  const is = 'x-sha256 is not a SHA-256: 64 hex digits, without colons'
  const { 'x-verify': _verify, ...unverified } = all
  const { 'x-sha256': _sha256, ...nameless } = all
  const cases: Array<[headers: Headers, answer: string, why: string, problem?: string]> = [
    [all, jane, 'all of it'],
    [{ ...all, 'x-sha256': hash.toUpperCase() }, jane, 'any case'],
    [unverified, BAD, 'no verdict', 'x-verify is missing'],
    [nameless, BAD, 'no fingerprint', 'x-sha256 is missing'],
    [{ ...all, 'x-sha256': [hash, hash] }, BAD, 'twice', 'x-sha256 is there twice'],
    [{ ...all, 'x-sha256': '' }, BAD, 'an empty one', is],
    [{ ...all, 'x-sha256': fingerprint }, BAD, 'with colons', is],
    [{ ...all, 'x-sha256': `${hash}0` }, BAD, 'longer', is],
    [{ ...all, 'x-sha256': 'ab'.repeat(20) }, BAD, 'SHA-1', `${is}. It is a SHA-1, which does not identify a certificate`],
    [{ ...all, 'x-verify': ['SUCCESS', 'SUCCESS'] }, BAD, 'two verdicts', 'x-verify is there twice'],
    [{ ...all, 'x-dn': '/CN=x' }, BAD, 'one line'],
    [{ ...all, 'x-verify': 'FAILED:certificate revoked' }, '403 CERTIFICATE_REVOKED', 'nginx'],
    [{ ...all, 'x-verify': 'FAILED:unable to verify the first certificate' }, '403 CERTIFICATE_UNTRUSTED', 'nginx'],
    [{ ...all, 'x-verify': 'NONE' }, '403 CERTIFICATE_INVALID', 'a name with the verdict that there is none'],
    [{ ...all, 'x-dn': '', 'x-verify': 'NONE', 'x-sha256': '' }, NONE, 'none'],
    [{ 'x-verify': 'NONE' }, NONE, 'none, of nginx'],
    [{ 'x-verify': 'SUCCESS', 'x-sha256': hash }, NONE, 'a fingerprint of nobody'],
    [{ ...all, connection: 'x-sha256' }, NONE, 'the fingerprint named in Connection'],
    [{ 'x-dn': 'CN=Jane', 'x-verify': 'SUCCESS', x_sha256: hash }, BAD, 'underscores']
  ]
  for (const [headers, answer, why, problem] of cases) {
    t.equal(await said(headers), answer, why)
    if (problem !== undefined) t.equal(problems().at(-1), problem)
  }
  const refused = await get('/tls', { ...all, 'x-verify': 'FAILED:unable to verify the first certificate' })
  t.match(JSON.parse(refused.body), { isPresent: true, isValid: false, flags: 3, subject: jane, cookie: hash }, 'what was refused is told of')
  const { certificate } = log.find(({ code }) => code === 'FST_HTTP_SECURITY_CERTIFICATE_REVOKED') as { certificate?: object }
  t.strictSame(certificate, { subject: jane, issuer: '', serialNumber: '', fingerprint256: fingerprint, error: 'CERT_REVOKED' }, 'and logged, as far as it is known')
})

t.test('X-Forwarded-Client-Cert of Istio is exactly one element of By, Hash, Subject and URI', async (t) => {
  const { said, problems, get } = await behind(t, istio)
  const xfcc = ({ by = 'spiffe://a/server', sha = hash, subject = 'CN=Jane,O=Acme', uri = 'spiffe://a/ns/b/sa/jane' } = {}): string => `By=${by};Hash=${sha};Subject="${subject}";URI=${uri}`
  const one = xfcc()
  const evil = xfcc({ subject: 'CN=Boss', uri: 'spiffe://a/boss' })
  const cases: Array<[value: string | string[], answer: string, why: string]> = [
    [one, 'O=Acme, CN=Jane', 'as it is'],
    [xfcc({ subject: '' }), '', 'without a subject'],
    [xfcc({ uri: '' }), 'O=Acme, CN=Jane', 'without a URI'],
    [xfcc({ sha: hash.toUpperCase() }), 'O=Acme, CN=Jane', 'hex in upper case'],
    [xfcc({ subject: 'CN=\\"\\;URI\\=x,O=a' }), BAD, 'an escape that Envoy does not write'],
    [xfcc({ subject: 'CN=\\";URI=x\\",O=a' }), BAD, 'a separator that Envoy escapes'],
    [xfcc({ subject: 'CN=\\"\\;URI=x\\"\\,By=y,O=a' }), 'O=a, CN="\\";URI=x\\",By=y"', 'a subject that looks like the rest'],
    [xfcc({ subject: 'CN=\\\\' }), 'CN=\\', 'a backslash before the quote'],
    ['', NONE, 'none'],
    [`${one},${evil}`, BAD, 'two elements'],
    [xfcc({ uri: `spiffe://x,${evil}` }), BAD, 'a URI with an element in it'],
    [xfcc({ uri: 'spiffe://x;URI=spiffe://a/boss' }), BAD, 'two URIs'],
    [xfcc({ uri: 'spiffe://x;Hash=' + hash }), BAD, 'something after the URI'],
    [xfcc({ uri: 'a b' }), BAD, 'a URI with a space'],
    [xfcc({ uri: 'a\tb' }), BAD, 'a URI with a tab'],
    [xfcc({ uri: 'a"b' }), BAD, 'a URI with a quote'],
    [xfcc({ uri: '"a"' }), BAD, 'a URI in quotes'],
    [xfcc({ uri: 'spiffe://\u00e9' }), BAD, 'a URI beyond ASCII'],
    [`${one};DNS=a.test`, BAD, 'a further key'],
    [`${one};`, BAD, 'an empty pair'],
    [`${one},`, BAD, 'an empty element'],
    [`,${one}`, BAD, 'an empty element before it'],
    [xfcc({ by: '' }), BAD, 'no By, which Envoy would leave out'],
    [xfcc({ by: 'spiffe://a;By=spiffe://b' }), BAD, 'two By'],
    [one.replace(/^By=[^;]*;/, ''), BAD, 'without By'],
    [one.replace(/Hash=[^;]*;/, ''), BAD, 'without Hash'],
    [one.replace(/Subject="[^"]*";/, ''), BAD, 'without Subject'],
    [one.replace(/;URI=.*/, ''), BAD, 'without URI'],
    [one.replace('By', 'by'), BAD, 'keys in another case'],
    [one.replace(/(Hash=[^;]*);(Subject="[^"]*")/, '$2;$1'), BAD, 'in another order'],
    [one.replace(/"/g, ''), BAD, 'a subject without quotes'],
    [one.replace('"CN', '"CN=x";Subject="CN'), BAD, 'two subjects'],
    [xfcc({ subject: '/CN=Jane' }), BAD, 'one line'],
    [xfcc({ subject: 'CN=Jane"' }), BAD, 'a quote in it'],
    [xfcc({ sha: 'ab'.repeat(20) }), BAD, 'SHA-1'],
    [xfcc({ sha: `${hash}0` }), BAD, 'longer'],
    [written.xfcc(jane.cert), BAD, 'with Cert'],
    [[one, one], BAD, 'two lines'],
    [one.replace(/;/g, '; '), BAD, 'spaces']
  ]
  for (const [value, answer, why] of cases) t.equal(await said({ 'x-forwarded-client-cert': value }), answer, `${why}: ${String(value).slice(0, 120)}`)
  const all = problems().filter((problem) => typeof problem === 'string') as string[]
  t.equal(all.length, cases.filter(([, answer]) => answer === BAD).length, 'each with its reason')
  t.match(new Set(all.map((problem) => problem.replace(/ .*/, ''))), new Set(['x-forwarded-client-cert', 'Subject']))
  t.match(all.at(-1), /^x-forwarded-client-cert is not exactly one element By=…;Hash=…;Subject="…";URI=…/)

  const envoy = await behind(t, { trust: 'loopback', certificate: { header: 'x-forwarded-client-cert', encoding: 'xfcc', verified: 'presence' } })
  t.equal(await envoy.said({ 'x-forwarded-client-cert': one }), NONE)
  t.strictSame(envoy.problems(), ["x-forwarded-client-cert tells of a client and has no Cert; what Istio sets is read with certificate: 'istio'"])
  const certificate = await issue(ca, { subject: 'CN=Joe', san: [{ type: 'uri', value: 'spiffe://a' }] })
  const joe = await get('/all', { 'x-forwarded-client-cert': written['xfcc-described'](certificate.cert) })
  t.match(JSON.parse(joe.body), { details: { subject: 'CN=Joe', cookie: hashOf(certificate.cert) }, values: { 'SAN:URI': 'spiffe://a' } }, 'of a certificate')
})

t.test('what is described is known, and all else is empty', async (t) => {
  const empty = Object.fromEntries(offeredKeys.map((key) => [key, '']))
  const present = { isPresent: 'true', isValid: 'true', flags: '1' }
  const clients: ClientsDocument = { clients: { jane: { certificates: [{ subject: { CN: 'Jane' } }] } } }
  const none = { isPresent: true, isValid: true, flags: 1, cookie: '', subject: '', issuer: '', serialNumber: '', validFrom: null, validUntil: null, serverSubject: '', serverIssuer: '' }
  const subject = 'C=PT, O=Acme, OU=a + OU=b, CN=Jane'
  const named = { subject, SubjectCN: 'Jane', SubjectC: 'PT', SubjectO: 'Acme', SubjectOU: 'a;b' }
  const sent = 'CN=Jane,OU=b+OU=a,O=Acme,C=PT'
  const identified = { cookie: hash, Fingerprint256: fingerprint, 'x5t#S256': Buffer.from(hash, 'hex').toString('base64url') }
  for (const [proxy, headers, details, values] of [
    [presence, { 'x-dn': sent }, { subject }, named],
    [verdict, { 'x-dn': sent, 'x-verify': 'SUCCESS', 'x-sha256': hash }, { subject, cookie: hash }, { ...named, ...identified }],
    [istio, { 'x-forwarded-client-cert': `By=x;Hash=${hash};Subject="${sent}";URI=spiffe://a/jane` }, { subject, cookie: hash }, { ...named, ...identified, SubjectAltName: 'URI:spiffe://a/jane', 'SAN:URI': 'spiffe://a/jane' }]
  ] as const) {
    const { get } = await behind(t, proxy, { clients })
    for (const again of ['at first', 'again']) {
      t.strictSame(JSON.parse((await get('/all', headers)).body), { details: { ...none, ...details }, values: { ...empty, ...present, ...values, Client: 'jane' }, certificate: null }, again)
    }
  }
})

t.test('rules match what is described, and refuse by what is not', async (t) => {
  const uri = 'spiffe://globex.example/orders'
  const clients: ClientsDocument = {
    clients: {
      acme: { groups: ['writers'], certificates: [{ subject: { O: 'Acme', CN: 'orders' } }] },
      globex: { groups: ['writers'], certificates: [{ san: `URI:${uri}` }] },
      initech: { certificates: [{ fingerprint256: hash }] },
      suspended: { suspended: true, certificates: [{ subject: { CN: 'gone' } }] },
      unknowable: { certificates: [{ issuer: { CN: 'Partners' }, subject: { CN: 'x' } }, { issuer: { CN: 'Partners' }, serialNumber: '00' }] }
    }
  }
  const seen: unknown[] = []
  const rules: Record<string, { allow?: Allowed[], verify?: (certificate: unknown, request: FastifyRequest) => unknown }> = {
    '/acme': { allow: ['acme'] },
    '/writers': { allow: [{ group: 'writers' }] },
    '/initech': { allow: ['initech'] },
    '/inline': { allow: [{ subject: { CN: 'orders', O: 'Acme' } }, { san: `URI:${uri}` }, { fingerprint256: fingerprint }] },
    '/issuer': { allow: [{ issuer: { CN: 'Partners' } }] },
    '/serial': { allow: [{ serialNumber: '1', issuer: { CN: 'Partners' } }, { serialNumber: '0', issuer: { O: 'x' } }] },
    '/dns': { allow: [{ san: 'DNS:a.test' }, { san: 'DNS:x' }] },
    '/suspended': { allow: ['suspended', { subject: { CN: 'gone' } }] },
    '/unknowable': { allow: ['unknowable'] },
    '/verify': { verify: (certificate, request) => { seen.push(certificate); return request.clientCertificateValue('SubjectCN') === 'orders' } }
  }
  const declare = (app: FastifyInstance): void => {
    for (const [path, rule] of Object.entries(rules)) app.get(path, { httpSecurity: { level: 'mtls', ...rule } as never }, async (request) => ({ subject: request.httpSecurity.client?.name ?? 'nobody' }))
  }
  const byName = await behind(t, presence, { clients }, declare)
  const byHash = await behind(t, verdict, { clients }, declare)
  const byUri = await behind(t, istio, { clients }, declare)
  const whoGets = async ({ said, get }: Behind, headers: Headers): Promise<string[]> => {
    const in_: string[] = []
    for (const path of Object.keys(rules)) if ((await get(path, headers)).status === 200) in_.push(`${path} ${await said(headers, path)}`)
    return in_
  }
  const dn = (text: string): Headers => ({ 'x-dn': text, 'x-verify': 'SUCCESS', 'x-sha256': hash })
  const xfcc = (subject: string, uri: string, sha = 'cd'.repeat(32)): Headers => ({ 'x-forwarded-client-cert': `By=x;Hash=${sha};Subject="${subject}";URI=${uri}` })
  t.strictSame(await whoGets(byName, dn('CN=orders,O=Acme')), ['/acme acme', '/writers acme', '/inline acme', '/verify acme'])
  t.strictSame(await whoGets(byName, dn('CN=orders,O=Acme,CN=x')), [], 'a second CN')
  t.strictSame(await whoGets(byName, dn('CN=orders\\,O=Acme')), [], 'one value that looks like two')
  t.strictSame(await whoGets(byName, dn('CN=Partners')), [], 'the subject is not the issuer')
  t.strictSame(await whoGets(byName, dn('CN=gone')), [], 'suspended')
  t.strictSame(await whoGets(byHash, dn('CN=other')), ['/initech initech', '/inline initech'])
  t.strictSame(await whoGets(byHash, { ...dn('CN=other'), 'x-sha256': 'cd'.repeat(32) }), [])
  t.strictSame(await whoGets(byUri, xfcc('', uri)), ['/writers globex', '/inline globex'])
  t.strictSame(await whoGets(byUri, xfcc('', `${uri}/more`)), [])
  t.strictSame(await whoGets(byUri, xfcc('', '')), [], 'nothing is known of it')
  t.strictSame(await whoGets(byUri, xfcc('', '', hash)), ['/initech initech', '/inline initech'])
  t.ok(seen.length > 0 && seen.every((certificate) => certificate === null), 'verify is called without a certificate')
  const refused = byUri.log.filter(({ code, certificate }) => code === 'FST_HTTP_SECURITY_CERTIFICATE_NOT_ALLOWED' && (certificate as { subject: string }).subject === '')
  t.match(refused[0], { certificate: { subjectAltName: `URI:${uri}`, client: 'globex' } }, 'without a subject, the log has the alternative names')
})

t.test('a label of client CAs can never be known of a certificate that is only described', async (t) => {
  for (const proxy of [presence, istio]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(httpSecurity, { proxy })
    app.get('/', { httpSecurity: { level: 'mtls', allow: [{ issuedBy: 'partners' }] } }, async () => 'in')
    await t.rejects(Promise.resolve(app.ready()), /"partners" can never be known: the proxy verifies client certificates, and does not say by which of its CAs\. Have whole certificates forwarded/)
  }
})

t.test('options that a description could not meet stop the boot', async (t) => {
  const boot = async (certificate: object, more: object = {}): Promise<string> => {
    const app = Fastify()
    try {
      await app.register(httpSecurity, { proxy: { trust: 'loopback', certificate, ...more } as never })
      await app.ready()
      return 'boots'
    } catch (error) {
      return (error as Error).message
    } finally {
      await app.close()
    }
  }
  const dn = { header: 'X-DN', encoding: 'dn', verified: 'presence' }
  t.equal(await boot(dn), 'boots')
  t.equal(await boot({ ...dn, fingerprint: 'X-SHA256' }), 'boots')
  t.equal(await boot({ ...dn, encoding: 'xfcc-described' }), 'boots')
  t.equal(await boot({ ...dn, encoding: 'xfcc-described', verified: { header: 'x-verify', value: 'yes' } }), 'boots')
  for (const encoding of ['dn', 'xfcc-described']) {
    t.match(await boot({ ...dn, encoding, verified: 'here' }, { ca: ca.cert }), `certificate: verified: 'here' needs the certificate itself, and encoding '${encoding}' only describes it; allowed: 'presence'`)
    t.match(await boot({ ...dn, encoding, hops: 2 }), /hops: 2 has no effect/)
  }
  for (const encoding of ['xfcc-described', 'xfcc', 'url-pem']) t.match(await boot({ ...dn, encoding, fingerprint: 'x-sha256' }), `certificate: fingerprint: 'x-sha256' has no effect: it is known from what encoding '${encoding}' has`)
  t.match(await boot({ ...dn, fingerprint: 'x_sha256' }), /certificate: fingerprint: 'x_sha256' is not allowed; allowed: a header of its own/)
  t.match(await boot({ ...dn, fingerprint: 'host' }), /certificate: fingerprint: 'host' is not allowed/)
  t.match(await boot({ ...dn, fingerprint: 'x-dn' }), /certificate: fingerprint: 'x-dn' is the header of the name itself/)
  t.match(await boot({ ...dn, fingerprint: 'x-ok', verified: { header: 'X-OK', value: 'yes' } }), /certificate: verified: header: 'x-ok' is the header of the fingerprint/)
  t.match(await boot({ ...dn, fingerprint: 7 }), /certificate/)
})

t.test('answers for whom a proxy has described are for no other, and early data is refused', async (t) => {
  const { get } = await behind(t, verdict)
  const all = { 'x-dn': 'CN=Jane', 'x-verify': 'SUCCESS', 'x-sha256': hash }
  const { headers } = await get('/mtls', all)
  t.equal(headers['cache-control'], 'no-store')
  t.equal((await get('/mtls', { ...all, 'early-data': '1' })).status, 425)
  const shared = await behind(t, verdict, {}, (app) => {
    app.get('/shared', { httpSecurity: 'mtls' }, async (_request, reply) => { reply.header('cache-control', 'max-age=60'); return 'in' })
  })
  const answer = await shared.get('/shared', all)
  t.match(answer.headers, { 'cache-control': 'max-age=60, private', vary: 'x-dn, x-verify, x-sha256' }, 'all headers that say who it is')
})

t.test('in report mode and from an untrusted peer, a description changes nothing', async (t) => {
  const reporting = await behind(t, presence, { mode: 'report' })
  t.equal((await reporting.get('/mtls', { 'x-dn': '/CN=x' })).status, 200)
  t.match(reporting.app.httpSecurity.violations(), [{ code: 'FST_HTTP_SECURITY_BAD_REQUEST', mode: 'report', count: 1 }])
  const untrusted = await behind(t, { ...presence, trust: '192.0.2.1' })
  t.equal(await untrusted.said({ 'x-dn': 'CN=Jane' }), '403 TLS_REQUIRED')
  t.match(untrusted.app.httpSecurity.violations().map(({ answer }) => answer).sort(), ['ignored', 'refusal'])
})

t.test('a WebSocket of a described client ends when its client is taken out, and others go on', async (t) => {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log), forceCloseConnections: true })
  const before: ClientsDocument = { clients: { acme: { certificates: [{ subject: { O: 'Acme' } }] }, globex: { certificates: [{ san: 'URI:spiffe://globex' }] } } }
  let current = before
  let changed = (): void => {}
  await app.register(httpSecurity, { proxy: istio, clients: { load: async () => current, watch (tell) { changed = tell; return () => {} } } })
  await app.register(websocket)
  app.get('/live', { websocket: true, httpSecurity: { level: 'mtls', allow: ['acme', 'globex'] } }, (socket) => { socket.on('message', (message) => socket.send(String(message))) })
  const port = await listenOnFreePort(t, app)
  const open = async (subject: string, uri: string) => await openSocket(t, `ws://127.0.0.1:${port}/live`, { headers: { ...https, 'x-forwarded-client-cert': `By=x;Hash=${hash};Subject="${subject}";URI=${uri}` } } as object)
  const acme = await open('O=Acme', 'spiffe://acme')
  const globex = await open('', 'spiffe://globex')
  t.equal(await echoed(acme), 'hello')
  await t.rejects(open('O=Initech', 'spiffe://initech'), 'another one does not open')
  current = { clients: { globex: before.clients.globex! } }
  changed()
  await until(() => acme.readyState === acme.CLOSED)
  t.equal(await echoed(globex), 'hello', 'goes on')
})

t.test('no header lines throw, and a description is taken only as it was written', async (t) => {
  const lines = fc.array(fc.tuple(
    fc.constantFrom('x-dn', 'X-DN', 'x-ok', 'x-sha', 'X-Sha', 'x_sha', 'connection'),
    fc.constantFrom('CN=Jane', 'CN=a\\,b', 'CN=a\\', '/CN=x', '', '(null)', 'CN', 'yes', 'no', hash, 'ab'.repeat(20), 'x-dn', 'By=x;Hash=' + hash + ';Subject="CN=Jane";URI=x', 'By=x;Hash=' + hash + ';Subject="";URI=x,y', '\u0000', '\u00ff')
  ), { maxLength: 5 })
  let taken = 0
  for (const [encoding, fingerprint] of [['dn', undefined], ['dn', 'x-sha'], ['xfcc-described', undefined]] as const) {
    for (const verified of ['presence', { header: 'x-ok', value: 'yes' }] as const) {
      const { read } = createForwardedReader({ header: 'x-dn', encoding, verified, hops: 1, fingerprint }, undefined, createReadDescription({ header: 'x-dn', encoding, fingerprint }))
      fc.assert(fc.property(lines, (all) => {
        const valuesOf = (name: string): string[] => all.filter(([spelled]) => spelled.toLowerCase() === name).map(([, value]) => value)
        const connection = valuesOf('connection').join(', ')
        const { isPresent, leaf, described, refusal } = read({ rawHeaders: all.flat(), headers: { ...connection !== '' && { connection } } }, Date.now())
        if (!isPresent || refusal !== undefined) return refusal !== undefined
        taken++
        return leaf === undefined && described !== undefined && valuesOf('x-dn').length === 1 && !connection.includes('x-dn') &&
          (verified === 'presence' || valuesOf('x-ok').join() === 'yes') && (fingerprint === undefined || valuesOf('x-sha').join() === hash)
      }), { numRuns: 3_000, examples: [[[['x-dn', encoding === 'dn' ? 'CN=Jane' : `By=x;Hash=${hash};Subject="CN=Jane";URI=x`], ['x-ok', 'yes'], ['x-sha', hash]]]] })
    }
  }
  t.ok(taken > 100, `${taken} were taken`)
})

t.test('a description that counts is read once, and another fingerprint is another certificate', async (t) => {
  const by = { header: 'x-dn', encoding: 'dn', fingerprint: 'x-sha' } as const
  const { read } = createForwardedReader({ ...by, verified: 'presence', hops: 1 }, undefined, createReadDescription(by))
  const come = (dn: string, sha: string) => read({ rawHeaders: ['X-DN', dn, 'X-Sha', sha], headers: {} }, Date.now())
  const first = come('CN=Jane', hash)
  t.equal(come('CN=Jane', hash), first, 'so that what rules have found of it is kept')
  t.equal(come('CN=Jane', 'cd'.repeat(32)).described!.fingerprint256.slice(0, 5), 'CD:CD')
  t.equal(come('CN=Jane', hash).described!.fingerprint256, fingerprint)
  t.not(come('CN=Joe', hash), come('CN=Joe ', hash))
  const bad = come('/CN=Jane', hash)
  t.not(come('/CN=Jane', hash), bad, 'what does not count takes no room')
})

t.test('reading a description takes linear time', async (t) => {
  let longest = 0
  for (const [encoding, before] of [['dn', ''], ['dn', 'CN='], ['xfcc-described', ''], ['xfcc-described', 'By='], ['xfcc-described', `By=x;Hash=${hash};Subject="`], ['xfcc-described', `By=x;Hash=${hash};Subject="";URI=`]] as const) {
    const read = createReadDescription({ header: 'x', encoding, fingerprint: undefined })
    for (const part of ['a', '\\', '\\\\', '"', '\\"', ';', ',', 'By=x;', 'CN=x,', ' ']) {
      const start = performance.now()
      read(before + part.repeat(262_144 / part.length), undefined)
      longest = Math.max(longest, performance.now() - start)
    }
  }
  t.ok(longest < 300, `${longest} ms`)
})
