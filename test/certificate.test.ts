/**
 * Units of lib/x509: what is said of a certificate, compared with what the openssl program says; then names that lie.
 */
import { spawn } from 'node:child_process'
import { createHash, createPublicKey, generateKeyPairSync, type KeyPairKeyObjectResult, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { alternativeNamesOf, formatAlternativeName } from '../lib/x509/general-names.ts'
import { attributeKeys, attributeTypeOf, attributeValue, attributeValues, formatName, issuerOf, type Name, parseName, subjectOf } from '../lib/x509/distinguished-names.ts'
import { contentOf, dottedOf, elementOf, OCTET_STRING, octetsOf, timeOf } from '../lib/x509/der.ts'
import { certificateValue, certificateValueKeys, describeCertificate, namesOf as namesIn, validityOf, WholeCertificate } from '../lib/x509/details.ts'
import { ABSENT } from '../lib/request/decorators.ts'
import { keyBits } from '../lib/x509/keys.ts'
import { oid, seq, text as utf8 } from './fixtures/chains.ts'
import { nasty } from './fixtures/nasty.ts'
import { opensslIn } from './fixtures/openssl.ts'
import { plainNode, typescript } from './fixtures/programs.ts'
import { tellerIn } from './fixtures/told.ts'
import { der, tags } from './fixtures/x509.ts'

const dir = t.testdir()
const file = (name: string) => join(dir, name)
const told = tellerIn(dir)

/** Runs openssl in the test's folder; answers its output. */
const openssl = opensslIn(dir)

const read = (name: string) => new X509Certificate(readFileSync(file(`${name}.pem`)))

interface Make { key?: string[], dn: string, san?: string, args?: string[] }

/** A self-signed certificate: lines of a distinguished name, and of alternative names, as openssl's config has them. */
function selfSigned (name: string, { key = ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], dn, san = '', args = [] }: Make): X509Certificate {
  openssl('genpkey', '-algorithm', ...key, '-out', `${name}.key`)
  writeFileSync(file(`${name}.cnf`), `[req]
distinguished_name=dn
prompt=no
utf8=yes
string_mask=utf8only
x509_extensions=ext
[dn]
${dn}
[ext]
basicConstraints=CA:TRUE
${san === '' ? '' : 'subjectAltName=@san'}
[san]
${san}
`)
  openssl('req', '-x509', '-new', '-key', `${name}.key`, '-config', `${name}.cnf`, '-out', `${name}.pem`, ...args)
  return read(name)
}

const valid = { isValid: true, isIssuerKnown: true }
const whole = (certificate: X509Certificate) => new WholeCertificate(certificate)
const namesOf = (certificate: X509Certificate) => namesIn(whole(certificate))
const details = (certificate: X509Certificate) => describeCertificate(whole(certificate), valid)
const value = (key: string, certificate: X509Certificate) => certificateValue(key, { certificate: whole(certificate), details: details(certificate) })

/** DER by hand, for what openssl refuses to write. */
function tlv (tag: number, ...parts: Array<string | Uint8Array | readonly number[]>): Buffer {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as string)))
  const length = content.length
  const octets = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...octets]), content])
}
const UTF8 = 0x0c
const attribute = (type: string, string: Buffer) => tlv(0x30, oid(type), string)
const rdn = (...attributes: Buffer[]) => tlv(0x31, ...attributes)
const commonName = (string: Buffer) => tlv(0x30, rdn(attribute('2.5.4.3', string)))
const parsed = (name: Buffer) => parseName(elementOf(name))
const parsedValue = (string: Buffer) => attributeValue(parsed(commonName(string)), 'CN')

const jane = selfSigned('jane', {
  dn: 'C=PT\nST=Lisboa\nL=Lisboa\nO=Acme\n0.OU=One\n1.OU=Two\n0.DC=test\n1.DC=acme\nUID=jane\ntitle=Engineer\nGN=Jane\nSN=Doe\n' +
    'initials=JD\nserialNumber=0042\nemailAddress=jane@acme.test\norganizationIdentifier=VATPT-1\nCN=Jane Doe',
  san: 'DNS.1=jane.test\nDNS.2=*.jane.test\nURI=urn:jane\nemail=jane@acme.test\nIP.1=127.0.0.1\nIP.2=::1\nIP.3=2001:db8::1:0:0:1\nRID=1.2.3.4\ndirName=dir\notherName.1=1.2.3;UTF8:x\notherName.2=1.3.6.1.4.1.311.20.2.3;UTF8:jane@acme.corp\n[dir]\nC=PT\nCN=Jane',
  args: ['-set_serial', '0x0467F302', '-days', '3']
})
const spki = jane.publicKey.export({ type: 'spki', format: 'der' })

interface Parts { subject?: Buffer, serial?: Buffer, notBefore?: Buffer, key?: Buffer, version?: Buffer[], rest?: Buffer[] }

/** A certificate made by hand, and not signed: what is said of one must hold before it is verified. */
function handmade (parts: Parts): X509Certificate {
  return new X509Certificate(handmadeDer(parts))
}

function handmadeDer (parts: Parts): Buffer {
  const algorithm = tlv(0x30, oid('1.2.840.10045.4.3.2'))
  return tlv(0x30, tlv(0x30,
    ...parts.version ?? [tlv(0xa0, [2, 1, 2])],
    parts.serial ?? tlv(2, [1]),
    algorithm,
    commonName(tlv(UTF8, 'Authority')),
    tlv(0x30, parts.notBefore ?? tlv(0x17, '250101000000Z'), tlv(0x17, '350101000000Z')),
    parts.subject ?? commonName(tlv(UTF8, 'Jane')),
    parts.key ?? spki,
    ...parts.rest ?? []
  ), algorithm, tlv(3, [0]))
}
const alternative = (...names: Buffer[]) => tlv(0x30, oid('2.5.29.17'), tlv(4, tlv(0x30, ...names)))
const extensions = (...all: Buffer[]) => [tlv(0xa3, tlv(0x30, ...all))]

t.test('details of a certificate agree with openssl for every kind of key', async (t) => {
  const kinds: Record<string, string[]> = {
    rsa: ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'],
    pss: ['RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'],
    p256: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    p384: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-384'],
    p521: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-521'],
    brainpool: ['EC', '-pkeyopt', 'ec_paramgen_curve:brainpoolP320r1'],
    ed25519: ['ED25519'],
    ed448: ['ED448']
  }
  for (const [name, key] of Object.entries(kinds)) {
    const certificate = selfSigned(name, { key, dn: `C=PT\nO=Acme\nCN=${name}`, san: 'DNS=a.test\nIP=10.0.0.1' })
    const all = details(certificate)
    t.equal(all.subject, told(name).subject, name)
    t.equal(all.issuer, told(name).issuer, name)
    t.equal(all.serialNumber.replaceAll('-', ''), told(name).serial, name)
    t.equal(all.validFrom?.getTime(), Date.parse(told(name).startdate), name)
    t.equal(all.validUntil?.getTime(), Date.parse(told(name).enddate), name)
    t.equal(value('Fingerprint256', certificate), told(name).fingerprint, name)
    t.equal(all.cookie, told(name).fingerprint.replaceAll(':', '').toLowerCase(), name)
    t.match(all.cookie, /^[0-9a-f]{64}$/, name)
    t.equal(value('SubjectAltName', certificate), 'DNS:a.test;IP:10.0.0.1', name)
    t.match(told(name).san, 'DNS:a.test, IP Address:10.0.0.1', name)

    const pem = told(name).publicKey
    writeFileSync(file(`${name}.pub`), pem)
    t.equal(value('PublicKey', certificate), pem.replace(/-----.*-----|\n/g, ''), name)
    t.equal(value('Certificate', certificate), told(name).certificate.replace(/-----.*-----|\n/g, ''), name)
    const text = openssl('pkey', '-pubin', '-in', `${name}.pub`, '-noout', '-text')
    // Of Edwards curves this says no bits; what `openssl s_client` calls the server's key is 256 and 456.
    const bits = /\((\d+) bit\)/.exec(text)?.[1] ?? { ed25519: '256', ed448: '456' }[name]
    t.equal(value('KeySize', certificate), bits, name)
    t.equal(certificateValue('secretkeysize', { certificate: whole(jane), details: all, server: certificate }), bits, name)
  }
  t.equal(keyBits(undefined), undefined)
  t.equal(value('KeySize', handmade({ key: tlv(0x30, tlv(0x30, oid('1.2.3.4')), tlv(3, [0, 1])) })), '', 'a key that OpenSSL cannot use')
})

t.test('the key size of every named curve is what openssl says', async (t) => {
  const listed = openssl('ecparam', '-list_curves').match(/^ +[\w-]+(?= *:)/gm)!.map((name) => name.trim()).filter((name) => !name.startsWith('Oakley'))
  t.ok(listed.length > 10)
  for (const namedCurve of listed) {
    const key = generateKeyPairSync('ec', { namedCurve }).publicKey.export({ type: 'spki', format: 'der' })
    writeFileSync(file('curve.pub'), key)
    const bits = /\((\d+) bit\)/.exec(openssl('pkey', '-pubin', '-inform', 'DER', '-in', 'curve.pub', '-noout', '-text'))?.[1]
    t.equal(value('KeySize', handmade({ key })), bits, namedCurve)
  }
})

t.test('a public key that is no point on a named curve has no key size', async (t) => {
  const ecKey = (parameters: Buffer, ...octets: number[]) => tlv(0x30, tlv(0x30, oid('1.2.840.10045.2.1'), parameters), tlv(3, octets))
  const p256 = oid('1.2.840.10045.3.1.7')
  // Node 20 and 22 abort if they are asked for the details of these.
  t.equal(value('KeySize', handmade({ key: ecKey(p256, 0, 0) })), '', 'infinity')
  t.equal(value('KeySize', handmade({ key: ecKey(p256, 7, 1) })), '', 'infinity in bits that are said to be unused')
  t.equal(value('KeySize', handmade({ key: ecKey(p256, 0, 4, 1) })), '256', 'whether a point is one is not asked: the size is the curve\'s')
  t.equal(value('KeySize', handmade({ key: ecKey(oid('1.2.3'), 0, 4, 1) })), '', 'no curve')
  const explicit = generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey.export({ type: 'spki', format: 'der' })
  t.equal(value('KeySize', handmade({ key: explicit })), '', 'a curve that is spelled out')
  const rsa = createPublicKey({ key: { kty: 'RSA', n: Buffer.alloc(256, 0xff).toString('base64url'), e: 'AQAB' }, format: 'jwk' }).export({ type: 'pkcs1', format: 'der' })
  t.equal(value('KeySize', handmade({ key: tlv(0x30, tlv(0x30, oid('1.2.840.113549.1.1.1'), p256), tlv(3, [0], rsa)) })), '2048', 'an RSA key that names a curve')
})

t.test('the size of an RSA or a DSA key is read from its bytes', async (t) => {
  const rsa = (...key: Buffer[]) => tlv(0x30, tlv(0x30, oid('1.2.840.113549.1.1.1'), tlv(5)), tlv(3, [0], tlv(0x30, ...key)))
  const dsa = (...parameters: Buffer[]) => tlv(0x30, tlv(0x30, oid('1.2.840.10040.4.1'), ...parameters), tlv(3, [0], tlv(2, [0x80])))
  for (const [octets, bits] of [[[0x7f], '7'], [[0], ''], [[], ''], [[0, 0], ''], [[0, 0x80, 0], '16'], [[1, 0, 0], '17'], [[0xff, ...Array<number>(127).fill(0)], '1024']] as const) {
    t.equal(value('KeySize', handmade({ key: rsa(tlv(2, octets), tlv(2, [3])) })), bits, `RSA ${octets.slice(0, 4)}`)
    t.equal(value('KeySize', handmade({ key: dsa(tlv(0x30, tlv(2, octets), tlv(2, [3]), tlv(2, [3]))) })), bits, `DSA ${octets.slice(0, 4)}`)
  }
  t.equal(value('KeySize', handmade({ key: dsa() })), '', 'whose parameters are its issuer\'s')
  t.equal(value('KeySize', handmade({ key: rsa() })), '', 'without a modulus')
  t.equal(value('KeySize', handmade({ key: tlv(0x30, tlv(0x30, oid('1.2.840.113549.1.1.1')), tlv(3, [1], tlv(0x30, tlv(2, [0x7f])))) })), '', 'in bits that are said to be unused')
})

t.test('no certificate ends the process, whatever its key and encoding are', async (t) => {
  const base64 = (pem: string): string => pem.replace(/-----[^-]+-----|\n/g, '')
  const known = ['dsa-negative', 'dsa-negative-ca'].map((name) => base64(readFileSync(new URL(`fixtures/certificates/${name}.pem`, import.meta.url), 'utf8')))
  const bits = (...octets: number[]) => tlv(3, [0, ...octets])
  const key = (id: string, parameters: Uint8Array | [], ...octets: number[]) => tlv(0x30, tlv(0x30, oid(id), parameters), bits(...octets))
  const numbers = [[1], [0], [], [0x80], [0xff, 0xff], [0, 0], [0x7f, ...Array<number>(255).fill(0xff)], [0xff, ...Array<number>(255).fill(0xff)]].map((octets) => tlv(2, octets))
  const nothing: [] = []
  const NULL = tlv(5)
  const generated = (kind: string, options: object = {}): Buffer => (generateKeyPairSync(kind as 'rsa', { modulusLength: 1024, divisorLength: 160, group: 'modp14', ...options } as never) as unknown as KeyPairKeyObjectResult).publicKey.export({ type: 'spki', format: 'der' })
  const keys = ['rsa', 'rsa-pss', 'dsa', 'ed25519', 'ed448', 'x25519', 'x448', 'dh'].map((kind) => generated(kind))
  for (const id of ['1.2.840.113549.1.1.1', '1.2.840.113549.1.1.10', '2.5.8.1.1']) {
    for (const number of numbers) keys.push(key(id, NULL, ...tlv(0x30, number, tlv(2, [3]))), key(id, nothing, ...tlv(0x30, numbers.at(-2)!, number)))
  }
  // RFC 4055 §3.1, each part in odd ways
  const hashes = ['2.16.840.1.101.3.4.2.1', '1.3.14.3.2.26', '1.2.3'].map((id) => tlv(0x30, oid(id)))
  const rsa = tlv(0x30, tlv(2, [0, 0xff, ...Array<number>(127).fill(0xff)]), tlv(2, [1, 0, 1]))
  for (const hash of hashes) {
    for (const mask of [tlv(0x30, oid('1.2.840.113549.1.1.8'), hash), tlv(0x30, oid('1.2.840.113549.1.1.8')), tlv(0x30, oid('1.2.3'), hash)]) {
      for (const salt of [tlv(2, [20]), tlv(2, [0x80]), tlv(2, Array<number>(20).fill(0x7f))]) keys.push(key('1.2.840.113549.1.1.10', tlv(0x30, tlv(0xa0, hash), tlv(0xa1, mask), tlv(0xa2, salt), tlv(0xa3, salt)), ...rsa))
    }
  }
  // Keys that are negative, parameters that are, or that are missing
  for (const id of ['1.2.840.10040.4.1', '1.2.840.113549.1.3.1', '1.2.840.10046.2.1']) {
    for (const number of numbers) {
      for (const parameters of [nothing, NULL, tlv(0x30), tlv(0x30, number, number, number), tlv(0x30, numbers.at(-2)!, number, tlv(2, [2]))]) keys.push(key(id, parameters, ...number))
    }
  }
  const curves = openssl('ecparam', '-list_curves').match(/^ +[\w-]+(?= *:)/gm)!.map((name) => name.trim()).filter((name) => !name.startsWith('Oakley'))
  for (const namedCurve of curves) for (const paramEncoding of ['named', 'explicit'] as const) keys.push(generated('ec', { namedCurve, paramEncoding }))
  for (const curve of ['1.2.840.10045.3.1.7', '1.3.132.0.39', '1.2.3']) for (const point of [[0], [2], [4], [4, 1], [6, 0], [7, 0], []]) keys.push(key('1.2.840.10045.2.1', oid(curve), ...point))
  for (const id of ['1.3.101.110', '1.3.101.111', '1.3.101.112', '1.3.101.113', '1.2.643.7.1.1.1.1', '2.16.840.1.101.3.4.3.17', '1.2.3']) for (const length of [0, 1, 32, 57]) keys.push(key(id, nothing, ...Array<number>(length).fill(0xff)))
  const odd: Parts[] = [
    ...keys.map((key) => ({ key })),
    ...[[0], [], [0x80], [0xff, 0xff], Array<number>(200).fill(0xff)].map((octets) => ({ serial: tlv(2, octets) })),
    ...[tlv(0x17, ''), tlv(0x17, '250101000000+0100'), tlv(0x18, '99991231235959Z'), tlv(0x18, '20250101000000.5Z'), tlv(0x17, [0xff]), tlv(4, 'x')].map((notBefore) => ({ notBefore })),
    ...[tlv(0x30), tlv(0x30, tlv(0x31)), commonName(tlv(0x1e, [0xd8])), commonName(tlv(0x1c, [0xff, 0xff, 0xff, 0xff])), commonName(tlv(3, [9])), commonName(tlv(0x30)), commonName(tlv(UTF8, [0, 0xff, 13, 10]))].map((subject) => ({ subject })),
    ...[[], [tlv(0xa0, [2, 1, 0])], [tlv(0xa0, [2, 1, 9])], [tlv(0xa0, [2, 1, 0xff])]].map((version) => ({ version })),
    ...[tlv(0x87, [1]), tlv(0xa0, oid('1.2.3'), tlv(0xa0, NULL)), tlv(0xa4, tlv(0x30)), tlv(0x88, [0x80]), tlv(0x86, [0xff])].map((name) => ({ rest: extensions(alternative(name, name), alternative(name)) }))
  ]
  // And each of them with something changed somewhere
  let seed = 1
  const random = (below: number): number => (seed = Math.imul(seed, 1_103_515_245) + 12_345 >>> 0) % below
  const ders = odd.map(handmadeDer)
  const changed = [...Array(200).keys()].map((index) => {
    const der = Buffer.from(ders[index % 2 === 0 ? random(ders.length) : random(8)]!)
    der[random(der.length)] = [0, 0xff, 0x80, 0x7f, random(256)][random(5)]!
    return der
  })
  const lines = [...known, ...[...ders, ...changed].map((der) => der.toString('base64'))]
  const program = spawn('env', [...plainNode, ...typescript, fileURLToPath(new URL('fixtures/decorators.ts', import.meta.url)), fileURLToPath(new URL('fixtures/certificates/dsa-negative-ca.pem', import.meta.url))], { stdio: ['pipe', 'pipe', 'inherit'] })
  program.stdin.end(lines.join('\n'))
  const [output, [code, signal]] = await Promise.all([text(program.stdout), once(program, 'exit')])
  t.strictSame([code, signal], [0, null], 'the process ends by itself')
  const sizes = JSON.parse(output) as Array<string | null>
  t.strictSame(sizes.slice(0, 2), ['2048', '256'])
  t.equal(sizes.length, lines.length)
  t.ok(sizes.filter((size) => size !== null).length > 400, 'most of them are certificates')
})

t.test('details of an expired certificate, and of one with another issuer', async (t) => {
  openssl('req', '-new', '-key', 'jane.key', '-subj', '/CN=late', '-out', 'late.csr')
  openssl('x509', '-req', '-in', 'late.csr', '-CA', 'jane.pem', '-CAkey', 'jane.key', '-days', '-1', '-set_serial', '5', '-out', 'late.pem')
  const late = read('late')
  const all = describeCertificate(whole(late), { isValid: false, isIssuerKnown: false, server: namesOf(jane) })
  t.equal(all.isPresent, true)
  t.equal(all.isValid, false)
  t.equal(all.flags, 3)
  t.equal(all.subject, 'CN=late')
  t.equal(all.issuer, told('jane').subject)
  t.equal(all.serialNumber, '05')
  t.ok(all.validUntil !== null && all.validUntil.getTime() < Date.now())
  t.equal(validityOf(late).notAfter, Date.parse(told('late').enddate))
  t.equal(all.serverSubject, told('jane').subject)
  t.equal(all.serverIssuer, told('jane').issuer)
})

t.test('every key of clientCertificateValue has its value, in upper and lower case', async (t) => {
  const server = read('rsa')
  const source = { certificate: whole(jane), server, details: describeCertificate(whole(jane), { ...valid, server: namesOf(server) }) }
  const attributes: Record<string, string> = {
    CN: 'Jane Doe',
    C: 'PT',
    L: 'Lisboa',
    O: 'Acme',
    OU: 'One;Two',
    S: 'Lisboa',
    ST: 'Lisboa',
    T: 'Engineer',
    GN: 'Jane',
    I: 'JD',
    E: 'jane@acme.test',
    Email: 'jane@acme.test',
    SERIALNUMBER: '0042',
    DC: 'test;acme',
    UID: 'jane'
  }
  const serverAttributes: Record<string, string> = { C: 'PT', O: 'Acme', CN: 'rsa' }
  const subject = told('jane').subject
  const expected: Record<string, string> = {
    isPresent: 'true',
    isValid: 'true',
    flags: '1',
    cookie: told('jane').fingerprint.replaceAll(':', '').toLowerCase(),
    subject,
    issuer: subject,
    serialNumber: '04-67-F3-02',
    validFrom: new Date(told('jane').startdate).toUTCString(),
    validUntil: new Date(told('jane').enddate).toUTCString(),
    serverSubject: 'C=PT, O=Acme, CN=rsa',
    serverIssuer: 'C=PT, O=Acme, CN=rsa',
    KeySize: '256',
    SecretKeySize: '2048',
    Certificate: jane.raw.toString('base64'),
    PublicKey: spki.toString('base64'),
    Encoding: '1',
    Fingerprint256: jane.fingerprint256,
    'x5t#S256': createHash('sha256').update(jane.raw).digest('base64url'),
    SubjectAltName: 'DNS:jane.test;DNS:*.jane.test;URI:urn:jane;email:jane@acme.test;IP:127.0.0.1;IP:::1;IP:2001:db8::1:0:0:1;' +
      'RID:1.2.3.4;DirName:C=PT, CN=Jane;otherName:#A00906022A03A0030C0178;UPN:jane@acme.corp',
    'SAN:DNS': 'jane.test;*.jane.test',
    'SAN:URI': 'urn:jane',
    'SAN:email': 'jane@acme.test',
    'SAN:IP': '127.0.0.1;::1;2001:db8::1:0:0:1',
    'SAN:UPN': 'jane@acme.corp'
  }
  for (const [key, text] of Object.entries(attributes)) {
    expected[`Subject${key}`] = expected[`Issuer${key}`] = text
    expected[`ServerSubject${key}`] = expected[`ServerIssuer${key}`] = serverAttributes[key] ?? ''
  }
  for (const [key, text] of Object.entries(expected)) {
    t.equal(certificateValue(key, source), text, key)
    t.equal(certificateValue(key.toLowerCase(), source), text, key)
    t.equal(certificateValue(key.toUpperCase(), source), text, key)
  }
  t.same(new Set(certificateValueKeys.map((key) => key.toLowerCase())), new Set(Object.keys(expected).map((key) => key.toLowerCase())))
  t.ok(Object.isFrozen(certificateValueKeys))
  for (const unknown of ['', ' ', 'SubjectX', 'SubjectSN', 'Sub', 'SAN:', 'SAN:DirName', '__proto__', 'constructor', 'toString', 'Subject__proto__', 'SubjectCN ']) {
    t.equal(certificateValue(unknown, source), '', unknown)
  }
  for (const wrong of [undefined, null, 1, {}, ['SubjectCN'], Symbol.iterator]) {
    t.equal(certificateValue(wrong as unknown as string, source), '')
  }
  t.equal(certificateValue('ServerSubjectCN', { certificate: whole(jane), details: source.details }), '', 'a server that shows none')
  t.equal(certificateValue('SecretKeySize', { certificate: whole(jane), details: source.details }), '')
})

t.test('attribute types have the names that openssl gives them', async (t) => {
  const dotted = [...Array.from({ length: 108 }, (_, i) => `2.5.4.${i}`), '0.9.2342.19200300.100.1.1', '0.9.2342.19200300.100.1.3',
    '0.9.2342.19200300.100.1.25', '1.2.840.113549.1.9.1', '1.2.840.113549.1.9.2', '1.2.840.113549.1.9.8', '1.3.6.1.4.1.311.60.2.1.1',
    '1.3.6.1.4.1.311.60.2.1.2', '1.3.6.1.4.1.311.60.2.1.3', '1.2.3.4', '2.999.1', '2.25.329800735698586629295641978511506172918']
  let known = 0
  for (const type of dotted) {
    const octets = type.startsWith('2.25.') ? Buffer.from('6983f09da7ebcfdee0c7a1a7b2c0948cc8f9d776', 'hex') : octetsOf(type)
    const certificate = handmade({ subject: tlv(0x30, rdn(tlv(0x30, tlv(6, octets), tlv(UTF8, 'x')))) })
    const name = formatName(subjectOf(certificate))
    if (name === `${type}=x`) continue // without a name here; openssl may have one
    t.equal(name, certificate.subject, type)
    known++
  }
  t.equal(known, 34)
  t.equal(dottedOf(octetsOf('1.2.840.113549.1.9.1')), '1.2.840.113549.1.9.1')
  t.equal(dottedOf(octetsOf('0.9.2342')), '0.9.2342')
  t.equal(dottedOf(octetsOf('2.999.3')), '2.999.3')
  t.same(attributeKeys.map(attributeTypeOf),
    ['CN', 'C', 'L', 'O', 'OU', 'ST', 'ST', 'title', 'GN', 'initials', 'emailAddress', 'emailAddress', 'serialNumber', 'DC', 'UID'])
  t.equal(attributeTypeOf('__proto__'), undefined)
})

t.test('a value in a name never passes for another attribute', async (t) => {
  const hostile = [
    'x, O=evil', ' lead, CN=admin', 'a + O=evil', 'trailing\\', 'two\\\\', 'quo"te', '"quoted"', '#0c02', 'semi;colon', 'é日本😀', ' ',
    'edge ', 'a=b', "it's", 'plain \\0A text', 'x\\, CN=admin', 'x", CN="admin'
  ]
  for (const [i, text] of hostile.entries()) {
    const name = `hostile${i}`
    const dn = `C=PT\nCN="${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
    const certificate = selfSigned(name, { dn, args: ['-days', '2'] })
    t.same(subjectOf(certificate), [[{ type: 'C', value: 'PT' }], [{ type: 'CN', value: text }]], text)
    t.equal(value('SubjectCN', certificate), text)
    t.equal(value('SubjectO', certificate), '')
    // openssl also quotes a leading `#`, and escapes `"` and `\` without quotes: these differ by design.
    if (!/^#|["\\]/.test(text)) t.equal(details(certificate).subject, told(name).subject)
  }
  const line = (text: string) => formatName(parsed(commonName(tlv(UTF8, text))))
  t.equal(line('x, O=evil'), 'CN="x, O=evil"')
  t.equal(line('a + b'), 'CN="a + b"')
  t.equal(line('a;b'), 'CN="a;b"')
  t.equal(line('say "hi" \\'), 'CN="say \\"hi\\" \\\\"')
  t.equal(line('a\nO=evil\r'), 'CN="a\\0AO=evil\\0D"')
  t.equal(line('a\0b\x7f\x85'), 'CN="a\\00b\\7F\\C2\\85"')
  t.equal(line(' lead'), 'CN=" lead"')
  t.equal(line('edge '), 'CN="edge "')
  t.equal(line('back\\slash'), 'CN=back\\slash')
  t.equal(line('#1 <a> = b'), 'CN=#1 <a> = b')
  t.equal(line(''), 'CN=')
  for (const text of ['a\nO=evil', 'a\0b', '\\0A', '\ufeffbom', '\ufffd', '']) t.equal(parsedValue(tlv(UTF8, text)), text, text)

  const certificate = selfSigned('multi', { dn: 'O=Acme\nOU=x\n+CN=y + z', args: ['-multivalue-rdn'] })
  t.same(subjectOf(certificate), [[{ type: 'O', value: 'Acme' }], [{ type: 'OU', value: 'x' }, { type: 'CN', value: 'y + z' }]])
  t.equal(details(certificate).subject, 'O=Acme, OU=x + CN="y + z"')
  t.equal(details(certificate).subject, told('multi').subject)

  const repeated = parsed(tlv(0x30, rdn(attribute('2.5.4.3', tlv(UTF8, 'a;b'))), rdn(attribute('2.5.4.3', tlv(UTF8, 'c')))))
  t.same(attributeValues(repeated, 'cn'), ['a;b', 'c'])
  t.equal(attributeValue(repeated, 'CN'), 'a;b;c')
  t.same(attributeValues(repeated, 'toString'), [])
  t.ok(Object.isFrozen(repeated) && Object.isFrozen(repeated[0]) && Object.isFrozen(repeated[0][0]))
})

t.test('every string type in a name is read without loss, and other types are hexadecimal', async (t) => {
  const utf16 = (text: string) => Buffer.from(text, 'utf16le').swap16()
  t.equal(parsedValue(tlv(0x12, '42')), '42', 'NumericString')
  t.equal(parsedValue(tlv(0x13, 'Jane')), 'Jane', 'PrintableString')
  t.equal(parsedValue(tlv(0x14, [0xe9])), 'é', 'TeletexString')
  t.equal(parsedValue(tlv(0x16, 'a@b.test')), 'a@b.test', 'IA5String')
  t.equal(parsedValue(tlv(0x1e, utf16('日本😀'))), '日本😀', 'BMPString')
  t.equal(parsedValue(tlv(0x1c, [0, 1, 0xf6, 0, 0, 0, 0, 0x41])), '😀A', 'UniversalString')

  t.equal(parsedValue(tlv(0x1e, [0, 0x41, 0])), '#1E03004100', 'half a character')
  t.equal(parsedValue(tlv(0x1e, utf16('a\ud800b'))), '#1E060061D8000062', 'half a surrogate pair')
  t.equal(parsedValue(tlv(0x1c, [0, 0, 0])), '#1C03000000')
  t.equal(parsedValue(tlv(0x1c, [0, 0x11, 0, 0])), '#1C0400110000', 'beyond Unicode')
  t.equal(parsedValue(tlv(0x1c, [0, 0, 0xd8, 0])), '#1C040000D800', 'a surrogate')
  t.equal(parsedValue(tlv(UTF8, [0x41, 0xff])), '#0C0241FF', 'no UTF-8')
  t.equal(parsedValue(tlv(UTF8, [0xc0, 0xbd])), '#0C02C0BD', 'overlong UTF-8')

  // Node prints the bytes of these as if they were characters: why its text is not what we read.
  const bits = handmade({ subject: commonName(tlv(3, [0], 'admin')) })
  t.equal(bits.subject, 'CN=admin')
  t.equal(value('SubjectCN', bits), '#03060061646D696E')
  const descriptor = handmade({ subject: commonName(tlv(7, 'admin')) })
  t.equal(descriptor.subject, 'CN=admin')
  t.equal(value('SubjectCN', descriptor), '#070561646D696E')
  const pieces = handmade({ subject: commonName(tlv(0x2c, tlv(UTF8, 'ad'), tlv(UTF8, 'min'))) })
  t.equal(pieces.subject, 'CN=admin')
  t.equal(value('SubjectCN', pieces), '#2C090C0261640C036D696E')
})

t.test('a subject may be empty, and a subject that is not DER reads as empty', async (t) => {
  openssl('req', '-x509', '-new', '-key', 'jane.key', '-subj', '/', '-out', 'empty.pem')
  const empty = read('empty')
  t.notOk(empty.subject, 'undefined or empty, as Node has it')
  t.equal(details(empty).subject, '')
  t.equal(value('SubjectCN', empty), '')
  t.same(issuerOf(undefined), [])
  t.same(subjectOf(undefined), [])

  const padded = handmade({ subject: commonName(Buffer.from([UTF8, 0x81, 2, 0x61, 0x64])) })
  t.equal(padded.subject, 'CN=ad', 'OpenSSL reads BER')
  t.equal(details(padded).subject, '')
  t.equal(details(padded).issuer, 'CN=Authority')
  const hollow = handmade({ subject: tlv(0x30, rdn()) })
  t.equal(details(hollow).subject, '')

  const broken: Record<string, Buffer> = {
    'an indefinite length': Buffer.from([0x30, 0x80, 0, 0]),
    'a length of five octets': Buffer.from([0x30, 0x85, 0, 0, 0, 0, 0]),
    'a length with a leading zero': Buffer.concat([Buffer.from([0x30, 0x82, 0, 0x80]), Buffer.alloc(128)]),
    'a length that is cut off': Buffer.from([0x30, 0x82, 1]),
    'no length': Buffer.from([0x30]),
    nothing: Buffer.alloc(0),
    'a content that is cut off': Buffer.from([0x30, 2, 0]),
    'an inner length that leaves its parent': Buffer.concat([tlv(0x30, [0x31, 9]), Buffer.alloc(9)]),
    'a tag of several octets': Buffer.from([0x3f, 0x81, 1, 0]),
    'something behind it': Buffer.concat([tlv(0x30), tlv(0x30)]),
    'no sequence': tlv(0x31),
    'no set': tlv(0x30, tlv(0x30)),
    'an attribute of three parts': tlv(0x30, rdn(tlv(0x30, oid('2.5.4.3'), tlv(UTF8, 'a'), tlv(UTF8, 'b')))),
    'a type that is no object identifier': tlv(0x30, rdn(tlv(0x30, tlv(UTF8, 'a'), tlv(UTF8, 'b')))),
    'an empty object identifier': tlv(0x30, rdn(tlv(0x30, tlv(6), tlv(UTF8, 'b')))),
    'an object identifier that is cut off': tlv(0x30, rdn(tlv(0x30, tlv(6, [0x55, 0x84]), tlv(UTF8, 'b')))),
    'a padded object identifier': tlv(0x30, rdn(tlv(0x30, tlv(6, [0x55, 0x80, 4, 3]), tlv(UTF8, 'b')))),
    'an endless object identifier': tlv(0x30, rdn(tlv(0x30, tlv(6, Buffer.alloc(20_000, 0xff), [1]), tlv(UTF8, 'b'))))
  }
  for (const [what, der] of Object.entries(broken)) t.throws(() => parsed(der), RangeError, what)
  t.throws(() => contentOf(undefined, OCTET_STRING), RangeError)
  t.throws(() => contentOf(elementOf(tlv(UTF8, 'x')), OCTET_STRING), RangeError)
  t.equal(parsed(tlv(0x30)).length, 0)
  t.equal(parsedValue(tlv(UTF8, 'x'.repeat(300))).length, 300)
})

t.test('a certificate in BER has no names, dates or key, and throws nothing', async (t) => {
  const parts = { rest: extensions(alternative(tlv(0x82, 'a.test'))) }
  const odd = handmade({ ...parts, version: [Buffer.from([0xa0, 0x81, 3, 2, 1, 2])] }) // a length longer than it need be
  t.equal(odd.subjectAltName, 'DNS:a.test')
  t.equal(value('SAN:DNS', handmade(parts)), 'a.test')
  t.equal(odd.subject, 'CN=Jane')
  const all = details(odd)
  t.equal(all.isPresent, true)
  t.equal(all.subject + all.issuer, '')
  t.equal(all.validFrom, null)
  t.equal(all.validUntil, null)
  t.match(all.cookie, /^[0-9a-f]{64}$/)
  for (const key of ['ValidFrom', 'ValidUntil', 'SubjectCN', 'IssuerCN', 'PublicKey', 'SubjectAltName', 'SAN:DNS']) {
    t.equal(value(key, odd), '', key)
  }
  t.same(validityOf(odd), { notBefore: NaN, notAfter: NaN })
})

t.test('serial numbers are written as whole bytes', async (t) => {
  const serial = (content: number[]) => details(handmade({ serial: tlv(2, content) })).serialNumber
  t.equal(serial([0]), '00')
  t.equal(serial([5]), '05')
  t.equal(serial([0x04, 0x67, 0xf3, 0x02]), '04-67-F3-02')
  t.equal(serial([0, 0xfb]), 'FB')
  t.equal(serial([0xfb]), '-05', 'negative, and not the same as FB')
  t.equal(serial([0xfe, 0xff]), '-01-01')
  openssl('req', '-x509', '-new', '-key', 'jane.key', '-subj', '/CN=zero', '-set_serial', '0', '-out', 'zero.pem')
  t.equal(details(read('zero')).serialNumber, '00')
  t.equal(told('zero').serial, '00')
})

t.test('validity dates are read as RFC 5280 has them, and nothing else is a date', async (t) => {
  // OpenSSL 3.5 does not even parse some of these
  const dated = (notBefore: Buffer) => ({ raw: handmadeDer({ notBefore }) }) as X509Certificate
  const utc = (text: string) => validityOf(dated(tlv(0x17, text))).notBefore
  const general = (text: string) => validityOf(dated(tlv(0x18, text))).notBefore
  t.equal(utc('500101000000Z'), Date.UTC(1950, 0, 1))
  t.equal(utc('491231235959Z'), Date.UTC(2049, 11, 31, 23, 59, 59))
  t.equal(general('20500101000000Z'), Date.UTC(2050, 0, 1))
  t.equal(general('99991231235959Z'), Date.UTC(9999, 11, 31, 23, 59, 59))
  t.equal(general('00010101000000Z'), Date.parse('0001-01-01T00:00:00Z'))
  t.equal(general('20240229120000Z'), Date.UTC(2024, 1, 29, 12))
  for (const odd of ['2501010000Z', '250101000000+0100', '250231000000Z', '251301000000Z', '250101240000Z', '250101006000Z', '250101000060Z', 'xx', '']) {
    t.ok(Number.isNaN(utc(odd)), `UTCTime ${odd}`)
  }
  for (const odd of ['20250101000000.5Z', '20250101000000', '250101000000Z', '120250101000000Z', '20250101000000Z\n']) {
    t.ok(Number.isNaN(general(odd)), `GeneralizedTime ${odd}`)
  }
  t.ok(Number.isNaN(timeOf(undefined)))
  t.ok(Number.isNaN(timeOf(elementOf(tlv(UTF8, '20250101000000Z')))), 'a string is no date')

  const odd = { ...dated(tlv(0x17, 'xx')), fingerprint256: '', serialNumber: '01' } as X509Certificate
  t.equal(details(odd).validFrom, null)
  t.equal(details(odd).validUntil?.getTime(), Date.UTC(2035, 0, 1), 'the other date is known')
  t.equal(value('ValidFrom', odd), '')
  t.equal(value('ValidUntil', odd), 'Mon, 01 Jan 2035 00:00:00 GMT')
})

t.test('alternative names are told apart by their type, not by how they look', async (t) => {
  const names = (...all: Buffer[]) => alternativeNamesOf(handmade({ rest: extensions(alternative(...all)) }))
  const texts = (...all: Buffer[]) => names(...all).map(formatAlternativeName)
  const sly = selfSigned('sly', { dn: 'CN=sly', san: 'DNS.1="a.test, DNS:evil.test"\nURI.1="http://x.test/?a=\'b\'&c=\\"d\\""\nDNS.2=b.test' })
  t.same(alternativeNamesOf(sly), [
    { kind: 'DNS', value: 'a.test, DNS:evil.test' }, { kind: 'URI', value: 'http://x.test/?a=\'b\'&c="d"' }, { kind: 'DNS', value: 'b.test' }
  ])
  t.equal(value('SAN:DNS', sly), 'a.test, DNS:evil.test;b.test')
  t.equal(value('SAN:email', sly), '')
  t.same(texts(tlv(0x82, 'a\0.test'), tlv(0x81, [0xe9])), ['DNS:a\0.test', 'email:é'])
  t.same(texts(tlv(0x87, [1, 2, 3]), tlv(0x87, Buffer.alloc(16)), tlv(0x87, Buffer.alloc(10), [255, 255, 1, 2, 3, 4])),
    ['IP:#8703010203', 'IP:::', 'IP:::ffff:1.2.3.4'])
  t.same(texts(tlv(0xa4, commonName(tlv(UTF8, 'x, DNS:admin')))), ['DirName:CN="x, DNS:admin"'])
  t.same(texts(tlv(0xa3, tlv(UTF8, 'x')), tlv(0xa5, tlv(0x81, 'x'))), ['X400Name:#A3030C0178', 'EdiPartyName:#A503810178'])
  t.ok(Object.isFrozen(names(tlv(0x82, 'a'))) && Object.isFrozen(names(tlv(0x82, 'a'))[0]))

  t.same(names(tlv(0x82, 'ok.test'), tlv(0xa2, tlv(0x16, 'b'))), [], 'a string in pieces is not DER')
  t.same(names(tlv(0x82, 'ok.test'), tlv(0x8a, 'b')), [], 'no such choice')
  const twice = handmade({ rest: extensions(alternative(tlv(0x82, 'a.test')), alternative(tlv(0x82, 'b.test'))) })
  t.same(alternativeNamesOf(twice), [], 'two extensions')
  t.same(alternativeNamesOf(handmade({ rest: extensions(tlv(0x30, oid('2.5.29.19'), tlv(4, tlv(0x30)))) })), [], 'none')
  const critical = tlv(0x30, oid('2.5.29.17'), tlv(1, [255]), tlv(4, tlv(0x30, tlv(0x82, 'a.test'))))
  t.equal(value('SAN:DNS', handmade({ rest: extensions(critical) })), 'a.test')
  const first = handmade({ version: [] })
  t.same(alternativeNamesOf(first), [], 'version 1 has no extensions')
  t.equal(details(first).subject, 'CN=Jane', 'and does not say its version')
})

t.test('details without a client certificate have the same fields, in the same order', async (t) => {
  t.same(Object.keys(ABSENT), Object.keys(details(jane)))
  t.ok(Object.isFrozen(ABSENT))
})

t.test('a date that one caller changes is unchanged for the next', async (t) => {
  const all = details(jane)
  const before = all.validFrom?.getTime()
  all.validFrom?.setFullYear(1999)
  t.equal(all.validFrom?.getTime(), before)
  t.ok(Object.isFrozen(all))
  t.throws(() => Object.assign(all, { isValid: false }), TypeError)
  t.throws(() => Object.assign(all, { validFrom: null }), TypeError)
  t.equal({ ...all }.validUntil?.getTime(), all.validUntil?.getTime())
  t.match(JSON.parse(JSON.stringify(all)), { isPresent: true, validFrom: new Date(jane.validFrom).toISOString() })
})

const types = ['C', 'O', 'OU', 'CN', 'L', 'ST', 'DC', 'UID', 'emailAddress', 'title', 'GN', 'initials', 'serialNumber']
const keyOf: Record<string, string> = { emailAddress: 'E', title: 'T', initials: 'I', serialNumber: 'SERIALNUMBER' }
const oidOf: Record<string, string> = { C: '2.5.4.6', O: '2.5.4.10', OU: '2.5.4.11', CN: '2.5.4.3', L: '2.5.4.7', ST: '2.5.4.8', DC: '0.9.2342.19200300.100.1.25', UID: '0.9.2342.19200300.100.1.1', emailAddress: '1.2.840.113549.1.9.1', title: '2.5.4.12', GN: '2.5.4.42', initials: '2.5.4.43', serialNumber: '2.5.4.5' }
const names: fc.Arbitrary<Name> = fc.array(fc.array(fc.record({ type: fc.constantFrom(...types), value: nasty }), { minLength: 1, maxLength: 3 }), { maxLength: 4 })

/** A name, in DER and read again: within a SET the order is DER's. */
function encode (name: Name): Name {
  const rdns = name.map((rdn) => rdn.map(({ type, value }) => seq(oid(oidOf[type]!), utf8(value))).sort(Buffer.compare))
  return parseName(elementOf(seq(...rdns.map((attributes) => der(tags.set, ...attributes)))))
}

/** Reads the format again, by its documented rules and nothing else. */
function reread (text: string): Name {
  const name: Array<Array<{ type: string, value: string }>> = []
  let rest = text
  let joined = false
  while (rest !== '') {
    const [, type, quoted, plain = ''] = /^([\w.]+)=(?:"((?:[^"\\]|\\["\\]|(?:\\[\dA-F]{2})+)*)"|([^,+;"]*?(?=, | \+ |$)))/.exec(rest) ?? []
    if (type === undefined) throw new Error(`unreadable: ${rest}`)
    const length = type.length + 1 + (quoted === undefined ? plain.length : quoted.length + 2)
    const value = quoted === undefined ? plain : quoted.replaceAll(/(?:\\[\dA-F]{2})+|\\(["\\])/g, (match, character?: string) => character ?? Buffer.from(match.replaceAll('\\', ''), 'hex').toString())
    if (joined) name.at(-1)!.push({ type, value })
    else name.push([{ type, value }])
    rest = rest.slice(length)
    if (rest === '') break
    joined = rest.startsWith(' + ')
    if (!joined && !rest.startsWith(', ')) throw new Error(`no separator: ${rest}`)
    rest = rest.slice(joined ? 3 : 2)
    if (rest === '') throw new Error('ends with a separator')
  }
  return name
}

t.test('for any distinguished name, parsing and formatting agree, and no attribute can imitate another', async (t) => {
  fc.assert(fc.property(names, (name) => {
    const parsed = encode(name)
    const sorted = (rdns: Name): string => JSON.stringify(rdns.map((rdn) => rdn.map(({ type, value }) => `${type}=${value}`).sort()))
    if (sorted(parsed) !== sorted(name)) throw new Error(`parsed as ${JSON.stringify(parsed)}`)
    const text = formatName(parsed)
    if (/\p{Cc}/u.test(text)) throw new Error('a control character')
    if (sorted(reread(text)) !== sorted(name)) throw new Error(`formatted as ${text}`)
    for (const type of types) {
      const expected = parsed.flat().filter((attribute) => attribute.type === type).map(({ value }) => value)
      if (JSON.stringify(attributeValues(parsed, keyOf[type] ?? type)) !== JSON.stringify(expected)) throw new Error(type)
    }
  }), { numRuns: 2_000 })
  t.pass()
})
