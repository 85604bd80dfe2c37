/** Says what a policy changed: in the log, a line a second at most, and in full on a diagnostics channel. */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger } from 'fastify'
import type { PolicyChange } from '../../types/policy.ts'
import type { RouteTable, TableState } from '../routes/table.ts'
import type { AppliedPolicy } from './policy.ts'

/** `node:diagnostics_channel`: receives a {@link PolicyChange} for each change. */
export const policyChannel = channel('fastify-http-security:policy')

/** Milliseconds. */
const PERIOD = 1_000
/** Routes named in a line of the log. */
const MOST_ROUTES = 20

export class ChangeLog {
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
