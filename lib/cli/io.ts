/** Output of the commands: streams, errors and messages. */
import { inspect } from 'node:util'

interface Output {
  write (text: string): unknown
}

export interface Io {
  /** Only for the result of a command, which programs may read. */
  readonly stdout: Output
  readonly stderr: Output
}

/** A command has no result. The message says why, and is all that a user needs. */
export class Failure extends Error {}

/** The arguments are wrong: the usage is printed as well. */
export class UsageError extends Error {}

/** Writes a message to stderr. */
export function say (io: Pick<Io, 'stderr'>, message: string): void {
  io.stderr.write(`fastify-http-security: ${message}\n`)
}

/** An error as text: our own errors by their message, others with their stack. */
export function explain (error: unknown): string {
  if (error instanceof Failure || error instanceof UsageError) return error.message
  const { code, message } = Object(error) as { code?: unknown, message?: unknown }
  return String(code).startsWith('FST_HTTP_SECURITY_') ? `${String(message)} (${String(code)})` : inspect(error)
}
