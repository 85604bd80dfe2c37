/**
 * What the server can deliver, proved before it listens: a level that it can never deliver is a boot error.
 */
import type { FastifyInstance } from 'fastify'
import type { RouteSecurity } from '../types/index.ts'
import type { Clients } from './clients/clients.ts'
import { type CaLabels, OF_ROUTE, problemOfLabel, type Rule } from './clients/rules.ts'
import { InvalidOptionsError, LoadedLateError, NoEffectError, UnsatisfiableError } from './errors.ts'
import { isTlsInterface, type TlsInterface } from './tls-interface.ts'
import type { Proxy } from './options/proxy.ts'
import type { Options } from './options/resolve.ts'
import { show } from './options/validation-errors.ts'
import { forcesHttps } from './policy/policy.ts'
import type { ForwardedReader } from './proxy/forwarded-certificate.ts'
import type { ForwardedProtocol } from './proxy/forwarded-protocol.ts'
import { isDescription, PROTOCOLS } from './proxy/presets.ts'
import { PROBE_CONSTRAINT, PROBE_URLS } from './proxy/probe-token.ts'
import type { Flows } from './routes/inheritance.ts'
import { nameOf, type RouteTable } from './routes/route-table.ts'
import { allowWithoutTls, childrenOf, hasNotFoundHandler, hooksOf, isAllowedWithoutTls, isPlainServer, isServerOfNode, NOT_OF_NODE, noteEmpty, NOTHING_TO_SERVE, servedApp, type ServerFacts, serverFactsOf, tlsObstacle } from './internals.ts'

/** Routes named in one error; the rest is counted. */
const MOST_NAMED = 20

/**
 * Where an audit collects what it learns of apps, by server, while it runs. Behind a symbol of the process, which two
 * copies of this package share: that of the command, and that of the app.
 */
export const kAudit = Symbol.for('fastify-http-security.audit')
export type Assessments = WeakMap<object, Assessment>

/** What would stop the boot of an app, and is not known from its routes. */
export interface Assessment {
  readonly mode: Options['mode']
  readonly shortfalls: readonly Shortfall[]
  /** Why the server cannot do what the policy in force by now asks for, if it cannot. */
  policyObstacle (): string | undefined
  /** Whether the plugin itself has registered a route, for `proxy.probe`. */
  isProbe (row: RouteSecurity): boolean
}

/** Something that a server cannot deliver, and the routes that ask for it: none where it is about the whole app. */
interface Shortfall {
  readonly reason: string
  readonly routes: readonly RouteSecurity[]
}

/** The part of Fastify's `pluginTimeout` that first loads may take: Fastify's own timeout error would not say what it waited for. */
const BOOT_SHARE = 0.9

/** When what is loaded at boot has to be there, by `performance.now()`; 0 means no timeout. */
export function bootDeadline ({ initialConfig: { pluginTimeout } }: FastifyInstance): number {
  return performance.now() + (pluginTimeout || Infinity) * BOOT_SHARE
}

/**
 * The plugin sees only routes that come after it, and once.
 *
 * @returns tells, where it is called just before the guards are put, what came in the meantime: a plugin that is registered
 * and not awaited loads while the application goes on
 * @throws FST_HTTP_SECURITY_LOADED_LATE, FST_HTTP_SECURITY_NO_EFFECT
 */
export function requireFirst (app: FastifyInstance): () => Error | undefined {
  requireOnce(app)
  warnOfHooksBefore(app)
  if (!isRoot(app)) {
    app.log.warn('http-security: registered in a child context, it protects the routes of that context only: not those outside, nor unknown paths. To protect the whole application, register it at root; a plugin or app file that does so has to be wrapped in fastify-plugin')
    return watchMeantime(app)
  }
  const tree = app.printRoutes({ commonPrefix: false })
  if (hasNotFoundHandler(app)) {
    throw new LoadedLateError('a not-found handler was set before fastify-http-security had loaded, so it cannot protect it; put `await app.register(httpSecurity)` first')
  }
  if (tree === '(empty tree)') return watchMeantime(app)
  throw new LoadedLateError(`routes were declared before fastify-http-security had loaded, so it cannot protect them; put \`await app.register(httpSecurity)\` first, before:\n${tree}`)
}

/** What is added in the meantime comes before the guards: it might answer, or be reached without them. */
function watchMeantime (app: FastifyInstance): () => Error | undefined {
  const [children, hooks] = [childrenOf(app), hooksOf(app, ['onRequest'])]
  const hadNotFoundHandler = hasNotFoundHandler(app)
  return () => {
    const added = hooksOf(app, ['onRequest'])?.filter((hook) => hooks?.includes(hook) === false && !isOfHelmet(hook))
    const what = [
      ...(!hadNotFoundHandler && hasNotFoundHandler(app) ? ['a not-found handler'] : []),
      ...(added !== undefined && added.length > 0 ? ['an onRequest hook'] : []),
      ...(childrenOf(app) > children ? ['a plugin'] : [])
    ]
    return what.length === 0 ? undefined : new LoadedLateError(`${what.join(' and ')} came while fastify-http-security was loading, so it cannot protect that; put \`await app.register(httpSecurity)\` first`)
  }
}

/** Registered by this plugin, for its option `helmet`. */
function isOfHelmet (hook: unknown): boolean {
  return (hook as { name: string }).name.startsWith('helmet')
}

/** Where an app's server keeps the instances that the plugin was registered on. Copies of this package share it. */
const kRegistered = Symbol.for('fastify-http-security.registered')

/** Contexts beside each other may each have their own; of two on one line, none would see all that it has to. */
function requireOnce (app: FastifyInstance): void {
  const { server } = app
  const registered = Reflect.get(server, kRegistered) as FastifyInstance[] | undefined ?? []
  if (registered.some((other) => other === app || Object.prototype.isPrototypeOf.call(other, app))) {
    throw new NoEffectError('fastify-http-security is registered already, here or in a context around this one: the options of a second registration have no effect')
  }
  if (registered.some((other) => Object.prototype.isPrototypeOf.call(app, other))) {
    throw new NoEffectError('fastify-http-security is registered already, in a context within this one, whose routes this registration would not see; register it here alone, and first: `await app.register(httpSecurity)`')
  }
  Reflect.set(server, kRegistered, [...registered, app])
}

/** A hook that runs first may answer first. Hooks that trace or measure have good reason to be first. */
function warnOfHooksBefore (app: FastifyInstance): void {
  const hooks = hooksOf(app, ['onRequest'])
  if (hooks === undefined || hooks.length === 0) return
  const names = hooks.map((hook) => (hook as { name: string }).name || 'anonymous')
  app.log.warn(`http-security: ${hooks.length} onRequest ${hooks.length === 1 ? 'hook was' : 'hooks were'} added before fastify-http-security: ${listOf(names)}. What they answer, as express and middie do, is not protected. Put \`await app.register(httpSecurity)\` before whatever adds them; hooks that only look on, such as those that trace, may stay`)
}

/**
 * Of an app without routes and not-found handlers. No route comes after the boot: what adds them when it is initialised, as
 * Nest does, was not.
 */
export function warnOfNothing (app: FastifyInstance): void {
  const { server } = app
  // In a child context, others may have routes; and libraries for WebSockets listen to the server itself.
  if (!isRoot(app) || hasNotFoundHandler(app) || !isServerOfNode(server) || server.listenerCount('upgrade') > 0 || server.listenerCount('request') > 1) return
  noteEmpty(server)
  app.log.warn(`http-security: ${NOTHING_TO_SERVE}`)
}

/** A key of `flows` may be misspelled: the routes that were meant have another level then. */
export function warnOfUnusedFlows (app: FastifyInstance, flows: Flows, options: Options, table: RouteTable): void {
  const unused = flows.keysWithout(table.rowsFrom('none').filter((row) => !isProbe(app, options, row)).map(({ url }) => url))
  if (unused.length === 0) return
  const names = unused.map(([key, meant]) => `'${key}'${meant === undefined ? '' : ` (did you mean '${meant}'?)`}`)
  app.log.warn(`http-security: flows: no route is under ${listOf(names)}: of routes elsewhere, this says nothing`)
}

/** What holds of several proxies only under conditions that nothing here can see. */
export function warnOfProxies (app: FastifyInstance, { protocol, clients, certificate }: Proxy): void {
  warnOfHops(app, protocol)
  if (clients.length < 2 || certificate === undefined || !isDescription(certificate.encoding)) return
  const known = certificate.encoding === 'dn' ? certificate.fingerprint === undefined ? undefined : 'fingerprint256' : 'fingerprint256 or a URI'
  app.log.warn(`http-security: of proxies in front of one another, proxy.certificate only describes the certificates: that of the outer one counts as a visitor's ${known === undefined ? 'and cannot be told from one; have certificates forwarded whole, or with a fingerprint' : `unless the clients document has it by ${known}`}`)
}

/** What a proxy says that is not the nearest one may as well be from whoever reaches the nearest one, or one in between. */
function warnOfHops (app: FastifyInstance, { header, hops = 1 }: ForwardedProtocol): void {
  const preset = (['cloudfront', 'azure'] as const).find((name) => PROTOCOLS[name].header === header)
  const relied = [...preset === undefined ? [] : [`proxy.protocol: '${preset}'`], ...hops > 1 ? [`proxy.hops: ${hops}`] : []]
  if (relied.length > 0) app.log.warn(`http-security: ${relied.join(' with ')} holds only if each proxy takes requests from the one before alone, which only the network can guarantee: whoever else reaches one of them can claim to have come over HTTPS`)
}

/** The labels that rules and the clients document may ask for. */
export function caLabelsOf (app: FastifyInstance, { tls, proxy }: Options, forwarded: ForwardedReader | undefined): CaLabels {
  const names = new Set([...tls?.labels() ?? [], ...forwarded?.trust?.labels ?? []])
  if (proxy?.certificate !== undefined && proxy.certificate.verified !== 'here') return { names, obstacle: "the proxy verifies client certificates, and does not say by which of its CAs. Have whole certificates forwarded and verified here (proxy: { certificate: { …, verified: 'here' }, ca: { label: … } }), or describe certificates in another way" }
  if (tls === undefined && proxy?.certificate === undefined && isAllowedWithoutTls(app.server)) return { names: undefined }
  if (tls === undefined && proxy?.certificate === undefined) return { names, obstacle: WITHOUT_LABELS }
  return { names }
}

const WITHOUT_LABELS = 'the server was not made with enableTls, whose client CAs may have labels (clientCertificates: { ca: { label: … } })'

/** The labels that the certificates of proxies may have, which come over TLS. */
export function proxyLabelsOf (app: FastifyInstance, { tls }: Options): CaLabels {
  if (tls !== undefined) return { names: tls.labels() }
  return isAllowedWithoutTls(app.server) ? { names: undefined } : { names: new Set(), obstacle: WITHOUT_LABELS }
}

/**
 * Rules that admit no client for a mistake: a wrong label is an error, unknown names are a warning, because a document may have
 * them later.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function checkRules (app: FastifyInstance, rules: readonly Rule[], labels: CaLabels, clients: Clients | undefined, table: RouteTable): void {
  for (const rule of rules) {
    for (const [label, index] of rule.allow?.labels ?? []) {
      const problem = problemOfLabel(label, labels)
      if (problem !== undefined) throw new InvalidOptionsError(`httpSecurity of ${rule.by === OF_ROUTE ? `route ${nameOf(table.routesWith(rule)[0]!)}` : rule.by}: allow: ${index}: ${problem}`)
    }
  }
  const names = [...new Set(rules.flatMap(({ allow }) => [...allow?.names ?? []]))].filter((name) => clients?.named(name) === undefined)
  const groups = [...new Set(rules.flatMap(({ allow }) => [...allow?.groups ?? []]))].filter((group) => clients?.hasGroup(group) !== true)
  const unknown = [...names.map((name) => show(name)), ...groups.map((group) => `group ${show(group)}`)]
  if (unknown.length > 0) app.log.warn(`http-security: rules name ${listOf(unknown)}, which ${clients === undefined ? 'nothing defines: the option clients is missing' : 'the clients document does not have'}; until it does, they admit no client`)
  // Of a route that itself declares a level below, this is what was meant.
  const open = table.rows().filter(({ rules, source }) => rules === 'not applied' && source !== 'route')
  if (open.length > 0) app.log.warn(`http-security: rules are inherited and not applied, because no client certificate is required${routeList(open)}`)
}

/** Has the servers of an app kept up to date, also those that Fastify makes to listen on `localhost`. */
export async function attachTls (app: FastifyInstance, tls: TlsInterface, application: string | undefined): Promise<void> {
  const linked = servedApp(app)
  linked.application = application
  await tls.attach(linked)
  app.addHook('onListen', async () => await tls.attach(linked))
  app.addHook('onClose', async () => tls.release(linked))
}

/**
 * Whether a client certificate can come, as far as the boot lets a level be `'mtls'`. Who has it let be what the server
 * can never deliver may know more of the server than is seen here.
 */
export function mayGetCertificates ({ server }: FastifyInstance, { tls, proxy, unsatisfiable }: Options): boolean {
  return tls !== undefined || proxy?.certificate !== undefined || unsatisfiable === 'warn' || !isPlainServer(server)
}

/**
 * Every route is still what its level was worked out for.
 *
 * @param changed what is not
 * @throws FST_HTTP_SECURITY_NO_EFFECT
 */
export function requireUnchanged (changed: string | undefined): void {
  if (changed === undefined) return
  throw new NoEffectError(`an onRoute hook has changed ${changed} after its level was worked out, so that httpSecurity would have no effect; add such a hook before fastify-http-security is registered, and let it extend a config: { ...route.config, … }`)
}

/**
 * Compares what routes ask for with what the server can do.
 *
 * @throws FST_HTTP_SECURITY_UNSATISFIABLE unless `unsatisfiable` is `'warn'`
 */
export function checkServer (app: FastifyInstance, options: Options, table: RouteTable): void {
  if (isAllowedWithoutTls(app.server)) return
  const facts = serverFactsOf(app)
  const tls = table.rowsFrom('tls')
  const mtls = table.rowsFrom('mtls')
  const shortfalls = shortfallsOf(app, facts, options, { tls, mtls })
  const assessments = Reflect.get(globalThis, kAudit) as Assessments | undefined
  if (assessments !== undefined) {
    // An audit is about all of the table, so the app has to become ready.
    const obstacle = tlsObstacle(app, options)
    assessments.set(app.server, {
      mode: options.mode,
      shortfalls,
      policyObstacle: () => forcesHttps(table.state.policy) ? obstacle : undefined,
      isProbe: (row) => isProbe(app, options, row)
    })
    allowWithoutTls(app.server)
  } else if (shortfalls.length > 0) {
    const error = new UnsatisfiableError(shortfalls.map(({ reason, routes }) => routes.length === 0 ? reason : `${reason}. Routes${routeList(routes)}`).join('\n'))
    if (options.unsatisfiable === 'error') throw error
    app.log.warn({ code: error.code }, `http-security: ${error.message}`)
  }
  if (facts.asksForCertificates && facts.rejectsUnauthorized && tls.length > mtls.length) {
    app.log.warn(`http-security: rejectUnauthorized is true, so that clients without a certificate reach no route at all; set it to false${routeList(tls.filter(({ level }) => level === 'tls'))}`)
  }
  if (options.tls !== undefined) warnOfHosts(app, options.tls, mtls)
  if (options.helmet?.hsts || options.helmet?.strictTransportSecurity) {
    app.log.warn('http-security: the HSTS of helmet is off, whatever its options say')
  }
  if (facts.hasFrameworkErrors) {
    app.log.warn('http-security: frameworkErrors is set: Fastify runs it for malformed URLs and over-long parameters without any hook, so also over plain HTTP')
  }
}

/** Where some hosts have client CAs, the others trust no client: mostly the first of the certificates was forgotten. */
function warnOfHosts (app: FastifyInstance, tls: TlsInterface, mtls: readonly RouteSecurity[]): void {
  const hosts = tls.certificates.keyPairs[0]?.hosts ?? []
  const reached = mtls.filter(({ constraints }) => constraints?.host === undefined)
  if (!tls.differsByHost || reached.length === 0 || hosts.length === 0 || hosts.some((host) => tls.hostGroupOf(host) !== '')) return
  app.log.warn(`http-security: clientCertificates has no authorities for the hosts of the first certificate (${listOf(hosts)}): there, nobody reaches what has level 'mtls'. Where that is meant, tie these routes to other hosts (constraints: { host })${routeList(reached)}`)
}

/** By the very token, which no other route has: others may have a constraint of that name. */
function isProbe (app: FastifyInstance, { proxy }: Options, { methods, url, constraints }: RouteSecurity): boolean {
  return proxy?.probe !== undefined && constraints?.[PROBE_CONSTRAINT] === proxy.probe &&
    String(methods) === 'GET' && PROBE_URLS.some((path) => url === app.prefix + path)
}

function shortfallsOf (app: FastifyInstance, facts: ServerFacts, options: Options, { tls, mtls }: Record<'tls' | 'mtls', readonly RouteSecurity[]>): Shortfall[] {
  const shortfalls: Shortfall[] = []
  // Nothing else is known of it.
  if (!facts.isOfNode) return tls.length === 0 ? [] : [{ reason: `the levels 'tls' and 'mtls' can never be met: ${NOT_OF_NODE}`, routes: tls }]
  if (tls.length > 0 && !facts.isTls && options.proxy === undefined) {
    shortfalls.push({ reason: "level 'tls' can never be met: the server speaks plain HTTP, and no proxy is trusted (proxy.trust, not Fastify's trustProxy). Create the server with Fastify({ https: { key, cert } }); for development see fastify-http-security/tls; in unit tests use inject of fastify-http-security/testing instead of app.ready() and app.inject()", routes: tls })
  }
  if (options.tls !== undefined && !options.tls.isOurs(app.server)) {
    shortfalls.push({ reason: 'the option tls has no effect: the server was not created with its options. Create it with Fastify({ https: tls.https })', routes: [] })
  }
  const changed = options.tls?.changedOptions(app.server) ?? []
  if (changed.length > 0) {
    shortfalls.push({ reason: `the server was created with other options than those of tls.https (${changed.join(', ')}), and they are lost. Give them to enableTls({ https: { … } })`, routes: [] })
  }
  if (options.tls === undefined && isTlsInterface(facts.sniCallback)) {
    shortfalls.push({ reason: 'the server was created with the options of enableTls, and the plugin was not told, so that it would not know when trust changes. Give it the option tls', routes: [] })
  }
  const obstacle = mtls.length > 0 ? mtlsObstacle(facts, options) : undefined
  if (obstacle !== undefined) shortfalls.push({ reason: `level 'mtls' cannot be met with certainty: ${obstacle}`, routes: mtls })
  const [prover] = options.proxy?.clients ?? []
  const proverObstacle = prover === undefined ? undefined : facts.isTls ? certificateObstacle(facts, options) : 'the server speaks plain HTTP'
  if (proverObstacle !== undefined) shortfalls.push({ reason: `proxy.trust: no proxy can prove with certainty that it is the client ${show(prover!.name)}: ${proverObstacle}`, routes: [] })
  return shortfalls
}

function mtlsObstacle (facts: ServerFacts, options: Options): string | undefined {
  const { proxy } = options
  if (!facts.isTls) {
    if (proxy?.certificate !== undefined) return undefined
    return proxy === undefined
      ? 'the server speaks plain HTTP'
      : 'the server speaks plain HTTP, and it is not known how the proxy forwards client certificates. Set proxy.certificate'
  }
  // A client that does not come by the proxy has no certificate.
  if (proxy?.certificate !== undefined && !facts.asksForCertificates) return undefined
  return certificateObstacle(facts, options)
}

/** Each of these lets in clients of certificates that the options do not name, or no client at all. */
function certificateObstacle (facts: ServerFacts, { tls }: Options): string | undefined {
  if (tls === undefined && facts.hasSessionHandlers) return 'sessions are kept by listeners for newSession or resumeSession, and with them what was judged before authorities changed. Remove them'
  if (tls !== undefined && !tls.asksForCertificates) return 'enableTls was given no clientCertificates. Give { ca }'
  if (!facts.asksForCertificates) return 'the server does not ask for client certificates. Set requestCert: true and rejectUnauthorized: false'
  if (facts.hasPfx) return 'the server was given a pfx, whose chain widens the trust in clients. Give key, cert and ca instead'
  if (tls === undefined && !facts.hasClientAuthorities) return 'the server trusts no certificate authority of its own for clients (without `ca`, or with an unreadable one, Node trusts the public roots, or nobody). Set a non-empty `ca` in PEM'
  if (facts.hasContexts || (tls === undefined && typeof facts.sniCallback === 'function')) return 'contexts of the server by name (SNICallback or addContext) decide whom to trust for clients, and this check cannot see whom. Use one context'
  return undefined
}

function listOf (names: readonly string[]): string {
  return `${names.slice(0, MOST_NAMED).join(', ')}${names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : ''}`
}

function routeList (rows: readonly RouteSecurity[]): string {
  const names = rows.slice(0, MOST_NAMED).map((row) => `\n  ${nameOf(row)}`).join('')
  return `:${names}${rows.length > MOST_NAMED ? `\n  and ${rows.length - MOST_NAMED} more` : ''}`
}

/** Child contexts have their parent as prototype. */
export function isRoot (app: FastifyInstance): boolean {
  return Object.getPrototypeOf(Object.getPrototypeOf(app)) === null
}
