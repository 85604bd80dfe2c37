/** The certificates of a TLS server, read and checked together. */
import { createHash } from 'node:crypto'
import type { Ending } from '../../material/expiry.ts'
import { locate, pathOf, type SourceReader } from '../../material/source.ts'
import type { DevelopmentCertificates } from '../development/certificates.ts'
import type { CertificateSource } from '../options.ts'
import { type Identity, readIdentity } from './identity.ts'

export interface Certificates {
  /** The first one is for clients that name no host, or none of ours. */
  readonly identities: readonly [Identity, ...Identity[]]
  readonly development: DevelopmentCertificates | undefined
  /** The same for the same certificates and keys. */
  readonly fingerprint: string
}

/**
 * Reads what has changed.
 *
 * @param before what is in force: nothing worse may replace it
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES
 */
export async function readCertificates (source: CertificateSource, reader: SourceReader, before?: Certificates): Promise<Certificates> {
  const { entries, development } = await certificatesOf(source)
  const identities: Identity[] = []
  for (const [index, entry] of entries.entries()) {
    identities.push(await readIdentity(entry, `certificates[${index}]`, reader, before?.identities[index]))
  }
  const fingerprint = createHash('sha256').update(identities.map((identity) => identity.fingerprint).join()).digest('hex')
  return Object.freeze({ identities: identities as [Identity, ...Identity[]], development, fingerprint })
}

async function certificatesOf (source: CertificateSource) {
  if (source.development === undefined) return { entries: source.certificates, development: undefined }
  const { developmentCertificates } = await import('../development/certificates.ts')
  const development = await developmentCertificates(source.development)
  return { entries: [{ cert: locate(development.files.serverCert), key: locate(development.files.serverKey) }], development }
}

/** The files they were read from, as absolute paths. */
export function filesOf (source: CertificateSource, { development }: Certificates): readonly string[] {
  const own = source.development === undefined
    ? source.certificates.flatMap(({ cert, key, pfx }) => [cert, key, pfx])
    : [development!.files.serverCert, development!.files.serverKey, development!.files.ca]
  return own.flatMap((each) => each === undefined ? [] : typeof each === 'string' ? [each] : pathOf(each) ?? [])
}

/** Every certificate that a server depends on: its own, and their issuers. */
export function endingIn ({ identities }: Certificates): Ending {
  return { certificates: identities.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))), crls: [] }
}
