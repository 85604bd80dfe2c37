/**
 * The compiled table: what a request must meet, one byte a route, found by the slot that registration put into the
 * route's `config`.
 */
import type { RouteSecurity } from '../../types/index.ts'
import { type Kind, KINDS, LEVELS, type Rank, rankOf } from '../levels.ts'
import type { Slip } from './flows.ts'

const RANK_BITS = 0b0000_0011
const KIND_SHIFT = 2
const KIND_BITS = 0b0000_1100
const SLIPS: readonly Slip[] = ['no', 'plainly', 'by spelling']
const SLIP_SHIFT = 4

/** A byte of the table. */
export type Entry = number

export const rankIn = (entry: Entry): Rank => (entry & RANK_BITS) as Rank
/** `undefined` where the element is undeclared. */
export const kindIn = (entry: Entry): Kind | undefined => KINDS[((entry & KIND_BITS) >> KIND_SHIFT) - 1]
export const slipIn = (entry: Entry): Slip => SLIPS[entry >> SLIP_SHIFT]!
/** Whether the path of a request can raise what it must meet. */
export const canSlip = (entry: Entry): boolean => entry >= 1 << SLIP_SHIFT

export function entryOf (rank: Rank, kind: Kind | undefined, slip: Slip = 'no'): Entry {
  return rank | (kind === undefined ? 0 : KINDS.indexOf(kind) + 1) << KIND_SHIFT | SLIPS.indexOf(slip) << SLIP_SHIFT
}

export class RouteTable {
  /** By slot. Grows while routes are registered; a request reads it once. */
  entries: Uint8Array = new Uint8Array(64)
  readonly #rows: RouteSecurity[] = []

  /** Adds a registration and tells its slot. */
  add (row: RouteSecurity, slip: Slip): number {
    const slot = this.#rows.push(row) - 1
    if (slot === this.entries.length) {
      const grown = new Uint8Array(slot * 2)
      grown.set(this.entries)
      this.entries = grown
    }
    this.entries[slot] = entryOf(rankOf(row.level), row.kind, slip)
    return slot
  }

  /** Notes another method of a registration: the HEAD that Fastify makes of a GET. */
  addMethod (slot: number, method: string): void {
    const row = this.#rows[slot]!
    if (!row.methods.includes(method)) this.#rows[slot] = Object.freeze({ ...row, methods: Object.freeze([...row.methods, method]) })
  }

  rows (): readonly RouteSecurity[] {
    return [...this.#rows]
  }

  /** Those that ask for at least a level. */
  rowsFrom (level: RouteSecurity['level']): readonly RouteSecurity[] {
    return this.#rows.filter((row) => LEVELS.indexOf(row.level) >= LEVELS.indexOf(level))
  }
}
