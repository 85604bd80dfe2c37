/** The private key of a server in PEM (RFC 7468), opened where it is encrypted. */
import { createPrivateKey, type KeyObject, type PrivateKeyInput } from 'node:crypto'
import { type Block, blocksIn, type Content, invalid, pemOf } from '../files/pem.ts'
import { contentOf, type Element, elementAt, elementOf, elementsIn, INTEGER, notDer, OCTET_STRING, readOr, SEQUENCE } from '../x509/der.ts'
import { idNamedBy, idOf, integerOf, onlyElementIn } from '../x509/fields.ts'

/** RFC 1421 §4.6.1.1, before keys of RSA and EC: OpenSSL hashes their passphrase once, and decrypts no key inside of a key. */
const ENCRYPTED_BEFORE_PKCS8 = /^-----BEGIN [A-Z]+ PRIVATE KEY-----\r?\nProc-Type: 4,ENCRYPTED\r?\n/

const UNREADABLE_KEY = 'holds no private key in PEM that can be read'

/**
 * The first private key of a file. OpenSSL is given what was looked at here, and nothing else: it takes an encrypted key
 * also where the BEGIN line says that it is not.
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

/** All keys begin with a version, but for encrypted ones, which begin with an algorithm. */
function isPlain (der: Buffer): boolean {
  return readOr(() => elementsIn(elementAt(der, 0, der.length), SEQUENCE)[0]?.tag === INTEGER, false)
}

/**
 * What it takes to open an encrypted private key, read before OpenSSL is asked to: a file says how often, up to 2^31 times,
 * and everything else waits meanwhile.
 */

/**
 * Iterations for a whole file, which take some seconds: a hostile one shall not take longer. OpenSSL and Windows ask for
 * about 6,000 altogether, NSS for 1,800,000.
 */
export const MOST_ITERATIONS = 5_000_000

export const TOO_MANY_ITERATIONS = 'asks for more than 5 million iterations, or for none'

const PBES2 = idOf('1.2.840.113549.1.5.13')
const PBKDF2 = idOf('1.2.840.113549.1.5.12')
const SCRYPT = idOf('1.3.6.1.4.1.11591.4.11')
const DATA = idOf('1.2.840.113549.1.7.1')
/** RFC 7292 §4.2. */
const [KEY_BAG, SHROUDED_KEY_BAG, CERTIFICATE_BAG] = [1, 2, 3].map((last) => idOf(`1.2.840.113549.1.12.10.1.${last}`))
/** PBES1 (RFC 8018 §6.1), and RFC 7292 appendix C. */
const OLDER = [idOf('1.2.840.113549.1.5'), idOf('1.2.840.113549.1.12.1')]

/**
 * Iterations, or what is worth as many: with scrypt (RFC 7914 §6), N × r × p.
 *
 * @param encryptedKey an EncryptedPrivateKeyInfo (RFC 5958 §3) in DER; what is encrypted may be in pieces, as pkijs has it
 * @throws RangeError where it is none, or does not say how often in a way that is known here
 */
function iterationsOf (encryptedKey: Element): number {
  const [algorithm, encrypted, ...more] = elementsIn(encryptedKey, SEQUENCE)
  if (encrypted === undefined || more.length > 0) throw notDer()
  const [id, parameters] = algorithmOf(algorithm)
  const [derivation, parametersOfThat] = id === PBES2 ? algorithmOf(elementsIn(parameters, SEQUENCE)[0]) : [id, parameters]
  const [iterations, ...others] = numbersAfterSalt(parametersOfThat)
  if (derivation === SCRYPT && others.length >= 2) return iterations! * others[0]! * others[1]!
  if (iterations === undefined || (derivation !== PBKDF2 && !OLDER.some((arc) => derivation.startsWith(arc)))) throw notDer()
  return iterations
}

function algorithmOf (algorithm: Element | undefined): readonly [id: string, parameters: Element | undefined] {
  const [identifier, parameters] = elementsIn(algorithm, SEQUENCE)
  return [idNamedBy(identifier), parameters]
}

/** RFC 8018 appendix A: iterations and the length of the key; RFC 7914 §7.1: N, r, p and the length. */
function numbersAfterSalt (parameters: Element | undefined): number[] {
  const [salt, ...others] = elementsIn(parameters, SEQUENCE)
  contentOf(salt, OCTET_STRING)
  return others.filter(({ tag }) => tag === INTEGER).map(integerOf)
}

/**
 * The same of a PFX (RFC 7292 §4): of its MAC and of its keys.
 *
 * @throws RangeError where it is not DER, or anything else in it is encrypted
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

/** What is inside of a ContentInfo that is data (RFC 5652 §4). */
function dataIn (contentInfo: Element | undefined): Element {
  const [type, content] = elementsIn(contentInfo, SEQUENCE)
  if (idNamedBy(type) !== DATA || content === undefined) throw notDer()
  return elementOf(contentOf(onlyElementIn(content), OCTET_STRING))
}

function isAffordable (iterations: number): boolean {
  return iterations > 0 && iterations <= MOST_ITERATIONS
}
