/** The policy that is in force: the last one that was good, wherever it came from. */
import type { FastifyInstance } from 'fastify'
import type { Policy } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import type { RouteTable } from '../routes/table.ts'
import { tlsObstacle } from '../server.ts'
import type { Options } from '../options/resolve.ts'
import { ChangeLog } from './changes.ts'
import { type AppliedPolicy, applyPolicy, forcesHttps, resolvePolicy } from './policy.ts'
import { type OpenSource, openSource } from './source.ts'

/** Loads the policy of an app, which holds when the app is ready. */
export async function createGovernor (app: FastifyInstance, { application, mode, policy, proxy, tls }: Options, table: RouteTable): Promise<Governor> {
  const warn = (message: string): void => app.log.warn(`http-security: ${message}`)
  const governor = new Governor(table, new ChangeLog(app.log, table), {
    application,
    isReported: mode === 'report',
    warn,
    obstacle: () => tlsObstacle(app, { proxy, tls }),
    rejected (error) {
      app.log.error({ code: (error as Error & { code?: string }).code }, `http-security: the policy was not changed, and the one before stays in force: ${error.message}`)
    }
  })
  if (policy !== undefined) await governor.load(openSource(policy, warn))
  return governor
}

interface Circumstances {
  readonly application: string | undefined
  /** Nothing is enforced, only reported. */
  readonly isReported: boolean
  /** Why this server cannot do what a policy forces, if it cannot. */
  obstacle (): string | undefined
  warn (message: string): void
  /** A policy that came later and is bad. */
  rejected (error: Error): void
}

/** Names of applications in one message. */
const MOST_NAMED = 20

export class Governor {
  /** Called after another policy has been put in force. */
  onChange: (() => void) | undefined
  readonly #table: RouteTable
  readonly #changes: ChangeLog
  readonly #circumstances: Circumstances
  #isReady = false
  /** Where the policy that is in force came from; none at first. */
  #by: string | undefined
  /** Of what is being loaded, only the latest counts. */
  #ticket = 0
  /** What the source said last: if it says the same again, that is no change, whatever was enforced in between. */
  #loaded = ''
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
    const policy = resolvePolicy(input, 'policy')
    this.#ticket++
    this.#swap(policy, 'enforce')
  }

  /** @throws FST_HTTP_SECURITY_INVALID_POLICY */
  async load (source: OpenSource): Promise<void> {
    const policy = await source.load()
    this.#loaded = JSON.stringify(policy)
    this.#swap(policy, source.name)
    this.#stop = source.watch(() => { this.#reload(source) })
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
    // What is still being loaded comes too late.
    this.#ticket++
    this.#stop()
    this.#changes.close()
  }

  #reload (source: OpenSource): void {
    const ticket = ++this.#ticket
    source.load().then((policy) => {
      const loaded = JSON.stringify(policy)
      if (ticket !== this.#ticket || loaded === this.#loaded) return
      this.#swap(policy, source.name)
      this.#loaded = loaded
    }).catch(this.#circumstances.rejected)
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
    this.#circumstances.warn(`the policy (${by}) names the applications ${names.slice(0, MOST_NAMED).map((name) => JSON.stringify(name)).join(', ')}; this one ${own}, so that nothing of that holds for it`)
  }

  #require (applied: AppliedPolicy): void {
    if (!forcesHttps(applied)) return
    const obstacle = this.#circumstances.obstacle()
    if (obstacle !== undefined) throw new InvalidPolicyError(`the policy forces HTTPS, and that cannot be met: ${obstacle}`)
  }
}
