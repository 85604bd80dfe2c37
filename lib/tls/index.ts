/** `fastify-http-security/tls`: enabling TLS for an app, and certificates for developing one. */
export { developmentCertificates } from './development.ts'
export type { DevelopmentCertificates, DevelopmentCertificatesOptions } from './development.ts'
export type { DevelopmentFiles } from './directory.ts'
export { listen } from './listen.ts'
export type { ListenOptions, ListenResult } from './listen.ts'
