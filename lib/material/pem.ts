/** PEM (RFC 7468), read strictly: Node reads what it can and is silent about the rest. */
import type { X509Certificate } from 'node:crypto'
import { certificateOf } from '../certificate/certificate-of.ts'
import { formatName, subjectOf } from '../certificate/names.ts'
import { type Content, invalid } from './source.ts'

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
