/**
 * One boot in a fresh process. JavaScript, and alone in its process: no loader is part of what is measured.
 */
import { performance } from 'node:perf_hooks'

process.once('message', async ({ what, entry, https }) => {
  const answer = what === 'start' ? await start(entry) : await register(entry, https)
  process.send(answer, () => process.disconnect())
})

/** From nothing to ready with one route. */
async function start (entry) {
  const before = performance.now()
  const { default: Fastify } = await import('fastify')
  const app = Fastify()
  if (entry !== null) await app.register((await import(entry)).default, { default: 'none' })
  app.get('/', (_request, reply) => { reply.send('reached') })
  await app.ready()
  const milliseconds = performance.now() - before
  return { milliseconds, status: (await app.inject('/')).statusCode, rows: app.httpSecurity?.routes().length ?? 1 }
}

const ROUTES = 10_000
const FLOWS = { '/area-1': 'mtls', '/area-2/things-2': { level: 'tls', kind: 'rest' }, '/area-3': 'none' }

/** 10,000 routes, imports apart. */
async function register (entry, https) {
  const { default: Fastify } = await import('fastify')
  const plugin = entry === null ? undefined : (await import(entry)).default
  // Once before, with one route: what is made once a process is not counted as memory of routes.
  await declare(Fastify({ https }), plugin, 1)

  const app = Fastify({ https })
  const heap = memory()
  const before = performance.now()
  await declare(app, plugin, ROUTES)
  const milliseconds = performance.now() - before
  const grown = memory()
  return {
    milliseconds,
    heap: (grown.heap - heap.heap) / ROUTES,
    table: (grown.arrayBuffers - heap.arrayBuffers) / ROUTES,
    status: (await app.inject('/area-1/things-1/1')).statusCode,
    rows: app.httpSecurity?.routes().length ?? ROUTES,
    policyChange: entry === null ? 0 : changePolicy(app)
  }
}

const POLICIES = [{}, { environment: { forceHttpsForScreens: true, forceHttpsForIntegrations: true } }]

/** Milliseconds that a policy takes to hold, which raises or lowers 1,000 of the routes: the middle of some, as at run time. */
function changePolicy (app) {
  const times = []
  for (let i = 1; i <= 41; i++) {
    const before = performance.now()
    app.httpSecurity.enforce(POLICIES[i % 2])
    times.push(performance.now() - before)
  }
  const raised = app.httpSecurity.routes().filter(({ source }) => source === 'policy').length
  if (raised !== ROUTES / 10) throw new Error(`${raised} routes were raised`)
  return times.sort((a, b) => a - b)[20]
}

/** Half with a parameter, a tenth with a declaration of their own, the rest from three prefixes or the default. */
async function declare (app, plugin, count) {
  if (plugin !== undefined) await app.register(plugin, { flows: FLOWS })
  for (let i = 0; i < count; i++) {
    const url = `/area-${i % 10}/things-${i}${i % 2 === 0 ? '/:id' : '/1'}`
    const options = i % 10 === 7 ? { httpSecurity: { kind: 'screen' } } : {}
    app.get(url, options, (_request, reply) => { reply.send('reached') })
  }
  await app.ready()
}

function memory () {
  // Twice: what has weak references to it goes only with the second.
  globalThis.gc()
  globalThis.gc()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { heap: heapUsed, arrayBuffers }
}
