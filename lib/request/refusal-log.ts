/**
 * What the log says of a refusal: one line, at info, with code and route.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { printable } from '../text.ts'
import type { Verdict } from '../trust/peer-certificate.ts'
import { formatName, issuerOf, subjectOf } from '../x509/distinguished-names.ts'
import type { Hints } from './transport.ts'
import type { Verdicts } from './verdict.ts'

export interface RefusalHints extends Hints {
  /** What the client says of the host: of a redirect that was none, or where hosts have client CAs of their own. */
  readonly host?: string
  /** Why there was no redirect. */
  readonly reason?: string
  /** By whom the certificate was judged, where that depends on the host. */
  readonly trust?: string
}

/** Longer values are cut: who presents a certificate chooses its names, and the log is not theirs to fill. */
const LONGEST = 128

/** @param hints what else an administrator should know */
export function logRefusal (request: FastifyRequest, { presentedBy, reasonOf }: Verdicts, code: string, hints: RefusalHints): void {
  const found = presentedBy(request)
  const { leaf, isForwarded } = found
  const reason = reasonOf(request)
  request.log.info({
    code,
    route: routeOf(request),
    ...printed(hints),
    // What is wrong with a header, which the client may have nothing to do with.
    ...(leaf === undefined && isForwarded && reason !== null && { forwarded: printable(reason, LONGEST) }),
    ...(leaf !== undefined && {
      certificate: {
        subject: printable(formatName(subjectOf(leaf)), LONGEST),
        issuer: printable(formatName(issuerOf(leaf)), LONGEST),
        serialNumber: printable(leaf.serialNumber, LONGEST),
        validFrom: leaf.validFrom,
        validTo: leaf.validTo,
        fingerprint256: leaf.fingerprint256,
        error: reason === null ? null : printable(reason, LONGEST),
        ...wordsOf(leaf, found.verdict, reason)
      }
    })
  }, 'http-security: request refused')
}

/** Where it was not OpenSSL or a proxy that refused it. */
function wordsOf (leaf: X509Certificate, verdict: Verdict | undefined, reason: string | null): { reason?: string } {
  if (reason === null || verdict?.judgement.error !== reason) return {}
  const words = verdict.judgement.store.explain(leaf, reason)
  return words === undefined ? {} : { reason: words }
}

/** A redirect is no refusal, and not worth a line, unless it may be one of very many. */
export function logRedirect (request: FastifyRequest, hints: Hints): void {
  if (Object.values(hints).some((hint) => hint !== undefined)) request.log.info({ route: routeOf(request), ...printed(hints) }, 'http-security: request redirected')
}

/** Fastify's own error handler would log the error a second time. One refusal is one line. */
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
  return Object.fromEntries(Object.entries(hints).flatMap(([name, value]) => value === undefined ? [] : [[name, printable(value, LONGEST)]]))
}
