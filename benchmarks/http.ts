/**
 * What protection costs a server: CPU time a request and throughput, over kept connections, against bare Fastify with a
 * no-op hook.
 */
import { Child } from './support/child.ts'
import { BARE, ENABLE_TLS, HSTS, SUBJECT, contenders } from './support/contenders.ts'
import { makeIdentities } from './support/identities.ts'
import type { LoadQuestion } from './support/load.ts'
import { type Pair, headingsFor, measurePair, rowOf, secureOptions } from './support/pairs.ts'
import type { Table } from './support/table.ts'

const CONNECTIONS = 16
/** Until V8 has compiled what it will: after 4,000 requests the longer path still pays for that. */
const WARM_UP = 15_000
/** Short turns, so that both servers meet the same disturbances. */
const TURNS = 20
const TURN = 500

export async function http ({ long }: { long: boolean }): Promise<Table[]> {
  const identities = await makeIdentities()
  const pairs = new Map<string, Pair[]>()
  const tasks = Object.entries(contenders).flatMap(([name, { over }]) => name === BARE ? [] : over.map((transport) => ({ name, transport })))
  const load = new Child('load.ts')
  try {
    for (let round = 0; round < (long ? 15 : 3); round++) {
      for (const { name, transport } of tasks) {
        const key = `${transport} ${name}`
        const pair = await measurePair(name, transport, identities, {
          size: TURN,
          turns: TURNS,
          async prepare (side, port) {
            await load.ask({ open: side, port, connections: CONNECTIONS, secure: secureOptions(transport, identities) } satisfies LoadQuestion)
            await load.ask({ run: side, requests: WARM_UP } satisfies LoadQuestion)
          },
          turn: async (side) => await load.ask<number>({ run: side, requests: TURN } satisfies LoadQuestion)
        })
        pairs.set(key, [...pairs.get(key) ?? [], pair])
      }
    }
  } finally {
    await load.end()
  }
  return (['http', 'https', 'mtls'] as const).map((transport) => ({
    title: `Over ${transport}, against bare Fastify with a no-op hook`,
    headings: headingsFor('request'),
    rows: tasks.filter((task) => task.transport === transport)
      .map(({ name }) => rowOf(name, pairs.get(`${transport} ${name}`)!, [SUBJECT, ENABLE_TLS, HSTS].includes(name)))
  }))
}
