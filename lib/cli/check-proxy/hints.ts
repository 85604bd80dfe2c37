/** What to do where the probe does not answer. */
import { parseProbeToken } from '../../proxy/probe-token.ts'
import type { Reply, Target } from './ask.ts'
import type { Protocol } from './forgeries.ts'
import { Failure } from '../io.ts'
import { printable } from '../../printable.ts'

/** Characters of a message that a server had a hand in. */
const LONGEST_HINT = 300

/** Nobody answers. */
export function unreachable ({ name }: Pick<Target, 'name'>, protocol: Protocol, cause: unknown): Failure {
  const { message, code = '' } = cause as NodeJS.ErrnoException
  // Several addresses that were tried in vain have a code, and no message.
  const reason = message === '' ? code : message
  return new Failure(`${name} cannot be asked over ${protocol}: ${printable(reason, LONGEST_HINT)}${/CERT|SIGN|ISSUER/.test(code) ? '. --ca names the authorities to trust instead of those of the system' : ''}`, { cause })
}

/** Somebody else answers, or the app in another way. */
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

function hintOfRefusal (code: string, { isPlain, fingerprint256 }: Target): string {
  if (isPlain) return 'That is as it should be, and says nothing of what the proxy lets through: give its https: URL as well, first'
  if (!code.includes('CERTIFICATE')) return 'TLS_REQUIRED: the app does not take the proxy\'s word; see proxy.trust and proxy.protocol'
  return fingerprint256 === undefined
    ? 'Give a client certificate with --cert and --key'
    : 'The app does not see that of --cert, or does not take it for a valid one: ask for another of its routes with that certificate, and see its log'
}

function hintOfAbsence ({ token }: Target): string {
  return parseProbeToken(token)!.expires <= Date.now()
    ? 'the token has expired. Make another one with probe-token and give it to the app'
    : 'proxy.probe of the app is another token, or none, or has expired; the app was not started anew; or host and path lead to another app'
}
