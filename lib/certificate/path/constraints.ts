/**
 * Name constraints (RFC 5280 §4.2.1.10): for whom an authority may issue.
 */
import { contentOf, elementsIn, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { hexOf, latin1, textOf } from '../text.ts'
import { canonicalName } from './canonical.ts'
import { type Facts, idOf, isSelfIssued, nameOf, partsOf } from './facts.ts'
import { COMPARISONS, DIRECTORY_NAME, DNS, EMAIL, OTHER_NAME } from './subtrees.ts'

const NAME_CONSTRAINTS = idOf('2.5.29.30')
const SUBJECT_ALT_NAME = idOf('2.5.29.17')
const COMMON_NAME = idOf('2.5.4.3')
const EMAIL_ADDRESS = idOf('1.2.840.113549.1.9.1')
const SMTP_UTF8_MAILBOX = idOf('1.3.6.1.5.5.7.8.9')

const IA5_STRING = 0x16
const PERMITTED = 0xa0
const EXCLUDED = 0xa1

/** Pairs of a name and a subtree that one certificate of a path may ask to compare. */
const MOST = 1 << 17

/** Two labels or more: OpenSSL takes no other common name for that of a host. */
const HOST = /^\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+$/

/** What some authority may issue for, or may not. */
interface Subtree {
  /** The tag of GeneralName's choice. */
  readonly kind: number
  readonly text: string
  /** `minimum` or `maximum` is there, which nothing is made of (RFC 5280 §4.2.1.10). */
  readonly hasDistance: boolean
}

interface Constraints {
  readonly permitted: readonly Subtree[]
  readonly excluded: readonly Subtree[]
}

type Named = Pick<Subtree, 'kind' | 'text'>

/** What is wrong with the names of the certificates of a path, by what those above them say. */
export function problemOfNames (path: readonly Facts[]): string | undefined {
  const constraints: Constraints[] = []
  for (let index = path.length - 1; index >= 0; index--) {
    const facts = path[index]
    // The names of what an authority issues to itself are its own.
    const isBound = constraints.length > 0 && (index === 0 || !isSelfIssued(facts))
    const problem = isBound ? problemOfNamesIn(facts, index === 0, constraints) : undefined
    if (problem !== undefined) return problem
    if (facts.extensions.has(NAME_CONSTRAINTS)) constraints.push(constraintsOf(facts))
  }
  return undefined
}

function problemOfNamesIn (facts: Facts, isClient: boolean, all: readonly Constraints[]): string | undefined {
  const names = namesOf(facts, isClient)
  if (names === undefined) return 'UNSUPPORTED_NAME_SYNTAX'
  const subtrees = all.reduce((sum, { permitted, excluded }) => sum + permitted.length + excluded.length, 0)
  if (names.length * subtrees > MOST) return 'UNSPECIFIED'
  for (const constraints of all) {
    for (const name of names) {
      const problem = problemOfName(name, constraints)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

function problemOfName ({ kind, text }: Named, constraints: Constraints): string | undefined {
  const permitted = constraints.permitted.filter((subtree) => subtree.kind === kind)
  const excluded = constraints.excluded.filter((subtree) => subtree.kind === kind)
  const all = [...permitted, ...excluded]
  if (all.length === 0) return undefined
  if (all.some(({ hasDistance }) => hasDistance)) return 'SUBTREE_MINMAX'
  const isWithin = COMPARISONS.get(kind)
  if (isWithin === undefined) return 'UNSUPPORTED_CONSTRAINT_TYPE'
  const answers = all.map((subtree) => isWithin(text, subtree.text))
  if (answers.includes(undefined)) return 'UNSUPPORTED_NAME_SYNTAX'
  if (permitted.length > 0 && !answers.slice(0, permitted.length).includes(true)) return 'PERMITTED_VIOLATION'
  return answers.slice(permitted.length).includes(true) ? 'EXCLUDED_VIOLATION' : undefined
}

function constraintsOf ({ extensions }: Facts): Constraints {
  const parts = partsOf(extensions.get(NAME_CONSTRAINTS)!)
  const subtreesIn = (tag: number): Subtree[] => {
    const part = parts.find((part) => part.tag === tag)
    return part === undefined ? [] : elementsIn(part, tag).map(subtreeOf)
  }
  return { permitted: subtreesIn(PERMITTED), excluded: subtreesIn(EXCLUDED) }
}

function subtreeOf (element: Element): Subtree {
  const [base, ...distances] = elementsIn(element, SEQUENCE)
  // A minimum of 0 is the default.
  return { ...generalNameOf(base), hasDistance: distances.some((distance) => distance.tag !== 0x80 || contentOf(distance, 0x80).some((octet) => octet !== 0)) }
}

/** Every name of a certificate; undefined where one of them is written in a way that cannot be compared. */
function namesOf ({ fields, subject, extensions }: Facts, isClient: boolean): Named[] | undefined {
  const attributes = elementsIn(fields.subject, SEQUENCE).flatMap((rdn) => elementsIn(rdn, rdn.tag)).map((attribute) => elementsIn(attribute, SEQUENCE))
  const valuesOf = (id: string) => attributes.filter(([type]) => nameOf(type) === id).map(([, value]) => value)
  const emails = valuesOf(EMAIL_ADDRESS)
  if (emails.some(({ tag }) => tag !== IA5_STRING)) return undefined
  const extension = extensions.get(SUBJECT_ALT_NAME)
  const alternatives = extension === undefined ? [] : partsOf(extension).map(generalNameOf)
  const names: Named[] = emails.map((email) => ({ kind: EMAIL, text: latin1(email) }))
  if (subject !== '') names.push({ kind: DIRECTORY_NAME, text: subject })
  names.push(...alternatives)
  // Nobody looks at the common name as that of a host where there are better ones (RFC 6125 §6.4.4).
  if (!isClient || alternatives.some(({ kind }) => kind === DNS)) return names
  const hosts = valuesOf(COMMON_NAME).map((value) => ({ text: textOf(value), hex: hexOf(value) }))
  if (hosts.some(({ text, hex }) => text === hex || text.includes('\0'))) return undefined
  return [...names, ...hosts.filter(({ text }) => HOST.test(text)).map(({ text }) => ({ kind: DNS, text }))]
}

function generalNameOf (element: Element): Named {
  const { tag } = element
  if (tag === DIRECTORY_NAME) return { kind: tag, text: canonicalName(elementsIn(element, tag)[0]) }
  // An address in Unicode (RFC 8398) is held against what is said of addresses, and is nothing that could be compared.
  if (tag === OTHER_NAME && nameOf(elementsIn(element, tag)[0]) === SMTP_UTF8_MAILBOX) return { kind: EMAIL, text: '' }
  return { kind: tag, text: latin1(element) }
}
