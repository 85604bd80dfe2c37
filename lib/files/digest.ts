/** The digest of a document: what tells whether two instances have the same one, and whether it has changed since. */
import { createHash } from 'node:crypto'

/**
 * The digest of a JSON value, however its file is laid out: SHA-256 of its canonical JSON, in lower-case hex.
 *
 * Canonical means no space, names sorted by code unit, and numbers and strings as `JSON.stringify` writes them (RFC 8785
 * §3.2). `$schema` at the top, which is for editors, is left out.
 *
 * @param value what `JSON.parse` returns, or the same with members that are undefined, which count as missing
 * @example
 * digestOf({ environment: { hsts: { maxAge: 300 } } }) // '6a156e2e…'
 */
export function digestOf (value: unknown): string {
  const { $schema, ...content } = Object(value) as Record<string, unknown>
  return createHash('sha256').update(canonical($schema === undefined ? value : content)).digest('hex')
}

function canonical (value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).filter(([, part]) => part !== undefined)
  return `{${members.sort(([a], [b]) => a < b ? -1 : 1).map(([name, part]) => `${JSON.stringify(name)}:${canonical(part)}`).join()}}`
}
