/**
 * Fetches what URLs in certificates lead to: revocation lists, and answers of OCSP responders.
 *
 * Whose URLs these are is known, as a path to an anchor was verified, but not whether they mean well; and anybody may be on the
 * way. So the address is checked that is connected to, and what may be under way for one owner is bounded, so that none of them
 * keeps the others waiting.
 */
import { createHash } from 'node:crypto'
import type { LookupAddress } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import { setMaxListeners } from 'node:events'
import { isIP, type LookupFunction } from 'node:net'
import { printable } from '../printable.ts'
import { Destinations } from './addresses.ts'
import { Backoff } from './backoff.ts'
import { receive } from './receive.ts'

export interface FetcherOptions {
  /** What may be reached besides public addresses at ports 80 and 443: see {@link Destinations}. */
  readonly allow?: readonly string[]
  /** Who is asked for addresses; the system's name servers, as they are at that time, unless said otherwise. */
  readonly resolver?: Pick<Resolver, 'resolve4' | 'resolve6'>
  /** Milliseconds since whenever, for what has failed. */
  readonly clock?: () => number
}

export interface FetchOptions {
  /** For whom: see revocation.ts. */
  readonly owner: string
  /** Media types, with commas between. */
  readonly accept: string
  /** It is posted. */
  readonly body?: { readonly type: string, readonly bytes: Buffer }
  /** Bytes of an answer. */
  readonly most: number
  /** Milliseconds, from looking up an address to the last byte; 10 s unless said otherwise. */
  readonly timeout?: number
  /** Ends the waiting; and the request, if that was the last one that waited for it. */
  readonly signal?: AbortSignal
}

/** For each owner. */
const MOST_AT_ONCE = 4
const MOST_WAITING = 1000
export const MOST_URLS = 100

/** Milliseconds after which a URL that was not asked for makes room for another one: lists are renewed once a day. */
const URL_LIFE = 26 * 60 * 60_000

/** Milliseconds. */
const TIMEOUT = 10_000
const DNS_TIMEOUT = 2_000

/** Characters: of a URL, and of what is told of one, and of an error. */
const MOST_URL = 2048
const MOST_PRINTED = 200

/** A URL for logs: without user name, password, query and fragment. */
export function publicUrl (url: string): string {
  if (!URL.canParse(url)) return 'an unreadable URL'
  const { protocol, host, pathname } = new URL(url)
  return printable(`${protocol}//${host}${pathname}`, MOST_PRINTED)
}

export class Fetcher {
  readonly #destinations: Destinations
  readonly #resolver: FetcherOptions['resolver']
  readonly #clock: () => number
  readonly #backoff: Backoff
  readonly #owners = new Map<string, Owner>()

  /** @throws FST_HTTP_SECURITY_INVALID_OPTIONS for what cannot be allowed */
  constructor ({ allow = [], resolver, clock = () => performance.now() }: FetcherOptions = {}) {
    this.#destinations = new Destinations(allow)
    this.#resolver = resolver
    this.#clock = clock
    this.#backoff = new Backoff(clock)
  }

  /**
   * What a URL leads to. Who asks for the same, for the same owner and with the same body, before it is there gets the same
   * answer, by the options of who came first. What has failed is not asked for again until its time has come.
   *
   * @throws Error saying what is wrong, and of which URL, as {@link publicUrl} has it; or the reason of the signal
   */
  async fetch (url: string, options: FetchOptions): Promise<Buffer> {
    const { owner: name, body, signal } = options
    signal?.throwIfAborted()
    try {
      const target = this.#targetOf(url)
      const owner = this.#ownerOf(name)
      const key = `${target.href} ${body === undefined ? '' : createHash('sha256').update(body.bytes).digest('hex')}`
      return await (owner.pending.get(key) ?? this.#start(target, key, owner, options)).join(signal)
    } catch (error) {
      if (signal?.aborted === true) throw error
      throw new Error(`${publicUrl(url)}: ${reasonOf(error)}`, { cause: error })
    }
  }

  /** Milliseconds until a URL is asked for again that has failed for this owner; 0 where it has not. */
  delayOf (url: string, owner: string): number {
    return URL.canParse(url) ? this.#backoff.get(failureKey(url, owner))?.left ?? 0 : 0
  }

  /** Whether a URL is one of so many that are fetched for one owner, which it is from now on: those that come first. */
  admit (url: string, owner: string): boolean {
    return !URL.canParse(url) || this.#ownerOf(owner).admit(new URL(url).href, this.#clock())
  }

  #ownerOf (name: string): Owner {
    const owner = this.#owners.get(name) ?? new Owner()
    this.#owners.set(name, owner)
    return owner
  }

  #start (url: URL, key: string, owner: Owner, options: FetchOptions): Pending {
    const failure = failureKey(url.href, options.owner)
    this.#assertNotFailed(failure)
    if (!owner.admit(url.href, this.#clock())) throw new Error(`there are ${MOST_URLS} other URLs from below the same authority already`)
    const pending = new Pending(async (signal) => {
      await owner.enter()
      try {
        signal.throwIfAborted()
        this.#assertNotFailed(failure) // for others, meanwhile
        return await this.#try(url, failure, options, signal)
      } finally {
        owner.leave()
      }
    }, () => { if (owner.pending.get(key) === pending) owner.pending.delete(key) })
    owner.pending.set(key, pending)
    return pending
  }

  async #try (url: URL, failure: string, { accept, body, most, timeout = TIMEOUT }: FetchOptions, signal: AbortSignal): Promise<Buffer> {
    try {
      const bytes = await receive(url, { accept, body, most, timeout, lookup: this.#lookupOf(url), signal })
      this.#backoff.succeeded(failure)
      return bytes
    } catch (error) {
      if (!signal.aborted) this.#backoff.failed(failure, reasonOf(error))
      throw error
    }
  }

  #assertNotFailed (failure: string): void {
    const failed = this.#backoff.get(failure)
    if (failed !== undefined) throw new Error(`${failed.reason} (asked again in ${Math.ceil(failed.left / 1000)} s)`)
  }

  #targetOf (text: string): URL {
    if (text.length > MOST_URL) throw new Error(`it has more than ${MOST_URL} characters`)
    if (!URL.canParse(text)) throw new Error('only http and https URLs are fetched')
    const url = new URL(text)
    if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Error('only http and https URLs are fetched')
    if (url.username !== '' || url.password !== '') throw new Error('it has a user name or a password')
    const port = portOf(url)
    const host = hostOf(url)
    if (!this.#destinations.hasPort(port)) throw new Error(`port ${port} is not allowed`)
    // Of what is an address already, Node looks nothing up.
    if (isIP(host) !== 0 && !this.#destinations.hasAddress(host, port)) throw new Error(`${host} is not a public address`)
    url.hash = ''
    return url
  }

  /**
   * What finds the addresses of a connection, and the only thing that does: a name that has another address the next time is
   * of no use. Undefined: the system does, for hosts that the deployer has named.
   *
   * DNS alone is asked for the others, without a thread: the system's way (`getaddrinfo`) keeps one of few for as long as a
   * name server does not answer, and whoever writes a certificate chooses the name server.
   */
  #lookupOf (url: URL): LookupFunction | undefined {
    const port = portOf(url)
    if (this.#destinations.hasHost(hostOf(url), port)) return undefined
    return (hostname, { all }, callback) => {
      this.#addressesOf(hostname, port).then((addresses) => {
        if (all === true) callback(null, addresses)
        else callback(null, addresses[0].address, addresses[0].family)
      }, (error) => { callback(error, []) })
    }
  }

  /** One at least. */
  async #addressesOf (hostname: string, port: number): Promise<LookupAddress[]> {
    // A resolver goes by the name servers that there were when it was made.
    const resolver = this.#resolver ?? new Resolver({ timeout: DNS_TIMEOUT, tries: 2 })
    const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const addresses = answers.flatMap((answer) => answer.status === 'fulfilled' ? answer.value : [])
    const allowed = addresses.filter((address) => this.#destinations.hasAddress(address, port))
    if (allowed.length > 0) return allowed.map((address) => ({ address, family: isIP(address) }))
    if (addresses.length > 0) throw new Error(`${addresses[0]} is not a public address`)
    throw answers.find((answer) => answer.status === 'rejected')?.reason ?? new Error(`${hostname} has no address`)
  }
}

/** What is under way for one owner. */
class Owner {
  readonly pending = new Map<string, Pending>()
  /** When each was asked for, by the clock. */
  readonly #urls = new Map<string, number>()
  readonly #waiting: Array<() => void> = []
  #running = 0

  /** False: there are too many already. */
  admit (url: string, now: number): boolean {
    if (!this.#urls.has(url) && this.#urls.size >= MOST_URLS) {
      for (const [other, at] of this.#urls) if (at < now - URL_LIFE) this.#urls.delete(other)
      if (this.#urls.size >= MOST_URLS) return false
    }
    this.#urls.set(url, now)
    return true
  }

  /** Waits until few enough are under way. Throws where too many wait. */
  async enter (): Promise<void> {
    if (this.#running < MOST_AT_ONCE) {
      this.#running++
      return
    }
    if (this.#waiting.length >= MOST_WAITING) throw new Error(`${MOST_WAITING} others from below the same authority wait already`)
    await new Promise<void>((resolve) => { this.#waiting.push(resolve) })
  }

  leave (): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next()
  }
}

/** A request that several may wait for. It ends when none does any more. */
class Pending {
  readonly #controller = new AbortController()
  readonly #answer: Promise<Buffer>
  readonly #ended: () => void
  #callers = 0

  constructor (run: (signal: AbortSignal) => Promise<Buffer>, ended: () => void) {
    this.#ended = ended
    this.#answer = run(this.#controller.signal).finally(ended)
  }

  async join (signal: AbortSignal | undefined): Promise<Buffer> {
    this.#callers++
    if (signal !== undefined) setMaxListeners(0, signal) // one may be for thousands of requests
    return await new Promise<Buffer>((resolve, reject) => {
      const leave = (): void => {
        reject(signal!.reason)
        if (--this.#callers > 0) return
        this.#ended()
        this.#controller.abort(signal!.reason)
      }
      signal?.addEventListener('abort', leave)
      this.#answer.then(resolve, reject).finally(() => { signal?.removeEventListener('abort', leave) })
    })
  }
}

function portOf ({ port, protocol }: URL): number {
  return port === '' ? protocol === 'https:' ? 443 : 80 : Number(port)
}

/** Without the brackets of an IPv6 address. */
function hostOf ({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '')
}

function failureKey (url: string, owner: string): string {
  return `${owner} ${new URL(url).href}`
}

/** Of several addresses that failed, Node has no message; a server's certificate may put anything into one. */
function reasonOf (error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  return printable(message === '' ? String(code) : message, MOST_PRINTED)
}
