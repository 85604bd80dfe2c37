/**
 * Whether a name is within a subtree of names (RFC 5280 §4.2.1.10), in the way of OpenSSL.
 */
import { DIRECTORY_NAME, DNS, EMAIL, type GeneralName, IP, URI } from './general-names.ts'

/** Undefined: the name is written in a way that cannot be compared. */
export type IsWithin = (name: GeneralName, subtree: GeneralName) => boolean | undefined

/** Kinds that are not here cannot be compared. */
export const COMPARISONS: ReadonlyMap<number, IsWithin> = new Map<number, IsWithin>([
  [EMAIL, isEmailWithin],
  [DNS, isDnsWithin],
  [DIRECTORY_NAME, ({ text: name }, { text: base }) => name.slice(0, base.length) === base],
  [URI, isUriWithin],
  [IP, isAddressWithin]
])

/** `host.test` is itself and what is below, `.host.test` what is below, and nothing is everything. */
function isDnsWithin ({ text: host }: GeneralName, { text: base }: GeneralName): boolean {
  if (!host.endsWith(base)) return false
  return host.length === base.length || base === '' || base.startsWith('.') || host.at(-base.length - 1) === '.'
}

/** `jane@host.test` is one address, `host.test` those at a host, `.host.test` those at the hosts below. */
function isEmailWithin (name: GeneralName, subtree: GeneralName): boolean | undefined {
  if (name.host === undefined || name.local === undefined || subtree.host === undefined) return undefined
  if (subtree.local === undefined && subtree.text.startsWith('.')) return isBelow(name.text, subtree.text)
  // `@host.test` is as good as `host.test`.
  if (subtree.local && subtree.local !== name.local) return false
  return subtree.host === name.host
}

/** `host.test` is a host, `.host.test` those below. */
function isUriWithin ({ host }: GeneralName, { text: base }: GeneralName): boolean | undefined {
  if (host === undefined) return undefined
  return base.startsWith('.') ? isBelow(host, base) : host === base
}

/** An address and a mask. */
function isAddressWithin ({ text: name }: GeneralName, { text: subtree }: GeneralName): boolean | undefined {
  const size = name.length
  if ((size !== 4 && size !== 16) || (subtree.length !== 8 && subtree.length !== 32)) return undefined
  if (subtree.length !== size * 2) return false
  for (let index = 0; index < size; index++) {
    if (((name.charCodeAt(index) ^ subtree.charCodeAt(index)) & subtree.charCodeAt(size + index)) !== 0) return false
  }
  return true
}

function isBelow (host: string, subtree: string): boolean {
  return host.length > subtree.length && host.endsWith(subtree)
}
