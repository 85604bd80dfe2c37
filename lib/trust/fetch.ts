/**
 * HTTP requests for CRLs and OCSP responses, at URLs that certificates name. Begin with `Fetcher.fetch`. Further down: one
 * request (`receive`), pauses after failures (`Backoff`), and protection against SSRF (`Destinations`).
 *
 * The owner of such a URL is known, because the path to an anchor was verified, but the owner may be an attacker, and there
 * may be another one on the network. So the address of each connection is checked, and the requests for one owner are
 * limited, so that no owner delays the others.
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
  /** Destinations besides public addresses at ports 80 and 443: see {@link Destinations}. */
  readonly allow?: readonly string[]
  /** By default, the system's name servers, as they are configured at the time of a request. */
  readonly resolver?: Pick<Resolver, 'resolve4' | 'resolve6'>
  /** A monotonic clock in milliseconds, for pauses after failures. */
  readonly clock?: () => number
}

export interface FetchOptions {
  /** The CA, or the administrator, whose share of requests this uses: see `ownerOf` in revocation.ts. */
  readonly owner: string
  /** Media types, separated by commas. */
  readonly accept: string
  /** The body of a POST request. */
  readonly body?: { readonly type: string, readonly bytes: Buffer }
  /** Bytes of the answer, at most. */
  readonly most: number
  /** Milliseconds from the DNS lookup to the last byte; 10 s by default. */
  readonly timeout?: number
  /** Ends the waiting, and also the request where no other caller waits for it. */
  readonly signal?: AbortSignal
}

/** Limits for each owner. */
const MOST_AT_ONCE = 4
const MOST_WAITING = 1000
export const MOST_URLS = 100

/** Milliseconds after which a URL that was not requested makes room for another one: CRLs are renewed once a day. */
const URL_LIFE = 26 * 60 * 60_000

/** Milliseconds. */
const TIMEOUT = 10_000
const DNS_TIMEOUT = 2_000

/** Characters of a URL; and of a URL or an error in messages. */
const MOST_URL = 2048
const MOST_PRINTED = 200

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
   * The content at a URL. Calls for the same URL, owner and body share one request while it is pending, with the options of
   * the first call. After a failure, there is no request until a pause is over.
   *
   * @throws Error that says what is wrong, with the URL as of {@link publicUrl}; or the reason of the signal
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

  /** Milliseconds until a URL that has failed for this owner is requested again; 0 where it has not failed. */
  delayOf (url: string, owner: string): number {
    return URL.canParse(url) ? this.#backoff.get(failureKey(url, owner))?.left ?? 0 : 0
  }

  /** Whether a URL may be requested for an owner. Counts it from now on; the first URLs are admitted, up to a limit. */
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
        this.#assertNotFailed(failure) // it may have failed for others while this waited
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
    // Node makes no lookup for an IP address, so it is checked here.
    if (isIP(host) !== 0 && !this.#destinations.hasAddress(host, port)) throw new Error(`${host} is not a public address`)
    url.hash = ''
    return url
  }

  /**
   * The only DNS lookup for a connection, so that a name that has another address the next time (DNS rebinding) is of no
   * use. Undefined for hosts that the administrator has named: the system resolves them.
   *
   * All others are looked up by DNS queries, which need no thread. The system's `getaddrinfo` would block one of few
   * threads for as long as a name server does not answer, and the author of a certificate chooses the name server.
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

  /** One address at least. */
  async #addressesOf (hostname: string, port: number): Promise<LookupAddress[]> {
    // A new one each time: a resolver keeps the name servers that were configured when it was made.
    const resolver = this.#resolver ?? new Resolver({ timeout: DNS_TIMEOUT, tries: 2 })
    const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const addresses = answers.flatMap((answer) => answer.status === 'fulfilled' ? answer.value : [])
    const allowed = addresses.filter((address) => this.#destinations.hasAddress(address, port))
    if (allowed.length > 0) return allowed.map((address) => ({ address, family: isIP(address) }))
    if (addresses.length > 0) throw new Error(`${addresses[0]} is not a public address`)
    throw answers.find((answer) => answer.status === 'rejected')?.reason ?? new Error(`${hostname} has no address`)
  }
}

/** The requests of one owner. */
class Owner {
  readonly pending = new Map<string, Pending>()
  /** When each URL was requested, by the clock. */
  readonly #urls = new Map<string, number>()
  readonly #waiting: Array<() => void> = []
  #running = 0

  /** False where there are too many URLs. */
  admit (url: string, now: number): boolean {
    if (!this.#urls.has(url) && this.#urls.size >= MOST_URLS) {
      for (const [other, at] of this.#urls) if (at < now - URL_LIFE) this.#urls.delete(other)
      if (this.#urls.size >= MOST_URLS) return false
    }
    this.#urls.set(url, now)
    return true
  }

  /** Waits until there are few enough running requests. Throws where too many are waiting. */
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

/** A request that several callers may wait for. It is aborted when no caller waits any more. */
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
    if (signal !== undefined) setMaxListeners(0, signal) // one signal may be for thousands of requests
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

/** A URL for logs: without user name, password, query and fragment. */
export function publicUrl (url: string): string {
  if (!URL.canParse(url)) return 'an unreadable URL'
  const { protocol, host, pathname } = new URL(url)
  return printable(`${protocol}//${host}${pathname}`, MOST_PRINTED)
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

/** Node has no message where several addresses have failed. A server's certificate may put any text into a message. */
function reasonOf (error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  return printable(message === '' ? String(code) : message, MOST_PRINTED)
}

// One HTTP request: no redirects, no content coding, no persistent connections; time and bytes are limited

/** As in {@link FetchOptions}. */
interface ReceiveOptions {
  readonly accept: string
  readonly body?: { readonly type: string, readonly bytes: Buffer }
  readonly most: number
  readonly timeout: number
  /** The DNS lookup; undefined for the system's. */
  readonly lookup: LookupFunction | undefined
  readonly signal: AbortSignal
}

/** Media types of servers that do not know the type of their files. */
const ANY_TYPE: readonly string[] = ['application/octet-stream', 'binary/octet-stream']

/** Characters of a header field in an error. */
const MOST_OF_HEADER = 60

/** @throws Error that says what is wrong, without the URL */
async function receive (url: URL, { accept, body, most, timeout, lookup, signal }: ReceiveOptions): Promise<Buffer> {
  const request = (url.protocol === 'https:' ? https : http).request(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      accept,
      'accept-encoding': 'identity',
      'user-agent': 'fastify-http-security',
      ...body !== undefined && { 'content-type': body.type, 'content-length': body.bytes.length }
    },
    agent: false, // no kept connection, and no proxy from the environment
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
    // Node closes an answer with status 101 without an error.
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

/** Copies each chunk into one buffer: thousands of small chunks would take more memory than their content. */
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

// Backoff: after a failure, a URL is left alone, each time for longer

/** Milliseconds. */
const SHORTEST = 5_000
const LONGEST = 10 * 60_000

/** Failures that are remembered; the oldest ones are forgotten first. */
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

  /** @param clock a monotonic clock in milliseconds */
  constructor (clock: () => number) {
    this.#clock = clock
  }

  /** The last failure, and the milliseconds until its pause is over; undefined where there is no pause. */
  get (key: string): { readonly reason: string, readonly left: number } | undefined {
    const failure = this.#failures.get(key)
    const left = failure === undefined ? 0 : failure.until - this.#clock()
    return failure !== undefined && left > 0 ? { reason: failure.reason, left } : undefined
  }

  /** @returns the pause in milliseconds: from 5 s to 10 min, less up to a quarter at random, so that not all retry at once */
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

// Destinations: protection against server-side request forgery (SSRF)
// A URL from a certificate may lead to the public Internet only, at the ports of HTTP and HTTPS. Otherwise the author of a
// certificate could make this machine send requests to its neighbours.

/** http and https. */
const USUAL_PORTS: readonly number[] = [80, 443]

/** Addresses that are not public, by the IANA's registries of special-purpose addresses (RFC 6890, RFC 8190). */
const SPECIAL: readonly string[] = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16',
  '192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '198.18.0.0/15', // benchmarks
  '224.0.0.0/3', // multicast, reserved, broadcast
  '168.63.129.16/32', // the host of every virtual machine at Azure, which is not in the registries
  // All but 2000::/3: loopback, link-local, unique local, multicast, and IPv4 addresses (mapped, NAT64, compatible)
  '::/3', '4000::/2', '8000::/1',
  '2001::/23', // Teredo, benchmarks, ORCHID
  '2001:db8::/32', '3fff::/20', // documentation
  '2002::/16' // 6to4
]

/** `[address or network]:port` or `name:port`; the port is optional. */
const ENTRY = /^(?:\[([\da-f:.]+(?:\/\d{1,3})?)\]|([^\s:[\]?#@\\]+))(?::(\d{1,5}))?$/i

/** Addresses of one family: a BlockList would find IPv4 addresses in `::/3`. */
interface Network {
  readonly family: 'ipv4' | 'ipv6'
  readonly addresses: BlockList
}

const special: readonly Network[] = SPECIAL.map((network) => networkOf(network)!)

export class Destinations {
  readonly #networks: Array<Network & { readonly ports: readonly number[] }> = []
  /** `name:port`. */
  readonly #hosts = new Set<string>()
  readonly #ports = new Set(USUAL_PORTS)

  /**
   * @param allow more destinations: addresses and networks (`10.1.0.0/16`, `[fd00::/8]:8080`), whatever the host name, and
   * hosts (`ocsp.internal:8080`), whatever the address; at ports 80 and 443 where no port is given
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

  /** Whether any destination has this port. */
  hasPort (port: number): boolean {
    return this.#ports.has(port)
  }

  /** Whether this host was allowed by name, and so at any address. */
  hasHost (host: string, port: number): boolean {
    return this.#hosts.has(`${host}:${port}`)
  }

  /** Whether a connection to this address is allowed; false where it is not an IP address. */
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

/** Undefined where the text is neither an address nor a network. */
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

/** An ASCII host name as in a URL, but not an IPv4 address in another notation (`127.1`). */
function isName (host: string): boolean {
  return /^[\w.-]+$/.test(host) && URL.canParse(`http://${host}`) && new URL(`http://${host}`).hostname === host.toLowerCase()
}
