/** The command `probe-token`: a token for `proxy.probe` and `check-proxy`. */
import { parseArgs } from 'node:util'
import { MOST_MINUTES, makeProbeToken } from '../proxy/probe-token.ts'
import { type Io, UsageError } from './io.ts'

/**
 * Prints the token and nothing else, for `VARIABLE=$(…)`.
 *
 * @returns the exit code
 */
export async function probeToken (args: readonly string[], io: Io): Promise<number> {
  const { minutes } = parseTokenArgs(args).values
  if (!/^\d+$/.test(minutes) || Number(minutes) < 1 || Number(minutes) > MOST_MINUTES) throw new UsageError(`--minutes: '${minutes}' is not allowed; allowed: 1 to ${MOST_MINUTES}`)
  io.stdout.write(`${makeProbeToken(Number(minutes))}\n`)
  return 0
}

function parseTokenArgs (args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: { minutes: { type: 'string', default: '60' } } })
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error })
  }
}
