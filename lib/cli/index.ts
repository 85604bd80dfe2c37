#!/usr/bin/env node
/** The command `fastify-http-security`. */
import { answerToParent, CHILD_FLAG, runInChildProcess, takeChildFlag } from './child-process.ts'
import { loadsApp, main } from './main.ts'

const isInside = takeChildFlag(process.argv)
const argv = process.argv.slice(2)
if (isInside) {
  // An app may leave timers and sockets open.
  process.exit(await answerToParent((io) => main(argv, io)))
} else {
  // Whoever reads stdout may leave early (`| head`): the exit code is an answer, too.
  process.stdout.on('error', () => {})
  process.exitCode = loadsApp(argv) ? await runInChildProcess([...process.execArgv, process.argv[1]!, CHILD_FLAG, ...argv], process) : await main(argv, process)
}
