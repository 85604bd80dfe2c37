/** What commands write to, and how they put what is wrong. */
import { inspect } from 'node:util'

interface Output {
  write (text: string): unknown
}

export interface Io {
  /** For the answer of a command alone, which programs may read. */
  readonly stdout: Output
  readonly stderr: Output
}

/** What a command tells people instead of an answer: its message is all that they need. */
export class Failure extends Error {}

/** The command was not called as it can be. */
export class UsageError extends Error {}

/** Writes a line to stderr. */
export function say (io: Pick<Io, 'stderr'>, message: string): void {
  io.stderr.write(`fastify-http-security: ${message}\n`)
}

/** In words where it is ours; what an app throws also says where. */
export function explain (error: unknown): string {
  if (error instanceof Failure || error instanceof UsageError) return error.message
  const { code, message } = Object(error) as { code?: unknown, message?: unknown }
  return String(code).startsWith('FST_HTTP_SECURITY_') ? `${String(message)} (${String(code)})` : inspect(error)
}
