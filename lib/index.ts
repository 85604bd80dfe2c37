/**
 * fastify-http-security: a route, or a flow of routes, says how it may be reached, and it holds.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { HttpSecurityOptions, Policy } from '../types/index.ts'
import '../types/fastify.ts'
import { attachTls, bootDeadline, caLabelsOf, checkRules, checkServer, isRoot, mayGetCertificates, proxyLabelsOf, requireFirst, requireUnchanged, warnOfNothing, warnOfProxies, warnOfUnusedFlows } from './boot.ts'
import { asksForIssuer } from './clients/rules.ts'
import { resolveOptions } from './options/resolve.ts'
import { NO_POLICY } from './policy/policy.ts'
import { createPolicyManager } from './policy/policy-manager.ts'
import { createEnforcement } from './request/enforce.ts'
import { decorateRequests } from './request/decorators.ts'
import { loadCertificateReader } from './request/certificate-reader.ts'
import { checkAgainAfterBody, guardNotFoundHandlers, guardRoute } from './request/guards.ts'
import { createKeepLocation } from './request/redirect.ts'
import type { Rules } from './request/rules.ts'
import { createTransport } from './request/transport.ts'
import { createConnectionCertificates, createVerdicts } from './request/client-certificate.ts'
import { Violations } from './request/violations.ts'
import { registerHelmet } from './response/hsts.ts'
import { createDowngradeProtection } from './response/downgrade-protection.ts'
import { requireEncapsulation, routeIndexOf, watchRegistrations } from './routes/register.ts'
import { Flows, rulesIn } from './routes/inheritance.ts'
import { print, RouteTable } from './routes/route-table.ts'

export type * from '../types/index.ts'
export { digestOf } from './files/digest.ts'

async function httpSecurity (app: FastifyInstance, input: HttpSecurityOptions): Promise<void> {
  const options = await resolveOptions(input)
  const cameMeanwhile = requireFirst(app)
  if (options.tls !== undefined) await attachTls(app, options.tls, options.application)

  // Registration: every route's level is worked out as it comes.
  const indexKey = Symbol('fastify-http-security')
  const flows = new Flows(options)
  const table = new RouteTable(NO_POLICY)
  const lateErrors: Error[] = []
  requireEncapsulation(app, flows, (error) => lateErrors.push(error))
  const changedRoute = watchRegistrations(app, { options, flows, table, indexKey })

  // Administrators: what they enforce raises these levels, and who their clients are, now and at run time.
  const deadline = bootDeadline(app)
  const policyManager = await createPolicyManager(app, options, table, deadline)
  const mayCome = mayGetCertificates(app, options)
  const connections = createConnectionCertificates(options.tls, mayCome)
  const proxies = options.proxy === undefined || options.proxy.clients.length === 0 ? undefined : new (await import('./request/proven-proxies.ts')).ProvenProxies(options.proxy, connections, app.log)
  const clientsManager = options.clients === undefined ? undefined : await (await import('./clients/clients-manager.ts')).ClientsManager.open(app, options.clients, deadline, proxies)

  // Helmet only sets headers, and refusals should have them, too.
  if (options.helmet !== undefined) await registerHelmet(app, options.helmet)

  // Requests: one hook enforces it, before anything else looks at them.
  const transport = await createTransport(options, proxies)
  const forwarded = options.proxy?.certificate && await (await import('./proxy/forwarded-certificate.ts')).openForwarded(app, options.proxy.certificate, options.proxy.authorities)
  if (mayCome) await loadCertificateReader()
  const verdicts = createVerdicts(transport, connections, options.tls, forwarded)
  let rules: Rules | undefined
  const violations = new Violations(app.log, options.onViolation)
  const protectFromDowngrade = createDowngradeProtection(options, { location: createKeepLocation(options, transport, app.server), dependsOnForwarded: verdicts.dependsOnForwarded })
  // At root, Fastify's own handler tells nothing, and no other one has been set before.
  const guarded = new Set(isRoot(app) ? [app] : [])
  const enforcement = createEnforcement({ options, flows, table, indexKey, transport, verdicts, rules: () => rules, violations, protectFromDowngrade, guarded })
  // Fastify adds a hook once all that was registered before it has loaded.
  app.after(() => {
    const late = cameMeanwhile()
    if (late !== undefined) lateErrors.push(late)
  })
  app.addHook('onRequest', enforcement.enforce)
  guardNotFoundHandlers(app, enforcement.guardNotFound, guarded)
  app.addHook('onRoute', function (this: FastifyInstance, route) {
    const routeIndex = routeIndexOf(route, indexKey)
    // The exemption follows from the guard: there is none without it.
    if (guardRoute(route, enforcement.guardPreflight)) table.exemptPreflights(routeIndex)
    if (table.mayAskForCertificate(routeIndex)) checkAgainAfterBody(this, route, enforcement.checkAgain, enforcement.enforce)
  })

  // What was admitted before goes on while it would be admitted now.
  const { admitted } = enforcement
  const look = (): void => admitted.look()
  options.tls?.onTrustChange.add(look)
  forwarded?.trust?.onChange.add(look)
  policyManager.onChange = look
  if (clientsManager !== undefined) clientsManager.onChange = look
  decorateRequests(app, enforcement, transport, verdicts, () => rules)
  if (options.proxy?.probe !== undefined) (await import('./request/probe.ts')).registerProbe(app, options.proxy, options.proxy.probe, transport, verdicts)

  // Boot: what the server can never deliver stops here.
  app.addHook('onReady', async () => {
    if (lateErrors.length > 0) throw lateErrors[0]
    requireUnchanged(changedRoute())
    checkServer(app, options, table)
    // Fastify's own not-found handler is the first of those that are guarded.
    if (table.rowsFrom('none').length === 0 && guarded.size === 1) warnOfNothing(app)
    if (options.proxy !== undefined) warnOfProxies(app, options.proxy)
    if (options.flows.size > 0) warnOfUnusedFlows(app, flows, options, table)
    policyManager.ready()
    const declared = rulesIn(flows, table)
    if (clientsManager !== undefined || declared.length > 0) {
      const labels = caLabelsOf(app, options, forwarded)
      clientsManager?.ready(labels, proxyLabelsOf(app, options))
      checkRules(app, declared, labels, clientsManager?.clients, table)
      rules = (await import('./request/rules.ts')).createRules({ server: app.server, clientsInForce: () => clientsManager?.clients, asksForIssuer: asksForIssuer(declared), verdicts, log: app.log })
    }
  })
  app.addHook('onClose', async () => {
    violations.close()
    admitted.close()
    options.tls?.onTrustChange.delete(look)
  })
  app.decorate('httpSecurity', Object.freeze({
    routes: () => table.rows(),
    print: () => print(table.rows()),
    enforce: (policy: Policy) => policyManager.enforce(policy),
    get policy () { return policyManager.policy },
    violations: () => violations.rows()
  }))
}

/**
 * The plugin: transport security by declaration. A route, or a flow of routes, says how it may be reached (`'none'`,
 * `'tls'`, `'mtls'`), and one onRequest hook enforces it before any other code sees the request.
 *
 * Register it first, and wait for it, so that it sees every route.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a wrong option; FST_HTTP_SECURITY_LOADED_LATE for routes that were there
 * before; FST_HTTP_SECURITY_NO_EFFECT for a second registration; FST_HTTP_SECURITY_INVALID_POLICY for a bad policy;
 * FST_HTTP_SECURITY_INVALID_CERTIFICATES for client CAs or CRLs of `proxy` that cannot be used; at `ready()`,
 * FST_HTTP_SECURITY_UNSATISFIABLE for a level that this server can never deliver
 * @example
 * const app = Fastify({ https: tls.https })
 * await app.register(httpSecurity, { tls, flows: { '/shop': 'tls', '/partners': { level: 'mtls', kind: 'rest' } } })
 * app.get('/account', { httpSecurity: { kind: 'screen' } }, async () => 'account')
 */
export default fp(httpSecurity, { name: 'fastify-http-security', fastify: '^5.8.4' })
