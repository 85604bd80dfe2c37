import { createHash, webcrypto, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync, chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { extensionsIn, fieldsOf, validityOf } from '../lib/x509/fields.ts'
import { developmentCertificates, type DevelopmentCertificates, enableTls } from '../lib/tls/index.ts'
import { NAME_CONSTRAINTS, nameConstraints, parseDevelopmentHosts } from '../lib/tls/development/certificate-set.ts'
import { createAuthority, pkcs12 } from '../lib/tls/development/issue.ts'
import { alternatives, CERTIFIES, CLIENT, constraints, type Draft, extension, identityOf, type Made, make, names, purposes, SERVER, SIGNS, usage } from './fixtures/chains.ts'
import { portOf } from './fixtures/network.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { plainNode, run, typescript } from './fixtures/programs.ts'
import { DAY } from './fixtures/time.ts'
import { der, derOf, dottedOf, elementOf, elementsIn, tags } from './fixtures/x509.ts'

const FILES = ['ca.pem', 'client.key', 'client.p12', 'client.pem', 'server.key', 'server.pem']
const development = { code: 'FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES' }
const certificatesIn = (t: Test, hosts?: string[]): Promise<DevelopmentCertificates> =>
  developmentCertificates({ hosts, dir: join(t.testdir(), '.certs') })

const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(FILES.map((name) => [name, readFileSync(join(dir, name), 'latin1') + lstatSync(join(dir, name)).mtimeMs]))

/** What a client that trusts `ca` sees of a server that asks for client certificates. */
async function handshake (t: Test, { https: pems }: DevelopmentCertificates, options: tls.ConnectionOptions): Promise<string> {
  const server = tls.createServer({ ...pems, requestCert: true }, (socket) => {
    socket.end(socket.getPeerX509Certificate()?.subject ?? 'no certificate')
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const port = portOf(server)
  const socket = tls.connect({ host: '127.0.0.1', port, ca: pems.ca, ...options })
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

/** Asks OpenSSL: the `tls.checkServerIdentity` of Node 22.23 fails for every IPv6 address. */
const isFor = (host: string) => (_: string, { raw }: tls.PeerCertificate): Error | undefined => {
  const certificate = new X509Certificate(raw)
  const found = net.isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)
  return found === undefined ? new Error(`not for ${host}`) : undefined
}

t.test('development certificates are valid for every host, and for the client', async (t) => {
  const certificates = await certificatesIn(t)
  const { client } = certificates
  t.match(await handshake(t, certificates, { servername: 'localhost', cert: client.cert, key: client.key }), 'CN=development client')
  t.match(await handshake(t, certificates, { pfx: client.p12, passphrase: client.password }), 'CN=development client')
  t.match(await handshake(t, certificates, {
    cert: client.cert,
    key: client.key,
    checkServerIdentity: isFor('::1')
  }), 'CN=development client')
  await t.rejects(handshake(t, certificates, { cert: client.cert, key: client.key, servername: 'other.test' }),
    { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  const other = await developmentCertificates({ dir: join(t.testdirName, 'other') })
  const unknown = handshake(t, certificates, { cert: other.client.cert, key: other.client.key })
  t.equal(await unknown.catch(() => ''), '', 'a client of another authority is not let in')
})

t.test('each development certificate has the extensions that it needs, and no others', async (t) => {
  const { https: { ca, cert }, client } = await certificatesIn(t, ['localhost', '127.0.0.1', '::1'])
  const [authority, server, holder] = [ca, cert, client.cert].map((pem) => new X509Certificate(pem))
  const keyIdOf = ({ publicKey }: X509Certificate): string => createHash('sha1').update(publicKey.export({ type: 'spki', format: 'der' }).subarray(-65)).digest('hex')
  const said = (certificate: X509Certificate): unknown => [...extensionsIn(fieldsOf(certificate).extensions)]
    .map(([id, { isCritical, value }]) => [dottedOf(Buffer.from(id, 'latin1')), isCritical, value.toString('hex')])
  const keyIds = (certificate: X509Certificate): unknown[] => [
    ['2.5.29.14', false, `0414${keyIdOf(certificate)}`],
    ['2.5.29.35', false, `30168014${keyIdOf(authority!)}`]
  ]
  t.strictSame(said(authority!), [
    ['2.5.29.19', true, '30060101ff020100'],
    ['2.5.29.15', true, '03020106'],
    [NAME_CONSTRAINTS, true, nameConstraints(parseDevelopmentHosts(['localhost', '127.0.0.1', '::1'])).toString('hex')],
    keyIds(authority!)[0]
  ])
  const leaf = (purpose: string): unknown[] => [['2.5.29.19', true, '3000'], ['2.5.29.15', true, '03020780'], ['2.5.29.37', false, `300a06082b0601050507030${purpose}`]]
  t.strictSame(said(server!), [...leaf('1'), ...keyIds(server!), ['2.5.29.17', false, `302382096c6f63616c686f737487047f0000018710${'0'.repeat(31)}1`]])
  t.strictSame(said(holder!), [...leaf('2'), ...keyIds(holder!)])
  const O = 'O=fastify-http-security development'
  t.match(authority!.subject, new RegExp(`^CN=Development CA [0-9a-f]{8}\\n${O}$`))
  t.strictSame([server!.subject, holder!.subject], [`CN=development server\n${O}`, `CN=development client\n${O}`], 'two names each, of one value')
  for (const certificate of [authority!, server!, holder!]) {
    t.equal(certificate.issuer, authority!.subject)
    t.match(certificate.serialNumber, /^[4-7][0-9A-F]{31}$/)
    const { notBefore, notAfter } = validityOf(certificate)
    t.equal(notAfter - notBefore, 90 * DAY + DAY / 24)
    const { validity } = fieldsOf(certificate)
    t.equal(validity.bytes[validity.start], 0x17, 'UTCTime')
  }
  t.equal(new Set([authority!, server!, holder!].map(({ serialNumber }) => serialNumber)).size, 3)
})

t.test('the key of the development CA cannot be exported, and dates from 2050 on are those of RFC 5280', async (t) => {
  const made = t.capture(webcrypto.subtle, 'generateKey', webcrypto.subtle.generateKey)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => Date.UTC(2049, 11, 1)
  const authority = await createAuthority(parseDevelopmentHosts(['localhost']))
  const { notBefore, notAfter } = validityOf(new X509Certificate(authority.cert))
  t.strictSame([notBefore, notAfter], [Date.UTC(2049, 10, 30, 23), Date.UTC(2050, 2, 1)])
  await authority.issue('server', SERVER)
  t.strictSame(made().map(({ args: [, isExtractable] }) => isExtractable), [false, true])
})

t.test('development certificates are in .certs in the working directory, private and ignored by git', async (t) => {
  const cwd = process.cwd()
  t.teardown(() => process.chdir(cwd))
  process.chdir(t.testdir())
  const umask = process.umask(0)
  t.teardown(() => process.umask(umask))

  const certificates = await developmentCertificates()
  const dir = join(process.cwd(), '.certs')
  t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES])
  t.equal(readFileSync(join(dir, '.gitignore'), 'utf8'), '*\n')
  const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8)
  t.equal(mode(dir), '700')
  for (const name of FILES) t.equal(mode(join(dir, name)), name.endsWith('.pem') ? '644' : '600', name)

  t.match(certificates, { dir, created: true, hosts: ['localhost', '127.0.0.1', '::1'], files: { clientP12: join(dir, 'client.p12') } })
  t.equal(certificates.https.key, readFileSync(certificates.files.serverKey, 'utf8'))
  t.equal(certificates.client.cert, readFileSync(certificates.files.clientCert, 'utf8'))
  for (const part of [certificates, certificates.hosts, certificates.files, certificates.https, certificates.client]) {
    t.ok(Object.isFrozen(part))
  }
})

t.test('development certificates are logged with how to trust their CA', async (t) => {
  const { trust, files, https: { ca } } = await developmentCertificates({ dir: join(t.testdir(), "Joe's certs") })
  t.match(trust, `NODE_EXTRA_CA_CERTS='${files.ca.replace("'", "'\\''")}'`)
  t.match(trust, `--cert '${files.clientCert.replace("'", "'\\''")}'`)
  const names = /"(Development CA [0-9a-f]{8})"/.exec(trust)
  t.match(ca, 'BEGIN CERTIFICATE')
  t.match(trust, `-n '${names?.[1]}' -i`)
  t.match(trust, 'password: development')
})

t.test('development certificates are kept while they are valid', async (t) => {
  const first = await certificatesIn(t)
  const before = contents(first.dir)
  writeFileSync(join(first.dir, '.gitignore'), '*\n!ca.pem\n')
  chmodSync(first.dir, 0o755)

  const second = await developmentCertificates({ dir: first.dir })
  t.strictSame({ ...second, created: true }, first)
  t.equal(second.created, false)
  t.equal((await developmentCertificates({ dir: first.dir, hosts: ['0:0::1', 'LOCALHOST', '127.0.0.1', 'localhost'] })).created, false, 'the same hosts, in other words')
  t.strictSame(contents(first.dir), before)
  t.equal(lstatSync(first.dir).mode & 0o777, 0o700, 'closed again')

  rmSync(first.files.ca)
  t.equal((await developmentCertificates({ dir: first.dir })).created, true)
  t.equal(readFileSync(join(first.dir, '.gitignore'), 'utf8'), '*\n!ca.pem\n', 'the .gitignore is theirs now')
})

t.test('development certificates are made again when a file is missing or invalid', async (t) => {
  const other = await developmentCertificates({ dir: join(t.testdir(), 'other') })
  const bad: Record<string, (files: DevelopmentCertificates['files']) => unknown> = {
    'a file is missing': (files) => rmSync(files.clientP12),
    'a file is empty': (files) => writeFileSync(files.serverCert, ''),
    'a key does not parse': (files) => writeFileSync(files.clientKey, 'key'),
    'the server has the key of another': (files) => writeFileSync(files.serverKey, other.https.key),
    'the client has the key of another': (files) => writeFileSync(files.clientKey, other.client.key),
    'the authority is another': (files) => writeFileSync(files.ca, other.https.ca),
    'the authority is no authority': (files) => writeFileSync(files.ca, readFileSync(files.serverCert)),
    'the client is of another authority': (files) => {
      writeFileSync(files.clientCert, other.client.cert)
      writeFileSync(files.clientKey, other.client.key)
      writeFileSync(files.clientP12, other.client.p12)
    },
    'client.p12 is of another': (files) => writeFileSync(files.clientP12, other.client.p12),
    'client.p12 would take hours to open': (files) => {
      const [version, safe, mac] = elementsIn(elementOf(readFileSync(files.clientP12)), tags.sequence).map(derOf)
      const parts = elementsIn(elementOf(mac!), tags.sequence).map(derOf).slice(0, -1)
      writeFileSync(files.clientP12, der(tags.sequence, version!, safe!, der(tags.sequence, ...parts, Buffer.from('02047fffffff', 'hex'))))
    },
    'client.p12 does not open': (files) => writeFileSync(files.clientP12, readFileSync(files.clientP12).subarray(0, -1))
  }
  const dir = join(t.testdirName, '.certs')
  let last = await developmentCertificates({ dir })
  for (const [what, spoil] of Object.entries(bad)) {
    spoil(last.files)
    const next = await developmentCertificates({ dir })
    t.equal(next.created, true, what)
    t.not(next.https.ca, last.https.ca, what)
    t.equal((await developmentCertificates({ dir })).created, false, 'and then they are good')
    last = next
  }
  const hosts = ['localhost', 'shop.test']
  t.equal((await developmentCertificates({ dir, hosts })).created, true, 'a host is not covered')

  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 80 * DAY
  t.equal((await developmentCertificates({ dir, hosts })).created, false, 'ten days left')
  Date.now = () => now() + 84 * DAY
  t.equal((await developmentCertificates({ dir, hosts })).created, true, 'six days left')
  Date.now = () => now() - 2 * DAY
  t.equal((await developmentCertificates({ dir, hosts })).created, true, 'from the future')
  t.equal((await developmentCertificates({ dir, hosts: ['shop.test'] })).created, true, 'the authority could vouch for another host')
})

t.test('existing development certificates are used only if they are what was promised', async (t) => {
  const dir = join(t.testdir({ elsewhere: {} }), '.certs')
  const hosts = ['localhost', '127.0.0.1']
  const { files } = await developmentCertificates({ dir, hosts })
  const limitedTo = (hosts: string[], isCritical = true) => ({ limits: extension(NAME_CONSTRAINTS, nameConstraints(parseDevelopmentHosts(hosts)), isCritical) })
  const san = alternatives(names.dns('localhost'), names.ip(127, 0, 0, 1))
  const put = (path: string, content: string | Buffer): void => {
    rmSync(path, { force: true })
    writeFileSync(path, content, { mode: path.endsWith('.pem') ? 0o644 : 0o600 })
  }
  /** A set as it is made here, by another program, but for some extensions. */
  const plant = async (ofAuthority?: Draft['extensions'], ofServer?: Draft['extensions'], ofClient?: Draft['extensions'], isKeyShared = false): Promise<Made> => {
    const authority = make({ ca: true, extensions: { constraints: constraints(true, 0), ...limitedTo(hosts), ...ofAuthority } })
    const server = make({ issuer: authority, ...isKeyShared && { like: authority }, extensions: { purposes: purposes(SERVER), san, ...ofServer } })
    const client = make({ issuer: authority, extensions: { ...ofClient } })
    put(files.ca, authority.pem)
    put(files.serverCert, server.pem)
    put(files.serverKey, identityOf(server).key)
    put(files.clientCert, client.pem)
    put(files.clientKey, identityOf(client).key)
    put(files.clientP12, await pkcs12({ cert: client.pem, key: identityOf(client).key }, 'development'))
    return authority
  }
  const isBelieved = async (): Promise<boolean> => !(await developmentCertificates({ dir, hosts })).created
  await plant()
  t.equal(await isBelieved(), true, 'what is as it should be is believed, whoever made it')
  t.equal(await isBelieved(), true)

  const bad: Record<string, () => unknown> = {
    'an authority that is not constrained': async () => await plant({ limits: undefined }),
    'an authority for more hosts': async () => await plant(limitedTo([...hosts, 'bank.test'])),
    'an authority for fewer': async () => await plant(limitedTo(['localhost'])),
    'constraints that are not critical': async () => await plant(limitedTo(hosts, false)),
    'an authority that may make others': async () => await plant({ constraints: constraints(true) }),
    'a certificate of the server that is for clients': async () => await plant({}, { purposes: purposes(CLIENT) }),
    'a certificate of the server that is for anything': async () => await plant({}, { purposes: undefined }),
    'a certificate of the client that is for servers, too': async () => await plant({}, {}, { purposes: purposes(SERVER, CLIENT) }),
    'a client that is an authority': async () => await plant({}, {}, { constraints: constraints(true), usage: usage(SIGNS | CERTIFIES) }),
    'a second authority': async () => { await plant(); appendFileSync(files.ca, make({ ca: true }).pem) },
    'the key of the authority as that of the server': async () => await plant({}, {}, {}, true),
    'the key of the authority in another file': async () => { writeFileSync(join(dir, 'rootCA-key.pem'), identityOf(await plant()).key) },
    'the key of the authority after its certificate': async () => { appendFileSync(files.ca, identityOf(await plant()).key) },
    'a key that others may read': async () => { await plant(); chmodSync(files.serverKey, 0o644) },
    'a key that the group may read': async () => { await plant(); chmodSync(files.clientKey, 0o640) },
    'a file with a key that others may read': async () => { await plant(); chmodSync(files.clientP12, 0o604) },
    'an authority that others may replace': async () => { await plant(); chmodSync(files.ca, 0o666) },
    'a directory that others may write to': async () => { await plant(); chmodSync(dir, 0o777) },
    'a symbolic link': async () => {
      await plant()
      renameSync(files.serverKey, join(t.testdirName, 'elsewhere', 'server.key'))
      symlinkSync(join(t.testdirName, 'elsewhere', 'server.key'), files.serverKey)
    },
    'a named pipe': async () => {
      await plant()
      rmSync(files.ca)
      await run('mkfifo', [files.ca])
    },
    'a named pipe beside a set that is bad': async () => {
      await plant({ limits: undefined })
      await run('mkfifo', [join(dir, 'pipe')])
    },
    'a file without end': async () => { await plant(); truncateSync(files.serverCert, 2 ** 30) }
  }
  for (const [what, spoil] of Object.entries(bad)) {
    await spoil()
    t.equal(await isBelieved(), false, what)
    t.equal(await isBelieved(), true, `${what}: once`)
  }
  t.equal(lstatSync(dir).mode & 0o777, 0o700)

  await plant()
  const { getuid } = process
  t.teardown(() => { process.getuid = getuid })
  let asked = 0
  process.getuid = () => lstatSync(dir).uid + Number(asked++ > 0)
  t.equal(await isBelieved(), false, 'the directory is ours, the files are another user\'s')
})

t.test('development certificates are ignored by git also when only .gitignore is missing', async (t) => {
  const { dir } = await certificatesIn(t)
  rmSync(join(dir, '.gitignore'))
  t.equal((await developmentCertificates({ dir })).created, false)
  t.equal(readFileSync(join(dir, '.gitignore'), 'utf8'), '*\n')
})

t.test('development certificates are refused in production', async (t) => {
  const { NODE_ENV } = process.env
  t.teardown(() => { NODE_ENV === undefined ? delete process.env.NODE_ENV : process.env.NODE_ENV = NODE_ENV })
  process.env.NODE_ENV = 'production'
  const dir = join(t.testdir(), '.certs')
  await t.rejects(developmentCertificates({ dir }), { ...development, message: /NODE_ENV is production/ })
  t.notOk(existsSync(dir))
})

t.test('development keys are not written through symbolic links, or where another user decides', async (t) => {
  const root = t.testdir({ elsewhere: {}, file: '' })
  const refuses = async (t: Test, dir: string, message: RegExp): Promise<void> => {
    await t.rejects(developmentCertificates({ dir }), { ...development, message })
  }
  for (const target of ['elsewhere', 'nowhere']) {
    symlinkSync(join(root, target), join(root, `to-${target}`))
    await refuses(t, join(root, `to-${target}`), /is a symbolic link/)
    await refuses(t, join(root, `to-${target}/`), /is a symbolic link/)
  }
  await refuses(t, join(root, 'file'), /is not a directory/)
  t.strictSame(readdirSync(join(root, 'elsewhere')), [])

  await t.rejects(developmentCertificates({ dir: join(root, 'file', '.certs') }), { ...development, cause: { code: 'EEXIST' } })
  mkdirSync(join(root, 'taken', 'server.key'), { recursive: true })
  await t.rejects(developmentCertificates({ dir: join(root, 'taken') }), { ...development, cause: { code: 'EISDIR' } })
  t.notOk(existsSync(join(root, 'taken', '.new')), 'what was begun is removed')

  mkdirSync(join(root, 'theirs'))
  const { getuid } = process
  t.teardown(() => { process.getuid = getuid })
  process.getuid = () => lstatSync(root).uid + 1
  await refuses(t, join(root, 'theirs'), /belongs to another user/)
  t.strictSame(readdirSync(join(root, 'theirs')), [])
})

t.test('processes that start together use the same development certificates', async (t) => {
  const dir = join(t.testdir(), '.certs')
  const script = `const { developmentCertificates } = await import('./lib/tls/development/certificates.ts')
    console.log(JSON.stringify(await developmentCertificates({ dir: process.argv[1] })))`
  const start = async (): Promise<DevelopmentCertificates> =>
    JSON.parse((await run('env', [...plainNode, ...typescript, '--input-type=module', '--eval', script, dir])).stdout)

  for (const what of ['at first', 'when they are bad']) {
    const all = await Promise.all([start(), start(), start(), developmentCertificates({ dir }), developmentCertificates({ dir })])
    t.equal(all.filter(({ created }) => created).length, 1, what)
    const unlike = (certificates: DevelopmentCertificates): unknown => [certificates.https, certificates.client.cert]
    for (const each of all) t.strictSame(unlike(each), unlike(all[0]))
    t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES], what)
    rmSync(all[0].files.serverKey)
  }
})

t.test('a process waits for another one that writes development certificates, but not for a dead one', async (t) => {
  const dir = join(t.testdir({ '.certs': { '.new': {} } }), '.certs')
  const waiting = developmentCertificates({ dir })
  const release = setTimeout(() => rmdirSync(join(dir, '.new')), 500)
  t.teardown(() => clearTimeout(release))
  const began = Date.now()
  t.equal((await waiting).created, true)
  t.ok(Date.now() - began > 300, 'waited')

  mkdirSync(join(dir, '.new'))
  writeFileSync(join(dir, '.new', 'server.key'), '')
  utimesSync(join(dir, '.new'), new Date(), new Date(Date.now() - 60_000))
  rmSync(join(dir, 'ca.pem'))
  t.equal((await developmentCertificates({ dir })).created, true)
  t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES])
})

t.test('a process does not wait without end for another one\'s lock on development certificates', async (t) => {
  const dir = join(t.testdir({ '.certs': {} }), '.certs')
  const claim = join(dir, '.new')
  const claims: Record<string, () => unknown> = {
    'a link that leads nowhere': () => symlinkSync(join(dir, 'nowhere'), claim),
    'a link to a directory': () => symlinkSync(t.testdirName, claim),
    'a file': () => writeFileSync(claim, ''),
    'a named pipe': async () => await run('mkfifo', [claim]),
    'one of the future': () => {
      mkdirSync(claim)
      utimesSync(claim, new Date(), new Date(Date.now() + DAY))
    }
  }
  for (const [what, make] of Object.entries(claims)) {
    await make()
    const began = Date.now()
    t.equal((await developmentCertificates({ dir })).created, true, what)
    t.ok(Date.now() - began < 2_000, `${what}: ${Date.now() - began} ms`)
    t.strictSame(readdirSync(dir).sort(), ['.gitignore', ...FILES], what)
    rmSync(join(dir, 'ca.pem'))
  }
  t.ok(existsSync(t.testdirName), 'where a link leads to, nothing is touched')

  // One that is a few seconds in the future, and as old as that when it has been waited for
  mkdirSync(claim)
  utimesSync(claim, new Date(), new Date(Date.now() + 8_000))
  const { now } = performance
  t.teardown(() => { performance.now = now })
  let skipped = 0
  performance.now = () => now.call(performance) + (skipped += 3_000)
  t.equal((await developmentCertificates({ dir })).created, true)
})

t.test('hosts of development certificates may be names, wildcards and addresses, and nothing else', async (t) => {
  const dir = t.testdir()
  const long = Array.from({ length: 40 }, (_, number) => `host-${number}.example.test`)
  for (const [hosts, good, wrong] of [
    [['*.Shop.test'], 'a.shop.test', 'shop.test'],
    [['::FFFF:127.0.0.1'], '::ffff:7f00:1', '127.0.0.1'],
    [['2001:DB8:0:1:2:3:4:5'], '2001:db8:0:1:2:3:4:5', '2001:db8:0:1:2:3:4:6'],
    [long, 'host-39.example.test', 'host-40.example.test']
  ] as const) {
    const certificates = await developmentCertificates({ hosts, dir: join(dir, hosts[0].replaceAll(/\W/g, '-')) })
    const { cert, key } = certificates.client
    const check = (host: string) => handshake(t, certificates, {
      cert, key, checkServerIdentity: isFor(host)
    })
    t.match(await check(good), 'CN=development client')
    await t.rejects(check(wrong), { message: `not for ${wrong}` })
  }
  for (const host of ['', 'a b', '[::1]', 'fe80::1%eth0', 'http://a.test', 'a.test:8443', 'shop.test.', '*', 'a.*.test', '256.0.0.1', 'münchen.test', 'a,b', '-a.test']) {
    await t.rejects(developmentCertificates({ hosts: [host], dir }), development, host)
  }
  await t.rejects(developmentCertificates({ hosts: [], dir }), development)
})

t.test('openssl verifies development certificates strictly, and the CA is constrained to their hosts', { skip: withoutOpenssl }, async (t) => {
  const dir = t.testdir()
  const verify = (purpose: string, ca: string, cert: string): Promise<string> =>
    run('openssl', ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', ca, cert])
      .then(({ stdout }) => stdout, ({ stderr }) => stderr)

  for (const hosts of [['localhost', '127.0.0.1', '::1'], ['*.shop.test'], ['127.0.0.1']]) {
    const { files } = await developmentCertificates({ hosts, dir: join(dir, String(hosts.length) + hosts[0].length) })
    t.match(await verify('sslserver', files.ca, files.serverCert), /: OK$/m)
    t.match(await verify('sslclient', files.ca, files.clientCert), /: OK$/m)
    t.match(await verify('sslclient', files.ca, files.serverCert), /unsuitable certificate purpose/)
    t.match(await verify('sslserver', files.ca, files.clientCert), /unsuitable certificate purpose/)
    t.match((await run('openssl', ['pkcs12', '-in', files.clientP12, '-passin', 'pass:development', '-nodes'])).stdout, 'PRIVATE KEY')

    // The authority's own key is gone: another one, made in the same way
    const authority = await createAuthority(parseDevelopmentHosts(hosts))
    writeFileSync(join(dir, 'ca.pem'), authority.cert)
    for (const other of ['evil.test', 'localhost.evil.test', '10.0.0.1', '::2']) {
      writeFileSync(join(dir, 'other.pem'), (await authority.issue('server', SERVER, parseDevelopmentHosts([other]))).cert)
      t.match(await verify('sslserver', join(dir, 'ca.pem'), join(dir, 'other.pem')), /(permitted|excluded) subtree violation/, other)
    }
  }
})

t.test('invalid options of developmentCertificates are errors', async (t) => {
  await t.rejects(developmentCertificates({ directory: t.testdir() } as object), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /unknown option 'directory'; known are hosts, dir/ })
  for (const [options, message] of [
    [{ dir: '' }, /dir: '' is not allowed/], [{ dir: 5 }, /dir: 5 is not allowed/], [{ hosts: 'localhost' }, /hosts: 'localhost' is not allowed/], [null, /null is not allowed/]
  ] as const) {
    await t.rejects(developmentCertificates(options as object), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
    if (options !== null) await t.rejects(enableTls({ development: options as object }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
  }
})
