/**
 * CRLs from URLs: those that an administrator configures, and the distribution points (RFC 5280 §4.2.1.13) of certificates
 * whose path is valid apart from revocation. One request at a time for each URL, repeated before the CRL expires, kept
 * across restarts. Begin with `CrlDownloads.begin` (configured URLs) and `CrlDownloads.want` (distribution points).
 */
import { createHash } from 'node:crypto'
import { crlsIn, describe } from '../files/pem.ts'
import type { Crl } from '../x509/crl.ts'
import { elementAt, SEQUENCE } from '../x509/der.ts'
import type { ParsedCertificate } from '../x509/parsed-certificate.ts'
import type { CacheDirectory } from './cache-directory.ts'
import { type FetchProblems, SharedFetch } from './fetch-problems.ts'
import { type Fetcher, MOST_URLS, publicUrl } from './fetch.ts'
import type { SourcedCrl } from './load.ts'
import { isAlike, isDelta, isNewer, keyOf, supersedes } from './revocation.ts'

/** RFC 2585 §4.2, and the other media types that servers are configured to send. */
const CRL_TYPES = 'application/pkix-crl, application/x-pkcs7-crl, application/pkcs7-crl, application/x-pem-file, text/plain'
/** Bytes of one CRL, and of all CRLs of one owner. */
const LARGEST = 128 * 1024 * 1024
const MOST_BYTES = 256 * 1024 * 1024
/** URLs of one certificate. */
const MOST_OF_CERTIFICATE = 8
/** CRLs of one URL: fetched ones, and earlier ones with another key or scope, which they do not replace. */
const MOST_CRLS = 256
/** Issuers that are remembered for one URL; CAs tried for a CRL's signature besides those that have signed an earlier CRL. */
const MOST_ISSUERS = 8
const MOST_SIGNERS = 16
/** Milliseconds: for CRLs that are too large for the usual 10 s. */
const TIMEOUT = 60_000
/** Milliseconds: between checks; after the first useless answer, and at most after several; between downloads, at most. */
const LOOK = 5_000
const AFTER_FAILURE = 60_000
const LONGEST_AFTER_FAILURE = 10 * 60_000
const LATEST = 24 * 60 * 60_000
/** Milliseconds between downloads of a CRL without nextUpdate, at most. */
const HOURLY = 60 * 60_000
/** Milliseconds after which a URL that no certificate has named is not fetched any more; its CRLs stay if there is room. */
const UNUSED = 26 * 60 * 60_000
/** URLs of one owner, unused ones included. */
const MOST_KEPT = 1_000

/** The owner of the URLs that an administrator configures. */
const ADMINISTRATOR = 'administrator'

interface Download {
  readonly url: string
  /** The anchor of the paths that it was found in, or the CA directly below it: see `ownerOf` in revocation.ts. */
  readonly owner: string
  /** The issuers of the certificates that name it: their intermediates may be known nowhere else. */
  readonly issuers: Map<string, ParsedCertificate>
  crls: readonly Crl[]
  /** When to fetch it next, in milliseconds since the epoch. */
  nextAt: number
  /** Useless answers since the last useful one. */
  failures: number
  usedAt: number
  isRestored: boolean
  isBusy: boolean
  /** Pending from the request until there is a CRL, or the request has failed. */
  request: SharedFetch | undefined
}

interface Circumstances {
  /** For URLs that an administrator configures, and for all others. */
  readonly fetchers: { readonly named: Fetcher, readonly found: Fetcher }
  /** Keeps copies across restarts. */
  readonly directory: CacheDirectory | undefined
  /** CA certificates that may have signed a CRL, by their canonical name. */
  readonly authoritiesNamed: (subject: string) => readonly ParsedCertificate[]
  /** Called after CRLs were fetched, and awaited, because their signatures have to be verified before they count. */
  readonly changed: () => Promise<void>
  readonly problems: FetchProblems
  readonly warn: (message: string) => void
  /** Aborts all requests. */
  readonly signal: () => AbortSignal
  /** Bytes of all CRLs of one owner; 256 MiB by default. */
  readonly mostBytes?: number
}

/** A CRL, and the key of the CA that has signed it; undefined where that is not known. */
interface Signed {
  readonly crl: Crl
  readonly signer: string | undefined
}

/** Values of CRLs: the lowest makes room first. One in force, or that was, does only for a newer one of its key and scope. */
const VALUE = { nothing: 0, low: 1, inForce: 2, wasInForce: 3 } as const

export class CrlDownloads {
  readonly #circumstances: Circumstances
  readonly #downloads = new Map<string, Download>()
  /** CRLs that had already expired when they were fetched. */
  readonly #expiredOnArrival = new WeakSet<Crl>()

  constructor (circumstances: Circumstances) {
    this.#circumstances = circumstances
  }

  /** All CRLs that were fetched, or restored from the directory. */
  get crls (): readonly SourcedCrl[] {
    return [...this.#downloads.values()].flatMap(({ crls, url }) => crls.map((crl) => ({ crl, source: publicUrl(url) })))
  }

  /** Fetches the configured URLs. Waits some seconds for those that are not in the directory. */
  async begin (urls: readonly string[]): Promise<void> {
    const { problems } = this.#circumstances
    await Promise.all([...new Set(urls)].map(async (url) => {
      const download = this.#add(url, ADMINISTRATOR)
      this.#request(download)
      await download.request?.pending
      if (download.crls.length === 0 && !problems.has(url)) problems.failed(url, publicUrl(url), 'it has not answered yet')
    }))
  }

  /**
   * Notes that a certificate names these URLs, and fetches those that are due.
   *
   * @returns what to wait for where a request is pending
   */
  want (urls: readonly string[], issuer: ParsedCertificate, owner: ParsedCertificate, now: number): Promise<unknown> | undefined {
    const pending = urls.slice(0, MOST_OF_CERTIFICATE).flatMap((url) => {
      const download = this.#wanted(url, owner)
      if (download === undefined) return []
      download.usedAt = now
      remember(download.issuers, issuer)
      if (now >= download.nextAt) this.#request(download)
      return download.request?.pending ?? []
    })
    return pending.length === 0 ? undefined : Promise.race(pending)
  }

  /** Fetches CRLs again before they expire. Returns a function that stops this. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      const all = [...this.#downloads.values()]
      const worthless = all.filter((download) => isUnused(download, now) && valueOf(download, now) === VALUE.nothing)
      for (const download of worthless) this.#forget(download)
      if (worthless.some(({ crls }) => crls.length > 0)) this.#circumstances.changed()
      for (const download of all) if (now >= download.nextAt && !isUnused(download, now)) this.#request(download)
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  #add (url: string, owner: string): Download {
    const download: Download = { url, owner, issuers: new Map(), crls: [], nextAt: -Infinity, failures: 0, usedAt: NaN, isRestored: false, isBusy: false, request: undefined }
    this.#downloads.set(idOf(download), download)
    return download
  }

  /** Undefined where there are too many URLs: an attacker with a CA can put any number into certificates. */
  #wanted (url: string, { certificate }: ParsedCertificate): Download | undefined {
    const { fetchers, problems } = this.#circumstances
    const owner = certificate.fingerprint256
    const known = this.#downloads.get(idOf({ url, owner }))
    if (known !== undefined) return known
    if (this.#ofOwner(owner).length >= MOST_KEPT) this.#makeRoom(owner)
    if (this.#ofOwner(owner).length < MOST_KEPT && fetchers.found.admit(url, owner)) return this.#add(url, owner)
    problems.failed(owner, `below ${describe(certificate)}`, `certificates name more than ${MOST_URLS} URLs, and no others are fetched`)
    return undefined
  }

  #ofOwner (owner: string): Download[] {
    return [...this.#downloads.values()].filter((download) => download.owner === owner)
  }

  /**
   * Forgets an unused URL whose CRLs have expired: the one of least value, and of those the least recently used.
   *
   * @returns whether there was any
   */
  #makeRoom (owner: string): boolean {
    const now = Date.now()
    const ended = this.#ofOwner(owner).filter((download) => isUnused(download, now) && download.crls.every((crl) => hasEnded(crl, now)))
    const [least] = ended.sort((one, other) => valueOf(one, now) - valueOf(other, now) || one.usedAt - other.usedAt)
    if (least === undefined) return false
    this.#forget(least)
    return true
  }

  #forget (download: Download): void {
    const { directory, problems } = this.#circumstances
    this.#downloads.delete(idOf(download))
    problems.succeeded(download.owner)
    directory?.remove(nameOf(download))
  }

  #fetcherOf ({ owner }: Download): Fetcher {
    const { named, found } = this.#circumstances.fetchers
    return owner === ADMINISTRATOR ? named : found
  }

  #request (download: Download): void {
    const { problems, signal } = this.#circumstances
    const { url, owner } = download
    const fetcher = this.#fetcherOf(download)
    if (download.isBusy || fetcher.delayOf(url, owner) > 0) return
    download.isBusy = true
    const abortSignal = signal()
    download.request = new SharedFetch(new Promise<void>((resolve) => {
      this.#download(download, abortSignal, resolve)
        .catch((error: Error) => {
          if (abortSignal.aborted) return
          // Where the server does not answer at all, the fetcher's backoff decides.
          download.nextAt = Date.now() + (fetcher.delayOf(url, owner) > 0 ? 0 : delayAfter(download))
          problems.failed(url, publicUrl(url), error.message)
        })
        .finally(() => {
          download.isBusy = false
          resolve()
        })
    }))
  }

  /** @param found called as soon as there is a CRL in force */
  async #download (download: Download, signal: AbortSignal, found: () => void): Promise<void> {
    const { directory, problems } = this.#circumstances
    const { url, owner } = download
    if (!download.isRestored) await this.#restore(download)
    if (download.crls.some(({ nextUpdate }) => Date.now() <= nextUpdate)) found()
    const bytes = await this.#fetcherOf(download).fetch(url, { owner, accept: CRL_TYPES, most: LARGEST, timeout: TIMEOUT, signal })
    const read = await crlsIn({ name: publicUrl(url), bytes })
    const now = Date.now()
    for (const crl of read) if (hasEnded(crl, now)) this.#expiredOnArrival.add(crl)
    const isKnown = await this.#take(download, read)
    found()
    if (isKnown) problems.succeeded(url)
    else problems.failed(url, publicUrl(url), 'it has a revocation list that is signed by no authority which is known: nothing is concluded from it yet')
    // Not awaited, and never throws. CRLs that were kept besides the answer must survive a restart, too.
    const isAll = download.crls.every((crl) => read.includes(crl))
    directory?.write(nameOf(download), isAll ? bytes : Buffer.concat(download.crls.map(({ der }) => der)))
  }

  /** A copy is treated like a fetched CRL: its signature is verified. */
  async #restore (download: Download): Promise<void> {
    const { directory, warn } = this.#circumstances
    download.isRestored = true
    const kept = await directory?.read(nameOf(download))
    if (kept === undefined) return
    try {
      const crls = await Promise.all(copiesIn(kept.bytes).map(async (bytes) => await crlsIn({ name: publicUrl(download.url), bytes })))
      await this.#take(download, crls.flat())
    } catch (error) {
      warn(`crl: a copy of what was fetched is not used: ${(error as Error).message}`)
    }
  }

  /**
   * No rollback: a CRL that a CA has signed is replaced only by a later CRL that it has signed. Otherwise an attacker on
   * the network could take a CRL away.
   *
   * @returns whether the signers of all CRLs are known
   */
  async #take (download: Download, crls: readonly Crl[]): Promise<boolean> {
    if (crls.length > MOST_CRLS) throw new Error(`it has more than ${MOST_CRLS} revocation lists`)
    const read = await this.#signed(download, crls)
    const before = await this.#signed(download, download.crls)
    for (const { crl, signer } of before) {
      const same = read.filter((next) => next.signer === signer && isAlike(next.crl, crl) && isDelta(next.crl) === isDelta(crl))
      if (signer !== undefined && same.some((next) => isNewer(crl, next.crl))) throw new Error(`the revocation list of ${crl.issuerName} is older than the one before, which stays in force`)
      if (signer !== undefined && !isDelta(crl) && !read.some((next) => next.signer !== undefined && next.crl.issuer === crl.issuer)) throw new Error(`it has no revocation list that ${crl.issuerName} has signed, and the one before stays in force`)
    }
    const now = Date.now()
    const kept = this.#withinBounds(download, read, before, now)
    const isNew = kept.some((crl) => !download.crls.some(({ fingerprint }) => fingerprint === crl.fingerprint))
    const added = crls.filter((crl) => !download.crls.some(({ fingerprint }) => fingerprint === crl.fingerprint))
    download.crls = kept
    download.nextAt = nextAfter(download, read, now)
    for (const crl of added) if (crl.unusable !== undefined) this.#circumstances.warn(`crl: ${publicUrl(download.url)}: the revocation list of ${crl.issuerName} is not used (${crl.unusable})`)
    if (isNew) await this.#circumstances.changed()
    return read.every(({ signer }) => signer !== undefined)
  }

  /** Drops CRLs of low value where there is no room. Throws where that is not enough. */
  #withinBounds (download: Download, read: readonly Signed[], before: readonly Signed[], now: number): readonly Crl[] {
    const { mostBytes = MOST_BYTES } = this.#circumstances
    const others = before.filter((one) => one.signer !== undefined && one.crl.unusable === undefined && !read.some((next) => replaces(next, one)))
    const values = new Map([...others, ...read].map((one) => [one.crl, before.some((other) => replaces(one, other)) ? VALUE.wasInForce : this.#valueOf(one, now)]))
    const elsewhere = (): Crl[] => download.owner === ADMINISTRATOR ? [] : this.#ofOwner(download.owner).flatMap((other) => other === download ? [] : other.crls)
    // The sort is stable: of CRLs of equal value, the earlier ones are kept.
    const kept = [...values].sort(([, one], [, other]) => other - one)
    for (;;) {
      const isTooMuch = sizeOf([...kept.map(([crl]) => crl), ...elsewhere()]) > mostBytes
      if (!isTooMuch && kept.length <= MOST_CRLS) break
      const [, least] = kept.at(-1)!
      if (least >= VALUE.inForce && isTooMuch && download.owner !== ADMINISTRATOR && this.#makeRoom(download.owner)) continue
      kept.pop()
      if (least < VALUE.inForce) continue
      throw new Error(isTooMuch ? `there would be more than ${mostBytes} bytes of revocation lists from below one authority` : `there would be more than ${MOST_CRLS} revocation lists of one URL`)
    }
    return [...read, ...others].flatMap(({ crl }) => kept.some(([one]) => one === crl) ? crl : [])
  }

  #valueOf ({ crl, signer }: Signed, now: number): number {
    const value = valueOf({ crls: [crl] }, now)
    return signer === undefined || this.#expiredOnArrival.has(crl) ? Math.min(value, VALUE.low) : value
  }

  async #signed (download: Download, crls: readonly Crl[]): Promise<Signed[]> {
    return await Promise.all(crls.map(async (crl) => ({ crl, signer: await this.#signerOf(download, crl) })))
  }

  /**
   * One key after the other: usually the first is right, and each takes time in proportion to the CRL's size. CAs that have
   * signed earlier CRLs are tried first: an attacker with a CA below an anchor can make any number of CAs of one name.
   */
  async #signerOf (download: Download, crl: Crl): Promise<string | undefined> {
    const named = [...download.issuers.values(), ...this.#circumstances.authoritiesNamed(crl.issuer)].filter((authority) => authority.keyUsage.maySignCrls && crl.namesIssuer(authority))
    const [known, others] = [[crl, ...download.crls].flatMap((one) => named.filter((authority) => one.isKnownSignedBy(authority) === true)), named.slice(0, MOST_SIGNERS)]
    for (const authority of [...known, ...others]) if (await crl.isSignedBy(authority)) return keyOf(authority)
    return undefined
  }
}

/** Whether a fetched CRL says everything that an earlier one says. */
function replaces (next: Signed, one: Signed): boolean {
  if (next.signer !== one.signer || !isAlike(next.crl, one.crl)) return false
  return isDelta(one.crl) ? supersedes(next.crl, one.crl) : !isDelta(next.crl)
}

function isUnused ({ owner, isBusy, usedAt }: Download, now: number): boolean {
  return owner !== ADMINISTRATOR && !isBusy && now - usedAt > UNUSED
}

function valueOf ({ crls }: Pick<Download, 'crls'>, now: number): number {
  return Math.max(VALUE.nothing, ...crls.filter(({ unusable }) => unusable === undefined).map((crl) => hasEnded(crl, now) ? crl.size === 0 ? VALUE.nothing : VALUE.wasInForce : VALUE.inForce))
}

function hasEnded ({ nextUpdate }: Crl, now: number): boolean {
  return now > nextUpdate
}

function sizeOf (crls: readonly Crl[]): number {
  return crls.reduce((sum, { der }) => sum + der.length, 0)
}

/** A copy is the answer as it was fetched, or several CRLs in DER, one after the other. */
function copiesIn (bytes: Buffer): Buffer[] {
  if (bytes[0] !== SEQUENCE || bytes[1]! < 0x80) return [bytes] // not DER: text may begin with the same byte
  const copies: Buffer[] = []
  for (let offset = 0; offset < bytes.length;) {
    const { end } = elementAt(bytes, offset, bytes.length)
    copies.push(bytes.subarray(offset, end))
    offset = end
  }
  return copies
}

/** Well before the CRLs expire, at a random time so that not all are fetched at once. */
function nextAfter (download: Download, read: readonly Signed[], now: number): number {
  const end = Math.min(...read.map(({ crl }) => crl.nextUpdate))
  // An attacker on the network can send a CRL without a known signer: that counts as a failure.
  if (end <= now || read.some(({ signer }) => signer === undefined)) return now + delayAfter(download)
  download.failures = 0
  return now + Math.min(Math.max((end - now) * (0.6 + Math.random() / 4), LOOK), end === Infinity ? HOURLY : LATEST)
}

/** Doubles with each failure. */
function delayAfter (download: Download): number {
  return Math.min(AFTER_FAILURE * 2 ** download.failures++, LONGEST_AFTER_FAILURE)
}

function remember (issuers: Map<string, ParsedCertificate>, issuer: ParsedCertificate): void {
  const { fingerprint256 } = issuer.certificate
  if (issuers.has(fingerprint256)) return
  if (issuers.size === MOST_ISSUERS) issuers.delete(issuers.keys().next().value!)
  issuers.set(fingerprint256, issuer)
}

function idOf ({ url, owner }: Pick<Download, 'url' | 'owner'>): string {
  return `${owner} ${url}`
}

function nameOf (download: Download): string {
  return `crl-${createHash('sha256').update(idOf(download)).digest('hex').slice(0, 40)}.crl`
}
