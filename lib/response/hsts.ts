/** HTTP Strict Transport Security (RFC 6797): its value, and that answers over plain HTTP do not have it; `@fastify/helmet`. */
import type { OutgoingHttpHeaders } from 'node:http'
import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { HstsPolicy } from '../../types/policy.ts'
import { createWrap, type GivenHeaders, objectOf, type WriteHead } from './write-head.ts'

const NAME = 'strict-transport-security'

/** The value of Strict-Transport-Security (RFC 6797 §6.1). Worked out once for each policy. */
export function hstsHeader ({ maxAge, includeSubDomains, preload }: HstsPolicy): string {
  return `max-age=${maxAge}${includeSubDomains === true ? '; includeSubDomains' : ''}${preload === true ? '; preload' : ''}`
}

type Respond = (this: ServerHttp2Stream, headers?: OutgoingHttpHeaders, ...rest: unknown[]) => void

/** Takes the header out of answers over plain HTTP, which must not have it (RFC 6797 §7.2), also where a handler or plugin has set it. */
export function createWithholdHsts (): (reply: FastifyReply) => void {
  const wrapWriteHead = createWrap<WriteHead>((inner) => function writeHead (statusCode, reason, headers) {
    if (this.hasHeader(NAME)) this.removeHeader(NAME)
    const given = headers ?? reason
    return isNamed(given) ? inner.call(this, statusCode, typeof reason === 'string' ? reason : undefined, without(given)) : inner.call(this, statusCode, reason, headers)
  })
  // Over HTTP/2, Node writes an implicit head without writeHead.
  const wrapRespond = createWrap<Respond>((inner) => function respond (headers, ...rest) {
    return inner.call(this, isNamed(headers) ? without(headers) : headers, ...rest)
  })

  return function withholdHsts ({ raw }) {
    const { stream } = raw as unknown as Partial<Http2ServerResponse>
    if (stream === undefined) raw.writeHead = wrapWriteHead(raw.writeHead as unknown as WriteHead) as never
    else stream.respond = wrapRespond(stream.respond as Respond) as never
  }
}

function isNamed (given: GivenHeaders): given is Exclude<GivenHeaders, string | null | undefined> {
  if (typeof given !== 'object' || given === null) return false
  for (const name in Array.isArray(given) ? objectOf(given) : given) if (isName(name)) return true
  return false
}

/** A copy: the caller may use its object again, or have frozen it. */
function without (given: GivenHeaders): OutgoingHttpHeaders {
  const headers = { ...objectOf(given) }
  for (const name of Object.keys(headers)) if (isName(name)) delete headers[name]
  return headers
}

function isName (name: string): boolean {
  return name.length === NAME.length && name.toLowerCase() === NAME
}

/** Registers `@fastify/helmet`, where the option `helmet` is given. Without its HSTS: that depends on how a request came. */
export async function registerHelmet (app: FastifyInstance, options: FastifyHelmetOptions): Promise<void> {
  const { default: helmet } = await import('@fastify/helmet')
  const { hsts, strictTransportSecurity, ...rest } = options
  await app.register(helmet, { ...rest, hsts: false })
}
