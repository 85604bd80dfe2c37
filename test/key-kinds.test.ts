/**
 * Certificates with keys of several kinds for one host: each client gets one that it can verify.
 */
import { once } from 'node:events'
import { join } from 'node:path'
import tls, { type ConnectionOptions, type SecureVersion } from 'node:tls'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import httpSecurity from '../lib/index.ts'
import { type CertificateOptions, enableTls, type EnableTlsOptions } from '../lib/tls/index.ts'
import { ask } from './fixtures/ask.ts'
import { reused, VERSIONS } from './fixtures/context.ts'
import { enabled, fingerprintOf, handshake, INVALID_CERTIFICATES } from './fixtures/enabled.ts'
import { portOf } from './fixtures/network.ts'
import { type Authority, authority, type Identity, issue, issueServer, lastingDays as days, selfSigned } from './fixtures/pki.ts'
import { run, withoutOpenssl } from './fixtures/programs.ts'
import { until } from './fixtures/time.ts'

type Kind = 'RSA' | 'EC'
const KINDS = ['RSA', 'EC'] as const

/** Clients that know one root verify one kind, and only with its intermediate. */
const roots = Object.fromEntries(await Promise.all(KINDS.map(async (keys) => [keys, await selfSigned({ subject: `CN=${keys} root`, ca: true, purpose: 'none', keys, days })]))) as Record<Kind, Authority>
const intermediates = Object.fromEntries(await Promise.all(KINDS.map(async (keys) => [keys, await issue(roots[keys], { subject: `CN=${keys} intermediate`, ca: true, purpose: 'none', keys, days })]))) as Record<Kind, Authority>
const clients = await authority('Clients', days)
const [jane, rsaJane] = await Promise.all([issue(clients, { subject: 'CN=Jane', days }), issue(clients, { subject: 'CN=Jane', keys: 'RSA', days })])

interface Pair extends Identity { kind: Kind, host: string }

async function issued (kind: Kind, ...hosts: string[]): Promise<Pair> {
  const { cert, key } = await issueServer(intermediates[kind], hosts, { keys: kind, days })
  return { cert: cert + intermediates[kind].cert + roots[kind].cert, key, kind, host: hosts[0]! }
}
const [aRsa, aEc, bRsa, bEc, onlyRsa, onlyEc] = await Promise.all([issued('RSA', 'a.test'), issued('EC', 'a.test'), issued('RSA', 'b.test'), issued('EC', 'b.test'), issued('RSA', 'rsa.test'), issued('EC', 'ec.test')])
const optionsOf = (pairs: readonly Identity[]): CertificateOptions[] => pairs.map(({ cert, key }) => ({ cert, key }))

/** Clients by what they can verify, in the words of OpenSSL. */
const SIGNATURES = { RSA: 'rsa_pss_rsae_sha256:rsa_pkcs1_sha256', EC: 'ecdsa_secp256r1_sha256' }
const CIPHERS = { RSA: 'ECDHE-RSA-AES128-GCM-SHA256', EC: 'ECDHE-ECDSA-AES128-GCM-SHA256' }

/** The kind of the certificate that a client gets of a host, who knows the roots of some kinds and verifies what it gets. */
async function kindShown (port: number, servername: string | undefined, host: string, takes: readonly Kind[], more: ConnectionOptions): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', port, servername, ...reused({ ca: takes.map((kind) => roots[kind].cert), ...more }), checkServerIdentity: (_name, certificate) => tls.checkServerIdentity(host, certificate) })
  try {
    await once(socket, 'secureConnect')
    return socket.getPeerX509Certificate()!.publicKey.asymmetricKeyType === 'rsa' ? 'RSA' : 'EC'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code!
  } finally {
    socket.destroy()
  }
}

const onlyVersion = (version: SecureVersion): ConnectionOptions => ({ minVersion: version, maxVersion: version })

/**
 * Whether this Node drops the certificates of the server's own context for those of SNI, of which it takes one
 * (nodejs/node#54235): 24.21 and 26.10 do. Then, the cipher suites of a client do not count.
 */
async function replacesCertificates (t: Test): Promise<boolean> {
  const own = tls.createSecureContext({ cert: aRsa.cert, key: aRsa.key })
  const server = tls.createServer({ cert: aEc.cert, key: aEc.key, SNICallback: (_name, done) => done(null, own) }).listen(0, '127.0.0.1')
  server.on('tlsClientError', () => {})
  t.teardown(() => server.close())
  await once(server, 'listening')
  return await kindShown(portOf(server), 'a.test', 'a.test', ['EC'], { sigalgs: SIGNATURES.EC }) !== 'EC'
}

for (const order of [[aRsa, aEc], [aEc, aRsa]]) {
  t.test(`a host has certificates with keys of both kinds, ${order.map(({ kind }) => kind).join(' first, then ')}`, async (t) => {
    const { tls: enabledTls, port, complaints } = await enabled(t, { certificates: optionsOf(order) })
    t.match(enabledTls.certificates(), order.map(({ host }) => ({ names: [host, '127.0.0.1'] })))
    t.strictSame(complaints(), [])
    for (const version of VERSIONS) {
      for (const servername of ['a.test', undefined, 'unknown.test']) {
        const name = `${version}, ${servername ?? 'no name'}`
        for (const kind of KINDS) t.equal(await kindShown(port, servername, 'a.test', [kind], { ...onlyVersion(version), sigalgs: SIGNATURES[kind] }), kind, `${name}: ${kind}`)
        t.ok(KINDS.includes(await kindShown(port, servername, 'a.test', KINDS, onlyVersion(version)) as Kind), `${name}: any`)
      }
    }
    for (const servername of ['a.test', undefined]) for (const kind of KINDS) t.equal(await kindShown(port, servername, 'a.test', [kind], { ...onlyVersion('TLSv1.2'), ciphers: CIPHERS[kind] }), kind, `by cipher suites: ${kind}`)
    t.equal(await kindShown(port, 'a.test', 'a.test', KINDS, { ...onlyVersion('TLSv1.3'), sigalgs: `${SIGNATURES.RSA}:${SIGNATURES.EC}` }), 'EC', 'the server prefers the faster one')
  })
}

/** Hosts by name, with the kinds that each has. The first one is for others. */
const SERVED: Record<string, readonly Pair[]> = {
  'several hosts with both': [aRsa, aEc, bEc, bRsa],
  'a host with RSA alone beside them': [aEc, aRsa, bRsa, bEc, onlyRsa],
  'a host with EC alone beside them': [aEc, aRsa, bRsa, bEc, onlyEc],
  'hosts with either alone beside them, RSA first': [aRsa, aEc, bRsa, bEc, onlyRsa, onlyEc],
  'hosts with either alone beside them, EC first': [aEc, aRsa, onlyEc, bEc, onlyRsa, bRsa],
  'a first host with RSA alone': [onlyRsa, bRsa, bEc, onlyEc],
  'a first host with EC alone': [onlyEc, bRsa, bEc, onlyRsa]
}

for (const [what, pairs] of Object.entries(SERVED)) {
  t.test(`no client gets the certificate of another host: ${what}`, async (t) => {
    const { port, complaints } = await enabled(t, { certificates: optionsOf(pairs) })
    t.strictSame(complaints(), [])
    const hosts = [...new Set(pairs.map(({ host }) => host))]
    for (const host of hosts) {
      const kinds = pairs.filter((pair) => pair.host === host).map(({ kind }) => kind)
      for (const version of VERSIONS) {
        for (const kind of KINDS) {
          const shown = await kindShown(port, host, host, [kind], { ...onlyVersion(version), sigalgs: SIGNATURES[kind] })
          if (kinds.includes(kind)) t.equal(shown, kind, `${host}, ${version}: ${kind}`)
          else t.notOk(KINDS.includes(shown as Kind), `${host}, ${version}: it has none with ${kind} (${shown})`)
        }
        for (const sigalgs of [undefined, `${SIGNATURES.EC}:${SIGNATURES.RSA}`, `${SIGNATURES.RSA}:${SIGNATURES.EC}`]) {
          t.ok(kinds.includes(await kindShown(port, host, host, KINDS, { ...onlyVersion(version), sigalgs }) as Kind), `${host}, ${version}: any, ${sigalgs}`)
        }
      }
    }
    const [first] = pairs
    t.equal(await kindShown(port, undefined, first!.host, [first!.kind], { sigalgs: SIGNATURES[first!.kind] }), first!.kind, 'the first certificate is for clients that name no host')
  })
}

t.test('which certificate a client gets over TLS 1.2 depends on its cipher suites, too', async (t) => {
  const { port } = await enabled(t, { certificates: optionsOf([aRsa, aEc, bRsa, bEc]) })
  const isReplaced = await replacesCertificates(t)
  for (const kind of KINDS) {
    const options = { ...onlyVersion('TLSv1.2'), ciphers: CIPHERS[kind] }
    t.equal(await kindShown(port, 'a.test', 'a.test', [kind], options), kind, `${kind}, of the first host`)
    if (!isReplaced || kind === 'RSA') t.equal(await kindShown(port, 'b.test', 'b.test', [kind], options), kind, `${kind}, of another one`)
  }
  for (const version of VERSIONS) t.match(await kindShown(port, 'b.test', 'b.test', KINDS, { ...onlyVersion(version), sigalgs: 'ed25519' }), /ALERT/, `${version}: whoever can verify neither gets none`)
})

t.test('openssl s_client gets what it can verify', { skip: withoutOpenssl }, async (t) => {
  const dir = t.testdir(Object.fromEntries(KINDS.map((kind) => [`${kind}.pem`, roots[kind].cert])))
  const { port } = await enabled(t, { certificates: optionsOf([aRsa, aEc, bRsa, bEc]) })
  for (const host of ['a.test', 'b.test']) {
    for (const version of ['-tls1_2', '-tls1_3']) {
      for (const [kind, sigalgs] of [['RSA', 'RSA-PSS+SHA256:RSA+SHA256'], ['EC', 'ECDSA+SHA256']] as const) {
        const asked = run('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', host, version, '-sigalgs', sigalgs, '-CAfile', join(dir, `${kind}.pem`), '-verify_return_error', '-verify_hostname', host, '-brief'])
        asked.child.stdin!.end()
        const { stdout, stderr } = await asked
        t.match(`${stdout}${stderr}`, kind === 'RSA' ? /Signature type: RSA/ : /Signature type: ECDSA/, `${host} ${version} ${kind}`)
      }
    }
  }
})

t.test('certificates of one host are renewed and taken away one by one', async (t) => {
  let answer: readonly Identity[] = [aRsa, bRsa]
  let changed = (): void => {}
  const { tls: enabledTls, port, log } = await enabled(t, { certificates: { load: async () => optionsOf(answer), watch: (tell) => { changed = tell; return () => {} } } })
  const fingerprintsAt = async (servername: string, version: SecureVersion = 'TLSv1.3'): Promise<string[]> => await Promise.all(KINDS.map(async (kind) =>
    await handshake(port, { ca: roots[kind].cert, servername, ...onlyVersion(version), sigalgs: SIGNATURES[kind] }).then(({ fingerprint }) => fingerprint, () => 'none')))
  const kept = await handshake(port, { ca: roots.RSA.cert, servername: 'b.test', keepsSession: true })
  const [newRsa, newEc] = await Promise.all([issued('RSA', 'b.test'), issued('EC', 'b.test')])
  for (const [what, next, expected] of [
    ['one with another kind comes', [aRsa, bRsa, bEc], [bRsa, bEc]],
    ['one is renewed', [aRsa, bRsa, newEc], [bRsa, newEc]],
    ['so is the other one, and the order is another', [newEc, aRsa, newRsa], [newRsa, newEc]],
    ['one goes', [aRsa, newEc], [undefined, newEc]],
    ['the other one comes instead', [aRsa, newRsa], [newRsa, undefined]],
    ['the first host has both', [aEc, aRsa, newRsa, newEc], [newRsa, newEc]]
  ] as ReadonlyArray<[string, readonly Identity[], ReadonlyArray<Identity | undefined>]>) {
    answer = next
    changed()
    const fingerprints = next.map((pair) => fingerprintOf(pair).replaceAll(':', '').toLowerCase())
    t.ok(await until(() => enabledTls.certificates().map(({ fingerprint256 }) => fingerprint256).join() === fingerprints.join()), what)
    for (const version of VERSIONS) {
      const shown = await fingerprintsAt('b.test', version)
      for (const [index, pair] of expected.entries()) {
        if (pair === undefined) t.notOk([bRsa, bEc, newRsa, newEc].map(fingerprintOf).includes(shown[index]!), `${what}, ${version}: none`)
        else t.equal(shown[index], fingerprintOf(pair), `${what}, ${version}: ${pair === undefined ? 'none' : KINDS[index]}`)
      }
    }
  }
  t.ok((await handshake(port, { ca: roots.RSA.cert, servername: 'b.test', session: kept.session })).isResumed, 'no host is gone meanwhile')
  answer = [aEc, aRsa, newRsa, { cert: newEc.cert, key: bEc.key }]
  await t.rejects(enabledTls.reload(), { code: INVALID_CERTIFICATES, message: /^certificates\[3\]\.key: is not the key of certificates\[3\]\.cert \(CN=b\.test\)$/ })
  answer = [aEc, aRsa, newRsa, bRsa]
  await t.rejects(enabledTls.reload(), { code: INVALID_CERTIFICATES, message: /^certificates\['b\.test'\]: would never be served: b\.test is served with certificates\['b\.test'\], which comes first, and a host has one certificate for each kind of key \(RSA\)$/ })
  t.strictSame(await fingerprintsAt('b.test'), [newRsa, newEc].map(fingerprintOf), 'both stay')
  t.notMatch(log.map(({ msg }) => msg).join('\n'), /hosts that/)
})

t.test('a certificate that no client could ever be given is an error', async (t) => {
  const refused = async (certificates: readonly Identity[], message: RegExp, more: Partial<EnableTlsOptions> = {}): Promise<void> => {
    await t.rejects(enableTls({ certificates: optionsOf(certificates), ...more }).then((tls) => tls.close()), { code: INVALID_CERTIFICATES, message }, String(message))
  }
  await refused([aRsa, aEc, await issued('RSA', 'a.test')], /^certificates\[2\]\.cert: would never be served: a\.test is served with certificates\[0\]\.cert, which comes first, and a host has one certificate for each kind of key \(RSA\)$/)
  await refused([aEc, aRsa], /^a handshake with certificates\[1\]\.cert fails: /, { https: { sigalgs: SIGNATURES.EC } })
  await refused([onlyRsa, aRsa, aEc], /^a handshake with certificates\[2\]\.cert fails: /, { https: { sigalgs: SIGNATURES.RSA, minVersion: 'TLSv1.3' } })
  await refused([bRsa, aEc, aRsa], /^a handshake with certificates\[1\]\.cert fails: /, { https: { ciphers: CIPHERS.RSA, maxVersion: 'TLSv1.2' } })

  const byAddress = async (kind: Kind): Promise<Identity> => await issue(roots[kind], { keys: kind, purpose: 'server', days, san: [{ type: 'ip', value: '127.0.0.1' }] })
  const [rsa, ec] = [await byAddress('RSA'), await byAddress('EC')]
  const { port } = await enabled(t, { certificates: optionsOf([rsa, ec, aRsa, aEc]) })
  for (const kind of KINDS) t.equal(await kindShown(port, undefined, '127.0.0.1', [kind], { sigalgs: SIGNATURES[kind] }), kind, 'addresses are for clients that name no host')
  await refused([aRsa, rsa, ec], /^certificates\[1\]\.cert: would never be served: it names no host but addresses/)
})

t.test('certificates with different hosts share those that they have in common', async (t) => {
  const [rsa, ec, wild] = await Promise.all([issued('RSA', 'a.test', 'x.a.test'), issued('EC', 'x.a.test', 'b.test'), issued('RSA', '*.a.test')])
  const { port, complaints } = await enabled(t, { certificates: optionsOf([rsa, ec, wild]) })
  t.strictSame(complaints(), [])
  for (const [host, kinds] of [['x.a.test', ['RSA', 'EC']], ['a.test', ['RSA']], ['b.test', ['EC']], ['y.a.test', ['RSA']]] as const) {
    for (const kind of kinds) t.equal(await kindShown(port, host, host, [kind], { sigalgs: SIGNATURES[kind] }), kind, `${host}: ${kind}`)
    t.ok((kinds as readonly string[]).includes(await kindShown(port, host, host, KINDS, {})), host)
  }
})

t.test('client certificates are asked for and judged as ever, and the details are those of the certificate that is shown', async (t) => {
  for (const clientCertificates of [{ ca: clients.cert }, { 'a.test': { ca: roots.EC.cert }, 'b.test': { ca: clients.cert } }] as Array<NonNullable<EnableTlsOptions['clientCertificates']>>) {
    const enabledTls = await enableTls({ certificates: optionsOf([aEc, aRsa, bRsa, bEc]), clientCertificates })
    t.teardown(() => enabledTls.close())
    const app = Fastify({ forceCloseConnections: true, https: enabledTls.https })
    t.teardown(() => app.close())
    await app.register(httpSecurity, { tls: enabledTls })
    app.get('/mtls', { httpSecurity: 'mtls' }, async (request) => ['SubjectCN', 'ServerSubjectCN', 'SecretKeySize'].map((key) => request.clientCertificateValue(key)).join(' '))
    await app.listen({ port: 0, host: '127.0.0.1' })
    for (const version of VERSIONS) {
      for (const [kind, sigalgs, bits] of [['RSA', SIGNATURES.RSA, 2048], ['EC', SIGNATURES.EC, 256]] as const) {
        const options = { ca: roots[kind].cert, ...kind === 'EC' ? { cert: jane.cert, key: jane.key } : { cert: rsaJane.cert, key: rsaJane.key }, servername: 'b.test', sigalgs, ...onlyVersion(version), checkServerIdentity: () => undefined }
        t.match(await ask({ port: portOf(app), path: '/mtls', headers: { host: 'b.test' }, tls: options as object }), { status: 200, body: `Jane b.test ${bits}` }, `${version} ${kind}`)
      }
    }
  }
})

t.test('a host may have a certificate for every kind of key', { skip: withoutOpenssl }, async (t) => {
  const dir = t.testdir()
  const made = {
    rsa: [['rsa:2048'], SIGNATURES.RSA],
    pss: [['rsa-pss', '-pkeyopt', 'rsa_keygen_bits:2048'], 'rsa_pss_pss_sha256'],
    ed25519: [['ed25519'], 'ed25519'],
    ed448: [['ed448'], 'ed448'],
    ec: [['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], 'ecdsa_secp384r1_sha384']
  } as const
  type Name = keyof typeof made
  const names = Object.keys(made) as Name[]
  const files = (name: Name): { cert: string, key: string } => ({ cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) })
  await Promise.all(names.map(async (name) => await run('openssl', ['req', '-x509', '-nodes', '-subj', `/CN=${name}`, '-days', '90', '-newkey', ...made[name][0], '-keyout', files(name).key, '-out', files(name).cert, '-addext', 'subjectAltName=DNS:all.test'])))
  const shown = async (port: number, servername: string | undefined, sigalgs?: string): Promise<string> =>
    await handshake(port, { rejectUnauthorized: false, servername, sigalgs }).then(({ subject }) => subject.slice(3), () => 'none')

  const all = await enabled(t, { certificates: names.map(files) })
  for (const name of names) for (const servername of ['all.test', undefined]) t.equal(await shown(all.port, servername, made[name][1]), name, `${servername}: ${name}`)

  // One with another host comes first.
  const without = (other: Name): Name[] => names.filter((name) => name !== other)
  for (const first of [aRsa, aEc]) {
    const { port } = await enabled(t, { certificates: [...optionsOf([first]), ...without('pss').map(files)] })
    for (const name of without('pss')) t.equal(await shown(port, 'all.test', made[name][1]), name, `${first.kind}: ${name}`)
    t.not(await shown(port, 'all.test'), 'a.test', 'any client gets one of the host')
    t.equal(await shown(port, 'all.test', 'rsa_pss_pss_sha256'), 'none')
  }
  // A Node that has to choose cannot tell both kinds of RSA keys apart.
  const both = [...optionsOf([aEc]), files('pss'), files('rsa')]
  if (await replacesCertificates(t)) {
    await t.rejects(enableTls({ certificates: both }), { code: INVALID_CERTIFICATES, message: /^a handshake with .*pss\.pem fails: / })
  } else {
    const { port } = await enabled(t, { certificates: both })
    for (const name of ['pss', 'rsa'] as const) t.equal(await shown(port, 'all.test', made[name][1]), name)
  }
})
