/**
 * Entries that describe certificates, in the clients document and in `allow`, and the index that finds which of them match a
 * certificate. Begin with {@link resolveEntry} and {@link EntryIndex}.
 *
 * An entry is a list of parts, each a name and a value: `subject CN` and `=orders`, `san URI` and `spiffe://…`. A certificate
 * has one value or several of each part, see certificate-parts.ts, and an entry matches where it has every value of the entry.
 * Values are compared as strings, so that nothing looks like something else.
 */
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import type { CertificateEntry, NameAttribute } from '../../types/clients.ts'

/** A part: the name, and the value that a certificate has to have. */
type Part = readonly [name: string, value: string]

/** Sorted by name. Frozen. */
export type ResolvedEntry = readonly Part[]

/** What a certificate has of each part. */
export interface CertificateParts {
  /** Every value of a part; none where the certificate has no such part, or it cannot be read. */
  valuesOf (name: string): readonly string[]
}

export const ISSUED_BY = 'issuedBy'
export const FINGERPRINT = 'fingerprint256'
export const SERIAL_NUMBER = 'serialNumber'

/** What the name of a part begins with that is an alternative name. */
export const ALTERNATIVE = 'san '

/** The attributes of names that an entry may have. */
export const ATTRIBUTES = ['CN', 'C', 'L', 'O', 'OU', 'S', 'ST', 'T', 'GN', 'I', 'E', 'Email', 'SERIALNUMBER', 'DC', 'UID'] as const satisfies readonly NameAttribute[]

/** Two keys for one attribute, of which an entry may have one. */
const ALIASES: ReadonlyMap<string, string> = new Map([['S', 'ST'], ['Email', 'E']])

/** How each part is read; in the order in which messages name them. */
const READERS: Readonly<Record<keyof CertificateEntry, (value: unknown, entry: CertificateEntry) => readonly Part[]>> = {
  subject: (value) => attributeParts('subject', value),
  issuer: (value) => attributeParts('issuer', value),
  san: (value) => [alternativeNamePart(textIn('san', value))],
  // As Node writes it.
  fingerprint256: (value) => [[FINGERPRINT, hexIn(FINGERPRINT, value, /^[\da-f]{64}$/, 'the SHA-256 of a certificate: 64 hex digits, with or without colons').toUpperCase().replace(/..(?!$)/g, '$&:')]],
  serialNumber (value, { issuer, issuedBy }) {
    if (issuer === undefined && issuedBy === undefined) throw new TypeError('serialNumber: needs issuer or issuedBy beside it, because each CA numbers its own certificates')
    return [[SERIAL_NUMBER, canonicalSerial(hexIn(SERIAL_NUMBER, value, /^-?[\da-f]{1,80}$/, 'hex digits, with or without colons or hyphens'))]]
  },
  issuedBy: (value) => [[ISSUED_BY, textIn('issuedBy', value)]]
}

/**
 * @throws TypeError with the place and what is allowed; also for an entry that would match every certificate, or none
 */
export function resolveEntry (entry: unknown): ResolvedEntry {
  const given = partsIn(entry, Object.keys(READERS), '')
  if (given.length === 0) throw new TypeError('an empty entry is not allowed, because it would match every certificate')
  const parts = given.flatMap(([name, value]) => READERS[name as keyof CertificateEntry](value, entry as CertificateEntry))
  return Object.freeze(parts.sort(([a], [b]) => a < b ? -1 : 1))
}

/** An `undefined` part is a mistake in code, which must not make the entry match more certificates. */
function partsIn (value: unknown, allowed: readonly string[], where: string): Array<[string, unknown]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError(`${where}${shown(value)} is not allowed; allowed: an object { ${allowed.map((name) => `${name}?`).join(', ')} }`)
  // Of a class, or of another object: what it inherits would not be seen.
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) throw new TypeError(`${where}an object of a class is not allowed; allowed: a plain object`)
  const parts = Object.entries(value)
  for (const [name, part] of parts) {
    if (!allowed.includes(name)) throw new TypeError(`${where}${shown(name)} is not allowed; allowed: ${allowed.join(', ')}`)
    if (part === undefined) throw new TypeError(`${where}${name}: undefined is not allowed; leave it out, or give a value`)
  }
  return parts
}

function textIn (where: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value
  throw new TypeError(`${where}: ${shown(value)} is not allowed; allowed: a string that is not empty`)
}

function shown (value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/**
 * Whether an entry is about certificates that nobody can have issued whom the administrator does not mean: a fingerprint, or
 * an alternative name with the label of the CA. Another CA of the server could issue one with the same name.
 */
export function isExact (entry: ResolvedEntry): boolean {
  const names = entry.map(([name]) => name)
  return names.includes(FINGERPRINT) || (names.includes(ISSUED_BY) && names.some((name) => name.startsWith(ALTERNATIVE)))
}

/** The label of client CAs that an entry asks for. */
export function labelIn (entry: ResolvedEntry): string | undefined {
  return entry.find(([name]) => name === ISSUED_BY)?.[1]
}

/** The value of an attribute that has these values: in any order, and no other ones. */
export function attributeValue (values: readonly string[]): string {
  return values.length === 1 ? `=${values[0]!}` : JSON.stringify([...values].sort())
}

/** Without leading zeros: DER has one where the first bit would be a sign. */
export function canonicalSerial (hex: string): string {
  return hex.toLowerCase().replace(/^(-?)0+(?=.)/, '$1')
}

function attributeParts (whose: 'subject' | 'issuer', attributes: unknown): Part[] {
  const given = partsIn(attributes, ATTRIBUTES, `${whose}: `)
  if (given.length === 0) throw new TypeError(`${whose}: an empty object is not allowed, because it would match every name`)
  const parts = given.map(([key, value]): Part => {
    const values = Array.isArray(value) ? value.map((each) => textIn(`${whose}: ${key}`, each)) : [textIn(`${whose}: ${key}`, value)]
    if (values.length === 0) throw new TypeError(`${whose}: ${key}: an empty list is not allowed; leave it out, or give a value`)
    return [`${whose} ${ALIASES.get(key) ?? key}`, attributeValue(values)]
  })
  const names = parts.map(([name]) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new TypeError(`${whose}: ${twice.slice(whose.length + 1)} is there twice, under two names`)
  return parts
}

const SAN_KINDS = ['DNS', 'URI', 'email', 'IP', 'UPN'] as const

function alternativeNamePart (san: string): Part {
  const colon = san.indexOf(':')
  const [kind, value] = [san.slice(0, colon), san.slice(colon + 1)]
  if (!(SAN_KINDS as readonly string[]).includes(kind) || value === '' || /\p{Control}/u.test(value)) {
    throw new TypeError(`san: ${shown(san)} is not allowed; allowed: a kind and a value, as in ${SAN_KINDS.map((kind) => `'${kind}:…'`).join(', ')}`)
  }
  return [`${ALTERNATIVE}${kind}`, kind === 'IP' ? canonicalAddress(value) : value]
}

function canonicalAddress (value: string): string {
  if (isIPv4(value)) return value
  if (isIPv6(value) && !value.includes('%')) return new SocketAddress({ address: value, family: 'ipv6' }).address
  throw new TypeError(`san: ${shown(value)} is no IP address`)
}

function hexIn (name: string, value: unknown, form: RegExp, allowed: string): string {
  const text = textIn(name, value).toLowerCase()
  const hex = form.test(text) ? text : text.replace(/(?<=[\da-f]{2})[:-](?=[\da-f]{2})/g, '')
  if (!form.test(hex)) throw new TypeError(`${name}: ${shown(value)} is not allowed; allowed: ${allowed}`)
  return hex
}

// The index

/** What entries are looked up for. */
interface Found {
  readonly isSuspended?: boolean
}

/** Entries that have the same parts. */
interface Shape<Value> {
  readonly names: readonly string[]
  /** By the values of these parts: the first that was added, and another one where there is any. */
  readonly values: Map<string, Value[]>
}

/**
 * Finds the entries that match a certificate, among any number: entries with the same parts are in one map, by the values of
 * their parts. A document has a handful of such maps, so that ten thousand entries take as long as ten.
 */
export class EntryIndex<Value extends Found> {
  readonly #shapes = new Map<string, Shape<Value>>()

  /**
   * Of what is added with entries that are the same, the first and another one are kept: the first counts, and the other one
   * is there to be told of. It is a suspended one if any is.
   *
   * @returns what has been added before with an entry that is the same
   */
  add (entry: ResolvedEntry, value: Value): readonly Value[] {
    const names = entry.map(([name]) => name)
    const id = names.join('\n')
    let shape = this.#shapes.get(id)
    if (shape === undefined) this.#shapes.set(id, shape = { names, values: new Map() })
    const key = entry.reduce((key, [, value]) => key + keyOf(value), '')
    const before = shape.values.get(key)
    if (before === undefined) shape.values.set(key, [value])
    else if (before[0] !== value && (before.length === 1 || value.isSuspended === true)) before[1] = value
    return before ?? []
  }

  /** What was added with entries that match, in no particular order. */
  find (parts: CertificateParts): Value[] {
    const found: Value[] = []
    for (const { names, values } of this.#shapes.values()) collect(found, values, parts, names, 0, '')
    return found
  }
}

/** Follows every choice of one value of each part. Only alternative names and labels have several. */
function collect<Value> (found: Value[], values: ReadonlyMap<string, Value[]>, parts: CertificateParts, names: readonly string[], at: number, key: string): void {
  if (at === names.length) found.push(...values.get(key) ?? [])
  else for (const value of parts.valuesOf(names[at]!)) collect(found, values, parts, names, at + 1, key + keyOf(value))
}

/** With its length, so that no value can look like several. */
function keyOf (value: string): string {
  return `${value.length}:${value}`
}
