/**
 * CRLs by URL: those that an administrator names, and those that certificates name (RFC 5280 §4.2.1.13) whose path was
 * verified but for revocation. Fetched once at a time, again before they end, and kept across restarts.
 */
import { createHash } from 'node:crypto'
import type { Crl } from '../certificate/crl.ts'
import { crlsIn } from '../material/crls.ts'
import type { Directory } from './directory.ts'
import { type Fetcher, publicUrl } from './fetch.ts'
import { isNewer } from './revocation.ts'

/** RFC 2585 §4.2, and what servers are set up to say instead. */
const CRL_TYPES = 'application/pkix-crl, application/x-pkcs7-crl, application/pkcs7-crl, application/x-pem-file, text/plain'
/** Bytes of a CRL, and of all that are kept for one owner. */
const LARGEST = 128 * 1024 * 1024
const MOST_OF_OWNER = 256 * 1024 * 1024
/** Milliseconds: for a CRL that is larger than what 10 s are enough for. */
const TIMEOUT = 60_000
/** Milliseconds that somebody waits; what comes later counts from then on. */
const LONGEST_WAIT = 3_000
/** Milliseconds between looks, and between two times that a CRL is fetched. */
const LOOK = 5_000
const SOONEST = 60_000
const LATEST = 24 * 60 * 60_000
/** Of one that does not say when the next one comes, and of one that has ended. */
const HOURLY = 60 * 60_000
const AFTER_END = 5 * 60_000
/** Milliseconds after which a URL that no certificate has named is forgotten. */
const UNUSED = 26 * 60 * 60_000

/** Whose the URLs are that an administrator names. */
const ADMINISTRATOR = 'administrator'

interface Download {
  readonly url: string
  readonly owner: string
  crls: readonly Crl[]
  bytes: number
  /** When it is fetched next, in milliseconds since the epoch. */
  nextAt: number
  usedAt: number
  question: { readonly promise: Promise<void>, readonly askedAt: number } | undefined
  /** The last failure that was told. */
  told: string | undefined
}

interface Circumstances {
  readonly fetcher: Fetcher
  /** Where copies are kept. */
  readonly directory: Directory | undefined
  /** Takes over what was fetched: awaited, since signatures have to be verified before they count. */
  readonly changed: () => Promise<void>
  readonly warn: (message: string) => void
}

export class Downloads {
  readonly #circumstances: Circumstances
  readonly #downloads = new Map<string, Download>()

  constructor (circumstances: Circumstances) {
    this.#circumstances = circumstances
  }

  /** All that were fetched, or were kept from before. */
  get crls (): ReadonlyArray<{ readonly crl: Crl, readonly source: string }> {
    return [...this.#downloads.values()].flatMap(({ crls, url }) => crls.map((crl) => ({ crl, source: publicUrl(url) })))
  }

  /** Fetches what an administrator names, and waits for it for some seconds: one that does not answer is a warning. */
  async begin (urls: readonly string[]): Promise<void> {
    const downloads = urls.map((url) => this.#downloadOf(url, ADMINISTRATOR))
    await Promise.all(downloads.map(async (download) => {
      await this.#restore(download)
      this.#fetch(download)
      await waitFor(download.question?.promise)
      if (download.crls.length === 0 && download.told === undefined) this.#circumstances.warn(`crl: ${publicUrl(download.url)} has not answered yet`)
    }))
  }

  /**
   * Notes that CRLs are named by a certificate below an anchor, and fetches those that are not there.
   *
   * @returns what to wait for, where anything is on its way
   */
  want (urls: readonly string[], anchor: string, now: number): Promise<unknown> | undefined {
    const waiting = urls.flatMap((url) => {
      const download = this.#downloadOf(url, anchor)
      download.usedAt = now
      if (download.crls.length === 0 && download.question === undefined) {
        this.#ask(download, async () => {
          await this.#restore(download)
          if (download.crls.length === 0) await this.#load(download)
        })
      }
      const { question } = download
      return question !== undefined && now - question.askedAt < LONGEST_WAIT ? [question.promise] : []
    })
    return waiting.length === 0 ? undefined : Promise.race(waiting)
  }

  /** Fetches anew in good time. Answers what stops it. */
  watch (): () => void {
    const timer = setInterval(() => {
      const now = Date.now()
      for (const download of [...this.#downloads.values()]) {
        if (download.owner !== ADMINISTRATOR && now - download.usedAt > UNUSED) this.#downloads.delete(keyOf(download))
        else if (now >= download.nextAt) this.#fetch(download)
      }
    }, LOOK).unref()
    return () => clearInterval(timer)
  }

  #downloadOf (url: string, owner: string): Download {
    const key = keyOf({ url, owner })
    let download = this.#downloads.get(key)
    if (download === undefined) this.#downloads.set(key, download = { url, owner, crls: [], bytes: 0, nextAt: -Infinity, usedAt: Date.now(), question: undefined, told: undefined })
    return download
  }

  #fetch (download: Download): void {
    const { url, owner, question } = download
    if (question === undefined && this.#circumstances.fetcher.delayOf(url, owner) === 0) this.#ask(download, async () => await this.#load(download))
  }

  #ask (download: Download, work: () => Promise<void>): void {
    const promise = work().then(() => { download.told = undefined }, ({ message }: Error) => {
      if (download.told !== message) this.#circumstances.warn(`crl: ${message}`)
      download.told = message
      download.nextAt = Date.now()
    }).finally(() => { download.question = undefined })
    download.question = { promise, askedAt: Date.now() }
  }

  async #load (download: Download): Promise<void> {
    const { url, owner } = download
    const bytes = await this.#circumstances.fetcher.fetch(url, { owner, accept: CRL_TYPES, most: LARGEST, timeout: TIMEOUT })
    if (!await this.#take(download, bytes)) throw new Error(`${publicUrl(url)}: the revocation list is older than the one before, which stays in force`)
    await this.#circumstances.directory?.write(nameOf(download), bytes)
  }

  /** What was kept is only as good as what is fetched: it is signed. */
  async #restore (download: Download): Promise<void> {
    const kept = await this.#circumstances.directory?.read(nameOf(download))
    if (kept === undefined) return
    await this.#take(download, kept.bytes).catch((error: Error) => this.#circumstances.warn(`crl: a copy of ${publicUrl(download.url)} is not used: ${error.message}`))
  }

  /** Nothing goes backwards. */
  async #take (download: Download, bytes: Buffer): Promise<boolean> {
    const others = [...this.#downloads.values()].filter((other) => other !== download && other.owner === download.owner)
    if (others.reduce((sum, other) => sum + other.bytes, bytes.length) > MOST_OF_OWNER) throw new Error(`${publicUrl(download.url)}: more than ${MOST_OF_OWNER} bytes of revocation lists for one authority`)
    const crls = await crlsIn({ name: publicUrl(download.url), bytes })
    if (crls.some((crl) => download.crls.some((before) => before.issuer === crl.issuer && before.scope.key === crl.scope.key && before.baseNumber === crl.baseNumber && isNewer(before, crl)))) {
      download.nextAt = Date.now() + SOONEST
      return false
    }
    const isNew = crls.some(({ fingerprint }) => !download.crls.some((before) => before.fingerprint === fingerprint))
    download.crls = crls
    download.bytes = bytes.length
    download.nextAt = nextAfter(crls, Date.now())
    if (isNew) await this.#circumstances.changed()
    return true
  }
}

/** Well before the next one is due, and not all at once. */
function nextAfter (crls: readonly Crl[], now: number): number {
  const end = Math.min(...crls.map(({ nextUpdate }) => nextUpdate))
  if (end === Infinity) return now + HOURLY
  if (end <= now) return now + AFTER_END
  return now + Math.min(Math.max((end - now) * (0.6 + Math.random() / 4), SOONEST), LATEST)
}

function keyOf ({ url, owner }: Pick<Download, 'url' | 'owner'>): string {
  return `${owner} ${url}`
}

function nameOf (download: Download): string {
  return `crl-${createHash('sha256').update(keyOf(download)).digest('hex').slice(0, 40)}.crl`
}

async function waitFor (promise: Promise<void> | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([promise, new Promise<void>((resolve) => { timer = setTimeout(resolve, LONGEST_WAIT) })])
  clearTimeout(timer)
}
