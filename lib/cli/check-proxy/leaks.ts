/**
 * Which forged values got through a proxy: compares the probe's answers without and with a forgery. Begin with
 * `leaksIn` (forged requests) and `leaksOf` (the request without a forgery).
 */
import type { X509Certificate } from 'node:crypto'
import { elementsOf } from '../../proxy/forwarded-protocol.ts'
import type { ProbeAnswer, ProbedHeader } from '../../request/probe.ts'
import { formatName, subjectOf } from '../../x509/distinguished-names.ts'
import { parseAnswer, type Reply } from './probe-request.ts'
import { type Forged, type Forgery, CANARY_LENGTH, type Way } from './forgeries.ts'
import type { Leak } from './report.ts'

/** What the proxy sees of this command as a client. */
interface Client {
  /** The URL is plain HTTP. */
  readonly isPlain: boolean
  /** Its client certificate. */
  readonly client: Identity | undefined
}

/** What a certificate is recognised by in an answer. */
export interface Identity {
  /** SHA-256 of its DER, in lower-case hex digits. */
  readonly fingerprint256: string
  /** As in the details of the app. */
  readonly subject: string
}

export function identityOf (certificate: X509Certificate): Identity {
  return { fingerprint256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(), subject: formatName(subjectOf(certificate)) }
}

/** What the request without a forgery shows. */
export function leaksOf (answer: ProbeAnswer, { isPlain, client }: Client): Leak[] {
  const { isTrusted, secure, certificate: { isPresent } } = answer
  const unexpected: Leak[] = isPresent && (isPlain || client === undefined) ? [{ code: 'CERTIFICATE_OF_NOBODY', header: nameOf(answer, 'certificate') }] : []
  if (!isTrusted) return [...unexpected, { code: isPlain ? 'NOT_TRUSTED_PLAIN' : 'NOT_TRUSTED', header: null }]
  const protocol = nameOf(answer, 'protocol')
  if (isPlain) return secure ? [...unexpected, { code: 'ALWAYS_SECURE', header: protocol }] : unexpected
  if (!secure) return [...unexpected, { code: 'NOT_SECURE', header: protocol }]
  return client === undefined ? unexpected : leaksOfCertificate(answer, client)
}

/** Only if the app reads certificates: a proxy may ask for one for itself. */
function leaksOfCertificate (answer: ProbeAnswer, expected: Identity): Leak[] {
  const { isPresent, isValid, fingerprint256, subject, code, reason } = answer.certificate
  const header = nameOf(answer, 'certificate')
  if (header === null) return []
  if (!isPresent) return [{ code: 'CERTIFICATE_NOT_SEEN', header, ...reason !== '' && { detail: reason } }]
  // Of one that the proxy has only described, there may be no fingerprint.
  if (fingerprint256 === '' ? subject !== expected.subject : fingerprint256 !== expected.fingerprint256) return [{ code: 'CERTIFICATE_OF_ANOTHER', header }]
  return isValid ? [] : [{ code: 'CERTIFICATE_NOT_VALID', header: nameOf(answer, 'verdict') ?? header, detail: `${code} ${reason}`.trim() }]
}

/**
 * What a handshake with the self-signed certificate shows.
 *
 * @param reply undefined if the proxy ended the connection
 * @param forged the self-signed certificate
 */
export function leaksOfSelfSigned (reply: Reply | undefined, forged: Identity): Leak[] {
  const answer = reply?.status === 200 ? parseAnswer(reply.body) : undefined
  return answer?.certificate.isValid === true && isOf(answer, forged)
    ? [{ code: 'STRANGER_BELIEVED', header: nameOf(answer, 'certificate') }]
    : []
}

function nameOf ({ headers }: ProbeAnswer, wanted: ProbedHeader['role']): string | null {
  return headers.find(({ role }) => role === wanted)?.name ?? null
}

/** The answer to the request without a forgery. */
export interface Before {
  readonly answer: ProbeAnswer
  /** It did not come from the probe: over plain HTTP, the app or the proxy redirects or refuses the request. */
  readonly isRefused: boolean
}

/**
 * What a forged request shows.
 *
 * @param forged what the forgery is recognised by
 * @returns `undefined` if it is not known: the proxy neither refused the request nor passed it on
 */
export function leaksIn (before: Before, reply: Reply, forgery: Forgery, { isPlain, forged }: { isPlain: boolean, forged: Identity }): Leak[] | undefined {
  const { status, body } = reply
  const after = status === 200 ? parseAnswer(body) : undefined
  if (after !== undefined) {
    if (!isLike(before.answer, after)) return undefined
    // The app was reached without a trusted proxy, and trusts none of the headers.
    if (isPlain && !after.isTrusted) return []
    return [...protocolIn(before.answer, after, isPlain), ...certificateIn(after, forged), ...forgery.forged.flatMap((one) => leaksOfHeader(before.answer, after, one))]
  }
  // An error about the certificate shows that the app thinks the client came over HTTPS.
  if (isPlain && body.includes('FST_HTTP_SECURITY_CERTIFICATE_')) return [{ code: 'SECURE_BELIEVED', header: nameOf(before.answer, 'protocol') }]
  if (isOfApp(status, body)) return before.isRefused ? [] : refused(forgery)
  return isRefusal(status) ? [] : undefined
}

/** With several headers it is not known which one was the reason. Each one is also sent alone. */
function refused ({ way, forged: [{ header: { name, role } }, ...others] }: Forgery): Leak[] {
  if (others.length > 0) return []
  const code = codeOfRefusal(way)
  if (code === undefined) return []
  return [{ code: role === 'early-data' ? 'EARLY_DATA' : code, header: name }]
}

/** If the header is also named in Connection, that may be why the app does not trust it: the other ways show it. */
function codeOfRefusal (way: Way): 'LOST' | 'REFUSED' | undefined {
  if (way === 'only named in Connection') return 'LOST'
  return way === 'named in Connection' ? undefined : 'REFUSED'
}

/** Not found, or the request was not looked at. */
const UNCLEAR: ReadonlySet<number> = new Set([404, 408, 429])

/** Whether a server, the proxy or another one, has looked at the request and refused it. */
function isRefusal (status: number): boolean {
  return status >= 400 && status < 500 && !UNCLEAR.has(status)
}

/** A redirect may be one to HTTPS by the app, which does not treat the request as HTTPS. */
function isOfApp (status: number, body: string): boolean {
  return (status >= 300 && status < 400) || body.includes('FST_HTTP_SECURITY_')
}

/**
 * Whether both answers come from an equal configuration: behind one proxy there may be several processes, some of them
 * not restarted yet.
 */
function isLike (before: ProbeAnswer, after: ProbeAnswer): boolean {
  return before.headers.every(({ name }) => after.headers.some((header) => header.name === name))
}

function protocolIn (before: ProbeAnswer, after: ProbeAnswer, isPlain: boolean): Leak[] {
  return isPlain && after.secure && !before.secure ? [{ code: 'SECURE_BELIEVED', header: nameOf(after, 'protocol') }] : []
}

function certificateIn (answer: ProbeAnswer, forged: Identity): Leak[] {
  return isOf(answer, forged) ? [{ code: answer.certificate.isValid ? 'CERTIFICATE_BELIEVED' : 'CERTIFICATE_SEEN', header: nameOf(answer, 'certificate') }] : []
}

/** A proxy may let through one of several headers that describe a certificate. */
function isOf ({ certificate: { isPresent, fingerprint256, subject } }: ProbeAnswer, forged: Identity): boolean {
  return isPresent && (fingerprint256 === forged.fingerprint256 || subject === forged.subject)
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

/** Only lines that were not there without the forgery: a proxy may well send SUCCESS for the client that this one is. */
function isIn (part: 'values' | 'underscored', before: ProbedHeader, after: ProbedHeader, value: string | undefined): boolean {
  if (value === undefined) return false
  const known = before[part].map((line) => countedIn(before, line))
  // Of a list with more values than the app counts, one is enough.
  const forged = after.hops === undefined ? value : elementsOf(value, after.name)![0]!
  return after[part].some((arrived) => {
    const line = countedIn(after, arrived)
    const at = known.indexOf(line)
    if (at !== -1) known.splice(at, 1)
    return at === -1 && containsValue(line, forged)
  })
}

/** What the app reads of a line: not what a client wrote left of what its proxies append. */
function countedIn ({ name, hops }: ProbedHeader, line: string): string {
  return hops === undefined ? line : elementsOf(line, name, hops)?.reverse().join(', ') ?? line
}

/** Whether a line contains a value. A short value has to be a whole element: `http` is also part of `https`. */
function containsValue (line: string, value: string): boolean {
  return line.split(',').some((part) => part.trim() === value) || (value.length >= CANARY_LENGTH && line.includes(value))
}
