/** Where a policy comes from: an object, a file, or a source that somebody else made. */
import { resolve } from 'node:path'
import type { Policy, PolicySource } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import { watchFiles } from '../files/watch.ts'
import { reasonOf, watchSource } from '../files/watch-source.ts'
import { parsePolicy, readPolicyFile } from './file.ts'
import { resolvePolicy } from './policy.ts'

export interface OpenSource<Loaded = unknown> {
  /** For the log. */
  readonly name: string
  /** What goes on while it loads. */
  readonly loading: string
  /** @throws FST_HTTP_SECURITY_INVALID_POLICY for a reason that may pass */
  load (): Promise<Loaded>
  /** @throws FST_HTTP_SECURITY_INVALID_POLICY where what was loaded is no policy */
  check (loaded: Loaded): Policy
  /** Answers what stops it. */
  watch (changed: () => void): () => void
}

/** @param warn what is odd about a file, or a source */
export function openSource (option: string | Policy | PolicySource, warn: (message: string) => void): OpenSource {
  if (typeof option === 'string') return fileSource(option, warn) as OpenSource
  if (isSource(option)) return customSource(option, warn)
  return { name: 'options', loading: 'policy', load: async () => option, check: (input) => resolvePolicy(input, 'policy'), watch: () => () => {} }
}

function isSource (option: Policy | PolicySource): option is PolicySource {
  return typeof (option as PolicySource).load === 'function'
}

function fileSource (name: string, warn: (message: string) => void): OpenSource<string> {
  // Now: the working directory may change.
  const path = resolve(name)
  let told: string | undefined
  return {
    name,
    loading: `policy: reading ${name}`,
    async load () {
      const { text, warning } = await readPolicyFile(path, name)
      if (warning !== undefined && warning !== told) warn(warning)
      told = warning
      return text
    },
    check: (text) => resolvePolicy(parsePolicy(text, name), name),
    watch: (changed) => watchFiles([path], changed)
  }
}

function customSource (source: PolicySource, warn: (message: string) => void): OpenSource {
  return {
    name: 'source',
    loading: 'policy: load() of the source',
    async load () {
      try {
        return await source.load()
      } catch (cause) {
        throw new InvalidPolicyError(`policy: the source did not load: ${reasonOf(cause)}`, { cause })
      }
    },
    check: (input) => resolvePolicy(input, 'policy'),
    watch: (changed) => watchSource(source, changed, (reason) => warn(`policy: the source ${reason}`))
  }
}
