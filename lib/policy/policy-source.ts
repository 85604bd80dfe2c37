/**
 * Where a policy comes from: an object, a file, or a source of the application. Begin with {@link openSource}.
 */
import { resolve } from 'node:path'
import type { Policy, PolicySource } from '../../types/policy.ts'
import { InvalidPolicyError } from '../errors.ts'
import { readJson } from '../files/json.ts'
import { readRegular } from '../files/read.ts'
import { reasonOf, watchFiles, watchSource } from '../files/watch.ts'
import { resolvePolicy } from './policy.ts'

/** A policy source of any kind. */
export interface OpenSource<Loaded = unknown> {
  /** For the log. */
  readonly name: string
  /** What is going on while it loads, for the log. */
  readonly loading: string
  /** @throws FST_HTTP_SECURITY_INVALID_POLICY where it could not be loaded, which may succeed later */
  load (): Promise<Loaded>
  /** @throws FST_HTTP_SECURITY_INVALID_POLICY where the loaded value is not a policy */
  check (loaded: Loaded): Policy
  /** Returns a function that stops it. */
  watch (changed: () => void): () => void
}

/** @param warn is told of problems of a file or source that do not stop it */
export function openSource (option: string | Policy | PolicySource, warn: (message: string) => void): OpenSource {
  if (typeof option === 'string') return fileSource(option, warn) as OpenSource
  if (isSource(option)) return customSource(option, warn)
  return { name: 'options', loading: 'policy', load: async () => option, check: (input) => resolvePolicy(input, 'policy'), watch: () => () => {} }
}

function isSource (option: Policy | PolicySource): option is PolicySource {
  return typeof (option as PolicySource).load === 'function'
}

function fileSource (name: string, warn: (message: string) => void): OpenSource<string> {
  // Resolved now, because the working directory may change.
  const path = resolve(name)
  let lastWarning: string | undefined
  return {
    name,
    loading: `policy: reading ${name}`,
    async load () {
      const { text, warning } = await readPolicyFile(path, name)
      if (warning !== undefined && warning !== lastWarning) warn(warning)
      lastWarning = warning
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

// Policy files

/** Bytes; enough for thousands of applications. */
const LARGEST = 1024 * 1024
const WRITABLE_BY_OTHERS = 0o002

/** The content of a file, and a problem that does not stop it. */
interface PolicyFile {
  readonly text: string
  readonly warning: string | undefined
}

/**
 * @param path absolute
 * @param name for messages: the path as it was written
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

/** @throws FST_HTTP_SECURITY_INVALID_POLICY with line and column of a JSON error */
export function parsePolicy (text: string, name: string): unknown {
  try {
    // Windows editors write a byte order mark, which is not allowed in JSON (RFC 8259 §8.1).
    return readJson(text.replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new InvalidPolicyError(`${name}:${(cause as Error).message}`, { cause })
  }
}
