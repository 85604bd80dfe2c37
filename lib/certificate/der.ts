/**
 * A strict reader of DER (X.690 §10), for the few parts of a certificate that Node tells only as text.
 *
 * Why not Node's text? `X509Certificate.subject` prints an attribute that is a BIT STRING, an ObjectDescriptor or even a
 * SEQUENCE as if its bytes were characters, so that it cannot be told from a real `CN=admin`; it knows an empty subject
 * and one that it cannot print only as `undefined`. Names of attributes depend on OpenSSL's table. The bytes say
 * exactly what they are.
 *
 * OpenSSL also accepts BER inside a certificate (indefinite or padded lengths, strings in pieces). That is not DER,
 * which RFC 5280 §4.1 demands, and is not read here: such a certificate has no names, and so matches nothing.
 */

export const BOOLEAN = 0x01
export const INTEGER = 0x02
export const BIT_STRING = 0x03
export const OCTET_STRING = 0x04
export const OBJECT_IDENTIFIER = 0x06
export const SEQUENCE = 0x30
export const SET = 0x31

/** One tag, length and value: where they are in `bytes`. No slices: a name has dozens of these, and a slice costs more. */
export interface Element {
  readonly bytes: Buffer
  /** The identifier octet: class, constructed or primitive, and number. */
  readonly tag: number
  /** Where the tag is. */
  readonly offset: number
  /** Where the content starts. */
  readonly start: number
  /** Where the element ends. */
  readonly end: number
}

/** What `read` answers, or `otherwise` where the bytes are not what they should be: odd certificates throw nothing. */
export function readOr<Value> (read: () => Value, otherwise: Value): Value {
  try {
    return read()
  } catch {
    return otherwise
  }
}

export function notDer (): Error {
  return new RangeError('Not DER')
}

/** The one element that `bytes` are. Throws where something follows it. */
export function elementOf (bytes: Buffer): Element {
  const element = elementAt(bytes, 0, bytes.length)
  if (element.end !== bytes.length) throw notDer()
  return element
}

/** The elements inside `element`, which must be there and tagged `tag`. Throws where there is anything else inside. */
export function elementsIn (element: Element | undefined, tag: number): Element[] {
  if (element?.tag !== tag) throw notDer()
  const elements: Element[] = []
  let offset = element.start
  while (offset < element.end) {
    const inner = elementAt(element.bytes, offset, element.end)
    elements.push(inner)
    offset = inner.end
  }
  return elements
}

/** The content of `element`, which must be there and tagged `tag`. */
export function contentOf (element: Element | undefined, tag: number): Buffer {
  if (element?.tag !== tag) throw notDer()
  return element.bytes.subarray(element.start, element.end)
}

/** The whole of `element`, with tag and length. */
export function derOf (element: Element): Buffer {
  return element.bytes.subarray(element.offset, element.end)
}

/** The element at `offset`, which must end by `limit`: for what is walked through without being kept. */
export function elementAt (bytes: Buffer, offset: number, limit: number): Element {
  const tag = bytes[offset]
  if ((tag & 0x1f) === 0x1f) throw notDer() // tags of several octets: X.509 has none
  let start = offset + 2
  let length = bytes[offset + 1]
  if (length >= 0x80) {
    const octets = length & 0x7f
    if (octets === 0 || octets > 4) throw notDer() // an indefinite length, or one that no certificate has
    length = 0
    for (const end = start + octets; start < end; start++) length = length * 256 + bytes[start]
    if (length < 0x80 || bytes[offset + 2] === 0) throw notDer() // not the shortest form
  }
  const end = start + length
  if (!(end <= limit)) throw notDer() // nor is a length beyond the last byte, which is not a number
  return { bytes, tag, offset, start, end }
}
