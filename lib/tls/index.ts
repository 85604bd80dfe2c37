/**
 * The subpath `fastify-http-security/tls`: TLS for an app (`enableTls`), one app on an HTTPS and an HTTP port
 * (`listen`), and certificates for development (`developmentCertificates`).
 */
export { enableTls } from './enable.ts'
export type { EnabledTls, PendingCertificate, ServerCertificate } from './enable.ts'
export type { EnableTlsOptions } from './options.ts'
export type { CertificateOptions } from './credentials.ts'
export type { TrustInForce } from '../trust/client-trust.ts'
export type { ClientCertificatesOptions } from '../trust/options.ts'
export type { FileOrContent } from '../files/pem.ts'
export type { WatchedSource } from '../../types/source.ts'
export { developmentCertificates } from './development/certificates.ts'
export type { DevelopmentCertificates, DevelopmentCertificatesOptions, DevelopmentClient } from './development/certificates.ts'
export type { DevelopmentClientFiles, DevelopmentFiles } from './development/directory.ts'
export { listen } from './listen/listen.ts'
export type { ListenOptions, ListenResult } from './listen/listen.ts'
