/** Where certificates, keys and lists come from: a file, or their content. */
import type { X509Certificate } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { InvalidCertificatesError } from '../errors.ts'
import { type Pause, Slices } from '../slices.ts'
import { type Crl, parseCrl } from '../x509/crl.ts'
import { formatName, subjectOf } from '../x509/distinguished-names.ts'
import { certificateOf } from '../x509/fields.ts'
import { type FileState, isUnchanged, readRegular } from './read.ts'

/** The path of a file, relative to the working directory; or PEM text; or the bytes of a file. */
export type FileOrContent = string | Uint8Array

/** What was read, and what to call it in messages. */
export interface Content {
  readonly name: string
  readonly bytes: Buffer
}

/** Bytes. The largest revocation lists of public authorities have about a quarter of it; a device file has no end. */
const LARGEST = 128 * 1024 * 1024

/** What is rather content in a form that is not read than the path of a file, and may be a key. */
const CONTENT = /[\r\n{}"]|^\s*data:|^[\w+/=-]{40,}$/

/** A file by its absolute path, which holds when the process goes elsewhere, and as it was written. */
export interface NamedFile { readonly path: string, readonly name: string }
export type Located = Buffer | NamedFile

/** Of content, a copy: whoever wipes theirs does not change ours, which is looked at again with each reload. */
export function locate (source: FileOrContent): Located {
  return typeof source === 'string' && !isPem(source) ? Object.freeze({ path: resolve(source), name: source }) : Buffer.from(source as string)
}

/** The file behind a source; none where it is content. */
export function pathOf (source: Located): string | undefined {
  return 'path' in source ? source.path : undefined
}

/**
 * Reads sources, and files anew only where they look changed: what has not changed is the very `Content` that was read
 * before, so that what was made of it can be used again.
 */
export class FileReader {
  readonly #read = new Map<string, { readonly state: FileState | undefined, readonly content: Content }>()

  /**
   * Reads a source whole.
   *
   * @param role what it is, for a source that has no name: `certificates[0].key`
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when a file is missing, unreadable, empty, too large, or no regular file
   */
  async read (source: Located, role: string): Promise<Content> {
    if (!('path' in source)) return this.#keep(role, undefined, { name: role, bytes: source })
    // As it was written: that is what people look for in their configuration.
    const { path, name } = source
    try {
      const kept = this.#read.get(path)
      if (kept?.state !== undefined && isUnchanged(kept.state, await stat(path, { bigint: true }))) return kept.content
      const { bytes, state } = await readRegular(path, LARGEST)
      if (bytes.length === 0) throw new Error('it is empty')
      return this.#keep(path, state, { name, bytes })
    } catch (cause) {
      // A key in base64, or without its BEGIN line, looks like a path: it is not for the log, nor what Node says of it.
      if (CONTENT.test(name)) throw invalid(role, 'is neither PEM nor the path of a file')
      const { code, message } = cause as NodeJS.ErrnoException
      throw invalid(name, `cannot be read: ${code ?? message}`, cause)
    }
  }

  #keep (key: string, state: FileState | undefined, content: Content): Content {
    const kept = this.#read.get(key)?.content
    const same = kept !== undefined && kept.name === content.name && kept.bytes.equals(content.bytes) ? kept : content
    this.#read.set(key, { state, content: same })
    return same
  }
}

/** An error that names the file. */
export function invalid (name: string, reason: string, cause?: unknown): Error {
  return new InvalidCertificatesError(`${name}: ${reason}`, { cause })
}

function isPem (text: string): boolean {
  return text.includes('-----BEGIN ')
}

/** PEM (RFC 7468), read strictly: Node reads what it can and is silent about the rest. */

export interface Block {
  /** `CERTIFICATE`, `X509 CRL`, … */
  readonly label: string
  /** With its BEGIN and END lines, and nothing around them. */
  readonly text: string
  readonly der: Buffer
}

const BEGIN = /-----BEGIN ([A-Z0-9 ]+)-----/g
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/**
 * All blocks. What stands around them is explanatory text (RFC 7468 §2).
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES for a block that does not end, as in a file that is half written
 */
export function blocksIn ({ name, bytes }: Content): Block[] {
  const text = bytes.toString('latin1')
  return [...text.matchAll(BEGIN)].map(({ 0: begin, 1: label, index }) => {
    const end = `-----END ${label}-----`
    const start = index + begin.length
    const until = text.indexOf('-----', start)
    if (until === -1 || !text.startsWith(end, until)) throw invalid(name, `is cut off: "${begin}" has no "${end}"`)
    const body = text.slice(start, until)
    return { label: label!, text: text.slice(index, until + end.length), der: Buffer.from(body, 'base64'), isBase64: BASE64.test(body.replaceAll(/\s+/g, '')) }
  }).map(({ isBase64, ...block }) => {
    // An encrypted key of the old kind has headers (RFC 1421): keys are parsed by OpenSSL.
    if (!isBase64 && !block.label.endsWith('PRIVATE KEY')) throw invalid(name, `has a ${block.label} block that is not base64`)
    return block
  })
}

/**
 * Every certificate of a PEM file, in its order: at least one.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export function certificatesIn (content: Content): X509Certificate[] {
  // OpenSSL's `TRUSTED CERTIFICATE` carries rules of its own, which Node ignores.
  const blocks = blocksIn(content).filter(({ label }) => label === 'CERTIFICATE')
  if (blocks.length === 0) throw invalid(content.name, 'holds no certificate (PEM, "-----BEGIN CERTIFICATE-----")')
  return blocks.map(({ der }, index) => {
    const certificate = certificateOf(der)
    if (certificate === undefined) throw invalid(content.name, `its ${ordinal(index)} certificate does not parse`)
    return certificate
  })
}

/** As PEM again, without what stood around it. */
export function pemOf (label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END ${label}-----\n`
}

export function describe (certificate: X509Certificate): string {
  return formatName(subjectOf(certificate)) || `serial number ${certificate.serialNumber}`
}

/** 0 is the first. */
export function ordinal (index: number): string {
  return ['first', 'second', 'third'][index] ?? `${index + 1}th`
}

/** CRLs from files: in DER, or in PEM (RFC 7468 §6). One of a million entries has 60 MB there: it is decoded in slices. */

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
