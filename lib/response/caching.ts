/**
 * Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1).
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/**
 * Instructions to one kind of cache, which count more there than `Cache-Control`: those of RFC 9213, whose names all end
 * alike (`CDN-Cache-Control`, `Cloudflare-CDN-Cache-Control`), and older ones of nginx, of Varnish and Fastly, of Akamai.
 */
const TARGETED = /^(?:.+-cache-control|x-accel-expires|surrogate-control|edge-control)$/i
const OF_CACHES = new RegExp(`^(?:cache-control|vary)$|${TARGETED.source}`, 'i')

/**
 * Nobody stores an answer that says nothing of caching. One that does was meant to be stored: then by its client alone,
 * and for the same certificate. `Vary` is not enough: a cache in the proxy that adds these headers looks at what clients
 * sent, which none of it is in.
 *
 * @param given headers that are arguments of `writeHead`
 * @param names the headers that a certificate comes in
 * @returns what to give instead
 */
export function keepPrivate (response: ServerResponse, given: OutgoingHttpHeaders, names: string): OutgoingHttpHeaders {
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
  // Anybody may have made it, and spelled them as they liked, in several ways at once.
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
