/**
 * Name constraints (RFC 5280 §4.2.1.10): for whom an authority may issue.
 */
import type { Budget } from './budget.ts'
import { contentOf, type Element, elementsIn, hexOf, latin1, OBJECT_IDENTIFIER, octetsOf, SEQUENCE, textOf } from './der.ts'
import { rdnsOf } from './distinguished-names.ts'
import { assertTaken, type Extensions, idOf, partsOf, takeFrom } from './fields.ts'
import { addressOf, DIRECTORY_NAME, DNS, EMAIL, type GeneralName, generalNameOf, hostOf, IP, URI } from './general-names.ts'

/** OpenSSL's bound for the names of one certificate times the subtrees of one authority, whatever kinds they are of. */
const MOST_PAIRS = 1 << 20

/** What a comparison costs besides the octets. */
const OCTETS_OF_PAIR = 8

/** What is read of a certificate here. */
interface Certificate {
  /** Its issuer has the same name (RFC 5280 §6.1). */
  readonly isSelfIssued: boolean
  readonly names: ConstrainedNames
  readonly constraints: NameConstraints | undefined
}

/** What is wrong with the names of the certificates of a path, by what those above them say. */
export function problemOfNames (path: readonly Certificate[], work: Budget): string | undefined {
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

/**
 * The names of a certificate that constraints are about, and the constraints (RFC 5280 §4.2.1.10), ready to be compared.
 */

const NAME_CONSTRAINTS = idOf('2.5.29.30')
const SUBJECT_ALT_NAME = idOf('2.5.29.17')
const COMMON_NAME = octetsOf('2.5.4.3')
const EMAIL_ADDRESS = octetsOf('1.2.840.113549.1.9.1')

const IA5_STRING = 0x16
const PERMITTED = 0xa0
const EXCLUDED = 0xa1
const MINIMUM = 0x80
const MAXIMUM = 0x81

/** Two labels or more: OpenSSL takes no other common name for that of a host. */
const HOST = /^\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+$/

/** Each undefined where one of them is written in a way that cannot be compared. */
export interface ConstrainedNames {
  readonly all: readonly GeneralName[] | undefined
  /** With a client's common name, which may be that of a host. */
  readonly ofClient: readonly GeneralName[] | undefined
  /** Attributes of the subject, and alternative names. */
  readonly count: number
}

/** What is said of one kind of names. */
interface Subtrees {
  readonly permitted: GeneralName[]
  readonly excluded: GeneralName[]
  /** `minimum` or `maximum` is there, which nothing is made of (RFC 5280 §4.2.1.10). */
  hasDistance: boolean
  /** Characters of all the subtrees. */
  length: number
}

export interface NameConstraints {
  /** By the kind of name. */
  readonly byKind: ReadonlyMap<number, Subtrees>
  /** Subtrees of every kind. */
  readonly count: number
}

/** @param canonical the subject in canonical form */
export function constrainedNamesOf (subject: Element, canonical: string, extensions: Extensions): ConstrainedNames {
  const attributes = rdnsOf(subject).flat()
  const valuesOf = (id: Buffer) => attributes.filter(({ type }) => contentOf(type, OBJECT_IDENTIFIER).equals(id)).map(({ value }) => value)
  const extension = extensions.get(SUBJECT_ALT_NAME)
  const alternatives = extension === undefined ? [] : partsOf(extension).map(generalNameOf)
  const emails = valuesOf(EMAIL_ADDRESS)
  const count = attributes.length + alternatives.length
  if (emails.some(({ tag }) => tag !== IA5_STRING)) return { all: undefined, ofClient: undefined, count }
  const all = [
    ...emails.map((email) => addressOf(latin1(email))),
    ...(canonical === '' ? [] : [{ kind: DIRECTORY_NAME, text: canonical }]),
    ...alternatives
  ]
  // Nobody looks at the common name as that of a host where there are better ones (RFC 6125 §6.4.4).
  if (alternatives.some(({ kind }) => kind === DNS)) return { all, ofClient: all, count }
  const hosts = hostsIn(valuesOf(COMMON_NAME))
  return { all, ofClient: hosts && [...all, ...hosts], count }
}

function hostsIn (commonNames: readonly Element[]): GeneralName[] | undefined {
  const texts = commonNames.map((value) => ({ text: textOf(value), hex: hexOf(value) }))
  if (texts.some(({ text, hex }) => text === hex || text.includes('\0'))) return undefined
  return texts.filter(({ text }) => HOST.test(text)).map(({ text }) => hostOf(text))
}

/** Throws where they are not exactly that: what is permitted, and what is excluded. */
export function nameConstraintsOf (extensions: Extensions): NameConstraints | undefined {
  const extension = extensions.get(NAME_CONSTRAINTS)
  if (extension === undefined) return undefined
  const byKind = new Map<number, Subtrees>()
  let count = 0
  const parts = partsOf(extension)
  for (const [tag, list] of [[PERMITTED, 'permitted'], [EXCLUDED, 'excluded']] as const) {
    const part = takeFrom(parts, tag)
    for (const element of part === undefined ? [] : elementsIn(part, tag)) {
      const { base, hasDistance } = subtreeOf(element)
      const subtrees = byKind.get(base.kind) ?? { permitted: [], excluded: [], hasDistance: false, length: 0 }
      byKind.set(base.kind, subtrees)
      count++
      subtrees[list].push(base)
      subtrees.hasDistance ||= hasDistance
      subtrees.length += base.text.length
    }
  }
  assertTaken(parts)
  return { byKind, count }
}

function subtreeOf (element: Element): { readonly base: GeneralName, readonly hasDistance: boolean } {
  const [base, ...distances] = elementsIn(element, SEQUENCE)
  const minimum = takeFrom(distances, MINIMUM)
  const maximum = takeFrom(distances, MAXIMUM)
  assertTaken(distances)
  // A minimum of 0 is the default.
  return { base: generalNameOf(base), hasDistance: maximum !== undefined || (minimum !== undefined && contentOf(minimum, MINIMUM).some((octet) => octet !== 0)) }
}

/**
 * Whether a name is within a subtree of names (RFC 5280 §4.2.1.10), in the way of OpenSSL.
 */

/** Undefined: the name is written in a way that cannot be compared. */
type IsWithin = (name: GeneralName, subtree: GeneralName) => boolean | undefined

/** Kinds that are not here cannot be compared. */
const COMPARISONS: ReadonlyMap<number, IsWithin> = new Map<number, IsWithin>([
  [EMAIL, isEmailWithin],
  [DNS, isDnsWithin],
  [DIRECTORY_NAME, ({ text: name }, { text: base }) => name.slice(0, base.length) === base],
  [URI, isUriWithin],
  [IP, isAddressWithin]
])

/** `host.test` is itself and what is below, `.host.test` what is below, and nothing is everything. */
function isDnsWithin ({ text: host }: GeneralName, { text: base }: GeneralName): boolean {
  if (!host.endsWith(base)) return false
  return host.length === base.length || base === '' || base.startsWith('.') || host.at(-base.length - 1) === '.'
}

/** `jane@host.test` is one address, `host.test` those at a host, `.host.test` those at the hosts below. */
function isEmailWithin (name: GeneralName, subtree: GeneralName): boolean | undefined {
  if (name.host === undefined || name.local === undefined || subtree.host === undefined) return undefined
  if (subtree.local === undefined && subtree.text.startsWith('.')) return isBelow(name.text, subtree.text)
  // `@host.test` is as good as `host.test`.
  if (subtree.local && subtree.local !== name.local) return false
  return subtree.host === name.host
}

/** `host.test` is a host, `.host.test` those below. */
function isUriWithin ({ host }: GeneralName, { text: base }: GeneralName): boolean | undefined {
  if (host === undefined) return undefined
  return base.startsWith('.') ? isBelow(host, base) : host === base
}

/** An address and a mask. */
function isAddressWithin ({ text: name }: GeneralName, { text: subtree }: GeneralName): boolean | undefined {
  const size = name.length
  if ((size !== 4 && size !== 16) || (subtree.length !== 8 && subtree.length !== 32)) return undefined
  if (subtree.length !== size * 2) return false
  for (let index = 0; index < size; index++) {
    if (((name.charCodeAt(index) ^ subtree.charCodeAt(index)) & subtree.charCodeAt(size + index)) !== 0) return false
  }
  return true
}

function isBelow (host: string, subtree: string): boolean {
  return host.length > subtree.length && host.endsWith(subtree)
}
