import t, { type Test } from 'tap'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type http2 from 'node:http2'
import https from 'node:https'
import type { SecureVersion, TLSSocket } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { type Answer, ask, askHttp2 } from './fixtures/ask.ts'
import { type Identity, authority, issue, issueServer, selfSigned } from './fixtures/pki.ts'
import { type Served, makePki, serve } from './fixtures/serve.ts'

const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
/** Node before 24.21 takes an anonymous client that resumes its session for authorized (nodejs/node#35317). */
const trustsAnonymousResumption = major < 24 || (major === 24 && minor < 21)

const pki = await makePki()
const [stranger, lookAlike] = await Promise.all([authority('Other CA'), authority('Test CA')])
const chainOf = (leaf: Identity, issuer: Identity): Identity => ({ cert: leaf.cert + issuer.cert, key: leaf.key })

const identities: Record<string, { identity?: Identity, code?: string }> = {
  'no certificate': { code: 'CERTIFICATE_REQUIRED' },
  'a valid one': { identity: pki.client },
  'a self-signed one': { identity: await selfSigned(), code: 'CERTIFICATE_UNTRUSTED' },
  'one of another CA': { identity: await issue(stranger), code: 'CERTIFICATE_UNTRUSTED' },
  'one of a CA with the same name': { identity: await issue(lookAlike), code: 'CERTIFICATE_UNTRUSTED' },
  'an expired one': { identity: await issue(pki.ca, { days: [-10, -1] }), code: 'CERTIFICATE_EXPIRED' },
  'one that is not valid yet': { identity: await issue(pki.ca, { days: [1, 10] }), code: 'CERTIFICATE_NOT_YET_VALID' },
  'one for servers only': { identity: await issueServer(pki.ca), code: 'CERTIFICATE_INVALID' },
  'one signed by a leaf': { identity: chainOf(await issue(pki.client, { subject: 'CN=Mallory' }), pki.client), code: 'CERTIFICATE_INVALID' }
}

function declare (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): void {
  app.get('/partners', { httpSecurity: 'mtls' }, async (request) => `${hit(request)} ${request.clientCertificateValue('SubjectCN')}`)
  app.get('/tls', async (request) => `${hit(request)} ${request.clientCertificateValue('SubjectCN')} ${request.clientCertificate?.subject ?? 'null'} ${request.clientCertificateGetDetails().flags}`)
}

function check (t: Test, answer: Answer, code: string | undefined, name: string): void {
  if (code === undefined) t.match(answer, { status: 200, body: 'reached Jane' }, name)
  else t.match({ ...answer, body: JSON.parse(answer.body) }, { status: 403, body: { code: `FST_HTTP_SECURITY_${code}`, statusCode: 403 } }, name)
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${version}: who may pass, on new and on kept connections`, async (t) => {
    const served = await serve(t, pki, declare)
    for (const [name, { identity, code }] of Object.entries(identities)) {
      const agent = new https.Agent({ keepAlive: true, maxSockets: 1, maxVersion: version, minVersion: version })
      t.teardown(() => agent.destroy())
      for (const time of ['first', 'again']) {
        check(t, await served.secure('/partners', identity, { agent }), code, `${name}, ${time}`)
      }
      const open = await served.secure('/tls', identity, { agent })
      t.equal(open.body, `reached ${code === undefined ? 'Jane CN=Jane\nO=Acme 1' : ` null ${flagsOf(name)}`}`, `${name} reads nothing that anyone could have made up`)
    }
    t.equal(served.reached.filter((url) => url === 'GET /partners').length, 2, 'handlers saw the valid ones only')
    const refused = served.log.filter(({ code }) => code?.startsWith('FST_HTTP_SECURITY_CERTIFICATE'))
    t.equal(refused.length, 2 * (Object.keys(identities).length - 1), 'a line for each refusal')
    t.match(refused.find(({ code }) => code?.endsWith('_EXPIRED')), { level: 30, route: '/partners', certificate: { subject: 'CN=Jane', issuer: 'CN=Test CA', error: 'CERT_HAS_EXPIRED' } })
    t.equal(served.log.filter(({ err }) => err !== undefined).length, 0, 'and no other one')
  })
}

function flagsOf (name: string): number {
  if (name === 'no certificate') return 0
  return /self-signed|another CA|same name/.test(name) ? 3 : 1
}

t.test('HTTP/2, and HTTP/1.1 on the same server: who may pass', async (t) => {
  const served = await serve(t, pki, declare, { http2: true })
  for (const [name, { identity, code }] of Object.entries(identities)) {
    const session = served.session(identity)
    for (const time of ['first', 'again']) check(t, await askHttp2(session, { ':path': '/partners' }), code, `${name}, ${time}`)
    check(t, await served.secure('/partners', identity), code, `${name}, HTTP/1.1`)
  }
  const session = served.session(pki.client)
  t.equal((await askHttp2(session, { ':path': '/tls' })).body, 'reached Jane CN=Jane\nO=Acme 1')
  t.equal((await askHttp2(session, { ':path': '/tls', ':scheme': 'http' })).status, 200, ':scheme says nothing')
})

/** Two requests of one client, the second on a resumed session, whatever the first was answered. */
async function resumed (served: Served, path: string, identity?: Identity, version: SecureVersion = 'TLSv1.3'): Promise<Answer[]> {
  const agent = new https.Agent({ keepAlive: false, maxVersion: version })
  const reused: boolean[] = []
  const first = await served.secure(path, identity, { agent })
  const second = await new Promise<Answer>((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: served.https, path, agent, ca: pki.ca.cert, ...identity && { cert: identity.cert, key: identity.key } }, (response) => {
      reused.push((response.socket as TLSSocket).isSessionReused())
      let body = ''
      response.setEncoding('utf8').on('data', (chunk) => { body += chunk }).on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }))
    })
    request.on('error', reject).end()
  })
  agent.destroy()
  if (!reused[0]) throw new Error('the session was not resumed')
  return [first, second]
}

t.test('an anonymous client that resumes its session stays anonymous', async (t) => {
  for (const isHttp2 of [false, true]) {
    const served = await serve(t, pki, declare, { http2: isHttp2 })
    const naive: boolean[] = []
    served.app.server.on('secureConnection', (socket: TLSSocket) => { naive.push(socket.authorized) })
    for (const answer of await resumed(served, '/partners')) check(t, answer, 'CERTIFICATE_REQUIRED', 'HTTP/1.1')
    if (trustsAnonymousResumption) t.strictSame(naive, [false, true], '`authorized` alone would have let it in')
    t.strictSame(served.reached, [])
  }

  const served = await serve(t, pki, declare, { http2: true })
  const first = served.session()
  const ticket = new Promise<Buffer>((resolve) => { (first.socket as TLSSocket).on('session', resolve) })
  check(t, await askHttp2(first, { ':path': '/partners' }), 'CERTIFICATE_REQUIRED', 'HTTP/2')
  const second = served.session(undefined, { session: await ticket })
  check(t, await askHttp2(second, { ':path': '/partners' }), 'CERTIFICATE_REQUIRED', 'HTTP/2, resumed')
  t.equal((second.socket as TLSSocket).isSessionReused(), true)
})

t.test('the holder of a certificate may resume', async (t) => {
  const served = await serve(t, pki, declare)
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const answer of await resumed(served, '/partners', pki.client, version)) check(t, answer, undefined, version)
  }
})

t.test('a certificate that expires on a kept or a resumed connection counts no more', async (t) => {
  const now = Date.now
  t.teardown(() => { Date.now = now })
  const served = await serve(t, pki, declare)
  const naive: boolean[] = []
  served.app.server.on('secureConnection', (socket: TLSSocket) => { naive.push(socket.authorized) })

  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  check(t, await served.secure('/partners', pki.client, { agent }), undefined, 'valid')
  Date.now = () => now() + 31 * 86_400_000
  check(t, await served.secure('/partners', pki.client, { agent }), 'CERTIFICATE_EXPIRED', 'kept')
  for (const answer of await resumed(served, '/partners', pki.client)) check(t, answer, 'CERTIFICATE_EXPIRED', 'resumed')
  t.equal((await served.secure('/tls', pki.client, { agent })).body, 'reached  null 1', 'nor do its values')
  Date.now = () => now() - 2 * 86_400_000
  check(t, await served.secure('/partners', pki.client, { agent }), 'CERTIFICATE_NOT_YET_VALID', 'a clock set back')
  Date.now = now
  check(t, await served.secure('/partners', pki.client, { agent }), undefined, 'and set right')
  t.equal((await served.secure('/tls', pki.client, { agent })).body, 'reached Jane CN=Jane\nO=Acme 1')
  t.strictSame(naive, [true, true, true], '`authorized` never changed')
})

t.test('"no certificate" and "root missing" are told apart by the leaf, though Node says the same of both', async (t) => {
  const intermediate = await issue(pki.ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const leaf = await issue(intermediate, { subject: 'CN=Jane, O=Acme' })
  const served = await serve(t, pki, declare, { https: { ca: stranger.cert } })
  const errors: unknown[] = []
  served.app.server.on('secureConnection', (socket: TLSSocket) => { errors.push(socket.authorizationError) })
  check(t, await served.secure('/partners'), 'CERTIFICATE_REQUIRED', 'none')
  check(t, await served.secure('/partners', leaf), 'CERTIFICATE_UNTRUSTED', 'intermediate missing')
  check(t, await served.secure('/partners', chainOf(leaf, intermediate)), 'CERTIFICATE_UNTRUSTED', 'root missing')
  t.equal(errors[0], 'UNABLE_TO_GET_ISSUER_CERT', 'an error though there is no certificate')

  const complete = await serve(t, pki, declare)
  check(t, await complete.secure('/partners', chainOf(leaf, intermediate)), undefined, 'a chain')
})

t.test('a server that does not ask, and one that is anonymous itself, know nobody and crash on nobody', async (t) => {
  const served = await serve(t, pki, declare, { options: { unsatisfiable: 'warn' }, https: { requestCert: false } })
  check(t, await served.secure('/partners', pki.client), 'CERTIFICATE_REQUIRED', 'not asked')
  t.equal((await served.secure('/tls', pki.client)).body, 'reached  null 0')
  t.match(served.log.find(({ code }) => code === 'FST_HTTP_SECURITY_UNSATISFIABLE'), { level: 40, msg: /does not ask for client certificates[^]*GET, HEAD \/partners/ })
})

t.test('a revoked certificate, and one that cannot be checked', async (t) => {
  const dir = t.testdir({ 'index.txt': '', 'ca.pem': pki.ca.cert, 'ca.key': pki.ca.key, 'jane.pem': pki.client.cert, crlnumber: '01\n', 'ca.cnf': '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=1\ncertificate=ca.pem\nprivate_key=ca.key\n' })
  const openssl = (...args: string[]): void => { execFileSync('openssl', ['ca', '-config', 'ca.cnf', ...args], { cwd: dir, stdio: 'ignore' }) }
  openssl('-revoke', 'jane.pem')
  openssl('-gencrl', '-out', 'crl.pem')
  const served = await serve(t, pki, declare, { https: { crl: readFileSync(`${dir}/crl.pem`) } })
  check(t, await served.secure('/partners', pki.client), 'CERTIFICATE_REVOKED', 'revoked')
  check(t, await served.secure('/partners', await issue(pki.ca, { subject: 'CN=Jane' })), undefined, 'another one')

  const uncheckable = await serve(t, { ...pki, ca: stranger }, declare, { https: { key: pki.server.key, cert: pki.server.cert, crl: readFileSync(`${dir}/crl.pem`) } })
  check(t, await ask({ port: uncheckable.https, path: '/partners', tls: { ca: pki.ca.cert, ...await issue(stranger) } }), 'CERTIFICATE_INVALID', 'no CRL for its CA')
})

t.test('asked late, on a connection that has gone, the decorators answer and nothing throws', async (t) => {
  for (const isHttp2 of [false, true]) {
    let answered: (value: unknown) => void
    const late = new Promise((resolve) => { answered = resolve })
    const served = await serve(t, pki, (app) => {
      app.get('/partners', { httpSecurity: 'mtls' }, async (request, reply) => {
        if (isHttp2) (request.raw as unknown as http2.Http2ServerRequest).stream.session!.destroy()
        else request.raw.socket.destroy()
        await new Promise((resolve) => setTimeout(resolve, 50))
        answered({ details: request.clientCertificateGetDetails(), value: request.clientCertificateValue('SubjectCN'), security: request.httpSecurity, certificate: request.clientCertificate })
        return reply.hijack()
      })
    }, { http2: isHttp2 })
    const question = isHttp2 ? askHttp2(served.session(pki.client), { ':path': '/partners' }) : served.secure('/partners', pki.client)
    await question.catch(() => {})
    t.match(await late, { details: { isPresent: true, isValid: !isHttp2 }, value: isHttp2 ? '' : 'Jane', security: { level: 'mtls' } })
  }
})
