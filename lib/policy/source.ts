/** Where a policy comes from: an object, a file, or a source that somebody else made. */
import { resolve } from 'node:path'
import type { Policy, PolicySource } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import { watchFiles } from '../files/watch.ts'
import { readPolicyFile } from './file.ts'
import { resolvePolicy } from './policy.ts'

export interface OpenSource {
  /** For the log. */
  readonly name: string
  /** @throws FST_HTTP_SECURITY_INVALID_POLICY */
  load (): Promise<Policy>
  /** Answers what stops it. */
  watch (changed: () => void): () => void
}

/** @param warn what is odd about a file */
export function openSource (option: string | Policy | PolicySource, warn: (message: string) => void): OpenSource {
  if (typeof option === 'string') return fileSource(option, warn)
  return isSource(option) ? customSource(option) : { name: 'options', load: async () => resolvePolicy(option, 'policy'), watch: () => () => {} }
}

function isSource (option: Policy | PolicySource): option is PolicySource {
  return typeof (option as PolicySource).load === 'function'
}

function fileSource (name: string, warn: (message: string) => void): OpenSource {
  // Now: the working directory may change.
  const path = resolve(name)
  let told: string | undefined
  return {
    name,
    async load () {
      const { input, warning } = await readPolicyFile(path, name)
      if (warning !== undefined && warning !== told) warn(warning)
      told = warning
      return resolvePolicy(input, name)
    },
    watch: (changed) => watchFiles([path], changed)
  }
}

function customSource (source: PolicySource): OpenSource {
  return {
    name: 'source',
    async load () {
      let input: unknown
      try {
        input = await source.load()
      } catch (cause) {
        throw new InvalidPolicyError(`policy: the source did not load: ${(cause as Error)?.message ?? String(cause)}`, { cause })
      }
      return resolvePolicy(input, 'policy')
    },
    watch: (changed) => source.watch?.(changed) ?? (() => {})
  }
}
