/**
 * Processes that are asked and answer, one question at a time, and end with whoever started them.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process'

/** No question takes longer, unless something hangs. */
const TIME_LIMIT = 120_000

export class Child {
  readonly #process: ChildProcess

  /**
   * @param file beside this one
   * @param execArgv flags for Node; without them those of this process, TypeScript's loader included
   */
  constructor (file: string, execArgv: string[] = process.execArgv) {
    this.#process = fork(new URL(file, import.meta.url), { execArgv })
  }

  /** Has all of its threads run on one core, those that it starts later included. Linux only. */
  pin (core: string): void {
    execFileSync('taskset', ['-a', '-c', '-p', core, String(this.#process.pid)], { stdio: 'ignore' })
  }

  ask<Answer> (question: unknown): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer)
        this.#process.off('message', answered).off('exit', exited)
      }
      const answered = (answer: unknown) => { done(); resolve(answer as Answer) }
      const exited = (code: number | null) => { done(); reject(new Error(`a process ended with ${code} instead of an answer`)) }
      const timer = setTimeout(() => { done(); reject(new Error('a process does not answer')) }, TIME_LIMIT)
      this.#process.once('message', answered).once('exit', exited)
      this.#process.send(question as object)
    })
  }

  async end (): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    await new Promise((resolve) => {
      this.#process.once('exit', resolve)
      this.#process.kill()
    })
  }
}

/** In such a process: answers every question by `answer`. */
export function answerQuestions<Question> (answer: (question: Question) => unknown): void {
  process.on('message', async (question: Question) => {
    const reply = await answer(question)
    process.send!(reply ?? null)
  })
  process.on('disconnect', () => process.exit())
}
