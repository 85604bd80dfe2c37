/**
 * The command `audit`: prints how each route of an app may be reached, and whether the server can deliver that. Begin
 * with `audit`; `problemsOf` decides what is a problem.
 */
import { resolve } from 'node:path'
import { inspect, parseArgs } from 'node:util'
import type { HttpSecurity, Level, Policy, RouteSecurity } from '../../types/index.ts'
import { type Assessment, type Assessments, kAudit } from '../boot.ts'
import { parseDocument, readDocument } from '../files/document.ts'
import { LEVELS, rankOf } from '../levels.ts'
import { POLICY } from '../policy/policy.ts'
import { nameOf } from '../routes/route-table.ts'
import { explain, Failure, type Io, say, UsageError } from './io.ts'
import { load, type Loaded } from './load-app.ts'

/** Milliseconds that an app may take to close. */
const CLOSING = 3_000

interface AuditOptions {
  /** The path of the app's module, as it was written. */
  readonly name: string
  readonly policy: string | undefined
  readonly minimum: Level | undefined
  readonly json: boolean
  /** A route that every valid certificate reaches is a problem. */
  readonly requireRules: boolean
}

/**
 * Runs the command.
 *
 * @returns the exit code: 0, or 1 if there is a problem
 * @throws Failure, UsageError, or an error of the policy, if there is no result
 */
export async function audit (args: readonly string[], io: Io): Promise<number> {
  const options = readOptions(args)
  const policy = options.policy === undefined ? undefined : await readPolicy(options.policy, io)
  const assessments: Assessments = new WeakMap()
  // Set before the app is loaded: the app may boot itself.
  Reflect.set(globalThis, kAudit, assessments)
  try {
    const loaded = await load(options.name)
    try {
      return await assess(loaded, { ...options, policy, assessments }, io)
    } finally {
      await close(loaded, options.name, io)
    }
  } finally {
    Reflect.deleteProperty(globalThis, kAudit)
  }
}

async function assess ({ app, isPlugin }: Loaded, { name, policy, minimum, json, requireRules, assessments }: Omit<AuditOptions, 'policy'> & { policy: Policy | undefined, assessments: Assessments }, io: Io): Promise<number> {
  try {
    await app.ready()
  } catch (error) {
    throw new Failure(`${name} does not boot: ${explain(error)}`, { cause: error })
  }
  const httpSecurity = app.httpSecurity as HttpSecurity | undefined
  const assessment = assessments.get(app.server)
  if (httpSecurity === undefined) {
    throw new Failure(assessment === undefined
      ? `${name} does not register fastify-http-security${isPlugin ? '; it was taken for a plugin: a function that makes an instance has to declare no parameters' : ''}`
      : `${name} registers fastify-http-security in a child context, which is all that it protects there. Register it at root: on the instance itself, or in a plugin that is wrapped in fastify-plugin`)
  }
  if (assessment === undefined) throw new Failure(`${name} uses a version of fastify-http-security that this command does not understand: run the one that is installed with the app`)

  if (policy !== undefined) httpSecurity.enforce(policy)
  const rows = httpSecurity.routes()
  const { problems, unknown } = problemsOf(rows, { minimum, requireRules, assessment, isPlugin })
  io.stdout.write(json ? documentOf(rows, { minimum, problems }) : httpSecurity.print())
  if (assessment.mode === 'report') say(io, `${name} has mode: 'report', so that nothing of this is enforced`)
  if (unknown) say(io, `${name} exports a plugin, and the server that it will get is not known: whether that can deliver these levels was not checked. Export an instance, or a function that makes one, to have it checked`)
  for (const problem of problems) say(io, describe(problem))
  const open = openRows(rows)
  if (open.length > 0 && !requireRules) say(io, describe({ message: `${ANYONE} (with --require-rules, a problem)`, routes: routeNamesOf(open) }))
  return problems.length === 0 ? 0 : 1
}

function readOptions (args: readonly string[]): AuditOptions {
  const { values: { minimum, policy, json, 'require-rules': requireRules }, positionals: [name, ...others] } = parseAuditArgs(args)
  if (name === undefined || others.length > 0) throw new UsageError('audit takes one file')
  if (minimum !== undefined && !isLevel(minimum)) throw new UsageError(`--minimum: '${minimum}' is not allowed; allowed: ${LEVELS.map((level) => `'${level}'`).join(', ')}`)
  return { name, policy, minimum, json, requireRules }
}

function parseAuditArgs (args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { policy: { type: 'string' }, minimum: { type: 'string' }, json: { type: 'boolean', default: false }, 'require-rules': { type: 'boolean', default: false } }
    })
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error })
  }
}

function isLevel (value: string): value is Level {
  return (LEVELS as readonly string[]).includes(value)
}

async function readPolicy (name: string, io: Io): Promise<Policy> {
  const { text, warning } = await readDocument(resolve(name), name, POLICY)
  if (warning !== undefined) say(io, warning)
  return POLICY.check(await parseDocument(text, name, POLICY), name)
}

/** Closes the app. An error is only a message: the result is already there. */
async function close ({ app }: Loaded, name: string, io: Io): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Failure(`not within ${CLOSING / 1_000} seconds`)), CLOSING)
  })
  try {
    await Promise.race([app.close(), late])
  } catch (error) {
    say(io, `${name} does not close: ${explain(error)}`)
  } finally {
    clearTimeout(timer)
  }
}

// The result of an audit
//
// In an order that does not depend on the order of the source code.

interface Problem {
  readonly code: 'BELOW_MINIMUM' | 'INVALID_POLICY' | 'UNSATISFIABLE' | 'WITHOUT_RULES'
  readonly message: string
  /** Method and path of each route; empty if the problem is about the whole app. */
  readonly routes: readonly string[]
}

const ANYONE = 'without rules, so that anyone with a certificate of any client CA gets in'

/** Routes that ask for a certificate, and take any. */
function openRows (rows: readonly RouteSecurity[]): readonly RouteSecurity[] {
  return rows.filter(({ level, rules }) => level === 'mtls' && rules === undefined)
}

function describe ({ message, routes }: Pick<Problem, 'message' | 'routes'>): string {
  return routes.length === 0 ? message : `${message}:\n  ${routes.join('\n  ')}`
}

interface ProblemInput {
  readonly minimum: Level | undefined
  readonly requireRules: boolean
  readonly assessment: Assessment
  readonly isPlugin: boolean
}

/**
 * @returns the problems; `unknown` if there would be problems of the server, but it is not known which server a plugin
 * will get
 */
function problemsOf (rows: readonly RouteSecurity[], { minimum, requireRules, assessment, isPlugin }: ProblemInput): { problems: readonly Problem[], unknown: boolean } {
  const ofServer: Problem[] = assessment.shortfalls.map(({ reason, routes }) => ({ code: 'UNSATISFIABLE', message: reason, routes: routeNamesOf(routes) }))
  const obstacle = assessment.policyObstacle()
  if (obstacle !== undefined) {
    ofServer.push({ code: 'INVALID_POLICY', message: `the policy forces HTTPS, and that cannot be met: ${obstacle}`, routes: routeNamesOf(rows.filter(({ source }) => source === 'policy')) })
  }
  const problems = isPlugin ? [] : ofServer
  // The probe of `proxy.probe` gives no access, and expires after a day at most: it is no reason for an audit to fail.
  const below = rows.filter((row) => rankOf(row.level) < rankOf(minimum) && !assessment.isProbe(row))
  if (below.length > 0) problems.push({ code: 'BELOW_MINIMUM', message: `below the minimum, ${minimum}`, routes: routeNamesOf(below) })
  const open = openRows(rows)
  if (requireRules && open.length > 0) problems.push({ code: 'WITHOUT_RULES', message: ANYONE, routes: routeNamesOf(open) })
  return { problems: sorted(problems, ({ code, message }) => [code, message]), unknown: isPlugin && ofServer.length > 0 }
}

/** The JSON document. Two of them can be compared line by line. */
function documentOf (rows: readonly RouteSecurity[], { minimum, problems }: { minimum: Level | undefined, problems: readonly Problem[] }): string {
  return `${JSON.stringify({ version: 1, minimum: minimum ?? null, routes: canonical(rows), problems }, null, 2)}\n`
}

interface Row extends Omit<RouteSecurity, 'constraints' | 'kind'> {
  readonly constraints: Readonly<Record<string, string>> | null
  readonly kind: RouteSecurity['kind'] | null
}

function canonical (rows: readonly RouteSecurity[]): readonly Row[] {
  return sorted(rows.map(({ methods, url, constraints, kind, declared, level, source, allow, rules }) => ({
    methods: [...methods].sort(),
    url,
    constraints: constraints === undefined ? null : textsOf(constraints),
    kind: kind ?? null,
    declared,
    level,
    source,
    ...(allow !== undefined && { allow }),
    ...(rules !== undefined && { rules })
  })), ({ url, methods, constraints }) => [url, methods.join(), JSON.stringify(constraints)])
}

/** Constraints as text: JSON has no regular expressions, and constraint strategies may compare with other values. */
function textsOf (constraints: NonNullable<RouteSecurity['constraints']>): Record<string, string> {
  const entries = Object.entries(constraints).map(([name, value]) => [name, typeof value === 'string' ? value : inspect(value)] as const)
  return Object.fromEntries(sorted(entries, ([name]) => [name]))
}

function routeNamesOf (rows: readonly RouteSecurity[]): readonly string[] {
  return canonical(rows).map((row) => row.constraints === null ? nameOf(row) : `${nameOf(row)} ${JSON.stringify(row.constraints)}`)
}

/** Sorted by code unit: the same on every machine. */
function sorted<Item> (items: readonly Item[], keysOf: (item: Item) => readonly string[]): Item[] {
  const keyed = items.map((item) => ({ item, key: keysOf(item).join('\0') }))
  return keyed.sort((a, b) => a.key < b.key ? -1 : Number(a.key > b.key)).map(({ item }) => item)
}
