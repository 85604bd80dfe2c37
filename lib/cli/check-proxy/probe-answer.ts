/** Reads what the probe answers. Whoever answers may be anybody: what comes of it is sent, compared and printed. */
import { formats } from '../../proxy/encodings.ts'
import type { ProbeAnswer, ProbedHeader } from '../../request/probe.ts'

/** An app believes six at most. */
const MOST_HEADERS = 16
/** Of one header. */
const MOST_LINES = 100
/** Characters of what the app expects in a verdict, and of what it says of a certificate. */
const LONGEST = 1024
/** Ours are in lower case. */
const NAME = /^[a-z0-9]+(?:-[a-z0-9]+)*$/
const FINGERPRINT = /^(?:[0-9a-f]{64})?$/
const ROLES: ReadonlySet<unknown> = new Set<ProbedHeader['role']>(['protocol', 'host', 'certificate', 'verdict', 'chain', 'early-data'])
const ENCODINGS: ReadonlySet<unknown> = new Set([...Object.keys(formats), 'xfcc'])

/** @returns `undefined` where it is not exactly such an answer */
export function parseAnswer (body: string): ProbeAnswer | undefined {
  const answer = parseJson(body)
  return isAnswer(answer) ? answer : undefined
}

function parseJson (body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** Of something that may be anything. */
type Unknown<Type> = { readonly [Key in keyof Type]?: unknown }

function isAnswer (value: unknown): value is ProbeAnswer {
  const { version, isTrusted, secure, certificate, headers } = Object(value) as Unknown<ProbeAnswer>
  return version === 1 && isBoolean(isTrusted) && isBoolean(secure) && isCertificate(certificate) && isArray(headers, MOST_HEADERS, isHeader)
}

function isCertificate (value: unknown): boolean {
  const { isPresent, isValid, fingerprint256, code, reason } = Object(value) as Unknown<ProbeAnswer['certificate']>
  return isBoolean(isPresent) && isBoolean(isValid) && isText(fingerprint256) && FINGERPRINT.test(fingerprint256) && isText(code) && isText(reason)
}

function isHeader (value: unknown): boolean {
  const { name, role, encoding, expected, values, underscored } = Object(value) as Unknown<ProbedHeader>
  const isBelieved = isText(name) && NAME.test(name) && ROLES.has(role)
  const isReadable = role !== 'certificate' || ENCODINGS.has(encoding)
  const isExpected = role !== 'verdict' || isText(expected)
  return isBelieved && isReadable && isExpected && isArray(values, MOST_LINES, isString) && isArray(underscored, MOST_LINES, isString)
}

function isArray (value: unknown, most: number, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length <= most && value.every(isItem)
}

const isBoolean = (value: unknown): boolean => typeof value === 'boolean'
const isString = (value: unknown): boolean => typeof value === 'string'
const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= LONGEST
