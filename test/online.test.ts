/**
 * Revocation that is asked of the network: OCSP responders and list servers that are down, slow, stale or lying.
 */
import http from 'node:http'
import https from 'node:https'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Draft, type Made, make, names, pemOf } from './fixtures/chains.ts'
import { distributionPoints, makeCrl } from './fixtures/crls.ts'
import { type OcspDraft, askOpensslOcsp, failure, ocspResponse } from './fixtures/ocsp.ts'
import { type By, type Client, type Web, WAYS, asking, moveClock, responder, serveWeb } from './fixtures/online.ts'
import { spawnSync } from 'node:child_process'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
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
/** What it was asked for: the nonce of a request is its last 32 octets. */
const allowing = (web: Web) => ({ allow: [`127.0.0.1:${web.port}`] })

for (const by of WAYS) {
  t.test(`the openssl program says of a certificate that it is good, revoked or unknown, to ${by}`, { skip: spawnSync('openssl', ['version']).error !== undefined ? 'there is no openssl' : false }, async (t) => {
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
      t.strictSame([await app.code({ leaf: good }), await app.code({ leaf: deep, chain: [branch] })], ['Good', 'Deep'])
      t.equal(web.asked.length, asked, 'what is known is not asked for again')
    }
  })

  t.test(`the administrator's responder is asked about every certificate, wherever it is, by ${by}`, async (t) => {
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

  t.test(`a responder that is down when a client comes is asked again, and its answer counts on connections that are there, of ${by}`, async (t) => {
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
