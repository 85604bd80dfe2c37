/**
 * Whether a name is within a subtree of names (RFC 5280 §4.2.1.10), in the way of OpenSSL.
 *
 * Names are texts: addresses with a character for each octet, distinguished names in canonical form.
 */
import { lowerCase } from './canonical.ts'

/** GeneralName's choices, by tag. */
export const OTHER_NAME = 0xa0
export const EMAIL = 0x81
export const DNS = 0x82
export const DIRECTORY_NAME = 0xa4
export const URI = 0x86
export const IP = 0x87

/** Undefined: the name is written in a way that cannot be compared. */
type IsWithin = (name: string, subtree: string) => boolean | undefined

/** Kinds that are not here cannot be compared. */
export const COMPARISONS: ReadonlyMap<number, IsWithin> = new Map<number, IsWithin>([
  [EMAIL, isEmailWithin],
  [DNS, isDnsWithin],
  [DIRECTORY_NAME, (name, subtree) => name.startsWith(subtree)],
  [URI, isUriWithin],
  [IP, isAddressWithin]
])

/**
 * A scheme, `//`, and a host alone or with a port. What browsers and OpenSSL's versions read differently (user names
 * and other `@`, queries without a path, another colon) is not read at all.
 */
const WITH_HOST = /^[a-z][a-z\d+.-]*:\/\/([\w.-]+)(?::\d{1,5}(?:\/[\x21-\x3f\x41-\x7e]*)?|\/[\x21-\x39\x3b-\x3f\x41-\x7e]*)?$/i

/** `host.test` is itself and what is below, `.host.test` what is below, and nothing is everything. */
function isDnsWithin (name: string, subtree: string): boolean {
  const [host, base] = [lowerCase(name), lowerCase(subtree)]
  if (!host.endsWith(base)) return false
  return host.length === base.length || base === '' || base.startsWith('.') || host.at(-base.length - 1) === '.'
}

/** `jane@host.test` is one address, `host.test` those at a host, `.host.test` those at the hosts below. */
function isEmailWithin (name: string, subtree: string): boolean | undefined {
  const at = name.lastIndexOf('@')
  if (at === -1 || name.includes('\0')) return undefined
  const baseAt = subtree.lastIndexOf('@')
  if (baseAt === -1 && subtree.startsWith('.')) return isBelow(name, subtree)
  // Whose it is matters with its case (RFC 5321 §2.4), the host does not.
  if (baseAt > 0 && subtree.slice(0, baseAt) !== name.slice(0, at)) return false
  return lowerCase(subtree.slice(baseAt + 1)) === lowerCase(name.slice(at + 1))
}

/** `host.test` is a host, `.host.test` those below. */
function isUriWithin (name: string, subtree: string): boolean | undefined {
  const host = WITH_HOST.exec(name)?.[1]
  if (host === undefined) return undefined
  return subtree.startsWith('.') ? isBelow(host, subtree) : lowerCase(host) === lowerCase(subtree)
}

/** An address and a mask. */
function isAddressWithin (name: string, subtree: string): boolean | undefined {
  const size = name.length
  if ((size !== 4 && size !== 16) || (subtree.length !== 8 && subtree.length !== 32)) return undefined
  if (subtree.length !== size * 2) return false
  return [...name].every((character, index) => {
    return ((character.charCodeAt(0) ^ subtree.charCodeAt(index)) & subtree.charCodeAt(size + index)) === 0
  })
}

function isBelow (host: string, subtree: string): boolean {
  return host.length > subtree.length && lowerCase(host).endsWith(lowerCase(subtree))
}
