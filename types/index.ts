/**
 * The public types. `types/fastify.ts` adds them to Fastify's own.
 */
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyRequest } from 'fastify'
import type { Kind, Level } from '../lib/levels.ts'
import type { FileOrContent as CertificateSource } from '../lib/files/pem.ts'
import type { Encoding, Preset, Verified } from '../lib/proxy/presets.ts'
import type { EnabledTls } from '../lib/tls/enable.ts'
import type { ClientCertificatesOptions } from '../lib/trust/options.ts'
import type { Policy, PolicySource } from './policy.ts'

export type { CertificateDetails } from '../lib/x509/details.ts'
export type { Kind, Level }
export type * from './policy.ts'

/** What a route or a flow says of itself. Each part that is missing is inherited. */
export interface Declaration {
  /** How it may be reached. */
  level?: Level
  /**
   * What it is; it decides how a refusal looks. An element without a kind is undeclared: policies that force HTTPS for pages
   * or for services mean it, too. So a health check over plain HTTP is `{ level: 'none', kind: 'rest' }`.
   */
  kind?: Kind
}

/**
 * The `httpSecurity` option of routes and of `register`: a level, or its parts.
 *
 * The `object &` keeps a wrong string or number from compiling as an object without properties.
 */
export type HttpSecurityOption = Level | (object & Declaration)

/** How insecure requests are sent to HTTPS. */
export interface RedirectOptions {
  /** The status of a redirect (RFC 9110 §15.4). Default 308, which keeps the method. */
  statusCode?: 301 | 302 | 307 | 308
  /** The port that clients reach HTTPS on, 1 to 65535. Default: where HTTPS listens, if the client named the port of our HTTP listener; else 443. */
  httpsPort?: number
  /** The host names this application answers to, without ports. A Host that is not among them is answered with 400. */
  hosts?: string[]
}

/** A proxy that ends TLS in front of this application. */
export interface ProxyOptions {
  /**
   * Who is believed: IP addresses, CIDR ranges, `'loopback'`, `'linklocal'`, `'uniquelocal'`, or `'unix'` for whoever
   * reaches a unix socket listener. Headers of any other peer are ignored.
   */
  trust: string | string[]
  /** The header that says how the client came. Default `'x-forwarded-proto'`; `'forwarded'` is RFC 7239. */
  protocol?: 'x-forwarded-proto' | 'forwarded'
  /** The header with the host the client asked for, used for redirects. Default `'host'`. */
  host?: 'host' | 'x-forwarded-host'
  /**
   * How the proxy forwards client certificates: the name of one, or the same spelled out. Without it, whoever comes by
   * the proxy has none. The proxy has to remove these headers from what clients send.
   */
  certificate?: Preset | ForwardedCertificateOptions
  /**
   * Where this application verifies (`verified: 'here'`): PEM of the authorities that issue client certificates, roots
   * included. Files are watched.
   */
  ca?: CertificateSource | CertificateSource[]
  /** Where this application verifies: revocation lists (RFC 5280 §5) in PEM or DER, one of every authority. Files are watched. */
  crl?: CertificateSource | CertificateSource[]
  /** Where this application verifies: whether OCSP responders are asked, as in {@link ClientCertificatesOptions}. Default `false`. */
  ocsp?: ClientCertificatesOptions['ocsp']
  /** Where this application verifies: what a certificate is of which no CRL and no answer in force says anything. Default `'refuse'`. */
  unknown?: ClientCertificatesOptions['unknown']
  /** Where this application verifies: a directory of our own, for what is kept across restarts. */
  dir?: string
  /** Where this application verifies: what URLs that certificates name may lead to besides public addresses. */
  allow?: string[]
  /** A token that `fastify-http-security probe-token` made: until it expires, `check-proxy` can look at what the proxy lets through. */
  probe?: string | undefined
}

/** How a proxy forwards a client certificate, spelled out. */
export interface ForwardedCertificateOptions {
  /** The header that it comes in. */
  header: string
  /**
   * `'rfc9440'`: `:base64 of the DER:`; `'url-pem'`: percent-encoded PEM; `'url-pem-aws'`: the same with `+`, `/` and `=`
   * as they are; `'pem-spaces'`: PEM with spaces for newlines; `'base64-der'`; `'xfcc'`: Envoy's X-Forwarded-Client-Cert.
   */
  encoding: Encoding
  /**
   * Who says that it is valid: another header of the proxy, which then has exactly this value; `'presence'`: only
   * verified certificates are ever forwarded, which is your word; `'here'`: this application verifies the chain by
   * {@link ProxyOptions.ca}.
   */
  verified: Verified
  /** For `'xfcc'`: how many proxies of yours add an element, the nearest one included; 1 to 10. Default 1: the last element counts. */
  hops?: number
}

/** The options of the plugin. */
export interface HttpSecurityOptions {
  /** For routes that inherit from nowhere else. Default `'tls'`, or `'none'` with `profile: 'outsystems'`. */
  default?: HttpSecurityOption
  /** Flows by URL prefix: absolute, static paths, each with what its routes inherit. */
  flows?: Record<string, HttpSecurityOption>
  /** No route is laxer than this, whatever it declares. Default `'none'`. */
  minimum?: Level
  /** `'outsystems'`: the default is `none`, and `mtls` on a `rest` element is an error. */
  profile?: 'outsystems'
  redirect?: RedirectOptions
  proxy?: ProxyOptions
  /**
   * What `enableTls` of `fastify-http-security/tls` made, whose `https` the app was created with: redirects go only to
   * names that its certificates cover, and verdicts end when client authorities or revocation lists change.
   */
  tls?: EnabledTls
  /** Options for `@fastify/helmet`, which is registered only when this is given, with its HSTS off. */
  helmet?: FastifyHelmetOptions
  /** What a level is that this server can never deliver: a boot error (the default) or a warning. */
  unsatisfiable?: 'error' | 'warn'
  /** The name that this application goes by in policies. */
  application?: string
  /** What administrators enforce: a policy, the path of a JSON file, which is watched, or another source. */
  policy?: Policy | PolicySource | string
  /** `'report'`: nothing is refused, redirected or rewritten, but counted and logged; implies `unsatisfiable: 'warn'`. Default `'enforce'`. */
  mode?: 'enforce' | 'report'
  /** Marks cookies that are set over HTTPS `Secure` (RFC 6265 §4.1.2.5), whoever set them. Default `false`. */
  secureCookies?: boolean
  /** Called for each request that was refused or redirected, or would have been. What it throws is logged. */
  onViolation?: (violation: Violation, request: FastifyRequest) => unknown
}

/** Where the effective level of a route comes from. */
export type LevelSource = 'route' | 'flow' | 'prefix' | 'default' | 'minimum' | 'policy'

/** A row of the route table: one registration. */
export interface RouteSecurity {
  /** Upper-case HTTP methods; an automatic HEAD route is in the row of its GET. */
  readonly methods: readonly string[]
  /** The URL pattern, with its prefix. */
  readonly url: string
  /** Fastify's route constraints, where the route has any. */
  readonly constraints?: Readonly<Record<string, unknown>>
  readonly kind: Kind | undefined
  /** What developers declared: the route, its flows, its prefix, or the default. */
  readonly declared: Level
  /** The effective level: what a request must meet. */
  readonly level: Level
  readonly source: LevelSource
}

/** A request that was refused or redirected, or would have been. Frozen. */
export interface Violation {
  /** The code of the refusal; of a redirect, that of the refusal which it spares a browser; of what was ignored, `FST_HTTP_SECURITY_HEADER_IGNORED`. */
  readonly code: `FST_HTTP_SECURITY_${string}`
  /** What the answer was, or would have been; `'ignored'`: a certificate header of a peer that is not in `proxy.trust` was not believed, and the request went on. */
  readonly answer: 'refusal' | 'redirect' | 'ignored'
  /** `'report'`: the request was let pass. */
  readonly mode: 'enforce' | 'report'
  /** Of the route: upper-case methods, joined by a comma; empty for unknown paths, which are one row together. */
  readonly method: string
  /** The route's pattern; `null` for unknown paths. */
  readonly url: string | null
}

/** How often there was a violation of a kind since the start. */
export interface ViolationCount extends Violation {
  readonly count: number
}

/** `app.httpSecurity`. */
export interface HttpSecurity {
  /** Every route known so far, in the order of registration. */
  routes (): readonly RouteSecurity[]
  /** The same as an aligned table, for people. */
  print (): string
  /**
   * Puts another policy in force, from the next request on.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY for one that cannot be, or that the server cannot do; nothing has changed then
   */
  enforce (policy: Policy): void
  /** The policy in force. */
  readonly policy: Policy
  /** What was refused, or would have been in report mode: a row for each route and reason. */
  violations (): readonly ViolationCount[]
}

/** `request.httpSecurity`. */
export interface RequestSecurity {
  /** Whether this request came over HTTPS, as far as we can know it. */
  readonly secure: boolean
  /** The level this request has to meet. */
  readonly level: Level
  readonly kind: Kind | undefined
}
