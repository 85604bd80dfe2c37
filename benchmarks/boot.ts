/**
 * What the plugin costs before the first request: fresh processes, one with and one without it by turns.
 */
import { ENTRY } from './support/built.ts'
import { Child } from './support/child.ts'
import { requireAnswer } from './support/correctness.ts'
import { askingServer, makeIdentities } from './support/identities.ts'
import { type Estimate, estimate } from './support/statistics.ts'
import { type Table, againstLimits } from './support/table.ts'

interface Start { readonly milliseconds: number, readonly status: number, readonly rows: number }
interface Registered extends Start {
  /** Bytes a route, on the heap and beside it. */
  readonly heap: number
  readonly table: number
  /** Milliseconds. */
  readonly policyChange: number
}
interface Pair<Result> { readonly bare: Result, readonly subject: Result }

export async function boot ({ long }: { long: boolean }): Promise<Table[]> {
  const starts = await inPairs<Start>(long ? 60 : 15, { what: 'start' }, { status: 200, rows: 1 })
  const https = askingServer(await makeIdentities())
  const registered = await inPairs<Registered>(long ? 25 : 5, { what: 'register', https }, { status: 403, rows: 10_000 })
  return [
    againstLimits('Import and register, beyond Fastify\'s own', 'ms', 1, [
      { what: 'with this plugin', value: over(starts, ({ bare, subject }) => subject.milliseconds - bare.milliseconds), limit: 15 },
      { what: 'Fastify alone, in all', value: over(starts, ({ bare }) => bare.milliseconds) }
    ]),
    againstLimits('10,000 routes to ready()', '× bare', 3, [
      { what: 'with this plugin', value: over(registered, ({ bare, subject }) => subject.milliseconds / bare.milliseconds), limit: 1.05 }
    ]),
    againstLimits('A policy change, 10,000 routes', 'ms', 2, [
      { what: 'until it holds', value: over(registered, ({ subject }) => subject.policyChange), limit: 0.5 }
    ]),
    againstLimits('Memory, beyond Fastify\'s own', 'bytes a route', 1, [
      { what: 'level table', value: over(registered, ({ bare, subject }) => subject.table - bare.table), limit: 1 },
      { what: 'all else', value: over(registered, ({ bare, subject }) => subject.heap - bare.heap), limit: 350 },
      { what: 'Fastify alone, in all', value: over(registered, ({ bare }) => bare.heap) }
    ])
  ]
}

async function inPairs<Result extends Start> (count: number, question: object, expected: { status: number, rows: number }): Promise<Array<Pair<Result>>> {
  const pairs: Array<Pair<Result>> = []
  // The first pair finds nothing in the system's file cache, and is not counted.
  for (let i = -1; i < count; i++) {
    const names = i % 2 === 0 ? ['bare', 'subject'] as const : ['subject', 'bare'] as const
    const pair: Partial<Record<keyof Pair<Result>, Result>> = {}
    for (const name of names) pair[name] = await bootOnce<Result>({ ...question, entry: name === 'bare' ? null : ENTRY })
    requireAnswer('bare, status', pair.bare!.status, 200)
    requireAnswer('with the plugin, status', pair.subject!.status, expected.status)
    requireAnswer('with the plugin, rows', pair.subject!.rows, expected.rows)
    if (i >= 0) pairs.push(pair as Pair<Result>)
  }
  return pairs
}

async function bootOnce<Result> (question: object): Promise<Result> {
  const child = new Child('boot-once.mjs', ['--expose-gc'])
  try {
    return await child.ask<Result>(question)
  } finally {
    await child.end()
  }
}

function over<Result> (pairs: ReadonlyArray<Pair<Result>>, value: (pair: Pair<Result>) => number): Estimate {
  return estimate(pairs.map(value))
}
