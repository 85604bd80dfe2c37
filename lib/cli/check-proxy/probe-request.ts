/**
 * Requests to the probe of an app, over HTTP/1.1 and HTTP/2 (`request`), messages if the probe does not answer
 * (`unreachable`, `noProbe`), and the parser of its answer (`parseAnswer`). Each request has its own connection: a
 * proxy may close one that it refuses.
 */
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import { isIP } from 'node:net'
import type { Readable } from 'node:stream'
import tls, { type SecureContext } from 'node:tls'
import { ENCODINGS } from '../../proxy/presets.ts'
import { parseProbeToken, PROBE_HEADER } from '../../proxy/probe-token.ts'
import type { ProbeAnswer, ProbedHeader } from '../../request/probe.ts'
import { printable } from '../../text.ts'
import { Failure } from '../io.ts'
import type { Protocol } from './forgeries.ts'
import type { Identity } from './leaks.ts'

/** A URL to test, and how to reach it. */
export interface Target {
  /** The URL as it was given, without a trailing slash. */
  readonly name: string
  /** The URL of the probe. */
  readonly url: URL
  /** The URL is plain HTTP. */
  readonly isPlain: boolean
  /** The probe token. */
  readonly token: string
  /** The CAs that verify the proxy's certificate, and the client certificate and key of this command. */
  readonly tls: { readonly ca?: Buffer, readonly cert?: Buffer | string, readonly key?: Buffer | string }
  /** That client certificate. */
  readonly client: Identity | undefined
  /** Milliseconds for a request with its connection. */
  readonly timeout: number
}

export interface Reply {
  readonly status: number
  /** The target of a redirect. */
  readonly location: string | undefined
  readonly body: string
}

type Headers = Readonly<Record<string, string | string[]>>

/** The answer of a probe contains a few certificates at most. */
const MOST_CHARACTERS = 1024 * 1024

/** SecureContexts by options: otherwise, Node would read certificates and keys for each connection again. */
const contexts = new WeakMap<Target['tls'], SecureContext>()

function contextOf (options: Target['tls']): SecureContext {
  const context = contexts.get(options) ?? tls.createSecureContext(options)
  contexts.set(options, context)
  return context
}

export const request: Record<Protocol, (target: Target, headers: Headers) => Promise<Reply>> = { 'HTTP/1.1': askHttp1, 'HTTP/2': askHttp2 }

async function askHttp1 ({ url, isPlain, token, tls, timeout }: Target, headers: Headers): Promise<Reply> {
  const options = { headers: { Accept: 'application/json', Connection: 'close', [PROBE_HEADER]: token, ...headers } }
  const request = isPlain ? http.request(url, { ...options, agent: false }) : https.request(url, { ...options, agent: new https.Agent({ secureContext: contextOf(tls) }) })
  return await withTimeout(timeout, request, async () => {
    request.end()
    const [response] = await once(request, 'response')
    return { status: response.statusCode, location: response.headers.location, body: await bodyOf(response) }
  })
}

async function askHttp2 ({ url, token, tls, timeout }: Target, headers: Headers): Promise<Reply> {
  const session = http2.connect(url, { secureContext: contextOf(tls), settings: { enablePush: false } })
  return await withTimeout(timeout, session, async () => {
    const closed = once(session, 'close').then(() => { throw new Error('the connection was closed') })
    // Also if the request fails, or cannot be made because a name or value is not allowed.
    closed.catch(() => {})
    const stream = session.request({ ':path': url.pathname, accept: 'application/json', [PROBE_HEADER]: token, ...headers })
    // Also if a server closes the stream without a reason.
    stream.on('error', () => {}).once('close', () => session.destroy())
    try {
      const [answer] = await Promise.race([once(stream, 'response'), closed])
      return { status: answer[':status'], location: answer.location, body: await bodyOf(stream) }
    } catch (error) {
      if (isMalformed(error)) return { status: 400, location: undefined, body: '' }
      throw error
    }
  })
}

/** A malformed request (RFC 9113 §8.1.1), which HTTP/1.1 would answer with 400. */
function isMalformed (error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ERR_HTTP2_STREAM_ERROR' && message.endsWith('PROTOCOL_ERROR')
}

/** Whether a server supports HTTP/2, which it says in the handshake (ALPN, RFC 7301). */
export async function offersHttp2 ({ url, tls: options, timeout }: Pick<Target, 'url' | 'tls' | 'timeout'>): Promise<boolean> {
  // IPv6 addresses have brackets only in URLs. An address is no server name (RFC 6066 §3).
  const host = url.hostname.replaceAll(/[[\]]/g, '')
  const socket = tls.connect({ ...options, host, port: Number(url.port || 443), ALPNProtocols: ['h2', 'http/1.1'], ...isIP(host) === 0 && { servername: host } })
  return await withTimeout(timeout, socket, async () => {
    await once(socket, 'secureConnect')
    return socket.alpnProtocol === 'h2'
  })
}

/** Errors of an address where nothing listens, or to which this machine has no route. */
const UNREACHABLE_CODES: ReadonlySet<string | undefined> = new Set(['ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL'])

/** Whether nothing listens there. A name may have several addresses, each with its own error. */
export function isNobodyThere (error: unknown): boolean {
  const { errors = [error] } = error as { errors?: readonly unknown[] }
  const codes = errors.map((one) => (one as NodeJS.ErrnoException).code)
  return codes.includes('ECONNREFUSED') && codes.every((code) => UNREACHABLE_CODES.has(code))
}

interface Exchange {
  on (event: 'error', listener: () => void): unknown
  destroy (error?: Error): unknown
}

/** Runs an exchange with a timeout, and closes it in every case. */
async function withTimeout<Result> (timeout: number, exchange: Exchange, run: () => Promise<Result>): Promise<Result> {
  // An error may come after the result.
  exchange.on('error', () => {})
  let timer: NodeJS.Timeout | undefined
  // The timeout does not rely on `destroy()`: an exchange that ended without an event (after 101, say) has no event for
  // that either.
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeout / 1000} seconds`)), timeout)
  })
  try {
    return await Promise.race([run(), late])
  } finally {
    clearTimeout(timer)
    exchange.destroy()
  }
}

async function bodyOf (stream: Readable): Promise<string> {
  let body = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    body += chunk
    if (body.length > MOST_CHARACTERS) throw new Error('the answer is too long')
  }
  return body
}

// Messages if the probe does not answer

/** Characters of a message that a server can influence. */
const LONGEST_HINT = 300

/** There is no answer. */
export function unreachable ({ name }: Pick<Target, 'name'>, protocol: Protocol, cause: unknown): Failure {
  const { message, code = '' } = cause as NodeJS.ErrnoException
  // If several addresses failed, the error has a code but no message.
  const reason = message === '' ? code : message
  return new Failure(`${name} cannot be asked over ${protocol}: ${printable(reason, LONGEST_HINT)}${/CERT|SIGN|ISSUER/.test(code) ? '. --ca names the authorities to trust instead of those of the system' : ''}`, { cause })
}

/** Something else than the probe answers. */
export function noProbe (target: Target, reply: Reply): Failure {
  return new Failure(`${target.name} ${hintOf(target, reply)}`)
}

const BY_STATUS: ReadonlyMap<number, string> = new Map([
  [400, 'answers with 400, as to a malformed request: either the proxy writes a certificate into a header with its newlines, which the app\'s server refuses (nginx: forward $ssl_client_escaped_cert, not $ssl_client_cert), or the proxy refuses the client certificate or wants one (--cert and --key)'],
  [421, 'answers with 421: the proxy serves this host under another name. With client certificates, Caddy wants the name in the URL that its own certificate was chosen by, and no address'],
  [431, 'answers with 431: the headers are too large for a server on the way, with a certificate in them. For the app\'s own, raise Fastify({ http: { maxHeaderSize } })']
])

function hintOf (target: Target, { status, body }: Reply): string {
  const refusal = /FST_HTTP_SECURITY_\w{1,40}/.exec(body)?.[0]
  if (refusal !== undefined) return `is refused by the app with ${status} (${refusal}), as a path is that it does not know, which this is to an app without this token as proxy.probe, or whose level minimum or a policy has raised. ${hintOfRefusal(refusal, target)}`
  if (status === 200) return 'answers with something else than a probe: another app or page, or another version of fastify-http-security'
  if (status === 404) return `is not there (404): ${hintOfAbsence(target)}`
  return BY_STATUS.get(status) ?? `answers with ${status} and is no probe: the proxy, or something in the app, answers instead. The path has to be forwarded to the app, and what asks for a login has to leave it out`
}

function hintOfRefusal (code: string, { isPlain, client }: Target): string {
  if (isPlain) return 'That is as it should be, and says nothing of what the proxy lets through: give its https: URL as well, first'
  if (!code.includes('CERTIFICATE')) return 'TLS_REQUIRED: the app does not take the proxy\'s word; see proxy.trust and proxy.protocol'
  return client === undefined
    ? 'Give a client certificate with --cert and --key'
    : 'The app does not see that of --cert, or does not take it for a valid one: ask for another of its routes with that certificate, and see its log'
}

function hintOfAbsence ({ token }: Target): string {
  return parseProbeToken(token)!.expires <= Date.now()
    ? 'the token has expired. Make another one with probe-token and give it to the app'
    : 'proxy.probe of the app is another token, or none, or has expired; the app was not started anew; or host and path lead to another app'
}

// The answer of the probe
//
// It may come from any server, and its content is sent, compared and printed: everything is checked.

/** An app trusts seven headers at most. */
const MOST_HEADERS = 16
/** Lines of one header. */
const MOST_LINES = 100
/** The most that `proxy.hops` may be. */
const MOST_HOPS = 10
/** Characters of a value that the app expects, and of what it says about a certificate. */
const LONGEST = 1024
/** Our probe writes names in lower case. */
const NAME = /^[a-z0-9]+(?:-[a-z0-9]+)*$/
const FINGERPRINT = /^(?:[0-9a-f]{64})?$/
const ROLES: ReadonlySet<unknown> = new Set<ProbedHeader['role']>(['protocol', 'host', 'certificate', 'verdict', 'chain', 'fingerprint', 'early-data'])
const KNOWN_ENCODINGS: ReadonlySet<unknown> = new Set(ENCODINGS)

/** @returns `undefined` if it is not exactly the answer of a probe */
export function parseAnswer (body: string): ProbeAnswer | undefined {
  const answer = parseJson(body)
  return isAnswer(answer) ? answer : undefined
}

function parseJson (body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** An object whose properties may be anything. */
type Unknown<Type> = { readonly [Key in keyof Type]?: unknown }

function isAnswer (value: unknown): value is ProbeAnswer {
  const { version, isTrusted, secure, certificate, headers } = Object(value) as Unknown<ProbeAnswer>
  return version === 1 && isBoolean(isTrusted) && isBoolean(secure) && isCertificate(certificate) && isArray(headers, MOST_HEADERS, isHeader)
}

function isCertificate (value: unknown): boolean {
  const { isPresent, isValid, fingerprint256, subject, code, reason } = Object(value) as Unknown<ProbeAnswer['certificate']>
  return isBoolean(isPresent) && isBoolean(isValid) && isText(fingerprint256) && FINGERPRINT.test(fingerprint256) && isString(subject) && isText(code) && isText(reason)
}

function isHeader (value: unknown): boolean {
  const { name, role, encoding, expected, present, hops, values, underscored } = Object(value) as Unknown<ProbedHeader>
  const isBelieved = isText(name) && NAME.test(name) && ROLES.has(role)
  const isReadable = role !== 'certificate' || KNOWN_ENCODINGS.has(encoding)
  const isAny = role === 'protocol' ? present === true : role !== 'verdict'
  const isExpected = isText(expected) || (expected === undefined && isAny)
  const isCounted = hops === undefined || (Number.isInteger(hops) && Number(hops) >= 1 && Number(hops) <= MOST_HOPS)
  return isBelieved && isReadable && isExpected && isCounted && isArray(values, MOST_LINES, isString) && isArray(underscored, MOST_LINES, isString)
}

function isArray (value: unknown, most: number, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length <= most && value.every(isItem)
}

const isBoolean = (value: unknown): boolean => typeof value === 'boolean'
const isString = (value: unknown): boolean => typeof value === 'string'
const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= LONGEST
