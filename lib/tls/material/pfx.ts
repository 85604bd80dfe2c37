/** A key and its certificates in one file, as Windows and others export them: PFX, which is PKCS #12 (RFC 7292). */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { type BaseBlock, Constructed, ObjectIdentifier } from 'asn1js'
// No pkijs.SafeContents: it parses certificates and keys as well, and throws for those and for bags that it does not know
import { AuthenticatedSafe, ContentInfo, EncryptedData, PFX, PKCS8ShroudedKeyBag } from 'pkijs'
import { ber, octets, Opener, Unreadable } from './pkcs12-pbe.ts'

/** PEM, as Node's `cert` and `key` want it. */
export interface Unpacked {
  /** The certificate of the key, then those above it, each the issuer of the one before. */
  readonly cert: string
  /** PKCS #8, not encrypted. */
  readonly key: string
}

/** RFC 7292 §4.2. */
const BAG = '1.2.840.113549.1.12.10.1'
const KEY_BAG = `${BAG}.1`
const SHROUDED_KEY_BAG = `${BAG}.2`
const CERTIFICATE_BAG = `${BAG}.3`
const SAFE_CONTENTS_BAG = `${BAG}.6`
/** RFC 7292 §4.2.3. */
const X509_CERTIFICATE = '1.2.840.113549.1.9.22.1'

/** More than any chain has: to put one in order takes as long as its length, squared. */
const MAX_CERTIFICATES = 1000

/** A bag, which is one thing in a file: what it is, and the element. */
type Bag = readonly [id: string, value: BaseBlock]

/**
 * Unpacks a file. What is neither the key's certificate nor above it is left out.
 *
 * @param passphrase - not needed where nothing is encrypted and nothing has a MAC
 * @throws Error with a message that reads on after the name of the file
 */
export async function unpackPfx (pfx: Buffer, passphrase: string): Promise<Unpacked> {
  try {
    const { key, certificates } = await contentsOf(pfx, new Opener(passphrase))
    const leaf = certificates.find((certificate) => certificate.checkPrivateKey(key))
    if (leaf === undefined) throw new Unreadable('holds no certificate for its private key')
    return {
      cert: chainOf(leaf, certificates).join(''),
      key: String(key.export({ format: 'pem', type: 'pkcs8' }))
    }
  } catch (cause) {
    if (cause instanceof Unreadable) throw cause
    throw new Error('is no PFX (PKCS #12) file, or a damaged one', { cause })
  }
}

async function contentsOf (pfx: Buffer, opener: Opener): Promise<{ key: KeyObject, certificates: X509Certificate[] }> {
  const certificates: X509Certificate[] = []
  let key: BaseBlock | undefined
  for await (const [id, value] of bagsOf(pfx, opener)) {
    if (id === CERTIFICATE_BAG) {
      const [type, certificate] = inside(value)
      if (identifier(type) !== X509_CERTIFICATE) continue
      if (certificates.length === MAX_CERTIFICATES) throw new Unreadable(`holds more than ${MAX_CERTIFICATES} certificates`)
      certificates.push(readable('certificate', () => new X509Certificate(octets(inside(certificate)[0]))))
    }
    if (id !== KEY_BAG && id !== SHROUDED_KEY_BAG) continue
    if (key !== undefined) throw new Unreadable('holds several private keys: a server needs a file for each of its certificates')
    key = id === KEY_BAG ? value : await unshroud(value, opener)
  }
  if (key === undefined) throw new Unreadable('holds no private key')
  const der = Buffer.from(key.valueBeforeDecodeView)
  return { key: readable('private key', () => createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })), certificates }
}

/** All bags of a file, of which each part may be encrypted, or not (RFC 7292 §4.1). */
async function * bagsOf (pfx: Buffer, opener: Opener): AsyncGenerator<Bag> {
  const { authSafe, macData } = new PFX({ schema: ber(pfx) })
  if (authSafe.contentType !== ContentInfo.DATA) throw keysOnly()
  const content = octets(authSafe.content)
  if (macData !== undefined) await opener.verify(macData, content)
  for (const { contentType, content: part } of new AuthenticatedSafe({ schema: ber(content) }).safeContents) {
    if (contentType === ContentInfo.DATA) {
      yield * bagsIn(ber(octets(part)))
    } else if (contentType === ContentInfo.ENCRYPTED_DATA) {
      const { encryptedContentInfo: info } = new EncryptedData({ schema: part })
      yield * bagsIn(await opener.decrypt(info.contentEncryptionAlgorithm, Buffer.from(info.getEncryptedContent())))
    } else {
      throw keysOnly()
    }
  }
}

/** SafeContents (RFC 7292 §4.2), which may have more of itself inside (§4.2.6). */
function * bagsIn (contents: BaseBlock): Generator<Bag> {
  for (const bag of inside(contents)) {
    const [type, wrapped] = inside(bag)
    const id = identifier(type)
    const [value] = inside(wrapped)
    if (id === SAFE_CONTENTS_BAG) yield * bagsIn(value)
    else yield [id, value]
  }
}

function unshroud (bag: BaseBlock, opener: Opener): Promise<BaseBlock> {
  const { encryptionAlgorithm, encryptedData } = new PKCS8ShroudedKeyBag({ schema: bag })
  return opener.decrypt(encryptionAlgorithm, octets(encryptedData))
}

/** `leaf`, its issuer, the issuer of that, as far as they are there. */
function chainOf (leaf: X509Certificate, certificates: readonly X509Certificate[]): X509Certificate[] {
  const chain = [leaf]
  let last: X509Certificate | undefined = leaf
  // What issued itself ends a chain. Others may have issued each other: none comes twice.
  while (last !== undefined && !last.checkIssued(last)) {
    const subject: X509Certificate = last
    last = certificates.find((issuer) => !chain.includes(issuer) && isIssuedBy(subject, issuer))
    if (last !== undefined) chain.push(last)
  }
  return chain
}

/** The first compares names and key identifiers, the second the signature: an authority with a new key keeps its name. */
function isIssuedBy (subject: X509Certificate, issuer: X509Certificate): boolean {
  return subject.checkIssued(issuer) && subject.verify(issuer.publicKey)
}

function inside (element: BaseBlock | undefined): BaseBlock[] {
  if (element instanceof Constructed) return element.valueBlock.value as BaseBlock[]
  throw new Error('Not constructed')
}

function identifier (element: BaseBlock | undefined): string {
  if (element instanceof ObjectIdentifier) return element.getValue()
  throw new Error('Not an OBJECT IDENTIFIER')
}

function readable<Value> (what: string, read: () => Value): Value {
  try {
    return read()
  } catch (cause) {
    throw new Unreadable(`has a ${what} that Node cannot read`, { cause })
  }
}

const keysOnly = (): Error => new Unreadable('is protected with keys instead of a passphrase, which is not supported')
