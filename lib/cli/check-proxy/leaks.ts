/** What of a forgery has got through, told from the answers of the probe before and after. */
import type { ProbeAnswer, ProbedHeader } from '../../request/probe.ts'
import { parseAnswer, type Reply } from './probe-request.ts'
import { type Forged, type Forgery, CANARY_LENGTH, type Way } from './forgeries.ts'
import type { Leak } from './report.ts'

/** Whom this command is for the proxy. */
interface Client {
  /** Over HTTP without TLS. */
  readonly isPlain: boolean
  /** Of its certificate, in lower-case hex digits. */
  readonly fingerprint256: string | undefined
}

/** What the plain request tells, without anything forged. */
export function leaksOf (answer: ProbeAnswer, { isPlain, fingerprint256 }: Client): Leak[] {
  const { isTrusted, secure, certificate: { isPresent } } = answer
  const ofNobody: Leak[] = isPresent && (isPlain || fingerprint256 === undefined) ? [{ code: 'CERTIFICATE_OF_NOBODY', header: nameOf(answer, 'certificate') }] : []
  if (!isTrusted) return [...ofNobody, { code: isPlain ? 'NOT_TRUSTED_PLAIN' : 'NOT_TRUSTED', header: null }]
  const protocol = nameOf(answer, 'protocol')
  if (isPlain) return secure ? [...ofNobody, { code: 'ALWAYS_SECURE', header: protocol }] : ofNobody
  if (!secure) return [...ofNobody, { code: 'NOT_SECURE', header: protocol }]
  return fingerprint256 === undefined ? ofNobody : leaksOfCertificate(answer, fingerprint256)
}

/** Where the app reads certificates at all: a proxy may ask for one for itself. */
function leaksOfCertificate (answer: ProbeAnswer, expected: string): Leak[] {
  const { isPresent, isValid, fingerprint256, code, reason } = answer.certificate
  const header = nameOf(answer, 'certificate')
  if (header === null) return []
  if (!isPresent) return [{ code: 'CERTIFICATE_NOT_SEEN', header }]
  if (fingerprint256 !== expected) return [{ code: 'CERTIFICATE_OF_ANOTHER', header }]
  return isValid ? [] : [{ code: 'CERTIFICATE_NOT_VALID', header: nameOf(answer, 'verdict') ?? header, detail: `${code} ${reason}`.trim() }]
}

/**
 * What comes of a handshake with a certificate that was made for this.
 *
 * @param reply none where the proxy ends the connection
 * @param fingerprint in lower-case hex digits
 */
export function leaksOfSelfSigned (reply: Reply | undefined, fingerprint: string): Leak[] {
  const answer = reply?.status === 200 ? parseAnswer(reply.body) : undefined
  return answer?.certificate.isValid === true && answer.certificate.fingerprint256 === fingerprint
    ? [{ code: 'STRANGER_BELIEVED', header: nameOf(answer, 'certificate') }]
    : []
}

function nameOf ({ headers }: ProbeAnswer, wanted: ProbedHeader['role']): string | null {
  return headers.find(({ role }) => role === wanted)?.name ?? null
}

/** How a plain request was answered. */
export interface Before {
  readonly answer: ProbeAnswer
  /** Not by the probe: over plain HTTP, the app or the proxy redirects or refuses it. */
  readonly isRefused: boolean
}

/**
 * @param fingerprint of the certificate that was made for this, in lower-case hex digits
 * @returns `undefined` where nobody knows: the proxy has neither refused the request nor passed it on
 */
export function leaksIn (before: Before, reply: Reply, forgery: Forgery, { isPlain, fingerprint }: { isPlain: boolean, fingerprint: string }): Leak[] | undefined {
  const { status, body } = reply
  const after = status === 200 ? parseAnswer(body) : undefined
  if (after !== undefined) {
    if (!isLike(before.answer, after)) return undefined
    // By this way it has no proxy, and believes nothing.
    if (isPlain && !after.isTrusted) return []
    return [...protocolIn(before.answer, after, isPlain), ...certificateIn(after, fingerprint), ...forgery.forged.flatMap((one) => leaksOfHeader(before.answer, after, one))]
  }
  // What looks at a certificate takes the client for one that came over HTTPS.
  if (isPlain && body.includes('FST_HTTP_SECURITY_CERTIFICATE_')) return [{ code: 'SECURE_BELIEVED', header: nameOf(before.answer, 'protocol') }]
  if (isOfApp(status, body)) return before.isRefused ? [] : refused(forgery)
  return isRefusal(status) ? [] : undefined
}

/** Of several headers nobody knows which it was, and each is sent alone, too. */
function refused ({ way, forged: [{ header: { name, role } }, ...others] }: Forgery): Leak[] {
  if (others.length > 0) return []
  const code = codeOfRefusal(way)
  if (code === undefined) return []
  return [{ code: role === 'early-data' ? 'EARLY_DATA' : code, header: name }]
}

/** Where it is named in Connection as well, that may be why the app believes nothing: the other ways tell. */
function codeOfRefusal (way: Way): 'LOST' | 'REFUSED' | undefined {
  if (way === 'only named in Connection') return 'LOST'
  return way === 'named in Connection' ? undefined : 'REFUSED'
}

/** Nothing is there (any more), or nobody has looked at the request. */
const UNCLEAR: ReadonlySet<number> = new Set([404, 408, 429])

/** Whether somebody has looked at the request and did not like it. */
function isRefusal (status: number): boolean {
  return status >= 400 && status < 500 && !UNCLEAR.has(status)
}

/** A redirect may be one to HTTPS, from an app that does not take the request for one. */
function isOfApp (status: number, body: string): boolean {
  return (status >= 300 && status < 400) || body.includes('FST_HTTP_SECURITY_')
}

/** Behind one proxy there may be several processes, of which some are yet to be started anew. */
function isLike (before: ProbeAnswer, after: ProbeAnswer): boolean {
  return before.headers.every(({ name }) => after.headers.some((header) => header.name === name))
}

function protocolIn (before: ProbeAnswer, after: ProbeAnswer, isPlain: boolean): Leak[] {
  return isPlain && after.secure && !before.secure ? [{ code: 'SECURE_BELIEVED', header: nameOf(after, 'protocol') }] : []
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
  return line.split(',').some((part) => part.trim() === value) || (value.length >= CANARY_LENGTH && line.includes(value))
}
