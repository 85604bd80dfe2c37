/**
 * The log of refusals: one line each, at info, with code, route and certificate. Begin with {@link logRefusal}.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { describeRule, formatRule, type Rule } from '../clients/rules.ts'
import { printable } from '../text.ts'
import type { PeerCertificate } from '../trust/peer-certificate.ts'
import { certificateReader } from './certificate-reader.ts'
import type { Hints } from './transport.ts'
import type { Verdicts } from './client-certificate.ts'

export interface RefusalHints extends Hints {
  /** The host that the client names, where a redirect was not possible, or where hosts have their own client CAs. */
  readonly host?: string
  /** Why a redirect was not possible. */
  readonly reason?: string
  /** Which client CAs the certificate was judged by, where that depends on the host. */
  readonly trust?: string
}

/** Whom which rule has refused. */
export interface RuleHints {
  readonly rule?: Rule
  /** The client, by its name in the clients document; null for an unknown one. */
  readonly client?: string | null
  /** The client that is suspended, where that is why. */
  readonly suspended?: string
}

/** Characters; longer values are cut, because an attacker chooses the names in a certificate, and must not fill the log. */
const LONGEST = 128
/** A hint is a sentence around such a value. */
const LONGEST_HINT = 256
/** The same of what is wrong with a header, which is in our own words. */
const LONGEST_PROBLEM = 512

/** @param hints further facts for an administrator */
export function logRefusal (request: FastifyRequest, { presentedBy, reasonOf }: Verdicts, code: string, { rule, client, suspended, ...hints }: RefusalHints & RuleHints): void {
  const found = presentedBy(request)
  const { isPresent, isForwarded } = found
  const reason = reasonOf(request)
  request.log.info({
    code,
    route: routeOf(request),
    ...printed(hints),
    ...(rule !== undefined && { rule: printable(`${rule.by}: ${formatRule(describeRule(rule))}`, LONGEST) }),
    // A problem of the proxy's header, which the client may not have caused.
    ...(!isPresent && isForwarded && reason !== null && { forwarded: printable(reason, LONGEST_PROBLEM) }),
    ...(isPresent && {
      certificate: {
        ...(client !== undefined && { client }),
        ...(suspended !== undefined && { suspended }),
        ...identityOf(found),
        error: reason === null ? null : printable(reason, LONGEST),
        ...explanationOf(found, reason)
      }
    })
  }, 'http-security: request refused')
}

/** What identifies a certificate. Of one that is only described, whatever is known. */
function identityOf (found: PeerCertificate): Record<string, string> {
  const { formatAlternativeNames, knownOf, namesOf } = certificateReader()
  const known = knownOf(found)
  const { subject, issuer } = namesOf(known)
  const all = {
    subject,
    // Then these identify it (RFC 5280 §4.1.2.6).
    ...(subject === '' && { subjectAltName: formatAlternativeNames(known) }),
    issuer,
    serialNumber: known.serialNumber,
    ...(known.whole !== undefined && { validFrom: known.whole.validFrom, validTo: known.whole.validTo }),
    fingerprint256: known.fingerprint256
  }
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, printable(value, LONGEST)]))
}

/** An explanation of the error, where our own verification has found it, not OpenSSL or a proxy. */
function explanationOf ({ leaf, verdict }: PeerCertificate, reason: string | null): { reason?: string } {
  if (reason === null || verdict?.judgement.error !== reason) return {}
  const explanation = verdict.judgement.store.explain(leaf!, reason)
  return explanation === undefined ? {} : { reason: explanation }
}

/** A redirect is logged only with a hint at a wrong configuration, which may cause an endless series of redirects. */
export function logRedirect (request: FastifyRequest, hints: Hints): void {
  if (Object.values(hints).some((hint) => hint !== undefined)) request.log.info({ route: routeOf(request), ...printed(hints) }, 'http-security: request redirected')
}

/** Keeps Fastify's default error handler from logging the error again: one refusal is one line. */
export function silenceSecondLog ({ log }: FastifyRequest, reply: FastifyReply, error: Error): void {
  reply.log = Object.create(reply.log, {
    info: {
      value (entry: { err?: unknown } | undefined, ...rest: []) {
        if (entry?.err !== error) log.info(entry, ...rest)
      }
    }
  }) as typeof reply.log
}

function routeOf ({ routeOptions }: FastifyRequest): string | null {
  return routeOptions.url ?? null
}

function printed (hints: RefusalHints): Record<string, string> {
  return Object.fromEntries(Object.entries(hints).flatMap(([name, value]) => value === undefined ? [] : [[name, printable(value, LONGEST_HINT)]]))
}
