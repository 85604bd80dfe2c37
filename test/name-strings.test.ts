/**
 * Units of lib/x509/name-strings.ts: names as proxies write them, read for any text, and as openssl writes them.
 */
import t from 'tap'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { type Name, SHORT_NAMES, subjectOf } from '../lib/x509/distinguished-names.ts'
import { readNameString } from '../lib/x509/name-strings.ts'
import { type Made, make, oid, seq, text } from './fixtures/chains.ts'
import { nasty } from './fixtures/nasty.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { der, tags } from './fixtures/x509.ts'

// Writers, octet by octet

const hex = (octet: number): string => `\\${octet.toString(16).toUpperCase().padStart(2, '0')}`

/** @param hidesHash a `#` that is the only character is not escaped, as in OpenSSL */
const writer = (isHex: (octet: number) => boolean, hidesHash: boolean) => (value: string): string => [...Buffer.from(value)].map((octet, at, { length }) => {
  const character = String.fromCharCode(octet)
  if (isHex(octet)) return hex(octet)
  const isEdge = (character === ' ' && (at === 0 || at === length - 1)) || (character === '#' && at === 0 && !(hidesHash && length === 1))
  return '"+,;<>\\'.includes(character) || isEdge ? `\\${character}` : character
}).join('')
const writers = {
  openssl: writer((octet) => octet < 0x20 || octet > 0x7e, true),
  rfc4514: writer((octet) => octet < 0x20 || octet === 0x7f, false)
}
type Write = (value: string) => string

const write = (name: Name, value: Write): string => name.map((rdn) => rdn.map((attribute) => `${attribute.type}=${value(attribute.value)}`).reverse().join('+')).reverse().join(',')

const attributes = fc.record({ type: fc.constantFrom(...Object.values(SHORT_NAMES)), value: nasty })
const anyName = fc.array(fc.array(attributes, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 5 })

t.test('any name that OpenSSL or RFC 4514 writes is read as it is, whatever is in its values', async (t) => {
  for (const [by, value] of Object.entries(writers)) {
    fc.assert(fc.property(anyName, (name) => {
      const read = readNameString(write(name, value))
      return JSON.stringify(read) === JSON.stringify(name)
    }), { numRuns: 3_000 })
    t.pass(by)
  }
})

/** Attributes as they are written, by the one character that never stands for itself. */
function split (text: string): string[] {
  const all = ['']
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') all[all.length - 1] += text.slice(at, ++at + 1)
    else if (text[at] === ',' || text[at] === '+') all.push('')
    else all[all.length - 1] += text[at]
  }
  return all
}

const pieces = fc.constantFrom('CN=', 'O=', 'OU=', '1.2.3=', '#', '#0C0141', '#0c0141', '0C', ',', '+', ';', '=', '"', '<', '\\', '\\,', '\\2C', '\\C3\\A9', '\\c3', '\\C3', '\u00c3\u00a9', '\u00e9', '\\ ', ' ', 'a', 'Acme', '/', '\\0A', '\u0000', '\u20ac')
const anyText = fc.oneof(
  fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
  fc.array(pieces, { maxLength: 8 }).map((parts) => `CN=${parts.join('')}`),
  fc.tuple(anyName, fc.constantFrom(...Object.values(writers)), fc.nat(), fc.nat(2), pieces).map(([name, value, at, cut, insert]) => {
    const text = write(name, value)
    const place = at % (text.length + 1)
    return text.slice(0, place) + insert + text.slice(place + cut)
  }),
  fc.string({ unit: 'binary' })
)

t.test('no text throws, and a name that is read writes again what was sent', async (t) => {
  const counts = { read: 0, refused: 0 }
  fc.assert(fc.property(anyText, (text) => {
    const name = readNameString(text)
    if (typeof name === 'string') return Boolean(counts.refused += name.length)
    counts.read++
    const written = [...name].reverse().flatMap((rdn) => [...rdn].reverse())
    const all = text === '' ? [] : split(text)
    return all.length === written.length && written.every(({ type, value }, at) => {
      const [key, is] = [all[at]!.slice(0, all[at]!.indexOf('=')), all[at]!.slice(all[at]!.indexOf('=') + 1)]
      if (key !== type) return false
      if (is.length > 1 && is.startsWith('#')) return /^#([0-9A-F]+|[0-9a-f]+)$/.test(is)
      return Object.values(writers).some((write) => Buffer.from(write(value)).toString('latin1') === is || write(value) === is)
    })
  }), { numRuns: 20_000 })
  t.ok(counts.read > 1_000 && counts.refused > 1_000, JSON.stringify(counts))
})

t.test('what is not exactly a name is refused, with the reason', async (t) => {
  const value = /^the value of CN is not exactly/
  const cases: Array<[text: string, reason: RegExp, why: string]> = [
    ['/C=PT/O=Acme/CN=x', /^no attribute begins at character 1$/, 'one line of OpenSSL'],
    ['Jane', /^no attribute begins/, 'no attribute'],
    ['CN=x,', /^no attribute begins at character 6$/, 'an empty RDN at the end'],
    [',CN=x', /^no attribute begins/, 'at the beginning'],
    ['CN=x,,O=a', /^no attribute begins at character 6$/, 'between'],
    ['CN=x+,O=a', /^no attribute begins/, 'in an RDN of several'],
    ['CN=x, O=a', /^no attribute begins/, 'a space after a comma'],
    ['CN=x;O=a', value, 'another separator'],
    ['CN = x', /^no attribute begins/, 'spaces'],
    ['=x', /^no attribute begins/, 'no type'],
    ['XY=x', /^XY is no known attribute$/, 'a type that nobody knows'],
    ['cn=x', /^cn is no known attribute$/, 'case counts'],
    ['Uid=x', /^Uid is no known attribute$/, 'case counts'],
    ['__proto__=x', /^no attribute begins/, 'no type'],
    ['constructor=x', /^constructor is no known attribute$/, 'no type'],
    ['OID.2.5.4.3=#0C0141', /^no attribute begins/, 'a prefix'],
    ['2.5.4.3=x', /^the value of 2\.5\.4\.3 is not exactly/, 'a number with a string'],
    ['02.5.4.3=#0C0141', /^no attribute begins/, 'a number with a zero before it'],
    ['CN=#0C01', value, 'DER that ends too soon'],
    ['CN=#0C014141', value, 'DER with something behind it'],
    ['CN=#0C014', value, 'half an octet'],
    ['CN=#0c0141AB', value, 'two cases'],
    ['CN=#0C0141 ', value, 'a space behind it'],
    ['CN=#xyz', value, 'a # that is not escaped'],
    ['CN=a"b', value, 'a quote that is not escaped'],
    ['CN="a"', value, 'RFC 1779'],
    ['CN=a<b', value, 'not escaped'],
    ['CN=a\\', /^no attribute begins/, 'an escape of nothing'],
    ['CN=\\a', value, 'an escape that nobody writes'],
    ['CN=\\4A', value, 'a letter in hex'],
    ['CN=\\2C', value, 'a comma in hex'],
    ['CN=\\0a', value, 'lower case'],
    ['CN=\\c3\\a9', value, 'lower case'],
    ['CN=\\C3', value, 'half of UTF-8'],
    ['CN=\\C3\\A9\u00c3\u00a9', value, 'two ways in one value'],
    ['CN=\u00e9', value, 'Latin-1'],
    ['CN=\u20ac', value, 'no octet'],
    ['CN=\u010f', value, 'no octet'],
    ['CN=\\C0\\80', value, 'UTF-8 that is too long'],
    ['CN=\\ED\\A0\\80', value, 'a surrogate'],
    ['CN= x', value, 'a space before it'],
    ['CN=x ', value, 'a space behind it'],
    ['CN=x\\ y', value, 'a space that needs no escape'],
    ['CN=x\\#', value, 'a # that needs no escape'],
    ['CN=a\tb', value, 'a control character'],
    [`CN=${'x'.repeat(8_190)}`, /^it is longer than 8192 characters$/, 'longer']
  ]
  for (const [text, reason, why] of cases) t.match(readNameString(text), reason, `${why}: ${text.slice(0, 40)}`)
  const read = (text: string): string => JSON.stringify((readNameString(text) as Name).map((rdn) => rdn.map(({ type, value }) => `${type}=${value}`)))
  for (const [text, name] of [
    ['CN=x,O=a,C=PT', [['C=PT'], ['O=a'], ['CN=x']]],
    ['UID=u+O=a+CN=b', [['CN=b', 'O=a', 'UID=u']]],
    ['CN=', [['CN=']]],
    ['CN=#', [['CN=#']]],
    ['CN=\\#', [['CN=#']]],
    ['CN=\\ ', [['CN= ']]],
    ['CN=x\\,O\\=a', undefined],
    ['CN=x\\,O=a', [['CN=x,O=a']]],
    ['CN=x\\+O=a', [['CN=x+O=a']]],
    ['STREET=s,SERIALNUMBER=1,POSTALCODE=2', [['postalCode=2'], ['serialNumber=1'], ['street=s']]],
    ['UID=a,uid=b', [['0.9.2342.19200300.100.1.44=b'], ['UID=a']]],
    ['2.5.4.97=#0C0141,1.2.3=#0C0142', [['1.2.3=B'], ['organizationIdentifier=A']]],
    ['CN=#03020780', [['CN=#03020780']]],
    ['CN=#0c0141', [['CN=A']]],
    [`CN=${'x'.repeat(8_189)}`, [[`CN=${'x'.repeat(8_189)}`]]],
    ['', []]
  ] as const) {
    if (name === undefined) t.match(readNameString(text), value, text)
    else t.equal(read(text), JSON.stringify(name), text)
  }
})

t.test('reading a name takes linear time', async (t) => {
  const took = (text: string): number => Math.min(...[1, 2, 3].map(() => {
    const start = performance.now()
    readNameString(text)
    return performance.now() - start
  }))
  let longest = 0
  for (const part of ['a', '\\', '\\\\', '\\,', ',', 'CN=x,', 'CN=x+', '#', '0C', '\\C3\\A9', '\u00c3\u00a9', ' ', '\\ ', '1.', '1.2=#0C0141,', '=']) {
    for (const before of ['', 'CN=', 'CN=#']) {
      longest = Math.max(longest, took(before + part.repeat(8_192 / part.length).slice(0, 8_192 - before.length)))
    }
  }
  t.ok(longest < 50, `${longest} ms`)
})

// The program itself

const attribute = (dotted: string, value: Buffer): Buffer => seq(oid(dotted), value)
const rdn = (...all: Buffer[]): Buffer => der(tags.set, ...all)
const cn = (value: string, type?: number): Buffer => rdn(attribute('2.5.4.3', text(value, type)))
const o = (value: string): Buffer => rdn(attribute('2.5.4.10', text(value)))

const values = ['', 'Jane', 'x,O=Acme', 'x+O=Acme', 'x/O=Acme', '/O=Acme', '#', '##', '#0C0141', ' ', '  ', ' a ', 'a  b', '\\', '\\\\', 'a\\', '\\,', '"', '"a"', '<a>;=', '\r\n', '\0', '\t a', '\x7f', 'é', '日本', '👩‍🔬', ' é ', 'é,', 'CN=admin', 'a,', ',', '+', 'a;']

/** Certificates with these subjects; how openssl writes them with `-nameopt RFC2253`. */
function writtenByOpenssl (dir: string, all: readonly Made[]): string[] {
  const script = all.map(({ pem }, at) => {
    const path = join(dir, `${at}.pem`)
    writeFileSync(path, pem)
    return `openssl x509 -in '${path}' -noout -subject -nameopt RFC2253`
  })
  const { stdout } = spawnSync('sh', { encoding: 'latin1', input: `${script.join('\n')}\n` })
  return [...stdout.matchAll(/^subject=(.*)$/gm)].map(([, subject]) => subject!)
}

t.test('the subjects of nasty certificates are read from what openssl writes of them', { skip: withoutOpenssl }, async (t) => {
  const subjects = [
    ...values.map((value) => seq(cn(value), o('Acme'))),
    ...values.map((value) => seq(o(value), cn('Jane'))),
    ...[0x12, 0x13, 0x14, 0x16, 0x1e].map((type) => seq(cn('a b', type))),
    seq(cn('caf\u00e9', 0x14)),
    seq(cn('日本', 0x1e)),
    // Not strings, and types without a name
    seq(rdn(attribute('2.5.4.3', Buffer.from('03020780', 'hex')))),
    seq(rdn(attribute('1.2.3.4', text('x,O=Acme'))), cn('x')),
    seq(rdn(attribute('1.2.3.4', Buffer.from('3003020105', 'hex')))),
    // RDNs of several attributes, and attributes that repeat
    seq(rdn(attribute('2.5.4.3', text('a')), attribute('2.5.4.10', text('b,c')), attribute('0.9.2342.19200300.100.1.1', text('u+'))), o('d')),
    seq(cn('first'), cn('second'), rdn(attribute('2.5.4.3', text('third')), attribute('2.5.4.3', text('x')))),
    seq(...Object.keys(SHORT_NAMES).map((dotted) => rdn(attribute(dotted, text('v'))))),
    seq(...['0.9.2342.19200300.100.1.44', '0.9.2342.19200300.100.1.6', '0.9.2342.19200300.100.1.39', '0.9.2342.19200300.100.1.40', '0.9.2342.19200300.100.1.41', '1.2.840.113549.1.9.7', '2.5.4.19', '2.5.4.23', '2.5.4.26', '2.5.4.51', '2.5.4.54', '2.5.4.98', '2.5.4.99', '2.5.4.100', '1.2.643.100.1', '1.2.643.100.3', '1.2.643.100.5', '1.2.643.3.131.1.1'].map((dotted) => rdn(attribute(dotted, text('v'))))),
    ...fc.sample(fc.array(fc.tuple(fc.constantFrom(...Object.keys(SHORT_NAMES)), nasty), { minLength: 1, maxLength: 4 }), { numRuns: 30, seed: 1 }).map((all) => seq(...all.map(([dotted, value]) => rdn(attribute(dotted, text(value))))))
  ]
  const issuer = make({ ca: true, subject: 'CN=Root' })
  const all = subjects.map((subject) => make({ issuer, subject }))
  const written = writtenByOpenssl(t.testdir(), all)
  t.equal(written.length, all.length)
  for (const [at, { certificate }] of all.entries()) t.strictSame(readNameString(written[at]!), subjectOf(certificate), written[at])
})
