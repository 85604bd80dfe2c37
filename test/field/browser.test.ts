import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import type { HttpSecurityOptions } from '../../lib/index.ts'
import type { EnableTlsOptions } from '../../lib/tls/index.ts'
import { type Identity, issueServer } from '../fixtures/pki.ts'
import { pkcs12 } from '../fixtures/pkcs12.ts'
import { run } from '../fixtures/programs.ts'
import { makePki, serve } from '../fixtures/serve.ts'
import { serveTrust, type Trusting } from '../fixtures/trust.ts'

const program = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const pki = await makePki()
const server = await issueServer(pki.ca, ['shop.test', 'www.test', 'partners.test', 'all.test'])

/** Screens, some for everybody and some over HTTPS only, linked as sites are. */
function site (app: FastifyInstance): void {
  const screen = (path: string, level: 'none' | 'tls', links: string): void => {
    app.get(path, { httpSecurity: { level, kind: 'screen' } }, async (_request, reply) => reply.type('text/html').send(`<title>${path}</title>${links}`))
  }
  const links = ['/', '/about', '/login', '/cart', '/old', '/absolute'].map((path) => `<a href="${path}">to ${path}</a>`).join(' ')
  screen('/', 'none', links)
  screen('/about', 'none', links)
  screen('/login', 'tls', `${links}<form action="/login" method="post"><button>log in</button></form>`)
  screen('/cart', 'tls', `${links}<form action="/about"><button>search</button></form>`)
  app.addContentTypeParser('application/x-www-form-urlencoded', (_request, _body, done) => done(null))
  app.post('/login', { httpSecurity: { level: 'tls', kind: 'screen' } }, async (_request, reply) => reply.redirect('http://shop.test/about', 303))
  app.get('/old', { httpSecurity: { level: 'none', kind: 'screen' } }, async (_request, reply) => reply.redirect('/about'))
  app.get('/absolute', { httpSecurity: { level: 'none', kind: 'screen' } }, async (_request, reply) => reply.redirect('http://shop.test/old'))
}

/** A browser of its own, to which hosts lead to ports of ours. Its profile and its store of certificates are in `home`. */
async function launch (t: Test, ports: Record<string, number>, home = t.testdir()): Promise<BrowserContext> {
  const spki = createHash('sha256').update(new X509Certificate(server.cert).publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
  const rules = Object.entries(ports).map(([host, port]) => `MAP ${host} 127.0.0.1:${port}`)
  const context = await chromium.launchPersistentContext(join(home, 'profile'), {
    executablePath: program,
    env: { ...process.env, HOME: home },
    args: [
      '--no-sandbox', '--disable-background-networking', '--disable-component-update', `--ignore-certificate-errors-spki-list=${spki}`,
      `--host-resolver-rules=${rules.join(', ')}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
      // It would try HTTPS by itself.
      '--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable'
    ]
  })
  t.teardown(() => context.close())
  return context
}

interface Visit { page: Page, seen: string[] }

/** A browser of its own, for which shop.test has the usual ports. What it asks for over the network is noted. */
async function visit (t: Test, options: HttpSecurityOptions): Promise<Visit> {
  const served = await serve(t, { ...pki, server }, site, { options: { default: 'none', ...options } })
  const context = await launch(t, { 'shop.test:80': served.http, 'shop.test:443': served.https })
  const page = await context.newPage()
  const seen: string[] = []
  page.on('response', (response) => { if (!response.url().endsWith('/favicon.ico')) seen.push(`${response.status()} ${response.url()}`) })
  return { page, seen }
}

const follow = async (page: Page, path: string): Promise<void> => {
  await page.click(`a[href="${path}"]`)
  await page.waitForLoadState()
}
const press = async (page: Page, name: string): Promise<void> => {
  await page.click(`button:has-text("${name}")`)
  await page.waitForLoadState()
}

t.test('in Chromium', { skip: program === undefined && 'no chromium' }, async (t) => {
  await t.test('a site that was entered over HTTPS is never left for HTTP: by links, forms or redirects', async (t) => {
    const { page, seen } = await visit(t, {})
    await page.goto('https://shop.test/')
    for (const path of ['/about', '/login', '/', '/cart', '/old', '/login', '/absolute', '/login']) await follow(page, path)
    await press(page, 'log in')
    t.equal(page.url(), 'https://shop.test/about')
    await follow(page, '/cart')
    await press(page, 'search')
    t.ok(seen.length > 14, `${seen.length} answers`)
    t.strictSame(seen.filter((line) => !line.includes(' https://shop.test/')), [])
    t.ok(seen.includes('303 https://shop.test/login') && seen.includes('302 https://shop.test/absolute'))
  })

  await t.test('a site that was entered over HTTP goes to HTTPS at the first screen that requires it, and stays there', async (t) => {
    const { page, seen } = await visit(t, {})
    await page.goto('http://shop.test/')
    await follow(page, '/about')
    t.equal(page.url(), 'http://shop.test/about')
    await follow(page, '/login')
    t.strictSame(seen.slice(-2), ['308 http://shop.test/login', '200 https://shop.test/login'])
    for (const path of ['/about', '/', '/absolute']) await follow(page, path)
    t.equal(page.url(), 'https://shop.test/about')
    await page.goto('http://shop.test/about')
    t.equal(page.url(), 'http://shop.test/about', 'without HSTS, who types http:// gets it')
  })

  await t.test('a site with HSTS never comes back to HTTP', async (t) => {
    const { page, seen } = await visit(t, { policy: { environment: { hsts: { maxAge: 600 } } } })
    await page.goto('http://shop.test/about')
    t.strictSame(seen, ['308 http://shop.test/about', '200 https://shop.test/about'], 'screens are forced, too')
    await page.goto('http://shop.test/old')
    t.equal(page.url(), 'https://shop.test/about')
    t.equal(seen.filter((line) => /^(200|308|302) http:/.test(line)).length, 1, `nothing more went over HTTP: ${seen.join(', ')}`)
  })
})

const withoutStore = ['certutil', 'pk12util'].some((name) => !existsSync(`/usr/bin/${name}`)) && 'no certutil or pk12util'

/** A home whose certificate store has a client certificate. As policies of administrators do, `isChosen` has it chosen without a dialog, wherever one is asked for. */
async function homeWith (t: Test, client: Identity, isChosen: boolean): Promise<string> {
  const home = t.testdir({ 'client.p12': await pkcs12(client, 'secret') })
  const [store, profile] = [join(home, '.pki/nssdb'), join(home, 'profile/Default')]
  for (const folder of [store, profile]) mkdirSync(folder, { recursive: true })
  await run('certutil', ['-N', '-d', `sql:${store}`, '--empty-password'])
  await run('pk12util', ['-i', join(home, 'client.p12'), '-d', `sql:${store}`, '-W', 'secret', '-K', ''])
  // What Chromium makes of the policy AutoSelectCertificateForUrls, which would have to lie in /etc
  if (isChosen) writeFileSync(join(profile, 'Preferences'), JSON.stringify({ profile: { managed_auto_select_certificate_for_urls: [JSON.stringify({ pattern: '*', filter: {} })] } }))
  return home
}

t.test('in Chromium with a client certificate', { skip: program === undefined ? 'no chromium' : withoutStore }, async (t) => {
  const ca = pki.ca.cert
  const serveTo = (t: Test, http2: boolean, clientCertificates: EnableTlsOptions['clientCertificates']): Promise<Trusting> => serveTrust(t, { server, http2, tls: { clientCertificates } })
  for (const http2 of [false, true]) {
    const protocol = http2 ? 'HTTP/2' : 'HTTP/1.1'
    await t.test(`${protocol}: a dialog comes up at hosts with client CAs, and at no other`, async (t) => {
      const served = await serveTo(t, http2, { 'partners.test': { ca } })
      const everywhere = await serveTo(t, http2, { ca })
      const context = await launch(t, { 'all.test:443': everywhere.https, '*.test:443': served.https }, await homeWith(t, pki.client, false))
      const page = await context.newPage()
      const answerOf = async (url: string): Promise<string> => {
        const answer = (await page.goto(url))!
        return `${answer.status()} ${await answer.text()}`
      }
      t.equal(await answerOf('https://www.test/tls'), '200 {"isPresent":false,"isValid":false,"value":"","certificate":null}')
      t.match(await answerOf('https://www.test/partners'), /^403 .*CERTIFICATE_REQUIRED/)
      // While it shows the dialog, Chromium has no connection
      const answered: string[] = []
      for (const [{ app }, url] of [[served, 'https://partners.test/tls'], [everywhere, 'https://all.test/tls']] as const) {
        const left = once(app.server, 'tlsClientError')
        const other = await context.newPage()
        await Promise.race([left, other.goto(url).then(() => { answered.push(url) }, () => {})])
      }
      t.match(await answerOf('https://www.test/tls'), /^200/, 'the other hosts go on')
      t.strictSame(answered, [])
      t.strictSame([...served.reached, ...everywhere.reached], ['GET /tls ', 'GET /tls '])
    })

    await t.test(`${protocol}: its holder gets in at a host with client CAs, and remains unknown to all others`, async (t) => {
      const served = await serveTo(t, http2, { 'partners.test': { ca } })
      const context = await launch(t, { '*.test:443': served.https }, await homeWith(t, pki.client, true))
      const page = await context.newPage()
      for (let times = 0; times < 2; times++) {
        t.equal(await (await page.goto('https://www.test/tls'))!.text(), '{"isPresent":false,"isValid":false,"value":"","certificate":null}')
        t.equal(await (await page.goto('https://partners.test/partners'))!.text(), 'Jane')
      }
    })
  }
})
