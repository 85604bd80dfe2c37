/**
 * Runs the test files of a folder, and says what tap does not: of which file no result came (where one is out of time,
 * tap counts that twice, and drops as many that come last), which tools were not there, and whether all tests together
 * reach every line.
 *
 *     tsx test/run.ts         npm test: needs npm and the openssl program
 *     tsx test/run.ts field   npm run test:field, after that: with real proxies, browsers and other clients
 *
 * Further arguments are tap's.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const COVERAGE = join(root, '.tap/coverage')
/** What `npm test` reaches: tap begins each run with an empty folder. */
const KEPT = join(root, '.tap/coverage-of-test')
const RESULTS = join(root, '.tap/results.tap')

const isField = process.argv[2] === 'field'
const folder = isField ? 'test/field' : 'test'
const files = readdirSync(join(root, folder)).filter((name) => name.endsWith('.test.ts')).map((name) => `${folder}/${name}`)
await blankTypes()
// Each part alone reaches less than every line
const anyCoverage = ['statements', 'branches', 'functions', 'lines'].map((what) => `--${what}=0`)
const { status, output } = await run([...anyCoverage, '--coverage-report=none', ...process.argv.slice(isField ? 3 : 2), ...files])

const count = (what: string): number => Number(new RegExp(`^# \\{.*\\b${what}: (\\d+)`, 'm').exec(output)?.[1] ?? 0)
const passed = count('pass')
let failed = count('fail') || (status === 0 ? 0 : 1)
const fail = (message: string): void => {
  console.log(message)
  failed++
}

// One without tests is skipped, in tap's words
const ran = new Set([...output.matchAll(/^(?:not )?ok \d+ - (\S+)(?! # SKIP)(?: .*)?$/gm)].map(([, name]) => name))
for (const file of files.filter((file) => !ran.has(file))) fail(`${file} did not run`)

if (!isField) {
  rmSync(KEPT, { recursive: true, force: true })
  if (existsSync(COVERAGE)) renameSync(COVERAGE, KEPT)
} else if (existsSync(KEPT)) {
  cpSync(KEPT, COVERAGE, { recursive: true })
  if (await tap(['report', 'text', '--no-show-full-coverage']) !== 0) fail('not every line is covered')
} else {
  fail('npm test has to run first: it is together that they cover every line')
}

const skipped = [...output.matchAll(/^ *ok \d+ - .* # SKIP ?(.*)$/gm)].map(([, reason]) => reason)
for (const reason of new Set(skipped)) console.log(`skipped ${skipped.filter((other) => other === reason).length}: ${reason}`)
console.log(`${passed} passed, ${failed} failed${skipped.length === 0 ? '' : `, ${skipped.length} skipped`}`)
process.exitCode = failed === 0 ? 0 : 1

/** Takes the types out of all sources at once: else each process would load the compiler for its own file. */
async function blankTypes (): Promise<void> {
  // By a name that is worked out, as it is JavaScript without types
  const { blanked } = await import(new URL('fixtures/types.js', import.meta.url).href) as { blanked: (source: string) => Promise<string> }
  for (const folder of ['lib', 'test', 'types', 'examples']) {
    const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    for (const name of names.filter((name) => name.endsWith('.ts'))) await blanked(readFileSync(join(root, folder, name), 'utf8'))
  }
}

/** Runs tests for whoever looks: a terminal, or a log that is read afterwards. */
async function run (args: string[]): Promise<{ status: number | null, output: string }> {
  if (process.stdout.isTTY) {
    rmSync(RESULTS, { force: true })
    const status = await tap(['run', '--reporter=base', `--output-file=${RESULTS}`, ...args])
    return { status, output: existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8') : '' }
  }
  let output = ''
  const status = await tap(['run', '--reporter=tap', ...args], (text) => {
    output += text
    process.stdout.write(text)
  })
  return { status, output }
}

/** @returns the exit code */
async function tap (args: string[], read?: (text: string) => void): Promise<number | null> {
  const child = spawn(join(root, 'node_modules/.bin/tap'), args, { cwd: root, stdio: ['ignore', read === undefined ? 'inherit' : 'pipe', 'inherit'] })
  if (read !== undefined) child.stdout!.setEncoding('utf8').on('data', read)
  const [code] = await once(child, 'close') as [number | null]
  return code
}
