/**
 * An ACME client (RFC 8555) with renewal information (RFC 9773). Begin with `AcmeClient`; further down are signatures
 * (`signed`) and one HTTPS request (`exchange`).
 *
 * Why not acme-client? Its errors are text: the type of a problem and its Retry-After, which say when one may ask again, are
 * lost. It repeats by itself what a CA has refused for its rate limits, five times, and knows no limits of size and time, nor
 * RFC 9773. It brings 51 packages for what is here.
 */
import { createHash, createHmac, createPublicKey, type KeyObject, sign } from 'node:crypto'
import https from 'node:https'
import type { IncomingHttpHeaders } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { printable } from '../text.ts'

/** Where an ACME server is, and how it is reached. */
export interface AcmeServer {
  readonly directoryUrl: string
  /** Of CAs that vouch for the server, in PEM, instead of the public roots. */
  readonly ca: readonly string[] | undefined
  /** Ends requests and pauses. */
  readonly signal: AbortSignal
}

/** RFC 8555 §7.3.4. */
export interface AccountBinding {
  readonly kid: string
  readonly hmacKey: Buffer
}

/** RFC 8555 §7.1.3. */
export interface Order {
  readonly status: string
  readonly authorizations: readonly string[]
  readonly finalize: string
  /** The URL of the certificate, once the status is `valid`. */
  readonly certificate: string | undefined
  /** Why it is `invalid`. */
  readonly problem: AcmeProblem | undefined
}

/** RFC 8555 §7.1.4. */
export interface Authorization {
  readonly status: string
  /** Without `*.`. */
  readonly host: string
  readonly challenges: readonly Challenge[]
}

/** RFC 8555 §7.1.5, §8. */
interface Challenge {
  readonly type: string
  readonly url: string
  readonly status: string
  readonly token: string
  readonly problem: AcmeProblem | undefined
}

/** RFC 9773 §4.2, in milliseconds since the epoch. */
export interface RenewalInfo {
  readonly start: number
  readonly end: number
  /** When to ask again. */
  readonly askAgain: number | undefined
}

/** What an ACME server says is wrong (RFC 7807, RFC 8555 §6.7). */
export class AcmeProblem extends Error {
  /** Without `urn:ietf:params:acme:error:`: `rateLimited`; `unknown` where the server names none. */
  readonly type: string
  /** Of the answer; of a failed validation, 0. */
  readonly status: number
  /** Retry-After, in milliseconds since the epoch. */
  readonly retryAt: number | undefined

  /** @param host that it is about, for the message */
  constructor (problem: unknown, status: number, retryAt?: number, host?: string) {
    const { type = '', detail, subproblems } = Object(problem) as Record<string, unknown>
    const name = String(type).replace(ERRORS, '') || 'unknown'
    const details = [detail, ...[subproblems].flat().map((each) => (Object(each) as Record<string, unknown>).detail)].filter((each) => typeof each === 'string')
    super(printable([...host === undefined ? [] : [host], name, details.length === 0 ? `status ${status}` : details.join('; ')].join(': '), MOST_PRINTED))
    this.type = name
    this.status = status
    this.retryAt = retryAt
  }
}

const ERRORS = 'urn:ietf:params:acme:error:'
/** Characters of what a server says, for logs. */
const MOST_PRINTED = 1_000
/** A server may take any nonce for a bad one (RFC 8555 §6.5). */
const MOST_NONCES = 30
/** RFC 8555 §6.5.1. */
const NONCE = /^[\w-]+$/
/** RFC 8555 §8.3: base64url; and bounded, because it becomes a part of a path. */
const TOKEN = /^[\w-]{1,128}$/

interface Directory {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
  /** Undefined where the server has no renewal information. */
  readonly renewalInfo: string | undefined
}

export class AcmeClient {
  readonly #server: AcmeServer
  #directory: Promise<Directory> | undefined
  #nonce: string | undefined
  #account: { readonly key: KeyObject, readonly url: string | undefined } | undefined

  constructor (server: AcmeServer) {
    this.#server = server
  }

  /** Signs with this key from now on: as the account of this URL, if it is known. */
  use (key: KeyObject, url: string | undefined): void {
    this.#account = { key, url }
  }

  /**
   * Registers the key, or finds the account that it has (RFC 8555 §7.3).
   *
   * @returns the URL of the account
   */
  async register (email: string | undefined, binding: AccountBinding | undefined): Promise<string> {
    const { newAccount } = await this.#getDirectory()
    const { key } = this.#account!
    const account = urlIn(await this.#post(newAccount, {
      termsOfServiceAgreed: true,
      ...email !== undefined && { contact: [`mailto:${email}`] },
      ...binding !== undefined && { externalAccountBinding: boundBy(binding, newAccount, key) }
    }), 'location')
    this.use(key, account)
    return account
  }

  /** @param replaces the certificate that this one is for, as of `certificateId` (RFC 9773 §5) */
  async newOrder (hosts: readonly string[], replaces: string | undefined): Promise<{ readonly url: string, readonly order: Order }> {
    const { newOrder, renewalInfo } = await this.#getDirectory()
    const answer = await this.#post(newOrder, {
      identifiers: hosts.map((value) => ({ type: 'dns', value })),
      ...renewalInfo !== undefined && replaces !== undefined && { replaces }
    })
    return { url: urlIn(answer, 'location'), order: orderIn(answer) }
  }

  /** An order, once it is in a state that is waited for. */
  async order (url: string, isEnough: (order: Order) => boolean = () => true): Promise<Order> {
    return await this.#poll(url, orderIn, isEnough)
  }

  /** An authorization, once it is in a state that is waited for. */
  async authorization (url: string, isEnough: (authorization: Authorization) => boolean = () => true): Promise<Authorization> {
    return await this.#poll(url, authorizationIn, isEnough)
  }

  /** Says that a challenge can be validated now (RFC 8555 §7.5.1). */
  async respond (challengeUrl: string): Promise<void> {
    await this.#post(challengeUrl, {})
  }

  async finalize (url: string, request: Buffer): Promise<void> {
    await this.#post(url, { csr: request.toString('base64url') })
  }

  /** The chain in PEM (RFC 8555 §7.4.2), not checked. */
  async download (url: string): Promise<string> {
    return (await this.#post(url)).bytes.toString()
  }

  /** What a challenge is answered with (RFC 8555 §8.1). */
  keyAuthorization (token: string): string {
    // RFC 7638 §3: the members that are required, in this order, without white space.
    const { crv, kty, x, y } = jwkOf(this.#account!.key)
    return `${token}.${digest(JSON.stringify({ crv, kty, x, y }))}`
  }

  /** Undefined where the server has none. */
  async renewalInfo (id: string): Promise<RenewalInfo | undefined> {
    const { renewalInfo } = await this.#getDirectory()
    if (renewalInfo === undefined) return undefined
    const answer = await this.#get(`${renewalInfo}/${id}`)
    const { start, end } = Object(jsonIn(answer).suggestedWindow) as Record<string, unknown>
    const window = { start: Date.parse(String(start)), end: Date.parse(String(end)) }
    // RFC 9773 §4.2: anything else is to be treated as if there were no answer.
    if (!(window.start < window.end)) throw new Error(`${hostOf(renewalInfo)}: its suggested window is none`)
    return { ...window, askAgain: answer.retryAt }
  }

  async #getDirectory (): Promise<Directory> {
    this.#directory ??= this.#get(this.#server.directoryUrl).then((answer) => {
      const directory = jsonIn(answer)
      const [newNonce, newAccount, newOrder] = [urlIn(directory, 'newNonce'), urlIn(directory, 'newAccount'), urlIn(directory, 'newOrder')]
      return { newNonce, newAccount, newOrder, renewalInfo: directory.renewalInfo === undefined ? undefined : urlIn(directory, 'renewalInfo') }
    })
    return await this.#directory
  }

  async #get (url: string): Promise<Answer> {
    return successOf(await this.#exchange(url, 'GET'))
  }

  /** @param payload undefined for POST-as-GET (RFC 8555 §6.3) */
  async #post (url: string, payload?: object): Promise<Answer> {
    const { key, url: kid } = this.#account!
    for (let left = MOST_NONCES; ; left--) {
      const nonce = await this.#takeNonce()
      const header = { alg: 'ES256', nonce, url, ...kid === undefined ? { jwk: jwkOf(key) } : { kid } }
      const body = signed(header, payload, (text) => sign('sha256', text, { key, dsaEncoding: 'ieee-p1363' }))
      try {
        return successOf(await this.#exchange(url, 'POST', body))
      } catch (error) {
        if (!(error instanceof AcmeProblem && error.type === 'badNonce') || left === 0) throw error
      }
    }
  }

  /** Each answer brings one (RFC 8555 §6.5.1). */
  async #takeNonce (): Promise<string> {
    if (this.#nonce === undefined) successOf(await this.#exchange((await this.#getDirectory()).newNonce, 'HEAD'))
    const nonce = this.#nonce
    this.#nonce = undefined
    if (nonce === undefined) throw new Error(`${hostOf(this.#server.directoryUrl)} gives no nonce`)
    return nonce
  }

  /** Asks again and again, as often as the server wants (RFC 8555 §7.5.1). */
  async #poll<State> (url: string, stateIn: (answer: Answer) => State, isEnough: (state: State) => boolean): Promise<State> {
    const end = performance.now() + LONGEST_POLL
    let answer = await this.#post(url)
    let state = stateIn(answer)
    for (let pause = FIRST_POLL; !isEnough(state); pause = Math.min(2 * pause, LAST_POLL)) {
      const wait = Math.max(pause, (answer.retryAt ?? 0) - Date.now())
      if (performance.now() + wait > end) throw new Error(`${answer.host} is not ready after ${LONGEST_POLL / 60_000} minutes`)
      await delay(wait, undefined, { signal: this.#server.signal, ref: false })
      answer = await this.#post(url)
      state = stateIn(answer)
    }
    return state
  }

  async #exchange (url: string, method: string, body?: object): Promise<Answer> {
    const { ca, signal } = this.#server
    const answer = await exchange(url, { method, body, ca, signal })
    const { 'replay-nonce': nonce } = answer.headers
    if (typeof nonce === 'string' && NONCE.test(nonce)) this.#nonce = nonce
    return answer
  }
}

/** Milliseconds. */
const FIRST_POLL = 250
const LAST_POLL = 5_000
const LONGEST_POLL = 10 * 60_000

/** The thumbprint and digest of RFC 8555: SHA-256 in base64url. */
export function digest (text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

// Answers: what a server says is checked before it is used

function orderIn (answer: Answer): Order {
  const order = jsonIn(answer)
  const { authorizations, certificate, error } = order
  if (!Array.isArray(authorizations)) throw new Error(`${answer.host}: its order has no authorizations`)
  return {
    status: String(order.status),
    authorizations: authorizations.map((_, index) => urlIn(authorizations, String(index))),
    finalize: urlIn(order, 'finalize'),
    certificate: certificate === undefined ? undefined : urlIn(order, 'certificate'),
    problem: error === undefined ? undefined : new AcmeProblem(error, 0)
  }
}

function authorizationIn (answer: Answer): Authorization {
  const { status, identifier, challenges } = jsonIn(answer)
  const host = String((Object(identifier) as Record<string, unknown>).value).toLowerCase()
  return {
    status: String(status),
    host,
    challenges: [challenges].flat().map((each) => {
      const { type, status, token, url, error } = Object(each) as Record<string, unknown>
      // Types that we do not know may have neither.
      return { type: String(type), url: String(url), status: String(status), token: TOKEN.test(String(token)) ? String(token) : '', problem: error === undefined ? undefined : new AcmeProblem(error, 0, undefined, host) }
    })
  }
}

function jsonIn ({ host, bytes }: Answer): Record<string, unknown> {
  try {
    return Object(JSON.parse(bytes.toString())) as Record<string, unknown>
  } catch {
    throw new Error(`${host}: its answer is no JSON`)
  }
}

function urlIn (parent: object, name: string): string {
  const url: unknown = Reflect.get(parent, name)
  if (typeof url !== 'string' || !isHttps(url)) throw new Error(`the ACME server names no URL for ${name}`)
  return url
}

/** RFC 8555 §6.1. */
export function isHttps (url: string): boolean {
  return URL.canParse(url) && new URL(url).protocol === 'https:'
}

function successOf (answer: Answer): Answer {
  const { status, retryAt, bytes } = answer
  if (status >= 200 && status < 300) return answer
  let problem: unknown
  try {
    problem = JSON.parse(bytes.toString())
  } catch {
    // Of a proxy, or of a server that is down: the status has to do.
  }
  throw new AcmeProblem(problem, status, retryAt)
}

// Signatures: JWS (RFC 7515) in the flattened form, as RFC 8555 §6.2 has it

function signed (header: object, payload: object | undefined, signatureOf: (text: Buffer) => Buffer): object {
  const [head, body] = [header, payload].map((part) => part === undefined ? '' : Buffer.from(JSON.stringify(part)).toString('base64url'))
  return { protected: head, payload: body, signature: signatureOf(Buffer.from(`${head}.${body}`)).toString('base64url') }
}

function boundBy ({ kid, hmacKey }: AccountBinding, url: string, key: KeyObject): object {
  return signed({ alg: 'HS256', kid, url }, jwkOf(key), (text) => createHmac('sha256', hmacKey).update(text).digest())
}

/** The public key of a P-256 key pair (RFC 7517). */
function jwkOf (key: KeyObject): Record<string, unknown> {
  return { ...createPublicKey(key).export({ format: 'jwk' }) }
}

// One HTTPS request: no redirects, and no coding of the content; time and bytes are limited

interface Answer {
  readonly host: string
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly bytes: Buffer
  /** Of Location (RFC 9110 §10.2.2); the empty string without one. */
  readonly location: string
  /** Retry-After (RFC 9110 §10.2.3), in milliseconds since the epoch. */
  readonly retryAt: number | undefined
}

interface Exchange {
  readonly method: string
  readonly body: object | undefined
  readonly ca: readonly string[] | undefined
  readonly signal: AbortSignal
}

/** Milliseconds from the DNS lookup to the last byte; bytes of an answer. */
const TIMEOUT = 30_000
const MOST = 1024 * 1024

/** @throws Error with the host and what is wrong */
async function exchange (url: string, { method, body, ca, signal }: Exchange): Promise<Answer> {
  const host = hostOf(url)
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const end = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)])
  try {
    return await new Promise((resolve, reject) => {
      const request = https.request(url, {
        method,
        agent: false, // no kept connection, and no proxy from the environment
        signal: end,
        ...ca !== undefined && { ca: [...ca] },
        headers: {
          'accept-encoding': 'identity',
          'user-agent': 'fastify-http-security',
          ...payload !== undefined && { 'content-type': 'application/jose+json', 'content-length': payload.length }
        }
      }, (response) => {
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
          size += chunk.length
          if (size > MOST) request.destroy(new Error(`its answer has more than ${MOST} bytes`))
        })
        response.on('error', reject)
        response.on('end', () => resolve({
          host,
          status: response.statusCode!,
          headers: response.headers,
          bytes: Buffer.concat(chunks),
          location: String(response.headers.location ?? ''),
          retryAt: retryAtOf(response.headers['retry-after'])
        }))
      })
      request.on('error', reject)
      // Of an answer 101 (RFC 9110 §15.2.2), Node tells nothing but this.
      request.on('close', () => { reject(new Error(`${host} has not answered`)) })
      request.end(payload)
    })
  } catch (cause) {
    signal.throwIfAborted()
    const { message, code } = cause as NodeJS.ErrnoException
    throw new Error(`${host}: ${end.aborted ? `it took more than ${TIMEOUT / 1_000} s` : printable(code ?? message, MOST_PRINTED)}`, { cause })
  }
}

function hostOf (url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'the ACME server'
}

/** Seconds, or a date (RFC 9110 §10.2.3). */
function retryAtOf (value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const at = /^\d{1,9}$/.test(value) ? Date.now() + Number(value) * 1_000 : Date.parse(value)
  return Number.isNaN(at) ? undefined : at
}
