/**
 * The server's credentials: certificate chain and private key of each host, read and checked before a handshake uses
 * them. Begin with `readCertificates`. PEM is parsed in files/pem.ts, PFX in pfx.ts, encrypted keys in private-key.ts.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { rootCertificates } from 'node:tls'
import type { Ending } from '../files/expiry.ts'
import { certificatesIn, type Content, describe, type FileOrContent, type FileReader, invalid, type Located, ordinal, pathOf, pemOf } from '../files/pem.ts'
import { Slices } from '../slices.ts'
import { formatName, issuerOf } from '../x509/distinguished-names.ts'
import { validityOf } from '../x509/fields.ts'
import type { DevelopmentCertificates } from './development/certificates.ts'
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

/** The certificates of a moment, which are still to be read. */
export interface GivenCertificates {
  readonly entries: ReadonlyArray<CertificateOptions<Located>>
  readonly development: DevelopmentCertificates | undefined
  /** They come from a source. Places in its list change, so that its PEM is named by host. */
  readonly isAnswer: boolean
}

/** All key pairs and chains of a server. Frozen. */
export interface Certificates {
  /** The first one is for clients that send no SNI, or a host that no certificate covers. Empty while a CA has still to issue the first. */
  readonly keyPairs: readonly KeyPair[]
  readonly development: DevelopmentCertificates | undefined
  /** The files to watch, as absolute paths. */
  readonly files: readonly string[]
  /** SHA-256 of all chains and keys, and of the paths of the files, in hex. */
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
  /** OpenSSL can offer one key of each kind in a handshake: see key-kinds.ts. */
  readonly keyKind: 'RSA' | 'RSA-PSS' | 'EC' | 'Ed25519' | 'Ed448'
  /** The path of the file as it was written in the options, or the name of the option for content, of a source with the host. */
  readonly source: string
  /** SHA-256 of chain and key, in hex. */
  readonly fingerprint: string
  /** The content that it was read from, to see whether it has changed. */
  readonly contents: readonly Content[]
  /** The end of the chain, where clients can hardly be expected to know its issuer. */
  readonly openEnd: { readonly end: string, readonly issuer: string } | undefined
}

/**
 * Reads and checks all certificates of a server. What has not changed is not read again, wherever in the list it is.
 *
 * @param before what is in force: nothing worse may replace it
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export async function readCertificates ({ entries, development, isAnswer }: GivenCertificates, reader: FileReader, before?: Certificates): Promise<Certificates> {
  const inForce = new KeyPairsInForce(before?.keyPairs ?? [])
  const slices = new Slices()
  const keyPairs = new Set<KeyPair>()
  for (const [index, entry] of entries.entries()) {
    await slices.rest()
    const keyPair = await readKeyPair(entry, { index, isAnswer, reader, inForce })
    // The same one a second time is another one, which would never be served.
    keyPairs.add(keyPairs.has(keyPair) ? Object.freeze({ ...keyPair }) : keyPair)
  }
  const files = entries.flatMap(({ cert, key, pfx }) => [cert, key, pfx].flatMap((each) => each === undefined ? [] : pathOf(each) ?? []))
  if (development !== undefined) files.push(development.files.ca)
  const fingerprint = createHash('sha256').update([...keyPairs].map((keyPair) => keyPair.fingerprint).join()).update(files.join('\0')).digest('hex')
  return Object.freeze({ keyPairs: [...keyPairs], development, files, fingerprint })
}

/** Every certificate whose end has to be warned of: the server's own ones and their issuers. */
export function endingIn ({ keyPairs }: Certificates): Ending {
  return { certificates: keyPairs.flatMap(({ chain, source }) => chain.map((certificate) => ({ certificate, source }))), crls: [] }
}

// One key pair and chain: reading and checking

/** Extended key usages (RFC 5280 §4.2.1.12). */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const ANY_USAGE = '2.5.29.37.0'

/** Where an entry of the list is, and what is known before it is read. */
interface Place {
  readonly index: number
  readonly isAnswer: boolean
  readonly reader: FileReader
  readonly inForce: KeyPairsInForce
}

/**
 * Reads and checks one key pair and chain. If nothing has changed, the same object is returned.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
async function readKeyPair ({ cert, key, pfx, passphrase }: CertificateOptions<Located>, { index, isAnswer, reader, inForce }: Place): Promise<KeyPair> {
  const role = `certificates[${index}]`
  // Content is not kept by the reader: a key that is taken away is forgotten.
  const read = async (source: Located, part: string): Promise<Content> =>
    'path' in source ? await reader.read(source, `${role}.${part}`) : { name: `${role}.${part}`, bytes: source }
  const contents = pfx === undefined
    ? [await read(cert!, 'cert'), await read(key!, 'key')] as const
    : [await read(pfx, 'pfx')] as const
  const known = inForce.find(contents, index)
  const opened = known ?? (contents.length === 1 ? await openPfx(contents[0], passphrase) : openPair(contents[0], contents[1], passphrase))
  const hosts = known?.hosts ?? hostsOf(opened.chain[0])
  const source = isAnswer && !('path' in (pfx ?? cert)!) && hosts.length > 0 ? `certificates['${hosts[0]}']` : contents[0].name
  if (known !== undefined) return known.source === source ? known : Object.freeze({ ...known, source })
  return keyPairOf(opened as OpenedKeyPair, { contents, hosts, source, inForce })
}

function keyPairOf ({ name, chain, key }: OpenedKeyPair, { contents, hosts, source, inForce }: { contents: readonly Content[], hosts: readonly string[], source: string, inForce: KeyPairsInForce }): KeyPair {
  const [leaf] = chain
  const keyKind = keyKindOf(key)
  requireOrder(name, chain)
  const cert = chain.map(({ raw }) => pemOf('CERTIFICATE', raw)).join('')
  // A certificate that is in force may expire there: that must not stop the renewal of the others.
  if (!inForce.has(cert)) requireDates(name, chain)
  requireUsage(name, leaf)
  requireCompleteChain(name, chain, inForce.replacedBy({ source, keyKind }))
  const pem = String(key.export({ type: 'pkcs8', format: 'pem' }))
  return Object.freeze({
    cert,
    key: pem,
    chain,
    hosts,
    keyKind,
    source,
    fingerprint: createHash('sha256').update(cert).update(pem).digest('hex'),
    contents,
    openEnd: openEndOf(chain)
  })
}

/** Octets of each end of a key pair by which it is found: they have a serial number, and some of the key. */
const ENDS = 400

/** The key pairs in force: those that are there again are taken over, and nothing worse may replace them. */
class KeyPairsInForce {
  readonly #keyPairs: readonly KeyPair[]
  readonly #byEnds = lazy(() => new Map(this.#keyPairs.map((keyPair) => [endsOf(keyPair.contents), keyPair])))
  readonly #certs = lazy(() => new Set(this.#keyPairs.map(({ cert }) => cert)))
  readonly #byName = lazy(() => new Map(this.#keyPairs.flatMap((keyPair) => [[keyPair.source, keyPair], [`${keyPair.source} ${keyPair.keyKind}`, keyPair]])))

  constructor (keyPairs: readonly KeyPair[]) {
    this.#keyPairs = keyPairs
  }

  /** The key pair that was read from the same content; mostly it is in the same place. */
  find (contents: readonly Content[], index: number): KeyPair | undefined {
    const there = this.#keyPairs[index]
    if (there !== undefined && isSame(there.contents, contents)) return there
    const found = this.#byEnds().get(endsOf(contents))
    return found !== undefined && isSame(found.contents, contents) ? found : undefined
  }

  /** Whether a chain is in force, whatever its key. */
  has (cert: string): boolean {
    return this.#certs().has(cert)
  }

  /** The key pair that another one comes instead of: the one with the same name, which is a file, an option, or a host. */
  replacedBy ({ source, keyKind }: Pick<KeyPair, 'source' | 'keyKind'>): KeyPair | undefined {
    return this.#byName().get(`${source} ${keyKind}`) ?? this.#byName().get(source)
  }
}

function lazy<Value> (make: () => Value): () => Value {
  let value: Value | undefined
  return () => (value ??= make())
}

function isSame (one: readonly Content[], other: readonly Content[]): boolean {
  return one.length === other.length && one.every((content, index) => content === other[index] || content.bytes.equals(other[index]!.bytes))
}

function endsOf (contents: readonly Content[]): string {
  const [first, last] = [contents[0]!.bytes, contents.at(-1)!.bytes]
  return first.toString('latin1', 0, ENDS) + last.toString('latin1', Math.max(0, last.length - ENDS))
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

/** Undefined where clients can be expected to know the issuer of the last certificate: itself, or a public root. */
function openEndOf (chain: KeyPair['chain']): KeyPair['openEnd'] {
  const last = chain.at(-1)!
  if (isIssuedBy(last, last) || publicRoots().some((root) => isIssuedBy(last, root))) return undefined
  return { end: describe(last), issuer: formatName(issuerOf(last)) }
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
