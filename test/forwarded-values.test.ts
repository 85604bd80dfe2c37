/**
 * Units of lib/proxy: what is read of header values that a client may have written, for any value at all.
 */
import t from 'tap'
import { X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import { reasonNamed, refusalOf } from '../lib/x509/reasons.ts'
import { createForwardedReader } from '../lib/proxy/forwarded-certificate.ts'
import { elementsOf, type ForwardedProtocol, openForwardedProtocol, type ProtocolReader } from '../lib/proxy/forwarded-protocol.ts'
import { isNamedIn } from '../lib/proxy/raw-headers.ts'
import { problemOf } from '../lib/proxy/encoding-problems.ts'
import { ABSENT, chainIn, decode, encode, type Format, formats, MALFORMED, MOST_BYTES, MOST_CERTIFICATES, parseXfcc, readings } from '../lib/proxy/encodings.ts'
import { type WholeEncoding as Encoding, WHOLE_ENCODINGS as ENCODINGS } from '../lib/proxy/presets.ts'
import { printable } from '../lib/text.ts'
import { derOf, escapePem, hashOf, written } from './fixtures/forward.ts'
import { nasty } from './fixtures/nasty.ts'
import { authority, issue } from './fixtures/pki.ts'

const ca = await authority('CA')
const intermediate = await issue(ca, { subject: 'CN=Intermediate', ca: true, purpose: 'none' })
const people = await Promise.all([issue(intermediate, { subject: 'CN=Jane' }), issue(intermediate, { subject: 'CN=Joe', keys: 'RSA' }), issue(intermediate, { subject: 'CN=Ed', keys: 'Ed' })])
const pems = people.map(({ cert }) => cert)

const escaped = (pem: string): string => encodeURIComponent(written['base64-der'](pem))
const onOneLine = (pem: string, space: string, newline: string, base64 = written['base64-der'](pem)): string => `-----BEGIN${space}CERTIFICATE-----${newline}${base64}${newline}-----END${space}CERTIFICATE-----${newline}`
/** What a few proxies write. */
const seldom: Record<Encoding, ReadonlyArray<(pem: string) => string>> = {
  rfc9440: [],
  'base64-der': [escaped, (pem) => `"${written['base64-der'](pem)}"`],
  'url-pem': [(pem) => onOneLine(pem, '%20', '%0A', escaped(pem))],
  'url-pem-aws': [(pem) => onOneLine(pem, '%20', '%0A')],
  'pem-spaces': [(pem) => onOneLine(pem, ' ', ' ').trim()],
  xfcc: []
}
const writersOf = (encoding: Encoding): ReadonlyArray<(pem: string) => string> => [written[encoding], ...seldom[encoding]]

/** Pieces that values are made of, so that what comes of them is nearly right. */
const pieces = fc.constantFrom(...pems.flatMap((pem) => ENCODINGS.flatMap((encoding) => writersOf(encoding).map((write) => write(pem)))), ...pems.map(hashOf),
  '', ':', ',', ', ', ';', '=', '"', '\\"', '%0A', '%20', ' ', '\t', '(null)', '{x}', 'Hash=', 'Cert="', 'Chain=', 'Subject=', '-----BEGIN%20CERTIFICATE-----%0A', '-----END%20CERTIFICATE-----', 'MIIB', '+', '/', '-', '_', '\u0000', 'é')
/** One that was right, changed in one place; pieces; or anything that Node's parser lets through. */
const values = fc.oneof(
  fc.tuple(fc.constantFrom(...ENCODINGS), fc.constantFrom(...pems), fc.nat(), fc.nat(3), fc.string({ unit: 'binary', maxLength: 3 })).map(([encoding, pem, at, cut, insert]) => {
    const writers = writersOf(encoding)
    const text = writers[at % writers.length]!(pem)
    const place = at % (text.length + 1)
    return text.slice(0, place) + insert + text.slice(place + cut)
  }),
  fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
  fc.string({ unit: 'binary' }).map((text) => Buffer.from(text).toString('latin1'))
)

/** All texts that stand for the certificates of a value that was taken. */
function textsOf (encoding: Exclude<Encoding, 'xfcc'>, chain: readonly X509Certificate[]): string[] {
  const separator = { 'base64-der': ',', 'url-pem-aws': '' }[encoding as string]
  const certificates = separator === undefined ? chain.slice(0, 1) : chain
  const texts = writersOf(encoding).map((write) => certificates.map((certificate) => write(String(certificate))).join(separator))
  // Quotes are for one alone.
  return texts.filter((text) => !/".*"./.test(text))
}

t.test('no header value throws, and an accepted one is byte for byte the certificates that it encodes', async (t) => {
  let taken = 0
  fc.assert(fc.property(values, fc.constantFrom(...ENCODINGS), fc.option(values, { nil: undefined }), (value, encoding, beside) => {
    const chain = chainIn({ encoding, hops: 1 }, value, beside)
    if (chain === ABSENT) return encoding === 'xfcc'
    if (chain === MALFORMED) return true
    taken++
    if (encoding === 'xfcc') return value.includes(escapePem(String(chain[0])).replace(/%0A$/, ''))
    if (chain.length > MOST_CERTIFICATES) return false
    return textsOf(encoding, beside === undefined ? chain : chain.slice(0, 1)).some((whole) => whole === value || whole === `${value}%0A`)
  }), { numRuns: 5_000, examples: ENCODINGS.flatMap((encoding) => pems.flatMap((pem) => writersOf(encoding).map((write): [string, Encoding, undefined] => [write(pem), encoding, undefined]))) })
  t.ok(taken >= ENCODINGS.flatMap(writersOf).length * pems.length, `${taken} were taken`)
})

t.test('a header value is accepted only if encoding its certificate again gives the same text', async (t) => {
  const byFormat: Array<[string, Format]> = [...Object.entries(formats), ...Object.entries(readings).flatMap(([name, all]) => all.slice(1).map((format): [string, Format] => [name, format]))]
  // Short, so that changes meet the ends of lines and padding as often as anything else.
  const contents = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }).map((bytes) => Buffer.from(bytes)), { minLength: 1, maxLength: MOST_CERTIFICATES })
  const pieces = fc.constantFrom('', 'A', '/', '+', '=', '==', '-', '%', '%2B', '%2b', '%2F', '%3D', '%0A', '%20', '\n', ' ', ',', ', ', ':', '\u0000', '\u00c1', '\u0141')
  const write = (format: Format, all: readonly Buffer[]): string => all.map((bytes) => encode(format, bytes)).join(format.separators?.[0] ?? '')
  const hex = (bytes: Buffer): string => bytes.toString('hex')
  const counts = { taken: 0, refused: 0 }
  for (const [name, format] of byFormat) {
    const list = (all: readonly Buffer[]): readonly Buffer[] => format.separators === undefined ? all.slice(0, 1) : all
    fc.assert(fc.property(contents, (all) => {
      const text = write(format, list(all))
      return [text, text + (format.last ?? '')].every((value) => String(decode(format, value)?.map(hex)) === String(list(all).map(hex)))
    }), { numRuns: 1_000 })
    fc.assert(fc.property(contents, fc.nat(), fc.nat(3), pieces, (all, at, cut, insert) => {
      const text = write(format, list(all))
      const place = at % (text.length + 1)
      const value = text.slice(0, place) + insert + text.slice(place + cut)
      const found = decode(format, value)
      counts[found === undefined ? 'refused' : 'taken']++
      if (found === undefined) return true
      const again = write(format, found)
      return again === value || again + (format.last ?? '') === value || (name === 'rfc9440-chain' && again === value.replaceAll(/, ?/g, ', '))
    }), { numRuns: 2_000 })
  }
  t.ok(counts.taken > 100 && counts.refused > 1_000, `${counts.taken} were taken, ${counts.refused} were not`)
  const some = (...sizes: number[]): number | undefined => decode(formats['base64-der'], sizes.map((size) => Buffer.alloc(size).toString('base64')).join(','))?.length
  t.strictSame([some(MOST_BYTES), some(MOST_BYTES - 1, 1), some(1, 1, 1, 1, 1)], [1, 2, 5], 'as many as there may be')
  t.strictSame([some(0), some(MOST_BYTES + 1), some(MOST_BYTES + 2), some(MOST_BYTES + 300), some(MOST_BYTES, 1), some(1, 1, 1, 1, 1, 1)], Array(6).fill(undefined), 'none, or too many')
})

t.test('what is wrong with a header value is said in one sentence, whatever it is', async (t) => {
  const said = new Set<string>()
  fc.assert(fc.property(values, fc.constantFrom(...ENCODINGS), fc.option(values, { nil: undefined }), (value, encoding, beside) => {
    if (typeof chainIn({ encoding, hops: 1 }, value, beside) !== 'string') return true
    const sentence = problemOf({ header: 'x-cert', encoding, hops: 1 }, value, beside)
    said.add(sentence)
    // A line of the log has 128 characters, and the longest header of a preset 27.
    return /^(?:x-cert|client-cert-chain) [\x20-\x7e§]+$/.test(sentence) && sentence.length <= 128 + 'x-cert'.length - 27
  }), { numRuns: 5_000, examples: ENCODINGS.flatMap((encoding) => ENCODINGS.flatMap((other) => writersOf(other).map((write): [string, Encoding, undefined] => [write(pems[0]!), encoding, undefined]))) })
  t.ok(said.size > 10, [...said].join('\n'))
})

t.test('no header lines throw, and they give one certificate or none', async (t) => {
  const { read } = createForwardedReader({ header: 'x-cert', encoding: 'url-pem', verified: { header: 'x-verify', value: 'SUCCESS' }, hops: 1 }, undefined)
  const names = fc.constantFrom('x-cert', 'X-Cert', 'x_cert', 'x-verify', 'X-VERIFY', 'connection', 'Connection', 'host', 'xxcert')
  const lines = fc.array(fc.tuple(names, fc.oneof(values, fc.constantFrom('SUCCESS', 'NONE', 'FAILED:x', 'close', 'x-cert', 'X-Verify, close', escapePem(pems[0]!)))), { maxLength: 6 })
  let taken = 0
  fc.assert(fc.property(lines, (all) => {
    // Node joins the lines of this one.
    const connection = all.filter(([spelled]) => spelled.toLowerCase() === 'connection').map(([, value]) => value)
    const { leaf, refusal } = read({ rawHeaders: all.flat(), headers: { connection: connection.length === 0 ? undefined : connection.join(', ') } }, Date.now())
    if (leaf === undefined || refusal !== undefined) return refusal !== undefined
    taken++
    const valuesOf = (name: string): string[] => all.filter(([spelled]) => spelled.toLowerCase() === name).map(([, value]) => value)
    return valuesOf('x-cert').length === 1 && valuesOf('x-verify').join('|') === 'SUCCESS' && writersOf('url-pem').some((write) => [write(String(leaf)), `${write(String(leaf))}%0A`].includes(valuesOf('x-cert')[0]!)) &&
      !connection.some((value) => /x-cert|x-verify/i.test(value))
  }), { numRuns: 5_000, examples: [[[['X-Cert', escapePem(pems[0]!)], ['x-verify', 'SUCCESS']]]] })
  t.ok(taken > 0)
})

t.test('X-Forwarded-Client-Cert of 16 MiB without a certificate is none', async (t) => {
  t.equal(parseXfcc(`a="${'x'.repeat(2 ** 24)}"`), undefined)
})

t.test('decoding a header value takes linear time', async (t) => {
  const parts = ['a', ' ', ',', ', ', ':', ':,', ';', 'a=b;', 'a="', '"', '\\', '\\"', 'a=\\"', 'dns=x;', 'dns="x",', '%', '%0A', '%2B', '-', '-----END%20CERTIFICATE-----%0A', '-----BEGIN%20CERTIFICATE-----%0A', '{', '}', 'x-cert,', 'A'.repeat(64) + '%0A', 'AAAA,', written['base64-der'](pems[0]!) + ',', `${written.rfc9440(pems[0]!)}, `, '%2f', '%0D%0A', 'BEGIN+', '-----BEGIN A', '-----BEGIN CERTIFICATE-----']
  const { read } = createForwardedReader({ header: 'x-cert', encoding: 'xfcc', verified: 'presence', hops: 1 }, undefined)
  const readers: Record<string, (value: string) => unknown> = {
    ...Object.fromEntries(ENCODINGS.map((encoding) => [encoding, (value: string) => chainIn({ encoding, hops: 1 }, value, undefined)])),
    ...Object.fromEntries(ENCODINGS.map((encoding) => [`what is wrong with ${encoding}`, (value: string) => problemOf({ header: 'x-cert', encoding, hops: 1 }, value, undefined)])),
    chain: (value) => decode(formats['rfc9440-chain'], value),
    'xfcc, quoted': (value) => parseXfcc(`a="${value}`),
    header: (value) => read({ rawHeaders: ['x-cert', `{${value}`], headers: {} }, Date.now()),
    connection: (value) => read({ rawHeaders: ['x-cert', 'x'], headers: { connection: value } }, Date.now()),
    verdict: (value) => refusalOf(reasonNamed(`FAILED:${value}`))
  }
  const took = (read: (value: string) => unknown, value: string): number => {
    let least = Infinity
    for (let i = 0; i < 3; i++) {
      const start = performance.now()
      read(value)
      least = Math.min(least, performance.now() - start)
    }
    return least
  }
  for (const [name, read] of Object.entries(readers)) {
    // Sixteen times as long: sixteen times the time, or 256 times where it is the square, which would be seconds here. Node's limit is 16 KiB.
    const slow = parts.filter((part) => {
      const [short, long] = [16_384, 262_144].map((length) => took(read, part.repeat(Math.ceil(length / part.length))))
      return long! > 200 && long! > short! * 80
    })
    t.strictSame(slow, [], name)
  }
})

t.test('a header value with anything before, after or inside the certificate is refused', async (t) => {
  const der = derOf(pems[0]!)
  const base64 = (bytes: Buffer): string => bytes.toString('base64')
  for (const [name, value] of Object.entries({
    'one byte more': base64(Buffer.concat([der, Buffer.of(0)])),
    'a second one behind it': base64(Buffer.concat([der, der])),
    'an element behind it': base64(Buffer.concat([der, Buffer.from('0500', 'hex')])),
    'a longer form of its length': base64(Buffer.concat([Buffer.of(0x30, 0x83, 0), der.subarray(2)])),
    nothing: base64(Buffer.from('3000', 'hex')),
    'a list that ends with a comma': `${base64(der)},`,
    'a list that begins with one': `,${base64(der)}`,
    'six, each issued by the next': Array(6).fill(base64(derOf(ca.cert))).join(','),
    'its issuer first': `${base64(derOf(intermediate.cert))},${base64(der)}`,
    'another one behind it': `${base64(der)},${base64(derOf(pems[1]!))}`
  })) t.equal(chainIn({ encoding: 'base64-der', hops: 1 }, value, undefined), MALFORMED, name)
  const chain = chainIn({ encoding: 'base64-der', hops: 1 }, [pems[0]!, intermediate.cert, ca.cert].map((pem) => base64(derOf(pem))).join(','), undefined)
  t.equal((chain as unknown as X509Certificate[]).length, 3)
  const blocks = [pems[0]!, intermediate.cert, ca.cert].map(written['url-pem-aws']).join('')
  t.equal((chainIn({ encoding: 'url-pem-aws', hops: 1 }, blocks, undefined) as unknown as X509Certificate[]).length, 3)
  t.equal(chainIn({ encoding: 'url-pem-aws', hops: 1 }, blocks + written['url-pem-aws'](pems[1]!), undefined), MALFORMED)
  t.equal(chainIn({ encoding: 'rfc9440', hops: 1 }, written.rfc9440(pems[0]!), Array(5).fill(written.rfc9440(ca.cert)).join(', ')), MALFORMED, 'five beside it')
  t.equal((chainIn({ encoding: 'rfc9440', hops: 1 }, written.rfc9440(pems[0]!), Array(4).fill(written.rfc9440(ca.cert)).join(', ')) as unknown as X509Certificate[]).length, 5, 'four beside it')
})

t.test('a header may carry 16 KiB of certificates, and no more', async (t) => {
  const large = await issue(ca, { san: [{ type: 'dns', value: `${'a'.repeat(8_000)}.test` }] })
  const both = `${written.rfc9440(large.cert)}, ${written.rfc9440(large.cert)}`
  t.equal((chainIn({ encoding: 'rfc9440', hops: 1 }, written.rfc9440(large.cert), undefined) as unknown as X509Certificate[]).length, 1)
  t.equal(chainIn({ encoding: 'rfc9440', hops: 1 }, written.rfc9440(large.cert), both), MALFORMED)
  const larger = await issue(ca, { san: [{ type: 'dns', value: `${'a'.repeat(16_384)}.test` }] })
  for (const encoding of ENCODINGS) t.equal(chainIn({ encoding, hops: 1 }, written[encoding](larger.cert), undefined), MALFORMED, encoding)
})

t.test('reasons of a proxy for an invalid certificate are known by name', async (t) => {
  for (const [verdict, reason, refusal] of [
    ['FAILED:certificate has expired', 'CERT_HAS_EXPIRED', 'certificateExpired'], ['10', 'CERT_HAS_EXPIRED', 'certificateExpired'], ['CERT_HAS_EXPIRED', undefined, 'certificateInvalid'],
    ['9', 'CERT_NOT_YET_VALID', 'certificateNotYetValid'], ['23', 'CERT_REVOKED', 'certificateRevoked'], ['FAILED:self signed certificate in certificate chain', 'SELF_SIGNED_CERT_IN_CHAIN', 'certificateUntrusted'],
    ['GENEROUS', 'CERT_UNTRUSTED', 'certificateUntrusted'], ['26', 'INVALID_PURPOSE', 'certificateInvalid'], ['99', undefined, 'certificateInvalid'], ['constructor', undefined, 'certificateInvalid'], ['', undefined, 'certificateInvalid']
  ]) {
    t.equal(reasonNamed(verdict!), reason)
    t.equal(refusalOf(reason), refusal)
  }
})

t.test('a header that Connection names is recognized', async (t) => {
  for (const [connection, named] of [
    [undefined, false], ['close', false], ['x-cert', true], ['X-Cert', true], ['close, x-cert', true], ['close,x-cert ,keep-alive', true], ['x-certificate', false], ['no-x-cert', false], ['x-cert;q=1', false], ['"x-cert"', false]
  ] as const) t.equal(isNamedIn(connection, 'x-cert'), named, String(connection))
})

// How a client came

const HOPS = [undefined, 1, 2, 3, 10] as const
const PROTOCOLS = ([['x-forwarded-proto', 'https'], ['forwarded', 'https'], ['cloudfront-forwarded-proto', 'https'], ['x-forwarded-ssl', 'on'], ['x-arr-ssl', undefined]] as const)
  .flatMap(([header, value]) => HOPS.filter((hops) => hops === undefined || value !== undefined).map((hops): ForwardedProtocol => ({ header, value, hops })))
const readers = await Promise.all(PROTOCOLS.map(async (protocol) => ({ protocol, reader: await openForwardedProtocol(protocol) })))

type Lines = ReadonlyArray<readonly [name: string, value: string]>

/** As Node has it: `headers` with all lines of a name joined. */
function received (lines: Lines): Parameters<ProtocolReader['isSecure']>[0] {
  const headers: Record<string, string> = {}
  for (const [spelled, value] of lines) {
    const name = spelled.toLowerCase()
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  return { rawHeaders: lines.flat(), headers }
}

/** Pieces that are nearly what proxies write. */
const said = fc.oneof(fc.array(fc.constantFrom('https', 'HTTPS', 'http', 'wss', 'on', 'off', 'proto=https', 'proto=http', 'Proto="https"', 'for=a', 'for="a,b"', 'for="a\\"b"', ';', ',', ', ', ' ', '"', '\\', '\\"', '=', '\t', '\u0000', '\u0085', 'é', ''), { maxLength: 9 }).map((parts) => parts.join('')), nasty)

t.test('no header lines make a client one over HTTPS but those that say so', async (t) => {
  const counts = { secure: 0, not: 0 }
  const asked = fc.constantFrom(...readers).chain((one) => {
    const { header, value = 'x' } = one.protocol
    const fine = header === 'forwarded' ? `proto=${value}` : value
    const names = fc.constantFrom(header, header.toUpperCase(), header.replaceAll('-', '_'), 'x-forwarded-proto', 'Connection')
    const values = fc.oneof({ weight: 2, arbitrary: said }, { weight: 3, arbitrary: fc.constantFrom(fine, `${fine}, ${fine}`, 'close', `close, ${header.toUpperCase()}`) })
    return fc.tuple(fc.constant(one), fc.array(fc.tuple(names, values), { maxLength: 4 }))
  })
  fc.assert(fc.property(asked, fc.boolean(), ([{ protocol: { header, value, hops }, reader }, lines], isUpgrade) => {
    const all = received(lines)
    const isSecure = reader.isSecure(all, isUpgrade)
    const problem = reader.problem(all, isUpgrade)
    counts[isSecure ? 'secure' : 'not']++
    if (!isSecure) return problem === undefined || (problem.startsWith(`${header} is `) && problem === printable(problem, 256))
    const own = lines.filter(([name]) => name.toLowerCase() === header).map(([, value]) => value)
    const joins = hops === undefined && (header === 'x-forwarded-proto' || header === 'forwarded')
    return problem === undefined && (joins ? own.length >= 1 : own.length === 1) &&
      !lines.some(([name, value]) => name.toLowerCase() === 'connection' && value.toLowerCase().split(',').some((option) => option.trim() === header)) &&
      (value === undefined ? own[0] !== '' : own.join().toLowerCase().includes(value) || (isUpgrade && /wss/i.test(own.join())))
  }), { numRuns: 10_000 })
  t.ok(counts.secure > 300 && counts.not > 1_000, JSON.stringify(counts))
})

t.test('with hops, nothing left of the value that counts ever matters', async (t) => {
  const counts = { secure: 0, not: 0 }
  const answers = (reader: ProtocolReader, name: string, value: string): boolean[] => [false, true].map((isUpgrade) => reader.isSecure(received([[name, value]]), isUpgrade))
  const quoted = nasty.map((text) => `"${text.replaceAll(/["\\]/g, '\\$&').replaceAll(/[^ -~]/g, '')}"`)
  const parameter = fc.oneof(fc.constantFrom('proto=https', 'proto=http', 'proto="HTTPS"', 'by=_a', 'for="\\\\"', 'host=""'), quoted.map((text) => `for=${text}`))
  const elements = { forwarded: fc.array(parameter, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(';')), others: fc.oneof(fc.constantFrom('https', 'http', 'on', 'WSS', '"', '\\"', 'x"y'), nasty.map((text) => text.replaceAll(',', ''))) }
  // Also what is too much for it, and what looks like a list of its own
  const left = fc.oneof(said, fc.constantFrom('"'.repeat(2_001), '\\'.repeat(2_001), 'https, '.repeat(999), 'for="'))
  for (const { protocol: { header, value, hops }, reader } of readers.filter(({ protocol }) => protocol.hops !== undefined)) {
    const element = elements[header === 'forwarded' ? 'forwarded' : 'others']
    fc.assert(fc.property(fc.array(element, { minLength: hops!, maxLength: hops! }), fc.constantFrom(',', ', ', ' ,\t'), left, (own, separator, text) => {
      const tail = own.join(separator)
      const alone = answers(reader, header, tail)
      counts[alone[0] ? 'secure' : 'not']++
      return answers(reader, header, `${text},${tail}`).join() === alone.join()
    }), { numRuns: 500, examples: [[Array<string>(hops!).fill(header === 'forwarded' ? `proto=${value}` : value!), ', ', '"']] })
    // Whatever is right of it, as long as the values that count are all there
    fc.assert(fc.property(said, left, left, (tail, one, other) => {
      const elements = elementsOf(tail, header, hops)
      return elements === undefined || elements.length < hops! || answers(reader, header, `${one},${tail}`).join() === answers(reader, header, `${other},${tail}`).join()
    }), { numRuns: 500 })
  }
  t.ok(counts.secure > 100 && counts.not > 1_000, JSON.stringify(counts))
})

t.test('elements of a list from the right are those that a reader from the left finds', async (t) => {
  const text = nasty.map((some) => some.replaceAll(/[^ -~]/g, ''))
  const quoted = text.map((some) => `x="${some.replaceAll(/["\\]/g, '\\$&')}"`)
  const token = fc.constantFrom('', 'proto=https', 'a', 'b=c;d=e')
  let several = 0
  fc.assert(fc.property(fc.array(fc.oneof(quoted, token), { minLength: 1, maxLength: 5 }), fc.nat(5), (all, hops) => {
    const expected = hops === 0 ? all : all.slice(-hops)
    if (expected.length > 1) several++
    return elementsOf(all.join(', '), 'forwarded', hops || undefined)?.reverse().join('|') === expected.join('|')
  }), { numRuns: 3_000 })
  fc.assert(fc.property(fc.array(text.map((some) => some.replaceAll(',', '').trim()), { minLength: 1, maxLength: 5 }), (all) => elementsOf(all.join(','), 'x-forwarded-proto')?.reverse().join('|') === all.join('|')), { numRuns: 1_000 })
  t.ok(several > 1_000, String(several))
})

t.test('reading how a client came takes linear time', async (t) => {
  const parts = ['a', ' ', ',', ', ', '"', '\\', '\\"', '",', ',"', '"\\', 'https,', 'proto=https,', 'proto=https;', 'proto=', 'proto="', 'for="\\\\",', ';', '=', ' ,"']
  const took = (read: (value: string) => unknown, value: string): number => {
    let least = Infinity
    for (let i = 0; i < 3; i++) {
      const start = performance.now()
      read(value)
      least = Math.min(least, performance.now() - start)
    }
    return least
  }
  for (const { protocol: { header, hops }, reader } of readers.filter(({ protocol: { hops } }) => hops === undefined || hops === 2)) {
    const all = (value: string): unknown => [reader.isSecure(received([[header, value]]), true), reader.problem(received([[header, value]]), true)]
    const named = (value: string): unknown => reader.isSecure(received([[header, 'x'], ['connection', value]]), false)
    const slow = parts.filter((part) => [all, named].some((read) => {
      const [short, long] = [16_384, 262_144].map((length) => took(read, part.repeat(Math.ceil(length / part.length))))
      return long! > 200 && long! > short! * 80
    }))
    t.strictSame(slow, [], `${header} ${hops}`)
    // What the parser throws is the dearest of all.
    const dear = ['@,', '=,', 'x,', '",'].map((part) => took(all, part.repeat(8_192))).filter((took) => took > 25)
    t.strictSame(dear, [], `${header} ${hops}, malformed thousands of times`)
  }
})
