import t from 'tap'
import { makeProbeToken } from '../../lib/proxy/probe-token.ts'
import { type Checked, checkFiles, checker, found, type ProxyOption, serveProxied, waysOf } from '../fixtures/check-proxy.ts'
import { revocationList } from '../fixtures/pki.ts'
import { ADDRESSES, startProxy, withoutProxy } from '../fixtures/proxies.ts'
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

/** A replacement that has to happen. */
function instead (from: string | RegExp, to: string): (text: string) => string {
  return (text) => {
    const done = text.replace(from, to)
    if (done === text) throw new Error(`no ${String(from)}`)
    return done
  }
}

t.test('check-proxy finds what HAProxy and Apache let through of a name and a fingerprint', { skip: withoutProxy('haproxy', 'apache') }, async (t) => {
  const crl = await revocationList(pki.ca)
  const probe = makeProbeToken(5)
  const through = async (kind: 'haproxy' | 'apache', certificate: ProxyOption['certificate'], config: (text: string) => string, args: string[] = []): Promise<Checked> => {
    const { port: upstream } = await serveProxied(t, { trust: 'loopback', probe, certificate })
    const { https, http } = await startProxy(t, kind, { upstream, pki: { ...pki, crl }, config })
    return await check([`https://localhost:${https}`, ...args.length > 0 ? [] : [`http://localhost:${http}`]], probe, ['--json', ...args])
  }
  const ofHaproxy: ProxyOption['certificate'] = { header: 'client-cert', encoding: 'dn', verified: { header: 'x-ssl-client-verify', value: '0' }, fingerprint: 'x-client-sha256' }
  const strip = '    http-request del-header ^x[-_]client[-_]sha256$ -m reg\n'
  const names = (text: string): string => instead('    # How the client came.', `${strip}    http-request set-header X-Client-SHA256 %[ssl_c_der,sha2(256),hex] if { ssl_c_used }\n`)(instead('":%[ssl_c_der,base64]:"', '%[ssl_c_s_dn(,0,rfc2253)]')(text))
  const ofApache: ProxyOption['certificate'] = { header: 'x-ssl-client-cert', encoding: 'dn', verified: { header: 'x-ssl-client-verify', value: 'SUCCESS' } }
  const apacheNames = instead('%{SSL_CLIENT_CERT}s', '%{SSL_CLIENT_S_DN}s')

  const haproxy = {
    good: await through('haproxy', ofHaproxy, names),
    client: await through('haproxy', ofHaproxy, names, ['--cert', '--key']),
    fingerprint: await through('haproxy', ofHaproxy, (text) => names(text).replace(strip, '')),
    all: await through('haproxy', ofHaproxy, (text) => names(text).replaceAll(/^ +http-request del-header .*\n/gm, ''))
  }
  const apache = {
    good: await through('apache', ofApache, apacheNames),
    client: await through('apache', ofApache, apacheNames, ['--cert', '--key']),
    all: await through('apache', ofApache, (text) => apacheNames(text).replaceAll(/^RequestHeader unset .*\n/gm, '')),
    oneLine: await through('apache', ofApache, (text) => instead('SSLVerifyClient optional', 'SSLVerifyClient optional\n    SSLOptions +LegacyDNStringFormat')(apacheNames(text)), ['--cert', '--key'])
  }
  t.match(haproxy.good, { code: 0, report: { headers: ['x-forwarded-proto', 'client-cert', 'x-ssl-client-verify', 'x-client-sha256', 'early-data'], unanswered: [] } })
  t.strictSame(found(haproxy.good), ['(LOST x-forwarded-proto)'])
  t.match(haproxy.client, { code: 0, report: { unanswered: [] } }, 'a client with a certificate')
  t.strictSame(found(haproxy.client), ['(LOST x-forwarded-proto)'])
  t.notOk(haproxy.client.report!.untested.some((line) => /by its subject alone/.test(line)), 'is known by its fingerprint')
  t.strictSame(found(haproxy.fingerprint), ['ARRIVED UNDERSCORED x-client-sha256', '(LOST x-forwarded-proto)'], 'one line is missing')
  t.strictSame(found(haproxy.all).slice(0, 3), ['CERTIFICATE_BELIEVED ARRIVED UNDERSCORED client-cert', 'ARRIVED UNDERSCORED x-client-sha256', 'ARRIVED UNDERSCORED x-ssl-client-verify'], 'none is there')

  t.match(apache.good, { code: 0, report: { headers: ['x-forwarded-proto', 'x-ssl-client-cert', 'x-ssl-client-verify', 'early-data'], unanswered: [] } })
  t.ok(found(apache.good).every((line) => line.startsWith('(LOST')), 'Apache drops what Connection names')
  t.match(apache.client, { code: 0, report: { unanswered: [] } })
  t.ok(apache.client.report!.untested.some((line) => /compared by its subject alone/.test(line)), 'Apache knows no SHA-256 of a certificate')
  t.strictSame(found(apache.all).slice(0, 2), ['CERTIFICATE_SEEN ARRIVED UNDERSCORED x-ssl-client-cert', 'ARRIVED UNDERSCORED x-ssl-client-verify'], 'the verdict is Apache\'s own')
  t.match(apache.oneLine, { code: 1 })
  t.equal(found(apache.oneLine)[0], 'CERTIFICATE_NOT_SEEN x-ssl-client-cert', 'the form of OpenSSL on one line')
})

t.test('check-proxy finds whether Caddy appends to what clients write of the protocol', { skip: withoutProxy('caddy') }, async (t) => {
  const crl = await revocationList(pki.ca)
  const probe = makeProbeToken(5)
  const through = async (proxy: Partial<ProxyOption>, config: (text: string) => string): Promise<Checked> => {
    const { port: upstream } = await serveProxied(t, { trust: 'loopback', probe, certificate: 'caddy', ca: pki.ca.cert, crl, ...proxy })
    const { https, http } = await startProxy(t, 'caddy', { upstream, pki: { ...pki, crl }, config })
    return await check([`https://localhost:${https}`, `http://localhost:${http}`], probe, ['--json'])
  }
  // With trusted_proxies, reverse_proxy leaves the header as it is.
  const KEEPS = '\t\treverse_proxy 127.0.0.1:3000 {\n\t\t\ttrusted_proxies private_ranges\n\t\t}'
  const keeps = instead('\t\treverse_proxy 127.0.0.1:3000', KEEPS)
  const appends = instead('\t\treverse_proxy 127.0.0.1:3000', `\t\trequest_header X-Forwarded-Proto "{header.X-Forwarded-Proto}, {scheme}"\n${KEEPS}`)
  t.match(await through({ hops: 1 }, (text) => text), { code: 0, report: { findings: [], unanswered: [] } }, 'as in the examples, it has one value')
  t.match(await through({ hops: 1 }, appends), { code: 0, report: { findings: [], unanswered: [] } }, 'the last value is its own')
  t.strictSame(found(await through({}, appends)), ['NOT_SECURE ARRIVED x-forwarded-proto'], 'where all values count')
  t.strictSame(found(await through({ hops: 2 }, appends)), ['SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-proto'], 'where there is one proxy less than the app counts')
  t.strictSame(found(await through({ hops: 1 }, keeps)), ['SECURE_BELIEVED ARRIVED x-forwarded-proto'], 'where it is the client\'s')
})

for (const [outer, inner, lines] of [
  ['nginx', 'inner haproxy', { all: /^ +proxy_set_header (?!Host|Upgrade|Connection|X-Forwarded-Proto).*\n/gm, protocol: /^ +proxy_set_header X-Forwarded-Proto .*\n/m, alone: /^ +http-request deny .*\n/m }],
  ['haproxy', 'inner nginx', { all: /^ +http-request (?:del-header .*|set-header (?:Client-Cert|X-SSL-Client-Verify).*)\n/gm, protocol: /^ +http-request set-header X-Forwarded-Proto .*\n/gm, alone: /^ +allow .*\n +deny all;\n/m }]
] as const) {
  t.test(`check-proxy finds what two proxies in a row let through: ${outer} in front of ${inner.replace('inner ', '')}`, { skip: withoutProxy(outer, inner) }, async (t) => {
    const crl = await revocationList(pki.ca)
    const probe = makeProbeToken(5)
    const { port: upstream } = await serveProxied(t, { trust: ADDRESSES.inner, certificate: outer, hops: 2, probe })
    const from = outer === 'nginx' ? instead('http {\n', `http {\nproxy_bind ${ADDRESSES.outer};\n`) : instead('server app 127.0.0.1:3000', `server app 127.0.0.1:3000 source ${ADDRESSES.outer}`)
    const same = (text: string): string => text
    const through = async ({ first = same, second = same, args = [] as string[], urls = (https: number, http: number, _inner: number) => [`https://localhost:${https}`, ...args.length > 0 ? [] : [`http://localhost:${http}`]] } = {}): Promise<Checked> => {
      const two = await startProxy(t, inner, { upstream, pki: { ...pki, crl }, config: second })
      const one = await startProxy(t, outer, { upstream: two.http, pki: { ...pki, crl }, config: (text) => first(from(text)) })
      return await check(urls(one.https, one.http, two.http), probe, ['--json', ...args])
    }
    const direct = { urls: (https: number, _http: number, inner: number) => [`https://localhost:${https}`, `http://127.0.0.1:${inner}`] }
    const good = await through()
    const client = await through({ args: ['--cert', '--key'] })
    const unstripped = await through({ first: (text) => text.replaceAll(lines.all, '') })
    const unset = await through({ first: (text) => text.replaceAll(new RegExp(lines.protocol, 'gm'), '').replaceAll(/^ +http-request del-header .*forwarded\[-_\]proto.*\n/gm, '') })
    const closed = await through(direct)
    const open = await through({ ...direct, second: instead(lines.alone, '') })
    const certificate = outer === 'nginx' ? 'x-ssl-client-cert' : 'client-cert'
    const problems = (result: Checked): string[] => found(result).map((line) => line.replace(' UNDERSCORED', '')).filter((line) => !line.startsWith('('))

    t.match(good, { code: 0, report: { headers: ['x-forwarded-proto', certificate, 'x-ssl-client-verify', 'early-data'], findings: [], unanswered: [] } })
    t.match(client, { code: 0, report: { findings: [], unanswered: [] } }, 'a client with a certificate')
    t.strictSame(problems(unstripped), [`CERTIFICATE_BELIEVED ARRIVED ${certificate}`, 'ARRIVED x-ssl-client-verify'], 'the first one removes nothing')
    t.strictSame(problems(unset), ['SECURE_BELIEVED NOT_SECURE ARRIVED x-forwarded-proto'], 'the first one says nothing of the protocol')
    t.match(closed, { code: 0, report: { urls: [{ note: null }, { note: 'is fine: plain HTTP is refused (403)' }], findings: [], unanswered: [] } }, 'the second one, past the first')
    t.strictSame(problems(open).map((line) => line.replace(' ARRIVED', '')), [`CERTIFICATE_BELIEVED ${certificate}`, 'SECURE_BELIEVED x-forwarded-proto', 'ARRIVED x-ssl-client-verify'], 'the second one takes requests from anybody')
  })
}

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
