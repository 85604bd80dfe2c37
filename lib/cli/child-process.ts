/**
 * A command that loads an app runs in a process of its own. Its stdout is our stderr, whoever writes there: loggers do so
 * without asking `process.stdout`, and from threads. And its answer comes by another way, so that an app that ends its
 * process, or never gets on, is not taken for one that is fine.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { type Io, say } from './io.ts'

/** Where the answer goes, in the process of its own. */
const ANSWER_FD = 3
/** The first argument there: unlike a variable of the environment, nothing inherits it. */
export const CHILD_FLAG = `--answer-on-fd-${ANSWER_FD}`
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

interface Answer {
  readonly code: number
  readonly stdout: string
}

/**
 * @param args of Node
 * @returns the exit code
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

/** Whether this is the process of its own. The app finds the arguments as they were given. */
export function takeChildFlag (argv: string[]): boolean {
  if (argv[2] !== CHILD_FLAG) return false
  argv.splice(2, 1)
  return true
}

/**
 * In the process of its own: runs a command and hands its answer over.
 *
 * @returns the exit code, which is the answer of whoever has started this without listening
 */
export async function answerToParent (command: (io: Io) => Promise<number>, fd = ANSWER_FD): Promise<number> {
  let stdout = ''
  const code = await command({ stdout: { write: (text) => { stdout += text } }, stderr: process.stderr })
  // Some pipes are written to in the background (on Windows), and the process is about to end.
  await new Promise<unknown>((resolve) => { process.stderr.write('', resolve) })
  try {
    writeFileSync(fd, JSON.stringify({ code, stdout } satisfies Answer))
    return code
  } catch (error) {
    say({ stderr: process.stderr }, `the answer cannot be handed over: ${(error as Error).message}`)
    return 2
  }
}

/** What an app has written there is none. */
function parseAnswer (answered: string): Answer | undefined {
  try {
    const { code, stdout } = Object(JSON.parse(answered)) as Partial<Answer>
    return [0, 1, 2].includes(code!) && typeof stdout === 'string' ? { code: code!, stdout } : undefined
  } catch {
    return undefined
  }
}
