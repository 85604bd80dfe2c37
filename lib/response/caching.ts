/**
 * Answers that depend on a forwarded certificate, and caches that know nothing of it (RFC 9440 §3.1).
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/**
 * Nobody stores an answer that says nothing of caching. One that does was meant to be stored: then for the same
 * certificate only.
 *
 * @param given headers that are arguments of `writeHead`
 * @param names the headers that a certificate comes in
 * @returns what to give instead
 */
export function keepPrivate (response: ServerResponse, given: OutgoingHttpHeaders, names: string): OutgoingHttpHeaders {
  // Arguments count more than what was set before.
  const control = given[keyOf(given, 'cache-control')] ?? response.getHeader('cache-control')
  // Ten times as fast as to add it to a copy.
  if (control === undefined) return { 'cache-control': 'no-store', ...given }
  if (/\bno-store\b/i.test(String(control))) return given
  const key = keyOf(given, 'vary')
  const varied = given[key] ?? response.getHeader('vary')
  return { ...given, [key]: varied === undefined ? names : `${String(varied)}, ${names}` }
}

/** How a header is spelled in an object that anybody may have made. */
function keyOf (headers: OutgoingHttpHeaders, name: string): string {
  for (const key in headers) if (key.length === name.length && key.toLowerCase() === name) return key
  return name
}
