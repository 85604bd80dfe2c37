/**
 * Object identifiers (X.690 §8.19).
 */
import { notDer } from './der.ts'

/** RFC 5280 appendix B expects 20 arcs; this has room for several of 128 bits. */
const MAX_OCTETS = 128

/**
 * The content octets of an object identifier as dotted numbers: `2.5.4.3`. Throws when they are none.
 *
 * Arcs may be of any size (UUIDs have 128 bits), hence the BigInt; the length is bounded because printing a number takes
 * time that grows with the square of it (CVE-2023-2650).
 */
export function dottedOf (content: Buffer): string {
  if (content.length > MAX_OCTETS) throw notDer()
  assertIdentifier(content)
  const arcs: bigint[] = []
  let arc = 0n
  for (const octet of content) {
    arc = (arc << 7n) | BigInt(octet & 0x7f)
    if (octet >= 0x80) continue
    arcs.push(arc)
    arc = 0n
  }
  const root = arcs[0] < 80n ? arcs[0] / 40n : 2n
  return [root, arcs[0] - root * 40n, ...arcs.slice(1)].join('.')
}

/** Throws where the content octets are no object identifier: none at all, or one that is cut off, or has an arc that is padded. */
export function assertIdentifier (content: Buffer): void {
  let isWhole = true
  for (const octet of content) {
    if (isWhole && octet === 0x80) throw notDer()
    isWhole = octet < 0x80
  }
  if (!isWhole || content.length === 0) throw notDer()
}

/** The content octets of an object identifier that we wrote down ourselves. */
export function octetsOf (dotted: string): Buffer {
  const [root, second, ...arcs] = dotted.split('.').map(Number)
  return Buffer.from([root * 40 + second, ...arcs].flatMap(octetsOfArc))
}

function octetsOfArc (arc: number): number[] {
  return arc < 128 ? [arc] : [...octetsOfArc(Math.floor(arc / 128)).map((octet) => octet | 0x80), arc % 128]
}
