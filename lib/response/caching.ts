/**
 * Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1).
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/** Instructions to one cache, which count more than `Cache-Control` there: nginx, Varnish and Fastly, and RFC 9213. */
const TARGETED = ['x-accel-expires', 'surrogate-control', 'cdn-cache-control']

/** By length of the name. */
const mayConcernCaches: boolean[] = []
for (const { length } of ['cache-control', 'vary', ...TARGETED]) mayConcernCaches[length] = true

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
  return saysAnything(response, given) ? rewrite(response, given, names) : { 'cache-control': 'no-store', ...given }
}

function saysAnything (response: ServerResponse, given: OutgoingHttpHeaders): boolean {
  for (const name in given) if (mayConcernCaches[name.length]) return true
  for (const name of response.getHeaderNames()) if (mayConcernCaches[name.length]) return true
  return false
}

function rewrite (response: ServerResponse, given: OutgoingHttpHeaders, names: string): OutgoingHttpHeaders {
  let controlKey = 'cache-control'
  let varyKey = 'vary'
  const headers = { ...given }
  // Anybody may have made it, and spelled them as they liked.
  for (const key in given) {
    const name = key.toLowerCase()
    if (name === 'cache-control') controlKey = key
    else if (name === 'vary') varyKey = key
    else if (TARGETED.includes(name)) delete headers[key]
  }
  for (const name of TARGETED) response.removeHeader(name)
  // Arguments count more than what was set before.
  const control = given[controlKey] ?? response.getHeader('cache-control')
  const varied = given[varyKey] ?? response.getHeader('vary')
  if (control === undefined) return { ...headers, 'cache-control': 'no-store' }
  return { ...headers, [controlKey]: ownOnly(String(control)), [varyKey]: varied === undefined ? names : `${String(varied)}, ${names}` }
}

function ownOnly (control: string): string {
  const directives = control.split(',').map((directive) => directive.trim()).filter((directive) => !/^(?:public|s-maxage\b.*)$/i.test(directive))
  // `private="set-cookie"` keeps only that header from others.
  const isOwn = directives.some((directive) => /^(?:private|no-store)$/i.test(directive))
  return [...directives, ...isOwn ? [] : ['private']].join(', ')
}
