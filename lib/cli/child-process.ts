/**
 * A child process for the commands that load an app. Begin with `runInChildProcess` (parent) and `answerToParent`
 * (child).
 *
 * The stdout of the child is our stderr: loggers may write to stdout without `process.stdout`, and from threads. The
 * result comes by another file descriptor. So an app that ends its process, or never finishes, is not taken for one
 * without problems.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { type Io, say } from './io.ts'

/** The file descriptor of the child for its result. */
const ANSWER_FD = 3
/** The first argument of the child. An environment variable would be inherited by its own child processes. */
export const CHILD_FLAG = `--answer-on-fd-${ANSWER_FD}`
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

interface Answer {
  readonly code: number
  readonly stdout: string
}

/**
 * Runs Node with these arguments, and returns the exit code of the command in the child.
 *
 * @param args the arguments of Node
 */
export async function runInChildProcess (args: readonly string[], io: Io): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: ['inherit', 2, 2, 'pipe'] })
  const forward = (signal: NodeJS.Signals): void => { child.kill(signal) }
  for (const signal of SIGNALS) process.on(signal, forward)
  try {
    const [answered, [code, signal]] = await Promise.all([text(child.stdio[ANSWER_FD] as Readable), once(child, 'exit')])
    const answer = parseAnswer(answered)
    if (answer === undefined) {
      say(io, `the process ended (${signal ?? code}) before the command was done: the app ends it, crashes it, or waits for what never comes`)
      return 2
    }
    io.stdout.write(answer.stdout)
    return answer.code
  } finally {
    for (const signal of SIGNALS) process.off(signal, forward)
  }
}

/** Whether this is the child process. Removes the flag, so that the app finds the arguments as they were given. */
export function takeChildFlag (argv: string[]): boolean {
  if (argv[2] !== CHILD_FLAG) return false
  argv.splice(2, 1)
  return true
}

/**
 * In the child process: runs a command and sends its result to the parent.
 *
 * @returns the exit code, also for a caller that does not read the result
 */
export async function answerToParent (command: (io: Io) => Promise<number>, fd = ANSWER_FD): Promise<number> {
  let stdout = ''
  const code = await command({ stdout: { write: (text) => { stdout += text } }, stderr: process.stderr })
  // Writes to some pipes are asynchronous (on Windows), and the process will end soon.
  await new Promise<unknown>((resolve) => { process.stderr.write('', resolve) })
  try {
    writeFileSync(fd, JSON.stringify({ code, stdout } satisfies Answer))
    return code
  } catch (error) {
    say({ stderr: process.stderr }, `the answer cannot be handed over: ${(error as Error).message}`)
    return 2
  }
}

/** Undefined if it is not a result: an app may have written to this file descriptor. */
function parseAnswer (answered: string): Answer | undefined {
  try {
    const { code, stdout } = Object(JSON.parse(answered)) as Partial<Answer>
    return [0, 1, 2].includes(code!) && typeof stdout === 'string' ? { code: code!, stdout } : undefined
  } catch {
    return undefined
  }
}
