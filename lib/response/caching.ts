/**
 * Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1).
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/**
 * Nobody stores an answer that says nothing of caching. One that does was meant to be stored: then for the same
 * certificate only.
 *
 * @param given headers that are arguments of `writeHead`; changed
 * @param names the headers that a certificate comes in
 */
export function keepPrivate (response: ServerResponse, given: OutgoingHttpHeaders, names: string): void {
  const keys = Object.keys(given)
  const keyOf = (name: string): string | undefined => keys.find((key) => key.length === name.length && key.toLowerCase() === name)
  const valueOf = (name: string, key: string | undefined): string | undefined => {
    // Arguments count more than what was set before.
    const value = key === undefined ? response.getHeader(name) : given[key]
    return value === undefined ? undefined : String(value)
  }
  const control = valueOf('cache-control', keyOf('cache-control'))
  if (control === undefined) {
    given['cache-control'] = 'no-store'
  } else if (!/\bno-store\b/i.test(control)) {
    const key = keyOf('vary')
    const varied = valueOf('vary', key)
    given[key ?? 'vary'] = varied === undefined ? names : `${varied}, ${names}`
  }
}
