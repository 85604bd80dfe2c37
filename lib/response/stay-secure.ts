/**
 * What is on its way to a client that came over HTTPS keeps it there, whoever wrote it: looked at when the head is
 * written, after every hook and plugin.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { secureCookie } from './cookies.ts'

type WriteHead = (this: ServerResponse, statusCode: number, reason?: string | OutgoingHttpHeaders, headers?: OutgoingHttpHeaders) => ServerResponse
type Rewrite = (value: string) => string

export interface StaySecureOptions {
  readonly location: (value: string, request: ServerResponse['req']) => string
  readonly secureCookies: boolean
}

/** Answers what to call with each reply to a request that came over HTTPS. */
export function createStaySecure ({ location, secureCookies }: StaySecureOptions): (reply: FastifyReply) => void {
  /** One for each method there is: nearly all responses have that of Node. */
  const wrappers = new WeakMap<WriteHead, WriteHead>()
  let latest: { readonly inner: WriteHead | undefined, readonly wrapper: WriteHead | undefined } = { inner: undefined, wrapper: undefined }

  function wrapperOf (inner: WriteHead): WriteHead {
    let wrapper = wrappers.get(inner)
    if (wrapper === undefined) {
      wrapper = function writeHead (statusCode, reason, headers) {
        // Nobody follows the Location of any other answer (RFC 9110 §10.2.2), and looking for headers takes time.
        const mayLead = statusCode === 201 || (statusCode >= 300 && statusCode < 400)
        if (mayLead || secureCookies) keepSecure(this, headers ?? reason, mayLead)
        return inner.call(this, statusCode, reason, headers)
      }
      wrappers.set(inner, wrapper)
    }
    return wrapper
  }

  function keepSecure (response: ServerResponse, given: OutgoingHttpHeaders | string | undefined, mayLead: boolean): void {
    const headers = typeof given === 'object' ? given : {}
    if (mayLead) rewrite(response, headers, 'location', (value) => location(value, response.req))
    if (secureCookies) rewrite(response, headers, 'set-cookie', secureCookie)
  }

  return function staySecure ({ raw }) {
    // That of its prototype, or that of somebody who did the same before.
    const inner = raw.writeHead as unknown as WriteHead
    if (latest.inner !== inner) latest = { inner, wrapper: wrapperOf(inner) }
    raw.writeHead = latest.wrapper as never
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
  return Array.isArray(value) ? value.map(change) : change(String(value))
}
