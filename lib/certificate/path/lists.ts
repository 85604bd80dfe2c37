/**
 * Certificate revocation lists (RFC 5280 §5), read from their bytes: Node knows none.
 */
import { BIT_STRING, contentOf, derOf, elementOf, elementsIn, INTEGER, OCTET_STRING, readOr, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { publicKeyOf } from '../keys.ts'
import { timeOf } from '../text.ts'
import { isSignature, schemeOf } from './algorithms.ts'
import { canonicalName } from './canonical.ts'
import { entriesIn } from './entries.ts'
import { type Extensions, extensionsIn, type Facts, idOf, NO_EXTENSIONS, partsOf } from './facts.ts'
import { DIRECTORY_NAME } from './subtrees.ts'

const SUBJECT_KEY_IDENTIFIER = idOf('2.5.29.14')
const AUTHORITY_KEY_IDENTIFIER = idOf('2.5.29.35')

/** These make a list say something else than who of all was revoked, critical or not. */
const PARTIAL: readonly string[] = [
  '2.5.29.27', // deltaCRLIndicator: only what is new
  '2.5.29.28' // issuingDistributionPoint: only some certificates, or those of others
].map(idOf)

const EXTENSIONS = 0xa0

/** UTCTime and GeneralizedTime. */
const TIMES: readonly number[] = [0x17, 0x18]

/** Issuers whose signature on a list is remembered, so that a large list is hashed once and not for every client. */
const MOST_KEYS = 32

export interface RevocationList {
  /** In canonical form. */
  readonly issuer: string
  readonly thisUpdate: number
  /** Infinity where the list does not say. */
  readonly nextUpdate: number
  /** What keeps the list from being used at all. */
  readonly problem: string | undefined
  isSignedBy (issuer: Facts): boolean
  has (serialNumber: Element): boolean
}

/** Throws where the bytes are not DER. */
export function readList (der: Buffer): RevocationList {
  const [tbs, algorithm, signature] = elementsIn(elementOf(der), SEQUENCE)
  const fields = elementsIn(tbs, SEQUENCE)
  // A list of version 1 does not say so.
  const [inner, issuer, thisUpdate, ...rest] = fields[0].tag === INTEGER ? fields.slice(1) : fields
  const next = rest.find(({ tag }) => TIMES.includes(tag))
  const revoked = rest.find(({ tag }) => tag === SEQUENCE)
  const last = rest.find(({ tag }) => tag === EXTENSIONS)
  const extensions = last === undefined ? NO_EXTENSIONS : extensionsIn(last)
  const entries = revoked === undefined ? undefined : entriesIn(revoked)
  const namesKeyOf = issuerNamedBy(extensions)
  const isSigned = signatureOf(tbs, [inner, algorithm], signature)
  return {
    issuer: canonicalName(issuer),
    thisUpdate: timeOf(thisUpdate),
    nextUpdate: next === undefined ? Infinity : timeOf(next),
    problem: problemOf(extensions, entries?.hasCritical === true),
    isSignedBy: (issuer) => readOr(() => namesKeyOf(issuer) && isSigned(issuer), false),
    has: (serialNumber) => entries?.has(serialNumber) === true
  }
}

function problemOf (extensions: Extensions, hasCriticalEntry: boolean): string | undefined {
  if (PARTIAL.some((id) => extensions.has(id))) return 'DIFFERENT_CRL_SCOPE'
  const isAnyCritical = [...extensions].some(([id, { isCritical }]) => isCritical && id !== AUTHORITY_KEY_IDENTIFIER)
  return isAnyCritical || hasCriticalEntry ? 'UNHANDLED_CRITICAL_CRL_EXTENSION' : undefined
}

/** Whether an issuer is the one that the authority key identifier means (RFC 5280 §5.2.1): by key, or by certificate. */
function issuerNamedBy (extensions: Extensions): (issuer: Facts) => boolean {
  const identifier = extensions.get(AUTHORITY_KEY_IDENTIFIER)
  const parts = identifier === undefined ? [] : partsOf(identifier)
  const part = (tag: number): Element | undefined => parts.find((part) => part.tag === tag)
  const [key, names, serialNumber] = [part(0x80), part(0xa1), part(0x82)]
  const name = names === undefined ? undefined : elementsIn(names, names.tag).find(({ tag }) => tag === DIRECTORY_NAME)
  const directoryName = name === undefined ? undefined : canonicalName(elementsIn(name, name.tag)[0])
  return (issuer) => {
    const own = issuer.extensions.get(SUBJECT_KEY_IDENTIFIER)
    return (key === undefined || own === undefined || contentOf(elementOf(own.value), OCTET_STRING).equals(contentOf(key, key.tag))) &&
      (serialNumber === undefined || contentOf(issuer.fields.serialNumber, INTEGER).equals(contentOf(serialNumber, serialNumber.tag))) &&
      (directoryName === undefined || issuer.issuer === directoryName)
  }
}

/** Remembers, by key, whose signature it is. A weak one is nobody's. */
function signatureOf (tbs: Element, [inner, outer]: readonly Element[], signature: Element): (issuer: Facts) => boolean {
  const scheme = derOf(inner).equals(derOf(outer)) ? schemeOf(outer) : undefined
  const octets = contentOf(signature, BIT_STRING).subarray(1) // after the number of unused bits
  const known = new Map<string, boolean>()
  return ({ certificate }) => {
    if (scheme === undefined) return false
    const key = publicKeyOf(certificate)
    const isSigned = known.get(key) ?? isSignature(octets, derOf(tbs), scheme, certificate.publicKey)
    if (known.size < MOST_KEYS) known.set(key, isSigned)
    return isSigned
  }
}
