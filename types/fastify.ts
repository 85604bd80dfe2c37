/**
 * What this plugin adds to Fastify's types.
 */
import type { X509Certificate } from 'node:crypto'
import type { CertificateDetails, HttpSecurity, HttpSecurityOption, RequestSecurity } from './index.ts'

declare module 'fastify' {
  interface RouteShorthandOptions {
    /** How this route may be reached. What is missing is inherited from its flows, its prefix, and the default. */
    httpSecurity?: HttpSecurityOption
  }
  interface FastifyContextConfig {
    /** The same as a route's option `httpSecurity`, for frameworks that let only a route's `config` through. */
    httpSecurity?: HttpSecurityOption
  }
  interface RegisterOptions {
    /** What the routes of this flow inherit. The plugin has to be encapsulated: not made with fastify-plugin. */
    httpSecurity?: HttpSecurityOption
  }
  interface FastifyInstance {
    httpSecurity: HttpSecurity
  }
  interface FastifyRequest {
    /** What this request has to meet, and whether it came over HTTPS. */
    readonly httpSecurity: RequestSecurity
    /** The client's certificate where it is valid, else `null`. */
    readonly clientCertificate: X509Certificate | null
    /** What the client presented, valid or not. Never throws. */
    clientCertificateGetDetails (): CertificateDetails
    /** A value of a valid client certificate, such as `SubjectCN`; the empty string for anything else. Never throws. */
    clientCertificateValue (key: string): string
  }
}
