/**
 * What this plugin adds to Fastify's own types: the option `httpSecurity` and the decorators of apps and requests.
 */
import type { X509Certificate } from 'node:crypto'
import type { CertificateDetails, CertificateValueKey, HttpSecurity, HttpSecurityOption, RequestSecurity } from './index.ts'

declare module 'fastify' {
  interface RouteShorthandOptions {
    /**
     * How this route may be reached. What is missing is inherited from its flows, its prefix, and the default.
     *
     * @throws FST_HTTP_SECURITY_INVALID_OPTIONS at registration, for an unknown level, kind or key
     * @example
     * app.get('/account', { httpSecurity: { level: 'tls', kind: 'screen' } }, async () => 'account')
     * app.get('/partners/me', { httpSecurity: 'mtls' }, async (request) => request.clientCertificateValue('SubjectCN'))
     */
    httpSecurity?: HttpSecurityOption | undefined
  }
  interface FastifyContextConfig {
    /**
     * The same as a route's option `httpSecurity`, for frameworks that let only a route's `config` through. Where a route
     * has both, they must not differ.
     */
    httpSecurity?: HttpSecurityOption | undefined
  }
  interface RegisterOptions {
    /**
     * What the routes of this flow inherit.
     *
     * @throws FST_HTTP_SECURITY_NO_EFFECT for a plugin without encapsulation, made with fastify-plugin
     * @example
     * app.register(payments, { prefix: '/payments', httpSecurity: 'mtls' })
     */
    httpSecurity?: HttpSecurityOption | undefined
  }
  interface FastifyInstance {
    /** The route table, the policy in force, and what was refused. */
    httpSecurity: HttpSecurity
  }
  interface FastifyRequest {
    /** What this request has to meet, and whether it came over HTTPS. */
    readonly httpSecurity: RequestSecurity
    /** The client certificate where it is valid, else `null`, also where a proxy has only described it. Reading it never throws. */
    readonly clientCertificate: X509Certificate | null
    /**
     * Describes the client certificate, valid or not: look at `isValid` first. Frozen. Never throws.
     *
     * @example
     * const { isValid, subject, validUntil } = request.clientCertificateGetDetails()
     * request.log.info({ isValid, subject, validUntil }, 'client certificate')
     */
    clientCertificateGetDetails (): CertificateDetails
    /**
     * One value of a valid client certificate. The empty string without a valid certificate, for a value that it does not
     * have, and for an unknown key. Never throws.
     *
     * @param key in any case, such as `SubjectCN`, `IssuerO`, `SAN:DNS`, `Fingerprint256`
     * @example
     * const name = request.clientCertificateValue('SubjectCN')
     * const hosts = request.clientCertificateValue('SAN:DNS').split(';')
     */
    clientCertificateValue (key: CertificateValueKey): string
  }
}
