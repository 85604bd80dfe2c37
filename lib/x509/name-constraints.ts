/**
 * Name constraints (RFC 5280 §4.2.1.10): the names for which a CA may issue certificates. Begin with `problemOfNames`,
 * which checks a path; `constrainedNamesOf` and `nameConstraintsOf` parse the names and the constraints of one certificate.
 */
import type { Budget } from './budget.ts'
import { contentOf, type Element, elementsIn, hexOf, latin1, OBJECT_IDENTIFIER, octetsOf, SEQUENCE, textOf } from './der.ts'
import { rdnsOf } from './distinguished-names.ts'
import { assertTaken, type Extensions, idOf, partsOf, takeFrom } from './fields.ts'
import { addressOf, DIRECTORY_NAME, DNS, EMAIL, type GeneralName, generalNameOf, hostOf, IP, URI } from './general-names.ts'

/** OpenSSL's limit for the number of names of a certificate times the number of subtrees of a CA, of all kinds. */
const MOST_PAIRS = 1 << 20

/** The cost of one comparison besides the octets, for the budget. */
const OCTETS_OF_PAIR = 8

/** The parts of a `ParsedCertificate` that are needed here. */
interface Certificate {
  readonly isSelfIssued: boolean
  readonly names: ConstrainedNames
  readonly constraints: NameConstraints | undefined
}

/** The error in the names of a path, by the constraints of the CAs above each certificate. */
export function problemOfNames (path: readonly Certificate[], budget: Budget): string | undefined {
  const all: NameConstraints[] = []
  for (let index = path.length - 1; index >= 0; index--) {
    const { isSelfIssued, names, constraints } = path[index]
    // Not bound are self-issued CA certificates: their names are the CA's own.
    const isBound = all.length > 0 && (index === 0 || !isSelfIssued)
    const problem = isBound ? problemOfNamesIn(names, index === 0 ? names.ofClient : names.all, all, budget) : undefined
    if (problem !== undefined) return problem
    if (constraints !== undefined) all.push(constraints)
  }
  return undefined
}

function problemOfNamesIn ({ count }: ConstrainedNames, names: readonly GeneralName[] | undefined, all: readonly NameConstraints[], budget: Budget): string | undefined {
  if (all.some((constraints) => constraints.count * count > MOST_PAIRS)) return 'UNSPECIFIED'
  if (names === undefined) return 'UNSUPPORTED_NAME_SYNTAX'
  for (const { byKind } of all) {
    for (const name of names) {
      const subtrees = byKind.get(name.kind)
      const problem = subtrees === undefined ? undefined : problemOfName(name, subtrees, budget)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

function problemOfName (name: GeneralName, { permitted, excluded, hasDistance, length }: Subtrees, budget: Budget): string | undefined {
  if (hasDistance) return 'SUBTREE_MINMAX'
  const isWithin = COMPARISONS.get(name.kind)
  if (isWithin === undefined) return 'UNSUPPORTED_CONSTRAINT_TYPE'
  if (!budget.takeOctets(length + (permitted.length + excluded.length) * OCTETS_OF_PAIR)) return 'UNSPECIFIED'
  const [isPermitted, isExcluded] = [isWithinAny(name, permitted, isWithin), isWithinAny(name, excluded, isWithin)]
  if (isPermitted === undefined || isExcluded === undefined) return 'UNSUPPORTED_NAME_SYNTAX'
  if (permitted.length > 0 && !isPermitted) return 'PERMITTED_VIOLATION'
  return isExcluded ? 'EXCLUDED_VIOLATION' : undefined
}

/** Undefined where one of the names cannot be compared. */
function isWithinAny (name: GeneralName, subtrees: readonly GeneralName[], isWithin: IsWithin): boolean | undefined {
  let isAny: boolean | undefined = false
  for (const subtree of subtrees) {
    const answer = isWithin(name, subtree)
    if (answer === undefined) return undefined
    isAny ||= answer
  }
  return isAny
}

// Parsing: the names of a certificate that constraints apply to, and the extension nameConstraints

const NAME_CONSTRAINTS = idOf('2.5.29.30')
const SUBJECT_ALT_NAME = idOf('2.5.29.17')
const COMMON_NAME = octetsOf('2.5.4.3')
const EMAIL_ADDRESS = octetsOf('1.2.840.113549.1.9.1')

const IA5_STRING = 0x16
const PERMITTED = 0xa0
const EXCLUDED = 0xa1
const MINIMUM = 0x80
const MAXIMUM = 0x81

/** A common name that OpenSSL takes for a host name: two labels or more. */
const HOST = /^\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+$/

/** A field is undefined where one of its names is in a form that cannot be compared. */
export interface ConstrainedNames {
  readonly all: readonly GeneralName[] | undefined
  /** The names above, and the common names of a client's certificate that may be host names. */
  readonly ofClient: readonly GeneralName[] | undefined
  /** The number of attributes of the subject, and of alternative names. */
  readonly count: number
}

/** The constraints on names of one kind. */
interface Subtrees {
  readonly permitted: GeneralName[]
  readonly excluded: GeneralName[]
  /** `minimum` or `maximum` is present, which RFC 5280 §4.2.1.10 does not use. */
  hasDistance: boolean
  /** The number of characters of all subtrees. */
  length: number
}

export interface NameConstraints {
  /** By the kind of name: the tag of the GeneralName. */
  readonly byKind: ReadonlyMap<number, Subtrees>
  /** The number of subtrees of all kinds. */
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
  // A common name is not used as a host name where there are DNS names (RFC 6125 §6.4.4).
  if (alternatives.some(({ kind }) => kind === DNS)) return { all, ofClient: all, count }
  const hosts = hostsIn(valuesOf(COMMON_NAME))
  return { all, ofClient: hosts && [...all, ...hosts], count }
}

function hostsIn (commonNames: readonly Element[]): GeneralName[] | undefined {
  const texts = commonNames.map((value) => ({ text: textOf(value), hex: hexOf(value) }))
  if (texts.some(({ text, hex }) => text === hex || text.includes('\0'))) return undefined
  return texts.filter(({ text }) => HOST.test(text)).map(({ text }) => hostOf(text))
}

/** The extension nameConstraints. Throws where it is malformed. */
export function nameConstraintsOf (extensions: Extensions): NameConstraints | undefined {
  const extension = extensions.get(NAME_CONSTRAINTS)
  if (extension === undefined) return undefined
  const byKind = new Map<number, Subtrees>()
  let count = 0
  const parts = partsOf(extension)
  for (const [tag, field] of [[PERMITTED, 'permitted'], [EXCLUDED, 'excluded']] as const) {
    const part = takeFrom(parts, tag)
    for (const element of part === undefined ? [] : elementsIn(part, tag)) {
      const { base, hasDistance } = subtreeOf(element)
      const subtrees = byKind.get(base.kind) ?? { permitted: [], excluded: [], hasDistance: false, length: 0 }
      byKind.set(base.kind, subtrees)
      count++
      subtrees[field].push(base)
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
  // 0 is the default of minimum.
  return { base: generalNameOf(base), hasDistance: maximum !== undefined || (minimum !== undefined && contentOf(minimum, MINIMUM).some((octet) => octet !== 0)) }
}

// Comparison: whether a name is within a subtree, as OpenSSL decides it

/** Undefined where the name is in a form that cannot be compared. */
type IsWithin = (name: GeneralName, subtree: GeneralName) => boolean | undefined

/** Names of all other kinds cannot be compared. */
const COMPARISONS: ReadonlyMap<number, IsWithin> = new Map<number, IsWithin>([
  [EMAIL, isEmailWithin],
  [DNS, isDnsWithin],
  [DIRECTORY_NAME, ({ text: name }, { text: base }) => name.slice(0, base.length) === base],
  [URI, isUriWithin],
  [IP, isAddressWithin]
])

/** `host.test` means that host and all below it, `.host.test` only those below it, and an empty base means every host. */
function isDnsWithin ({ text: host }: GeneralName, { text: base }: GeneralName): boolean {
  if (!host.endsWith(base)) return false
  return host.length === base.length || base === '' || base.startsWith('.') || host.at(-base.length - 1) === '.'
}

/** `jane@host.test` means one address, `host.test` all addresses at that host, `.host.test` those at all hosts below it. */
function isEmailWithin (name: GeneralName, subtree: GeneralName): boolean | undefined {
  if (name.host === undefined || name.local === undefined || subtree.host === undefined) return undefined
  if (subtree.local === undefined && subtree.text.startsWith('.')) return isBelow(name.text, subtree.text)
  // `@host.test` means the same as `host.test`.
  if (subtree.local && subtree.local !== name.local) return false
  return subtree.host === name.host
}

/** `host.test` means that host, `.host.test` the hosts below it. */
function isUriWithin ({ host }: GeneralName, { text: base }: GeneralName): boolean | undefined {
  if (host === undefined) return undefined
  return base.startsWith('.') ? isBelow(host, base) : host === base
}

/** A subtree of IP addresses is an address and a mask. */
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
