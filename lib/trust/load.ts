/**
 * Loads client CAs and CRLs from files, and decides which CRLs replace the ones in force. Begin with `loadTrust`. See
 * crl-downloads.ts for CRLs from URLs.
 */
import type { X509Certificate } from 'node:crypto'
import { InvalidCertificatesError } from '../errors.ts'
import { certificatesIn, crlsIn, describe, type FileReader, invalid, type Parsed } from '../files/pem.ts'
import type { Crl } from '../x509/crl.ts'
import { readOr } from '../x509/der.ts'
import { validityOf } from '../x509/fields.ts'
import { parseCertificate, type ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { LabelledCas } from './labels.ts'
import type { TrustOptions } from './options.ts'
import { isAlike, isDelta, isNewer, supersedes } from './revocation.ts'

/** A configured CA. */
export interface ClientCa {
  readonly certificate: X509Certificate
  /** The file or option, for messages. */
  readonly source: string
  readonly label: string | undefined
}

/** A CRL, and the file or URL that it is from. */
export interface SourcedCrl {
  readonly crl: Crl
  readonly source: string
}

/** The result of loading: all of it can be put in force. */
export interface LoadedTrust {
  readonly cas: readonly ClientCa[]
  /** The CAs by label; empty where they have none. The same object as before where nothing has changed. */
  readonly labels: LabelledCas
  readonly crls: readonly SourcedCrl[]
  /** Unusual, but possibly intended: what is missing, and what has changed. See warnings.ts for the rest. */
  readonly warnings: readonly string[]
  /** About CRLs that were not taken, as they have expired or are not valid yet: the earlier ones stay, all else is new. */
  readonly rejected: Error | undefined
}

/** CAs are compared in pairs, so their number is limited; public bundles have 150. */
const MOST = 500

/**
 * Loads and checks CAs and CRLs.
 *
 * @param role the name of content that is not a file, for messages: `clientCertificates`
 * @param before what is in force; a stale CRL does not replace a current one of it
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export async function loadTrust (options: TrustOptions, role: string, reader: FileReader, before?: LoadedTrust): Promise<LoadedTrust> {
  const files = {
    cas: await reader.readAll(options.ca.map(({ source, label }) => ({ source, label, role: label === undefined ? `${role}.ca` : `${role}.ca.${label}` })), certificatesIn),
    crls: await reader.readAll(options.crl.map((source) => ({ source, role: `${role}.crl` })), crlsIn)
  }
  const cas = files.cas.flatMap(checkCas)
  requireUsable(cas, role, before)
  const { crls, missing } = await checkCrls(files.crls, cas, before)
  const replaced = withoutWorse(crls, before?.crls ?? [])
  const labels = before !== undefined && areSameLabels(before.cas, cas) ? before.labels : labelledCasOf(cas)
  return { cas, labels, crls: replaced.crls, warnings: [...missing, ...replaced.warnings], rejected: replaced.rejected }
}

function checkCas ({ label, name, values, error }: Parsed<X509Certificate> & Pick<ClientCa, 'label'>): ClientCa[] {
  if (error !== undefined) throw error
  return values.map((certificate) => {
    // A self-signed client certificate may be trusted by itself; one that a CA issued cannot be an anchor or an issuer.
    if (!certificate.ca && !certificate.checkIssued(certificate)) throw invalid(name, `${describe(certificate)} is no authority (RFC 5280 §4.2.1.9)`)
    return { certificate, source: name, label }
  })
}

function requireUsable (cas: readonly ClientCa[], role: string, before: LoadedTrust | undefined): void {
  if (cas.length > MOST) throw invalid(role, `there are ${cas.length} authorities, more than ${MOST}`)
  const isInForce = before !== undefined && areSameCas(before.cas, cas)
  if (!isInForce && cas.every(({ certificate }) => Date.now() > validityOf(certificate).notAfter)) {
    throw invalid(cas[0]!.source, 'every authority has expired, so that no client certificate could be valid')
  }
}

async function checkCrls (files: ReadonlyArray<Parsed<Crl>>, cas: readonly ClientCa[], before: LoadedTrust | undefined): Promise<{ crls: readonly SourcedCrl[], missing: readonly string[] }> {
  const crls: SourcedCrl[] = []
  const missing: string[] = []
  for (const { name, values, error } of files) {
    if (error !== undefined) {
      // The file may not exist yet. But a CRL that did exist is not forgotten.
      const wasThere = before?.crls.some(({ source }) => source === name) === true
      if (wasThere || (error.cause as NodeJS.ErrnoException | undefined)?.code !== 'ENOENT') throw error
      missing.push(`${error.message}: until it is there, it says nothing`)
    }
    for (const crl of values) {
      await requireSignature(crl, name, cas)
      crls.push({ crl, source: name })
    }
  }
  return { crls, missing }
}

/** One key after the other until one fits: each takes time in proportion to the CRL's size. */
export async function isSignedByAny (crl: Crl, authorities: readonly ParsedCertificate[]): Promise<boolean> {
  for (const authority of authorities) if (await crl.isSignedBy(authority)) return true
  return false
}

/** A CRL that names one of our CAs as its issuer, but is not signed by it, is a mistake or a forgery. */
async function requireSignature (crl: Crl, source: string, cas: readonly ClientCa[]): Promise<void> {
  const named = cas.flatMap(({ certificate }) => readOr(() => [parseCertificate(certificate)], [])).filter((parsed) => parsed.subject === crl.issuer && crl.namesIssuer(parsed))
  if (named.length > 0 && !await isSignedByAny(crl, named)) throw invalid(source, `the revocation list of ${crl.issuerName} is not signed by the authority of that name`)
}

/**
 * A stale CRL never replaces a current one of the same issuer and scope; an older one does, with a warning, because the
 * administrator decides. What a delta CRL has revoked stays revoked, even without its file, until a newer CRL says
 * otherwise.
 */
function withoutWorse (read: readonly SourcedCrl[], before: readonly SourcedCrl[]): Pick<LoadedTrust, 'crls' | 'warnings' | 'rejected'> {
  const isKnown = ({ crl }: SourcedCrl): boolean => before.some((other) => other.crl.fingerprint === crl.fingerprint)
  const replacedBy = ({ crl }: SourcedCrl): SourcedCrl[] => before.filter((other) => isAlike(other.crl, crl) && isDelta(other.crl) === isDelta(crl))
  const worse = read.filter((each) => isStale(each.crl) && !isKnown(each) && replacedBy(each).some(({ crl }) => !isStale(crl)))
  const better = read.filter((each) => !worse.includes(each))
  const gone = before.filter(({ crl }) => !better.some((each) => each.crl.fingerprint === crl.fingerprint))
  const kept = new Set(worse.flatMap(replacedBy).filter((each) => gone.includes(each)))
  const lasting = gone.filter((each) => !kept.has(each) && isDelta(each.crl) && each.crl.unusable === undefined && !better.some(({ crl }) => supersedes(crl, each.crl)))
  const lost = gone.filter((each) => !kept.has(each) && !isDelta(each.crl) && !better.some(({ crl }) => isAlike(crl, each.crl) && !isDelta(crl)))
  const older = better.filter((each) => !isKnown(each) && replacedBy(each).some(({ crl }) => isNewer(crl, each.crl)))
  return {
    crls: [...better, ...kept, ...lasting],
    warnings: [
      ...better.filter(({ crl }) => Date.now() < crl.thisUpdate).map((each) => `${each.source}: ${stalenessOf(each)}`),
      ...older.map(({ crl, source }) => `${source}: the revocation list of ${crl.issuerName} is older than the one before: what was revoked since counts again`),
      ...lost.map(({ crl, source }) => `${source}: the revocation list of ${crl.issuerName} is not there any more: what it revoked counts as unknown`)
    ],
    rejected: worse.length === 0 ? undefined : new KeptCrlError(worse.map((each) => `${each.source}: ${stalenessOf(each)}; the one before stays in force`).join('. '))
  }
}

/** Everything that was loaded is in force, except for stale CRLs: the ones before stay in their place. */
class KeptCrlError extends InvalidCertificatesError {
  /** A property, because `instanceof` compares the error code. */
  readonly isAllElseInForce = true
}

/** Whether an error is only about such CRLs. */
export function isAllElseInForce (error: Error): boolean {
  return 'isAllElseInForce' in error
}

function isStale ({ thisUpdate, nextUpdate }: Crl): boolean {
  return Date.now() < thisUpdate || Date.now() > nextUpdate
}

function stalenessOf ({ crl: { issuerName, thisUpdate, nextUpdate } }: SourcedCrl): string {
  return Date.now() < thisUpdate
    ? `the revocation list of ${issuerName} is not valid before ${new Date(thisUpdate).toUTCString()}`
    : `the revocation list of ${issuerName} is out of date since ${new Date(nextUpdate).toUTCString()}`
}

/** Whether the certificates are the same, in any order and from any source. */
export function areSameCas (one: readonly ClientCa[], other: readonly ClientCa[]): boolean {
  return isSameSet(one.map(fingerprintOf), other.map(fingerprintOf))
}

/** Whether the certificates are the same, and have the same labels. */
function areSameLabels (one: readonly ClientCa[], other: readonly ClientCa[]): boolean {
  const labelled = (ca: ClientCa): string => `${fingerprintOf(ca)} ${ca.label ?? ''}`
  return isSameSet(one.map(labelled), other.map(labelled))
}

function labelledCasOf (cas: readonly ClientCa[]): LabelledCas {
  const byLabel = new Map<string, X509Certificate[]>()
  for (const { certificate, label } of cas) {
    if (label !== undefined) byLabel.set(label, [...byLabel.get(label) ?? [], certificate])
  }
  return byLabel
}

function fingerprintOf ({ certificate }: ClientCa): string {
  return certificate.fingerprint256
}

function isSameSet (one: readonly string[], other: readonly string[]): boolean {
  const [ours, theirs] = [new Set(one), new Set(other)]
  return ours.size === theirs.size && [...ours].every((each) => theirs.has(each))
}
