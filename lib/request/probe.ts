/**
 * The probe: tells the holder of the token which of the headers that this app believes have arrived. `check-proxy` sends
 * such headers through the proxy, and sees here what the proxy lets through or changes. Begin with {@link registerProbe}.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { codeOf } from '../errors.ts'
import type { Proxy } from '../options/proxy.ts'
import type { CertificateHeaders } from '../proxy/forwarded-certificate.ts'
import { certificateHeadersOf, type Encoding } from '../proxy/presets.ts'
import { PROBE_CONSTRAINT, PROBE_HEADER, PROBE_PATH, PROBE_URLS, type ProbeToken, hashProbeToken, isProbeToken } from '../proxy/probe-token.ts'
import { detailsOf } from './decorators.ts'
import { connectionOf } from './connection.ts'
import type { Transport } from './transport.ts'
import type { Verdicts } from './client-certificate.ts'

/** A header that this app believes, as it is configured. */
export interface BelievedHeader {
  /** In lower case. */
  readonly name: string
  readonly role: 'protocol' | 'host' | 'certificate' | 'verdict' | 'chain' | 'fingerprint' | 'early-data'
  /** Only for the certificate: how it is written. */
  readonly encoding?: Encoding
  /** For the verdict, the value that means valid; for the protocol, the one that means HTTPS. */
  readonly expected?: string
  /** Only for the protocol: any value means HTTPS. */
  readonly present?: true
  /** Only for the protocol: the value that counts, from the right, if not all do. */
  readonly hops?: number
}

/** A believed header, with the lines that arrived. */
export interface ProbedHeader extends BelievedHeader {
  readonly values: readonly string[]
  /** The lines of its name with `_` for `-`, which this app ignores and others may not. */
  readonly underscored: readonly string[]
}

/** The body of the answer. */
export interface ProbeAnswer {
  readonly version: 1
  /** Whether the peer is a proxy by `proxy.trust`. */
  readonly isTrusted: boolean
  /** Whether the request counts as having come over HTTPS. */
  readonly secure: boolean
  /**
   * The client's certificate as this app sees it; the fingerprint in lower-case hex digits, or empty, and the subject as in
   * the details. Where it does not count: the code that an `mtls` route would answer with, and the reason as in the log; empty
   * otherwise.
   */
  readonly certificate: { readonly isPresent: boolean, readonly isValid: boolean, readonly fingerprint256: string, readonly subject: string, readonly code: string, readonly reason: string }
  readonly headers: readonly ProbedHeader[]
}

/** Adds the routes of the probe, unless its token has expired. */
export function registerProbe (app: FastifyInstance, proxy: Proxy, token: ProbeToken, transport: Transport, verdicts: Verdicts): void {
  const until = new Date(token.expires).toISOString()
  if (token.expires <= Date.now()) {
    app.log.warn(`http-security: proxy.probe has expired (${until}), so that there is nothing to probe; take it out, or make another one with: npx fastify-http-security probe-token`)
    return
  }
  app.log.info(`http-security: until ${until}, GET ${app.prefix}${PROBE_PATH}, there and below any other path, tells the holder of the token in proxy.probe what the proxy lets through`)
  const headers = believedBy(proxy)
  // Another context of the app may have added it.
  if (!app.hasConstraintStrategy(PROBE_CONSTRAINT)) app.addConstraintStrategy(strategy)
  for (const url of PROBE_URLS) {
    app.route({
      method: 'GET',
      url,
      httpSecurity: 'none',
      exposeHeadRoute: false,
      constraints: { [PROBE_CONSTRAINT]: token },
      // So that an authentication hook can recognise these routes.
      config: { httpSecurityProbe: true } as object,
      // A test sends hundreds of requests, which would fill the log.
      logLevel: 'warn',
      handler (request, reply) {
        reply.header('cache-control', 'no-store').send(answerTo(request, headers, transport, verdicts))
      }
    })
  }
}

/**
 * Only a request with the token, at a path of the probe, matches the routes. For any other, the router goes on as for
 * unknown paths: to a wildcard, or the not-found handler, with their own level and hooks.
 */
const strategy: Parameters<FastifyInstance['addConstraintStrategy']>[0] = {
  // An identifier: the router puts it into the source code of a function.
  name: PROBE_CONSTRAINT,
  mustMatchWhenDerived: false,
  validate () {},
  deriveConstraint ({ url, headers: { [PROBE_HEADER]: given } }) {
    return typeof given === 'string' && isProbePath(url!) ? hashProbeToken(given) : undefined
  },
  storage () {
    const kept = new Map<unknown, Found>()
    return {
      // The router also calls this with a token, before it stores it.
      get (given) {
        const [found] = Buffer.isBuffer(given) ? [...kept].filter(([token]) => isProbeToken(token as ProbeToken, given)) : []
        return found?.[1] as Found
      },
      set: (token, found) => { kept.set(token, found) }
    }
  }
}
type Found = NonNullable<ReturnType<ReturnType<typeof strategy['storage']>['get']>>

function isProbePath (target: string): boolean {
  return target.split('?', 1)[0]!.endsWith(PROBE_PATH)
}

function believedBy ({ protocol, host, certificate }: Proxy): readonly BelievedHeader[] {
  const headers: BelievedHeader[] = [believedProtocol(protocol)]
  if (host === 'x-forwarded-host') headers.push({ name: host, role: 'host' })
  if (certificate !== undefined) headers.push(...believedOf(certificate))
  return [...headers, { name: 'early-data', role: 'early-data' }]
}

function believedProtocol ({ header: name, value, hops }: Proxy['protocol']): BelievedHeader {
  if (value === undefined) return { name, role: 'protocol', present: true }
  return { name, role: 'protocol', expected: value, ...hops !== undefined && { hops } }
}

function believedOf (certificate: CertificateHeaders): readonly BelievedHeader[] {
  const { encoding, verified } = certificate
  const { certificate: name, companion, fingerprint } = certificateHeadersOf(certificate)
  const headers: BelievedHeader[] = [{ name, role: 'certificate', encoding }]
  if (companion !== undefined) headers.push(typeof verified === 'object' ? { name: companion, role: 'verdict', expected: verified.value } : { name: companion, role: 'chain' })
  if (fingerprint !== undefined) headers.push({ name: fingerprint, role: 'fingerprint' })
  return headers
}

function answerTo (request: FastifyRequest, headers: readonly BelievedHeader[], transport: Transport, verdicts: Verdicts): ProbeAnswer {
  const connection = connectionOf(request)
  const { isPresent, isValid, cookie, subject } = detailsOf(request, verdicts)
  const refusal = verdicts.judge(request, connection)
  return {
    version: 1,
    isTrusted: transport.isProxied(request.raw, connection),
    secure: transport.isSecure(request.raw, connection),
    certificate: {
      isPresent,
      isValid,
      fingerprint256: cookie,
      subject,
      code: refusal === undefined ? '' : codeOf[refusal],
      reason: verdicts.reasonOf(request) ?? ''
    },
    headers: headers.map((header) => ({ ...header, ...linesOf(header.name, request.raw.rawHeaders) }))
  }
}

function linesOf (name: string, rawHeaders: readonly string[]): Pick<ProbedHeader, 'values' | 'underscored'> {
  const values: string[] = []
  const underscored: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const spelled = rawHeaders[i]!.toLowerCase()
    if (spelled === name) values.push(rawHeaders[i + 1]!)
    else if (spelled.replaceAll('_', '-') === name) underscored.push(rawHeaders[i + 1]!)
  }
  return { values, underscored }
}
