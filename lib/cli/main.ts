/** The commands, their help, and the dispatch between them. Begin with `main`. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeProbeToken, MOST_MINUTES } from '../proxy/probe-token.ts'
import { audit } from './audit.ts'
import { checkProxy } from './check-proxy/check-proxy.ts'
import { explain, type Io, say, UsageError } from './io.ts'

/**
 * Runs a command.
 *
 * @param argv the arguments after the name of the program
 * @returns the exit code: 0 without a problem, 1 with one, 2 if there is no result
 */
export async function main ([name, ...args]: readonly string[], io: Io): Promise<number> {
  if ([name, ...args].some((arg) => arg === '--help' || arg === '-h')) {
    const command = COMMANDS.get(name)
    io.stdout.write(command === undefined ? USAGE : usageOf([command]))
    return 0
  }
  try {
    if (name === '--version') {
      io.stdout.write(`${await readVersion()}\n`)
      return 0
    }
    const command = COMMANDS.get(name)
    if (command === undefined) throw new UsageError(name === undefined ? 'a command is missing' : `there is no command ${name}`)
    return await command.run(args, io)
  } catch (error) {
    say(io, explain(error))
    if (error instanceof UsageError) io.stderr.write(`\n${USAGE}`)
    return 2
  }
}

/** Whether a command needs a child process. */
export function loadsApp ([name]: readonly string[]): boolean {
  return COMMANDS.get(name)?.loadsApp === true
}

/** The version of this package, which finds itself by its name, bundled or not. */
async function readVersion (): Promise<string> {
  const { version } = JSON.parse(await readFile(fileURLToPath(import.meta.resolve('fastify-http-security/package.json')), 'utf8')) as { version: string }
  return version
}

// The commands and their help

interface Command {
  /** The command line after the name of the program. */
  readonly usage: string
  readonly help: string
  readonly run: (args: readonly string[], io: Io) => Promise<number>
  /** It runs the code of an app, which may write to stdout or never end: so it needs a child process. */
  readonly loadsApp: boolean
}

const AUDIT: Command = {
  run: audit,
  loadsApp: true,
  usage: 'audit <file> [options]',
  help: `audit: prints how each route of an app may be reached, and checks that its server can deliver that. It does not
listen, and <file> must not either. That is an ES module or CommonJS, and exports by default a Fastify instance, a plugin (app, options), or a
function without parameters that makes an instance.

  --policy <file>      an administrators' policy as JSON, instead of that of the app
  --minimum <level>    a route below it is a problem: none, tls or mtls
  --require-rules      a route that requires a certificate and takes any, without allow or verify, is a problem
  --json               a sorted document instead of the table
`
}

const CHECK_PROXY: Command = {
  run: checkProxy,
  loadsApp: false,
  usage: 'check-proxy <url>... [options]',
  help: `check-proxy: sends forged copies of every header that an app believes through the proxy in front of it, and prints which
got through. <url> is where clients reach the app: https://shop.example and http://shop.example, with the path if the app
is mounted below one. The app has the token of probe-token as proxy.probe, and this command has it from the environment
variable FASTIFY_HTTP_SECURITY_PROBE.

  --ca <file>          authorities in PEM that the proxy's certificate is verified by, instead of those of the system
  --cert <file>        a client certificate in PEM, which the app then has to see as present and valid
  --key <file>         its key in PEM
  --token-file <file>  holds the token, instead of the environment variable
  --json               a document instead of the list
`
}

const PROBE_TOKEN: Command = {
  run: probeToken,
  loadsApp: false,
  usage: 'probe-token [options]',
  help: `probe-token: prints a token for proxy.probe and check-proxy. Until it expires, its holder can ask the app which of these
headers arrived with a request of theirs, and nothing else.

  --minutes <number>   until it expires: 1 to 1440, 60 unless given
`
}

const COMMANDS: ReadonlyMap<string | undefined, Command> = new Map([['audit', AUDIT], ['check-proxy', CHECK_PROXY], ['probe-token', PROBE_TOKEN]])

function usageOf (commands: readonly Command[]): string {
  const lines = commands.map(({ usage }) => `fastify-http-security ${usage}`)
  return `Usage: ${lines.join('\n       ')}

${commands.map(({ help }) => help).join('\n')}
  -h, --help           of one command, or of all
  --version

Exit code: 0 without a problem, 1 with one, 2 when it could not be found out.
`
}

const USAGE = usageOf([...COMMANDS.values()])

// The command `probe-token`

/**
 * Prints the token and nothing else, for `VARIABLE=$(…)`.
 *
 * @returns the exit code
 */
async function probeToken (args: readonly string[], io: Io): Promise<number> {
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
