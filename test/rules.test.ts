/**
 * Rules: whose valid certificates a route admits. Declared, inherited, enforced on every transport, and changed while
 * connections are open.
 */
import t, { type Test } from 'tap'
import { EventEmitter } from 'node:events'
import { mock } from 'node:test'
import cors from '@fastify/cors'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import httpSecurity, { type Allowed, type ClientsDocument, type Declaration, type HttpSecurityOptions, type Verify } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { authority, issue } from './fixtures/pki.ts'
import { type LogLine, keepLog } from './fixtures/serve.ts'

const NOT_ALLOWED = 'FST_HTTP_SECURITY_CERTIFICATE_NOT_ALLOWED'
const INVALID = 'FST_HTTP_SECURITY_INVALID_OPTIONS'

const ca = await authority('Partners')
const people = {
  acme: await issue(ca, { subject: 'CN=orders, O=Acme' }),
  globex: await issue(ca, { subject: 'CN=orders, O=Globex' }),
  initech: await issue(ca, { subject: 'CN=orders, O=Initech' }),
  unknown: await issue(ca, { subject: 'CN=orders, O=Unknown' })
}
type Person = keyof typeof people
const everyone = Object.keys(people) as Person[]
const document: ClientsDocument = {
  clients: {
    acme: { groups: ['writers', 'partners'], certificates: [{ subject: { O: 'Acme' } }] },
    globex: { groups: ['partners'], certificates: [{ fingerprint256: people.globex.certificate.fingerprint256 }] },
    initech: { certificates: [{ subject: { O: 'Initech', CN: 'orders' } }] }
  }
}

async function appWith (t: Test, options: HttpSecurityOptions, declare: (app: FastifyInstance) => unknown) {
  const log: LogLine[] = []
  const app = Fastify({ logger: keepLog(log) }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(httpSecurity, { clients: document, ...options })
  await declare(app)
  const ask = async (url: string, person?: Person, more: object = {}) => await inject(app, { url, secure: true, ...person && { clientCertificate: people[person].cert }, ...more })
  /** Who is admitted. */
  const admitted = async (url: string, more?: object): Promise<Person[]> => {
    const answers = await Promise.all(everyone.map(async (person) => ({ person, answer: await ask(url, person, more) })))
    for (const { answer } of answers) if (answer.statusCode === 403 && answer.body !== '' && JSON.parse(answer.body).code !== NOT_ALLOWED) throw new Error(answer.body)
    return answers.filter(({ answer }) => answer.statusCode < 400 || answer.statusCode === 404).map(({ person }) => person)
  }
  return { app, log, ask, admitted, warnings: () => log.filter(({ level }) => level === 40).map(({ msg }) => msg) }
}

const handler = async (): Promise<string> => 'hello'

// Declared

t.test('rules that are wrong, or could not take effect, are errors at registration', async (t) => {
  const { app } = await appWith(t, {}, () => {})
  const cases: Array<readonly [declaration: unknown, message: RegExp]> = [
    [{ level: 'mtls', allow: [] }, /^httpSecurity of route GET \/: allow: .*at least 1/],
    [{ level: 'mtls', allow: 'acme' }, /allow: 'acme' is not allowed/],
    [{ level: 'mtls', allow: [5] }, /allow: 0: 5 is not allowed; allowed: .*a group/],
    [{ level: 'mtls', allow: [null] }, /allow: 0: null is not allowed/],
    [{ level: 'mtls', allow: ['acme', undefined] }, /allow: 1: undefined is not allowed/],
    [{ level: 'mtls', allow: [{ group: undefined }] }, /allow: 0: group: undefined is not allowed/],
    [{ level: 'mtls', allow: [{ group: 'a', san: 'DNS:a' }] }, /allow: 0: .*"san" is not allowed/],
    [{ level: 'mtls', allow: [''] }, /allow: 0: "" is not allowed/],
    [{ level: 'mtls', allow: [{ groups: 'acme' }] }, /allow: 0: "groups" is not allowed; did you mean "group"\?/],
    [{ level: 'mtls', verify: 'yes' }, /verify: 'yes' is not allowed; allowed: a function|verify: allowed: a function/],
    [{ level: 'mtls', alow: ['acme'] }, /unknown option 'alow'.*Did you mean 'allow'/],
    [{ allow: ['acme'] }, /^httpSecurity of route GET \/: allow has no effect at level 'tls', where no client certificate is required; allowed: level 'mtls' beside it/],
    [{ level: 'none', verify: () => true }, /verify has no effect at level 'none'/]
  ]
  for (const [declaration, message] of cases) t.throws(() => app.get('/', { httpSecurity: declaration as Declaration }, handler), { code: INVALID, message }, message.source)
  await t.rejects(async () => { await Fastify().register(httpSecurity, { flows: { '/x': { allow: [{ san: 'x' }] } } }) }, { code: INVALID, message: /flows: '\/x': allow: 0: san: "x" is not allowed/ })
  await t.rejects(async () => { await Fastify().register(httpSecurity, { default: { allow: [{ san: 'x' }] } }) }, { code: INVALID, message: /default: allow: 0: san: "x"/ })
  t.doesNotThrow(() => app.get('/raised', { httpSecurity: { level: 'mtls', allow: ['acme'] } }, handler))
  const raised = await appWith(t, { minimum: 'mtls' }, (app) => app.get('/', { httpSecurity: { allow: ['acme'] } }, handler))
  t.strictSame(await raised.admitted('/'), ['acme'], 'the minimum may be what requires a certificate')
})

t.test('what routes() shows of a rule cannot be changed, nor does a change of what was declared change it', async (t) => {
  const entry = { subject: { O: ['Acme'], CN: 'orders' } }
  const { app, admitted } = await appWith(t, { flows: { '/a': { level: 'mtls', kind: 'rest', allow: [entry] } } }, (app) => app.get('/a', handler))
  entry.subject.O.push('Globex')
  const [shown] = app.httpSecurity.routes()[0]!.allow as readonly [typeof entry]
  t.strictSame(shown, { subject: { O: ['Acme'], CN: 'orders' } })
  t.ok([shown, shown.subject, shown.subject.O].every((part) => Object.isFrozen(part)))
  t.strictSame(await admitted('/a'), ['acme'])
})

t.test('what changes a rule after it was read is a boot error', async (t) => {
  const allow: Allowed[] = ['acme']
  const { app } = await appWith(t, {}, (app) => app.get('/', { httpSecurity: { level: 'mtls', allow } }, handler))
  allow.push('globex')
  await t.rejects(inject(app, '/'), { code: 'FST_HTTP_SECURITY_NO_EFFECT', message: /has changed the httpSecurity of route GET, HEAD|GET \// })
})

t.test('routes() and print() have the rules, and say where they are not applied', async (t) => {
  const verify: Verify = () => true
  const { app, warnings } = await appWith(t, { flows: { '/partners': { level: 'mtls', kind: 'rest', allow: [{ group: 'partners' }] }, '/open': { allow: ['acme'] } } }, (app) => {
    app.get('/', handler)
    app.get('/open', handler)
    app.get('/partners', handler)
    app.get('/partners/orders', { httpSecurity: { allow: ['acme', { san: 'DNS:a.test' }], verify } }, handler)
    app.get('/partners/open', { httpSecurity: 'tls' }, handler)
    app.get('/any', { httpSecurity: 'mtls' }, handler)
    app.register(async function payments (flow) { flow.get('/x', handler) }, { prefix: '/payments', httpSecurity: { level: 'mtls', allow: ['acme'] } })
    app.register(async (flow) => { flow.get('/inner', handler) }, { httpSecurity: { level: 'mtls', verify } })
  })
  await inject(app, '/')
  const rows = Object.fromEntries(app.httpSecurity.routes().map(({ url, allow, rules }) => [url, { ...allow && { allow }, ...rules !== undefined && { rules } }]))
  const ofPartners = { by: 'flows: /partners', allow: [{ group: 'partners' }] }
  t.strictSame(rows, {
    '/': {},
    '/open': { rules: 'not applied' },
    '/partners': { allow: ofPartners.allow, rules: [ofPartners] },
    '/partners/orders': { allow: ['acme', { san: 'DNS:a.test' }], rules: [ofPartners, { by: 'route', allow: ['acme', { san: 'DNS:a.test' }], verify: true }] },
    '/partners/open': { rules: 'not applied' },
    '/any': {},
    '/payments/x': { allow: ['acme'], rules: [{ by: 'the flow payments at /payments', allow: ['acme'] }] },
    '/inner': { rules: [{ by: 'an anonymous flow', verify: true }] }
  })
  t.equal(app.httpSecurity.print(), [
    'METHODS    URL               KIND        DECLARED  LEVEL  SOURCE   RULES',
    'GET, HEAD  /                 undeclared  tls       tls    default',
    'GET, HEAD  /open             undeclared  tls       tls    default  not applied',
    'GET, HEAD  /partners         rest        mtls      mtls   prefix   group partners',
    'GET, HEAD  /partners/orders  rest        mtls      mtls   prefix   group partners AND acme, {"san":"DNS:a.test"}; verify()',
    'GET, HEAD  /partners/open    rest        tls       tls    route    not applied',
    'GET, HEAD  /any              undeclared  mtls      mtls   route    anyone',
    'GET, HEAD  /payments/x       undeclared  mtls      mtls   flow     acme',
    'GET, HEAD  /inner            undeclared  mtls      mtls   flow     verify()',
    ''
  ].join('\n'))
  t.match(warnings(), [/rules are inherited and not applied, because no client certificate is required:\n {2}GET, HEAD \/open$/], 'of a route that declares its level, this is what was meant')
  const plain = await appWith(t, {}, (app) => app.get('/', handler))
  t.notMatch(plain.app.httpSecurity.print(), /RULES/, 'nothing of it where there are none')
})

// Inherited

t.test('rules of default, keys, flows and routes add up: who is nearer can only narrow', async (t) => {
  const names = ['acme', 'globex', 'initech'] as const
  const anyItem: fc.Arbitrary<Allowed> = fc.oneof(fc.constantFrom<Allowed>(...names), fc.constantFrom<Allowed>({ group: 'partners' }, { group: 'writers' }, { group: 'none' }), fc.constantFrom<Allowed>({ subject: { O: 'Unknown' } }, { subject: { CN: 'orders' } }, { fingerprint256: people.acme.certificate.fingerprint256 }))
  const anyRule = fc.option(fc.array(anyItem, { minLength: 1, maxLength: 3 }), { nil: undefined })
  /** The rule in other words. */
  const isIn = (item: Allowed, person: Person): boolean => {
    if (typeof item === 'string') return item === person
    if ('group' in item) return person !== 'unknown' && (document.clients[person]!.groups ?? []).includes(item.group)
    return item.fingerprint256 === undefined ? item.subject!.CN === 'orders' || person === 'unknown' : person === 'acme'
  }
  await fc.assert(fc.asyncProperty(fc.record({ default: anyRule, key: anyRule, nested: anyRule, outer: anyRule, inner: anyRule, own: anyRule, ownVerify: fc.option(fc.constantFrom(...names), { nil: undefined }) }), async (rules) => {
    const allowOf = (allow: Allowed[] | undefined): { allow?: Allowed[] } => allow === undefined ? {} : { allow }
    const app = Fastify()
    try {
      await app.register(httpSecurity, { clients: document, default: { level: 'mtls', kind: 'rest', ...allowOf(rules.default) }, flows: { '/a': allowOf(rules.key), '/a/b': allowOf(rules.nested) } })
      await app.register(async (outer) => {
        await outer.register(async (inner) => {
          inner.get('/x', { httpSecurity: { ...allowOf(rules.own), ...rules.ownVerify !== undefined && { verify: async (_certificate, request) => request.httpSecurity.client?.name === rules.ownVerify } } }, handler)
        }, { prefix: '/b', httpSecurity: allowOf(rules.inner) } as object)
      }, { prefix: '/a', httpSecurity: allowOf(rules.outer) } as object)
      for (const person of everyone) {
        const expected = [rules.default, rules.key, rules.nested, rules.outer, rules.inner, rules.own].every((allow) => allow === undefined || allow.some((item) => isIn(item, person))) && (rules.ownVerify === undefined || rules.ownVerify === person)
        const { statusCode } = await inject(app, { url: '/a/b/x', clientCertificate: people[person].cert })
        if (statusCode !== (expected ? 200 : 403)) throw new Error(`${person}: ${statusCode}`)
      }
    } finally {
      await app.close()
    }
  }), { numRuns: 60 })
  t.pass('as a plain evaluation says')
})

t.test('a flow may pass its own rules on, as it may its level', async (t) => {
  const { admitted } = await appWith(t, {}, async (app) => {
    await app.register(async (flow, options) => {
      flow.get('/x', handler)
      await flow.register(async (inner) => { inner.get('/y', handler) }, options)
    }, { prefix: '/f', httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] } })
  })
  t.strictSame(await admitted('/f/x'), ['acme'])
  t.strictSame(await admitted('/f/f/y'), ['acme'])
})

t.test('wildcard routes, odd spellings and unknown paths under a key meet its rules, as they meet its level', async (t) => {
  const { admitted } = await appWith(t, { flows: { '/partners': { level: 'mtls', kind: 'rest', allow: ['acme'] } } }, (app) => {
    app.get('/:tenant/list', { httpSecurity: { kind: 'rest' } }, handler)
    app.get('/own/*', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['globex', 'acme'] } }, handler)
    app.get('/any/*', { httpSecurity: { level: 'mtls', kind: 'rest' } }, handler)
    app.register(async (flow) => { flow.get('/here', handler) }, { prefix: '/flow', httpSecurity: { level: 'mtls', kind: 'rest', allow: ['globex'] } })
  })
  t.strictSame(await admitted('/shop/list'), everyone, 'a path that is not under the key')
  t.strictSame(await admitted('/partners/list'), ['acme'], 'a parameter')
  t.strictSame(await admitted('/PARTNERS/list'), ['acme'], 'another case')
  t.strictSame(await admitted('/own/x'), ['acme', 'globex'])
  t.strictSame(await admitted('/own/../partners/x'), ['acme'], 'both rules')
  t.strictSame(await admitted('/any/x'), everyone)
  t.strictSame(await admitted('/any/..%2fpartners/x'), ['acme'], 'a route that declares its level')
  t.strictSame(await admitted('/partners/nothing'), ['acme'], 'an unknown path under a key')
  t.strictSame(await admitted('/flow/nothing'), ['globex'], 'an unknown path under a registered prefix')
  t.strictSame(await admitted('/nothing'), everyone, 'any other one')
  t.strictSame(await admitted(`/${'%252e%252e/'.repeat(200)}partners/x`), [], 'one that is too odd to tell meets all rules')
})

t.test('a request that rewriteUrl leads elsewhere meets the rules of either path: a handler may read both', async (t) => {
  const app = Fastify({ rewriteUrl: ({ url }) => url!.startsWith('/PARTNERS') ? '/files/b' : url! })
  t.teardown(() => app.close())
  await app.register(httpSecurity, { clients: document, default: { level: 'mtls', kind: 'rest' }, flows: { '/partners': { allow: ['acme'] } } })
  app.get('/files/*', handler)
  for (const [url, person, status] of [['/files/b', 'globex', 200], ['/PARTNERS', 'acme', 200], ['/PARTNERS', 'globex', 403]] as const) t.equal((await inject(app, { url, clientCertificate: people[person].cert })).statusCode, status, `${url} ${person}`)
})

t.test('a not-found handler in a flow meets the rules of that flow', async (t) => {
  const { admitted } = await appWith(t, { default: { level: 'mtls', kind: 'rest' } }, (app) => {
    app.register(async (flow) => {
      flow.setNotFoundHandler(async () => 'page')
      flow.get('/here', handler)
    }, { prefix: '/flow', httpSecurity: { allow: ['acme'] } })
    app.get('/elsewhere', async (_request, reply) => { reply.callNotFound() })
    app.setNotFoundHandler(async () => 'none')
  })
  t.strictSame(await admitted('/flow/nothing'), ['acme'])
  t.strictSame(await admitted('/elsewhere'), everyone)
  t.strictSame(await admitted('/nothing'), everyone)
})

t.test('a flow without a prefix may have a not-found handler alone: it meets the rules of that flow', async (t) => {
  const { admitted } = await appWith(t, { default: { level: 'mtls', kind: 'rest' } }, (app) => {
    app.register(async (flow) => { flow.setNotFoundHandler(async () => 'page') }, { httpSecurity: { allow: ['acme'] } })
  })
  t.strictSame(await admitted('/nothing'), ['acme'])
})

t.test('HEAD meets the rules of its GET; a CORS preflight meets them at the handler', async (t) => {
  const { ask, admitted } = await appWith(t, {}, async (app) => {
    app.route({ method: ['GET', 'OPTIONS'], url: '/x', httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] }, handler })
  })
  t.strictSame(await admitted('/x', { method: 'HEAD' }), ['acme'])
  t.strictSame(await admitted('/x', { method: 'OPTIONS' }), ['acme'])
  t.strictSame(await admitted('/x', { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } }), ['acme'], 'a preflight that nothing has answered')
  const withCors = await appWith(t, {}, async (app) => {
    await app.register(cors)
    app.route({ method: ['GET', 'OPTIONS'], url: '/x', httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] }, handler })
  })
  t.equal((await withCors.ask('/x', undefined, { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } })).statusCode, 204)
  t.equal((await ask('/x', 'globex')).statusCode, 403)
})

// verify

t.test('verify decides about each request: only true admits', async (t) => {
  const answers: Record<string, unknown> = { true: true, one: 1, string: 'true', undefined, object: {}, promise: Promise.resolve(true), later: new Promise((resolve) => setImmediate(resolve, true)), no: Promise.resolve('yes'), thenable: { then: (resolve: (value: unknown) => void) => resolve(true) } }
  let calls: unknown[] = []
  const verify: Verify = (certificate, request) => {
    calls.push(certificate?.subject)
    const { answer } = request.query as { answer: string }
    if (answer === 'throw') throw new Error('no')
    if (answer === 'reject') return Promise.reject(new Error('later no'))
    if (answer === 'odd') return { get then () { throw new Error('odd') } }
    return answers[answer]
  }
  const { ask, log } = await appWith(t, {}, (app) => app.post('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'], verify } }, handler))
  const admitted: string[] = []
  for (const answer of [...Object.keys(answers), 'throw', 'reject', 'odd']) {
    calls = []
    const { statusCode } = await ask(`/?answer=${answer}`, 'acme', { method: 'POST', payload: {} })
    if (statusCode === 200) admitted.push(answer)
    else t.equal(statusCode, 403, answer)
    t.strictSame(calls, ['CN=orders\nO=Acme'], `${answer}: called once, though the certificate is looked at again after the body`)
  }
  t.strictSame(admitted, ['true', 'promise', 'later', 'thenable'])
  t.equal(log.filter(({ level, msg }) => level === 50 && msg === 'http-security: verify has failed, so that the request is refused').length, 3)
  calls = []
  await ask('/?answer=true', 'globex', { method: 'POST', payload: {} })
  t.strictSame(calls, [], 'not called for whom allow refuses')
  t.match(log.filter(({ code }) => code === NOT_ALLOWED).at(-1), { rule: 'route: acme; verify()', certificate: { client: 'globex' } })
})

t.test('the log says of a verify that fails which request it was', async (t) => {
  const { ask, log } = await appWith(t, { flows: { '/a': { level: 'mtls', kind: 'rest', verify: () => { throw new Error('no') } } } }, (app) => app.get('/a/:id', handler))
  for (const url of ['/a/1', '/a/b/c']) t.equal((await ask(url, 'acme')).statusCode, 403)
  t.match(log.filter(({ level }) => level === 50), [{ route: '/a/:id', reqId: /./ }, { route: null, reqId: /./ }])
})

t.test('a verify that does not answer within ten seconds refuses, and is told', async (t) => {
  const { ask, log } = await appWith(t, {}, (app) => app.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', verify: () => new Promise(() => {}) } }, handler))
  await ask('/nothing')
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const answer = ask('/', 'acme')
    const done = answer.then(() => true)
    const notYet = async (): Promise<boolean> => await Promise.race([done, new Promise<boolean>((resolve) => { setImmediate(resolve, false) })])
    for (let ticks = 0; ticks < 1_000 && !await notYet(); ticks++) {
      mock.timers.tick(100)
    }
    t.equal((await answer).statusCode, 403)
  } finally {
    mock.timers.reset()
  }
  t.match(log.find(({ level }) => level === 50), { msg: 'http-security: verify has failed, so that the request is refused', err: { message: 'it has not answered within 10 seconds' } })
})

t.test('after verify has answered, the client is looked at once more', async (t) => {
  const gate = new EventEmitter()
  let clients = document
  let changed = (): void => {}
  const calls: string[] = []
  const { ask, app } = await appWith(t, { clients: { load: async () => clients, watch (listener) { changed = listener; return () => {} } } }, (app) => {
    app.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: [{ group: 'writers' }], verify: () => { calls.push('verify'); return new Promise((resolve) => gate.once('open', () => resolve(true))) } } }, handler)
    app.get('/who', async (request) => request.httpSecurity.client)
  })
  const answer = ask('/', 'acme')
  while (calls.length === 0) await new Promise((resolve) => { setImmediate(resolve) })
  clients = { clients: { acme: { certificates: document.clients.acme!.certificates } } }
  changed()
  while ((await ask('/who', 'acme')).json<{ groups: string[] }>().groups.length > 0) await new Promise((resolve) => { setImmediate(resolve) })
  gate.emit('open')
  t.match((await answer).json<object>(), { code: NOT_ALLOWED }, 'the group was taken away meanwhile')
  t.strictSame(calls, ['verify'])
  await app.close()
})

t.test('several rules: each verify is called once, in order, until one refuses', async (t) => {
  const calls: string[] = []
  const verify = (name: string, answer: unknown): Verify => () => { calls.push(name); return answer }
  const { ask, admitted } = await appWith(t, { flows: { '/a': { level: 'mtls', kind: 'rest', verify: verify('key', Promise.resolve(true)) } } }, (app) => {
    app.get('/a/yes', { httpSecurity: { verify: verify('own', Promise.resolve(true)) } }, handler)
    app.get('/a/no', { httpSecurity: { verify: verify('no', false) } }, handler)
    app.get('/a/allow', { httpSecurity: { allow: ['acme'] } }, handler)
  })
  t.equal((await ask('/a/yes', 'acme')).statusCode, 200)
  t.strictSame(calls.splice(0), ['key', 'own'])
  t.equal((await ask('/a/no', 'acme')).statusCode, 403)
  t.strictSame(calls.splice(0), ['key', 'no'])
  t.strictSame(await admitted('/a/allow'), ['acme'])
  t.equal((await ask('/a/nothing', 'acme')).statusCode, 404)
  t.strictSame(calls.splice(0), ['key', 'key'], 'by the one that allow admitted, and for the unknown path')
})

// Refused

t.test('a refusal by a rule is a SOAP fault for SOAP, and counted by the name of the client', async (t) => {
  const { app, ask } = await appWith(t, {}, (app) => {
    app.post('/soap', { httpSecurity: { level: 'mtls', kind: 'soap', allow: ['acme'] } }, handler)
    app.get('/rest', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] } }, handler)
    app.setErrorHandler((error, _request, reply) => { reply.code(418).send({ mine: (error as { code?: string }).code }) })
  })
  const fault = await ask('/soap', 'globex', { method: 'POST', headers: { soapaction: '""' } })
  t.equal(fault.statusCode, 403)
  t.match(fault.body, `<faultstring>${NOT_ALLOWED}: The holder of this client certificate is not allowed here</faultstring>`)
  for (const person of ['globex', 'globex', 'unknown', undefined] as const) await ask('/rest', person)
  t.strictSame((await ask('/rest', 'initech')).json(), { mine: NOT_ALLOWED }, 'through the error handler of the app')
  t.strictSame(app.httpSecurity.violations().map(({ code, url, client, count }) => [code.slice(18), url, client, count]), [
    ['CERTIFICATE_NOT_ALLOWED', '/soap', 'globex', 1],
    ['CERTIFICATE_NOT_ALLOWED', '/rest', 'globex', 2],
    ['CERTIFICATE_NOT_ALLOWED', '/rest', undefined, 1],
    ['CERTIFICATE_REQUIRED', '/rest', undefined, 1],
    ['CERTIFICATE_NOT_ALLOWED', '/rest', 'initech', 1]
  ])
})

t.test('counters for single clients are limited: beyond, they are counted together', async (t) => {
  let name = ''
  const definitions = Object.fromEntries(Array.from({ length: 1_010 }, (_, n) => [`c${n}`, { certificates: [{ subject: { CN: `c${n}` } }] }]))
  const { app, ask } = await appWith(t, { clients: { load: async () => ({ clients: { [name]: { certificates: [{ subject: { O: 'Acme' } }] } } }) } }, () => {}).catch(() => ({ app: undefined, ask: undefined }))
  t.equal(app ?? ask, undefined, 'an empty name is not allowed')
  name = 'x'
  let changed = (): void => {}
  const counted = await appWith(t, { clients: { load: async () => ({ clients: { [name]: { certificates: [{ subject: { O: 'Acme' } }] } } }), watch (listener) { changed = listener; return () => {} } } }, (app) => {
    app.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['other'] } }, handler)
    app.get('/who', async (request) => request.httpSecurity.client?.name ?? '')
  })
  for (const next of Object.keys(definitions)) {
    name = next
    changed()
    while ((await counted.ask('/who', 'acme')).body !== next) await new Promise((resolve) => { setImmediate(resolve) })
    await counted.ask('/', 'acme')
  }
  const rows = counted.app.httpSecurity.violations()
  t.equal(rows.length, 1_001)
  t.match(rows.find(({ client }) => client === undefined), { count: 10 })
})

t.test('in report mode, whom rules would refuse is let through and counted', async (t) => {
  const { app, ask, admitted } = await appWith(t, { mode: 'report' }, (app) => app.get('/', { httpSecurity: { level: 'mtls', kind: 'rest', allow: ['acme'] } }, handler))
  t.strictSame(await admitted('/'), everyone)
  t.match(app.httpSecurity.violations().map(({ mode, client, count }) => [mode, client, count]), [['report', 'globex', 1], ['report', 'initech', 1], ['report', undefined, 1]])
  t.equal((await ask('/', 'globex')).statusCode, 200)
})

t.test('what handlers read of a client', async (t) => {
  const seen: Array<ReturnType<typeof read>> = []
  const read = (request: FastifyRequest) => ({ client: request.httpSecurity.client, value: request.clientCertificateValue('cLiEnT'), thumbprint: request.clientCertificateValue('x5t#S256') })
  const { ask } = await appWith(t, {}, (app) => app.get('/', async (request) => { seen.push(read(request)) }))
  await ask('/', 'acme')
  await ask('/', 'unknown')
  await ask('/')
  const thumbprint = (person: Person): string => Buffer.from(people[person].certificate.fingerprint256.replaceAll(':', ''), 'hex').toString('base64url')
  t.strictSame(seen, [
    { client: { name: 'acme', groups: ['writers', 'partners'] }, value: 'acme', thumbprint: thumbprint('acme') },
    { client: null, value: '', thumbprint: thumbprint('unknown') },
    { client: null, value: '', thumbprint: '' }
  ])
  t.ok(Object.isFrozen(seen[0]!.client) && Object.isFrozen(seen[0]!.client!.groups))
})
