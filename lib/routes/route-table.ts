/**
 * The compiled table: what a request must meet, one byte a route, found by the index that registration put into the
 * route's `config`.
 */
import type { RouteSecurity } from '../../types/index.ts'
import type { RouteChange } from '../../types/policy.ts'
import { describeRule, formatRule, type Rule } from '../clients/rules.ts'
import { type Kind, KINDS, LEVELS, MTLS, NONE, type Rank, rankOf, TLS } from '../levels.ts'
import type { AppliedPolicy } from '../policy/policy.ts'

/**
 * Whether requests for a route can come under a stricter key of `flows` than the route itself: not at all, as they are (a
 * wildcard above it), or in another reading of their path.
 */
export type Ambiguity = 'no' | 'plainly' | 'by spelling'

/** The rules that requests for a route have to meet at `mtls`. */
export interface RouteRules {
  /** Those of the route itself, the farthest first. */
  readonly rules: readonly Rule[]
  /** Whether those of a key of `flows` may come to them, by the path of a request. */
  readonly ambiguity: Ambiguity
}

const RANK_BITS = 0b0000_0011
const KIND_SHIFT = 2
const KIND_BITS = 0b0000_1100
const AMBIGUITIES: readonly Ambiguity[] = ['no', 'plainly', 'by spelling']
const AMBIGUITY_SHIFT = 4
const AMBIGUITY_BITS = 0b0011_0000
const GUARDED_BIT = 0b0100_0000
const REPORTED_BIT = 0b1000_0000

/** A byte of the table. */
export type RouteEntry = number

export const rankIn = (entry: RouteEntry): Rank => (entry & RANK_BITS) as Rank
/** `undefined` where the element is undeclared. */
export const kindIn = (entry: RouteEntry): Kind | undefined => KINDS[((entry & KIND_BITS) >> KIND_SHIFT) - 1]
export const ambiguityIn = (entry: RouteEntry): Ambiguity => AMBIGUITIES[(entry & AMBIGUITY_BITS) >> AMBIGUITY_SHIFT]!
/** Whether the path of a request can raise what it must meet. */
export const isAmbiguous = (entry: RouteEntry): boolean => (entry & AMBIGUITY_BITS) !== 0
/** Whether something before the handler ends the exemption of CORS preflights. */
export const isGuarded = (entry: RouteEntry): boolean => (entry & GUARDED_BIT) !== 0

/** Whether a policy would raise the level to `tls`, were it not in report mode. */
export const isReported = (entry: RouteEntry): boolean => (entry & REPORTED_BIT) !== 0

export function entryOf (rank: Rank, kind: Kind | undefined, ambiguity: Ambiguity = 'no', guarded = false): RouteEntry {
  return rank |
    (kind === undefined ? 0 : KINDS.indexOf(kind) + 1) << KIND_SHIFT |
    AMBIGUITIES.indexOf(ambiguity) << AMBIGUITY_SHIFT |
    (guarded ? GUARDED_BIT : 0)
}

/** The same with another rank. */
export function withRank (entry: RouteEntry, rank: Rank): RouteEntry {
  return (entry & ~RANK_BITS) | rank
}

/** The same under a policy, which raises what it forces to `tls`. */
export function underPolicy (entry: RouteEntry, { forces }: AppliedPolicy): RouteEntry {
  const force = forces.get(kindIn(entry))
  if (rankIn(entry) !== NONE || force === 'no') return entry
  return force === 'report' ? entry | REPORTED_BIT : withRank(entry, TLS)
}

/** What requests are judged by: replaced as a whole, so that none sees half of a change. */
export interface TableState {
  /** By a route's index. */
  readonly entries: Uint8Array
  readonly policy: AppliedPolicy
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
  /** A request reads it once. */
  state: TableState
  /** By a route's index: what developers declared, and `minimum`. Grows while routes are registered. */
  #declared: Uint8Array = new Uint8Array(64)
  readonly #rows: RouteSecurity[] = []
  /** By a route's index. Without holes, so that it is read as fast as any array. */
  readonly #rules: Array<RouteRules | undefined> = []

  constructor (policy: AppliedPolicy) {
    this.state = Object.freeze({ entries: this.#declared, policy })
  }

  /** Adds a registration, and answers its index. */
  add (row: RouteSecurity, ambiguity: Ambiguity, rules: RouteRules | undefined): number {
    const routeIndex = this.#rows.push(row) - 1
    if (routeIndex === this.#declared.length) {
      const grown = new Uint8Array(routeIndex * 2)
      grown.set(this.#declared)
      this.#declared = grown
    }
    this.#declared[routeIndex] = entryOf(rankOf(row.level), row.kind, ambiguity)
    this.#rules.push(rules)
    return routeIndex
  }

  /** Exempts CORS preflights from `mtls` in the hook. Only for a registration with a guard before its handler: see request/guards.ts. */
  exemptPreflights (routeIndex: number): void {
    this.#declared[routeIndex]! |= GUARDED_BIT
  }

  /** Whether requests for a registration may have to present a certificate: its own level, or that of a key that another reading of their path is under. */
  mayAskForCertificate (routeIndex: number): boolean {
    const entry = this.#declared[routeIndex]!
    return rankIn(entry) === MTLS || isAmbiguous(entry)
  }

  /** The rules of a route; undefined where it has none. */
  rulesOf (routeIndex: number): RouteRules | undefined {
    return this.#rules[routeIndex]
  }

  /** The routes that have to meet a rule. */
  routesWith (rule: Rule): readonly RouteSecurity[] {
    return this.#rows.filter((_, routeIndex) => this.#rules[routeIndex]?.rules.includes(rule))
  }

  /** Every rule of every route. */
  get rules (): readonly Rule[] {
    return [...new Set(this.#rules.flatMap((known) => known === undefined ? [] : known.rules))]
  }

  /** Notes another method of a registration: the HEAD that Fastify makes of a GET. */
  addMethod (routeIndex: number, method: string): void {
    const row = this.#rows[routeIndex]!
    if (!row.methods.includes(method)) this.#rows[routeIndex] = { ...row, methods: shareMethods([...row.methods, method]) }
  }

  /** No route comes after the boot: what grew beyond them is given back, and the policy holds for all of them. */
  seal (): void {
    this.#declared = this.#declared.slice(0, this.#rows.length)
    this.apply(this.state.policy)
  }

  /** From the next request on, in one assignment. */
  apply (policy: AppliedPolicy): void {
    // There are no more than 256 different entries, and one array does where nothing is forced.
    const changed = Uint8Array.from({ length: 256 }, (_, entry) => underPolicy(entry, policy))
    const entries = changed.every((entry, before) => entry === before) ? this.#declared : this.#declared.map((entry) => changed[entry]!)
    this.state = Object.freeze({ entries, policy })
  }

  /** One row a registration, as they are under the policy. */
  rows (): readonly RouteSecurity[] {
    return Object.freeze(this.#rows.map((row, routeIndex) => Object.freeze(this.#withRules(this.#underPolicy(row), routeIndex))))
  }

  /** Those that developers made ask for at least a level. */
  rowsFrom (level: RouteSecurity['level']): readonly RouteSecurity[] {
    return this.#rows.filter((row) => LEVELS.indexOf(row.level) >= LEVELS.indexOf(level))
  }

  /** @param most how many routes are listed; all are counted */
  changesSince ({ entries: before }: TableState, most: number): { raised: number, lowered: number, routes: RouteChange[] } {
    const { entries } = this.state
    const routes: RouteChange[] = []
    let raised = 0
    let lowered = 0
    for (let routeIndex = 0; routeIndex < entries.length; routeIndex++) {
      const [from, to] = [rankIn(before[routeIndex]!), rankIn(entries[routeIndex]!)]
      if (from === to) continue
      if (to > from) raised++
      else lowered++
      const { methods, url } = this.#rows[routeIndex]!
      if (routes.length < most) routes.push({ methods, url, from: LEVELS[from]!, to: LEVELS[to]! })
    }
    return { raised, lowered, routes }
  }

  #withRules (row: RouteSecurity, routeIndex: number): RouteSecurity {
    const rules = this.#rules[routeIndex]?.rules ?? []
    if (rules.length === 0) return row
    if (row.level !== 'mtls') return { ...row, rules: 'not applied' }
    const nearest = rules.findLast(({ allow }) => allow !== undefined)?.allow
    return { ...row, ...(nearest !== undefined && { allow: nearest.declared }), rules: Object.freeze(rules.map(describeRule)) }
  }

  #underPolicy (row: RouteSecurity): RouteSecurity {
    const declared = entryOf(rankOf(row.level), row.kind)
    const rank = rankIn(underPolicy(declared, this.state.policy))
    return rank === rankIn(declared) ? { ...row } : { ...row, level: LEVELS[rank]!, source: 'policy' }
  }
}

// The route table as people read it

const HEADINGS = ['METHODS', 'URL', 'KIND', 'DECLARED', 'LEVEL', 'SOURCE']

/** An aligned table, a line a registration. Only where a route has rules, there is a column for them. */
export function print (rows: readonly RouteSecurity[]): string {
  const hasRules = rows.some(({ rules }) => rules !== undefined)
  const headings = hasRules ? [...HEADINGS, 'RULES'] : HEADINGS
  const lines = [headings, ...rows.map((row) => hasRules ? [...cells(row), rulesCell(row)] : cells(row))]
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd())
    .join('\n') + '\n'
}

/** A registration in few words: `GET, HEAD /shop`. */
export function nameOf ({ methods, url }: Pick<RouteSecurity, 'methods' | 'url'>): string {
  return `${methods.join(', ')} ${url}`
}

function rulesCell ({ level, rules }: RouteSecurity): string {
  if (rules === undefined) return level === 'mtls' ? 'anyone' : ''
  return rules === 'not applied' ? rules : rules.map(formatRule).join(' AND ')
}

function cells ({ methods, url, constraints, kind, declared, level, source }: RouteSecurity): string[] {
  return [methods.join(', '), `${url}${constraints === undefined ? '' : ` ${JSON.stringify(constraints)}`}`, kind ?? 'undeclared', declared, level, source]
}
