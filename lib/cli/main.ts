/** The commands, and what they have in common. */
import { audit } from './audit.ts'
import { type Io, UsageError, explain, say } from './io.ts'

const USAGE = `Usage: fastify-http-security audit <file> [options]

audit: prints how each route of an app may be reached, and checks that its server can deliver that. The app does not
listen. <file> is an ES module or CommonJS, and exports by default a Fastify instance, a plugin (app, options), or a
function without parameters that makes an instance.

  --policy <file>    an administrators' policy as JSON, instead of that of the app
  --minimum <level>  a route below it is a problem: none, tls or mtls
  --json             a sorted document instead of the table
  -h, --help

Exit code: 0 without a problem, 1 with one, 2 when it could not be found out.
`

const COMMANDS = new Map([['audit', audit]])

/**
 * @param argv what follows the name of the program
 * @returns the exit code
 */
export async function main ([name, ...args]: readonly string[], io: Io): Promise<number> {
  if ([name, ...args].some((arg) => arg === '--help' || arg === '-h')) {
    io.stdout.write(USAGE)
    return 0
  }
  try {
    const command = COMMANDS.get(name ?? '')
    if (command === undefined) throw new UsageError(name === undefined ? 'a command is missing' : `there is no command ${name}`)
    return await command(args, io)
  } catch (error) {
    say(io, explain(error))
    if (error instanceof UsageError) io.stderr.write(`\n${USAGE}`)
    return 2
  }
}
