/**
 * The schemas of declarations, the plugin's options, policies and the options of `enableTls`.
 *
 * No file imports this one at run time, because TypeBox takes longer to load than the rest of the package. `npm run schemas`,
 * a part of the build, compiles the schemas into a `checks.generated.ts` in each folder that needs one. Not part of the package.
 */
import { writeFile } from 'node:fs/promises'
import Type, { type Static, type TObjectOptions, type TSchema } from 'typebox'
import { Build } from 'typebox/schema'
import { ATTRIBUTES } from '../clients/certificate-entry.ts'
import { KINDS, LEVELS } from '../levels.ts'
import { ENCODINGS, type Preset, PRESETS, type ProtocolPreset, PROTOCOLS } from '../proxy/presets.ts'

const closed = { additionalProperties: false }

/** An object with any names. TypeBox's own records do not check names with a line break, nor their values. */
const byName = <Part extends TSchema>(part: Part, options: TObjectOptions = {}) =>
  Type.Unsafe<Record<string, Static<Part>>>({ type: 'object', additionalProperties: part, ...options })

const LevelSchema = Type.Enum([...LEVELS])
const KindSchema = Type.Enum([...KINDS])

const NameAttributeSchema = Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })], { description: 'The only value of this attribute, or the list of all its values, in any order.' })

const NamesSchema = Type.Object(Object.fromEntries(ATTRIBUTES.map((attribute) => [attribute, Type.Optional(NameAttributeSchema)])), { ...closed, minProperties: 1 })

/** For editors. Code checks it in clients/certificate-entry.ts: as code of its own, this schema would be larger than the plugin's options. */
const CertificateEntrySchema = Type.Object({
  subject: Type.Optional(NamesSchema),
  issuer: Type.Optional(NamesSchema),
  san: Type.Optional(Type.String({ description: 'A subject alternative name: DNS:…, URI:…, email:…, IP:… or UPN:…, compared exactly.' })),
  fingerprint256: Type.Optional(Type.String({ description: 'The SHA-256 of the certificate, 64 hex digits, with or without colons.' })),
  serialNumber: Type.Optional(Type.String({ description: 'Hex; needs issuer or issuedBy beside it.' })),
  issuedBy: Type.Optional(Type.String({ description: 'A label of client CAs.' }))
}, { ...closed, minProperties: 1 })

const RuleSchemas = {
  allow: Type.Optional(Type.Array(Type.Union([Type.String(), Type.Object({}, { title: 'a group { group: string }, or a certificate { subject?, issuer?, san?, fingerprint256?, serialNumber?, issuedBy? }' })]), { minItems: 1 })),
  verify: Type.Optional(Type.Unsafe<(...args: never[]) => unknown>({ title: 'a function' }))
}

export const DeclarationSchema = Type.Union([
  LevelSchema,
  Type.Object({ level: Type.Optional(LevelSchema), kind: Type.Optional(KindSchema), ...RuleSchemas }, closed)
])

const RedirectSchema = Type.Object({
  statusCode: Type.Optional(Type.Enum([301, 302, 307, 308])),
  httpsPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  hosts: Type.Optional(Type.Array(Type.String(), { minItems: 1 }))
}, closed)

/** A file path, PEM text, or bytes. */
const SourceSchema = Type.Union([Type.String(), Type.Object({}, { title: 'a Buffer' })])
const SourcesSchema = Type.Union([SourceSchema, Type.Array(SourceSchema, { minItems: 1 })])

/** Sources, or labels with sources each. */
const CasSchema = Type.Union([SourcesSchema, Type.Object({}, { title: "an object such as { partners: 'partners-ca.pem' }" })])

const RevocationSchemas = {
  ocsp: Type.Optional(Type.Union([Type.Boolean(), Type.Object({ url: Type.String() }, closed)])),
  unknown: Type.Optional(Type.Enum(['refuse', 'allow'])),
  dir: Type.Optional(Type.String()),
  allow: Type.Optional(Type.Array(Type.String()))
}

const ForwardedCertificateSchema = Type.Object({
  header: Type.String(),
  encoding: Type.Enum([...ENCODINGS]),
  verified: Type.Union([Type.Enum(['presence', 'here']), Type.Object({ header: Type.String(), value: Type.String() }, closed)]),
  hops: Type.Optional(Type.Integer({ minimum: 1, maximum: 10 })),
  fingerprint: Type.Optional(Type.String())
}, closed)

/** Either a value or `present`: code checks that. */
const ProtocolHeaderSchema = Type.Object({
  header: Type.String(),
  value: Type.Optional(Type.String()),
  present: Type.Optional(Type.Unsafe<true>({ enum: [true] }))
}, closed)

/** A proxy that proves itself by its own certificate. */
const ProxyClientSchema = Type.Object({
  client: Type.String(),
  from: Type.Union([Type.String(), Type.Array(Type.String())])
}, closed)

const ProxySchema = Type.Object({
  trust: Type.Union([Type.String(), Type.Array(Type.Union([Type.String(), ProxyClientSchema])), ProxyClientSchema]),
  protocol: Type.Optional(Type.Union([Type.Enum(Object.keys(PROTOCOLS) as ProtocolPreset[]), ProtocolHeaderSchema])),
  hops: Type.Optional(Type.Integer({ minimum: 1, maximum: 10 })),
  host: Type.Optional(Type.Enum(['host', 'x-forwarded-host'])),
  certificate: Type.Optional(Type.Union([Type.Enum(Object.keys(PRESETS) as Preset[]), ForwardedCertificateSchema])),
  ca: Type.Optional(CasSchema),
  crl: Type.Optional(SourcesSchema),
  ...RevocationSchemas,
  probe: Type.Optional(Type.String())
}, closed)

export const PluginOptionsSchema = Type.Object({
  default: Type.Optional(DeclarationSchema),
  flows: Type.Optional(byName(DeclarationSchema)),
  minimum: Type.Optional(LevelSchema),
  profile: Type.Optional(Type.Enum(['outsystems'])),
  redirect: Type.Optional(RedirectSchema),
  proxy: Type.Optional(ProxySchema),
  tls: Type.Optional(Type.Object({})),
  helmet: Type.Optional(Type.Object({})),
  unsatisfiable: Type.Optional(Type.Enum(['error', 'warn'])),
  application: Type.Optional(Type.String()),
  // The documents themselves are checked when they are loaded, as policies from files and sources are.
  policy: Type.Optional(Type.Union([Type.String(), Type.Object({}, { title: 'a policy, the path of a file, or a source { load, watch? }' })])),
  clients: Type.Optional(Type.Union([Type.String(), Type.Object({}, { title: 'a clients document, the path of a file, or a source { load, watch? }' })])),
  mode: Type.Optional(Type.Enum(['enforce', 'report'])),
  secureCookies: Type.Optional(Type.Boolean()),
  onViolation: Type.Optional(Type.Unsafe<(...args: never[]) => unknown>({ title: 'a function' }))
}, closed)

const ForcedHttps = {
  forceHttpsForScreens: Type.Optional(Type.Boolean({ description: 'Screens are reached over HTTPS only: browsers are sent there, other requests are refused.' })),
  forceHttpsForIntegrations: Type.Optional(Type.Boolean({ description: 'Exposed REST and SOAP services are reached over HTTPS only: requests over HTTP are refused.' })),
  mode: Type.Optional(Type.Enum(['enforce', 'report'], { description: '"report": what is forced here is counted and logged only, and refuses nothing. Default "enforce".' }))
}

export const PolicySchema = Type.Object({
  $schema: Type.Optional(Type.String({ description: 'The address of this schema, for editors.' })),
  environment: Type.Optional(Type.Object({
    hsts: Type.Optional(Type.Object({
      maxAge: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Seconds that browsers remember to use HTTPS only. Above 0 it also forces HTTPS for screens; 0 takes it back.' }),
      includeSubDomains: Type.Optional(Type.Boolean({ description: 'Every host below this one is meant, too.' })),
      preload: Type.Optional(Type.Boolean({ description: 'Asks for a place on the list that browsers come with. Hard to take back.' }))
    }, { ...closed, description: 'HTTP Strict Transport Security (RFC 6797).' })),
    ...ForcedHttps
  }, { ...closed, description: 'Holds for every application of this environment.' })),
  applications: Type.Optional(byName(Type.Object(ForcedHttps, closed), { description: 'By the name that an application goes by.' }))
}, closed)

const clientsSchema = (CertificateSchema: TSchema) => Type.Object({
  $schema: Type.Optional(Type.String({ description: 'The address of this schema, for editors.' })),
  clients: byName(Type.Object({
    groups: Type.Optional(Type.Array(Type.String(), { description: 'Groups that rules may name.' })),
    certificates: Type.Array(CertificateSchema, { minItems: 1, description: 'One that matches is enough.' }),
    suspended: Type.Optional(Type.Boolean({ description: 'true: no rule admits this client. Default false.' }))
  }, closed), { description: 'By the name that a client goes by.' })
}, closed)

export const ClientsSchema = clientsSchema(Type.Object({}))

const CertificateSchema = Type.Union([
  Type.Object({ cert: SourceSchema, key: SourceSchema, passphrase: Type.Optional(Type.String()) }, closed),
  Type.Object({ pfx: SourceSchema, passphrase: Type.Optional(Type.String()) }, closed)
])

const ClientCertificatesSchema = Type.Object({
  ca: CasSchema,
  crl: Type.Optional(Type.Union([SourceSchema, Type.Array(SourceSchema)])),
  ...RevocationSchemas,
  legacy: Type.Optional(Type.Boolean())
}, closed)

export const DevelopmentCertificatesOptionsSchema = Type.Object({
  hosts: Type.Optional(Type.Array(Type.String())),
  dir: Type.Optional(Type.String()),
  clients: Type.Optional(Type.Array(Type.String()))
}, closed)

export const EnableTlsOptionsSchema = Type.Object({
  certificates: Type.Optional(Type.Union([CertificateSchema, Type.Array(CertificateSchema, { minItems: 1 })])),
  development: Type.Optional(Type.Union([Type.Boolean(), DevelopmentCertificatesOptionsSchema])),
  clientCertificates: Type.Optional(Type.Union([ClientCertificatesSchema, byName(ClientCertificatesSchema)])),
  sessions: Type.Optional(Type.Object({ secret: SourceSchema }, closed)),
  https: Type.Optional(Type.Object({}))
}, closed)

const FunctionSchema = Type.Unsafe<(...args: never[]) => unknown>({ title: 'a function' })

export const AcmeOptionsSchema = Type.Object({
  directoryUrl: Type.String(),
  domains: Type.Array(Type.String(), { minItems: 1 }),
  email: Type.Optional(Type.String()),
  dir: Type.String(),
  termsOfServiceAgreed: Type.Boolean(),
  keyType: Type.Optional(Type.Enum(['ecdsa', 'rsa'])),
  externalAccountBinding: Type.Optional(Type.Object({ kid: Type.String(), hmacKey: Type.String() }, closed)),
  dns: Type.Optional(Type.Object({ add: FunctionSchema, remove: FunctionSchema })),
  ca: Type.Optional(SourceSchema)
}, closed)

/** Which schemas are compiled into which file: the plugin does not load those that only `fastify-http-security/tls` needs. */
const files: Readonly<Record<string, Readonly<Record<string, TSchema>>>> = {
  'checks.generated.ts': { Declaration: DeclarationSchema, PluginOptions: PluginOptionsSchema },
  '../policy/checks.generated.ts': { Policy: PolicySchema },
  '../clients/checks.generated.ts': { Clients: ClientsSchema },
  '../tls/checks.generated.ts': { EnableTlsOptions: EnableTlsOptionsSchema, DevelopmentCertificatesOptions: DevelopmentCertificatesOptionsSchema },
  '../acme/checks.generated.ts': { AcmeOptions: AcmeOptionsSchema }
}

/** The source code of each file, by its path relative to this one. */
export function compileChecks (): Map<string, string> {
  const sources = Object.entries(files).map(([path, schemas]) => [path, [
    '// Made from lib/options/schema.ts by `npm run schemas`. Do not edit.',
    '// @ts-nocheck: code without types, as the compiler of TypeBox writes it',
    ...Object.entries(schemas).map(([name, schema]) => compile(name, schema))
  ].join('\n') + '\n'] as const)
  // For editors, which check a file while it is written.
  const published = Object.entries({ policy: ['A policy', PolicySchema], clients: ['A clients document', clientsSchema(CertificateEntrySchema)] } as const).map(([name, [title, schema]]) => [
    `../../${name}.schema.json`,
    `${JSON.stringify({ $schema: 'http://json-schema.org/draft-07/schema#', title: `${title} of fastify-http-security`, ...schema }, null, 2)}\n`
  ] as const)
  return new Map([...sources, ...published])
}

/** @param from the file or folder that the paths are relative to */
export async function writeChecks (from: string | URL = import.meta.url): Promise<void> {
  for (const [path, source] of compileChecks()) await writeFile(new URL(path, from), source)
}

function compile (name: string, schema: TSchema): string {
  const build = Build(schema)
  const { identifier, variables } = build.External()
  return `
/** The JSON Schema, to explain what is wrong with a value. */
export const ${name}Schema = JSON.parse(${quote(JSON.stringify(schema))})

/** Whether a value fits it. */
export const is${name} = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const ${identifier} = [${variables.map(String).join(', ')}]; ${build.Functions().join('; ')}
return (value: unknown): boolean => ${build.Entry()}
})()`
}

/** A string literal: V8 reads one many times faster than an object literal, which only a wrong option has use for. */
function quote (text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
