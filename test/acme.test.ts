/**
 * Certificates by ACME against a server of our own (fixtures/acme-server.ts), which can be brought to what a real one hardly
 * does. Against a real one: field/acme.test.ts.
 */
import t, { type Test } from 'tap'
import { createHash, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { type AcmeOptions, type AcmeSource, acme } from '../lib/acme/index.ts'
import { certificateId, nextQuestion, pauseAfter, plannedRenewal } from '../lib/acme/renewal.ts'
import httpSecurity from '../lib/index.ts'
import { type AcmeInterface, acmeInterfaceOf } from '../lib/tls-interface.ts'
import { enableTls } from '../lib/tls/index.ts'
import { certificateRequest } from '../lib/x509/certificate-request.ts'
import { type AcmeServer, problem, startAcmeServer } from './fixtures/acme-server.ts'
import { type Answer, ask, askRaw } from './fixtures/ask.ts'
import { extension, make, seq, time } from './fixtures/chains.ts'
import { handshake } from './fixtures/enabled.ts'
import { freePort, listening } from './fixtures/network.ts'
import { opensslIn, withoutOpenssl } from './fixtures/openssl.ts'
import { authority } from './fixtures/pki.ts'
import { keepLog, type LogLine } from './fixtures/serve.ts'
import { DAY, HOUR, MINUTE, until } from './fixtures/time.ts'
import { der } from './fixtures/x509.ts'

/** The clock of this process is so many milliseconds ahead. */
let ahead = 0
const now = Date.now
Date.now = () => now() + ahead
t.teardown(() => { Date.now = now })
t.beforeEach(() => { ahead = 0 })

/** Proves a name without a word: what a test is about is elsewhere. */
const dns = { add: async () => {}, remove: async () => {} }

interface Running {
  source: AcmeSource
  acme: AcmeInterface
  log: string[]
  /** How often another certificate was there. */
  changes: number
  stop (): void
  /** Does at once what is due by now, some time after the last look. */
  look (later?: number): void
}

/** A source that is watched; it has loaded what was there. */
async function start (t: Test, options: AcmeOptions): Promise<Running> {
  const source = acme(options)
  const inner = acmeInterfaceOf(source)!
  const running: Running = { source, acme: inner, log: [], changes: 0, stop: () => {}, look: (later = 0) => { ahead += later; inner.listens() } }
  inner.logTo((level, message) => { running.log.push(`${level} ${message}`) })
  await source.load()
  running.stop = source.watch(() => {
    running.changes++
    source.load()
  })
  t.teardown(async () => {
    running.stop()
    await until(() => !filesIn(options.dir).includes('lock'))
  })
  return running
}

/** A certificate was obtained by this one, and its lock is free again. */
const obtains = async ({ log }: Running, dir: string): Promise<boolean> => await until(() => log.some((line) => line.includes(': a certificate was obtained')) && !filesIn(dir).includes('lock'))
const certificateIn = async ({ source }: Pick<Running, 'source'>): Promise<string | undefined> => (await source.load())[0]?.cert
const filesIn = (dir: string): string[] => readdirSync(dir).map((name) => name.replace(/-[\da-f-]+/g, '')).sort()
const modeOf = (path: string): number => statSync(path).mode & 0o777
const progressIn = (dir: string): Record<string, unknown> => JSON.parse(readFileSync(join(dir, readdirSync(dir).find((name) => name.startsWith('order-'))!), 'utf8'))

t.test('options', async (t) => {
  const right = { directoryUrl: 'https://ca.example/directory', domains: ['shop.example'], dir: 'acme', termsOfServiceAgreed: true } as const
  t.doesNotThrow(() => acme({ ...right, email: 'admin@shop.example', keyType: 'rsa', externalAccountBinding: { kid: '1', hmacKey: 'c2VjcmV0' }, ca: '-----BEGIN CERTIFICATE-----' }))
  t.doesNotThrow(() => acme({ ...right, domains: ['SHOP.example', 'xn--bcher-kva.example', '*.shop.example', 'localhost'], dns }))
  for (const [options, message] of [
    [undefined, /^options of acme: undefined is not allowed/],
    [{ ...right, domain: 'x' }, /unknown option 'domain'; known are directoryUrl, domains, .*\. Did you mean 'domains'\?|unknown option 'domain'/],
    [{ ...right, dir: undefined }, /dir: undefined is not allowed; allowed: a string/],
    [{ ...right, dir: '' }, /dir: '' is not allowed/],
    [{ ...right, domains: [] }, /domains: \[\] is not allowed; allowed: at least 1 item/],
    [{ ...right, domains: Array.from({ length: 101 }, (_, index) => `${index}.example`) }, /domains: there are 101; allowed: up to 100/],
    ...['*.shop.example', '127.0.0.1', 'bücher.example', 'shop.example.', '-shop.example', 'shop-.example', 'a..b', '', 'shop.example:443', 'https://shop.example', 'a.*.example', `${'a'.repeat(64)}.example`].map((domain) =>
      [{ ...right, domains: [domain] }, /domains: '.*' is not allowed; allowed: host names in ASCII, such as 'shop\.example'; with the option dns, also wildcards/] as const),
    [{ ...right, domains: ['*.*.example'], dns }, /allowed: host names in ASCII, such as 'shop\.example'$/],
    [{ ...right, directoryUrl: 'http://ca.example' }, /directoryUrl: 'http:\/\/ca\.example' is not allowed; allowed: an https: URL/],
    [{ ...right, termsOfServiceAgreed: false }, /termsOfServiceAgreed: false is not allowed; allowed: true, once you have read the terms/],
    [{ ...right, termsOfServiceAgreed: undefined }, /termsOfServiceAgreed: undefined is not allowed/],
    [{ ...right, email: 'a@b, c@d' }, /email: 'a@b, c@d' is not allowed; allowed: one address/],
    [{ ...right, keyType: 'ed25519' }, /keyType: 'ed25519' is not allowed; allowed: 'ecdsa', 'rsa'/],
    [{ ...right, dns: { add () {} } }, /dns: .*remove is missing/],
    [{ ...right, dns: { add () {}, remove: 'x' } }, /dns: remove: 'x' is not allowed; allowed: a function/],
    [{ ...right, ca: {} }, /ca: allowed are the path of a file, PEM text, or a Buffer/]
  ] as const) t.throws(() => acme(options as never), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message }, String(message))
  for (const hmacKey of ['s3cret key', 42]) {
    t.throws(() => acme({ ...right, externalAccountBinding: { kid: '1', hmacKey } } as never), { message: /^options of acme: externalAccountBinding: hmacKey: (?!.*(?:s3cret|42))/ }, 'a key is not shown')
  }
})

t.test('openssl verifies the requests for certificates, and reads their names', { skip: withoutOpenssl }, async (t) => {
  const keys = { ecdsa: generateKeyPairSync('ec', { namedCurve: 'P-256' }), rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }) }
  for (const [type, { privateKey }] of Object.entries(keys)) {
    const dir = t.testdir({ request: certificateRequest(privateKey, ['shop.example', '*.shop.example']) })
    const text = opensslIn(dir)('req', '-in', 'request', '-inform', 'DER', '-verify', '-noout', '-text')
    t.match(text, /DNS:shop\.example, DNS:\*\.shop\.example/, type)
  }
})

t.test('two names by http-01, from memory, for exactly what the CA asks', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['www.shop.example', 'Shop.example'], dir, email: 'admin@shop.example' })
  const site = http.createServer((request, response) => { if (!running.acme.answer(request, response)) response.writeHead(404).end('an ordinary request') })
  const { port } = await listening(t, site)
  const proofs: string[] = []
  server.validate = async ({ host, token, keyAuthorization }) => {
    const path = `/.well-known/acme-challenge/${token}`
    const get = async (options: object): Promise<unknown> => await ask({ port, path, headers: { host: `${host.toUpperCase()}:80` }, ...options })
    t.match(await get({}), { status: 200, body: keyAuthorization, headers: { 'content-type': 'application/octet-stream', 'content-length': String(keyAuthorization.length), 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' } })
    const others = { HEAD: { method: 'HEAD' }, POST: { method: 'POST' }, 'another host': { headers: { host: 'evil.example' } }, 'the other host': { headers: { host: host === 'shop.example' ? 'www.shop.example' : 'shop.example' } }, 'another token': { path: path.slice(0, -1) }, 'a query': { path: `${path}?` }, 'a path below': { path: `${path}/` }, 'a dot': { path: path.replace('acme-', 'acme-challenge/../acme-') }, 'in capitals': { path: path.replace('well', 'WELL') } }
    for (const [name, options] of Object.entries(others)) t.match(await get(options), { status: 404 }, name)
    t.match(await askRaw(port, `GET ${path} HTTP/1.0\r\n\r\n`), /404/, 'no host')
    proofs.push(host)
    return undefined
  }

  t.strictSame(await running.source.load(), [], 'until the first one is there')
  await until(() => running.log.length > 0)
  t.match(running.log, [/^info acme: shop\.example and 1 more: a certificate is ordered once tls\.listen has opened the HTTP port/])
  await delay(50)
  t.strictSame(server.asked, [], 'the CA could not see anything yet')
  running.acme.listens()
  t.ok(await obtains(running, dir))
  t.strictSame(proofs.sort(), ['shop.example', 'www.shop.example'])
  t.match(running.log[1], /^info acme: shop\.example and 1 more: a certificate was obtained, until /)
  t.match(server.payloads.find((payload) => 'contact' in payload), { contact: ['mailto:admin@shop.example'], termsOfServiceAgreed: true })
  t.ok(await until(() => running.changes > 0))

  t.strictSame(filesIn(dir), ['account.json', 'certificate.pem', 'order.json'])
  t.equal(modeOf(dir), 0o700)
  for (const name of readdirSync(dir)) t.equal(modeOf(join(dir, name)), 0o600, name)
  const [{ cert, key }] = await running.source.load() as [{ cert: string, key: string }]
  t.equal(createPrivateKey(key).asymmetricKeyDetails!.namedCurve, 'prime256v1')
  t.equal(cert.match(/BEGIN/g)!.length, 2, 'with its issuer')

  const before = server.asked.length
  running.stop()
  const again = await start(t, { ...server.options, domains: ['shop.example', 'www.shop.example'], dir })
  t.equal(await certificateIn(again), cert, 'and after a restart it is there')
  again.acme.listens()
  await until(async () => server.countOf('directory') > 1)
  await delay(50)
  t.strictSame(server.asked.slice(before), ['directory'], 'without an order: the CA is asked whether it has renewal information')
})

t.test('the key is RSA where one asks for it', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, keyType: 'rsa', dns })
  t.ok(await obtains(running, dir))
  t.match(createPrivateKey((await running.source.load())[0]!.key), { asymmetricKeyType: 'rsa', asymmetricKeyDetails: { modulusLength: 2048 } })
})

t.test('a wildcard by dns-01, with two functions of the app', async (t) => {
  const server = await startAcmeServer(t)
  const records: string[] = []
  const proved: string[] = []
  const digests = new Set<string>()
  server.validate = async ({ host, keyAuthorization }) => {
    digests.add(`_acme-challenge.${host} ${createHash('sha256').update(keyAuthorization).digest('base64url')}`)
    proved.push(...records)
    return undefined
  }
  const zone = {
    records,
    async add (name: string, value: string) { this.records.push(`${name} ${value}`) },
    async remove (name: string, value: string) {
      this.records.splice(this.records.indexOf(`${name} ${value}`), 1)
      throw new Error('the zone is locked')
    }
  }
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['*.shop.example', 'shop.example'], dir, dns: zone })
  t.ok(await obtains(running, dir))
  t.strictSame([...new Set(proved)].sort(), [...digests].sort(), 'both at once, under one name')
  t.equal(digests.size, 2)
  t.strictSame(records, [])
  t.match(running.log, [/^warn acme: \*\.shop\.example and 1 more: the TXT record _acme-challenge\.shop\.example may be there still: dns\.remove: the zone is locked/, /^warn/, /^info/])
})

t.test('a function of the app that fails is an attempt that has failed, and the record is removed all the same', async (t) => {
  const server = await startAcmeServer(t)
  let removed = 0
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns: { add: async () => { throw new Error('no permission') }, remove: async () => { removed++ } } })
  t.ok(await until(() => running.log.length > 0))
  t.match(running.log, [/^error acme: shop\.example: no certificate was obtained: dns\.add: no permission; it is tried again at /])
  t.equal(removed, 1)
  t.equal(server.countOf('challenge'), 0, 'the CA was not asked in vain')
  running.look(10_000)
  t.ok(await until(() => running.log.length > 1))
  t.equal(server.countOf('new-order'), 1, 'and the order is the same')
})

t.test('what a CA refuses is not asked for again before it allows that, in no process and not after a restart', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  server.intercept = (what) => what === 'new-order' ? problem('rateLimited', 429, 'too many certificates', { 'retry-after': '7200' }) : undefined
  const running = await start(t, options)
  t.ok(await until(() => running.log.length > 0))
  t.match(running.log, [/^error acme: shop\.example: no certificate was obtained: rateLimited: too many certificates; it is tried again at /])
  t.match(progressIn(dir), { failures: 1, reason: 'rateLimited: too many certificates' })
  running.look(HOUR)
  running.stop()
  const again = await start(t, options)
  again.look()
  await delay(100)
  t.equal(server.countOf('new-order'), 1)

  server.intercept = (what) => what === 'new-order' ? problem('rateLimited', 429, 'a date', { 'retry-after': new Date(Date.now() + 3 * HOUR).toUTCString() }) : undefined
  again.look(HOUR + MINUTE)
  t.ok(await until(() => server.countOf('new-order') === 2))
  t.ok(await until(() => progressIn(dir).failures === 2))
  t.ok(Math.abs(Number(progressIn(dir).notBefore) - Date.now() - 3 * HOUR) < 10_000)

  server.intercept = (what) => what === 'new-order' ? problem('rateLimited', 429, 'for ever', { 'retry-after': '999999999' }) : undefined
  again.look(4 * HOUR)
  t.ok(await until(() => progressIn(dir).failures === 3))
  t.ok(Number(progressIn(dir).notBefore) <= Date.now() + 7 * DAY, 'but a week at most')
  server.intercept = () => undefined
  again.look(7 * DAY + MINUTE)
  t.ok(await obtains(again, dir))
  t.strictSame(Object.entries(progressIn(dir)).filter(([, value]) => value !== 0).map(([name]) => name), ['notBefore'])
})

t.test('a clock that was wrong when something failed, and is set back, holds nothing up', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  server.intercept = (what) => what === 'new-order' ? problem('rejectedIdentifier', 400, 'policy') : undefined
  ahead = 1000 * DAY
  const running = await start(t, options)
  t.ok(await until(() => running.log.length > 0))
  server.intercept = () => undefined
  running.look(-1000 * DAY)
  t.ok(await obtains(running, dir))
})

t.test('a host that the CA cannot validate is named, without the token; the next order comes a minute later', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const secrets: string[] = []
  server.validate = async ({ host, token, keyAuthorization }) => {
    secrets.push(token, keyAuthorization)
    return host === 'shop.example' ? undefined : `Invalid response from http://${host}/.well-known/acme-challenge/${token}: "${keyAuthorization}"\n\u202e404`
  }
  const running = await start(t, { ...server.options, domains: ['a.example', 'shop.example', 'b.example'], dir, dns })
  t.ok(await until(() => running.log.length > 0))
  t.match(running.log, [/^error acme: a\.example and 2 more: no certificate was obtained: a\.example: unauthorized: Invalid response from http:\/\/a\.example\/\.well-known\/acme-challenge\/…: "…"\\u\{a\}\\u\{202e\}404; it is tried again at /])
  t.equal(secrets.filter((secret) => running.log.join().includes(secret) || JSON.stringify(progressIn(dir)).includes(secret)).length, 0)
  t.equal(secrets.length, 6, 'all of them are asked, in any case')
  running.look(20_000)
  await delay(50)
  t.equal(server.countOf('new-order'), 1)
  server.validate = async () => undefined
  running.look(MINUTE)
  t.ok(await obtains(running, dir))
  t.equal(server.countOf('new-order'), 2)
})

t.test('a server that is down, answers nonsense or has an error of its own is asked again soon, for the same order', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const certificate = make({ subject: 'CN=x' }).pem
  const nonsense: Array<readonly [string, Awaited<ReturnType<AcmeServer['intercept']>>, RegExp]> = [
    ['directory', { status: 503, body: 'maintenance' }, /unknown: status 503/],
    ['directory', { body: 'no JSON' }, /localhost:\d+: its answer is no JSON/],
    ['directory', { body: { newNonce: 'ftp://localhost' } }, /names no URL for newNonce/],
    ['directory', { body: 'x'.repeat(1024 * 1024 + 1) }, /its answer has more than 1048576 bytes/],
    ['nonce', { status: 500 }, /status 500/],
    ['nonce', { headers: { 'replay-nonce': '' } }, /gives no nonce/],
    ['account', { body: {} }, /names no URL for location/],
    ['new-order', { body: {} }, /names no URL for location/],
    ['new-order', { body: {}, headers: { location: server.options.directoryUrl } }, /its order has no authorizations/],
    ['authorization', { body: 'no JSON' }, /its answer is no JSON/],
    ['challenge', { status: 502 }, /status 502/],
    ['order', { status: 500, body: { detail: 'oh', subproblems: [{ detail: 'no' }, 42] } }, /unknown: oh; no/],
    ['finalize', { status: 500 }, /status 500/],
    ['certificate', { status: 500 }, /status 500/]
  ]
  const broken = await start(t, { ...server.options, domains: ['shop.example'], dir, dns })
  for (const [what, reply, message] of nonsense) {
    server.intercept = (asked) => asked === what ? reply : undefined
    const lines = broken.log.length
    broken.look(2 * HOUR)
    t.ok(await until(() => broken.log.length > lines), what)
    t.match(broken.log.at(-1), message)
  }
  t.equal(await certificateIn(broken), undefined)
  t.equal(server.countOf('new-order'), 3, 'of which two were none')

  server.intercept = (what) => what === 'certificate' ? { body: certificate } : undefined
  broken.look(2 * HOUR)
  t.ok(await until(() => /the certificate is for another key/.test(broken.log.at(-1)!)))
  server.intercept = () => undefined
  broken.look(2 * HOUR)
  t.ok(await obtains(broken, dir))
  t.equal(server.countOf('new-order'), 4, 'what it had given for that order was of no use')
})

t.test('what takes a CA its time is waited for, as long as it says', async (t) => {
  const server = await startAcmeServer(t)
  const pending = (retryAfter: string) => ({ body: { status: 'pending', identifier: { type: 'dns', value: 'shop.example' }, challenges: [] }, headers: { 'retry-after': retryAfter } })
  const replies = [undefined, pending('1'), pending('soon'), undefined]
  server.intercept = (what) => what === 'authorization' ? replies.shift() : undefined
  const dir = join(t.testdir(), 'acme')
  const began = performance.now()
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns })
  t.ok(await obtains(running, dir))
  t.ok(performance.now() - began >= 1_000)
  t.equal(server.countOf('authorization'), 4)

  replies.push(undefined, pending('3600'))
  const other = await start(t, { ...server.options, domains: ['other.example'], dir, dns })
  t.ok(await until(() => other.log.length > 0))
  t.match(other.log, [/^error acme: other\.example: no certificate was obtained: localhost:\d+ is not ready after 10 minutes/])

  replies.push(undefined, pending('60'))
  const stopped = await start(t, { ...server.options, domains: ['stopped.example'], dir, dns })
  t.ok(await until(() => replies.length === 0))
  stopped.stop()
  t.ok(await until(() => !filesIn(dir).includes('lock')), 'that it waits keeps nobody waiting')

  const { timeout } = AbortSignal
  t.teardown(() => { AbortSignal.timeout = timeout })
  AbortSignal.timeout = () => timeout(100)
  server.intercept = async () => await delay(60_000, undefined, { ref: false })
  const late = await start(t, { ...server.options, domains: ['late.example'], dir, dns })
  t.ok(await until(() => late.log.length > 0))
  t.match(late.log, [/localhost:\d+: it took more than 30 s/])
  AbortSignal.timeout = timeout
  const down = await start(t, { ...server.options, directoryUrl: `https://localhost:${await freePort()}`, domains: ['shop.example'], dir, dns })
  t.ok(await until(() => down.log.length > 0))
  t.match(down.log, [/localhost:\d+: ECONNREFUSED/])
  const untrusted = await start(t, { ...server.options, ca: undefined, directoryUrl: `${server.options.directoryUrl}?`, domains: ['shop.example'], dir, dns })
  t.ok(await until(() => untrusted.log.length > 0))
  t.match(untrusted.log, [/localhost:\d+: (?:UNABLE_TO|SELF_SIGNED)/], 'its own certificate is verified')
})

t.test('what a CA may say of an order and its certificate', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['b.example', 'a.example'], dir, dns })
  const error = { type: 'urn:ietf:params:acme:error:caa', detail: 'another CA has to issue for it' }
  const invalid = (error?: object) => ({ body: { status: 'invalid', authorizations: [], finalize: server.options.directoryUrl, error } })
  const given = (challenges: object[], status = 'pending') => ({ body: { status, identifier: { type: 'dns', value: 'A.example' }, challenges } })
  const challenge = (token: string, status = 'pending') => ({ type: 'dns-01', url: `${server.options.directoryUrl}`, token, status })
  const cases: Array<readonly [string, Array<ReturnType<typeof invalid> | ReturnType<typeof given> | undefined>, RegExp]> = [
    ['order', [undefined, invalid(error)], /: caa: another CA has to issue for it;/],
    ['order', [undefined, invalid()], /: unknown: the order has become invalid;/],
    ['authorization', [{ body: { status: 'pending', identifier: { type: 'dns', value: 'bank.example' }, challenges: [challenge('token')] } }], /: bank\.example: unknown: the CA asks for a name that was not ordered;/],
    ['authorization', [given([{ type: 'http-01' }, 'odd' as never])], /: a\.example: unknown: the CA offers no challenge dns-01;/],
    ['authorization', [given([challenge('../../x')])], /: a\.example: unknown: the CA offers no challenge dns-01;/],
    ['authorization', [given([challenge('x'.repeat(129))])], /: a\.example: unknown: the CA offers no challenge dns-01;/],
    ['authorization', [given([challenge('token', 'processing')]), given([challenge('token', 'processing')]), given([], 'deactivated'), given([], 'deactivated')], /: a\.example: unknown: the authorization is deactivated;/],
    ['authorization', [given([challenge('token', 'processing')]), given([challenge('token', 'processing')]), given([challenge('token')], 'revoked'), given([challenge('token')], 'revoked')], /: a\.example: unknown: the authorization is revoked;/],
    ['authorization', [given([{ type: 'dns-01', token: 'token', status: 'pending' }])], /: the ACME server: ERR_INVALID_URL;/]
  ]
  for (const [what, replies, message] of cases) {
    server.intercept = (asked) => asked === what ? replies.shift() as never : undefined
    const lines = running.log.length
    running.look(2 * HOUR)
    t.ok(await until(() => running.log.length > lines), String(message))
    t.match(running.log.at(-1), message)
  }

  server.intercept = () => undefined
  server.isTrusting = true
  server.names = () => ['a.example']
  running.look(2 * HOUR)
  t.ok(await until(() => running.log.at(-1)!.includes('the certificate is not for b.example')))
  server.names = (hosts) => [...hosts, 'www.a.example']
  running.look(2 * HOUR)
  t.ok(await obtains(running, dir))
  t.equal(server.countOf('new-order'), 10, 'each was another order')
  t.equal(server.countOf('challenge'), 6, 'and the last one had nothing to prove')

  // An order that has become invalid while nobody looked; and a limit in the middle of one, which stays.
  server.isTrusting = false
  server.intercept = (what) => what === 'finalize' ? problem('rateLimited', 429, 'later') : undefined
  const other = await start(t, { ...server.options, domains: ['c.example'], dir, dns })
  t.ok(await until(() => other.log.length > 0))
  server.intercept = (what) => what === 'order' ? problem('rateLimited', 429, 'still later') : undefined
  other.look(2 * HOUR)
  t.ok(await until(() => other.log.length > 1))
  t.match(other.log, [/rateLimited: later/, /rateLimited: still later/])
  t.equal(server.countOf('new-order'), 11)
  let isAsked = false
  server.intercept = (what) => {
    if (what !== 'order' || isAsked) return undefined
    isAsked = true
    return invalid()
  }
  other.look(2 * HOUR)
  t.ok(await obtains(other, dir))
  t.equal(server.countOf('new-order'), 12)
})

t.test('a bad nonce is asked for anew, at once', async (t) => {
  const server = await startAcmeServer(t)
  let asked = 0
  server.intercept = (what) => what !== 'nonce' && what !== 'directory' && asked++ % 3 !== 0 ? problem('badNonce', 400) : undefined
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns })
  t.ok(await obtains(running, dir))
  server.intercept = (what) => what !== 'directory' && what !== 'nonce' ? problem('badNonce', 400, 'for ever') : undefined
  const never = await start(t, { ...server.options, domains: ['other.example'], dir, dns })
  t.ok(await until(() => never.log.length > 0))
  t.match(never.log, [/badNonce: for ever/])
})

t.test('an external account', async (t) => {
  const server = await startAcmeServer(t)
  const hmacKey = 'a'.repeat(43)
  server.bindings.set('kid-1', Buffer.from(hmacKey, 'base64url'))
  const without = await start(t, { ...server.options, domains: ['shop.example'], dir: join(t.testdir(), 'without'), dns })
  t.ok(await until(() => without.log.length > 0))
  t.match(without.log, [/^error acme: shop\.example: no certificate was obtained: externalAccountRequired: status 403/])
  t.equal(server.countOf('new-order'), 0)
  const dir = join(t.testdirName, 'acme')
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns, externalAccountBinding: { kid: 'kid-1', hmacKey } })
  t.ok(await obtains(running, dir))
})

t.test('a CA that wants its terms to be agreed to once more is named, and nothing is ordered; a key is in no line', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const hmacKey = 'b'.repeat(43)
  server.intercept = (what) => what === 'account' ? problem('userActionRequired', 403, 'the terms have changed', { 'retry-after': '7200' }) : undefined
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns, externalAccountBinding: { kid: 'kid-1', hmacKey } })
  t.ok(await until(() => running.log.length > 0))
  t.match(running.log, [/^error acme: shop\.example: no certificate was obtained: userActionRequired: the terms have changed; it is tried again at /])
  t.match(server.payloads.find((payload) => 'externalAccountBinding' in payload), { termsOfServiceAgreed: true })
  t.equal(server.countOf('new-order'), 0)
  t.ok(Number(progressIn(dir).notBefore) > Date.now() + HOUR, 'not before Retry-After')
  const account = readFileSync(join(dir, readdirSync(dir).find((name) => name.startsWith('account-'))!), 'utf8')
  const secrets = [hmacKey, ...(JSON.parse(account) as { key: string }).key.split('\n').filter((line) => line.length > 20)]
  t.ok(secrets.length > 2)
  t.notOk(secrets.some((secret) => running.log.join().includes(secret) || JSON.stringify([progressIn(dir), running.acme.awaited]).includes(secret)))
})

t.test('a server that has forgotten account and order is given both anew, the account with the same key', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  server.intercept = (what) => what === 'finalize' ? { status: 500 } : undefined
  const running = await start(t, options)
  t.ok(await until(() => running.log.length > 0))
  const account = (): Record<string, string> => JSON.parse(readFileSync(join(dir, readdirSync(dir).find((name) => name.startsWith('account-'))!), 'utf8'))
  const before = account()
  server.forget()
  server.intercept = () => undefined
  running.look(MINUTE)
  t.ok(await obtains(running, dir))
  t.equal(account().key, before.key)
  t.not(account().url, before.url)
  t.equal(server.countOf('account'), 2)
  t.equal(server.countOf('new-order'), 2)
})

t.test('renewal when the CA says so, which is told what is replaced', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  const window = (from: number, to: number) => ({ suggestedWindow: { start: new Date(now() + from).toISOString(), end: new Date(now() + to).toISOString() } })
  server.renewalInfo = window(50 * DAY, 51 * DAY)
  const running = await start(t, options)
  t.ok(await obtains(running, dir))
  const first = await certificateIn(running)
  t.ok(await until(() => server.countOf('renewal-info') === 1))

  // Within the first day it is not asked again, and nothing is due.
  running.look(5 * HOUR)
  await delay(50)
  t.equal(server.countOf('renewal-info'), 1)
  server.renewalInfo = window(-1 * HOUR, 20 * HOUR)
  running.look(7 * HOUR)
  t.ok(await until(() => server.countOf('renewal-info') >= 2))
  running.look(9 * HOUR)
  t.ok(await until(async () => await certificateIn(running) !== first), 'within the window')
  const { replaces } = server.payloads.findLast((payload) => 'identifiers' in payload)!
  t.match(replaces, /^[\w-]{27}\.[\w-]+$/)
  t.equal(server.countOf('new-order'), 2)
  t.ok(await obtains(running, dir))

  // A CA that says of each new certificate that it is to be renewed gets an order an hour at most.
  t.ok(await until(() => server.countOf('renewal-info') >= 3))
  running.look(10 * MINUTE)
  await delay(50)
  t.equal(server.countOf('new-order'), 2)
  server.intercept = (what, payload) => what === 'new-order' && 'replaces' in payload ? problem('alreadyReplaced', 409) : undefined
  const second = await certificateIn(running)
  running.look(HOUR)
  t.ok(await until(async () => await certificateIn(running) !== second), 'and one that does not want to know what is replaced is not told')
  t.ok(await until(() => !filesIn(dir).includes('lock')))

  // What it does not answer changes nothing.
  server.intercept = (what) => what === 'renewal-info' ? { body: { suggestedWindow: { start: 'x' } } } : undefined
  running.look(7 * HOUR)
  const asked = server.countOf('renewal-info')
  await delay(50)
  running.look(HOUR)
  t.ok(await until(() => server.countOf('renewal-info') > asked))
  // For the answer to have come.
  await delay(100)
  t.notOk(running.log.some((line) => line.startsWith('error')))
})

t.test('renewal after two thirds of the lifetime where the CA says nothing', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const running = await start(t, { ...server.options, domains: ['shop.example'], dir, dns })
  t.ok(await obtains(running, dir))
  const first = await certificateIn(running)
  running.look(55 * DAY)
  await delay(50)
  t.equal(server.countOf('new-order'), 1)
  const asked = server.countOf('directory')
  server.intercept = (what) => what === 'new-order' ? { status: 503 } : undefined
  running.look(6 * DAY)
  t.ok(await until(() => running.log.some((line) => line.startsWith('warn'))), 'no error while there is one')
  t.ok(server.countOf('directory') > asked)
  server.intercept = () => undefined
  running.look(MINUTE)
  t.ok(await until(async () => await certificateIn(running) !== first))

  // All is over: nothing is served that has ended, and the next one is ordered at once.
  running.stop()
  ahead += 200 * DAY
  const late = await start(t, { ...server.options, domains: ['shop.example'], dir, dns })
  t.equal(await certificateIn(late), undefined)
  t.ok(await obtains(late, dir))
  t.ok(await certificateIn(late))
})

t.test('times of renewal', async (t) => {
  const leaf = make({ validity: [time(0), time(90 * DAY)] }).certificate
  t.equal(plannedRenewal(leaf, undefined, 0), 60 * DAY)
  t.equal(Math.round(plannedRenewal(leaf, undefined, 1) / DAY * 2), 111, 'or a little earlier')
  t.equal(plannedRenewal(leaf, { start: 10 * DAY, end: 20 * DAY }, 0.5), 15 * DAY)
  t.equal(plannedRenewal(leaf, { start: 100 * DAY, end: 200 * DAY }, 0.5), 81 * DAY, 'never too late')
  const info = { start: 0, end: 1 }
  for (const [askAgain, next] of [[undefined, 6 * HOUR], [0, MINUTE], [HOUR, HOUR], [9 * DAY, DAY]] as const) t.equal(nextQuestion({ ...info, askAgain }, 0), next)
  t.equal(nextQuestion(undefined, 0), DAY)
  t.strictSame([1, 2, 3, 99].map((failures) => pauseAfter(failures, 'unreachable', 0)), [5_000, 10_000, 20_000, HOUR])
  t.strictSame([1, 2, 99].map((failures) => pauseAfter(failures, 'refused', 1)), [30_000, MINUTE, HOUR / 2])
  // The example of RFC 9773 §4.1
  const keyId = Buffer.from('69885b6b87464041e1b37b847ba0ae2cde01c8d4', 'hex')
  const identified = make({ serial: Buffer.from('0087654321', 'hex'), extensions: { authorityKey: extension('2.5.29.35', seq(der(0x80, keyId))) } })
  t.equal(certificateId(identified.certificate), 'aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE')
  t.equal(certificateId(make({ extensions: { authorityKey: undefined } }).certificate), undefined)
})

t.test('several processes over one directory: one orders, all serve what it obtains, and all answer the CA', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir }
  const all = await Promise.all([1, 2, 3].map(async () => await start(t, options)))
  const sites = await Promise.all(all.map(async ({ acme }) => await listening(t, http.createServer((request, response) => { if (!acme.answer(request, response)) response.writeHead(404).end() }))))
  const answers: unknown[] = []
  server.validate = async ({ host, token, keyAuthorization }) => {
    for (const { port } of sites) answers.push((await ask({ port, path: `/.well-known/acme-challenge/${token}`, headers: { host } })).body === keyAuthorization)
    return undefined
  }
  for (const { acme } of all) acme.listens()
  t.ok(await until(() => all.some(({ log }) => log.some((line) => line.includes(': a certificate was')))))
  const at = performance.now()
  t.ok(await until(() => all.every(({ changes }) => changes > 0)))
  t.ok(performance.now() - at < 1_000, `within a second: ${performance.now() - at} ms`)
  t.strictSame(answers, [true, true, true])
  t.equal(new Set(await Promise.all(all.map(certificateIn))).size, 1)
  t.ok(await until(() => !filesIn(dir).includes('lock')))
  t.equal(server.countOf('new-order'), 1)
  t.equal(server.countOf('account'), 1)

  // The order has ended: nobody answers any more.
  const { token } = { token: 'x' }
  for (const { port } of sites) t.match(await ask({ port, path: `/.well-known/acme-challenge/${token}`, headers: { host: 'shop.example' } }), { status: 404 })
  t.strictSame(filesIn(dir), ['account.json', 'certificate.pem', 'order.json'])
})

t.test('an order that was stopped anywhere goes on where it was', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  for (const step of ['authorization', 'challenge', 'finalize', 'certificate']) {
    let isAsked = false
    server.intercept = async (what) => {
      if (what === step) {
        isAsked = true
        await delay(60_000, undefined, { ref: false })
      }
      return undefined
    }
    const running = await start(t, options)
    t.ok(await until(() => isAsked), step)
    running.stop()
    t.ok(await until(() => !filesIn(dir).includes('lock')))
    t.strictSame(running.log, [], 'that it was stopped is no failure')
  }
  server.intercept = () => undefined
  t.ok(await obtains(await start(t, options), dir))
  t.equal(server.countOf('new-order'), 1)
})

t.test('what was written down is not ordered again by a process that ended before it could say so', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir, dns }
  server.intercept = (what) => what === 'certificate' ? { status: 500 } : undefined
  const running = await start(t, options)
  t.ok(await until(() => running.log.length > 0))
  const order = readdirSync(dir).find((name) => name.startsWith('order-'))!
  const before = readFileSync(join(dir, order))
  server.intercept = () => undefined
  running.look(MINUTE)
  t.ok(await obtains(running, dir))
  running.stop()
  writeFileSync(join(dir, order), before)
  const first = await certificateIn(running)
  const again = await start(t, options)
  again.look(61 * DAY)
  t.ok(await until(async () => await certificateIn(again) !== first), 'when it is renewed, by another order')
  t.equal(server.countOf('new-order'), 2)
})

t.test('until there is one for all names, one for some of them is served', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options = (...domains: string[]): AcmeOptions => ({ ...server.options, domains, dir, dns })
  const first = await start(t, options('shop.example'))
  t.ok(await obtains(first, dir))
  const second = await start(t, options('shop.example', 'www.shop.example'))
  t.ok(await obtains(second, dir))
  const other = await start(t, options('other.example'))
  t.ok(await obtains(other, dir))
  server.validate = async () => 'no such name'
  const third = await start(t, options('shop.example', 'www.shop.example', 'new.shop.example'))
  t.equal(await certificateIn(third), await certificateIn(second))
  t.ok(await until(() => third.log.length > 0))
  t.equal(await certificateIn(third), await certificateIn(second), 'also when that fails')
  t.equal(await certificateIn(await start(t, options('new.example'))), undefined)
  const ofSameName = [await certificateIn(first), await certificateIn(second)]
  t.ok(ofSameName.includes(await certificateIn(await start(t, { ...options('shop.example'), keyType: 'rsa' }))), 'of the same names, whatever its key')
  t.equal(await certificateIn(await start(t, { ...options('shop.example'), directoryUrl: `${server.options.directoryUrl}?staging` })), undefined, 'but none of another CA')
})

t.test('the directory has to be this app\'s alone, and what lies there has to be what was written', async (t) => {
  const server = await startAcmeServer(t)
  const open = join(t.testdir(), 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  symlinkSync(open, join(t.testdirName, 'link'))
  writeFileSync(join(t.testdirName, 'file'), '')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir: open, dns }
  for (const [name, reason] of [['link', /is a symbolic link/], ['file', /is not a directory/], ['open', /others could write to it/]] as const) {
    const source = acme({ ...options, dir: join(t.testdirName, name) })
    const stop = source.watch(() => {})
    await t.rejects(source.load(), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: reason }, name)
    stop()
  }
  t.equal(server.asked.length, 0)

  const dir = join(t.testdirName, 'acme')
  const running = await start(t, { ...options, dir })
  t.ok(await obtains(running, dir))
  running.stop()
  const replace = (prefix: string, text: string | Buffer): void => { writeFileSync(join(dir, readdirSync(dir).find((name) => name.startsWith(prefix))!), text) }
  const kept = new Map(readdirSync(dir).map((name) => [name.split('-')[0]!, readFileSync(join(dir, name))]))
  const { key, cert } = (await running.source.load())[0]!
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' })
  for (const [text, reason] of [['nonsense', /certificate-\S+\.pem cannot be used: .*holds no certificate/], [cert, /is for another key/], [`${other}${cert}`, /is for another key/], [key, /holds no certificate/], [cert.replace(/.{8}\n-----END/, '\n-----END'), /does not parse/], ['x'.repeat(1024 * 1024 + 1), /more than 1048576 bytes/]] as const) {
    replace('certificate', text)
    await t.rejects(running.source.load(), { message: reason })
  }
  const undated = make({ issuerName: Buffer.of(0x30, 0x81, 0) }) // a length longer than it need be, which OpenSSL reads
  replace('certificate', `${undated.keys.privateKey.export({ type: 'pkcs8', format: 'pem' })}${undated.pem}`)
  await t.rejects(running.source.load(), { message: /the dates of the certificate cannot be read/ })
  replace('certificate', kept.get('certificate')!)
  const { getuid } = process
  process.getuid = () => 12_345
  await t.rejects(running.source.load(), { message: /certificate-\S+\.pem cannot be used: it belongs to another user/ })
  process.getuid = getuid
  replace('order', '{ "key": "-----BEGIN')
  t.match(await running.source.load().catch((error: Error) => [error.message, error.cause]), [/order-\S+\.json cannot be used: it is no JSON/, undefined], 'a part of the text is not shown')
  replace('order', kept.get('order')!)

  // An account that cannot be read is not replaced: CAs limit how many there are.
  replace('account', '{}')
  const again = await start(t, { ...options, dir })
  again.look(61 * DAY)
  t.ok(await until(() => again.log.length > 0))
  t.match(again.log, [/^warn acme: shop\.example: no certificate was obtained: .*account-\S+\.json cannot be used/])

  // What is wrong while it runs is said, and passes.
  replace('account', kept.get('account')!)
  const watching = await start(t, { ...options, dir })
  replace('certificate', 'nonsense')
  t.ok(await until(() => watching.log.length > 0))
  t.match(watching.log, [/certificate-\S+\.pem cannot be used/])
})

t.test('a source is watched by several at a time, until the last one ends it', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const source = acme({ ...server.options, domains: ['shop.example'], dir, dns })
  const warnings: Error[] = []
  const note = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', note)
  t.teardown(() => process.off('warning', note))
  server.intercept = (what) => what === 'new-order' ? problem('rejectedIdentifier', 400, 'policy') : undefined
  const told = [0, 0]
  const stops = told.map((_, index) => source.watch(() => { told[index]!++ }))
  stops[0]!()
  stops[0]!()
  t.ok(await until(() => warnings.length > 0), 'what nobody has asked to log is a warning of the process')
  t.match(warnings, [{ message: /^acme: shop\.example: no certificate was obtained: rejectedIdentifier: policy/, code: 'FST_HTTP_SECURITY' }])
  server.intercept = () => undefined
  ahead += 5 * MINUTE
  acmeInterfaceOf(source)!.listens()
  t.ok(await until(() => told[1]! > 0))
  t.equal(told[0], 0)
  stops[1]!()
  source.watch(() => {})()
  const asked = server.asked.length
  ahead += 100 * DAY
  acmeInterfaceOf(source)!.listens()
  await delay(50)
  t.equal(server.asked.length, asked)
  t.teardown(source.watch(() => { told[0]!++ }))
  t.ok(await until(() => server.countOf('new-order') === 3 && !filesIn(dir).includes('lock')), 'and watched again')
})

t.test('until the first certificate is there, an app is served what needs no HTTPS, and nothing else', async (t) => {
  const server = await startAcmeServer(t)
  const clients = await authority('Clients')
  const dir = join(t.testdir(), 'acme')
  let isAllowed = false
  server.intercept = async (what) => {
    if (what === 'new-order') await until(() => isAllowed)
    return undefined
  }
  const log: LogLine[] = []
  const tls = await enableTls({ certificates: acme({ ...server.options, domains: ['shop.example'], dir }), clientCertificates: { 'shop.example': { ca: clients.cert } } })
  t.teardown(() => tls.close())
  const app = Fastify({ logger: keepLog(log), forceCloseConnections: true, https: tls.https }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, policy: { environment: { forceHttpsForScreens: true } } })
  app.get('/screen', { httpSecurity: { level: 'none', kind: 'screen' } }, async () => 'the page')
  app.get('/tls', { httpSecurity: 'tls' }, async () => 'the page')
  app.get('/soap', { httpSecurity: { level: 'tls', kind: 'soap' } }, async () => 'the page')
  app.get('/mtls', { httpSecurity: 'mtls' }, async () => 'the page')
  app.get('/health', { httpSecurity: { level: 'none', kind: 'rest' } }, async () => 'health')
  app.get('/.well-known/acme-challenge/:token', { httpSecurity: 'tls' }, async () => 'the page')
  const ports = await tls.listen(app, { http: 0, https: 0 })
  const get = async (path: string, headers = {}): Promise<Answer> => await ask({ port: ports.http!.port, path, headers: { host: 'shop.example', accept: 'text/html', ...headers } })

  for (const path of ['/screen', '/tls', '/mtls', '/soap', '/.well-known/acme-challenge/token']) {
    const { status, headers, body } = await get(path)
    t.match([status, headers['retry-after'], body], [503, '30', /CERTIFICATE_PENDING|has no certificate yet/], path)
    t.notMatch(body, 'the page')
  }
  t.match(await get('/health'), { status: 200, body: 'health' })
  const proxied = Fastify({ forceCloseConnections: true, https: tls.https }) as unknown as FastifyInstance
  t.teardown(() => proxied.close())
  await proxied.register(httpSecurity, { tls, proxy: { trust: 'loopback' } })
  proxied.get('/tls', { httpSecurity: { level: 'tls', kind: 'rest' } }, async () => 'the page')
  const { port } = (await tls.listen(proxied, { http: 0, https: 0 })).http!
  t.match((await ask({ port, path: '/tls', headers: { 'x-forwarded-proto': 'http' } })).body, /TLS_REQUIRED/, 'a proxy has its own certificate')
  t.equal((await ask({ port, path: '/tls', headers: { 'x-forwarded-proto': 'https' } })).body, 'the page')

  const waiting = { names: ['shop.example'], subject: '', issuer: '', validFrom: null, validUntil: null, fingerprint256: '', source: server.options.directoryUrl }
  t.strictSame(tls.certificates(), [{ ...waiting, pending: 'it is being ordered' }])
  t.ok(Object.isFrozen(tls.certificates()[0]) && Object.isFrozen(tls.certificates()[0]!.names))
  t.match(app.httpSecurity.violations(), [{ code: 'FST_HTTP_SECURITY_CERTIFICATE_PENDING' }])
  for (const servername of ['shop.example', 'other.example', '']) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) await t.rejects(handshake(ports.https.port, { servername, maxVersion, rejectUnauthorized: false }), `${servername} ${maxVersion}`)
  }
  t.ok(log.some(({ msg, level }) => level === 40 && msg.startsWith('http-security: there is no certificate yet: handshakes are refused') && msg.endsWith(`; waited for: shop.example, from ${server.options.directoryUrl}`)))
  await t.resolves(tls.reload(), 'nothing is wrong')

  // What the CA asks is answered before the app sees it.
  server.validate = async ({ host, token, keyAuthorization }) => {
    t.match(await get(`/.well-known/acme-challenge/${token}`, { host }), { status: 200, body: keyAuthorization })
    return undefined
  }
  isAllowed = true
  t.ok(await until(() => tls.certificates()[0]!.pending === undefined))
  t.ok(log.some(({ msg }) => msg.startsWith('http-security: acme: shop.example: a certificate was obtained')))
  t.match(await get('/screen'), { status: 308, headers: { location: 'https://shop.example/screen' } })
  t.match(await get('/.well-known/acme-challenge/token'), { status: 308 }, 'a path of the app as any other')
  t.equal((await handshake(ports.https.port, { servername: 'shop.example', rejectUnauthorized: false })).fingerprint, new X509Certificate((await acme({ ...server.options, domains: ['shop.example'], dir }).load())[0]!.cert).fingerprint256)
  t.match((await ask({ port: ports.https.port, path: '/mtls', tls: { servername: 'shop.example', rejectUnauthorized: false }, headers: { host: 'shop.example' } })).body, /CERTIFICATE_REQUIRED/)

  // What has ended stays in force, for want of another one.
  const [inForce] = tls.certificates()
  await until(() => !filesIn(dir).includes('lock'))
  rmSync(join(dir, readdirSync(dir).find((name) => name.endsWith('.pem'))!))
  await t.resolves(tls.reload())
  t.strictSame(tls.certificates(), [inForce])
})

t.test('what is waited for is told with the reason, until it is there', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir }
  const pendingOf = (tls: Awaited<ReturnType<typeof enableTls>>): unknown[] => tls.certificates().map(({ names, source, pending }) => [names, source, pending])
  const waiting = async (options: AcmeOptions) => {
    const source = acme(options)
    const tls = await enableTls({ certificates: source })
    t.teardown(async () => {
      tls.close()
      await until(() => !filesIn(dir).includes('lock'))
    })
    return { tls, look: (later: number) => { ahead += later; acmeInterfaceOf(source)!.listens() } }
  }
  const first = await waiting({ ...options, directoryUrl: `${server.options.directoryUrl}?key=s3cret` })
  t.strictSame(pendingOf(first.tls), [[['shop.example'], server.options.directoryUrl, 'the HTTP port is not open yet']], 'without what the URL has for the CA alone')
  first.tls.close()

  server.intercept = (what) => what === 'new-order' ? { status: 503 } : undefined
  const { tls, look } = await waiting({ ...options, dns })
  const says = async (pattern: RegExp): Promise<boolean> => await until(() => pattern.test(tls.certificates()[0]!.pending ?? ''))
  t.ok(await says(/^unknown: status 503; it is tried again at .* GMT$/))
  ahead += MINUTE
  t.ok(await says(/^unknown: status 503; it is tried again now$/))
  server.intercept = (what) => what === 'new-order' ? problem('rejectedIdentifier', 400, 'not this one') : undefined
  look(MINUTE)
  t.ok(await says(/^rejectedIdentifier: not this one; it is tried again at .* GMT$/))
  const again = await waiting({ ...options, dns })
  t.match(pendingOf(again.tls), [[['shop.example'], server.options.directoryUrl, /^rejectedIdentifier: not this one/]], 'also after a restart')
  again.tls.close()
  server.intercept = () => undefined
  look(HOUR)
  t.ok(await until(() => tls.certificates()[0]!.pending === undefined))
  t.equal(tls.certificates().length, 1)

  server.validate = async () => 'no such name'
  const more = await waiting({ ...options, domains: ['*.new.example', 'new.example', 'shop.example'], dns })
  t.match(pendingOf(more.tls), [[['shop.example'], /./, undefined], [['*.new.example', 'new.example'], server.options.directoryUrl, /./]], 'beside what covers the other names')
})

t.test('an app that listens for HTTPS alone is told that no CA can ask it, and a log that fails ends nothing', async (t) => {
  const server = await startAcmeServer(t)
  const dir = join(t.testdir(), 'acme')
  const options: AcmeOptions = { ...server.options, domains: ['shop.example'], dir }
  const listenWithoutHttp = async (certificates: AcmeSource): Promise<string> => {
    const log: LogLine[] = []
    const tls = await enableTls({ certificates })
    const app = Fastify({ logger: keepLog(log), https: tls.https }) as unknown as FastifyInstance
    t.teardown(() => app.close())
    app.get('/', async () => 'reached')
    await tls.listen(app, { https: 0 })
    return log.map(({ msg }) => msg).join('\n')
  }
  t.match(await listenWithoutHttp(acme(options)), /listen: without http, no CA can see here that the names are yours/)
  t.notMatch(await listenWithoutHttp(acme({ ...options, dns })), /without http/)

  const source = acme({ ...options, domains: ['other.example'] })
  const inner = acmeInterfaceOf(source)!
  inner.logTo(() => { throw new Error('the disk is full') })
  server.intercept = (what) => what === 'new-order' && ahead === 0 ? { status: 500 } : undefined
  t.teardown(source.watch(() => {}))
  inner.listens()
  t.ok(await until(() => server.countOf('new-order') > 0))
  await until(() => !filesIn(dir).includes('lock'))
  ahead = MINUTE
  inner.listens()
  t.ok(await until(async () => (await source.load()).length > 0))
  await until(() => !filesIn(dir).includes('lock'))
})

t.test('an empty list of any other source is an error, as it was', async (t) => {
  await t.rejects(enableTls({ certificates: { load: async () => [] } }), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: /at least 1/ })
})
