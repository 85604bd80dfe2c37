/**
 * Certificate revocation lists (RFC 5280 §5). OpenSSL judges clients by them, or lib/certificate/path those that a proxy
 * forwards; here they are only checked, for either would refuse everybody by a bad one. Loaded only where there are any.
 */
// @peculiar/x509 needs it, and needs it first
import 'reflect-metadata'
import { constants, createHash, verify, type X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import * as x509 from '@peculiar/x509'
import { derOf, elementOf, elementsIn, readOr, SEQUENCE } from '../certificate/der.ts'
import { fieldsOf } from '../certificate/fields.ts'
import { type RevocationList as ParsedList, readList } from '../certificate/path/lists.ts'
import { der as encode } from './encode.ts'
import { blocksIn, pemOf } from './pem.ts'
import type { RevocationList } from './revocation-list.ts'
import { type Content, invalid } from './source.ts'

/** RFC 7468 §6, and what some programs write. */
const LABELS = ['X509 CRL', 'CRL']

/**
 * Every list in a file: one in DER, or any number in PEM.
 *
 * @param authorities whose signatures are checked; a list of any other issuer, such as an intermediate authority that
 * clients send along, is checked by OpenSSL alone
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export async function revocationListsIn (content: Content, authorities: readonly X509Certificate[]): Promise<RevocationList[]> {
  const isPem = content.bytes.includes('-----BEGIN ')
  const all = isPem ? blocksIn(content).filter(({ label }) => LABELS.includes(label)).map(({ der }) => der) : [content.bytes]
  if (all.length === 0) throw invalid(content.name, 'holds no revocation list ("-----BEGIN X509 CRL-----", or DER)')
  return await Promise.all(all.map(async (der) => await parse(content.name, der, authorities)))
}

async function parse (source: string, der: Buffer, authorities: readonly X509Certificate[]): Promise<RevocationList> {
  const list = summaryOf(source, der)
  const parsed = strictly(source, der, list.issuer)
  const name = Buffer.from(list.issuerName.toArrayBuffer())
  const isOf = (authority: X509Certificate): boolean => readOr(() => name.equals(derOf(fieldsOf(authority).subject)), false)
  const issuers = authorities.filter(isOf)
  if (issuers.length > 0 && !issuers.some((issuer) => isSignedBy(der, list, issuer))) throw invalid(source, `the revocation list of ${list.issuer} is not signed by the authority of that name`)
  const { thisUpdate, nextUpdate } = parsed
  return {
    source,
    der,
    parsed,
    issuer: list.issuer,
    name,
    fingerprint: createHash('sha256').update(der).digest('hex'),
    thisUpdate,
    nextUpdate,
    isStale: Date.now() < thisUpdate || Date.now() > nextUpdate,
    isOf
  }
}

/**
 * What OpenSSL and other readers may take otherwise is refused: it could revoke any certificate, or none.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
function strictly (source: string, der: Buffer, issuer: string): ParsedList {
  try {
    return readList(der)
  } catch (cause) {
    throw invalid(source, `the revocation list of ${issuer} is not exactly as RFC 5280 §5 has it (DER, version 2 if it has extensions, no default spelled out, no empty list of entries, no extension twice, dates without fractions), so that it is not known which certificates it revokes`, cause)
  }
}

function summaryOf (source: string, der: Buffer): x509.X509Crl {
  let list
  try {
    list = new x509.X509Crl(withoutEntries(der))
  } catch (cause) {
    throw invalid(source, 'holds a revocation list that does not parse (PEM or DER)', cause)
  }
  try {
    createSecureContext({ ca: [], crl: pemOf('X509 CRL', der) })
  } catch (cause) {
    throw invalid(source, `OpenSSL does not take it: ${(cause as Error).message}`, cause)
  }
  return list
}

/**
 * All of a list but what it lists, which may be a million certificates: only OpenSSL reads them. Nothing may follow the
 * list, which Node and OpenSSL would ignore.
 */
function withoutEntries (der: Buffer): Buffer {
  const [tbs, ...signature] = elementsIn(elementOf(der), SEQUENCE)
  const fields = elementsIn(tbs, SEQUENCE)
  // RFC 5280 §5.1: the one sequence after thisUpdate (UTCTime or GeneralizedTime).
  const thisUpdate = fields.findIndex(({ tag }) => tag === 0x17 || tag === 0x18)
  const others = fields.filter(({ tag }, index) => index < thisUpdate || tag !== SEQUENCE)
  return encode(SEQUENCE, encode(SEQUENCE, ...others.map(derOf)), ...signature.map(derOf))
}

/**
 * With OpenSSL, which knows more algorithms than WebCrypto, and by the algorithm of the list: `X509Crl.verify` takes the
 * one of the authority's own certificate.
 */
function isSignedBy (der: Buffer, list: x509.X509Crl, { publicKey }: X509Certificate): boolean {
  const [tbs] = elementsIn(elementOf(der), SEQUENCE)
  const { hash, saltLength } = list.signatureAlgorithm as { hash?: { name: string }, saltLength?: number }
  const key = saltLength === undefined ? publicKey : { key: publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }
  return readOr(() => verify(hash?.name, der.subarray(tbs!.offset, tbs!.end), key, Buffer.from(list.signature)), false)
}
