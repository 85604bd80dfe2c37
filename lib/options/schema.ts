/**
 * What a declaration and the plugin's options may look like.
 *
 * TypeBox takes longer to load than all else here together, so nothing imports this file at run time: `compile.ts`
 * turns it into plain code, `checks.ts`, and a test keeps the two in step.
 */
import Type from 'typebox'
import { KINDS, LEVELS } from '../levels.ts'

const closed = { additionalProperties: false }

const LevelSchema = Type.Enum([...LEVELS])
const KindSchema = Type.Enum([...KINDS])

export const DeclarationSchema = Type.Union([
  LevelSchema,
  Type.Object({ level: Type.Optional(LevelSchema), kind: Type.Optional(KindSchema) }, closed)
])

const RedirectSchema = Type.Object({
  statusCode: Type.Optional(Type.Enum([301, 302, 307, 308])),
  httpsPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  hosts: Type.Optional(Type.Array(Type.String(), { minItems: 1 }))
}, closed)

const ProxySchema = Type.Object({
  trust: Type.Union([Type.String(), Type.Array(Type.String())]),
  protocol: Type.Optional(Type.Enum(['x-forwarded-proto', 'forwarded'])),
  host: Type.Optional(Type.Enum(['host', 'x-forwarded-host']))
}, closed)

export const PluginOptionsSchema = Type.Object({
  default: Type.Optional(DeclarationSchema),
  flows: Type.Optional(Type.Record(Type.String(), DeclarationSchema)),
  minimum: Type.Optional(LevelSchema),
  profile: Type.Optional(Type.Enum(['outsystems'])),
  redirect: Type.Optional(RedirectSchema),
  proxy: Type.Optional(ProxySchema),
  helmet: Type.Optional(Type.Object({})),
  unsatisfiable: Type.Optional(Type.Enum(['error', 'warn']))
}, closed)
