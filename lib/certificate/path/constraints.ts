/**
 * Name constraints (RFC 5280 §4.2.1.10): for whom an authority may issue.
 */
import type { ParsedCertificate } from './facts.ts'
import type { GeneralName } from './general-names.ts'
import type { NameConstraints, ConstrainedNames, Subtrees } from './names.ts'
import { COMPARISONS, type IsWithin } from './subtrees.ts'
import type { Budget } from './work.ts'

/** OpenSSL's bound for the names of one certificate times the subtrees of one authority, whatever kinds they are of. */
const MOST_PAIRS = 1 << 20

/** What a comparison costs besides the octets. */
const OCTETS_OF_PAIR = 8

/** What is wrong with the names of the certificates of a path, by what those above them say. */
export function problemOfNames (path: readonly ParsedCertificate[], work: Budget): string | undefined {
  const all: NameConstraints[] = []
  for (let index = path.length - 1; index >= 0; index--) {
    const { isSelfIssued, names, constraints } = path[index]
    // The names of what an authority issues to itself are its own.
    const isBound = all.length > 0 && (index === 0 || !isSelfIssued)
    const problem = isBound ? problemOfNamesIn(names, index === 0 ? names.ofClient : names.all, all, work) : undefined
    if (problem !== undefined) return problem
    if (constraints !== undefined) all.push(constraints)
  }
  return undefined
}

function problemOfNamesIn ({ count }: ConstrainedNames, names: readonly GeneralName[] | undefined, all: readonly NameConstraints[], work: Budget): string | undefined {
  if (all.some((constraints) => constraints.count * count > MOST_PAIRS)) return 'UNSPECIFIED'
  if (names === undefined) return 'UNSUPPORTED_NAME_SYNTAX'
  for (const { byKind } of all) {
    for (const name of names) {
      const subtrees = byKind.get(name.kind)
      const problem = subtrees === undefined ? undefined : problemOfName(name, subtrees, work)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

function problemOfName (name: GeneralName, { permitted, excluded, hasDistance, length }: Subtrees, work: Budget): string | undefined {
  if (hasDistance) return 'SUBTREE_MINMAX'
  const isWithin = COMPARISONS.get(name.kind)
  if (isWithin === undefined) return 'UNSUPPORTED_CONSTRAINT_TYPE'
  if (!work.takeOctets(length + (permitted.length + excluded.length) * OCTETS_OF_PAIR)) return 'UNSPECIFIED'
  const [isPermitted, isExcluded] = [isWithinAny(name, permitted, isWithin), isWithinAny(name, excluded, isWithin)]
  if (isPermitted === undefined || isExcluded === undefined) return 'UNSUPPORTED_NAME_SYNTAX'
  if (permitted.length > 0 && !isPermitted) return 'PERMITTED_VIOLATION'
  return isExcluded ? 'EXCLUDED_VIOLATION' : undefined
}

/** Undefined where one of the comparisons cannot be made. */
function isWithinAny (name: GeneralName, subtrees: readonly GeneralName[], isWithin: IsWithin): boolean | undefined {
  let isAny: boolean | undefined = false
  for (const subtree of subtrees) {
    const answer = isWithin(name, subtree)
    if (answer === undefined) return undefined
    isAny ||= answer
  }
  return isAny
}
