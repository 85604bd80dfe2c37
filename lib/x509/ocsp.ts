/**
 * OCSP (RFC 6960): the request for the status of one certificate, and its response. Begin with `createOcspRequest` and
 * `readOcspResponse`; `responderOf` finds the URL of the responder. trust/ocsp-responders.ts sends the requests.
 *
 * A response must be strict DER and well-formed, as certificates must. It comes over plain HTTP, and an attacker on the
 * network can replace it: so nothing in it is believed before its signature is verified, and the cost of a response that
 * was made to be expensive is bounded (octets, certificates, signatures).
 */
import { createHash, type X509Certificate } from 'node:crypto'
import { BIT_STRING, contentOf, der, derOf, type Element, elementOf, elementsIn, latin1, notDer, OBJECT_IDENTIFIER, OCTET_STRING, octetsOf, readOr, SEQUENCE, timeOf } from './der.ts'
import { canonicalName } from './distinguished-names.ts'
import { assertTaken, certificateOf, type Extensions, extensionsIn, idNamedBy, idOf, onlyElementIn, partsOf, takeFrom } from './fields.ts'
import { URI } from './general-names.ts'
import { bitsOf, EXTENDED_KEY_USAGE, KEY_USAGE } from './key-usage.ts'
import { isSignature, type Scheme, schemeOf, strengthOf } from './keys.ts'
import { issuerNamedBy, parseCertificate, type ParsedCertificate } from './parsed-certificate.ts'

/** The status of one certificate. Times are in milliseconds since the epoch. */
export interface OcspAnswer {
  /** `unknown` is signed, too: the CA knows no such certificate (RFC 6960 §2.2). */
  readonly status: 'good' | 'revoked' | 'unknown'
  readonly thisUpdate: number
  /** The last moment at which the response is valid; at most the notAfter of the certificate that signed it. */
  readonly nextUpdate: number
  readonly producedAt: number
  /** Only where the status is `revoked`. */
  readonly revokedAt?: number
}

/** The request that a response must answer. */
export interface OcspQuestion {
  readonly certificate: ParsedCertificate
  /** The issuer: the next certificate of a valid path. */
  readonly issuer: ParsedCertificate
  /** The nonce that was sent; undefined for a response from the cache. */
  readonly nonce: Buffer | undefined
  /**
   * When the response was received, in milliseconds since the epoch; for a response from the cache, when it was stored. A
   * certificate that was revoked stays revoked after the response has expired, so the caller has to look at `nextUpdate`.
   */
  readonly now: number
}

/** The maximum size of a response in octets. Usual ones have some thousand. */
export const MOST_OCSP_OCTETS = 64 * 1024

/** The size of a nonce in octets (RFC 9654 §2.1). */
export const NONCE_OCTETS = 32

/** Media types of requests and responses (RFC 6960 appendix A). */
export const OCSP_REQUEST = 'application/ocsp-request'
export const OCSP_RESPONSE = 'application/ocsp-response'

/** Certificates in a response: the delegate's, and the CAs above it, which some responders include. */
const MOST_CERTIFICATES = 8

/** Milliseconds that the responder's clock may be ahead. */
const SKEW = 5 * 60_000

/** Milliseconds for which a response without nextUpdate is valid. */
const DEFAULT_LIFE = 5 * 60_000

const ENUMERATED = 0x0a
const GENERALIZED_TIME = 0x18

const BASIC = idOf('1.3.6.1.5.5.7.48.1.1')
const NONCE = idOf('1.3.6.1.5.5.7.48.1.2')
const OCSP_SIGNING = idOf('1.3.6.1.5.5.7.3.9')
const AUTHORITY_INFORMATION_ACCESS = idOf('1.3.6.1.5.5.7.1.1')
const OCSP = idOf('1.3.6.1.5.5.7.48.1')

/** Key usage bits of an OCSP signer: digitalSignature and nonRepudiation (RFC 5280 §4.2.1.12). */
const SIGNATURE_BITS = 0xc0

/** OCSPResponseStatus (RFC 6960 §4.2.1). */
const FAILURES: Readonly<Record<number, string>> = { 1: 'malformedRequest', 2: 'internalError', 3: 'tryLater', 5: 'sigRequired', 6: 'unauthorized' }

/** CertStatus, by tag. */
const STATUSES: ReadonlyMap<number | undefined, OcspAnswer['status']> = new Map([[0x80, 'good'], [0xa1, 'revoked'], [0x82, 'unknown']])

/** Which status counts where a response has several for one certificate: the first of these. */
const SEVERITY: ReadonlyArray<OcspAnswer['status']> = ['revoked', 'unknown', 'good']

const HTTP_URL = /^https?:\/\/[\x21-\x7e]+$/i

const seq = (...contents: Uint8Array[]): Buffer => der(SEQUENCE, ...contents)
const oid = (dotted: string): Buffer => der(OBJECT_IDENTIFIER, octetsOf(dotted))
const octets = (content: Uint8Array): Buffer => der(OCTET_STRING, content)

/**
 * SHA-1, because responders look certificates up by it (RFC 6960 §4.3). Security does not depend on it, but on the
 * signature of the response, which must be by the key of exactly this issuer or of its delegate.
 */
const SHA1 = [seq(oid('1.3.14.3.2.26'), Buffer.of(0x05, 0)), seq(oid('1.3.14.3.2.26'))] as const

// Requests (RFC 6960 §4.1)

/** An OCSPRequest in DER (RFC 6960 §4.1.1), with a nonce (RFC 9654). */
export function createOcspRequest (certificate: ParsedCertificate, issuer: ParsedCertificate, nonce: Buffer): Buffer {
  const [id] = certIdsOf(certificate, issuer)
  return seq(seq(seq(seq(id)), der(0xa2, seq(seq(der(OBJECT_IDENTIFIER, Buffer.from(NONCE, 'latin1')), octets(octets(nonce)))))))
}

/** The first http or https URL of an OCSP responder in a certificate (authorityInfoAccess, RFC 5280 §4.2.2.1). */
export function responderOf ({ extensions }: ParsedCertificate): string | undefined {
  const extension = extensions.get(AUTHORITY_INFORMATION_ACCESS)
  return extension && readOr(() => partsOf(extension)
    .map((description) => elementsIn(description, SEQUENCE))
    .filter(([method, location]) => idNamedBy(method) === OCSP && location?.tag === URI)
    .map(([, location]) => latin1(location))
    .find((url) => HTTP_URL.test(url) && URL.canParse(url)), undefined)
}

/** Identifies a certificate in a cache: the same whichever of the issuer's certificates with the same key is in the path. */
export function certIdOf (certificate: ParsedCertificate, issuer: ParsedCertificate): Buffer {
  return certIdsOf(certificate, issuer)[0]
}

/** A CertID (RFC 6960 §4.1.1) in the two encodings of its hash algorithm; the first is the usual one. */
function certIdsOf ({ fields: { issuer: name, serialNumber } }: ParsedCertificate, issuer: ParsedCertificate): readonly [Buffer, Buffer] {
  // The issuer's name as the certificate has it: the subject of the issuer's own certificate may be encoded differently.
  const rest = [octets(sha1(derOf(name))), octets(keyHashOf(issuer)), derOf(serialNumber)]
  return [seq(SHA1[0], ...rest), seq(SHA1[1], ...rest)]
}

/** The hash of the key's bits, without tag, length and the number of unused bits. */
function keyHashOf ({ fields: { publicKey } }: ParsedCertificate): Buffer {
  return sha1(contentOf(elementsIn(publicKey, SEQUENCE)[1], BIT_STRING).subarray(1))
}

function sha1 (content: Buffer): Buffer {
  return createHash('sha1').update(content).digest()
}

// Responses (RFC 6960 §4.2)

/**
 * Parses an OCSPResponse (RFC 6960 §4.2) and checks it as §3.2 demands:
 *
 * - It is about exactly this certificate: the hashes of the issuer's name and key, and the serial number. Where it has
 *   several statuses for it, the worst counts.
 * - It is signed by the issuer or by a delegate. The delegate's certificate must be signed by the issuer's key, have the
 *   issuer's name as its issuer, have id-kp-OCSPSigning, allow signatures where it has a key usage, and be in date. Whether
 *   the delegate was revoked is not checked, with id-pkix-ocsp-nocheck or without.
 * - Keys and signatures are as strong as those of a path.
 * - Its nonce is the one that was sent, or it has none: most responders sign in advance (RFC 9654 §3).
 * - It is in date. Without nextUpdate it is valid for five minutes: from now where the nonce proves that it was made for
 *   this request, otherwise from producedAt. Nothing else would prevent an old response from being replayed for ever.
 *
 * @throws Error with a short text that says why the response does not count, to be put after `OCSP: ` or the like
 */
export function readOcspResponse (response: Buffer, question: OcspQuestion): OcspAnswer {
  const { nonce, now } = question
  if (response.length > MOST_OCSP_OCTETS) throw new Error(`it has more than ${MOST_OCSP_OCTETS} octets`)
  const basic = inDer(() => basicIn(response))
  const signer = signerOf(basic, question)
  // From here on, the content of the response is authentic.
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

function inDer<Value> (read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    if (error instanceof RangeError) throw new Error('it is not an OCSP response in DER', { cause: error })
    throw error
  }
}

/** A BasicOCSPResponse. Its signature is not verified yet. */
interface Basic {
  readonly tbs: Element
  readonly scheme: Scheme | undefined
  readonly signature: Buffer
  readonly certificates: readonly Buffer[]
  /** Whether the ResponderID means this certificate. */
  readonly namesSigner: (parsed: ParsedCertificate) => boolean
  /** The fields of the ResponseData after the ResponderID. */
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
  if (signature[0] !== 0) throw notDer() // a signature has no unused bits
  // No version field: the version is 1, the default, which DER does not write.
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

/** A ResponderID (RFC 6960 §4.2.1) is a name or the hash of a key. */
function signerNamedBy (responder: Element | undefined): (parsed: ParsedCertificate) => boolean {
  if (responder?.tag === 0xa1) {
    const name = canonicalName(onlyElementIn(responder))
    return ({ subject }) => subject === name
  }
  const hash = contentOf(explicitIn(responder, 0xa2), OCTET_STRING)
  return (parsed) => keyHashOf(parsed).equals(hash)
}

/** The certificate that has signed the response: the issuer's, or an authorized delegate's. Throws where there is none. */
function signerOf (basic: Basic, { issuer, now }: OcspQuestion): ParsedCertificate {
  if (basic.scheme === undefined) throw new Error('its signature is made with an algorithm that is weak or not known')
  if (basic.namesSigner(issuer) && isSignedBy(basic, issuer)) return issuer
  const delegates = readableOf(basic.certificates.flatMap((certificate) => certificateOf(certificate) ?? [])).filter(basic.namesSigner)
  const problems = delegates.map((delegate) => problemOfDelegate(delegate, issuer, now))
  const allowed = delegates.filter((_, index) => problems[index] === undefined)
  const signer = allowed.find((delegate) => isSignedBy(basic, delegate))
  if (signer !== undefined) return signer
  throw new Error(allowed.length > 0 ? 'its signature is wrong' : problems[0] ?? 'it is signed by neither the issuer nor a delegate whose certificate it has')
}

function isSignedBy ({ tbs, signature, scheme }: Basic, signer: ParsedCertificate): boolean {
  return strengthOf(signer) !== undefined && readOr(() => isSignature(signature, derOf(tbs), scheme!, signer.certificate.publicKey), false)
}

/** Why a certificate does not authorize its holder to sign responses for a CA (RFC 6960 §4.2.2.2). */
function problemOfDelegate (delegate: ParsedCertificate, issuer: ParsedCertificate, now: number): string | undefined {
  const { extensions, certificate, validity } = delegate
  // Other CAs may have the same name: only the signature proves the issuer.
  const isIssued = delegate.issuer === issuer.subject && issuerNamedBy(extensions)(issuer) && delegate.scheme !== undefined && readOr(() => certificate.verify(issuer.certificate.publicKey), false)
  if (!isIssued) return 'its delegate has no certificate from the very issuer'
  const [purposes, usage] = [extensions.get(EXTENDED_KEY_USAGE), extensions.get(KEY_USAGE)]
  const isDelegate = purposes !== undefined && partsOf(purposes).map(idNamedBy).includes(OCSP_SIGNING) && (usage === undefined || (bitsOf(usage) & SIGNATURE_BITS) !== 0)
  if (!isDelegate) return 'its delegate may not sign OCSP responses'
  if (delegate.problem !== undefined || strengthOf(delegate) === undefined) return 'its delegate has a certificate or a key that does not count'
  return validity.notBefore <= now && now <= validity.notAfter ? undefined : 'its delegate is not in date'
}

/** The ResponseData, as far as it is about the certificate in question. */
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
  // The reason does not matter, even if it is removeFromCRL.
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

/** The certificates that can be parsed. */
function readableOf (certificates: readonly X509Certificate[]): ParsedCertificate[] {
  return certificates.flatMap((certificate) => readOr(() => [parseCertificate(certificate)], []))
}
