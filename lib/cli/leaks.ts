/** What of a forgery has got through, told from the answers of the probe before and after. */
import type { ProbeAnswer, ProbedHeader } from '../request/probe.ts'
import type { Reply } from './ask.ts'
import { type Forged, type Forgery, MARK_LENGTH, type Protocol, type Way } from './forgeries.ts'

/** Of what is found, the worst first. */
const TEXTS = {
  CERTIFICATE_BELIEVED: 'the app takes a self-made certificate, which the client wrote here, for a valid one of the client. Whoever reaches the proxy can be anybody: have the proxy remove this header before it sets its own',
  CERTIFICATE_SEEN: 'the app takes a self-made certificate, which the client wrote here, for that of the client, though not for a valid one. Have the proxy remove this header before it sets its own',
  CERTIFICATE_OF_NOBODY: 'the app takes a certificate for that of a client who has none: one that the proxy sends with every request, or that of the proxy itself',
  NOT_TRUSTED: 'the app does not trust whoever it is reached through: the address is not in proxy.trust, so that all that the proxy says is ignored',
  NOT_SECURE: 'the proxy does not say that the client came over HTTPS, or not in this header (proxy.protocol)',
  ARRIVED: 'it arrives as the client wrote it. Have the proxy set it, or remove it',
  UNDERSCORED: 'it arrives with _ for -. This app ignores that, but what turns names into variables (CGI, WSGI, PHP) takes it for the same header. Have the proxy drop such names',
  REFUSED: 'the request is refused or redirected by the app, so that the header does reach it. Have the proxy set it, or remove it',
  EARLY_DATA: 'it arrives as the client wrote it, as RFC 8470 §5.1 has it. This does no harm: a request with it is refused sooner (425)',
  LOST: 'the client can take away what the proxy says. This does no harm to the app, which then believes nothing'
} as const

export type Code = keyof typeof TEXTS

const NOTES: ReadonlySet<Code> = new Set<Code>(['EARLY_DATA', 'LOST'])

/** Whether it is a hole, and not only good to know. */
export const isProblem = (code: Code): boolean => !NOTES.has(code)

/** About a header, or the proxy as such. */
export interface Leak {
  readonly code: Code
  readonly header: string | null
}

/** One line of the report: how often does not matter, by which ways does. */
export interface Finding extends Leak {
  readonly isProblem: boolean
  readonly message: string
  readonly ways: readonly string[]
}

/**
 * What the plain request tells, without anything forged.
 *
 * @param hasCertificate whether the client of this command has one
 */
export function leaksOf (answer: ProbeAnswer, hasCertificate: boolean): Leak[] {
  const { isTrusted, secure, certificate: { isPresent } } = answer
  const leaks: Leak[] = []
  if (isPresent && !hasCertificate) leaks.push({ code: 'CERTIFICATE_OF_NOBODY', header: nameOf(answer, 'certificate') })
  if (!isTrusted) return [...leaks, { code: 'NOT_TRUSTED', header: null }]
  return secure ? leaks : [...leaks, { code: 'NOT_SECURE', header: nameOf(answer, 'protocol') }]
}

function nameOf ({ headers }: ProbeAnswer, wanted: ProbedHeader['role']): string | null {
  return headers.find(({ role }) => role === wanted)?.name ?? null
}

/**
 * @param before the answer to a plain request
 * @param fingerprint of the certificate that was made for this, in lower-case hex digits
 * @returns `undefined` where nobody knows: the proxy has neither refused the request nor passed it on
 */
export function leaksIn (before: ProbeAnswer, { status, body }: Reply, { way, forged }: Forgery, fingerprint: string): Leak[] | undefined {
  const after = status === 200 ? parseAnswer(body) : undefined
  if (after !== undefined) return isLike(before, after) ? [...certificateIn(after, fingerprint), ...forged.flatMap((one) => leaksOfHeader(before, after, one))] : undefined
  if (isOfApp(status, body)) return refused(way).flatMap((code) => forged.map(({ header: { name, role } }) => ({ code: role === 'early-data' ? 'EARLY_DATA' : code, header: name })))
  return status >= 400 && status < 500 && !UNCLEAR.has(status) ? [] : undefined
}

/** Where it is named in Connection as well, that may be why the app believes nothing: the other ways tell. */
function refused (way: Way): Code[] {
  if (way === 'only named in Connection') return ['LOST']
  return way === 'named in Connection' ? [] : ['REFUSED']
}

/** Nothing is there (any more), or nobody has looked at the request. */
const UNCLEAR: ReadonlySet<number> = new Set([404, 408, 429])

/** A redirect may be one to HTTPS, from an app that does not take the request for one. */
function isOfApp (status: number, body: string): boolean {
  return (status >= 300 && status < 400) || body.includes('FST_HTTP_SECURITY_')
}

export function parseAnswer (body: string): ProbeAnswer | undefined {
  try {
    const answer = JSON.parse(body) as Partial<ProbeAnswer> | null
    return answer?.version === 1 && Array.isArray(answer.headers) ? answer as ProbeAnswer : undefined
  } catch {
    return undefined
  }
}

/** Behind one proxy there may be several processes, of which some are yet to be started anew. */
function isLike (before: ProbeAnswer, after: ProbeAnswer): boolean {
  return before.headers.every(({ name }) => after.headers.some((header) => header.name === name))
}

function certificateIn (answer: ProbeAnswer, forged: string): Leak[] {
  const { fingerprint256, isValid } = answer.certificate
  return fingerprint256 === forged ? [{ code: isValid ? 'CERTIFICATE_BELIEVED' : 'CERTIFICATE_SEEN', header: nameOf(answer, 'certificate') }] : []
}

function leaksOfHeader (before: ProbeAnswer, after: ProbeAnswer, { header: { name, role }, value }: Forged): Leak[] {
  const old = before.headers.find((header) => header.name === name)!
  const now = after.headers.find((header) => header.name === name)!
  const leaks: Leak[] = []
  if (isIn('values', old, now, value)) leaks.push({ code: role === 'early-data' ? 'EARLY_DATA' : 'ARRIVED', header: name })
  if (isIn('underscored', old, now, value)) leaks.push({ code: role === 'early-data' ? 'EARLY_DATA' : 'UNDERSCORED', header: name })
  const isLost = (old.values.length > 0 && now.values.length === 0) || (role === 'protocol' && before.secure && !after.secure)
  return leaks.length === 0 && isLost ? [{ code: 'LOST', header: name }] : leaks
}

/** Only in what was not there before: a proxy may well say SUCCESS of the client that this one is. */
function isIn (part: 'values' | 'underscored', before: ProbedHeader, after: ProbedHeader, value: string | undefined): boolean {
  if (value === undefined) return false
  const known = [...before[part]]
  return after[part].some((line) => {
    const at = known.indexOf(line)
    if (at !== -1) known.splice(at, 1)
    return at === -1 && says(line, value)
  })
}

/** A short value may be part of another one, as `http` is of `https`. */
function says (line: string, value: string): boolean {
  return line.split(',').some((part) => part.trim() === value) || (value.length >= MARK_LENGTH && line.includes(value))
}

/** The same of one header in one line, the worst first. */
export class Findings {
  readonly #found = new Map<string, Leak & { readonly ways: Set<string> }>()

  add (leaks: readonly Leak[], protocol: Protocol, way: string): void {
    for (const leak of leaks) {
      const key = `${leak.code} ${leak.header}`
      const found = this.#found.get(key) ?? { ...leak, ways: new Set() }
      this.#found.set(key, found)
      found.ways.add(`${protocol} ${way}`)
    }
  }

  list (): readonly Finding[] {
    const codes = Object.keys(TEXTS)
    return [...this.#found.values()]
      .sort((a, b) => codes.indexOf(a.code) - codes.indexOf(b.code) || (`${a.header}` < `${b.header}` ? -1 : 1))
      .map(({ code, header, ways }) => ({ code, header, isProblem: isProblem(code), message: TEXTS[code], ways: [...ways] }))
  }
}
