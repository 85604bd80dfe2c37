/**
 * Turns the schemas into `checks.ts`: `npm run schemas`. Not part of the package.
 */
import { writeFile } from 'node:fs/promises'
import { Build } from 'typebox/schema'
import type { TSchema } from 'typebox'
import { DeclarationSchema, PluginOptionsSchema } from './schema.ts'

/** The source of `checks.ts`. */
export function compileChecks (): string {
  return [
    '// Made from schema.ts by `npm run schemas`. Do not edit.',
    '// @ts-nocheck: code without types, as the compiler of TypeBox writes it',
    compile('Declaration', DeclarationSchema),
    compile('PluginOptions', PluginOptionsSchema)
  ].join('\n') + '\n'
}

/** Writes `checks.ts`, or another file with the same content. */
export async function writeChecks (file: string | URL = new URL('checks.ts', import.meta.url)): Promise<void> {
  await writeFile(file, compileChecks())
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
