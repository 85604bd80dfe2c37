/**
 * What the server can deliver, proved before it listens: a level that it can never deliver is a boot error.
 */
import type { FastifyInstance } from 'fastify'
import type { RouteSecurity } from '../types/index.ts'
import { LoadedLateError, UnsatisfiableError } from './errors.ts'
import type { Options } from './options/resolve.ts'
import { nameOf } from './routes/print.ts'
import type { RouteTable } from './routes/table.ts'
import { type ServerFacts, factsOf } from './server.ts'

/** Routes named in one error; the rest is counted. */
const MOST_NAMED = 20

/** By server, which child contexts share: the applications that `inject` of the testing subpath drives without TLS. */
const simulated = new WeakSet<object>()

/** Lets an application be ready without TLS. It then still refuses whatever comes over the network without it. */
export function allowWithoutTls (app: FastifyInstance): void {
  simulated.add(app.server)
}

/**
 * The plugin sees only routes that come after it.
 *
 * @throws FST_HTTP_SECURITY_LOADED_LATE
 */
export function requireNoRoutes (app: FastifyInstance): void {
  if (!isRoot(app)) {
    app.log.warn({ context: app.pluginName }, 'http-security: registered in a child context, protects that context only')
    return
  }
  const tree = app.printRoutes({ commonPrefix: false })
  if (tree === '(empty tree)') return
  throw new LoadedLateError(`routes were declared before fastify-http-security had loaded, so it cannot protect them; put \`await app.register(httpSecurity)\` first, before:\n${tree}`)
}

/**
 * Compares what routes ask for with what the server can do.
 *
 * @throws FST_HTTP_SECURITY_UNSATISFIABLE unless `unsatisfiable` is `'warn'`
 */
export function checkServer (app: FastifyInstance, options: Options, table: RouteTable): void {
  if (simulated.has(app.server)) return
  const facts = factsOf(app)
  const problems: string[] = []
  const tls = table.rowsFrom('tls')
  const mtls = table.rowsFrom('mtls')
  if (tls.length > 0 && !facts.isTls && options.proxy === undefined) {
    problems.push(`the server speaks plain HTTP and no proxy is trusted, so level 'tls' can never be met: create it with Fastify({ https: { key, cert } }), or set proxy.trust${namesOf(tls)}`)
  }
  const obstacle = mtls.length > 0 ? mtlsObstacle(facts, options) : undefined
  if (obstacle !== undefined) problems.push(`${obstacle}, so level 'mtls' can not be met with certainty${namesOf(mtls)}`)
  if (problems.length > 0) {
    const error = new UnsatisfiableError(problems.join('\n'))
    if (options.unsatisfiable === 'error') throw error
    app.log.warn({ code: error.code }, `http-security: ${error.message}`)
  }
  if (facts.asksForCertificates && facts.rejectsUnauthorized && tls.length > mtls.length) {
    app.log.warn(`http-security: rejectUnauthorized is true, so that clients without a certificate reach no route at all; set it to false${namesOf(tls.filter(({ level }) => level === 'tls'))}`)
  }
  if (facts.hasFrameworkErrors) {
    app.log.warn('http-security: frameworkErrors is set: Fastify runs it for malformed URLs and over-long parameters without any hook, so also over plain HTTP')
  }
}

/** FACTS, hazard H: each of these lets in holders of certificates that nobody here meant, or nobody at all. */
function mtlsObstacle (facts: ServerFacts, { proxy }: Options): string | undefined {
  if (!facts.isTls) {
    return proxy === undefined
      ? 'the server speaks plain HTTP'
      : 'the server speaks plain HTTP, and certificates that a proxy forwards are not supported'
  }
  if (!facts.asksForCertificates) return 'the server does not ask for client certificates: set requestCert: true, rejectUnauthorized: false'
  if (!facts.hasClientAuthorities) return 'the server trusts no certificate authority of its own for clients (without `ca`, or with an unreadable one, Node trusts the public roots or nobody): set a non-empty `ca`'
  if (facts.hasPfx) return 'the server was given a pfx, whose chain widens the trust in clients: give key, cert and ca'
  if (facts.hasForeignContexts) return 'contexts of the server by name (SNICallback or addContext) decide whom to trust for clients, unseen by this check'
  return undefined
}

function namesOf (rows: readonly RouteSecurity[]): string {
  const names = rows.slice(0, MOST_NAMED).map((row) => `\n  ${nameOf(row)}`).join('')
  return `:${names}${rows.length > MOST_NAMED ? `\n  and ${rows.length - MOST_NAMED} more` : ''}`
}

/** Child contexts have their parent as prototype. */
function isRoot (app: FastifyInstance): boolean {
  return Object.getPrototypeOf(Object.getPrototypeOf(app)) === null
}
