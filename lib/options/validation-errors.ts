/**
 * What of a value does not fit its schema, in those keywords of JSON Schema that schema.ts has.
 *
 * Our own, because a hook of Fastify that cannot wait needs it: TypeBox takes longer to load than all of the plugin, and
 * what is loaded in another way than by an import is not there in an application that was bundled. Errors are those of
 * TypeBox, which a test compares them with.
 */

export interface SchemaError {
  readonly keyword: string
  readonly schemaPath: string
  readonly instancePath: string
  readonly params: { readonly allowedValues?: readonly unknown[], readonly type?: string, readonly additionalProperties?: readonly string[], readonly requiredProperties?: readonly string[], readonly limit?: number }
  readonly message: string
}

export interface JsonSchema {
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

/** More say nothing that these do not. */
const MOST = 100

/** Which of some alternatives a value may have been meant for. */
type Choose = (alternatives: readonly JsonSchema[], value: unknown) => readonly JsonSchema[]

/**
 * What is wrong with a value, as deep as the schema goes; nothing where it fits.
 *
 * @param choose default: all
 */
export function errorsIn (schema: object, value: unknown, choose: Choose = (alternatives) => alternatives): readonly SchemaError[] {
  const errors: SchemaError[] = []
  for (const error of errorsOf(schema, value, { schemaPath: '#', instancePath: '', choose })) {
    errors.push(error)
    if (errors.length === MOST) break
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
      // As TypeScript has it, an optional property may be there and undefined.
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
