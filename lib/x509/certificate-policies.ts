/**
 * Certificate policies (RFC 5280 §4.2.1.4 and §6.1, with RFC 9618): whether a path is valid for any policy at all, where a
 * CA requires an explicit policy. Begin with `problemOfPolicies`; `certificatePoliciesOf` parses the extensions.
 *
 * The user's initial policy set is any-policy, so only one question matters: is the policy graph empty where an explicit
 * policy is required? The last row of the graph is enough to answer it, as each of its nodes has a parent in the row
 * before. The tree of RFC 5280 has one node for each way to reach a policy, and can exhaust any memory (CVE-2023-0464).
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
/** DisplayText (§4.2.1.4): IA5String, VisibleString, BMPString, UTF8String. */
const DISPLAY_TEXTS: readonly number[] = [IA5_STRING, 0x1a, BMP_STRING, 0x0c]

/** Nodes in a graph. The US government's PKI needs some dozens. */
const MOST_NODES = 1000

/** The cost of looking up one policy, in octets of the budget for names (budget.ts). */
const OCTETS_OF_POLICY = 64

/** The policy extensions of one certificate. */
export interface CertificatePolicies {
  /** The policies that it was issued under, without any-policy. */
  readonly named: ReadonlySet<string>
  readonly hasAny: boolean
  /** Pairs of equivalent policies: the issuer's, and the subject's (§4.2.1.5). */
  readonly mappings: ReadonlyArray<readonly [issuer: string, subject: string]>
  /** SkipCerts: how many more certificates, self-issued ones not counted, until it takes effect; Infinity where absent. */
  readonly requireExplicit: number
  readonly inhibitMapping: number
  readonly inhibitAny: number
}

/** One row of the policy graph: the policies that a path may still be valid for. */
interface Row {
  readonly policies: ReadonlySet<string>
  readonly hasAny: boolean
}

const NONE: CertificatePolicies = Object.freeze({ named: new Set<string>(), hasAny: false, mappings: [], requireExplicit: Infinity, inhibitMapping: Infinity, inhibitAny: Infinity })

/** The parts of a `ParsedCertificate` that are needed here. */
interface Certificate {
  readonly isSelfIssued: boolean
  readonly policies: CertificatePolicies | undefined
}

/**
 * The error in the policies of a path. The anchor's do not count: it is only a name and a key (RFC 5280 §6.1.1 d).
 *
 * The graph is built only where some certificate requires an explicit policy. Otherwise it cannot make a path invalid.
 */
export function problemOfPolicies (path: readonly Certificate[], budget: Budget): string | undefined {
  let isRequired = false
  for (const { policies } of path.slice(0, -1)) {
    if (policies === undefined) return 'INVALID_POLICY_EXTENSION'
    isRequired ||= policies.requireExplicit !== Infinity
  }
  return isRequired ? problemOfGraph(path, budget) : undefined
}

/**
 * Processes the path from the anchor down, with the variables of RFC 5280 §6.1.2 to §6.1.5. A row that is empty stays
 * empty, and an explicit policy that is required stays required: it is enough to check both at the end.
 */
function problemOfGraph (path: readonly Certificate[], budget: Budget): string | undefined {
  let row: Row = { policies: new Set(), hasAny: true }
  let [explicitPolicy, policyMapping, inhibitAnyPolicy] = [Infinity, Infinity, Infinity]
  let nodes = 0
  for (let index = path.length - 2; index >= 0; index--) {
    const { isSelfIssued, policies } = path[index]
    const { named, mappings, requireExplicit, inhibitMapping, inhibitAny } = policies!
    const isInner = isSelfIssued && index > 0
    if (!budget.takeOctets(OCTETS_OF_POLICY * (row.policies.size + named.size + mappings.length))) return 'UNSPECIFIED'
    // §6.1.3 d, e
    row = issuedUnder(policies!, row, inhibitAnyPolicy > 0 || isInner)
    nodes += row.policies.size
    if (nodes > MOST_NODES) return 'UNSPECIFIED'
    // §6.1.4 a, b; of the client's certificate as well, as OpenSSL does
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

/** The policies of this certificate that were expected, or that any-policy allows. */
function issuedUnder ({ named, hasAny }: CertificatePolicies, expected: Row, isAnyAllowed: boolean): Row {
  const isAny = hasAny && isAnyAllowed
  const policies = new Set<string>(isAny ? expected.policies : [])
  for (const policy of named) if (expected.hasAny || expected.policies.has(policy)) policies.add(policy)
  return { policies, hasAny: isAny && expected.hasAny }
}

/** The policies that are expected of the next certificate. A policy that is mapped where mapping is inhibited is removed. */
function mapped (row: Row, mappings: CertificatePolicies['mappings'], isAllowed: boolean): Row {
  const policies = new Set(row.policies)
  for (const [issuer] of mappings) policies.delete(issuer)
  if (isAllowed) {
    for (const [issuer, subject] of mappings) if (row.hasAny || row.policies.has(issuer)) policies.add(subject)
  }
  return { policies, hasAny: row.hasAny }
}

// Parsing: the four extensions (RFC 5280 §4.2.1.4, §4.2.1.5, §4.2.1.11, §4.2.1.14)

/** Undefined where one of the extensions is malformed. */
export function certificatePoliciesOf (extensions: Extensions): CertificatePolicies | undefined {
  return POLICY_EXTENSIONS.some((id) => extensions.has(id)) ? readOr(() => readPolicies(extensions), undefined) : NONE
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

/** certificatePolicies (RFC 5280 §4.2.1.4): one policy or more, none of them twice. */
function policiesIn (extension: Extension): string[] {
  const policies = partsOf(extension).map(policyOf)
  if (policies.length === 0 || new Set(policies).size < policies.length) throw notDer()
  return policies
}

/** Qualifiers are for people to read, and change nothing here, but they must be well-formed. */
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

/** UserNotice (§4.2.1.4): an optional reference (organization and numbers), and an optional text. */
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

/** policyMappings (RFC 5280 §4.2.1.5): one or more, none of them from or to any-policy. */
function mappingsIn (extension: Extension): Array<readonly [string, string]> {
  const mappings = partsOf(extension).map((element) => {
    const [issuer, subject, ...more] = elementsIn(element, SEQUENCE).map(identifierOf)
    if (subject === undefined || more.length > 0 || issuer === ANY_POLICY || subject === ANY_POLICY) throw notDer()
    return [issuer, subject] as const
  })
  if (mappings.length === 0) throw notDer()
  return mappings
}

/** policyConstraints (RFC 5280 §4.2.1.11): at least one of the two fields. */
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

/** A non-negative INTEGER in the shortest form (X.690 §8.3.2): OpenSSL accepts no other, either. */
function numberOf (element: Element, tag: number): number {
  const [first, second] = contentOf(element, tag)
  if (first === 0 && second < 0x80) throw notDer()
  return integerOf({ ...element, tag: INTEGER })
}

/** An object identifier as its content octets. OpenSSL accepts none that is truncated or padded, either. */
function identifierOf (element: Element | undefined): string {
  assertIdentifier(contentOf(element, OBJECT_IDENTIFIER))
  return idNamedBy(element)
}
