/**
 * One request over HTTP for a revocation list or an OCSP answer: nothing is followed, decoded or kept open, and time and bytes
 * are bounded.
 */
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { printable } from '../printable.ts'

export interface ReceiveOptions {
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
export async function receive (url: URL, { accept, body, most, timeout, lookup, signal }: ReceiveOptions): Promise<Buffer> {
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
