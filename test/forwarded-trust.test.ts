/**
 * Where this application verifies what a proxy forwards: its client CAs may change, and what it has verified is kept.
 */
import t, { type Test } from 'tap'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import { WebSocket } from 'ws'
import { type Answer, ask } from './fixtures/ask.ts'
import { extension, make, pemOf } from './fixtures/chains.ts'
import { idp, makeCrl, unsigned } from './fixtures/crls.ts'
import { written } from './fixtures/forward.ts'
import { type Authority, authority, issue, revocationList } from './fixtures/pki.ts'
import { type LogLine, serveHttp } from './fixtures/serve.ts'
import { DAY, until } from './fixtures/time.ts'

const ca = await authority('Partners')
const other = await authority('Others')
const [jane, joe, outsider] = await Promise.all([issue(ca, { subject: 'CN=Jane' }), issue(ca, { subject: 'CN=Joe' }), issue(other, { subject: 'CN=Olga' })])

const saying = (who?: Authority): Record<string, string> => ({ 'x-forwarded-proto': 'https', ...who !== undefined && { 'x-ssl-client-cert': written['base64-der'](who.cert) } })

const HOUR_IN_DAYS = 1 / 24
/** Long enough for a WebSocket to open, whatever else the machine does. */
const LITTLE = 3_000 / DAY

/** Sets the clock so many days ahead, until the test is over. */
function setAhead (t: Test): (days: number) => void {
  const { now } = Date
  t.teardown(() => { Date.now = now })
  return (days) => { Date.now = () => now() + days * DAY }
}

interface Verifying {
  port: number
  log: LogLine[]
  file (name: string): string
  get (who?: Authority, options?: object): Promise<Answer>
  code (who?: Authority, options?: object): Promise<string>
  /** Waits for a line of the log, and fails without it. */
  logged (pattern: RegExp): Promise<LogLine>
  live (who: Authority): Promise<{ echoed: () => Promise<string>, closed: Promise<number> }>
  release (): void
}

async function verifying (t: Test, files: Record<string, string>, proxy: object = {}): Promise<Verifying> {
  const dir = t.testdir(files)
  const file = (name: string): string => join(dir, name)
  let release = (): void => {}
  const released = new Promise<void>((resolve) => { release = resolve })
  const { port, log } = await serveHttp(t, { proxy: { trust: 'loopback', certificate: 'caddy', ca: file('ca.pem'), ...'crl.pem' in files && { crl: file('crl.pem') }, ...proxy } }, async (app) => {
    await app.register(websocket)
    app.get('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateValue('SubjectCN'))
    app.post('/', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateValue('SubjectCN'))
    app.get('/slow', { httpSecurity: 'mtls' }, async (request) => { await released; return request.clientCertificateValue('SubjectCN') })
    app.get('/live', { httpSecurity: 'mtls', websocket: true }, (socket) => { socket.on('message', (data) => { socket.send(String(data)) }) })
  })
  const get: Verifying['get'] = (who, options) => ask({ port, path: '/', headers: saying(who), ...options })
  return {
    port,
    log,
    file,
    get,
    release,
    code: async (...args) => {
      const { status, body } = await get(...args)
      return status === 200 ? body : `${status} ${/FST_HTTP_SECURITY_(\w+)/.exec(body)?.[1] ?? body}`
    },
    async logged (pattern) {
      const find = (): LogLine | undefined => log.find(({ msg }) => pattern.test(msg))
      if (!await until(() => find() !== undefined)) throw new Error(`the log has no ${String(pattern)}`)
      return find()!
    },
    async live (who) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/live`, { headers: saying(who) })
      t.teardown(() => socket.terminate())
      const closed = new Promise<number>((resolve) => socket.once('close', resolve))
      await new Promise<void>((resolve, reject) => { socket.once('open', resolve); socket.once('error', reject) })
      const echoed = async (): Promise<string> => {
        socket.send('hello')
        return await Promise.race([new Promise<string>((resolve) => socket.once('message', (data) => resolve(String(data)))), closed.then(() => 'closed')])
      }
      return { echoed, closed }
    }
  }
}

t.test('changed files of client CAs and CRLs apply to the next request of a kept proxy connection', async (t) => {
  const app = await verifying(t, { 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  t.equal(await app.code(jane, { agent }), 'Jane')
  t.equal(await app.code(outsider, { agent }), '403 CERTIFICATE_UNTRUSTED')
  const [janes, joes] = [await app.live(jane), await app.live(joe)]
  const slow = ask({ port: app.port, path: '/slow', headers: saying(jane) })
  const crl = await revocationList(ca, [jane])
  writeFileSync(app.file('crl.new'), crl)
  renameSync(app.file('crl.new'), app.file('crl.pem'))
  await app.logged(/^http-security: proxy: revocation lists were read anew and are in force$/)
  t.equal(await janes.closed, 1006, 'her WebSocket ends')
  t.equal(await app.code(jane, { agent }), '403 CERTIFICATE_REVOKED')
  t.equal(await app.code(joe, { agent }), 'Joe', 'others go on, on the same connection')
  t.equal(await joes.echoed(), 'hello', 'and their WebSockets')
  app.release()
  t.strictSame({ status: (await slow).status, body: (await slow).body }, { status: 200, body: '' }, 'a handler that already runs is told that it is not valid any more')

  app.log.length = 0
  writeFileSync(app.file('ca.pem'), ca.cert.slice(0, 200))
  t.match(await app.logged(/were not changed, and the ones before stay in force/), { level: 50, code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', msg: /ca\.pem: is cut off/ }, 'half a file')
  t.equal(await app.code(joe), 'Joe')
  rmSync(app.file('crl.pem'))
  await app.logged(/crl\.pem: cannot be read: ENOENT|ca\.pem: is cut off/)
  t.equal(await app.code(jane), '403 CERTIFICATE_REVOKED', 'a list that is gone is not forgotten')
  app.log.length = 0
  writeFileSync(app.file('crl.pem'), crl + await revocationList(other))
  writeFileSync(app.file('ca.pem'), ca.cert + other.cert)
  await app.logged(/were read anew/)
  t.strictSame([await app.code(jane), await app.code(joe), await app.code(outsider)], ['403 CERTIFICATE_REVOKED', 'Joe', 'Olga'])
})

t.test('a CRL that is not in date yet replaces none, and is in force once it is', async (t) => {
  const setClock = setAhead(t)
  const app = await verifying(t, { 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) })
  t.equal(await app.code(jane), 'Jane')
  writeFileSync(app.file('crl.pem'), await revocationList(ca, [jane], [HOUR_IN_DAYS, 3 * HOUR_IN_DAYS]))
  t.match(await app.logged(/proxy: not all revocation lists were changed/), { level: 50, code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', msg: /crl\.pem: the revocation list of CN=\S+ is not valid before .*; the one before stays in force$/ })
  t.equal(await app.code(jane), 'Jane')
  setClock(2 * HOUR_IN_DAYS)
  await app.logged(/were read anew/)
  t.equal(await app.code(jane), '403 CERTIFICATE_REVOKED')
  // One change may be noticed twice, where a look at files took its time
  t.equal(new Set(app.log.filter(({ level }) => level === 50).map(({ msg }) => msg)).size, 1, 'and nothing else is wrong')
})

t.test('a CRL that is out of date does not keep other CRLs back', async (t) => {
  const app = await verifying(t, { 'ca.pem': ca.cert + other.cert, 'crl.pem': await revocationList(ca) }, {})
  const lists = async (revoked: Authority[], days: [number, number]): Promise<void> => writeFileSync(app.file('crl.pem'), await revocationList(ca, revoked) + await revocationList(other, [], days))
  await lists([], [-1, 30])
  await app.logged(/were read anew/)
  t.strictSame([await app.code(jane), await app.code(outsider)], ['Jane', 'Olga'])
  app.log.length = 0
  await lists([jane], [-3, -2])
  await app.logged(/not all revocation lists were changed.*is out of date since/)
  t.strictSame([await app.code(jane), await app.code(outsider)], ['403 CERTIFICATE_REVOKED', 'Olga'])
  app.log.length = 0
  await lists([joe], [-3, -1])
  await app.logged(/proxy: not all revocation lists were changed/)
  t.strictSame([await app.code(jane), await app.code(joe), await app.code(outsider)], ['Jane', '403 CERTIFICATE_REVOKED', 'Olga'])
  app.log.length = 0
  writeFileSync(app.file('crl.pem'), await revocationList(ca, [], [-3, -2]) + await revocationList(other, [], [-3, -2]))
  t.match(await app.logged(/proxy: not all revocation lists were changed/), { msg: /list of CN=Partners is out of date.*list of CN=Others is out of date/ }, 'each of them is told')
  t.strictSame([await app.code(jane), await app.code(joe), await app.code(outsider)], ['Jane', '403 CERTIFICATE_REVOKED', 'Olga'])
})

t.test('the log warns of a client CA that expires soon, and of a CRL that has ended', async (t) => {
  const soon = await authority('Soon', [-90, 5])
  const app = await verifying(t, { 'ca.pem': soon.cert, 'crl.pem': await revocationList(soon, [], [-2, -1]) })
  t.match(await app.logged(/ends in 4 days/), { level: 40, msg: /ca\.pem: CN=Soon ends in 4 days, on / })
  t.equal(app.log.filter(({ msg }) => /is out of date since/.test(msg)).length, 1, 'at boot, once')
})

t.test('a CRL that OpenSSL takes but is ambiguous stops the boot', async (t) => {
  const authority = make({ ca: true, subject: 'CN=Odd' })
  const list = pemOf('X509 CRL', makeCrl(authority, { number: 1, extensions: [extension('2.5.29.20', unsigned(1))] }))
  await t.rejects(verifying(t, { 'ca.pem': authority.pem, 'crl.pem': list }), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: /crl\.pem: its first CRL is not exactly as RFC 5280 §5 has it/ })
})

t.test('a CRL that is not used is a warning, and without another one revocation is unknown', async (t) => {
  const authority = make({ ca: true, subject: 'CN=Parts' })
  const [client, revoked] = [make({ issuer: authority, subject: 'CN=Pia' }), make({ issuer: authority })]
  const indirect = pemOf('X509 CRL', makeCrl(authority, { entries: [client], idp: idp({ indirect: true }) }))
  const app = await verifying(t, { 'ca.pem': authority.pem, 'crl.pem': indirect })
  t.match(await app.logged(/is not used/), { level: 40, msg: /crl\.pem: the revocation list of CN=Parts is not used \(it is an indirect CRL, which may list certificates of other issuers\)$/ })
  t.equal(await app.code({ cert: client.pem } as Authority), '403 REVOCATION_UNKNOWN')
  writeFileSync(app.file('crl.pem'), indirect + pemOf('X509 CRL', makeCrl(authority, { days: [-3, 30], entries: [revoked] })))
  await app.logged(/were read anew/)
  t.strictSame([await app.code({ cert: client.pem } as Authority), await app.code({ cert: revoked.pem } as Authority)], ['Pia', '403 CERTIFICATE_REVOKED'])
})

t.test('a CRL without nextUpdate does not end', async (t) => {
  const authority = make({ ca: true, subject: 'CN=Lasting' })
  const [client, revoked] = [make({ issuer: authority, subject: 'CN=Lea' }), make({ issuer: authority })]
  const app = await verifying(t, { 'ca.pem': authority.pem, 'crl.pem': pemOf('X509 CRL', makeCrl(authority, { days: [-99, undefined], entries: [revoked] })) })
  t.equal(await app.code({ cert: client.pem } as Authority), 'Lea')
  t.equal(await app.code({ cert: revoked.pem } as Authority), '403 CERTIFICATE_REVOKED')
  t.strictSame(app.log.filter(({ msg }) => /revocation list/.test(msg)), [])
})

t.test('a forwarded certificate is checked again when a CRL begins', async (t) => {
  const setClock = setAhead(t)
  const app = await verifying(t, { 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) + await revocationList(ca, [jane], [HOUR_IN_DAYS, 3 * HOUR_IN_DAYS]) })
  t.equal(await app.code(jane), 'Jane')
  setClock(HOUR_IN_DAYS - LITTLE)
  const live = await app.live(jane)
  t.equal(await live.closed, 1006)
  t.equal(await app.code(jane), '403 CERTIFICATE_REVOKED')
  t.equal(await app.code(joe), 'Joe')
})

t.test('a slow request is judged by the client CAs at the end of its body', async (t) => {
  const app = await verifying(t, { 'ca.pem': ca.cert, 'crl.pem': await revocationList(ca) })
  const posted = new Promise<string>((resolve, reject) => {
    const request = http.request({ port: app.port, host: '127.0.0.1', method: 'POST', path: '/', agent: false, headers: { ...saying(jane), 'content-type': 'text/plain' } }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => resolve(body))
    })
    request.on('error', reject)
    request.write('a')
    wait(100).then(async () => {
      writeFileSync(app.file('crl.pem'), await revocationList(ca, [jane]))
      await app.logged(/were read anew/)
      request.end('b')
    }).catch(reject)
  })
  t.match(await posted, 'FST_HTTP_SECURITY_CERTIFICATE_REVOKED')
})

t.test('a slow request is judged by the dates at the end of its body', async (t) => {
  const setClock = setAhead(t)
  const short = await issue(ca, { subject: 'CN=Short', ca: true, purpose: 'none', days: [-1, 2] })
  const app = await verifying(t, {}, { ca: [ca.cert, short.cert] })
  const long = await issue(short, { subject: 'CN=Long' })
  const posted = await new Promise<string>((resolve, reject) => {
    const request = http.request({ port: app.port, host: '127.0.0.1', method: 'POST', path: '/', agent: false, headers: { ...saying(long), 'content-type': 'text/plain' } }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => resolve(body))
    })
    request.on('error', reject)
    request.write('a')
    wait(100).then(() => {
      setClock(3)
      request.end('b')
    }).catch(reject)
  })
  t.match(posted, 'FST_HTTP_SECURITY_CERTIFICATE_EXPIRED', 'the authority has ended, the certificate has not')
})

t.test('client CAs in a Kubernetes volume are replaced as a whole', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'volume-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  mkdirSync(join(dir, 'old'))
  writeFileSync(join(dir, 'old', 'ca.pem'), ca.cert)
  symlinkSync('old', join(dir, '..data'))
  symlinkSync('..data/ca.pem', join(dir, 'ca.pem'))
  const app = await verifying(t, {}, { ca: join(dir, 'ca.pem') })
  t.equal(await app.code(outsider), '403 CERTIFICATE_UNTRUSTED')
  mkdirSync(join(dir, 'new'))
  writeFileSync(join(dir, 'new', 'ca.pem'), other.cert)
  symlinkSync('new', join(dir, '..new'))
  renameSync(join(dir, '..new'), join(dir, '..data'))
  await app.logged(/were read anew/)
  t.equal(await app.code(outsider), 'Olga')
  t.equal(await app.code(jane), '403 CERTIFICATE_UNTRUSTED')
})

t.test('client CAs and CRLs may be PEM text or bytes, and the log says what is odd in them', async (t) => {
  const intermediate = await issue(ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const app = await verifying(t, {}, { ca: [ca.cert, Buffer.from(other.cert)], crl: [await revocationList(ca), Buffer.from(await revocationList(other), 'utf8')] })
  t.strictSame([await app.code(jane), await app.code(outsider)], ['Jane', 'Olga'])
  const rootless = await verifying(t, {}, { ca: intermediate.cert })
  t.match(await rootless.logged(/the issuer of CN=Intermediate is not among the authorities/), { level: 40 })
  t.equal(await rootless.code(await issue(intermediate)), '403 CERTIFICATE_UNTRUSTED')
})

t.test('a verdict on a forwarded certificate ends with the certificate, its CA or its CRL', async (t) => {
  const later = setAhead(t)
  const shortCa = await authority('Short', [-1, 5])
  const crl = await revocationList(ca, [], [-1, 3])
  const long = await issue(ca, { subject: 'CN=Long', days: [-30, 30] })
  const app = await verifying(t, {}, { ca: [ca.cert, shortCa.cert], crl: [crl, await revocationList(shortCa)] })
  const [short, shorter] = [await issue(shortCa, { subject: 'CN=Short' }), await issue(ca, { subject: 'CN=Shorter', days: [-1, 2] })]
  t.equal(await app.code(long), 'Long')
  for (let twice = 0; twice < 2; twice++) t.strictSame([await app.code(jane), await app.code(short), await app.code(shorter)], ['Jane', 'Short', 'Shorter'])
  later(2.5)
  t.equal(await app.code(shorter), '403 CERTIFICATE_EXPIRED')
  t.equal(await app.code(jane), 'Jane')
  later(3.5)
  t.equal(await app.code(jane), '403 REVOCATION_UNKNOWN', 'the list is out of date')
  t.equal(await app.code(short), 'Short')
  later(5.5)
  t.not(await app.code(short), 'Short', 'the authority has expired')
  later(-2)
  t.not(await app.code(long), 'Long', 'nor is it one from before the authority and its list began')
  t.equal(await app.code(short), '403 CERTIFICATE_NOT_YET_VALID', 'a clock that went back')
})

t.test('a WebSocket through a proxy ends with the earliest of certificate, CA and CRL', async (t) => {
  const setClock = setAhead(t)
  const shortCa = await authority('Short', [-1, HOUR_IN_DAYS])
  const app = await verifying(t, {}, { ca: shortCa.cert })
  const long = await issue(shortCa, { subject: 'CN=Long', days: [-1, 30] })
  setClock(HOUR_IN_DAYS - LITTLE)
  const { closed } = await app.live(long)
  t.equal(await closed, 1006)
})
