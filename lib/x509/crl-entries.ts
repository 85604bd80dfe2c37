/**
 * The entries of a CRL (RFC 5280 §5.3), of which there may be a million: read once, in slices, into a table of where they
 * are. A Set of strings takes four times as long, and as much memory as the CRL again.
 */
import { randomFillSync } from 'node:crypto'
import type { Slices } from '../slices.ts'
import { dottedOf, type Element, elementAt, INTEGER, notDer, SEQUENCE } from './der.ts'
import { type Extensions, extensionsOf, idOf, isShortest } from './fields.ts'

/** A delta CRL takes a revocation back by removeFromCRL (RFC 5280 §5.3.1). */
export type EntryStatus = 'revoked' | 'removed'

interface Entries {
  readonly size: number
  /** An entry has a critical extension: it does not say what it seems to (such as whose certificate it is about). */
  readonly hasCritical: boolean
  /** @param serialNumber the content octets of the INTEGER */
  statusOf (serialNumber: Buffer): EntryStatus | undefined
}

/** UTCTime and GeneralizedTime. */
export const TIMES: readonly number[] = [0x17, 0x18]

/** A UTCTime of 13 characters; an entry has that, an INTEGER, and a tag and a length itself. */
const LEAST_DATE = 15
const LEAST_ENTRY = LEAST_DATE + 5

/** Octets. An entry is read in one go; extensions of a hundred are rare. */
const LARGEST_ENTRY = 16 * 1024

/** Octets of a serial number. RFC 5280 §4.1.2.2 allows 20; not everybody keeps to that. */
const LONGEST_NUMBER = 64

/** Octets that are walked through between two looks at the clock. */
const PIECE = 32 * 1024

const REASON_CODE = idOf('2.5.29.21')
const REMOVE_FROM_CRL = 8

/** An extension that is a reason and not critical, but for its last octet: which reason. */
const REASON = Buffer.from('300a0603551d1504030a01', 'hex')
/** The same of a date of invalidity (RFC 5280 §5.3.2), but for the date. */
const INVALIDITY_DATE = Buffer.from('30180603551d180411180f', 'hex')
/** With the octets that are left open. */
const REASON_LENGTH = REASON.length + 1
const INVALIDITY_DATE_LENGTH = INVALIDITY_DATE.length + 15

/** The value of a reason, but for its last octet: an ENUMERATED. */
const CODE = Buffer.from('0a01', 'hex')

/** What the extensions of an entry say. */
interface Remarks {
  readonly isCritical: boolean
  readonly isRemoved: boolean
}

const REVOKED: Remarks = { isCritical: false, isRemoved: false }
const REMOVED: Remarks = { isCritical: false, isRemoved: true }

/**
 * @param element the SEQUENCE, if it is there
 * @param mayExtend entries may have extensions: those of a CRL of version 1 have none
 * @throws RangeError where the bytes are not exactly entries, one or more: what OpenSSL cannot read, or reads otherwise,
 * revokes nobody
 */
export async function readEntries (element: Element | undefined, mayExtend: boolean, slices: Slices): Promise<Entries> {
  if (element === undefined) return { size: 0, hasCritical: false, statusOf: () => undefined }
  const { bytes, start, end } = element
  if (start === end) throw notDer() // RFC 5280 §5.1.2.6: then they are left out
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
      // Looked at in each of them: a CRL that cannot be read is none, wherever that is.
      const { isCritical, isRemoved } = remarksOf(bytes, date.end, entry.end)
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
      return remarksOf(bytes, date.end, entry.end).isRemoved ? 'removed' : 'revoked'
    }
  }
}

/** Serial numbers are compared by their octets: they have to be in the shortest form. */
function assertEntry (entry: Element, serial: Element, date: Element): void {
  const isEntry = entry.tag === SEQUENCE && entry.end - entry.offset <= LARGEST_ENTRY
  const isNumber = serial.tag === INTEGER && isShortest(serial) && serial.end - serial.start <= LONGEST_NUMBER
  const isDate = TIMES.includes(date.tag) && date.end - date.offset >= LEAST_DATE
  if (!isEntry || !isNumber || !isDate) throw notDer()
}

/** Of the extensions that end an entry, if there are any. */
function remarksOf (bytes: Buffer, start: number, end: number): Remarks {
  if (start === end) return REVOKED
  // Nearly always a reason, or that and the date of invalidity: there may be a million.
  if (isUsual(bytes, start, end)) return bytes[start + 2 + REASON.length] === REMOVE_FROM_CRL ? REMOVED : REVOKED
  const sequence = elementAt(bytes, start, end)
  if (sequence.tag !== SEQUENCE || sequence.end !== end) throw notDer()
  // It should not be empty (RFC 5280 §4.1), but @peculiar/x509 writes it so, and it can say nothing else.
  if (sequence.start === end) return REVOKED
  const extensions = extensionsOf(sequence)
  assertIdentifiers(extensions)
  const code = extensions.get(REASON_CODE)?.value
  if (code !== undefined && !(code.length === CODE.length + 1 && isAt(CODE, code, 0))) throw notDer()
  return { isCritical: [...extensions.values()].some(({ isCritical }) => isCritical), isRemoved: code?.at(-1) === REMOVE_FROM_CRL }
}

/** @throws RangeError where OpenSSL would not read one of them */
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

/** No entry is where the CRL begins. */
const NONE = 0

/**
 * Tabulation hashing, of numbers that nobody can know: whoever issues a CRL may choose serial numbers that are all in one
 * place of a table, and then a million of them take hours.
 */
const RANDOM = randomFillSync(new Uint32Array(LONGEST_NUMBER * 256))

/** A hash table of entries by serial number, with linear probing, at most half full. */
class Table {
  readonly #bytes: Buffer
  /** Where entries are in the CRL. */
  readonly #slots: Uint32Array
  readonly #mask: number

  constructor (bytes: Buffer, most: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * most + 2))
    this.#bytes = bytes
    this.#slots = new Uint32Array(size)
    this.#mask = size - 1
  }

  /** Of several entries with one number, one that revokes is kept. */
  add (offset: number, { start, end }: Element, isRemoved: boolean): void {
    const slot = this.#slotOf(this.#bytes, start, end)
    if (this.#slots[slot] === NONE || !isRemoved) this.#slots[slot] = offset
  }

  find (serialNumber: Buffer, start: number, end: number): number {
    return end - start > LONGEST_NUMBER ? NONE : this.#slots[this.#slotOf(serialNumber, start, end)]
  }

  /** Where the entry with a serial number is, or would be put. */
  #slotOf (bytes: Buffer, start: number, end: number): number {
    let hash = 0
    for (let index = start; index < end; index++) hash ^= RANDOM[(index - start) * 256 + bytes[index]]
    let slot = hash & this.#mask
    while (this.#slots[slot] !== NONE && !this.#isOf(this.#slots[slot], bytes, start, end)) slot = (slot + 1) & this.#mask
    return slot
  }

  /** Whether an entry has a serial number: tag, length and number follow the tag and the length of the entry. */
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
