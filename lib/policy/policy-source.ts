/** Where a policy comes from: an object, a file, or a source that somebody else made. */
import { resolve } from 'node:path'
import type { Policy, PolicySource } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import { readJson } from '../files/json.ts'
import { readRegular } from '../files/read.ts'
import { reasonOf, watchFiles, watchSource } from '../files/watch.ts'
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

/** A policy in a JSON file. */

/** Bytes: thousands of applications. */
const LARGEST = 1024 * 1024
const WRITABLE_BY_OTHERS = 0o002

/** What a file has, and what is odd about it. */
interface PolicyFile {
  readonly text: string
  readonly warning: string | undefined
}

/**
 * @param path absolute
 * @param name what to call it: the path as it was written
 * @throws FST_HTTP_SECURITY_INVALID_POLICY
 */
export async function readPolicyFile (path: string, name: string): Promise<PolicyFile> {
  try {
    const { bytes, mode } = await readRegular(path, LARGEST)
    return {
      text: bytes.toString(),
      warning: (mode & WRITABLE_BY_OTHERS) === 0 ? undefined : `${name} can be written by every user of this machine, and with it what is enforced`
    }
  } catch (cause) {
    throw new InvalidPolicyError(`${name}: cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** @throws FST_HTTP_SECURITY_INVALID_POLICY with the line and the column where it is no JSON */
export function parsePolicy (text: string, name: string): unknown {
  try {
    // Windows editors write a byte order mark, which JSON does not have (RFC 8259 §8.1).
    return readJson(text.replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new InvalidPolicyError(`${name}:${(cause as Error).message}`, { cause })
  }
}
