/** The policy that is in force: the last one that was good, wherever it came from. */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Policy, PolicyChange } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import { ReloadQueue } from '../files/reload-queue.ts'
import { tlsObstacle } from '../internals.ts'
import type { Options } from '../options/resolve.ts'
import type { RouteTable, TableState } from '../routes/route-table.ts'
import { openSource, type OpenSource } from './policy-source.ts'
import { type AppliedPolicy, applyPolicy, forcesHttps, resolvePolicy } from './policy.ts'

/** Of Fastify's own patience with plugins, since its error would not tell what it waited for. */
const BOOT_SHARE = 0.9

/** Loads the policy of an app, which holds when the app is ready. */
export async function createPolicyManager (app: FastifyInstance, { application, mode, policy, proxy, tls }: Options, table: RouteTable): Promise<PolicyManager> {
  const warn = (message: string): void => app.log.warn(`http-security: ${message}`)
  const governor = new PolicyManager(table, new ChangeLog(app.log, table), {
    application,
    isReported: mode === 'report',
    warn,
    obstacle: () => tlsObstacle(app, { proxy, tls }),
    rejected (error) {
      app.log.error({ code: (error as Error & { code?: string }).code }, `http-security: the policy was not changed, and the one before stays in force: ${error.message}`)
    },
    recovered (by) {
      app.log.info({ by }, 'http-security: the policy is loaded again')
    }
  })
  app.addHook('onClose', async () => governor.close())
  // 0 is without end.
  const most = (app.initialConfig.pluginTimeout || Infinity) * BOOT_SHARE
  if (policy !== undefined) await governor.load(openSource(policy, warn), most)
  return governor
}

interface Circumstances {
  readonly application: string | undefined
  /** Nothing is enforced, only reported. */
  readonly isReported: boolean
  /** Why this server cannot do what a policy forces, if it cannot. */
  obstacle (): string | undefined
  warn (message: string): void
  /** A policy that came later, and is bad or cannot be had. */
  rejected (error: Error): void
  /** It is there, after it was rejected. */
  recovered (by: string): void
}

/** Names of applications in one message. */
const MOST_APPLICATIONS = 20

class PolicyManager {
  /** Called after another policy has been put in force. */
  onChange: (() => void) | undefined
  readonly #table: RouteTable
  readonly #changes: ChangeLog
  readonly #circumstances: Circumstances
  #isReady = false
  /** Where the policy that is in force came from; none at first. */
  #by: string | undefined
  /** What the source said last: if it says the same again, that is no change, whatever was enforced in between. */
  #loaded = ''
  #reloading: ReloadQueue<unknown, Policy> | undefined
  #stop: () => void = () => {}

  constructor (table: RouteTable, changes: ChangeLog, circumstances: Circumstances) {
    this.#table = table
    this.#changes = changes
    this.#circumstances = circumstances
  }

  get policy (): Policy {
    return this.#table.state.policy.policy
  }

  /**
   * Another policy, from the next request on.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY; nothing has changed then
   */
  enforce (input: unknown): void {
    this.#swap(resolvePolicy(input, 'policy'), 'enforce')
    this.#reloading?.supersede()
  }

  /**
   * The first policy, and those that come after it.
   *
   * @param most milliseconds that the first one may take
   * @throws FST_HTTP_SECURITY_INVALID_POLICY
   */
  async load (source: OpenSource, most: number): Promise<void> {
    this.#reloading = new ReloadQueue<unknown, Policy>({
      loading: source.loading,
      load: () => source.load(),
      check: (loaded) => source.check(loaded),
      take: (policy) => this.#take(policy, source.name),
      failed: (error) => this.#circumstances.rejected(error),
      recovered: () => this.#circumstances.recovered(source.name),
      waiting: (message) => this.#circumstances.warn(message)
    })
    // Before it is loaded: what changes meanwhile is heard of.
    this.#stop = source.watch(() => this.#reloading!.changed())
    try {
      await this.#reloading.begin(most, (message) => new InvalidPolicyError(message))
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * The server is known, and every route: from now on a policy holds at once.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY when the server cannot do what it forces
   */
  ready (): void {
    this.#require(this.#table.state.policy)
    this.#table.seal()
    this.#isReady = true
    if (this.#by !== undefined) this.#changes.begin(this.#by)
  }

  close (): void {
    this.#stop()
    this.#reloading?.stop()
    this.#changes.close()
  }

  #take (policy: Policy, by: string): void {
    const loaded = JSON.stringify(policy)
    if (loaded === this.#loaded) return
    this.#swap(policy, by)
    this.#loaded = loaded
  }

  #swap (policy: Policy, by: string): void {
    const { application, isReported } = this.#circumstances
    const applied = applyPolicy(policy, application, isReported)
    if (this.#isReady) this.#require(applied)
    const before = this.#table.state
    if (JSON.stringify(before.policy.policy) === JSON.stringify(policy)) return
    this.#by = by
    this.#table.apply(applied)
    this.#requireName(policy, by)
    if (this.#isReady) this.#changes.record(before, by)
    this.onChange?.()
  }

  /** A name that is spelled otherwise is no error, since policies are for many applications: but it forces nothing. */
  #requireName ({ applications = {} }: Policy, by: string): void {
    const { application } = this.#circumstances
    const names = Object.keys(applications)
    if (names.length === 0 || (application !== undefined && Object.hasOwn(applications, application))) return
    const own = application === undefined ? 'has no name (the option application)' : `is ${JSON.stringify(application)}`
    this.#circumstances.warn(`the policy (${by}) names the applications ${names.slice(0, MOST_APPLICATIONS).map((name) => JSON.stringify(name)).join(', ')}; this one ${own}, so that nothing of that holds for it`)
  }

  #require (applied: AppliedPolicy): void {
    if (!forcesHttps(applied)) return
    const obstacle = this.#circumstances.obstacle()
    if (obstacle !== undefined) throw new InvalidPolicyError(`the policy forces HTTPS, and that cannot be met: ${obstacle}`)
  }
}

/** Says what a policy changed: in the log, a line a second at most, and in full on a diagnostics channel. */

/** `node:diagnostics_channel`: receives a {@link PolicyChange} for each change. */
const policyChannel = channel('fastify-http-security:policy')

/** Milliseconds. */
const PERIOD = 1_000
/** Routes named in a line of the log. */
const MOST_ROUTES = 20

class ChangeLog {
  readonly #log: FastifyBaseLogger
  readonly #table: RouteTable
  /** What has changed since the last line. */
  #pending: { from: TableState, by: Set<string>, changes: number } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (log: FastifyBaseLogger, table: RouteTable) {
    this.#log = log
    this.#table = table
  }

  /** @param by who or what changed it: a file, `source`, `enforce` */
  record (from: TableState, by: string): void {
    if (policyChannel.hasSubscribers) policyChannel.publish(this.#describe(from, [by]))
    this.#pending ??= { from, by: new Set(), changes: 0 }
    this.#pending.by.add(by)
    this.#pending.changes++
    if (this.#timer === undefined) this.#tell()
  }

  /** Says what is in force when the app is ready. */
  begin (by: string): void {
    const { policy: { hsts, forces } } = this.#table.state
    const raised = this.#table.rows().filter(({ source }) => source === 'policy').length
    this.#log.info({ by, raised, hsts: hsts ?? null, forces: textOf(forces) }, 'http-security: a policy is in force')
  }

  /** What is not told yet is told now. */
  close (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending !== undefined) this.#tell()
    clearTimeout(this.#timer)
  }

  #tell (): void {
    const { from, by, changes } = this.#pending!
    this.#pending = undefined
    const { routes, ...counts } = this.#describe(from, [...by], MOST_ROUTES)
    this.#log.info({ ...counts, forces: textOf(this.#table.state.policy.forces), changes, routes }, 'http-security: the policy has changed')
    // The next line in a second, if there is anything to tell by then.
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#pending !== undefined) this.#tell()
    }, PERIOD).unref()
  }

  #describe (from: TableState, by: readonly string[], most = Infinity): PolicyChange {
    const to = this.#table.state
    const changes = this.#table.changesSince(from, most)
    return Object.freeze({ by: by.join(', '), ...changes, hsts: { from: from.policy.hsts ?? null, to: to.policy.hsts ?? null } })
  }
}

/** What happens to each kind: `no`, `report` or `enforce`. */
function textOf (forces: AppliedPolicy['forces']): Record<string, string> {
  return Object.fromEntries([...forces].map(([kind, force]) => [kind ?? 'undeclared', force]))
}
