/**
 * What is on its way to a client that came over HTTPS keeps it there, whoever wrote it: looked at when the head is
 * written, after every hook and plugin.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { secureCookie } from './cookies.ts'

type WriteHead = ServerResponse['writeHead']
type Rewrite = (value: string) => string

export interface StaySecureOptions {
  readonly location: (value: string, request: ServerResponse['req']) => string
  readonly secureCookies: boolean
}

/** Answers what to call with each reply to a request that came over HTTPS. */
export function createStaySecure ({ location, secureCookies }: StaySecureOptions): (reply: FastifyReply) => void {
  /** One function for all responses: it finds its response as `this`. */
  function writeHead (this: ServerResponse, statusCode: number, ...rest: never[]): ServerResponse {
    keepSecure(this, statusCode, rest.at(-1))
    return (Object.getPrototypeOf(this).writeHead as (...args: unknown[]) => ServerResponse).call(this, statusCode, ...rest)
  }

  function keepSecure (response: ServerResponse, statusCode: number, last: OutgoingHttpHeaders | undefined): void {
    // Nobody follows the Location of any other (RFC 9110 §10.2.2), and looking for headers takes time.
    if (statusCode === 201 || (statusCode >= 300 && statusCode < 400)) rewrite(response, last, 'location', (value) => location(value, response.req))
    if (secureCookies) rewrite(response, last, 'set-cookie', secureCookie)
  }

  return function staySecure ({ raw }) {
    // Somebody else's, who is called by ours.
    if (Object.hasOwn(raw, 'writeHead')) {
      const theirs = raw.writeHead as (...args: unknown[]) => ServerResponse
      raw.writeHead = function (this: ServerResponse, statusCode: number, ...rest: never[]) {
        keepSecure(this, statusCode, rest.at(-1))
        return theirs.call(this, statusCode, ...rest)
      } as WriteHead
    } else {
      raw.writeHead = writeHead as WriteHead
    }
  }
}

/** Headers come as arguments, as Fastify's do, or were set before. */
function rewrite (response: ServerResponse, given: OutgoingHttpHeaders | undefined, name: string, change: Rewrite): void {
  for (const key of Object.keys(Object(given))) {
    if (key.toLowerCase() === name) given![key] = changed(given![key]!, change)
  }
  const before = response.getHeader(name)
  if (before !== undefined) response.setHeader(name, changed(before, change) as string)
}

function changed (value: OutgoingHttpHeader, change: Rewrite): OutgoingHttpHeader {
  return Array.isArray(value) ? value.map(change) : change(String(value))
}
