import { createHash, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import type { HttpSecurityOptions } from '../../lib/index.ts'
import { issueServer } from '../fixtures/pki.ts'
import { makePki, serve } from '../fixtures/serve.ts'

const program = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const pki = await makePki()
const server = await issueServer(pki.ca, ['shop.test'])

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

interface Visit { page: Page, seen: string[] }

/** A browser of its own, for which shop.test has the usual ports. What it asks for over the network is noted. */
async function visit (t: Test, options: HttpSecurityOptions): Promise<Visit> {
  const served = await serve(t, { ...pki, server }, site, { options: { default: 'none', ...options } })
  const spki = createHash('sha256').update(new X509Certificate(server.cert).publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
  const context = await chromium.launchPersistentContext(t.testdir(), {
    executablePath: program,
    args: [
      '--no-sandbox', '--disable-background-networking', '--disable-component-update', `--ignore-certificate-errors-spki-list=${spki}`,
      `--host-resolver-rules=MAP shop.test:80 127.0.0.1:${served.http}, MAP shop.test:443 127.0.0.1:${served.https}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
      // It would try HTTPS by itself.
      '--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable'
    ]
  })
  t.teardown(() => context.close())
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
