/**
 * The documentation: its code compiles and runs, its links lead somewhere, and its tables say what the code has.
 */
import t, { type Test } from 'tap'
import { spawnSync } from 'node:child_process'
import { createHash, generateKeyPairSync, sign, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance, type onRequestAsyncHookHandler } from 'fastify'
import { WebSocket } from 'ws'
import { addressOf, addressed } from '../.ci/address.ts'
import { resolveEntry } from '../lib/clients/certificate-entry.ts'
import { resolveClients } from '../lib/clients/clients.ts'
import httpSecurity, { type HttpSecurityOptions } from '../lib/index.ts'
import { AcmeOptionsSchema, EnableTlsOptionsSchema, PluginOptionsSchema } from '../lib/options/schema.ts'
import { problemOf } from '../lib/proxy/encoding-problems.ts'
import type { WholeEncoding } from '../lib/proxy/presets.ts'
import * as testing from '../lib/testing.ts'
import * as acmeSubpath from '../lib/acme/index.ts'
import * as tlsSubpath from '../lib/tls/index.ts'
import { type EnabledTls, developmentCertificates, enableTls, listen } from '../lib/tls/index.ts'
import { type Answer, ask } from './fixtures/ask.ts'
import { command } from './fixtures/command.ts'
import { CHAIN_HEADER, derOf, ENCODINGS, PRESETS, PROTOCOLS, written } from './fixtures/forward.ts'
import { portOf } from './fixtures/network.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { type Block, type Page, blocksOf, codesIn, readPage, readPages, root, tableOf } from './fixtures/pages.ts'
import { type Identity, authority, issue, issueServer, revocationList } from './fixtures/pki.ts'
import { believed, underscored } from './fixtures/proxies.ts'
import { type Ran, compile, runSnippet } from './fixtures/snippets.ts'
import { until } from './fixtures/time.ts'
import { offeredKeys } from './fixtures/x509.ts'

const pages = readPages()
const page = (path: string): Page => pages.find((page) => page.path === path)!
const [README, STARTED, OPTIONS, REQUESTS, TLS, PROXIES, ADMINISTRATORS, CLIENTS] =
  ['README.md', 'docs/getting-started.md', 'docs/options.md', 'docs/requests.md', 'docs/tls.md', 'docs/proxies.md', 'docs/administrators.md', 'docs/clients.md'].map(page) as [Page, Page, Page, Page, Page, Page, Page, Page]
const manifest = readFileSync(join(root, 'package.json'), 'utf8')
const home = process.cwd()

const blocks = pages.flatMap(({ blocks }) => blocks)
const code = blocks.filter(({ language }) => language === 'ts' || language === 'js')
const compiling = compile(code)

const [partners, staff, serverCa] = await Promise.all([authority('Partners'), authority('Staff'), authority('Server CA')])
const [jane, sam, server] = await Promise.all([issue(partners, { subject: 'CN=Jane' }), issue(staff, { subject: 'CN=Sam' }), issueServer(serverCa)])
const hosts = await Promise.all(['shop', 'partners', 'admin'].map(async (name) => [name, await issueServer(serverCa, [`${name}.example`])] as const))
const shopRsa = await issueServer(serverCa, ['shop.example'], { keys: 'RSA' })
/** Of access tokens. */
const issuer = generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } })
const [partnersCrl, staffCrl] = await Promise.all([revocationList(partners), revocationList(staff)])

/** Every file that is named in code, as a reader may have it. */
const FILES: Readonly<Record<string, string>> = {
  'server.pem': server.cert,
  'server.key': server.key,
  'fullchain.pem': server.cert,
  'privkey.pem': server.key,
  'tls.crt': server.cert,
  'tls.key': server.key,
  'ca.crt': partners.cert,
  'partners-ca.pem': partners.cert,
  'staff-ca.pem': staff.cert,
  'mesh-ca.pem': staff.cert,
  'partners.crl': partnersCrl,
  'partners-crl.pem': partnersCrl,
  'staff.crl': staffCrl,
  'session.key': 'x'.repeat(32),
  'policy.json': '{ "environment": {} }',
  'clients.json': blocksOf(CLIENTS, 'The document', 'json')[0]!,
  'issuer.pem': issuer.publicKey,
  'shop-rsa.pem': shopRsa.cert,
  'shop-rsa.key': shopRsa.key,
  ...Object.fromEntries(hosts.flatMap(([name, { cert, key }]) => [[`${name}.pem`, cert], [`${name}.key`, key]]))
}

/** Where most code runs: what is made there for development is made once. */
const folder = t.testdir(FILES)
const developing = async (): Promise<EnabledTls> => await enableTls({ development: { dir: join(folder, '.certs') } })

type Build = (options?: object) => Promise<FastifyInstance>

const own: Record<string, object> = { 'fastify-http-security': { default: httpSecurity }, 'fastify-http-security/tls': tlsSubpath, 'fastify-http-security/acme': acmeSubpath, 'fastify-http-security/testing': testing }

/** The packages that code imports, from here; its `app.js` is that of Getting started. */
async function load (name: string): Promise<object> {
  if (name === './app.js') return { default: (await runSnippet(await scriptOf(pick(STARTED, 'Declare')), {}, load, own)).exported }
  return own[name] ?? await import(name) as object
}

const scriptOf = async ({ name }: Block): Promise<string> => (await compiling).scripts[code.findIndex((block) => block.name === name)]!

interface Running extends Ran {
  readonly app: FastifyInstance
  readonly tls: EnabledTls
  readonly ports: { readonly http: AddressInfo, readonly https: AddressInfo }
}

/**
 * Runs what a reader would paste, on free ports, and closes what it leaves open.
 *
 * @param given what fragments name
 * @param options the files of its folder, where its imports come from, and what is to be changed before
 */
async function run (t: Test, block: Block, given: Record<string, unknown> = {}, { files, loads = load, change = (script) => script }: { files?: Record<string, string>, loads?: typeof load, change?: (script: string) => string } = {}): Promise<Running> {
  process.chdir(files === undefined ? folder : t.testdir(files))
  t.teardown(() => process.chdir(home))
  const script = change(await scriptOf(block))
    .replaceAll(/\b(?:8080|8443|3000)\b|(?<=http: )80\b|(?<=https: )443\b/g, '0').replaceAll(/'(?:0\.0\.0\.0|10\.1\.2\.4)'/g, "'127.0.0.1'")
    .replaceAll(/\/etc\/tls\/|\/var\/lib\/shop\//g, '').replaceAll(/acme-(?:staging-)?v02\.api\.letsencrypt\.org/g, 'localhost:1').replaceAll('logger: true', 'logger: false').replaceAll('import.meta.dirname', 'process.cwd()')
  const ran = await runSnippet(script, { console: { log () {} }, ...given }, loads, own) as Running
  t.teardown(async () => {
    await ran.app?.close()
    ran.tls?.close()
  })
  return ran
}

/** The first code below a heading. */
function pick (page: Page, heading: string): Block {
  const block = page.blocks.find(({ name, language }) => (language === 'ts' || language === 'js') && name.startsWith(`${page.path}: ${heading}, `))
  if (block === undefined) throw new Error(`${page.path} has no code below ${heading}`)
  return block
}

t.test('the README has at most the length that it promises', async (t) => {
  t.ok(Buffer.byteLength(README.text) <= 10_000, `${Buffer.byteLength(README.text)} bytes`)
  const words = README.text.split(/\s+/).length
  t.ok(words <= 1_500, `${words} words`)
  const firstScreen = README.text.split('\n').slice(0, 40).join('\n')
  t.match(firstScreen, /enableTls\(\{ development: true \}\)/, 'a quick start is in the first screen')
  t.match(firstScreen, /level: 'none', kind: 'rest'/)
})

t.test('every link in the documentation has a target, in the repository and in the package', async (t) => {
  const { files } = JSON.parse(manifest) as { files: string[] }
  const inPackage = (path: string): boolean => [...files, 'README.md', 'LICENSE', 'package.json'].some((file) => path === file || path.startsWith(`${file}/`))
  const others = ['SECURITY.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'examples/proxies/README.md', 'benchmarks/README.md'].map(readPage)
  const linked = new Set<string>()
  const address = addressOf(manifest)
  for (const { path, links } of [...pages, ...others]) {
    for (const link of links) {
      const local = address !== undefined && link.startsWith(`${address}/blob/main/`) ? `${'../'.repeat(path.split('/').length - 1)}${link.slice(address.length + 11)}` : link
      if (/^https?:/.test(local)) continue
      const [target, anchor] = local.split('#') as [string, string?]
      const file = target === '' ? path : join(dirname(path), target)
      linked.add(file)
      t.ok(existsSync(join(root, file)), `${path}: ${link}`)
      if (anchor !== undefined) t.ok(readPage(file).anchors.has(anchor), `${path}: ${link}: there is no such heading`)
      if (inPackage(path)) t.ok(inPackage(file), `${path}: ${link} is not in the package`)
    }
  }
  t.strictSame(pages.map(({ path }) => path).filter((path) => path !== 'README.md' && !README.links.some((link) => link.endsWith(path))), [], 'the README leads to every page')
})

t.test('links in the README are absolute once the repository has an address', async (t) => {
  const documents = { manifest, readme: README.text }
  t.strictSame(addressed(documents), documents, 'run `npm run address`')
  const relative = README.links.filter((link) => !/^https?:/.test(link) && !link.startsWith('#'))
  for (const repository of ['github:owner/name', { type: 'git', url: 'git+https://github.com/owner/name.git' }]) {
    const { manifest: { homepage, bugs }, readme } = (({ manifest, readme }) => ({ manifest: JSON.parse(manifest) as Record<string, unknown>, readme }))(addressed({ manifest: JSON.stringify({ repository }), readme: '[a](docs/a.md#b) [c](https://fastify.dev) [d](#e)' }))
    t.strictSame({ homepage, bugs }, { homepage: 'https://github.com/owner/name#readme', bugs: 'https://github.com/owner/name/issues' })
    t.equal(readme, '[a](https://github.com/owner/name/blob/main/docs/a.md#b) [c](https://fastify.dev) [d](#e)')
  }
  const withAddress = addressed({ manifest: '{"repository":"github:o/n"}', readme: README.text })
  for (const link of relative) t.match(withAddress.readme, `](https://github.com/o/n/blob/main/${link})`, link)
  t.strictSame(addressed(withAddress), withAddress, 'once')
  t.throws(() => addressOf('{"repository":"somewhere"}'), /write github:OWNER\/NAME/)
})

t.test('all code in the documentation compiles', async (t) => {
  t.strictSame((await compiling).errors, [])
  t.strictSame(blocks.filter(({ language }) => !['ts', 'js', 'sh', 'json', 'yaml', ''].includes(language)).map(({ name }) => name), [])
})

/** Code that is compiled only: what it needs is not installed here. */
const NOT_RUN: readonly string[] = ['docs/with-other-plugins.md: @fastify/autoload, 1', 'docs/with-other-plugins.md: Nest, 1', 'docs/with-other-plugins.md: Nest, 2']

t.test('all code in the documentation runs, and its apps boot', async (t) => {
  t.strictSame(NOT_RUN.filter((name) => !code.some((block) => block.name === name)), [])
  for (const block of code.filter(({ name }) => !NOT_RUN.includes(name))) {
    await t.test(block.name, async (t) => {
      const tls = await developing()
      t.teardown(() => tls.close())
      const registers = /register\(httpSecurity\b/.test(block.code)
      const app = Fastify({ https: registers && !/(?<!')\btls\b(?!')/.test(block.code) ? { cert: server.cert, key: server.key, ca: partners.cert, requestCert: true, rejectUnauthorized: false } : tls.https })
      t.teardown(() => app.close())
      const route = async (): Promise<string> => 'x'
      if (!registers) {
        await app.register(httpSecurity, { tls })
        // What the page has declared before.
        if (!block.code.includes("'/health'")) app.get('/health', { httpSecurity: { level: 'none', kind: 'rest' } }, route)
        if (!block.code.includes("get('/partners/me'")) app.get('/partners/me', { httpSecurity: 'mtls' }, route)
      }
      const tests: Array<Promise<void>> = []
      const ran = await run(t, block, {
        Fastify,
        httpSecurity,
        enableTls,
        listen,
        app,
        tls,
        health: route,
        account: route,
        partner: route,
        payments: async () => {},
        plugin: async () => {},
        options: {},
        key: server.key,
        cert: server.cert,
        ca: partners.cert,
        refusals: { inc () {} },
        readPolicyFromStore: async () => ({ environment: {} })
      }, {
        // Other clients would make anew what is there, for those who look on to make anew again.
        ...block.code.includes('development: { clients') && { files: { ...FILES } },
        loads: async (name) => name === 'node:test' ? { test: (_name: string, run: () => Promise<void>) => { tests.push(run()) } } : await load(name)
      })
      await Promise.all(tests)
      await ran.app.ready()
      const { exported } = ran as { exported?: (instance: FastifyInstance) => Promise<FastifyInstance | undefined> }
      if (exported === undefined) return
      const host = Fastify()
      const made = exported.length === 0 ? await exported(host) : host.register(exported) as unknown as FastifyInstance
      t.teardown(() => made!.close())
      await made!.ready()
    })
  }
})

/** What `--help` says of a command: its options, with whether each takes a value. */
async function optionsOf (name: string): Promise<Map<string, boolean>> {
  const { stdout, stderr } = await command(name, '--help')
  return new Map([...(stdout + stderr).matchAll(/^ +(?:-h, )?--([\w-]+)( <)?/gm)].map(([, option, value]) => [option!, value !== undefined]))
}
const commands = new Map(await Promise.all(['audit', 'check-proxy', 'probe-token'].map(async (name) => [name, await optionsOf(name)] as const)))

t.test('commands in the documentation have options that exist', async (t) => {
  const { scripts } = JSON.parse(manifest) as { scripts: Record<string, string> }
  let count = 0
  for (const { path, text } of [...pages, readPage('examples/proxies/README.md'), readPage('CONTRIBUTING.md')]) {
    for (const [, line] of text.matchAll(/npx fastify-http-security ([^`)\n&>#]*)/g)) {
      const [name, ...args] = line!.trim().split(/\s+/)
      count++
      const options = name!.startsWith('-') ? new Map([['help', false], ['version', false]]) : commands.get(name!)
      if (!t.ok(options, `${path}: ${line}`)) continue
      t.doesNotThrow(() => parseArgs({
        args: name!.startsWith('-') ? [name!] : args,
        allowPositionals: true,
        options: Object.fromEntries([...options!].map(([option, takesValue]) => [option, { type: takesValue ? 'string' : 'boolean' }]))
      }), `${path}: ${line}`)
    }
    for (const [, script] of text.matchAll(/(?:^|`|&& )npm (?:run (?:--silent )?)?([a-z:]+)\b/gm)) t.ok(script! in scripts || ['ci', 'install', 'pkg', 'run'].includes(script!), `${path}: npm ${script}`)
  }
  t.ok(count > 6)
  const flagsOf = (page: Page, heading: string): string[] => tableOf(page, heading, 'option').flatMap(([cell]) => codesIn(cell!)).filter((code) => code.startsWith('--')).map((code) => code.slice(2))
  const known = (...names: string[]): string[] => names.flatMap((name) => [...commands.get(name)!].filter(([option]) => !/^(help|version)$/.test(option)).map(([option, takesValue]) => takesValue ? `${option} <` : option))
  const sorted = (flags: string[]): string[] => flags.map((flag) => flag.replace(/<.*/, '<')).sort()
  t.strictSame(sorted(flagsOf(page('docs/audit-and-ci.md'), 'The command `audit`')), known('audit').sort(), 'audit')
  const CHECK = page('docs/check-proxy.md')
  const checks = [...CHECK.text.matchAll(/^\| (`--[^|]*) \|/gm)].flatMap(([, cell]) => codesIn(cell!)).map((code) => code.slice(2))
  t.strictSame(sorted(checks), known('check-proxy', 'probe-token').sort(), 'check-proxy and probe-token')
})

interface Schema { type?: string, enum?: unknown[], anyOf?: Schema[], properties?: Record<string, Schema>, items?: Schema, additionalProperties?: Schema | boolean }

/** Every option of a schema, `redirect.statusCode`, with what it may be where that is a list; `httpSecurity` itself is one. */
function optionsIn ({ properties = {} }: Schema, prefix = ''): Array<[path: string, values: unknown[]]> {
  return Object.entries(properties).flatMap(([name, schema]): Array<[string, unknown[]]> => {
    const alternatives = alternativesOf(schema)
    const values = alternatives.flatMap((each) => each.enum ?? [])
    const path = `${prefix}${name}`
    const objects = alternatives.filter((each) => each.properties !== undefined && Object.keys(each.properties).length > 0 && !('kind' in each.properties))
    const inner = objects.flatMap((each) => optionsIn(each, `${path}.`))
    return objects.length === alternatives.length && path !== 'certificates' ? inner : [[path, values], ...inner]
  })
}

/** One or a list of them, too. */
function alternativesOf (schema: Schema): Schema[] {
  if (schema.anyOf !== undefined) return schema.anyOf.flatMap(alternativesOf)
  if (schema.items !== undefined && Object.keys(schema.items).length > 0) return alternativesOf(schema.items)
  return [schema]
}

t.test('every option has a row in the documentation, and every row is an option', async (t) => {
  for (const [heading, schema] of [['Plugin options', PluginOptionsSchema], ['Options of enableTls', EnableTlsOptionsSchema], ['Options of acme', AcmeOptionsSchema]] as const) {
    const rows = new Map(tableOf(OPTIONS, heading, 'option').map(([name, type]) => [codesIn(name!)[0]!, type!]))
    const options = new Map(optionsIn(schema as Schema))
    t.strictSame([...rows.keys()].sort(), [...new Set(options.keys())].sort(), heading)
    for (const [name, values] of options) {
      // Presets and encodings have tables of their own.
      if (values.length === 0 || /\.(?:encoding|certificate)$/.test(name)) continue
      const said = [...rows.get(name)!.matchAll(/`'([\w-]+)'`|\b(\d{3})\b|`(true)`/g)].map(([, text, number, isTrue]) => text ?? (isTrue === undefined ? Number(number) : true))
      if (/declaration/.test(rows.get(name)!)) continue
      t.strictSame(said.sort(), [...values].sort(), name)
    }
  }
  const allowedBy = async (make: () => Promise<unknown>): Promise<string[]> => {
    const message = await make().then(() => '', ({ message }: Error) => message)
    return /known are ([\w, ]*)/.exec(message)![1]!.split(', ').sort()
  }
  const namesIn = (heading: string): string[] => tableOf(OPTIONS, heading, 'option').map(([name]) => codesIn(name!)[0]!).sort()
  t.strictSame(namesIn('Options of developmentCertificates'), await allowedBy(async () => await developmentCertificates({ zzzzzzzz: 1 } as object)))
  const app = Fastify({ https: {} })
  t.teardown(() => app.close())
  t.strictSame(namesIn('Options of listen'), await allowedBy(async () => await listen(app, { https: 0, zzzzzzzz: 1 } as never)))
})

t.test('every proxy preset and encoding has a row in the documentation', async (t) => {
  const rows = tableOf(PROXIES, 'Presets', '`certificate`').map(([name, how, verdict]) => [codesIn(name!)[0], ...codesIn(how!), codesIn(verdict!)[0]])
  t.strictSame(rows.sort(), Object.entries(PRESETS).map(([name, { header, encoding, verified }]) =>
    [`'${name}'`, header, encoding, typeof verified === 'string' ? verified : `${verified.header}: ${verified.value}`]).sort())
  t.strictSame(tableOf(PROXIES, 'How clients came', '`protocol`').map(([name, how]) => [codesIn(name!)[0], ...codesIn(how!)].slice(0, 2)).filter(([name]) => name!.startsWith("'")).sort(),
    Object.entries(PROTOCOLS).map(([name, { header }]) => [`'${name}'`, header]).sort())
  t.strictSame(tableOf(PROXIES, 'Encodings', '`encoding`').map(([name]) => codesIn(name!)[0]).sort(), ENCODINGS.map((name) => `'${name}'`).sort())
})

t.test('the documentation has every sentence of the log about a header that is no certificate', async (t) => {
  const pem = sam.cert
  const [url, base64] = [written['url-pem'](pem), written['base64-der'](pem)]
  const large = Buffer.alloc(9_000)
  const list = (...all: Uint8Array[]): string => all.map((der) => Buffer.from(der).toString('base64')).join(',')
  const samples: Array<[WholeEncoding, value: string, chain?: string]> = [
    ['base64-der', url], ['rfc9440', base64], ['url-pem', `"${url}"`], ['url-pem', url + url], ['base64-der', list(Buffer.concat([derOf(pem), derOf(pem)]))],
    ['rfc9440', `:${base64}:`, Array(5).fill(`:${base64}:`).join()], ['rfc9440', `:${list(large)}:`, `:${list(large)}:`], ['base64-der', `${base64},${list(derOf(jane.cert))}`],
    ['url-pem', url.replaceAll('%0A', '')], ['url-pem', url.replaceAll('%20', '%20TRUSTED%20')], ['base64-der', list(Buffer.from('300d06092a864886f70d010702a000', 'hex'))], ['base64-der', list(Buffer.from(pem))],
    ['url-pem', url.replaceAll('%2F', '%2f').replaceAll('%0A', '%0a')], ['url-pem', url.replaceAll('%0A', '%0D%0A')], ['url-pem', url.replaceAll('%20', '+')], ['url-pem', 'x']
  ]
  const sentences = samples.map(([encoding, value, chain]) => problemOf({ header: 'x', encoding, hops: 1 }, value, chain).replace(/^x /, ''))
  t.strictSame(sentences.sort(), tableOf(PROXIES, 'Encodings', 'the log says of the header that it').map(([cell]) => codesIn(cell!)[0]).sort())
  // Of this table, there is none that has not come from here.
  const source = readFileSync(join(root, 'lib/proxy/encoding-problems.ts'), 'utf8').match(/['`](?:is|has|holds|lists) /g)
  t.equal(source?.length, samples.length, 'all of them were asked for')
})

t.test('every header of a preset is one that the configurations of examples/proxies set or remove', async (t) => {
  const headers = [CHAIN_HEADER, ...Object.values(PRESETS).flatMap(({ header, verified }) => [header, ...typeof verified === 'object' ? [verified.header] : []]), ...Object.values(PROTOCOLS).map(({ header }) => header)]
  t.strictSame(headers.filter((name) => !believed.includes(name)), [])
  const folder = join(root, 'examples/proxies')
  const file = (name: string): string => readFileSync(join(folder, name), 'utf8').toLowerCase()
  // What Caddy, Envoy, ingress-nginx and Traefik set themselves
  const others = believed.filter((name) => !['x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-for'].includes(name))
  const [envoy, ingress, traefik] = [file('envoy.yaml'), file('ingress-nginx.yaml'), file('traefik-dynamic.yaml')]
  t.strictSame({
    nginx: believed.filter((name) => !new RegExp(`proxy_set_header ${name} `).test(file('nginx.conf'))),
    haproxy: believed.filter((name) => !file('haproxy.cfg').includes(` del-header ^${name.replaceAll('-', '[-_]')}$ -m reg\n`)),
    apache: believed.filter((name) => [name, underscored(name)].some((each) => !file('apache.conf').includes(`requestheader unset ${each}\n`))),
    caddy: others.filter((name) => !file('Caddyfile').includes(`\trequest_header -${name}\n`)),
    envoy: others.filter((name) => !envoy.includes(` - ${name}\n`)),
    'ingress-nginx': others.filter((name) => !ingress.includes(`\n  ${name}: ""\n`)),
    traefik: others.filter((name) => !traefik.includes(` ${name}: ""\n`) || !traefik.includes(` ${underscored(name)}: ""\n`))
  }, { nginx: [], haproxy: [], apache: [], caddy: [], envoy: ['x-forwarded-client-cert'], 'ingress-nginx': [], traefik: [] })
})

const examples = readdirSync(join(root, 'examples/proxies'), { recursive: true, encoding: 'utf8' }).filter((name) => name !== 'README.md' && statSync(join(root, 'examples/proxies', name)).isFile()).sort()
const example = (name: string): string => readFileSync(join(root, 'examples/proxies', name), 'utf8')

t.test('every file of examples/proxies has a row, and its proxy is one that the plugin takes', async (t) => {
  const { links } = readPage('examples/proxies/README.md')
  t.strictSame(examples.filter((name) => !links.includes(name)), [], 'each file has a row')
  for (const name of examples.filter((name) => name !== 'traefik-dynamic.yaml')) {
    // The first comment says what belongs to the file; other comments have what differs from it.
    const text = example(name).replaceAll(/\n(?:#|\/\/) ?/g, ' ')
    const { proxy } = runInNewContext(`(${objectAt(text, text.indexOf('{ proxy: '))})`) as { proxy: { trust: string | string[] | { client: string, from: string[] } } }
    const app = Fastify()
    t.teardown(() => app.close())
    process.chdir(folder)
    t.teardown(() => process.chdir(home))
    // Who is a client of that name is said elsewhere.
    const trust = typeof proxy.trust === 'object' && 'from' in proxy.trust ? proxy.trust.from : proxy.trust
    await t.resolves(async () => {
      await app.register(httpSecurity, { proxy: { ...proxy, trust } } as HttpSecurityOptions)
      await app.ready()
    }, `${name}: ${JSON.stringify(proxy)}`)
  }
})

/** From a brace to the one that ends it. */
function objectAt (text: string, from: number): string {
  let depth = 0
  for (let at = from; at < text.length; at++) {
    if (text[at] === '{') depth++
    if (text[at] === '}' && --depth === 0) return text.slice(from, at + 1)
  }
  throw new Error(`no object in ${text.slice(0, 200)}`)
}

t.test('what is to be pasted from examples/proxies for clouds can be read by what it is for', { skip: withoutOpenssl }, async (t) => {
  for (const name of examples) {
    const text = example(name)
    if (name !== 'Caddyfile') t.notMatch(text, /\t/, `${name}: no tabs`)
    if (/^(?:aws|azure|cloud|gcp|ingress|istio)/.test(name)) t.match(text, /^(?:#|\/\/) Written by .*documentation, which the tests do not run/m, `${name} names its source`)
    if (name.endsWith('.sh')) {
      const { status, stderr } = spawnSync('sh', ['-n'], { input: text, encoding: 'utf8' })
      t.equal(status, 0, `${name}: ${stderr}`)
      for (const [, json] of text.matchAll(/(?:--json|-config) '(\{[^']*\})'/g)) t.doesNotThrow(() => { JSON.parse(json!) }, `${name}: ${json}`)
    }
    if (name.endsWith('.bicep')) {
      const code = text.replaceAll(/^ *\/\/.*$/gm, '').replaceAll(/'[^'\n]*'/g, '')
      for (const pair of ['{}', '[]', '()']) t.equal(code.split(pair[0]!).length, code.split(pair[1]!).length, `${name}: ${pair}`)
    }
    if (/^(?:ingress|istio).*yaml$/.test(name)) {
      for (const part of text.split('\n---\n')) for (const key of [/^apiVersion: \S+$/m, /^kind: \S+$/m, /^metadata:\n {2}name: \S+$/m]) t.match(part, key, name)
    }
  }
})

t.test('every file that CONTRIBUTING.md names is there, where it says', async (t) => {
  const { text } = readPage('CONTRIBUTING.md')
  const isFile = /^[\w.-]+(?:\/[\w.-]+)*(?:\/|\.(?:ts|js|json|md))$/
  let count = 0
  for (const line of text.replaceAll(/^```[^]*?^```$/gm, '').split('\n')) {
    // What a row of the table names is in the row's folder
    const [, folder] = /^\| `([\w/]+\/)` \|/.exec(line) ?? []
    for (const name of codesIn(line)) {
      // There are several
      if (!isFile.test(name) || name === 'checks.generated.ts') continue
      count++
      t.ok(['', folder ?? 'lib/'].some((place) => existsSync(join(root, place, name))), `${name}: ${line.slice(0, 60)} …`)
    }
  }
  t.ok(count > 100, String(count))
})

t.test('every key of clientCertificateValue has a row in the documentation', async (t) => {
  const keys = tableOf(REQUESTS, 'Certificate values', 'key').flatMap(([cell]) => codesIn(cell!))
  const attributes = tableOf(REQUESTS, 'Certificate values', 'attribute').flatMap(([cell]) => codesIn(cell!))
  const all = [...keys, ...['Subject', 'Issuer', 'ServerSubject', 'ServerIssuer'].flatMap((name) => attributes.map((attribute) => `${name}${attribute}`))]
  t.strictSame(all.map((key) => key.toLowerCase()).sort(), offeredKeys.map((key) => key.toLowerCase()).sort())
})

t.test('every decorator of requests, apps and tls has a row in the documentation', async (t) => {
  const names = (page: Page, heading: string, column: string): string[] => tableOf(page, heading, column).flatMap(([cell]) => codesIn(cell!)).map((code) => code.replace(/\(.*/, '').replace('request.', '')).sort()
  const tls = await developing()
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  app.get('/', { httpSecurity: { level: 'tls', kind: 'rest' } }, async (request) => request.clientCertificateGetDetails())
  app.get('/seen', { httpSecurity: 'tls' }, async (request) => ({ security: Object.keys(request.httpSecurity) }))
  const details = (await testing.inject(app, { url: '/', secure: true })).json<object>()
  t.strictSame(names(REQUESTS, 'Certificate details', 'detail'), Object.keys(details).sort(), 'details')
  t.strictSame(names(REQUESTS, 'On the app', '`app.httpSecurity`'), Object.keys(app.httpSecurity).sort(), 'app.httpSecurity')
  t.strictSame(names(TLS, 'enableTls', '`tls`'), Object.keys(tls).sort(), 'tls')
  t.strictSame((await testing.inject(app, { url: '/seen', secure: true })).json(), { security: ['secure', 'level', 'kind', 'client'] })
  await testing.inject(app, '/')
  t.strictSame(names(REQUESTS, 'Violations', 'field'), ['client', ...Object.keys(app.httpSecurity.violations()[0]!)].sort(), 'violations')
  t.strictSame(names(page('docs/audit-and-ci.md'), 'The route table', 'field'), ['allow', 'constraints', 'rules', ...Object.keys(app.httpSecurity.routes()[0]!)].sort(), 'rows of the route table')
  const [certificate] = tls.certificates()
  const [, row] = tableOf(TLS, 'enableTls', '`tls`').find(([name]) => name === '`certificates()`')!
  t.strictSame(codesIn(row!), Object.keys(certificate!), 'tls.certificates()')
  const [, fastifyTypes] = /interface FastifyRequest \{([^]*?)\n {2}\}/.exec(readFileSync(join(root, 'types/fastify.ts'), 'utf8'))!
  t.strictSame(names(REQUESTS, 'On each request', ''), [...fastifyTypes!.matchAll(/^ +(?:readonly )?(\w+)(?:: | \()/gm)].map(([, name]) => name).sort(), 'requests')
})

t.test('every error code in the documentation exists, and has a row in docs/errors.md', async (t) => {
  const rows = new Set([...page('docs/errors.md').text.matchAll(/^(?:\| )?`(FST_HTTP_SECURITY_\w+)`/gm)].map(([, code]) => code!))
  for (const { path, text } of pages) {
    for (const [, code] of text.matchAll(/(FST_HTTP_SECURITY_[A-Z_]+)/g)) t.ok(rows.has(code!) || code === 'FST_HTTP_SECURITY_PROBE', `${path}: ${code}`)
    for (const [, end] of text.matchAll(/…_([A-Z_]+)/g)) t.ok(rows.has(`FST_HTTP_SECURITY_${end!}`), `${path}: …_${end}`)
  }
})

const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => readFileSync(join(root, 'lib', name), 'utf8'))

t.test('log messages in the documentation are those of the code', async (t) => {
  const messages = tableOf(ADMINISTRATORS, 'When something goes wrong', 'you see').flatMap(([cell]) => codesIn(cell!)).filter((message) => !message.startsWith('FST_'))
  t.ok(messages.length > 3)
  for (const part of messages.flatMap((message) => message.split('…')).map((part) => part.trim()).filter((part) => part.length > 4)) {
    t.ok(sources.some((source) => source.includes(part)), part)
  }
})

t.test('every diagnostics channel has a row in the documentation', async (t) => {
  const channels = sources.flatMap((source) => [...source.matchAll(/channel\('([^']+)'/g)].map(([, channel]) => channel))
  t.ok(channels.length > 0)
  t.strictSame(tableOf(REQUESTS, 'Diagnostics channels', 'channel').map(([cell]) => codesIn(cell!)[0]).sort(), channels.sort())
})

t.test('every switch of a policy has a row in the page for administrators', async (t) => {
  const schema = JSON.parse(readFileSync(join(root, 'policy.schema.json'), 'utf8')) as { properties: Record<string, Schema> }
  const places = new Map<string, string[]>()
  for (const [place, inner] of [['environment', schema.properties.environment!], ['applications', schema.properties.applications!.additionalProperties as Schema]] as const) {
    for (const [name] of optionsIn(inner)) places.set(name, [...places.get(name) ?? [], place])
  }
  t.strictSame(Object.fromEntries(tableOf(ADMINISTRATORS, 'What each switch does', 'switch').map(([name, where]) => [codesIn(name!)[0], codesIn(where!)])), Object.fromEntries(places))
  t.strictSame(ADMINISTRATORS.blocks.filter(({ language }) => language === 'ts' || language === 'js'), [])

  const tls = await developing()
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls })
  await app.ready()
  const policies = documents.filter(({ text }) => !text.includes('"certificates"'))
  t.ok(policies.length > 0)
  for (const { path, text } of policies) t.doesNotThrow(() => app.httpSecurity.enforce(JSON.parse(text) as object), `${path}: ${text}`)
})

/** Every JSON document of the pages, those in lists included. */
const documents = pages.flatMap(({ path, text }) => [...text.matchAll(/^ *```json\n([^]*?)^ *```$/gm)].map(([, text]) => ({ path, text: text! })))

t.test('every clients document in the documentation is one, and every part of it has a row', async (t) => {
  const found = documents.filter(({ text }) => text.includes('"certificates"'))
  t.ok(found.length > 4)
  for (const { path, text } of found) {
    const { labels, warnings } = await resolveClients(JSON.parse(text), path)
    t.strictSame([[...labels.keys()].filter((label) => label !== 'partners'), warnings], [[], []], text)
  }
  const { properties: { clients } } = JSON.parse(readFileSync(join(root, 'clients.schema.json'), 'utf8')) as { properties: { clients: { additionalProperties: Required<Schema> } } }
  const { properties } = clients.additionalProperties
  const rows = (heading: string, column: string): string[] => tableOf(CLIENTS, heading, column).flatMap(([cell]) => codesIn(cell!)).sort()
  t.strictSame(rows('The document', 'part of a client'), Object.keys(properties).sort())
  const entry = properties.certificates!.items!.properties!
  t.strictSame(rows('Entries', 'part'), Object.keys(entry).sort())
  const [, attributes] = /^\*\*Attributes of names\*\* are ([^.]*)\./m.exec(CLIENTS.text)!
  t.strictSame(codesIn(attributes!).sort(), Object.keys(entry.subject!.properties!).sort())
  t.strictSame(found.flatMap(({ text }) => (JSON.parse(text) as { $schema?: string }).$schema ?? []), ['./node_modules/fastify-http-security/clients.schema.json'])
  const entries = ADMINISTRATORS.text.split('\n').filter((line) => /^ +\|/.test(line)).flatMap(codesIn).filter((code) => code.startsWith('{') && !code.includes('…'))
  t.equal(entries.length, 3, 'those among which administrators choose')
  for (const entry of entries) t.doesNotThrow(() => resolveEntry(JSON.parse(entry)), entry)
})

interface Locked { readonly dependencies?: Record<string, string>, readonly devDependencies?: Record<string, string> }

t.test('every dependency has a row in the documentation, with what it costs an application that has Fastify', async (t) => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
  const { '': { dependencies, devDependencies } } = packages as { '': Required<Locked> }
  /** Where a package finds another one: inside of its own folder, or of one above. */
  const found = (name: string, from = ''): string => {
    const path = `${from}node_modules/${name}`
    return path in packages ? path : found(name, from.slice(0, from.lastIndexOf('node_modules/', from.length - 2)))
  }
  const below = (path: string, seen = new Set<string>()): Set<string> => {
    if (seen.has(path)) return seen
    seen.add(path)
    for (const name of Object.keys(packages[path]!.dependencies ?? {})) below(found(name, `${path}/`), seen)
    return seen
  }
  const kBOf = (path: string): number => readdirSync(join(root, path), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.slice(join(root, path).length).includes('node_modules'))
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0) / 1000

  const names = Object.keys(dependencies)
  const fastify = below(found('fastify'))
  const rows = tableOf(page('docs/threat-model.md'), 'Dependencies', 'package').map(([cell, , count, kB]) => ({ own: codesIn(cell!), count: Number(count), kB: Number(kB) }))
  t.strictSame(rows.flatMap(({ own }) => own).sort(), names.toSorted())
  for (const { own, count, kB } of rows) {
    const others = names.filter((name) => !own.includes(name)).map((name) => found(name))
    const brought = [...new Set(own.flatMap((name) => [...below(found(name))]))].filter((path) => !fastify.has(path) && !others.includes(path))
    t.equal(brought.length, count, `${own.join(', ')}: ${brought.join(', ')}`)
    const actual = brought.reduce((sum, path) => sum + kBOf(path), 0)
    t.ok(Math.abs(actual - kB) <= actual / 10, `${own.join(', ')}: ${Math.round(actual)} kB`)
  }
  const sum = (of: 'count' | 'kB'): number => rows.reduce((sum, row) => sum + row[of], 0)
  t.ok(page('docs/threat-model.md').text.includes(` ${sum('count')} packages with ${(sum('kB') / 1000).toFixed(1)} MB.`), `${sum('count')} packages, ${sum('kB')} kB`)
  t.strictSame(Object.entries(dependencies).filter(([, range]) => !/^\^\d/.test(range)), [], 'an application may have newer ones')
  t.strictSame(Object.entries(devDependencies).filter(([, range]) => !/^(?:npm:\w+@)?\d+\.\d+\.\d+$/.test(range)), [], 'tests run with the same ones everywhere')
})

t.test('README: the quick start answers as it says', async (t) => {
  const { ports } = await run(t, pick(README, 'Quick start'))
  const [, requests] = blocksOf(README, 'Quick start', 'sh')
  const lines = requests!.trim().split('\n')
  t.equal(lines.length, 5)
  for (const line of lines) {
    const [, rest, url, expected] = /^curl (.*?)(https?:\S+) +# (.*)$/.exec(line)!
    const [ca, cert, key] = ['cacert', 'cert', 'key'].map((option) => new RegExp(`--${option} (\\S+)`).exec(rest!)?.[1]).map((path) => path && readFileSync(path, 'utf8'))
    const { protocol, pathname } = new URL(url!)
    const { status, body } = await ask({ port: protocol === 'https:' ? ports.https.port : ports.http.port, path: pathname, ...protocol === 'https:' && { tls: { ca, cert, key, servername: 'localhost' } as object } })
    t.equal(status === 200 ? body : String(status), expected!.replace(/:.*/, ''), line)
  }
  t.match(await ask({ port: ports.http.port, path: '/account', headers: { accept: 'text/html' } }), { status: 308 }, 'a browser is redirected')
})

t.test('Getting started: its own certificates are those that its three commands make', { skip: withoutOpenssl }, async (t) => {
  const [commands] = blocksOf(STARTED, 'Use your own certificates', 'sh')
  t.equal(commands!.trim().split('\n').length, 3)
  const dir = t.testdir()
  const { status, stderr } = spawnSync('sh', ['-e'], { cwd: dir, input: commands!, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const files = Object.fromEntries(readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), 'utf8')]))
  const [call] = /enableTls\([^]*?\n\}\)/.exec(pick(STARTED, 'Use your own certificates').code)!
  const { exported } = await run(t, pick(STARTED, 'Declare'), {}, { files, change: (script) => script.replace('enableTls({ development: true })', call) })
  const log: string[] = []
  const app = await (exported as Build)({ logger: { stream: { write (line: string) { log.push(line) } } } })
  t.teardown(() => app.close())
  const { https: { port } } = await listen(app, { https: 0 })
  const [warning, ...others] = log.map((line) => JSON.parse(line) as { level: number, msg: string }).filter(({ level }) => level === 40)
  t.match(warning?.msg, /the chain ends with CN=localhost, whose issuer .* no public root: clients have to know it/, 'which the page announces')
  t.strictSame(others, [])
  const get = async (path: string, identity?: { cert: string, key: string }): Promise<Answer> => await ask({ port, path, tls: { ca: files['partners-ca.pem']!, servername: 'localhost', ...identity } as object })
  const client = { cert: files['client.pem']!, key: files['client.key']! }
  const { status: welcome, body } = await get('/partners/me', client)
  t.match({ welcome, ...JSON.parse(body) as object }, { welcome: 200, who: 'Jane', certificate: { isValid: true } })
  t.match(await get('/partners/me'), { status: 403 })
  t.match(await get('/payments/', client), { status: 200 })
  app.httpSecurity.enforce({ environment: { forceHttpsForScreens: true } })
  t.match(await app.inject('/health'), { statusCode: 200 }, 'a health check over plain HTTP is no page')
})

t.test('Getting started: the table is what its declarations print', async (t) => {
  const { exported } = await run(t, pick(STARTED, 'Declare'))
  const app = await (exported as Build)()
  t.teardown(() => app.close())
  await app.ready()
  t.equal(app.httpSecurity.print(), blocksOf(STARTED, 'Declare', '')[0])
})

t.test('Several hosts: routes are tied to hosts, with or without a port, and no partner reaches what is for staff', async (t) => {
  const { tls, app } = await run(t, pick(TLS, 'Several hosts'), { Fastify, httpSecurity, enableTls })
  const { https: { port } } = await tls.listen(app, { https: 0 })
  const statusFor = async ({ cert, key }: Identity, host: string, path: string): Promise<number> => {
    const [servername] = host.split(':')
    return (await ask({ port, path, headers: { host }, tls: { cert, key, servername: servername!.toLowerCase(), ca: serverCa.cert } as object })).status
  }
  for (const suffix of ['', `:${port}`]) {
    t.equal(await statusFor(jane, `partners.example${suffix}`, '/partners/me'), 200, suffix)
    t.equal(await statusFor(sam, `admin.example${suffix}`, '/admin'), 200, suffix)
    t.equal(await statusFor(sam, `ADMIN.example${suffix}`, '/admin'), 200, suffix)
    t.equal(await statusFor(jane, `partners.example${suffix}`, '/admin'), 404, suffix)
    t.equal(await statusFor(jane, `admin.example${suffix}`, '/admin'), 403, suffix)
    t.equal(await statusFor(sam, `partners.example${suffix}`, '/admin'), 403, suffix)
  }
})

t.test('Behind a proxy: redirects go to hosts of ours alone', async (t) => {
  const { app } = await run(t, pick(PROXIES, 'Set it up'), { Fastify, httpSecurity })
  const redirected = async (host: string): Promise<unknown> => {
    const { statusCode, headers: { location } } = await app.inject({ url: '/x', remoteAddress: '10.1.2.3', headers: { host, 'x-forwarded-proto': 'http', accept: 'text/html' } })
    return statusCode === 308 ? location : statusCode
  }
  t.equal(await redirected('shop.example'), 'https://shop.example/x')
  t.equal(await redirected('evil.example'), 400)
})

t.test('The policy: the developers\' line takes the smallest file, and the one of administrators', async (t) => {
  const [example] = blocksOf(ADMINISTRATORS, 'The policy file', 'json')
  const [smallest] = /`(\{ "environment": \{\} \})`/.exec(ADMINISTRATORS.text)!.slice(1)
  for (const [name, text] of [['smallest', smallest!], ['example', example!]] as const) {
    await t.test(name, async (t) => {
      const app = Fastify({ https: { cert: server.cert, key: server.key } })
      t.teardown(() => app.close())
      await run(t, pick(OPTIONS, 'The policy'), { app, httpSecurity }, { files: { 'policy.json': text } })
      app.get('/api', { httpSecurity: { level: 'none', kind: 'rest' } }, async () => 'api')
      await app.ready()
      t.equal((await app.inject('/api')).statusCode, 200)
      t.equal(app.httpSecurity.violations().length, name === 'example' ? 1 : 0, 'what is for shop is in force: the example reports')
    })
  }
})

t.test('Certificate files: of two authorities that each have their list, the clients of both get in', async (t) => {
  const { tls } = await run(t, pick(TLS, 'Certificate files'), { enableTls })
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, default: 'mtls' })
  app.get('/', async (request) => request.clientCertificateValue('SubjectCN'))
  const { https: { port } } = await tls.listen(app, { https: 0 })
  for (const { cert, key, name } of [jane, sam]) t.match(await ask({ port, tls: { cert, key, ca: serverCa.cert } }), { status: 200, body: name.slice(3) }, name)
})

t.test('@fastify/http-proxy: requests and WebSockets are refused before anything is sent upstream', async (t) => {
  const upstream = Fastify()
  const seen: string[] = []
  upstream.addHook('onRequest', async ({ url }) => { seen.push(url) })
  await upstream.register((await import('@fastify/websocket')).default)
  upstream.get('/live', { websocket: true }, (socket) => { socket.send('hello') })
  upstream.get('/x', async () => 'x')
  await upstream.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => upstream.close())

  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: partners.cert } })
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  const there = portOf(upstream)
  await run(t, pick(page('docs/with-other-plugins.md'), '@fastify/http-proxy'), { app, tls, httpSecurity }, { change: (script) => script.replace(':3001', `:${there}`) })
  const { http: { port: plain }, https: { port } } = await tls.listen(app, { http: 0, https: 0 }) as Running['ports']
  const answered = async (url: string, options: object): Promise<string> => await new Promise((resolve) => {
    const socket = new WebSocket(url, options)
    socket.on('message', (data) => { resolve(String(data)); socket.terminate() })
    socket.on('unexpected-response', (_request, response) => { resolve(String(response.statusCode)); response.destroy() })
    socket.on('error', ({ message }) => resolve(message))
  })
  const asJane = { ca: serverCa.cert, cert: jane.cert, key: jane.key }
  t.equal(await answered(`wss://localhost:${port}/up/live`, { ca: serverCa.cert }), '403')
  t.equal(await answered(`ws://127.0.0.1:${plain}/up/live`, {}), '403')
  t.match(await ask({ port, path: '/up/x', tls: { ca: serverCa.cert } }), { status: 403 })
  t.strictSame(seen, [])
  t.equal(await answered(`wss://localhost:${port}/up/live`, asJane), 'hello')
  t.match(await ask({ port, path: '/up/x', tls: asJane }), { status: 200, body: 'x' })
  t.strictSame(seen, ['/live', '/x'])
})

t.test('For administrators: each document of a step lets in whom the page says', async (t) => {
  const globex = await Promise.all(['old', 'new'].map(async () => await issue(partners, { subject: 'CN=orders, O=Globex' })))
  const who = { globex: globex[0]!, 'globex, new': globex[1]!, acme: await issue(partners, { subject: 'O=Acme, CN=orders' }), 'acme of staff': await issue(staff, { subject: 'O=Acme, CN=orders' }) }
  /** What a reader has to fill in. */
  const stepOf = (heading: string): string => {
    const [, body] = new RegExp(`^### ${heading}\\n([^]*?)^#`, 'm').exec(ADMINISTRATORS.text.replace('## Clients', '### Clients'))!
    const [, text] = /^ *```json\n([^]*?)^ *```$/m.exec(body!)!
    return text!.replace(/9F:86[\dA-F:]+/, globex[0]!.certificate.fingerprint256).replace(/60:30[\dA-F:]+/, globex[1]!.certificate.fingerprint256)
  }
  const path = join(t.testdir({ 'clients.json': stepOf('Clients') }), 'clients.json')
  const log: Array<{ msg: string }> = []
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { partners: partners.cert, staff: staff.cert } } })
  const app = Fastify({ https: tls.https, logger: { stream: { write (line: string) { log.push(JSON.parse(line) as { msg: string }) } } } })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { tls, clients: path, flows: { '/': { level: 'mtls', kind: 'rest' } } })
  for (const group of ['readers', 'writers']) app.get(`/${group}`, { httpSecurity: { allow: [{ group }] } }, async () => 'x')
  app.get('/any', async (request) => request.httpSecurity.client?.name ?? 'unknown')
  const { https: { port } } = await tls.listen(app, { https: 0 })
  const admitted = async (): Promise<Record<string, string>> => {
    const entries = Object.entries(who).map(async ([name, { cert, key }]) => {
      const [readers, writers, any] = await Promise.all(['readers', 'writers', 'any'].map(async (path) => await ask({ port, path: `/${path}`, tls: { cert, key, ca: serverCa.cert } })))
      return [name, [...readers!.status === 200 ? ['readers'] : [], ...writers!.status === 200 ? ['writers'] : [], any!.body].join(' ')]
    })
    return Object.fromEntries(await Promise.all(entries)) as Record<string, string>
  }
  const unknown = { globex: 'unknown', 'globex, new': 'unknown', acme: 'unknown', 'acme of staff': 'unknown' }
  t.strictSame(await admitted(), { ...unknown, globex: 'writers globex' })
  for (const [heading, expected] of [
    ['Take in a new client', { ...unknown, globex: 'writers globex', acme: 'readers acme' }],
    ['Suspend a client', unknown],
    ['Replace a certificate without a gap', { ...unknown, globex: 'writers globex', 'globex, new': 'writers globex' }]
  ] as const) {
    const lines = log.length
    writeFileSync(path, stepOf(heading))
    t.ok(await until(() => log.slice(lines).some(({ msg }) => msg === 'http-security: the clients have changed')), heading)
    t.strictSame(await admitted(), expected, heading)
  }
})

t.test('@fastify/jwt: a bound token is good with its own certificate alone', async (t) => {
  const tls = await enableTls({ certificates: { cert: server.cert, key: server.key }, clientCertificates: { ca: { partners: partners.cert, staff: staff.cert } } })
  const app = Fastify({ https: tls.https })
  t.teardown(() => app.close())
  let onRequest: unknown
  app.addHook('onRoute', (route) => { if (route.url === '/orders') onRequest ??= route.onRequest })
  await run(t, pick(page('docs/with-other-plugins.md'), '@fastify/jwt'), { app, tls, httpSecurity })
  // Where no certificate is required, an empty thumbprint is no match either.
  app.get('/open', { httpSecurity: 'tls', onRequest: onRequest as onRequestAsyncHookHandler }, async () => ({ sub: 'anyone' }))
  const { https: { port } } = await tls.listen(app, { https: 0 })
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { iss: 'https://login.example', aud: 'https://shop.example', sub: 'jane', exp: Math.ceil(Date.now() / 1_000) + 60 }
  const tokenOf = (more: object, key = issuer.privateKey): string => {
    const content = `${part({ alg: 'ES256', typ: 'JWT' })}.${part({ ...claims, ...more })}`
    return `${content}.${sign('sha256', Buffer.from(content), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }
  const thumbprintOf = ({ cert }: Identity): string => createHash('sha256').update(new X509Certificate(cert).raw).digest('base64url')
  const answered = async (path: string, identity: Identity | undefined, token: string | undefined): Promise<string> => {
    const { status, body, headers } = await ask({ port, path, headers: { ...token !== undefined && { authorization: `Bearer ${token}` } }, tls: { ca: serverCa.cert, ...identity && { cert: identity.cert, key: identity.key } } })
    const { sub, code } = JSON.parse(body) as { sub?: string, code?: string }
    return `${status} ${sub ?? code ?? String(headers['www-authenticate'])}`
  }
  const REFUSED = '401 Bearer error="invalid_token"'
  const ofJane = tokenOf({ cnf: { 'x5t#S256': thumbprintOf(jane) } })
  t.equal(await answered('/orders', jane, ofJane), '200 jane', 'the right token and the right certificate')
  t.equal(await answered('/orders', sam, ofJane), REFUSED, 'a stolen token, with another valid certificate')
  t.equal(await answered('/orders', undefined, ofJane), '403 FST_HTTP_SECURITY_CERTIFICATE_REQUIRED', 'a stolen token, without a certificate')
  t.equal(await answered('/orders', jane, undefined), '401 FST_JWT_NO_AUTHORIZATION_IN_HEADER', 'no token')
  for (const cnf of [undefined, null, {}, '', { 'x5t#S256': '' }, { 'x5t#S256': null }, { 'x5t#S256': [thumbprintOf(jane)] }, { jkt: thumbprintOf(jane) }]) {
    t.equal(await answered('/orders', jane, tokenOf({ cnf })), REFUSED, `cnf: ${JSON.stringify(cnf)}`)
    t.equal(await answered('/open', undefined, tokenOf({ cnf })), REFUSED, `without a certificate where none is required, cnf: ${JSON.stringify(cnf)}`)
  }
  t.match(await answered('/orders', jane, tokenOf({ cnf: { 'x5t#S256': thumbprintOf(jane) }, aud: 'https://other.example' })), /^401 FST_JWT/, 'a token for somebody else')
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } })
  t.match(await answered('/orders', jane, tokenOf({ cnf: { 'x5t#S256': thumbprintOf(jane) } }, privateKey)), /^401 FST_JWT/, 'a token that the issuer has not signed')
})

t.test('every page of the documentation has the sections that it promises', async (t) => {
  for (const { path, links, anchors } of pages) {
    const own = links.filter((link) => link.startsWith('#'))
    if (path !== 'README.md') t.ok(own.length > 2, `${path} begins with what is in it`)
    t.strictSame(own.filter((link) => !anchors.has(link.slice(1))), [], path)
  }
})
