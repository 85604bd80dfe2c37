/**
 * Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1).
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/** Instructions to one cache, which count more than `Cache-Control` there: nginx, Varnish and Fastly, and RFC 9213. */
const TARGETED = ['x-accel-expires', 'surrogate-control', 'cdn-cache-control']

/** By length of the name. */
const isOfInterest: boolean[] = []
for (const { length } of ['cache-control', 'vary', ...TARGETED]) isOfInterest[length] = true

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
  let controlKey = 'cache-control'
  let varyKey = 'vary'
  let targeted: string[] | undefined
  // Anybody may have made it, and spelled them as they liked.
  for (const key in given) {
    if (!isOfInterest[key.length]) continue
    const name = key.toLowerCase()
    if (name === 'cache-control') controlKey = key
    else if (name === 'vary') varyKey = key
    else if (TARGETED.includes(name)) (targeted ??= []).push(key)
  }
  for (const name of TARGETED) if (response.getHeader(name) !== undefined) response.removeHeader(name)
  // Arguments count more than what was set before.
  const control = given[controlKey] ?? response.getHeader('cache-control')
  const varied = given[varyKey] ?? response.getHeader('vary')
  const headers = control === undefined
    // Ten times as fast as to add it to a copy.
    ? { 'cache-control': 'no-store', ...given }
    : { ...given, [controlKey]: ownOnly(String(control)), [varyKey]: varied === undefined ? names : `${String(varied)}, ${names}` }
  for (const key of targeted ?? []) delete headers[key]
  return headers
}

function ownOnly (control: string): string {
  const directives = control.split(',').map((directive) => directive.trim()).filter((directive) => !/^(?:public|s-maxage\b.*)$/i.test(directive))
  // `private="set-cookie"` keeps only that header from others.
  const isOwn = directives.some((directive) => /^(?:private|no-store)$/i.test(directive))
  return [...directives, ...isOwn ? [] : ['private']].join(', ')
}
