/**
 * Labels of client CAs: which of them a certificate has, by every valid path, whatever clients send and in whatever order.
 */
import t, { type Test } from 'tap'
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import Fastify from 'fastify'
import { resolveProxy } from '../lib/options/proxy.ts'
import { openForwarded } from '../lib/proxy/forwarded-certificate.ts'
import { kTlsInterface, type TlsInterface } from '../lib/tls-interface.ts'
import { type EnableTlsOptions, enableTls } from '../lib/tls/index.ts'
import { ClientTrust } from '../lib/trust/client-trust.ts'
import { Intermediates } from '../lib/trust/intermediates.ts'
import { resolveTrustOptions } from '../lib/trust/options.ts'
import { type TrustContent, TrustStore } from '../lib/trust/store.ts'
import type { OcspStatus } from '../lib/trust/revocation.ts'
import { parseCrl } from '../lib/x509/crl.ts'
import { ask } from './fixtures/ask.ts'
import { extension, identityOf, type Made, make } from './fixtures/chains.ts'
import { makeCrl } from './fixtures/crls.ts'
import { written } from './fixtures/forward.ts'
import { authority, issueServer } from './fixtures/pki.ts'
import { DAY, until } from './fixtures/time.ts'
import { serveTrust } from './fixtures/trust.ts'
import { certificatesOf } from './fixtures/verified.ts'
import { connectWire } from './fixtures/wire.ts'

type Labelled = Record<string, readonly Made[]>

function contentOf (cas: Labelled, more: Partial<TrustContent> = {}): TrustContent {
  const labels = new Map(Object.entries(cas).map(([label, made]) => [label, certificatesOf(made)]))
  return { cas: [...labels.values()].flat(), labels, crls: [], isRevocationChecked: false, unknown: 'refuse', ...more }
}

const storeOf = (cas: Labelled, more?: Partial<TrustContent>): TrustStore => new TrustStore(contentOf(cas, more))

const labelsOf = (store: TrustStore, leaf: Made, others: readonly Made[] = [], now = Date.now()): string[] =>
  [...store.labelsOf(leaf.certificate, certificatesOf(others), now)].sort()

const root = make({ ca: true, subject: 'CN=Root' })
const caOf = (subject: string, issuer?: Made, more: Parameters<typeof make>[0] = {}): Made => make({ ca: true, subject, ...issuer !== undefined && { issuer }, ...more })

t.test('the label of a certificate is that of the labelled CA nearest to it', async (t) => {
  const [partners, staff] = [caOf('CN=Partners', root), caOf('CN=Staff', root)]
  const [jane, sam, ron] = [make({ issuer: partners }), make({ issuer: staff }), make({ issuer: root })]
  const store = storeOf({ partners: [partners], staff: [staff], all: [root] })
  t.strictSame([...store.labels], ['partners', 'staff', 'all'])
  t.strictSame([jane, sam, ron].map((leaf) => labelsOf(store, leaf)), [['partners'], ['staff'], ['all']])
  const below = caOf('CN=Below', partners)
  t.strictSame(labelsOf(store, make({ issuer: below }), [below]), ['partners'], 'with a CA between them that has none')
  const alone = make({ subject: 'CN=Alone', extensions: { usage: undefined } })
  t.strictSame(labelsOf(storeOf({ alone: [alone], all: [root] }), alone), ['alone'], 'its own, where a self-signed certificate is trusted by itself')
  const odd = caOf('CN=Odd', root, { extensions: { one: extension('2.5.29.17', Buffer.of(1)), two: extension('2.5.29.17', Buffer.of(1)) } })
  t.strictSame(labelsOf(storeOf({ odd: [odd], all: [root] }), ron), ['all'], 'next to a CA that cannot be parsed')
  t.strictSame(labelsOf(new TrustStore({ cas: certificatesOf([root]), crls: [], isRevocationChecked: false, unknown: 'refuse' }), ron), [], 'none where there are none')
})

t.test('an invalid certificate has no label', async (t) => {
  const store = storeOf({ all: [root] })
  t.strictSame(labelsOf(store, make({ issuer: root, days: [-3, -1] })), [])
  t.strictSame(labelsOf(store, make({ issuer: caOf('CN=Root') })), [])
  t.strictSame(labelsOf(store, make({ issuer: root, spoil: true })), [])
  t.strictSame(labelsOf(store, make({ issuer: root, extensions: { one: extension('2.5.29.17', Buffer.of(1)), two: extension('2.5.29.17', Buffer.of(1)) } })), [], 'nor one that cannot be parsed')
  const jane = make({ issuer: root, days: [-1, 1] })
  t.strictSame([labelsOf(store, jane), labelsOf(store, jane, [], Date.now() + 2 * DAY), labelsOf(store, jane)], [['all'], [], ['all']], 'on the day that it is asked for')
  const tomorrow = make({ issuer: root, days: [1, 3] })
  t.strictSame([labelsOf(store, tomorrow), labelsOf(store, tomorrow, [], Date.now() + 2 * DAY)], [[], ['all']])
})

t.test('a CA with two labels gives its clients none of them', async (t) => {
  const partners = caOf('CN=Partners', root)
  const jane = make({ issuer: partners })
  t.strictSame(labelsOf(storeOf({ partners: [partners], staff: [partners], all: [root] }), jane), [], 'nor the one of a CA above it')
  const self = caOf('CN=Partners', undefined, { like: partners })
  t.strictSame(labelsOf(storeOf({ partners: [partners], staff: [self], all: [root] }), jane), [], 'by two certificates of one name and key')
  t.strictSame(labelsOf(storeOf({ partners: [partners, self], all: [root] }), jane), ['partners'], 'two certificates of a CA under one label are fine')
  const namesake = caOf('CN=Partners')
  t.strictSame(labelsOf(storeOf({ partners: [partners, root], staff: [namesake] }), jane), ['partners'], 'and a CA that has the name only is another one')
})

t.test('another certificate of a labelled CA has the label of the CA', async (t) => {
  const [other, partners] = [caOf('CN=Other'), caOf('CN=Partners', root)]
  const jane = make({ issuer: partners })
  const renewed = caOf('CN=Partners', root, { like: partners, days: [-1, 90] })
  const certified = caOf('CN=Partners', other, { like: partners })
  const labels = { partners: [partners], staff: [root], other: [other] }
  for (const others of [[], [renewed], [certified], [certified, renewed]]) t.strictSame(labelsOf(storeOf(labels), jane, others), ['partners'])
})

t.test('a cross-certified CA has the labels of both roots once both paths are known, for every client', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a)
  const byB = caOf('CN=Shared', b, { like: byA })
  const [jane, joe, joan] = [make({ issuer: byA }), make({ issuer: byA }), make({ issuer: byA })]
  const store = storeOf({ a: [a], b: [b] })
  t.strictSame(labelsOf(store, jane, [byA]), ['a'])
  t.strictSame(labelsOf(store, jane), ['a'], 'as in a resumed session')
  t.strictSame(labelsOf(store, joe), ['a'])
  t.strictSame(labelsOf(store, jane, [byB]), ['a', 'b'], 'what is new is looked at, also where there was an answer')
  t.strictSame([labelsOf(store, jane), labelsOf(store, jane, [byA]), labelsOf(store, joe), labelsOf(store, joan)], Array(4).fill(['a', 'b']), 'and then it is known')
  const judged = storeOf({ a: [a], b: [b] })
  t.equal(judged.judge(jane.certificate, certificatesOf([byA, byB]), Date.now()).error, undefined)
  t.strictSame(labelsOf(judged, jane), ['a', 'b'], 'also where labels were not asked for in the full handshake')
  t.equal(judged.judge(joe.certificate, [], Date.now()).error, undefined)
  const [toB] = [caOf('CN=A', b, { like: a })]
  t.strictSame(labelsOf(store, make({ issuer: a }), [toB]), ['a'], 'a root is its own nearest CA')
})

t.test('what a client sends adds labels and takes none away', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const jane = make({ issuer: a })
  const many = Array.from({ length: 12 }, () => caOf('CN=A', b))
  const store = storeOf({ a: [a], b: [b] })
  t.strictSame([labelsOf(store, jane, many), labelsOf(store, jane), labelsOf(store, jane, many.slice(0, 5)), labelsOf(store, jane, [jane, a, b])], Array(4).fill(['a']))
  let searches = 0
  t.intercept(Intermediates.prototype, 'add', { value () { searches++ } })
  const below = caOf('CN=Below', a)
  const joe = make({ issuer: below })
  for (let round = 0; round < 10; round++) t.strictSame(labelsOf(store, joe, [below, many[round]!]), ['a'])
  const before = searches
  for (let round = 0; round < 10; round++) t.strictSame(labelsOf(store, joe, [below, many[round]!]), ['a'])
  t.equal(searches, before, 'what was looked at is not looked at again')
  const more = Array.from({ length: 70 }, () => caOf('CN=Other'))
  for (const other of more) labelsOf(store, joe, [below, other])
  const late = searches
  for (const other of more) t.strictSame(labelsOf(store, joe, [below, other]), ['a'])
  t.equal(searches, late, 'nor more than some of it: otherwise each request would cost a search')
  const cross = caOf('CN=Below', b, { like: below })
  store.update(store.content)
  t.strictSame(labelsOf(store, joe, [below, cross]), ['a', 'b'], 'until something changes')
})

t.test('CAs that have certified each other, in however many ways, cost little', async (t) => {
  const cas = Array.from({ length: 4 }, (_, index) => caOf(`CN=CA ${index}`, root))
  const cross = cas.flatMap((ca, index) => cas.filter((other) => other !== ca).map((issuer) => caOf(`CN=CA ${index}`, issuer, { like: ca })))
  const store = storeOf({ all: [root] })
  const jane = make({ issuer: cas[0]! })
  let remembered = 0
  const { add } = Intermediates.prototype
  t.intercept(Intermediates.prototype, 'add', { value (this: Intermediates, ...given: Parameters<typeof add>) { remembered++; add.apply(this, given) } })
  for (const sent of [[...cas, ...cross.slice(0, 5)], cross.slice(5)]) t.strictSame(labelsOf(store, jane, sent), ['all'])
  remembered = 0
  t.strictSame(labelsOf(store, jane, [caOf('CN=Other')]), ['all'])
  t.ok(remembered > 100 && remembered < 2_000, `${remembered} certificates in paths`)
})

t.test('a path with a revoked CA gives no label, and its other path does', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a)
  const byB = caOf('CN=Shared', b, { like: byA })
  const [jane, joe] = [make({ issuer: byA }), make({ issuer: byA })]
  const crlsOf = async (...crls: Buffer[]): Promise<Partial<TrustContent>> => ({ crls: await Promise.all(crls.map(async (crl) => await parseCrl(crl))), isRevocationChecked: true })
  const good = await crlsOf(makeCrl(a), makeCrl(b), makeCrl(byA))
  const cas = { a: [a], b: [b] }
  const store = storeOf(cas, good)
  // Signatures of CRLs that come with clients' CAs are verified when they are needed.
  const settled = async (leaf: Made, others: readonly Made[] = [byA, byB]): Promise<string[]> => {
    await until(() => store.judge(leaf.certificate, certificatesOf(others), Date.now()).pending === undefined)
    return labelsOf(store, leaf, others)
  }
  t.strictSame([await settled(jane), await settled(joe)], [['a', 'b'], ['a', 'b']])
  store.update(contentOf(cas, await crlsOf(makeCrl(a, { entries: [byA] }), makeCrl(b), makeCrl(byA, { entries: [joe] }))))
  t.strictSame([await settled(jane), await settled(jane, []), labelsOf(store, joe)], [['b'], ['b'], []])
  store.update(contentOf({ a: [a] }, good))
  t.strictSame([await settled(jane, []), [...store.labels]], [['a'], ['a']], 'nor does one to a CA that was removed')
  store.update(contentOf(cas, { isRevocationChecked: true }))
  t.strictSame(labelsOf(store, jane), [], 'nor one of which nothing is known')
})

t.test('a path whose OCSP answer is awaited gives its label when the answer is there', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a)
  const byB = caOf('CN=Shared', b, { like: byA })
  const jane = make({ issuer: byA })
  const status = { status: 'good', from: -Infinity, until: Infinity, pending: undefined } as const
  let [answer, pending]: [OcspStatus['status'], Promise<unknown> | undefined] = ['none', Promise.reject(new Error('no answer'))]
  const store = new TrustStore(contentOf({ a: [a], b: [b] }, { isRevocationChecked: true }), {
    ocsp: { statusOf: ({ certificate }) => certificate.raw.equals(byB.der) ? { ...status, status: answer, pending } : status }
  })
  t.strictSame(labelsOf(store, jane, [byA, byB]), ['a'])
  t.ok(store.labelsPending(jane.certificate), 'whoever needs the other label may wait')
  await store.labelsPending(jane.certificate)
  t.equal(store.labelsPending(jane.certificate), undefined)
  ;[answer, pending] = ['good', undefined]
  t.strictSame(labelsOf(store, jane, [byA, byB]), ['a', 'b'])
  answer = 'none'
  store.changed()
  t.strictSame(labelsOf(store, jane), ['a'])
  answer = 'good'
  t.strictSame([labelsOf(store, jane), labelsOf(store, jane, [], Date.now() + 6_000)], [['a'], ['a', 'b']], 'soon, also where nobody tells of it')
})

t.test('an intermediate that another client sends has only those leaves looked at again that it may be above of', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const ours = caOf('CN=Ours', a)
  const [jane, joe] = [make({ issuer: ours }), make({ issuer: ours })]
  const store = storeOf({ a: [a], b: [b] })
  const known = (): ReadonlySet<string> => store.labelsOf(jane.certificate, [], Date.now())
  store.labelsOf(jane.certificate, certificatesOf([ours]), Date.now())
  const before = known()
  t.strictSame([...before], ['a'])
  const theirs = caOf('CN=Theirs', b)
  for (let i = 0; i < 5; i++) {
    // Of the same name, and with a key of its own.
    const lookAlike = caOf('CN=Ours', theirs)
    t.strictSame(labelsOf(store, make({ issuer: lookAlike }), [lookAlike, theirs]), ['b'])
    t.equal(known(), before, 'nothing was looked for')
  }
  t.strictSame(labelsOf(store, joe, [caOf('CN=Ours', b, { like: ours })]), ['a', 'b'])
  t.strictSame([...known()], ['a', 'b'], 'a cross-certificate of its CA is above of it')
})

// By a rule of its own, over PKIs that chance has made

/** A CA is a name and a key; its certificates are edges to those that have issued them. */
interface Edge { readonly made: Made, readonly subject: number, readonly issuer: number, readonly isValid: boolean }

function randomFrom (seed: number) {
  let state = seed
  /** Park and Miller's generator. */
  const next = (): number => (state = state * 48_271 % 0x7fffffff) / 0x7fffffff
  const below = (limit: number): number => Math.floor(next() * limit)
  return { below, chance: (of: number) => next() < of, some: <Item>(items: readonly Item[], of: number) => items.filter(() => next() < of).sort(() => next() - 0.5) }
}

t.test('in any PKI, labels are those of all paths through what is configured or known', async (t) => {
  const seen: Record<string, number> = {}
  for (let seed = 1; seed <= 40; seed++) {
    const random = randomFrom(seed * 7_919)
    const count = 4 + random.below(3)
    // The first and the last one have the same name.
    const names = Array.from({ length: count }, (_, index) => `CN=CA ${index % (count - 1)}`)
    const selfSigned = names.map((name) => caOf(name))
    const edges: Edge[] = []
    const issue = (subject: number, issuer: number): void => {
      const isValid = !random.chance(0.15)
      edges.push({ made: caOf(names[subject]!, selfSigned[issuer]!, { like: selfSigned[subject]!, days: isValid ? [-1, 30] : [-3, -1] }), subject, issuer, isValid })
    }
    for (const [index, made] of selfSigned.entries()) if (index < 2 || random.chance(0.2)) edges.push({ made, subject: index, issuer: index, isValid: true })
    for (let rest = 4 + random.below(6); rest > 0; rest--) {
      const subject = random.chance(0.3) ? random.below(2) : 2 + random.below(count - 2)
      issue(subject, (subject + 1 + random.below(count - 1)) % count)
    }
    const configured = edges.filter(({ subject, issuer }, index) => index < 2 || random.chance(subject === issuer ? 0.7 : 0.1))
    const labelled = configured.flatMap((edge, index) => ['x', 'y', 'z', 'x'].slice(index < 2 ? index : random.below(3)).slice(0, random.chance(0.1) ? 2 : 1).map((label) => ({ label, edge })))
    const cas: Record<string, Made[]> = {}
    for (const { label, edge } of labelled) (cas[label] ??= []).push(edge.made)
    const anchors = new Set(configured.filter(({ subject, issuer }) => subject === issuer))
    const labelsBy = (subject: number): Set<string> => new Set(labelled.filter(({ edge }) => edge.subject === subject).map(({ label }) => label))

    /** Every valid path from a CA up to an anchor, through these certificates. */
    function pathsFrom (issuer: number, through: ReadonlySet<Edge>, path: readonly Edge[] = []): Edge[][] {
      return [...through].filter((edge) => edge.subject === issuer && edge.isValid && !path.includes(edge)).flatMap((edge) =>
        anchors.has(edge) ? [[...path, edge]] : edge.subject === edge.issuer ? [] : pathsFrom(edge.issuer, through, [...path, edge]))
    }
    function labelOf (path: readonly Edge[]): string[] {
      const nearest = path.map(({ subject }) => labelsBy(subject)).find((labels) => labels.size > 0)
      return nearest?.size === 1 ? [...nearest] : []
    }

    const store = storeOf(cas)
    const known = new Set(configured)
    const leaves = names.map((_, index) => make({ issuer: selfSigned[index]! }))
    for (let round = 0; round < 25; round++) {
      const issuer = random.chance(0.2) ? random.below(2) : 2 + random.below(count - 2)
      const sent = random.some(edges, random.chance(0.3) ? 0 : 0.5).slice(0, 9)
      for (const path of pathsFrom(issuer, new Set([...known, ...sent]))) for (const edge of path) known.add(edge)
      const expected = [...new Set(pathsFrom(issuer, known).flatMap(labelOf))].sort()
      const others = sent.map(({ made }) => made)
      if (random.chance(0.5)) store.judge(leaves[issuer]!.certificate, certificatesOf(others), Date.now())
      const found = [labelsOf(store, leaves[issuer]!, others), labelsOf(store, leaves[issuer]!)]
      if (found.some((labels) => labels.join() !== expected.join())) t.strictSame(found, [expected, expected], `seed ${seed}, round ${round}: as sent, and resumed`)
      seen[expected.length] = (seen[expected.length] ?? 0) + 1
    }
  }
  t.ok([0, 1, 2].every((length) => seen[length]! > 50), `by number of labels: ${JSON.stringify(seen)}`)
})

// As options, files and over sockets

const [partnersCa, staffCa, serverCa] = [caOf('CN=Partners'), caOf('CN=Staff'), await authority('Server')]
const server = await issueServer(serverCa)
const [jane, sam] = [make({ issuer: partnersCa, subject: 'CN=Jane' }), make({ issuer: staffCa, subject: 'CN=Sam' })]

t.test('labels that mean nothing are refused', async (t) => {
  const resolve = (ca: unknown) => () => resolveTrustOptions({ ca } as never, 'options: clientCertificates')
  const code = 'FST_HTTP_SECURITY_INVALID_OPTIONS'
  for (const [ca, message] of [
    [{}, /^options: clientCertificates: ca: an object without labels is not allowed; allowed: .*\{ partners: 'partners-ca\.pem' \}$/],
    [{ partners: '' }, /^options: clientCertificates: ca: partners: '' is not allowed; allowed: the path of a file, PEM text, or a Buffer$/],
    [{ partners: undefined }, /ca: partners: undefined is not allowed/],
    [{ partners: null }, /ca: partners: an object is not allowed/],
    [{ partners: 5 }, /ca: partners: number is not allowed/],
    [{ partners: [] }, /ca: partners: an empty list is not allowed/],
    [{ partners: ['a.pem', { pem: 'x' }] }, /ca: partners: an object is not allowed/],
    [['a.pem', { partners: 'a.pem' }], /ca: an object is not allowed/],
    [new DataView(new ArrayBuffer(3)), /ca: an object is not allowed/],
    [{ '': 'a.pem' }, /ca: the label '' is not allowed; allowed: 1 to 63 letters/],
    [{ 'a b': 'a.pem' }, /ca: the label 'a b' is not allowed/],
    [{ '.a': 'a.pem' }, /ca: the label '\.a' is not allowed/],
    [{ ['a'.repeat(64)]: 'a.pem' }, /ca: the label 'a{64}' is not allowed/],
    [{ ['__proto__']: 'a.pem' }, /ca: the label '__proto__' is not allowed/],
    [{ constructor: 'a.pem' }, /ca: the label 'constructor' is not allowed/]
  ] as const) t.throws(resolve(ca), { code, message }, String(message))
  t.throws(resolve(Object.create({ partners: 'a.pem' })), { code }, 'nor inherited ones')
  t.strictSame(resolveTrustOptions({ ca: { 'A-b_c.9': ['a.pem', Buffer.from('x')] } }, '').ca.map(({ label }) => label), ['A-b_c.9', 'A-b_c.9'])
})

/** Of clients as they come over TLS: what the app would go by. */
async function serveLabels (t: Test, clientCertificates: NonNullable<EnableTlsOptions['clientCertificates']>, files: Record<string, string> = {}) {
  const served = await serveTrust(t, {
    server,
    files,
    tls: { clientCertificates },
    declare (app) {
      app.get('/labels', async ({ raw, headers }) => {
        const socket = raw.socket as TLSSocket
        const link = Reflect.get(served.tls, kTlsInterface) as TlsInterface
        const store = link.trustOf(link.hostGroupOf(String(headers.host).split(':')[0]!))
        return { labels: [...store.labelsOf(socket.getPeerX509Certificate()!, link.handshakeOf(socket).others, Date.now())].sort(), isReused: socket.isSessionReused() }
      })
    }
  })
  const link = Reflect.get(served.tls, kTlsInterface) as TlsInterface
  const labels = async (leaf: Made, { others = [], host = 'localhost', session }: { others?: readonly Made[], host?: string, session?: Buffer } = {}) => {
    const { cert, key } = identityOf(leaf)
    const wire = await connectWire(t, { port: served.https, ca: serverCa.cert, cert: cert + others.map(({ pem }) => pem).join(''), key, servername: host, checkServerIdentity: () => undefined, ...session !== undefined && { session } })
    const answer = await wire.get('/labels', { Host: host })
    return { ...JSON.parse(answer!.body) as { labels: string[], isReused: boolean }, ticket: wire.ticket }
  }
  return { served, link, labels }
}

t.test('a client of clientCertificates.ca has its label, in full handshakes and in resumed sessions', async (t) => {
  const [a, b] = [caOf('CN=A'), caOf('CN=B')]
  const byA = caOf('CN=Shared', a)
  const byB = caOf('CN=Shared', b, { like: byA })
  const both = make({ issuer: byA, subject: 'CN=Both' })
  const { labels, link } = await serveLabels(t, { ca: { partners: [partnersCa.pem, a.pem], staff: Buffer.from(staffCa.pem + b.pem) } })
  t.strictSame([...link.labels()], ['partners', 'staff'])
  t.match([await labels(jane), await labels(sam)], [{ labels: ['partners'] }, { labels: ['staff'] }])
  const first = await labels(both, { others: [byA, byB] })
  t.match(first, { labels: ['partners', 'staff'], isReused: false })
  t.match(await labels(both, { session: await first.ticket }), { labels: ['partners', 'staff'], isReused: true }, 'with its leaf alone')
})

t.test('labels are those of the host that a request names', async (t) => {
  const { labels, link } = await serveLabels(t, { 'a.test': { ca: { partners: partnersCa.pem } }, 'b.test': { ca: { guests: partnersCa.pem, staff: staffCa.pem } } })
  t.strictSame([...link.labels()], ['partners', 'guests', 'staff'])
  t.match([await labels(jane, { host: 'a.test' }), await labels(jane, { host: 'b.test' }), await labels(sam, { host: 'a.test' })], [{ labels: ['partners'] }, { labels: ['guests'] }, { labels: [] }])
})

t.test('a host may be called ca, and so may a label', async (t) => {
  const enable = async (clientCertificates: object) => {
    const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates } as EnableTlsOptions)
    t.teardown(() => tls.close())
    return { hosts: tls.trust().map(({ host }) => host), labels: [...(Reflect.get(tls, kTlsInterface) as TlsInterface).labels()] }
  }
  t.strictSame(await enable({ ca: { ca: staffCa.pem } }), { hosts: ['ca'], labels: [] }, 'an object that could be either is the options of a host')
  t.strictSame(await enable({ ca: { ca: staffCa.pem, partners: partnersCa.pem } }), { hosts: [''], labels: ['ca', 'partners'] })
  t.strictSame(await enable({ ca: { ca: staffCa.pem }, ocsp: false }), { hosts: [''], labels: ['ca'] })
})

t.test('a certificate that a proxy forwards has its label, with proxy.ca', async (t) => {
  const dir = t.testdir({ 'staff.pem': staffCa.pem })
  const proxy = resolveProxy({ trust: 'loopback', certificate: { header: 'x-cert', encoding: 'base64-der', verified: 'here' }, ca: { partners: partnersCa.pem, staff: join(dir, 'staff.pem') } })
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  const reader = await openForwarded(app, proxy.certificate!, proxy.authorities)
  t.strictSame([...reader.trust!.labels], ['partners', 'staff'])
  app.get('/', async ({ raw }) => {
    const { leaf, others } = reader.read(raw, Date.now())
    return [...reader.trust!.labelsOf(leaf!, others, Date.now())]
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const labels = async (leaf: Made): Promise<unknown> => JSON.parse((await ask({ port, path: '/', headers: { 'x-cert': written['base64-der'](leaf.pem) } })).body)
  t.strictSame([await labels(jane), await labels(sam)], [['partners'], ['staff']])
})

t.test('files of labelled CAs are watched, and messages name the label', async (t) => {
  const files = { 'partners.pem': partnersCa.pem, 'staff.pem': staffCa.pem }
  const dir = t.testdir(files)
  const log: string[] = []
  const open = async (ca: Record<string, string | Uint8Array>) => {
    const trust = await ClientTrust.open(resolveTrustOptions({ ca }, 'clientCertificates'), { role: 'clientCertificates', log: (level, message) => log.push(`${level} ${message}`) })
    t.teardown(() => trust.close())
    return trust
  }
  const write = (name: string, ...made: Made[]): void => {
    writeFileSync(join(dir, 'new'), made.map(({ pem }) => pem).join(''))
    renameSync(join(dir, 'new'), join(dir, name))
  }
  const trust = await open({ partners: join(dir, 'partners.pem'), staff: join(dir, 'staff.pem') })
  t.strictSame([[...trust.labels], trust.warnings, trust.inForce.authorities.map(({ label }) => label)], [['partners', 'staff'], [], ['partners', 'staff']])
  const { cas, store: { epoch } } = trust
  write('partners.pem', staffCa)
  write('staff.pem', partnersCa)
  await trust.reload()
  t.strictSame([labelsOf(trust.store, jane), labelsOf(trust.store, sam)], [['staff'], ['partners']], 'CAs that change places')
  t.equal(trust.cas, cas, 'which changes no handshake')
  t.ok(trust.store.epoch > epoch)
  t.equal(log[0], 'info clientCertificates: labels of client CAs were read anew and are in force')
  trust.watch()
  write('partners.pem', partnersCa)
  t.ok(await until(() => labelsOf(trust.store, jane).length === 0), 'a CA under both labels')
  t.ok(await until(() => log.some((line) => /^warn .*(partners|staff)\.pem: CN=Partners has the labels 'partners' and 'staff', .*its clients get none of them$/.test(line))), log.join('\n'))
  t.match((await open({ partners: join(dir, 'partners.pem'), staff: Buffer.from(partnersCa.pem) })).warnings, [/CN=Partners has the labels 'partners' and 'staff'/])
  await t.rejects(open({ partners: Buffer.from('x'), staff: Buffer.from(staffCa.pem) }), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message: /^clientCertificates\.ca\.partners: holds no certificate/ })
})
