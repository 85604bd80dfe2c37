/**
 * Turns the schemas into code, a `checks.ts` where each is needed: `npm run schemas`. Not part of the package.
 */
import { writeFile } from 'node:fs/promises'
import { Build } from 'typebox/schema'
import type { TSchema } from 'typebox'
import { DeclarationSchema, EnableTlsOptionsSchema, PluginOptionsSchema, PolicySchema } from './schema.ts'

/** What is compiled into which file: the plugin does not load what only `fastify-http-security/tls` needs. */
const files: Readonly<Record<string, Readonly<Record<string, TSchema>>>> = {
  'checks.ts': { Declaration: DeclarationSchema, PluginOptions: PluginOptionsSchema },
  '../policy/checks.ts': { Policy: PolicySchema },
  '../tls/checks.ts': { EnableTlsOptions: EnableTlsOptionsSchema }
}

/** The source of each file, by its path from here. */
export function compileChecks (): Map<string, string> {
  const sources = Object.entries(files).map(([path, schemas]) => [path, [
    '// Made from lib/options/schema.ts by `npm run schemas`. Do not edit.',
    '// @ts-nocheck: code without types, as the compiler of TypeBox writes it',
    ...Object.entries(schemas).map(([name, schema]) => compile(name, schema))
  ].join('\n') + '\n'] as const)
  // For editors: they check a policy file while it is written.
  const published = { $schema: 'http://json-schema.org/draft-07/schema#', title: 'A policy of fastify-http-security', ...PolicySchema }
  return new Map([...sources, ['../../policy.schema.json', `${JSON.stringify(published, null, 2)}\n`]])
}

/** Writes them, here or from another folder on. */
export async function writeChecks (from: string | URL = import.meta.url): Promise<void> {
  for (const [path, source] of compileChecks()) await writeFile(new URL(path, from), source)
}

function compile (name: string, schema: TSchema): string {
  const build = Build(schema)
  const { identifier, variables } = build.External()
  return `
/** The JSON Schema, to explain what is wrong with a value. */
export const ${name}Schema = ${JSON.stringify(schema, null, 2)}

/** Whether a value fits it. */
export const is${name} = (() => {
/* c8 ignore next 2: the compiler checks integers for what no integer is, which nothing can reach */
const ${identifier} = [${variables.map(String).join(', ')}]; ${build.Functions().join('; ')}
return (value: unknown): boolean => ${build.Entry()}
})()`
}
