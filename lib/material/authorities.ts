/** Who issues client certificates, and which of them were revoked. */
import { createHash, type X509Certificate } from 'node:crypto'
import { validityOf } from '../certificate/fields.ts'
import { InvalidCertificatesError } from '../errors.ts'
import { certificatesIn, describe, pemOf } from './pem.ts'
import { invalid, type Located, read, type Source } from './source.ts'
import { type RevocationList, isBeside, outOfDate, stalenessOf } from './revocation-list.ts'

export interface ClientCertificatesOptions<From = Source> {
  /** PEM: the authorities that issue client certificates, roots included. */
  readonly ca: From | readonly From[]
  /** Certificate revocation lists (RFC 5280 §5), in PEM, several in a file too, or in DER. */
  readonly crl?: From | readonly From[]
}

/** All that was read is in force, but for lists in whose places the ones before are. */
class KeptListError extends InvalidCertificatesError {
  /** `instanceof` goes by the code. */
  readonly isAllElseInForce = true
}

/** Whether an error is about such lists alone. */
export function isAllElseInForce (error: Error): boolean {
  return 'isAllElseInForce' in error
}

/** Authorities are compared with each other; public bundles have 150. */
const MOST = 500

/** Whom the server trusts for clients. */
export interface ClientTrust {
  /** PEM, one item each: of a text with several lists, Node reads only the first. */
  readonly ca: readonly string[]
  readonly crl: readonly string[]
  readonly revocations: readonly RevocationList[]
  readonly authorities: ReadonlyArray<{ readonly certificate: X509Certificate, readonly source: string }>
  /** What is odd, but may be meant. */
  readonly warnings: readonly string[]
  /** The same for the same authorities and lists, in any order. */
  readonly fingerprint: string
  /** A new list that was not taken, as it is out of date or has not begun: the one before was, and all else. */
  readonly rejected: Error | undefined
  /** Every authority that there ever was, by fingerprint. */
  readonly known: ReadonlyMap<string, X509Certificate>
}

/** Without `ca`, Node trusts the public roots: with an empty list, nobody. */
export const NOBODY: ClientTrust = Object.freeze({ ca: [], crl: [], authorities: [], warnings: [], revocations: [], fingerprint: 'nobody', rejected: undefined, known: new Map<string, X509Certificate>() })

/**
 * Reads and checks authorities and lists.
 *
 * @param role what to call content that is no file: `clientCertificates`
 * @param before what is in force: a list that is out of date does not replace another one, and all else is read anew
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export async function readClientTrust (options: ClientCertificatesOptions<Located>, role: string, before?: ClientTrust): Promise<ClientTrust> {
  const authorities = await readAuthorities(listOf(options.ca), role, before)
  const sources = options.crl === undefined ? [] : listOf(options.crl)
  const known = new Map([...before?.known ?? [], ...authorities.map(({ certificate }) => [certificate.fingerprint256, certificate] as const)])
  const all = sources.length === 0 ? [] : await readLists(sources, role, authorities)
  const wanted = all.filter((list) => !isOrphaned(list, authorities, known))
  // Without any list, OpenSSL would check no revocation at all.
  const { lists, rejected } = withoutWorse(wanted.length > 0 ? wanted : all, before?.revocations ?? [])
  const stale = lists.filter(({ isStale }) => isStale)
  return Object.freeze({
    ca: authorities.map(({ certificate }) => pemOf('CERTIFICATE', certificate.raw)),
    crl: lists.map(({ der }) => pemOf('X509 CRL', der)),
    revocations: lists,
    authorities,
    warnings: [
      ...rootless(authorities),
      ...stale.map(outOfDate),
      ...(lists.length === 0 ? [] : listless(authorities, lists))
    ],
    fingerprint: fingerprintOf(authorities, lists),
    rejected,
    known
  })
}

/** Nobody's list is replaced by one that would have all of their clients refused. */
function withoutWorse (lists: readonly RevocationList[], before: readonly RevocationList[]): { lists: readonly RevocationList[], rejected: Error | undefined } {
  const isKnown = (list: RevocationList): boolean => before.some(({ fingerprint }) => fingerprint === list.fingerprint)
  const worse = lists.filter((list) => list.isStale && !isKnown(list) && before.some((other) => isBeside(other, list)))
  if (worse.length === 0) return { lists, rejected: undefined }
  const better = lists.filter((list) => !worse.includes(list))
  const kept = before.filter((list) => worse.some((other) => isBeside(other, list)) && !better.some(({ fingerprint }) => fingerprint === list.fingerprint))
  return { lists: [...better, ...kept], rejected: new KeptListError(worse.map((list) => `${list.source}: ${stalenessOf(list)}; the one before stays in force`).join('. ')) }
}

async function readAuthorities (sources: readonly Located[], role: string, before: ClientTrust | undefined): Promise<ClientTrust['authorities']> {
  const authorities = []
  for (const source of sources) {
    const content = await read(source, `${role}.ca`)
    const certificates = certificatesIn(content)
    for (const certificate of certificates) {
      // A client's own certificate may be trusted by itself; one that somebody else issued vouches for nobody.
      if (!certificate.ca && !certificate.checkIssued(certificate)) throw invalid(content.name, `${describe(certificate)} is no authority (RFC 5280 §4.2.1.9)`)
      authorities.push({ certificate, source: content.name })
    }
  }
  if (authorities.length > MOST) throw invalid(role, `there are ${authorities.length} authorities, more than ${MOST}`)
  const isInForce = before?.ca.join('') === authorities.map(({ certificate }) => pemOf('CERTIFICATE', certificate.raw)).join('')
  if (!isInForce && authorities.every(({ certificate }) => Date.now() > validityOf(certificate).notAfter)) {
    throw invalid(authorities[0]!.source, 'every authority has expired, so that no client certificate could be valid')
  }
  return authorities
}

async function readLists (sources: readonly Located[], role: string, authorities: ClientTrust['authorities']): Promise<RevocationList[]> {
  // The libraries take longer to load than all else here.
  const { revocationListsIn } = await import('./revocation.ts')
  const lists: RevocationList[] = []
  for (const source of sources) lists.push(...await revocationListsIn(await read(source, `${role}.crl`), authorities.map(({ certificate }) => certificate)))
  return lists
}

/**
 * The list of an authority that was taken out. OpenSSL would hold it against certificates of that authority, whose key it
 * does not have any more, and Node takes the failure for one of the connection: their holders would be hung up on instead
 * of being told that nobody trusts them.
 */
function isOrphaned (list: RevocationList, authorities: ClientTrust['authorities'], known: ClientTrust['known']): boolean {
  if (authorities.some(({ certificate }) => list.isOf(certificate))) return false
  const owner = [...known.values()].find((certificate) => list.isOf(certificate))
  return owner !== undefined && !leadsTo(authorities, owner, new Set(known.values()))
}

/** Whether somebody who is trusted has issued a certificate, or the one of its issuer, and so on. */
function leadsTo (authorities: ClientTrust['authorities'], certificate: X509Certificate, left: Set<X509Certificate>): boolean {
  // Once each: authorities of one name may seem to have issued each other.
  left.delete(certificate)
  return authorities.some((authority) => certificate.checkIssued(authority.certificate)) ||
    [...left].some((issuer) => left.has(issuer) && certificate.checkIssued(issuer) && leadsTo(authorities, issuer, left))
}

/** OpenSSL wants the whole chain, up to a root. */
function rootless (authorities: ClientTrust['authorities']): string[] {
  return authorities
    .filter(({ certificate }) => !authorities.some((other) => certificate.checkIssued(other.certificate)))
    .map(({ certificate, source }) => `${source}: the issuer of ${describe(certificate)} is not among the authorities: its clients are refused`)
}

function listless (authorities: ClientTrust['authorities'], lists: readonly RevocationList[]): string[] {
  return authorities
    .filter(({ certificate }) => certificate.ca && !lists.some(({ isOf }) => isOf(certificate)))
    .map(({ certificate, source }) => `${source}: no revocation list of ${describe(certificate)} was given, but others were: its clients are refused, whether revoked or not`)
}

function fingerprintOf (authorities: ClientTrust['authorities'], lists: readonly RevocationList[]): string {
  const parts = [...authorities.map(({ certificate }) => certificate.fingerprint256), ...lists.map(({ fingerprint }) => fingerprint)]
  return createHash('sha256').update([...new Set(parts)].sort().join()).digest('hex')
}

function listOf (sources: Located | readonly Located[]): readonly Located[] {
  return Array.isArray(sources) ? sources : [sources as Located]
}
