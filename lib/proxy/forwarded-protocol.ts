/**
 * Whether a client used HTTPS, as a trusted proxy says. Begin with {@link openForwardedProtocol}; {@link elementsOf} reads
 * lists from the right.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { printable } from '../text.ts'
import { KNOWN_PROTOCOLS, type ProtocolHeader, PROTOCOLS } from './presets.ts'
import { createReadLine, isNamedIn, TWICE } from './raw-headers.ts'

/** The options `proxy.protocol` and `proxy.hops`, resolved. */
export interface ForwardedProtocol {
  /** In lower case. */
  readonly header: string
  /** What means HTTPS, in lower case; undefined: that the header is there at all. */
  readonly value: string | undefined
  /** The value that counts, from the right; undefined: all of them count. */
  readonly hops: number | undefined
}

/** The parts of a request that are read for it. */
interface Received {
  readonly rawHeaders: readonly string[]
  readonly headers: IncomingHttpHeaders
}

export interface ProtocolReader {
  /**
   * Whether the client came over HTTPS, as the proxy says.
   *
   * @param isUpgrade on a WebSocket handshake a proxy may say `wss`
   */
  isSecure (received: Received, isUpgrade: boolean): boolean
  /** For the log: why not; undefined where the client plainly came over HTTP. */
  problem (received: Received, isUpgrade: boolean): string | undefined
}

/** What comes of a header. */
type Judgement = 'secure' | 'plain' | 'missing' | 'hop-by-hop' | 'twice' | 'empty' | 'few' | 'malformed' | 'without proto' | 'mixed' | 'other'

/** Characters of a header in the log. */
const LONGEST = 80

/** The reader of an app's proxies. A chain of proxies is secure only if every hop is, or the one that `hops` says. */
export async function openForwardedProtocol ({ header, value, hops }: ForwardedProtocol): Promise<ProtocolReader> {
  // Imported only where it is used, which is rare.
  const protoIn = header === 'forwarded' ? createProtoIn((await import('forwarded-parse')).default) : undefined
  // These two are lists by their definition, which proxies may also write line by line (RFC 9110 §5.3).
  const isJoined = hops === undefined && (header === 'x-forwarded-proto' || header === 'forwarded')
  const readLine = isJoined ? ({ headers }: Received) => headers[header] : readLineOf(header)
  // What nearly every proxy says.
  const alone = protoIn === undefined && (hops ?? 1) === 1 ? value : undefined
  const isSpelledOut = value !== undefined && Object.values(PROTOCOLS).every((preset) => preset.header !== header)
  const plain = value === 'https' ? ['http', 'ws'] : ['off', 'http']

  function judge (received: Received, isUpgrade: boolean): Judgement {
    const text = readLine(received)
    if (text === undefined) return 'missing'
    // A client that names it in Connection may have made a proxy remove the value that counts.
    if (isNamedIn(received.headers.connection, header)) return 'hop-by-hop'
    if (text === alone) return 'secure'
    if (typeof text !== 'string') return 'twice'
    if (value === undefined) return trimmed(text) === '' ? 'empty' : 'secure'
    return judgeList(text, isUpgrade)
  }

  function judgeList (text: string, isUpgrade: boolean): Judgement {
    const elements = elementsOf(text, header, hops)
    if (elements === undefined) return 'malformed'
    if (elements.includes('')) return 'empty'
    if (elements.length < (hops ?? 1)) return 'few'
    const values = protoIn === undefined ? elements : protosIn(elements, protoIn)
    if (values === undefined) return 'malformed'
    const names = (hops === undefined ? values : values.slice(-1)).map((name) => name.toLowerCase())
    if (names.every((name) => name === value || (isUpgrade && value === 'https' && name === 'wss'))) return 'secure'
    if (names.every((name) => plain.includes(name))) return 'plain'
    if (names.includes('')) return 'without proto'
    return names.length > 1 ? 'mixed' : 'other'
  }

  function problem (received: Received, isUpgrade: boolean): string | undefined {
    const text = String(readLine(received))
    const is = `${header} is ${shown(text)}`
    switch (judge(received, isUpgrade)) {
      case 'secure': return undefined
      case 'plain': return problemOfPlain(received.headers, text, is)
      case 'missing': return problemOfMissing(received.headers)
      case 'hop-by-hop': return `${header} is named in Connection, so nobody knows who wrote it`
      case 'twice': return `${header} is there twice, so nobody knows which of the two the proxy wrote`
      case 'empty': return trimmed(text) === '' ? `${header} is empty` : `${is}: a value is empty`
      case 'few': return `${is}: fewer values than proxy.hops: ${hops}`
      case 'malformed': return `${is}: malformed (RFC 7239 §4)`
      case 'without proto': return `${is}: ${hops === undefined ? 'each element' : nth(hops)} has to have exactly one proto`
      case 'mixed': return `${is}: each value has to be ${value}; with proxy.hops, one alone counts, from the right`
      case 'other': return `${is}: ${hops === undefined ? 'it' : nth(hops)} has to be ${value}`
    }
  }

  /** Both make an endless redirect of clients that came over HTTPS. */
  function problemOfPlain (headers: IncomingHttpHeaders, text: string, is: string): string | undefined {
    if (hops !== undefined && elementsOf(text, header, hops + 1)?.length !== hops) return `${is}: by proxy.hops: ${hops}, ${nth(hops)} counts, which says plain HTTP`
    const other = KNOWN_PROTOCOLS.find((known) => mayBeMeant(known) && headers[known.header] !== undefined && saysHttps(headers, known))
    return other === undefined ? undefined : `${is}, but ${other.header} says HTTPS: ${instead(other)}`
  }

  /** A header that is there for HTTPS alone is missing of plain HTTP, too. */
  function problemOfMissing (headers: IncomingHttpHeaders): string | undefined {
    const other = KNOWN_PROTOCOLS.find((known) => mayBeMeant(known) && headers[known.header] !== undefined && (value !== undefined || saysHttps(headers, known)))
    if (other !== undefined) return `${header} is missing, but ${other.header} is there: ${instead(other)}`
    if (value === undefined) return undefined
    return `${header} is missing: ${header === PROTOCOLS.cloudfront.header ? 'the origin request policy of CloudFront has to include it' : 'the proxy has to say how clients come'}`
  }

  /** Where another header was chosen than the usual one, the usual one is about another part of the way, or from a client. */
  function mayBeMeant (known: ProtocolHeader): boolean {
    return known.header !== header && (known.header !== 'x-forwarded-proto' || header === 'forwarded' || isSpelledOut)
  }

  return { isSecure: (received, isUpgrade) => judge(received, isUpgrade) === 'secure', problem }
}

function saysHttps (headers: IncomingHttpHeaders, { header, value }: ProtocolHeader): boolean {
  return value === undefined || String(headers[header]).toLowerCase() === value
}

function instead ({ option }: { readonly option: string }): string {
  return `proxy.protocol: ${option}, if it is the proxy that writes it, whatever clients send`
}

function readLineOf (header: string): (received: Received) => string | typeof TWICE | undefined {
  const readLine = createReadLine(header)
  return ({ rawHeaders }) => readLine(rawHeaders)
}

/** The end, which proxies of ours wrote: what a client wrote comes before. */
function shown (text: string): string {
  return text.length > LONGEST ? `…${printable(text.slice(-LONGEST), LONGEST)}` : printable(text, LONGEST)
}

function nth (hops: number): string {
  return hops === 1 ? 'the last value' : `value ${hops} from the right`
}

/** Undefined with the first one that is malformed: the parser throws, which takes long if there are thousands. */
function protosIn (elements: readonly string[], protoIn: (element: string) => string | undefined): string[] | undefined {
  const values: string[] = []
  for (const element of elements) {
    const value = protoIn(element)
    if (value === undefined) return undefined
    values.push(trimmed(value))
  }
  return values
}

/** Optional white space of HTTP (RFC 9110 §5.6.3), and no other one. */
function trimmed (text: string): string {
  let start = 0
  let end = text.length
  while (text[start] === ' ' || text[start] === '\t') start++
  while (end > start && (text[end - 1] === ' ' || text[end - 1] === '\t')) end--
  return text.slice(start, end)
}

/**
 * The elements of a list, the last one first, and no more than count: nothing left of them is read, which a client may have
 * written. In Forwarded, a comma in a quoted string separates nothing (RFC 7239 §4). From the right, too, it is clear what is
 * quoted: a quote inside follows an odd number of `\` (RFC 9110 §5.6.4).
 *
 * @param hops undefined: all
 * @returns undefined where a quoted string does not begin
 */
export function elementsOf (text: string, header: string, hops = Infinity): string[] | undefined {
  const hasQuotes = header === 'forwarded'
  const elements: string[] = []
  let end = text.length
  let isQuoted = false
  for (let at = end - 1; at >= 0; at--) {
    if (hasQuotes && text[at] === '"') {
      let escapes = 0
      while (text[at - 1 - escapes] === '\\') escapes++
      if (escapes % 2 === 0) isQuoted = !isQuoted
    } else if (text[at] === ',' && !isQuoted) {
      elements.push(trimmed(text.slice(at + 1, end)))
      if (elements.length === hops) return elements
      end = at
    }
  }
  if (isQuoted) return undefined
  elements.push(trimmed(text.slice(0, end)))
  return elements
}

/**
 * The `proto` of an element of Forwarded (RFC 7239 §5.4): empty where it has not exactly one, because a parameter must not
 * occur twice (§4); undefined where it is malformed.
 */
function createProtoIn (parse: (header: string) => Array<Partial<Record<string, string>>>): (element: string) => string | undefined {
  return function protoIn (element) {
    try {
      const [{ proto = '' } = {}] = parse(element)
      return element.match(/proto=/gi)?.length === 1 ? proto : ''
    } catch {
      return undefined
    }
  }
}
