import t from 'tap'
import { makeProbeToken } from '../../lib/proxy/probe-token.ts'
import { type Checked, checkFiles, checker, found, type ProxyOption, serveProxied, waysOf } from '../fixtures/check-proxy.ts'
import { revocationList } from '../fixtures/pki.ts'
import { startProxy, withoutProxy } from '../fixtures/proxies.ts'
import { makePki } from '../fixtures/serve.ts'

const pki = await makePki()
const check = checker(t.testdir(checkFiles(pki)))

t.test('check-proxy finds what nginx lets through', { skip: withoutProxy('nginx') }, async (t) => {
  const crl = await revocationList(pki.ca)
  const probe = makeProbeToken(5)
  const { port: upstream } = await serveProxied(t, { trust: 'loopback', certificate: 'nginx', host: 'x-forwarded-host', probe })
  const nginx = async (config?: (text: string) => string): Promise<Checked> => {
    const { https, http } = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl }, config })
    return await check([`http://127.0.0.1:${http}`, `https://127.0.0.1:${https}`], probe, ['--json'])
  }
  const TRAP = 'location / {\nproxy_set_header X-Forwarded-For $remote_addr;'
  // One after the other: each looks for free ports.
  const good = await nginx()
  const trap = await nginx((text) => text.replaceAll('location / {', TRAP))
  // The first of the two is that of port 80.
  const plainTrap = await nginx((text) => text.replace('location / {', TRAP))
  const underscores = await nginx((text) => text.replace('underscores_in_headers off', 'underscores_in_headers on'))
  const redirecting = await nginx((text) => text.replace('proxy_pass http://app;', 'return 308 https://$host$request_uri;'))
  const PARTNERS = 'location /partners/ {\nproxy_set_header X-Forwarded-For $remote_addr;\nproxy_pass http://app;\n}\nlocation / {'
  const partners = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl }, config: (text) => text.replaceAll('location / {', PARTNERS) })
  const below = async (...paths: string[]) => await check(paths.flatMap((path) => [`https://127.0.0.1:${partners.https}${path}`, `http://127.0.0.1:${partners.http}${path}`]), probe, ['--json'])
  const [home, both] = [await below('/'), await below('/', '/partners/me')]
  const trusting = await serveProxied(t, { trust: 'loopback', certificate: { header: 'x-ssl-client-cert', encoding: 'url-pem', verified: 'presence' }, probe })
  const lax = (text: string): string => text.replace('ssl_crl ', '# ssl_crl ').replace(/ssl_verify_client +optional;/, 'ssl_verify_client optional_no_ca;')
  const unverified = await startProxy(t, 'nginx', { upstream: trusting.port, pki: { ...pki, crl }, config: lax })
  const selfSigned = await check(`https://localhost:${unverified.https}`, probe, ['--json', '--cert', '--key'])
  const judged = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl }, config: lax })
  const told = await check(`https://localhost:${judged.https}`, probe, ['--cert', '--key'])
  const { https } = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl } })
  const client = await check(`https://localhost:${https}`, probe, ['--cert', '--key'])
  const { https: unescaped } = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl }, config: (text) => text.replace('$ssl_client_escaped_cert', '$ssl_client_cert') })
  const newlines = await check(`https://localhost:${unescaped}`, probe, ['--cert', '--key'])
  t.match(good, { code: 0, report: { urls: [{ protocols: ['HTTP/1.1', 'HTTP/2'], note: null }, { url: /^http:/, protocols: ['HTTP/1.1'], note: null }], findings: [], unanswered: [], untested: [/^other paths/, /^no client certificate/] } }, 'as in the examples')
  t.match(client, { code: 0, stdout: /^nothing got through/ }, 'a client with a certificate')
  t.match(newlines, { code: 2, stderr: /answers with 400.*nginx: forward \$ssl_client_escaped_cert/ }, 'a certificate with its newlines')

  t.equal(trap.code, 1)
  t.strictSame(found(trap).slice(0, 2), ['CERTIFICATE_BELIEVED ARRIVED x-ssl-client-cert', 'SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-proto'], 'one proxy_set_header drops the others')
  t.ok(waysOf(trap, 'CERTIFICATE_BELIEVED')!.includes('HTTP/2 all together as it is'), 'which takes the protocol and the certificate')
  t.equal(plainTrap.code, 1)
  t.strictSame(found(plainTrap), ['CERTIFICATE_BELIEVED ARRIVED x-ssl-client-cert', 'SECURE_BELIEVED x-forwarded-proto', 'ARRIVED x-forwarded-host', 'ARRIVED x-ssl-client-verify', '(EARLY_DATA early-data)'])
  t.ok(plainTrap.report!.findings.every(({ outcomes }) => outcomes.every(({ ways }) => ways.every(({ url }) => url.startsWith('http:')))), 'by port 80 alone')

  t.match(home, { code: 0, report: { findings: [] } })
  t.equal(both.code, 1, 'another location is another proxy')
  t.strictSame(found(both).slice(0, 2), ['CERTIFICATE_BELIEVED ARRIVED x-ssl-client-cert', 'SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-proto'])
  t.ok(both.report!.findings.filter(({ isProblem }) => isProblem).every(({ outcomes }) => outcomes.every(({ ways }) => ways.every(({ url }) => url.endsWith('/partners/me')))))

  t.strictSame(found(selfSigned), ['STRANGER_BELIEVED x-ssl-client-cert'])
  t.strictSame(waysOf(selfSigned, 'STRANGER_BELIEVED'), ['HTTP/1.1 in the handshake'])
  t.match(told, { code: 0, stdout: /^nothing got through/ }, 'a proxy that forwards the verdict may accept every certificate')

  t.equal(underscores.code, 1)
  t.ok(found(underscores).every((line) => /^UNDERSCORED|^\(EARLY_DATA/.test(line)), found(underscores).join())
  t.ok(found(underscores).length > 0)
  t.match(redirecting, { code: 0, report: { urls: [{}, { note: 'is fine: it redirects to HTTPS (308)', forgeries: 62 }], findings: [], unanswered: [] } })
})

t.test('check-proxy finds what nginx lets through of the protocol, however it says it', { skip: withoutProxy('nginx') }, async (t) => {
  const crl = await revocationList(pki.ca)
  const probe = makeProbeToken(5)
  const through = async (proxy: Partial<ProxyOption>, config: (text: string) => string): Promise<Checked> => {
    const { port: upstream } = await serveProxied(t, { trust: 'loopback', probe, ...proxy })
    const { https, http } = await startProxy(t, 'nginx', { upstream, pki: { ...pki, crl }, config })
    return await check([`http://127.0.0.1:${http}`, `https://127.0.0.1:${https}`], probe, ['--json'])
  }
  const SET = /proxy_set_header X-Forwarded-Proto +\$scheme;/
  const ssl = { protocol: { header: 'x-forwarded-ssl', value: 'on' } } as const
  // Empty over plain HTTP, which removes it
  const onlyOverHttps = await through(ssl, (text) => text.replace(SET, '$& proxy_set_header X-Forwarded-Ssl $https;'))
  const ofTheClient = await through(ssl, (text) => text.replace(SET, '$& proxy_set_header X-Forwarded-Ssl $https$http_x_forwarded_ssl;'))
  const notSet = await through(ssl, (text) => text)

  const map = (list: string) => (text: string): string => text.replace('http {\n', `http {\nmap $http_x_forwarded_proto $list { '' $scheme; default '${list}'; }\n`).replace(SET, 'proxy_set_header X-Forwarded-Proto $list;')
  const appends = map('$http_x_forwarded_proto, $scheme')
  const appended = await through({ hops: 1 }, appends)
  const all = await through({}, appends)
  const tooMany = await through({ hops: 2 }, appends)
  const keeps = await through({ hops: 1 }, map('$http_x_forwarded_proto'))

  t.match(onlyOverHttps, { code: 0, report: { headers: ['x-forwarded-ssl', 'early-data'], findings: [], unanswered: [] } })
  t.strictSame(found(ofTheClient), ['SECURE_BELIEVED ARRIVED x-forwarded-ssl'])
  t.strictSame(found(notSet), ['SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-ssl'])
  t.match(appended, { code: 0, report: { findings: [], unanswered: [] } }, 'what a client writes comes before')
  t.strictSame(found(all), ['ARRIVED x-forwarded-proto'], 'where all values count')
  t.strictSame(found(tooMany), ['SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-proto'], 'where there are fewer proxies than the app counts')
  t.strictSame(found(keeps), ['SECURE_BELIEVED ARRIVED x-forwarded-proto'], 'what is set only where a client has written nothing')
})

t.test('check-proxy finds what nginx lets through of names, and says that it knows no more', { skip: withoutProxy('nginx') }, async (t) => {
  const crl = await revocationList(pki.ca)
  const probe = makeProbeToken(5)
  const certificate = { header: 'x-ssl-client-cert', encoding: 'dn', verified: { header: 'x-ssl-client-verify', value: 'SUCCESS' } } as const
  const { port: upstream } = await serveProxied(t, { trust: 'loopback', certificate, probe })
  const { port: trusting } = await serveProxied(t, { trust: 'loopback', certificate: { ...certificate, verified: 'presence' }, probe })
  const nginx = async (port: number, config: (text: string) => string = (text) => text): Promise<Checked> => {
    const { https } = await startProxy(t, 'nginx', { upstream: port, pki: { ...pki, crl }, config: (text) => config(text.replace('$ssl_client_escaped_cert', '$ssl_client_s_dn')) })
    return await check(`https://localhost:${https}`, probe, ['--json', '--cert', '--key'])
  }
  const lax = (text: string): string => text.replace('ssl_crl ', '# ssl_crl ').replace(/ssl_verify_client +optional;/, 'ssl_verify_client optional_no_ca;')
  const good = await nginx(upstream)
  const trap = await nginx(upstream, (text) => text.replaceAll('location / {', 'location / {\nproxy_set_header X-Forwarded-Proto $scheme;'))
  const oneLine = await nginx(upstream, (text) => text.replace('$ssl_client_s_dn', '$ssl_client_s_dn_legacy'))
  const unverified = await nginx(trusting, lax)
  t.match(good, { code: 0, report: { findings: [], unanswered: [], untested: [/^plain HTTP/, /^other paths/, /^the certificate of --cert was compared by its subject alone/] } })
  t.equal(found(trap)[0], 'CERTIFICATE_BELIEVED CERTIFICATE_NOT_SEEN ARRIVED x-ssl-client-cert', 'one proxy_set_header drops the others')
  t.strictSame(found(oneLine), ['CERTIFICATE_NOT_SEEN x-ssl-client-cert'])
  t.strictSame(found(unverified), ['STRANGER_BELIEVED x-ssl-client-cert'])
})
