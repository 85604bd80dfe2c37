/**
 * The command `check-proxy`: sends forged copies of the headers that an app trusts through the proxy in front of it,
 * and asks the app's probe which of them arrived. Begin with `checkProxy`; each URL is tested in test-target.ts, and
 * answers are compared in leaks.ts.
 */
import type { BelievedHeader } from '../../request/probe.ts'
import { Failure, type Io } from '../io.ts'
import type { Target } from './probe-request.ts'
import { documentOf, Findings, type Report, textOf } from './report.ts'
import { readTargets } from './targets.ts'
import { type Outcome, readsCertificates, test } from './test-target.ts'

/** Milliseconds for one request, and for all requests to one URL. */
const LIMITS = { request: 10_000, all: 300_000 }

/**
 * Runs the command.
 *
 * @returns the exit code: 0, 1 if a forgery got through, or 2 if a part of the result is not known
 * @throws Failure or UsageError if there is no result
 */
export async function checkProxy (args: readonly string[], io: Io, limits: Partial<typeof LIMITS> = {}): Promise<number> {
  const { request, all } = { ...LIMITS, ...limits }
  const { json, targets } = await readTargets(args, request)
  const report = await check(targets, all)
  io.stdout.write(json ? documentOf(report) : textOf(report))
  if (report.findings.some(({ isProblem }) => isProblem)) return 1
  return report.unanswered.length > 0 ? 2 : 0
}

async function check (targets: readonly Target[], most: number): Promise<Report> {
  const findings = new Findings()
  const outcomes: Outcome[] = []
  const failures: Failure[] = []
  for (const target of targets) {
    try {
      outcomes.push(await test(target, { reached: outcomes, findings, most }))
    } catch (error) {
      // The results of the other URLs are kept.
      failures.push(error as Failure)
    }
  }
  if (outcomes.length === 0) throw failures.length === 1 ? failures[0]! : new Failure(messagesOf(failures).join('\n'))
  return {
    urls: outcomes.map(({ url, protocols, forgeries, note }) => ({ url, protocols, forgeries, note })),
    headers: outcomes[0]!.headers.map(({ name }) => name),
    findings: findings.list(),
    unanswered: [...outcomes.flatMap(({ unanswered }) => unanswered), ...messagesOf(failures)],
    untested: [
      ...untested(targets, true, 'plain HTTP was not tested'),
      ...untested(targets, false, 'HTTPS was not tested'),
      ...untestedPaths(targets),
      ...untestedCertificate(targets, outcomes[0]!)
    ]
  }
}

function messagesOf (failures: readonly Failure[]): string[] {
  return failures.map(({ message }) => message)
}

/**
 * Suggests the URL of the other scheme: the same host, without a port, though the other scheme may listen on a port of
 * its own.
 */
function untested (targets: readonly Target[], isPlain: boolean, message: string): string[] {
  if (targets.some((target) => target.isPlain === isPlain)) return []
  const { hostname, pathname } = new URL(targets[0]!.name)
  const url = `${isPlain ? 'http' : 'https'}://${hostname}${pathname.replace(/\/$/, '')}`
  return [`${message}, by which a proxy may let through what it keeps out here: give its URL as well, such as ${url}`]
}

function untestedPaths (targets: readonly Target[]): string[] {
  if (new Set(targets.map(({ url }) => url.pathname)).size > 1) return []
  const { name, url } = targets[0]!
  const example = name === url.origin ? '/partners' : '/'
  return [`other paths were not tested, which a proxy may treat in another way (nginx: each location): give the URL of one of each as well, such as ${new URL(example, url).href}`]
}

function untestedCertificate ([{ client, isPlain }]: readonly Target[], { headers }: Outcome): string[] {
  if (isPlain || !readsCertificates(headers)) return []
  if (client !== undefined) return isKnownByNameAlone(headers) ? ['the certificate of --cert was compared by its subject alone, since the proxy forwards no fingerprint: whether it is this very one was not tested. Where the proxy knows its SHA-256 (HAProxy does, nginx and Apache do not), have it forwarded, too (proxy.certificate: { fingerprint })'] : []
  return ['no client certificate was tested, so that it is not known whether clients can identify themselves: give --cert and --key']
}

function isKnownByNameAlone (headers: readonly BelievedHeader[]): boolean {
  return headers.some(({ encoding }) => encoding === 'dn') && !headers.some(({ role }) => role === 'fingerprint')
}
