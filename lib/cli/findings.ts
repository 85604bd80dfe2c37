/** What an audit has found, in an order that does not depend on that of the source. */
import { inspect } from 'node:util'
import type { Level, RouteSecurity } from '../../types/index.ts'
import type { Assessment } from '../boot.ts'
import { rankOf } from '../levels.ts'
import { nameOf } from '../routes/print.ts'

export interface Problem {
  readonly code: 'BELOW_MINIMUM' | 'INVALID_POLICY' | 'UNSATISFIABLE'
  readonly message: string
  /** By name; none where it is about the whole app. */
  readonly routes: readonly string[]
}

interface Circumstances {
  readonly minimum: Level | undefined
  readonly assessment: Assessment
  readonly isPlugin: boolean
}

/** Also tells whether there would be problems of a server that nobody knows. */
export function problemsOf (rows: readonly RouteSecurity[], { minimum, assessment, isPlugin }: Circumstances): { problems: readonly Problem[], unknown: boolean } {
  const ofServer: Problem[] = assessment.shortfalls.map(({ reason, routes }) => ({ code: 'UNSATISFIABLE', message: reason, routes: namesIn(routes) }))
  const obstacle = assessment.policyObstacle()
  if (obstacle !== undefined) {
    ofServer.push({ code: 'INVALID_POLICY', message: `the policy forces HTTPS, and that cannot be met: ${obstacle}`, routes: namesIn(rows.filter(({ source }) => source === 'policy')) })
  }
  const problems = isPlugin ? [] : ofServer
  // The probe of `proxy.probe` opens nothing, and is there for a day at most: whether it is, is not for an audit to fail on.
  const below = rows.filter((row) => rankOf(row.level) < rankOf(minimum) && !assessment.isProbe(row))
  if (below.length > 0) problems.push({ code: 'BELOW_MINIMUM', message: `below the minimum, ${minimum}`, routes: namesIn(below) })
  return { problems: sorted(problems, ({ code, message }) => [code, message]), unknown: isPlugin && ofServer.length > 0 }
}

/** As JSON, of which two can be compared line by line. */
export function documentOf (rows: readonly RouteSecurity[], { minimum, problems }: { minimum: Level | undefined, problems: readonly Problem[] }): string {
  return `${JSON.stringify({ version: 1, minimum: minimum ?? null, routes: canonical(rows), problems }, null, 2)}\n`
}

interface Row extends Omit<RouteSecurity, 'constraints' | 'kind'> {
  readonly constraints: Readonly<Record<string, string>> | null
  readonly kind: RouteSecurity['kind'] | null
}

function canonical (rows: readonly RouteSecurity[]): readonly Row[] {
  return sorted(rows.map(({ methods, url, constraints, kind, declared, level, source }) => ({
    methods: [...methods].sort(),
    url,
    constraints: constraints === undefined ? null : textsOf(constraints),
    kind: kind ?? null,
    declared,
    level,
    source
  })), ({ url, methods, constraints }) => [url, methods.join(), JSON.stringify(constraints)])
}

/** JSON has no regular expressions, nor whatever else constraint strategies compare with. */
function textsOf (constraints: NonNullable<RouteSecurity['constraints']>): Record<string, string> {
  const entries = Object.entries(constraints).map(([name, value]) => [name, typeof value === 'string' ? value : inspect(value)] as const)
  return Object.fromEntries(sorted(entries, ([name]) => [name]))
}

function namesIn (rows: readonly RouteSecurity[]): readonly string[] {
  return canonical(rows).map((row) => row.constraints === null ? nameOf(row) : `${nameOf(row)} ${JSON.stringify(row.constraints)}`)
}

/** By code unit: the same on every machine. */
function sorted<Item> (items: readonly Item[], keysOf: (item: Item) => readonly string[]): Item[] {
  const keyed = items.map((item) => ({ item, key: keysOf(item).join('\0') }))
  return keyed.sort((a, b) => a.key < b.key ? -1 : Number(a.key > b.key)).map(({ item }) => item)
}
