/**
 * The private key of a server in PEM (RFC 7468), decrypted if necessary. Begin with `privateKeyIn`. The second part
 * limits the cost of decrypting.
 */
import { createPrivateKey, type KeyObject, type PrivateKeyInput } from 'node:crypto'
import { type Block, blocksIn, type Content, invalid, pemOf } from '../files/pem.ts'
import { contentOf, type Element, elementAt, elementOf, elementsIn, INTEGER, notDer, OCTET_STRING, readOr, SEQUENCE } from '../x509/der.ts'
import { idNamedBy, idOf, integerOf, onlyElementIn } from '../x509/fields.ts'

/**
 * An encrypted RSA or EC key from before PKCS #8 (RFC 1421 §4.6.1.1). OpenSSL hashes its passphrase once, and does not
 * decrypt a key inside of a key.
 */
const ENCRYPTED_BEFORE_PKCS8 = /^-----BEGIN [A-Z]+ PRIVATE KEY-----\r?\nProc-Type: 4,ENCRYPTED\r?\n/

const UNREADABLE_KEY = 'holds no private key in PEM that can be read'

/**
 * The first private key of a file. OpenSSL gets only what was checked here: it also decrypts a key whose BEGIN line
 * says that it is not encrypted.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES with the reason, and nothing of the key
 */
export function privateKeyIn (content: Content, passphrase: string | undefined): KeyObject {
  const { name } = content
  const block = blockOf(content)
  const input = inputOf(name, block)
  try {
    return createPrivateKey({ ...input, ...(passphrase !== undefined && { passphrase }) })
  } catch (cause) {
    const reason = !block.text.includes('ENCRYPTED')
      ? UNREADABLE_KEY
      : passphrase === undefined ? 'is encrypted, and no passphrase was given' : 'cannot be opened with this passphrase'
    throw invalid(name, `${reason} (${(cause as Error).message})`, cause)
  }
}

function blockOf (content: Content): Block {
  let reason = 'it has no "-----BEGIN PRIVATE KEY-----"'
  try {
    const block = blocksIn(content).find(({ label }) => label.endsWith('PRIVATE KEY'))
    if (block !== undefined) return block
  } catch (cause) {
    reason = (cause as Error).message
  }
  throw invalid(content.name, `${UNREADABLE_KEY} (${reason})`)
}

function inputOf (name: string, { label, text, der }: Block): PrivateKeyInput {
  if (ENCRYPTED_BEFORE_PKCS8.test(text)) return { key: text }
  if (isPlain(der)) return { key: pemOf(label, der) }
  const iterations = readOr(() => iterationsOf(elementOf(der)), undefined)
  if (iterations === undefined) throw invalid(name, `${UNREADABLE_KEY} (it is no key in DER, or encrypted otherwise than by PKCS #5)`)
  if (!isAffordable(iterations)) throw invalid(name, TOO_MANY_ITERATIONS)
  return { key: der, format: 'der', type: 'pkcs8' }
}

/** An unencrypted key begins with its version, an encrypted one with its algorithm. */
function isPlain (der: Buffer): boolean {
  return readOr(() => elementsIn(elementAt(der, 0, der.length), SEQUENCE)[0]?.tag === INTEGER, false)
}

// The cost of decrypting a private key
//
// It is read before OpenSSL decrypts: a file may ask for up to 2^31 iterations, and decrypting blocks the process.

/**
 * Iterations for a whole file, which take some seconds: a hostile file must not take longer. OpenSSL and Windows ask
 * for about 6,000 altogether, NSS for 1,800,000.
 */
export const MOST_ITERATIONS = 5_000_000

export const TOO_MANY_ITERATIONS = 'asks for more than 5 million iterations, or for none'

const PBES2 = idOf('1.2.840.113549.1.5.13')
const PBKDF2 = idOf('1.2.840.113549.1.5.12')
const SCRYPT = idOf('1.3.6.1.4.1.11591.4.11')
const DATA = idOf('1.2.840.113549.1.7.1')
/** Bag types (RFC 7292 §4.2). */
const [KEY_BAG, SHROUDED_KEY_BAG, CERTIFICATE_BAG] = [1, 2, 3].map((last) => idOf(`1.2.840.113549.1.12.10.1.${last}`))
/** The arcs of PBES1 (RFC 8018 §6.1) and of RFC 7292 appendix C. */
const OLDER_ALGORITHMS = [idOf('1.2.840.113549.1.5'), idOf('1.2.840.113549.1.12.1')]

/**
 * Iterations, or for scrypt (RFC 7914 §6) a number of the same cost: N × r × p.
 *
 * @param encryptedKey an EncryptedPrivateKeyInfo (RFC 5958 §3) in DER; its encrypted octets may be in several pieces,
 * as pkijs writes them
 * @throws RangeError if it is none, or its algorithm is not known here
 */
function iterationsOf (encryptedKey: Element): number {
  const [algorithm, encrypted, ...more] = elementsIn(encryptedKey, SEQUENCE)
  if (encrypted === undefined || more.length > 0) throw notDer()
  const [id, parameters] = algorithmOf(algorithm)
  const [derivation, derivationParameters] = id === PBES2 ? algorithmOf(elementsIn(parameters, SEQUENCE)[0]) : [id, parameters]
  const [iterations, ...others] = numbersAfterSalt(derivationParameters)
  if (derivation === SCRYPT && others.length >= 2) return iterations! * others[0]! * others[1]!
  if (iterations === undefined || (derivation !== PBKDF2 && !OLDER_ALGORITHMS.some((arc) => derivation.startsWith(arc)))) throw notDer()
  return iterations
}

function algorithmOf (algorithm: Element | undefined): readonly [id: string, parameters: Element | undefined] {
  const [identifier, parameters] = elementsIn(algorithm, SEQUENCE)
  return [idNamedBy(identifier), parameters]
}

/** RFC 8018 appendix A: iterations and key length. RFC 7914 §7.1: N, r, p and key length. */
function numbersAfterSalt (parameters: Element | undefined): number[] {
  const [salt, ...others] = elementsIn(parameters, SEQUENCE)
  contentOf(salt, OCTET_STRING)
  return others.filter(({ tag }) => tag === INTEGER).map(integerOf)
}

/**
 * Iterations of a PFX (RFC 7292 §4): of its MAC and of its keys.
 *
 * @throws RangeError if it is not DER, or if something else in it is encrypted
 */
export function iterationsOfPfx (pfx: Buffer): number {
  const [, safe, mac] = elementsIn(elementOf(pfx), SEQUENCE)
  const bags = elementsIn(dataIn(safe), SEQUENCE).flatMap((content) => elementsIn(dataIn(content), SEQUENCE))
  return bags.reduce((sum, bag) => sum + iterationsOfBag(bag), mac === undefined ? 0 : iterationsOfMac(mac))
}

function iterationsOfMac (mac: Element): number {
  const [, , iterations] = elementsIn(mac, SEQUENCE)
  return iterations === undefined ? 1 : integerOf(iterations)
}

function iterationsOfBag (bag: Element): number {
  const [identifier, value] = elementsIn(bag, SEQUENCE)
  const id = idNamedBy(identifier)
  if (id === SHROUDED_KEY_BAG && value !== undefined) return iterationsOf(onlyElementIn(value))
  if (id !== KEY_BAG && id !== CERTIFICATE_BAG) throw notDer()
  return 0
}

/** The content of a ContentInfo with the type data (RFC 5652 §4). */
function dataIn (contentInfo: Element | undefined): Element {
  const [type, content] = elementsIn(contentInfo, SEQUENCE)
  if (idNamedBy(type) !== DATA || content === undefined) throw notDer()
  return elementOf(contentOf(onlyElementIn(content), OCTET_STRING))
}

function isAffordable (iterations: number): boolean {
  return iterations > 0 && iterations <= MOST_ITERATIONS
}
