/**
 * `npm run bench`: every suite, or those named: `npm run bench -- hook boot`. `--long` takes more pairs of each.
 *
 * What is slower than it must be is printed, and fails nothing, as any machine may be busy. A wrong answer fails.
 */
import { boot } from './boot.ts'
import { forwarded } from './forwarded.ts'
import { handshake } from './handshake.ts'
import { hook } from './hook.ts'
import { http } from './http.ts'
import { shared } from './shared.ts'
import { WrongAnswer } from './support/correctness.ts'
import { format } from './support/table.ts'
import { trust } from './trust.ts'

const suites = { hook, forwarded, boot, http, shared, handshake, trust }

const args = process.argv.slice(2)
const long = args.includes('--long')
const named = args.filter((name) => name !== '--long')
for (const name of named) if (!(name in suites)) throw new Error(`no suite ${name}; there are: ${Object.keys(suites).join(', ')}`)

for (const [name, suite] of Object.entries(suites)) {
  if (named.length > 0 && !named.includes(name)) continue
  try {
    for (const table of await suite({ long })) console.log(format(table))
  } catch (error) {
    if (!(error instanceof WrongAnswer)) throw error
    console.error(error.message)
    process.exitCode = 1
  }
}
