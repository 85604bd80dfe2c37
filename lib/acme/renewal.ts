/**
 * When a certificate is renewed: pure functions of times, in milliseconds since the epoch. Begin with `plannedRenewal`;
 * `pauseAfter` is for what has failed.
 */
import type { X509Certificate } from 'node:crypto'
import { contentOf, elementOf, elementsIn, INTEGER, octetsOf, readOr, SEQUENCE } from '../x509/der.ts'
import { extensionOf, fieldsOf, validityOf } from '../x509/fields.ts'
import type { RenewalInfo } from './client.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Parts of a lifetime after which a certificate is renewed if the CA does not say when, up to how much earlier, and when in any case. */
const RENEWED = 2 / 3
const EARLIER = 1 / 20
const LATEST = 9 / 10

/**
 * When to renew: at a random time of the window that the CA suggests (RFC 9773 §4.2), else after two thirds of the lifetime or
 * a little earlier. Randomly, so that not all certificates of one day are renewed at one time.
 *
 * @param random 0 to 1, always the same one for this certificate and window
 */
export function plannedRenewal (leaf: X509Certificate, info: Pick<RenewalInfo, 'start' | 'end'> | undefined, random: number): number {
  const { notBefore, notAfter } = validityOf(leaf)
  const lifetime = notAfter - notBefore
  if (info === undefined) return notBefore + (RENEWED - random * EARLIER) * lifetime
  // A window that comes too late is a mistake of the CA.
  return Math.min(info.start + random * (info.end - info.start), notBefore + LATEST * lifetime)
}

/** When the CA is to be asked again for renewal information (RFC 9773 §4.3.2). */
export function nextQuestion (info: RenewalInfo | undefined, now: number): number {
  if (info === undefined) return now + DAY
  return Math.min(Math.max(info.askAgain ?? now + 6 * HOUR, now + MINUTE), now + DAY)
}

/** Milliseconds of the first pause, and the longest. */
const PAUSES = {
  /** The server does not answer, or has an error of its own. */
  unreachable: { first: 5_000, longest: HOUR },
  /** CAs count what they have refused: Let's Encrypt, five failed validations of a host an hour. */
  refused: { first: MINUTE, longest: HOUR }
} as const

/**
 * Milliseconds until the next attempt: each pause is twice the one before, and up to half of it is left out at random.
 *
 * @param failures so far, one at least
 * @param random 0 to 1
 */
export function pauseAfter (failures: number, kind: keyof typeof PAUSES, random: number): number {
  const { first, longest } = PAUSES[kind]
  return Math.min(first * 2 ** (failures - 1), longest) * (1 - random / 2)
}

const AUTHORITY_KEY_IDENTIFIER = octetsOf('2.5.29.35')
/** `[0]` of an AuthorityKeyIdentifier (RFC 5280 §4.2.1.1): keyIdentifier. */
const KEY_IDENTIFIER = 0x80

/** The name of a certificate for the CA (RFC 9773 §4.1); undefined where it names no key of its issuer. */
export function certificateId (leaf: X509Certificate): string | undefined {
  return readOr(() => {
    const [keyId] = elementsIn(elementOf(extensionOf(leaf, AUTHORITY_KEY_IDENTIFIER)!), SEQUENCE)
    const serialNumber = contentOf(fieldsOf(leaf).serialNumber, INTEGER)
    return `${contentOf(keyId, KEY_IDENTIFIER).toString('base64url')}.${serialNumber.toString('base64url')}`
  }, undefined)
}
