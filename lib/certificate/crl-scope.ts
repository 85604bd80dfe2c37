/**
 * Which certificates a CRL is about: its issuing distribution point (RFC 5280 §5.2.5), held against the distribution points
 * that a certificate names (§4.2.1.13).
 */
import { BOOLEAN, contentOf, elementOf, elementsIn, notDer, readOr, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { canonicalName, canonicalRdn } from './path/canonical.ts'
import { assertTaken, booleanOf, type Extensions, idOf, onlyElementIn, partsOf, takeFrom } from './path/extensions.ts'
import type { ParsedCertificate } from './path/facts.ts'
import { DIRECTORY_NAME, generalNameOf, URI } from './path/general-names.ts'
import { BASIC_CONSTRAINTS } from './path/uses.ts'
import { latin1 } from './text.ts'

export interface CrlScope {
  /** Equal for equal scopes; empty where a CRL is about all certificates of its issuer. */
  readonly key: string
  /** Why it is not used, whatever the certificate. */
  readonly unusable: string | undefined
  /** Whether a certificate of the CRL's issuer is in it. Never throws. */
  covers (certificate: ParsedCertificate): boolean
}

/** Where the revocation of a certificate can be read. */
export interface DistributionPoint {
  /** All of its names, in a form that is equal for equal names. */
  readonly names: readonly string[]
  /** Those among them that are http: or https:, as they are written. */
  readonly urls: readonly string[]
}

export const ISSUING_DISTRIBUTION_POINT = idOf('2.5.29.28')
const DISTRIBUTION_POINTS = idOf('2.5.29.31')

/** Of a DistributionPoint and of an IssuingDistributionPoint. */
const NAME = 0xa0
/** DistributionPointName's choices. */
const FULL_NAME = 0xa0
const RELATIVE_NAME = 0xa1
/** Of a DistributionPoint. */
const REASONS = 0x81
const CRL_ISSUER = 0xa2
/** Of an IssuingDistributionPoint. */
const ONLY_USERS = 0x81
const ONLY_AUTHORITIES = 0x82
const SOME_REASONS = 0x83
const INDIRECT = 0x84
const ONLY_ATTRIBUTES = 0x85

const HTTP = /^https?:\/\/./i

const EVERYTHING: CrlScope = Object.freeze({ key: '', unusable: undefined, covers: () => true })

/**
 * @param issuer of the CRL, in canonical form
 * @throws RangeError where the extension is not exactly that
 */
export function scopeOf (extensions: Extensions, issuer: string): CrlScope {
  const extension = extensions.get(ISSUING_DISTRIBUTION_POINT)
  if (extension === undefined) return EVERYTHING
  const parts = partsOf(extension)
  const name = takeFrom(parts, NAME)
  const [users, authorities] = [takeFlag(parts, ONLY_USERS), takeFlag(parts, ONLY_AUTHORITIES)]
  const reasons = takeFrom(parts, SOME_REASONS)
  const [indirect, attributes] = [takeFlag(parts, INDIRECT), takeFlag(parts, ONLY_ATTRIBUTES)]
  assertTaken(parts)
  const names = name === undefined ? undefined : new Set(namesIn(name, issuer).map(comparable))
  const limits = { users, authorities, attributes, indirect, reasons: reasons && latin1(reasons) }
  const isLimited = names !== undefined || Object.values(limits).some(Boolean)
  return {
    key: isLimited ? JSON.stringify([limits, [...names ?? []].sort()]) : '',
    unusable: unusableBy(limits),
    covers: (certificate) =>
      !(isAuthority(certificate) ? users : authorities) && !attributes &&
      (names === undefined || distributionPointsOf(certificate).some((point) => point.names.some((one) => names.has(one))))
  }
}

function unusableBy ({ users, authorities, attributes, indirect, reasons }: { users: boolean, authorities: boolean, attributes: boolean, indirect: boolean, reasons: string | undefined }): string | undefined {
  if (indirect) return 'it is an indirect CRL, which may list certificates of other issuers'
  if (reasons !== undefined) return 'it is about some reasons for revocation only'
  if (attributes) return 'it is about attribute certificates'
  return users && authorities ? 'it is about certificates that are of an authority and are not' : undefined
}

const known = new WeakMap<ParsedCertificate, readonly DistributionPoint[]>()

/**
 * The distribution points that a certificate names. Not among them are those with CRLs of another issuer and those for some
 * reasons only, of which nothing is used; none is where the extension cannot be read.
 */
export function distributionPointsOf (certificate: ParsedCertificate): readonly DistributionPoint[] {
  const points = known.get(certificate) ?? readOr(() => readPoints(certificate), [])
  known.set(certificate, points)
  return points
}

function readPoints ({ extensions, issuer }: ParsedCertificate): DistributionPoint[] {
  const extension = extensions.get(DISTRIBUTION_POINTS)
  if (extension === undefined) return []
  return partsOf(extension).flatMap((point) => {
    const parts = elementsIn(point, SEQUENCE)
    const [name, reasons, crlIssuer] = [takeFrom(parts, NAME), takeFrom(parts, REASONS), takeFrom(parts, CRL_ISSUER)]
    assertTaken(parts)
    const names = name === undefined ? [] : namesIn(name, issuer)
    if (reasons !== undefined || crlIssuer !== undefined) return []
    return [{ names: names.map(comparable), urls: names.filter(({ kind, text }) => kind === URI && HTTP.test(text)).map(({ text }) => text) }]
  })
}

/**
 * A name of a distribution point: that of a directory in canonical form, all others octet by octet. Paths of URLs differ by
 * the case of letters, and what names of other kinds mean is not known here.
 */
interface PointName { readonly kind: number, readonly text: string }

function comparable ({ kind, text }: PointName): string {
  return `${kind}:${text}`
}

/** @param issuer what a relative name is relative to, in canonical form */
function namesIn (name: Element, issuer: string): PointName[] {
  const choice = onlyElementIn(name)
  if (choice.tag === RELATIVE_NAME) return [{ kind: DIRECTORY_NAME, text: issuer + canonicalRdn(choice, RELATIVE_NAME) }]
  const names = elementsIn(choice, FULL_NAME)
  if (names.length === 0) throw notDer()
  return names.map((element) => {
    const { kind } = generalNameOf(element)
    return { kind, text: kind === DIRECTORY_NAME ? canonicalName(onlyElementIn(element)) : latin1(element) }
  })
}

/** A BOOLEAN with a tag of its own. That it is not so is the default, and not spelled out (X.690 §11.5). */
function takeFlag (parts: Element[], tag: number): boolean {
  const flag = takeFrom(parts, tag)
  if (flag === undefined) return false
  if (!contentOf(flag, tag).equals(TRUE)) throw notDer()
  return true
}
const TRUE = Buffer.of(0xff)

/** By its basic constraints alone: whether it may sign certificates does not matter here (RFC 5280 §6.3.3 b 2). */
function isAuthority ({ extensions }: ParsedCertificate): boolean {
  const constraints = extensions.get(BASIC_CONSTRAINTS)
  const [first] = constraints === undefined ? [] : elementsIn(elementOf(constraints.value), SEQUENCE)
  return first?.tag === BOOLEAN && booleanOf(first)
}
