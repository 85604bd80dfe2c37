/**
 * CRLs by URL: those that an administrator names, and those that certificates name (RFC 5280 §4.2.1.13) whose path was
 * verified but for revocation. Fetched once at a time, again before they end, and kept across restarts.
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

/** RFC 2585 §4.2, and what servers are set up to say instead. */
const CRL_TYPES = 'application/pkix-crl, application/x-pkcs7-crl, application/pkcs7-crl, application/x-pem-file, text/plain'
/** Bytes of a CRL, and of all that were fetched for one owner. */
const LARGEST = 128 * 1024 * 1024
const MOST_BYTES = 256 * 1024 * 1024
/** Of URLs that one certificate names. */
const MOST_OF_CERTIFICATE = 8
/** CRLs of one URL: of other keys or scopes are those that what was fetched has not replaced. */
const MOST_CRLS = 256
/** Of issuers whose certificates name a URL, and of those by whose keys a CRL is verified that were not known to have signed one. */
const MOST_ISSUERS = 8
const MOST_SIGNERS = 16
/** Milliseconds: for a CRL that is larger than what 10 s are enough for. */
const TIMEOUT = 60_000
/** Milliseconds between looks; after the first answer that is of no use, and at most; and between two times that a CRL is fetched, at most. */
const LOOK = 5_000
const AFTER_FAILURE = 60_000
const LONGEST_AFTER_FAILURE = 10 * 60_000
const LATEST = 24 * 60 * 60_000
/** The same of CRLs that do not say when the next one comes. */
const HOURLY = 60 * 60_000
/** Milliseconds after which a URL that no certificate has named is fetched no more. What its CRLs say is kept while there is room. */
const UNUSED = 26 * 60 * 60_000
/** Of such URLs and all others of one owner. */
const MOST_KEPT = 1_000

/** Whose the URLs are that an administrator names. */
const ADMINISTRATOR = 'administrator'

interface Download {
  readonly url: string
  /** The anchor of the paths that it was found in, or an authority directly below: see revocation.ts. */
  readonly owner: string
  /** Who issued the certificates that name it: their intermediates may be known to nothing else. */
  readonly issuers: Map<string, ParsedCertificate>
  crls: readonly Crl[]
  /** When it is fetched next, in milliseconds since the epoch. */
  nextAt: number
  /** Answers of no use since the last one that was of some. */
  failures: number
  usedAt: number
  isRestored: boolean
  isBusy: boolean
  /** From asking until there is a CRL, or none to be had. */
  question: SharedFetch | undefined
}

interface Circumstances {
  /** For URLs that an administrator names, and for all others. */
  readonly fetchers: { readonly named: Fetcher, readonly found: Fetcher }
  /** Where copies are kept. */
  readonly directory: CacheDirectory | undefined
  /** CA certificates that may have signed a CRL, by their canonical name. */
  readonly authoritiesNamed: (subject: string) => readonly ParsedCertificate[]
  /** Takes over what was fetched: awaited, since signatures have to be verified before they count. */
  readonly changed: () => Promise<void>
  readonly problems: FetchProblems
  readonly warn: (message: string) => void
  /** Ends all that is under way. */
  readonly signal: () => AbortSignal
  /** Bytes of all that are fetched for one owner; 256 MiB. */
  readonly mostBytes?: number
}

/** A CRL, and the key of the authority that has signed it, as far as it is known. */
interface Signed {
  readonly crl: Crl
  readonly signer: string | undefined
}

/** How much a CRL says. The least makes room first; what is in force, or was, does for nothing but a newer one of its key and scope. */
const SAYS = { nothing: 0, littleSurely: 1, inForce: 2, wasInForce: 3 } as const

export class CrlDownloads {
  readonly #circumstances: Circumstances
  readonly #downloads = new Map<string, Download>()
  /** CRLs that had ended when they came. */
  readonly #late = new WeakSet<Crl>()

  constructor (circumstances: Circumstances) {
    this.#circumstances = circumstances
  }

  /** All that were fetched, or were kept from before. */
  get crls (): readonly SourcedCrl[] {
    return [...this.#downloads.values()].flatMap(({ crls, url }) => crls.map((crl) => ({ crl, source: publicUrl(url) })))
  }

  /** Fetches what an administrator names, and waits some seconds for what is not there from before. */
  async begin (urls: readonly string[]): Promise<void> {
    const { problems } = this.#circumstances
    await Promise.all([...new Set(urls)].map(async (url) => {
      const download = this.#add(url, ADMINISTRATOR)
      this.#ask(download)
      await download.question?.pending
      if (download.crls.length === 0 && !problems.has(url)) problems.failed(url, publicUrl(url), 'it has not answered yet')
    }))
  }

  /**
   * Notes that a certificate names CRLs, and fetches those that are not there.
   *
   * @returns what to wait for, where anything is on its way
   */
  want (urls: readonly string[], issuer: ParsedCertificate, owner: ParsedCertificate, now: number): Promise<unknown> | undefined {
    const pending = urls.slice(0, MOST_OF_CERTIFICATE).flatMap((url) => {
      const download = this.#wanted(url, owner)
      if (download === undefined) return []
      download.usedAt = now
      remember(download.issuers, issuer)
      if (now >= download.nextAt) this.#ask(download)
      return download.question?.pending ?? []
    })
    return pending.length === 0 ? undefined : Promise.race(pending)
  }

  /** Fetches anew in good time. Answers what stops it. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      const all = [...this.#downloads.values()]
      const silent = all.filter((download) => isUnused(download, now) && saysOf(download, now) === SAYS.nothing)
      for (const download of silent) this.#forget(download)
      if (silent.some(({ crls }) => crls.length > 0)) this.#circumstances.changed()
      for (const download of all) if (now >= download.nextAt && !isUnused(download, now)) this.#ask(download)
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  #add (url: string, owner: string): Download {
    const download: Download = { url, owner, issuers: new Map(), crls: [], nextAt: -Infinity, failures: 0, usedAt: NaN, isRestored: false, isBusy: false, question: undefined }
    this.#downloads.set(idOf(download), download)
    return download
  }

  /** Whoever has a CA of their own can name any number. */
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
   * Forgets a URL that is not used and whose CRLs have ended: the one that says least, and was not used for the longest time.
   *
   * @returns whether there was any
   */
  #makeRoom (owner: string): boolean {
    const now = Date.now()
    const ended = this.#ofOwner(owner).filter((download) => isUnused(download, now) && download.crls.every((crl) => hasEnded(crl, now)))
    const [least] = ended.sort((one, other) => saysOf(one, now) - saysOf(other, now) || one.usedAt - other.usedAt)
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

  #ask (download: Download): void {
    const { problems, signal } = this.#circumstances
    const { url, owner } = download
    const fetcher = this.#fetcherOf(download)
    if (download.isBusy || fetcher.delayOf(url, owner) > 0) return
    download.isBusy = true
    const ending = signal()
    download.question = new SharedFetch(new Promise<void>((resolve) => {
      this.#bring(download, ending, resolve)
        .catch((error: Error) => {
          if (ending.aborted) return
          // Of one that does not answer at all, the fetcher knows when to ask it again.
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
  async #bring (download: Download, signal: AbortSignal, found: () => void): Promise<void> {
    const { directory, problems } = this.#circumstances
    const { url, owner } = download
    if (!download.isRestored) await this.#restore(download)
    if (download.crls.some(({ nextUpdate }) => Date.now() <= nextUpdate)) found()
    const bytes = await this.#fetcherOf(download).fetch(url, { owner, accept: CRL_TYPES, most: LARGEST, timeout: TIMEOUT, signal })
    const read = await crlsIn({ name: publicUrl(url), bytes })
    const now = Date.now()
    for (const crl of read) if (hasEnded(crl, now)) this.#late.add(crl)
    const isKnown = await this.#take(download, read)
    found()
    if (isKnown) problems.succeeded(url)
    else problems.failed(url, publicUrl(url), 'it has a revocation list that is signed by no authority which is known: nothing is concluded from it yet')
    // Neither throws nor has to be waited for. What is not in the answer has to outlive a restart as well.
    const isAll = download.crls.every((crl) => read.includes(crl))
    directory?.write(nameOf(download), isAll ? bytes : Buffer.concat(download.crls.map(({ der }) => der)))
  }

  /** What was kept is only as good as what is fetched: it is signed. */
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
   * Nothing goes backwards, and what an authority has signed makes room for nothing but what it has signed later: whoever
   * is on the way could else take a CRL away.
   *
   * @returns whether it is known who has signed it
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

  /** @throws Error where there is no room, but for what says little */
  #withinBounds (download: Download, read: readonly Signed[], before: readonly Signed[], now: number): readonly Crl[] {
    const { mostBytes = MOST_BYTES } = this.#circumstances
    const others = before.filter((one) => one.signer !== undefined && one.crl.unusable === undefined && !read.some((next) => replaces(next, one)))
    const says = new Map([...others, ...read].map((one) => [one.crl, before.some((other) => replaces(one, other)) ? SAYS.wasInForce : this.#saysOf(one, now)]))
    const elsewhere = (): Crl[] => download.owner === ADMINISTRATOR ? [] : this.#ofOwner(download.owner).flatMap((other) => other === download ? [] : other.crls)
    // Of those that say as much, the ones that were there before stay.
    const kept = [...says].sort(([, one], [, other]) => other - one)
    for (;;) {
      const isTooMuch = sizeOf([...kept.map(([crl]) => crl), ...elsewhere()]) > mostBytes
      if (!isTooMuch && kept.length <= MOST_CRLS) break
      const [, least] = kept.at(-1)!
      if (least >= SAYS.inForce && isTooMuch && download.owner !== ADMINISTRATOR && this.#makeRoom(download.owner)) continue
      kept.pop()
      if (least < SAYS.inForce) continue
      throw new Error(isTooMuch ? `there would be more than ${mostBytes} bytes of revocation lists from below one authority` : `there would be more than ${MOST_CRLS} revocation lists of one URL`)
    }
    return [...read, ...others].flatMap(({ crl }) => kept.some(([one]) => one === crl) ? crl : [])
  }

  #saysOf ({ crl, signer }: Signed, now: number): number {
    const says = saysOf({ crls: [crl] }, now)
    return signer === undefined || this.#late.has(crl) ? Math.min(says, SAYS.littleSurely) : says
  }

  async #signed (download: Download, crls: readonly Crl[]): Promise<Signed[]> {
    return await Promise.all(crls.map(async (crl) => ({ crl, signer: await this.#signerOf(download, crl) })))
  }

  /**
   * One after the other: the first is right, as a rule, and each takes as long as the CRL. Those that have signed the ones
   * before come first: anybody with a CA below an anchor can make any number of namesakes.
   */
  async #signerOf (download: Download, crl: Crl): Promise<string | undefined> {
    const named = [...download.issuers.values(), ...this.#circumstances.authoritiesNamed(crl.issuer)].filter((authority) => authority.keyUsage.maySignCrls && crl.namesIssuer(authority))
    const [known, others] = [[crl, ...download.crls].flatMap((one) => named.filter((authority) => one.isKnownSignedBy(authority) === true)), named.slice(0, MOST_SIGNERS)]
    for (const authority of [...known, ...others]) if (await crl.isSignedBy(authority)) return keyOf(authority)
    return undefined
  }
}

/** Whether one that was fetched says all that one of before has said. */
function replaces (next: Signed, one: Signed): boolean {
  if (next.signer !== one.signer || !isAlike(next.crl, one.crl)) return false
  return isDelta(one.crl) ? supersedes(next.crl, one.crl) : !isDelta(next.crl)
}

function isUnused ({ owner, isBusy, usedAt }: Download, now: number): boolean {
  return owner !== ADMINISTRATOR && !isBusy && now - usedAt > UNUSED
}

function saysOf ({ crls }: Pick<Download, 'crls'>, now: number): number {
  return Math.max(SAYS.nothing, ...crls.filter(({ unusable }) => unusable === undefined).map((crl) => hasEnded(crl, now) ? crl.size === 0 ? SAYS.nothing : SAYS.wasInForce : SAYS.inForce))
}

function hasEnded ({ nextUpdate }: Crl, now: number): boolean {
  return now > nextUpdate
}

function sizeOf (crls: readonly Crl[]): number {
  return crls.reduce((sum, { der }) => sum + der.length, 0)
}

/** A copy is what was fetched, or CRLs in DER, one after the other. */
function copiesIn (bytes: Buffer): Buffer[] {
  if (bytes[0] !== SEQUENCE || bytes[1]! < 0x80) return [bytes] // a text may begin like that
  const copies: Buffer[] = []
  for (let offset = 0; offset < bytes.length;) {
    const { end } = elementAt(bytes, offset, bytes.length)
    copies.push(bytes.subarray(offset, end))
    offset = end
  }
  return copies
}

/** Well before the next one is due, and not all at once. */
function nextAfter (download: Download, read: readonly Signed[], now: number): number {
  const end = Math.min(...read.map(({ crl }) => crl.nextUpdate))
  // Whoever is on the way can send what nobody known has signed: a failure like any other.
  if (end <= now || read.some(({ signer }) => signer === undefined)) return now + delayAfter(download)
  download.failures = 0
  return now + Math.min(Math.max((end - now) * (0.6 + Math.random() / 4), LOOK), end === Infinity ? HOURLY : LATEST)
}

/** The longer, the more there were. */
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
