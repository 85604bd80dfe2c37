/**
 * Whom this application trusts to have issued the certificates that a proxy forwards without a verdict: kept up to date
 * with its files, like those of a TLS server.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { type Verification, type VerifyPath, createVerifyPath } from '../certificate/path/path.ts'
import { watchFiles } from '../files/watch.ts'
import { type Term, beginTerm, endTerm } from '../link.ts'
import { type ClientCertificatesOptions, type ClientTrust, readClientTrust } from '../material/authorities.ts'
import { blocksIn } from '../material/pem.ts'
import { type Located, pathOf } from '../material/source.ts'

type Sources = ClientCertificatesOptions<Located>
type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>

/** What content that is no file is called. */
const ROLE = 'proxy'

export class Authorities {
  readonly #sources: Sources
  readonly #log: Log
  readonly #stopWatching: () => void
  #trust: ClientTrust
  #verifyPath: VerifyPath
  #term = beginTerm()
  #reloading: Promise<void> = Promise.resolve()

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES */
  static async read (sources: Sources, log: Log): Promise<Authorities> {
    return new Authorities(sources, await readClientTrust(sources, ROLE), log)
  }

  private constructor (sources: Sources, trust: ClientTrust, log: Log) {
    this.#sources = sources
    this.#log = log
    this.#trust = trust
    this.#verifyPath = verifierOf(trust)
    this.#warn()
    const paths = [sources.ca, sources.crl ?? []].flat().flatMap((source) => pathOf(source as Located) ?? [])
    this.#stopWatching = watchFiles(paths, () => { this.reload() })
  }

  verify (leaf: X509Certificate, others: readonly X509Certificate[], now: number): Verification & { readonly term: Term } {
    return { ...this.#verifyPath(leaf, others, now), term: this.#term }
  }

  /** Reads everything anew; what is bad changes nothing. One after the other: what is read later is newer. */
  reload (): void {
    this.#reloading = this.#reloading.then(async () => await this.#load()).catch((error: Error & { code?: string }) => {
      this.#log.error({ code: error.code }, `http-security: authorities and revocation lists for the proxy's clients were not changed, and the ones before stay in force: ${error.message}`)
    })
  }

  close (): void {
    this.#stopWatching()
  }

  async #load (): Promise<void> {
    const next = await readClientTrust(this.#sources, ROLE, this.#trust)
    if (next.fingerprint === this.#trust.fingerprint) return
    const ended = this.#term
    this.#trust = next
    this.#verifyPath = verifierOf(next)
    this.#term = beginTerm()
    endTerm(ended)
    this.#log.info('http-security: authorities and revocation lists for the proxy\'s clients were read anew and are in force')
    this.#warn()
  }

  #warn (): void {
    for (const warning of this.#trust.warnings) this.#log.warn(`http-security: ${warning}`)
  }
}

function verifierOf ({ authorities, crl }: ClientTrust): VerifyPath {
  const lists = crl.flatMap((pem) => blocksIn({ name: ROLE, bytes: Buffer.from(pem) })).map(({ der }) => der)
  return createVerifyPath(authorities.map(({ certificate }) => certificate), lists)
}
