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
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net'
import { InvalidOptionsError } from '../errors.ts'
import { printable } from '../text.ts'

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

/**
 * One request over HTTP for a revocation list or an OCSP answer: nothing is followed, decoded or kept open, and time and bytes
 * are bounded.
 */

interface ReceiveOptions {
  /** Media types, with commas between. */
  readonly accept: string
  /** It is posted. */
  readonly body?: { readonly type: string, readonly bytes: Buffer }
  /** Bytes of an answer. */
  readonly most: number
  /** Milliseconds, from looking up an address to the last byte. */
  readonly timeout: number
  /** What finds the addresses that are connected to. */
  readonly lookup: LookupFunction | undefined
  readonly signal: AbortSignal
}

/** What servers say that do not know what they have. */
const ANY_TYPE: readonly string[] = ['application/octet-stream', 'binary/octet-stream']

/** Characters of a header that an error tells. */
const MOST_OF_HEADER = 60

/** @throws Error saying what is wrong, without the URL */
async function receive (url: URL, { accept, body, most, timeout, lookup, signal }: ReceiveOptions): Promise<Buffer> {
  const request = (url.protocol === 'https:' ? https : http).request(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      accept,
      'accept-encoding': 'identity',
      'user-agent': 'fastify-http-security',
      ...body !== undefined && { 'content-type': body.type, 'content-length': body.bytes.length }
    },
    agent: false, // no connection is kept, and no proxy of the environment is used
    insecureHTTPParser: false,
    lookup
  })
  let timer: NodeJS.Timeout | undefined
  let abort: (() => void) | undefined
  const answer = new Promise<Buffer>((resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`it took more than ${timeout / 1000} s`)) }, timeout)
    abort = () => { reject(signal.reason) }
    signal.addEventListener('abort', abort)
    request.on('error', reject)
    // An answer of status 101 closes without an error.
    const fail = (): void => { reject(new Error('it closes the connection without an answer')) }
    request.on('close', fail)
    request.on('response', (response) => {
      request.off('close', fail)
      readAnswer(response, accept, most).then(resolve, reject)
    })
  })
  try {
    request.end(body?.bytes)
    return await answer
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort!)
    request.destroy()
  }
}

async function readAnswer (response: IncomingMessage, accept: string, most: number): Promise<Buffer> {
  const problem = problemOfResponse(response, accept, most)
  if (problem !== undefined) throw new Error(problem)
  return readBody(response, most)
}

function problemOfResponse ({ statusCode, headers }: IncomingMessage, accept: string, most: number): string | undefined {
  if (statusCode! >= 300 && statusCode! < 400) return `it redirects (status ${statusCode}), which is not followed`
  if (statusCode !== 200) return `it answers with status ${statusCode}`
  const { 'content-encoding': coding = 'identity', 'content-type': type = ANY_TYPE[0], 'content-length': length } = headers
  if (coding.toLowerCase() !== 'identity') return `its content coding is '${printable(coding, MOST_OF_HEADER)}'`
  const essence = type.split(';')[0].trim().toLowerCase()
  const isAccepted = [...accept.split(',').map((type) => type.trim()), ...ANY_TYPE].includes(essence)
  if (!isAccepted) return `its content type is '${printable(type, MOST_OF_HEADER)}', not ${accept}`
  return Number(length) > most ? tooLong(most) : undefined
}

/** Copied as it comes: thousands of small pieces would take more memory than they hold. */
async function readBody (response: IncomingMessage, most: number): Promise<Buffer> {
  let bytes = Buffer.allocUnsafeSlow(Number(response.headers['content-length'] ?? 0))
  let length = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    const next = length + piece.length
    if (next > most) throw new Error(tooLong(most))
    if (next > bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(2 * next, most))
      bytes.copy(larger, 0, 0, length)
      bytes = larger
    }
    piece.copy(bytes, length)
    length = next
  }
  return length === bytes.length ? bytes : Buffer.from(bytes.subarray(0, length))
}

function tooLong (most: number): string {
  return `it has more than ${most} bytes`
}

/** What has failed is left alone for a while, and for longer each time. */

/** Milliseconds. */
const SHORTEST = 5_000
const LONGEST = 10 * 60_000

/** Of failures that are remembered. The ones that are forgotten first are those that have not failed for the longest time. */
const MOST = 10_000

interface Failure {
  readonly reason: string
  readonly times: number
  /** By the clock. */
  readonly until: number
}

export class Backoff {
  readonly #clock: () => number
  readonly #failures = new Map<string, Failure>()

  /** @param clock milliseconds since whenever */
  constructor (clock: () => number) {
    this.#clock = clock
  }

  /** Why something is left alone, and for how many milliseconds; undefined where it is not. */
  get (key: string): { readonly reason: string, readonly left: number } | undefined {
    const failure = this.#failures.get(key)
    const left = failure === undefined ? 0 : failure.until - this.#clock()
    return failure !== undefined && left > 0 ? { reason: failure.reason, left } : undefined
  }

  /** @returns milliseconds that it is left alone: 5 s at first, at most 10 min, less up to a quarter, lest all begin again at once */
  failed (key: string, reason: string): number {
    const times = (this.#failures.get(key)?.times ?? 0) + 1
    const delay = Math.min(SHORTEST * 2 ** (times - 1), LONGEST) * (1 - Math.random() / 4)
    this.#failures.delete(key)
    this.#failures.set(key, { reason, times, until: this.#clock() + delay })
    if (this.#failures.size > MOST) this.#failures.delete(this.#failures.keys().next().value!)
    return delay
  }

  succeeded (key: string): void {
    this.#failures.delete(key)
  }
}

/**
 * Where a URL that was found in a certificate may lead: to the public Internet, at the ports of HTTP. Whoever writes
 * certificates would else have this machine ask its neighbours (server-side request forgery).
 */

/** http and https. */
const USUAL_PORTS: readonly number[] = [80, 443]

/** What is not public, by the IANA's registries of special-purpose addresses (RFC 6890, RFC 8190). */
const SPECIAL: readonly string[] = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16',
  '192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '198.18.0.0/15', // benchmarks
  '224.0.0.0/3', // multicast, reserved, broadcast
  '168.63.129.16/32', // the host of each virtual machine at Azure, which is not registered
  // All but 2000::/3: with it go loopback, link-local, unique local, multicast, and IPv4 addresses that are mapped, translated (NAT64) or compatible.
  '::/3', '4000::/2', '8000::/1',
  '2001::/23', // Teredo, benchmarks, ORCHID
  '2001:db8::/32', '3fff::/20', // documentation
  '2002::/16' // 6to4
]

/** `[address or network]:port`, `name:port`; the port may be left out. */
const ENTRY = /^(?:\[([\da-f:.]+(?:\/\d{1,3})?)\]|([^\s:[\]?#@\\]+))(?::(\d{1,5}))?$/i

/** Addresses of one family: to a BlockList, `::/3` has those of IPv4 in it. */
interface Network {
  readonly family: 'ipv4' | 'ipv6'
  readonly addresses: BlockList
}

const special: readonly Network[] = SPECIAL.map((network) => networkOf(network)!)

/** Where requests may go. */
export class Destinations {
  readonly #networks: Array<Network & { readonly ports: readonly number[] }> = []
  /** Names with a port. */
  readonly #hosts = new Set<string>()
  readonly #ports = new Set(USUAL_PORTS)

  /**
   * @param allow what may be reached besides: addresses and networks (`10.1.0.0/16`, `[fd00::/8]:8080`), by whatever name, and
   * hosts (`ocsp.internal:8080`), at whatever address; at ports 80 and 443 where there is none
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for anything else
   */
  constructor (allow: readonly string[]) {
    for (const entry of allow) this.#allow(entry)
  }

  #allow (entry: string): void {
    const [, bracketed, plain, port] = isIPv6(entry.split('/')[0]) ? [undefined, entry] : ENTRY.exec(entry) ?? []
    const host = bracketed ?? plain ?? ''
    const ports = port === undefined ? USUAL_PORTS : [Number(port)]
    const network = networkOf(host)
    if (network !== undefined) this.#networks.push({ ...network, ports })
    else if (isName(host)) for (const port of ports) this.#hosts.add(`${host.toLowerCase()}:${port}`)
    else throw new InvalidOptionsError(`'${entry}' cannot be allowed: it must be an address or a network (10.1.0.0/16, [fd00::/8]:8080) or a host (ocsp.internal:8080)`)
    for (const port of ports) this.#ports.add(port)
  }

  /** Whether there is anything at this port that may be reached. */
  hasPort (port: number): boolean {
    return this.#ports.has(port)
  }

  /** Whether this host was named, so that it may be reached wherever it is. */
  hasHost (host: string, port: number): boolean {
    return this.#hosts.has(`${host}:${port}`)
  }

  /** Whether a connection may be made to an address. What is none may not. */
  hasAddress (address: string, port: number): boolean {
    if (isIP(address) === 0) return false
    if (this.#networks.some((network) => network.ports.includes(port) && isIn(network, address))) return true
    return USUAL_PORTS.includes(port) && !special.some((network) => isIn(network, address))
  }
}

function isIn ({ family, addresses }: Network, address: string): boolean {
  return familyOf(address) === family && addresses.check(address, family)
}

function familyOf (address: string): Network['family'] {
  return isIPv6(address) ? 'ipv6' : 'ipv4'
}

/** Undefined where it is neither an address nor a network. */
function networkOf (text: string): Network | undefined {
  const [address, prefix, ...more] = text.split('/')
  const family = familyOf(address)
  const bits = family === 'ipv4' ? 32 : 128
  const length = prefix === undefined ? bits : Number(prefix)
  if (isIP(address) === 0 || more.length > 0 || prefix === '' || !(length <= bits)) return undefined
  const addresses = new BlockList()
  addresses.addSubnet(address, length, family)
  return { family, addresses }
}

/** A name of ASCII as URLs have it, which is no address in disguise (`127.1`). */
function isName (host: string): boolean {
  return /^[\w.-]+$/.test(host) && URL.canParse(`http://${host}`) && new URL(`http://${host}`).hostname === host.toLowerCase()
}
