/**
 * The clients document: which certificate is whose, how the document is checked, and how a changed one comes into force.
 */
import t, { type Test } from 'tap'
import { channel } from 'node:diagnostics_channel'
import { chmodSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import Fastify, { type FastifyInstance } from 'fastify'
import { EntryIndex, resolveEntry } from '../lib/clients/certificate-entry.ts'
import { partsOf } from '../lib/clients/certificate-parts.ts'
import { resolveClients } from '../lib/clients/clients.ts'
import httpSecurity, { type CertificateEntry, type ClientsChange, type ClientsDocument, type NameAttribute } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { WholeCertificate } from '../lib/x509/known-certificate.ts'
import { alternatives, dn, make, names, seq, text, oid } from './fixtures/chains.ts'
import { der, tags } from './fixtures/x509.ts'
import { type LogLine, keepLog } from './fixtures/serve.ts'
import { until } from './fixtures/time.ts'

const INVALID = 'FST_HTTP_SECURITY_INVALID_CLIENTS'
const UPN = '1.3.6.1.4.1.311.20.2.3'
const NO_LABELS: ReadonlySet<string> = new Set()

interface Spec { subject?: string, issuer?: string, san?: readonly Uint8Array[], serial?: Buffer }
const root = make({ ca: true, subject: 'CN=Root' })
const other = make({ ca: true, subject: 'CN=Other, O=Root' })

function certificateOf ({ subject = 'CN=orders, O=Acme', issuer = 'root', san, serial }: Spec) {
  return make({ issuer: issuer === 'root' ? root : other, subject, ...serial && { serial }, extensions: { ...san && { san: alternatives(...san) } } })
}

const matches = (entry: CertificateEntry, spec: Spec, labels = NO_LABELS): boolean => {
  const index = new EntryIndex<object>()
  index.add(resolveEntry(entry), {})
  return index.find(partsOf(new WholeCertificate(certificateOf(spec).certificate), labels)).length > 0
}

t.test('an entry matches a certificate that has all of its parts, and no other one', async (t) => {
  const { certificate } = certificateOf({ serial: Buffer.from('00f3a1', 'hex') })
  const fingerprint = certificate.fingerprint256
  const cases: Array<readonly [entry: CertificateEntry, spec: Spec, matches: boolean, name: string]> = [
    [{ subject: { CN: 'orders' } }, {}, true, 'one attribute'],
    [{ subject: { O: 'Acme', CN: 'orders' } }, {}, true, 'two, in another order'],
    [{ subject: { O: 'Acme', CN: 'invoices' } }, {}, false, 'one of two'],
    [{ subject: { CN: 'orders', OU: 'x' } }, {}, false, 'one that it does not have'],
    [{ subject: { CN: 'orders' } }, { subject: 'CN=orders, CN=admin' }, false, 'a second value'],
    [{ subject: { CN: ['admin', 'orders'] } }, { subject: 'CN=orders, CN=admin' }, true, 'both values, in any order'],
    [{ subject: { CN: ['orders'] } }, {}, true, 'a list of one'],
    [{ subject: { CN: ['orders', 'orders'] } }, {}, false, 'a value twice that is there once'],
    [{ subject: { CN: ['orders', 'orders'] } }, { subject: 'CN=orders, CN=orders' }, true, 'a value that is there twice'],
    [{ subject: { O: 'Acme', CN: 'orders' } }, { subject: 'CN=orders + O=Acme' }, true, 'a multi-valued RDN'],
    [{ subject: { O: 'Acme', CN: 'orders' } }, { subject: 'O=Acme + CN=orders' }, true, 'in another order'],
    [{ subject: { CN: 'orders', O: 'Acme' } }, { subject: 'CN=[12]orders\u002c O=Acme' }, true, 'the same as two RDNs'],
    [{ subject: { O: 'Acme' } }, { subject: dnOf('orders, O=Acme') as never }, false, 'a CN that looks like an O'],
    [{ subject: { CN: 'Orders' } }, {}, false, 'another case'],
    [{ subject: { CN: 'orders' } }, { subject: dnOf('orders\0.evil') as never }, false, 'NUL'],
    [{ subject: { CN: 'caf\u00e9' } }, { subject: dnOf('cafe\u0301') as never }, false, 'another Unicode form'],
    [{ subject: { CN: 'caf\u00e9' } }, { subject: dnOf('caf\u00e9') as never }, true, 'the same Unicode form'],
    [{ subject: { Email: 'a@acme.test' } }, { subject: 'emailAddress=a@acme.test' }, true, 'Email'],
    [{ subject: { E: 'a@acme.test' } }, { subject: 'emailAddress=a@acme.test' }, true, 'E'],
    [{ issuer: { CN: 'Root' } }, {}, true, 'issuer'],
    [{ issuer: { CN: 'Root' } }, { issuer: 'other' }, false, 'another issuer'],
    [{ issuer: { CN: 'Other', O: 'Root' } }, { issuer: 'other' }, true, 'two attributes of the issuer'],
    [{ san: 'DNS:acme.test' }, { san: [names.dns('x.test'), names.dns('acme.test')] }, true, 'one of two DNS names'],
    [{ san: 'DNS:acme.test' }, { san: [names.uri('acme.test')] }, false, 'a SAN of another type with the same text'],
    [{ san: 'DNS:acme.test' }, { san: [names.dns('acme.test\0.evil.test')] }, false, 'NUL in a DNS name'],
    [{ san: 'DNS:acme.test' }, { san: [names.dns('*.test')] }, false, 'a wildcard'],
    [{ san: 'DNS:acme.test' }, { san: [names.dns('ACME.test')] }, false, 'another case of a DNS name'],
    [{ san: 'URI:spiffe://acme.test/orders' }, { san: [names.uri('spiffe://acme.test/orders')] }, true, 'a URI'],
    [{ san: 'URI:spiffe://acme.test/orders' }, { san: [names.uri('spiffe://acme.test/orders/x')] }, false, 'a longer URI'],
    [{ san: 'email:jane@acme.test' }, { san: [names.email('jane@acme.test')] }, true, 'an address'],
    [{ san: 'IP:192.0.2.7' }, { san: [names.ip(192, 0, 2, 7)] }, true, 'an IPv4 address'],
    [{ san: 'IP:2001:DB8:0::1' }, { san: [names.ip(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)] }, true, 'an IPv6 address, however it is written'],
    [{ san: 'IP:192.0.2.7' }, { san: [names.dns('192.0.2.7')] }, false, 'a DNS name that looks like an address'],
    [{ san: 'UPN:jane@acme.test' }, { san: [names.other(UPN, 'jane@acme.test')] }, true, 'a user principal name'],
    [{ san: 'UPN:jane@acme.test' }, { san: [names.other('1.3.6.1.4.1.311.20.2.4', 'jane@acme.test')] }, false, 'another otherName'],
    [{ san: 'UPN:jane@acme.test' }, { san: [names.email('jane@acme.test')] }, false, 'an address for a user principal name'],
    [{ san: 'UPN:jane@acme.test' }, { san: [der(0xa0, oid(UPN), der(0xa0, text('jane@acme.test', 0x16)))] }, false, 'a user principal name of another string type'],
    [{ san: 'UPN:jane@acme.test' }, { san: [der(0xa0, oid(UPN))] }, false, 'a user principal name without value'],
    [{ san: 'DNS:acme.test' }, { san: [names.dns('acme.test'), der(0xa0, oid(UPN))] }, true, 'beside one that cannot be read'],
    [{ serialNumber: 'F3:A1', issuer: { CN: 'Root' } }, { serial: Buffer.from('00f3a1', 'hex') }, true, 'a serial number'],
    [{ serialNumber: '00-f3-a1', issuer: { CN: 'Root' } }, { serial: Buffer.from('00f3a1', 'hex') }, true, 'with its leading zero, as the log writes it'],
    [{ serialNumber: 'F3A1', issuer: { CN: 'Root' } }, { serial: Buffer.from('00f3a1', 'hex'), issuer: 'other' }, false, 'the same of another issuer'],
    [{ serialNumber: 'F3A1', issuer: { CN: 'Root' } }, { serial: Buffer.from('f3a1', 'hex') }, false, 'a negative one'],
    [{ serialNumber: '0', issuer: { CN: 'Root' } }, { serial: Buffer.from('00', 'hex') }, true, 'zero']
  ]
  for (const [entry, spec, expected, name] of cases) t.equal(matches(entry, spec), expected, name)
  for (const written of [fingerprint, fingerprint.toLowerCase(), fingerprint.replaceAll(':', '')]) {
    const index = new EntryIndex<object>()
    index.add(resolveEntry({ fingerprint256: written }), {})
    t.equal(index.find(partsOf(new WholeCertificate(certificate), NO_LABELS)).length, 1, written)
    t.equal(index.find(partsOf(new WholeCertificate(certificateOf({}).certificate), NO_LABELS)).length, 0, 'and no other certificate')
  }
  t.equal(matches({ issuedBy: 'partners' }, {}, new Set(['staff', 'partners'])), true, 'one of its labels')
  t.equal(matches({ issuedBy: 'partners' }, {}), false, 'without labels')
  t.equal(matches({ subject: { CN: 'orders' }, issuedBy: 'partners' }, {}, new Set(['staff'])), false, 'another label')
})

/** A name whose only attribute, CN, has whatever characters. */
function dnOf (value: string): Buffer {
  return seq(der(tags.set, seq(oid('2.5.4.3'), text(value))))
}

// What is wrong with an entry

const BAD: Array<readonly [entry: unknown, message: RegExp]> = [
  [{}, /an empty entry is not allowed/],
  [{ subject: {} }, /subject: an empty object is not allowed/],
  [{ subject: { CN: [] } }, /subject: CN: an empty list is not allowed/],
  [{ subject: { CN: '' } }, /subject: CN: "" is not allowed/],
  [{ subject: { CN: ['a', ''] } }, /subject: CN: "" is not allowed/],
  [{ subject: { CN: 5 } }, /subject: CN: 5 is not allowed/],
  [{ subject: { CN: null } }, /subject: CN: null is not allowed/],
  [{ subject: { CN: [['a']] } }, /subject: CN: a is not allowed/],
  [{ subject: { XX: 'a' } }, /subject: "XX" is not allowed; allowed: CN, C, L/],
  [{ subject: { cn: 'a' } }, /subject: "cn" is not allowed/],
  [{ subject: 'CN=orders' }, /subject: "CN=orders" is not allowed; allowed: an object/],
  [{ subject: { S: 'a', ST: 'a' } }, /subject: ST is there twice/],
  [{ subject: { E: 'a', Email: 'a' } }, /subject: E is there twice/],
  [{ subject: { CN: undefined } }, /subject: CN: undefined is not allowed/],
  [{ fingerprint256: undefined }, /fingerprint256: undefined is not allowed/],
  [{ subject: { CN: 'a' }, issuedBy: undefined }, /issuedBy: undefined is not allowed/],
  [{ fingerprint256: null }, /fingerprint256: null is not allowed/],
  [{ fingerprint256: 'ab'.repeat(20) }, /fingerprint256: .* is not allowed; allowed: the SHA-256/],
  [{ fingerprint256: `${'ab'.repeat(31)}xy` }, /fingerprint256/],
  [{ fingerprint256: `${'ab'.repeat(32)} ` }, /fingerprint256/],
  [{ san: 'acme.test' }, /san: "acme.test" is not allowed; allowed: a kind and a value/],
  [{ san: 'dns:acme.test' }, /san/],
  [{ san: 'DNS:' }, /san/],
  [{ san: 'DNS:acme\0.test' }, /san/],
  [{ san: 'IP:acme.test' }, /is no IP address/],
  [{ san: 'IP:fe80::1%eth0' }, /is no IP address/],
  [{ san: ['DNS:a'] }, /san: DNS:a is not allowed; allowed: a string/],
  [{ serialNumber: '05' }, /serialNumber: needs issuer or issuedBy/],
  [{ serialNumber: 'x', issuer: { CN: 'Root' } }, /serialNumber: "x" is not allowed/],
  [{ issuedBy: '' }, /issuedBy: "" is not allowed/],
  [{ commonName: 'a' }, /"commonName" is not allowed; allowed: subject, issuer/],
  [{ constructor: 'a' }, /"constructor" is not allowed/],
  [[], /is not allowed; allowed: an object/],
  ['x'.repeat(200), /…/],
  [Object.assign(Object.create({ san: 'DNS:a' }) as object, { subject: { CN: 'a' } }), /an object of a class is not allowed/]
]

t.test('an entry that admits everyone or no one is an error, in a document and in a rule', async (t) => {
  for (const [entry, message] of BAD) {
    t.throws(() => resolveEntry(entry), { message }, message.source)
    await t.rejects(resolveClients({ clients: { acme: { certificates: [{ san: 'DNS:a.test' }, entry] } } }, 'clients.json'),
      typeof entry === 'object' && !Array.isArray(entry) ? { code: INVALID, message: new RegExp(`^clients\\.json: clients: acme: certificates: 1: .*${message.source}`) } : { code: INVALID, message: /^clients\.json: clients: acme: certificates: 1: / })
    if (typeof entry !== 'object' || Array.isArray(entry)) continue
    const app = Fastify()
    await app.register(httpSecurity)
    t.throws(() => app.get('/', { httpSecurity: { level: 'mtls', allow: ['acme', entry as CertificateEntry] } }, async () => ''), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /^httpSecurity of route GET \/: allow: 1: / })
    await app.close()
  }
})

t.test('a document that is wrong is an error that says where', async (t) => {
  const certificates = [{ san: 'DNS:a.test' }]
  const cases: Array<readonly [document: unknown, message: RegExp]> = [
    [undefined, /^x: /],
    [{}, /^x: clients is missing/],
    [{ clients: { acme: {} } }, /^x: clients: acme: certificates is missing/],
    [{ clients: { acme: { certificates: [] } } }, /^x: clients: acme: certificates: /],
    [{ clients: { acme: { certificates, groups: 'writers' } } }, /^x: clients: acme: groups: 'writers' is not allowed/],
    [{ clients: { acme: { certificates, groups: ['a\nb'] } } }, /^x: clients: acme: groups: 'a\\nb': not allowed as a name/],
    [{ clients: { acme: { certificates, grops: [] } } }, /Did you mean 'groups'/],
    [{ clients: { acme: { certificates, suspended: 'yes' } } }, /suspended/],
    [{ clients: { 'a\u0000b': { certificates } } }, /not allowed as a name/],
    [{ clients: { '': { certificates } } }, /^x: clients: '': not allowed as a name/],
    [{ clients: { ['x'.repeat(129)]: { certificates } } }, /not allowed as a name/],
    [JSON.parse('{ "clients": { "__proto__": { "certificates": [{ "san": "DNS:a.test" }] } } }'), /^x: clients: '__proto__': not allowed as a name/],
    [{ clients: {}, client: {} }, /unknown option 'client'/]
  ]
  for (const [document, message] of cases) await t.rejects(resolveClients(document, 'x'), { code: INVALID, message }, message.source)
  t.equal((await resolveClients({ clients: { constructor: { certificates }, toString: { certificates: [{ san: 'DNS:b.test' }] } } }, 'x')).named('constructor')?.client.name, 'constructor', 'names that objects have are names like any other')
  t.equal((await resolveClients({ clients: {} }, 'x')).named('constructor'), undefined)
})

// The compiled index against a plain evaluation

const VALUES = ['a', 'b']
const ATTRIBUTES = ['CN', 'O', 'OU'] as const
const LABELS = ['x', 'y']
type Names = Array<readonly [type: typeof ATTRIBUTES[number], value: string]>
const pool = Array.from({ length: 24 }, (_, n) => {
  const subject: Names = ATTRIBUTES.flatMap((type, at) => Array.from({ length: (n >> at) % 3 }, (_, i) => [type, VALUES[(n + i) % 2]!] as const))
  const dns = VALUES.filter((_, at) => (n >> at) % 2 === 1)
  const uris = VALUES.filter((_, at) => (n >> (at + 2)) % 2 === 1)
  const made = make({ issuer: n % 2 === 0 ? root : other, subject: dn(subject.map(([type, value]) => `${type}=${value}`).join(', ')), serial: Buffer.of(1 + n % 3), extensions: { ...(dns.length + uris.length > 0) && { san: alternatives(...dns.map(names.dns), ...uris.map(names.uri)) } } })
  return { subject, issuer: (n % 2 === 0 ? [['CN', 'Root']] : [['CN', 'Other'], ['O', 'Root']]) as Names, dns, uris, serial: 1 + n % 3, certificate: made.certificate, fingerprint: made.certificate.fingerprint256.replaceAll(':', '') }
})
type Member = typeof pool[number]

/** The rule in other words: every part, one after the other. */
function plainly (entry: CertificateEntry, member: Member, labels: ReadonlySet<string>): boolean {
  const isNamed = (wanted: CertificateEntry['subject'], has: Names): boolean => Object.entries(wanted!).every(([type, values]) => {
    const there = has.filter(([other]) => other === type).map(([, value]) => value)
    const asked = [values as string | string[]].flat()
    return there.length === asked.length && VALUES.concat('Root', 'Other').every((value) => there.filter((each) => each === value).length === asked.filter((each) => each === value).length)
  })
  return (entry.subject === undefined || isNamed(entry.subject, member.subject)) &&
    (entry.issuer === undefined || isNamed(entry.issuer, member.issuer)) &&
    (entry.san === undefined || member.dns.some((name) => entry.san === `DNS:${name}`) || member.uris.some((name) => entry.san === `URI:${name}`)) &&
    (entry.fingerprint256 === undefined || entry.fingerprint256 === member.fingerprint) &&
    (entry.serialNumber === undefined || Number(entry.serialNumber) === member.serial) &&
    (entry.issuedBy === undefined || labels.has(entry.issuedBy))
}

const anyNames = (values: readonly string[], attributes: readonly NameAttribute[] = ATTRIBUTES) => fc.dictionary(fc.constantFrom(...attributes), fc.oneof(fc.constantFrom(...values), fc.array(fc.constantFrom(...values), { minLength: 1, maxLength: 2 })), { minKeys: 1, maxKeys: 2 })
const anyParts = fc.record({
  subject: anyNames(VALUES),
  issuer: anyNames(['Root', 'Other'], ['CN', 'O']),
  san: fc.constantFrom('DNS:a', 'DNS:b', 'URI:a', 'URI:b', 'email:a'),
  fingerprint256: fc.constantFrom(...pool.map(({ fingerprint }) => fingerprint)),
  serialNumber: fc.constantFrom('1', '02', '0003'),
  issuedBy: fc.constantFrom(...LABELS)
})
const anyEntry: fc.Arbitrary<CertificateEntry> = fc.tuple(anyParts, fc.subarray(['subject', 'issuer', 'san', 'fingerprint256', 'serialNumber', 'issuedBy'] as const, { minLength: 1, maxLength: 3 }))
  .map(([parts, keys]) => Object.fromEntries([...keys, ...keys.includes('serialNumber') && !keys.includes('issuedBy') ? ['issuer' as const] : []].map((key) => [key, parts[key]])))
const anyDocument = fc.uniqueArray(fc.tuple(fc.constantFrom('acme', 'globex', 'initech', 'umbrella', '7'), fc.array(anyEntry, { minLength: 1, maxLength: 3 }), fc.boolean()), { selector: ([name]) => name, maxLength: 5 })

t.test('for any document and certificate, the compiled answer is that of a plain evaluation', async (t) => {
  let found = 0
  await fc.assert(fc.asyncProperty(anyDocument, fc.subarray(LABELS), async (definitions, labelList) => {
    const document = { clients: Object.fromEntries(definitions.map(([name, certificates, suspended]) => [name, { certificates, suspended }])) }
    const labels = new Set(labelList)
    const clients = await resolveClients(document, 'clients')
    for (const member of pool) {
      const expected = Object.entries(document.clients).filter(([, { certificates }]) => certificates.some((entry) => plainly(entry, member, labels)))
      found += expected.length
      const answer = clients.find(partsOf(new WholeCertificate(member.certificate), labels))
      const said = (first: string | undefined, hasOthers: boolean, isSuspended: boolean): string => JSON.stringify([first, hasOthers, isSuspended])
      const [is, isTo] = [said(answer[0]?.client.name, answer.length > 1, answer.some(({ isSuspended }) => isSuspended)), said(expected[0]?.[0], expected.length > 1, expected.some(([, { suspended }]) => suspended))]
      if (is !== isTo || !answer.every(({ client }) => expected.some(([name]) => name === client.name))) throw new Error(`${is} instead of ${isTo}`)
    }
  }), { numRuns: 300 })
  t.ok(found > 1_000, `${found} matched`)
})

// Documents that change

const acme = certificateOf({})
const globex = certificateOf({ subject: 'CN=orders, O=Globex' })

async function appWith (t: Test, clients: ClientsDocument | string | { load (): Promise<unknown>, watch? (changed: () => void): () => void }) {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { clients, default: 'tls' })
  app.get('/who', async (request) => request.httpSecurity.client)
  app.get('/acme', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] } }, async () => 'hello')
  const who = async (made: { pem: string }): Promise<unknown> => JSON.parse((await inject(app, { url: '/who', clientCertificate: made.pem })).body || 'null')
  return { app, log, who, told: (msg: string) => log.filter((line) => line.msg.startsWith(`http-security: ${msg}`)) }
}

const byO = (...names: string[]): ClientsDocument => ({ clients: Object.fromEntries(names.map((name) => [name.toLowerCase(), { groups: [`${name}s`], certificates: [{ subject: { O: name } }] }])) })

t.test('a request has the client that its certificate is of', async (t) => {
  const { app, who, log } = await appWith(t, byO('Acme'))
  t.strictSame(await who(acme), { name: 'acme', groups: ['Acmes'] })
  t.equal(await who(globex), null, 'a certificate of no client')
  t.equal((await inject(app, { url: '/who', secure: true })).body, 'null', 'no certificate')
  t.match(log[0], { level: 30, msg: 'http-security: clients are in force', by: 'options', clients: 1 })
  t.equal((await inject(app, { url: '/acme', clientCertificate: acme.pem })).statusCode, 200)
  const refused = await inject(app, { url: '/acme', clientCertificate: globex.pem })
  t.match({ ...refused.json<object>() }, { statusCode: 403, code: 'FST_HTTP_SECURITY_CERTIFICATE_NOT_ALLOWED', message: 'The holder of this client certificate is not allowed here' })
  t.notMatch(refused.body, /acme|globex/i, 'the body says no more')
})

t.test('a file that changes is in force at once, with a line in the log and a message on the channel', async (t) => {
  const dir = t.testdir({ 'clients.json': `\uFEFF${JSON.stringify({ $schema: 'x', ...byO('Acme', 'Old') })}` })
  const path = join(dir, 'clients.json')
  const changes: ClientsChange[] = []
  const listener = (change: unknown): void => { changes.push(change as ClientsChange) }
  channel('fastify-http-security:clients').subscribe(listener)
  t.teardown(() => channel('fastify-http-security:clients').unsubscribe(listener))
  const { who, told, log } = await appWith(t, path)
  t.match(await who(acme), { name: 'acme' })
  t.match(log.find(({ msg }) => msg.endsWith('clients are in force')), { by: path, clients: 2 })
  const next = { clients: { ...byO('Globex').clients, acme: { certificates: [{ subject: { O: 'Acme' } }] } } }
  writeFileSync(`${path}.new`, JSON.stringify(next))
  renameSync(`${path}.new`, path)
  t.ok(await until(async () => await who(globex) !== null))
  t.strictSame(await who(acme), { name: 'acme', groups: [] })
  t.match(told('the clients have changed'), [{ level: 30, by: path, clients: 2, changes: 3, added: ['globex'], changed: ['acme'], removed: ['old'] }])
  t.strictSame(changes, [{ by: path, added: ['globex'], changed: ['acme'], removed: ['old'] }])
  t.ok(Object.isFrozen(changes[0]) && Object.isFrozen(changes[0]!.added))

  writeFileSync(path, '{ "clients": {')
  t.ok(await until(() => told('the clients were not changed').length === 1))
  t.match(told('the clients were not changed')[0], { level: 50, code: INVALID, msg: /the ones before stay in force: .*clients\.json:1:15: no JSON/ })
  t.match(await who(globex), { name: 'globex' }, 'the last good one stays')
  writeFileSync(path, JSON.stringify({ clients: { acme: { certificates: [{}] } } }))
  t.ok(await until(() => told('the clients were not changed').length === 2))
  t.match(told('the clients were not changed')[1], { msg: /clients: acme: certificates: 0: an empty entry is not allowed/ })
  writeFileSync(path, JSON.stringify(next))
  t.ok(await until(() => told('the clients are loaded again').length === 1))
  t.equal(told('the clients have changed').length, 1, 'which is no change')
})

t.test('a file that others may write is warned of, and one of thousands of clients is read like any other', async (t) => {
  const clients = Object.fromEntries(Array.from({ length: 3_000 }, (_, n) => [`c${n}`, { certificates: [{ subject: { O: n === 2_999 ? 'Acme' : `O${n}` } }] }]))
  const path = join(t.testdir({ 'clients.json': JSON.stringify({ clients }) }), 'clients.json')
  chmodSync(path, 0o666)
  const { who, told } = await appWith(t, path)
  t.match(await who(acme), { name: 'c2999' })
  t.match(told(`${path} can be written by every user of this machine, and with it who may come`), [{ level: 40 }])
})

t.test('a first document that is wrong stops the boot', async (t) => {
  const dir = t.testdir({ 'bad.json': '{ "clients": { "acme": { "certificates": [{ "san": "x" }] } } }' })
  const cases: Array<readonly [clients: never, message: RegExp]> = [
    [join(dir, 'bad.json') as never, /bad\.json: clients: acme: certificates: 0: san: "x" is not allowed/],
    [join(dir, 'none.json') as never, /none\.json: cannot be read: ENOENT/],
    ['' as never, /cannot be read/],
    [{ clients: { acme: { certificates: [] } } } as never, /^clients: clients: acme: certificates/],
    [{ load: async () => { throw new Error('down') } } as never, /clients: the source did not load: down/]
  ]
  for (const [clients, message] of cases) {
    const app = Fastify()
    await t.rejects(async () => { await app.register(httpSecurity, { clients }) }, { code: INVALID, message }, message.source)
  }
})

t.test('clients come from a source, too', async (t) => {
  let document: ClientsDocument = byO('Acme')
  let changed = (): void => {}
  let stopped = 0
  const { app, who } = await appWith(t, {
    load: async () => document,
    watch (listener) {
      changed = listener
      return () => { stopped++ }
    }
  })
  t.match(await who(acme), { name: 'acme' })
  document = byO('Globex')
  changed()
  t.ok(await until(async () => await who(acme) === null))
  t.match(await who(globex), { name: 'globex' })
  await app.close()
  t.equal(stopped, 1)
})

t.test('the order of clients is a part of the document: of two that match, the first counts, and a warning names both', async (t) => {
  const first = { clients: { broad: { certificates: [{ subject: { O: 'Acme' } }] }, exact: { certificates: [{ fingerprint256: acme.certificate.fingerprint256 }] } } }
  let document: ClientsDocument = first
  let changed = (): void => {}
  const { who, told } = await appWith(t, { load: async () => document, watch (listener) { changed = listener; return () => {} } })
  t.match(await who(acme), { name: 'broad' })
  t.match(await who(acme), { name: 'broad' })
  t.match(told('a certificate matches the clients "broad" and "exact"; the first in the document counts'), [{ level: 40 }], 'one warning')
  document = { clients: { exact: first.clients.exact, broad: first.clients.broad } }
  changed()
  t.ok(await until(async () => (await who(acme) as { name: string }).name === 'exact'))
  document = { clients: { one: { certificates: [{ subject: { O: 'Acme' } }] }, two: { certificates: [{ subject: { O: 'Acme' } }, { subject: { O: 'Acme' } }] } } }
  changed()
  t.ok(await until(() => told('clients: of clients with the same certificate, the first in the document counts: \'one\' and \'two\'').length === 1), 'the same entry twice is seen without a request')
  document = { clients: Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`c${n}`, { certificates: [{ subject: { O: 'Acme' } }] }])) }
  changed()
  t.ok(await until(() => told('clients: of clients with the same certificate').some(({ msg }) => msg.endsWith('; and 1 more'))))
})

t.test('a suspended client has no name, and no rule admits it', async (t) => {
  let document: ClientsDocument = byO('Acme')
  let changed = (): void => {}
  const { app, who, log } = await appWith(t, { load: async () => document, watch (listener) { changed = listener; return () => {} } })
  t.equal((await inject(app, { url: '/acme', clientCertificate: acme.pem })).statusCode, 200)
  document = { clients: { acme: { ...document.clients.acme!, suspended: true } } }
  changed()
  t.ok(await until(async () => await who(acme) === null))
  t.equal((await inject(app, { url: '/acme', clientCertificate: acme.pem })).statusCode, 403)
  t.match(log.find(({ code }) => code?.endsWith('NOT_ALLOWED')), { rule: 'route: acme', certificate: { client: 'acme', suspended: 'acme' } }, 'the log knows who it was')
})

t.test('a certificate that matches a suspended client is suspended, whatever else it matches', async (t) => {
  const { app, who, log } = await appWith(t, { clients: { acme: { certificates: [{ subject: { O: 'Acme' } }] }, other: { certificates: [{ subject: { CN: 'orders' } }], suspended: true } } })
  t.equal(await who(acme), null)
  t.equal((await inject(app, { url: '/acme', clientCertificate: acme.pem })).statusCode, 403)
  t.match(log.find(({ code }) => code?.endsWith('NOT_ALLOWED')), { certificate: { client: 'acme', suspended: 'other' } }, 'the log says which one')
})

t.test('rows of a source may be objects of a class: what they say is seen to change', async (t) => {
  class Row {
    readonly certificates = [{ subject: { O: 'Acme' } }]
    #suspended = false
    get suspended (): boolean { return this.#suspended }
    suspend (): void { this.#suspended = true }
  }
  const row = new Row()
  let changed = (): void => {}
  const { app, who } = await appWith(t, { load: async () => ({ clients: { acme: row } }), watch (listener) { changed = listener; return () => {} } })
  t.match(await who(acme), { name: 'acme' })
  row.suspend()
  changed()
  t.ok(await until(async () => await who(acme) === null))
  t.equal((await inject(app, { url: '/acme', clientCertificate: acme.pem })).statusCode, 403)
})

t.test('names that no document has are warned of at boot', async (t) => {
  const { app, log } = await appWith(t, byO('Globex'))
  app.get('/b', { httpSecurity: { level: 'mtls', allow: ['initech', { group: 'writers' }] } }, async () => '')
  await inject(app, '/')
  t.match(log.filter(({ level }) => level === 40).map(({ msg }) => msg), [/rules name 'acme', 'initech', group 'writers', which the clients document does not have; until it does, they admit no client/])
  const lines: LogLine[] = []
  const without = Fastify({ logger: keepLog(lines) })
  t.teardown(() => without.close())
  await without.register(httpSecurity)
  without.get('/b', { httpSecurity: { level: 'mtls', allow: ['acme'] } }, async () => '')
  t.equal((await inject(without, { url: '/b', clientCertificate: acme.pem })).statusCode, 403)
  t.match(lines.filter(({ level }) => level === 40), [{ msg: /the option clients is missing/ }])
})
