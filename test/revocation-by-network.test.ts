/**
 * Revocation that is asked of the network: OCSP responders and list servers that are down, slow, stale or lying.
 */
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import httpSecurity from '../lib/index.ts'
import { enableTls } from '../lib/tls/index.ts'
import { outcomeOf } from './fixtures/ask.ts'
import { type Draft, identityOf, type Made, make, names, pemOf, purposes, SERVER, time } from './fixtures/chains.ts'
import { distributionPoints, idp, makeCrl } from './fixtures/crls.ts'
import { askOpensslOcsp, failure, type OcspDraft, ocspResponse } from './fixtures/ocsp.ts'
import { asking, type Asking, type By, moveClock, type Reply, responder, serveWeb, WAYS, type Web } from './fixtures/online.ts'
import { opensslIn, withoutOpenssl } from './fixtures/openssl.ts'
import { authority, issueServer } from './fixtures/pki.ts'
import { listenOnFreePort } from './fixtures/serve.ts'
import { DAY, HOUR, MINUTE, until } from './fixtures/time.ts'
import { connectWire, echoed, openSocket } from './fixtures/wire.ts'

const REVOKED = '403 CERTIFICATE_REVOKED'
const UNKNOWN = '403 REVOCATION_UNKNOWN'

const root = make({ ca: true, subject: 'CN=Partners', days: [-1, 300] })
/** A client's certificate, by its common name. */
const issue = (name: string, issuer: Made, extensions: Draft['extensions'] = {}): Made => make({ issuer, subject: `CN=${name}`, extensions })
const agentFor = (t: Test, by: By) => {
  const agent = new (by === 'sockets' ? https : http).Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  return { agent }
}
/** Has a responder answer as one that openssl would. */
const answering = (draft: Partial<OcspDraft> & Pick<OcspDraft, 'certificate'>) => () => ocspResponse({ issuer: root, ...draft })
/** What URLs that certificates name may lead to. */
const allowing = (web: Web) => ({ allow: [`127.0.0.1:${web.port}`] })

for (const by of WAYS) {
  t.test(`an OCSP responder of the openssl program says good, revoked or unknown, by ${by}`, { skip: withoutOpenssl }, async (t) => {
    const web = await serveWeb(t)
    const access = { access: responder(web.url('/root?for=us')) }
    const branch = make({ ca: true, issuer: root, subject: 'CN=Branch', extensions: access })
    const closed = make({ ca: true, issuer: root, subject: 'CN=Closed', extensions: access })
    const below = { access: responder(web.url('/branch')) }
    const [good, revoked, unknown] = ['Good', 'Revoked', 'Unknown'].map((name) => issue(name, root, access)) as [Made, Made, Made]
    const [deep, deepRevoked, deepClosed] = [issue('Deep', branch, below), issue('Deep revoked', branch, below), issue('Deep closed', closed, below)]
    web.replies.set('/root', (body) => askOpensslOcsp(body, { issuer: root, signer: root, valid: [good, branch], revoked: [revoked, closed], options: ['-nmin', '60'] }))
    web.replies.set('/branch', (body) => askOpensslOcsp(body, { issuer: branch, signer: branch, valid: [deep], revoked: [deepRevoked], options: ['-nmin', '60'] }))
    for (const policy of ['refuse', 'allow']) {
      const app = await asking(t, by, { ca: root.pem, ocsp: true, unknown: policy, ...allowing(web) })
      t.strictSame([await app.code({ leaf: good }), await app.code({ leaf: revoked }), await app.code({ leaf: unknown })], ['Good', REVOKED, UNKNOWN], `unknown: ${policy}`)
      t.strictSame([await app.code({ leaf: deep, chain: [branch] }), await app.code({ leaf: deepRevoked, chain: [branch] }), await app.code({ leaf: deepClosed, chain: [closed] })], ['Deep', REVOKED, REVOKED], 'below an intermediate')
      const asked = web.asked.length
      t.strictSame([await app.code({ leaf: good }), await app.code({ leaf: deep, chain: [branch] })], ['Good', 'Deep'], policy)
      t.equal(web.asked.length, asked, 'what is known is not asked for again')
    }
  })

  t.test(`the responder of the option ocsp is asked about every certificate, by ${by}`, async (t) => {
    const [web, other] = [await serveWeb(t), await serveWeb(t)]
    const branch = make({ ca: true, issuer: root, subject: 'CN=Branch', extensions: { access: responder(other.url('/')) } })
    const good = issue('Good', branch)
    const answers = [ocspResponse({ certificate: branch, issuer: root }), ocspResponse({ certificate: good, issuer: branch })]
    web.replies.set('/ocsp', (body) => answers[body.includes(good.serial) ? 1 : 0])
    const app = await asking(t, by, { ca: root.pem, ocsp: { url: web.url('/ocsp') } })
    t.equal(await app.code({ leaf: good, chain: [branch] }), 'Good')
    t.equal(web.count('/ocsp'), 2)
    t.equal(other.asked.length, 0)
  })

  t.test(`an OCSP responder that was down is asked again, and its answer counts on open connections, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const [jane, joe] = ['Jane', 'Joe'].map((name) => issue(name, root, { access: responder(web.url(`/${name}?secret`)) })) as [Made, Made]
    web.replies.set('/Jane', answering({ certificate: jane }))
    web.replies.set('/Joe', answering({ certificate: joe, status: 'revoked' }))
    await web.down()
    const [strict, lenient] = [await asking(t, by, { ca: root.pem, ocsp: true, ...allowing(web) }), await asking(t, by, { ca: root.pem, ocsp: true, unknown: 'allow', ...allowing(web) })]
    const kept = [strict, lenient].map(() => ({ jane: agentFor(t, by), joe: agentFor(t, by) })) as [{ jane: object, joe: object }, { jane: object, joe: object }]
    const start = performance.now()
    for (let twice = 0; twice < 2; twice++) {
      t.strictSame([await strict.code({ leaf: jane }, kept[0].jane), await strict.code({ leaf: joe }, kept[0].joe)], [UNKNOWN, UNKNOWN])
      t.strictSame([await lenient.code({ leaf: jane }, kept[1].jane), await lenient.code({ leaf: joe }, kept[1].joe)], ['Jane', 'Joe'])
    }
    t.ok(performance.now() - start < 3_000, 'nothing waits for what is not asked for')
    const live = await lenient.live({ leaf: joe })
    for (const app of [strict, lenient]) {
      t.match(app.complaints(), [new RegExp(`OCSP: http://127\\.0\\.0\\.1:${web.port}/Jane: .*ECONNREFUSED`), new RegExp(`OCSP: http://127\\.0\\.0\\.1:${web.port}/Joe: .*ECONNREFUSED`)], 'told once each')
      t.notMatch(app.complaints().join(), 'secret')
    }

    await web.up()
    clock.advance(6_000)
    clock.look()
    await Promise.all([web.reached('/Jane', 2), web.reached('/Joe', 2)])
    t.equal(await live.closed, 1006, 'its WebSocket ends')
    t.strictSame([await lenient.becomes({ leaf: joe }, REVOKED, kept[1].joe), await lenient.code({ leaf: jane }, kept[1].jane)], [REVOKED, 'Jane'])
    t.equal(await strict.becomes({ leaf: joe }, REVOKED, kept[0].joe), REVOKED)
    clock.advance(5_001)
    t.equal(await strict.becomes({ leaf: jane }, 'Jane', kept[0].jane), 'Jane')
    for (const app of [strict, lenient]) await app.logged(/OCSP: http:\/\/\S+\/Jane: all is well again$/)
  })
}

t.test('a request waits for an OCSP response for three seconds, and a later one counts when it comes', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  let answerAtBoot = (): void => {}
  web.replies.set('/boot', (_, response) => { answerAtBoot = () => response.end(makeCrl(root)); return undefined })
  const boot = performance.now()
  const booted = asking(t, 'a proxy', { ca: root.pem, crl: web.url('/boot') })
  const refused = await Promise.all(WAYS.flatMap((by) => [{ ocsp: true }, { crl: 'distribution-points' }].map(async (what) => {
    const path = `/${by.replace(' ', '-')}/${Object.keys(what)[0]!}`
    const held: Array<() => void> = []
    /** Answers when it is let. */
    const late = (path: string, answer: () => Buffer): void => { web.replies.set(path, (_, response) => { held.push(() => response.end(answer())) }) }
    const [jane, joe] = ['jane', 'joe'].map((name) => issue(name, root, { access: responder(web.url(`${path}/${name}`)), points: distributionPoints([{ names: [names.uri(web.url(`${path}/${name}`))] }]) })) as [Made, Made]
    const isOcsp = 'ocsp' in what
    late(`${path}/jane`, () => isOcsp ? ocspResponse({ certificate: jane, issuer: root }) : makeCrl(root))
    late(`${path}/joe`, () => isOcsp ? ocspResponse({ certificate: joe, issuer: root, status: 'revoked' }) : makeCrl(root, { entries: [joe] }))
    const [strict, lenient] = [await asking(t, by, { ca: root.pem, ...what, ...allowing(web) }), await asking(t, by, { ca: root.pem, ...what, unknown: 'allow', ...allowing(web) })]
    const kept = agentFor(t, by)
    const start = performance.now()
    const joes = lenient.code({ leaf: joe })
    const first = [strict, lenient].map(async (app) => {
      const [first, later] = [app.code({ leaf: jane }, app === strict ? kept : {}), app.code({ leaf: jane })]
      const codes = [await first, await later]
      const waited = performance.now() - start
      t.ok(waited > 2_900 && waited < 8_000, `${path}: after ${Math.round(waited)} ms`)
      const again = performance.now()
      codes.push(await app.code({ leaf: jane }))
      t.ok(performance.now() - again < 2_000, 'and then not again')
      return codes
    })
    // Where no certificate is needed, it is none until it is known.
    for (const path of ['/tls', '/tls']) t.match(await strict.get(path, { leaf: jane }), { status: 200, body: /"isPresent":true,"isValid":false.*"value":""/ }, path)
    t.match(await strict.get('/tls'), { status: 200, body: /"isPresent":false/ })
    t.equal(await strict.code(), '403 CERTIFICATE_REQUIRED')
    t.ok(performance.now() - start < 2_500, 'without a wait')
    t.strictSame(await Promise.all(first), [[UNKNOWN, UNKNOWN, UNKNOWN], ['jane', 'jane', 'jane']])
    t.equal(await joes, 'joe')
    const live = await lenient.live({ leaf: joe })
    for (const answer of held.splice(0)) answer()
    t.equal(await live.closed, 1006)
    t.equal(await lenient.becomes({ leaf: joe }, REVOKED), REVOKED)
    t.strictSame([web.count(`${path}/jane`), web.count(`${path}/joe`)], [2, 1], 'by each app once')
    return async () => await strict.becomes({ leaf: jane }, 'jane', kept)
  })))
  const app = await booted
  t.ok(performance.now() - boot > 2_900)
  t.strictSame(app.complaints(), [`crl: ${web.url('/boot')}: it has not answered yet`], 'boot waits for the administrator\'s lists as long')
  t.equal(await app.code({ leaf: issue('Jane', root) }), UNKNOWN)
  answerAtBoot()
  await app.logged(/crl: \S+\/boot: all is well again$/)
  t.equal(await app.code({ leaf: issue('Jane', root) }), 'Jane')
  // Refused for want of an answer is refused for five seconds.
  clock.advance(5_001)
  t.strictSame(await Promise.all(refused.map(async (becomes) => await becomes())), ['jane', 'jane', 'jane', 'jane'])
})

/** Octets of a nonce, and what a responder that has none of ours makes of it. */
const NONCE = Buffer.alloc(32, 7)
const other = make({ ca: true, subject: 'CN=Partners', days: [-1, 300] })
const LIES: Record<string, { lie: (client: Made) => Reply, told: RegExp, isDown?: boolean }> = {
  'is about another certificate': { lie: () => ocspResponse({ certificate: issue('Other', root), issuer: root }), told: /it is about other certificates$/ },
  'is signed by a namesake of the issuer': { lie: (certificate) => ocspResponse({ certificate, issuer: root, signer: other, responder: 'name' }), told: /it is signed by neither the issuer nor a delegate/ },
  'was changed after it was signed': { lie: (certificate) => ocspResponse({ certificate, issuer: root, spoil: true }), told: /it is signed by neither the issuer nor a delegate/ },
  'was made for another question': { lie: (certificate) => ocspResponse({ certificate, issuer: root, nonce: NONCE }), told: /its nonce is another one than was sent$/ },
  'has ended': { lie: (certificate) => ocspResponse({ certificate, issuer: root, thisUpdate: -2 * HOUR, nextUpdate: -HOUR }), told: /it is out of date$/ },
  'has not begun': { lie: (certificate) => ocspResponse({ certificate, issuer: root, thisUpdate: HOUR }), told: /it is from the future$/ },
  'is that it has no time': { lie: () => failure(3), told: /the responder says: tryLater$/ },
  'is no OCSP response': { lie: () => Buffer.from('<html>Sign in</html>'), told: /it is not an OCSP response in DER$/ },
  'is larger than any': { lie: () => Buffer.alloc(65 * 1024), told: /it has more than 65536 bytes$/, isDown: true },
  'is that it is elsewhere': { lie: () => (_, response) => response.writeHead(302, { location: '/' }) && Buffer.alloc(0), told: /it redirects \(status 302\), which is not followed$/, isDown: true },
  'is that there is nothing': { lie: () => (_, response) => response.writeHead(404) && Buffer.alloc(0), told: /it answers with status 404$/, isDown: true }
}

for (const by of WAYS) {
  t.test(`an invalid OCSP response counts as none, and is not asked for again at once, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const clients = Object.entries(LIES).map(([title, { lie, told, isDown = false }], index) => {
      const path = `/${index}`
      const client = issue(title, root, { access: responder(web.url(`${path}?who=me`)) })
      web.replies.set(path, lie(client))
      return { title, told, path, leaf: client, isDown }
    })
    const [strict, lenient] = [await asking(t, by, { ca: root.pem, ocsp: true, ...allowing(web) }), await asking(t, by, { ca: root.pem, ocsp: true, unknown: 'allow', ...allowing(web) })]
    for (const { title, told, path, leaf } of clients) {
      t.strictSame([await strict.code({ leaf }), await strict.code({ leaf }), await lenient.code({ leaf })], [UNKNOWN, UNKNOWN, title], title)
      t.match(strict.complaints().at(-1), new RegExp(`^OCSP: ${web.url(path)}: ${told.source}`), title)
      t.equal(web.count(path), 2, 'by each app once')
    }
    t.equal(strict.complaints().length, clients.length, 'told once each')
    clock.advance(20_000)
    clock.look()
    await Promise.all(clients.map(async ({ path, isDown }) => { if (isDown) await web.reached(path, 4) }))
    for (const { title, path, isDown } of clients) t.equal(web.count(path), isDown ? 4 : 2, title)
    for (const { path, leaf } of clients) web.replies.set(path, answering({ certificate: leaf }))
    clock.advance(MINUTE)
    clock.look()
    for (const { title, leaf } of clients) t.equal(await strict.becomes({ leaf }, title), title, title)
  })
}

for (const unknown of ['allow', 'refuse']) {
  t.test(`an OCSP response counts below every trust anchor, with unknown: ${unknown}`, async (t) => {
    const web = await serveWeb(t)
    const other = make({ ca: true, subject: 'CN=Other anchor', days: [-1, 300] })
    const access = (path: string) => ({ access: responder(web.url(path)) })
    const branch = make({ ca: true, subject: 'CN=Branch', issuer: root, extensions: access('/branch') })
    const renewed = make({ ca: true, subject: 'CN=Branch', issuer: root, like: branch, extensions: access('/renewed') })
    const elsewhere = make({ ca: true, subject: 'CN=Branch', issuer: other, like: branch, extensions: access('/elsewhere') })
    const eve = issue('Eve', branch, access('/eve'))
    for (const [path, certificate, issuer] of [['/branch', branch, root], ['/renewed', renewed, root], ['/elsewhere', elsewhere, other]] as const) web.replies.set(path, ocspResponse({ certificate, issuer, nextUpdate: HOUR }))
    const before = ocspResponse({ certificate: eve, issuer: branch, thisUpdate: -HOUR, producedAt: -HOUR, nextUpdate: DAY })
    web.replies.set('/eve', ocspResponse({ certificate: eve, issuer: branch, status: 'revoked', nextUpdate: HOUR }))
    const app = await asking(t, 'sockets', { ca: root.pem + other.pem, ocsp: true, unknown, ...allowing(web) })
    t.equal(await app.code({ leaf: eve, chain: [branch] }), REVOKED)
    web.replies.set('/eve', before)
    for (const issuer of [branch, renewed, elsewhere]) t.equal(await app.code({ leaf: eve, chain: [issuer] }), REVOKED, 'an older answer is not taken')
    await web.down()
    for (const issuer of [renewed, elsewhere, branch]) t.equal(await app.code({ leaf: eve, chain: [issuer] }), REVOKED, 'nor none')
  })
}

for (const by of WAYS) {
  t.test(`OCSP responses are kept across restarts, and verified again, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const dir = join(t.testdir({}), 'kept')
    const [jane, eve] = ['Jane', 'Eve'].map((name) => issue(name, root, { access: responder(web.url(`/${name}`)) })) as [Made, Made]
    const answers = { jane: ocspResponse({ certificate: jane, issuer: root, nextUpdate: 2 * DAY }), eve: ocspResponse({ certificate: eve, issuer: root, status: 'revoked' }) }
    const before = (certificate: Made): Buffer => ocspResponse({ certificate, issuer: root, thisUpdate: -HOUR, producedAt: -HOUR, nextUpdate: 3 * DAY })
    web.replies.set('/Jane', answers.jane).set('/Eve', answers.eve)
    const options = { ca: root.pem, ocsp: true, unknown: 'allow', dir, ...allowing(web) }
    const app = await asking(t, by, options)
    t.strictSame([await app.code({ leaf: jane }), await app.code({ leaf: eve })], ['Jane', REVOKED])
    t.match((await Promise.all([written(dir, answers.jane), written(dir, answers.eve)]))[1]!.sort(), [/^ocsp-[\da-f]{40}\.der$/, /^ocsp-[\da-f]{40}\.der$/])
    await app.app.close()

    web.replies.set('/Jane', () => undefined).set('/Eve', before(eve))
    const again = await asking(t, by, { ...options, unknown: 'refuse' })
    const start = performance.now()
    t.strictSame([await again.code({ leaf: jane }), await again.code({ leaf: eve })], ['Jane', REVOKED])
    t.ok(performance.now() - start < 2_500, 'at once')
    await again.logged(/Eve: its answer is older than the one before, which stays$/)
    await again.app.close()

    await web.down()
    const down = await asking(t, by, options)
    t.equal(await down.code({ leaf: issue('Other', root, { access: responder(web.url('/Eve')) }) }), 'Other')
    t.equal(await down.code({ leaf: eve }), REVOKED, 'also where the responder is known to be down')
    clock.advance(DAY)
    t.equal(await down.code({ leaf: eve }), REVOKED, 'and when it has ended')
    await down.app.close()

    for (const name of readdirSync(dir).filter((name) => name.startsWith('ocsp-'))) {
      const other = readFileSync(join(dir, name)).equals(answers.eve) ? answers.jane : Buffer.from('garbage')
      writeFileSync(join(dir, name), other)
    }
    const spoilt = await asking(t, by, { ...options, unknown: 'refuse' })
    t.strictSame([await spoilt.code({ leaf: jane }), await spoilt.code({ leaf: eve })], [UNKNOWN, UNKNOWN], 'only what is signed, and about that certificate')
  })
}

t.test('an older OCSP response replaces none, and a revocation holds until a newer response', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  const jane = issue('Jane', root, { access: responder(web.url('/jane')) })
  const app = await asking(t, 'sockets', { ca: root.pem, ocsp: true, unknown: 'allow', ...allowing(web) })
  const kept = agentFor(t, 'sockets')
  const before = ocspResponse({ certificate: jane, issuer: root, nextUpdate: 4 * HOUR })
  web.replies.set('/jane', before)
  t.equal(await app.code({ leaf: jane }, kept), 'Jane')
  const again = async (milliseconds: number, reply: Reply): Promise<void> => {
    const times = web.count('/jane')
    web.replies.set('/jane', reply)
    clock.advance(milliseconds)
    await app.code({ leaf: jane }, kept)
    await web.reached('/jane', times + 1)
    await web.idle()
  }
  // Responders count in seconds.
  let at: Buffer = Buffer.alloc(0)
  await again(2.1 * HOUR, () => {
    at = time(Date.now())
    return ocspResponse({ certificate: jane, issuer: root, status: 'revoked', thisUpdate: at, nextUpdate: HOUR })
  })
  t.equal(await app.becomes({ leaf: jane }, REVOKED, kept), REVOKED)

  for (const reply of [before, answering({ certificate: jane, thisUpdate: at, nextUpdate: 2 * HOUR })]) {
    await again(40 * MINUTE, reply)
    t.equal(await app.code({ leaf: jane }, kept), REVOKED, 'also by one that is still in force')
  }
  t.strictSame(app.complaints(), [`OCSP: ${web.url('/jane')}: its answer is older than the one before, which stays`])
  await web.down()
  clock.advance(2 * DAY)
  for (const options of [kept, {}]) t.equal(await app.code({ leaf: jane }, options), REVOKED, 'when its answer has ended, and nothing answers')
  await web.up()
  await again(11 * MINUTE, answering({ certificate: jane }))
  t.equal(await app.becomes({ leaf: jane }, 'Jane', kept), 'Jane', 'it was on hold')
})

for (const by of WAYS) {
  t.test(`OCSP responses are renewed at half their life, and no request waits, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const [jane, joe] = ['jane', 'joe'].map((name) => issue(name, root, { access: responder(web.url(`/${name}`)) })) as [Made, Made]
    const app = await asking(t, by, { ca: root.pem, ocsp: true, ...allowing(web) })
    const kept = agentFor(t, by)
    let answer = (): void => {}
    web.replies.set('/jane', answering({ certificate: jane }))
    t.equal(await app.code({ leaf: jane }, kept), 'jane')
    for (let times = 2; times < 5; times++) {
      web.replies.set('/jane', (_, response) => { answer = () => response.end(ocspResponse({ certificate: jane, issuer: root })); return undefined })
      clock.advance(25 * MINUTE)
      clock.look()
      t.equal(await app.code({ leaf: jane }, kept), 'jane')
      t.equal(web.count('/jane'), times - 1, 'before half its life')
      clock.advance(6 * MINUTE)
      clock.look()
      await web.reached('/jane', times)
      const start = performance.now()
      t.equal(await app.code({ leaf: jane }, kept), 'jane')
      t.ok(performance.now() - start < 2_000)
      answer()
      await web.idle()
    }
    t.equal(web.count('/jane'), 4)
    clock.advance(61 * MINUTE)
    clock.look()
    clock.look()
    t.equal(web.count('/jane'), 4, 'no client has come for an hour')

    // Of one that is good for a week, it is known half a day later that it is not any more.
    web.replies.set('/joe', answering({ certificate: joe, nextUpdate: 7 * DAY }))
    const live = await app.live({ leaf: joe })
    for (let hour = 0; hour < 12; hour++) {
      clock.advance(0.99 * HOUR)
      clock.look()
      t.equal(await app.code({ leaf: joe }, kept), 'joe')
    }
    t.equal(web.count('/joe'), 1)
    web.replies.set('/joe', answering({ certificate: joe, status: 'revoked' }))
    clock.advance(0.3 * HOUR)
    clock.look()
    t.equal(await live.closed, 1006)
    t.equal(await app.code({ leaf: joe }, kept), REVOKED)
    t.equal(web.count('/joe'), 2)
  })
}

/** What is in a directory, once this has been written. */
async function written (dir: string, content: Uint8Array): Promise<string[]> {
  for (const end = AbortSignal.timeout(20_000); ; await wait(10)) {
    const names = readdirSync(dir)
    if (names.every((name) => !name.startsWith('.')) && names.some((name) => readFileSync(join(dir, name)).equals(content))) return names
    if (end.aborted) throw new Error(`it is not in ${dir}: ${names.join(', ')}`)
  }
}

/** How a list server would name it. */
const LIST = '/partners.crl'

for (const by of WAYS) {
  t.test(`a CRL by URL is fetched at boot and before it ends, and is kept across restarts, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t, 'application/pkix-crl')
    const dir = join(t.testdir({}), 'kept')
    const [jane, joe] = [issue('Jane', root), issue('Joe', root)]
    const options = { ca: root.pem, crl: [`${web.url(LIST)}?token=secret`], dir }
    const first = makeCrl(root, { number: 1, entries: [joe], days: [-1, 0.5] })
    web.replies.set(LIST, first)
    const app = await asking(t, by, options)
    t.strictSame([await app.code({ leaf: jane }), await app.code({ leaf: joe })], ['Jane', REVOKED])
    t.strictSame(app.complaints(), [])
    const live = await app.live({ leaf: jane })
    t.match(await written(dir, first), [/^crl-[\da-f]{40}\.crl$/])

    // Half a day: again at three fifths of it at the earliest.
    clock.advance(7 * HOUR)
    clock.look()
    t.equal(web.count(LIST), 1)
    const second = makeCrl(root, { number: 2, entries: [joe, jane], days: [0, 0.5] })
    web.replies.set(LIST, second)
    clock.advance(4 * HOUR)
    clock.look()
    t.equal(await live.closed, 1006, 'before the first one has ended')
    t.equal(await app.code({ leaf: jane }), REVOKED)
    t.equal(web.count(LIST), 2)
    const kept = await written(dir, second)

    await app.app.close()
    await web.down()
    t.strictSame([lstatSync(dir).mode & 0o777, lstatSync(join(dir, kept[0]!)).mode & 0o777], [0o700, 0o600])
    const again = await asking(t, by, options)
    const third = issue('Third', root)
    t.strictSame([await again.code({ leaf: jane }), await again.code({ leaf: joe }), await again.code({ leaf: third })], [REVOKED, REVOKED, 'Third'], 'what was kept is in force')
    t.match(again.complaints(), [new RegExp(`^crl: ${web.url(LIST)}: connect ECONNREFUSED`)])
    clock.advance(DAY)
    t.strictSame([await again.code({ leaf: jane }), await again.code({ leaf: third })], [REVOKED, UNKNOWN], 'when it has ended, it only says who was revoked')

    await web.up()
    web.replies.set(LIST, makeCrl(root, { number: 3, entries: [joe], days: [0, 1] }))
    clock.look()
    t.equal(await again.becomes({ leaf: jane }, 'Jane'), 'Jane')
    await again.logged(/crl: \S+: all is well again$/)
    t.notMatch([...app.log, ...again.log].map(({ msg }) => msg).join(), 'secret')
  })

  t.test(`a CRL server that does not answer at boot is a warning, and is asked again, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const jane = issue('Jane', root)
    await web.down()
    const file = join(t.testdir({}), 'not-there-yet.crl')
    const options = { ca: root.pem, crl: [web.url(LIST), web.url(LIST), file] }
    const [strict, lenient] = [await asking(t, by, options), await asking(t, by, { ...options, unknown: 'allow' })]
    for (const app of [strict, lenient]) t.match(app.complaints(), [new RegExp(`${file}: cannot be read: ENOENT: until it is there, it says nothing`), new RegExp(`crl: ${web.url(LIST)}: connect ECONNREFUSED`)])
    const kept = agentFor(t, by)
    t.strictSame([await strict.code({ leaf: jane }, kept), await lenient.code({ leaf: jane })], [UNKNOWN, 'Jane'])
    if (strict.enabled !== undefined) t.match(strict.enabled.trust(), [{ host: '', authorities: [{ subject: 'CN=Partners', source: 'clientCertificates.ca' }], lists: [], problems: [/^crl: .*ECONNREFUSED/] }])
    await web.up()
    web.replies.set(LIST, makeCrl(root))
    clock.look()
    t.equal(web.count(LIST), 0, 'not at once')
    clock.advance(6_000)
    clock.look()
    t.equal(await strict.becomes({ leaf: jane }, 'Jane', kept), 'Jane')
    if (strict.enabled !== undefined) {
      const [trust] = strict.enabled.trust()
      t.match(trust, { lists: [{ issuer: 'CN=Partners', entries: 0, source: web.url(LIST) }], problems: [] })
      t.ok(trust!.lists[0]!.nextUpdate! > new Date() && Object.isFrozen(trust) && Object.isFrozen(trust!.lists[0]))
    }

    writeFileSync(file, pemOf('X509 CRL', makeCrl(root, { number: 2, entries: [jane], days: [0, 1] })))
    for (const app of [strict, lenient]) t.equal(await app.becomes({ leaf: jane }, REVOKED), REVOKED)
  })
}

t.test('an older CRL from a URL never replaces a newer one', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  const [jane, joe] = [issue('Jane', root), issue('Joe', root)]
  const dir = join(t.testdir({}), 'kept')
  const current = makeCrl(root, { number: 5, entries: [joe], days: [0, 1] })
  const changed = Buffer.from(current)
  changed[changed.length - 1]! ^= 1
  const options = { ca: root.pem, crl: web.url(LIST), unknown: 'allow', dir }
  web.replies.set(LIST, current)
  let app = await asking(t, 'sockets', options)
  await written(dir, current)
  const lies: Record<string, [Reply, RegExp, boolean?]> = {
    'an older list': [makeCrl(root, { number: 4, days: [-1, 2] }), /the revocation list of CN=Partners is older than the one before, which stays in force$/],
    'a list of another authority': [makeCrl(make({ ca: true, subject: 'CN=Unrelated' }), { days: [0, 2] }), /it has no revocation list that CN=Partners has signed, and the one before stays in force$/],
    'a list of a namesake': [makeCrl(other, { number: 9, days: [0, 2] }), /it has no revocation list that CN=Partners has signed, and the one before stays in force$/],
    'a newer list with a wrong signature': [makeCrl(root, { number: 9, days: [0, 2], spoil: true }), /it has no revocation list that CN=Partners has signed/],
    'a page': [Buffer.from('<html>Sign in</html>'), /holds no CRL/],
    'a piece of a list': [current.subarray(0, -2), /the CRL is not exactly as RFC 5280/],
    'nothing at all': [(_, response) => response.writeHead(503) && Buffer.alloc(0), /it answers with status 503$/, true]
  }
  for (const [title, [reply, told, isDown = false]] of Object.entries(lies)) {
    const times = web.count(LIST)
    web.replies.set(LIST, reply)
    clock.advance(21 * HOUR)
    clock.look()
    await web.reached(LIST, times + 1)
    t.match((await app.logged(told)).msg, `crl: ${web.url(LIST)}: `, title)
    await web.idle()
    t.strictSame([await app.code({ leaf: jane }), await app.code({ leaf: joe })], ['Jane', REVOKED], title)
    clock.look()
    clock.advance(20_000)
    clock.look()
    await web.idle()
    t.equal(web.count(LIST), times + (isDown ? 2 : 1), `${title}: is not fetched again at once`)
    if (title === 'an older list') {
      // Nor is it kept.
      await app.app.close()
      app = await asking(t, 'sockets', options)
      t.equal(await app.code({ leaf: joe }), REVOKED)
    }
  }
})

t.test('expired CRLs of other scopes do not displace a current one', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  const ca = make({ ca: true, subject: 'CN=Shards', days: [-9, 300] })
  const [jane, eve] = ['Jane', 'Eve'].map((name) => make({ issuer: ca, subject: `CN=${name}`, days: [-9, 300] })) as [Made, Made]
  const shard = (index: number, entries: Made[] = []): Buffer => makeCrl(ca, { number: 10 + index, days: [-8, -5], entries, idp: idp({ names: [names.uri(`http://shards.test/${index}`)] }) })
  const dir = join(t.testdir({}), 'kept')
  const options = { ca: ca.pem, crl: web.url(LIST), unknown: 'allow', dir }
  web.replies.set(LIST, makeCrl(ca, { number: 2, days: [-1, 0.02], entries: [eve] }))
  let app = await asking(t, 'a proxy', options)
  const before = makeCrl(ca, { number: 1, days: [-2, 7] })
  const next = async (list: Buffer, milliseconds: number): Promise<string> => {
    const times = web.count(LIST)
    web.replies.set(LIST, list)
    clock.advance(milliseconds)
    // What was fetched before may still be read, and its times count from then on.
    for (; web.count(LIST) === times; await wait(20)) {
      clock.look()
      clock.advance(MINUTE / 2)
    }
    await web.idle()
    await wait(50)
    return await app.code({ leaf: eve })
  }
  t.equal(await next(before, 25 * MINUTE), REVOKED)
  for (let index = 0; index < 30; index += 10) t.equal(await next(pemOfAll(...Array.from({ length: 10 }, (_, each) => shard(index + each, each < 5 ? [eve] : []))), 10 * MINUTE), REVOKED)
  t.equal(await next(pemOfAll(...Array.from({ length: 250 }, (_, each) => shard(100 + each, [jane]))), 10 * MINUTE), REVOKED, 'more than are kept')
  t.equal(await next(before, 10 * MINUTE), REVOKED)
  await app.app.close()
  app = await asking(t, 'a proxy', options)
  t.equal(await app.code({ leaf: eve }), REVOKED, 'nor in the directory')
  await next(makeCrl(ca, { number: 3, days: [0, 7] }), 10 * MINUTE)
  t.equal(await app.becomes({ leaf: eve }, 'Eve'), 'Eve', 'a newer one says that it is not so any more')
})

for (const from of ['the options', 'a certificate']) {
  t.test(`a URL of ${from} that answered with a forged CRL is asked again within a minute`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const forger = make({ ca: true, subject: 'CN=Partners' })
    const forged = makeCrl({ ...forger, keyId: root.keyId }, { entries: [] })
    web.replies.set(LIST, forged)
    const jane = issue('Jane', root, from === 'the options' ? {} : points(web.url(LIST)))
    const app = await asking(t, 'a proxy', { ca: root.pem, crl: from === 'the options' ? web.url(LIST) : 'distribution-points', ...allowing(web) })
    t.equal(await app.code({ leaf: jane }), UNKNOWN)
    await web.idle()
    web.replies.set(LIST, makeCrl(root))
    clock.advance(50_000)
    clock.look()
    t.strictSame([await app.code({ leaf: jane }), web.count(LIST)], [UNKNOWN, 1])
    clock.advance(11_000)
    if (from === 'the options') clock.look()
    t.equal(await app.becomes({ leaf: jane }, 'Jane'), 'Jane')
    t.equal(web.count(LIST), 2)
  })
}

t.test('a CRL without nextUpdate is fetched every hour', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  web.replies.set(LIST, makeCrl(root, { days: [-1, undefined] }))
  const app = await asking(t, 'a proxy', { ca: root.pem, crl: web.url(LIST) })
  t.equal(await app.code({ leaf: issue('Jane', root) }), 'Jane')
  await web.idle()
  for (const [milliseconds, times] of [[0.9 * HOUR, 1], [0.2 * HOUR, 2]] as const) {
    clock.advance(milliseconds)
    clock.look()
    await web.reached(LIST, times)
    await web.idle()
    t.equal(web.count(LIST), times)
  }
})

t.test('a cached CRL in PEM is read, whatever text it begins with', async (t) => {
  const web = await serveWeb(t)
  const jane = issue('Jane', root)
  const dir = join(t.testdir({}), 'kept')
  const list = Buffer.concat([Buffer.from('0 revoked\n'), pemOfAll(makeCrl(root))])
  web.replies.set(LIST, list)
  const options = { ca: root.pem, crl: web.url(LIST), dir }
  const app = await asking(t, 'a proxy', options)
  await written(dir, list)
  await app.app.close()
  await web.down()
  t.equal(await (await asking(t, 'a proxy', options)).code({ leaf: jane }), 'Jane')
})

const pemOfAll = (...lists: Buffer[]): Buffer => Buffer.from(lists.map((list) => pemOf('X509 CRL', list)).join(''))

/** Names lists (RFC 5280 §4.2.1.13), each a mirror of the others. */
const points = (...urls: string[]) => ({ points: distributionPoints([{ names: urls.map((url) => names.uri(url)) }]) })

/** What `openssl ca -gencrl` makes of an authority whose certificates were revoked. */
function opensslList (t: Test, issuer: Made, revoked: readonly Made[]): Buffer {
  const dir = t.testdir({
    'ca.pem': issuer.pem,
    'ca.key': identityOf(issuer).key,
    'index.txt': '',
    crlnumber: '01\n',
    'ca.cnf': '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=7\ncertificate=ca.pem\nprivate_key=ca.key\n'
  })
  const openssl = opensslIn(dir)
  for (const [index, { pem }] of revoked.entries()) {
    writeFileSync(join(dir, `${index}.pem`), pem)
    openssl('ca', '-config', 'ca.cnf', '-revoke', `${index}.pem`)
  }
  openssl('ca', '-config', 'ca.cnf', '-gencrl', '-out', 'list.pem')
  return readFileSync(join(dir, 'list.pem'))
}

for (const by of WAYS) {
  t.test(`CRLs that certificates name are fetched once the path is verified, and kept across restarts, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const [web, dead] = [await serveWeb(t), await serveWeb(t)]
    dead.replies.set('/branch', () => undefined)
    const branch = make({ ca: true, issuer: root, subject: 'CN=Branch', extensions: points(web.url('/root')) })
    const closed = make({ ca: true, issuer: root, subject: 'CN=Closed', extensions: points(web.url('/root')) })
    const extensions = points('ldap://localhost/branch', dead.url('/branch'), web.url('/branch'))
    const [jane, joe, june] = [issue('Jane', branch, extensions), issue('Joe', branch, extensions), issue('June', closed, extensions)]
    const chains = { jane: { leaf: jane, chain: [branch] }, joe: { leaf: joe, chain: [branch] }, june: { leaf: june, chain: [closed] } }
    const lists = { root: makeCrl(root, { entries: [closed], idp: idp({ authorities: true }), days: [-1, 30] }), branch: opensslList(t, branch, [joe]) }
    web.replies.set('/root', lists.root).set('/branch', lists.branch)
    const dir = join(t.testdir({}), 'kept')
    const options = { ca: root.pem, crl: 'distribution-points', dir, allow: ['127.0.0.0/8', `127.0.0.1:${web.port}`, `[127.0.0.1]:${dead.port}`] }
    const app = await asking(t, by, options)
    t.equal(web.asked.length, 0)
    const start = performance.now()
    t.equal(await app.code(chains.jane), 'Jane', 'at once, though no list of theirs was known')
    t.ok(performance.now() - start < 2_500, 'one of several that answers is enough')
    t.strictSame([await app.code(chains.joe), await app.code(chains.june), await app.code(chains.jane)], [REVOKED, REVOKED, 'Jane'])
    t.strictSame([web.count('/root'), web.count('/branch')], [1, 1])
    t.strictSame(app.complaints(), [])
    await Promise.all([written(dir, lists.root), written(dir, lists.branch)])

    await app.app.close()
    await dead.idle() // what is under way ends with the app
    await Promise.all([web.down(), dead.down()])
    const again = await asking(t, by, options)
    const third = issue('Third', branch, extensions)
    t.strictSame([await again.code({ leaf: third, chain: [branch] }), await again.code(chains.joe)], ['Third', REVOKED], 'what was kept is in force')

    // No certificate names them any more.
    clock.advance(27 * HOUR)
    clock.look()
    t.strictSame([await again.code({ leaf: third, chain: [branch] }), await again.code(chains.joe)], ['Third', REVOKED], 'they are kept until they have ended')
    clock.advance(7 * DAY)
    clock.look()
    t.strictSame([await again.code({ leaf: third, chain: [branch] }), await again.code(chains.joe), await again.code(chains.june)], [UNKNOWN, REVOKED, REVOKED], 'and then for who was revoked')
    t.equal(readdirSync(dir).filter((name) => name.startsWith('crl-')).length, 2)
    t.strictSame(again.complaints().filter((complaint) => complaint.startsWith('crl: ')).map((complaint) => complaint.replace(/ [\d.:]+$/, '')).sort(), [web.url('/branch'), web.url('/root'), dead.url('/branch')].map((url) => `crl: ${url}: connect ECONNREFUSED`).sort())
  })

  t.test(`nothing is fetched for a certificate without a valid path, by ${by}`, async (t) => {
    const web = await serveWeb(t)
    const extensions = { access: responder(web.url('/ocsp')), ...points(web.url('/crl')) }
    const app = await asking(t, by, { ca: root.pem, ocsp: true, crl: 'distribution-points', allow: ['127.0.0.1', `127.0.0.1:${web.port}`] })
    const own = make({ subject: 'CN=Jane', extensions })
    t.equal(await app.code({ leaf: own }), '403 CERTIFICATE_UNTRUSTED', 'self-made')
    t.equal(await app.code({ leaf: issue('Jane', other, extensions) }), '403 CERTIFICATE_UNTRUSTED', 'by a namesake')
    t.equal(await app.code({ leaf: issue('Jane', other, extensions), chain: [other] }), '403 CERTIFICATE_UNTRUSTED', 'which is sent along')
    t.equal(await app.code({ leaf: make({ issuer: root, subject: 'CN=Jane', days: [-2, -1], extensions }) }), '403 CERTIFICATE_EXPIRED')
    t.match(await app.code({ leaf: issue('Jane', root, { ...extensions, purposes: purposes(SERVER) }) }), '403 CERTIFICATE_INVALID')
    t.strictSame(web.asked, [])
    t.equal(await app.code({ leaf: issue('Jane', root, extensions) }), UNKNOWN)
    t.strictSame(web.asked.sort(), ['/crl', '/ocsp'])
  })
}

t.test('URLs in certificates lead to no private address that is not allowed', async (t) => {
  const web = await serveWeb(t)
  const url = web.url('/partners')
  const leaf = issue('Jane', root, { access: responder(`${url}?secret`), ...points(`${url}?secret`) })
  web.replies.set('/partners', makeCrl(root)).set('/crl', makeCrl(other)).set('/ocsp', answering({ certificate: leaf }))
  const both = { ca: root.pem, ocsp: true, crl: ['distribution-points'] }
  const said = async (options: object): Promise<[string, string[], string[]]> => {
    web.asked.length = 0
    const app = await asking(t, 'sockets', options as Record<string, unknown>)
    return [await app.code({ leaf }), app.complaints().sort(), [...web.asked]]
  }
  t.strictSame(await said(both), [UNKNOWN, [`OCSP: ${url}: port ${web.port} is not allowed`, `crl: ${url}: port ${web.port} is not allowed`], []])
  t.strictSame(await said({ ...both, unknown: 'allow' }), ['Jane', [`OCSP: ${url}: port ${web.port} is not allowed`, `crl: ${url}: port ${web.port} is not allowed`], []], 'what cannot be asked is not waited for')
  const secret = issue('Joe', root, { access: responder(url.replace('//', '//joe:secret@')) })
  const hiding = await asking(t, 'sockets', { ca: root.pem, ocsp: true, ...allowing(web) })
  t.strictSame([await hiding.code({ leaf: secret }), hiding.complaints()], [UNKNOWN, [`OCSP: ${url}: it has a user name or a password`]])
  const inside = '127.0.0.1 is not a public address'
  t.strictSame(await said({ ...both, allow: [`lists.test:${web.port}`] }), [UNKNOWN, [`OCSP: ${url}: ${inside}`, `crl: ${url}: ${inside}`], []])
  const [code, complaints, asked] = await said({ ...both, crl: [web.url('/crl'), 'distribution-points'] })
  t.strictSame([code, complaints.toSpliced(1, 1), asked], [UNKNOWN, [`OCSP: ${url}: port ${web.port} is not allowed`, `crl: ${url}: port ${web.port} is not allowed`], ['/crl']], 'a URL of the administrator opens its host to no other')
  t.match(complaints[1], /it has a revocation list that is signed by no authority which is known: nothing is concluded from it yet$/)
  t.strictSame(await said({ ...both, ocsp: { url: web.url('/ocsp') } }), ['Jane', [`crl: ${url}: port ${web.port} is not allowed`], ['/ocsp']])
  t.strictSame(await said({ ...both, ocsp: false, allow: ['127.0.0.0/8', `[127.0.0.0/8]:${web.port}`] }), ['Jane', [], ['/partners?secret']])
})

const shared = make({ ca: true, subject: 'CN=Shared', days: [-1, 300] })
for (const [where, above] of [['with a root of its own', undefined], ['below the same root, by CAs without end', shared]] as const) {
  t.test(`a thousand URLs of one client CA take nothing from another: ${where}`, async (t) => {
    const web = await serveWeb(t)
    const mallory = make({ ca: true, subject: 'CN=Mallory', issuer: above, days: [-1, 300] })
    const partner = above === undefined ? root : make({ ca: true, subject: 'CN=Partner', issuer: above, days: [-1, 300] })
    const urls = Array.from({ length: 1_000 }, (_, index) => web.url(`/mallory/${index}`))
    const app = await asking(t, 'a proxy', { ca: above === undefined ? root.pem + mallory.pem : above.pem, ocsp: true, crl: 'distribution-points', unknown: 'allow', ...allowing(web) })
    let most = 0
    for (let index = 0; index < 1_000; index++) web.replies.set(`/mallory/${index}`, () => { most = Math.max(most, web.open.size); return undefined })
    // Of each of its clients other ones, in headers that a proxy would take.
    const waiting = Array.from({ length: 40 }, (_, index) => {
      const issuer = above === undefined ? mallory : make({ ca: true, subject: `CN=Mallory ${index} CA`, issuer: mallory, days: [-1, 300] })
      return app.code({ leaf: issue(`Mallory ${index}`, issuer, { access: responder(`${urls[index]!}?ocsp`), ...points(...urls.slice(25 * index, 25 * (index + 1))) }), chain: above === undefined ? [] : [issuer, mallory] })
    })
    await web.reached('/mallory/0')
    const jane = issue('Jane', partner, { access: responder(web.url('/ocsp')), ...points(web.url('/crl')) })
    web.replies.set('/crl', makeCrl(partner)).set('/ocsp', answering({ certificate: jane, issuer: partner }))
    const start = performance.now()
    t.equal(await app.code({ leaf: jane, chain: above === undefined ? [] : [partner] }), 'Jane')
    t.ok(performance.now() - start < 2_500)
    t.strictSame([web.count('/crl'), web.count('/ocsp')], [1, 1])
    t.strictSame(await Promise.all(waiting), waiting.map((_, index) => `Mallory ${index}`))
    t.ok(most <= 4, `${most} at once`)
    t.strictSame(app.complaints().sort(), ['OCSP: below CN=Mallory: certificates name more than 100 URLs, and no others are asked', 'crl: below CN=Mallory: certificates name more than 100 URLs, and no others are fetched'])
  })
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${version}: after a restart, a client that resumes its session is valid at once, as its intermediates are kept`, async (t) => {
    const dir = join(t.testdir({}), 'kept')
    const branch = make({ ca: true, issuer: root, subject: 'CN=Branch' })
    const deeper = make({ ca: true, issuer: branch, subject: 'CN=Deeper' })
    const client = { leaf: issue('Jane', deeper), chain: [branch, deeper] }
    const start = async () => await asking(t, 'sockets', { ca: [root.pem, other.pem], dir }, { sessions: { secret: Buffer.alloc(32, 1) } })
    /** On a connection of its own, which may resume another one. */
    const once = async (app: Asking, session?: Buffer) => {
      const agent = new https.Agent({ keepAlive: true })
      t.teardown(() => agent.destroy())
      let [ticket, isReused] = [Buffer.alloc(0) as Buffer, false]
      const createConnection = agent.createConnection.bind(agent) as (...all: unknown[]) => TLSSocket
      Object.assign(agent, {
        createConnection (...all: unknown[]) {
          const socket = createConnection(...all)
          socket.on('session', (given) => { ticket = given }).on('secureConnect', () => { isReused = socket.isSessionReused() })
          return socket
        }
      })
      const code = await app.code(client, { agent, minVersion: version, maxVersion: version, ...session && { session } })
      return { code, ticket, isReused }
    }
    const app = await start()
    const first = await once(app)
    t.strictSame([first.code, first.isReused], ['Jane', false])
    const name = `intermediates-${root.certificate.fingerprint256.replaceAll(':', '').toLowerCase()}.pem`
    t.strictSame(await written(dir, Buffer.from(branch.pem + deeper.pem)), [name])
    await app.app.close()

    const again = await start()
    for (let twice = 0; twice < 2; twice++) {
      const { code, isReused } = await once(again, first.ticket)
      t.strictSame([code, isReused], ['Jane', true])
    }
    await again.app.close()

    // What cannot be read is learnt anew.
    for (const content of ['', 'garbage', branch.pem.slice(0, 100)]) {
      writeFileSync(join(dir, name), content)
      const app = await start()
      t.strictSame([(await once(app, first.ticket)).code, (await once(app)).code, (await once(app, first.ticket)).code], ['421 MISDIRECTED', 'Jane', 'Jane'], content)
      await written(dir, Buffer.from(branch.pem + deeper.pem))
      await app.app.close()
    }
  })
}

t.test('invalid options of revocation by network are errors without secrets', async (t) => {
  const refused: Array<[object, RegExp]> = [
    [{ crl: 'http://jane:secret@lists.test/a.crl' }, /crl: this URL is not allowed; allowed: 'http:\/\/host\/path' or 'https:\/\/host\/path', without user name and password$/],
    [{ crl: ['https://secret@lists.test/a.crl'] }, /crl: this URL is not allowed/],
    [{ crl: 'http://' }, /crl: this URL is not allowed/],
    [{ crl: 'http://lists~test/' }, /crl: this URL is not allowed/],
    [{ crl: 'ldap://lists.test/secret' }, /crl: a URL of the scheme 'ldap' is not allowed; allowed: http and https$/],
    [{ crl: 'file:///secret' }, /crl: a URL of the scheme 'file' is not allowed/],
    [{ crl: 'distribution points' }, /crl: 'distribution points' is not allowed; allowed: 'distribution-points'$/],
    [{ crl: 'DistributionPoint' }, /crl: 'DistributionPoint' is not allowed; allowed: 'distribution-points'$/],
    [{ crl: '' }, /crl: '' is not allowed/],
    [{ ocsp: { url: 'http://:secret@ocsp.test/' } }, /ocsp: url: this URL is not allowed/],
    [{ ocsp: { url: 'ocsp.test' } }, /ocsp: url: this URL is not allowed/],
    [{ ocsp: { url: 'ftp://ocsp.test/' } }, /ocsp: url: this URL is not allowed/],
    [{ ocsp: 'yes' }, /ocsp: 'yes' is not allowed; allowed: true or false/],
    [{ ocsp: {} }, /ocsp: url is missing/],
    [{ unknown: 'maybe' }, /unknown: 'maybe' is not allowed; allowed: 'refuse', 'allow'/],
    [{ dir: '' }, /dir: '' is not allowed; allowed: the path of a directory of our own$/],
    [{ allow: ['10.0.0.0/99'] }, /allow: '10\.0\.0\.0\/99' is not allowed; allowed: addresses and networks/],
    [{ allow: ['lists.test', '*'] }, /allow: '\*' is not allowed/],
    [{ allow: 'lists.test' }, /allow: 'lists\.test' is not allowed/]
  ]
  for (const by of WAYS) {
    for (const [options, message] of refused) {
      const error = await asking(t, by, { ca: root.pem, ...options }).then(() => undefined, (error: Error) => error)
      t.match(error, { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message }, JSON.stringify(options))
      t.notMatch(String(error?.message), /secret/)
    }
    const file = join(t.testdir({ file: '' }), 'file')
    await t.rejects(asking(t, by, { ca: root.pem, dir: file }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: new RegExp(`^(?:clientCertificates|proxy)\\.dir: ${file} cannot be used: it is not a directory$`) })
  }
  for (const option of ['ocsp', 'unknown', 'dir', 'allow']) {
    const options = { trust: 'loopback', certificate: 'nginx', [option]: { ocsp: true, unknown: 'allow', dir: 'kept', allow: [] }[option] }
    await t.rejects(async () => await Fastify().register(httpSecurity, { proxy: options } as never), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: new RegExp(`proxy: ${option} has no effect: the proxy verifies these certificates`) })
  }
})

for (const by of WAYS) {
  t.test(`an admitted WebSocket goes on while its revocation status is fetched again, by ${by}`, async (t) => {
    const clock = moveClock(t)
    const web = await serveWeb(t)
    const jane = issue('Jane', root, { access: responder(web.url('/jane')) })
    const app = await asking(t, by, { ca: root.pem, ocsp: true, ...allowing(web) })
    web.replies.set('/jane', answering({ certificate: jane }))
    const live = await app.live({ leaf: jane })
    const answer = app.get('/slow', { leaf: jane })
    while (app.slow.length === 0) await wait(10)

    let release = (): void => {}
    web.replies.set('/jane', (_, response) => { release = () => response.end(ocspResponse({ certificate: jane, issuer: root })); return undefined })
    // Nothing has looked at it for so long that its answer has ended.
    clock.advance(61 * MINUTE)
    await web.reached('/jane', 2)
    t.match(await app.get('/tls', { leaf: jane }), { body: /"isValid":false/ }, 'it is not known')
    await wait(1_100) // two looks
    release()
    await web.idle()
    clock.advance(15_000)
    t.equal(await Promise.race([live.closed, wait(700, 'open')]), 'open')
    app.slow[0]!()
    t.match(await answer, { status: 200, body: 'at last' })
    t.equal(await app.code({ leaf: jane }), 'Jane')
    await web.down()
    clock.advance(61 * MINUTE)
    t.equal(await live.closed, 1006, 'what is not known in the end is refused')
  })
}

t.test('the log says that a fetched CRL has ended, cannot be used, or is damaged in the cache', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  const dir = join(t.testdir({}), 'kept')
  const [jane, joe] = [issue('Jane', root), issue('Joe', root)]
  const ended = makeCrl(root, { number: 1, entries: [joe], days: [-2, -1] })
  const indirect = makeCrl(root, { entries: [jane, joe], idp: idp({ indirect: true }) })
  web.replies.set(LIST, ended).set('/indirect', indirect)
  const options = { ca: root.pem, crl: [web.url(LIST), web.url('/indirect')], dir }
  const app = await asking(t, 'a proxy', options)
  t.strictSame([await app.code({ leaf: jane }), await app.code({ leaf: joe })], [UNKNOWN, REVOKED])
  t.match(app.complaints().sort(), [
    `crl: ${web.url('/indirect')}: the revocation list of CN=Partners is not used (it is an indirect CRL, which may list certificates of other issuers)`,
    new RegExp(`^http-security: ${web.url(LIST)}: the revocation list of CN=Partners is out of date since .*: of its certificates, it only says which are revoked$`)
  ])
  const [, names] = await Promise.all([written(dir, ended), written(dir, indirect)])
  clock.advance(30_000)
  clock.look()
  t.equal(web.count(LIST), 1)
  clock.advance(31_000)
  clock.look()
  await web.reached(LIST, 2)
  await app.app.close()

  const spoilt = t.testdir(Object.fromEntries(names.map((name) => [name, 'garbage'])))
  await web.down()
  const again = await asking(t, 'a proxy', { ...options, dir: spoilt })
  t.equal(await again.code({ leaf: joe }), UNKNOWN)
  t.strictSame(again.complaints().sort().map((complaint) => complaint.replace(/ [\d.:]+$/, '')), [
    ...['/indirect', LIST].map((path) => `crl: a copy of what was fetched is not used: ${web.url(path)}: holds no CRL ("-----BEGIN X509 CRL-----", or DER)`),
    ...['/indirect', LIST].map((path) => `crl: ${web.url(path)}: connect ECONNREFUSED`)
  ])
})

t.test('a cached CRL is used at once where its server does not answer', async (t) => {
  const web = await serveWeb(t)
  const dir = join(t.testdir({}), 'kept')
  const list = makeCrl(root)
  const jane = issue('Jane', root, points(web.url('/found')))
  web.replies.set(LIST, list).set('/found', list)
  const options = { ca: root.pem, crl: [web.url(LIST), 'distribution-points'], dir, ...allowing(web) }
  for (const reply of [list, () => undefined]) {
    const start = performance.now()
    web.replies.set(LIST, reply).set('/found', reply)
    const app = await asking(t, 'a proxy', options)
    t.equal(await app.code({ leaf: jane }), 'Jane')
    t.ok(performance.now() - start < 2_500)
    t.strictSame(app.complaints(), [])
    while (readdirSync(dir).filter((name) => /^crl/.test(name)).length < 2) await wait(10)
    await app.app.close()
    await web.idle()
  }
})

t.test('a cache directory that cannot be used is a warning, at boot and later', async (t) => {
  const dir = join(t.testdir({ kept: {} }), 'kept')
  const name = `intermediates-${root.certificate.fingerprint256.replaceAll(':', '').toLowerCase()}.pem`
  mkdirSync(join(dir, name))
  const branch = make({ ca: true, issuer: root, subject: 'CN=Branch' })
  const app = await asking(t, 'a proxy', { ca: root.pem, dir })
  t.strictSame(app.complaints(), [`${join(dir, name)} is not used: it is not a regular file`])
  t.equal(await app.code({ leaf: issue('Jane', branch), chain: [branch] }), 'Jane')
  await app.logged(new RegExp(`proxy: ${join(dir, name)} cannot be written, and will be missing after a restart: `))
})

t.test('a rule that asks for the label of a path whose OCSP answer has ended waits for the next one, and a WebSocket goes on', async (t) => {
  const clock = moveClock(t)
  const web = await serveWeb(t)
  const serverCa = await authority('S', [-1, 300])
  const server = await issueServer(serverCa, ['localhost'], { days: [-1, 300] })
  const caOf = (subject: string, issuer?: Made, more: object = {}): Made => make({ ca: true, subject, days: [-1, 300], ...issuer && { issuer }, ...more })
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a, { extensions: { access: responder(web.url('/byA')) } })
  const byB = caOf('CN=Shared', b, { like: byA, extensions: { access: responder(web.url('/byB')) } })
  const jane = make({ issuer: byA, subject: 'CN=Jane', days: [-1, 300], extensions: { access: responder(web.url('/jane')) } })
  web.replies.set('/jane', () => ocspResponse({ certificate: jane, issuer: byA, nextUpdate: 100 * HOUR }))
  web.replies.set('/byA', () => ocspResponse({ certificate: byA, issuer: a, nextUpdate: 100 * HOUR }))
  const held: Array<() => void> = []
  let isHeld = false
  web.replies.set('/byB', (_body, response) => {
    const bytes = ocspResponse({ certificate: byB, issuer: b, nextUpdate: HOUR })
    if (isHeld) held.push(() => response.end(bytes))
    return isHeld ? undefined : bytes
  })
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { a: a.pem, b: b.pem }, ocsp: true, allow: [`127.0.0.1:${web.port}`] } })
  t.teardown(() => tls.close())
  const app = Fastify({ https: tls.https, forceCloseConnections: true } as never) as unknown as FastifyInstance
  await app.register(httpSecurity, { tls })
  await app.register(websocket)
  const rule = { level: 'mtls', kind: 'rest', allow: [{ issuedBy: 'b' }] } as const
  app.get('/', { httpSecurity: rule }, async () => 'in')
  app.get('/live', { websocket: true, httpSecurity: rule } as object, ((socket: { on (event: string, listener: (data: unknown) => void): void, send (data: string): void }) => { socket.on('message', (data) => { socket.send(String(data)) }) }) as never)
  const port = await listenOnFreePort(t, app)
  // Who is suspended is known by the label that is waited for.
  const suspending = Fastify({ https: tls.https, forceCloseConnections: true } as never) as unknown as FastifyInstance
  const isJane = { subject: { CN: 'Jane' } }
  await suspending.register(httpSecurity, { tls, clients: { clients: { good: { certificates: [isJane] }, bad: { suspended: true, certificates: [{ ...isJane, issuedBy: 'b' }] } } } })
  suspending.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['good'] } }, async () => 'in')
  const otherPort = await listenOnFreePort(t, suspending)
  const identity = { ca: serverCa.cert, cert: jane.pem + byA.pem + byB.pem, key: jane.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
  const wire = await connectWire(t, { port, ...identity })
  t.equal(outcomeOf(await wire.get('/')), '200', 'the first request waits, too')
  const suspended = await connectWire(t, { port: otherPort, ...identity })
  t.equal(outcomeOf(await suspended.get('/')), '403 CERTIFICATE_NOT_ALLOWED')
  const socket = await openSocket(t, `wss://localhost:${port}/live`, identity)
  isHeld = true
  clock.advance(2 * HOUR)
  clock.look()
  const [answer, refusal] = [wire.get('/'), suspended.get('/')]
  t.ok(await until(() => held.length > 0), 'the responder is asked again')
  t.equal(await echoed(socket), 'hello')
  isHeld = false
  for (const go of held) go()
  t.equal(outcomeOf(await answer), '200')
  t.equal(outcomeOf(await refusal), '403 CERTIFICATE_NOT_ALLOWED', 'nor does a suspended client get in meanwhile')
  t.equal(await echoed(socket), 'hello')
})
