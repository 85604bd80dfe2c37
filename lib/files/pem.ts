/**
 * Certificates, keys and CRLs from files or from their content. Begin with `locate` (is it a path or content?) and
 * `FileReader`, which reads one (`read`), or reads and parses many (`readAll`). Then PEM (RFC 7468): `blocksIn`,
 * `certificatesIn`, `pemOf`; and CRL files: `crlsIn`.
 */
import type { X509Certificate } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'
import { InvalidCertificatesError } from '../errors.ts'
import { type Pause, Slices } from '../slices.ts'
import { type Crl, parseCrl } from '../x509/crl.ts'
import { formatName, subjectOf } from '../x509/distinguished-names.ts'
import { certificateOf } from '../x509/fields.ts'
import { type FileState, isUnchanged, readRegular } from './read.ts'

/**
 * A file or its content: the path of a file, relative to the working directory; or PEM text (RFC 7468), which contains
 * `-----BEGIN `; or the bytes of a file.
 */
export type FileOrContent = string | Uint8Array

/** The content of a file or option, and its name in messages. */
export interface Content {
  readonly name: string
  readonly bytes: Buffer
}

/** Bytes. The largest CRLs of public CAs have about a quarter of it. A device file would have no end. */
const LARGEST = 128 * 1024 * 1024

/** Looks like content in an unknown form rather than like a path: it may be a private key. */
const LOOKS_LIKE_CONTENT = /[\r\n{}"]|^\s*data:|^[\w+/=-]{40,}$/

/**
 * A file: its absolute path, which stays right when the process changes its working directory, and the path as it was
 * written.
 */
export interface NamedFile { readonly path: string, readonly name: string }
/** A file, or the content itself. */
export type Located = Buffer | NamedFile

/**
 * Decides whether a source is a path or content. Content is copied: the caller may overwrite its own buffer.
 *
 * @param dir what a path is relative to; default: the working directory
 */
export function locate (source: FileOrContent, dir = ''): Located {
  return typeof source === 'string' && !isPem(source) ? Object.freeze({ path: resolve(dir, source), name: source }) : Buffer.from(source as string)
}

/** The path of a source; undefined if it is content. */
export function pathOf (source: Located): string | undefined {
  return 'path' in source ? source.path : undefined
}

/** What a file or option holds, or why it cannot be used. */
export interface Parsed<Value> {
  /** As in `Content`. */
  readonly name: string
  readonly values: readonly Value[]
  readonly error: Error | undefined
}

/**
 * Reads files and content. A file is read again only if it looks changed; if it has not changed, the same `Content`
 * object is returned, so that results computed from it can be used again.
 */
export class FileReader {
  readonly #cache = new Map<string, { readonly state: FileState | undefined, readonly content: Content }>()

  /**
   * Reads a whole source.
   *
   * @param role the name of content in messages: `certificates[0].key`
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES when a file is missing, unreadable, empty, too large, or no regular
   * file
   */
  async read (source: Located, role: string): Promise<Content> {
    if (!('path' in source)) return this.#cacheContent(role, undefined, { name: role, bytes: source })
    // Messages have the path as it was written: people look for that in their configuration.
    const { path, name } = source
    try {
      const cached = this.#cache.get(path)
      if (cached?.state !== undefined && isUnchanged(cached.state, await stat(path, { bigint: true }))) return cached.content
      const { bytes, state } = await readRegular(path, LARGEST)
      if (bytes.length === 0) throw new Error('it is empty')
      return this.#cacheContent(path, state, { name, bytes })
    } catch (cause) {
      // A key in base64, or without its BEGIN line, looks like a path. Neither the value nor Node's message, which
      // contains it, may be logged.
      if (LOOKS_LIKE_CONTENT.test(name)) throw invalid(role, 'is neither PEM nor the path of a file')
      const { code, message } = cause as NodeJS.ErrnoException
      throw invalid(name, `cannot be read: ${code ?? message}`, cause)
    }
  }

  /**
   * Reads and parses all files and content. Never rejects: the caller checks one after the other, and may do without one. What
   * has not changed is not parsed again, for a CRL may have a million entries.
   *
   * @param files with their names in messages, where they are content
   * @param parse `certificatesIn` or `crlsIn`
   */
  async readAll<File extends { readonly source: Located, readonly role: string }, Value> (files: readonly File[], parse: (content: Content) => Value[] | Promise<Value[]>): Promise<ReadonlyArray<File & Parsed<Value>>> {
    const parsed: Array<File & Parsed<Value>> = []
    for (const file of files) {
      const { source, role } = file
      const name = 'path' in source ? source.name : role
      try {
        parsed.push({ ...file, name, values: await memoized(await this.read(source, role), parse), error: undefined })
      } catch (error) {
        parsed.push({ ...file, name, values: [], error: error as Error })
      }
    }
    return parsed
  }

  /** Forgets every other file, and with it what it held. */
  retain (paths: readonly string[]): void {
    const kept = new Set(paths)
    for (const key of this.#cache.keys()) if (isAbsolute(key) && !kept.has(key)) this.#cache.delete(key)
  }

  #cacheContent (key: string, state: FileState | undefined, content: Content): Content {
    const cached = this.#cache.get(key)?.content
    const same = cached !== undefined && cached.name === content.name && cached.bytes.equals(content.bytes) ? cached : content
    this.#cache.set(key, { state, content: same })
    return same
  }
}

/** What was parsed, by content, which is the same object while unchanged. */
const memo = new Map<unknown, WeakMap<Content, unknown>>()

function memoized<Value> (content: Content, parse: (content: Content) => Value): Value {
  const known = memo.get(parse) ?? new WeakMap<Content, unknown>()
  memo.set(parse, known)
  if (!known.has(content)) known.set(content, parse(content))
  return known.get(content) as Value
}

/** @returns an error FST_HTTP_SECURITY_INVALID_CERTIFICATES that names the file */
export function invalid (name: string, reason: string, cause?: unknown): Error {
  return new InvalidCertificatesError(`${name}: ${reason}`, { cause })
}

function isPem (text: string): boolean {
  return text.includes('-----BEGIN ')
}

// PEM (RFC 7468)
//
// Read strictly: Node reads what it can, and ignores the rest silently.

/** A PEM block. */
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
 * All PEM blocks. Text around them is explanatory (RFC 7468 §2).
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES for a block without an end, as in a half-written file
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
    // An encrypted key in the older format has headers (RFC 1421). Keys are parsed by OpenSSL.
    if (!isBase64 && !block.label.endsWith('PRIVATE KEY')) throw invalid(name, `has a ${block.label} block that is not base64`)
    return block
  })
}

/**
 * All certificates of a PEM file, in the order of the file: at least one.
 *
 * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES
 */
export function certificatesIn (content: Content): X509Certificate[] {
  // Not OpenSSL's `TRUSTED CERTIFICATE`: it has trust rules of its own, which Node ignores.
  const blocks = blocksIn(content).filter(({ label }) => label === 'CERTIFICATE')
  if (blocks.length === 0) throw invalid(content.name, 'holds no certificate (PEM, "-----BEGIN CERTIFICATE-----")')
  return blocks.map(({ der }, index) => {
    const certificate = certificateOf(der)
    if (certificate === undefined) throw invalid(content.name, `its ${ordinal(index)} certificate does not parse`)
    return certificate
  })
}

/** Writes a PEM block, without text around it. */
export function pemOf (label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END ${label}-----\n`
}

/** A certificate in messages: its subject, or its serial number if that is empty. */
export function describe (certificate: X509Certificate): string {
  return formatName(subjectOf(certificate)) || `serial number ${certificate.serialNumber}`
}

/** An index in words: 0 is `first`. */
export function ordinal (index: number): string {
  return ['first', 'second', 'third'][index] ?? `${index + 1}th`
}

// CRL files
//
// In DER, or in PEM (RFC 7468 §6). A CRL with a million entries has 60 MB in PEM: it is decoded in slices.

/** The label of RFC 7468 §6, and one that some programs write. */
const LABELS = ['X509 CRL', 'CRL']

const BEGIN_CRL = '-----BEGIN '
const DASHES = '-----'
const LABEL = /^[A-Z0-9 ]{1,64}$/
/** Characters between `-----BEGIN ` and the dashes after it. */
const LONGEST_LABEL = 64

const SEQUENCE = 0x30
/** The length of a CRL always takes more than one octet. */
const LONG_FORM = 0x80

const WHITE_SPACE = /[\t-\r ]+/g
const BASE64_OCTETS = /^[A-Za-z0-9+/]*$/
const PADDING = /={1,2}$/

interface CrlBlock {
  readonly label: string
  /** The text between the BEGIN and END lines. */
  readonly body: Buffer
}

/**
 * All CRLs of a file: one in DER, or any number in PEM, in the order of the file. Their issuers and dates are not
 * checked.
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

/** Text may begin with the same octet, but not continue with this one. */
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
    // Four characters are three octets. The rest begins the next piece, or is the end.
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
