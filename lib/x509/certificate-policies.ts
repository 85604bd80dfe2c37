/**
 * Certificate policies (RFC 5280 §6.1, with RFC 9618): whether a path is valid for any policy at all, where an authority
 * requires that it is for one.
 *
 * Any policy is asked for, so that nothing but this matters: is the graph of policies empty where an explicit policy is
 * required? Of the graph, its last row is enough to tell, as each of its nodes has a parent in the row before. The tree
 * of RFC 5280 has a node for each way to get to one, of which there may be too many for any memory (CVE-2023-0464).
 */
import type { Budget } from './budget.ts'
import { assertIdentifier, contentOf, type Element, elementOf, elementsIn, INTEGER, notDer, OBJECT_IDENTIFIER, readOr, SEQUENCE } from './der.ts'
import { assertTaken, type Extension, type Extensions, idNamedBy, idOf, integerOf, partsOf, takeFrom } from './fields.ts'

const CERTIFICATE_POLICIES = idOf('2.5.29.32')
const POLICY_MAPPINGS = idOf('2.5.29.33')
const POLICY_CONSTRAINTS = idOf('2.5.29.36')
const INHIBIT_ANY_POLICY = idOf('2.5.29.54')
export const POLICY_EXTENSIONS: readonly string[] = [CERTIFICATE_POLICIES, POLICY_MAPPINGS, POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY]

const ANY_POLICY = idOf('2.5.29.32.0')
const CPS = idOf('1.3.6.1.5.5.7.2.1')
const USER_NOTICE = idOf('1.3.6.1.5.5.7.2.2')

const REQUIRE_EXPLICIT_POLICY = 0x80
const INHIBIT_POLICY_MAPPING = 0x81
const IA5_STRING = 0x16
const BMP_STRING = 0x1e
/** IA5String, VisibleString, BMPString, UTF8String. */
const DISPLAY_TEXTS: readonly number[] = [IA5_STRING, 0x1a, BMP_STRING, 0x0c]

/** In a graph. Those of the US government have some dozens. */
const MOST_NODES = 1000

/** What looking up a policy costs, in what work.ts counts for names. */
const OCTETS_OF_POLICY = 64

/** What a certificate says of policies. */
export interface CertificatePolicies {
  /** Those that it was issued under, but for any-policy. */
  readonly named: ReadonlySet<string>
  readonly hasAny: boolean
  /** Policies of the issuer's, and those of the subject's that are as good. */
  readonly mappings: ReadonlyArray<readonly [issuer: string, subject: string]>
  /** How many more certificates there may be, that are not self-issued, before it holds: Infinity where it is not said. */
  readonly requireExplicit: number
  readonly inhibitMapping: number
  readonly inhibitAny: number
}

/** The policies that a certificate may be valid for. */
interface Row {
  readonly policies: ReadonlySet<string>
  readonly hasAny: boolean
}

const NONE: CertificatePolicies = Object.freeze({ named: new Set<string>(), hasAny: false, mappings: [], requireExplicit: Infinity, inhibitMapping: Infinity, inhibitAny: Infinity })

/** Undefined where one of the extensions is not exactly what it should be. */
export function certificatePoliciesOf (extensions: Extensions): CertificatePolicies | undefined {
  return POLICY_EXTENSIONS.some((id) => extensions.has(id)) ? readOr(() => readPolicies(extensions), undefined) : NONE
}

/** What is read of a certificate here. */
interface Certificate {
  /** Its issuer has the same name (RFC 5280 §6.1). */
  readonly isSelfIssued: boolean
  readonly policies: CertificatePolicies | undefined
}

/**
 * What is wrong with the policies of a path, whose anchor's do not count: it is a name and a key (RFC 5280 §6.1.1 d).
 *
 * Mappings and the like are looked at only where some certificate requires an explicit policy: without, they change nothing.
 */
export function problemOfPolicies (path: readonly Certificate[], work: Budget): string | undefined {
  let isRequired = false
  for (const { policies } of path.slice(0, -1)) {
    if (policies === undefined) return 'INVALID_POLICY_EXTENSION'
    isRequired ||= policies.requireExplicit !== Infinity
  }
  return isRequired ? problemOfGraph(path, work) : undefined
}

/**
 * From the anchor down, in the words of RFC 5280 §6.1.2 to §6.1.5. A row that is empty stays so, and what is required
 * stays so: it is enough to look at both in the end.
 */
function problemOfGraph (path: readonly Certificate[], work: Budget): string | undefined {
  let row: Row = { policies: new Set(), hasAny: true }
  let [explicitPolicy, policyMapping, inhibitAnyPolicy] = [Infinity, Infinity, Infinity]
  let nodes = 0
  for (let index = path.length - 2; index >= 0; index--) {
    const { isSelfIssued, policies } = path[index]
    const { named, mappings, requireExplicit, inhibitMapping, inhibitAny } = policies!
    const isInner = isSelfIssued && index > 0
    if (!work.takeOctets(OCTETS_OF_POLICY * (row.policies.size + named.size + mappings.length))) return 'UNSPECIFIED'
    // §6.1.3 d, e
    row = issuedUnder(policies!, row, inhibitAnyPolicy > 0 || isInner)
    nodes += row.policies.size
    if (nodes > MOST_NODES) return 'UNSPECIFIED'
    // §6.1.4 a, b; of a client, too, as OpenSSL does
    row = mapped(row, mappings, policyMapping > 0)
    // §6.1.4 h to j; §6.1.5 a, b
    const step = isInner ? 0 : 1
    explicitPolicy = Math.min(Math.max(explicitPolicy - step, 0), requireExplicit)
    policyMapping = Math.min(Math.max(policyMapping - step, 0), inhibitMapping)
    inhibitAnyPolicy = Math.min(Math.max(inhibitAnyPolicy - step, 0), inhibitAny)
  }
  // §6.1.3 f, §6.1.5 g
  return explicitPolicy === 0 && row.policies.size === 0 && !row.hasAny ? 'NO_EXPLICIT_POLICY' : undefined
}

/** What is left of the policies that were expected, and what any-policy was good for. */
function issuedUnder ({ named, hasAny }: CertificatePolicies, expected: Row, isAnyAllowed: boolean): Row {
  const isAny = hasAny && isAnyAllowed
  const policies = new Set<string>(isAny ? expected.policies : [])
  for (const policy of named) if (expected.hasAny || expected.policies.has(policy)) policies.add(policy)
  return { policies, hasAny: isAny && expected.hasAny }
}

/** What is expected of the next certificate. What is mapped while it must not be is lost. */
function mapped (row: Row, mappings: CertificatePolicies['mappings'], isAllowed: boolean): Row {
  const policies = new Set(row.policies)
  for (const [issuer] of mappings) policies.delete(issuer)
  if (isAllowed) {
    for (const [issuer, subject] of mappings) if (row.hasAny || row.policies.has(issuer)) policies.add(subject)
  }
  return { policies, hasAny: row.hasAny }
}

function readPolicies (extensions: Extensions): CertificatePolicies {
  const read = <Value>(id: string, value: (extension: Extension) => Value, otherwise: Value): Value => {
    const extension = extensions.get(id)
    return extension === undefined ? otherwise : value(extension)
  }
  const named = new Set(read(CERTIFICATE_POLICIES, policiesIn, []))
  return {
    hasAny: named.delete(ANY_POLICY),
    named,
    mappings: read(POLICY_MAPPINGS, mappingsIn, NONE.mappings),
    ...read(POLICY_CONSTRAINTS, constraintsIn, { requireExplicit: Infinity, inhibitMapping: Infinity }),
    inhibitAny: read(INHIBIT_ANY_POLICY, ({ value }) => numberOf(elementOf(value), INTEGER), Infinity)
  }
}

/** RFC 5280 §4.2.1.4: at least one, and none twice. */
function policiesIn (extension: Extension): string[] {
  const policies = partsOf(extension).map(policyOf)
  if (policies.length === 0 || new Set(policies).size < policies.length) throw notDer()
  return policies
}

/** Its qualifiers are for people to read. They mean nothing here, but they have to be some. */
function policyOf (element: Element): string {
  const [identifier, qualifiers, ...more] = elementsIn(element, SEQUENCE)
  assertTaken(more)
  if (qualifiers !== undefined) elementsIn(qualifiers, SEQUENCE).forEach(assertQualifier)
  return identifierOf(identifier)
}

function assertQualifier (element: Element): void {
  const [identifier, qualifier, ...more] = elementsIn(element, SEQUENCE)
  if (qualifier === undefined || more.length > 0) throw notDer()
  const id = identifierOf(identifier)
  if (id === CPS) contentOf(qualifier, IA5_STRING)
  if (id === USER_NOTICE) assertNotice(elementsIn(qualifier, SEQUENCE))
}

/** A reference to a text, of an organization and with numbers, and a text; either may be left out. */
function assertNotice (parts: Element[]): void {
  const reference = takeFrom(parts, SEQUENCE)
  if (reference !== undefined) {
    const [organization, numbers, ...more] = elementsIn(reference, SEQUENCE)
    assertText(organization)
    elementsIn(numbers, SEQUENCE).forEach((number) => numberOf(number, INTEGER))
    assertTaken(more)
  }
  parts.splice(0, 1).forEach(assertText)
  assertTaken(parts)
}

function assertText (element: Element | undefined): void {
  if (element === undefined || !DISPLAY_TEXTS.includes(element.tag)) throw notDer()
  if (element.tag === BMP_STRING && (element.end - element.start) % 2 !== 0) throw notDer()
}

/** RFC 5280 §4.2.1.5: at least one, and none of any-policy or to it. */
function mappingsIn (extension: Extension): Array<readonly [string, string]> {
  const mappings = partsOf(extension).map((element) => {
    const [issuer, subject, ...more] = elementsIn(element, SEQUENCE).map(identifierOf)
    if (subject === undefined || more.length > 0 || issuer === ANY_POLICY || subject === ANY_POLICY) throw notDer()
    return [issuer, subject] as const
  })
  if (mappings.length === 0) throw notDer()
  return mappings
}

/** RFC 5280 §4.2.1.11: one of the two is there. */
function constraintsIn (extension: Extension): Pick<CertificatePolicies, 'requireExplicit' | 'inhibitMapping'> {
  const parts = partsOf(extension)
  if (parts.length === 0) throw notDer()
  const [requireExplicit, inhibitMapping] = [REQUIRE_EXPLICIT_POLICY, INHIBIT_POLICY_MAPPING].map((tag) => {
    const skip = takeFrom(parts, tag)
    return skip === undefined ? Infinity : numberOf(skip, tag)
  })
  assertTaken(parts)
  return { requireExplicit, inhibitMapping }
}

/** A number that is not negative, in the shortest form (X.690 §8.3.2): OpenSSL, too, takes no other. */
function numberOf (element: Element, tag: number): number {
  const [first, second] = contentOf(element, tag)
  if (first === 0 && second < 0x80) throw notDer()
  return integerOf({ ...element, tag: INTEGER })
}

/** By its content octets. OpenSSL, too, takes none that is cut off or padded. */
function identifierOf (element: Element | undefined): string {
  assertIdentifier(contentOf(element, OBJECT_IDENTIFIER))
  return idNamedBy(element)
}
