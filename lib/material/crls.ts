/** CRLs from files: in DER, or in PEM (RFC 7468 §6). One of a million entries has 60 MB there: it is decoded in slices. */
import { type Crl, parseCrl } from '../certificate/crl.ts'
import { type Pause, Slices } from '../slices.ts'
import { ordinal } from './pem.ts'
import { type Content, invalid } from './source.ts'

/** RFC 7468 §6, and what some programs write. */
const LABELS = ['X509 CRL', 'CRL']

const BEGIN_CRL = '-----BEGIN '
const DASHES = '-----'
const LABEL = /^[A-Z0-9 ]{1,64}$/
/** Characters between BEGIN and the end of its line. */
const LONGEST_LABEL = 64

const SEQUENCE = 0x30
/** No CRL is so short that its length takes one octet. */
const LONG_FORM = 0x80

const WHITE_SPACE = /[\t-\r ]+/g
const BASE64_OCTETS = /^[A-Za-z0-9+/]*$/
const PADDING = /={1,2}$/

interface CrlBlock {
  readonly label: string
  /** What is between the lines of BEGIN and END. */
  readonly body: Buffer
}

/**
 * Every CRL in a file: one in DER, or any number in PEM, in its order. Whose they are and whether they are in force is not
 * looked at.
 *
 * @param pause awaited between slices of some 5 ms of work
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export async function crlsIn ({ name, bytes }: Content, pause?: Pause): Promise<Crl[]> {
  if (isDer(bytes)) return [await readBlock(name, bytes, 'the CRL', pause)]
  const slices = new Slices(pause)
  const crls: Crl[] = []
  for (const { label, body } of crlBlocksIn(name, bytes)) {
    await slices.rest()
    if (!LABELS.includes(label)) continue
    const what = `its ${ordinal(crls.length)} CRL`
    crls.push(await readBlock(name, await decode(name, what, body, slices), what, pause))
  }
  if (crls.length === 0) throw invalid(name, 'holds no CRL ("-----BEGIN X509 CRL-----", or DER)')
  return crls
}

/** A text may begin with that character, but not go on like this. */
function isDer (bytes: Buffer): boolean {
  return bytes[0] === SEQUENCE && bytes[1] >= LONG_FORM
}

async function readBlock (name: string, der: Buffer, what: string, pause: Pause | undefined): Promise<Crl> {
  try {
    return await parseCrl(der, pause)
  } catch (cause) {
    throw invalid(name, `${what} is not exactly as RFC 5280 §5 has it (DER, version 2 if it has extensions, no default spelled out, no empty list of entries, no extension twice, dates without fractions), so that it is not known which certificates it revokes`, cause)
  }
}

function * crlBlocksIn (name: string, bytes: Buffer): Generator<CrlBlock> {
  let begin = bytes.indexOf(BEGIN_CRL)
  while (begin !== -1) {
    let from = begin + BEGIN_CRL.length
    const labelEnd = bytes.indexOf(DASHES, from)
    const label = labelEnd === -1 || labelEnd - from > LONGEST_LABEL ? '' : bytes.toString('latin1', from, labelEnd)
    if (LABEL.test(label)) {
      const end = `-----END ${label}-----`
      const start = labelEnd + DASHES.length
      const until = bytes.indexOf(DASHES, start)
      if (until === -1 || bytes.toString('latin1', until, until + end.length) !== end) throw invalid(name, `is cut off: "${BEGIN_CRL}${label}${DASHES}" has no "${end}"`)
      yield { label, body: bytes.subarray(start, until) }
      from = until + end.length
    }
    begin = bytes.indexOf(BEGIN_CRL, from)
  }
}

async function decode (name: string, what: string, body: Buffer, slices: Slices): Promise<Buffer> {
  const der = Buffer.allocUnsafeSlow(Math.ceil(body.length / 4) * 3)
  let [length, rest] = [0, '']
  for await (const piece of slices.piecesOf(body)) {
    const text = rest + piece.toString('latin1').replace(WHITE_SPACE, '')
    // Four characters are three octets; what is left begins the next piece, or ends all of it.
    const whole = text.length - text.length % 4 - 4
    length += write(text.slice(0, Math.max(whole, 0)))
    rest = text.slice(Math.max(whole, 0))
  }
  length += write(rest.replace(PADDING, ''))
  return der.subarray(0, length)

  function write (text: string): number {
    if (!BASE64_OCTETS.test(text)) throw invalid(name, `${what} is not base64`)
    return der.write(text, length, 'base64')
  }
}
