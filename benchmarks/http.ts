/**
 * What protection costs a server: CPU time a request and throughput, over kept connections, against bare Fastify with a
 * no-op hook. Pairs of fresh processes, which are loaded by turns: what slows the machine down slows both.
 */
import { ask } from '../test/fixtures/ask.ts'
import { Child } from './support/child.ts'
import { BARE, SUBJECT, type Transport, contenders } from './support/contenders.ts'
import { requireAnswer } from './support/correctness.ts'
import { type Identities, makeIdentities } from './support/identities.ts'
import type { LoadQuestion } from './support/load.ts'
import { type Estimate, estimate, extent } from './support/statistics.ts'
import { type Table, spreadOf, verdictOn } from './support/table.ts'
import type { ServerQuestion } from './support/server.ts'

const CONNECTIONS = 16
/** Until V8 has compiled what it will: after 4,000 requests the longer path still pays for that. */
const WARM_UP = 15_000
/** Short turns, so that both servers meet the same disturbances. */
const TURNS = 20
const TURN = 500

/** One pair is ±8 % by itself. */
const LIMIT = 1.08

interface Run { readonly cpu: number, readonly perSecond: number }
/** A pair of processes: the middle of what they took, and of the contender's turns over the bare server's turns beside them. */
interface Pair { readonly bareCpu: number, readonly cpu: number, readonly cpuRatio: number, readonly throughputRatio: number }

export async function http ({ long }: { long: boolean }): Promise<Table[]> {
  const identities = await makeIdentities()
  const pairs = new Map<string, Pair[]>()
  const tasks = Object.entries(contenders).flatMap(([name, { over }]) => name === BARE ? [] : over.map((transport) => ({ name, transport })))
  const load = new Child('load.ts')
  try {
    for (let round = 0; round < (long ? 15 : 3); round++) {
      for (const { name, transport } of tasks) {
        const key = `${transport} ${name}`
        pairs.set(key, [...pairs.get(key) ?? [], await measurePair(name, transport, { identities, load })])
      }
    }
  } finally {
    await load.end()
  }
  return (['http', 'https', 'mtls'] as const).map((transport) => ({
    title: `Over ${transport}, against bare Fastify with a no-op hook`,
    headings: ['', 'CPU µs a request', 'of bare', '× bare', 'pairs', 'requests × bare', 'pairs', 'limit', 'holds'],
    rows: tasks.filter((task) => task.transport === transport).map(({ name }) => row(name, pairs.get(`${transport} ${name}`)!))
  }))
}

function row (name: string, pairs: readonly Pair[]): string[] {
  const over = (value: (pair: Pair) => number): Estimate => extent(pairs.map(value))
  const cpu = over(({ cpuRatio }) => cpuRatio)
  const throughput = over(({ throughputRatio }) => throughputRatio)
  const limit = name === SUBJECT ? LIMIT : undefined
  return [
    name,
    over((pair) => pair.cpu).median.toFixed(1),
    over((pair) => pair.bareCpu).median.toFixed(1),
    cpu.median.toFixed(3), spreadOf(cpu, 2),
    throughput.median.toFixed(3), spreadOf(throughput, 2),
    limit === undefined ? '' : `≤ ${limit}`, verdictOn(cpu.median, limit)
  ]
}

async function measurePair (name: string, transport: Transport, { identities, load }: { identities: Identities, load: Child }): Promise<Pair> {
  const names = { bare: BARE, contender: name }
  const sides = ['bare', 'contender'] as const
  const servers = { bare: new Child('server.ts'), contender: new Child('server.ts') }
  try {
    const ports = await Promise.all(sides.map((side) => servers[side].ask<number>({ contender: names[side], transport, identities } satisfies ServerQuestion)))
    for (const [i, side] of sides.entries()) {
      const port = ports[i]!
      await checkAnswers(names[side], transport, port, identities)
      await load.ask({ open: side, port, connections: CONNECTIONS, secure: secureOptions(transport, identities) } satisfies LoadQuestion)
      await load.ask({ run: side, requests: WARM_UP } satisfies LoadQuestion)
    }
    const runs: Record<typeof sides[number], Run[]> = { bare: [], contender: [] }
    for (let turn = 0; turn < TURNS; turn++) {
      for (const side of turn % 2 === 0 ? sides : sides.toReversed()) {
        const before = await servers[side].ask<number>('cpu' satisfies ServerQuestion)
        const seconds = await load.ask<number>({ run: side, requests: TURN } satisfies LoadQuestion)
        const used = await servers[side].ask<number>('cpu' satisfies ServerQuestion) - before
        runs[side].push({ cpu: used / TURN, perSecond: TURN / seconds })
      }
    }
    return {
      bareCpu: middle(runs.bare.map(({ cpu }) => cpu)),
      cpu: middle(runs.contender.map(({ cpu }) => cpu)),
      cpuRatio: middle(runs.contender.map(({ cpu }, turn) => cpu / runs.bare[turn]!.cpu)),
      throughputRatio: middle(runs.contender.map(({ perSecond }, turn) => perSecond / runs.bare[turn]!.perSecond))
    }
  } finally {
    await Promise.all([servers.bare.end(), servers.contender.end()])
  }
}

function middle (values: readonly number[]): number {
  return estimate(values).median
}

function secureOptions (transport: Transport, { server, client: { cert, key } }: Identities) {
  if (transport === 'http') return undefined
  return { ca: server.ca, ...transport === 'mtls' && { cert, key } }
}

async function checkAnswers (name: string, transport: Transport, port: number, identities: Identities): Promise<void> {
  const { header, anonymous } = contenders[name]!
  const answer = await ask({ port, tls: secureOptions(transport, identities) })
  requireAnswer(`${name} over ${transport}`, `${answer.status} ${answer.body}`, '200 {"hello":"world"}')
  if (header !== undefined) requireAnswer(`${name}: ${header}`, answer.headers[header] !== undefined, true)
  if (transport !== 'mtls') return
  const nobody = await ask({ port, tls: secureOptions('https', identities) })
  requireAnswer(`${name}, without a certificate`, nobody.status, anonymous)
}
