/**
 * Whom this application trusts to have issued the certificates that a proxy forwards without a verdict: kept up to date
 * with its files, like those of a TLS server.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { type Verification, type VerifyPath, createVerifyPath } from '../certificate/path/path.ts'
import { readOr } from '../certificate/der.ts'
import { readList } from '../certificate/path/lists.ts'
import { Reloading } from '../files/reloading.ts'
import { watchFiles } from '../files/watch.ts'
import { type Term, beginTerm, endTerm } from '../link.ts'
import { type ClientCertificatesOptions, type ClientTrust, isAllElseInForce, readClientTrust } from '../material/authorities.ts'
import { type Ending, Expiry } from '../material/expiry.ts'
import { invalid, type Located, pathOf } from '../material/source.ts'

type Sources = ClientCertificatesOptions<Located>
type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>

/** What content that is no file is called. */
const ROLE = 'proxy'

interface Verifier {
  readonly verifyPath: VerifyPath
  readonly warnings: readonly string[]
}

export class Authorities {
  readonly #sources: Sources
  readonly #log: Log
  readonly #expiry = new Expiry((message) => this.#log.warn(`http-security: ${message}`))
  readonly #stop: ReadonlyArray<() => void>
  #trust: ClientTrust
  #verifier: Verifier
  #term = beginTerm()
  readonly #reloading = new Reloading<ClientTrust>({
    loading: 'reading authorities and revocation lists for the proxy\'s clients',
    retryAfter: 5_000,
    load: () => readClientTrust(this.#sources, ROLE, this.#trust),
    // A file may be complete soon, or a list begin, and no change would tell.
    check: (trust) => trust,
    take: (trust) => this.#take(trust),
    failed: (error) => this.#rejected(error),
    recovered: () => this.#log.info('http-security: all authorities and revocation lists for the proxy\'s clients are read again'),
    waiting: (message) => this.#log.warn(`http-security: ${message}`)
  })

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES */
  static async read (sources: Sources, log: Log): Promise<Authorities> {
    return new Authorities(sources, await readClientTrust(sources, ROLE), log)
  }

  private constructor (sources: Sources, trust: ClientTrust, log: Log) {
    this.#sources = sources
    this.#log = log
    this.#trust = trust
    this.#verifier = verifierOf(trust)
    this.#warn()
    this.#reloading.start()
    const paths = [sources.ca, sources.crl ?? []].flat().flatMap((source) => pathOf(source as Located) ?? [])
    this.#stop = [watchFiles(paths, () => this.reload()), this.#expiry.watch(() => this.#ending()), () => this.#reloading.stop()]
  }

  verify (leaf: X509Certificate, others: readonly X509Certificate[], now: number): Verification & { readonly term: Term } {
    return { ...this.#verifier.verifyPath(leaf, others, now), term: this.#term }
  }

  /** Reads everything anew; what is bad changes nothing. */
  reload (): void {
    this.#reloading.changed()
  }

  close (): void {
    for (const stop of this.#stop) stop()
  }

  #take (next: ClientTrust): void {
    if (next.fingerprint !== this.#trust.fingerprint) this.#change(next, verifierOf(next))
    if (next.rejected !== undefined) throw next.rejected
  }

  #change (trust: ClientTrust, verifier: Verifier): void {
    const ended = this.#term
    this.#trust = trust
    this.#verifier = verifier
    this.#term = beginTerm()
    endTerm(ended)
    this.#log.info('http-security: authorities and revocation lists for the proxy\'s clients were read anew and are in force')
    this.#warn()
  }

  #rejected (error: Error & { code?: string }): void {
    const what = isAllElseInForce(error) ? 'not all of them were changed' : 'they were not changed, and the ones before stay in force'
    this.#log.error({ code: error.code }, `http-security: authorities and revocation lists for the proxy's clients: ${what}: ${error.message}`)
  }

  #warn (): void {
    for (const warning of [...this.#trust.warnings, ...this.#verifier.warnings]) this.#log.warn(`http-security: ${warning}`)
    this.#expiry.look(this.#ending())
  }

  #ending (): Ending {
    return { certificates: this.#trust.authorities, lists: this.#trust.revocations }
  }
}

/**
 * A list that nobody can read revokes nobody knows whom.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES where OpenSSL may take one, and this does not
 */
function verifierOf ({ authorities, revocations }: ClientTrust): Verifier {
  const warnings: string[] = []
  const lists = revocations.map(({ source, issuer, der }) => {
    const list = readOr(() => readList(der), undefined)
    if (list === undefined) throw invalid(source, `the revocation list of ${issuer} is not exactly as RFC 5280 §5 has it (DER, dates without fractions, no extension twice), so that nobody knows whom it revokes`)
    if (list.problem !== undefined) warnings.push(`${source}: the revocation list of ${issuer} is one for a part of its certificates, of changes, or with critical extensions (${list.problem}): while it is its newest, clients of ${issuer} are refused`)
    return list
  })
  return { verifyPath: createVerifyPath(authorities.map(({ certificate }) => certificate), lists), warnings }
}
