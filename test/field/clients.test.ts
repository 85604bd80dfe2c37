import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { cp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { developmentCertificates, listen } from '../../lib/tls/index.ts'
import { plainNode, run, repository as root } from '../fixtures/programs.ts'
import { install } from '../fixtures/package.ts'
import { authority, issue, issueServer, revocationList } from '../fixtures/pki.ts'
import { makePki, serve } from '../fixtures/serve.ts'
import { serveTrust } from '../fixtures/trust.ts'

const pki = await makePki()

/** For a test's `skip`. */
const without = (name: string, program: string, ...args: string[]): string | false => spawnSync(program, args).status !== 0 && `${name} is not installed`
const withoutCurl = without('curl', 'curl', '--version')

function partners (app: FastifyInstance, hit: (request: { method: string, url: string }) => string): void {
  app.get('/partners', { httpSecurity: 'mtls' }, async (request) => `${hit(request)} ${request.clientCertificateValue('SubjectCN')}`)
}

t.test('no client changes its certificate by renegotiation', { skip: without('perl with Net::SSLeay', 'perl', '-MNet::SSLeay', '-e', '1') }, async (t) => {
  const served = await serve(t, pki, partners)
  const naive: Array<[boolean, unknown]> = []
  served.app.server.on('secureConnection', (socket: TLSSocket) => {
    socket.on('data', () => naive.push([socket.authorized, socket.authorizationError]))
  })
  const mallory = await issue(await authority('Other CA'))
  const dir = t.testdir({ 'jane.pem': pki.client.cert + pki.client.key, 'mallory.pem': mallory.cert + mallory.key })
  const becomeMallory = async (...options: string[]): Promise<string> => {
    const script = fileURLToPath(new URL('../fixtures/renegotiate.pl', import.meta.url))
    const { stdout } = await run('perl', [script, String(served.https), `${dir}/jane.pem`, `${dir}/mallory.pem`, '/partners', ...options])
    return stdout
  }

  t.match(await becomeMallory(), /^\(renegotiated\)\nHTTP\/1\.1 403[^]*CERTIFICATE_UNTRUSTED/, 'before the first request, it is the new certificate that counts')
  t.strictSame(naive, [[true, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE']], '`authorized` alone would have let it in')
  t.strictSame(served.reached, [])

  t.match(await becomeMallory('--ask-first'), /^HTTP\/1\.1 200[^]*reached Jane\n\(renegotiation failed\)\n\(closed\)\n$/, 'once a connection was judged, it ends')
  t.equal(served.reached.length, 1)
})

t.test('the development client.p12 works with curl', { skip: withoutCurl }, async (t) => {
  const { https: pems, files } = await developmentCertificates({ dir: join(t.testdir(), '.certs') })
  const app = Fastify({ https: { ...pems, requestCert: true } })
  t.teardown(() => app.close())
  app.get('/', async (request) => request.protocol)
  const { https: secure } = await listen(app, { https: 0 })
  const { stdout } = await run('curl', ['--silent', '--show-error', '--noproxy', '*', '--cacert', files.ca,
    '--cert-type', 'P12', '--cert', `${files.clientP12}:development`, `https://127.0.0.1:${secure.port}/`])
  t.equal(stdout, 'https')
})

t.test('npm start: the curl lines it prints do what they say when pasted', { skip: withoutCurl }, async (t) => {
  const { dir } = await install(t)
  await cp(join(root, 'examples'), join(dir, 'examples'), { recursive: true })
  await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
  const example = spawn('env', [...plainNode, '--import', import.meta.resolve('tsx'), 'examples/shop.ts'], { cwd: dir, env: { ...process.env, HTTP_PORT: '0', HTTPS_PORT: '0' }, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => example.kill('SIGKILL'))
  const log: string[] = []
  example.stderr!.setEncoding('utf8').on('data', (chunk: string) => log.push(chunk))
  const output = await until(example, 'The health check is there for everybody, over HTTP too:\ncurl', 'health\n')
  t.match(output, /^METHODS +URL +KIND +DECLARED +LEVEL +SOURCE +RULES$/m)
  t.match(output, /It can vouch for these names only/, 'how to trust the authority is said')

  const lines = output.split('\n').filter((line) => line.startsWith('curl'))
  const expected = [
    /^HTTP\/1\.1 308 [^]*location: https:\/\/127\.0\.0\.1:\d+\/shop\r/,
    /^HTTP\/1\.1 200 [^]*<h1>The shop<\/h1>/,
    /^HTTP\/1\.1 403 [^]*FST_HTTP_SECURITY_CERTIFICATE_REQUIRED/,
    /^HTTP\/1\.1 200 [^]*"who":\{"name":"acme","groups":\["writers"\]\}/,
    /^HTTP\/1\.1 200 [^]*"who":\{"name":"globex","groups":\[\]\}/,
    /^HTTP\/1\.1 201 [^]*\{"orderedBy":"acme"\}/,
    /^HTTP\/1\.1 403 [^]*"code":"FST_HTTP_SECURITY_CERTIFICATE_NOT_ALLOWED"/,
    /^HTTP\/1\.1 403 [^]*<faultcode>/,
    /^HTTP\/1\.1 200 [^]*"status":"ok"/
  ]
  t.equal(lines.length, expected.length)
  for (const [i, line] of lines.entries()) t.match((await run('sh', ['-c', line], { cwd: tmpdir() })).stdout, expected[i]!, line)
  t.match(log.join(''), /"code":"FST_HTTP_SECURITY_CERTIFICATE_REQUIRED"/, 'refusals are in the log')
  t.match(log.join(''), /"rule":"route: group writers"[^\n]*"client":"globex"/, 'with the rule, and who came')
  t.notMatch(log.join(''), /incoming request/, 'and it has no line for each request')

  example.kill('SIGINT')
  const [code] = await once(example, 'exit') as [number]
  t.equal(code, 0, 'and it ends when it is told to')
})

async function until (child: ChildProcess, ...marks: string[]): Promise<string> {
  let output = ''
  for await (const chunk of child.stdout!.setEncoding('utf8')) {
    output += chunk as string
    if (marks.every((mark) => output.includes(mark))) return output
  }
  throw new Error(`it ended: ${output}`)
}

const REQUESTS = 60
/** Milliseconds. */
const PAUSE = 50
const options = ['--silent', '--show-error', '--noproxy', '*', '--max-time', '60']

/** Programs that ask again and again, and write the status of each answer. Java is not installed for this: where it is there, it is asked. */
const PROGRAMS: Record<string, (url: string, dir: string) => [program: string, ...args: string[]]> = {
  curl: (url, dir) => ['curl', ...options, '--http1.1', '--rate', `${1000 / PAUSE}/s`, '--cacert', `${dir}/server-ca.pem`, '--cert', `${dir}/jane.pem`, '--output', '/dev/null', '--write-out', '%{http_code}\n', `${url}?[1-${REQUESTS}]`],
  'curl over HTTP/2': (url, dir) => ['curl', ...options, '--http2', '--rate', `${1000 / PAUSE}/s`, '--cacert', `${dir}/server-ca.pem`, '--cert', `${dir}/jane.pem`, '--output', '/dev/null', '--write-out', '%{http_code}\n', `${url}?[1-${REQUESTS}]`],
  ...without('Java', 'java', '--version') === false && {
    Java: (url: string, dir: string) => java(url, dir, 'HTTP_1_1'),
    'Java over HTTP/2': (url: string, dir: string) => java(url, dir, 'HTTP_2')
  }
}

function java (url: string, dir: string, version: string): [string, ...string[]] {
  return ['java', fileURLToPath(new URL('../fixtures/Renewals.java', import.meta.url)), url, `${dir}/jane.p12`, `${dir}/server-ca.pem`, String(REQUESTS), String(PAUSE), version]
}

t.test('renewals under load: no request of curl and Java fails, and each makes one full handshake', { skip: withoutCurl }, async (t) => {
  const [partnersCa, serverCa] = await Promise.all([authority('Partners CA'), authority('Server CA')])
  const [server, jane] = await Promise.all([issueServer(serverCa), issue(partnersCa, { subject: 'CN=Jane' })])
  const served = await serveTrust(t, { server, ca: partnersCa.cert, crl: await revocationList(partnersCa), http2: true })
  const dir = mkdtempSync(join(t.testdirName, 'client-'))
  for (const [name, content] of Object.entries({ 'server-ca.pem': serverCa.cert, 'jane.pem': jane.cert + jane.key })) await writeFile(join(dir, name), content)
  await run('openssl', ['pkcs12', '-export', '-in', join(dir, 'jane.pem'), '-out', join(dir, 'jane.p12'), '-passout', 'pass:secret'])
  const programs = Object.entries(PROGRAMS).map(([name, command]) => {
    const [program, ...args] = command(`https://localhost:${served.https}/partners`, dir)
    return run(program, args).then(({ stdout }) => ({ name, statuses: stdout.split('\n').filter((line) => line !== '') }))
  })
  const all = Promise.all(programs)
  const isOver = all.then(() => true, () => true)
  let renewals = 0
  const others = await Promise.all(Array.from({ length: 5 }, async (_, index) => await authority(`Other CA ${index}`)))
  while (!await Promise.race([isOver, delay(10, false)])) {
    renewals++
    served.write({ 'crl.pem': await revocationList(partnersCa, [], [-1 + renewals / 1000, 30]), 'ca.pem': partnersCa.cert + others.slice(0, renewals % 6).map(({ cert }) => cert).join('') })
    await served.tls.reload()
  }
  t.strictSame(await all, Object.keys(PROGRAMS).map((name) => ({ name, statuses: Array(REQUESTS).fill('200') })))
  t.ok(renewals > 20, `${renewals} renewals`)
  t.equal(served.naive.filter(({ reused }) => !reused).length, programs.length, 'one full handshake each')
})
