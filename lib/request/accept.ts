/**
 * What kind of answer an undeclared element's client asks for.
 */
import type { IncomingHttpHeaders } from 'node:http'

const HTML: ReadonlySet<string> = new Set(['text/html', 'application/xhtml+xml'])
const SOAP_12 = 'application/soap+xml'

/** The SOAP version of a request, or `undefined` for one that is not SOAP (SOAP 1.1 §6.1.1; RFC 3902 for 1.2). */
export function soapVersionOf (headers: IncomingHttpHeaders): '1.1' | '1.2' | undefined {
  if (mediaTypeOf(headers['content-type'] ?? '') === SOAP_12 || accepts(headers.accept, new Set([SOAP_12]))) return '1.2'
  return headers.soapaction === undefined ? undefined : '1.1'
}

/** Whether the client names HTML; that it takes anything does not mean that a person is looking. */
export function asksForHtml (headers: IncomingHttpHeaders): boolean {
  return accepts(headers.accept, HTML)
}

/** Whether one of the types is named with a weight above 0 (RFC 9110 §12.4.2, §12.5.1). */
function accepts (accept: string | undefined, types: ReadonlySet<string>): boolean {
  if (accept === undefined) return false
  return accept.split(',').some((range) => types.has(mediaTypeOf(range)) && weightOf(range) > 0)
}

function mediaTypeOf (value: string): string {
  return value.split(';', 1)[0]!.trim().toLowerCase()
}

function weightOf (range: string): number {
  const weight = /;\s*q\s*=\s*([^;]*)/i.exec(range)
  return weight === null ? 1 : Number(weight[1])
}
