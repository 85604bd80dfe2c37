/**
 * Validates policies ({@link resolvePolicy}), and works out what a policy means for one application ({@link applyPolicy}).
 */
import type { ForcedHttps, Policy } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import type { DocumentKind } from '../files/document.ts'
import { frozenCopy } from '../frozen.ts'
import type { Kind } from '../levels.ts'
import { explain, show } from '../options/validation-errors.ts'
import { hstsHeader } from '../response/hsts.ts'
import { isPolicy, PolicySchema } from './checks.generated.ts'

/** What a policy does to an element, the least first. */
const FORCES = ['no', 'report', 'enforce'] as const
type Force = typeof FORCES[number]

/** A policy, applied to one application. */
export interface AppliedPolicy {
  readonly policy: Policy
  /** By kind; an undeclared element is both a screen and an integration. */
  readonly forces: ReadonlyMap<Kind | undefined, Force>
  /** The value of Strict-Transport-Security (RFC 6797 §6.1); `undefined` for none. */
  readonly hsts: string | undefined
}

/** Bytes; enough for thousands of applications. */
const LARGEST = 1024 * 1024

/** The kind of document that a policy is. */
export const POLICY: DocumentKind<Policy> = { name: 'policy', stake: 'what is enforced', largest: LARGEST, Invalid: InvalidPolicyError, check: resolvePolicy }

/** In force where there is no policy. */
export const NO_POLICY: AppliedPolicy = applyPolicy(Object.freeze({}), undefined)

/**
 * @param input an object as `JSON.parse` returns it
 * @param subject of messages: `policy`, or the name of a file
 * @throws FST_HTTP_SECURITY_INVALID_POLICY
 */
export function resolvePolicy (input: unknown, subject: string): Policy {
  // JSON.parse makes `__proto__` an own key. Code that copies it by assignment would change another object's prototype.
  const forbidden = findForbidden(input, [], new Set())
  if (forbidden !== undefined) throw new InvalidPolicyError(`${[subject, ...forbidden].join(': ')}: not allowed as a name`)
  if (!isPolicy(input)) throw new InvalidPolicyError(explain(subject, PolicySchema, input))
  const { environment, applications } = input as Policy
  return frozenCopy({ ...(environment !== undefined && { environment }), ...(applications !== undefined && { applications }) })
}

/**
 * @param application the name of this application; without a name, only the environment counts
 * @param isReported the whole app is in report mode
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

/** Whether the server has to do HTTPS because of the policy, whatever its routes are. */
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

/** @param seen objects that were visited, because an object may refer to itself */
function findForbidden (value: unknown, path: readonly string[], seen: Set<unknown>): readonly string[] | undefined {
  if (typeof value !== 'object' || value === null || path.length > 3 || seen.has(value)) return undefined
  seen.add(value)
  for (const [name, part] of Object.entries(value)) {
    if (name === '__proto__') return [...path, show(name)]
    const forbidden = findForbidden(part, [...path, name], seen)
    if (forbidden !== undefined) return forbidden
  }
  return undefined
}
