/**
 * A unit, lib/x509/ocsp.ts: questions to OCSP responders and their answers: those of the openssl program, and those of responders that lie.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { createOcspRequest, MOST_OCSP_OCTETS, NONCE_OCTETS, type OcspAnswer, type OcspQuestion, readOcspResponse, responderOf } from '../lib/x509/ocsp.ts'
import { CERTIFIES, CLIENT, dn, extension, integer, type Made, make, names, oid, purposes, seq, SIGNS, text, usage } from './fixtures/chains.ts'
import { askOpensslOcsp, certId, envelope, failure, keyHashOf, type OcspDraft, ocspResponse, single } from './fixtures/ocsp.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { MINUTE } from './fixtures/time.ts'
import { parseCertificate, der } from './fixtures/x509.ts'

const OCSP_SIGNING = '1.3.6.1.5.5.7.3.9'
const CRITICAL = extension('1.2.3.4.5', text('odd'), true)

const root = make({ ca: true, subject: 'CN=Root' })
const issuer = make({ ca: true, subject: 'CN=Partners, O=Acme', issuer: root })
const leaf = make({ issuer })
const other = make({ issuer })
/** Of the same name, with another key. */
const namesake = make({ ca: true, subject: 'CN=Partners, O=Acme', issuer: root })
const delegateOf = (authority: Made, draft: Parameters<typeof make>[0] = {}): Made =>
  make({ issuer: authority, subject: 'CN=Responder', ...draft, extensions: { purposes: purposes(OCSP_SIGNING), ...draft.extensions } })
const delegate = delegateOf(issuer)
const mallory = make({ ca: true, subject: 'CN=Mallory' })
const nonce = randomBytes(NONCE_OCTETS)

const question = (more: Partial<OcspQuestion> = {}): OcspQuestion =>
  ({ certificate: parseCertificate(leaf.certificate), issuer: parseCertificate(issuer.certificate), nonce, now: Date.now(), ...more })
const draft = (more: Partial<OcspDraft> = {}): OcspDraft => ({ certificate: leaf, issuer, ...more })
const read = (more: Partial<OcspDraft> = {}, asked: Partial<OcspQuestion> = {}): OcspAnswer => readOcspResponse(ocspResponse(draft(more)), question(asked))
const about = (at: number, expected: number): boolean => Math.abs(at - expected) < MINUTE / 2

t.test('the openssl program understands our OCSP requests, and its responses are understood', { skip: withoutOpenssl }, (t) => {
  const facts = { certificate: parseCertificate(leaf.certificate), issuer: parseCertificate(issuer.certificate) }
  const request = createOcspRequest(facts.certificate, facts.issuer, nonce)
  const dir = t.testdir()
  for (const [name, content] of Object.entries({ request, 'issuer.pem': issuer.pem, 'leaf.pem': leaf.pem })) writeFileSync(join(dir, name), content)
  const made = spawnSync('openssl', ['ocsp', '-issuer', 'issuer.pem', '-cert', 'leaf.pem', '-no_nonce', '-reqout', 'theirs'], { cwd: dir })
  t.equal(made.status, 0)
  const textOf = (file: string): string => spawnSync('openssl', ['ocsp', '-reqin', file, '-req_text'], { cwd: dir, encoding: 'utf8' }).stdout
  t.ok(textOf('request').startsWith(textOf('theirs').trimEnd()), 'the same but for the nonce')
  t.match(textOf('request'), new RegExp(`OCSP Nonce:.*\n.*${nonce.toString('hex').toUpperCase()}`))

  for (const [signer, ...options] of [[issuer], [issuer, '-resp_key_id'], [delegate], [delegate, '-resp_key_id', '-nmin', '5']] as const) {
    const ask = (more: object): OcspAnswer => readOcspResponse(askOpensslOcsp(request, { issuer, signer, options, ...more }), question())
    const good = ask({ valid: [other, leaf] })
    t.match(good, { status: 'good', revokedAt: undefined })
    t.ok(about(good.thisUpdate, Date.now()) && about(good.producedAt, Date.now()) && about(good.nextUpdate, Date.now() + 5 * MINUTE))
    t.match(ask({ revoked: [leaf] }), { status: 'revoked', revokedAt: Date.UTC(2025, 0, 1) })
    t.match(ask({ valid: [other] }), { status: 'unknown' })
  }
  t.throws(() => readOcspResponse(askOpensslOcsp(request, { issuer, signer: delegateOf(namesake), valid: [leaf] }), question()), { message: 'its delegate has no certificate from the very issuer' })
  t.end()
})

t.test('an OCSP response of the issuer or of its delegate counts', (t) => {
  for (const [title, more] of Object.entries<Partial<OcspDraft>>({
    'the issuer, by its key': {},
    'the issuer, by its name': { responder: 'name' },
    'the issuer, by its name as others write it': { responder: der(0xa1, dn('CN=[19]PARTNERS, O=[19]acme')) },
    'a delegate, by its key': { signer: delegate, certificates: [delegate] },
    'a delegate, by its name, among others': { signer: delegate, certificates: [other, Buffer.of(0x30, 0), delegate, issuer], responder: 'name' },
    'a delegate of the name of another one': { signer: delegate, certificates: [delegateOf(issuer), delegateOf(namesake), delegate], responder: 'name' },
    'a delegate of the issuer\'s name': (() => {
      const same = delegateOf(issuer, { subject: 'CN=Partners, O=Acme' })
      return { signer: same, certificates: [same], responder: 'name' }
    })(),
    'a delegate without a key usage': (() => {
      const free = delegateOf(issuer, { extensions: { usage: undefined } })
      return { signer: free, certificates: [free] }
    })(),
    'a delegate with an RSA key': (() => {
      const rsa = delegateOf(issuer, { kind: 'rsa' })
      return { signer: rsa, certificates: [rsa] }
    })(),
    'a hash algorithm without parameters': { id: certId(leaf, issuer, { algorithm: [oid('1.3.14.3.2.26')] }) },
    'our nonce': { nonce },
    'an extension that is not critical': { extensions: [extension('1.3.6.1.5.5.7.48.1.9', Buffer.of(5, 0))], responseExtensions: [extension('1.2.3.4.5', text('odd'))] },
    'a clock that is four minutes ahead': { thisUpdate: 4 * MINUTE, producedAt: 4 * MINUTE },
    'several certificates, ours among them': { singles: [single(other, issuer, { status: 'revoked' }), single(leaf, issuer), single(leaf, namesake, { status: 'revoked' })] }
  })) t.equal(read(more).status, 'good', title)
  t.equal(readOcspResponse(ocspResponse({ certificate: issuer, issuer: root }), question({ certificate: parseCertificate(issuer.certificate), issuer: parseCertificate(root.certificate) })).status, 'good', 'about an authority')

  t.test('an OCSP response counts by the hash of the issuer name as the certificate has it', (t) => {
    const odd = make({ issuer, issuerName: dn('CN=[19]PARTNERS, O=[19]acme') })
    t.equal(readOcspResponse(ocspResponse({ certificate: odd, issuer }), question({ certificate: parseCertificate(odd.certificate) })).status, 'good')
    t.end()
  })
  t.end()
})

t.test('the status of an OCSP response is read', (t) => {
  t.match(read({ status: 'unknown' }), { status: 'unknown', revokedAt: undefined })
  t.match(read({ status: 'revoked' }), { status: 'revoked', revokedAt: Date.UTC(2025, 0, 1) })
  t.equal(read({ status: der(0xa1, Buffer.from('180f32303330303130313030303030305a', 'hex')) }).status, 'revoked', 'without a reason, some time in the future')

  t.test('of several statuses of one certificate in an OCSP response, the worst in date counts', (t) => {
    const all = (...states: Array<[status: 'good' | 'unknown' | 'revoked', nextUpdate: number]>): string =>
      read({ singles: states.map(([status, nextUpdate]) => single(leaf, issuer, { status, nextUpdate, thisUpdate: -2 * MINUTE })) }).status
    t.equal(all(['good', MINUTE], ['revoked', MINUTE], ['unknown', MINUTE]), 'revoked')
    t.equal(all(['good', MINUTE], ['unknown', MINUTE]), 'unknown')
    t.equal(all(['revoked', -MINUTE], ['good', MINUTE]), 'good')
    t.end()
  })

  t.test('the validity of an OCSP response is read', (t) => {
    const now = Date.now()
    t.ok(about(read({ nextUpdate: 90 * MINUTE }).nextUpdate, now + 90 * MINUTE))
    t.ok(about(read({ nextUpdate: null, nonce, producedAt: -60 * MINUTE, thisUpdate: -60 * MINUTE }).nextUpdate, now + 5 * MINUTE), 'made for us: five minutes from now')
    t.ok(about(read({ nextUpdate: null, producedAt: -2 * MINUTE, thisUpdate: -60 * MINUTE }).nextUpdate, now + 3 * MINUTE), 'else from when it was made')
    t.ok(about(read({ nextUpdate: null, producedAt: 4 * MINUTE }).nextUpdate, now + 5 * MINUTE), 'and no longer than from now')
    const brief = delegateOf(issuer, { days: [-1, 1 / 24] })
    t.ok(about(read({ signer: brief, certificates: [brief], nextUpdate: 90 * MINUTE }).nextUpdate, now + 60 * MINUTE), 'as long as its delegate')
    t.end()
  })

  t.test('a cached OCSP response is read as of when it came, whatever its nonce', (t) => {
    const kept = ocspResponse(draft({ status: 'revoked', nonce: randomBytes(32), nextUpdate: MINUTE }))
    t.equal(readOcspResponse(kept, question({ nonce: undefined })).status, 'revoked')
    t.throws(() => readOcspResponse(kept, question({ nonce: undefined, now: Date.now() + 2 * MINUTE })), { message: 'it is out of date' })
    const unbound = ocspResponse(draft({ nonce: randomBytes(32), nextUpdate: null, producedAt: -4 * MINUTE }))
    t.ok(about(readOcspResponse(unbound, question({ nonce: undefined })).nextUpdate, Date.now() + MINUTE), 'a nonce proves nothing then')
    t.end()
  })
  t.end()
})

t.test('a forged OCSP response does not count, and the reason says why', (t) => {
  const signed = (signer: Made, ...certificates: Array<Made | Buffer>): Partial<OcspDraft> => ({ signer, certificates: certificates.length === 0 ? [signer] : certificates })
  const NEITHER = 'it is signed by neither the issuer nor a delegate whose certificate it has'
  const FORGED = 'its delegate has no certificate from the very issuer'
  const FORBIDDEN = 'its delegate may not sign OCSP responses'
  const OTHERS = 'it is about other certificates'
  const MALFORMED = 'it is not an OCSP response in DER'
  const below = delegateOf(delegate)
  const rows: Array<readonly [title: string, message: string, lie: Partial<OcspDraft>]> = [
    ['signed by another key', NEITHER, { signer: mallory }],
    ['signed by another key that sends a certificate', FORGED, signed(mallory)],
    ['signed by another key in the name of the issuer', NEITHER, { signer: mallory, responder: der(0xa1, issuer.name) }],
    ['signed by another key with the issuer\'s certificate beside it', 'its delegate has no certificate from the very issuer', { signer: mallory, certificates: [issuer], responder: der(0xa1, issuer.name) }],
    ['signed by another key with the delegate\'s certificate beside it', 'its signature is wrong', { signer: mallory, certificates: [delegate], responder: der(0xa1, delegate.name) }],
    ['signed by a namesake of the issuer', NEITHER, { signer: namesake, responder: 'name' }],
    ['signed by a delegate of a namesake', FORGED, signed(delegateOf(namesake))],
    ['signed by a delegate of a namesake who names the issuer\'s key', FORGED, signed(delegateOf(namesake, { extensions: { authorityKey: extension('2.5.29.35', seq(der(0x80, issuer.keyId))) } }))],
    ['signed by a delegate of the issuer under another name', FORGED, signed(delegateOf(issuer, { issuerName: dn('CN=Other') }))],
    ['signed by a delegate who names another key', FORGED, signed(delegateOf(issuer, { extensions: { authorityKey: extension('2.5.29.35', seq(der(0x80, namesake.keyId))) } }))],
    ['signed by a delegate of the root', FORGED, signed(delegateOf(root))],
    ['signed by a delegate of a delegate', FORGED, signed(below, below, delegate)],
    ['signed by a delegate whose certificate was changed', FORGED, signed(delegateOf(issuer, { spoil: true }))],
    ['signed by a delegate whose certificate has a SHA-1 signature', FORGED, signed(delegateOf(issuer, { algorithm: 'ecdsaSha1' }))],
    ['signed by the certificate that it is about', FORBIDDEN, signed(leaf)],
    ['signed by another client', FORBIDDEN, signed(other)],
    ['signed by an authority below the issuer', FORBIDDEN, signed(make({ ca: true, issuer }))],
    ['signed by a delegate for any purpose', FORBIDDEN, signed(delegateOf(issuer, { extensions: { purposes: purposes('2.5.29.37.0') } }))],
    ['signed by a delegate whose key is for certificates', FORBIDDEN, signed(delegateOf(issuer, { extensions: { usage: usage(CERTIFIES) } }))],
    ['signed by a delegate that has ended', 'its delegate is not in date', signed(delegateOf(issuer, { days: [-3, -1] }))],
    ['signed by a delegate that has not begun', 'its delegate is not in date', signed(delegateOf(issuer, { days: [1, 3] }))],
    ['signed by a delegate with a short key', 'its delegate has a certificate or a key that does not count', signed(delegateOf(issuer, { kind: 'rsa1024' }))],
    ['signed by a delegate with a critical extension', 'its delegate has a certificate or a key that does not count', signed(delegateOf(issuer, { extensions: { odd: CRITICAL } }))],
    ['signed by a delegate of version 1', FORBIDDEN, signed(delegateOf(issuer, { version: 1 }))],
    ['signed by a delegate whose certificate is not sent', NEITHER, { signer: delegate }],
    ['signed by one delegate and in the name of another', NEITHER, { ...signed(delegate), responder: der(0xa1, dn('CN=Other')) }],
    ['changed after it was signed', NEITHER, { spoil: true }],
    ['changed after a delegate has signed it', 'its signature is wrong', { ...signed(delegate), spoil: true }],
    ['signed with SHA-1', 'its signature is made with an algorithm that is weak or not known', { algorithm: 'ecdsaSha1' }],
    ['with nine certificates', 'it has more than 8 certificates', { certificates: Array<Made>(9).fill(issuer) }],
    ['about another certificate', OTHERS, { certificate: other }],
    ['about a certificate of another issuer', OTHERS, { id: certId(leaf, issuer, { key: keyHashOf(namesake) }) }],
    ['about a certificate of an issuer of another name', OTHERS, { id: certId(leaf, issuer, { name: randomBytes(20) }) }],
    ['about another serial number', OTHERS, { id: certId(leaf, issuer, { serial: integer(1) }) }],
    ['about a hash that was not asked for', OTHERS, { id: certId(leaf, issuer, { algorithm: [oid('2.16.840.1.101.3.4.2.1'), Buffer.of(5, 0)] }) }],
    ['about a hash with other parameters', OTHERS, { id: certId(leaf, issuer, { algorithm: [oid('1.3.14.3.2.26'), integer(1)] }) }],
    ['about nothing', OTHERS, { singles: [] }],
    ['about an empty question', OTHERS, { singles: [seq()] }],
    ['to another question', 'its nonce is another one than was sent', { nonce: randomBytes(32) }],
    ['to a question that begins as ours', 'its nonce is another one than was sent', { nonce: nonce.subarray(0, 31) }],
    ['of the future', 'it is from the future', { thisUpdate: 6 * MINUTE }],
    ['made in the future', 'it is from the future', { producedAt: 6 * MINUTE }],
    ['of the past', 'it is out of date', { thisUpdate: -60 * MINUTE, nextUpdate: -MINUTE }],
    ['revoked in the past', 'it is out of date', { status: 'revoked', thisUpdate: -60 * MINUTE, nextUpdate: -MINUTE }],
    ['made long ago, without an end', 'it is out of date', { nextUpdate: null, producedAt: -6 * MINUTE }],
    ['with a critical extension', 'it has a critical extension that is not known', { responseExtensions: [CRITICAL] }],
    ['with a critical extension of the one answer', 'it has a critical extension that is not known', { extensions: [CRITICAL] }],
    ['of another type', 'its type is not id-pkix-ocsp-basic', { type: '1.3.6.1.5.5.7.48.1.99' }],
    ['with a version', MALFORMED, { version: der(0xa0, integer(0)) }],
    ['with more than there is', MALFORMED, { after: [integer(0)] }],
    ['with two nonces', MALFORMED, { nonce, responseExtensions: [extension('1.3.6.1.5.5.7.48.1.2', der(4, nonce))] }],
    ['with unused bits in its signature', MALFORMED, { unusedBits: 1 }],
    ['with an unknown kind of name', MALFORMED, { responder: der(0xa3, issuer.name) }],
    ['with a name that is none', MALFORMED, { responder: der(0xa1, seq(integer(1))) }],
    ['with two names', MALFORMED, { responder: der(0xa1, issuer.name, issuer.name) }],
    ['good, and more', MALFORMED, { status: der(0x80, integer(0)) }],
    ['unknown, and more', MALFORMED, { status: der(0x82, integer(0)) }],
    ['neither good nor revoked', MALFORMED, { status: der(0x83) }],
    ['revoked without a date', MALFORMED, { status: der(0xa1) }],
    ['revoked with more than a reason', MALFORMED, { status: der(0xa1, Buffer.from('180f32303230303130313030303030305a', 'hex'), integer(1)) }],
    ['revoked for no reason', MALFORMED, { status: der(0xa1, Buffer.from('180f32303230303130313030303030305a', 'hex'), der(0xa0, integer(1))) }],
    ['with what follows the one answer', MALFORMED, { more: [integer(1)] }],
    ['with a UTCTime', MALFORMED, { thisUpdate: Buffer.from('170d3230303130313030303030305a', 'hex') }],
    ['with parts of a second', MALFORMED, { thisUpdate: der(0x18, Buffer.from('20200101000000.5Z')) }],
    ['with an end that is no time', MALFORMED, { nextUpdate: Buffer.of(5, 0) }],
    ['made at no time', MALFORMED, { producedAt: Buffer.of(5, 0) }]
  ]
  for (const [title, message, lie] of rows) t.throws(() => read(lie), { message }, title)

  for (const [code, name] of [[1, 'malformedRequest'], [2, 'internalError'], [3, 'tryLater'], [5, 'sigRequired'], [6, 'unauthorized'], [4, '4']] as const) {
    t.throws(() => readOcspResponse(failure(code), question()), { message: `the responder says: ${name}` })
  }
  const whole = ocspResponse(draft())
  const odd: Record<string, Buffer> = {
    nothing: Buffer.alloc(0),
    'a page': Buffer.from('<!doctype html>'),
    'with what follows it': Buffer.concat([whole, Buffer.of(0)]),
    'cut off': whole.subarray(0, -1),
    'successful with nothing in it': failure(0),
    'with a status of two octets': failure(0, 0),
    'with a status of none': failure(),
    'with more than two parts': seq(der(0x0a, Buffer.of(0)), der(0xa0, seq()), der(0xa1)),
    'without a response in it': seq(der(0x0a, Buffer.of(0)), der(0xa0, seq(oid('1.3.6.1.5.5.7.48.1.1')))),
    'with more than a response in it': seq(der(0x0a, Buffer.of(0)), der(0xa0, seq(oid('1.3.6.1.5.5.7.48.1.1'), der(4), der(4)))),
    'with an empty response in it': envelope(Buffer.alloc(0)),
    'with what follows the response in it': envelope(Buffer.concat([seq(), seq()])),
    'with more than certificates in it': envelope(seq(seq(), seq(), der(3, Buffer.of(0)), der(0xa0, seq()), der(0xa1))),
    'in BER': Buffer.concat([Buffer.of(0x30, 0x80), whole.subarray(whole[1]! === 0x82 ? 4 : 3), Buffer.of(0, 0)])
  }
  for (const [title, bytes] of Object.entries(odd)) t.throws(() => readOcspResponse(bytes, question()), { message: MALFORMED }, title)
  t.throws(() => readOcspResponse(Buffer.alloc(MOST_OCSP_OCTETS + 1, 0x30), question()), { message: 'it has more than 65536 octets' })

  t.test('an OCSP response with any byte changed does not count', (t) => {
    const answers = [whole, ocspResponse(draft({ signer: delegate, certificates: [delegate], nonce, status: 'revoked' }))]
    fc.assert(fc.property(fc.constantFrom(...answers), fc.nat(), fc.integer({ min: 1, max: 255 }), (answer, at, change) => {
      const changed = Buffer.from(answer)
      changed[at % changed.length]! ^= change
      try {
        readOcspResponse(changed, question())
      } catch (error) {
        return error instanceof Error && /^it|^the responder says/.test(error.message)
      }
      return false // it counts
    }), { numRuns: 500 })
    t.end()
  })
  t.end()
})

t.test('the OCSP responder of a certificate is read', (t) => {
  const AIA = '1.3.6.1.5.5.7.1.1'
  const OCSP = '1.3.6.1.5.5.7.48.1'
  const ISSUERS = '1.3.6.1.5.5.7.48.2'
  const access = (...all: Array<[method: string, location: Uint8Array]>): Record<string, Uint8Array> => ({ access: extension(AIA, seq(...all.map(([method, location]) => seq(oid(method), location)))) })
  const of = (extensions: Record<string, Uint8Array>): string | undefined => responderOf(parseCertificate(make({ issuer, extensions }).certificate))
  t.equal(of({}), undefined)
  t.equal(of(access([ISSUERS, names.uri('http://a.test/ca.cer')], [OCSP, names.uri('http://Ocsp.test/A?b=C')])), 'http://Ocsp.test/A?b=C')
  t.equal(of(access([OCSP, names.uri('ldap://a.test/')], [OCSP, names.dns('a.test')], [OCSP, names.uri('HTTPS://b.test')])), 'HTTPS://b.test')
  for (const url of ['ldap://a.test/', 'file:///etc/passwd', 'http://', 'http://a.test/\x80', 'http://a.test/ b', 'http://a\n.test/', 'http://a.test:99999/', ' http://a.test/']) {
    t.equal(of(access([OCSP, names.uri(url)])), undefined, JSON.stringify(url))
  }
  t.equal(of({ access: extension(AIA, text('odd')) }), undefined, 'an extension that is none')
  t.equal(of({ access: extension(AIA, seq(seq(oid(OCSP)))) }), undefined, 'without a location')
  t.equal(of({ purposes: purposes(CLIENT), usage: usage(SIGNS) }), undefined)
  t.end()
})
