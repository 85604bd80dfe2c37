/** Says what is wrong with a value that does not fit its schema, and what would. */
import { inspect } from 'node:util'
import { type SchemaError, errorsIn } from './validation-errors.ts'

/** What messages call the options of the plugin. */
export const SUBJECT = 'options of fastify-http-security'

interface JsonSchema { [keyword: string]: unknown, properties?: Record<string, unknown>, required?: string[] }

/**
 * One sentence on the deepest thing that is wrong.
 *
 * @param subject whose value it is: `httpSecurity of route GET /x`
 */
export function explain (subject: string, schema: object, value: unknown): string {
  const errors = errorsIn(schema, value)
  const depth = Math.max(...errors.map(({ instancePath }) => instancePath.split('/').length))
  const deepest = errors.filter(({ instancePath }) => instancePath.split('/').length === depth)
  const { instancePath } = deepest[0]!
  const path = instancePath.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const there = path.reduce<unknown>((parent, part) => Reflect.get(Object(parent), part), value)
  const where = [subject, ...path].join(': ')
  const shown = isSecret(path.at(-1)) && there !== undefined ? `a value of type ${typeof there}` : show(withoutSecrets(there))

  const unknown = deepest.find(({ keyword }) => keyword === 'additionalProperties')
  // Of alternatives, the one that knows every option that is there was meant.
  const isMeant = ({ schemaPath }: SchemaError): boolean => !deepest.some((error) => error.keyword === 'additionalProperties' && error.schemaPath === schemaPath)
  const missing = deepest.find((error) => error.keyword === 'required' && (unknown === undefined || isMeant(error)))
  if (missing !== undefined && typeof there === 'object') {
    return `${where}: ${missing.params.requiredProperties!.join(', ')} is missing`
  }
  if (unknown !== undefined && typeof there === 'object') {
    const known = Object.keys(at(schema, unknown.schemaPath).properties!)
    return `${where}: unknown option ${show(unknown.params.additionalProperties![0])}; known are ${list(known)}`
  }
  return `${where}: ${shown} is not allowed; allowed: ${list([...new Set(deepest.flatMap((error) => allowed(schema, error)))])}`
}

/** What may hold a key, or what opens it: errors end up in logs. */
function isSecret (name: string | undefined): boolean {
  return name === 'key' || name === 'pfx' || name === 'passphrase' || name === 'probe' || name === 'secret'
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
  if (typeof title === 'string') return title
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
  return schemaPath.split('/').slice(1).reduce<JsonSchema>((node, part) => node[part] as JsonSchema, schema as JsonSchema)
}
