/**
 * Messages about values that do not fit their schema: what is wrong, and what is allowed. Begin with {@link explain}; the
 * validator behind it is {@link errorsIn}.
 */
import { inspect } from 'node:util'

/** The subject of messages about the plugin's options. */
export const SUBJECT = 'options of fastify-http-security'

/**
 * One sentence about the deepest error.
 *
 * @param subject of the message: `httpSecurity of route GET /x`
 */
export function explain (subject: string, schema: object, value: unknown): string {
  // Errors of alternatives that were not meant would hide the one that counts.
  const errors = errorsIn(schema, value, mostSimilar)
  const depth = Math.max(...errors.map(({ instancePath }) => instancePath.split('/').length))
  const deepest = errors.filter(({ instancePath }) => instancePath.split('/').length === depth)
  const { instancePath } = deepest[0]!
  const path = partsOf(instancePath)
  const there = path.reduce<unknown>((parent, part) => Reflect.get(Object(parent), part), value)
  const where = [subject, ...path].join(': ')
  const shown = isSecret(path.at(-1)) && there !== undefined ? `a value of type ${typeof there}` : show(withoutSecrets(there))

  // The unknown option may be the missing one, misspelled.
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
 * The message for an unknown option, with the one that was probably meant.
 *
 * @param given the object with all options: an option that is there under its right name was not meant
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

/** How similar an object is to those that a schema describes, by its property names. A record allows any name. */
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

/** Whether a value may contain a private key or a password, which must not get into a message: errors end up in logs. */
function isSecret (name: string | undefined): boolean {
  return name === 'key' || name === 'pfx' || name === 'passphrase' || name === 'probe' || name === 'secret' || name === 'sessions' || name === 'hmacKey'
}

/** Properties or items of a value that are shown; a message has no room for more. */
const MOST_SHOWN = 40

/** A copy of a value without secrets. Limited in depth, because a value may refer to itself. */
function withoutSecrets (value: unknown, depth = 2): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || depth === 0) return value
  if (Array.isArray(value)) return value.slice(0, MOST_SHOWN).map((part) => withoutSecrets(part, depth - 1))
  return Object.fromEntries(Object.entries(value).slice(0, MOST_SHOWN).map(([name, part]) => [name, isSecret(name) ? '…' : withoutSecrets(part, depth - 1)]))
}

/** A value as text for an error message. */
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
  // Administrators read it, who write JSON.
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

/** The parts of a JSON pointer (RFC 6901 §4). */
function partsOf (pointer: string): string[] {
  return pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

// Validation by JSON Schema
//
// For those keywords only that schema.ts uses. TypeBox cannot do it: a synchronous Fastify hook needs it, TypeBox takes
// longer to load than the whole plugin, and code that is loaded in another way than by an import is missing in a bundled
// application. A test holds the errors against those of TypeBox.

export interface SchemaError {
  readonly keyword: string
  readonly schemaPath: string
  readonly instancePath: string
  readonly params: { readonly allowedValues?: readonly unknown[], readonly type?: string, readonly additionalProperties?: readonly string[], readonly requiredProperties?: readonly string[], readonly limit?: number }
  readonly message: string
}

interface JsonSchema {
  readonly title?: string
  readonly type?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: JsonSchema | false
  readonly items?: JsonSchema
  readonly minItems?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly JsonSchema[]
}

/** Errors that are looked at; further ones say nothing new. */
const MOST_ERRORS = 100

/** Selects those alternatives of `anyOf` that a value may have been meant for. */
type Choose = (alternatives: readonly JsonSchema[], value: unknown) => readonly JsonSchema[]

/**
 * Every error in a value; none where it fits.
 *
 * @param choose default: all alternatives
 */
export function errorsIn (schema: object, value: unknown, choose: Choose = (alternatives) => alternatives): readonly SchemaError[] {
  const errors: SchemaError[] = []
  for (const error of errorsOf(schema, value, { schemaPath: '#', instancePath: '', choose })) {
    errors.push(error)
    if (errors.length === MOST_ERRORS) break
  }
  return errors
}

interface Place { readonly schemaPath: string, readonly instancePath: string, readonly choose: Choose }

function * errorsOf (schema: JsonSchema, value: unknown, { schemaPath, instancePath, choose }: Place): Generator<SchemaError, void> {
  const error = (keyword: string, params: SchemaError['params'], message = ''): SchemaError => ({ keyword, schemaPath, instancePath, params, message })
  const ofPart = (name: string, part: JsonSchema, place: string): Generator<SchemaError, void> =>
    errorsOf(part, Reflect.get(Object(value), name), { schemaPath: `${schemaPath}/${place}`, instancePath: `${instancePath}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, choose })

  if (schema.type !== undefined && !IS_A[schema.type]!(value)) yield error('type', { type: schema.type })
  if (isObject(value)) {
    const { properties = {}, required = [], additionalProperties } = schema
    const missing = required.filter((name) => !(name in value))
    if (missing.length > 0) yield error('required', { requiredProperties: missing })
    const others = Object.getOwnPropertyNames(value).filter((name) => !Object.hasOwn(properties, name))
    if (additionalProperties === false && others.length > 0) yield error('additionalProperties', { additionalProperties: others })
    if (additionalProperties) for (const name of others) yield * ofPart(name, additionalProperties, 'additionalProperties')
    for (const [name, part] of Object.entries(properties)) {
      // As in TypeScript, an optional property may be there and undefined.
      const isLeftOut = Reflect.get(value, name) === undefined && !(required.includes(name) && name in value)
      if (!isLeftOut) yield * ofPart(name, part, `properties/${name}`)
    }
  }
  if (Array.isArray(value)) {
    const { items, minItems = 0 } = schema
    if (items !== undefined) for (const index of value.keys()) yield * ofPart(String(index), items, 'items')
    if (value.length < minItems) yield error('minItems', { limit: minItems }, `must not have fewer than ${minItems} items`)
  }
  if (Number.isFinite(value)) {
    if (Number(value) < schema.minimum!) yield error('minimum', { limit: schema.minimum! })
    if (Number(value) > schema.maximum!) yield error('maximum', { limit: schema.maximum! })
  }
  if (schema.enum?.includes(value) === false) yield error('enum', { allowedValues: schema.enum })
  if (schema.anyOf !== undefined) {
    const alternatives = schema.anyOf.map((part, index) => ({ part, errors: [...errorsOf(part, value, { schemaPath: `${schemaPath}/anyOf/${index}`, instancePath, choose })] }))
    if (alternatives.some(({ errors }) => errors.length === 0)) return
    const chosen = choose(schema.anyOf, value)
    yield * alternatives.filter(({ part }) => chosen.includes(part)).flatMap(({ errors }) => errors)
    yield error('anyOf', {})
  }
}

const IS_A: Readonly<Record<string, (value: unknown) => boolean>> = {
  array: Array.isArray,
  boolean: (value) => typeof value === 'boolean',
  integer: Number.isInteger,
  object: isObject,
  string: (value) => typeof value === 'string'
}

function isObject (value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

// Suggestions: "Did you mean …?"

/** Characters. A longer name is not a typing error, and takes long to compare. */
const LONGEST = 64
/** Characters. A shorter name is the beginning or end of too many others. */
const SHORTEST_PART = 4

/** The most similar of the known names, or `undefined` where none is similar. */
export function nearest (name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, edits: differenceOf(name.toLowerCase(), other.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits)
  return best === undefined || best.edits === Infinity ? undefined : best.other
}

/** The number of edits; infinite where the names are different words. */
function differenceOf (a: string, b: string): number {
  if (a.length > LONGEST) return Infinity
  const most = Math.max(1, Math.floor(a.length / 3))
  const edits = editsBetween(a, b)
  if (edits <= most) return edits
  const [short, long] = a.length < b.length ? [a, b] : [b, a]
  return short.length >= SHORTEST_PART && (long.startsWith(short) || long.endsWith(short)) ? edits : Infinity
}

/** The optimal string alignment distance: insertions, deletions, substitutions, and transpositions of neighbours. */
function editsBetween (a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1]
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current[column] = Math.min(
        last[column]! + 1,
        current[column - 1]! + 1,
        last[column - 1]! + (isSame ? 0 : 1),
        isSwapped ? before[column - 2]! + 1 : Infinity
      )
    }
    [before, last] = [last, current]
  }
  return last[b.length]!
}
