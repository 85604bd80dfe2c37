/**
 * A unit, lib/x509/certificate-policies.ts: certificate policies (RFC 5280 §6.1), judged by us and by the openssl program.
 * The chains have the ideas of NIST's PKITS 4.8 to 4.12, of BoringSSL's tests and of x509-limbo; the policies that are
 * asked for are any, as with PKITS' default settings.
 */
import fc from 'fast-check'
import t from 'tap'
import { PathVerifier } from '../lib/x509/path-validation.ts'
import { ANY_POLICY, type Extensions, extension, inhibitAnyPolicy, integer, type Made, make, oid, policies, policyConstraints, policyMappings, seq, text } from './fixtures/chains.ts'
import { type Chain, withoutOpenssl, wordsOfOpenssl } from './fixtures/openssl.ts'
import { der } from './fixtures/x509.ts'

const dir = t.testdir()
const root = make({ ca: true, subject: 'CN=Root' })

/** What a certificate says of policies: `A`, `A B *` where `*` is any-policy, mappings as in `A>B`. */
interface Said {
  in?: string
  maps?: string
  explicit?: number
  mapping?: number
  any?: number
  /** Issued by an authority to itself. */
  self?: true
  /** An extension that is not like these. */
  odd?: Uint8Array
}

const idOf = (letter: string) => letter === '*' ? ANY_POLICY : `1.2.3.${letter.charCodeAt(0)}`

function extensionsOf (said: Said): Extensions {
  const listed = said.in?.split(' ').filter(Boolean)
  return {
    policies: listed === undefined || listed.length === 0 ? undefined : policies(...listed.map(idOf)),
    mappings: said.maps === undefined ? undefined : policyMappings(...said.maps.split(' ').map((pair) => [idOf(pair[0]!), idOf(pair[2]!)] as const)),
    constraints36: said.explicit === undefined && said.mapping === undefined ? undefined : policyConstraints(said),
    inhibit: said.any === undefined ? undefined : inhibitAnyPolicy(said.any),
    odd: said.odd
  }
}

/** From the authority below the root down to the client. */
function chainOf (...all: Said[]): Chain {
  const leaf = all.pop()!
  const others: Made[] = []
  let issuer = root
  let count = 0
  for (const said of all) {
    if (said.self !== true) count++
    issuer = make({ ca: true, issuer, subject: count === 0 ? 'CN=Root' : `CN=Sub ${count}`, extensions: extensionsOf(said) })
    others.push(issuer)
  }
  return { ca: [root], others, leaf: make({ issuer, subject: leaf.self === true ? issuer.name : 'CN=Jane', extensions: extensionsOf(leaf) }) }
}

const errorOf = ({ ca, others = [], leaf }: Chain) => new PathVerifier(ca.map(({ certificate }) => certificate)).verify(leaf.certificate, others.map(({ certificate }) => certificate), Date.now()).error

/** We refuse what openssl accepts, or the other way around. */
type Difference = 'stricter' | 'more lenient'
type Row = readonly [title: string, error: string | undefined, chain: () => Chain, difference?: Difference]
const NONE = 'NO_EXPLICIT_POLICY'
const row = (title: string, error: string | undefined, ...all: Said[]): Row => [title, error, () => chainOf(...all)]
const required: Said = { in: 'A', explicit: 0 }

const certificatePolicies: Row[] = [
  row('the same policy everywhere', undefined, required, { in: 'A' }, { in: 'A' }),
  row('no policies at all', undefined, {}, {}),
  row('different ones, where none is required', undefined, { in: 'A' }, { in: 'B' }, { in: 'C' }),
  row('different ones', NONE, { in: 'A', explicit: 0 }, { in: 'B' }),
  row('a client without any', NONE, required, {}),
  row('an authority without any', NONE, required, {}, { in: 'A' }),
  row('an authority without any, above the one that requires some', NONE, {}, required, { in: 'A' }),
  row('one that is left of several', undefined, { in: 'A B C', explicit: 0 }, { in: 'B C' }, { in: 'C D' }),
  row('none that is left of several', NONE, { in: 'A B', explicit: 0 }, { in: 'B C' }, { in: 'A C' }),
  row('any-policy everywhere', undefined, { in: '*', explicit: 0 }, { in: '*' }, { in: '*' }),
  row('any-policy of an authority', undefined, required, { in: '*' }, { in: 'A' }),
  row('any-policy of the first authority', undefined, { in: '*', explicit: 0 }, { in: 'B' }),
  row('any-policy of the client', undefined, required, { in: '*' }),
  row('any-policy that brings back nothing', NONE, { in: 'A', explicit: 0 }, { in: '* B' }, { in: 'B' }),
  row('any-policy beside another', undefined, { in: 'A *', explicit: 0 }, { in: 'B' })
]

const explicitPolicy: Row[] = [
  ...([[10, undefined], [5, undefined], [4, NONE], [0, NONE]] as const).map(([explicit, error]) => row(`required after ${explicit} of four authorities`, error, { explicit }, {}, {}, {}, {})),
  row('required after none, and there', undefined, { in: 'A', explicit: 0 }, { in: 'A' }, { in: 'A' }),
  row('required after less than what was said before', NONE, { explicit: 7 }, { explicit: 2 }, { explicit: 4 }, {}, {}),
  row('required after one, by the client\'s issuer', NONE, { explicit: 1 }, {}),
  row('required after two, by the client\'s issuer', undefined, { explicit: 2 }, {}),
  row('required by the client itself', NONE, {}, { explicit: 0 }),
  row('required by the client itself, of those below', undefined, {}, { explicit: 1 }),
  row('required by the client itself, and there', undefined, { in: 'A' }, { in: 'A', explicit: 0 }),
  row('an authority\'s own certificate does not count', undefined, { explicit: 2 }, { self: true }, {}),
  row('an authority\'s own certificate does not count: the next one does', NONE, { explicit: 2 }, { self: true }, {}, {}),
  row('an authority\'s own certificate does not count: two of them', NONE, { explicit: 2 }, { self: true }, {}, { self: true }, {}),
  row('an authority\'s own certificate has no policies', NONE, required, { self: true }, { in: 'A' }),
  ['a client of its issuer\'s name does count', NONE, () => chainOf({ explicit: 1 }, { self: true }), 'stricter'],
  row('a number beyond all', undefined, { odd: extension('2.5.29.36', seq(der(0x80, Buffer.from('7fffffffffffffff', 'hex'))), true) }, {}),
  ['without being critical', NONE, () => chainOf({ odd: extension('2.5.29.36', seq(der(0x80, Buffer.of(0)))) }, {})]
]

const mappings: Row[] = [
  row('mapped', undefined, { in: 'A', maps: 'A>B', explicit: 0 }, { in: 'B' }),
  row('mapped, and no longer itself', NONE, { in: 'A', maps: 'A>B', explicit: 0 }, { in: 'A' }),
  row('mapped, where none is required', undefined, { in: 'A', maps: 'A>B' }, { in: 'A' }),
  row('mapped twice', undefined, { in: 'A', explicit: 0, maps: 'A>B' }, { in: 'B', maps: 'B>C' }, { in: 'C' }),
  row('mapped twice, and not the second time', NONE, { in: 'A', explicit: 0, maps: 'A>B' }, { in: 'B', maps: 'B>C' }, { in: 'B' }),
  row('mapped to two: the first', undefined, { in: 'A', maps: 'A>B A>C', explicit: 0 }, { in: 'B' }),
  row('mapped to two: the second', undefined, { in: 'A', maps: 'A>B A>C', explicit: 0 }, { in: 'C' }),
  row('two mapped to one', undefined, { in: 'A B', maps: 'A>C B>C', explicit: 0 }, { in: 'C' }),
  row('mapped in turn', undefined, { in: 'A B', maps: 'A>B B>A', explicit: 0 }, { in: 'A' }),
  row('mapped, but not that one', undefined, { in: 'A B', maps: 'A>C', explicit: 0 }, { in: 'B' }),
  row('what an authority has not is not mapped', NONE, { in: 'A', maps: 'B>C', explicit: 0 }, { in: 'C' }),
  row('what an authority has not is not mapped, and what it has is left', undefined, { in: 'A', maps: 'B>C', explicit: 0 }, { in: 'A' }),
  row('mapped out of any-policy', undefined, { in: '*', maps: 'A>B', explicit: 0, any: 0 }, { in: 'B' }),
  row('mapped out of any-policy, and another', undefined, { in: '*', maps: 'A>B', explicit: 0 }, { in: 'C' }),
  row('mapped out of an any-policy that is not allowed', NONE, { in: 'A', any: 0, explicit: 0 }, { in: '*', maps: 'B>C' }, { in: 'C' }),
  row('mapped to what any-policy lets through', undefined, { in: 'A', maps: 'A>B', explicit: 0 }, { in: '*' }, { in: 'B' }),
  row('mapped from any-policy', 'INVALID_POLICY_EXTENSION', { in: '*', maps: '*>A', explicit: 0 }, { in: 'A' }),
  row('mapped to any-policy', 'INVALID_POLICY_EXTENSION', { in: 'A', maps: 'A>*', explicit: 0 }, { in: 'A' }),
  ['mapped to any-policy, where none is required', 'INVALID_POLICY_EXTENSION', () => chainOf({ in: 'A', maps: 'A>*' }, { in: 'A' })],
  row('mapped by a client', undefined, required, { in: 'A', maps: 'A>B' }),
  row('mapped by a client who may not', NONE, { in: 'A', explicit: 0, mapping: 0 }, { in: 'A', maps: 'A>B' }),
  ['mapped by a client to what it has not', NONE, () => chainOf({ in: 'A', maps: 'A>C', explicit: 1, any: 0 }, { in: '* B', maps: 'C>C' }), 'stricter']
]

const inhibitedMappings: Row[] = [
  row('not by those below', NONE, { in: 'A', explicit: 0, mapping: 0 }, { in: 'A', maps: 'A>B' }, { in: 'B' }),
  row('not by those below: what was mapped is lost', NONE, { in: 'A', explicit: 0, mapping: 0 }, { in: 'A', maps: 'A>B' }, { in: 'A' }),
  row('not by those below: another is left', undefined, { in: 'A B', explicit: 0, mapping: 0 }, { in: 'A B', maps: 'A>C' }, { in: 'B' }),
  row('by itself', undefined, { in: 'A', maps: 'A>B', explicit: 0, mapping: 0 }, { in: 'B' }),
  row('by one', undefined, { in: 'A', explicit: 0, mapping: 1 }, { in: 'A', maps: 'A>B' }, { in: 'B' }),
  row('by one and not by a second', NONE, { in: 'A', explicit: 0, mapping: 1 }, { in: 'A', maps: 'A>B' }, { in: 'B', maps: 'B>C' }, { in: 'C' }),
  row('by fewer than was said before', NONE, { in: 'A', explicit: 0, mapping: 5 }, { in: 'A', mapping: 0 }, { in: 'A', maps: 'A>B' }, { in: 'B' }),
  row('not by more than was said before', NONE, { in: 'A', explicit: 0, mapping: 0 }, { in: 'A', mapping: 5 }, { in: 'A', maps: 'A>B' }, { in: 'B' }),
  row('an authority\'s own certificate does not count', undefined, { in: 'A', explicit: 0, mapping: 1 }, { in: 'A', self: true }, { in: 'A', maps: 'A>B' }, { in: 'B' }),
  row('an authority\'s own certificate maps no more than others', NONE, { in: 'A', explicit: 0, mapping: 0 }, { in: 'A', self: true, maps: 'A>B' }, { in: 'B' }),
  row('any-policy is left', undefined, { in: '*', explicit: 0, mapping: 0 }, { in: '*', maps: 'A>B' }, { in: 'C' })
]

const inhibitedAnyPolicy: Row[] = [
  row('not of a client', NONE, { in: 'A', explicit: 0, any: 0 }, { in: '*' }),
  row('not of an authority', NONE, { in: 'A', explicit: 0, any: 0 }, { in: '*' }, { in: 'A' }),
  row('of itself', undefined, { in: '*', explicit: 0, any: 0 }, { in: 'A' }),
  row('another beside it', undefined, { in: 'A', explicit: 0, any: 0 }, { in: '* A' }),
  row('of one', undefined, { in: 'A', explicit: 0, any: 1 }, { in: '*' }, { in: 'A' }),
  row('of one and not of a client', NONE, { in: 'A', explicit: 0, any: 1 }, { in: '*' }, { in: '*' }),
  row('of fewer than was said before', NONE, { in: 'A', explicit: 0, any: 5 }, { in: 'A', any: 0 }, { in: '*' }),
  row('not of more than was said before', NONE, { in: 'A', explicit: 0, any: 0 }, { in: 'A', any: 5 }, { in: '*' }),
  row('of an authority to itself', undefined, { in: 'A', explicit: 0, any: 0 }, { in: '*', self: true }, { in: 'A' }),
  row('of an authority to itself, which does not count', undefined, { in: 'A', explicit: 0, any: 1 }, { in: 'A', self: true }, { in: '*' }, { in: 'A' }),
  row('of an authority to itself, and not of the next one', NONE, { in: 'A', explicit: 0, any: 0 }, { in: '*', self: true }, { in: '*' }, { in: 'A' }),
  row('not of a client of its issuer\'s name', NONE, { in: 'A', explicit: 0, any: 0 }, { in: '*', self: true }),
  row('without requiring any', undefined, { in: 'A', any: 0 }, { in: '*' })
]

const info = (...qualifiers: Uint8Array[]) => policies(seq(oid('1.2.3.65'), seq(...qualifiers)))
const cps = (...parts: Uint8Array[]) => info(seq(oid('1.3.6.1.5.5.7.2.1'), ...parts))
const notice = (...parts: Uint8Array[]) => info(seq(oid('1.3.6.1.5.5.7.2.2'), seq(...parts)))
const limits = (...parts: Uint8Array[]) => extension('2.5.29.36', seq(...parts), true)
const pairs = (...parts: Uint8Array[]) => extension('2.5.29.33', seq(...parts))
const good: Record<string, Uint8Array> = {
  'a practice statement': cps(text('https://acme.test/cps', 0x16)),
  'a notice': notice(text('Notice')),
  'a notice in IA5': notice(text('Notice', 0x16)),
  'a notice in two octets a character': notice(text('Notice', 0x1e)),
  'a notice by number': notice(seq(text('Acme', 0x1a), seq(integer(1), integer(2)))),
  'a notice by number, and a text': notice(seq(text('Acme'), seq()), text('Notice')),
  'an empty notice': notice(),
  'a qualifier of another kind': info(seq(oid('1.2.3'), seq())),
  'no qualifier': info()
}
const bad: Record<string, Uint8Array> = {
  'no policies': policies(),
  'a policy twice': policies('1.2.3.65', '1.2.3.66', '1.2.3.65'),
  'any-policy twice': policies(ANY_POLICY, ANY_POLICY),
  'policies that are none': extension('2.5.29.32', text('policy')),
  'more behind the policies': extension('2.5.29.32', Buffer.concat([seq(seq(oid('1.2.3.65'))), seq()])),
  'a policy without an identifier': policies(seq()),
  'a policy whose identifier is cut off': policies(seq(der(6, Buffer.of(0x2a, 0x83)))),
  'a policy whose identifier is padded': policies(seq(der(6, Buffer.of(0x2a, 0x80, 0x03)))),
  'a policy whose identifier is empty': policies(seq(der(6))),
  'a policy with more': policies(seq(oid('1.2.3.65'), seq(), seq())),
  'qualifiers that are none': policies(seq(oid('1.2.3.65'), text('a'))),
  'a qualifier without a value': info(seq(oid('1.2.3'))),
  'a qualifier with two': cps(text('a', 0x16), text('a', 0x16)),
  'a practice statement in UTF-8': cps(text('https://acme.test/cps')),
  'a notice that is a text': info(seq(oid('1.3.6.1.5.5.7.2.2'), text('Notice'))),
  'a notice of another kind of text': notice(text('Notice', 0x13)),
  'a notice in two octets a character, cut off': notice(der(0x1e, Buffer.of(0, 65, 0))),
  'a notice with two texts': notice(text('Notice'), text('Notice')),
  'a notice by no number': notice(seq(text('Acme'))),
  'a notice by a number that is a text': notice(seq(text('Acme'), seq(text('1')))),
  'a notice by a padded number': notice(seq(text('Acme'), seq(der(2, Buffer.of(0, 1))))),
  'a notice by number with more': notice(seq(text('Acme'), seq(), seq())),
  'a notice by number of no organization': notice(seq(seq(), seq())),
  'constraints of nothing': limits(),
  'constraints by a negative number': limits(der(0x80, Buffer.of(0xff))),
  'constraints by an empty number': limits(der(0x80)),
  'constraints by a padded number': limits(der(0x80, Buffer.of(0, 9))),
  'constraints in the wrong order': limits(der(0x81, Buffer.of(1)), der(0x80, Buffer.of(1))),
  'constraints with more': limits(der(0x80, Buffer.of(9)), der(0x82, Buffer.of(1))),
  'no mappings': pairs(),
  'a mapping of one': pairs(seq(oid('1.2.3.65'))),
  'a mapping of three': pairs(seq(oid('1.2.3.65'), oid('1.2.3.66'), oid('1.2.3.67'))),
  'a mapping of texts': pairs(seq(text('A'), text('B'))),
  'an inhibitAnyPolicy that is negative': extension('2.5.29.54', der(2, Buffer.of(0xff)), true),
  'an inhibitAnyPolicy that is padded': extension('2.5.29.54', der(2, Buffer.of(0, 9)), true),
  'an inhibitAnyPolicy that is a text': extension('2.5.29.54', text('0'), true)
}
const forms: Row[] = [
  ...Object.entries(good).map(([what, odd]) => row(what, undefined, required, { odd })),
  ...Object.entries(bad).map(([what, odd], index): Row => {
    // Openssl looks at the others only where there are policies.
    const said: Said = /mapping|inhibit/.test(what) ? { in: 'A', odd } : { odd }
    const difference = /^no policies|^more behind/.test(what) ? 'stricter' : undefined
    // Of a client, or of an authority.
    return [what, 'INVALID_POLICY_EXTENSION', () => chainOf(...(index % 2 === 0 ? [{}, said] : [said, {}])), difference]
  })
]

/** Under a root that says something of policies. */
function ofRoot (extensions: Extensions, said: Said = {}): Chain {
  const issuer = make({ ca: true, extensions })
  return { ca: [issuer], leaf: make({ issuer, extensions: extensionsOf(said) }) }
}

const anchors: Row[] = [
  ['required by a root', undefined, () => ofRoot(extensionsOf({ in: 'A', explicit: 0 }))],
  ['of another kind than the root\'s', undefined, () => ofRoot(extensionsOf({ in: 'A', any: 0, mapping: 0 }), { in: '*', explicit: 0 })],
  ['required by a client that is its own root', undefined, () => { const leaf = make({ extensions: { ...extensionsOf({ in: 'A', explicit: 0 }), usage: undefined } }); return { ca: [leaf], leaf } }],
  ['mapped to any-policy by a root', undefined, () => ofRoot(extensionsOf({ in: 'A', maps: 'A>*' }))]
]

const chapters: Record<string, Row[]> = {
  'policies that a path is valid for': certificatePolicies,
  'an explicit policy that is required': explicitPolicy,
  'policies that are mapped': mappings,
  'mappings that are inhibited': inhibitedMappings,
  'any-policy that is inhibited': inhibitedAnyPolicy,
  'policies of a trust anchor do not count': anchors,
  'policies, and what is none': forms
}

for (const [chapter, rows] of Object.entries(chapters)) {
  t.test(`certificate policies count as for openssl: ${chapter}`, { skip: withoutOpenssl }, async (t) => {
    const chains = rows.map(([,, makeChain]) => makeChain())
    const words = wordsOfOpenssl(dir, chains)
    for (const [at, [title, error,, difference]] of rows.entries()) {
      const [chain, word] = [chains[at]!, words[at]]
      t.equal(errorOf(chain), error, title, { diagnostic: false, openssl: word })
      const isAccepted = difference === undefined ? error === undefined : difference === 'stricter'
      t.equal(word === undefined, isAccepted, `${title}: ${difference ?? 'so'} says openssl`, { openssl: word })
    }
  })
}

t.test('malformed certificate policies are refused anywhere but in a root', async (t) => {
  for (const [what, odd] of Object.entries(bad)) {
    for (const chain of [chainOf({}, { odd }), chainOf({ odd }, {}), chainOf({ odd }, {}, {})]) t.equal(errorOf(chain), 'INVALID_POLICY_EXTENSION', what)
    t.equal(errorOf(ofRoot({ odd })), undefined, what)
  }
})

t.test('chains with random certificate policies that openssl refuses are refused', { skip: withoutOpenssl }, async (t) => {
  const letters = fc.uniqueArray(fc.constantFrom('A', 'B', 'C', '*'), { maxLength: 3 }).map((all) => all.join(' '))
  const mapping = fc.array(fc.tuple(fc.constantFrom('A', 'B', 'C'), fc.constantFrom('A', 'B', 'C')).map((pair) => pair.join('>')), { minLength: 1, maxLength: 3 }).map((all) => all.join(' '))
  const seldom = <Value>(arbitrary: fc.Arbitrary<Value>) => fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
  const skipped = seldom(fc.nat({ max: 2 }))
  const said = fc.record({ in: letters, maps: seldom(mapping), explicit: skipped, mapping: skipped, any: skipped, self: seldom(fc.constant(true as const)) })
  const count = { accepted: 0, refused: 0 }
  const compare = (all: readonly Said[], chain: Chain, theirs: string | undefined) => {
    const ours = errorOf(chain)
    count[ours === undefined ? 'accepted' : 'refused']++
    if ((ours === undefined) === (theirs === undefined)) return
    // RFC 5280 §6.1.5 a counts a client of its issuer's name, and a client's mappings are none: openssl has it otherwise.
    const client = all.at(-1)!
    // And it maps what any-policy stands for where that is inhibited (§6.1.3 d 2).
    const mapsAny = all.some(({ in: policies, maps }) => maps !== undefined && policies!.includes('*'))
    if (ours === undefined || (client.self !== true && client.maps === undefined && !mapsAny)) throw new Error(`we say ${ours}, openssl says ${theirs}`)
  }
  // Several at once, as one shell asks openssl about all of them
  fc.assert(fc.property(fc.array(fc.array(said, { minLength: 1, maxLength: 5 }), { minLength: 10, maxLength: 10 }), (several) => {
    const chains = several.map((all) => chainOf(...all))
    const words = wordsOfOpenssl(dir, chains)
    for (const [at, all] of several.entries()) compare(all, chains[at]!, words[at])
  }), { numRuns: 10 })
  t.ok(count.accepted > 5 && count.refused > 5, `${count.accepted} are valid, ${count.refused} are not`)
})

t.test('certificate policies in any number are processed quickly', async (t) => {
  const many = (count: number, from = 0) => policies(...Array.from({ length: count }, (_, index) => `1.2.3.${100 + from + index}`))
  const timed = (chain: Chain) => {
    const before = process.cpuUsage()
    const error = errorOf(chain)
    const { user } = process.cpuUsage(before)
    t.ok(user < 500_000, `${user} µs`)
    return error
  }
  const trusting = ({ ca, others, leaf }: Chain): Chain => ({ ca: [...ca, ...others!], leaf })
  const fan = Array.from('ABCDEFGH', (from) => Array.from('ABCDEFGH', (to) => `${from}>${to}`)).flat().join(' ')
  const mapped: Said = { in: 'A B C D E F G H', maps: fan }
  t.equal(timed(trusting(chainOf({ ...mapped, explicit: 0 }, mapped, mapped, mapped, mapped, mapped, mapped, { in: 'A' }))), undefined, 'as a tree these are two million nodes')
  t.equal(timed(chainOf({ odd: many(500), explicit: 0 }, { odd: many(500) })), undefined, 'a thousand nodes')
  t.equal(timed(chainOf({ odd: many(500), explicit: 0 }, { odd: many(500) }, { odd: many(1) })), 'UNSPECIFIED', 'one more')
  t.equal(timed(chainOf({ odd: many(500) }, { odd: many(500) }, { odd: many(1) })), undefined, 'where none is required, there is no graph')
  const everything = policyMappings(...Array.from({ length: 2000 }, (_, index) => ['1.2.3.65', `1.2.3.${100 + index}`] as const))
  t.equal(timed(chainOf({ in: '*', odd: everything, explicit: 0 }, { in: '*' })), 'UNSPECIFIED', 'in one mapping')
  t.equal(timed(chainOf({ in: '*', odd: everything, explicit: 0 }, { in: '*' }, { in: '*' })), 'UNSPECIFIED')
  const others = { odd: many(4700) }
  t.equal(timed(trusting(chainOf(required, others, others, others, others, others, others, others, {}))), 'UNSPECIFIED', 'that are looked up for nothing')

  // Two authorities who have certified each other, in every way that there are certificates for.
  const none = { subjectKey: undefined, authorityKey: undefined }
  const sub = make({ ca: true, issuer: root, extensions: none })
  const said = { ...none, odd: many(90), limits: policyConstraints({ explicit: 0 }) }
  const one = make({ ca: true, subject: 'CN=One', like: sub, issuer: sub, extensions: said })
  const two = make({ ca: true, subject: 'CN=Two', like: sub, issuer: one, extensions: said })
  const crossed = [make({ ca: true, subject: 'CN=One', like: sub, issuer: two, extensions: said }), make({ ca: true, subject: 'CN=Two', like: sub, issuer: one, extensions: said }), two, one]
  t.equal(timed({ ca: [root, sub], others: crossed, leaf: make({ issuer: one, extensions: none }) }), 'NO_EXPLICIT_POLICY', 'along many paths')
})
