/** The subpath `fastify-http-security/acme`: certificates from a CA that speaks ACME (RFC 8555), obtained and renewed by the app. */
export { acme } from './source.ts'
export type { AcmeSource } from './source.ts'
export type { AcmeOptions, DnsRecords } from './options.ts'
