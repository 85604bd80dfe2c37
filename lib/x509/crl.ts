/**
 * Certificate revocation lists (RFC 5280 §5). Begin with `parseCrl`; crl-entries.ts parses the entries. This file also has
 * the scope of a CRL (issuing distribution point), the distribution points of a certificate, and the signature of a CRL.
 *
 * CRLs are parsed from their bytes: Node has no parser for them, and OpenSSL parses and hashes a whole CRL for each context
 * and each handshake. A CRL must be exactly as the RFC and DER (X.690) have it: no field that its version does not have, no
 * default value that is written out, no empty part. Other software may read anything else differently.
 *
 * The issuer of a CRL is not trusted in other respects: however a CRL is made, parsing never blocks for long, and never
 * takes more memory than the CRL once more.
 */
import { createHash, createVerify, hash, type KeyObject, verify } from 'node:crypto'
import { promisify } from 'node:util'
import { type Pause, Slices } from '../slices.ts'
import { assertIdentifiers, type EntryStatus, readEntries, TIMES } from './crl-entries.ts'
import { BIT_STRING, BOOLEAN, contentOf, derOf, dottedOf, type Element, elementAt, elementOf, elementsIn, INTEGER, latin1, notDer, readOr, SEQUENCE, timeOf } from './der.ts'
import { canonicalName, canonicalRdn, formatName, parseName } from './distinguished-names.ts'
import { assertTaken, booleanOf, type Extensions, extensionsIn, idOf, isShortest, onlyElementIn, partsOf, takeFrom } from './fields.ts'
import { DIRECTORY_NAME, generalNameOf, URI } from './general-names.ts'
import { BASIC_CONSTRAINTS } from './key-usage.ts'
import { type Scheme, schemeOf, strengthOf, verifierOf } from './keys.ts'
import { AUTHORITY_KEY_IDENTIFIER, issuerNamedBy, type ParsedCertificate } from './parsed-certificate.ts'

export interface Crl {
  readonly der: Buffer
  /** SHA-256 of the DER, in lower-case hex. */
  readonly fingerprint: string
  /** In canonical form: see `canonicalName`. */
  readonly issuer: string
  /** For messages. */
  readonly issuerName: string
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number
  /** Milliseconds since the epoch; Infinity where absent. */
  readonly nextUpdate: number
  /** The CRL number (§5.2.3). */
  readonly number: bigint | undefined
  /** Of a delta CRL: the lowest CRL number of a base that it applies to (§5.2.4). */
  readonly baseNumber: bigint | undefined
  /** The value of the authority key identifier (§5.2.1). */
  readonly authorityKeyId: Buffer | undefined
  readonly scope: CrlScope
  /** Why the CRL is not used at all, for messages: `it is an indirect CRL, which …`. */
  readonly unusable: string | undefined
  /** The number of entries. */
  readonly size: number
  /**
   * Whether the CRL lists a certificate. Only a delta CRL answers `removed`.
   *
   * @param serialNumber the content octets of the INTEGER
   */
  statusOf (serialNumber: Buffer): EntryStatus | undefined
  /** Whether a CA may have issued the CRL, by name and authority key identifier. */
  namesIssuer (issuer: ParsedCertificate): boolean
  /** Whether a CA has signed the CRL, with a strong signature. Never rejects. The answer is cached by key. */
  isSignedBy (issuer: ParsedCertificate): Promise<boolean>
  /** The cached answer of `isSignedBy`; undefined where there is none yet. */
  isKnownSignedBy (issuer: ParsedCertificate): boolean | undefined
}

const CRL_NUMBER = idOf('2.5.29.20')
const DELTA_CRL_INDICATOR = idOf('2.5.29.27')

const ISSUING_DISTRIBUTION_POINT = idOf('2.5.29.28')
/** Extensions that may be critical. OpenSSL knows no others, either. */
const HANDLED: ReadonlySet<string> = new Set([AUTHORITY_KEY_IDENTIFIER, ISSUING_DISTRIBUTION_POINT, DELTA_CRL_INDICATOR])

const EXTENSIONS = 0xa0
const VERSION_2 = Buffer.of(1)

/** Version, algorithm, issuer, two dates, entries, extensions: the fields of a TBSCertList (§5.1). */
const MOST_FIELDS = 7
/** Octets of everything but the entries, which is read in one step. */
const LARGEST_REST = 64 * 1024

/**
 * Parses a CRL. Its signature is not verified: see {@link Crl.isSignedBy}.
 *
 * @param pause awaited between slices of some 5 ms of work; by default, all work in slices takes turns
 * @throws RangeError where the bytes are not exactly a CRL, up to the last entry
 */
export async function parseCrl (der: Buffer, pause?: Pause): Promise<Crl> {
  const [tbs, algorithm, signature, ...more] = partsIn(elementOf(der), 3)
  assertTaken(more)
  const fields = partsIn(tbs, MOST_FIELDS)
  const version = takeFrom(fields, INTEGER) // absent in version 1; there is none above 2
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
  const namesIssuer = (parsed: ParsedCertificate): boolean => parsed.subject === name && isNamed(parsed)
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
      // Only a delta CRL can take a revocation back (§5.3.1).
      return status === 'removed' && baseNumber === undefined ? 'revoked' : status
    },
    namesIssuer,
    isSignedBy: async (parsed: ParsedCertificate) => namesIssuer(parsed) && await signed.isBy(parsed),
    isKnownSignedBy: (parsed: ParsedCertificate) => namesIssuer(parsed) ? signed.isKnownBy(parsed) : false
  })
}

/** Whether a delta CRL applies to a complete CRL (RFC 5280 §5.2.4 and §6.3.3 c). Who signed them is a separate question. */
export function isDeltaOn (delta: Crl, base: Crl): boolean {
  if (delta.baseNumber === undefined || delta.number === undefined || base.number === undefined || base.baseNumber !== undefined) return false
  const isAlike = delta.issuer === base.issuer && delta.scope.key === base.scope.key && isSameElement(delta.authorityKeyId, base.authorityKeyId)
  return isAlike && delta.baseNumber <= base.number && base.number < delta.number
}

function isSameElement (one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other)
}

/** The elements of a SEQUENCE, `most` of them at most: an attacker may have put millions there. */
function partsIn (element: Element | undefined, most: number): Element[] {
  if (element?.tag !== SEQUENCE) throw notDer()
  const parts: Element[] = []
  for (let offset = element.start; offset < element.end; offset = parts.at(-1)!.end) {
    if (parts.length === most) throw notDer()
    parts.push(elementAt(element.bytes, offset, element.end))
  }
  return parts
}

/** A non-negative INTEGER of any size: CRL numbers may have 160 bits (§5.2.3). */
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

// Scope: issuing distribution point (RFC 5280 §5.2.5) and CRL distribution points (§4.2.1.13)

interface CrlScope {
  /** Equal for equal scopes; empty where the CRL is about all certificates of its issuer. */
  readonly key: string
  /** Why the CRL is not used, for any certificate. */
  readonly unusable: string | undefined
  /** Whether a certificate of the CRL's issuer is in scope. Never throws. */
  covers (certificate: ParsedCertificate): boolean
}

/** A DistributionPoint of a certificate. */
interface DistributionPoint {
  /** All of its names, in a form that can be compared. */
  readonly names: readonly string[]
  /** The http: and https: URLs among them, as they are written. */
  readonly urls: readonly string[]
}

const DISTRIBUTION_POINTS = idOf('2.5.29.31')

/** Tags. Field of both DistributionPoint and IssuingDistributionPoint. */
const NAME = 0xa0
/** Choices of DistributionPointName. */
const FULL_NAME = 0xa0
const RELATIVE_NAME = 0xa1
/** Fields of DistributionPoint. */
const REASONS = 0x81
const CRL_ISSUER = 0xa2
/** Fields of IssuingDistributionPoint. */
const ONLY_USERS = 0x81
const ONLY_AUTHORITIES = 0x82
const SOME_REASONS = 0x83
const INDIRECT = 0x84
const ONLY_ATTRIBUTES = 0x85

const TRUE = Buffer.of(0xff)
const HTTP = /^https?:\/\/./i

const EVERYTHING: CrlScope = Object.freeze({ key: '', unusable: undefined, covers: () => true })

/**
 * @param issuer the CRL's issuer, in canonical form
 * @throws RangeError where the extension is malformed
 */
function scopeOf (extensions: Extensions, issuer: string): CrlScope {
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

const knownPoints = new WeakMap<ParsedCertificate, readonly DistributionPoint[]>()

/**
 * The CRL distribution points of a certificate. Left out are those with a CRL of another issuer (indirect CRLs) and those
 * for some reasons only, because such CRLs are not used. Empty where the extension cannot be read.
 */
export function distributionPointsOf (certificate: ParsedCertificate): readonly DistributionPoint[] {
  const points = knownPoints.get(certificate) ?? readOr(() => readPoints(certificate), [])
  knownPoints.set(certificate, points)
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
 * A name of a distribution point: a directory name in canonical form, all others octet by octet. Paths in URLs are
 * case-sensitive, and how to compare names of other kinds is not known here.
 */
interface PointName { readonly kind: number, readonly text: string }

function comparable ({ kind, text }: PointName): string {
  return `${kind}:${text}`
}

/** @param issuer the name that nameRelativeToCRLIssuer is relative to, in canonical form */
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

/** An implicitly tagged BOOLEAN. FALSE is the default, so DER does not write it (X.690 §11.5). */
function takeFlag (parts: Element[], tag: number): boolean {
  const flag = takeFrom(parts, tag)
  if (flag === undefined) return false
  if (!contentOf(flag, tag).equals(TRUE)) throw notDer()
  return true
}

/** By basicConstraints alone: whether it may sign certificates does not matter here (RFC 5280 §6.3.3 b 2). */
function isAuthority ({ extensions }: ParsedCertificate): boolean {
  const constraints = extensions.get(BASIC_CONSTRAINTS)
  const [first] = constraints === undefined ? [] : elementsIn(elementOf(constraints.value), SEQUENCE)
  return first?.tag === BOOLEAN && booleanOf(first)
}

// Signature of a CRL (RFC 5280 §5.1.1.3): never valid with a weak algorithm or a weak key (keys.ts)

/**
 * Keys whose answers are cached for each CRL. Usually one key is right. The others are in certificates of CAs that give
 * themselves the same name, and an attacker can make any number of those.
 */
const MOST_KEYS = 64

const verifyInPool = promisify(verify)

/** One CRL at a time: Node copies the data that is verified in the thread pool. */
let last: Promise<unknown> = Promise.resolve()

class CrlSignature {
  /** Why the signature never counts. */
  readonly weakness: string | undefined
  readonly #data: Buffer
  readonly #signature: Buffer
  readonly #scheme: Scheme | undefined
  readonly #pause: Pause | undefined
  /** By the hash of the key, least recently used first. */
  readonly #answers = new Map<string, boolean | Promise<boolean>>()

  /**
   * @param tbs the TBSCertList, which is signed
   * @param algorithms the AlgorithmIdentifier inside of it, and the one next to the signature
   * @throws RangeError where they are malformed
   */
  constructor (tbs: Element, [inner, outer]: readonly Element[], signature: Element, pause: Pause | undefined) {
    const octets = contentOf(signature, BIT_STRING)
    if (octets[0] !== 0) throw notDer() // a signature has no unused bits
    if (outer.tag !== SEQUENCE || inner.tag !== SEQUENCE) throw notDer()
    const isSameAlgorithm = derOf(inner).equals(derOf(outer))
    this.#scheme = isSameAlgorithm ? readOr(() => schemeOf(outer), undefined) : undefined
    this.#data = derOf(tbs)
    this.#signature = octets.subarray(1)
    this.#pause = pause
    this.weakness = this.#scheme !== undefined ? undefined : isSameAlgorithm ? 'it is signed by an algorithm that is not strong enough or not known' : 'it names two algorithms for its one signature'
  }

  isKnownBy (issuer: ParsedCertificate): boolean | undefined {
    const answer = this.#answerOf(issuer)
    return typeof answer === 'boolean' ? answer : undefined
  }

  async isBy (issuer: ParsedCertificate): Promise<boolean> {
    return await (this.#answerOf(issuer) ?? this.#ask(issuer))
  }

  #answerOf (issuer: ParsedCertificate): boolean | Promise<boolean> | undefined {
    if (this.#scheme === undefined || strengthOf(issuer) === undefined) return false
    const key = keyOf(issuer)
    const answer = this.#answers.get(key)
    if (answer !== undefined) this.#remember(key, answer)
    return answer
  }

  #remember (key: string, answer: boolean | Promise<boolean>): void {
    this.#answers.delete(key)
    if (this.#answers.size >= MOST_KEYS) this.#answers.delete(this.#answers.keys().next().value!)
    this.#answers.set(key, answer)
  }

  async #ask (issuer: ParsedCertificate): Promise<boolean> {
    const key = keyOf(issuer)
    const asked = this.#verify(issuer.certificate.publicKey, this.#scheme!).catch(() => false)
    this.#remember(key, asked)
    const answer = await asked
    this.#remember(key, answer)
    return answer
  }

  /**
   * Hashes in slices: for the thread pool, Node would copy the whole CRL at once, which blocks for tens of milliseconds and
   * takes its memory once more. Ed25519 and Ed448 do not hash first, so there is no other way for them.
   */
  async #verify (key: KeyObject, scheme: Scheme): Promise<boolean> {
    const input = verifierOf(scheme, key)
    if (input === undefined) return false
    if (scheme.hash === undefined) {
      const turn = last.then(async () => await verifyInPool(undefined, this.#data, input, this.#signature))
      last = turn.catch(() => {})
      return await turn
    }
    const verifier = createVerify(scheme.hash)
    for await (const piece of new Slices(this.#pause).piecesOf(this.#data)) verifier.update(piece)
    return verifier.verify(input, this.#signature)
  }
}

const keyHashes = new WeakMap<ParsedCertificate, string>()

/** A hash of the SubjectPublicKeyInfo, because several certificates may have one key, and they come and go. */
function keyOf (issuer: ParsedCertificate): string {
  const key = keyHashes.get(issuer) ?? hash('sha256', derOf(issuer.fields.publicKey))
  keyHashes.set(issuer, key)
  return key
}
