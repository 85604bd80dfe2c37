/**
 * What `enableTls` costs a handshake: full ones, with and without a client certificate, against Node's https with the same
 * certificate, key and authorities.
 */
import { Child } from './support/child.ts'
import { AGAIN, ENABLE_TLS } from './support/contenders.ts'
import { makeIdentities } from './support/identities.ts'
import type { LoadQuestion } from './support/load.ts'
import { type Pair, headingsFor, measurePair, rowOf, secureOptions } from './support/pairs.ts'
import type { Table } from './support/table.ts'

const LANES = 8
const WARM_UP = 600
const TURNS = 20
const TURN = 100

export async function handshake ({ long }: { long: boolean }): Promise<Table[]> {
  const identities = await makeIdentities()
  const load = new Child('load.ts')
  const tables: Table[] = []
  try {
    for (const transport of ['https', 'mtls'] as const) {
      const rows: string[][] = []
      for (const name of [AGAIN, ENABLE_TLS]) {
        const pairs: Pair[] = []
        const shake = async (port: number, handshakes: number): Promise<number> =>
          await load.ask<number>({ handshakes, lanes: LANES, port, secure: secureOptions(transport, identities)! } satisfies LoadQuestion)
        while (pairs.length < (long ? 15 : 3)) {
          pairs.push(await measurePair(name, transport, identities, {
            size: TURN,
            turns: TURNS,
            async prepare (_side, port) { await shake(port, WARM_UP) },
            turn: async (_side, port) => await shake(port, TURN)
          }))
        }
        rows.push(rowOf(name, pairs, name === ENABLE_TLS))
      }
      tables.push({ title: `Full handshakes, ${transport === 'mtls' ? 'with' : 'without'} a client certificate`, headings: headingsFor('handshake'), rows })
    }
  } finally {
    await load.end()
  }
  return tables
}
