/**
 * The command `check-proxy`: sends forged copies of the headers that an app believes through the proxy in front of it, and
 * asks the app which of them have arrived.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { PROBE_PATH, parseProbeToken } from '../proxy/probe-token.ts'
import type { ProbeAnswer } from '../request/probe.ts'
import { type Reply, type Target, ask, offersHttp2 } from './ask.ts'
import { type Forgery, MARK_LENGTH, type Mark, type Protocol, WAYS, forgeriesOf, headersOf } from './forgeries.ts'
import { Failure, type Io, UsageError } from './io.ts'
import { Findings, leaksIn, leaksOf, parseAnswer } from './leaks.ts'
import { type Report, documentOf, textOf } from './proxy-report.ts'

/** The environment: arguments can be read by everybody on a machine. */
const VARIABLE = 'FASTIFY_HTTP_SECURITY_PROBE'
/** Milliseconds. */
const TIMEOUT = 10_000
/** Requests without an answer, after which no more are made. */
const MOST_UNANSWERED = 5

/**
 * @param timeout milliseconds that one request may take
 * @returns the exit code: 0, 1 where something got through, or 2 where some of it is not known
 * @throws what keeps it from an answer
 */
export async function checkProxy (args: readonly string[], io: Io, timeout = TIMEOUT): Promise<number> {
  const { json, ...target } = await readTarget(args, timeout)
  const report = await check(target)
  io.stdout.write(json ? documentOf(report) : textOf(report))
  if (report.findings.some(({ isProblem }) => isProblem)) return 1
  return report.unanswered.length > 0 ? 2 : 0
}

async function check (target: Target): Promise<Report> {
  const first = await plain(target, 'HTTP/1.1')
  const protocols: Protocol[] = await hasHttp2(target) ? ['HTTP/1.1', 'HTTP/2'] : ['HTTP/1.1']
  const mark = await makeMark(first)
  const findings = new Findings()
  const unanswered: string[] = []
  let forgeries = 0
  try {
    for (const protocol of protocols) {
      const before = await plain(target, protocol)
      findings.add(leaksOf(before, target.tls.cert !== undefined), protocol, 'nothing forged')
      for (const forgery of forgeriesOf(before.headers, mark, WAYS[protocol])) {
        if (unanswered.length === MOST_UNANSWERED) break
        const leaks = await send(target, protocol, forgery, before, mark)
        forgeries++
        if (leaks !== undefined) findings.add(leaks, protocol, forgery.way)
        else unanswered.push(`${forgery.forged.map(({ header }) => header.name).join(', ')}: no answer of the app, and no refusal of the proxy (${protocol} ${forgery.way})`)
      }
    }
    // A token that expires, or a proxy that has had enough, would look like one that lets nothing through.
    await plain(target, 'HTTP/1.1')
  } catch (error) {
    // What was found until then is not lost.
    unanswered.push((error as Failure).message)
  }
  return { url: target.url.href, protocols, headers: first.headers.map(({ name }) => name), forgeries, findings: findings.list(), unanswered }
}

async function send (target: Target, protocol: Protocol, forgery: Forgery, before: ProbeAnswer, { certificate }: Mark): Promise<ReturnType<typeof leaksIn>> {
  const reply = await ask[protocol](target, headersOf(forgery)).catch(() => undefined)
  return reply && leaksIn(before, reply, forgery, createHash('sha256').update(certificate).digest('hex'))
}

async function makeMark ({ headers }: ProbeAnswer): Promise<Mark> {
  const text = randomBytes(MARK_LENGTH / 2).toString('hex')
  if (!headers.some(({ role }) => role === 'certificate')) return { text, certificate: Buffer.alloc(0) }
  const { forgeCertificate } = await import('./forged-certificate.ts')
  return { text, certificate: await forgeCertificate(text) }
}

/** Without anything forged: what all others are compared with. */
async function plain (target: Target, protocol: Protocol): Promise<ProbeAnswer> {
  const { url, token } = target
  let reply: Reply
  try {
    reply = await ask[protocol](target, {})
  } catch (error) {
    throw unreachable(url, protocol, error)
  }
  const answer = reply.status === 200 ? parseAnswer(reply.body) : undefined
  if (answer === undefined) throw new Failure(`${url.href} ${hintOf(reply, parseProbeToken(token)!.expires)}`)
  return answer
}

async function hasHttp2 (target: Target): Promise<boolean> {
  try {
    return await offersHttp2(target)
  } catch (error) {
    throw unreachable(target.url, 'HTTP/2', error)
  }
}

function unreachable ({ href }: URL, protocol: Protocol, cause: unknown): Failure {
  const { message, code = '' } = cause as NodeJS.ErrnoException
  return new Failure(`${href} cannot be asked over ${protocol}: ${message}${/CERT|SIGN|ISSUER/.test(code) ? '. --ca names the authorities to trust instead of those of the system' : ''}`, { cause })
}

function hintOf ({ status, body }: Reply, expires: number): string {
  const refusal = /FST_HTTP_SECURITY_\w+/.exec(body)?.[0]
  if (refusal !== undefined) return `is refused by the app with ${status} (${refusal}): its level was raised by minimum or a policy. TLS_REQUIRED: the app does not take the proxy's word; see proxy.trust and proxy.protocol. CERTIFICATE_…: give a client certificate with --cert and --key`
  if (status === 200) return 'answers with something else than a probe: another app or page, or another version of fastify-http-security'
  if (status !== 404) return `answers with ${status} and is no probe: the proxy, or something in the app, answers instead. The path has to be forwarded to the app, and what asks for a login has to leave it out`
  return `is not there (404): ${expires <= Date.now() ? 'the token has expired. Make another one with probe-token and give it to the app' : 'proxy.probe of the app is another token, or has expired; the app was not started anew; or host and path lead to another app'}`
}

async function readTarget (args: readonly string[], timeout: number): Promise<Target & { json: boolean }> {
  const { values: { ca, cert, key, json, 'token-file': tokenFile }, positionals: [text, ...others] } = parse(args)
  if (text === undefined || others.length > 0) throw new UsageError('check-proxy takes one URL')
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('--cert and --key belong together')
  return {
    url: probeUrlOf(text),
    token: tokenIn(tokenFile === undefined ? process.env[VARIABLE] : String(await read(tokenFile)), tokenFile ?? VARIABLE),
    tls: { ...ca !== undefined && { ca: await read(ca) }, ...cert !== undefined && { cert: await read(cert), key: await read(key!) } },
    timeout,
    json
  }
}

function parse (args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ca: { type: 'string' }, cert: { type: 'string' }, key: { type: 'string' }, 'token-file': { type: 'string' }, json: { type: 'boolean', default: false } }
    })
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error })
  }
}

/** Below the path that was given: an app may be mounted there. */
function probeUrlOf (text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'https:' || `${url.username}${url.password}${url.search}${url.hash}` !== '') {
    throw new UsageError('the URL is not allowed; allowed: that of the app as its clients reach it, such as https://shop.example, without user, query or fragment')
  }
  return new URL(`${url.pathname.replace(/\/+$/, '')}${PROBE_PATH}`, url.origin)
}

function tokenIn (text: string | undefined, name: string): string {
  const token = text?.trim()
  if (token === undefined || token === '') throw new UsageError(`a token is missing: ${name} is not there or empty. Make one with probe-token, and give it to the app as proxy.probe`)
  if (parseProbeToken(token) === undefined) throw new UsageError(`${name} holds no token; allowed: what probe-token prints`)
  return token
}

async function read (path: string): Promise<Buffer> {
  return await readFile(path).catch((error: Error) => {
    throw new Failure(`${path} cannot be read: ${error.message}`)
  })
}
