/**
 * Says what a header value is that is not read as a certificate: for the log. Begin with {@link problemOf}.
 *
 * Clients may be able to send such values, too. So they are bounded, are decoded a dozen times at most, which takes as long
 * as parsing two certificates, and the first answer counts.
 */
import { elementAt, octetsOf, readOr, SEQUENCE } from '../x509/der.ts'
import { certificateOf } from '../x509/fields.ts'
import { decode, type Format, formats, listIn, MOST_BYTES, MOST_CERTIFICATES, parseXfcc, readings, type Written } from './encodings.ts'
import { CHAIN_HEADER, type WholeEncoding } from './presets.ts'

type Plain = keyof typeof readings

/** Characters of values that are told apart: a certificate has two thousand. */
const LONGEST = 8 * 1024

/**
 * What is wrong with a value that `chainIn` finds malformed: a sentence that begins with the header's name.
 *
 * @param companion the value of Client-Cert-Chain
 */
export function problemOf ({ header, encoding }: Written & { readonly header: string }, text: string, companion: string | undefined): string {
  const list = encoding === 'xfcc' ? undefined : listIn(encoding, text)
  const others = companion === undefined ? [] : decode(formats['rfc9440-chain'], companion)
  if (list !== undefined && others === undefined) return `${CHAIN_HEADER} is not exactly a list of certificates (RFC 9440 §2.3)`
  const problem = list === undefined ? problemOfText(encoding, text) : problemOfList(list, others!)
  return `${header} ${problem ?? `is not exactly a certificate in ${encoding}`}`
}

/** Of a value that is in the right encoding. */
function problemOfList (list: readonly Buffer[], others: readonly Buffer[]): string | undefined {
  const all = [...list, ...others]
  if (all.length > MOST_CERTIFICATES) return `holds more than ${MOST_CERTIFICATES} certificates, with those of its chain`
  if (all.reduce((sum, { length }) => sum + length, 0) > MOST_BYTES) return `holds more than ${MOST_BYTES / 1024} KiB of certificates, with those of its chain`
  const [client, ...cas] = list as [Buffer, ...Buffer[]]
  for (const der of list) {
    const problem = problemOfBytes(der)
    if (problem !== undefined) return problem
  }
  return cas.some((der) => !der.equals(client) && certificateOf(der)?.ca === false)
    ? 'lists two clients: the proxy has to overwrite what clients send, not to append to it'
    : undefined
}

/** The type of a PKCS #7 message that holds certificates (RFC 5652 §5.1). */
const SIGNED_DATA = octetsOf('1.2.840.113549.1.7.2')
const PEM = '-----BEGIN'

function problemOfBytes (der: Buffer): string | undefined {
  if (der.toString('latin1', 0, PEM.length) === PEM) return 'is base64 of PEM, where it has to be of DER'
  const first = readOr(() => elementAt(der, 0, der.length), undefined)
  if (first?.tag !== SEQUENCE) return undefined
  if (der.subarray(first.start + 2, first.start + 2 + SIGNED_DATA.length).equals(SIGNED_DATA)) return 'is PKCS #7, where it has to be the certificate itself'
  return looksLikeDer(der.subarray(first.end)) ? 'holds several certificates in one base64: each has to be encoded by itself' : undefined
}

/** Of a value that is in another encoding, or in none. */
function problemOfText (encoding: WholeEncoding, text: string): string | undefined {
  if (text.length > LONGEST) return undefined
  return problemOfLabel(text) ?? asAnother(encoding, text) ?? (encoding === 'xfcc' ? undefined : nearly(encoding, text))
}

/** What PEM says of itself (RFC 7468 §2). Its spaces may be encoded. */
const LABEL = /^"?-----BEGIN((?:(?: |%20|\+)[A-Z0-9]{1,16}){1,4})-----/

function problemOfLabel (text: string): string | undefined {
  const label = LABEL.exec(text)?.[1]!.replaceAll(/%20|\+/g, ' ').trim()
  return label === undefined || label === 'CERTIFICATE' ? undefined : `is PEM of ${label}, not of CERTIFICATE`
}

function asAnother (encoding: WholeEncoding, text: string): string | undefined {
  for (const other of Object.keys(readings) as Plain[]) {
    const der = other === encoding ? undefined : listIn(other, text)?.[0]
    if (der === undefined) continue
    const problem = problemOfBytes(der)
    if (problem !== undefined) return problem
    if (!looksLikeDer(der)) continue
    if (other === 'base64-der' && encoding === 'rfc9440') return 'has no colons around its base64 (RFC 9440 §2.2). In HAProxy: ":%[ssl_c_der,base64]:"'
    return isWrittenAs(other)
  }
  return encoding !== 'xfcc' && parseXfcc(text)?.at(-1)?.has('cert') === true ? isWrittenAs('xfcc') : undefined
}

/** Nearly any text is base64 of something. */
function looksLikeDer (der: Buffer | undefined): boolean {
  return der !== undefined && readOr(() => elementAt(der, 0, der.length).tag === SEQUENCE, false)
}

function isWrittenAs (encoding: WholeEncoding): string {
  return `is in another encoding: it is written as ${encoding}; set encoding: '${encoding}'`
}

const lists: Partial<Record<Plain, Format>> = {
  rfc9440: formats['rfc9440-chain'],
  'url-pem': formats['url-pem-chain'],
  'pem-spaces': { ...formats['pem-spaces'], separators: [' '] }
}

const unbroken: readonly Format[] = ['%20', ' '].flatMap((space) => [false, true].map((isEscaped) => ({ begin: `-----BEGIN${space}CERTIFICATE-----`, end: `-----END${space}CERTIFICATE-----`, isEscaped })))

/** What would be in the right encoding, but for one thing. */
const slips: ReadonlyArray<readonly [found: RegExp, mend: (text: string) => string, problem: string]> = [
  [/^".+"$/, (text) => text.slice(1, -1), 'is in double quotes: the proxy has to write it without them (HAProxy: without %{+Q})'],
  [/%[0-9A-F]?[a-f]/, (text) => ['%0A', '%2B', '%2F', '%3D'].reduce((mended, code) => mended.replaceAll(code.toLowerCase(), code), text), 'has small letters in its percent-encoding (RFC 3986 §2.1): %2f, where it has to be %2F'],
  [/%0D%0A/, (text) => text.replaceAll('%0D%0A', '%0A'), 'has line breaks of two characters, %0D%0A, where they have to be %0A'],
  [/^-----BEGIN\+/, (text) => text.replaceAll('+CERTIFICATE-----', '%20CERTIFICATE-----'), 'has + for its spaces, as forms are encoded, where they have to be %20']
]

function nearly (encoding: Plain, text: string): string | undefined {
  const list = lists[encoding]
  if (list !== undefined && looksLikeDer(decode(list, text)?.[0])) return `holds several certificates, where ${encoding} has one`
  if (unbroken.some((format) => looksLikeDer(decode(format, text)?.[0]))) return 'is PEM without line breaks before and after its base64 (RFC 7468 §2)'
  for (const [found, mend, problem] of slips) if (found.test(text) && looksLikeDer(listIn(encoding, mend(text))?.[0])) return problem
  return undefined
}
