/**
 * Rules, which say whose certificates a route admits: `allow` and `verify` of a declaration. Begin with {@link resolveRule};
 * request/rules.ts asks for each request.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Allowed, RouteRule, Verify } from '../../types/clients.ts'
import { frozenCopy } from '../frozen.ts'
import { EntryIndex, labelIn, resolveEntry, type ResolvedEntry } from './certificate-entry.ts'

/** Whom a rule admits. */
export interface AllowList {
  /** As declared. Frozen. */
  readonly declared: readonly Allowed[]
  readonly names: ReadonlySet<string>
  readonly groups: ReadonlySet<string>
  readonly entries: EntryIndex<object>
  /** Labels of client CAs that entries ask for, and the place of each in the list. */
  readonly labels: ReadonlyMap<string, number>
}

/** What one declaration says. All rules of a route have to admit a client. */
export interface Rule {
  /** Where it was declared, for logs and tables: `route`, `the flow payments at /payments`, `flows: /partners`, `default`. */
  readonly by: string
  readonly allow?: AllowList
  readonly verify?: Verify
}

/** Where a rule was declared that a route has of its own. */
export const OF_ROUTE = 'route'

/** No rule: every valid certificate is admitted. */
export const NO_RULES: readonly Rule[] = Object.freeze([])

/**
 * @param declared that fits its schema
 * @throws TypeError for an entry that would match every certificate or none, and for a `verify` that is no function
 */
export function resolveRule ({ allow, verify }: { readonly allow?: readonly Allowed[] | undefined, readonly verify?: unknown }, by: string): Rule {
  if (verify !== undefined && typeof verify !== 'function') throw new TypeError('verify: allowed: a function')
  return Object.freeze({
    by,
    ...(allow !== undefined && { allow: resolveAllowList(allow) }),
    ...(verify !== undefined && { verify: verify as Verify })
  })
}

/** Of entries in a list, all that counts is that they match. */
const ADMITTED = Object.freeze({})

function resolveAllowList (allow: readonly Allowed[]): AllowList {
  const [names, groups, entries, labels] = [new Set<string>(), new Set<string>(), new EntryIndex<object>(), new Map<string, number>()]
  const declared = [...allow].map((item, index) => {
    if (typeof item === 'string') {
      names.add(nameIn(`allow: ${index}`, item))
      return item
    }
    if ('group' in item) {
      const other = Object.keys(item).find((name) => name !== 'group')
      if (other !== undefined) throw new TypeError(`allow: ${index}: ${JSON.stringify(other)} is not allowed beside group`)
      groups.add(nameIn(`allow: ${index}: group`, item.group))
      return Object.freeze({ group: item.group })
    }
    if ('groups' in item) throw new TypeError(`allow: ${index}: "groups" is not allowed; did you mean "group"?`)
    const resolved = resolveEntryAt(`allow: ${index}`, item)
    entries.add(resolved, ADMITTED)
    const label = labelIn(resolved)
    if (label !== undefined) labels.set(label, index)
    return frozenCopy(item)
  })
  return Object.freeze({ declared: Object.freeze(declared), names, groups, entries, labels })
}

/** Whether this may be the name of a client or a group. */
export function isName (name: unknown): name is string {
  return typeof name === 'string' && name !== '__proto__' && /^\P{Control}{1,128}$/u.test(name)
}

function nameIn (where: string, name: unknown): string {
  if (isName(name)) return name
  throw new TypeError(`${where}: ${JSON.stringify(name)} is not allowed; allowed: a name of 1 to 128 characters, none of them a control character`)
}

/** Adds the place to the message of an error. */
function resolveEntryAt (where: string, item: unknown): ResolvedEntry {
  try {
    return resolveEntry(item)
  } catch (cause) {
    throw new TypeError(`${where}: ${(cause as Error).message}`, { cause })
  }
}

/** Rules of a nearer declaration can only narrow. What a flow passes on to a flow within it is not there twice. */
export function addRules (far: readonly Rule[], near: readonly Rule[]): readonly Rule[] {
  if (far.length === 0) return near
  const added = near.filter((rule) => !far.some((other) => isSameRule(rule, other)))
  if (added.length === 0) return far
  return Object.freeze([...far, ...added])
}

function isSameRule (one: Rule, other: Rule): boolean {
  return one === other || (one.verify === other.verify && isDeepStrictEqual(one.allow?.declared, other.allow?.declared))
}

/** The same for people. */
export function describeRule ({ by, allow, verify }: Rule): RouteRule {
  return Object.freeze({ by, ...(allow !== undefined && { allow: allow.declared }), ...(verify !== undefined && { verify: true as const }) })
}

/** A rule in few words: `acme, group writers, {"san":"DNS:x"}; verify`. */
export function formatRule ({ allow, verify }: RouteRule): string {
  const items = allow?.map((item) => typeof item === 'string' ? item : 'group' in item ? `group ${item.group}` : JSON.stringify(item)).join(', ')
  return [...items === undefined ? [] : [items], ...verify === true ? ['verify()'] : []].join('; ')
}

// Labels of client CAs, which entries may ask for

/** The labels of the client CAs that are configured. */
export interface CaLabels {
  /** Undefined where any may be: in unit tests without TLS. */
  readonly names: ReadonlySet<string> | undefined
  /** Why no label can ever be known of a certificate; undefined where one can. */
  readonly obstacle?: string | undefined
}

/** Why an entry that asks for a label would never match; undefined where it may. */
export function problemOfLabel (label: string, { names, obstacle }: CaLabels): string | undefined {
  if (obstacle !== undefined) return `issuedBy: ${JSON.stringify(label)} can never be known: ${obstacle}`
  if (names === undefined || names.has(label)) return undefined
  const known = names.size === 0 ? 'no client CAs have a label here' : `allowed: ${[...names].map((name) => JSON.stringify(name)).join(', ')}`
  return `issuedBy: ${JSON.stringify(label)} is not a label of client CAs; ${known}`
}

/** Whether any of these rules asks for a label. */
export function asksForIssuer (rules: readonly Rule[]): boolean {
  return rules.some(({ allow }) => allow !== undefined && allow.labels.size > 0)
}
