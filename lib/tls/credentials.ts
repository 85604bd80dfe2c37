/** A certificate for the server with its chain and its key, checked before anybody meets it in a handshake. */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { rootCertificates } from 'node:tls'
import type { Ending } from '../files/expiry.ts'
import { certificatesIn, type Content, describe, type FileOrContent, type FileReader, invalid, locate, type Located, ordinal, pathOf, pemOf } from '../files/pem.ts'
import { formatName, issuerOf } from '../x509/distinguished-names.ts'
import { validityOf } from '../x509/fields.ts'
import type { DevelopmentCertificates, DevelopmentCertificatesOptions } from './development/certificates.ts'
import { hostsOf } from './host-names.ts'
import { privateKeyIn } from './private-key.ts'

export interface CertificateOptions<From = FileOrContent> {
  /** PEM: the server's own certificate, then the intermediates, each issued by the next one. */
  readonly cert?: From
  /** PEM: its private key. */
  readonly key?: From
  /** PKCS #12 (RFC 7292), instead of `cert` and `key`. */
  readonly pfx?: From
  /** What an encrypted key or a PFX is opened with. */
  readonly passphrase?: string
}

export interface KeyPair {
  /** For Node: PEM, the key in clear. */
  readonly cert: string
  readonly key: string
  /** Leaf first. */
  readonly chain: readonly [X509Certificate, ...X509Certificate[]]
  /** What it is good for: names in lower case, wildcards, addresses. */
  readonly hosts: readonly string[]
  /** Only one key of a kind can be offered in a handshake. */
  readonly keyKind: 'RSA' | 'RSA-PSS' | 'EC' | 'Ed25519' | 'Ed448'
  /** The name of the file. */
  readonly source: string
  /** The same for the same certificates and key: SHA-256, in hex. */
  readonly fingerprint: string
  /** What it was read from. */
  readonly contents: readonly Content[]
  /** What is odd, but may be meant. */
  readonly warnings: readonly string[]
}

/** RFC 5280 §4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const ANY_USAGE = '2.5.29.37.0'

/**
 * Reads and checks one. What has not changed since is the same object.
 *
 * @param role what to call content that is no file: `certificates[0]`
 * @param before the one from the same place that is in force, whose chain a new one should not fall short of
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
async function readKeyPair ({ cert, key, pfx, passphrase }: CertificateOptions<Located>, role: string, reader: FileReader, before?: KeyPair): Promise<KeyPair> {
  const contents = pfx === undefined
    ? [await reader.read(cert!, `${role}.cert`), await reader.read(key!, `${role}.key`)] as const
    : [await reader.read(pfx, `${role}.pfx`)] as const
  if (before !== undefined && contents.every((content, index) => content === before.contents[index])) return before
  return keyPairOf(contents.length === 1 ? await openPfx(contents[0], passphrase) : openPair(contents[0], contents[1], passphrase), contents, before)
}

function keyPairOf ({ name, chain, key }: Pair, contents: readonly Content[], before: KeyPair | undefined): KeyPair {
  const [leaf] = chain
  requireOrder(name, chain)
  const cert = chain.map(({ raw }) => pemOf('CERTIFICATE', raw)).join('')
  // What is in force may come to its end there: that is no reason to keep others' successors away.
  if (cert !== before?.cert) requireDates(name, chain)
  requireUsage(name, leaf)
  requireWhole(name, chain, before)
  const hosts = hostsOf(leaf)
  const pem = String(key.export({ type: 'pkcs8', format: 'pem' }))
  return Object.freeze({
    cert,
    key: pem,
    chain,
    hosts,
    keyKind: keyKindOf(key),
    source: name,
    fingerprint: createHash('sha256').update(cert).update(pem).digest('hex'),
    contents,
    warnings: [
      ...(hosts.length === 0 ? [`${name}: names no host, so that no client takes it for one`] : []),
      ...(isAnchored(chain) ? [] : [`${name}: the chain ends with ${describe(chain.at(-1)!)}, whose issuer ${formatName(issuerOf(chain.at(-1)!))} is not in the file and no public root: clients have to know it`])
    ]
  })
}

interface Pair { name: string, chain: KeyPair['chain'], key: KeyObject }

function openPair (cert: Content, keyContent: Content, passphrase: string | undefined): Pair {
  const chain = certificatesIn(cert) as [X509Certificate, ...X509Certificate[]]
  const key = privateKeyIn(keyContent, passphrase)
  if (!chain[0].checkPrivateKey(key)) {
    const owner = chain.findIndex((certificate) => certificate.checkPrivateKey(key))
    throw owner === -1
      ? invalid(keyContent.name, `is not the key of ${cert.name} (${describe(chain[0])})`)
      : invalid(cert.name, `has the server's own certificate in the ${ordinal(owner)} place: it has to come first, then the one that issued it, and so on`)
  }
  return { name: cert.name, chain, key }
}

async function openPfx ({ name, bytes }: Content, passphrase = ''): Promise<Pair> {
  // The libraries take longer to load than all else here.
  const { unpackPfx } = await import('./pfx.ts')
  try {
    const { cert, key } = await unpackPfx(bytes, passphrase)
    return { name, chain: certificatesIn({ name, bytes: Buffer.from(cert) }) as [X509Certificate, ...X509Certificate[]], key: createPrivateKey(key) }
  } catch (cause) {
    throw invalid(name, (cause as Error).message, cause)
  }
}

function keyKindOf ({ asymmetricKeyType }: KeyObject): KeyPair['keyKind'] {
  switch (asymmetricKeyType) {
    case 'rsa': return 'RSA'
    case 'rsa-pss': return 'RSA-PSS'
    case 'ed25519': return 'Ed25519'
    case 'ed448': return 'Ed448'
    default: return 'EC'
  }
}

/** Clients verify a chain in any order, most of them: not all (RFC 5246 §7.4.2). */
function requireOrder (name: string, chain: KeyPair['chain']): void {
  for (const [index, certificate] of chain.entries()) {
    const next = chain[index + 1]
    if (next === undefined || isIssuedBy(certificate, next)) continue
    throw invalid(name, `is not a chain: its ${ordinal(index + 1)} certificate (${describe(next)}) did not issue its ${ordinal(index)} (${describe(certificate)})`)
  }
}

function requireDates (name: string, chain: KeyPair['chain']): void {
  const now = Date.now()
  for (const certificate of chain) {
    const { notBefore, notAfter } = validityOf(certificate)
    if (now > notAfter) throw invalid(name, `${describe(certificate)} has expired, on ${new Date(notAfter).toUTCString()}`)
    if (!(now >= notBefore)) throw invalid(name, `${describe(certificate)} is not valid before ${certificate.validFrom}`)
  }
}

function requireUsage (name: string, leaf: X509Certificate): void {
  // Node's types have it as text; it is a list of extended key usages, or undefined.
  const usages = leaf.keyUsage as unknown as readonly string[] | undefined
  if (usages === undefined || usages.includes(SERVER_AUTH) || usages.includes(ANY_USAGE)) return
  throw invalid(name, `${describe(leaf)} is not for servers: its extended key usage has no serverAuth`)
}

/** A chain that lost an intermediate, as when only the leaf was renewed, is refused by clients that do not have it. */
function requireWhole (name: string, chain: KeyPair['chain'], before: KeyPair | undefined): void {
  const last = chain.at(-1)!
  const missing = before?.chain.find((certificate) => !isIssuedBy(certificate, certificate) && isIssuedBy(last, certificate))
  if (missing !== undefined) throw invalid(name, `lacks an intermediate certificate that the chain in force has: ${describe(missing)}`)
}

/** Whether clients can be expected to know who issued the last certificate. */
function isAnchored (chain: KeyPair['chain']): boolean {
  const last = chain.at(-1)!
  return isIssuedBy(last, last) || publicRoots().some((root) => isIssuedBy(last, root))
}

let roots: readonly X509Certificate[] | undefined
function publicRoots (): readonly X509Certificate[] {
  roots ??= rootCertificates.map((root) => new X509Certificate(root))
  return roots
}

/** The first compares names and key identifiers, the second the signature. */
function isIssuedBy (certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

/** The certificates of a TLS server, read and checked together. */

/** Where the server's own certificates come from. */
export type CertificateSource =
  | { readonly certificates: ReadonlyArray<CertificateOptions<Located>>, readonly development?: undefined }
  | { readonly development: DevelopmentCertificatesOptions }

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
  const { developmentCertificates } = await import('./development/certificates.ts')
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
