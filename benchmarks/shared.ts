/**
 * Servers that share a core: what a request costs while other servers have had the core, and its caches, in between. Four
 * of them are loaded in turn for a second each: a no-op hook, this plugin, bare Fastify, this plugin. All are pinned to one
 * core and the client, wrk, to another one. CPU time a request, user and system apart.
 */
import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { Child } from './support/child.ts'
import { BARE, NO_HOOK, SUBJECT } from './support/contenders.ts'
import { makeIdentities } from './support/identities.ts'
import { checkAnswers, secureOptions } from './support/pairs.ts'
import type { ServerQuestion } from './support/server.ts'
import { type Estimate, estimate } from './support/statistics.ts'
import { spreadOf, type Table, verdictOn } from './support/table.ts'

const ROUNDS = 14
/** V8 has compiled by then what it will. */
const WARM_UP_ROUNDS = 3
const CONNECTIONS = 16
const LIMIT = 1.05
const [SERVERS_CORE, CLIENT_CORE] = ['0', '1']
const ORDER = [BARE, SUBJECT, NO_HOOK, SUBJECT]

interface Cost { readonly user: number, readonly system: number }

export async function shared ({ long }: { long: boolean }): Promise<Table[]> {
  for (const tool of ['taskset', 'wrk']) if (!isThere(tool)) return [{ title: `Servers that share a core: not measured, as there is no ${tool}`, headings: [''], rows: [] }]
  const identities = await makeIdentities()
  const tables: Table[] = []
  for (const transport of ['http', 'https'] as const) {
    const servers = ORDER.map((name) => ({ name, child: new Child('server.ts'), port: 0, costs: [] as Cost[] }))
    try {
      for (const server of servers) {
        server.child.pin(SERVERS_CORE)
        server.port = await server.child.ask<number>({ contender: server.name, transport, identities } satisfies ServerQuestion)
        await checkAnswers(server.name, transport, server.port, identities)
      }
      for (let round = -WARM_UP_ROUNDS; round < (long ? 3 * ROUNDS : ROUNDS); round++) {
        for (const server of servers) {
          const cost = await load(server.child, `${secureOptions(transport, identities) === undefined ? 'http' : 'https'}://127.0.0.1:${server.port}/`)
          if (round >= 0) server.costs.push(cost)
        }
      }
    } finally {
      await Promise.all(servers.map(async ({ child }) => await child.end()))
    }
    const [bare] = servers
    tables.push({
      title: `Servers that share a core, over ${transport}, against bare Fastify with a no-op hook`,
      headings: ['', 'user µs a request', 'system µs', '× no-op', 'quartiles', 'limit', 'holds'],
      rows: servers.map(({ name, costs }) => {
        const ratio = over(costs, (cost, round) => sum(cost) / sum(bare!.costs[round]!))
        const limit = name === SUBJECT ? LIMIT : undefined
        return [
          name, over(costs, ({ user }) => user).median.toFixed(1), over(costs, ({ system }) => system).median.toFixed(1),
          ratio.median.toFixed(3), spreadOf(ratio, 2), limit === undefined ? '' : `≤ ${limit}`, verdictOn(ratio.median, limit)
        ]
      })
    })
  }
  return tables
}

function isThere (tool: string): boolean {
  try {
    execFileSync('which', [tool], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** For a second. */
async function load (server: Child, url: string): Promise<Cost> {
  const before = await server.ask<Cost>('times' satisfies ServerQuestion)
  const { stdout } = await promisify(execFile)('taskset', ['-c', CLIENT_CORE!, 'wrk', '-t1', `-c${CONNECTIONS}`, '-d1s', url])
  const after = await server.ask<Cost>('times' satisfies ServerQuestion)
  const requests = Number(/(\d+) requests in/.exec(stdout)![1])
  return { user: (after.user - before.user) / requests, system: (after.system - before.system) / requests }
}

function sum ({ user, system }: Cost): number {
  return user + system
}

function over (costs: readonly Cost[], value: (cost: Cost, round: number) => number): Estimate {
  return estimate(costs.map(value))
}
