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
const SLIP_BITS = 0b0011_0000
const GUARDED_BIT = 0b0100_0000

/** A byte of the table. */
export type Entry = number

export const rankIn = (entry: Entry): Rank => (entry & RANK_BITS) as Rank
/** `undefined` where the element is undeclared. */
export const kindIn = (entry: Entry): Kind | undefined => KINDS[((entry & KIND_BITS) >> KIND_SHIFT) - 1]
export const slipIn = (entry: Entry): Slip => SLIPS[(entry & SLIP_BITS) >> SLIP_SHIFT]!
/** Whether the path of a request can raise what it must meet. */
export const canSlip = (entry: Entry): boolean => (entry & SLIP_BITS) !== 0
/** Whether something before the handler ends the exemption of CORS preflights. */
export const isGuarded = (entry: Entry): boolean => (entry & GUARDED_BIT) !== 0

export function entryOf (rank: Rank, kind: Kind | undefined, slip: Slip = 'no', guarded = false): Entry {
  return rank |
    (kind === undefined ? 0 : KINDS.indexOf(kind) + 1) << KIND_SHIFT |
    SLIPS.indexOf(slip) << SLIP_SHIFT |
    (guarded ? GUARDED_BIT : 0)
}

/** The same with another rank. */
export function withRank (entry: Entry, rank: Rank): Entry {
  return (entry & ~RANK_BITS) | rank
}

/** Thousands of routes have a handful of method lists. */
const methodLists = new Map<string, readonly string[]>()

export function shareMethods (methods: readonly string[]): readonly string[] {
  const key = methods.join()
  let list = methodLists.get(key)
  if (list === undefined) methodLists.set(key, list = Object.freeze([...methods]))
  return list
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
    // preflight.ts guards the routes that answer OPTIONS when they are registered.
    this.entries[slot] = entryOf(rankOf(row.level), row.kind, slip, row.methods.includes('OPTIONS'))
    return slot
  }

  /** Notes another method of a registration: the HEAD that Fastify makes of a GET. */
  addMethod (slot: number, method: string): void {
    const row = this.#rows[slot]!
    if (!row.methods.includes(method)) this.#rows[slot] = { ...row, methods: shareMethods([...row.methods, method]) }
  }

  /** Gives back what it grew beyond its routes: none comes after the boot. */
  trim (): void {
    this.entries = this.entries.slice(0, this.#rows.length)
  }

  rows (): readonly RouteSecurity[] {
    return Object.freeze(this.#rows.map((row) => Object.freeze({ ...row })))
  }

  /** Those that ask for at least a level. */
  rowsFrom (level: RouteSecurity['level']): readonly RouteSecurity[] {
    return this.#rows.filter((row) => LEVELS.indexOf(row.level) >= LEVELS.indexOf(level))
  }
}
