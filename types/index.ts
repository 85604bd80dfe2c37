/**
 * The public types: begin with {@link HttpSecurityOptions}, the options of the plugin. `policy.ts` has the types of a
 * policy; `fastify.ts` adds the route option and the request decorators to Fastify's own types.
 */
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyRequest } from 'fastify'
import type { HttpSecurityErrorCode } from '../lib/errors.ts'
import type { Kind, Level } from '../lib/levels.ts'
import type { FileOrContent as CertificateSource } from '../lib/files/pem.ts'
import type { Encoding, Preset, ProtocolPreset, Verified } from '../lib/proxy/presets.ts'
import type { EnabledTls } from '../lib/tls/enable.ts'
import type { ClientCertificatesOptions } from '../lib/trust/options.ts'
import type { Allowed, Client, ClientsDocument, NameAttribute, RouteRule, Verify } from './clients.ts'
import type { Policy, PolicySource } from './policy.ts'
import type { DocumentSource } from './source.ts'

export type { HttpSecurityErrorCode } from '../lib/errors.ts'
export type { CertificateDetails } from '../lib/x509/details.ts'
export type { Kind, Level }
export type * from './clients.ts'
export type * from './policy.ts'
export type * from './source.ts'

/**
 * The options of the plugin.
 *
 * A wrong option stops the boot with `FST_HTTP_SECURITY_INVALID_OPTIONS`. The message names the option, the value and
 * what is allowed.
 */
export interface HttpSecurityOptions {
  /**
   * What a route gets that inherits from nowhere else: not from itself, a flow it is registered in, or `flows`.
   *
   * @default 'tls', or 'none' with `profile: 'outsystems'`
   */
  default?: HttpSecurityOption | undefined
  /**
   * Flows by URL prefix. A key is an absolute, static path, without parameter, wildcard, `//` or `%`. It covers whole
   * path segments: `/shop` covers `/shop` and `/shop/x`, not `/shopping`. Case is ignored, and the longest key counts.
   *
   * @default {}
   * @example
   * await app.register(httpSecurity, {
   *   flows: { '/shop': 'tls', '/partners': { level: 'mtls', kind: 'rest' } }
   * })
   */
  flows?: Record<string, HttpSecurityOption> | undefined
  /**
   * The lowest level of every route, whatever it declares.
   *
   * @default 'none'
   */
  minimum?: Level | undefined
  /**
   * `'outsystems'`: the rules of OutSystems. The default level is `'none'`, and `'mtls'` on a `'rest'` element is an error.
   *
   * @default undefined
   */
  profile?: 'outsystems' | undefined
  /**
   * How insecure requests for pages are redirected to HTTPS (RFC 9110 §15.4).
   *
   * @default { statusCode: 308 }
   * @example
   * await app.register(httpSecurity, {
   *   redirect: { hosts: ['shop.example'], httpsPort: 8443 }
   * })
   */
  redirect?: RedirectOptions | undefined
  /**
   * The proxy that terminates TLS in front of this application, and what of its headers is believed.
   *
   * @default undefined: no forwarded header is believed
   * @example
   * // The proxy has to overwrite or remove these headers in what clients send.
   * await app.register(httpSecurity, {
   *   proxy: { trust: '10.1.2.3', certificate: 'nginx' },
   *   redirect: { hosts: ['shop.example'] }
   * })
   */
  proxy?: ProxyOptions | undefined
  /**
   * What `enableTls` of `fastify-http-security/tls` resolved to. The app has to be created with its `https`. Redirects then
   * go only to host names that its certificates cover, and a change of client CAs or CRLs also ends verdicts on open
   * connections.
   *
   * @default undefined: Node's own TLS options decide
   * @example
   * const tls = await enableTls({
   *   certificates: { cert: 'server.pem', key: 'server.key' },
   *   clientCertificates: { ca: 'partners-ca.pem' }
   * })
   * const app = Fastify({ https: tls.https })
   * await app.register(httpSecurity, { tls })
   * await tls.listen(app, { http: 8080, https: 8443 })
   */
  tls?: EnabledTls | undefined
  /**
   * Options for `@fastify/helmet`, which is registered only when they are given. Its HSTS is off.
   *
   * @default undefined: not registered
   */
  helmet?: FastifyHelmetOptions | undefined
  /**
   * A level that this server can never deliver: `'error'` stops the boot with `FST_HTTP_SECURITY_UNSATISFIABLE`, `'warn'`
   * logs a warning.
   *
   * @default 'error', or 'warn' with `mode: 'report'`
   */
  unsatisfiable?: 'error' | 'warn' | undefined
  /**
   * The name of this application in policies. It is compared exactly, case included.
   *
   * @default undefined: only a policy's `environment` counts
   */
  application?: string | undefined
  /**
   * What administrators enforce: a policy, the path of a JSON file, which is watched, or another source. A bad policy stops
   * the boot with `FST_HTTP_SECURITY_INVALID_POLICY`; later it is logged, and the last good one stays in force.
   *
   * @default undefined: no policy
   * @example
   * await app.register(httpSecurity, { application: 'shop', policy: 'policy.json' })
   */
  policy?: Policy | PolicySource | string | undefined
  /**
   * Who holds certificates, by the names that administrators give: a document, the path of a JSON file, which is watched, or
   * another source. A bad document stops the boot with `FST_HTTP_SECURITY_INVALID_CLIENTS`; later it is logged, and the last
   * good one stays in force.
   *
   * @default undefined: no client has a name
   * @example
   * await app.register(httpSecurity, { tls, clients: 'clients.json' })
   * app.post('/orders', { httpSecurity: { level: 'mtls', allow: ['acme', { group: 'writers' }] } }, orders)
   */
  clients?: ClientsDocument | DocumentSource<ClientsDocument> | string | undefined
  /**
   * `'report'`: requests are not refused, redirected or rewritten; what would have happened is counted and logged.
   *
   * @default 'enforce'
   */
  mode?: 'enforce' | 'report' | undefined
  /**
   * `true`: marks every cookie that is set over HTTPS `Secure` (RFC 6265 §4.1.2.5), also those of other plugins.
   *
   * @default false
   */
  secureCookies?: boolean | undefined
  /**
   * Called for each {@link Violation}. The answer does not wait for it; what it throws is logged.
   *
   * @default undefined
   */
  onViolation?: ((violation: Violation, request: FastifyRequest) => unknown) | undefined
}

/**
 * The `httpSecurity` option of a route, of a route's `config` and of `register`: a level, or level, kind
 * and rules. Level and kind are inherited where they are missing; rules add up.
 *
 * The `object &` keeps a wrong string or number from compiling as an object without properties.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an unknown level, kind or key; FST_HTTP_SECURITY_NO_EFFECT where Fastify
 * would ignore it
 * @example
 * app.get('/health', { httpSecurity: { level: 'none', kind: 'rest' } }, async () => 'ok')
 * app.get('/account', { httpSecurity: 'tls' }, async () => 'account')
 * app.register(payments, { prefix: '/payments', httpSecurity: 'mtls' })
 */
export type HttpSecurityOption = Level | (object & Declaration)

/** What a route or a flow declares. Each part that is missing is inherited. */
export interface Declaration {
  /**
   * How it may be reached.
   *
   * @default inherited: from the flows it is registered in, the longest key of `flows`, then the option `default`
   */
  level?: Level | undefined
  /**
   * What it is, which decides how a refusal looks.
   *
   * An element without a kind is undeclared: policies that force HTTPS for screens or for integrations both apply to it.
   * So a health check over plain HTTP is `{ level: 'none', kind: 'rest' }`.
   *
   * @default inherited, else undeclared
   */
  kind?: Kind | undefined
  /**
   * Whose certificates are admitted: names of clients, `{ group }`, and certificates. Rules add up: all that a route has and
   * inherits have to admit a client. They apply where the effective level is `'mtls'`.
   *
   * @default no rule but those inherited: every valid certificate is admitted
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an empty list, and on a route whose own level is below `'mtls'`
   * @example
   * app.get('/orders', { httpSecurity: { level: 'mtls', allow: ['acme', { group: 'writers' }] } }, orders)
   */
  allow?: readonly Allowed[] | undefined
  /**
   * A function that decides about each request whose certificate is valid and which `allow` admits. Only `true` admits.
   *
   * @default no rule but those inherited
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS on a route whose own level is below `'mtls'`
   * @example
   * app.get('/:tenant/orders', {
   *   httpSecurity: { level: 'mtls', verify: (_certificate, request) => request.httpSecurity.client?.name === (request.params as { tenant: string }).tenant }
   * }, orders)
   */
  verify?: Verify | undefined
}

/** How insecure requests are redirected to HTTPS. */
export interface RedirectOptions {
  /**
   * The status code (RFC 9110 §15.4). 307 and 308 keep the method.
   *
   * @default 308
   */
  statusCode?: 301 | 302 | 307 | 308 | undefined
  /**
   * The port at which clients reach HTTPS, 1 to 65535.
   *
   * @default the port on which HTTPS listens if the request named the port of this app's own HTTP listener; else 443
   */
  httpsPort?: number | undefined
  /**
   * The host names of this application, without port. A request for another host is answered with 400
   * (`FST_HTTP_SECURITY_BAD_REQUEST`) in place of a redirect.
   *
   * @default undefined: any host; of clients that come directly, those that the certificates of `tls` cover
   */
  hosts?: string[] | undefined
}

/** A proxy that terminates TLS in front of this application. */
export interface ProxyOptions {
  /**
   * The proxy's address: IP addresses, CIDR ranges, `'loopback'`, `'linklocal'`, `'uniquelocal'`, or `'unix'` for every
   * process that connects to a Unix socket of this app; or a proxy that proves itself by its own client certificate:
   * {@link ProxyClientOptions}. One item that holds is enough. The forwarded headers of any other peer are ignored.
   */
  trust: string | ProxyClientOptions | Array<string | ProxyClientOptions>
  /**
   * The header that says whether the client used HTTPS; where it is missing, the request is insecure. `'forwarded'` is
   * RFC 7239, `'cloudfront'` is `{ header: 'cloudfront-forwarded-proto', value: 'https' }`, `'azure'` (App Service) is
   * `{ header: 'x-arr-ssl', present: true }`. The proxy has to overwrite or remove it, whatever clients send.
   *
   * @default 'x-forwarded-proto'
   * @example
   * proxy: { trust: '10.1.2.3', protocol: { header: 'x-forwarded-ssl', value: 'on' } }
   */
  protocol?: ProtocolPreset | ForwardedProtocolOptions | undefined
  /**
   * Which value of the `protocol` header counts, from the right, 1 to 10: as many as there are proxies of yours that append
   * one. Nothing left of it is looked at, which a client may have written. Fewer values, or an empty one among them, are
   * insecure. Above 1, it holds only if each proxy takes requests from the one before alone.
   *
   * @default undefined: every value has to say HTTPS
   */
  hops?: number | undefined
  /**
   * The header with the host that the client asked for. It is used for redirects.
   *
   * @default 'host'
   */
  host?: 'host' | 'x-forwarded-host' | undefined
  /**
   * How the proxy forwards client certificates: the name of a preset, or header, encoding and verdict spelled out. The proxy
   * has to remove these headers from what clients send.
   *
   * @default undefined: a client behind the proxy has no certificate
   */
  certificate?: Preset | ForwardedCertificateOptions | undefined
  /**
   * With `verified: 'here'`: the client CAs as PEM, roots included. Files are watched. An object gives them labels, as in
   * {@link ClientCertificatesOptions}.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES where a file cannot be used
   */
  ca?: CertificateSource | CertificateSource[] | Record<string, CertificateSource | CertificateSource[]> | undefined
  /**
   * With `verified: 'here'`: CRLs (RFC 5280 §5) in PEM or DER, one of every CA. Files are watched.
   *
   * @default undefined: revocation is not checked by CRLs
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES where a file cannot be used
   */
  crl?: CertificateSource | CertificateSource[] | undefined
  /**
   * With `verified: 'here'`: whether OCSP responders are asked (RFC 6960), as in {@link ClientCertificatesOptions}.
   *
   * @default false
   */
  ocsp?: ClientCertificatesOptions['ocsp'] | undefined
  /**
   * With `verified: 'here'`, where revocation is checked: what happens to a certificate that no CRL and no OCSP answer in
   * force covers.
   *
   * @default 'refuse'
   */
  unknown?: ClientCertificatesOptions['unknown'] | undefined
  /**
   * With `verified: 'here'`: a directory of this app alone, for what is kept across restarts.
   *
   * @default undefined: nothing is kept
   */
  dir?: string | undefined
  /**
   * With `verified: 'here'`: destinations, besides public addresses, that URLs in certificates may lead to.
   *
   * @default []
   */
  allow?: string[] | undefined
  /**
   * A token from `npx fastify-http-security probe-token`. Until it expires, `check-proxy` can look at what the proxy lets
   * through.
   *
   * @default undefined: there is no probe
   */
  probe?: string | undefined
}

/**
 * A header in which a proxy says whether the client used HTTPS, spelled out: `value` is what it says then (case is ignored),
 * a word without comma or space; `present: true` is for a header that is there for HTTPS alone, whatever it says. Two lines
 * of it never count. The proxy has to overwrite or remove it, whatever clients send.
 */
export type ForwardedProtocolOptions =
  | { header: string, value: string, present?: undefined }
  | { header: string, present: true, value?: undefined }

/**
 * A proxy that proves itself by the client certificate of its own TLS connection to this app, judged on every request. Needs
 * {@link HttpSecurityOptions.clients}, and a server that asks for client certificates. Such a certificate is never a visitor's:
 * where it is not believed, the request counts as insecure and without certificate.
 */
export interface ProxyClientOptions {
  /** The proxy's name in the clients document. Each of its entries there needs `fingerprint256`, or `san` with `issuedBy`. */
  client: string
  /** Where it connects from: addresses, as in {@link ProxyOptions.trust}. Both have to hold. */
  from: string | string[]
}

/** How a proxy forwards a client certificate, spelled out. */
export interface ForwardedCertificateOptions {
  /** The header that has the certificate. Case is ignored. */
  header: string
  /**
   * How it is written: `'rfc9440'`: `:base64 of the DER:` (RFC 9440 §2.2); `'url-pem'`: percent-encoded PEM;
   * `'url-pem-aws'`: the same with `+`, `/` and `=` as they are; `'pem-spaces'`: PEM with spaces for newlines;
   * `'base64-der'`; `'xfcc'`: Envoy's X-Forwarded-Client-Cert.
   *
   * Two describe the certificate, and dates and revocation are the proxy's word then: `'dn'`: the subject as in RFC 2253 or
   * RFC 4514, as nginx, Apache and HAProxy can write it; `'xfcc-described'`: Envoy's header with By, Hash, Subject and URI.
   */
  encoding: Encoding
  /**
   * What says that it is valid: another header of the proxy, which then has exactly this value; `'presence'`: your word that
   * the proxy forwards verified certificates only; `'here'`: this application verifies the chain by {@link ProxyOptions.ca}.
   */
  verified: Verified
  /**
   * With `'xfcc'`: how many of your proxies add an element, the nearest one included; 1 to 10.
   *
   * @default 1: the last element counts
   */
  hops?: number | undefined
  /**
   * With `'dn'`: the header that has the SHA-256 of the certificate, in 64 hex digits. Without it, a client is known by its
   * name alone.
   *
   * @default undefined: the certificate has no fingerprint, and `cookie` is empty
   */
  fingerprint?: string | undefined
}

/** `app.httpSecurity`. */
export interface HttpSecurity {
  /**
   * The route table: every route known so far, in the order of registration, with the level that is in force.
   *
   * @example
   * const open = app.httpSecurity.routes().filter(({ level }) => level === 'none')
   */
  routes (): readonly RouteSecurity[]
  /**
   * The route table as aligned text, for people.
   *
   * @example
   * console.log(app.httpSecurity.print())
   * // METHODS    URL           KIND  DECLARED  LEVEL  SOURCE
   * // GET, HEAD  /partners/me  rest  mtls      mtls   prefix
   */
  print (): string
  /**
   * Puts another policy in force, from the next request on.
   *
   * @throws FST_HTTP_SECURITY_INVALID_POLICY for a wrong policy, or one that this server cannot meet; the policy before
   * then stays in force
   * @example
   * app.httpSecurity.enforce({ environment: { forceHttpsForScreens: true, hsts: { maxAge: 300 } } })
   */
  enforce (policy: Policy): void
  /** The policy in force. Frozen; `{}` where there is none. */
  readonly policy: Policy
  /** How often each kind of {@link Violation} happened since the start. */
  violations (): readonly ViolationCount[]
}

/** A row of the route table: one registration. Frozen. */
export interface RouteSecurity {
  /** Upper-case HTTP methods; an automatic HEAD route is in the row of its GET. */
  readonly methods: readonly string[]
  /** The URL pattern, with its prefix. */
  readonly url: string
  /** Fastify's route constraints, where the route has any. */
  readonly constraints?: Readonly<Record<string, unknown>>
  /** What the element is; `undefined` where it is undeclared. */
  readonly kind: Kind | undefined
  /** What developers declared: on the route, its flows, its prefix, or as the default. */
  readonly declared: Level
  /** The effective level: what a request must meet. */
  readonly level: Level
  /** Where the effective level comes from. */
  readonly source: LevelSource
  /** Whom the nearest rule admits, where rules apply. All of `rules` have to admit a client. */
  readonly allow?: readonly Allowed[]
  /** All rules, the farthest first; `'not applied'` where the effective level is below `'mtls'`. Absent where there are none. */
  readonly rules?: readonly RouteRule[] | 'not applied'
}

/**
 * Where the effective level of a route comes from: its own option, a flow it is registered in, a key of `flows`, the option
 * `default`; or, where one of these raises that level, the option `minimum` or the policy.
 */
export type LevelSource = 'route' | 'flow' | 'prefix' | 'default' | 'minimum' | 'policy'

/**
 * What happened, or in report mode would have happened, to a request: it was refused or redirected, or its certificate
 * header was ignored. Frozen. Also published on the diagnostics channel `fastify-http-security:violation`.
 */
export interface Violation {
  /**
   * An {@link HttpSecurityErrorCode}: that of the refusal; for a redirect, that of the refusal that a client other than a
   * browser gets; for an ignored header `FST_HTTP_SECURITY_HEADER_IGNORED`, which is no error.
   */
  readonly code: HttpSecurityErrorCode | 'FST_HTTP_SECURITY_HEADER_IGNORED'
  /**
   * What the answer was, or would have been. `'ignored'`: a peer that is not in `proxy.trust` sent a certificate header;
   * the header was not believed, and the request went on.
   */
  readonly answer: 'refusal' | 'redirect' | 'ignored'
  /** `'report'`: the request was let through. */
  readonly mode: 'enforce' | 'report'
  /** The route's upper-case methods, joined by a comma; empty for unknown paths, which share one row. */
  readonly method: string
  /** The route's URL pattern; `null` for unknown paths. */
  readonly url: string | null
  /** The client that rules did not admit, by its name in the clients document. Absent where it is unknown, and for all other codes. */
  readonly client?: string
}

/** How often one kind of violation happened since the start. */
export interface ViolationCount extends Violation {
  /** The number of requests. */
  readonly count: number
}

/** `request.httpSecurity`. Frozen. */
export interface RequestSecurity {
  /** Whether this request came over HTTPS: by its own connection, or by what a trusted proxy says. */
  readonly secure: boolean
  /** The level that this request has to meet. */
  readonly level: Level
  /** What the element is; `undefined` where it is undeclared. */
  readonly kind: Kind | undefined
  /** The client whose certificate this is, by the clients document; null without a valid certificate, and for unknown ones. */
  readonly client: Client | null
}

/**
 * The keys of `request.clientCertificateValue`, for completion in an editor. Keys ignore case, and any other string is
 * allowed: its value is the empty string.
 */
export type CertificateValueKey =
  | 'isPresent' | 'isValid' | 'flags' | 'cookie' | 'subject' | 'issuer' | 'serialNumber' | 'validFrom' | 'validUntil' | 'serverSubject' | 'serverIssuer'
  | `${'Subject' | 'Issuer' | 'ServerSubject' | 'ServerIssuer'}${NameAttribute}`
  | 'KeySize' | 'SecretKeySize' | 'Certificate' | 'PublicKey' | 'Encoding' | 'Fingerprint256' | 'x5t#S256' | 'Client' | 'SubjectAltName'
  | `SAN:${'DNS' | 'URI' | 'email' | 'IP' | 'UPN'}`
  | (string & {})
