#!/usr/bin/env node
/** The command `fastify-http-security`. */
import { apart, inside, takeAnswerFd } from './apart.ts'
import { loadsApp, main } from './main.ts'

const argv = process.argv.slice(2)
const answerFd = takeAnswerFd()
if (answerFd === undefined) {
  // Whoever reads stdout may leave early (`| head`): the exit code is an answer, too.
  process.stdout.on('error', () => {})
  process.exitCode = loadsApp(argv) ? await apart([...process.execArgv, process.argv[1]!, ...argv], process) : await main(argv, process)
} else {
  await inside(answerFd, (io) => main(argv, io))
  // An app may leave timers and sockets open.
  process.exit()
}
