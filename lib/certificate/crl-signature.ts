/**
 * Who has signed a CRL. A weak signature is nobody's, and so is one of a key that is not strong enough (path/algorithms.ts).
 */
import { createVerify, hash, type KeyObject, verify } from 'node:crypto'
import { promisify } from 'node:util'
import { type Pause, Slices } from '../slices.ts'
import { BIT_STRING, contentOf, derOf, notDer, readOr, SEQUENCE } from './der.ts'
import type { Element } from './der.ts'
import { type Scheme, schemeOf, strengthOf, verifierOf } from './path/algorithms.ts'
import type { ParsedCertificate } from './path/facts.ts'

/**
 * Keys whose answers are remembered, with the CRL. One is right, as a rule; others come with certificates of an authority
 * that gives itself the same name, of which there may be any number.
 */
const MOST_KEYS = 64

const verifyInPool = promisify(verify)

/** Node copies what is verified in the thread pool: one CRL at a time. */
let last: Promise<unknown> = Promise.resolve()

export class CrlSignature {
  /** Why it is nobody's. */
  readonly weakness: string | undefined
  readonly #data: Buffer
  readonly #signature: Buffer
  readonly #scheme: Scheme | undefined
  readonly #pause: Pause | undefined
  /** By the hash of the key: those asked of last are the last ones. */
  readonly #answers = new Map<string, boolean | Promise<boolean>>()

  /**
   * @param tbs what was signed
   * @param algorithms the one inside of that, and the one beside the signature
   * @throws RangeError where they are not exactly that
   */
  constructor (tbs: Element, [inner, outer]: readonly Element[], signature: Element, pause: Pause | undefined) {
    const octets = contentOf(signature, BIT_STRING)
    if (octets[0] !== 0) throw notDer() // bits of the last octet that are no part of it
    if (outer.tag !== SEQUENCE || inner.tag !== SEQUENCE) throw notDer()
    const isOne = derOf(inner).equals(derOf(outer))
    this.#scheme = isOne ? readOr(() => schemeOf(outer), undefined) : undefined
    this.#data = derOf(tbs)
    this.#signature = octets.subarray(1)
    this.#pause = pause
    this.weakness = this.#scheme !== undefined ? undefined : isOne ? 'it is signed by an algorithm that is not strong enough or not known' : 'it names two algorithms for its one signature'
  }

  isKnownBy (issuer: ParsedCertificate): boolean | undefined {
    const answer = this.#answerOf(issuer)
    return typeof answer === 'boolean' ? answer : undefined
  }

  async isBy (issuer: ParsedCertificate): Promise<boolean> {
    return await (this.#answerOf(issuer) ?? this.#ask(issuer))
  }

  #answerOf (issuer: ParsedCertificate): boolean | Promise<boolean> | undefined {
    if (this.#scheme === undefined || strengthOf(issuer) === undefined) return false
    const key = keyOf(issuer)
    const answer = this.#answers.get(key)
    if (answer !== undefined) this.#remember(key, answer)
    return answer
  }

  #remember (key: string, answer: boolean | Promise<boolean>): void {
    this.#answers.delete(key)
    if (this.#answers.size >= MOST_KEYS) this.#answers.delete(this.#answers.keys().next().value!)
    this.#answers.set(key, answer)
  }

  async #ask (issuer: ParsedCertificate): Promise<boolean> {
    const key = keyOf(issuer)
    const asked = this.#verify(issuer.certificate.publicKey, this.#scheme!).catch(() => false)
    this.#remember(key, asked)
    const answer = await asked
    this.#remember(key, answer)
    return answer
  }

  /**
   * Hashed in slices: for the thread pool Node would copy all of it at once, which blocks for tens of milliseconds and takes
   * its memory again. What is not hashed first (Ed25519, Ed448) can be verified only so.
   */
  async #verify (key: KeyObject, scheme: Scheme): Promise<boolean> {
    const input = verifierOf(scheme, key)
    if (input === undefined) return false
    if (scheme.hash === undefined) {
      const turn = last.then(async () => await verifyInPool(undefined, this.#data, input, this.#signature))
      last = turn.catch(() => {})
      return await turn
    }
    const verifier = createVerify(scheme.hash)
    for await (const piece of new Slices(this.#pause).piecesOf(this.#data)) verifier.update(piece)
    return verifier.verify(input, this.#signature)
  }
}

const keys = new WeakMap<ParsedCertificate, string>()

/** A hash of the SubjectPublicKeyInfo: certificates come and go, and may be those of one key. */
function keyOf (issuer: ParsedCertificate): string {
  const key = keys.get(issuer) ?? hash('sha256', derOf(issuer.fields.publicKey))
  keys.set(issuer, key)
  return key
}
