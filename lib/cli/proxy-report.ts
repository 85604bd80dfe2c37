/** What `check-proxy` says in the end. */
import type { Protocol } from './forgeries.ts'
import type { Finding } from './leaks.ts'

export interface Report {
  /** Of the probe. */
  readonly url: string
  readonly protocols: readonly Protocol[]
  /** Those that the app believes. */
  readonly headers: readonly string[]
  /** How many were sent. */
  readonly forgeries: number
  readonly findings: readonly Finding[]
  /** Why something is not known. */
  readonly unanswered: readonly string[]
}

/** For people: a line for each finding, and one for all of it. */
export function textOf ({ protocols, headers, forgeries, findings, unanswered }: Report): string {
  const problems = findings.filter(({ isProblem }) => isProblem).length
  const found = problems > 0 ? count(problems, 'problem') : unanswered.length > 0 ? 'not known' : 'nothing got through'
  const lines = [
    ...findings.map(({ isProblem, header, message, ways }) => `${isProblem ? 'problem' : 'note   '}  ${header === null ? '' : `${header}: `}${message} (${ways.join(', ')})`),
    ...unanswered.map((reason) => `unknown  ${reason}`),
    `${found}: ${count(forgeries, 'forged request')} over ${protocols.join(' and ')}${protocols.length === 1 ? ' (HTTP/2 is not offered)' : ''}, of ${headers.join(', ')}`
  ]
  return `${lines.join('\n')}\n`
}

/** For programs. */
export function documentOf (report: Report): string {
  return `${JSON.stringify({ version: 1, ...report }, null, 2)}\n`
}

function count (number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
