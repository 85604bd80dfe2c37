/**
 * Where the server's certificates come from: the options, a source of the application, or the development certificates.
 * Begin with `openCertificateSource`. Files are read in credentials.ts.
 */
import { InvalidCertificatesError } from '../errors.ts'
import { openObject } from '../files/document.ts'
import { locate, type Located } from '../files/pem.ts'
import { acmeInterfaceOf } from '../tls-interface.ts'
import type { CertificateOptions, GivenCertificates } from './credentials.ts'
import type { DevelopmentCertificatesOptions } from './development/certificates.ts'

/** The options `certificates` and `development`, checked. */
export type CertificateSource =
  | {
    /** A value, which is looked at again in each reload, or a source. */
    readonly certificates: object
    /**
     * @param current the value as it is now, or an answer of the source
     * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
     */
    readonly locate: (current: unknown) => ReadonlyArray<CertificateOptions<Located>>
    readonly development?: undefined
  }
  | { readonly development: DevelopmentCertificatesOptions, readonly certificates?: undefined }

/** Where certificates come from, ready to be loaded. */
export interface OpenCertificateSource {
  /** What is going on while it loads, for the log. */
  readonly loading: string
  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES */
  load (): Promise<GivenCertificates>
  /** Returns a function that stops it. Files are not watched here. */
  watch (changed: () => void): () => void
}

/** Milliseconds that a source has for its first answer. */
const LONGEST = 10_000

/** @param warn is told of problems that do not stop it */
export function openCertificateSource (source: CertificateSource, warn: (message: string) => void): OpenCertificateSource {
  const loading = 'reading certificates'
  if (source.development !== undefined) return { loading, load: async () => await developmentOf(source.development), watch: () => () => {} }
  const opened = openObject(source.certificates, {
    name: 'certificates',
    Invalid: InvalidCertificatesError,
    check: (current) => source.locate(current)
  }, warn)
  const isAnswer = opened.name === 'source'
  const isAcme = acmeInterfaceOf(source.certificates) !== undefined
  return {
    loading: isAnswer ? opened.loading : loading,
    async load () {
      const current = await opened.load()
      try {
        return { entries: isAcme && isEmpty(current) ? [] : await opened.check(current), development: undefined, isAnswer }
      } catch (cause) {
        throw new InvalidCertificatesError((cause as Error).message, { cause })
      }
    },
    watch: (changed) => opened.watch(changed)
  }
}

/** The CA has not issued a certificate yet. */
function isEmpty (current: unknown): boolean {
  return Array.isArray(current) && current.length === 0
}

async function developmentOf (options: DevelopmentCertificatesOptions): Promise<GivenCertificates> {
  const { developmentCertificates } = await import('./development/certificates.ts')
  const development = await developmentCertificates(options)
  return { entries: [{ cert: locate(development.files.serverCert), key: locate(development.files.serverKey) }], development, isAnswer: false }
}

/**
 * Loads for the first time.
 *
 * @throws also FST_HTTP_SECURITY_INVALID_CERTIFICATES if it takes too long
 */
export async function firstOf ({ loading, load }: OpenCertificateSource): Promise<GivenCertificates> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new InvalidCertificatesError(`${loading} has not ended after ${LONGEST / 1_000} seconds`)), LONGEST)
  })
  try {
    return await Promise.race([load(), late])
  } finally {
    clearTimeout(timer)
  }
}
