/**
 * Every proxy that the documentation speaks of, with the headers that it sends, against the options that belong to it: over
 * real sockets, and with what a client could add where a proxy lets it. Real proxies: `field/`.
 */
import t, { type Test } from 'tap'
import type { FastifyRequest } from 'fastify'
import { type Answer, ask } from './fixtures/ask.ts'
import { PRESETS, PROTOCOLS, type Preset, written } from './fixtures/forward.ts'
import { type Authority, issue, selfSigned } from './fixtures/pki.ts'
import { underscored } from './fixtures/proxies.ts'
import type { ForwardedCertificateOptions } from '../lib/index.ts'
import { type Headers, type Sent, sentBy } from './fixtures/sent-by-proxies.ts'
import { makePki, serveHttp } from './fixtures/serve.ts'
import type { ProxyOption } from './fixtures/check-proxy.ts'

const pki = await makePki()
const jane = pki.client as Authority
const boss = await issue(pki.ca, { subject: 'CN=Boss, O=Acme' })
const stranger = await selfSigned({ subject: 'CN=Boss, O=Acme' })

interface Report { name: string, isPresent: boolean, isValid: boolean, secure: boolean }
const report = (request: FastifyRequest): Report => {
  const { isPresent, isValid } = request.clientCertificateGetDetails()
  const [name, uri] = [request.clientCertificateValue('SubjectCN'), request.clientCertificateValue('SAN:URI')]
  return { name: name === '' ? uri : name, isPresent, isValid, secure: request.httpSecurity.secure }
}
const janeOf = ({ name = 'Jane' }: Sent): Report => ({ name, isPresent: true, isValid: true, secure: true })
const NOBODY: Report = { name: '', isPresent: false, isValid: false, secure: true }

interface Behind {
  /** A refusal in few words, or what the handler was told. */
  get (path: '/mtls' | '/tls' | '/none', ...headers: Lines[]): Promise<string | Report>
  page (...headers: Lines[]): Promise<string>
}
/** Several lines of one name are sent one after the other. */
type Lines = Record<string, string | string[]>

async function behind (t: Test, sent: Sent, more: Partial<ProxyOption> = {}): Promise<Behind> {
  const { port } = await serveHttp(t, { proxy: { trust: 'loopback', ...sent.options(pki.ca.cert), ...more }, redirect: { hosts: ['shop.example'] }, unsatisfiable: 'warn' }, (app) => {
    for (const level of ['none', 'tls', 'mtls'] as const) app.get(`/${level}`, { httpSecurity: { level, kind: 'rest' } }, async (request) => report(request))
    app.get('/page', { httpSecurity: { kind: 'screen' } }, async () => 'page')
  })
  const send = async (path: string, headers: Lines[]): Promise<Answer> => await ask({ port, path, headers: Object.assign({}, ...headers) as Lines })
  return {
    async get (path, ...headers) {
      const { status, body } = await send(path, headers)
      return status === 200 ? JSON.parse(body) as Report : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
    },
    async page (...headers) {
      const { status, headers: { location }, body } = await send('/page', headers)
      return location ?? `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
    }
  }
}

/** The header of the certificate, of what belongs to it, and its encoding. */
function believedBy (sent: Sent): { header: string, encoding: string, all: string[] } | undefined {
  const { certificate } = sent.options('')
  if (certificate === undefined) return undefined
  const { header, encoding, verified, fingerprint } = (typeof certificate === 'string' ? PRESETS[certificate] : certificate) as ForwardedCertificateOptions
  return { header, encoding, all: [header, ...typeof verified === 'object' ? [verified.header] : [], ...fingerprint === undefined ? [] : [fingerprint]] }
}

/** The header of the protocol, and what it says of HTTPS; undefined: anything. */
function protocolOf (sent: Sent): { header: string, value?: string | undefined } {
  const { protocol = 'x-forwarded-proto' } = sent.options('')
  if (typeof protocol === 'object') return protocol
  return { 'x-forwarded-proto': { header: 'x-forwarded-proto', value: 'https' }, forwarded: { header: 'forwarded', value: 'proto=https' }, cloudfront: { header: 'cloudfront-forwarded-proto', value: 'https' }, azure: { header: 'x-arr-ssl' } }[protocol]
}

/** Another client's certificate, as every preset writes it. */
const others: Headers = Object.assign({}, ...(Object.keys(PRESETS) as Preset[]).map((preset) => {
  const { header, encoding, verified } = PRESETS[preset]
  return { [header]: (written as Record<string, (pem: string) => string>)[encoding]?.(boss.cert) ?? '', ...typeof verified === 'object' && { [verified.header]: verified.value } }
})) as Headers

const REDIRECT = 'https://shop.example/page'

for (const [name, sent] of Object.entries(sentBy)) {
  const { https, http, certificate, none, unverified } = sent
  const JANE = janeOf(sent)
  const protocol = protocolOf(sent)

  t.test(`${name}: who a visitor is, and how they came`, async (t) => {
    const { get, page } = await behind(t, sent)
    const anonymous = { ...https, ...none }
    if (certificate !== undefined) {
      for (const path of ['/mtls', '/tls', '/none'] as const) t.strictSame(await get(path, https, certificate(jane)), JANE, `with a certificate, ${path}`)
      t.equal(await page(https, certificate(jane)), '200 page')
    }
    if (certificate === undefined || none !== undefined) {
      t.strictSame(await get('/tls', anonymous), NOBODY, 'without one')
      t.equal(await get('/mtls', anonymous), '403 CERTIFICATE_REQUIRED')
      t.equal(await page(anonymous), '200 page')
    }
    if (unverified !== undefined) {
      t.equal(await get('/mtls', https, unverified.headers(stranger)), unverified.answer, 'with a certificate that nobody has verified')
      t.match(await get('/tls', https, unverified.headers(stranger)), { name: '', isValid: false, secure: true })
    }
    if (http !== undefined) {
      t.equal(await page(http), REDIRECT, 'over plain HTTP')
      t.strictSame([await get('/tls', http), await get('/mtls', http)], ['403 TLS_REQUIRED', '403 TLS_REQUIRED'])
      t.strictSame(await get('/none', http), { ...NOBODY, secure: false })
      // Which this proxy would remove.
      if (certificate !== undefined && protocol.header !== believedBy(sent)!.header) t.strictSame([await get('/mtls', certificate(boss), http), await get('/none', certificate(boss), http)], ['403 TLS_REQUIRED', { ...NOBODY, secure: false }], 'with a certificate in it')
    }
    const silent = { host: https.host! }
    t.equal(await get('/tls', silent), '403 TLS_REQUIRED', 'where the proxy says nothing, nobody came over HTTPS')
  })

  t.test(`${name}: what a client adds that the proxy does not remove counts for nothing`, async (t) => {
    const { get, page } = await behind(t, sent)
    const believed = believedBy(sent)
    /** The header of the certificate tells how the client came, too. */
    const isTold = protocol.header === believed?.header
    const anonymous = { ...https, ...none }
    if (http !== undefined) {
      const host = sent.options('').host === 'x-forwarded-host'
      t.equal(await page(http, { 'x-forwarded-host': host ? ['evil.test', 'shop.example'] : 'evil.test' }), host ? '400 BAD_REQUEST' : REDIRECT, 'another host')
      for (const lines of [[http[protocol.header]!, protocol.value!], [protocol.value!, http[protocol.header]!]]) {
        if (protocol.value !== undefined) t.equal(await page(http, { [protocol.header]: lines }), REDIRECT, 'a second line of the protocol')
      }
      for (const other of ['x-forwarded-proto', 'cloudfront-forwarded-proto', 'x-arr-ssl', 'x-forwarded-ssl', 'x-forwarded-scheme', 'front-end-https']) {
        if (other !== protocol.header) t.equal(await page(http, { [other]: ['https'] }), REDIRECT, `${other}, which another proxy would use`)
      }
      t.equal(await page(http, { forwarded: 'proto=https', [underscored(protocol.header)]: protocol.value ?? 'x' }), REDIRECT, 'and with underscores')
    }
    const foreign = Object.fromEntries(Object.entries(others).filter(([header]) => !(believed?.all ?? []).includes(header)))
    const who = [...certificate === undefined || none !== undefined ? [['without a certificate', anonymous, '403 CERTIFICATE_REQUIRED'] as const] : [], ...certificate === undefined ? [] : [['with one', { ...https, ...certificate(jane) }, JANE] as const]]
    for (const [title, headers, answer] of who) {
      if (certificate === undefined) t.strictSame(await get('/tls', foreign, headers), NOBODY, 'headers of other proxies')
      else t.strictSame(await get('/mtls', foreign, headers), answer, `headers of other proxies, ${title}`)
      if (certificate === undefined || believed === undefined) continue
      const forged = certificate(boss)
      const spelled = Object.fromEntries(Object.entries(forged).map(([header, value]) => [underscored(header), value]))
      t.strictSame(await get('/mtls', headers, spelled), answer, `with underscores, ${title}`)
      t.equal(await get('/mtls', headers, { connection: `close, ${believed.header}` }), isTold ? '403 TLS_REQUIRED' : '403 CERTIFICATE_REQUIRED', `named in Connection, ${title}`)
    }
    if (certificate === undefined || believed === undefined) return
    const [own, forged] = [certificate(jane), certificate(boss)]
    for (const header of believed.all) {
      for (const lines of [[forged[header]!, own[header]!], [own[header]!, forged[header]!]]) t.equal(await get('/mtls', https, own, { [header]: lines }), isTold ? '403 TLS_REQUIRED' : '400 BAD_REQUEST', `${header} twice`)
    }
    const { header, encoding } = believed
    for (const comma of [',', ', ']) {
      // Of Envoy's elements, the last is the proxy's own.
      const list = await get('/mtls', https, own, { [header]: `${forged[header]!}${comma}${own[header]!}` })
      if (encoding === 'xfcc' && comma === ',') t.strictSame(list, JANE)
      // Two names are one that nobody has.
      else if (encoding === 'dn' && comma === ',') t.match(list, { name: 'Jane;Boss', isValid: true })
      else t.match(String(list), /^400 BAD_REQUEST/, `a list of two with ${JSON.stringify(comma)}`)
    }
  })
}

t.test('every preset, and every header of a protocol, is of a proxy that sends it', async (t) => {
  const options = Object.values(sentBy).map((sent) => sent.options(''))
  t.strictSame(Object.keys(PRESETS).filter((preset) => !options.some(({ certificate }) => certificate === preset)), [])
  t.strictSame(Object.keys(PROTOCOLS).filter((name) => name !== 'x-forwarded-proto' && name !== 'forwarded' && !options.some(({ protocol }) => protocol === name)), [])
  for (const [name, { source }] of Object.entries(sentBy)) t.match(source, /https:\/\/|examples\/proxies|the same|Elastic|Azure|Cloudflare|Google/, `${name} has a source`)
})

/** With a list in the header of the protocol: how many of the values are the word of proxies, and whether that says HTTPS. */
const LISTS: ReadonlyArray<readonly [list: string | string[], hops: number | undefined, isSecure: boolean]> = [
  ['https', undefined, true], ['https, https', undefined, true], ['https, http', undefined, false], ['http, https', undefined, false], ['https,', undefined, false], ['', undefined, false],
  ['https', 1, true], ['http, https', 1, true], ['forged, https', 1, true], ['https, http', 1, false], ['https, ', 1, false], [['https', 'https'], 1, false], [['http', 'https'], 1, false],
  ['https, http', 2, true], ['http, https, http', 2, true], ['https, http, http', 2, false], ['https', 2, false], ['https, https', 3, false], [', https', 2, false], [['https', 'http'], 2, false]
]

t.test('of several values in the protocol\'s header, hops says which one is a proxy\'s own word', async (t) => {
  for (const name of ['Cloud Foundry behind a load balancer', 'Heroku', 'nginx', 'CloudFront with viewer mTLS']) {
    const sent = sentBy[name]!
    const { header } = protocolOf(sent)
    for (const hops of [undefined, 1, 2, 3]) {
      const { page } = await behind(t, sent, { hops })
      for (const [list, , isSecure] of LISTS.filter(([, each]) => each === hops)) t.equal(await page(sent.https, { [header]: list }), isSecure ? '200 page' : REDIRECT, `${name}, ${header}: ${JSON.stringify(list)}, hops: ${hops}`)
    }
  }
})
