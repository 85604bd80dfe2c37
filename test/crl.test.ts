/**
 * Units of lib/x509: CRLs, read by us and by openssl: what it refuses is refused, and what it accepts is accepted, but where a row says so.
 */
import { spawnSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import fc from 'fast-check'
import t from 'tap'
import { type Crl, distributionPointsOf, isDeltaOn, parseCrl } from '../lib/x509/crl.ts'
import { crlsIn } from '../lib/files/pem.ts'
import { type AlgorithmName, constraints, dn, entry, extension, integer, type KeyKind, type Made, make, names, oid, reason, seq, text, usage } from './fixtures/chains.ts'
import { type CertificatePoint, type CrlDraft, crlPem, DATE, distributionPoints, type Idp, idp, makeCrl, numberAt, numbered, spelledOut, unknown, UNKNOWN, unsigned } from './fixtures/crls.ts'
import { withoutOpenssl, stricterThanOldOpenssl } from './fixtures/openssl.ts'
import { cpuTime, DAY } from './fixtures/time.ts'
import { contentOf, der, derOf, elementOf, elementsIn, INTEGER, tags, parseCertificate } from './fixtures/x509.ts'

const dir = t.testdir()

const root = make({ ca: true, subject: 'CN=Root, O=Acme' })
const issuer = parseCertificate(root.certificate)
const read = async (draft?: CrlDraft, by = root) => await parseCrl(makeCrl(by, draft))
const serialOf = ({ serial }: Made) => contentOf(elementOf(serial), INTEGER)
const statusIn = (crl: Crl, made: Made) => crl.statusOf(serialOf(made))

function openssl (...args: string[]): string {
  const { stdout, stderr } = spawnSync('openssl', args, { cwd: dir, encoding: 'utf8' })
  return stdout + stderr
}

function file (name: string, content: string | Uint8Array): string {
  writeFileSync(join(dir, name), content)
  return name
}

interface Case { readonly ca: Made, readonly leaf: Made, readonly crls: readonly Buffer[] }

/** What the openssl program says of each certificate: undefined if nothing is wrong. One process, as each takes longer than the rest. */
function askOpenssl (cases: readonly Case[], ...options: string[]): Array<string | undefined> {
  const leaves = cases.map(({ leaf }, index) => file(`${index}.pem`, leaf.pem))
  const said = openssl('verify', '-no-CApath', '-no-CAstore', '-crl_check', ...options,
    '-CAfile', file('ca.pem', cases.map(({ ca }) => ca.pem).join('')), '-CRLfile', file('crls.pem', cases.flatMap(({ crls }) => crls.map((crl) => crlPem(crl))).join('')), ...leaves)
  const words = new Map<string, string | undefined>([...said.matchAll(/^(\d+\.pem): OK$/mg)].map(([, name]) => [name!, undefined]))
  for (const [, word, name] of said.matchAll(/^error \d+ at (.*)\n(?:error (?!\d+\.pem).*\n)*error (\d+\.pem): verification failed$/mg)) words.set(name!, word)
  return leaves.map((name) => {
    if (!words.has(name)) throw new Error(`openssl says nothing of ${name}: ${said}`)
    return words.get(name)
  })
}

t.test('a CRL is read with its issuer, dates and numbers', async (t) => {
  const der = makeCrl(root, { number: 2n ** 159n - 1n, entries: [make({ issuer: root })], days: [-1, 7] })
  const crl = await parseCrl(der)
  t.match(crl, { issuerName: 'CN=Root, O=Acme', issuer: issuer.subject, number: 2n ** 159n - 1n, baseNumber: undefined, unusable: undefined, size: 1, der })
  t.equal(crl.scope.key, '')
  t.equal(crl.fingerprint, createHash('sha256').update(der).digest('hex'))
  t.ok(Math.abs(crl.thisUpdate - (Date.now() - DAY)) < 60_000)
  t.ok(Math.abs(crl.nextUpdate - (Date.now() + 7 * DAY)) < 60_000)
  if (withoutOpenssl === false) {
    const said = openssl('crl', '-inform', 'DER', '-in', file('crl.der', der), '-noout', '-crlnumber', '-fingerprint', '-sha256', '-lastupdate', '-nextupdate')
    const of = (name: string) => new RegExp(`${name}=(.*)`, 'i').exec(said)![1]!
    t.equal(BigInt(of('crlNumber')), crl.number)
    t.equal(of('SHA2?-?256 Fingerprint').replaceAll(':', '').toLowerCase(), crl.fingerprint)
    t.equal(Date.parse(of('lastUpdate')), crl.thisUpdate)
    t.equal(Date.parse(of('nextUpdate')), crl.nextUpdate)
  }

  t.match(await read({ version: 1, entries: [make({ issuer: root })] }), { number: undefined, authorityKeyId: undefined, unusable: undefined, size: 1 })
  t.equal((await read({ days: [-1, undefined] })).nextUpdate, Infinity)
  t.match(await read({ number: 7, base: 0 }), { number: 7n, baseNumber: 0n, size: 0 })
  t.equal((await read({}, { ...root, name: dn('') })).issuerName, 'an issuer without a name')
  t.match(await read({ extensions: [unknown()] }), { unusable: undefined }, 'an unknown extension does not matter where it is not critical')
})

t.test('a listed serial number is found in a CRL, and no other', async (t) => {
  const numbers = fc.uniqueArray(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 24 }), fc.uint8Array({ minLength: 1, maxLength: 2 }))
    .map((octets) => derOf(elementOf(unsigned(BigInt(`0x${Buffer.from(octets).toString('hex')}`)))).subarray(2)),
  { minLength: 2, maxLength: 200, selector: (octets) => octets.toString('hex') })
  const remarks = fc.constantFrom<Uint8Array[]>([], [reason(1)], [reason(8)], [reason(1), extension('2.5.29.24', DATE)], [extension('2.5.29.24', DATE)], [extension(UNKNOWN, Buffer.alloc(300)), reason(8)])
  await fc.assert(fc.asyncProperty(numbers, fc.array(remarks, { minLength: 1 }), fc.boolean(), async ([unlisted, ...listed], remarks, isDelta) => {
    const crl = await read({ entries: listed.map((octets, index) => numbered(octets, ...remarks[index % remarks.length]!)), number: 2, ...(isDelta && { base: 1 }) })
    t.equal(crl.statusOf(unlisted!), undefined)
    t.equal(crl.size, listed.length)
    for (const [index, octets] of listed.entries()) {
      const isRemoved = isDelta && remarks[index % remarks.length]!.some((remark) => reason(8).equals(remark))
      t.equal(crl.statusOf(octets), isRemoved ? 'removed' : 'revoked')
    }
  }), { numRuns: 30 })

  // @peculiar/x509 writes entries like that, and RFC 5280 §4.1 does not have them.
  t.equal(statusIn(await read({ entries: [seq(integer(1), DATE, seq())] }), root), undefined)
  const empty = await read()
  t.equal(empty.size, 0)
  t.equal(statusIn(empty, root), undefined)
  const odd = await read({ entries: [[0], [0x7f], [0, 0x80], [0x80], [0xff, 0x7f]].map((octets) => numbered(Buffer.from(octets))) })
  for (const octets of [[0], [0x7f], [0, 0x80], [0x80], [0xff, 0x7f]]) t.equal(odd.statusOf(Buffer.from(octets)), 'revoked', octets.join())
  for (const octets of [[], [1], [0, 0x7f], [0x80, 0], [0xff]]) t.equal(odd.statusOf(Buffer.from(octets)), undefined, octets.join())
  const long = await read({ entries: [numbered(Buffer.alloc(64, 1)), numbered(Buffer.alloc(20, 1))] })
  t.equal(long.statusOf(Buffer.alloc(64, 1)), 'revoked')
  t.equal(long.statusOf(Buffer.alloc(65, 1)), undefined)
})

t.test('only a delta CRL takes a revocation back, and only one that does not list it as well', async (t) => {
  const leaf = make({ issuer: root })
  const [hold, back] = [entry(leaf, reason(6)), entry(leaf, reason(8))]
  t.equal(statusIn(await read({ entries: [back], number: 2, base: 1 }), leaf), 'removed')
  t.equal(statusIn(await read({ entries: [back], number: 2 }), leaf), 'revoked')
  t.equal(statusIn(await read({ entries: [hold, back], number: 2, base: 1 }), leaf), 'revoked')
  t.equal(statusIn(await read({ entries: [back, hold], number: 2, base: 1 }), leaf), 'revoked')
  t.equal(statusIn(await read({ entries: [back, back], number: 2, base: 1 }), leaf), 'removed')
})

t.test('the serial number of a certificate has the form in which CRL entries are compared', async (t) => {
  const [tbs, ...rest] = parts(root.der)
  const numbered = (...octets: number[]) => seq(seq(...parts(tbs!).map((part, index) => index === 1 ? der(INTEGER, Buffer.from(octets)) : part)), ...rest)
  for (const octets of [[1], [0xff], [0, 0x80]]) t.ok(new X509Certificate(numbered(...octets)))
  for (const octets of [[0, 1], [0xff, 0x80], []]) t.throws(() => new X509Certificate(numbered(...octets)), 'OpenSSL reads none, so that no client comes with one')
})

const NO_BOOLEAN = Buffer.of(1, 1, 1)
const parts = (crl: Buffer) => elementsIn(elementOf(crl), tags.sequence).map(derOf)
const of = (draft: CrlDraft) => makeCrl(root, draft)
const changed = (change: NonNullable<CrlDraft['change']>) => of({ change })
const one = (...extensions: Uint8Array[]) => of({ entries: [numbered(Buffer.of(1), ...extensions)] })
const idpOf = (...content: Uint8Array[]) => of({ extensions: [extension('2.5.29.28', seq(...content), true)] })
const named = (...content: Uint8Array[]) => idpOf(der(0xa0, ...content))

const inexact: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  'no DER': Buffer.from('list'),
  'cut off': of({}).subarray(0, -1),
  'more behind it': Buffer.concat([of({}), Buffer.of(0)]),
  'a certificate': root.der,
  'no parts': seq(),
  'one part': seq(parts(of({}))[0]!),
  'two parts': seq(...parts(of({})).slice(0, 2)),
  'four parts': seq(...parts(of({})), seq()),
  'parts of another kind': seq(text('a'), ...parts(of({})).slice(1)),
  'nothing that is signed': seq(seq(), ...parts(of({})).slice(1)),
  'more that is signed': changed((parts) => [...parts, der(0xa1)]),
  'too much that is signed': changed((parts) => [...parts, ...parts]),
  'parts in another order': changed(([version, inner, issuer, from, to]) => [version!, inner!, issuer!, from!, seq(), to!]),
  'no algorithm': changed(([version, , ...parts]) => [version!, text('a'), ...parts]),
  'no name': changed((parts) => parts.map((part, index) => index === 2 ? seq(seq()) : part)),
  'no date': changed((parts) => parts.slice(0, 3)),
  'a date with a fraction': changed((parts) => parts.map((part, index) => index === 3 ? text('20200101000000.5Z', 0x18) : part)),
  'an end that does not exist': changed((parts) => parts.map((part, index) => index === 4 ? text('20200231000000Z', 0x18) : part)),
  'a signature that ends within an octet': seq(...parts(of({})).slice(0, 2), der(3, Buffer.of(1, 0))),
  'a signature of another kind': seq(...parts(of({})).slice(0, 2), der(4, Buffer.of(0, 0))),
  'an algorithm of another kind beside the signature': seq(parts(of({}))[0]!, text('a'), parts(of({}))[2]!),
  // RFC 5280 §5.1.2.1: version 1 does not say so, and knows no extensions; there is no version 3
  'version 1 that says so': changed(([, ...parts]) => [integer(0), ...parts]),
  'version 3': changed(([, ...parts]) => [integer(2), ...parts]),
  'a version that is padded': changed(([, ...parts]) => [der(INTEGER, Buffer.of(0, 1)), ...parts]),
  'version 1 with an extension': changed(([, ...parts]) => parts),
  'version 1 with an extension of an entry': of({ version: 1, entries: [numbered(Buffer.of(1), reason(1))] }),
  // §5.1.2.6, and what may be left out is left out in DER (X.690 §11.5)
  'entries of which there are none': of({ authorityKey: null, change: (parts) => [...parts, seq()] }),
  'extensions of which there are none': of({ authorityKey: null, change: (parts) => [...parts, der(0xa0, seq())] }),
  'no extensions in their place': of({ authorityKey: null, change: (parts) => [...parts, der(0xa0)] }),
  'extensions twice': of({ authorityKey: null, change: (parts) => [...parts, der(0xa0, seq(unknown()), seq(unknown()))] }),
  'an extension twice': of({ extensions: [unknown(), unknown()] }),
  'an extension with an identifier that is padded': of({ extensions: [seq(der(6, Buffer.of(0x80, 1)), text('a', 4))] }),
  'an entry with an extension with an identifier that is cut off': one(seq(der(6, Buffer.of(0x81)), text('a', 4))),
  'a name with an identifier that is padded': makeCrl({ ...root, name: seq(der(tags.set, seq(der(6, Buffer.of(0x80, 1)), text('a')))) }),
  'an extension of four': of({ extensions: [seq(oid(UNKNOWN), Buffer.of(1, 1, 0xff), text('a', 4), text('a', 4))] }),
  'an extension that says it is not critical': of({ extensions: [spelledOut(UNKNOWN, 0, text('a'))] }),
  'an extension that is critical in BER': of({ extensions: [spelledOut(UNKNOWN, 1, text('a'))] }),
  'a number that is none': of({ extensions: [extension('2.5.29.20', text('1'))] }),
  'a negative number': of({ extensions: [extension('2.5.29.20', der(INTEGER, Buffer.of(0xff)))] }),
  'a number that is padded': of({ extensions: [extension('2.5.29.20', der(INTEGER, Buffer.of(0, 1)))] }),
  'a base that is negative': of({ number: 1, extensions: [extension('2.5.29.27', der(INTEGER, Buffer.of(0xff)), true)] }),
  'an authority key that is none': of({ authorityKey: Buffer.of(0x85, 0) }),
  'an entry that is none': of({ entries: [integer(1)] }),
  'an entry in a set': of({ entries: [der(tags.set, integer(1), DATE)] }),
  'an entry without a number': of({ entries: [seq(text('1'), DATE)] }),
  'an entry with a number of no octets': of({ entries: [numbered(Buffer.alloc(0))] }),
  'an entry with a number that is padded': of({ entries: [numbered(Buffer.of(0, 1))] }),
  'an entry with a negative number that is padded': of({ entries: [numbered(Buffer.of(0xff, 0x81))] }),
  'an entry with a number of 65 octets': of({ entries: [numbered(Buffer.alloc(65, 1))] }),
  'an entry without a date': of({ entries: [seq(integer(1), text('', 0x18))] }),
  'an entry with a date that is a text': of({ entries: [seq(integer(1), text('20200101000000Z'))] }),
  'an entry with four parts': of({ entries: [seq(integer(1), DATE, seq(reason(1)), seq(reason(1)))] }),
  'an entry with something else than extensions': of({ entries: [seq(integer(1), DATE, integer(1))] }),
  'an entry with an extension of four': one(seq(oid(UNKNOWN), Buffer.of(1, 1, 0xff), text('a', 4), text('a', 4))),
  'an entry with an extension that says it is not critical': one(spelledOut(UNKNOWN, 0, text('a'))),
  'an entry with an extension that is critical in BER': one(seq(oid(UNKNOWN), NO_BOOLEAN, text('a', 4))),
  'an entry with a reason twice': one(reason(1), reason(1)),
  'an entry with a reason that is none': one(extension('2.5.29.21', integer(1))),
  'an entry with a reason in two octets': one(extension('2.5.29.21', Buffer.of(0x0a, 2, 0, 1))),
  'an entry with no reason in its place': one(extension('2.5.29.21', Buffer.alloc(0))),
  'an entry behind good ones': of({ bulk: { count: 3 }, entries: [], change: (parts) => parts.map((part, index) => index === 5 ? seq(part.subarray(2), integer(1)) : part) }),
  'a scope that is none': of({ extensions: [extension('2.5.29.28', integer(1), true)] }),
  'a scope with more': idpOf(Buffer.of(0x86, 0)),
  'a scope in another order': idpOf(Buffer.of(0x82, 1, 0xff), Buffer.of(0x81, 1, 0xff)),
  'a scope that spells out what it is not': idpOf(Buffer.of(0x81, 1, 0)),
  'a scope that is limited in BER': idpOf(Buffer.of(0x81, 1, 1)),
  'a scope that is limited in two octets': idpOf(Buffer.of(0x81, 2, 0xff, 0xff)),
  'a scope with no name in its place': named(),
  'a scope with two names': named(der(0xa0, names.uri('http://a.test')), der(0xa0, names.uri('http://a.test'))),
  'a scope with a name of another kind': named(der(0xa2, names.uri('http://a.test'))),
  'a scope with no full name in its place': named(der(0xa0)),
  'a scope with a full name that is none': named(der(0xa0, text('a'))),
  'a scope with a relative name that is empty': named(der(0xa1)),
  'a scope with a relative name that is none': named(der(0xa1, text('a')))
}

t.test('a malformed CRL is an error, since it could revoke anyone', async (t) => {
  for (const [what, crl] of Object.entries(inexact)) await t.rejects(parseCrl(crl), RangeError, what)
  t.equal((await parseCrl(of({}))).unusable, undefined)
})

t.test('a CRL with changed octets is read only if openssl reads it', async (t) => {
  const leaf = make({ issuer: root })
  const good = makeCrl(root, { entries: [entry(leaf), numbered(Buffer.of(5), reason(1)), numbered(Buffer.of(6), unknown())], number: 3, idp: idp({ names: [names.uri('http://a.test/1')], users: true }), extensions: [unknown()] })
  const change = fc.record({ at: fc.nat(good.length - 1), to: fc.integer({ min: 0, max: 255 }) })
  let taken = 0
  await fc.assert(fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 2 }), async (changes) => {
    const crl = Buffer.from(good)
    for (const { at, to } of changes) crl[at] = to
    const ours = await parseCrl(crl).catch((error: unknown) => error)
    if (ours instanceof Error && !(ours instanceof RangeError)) throw ours
    // What nothing is concluded from, or is of no issuer, openssl may read or not.
    if (ours instanceof Error || (ours as Crl).unusable !== undefined || !(ours as Crl).namesIssuer(issuer)) return
    taken++
    createSecureContext({ crl: crlPem(crl) })
    if (!crl.equals(good) && await (ours as Crl).isSignedBy(issuer)) throw new Error('it was changed, and is still signed')
  }), { numRuns: 400 })
  t.ok(taken > 20, `${taken} were taken`)
})

t.test('no CRL of a hostile issuer takes long to read', async (t) => {
  const many = (size: number, element: Buffer) => Buffer.alloc(size - size % element.length, element)
  const hostile: Record<string, Buffer> = {
    'millions of parts': seq(many(1 << 24, Buffer.of(5, 0))),
    'millions of parts that are signed': seq(seq(many(1 << 24, Buffer.of(5, 0))), seq(), der(3, Buffer.of(0))),
    'a name of millions': makeCrl({ ...root, name: seq(many(1 << 24, dn('CN=a').subarray(2))) }),
    'millions of extensions': makeCrl(root, { extensions: [many(1 << 24, unknown())] }),
    'an entry with millions of extensions': makeCrl(root, { entries: [numbered(Buffer.of(1), many(1 << 24, unknown()))] })
  }
  for (const [what, crl] of Object.entries(hostile)) {
    const took = await cpuTime(async () => await t.rejects(parseCrl(crl), RangeError, what))
    t.ok(took < 500, `${what}: ${took} ms`)
  }
  const large = await read({ entries: [numbered(Buffer.of(1), extension(UNKNOWN, Buffer.alloc(16_000)))], extensions: [extension(UNKNOWN, Buffer.alloc(60_000))] })
  t.equal(large.statusOf(Buffer.of(1)), 'revoked')
})

t.test('a CRL that proves nothing says why', async (t) => {
  const why: Array<[pattern: RegExp, draft: CrlDraft, difference?: 'stricter' | undefined]> = [
    [/indirect/, { idp: idp({ indirect: true }) }],
    [/some reasons/, { idp: idp({ reasons: Buffer.of(5, 0x60) }) }],
    [/attribute certificates/, { idp: idp({ attributes: true }) }],
    [/of an authority and are not/, { idp: idp({ users: true, authorities: true }) }],
    [/critical extension that is not known here \(1\.3\.6\.1\.4\.1\.99999\.1\)/, { extensions: [unknown(true)] }],
    [/critical extension that is not known here \(2\.5\.29\.20\)/, { extensions: [extension('2.5.29.20', integer(2), true)] }],
    [/entries of it have critical extensions/, { entries: [numbered(Buffer.of(1), reason(1, true)), numbered(Buffer.of(2))] }],
    [/entries of it have critical extensions/, { entries: [numbered(Buffer.of(1), extension('2.5.29.29', seq(names.dir('CN=Other')), true))] }, 'stricter'],
    [/delta CRL without a CRL number/, { base: 1 }, stricterThanOldOpenssl],
    // OpenSSL takes SHA-1 where nothing is said of security levels.
    [/algorithm that is not strong enough or not known/, { algorithm: 'ecdsaSha1' }, 'stricter'],
    [/two algorithms/, { inner: 'ecdsaSha384' }, stricterThanOldOpenssl]
  ]
  for (const extensions of [[extension('2.5.29.35', seq(der(0x80, root.keyId)), true)], [extension('2.5.29.35', seq(der(0x80, root.keyId)))]]) {
    t.equal((await read({ authorityKey: null, extensions })).unusable, undefined)
  }
  const cases = why.map(([, draft]) => {
    const ca = make({ ca: true })
    return { ca, leaf: make({ issuer: ca }), crls: [makeCrl(ca, draft)] }
  })
  for (const [index, { crls }] of cases.entries()) t.match((await parseCrl(crls[0]!)).unusable, why[index]![0])
  if (withoutOpenssl !== false) return
  for (const [index, word] of askOpenssl(cases).entries()) t.equal(word === undefined, why[index]![2] !== undefined, `${String(why[index]![0])}: so says openssl`)
})

/** One of each kind: keys of some take a second to make. */
const signers = new Map<KeyKind, Made>()
function signerOf (kind: KeyKind): Made {
  const signer = signers.get(kind) ?? make({ ca: true, subject: 'CN=By', kind })
  signers.set(kind, signer)
  return signer
}

t.test('the signature of a CRL is verified with keys of every kind', async (t) => {
  const kinds: Array<[KeyKind, AlgorithmName?]> = [['P256'], ['P256', 'ecdsaSha512'], ['P384', 'ecdsaSha384'], ['brainpool'], ['rsa'], ['rsa', 'rsaSha512'], ['rsa', 'pss20'], ['pss'], ['pss', 'pss'], ['ed25519'], ['ed448']]
  for (const [kind, algorithm] of kinds) {
    const by = signerOf(kind)
    const facts = parseCertificate(by.certificate)
    const crl = await read({ algorithm, bulk: { count: 5000 } }, by)
    t.equal(crl.unusable, undefined, kind)
    t.equal(crl.isKnownSignedBy(facts), undefined, kind)
    t.equal(await crl.isSignedBy(facts), true, `${kind} ${algorithm}`)
    t.equal(crl.isKnownSignedBy(facts), true, kind)
    const again = parseCertificate(make({ ca: true, subject: 'CN=By', like: by }).certificate)
    t.equal(crl.isKnownSignedBy(again), true, 'another certificate of that key')
    const spoilt = await read({ algorithm, spoil: true }, by)
    t.equal(await spoilt.isSignedBy(facts), false, `${kind} ${algorithm}: with a flipped bit`)
    t.equal(spoilt.isKnownSignedBy(facts), false, kind)
  }
})

t.test('a CRL is accepted only from the issuer that it names, with a strong signature', async (t) => {
  const crl = await read()
  const outside: Record<string, Made> = {
    'another name': make({ ca: true, subject: 'CN=Other', like: root }),
    'another key identifier': make({ ca: true, subject: 'CN=Root, O=Acme', like: root, extensions: { subjectKey: extension('2.5.29.14', text('odd', 4)) } }),
    'another key': make({ ca: true, subject: 'CN=Root, O=Acme', extensions: { subjectKey: undefined } })
  }
  for (const [what, certificate] of Object.entries(outside)) {
    const facts = parseCertificate(certificate.certificate)
    t.equal(crl.namesIssuer(facts), what === 'another key', what)
    t.equal(crl.isKnownSignedBy(facts), what === 'another key' ? undefined : false, what)
    t.equal(await crl.isSignedBy(facts), false, what)
    t.equal(crl.isKnownSignedBy(facts), false, what)
  }
  t.equal(await crl.isSignedBy(parseCertificate(make({ ca: true, subject: 'CN= ROOT, O=[19]acme', like: root }).certificate)), true, 'the same name in other letters')

  const weak: Array<[KeyKind, AlgorithmName?]> = [['rsa1024'], ['P192'], ['sect283'], ['explicit'], ['dsa'], ['rsa', 'rsaSha1'], ['rsa', 'rsaMd5'], ['P256', 'ecdsaSha1'], ['pss', 'pssSha1'], ['pss', 'pssOddMask']]
  for (const [kind, algorithm] of weak) {
    const by = signerOf(kind)
    const crl = await read({ algorithm }, by)
    t.equal(await crl.isSignedBy(parseCertificate(by.certificate)), false, `${kind} ${algorithm}`)
    t.equal(crl.isKnownSignedBy(parseCertificate(by.certificate)), false, `${kind} ${algorithm}`)
  }
  const rsa = signerOf('rsa')
  const mistaken = await read({}, { ...rsa, keys: root.keys })
  t.equal(mistaken.unusable, undefined)
  t.equal(await mistaken.isSignedBy(parseCertificate(rsa.certificate)), false, 'an algorithm for keys of another kind')
})

t.test('the signature of a CRL is verified once for each key, and results are kept for a bounded number of keys', async (t) => {
  let pauses = 0
  const crl = await parseCrl(makeCrl(root), async () => { pauses++ })
  pauses = 0
  t.strictSame(await Promise.all([crl.isSignedBy(issuer), crl.isSignedBy(issuer)]), [true, true])
  t.equal(await crl.isSignedBy(issuer), true)
  t.equal(pauses, 1)
  const alike = Array.from({ length: 70 }, () => parseCertificate(make({ ca: true, subject: 'CN=Root, O=Acme', extensions: { subjectKey: undefined } }).certificate))
  for (const facts of alike) {
    t.equal(await crl.isSignedBy(facts), false)
    t.equal(crl.isKnownSignedBy(issuer), true, 'who is asked about all the time stays')
  }
  t.equal(crl.isKnownSignedBy(alike[0]!), undefined)
  t.equal(crl.isKnownSignedBy(alike.at(-1)!), false)
})

t.test('a CRL answers who signed it, also where that cannot be found out', async (t) => {
  let isBroken = false
  const crl = await parseCrl(makeCrl(root), async () => { if (isBroken) throw new Error('no more') })
  isBroken = true
  t.equal(await crl.isSignedBy(issuer), false)
  isBroken = false
  t.equal(await crl.isSignedBy(issuer), false, 'what was answered stays so')
  const ed = signerOf('ed25519')
  const [tbs, algorithm] = parts(makeCrl(ed))
  const cut = await parseCrl(seq(tbs!, algorithm!, der(3, Buffer.of(0, 1))))
  t.equal(await cut.isSignedBy(parseCertificate(ed.certificate)), false, 'a signature that is too short')
})

const A = names.uri('http://crl.acme.test/A.crl')
const B = names.uri('http://crl.acme.test/B.crl')
const LDAP = names.uri('ldap://crl.acme.test/CN=A')
const DIRECTORY = names.dir('CN=A, OU=CRLs')

interface Scoping { idp: Idp | undefined, points?: CertificatePoint[], ca?: boolean, covers: boolean, openssl?: 'stricter' | 'more lenient' }
const scopes: Record<string, Scoping> = {
  'a CRL without a scope, a certificate without a point': { idp: undefined, covers: true },
  'a CRL without a scope, a certificate with a point': { idp: undefined, points: [{ names: [A] }], covers: true },
  'a scope that says nothing': { idp: {}, covers: true },
  'the point that it names': { idp: { names: [A] }, points: [{ names: [A] }], covers: true },
  'one of the points that it names': { idp: { names: [A] }, points: [{ names: [B] }, { names: [A] }], covers: true },
  'one of the names of the point': { idp: { names: [LDAP, A] }, points: [{ names: [B, A] }], covers: true },
  'another point': { idp: { names: [A] }, points: [{ names: [B] }], covers: false },
  'no point': { idp: { names: [A] }, covers: false },
  'a point in other letters': { idp: { names: [A] }, points: [{ names: [names.uri('http://crl.acme.test/a.crl')] }], covers: false },
  'a point of another kind': { idp: { names: [names.dns('acme.test')] }, points: [{ names: [names.email('acme.test')] }], covers: false },
  'a host': { idp: { names: [names.dns('acme.test')] }, points: [{ names: [names.dns('acme.test')] }], covers: true },
  'a registered name': { idp: { names: [names.rid('1.2.3')] }, points: [{ names: [names.rid('1.2.3')] }], covers: true },
  'an address': { idp: { names: [names.ip(10, 0, 0, 1)] }, points: [{ names: [names.ip(10, 0, 0, 2)] }], covers: false },
  'another name': { idp: { names: [names.other('1.2.3', 'a')] }, points: [{ names: [names.other('1.2.3', 'a')] }], covers: true },
  'another name with another value': { idp: { names: [names.other('1.2.3', 'a')] }, points: [{ names: [names.other('1.2.3', 'b')] }], covers: false },
  'a directory name': { idp: { names: [DIRECTORY] }, points: [{ names: [names.dir('CN=[19]a, OU= crls')] }], covers: true },
  'another directory name': { idp: { names: [DIRECTORY] }, points: [{ names: [names.dir('CN=A')] }], covers: false },
  'a relative name': { idp: { relative: 'CN=A' }, points: [{ relative: 'CN=[19]a' }], covers: true },
  'a relative name of two': { idp: { relative: 'CN=A + OU=CRLs' }, points: [{ relative: 'OU=CRLs + CN=A' }], covers: true, openssl: 'stricter' }, // it makes two RDNs of them
  'another relative name': { idp: { relative: 'CN=A' }, points: [{ relative: 'CN=B' }], covers: false },
  'a relative name, in full': { idp: { relative: 'CN=A' }, points: [{ names: [names.dir('CN=Root, O=Acme, CN=A')] }], covers: true },
  'a full name, relatively': { idp: { names: [names.dir('CN=Root, O=Acme, CN=A')] }, points: [{ relative: 'CN=A' }], covers: true },
  'a point of a CRL of another issuer': { idp: { names: [A] }, points: [{ names: [A], crlIssuer: 'CN=Other' }], covers: false },
  'a point of another issuer that is the same': { idp: { names: [A] }, points: [{ names: [A], crlIssuer: 'CN=Root, O=Acme' }], covers: false, openssl: 'more lenient' },
  'a point of an issuer alone': { idp: { names: [A] }, points: [{ crlIssuer: 'CN=Root, O=Acme' }], covers: false, openssl: 'more lenient' },
  'a point for some reasons': { idp: { names: [A] }, points: [{ names: [A], reasons: Buffer.of(5, 0x60) }], covers: false },
  'a point of nothing': { idp: { names: [A] }, points: [{}], covers: false },
  users: { idp: { users: true }, covers: true },
  'users, of a point': { idp: { users: true, names: [A] }, points: [{ names: [A] }], covers: true },
  'users, and a certificate of an authority': { idp: { users: true }, ca: true, covers: false },
  authorities: { idp: { authorities: true }, covers: false },
  'authorities, and a certificate of one': { idp: { authorities: true }, ca: true, covers: true },
  'attribute certificates': { idp: { attributes: true }, covers: false }
}

t.test('a CRL counts for the certificates in its scope only', async (t) => {
  const rows = Object.entries(scopes)
  const cases = rows.map(([, { idp: scope, points, ca = false }]) => {
    const issuer = make({ ca: true, subject: 'CN=Root, O=Acme' })
    return { ca: issuer, leaf: make({ issuer, ca, extensions: { points: points && distributionPoints(points) } }), crls: [makeCrl(issuer, scope && { idp: idp(scope) })] }
  })
  for (const [index, { leaf, crls }] of cases.entries()) {
    const [what, { covers }] = rows[index]!
    t.equal((await parseCrl(crls[0]!)).scope.covers(parseCertificate(leaf.certificate)), covers, what)
  }
  for (const [index, word] of (withoutOpenssl === false ? askOpenssl(cases) : []).entries()) {
    const [what, { covers, ...row }] = rows[index]!
    t.equal(word === undefined, row.openssl === undefined ? covers : !covers, `${what}: so says openssl`)
  }
  const crl = await read({ idp: idp({ authorities: true }) })
  const covers = (basic: Buffer | undefined) => crl.scope.covers(parseCertificate(make({ issuer: root, ca: true, extensions: { constraints: basic, usage: usage(0x80) } }).certificate))
  t.equal(covers(constraints(true)), true, 'an authority that may sign nothing is one')
  t.equal(covers(constraints(false, 1)), false)
  t.equal(covers(undefined), false)
})

t.test('the scopes of two CRLs are the same, or are not', async (t) => {
  const key = async (draft: Idp | undefined, by = root) => (await read(draft && { idp: idp(draft) }, by)).scope.key
  t.equal(await key({}), await key(undefined))
  t.equal(await key({ names: [A, B] }), await key({ names: [B, A, B] }))
  t.equal(await key({ relative: 'CN=A' }), await key({ names: [names.dir('CN=root, O=Acme, CN=a')] }))
  const all: Array<Idp | undefined> = [undefined, { names: [A] }, { names: [B] }, { names: [A, B] }, { names: [A], users: true }, { users: true }, { authorities: true }, { attributes: true }, { indirect: true }, { reasons: Buffer.of(5, 0x60) }, { reasons: Buffer.of(5, 0x40) }, { names: [names.dns('a')] }, { names: [names.email('a')] }]
  t.equal(new Set(await Promise.all(all.map(async (draft) => await key(draft)))).size, all.length)
  t.not(await key({ relative: 'CN=A' }), await key({ relative: 'CN=A' }, make({ ca: true })))
})

t.test('CRL distribution points are read from a certificate', async (t) => {
  const pointsOf = (extension: Uint8Array | undefined) => distributionPointsOf(parseCertificate(make({ issuer: root, extensions: { points: extension } }).certificate))
  t.strictSame(pointsOf(undefined), [])
  t.strictSame(pointsOf(distributionPoints([{ names: [LDAP, A] }, { names: [names.uri('HTTPS://crl.acme.test')] }, { relative: 'CN=A' }, { names: [names.dns('http://a')] }, { names: [names.uri('http://')] }])).map(({ urls }) => urls),
    [['http://crl.acme.test/A.crl'], ['HTTPS://crl.acme.test'], [], [], []])
  t.strictSame(pointsOf(distributionPoints([{ names: [A], crlIssuer: 'CN=Other' }, { names: [A], reasons: Buffer.of(5, 0x60) }, { crlIssuer: 'CN=Other' }])), [], 'those that are not used are not told')
  const facts = parseCertificate(make({ issuer: root, extensions: { points: distributionPoints([{ names: [A] }]) } }).certificate)
  t.equal(distributionPointsOf(facts), distributionPointsOf(facts), 'read once')
  const odd: Record<string, Buffer> = {
    none: integer(1),
    'a point that is none': seq(integer(1)),
    'a point with more': seq(seq(der(0xa3))),
    'a point in another order': seq(seq(der(0xa2, names.dir('CN=Other')), der(0xa0, der(0xa0, A)))),
    'a name of another kind': seq(seq(der(0xa0, der(0xa2, A)))),
    'a name of a point that is not used': seq(seq(der(0xa0, der(0xa0)), der(0xa2, names.dir('CN=Other')))),
    'a good point and a bad one': seq(seq(der(0xa0, der(0xa0, A))), seq(der(0xa0, der(0xa0))))
  }
  for (const [what, content] of Object.entries(odd)) {
    const extensions = extension('2.5.29.31', content)
    t.strictSame(pointsOf(extensions), [], what)
    t.equal((await read({ idp: idp({ names: [A] }) })).scope.covers(parseCertificate(make({ issuer: root, extensions: { points: extensions } }).certificate)), false, what)
  }
})

t.test('a delta CRL adds to a complete one of its issuer, key and scope, between its base and itself', async (t) => {
  const freshest = distributionPoints([{ names: [A] }], '2.5.29.46')
  const base: CrlDraft = { number: 5, extensions: [freshest] }
  const delta: CrlDraft = { number: 7, base: 5 }
  const scope = { idp: idp({ users: true }) }
  const rows: Array<[what: string, base: CrlDraft, delta: CrlDraft, isDelta: boolean]> = [
    ['on its base', base, delta, true],
    ['on a later one', { ...base, number: 6 }, delta, true],
    ['on an older one', { ...base, number: 4 }, delta, false],
    ['on one as new as itself', { ...base, number: 7 }, delta, false],
    ['on a newer one', { ...base, number: 8 }, delta, false],
    ['on one without a number', { extensions: [freshest] }, delta, false],
    ['a complete one', base, { ...delta, base: undefined }, false],
    ['without a number', base, { ...delta, number: undefined }, false],
    ['of a scope', base, { ...delta, ...scope }, false],
    ['on one of a scope', { ...base, ...scope }, delta, false],
    ['of the same scope', { ...base, ...scope }, { ...delta, ...scope }, true],
    ['that names no key', base, { ...delta, authorityKey: null }, false],
    ['on one that names no key', { ...base, authorityKey: null }, delta, false],
    ['that names another key', base, { ...delta, authorityKey: der(0x82, Buffer.of(1)) }, false],
    ['neither of which names a key', { ...base, authorityKey: null }, { ...delta, authorityKey: null }, true]
  ]
  const cases = rows.map(([, one, other]) => {
    const ca = make({ ca: true })
    const leaf = make({ issuer: ca })
    return { ca, leaf, crls: [makeCrl(ca, one), makeCrl(ca, { ...other, entries: [leaf] })] }
  })
  for (const [index, { crls }] of cases.entries()) t.equal(isDeltaOn(await parseCrl(crls[1]!), await parseCrl(crls[0]!)), rows[index]![3], rows[index]![0])
  for (const [index, word] of (withoutOpenssl === false ? askOpenssl(cases, '-use_deltas', '-extended_crl') : []).entries()) {
    const [what, , other, isDelta] = rows[index]!
    // A complete one that lists it counts by itself.
    if (other.base !== undefined) t.equal(/revoked/.test(word ?? ''), isDelta, `${what}: so says openssl (${word})`)
  }
  t.equal(isDeltaOn(await read(delta), await read(delta)), false, 'on a delta')
  t.equal(isDeltaOn(await read(delta, make({ ca: true })), await read(base)), false, 'of another issuer')
})

t.test('a CRL of a million entries is read in slices, and takes less memory than the file itself', async (t) => {
  const count = 1_000_000
  const bytes = Buffer.from(crlPem(makeCrl(root, { bulk: { count, reason: 1 }, number: 1 })))
  const slices: number[] = []
  let start = performance.now()
  const pause = async () => {
    slices.push(performance.now() - start)
    await new Promise(setImmediate)
    start = performance.now()
  }
  const before = process.memoryUsage().arrayBuffers
  const [crl] = await crlsIn({ name: 'large.pem', bytes }, pause)
  const added = process.memoryUsage().arrayBuffers - before
  t.ok(added < 2 * bytes.length, `${added} octets for ${bytes.length}`)
  t.equal(crl!.size, count)
  t.equal(crl!.unusable, undefined)
  for (let index = 0; index < count; index += 1009) {
    if (crl!.statusOf(numberAt(index)) !== 'revoked') t.fail(`${index} is not found`)
    if (crl!.statusOf(numberAt(count + index)) !== undefined) t.fail(`${index} is found`)
  }
  t.equal(await crl!.isSignedBy(issuer), true)
  slices.sort((one, other) => one - other)
  t.ok(slices.length > 20, `${slices.length} slices`)
  t.ok(slices[slices.length >> 1]! < 20, `${slices[slices.length >> 1]} ms`)
})

t.test('CRLs that are read at once share the event loop, one slice a turn', async (t) => {
  const crls = Array.from({ length: 40 }, (_, index) => makeCrl(root, { number: index }))
  let [turns, isRead] = [0, false]
  const turn = () => {
    turns++
    if (!isRead) setImmediate(turn)
  }
  turn()
  const all = await Promise.all(crls.map(async (crl) => await parseCrl(crl)))
  isRead = true
  t.strictSame(all.map(({ number }) => number), crls.map((_, index) => BigInt(index)))
  t.ok(turns >= crls.length, `${turns} turns`)
})

t.test('every CRL in a file is read, in DER or in PEM', async (t) => {
  const bytes = (content: string | Uint8Array) => ({ name: 'client.crl', bytes: Buffer.from(content as string) })
  const [one, other] = [makeCrl(root, { number: 1, bulk: { count: 5000 } }), makeCrl(root, { number: 2 })]
  const numbersIn = async (content: string | Uint8Array) => (await crlsIn(bytes(content))).map(({ number, size }) => [Number(number), size])
  t.strictSame(await numbersIn(one), [[1, 5000]])
  t.strictSame(await numbersIn(crlPem(one)), [[1, 5000]])
  t.strictSame(await numbersIn(crlPem(one).replaceAll('\n', '\r\n')), [[1, 5000]])
  t.strictSame(await numbersIn(`-----BEGIN X509 CRL-----${one.toString('base64')}-----END X509 CRL-----`), [[1, 5000]], 'on one line')
  t.strictSame(await numbersIn(`0 -----BEGIN nothing-----\n${root.pem}\nIssuer: CN=Root\n${crlPem(other)}more\n${crlPem(one, 'CRL')}-----BEGIN`), [[2, 0], [1, 5000]], 'among others')
  for (let length = 0; length < 3; length++) {
    const padded = makeCrl(root, { extensions: [extension(UNKNOWN, Buffer.alloc(length))] })
    t.equal((await crlsIn(bytes(crlPem(padded))))[0]!.fingerprint, createHash('sha256').update(padded).digest('hex'), `padded with ${length}`)
  }

  const bad: Array<[RegExp, string | Uint8Array]> = [
    [/^client\.crl: holds no CRL \("-----BEGIN X509 CRL-----", or DER\)$/, ''],
    [/^client\.crl: holds no CRL /, root.pem],
    [/^client\.crl: holds no CRL /, '-----BEGIN '],
    [/^client\.crl: is cut off: "-----BEGIN X509 CRL-----" has no "-----END X509 CRL-----"$/, crlPem(one).slice(0, 2000)],
    [/^client\.crl: is cut off/, crlPem(one).replace('END X509 CRL', 'END CRL')],
    [/^client\.crl: its first CRL is not base64$/, crlPem(other).replace('A', '*')],
    [/^client\.crl: its first CRL is not base64$/, crlPem(one).replace('A', '=')],
    [/^client\.crl: its first CRL is not exactly as RFC 5280 §5 has it \(DER, /, '-----BEGIN CRL-----\n-----END CRL-----'],
    [/^client\.crl: its second CRL is not exactly as RFC 5280 §5 has it \(DER, .*\), so that it is not known which certificates it revokes$/, crlPem(one) + crlPem(root.der)],
    [/^client\.crl: the CRL is not exactly as RFC 5280 §5 has it /, one.subarray(0, -1)],
    [/^client\.crl: the CRL is not exactly as RFC 5280 §5 has it /, root.der]
  ]
  for (const [message, content] of bad) await t.rejects(crlsIn(bytes(content)), { code: 'FST_HTTP_SECURITY_INVALID_CERTIFICATES', message })
})
