/**
 * PFX files, that is PKCS #12 (RFC 7292): a private key and its certificates in one file, as Windows and other systems
 * export them. Begin with `unpackPfx`; the second part decrypts with the passphrase.
 */
import { createDecipheriv, createHmac, createPrivateKey, hash, type KeyObject, pbkdf2, timingSafeEqual, X509Certificate } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type BaseBlock, Constructed, fromBER, ObjectIdentifier, OctetString } from 'asn1js'
// pkijs.SafeContents is not used: it also parses certificates and keys, and throws for those and for bags that it does
// not know
import { type AlgorithmIdentifier, AuthenticatedSafe, ContentInfo, EncryptedData, type MacData, PBES2Params, PBKDF2Params, PFX, PKCS8ShroudedKeyBag } from 'pkijs'
import { MOST_ITERATIONS, TOO_MANY_ITERATIONS } from './private-key.ts'

/** PEM for Node's options `cert` and `key`. */
export interface Unpacked {
  /** The certificate of the private key, then its issuers, each one the issuer of the one before. */
  readonly cert: string
  /** PKCS #8 (RFC 5958), not encrypted. */
  readonly key: string
}

/** Bag types (RFC 7292 §4.2). */
const BAG = '1.2.840.113549.1.12.10.1'
const KEY_BAG = `${BAG}.1`
const SHROUDED_KEY_BAG = `${BAG}.2`
const CERTIFICATE_BAG = `${BAG}.3`
const SAFE_CONTENTS_BAG = `${BAG}.6`
/** The type of an X.509 certificate in a CertBag (RFC 7292 §4.2.3). */
const X509_CERTIFICATE = '1.2.840.113549.1.9.22.1'

/** More than any chain has. Sorting a chain takes quadratic time. */
const MAX_CERTIFICATES = 1000

/** A SafeBag, with one key, certificate or other item: its type, and its value. */
type Bag = readonly [id: string, value: BaseBlock]

/**
 * Returns the private key and its chain. Certificates that do not belong to that chain are left out.
 *
 * @param passphrase not needed if nothing is encrypted and there is no MAC
 * @throws Error with a message that continues the name of the file: `holds no private key`
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

/** All bags of a file. Each part of the file may be encrypted (RFC 7292 §4.1). */
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

/** The bags of SafeContents (RFC 7292 §4.2), which may be nested (§4.2.6). */
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

/** `leaf`, its issuer, the issuer of that one, as far as they are in the file. */
function chainOf (leaf: X509Certificate, certificates: readonly X509Certificate[]): X509Certificate[] {
  const chain = [leaf]
  let last: X509Certificate | undefined = leaf
  // A self-issued certificate ends the chain. Others may have issued each other: none comes twice.
  while (last !== undefined && !last.checkIssued(last)) {
    const subject: X509Certificate = last
    last = certificates.find((issuer) => !chain.includes(issuer) && isIssuedBy(subject, issuer))
    if (last !== undefined) chain.push(last)
  }
  return chain
}

/**
 * `checkIssued` compares names and key identifiers, `verify` checks the signature: a CA with a new key keeps its name.
 */
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

// Decrypting with a passphrase
//
// The passphrase verifies the MAC (RFC 7292 §5.1) and decrypts PBES2 (RFC 8018 §6.2) and the Triple DES of RFC 7292
// appendix C. This uses Node's crypto: that of pkijs has no Triple DES, and encodes only ASCII as BMPString.

const PBES2 = '1.2.840.113549.1.5.13'
const PBKDF2 = '1.2.840.113549.1.5.12'
const HMAC_SHA1 = '1.2.840.113549.2.7'
/** HMACs of PBKDF2 (RFC 8018 appendix B.1.2). */
const PRFS = new Map([
  [HMAC_SHA1, 'sha1'],
  ['1.2.840.113549.2.8', 'sha224'],
  ['1.2.840.113549.2.9', 'sha256'],
  ['1.2.840.113549.2.10', 'sha384'],
  ['1.2.840.113549.2.11', 'sha512']
])

interface Cipher { readonly name: string, readonly keyLength: number }
/** Ciphers of PBES2 (RFC 8018 appendix B.2). */
const CIPHERS = new Map<string, Cipher>([
  ['2.16.840.1.101.3.4.1.2', { name: 'aes-128-cbc', keyLength: 16 }],
  ['2.16.840.1.101.3.4.1.22', { name: 'aes-192-cbc', keyLength: 24 }],
  ['2.16.840.1.101.3.4.1.42', { name: 'aes-256-cbc', keyLength: 32 }],
  ['1.2.840.113549.3.7', { name: 'des-ede3-cbc', keyLength: 24 }]
])
/** Triple DES with three keys, and with two (RFC 7292 appendix C). */
const TRIPLE_DES = new Map<string, Cipher>([
  ['1.2.840.113549.1.12.1.3', { name: 'des-ede3-cbc', keyLength: 24 }],
  ['1.2.840.113549.1.12.1.4', { name: 'des-ede-cbc', keyLength: 16 }]
])
/**
 * The other algorithms of that appendix, and PBES1 (RFC 8018 §6.1). In OpenSSL 3 they are in the legacy provider, which
 * Node does not load.
 */
const LEGACY = /^1\.2\.840\.113549\.1\.(?:12\.1\.\d+|5\.(?:1|3|4|6|10|11))$/
/** Two commands and not a pipe: in a pipe, the second one would read the key and find no certificates after it. */
const REPACK = 'openssl pkcs12 -legacy -in old.pfx -out all.pem && openssl pkcs12 -export -in all.pem -out new.pfx'

/** A hash function; lengths in bytes. */
interface Digest { readonly name: string, readonly length: number, readonly block: number }
const SHA1: Digest = { name: 'sha1', length: 20, block: 64 }
const DIGESTS = new Map<string, Digest>([
  ['1.3.14.3.2.26', SHA1],
  ['2.16.840.1.101.3.4.2.4', { name: 'sha224', length: 28, block: 64 }],
  ['2.16.840.1.101.3.4.2.1', { name: 'sha256', length: 32, block: 64 }],
  ['2.16.840.1.101.3.4.2.2', { name: 'sha384', length: 48, block: 128 }],
  ['2.16.840.1.101.3.4.2.3', { name: 'sha512', length: 64, block: 128 }]
])
/** The ID byte of a derived key (RFC 7292 appendix B.3). */
const purpose = { key: 1, iv: 2, mac: 3 } as const

/** Iterations without a pause, about 10 ms: requests to a running server do not wait longer. */
const ITERATIONS_AT_ONCE = 8192

const deriveKey = promisify(pbkdf2)

/** An error with a message for users. Any other error means that the structure of the file is broken. */
export class Unreadable extends Error {}

/** Verifies and decrypts one file, with a limit on iterations for the whole file. */
export class Opener {
  readonly #secrets: readonly Secret[]
  /** Iterations that are left. asn1js reads numbers from 2^23 on as 0, which is refused as well. */
  #iterations = MOST_ITERATIONS

  constructor (passphrase: string) {
    this.#secrets = secretsOf(passphrase)
  }

  /**
   * Verifies the MAC of `content`.
   *
   * @throws Unreadable for a wrong passphrase
   */
  async verify ({ mac, macSalt, iterations = 1 }: MacData, content: Buffer): Promise<void> {
    const digest = supported(DIGESTS, mac.digestAlgorithm.algorithmId)
    const expected = octets(mac.digest)
    for (const secret of this.#secrets) {
      const key = await this.#pkcs12Key(digest, secret, { salt: macSalt, iterations }, purpose.mac, digest.length)
      const actual = createHmac(digest.name, key).update(content).digest()
      if (actual.length === expected.length && timingSafeEqual(actual, expected)) return
    }
    throw wrongPassphrase()
  }

  /**
   * Decrypts, and parses the element inside.
   *
   * @throws Unreadable for a wrong passphrase or an unsupported algorithm
   */
  async decrypt (algorithm: AlgorithmIdentifier, encrypted: Buffer): Promise<BaseBlock> {
    for (const secret of this.#secrets) {
      const { cipher, key, iv } = await this.#parameters(algorithm, secret)
      try {
        const decipher = createDecipheriv(cipher.name, key, iv)
        // Correct padding alone is no proof: one wrong passphrase of 256 gives it.
        return ber(Buffer.concat([decipher.update(encrypted), decipher.final()]))
      } catch {
        // Try the next encoding.
      }
    }
    throw wrongPassphrase()
  }

  async #parameters ({ algorithmId, algorithmParams }: AlgorithmIdentifier, secret: Secret): Promise<{ cipher: Cipher, key: Buffer, iv: Buffer }> {
    const tripleDes = TRIPLE_DES.get(algorithmId)
    if (tripleDes !== undefined) {
      const cost = costOf(algorithmParams)
      return {
        cipher: tripleDes,
        key: await this.#pkcs12Key(SHA1, secret, cost, purpose.key, tripleDes.keyLength),
        iv: await this.#pkcs12Key(SHA1, secret, cost, purpose.iv, 8)
      }
    }
    if (LEGACY.test(algorithmId)) throw new Unreadable(`is encrypted with RC2, RC4 or DES, which Node cannot decrypt. Repack it: ${REPACK}`)
    if (algorithmId !== PBES2) throw unsupported(algorithmId)
    const { keyDerivationFunc, encryptionScheme } = new PBES2Params({ schema: algorithmParams })
    if (keyDerivationFunc.algorithmId !== PBKDF2) throw unsupported(keyDerivationFunc.algorithmId)
    const { prf, ...cost } = costOf(keyDerivationFunc.algorithmParams)
    const cipher = supported(CIPHERS, encryptionScheme.algorithmId)
    this.#spend(cost.iterations)
    return {
      cipher,
      key: await deriveKey(secret.utf8, octets(cost.salt), cost.iterations, cipher.keyLength, supported(PRFS, prf)),
      iv: octets(encryptionScheme.algorithmParams)
    }
  }

  /** Key derivation of PKCS #12 (RFC 7292 appendix B.2). */
  async #pkcs12Key ({ name, length: u, block: v }: Digest, { bmp }: Secret, { salt, iterations }: Cost, id: number, length: number): Promise<Buffer> {
    this.#spend(iterations)
    const input = Buffer.concat([fill(octets(salt), v), fill(bmp, v)])
    const key: Buffer[] = []
    for (let missing = length; missing > 0; missing -= u) {
      let digest: Buffer = Buffer.concat([Buffer.alloc(v, id), input])
      for (let done = 0; done < iterations; done++) {
        digest = hash(name, digest, 'buffer')
        if (done % ITERATIONS_AT_ONCE === ITERATIONS_AT_ONCE - 1) await setImmediate()
      }
      key.push(digest)
      for (let offset = 0; offset < input.length; offset += v) add(fill(digest, v), input.subarray(offset, offset + v))
    }
    return Buffer.concat(key, length)
  }

  #spend (iterations: number): void {
    if (!(iterations > 0 && iterations <= this.#iterations)) throw new Unreadable(TOO_MANY_ITERATIONS)
    this.#iterations -= iterations
  }
}

/** Parses one BER element. It need not be DER: NSS and Bouncy Castle write indefinite lengths. */
export function ber (bytes: Uint8Array): BaseBlock {
  const { offset, result } = fromBER(bytes, { parseEmbedded: false })
  if (offset === -1) throw new Error(result.error)
  if (offset < bytes.length) throw new Unreadable('has something after its end')
  return result
}

export function octets (element: unknown): Buffer {
  if (element instanceof OctetString) return Buffer.from(element.getValue())
  throw new Error('Not an OCTET STRING')
}

/** An encoded passphrase. */
interface Secret {
  /**
   * For PKCS #12 key derivation (RFC 7292 appendix B.1): a BMPString, which all implementations read as big-endian
   * UTF-16, with a terminating zero.
   */
  readonly bmp: Buffer
  /** For PBES2: RFC 8018 §3 leaves the encoding open, and OpenSSL uses UTF-8. */
  readonly utf8: Buffer
}

/** The encodings that a program may have used, the most likely one first. */
function secretsOf (passphrase: string): Secret[] {
  const utf8 = Buffer.from(passphrase)
  const secretOf = (text: string): Secret => ({ utf8, bmp: Buffer.from(`${text}\0`, 'utf16le').swap16() })
  // Some programs encode an empty passphrase as zero bytes, without the terminating zero.
  if (passphrase === '') return [secretOf(''), { utf8, bmp: Buffer.alloc(0) }]
  // OpenSSL before 1.1.0 read each byte of UTF-8 as a character.
  const misread = utf8.toString('latin1')
  return misread === passphrase ? [secretOf(passphrase)] : [secretOf(passphrase), secretOf(misread)]
}

interface Cost { readonly salt: unknown, readonly iterations: number }

/**
 * PBKDF2-params (RFC 8018 appendix A.2). pkcs-12PbeParams (RFC 7292 appendix C) are the same without the optional
 * fields.
 */
function costOf (schema: unknown): Cost & { readonly prf: string } {
  const { salt, iterationCount, prf } = new PBKDF2Params({ schema })
  return { salt, iterations: iterationCount, prf: prf?.algorithmId ?? HMAC_SHA1 }
}

/** Copies of `bytes` up to a multiple of `block`. */
function fill (bytes: Buffer, block: number): Buffer {
  return Buffer.alloc(Math.ceil(bytes.length / block) * block, bytes)
}

/** Adds `summand` and 1 to the big-endian number `sum`, and drops the overflow. */
function add (summand: Buffer, sum: Buffer): void {
  let carry = 1
  for (let index = sum.length - 1; index >= 0; index--) {
    carry += sum[index] + summand[index]
    sum[index] = carry & 0xff
    carry >>= 8
  }
}

function supported<Value> (values: ReadonlyMap<string, Value>, id: string): Value {
  const value = values.get(id)
  if (value === undefined) throw unsupported(id)
  return value
}

const unsupported = (id: string): Error => new Unreadable(`uses an algorithm that is not supported: ${id}`)
const wrongPassphrase = (): Error => new Unreadable('cannot be opened: the passphrase is wrong, or the file is damaged')
