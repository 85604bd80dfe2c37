/**
 * Certificates that change while an app serves.
 */
import { constants } from 'node:crypto'
import dns from 'node:dns'
import { once } from 'node:events'
import { mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import fsPromises from 'node:fs/promises'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import { syncBuiltinESMExports } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import v8 from 'node:v8'
import vm from 'node:vm'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { type EnabledTls, enableTls } from '../lib/tls/index.ts'
import { ask, askHttp2 } from './fixtures/ask.ts'
import { reused } from './fixtures/context.ts'
import { appOf, enabled, type Enabled, fingerprintOf, handshake, INVALID_CERTIFICATES } from './fixtures/enabled.ts'
import { hasIPv6, portOf } from './fixtures/network.ts'
import { plainNode, run, typescript } from './fixtures/programs.ts'
import { authority, type Identity, issue, issueServer, lastingDays as days, revocationList } from './fixtures/pki.ts'

const ERROR = 50
/** Milliseconds within which a change has to be seen. */
const LIMIT = 1_000
/** Milliseconds after which a change that is not watched for would have been seen. */
const LONG_ENOUGH = 900

const [root, clients] = await Promise.all([authority('Servers', days), authority('Clients', days)])
const intermediate = await issue(root, { subject: 'CN=Intermediate', ca: true, purpose: 'none', days })
const [jane, revoked] = await Promise.all([issue(clients, { subject: 'CN=Jane', days }), issue(clients, { subject: 'CN=Revoked', days })])
const list = await revocationList(clients, [revoked], days)
const [first, second] = await Promise.all([makeServer(), makeServer('RSA')])

/** Its chain ends with the root, so that there is nothing to warn of. */
async function makeServer (keys: 'EC' | 'RSA' = 'EC'): Promise<Identity> {
  const { cert, key } = await issueServer(intermediate, ['localhost'], { keys, days })
  return { cert: cert + intermediate.cert + root.cert, key }
}

/** Tests mostly wait, and so run side by side, but for some: */
t.jobs = 6
const alone = (): { buffered: false } => ({ buffered: false })

/** Milliseconds during which this process did not run, as on a busy machine: nothing can be in time then. */
let stalled = 0
let looked = performance.now()
const looking = setInterval(() => {
  const now = performance.now()
  stalled += Math.max(0, now - looked - 25)
  looked = now
}, 20)
t.teardown(() => clearInterval(looking))

type Files = Record<string, string>
const filesOf = ({ cert, key }: Identity): Files => ({ 'tls.crt': cert, 'tls.key': key })

/** Ways to change files. Each has changed all of them when it is done. */
const ways = {
  async 'renamed over' (dir: string, files: Files) {
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(dir, `.${name}`), content)
      renameSync(join(dir, `.${name}`), join(dir, name))
    }
  },
  async 'written in place' (dir: string, files: Files) {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content)
  },
  /** A volume of a secret: files are links into a directory that a link stands for. */
  async 'swapped as in a Kubernetes volume' (dir: string, files: Files) {
    const version = `..2026_${process.hrtime.bigint()}`
    mkdirSync(join(dir, version))
    for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, version, name), content)
    symlinkSync(version, join(dir, '..data_tmp'))
    const before = linkIn(dir)
    renameSync(join(dir, '..data_tmp'), join(dir, '..data'))
    if (before === undefined) for (const name of Object.keys(files)) symlinkSync(join('..data', name), join(dir, name))
    else rmSync(join(dir, before), { recursive: true })
  },
  async 'gone for a moment' (dir: string, files: Files) {
    for (const name of Object.keys(files)) rmSync(join(dir, name))
    await sleep(100)
    for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content)
  }
}

function linkIn (dir: string): string | undefined {
  try {
    return readlinkSync(join(dir, '..data'))
  } catch {
    return undefined
  }
}

function write (dir: string, files: Files): void {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content)
}

/** Waits for what should come soon; answers the milliseconds that it took. */
async function timeUntil (isSo: () => boolean | Promise<boolean>): Promise<number> {
  const began = performance.now()
  const before = stalled
  while (!await isSo() && performance.now() - began < 60_000) await sleep(25)
  return performance.now() - began - (stalled - before)
}

/** What clients see that name no host, that name one, and that name another. */
async function fingerprintsAt (port: number, host = '127.0.0.1'): Promise<string[]> {
  const names = [undefined, 'localhost', 'other.test']
  return await Promise.all(names.map(async (servername) => (await handshake(port, { host, ca: root.cert, servername })).fingerprint))
}

const shows = async (port: number, identity: Identity, host?: string): Promise<boolean> =>
  (await fingerprintsAt(port, host)).every((fingerprint) => fingerprint === fingerprintOf(identity))

/** Waits until a certificate is in force, and asks for it then. */
async function takesEffect (t: Test, { port, tls }: Pick<Enabled, 'port' | 'tls'>, identity: Identity, what: string): Promise<void> {
  await inForce(tls, identity)
  t.ok(await shows(port, identity), what)
}

function inForce (tls: Pick<EnabledTls, 'certificates'>, identity: Identity): Promise<number> {
  const fingerprint = hexOf(identity)
  return timeUntil(() => tls.certificates()[0]!.fingerprint256 === fingerprint)
}

function hexOf (identity: Identity): string {
  return fingerprintOf(identity).replaceAll(':', '').toLowerCase()
}

/** Files are looked at once more when watching has begun. */
async function settled ({ tls }: Pick<Enabled, 'tls'>): Promise<void> {
  await sleep(350)
  await tls.reload()
}

function inputOf (dir: string) {
  return { certificates: { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key') } }
}

/** The four files of a directory. */
function inputIn (dir: string) {
  return {
    ...inputOf(dir),
    clientCertificates: { ca: join(dir, 'clients.pem'), crl: join(dir, 'clients.crl') }
  }
}

const errorsIn = ({ log }: Enabled) => log.filter(({ level }) => level === ERROR)

/** What the process was warned of. */
const warnings: Array<[message: string, code: string]> = []
const { emitWarning } = process
t.teardown(() => { process.emitWarning = emitWarning })
process.emitWarning = ((message: string, options: { code: string }, ...rest: unknown[]) => {
  if (options?.code?.startsWith('FST_HTTP_SECURITY')) warnings.push([message, options.code])
  else Reflect.apply(emitWarning, process, [message, options, ...rest])
}) as never

t.test('no request fails while certificates are swapped 12 times, in every way', alone(), async (t) => {
  const dir = t.testdir()
  const identities = await Promise.all(Array.from({ length: 13 }, (_, index) => makeServer(index % 3 === 1 ? 'RSA' : 'EC')))
  const fingerprints = identities.map(fingerprintOf)
  const volume = ways['swapped as in a Kubernetes volume']
  await volume(dir, filesOf(identities[0]!))
  const { app, port, log } = await enabled(t, inputOf(dir), { http2: true })

  const failures: string[] = []
  const counts: Record<string, number> = {}
  const over = new AbortController()
  const repeat = async (what: string, act: () => Promise<unknown>): Promise<void> => {
    while (!over.signal.aborted) {
      await act().catch((error: Error) => failures.push(`${what}: ${error.message}`))
      counts[what] = (counts[what] ?? 0) + 1
      await sleep(30)
    }
  }
  const expect200 = ({ status }: { status: number }): void => {
    if (status !== 200) throw new Error(String(status))
  }

  const agents = [undefined, 'localhost'].map((servername) => new https.Agent({ keepAlive: true, maxSockets: 1, ca: root.cert, servername }))
  const session = http2.connect(`https://localhost:${port}`, { ca: root.cert })
  session.on('error', (error) => failures.push(`session: ${error.message}`))
  t.teardown(() => {
    session.destroy()
    for (const agent of agents) agent.destroy()
  })
  // One connection after the other, so that none may see what is older than what one before has seen
  const names = [undefined, 'localhost', 'other.test']
  const versions = ['TLSv1.3', 'TLSv1.2'] as const
  let newest = 0
  const connect = async (): Promise<void> => {
    const nth = counts.connections ?? 0
    const version = versions[nth % 2]
    const request = https.get(reused<https.RequestOptions>({ host: '127.0.0.1', port, agent: false, ca: root.cert, servername: names[nth % 3], minVersion: version, maxVersion: version, checkServerIdentity: () => undefined }))
    const [response] = await once(request, 'response')
    const seen = fingerprints.indexOf((response.socket as tls.TLSSocket).getPeerX509Certificate()?.fingerprint256 ?? '')
    await once(response.resume(), 'end')
    expect200({ status: response.statusCode })
    if (seen < newest) throw new Error(`shows ${seen} after ${newest}`)
    newest = seen
  }
  let opened = 0
  app.server.on('secureConnection', () => { opened++ })
  const load = [
    ...agents.map((agent, index) => repeat(`kept ${index}`, async () => { expect200(await ask({ port, tls: { agent } })) })),
    repeat('session', async () => { expect200(await askHttp2(session, { ':path': '/' })) }),
    repeat('connections', connect)
  ]

  const all = Object.entries(ways)
  for (const [index, identity] of identities.entries()) {
    if (index === 0) continue
    const [name, way] = all[index % all.length]!
    // In the directory that the link stands for, except for the swap of the link itself
    await way(way === volume ? dir : join(dir, '..data'), filesOf(identity))
    const took = await timeUntil(() => newest === index)
    t.ok(took < LIMIT, `${name}: seen within a second (${Math.round(took)} ms)`)
  }
  over.abort()
  await Promise.all(load)
  t.strictSame(failures, [])
  t.equal(opened, counts.connections! + 3, 'the others kept their connections')
  t.notOk(session.closed)
  for (const [what, count] of Object.entries(counts)) t.ok(count > 50, `${what}: ${count}`)
  t.equal(log.filter(({ msg }) => msg === 'http-security: certificates were read anew and are in force').length, 12)
})

t.test('certificate files may be replaced in any way', alone(), async (t) => {
  const parent = t.testdir()
  await Promise.all(Object.entries(ways).map(async ([name, way]) => {
    const dir = join(parent, name)
    mkdirSync(dir)
    const isVolume = way === ways['swapped as in a Kubernetes volume']
    await (isVolume ? way : ways['written in place'])(dir, filesOf(first))
    const { port, tls } = await enabled(t, inputOf(dir))
    await settled({ tls })
    t.ok(await shows(port, first))
    for (const identity of [second, first]) {
      await way(dir, filesOf(identity))
      const took = await timeUntil(async () => (await handshake(port, { ca: root.cert })).fingerprint === fingerprintOf(identity))
      t.ok(took < LIMIT, `${name}: seen within a second (${Math.round(took)} ms)`)
      t.ok(await shows(port, identity), name)
      t.match(tls.certificates(), [{ fingerprint256: hexOf(identity), source: join(dir, 'tls.crt') }])
    }
  }))
})

t.test('the new certificate of one of many hosts is served within a second, and nothing is done for the others', alone(), async (t) => {
  const dir = t.testdir()
  const hosts = Array.from({ length: 160 }, (_, index) => `h${index}.test`)
  // Their issuer is unknown, which is one warning
  const issued = async (host: string): Promise<Files> => {
    const { cert, key } = await issueServer(root, [host], { days })
    return { [`${host}.crt`]: cert, [`${host}.key`]: key }
  }
  for (const host of hosts) write(dir, await issued(host))
  const made = t.capture(tls, 'createSecureContext', tls.createSecureContext)
  syncBuiltinESMExports()
  t.teardown(() => syncBuiltinESMExports())
  const one = await enabled(t, { certificates: hosts.map((host) => ({ cert: join(dir, `${host}.crt`), key: join(dir, `${host}.key`) })), clientCertificates: { ca: clients.cert } })
  // A server's own options, and what handshakes are tried with
  t.ok(made().length < hosts.length + 10, 'a context of each')
  await settled(one)
  const count = (pattern: RegExp): number => one.log.filter(({ msg }) => pattern.test(msg)).length
  const warning = /h0\.test\.crt: the chain ends with CN=h0\.test, whose issuer CN=Servers .*: clients have to know it \(the same holds for .*h1\.test\.crt, .*h2\.test\.crt, .*h3\.test\.crt and 156 more\)$/
  t.strictSame([count(warning), count(/clients have to know/)], [1, 1])
  for (const [name, way] of [['renamed over', ways['renamed over']], ['written in place', ways['written in place']]] as const) {
    const files = await issued('h150.test')
    made()
    await way(dir, files)
    const expected = fingerprintOf({ cert: files['h150.test.crt']! })
    const took = await timeUntil(async () => (await handshake(one.port, { ca: root.cert, servername: 'h150.test' })).fingerprint === expected)
    t.ok(took < LIMIT, `${name}: ${Math.round(took)} ms`)
    t.ok(made().length < 10, 'its context alone is made')
  }
  t.equal(count(/clients have to know/), 1, 'what was said is not said again')
  made()
  await one.tls.reload()
  t.equal(made().length, 0, 'a look without a change does nothing')
})

t.test('a reload waits for certificate files that are still being written', alone(), async (t) => {
  const halves = { 'tls.crt': second.cert.slice(0, 700), 'tls.key': second.key.slice(0, 100) }
  const parent = t.testdir()
  await Promise.all(Object.entries({ 'half of both': halves, 'one of both': { 'tls.crt': second.cert } }).map(async ([name, before]) => {
    let wasLate = true
    for (let attempts = 0; wasLate && attempts < 5; attempts++) {
      const dir = join(parent, `${name} ${attempts}`)
      mkdirSync(dir)
      write(dir, filesOf(first))
      const served = await enabled(t, inputOf(dir))
      await settled(served)
      const began = stalled
      write(dir, before)
      await sleep(200)
      write(dir, filesOf(second))
      await takesEffect(t, served, second, name)
      wasLate = stalled - began > 20
      if (!wasLate) t.strictSame(served.complaints(), [], `${name}: no complaint was logged`)
    }
  }))
})

t.test('a missing certificate file is logged as an error, and loaded once it is back', alone(), async (t) => {
  const dir = t.testdir(filesOf(first))
  const served = await enabled(t, inputOf(dir))
  await settled(served)
  rmSync(join(dir, 'tls.crt'))
  await timeUntil(() => errorsIn(served).length > 0)
  t.match(errorsIn(served), [{ code: INVALID_CERTIFICATES, msg: /tls\.crt: cannot be read: ENOENT/ }])
  t.ok(await shows(served.port, first))
  write(dir, filesOf(second))
  await takesEffect(t, served, second, 'back')
  t.equal(errorsIn(served).length, 1)
  const again = () => served.log.filter(({ msg }) => /all certificates are read again/.test(msg))
  await timeUntil(() => again().length > 0)
  t.match(again(), [{ level: 30 }])
})

t.test('an invalid certificate file does not replace the certificate in force, and is logged as an error', async (t) => {
  const [expired, early, forClients, joe, otherList, staleList] = await Promise.all([
    issueServer(intermediate, ['localhost'], { days: [-20, -10] }),
    issueServer(intermediate, ['localhost'], { days: [1, 90] }),
    issue(intermediate, { subject: 'CN=localhost', days }),
    authority('Clients', days).then(async (lookalike) => await issue(lookalike, { subject: 'CN=Joe', days })),
    authority('Clients', days).then(async (lookalike) => await revocationList(lookalike, [], days)),
    revocationList(clients, [revoked], [-20, -10])
  ])
  const above = intermediate.cert + root.cert
  const serverFiles = ({ cert, key }: Identity): Files => ({ 'tls.crt': cert + above, 'tls.key': key })
  const [leaf, ...issuers] = second.cert.match(/-----BEGIN[^]+?-----END[^\n]+\n/g)!
  const cases: Record<string, [bad: Files | ((dir: string) => void), reason: RegExp]> = {
    'a key that is garbage': [{ 'tls.key': 'garbage' }, /tls\.key: holds no private key in PEM/],
    'the key of another certificate': [{ 'tls.key': second.key }, /tls\.key: is not the key of .*tls\.crt/],
    'the certificate of another key': [{ 'tls.crt': second.cert }, /tls\.key: is not the key of .*tls\.crt/],
    'a chain without its intermediate': [{ 'tls.crt': leaf!, 'tls.key': second.key }, /tls\.crt: lacks an intermediate certificate that the chain in force has: CN=Intermediate/],
    'a chain in the wrong order': [{ 'tls.crt': leaf! + issuers.reverse().join(''), 'tls.key': second.key }, /tls\.crt: is not a chain: its second certificate/],
    'a chain upside down': [{ 'tls.crt': above + leaf!, 'tls.key': second.key }, /tls\.crt: has the server's own certificate in the third place/],
    'PEM that is cut in the middle': [{ 'tls.crt': second.cert.slice(0, 700), 'tls.key': second.key }, /tls\.crt: is cut off/],
    'a key that is cut in the middle': [{ 'tls.crt': second.cert, 'tls.key': second.key.slice(0, 700) }, /tls\.key: holds no private key in PEM/],
    'an empty file': [{ 'tls.crt': '' }, /tls\.crt: cannot be read: it is empty/],
    'a certificate that has expired': [serverFiles(expired), /tls\.crt: CN=localhost has expired/],
    'a certificate that is not valid yet': [serverFiles(early), /tls\.crt: CN=localhost is not valid before/],
    'a certificate for clients': [serverFiles(forClients), /tls\.crt: CN=localhost is not for servers/],
    'no authorities': [{ 'clients.pem': '' }, /clients\.pem: cannot be read: it is empty/],
    'a file of authorities without a certificate': [{ 'clients.pem': clients.key }, /clients\.pem: holds no certificate/],
    'an authority that is none': [{ 'clients.pem': jane.cert }, /clients\.pem: CN=Jane is no authority/],
    'a directory': [(dir) => { rmSync(join(dir, 'clients.pem')); mkdirSync(join(dir, 'clients.pem')) }, /clients\.pem: cannot be read: it is not a regular file/],
    'a revocation list that is out of date': [{ 'clients.crl': staleList }, /clients\.crl: the revocation list of CN=Clients is out of date since/],
    'a revocation list that another key has signed': [{ 'clients.crl': otherList }, /clients\.crl: the revocation list of CN=Clients is not signed by/],
    'a file that is too large': [(dir) => truncateSync(join(dir, 'clients.crl'), 2 ** 30), /clients\.crl: cannot be read: it has more than/],
    'no file': [(dir) => rmSync(join(dir, 'clients.crl')), /clients\.crl: cannot be read: ENOENT/]
  }
  const files = (identity: Identity): Files => ({ ...filesOf(identity), 'clients.pem': clients.cert, 'clients.crl': list })
  const all = t.testdir(Object.fromEntries(Object.keys(cases).map((name) => [name, files(first)])))

  const check = async (name: string): Promise<void> => {
    const [bad, reason] = cases[name]!
    const dir = join(all, name)
    const served = await enabled(t, inputIn(dir))
    const { port, get, tls } = served
    await settled(served)
    if (typeof bad === 'function') bad(dir)
    else write(dir, bad)
    const told = () => errorsIn(served).find(({ msg }) => reason.test(msg))
    await timeUntil(() => told() !== undefined)
    t.match(told(), { code: INVALID_CERTIFICATES }, name)
    await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message: reason }, name)
    t.ok(await shows(port, first), `${name}: what was there stays`)
    t.match(await get('/mtls', jane, { servername: 'localhost' }), { status: 200, body: 'CN=Jane' }, name)
    t.match(await get('/mtls', revoked), { status: 403, body: /CERTIFICATE_REVOKED/ }, name)
    t.match(await get('/mtls', joe), { status: 403, body: /CERTIFICATE_UNTRUSTED/ }, name)

    rmSync(dir, { recursive: true })
    mkdirSync(dir)
    write(dir, files(second))
    await takesEffect(t, served, second, `${name}: what is good takes effect after it`)
    t.match(await get('/mtls', jane), { status: 200, body: 'CN=Jane' }, name)
    // A process that is kept from running may notice one change twice, and find some files gone while they are replaced.
    t.strictSame(errorsIn(served).map(({ msg }) => msg).filter((msg) => !reason.test(msg) && !/cannot be read: ENOENT|is not the key of/.test(msg)), [], `${name}: nothing else is said`)
  }
  // All at once would keep this process from looking at files in time.
  const names = Object.keys(cases)
  await Promise.all(names.slice(10).map(check))
  await Promise.all(names.slice(0, 10).map(check))
})

t.test('a certificate without its key is an error until the key comes', async (t) => {
  const dir = t.testdir(filesOf(first))
  const served = await enabled(t, inputOf(dir))
  await settled(served)
  write(dir, { 'tls.crt': second.cert })
  await timeUntil(() => errorsIn(served).length > 0)
  t.match(errorsIn(served), [{ code: INVALID_CERTIFICATES, msg: /tls\.key: is not the key of/ }])
  t.ok(await shows(served.port, first))
  write(dir, { 'tls.key': second.key })
  await takesEffect(t, served, second, 'both')
})

t.test('certificate files that never stop changing are read after two seconds', async (t) => {
  const dir = t.testdir(filesOf(first))
  const served = await enabled(t, inputOf(dir))
  await settled(served)
  const writing = setInterval(() => write(dir, filesOf(second)), 100)
  const took = await inForce(served.tls, second)
  clearInterval(writing)
  t.ok(took < 3_000, `${Math.round(took)} ms`)
})

/** Of other hosts, for what takes longer. */
async function manyOthers (length: number): Promise<Array<{ cert: string, key: string }>> {
  return await Promise.all(Array.from({ length }, async (_, index) => {
    const { cert, key } = await issueServer(root, [`${index}.test`], { days })
    return { cert, key }
  }))
}

t.test('a change of certificate files during a reload, or before watching began, is seen', async (t) => {
  const dir = t.testdir(filesOf(first))
  const { certificates } = inputOf(dir)
  const all = [certificates, ...await manyOthers(20)]
  const enabling = enableTls({ certificates: all })
  await sleep(5)
  write(dir, filesOf(second))
  const tls = await enabling.catch(async () => await enableTls({ certificates }))
  t.teardown(() => tls.close())
  const one = await appOf(t, tls, { anonymous: true })
  await takesEffect(t, one, second, 'at first')

  await one.app.close()
  write(dir, filesOf(first))
  await sleep(LONG_ENOUGH)
  const two = await appOf(t, tls, { anonymous: true })
  await takesEffect(t, two, first, 'after a time without a watcher')
})

t.test('TLS options hold after a reload', async (t) => {
  const ofOthers = await issue(await authority('Others', days), { days })
  const dir = t.testdir({ ...filesOf(first), 'clients.pem': clients.cert, 'clients.crl': list })
  const input = inputIn(dir)
  const refused = async (port: number, options: tls.ConnectionOptions, message: string): Promise<void> => {
    for (const servername of [undefined, 'localhost']) await t.rejects(handshake(port, { ca: root.cert, servername, ...options }), `${message} ${servername ?? ''}`)
  }
  const accepted = async (port: number, options: tls.ConnectionOptions, expected: object): Promise<void> => {
    for (const servername of [undefined, 'localhost']) t.match(await handshake(port, { ca: root.cert, servername, ...options }), expected)
  }
  const [newest, chosen, oldest, h2] = await Promise.all([
    enabled(t, { ...input, https: { minVersion: 'TLSv1.3' } }),
    enabled(t, { ...input, https: { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384' } }),
    enabled(t, { ...input, https: { secureOptions: constants.SSL_OP_NO_TLSv1_3 } }),
    enabled(t, input, { http2: true })
  ])
  const check = async (when: string): Promise<void> => {
    await refused(newest.port, { maxVersion: 'TLSv1.2' }, `${when}: minVersion`)
    await accepted(newest.port, {}, { protocol: 'TLSv1.3', alpn: false })
    await refused(chosen.port, { ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256' }, `${when}: ciphers`)
    await accepted(chosen.port, {}, { protocol: 'TLSv1.2', cipher: /AES256-GCM-SHA384$/ })
    await refused(oldest.port, { minVersion: 'TLSv1.3' }, `${when}: secureOptions`)
    for (const { port } of [chosen, oldest]) t.match(await renegotiation(port), /no renegotiation|ERR_|ECONNRESET/, `${when}: no renegotiation`)
    await accepted(h2.port, { ALPNProtocols: ['h2', 'http/1.1'] }, { alpn: 'h2' })
    await accepted(h2.port, { ALPNProtocols: ['http/1.1'] }, { alpn: 'http/1.1' })
    await accepted(newest.port, { ALPNProtocols: ['h2', 'http/1.1'] }, { alpn: 'http/1.1' })
    for (const { get, port } of [newest, chosen, oldest, h2]) {
      for (const options of [{}, { servername: 'localhost' }]) {
        t.match(await get('/mtls', jane, options), { status: 200 }, `${when}: known`)
        t.match(await get('/mtls', ofOthers, options), { status: 403, body: /CERTIFICATE_UNTRUSTED/ }, `${when}: unknown`)
        t.match(await get('/mtls', revoked, options), { status: 403, body: /CERTIFICATE_REVOKED/ }, `${when}: revoked`)
      }
      for (const names of await Promise.all([acceptable(port), acceptable(port, 'localhost')])) t.strictSame(names, ['CN = Clients'], `${when}: no public root`)
    }
  }
  await check('before')
  write(dir, filesOf(second))
  await Promise.all([newest, chosen, oldest, h2].map(async (each) => await takesEffect(t, each, second, 'changed')))
  await check('after')
})

/** What happens to a client that renegotiates on TLS 1.2. */
async function renegotiation (port: number): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', port, ca: root.cert, maxVersion: 'TLSv1.2' })
  await once(socket, 'secureConnect')
  return await new Promise((resolve) => {
    socket.on('error', (error: Error & { code?: string }) => resolve(`${error.code} ${error.message}`))
    socket.renegotiate({ rejectUnauthorized: true }, (error) => resolve(error === null ? 'renegotiated' : String(error.message)))
  }).finally(() => socket.destroy()) as string
}

/** The authorities that a server names when it asks for a certificate. */
async function acceptable (port: number, servername?: string): Promise<string[]> {
  const asking = run('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...servername === undefined ? ['-noservername'] : ['-servername', servername]])
  asking.child.stdin!.end()
  const { stdout } = await asking
  const [, names = ''] = /Acceptable client certificate CA names\n([^]*?)\n(?:Client Certificate|Requested|Peer|---)/.exec(stdout) ?? []
  return names.split('\n').filter((name) => name !== '')
}

t.test('apps share reloaded certificates, also those created later, and watching ends with the last app', async (t) => {
  const dir = t.testdir(filesOf(first))
  const one = await enabled(t, inputOf(dir))
  const { tls } = one
  const { https: old } = tls
  const two = await appOf(t, tls, { anonymous: true })
  write(dir, filesOf(second))
  await takesEffect(t, one, second, 'one')
  t.ok(await shows(two.port, second), 'two')

  const later = await appOf(t, tls, { anonymous: true })
  t.ok(await shows(later.port, second), 'created with what is new')
  const late = await appOf(t, { ...tls, https: old }, { anonymous: true })
  t.ok(await shows(late.port, second), 'created with what was new once')

  await Promise.all([one, later, late].map(({ app }) => app.close()))
  write(dir, filesOf(first))
  await takesEffect(t, two, first, 'one app is enough')
  await two.app.close()
  write(dir, filesOf(second))
  await sleep(LONG_ENOUGH)
  t.match(tls.certificates(), [{ fingerprint256: hexOf(first) }], 'nothing is watched any more')
})

t.test('tls.close() ends watching, and the certificates stay in force', async (t) => {
  const dir = t.testdir(filesOf(first))
  const { tls, port, complaints } = await enabled(t, inputOf(dir))
  tls.close()
  write(dir, { ...filesOf(second), 'tls.key': 'garbage' })
  await sleep(LONG_ENOUGH)
  t.ok(await shows(port, first))
  t.strictSame(complaints(), [])
  write(dir, filesOf(second))
  await tls.reload()
  t.ok(await shows(port, second), 'who asks for it gets it')
  tls.close()
})

t.test('tls.listen keeps the certificates of an app without the plugin up to date, until it closes', async (t) => {
  const dir = t.testdir(filesOf(first))
  const tls = await enableTls(inputOf(dir))
  t.teardown(() => tls.close())
  const app = Fastify({ https: tls.https, forceCloseConnections: true })
  t.teardown(() => app.close())
  const { https: { port } } = await tls.listen(app, { https: 0 })
  write(dir, filesOf(second))
  await takesEffect(t, { tls, port }, second, 'new')
  await app.close()
  write(dir, filesOf(first))
  await sleep(LONG_ENOUGH)
  t.match(tls.certificates(), [{ fingerprint256: hexOf(second) }])

  const other = Fastify({ https: { cert: first.cert, key: first.key } })
  t.teardown(() => other.close())
  await t.rejects(tls.listen(other, { https: 0 }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /this app was not created with the options of this tls: Fastify\(\{ https: tls\.https \}\)$/ })
})

t.test('a server that tls does not know is kept up to date from its first client with SNI', async (t) => {
  const dir = t.testdir(filesOf(first))
  const tls = await enableTls(inputOf(dir))
  t.teardown(() => tls.close())
  const server = https.createServer(tls.https).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const port = portOf(server)
  t.ok(await shows(port, first))
  write(dir, filesOf(second))
  await takesEffect(t, { tls, port }, second, 'new')
})

t.test('a closed server can be garbage-collected', async (t) => {
  v8.setFlagsFromString('--expose-gc')
  const collect = vm.runInNewContext('gc') as () => void
  const dir = t.testdir(filesOf(first))
  const tls = await enableTls(inputOf(dir))
  t.teardown(() => tls.close())
  const ref = await (async () => {
    const server = https.createServer(tls.https).listen(0, '127.0.0.1')
    await once(server, 'listening')
    await handshake(portOf(server), { ca: root.cert, servername: 'localhost' })
    server.close()
    await once(server, 'close')
    return new WeakRef(server)
  })()
  await timeUntil(async () => {
    await sleep(50)
    collect()
    return ref.deref() === undefined
  })
  t.equal(ref.deref(), undefined)
  write(dir, filesOf(second))
  await t.resolves(tls.reload())
})

t.test('watching files does not keep a process alive', async (t) => {
  const dir = t.testdir({ ...filesOf(first), 'clients.pem': clients.cert, 'clients.crl': list })
  const script = `const { enableTls } = await import('./lib/tls/index.ts')
    await enableTls(JSON.parse(process.argv[1]))
    console.log('enabled')`
  const { stdout } = await run('env', [...plainNode, ...typescript, '--input-type=module', '--eval', script, JSON.stringify(inputIn(dir))], { timeout: 60_000 })
  t.equal(stdout, 'enabled\n')
})

t.test('concurrent calls of reload() run one after the other', async (t) => {
  const dir = t.testdir(filesOf(first))
  const served = await enabled(t, inputOf(dir))
  const { tls, port, log } = served
  const swaps = (): number => log.filter(({ msg }) => msg.includes('read anew')).length
  write(dir, filesOf(second))
  t.strictSame(await Promise.all(Array.from({ length: 10 }, () => tls.reload())), Array(10).fill(undefined))
  t.ok(await shows(port, second))
  t.equal(swaps(), 1, 'what is as it was is not swapped')

  write(dir, { 'tls.key': 'garbage' })
  const outcomes = await Promise.allSettled([tls.reload(), tls.reload(), tls.reload()])
  t.match(outcomes, Array(3).fill({ status: 'rejected', reason: { code: INVALID_CERTIFICATES, message: /tls\.key: holds no private key/ } }))
  write(dir, filesOf(first))
  await Promise.all([tls.reload(), tls.reload()])
  t.ok(await shows(port, first), 'and one that failed holds up no other')
  t.equal(swaps(), 2)
})

t.test('the log says that reading certificate files takes too long', alone(), async (t) => {
  const dir = t.testdir(filesOf(first))
  const served = await enabled(t, inputOf(dir))
  await settled(served)
  const told = (pattern: RegExp) => served.log.filter(({ msg }) => pattern.test(msg)).map(({ level }) => level)
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const reload = served.tls.reload()
  mock.timers.tick(10_000)
  t.strictSame(told(/reading certificates has not ended after 10 seconds/), [40])
  await reload
  t.strictSame(told(/all certificates are read again/), [30])
})

t.test('certificate files with the same content change nothing, and sessions are resumed', async (t) => {
  const dir = t.testdir({ ...filesOf(first), 'clients.pem': clients.cert, 'clients.crl': list })
  const served = await enabled(t, inputIn(dir))
  const { tls, port, log } = served
  await settled(served)
  const options = ['TLSv1.2', 'TLSv1.3'].flatMap((version) => [undefined, 'localhost'].map((servername) =>
    ({ ca: root.cert, cert: jane.cert, key: jane.key, servername, minVersion: version, maxVersion: version }) as tls.ConnectionOptions))
  const sessions = await Promise.all(options.map(async (each) => (await handshake(port, { ...each, keepsSession: true })).session))
  const resumed = async (): Promise<boolean[]> => await Promise.all(options.map(async (each, index) => (await handshake(port, { ...each, session: sessions[index] })).isResumed))
  t.strictSame(await resumed(), [true, true, true, true])
  await tls.reload()
  t.strictSame(await resumed(), [true, true, true, true], 'asked for')
  // The same certificates, with other text around them, in another order
  write(dir, { 'tls.crt': `renewed\n${first.cert}`, 'clients.pem': clients.cert.repeat(2), 'clients.crl': `\n${list}` })
  await sleep(LONG_ENOUGH)
  t.strictSame(await resumed(), [true, true, true, true], 'written again')
  t.strictSame(log.filter(({ msg }) => msg.includes('read anew')), [])
  write(dir, filesOf(second))
  await takesEffect(t, served, second, 'changed')
  for (const [index, each] of options.entries()) {
    t.match(await handshake(port, { ...each, session: sessions[index] }), { isResumed: true }, 'whatever the certificate of the server is')
  }
})

t.test('an expired certificate in force does not keep a new one away', async (t) => {
  const soon = [-1, 5 / 86_400] as const
  const ended = async (): Promise<void> => await sleep(5_000)
  const cases = {
    async 'a revocation list' (dir: string) {
      write(dir, { ...filesOf(first), 'clients.pem': clients.cert, 'clients.crl': await revocationList(clients, [], soon) })
      return inputIn(dir)
    },
    async 'the authority of clients' (dir: string) {
      write(dir, { ...filesOf(first), 'clients.pem': (await authority('Short', soon)).cert })
      return { ...inputOf(dir), clientCertificates: { ca: join(dir, 'clients.pem') } }
    },
    async 'the certificate of another host' (dir: string) {
      const short = await issueServer(root, ['short.test'], { days: soon })
      write(dir, { ...filesOf(first), 'short.crt': short.cert, 'short.key': short.key })
      return { certificates: [inputOf(dir).certificates, { cert: join(dir, 'short.crt'), key: join(dir, 'short.key') }] }
    }
  }
  const parent = t.testdir(Object.fromEntries(Object.keys(cases).map((name) => [name, {}])))
  await Promise.all(Object.entries(cases).map(async ([name, prepare]) => {
    const dir = join(parent, name)
    const { tls } = await enabled(t, await prepare(dir))
    await ended()
    write(dir, filesOf(second))
    await t.resolves(tls.reload(), name)
    t.match(tls.certificates(), [{ fingerprint256: hexOf(second) }], name)
  }))
})

t.test('every listener gets reloaded certificates, also the second one of Fastify for localhost', async (t) => {
  const dir = t.testdir(filesOf(first))
  if (hasIPv6) localhostHasTwoAddresses(t)
  const served = await enabled(t, inputOf(dir), { listen: { host: 'localhost' } })
  const addresses = served.app.addresses().map((each) => (each as AddressInfo).address)
  t.strictSame(addresses.sort(), hasIPv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'])
  for (const address of addresses) t.ok(await shows(served.port, first, address), address)
  write(dir, filesOf(second))
  await takesEffect(t, served, second, 'new')
  for (const address of addresses) t.ok(await shows(served.port, second, address), address)
})

/** Whatever /etc/hosts has. */
function localhostHasTwoAddresses (t: Test): void {
  const { lookup } = dns
  t.teardown(() => { dns.lookup = lookup })
  dns.lookup = ((host: string, ...rest: [object, () => void]) => {
    const callback = rest.pop() as (error: Error | null, ...answer: unknown[]) => void
    if (host !== 'localhost') return Reflect.apply(lookup, dns, [host, ...rest, callback])
    const all = [{ address: '127.0.0.1', family: 4 }, { address: '::1', family: 6 }]
    const [options] = rest as Array<{ all?: boolean }>
    process.nextTick(() => options?.all === true ? callback(null, all) : callback(null, '127.0.0.1', 4))
  }) as never
}

t.test('nothing is logged after tls.close(), also of a reload under way', async (t) => {
  const dir = t.testdir(filesOf(first))
  const tls = await enableTls(inputOf(dir))
  const { open } = fsPromises
  let isOpened = (): void => {}
  let release = (): void => {}
  const [opened, released] = [new Promise<void>((resolve) => { isOpened = resolve }), new Promise<void>((resolve) => { release = resolve })]
  // Others are tested meanwhile
  fsPromises.open = async (...args) => {
    if (args[0] === join(dir, 'tls.key')) {
      isOpened()
      await released
    }
    return await open(...args)
  }
  syncBuiltinESMExports()
  t.teardown(() => { fsPromises.open = open; syncBuiltinESMExports() })
  write(dir, { 'tls.key': 'garbage' })
  await Promise.all([opened, sleep(LIMIT)])
  tls.close()
  release()
  await sleep(50)
  t.strictSame(warnings.filter(([message]) => message.includes(dir)), [])
  await t.rejects(tls.reload(), { message: /tls\.key: holds no private key/ })
})

t.test('the log warns of a certificate that expires soon, once at each threshold', async (t) => {
  const end = [29.5, 13.5, 6.5, 0.52] as const
  const names = ['month.test', 'fortnight.test', 'week.test', 'day.test']
  const all = await Promise.all(names.map(async (name, index) => await issueServer(root, [name], { days: [-90, end[index]!] })))
  const dir = t.testdir(Object.fromEntries(names.flatMap((name, index) => [[`${name}.pem`, all[index]!.cert + root.cert], [`${name}.key`, all[index]!.key]])))
  const short = await authority('Short', [-60, 20.5])
  const { tls, complaints } = await enabled(t, {
    certificates: names.map((name) => ({ cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) })),
    clientCertificates: { ca: [short.cert, clients.cert] }
  })
  const expected = [
    /month\.test\.pem: CN=month\.test ends in 29 days, on .* GMT$/,
    /fortnight\.test\.pem: CN=fortnight\.test ends in 13 days, on /,
    /week\.test\.pem: CN=week\.test ends in 6 days, on /,
    /day\.test\.pem: CN=day\.test ends in 12 hours, on /,
    /clientCertificates\.ca: CN=Short ends in 20 days, on /
  ]
  t.match(complaints(), expected)
  t.equal(complaints().length, expected.length)

  await settled({ tls })
  const second = await issueServer(root, ['month.test'], { days: [-90, 3.5] })
  write(dir, { 'month.test.pem': second.cert + root.cert, 'month.test.key': second.key })
  await tls.reload()
  t.match(complaints().slice(expected.length), [/month\.test\.pem: CN=month\.test ends in 3 days, on /])
  t.equal(complaints().length, expected.length + 1, 'of the others, all was said')
})

t.test('messages before there is an app are kept for its log', async (t) => {
  const dir = t.testdir(filesOf(first))
  const told = () => warnings.filter(([message]) => message.includes(dir))
  const tls = await enableTls(inputOf(dir))
  t.teardown(() => tls.close())
  await settled({ tls })
  const soon = await issueServer(root, ['localhost'], { days: [-90, 5.5] })
  write(dir, filesOf(soon))
  await timeUntil(() => tls.certificates()[0]!.fingerprint256 === hexOf(soon))
  t.strictSame(told(), [], 'the process is not warned of it')
  const said = ({ log }: Enabled): string[] => log.filter(({ msg }) => msg.includes('certificates') || msg.includes(dir)).map(({ level, msg }) => `${level} ${msg}`)
  const [app, further] = [await appOf(t, tls, { anonymous: true }), await appOf(t, tls, { anonymous: true })]
  const chain = /^40 .*tls\.crt: the chain ends with CN=localhost, whose issuer CN=Servers is not in the file/
  t.match(said(app), [/^30 http-security: certificates were read anew and are in force/, chain, /^40 .*tls\.crt: CN=localhost ends in 5 days/])
  t.equal(said(app).length, 3, 'each once')
  t.match(said(further), [chain])
  t.equal(said(further).length, 1, 'a further app is told what is so now')
})

t.test('messages become process warnings where no app comes before tls.close()', async (t) => {
  const dir = t.testdir(filesOf(first))
  const tls = await enableTls(inputOf(dir))
  await settled({ tls })
  const soon = await issueServer(root, ['localhost'], { days: [-90, 5.5] })
  write(dir, filesOf(soon))
  await timeUntil(() => tls.certificates()[0]!.fingerprint256 === hexOf(soon))
  tls.close()
  const told = warnings.filter(([message]) => message.includes(dir))
  t.match(told, [[/tls\.crt: the chain ends with CN=localhost, whose issuer CN=Servers is not in the file/, 'FST_HTTP_SECURITY'], [/tls\.crt: CN=localhost ends in 5 days/, 'FST_HTTP_SECURITY']])
  t.equal(told.length, 2)
})

t.test('a relative path of a certificate is relative to the working directory of enableTls()', alone(), async (t) => {
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  const dir = t.testdir({ ...filesOf(first), elsewhere: {} })
  process.chdir(dir)
  const served = await enabled(t, { certificates: { cert: 'tls.crt', key: 'tls.key' } })
  process.chdir('elsewhere')
  write(dir, filesOf(second))
  await t.resolves(served.tls.reload())
  t.ok(await shows(served.port, second))
})
