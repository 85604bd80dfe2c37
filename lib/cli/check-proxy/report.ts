/** What `check-proxy` says in the end. */
import type { Protocol } from './forgeries.ts'
import type { By, Finding, Outcome } from './findings.ts'

/** Of one URL. */
export interface Tested {
  /** As it was given. */
  readonly url: string
  /** None where nothing listens. */
  readonly protocols: readonly Protocol[]
  /** How many were sent. */
  readonly forgeries: number
  /** How it answers where that is not the probe, which over plain HTTP may be fine. */
  readonly note: string | null
}

export interface Report {
  readonly urls: readonly Tested[]
  /** Those that the app believes. */
  readonly headers: readonly string[]
  readonly findings: readonly Finding[]
  /** Why something is not known. */
  readonly unanswered: readonly string[]
  /** What was left out, and how to have it tested. */
  readonly untested: readonly string[]
}

/** For people: a line for each finding, and one for all of it. */
export function textOf ({ urls, headers, findings, unanswered, untested }: Report): string {
  const problems = findings.filter(({ isProblem }) => isProblem).length
  const found = problems > 0 ? count(problems, 'problem') : unanswered.length > 0 ? 'not known' : 'nothing got through'
  /** That nothing is there or that it redirects is no comfort then. */
  const isInQuestion = (url: string): boolean =>
    findings.some(({ isProblem, outcomes }) => isProblem && outcomes.some(({ ways }) => ways.some((by) => by.url === url))) || unanswered.some((reason) => reason.startsWith(`${url} `))
  const lines = [
    ...findings.map((finding) => `${finding.isProblem ? 'problem' : 'note   '}  ${sentenceOf(finding, urls.length > 1)}`),
    ...urls.flatMap(({ url, note }) => note === null || isInQuestion(url) ? [] : [`note     ${url} ${note}`]),
    ...unanswered.map((reason) => `unknown  ${reason}`),
    `${found}: ${urls.map(summaryOf).join(', ')}, of ${headers.join(', ')}`,
    ...untested
  ]
  return `${lines.join('\n')}\n`
}

function sentenceOf ({ header, outcomes, remedy }: Finding, isOneOfSeveral: boolean): string {
  const told = outcomes.map(({ message, ways }) => `${message} (${waysOf(ways, isOneOfSeveral)})`).join('; ')
  return `${header === null ? '' : `${header}: `}${told}${remedy === null ? '' : `. ${remedy}`}`
}

function waysOf (ways: Outcome['ways'], isOneOfSeveral: boolean): string {
  return groups(ways, 'url').map(([url, ofUrl]) => {
    const list = groups(ofUrl, 'protocol').map(([protocol, some]) => `${protocol} ${some.map(({ way }) => way).join(', ')}`).join(', ')
    return isOneOfSeveral ? `${url}: ${list}` : list
  }).join('; ')
}

function groups (ways: readonly By[], key: 'url' | 'protocol'): Array<[string, By[]]> {
  return [...new Set(ways.map((by) => by[key]))].map((name) => [name, ways.filter((by) => by[key] === name)])
}

function summaryOf ({ url, protocols, forgeries }: Tested): string {
  const over = protocols.length === 0 ? '' : ` over ${protocols.join(' and ')}`
  const isWithout = url.startsWith('https:') && protocols.length === 1
  return `${count(forgeries, 'forged request')} to ${url}${over}${isWithout ? ' (HTTP/2 is not offered)' : ''}`
}

/** For programs. */
export function documentOf (report: Report): string {
  return `${JSON.stringify({ version: 1, ...report }, null, 2)}\n`
}

function count (number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
