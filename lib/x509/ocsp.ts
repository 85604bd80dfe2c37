/**
 * OCSP (RFC 6960): what an authority's responder is asked about one certificate, and what its answer says.
 *
 * An answer is read as a certificate is: strict DER, and only what is exactly what it should be counts. Answers come over
 * plain HTTP from whoever is on the way, so nothing of one is believed before its signature is verified, and the costs of one
 * that is made to be expensive are bounded: octets, certificates, signatures.
 */
import { createHash, type X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, der, derOf, type Element, elementOf, elementsIn, latin1, notDer, OBJECT_IDENTIFIER, OCTET_STRING, octetsOf, readOr, SEQUENCE, timeOf } from './der.ts'
import { canonicalName } from './distinguished-names.ts'
import { assertTaken, certificateOf, type Extensions, extensionsIn, idNamedBy, idOf, onlyElementIn, partsOf, takeFrom } from './fields.ts'
import { URI } from './general-names.ts'
import { bitsOf, EXTENDED_KEY_USAGE, KEY_USAGE } from './key-usage.ts'
import { isSignature, type Scheme, schemeOf, strengthOf } from './keys.ts'
import { issuerNamedBy, parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

/** An answer about one certificate. Times are milliseconds since the epoch. */
export interface OcspAnswer {
  /** `unknown` is as good as signed: the authority knows no such certificate (RFC 6960 §2.2). */
  readonly status: 'good' | 'revoked' | 'unknown'
  readonly thisUpdate: number
  /** The last moment that the answer holds for; also that of the delegate's certificate, if that is earlier. */
  readonly nextUpdate: number
  readonly producedAt: number
  /** Where the certificate was revoked. */
  readonly revokedAt?: number
}

/** What was asked. */
export interface OcspQuestion {
  readonly certificate: ParsedCertificate
  /** Who issued it: the next certificate of a path that was verified. */
  readonly issuer: ParsedCertificate
  /** What was sent along; undefined for an answer that was kept. */
  readonly nonce: Buffer | undefined
  /**
   * When the answer came, in milliseconds since the epoch. For one that was kept, when it was kept: what was signed as revoked
   * stays so after its end, which only the caller can know.
   */
  readonly now: number
}

/** Octets of an answer. Those in use have some thousand. */
export const MOST_OCSP_OCTETS = 64 * 1024

/** Octets of a nonce (RFC 9654 §2.1). */
export const NONCE_OCTETS = 32

/** Media types of questions and answers (RFC 6960 appendix A). */
export const OCSP_REQUEST = 'application/ocsp-request'
export const OCSP_RESPONSE = 'application/ocsp-response'

/** A delegate's, and those above it, which some responders send along. */
const MOST_CERTIFICATES = 8

/** Milliseconds that a responder's clock may be ahead of ours. */
const SKEW = 5 * 60_000

/** Milliseconds that an answer is good for which does not say how long it is. */
const DEFAULT_LIFE = 5 * 60_000

const ENUMERATED = 0x0a
const GENERALIZED_TIME = 0x18

const BASIC = idOf('1.3.6.1.5.5.7.48.1.1')
const NONCE = idOf('1.3.6.1.5.5.7.48.1.2')
const OCSP_SIGNING = idOf('1.3.6.1.5.5.7.3.9')
const AUTHORITY_INFORMATION_ACCESS = idOf('1.3.6.1.5.5.7.1.1')
const OCSP = idOf('1.3.6.1.5.5.7.48.1')

/** digitalSignature and nonRepudiation (RFC 5280 §4.2.1.12). */
const SIGNS = 0xc0

/** RFC 6960 §4.2.1. */
const FAILURES: Readonly<Record<number, string>> = { 1: 'malformedRequest', 2: 'internalError', 3: 'tryLater', 5: 'sigRequired', 6: 'unauthorized' }

/** CertStatus, by tag. */
const STATUSES: ReadonlyMap<number | undefined, OcspAnswer['status']> = new Map([[0x80, 'good'], [0xa1, 'revoked'], [0x82, 'unknown']])

/** What counts where an answer says several things of a certificate. */
const SEVERITY: ReadonlyArray<OcspAnswer['status']> = ['revoked', 'unknown', 'good']

const HTTP_URL = /^https?:\/\/[\x21-\x7e]+$/i

const seq = (...contents: Uint8Array[]): Buffer => der(SEQUENCE, ...contents)
const oid = (dotted: string): Buffer => der(OBJECT_IDENTIFIER, octetsOf(dotted))
const octets = (content: Uint8Array): Buffer => der(OCTET_STRING, content)

/**
 * SHA-1, as responders look certificates up by it (RFC 6960 §4.3). It protects nothing here: what an answer is worth hangs on
 * its signature, which must be one with the key of that very issuer or of its delegate.
 */
const SHA1 = [seq(oid('1.3.14.3.2.26'), Buffer.of(0x05, 0)), seq(oid('1.3.14.3.2.26'))] as const

/** An OCSPRequest in DER (RFC 6960 §4.1.1), with a nonce (RFC 9654). */
export function createOcspRequest (certificate: ParsedCertificate, issuer: ParsedCertificate, nonce: Buffer): Buffer {
  const [id] = certIdsOf(certificate, issuer)
  return seq(seq(seq(seq(id)), der(0xa2, seq(seq(der(OBJECT_IDENTIFIER, Buffer.from(NONCE, 'latin1')), octets(octets(nonce)))))))
}

/** The first http or https URL that a certificate names its responder by (RFC 5280 §4.2.2.1). */
export function responderOf ({ extensions }: ParsedCertificate): string | undefined {
  const extension = extensions.get(AUTHORITY_INFORMATION_ACCESS)
  return extension && readOr(() => partsOf(extension)
    .map((description) => elementsIn(description, SEQUENCE))
    .filter(([method, location]) => idNamedBy(method) === OCSP && location?.tag === URI)
    .map(([, location]) => latin1(location))
    .find((url) => HTTP_URL.test(url) && URL.canParse(url)), undefined)
}

/**
 * Reads an OCSPResponse (RFC 6960 §4.2) and checks it as §3.2 demands.
 *
 * - The answer is about that very certificate: hashes of the issuer's name and key, and the serial number. Of several answers
 *   about it the worst counts.
 * - It is signed by the issuer, or by a delegate: its certificate is signed by the issuer's key, and has the issuer's name as
 *   that of its issuer, id-kp-OCSPSigning, a key usage for signatures if any, and is in date. Whether the delegate itself
 *   was revoked is not asked, id-pkix-ocsp-nocheck or not. Keys and signatures are as strong as those of a path.
 * - Its nonce is ours, or it has none, as most responders sign in advance (RFC 9654 §3).
 * - It is in date. Where it does not say until when, it holds for five minutes, of now if the nonce proves that it was made for
 *   us, else from when it was made: nothing else would keep an old one from being sent for ever.
 *
 * @throws Error saying in a few words why an answer does not count, to be put after `OCSP: ` or the like
 */
export function readOcspResponse (response: Buffer, question: OcspQuestion): OcspAnswer {
  const { nonce, now } = question
  if (response.length > MOST_OCSP_OCTETS) throw new Error(`it has more than ${MOST_OCSP_OCTETS} octets`)
  const basic = inDer(() => basicIn(response))
  const signer = signerOf(basic, question)
  // Only now is it known whose words these are.
  const { producedAt, extensions, singles } = inDer(() => dataIn(basic, question))
  if ([extensions, ...singles.map((single) => single.extensions)].some(hasUnknownCritical)) throw new Error('it has a critical extension that is not known')
  const echo = extensions.get(NONCE)?.value
  const isEcho = nonce !== undefined && echo?.equals(octets(nonce)) === true
  if (nonce !== undefined && echo !== undefined && !isEcho) throw new Error('its nonce is another one than was sent')
  if (singles.length === 0) throw new Error('it is about other certificates')

  const madeAt = isEcho ? now : Math.min(producedAt, now)
  const answers = singles.map(({ status, thisUpdate, nextUpdate = madeAt + DEFAULT_LIFE, revokedAt }): OcspAnswer =>
    ({ status, thisUpdate, nextUpdate: Math.min(nextUpdate, signer.validity.notAfter), producedAt, revokedAt }))
  const inDate = answers.filter((answer) => problemOfDates(answer, now) === undefined)
  if (inDate.length === 0) throw new Error(problemOfDates(answers[0], now))
  return SEVERITY.flatMap((status) => inDate.filter((answer) => answer.status === status))[0]
}

/** What an answer is about, whichever certificate of the issuer's key it was asked with. */
export function certIdOf (certificate: ParsedCertificate, issuer: ParsedCertificate): Buffer {
  return certIdsOf(certificate, issuer)[0]
}

/** A CertID (RFC 6960 §4.1.1) in both ways of writing its hash algorithm; the first is the usual one. */
function certIdsOf ({ fields: { issuer: name, serialNumber } }: ParsedCertificate, issuer: ParsedCertificate): readonly [Buffer, Buffer] {
  // Of the name as the certificate has it: the issuer's own may be written in another way.
  const rest = [octets(sha1(derOf(name))), octets(keyHashOf(issuer)), derOf(serialNumber)]
  return [seq(SHA1[0], ...rest), seq(SHA1[1], ...rest)]
}

/** Of the key's bits, without tag, length and number of unused bits. */
function keyHashOf ({ fields: { publicKey } }: ParsedCertificate): Buffer {
  return sha1(contentOf(elementsIn(publicKey, SEQUENCE)[1], BIT_STRING).subarray(1))
}

function sha1 (content: Buffer): Buffer {
  return createHash('sha1').update(content).digest()
}

function inDer<Value> (read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    if (error instanceof RangeError) throw new Error('it is not an OCSP response in DER', { cause: error })
    throw error
  }
}

/** A BasicOCSPResponse, whose signature is not verified yet. */
interface Basic {
  readonly tbs: Element
  readonly scheme: Scheme | undefined
  readonly signature: Buffer
  readonly certificates: readonly Buffer[]
  /** Whether it says that this is who signed it. */
  readonly namesSigner: (facts: ParsedCertificate) => boolean
  /** What follows the ResponderID. */
  readonly fields: readonly Element[]
}

function basicIn (response: Buffer): Basic {
  const [status, bytes, ...more] = elementsIn(elementOf(response), SEQUENCE)
  const code = contentOf(status, ENUMERATED)
  if (code.length !== 1 || more.length > 0) throw notDer()
  if (code[0] !== 0) throw new Error(`the responder says: ${FAILURES[code[0]] ?? code[0]}`)
  const [type, content, ...others] = elementsIn(explicitIn(bytes, 0xa0), SEQUENCE)
  assertTaken(others)
  if (idNamedBy(type) !== BASIC) throw new Error('its type is not id-pkix-ocsp-basic')
  const [tbs, algorithm, bits, ...parts] = elementsIn(elementOf(contentOf(content, OCTET_STRING)), SEQUENCE)
  const certificates = takeFrom(parts, 0xa0)
  assertTaken(parts)
  const signature = contentOf(bits, BIT_STRING)
  if (signature[0] !== 0) throw notDer() // bits of the last octet that are no part of it
  // The version is 1, which DER leaves out.
  const [responder, ...fields] = elementsIn(tbs, SEQUENCE)
  return {
    tbs,
    scheme: schemeOf(algorithm),
    signature: signature.subarray(1),
    certificates: certificates === undefined ? [] : certificatesIn(certificates),
    namesSigner: signerNamedBy(responder),
    fields
  }
}

function certificatesIn (element: Element): Buffer[] {
  const all = elementsIn(onlyElementIn(element), SEQUENCE).map(derOf)
  if (all.length > MOST_CERTIFICATES) throw new Error(`it has more than ${MOST_CERTIFICATES} certificates`)
  return all
}

/** A ResponderID (RFC 6960 §4.2.1): a name, or the hash of a key. */
function signerNamedBy (responder: Element | undefined): (facts: ParsedCertificate) => boolean {
  if (responder?.tag === 0xa1) {
    const name = canonicalName(onlyElementIn(responder))
    return ({ subject }) => subject === name
  }
  const hash = contentOf(explicitIn(responder, 0xa2), OCTET_STRING)
  return (facts) => keyHashOf(facts).equals(hash)
}

/** Who has signed an answer, and may. Throws where it is none of them. */
function signerOf (basic: Basic, { issuer, now }: OcspQuestion): ParsedCertificate {
  if (basic.scheme === undefined) throw new Error('its signature is made with an algorithm that is weak or not known')
  if (basic.namesSigner(issuer) && isSignedBy(basic, issuer)) return issuer
  const delegates = factsOfReadable(basic.certificates.flatMap((certificate) => certificateOf(certificate) ?? [])).filter(basic.namesSigner)
  const problems = delegates.map((delegate) => problemOfDelegate(delegate, issuer, now))
  const allowed = delegates.filter((_, index) => problems[index] === undefined)
  const signer = allowed.find((delegate) => isSignedBy(basic, delegate))
  if (signer !== undefined) return signer
  throw new Error(allowed.length > 0 ? 'its signature is wrong' : problems[0] ?? 'it is signed by neither the issuer nor a delegate whose certificate it has')
}

function isSignedBy ({ tbs, signature, scheme }: Basic, signer: ParsedCertificate): boolean {
  return strengthOf(signer) !== undefined && readOr(() => isSignature(signature, derOf(tbs), scheme!, signer.certificate.publicKey), false)
}

/** What keeps the holder of a certificate from answering for an authority (RFC 6960 §4.2.2.2). */
function problemOfDelegate (delegate: ParsedCertificate, issuer: ParsedCertificate, now: number): string | undefined {
  const { extensions, certificate, validity } = delegate
  // Other authorities may have the name: what tells is the signature.
  const isIssued = delegate.issuer === issuer.subject && issuerNamedBy(extensions)(issuer) && delegate.scheme !== undefined && readOr(() => certificate.verify(issuer.certificate.publicKey), false)
  if (!isIssued) return 'its delegate has no certificate from the very issuer'
  const [purposes, usage] = [extensions.get(EXTENDED_KEY_USAGE), extensions.get(KEY_USAGE)]
  const isDelegate = purposes !== undefined && partsOf(purposes).map(idNamedBy).includes(OCSP_SIGNING) && (usage === undefined || (bitsOf(usage) & SIGNS) !== 0)
  if (!isDelegate) return 'its delegate may not sign OCSP responses'
  if (delegate.problem !== undefined || strengthOf(delegate) === undefined) return 'its delegate has a certificate or a key that does not count'
  return validity.notBefore <= now && now <= validity.notAfter ? undefined : 'its delegate is not in date'
}

/** What an answer says about the certificate in question. */
interface Data {
  readonly producedAt: number
  readonly extensions: Extensions
  readonly singles: readonly Single[]
}

/** A SingleResponse. */
interface Single {
  readonly status: OcspAnswer['status']
  readonly revokedAt: number | undefined
  readonly thisUpdate: number
  readonly nextUpdate: number | undefined
  readonly extensions: Extensions
}

function dataIn ({ fields: all }: Basic, { certificate, issuer }: OcspQuestion): Data {
  const [producedAt, responses, ...fields] = all
  const extensions = takeFrom(fields, 0xa1)
  assertTaken(fields)
  const ids = certIdsOf(certificate, issuer)
  const singles = elementsIn(responses, SEQUENCE).map((single) => elementsIn(single, SEQUENCE))
  return {
    producedAt: timeIn(producedAt),
    extensions: extensionsIn(extensions),
    singles: singles.filter(([id]) => id !== undefined && ids.some((octets) => octets.equals(derOf(id)))).map(singleIn)
  }
}

function singleIn ([, status, thisUpdate, ...fields]: readonly Element[]): Single {
  const [next, extensions] = [takeFrom(fields, 0xa0), takeFrom(fields, 0xa1)]
  assertTaken(fields)
  return {
    ...statusIn(status),
    thisUpdate: timeIn(thisUpdate),
    nextUpdate: next === undefined ? undefined : timeIn(onlyElementIn(next)),
    extensions: extensionsIn(extensions)
  }
}

function statusIn (element: Element | undefined): Pick<Single, 'status' | 'revokedAt'> {
  const status = STATUSES.get(element?.tag)
  if (element === undefined || status === undefined) throw notDer()
  if (status !== 'revoked') {
    if (element.start !== element.end) throw notDer()
    return { status, revokedAt: undefined }
  }
  const [time, ...fields] = elementsIn(element, element.tag)
  const reason = takeFrom(fields, 0xa0)
  assertTaken(fields)
  // Whatever it is, also "removed from CRL".
  if (reason !== undefined) contentOf(onlyElementIn(reason), ENUMERATED)
  return { status, revokedAt: timeIn(time) }
}

function explicitIn (element: Element | undefined, tag: number): Element {
  if (element?.tag !== tag) throw notDer()
  return onlyElementIn(element)
}

function timeIn (element: Element | undefined): number {
  const time = element?.tag === GENERALIZED_TIME ? timeOf(element) : NaN
  if (Number.isNaN(time)) throw notDer()
  return time
}

function hasUnknownCritical (extensions: Extensions): boolean {
  return [...extensions].some(([id, { isCritical }]) => isCritical && id !== NONCE)
}

function problemOfDates ({ thisUpdate, nextUpdate, producedAt }: OcspAnswer, now: number): string | undefined {
  if (Math.max(thisUpdate, producedAt) > now + SKEW) return 'it is from the future'
  return now <= nextUpdate ? undefined : 'it is out of date'
}

/** Those that can be read. */
function factsOfReadable (certificates: readonly X509Certificate[]): ParsedCertificate[] {
  return certificates.flatMap((certificate) => readOr(() => [parseCertificate(certificate)], []))
}
