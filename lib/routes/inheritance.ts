/**
 * The level, kind and rules of a route, from what it declares itself and what it inherits from flows: by `register`, as an
 * encapsulated instance, and by `flows`, as a URL prefix. Begin with `resolveRoute`.
 */
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, RouteOptions } from 'fastify'
import type { LevelSource, RouteSecurity } from '../../types/index.ts'
import { addRules, NO_RULES, type Rule } from '../clients/rules.ts'
import { InvalidOptionsError } from '../errors.ts'
import { LEVELS, MTLS, NONE, type Rank, rankOf, stricter } from '../levels.ts'
import { type Declared, declarationOf, inherit, NOTHING, type Options } from '../options/resolve.ts'
import { nearest } from '../options/validation-errors.ts'
import { fold, foldText, spellings } from '../url/path-readings.ts'
import { PrefixTree } from '../url/prefix-tree.ts'
import { type Ambiguity, nameOf, type RouteRules, type RouteTable } from './route-table.ts'

/** What a level is worked out from. */
interface DeclaredRoute {
  readonly instance: FastifyInstance
  readonly methods: readonly string[]
  readonly url: string
  readonly constraints: RouteOptions['constraints']
  /** What the route itself declares. */
  readonly own: Declared
}

/**
 * Level and kind come each from the nearest of route, flow, key of `flows` and `default`; `minimum` may raise the level. The rules
 * of all of them have to hold.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for `mtls` on a REST API with `profile: 'outsystems'`, and for a route's own rules where
 * no certificate is required
 */
export function resolveRoute ({ instance, methods, url, constraints, own }: DeclaredRoute, flows: Flows, options: Options): { readonly row: RouteSecurity, readonly rules: RouteRules | undefined } {
  const flow = flows.ofInstance(instance)
  const prefix = flows.ofPattern(url)
  const declared = own.level ?? flow.level ?? prefix.level ?? options.default.level
  const kind = own.kind ?? flow.kind ?? prefix.kind ?? options.default.kind
  const rank = Math.max(rankOf(declared), options.minimum)
  if (options.forbidsMtlsOnRest && rank === MTLS && kind === 'rest') {
    throw new InvalidOptionsError(`httpSecurity of route ${nameOf({ methods, url })}: 'mtls' is not allowed on a rest element with profile: 'outsystems', where client certificates do not apply to exposed REST APIs; allowed: 'none', 'tls'`)
  }
  if (own.rules !== undefined && rank < MTLS) {
    throw new InvalidOptionsError(`httpSecurity of route ${nameOf({ methods, url })}: ${own.rules[0]!.allow === undefined ? 'verify' : 'allow'} has no effect at level '${declared}', where no client certificate is required; allowed: level 'mtls' beside it`)
  }
  const level = LEVELS[rank]!
  const source = rank > rankOf(declared) ? 'minimum' : sourceOf(own, flow, prefix)
  const row = { methods, url, kind, declared, level, source }
  return {
    // Of one shape in nearly all cases: there may be ten thousand.
    row: constraints === undefined || Object.keys(constraints).length === 0 ? row : { ...row, constraints },
    rules: flows.hasRules || own.rules !== undefined ? resolveRules(url, [options.default, prefix, flow, own], flows) : undefined
  }
}

function resolveRules (url: string, declarations: readonly Declared[], flows: Flows): RouteRules | undefined {
  const rules = rulesOf(declarations)
  const ambiguity = flows.rulesAmbiguityOf(url)
  return rules.length === 0 && ambiguity === 'no' ? undefined : Object.freeze({ rules, ambiguity })
}

function sourceOf (own: Declared, flow: Declared, prefix: Declared): LevelSource {
  if (own.level !== undefined) return 'route'
  if (flow.level !== undefined) return 'flow'
  return prefix.level !== undefined ? 'prefix' : 'default'
}

/** Misspelled keys for which the one that was meant is looked for, and routes among which it is. */
const MOST_EXPLAINED = 20
const MOST_COMPARED = 200

export class Flows {
  readonly #keys = new PrefixTree<Declared>()
  readonly #paths: readonly string[]
  /** By rank: the keys that are stricter, each with a slash at its end, in the order of code units. */
  readonly #stricterKeys: ReadonlyArray<readonly string[]>
  /** The keys that have rules, likewise. */
  readonly #keysWithRules: readonly string[]
  readonly #registeredPrefixes = new PrefixTree<Declared>()
  readonly #instances = new WeakMap<FastifyInstance, Declared>()
  readonly #default: Declared
  readonly #rulesOfKeys: readonly Rule[]
  /** Of `default`, all keys and all flows, for paths that are too odd to tell. */
  readonly #allRules: Set<Rule>
  readonly #strictestKey: Rank
  #strictest: Rank

  constructor ({ flows, default: fallback }: Pick<Options, 'flows' | 'default'>) {
    for (const [path, declaration] of flows) this.#keys.add(path, declaration)
    this.#paths = [...flows.keys()]
    this.#stricterKeys = LEVELS.map((_, rank) => [...flows].flatMap(([path, { level }]) => rankOf(level) > rank ? [`${path}/`] : []).sort())
    this.#keysWithRules = [...flows].flatMap(([path, { rules }]) => rules === undefined ? [] : [`${path}/`]).sort()
    this.#default = fallback
    this.#rulesOfKeys = [...flows.values()].flatMap(({ rules = NO_RULES }) => rules)
    this.#allRules = new Set([...fallback.rules ?? NO_RULES, ...this.#rulesOfKeys])
    this.#strictestKey = strictestOf([...flows.values()])
    this.#strictest = stricter(this.#strictestKey, rankOf(fallback.level))
  }

  /** Notes that `instance` was registered in `parent` with a declaration, which may be empty, and a prefix or none. */
  enter (parent: FastifyInstance, instance: FastifyInstance, declaration: Declared, hasPrefix: boolean): void {
    const flow = inherit(this.ofInstance(parent), declaration)
    this.#instances.set(instance, flow)
    // Also without a prefix: its not-found handler has to meet them.
    for (const rule of flow.rules ?? NO_RULES) this.#allRules.add(rule)
    if (!hasPrefix) return
    this.#registeredPrefixes.add(fold(instance.prefix), flow, (segment) => /[:*]/.test(segment))
    this.#strictest = stricter(this.#strictest, rankOf(flow.level))
  }

  /** Whether `default`, any key or any flow has rules. */
  get hasRules (): boolean {
    return this.#allRules.size > 0
  }

  /** Every rule of `default`, keys and flows. */
  get rules (): readonly Rule[] {
    return [...this.#allRules]
  }

  /** What the flows say that an instance is registered in, innermost first. */
  ofInstance (instance: FastifyInstance): Declared {
    return this.#instances.get(instance) ?? NOTHING
  }

  /** Whether what an option declares holds in an instance already, by the flows that it is registered in. */
  holds (instance: FastifyInstance, option: unknown): boolean {
    const declared = declarationOf(option, 'flow')
    const flow = this.ofInstance(instance)
    return declared !== undefined && isDeepStrictEqual(inherit(flow, declared), flow)
  }

  /** What the longest key says that covers every URL of a pattern. */
  ofPattern (url: string): Declared {
    if (this.#keys.isEmpty) return NOTHING
    const literal = literalPart(url)
    // `/shop/:id` is always under `/shop`; `/shop:id` is under `/` alone.
    return merge(this.#keys.covering(fold(isPattern(url) ? literal.slice(0, literal.lastIndexOf('/') + 1) : literal)))
  }

  /** Whether requests for a pattern can come under a key that is stricter than the route's own rank. */
  ambiguityOf (url: string, rank: Rank): Ambiguity {
    if (this.#strictestKey <= rank || !isPattern(url)) return 'no'
    // `/files/*` is also asked for as `/files/../partners`.
    return hasPrefixed(this.#stricterKeys[rank]!, startOf(url)) ? 'plainly' : 'by spelling'
  }

  /** Whether requests for a pattern can come under a key that has rules. */
  rulesAmbiguityOf (url: string): Ambiguity {
    if (this.#keysWithRules.length === 0 || !isPattern(url)) return 'no'
    return hasPrefixed(this.#keysWithRules, startOf(url)) ? 'plainly' : 'by spelling'
  }

  /** The keys that no request for these routes can come under, each with the one that was probably meant. */
  keysWithout (urls: readonly string[]): ReadonlyArray<readonly [key: string, meant: string | undefined]> {
    const starts = urls.map(startOf)
    const sorted = starts.map((start) => start.endsWith('/') ? start : `${start}/`).sort()
    const patterns = new Set(starts.filter((_, index) => isPattern(urls[index]!)))
    const keys = [...this.#paths].filter((path) => {
      const key = path === '/' ? path : `${path}/`
      return !hasPrefixed(sorted, key) && !prefixesOf(key).some((prefix) => patterns.has(prefix))
    })
    const known = [...new Set(sorted.slice(0, MOST_COMPARED).flatMap((start) => prefixesOf(start).flatMap((prefix) => prefix.length > 1 && prefix.endsWith('/') ? prefix.slice(0, -1) : [])))]
    return keys.map((key, index) => [key, index < MOST_EXPLAINED ? nearest(key, known) : undefined])
  }

  /** What the longest key says that covers a request target, in its strictest reading. */
  rankOfTarget (target: string): Rank {
    const texts = spellings(target)
    const readings = texts && this.#keys.readings(texts)
    if (readings === null) return this.#strictestKey
    return readings.reduce<Rank>((rank, declarations) => stricter(rank, rankOf(merge(declarations).level)), NONE)
  }

  /** The rules of every key that covers a target, in any of its readings. */
  rulesOfTarget (target: string): readonly Rule[] {
    const texts = spellings(target)
    const readings = texts && this.#keys.readings(texts)
    return readings === null ? this.#rulesOfKeys : rulesOf(readings.flat())
  }

  /** What a target is that no route knows: the strictest of every prefix that covers it, and of the default. */
  ofUnknown (target: string): { rank: Rank, kind: Declared['kind'], rules: readonly Rule[] } {
    const texts = spellings(target)
    const [keys, registered] = [texts && this.#keys.readings(texts), texts && this.#registeredPrefixes.readings(texts)]
    if (keys === null || registered === null) return { rank: this.#strictest, kind: this.#default.kind, rules: [...this.#allRules] }
    const declarations = [this.#default, ...keys.flat(), ...registered.flat()]
    return { rank: strictestOf(declarations), kind: merge(declarations).kind, rules: rulesOf(declarations) }
  }
}

function rulesOf (declarations: readonly Declared[]): readonly Rule[] {
  return declarations.reduce((far, { rules: near = NO_RULES }) => addRules(far, near), NO_RULES)
}

/** Every rule of an app, each once. */
export function rulesIn (flows: Flows, table: RouteTable): readonly Rule[] {
  return [...new Set([...flows.rules, ...table.rules])]
}

function merge (declarations: readonly Declared[]): Declared {
  return declarations.reduce(inherit, NOTHING)
}

function strictestOf (declarations: readonly Declared[]): Rank {
  return declarations.reduce<Rank>((rank, { level }) => stricter(rank, rankOf(level)), NONE)
}

/** Up to the first parameter or wildcard; `::` is an escaped colon. */
function literalPart (url: string): string {
  return /^(?:[^:*]|::)*/.exec(url)![0].replaceAll('::', ':')
}

/** The literal part of a pattern in canonical form; all of any other URL. */
function startOf (url: string): string {
  return foldText(literalPart(url)).replaceAll(/\/{2,}/g, '/')
}

/** Every beginning of a text, from none of it to all of it. */
function prefixesOf (text: string): string[] {
  return Array.from({ length: text.length + 1 }, (_, length) => text.slice(0, length))
}

function isPattern (url: string): boolean {
  return /[:*]/.test(url.replaceAll('::', ''))
}

/** Whether any of these, in the order of code units, begins with a prefix: there may be ten thousand, for as many patterns. */
function hasPrefixed (sorted: readonly string[], prefix: string): boolean {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]! < prefix) low = middle + 1
    else high = middle
  }
  return sorted[low]?.startsWith(prefix) === true
}
