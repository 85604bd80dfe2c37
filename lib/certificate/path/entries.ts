/**
 * The entries of a revocation list (RFC 5280 §5.3), of which there may be a million: read once, in a table of where their
 * serial numbers are. A Set of strings takes four times as long, and as much memory as the list again.
 */
import { elementAt, elementsIn, INTEGER, notDer, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE } from '../der.ts'
import type { Element } from '../der.ts'
import { isCritical } from './extensions.ts'

export interface Entries {
  has (serialNumber: Element): boolean
  /** An entry has a critical extension: what it says is not what it seems to (such as of whose certificate). */
  readonly hasCritical: boolean
}

/** UTCTime and GeneralizedTime. */
export const TIMES: readonly number[] = [0x17, 0x18]

/** A UTCTime of 13 characters; an entry has that, an INTEGER, and a tag and a length itself. */
const LEAST_DATE = 15
const LEAST_ENTRY = LEAST_DATE + 5

/** Throws where the bytes are not exactly entries: what OpenSSL cannot read, or reads otherwise, revokes nobody. */
export function entriesIn ({ bytes, start, end }: Element): Entries {
  const table = new SerialNumbers(bytes, (end - start) / LEAST_ENTRY)
  let hasCritical = false
  for (let offset = start; offset < end;) {
    const entry = elementAt(bytes, offset, end)
    const serial = elementAt(bytes, entry.start, entry.end)
    const date = elementAt(bytes, serial.end, entry.end)
    if (entry.tag !== SEQUENCE || !isInteger(serial) || !TIMES.includes(date.tag) || date.end - date.offset < LEAST_DATE) throw notDer()
    table.add(serial)
    // Looked at in each of them: a list that cannot be read is none, wherever that is.
    if (date.end < entry.end && isAnyCritical(bytes, date.end, entry.end)) hasCritical = true
    offset = entry.end
  }
  return { has: (serialNumber) => table.has(serialNumber), hasCritical }
}

/** In the shortest form: a serial number is compared by its octets. */
function isInteger ({ bytes, tag, start, end }: Element): boolean {
  if (tag !== INTEGER || start === end) return false
  const [first, second] = [bytes[start], bytes[start + 1]]
  return end === start + 1 || (first === 0 ? second >= 0x80 : first !== 0xff || second < 0x80)
}

/** The SEQUENCE of extensions that ends an entry: nearly always a reason that is not critical. */
function isAnyCritical (bytes: Buffer, start: number, end: number): boolean {
  const extensions = elementAt(bytes, start, end)
  if (extensions.tag !== SEQUENCE || extensions.end !== end) throw notDer()
  let isAny = false
  for (let offset = extensions.start; offset < end;) {
    const extension = elementAt(bytes, offset, end)
    const identifier = elementAt(bytes, extension.start, extension.end)
    const value = elementAt(bytes, identifier.end, extension.end)
    const isPlain = extension.tag === SEQUENCE && identifier.tag === OBJECT_IDENTIFIER && value.tag === OCTET_STRING && value.end === extension.end
    if (!isPlain && isCritical(elementsIn(extension, SEQUENCE))) isAny = true
    offset = extension.end
  }
  return isAny
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
