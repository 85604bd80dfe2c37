/**
 * The names of a certificate that constraints are about, and the constraints (RFC 5280 §4.2.1.10), ready to be compared.
 */
import { contentOf, elementsIn, OBJECT_IDENTIFIER, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { octetsOf } from '../object-identifiers.ts'
import { hexOf, latin1, textOf } from '../text.ts'
import { rdnsOf } from './canonical.ts'
import { assertTaken, type Extensions, idOf, partsOf, takeFrom } from './extensions.ts'
import { addressOf, DIRECTORY_NAME, DNS, type GeneralName, generalNameOf, hostOf } from './general-names.ts'

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
export interface Subtrees {
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
