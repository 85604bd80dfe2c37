/**
 * Units of lib/trust, and what lib/proxy keeps of them: what is quicker shown without a server, or cannot be brought about
 * with one. The store has trust-store.test.ts, and fetching has fetch.test.ts.
 */
import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { mock } from 'node:test'
import { setImmediate, setTimeout as wait } from 'node:timers/promises'
import { Cached, createForwardedReader, VerifiedCache } from '../lib/proxy/forwarded-certificate.ts'
import type { CacheDirectory } from '../lib/trust/cache-directory.ts'
import { ClientTrust } from '../lib/trust/client-trust.ts'
import { CrlDownloads } from '../lib/trust/crl-downloads.ts'
import { FetchProblems } from '../lib/trust/fetch-problems.ts'
import type { Fetcher } from '../lib/trust/fetch.ts'
import { Intermediates } from '../lib/trust/intermediates.ts'
import { OcspResponders } from '../lib/trust/ocsp-responders.ts'
import { destinationOf, resolveTrustOptions } from '../lib/trust/options.ts'
import { keptVerdict } from '../lib/trust/peer-certificate.ts'
import { type TrustContent, TrustStore } from '../lib/trust/store.ts'
import type { Written } from '../lib/proxy/encodings.ts'
import { type Draft, type Made, make, names, pemOf } from './fixtures/chains.ts'
import { idp, makeCrl } from './fixtures/crls.ts'
import { written } from './fixtures/forward.ts'
import { ocspResponse } from './fixtures/ocsp.ts'
import { moveClock, responder } from './fixtures/online.ts'
import { type Authority, authority, issue as issueClient, selfSigned } from './fixtures/pki.ts'
import { DAY, HOUR, MINUTE, until } from './fixtures/time.ts'
import { parseCertificate } from './fixtures/x509.ts'

/** Two client CAs of one name. */
const [root, other] = [1, 2].map(() => make({ ca: true, subject: 'CN=Partners', days: [-1, 300] })) as [Made, Made]
/** A client's certificate, by its common name. */
const issue = (name: string, issuer: Made, extensions: Draft['extensions'] = {}): Made => make({ issuer, subject: `CN=${name}`, extensions })
const pemOfAll = (...lists: Buffer[]): Buffer => Buffer.from(lists.map((list) => pemOf('X509 CRL', list)).join(''))

t.test('CRLs are files, URLs or those that certificates name', async (t) => {
  const { urls, followsDistributionPoints, crl } = resolveTrustOptions({ ca: root.pem, crl: ['https://lists.test/a.crl', 'HTTP://lists.test:8080', 'distribution-points', 'a.crl'] }, 'options')
  t.strictSame([urls.map(destinationOf), followsDistributionPoints, crl.length], [['lists.test:443', 'lists.test:8080'], true, 1])
})

t.test('many intermediates of one client CA displace none of another in the cache', async (t) => {
  const files = new Map<string, Buffer>()
  let writes = 0
  const directory = {
    read: async (name: string) => files.has(name) ? { bytes: files.get(name)!, writtenAt: 0 } : undefined,
    async write (name: string, bytes: Buffer) {
      writes++
      files.set(name, bytes)
    }
  } as unknown as CacheDirectory
  const [removed, added]: [X509Certificate[], X509Certificate[]] = [[], []]
  const open = () => Object.assign(new Intermediates(directory), { onRemove: (one: X509Certificate) => removed.push(one), onAdd: (one: X509Certificate) => added.push(one) })
  const intermediates = open()
  const direct = make({ ca: true, issuer: root, subject: 'CN=Direct' })
  const deeper = Array.from({ length: 258 }, (_, index) => make({ ca: true, issuer: direct, like: direct, subject: `CN=Deeper ${index}` }).certificate)
  intermediates.add(root.certificate, direct.certificate)
  intermediates.add(other.certificate, deeper[0]!)
  for (const each of deeper.slice(0, 256)) intermediates.add(root.certificate, each)
  intermediates.add(root.certificate, deeper[2]!)
  for (const each of deeper.slice(256)) intermediates.add(root.certificate, each)
  t.equal(added.length, 260)
  t.strictSame(removed.map(({ subject }) => subject), ['CN=Deeper 1'], 'the first one leads to another anchor as well')
  const known = intermediates.certificates()
  t.equal(known.length, 258)
  t.ok([direct.certificate, deeper[0], deeper[2]].every((each) => known.includes(each!)))
  while (files.size < 2) await wait(10)
  t.equal(writes, 2, 'a file for each anchor, with all that have come meanwhile')
  t.equal(files.values().next().value!.toString().split('BEGIN').length - 1, 257)

  const again = open()
  await again.restore([root.certificate])
  t.equal(again.certificates().length, 257, 'what leads to anchors that are not configured is left alone')
})

t.test('fetched CRLs are bounded for each client CA, and a delta CRL stays until a base CRL has its entries', async (t) => {
  const clock = moveClock(t)
  const served = new Map<string, Buffer>()
  const fetcher = { admit: () => true, delayOf: () => 0, fetch: async (url: string) => served.get(url)! } as unknown as Fetcher
  const told: string[] = []
  const changes: string[] = []
  const problems = new FetchProblems('crl', (level, message) => { told.push(`${level}: ${message}`) })
  const anchor = parseCertificate(root.certificate)
  const downloads = new CrlDownloads({
    fetchers: { named: fetcher, found: fetcher },
    directory: undefined,
    authoritiesNamed: () => [],
    changed: async () => { changes.push('changed') },
    problems,
    warn: (message) => { told.push(message) },
    signal: () => new AbortController().signal,
    mostBytes: 4_000
  })
  const stop = downloads.watch()
  t.teardown(stop)
  const want = async (path: string, list?: Buffer, owner = anchor): Promise<void> => {
    const url = `http://lists.test${path}?secret`
    if (list !== undefined) served.set(url, list)
    await downloads.want([url], anchor, owner, Date.now())
  }
  const numbers = () => downloads.crls.map(({ crl: { number } }) => Number(number))
  const small = makeCrl(root, { number: 1 })
  const large = makeCrl(root, { number: 2, bulk: { count: 60 } })
  t.ok(large.length > 2_000 && large.length < 2_500)
  await want('/large', large)
  await want('/small', small)
  await want('/also', large)
  t.strictSame(numbers(), [2, 1], 'a second large one is too much')
  t.strictSame(told.splice(0), ['warn: crl: http://lists.test/also: there would be more than 4000 bytes of revocation lists from below one authority'])
  await want('/also', large, parseCertificate(other.certificate))
  t.strictSame(numbers(), [2, 1, 2], 'for another partner, it is not')
  t.equal(changes.length, 3)

  const next = async (path: string, list: Buffer): Promise<number[]> => {
    served.set(`http://lists.test${path}?secret`, list)
    clock.advance(25 * HOUR)
    await want(path)
    clock.look()
    await setImmediate()
    for (let turns = 0; turns < 50; turns++) await setImmediate()
    return downloads.crls.filter(({ source }) => source.endsWith(path)).map(({ crl: { number } }) => Number(number))
  }
  await want('/delta', makeCrl(root, { number: 5 }))
  t.strictSame(await next('/delta', pemOfAll(makeCrl(root, { number: 5 }), makeCrl(root, { number: 7, base: 5, entries: [] }))), [5, 7])
  t.strictSame(await next('/delta', makeCrl(root, { number: 6 })), [6, 7], 'a delta that is newer than its base')
  t.strictSame(await next('/delta', pemOfAll(makeCrl(root, { number: 6 }), makeCrl(root, { number: 8, base: 6 }))), [6, 8], 'until there is a newer one')
  t.strictSame(await next('/delta', makeCrl(root, { number: 8 })), [8], 'or its base says as much')
  t.strictSame(await next('/delta', makeCrl(root, { number: 9, idp: idp({ users: true }) })), [9, 8], 'and lists of other scopes stay')
  t.strictSame(told.filter((message) => message.includes('/delta')), [])

  // Of issuers whose certificates name a URL, the last ones are known.
  const branches = Array.from({ length: 9 }, (_, index) => make({ ca: true, issuer: root, subject: `CN=Branch ${index}` }))
  served.set('http://lists.test/branches?secret', makeCrl(branches[0]!, { number: 1 }))
  for (const branch of [...branches, branches[8]!]) downloads.want(['http://lists.test/branches?secret'], parseCertificate(branch.certificate), anchor, Date.now())
  await want('/branches')
  t.strictSame(await next('/branches', makeCrl(branches[8]!, { number: 2 })), [2])
  t.strictSame(told.splice(0).filter((message) => message.includes('/branches')), [
    'warn: crl: http://lists.test/branches: it has a revocation list that is signed by no authority which is known: nothing is concluded from it yet',
    'info: crl: http://lists.test/branches: all is well again'
  ])
})

t.test('of many CRLs at one URL, those in force are kept, and others are not taken', async (t) => {
  const clock = moveClock(t)
  let reply: Buffer = Buffer.alloc(0)
  const fetcher = { admit: () => true, delayOf: () => 0, fetch: async () => reply } as unknown as Fetcher
  const told: string[] = []
  const downloads = new CrlDownloads({
    fetchers: { named: fetcher, found: fetcher },
    directory: undefined,
    authoritiesNamed: () => [parseCertificate(root.certificate)],
    changed: async () => {},
    problems: new FetchProblems('crl', (_, message) => { told.push(message) }),
    warn: () => {},
    signal: () => new AbortController().signal
  })
  t.teardown(downloads.watch())
  const next = async (from: number, count: number): Promise<number> => {
    reply = pemOfAll(...Array.from({ length: count }, (_, each) => makeCrl(root, { number: 1, idp: idp({ names: [names.uri(`http://lists.test/${from + each}`)] }), days: [0, 30] })))
    const [before, messages] = [downloads.crls.length, told.length]
    clock.advance(2 * DAY)
    clock.look()
    await until(() => downloads.crls.length !== before || told.length !== messages)
    return downloads.crls.length
  }
  await downloads.begin(['http://lists.test/'])
  t.equal(await next(0, 257), 0)
  t.equal(told.at(-1), 'crl: http://lists.test/: it has more than 256 revocation lists')
  t.equal(await next(0, 200), 200)
  t.equal(await next(200, 100), 200)
  t.equal(told.at(-1), 'crl: http://lists.test/: there would be more than 256 revocation lists of one URL')
  t.equal(await next(200, 56), 256)
})

t.test('CRLs that no certificate names any more make room after they have ended, those that say least first', async (t) => {
  const clock = moveClock(t)
  const served = new Map<string, Buffer>()
  let fetched = 0
  const fetcher = { admit: () => true, delayOf: () => 0, fetch: async (url: string) => { fetched++; return served.get(url) ?? Buffer.alloc(0) } } as unknown as Fetcher
  const removed: string[] = []
  const told: string[] = []
  const anchor = parseCertificate(root.certificate)
  const downloads = new CrlDownloads({
    fetchers: { named: fetcher, found: fetcher },
    directory: { read: async () => undefined, write: async () => {}, remove: async (name: string) => { removed.push(name) } } as unknown as CacheDirectory,
    authoritiesNamed: () => [],
    changed: async () => {},
    problems: new FetchProblems('crl', (_, message) => { told.push(message) }),
    warn: () => {},
    signal: () => new AbortController().signal,
    mostBytes: 4_000
  })
  t.teardown(downloads.watch())
  const want = async (path: string, list?: Buffer): Promise<void> => {
    if (list !== undefined) served.set(`http://lists.test${path}`, list)
    await downloads.want([`http://lists.test${path}`], anchor, anchor, Date.now())
    for (let turns = 0; turns < 20; turns++) await setImmediate()
  }
  const there = () => downloads.crls.map(({ source }) => source.slice('http://lists.test'.length))
  const jane = issue('Jane', root)
  await want('/empty', makeCrl(root, { days: [-1, 0.1] }))
  await want('/revoked', makeCrl(root, { days: [-1, 0.1], entries: [jane] }))
  clock.advance(HOUR)
  await want('/also-revoked', makeCrl(root, { days: [-1, 0.1], entries: [jane] }))
  await want('/in-force', makeCrl(root, { days: [-1, 30] }))
  served.clear()
  clock.advance(27 * HOUR)
  clock.look()
  t.strictSame(there(), ['/revoked', '/also-revoked', '/in-force'])
  t.equal(removed.length, 1, 'what says nothing is not kept')
  t.equal(fetched, 4, 'nor is anything fetched')
  const bulk = (count: number): Buffer => makeCrl(root, { bulk: { count } })
  await want('/large', bulk(90))
  t.strictSame([there(), removed.length], [['/also-revoked', '/in-force', '/large'], 2], 'what was not used for the longest time makes room')
  await want('/too-large', bulk(75))
  t.strictSame([there(), removed.length], [['/in-force', '/large'], 3])
  t.match(told.at(-1), /too-large: there would be more than 4000 bytes of revocation lists from below one authority$/)
  await want('/revoked')
  clock.advance(27 * HOUR)
  t.equal(fetched, 7)

  for (let index = 0; index < 1_000; index++) await downloads.want([`http://lists.test/${index}`], anchor, anchor, Date.now())
  t.match(told.at(-1), /below CN=Partners: certificates name more than 100 URLs, and no others are fetched$/)
  t.strictSame(there(), ['/in-force', '/large'], 'what is in force makes no room, whether it is used or not')
  clock.advance(40 * DAY)
  await want('/one-more', bulk(1))
  t.strictSame(there(), ['/large', '/one-more'], 'until it has ended')
})

t.test('OCSP statuses of a small client CA do not make room for those of a large one', async (t) => {
  const asked: string[] = []
  const fetcher = {
    admit: () => true,
    delayOf: () => 0,
    async fetch (url: string) {
      asked.push(url)
      return answers.get(url)!
    }
  } as unknown as Fetcher
  const answers = new Map<string, Buffer>()
  const files = new Map<string, Buffer>()
  const directory = {
    read: async () => undefined,
    write: async (name: string, bytes: Buffer) => { files.set(name, bytes) },
    remove: async (name: string) => { files.delete(name) }
  } as unknown as CacheDirectory
  const responders = new OcspResponders({ fetcher, directory, url: undefined, changed: () => {}, problems: new FetchProblems('OCSP', () => {}), signal: () => new AbortController().signal, most: 4 })
  const certificate = (name: string, issuer: Made, status: 'good' | 'revoked') => {
    const url = `http://ocsp.test/${name}`
    const leaf = issue(name, issuer, { access: responder(url) })
    answers.set(url, ocspResponse({ certificate: leaf, issuer, status }))
    return [parseCertificate(leaf.certificate), parseCertificate(issuer.certificate), parseCertificate(issuer.certificate)] as const
  }
  const statusOf = async (about: ReturnType<typeof certificate>): Promise<string> => {
    const before = asked.length
    const { pending } = responders.statusOf(...about, Date.now())!
    await pending
    return `${responders.statusOf(...about, Date.now())!.status}${asked.length > before ? ', asked' : ''}`
  }
  const small = certificate('small', other, 'good')
  const large = Array.from({ length: 6 }, (_, index) => certificate(`large-${index}`, root, index === 0 ? 'revoked' : 'good'))
  t.equal(await statusOf(small), 'good, asked')
  t.equal(await statusOf(large[0]!), 'revoked, asked')
  for (const each of large.slice(1)) t.equal(await statusOf(each), 'good, asked')
  t.strictSame([await statusOf(small), await statusOf(large[0]!), await statusOf(large[5]!)], ['good', 'revoked', 'good'])
  t.equal(await statusOf(large[1]!), 'good, asked', 'its own oldest made room')
  const revoked = Array.from({ length: 5 }, (_, index) => certificate(`revoked-${index}`, root, 'revoked'))
  for (const each of revoked) t.equal(await statusOf(each), 'revoked, asked')
  t.strictSame([await statusOf(small), await statusOf(revoked[4]!)], ['good', 'revoked'])
  // With one of each partner, the last one of any makes room.
  const others = Array.from({ length: 4 }, (_, index) => certificate(`one-${index}`, make({ ca: true, subject: `CN=Partner ${index}` }), 'good'))
  for (const each of others) t.equal(await statusOf(each), 'good, asked')
  for (let turns = 0; turns < 20; turns++) await setImmediate()
  t.equal(files.size, 4, 'files make room with them')

  // What comes for one that has made room is not kept.
  let answer = (_: Buffer): void => {}
  const late = certificate('late', root, 'good')
  const response = answers.get('http://ocsp.test/late')!
  answers.set('http://ocsp.test/late', new Promise<Buffer>((resolve) => { answer = resolve }) as never)
  const { pending } = responders.statusOf(...late, Date.now())!
  for (const each of others) await statusOf(each)
  answer(response)
  await pending
  for (let turns = 0; turns < 20; turns++) await setImmediate()
  t.notOk([...files.values()].some((bytes) => bytes.equals(response)))
})

t.test('fetch failures are logged when they begin, change and end, once a minute at most', (t) => {
  const clock = moveClock(t)
  const told: string[] = []
  const problems = new FetchProblems('OCSP', (level, message) => { told.push(`${level} ${message}`) })
  const url = 'http://ocsp.test/'
  problems.succeeded(url)
  problems.failed(url, url, `${url}: it hangs up`)
  problems.failed(url, url, 'it hangs up')
  problems.failed(url, url, 'it lies')
  t.strictSame(told, [`warn OCSP: ${url}: it hangs up`])
  t.strictSame([problems.current, problems.has(url)], [[`OCSP: ${url}: it lies`], true])
  clock.advance(MINUTE)
  problems.failed(url, url, 'it lies')
  problems.succeeded(url)
  problems.succeeded(url)
  problems.failed(url, url, 'it lies')
  t.strictSame(told.splice(0).slice(1), [`warn OCSP: ${url}: it lies`, `info OCSP: ${url}: all is well again`])
  clock.advance(MINUTE)
  problems.failed(url, url, 'it lies')
  problems.succeeded(url)
  t.strictSame(told.splice(0), [`warn OCSP: ${url}: it lies`, `info OCSP: ${url}: all is well again`])
  t.strictSame([problems.current, problems.has(url)], [[], false])
  for (let index = 0; index < 1_001; index++) problems.failed(String(index), url, 'it lies')
  t.equal(problems.current.length, 1_000)
  t.end()
})

t.test('the log says that client CA files take too long to read, and that they were read again', async (t) => {
  const path = join(t.testdir({ 'ca.pem': root.pem }), 'ca.pem')
  const log: string[] = []
  const trust = await ClientTrust.open(resolveTrustOptions({ ca: path }, 'proxy'), { role: 'proxy', log: (level, message) => { log.push(`${level}: ${message}`) } })
  t.teardown(() => trust.close())
  trust.watch()
  log.length = 0
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  trust.reload().catch(() => {})
  mock.timers.tick(10_000)
  mock.timers.reset()
  while (log.length < 2) await wait(10)
  t.match(log, [
    /^warn: proxy: reading client CAs and revocation lists has not ended after 10 seconds/,
    /^info: proxy: all client CAs and revocation lists are read again/
  ])
})

t.test('only verified certificates are cached, and a bounded number', async (t) => {
  const [ca, others] = await Promise.all([authority('Partners'), authority('Others')])
  const [jane, outsider] = await Promise.all([issueClient(ca), issueClient(others)])
  let judged = 0
  class Counted extends TrustStore {
    override judge (...asked: Parameters<TrustStore['judge']>): ReturnType<TrustStore['judge']> {
      judged++
      return super.judge(...asked)
    }
  }
  const content = { cas: [new X509Certificate(ca.cert)], crls: [], isRevocationChecked: false, unknown: 'refuse' } as const
  const store = new Counted(content)
  const reader = createForwardedReader({ header: 'x-cert', encoding: 'base64-der', verified: 'here', hops: 1 }, store)
  const readLines = (...rawHeaders: string[]): ReturnType<typeof reader.read> => reader.read({ rawHeaders, headers: {} }, Date.now())
  const readOf = (who: Authority): ReturnType<typeof reader.read> => readLines('X-Cert', written['base64-der'](who.cert))
  const first = readOf(jane)
  t.equal(readOf(jane), first)
  t.equal(judged, 1)
  t.equal(keptVerdict(first, store, Date.now())?.refusal, undefined)
  const [one, two] = [readOf(outsider), readOf(outsider)]
  t.not(one, two)
  t.strictSame([one, two].map(({ verdict }) => verdict?.refusal), ['certificateUntrusted', 'certificateUntrusted'])
  const expired = await issueClient(ca, { days: [-2, -1] })
  t.not(readOf(expired), readOf(expired), 'nor what has expired')
  t.equal(judged, 5)
  store.update({ ...content, cas: [new X509Certificate(others.cert)] })
  t.equal(readOf(jane), first, 'what a header says stays,')
  t.equal(keptVerdict(first, store, Date.now()), undefined, 'and not the verdict of a client CA that was removed')
  t.equal(readLines('X-Cert', written['base64-der']((await selfSigned()).cert), 'x-other-header', 'x').verdict?.refusal, 'certificateUntrusted')
  t.equal(readLines('X-Cert', written['base64-der'](jane.cert), '', 'x'), first, 'a header without a name is none that comes beside a certificate')

  const budget = { most: 64 * 1024 * 1024, overhead: 1024, perCharacter: 1 }
  class Numbered extends Cached {
    readonly index: number
    constructor (text: string, index: number, companion?: string) {
      super(text, companion)
      this.index = index
    }
  }
  const create = (written: Written) => {
    const cache = new VerifiedCache<Numbered>(written, budget)
    return { cache, set: (text: string, index: number, companion?: string) => { cache.set(new Numbered(text, index, companion)) }, get: (text: string, companion?: string) => cache.get(text, companion)?.index }
  }
  const known = create({ encoding: 'url-pem', hops: 1 })
  const text = (index: number): string => `${String(index).padStart(10, '0')}${'x'.repeat(14_000)}`
  // All alike where they are told apart
  known.set(text(1), 1)
  known.set(text(2), 2)
  t.strictSame([known.get(text(1)), known.get(text(2)), known.get(text(2), 'a chain')], [undefined, 2, undefined])
  const element = (hash: string): string => `By=spiffe://a;Hash=${hash};Cert="x";Subject="y"`
  const elements = create({ encoding: 'xfcc', hops: 1 })
  for (const [index, hash] of ['a', 'b'].entries()) elements.set(element(hash), index)
  t.strictSame([elements.get(element('a')), elements.get(element('b'))], [0, 1], 'Envoy: by hash')
  // What is the same for all clients: the issuer's certificate, what they say themselves, our own first proxy
  const same = written['base64-der'](outsider.cert)
  const [janes, cas] = [jane, ca].map(({ cert }) => written['base64-der'](cert))
  const awss = [jane, ca].map(({ cert }) => written['url-pem-aws'](cert) + written['url-pem-aws'](outsider.cert))
  for (const [name, written, values] of [
    ['a chain', { encoding: 'base64-der', hops: 1 }, [`${janes},${same}`, `${cas},${same}`]],
    ['a chain of PEM', { encoding: 'url-pem-aws', hops: 1 }, awss],
    ['what clients say of themselves', { encoding: 'xfcc', hops: 1 }, [`${element('x')},${element('a')}`, `${element('x')},${element('b')}`]],
    ['two proxies', { encoding: 'xfcc', hops: 2 }, [`${element('x')},${element('a')},${element('y')}`, `${element('x')},${element('b')},${element('y')}`]]
  ] as const) {
    const known = create(written)
    for (const [index, value] of values.entries()) known.set(value, index)
    t.strictSame(values.map((value) => known.get(value)), [0, 1], name)
  }
  known.set('y', 3, 'a chain')
  t.equal(known.get('y', 'a chain'), 3)

  const padded = (index: number): string => `${'a'.repeat(920)}${String(index).padStart(32, '0')}${'a'.repeat(48)}`
  const count = 80_000
  const keptOf = (bytesMore: number): { latest: number, all: number } => {
    const many = create({ encoding: 'url-pem', hops: 1 })
    for (let index = 0; index < count; index++) {
      many.set(padded(index), index)
      if (bytesMore > 0) many.cache.grow(many.cache.get(padded(index), undefined)!, bytesMore)
    }
    const kept = Array.from({ length: count }, (_, back) => many.get(padded(count - 1 - back)) !== undefined)
    return { latest: kept.indexOf(false), all: kept.filter(Boolean).length }
  }
  for (const more of [0, 8 * 1024]) {
    const most = Math.floor(budget.most / (budget.overhead + 1_000 + more))
    const { latest, all } = keptOf(more)
    t.ok(latest >= Math.floor(most / 2), `the latest ones, as many as 32 MiB hold: ${latest} of ${most}, ${more} bytes more`)
    t.ok(all <= most, `and no more than 64 MiB hold: ${all}`)
  }
  const forgotten = new Numbered(padded(0), 0)
  known.cache.grow(forgotten, budget.most)
  t.equal(known.get('y', 'a chain'), 3, 'what is not in it any more takes no room')
})

t.test('a cached certificate is parsed again where it is asked for, with its chain, and has its labels without that', async (t) => {
  const partners = await authority('Partners')
  const intermediate = await issueClient(partners, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  const jane = await issueClient(intermediate, { subject: 'CN=Jane' })
  const ca = new X509Certificate(partners.cert)
  const content = { cas: [ca], crls: [], labels: new Map([['partners', [ca]]]), isRevocationChecked: false, unknown: 'refuse' } as unknown as TrustContent
  const store = new TrustStore(content)
  const reader = createForwardedReader({ header: 'x-cert', encoding: 'base64-der', verified: 'here', hops: 1 }, store)
  const readOf = (...chain: Authority[]): ReturnType<typeof reader.read> => reader.read({ rawHeaders: ['x-cert', chain.map(({ cert }) => written['base64-der'](cert)).join(',')], headers: {} }, Date.now())
  const found = readOf(jane, intermediate)
  const { leaf, others } = found
  t.equal(found.leaf, leaf)
  t.strictSame([...store.labelsOf(leaf!, others, Date.now())], ['partners'])
  // Each takes a quarter of a megabyte of the memory for parsed ones.
  for (let index = 0; index < 20; index++) t.equal(readOf(await issueClient(partners, { san: [{ type: 'dns', value: `${'a'.repeat(11_000)}.test` }] })).isPresent, true)
  t.equal(readOf(jane, intermediate), found)
  t.strictSame([...store.knownLabelsOf(found.fingerprints!, Date.now())!], ['partners'])
  t.not(found.leaf, leaf)
  t.strictSame([found.leaf!, ...found.others].map(({ raw }) => raw), [leaf!, ...others].map(({ raw }) => raw))
  t.equal(found.leaf, found.leaf, 'which is kept for the next time')
  t.strictSame([found.notBefore - 1, found.notAfter + 1].map((now) => store.knownLabelsOf(found.fingerprints!, now)), [undefined, undefined], 'labels of another time')
  store.update({ ...content, cas: [] })
  t.strictSame([keptVerdict(found, store, Date.now()), store.knownLabelsOf(found.fingerprints!, Date.now())], [undefined, undefined])
  t.match(store.judge(found.leaf!, found.others, Date.now()).error, /UNABLE_TO_GET_ISSUER_CERT/)
})
