/** DER (X.690 §8.1, §10.1): just enough for the few structures that the libraries leave to us. */

/** Tags that are used here. */
export const tags = { octetString: 0x04, bmpString: 0x1e, sequence: 0x30, set: 0x31 } as const

/** One element: its tag, the length of its contents, and them. */
export function der (tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents)
  return Buffer.concat([Buffer.of(tag), length(body.length), body])
}

function length (bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.of(bytes)
  const hex = bytes.toString(16)
  const digits = Buffer.from(hex.padStart(hex.length + hex.length % 2, '0'), 'hex')
  return Buffer.concat([Buffer.of(0x80 | digits.length), digits])
}
