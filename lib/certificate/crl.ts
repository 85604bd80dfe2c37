/**
 * Certificate revocation lists (RFC 5280 §5), read from their bytes: Node knows none, and OpenSSL reads and hashes all of a
 * CRL for each context and each handshake.
 *
 * A CRL is exactly as the RFC and DER (X.690) have it: in a version that may have what it has, nothing spelled out that is
 * the default, no part there that is empty. Others may read anything else otherwise. It comes from people who are not
 * trusted with all else: however it is made, nothing takes long at a time, or more memory than the CRL once again.
 */
import { createHash } from 'node:crypto'
import { type Pause, Slices } from '../slices.ts'
import { assertIdentifiers, type EntryStatus, readEntries, TIMES } from './crl-entries.ts'
import { type CrlScope, ISSUING_DISTRIBUTION_POINT, scopeOf } from './crl-scope.ts'
import { CrlSignature } from './crl-signature.ts'
import { contentOf, elementAt, elementOf, INTEGER, notDer, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { formatName, parseName } from './names.ts'
import { dottedOf } from './object-identifiers.ts'
import { canonicalName } from './path/canonical.ts'
import { assertTaken, type Extensions, extensionsIn, idOf, isShortest, takeFrom } from './path/extensions.ts'
import type { ParsedCertificate } from './path/facts.ts'
import { AUTHORITY_KEY_IDENTIFIER, issuerNamedBy } from './path/issuers.ts'
import { timeOf } from './text.ts'

export interface Crl {
  /** All of its bytes. */
  readonly der: Buffer
  /** SHA-256 of the same, in lower-case hex. */
  readonly fingerprint: string
  /** In canonical form (path/canonical.ts). */
  readonly issuer: string
  /** For messages. */
  readonly issuerName: string
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number
  /** Milliseconds since the epoch; Infinity where it does not say. */
  readonly nextUpdate: number
  /** The CRL number (§5.2.3). */
  readonly number: bigint | undefined
  /** Of a delta CRL, the least number of a CRL that it adds to (§5.2.4). */
  readonly baseNumber: bigint | undefined
  /** The value of the authority key identifier (§5.2.1). */
  readonly authorityKeyId: Buffer | undefined
  readonly scope: CrlScope
  /** Why nothing may be concluded from it, for messages: `it is an indirect CRL, which …`. */
  readonly unusable: string | undefined
  /** How many entries it has. */
  readonly size: number
  /**
   * Whether it lists a certificate; in a delta CRL a revocation may be taken back.
   *
   * @param serialNumber the content octets of the INTEGER
   */
  statusOf (serialNumber: Buffer): EntryStatus | undefined
  /** Whether an authority may have issued it, by name and authority key identifier. */
  namesIssuer (issuer: ParsedCertificate): boolean
  /** Whether an authority has issued it, by a strong signature. Never rejects. Remembered by key. */
  isSignedBy (issuer: ParsedCertificate): Promise<boolean>
  /** The same, as far as it is known. */
  isKnownSignedBy (issuer: ParsedCertificate): boolean | undefined
}

const CRL_NUMBER = idOf('2.5.29.20')
const DELTA_CRL_INDICATOR = idOf('2.5.29.27')

/** What may be critical. OpenSSL knows no others, either. */
const HANDLED: ReadonlySet<string> = new Set([AUTHORITY_KEY_IDENTIFIER, ISSUING_DISTRIBUTION_POINT, DELTA_CRL_INDICATOR])

const EXTENSIONS = 0xa0
const VERSION_2 = Buffer.of(1)

/** Version, algorithm, issuer, two dates, entries, extensions. */
const MOST_FIELDS = 7
/** Octets of all but the entries: what is read in one go. */
const LARGEST_REST = 64 * 1024

/**
 * Reads a CRL. Its signature is not looked at.
 *
 * @param pause awaited between slices of some 5 ms of work; otherwise all that is done in slices takes turns
 * @throws RangeError where the bytes are not exactly a CRL, also in its last entry
 */
export async function parseCrl (der: Buffer, pause?: Pause): Promise<Crl> {
  const [tbs, algorithm, signature, ...more] = partsIn(elementOf(der), 3)
  assertTaken(more)
  const fields = partsIn(tbs, MOST_FIELDS)
  const version = takeFrom(fields, INTEGER) // a CRL of version 1 does not say so, and there is none above 2
  if (version !== undefined && !contentOf(version, INTEGER).equals(VERSION_2)) throw notDer()
  const [inner, issuer, thisUpdate] = fields.splice(0, 3)
  const [next, revoked, last] = [takeFrom(fields, ...TIMES), takeFrom(fields, SEQUENCE), takeFrom(fields, EXTENSIONS)]
  assertTaken(fields)
  if (version === undefined && last !== undefined) throw notDer()
  if (der.length - (revoked === undefined ? 0 : revoked.end - revoked.start) > LARGEST_REST) throw new RangeError('Too large beside its entries')

  const dates = { thisUpdate: timeOf(thisUpdate), nextUpdate: next === undefined ? Infinity : timeOf(next) }
  if (Number.isNaN(dates.thisUpdate + dates.nextUpdate)) throw notDer()
  const name = canonicalName(issuer)
  const issuerName = formatName(parseName(issuer)) || 'an issuer without a name'
  const extensions = extensionsIn(last)
  assertIdentifiers(extensions)
  const [number, baseNumber] = [numberIn(extensions, CRL_NUMBER), numberIn(extensions, DELTA_CRL_INDICATOR)]
  const scope = scopeOf(extensions, name)
  const isNamed = issuerNamedBy(extensions)
  const namesIssuer = (facts: ParsedCertificate): boolean => facts.subject === name && isNamed(facts)
  const signed = new CrlSignature(tbs, [inner, algorithm], signature, pause)

  const slices = new Slices(pause)
  const entries = await readEntries(revoked, version !== undefined, slices)
  const hash = createHash('sha256')
  for await (const piece of slices.piecesOf(der)) hash.update(piece)

  return Object.freeze({
    der,
    fingerprint: hash.digest('hex'),
    issuer: name,
    issuerName,
    ...dates,
    number,
    baseNumber,
    authorityKeyId: extensions.get(AUTHORITY_KEY_IDENTIFIER)?.value,
    scope,
    unusable: scope.unusable ?? signed.weakness ?? problemOfCrl(extensions, entries.hasCritical) ??
      (baseNumber !== undefined && number === undefined ? 'it is a delta CRL without a CRL number' : undefined),
    size: entries.size,
    statusOf (serialNumber: Buffer) {
      const status = entries.statusOf(serialNumber)
      // Only a delta CRL has something to take back (§5.3.1).
      return status === 'removed' && baseNumber === undefined ? 'revoked' : status
    },
    namesIssuer,
    isSignedBy: async (facts: ParsedCertificate) => namesIssuer(facts) && await signed.isBy(facts),
    isKnownSignedBy: (facts: ParsedCertificate) => namesIssuer(facts) ? signed.isKnownBy(facts) : false
  })
}

/**
 * Whether what a delta CRL says is to be added to what a complete one does (RFC 5280 §5.2.4 and §6.3.3 c). Who has signed
 * them is another question.
 */
export function isDeltaOn (delta: Crl, base: Crl): boolean {
  if (delta.baseNumber === undefined || delta.number === undefined || base.number === undefined || base.baseNumber !== undefined) return false
  const isAlike = delta.issuer === base.issuer && delta.scope.key === base.scope.key && isSameElement(delta.authorityKeyId, base.authorityKeyId)
  return isAlike && delta.baseNumber <= base.number && base.number < delta.number
}

function isSameElement (one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other)
}

/** The elements of a SEQUENCE of no more than `most`: somebody may have put millions there. */
function partsIn (element: Element | undefined, most: number): Element[] {
  if (element?.tag !== SEQUENCE) throw notDer()
  const parts: Element[] = []
  for (let offset = element.start; offset < element.end; offset = parts.at(-1)!.end) {
    if (parts.length === most) throw notDer()
    parts.push(elementAt(element.bytes, offset, element.end))
  }
  return parts
}

/** An INTEGER that is not negative, and may have 160 bits. */
function numberIn (extensions: Extensions, id: string): bigint | undefined {
  const extension = extensions.get(id)
  if (extension === undefined) return undefined
  const element = elementOf(extension.value)
  const content = contentOf(element, INTEGER)
  if (!isShortest(element) || content[0] >= 0x80) throw notDer()
  return BigInt(`0x${content.toString('hex')}`)
}

function problemOfCrl (extensions: Extensions, hasCriticalEntry: boolean): string | undefined {
  for (const [id, { isCritical }] of extensions) {
    if (isCritical && !HANDLED.has(id)) return `it has a critical extension that is not known here (${dottedOf(Buffer.from(id, 'latin1'))})`
  }
  return hasCriticalEntry ? 'entries of it have critical extensions, so that they may be about other certificates than it seems' : undefined
}
