/**
 * Certificate revocation lists (RFC 5280 §5), read from their bytes: Node knows none.
 */
import { BIT_STRING, contentOf, derOf, elementOf, elementsIn, INTEGER, notDer, readOr, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { timeOf } from '../text.ts'
import { isSignature, schemeOf } from './algorithms.ts'
import { canonicalName } from './canonical.ts'
import { entriesIn, TIMES } from './entries.ts'
import { assertTaken, type Extensions, extensionsIn, idOf, integerOf, takeFrom } from './extensions.ts'
import type { Facts } from './facts.ts'
import { AUTHORITY_KEY_IDENTIFIER, issuerNamedBy } from './issuers.ts'
import type { Work } from './work.ts'

/** These make a list say something else than who of all was revoked, critical or not. */
const PARTIAL: readonly string[] = [
  '2.5.29.27', // deltaCRLIndicator: only what is new
  '2.5.29.28' // issuingDistributionPoint: only some certificates, or those of others
].map(idOf)

const CRL_NUMBER = idOf('2.5.29.20')
const EXTENSIONS = 0xa0
/** What version 2 is written as. */
const VERSION_2 = 1

export interface RevocationList {
  /** In canonical form. */
  readonly issuer: string
  readonly thisUpdate: number
  /** Infinity where the list does not say. */
  readonly nextUpdate: number
  /** What keeps the list from being used at all. */
  readonly problem: string | undefined
  isSignedBy (issuer: Facts, work: Work): boolean
  has (serialNumber: Element): boolean
}

/**
 * Reads a list that is exactly as RFC 5280 §5.1 and DER (X.690) have it: in a version that may have what it has, nothing
 * spelled out that is the default, no part there that is empty. Others may read anything else otherwise.
 *
 * @throws RangeError where it is not, also in its last entry
 */
export function readList (der: Buffer): RevocationList {
  const [tbs, algorithm, signature, ...more] = elementsIn(elementOf(der), SEQUENCE)
  assertTaken(more)
  const fields = elementsIn(tbs, SEQUENCE)
  const version = takeFrom(fields, INTEGER) // a list of version 1 does not say so, and there is none above 2
  if (version !== undefined && integerOf(version) !== VERSION_2) throw notDer()
  const [inner, issuer, thisUpdate] = fields.splice(0, 3)
  const [next, revoked, last] = [takeFrom(fields, ...TIMES), takeFrom(fields, SEQUENCE), takeFrom(fields, EXTENSIONS)]
  assertTaken(fields)
  if (version === undefined && last !== undefined) throw notDer()
  const extensions = extensionsIn(last)
  const number = extensions.get(CRL_NUMBER)
  if (number !== undefined) integerOf(elementOf(number.value))
  const entries = revoked === undefined ? undefined : entriesIn(revoked, version !== undefined)
  const namesIssuer = issuerNamedBy(extensions)
  const isSigned = signatureOf(tbs, [inner, algorithm], signature)
  const dates = { thisUpdate: timeOf(thisUpdate), nextUpdate: next === undefined ? Infinity : timeOf(next) }
  if (Number.isNaN(dates.thisUpdate + dates.nextUpdate)) throw notDer()
  return {
    issuer: canonicalName(issuer),
    ...dates,
    problem: problemOf(extensions, entries?.hasCritical === true),
    isSignedBy: (issuer, work) => namesIssuer(issuer) && isSigned(issuer, work),
    has: (serialNumber) => entries?.has(serialNumber) === true
  }
}

function problemOf (extensions: Extensions, hasCriticalEntry: boolean): string | undefined {
  if (PARTIAL.some((id) => extensions.has(id))) return 'DIFFERENT_CRL_SCOPE'
  const isAnyCritical = [...extensions].some(([id, { isCritical }]) => isCritical && id !== AUTHORITY_KEY_IDENTIFIER)
  return isAnyCritical || hasCriticalEntry ? 'UNHANDLED_CRITICAL_CRL_EXTENSION' : undefined
}

/**
 * Who has signed it. A weak signature is nobody's.
 *
 * Remembered are the answers about a certificate, as long as that is, and the last key that was right: the certificates
 * that clients send are new ones each time, and a list of many megabytes is not hashed for each of them. Wrong keys are
 * not remembered, as somebody might make more of them than could be kept.
 */
function signatureOf (tbs: Element, [inner, outer]: readonly Element[], signature: Element): (issuer: Facts, work: Work) => boolean {
  const scheme = derOf(inner).equals(derOf(outer)) ? schemeOf(outer) : undefined
  const octets = contentOf(signature, BIT_STRING)
  if (octets[0] !== 0) throw notDer() // bits of the last octet that are no part of it
  const known = new WeakMap<Facts, boolean>()
  let right: Buffer | undefined
  return (issuer, work) => {
    const key = derOf(issuer.fields.publicKey)
    const before = known.get(issuer) ?? (right?.equals(key) || undefined)
    if (before !== undefined || scheme === undefined) return before === true
    if (!work.takeListSignature()) return false
    const isSigned = readOr(() => isSignature(octets.subarray(1), derOf(tbs), scheme, issuer.certificate.publicKey), false)
    known.set(issuer, isSigned)
    if (isSigned) right = Buffer.from(key)
    return isSigned
  }
}
