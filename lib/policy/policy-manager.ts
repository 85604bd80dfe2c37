/**
 * Keeps the policy that is in force: the last valid one, whether loaded from a source or given to `enforce`. Begin with
 * {@link createPolicyManager}; the second part logs what a policy has changed.
 */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Policy, PolicyChange } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import type { FollowedDocument } from '../files/document.ts'
import { tlsObstacle } from '../internals.ts'
import type { Options } from '../options/resolve.ts'
import type { RouteTable, TableState } from '../routes/route-table.ts'
import { type AppliedPolicy, applyPolicy, forcesHttps, POLICY, resolvePolicy } from './policy.ts'

/**
 * Loads the first policy of an app; it is in force when the app is ready.
 *
 * @param deadline of the first load, by `performance.now()`
 * @throws FST_HTTP_SECURITY_INVALID_POLICY
 */
export async function createPolicyManager (app: FastifyInstance, { application, mode, policy, proxy, tls }: Options, table: RouteTable, deadline: number): Promise<PolicyManager> {
  const warn = (message: string): void => app.log.warn(`http-security: ${message}`)
  const manager = new PolicyManager(table, new ChangeLog(app.log, table), {
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
  app.addHook('onClose', async () => manager.close())
  if (policy !== undefined) await manager.follow(policy, deadline)
  return manager
}

/** What the manager knows of its app, and how it reports. */
interface Circumstances {
  readonly application: string | undefined
  /** The app is in report mode: nothing is enforced, only reported. */
  readonly isReported: boolean
  /** Why this server cannot meet a policy that forces HTTPS; `undefined` where it can. */
  obstacle (): string | undefined
  warn (message: string): void
  /** A later policy is wrong, or could not be loaded. */
  rejected (error: Error): void
  /** The policy is loaded again after it was rejected. */
  recovered (by: string): void
}

/** Application names in one message. */
const MOST_APPLICATIONS = 20

class PolicyManager {
  /** Called after another policy has been put in force. */
  onChange: (() => void) | undefined
  readonly #table: RouteTable
  readonly #changes: ChangeLog
  readonly #circumstances: Circumstances
  #isReady = false
  /** Where the policy in force came from; `undefined` at first. */
  #by: string | undefined
  /** The policy that the source had last, as JSON. The same again is not a change, even if `enforce` put another one in force since. */
  #loaded = ''
  #followed: FollowedDocument | undefined

  constructor (table: RouteTable, changes: ChangeLog, circumstances: Circumstances) {
    this.#table = table
    this.#changes = changes
    this.#circumstances = circumstances
  }

  get policy (): Policy {
    return this.#table.state.policy.policy
  }

  /**
   * Puts another policy in force, from the next request on.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY; the policy before then stays in force
   */
  enforce (input: unknown): void {
    this.#swap(resolvePolicy(input, 'policy'), 'enforce')
    this.#followed?.supersede()
  }

  /**
   * Loads the first policy, and follows its source.
   *
   * @param deadline of the first load, by `performance.now()`
   * @throws FST_HTTP_SECURITY_INVALID_POLICY
   */
  async follow (option: NonNullable<Options['policy']>, deadline: number): Promise<void> {
    const { rejected, recovered, warn } = this.#circumstances
    // Loaded only where there is a policy.
    const { followDocument } = await import('../files/document.ts')
    this.#followed = await followDocument(option, POLICY, { take: (policy, by) => this.#take(policy, by), rejected, recovered, warn }, deadline)
  }

  /**
   * Called when the app is ready, so that the server and every route are known: from now on a new policy is in force at once.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY when the server cannot meet it
   */
  ready (): void {
    this.#require(this.#table.state.policy)
    this.#table.seal()
    this.#isReady = true
    if (this.#by !== undefined) this.#changes.begin(this.#by)
  }

  close (): void {
    this.#followed?.stop()
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

  /** Policies are for many applications, so that a misspelled name is not an error. But it forces nothing: hence a warning. */
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

// What a policy has changed: in the log, one line a second at most, and in full on a diagnostics channel

/** `node:diagnostics_channel`: receives a {@link PolicyChange} for each change. */
const policyChannel = channel('fastify-http-security:policy')

/** Milliseconds between two lines of the log. */
const PERIOD = 1_000
/** Routes in one line of the log. */
const MOST_ROUTES = 20

class ChangeLog {
  readonly #log: FastifyBaseLogger
  readonly #table: RouteTable
  /** Changes since the last line of the log. */
  #pending: { from: TableState, by: Set<string>, changes: number } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (log: FastifyBaseLogger, table: RouteTable) {
    this.#log = log
    this.#table = table
  }

  /** @param by what changed it: the name of a file, `source`, or `enforce` */
  record (from: TableState, by: string): void {
    if (policyChannel.hasSubscribers) policyChannel.publish(this.#describe(from, [by]))
    this.#pending ??= { from, by: new Set(), changes: 0 }
    this.#pending.by.add(by)
    this.#pending.changes++
    if (this.#timer === undefined) this.#logChanges()
  }

  /** Logs what is in force when the app is ready. */
  begin (by: string): void {
    const { policy: { hsts, forces } } = this.#table.state
    const raised = this.#table.rows().filter(({ source }) => source === 'policy').length
    this.#log.info({ by, raised, hsts: hsts ?? null, forces: textOf(forces) }, 'http-security: a policy is in force')
  }

  /** Logs what is not logged yet. */
  close (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending !== undefined) this.#logChanges()
    clearTimeout(this.#timer)
  }

  #logChanges (): void {
    const { from, by, changes } = this.#pending!
    this.#pending = undefined
    const { routes, ...counts } = this.#describe(from, [...by], MOST_ROUTES)
    this.#log.info({ ...counts, forces: textOf(this.#table.state.policy.forces), changes, routes }, 'http-security: the policy has changed')
    // The next line in a second, if there are changes by then.
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#pending !== undefined) this.#logChanges()
    }, PERIOD).unref()
  }

  #describe (from: TableState, by: readonly string[], most = Infinity): PolicyChange {
    const to = this.#table.state
    const changes = this.#table.changesSince(from, most)
    return Object.freeze({ by: by.join(', '), ...changes, hsts: { from: from.policy.hsts ?? null, to: to.policy.hsts ?? null } })
  }
}

/** What is forced for each kind, for the log: `no`, `report` or `enforce`. */
function textOf (forces: AppliedPolicy['forces']): Record<string, string> {
  return Object.fromEntries([...forces].map(([kind, force]) => [kind ?? 'undeclared', force]))
}
