/**
 * Two servers in fresh processes, which are loaded by turns: what slows the machine down slows both.
 */
import { ask } from '../../test/fixtures/ask.ts'
import { Child } from './child.ts'
import { BARE, type Transport, contenders } from './contenders.ts'
import { requireAnswer } from './correctness.ts'
import type { Identities } from './identities.ts'
import type { ServerQuestion } from './server.ts'
import { type Estimate, estimate, extent } from './statistics.ts'
import { spreadOf, verdictOn } from './table.ts'

/** One pair is ±8 % by itself: it is the median of several. */
const LIMIT = 1.05

/** What the load does, for each of the two. */
export interface Work {
  /** Which contender is the bare one. */
  readonly against?: string
  /** How often, in a turn. */
  readonly size: number
  readonly turns: number
  prepare (side: Side, port: number): Promise<void>
  /** Answers with the seconds that it took. */
  turn (side: Side, port: number): Promise<number>
}
export type Side = 'bare' | 'contender'

interface Run { readonly cpu: number, readonly perSecond: number }
/** The middle of what they took, and of the contender's turns over the bare server's turns beside them. */
export interface Pair { readonly bareCpu: number, readonly cpu: number, readonly cpuRatio: number, readonly throughputRatio: number }

export async function measurePair (name: string, transport: Transport, identities: Identities, work: Work): Promise<Pair> {
  const names = { bare: work.against ?? BARE, contender: name }
  const sides = ['bare', 'contender'] as const
  const servers = { bare: new Child('server.ts'), contender: new Child('server.ts') }
  try {
    const ports = { bare: 0, contender: 0 }
    for (const side of sides) ports[side] = await servers[side].ask<number>({ contender: names[side], transport, identities } satisfies ServerQuestion)
    for (const side of sides) {
      await checkAnswers(names[side], transport, ports[side], identities)
      await work.prepare(side, ports[side])
    }
    const runs: Record<Side, Run[]> = { bare: [], contender: [] }
    for (let turn = 0; turn < work.turns; turn++) {
      for (const side of turn % 2 === 0 ? sides : sides.toReversed()) {
        const before = await servers[side].ask<number>('cpu' satisfies ServerQuestion)
        const seconds = await work.turn(side, ports[side])
        const used = await servers[side].ask<number>('cpu' satisfies ServerQuestion) - before
        runs[side].push({ cpu: used / work.size, perSecond: work.size / seconds })
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

export const headingsFor = (what: string): string[] =>
  ['', `CPU µs a ${what}`, 'of bare', '× bare', 'pairs', `${what}s × bare`, 'pairs', 'limit', 'holds']

/** @param isLimited whether it has to be within the noise of bare */
export function rowOf (name: string, pairs: readonly Pair[], isLimited: boolean): string[] {
  const over = (value: (pair: Pair) => number): Estimate => extent(pairs.map(value))
  const cpu = over(({ cpuRatio }) => cpuRatio)
  const throughput = over(({ throughputRatio }) => throughputRatio)
  const limit = isLimited ? LIMIT : undefined
  return [
    name,
    over((pair) => pair.cpu).median.toFixed(1),
    over((pair) => pair.bareCpu).median.toFixed(1),
    cpu.median.toFixed(3), spreadOf(cpu, 2),
    throughput.median.toFixed(3), spreadOf(throughput, 2),
    limit === undefined ? '' : `≤ ${limit}`, verdictOn(cpu.median, limit)
  ]
}

function middle (values: readonly number[]): number {
  return estimate(values).median
}

export function secureOptions (transport: Transport, { server, client: { cert, key } }: Identities) {
  if (transport === 'http') return undefined
  return { ca: server.ca, ...transport === 'mtls' && { cert, key } }
}

export async function checkAnswers (name: string, transport: Transport, port: number, identities: Identities): Promise<void> {
  const { header, anonymous } = contenders[name]!
  const answer = await ask({ port, tls: secureOptions(transport, identities) })
  requireAnswer(`${name} over ${transport}`, `${answer.status} ${answer.body}`, '200 {"hello":"world"}')
  if (header !== undefined) requireAnswer(`${name}: ${header}`, answer.headers[header] !== undefined, true)
  if (transport !== 'mtls') return
  const nobody = await ask({ port, tls: secureOptions('https', identities) })
  requireAnswer(`${name}, without a certificate`, nobody.status, anonymous)
}
