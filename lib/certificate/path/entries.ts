/**
 * The entries of a revocation list (RFC 5280 §5.3), of which there may be a million: read once, in a table of where their
 * serial numbers are. A Set of strings takes four times as long, and as much memory as the list again.
 */
import { elementAt, INTEGER, notDer, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { extensionsOf, idOf, isShortest } from './extensions.ts'

export interface Entries {
  has (serialNumber: Element): boolean
  /** An entry has a critical extension: what it says is not what it seems to (such as of whose certificate). */
  readonly hasCritical: boolean
}

/** UTCTime and GeneralizedTime. */
export const TIMES: readonly number[] = [0x17, 0x18]

const REASON_CODE = idOf('2.5.29.21')
/** An extension that is a reason and not critical (RFC 5280 §5.3.1), but for its last octet: which reason. */
const REASON = Buffer.from('300a0603551d1504030a01', 'hex')
/** The value of the same. */
const CODE = Buffer.from('0a01', 'hex')

/** A UTCTime of 13 characters; an entry has that, an INTEGER, and a tag and a length itself. */
const LEAST_DATE = 15
const LEAST_ENTRY = LEAST_DATE + 5

/**
 * Throws where the bytes are not exactly entries, one or more: what OpenSSL cannot read, or reads otherwise, revokes nobody.
 *
 * @param mayExtend entries may have extensions: those of version 1 have none
 */
export function entriesIn ({ bytes, start, end }: Element, mayExtend: boolean): Entries {
  if (start === end) throw notDer() // RFC 5280 §5.1.2.6: then they are left out
  const table = new SerialNumbers(bytes, (end - start) / LEAST_ENTRY)
  let hasCritical = false
  for (let offset = start; offset < end;) {
    const entry = elementAt(bytes, offset, end)
    const serial = elementAt(bytes, entry.start, entry.end)
    const date = elementAt(bytes, serial.end, entry.end)
    // A serial number is compared by its octets: it has to be in the shortest form.
    const isInteger = serial.tag === INTEGER && isShortest(serial)
    if (entry.tag !== SEQUENCE || !isInteger || !TIMES.includes(date.tag) || date.end - date.offset < LEAST_DATE) throw notDer()
    table.add(serial)
    if (date.end < entry.end) {
      if (!mayExtend) throw notDer()
      // Looked at in each of them: a list that cannot be read is none, wherever that is.
      if (isAnyCritical(bytes, date.end, entry.end)) hasCritical = true
    }
    offset = entry.end
  }
  return { has: (serialNumber) => table.has(serialNumber), hasCritical }
}

/** The SEQUENCE of extensions that ends an entry. It should not be empty (RFC 5280 §4.1), but @peculiar/x509 writes it so, and it can say nothing else. */
function isAnyCritical (bytes: Buffer, start: number, end: number): boolean {
  const sequence = elementAt(bytes, start, end)
  if (sequence.tag !== SEQUENCE || sequence.end !== end) throw notDer()
  if (sequence.start === end || isUsual(sequence)) return false
  const extensions = extensionsOf(sequence)
  const code = extensions.get(REASON_CODE)?.value
  if (code !== undefined && (code.length !== CODE.length + 1 || !code.subarray(0, CODE.length).equals(CODE))) throw notDer()
  return [...extensions.values()].some(({ isCritical }) => isCritical)
}

/** A reason, or that and another extension (the date of invalidity), neither of them critical: there may be a million. */
function isUsual ({ bytes, start, end }: Element): boolean {
  const first = elementAt(bytes, start, end)
  if (!isReason(first)) return false
  return first.end === end || isPlain(elementAt(bytes, first.end, end), end)
}

function isReason ({ bytes, offset, end }: Element): boolean {
  if (end - offset !== REASON.length + 1) return false
  for (let index = 0; index < REASON.length; index++) if (bytes[offset + index] !== REASON[index]) return false
  return true
}

/** The last extension, another than a reason, and without a word on whether it is critical. */
function isPlain ({ bytes, tag, start, end }: Element, limit: number): boolean {
  const identifier = elementAt(bytes, start, end)
  const value = elementAt(bytes, identifier.end, end)
  return tag === SEQUENCE && end === limit && value.end === end &&
    identifier.tag === OBJECT_IDENTIFIER && value.tag === OCTET_STRING && bytes.toString('latin1', identifier.start, identifier.end) !== REASON_CODE
}

/** A hash table with linear probing, at most half full. */
class SerialNumbers {
  readonly #bytes: Buffer
  /** Offsets in the list, where an INTEGER is; 0 is none. */
  readonly #slots: Uint32Array
  readonly #mask: number

  constructor (bytes: Buffer, most: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * most + 2))
    this.#bytes = bytes
    this.#slots = new Uint32Array(size)
    this.#mask = size - 1
  }

  add (serial: Element): void {
    this.#slots[this.#slotOf(serial)] = serial.offset
  }

  has (serial: Element): boolean {
    return this.#slots[this.#slotOf(serial)] !== 0
  }

  /** Where a serial number is, or would be put. */
  #slotOf (serial: Element): number {
    let slot = hashOf(serial) & this.#mask
    while (this.#slots[slot] !== 0 && !this.#isAt(this.#slots[slot], serial)) slot = (slot + 1) & this.#mask
    return slot
  }

  /** The length is compared, too: it is among the octets. */
  #isAt (offset: number, serial: Element): boolean {
    for (let index = serial.offset; index < serial.end; index++, offset++) {
      if (this.#bytes[offset] !== serial.bytes[index]) return false
    }
    return true
  }
}

/** FNV-1a. Numbers are an authority's choice: whoever could make many of one hash could as well revoke everybody. */
function hashOf ({ bytes, start, end }: Element): number {
  let hash = 0x811c9dc5
  for (let index = start; index < end; index++) hash = Math.imul(hash ^ bytes[index], 0x01000193)
  return hash ^ (hash >>> 15)
}
