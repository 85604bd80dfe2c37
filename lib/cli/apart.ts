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
const VARIABLE = 'FASTIFY_HTTP_SECURITY_ANSWER_FD'
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

interface Answer {
  readonly code: number
  readonly stdout: string
}

/**
 * @param args of Node
 * @returns the exit code
 */
export async function apart (args: readonly string[], io: Io): Promise<number> {
  const child = spawn(process.execPath, args, { env: { ...process.env, [VARIABLE]: String(ANSWER_FD) }, stdio: ['inherit', 2, 2, 'pipe'] })
  const forward = (signal: NodeJS.Signals): void => { child.kill(signal) }
  for (const signal of SIGNALS) process.on(signal, forward)
  try {
    const [answered, [code, signal]] = await Promise.all([text(child.stdio[ANSWER_FD] as Readable), once(child, 'exit')])
    const answer = parse(answered)
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

/** In the process of its own: where the answer goes, told once and not to the processes that the app starts. */
export function takeAnswerFd (): number | undefined {
  const fd = process.env[VARIABLE]
  delete process.env[VARIABLE]
  return fd === undefined ? undefined : Number(fd)
}

/** In the process of its own: runs a command and hands its answer over. */
export async function inside (fd: number, command: (io: Io) => Promise<number>): Promise<void> {
  let stdout = ''
  const code = await command({ stdout: { write: (text) => { stdout += text } }, stderr: process.stderr })
  // Some pipes are written to in the background (on Windows), and the process is about to end.
  await new Promise<unknown>((resolve) => { process.stderr.write('', resolve) })
  writeFileSync(fd, JSON.stringify({ code, stdout } satisfies Answer))
}

function parse (answered: string): Answer | undefined {
  try {
    return JSON.parse(answered) as Answer
  } catch {
    return undefined
  }
}
