/**
 * What files may hold: how it is checked, what is said of it, and what clients get.
 */
import { createPrivateKey } from 'node:crypto'
import { once } from 'node:events'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import type { ServerOptions } from 'node:https'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { kTlsInterface, type TlsInterface } from '../lib/tls-interface.ts'
import { enableTls, type EnableTlsOptions } from '../lib/tls/index.ts'
import { alternatives, dn, extension, identityOf, integer, make, names, oid, pemOf, purposes, seq, SERVER, text } from './fixtures/chains.ts'
import { crlPem, makeCrl, spelledOut } from './fixtures/crls.ts'
import { enabled, fingerprintOf, handshake, INVALID_CERTIFICATES } from './fixtures/enabled.ts'
import { derOf } from './fixtures/forward.ts'
import { pkcs12 } from './fixtures/pkcs12.ts'
import { authority, type Identity, issue, issueServer, lastingDays as days, revocationList, selfSigned } from './fixtures/pki.ts'
import { der, tags } from './fixtures/x509.ts'

const INVALID_OPTIONS = 'FST_HTTP_SECURITY_INVALID_OPTIONS'

const [root, clients] = await Promise.all([authority('Servers', days), authority('Clients', days)])
const [server, jane] = await Promise.all([issueServer(root, ['localhost'], { days }), issue(clients, { subject: 'CN=Jane', days })])
const intermediate = await issue(root, { subject: 'CN=Intermediate', ca: true, purpose: 'none', days })
const chained = await issueServer(intermediate, ['localhost'], { days })
const good = pairOf(server)
/** Without a word on its chain. */
const anchored = { cert: server.cert + root.cert, key: server.key }

function pairOf ({ cert, key }: Identity): Identity {
  return { cert, key }
}

async function refusesOptions (t: Test, input: unknown, message: RegExp | string): Promise<void> {
  await t.rejects(enableTls(input as EnableTlsOptions), { code: INVALID_OPTIONS, message }, String(message))
}

async function refuses (t: Test, input: EnableTlsOptions, message: RegExp | string): Promise<void> {
  await t.rejects(enableTls(input), { code: INVALID_CERTIFICATES, message }, String(message))
}

const refusesCertificate = (t: Test, certificates: EnableTlsOptions['certificates'], message: RegExp | string): Promise<void> =>
  refuses(t, { certificates }, message)

const refusesClients = (t: Test, clientCertificates: EnableTlsOptions['clientCertificates'], message: RegExp | string): Promise<void> =>
  refuses(t, { certificates: good, clientCertificates }, message)

/** What a server shows that has these. */
async function shows (t: Test, certificates: EnableTlsOptions['certificates'], options: tls.ConnectionOptions = { ca: root.cert }): Promise<string> {
  const { port } = await enabled(t, { certificates })
  return (await handshake(port, options)).fingerprint
}

/** Of kinds that the fixtures do not make. */
function openssl (dir: string, name: string, ...args: string[]): Identity {
  const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)]
  execFileSync('openssl', ['req', '-x509', '-nodes', '-subj', `/CN=${name}.test`, '-days', '90', '-keyout', key, '-out', cert, ...args], { stdio: 'pipe' })
  return { cert, key }
}

t.test('invalid options of enableTls are errors that say what is allowed', async (t) => {
  for (const [input, message] of [
    [null, /^options of enableTls: null is not allowed; allowed: an object/],
    [{ certificates: good, cert: '' }, /unknown option 'cert'; known are certificates, development, clientCertificates, sessions, https$/],
    [{ certificates: [] }, /certificates: \[\] is not allowed; allowed: .*at least 1 item/],
    [{ certificates: 'server.pem' }, /certificates: 'server\.pem' is not allowed; allowed: an object/],
    [{ certificates: { cert: 'a.pem' } }, /certificates: key is missing/],
    [{ certificates: { key: 'a.key' } }, /certificates: cert is missing/],
    [{ certificates: { cert: 'a.pem', key: undefined } }, /certificates: key is missing$/],
    [{ certificates: { ...good, pfx: 'a.p12' } }, /certificates: unknown option 'pfx'/],
    [{ certificates: { ...good, passphrase: 1 } }, /passphrase: a value of type number is not allowed; allowed: a string$/],
    [{ certificates: { cert: '', key: 'a.key' } }, /an empty string for a certificate, key or list is not allowed; allowed: the path of a file, PEM text, or a Buffer$/],
    [{ certificates: { cert: 'a.pem', key: { pem: 'x' } } }, /an object for a certificate, key or list is not allowed; allowed: the path of a file, PEM text, or a Buffer$/],
    [{ certificates: { pfx: ['a.p12'] } }, /pfx: a value of type object is not allowed; allowed: a string, a Buffer$/],
    [{ development: 'yes' }, /development: 'yes' is not allowed; allowed: true or false \(no quotes\), an object/],
    [{ development: { directory: 'x' } }, /unknown option 'directory'/],
    [{ certificates: good, https: true }, /https: true is not allowed; allowed: an object$/],
    [{ certificates: good, clientCertificates: 'ca.pem' }, /clientCertificates: 'ca\.pem' is not allowed; allowed: an object/],
    [{ certificates: good, clientCertificates: { ca: [] } }, /clientCertificates: ca: \[\] is not allowed/],
    [{ certificates: good, clientCertificates: { ca: '' } }, /clientCertificates: ca: '' is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { ca: {} } }, /clientCertificates: ca: an object without labels is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { ca: { pem: '' } } }, /clientCertificates: ca: pem: '' is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { ca: ['ca.pem', { pem: 'x' }] } }, /clientCertificates: ca: an object is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { ca: 'ca.pem', crl: '' } }, /clientCertificates: crl: '' is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { ca: 'ca.pem', clr: 'x' } }, /^options of enableTls: clientCertificates: unknown option 'clr'; known are ca, crl, .*\. Did you mean 'crl'\?$/],
    [{ certificates: good, clientCertificates: { ca: ['ca.pem'], clr: ['x'] } }, /clientCertificates: unknown option 'clr'.* Did you mean 'crl'\?$/],
    [{ certificates: good, clientCertificates: { CA: 'ca.pem' } }, /clientCertificates: unknown option 'CA'.* Did you mean 'ca'\?$/],
    [{ certificates: good, clientCertificates: { crl: 'ca.pem' } }, /clientCertificates: ca is missing$/],
    [{ certificates: good, clientCertificates: { ca: 5 } }, /clientCertificates: ca: 5 is not allowed; allowed: a string, a Buffer, an array, an object such as \{ partners: 'partners-ca\.pem' \}$/],
    [{ certificates: good, clientCertificates: { 'can.test': { ca: 'ca.pem', clr: 'x' } } }, /clientCertificates: can\.test: unknown option 'clr'.* Did you mean 'crl'\?$/],
    [{ certificates: good, clientCertificates: { can: { ca: 'ca.pem', clr: 'x' } } }, /clientCertificates: can: unknown option 'clr'/],
    [{ certificates: good, clientCertificates: { 'shop.test': 'ca.pem' } }, /clientCertificates: shop\.test: 'ca\.pem' is not allowed; allowed: an object \{ ca, crl\?, .* \}$/],
    [{ certificates: { ...good, passprase: 'x' } }, /unknown option 'passprase'.* Did you mean 'passphrase'\?$/],
    [{ certificates: { cert: 'a.pem', ky: 'a.key' } }, /certificates: unknown option 'ky'; known are cert, key, passphrase\. Did you mean 'key'\?$/],
    [{ certificates: { certificate: 'a.pem', key: 'a.key' } }, /Did you mean 'cert'\?$/],
    [{ certificates: { pfx: 'a.p12', secret: 'x' } }, /unknown option 'secret'; known are pfx, passphrase$/],
    [{ certificates: [good, { pxf: 'a.p12' }] }, /certificates: 1: unknown option 'pxf'; known are pfx, passphrase\. Did you mean 'pfx'\?$/],
    [{ certificate: good }, /unknown option 'certificate'.* Did you mean 'certificates'\?$/],
    [{ certificates: good, ['certificates'.repeat(1_000)]: {} }, /unknown option 'certificates[^?]*$/],
    [{ development: { host: ['a.test'] } }, /development: unknown option 'host'; known are hosts, dir, clients\. Did you mean 'hosts'\?$/],
    [{ certificates: good, clientCertificates: { 'https://shop.test': { ca: 'ca.pem' } } }, /clientCertificates: 'https:\/\/shop\.test' is not allowed; allowed: ca and crl, or host names such as 'shop\.example' and '\*\.shop\.example'$/],
    [{ certificates: good, clientCertificates: { 'shop.*': { ca: 'ca.pem' } } }, /'shop\.\*' is not allowed/],
    [{ certificates: good, clientCertificates: { 'shop.test': { ca: '' } } }, /clientCertificates: 'shop\.test': ca: '' is not allowed; allowed: the path of a file/],
    [{ certificates: good, clientCertificates: { 'shop.test': { ca: clients.cert }, 'Shop.Test.': { ca: root.cert } } }, /'Shop\.Test\.' is there twice/]
  ] as const) await refusesOptions(t, input, message)
})

t.test('options of enableTls may be inherited, or be read by getters', async (t) => {
  class Settings {
    get certificates () { return good }
    get clientCertificates () { return { ca: root.cert } }
  }
  for (const options of [new Settings(), Object.assign(Object.create({ clientCertificates: { ca: root.cert }, https: { minVersion: 'TLSv1.3' } }) as object, { certificates: good })]) {
    const enabled = await enableTls(options as EnableTlsOptions)
    t.teardown(() => enabled.close())
    t.equal(enabled.https.requestCert, true)
  }
})

t.test('undefined options of enableTls count as left out', async (t) => {
  const nothing = { development: undefined, clientCertificates: undefined, sessions: undefined, https: undefined }
  const some = { ca: clients.cert, crl: undefined, ocsp: undefined, unknown: undefined, legacy: undefined, dir: undefined, allow: undefined }
  const byKey = { ...good, pfx: undefined, passphrase: undefined }
  const byFile = { cert: undefined, key: undefined, pfx: await pkcs12(server, 'secret'), passphrase: 'secret' }
  for (const certificates of [byKey, [byKey], byFile]) {
    const tls = await enableTls({ ...nothing, certificates })
    t.teardown(() => tls.close())
    t.match(tls.certificates(), [{ names: ['localhost', '127.0.0.1'] }])
    t.equal(tls.development, undefined)
    t.equal(tls.https.requestCert, false)
  }
  for (const clientCertificates of [some, { localhost: some }]) {
    const tls = await enableTls({ ...nothing, certificates: good, clientCertificates })
    t.teardown(() => tls.close())
    t.equal(tls.https.requestCert, true)
  }
  const tls = await enableTls({ certificates: good, https: { allowHTTP1: undefined, handshakeTimeout: undefined, secureOptions: undefined, minVersion: undefined } })
  t.teardown(() => tls.close())
  t.match(tls.https, { allowHTTP1: true, handshakeTimeout: 10_000 }, 'options of Node, too')
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  t.notOk('http' in await tls.listen(app, { http: undefined, https: 0, host: undefined }))
})

t.test('enableTls takes exactly one source of certificates', async (t) => {
  const message = /give exactly one source of certificates: certificates, or development$/
  await refusesOptions(t, {}, message)
  await refusesOptions(t, { development: false }, message)
  await refusesOptions(t, { certificates: good, development: true }, message)
  await refusesOptions(t, { certificates: good, development: {} }, message)
  t.equal(await shows(t, [good]), fingerprintOf(server))
  const { port } = await enabled(t, { certificates: good, development: false })
  t.equal((await handshake(port, { ca: root.cert })).fingerprint, fingerprintOf(server))
})

t.test('options of Node that would weaken TLS are refused, and others are passed on', async (t) => {
  for (const name of ['key', 'cert', 'pfx', 'passphrase', 'ca', 'crl', 'secureContext', 'SNICallback', 'requestCert', 'rejectUnauthorized', 'ticketKeys', 'sessionIdContext']) {
    await refusesOptions(t, { certificates: good, https: { [name]: undefined } }, `https: '${name}' is not allowed, for enableTls works it out; certificates and authorities go in certificates and clientCertificates`)
  }
  const { https } = await enableTls({ certificates: good, https: { headersTimeout: 1_000, allowHTTP1: false } as ServerOptions })
  t.match(https, { headersTimeout: 1_000, allowHTTP1: false, rejectUnauthorized: false, handshakeTimeout: 10_000 })
})

t.test('options that OpenSSL refuses are named in the error, and not blamed on a file', async (t) => {
  await refusesOptions(t, { certificates: good, https: { minVersion: 'TLSv9' } }, /https: .*TLSv9/)
  await refusesOptions(t, { certificates: good, https: { ciphers: 'nonsense' } }, /https: .*no cipher match/)
})

t.test('a TLS handshake may take ten seconds at most', async (t) => {
  for (const handshakeTimeout of [0, -1, NaN, 10_001, '5', null]) {
    await refusesOptions(t, { certificates: good, https: { handshakeTimeout } }, `https: handshakeTimeout: ${typeof handshakeTimeout === 'string' ? `'${handshakeTimeout}'` : handshakeTimeout} is not allowed; allowed: 1 to 10000 milliseconds`)
  }
  const { port } = await enabled(t, { certificates: good, https: { handshakeTimeout: 200 } })
  const silent = net.connect(port, '127.0.0.1')
  await once(silent.resume(), 'close')
  const { https } = await enableTls({ certificates: good, https: { handshakeTimeout: 10_000 } })
  t.equal(https.handshakeTimeout, 10_000)
})

t.test('a server certificate may be a file, PEM text or a Buffer', async (t) => {
  const dir = t.testdir({ 'server.pem': server.cert, 'server.key': server.key, 'clients.pem': clients.cert })
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  process.chdir(dir)
  for (const certificates of [
    { cert: join(dir, 'server.pem'), key: join(dir, 'server.key') },
    { cert: 'server.pem', key: './server.key' },
    good,
    { cert: Buffer.from(server.cert), key: new Uint8Array(Buffer.from(server.key)) }
  ]) t.equal(await shows(t, certificates), fingerprintOf(server))
  for (const ca of ['clients.pem', ['clients.pem'], clients.cert, Buffer.from(clients.cert), [Buffer.from(root.cert), clients.cert]]) {
    const { get } = await enabled(t, { certificates: good, clientCertificates: { ca } })
    t.match(await get('/mtls', jane), { status: 200, body: 'CN=Jane' })
  }
  await refuses(t, { certificates: { cert: 'other.pem', key: 'server.key' } }, /^other\.pem: cannot be read: ENOENT/)
})

t.test('errors of certificates that are no file name the option', async (t) => {
  const cut = server.cert.slice(0, 200)
  await refusesCertificate(t, { cert: cut, key: server.key }, /^certificates\[0\]\.cert: is cut off/)
  await refusesCertificate(t, [good, { cert: Buffer.from('x'), key: server.key }], /^certificates\[1\]\.cert: holds no certificate/)
  await refusesCertificate(t, { cert: server.cert, key: Buffer.from('x') }, /^certificates\[0\]\.key: holds no private key/)
  await refusesClients(t, { ca: cut }, /^clientCertificates\.ca: is cut off/)
  await refusesClients(t, { ca: clients.cert, crl: Buffer.from('x') }, /^clientCertificates\.crl: holds no CRL/)
  await refusesClients(t, { 'shop.test': { ca: cut } }, /^clientCertificates\['shop\.test'\]\.ca: is cut off/)
})

t.test('errors of a malformed private key do not contain it', async (t) => {
  const key = Buffer.from(server.key).toString('base64')
  const error: Error = await enableTls({ certificates: { cert: server.cert, key } }).then(() => { throw new Error('taken') }, (error) => error)
  t.match(error, { code: INVALID_CERTIFICATES, message: /key/ })
  t.notMatch(error.message, key.slice(60, 120))
})

t.test('a file that cannot be read is named, with the reason', async (t) => {
  const dir = t.testdir({ 'server.key': server.key, empty: '', large: '', directory: {} })
  truncateSync(join(dir, 'large'), 128 * 1024 * 1024 + 1)
  execFileSync('mkfifo', [join(dir, 'pipe')])
  for (const [name, reason] of [
    ['missing', /: cannot be read: ENOENT/],
    ['empty', /: cannot be read: it is empty$/],
    ['large', /: cannot be read: it has more than 134217728 bytes$/],
    ['directory', /: cannot be read: it is not a regular file$/],
    ['pipe', /: cannot be read: it is not a regular file$/]
  ] as const) {
    const path = join(dir, name)
    const message = new RegExp(`^${path}${reason.source}`)
    await refusesCertificate(t, { cert: path, key: server.key }, message)
    await refusesCertificate(t, { cert: server.cert, key: path }, message)
    await refusesCertificate(t, { pfx: path }, message)
    await refusesClients(t, { ca: path }, message)
    if (name !== 'missing') await refusesClients(t, { ca: clients.cert, crl: path }, message)
  }
  await refusesCertificate(t, { pfx: join(dir, 'server.key'), passphrase: 'x' }, /server\.key: /)
})

t.test('damaged PEM is refused, also where Node would take it', async (t) => {
  const [begin, ...lines] = server.cert.trim().split('\n')
  const end = lines.pop()!
  const cases: Array<[cert: string, message: RegExp]> = [
    ['garbage', /cannot be read: ENOENT/],
    [server.key, /: holds no certificate \(PEM, "-----BEGIN CERTIFICATE-----"\)$/],
    [server.cert.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'), /: holds no certificate/],
    [[begin, ...lines].join('\n'), /: is cut off: "-----BEGIN CERTIFICATE-----" has no "-----END CERTIFICATE-----"$/],
    [[begin, ...lines, end].join('\n') + chained.cert.slice(0, 300), /: is cut off/],
    [[begin, ...lines.slice(2), begin, ...lines, end].join('\n'), /: is cut off/],
    [[begin, ...lines, '-----END PRIVATE KEY-----'].join('\n'), /: is cut off/],
    [[begin, '!', ...lines, end].join('\n'), /: has a CERTIFICATE block that is not base64$/],
    [[begin, end].join('\n'), /: its first certificate does not parse$/],
    [begin! + end, /: its first certificate does not parse$/],
    [[begin, ...lines.slice(1), end].join('\n'), /: its first certificate does not parse$/],
    [[begin, ...lines.slice(0, -2), end].join('\n'), /: its first certificate does not parse$/],
    [pemOf('CERTIFICATE', Buffer.concat([derOf(server.cert), Buffer.from([0])])), /: its first certificate does not parse$/],
    [server.cert + intermediate.cert + pemOf('CERTIFICATE', Buffer.from('x')), /: its third certificate does not parse$/],
    [`${server.cert.repeat(3)}${pemOf('CERTIFICATE', Buffer.from('x'))}`, /: its 4th certificate does not parse$/]
  ]
  for (const [cert, message] of cases) {
    await refusesCertificate(t, { cert, key: server.key }, message)
    await refusesClients(t, { ca: cert }, message)
  }
})

t.test('text around PEM, line ends and other PEM blocks in the file make no difference', async (t) => {
  const all = `Bag Attributes\r\n  friendlyName: shop\r\n${server.key}subject=CN=localhost\n${server.cert.replaceAll('\n', '\r\n')}`
  t.equal(await shows(t, { cert: all, key: all }), fingerprintOf(server))
  const dir = t.testdir()
  execFileSync('openssl', ['ecparam', '-name', 'prime256v1', '-genkey', '-out', join(dir, 'ec.key')], { stdio: 'pipe' })
  execFileSync('openssl', ['req', '-x509', '-subj', '/CN=localhost', '-days', '90', '-key', join(dir, 'ec.key'), '-out', join(dir, 'ec.pem')], { stdio: 'pipe' })
  t.match(readFileSync(join(dir, 'ec.key'), 'utf8'), 'EC PARAMETERS')
  t.ok(await shows(t, { cert: join(dir, 'ec.pem'), key: join(dir, 'ec.key') }, { rejectUnauthorized: false }))
})

t.test('an encrypted private key is opened with its passphrase, and with no other', async (t) => {
  const rsa = await issueServer(root, ['localhost'], { keys: 'RSA' })
  const encrypted = (key: string, type: 'pkcs8' | 'pkcs1' | 'sec1'): string =>
    createPrivateKey(key).export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'open sesame' } as never) as unknown as string
  for (const [{ cert, key }, type, mark] of [
    [server, 'pkcs8', 'BEGIN ENCRYPTED PRIVATE KEY'],
    [server, 'sec1', 'DEK-Info: AES-256-CBC'],
    [rsa, 'pkcs8', 'BEGIN ENCRYPTED PRIVATE KEY'],
    [rsa, 'pkcs1', 'DEK-Info: AES-256-CBC']
  ] as const) {
    const text = encrypted(key, type)
    t.match(text, mark)
    const path = join(t.testdirName, 'server.key')
    t.testdir({ 'server.key': text })
    t.equal(await shows(t, { cert, key: path, passphrase: 'open sesame' }), fingerprintOf({ cert }))
    await refusesCertificate(t, { cert, key: path, passphrase: 'wrong' }, /server\.key: cannot be opened with this passphrase \(/)
    await refusesCertificate(t, { cert, key: path, passphrase: '' }, /server\.key: cannot be opened with this passphrase \(/)
    await refusesCertificate(t, { cert, key: path }, /server\.key: is encrypted, and no passphrase was given \(/)
  }
  t.equal(await shows(t, { ...good, passphrase: 'not needed' }), fingerprintOf(server))
  await refusesCertificate(t, { cert: server.cert, key: server.cert }, /: holds no private key in PEM that can be read \(/)
  await refusesCertificate(t, { cert: server.cert, key: pemOf('PRIVATE KEY', seq(integer(0))) }, /: holds no private key in PEM that can be read \(/)
  await refusesCertificate(t, { cert: server.cert, key: server.key.slice(0, 100) }, /: holds no private key in PEM that can be read \(/)
})

t.test('key derivation work of an encrypted private key is bounded, and checked before OpenSSL runs it', async (t) => {
  const dir = t.testdir({ 'server.key': server.key })
  const converted = (...args: string[]): string => {
    execFileSync('openssl', ['pkcs8', '-topk8', '-in', 'server.key', '-out', 'other.key', '-passout', 'pass:open sesame', ...args], { cwd: dir, stdio: 'pipe' })
    return readFileSync(join(dir, 'other.key'), 'utf8')
  }
  for (const [what, ...args] of [['PBKDF2', '-v2', 'aes-256-cbc', '-iter', '100000'], ['scrypt', '-scrypt'], ['Triple DES', '-v1', 'PBE-SHA1-3DES']] as const) {
    const tls = await enableTls({ certificates: { cert: server.cert, key: converted(...args), passphrase: 'open sesame' } })
    tls.close()
    t.pass(what)
  }
  const salted = (...parts: Buffer[]) => seq(der(tags.octetString, Buffer.alloc(16)), ...parts)
  const numbers = (...all: string[]) => all.map((hex) => der(2, Buffer.from(hex, 'hex')))
  const encrypted = (algorithm: Buffer, ...more: Buffer[]) => seq(algorithm, der(tags.octetString, Buffer.alloc(64)), ...more)
  const pbes2 = (derivation: string, ...parameters: Buffer[]) => encrypted(seq(oid('1.2.840.113549.1.5.13'), seq(seq(oid(derivation), salted(...parameters)), seq(oid('2.16.840.1.101.3.4.1.42'), der(tags.octetString, Buffer.alloc(16))))))
  const [PBKDF2, SCRYPT] = ['1.2.840.113549.1.5.12', '1.3.6.1.4.1.11591.4.11']
  const began = performance.now()
  const refusesKey = async (key: string | Buffer, message: RegExp, passphrase = 'open sesame') => {
    await refusesCertificate(t, { cert: server.cert, key, passphrase }, message)
  }
  const tooMany = /^certificates\[0\]\.key: asks for more than 5 million iterations, or for none$/
  for (const label of ['ENCRYPTED PRIVATE KEY', 'PRIVATE KEY', 'EC PRIVATE KEY']) {
    for (const key of [
      ...['7fffffff', '4c4b41', '00', '7fffffffffffffff'].map((iterations) => pbes2(PBKDF2, ...numbers(iterations))),
      pbes2(PBKDF2, ...numbers('7fffffff'), seq(oid('1.2.840.113549.2.9'))),
      // N × r × p: in 32 MiB that OpenSSL may take for it, for hours
      pbes2(SCRYPT, ...numbers('020000', '01', '020000')),
      pbes2(SCRYPT, ...numbers('4000', '08', '40')),
      pbes2(SCRYPT, ...numbers('4000', '08', '00')),
      encrypted(seq(oid('1.2.840.113549.1.12.1.3'), salted(...numbers('7fffffff')))),
      encrypted(seq(oid('1.2.840.113549.1.5.10'), salted(...numbers('7fffffff'))))
    ]) await refusesKey(pemOf(label, key), tooMany)
    const unreadable = /^certificates\[0\]\.key: holds no private key in PEM that can be read \(it is no key in DER, or encrypted otherwise than by PKCS #5\)$/
    for (const key of [
      pbes2('1.2.3', ...numbers('01')),
      pbes2(PBKDF2),
      pbes2(SCRYPT, ...numbers('4000', '08')),
      encrypted(seq(oid('1.2.3'), salted(...numbers('01')))),
      encrypted(seq(oid('1.2.840.113549.1.5.10'), salted())),
      seq(seq(oid('1.2.3')), seq()),
      pbes2(PBKDF2, ...numbers('ff')),
      pbes2(PBKDF2, ...numbers('0001')),
      // In BER, which OpenSSL reads
      Buffer.concat([Buffer.of(0x30, 0x80), pbes2(PBKDF2, ...numbers('7fffffff')).subarray(3), Buffer.alloc(2)]),
      Buffer.alloc(0)
    ]) await refusesKey(pemOf(label, key), unreadable)
  }
  await refusesKey(pemOf('ENCRYPTED PRIVATE KEY', encrypted(seq(oid('1.2.840.113549.1.5.10'), salted(...numbers('01'))), seq())), /holds no private key/)
  const dirOfFile = t.testdir({ 'server.key': pemOf('ENCRYPTED PRIVATE KEY', pbes2(PBKDF2, ...numbers('7fffffff'))) })
  await refusesKey(join(dirOfFile, 'server.key'), /server\.key: asks for more than 5 million iterations, or for none$/)
  t.ok(performance.now() - began < 2_000, 'and no request waits for it')
})

t.test('certificate and key may be in one PFX file', async (t) => {
  const dir = t.testdir({ 'server.pem': chained.cert + intermediate.cert, 'server.key': chained.key })
  execFileSync('openssl', ['pkcs12', '-export', '-in', 'server.pem', '-inkey', 'server.key', '-passout', 'pass:open sesame', '-out', 'server.p12'], { cwd: dir, stdio: 'pipe' })
  const pfx = join(dir, 'server.p12')
  for (const each of [pfx, readFileSync(pfx)]) t.equal(await shows(t, { pfx: each, passphrase: 'open sesame' }), fingerprintOf(chained))
  await refusesCertificate(t, { pfx, passphrase: 'wrong' }, /server\.p12: cannot be opened: the passphrase is wrong/)
  await refusesCertificate(t, { pfx }, /server\.p12: cannot be opened/)
  await refusesCertificate(t, { pfx: Buffer.from('x') }, /^certificates\[0\]\.pfx: is no PFX/)
})

t.test('a private key has to match the first certificate', async (t) => {
  const dir = t.testdir({
    'server.pem': server.cert,
    'other.key': chained.key,
    'second.pem': intermediate.cert + chained.cert,
    'third.pem': root.cert + intermediate.cert + chained.cert,
    'fourth.pem': root.cert + root.cert + intermediate.cert + chained.cert
  })
  await refusesCertificate(t, { cert: join(dir, 'server.pem'), key: join(dir, 'other.key') }, /other\.key: is not the key of .*server\.pem \(CN=localhost\)$/)
  for (const place of ['second', 'third']) {
    await refusesCertificate(t, { cert: join(dir, `${place}.pem`), key: chained.key }, new RegExp(`${place}\\.pem: has the server's own certificate in the ${place} place: it has to come first`))
  }
  await refusesCertificate(t, { cert: join(dir, 'fourth.pem'), key: chained.key }, /in the 4th place/)
})

t.test('a chain goes from each certificate to its issuer', async (t) => {
  const other = await issue(await authority('Servers'), { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
  t.equal(await shows(t, { cert: chained.cert + intermediate.cert, key: chained.key }), fingerprintOf(chained))
  t.equal(await shows(t, { cert: chained.cert + intermediate.cert + root.cert, key: chained.key }), fingerprintOf(chained))
  await refusesCertificate(t, { cert: chained.cert + root.cert, key: chained.key }, /: is not a chain: its second certificate \(CN=Servers\) did not issue its first \(CN=localhost\)$/)
  await refusesCertificate(t, { cert: chained.cert + intermediate.cert + clients.cert, key: chained.key }, /: is not a chain: its third certificate \(CN=Clients\) did not issue its second \(CN=Intermediate\)$/)
  await refusesCertificate(t, { cert: chained.cert + other.cert, key: chained.key }, /: is not a chain: its second certificate \(CN=Intermediate\) did not issue its first/)
  await refusesCertificate(t, { cert: server.cert + chained.cert, key: server.key }, /: is not a chain/)
})

t.test('an expired certificate in the chain of the server is an error', async (t) => {
  const nameless = await issue(root, { subject: '', days: [-20, -10], purpose: 'server', serialNumber: '4a11ce', san: [{ type: 'dns', value: 'localhost' }] })
  await refusesCertificate(t, pairOf(nameless), /: serial number 4A11CE has expired, on .* GMT$/)
  await refusesCertificate(t, pairOf(await issueServer(root, ['localhost'], { days: [-20, -10] })), /: CN=localhost has expired, on /)
  await refusesCertificate(t, pairOf(await issueServer(root, ['localhost'], { days: [1, 10] })), /: CN=localhost is not valid before /)
  const past = await issue(root, { subject: 'CN=Past', ca: true, purpose: 'none', days: [-20, -10] })
  const leaf = await issueServer(past)
  await refusesCertificate(t, { cert: leaf.cert + past.cert, key: leaf.key }, /: CN=Past has expired, on /)
})

t.test('a server certificate without the purpose of servers is an error', async (t) => {
  const dir = t.testdir()
  await refusesCertificate(t, pairOf(await issue(root, { subject: 'CN=localhost' })), /: CN=localhost is not for servers: its extended key usage has no serverAuth$/)
  const any = await issue(root, { subject: 'CN=localhost', purpose: 'none' })
  t.equal(await shows(t, pairOf(any)), fingerprintOf(any), 'for anything')
  t.ok(await shows(t, openssl(dir, 'any', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-addext', 'extendedKeyUsage=anyExtendedKeyUsage'), { rejectUnauthorized: false }), 'for anything, in so many words')
})

t.test('a server certificate that OpenSSL refuses is an error at boot, and not in a handshake', async (t) => {
  const weak = openssl(t.testdir(), 'weak', '-newkey', 'rsa:512')
  await refusesCertificate(t, weak, /weak\.pem: OpenSSL does not take it: .*key too small/)
  await refusesCertificate(t, [good, weak], /weak\.pem: OpenSSL does not take it: .*key too small/)
  await refuses(t, { certificates: weak, clientCertificates: { ca: clients.cert } }, /weak\.pem with the authorities of clientCertificates: OpenSSL does not take it: .*key too small/)
})

t.test('SNI chooses the server certificate, and the first one is for all other hosts', async (t) => {
  const names = [['first.test'], ['*.shop.test', 'shop.test'], ['api.shop.test', '*.deep.shop.test'], ['first.test', 'late.test']]
  // Some with an intermediate certificate, which clients have to get with it, and not with another
  const all = await Promise.all(names.map(async (each, index) => {
    const { cert, key } = await issueServer(index % 2 === 0 ? root : intermediate, each)
    return { cert: index % 2 === 0 ? cert : cert + intermediate.cert, key }
  }))
  const { port, tls } = await enabled(t, { certificates: all.map(pairOf) })
  const fingerprints = all.map(fingerprintOf)
  for (const [servername, index, why] of [
    [undefined, 0, 'no name'],
    ['unknown.test', 0, 'unknown'],
    ['first.test', 0, 'whoever comes first keeps a name'],
    ['late.test', 3, 'exact'],
    ['shop.test', 1, 'exact'],
    ['www.shop.test', 1, 'wildcard'],
    ['WWW.Shop.Test', 1, 'wildcard in another case'],
    ['www.shop.test.', 1, 'wildcard with a trailing dot'],
    ['api.shop.test', 2, 'exact before wildcard'],
    ['API.SHOP.TEST.', 2, 'exact in another case with a trailing dot'],
    ['a.deep.shop.test', 2, 'wildcard of another'],
    ['a.www.shop.test', 0, 'a wildcard is one label'],
    ['deep.shop.test', 1, 'and not none'],
    ['localhost', 0, 'no dot']
  ] as const) {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { fingerprint } = await handshake(port, { ca: root.cert, servername, minVersion: version, maxVersion: version })
      t.equal(fingerprints.indexOf(fingerprint), index, `${servername ?? ''} ${why} ${version}`)
    }
  }
  t.strictSame(tls.certificates().map(({ names }) => names), names.map((each) => [...each, '127.0.0.1']))
  const link = Reflect.get(tls, kTlsInterface) as TlsInterface
  for (const [host, isCovered] of [['first.test', true], ['www.shop.test', true], ['127.0.0.1', true], ['a.www.shop.test', false], ['[::1]', false]] as const) {
    t.equal(link.covers(host), isCovered, host)
  }
})

t.test('a server certificate that no host would be served is an error, and overlapping names are a warning', async (t) => {
  const [one, same, more, other, address, nameless] = await Promise.all([
    issueServer(root, ['shop.test', '*.shop.test'], { days }), issueServer(root, ['SHOP.test.', '*.Shop.test'], { days }), issueServer(root, ['shop.test', 'api.test'], { days }),
    issueServer(root, ['other.test'], { days }),
    issue(root, { purpose: 'server', days, san: [{ type: 'ip', value: '127.0.0.1' }] }), issue(root, { subject: 'O=Acme', purpose: 'server', days })
  ])
  const dir = t.testdir({ 'one.pem': one.cert + root.cert, 'one.key': one.key, 'same.pem': same.cert + root.cert, 'same.key': same.key, 'more.pem': more.cert + root.cert, 'more.key': more.key })
  const at = (name: string) => ({ cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) })
  const never = /same\.pem: would never be served: shop\.test and \*\.shop\.test are served with .*one\.pem, which comes first, and a host has one certificate for each kind of key \(EC\)$/
  await refusesCertificate(t, [at('one'), at('same')], never)
  await refusesCertificate(t, [pairOf(other), at('one'), at('same')], never)
  await refusesCertificate(t, [at('same'), at('one')], /one\.pem: would never be served: shop\.test and \*\.shop\.test are served with .*same\.pem/)
  await refusesCertificate(t, [at('one'), at('one')], /one\.pem: would never be served: .* are served with .*one\.pem/)
  await refusesCertificate(t, [at('more'), at('one'), at('same')], /same\.pem: would never be served: shop\.test is served with .*more\.pem, \*\.shop\.test is served with .*one\.pem, which come first, and a host has one certificate for each kind of key \(EC\)$/)
  const many = pairOf(await issueServer(root, Array.from({ length: 9 }, (_, index) => `${index}.test`), { days }))
  await refusesCertificate(t, [many, many], /would never be served: 0\.test, 1\.test, 2\.test and 6 more are served with certificates\[0\]\.cert, which comes first/)
  await refusesCertificate(t, [pairOf(other), pairOf(address)], /^certificates\[1\]\.cert: would never be served: it names no host but addresses, which clients do not name in a handshake \(RFC 6066 §3\); put it first$/)
  await refusesCertificate(t, [pairOf(other), pairOf(nameless)], /^certificates\[1\]\.cert: would never be served: it names no host; put it first$/)

  const { tls, port, complaints } = await enabled(t, { certificates: [at('one'), at('more'), pairOf(other)] })
  t.strictSame(complaints().filter((line) => /served/.test(line)), [`http-security: ${join(dir, 'more.pem')}: shop.test is served with ${join(dir, 'one.pem')}, which comes first`])
  t.equal((await handshake(port, { ca: root.cert, servername: 'api.test' })).fingerprint, fingerprintOf(more))
  for (const file of ['pem', 'key']) writeFileSync(join(dir, `more.${file}`), readFileSync(join(dir, `same.${file}`)))
  await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message: /more\.pem: would never be served/ })
  t.equal((await handshake(port, { ca: root.cert, servername: 'api.test' })).fingerprint, fingerprintOf(more))
})

t.test('the hosts of a server certificate are its alternative names, and only without them its common name', async (t) => {
  const dir = t.testdir()
  const [both, common, mail] = await Promise.all([
    issue(root, { subject: 'CN=common.test', purpose: 'server', san: [{ type: 'dns', value: 'Alternative.TEST.' }, { type: 'ip', value: '::1' }] }),
    issue(root, { subject: 'CN=Common.Test, O=Acme', purpose: 'server' }),
    issue(root, { subject: 'CN=mail.test', purpose: 'server', san: [{ type: 'email', value: 'a@mail.test' }] })
  ])
  writeFileSync(join(dir, 'common.pem'), common.cert)
  const { tls, port, complaints } = await enabled(t, { certificates: [pairOf(both), { cert: join(dir, 'common.pem'), key: common.key }, pairOf(mail)] })
  t.strictSame(tls.certificates().map(({ names }) => names), [['alternative.test', '::1'], ['common.test'], ['mail.test']])
  for (const [servername, each] of [['alternative.test', both], ['common.test', common], ['mail.test', mail]] as const) {
    t.equal((await handshake(port, { ca: root.cert, servername })).fingerprint, fingerprintOf(each), servername)
  }
  const [, row] = tls.certificates()
  t.match(row, {
    subject: 'CN=Common.Test, O=Acme',
    issuer: 'CN=Servers',
    fingerprint256: fingerprintOf(common).replaceAll(':', '').toLowerCase(),
    source: join(dir, 'common.pem')
  })
  t.ok(row!.pending === undefined && row!.validFrom < new Date() && new Date() < row!.validUntil)
  for (const part of [tls, tls.certificates(), row, row!.names]) t.ok(Object.isFrozen(part))
  t.notMatch(complaints().join('\n'), 'names no host')

  const unnamedServer = await issue(root, { subject: 'O=Acme', purpose: 'server' })
  const unnamed = await enabled(t, { certificates: pairOf(unnamedServer) })
  t.match(unnamed.complaints(), ['http-security: certificates[0].cert: names no host, so that no client takes it for one'])
})

t.test('a server certificate whose issuer clients can hardly know is a warning', async (t) => {
  const complaintsOf = async (certificates: EnableTlsOptions['certificates']): Promise<string[]> => (await enabled(t, { certificates })).complaints()
  t.strictSame(await complaintsOf({ cert: chained.cert + intermediate.cert + root.cert, key: chained.key }), [])
  t.strictSame(await complaintsOf(pairOf(await selfSigned({ subject: 'CN=localhost', purpose: 'server', days }))), [])
  t.strictSame(await complaintsOf(good), ['http-security: certificates[0].cert: the chain ends with CN=localhost, whose issuer CN=Servers is not in the file and no public root: clients have to know it'])
})

t.test('certificates with keys of different kinds are each served for their own hosts', async (t) => {
  const [rsa, ec, ed] = await Promise.all((['RSA', 'EC', 'Ed'] as const).map(async (keys) => ({ name: `${keys.toLowerCase()}.test`, ...pairOf(await issueServer(root, [`${keys}.test`], { keys })) })))
  for (const order of [[rsa, ec, ed], [rsa, ed, ec], [ec, rsa, ed], [ec, ed, rsa], [ed, rsa, ec], [ed, ec, rsa], [rsa, ec], [ec, rsa], [ed, ec], [ec, ed], [rsa, ed], [ed, rsa]]) {
    await showsEach(t, order)
  }
})

t.test('certificates with keys of similar kinds are each served for their own hosts', async (t) => {
  const dir = t.testdir()
  const kinds = {
    rsa: ['rsa:2048'],
    pss: ['rsa-pss', '-pkeyopt', 'rsa_keygen_bits:2048'],
    ed25519: ['ed25519'],
    ed448: ['ed448'],
    p256: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    p384: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']
  }
  const made = Object.fromEntries(Object.entries(kinds).map(([name, kind]) =>
    [name, { name: `${name}.test`, ...openssl(dir, name, '-newkey', ...kind, '-addext', `subjectAltName=DNS:${name}.test`) }])) as Record<keyof typeof kinds, Identity & { name: string }>
  for (const [one, other] of [['rsa', 'pss'], ['ed25519', 'ed448'], ['p256', 'p384']] as const) {
    await showsEach(t, [made[one], made[other]])
    await showsEach(t, [made[other], made[one]])
  }
})

/** Asks for each by its name, and for none, over every version. */
async function showsEach (t: Test, certificates: ReadonlyArray<Identity & { name: string }>): Promise<void> {
  const { port } = await enabled(t, { certificates: certificates.map(pairOf) })
  const order = certificates.map(({ name }) => name).join(', ')
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const servername of [undefined, ...certificates.map(({ name }) => name)]) {
      const { subject } = await handshake(port, { rejectUnauthorized: false, servername, minVersion: version, maxVersion: version })
      t.equal(subject.toLowerCase(), `cn=${servername ?? certificates[0]!.name}`, `${order}: ${servername ?? 'no name'} over ${version}`)
    }
  }
}

t.test('the option ciphers applies to certificates with keys of different kinds', async (t) => {
  const rsa = await issueServer(root, ['rsa.test'], { keys: 'RSA' })
  const { port } = await enabled(t, { certificates: [good, pairOf(rsa)], https: { ciphers: 'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384', maxVersion: 'TLSv1.2' } })
  for (const [servername, each] of [['localhost', server], ['rsa.test', rsa]] as const) {
    t.match(await handshake(port, { ca: root.cert, servername }), { cipher: /AES256-GCM-SHA384/, fingerprint: fingerprintOf(each) }, servername)
    await t.rejects(handshake(port, { ca: root.cert, servername, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256' }))
  }
})

t.test('the option ciphers with TLS 1.3 ciphers alone applies to certificates with keys of different kinds', async (t) => {
  const rsa = await issueServer(root, ['rsa.test'], { keys: 'RSA' })
  const { port } = await enabled(t, { certificates: [good, pairOf(rsa)], https: { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_256_GCM_SHA384' } })
  t.match(await handshake(port, { ca: root.cert, servername: 'rsa.test' }), { cipher: 'TLS_AES_256_GCM_SHA384', subject: 'CN=rsa.test' })
})

t.test('the option sigalgs applies to certificates with keys of different kinds', async (t) => {
  const rsa = await issueServer(root, ['rsa.test'], { keys: 'RSA' })
  const { port } = await enabled(t, { certificates: [good, pairOf(rsa)], https: { sigalgs: 'ecdsa_secp256r1_sha256:RSA-PSS+SHA512' } })
  t.equal((await handshake(port, { ca: root.cert, servername: 'rsa.test' })).subject, 'CN=rsa.test')
  await t.rejects(handshake(port, { ca: root.cert, servername: 'rsa.test', sigalgs: 'rsa_pss_rsae_sha256' }), 'none but those')
})

t.test('client CAs have to be CA certificates', async (t) => {
  const dir = t.testdir({ 'jane.pem': clients.cert + jane.cert })
  await refusesClients(t, { ca: join(dir, 'jane.pem') }, /jane\.pem: CN=Jane is no authority \(RFC 5280 §4\.2\.1\.9\)$/)
  await refusesClients(t, { ca: [join(dir, 'jane.pem'), join(dir, 'missing.pem')], crl: join(dir, 'jane.pem') }, /jane\.pem: CN=Jane is no authority/)
  await refusesClients(t, { ca: [join(dir, 'missing.pem'), join(dir, 'jane.pem')] }, /missing\.pem: cannot be read: ENOENT/)
  const alone = await selfSigned({ subject: 'CN=Alone', days })
  const { get, complaints } = await enabled(t, { certificates: anchored, clientCertificates: { ca: [clients.cert, alone.cert] } })
  t.match(await get('/mtls', alone), { status: 200, body: 'CN=Alone' }, 'a client that vouches for itself may be meant')
  t.match(await get('/mtls', jane), { status: 200 })
  t.match(await get('/mtls', await selfSigned({ subject: 'CN=Alone' })), { status: 403, body: /CERTIFICATE_UNTRUSTED/ })
  t.strictSame(complaints(), [])
})

/** Authorities whose names have so many bytes in a CertificateRequest. */
function authoritiesOf (octets: number): string {
  const sizes = [...Array<number>(Math.floor(octets / 8_000) - 1).fill(8_000), 8_000 + octets % 8_000]
  return sizes.map((size) => {
    const lengthOf = (value: number): number => dn(`O=${'x'.repeat(value)}`).length + 2
    return make({ ca: true, subject: `O=${'x'.repeat(2 * size - lengthOf(size))}` }).pem
  }).join('')
}

t.test('more client CAs than a handshake can carry are an error with their number', async (t) => {
  const many = /clientCertificates: the names of the 8 authorities have 65536 bytes with their lengths, and the CertificateRequest of a handshake holds 65535 \(RFC 5246 §7\.4\.4, RFC 8446 §4\.2\.4\): every handshake would fail$/
  const tooMany = authoritiesOf(65_536)
  await refusesClients(t, { ca: tooMany }, many)
  await refusesClients(t, { 'shop.test': { ca: tooMany } }, /^clientCertificates\['shop\.test'\]: the names of the 8 authorities have 65536 bytes/)
  // TLS 1.3 has other things in the same place
  await refusesClients(t, { ca: authoritiesOf(65_500) }, /^a handshake with certificates\[0\]\.cert and the authorities of clientCertificates fails: internal error$/)
  await refusesClients(t, { localhost: { ca: authoritiesOf(65_500) } }, /^a handshake with certificates\[0\]\.cert and the authorities of .* fails: internal error$/)

  const dir = t.testdir({ 'clients.pem': clients.cert })
  const { tls, get } = await enabled(t, { certificates: good, clientCertificates: { ca: join(dir, 'clients.pem') } })
  for (const [ca, message] of [[clients.cert + tooMany, /the names of the 9 authorities have/], [clients.cert + authoritiesOf(65_505), /^a handshake with .* fails: /]] as const) {
    writeFileSync(join(dir, 'clients.pem'), ca)
    await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message })
    t.match(await get('/mtls', jane), { status: 200, body: 'CN=Jane' }, 'what was in force stays')
  }
  writeFileSync(join(dir, 'clients.pem'), clients.cert + authoritiesOf(65_000))
  await t.resolves(tls.reload())
  t.match(await get('/mtls', jane), { status: 200, body: 'CN=Jane' })
})

t.test('certificates that no client could connect to are refused, at boot and at a reload', async (t) => {
  const large = { large: extension('1.2.3.4.5', Buffer.alloc(60_000)) }
  const above = make({ ca: true, extensions: large })
  const below = make({ ca: true, issuer: above, extensions: large })
  const leaf = make({ issuer: below, extensions: { purposes: purposes(SERVER), san: alternatives(names.dns('large.test')) } })
  const tooLong = { cert: leaf.pem + below.pem + above.pem, key: identityOf(leaf).key }
  await refusesCertificate(t, tooLong, /^a handshake with certificates\[0\]\.cert fails: excessive message size$/)
  await refusesCertificate(t, [good, tooLong], /^a handshake with certificates\[1\]\.cert fails: excessive message size$/)
  const rsa = pairOf(await issueServer(root, ['rsa.test', 'localhost'], { keys: 'RSA' }))
  await refuses(t, { certificates: [good, rsa], https: { sigalgs: 'ecdsa_secp256r1_sha256' } }, /^a handshake with certificates\[1\]\.cert fails: (?:another certificate is shown|no suitable signature algorithm)$/)
  for (const https of [{ ecdhCurve: 'brainpoolP256r1', maxVersion: 'TLSv1.2' }, { ecdhCurve: 'P-384:prime256v1' }, { secureProtocol: 'TLSv1_2_server_method' }] as const) {
    t.ok(await enableTls({ certificates: good, https }).then((tls) => { tls.close(); return tls }), JSON.stringify(https))
  }

  // The ciphers are for RSA, those of TLS 1.3 for every key
  const rsaOnly = { ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256' }
  const dir = t.testdir({ 'server.pem': rsa.cert, 'server.key': rsa.key })
  const files = { cert: join(dir, 'server.pem'), key: join(dir, 'server.key') }
  const write = ({ cert, key }: { cert: string, key: string }): void => { writeFileSync(files.cert, cert); writeFileSync(files.key, key) }
  const older = { ca: root.cert, maxVersion: 'TLSv1.2' } as const
  const served = await enabled(t, { certificates: files, https: rsaOnly })
  t.notMatch(served.complaints().join('\n'), /TLS 1\.2/)
  write(good)
  await t.rejects(served.tls.reload(), { code: INVALID_CERTIFICATES, message: /^a handshake over TLS 1\.2 with .*server\.pem fails: no shared cipher$/ })
  t.equal((await handshake(served.port, older)).fingerprint, fingerprintOf(rsa), 'who was served is served')
  const unserved = await enabled(t, { certificates: files, https: rsaOnly })
  t.match(unserved.complaints().join('\n'), /a handshake over TLS 1\.2 with .*server\.pem fails: no shared cipher; if that is meant, give https: \{ minVersion: 'TLSv1\.3' \}/)
  await t.rejects(handshake(unserved.port, older))
  write(anchored)
  await t.resolves(unserved.tls.reload(), 'no client was served before')
})

t.test('test handshakes try new certificates alone, and do not block the event loop', async (t) => {
  const dir = t.testdir()
  const write = async (name: string): Promise<void> => {
    const { cert, key } = await issueServer(root, [`${name}.test`], { days })
    writeFileSync(join(dir, `${name}.pem`), cert)
    writeFileSync(join(dir, `${name}.key`), key)
  }
  const hosts = Array.from({ length: 20 }, (_, index) => `host${index}`)
  for (const host of hosts) await write(host)
  const { connect } = tls
  t.teardown(() => { tls.connect = connect; syncBuiltinESMExports() })
  let tried = 0
  tls.connect = ((...args: []) => { tried++; return Reflect.apply(connect, tls, args) }) as never
  syncBuiltinESMExports()
  let turns = 0
  const timer = setInterval(() => { turns++ }, 1)
  const enabledTls = await enableTls({ certificates: hosts.map((host) => ({ cert: join(dir, `${host}.pem`), key: join(dir, `${host}.key`) })), clientCertificates: { 'host1.test': { ca: clients.cert }, 'unknown.test': { ca: clients.cert } } })
  clearInterval(timer)
  t.teardown(() => enabledTls.close())
  // Each of them; the first one for the host that has none of its own, too, and by TLS 1.2
  t.equal(tried, 22)
  t.ok(turns > 20, `${turns} turns`)
  tried = 0
  await enabledTls.reload()
  t.equal(tried, 0)
  await write('host7')
  await enabledTls.reload()
  t.equal(tried, 1)
})

t.test('one client CA has to be in date, and clients of an expired one are refused', async (t) => {
  const past = await authority('Past', [-20, -10])
  const dir = t.testdir({ 'past.pem': past.cert })
  await refusesClients(t, { ca: join(dir, 'past.pem') }, /past\.pem: every authority has expired, so that no client certificate could be valid$/)
  const { get, complaints } = await enabled(t, { certificates: good, clientCertificates: { ca: [join(dir, 'past.pem'), clients.cert] } })
  t.match(await get('/mtls', jane), { status: 200 })
  t.equal((await get('/mtls', await issue(past))).status, 403)
  t.match(complaints().join('\n'), /past\.pem: CN=Past has expired, on/)
})

t.test('a client CA without its root is a warning, and its clients are refused', async (t) => {
  const middle = await issue(clients, { subject: 'CN=Middle', ca: true, purpose: 'none', days })
  const joe = await issue(middle, { subject: 'CN=Joe' })
  const alone = await enabled(t, { certificates: good, clientCertificates: { ca: middle.cert } })
  t.match(alone.complaints().join('\n'), 'clientCertificates.ca: the issuer of CN=Middle is not among the authorities: its clients are refused')
  t.match(await alone.get('/mtls', joe), { status: 403, body: /CERTIFICATE_UNTRUSTED/ })
  const whole = await enabled(t, { certificates: good, clientCertificates: { ca: middle.cert + clients.cert } })
  t.notMatch(whole.complaints().join('\n'), 'is not among the authorities')
  t.match(await whole.get('/mtls', joe), { status: 200 })
})

t.test('a file of CRLs may have several in PEM, or one in DER', async (t) => {
  const others = await authority('Others', days)
  const [joe, other, revoked, otherRevoked] = await Promise.all([issue(clients, { subject: 'CN=Joe' }), issue(others), issue(clients), issue(others)])
  const [one, two] = await Promise.all([revocationList(clients, [revoked]), revocationList(others, [otherRevoked])])
  const dir = t.testdir({ 'both.pem': `first\n${one}second\n${two}`, 'one.pem': one, 'two.crl': derOf(two) })
  const ca = [clients.cert, others.cert]
  for (const crl of [
    join(dir, 'both.pem'),
    [join(dir, 'one.pem'), join(dir, 'two.crl')],
    [one, Buffer.from(two)],
    [derOf(one), derOf(two)],
    (one + two).replaceAll('X509 CRL', 'CRL'),
    clients.cert + one + two
  ]) {
    const { get, complaints } = await enabled(t, { certificates: anchored, clientCertificates: { ca, crl } })
    for (const identity of [joe, other]) t.equal((await get('/mtls', identity)).status, 200)
    for (const identity of [revoked, otherRevoked]) t.match(await get('/mtls', identity), { status: 403, body: /CERTIFICATE_REVOKED/ })
    t.equal((await get('/', revoked)).status, 200, 'elsewhere it makes no difference')
    t.strictSame(complaints(), [])
  }
})

t.test('clients of a CA without a CRL are refused, and the log says so', async (t) => {
  const others = await authority('Others', days)
  const dir = t.testdir({ 'others.pem': others.cert })
  const { get, complaints } = await enabled(t, { certificates: good, clientCertificates: { ca: [clients.cert, join(dir, 'others.pem')], crl: await revocationList(clients) } })
  t.match(complaints().join('\n'), /others\.pem: no revocation list of CN=Others was given, but others were: of its clients, nothing is known/)
  t.equal((await get('/mtls', jane)).status, 200)
  t.match(await get('/mtls', await issue(others)), { status: 403, body: /REVOCATION_UNKNOWN/ })

  const empty = await enabled(t, { certificates: good, clientCertificates: { ca: [clients.cert, others.cert], crl: [] } })
  t.equal((await empty.get('/mtls', await issue(others))).status, 200, 'no list at all is no check')
})

t.test('a missing CRL file is a warning, and the CRL applies once the file exists', async (t) => {
  const dir = t.testdir({ 'ca.pem': clients.cert })
  const file = (name: string): string => join(dir, name)
  const [joe, other] = [await issue(clients, { subject: 'CN=Joe', days }), await authority('Other', days)]
  const served = await enabled(t, { certificates: anchored, clientCertificates: { ca: file('ca.pem'), crl: file('clients.crl') } })
  const { get, tls, complaints } = served
  t.match(complaints(), [/clients\.crl: cannot be read: ENOENT: until it is there, it says nothing$/])
  t.match(await get('/mtls', jane), { status: 403, body: /REVOCATION_UNKNOWN/ })
  writeFileSync(file('ca.pem'), clients.cert + other.cert)
  await tls.reload()
  t.match(await get('/mtls', await issue(other)), { status: 403, body: /REVOCATION_UNKNOWN/ }, 'an authority that came meanwhile')
  writeFileSync(file('clients.crl'), await revocationList(clients, [joe], days))
  await tls.reload()
  t.equal((await get('/mtls', jane)).status, 200)
  t.match(await get('/mtls', joe), { status: 403, body: /CERTIFICATE_REVOKED/ })
  rmSync(file('clients.crl'))
  await t.rejects(tls.reload(), { code: INVALID_CERTIFICATES, message: /clients\.crl: cannot be read: ENOENT/ }, 'one that was there is not forgotten')
  t.match(await get('/mtls', joe), { status: 403, body: /CERTIFICATE_REVOKED/ })
})

t.test('a CRL that is out of date at boot is a warning, and clients are refused until there is a new one', async (t) => {
  for (const [dates, message] of [
    [[-10, -5], /clients\.crl: the revocation list of CN=Clients is out of date since .* GMT: of its certificates, it only says which are revoked$/],
    [[5, 10], /clients\.crl: the revocation list of CN=Clients is not valid before .* GMT$/]
  ] as const) {
    const dir = t.testdir({ 'clients.crl': await revocationList(clients, [], dates) })
    const { get, complaints } = await enabled(t, { certificates: anchored, clientCertificates: { ca: clients.cert, crl: join(dir, 'clients.crl') } })
    t.match(complaints(), [message])
    t.equal(complaints().length, 1)
    t.match(await get('/mtls', jane), { status: 403, body: /REVOCATION_UNKNOWN/ })
    t.equal((await get('/', jane)).status, 200)
  }
})

t.test('malformed CRLs are refused', async (t) => {
  const dir = t.testdir({ 'clients.crl': await revocationList(await authority('Clients')), 'garbage.crl': 'garbage', 'clients.pem': clients.cert })
  const list = derOf(await revocationList(clients))
  await refusesClients(t, { ca: clients.cert, crl: join(dir, 'clients.crl') }, /clients\.crl: the revocation list of CN=Clients is not signed by the authority of that name$/)
  await refusesClients(t, { ca: clients.cert, crl: [join(dir, 'clients.crl'), dir] }, /clients\.crl: the revocation list of CN=Clients is not signed/)
  await refusesClients(t, { ca: clients.cert, crl: [dir, join(dir, 'clients.crl')] }, /cannot be read: it is not a regular file/)
  await refusesClients(t, { ca: clients.cert, crl: join(dir, 'garbage.crl') }, /garbage\.crl: holds no CRL \("-----BEGIN X509 CRL-----", or DER\)$/)
  await refusesClients(t, { ca: clients.cert, crl: join(dir, 'clients.pem') }, /clients\.pem: holds no CRL \("-----BEGIN X509 CRL-----", or DER\)$/)
  await refusesClients(t, { ca: clients.cert, crl: Buffer.concat([list, Buffer.from('x')]) }, /: the CRL is not exactly as RFC 5280 §5 has it/)
  await refusesClients(t, { ca: clients.cert, crl: list.subarray(0, -1) }, /: the CRL is not exactly as RFC 5280 §5 has it/)
  await refusesClients(t, { ca: clients.cert, crl: pemOf('X509 CRL', list).slice(0, 200) }, /: is cut off: "-----BEGIN X509 CRL-----" has no/)
})

t.test('an ambiguous CRL is refused, though OpenSSL takes it', async (t) => {
  const odd = make({ ca: true, subject: 'CN=Odd' })
  const exactly = (which: string) => new RegExp(`^clientCertificates\\.crl: ${which} CRL is not exactly as RFC 5280 §5 has it \\(DER, version 2 if it has extensions, no default spelled out, .*\\), so that it is not known which certificates it revokes$`)
  for (const list of [
    makeCrl(odd, { version: 1, change: (parts) => [integer(0), ...parts] }),
    makeCrl(odd, { change: ([, ...parts]) => [integer(2), ...parts] }),
    makeCrl(odd, { change: ([, ...parts]) => parts }),
    makeCrl(odd, { entries: [Buffer.alloc(0)] }),
    makeCrl(odd, { extensions: [spelledOut('2.5.29.20', 0, integer(1))] })
  ]) {
    await refusesClients(t, { ca: odd.pem, crl: list }, exactly('the'))
    await refusesClients(t, { ca: odd.pem, crl: crlPem(makeCrl(odd)) + crlPem(list) }, exactly('its second'))
  }
  const tls = await enableTls({ certificates: good, clientCertificates: { ca: odd.pem, crl: makeCrl(odd, { version: 1 }) } })
  tls.close()
})

t.test('a CRL counts if one of two client CAs with its issuer\'s name has signed it', async (t) => {
  const successor = await authority('Clients')
  const { get } = await enabled(t, { certificates: good, clientCertificates: { ca: [clients.cert, successor.cert], crl: [await revocationList(clients, [], days, true), await revocationList(successor, [], days, true)] } })
  t.equal((await get('/mtls', jane)).status, 200)
  t.equal((await get('/mtls', await issue(successor))).status, 200)
})

t.test('a CRL of an intermediate CA that only clients send counts', async (t) => {
  const middle = await issue(clients, { subject: 'CN=Middle', ca: true, purpose: 'none', days })
  const [joe, revoked] = await Promise.all([issue(middle, { subject: 'CN=Joe' }), issue(middle)])
  const { get, complaints } = await enabled(t, { certificates: anchored, clientCertificates: { ca: clients.cert, crl: [await revocationList(clients), await revocationList(middle, [revoked])] } })
  t.strictSame(complaints(), [])
  t.equal((await get('/mtls', { cert: joe.cert + middle.cert, key: joe.key })).status, 200)
  t.match(await get('/mtls', { cert: revoked.cert + middle.cert, key: revoked.key }), { status: 403, body: /CERTIFICATE_REVOKED/ })
})

t.test('a malformed CRL of an unknown CA is refused', async (t) => {
  const others = make({ ca: true, subject: 'CN=Others' })
  const list = makeCrl(others, { change: (parts) => parts.map((part, index) => index === 4 ? text('20200231000000Z', 0x18) : part) })
  const dir = t.testdir({ 'others.crl': list })
  await refusesClients(t, { ca: clients.cert, crl: [await revocationList(clients), join(dir, 'others.crl')] }, /others\.crl: the CRL is not exactly as RFC 5280 §5 has it/)
})

t.test('CRLs are verified with keys and algorithms of every kind', async (t) => {
  const dir = t.testdir({ 'index.txt': '', crlnumber: '01\n', 'ca.cnf': '[ca]\ndefault_ca = it\n[it]\ndatabase = index.txt\ncrlnumber = crlnumber\ndefault_md = default\ndefault_crl_days = 90\n' })
  const listOf = ({ cert, key }: Identity, name: string, ...args: string[]): string => {
    execFileSync('openssl', ['ca', '-config', 'ca.cnf', '-gencrl', '-cert', cert, '-keyfile', key, '-out', `${name}.crl`, ...args], { cwd: dir, stdio: 'pipe' })
    return join(dir, `${name}.crl`)
  }
  const ec = openssl(dir, 'ec', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256')
  const below = ['-CA', ec.cert, '-CAkey', ec.key, '-addext', 'basicConstraints=critical,CA:TRUE']
  for (const [name, made, ...digest] of [
    ['an RSA authority that signs with SHA-512, and itself with SHA-256', ['rsa:2048', '-sha256'], '-md', 'sha512'],
    ['an RSA authority that an EC authority has issued', ['rsa:2048', ...below]],
    ['an EC authority with SHA-384 that another with SHA-256 has issued', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-sha256', ...below], '-md', 'sha384'],
    ['RSA-PSS', ['rsa-pss', '-pkeyopt', 'rsa_keygen_bits:2048']],
    ['Ed25519', ['ed25519']],
    ['Ed448', ['ed448']],
    ['a curve that WebCrypto does not have', ['ec', '-pkeyopt', 'ec_paramgen_curve:brainpoolP256r1']]
  ] as const) {
    const ca = openssl(dir, 'authority', '-newkey', ...made)
    const crl = [listOf(ca, 'authority', ...digest), listOf(ec, 'ec')]
    const client = openssl(dir, 'client', '-newkey', 'ed25519', '-CA', ca.cert, '-CAkey', ca.key, '-addext', 'basicConstraints=CA:FALSE', '-addext', 'extendedKeyUsage=clientAuth')
    const identity = { cert: readFileSync(client.cert, 'utf8'), key: readFileSync(client.key, 'utf8') }
    const status = await enabled(t, { certificates: anchored, clientCertificates: { ca: [ca.cert, ec.cert], crl } })
      .then(async ({ get }) => (await get('/mtls', identity)).status, (error: Error) => error.message)
    t.equal(status, 200, name)
    // Of the same name, with another key
    openssl(dir, 'authority', '-newkey', ...made)
    await refusesClients(t, { ca: [ca.cert, ec.cert], crl }, /authority\.crl: the revocation list of CN=authority\.test is not signed by the authority of that name$/)
  }
  const other = openssl(dir, 'authority', '-newkey', 'ed25519')
  await refusesClients(t, { ca: other.cert, crl: join(dir, 'authority.crl') }, /is not signed by the authority of that name$/)
})

t.test('development certificates need one option, client certificates included', async (t) => {
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  const dir = t.testdir({ elsewhere: {} })
  process.chdir(dir)
  const { tls, port, get } = await enabled(t, { development: true })
  const { development } = tls
  t.match(development, { created: true, dir: join(process.cwd(), '.certs') })
  t.ok(readdirSync('.certs').includes('server.pem'))
  t.equal((await handshake(port, { ca: development!.https.ca, servername: 'localhost' })).fingerprint, fingerprintOf(development!.https))
  t.match(await get('/mtls', development!.client), { status: 200, body: /CN=development client/ })
  t.match(await get('/mtls', jane), { status: 403, body: /CERTIFICATE_UNTRUSTED/ })
  t.match(await get('/mtls'), { status: 403, body: /CERTIFICATE_REQUIRED/ })
  t.equal((await enableTls({ development: true })).development?.created, false)

  const own = await enabled(t, { development: { dir: 'elsewhere', hosts: ['shop.test'] }, clientCertificates: { ca: clients.cert } })
  t.match(own.tls.development, { created: true, dir: join(process.cwd(), 'elsewhere'), hosts: ['shop.test'] })
  t.match(own.tls.certificates(), [{ names: ['shop.test'] }])
  t.equal((await own.get('/mtls', jane)).status, 200, 'others may vouch for clients')
  t.match(await own.get('/mtls', own.tls.development!.client), { status: 403, body: /CERTIFICATE_UNTRUSTED/ })
  // What is being read meanwhile would make its directory again, while that is removed
  for (const enabled of [tls, own.tls]) await enabled.reload()
})
