#!/usr/bin/env node
/** The executable `fastify-http-security`: runs `main` here, or in a child process for a command that loads an app. */
import { answerToParent, CHILD_FLAG, runInChildProcess, takeChildFlag } from './child-process.ts'
import { loadsApp, main } from './main.ts'

const isChild = takeChildFlag(process.argv)
const argv = process.argv.slice(2)
if (isChild) {
  // Ends the process: an app may have timers and sockets open.
  process.exit(await answerToParent((io) => main(argv, io)))
} else {
  // The reader of stdout may end early (`| head`): the exit code is still useful.
  process.stdout.on('error', () => {})
  process.exitCode = loadsApp(argv) ? await runInChildProcess([...process.execArgv, process.argv[1]!, CHILD_FLAG, ...argv], process) : await main(argv, process)
}
