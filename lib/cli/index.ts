#!/usr/bin/env node
/** The command `fastify-http-security`. */
import { INSIDE, apart, inside, takeInside } from './apart.ts'
import { loadsApp, main } from './main.ts'

const isInside = takeInside(process.argv)
const argv = process.argv.slice(2)
if (isInside) {
  // An app may leave timers and sockets open.
  process.exit(await inside((io) => main(argv, io)))
} else {
  // Whoever reads stdout may leave early (`| head`): the exit code is an answer, too.
  process.stdout.on('error', () => {})
  process.exitCode = loadsApp(argv) ? await apart([...process.execArgv, process.argv[1]!, INSIDE, ...argv], process) : await main(argv, process)
}
