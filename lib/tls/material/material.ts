/** All that a TLS server needs to be told, read and checked together. */
import type { DevelopmentCertificates } from '../development/certificates.ts'
import type { CertificateSource, TlsOptions } from '../options.ts'
import { derOf, readOr } from '../../certificate/der.ts'
import { fieldsOf } from '../../certificate/fields.ts'
import { type ClientCertificatesOptions, type ClientTrust, NOBODY, readClientTrust } from '../../material/authorities.ts'
import type { Ending } from '../../material/expiry.ts'
import { type Identity, readIdentity } from './identity.ts'
import { invalid, locate, type Located, pathOf } from '../../material/source.ts'

export interface Material {
  /** The first one is for clients that name no host, or none of ours. */
  readonly identities: readonly [Identity, ...Identity[]]
  readonly trust: TrustByHost
  readonly development: DevelopmentCertificates | undefined
}

/** Whom a client has to be vouched for by, which may depend on the host it asks for. */
export interface TrustByHost {
  readonly otherwise: ClientTrust
  readonly byHost: ReadonlyMap<string, ClientTrust>
}

/**
 * Reads everything anew.
 *
 * @param before what is in force: nothing worse may replace it
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES
 */
export async function readMaterial (options: TlsOptions, before?: Material): Promise<Material> {
  const { entries, development } = await certificatesOf(options.source)
  const identities: Identity[] = []
  for (const [index, entry] of entries.entries()) {
    identities.push(await readIdentity(entry, `certificates[${index}]`, before?.identities[index]))
  }
  return Object.freeze({
    identities: identities as [Identity, ...Identity[]],
    trust: await readTrust(options, development, before?.trust),
    development
  })
}

async function certificatesOf (source: CertificateSource) {
  if (source.development === undefined) return { entries: source.certificates, development: undefined }
  const { developmentCertificates } = await import('../development/certificates.ts')
  const development = await developmentCertificates(source.development)
  return { entries: [{ cert: locate(development.files.serverCert), key: locate(development.files.serverKey) }], development }
}

async function readTrust ({ clientCertificates }: TlsOptions, development: DevelopmentCertificates | undefined, before: TrustByHost | undefined): Promise<TrustByHost> {
  // Of hosts by name, those that are not named trust nobody.
  const fallback = development !== undefined && clientCertificates.byHost.size === 0 ? { ca: locate(development.files.ca) } : undefined
  const otherwise = clientCertificates.otherwise ?? fallback
  const byHost = new Map<string, ClientTrust>()
  for (const [host, trust] of clientCertificates.byHost) {
    byHost.set(host, await readTrustOf(trust, `clientCertificates['${host}']`, before?.byHost.get(host)))
  }
  return Object.freeze({
    otherwise: otherwise === undefined ? NOBODY : await readTrustOf(otherwise, 'clientCertificates', before?.otherwise),
    byHost
  })
}

/** Octets. A server that asks for a certificate says whose it takes: each name with its length, which has two octets. */
const MOST_NAMES = 65_535

async function readTrustOf (options: ClientCertificatesOptions<Located>, role: string, before: ClientTrust | undefined): Promise<ClientTrust> {
  const trust = await readClientTrust(options, role, before)
  const octets = trust.authorities.reduce((sum, { certificate }) => sum + 2 + readOr(() => derOf(fieldsOf(certificate).subject).length, 0), 0)
  if (octets <= MOST_NAMES) return trust
  throw invalid(role, `the names of the ${trust.authorities.length} authorities have ${octets} bytes with their lengths, and the CertificateRequest of a handshake holds ${MOST_NAMES} (RFC 5246 §7.4.4, RFC 8446 §4.2.4): every handshake would fail`)
}

/** The files it was read from, as absolute paths. */
export function filesOf ({ source, clientCertificates: { otherwise, byHost } }: TlsOptions, { development }: Material): readonly string[] {
  const own = source.development === undefined
    ? source.certificates.flatMap(({ cert, key, pfx }) => [cert, key, pfx])
    : [development!.files.serverCert, development!.files.serverKey, development!.files.ca]
  const clients = [otherwise, ...byHost.values()].flatMap((trust) => [trust?.ca, trust?.crl].flat() as Located[])
  return [...own, ...clients].flatMap((each) => each === undefined ? [] : pathOf(each) ?? [])
}

/** What was not taken over of all that was read. */
export function rejectedIn ({ otherwise, byHost }: TrustByHost): Error | undefined {
  return [otherwise, ...byHost.values()].map(({ rejected }) => rejected).find((error) => error !== undefined)
}

/** Every certificate and list that a server depends on: its own, their issuers, the clients' authorities, and their lists. */
export function endingIn ({ identities, trust }: Material): Ending {
  const trusts = trustsIn(trust)
  return {
    certificates: [
      ...identities.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))),
      ...trusts.flatMap(({ authorities }) => authorities)
    ],
    lists: trusts.flatMap(({ revocations }) => revocations)
  }
}

/** Every trust there is, each once. */
export function trustsIn ({ otherwise, byHost }: TrustByHost): readonly ClientTrust[] {
  return [...new Map([otherwise, ...byHost.values()].map((trust) => [trust.fingerprint, trust])).values()]
}
