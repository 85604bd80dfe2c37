/**
 * Certificate revocation lists (RFC 5280 §5), read from their bytes: Node knows none, and OpenSSL reads and hashes all of a
 * CRL for each context and each handshake.
 *
 * A CRL is exactly as the RFC and DER (X.690) have it: in a version that may have what it has, nothing spelled out that is
 * the default, no part there that is empty. Others may read anything else otherwise. It comes from people who are not
 * trusted with all else: however it is made, nothing takes long at a time, or more memory than the CRL once again.
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

const ISSUING_DISTRIBUTION_POINT = idOf('2.5.29.28')
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

/**
 * Which certificates a CRL is about: its issuing distribution point (RFC 5280 §5.2.5), held against the distribution points
 * that a certificate names (§4.2.1.13).
 */

interface CrlScope {
  /** Equal for equal scopes; empty where a CRL is about all certificates of its issuer. */
  readonly key: string
  /** Why it is not used, whatever the certificate. */
  readonly unusable: string | undefined
  /** Whether a certificate of the CRL's issuer is in it. Never throws. */
  covers (certificate: ParsedCertificate): boolean
}

/** Where the revocation of a certificate can be read. */
interface DistributionPoint {
  /** All of its names, in a form that is equal for equal names. */
  readonly names: readonly string[]
  /** Those among them that are http: or https:, as they are written. */
  readonly urls: readonly string[]
}

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

/**
 * Who has signed a CRL. A weak signature is nobody's, and so is one of a key that is not strong enough (path/algorithms.ts).
 */

/**
 * Keys whose answers are remembered, with the CRL. One is right, as a rule; others come with certificates of an authority
 * that gives itself the same name, of which there may be any number.
 */
const MOST_KEYS = 64

const verifyInPool = promisify(verify)

/** Node copies what is verified in the thread pool: one CRL at a time. */
let last: Promise<unknown> = Promise.resolve()

class CrlSignature {
  /** Why it is nobody's. */
  readonly weakness: string | undefined
  readonly #data: Buffer
  readonly #signature: Buffer
  readonly #scheme: Scheme | undefined
  readonly #pause: Pause | undefined
  /** By the hash of the key: those asked of last are the last ones. */
  readonly #answers = new Map<string, boolean | Promise<boolean>>()

  /**
   * @param tbs what was signed
   * @param algorithms the one inside of that, and the one beside the signature
   * @throws RangeError where they are not exactly that
   */
  constructor (tbs: Element, [inner, outer]: readonly Element[], signature: Element, pause: Pause | undefined) {
    const octets = contentOf(signature, BIT_STRING)
    if (octets[0] !== 0) throw notDer() // bits of the last octet that are no part of it
    if (outer.tag !== SEQUENCE || inner.tag !== SEQUENCE) throw notDer()
    const isOne = derOf(inner).equals(derOf(outer))
    this.#scheme = isOne ? readOr(() => schemeOf(outer), undefined) : undefined
    this.#data = derOf(tbs)
    this.#signature = octets.subarray(1)
    this.#pause = pause
    this.weakness = this.#scheme !== undefined ? undefined : isOne ? 'it is signed by an algorithm that is not strong enough or not known' : 'it names two algorithms for its one signature'
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
   * Hashed in slices: for the thread pool Node would copy all of it at once, which blocks for tens of milliseconds and takes
   * its memory again. What is not hashed first (Ed25519, Ed448) can be verified only so.
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

const keys = new WeakMap<ParsedCertificate, string>()

/** A hash of the SubjectPublicKeyInfo: certificates come and go, and may be those of one key. */
function keyOf (issuer: ParsedCertificate): string {
  const key = keys.get(issuer) ?? hash('sha256', derOf(issuer.fields.publicKey))
  keys.set(issuer, key)
  return key
}
