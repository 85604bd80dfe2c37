/**
 * What kind of answer an undeclared element's client asks for.
 */
import type { IncomingHttpHeaders } from 'node:http'

/** What a client asks for. */
export interface Wanted {
  /** It names HTML; that it takes anything does not mean that a person is looking. */
  readonly html: boolean
  /** The SOAP version of the request, or `undefined` for one that is not SOAP (SOAP 1.1 §6.1.1; RFC 3902 for 1.2). */
  readonly soap: '1.1' | '1.2' | undefined
}

const HTML: ReadonlySet<string> = new Set(['text/html', 'application/xhtml+xml'])
const SOAP_12 = 'application/soap+xml'

/** What is looked at of a header, in characters and in members: browsers name ten types in two hundred characters. */
const LONGEST = 2_048
const MOST_RANGES = 32

/** Looks for what is named with a weight above 0 (RFC 9110 §12.4.2, §12.5.1). Parses: once a request. */
export function wantedBy ({ accept, 'content-type': contentType, soapaction }: IncomingHttpHeaders): Wanted {
  let html = false
  let isSoap12 = contentType !== undefined && mediaTypeOf(contentType.slice(0, LONGEST)) === SOAP_12
  for (const range of accept === undefined ? [] : accept.slice(0, LONGEST).split(',', MOST_RANGES)) {
    const type = mediaTypeOf(range)
    if (HTML.has(type)) html ||= weightOf(range) > 0
    else if (type === SOAP_12) isSoap12 ||= weightOf(range) > 0
  }
  return { html, soap: isSoap12 ? '1.2' : soapaction === undefined ? undefined : '1.1' }
}

function mediaTypeOf (value: string): string {
  return value.split(';', 1)[0]!.trim().toLowerCase()
}

function weightOf (range: string): number {
  const weight = /;\s*q\s*=\s*([^;]*)/i.exec(range)
  return weight === null ? 1 : Number(weight[1])
}
