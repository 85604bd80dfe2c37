/**
 * The entries of a CRL (RFC 5280 §5.1.2.6 and §5.3), of which there may be a million. Begin with `readEntries`: it reads
 * each entry once, in slices, into a hash table of their offsets. A Set of strings would take four times as long, and as
 * much memory as the CRL once more.
 */
import { randomFillSync } from 'node:crypto'
import type { Slices } from '../slices.ts'
import { dottedOf, type Element, elementAt, INTEGER, notDer, SEQUENCE } from './der.ts'
import { type Extensions, extensionsOf, idOf, isShortest } from './fields.ts'

/** `removed`: a delta CRL takes a revocation back with the reason removeFromCRL (RFC 5280 §5.3.1). */
export type EntryStatus = 'revoked' | 'removed'

interface Entries {
  readonly size: number
  /** An entry has a critical extension: its meaning may be different (it may be about another issuer's certificate). */
  readonly hasCritical: boolean
  /** @param serialNumber the content octets of the INTEGER */
  statusOf (serialNumber: Buffer): EntryStatus | undefined
}

/** UTCTime and GeneralizedTime. */
export const TIMES: readonly number[] = [0x17, 0x18]

/** Octets of the shortest date, a UTCTime of 13 characters, and of the shortest entry: a header, an INTEGER and a date. */
const LEAST_DATE = 15
const LEAST_ENTRY = LEAST_DATE + 5

/** Octets. An entry is read in one step; entries with extensions of more than a hundred are rare. */
const LARGEST_ENTRY = 16 * 1024

/** Octets of a serial number. RFC 5280 §4.1.2.2 allows 20, but not every CA keeps to that. */
const LONGEST_NUMBER = 64

/** Octets that are read between two looks at the clock. */
const PIECE = 32 * 1024

const REASON_CODE = idOf('2.5.29.21')
const REMOVE_FROM_CRL = 8

/** The usual extensions of an entry: a non-critical reasonCode (§5.3.1), without its last octet, which is the reason. */
const REASON = Buffer.from('300a0603551d1504030a01', 'hex')
/** A non-critical invalidityDate (RFC 5280 §5.3.2), without the date. */
const INVALIDITY_DATE = Buffer.from('30180603551d180411180f', 'hex')
/** Both lengths with the octets that are left out above. */
const REASON_LENGTH = REASON.length + 1
const INVALIDITY_DATE_LENGTH = INVALIDITY_DATE.length + 15

/** The value of a reasonCode, an ENUMERATED, without its last octet. */
const CODE = Buffer.from('0a01', 'hex')

/** The extensions of one entry, as far as they matter. */
interface EntryFlags {
  readonly isCritical: boolean
  readonly isRemoved: boolean
}

const REVOKED: EntryFlags = { isCritical: false, isRemoved: false }
const REMOVED: EntryFlags = { isCritical: false, isRemoved: true }

/**
 * @param element the SEQUENCE revokedCertificates, if present
 * @param mayExtend whether entries may have extensions; in a CRL of version 1 they may not
 * @throws RangeError where the bytes are not exactly one entry or more: an entry that OpenSSL cannot read, or reads
 * differently, would revoke no certificate
 */
export async function readEntries (element: Element | undefined, mayExtend: boolean, slices: Slices): Promise<Entries> {
  if (element === undefined) return { size: 0, hasCritical: false, statusOf: () => undefined }
  const { bytes, start, end } = element
  if (start === end) throw notDer() // RFC 5280 §5.1.2.6: without entries, the SEQUENCE must be absent
  const table = new Table(bytes, (end - start) / LEAST_ENTRY)
  let [size, hasCritical] = [0, false]
  for (let offset = start; offset < end;) {
    await slices.rest()
    for (const until = Math.min(offset + PIECE, end); offset < until; size++) {
      const entry = elementAt(bytes, offset, end)
      const serial = elementAt(bytes, entry.start, entry.end)
      const date = elementAt(bytes, serial.end, entry.end)
      assertEntry(entry, serial, date)
      if (date.end < entry.end && !mayExtend) throw notDer()
      // Parsed for every entry: one malformed entry makes the whole CRL unreadable, wherever it is.
      const { isCritical, isRemoved } = flagsOf(bytes, date.end, entry.end)
      hasCritical ||= isCritical
      table.add(offset, serial, isRemoved)
      offset = entry.end
    }
  }
  return {
    size,
    hasCritical,
    statusOf (serialNumber) {
      const offset = table.find(serialNumber, 0, serialNumber.length)
      if (offset === NONE) return undefined
      const entry = elementAt(bytes, offset, end)
      const date = elementAt(bytes, elementAt(bytes, entry.start, entry.end).end, entry.end)
      return flagsOf(bytes, date.end, entry.end).isRemoved ? 'removed' : 'revoked'
    }
  }
}

/** Serial numbers are compared octet by octet, so they must be in the shortest form. */
function assertEntry (entry: Element, serial: Element, date: Element): void {
  const isEntry = entry.tag === SEQUENCE && entry.end - entry.offset <= LARGEST_ENTRY
  const isNumber = serial.tag === INTEGER && isShortest(serial) && serial.end - serial.start <= LONGEST_NUMBER
  const isDate = TIMES.includes(date.tag) && date.end - date.offset >= LEAST_DATE
  if (!isEntry || !isNumber || !isDate) throw notDer()
}

/** @param start where the date ends: extensions follow, if there are any */
function flagsOf (bytes: Buffer, start: number, end: number): EntryFlags {
  if (start === end) return REVOKED
  // Fast path for what nearly all of a million entries have: a reason, or a reason and an invalidity date.
  if (isUsual(bytes, start, end)) return bytes[start + 2 + REASON.length] === REMOVE_FROM_CRL ? REMOVED : REVOKED
  const sequence = elementAt(bytes, start, end)
  if (sequence.tag !== SEQUENCE || sequence.end !== end) throw notDer()
  // RFC 5280 §4.1 forbids an empty SEQUENCE, but @peculiar/x509 writes one, and its meaning is clear.
  if (sequence.start === end) return REVOKED
  const extensions = extensionsOf(sequence)
  assertIdentifiers(extensions)
  const code = extensions.get(REASON_CODE)?.value
  if (code !== undefined && !(code.length === CODE.length + 1 && isAt(CODE, code, 0))) throw notDer()
  return { isCritical: [...extensions.values()].some(({ isCritical }) => isCritical), isRemoved: code?.at(-1) === REMOVE_FROM_CRL }
}

/** @throws RangeError where OpenSSL would not read one of the identifiers */
export function assertIdentifiers (extensions: Extensions): void {
  for (const id of extensions.keys()) dottedOf(Buffer.from(id, 'latin1'))
}

function isUsual (bytes: Buffer, start: number, end: number): boolean {
  const first = start + 2
  if (bytes[start] !== SEQUENCE || bytes[start + 1] !== end - first || !isAt(REASON, bytes, first)) return false
  const next = first + REASON_LENGTH
  return next === end || (next + INVALIDITY_DATE_LENGTH === end && isAt(INVALIDITY_DATE, bytes, next))
}

function isAt (pattern: Buffer, bytes: Buffer, offset: number): boolean {
  for (let index = 0; index < pattern.length; index++) if (bytes[offset + index] !== pattern[index]) return false
  return true
}

// Hash table: entries by serial number

/** An empty slot: no entry is at offset 0 of a CRL. */
const NONE = 0

/**
 * Random numbers for tabulation hashing. They must be unpredictable: an issuer who can choose serial numbers that all fall
 * into one place of the table makes a million of them take hours.
 */
const RANDOM = randomFillSync(new Uint32Array(LONGEST_NUMBER * 256))

/** Entries by serial number, with linear probing; at most half full. */
class Table {
  readonly #bytes: Buffer
  /** Offsets of entries in the CRL. */
  readonly #slots: Uint32Array
  readonly #mask: number

  constructor (bytes: Buffer, most: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * most + 2))
    this.#bytes = bytes
    this.#slots = new Uint32Array(size)
    this.#mask = size - 1
  }

  /** Of several entries for one serial number, one that revokes is kept. */
  add (offset: number, { start, end }: Element, isRemoved: boolean): void {
    const slot = this.#slotOf(this.#bytes, start, end)
    if (this.#slots[slot] === NONE || !isRemoved) this.#slots[slot] = offset
  }

  find (serialNumber: Buffer, start: number, end: number): number {
    return end - start > LONGEST_NUMBER ? NONE : this.#slots[this.#slotOf(serialNumber, start, end)]
  }

  /** The slot of a serial number: where its entry is, or would be put. */
  #slotOf (bytes: Buffer, start: number, end: number): number {
    let hash = 0
    for (let index = start; index < end; index++) hash ^= RANDOM[(index - start) * 256 + bytes[index]]
    let slot = hash & this.#mask
    while (this.#slots[slot] !== NONE && !this.#isOf(this.#slots[slot], bytes, start, end)) slot = (slot + 1) & this.#mask
    return slot
  }

  /** Whether the entry at `offset` has this serial number, whose header follows the header of the entry. */
  #isOf (offset: number, bytes: Buffer, start: number, end: number): boolean {
    const size = this.#bytes[offset + 1]
    const serial = offset + 2 + (size < 0x80 ? 0 : size & 0x7f)
    if (this.#bytes[serial + 1] !== end - start) return false
    for (let index = start, at = serial + 2; index < end; index++, at++) {
      if (this.#bytes[at] !== bytes[index]) return false
    }
    return true
  }
}
