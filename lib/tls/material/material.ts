/** The certificates of a TLS server, read and checked together. */
import { createHash } from 'node:crypto'
import type { Ending } from '../../material/expiry.ts'
import { locate, pathOf, type FileReader } from '../../material/source.ts'
import type { DevelopmentCertificates } from '../development/certificates.ts'
import type { CertificateSource } from '../options.ts'
import { type KeyPair, readKeyPair } from './identity.ts'

export interface Certificates {
  /** The first one is for clients that name no host, or none of ours. */
  readonly keyPairs: readonly [KeyPair, ...KeyPair[]]
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
export async function readCertificates (source: CertificateSource, reader: FileReader, before?: Certificates): Promise<Certificates> {
  const { entries, development } = await certificatesOf(source)
  const keyPairs: KeyPair[] = []
  for (const [index, entry] of entries.entries()) {
    keyPairs.push(await readKeyPair(entry, `certificates[${index}]`, reader, before?.keyPairs[index]))
  }
  const fingerprint = createHash('sha256').update(keyPairs.map((keyPair) => keyPair.fingerprint).join()).digest('hex')
  return Object.freeze({ keyPairs: keyPairs as [KeyPair, ...KeyPair[]], development, fingerprint })
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
export function endingIn ({ keyPairs }: Certificates): Ending {
  return { certificates: keyPairs.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))), crls: [] }
}
