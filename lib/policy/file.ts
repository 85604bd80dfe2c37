/** A policy in a JSON file. */
import { InvalidPolicyError } from '../errors.ts'
import { readJson } from '../files/json.ts'
import { readRegular } from '../files/read.ts'

/** Bytes: thousands of applications. */
const LARGEST = 1024 * 1024
const WRITABLE_BY_OTHERS = 0o002

/** What a file has, and what is odd about it. */
export interface PolicyFile {
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
