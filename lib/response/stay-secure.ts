/**
 * What is on its way to a client that came over HTTPS keeps it there, whoever wrote it: looked at when the head is
 * written, after every hook and plugin.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Options } from '../options/resolve.ts'
import { certificateHeaderNames } from '../proxy/certificate.ts'
import { keepPrivate } from './caching.ts'
import { secureCookie } from './cookies.ts'
import { type WriteHead, createWrap, objectOf } from './head.ts'

type Rewrite = (value: string) => string

interface DowngradeProtectionTools {
  readonly location: (value: string, request: ServerResponse['req']) => string
  /** Whether an answer is for the holder of the certificate that a proxy forwarded with the request. */
  readonly dependsOnForwarded: (request: object) => boolean
}

/** Answers what to call with each reply to a request that came over HTTPS, if there is anything to do. */
export function createDowngradeProtection (options: Pick<Options, 'mode' | 'secureCookies' | 'proxy'>, { location, dependsOnForwarded }: DowngradeProtectionTools): ((reply: FastifyReply) => void) | undefined {
  const rewrites = options.mode === 'enforce'
  const secureCookies = rewrites && options.secureCookies
  const certificate = options.proxy?.certificate
  if (!rewrites && certificate === undefined) return undefined
  const vary = certificate === undefined ? '' : certificateHeaderNames(certificate).join(', ')
  const wrap = createWrap<WriteHead>((inner) => function writeHead (statusCode, reason, headers) {
    // Nobody follows the Location of any other answer (RFC 9110 §10.2.2), and looking for headers takes time.
    const mayLead = rewrites && (statusCode === 201 || (statusCode >= 300 && statusCode < 400))
    const isPersonal = certificate !== undefined && dependsOnForwarded(this.req)
    if (!mayLead && !secureCookies && !isPersonal) return inner.call(this, statusCode, reason, headers)
    let given = objectOf(headers ?? reason)
    if (mayLead || secureCookies) {
      // Nobody's own object is changed, which may be used again, or frozen.
      given = { ...given }
      if (mayLead) rewrite(this, given, 'location', (value) => location(value, this.req))
      if (secureCookies) rewrite(this, given, 'set-cookie', secureCookie)
    }
    if (isPersonal) given = keepPrivate(this, given, vary)
    return inner.call(this, statusCode, typeof reason === 'string' ? reason : undefined, given)
  })

  return function protectFromDowngrade ({ raw }) {
    // That of its prototype, or that of somebody who did the same before.
    raw.writeHead = wrap(raw.writeHead as unknown as WriteHead) as never
  }
}

/** Headers come as arguments, as Fastify's do, or were set before. */
function rewrite (response: ServerResponse, given: OutgoingHttpHeaders, name: string, change: Rewrite): void {
  for (const key of Object.keys(given)) {
    if (key.toLowerCase() === name) given[key] = changed(given[key]!, change)
  }
  const before = response.getHeader(name)
  if (before !== undefined) response.setHeader(name, changed(before, change) as string)
}

function changed (value: OutgoingHttpHeader, change: Rewrite): OutgoingHttpHeader {
  return Array.isArray(value) ? value.map((one) => change(String(one))) : change(String(value))
}
