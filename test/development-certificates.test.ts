import { createHash, webcrypto, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync, chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { extensionsIn, fieldsOf, validityOf } from '../lib/x509/fields.ts'
import { developmentCertificates, type DevelopmentCertificates, type DevelopmentClientFiles, enableTls } from '../lib/tls/index.ts'
import { clientsComment, clientsNamedBy, COMMENT, NAME_CONSTRAINTS, nameConstraints, parseDevelopmentHosts } from '../lib/tls/development/certificate-set.ts'
import { createAuthority, pkcs12 } from '../lib/tls/development/issue.ts'
import { alternatives, CERTIFIES, CLIENT, commonName, constraints, dn, type Draft, extension, type Made, make, names, purposes, SERVER, SIGNS, text, usage, identityOf } from './fixtures/chains.ts'
import { enabled } from './fixtures/enabled.ts'
import { portOf } from './fixtures/network.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { plainNode, typescript, run } from './fixtures/programs.ts'
import { DAY, until } from './fixtures/time.ts'
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
  await t.rejects(developmentCertificates({ directory: t.testdir() } as object), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message: /unknown option 'directory'; known are hosts, dir, clients/ })
  const wrong = ['../x', '', '-a', 'A', 'a b', 'a.b', 'a/b', 'a\\b', 'a\n', 'a\0', 'acmé', '__proto__', 'x'.repeat(64)]
  for (const [options, message] of [
    ...wrong.map((name) => [{ clients: ['acme', name] }, /clients: '.*' is not allowed; allowed: names of 1 to 63 lower-case letters, digits and hyphens/] as const),
    [{ clients: ['acme', 'globex', 'acme'] }, /clients: 'acme' is there twice/], [{ clients: 'acme' }, /clients: 'acme' is not allowed; allowed: an array/], [{ clients: [5] }, /clients: 0: 5 is not allowed/],
    [{ dir: '' }, /dir: '' is not allowed/], [{ dir: 5 }, /dir: 5 is not allowed/], [{ hosts: 'localhost' }, /hosts: 'localhost' is not allowed/], [null, /null is not allowed/]
  ] as const) {
    await t.rejects(developmentCertificates(options as object), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
    if (options !== null) await t.rejects(enableTls({ development: options as object }), { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS', message })
  }
})

// Clients by name

const CLIENTS = ['acme', 'constructor', `0${'-'.repeat(62)}`]
const filesOf = (...clients: string[]): string[] => ['.gitignore', ...FILES, ...clients.flatMap((name) => ['key', 'p12', 'pem'].map((end) => `client-${name}.${end}`))].sort()

t.test('each client that is named has a development certificate of its own', { skip: withoutOpenssl }, async (t) => {
  const certificates = await developmentCertificates({ dir: join(t.testdir(), '.certs'), clients: CLIENTS })
  const { dir, files, clients, client, https: { ca }, trust } = certificates
  t.strictSame(readdirSync(dir).sort(), filesOf(...CLIENTS))
  t.strictSame(Object.keys(clients), CLIENTS)
  t.strictSame(Object.keys(files.clients), CLIENTS)
  t.equal(clients.toString, undefined, 'nothing else is a client')
  for (const [name, { cert, key, p12, password }] of Object.entries(clients)) {
    const paths = files.clients[name]!
    t.strictSame(paths, { cert: join(dir, `client-${name}.pem`), key: join(dir, `client-${name}.key`), p12: join(dir, `client-${name}.p12`) })
    t.strictSame([cert, key, p12], [readFileSync(paths.cert, 'utf8'), readFileSync(paths.key, 'utf8'), readFileSync(paths.p12)])
    t.strictSame([paths.cert, paths.key, paths.p12].map((path) => (lstatSync(path).mode & 0o777).toString(8)), ['644', '600', '600'])
    t.match(await handshake(t, certificates, { servername: 'localhost', cert, key }), new RegExp(`^CN=${name}\nO=fastify-http-security development$`))
    t.match(await handshake(t, certificates, { pfx: p12, passphrase: password }), `CN=${name}`)
    t.ok(p12.includes(Buffer.from(name, 'utf16le').swap16()), 'browsers list it by its name')
    t.match(trust, `curl --cacert ${files.ca} --cert ${paths.cert} --key ${paths.key} …\n`)
    t.ok(Object.isFrozen(paths) && Object.isFrozen(clients[name]))
  }
  t.ok(Object.isFrozen(clients) && Object.isFrozen(files.clients))
  const keys = [client, ...Object.values(clients)].map(({ cert }) => new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' }).toString('hex'))
  t.equal(new Set(keys).size, CLIENTS.length + 1, 'each has a key of its own')
  const said = (pem: string): Array<[string, boolean]> => [...extensionsIn(fieldsOf(new X509Certificate(pem)).extensions)].map(([id, { isCritical }]) => [dottedOf(Buffer.from(id, 'latin1')), isCritical])
  t.strictSame(said(clients.acme!.cert), said(client.cert))
  t.strictSame(said(ca).filter(([id]) => id === COMMENT), [[COMMENT, false]], 'no program has to know it')
  t.strictSame(clientsNamedBy(ca), CLIENTS.toSorted())
  t.equal(await run('openssl', ['verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', files.ca, ...CLIENTS.map((name) => files.clients[name]!.cert)]).then(({ stdout }) => stdout.match(/: OK$/gm)?.length), CLIENTS.length)
})

t.test('other clients make development certificates anew, and nobody has the keys of those that are gone', async (t) => {
  const dir = join(t.testdir(), '.certs')
  const made = async (...clients: string[]): Promise<DevelopmentCertificates> => await developmentCertificates({ dir, clients })
  const first = await made('acme', 'globex')
  const { created, replaced, ...same } = first
  t.strictSame([created, replaced], [true, false])
  t.match(await made('globex', 'acme'), { created: false, replaced: false, https: same.https }, 'their order makes no difference')
  const own = ['client-mine.key', 'client-globex.txt', 'client-acme', 'notes']
  for (const name of own) writeFileSync(join(dir, name), name)

  const second = await made('acme')
  t.match(second, { created: true, replaced: true })
  t.not(second.https.ca, first.https.ca)
  t.strictSame(readdirSync(dir).sort(), [...filesOf('acme'), ...own].sort(), 'the files of a client that is gone are removed, and no others')
  for (const name of own) t.equal(readFileSync(join(dir, name), 'utf8'), name)
  const globex = { cert: first.clients.globex!.cert, key: first.clients.globex!.key }
  t.match(await handshake(t, first, globex), 'CN=globex')
  t.equal(await handshake(t, second, globex).catch(() => ''), '', 'its key is of no use')
  t.equal((await made('acme')).created, false)

  // Whoever takes the files away has not taken the key from its holder
  for (const path of Object.values(second.files.clients.acme!)) rmSync(path)
  const third = await made()
  t.match(third, { created: true, replaced: true, clients: {} })
  t.equal(await handshake(t, third, { cert: second.clients.acme!.cert, key: second.clients.acme!.key }).catch(() => ''), '')

  t.match(await made('globex'), { created: true, replaced: true })
  rmSync(third.files.ca)
  t.match(await made(), { created: true, replaced: true }, 'there were others, even if not all of them')
  rmSync(third.files.serverCert)
  t.match(await made(), { created: true, replaced: true })
  t.strictSame(clientsNamedBy(readFileSync(third.files.ca, 'utf8')), [])
  t.ok(existsSync(join(dir, 'client-globex.pem')), 'what no CA says that it was made for is left alone')
  t.equal((await made()).created, false, 'and is of no use')
})

t.test('existing development certificates of clients are used only if they are what was promised', async (t) => {
  const dir = join(t.testdir({ elsewhere: {} }), '.certs')
  const hosts = ['localhost']
  const clients = ['acme', 'globex']
  const { files } = await developmentCertificates({ dir, hosts, clients })
  const { acme, globex } = files.clients as Record<'acme' | 'globex', DevelopmentClientFiles>
  const O = 'fastify-http-security development'
  const put = (path: string, content: string | Buffer): void => {
    rmSync(path, { force: true })
    writeFileSync(path, content, { mode: path.endsWith('.pem') ? 0o644 : 0o600 })
  }
  const putClient = async (paths: DevelopmentClientFiles, made: Made): Promise<void> => {
    put(paths.cert, made.pem)
    put(paths.key, identityOf(made).key)
    put(paths.p12, await pkcs12({ cert: made.pem, key: identityOf(made).key }, 'development'))
  }
  /** A set as it is made here, by somebody else, but for the comment of its authority and one client. */
  const plant = async ({ comment = extension(COMMENT, clientsComment(clients)), ofAcme = () => ({}) }: { comment?: Uint8Array, ofAcme?: (authority: Made) => Draft } = {}): Promise<Made> => {
    const authority = make({ ca: true, extensions: { constraints: constraints(true, 0), limits: extension(NAME_CONSTRAINTS, nameConstraints(parseDevelopmentHosts(hosts)), true), comment } })
    const server = make({ issuer: authority, extensions: { purposes: purposes(SERVER), san: alternatives(names.dns('localhost')) } })
    put(files.ca, authority.pem)
    put(files.serverCert, server.pem)
    put(files.serverKey, identityOf(server).key)
    await putClient({ cert: files.clientCert, key: files.clientKey, p12: files.clientP12 }, make({ issuer: authority }))
    await putClient(acme, make({ issuer: authority, subject: `CN=acme, O=${O}`, ...ofAcme(authority) }))
    await putClient(globex, make({ issuer: authority, subject: `CN=globex, O=${O}` }))
    return authority
  }
  const isBelieved = async (): Promise<boolean> => !(await developmentCertificates({ dir, hosts, clients })).created
  await plant()
  t.equal(await isBelieved(), true, 'what is as it should be is believed, whoever made it')
  await plant({ ofAcme: () => ({ serial: 77 }) })
  t.equal(await isBelieved(), true)

  /** Puts each of these files in the place of the other. */
  const swap = (...pairs: Array<[string, string]>): void => {
    for (const [one, other] of pairs) {
      const [first, second] = [readFileSync(one), readFileSync(other)]
      put(one, second)
      put(other, first)
    }
  }
  const all = (one: DevelopmentClientFiles, other: DevelopmentClientFiles): Array<[string, string]> => [[one.cert, other.cert], [one.key, other.key], [one.p12, other.p12]]
  const client: DevelopmentClientFiles = { cert: files.clientCert, key: files.clientKey, p12: files.clientP12 }
  const bad: Record<string, () => unknown> = {
    'a certificate is missing': () => { rmSync(globex.cert) },
    'a key is missing': () => { rmSync(globex.key) },
    'a PFX file is missing': () => { rmSync(globex.p12) },
    'two clients have each other\'s certificates': () => { swap([acme.cert, globex.cert]) },
    'two clients have each other\'s keys': () => { swap([acme.key, globex.key]) },
    'two clients have each other\'s PFX files': () => { swap([acme.p12, globex.p12]) },
    'two clients have each other\'s files': () => { swap(...all(acme, globex)) },
    'a client has the files of client.pem': () => { swap(...all(acme, client)) },
    'client.pem is that of a client, too': () => { for (const [from, to] of all(acme, client)) put(to, readFileSync(from)) },
    'a client has the files of the server': () => { put(acme.cert, readFileSync(files.serverCert)); put(acme.key, readFileSync(files.serverKey)) },
    'a client of another name': async () => await plant({ ofAcme: () => ({ subject: `CN=ACME, O=${O}` }) }),
    'a client of two names': async () => await plant({ ofAcme: () => ({ subject: `CN=acme, O=${O}, CN=admin` }) }),
    'a client of two names in one': async () => await plant({ ofAcme: () => ({ subject: dn(`CN=acme + CN=globex, O=${O}`) }) }),
    'a client whose name only looks like it': async () => await plant({ ofAcme: () => ({ subject: commonName(`acme, O=${O}`) }) }),
    'a client of another organisation': async () => await plant({ ofAcme: () => ({ subject: 'CN=acme, O=Acme' }) }),
    'a client of no organisation': async () => await plant({ ofAcme: () => ({ subject: 'CN=acme' }) }),
    'a client that has expired': async () => await plant({ ofAcme: () => ({ days: [-10, -1] }) }),
    'a client with few days left': async () => await plant({ ofAcme: () => ({ days: [-10, 6] }) }),
    'a client of the future': async () => await plant({ ofAcme: () => ({ days: [1, 30] }) }),
    'a client that is for servers, too': async () => await plant({ ofAcme: () => ({ extensions: { purposes: purposes(SERVER, CLIENT) } }) }),
    'a client that is for anything': async () => await plant({ ofAcme: () => ({ extensions: { purposes: undefined } }) }),
    'a client that is an authority': async () => await plant({ ofAcme: () => ({ ca: true, extensions: { purposes: purposes(CLIENT) } }) }),
    'a client of another authority': async () => { const other = await plant(); await plant({ ofAcme: () => ({ issuer: other }) }) },
    'a client of nobody': async () => await plant({ ofAcme: () => ({ issuer: make({ ca: true }) }) }),
    'a client whose signature is wrong': async () => await plant({ ofAcme: () => ({ spoil: true }) }),
    'a second certificate of a client': () => { appendFileSync(acme.cert, readFileSync(globex.cert)) },
    'a key that does not parse': () => { put(acme.key, 'key') },
    'a PFX file that does not open': () => { put(acme.p12, readFileSync(acme.p12).subarray(0, -1)) },
    'a PFX file with another password': async () => { put(acme.p12, await pkcs12({ cert: readFileSync(acme.cert, 'utf8'), key: readFileSync(acme.key, 'utf8') }, 'other')) },
    'the key of the authority as that of a client': async () => await plant({ ofAcme: (like) => ({ like }) }),
    'the key of the authority after a certificate': async () => { appendFileSync(acme.cert, identityOf(await plant()).key) },
    'the key of the authority after another key': async () => { appendFileSync(acme.key, identityOf(await plant()).key) },
    'the key of the authority as that of a client who is gone': async () => { put(join(dir, 'client-initech.key'), identityOf(await plant()).key) },
    'a key that others may read': () => { chmodSync(acme.key, 0o644) },
    'a key that the group may read': () => { chmodSync(globex.key, 0o640) },
    'a PFX file that others may read': () => { chmodSync(acme.p12, 0o604) },
    'a certificate that others may replace': () => { chmodSync(acme.cert, 0o666) },
    'a symbolic link': () => {
      renameSync(acme.key, join(t.testdirName, 'elsewhere', 'acme.key'))
      symlinkSync(join(t.testdirName, 'elsewhere', 'acme.key'), acme.key)
    },
    'a named pipe': async () => {
      rmSync(acme.cert)
      await run('mkfifo', [acme.cert])
    },
    'a file without end': () => { truncateSync(acme.p12, 2 ** 30) },
    'an authority that says nothing of clients': async () => await plant({ comment: extension('1.2.3.4', text('x')) }),
    'an authority of fewer clients': async () => await plant({ comment: extension(COMMENT, clientsComment(['acme'])) }),
    'an authority of more clients': async () => await plant({ comment: extension(COMMENT, clientsComment([...clients, 'initech'])) }),
    'an authority of other clients': async () => await plant({ comment: extension(COMMENT, clientsComment(['acme', 'initech'])) })
  }
  for (const [what, spoil] of Object.entries(bad)) {
    await spoil()
    t.equal(await isBelieved(), false, what)
    rmSync(join(dir, 'client-initech.key'), { force: true })
  }
  t.equal(await isBelieved(), true, 'what was made instead is good')

  await plant()
  t.equal((await developmentCertificates({ dir, hosts })).created, true, 'of an authority that has clients, none of which is asked for')
})

t.test('the comment of an authority leads to no other files than those of its clients', async (t) => {
  const root = t.testdir({ 'x.pem': '', '.certs': { 'client-.pem': '', 'client-x.pem': '', 'client-A.pem': '', 'client-b.pem': '', sub: { 'y.pem': '' } } })
  const dir = join(root, '.certs')
  chmodSync(dir, 0o700)
  const plant = (comment: Uint8Array): string => {
    const { pem } = make({ ca: true, extensions: { comment: extension(COMMENT, comment) } })
    rmSync(join(dir, 'ca.pem'), { force: true })
    writeFileSync(join(dir, 'ca.pem'), pem, { mode: 0o644 })
    return pem
  }
  const ia5 = (value: string): Uint8Array => text(value, 0x16)
  t.strictSame(clientsNamedBy(plant(ia5('clients: x, /../../x, sub/y, , A, x.pem, b'))), ['x', 'b'])
  for (const odd of [ia5('OpenSSL Generated Certificate'), ia5('clients x'), Buffer.of(0x16, 5), Buffer.alloc(0)]) t.strictSame(clientsNamedBy(plant(odd)), [])
  for (const odd of ['', 'x', make({ ca: true }).pem]) t.strictSame(clientsNamedBy(odd), [])
  t.ok(existsSync(join(dir, 'client-x.pem')))
  plant(ia5('clients: x, /../../x, sub/y, , A, x.pem, b'))
  t.equal((await developmentCertificates({ dir, clients: ['b'] })).created, true)
  t.strictSame(readdirSync(dir).sort(), [...filesOf('b'), 'client-.pem', 'client-A.pem', 'sub'].sort())
  t.ok(existsSync(join(root, 'x.pem')) && existsSync(join(dir, 'sub', 'y.pem')))

  // What others may have written is not asked
  plant(ia5('clients: c'))
  writeFileSync(join(dir, 'client-c.pem'), '')
  chmodSync(join(dir, 'ca.pem'), 0o666)
  t.equal((await developmentCertificates({ dir, clients: ['b'] })).created, true)
  t.ok(existsSync(join(dir, 'client-c.pem')))
})

t.test('processes that start together use the same development certificates of clients, also where they want others', async (t) => {
  const dir = join(t.testdir(), '.certs')
  const script = `const { developmentCertificates } = await import('./lib/tls/development/certificates.ts')
    console.log(JSON.stringify(await developmentCertificates(JSON.parse(process.argv[1]))))`
  const start = async (...clients: string[]): Promise<DevelopmentCertificates> =>
    JSON.parse((await run('env', [...plainNode, ...typescript, '--input-type=module', '--eval', script, JSON.stringify({ dir, clients })])).stdout)
  const keysOf = ({ https, client, clients }: DevelopmentCertificates): unknown => [https, client.cert, Object.entries(clients).map(([name, { cert, key }]) => [name, cert, key])]

  const all = await Promise.all([start('acme', 'globex'), start('acme', 'globex'), developmentCertificates({ dir, clients: ['acme', 'globex'] })])
  t.equal(all.filter(({ created }) => created).length, 1)
  for (const each of all) t.strictSame(keysOf(each), keysOf(all[0]!))
  t.strictSame(readdirSync(dir).sort(), filesOf('acme', 'globex'))

  const [two, one] = await Promise.all([start('acme', 'globex'), start('acme'), start('acme', 'globex'), start('acme')])
  const last = [two!, one!].filter(({ clients }) => readFileSync(join(dir, 'ca.pem'), 'utf8').length > 0 && readdirSync(dir).length === filesOf(...Object.keys(clients)).length)
  t.equal(last.length, 1, 'what is there is one set, whole')
  const wanted = Object.keys(last[0]!.clients)
  t.strictSame(readdirSync(dir).sort(), filesOf(...wanted))
  t.equal((await developmentCertificates({ dir, clients: wanted })).created, false, 'and valid')
})

t.test('clients of development certificates are admitted by name, and the log says when the CA has to be trusted again', async (t) => {
  const dir = join(t.testdir(), '.certs')
  const complaintsOf = async (clients: string[]): Promise<string[]> => {
    const { tls, get, complaints, app } = await enabled(t, { development: { dir, clients } })
    for (const [name, client] of Object.entries(tls.development!.clients)) t.match(await get('/mtls', client), { status: 200, body: `CN=${name}` })
    t.match(await get('/mtls'), { status: 403 })
    await app.close()
    return complaints()
  }
  t.strictSame(await complaintsOf(['acme', 'globex']), [])
  t.strictSame(await complaintsOf(['globex', 'acme']), [])
  t.match(await complaintsOf(['acme']), [/^http-security: the development certificates in .*\.certs were made anew: browsers and other programs have to trust their CA again, tls\.development\.trust says how$/])
  t.strictSame(await complaintsOf(['acme']), [])

  const { tls, complaints, get } = await enabled(t, { development: { dir, clients: ['acme'] } })
  const before = tls.development!.clients.acme!
  rmSync(tls.development!.files.clients.acme!.key)
  await tls.reload()
  t.match(complaints(), [/made anew/], 'also while it serves')
  t.not(tls.development!.clients.acme!.cert, before.cert)
  t.ok(await until(async () => (await get('/mtls', tls.development!.clients.acme)).status === 200))
  t.ok(await until(async () => (await get('/mtls', before)).status === 403))
})
