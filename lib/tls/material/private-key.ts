/** The private key of a server in PEM (RFC 7468), opened where it is encrypted. */
import { createPrivateKey, type KeyObject, type PrivateKeyInput } from 'node:crypto'
import { elementAt, elementOf, elementsIn, INTEGER, readOr, SEQUENCE } from '../../certificate/der.ts'
import { type Block, blocksIn, pemOf } from '../../material/pem.ts'
import { type Content, invalid } from '../../material/source.ts'
import { isAffordable, iterationsOf, TOO_MANY_ITERATIONS } from './encryption-cost.ts'

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
