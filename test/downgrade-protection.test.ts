import t from 'tap'
import type { ServerResponse } from 'node:http'
import tls from 'node:tls'
import cookie from '@fastify/cookie'
import Fastify, { type FastifyInstance } from 'fastify'
import httpSecurity from '../lib/index.ts'
import { ask, askHttp2 } from './fixtures/ask.ts'
import { listenOnFreePort, makePki, serve } from './fixtures/serve.ts'

const pki = await makePki()

/** Ways to send browsers elsewhere, and to set cookies. */
async function declare (app: FastifyInstance): Promise<void> {
  await app.register(cookie)
  const to = (request: { query: unknown }): string => (request.query as { to: string }).to
  app.get('/redirect', async (request, reply) => reply.redirect(to(request)))
  app.get('/created', async (request, reply) => reply.code(201).header('Location', to(request)).send('x'))
  app.get('/ok', async (request, reply) => reply.header('Location', to(request)).send('x'))
  app.get('/set', async (request, reply) => { reply.raw.setHeader('Location', to(request)); return reply.code(303).send() })
  app.get('/implicit', (request, reply) => { reply.hijack(); reply.raw.statusCode = 302; reply.raw.setHeader('Location', to(request)); reply.raw.end() })
  app.get('/raw', (request, reply) => { reply.hijack(); reply.raw.writeHead(302, { LOCATION: to(request), 'Set-Cookie': 'r=1' }); reply.raw.end() })
  app.get('/cookies', async (_request, reply) => reply.setCookie('s', '1', { path: '/secure' }).setCookie('t', '2').header('set-cookie', 'u=3; secure').send('x'))
  app.get('/raw-cookies', async (_request, reply) => { reply.raw.setHeader('set-cookie', ['v=4', 'w=5; Secure']); return 'x' })
  app.get('/error', async (_request, reply) => { reply.setCookie('e', '1'); throw new Error('on purpose') })
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).setCookie('n', '1').send('x'))
}

t.test('a redirect of the app in answer to an HTTPS request stays on HTTPS', async (t) => {
  for (const http2 of [false, true]) {
    const served = await serve(t, pki, declare, { http2, options: { default: 'none' } })
    const plain = `http://localhost:${served.http}/shop?x=%2F`
    const upgraded = `https://localhost:${served.https}/shop?x=%2F`
    const session = served.session()
    const secure = async (path: string, to: string): Promise<unknown> => {
      const target = `${path}?to=${encodeURIComponent(to)}`
      const answer = http2
        ? await askHttp2(session, { ':path': target })
        : await served.secure(target, undefined, { headers: { host: `localhost:${served.https}` } })
      return answer.headers.location
    }
    // Over HTTP/2, Node writes a head that no handler wrote.
    for (const path of ['/redirect', '/created', '/set', '/raw', ...http2 ? [] : ['/implicit']]) {
      t.equal(await secure(path, plain), upgraded, path)
      for (const other of ['/relative', 'http://elsewhere.test/', `http://elsewhere.test:${served.http}/`, 'http://localhost:1/', 'https://localhost/']) t.equal(await secure(path, other), other, path)
    }
    t.equal(await secure('/ok', plain), plain, 'no browser follows that one')
    if (!http2) {
      const socket = tls.connect({ host: '127.0.0.1', port: served.https, servername: 'localhost', ca: pki.ca.cert })
      socket.end(`GET /redirect?to=${encodeURIComponent(plain)} HTTP/1.0\r\n\r\n`)
      let answer = ''
      for await (const chunk of socket) answer += String(chunk)
      t.match(answer, `location: ${plain}\r`, 'whoever names no host has none that could be the same')
    }
    const insecure = await served.insecure(`/redirect?to=${encodeURIComponent(plain)}`, { headers: { host: `localhost:${served.http}` } })
    t.equal(insecure.headers.location, plain, 'nor does HTTP change')
  }
})

t.test('behind a proxy, a Location to the public host goes out as HTTPS', async (t) => {
  const served = await serve(t, pki, declare, { options: { default: 'none', proxy: { trust: '127.0.0.1', host: 'x-forwarded-host' } } })
  const ask = async (to: string, proto: string): Promise<unknown> =>
    (await served.insecure(`/redirect?to=${encodeURIComponent(to)}`, { headers: { host: 'backend', 'x-forwarded-host': 'shop.test', 'x-forwarded-proto': proto } })).headers.location
  t.equal(await ask('http://shop.test/x', 'https'), 'https://shop.test/x')
  t.equal(await ask('http://shop.test/x', 'http'), 'http://shop.test/x')
  t.equal(await ask('http://backend/x', 'https'), 'http://backend/x')
  t.equal(await ask(`http://shop.test:${served.http}/x`, 'https'), `http://shop.test:${served.http}/x`, 'clients do not know our own ports')
})

t.test('with secureCookies, cookies that are set over HTTPS are marked Secure, whoever sets them', async (t) => {
  for (const http2 of [false, true]) {
    const served = await serve(t, pki, declare, { http2, options: { default: 'none', secureCookies: true } })
    const session = served.session()
    const secure = async (path: string) => (http2 ? await askHttp2(session, { ':path': path }) : await served.secure(path)).headers['set-cookie']
    t.strictSame(await secure('/cookies'), ['u=3; secure', 's=1; Path=/secure; SameSite=Lax; Secure', 't=2; SameSite=Lax; Secure'])
    t.strictSame(await secure('/raw-cookies'), ['v=4; Secure', 'w=5; Secure'])
    t.strictSame(await secure('/error'), ['e=1; SameSite=Lax; Secure'])
    t.strictSame(await secure('/nothing'), ['n=1; SameSite=Lax; Secure'])
    t.strictSame(await secure('/raw?to=/'), ['r=1; Secure'])
    t.strictSame((await served.insecure('/cookies')).headers['set-cookie'], ['u=3; secure', 's=1; Path=/secure; SameSite=Lax', 't=2; SameSite=Lax'])
  }
  const without = await serve(t, pki, declare, { options: { default: 'none' } })
  t.strictSame((await without.secure('/raw-cookies')).headers['set-cookie'], ['v=4', 'w=5; Secure'])
})

t.test('response heads written in any way that Node takes are the same with the plugin', async (t) => {
  const heads: Record<string, [number, ...unknown[]]> = {
    pairs: [302, [['Location', '/'], ['Set-Cookie', ['a=1', 'b=2']], ['set-cookie', 'c=3'], ['X-Number', 7]]],
    list: [302, ['Location', '/', 'Set-Cookie', ['a=1', 'b=2'], 'X-Twice', 'x', 'X-Twice', 'y']],
    null: [302, null],
    'a reason and null': [302, 'Found', null],
    'a reason and a list': [302, 'Found', ['Location', '/']],
    'an object': [302, { location: ['/'], 'set-cookie': ['a=1'], 'x-number': 7 }],
    'a name that objects have': [302, ['__proto__', 'x', 'constructor', 'y']]
  }
  const answers = async (isPlugged: boolean): Promise<unknown[]> => {
    const app = Fastify({ https: { key: pki.server.key, cert: pki.server.cert }, forceCloseConnections: true })
    t.teardown(() => app.close())
    if (isPlugged) await app.register(httpSecurity)
    for (const [name, head] of Object.entries(heads)) {
      app.get(`/${name.replaceAll(' ', '-')}`, (_request, reply) => {
        reply.hijack()
        setImmediate(() => { (reply.raw.writeHead as (...args: unknown[]) => ServerResponse).apply(reply.raw, head).end() })
      })
    }
    const port = await listenOnFreePort(t, app)
    return await Promise.all(Object.keys(heads).map(async (name) => {
      const { status, headers: { date, ...headers } } = await ask({ port, path: `/${name.replaceAll(' ', '-')}`, tls: { ca: pki.ca.cert } })
      return [name, status, headers]
    }))
  }
  const [bare, plugged] = [await answers(false), await answers(true)]
  t.match(bare[0], ['pairs', 302, { 'set-cookie': ['a=1', 'b=2', 'c=3'] }])
  t.strictSame(plugged, bare)
})

t.test('other wrappers of writeHead are called, whether set before or after ours', async (t) => {
  const calls: string[] = []
  const wrap = (name: string) => (_request: unknown, reply: { raw: { writeHead: unknown } }, done: () => void): void => {
    const { writeHead } = reply.raw as { writeHead: (...args: unknown[]) => unknown }
    reply.raw.writeHead = function (...args: unknown[]) { calls.push(name); return Reflect.apply(writeHead, this, args) }
    done()
  }
  const { default: Fastify } = await import('fastify')
  const { default: httpSecurity } = await import('../lib/index.ts')
  const { inject } = await import('../lib/testing.ts')
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', wrap('before'))
  await app.register(httpSecurity, { default: 'none', secureCookies: true })
  app.addHook('onRequest', wrap('after'))
  app.get('/', async (_request, reply) => reply.header('set-cookie', 'a=b').redirect('http://localhost/x'))
  const { headers } = await inject(app, { url: '/', secure: true, headers: { host: 'localhost' } })
  t.strictSame([headers.location, headers['set-cookie'], calls], ['https://localhost/x', 'a=b; Secure', ['after', 'before']])
})
