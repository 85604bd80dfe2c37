/** `fastify-http-security/tls`: enabling TLS for an app, and certificates for developing one. */
export { developmentCertificates } from './development/certificates.ts'
export type { DevelopmentCertificates, DevelopmentCertificatesOptions } from './development/certificates.ts'
export type { DevelopmentFiles } from './development/directory.ts'
export { listen } from './listen/listen.ts'
export type { ListenOptions, ListenResult } from './listen/listen.ts'
