/**
 * Downgrade protection: an answer to a request over HTTPS does not lead to plain HTTP (Location), sets no cookie that is sent
 * over HTTP, and is not stored by caches that would give it to other clients. The head is looked at when it is written,
 * after every hook and plugin. Begin with `createDowngradeProtection`.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Options } from '../options/resolve.ts'
import { certificateHeaderNames } from '../proxy/presets.ts'
import { createWrap, objectOf, type WriteHead } from './write-head.ts'

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
    // Clients follow the Location of no other answer (RFC 9110 §10.2.2), and looking for headers takes time.
    const mayLead = rewrites && (statusCode === 201 || (statusCode >= 300 && statusCode < 400))
    const isPersonal = certificate !== undefined && dependsOnForwarded(this.req)
    if (!mayLead && !secureCookies && !isPersonal) return inner.call(this, statusCode, reason, headers)
    let given = objectOf(headers ?? reason)
    if (mayLead || secureCookies) {
      // A copy: the caller may use its object again, or have frozen it.
      given = { ...given }
      if (mayLead) rewrite(this, given, 'location', (value) => location(value, this.req))
      if (secureCookies) rewrite(this, given, 'set-cookie', secureCookie)
    }
    if (isPersonal) given = keepPrivate(this, given, vary)
    return inner.call(this, statusCode, typeof reason === 'string' ? reason : undefined, given)
  })

  return function protectFromDowngrade ({ raw }) {
    // Node's own, or that of a plugin that has replaced it before.
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

// Cookies that are set over HTTPS are not sent over HTTP (RFC 6265 §4.1.2.5)

/** The value of a Set-Cookie field with the attribute Secure, once. */
export function secureCookie (cookie: string): string {
  // By attributes: a path may be called `/; secure` as little as a name may, but `Path=/secure` is usual (RFC 6265 §5.2).
  const isSecure = cookie.split(';').slice(1).some((attribute) => attribute.split('=', 1)[0]!.trim().toLowerCase() === 'secure')
  return isSecure ? cookie : `${cookie}; Secure`
}

// Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1)

/**
 * Instructions to one kind of cache, which count more there than `Cache-Control`: those of RFC 9213, whose names all end
 * alike (`CDN-Cache-Control`, `Cloudflare-CDN-Cache-Control`), and older ones of nginx, of Varnish and Fastly, of Akamai.
 */
const TARGETED = /^(?:.+-cache-control|x-accel-expires|surrogate-control|edge-control)$/i
const OF_CACHES = new RegExp(`^(?:cache-control|vary)$|${TARGETED.source}`, 'i')

/**
 * No cache stores an answer that says nothing of caching. One that does was meant to be stored: then by its client alone,
 * and for the same certificate. `Vary` is not enough: a cache in the proxy that adds these headers looks at what clients
 * sent, which none of it is in.
 *
 * @param given headers that are arguments of `writeHead`
 * @param names the headers that a certificate comes in
 * @returns what to give instead
 */
function keepPrivate (response: ServerResponse, given: OutgoingHttpHeaders, names: string): OutgoingHttpHeaders {
  // Most answers say nothing, and to look for each header would take longer. To add one to a copy takes ten times as long.
  return saysAnything(response, given) ? replaceHeader(response, given, names) : { 'cache-control': 'no-store', ...given }
}

function saysAnything (response: ServerResponse, given: OutgoingHttpHeaders): boolean {
  for (const name in given) if (isOfCaches(name)) return true
  for (const name of response.getHeaderNames()) if (isOfCaches(name)) return true
  return false
}

const [L, S, Y] = ['l', 's', 'y'].map((letter) => letter.charCodeAt(0))

function isOfCaches (name: string): boolean {
  // Nearly all others are out by their last letter.
  const last = name.charCodeAt(name.length - 1) | 32
  return (last === L || last === S || last === Y) && OF_CACHES.test(name)
}

function replaceHeader (response: ServerResponse, given: OutgoingHttpHeaders, names: string): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {}
  // A handler may have made it, with names in any case, and in several at once.
  const said: Record<'cache-control' | 'vary', string[]> = { 'cache-control': [], vary: [] }
  for (const [key, value] of Object.entries(given)) {
    const name = key.toLowerCase()
    if (name === 'cache-control' || name === 'vary') said[name].push(String(value))
    else if (!TARGETED.test(name)) headers[key] = value
  }
  for (const name of response.getHeaderNames()) if (TARGETED.test(name)) response.removeHeader(name)
  // Arguments count more than what was set before.
  const valueOf = (name: keyof typeof said): string | undefined =>
    said[name].length > 0 ? said[name].join(', ') : response.getHeader(name)?.toString()
  const [control, varied] = [valueOf('cache-control'), valueOf('vary')]
  if (control === undefined) return { ...headers, ...varied !== undefined && { vary: varied }, 'cache-control': 'no-store' }
  return { ...headers, 'cache-control': ownOnly(control), vary: varied === undefined ? names : `${varied}, ${names}` }
}

/** A directive (RFC 9111 §5.2), with its value. */
const DIRECTIVE = /(?:[^",]|"(?:[^"\\]|\\.)*")+/g

function ownOnly (control: string): string {
  // A quoted string that does not end is read in several ways.
  if (control.replaceAll(DIRECTIVE, '').includes('"')) return 'no-store'
  const directives = (control.match(DIRECTIVE) ?? []).map((directive) => directive.trim()).filter((directive) => !/^(?:public|s-maxage\b.*)?$/i.test(directive))
  // `private="set-cookie"` keeps only that header from others.
  const isOwn = directives.some((directive) => /^(?:private|no-store)$/i.test(directive))
  return [...directives, ...isOwn ? [] : ['private']].join(', ')
}
