/**
 * Units of lib/tls, pfx.ts and private-key.ts: PFX files as openssl makes them, and as no program would.
 */
import { createCipheriv, createPrivateKey, pbkdf2Sync, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { iterationsOfPfx } from '../lib/tls/private-key.ts'
import { type Unpacked, unpackPfx } from '../lib/tls/pfx.ts'
import { make } from './fixtures/chains.ts'
import { portOf } from './fixtures/network.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { pkcs12 } from './fixtures/pkcs12.ts'
import { authority, type Authority, issue, issueServer } from './fixtures/pki.ts'
import { run } from './fixtures/programs.ts'
import { der, elementOf, elementsIn, tags } from './fixtures/x509.ts'

const needsOpenssl = { skip: withoutOpenssl }

const dir = t.testdir()
const path = (name: string): string => join(dir, name)
const openssl = async (...args: string[]): Promise<void> => { await run('openssl', args, { cwd: dir }) }

const root = await authority('Root')
const intermediate = await issue(root, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
const unrelated = await authority('Unrelated')
const ec = await issueServer(intermediate)
for (const [name, { cert, key }] of Object.entries({ root, intermediate, ec })) {
  writeFileSync(path(`${name}.pem`), cert)
  writeFileSync(path(`${name}.key`), key)
}
// Neither in order nor all related: OpenSSL keeps them as they come
writeFileSync(path('others.pem'), root.cert + unrelated.cert + intermediate.cert)
writeFileSync(path('chain.pem'), intermediate.cert + root.cert)

interface Packing { passphrase: string, options: string, leaf?: string }

/** Makes PFX files with the OpenSSL program, of `ec` unless told otherwise: one shell for all of them, since to start it takes this process longer than OpenSSL. */
async function packAll (packings: readonly Packing[]): Promise<Buffer[]> {
  const script = packings.map(({ passphrase, options, leaf = 'ec' }, at) =>
    `openssl pkcs12 -export -inkey ${leaf}.key -in ${leaf}.pem -certfile others.pem -passout 'pass:${passphrase}' -out ${at}.pfx ${options}`)
  await run('sh', ['-e', '-c', script.join('\n')], { cwd: dir })
  return packings.map((_, at) => readFileSync(path(`${at}.pfx`)))
}

async function pack (passphrase: string, options: string, leaf?: string): Promise<Buffer> {
  return (await packAll([{ passphrase, options, leaf }]))[0]!
}

const pemOf = (cert: string): string => new X509Certificate(cert).toString()
const CHAIN = [ec, intermediate, root].map(({ cert }) => pemOf(cert)).join('')

function isRight (t: Test, { cert, key }: Unpacked, name: string, expected = { cert: CHAIN, key: ec.key }): void {
  t.equal(cert, expected.cert, `${name}: the chain, in order`)
  t.match(key, /^-----BEGIN PRIVATE KEY-----\n/, `${name}: PKCS #8`)
  t.ok(createPrivateKey(key).equals(createPrivateKey(expected.key)), `${name}: the key`)
  t.ok(tls.createSecureContext({ cert, key }), `${name}: Node takes them`)
}

async function fails (t: Test, pfx: Buffer, passphrase: string, message: RegExp, name = String(message)): Promise<void> {
  await t.rejects(unpackPfx(pfx, passphrase), { name: 'Error', message }, name)
}

const WRONG = /the passphrase is wrong/
const DAMAGED = /^is no PFX \(PKCS #12\) file, or a damaged one$/
const UNSUPPORTED = /^uses an algorithm that is not supported: /

// Files by hand, for what OpenSSL does not make

const integer = (hex: string): Buffer => der(0x02, Buffer.from(hex, 'hex'))
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))
const octets = (...contents: Buffer[]): Buffer => der(tags.octetString, ...contents)
const sequence = (...contents: Buffer[]): Buffer => der(tags.sequence, ...contents)
const tagged = (...contents: Buffer[]): Buffer => der(0xa0, ...contents)
const content = (type: string, value: Buffer): Buffer => sequence(oid(`2a864886f70d0107${type}`), tagged(value))
const bag = (type: string, value: Buffer): Buffer => sequence(oid(`2a864886f70d010c0a01${type}`), tagged(value))
const keyBag = (key: string): Buffer => bag('01', createPrivateKey(key).export({ format: 'der', type: 'pkcs8' }))
/** PBES2 with PBKDF2, HMAC-SHA-1 and AES-256-CBC; salt and initialization vector are zeros. */
const shrouded = (iterations: Buffer[], encrypted: Buffer): Buffer => bag('02', sequence(
  sequence(oid('2a864886f70d01050d'), sequence(
    sequence(oid('2a864886f70d01050c'), sequence(octets(Buffer.alloc(8)), ...iterations)),
    sequence(oid('60864801650304012a'), octets(Buffer.alloc(16)))
  )), octets(encrypted)))
const certificateOf = (type: string, raw: Buffer): Buffer => bag('03', sequence(oid(`2a864886f70d010916${type}`), tagged(octets(raw))))
const certificateBag = (cert: string): Buffer => certificateOf('01', new X509Certificate(cert).raw)
const safe = (...parts: Buffer[]): Buffer => octets(sequence(...parts))
const fileOf = (authSafe: Buffer, ...mac: Buffer[]): Buffer => sequence(integer('03'), authSafe, ...mac)
const pfxOf = (...bags: Buffer[]): Buffer => fileOf(content('01', safe(content('01', safe(...bags)))))
const plain = pfxOf(keyBag(ec.key), ...[root, unrelated, ec, intermediate].map(({ cert }) => certificateBag(cert)))

/** Made by OpenSSL's `PKCS12_create` with no passphrase at all, as .NET does for `null`: zero bytes, without the end. */
const NULL_PASSPHRASE = Buffer.from(`
MIIDigIBAzCCA0AGCSqGSIb3DQEHAaCCAzEEggMtMIIDKTCCAh8GCSqGSIb3DQEHBqCCAhAwggIMAgEAMIICBQYJKoZIhvcNAQcBMBwGCiqGSIb3DQEMAQ
MwDgQIXwlwjqbvIJUCAggAgIIB2JEiKu2WDGH7y9Ernx5uH4efJVJ0cLocKbaNJXlsFlp6sxw9L2kpmUhhhtTBuAEaRnlW9UWXXXmiYzvq3m62UgLtSUYP
v6CjFiDZXlgf4SeGsT9hfMddAF/1/osGjN2YnzsqYHkU1XWDedsB0vrwnOZhh5slYHzeso8yrHWkKcewHal5UJaoKMmuZB90ZdQAIESrJXUgAjfzFpladK
tL6vaRiEygrvsq9qsSbBca1SIjBKcC3WVRwfZz5IcdLPglI7CdteOShGWabmgTNTuzBQyvl1jrUO93faIqdwOCD7AhcVTGpIdV7SsChnJw3X2H9Z/BM5+E
96EJegxHUj9juk0iSn1RQdJv+JqU4zlyxg99d1X115dLwwNLgV7s60prkYS6T2sLStsqK4rEC1pl7L13vsoI0NoCGWlSJwIR1XpTkgXdPYhBr85iN5d2OP
2vC7Q/jjLMH9HEUAo50wTL00zqTjLoqpi2KbBI0hQbgYaFK+xDCMpE93/YRnhHaKQcmqQP+fKtXtMLKMrRnboQkbQdLZp747Rj9wemwIJUHFBPx9/rD+/j
fo88VkAhwvVNHnL58lnZ7lRDyA9FFuJOmFXs1RLtV7O1jyUPJ8AEMrcTsG+LcWZVmHgwggECBgkqhkiG9w0BBwGggfQEgfEwge4wgesGCyqGSIb3DQEMCg
ECoIG0MIGxMBwGCiqGSIb3DQEMAQMwDgQIVq5ETgvcMD8CAggABIGQqvbfpRY6Ci6R9Z/bTup8vcFq7aibaUDvo3y5kgkXyXNwLaaVjocc1lE15+sQAtY4
xkdI0xHVqIIKXXhkaW9lOrxc3voodAziUiF5ymWBhBIagkBRpvDKJ3J/J+eegK9h9B4LeyuQHDoxKcTeK0xrvHvi+Xpg92cg/RD3C4ArOMnlDPJomshGdV
YJcM7zh1tfMSUwIwYJKoZIhvcNAQkVMRYEFE7K8MBzSITw0KbUkMbvCrYa7cbpMEEwMTANBglghkgBZQMEAgEFAAQgHYRLCR02nOHyWYsbP8wq9xAUFuYI
vjJnsgiCZUHBjpIECCM2aJutJ8OnAgIIAA==`, 'base64')

t.test('a PFX gives the key, its certificate, and the chain above it in order', async (t) => {
  isRight(t, await unpackPfx(plain, ''), 'nothing protected')
  isRight(t, await unpackPfx(await pkcs12(ec, 'secret'), 'secret'), 'our own', { cert: pemOf(ec.cert), key: ec.key })
})

t.test('a PFX of OpenSSL opens, whatever it is protected with', needsOpenssl, async (t) => {
  const all = [
    '',
    '-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1', // as Windows exports it
    '-keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-2DES -macalg sha1',
    '-keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512',
    '-keypbe DES-EDE3-CBC -certpbe DES-EDE3-CBC -macalg sha384',
    '-keypbe NONE -certpbe NONE -macalg sha224',
    '-keypbe NONE',
    '-certpbe NONE',
    '-nomac', // which leaves the certificates unencrypted
    '-nomac -keypbe AES-256-CBC -certpbe AES-256-CBC',
    '-nomac -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES',
    '-nomac -keypbe NONE',
    '-noiter',
    '-nomaciter',
    '-iter 3',
    '-name localhost -caname first -caname second',
    '-keyex',
    '-LMK -CSP Microsoft'
  ].flatMap((options) => ['secret', '', 'пароль € 𝄞', 'x'.repeat(100)].map((passphrase) => ({ passphrase, options })))
  const files = await packAll(all)
  for (const [at, { passphrase, options }] of all.entries()) isRight(t, await unpackPfx(files[at]!, passphrase), `"${passphrase}" ${options}`)
})

t.test('a PFX with a key of every kind opens', needsOpenssl, async (t) => {
  for (const algorithm of ['rsa:2048', 'rsa-pss', 'ed25519', 'ed448', 'ec']) {
    const curve = algorithm === 'ec' ? ['-pkeyopt', 'ec_paramgen_curve:P-521'] : []
    await openssl('req', '-new', '-newkey', algorithm, ...curve, '-nodes', '-keyout', 'leaf.key', '-subj', `/CN=${algorithm}`, '-out', 'leaf.csr')
    await openssl('x509', '-req', '-in', 'leaf.csr', '-CA', 'intermediate.pem', '-CAkey', 'intermediate.key', '-CAcreateserial', '-out', 'leaf.pem')
    const leaf = { cert: readFileSync(path('leaf.pem'), 'utf8'), key: readFileSync(path('leaf.key'), 'utf8') }
    const expected = { cert: [leaf, intermediate, root].map(({ cert }) => pemOf(cert)).join(''), key: leaf.key }
    const all = ['', '-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1', '-keypbe NONE -certpbe NONE']
    const files = await packAll(all.map((options) => ({ passphrase: 'secret', options, leaf: 'leaf' })))
    for (const [at, options] of all.entries()) isRight(t, await unpackPfx(files[at]!, 'secret'), `${algorithm} ${options}`, expected)
  }
})

t.test('a PFX whose key was encrypted with any PRF of PBKDF2 opens', needsOpenssl, async (t) => {
  const encrypted = async (...options: string[]): Promise<Buffer> => {
    await openssl('pkcs8', '-topk8', '-in', 'ec.key', ...options, '-passout', 'pass:pässwörd', '-outform', 'DER', '-out', 'key.der')
    return pfxOf(bag('02', readFileSync(path('key.der'))), certificateBag(ec.cert))
  }
  for (const prf of ['hmacWithSHA1', 'hmacWithSHA224', 'hmacWithSHA256', 'hmacWithSHA384', 'hmacWithSHA512']) {
    const pfx = await encrypted('-v2', 'aes-256-cbc', '-v2prf', prf)
    isRight(t, await unpackPfx(pfx, 'pässwörd'), prf, { cert: pemOf(ec.cert), key: ec.key })
    await fails(t, pfx, 'passwörd', WRONG, prf)
  }
  await fails(t, await encrypted('-v2', 'aes-256-cbc', '-v2prf', 'hmacWithSHA512-256'), 'pässwörd', /1\.2\.840\.113549\.2\.13$/)
  await fails(t, await encrypted('-v2', 'camellia-256-cbc'), 'pässwörd', UNSUPPORTED, 'a cipher')
  await fails(t, await encrypted('-scrypt'), 'pässwörd', UNSUPPORTED, 'scrypt')
})

t.test('a server with the unpacked PFX serves the chain that Node serves with the PFX', needsOpenssl, async (t) => {
  // In order: Node sends certificates as they come
  const pfx = await pack('secret', '-certfile chain.pem')
  const seen = async (options: tls.TlsOptions): Promise<string[]> => {
    const server = tls.createServer(options, (socket) => socket.end()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    // With this root only, a client verifies nothing without the intermediate
    const socket = tls.connect({ port: portOf(server), host: '127.0.0.1', ca: root.cert })
    await once(socket, 'secureConnect')
    const names: string[] = []
    for (let next = socket.getPeerX509Certificate(); next !== undefined && names.length < 4; next = next.issuerCertificate) names.push(next.fingerprint256)
    socket.destroy()
    return names
  }
  const expected = await seen({ pfx, passphrase: 'secret' })
  t.ok(expected.length >= 3)
  t.strictSame(await seen(await unpackPfx(pfx, 'secret')), expected)
})

t.test('a PFX that was made with a null passphrase opens with an empty one', async (t) => {
  const { cert, key } = await unpackPfx(NULL_PASSPHRASE, '')
  t.match(new X509Certificate(cert).subject, 'CN=null')
  t.ok(tls.createSecureContext({ cert, key }))
  await fails(t, NULL_PASSPHRASE, 'secret', WRONG)
})

t.test('a PFX opens whose passphrase OpenSSL before 1.1.0 encoded beyond ASCII', needsOpenssl, async (t) => {
  const mistaken = Buffer.from('pässwörd €').toString('latin1')
  isRight(t, await unpackPfx(await pack(mistaken, '-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES'), 'pässwörd €'), 'with a MAC')
  isRight(t, await unpackPfx(await pack(mistaken, '-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -nomac'), 'pässwörd €'), 'without')
})

t.test('a PFX in BER opens, with indefinite lengths and constructed strings as NSS and Bouncy Castle write them', needsOpenssl, async (t) => {
  // Only with certificates that are encrypted: others would also become BER
  for (const options of ['-nomac -certpbe AES-256-CBC', '-nomac -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES']) {
    const pfx = indefinite(await pack('secret', options))
    t.equal(pfx[1], 0x80, options)
    isRight(t, await unpackPfx(pfx, 'secret'), options)
  }
  // The MAC is that of the content, however it is cut
  const [version, authSafe, mac] = elementsIn(elementOf(await pack('secret', '')), tags.sequence)
    .map(({ bytes, offset, end }) => bytes.subarray(offset, end))
  const pfx = Buffer.concat([Buffer.of(0x30, 0x80), version, indefinite(authSafe, false), mac, Buffer.of(0, 0)])
  isRight(t, await unpackPfx(pfx, 'secret'), 'with a MAC')
})

/** DER as BER: no lengths where none are needed, long strings in two pieces. Strings that are DER themselves also, where `isDeep`. */
function indefinite (bytes: Buffer, isDeep = true): Buffer {
  const element = elementOf(bytes)
  const content = bytes.subarray(element.start)
  const without = (id: number, ...contents: Buffer[]): Buffer => Buffer.concat([Buffer.of(id, 0x80), ...contents, Buffer.of(0, 0)])
  if ((element.tag & 0x20) !== 0) {
    return without(element.tag, ...elementsIn(element, element.tag).map(({ offset, end }) => indefinite(bytes.subarray(offset, end), isDeep)))
  }
  if (content.length < 100) return bytes
  let value = content
  try {
    if (isDeep) value = indefinite(content)
  } catch {
    // Encrypted
  }
  return without(element.tag | 0x20, octets(value.subarray(0, 100)), octets(value.subarray(100)))
}

t.test('a PFX gives the chain of its key alone, and leaves out other certificates', async (t) => {
  const key = keyBag(ec.key)
  const certificates = [certificateBag(ec.cert), certificateBag(intermediate.cert), certificateBag(root.cert)]
  isRight(t, await unpackPfx(pfxOf(bag('04', sequence()), bag('05', sequence()), ...certificates, key), ''), 'revocation lists and secrets')
  isRight(t, await unpackPfx(pfxOf(certificateOf('02', Buffer.of(1)), ...certificates, key), ''), 'certificates that are not X.509')
  isRight(t, await unpackPfx(pfxOf(key, ...certificates, ...certificates), ''), 'certificates that are in it twice')
  isRight(t, await unpackPfx(pfxOf(bag('06', sequence(key, bag('06', sequence(...certificates))))), ''), 'bags inside of bags')
  const many = Array.from({ length: 300 }, () => certificateBag(unrelated.cert))
  isRight(t, await unpackPfx(pfxOf(...many, ...certificates, key), ''), 'hundreds of other certificates')
  const alone = { cert: pemOf(ec.cert), key: ec.key }
  isRight(t, await unpackPfx(pfxOf(key, certificateBag(ec.cert), certificateBag(root.cert)), ''), 'no chain', alone)
  isRight(t, await unpackPfx(pfxOf(key, certificateBag(ec.cert)), ''), 'the leaf alone', alone)
  const self = { cert: pemOf(root.cert), key: root.key }
  isRight(t, await unpackPfx(pfxOf(keyBag(root.key), certificateBag(root.cert), certificateBag(root.cert)), ''), 'self-signed', self)
})

t.test('of two CAs with one name in a PFX, the chain has the one that signed', async (t) => {
  const [old, current] = [await authority('Renewed'), await authority('Renewed')]
  // Without key identifiers, only the signature tells
  const leaf = { cert: sign({ name: 'leaf', made: ec.made }, current), key: ec.key }
  t.ok(new X509Certificate(leaf.cert).checkIssued(new X509Certificate(old.cert)), 'names alone do not tell')
  const pfx = pfxOf(keyBag(leaf.key), ...[old, leaf, current].map(({ cert }) => certificateBag(cert)))
  isRight(t, await unpackPfx(pfx, ''), 'renewed', { cert: pemOf(leaf.cert) + pemOf(current.cert), key: leaf.key })
})

t.test('cross-certified CAs in a PFX make no endless chain', async (t) => {
  const [a, b] = [await authority('A'), await authority('B')]
  const leaf = await issueServer(a)
  const [aByB, bByA] = [{ cert: sign(a, b) }, { cert: sign(b, a) }]
  const pfx = pfxOf(keyBag(leaf.key), ...[bByA, aByB, leaf].map(({ cert }) => certificateBag(cert)))
  isRight(t, await unpackPfx(pfx, ''), 'crossed', { cert: [leaf, aByB, bByA].map(({ cert }) => pemOf(cert)).join(''), key: leaf.key })
})

/** A certificate without any extension. */
function sign ({ name, made }: Pick<Authority, 'name' | 'made'>, issuer: Authority): string {
  const extensions = { constraints: undefined, usage: undefined, purposes: undefined, subjectKey: undefined, authorityKey: undefined }
  return make({ subject: `CN=${name}`, like: made, issuer: issuer.made, extensions }).pem
}

t.test('a wrong passphrase of a PFX is reported as wrong', needsOpenssl, async (t) => {
  const all = ['', '-macalg sha1', '-nomac -certpbe AES-256-CBC', '-keypbe NONE -certpbe NONE', '-nomac -keypbe PBE-SHA1-3DES']
  const files = await packAll(all.map((options) => ({ passphrase: 'secret', options })))
  for (const [at, options] of all.entries()) {
    for (const passphrase of ['Secret', '', 'sécret']) await fails(t, files[at]!, passphrase, WRONG, options)
  }
})

t.test('a wrong passphrase of a PFX is reported as wrong also when the result looks padded', async (t) => {
  const key = pbkdf2Sync('secret', Buffer.alloc(8), 1, 32, 'sha1')
  for (const decrypted of [Buffer.alloc(16, 0xff), Buffer.alloc(16, 0x05), Buffer.alloc(0)]) {
    const cipher = createCipheriv('aes-256-cbc', key, Buffer.alloc(16))
    const encrypted = Buffer.concat([cipher.update(decrypted), cipher.final()])
    await fails(t, pfxOf(shrouded([integer('01')], encrypted), certificateBag(ec.cert)), 'secret', WRONG)
  }
})

t.test('a PFX with RC2 or DES is refused, and the message says how to repack it', needsOpenssl, async (t) => {
  try {
    await pack('secret', '-legacy')
  } catch {
    t.comment('this OpenSSL has no legacy provider')
    return
  }
  await fails(t, await pack('secret', '-legacy -certpbe PBE-SHA1-RC2-40'), 'secret', /^is encrypted with RC2, RC4 or DES/)
  await fails(t, await pack('secret', '-legacy -nomac -certpbe PBE-SHA1-RC4-128'), '', /^is encrypted with RC2, RC4 or DES/)
  await fails(t, await pack('secret', '-legacy -certpbe NONE -keypbe PBE-MD5-DES'), 'secret', /^is encrypted with RC2, RC4 or DES/)

  writeFileSync(path('old.pfx'), await pack('secret', '-legacy'))
  const { message } = await unpackPfx(readFileSync(path('old.pfx')), 'secret').then(() => t.fail(), (error: Error) => error) as Error
  const commands = message.slice(message.indexOf('openssl')).split(' && ')
  t.equal(commands.length, 2)
  for (const command of commands) {
    // Instead of asking
    const passphrases = command.includes('-export') ? ['-passin', 'pass:between', '-passout', 'pass:new'] : ['-passin', 'pass:secret', '-passout', 'pass:between']
    await openssl(...command.split(' ').slice(1), ...passphrases)
  }
  t.match(readFileSync(path('all.pem'), 'utf8'), 'BEGIN ENCRYPTED PRIVATE KEY')
  isRight(t, await unpackPfx(readFileSync(path('new.pfx')), 'new'), 'repacked')
})

t.test('a PFX that cannot be used is refused, and the message says why', async (t) => {
  const key = keyBag(ec.key)
  const certificate = certificateBag(ec.cert)
  await fails(t, pfxOf(certificate), '', /^holds no private key$/)
  await fails(t, pfxOf(), '', /^holds no private key$/)
  await fails(t, pfxOf(key), '', /^holds no certificate for its private key$/)
  await fails(t, pfxOf(key, certificateBag(root.cert)), '', /^holds no certificate for its private key$/)
  await fails(t, pfxOf(key, certificate, keyBag(root.key), certificateBag(root.cert)), '', /^holds several private keys/)
  await fails(t, pfxOf(key, certificate, bag('02', sequence())), '', /^holds several private keys/)
  await fails(t, pfxOf(bag('01', sequence(integer('00'))), certificate), '', /^has a private key that Node cannot read$/)
  await fails(t, pfxOf(key, certificateOf('01', sequence())), '', /^has a certificate that Node cannot read$/)
  await fails(t, pfxOf(key, ...Array.from({ length: 1001 }, () => certificate)), '', /^holds more than 1000 certificates$/)
  await fails(t, Buffer.concat([plain, Buffer.of(10)]), '', /^has something after its end$/)
  await fails(t, fileOf(content('02', sequence())), '', /^is protected with keys instead of a passphrase/, 'signed')
  await fails(t, fileOf(content('01', safe(content('03', sequence())))), '', /^is protected with keys instead of a passphrase/, 'for a recipient')
  await fails(t, pfxOf(bag('02', sequence(sequence(oid('2a03')), octets()))), '', /^uses an algorithm that is not supported: 1\.2\.3$/)
  for (const [name, bytes] of Object.entries({
    nothing: Buffer.alloc(0),
    'a certificate': new X509Certificate(ec.cert).raw,
    PEM: Buffer.from(ec.cert + ec.key),
    'no octets': fileOf(content('01', sequence())),
    'no sequence': fileOf(content('01', octets(octets()))),
    'a bag that is none': pfxOf(octets()),
    'a bag without an id': pfxOf(sequence(octets(), tagged(sequence()))),
    'a bag without a value': pfxOf(sequence(oid('2a03'), tagged())),
    'a bag with nothing else': pfxOf(sequence(oid('2a03'))),
    'nesting without end': Array.from({ length: 5000 }).reduce<Buffer>((inner) => bag('06', sequence(inner)), key)
  })) await fails(t, bytes, '', name === 'a bag without a value' ? /^holds no private key$/ : DAMAGED, name)
})

t.test('a PFX whose MAC cannot be checked is refused', async (t) => {
  const SHA256 = '608648016503040201'
  const withMac = (digest: string, bytes: number, ...iterations: Buffer[]): Buffer =>
    fileOf(content('01', safe()), sequence(sequence(sequence(oid(digest)), octets(Buffer.alloc(bytes))), octets(Buffer.alloc(8)), ...iterations))
  await fails(t, withMac(SHA256, 32), '', WRONG, 'another one')
  await fails(t, withMac(SHA256, 31, integer('01')), '', WRONG, 'too short')
  await fails(t, withMac(SHA256, 0, integer('01')), '', WRONG, 'empty')
  await fails(t, withMac('608648016503040208', 32), '', UNSUPPORTED, 'SHA3-256')
  await fails(t, withMac('2a864886f70d01050e', 32), '', UNSUPPORTED, 'PBMAC1')
  await fails(t, fileOf(content('01', safe()), sequence()), '', DAMAGED, 'no MAC')
})

t.test('iterations of a PFX are bounded, and do not block the event loop', async (t) => {
  const TOO_MANY = /^asks for more than 5 million iterations, or for none$/
  const withKey = (...iterations: Buffer[]): Buffer => pfxOf(shrouded(iterations, Buffer.alloc(32)), certificateBag(ec.cert))
  const tripleDes = (iterations: Buffer): Buffer => pfxOf(bag('02', sequence(
    sequence(oid('2a864886f70d010c0103'), sequence(octets(Buffer.alloc(8)), iterations)), octets(Buffer.alloc(32)))))
  // None, fewer than none, one too many, more than asn1js counts, more than any counter holds
  for (const iterations of ['00', 'ff', '4c4b41', '01000000', '7fffffffffffffffffffff']) {
    await fails(t, withKey(integer(iterations)), 'secret', TOO_MANY, `PBKDF2 ${iterations}`)
    await fails(t, tripleDes(integer(iterations)), 'secret', TOO_MANY, `Triple DES ${iterations}`)
  }
  await fails(t, withKey(), 'secret', DAMAGED, 'not said how many')
  await fails(t, withKey(integer('01')), 'secret', WRONG, 'one')
  // An empty passphrase has two encodings, and each costs
  await fails(t, withKey(integer('2625a1')), '', TOO_MANY, 'altogether')

  let turns = 0
  const timer = setInterval(() => turns++, 1)
  await fails(t, tripleDes(integer('0186a0')), 'secret', WRONG, 'while others work')
  clearInterval(timer)
  t.ok(turns > 5, `${turns} turns of the event loop`)
})

t.test('the iterations of a PFX are counted before OpenSSL opens it', needsOpenssl, async (t) => {
  const key = (iterations: string): Buffer => shrouded([integer(iterations)], Buffer.alloc(32))
  const mac = (...iterations: Buffer[]): Buffer => sequence(sequence(), octets(), ...iterations)
  for (const [name, pfx, iterations] of [
    ['without a MAC', pfxOf(keyBag(ec.key), certificateBag(ec.cert)), 0],
    ['with an encrypted key', pfxOf(key('7fffffff'), certificateBag(ec.cert)), 2 ** 31 - 1],
    ['with several', fileOf(content('01', safe(content('01', safe(key('0800'), key('01'))), content('01', safe(key('01'))))), mac(integer('0800'))), 4098],
    ['with a MAC of one iteration, which is the default', fileOf(content('01', safe()), mac()), 1]
  ] as const) t.equal(iterationsOfPfx(pfx), iterations, name)
  await openssl('pkcs12', '-export', '-inkey', 'ec.key', '-in', 'ec.pem', '-passout', 'pass:secret', '-out', 'made.pfx')
  for (const [name, pfx] of Object.entries({
    'certificates that are encrypted': readFileSync(path('made.pfx')),
    'another file in it': pfxOf(bag('06', sequence(key('7fffffff')))),
    'a key without anything': pfxOf(sequence(oid('2a864886f70d010c0a0102'))),
    'no content': fileOf(sequence(oid('2a864886f70d010701'))),
    'a MAC of less than none': fileOf(content('01', safe()), mac(integer('ff'))),
    'more after it': Buffer.concat([plain, Buffer.of(0)])
  })) t.throws(() => iterationsOfPfx(pfx), RangeError, name)
})

t.test('a damaged PFX is refused, or gives what the whole one gives', async (t) => {
  /** Calls `check` for files with one bit changed or the end missing: always the same ones. */
  async function damaged (pfx: Buffer, step: number, check: (pfx: Buffer, name: string) => Promise<void>): Promise<void> {
    for (let at = 0; at < pfx.length; at += step) {
      const flipped = Buffer.from(pfx)
      flipped[at] ^= 1 << at % 8
      await check(flipped, `bit ${at % 8} of byte ${at}`)
      await check(pfx.subarray(0, at), `the first ${at} bytes`)
    }
  }
  const right = await unpackPfx(NULL_PASSPHRASE, '')
  let refused = 0
  await damaged(NULL_PASSPHRASE, 7, async (pfx, name) => {
    await unpackPfx(pfx, '').then((got) => t.strictSame(got, right, name), (error) => {
      refused++
      if (!isReadable(error)) t.fail(`${name}: ${error}`)
    })
  })
  t.ok(refused > 200, `${refused} refused`)

  // Without a MAC nothing tells damage inside of a certificate
  await damaged(plain, 5, async (pfx, name) => {
    await unpackPfx(pfx, '').then(({ cert, key }) => {
      if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) t.fail(name)
    }, (error) => isReadable(error) || t.fail(`${name}: ${error}`))
  })
})

function isReadable (error: unknown): boolean {
  return error instanceof Error && error.name === 'Error' && /^[a-z][^\n]{10,200}$/.test(error.message)
}
