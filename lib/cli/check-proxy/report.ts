/**
 * The report of `check-proxy`: as text (`textOf`) or JSON (`documentOf`), and the findings by header (`Findings`) with
 * the table of their messages and remedies (`OUTCOMES`).
 */
import { printable } from '../../text.ts'
import type { Protocol } from './forgeries.ts'

/** The test of one URL. */
export interface Tested {
  /** The URL as it was given. */
  readonly url: string
  /** Empty if nothing listens. */
  readonly protocols: readonly Protocol[]
  /** The number of forged requests. */
  readonly forgeries: number
  /** What answers instead of the probe, which may be fine over plain HTTP. */
  readonly note: string | null
}

export interface Report {
  readonly urls: readonly Tested[]
  /** The headers that the app trusts. */
  readonly headers: readonly string[]
  readonly findings: readonly Finding[]
  /** Reasons why a part of the result is not known. */
  readonly unanswered: readonly string[]
  /** What was not tested, and how to test it. */
  readonly untested: readonly string[]
}

/** The report for people: a line for each finding, and a summary. */
export function textOf ({ urls, headers, findings, unanswered, untested }: Report): string {
  const problems = findings.filter(({ isProblem }) => isProblem).length
  const found = problems > 0 ? count(problems, 'problem') : unanswered.length > 0 ? 'not known' : 'nothing got through'
  /** With a problem at this URL, it is no comfort that nothing listens or that it redirects: the note is left out. */
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
  const reported = outcomes.map(({ message, ways }) => `${message} (${waysOf(ways, isOneOfSeveral)})`).join('; ')
  return `${header === null ? '' : `${header}: `}${reported}${remedy === null ? '' : `. ${remedy}`}`
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

/** The report for programs. */
export function documentOf (report: Report): string {
  return `${JSON.stringify({ version: 1, ...report }, null, 2)}\n`
}

function count (number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

// The findings by header, the worst first, and what to do

const REMOVE = 'Have the proxy remove this header, in any case and with _ for -, wherever it listens, before it sets its own'
const SET = 'Have the proxy set this header itself wherever it listens, to how the client came (nginx: $scheme), whatever the client wrote'
const FORWARD = 'Have the proxy ask for certificates, and forward the certificate itself (with every encoding but \'dn\', a fingerprint or a name is none) in this header, in the encoding that proxy.certificate names'

/** In order of severity, the worst first. `isNote`: good to know, but no security problem. */
const OUTCOMES = {
  CERTIFICATE_BELIEVED: { message: 'the app takes a self-made certificate, which the client wrote here, for a valid one of the client: whoever reaches the proxy can be anybody', remedy: REMOVE },
  STRANGER_BELIEVED: { message: 'the app takes a self-made certificate, with which this command came to the proxy, for a valid one: anybody can make one in the name of anybody', remedy: 'Have the proxy verify the certificates of clients (nginx: ssl_verify_client optional, not optional_no_ca) and say so, or the app: verified: \'here\', and proxy.ca' },
  SECURE_BELIEVED: { message: 'over plain HTTP, the app believes that the client came over HTTPS, since the client says so', remedy: `${SET}; where the app has proxy.hops, it must not be more than the proxies that append` },
  ALWAYS_SECURE: { message: 'the proxy says that the client came over HTTPS, of every client over plain HTTP', remedy: SET },
  CERTIFICATE_SEEN: { message: 'the app takes a self-made certificate, which the client wrote here, for that of the client, though not for a valid one', remedy: REMOVE },
  CERTIFICATE_OF_NOBODY: { message: 'the app takes a certificate for that of a client who has none: one that the proxy sends with every request, or that of the proxy itself', remedy: 'Have the proxy forward the certificate of the client, and nothing where there is none' },
  CERTIFICATE_OF_ANOTHER: { message: 'the app takes another certificate than that of --cert for that of the client: one that the proxy sends with every request, or that of the proxy itself', remedy: 'Have the proxy forward the certificate of the client, and nothing where there is none' },
  CERTIFICATE_NOT_SEEN: { message: 'the app does not see the certificate of --cert, so that no client can identify itself', remedy: FORWARD },
  CERTIFICATE_NOT_VALID: { message: 'the app sees the certificate of --cert and does not take it for a valid one, so that no client can identify itself', remedy: 'Have whoever verifies it (the proxy, or the app by proxy.ca) trust its issuer, and the proxy say so in the words that proxy.certificate expects' },
  NOT_TRUSTED: { message: 'the app does not trust whoever it is reached through, so that all that the proxy says is ignored', remedy: 'Put the address of the proxy, as the app sees it, or its own certificate (the log of the app says why one does not count) into proxy.trust' },
  NOT_SECURE: { message: 'the proxy does not say that the client came over HTTPS, or not in this header', remedy: `${SET}; or name the header that it sets (proxy.protocol), and how many proxies append to it (proxy.hops)` },
  ARRIVED: { message: 'it arrives as the client wrote it', remedy: REMOVE },
  REFUSED: { message: 'the request is refused or redirected by the app, so that the header does reach it', remedy: REMOVE },
  UNDERSCORED: { message: 'it arrives with _ for -. This app ignores that, but what turns names into variables (CGI, WSGI, PHP) takes it for the same header', remedy: 'Have the proxy drop such names (nginx: underscores_in_headers off)' },
  NOT_TRUSTED_PLAIN: { message: 'the app is reached from an address that is not in proxy.trust, and believes none of these headers', remedy: undefined, isNote: true },
  EARLY_DATA: { message: 'it arrives as the client wrote it, as RFC 8470 §5.1 has it. This does no harm: a request with it is refused sooner, with 425', remedy: undefined, isNote: true },
  LOST: { message: 'the client can take away what the proxy says. This does no harm to the app, which then believes nothing', remedy: undefined, isNote: true }
} as const satisfies Record<string, { message: string, remedy: string | undefined, isNote?: boolean }>

type Code = keyof typeof OUTCOMES

const CODES = Object.keys(OUTCOMES) as Code[]

/** One observation about a header, or about the proxy itself. */
export interface Leak {
  readonly code: Code
  readonly header: string | null
  /** The reason that the app gives. */
  readonly detail?: string
}

/** The request with which it got through. */
interface By {
  /** The URL as it was given. */
  readonly url: string
  readonly protocol: Protocol
  readonly way: string
}

/** One kind of result of a header, with all ways that lead to it; how often it was found makes no difference. */
interface Outcome {
  readonly code: Code
  readonly message: string
  readonly ways: readonly By[]
}

/** All results of one header. */
interface Finding {
  readonly header: string | null
  readonly isProblem: boolean
  /** The worst first. */
  readonly outcomes: readonly Outcome[]
  /** The remedy for the worst outcome; null for a note. */
  readonly remedy: string | null
}

interface Found extends By {
  readonly code: Code
  readonly detail: string | undefined
  readonly isAll: boolean
}

/** Characters of the app's reason. */
const LONGEST_DETAIL = 200

const NOTHING_FORGED = { way: 'nothing forged', isAll: false }

/** Collects what was found. */
export class Findings {
  readonly #found = new Map<string | null, Found[]>()

  add (leaks: readonly Leak[], url: string, protocol: Protocol, { way, isAll }: { readonly way: string, readonly isAll: boolean } = NOTHING_FORGED): void {
    for (const { code, header, detail } of leaks) {
      const found = this.#found.get(header) ?? []
      this.#found.set(header, found)
      found.push({ code, detail, url, protocol, way, isAll })
    }
  }

  list (): readonly Finding[] {
    return [...this.#found]
      .map(([header, found]) => findingOf(header, found))
      .sort((a, b) => rankOf(a.outcomes[0]!) - rankOf(b.outcomes[0]!) || (`${a.header}` < `${b.header}` ? -1 : 1))
  }
}

function findingOf (header: string | null, found: readonly Found[]): Finding {
  const worst = worstOfEachWay(found)
  // Beside a problem, harmless outcomes are left out.
  const reported = worst.some(isProblem) ? worst.filter(isProblem) : worst
  const codes = [...new Set(reported.map(({ code }) => code))]
  return {
    header,
    isProblem: isProblem(reported[0]!),
    outcomes: codes.map((code) => outcomeOf(code, reported.filter((one) => one.code === code))),
    remedy: OUTCOMES[codes[0]!].remedy ?? null
  }
}

function outcomeOf (code: Code, found: readonly Found[]): Outcome {
  const details = new Set(found.flatMap(({ detail }) => detail === undefined ? [] : [printable(detail, LONGEST_DETAIL)]))
  return { code, message: [OUTCOMES[code].message, ...details].join(': '), ways: found.map(byOf) }
}

/**
 * The worst result of each way. A request with all headers together counts only if its result is worse than that of a
 * header alone.
 */
function worstOfEachWay (found: readonly Found[]): Found[] {
  const ways = new Set<string>()
  return found.toSorted((a, b) => rankOf(a) - rankOf(b) || Number(a.isAll) - Number(b.isAll)).filter(({ url, protocol, way }) => {
    const key = `${url} ${protocol} ${way}`
    return !ways.has(key) && ways.add(key)
  })
}

function byOf ({ url, protocol, way, isAll }: Found): By {
  return { url, protocol, way: isAll ? `all together ${way}` : way }
}

const isProblem = ({ code }: { code: Code }): boolean => !('isNote' in OUTCOMES[code])
const rankOf = ({ code }: { code: Code }): number => CODES.indexOf(code)
