/**
 * Unknown input becomes a frozen policy here, and the one thing that an application needs to know of it.
 */
import type { ForcedHttps, Policy } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import type { Kind } from '../levels.ts'
import { explain, show } from '../options/validation-errors.ts'
import { hstsHeader } from '../response/hsts.ts'
import { PolicySchema, isPolicy } from './checks.ts'

/** What a policy does to an element, from nothing to the most. */
const FORCES = ['no', 'report', 'enforce'] as const
type Force = typeof FORCES[number]

/** A policy as one application sees it. */
export interface AppliedPolicy {
  readonly policy: Policy
  /** By kind; an undeclared element is both a screen and an integration. */
  readonly forces: ReadonlyMap<Kind | undefined, Force>
  /** The value of Strict-Transport-Security (RFC 6797 §6.1), or none. */
  readonly hsts: string | undefined
}

/** That of an environment without any. */
export const NO_POLICY: AppliedPolicy = applyPolicy(Object.freeze({}), undefined)

/**
 * @param input an object as `JSON.parse` makes it
 * @param subject where it is from: `policy` or a file
 * @throws FST_HTTP_SECURITY_INVALID_POLICY
 */
export function resolvePolicy (input: unknown, subject: string): Policy {
  // An own key of this name, as JSON has it, would be another object's prototype somewhere down the road.
  const odd = findOdd(input, [], new Set())
  if (odd !== undefined) throw new InvalidPolicyError(`${[subject, ...odd].join(': ')}: not allowed as a name`)
  if (!isPolicy(input)) throw new InvalidPolicyError(explain(subject, PolicySchema, input))
  const { environment, applications } = input as Policy
  return frozenCopy({ ...(environment !== undefined && { environment }), ...(applications !== undefined && { applications }) })
}

/**
 * @param application the name of this one; without one, only the environment counts
 * @param isReported nothing is enforced, only reported
 */
export function applyPolicy (policy: Policy, application: string | undefined, isReported = false): AppliedPolicy {
  const { environment = {}, applications = {} } = policy
  const own: ForcedHttps = application !== undefined && Object.hasOwn(applications, application) ? applications[application]! : {}
  const { hsts } = environment
  const environmentMode = isReported ? 'report' : environment.mode
  const ownMode = isReported ? 'report' : own.mode
  const screens = strongest(force(environment.forceHttpsForScreens === true || (hsts?.maxAge ?? 0) > 0, environmentMode), force(own.forceHttpsForScreens, ownMode))
  const integrations = strongest(force(environment.forceHttpsForIntegrations, environmentMode), force(own.forceHttpsForIntegrations, ownMode))
  return Object.freeze({
    policy,
    forces: new Map<Kind | undefined, Force>([['screen', screens], ['rest', integrations], ['soap', integrations], [undefined, strongest(screens, integrations)]]),
    hsts: hsts === undefined || environmentMode === 'report' ? undefined : hstsHeader(hsts)
  })
}

/** Whether a server has to do HTTPS for it, whatever its routes are. */
export function forcesHttps ({ forces, hsts }: AppliedPolicy): boolean {
  return hsts !== undefined || [...forces.values()].includes('enforce')
}

function force (isForced: boolean | undefined, mode: ForcedHttps['mode']): Force {
  if (isForced !== true) return 'no'
  return mode === 'report' ? 'report' : 'enforce'
}

function strongest (a: Force, b: Force): Force {
  return FORCES.indexOf(a) > FORCES.indexOf(b) ? a : b
}

/** @param seen whatever refers to itself is looked at once */
function findOdd (value: unknown, path: readonly string[], seen: Set<unknown>): readonly string[] | undefined {
  if (typeof value !== 'object' || value === null || path.length > 3 || seen.has(value)) return undefined
  seen.add(value)
  for (const [name, part] of Object.entries(value)) {
    if (name === '__proto__') return [...path, show(name)]
    const odd = findOdd(part, [...path, name], seen)
    if (odd !== undefined) return odd
  }
  return undefined
}

/** Of what fits the schema, which has no more levels than that. */
function frozenCopy<Value> (value: Value): Value {
  if (typeof value !== 'object' || value === null) return value
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([name, part]) => [name, frozenCopy(part)]))) as Value
}
