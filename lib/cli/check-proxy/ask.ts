/** Requests of `check-proxy`, each on a connection of its own: a proxy may close one that it does not like. */
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import { isIP } from 'node:net'
import type { Readable } from 'node:stream'
import tls, { type SecureContext } from 'node:tls'
import { PROBE_HEADER } from '../../proxy/probe-token.ts'
import type { Protocol } from './forgeries.ts'

export interface Target {
  /** As it was given, without a slash at its end. */
  readonly name: string
  /** Of the probe. */
  readonly url: URL
  /** Without TLS. */
  readonly isPlain: boolean
  readonly token: string
  /** Whom to trust, and how to identify oneself. */
  readonly tls: { readonly ca?: Buffer, readonly cert?: Buffer | string, readonly key?: Buffer | string }
  /** Of the certificate that this command identifies itself with, in lower-case hex digits. */
  readonly fingerprint256: string | undefined
  /** Milliseconds that a request may take, its connection included. */
  readonly timeout: number
}

export interface Reply {
  readonly status: number
  /** Where a redirect leads to. */
  readonly location: string | undefined
  readonly body: string
}

export type Headers = Readonly<Record<string, string | string[]>>

/** The answer of a probe is a few certificates long. */
const MOST_CHARACTERS = 1024 * 1024

/** Node would read certificates and keys for each connection anew. */
const contexts = new WeakMap<Target['tls'], SecureContext>()

function contextOf (options: Target['tls']): SecureContext {
  const context = contexts.get(options) ?? tls.createSecureContext(options)
  contexts.set(options, context)
  return context
}

export const request: Record<Protocol, (target: Target, headers: Headers) => Promise<Reply>> = { 'HTTP/1.1': askHttp1, 'HTTP/2': askHttp2 }

async function askHttp1 ({ url, isPlain, token, tls, timeout }: Target, headers: Headers): Promise<Reply> {
  const options = { headers: { Accept: 'application/json', Connection: 'close', [PROBE_HEADER]: token, ...headers } }
  const request = isPlain ? http.request(url, { ...options, agent: false }) : https.request(url, { ...options, agent: new https.Agent({ secureContext: contextOf(tls) }) })
  return await within(timeout, request, async () => {
    request.end()
    const [response] = await once(request, 'response')
    return { status: response.statusCode, location: response.headers.location, body: await bodyOf(response) }
  })
}

async function askHttp2 ({ url, token, tls, timeout }: Target, headers: Headers): Promise<Reply> {
  const session = http2.connect(url, { secureContext: contextOf(tls), settings: { enablePush: false } })
  return await within(timeout, session, async () => {
    const closed = once(session, 'close').then(() => { throw new Error('the connection was closed') })
    // Whatever becomes of the request, or if there is none, as with a name or value that cannot be sent.
    closed.catch(() => {})
    const stream = session.request({ ':path': url.pathname, accept: 'application/json', [PROBE_HEADER]: token, ...headers })
    // Also by a server that gives no reason.
    stream.on('error', () => {}).once('close', () => session.destroy())
    try {
      const [answer] = await Promise.race([once(stream, 'response'), closed])
      return { status: answer[':status'], location: answer.location, body: await bodyOf(stream) }
    } catch (error) {
      if (isMalformed(error)) return { status: 400, location: undefined, body: '' }
      throw error
    }
  })
}

/** RFC 9113 §8.1.1: what HTTP/1.1 would answer with 400. */
function isMalformed (error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ERR_HTTP2_STREAM_ERROR' && message.endsWith('PROTOCOL_ERROR')
}

/** Whether a server speaks HTTP/2, which it says in the handshake (RFC 7301). */
export async function offersHttp2 ({ url, tls: options, timeout }: Pick<Target, 'url' | 'tls' | 'timeout'>): Promise<boolean> {
  // IPv6 addresses have brackets in URLs alone, and addresses are no names (RFC 6066 §3).
  const host = url.hostname.replaceAll(/[[\]]/g, '')
  const socket = tls.connect({ ...options, host, port: Number(url.port || 443), ALPNProtocols: ['h2', 'http/1.1'], ...isIP(host) === 0 && { servername: host } })
  return await within(timeout, socket, async () => {
    await once(socket, 'secureConnect')
    return socket.alpnProtocol === 'h2'
  })
}

/** Without an address to try that is not there, or that this machine has no way to. */
const NO_WAY: ReadonlySet<string | undefined> = new Set(['ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL'])

/** Whether nothing listens there: each address of a name may have failed in its own way. */
export function isNobodyThere (error: unknown): boolean {
  const { errors = [error] } = error as { errors?: readonly unknown[] }
  const codes = errors.map((one) => (one as NodeJS.ErrnoException).code)
  return codes.includes('ECONNREFUSED') && codes.every((code) => NO_WAY.has(code))
}

interface Exchange {
  on (event: 'error', listener: () => void): unknown
  destroy (error?: Error): unknown
}

/** Nothing is waited for in vain, and nothing is left open. */
async function within<Result> (timeout: number, exchange: Exchange, run: () => Promise<Result>): Promise<Result> {
  // Some come when nobody asks any more.
  exchange.on('error', () => {})
  let timer: NodeJS.Timeout | undefined
  // Not by destroying it: what has ended without a word (after 101, say) does not tell of that, either.
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeout / 1000} seconds`)), timeout)
  })
  try {
    return await Promise.race([run(), late])
  } finally {
    clearTimeout(timer)
    exchange.destroy()
  }
}

async function bodyOf (stream: Readable): Promise<string> {
  let body = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    body += chunk
    if (body.length > MOST_CHARACTERS) throw new Error('the answer is too long')
  }
  return body
}
