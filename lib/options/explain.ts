/** Says what is wrong with a value that does not fit its schema, and what would. */
import { inspect } from 'node:util'
import { nearest } from './nearest.ts'
import { type JsonSchema, type SchemaError, errorsIn } from './validation-errors.ts'

/** What messages call the options of the plugin. */
export const SUBJECT = 'options of fastify-http-security'

/**
 * One sentence on the deepest thing that is wrong.
 *
 * @param subject whose value it is: `httpSecurity of route GET /x`
 */
export function explain (subject: string, schema: object, value: unknown): string {
  // One error would hide among those of alternatives that cannot have been meant.
  const errors = errorsIn(schema, value, mostSimilar)
  const depth = Math.max(...errors.map(({ instancePath }) => instancePath.split('/').length))
  const deepest = errors.filter(({ instancePath }) => instancePath.split('/').length === depth)
  const { instancePath } = deepest[0]!
  const path = partsOf(instancePath)
  const there = path.reduce<unknown>((parent, part) => Reflect.get(Object(parent), part), value)
  const where = [subject, ...path].join(': ')
  const shown = isSecret(path.at(-1)) && there !== undefined ? `a value of type ${typeof there}` : show(withoutSecrets(there))

  // What is unknown may be what is missing, misspelled.
  const unknown = deepest.find(({ keyword }) => keyword === 'additionalProperties')
  if (unknown !== undefined && typeof there === 'object') {
    return `${where}: ${unknownOption(unknown.params.additionalProperties![0]!, Object.keys(at(schema, unknown.schemaPath).properties!), there)}`
  }
  const missing = deepest.find(({ keyword }) => keyword === 'required')
  if (missing !== undefined && typeof there === 'object') {
    return `${where}: ${missing.params.requiredProperties!.join(', ')} is missing`
  }
  return `${where}: ${shown} is not allowed; allowed: ${list([...new Set(deepest.flatMap((error) => allowed(schema, error)))])}`
}

/**
 * What to say of a name that is not known, and which was probably meant.
 *
 * @param given what else there is: what is given under its right name was not meant by another
 */
export function unknownOption (name: string, known: readonly string[], given: unknown): string {
  const meant = nearest(name, known.filter((each) => !Object.hasOwn(Object(given), each)))
  return `unknown option ${show(name)}; known are ${list(known)}${meant === undefined ? '' : `. Did you mean ${show(meant)}?`}`
}

function mostSimilar (alternatives: readonly JsonSchema[], value: unknown): readonly JsonSchema[] {
  if (!isPlain(value)) return alternatives
  const scores = alternatives.map((alternative) => similarityOf(alternative, value))
  return alternatives.filter((_, i) => scores[i] === Math.max(...scores))
}

/** How similar an object is to those that a schema describes: by its names, of which records have any. */
function similarityOf ({ anyOf, type, properties }: JsonSchema, value: object): number {
  if (anyOf !== undefined) return Math.max(...anyOf.map((alternative) => similarityOf(alternative, value)))
  if (type !== 'object') return 0
  if (properties === undefined) return Object.values(value).every(isPlain) ? 2.5 : 1.5
  const known = Object.keys(properties)
  return Object.keys(value).reduce((sum, name) => sum + (known.includes(name) ? 2 : nearest(name, known) === undefined ? 0 : 1), 1)
}

function isPlain (value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value)
}

/** What may hold a key, or what opens it: errors end up in logs. */
function isSecret (name: string | undefined): boolean {
  return name === 'key' || name === 'pfx' || name === 'passphrase' || name === 'probe' || name === 'secret' || name === 'sessions'
}

/** More than a message has room for. */
const MOST_SHOWN = 40

/** What is shown of a value: deeper, it may be without end. */
function withoutSecrets (value: unknown, depth = 2): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || depth === 0) return value
  if (Array.isArray(value)) return value.slice(0, MOST_SHOWN).map((part) => withoutSecrets(part, depth - 1))
  return Object.fromEntries(Object.entries(value).slice(0, MOST_SHOWN).map(([name, part]) => [name, isSecret(name) ? '…' : withoutSecrets(part, depth - 1)]))
}

/** A value as people read it in an error message. */
export function show (value: unknown): string {
  const text = inspect(value, { depth: 1, breakLength: Infinity })
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

function allowed (schema: object, { keyword, params, schemaPath, message }: SchemaError): string[] {
  switch (keyword) {
    case 'enum': return params.allowedValues!.map(show)
    case 'type': return [describe(at(schema, schemaPath), String(params.type))]
    case 'anyOf': return []
    case 'minimum':
    case 'maximum': return [rangeOf(at(schema, schemaPath))]
    default: return [message.replace('must not have fewer than', 'at least')]
  }
}

function rangeOf ({ minimum, maximum }: JsonSchema): string {
  return `${String(minimum)} to ${String(maximum)}`
}

function describe ({ properties, title, required = [] }: JsonSchema, type: string): string {
  if (title !== undefined) return title
  // Administrators read it, too.
  if (type === 'boolean') return 'true or false (no quotes)'
  const keys = properties === undefined ? [] : Object.keys(properties)
  const article = /^[aeio]/.test(type) ? 'an' : 'a'
  return keys.length === 0 ? `${article} ${type}` : `${article} ${type} { ${keys.map((key) => required.includes(key) ? key : `${key}?`).join(', ')} }`
}

function list (values: readonly string[]): string {
  return values.join(', ')
}

function at (schema: object, schemaPath: string): JsonSchema {
  return partsOf(schemaPath).reduce<JsonSchema>((node, part) => Reflect.get(node, part) as JsonSchema, schema)
}

/** RFC 6901 §4. */
function partsOf (pointer: string): string[] {
  return pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}
