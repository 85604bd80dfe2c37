/**
 * The server's credentials: certificate chain and private key of each host, read and checked before a handshake uses
 * them. Begin with `readCertificates`. PEM is parsed in files/pem.ts, PFX in pfx.ts, encrypted keys in private-key.ts.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { rootCertificates } from 'node:tls'
import type { Ending } from '../files/expiry.ts'
import { certificatesIn, type Content, describe, type FileOrContent, type FileReader, invalid, locate, type Located, ordinal, pathOf, pemOf } from '../files/pem.ts'
import { formatName, issuerOf } from '../x509/distinguished-names.ts'
import { validityOf } from '../x509/fields.ts'
import type { DevelopmentCertificates, DevelopmentCertificatesOptions } from './development/certificates.ts'
import { hostsOf } from './host-names.ts'
import { privateKeyIn } from './private-key.ts'

/** One certificate of the server: `cert` and `key`, or `pfx`. Each is a path, PEM text, or a Buffer. */
export interface CertificateOptions<From = FileOrContent> {
  /**
   * The certificate chain in PEM (RFC 7468): the server's own certificate first, then its intermediates, each one
   * issued by the next one. The root may be left out.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES the order is wrong, a certificate is out of date or not for servers,
   * or the key belongs to another one
   */
  readonly cert?: From | undefined
  /**
   * The private key in PEM: PKCS #8 (RFC 5958), or the older forms of RSA and EC keys; encrypted or not.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES it cannot be read, or opening it takes more than 5 million
   * iterations (scrypt: N × r × p)
   */
  readonly key?: From | undefined
  /**
   * Chain and private key in one file: PFX, that is PKCS #12 (RFC 7292), in DER or BER. Instead of `cert` and `key`.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES it cannot be read, or opening it takes more than 5 million
   * iterations
   */
  readonly pfx?: From | undefined
  /**
   * Opens an encrypted `key` or `pfx`.
   *
   * @default none for a key; the empty string for a PFX
   */
  readonly passphrase?: string | undefined
}

/** Where the server's certificates come from. */
export type CertificateSource =
  | { readonly certificates: ReadonlyArray<CertificateOptions<Located>>, readonly development?: undefined }
  | { readonly development: DevelopmentCertificatesOptions }

/** All key pairs and chains of a server. Frozen. */
export interface Certificates {
  /** The first one is for clients that send no SNI, or a host that no certificate covers. */
  readonly keyPairs: readonly [KeyPair, ...KeyPair[]]
  readonly development: DevelopmentCertificates | undefined
  /** SHA-256 of all chains and keys, in hex. */
  readonly fingerprint: string
}

/** A key pair and chain that passed all checks. Frozen. */
export interface KeyPair {
  /** For Node: the chain in PEM. */
  readonly cert: string
  /** For Node: the private key in PEM, not encrypted. */
  readonly key: string
  /** Leaf first. */
  readonly chain: readonly [X509Certificate, ...X509Certificate[]]
  /** The hosts that the certificate covers: DNS names in lower case, wildcards, IP addresses. */
  readonly hosts: readonly string[]
  /** OpenSSL can offer only one key of each kind in a handshake. */
  readonly keyKind: 'RSA' | 'RSA-PSS' | 'EC' | 'Ed25519' | 'Ed448'
  /** The path of the file as it was written in the options, or the name of the option for content. */
  readonly source: string
  /** SHA-256 of chain and key, in hex. */
  readonly fingerprint: string
  /** The content that it was read from, to see whether it has changed. */
  readonly contents: readonly Content[]
  /** Unusual, but possibly intended: for the log. */
  readonly warnings: readonly string[]
}

/**
 * Reads and checks all certificates of a server. Files that have not changed are not read again.
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

/** The files to watch, as absolute paths. */
export function filesOf (source: CertificateSource, { development }: Certificates): readonly string[] {
  const own = source.development === undefined
    ? source.certificates.flatMap(({ cert, key, pfx }) => [cert, key, pfx])
    : [development!.files.serverCert, development!.files.serverKey, development!.files.ca]
  return own.flatMap((each) => each === undefined ? [] : typeof each === 'string' ? [each] : pathOf(each) ?? [])
}

/** Every certificate whose end has to be warned of: the server's own ones and their issuers. */
export function endingIn ({ keyPairs }: Certificates): Ending {
  return { certificates: keyPairs.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))), crls: [] }
}

// One key pair and chain: reading and checking

/** Extended key usages (RFC 5280 §4.2.1.12). */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const ANY_USAGE = '2.5.29.37.0'

/**
 * Reads and checks one key pair and chain. If nothing has changed, the same object is returned.
 *
 * @param role the name in messages for content without a path: `certificates[0]`
 * @param before the key pair of the same place that is in force; a new chain must not lack one of its intermediates
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
async function readKeyPair ({ cert, key, pfx, passphrase }: CertificateOptions<Located>, role: string, reader: FileReader, before?: KeyPair): Promise<KeyPair> {
  const contents = pfx === undefined
    ? [await reader.read(cert!, `${role}.cert`), await reader.read(key!, `${role}.key`)] as const
    : [await reader.read(pfx, `${role}.pfx`)] as const
  if (before !== undefined && contents.every((content, index) => content === before.contents[index])) return before
  return keyPairOf(contents.length === 1 ? await openPfx(contents[0], passphrase) : openPair(contents[0], contents[1], passphrase), contents, before)
}

function keyPairOf ({ name, chain, key }: OpenedKeyPair, contents: readonly Content[], before: KeyPair | undefined): KeyPair {
  const [leaf] = chain
  requireOrder(name, chain)
  const cert = chain.map(({ raw }) => pemOf('CERTIFICATE', raw)).join('')
  // A certificate that is in force may expire there: that must not stop the renewal of the others.
  if (cert !== before?.cert) requireDates(name, chain)
  requireUsage(name, leaf)
  requireCompleteChain(name, chain, before)
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
      ...(hasKnownIssuer(chain) ? [] : [`${name}: the chain ends with ${describe(chain.at(-1)!)}, whose issuer ${formatName(issuerOf(chain.at(-1)!))} is not in the file and no public root: clients have to know it`])
    ]
  })
}

interface OpenedKeyPair { name: string, chain: KeyPair['chain'], key: KeyObject }

function openPair (cert: Content, keyContent: Content, passphrase: string | undefined): OpenedKeyPair {
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

async function openPfx ({ name, bytes }: Content, passphrase = ''): Promise<OpenedKeyPair> {
  // Imported only if needed: the PKCS #12 libraries take longer to load than everything else here.
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

/** Most clients accept a chain in any order, but not all of them do (RFC 5246 §7.4.2). */
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
  // Node's types say string, but it is a list of extended key usages, or undefined.
  const usages = leaf.keyUsage as unknown as readonly string[] | undefined
  if (usages === undefined || usages.includes(SERVER_AUTH) || usages.includes(ANY_USAGE)) return
  throw invalid(name, `${describe(leaf)} is not for servers: its extended key usage has no serverAuth`)
}

/** If an intermediate is lost, as when only the leaf was renewed, clients without it refuse the chain. */
function requireCompleteChain (name: string, chain: KeyPair['chain'], before: KeyPair | undefined): void {
  const last = chain.at(-1)!
  const missing = before?.chain.find((certificate) => !isIssuedBy(certificate, certificate) && isIssuedBy(last, certificate))
  if (missing !== undefined) throw invalid(name, `lacks an intermediate certificate that the chain in force has: ${describe(missing)}`)
}

/**
 * Whether clients can be expected to know the issuer of the last certificate: it is self-signed, or a public root
 * issued it.
 */
function hasKnownIssuer (chain: KeyPair['chain']): boolean {
  const last = chain.at(-1)!
  return isIssuedBy(last, last) || publicRoots().some((root) => isIssuedBy(last, root))
}

let roots: readonly X509Certificate[] | undefined
function publicRoots (): readonly X509Certificate[] {
  roots ??= rootCertificates.map((root) => new X509Certificate(root))
  return roots
}

/** `checkIssued` compares names and key identifiers, `verify` checks the signature. */
function isIssuedBy (certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}
