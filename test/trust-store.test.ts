/**
 * Who is trusted, and who was revoked, as a client meets it: one store of trust, for sockets and for proxies alike.
 */
import crypto, { X509Certificate } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseCrl } from '../lib/x509/crl.ts'
import { PathVerifier } from '../lib/x509/path-validation.ts'
import { resolveTrustOptions } from '../lib/trust/options.ts'
import { ClientTrust } from '../lib/trust/client-trust.ts'
import { Intermediates } from '../lib/trust/intermediates.ts'
import { noPeerCertificate, peerCertificate, refusalOfDates } from '../lib/trust/peer-certificate.ts'
import type { OcspAnswers, OcspStatus } from '../lib/trust/revocation.ts'
import { holds } from '../lib/trust/peer-certificate.ts'
import { type TrustContent, TrustStore } from '../lib/trust/store.ts'
import { constraints, CERTIFIES, entry, extension, LISTS, type Made, make, nameConstraints, names, reason, text, usage, identityOf } from './fixtures/chains.ts'
import { crlPem, distributionPoints, idp, makeCrl, spelledOut } from './fixtures/crls.ts'
import { issueServer, authority } from './fixtures/pki.ts'
import { DAY, until } from './fixtures/time.ts'
import { serveTrust } from './fixtures/trust.ts'
import { certificatesOf } from './fixtures/verified.ts'
import { connectWire } from './fixtures/wire.ts'
import { parseCertificate, der, tags } from './fixtures/x509.ts'

/** The end of a certificate, or its beginning. */
const endOf = ({ certificate }: Made): number => Date.parse(certificate.validTo)
const startOf = ({ certificate }: Made): number => Date.parse(certificate.validFrom)

interface Given {
  cas: readonly Made[]
  lists?: readonly Buffer[]
  unknown?: 'refuse' | 'allow'
  /** By default, where there is a list. */
  isRevocationChecked?: boolean
  intermediates?: Intermediates
  ocsp?: OcspAnswers
}

async function contentOf ({ cas, lists = [], unknown = 'refuse', isRevocationChecked = lists.length > 0 }: Given): Promise<TrustContent> {
  return { cas: certificatesOf(cas), crls: await Promise.all(lists.map(async (list) => await parseCrl(list))), isRevocationChecked, unknown }
}

async function storeOf (given: Given): Promise<TrustStore> {
  return new TrustStore(await contentOf(given), given)
}

/** What a client is told that waits where it has to. */
async function wordOf (store: TrustStore, leaf: Made, others: readonly Made[] = [], now = Date.now()): Promise<string> {
  for (let rounds = 0; rounds < 5; rounds++) {
    const { error, pending } = store.judge(leaf.certificate, certificatesOf(others), now)
    if (pending === undefined) return error ?? 'valid'
    await pending
  }
  throw new Error('it waits for ever')
}

async function wordsOf (given: Given, leaves: readonly Made[], others: readonly Made[] = [], now?: number): Promise<string[]> {
  const store = await storeOf(given)
  return await Promise.all(leaves.map(async (leaf) => await wordOf(store, leaf, others, now)))
}

const root = make({ ca: true, subject: 'CN=Root' })
const rootList = makeCrl(root)
const under = (subject: string, draft: Parameters<typeof make>[0] = {}): Made => make({ ca: true, subject, issuer: root, ...draft })

/** An authority that has changed its key, and has certified one with the other (RFC 4210 §4.4). */
function rollover (draft: Parameters<typeof make>[0] = {}) {
  const [before, after] = [under('CN=Issuer', draft), under('CN=Issuer', draft)]
  return {
    before,
    after,
    beforeByAfter: make({ ca: true, subject: 'CN=Issuer', like: before, issuer: after }),
    afterByBefore: make({ ca: true, subject: 'CN=Issuer', like: after, issuer: before })
  }
}

t.test('a CA that changes its key may have one CRL, signed by either key', async (t) => {
  const { before, after, beforeByAfter, afterByBefore } = rollover()
  const [jane, joe] = [make({ issuer: before }), make({ issuer: after })]
  const [lateJane, lateJoe] = [make({ issuer: before }), make({ issuer: after })]
  const all = [jane, joe, lateJane, lateJoe]
  const given = (signer: Made, ...cas: Made[]) => ({ cas: [root, ...cas], lists: [rootList, makeCrl(signer, { entries: [lateJane, lateJoe] })] })
  const expected = ['valid', 'valid', 'CERT_REVOKED', 'CERT_REVOKED']
  for (const [what, signer] of [['the new', after], ['the old', before]] as const) {
    t.strictSame(await wordsOf(given(signer, before, after), all), expected, `${what} one, both certificates are configured`)
    const store = await storeOf(given(signer))
    t.equal(await wordOf(store, make({ issuer: signer }), [signer]), 'valid', `${what} one, whose certificate has come with another client`)
    t.strictSame(await Promise.all(all.map(async (leaf) => await wordOf(store, leaf, [before, after]))), expected, what)
  }
  // PKITS 4.5.1 and 4.5.4: the client sends what the one key says of the other
  t.strictSame(await wordsOf(given(after), [jane, lateJane], [beforeByAfter, after]), ['valid', 'CERT_REVOKED'], 'old with new')
  t.strictSame(await wordsOf(given(before), [joe, lateJoe], [afterByBefore, before]), ['valid', 'CERT_REVOKED'], 'new with old')
  t.strictSame(await wordsOf(given(after), [jane], [before]), ['CRL_SIGNATURE_FAILURE'], 'not by a key that is not known')

  // PKITS 4.6.15 and 4.6.17: what an authority issues to itself does not count among those below it
  const last = rollover({ extensions: { constraints: constraints(true, 0) } })
  t.strictSame(await wordsOf(given(last.before), [make({ issuer: last.after })], [last.afterByBefore, last.before]), ['valid'])
  // PKITS 4.13.19: nor is its own name bound by what it may issue for
  const bound = rollover({ extensions: { limits: nameConstraints({ excluded: [names.dir('CN=Issuer')] }) } })
  t.strictSame(await wordsOf(given(bound.before), [make({ issuer: bound.after, subject: 'CN=Jane' })], [bound.afterByBefore, bound.before]), ['valid'])
})

t.test('the CRL of a CA with the same name below another trust anchor does not count', async (t) => {
  const other = make({ ca: true, subject: 'CN=Other' })
  const [own, namesake] = [under('CN=Issuer'), make({ ca: true, subject: 'CN=Issuer', issuer: other })]
  const [jane, joe] = [make({ issuer: own }), make({ issuer: own })]
  const hostile = makeCrl(namesake, { entries: [jane] })
  const cas = [root, other, own, namesake]
  t.strictSame(await wordsOf({ cas, lists: [rootList, hostile] }, [jane, joe]), ['CRL_SIGNATURE_FAILURE', 'CRL_SIGNATURE_FAILURE'], 'it lets nobody in')
  t.strictSame(await wordsOf({ cas, lists: [rootList, makeCrl(own, { entries: [joe] }), hostile] }, [jane, joe]), ['valid', 'CERT_REVOKED'], 'and revokes nobody')
  const anew = make({ ca: true, subject: 'CN=Root' })
  t.strictSame(await wordsOf({ cas: [root, anew], lists: [makeCrl(anew)] }, [make({ issuer: root })]), ['CRL_SIGNATURE_FAILURE'], 'nor does that of a new root of the same name, which the old one has not certified')
  const certified = make({ ca: true, subject: 'CN=Root', like: anew, issuer: root })
  t.strictSame(await wordsOf({ cas: [root, anew, certified], lists: [makeCrl(anew)] }, [make({ issuer: root })]), ['valid'])
  const mute = under('CN=Mute', { extensions: { usage: usage(CERTIFIES) } })
  t.strictSame(await wordsOf({ cas: [root, mute], lists: [rootList, makeCrl(mute)] }, [make({ issuer: mute })]), ['KEYUSAGE_NO_CRL_SIGN'], 'nor that of an authority that may sign none')
})

t.test('a judgement ends where the path of the CRL\'s signer ends', async (t) => {
  const [before, after] = [under('CN=Issuer'), under('CN=Issuer', { days: [-1, 3] })]
  const store = await storeOf({ cas: [root, before, after], lists: [rootList, makeCrl(after)] })
  const jane = make({ issuer: before })
  t.equal(await wordOf(store, jane), 'valid')
  t.equal(store.judge(jane.certificate, [], Date.now()).until, endOf(after))
  t.equal(await wordOf(store, jane, [], endOf(after) + 1), 'CRL_SIGNATURE_FAILURE')
})

t.test('the CRL of a revoked CA admits no client, and still revokes', async (t) => {
  const { before, after } = rollover()
  const [jane, joe] = [make({ issuer: after }), make({ issuer: after })]
  const old = makeCrl(before, { entries: [joe] })
  const revoking = (...entries: Made[]) => makeCrl(root, { entries })
  const cas = [root, before, after]
  t.strictSame(await wordsOf({ cas, lists: [rootList, old] }, [jane, joe]), ['valid', 'CERT_REVOKED'])
  t.strictSame(await wordsOf({ cas, lists: [revoking(before), old] }, [jane, joe]), ['CRL_SIGNATURE_FAILURE', 'CERT_REVOKED'])
  t.strictSame(await wordsOf({ cas, lists: [revoking(before), old, makeCrl(after)] }, [jane, joe]), ['valid', 'CERT_REVOKED'])
  const renewed = make({ ca: true, subject: 'CN=Issuer', like: before, issuer: root })
  t.strictSame(await wordsOf({ cas: [...cas, renewed], lists: [revoking(before), old] }, [jane, joe]), ['valid', 'CERT_REVOKED'], 'another certificate of its key is as good as before')
  // The list that revokes it has not begun yet
  const store = await storeOf({ cas, lists: [rootList, makeCrl(root, { days: [5, 30], entries: [before] }), old] })
  t.equal(await wordOf(store, jane), 'valid')
  const { until } = store.judge(jane.certificate, [], Date.now())
  t.ok(Math.abs(until - Date.now() - 5 * DAY) < 60_000)
  t.equal(await wordOf(store, jane, [], until + 1), 'CRL_SIGNATURE_FAILURE')

  // However many certificates of its key were revoked, whoever has it takes no more time than others
  const many = Array.from({ length: 250 }, () => make({ ca: true, subject: 'CN=Issuer', like: before, issuer: root }))
  let searches = 0
  const verifyAuthority = PathVerifier.prototype.verifyAuthority
  t.intercept(PathVerifier.prototype, 'verifyAuthority', { value (this: PathVerifier, ...asked: Parameters<typeof verifyAuthority>) { searches++; return verifyAuthority.apply(this, asked) } })
  t.strictSame(await wordsOf({ cas: [...cas, ...many], lists: [revoking(before, ...many), old] }, [jane]), ['CRL_SIGNATURE_FAILURE'])
  t.ok(searches < 200, `${searches} searches`)
})

t.test('a CRL signing key that its CA has certified needs no further configuration', async (t) => {
  const issuer = under('CN=Issuer')
  const lister = make({ subject: 'CN=Issuer', issuer, extensions: { usage: usage(LISTS), purposes: undefined } })
  const [jane, joe] = [make({ issuer }), make({ issuer })]
  const lists = [rootList, makeCrl(lister, { entries: [joe] })]
  // PKITS 4.5.6: the client alone brings the authority, which is remembered once a path over it is valid
  t.strictSame(await wordsOf({ cas: [root, lister], lists }, [jane, joe], [issuer]), ['valid', 'CERT_REVOKED'])
  t.strictSame(await wordsOf({ cas: [root], lists }, [jane], [issuer, lister]), ['CRL_SIGNATURE_FAILURE'], 'but what a client sends signs no list of its authority')
  t.strictSame(await wordsOf({ cas: [root, lister], lists: [rootList, makeCrl(lister, { entries: [lister] })] }, [jane], [issuer]), ['CRL_SIGNATURE_FAILURE'], 'nor does one that revokes itself')
})

t.test('the expired CRL of a key that is not in use any more shortens no judgement', async (t) => {
  const { before, after } = rollover()
  const store = await storeOf({ cas: [root, before, after], lists: [rootList, makeCrl(before, { days: [-9, -5] }), makeCrl(after, { days: [-1, 5] })] })
  const jane = make({ issuer: before })
  t.equal(await wordOf(store, jane), 'valid')
  const judgement = store.judge(jane.certificate, [], Date.now())
  t.ok(Math.abs(judgement.until - Date.now() - 5 * DAY) < 60_000)
  t.equal(store.judge(jane.certificate, [], Date.now()), judgement, 'and is not worked out again')
})

t.test('a CRL with a scope counts for the certificates in it', async (t) => {
  const [one, two] = [names.uri('http://crl.test/1'), names.uri('http://crl.test/2')]
  const naming = (...points: Uint8Array[]): Made => make({ issuer: root, extensions: { points: distributionPoints(points.map((point) => ({ names: [point] }))) } })
  const [jane, joe, june, jack] = [naming(one), naming(two), naming(one, two), make({ issuer: root })]
  const lists = [makeCrl(root, { idp: idp({ names: [one] }), entries: [joe] }), makeCrl(root, { idp: idp({ names: [two] }), entries: [june] })]
  t.strictSame(await wordsOf({ cas: [root], lists }, [jane, joe, june, jack]), ['valid', 'valid', 'CERT_REVOKED', 'DIFFERENT_CRL_SCOPE'], 'by the points that a certificate names')
  const issuer = under('CN=Issuer')
  const authorities = makeCrl(root, { idp: idp({ authorities: true }) })
  const client = make({ issuer: root })
  t.strictSame(await wordsOf({ cas: [root], lists: [authorities, makeCrl(issuer)] }, [make({ issuer }), client], [issuer]), ['valid', 'DIFFERENT_CRL_SCOPE'], 'by what they are')
  t.strictSame(await wordsOf({ cas: [root], lists: [authorities, makeCrl(root, { idp: idp({ users: true }), entries: [client] })] }, [client]), ['CERT_REVOKED'])
  t.strictSame(await wordsOf({ cas: [root], lists: [makeCrl(root, { idp: idp({ indirect: true }) })] }, [client]), ['UNABLE_TO_GET_CRL'], 'and what cannot be used for none')
})

t.test('a delta CRL adds entries to its base, and removes some', async (t) => {
  const [jane, joe, june, jack] = ['CN=Jane', 'CN=Joe', 'CN=June', 'CN=Jack'].map((subject) => make({ issuer: root, subject })) as [Made, Made, Made, Made]
  const all = [jane, joe, june, jack]
  const base = makeCrl(root, { number: 4, entries: [entry(joe, reason(6)), june] })
  const delta = makeCrl(root, { number: 6, base: 4, days: [-0.5, 2], entries: [jane, entry(joe, reason(8))] })
  const words = async (...lists: Buffer[]) => await wordsOf({ cas: [root], lists }, all)
  t.strictSame(await words(base), ['valid', 'CERT_REVOKED', 'CERT_REVOKED', 'valid'])
  t.strictSame(await words(base, delta), ['CERT_REVOKED', 'valid', 'CERT_REVOKED', 'valid'])
  t.strictSame(await words(delta), Array(4).fill('UNABLE_TO_GET_CRL'), 'nothing without a base')
  t.strictSame(await words(makeCrl(root, { number: 3 }), delta), Array(4).fill('valid'), 'nothing on one that it is not for')
  t.strictSame(await words(makeCrl(root, { number: 6, days: [-0.2, 9], entries: [joe] }), delta), ['valid', 'CERT_REVOKED', 'valid', 'valid'], 'nothing on one that says as much')
  t.strictSame(await words(base, delta, makeCrl(root, { number: 7, base: 4, days: [-0.2, 2], entries: [jack] })), ['valid', 'CERT_REVOKED', 'CERT_REVOKED', 'CERT_REVOKED'], 'the newest one')
  const others = makeCrl(make({ ca: true, subject: 'CN=Root' }), { number: 6, base: 4, entries: [jane], authorityKey: Buffer.from(base).subarray(0, 0) })
  t.equal((await words(base, others))[0], 'valid', 'nothing by another key')

  const store = await storeOf({ cas: [root], lists: [base, delta] })
  await Promise.all(all.map(async (leaf) => await wordOf(store, leaf)))
  t.ok(Math.abs(store.judge(joe.certificate, [], Date.now()).until - Date.now() - 2 * DAY) < 60_000)
  const ended = Date.now() + 3 * DAY
  t.strictSame(await Promise.all(all.map(async (leaf) => await wordOf(store, leaf, [], ended))), ['CERT_REVOKED', 'CERT_REVOKED', 'CERT_REVOKED', 'valid'], 'when it has ended, only what it revoked stays')
  const early = Date.now() - 0.7 * DAY
  t.strictSame(await Promise.all(all.map(async (leaf) => await wordOf(store, leaf, [], early))), ['valid', 'CERT_REVOKED', 'CERT_REVOKED', 'valid'], 'and before it began, nothing')
})

t.test('a revocation outlives its CRL, and only a CRL in date admits clients', async (t) => {
  const [jane, joe] = [make({ issuer: root }), make({ issuer: root })]
  const [ended, early] = [makeCrl(root, { days: [-9, -1], entries: [jane] }), makeCrl(root, { days: [2, 9], entries: [joe] })]
  const given = { cas: [root], lists: [ended, early] }
  t.strictSame(await wordsOf(given, [jane, joe]), ['CERT_REVOKED', 'CRL_HAS_EXPIRED'])
  t.strictSame(await wordsOf({ ...given, lists: [early] }, [jane, joe]), ['CRL_NOT_YET_VALID', 'CRL_NOT_YET_VALID'])
  t.strictSame(await wordsOf(given, [jane, joe], [], Date.now() + 3 * DAY), ['valid', 'CERT_REVOKED'], 'a newer one says otherwise when it has begun')
  t.strictSame(await wordsOf({ ...given, lists: [makeCrl(root, { entries: [jane], number: 5 }), makeCrl(root, { number: 6 })] }, [jane]), ['valid'], 'of one moment, by its number')
  t.strictSame(await wordsOf({ ...given, lists: [makeCrl(root), makeCrl(root, { number: 6, entries: [jane] })] }, [jane]), ['CERT_REVOKED'], 'of which one may have none')
  t.strictSame(await wordsOf({ cas: [root], isRevocationChecked: true }, [jane]), ['UNABLE_TO_GET_CRL'])

  const allowing = { ...given, unknown: 'allow' } as const
  t.strictSame(await wordsOf(allowing, [jane, joe]), ['CERT_REVOKED', 'valid'], 'what is not known may be allowed')
  t.strictSame(await wordsOf({ ...allowing, lists: [], isRevocationChecked: true }, [jane, joe]), ['valid', 'valid'])
  const store = await storeOf(allowing)
  t.equal(await wordOf(store, joe), 'valid')
  t.ok(Math.abs(store.judge(joe.certificate, [], Date.now()).until - Date.now() - 2 * DAY) < 60_000, 'as long as no list begins')
})

t.test('a certificate is revoked where either OCSP or a CRL says so', async (t) => {
  const [jane, joe] = [make({ issuer: root }), make({ issuer: root })]
  let said: OcspStatus | undefined
  const ocsp: OcspAnswers = { statusOf: () => said }
  const [good, list] = [{ status: 'good', from: Date.now() - 1_000, until: Date.now() + DAY, pending: undefined } as const, makeCrl(root, { entries: [joe] })]
  const say = async (status: OcspStatus | undefined, given: Partial<Given> = {}) => {
    said = status
    return await wordsOf({ cas: [root], ocsp, isRevocationChecked: true, ...given }, [jane, joe])
  }
  t.strictSame(await say(good), ['valid', 'valid'], 'without lists')
  t.strictSame(await say(good, { lists: [list] }), ['valid', 'CERT_REVOKED'])
  t.strictSame(await say({ ...good, status: 'revoked' }, { lists: [list], unknown: 'allow' }), ['CERT_REVOKED', 'CERT_REVOKED'])
  t.strictSame(await say({ ...good, status: 'unknown' }, { lists: [list], unknown: 'allow' }), ['OCSP_CERT_UNKNOWN', 'CERT_REVOKED'], 'a responder that does not know it is heard, too')
  t.strictSame(await say({ ...good, status: 'none' }, { lists: [list] }), ['valid', 'CERT_REVOKED'])
  t.strictSame(await say({ ...good, status: 'none' }), ['UNABLE_TO_GET_CRL', 'UNABLE_TO_GET_CRL'])
  t.strictSame(await say(undefined, { unknown: 'allow' }), ['valid', 'valid'])
  said = good
  const store = await storeOf({ cas: [root], ocsp, lists: [list] })
  t.equal(await wordOf(store, jane), 'valid')
  const { from, until } = store.judge(jane.certificate, [], Date.now())
  t.equal(from, good.from)
  t.ok(until <= Date.now() + 10 * 60_000 && until < good.until, 'who still comes is asked about again')

  let answer = (): void => {}
  const pending = new Promise<void>((resolve) => { answer = () => { said = good; resolve() } })
  said = { status: 'none', from: NaN, until: NaN, pending }
  const waiting = await storeOf({ cas: [root], ocsp, isRevocationChecked: true })
  const { error, pending: waits, ...rest } = waiting.judge(jane.certificate, [], Date.now())
  t.equal(error, 'OCSP_VERIFY_NEEDED')
  t.notOk(holds({ error, pending: waits, ...rest }, Date.now()), 'which is no answer')
  answer()
  await waits
  t.equal(await wordOf(waiting, jane), 'valid')
})

t.test('CRLs that certificates name are requested only where the path is otherwise valid', async (t) => {
  const issuer = under('CN=Issuer')
  const jane = make({ issuer })
  const asked: string[] = []
  let come = (): void => {}
  const onItsWay = new Promise<void>((resolve) => { come = resolve })
  let waits: Promise<void> | undefined = onItsWay
  const store = new TrustStore(await contentOf({ cas: [root], lists: [rootList] }), {
    fetchFor ({ certificate }, issuer, owner) {
      t.ok(certificate.checkIssued(issuer.certificate))
      t.equal(owner.certificate.subject, certificate.subject === 'CN=Issuer' ? 'CN=Root' : 'CN=Issuer', 'whose share it is')
      asked.push(certificate.subject)
      return waits
    }
  })
  t.equal(store.judge(make({ issuer: under('CN=Issuer'), days: [-9, -1] }).certificate, [], Date.now()).error, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  t.strictSame(asked, [])
  const first = store.judge(jane.certificate, [issuer.certificate], Date.now())
  t.match(first, { error: 'OCSP_VERIFY_NEEDED' })
  t.strictSame(new Set(asked), new Set(['CN=Issuer', 'CN=Jane\nO=Acme']))
  come()
  await first.pending
  waits = undefined
  t.equal(await wordOf(store, jane, [issuer]), 'UNABLE_TO_GET_CRL', 'none has come')
  store.update(await contentOf({ cas: [root], lists: [rootList, makeCrl(issuer)] }))
  t.equal(await wordOf(store, jane, [issuer]), 'valid')
})

t.test('intermediates of valid paths are remembered, and judged again each time', async (t) => {
  const [issuer, lost] = [under('CN=Issuer'), under('CN=Lost')]
  const jane = make({ issuer })
  const store = await storeOf({ cas: [root] })
  t.equal(await wordOf(store, jane), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  t.notOk(store.knowsPathOf(jane.certificate))
  t.equal(await wordOf(store, make({ issuer: lost, days: [-9, -1] }), [lost]), 'CERT_HAS_EXPIRED')
  t.equal(await wordOf(store, jane, [issuer]), 'valid')
  store.changed()
  t.equal(await wordOf(store, jane), 'valid')
  t.ok(store.knowsPathOf(jane.certificate))
  t.equal(await wordOf(store, make({ issuer: lost })), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'not those of paths that were not')
  store.update(await contentOf({ cas: [root], lists: [makeCrl(root, { entries: [issuer] })] }))
  t.equal(await wordOf(store, jane), 'CERT_REVOKED')
  store.update(await contentOf({ cas: [make({ ca: true })] }))
  t.equal(await wordOf(store, jane), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'they are no anchors')
  t.ok(store.knowsPathOf(jane.certificate))
  store.update(await contentOf({ cas: [root] }))
  t.equal(await wordOf(store, jane), 'valid', 'and lead to one again')
})

t.test('the intermediates of one client CA displace none of another', async (t) => {
  const intermediates = new Intermediates()
  const store = await storeOf({ cas: [root], intermediates })
  const [partner, evil] = [under('CN=Partner'), under('CN=Evil')]
  const jane = make({ issuer: partner })
  t.equal(await wordOf(store, jane, [partner]), 'valid')
  const minted: Made[] = []
  for (let count = 0; count < 300; count++) minted.push(make({ ca: true, subject: `CN=Evil ${count}`, issuer: evil }))
  for (const issuer of minted) store.judge(make({ issuer }).certificate, certificatesOf([issuer, evil]), Date.now())
  store.changed()
  t.equal(await wordOf(store, jane), 'valid', 'of whom the anchor has issued itself')
  const [first, last] = [minted[0]!, minted.at(-1)!]
  t.equal(intermediates.certificates().length, 2 + 256)
  t.equal(await wordOf(store, make({ issuer: last })), 'valid')
  t.equal(await wordOf(store, make({ issuer: first })), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  t.notOk(store.knowsPathOf(make({ issuer: first }).certificate), 'and takes no room any more')

  // One that leads to another anchor as well has made room for that one alone
  const other = make({ ca: true })
  intermediates.add(other.certificate, minted[44]!.certificate)
  t.equal(await wordOf(store, make({ issuer: make({ ca: true, subject: 'CN=Evil again', issuer: evil }) }), [evil]), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  const again = make({ ca: true, subject: 'CN=Evil again', issuer: evil })
  t.equal(await wordOf(store, make({ issuer: again }), [again, evil]), 'valid')
  t.equal(intermediates.certificates().length, 2 + 256 + 1)
  t.equal(await wordOf(store, make({ issuer: minted[44]! })), 'valid', 'the oldest one')
})

t.test('a refusal holds until a certificate or CRL begins or ends, and not longer', async (t) => {
  const days = (count: number): [number, number] => [count, 30]
  const early = make({ ca: true, subject: 'CN=Early', days: days(2) })
  const leaf = make({ issuer: early, days: days(1) })
  const store = await storeOf({ cas: [root, early], lists: [rootList, makeCrl(early, { days: [3, 9] })] })
  const refused = store.judge(leaf.certificate, [], Date.now())
  t.match(refused, { error: 'CERT_NOT_YET_VALID', until: startOf(leaf) - 1 })
  t.ok(holds(refused, Date.now()))
  t.notOk(holds(refused, startOf(leaf)))
  t.notOk(holds(refused, startOf(root) - 1))
  const second = store.judge(leaf.certificate, [], startOf(leaf))
  t.match(second, { error: 'CERT_NOT_YET_VALID', from: startOf(leaf), until: startOf(early) - 1 })
  const third = store.judge(leaf.certificate, [], startOf(early))
  t.equal(third.error, 'OCSP_VERIFY_NEEDED', 'a signature is still to be verified')
  await third.pending
  const fourth = store.judge(leaf.certificate, [], startOf(early))
  t.match(fourth, { error: 'CRL_NOT_YET_VALID', from: startOf(early) })
  t.equal(await wordOf(store, leaf, [], fourth.until + 1), 'valid')
  t.equal(await wordOf(store, leaf, [], Date.now() + 20 * DAY), 'CRL_HAS_EXPIRED')
  store.changed()
  t.notOk(holds(fourth, startOf(early)), 'nor after a change')
  const strange = { fingerprint256: 'x' } as unknown as X509Certificate
  t.match(store.judge(strange, [], Date.now()), { error: 'UNSPECIFIED', from: -Infinity, until: Infinity }, 'what cannot be read never counts')
})

t.test('judgements are cached by leaf, in a bounded number, and end with what they are based on', async (t) => {
  const issuer = under('CN=Issuer')
  const store = await storeOf({ cas: [root, issuer] })
  const jane = make({ issuer, days: [-3, 20] })
  const judgement = store.judge(jane.certificate, [], Date.now())
  t.match(judgement, { error: undefined, from: Math.max(startOf(root), startOf(issuer)), until: endOf(jane), pending: undefined })
  t.ok(Object.isFrozen(judgement))
  t.equal(store.judge(new X509Certificate(jane.der), [], Date.now()), judgement, 'whichever connection asks')
  t.equal(store.judge(jane.certificate, [], endOf(jane) + 1).error, 'CERT_HAS_EXPIRED')
  // The same certificate by many names: those of as many would take ten times as long to make
  const named = (index: number): X509Certificate => Object.defineProperty(new X509Certificate(jane.der), 'fingerprint256', { value: String(index) })
  const first = store.judge(named(0), [], Date.now())
  for (let index = 1; index < 10_000; index++) store.judge(named(index), [], Date.now())
  t.equal(store.judge(named(0), [], Date.now()), first)
  store.judge(named(10_000), [], Date.now())
  t.not(store.judge(named(0), [], Date.now()), first, 'the oldest makes room')
  t.strictSame(store.content.cas, certificatesOf([root, issuer]))
})

t.test('a removed client CA is remembered by name, in a bounded number', async (t) => {
  const leaf = make({ issuer: root })
  const store = await storeOf({ cas: [root, make({ ca: true })] })
  let told = 0
  store.onChange.add(() => { told++ })
  store.update(await contentOf({ cas: [make({ ca: true })] }))
  t.equal(told, 1)
  t.ok(store.knowsPathOf(leaf.certificate), 'its clients are not trusted any more, rather than unknown')
  const odd = make({ ca: true, extensions: { odd: extension('2.5.29.30', text('no')) } })
  store.update(await contentOf({ cas: [odd] }))
  store.update(await contentOf({ cas: [root] }))
  t.equal(await wordOf(store, leaf), 'valid')
  const many = Array.from({ length: 1_001 }, (_, index) => Object.defineProperty(new X509Certificate(root.der), 'fingerprint256', { value: String(index) }))
  store.update({ ...store.content, cas: many })
  store.update({ ...store.content, cas: certificatesOf([make({ ca: true, subject: 'CN=Last' })]) })
  t.ok(store.knowsPathOf(leaf.certificate))
  store.update(await contentOf({ cas: [make({ ca: true })] }))
  t.notOk(store.knowsPathOf(make({ issuer: make({ ca: true, subject: 'CN=Last' }) }).certificate))
})

/** No end of it is near. */
const lasting = (subject: string): Made => make({ ca: true, subject, days: [-9, 90] })

/** Trust from files, as it is for a host or behind a proxy. */
async function fromFiles (t: Test, files: Record<string, string>, { prepare, unknown = 'refuse' }: { prepare?: () => Promise<void>, unknown?: 'refuse' | 'allow' } = {}) {
  const dir = t.testdir(files)
  const file = (name: string): string => join(dir, name)
  const log: string[] = []
  const given = { ca: file('ca.pem'), unknown, ...'crl.pem' in files && { crl: file('crl.pem') } }
  const trust = await ClientTrust.open(resolveTrustOptions(given, 'options'), { role: 'clientCertificates', log: (level, message) => { log.push(`${level} ${message.replaceAll(`${dir}/`, '')}`) }, ...prepare !== undefined && { prepare } })
  t.teardown(() => trust.close())
  return {
    trust,
    log,
    file,
    write: (name: string, ...contents: string[]) => writeFileSync(file(name), contents.join('')),
    word: async (leaf: Made, ...others: Made[]) => await wordOf(trust.store, leaf, others)
  }
}
const pemOf = (...lists: Buffer[]): string => lists.map((list) => crlPem(list)).join('')

t.test('an older CRL in a file replaces a newer one with a warning, and an expired one replaces none', async (t) => {
  const root = lasting('CN=Root')
  const [jane, joe] = [make({ issuer: root, subject: 'CN=Jane' }), make({ issuer: root, subject: 'CN=Joe' })]
  const [older, newer] = [makeCrl(root, { days: [-3, 30], number: 1 }), makeCrl(root, { days: [-2, 30], number: 2, entries: [jane] })]
  const { trust, log, write, word } = await fromFiles(t, { 'ca.pem': root.pem, 'crl.pem': pemOf(newer) })
  t.strictSame([await word(jane), await word(joe)], ['CERT_REVOKED', 'valid'])
  write('crl.pem', pemOf(older))
  await trust.reload()
  t.strictSame(log, [
    'info clientCertificates: revocation lists were read anew and are in force',
    'warn crl.pem: the revocation list of CN=Root is older than the one before: what was revoked since counts again'
  ])
  t.equal(await word(jane), 'valid')

  for (const [days, what] of [[[-9, -8], 'is out of date since'], [[2, 9], 'is not valid before']] as const) {
    const bad = makeCrl(root, { days, entries: [joe] })
    write('crl.pem', pemOf(bad))
    await t.rejects(trust.reload(), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: new RegExp(`crl\\.pem: the revocation list of CN=Root ${what} .*; the one before stays in force$`) })
    t.equal(await word(joe), 'valid', what)
    // Beside a good one, it does no harm
    write('crl.pem', pemOf(bad, older))
    await t.rejects(trust.reload(), { message: new RegExp(what) })
  }
  log.length = 0
  write('crl.pem', pemOf(makeCrl(make({ ca: true, subject: 'CN=Strange' }))))
  await trust.reload()
  t.match(log.join('\n'), /warn crl\.pem: the revocation list of CN=Root is not there any more: what it revoked counts as unknown/)
  t.match(log.join('\n'), /warn ca\.pem: no revocation list of CN=Root was given, but others were: of its clients, nothing is known/)
  t.equal(await word(jane), 'UNABLE_TO_GET_CRL')
})

t.test('a reloaded CRL is verified with few keys, however many CAs share its issuer\'s name', async (t) => {
  const [good, evil] = [under('CN=Partner'), under('CN=Evil')]
  const keyId = extension('2.5.29.14', der(tags.octetString, good.keyId))
  const fakes = Array.from({ length: 40 }, (_, index) => ({ ...make({ ca: true, subject: 'CN=Partner', issuer: evil, extensions: { subjectKey: index === 0 ? undefined : keyId } }), keyId: good.keyId }))
  const { trust, write } = await fromFiles(t, { 'ca.pem': root.pem, 'crl.pem': pemOf(makeCrl(good, { number: 1 })) }, { unknown: 'allow' })
  const judge = async (leaf: Made, ...others: Made[]): Promise<string> => await wordOf(trust.store, leaf, others)
  for (const fake of fakes.slice(0, 20)) t.equal(await judge(make({ issuer: fake }), fake, evil), 'valid')
  t.equal(await judge(make({ issuer: good }), good), 'valid')
  for (const fake of fakes.slice(20)) t.equal(await judge(make({ issuer: fake }), fake, evil), 'valid')
  write('crl.pem', pemOf(makeCrl(good, { number: 2, days: [-0.5, 30] })))
  await trust.reload()
  const named = trust.store.authoritiesNamed(parseCertificate(good.certificate).subject)
  t.equal(named.length, 41)
  const [crl] = trust.store.content.crls
  t.strictSame(named.map((facts) => crl!.isKnownSignedBy(facts)).filter((answer) => answer !== undefined), [true], 'the key that has signed the one before is the first')

  // Where there was none before, only so many.
  write('crl.pem', pemOf(makeCrl(evil)))
  await trust.reload()
  write('crl.pem', pemOf(makeCrl(good, { number: 3, days: [-0.4, 30] })))
  await trust.reload()
  const [last] = trust.store.content.crls
  const answers = named.map((facts) => last!.isKnownSignedBy(facts)).filter((answer) => answer !== undefined)
  t.ok(answers.length <= 8, `${answers.length}`)
  t.equal(await judge(make({ issuer: good }), good), 'valid', 'and others when a client needs it')
})

t.test('a revocation by a delta CRL holds without it, until a newer CRL says otherwise', async (t) => {
  const [jane, joe, june] = [make({ issuer: root }), make({ issuer: root }), make({ issuer: root })]
  const base = (number: number, ...entries: Made[]) => makeCrl(root, { days: [-2 + number / 10, 30], number, entries })
  const delta = (number: number, ...entries: Made[]) => makeCrl(root, { days: [-2 + number / 10, 30], number, base: 1, entries })
  const { trust, write, word } = await fromFiles(t, { 'ca.pem': root.pem, 'crl.pem': pemOf(base(1, june), delta(3, jane)) })
  const words = async (...lists: Buffer[]) => {
    write('crl.pem', pemOf(...lists))
    await trust.reload()
    return await Promise.all([jane, joe, june].map(async (leaf) => await word(leaf)))
  }
  t.strictSame(await words(base(1, june)), ['CERT_REVOKED', 'valid', 'CERT_REVOKED'], 'it is gone')
  t.strictSame(await words(base(2)), ['CERT_REVOKED', 'valid', 'valid'], 'a newer list, which is older than it')
  t.strictSame(await words(base(2), delta(4, joe)), ['valid', 'CERT_REVOKED', 'valid'], 'a newer delta says all that it said, and that it is not so')
  t.strictSame(await words(base(2)), ['valid', 'CERT_REVOKED', 'valid'])
  t.strictSame(await words(base(4, jane)), ['CERT_REVOKED', 'valid', 'valid'], 'a newer list')
  t.strictSame(trust.store.content.crls.length, 1, 'and nothing else is kept')
  const bare = makeCrl(root, { base: 1 })
  await words(base(4, jane), bare)
  t.match(trust.warnings.join(), /is not used \(it is a delta CRL without a CRL number\)/)
  await words(base(4, jane))
  t.equal(trust.store.content.crls.length, 1, 'nor one that was of no use')
  await words(base(4, jane), delta(6, june))
  t.strictSame(await words(makeCrl(root, { days: [-0.1, 30] })), ['valid', 'valid', 'valid'], 'a list without a number is no base of it,')
  t.equal(trust.store.content.crls.length, 2, 'and does not say that it is wrong')
})

t.test('client CAs are replaced as a whole, and only if handshakes can carry their names', async (t) => {
  const [one, two] = [lasting('CN=One'), lasting('CN=Two')]
  let refuse = false
  const prepared: number[] = []
  const served = await fromFiles(t, { 'ca.pem': one.pem }, { prepare: async () => { if (refuse) throw new Error('too many'); prepared.push(prepared.length) } })
  const { trust, log, write, word } = served
  const added: boolean[] = []
  trust.onCasChange.add((wasAdded) => { added.push(wasAdded) })
  const { cas } = trust
  write('ca.pem', 'renewed\n', one.pem, one.pem)
  await trust.reload()
  t.equal(trust.cas, cas, 'the same in other words is no change')
  write('ca.pem', two.pem, one.pem)
  refuse = true
  await t.rejects(trust.reload(), { message: 'too many' })
  t.equal(trust.cas, cas)
  t.equal(await word(make({ issuer: two })), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  refuse = false
  await trust.reload()
  t.strictSame([await word(make({ issuer: two })), added, log], ['valid', [true], ['info clientCertificates: client CAs were read anew and are in force']])
  write('ca.pem', two.pem)
  await trust.reload()
  t.strictSame([await word(make({ issuer: one })), added], ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', [true, false]])
  t.equal(prepared.length, 2)
})

t.test('files of client CAs are watched from follow() to close()', async (t) => {
  const jane = make({ issuer: root })
  const { trust, log, file, write, word } = await fromFiles(t, { 'ca.pem': root.pem, 'crl.pem': pemOf(rootList) })
  trust.watch()
  trust.watch()
  t.equal(await word(jane), 'valid')
  let changes = 0
  trust.store.onChange.add(() => { changes++ })
  write('crl.pem', pemOf(makeCrl(root, { entries: [jane] })))
  await until(() => changes > 0)
  t.equal(await word(jane), 'CERT_REVOKED')
  rmSync(file('crl.pem'))
  await until(() => log.some((line) => line.startsWith('error')))
  t.match(log.at(-1), /^error clientCertificates: client CAs and revocation lists were not changed, and the ones before stay in force: crl\.pem: cannot be read: ENOENT/)
  trust.close()
  trust.close()
  const soon = await fromFiles(t, { 'ca.pem': make({ ca: true, subject: 'CN=Soon', days: [-90, 5.5] }).pem, 'crl.pem': pemOf(makeCrl(root, { days: [-9, -1] })) })
  soon.trust.look()
  soon.trust.look()
  t.match(soon.log, [/^warn ca\.pem: CN=Soon ends in 5 days/, /^warn crl\.pem: the revocation list of CN=Root is out of date since .*: of its certificates, it only says which are revoked$/], 'what ends is told once')
  t.equal(soon.log.length, 2)
})

t.test('the signature of a CRL is tried with a bounded number of CAs of its issuer\'s name', async (t) => {
  const alike = { ca: true, subject: 'CN=Namesake', days: [-9, 90] as const, extensions: { subjectKey: undefined, authorityKey: undefined } }
  const namesakes = Array.from({ length: 20 }, () => make(alike))
  const list = (signer: Made, number: number): string => pemOf(makeCrl({ ...signer, keyId: undefined }, { number }))
  const trusting = await fromFiles(t, { 'ca.pem': namesakes.map(({ pem }) => pem).join(''), 'crl.pem': list(namesakes[2]!, 1) })
  const verified = t.capture(crypto, 'createVerify', crypto.createVerify)
  syncBuiltinESMExports()
  t.teardown(() => syncBuiltinESMExports())
  for (const [number, [signer, most]] of ([[2, 3], [19, 20]] as const).entries()) {
    trusting.write('crl.pem', list(namesakes[signer]!, number + 2))
    await trusting.trust.reload()
    t.equal(verified().length, most, 'until one has signed it')
  }
  t.equal(await trusting.word(make({ issuer: namesakes[19]! })), 'valid')
})

t.test('the store tells its client CAs and CRLs, and when they end', async (t) => {
  const [ca, another] = [lasting('CN=Told'), lasting('CN=Another')]
  const trusting = await fromFiles(t, { 'ca.pem': ca.pem + another.pem, 'crl.pem': pemOf(makeCrl(ca, { entries: [make({ issuer: ca })], days: [-1, undefined] }), makeCrl(another)) })
  const source = { source: trusting.file('crl.pem') }
  const { authorities, lists, problems } = trusting.trust.inForce
  t.strictSame(authorities.map(({ fingerprint256 }) => fingerprint256), [ca, another].map(({ certificate: { raw } }) => crypto.createHash('sha256').update(raw).digest('hex')))
  t.strictSame(authorities.map(({ subject, validUntil, source }) => [subject, validUntil.getTime(), source]), [ca, another].map(({ certificate: { subject, validTo } }) => [subject, Date.parse(validTo), trusting.file('ca.pem')]))
  t.match(lists, [{ issuer: 'CN=Told', entries: 1, nextUpdate: null, ...source }, { issuer: 'CN=Another', entries: 0, thisUpdate: Date, nextUpdate: Date, ...source }])
  t.strictSame(problems, [])
})

t.test('the log warns of a client CA that can validate no client', async (t) => {
  const [odd, weak] = [make({ ca: true, subject: 'CN=Odd', extensions: { odd: spelledOut('1.2.3.4.5', 0, text('odd')) } }), make({ ca: true, subject: 'CN=Weak', kind: 'rsa1024' })]
  const { trust, word } = await fromFiles(t, { 'ca.pem': odd.pem + weak.pem + root.pem, 'crl.pem': pemOf(rootList, makeCrl(odd)) })
  t.match(trust.warnings, [
    /ca\.pem: CN=Odd can never be used \(it is not exactly as RFC 5280 has it.*\): its clients are refused$/,
    /ca\.pem: CN=Weak can never be used \(its key is too weak.*\): its clients are refused$/,
    /no revocation list of CN=Odd was given/,
    /no revocation list of CN=Weak was given/
  ])
  t.equal(await word(make({ issuer: root })), 'valid')
})

t.test('what is unusual about client CAs is not said again with each renewed CRL', async (t) => {
  const other = make({ ca: true, subject: 'CN=Other' })
  const { trust, log, write } = await fromFiles(t, { 'ca.pem': root.pem + other.pem, 'crl.pem': pemOf(rootList) })
  const uncovered = /^ca\.pem: no revocation list of CN=Other was given/
  const told = (): string[] => log.splice(0).map((line) => line.replace(/^warn .*?(?=ca\.pem|crl\.pem)/, '')).filter((line) => !line.startsWith('info'))
  t.match(trust.warnings.map((warning) => warning.replace(/^.*?(?=ca\.pem)/, '')), [uncovered])
  for (const number of [7, 8]) {
    write('crl.pem', pemOf(makeCrl(root, { number })))
    await trust.reload()
  }
  t.strictSame(told(), [])
  write('crl.pem', pemOf(makeCrl(root, { number: 8 }), makeCrl(other)))
  await trust.reload()
  write('crl.pem', pemOf(makeCrl(root, { number: 8 })))
  await trust.reload()
  t.match(told().sort(), [uncovered, /list of CN=Other is not there any more/], 'but what is so again is')
})

t.test('a peer certificate is present or not, and has dates', async (t) => {
  const { certificate } = make({ issuer: root, days: [-1, 1] })
  const found = peerCertificate(certificate)
  t.match(found, { others: [], isForwarded: false, refusal: undefined, verdict: undefined })
  t.strictSame([found.notBefore - 1, found.notBefore, found.notAfter, found.notAfter + 1].map((now) => refusalOfDates(found, now)), ['certificateNotYetValid', undefined, undefined, 'certificateExpired'])
  t.equal(refusalOfDates(noPeerCertificate(), Date.now()), 'certificateInvalid', 'dates that cannot be read')
  t.match(noPeerCertificate(), { leaf: undefined, isForwarded: false })
})

t.test('a client with a cross-certificate of a renewed root is admitted, also when it resumes its session', async (t) => {
  const { after, beforeByAfter, before } = rollover()
  const [jane, joe] = [make({ issuer: before, subject: 'CN=Jane' }), make({ issuer: before, subject: 'CN=Joe' })]
  const serverCa = await authority('Server CA')
  const list = (...entries: Made[]): string => pemOf(rootList, makeCrl(after, { entries }))
  const served = await serveTrust(t, { server: await issueServer(serverCa), ca: root.pem, crl: list(joe) })
  const connect = async (leaf: Made, session?: Buffer) => {
    const cert = leaf.pem + beforeByAfter.pem + after.pem
    const wire = await connectWire(t, { port: served.https, ca: serverCa.cert, cert, key: identityOf(leaf).key, session })
    const answer = await wire.get('/partners')
    return { wire, word: answer?.status === 200 ? answer.body : /FST_HTTP_SECURITY_(\w+)/.exec(answer?.body ?? '')?.[1] }
  }
  const first = await connect(jane)
  t.strictSame([first.word, (await connect(joe)).word], ['Jane', 'CERTIFICATE_REVOKED'])
  const again = await connect(jane, await first.wire.ticket)
  t.strictSame([again.word, again.wire.socket.isSessionReused()], ['Jane', true], 'which brings the leaf alone')
  served.write({ 'crl.pem': list(jane) })
  await served.tls.reload()
  for (const { wire } of [first, again]) t.match(await wire.get('/partners'), { status: 403, body: /CERTIFICATE_REVOKED/ })
  t.equal((await connect(joe)).word, 'Joe')
})
