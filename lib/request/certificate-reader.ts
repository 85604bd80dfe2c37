/**
 * What reads client certificates: a tenth of the plugin. An app to which none can come does not load it, and then none
 * counts there.
 */
type CertificateReader = typeof import('../x509/details.ts')

let loaded: CertificateReader | undefined

/** At boot, where a client certificate can come; once a process. */
export async function loadCertificateReader (): Promise<void> {
  loaded ??= await import('../x509/details.ts')
}

/** For whoever has a certificate: there is none before the reader has been loaded. */
export function certificateReader (): CertificateReader {
  return loaded!
}
