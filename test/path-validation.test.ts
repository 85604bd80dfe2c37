/**
 * Units of lib/x509: chains of clients, and which of them are revoked, judged by us and by the openssl program: what it
 * refuses is refused, and what it accepts is accepted, but where a row says otherwise.
 */
import { type KeyObject, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { PathVerifier, type RevocationStatusOf } from '../lib/x509/path-validation.ts'
import { explainProblem, problemOfAuthority } from '../lib/x509/problems-in-words.ts'
import { Budget } from '../lib/x509/budget.ts'
import { AGREES, alternatives, ANY, ANY_POLICY, CERTIFIES, CLIENT, constraints, dn, ENCIPHERS, entry, extension, integer, LISTS, type Made, make, makeList, nameConstraints, names, netscape, oid, pemOf, policyMappings, purposes, reason, rsaOf, seq, SERVER, SIGNS, subtree, text, usage } from './fixtures/chains.ts'
import { distributionPoints, idp } from './fixtures/crls.ts'
import { type Chain, withoutOpenssl, stricterThanOldOpenssl, wordOfOpenssl, wordsOfOpenssl } from './fixtures/openssl.ts'
import { suites } from './fixtures/suites.ts'
import { cpuTime, DAY } from './fixtures/time.ts'
import { certificatesOf, revoking, verify, verifyListed } from './fixtures/verified.ts'
import { parseCertificate, der, tags } from './fixtures/x509.ts'

const dir = t.testdir()

const pointOf = (...octets: number[]) => seq(seq(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7')), der(3, Buffer.from(octets)))

/** We refuse what openssl accepts, or the other way around. */
type Difference = 'stricter' | 'more lenient'
type Row = readonly [title: string, error: string | undefined, chain: () => Chain, difference?: Difference | undefined]

const root = make({ ca: true, subject: 'CN=Root' })
const middle = make({ ca: true, subject: 'CN=Middle', issuer: root })
const under = (leaf: Parameters<typeof make>[0] = {}, authority: Parameters<typeof make>[0] = {}): Chain => {
  const issuer = make({ ca: true, issuer: root, ...authority })
  return { ca: [root], others: [issuer], leaf: make({ issuer, ...leaf }) }
}
/** A chain of as many intermediates, the root first. */
const long = (...drafts: Array<Parameters<typeof make>[0]>): Chain => {
  const all = [make({ ca: true, ...drafts.shift() })]
  for (const draft of drafts) all.push(make({ ca: true, issuer: all.at(-1)!, ...draft }))
  return { ca: [all[0]!], others: all.slice(1), leaf: make({ issuer: all.at(-1)! }) }
}
const ofRoot = (root: Parameters<typeof make>[0], leaf: Parameters<typeof make>[0] = {}): Chain => {
  const issuer = make({ ca: true, ...root })
  return { ca: [issuer], leaf: make({ issuer, ...leaf }) }
}
const leafWith = (extensions: Record<string, Uint8Array | undefined>): Chain => under({ extensions })
const middleWith = (extensions: Record<string, Uint8Array | undefined>): Chain => under({}, { extensions })
const rootWith = (extensions: Record<string, Uint8Array | undefined>): Chain => ofRoot({ extensions })
const UNKNOWN = '1.2.3.4.5'
const odd = (id: string, value: Uint8Array = text('odd'), critical = false) => ({ odd: extension(id, value, critical) })

const shapes: Row[] = [
  ['a plain one', undefined, () => ({ ca: [root], leaf: make({ issuer: root }) })],
  ['with an intermediate authority', undefined, () => under()],
  ['with three of them in order', undefined, () => long({}, {}, {}, {})],
  ['with three of them the other way around', undefined, () => { const chain = long({}, {}, {}, {}); return { ...chain, others: chain.others!.reverse() } }],
  ['with the root, the leaf and unrelated certificates among the others', undefined, () => { const leaf = make({ issuer: middle }); return { ca: [root], others: [root, leaf, make({ ca: true }), middle], leaf } }],
  ['with a certificate twice', undefined, () => ({ ca: [root], others: [middle, middle], leaf: make({ issuer: middle }) })],
  ['with the intermediate among the authorities', undefined, () => ({ ca: [middle, root], leaf: make({ issuer: middle }) })],
  ['with the intermediate among both', undefined, () => ({ ca: [middle, root], others: [middle], leaf: make({ issuer: middle }) })],
  ['with too many others', 'CERT_CHAIN_TOO_LONG', () => ({ ca: [root], others: Array.from({ length: 10 }, () => make()), leaf: make({ issuer: root }) }), 'stricter'],
  ['with ten certificates', undefined, () => { const { ca, others, leaf } = long({}, {}, {}, {}, {}, {}, {}, {}, {}); return { ca: [...ca, ...others!], leaf } }],
  ['with eleven', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', () => { const { ca, others, leaf } = long({}, {}, {}, {}, {}, {}, {}, {}, {}, {}); return { ca: [...ca, ...others!], leaf } }, 'stricter'],
  ['with no authority at all', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => ({ ca: [make({ ca: true })], leaf: make({ issuer: root }) })],
  ['whose intermediate is missing', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => ({ ca: [root], leaf: make({ issuer: middle }) })],
  ['whose root is missing', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', () => ({ ca: [make({ ca: true })], others: [middle], leaf: make({ issuer: middle }) })],
  ['whose intermediate is trusted, but not its root', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', () => ({ ca: [middle], leaf: make({ issuer: middle }) })],
  ['whose own certificate is trusted, but not its root', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => { const leaf = make({ issuer: middle }); return { ca: [leaf], leaf } }],
  ['whose root is not trusted', 'SELF_SIGNED_CERT_IN_CHAIN', () => { const other = make({ ca: true }); return { ca: [root], others: [other], leaf: make({ issuer: other }) } }],
  ['self-signed', 'DEPTH_ZERO_SELF_SIGNED_CERT', () => ({ ca: [root], leaf: make() })],
  ['self-signed and trusted', undefined, () => { const leaf = make({ extensions: { usage: undefined } }); return { ca: [leaf], leaf } }],
  ['self-signed and trusted, of version 1', 'CERT_REJECTED', () => { const leaf = make({ version: 1 }); return { ca: [leaf], leaf } }, 'stricter'],
  ['self-signed and trusted, not for clients', 'INVALID_PURPOSE', () => { const leaf = make({ extensions: { usage: undefined, purposes: purposes(SERVER) } }); return { ca: [leaf], leaf } }],
  ['self-signed, trusted, and no issuer by its keyUsage', 'DEPTH_ZERO_SELF_SIGNED_CERT', () => { const leaf = make(); return { ca: [leaf], leaf } }, 'stricter'],
  ['a root as a client', undefined, () => { const leaf = make({ ca: true, extensions: { usage: usage(SIGNS | CERTIFIES) } }); return { ca: [leaf], leaf } }],
  ['an authority as a client', undefined, () => ({ ca: [root], leaf: make({ ca: true, issuer: root, extensions: { usage: usage(SIGNS | CERTIFIES) } }) })],
  ['an authority as a client that may not sign', 'INVALID_PURPOSE', () => ({ ca: [root], leaf: make({ ca: true, issuer: root }) })],
  ['in a circle of two who certified each other', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', () => {
    const [one, two] = [make({ ca: true, subject: 'CN=One' }), make({ ca: true, subject: 'CN=Two' })]
    const others = [make({ ca: true, subject: 'CN=One', like: one, issuer: two }), make({ ca: true, subject: 'CN=Two', like: two, issuer: one })]
    return { ca: [root], others, leaf: make({ issuer: one }) }
  }],
  ['of one who has certified the root', undefined, () => {
    const cross = make({ ca: true, subject: 'CN=Root', like: root, issuer: middle })
    return { ca: [root], others: [cross, middle], leaf: make({ issuer: middle }) }
  }],
  ['of a root that was certified by another, which alone is trusted', undefined, () => {
    const old = make({ ca: true })
    return { ca: [old], others: [middle, make({ ca: true, subject: 'CN=Root', like: root, issuer: old })], leaf: make({ issuer: middle }) }
  }],
  ['of an issuer whose name is written in other case and types', undefined, () => {
    const issuer = make({ ca: true, subject: 'CN=[19]The  Authority , O=[20]\xc4cme + CN=[30]b + O=[22]Wide' })
    return { ca: [issuer], leaf: make({ issuer, issuerName: dn('CN=tHE authority, CN=B + O=ÄCme + O=wide') }) }
  }, undefined],
  ['of one whose name is in capitals beyond ASCII', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => { const issuer = make({ ca: true, subject: 'CN=Äcme' }); return { ca: [issuer], leaf: make({ issuer, issuerName: dn('CN=äcme') }) } }],
  ['of one whose name is in digits of another type', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => { const issuer = make({ ca: true, subject: 'CN=[18]12' }); return { ca: [issuer], leaf: make({ issuer, issuerName: dn('CN=12') }) } }],
  ['without a subject', undefined, () => under({ subject: '' })]
]

const keys: Row[] = [
  ...(['rsa', 'pss', 'P256', 'P384', 'brainpool', 'ed25519', 'ed448'] as const).flatMap((kind): Row[] => [
    [`all ${kind}`, undefined, () => { const issuer = make({ ca: true, kind }); const issued = make({ ca: true, kind, issuer }); return { ca: [issuer], others: [issued], leaf: make({ kind, issuer: issued }) } }]
  ]),
  ...(['rsa1024', 'P192'] as const).flatMap((kind): Row[] => [
    [`a leaf of ${kind}`, 'EE_KEY_TOO_SMALL', () => under({ kind })],
    [`an intermediate of ${kind}`, 'CA_KEY_TOO_SMALL', () => under({}, { kind })],
    [`a root of ${kind}`, 'CA_KEY_TOO_SMALL', () => ofRoot({ kind })]
  ]),
  ['a key that cannot sign', 'EE_KEY_TOO_SMALL', () => under({ kind: 'x25519' }), 'stricter'],
  ['a leaf of DSA', 'EE_KEY_TOO_SMALL', () => under({ kind: 'dsa' }), 'stricter'],
  ['an intermediate of DSA', 'CA_KEY_TOO_SMALL', () => under({}, { kind: 'dsa' }), 'stricter'],
  ['a leaf of a very large RSA key', undefined, () => under({ info: rsaOf(16_384) })],
  ['a leaf of too large an RSA key', 'EE_KEY_TOO_SMALL', () => under({ info: rsaOf(16_392) }), 'stricter'],
  ['an intermediate of too large an RSA key', 'CA_KEY_TOO_SMALL', () => under({}, { kind: 'rsa', info: rsaOf(20_000) })],
  ['a key of an unknown kind', 'EE_KEY_TOO_SMALL', () => under({ info: seq(seq(oid(UNKNOWN)), der(0x03, Buffer.of(0, 1))) })],
  ...([['as such', 0, 0], ['in bits that are said to be unused', 7, 1]] as const).flatMap(([what, ...octets]): Row[] => [
    [`a leaf at infinity, ${what}`, 'EE_KEY_TOO_SMALL', () => under({ info: pointOf(...octets) }), 'stricter'],
    [`an intermediate at infinity, ${what}`, 'CA_KEY_TOO_SMALL', () => under({}, { info: pointOf(...octets) })],
    [`a root at infinity, ${what}`, 'CA_KEY_TOO_SMALL', () => ofRoot({ info: pointOf(...octets) })]
  ]),
  ['a curve over a binary field', 'EE_KEY_TOO_SMALL', () => under({ kind: 'sect283' }), 'stricter'],
  ['an RSA key with an exponent of 64 bits', undefined, () => under({ info: rsaOf(2048, 8) })],
  ['an RSA key with a larger exponent', 'EE_KEY_TOO_SMALL', () => under({ info: rsaOf(2048, 9) }), 'stricter'],
  ['a curve that is spelled out', 'EE_KEY_TOO_SMALL', () => under({ kind: 'explicit' })],
  ['a signature with SHA-224', undefined, () => under({ algorithm: 'ecdsaSha224' })],
  ['a signature with SHA-384', undefined, () => under({ algorithm: 'ecdsaSha384' })],
  ['a signature with SHA-512', undefined, () => under({ algorithm: 'rsaSha512' }, { kind: 'rsa' })],
  ['a signature with SHA-1', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'ecdsaSha1' })],
  ['a signature with RSA and SHA-1', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'rsaSha1' }, { kind: 'rsa' })],
  ['a signature with MD5', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'rsaMd5' }, { kind: 'rsa' })],
  ['an intermediate signed with SHA-1', 'CA_MD_TOO_WEAK', () => under({}, { algorithm: 'ecdsaSha1' })],
  ['a root that has signed itself with SHA-1', undefined, () => ofRoot({ algorithm: 'ecdsaSha1' })],
  ['RSASSA-PSS by an RSA key', undefined, () => under({ algorithm: 'pss' }, { kind: 'rsa' })],
  ['RSASSA-PSS with little salt', undefined, () => under({ algorithm: 'pss20' }, { kind: 'rsa' })],
  ['RSASSA-PSS with SHA-384', undefined, () => under({ algorithm: 'pssSha384' }, { kind: 'pss' })],
  ['RSASSA-PSS with its defaults, SHA-1', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'pssSha1' }, { kind: 'rsa' })],
  ['RSASSA-PSS that says SHA-1', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'pssOddHash' }, { kind: 'rsa' })],
  ['RSASSA-PSS with another mask', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'pssOddMask' }, { kind: 'rsa' })],
  ['RSASSA-PSS with another generator', 'CA_MD_TOO_WEAK', () => under({ algorithm: 'pssOddGenerator' }, { kind: 'rsa' })],
  ['a flipped bit', 'CERT_SIGNATURE_FAILURE', () => under({ spoil: true })],
  ['an intermediate with a flipped bit', 'CERT_SIGNATURE_FAILURE', () => under({}, { spoil: true })],
  ['a root with a flipped bit', undefined, () => ofRoot({ spoil: true })],
  ['another algorithm inside than outside', 'CERT_SIGNATURE_FAILURE', () => under({ inner: 'ecdsaSha384' })]
]

const lookAlikes: Row[] = [
  ['by a look-alike of the root', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => ({ ca: [root], leaf: make({ issuer: make({ ca: true, subject: 'CN=Root' }) }) })],
  ['by a look-alike without key identifiers', 'CERT_SIGNATURE_FAILURE', () => ({ ca: [root], leaf: make({ issuer: make({ ca: true, subject: 'CN=Root' }), extensions: { authorityKey: undefined } }) })],
  ['with a look-alike root beside the real one', undefined, () => ({ ca: [make({ ca: true, subject: 'CN=Root' }), root], others: [middle], leaf: make({ issuer: middle }) })],
  ['with a look-alike intermediate after the real one', undefined, () => ({ ca: [root], others: [middle, make({ ca: true, subject: 'CN=Middle', issuer: root })], leaf: make({ issuer: middle }) })],
  ['with a look-alike intermediate before the real one, without key identifiers', undefined, () => {
    const extensions = { authorityKey: undefined }
    return { ca: [root], others: [make({ ca: true, subject: 'CN=Middle', issuer: root }), middle], leaf: make({ issuer: middle, extensions }) }
  }, 'more lenient'],
  ['with an expired look-alike that has the same key', undefined, () => ({ ca: [root], others: [make({ ca: true, subject: 'CN=Middle', like: middle, issuer: root, days: [-9, -1] }), middle], leaf: make({ issuer: middle }) })],
  ['whose intermediate has signed itself instead', 'SELF_SIGNED_CERT_IN_CHAIN', () => { const own = make({ ca: true, subject: 'CN=Middle', like: middle }); return { ca: [root], others: [own], leaf: make({ issuer: own }) } }],
  ['whose key identifier is another issuer\'s', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => leafWith({ authorityKey: extension('2.5.29.35', seq(der(0x80, Buffer.from('other')))) })],
  ['whose issuer\'s serial number is another\'s', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => leafWith({ authorityKey: extension('2.5.29.35', seq(der(0xa1, names.dir('CN=Root')), der(0x82, Buffer.of(9)))) })],
  ['whose intermediate has its issuer\'s name, and another key', undefined, () => { const second = make({ ca: true, subject: 'CN=Middle', issuer: middle }); return { ca: [root], others: [middle, second], leaf: make({ issuer: second }) } }],
  ['whose intermediate has its issuer\'s name, and does not say whose key', 'SELF_SIGNED_CERT_IN_CHAIN', () => { const second = make({ ca: true, subject: 'CN=Middle', issuer: middle, extensions: { authorityKey: undefined } }); return { ca: [root], others: [middle, second], leaf: make({ issuer: second }) } }],
  ['that has its issuer\'s name, and does not say whose key', 'DEPTH_ZERO_SELF_SIGNED_CERT', () => ({ ca: [root], others: [middle], leaf: make({ issuer: middle, subject: 'CN=Middle', extensions: { authorityKey: undefined } }) })],
  ['that no key identifier leads to', undefined, () => leafWith({ authorityKey: undefined, subjectKey: undefined })]
]

const uses: Row[] = [
  ['without any purpose', undefined, () => leafWith({ purposes: undefined })],
  ['for any purpose', 'INVALID_PURPOSE', () => leafWith({ purposes: purposes(ANY) })],
  ['for any purpose and clients', undefined, () => leafWith({ purposes: purposes(ANY, CLIENT) })],
  ['for servers and clients', undefined, () => leafWith({ purposes: purposes(SERVER, CLIENT) })],
  ['for servers', 'INVALID_PURPOSE', () => leafWith({ purposes: purposes(SERVER) })],
  ['for no purpose', 'INVALID_PURPOSE', () => leafWith({ purposes: purposes() })],
  ['with a critical purpose', undefined, () => leafWith({ purposes: extension('2.5.29.37', seq(oid(CLIENT)), true) })],
  ['of an authority for clients', undefined, () => middleWith({ purposes: purposes(CLIENT) })],
  ['of an authority for servers', 'INVALID_PURPOSE', () => middleWith({ purposes: purposes(SERVER) })],
  ['of an authority for any purpose', 'INVALID_PURPOSE', () => middleWith({ purposes: purposes(ANY) })],
  ['of a root for servers', 'INVALID_PURPOSE', () => rootWith({ purposes: purposes(SERVER) })],
  ['without keyUsage', undefined, () => leafWith({ usage: undefined })],
  ['for key agreement only', undefined, () => leafWith({ usage: usage(AGREES) })],
  ['for key encipherment only', 'INVALID_PURPOSE', () => leafWith({ usage: usage(ENCIPHERS) })],
  ['for nothing', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => leafWith({ usage: usage(0) })],
  ['with bits that are said to be unused', 'INVALID_PURPOSE', () => leafWith({ usage: extension('2.5.29.15', der(0x03, Buffer.of(4, ENCIPHERS | AGREES))) })],
  ['with bits beyond the first octet', undefined, () => leafWith({ usage: extension('2.5.29.15', der(0x03, Buffer.of(7, AGREES, 0x80))) })],
  ['with deciphering alone', 'INVALID_PURPOSE', () => leafWith({ usage: usage(0, 0x80) })],
  ['of Netscape\'s type for clients', undefined, () => leafWith({ netscape: netscape(0x80) })],
  ['of Netscape\'s type for servers', 'INVALID_PURPOSE', () => leafWith({ netscape: netscape(0x40) })],
  ['of an authority of Netscape\'s type for mail', undefined, () => middleWith({ netscape: netscape(0x02) })],
  ['by a leaf', 'INVALID_CA', () => under({}, { ca: false, subject: 'CN=Leaf', extensions: { usage: undefined } })],
  ['by a leaf that may not certify', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => under({}, { ca: false, subject: 'CN=Leaf' })],
  ['by one that is said to be none', 'INVALID_CA', () => middleWith({ constraints: constraints(false), usage: usage(CERTIFIES) })],
  ['by an authority without keyCertSign', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => middleWith({ usage: usage(LISTS) })],
  ['by an authority without keyUsage', undefined, () => middleWith({ usage: undefined })],
  ['by a root without basicConstraints', 'INVALID_CA', () => rootWith({ constraints: undefined }), 'stricter'],
  ['by an intermediate without basicConstraints', 'INVALID_CA', () => middleWith({ constraints: undefined })],
  ['of version 1', 'CERT_REJECTED', () => under({ version: 1 }), 'stricter'],
  ['of version 2', 'CERT_REJECTED', () => under({ version: 2 }), 'stricter'],
  ['with an intermediate of version 1', 'CERT_REJECTED', () => under({}, { version: 1 })],
  ['with a root of version 1', 'CERT_REJECTED', () => ofRoot({ version: 1 }), 'stricter'],
  ['as long as allowed', undefined, () => long({ extensions: { constraints: constraints(true, 1) } }, { extensions: { constraints: constraints(true, 0) } })],
  ['with a path length of an odd size', undefined, () => long({ extensions: { constraints: extension('2.5.29.19', seq(Buffer.of(1, 1, 0xff), der(2, Buffer.of(0x01, 0, 0, 0, 0, 0, 0)))) } }, {})],
  ['longer than allowed', 'PATH_LENGTH_EXCEEDED', () => long({}, { extensions: { constraints: constraints(true, 0) } }, {})],
  ['longer than the root allows', 'PATH_LENGTH_EXCEEDED', () => long({ extensions: { constraints: constraints(true, 0) } }, {})],
  ['longer than allowed, but for one who certified himself', undefined, () => {
    const one = make({ ca: true, subject: 'CN=One', issuer: root, extensions: { constraints: constraints(true, 0) } })
    const two = make({ ca: true, subject: 'CN=[19]ONE', issuer: one })
    return { ca: [root], others: [one, two], leaf: make({ issuer: two }) }
  }],
  ['longer than allowed in spite of one who certified himself', 'PATH_LENGTH_EXCEEDED', () => {
    const one = make({ ca: true, subject: 'CN=One', issuer: root, extensions: { constraints: constraints(true, 0) } })
    const two = make({ ca: true, subject: 'CN=One', issuer: one })
    const three = make({ ca: true, subject: 'CN=Three', issuer: two })
    return { ca: [root], others: [one, two, three], leaf: make({ issuer: three }) }
  }],
  ['expired', 'CERT_HAS_EXPIRED', () => under({ days: [-9, -1] })],
  ['with an expired intermediate', 'CERT_HAS_EXPIRED', () => under({}, { days: [-9, -1] })],
  ['with an expired root', 'CERT_HAS_EXPIRED', () => ofRoot({ days: [-9, -1] })],
  ['not yet valid', 'CERT_NOT_YET_VALID', () => under({ days: [1, 9] })],
  ['with an intermediate that is not yet valid', 'CERT_NOT_YET_VALID', () => under({}, { days: [1, 9] })]
]

const places = [['leaf', leafWith], ['intermediate', middleWith], ['root', rootWith]] as const
/** What is said where a certificate is none to us. */
const unreadable = (place: string) => place === 'leaf' ? 'UNSPECIFIED' : 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
const proxy = (critical: boolean) => odd('1.3.6.1.5.5.7.1.14', seq(seq(oid('1.3.6.1.5.5.7.21.1'))), critical)
const extensions: Row[] = [
  ...places.flatMap(([place, chainWith]): Row[] => [
    [`unknown and critical in the ${place}`, 'UNHANDLED_CRITICAL_EXTENSION', () => chainWith(odd(UNKNOWN, undefined, true))],
    [`unknown and not critical in the ${place}`, undefined, () => chainWith(odd(UNKNOWN))],
    [`a critical name of the issuer in the ${place}`, 'UNHANDLED_CRITICAL_EXTENSION', () => chainWith(odd('2.5.29.18', seq(names.dns('acme.test')), true))],
    [`critical policies in the ${place}`, undefined, () => chainWith(odd('2.5.29.32', seq(seq(oid('2.5.29.32.0'))), true))],
    [`a critical distribution point in the ${place}`, undefined, () => chainWith(odd('2.5.29.31', seq(seq(der(0xa0, der(0xa0, names.uri('http://lists.test/'))))), true))],
    [`addresses of networks in the ${place}`, 'CERT_REJECTED', () => chainWith(odd('1.3.6.1.5.5.7.1.7', seq(seq(der(tags.octetString, Buffer.of(0, 1)), seq(der(3, Buffer.of(0, 10))))))), place === 'leaf' ? undefined : 'stricter'],
    [`autonomous systems in the ${place}`, 'CERT_REJECTED', () => chainWith(odd('1.3.6.1.5.5.7.1.8', seq(der(0xa0, seq(integer(64512)))))), place === 'leaf' ? undefined : 'stricter'],
    [`an unknown extension twice in the ${place}`, unreadable(place), () => chainWith({ one: extension(UNKNOWN, text('a')), two: extension(UNKNOWN, text('b')) }), 'stricter'],
    [`broken basicConstraints in the ${place}`, unreadable(place), () => chainWith({ constraints: extension('2.5.29.19', text('no')) })],
    [`a negative path length in the ${place}`, unreadable(place), () => chainWith({ constraints: extension('2.5.29.19', seq(Buffer.of(1, 1, 0xff), der(2, Buffer.of(0xff)))) })],
    [`a broken alternative name in the ${place}`, unreadable(place), () => chainWith(odd('2.5.29.17', seq(der(0x8f))))],
    [`broken name constraints in the ${place}`, unreadable(place), () => chainWith(odd('2.5.29.30', text('no'), true))],
    [`a broken keyUsage in the ${place}`, unreadable(place), () => chainWith({ usage: extension('2.5.29.15', text('no')) })],
    [`broken purposes in the ${place}`, unreadable(place), () => chainWith({ purposes: extension('2.5.29.37', seq(text('no'))) })]
  ]),
  ['purposes twice', 'UNSPECIFIED', () => leafWith({ purposes: purposes(SERVER), more: purposes(CLIENT) })],
  ['said not to be critical, which is the default', 'UNSPECIFIED', () => leafWith({ odd: seq(oid(UNKNOWN), Buffer.of(1, 1, 0), der(tags.octetString, text('odd'))) }), 'stricter'],
  ['critical in BER', 'UNSPECIFIED', () => leafWith({ odd: seq(oid(UNKNOWN), Buffer.of(1, 1, 1), der(tags.octetString, text('odd'))) })],
  ['said to be no authority, which is the default', undefined, () => leafWith({ constraints: extension('2.5.29.19', seq(Buffer.of(1, 1, 0)), true) })],
  ['proxyCertInfo', 'CERT_REJECTED', () => under({ extensions: proxy(false) }, { extensions: { usage: usage(CERTIFIES | SIGNS) } })],
  ['critical proxyCertInfo', 'UNHANDLED_CRITICAL_EXTENSION', () => under({ extensions: proxy(true) }, { extensions: { usage: usage(CERTIFIES | SIGNS) } })],
  ['proxyCertInfo by a client', 'INVALID_CA', () => { const client = make({ issuer: root }); return { ca: [root], others: [client], leaf: make({ issuer: client, subject: 'CN=Jane, O=Acme, CN=proxy', extensions: proxy(true) }) } }]
]

const TRUE = Buffer.of(1, 1, 0xff)
const bits = (...octets: number[]) => der(3, Buffer.of(...octets))
const value = (...parts: Uint8Array[]) => der(tags.octetString, ...parts)
const attributed = (...parts: Uint8Array[]) => seq(der(tags.set, seq(...parts)))
const [USAGE, CONSTRAINTS, PURPOSES, NETSCAPE, SAN, LIMITS, KEY, AUTHORITY_KEY] = ['2.5.29.15', '2.5.29.19', '2.5.29.37', '2.16.840.1.113730.1.1', '2.5.29.17', '2.5.29.30', '2.5.29.14', '2.5.29.35'] as const
const san = (...all: Uint8Array[]) => odd(SAN, seq(...all))
const permitting = (...distances: Uint8Array[]) => der(0xa0, seq(names.dns('acme.test'), ...distances))

/** Not exactly what they should be, by name: read otherwise by others, or not at all. */
const oddForms: Record<string, Record<string, Uint8Array | undefined>> = {
  'a host in a piece': san(der(0xa2, text('acme.test', 0x16))),
  'a host in pieces': san(der(0xa2, value(text('acme.')), value(text('test')))),
  'a mail address in a piece': san(der(0xa1, text('jane@acme.test', 0x16))),
  'a URI in a piece': san(der(0xa6, text('https://acme.test/', 0x16))),
  'an address in a piece': san(der(0xa7, value(Buffer.of(1, 2, 3, 4)))),
  'a registered name in a piece': san(der(0xa8, oid('1.2.3'))),
  'another name in one piece': san(der(0x80, oid('1.2.3'))),
  'another name without a value': san(der(0xa0, oid('1.2.3'))),
  'another name without anything inside': san(der(0xa0, oid('1.2.3'), der(0xa0))),
  'another name with two values': san(der(0xa0, oid('1.2.3'), der(0xa0, text('a'), text('b')))),
  'another name with more': san(der(0xa0, oid('1.2.3'), der(0xa0, text('a')), text('b'))),
  'two directory names in one': san(der(0xa4, dn('CN=Jane'), dn('CN=Joe'))),
  'a directory name with an empty part': san(der(0xa4, seq(der(tags.set)))),
  'a directory name with an attribute of three': san(der(0xa4, attributed(oid('2.5.4.3'), text('Jane'), text('Joe')))),
  'a directory name with an attribute of one': san(der(0xa4, attributed(oid('2.5.4.3')))),
  'a directory name with a text in a piece': san(der(0xa4, attributed(oid('2.5.4.3'), der(0x2c, text('Jane'))))),
  'a choice of no name': san(der(0x89, text('a'))),
  'a string among the names': san(text('acme.test', 0x16)),
  'constraints by a host in a piece': odd(LIMITS, seq(der(0xa0, seq(der(0xa2, text('acme.test', 0x16))))), true),
  'constraints in the wrong order': odd(LIMITS, seq(der(0xa1, seq(names.dns('bad.test'))), permitting()), true),
  'constraints with two lists of the permitted': odd(LIMITS, seq(permitting(), permitting()), true),
  'constraints with more': odd(LIMITS, seq(permitting(), der(0xa2)), true),
  'constraints with two minimums': odd(LIMITS, seq(permitting(der(0x80, Buffer.of(0)), der(0x80, Buffer.of(0)))), true),
  'constraints with the maximum first': odd(LIMITS, seq(permitting(der(0x81, Buffer.of(9)), der(0x80, Buffer.of(0)))), true),
  'basicConstraints with more': { constraints: extension(CONSTRAINTS, seq(TRUE, integer(1), integer(0)), true) },
  'basicConstraints in the wrong order': { constraints: extension(CONSTRAINTS, seq(integer(0), TRUE), true) },
  'basicConstraints with a boolean of two octets': { constraints: extension(CONSTRAINTS, seq(Buffer.of(1, 2, 0, 0xff)), true) },
  'basicConstraints with a boolean in BER': { constraints: extension(CONSTRAINTS, seq(Buffer.of(1, 1, 1)), true) },
  'basicConstraints with a length that is padded': { constraints: extension(CONSTRAINTS, seq(TRUE, der(2, Buffer.of(0, 3))), true) },
  'basicConstraints with a length of no octets': { constraints: extension(CONSTRAINTS, seq(TRUE, der(2)), true) },
  'a keyUsage in a piece': { usage: extension(USAGE, der(0x23, bits(0, 0xff)), true) },
  'a keyUsage without octets': { usage: extension(USAGE, bits(), true) },
  'a keyUsage with eight unused bits': { usage: extension(USAGE, bits(8, 0xff), true) },
  'purposes with one that is none': { purposes: extension(PURPOSES, seq(oid(CLIENT), text('a'))) },
  'a type of Netscape\'s in a piece': odd(NETSCAPE, der(0x23, bits(0, 0xff))),
  'a key identifier in a piece': { subjectKey: extension(KEY, der(0x24, value(text('a')))) },
  'an identifier of the issuer with more': { authorityKey: extension(AUTHORITY_KEY, seq(der(0x83, text('a')))) },
  'an identifier of the issuer in the wrong order': { authorityKey: extension(AUTHORITY_KEY, seq(der(0x82, Buffer.of(1)), der(0xa1, names.dir('CN=Root')))) },
  'an identifier of the issuer by a host in a piece': { authorityKey: extension(AUTHORITY_KEY, seq(der(0xa1, der(0xa2, text('a', 0x16))), der(0x82, Buffer.of(1)))) }
}
const odds: Row[] = [
  ...places.flatMap(([place, chainWith]) => Object.entries(oddForms).map(([what, extensions]): Row => {
    // A string in pieces is none of DER, but OpenSSL puts it together; an empty part of a name it leaves out.
    const isRead = /in a piece|in pieces|in BER|an empty part/.test(what) && !/registered|issuer/.test(what) && (place === 'leaf' || !what.startsWith('a key id'))
    return [`${what} in the ${place}`, unreadable(place), () => chainWith(extensions), isRead ? 'stricter' : undefined]
  })),
  ...places.flatMap(([place, chainWith]): Row[] => [
    [`an extension with a boolean of two octets in the ${place}`, unreadable(place), () => chainWith({ odd: seq(oid(UNKNOWN), Buffer.of(1, 1, 0), value(text('odd'))), last: undefined, usage: extension(USAGE, Buffer.of(3, 0x81, 2, 1, 0xfe)) }), 'stricter']
  ])
]

/** A client under an authority with name constraints. */
const within = (limits: Parameters<typeof nameConstraints>[0], san: Uint8Array[], subject: string | Buffer = 'CN=Jane'): Chain =>
  under({ subject, extensions: san.length === 0 ? {} : { san: alternatives(...san) } }, { extensions: { limits: nameConstraints(limits) } })
/** Name by name, whether a subtree holds it: as permitted, and as excluded. */
const both = (what: string, base: Uint8Array, name: Uint8Array[] | string, isWithin: boolean): Row[] => {
  const chain = (limits: Parameters<typeof nameConstraints>[0]) => typeof name === 'string' ? within(limits, [], name) : within(limits, name)
  return [
    [`permitted: ${what}`, isWithin ? undefined : 'PERMITTED_VIOLATION', () => chain({ permitted: [base] })],
    [`excluded: ${what}`, isWithin ? 'EXCLUDED_VIOLATION' : undefined, () => chain({ excluded: [base] })]
  ]
}
/** Refused both ways, as it cannot be compared. */
const neither = (what: string, base: Uint8Array, name: Uint8Array[] | string, error: string, ...difference: [permitted?: Difference, excluded?: Difference]): Row[] =>
  [['permitted', 0], ['excluded', 1]].map(([kind, index]): Row => [`${kind}: ${what}`, error, () => typeof name === 'string' ? within({ [kind as string]: [base] }, [], name) : within({ [kind as string]: [base] }, name), difference[index as number]])

/** A client with a name that its authority may not issue for, in BER. */
const inBer: Row[] = [
  ['a host outside, in a piece', names.dns('acme.test'), '', der(0xa2, text('bad.test', 0x16))],
  ['a host outside, in pieces', names.dns('acme.test'), '', der(0xa2, value(Buffer.from('bad.')), value(Buffer.from('test')))],
  ['a mail address outside, in a piece', names.email('acme.test'), '', der(0xa1, text('jane@bad.test', 0x16))],
  ['a URI outside, in a piece', names.uri('acme.test'), '', der(0xa6, text('https://bad.test/', 0x16))],
  ['an address outside, in a piece', names.ip(10, 0, 0, 0, 255, 0, 0, 0), '', der(0xa7, value(Buffer.of(192, 0, 2, 1)))],
  ['a directory name outside, in a piece', names.dir('O=Acme'), '', der(0xa4, attributed(oid('2.5.4.10'), der(0x2c, text('Bad'))))]
].map(([what, base, subject, name]): Row => [`permitted: ${what as string}`, 'UNSPECIFIED', () => within({ permitted: [base as Buffer] }, [name as Buffer], subject as string)])
const excludedInBer: Row[] = [
  ['a text in a piece', attributed(oid('2.5.4.10'), der(0x2c, text('Bad')))],
  ['an empty part in front', seq(der(tags.set), der(tags.set, seq(oid('2.5.4.10'), text('Bad'))))]
].flatMap(([what, subject]): Row[] => [
  [`excluded: a subject with ${what as string}`, 'UNSPECIFIED', () => within({ excluded: [names.dir('O=Bad')] }, [], subject as Buffer)],
  [`excluded: a directory name with ${what as string}`, 'UNSPECIFIED', () => within({ excluded: [names.dir('O=Bad')] }, [der(0xa4, subject as Buffer)], '')],
  [`excluded: an authority with ${what as string}`, 'UNSPECIFIED', () => long({ extensions: { limits: nameConstraints({ excluded: [names.dir('O=Bad')] }) } }, { subject: subject as Buffer })]
])

const constrained: Row[] = [
  ...inBer,
  ...excludedInBer,
  ...both('a host', names.dns('acme.test'), [names.dns('acme.test')], true),
  ...both('a host below', names.dns('acme.test'), [names.dns('a.B.Acme.Test')], true),
  ...both('a host that only ends like it', names.dns('acme.test'), [names.dns('badacme.test')], false),
  ...both('another host', names.dns('acme.test'), [names.dns('other.test')], false),
  ...both('a shorter host', names.dns('acme.test'), [names.dns('test')], false),
  ...both('any host', names.dns(''), [names.dns('other.test')], true),
  ...both('a host below a dot', names.dns('.acme.test'), [names.dns('a.acme.test')], true),
  ...both('a host at a dot', names.dns('.acme.test'), [names.dns('acme.test')], false),
  ...both('one of two hosts', names.dns('acme.test'), [names.dns('acme.test'), names.dns('other.test')], true).slice(1),
  ['permitted: one of two hosts', 'PERMITTED_VIOLATION', () => within({ permitted: [names.dns('acme.test')] }, [names.dns('acme.test'), names.dns('other.test')])],
  ['permitted: by one of two', undefined, () => within({ permitted: [names.dns('other.test'), names.dns('acme.test')] }, [names.dns('acme.test')])],
  ['permitted and excluded', 'EXCLUDED_VIOLATION', () => within({ permitted: [names.dns('test')], excluded: [names.dns('acme.test')] }, [names.dns('acme.test')])],
  ['permitted: another kind', undefined, () => within({ permitted: [names.dns('acme.test')] }, [names.email('jane@other.test')])],
  ...both('a common name as a host', names.dns('acme.test'), 'CN=a.acme.test', true),
  ...both('another common name as a host', names.dns('acme.test'), 'CN=a_b.other-one.test', false),
  ...both('a common name as a host in two octets a character', names.dns('acme.test'), 'CN=[30]a.acme.test', true),
  ...['Jane', 'a.-b.test', 'a..test', '-a.test', 'a.test.', 'ä.test', 'a b.test', 'a-.test'].map((name): Row => [`permitted: a common name that is no host: ${name}`, undefined, () => within({ permitted: [names.dns('acme.test')] }, [], `CN=${name}`)]),
  ['permitted: a common name beside a host', undefined, () => within({ permitted: [names.dns('acme.test')] }, [names.dns('acme.test')], 'CN=other.test')],
  ['permitted: a common name beside an address', 'PERMITTED_VIOLATION', () => within({ permitted: [names.dns('acme.test')] }, [names.email('jane@acme.test')], 'CN=other.test')],
  ['permitted: a common name of an authority', undefined, () => long({}, { extensions: { limits: nameConstraints({ permitted: [names.dns('acme.test')] }) } }, { subject: 'CN=other.test' })],
  ...neither('a common name with NUL', names.dns('acme.test'), 'CN=other.test\0.acme.test', 'UNSUPPORTED_NAME_SYNTAX'),
  ...neither('a common name that ends with NUL', names.dns('acme.test'), 'CN=Jane\0', 'UNSUPPORTED_NAME_SYNTAX', 'stricter', 'stricter'),
  ...neither('a common name that is no text', names.dns('acme.test'), 'CN=[3]\0other.test', 'UNSUPPORTED_NAME_SYNTAX'),
  ...both('an address at a host', names.email('acme.test'), [names.email('jane@ACME.test')], true),
  ...both('an address at a host below', names.email('acme.test'), [names.email('jane@a.acme.test')], false),
  ...both('an address below a dot', names.email('.acme.test'), [names.email('jane@a.acme.test')], true),
  ...both('an address at a dot', names.email('.acme.test'), [names.email('jane@acme.test')], false),
  ...both('one address', names.email('jane@acme.test'), [names.email('jane@ACME.test')], true),
  ...both('one address in capitals', names.email('jane@acme.test'), [names.email('Jane@acme.test')], false),
  ...both('another address', names.email('jane@acme.test'), [names.email('joe@acme.test')], false),
  ...both('any address at a host', names.email('@acme.test'), [names.email('joe@acme.test')], true),
  ...both('an address with two at', names.email('acme.test'), [names.email('joe@other.test@acme.test')], true),
  ...neither('an address without at', names.email('acme.test'), [names.email('acme.test')], 'UNSUPPORTED_NAME_SYNTAX'),
  ...neither('an address with NUL', names.email('joe\0e@acme.test'), [names.email('joe\0x@acme.test')], 'UNSUPPORTED_NAME_SYNTAX'),
  ...both('an address in the subject', names.email('acme.test'), 'CN=Jane, emailAddress=jane@acme.test', true),
  ...both('another address in the subject', names.email('acme.test'), 'CN=Jane, emailAddress=jane@other.test', false),
  ...neither('an address of another type in the subject', names.email('acme.test'), 'CN=Jane, emailAddress=[12]jane@acme.test', 'UNSUPPORTED_NAME_SYNTAX'),
  ...both('a URI at a host', names.uri('acme.test'), [names.uri('https://Acme.Test:80/a:b')], true),
  ...both('a URI at a host alone', names.uri('acme.test'), [names.uri('urn://acme.test')], true),
  ...both('a URI with a path', names.uri('acme.test'), [names.uri('spiffe://acme.test/jane?a#b')], true),
  ...both('a URI at a host below', names.uri('acme.test'), [names.uri('https://a.acme.test/')], false),
  ...both('a URI below a dot', names.uri('.acme.test'), [names.uri('https://a.acme.test/')], true),
  ...both('a URI at a dot', names.uri('.acme.test'), [names.uri('https://acme.test/')], false),
  ...both('a URI at a dot alone', names.uri('.acme.test'), [names.uri('https://.acme.test/')], false),
  ...both('a URI below nothing', names.uri(''), [names.uri('https://acme.test/')], false),
  ...neither('a mail address by a host with NUL', names.email('acme.test\0'), [names.email('jane@acme.test')], 'UNSUPPORTED_NAME_SYNTAX', undefined, 'stricter'),
  ...neither('a URI without a host', names.uri('acme.test'), [names.uri('urn:acme.test')], 'UNSUPPORTED_NAME_SYNTAX'),
  ...neither('a URI with a user', names.uri('acme.test'), [names.uri('https://acme.test@other.test/')], 'UNSUPPORTED_NAME_SYNTAX', undefined, 'stricter'),
  ...neither('a URI with another colon', names.uri('acme.test'), [names.uri('https://acme.test/a:b')], 'UNSUPPORTED_NAME_SYNTAX', undefined, 'stricter'),
  ...neither('a URI with a query alone', names.uri('acme.test'), [names.uri('https://acme.test?a')], 'UNSUPPORTED_NAME_SYNTAX', undefined, 'stricter'),
  ...both('an address of IP', names.ip(10, 0, 0, 0, 255, 0, 0, 0), [names.ip(10, 1, 2, 3)], true),
  ...both('another address of IP', names.ip(10, 0, 0, 0, 255, 0, 0, 0), [names.ip(11, 1, 2, 3)], false),
  ...both('an address of IPv6', names.ip(...Array<number>(16).fill(1), ...Array<number>(16).fill(255)), [names.ip(...Array<number>(16).fill(1))], true),
  ...both('an address of IPv6 in IPv4', names.ip(0, 0, 0, 0, 0, 0, 0, 0), [names.ip(...Array<number>(16).fill(1))], false),
  ...neither('an address of IP that is none', names.ip(0, 0, 0, 0, 0, 0, 0, 0), [names.ip(1, 2, 3)], 'UNSUPPORTED_NAME_SYNTAX'),
  ...neither('an address of IP by a mask that is none', names.ip(0, 0, 0, 0), [names.ip(1, 2, 3, 4)], 'UNSUPPORTED_NAME_SYNTAX'),
  ...both('a directory name', names.dir('O=Acme'), 'O=Acme, CN=Jane', true),
  ...both('a directory name in other words', names.dir('O=[19]The Acme'), 'O=[30] the \tacme, CN=Jane', true),
  ...both('another directory name', names.dir('O=Acme'), 'O=Acmes, CN=Jane', false),
  ...both('a directory name in another order', names.dir('O=Acme'), 'CN=Jane, O=Acme', false),
  ...both('a directory name in a larger part', names.dir('O=Acme'), 'O=Acme + OU=Sales', false),
  ...both('a directory name with quotation marks', names.dir('O=Acme'), 'O=Acme"]["x', false),
  ...both('the same directory name', names.dir('O=Acme, CN=Jane'), 'O=Acme, CN=Jane', true),
  ...both('any directory name', names.dir(''), 'CN=Jane', true),
  ...both('a directory name among the alternatives', names.dir('CN=Jane'), [names.dir('CN=Jane, O=x')], true),
  ['permitted: another directory name among the alternatives', 'PERMITTED_VIOLATION', () => within({ permitted: [names.dir('CN=Jane')] }, [names.dir('O=Acme')])],
  ['permitted: no directory name', undefined, () => within({ permitted: [names.dir('O=Acme')] }, [names.dns('acme.test')], '')],
  ...neither('a registered name', names.rid('1.2.3'), [names.rid('1.2.3')], 'UNSUPPORTED_CONSTRAINT_TYPE'),
  ['permitted: no registered name', undefined, () => within({ permitted: [names.rid('1.2.3')] }, [names.dns('a.test')])],
  ...neither('a name of X.400', der(0xa3, text('a')), [der(0xa3, text('a'))], 'UNSUPPORTED_CONSTRAINT_TYPE'),
  ...neither('a name of EDI', der(0xa5, der(0xa1, text('a'))), [der(0xa5, der(0xa1, text('a')))], 'UNSUPPORTED_CONSTRAINT_TYPE'),
  ...neither('another name', names.other('1.2.3', 'a'), [names.other('1.2.3', 'a')], 'UNSUPPORTED_CONSTRAINT_TYPE'),
  ...neither('another name of another kind', names.other('1.2.3', 'a'), [names.other('1.2.4', 'a')], 'UNSUPPORTED_CONSTRAINT_TYPE', 'stricter', 'stricter'),
  ...neither('an address in Unicode', names.email('acme.test'), [names.other('1.3.6.1.5.5.7.8.9', 'jäne@acme.test')], 'UNSUPPORTED_NAME_SYNTAX', 'stricter'),
  ...neither('a host by a minimum', subtree(names.dns('acme.test'), der(0x80, Buffer.of(1))), [names.dns('acme.test')], 'SUBTREE_MINMAX'),
  ...neither('a host by a maximum', subtree(names.dns('acme.test'), der(0x81, Buffer.of(0))), [names.dns('acme.test')], 'SUBTREE_MINMAX'),
  ...both('a host by a minimum of nothing', subtree(names.dns('acme.test'), der(0x80, Buffer.of(0))), [names.dns('acme.test')], true),
  ['permitted: another kind by a minimum', undefined, () => within({ permitted: [subtree(names.dns('acme.test'), der(0x80, Buffer.of(1)))] }, [names.email('jane@acme.test')])],
  ...([[3, 0xf8], [3, 0xff], [7]] as const).map(([unused, ...octets]): Row => {
    const bits = (...of: number[]) => seq(der(0x31, seq(oid('2.5.4.10'), text('Acme'))), der(0x31, seq(oid('2.5.4.45'), der(3, Buffer.from(of)))))
    const isOne = unused === 3 && octets[0] === 0xf8
    return [`excluded: a number of ${unused} unused bits, ${octets.join()}`, isOne ? 'EXCLUDED_VIOLATION' : 'UNSPECIFIED', () => within({ excluded: [der(0xa4, bits(3, 0xf8))] }, [], bits(unused, ...octets)), unused === 3 ? undefined : 'stricter']
  }),
  ['excluded by the root', 'EXCLUDED_VIOLATION', () => { const { ca, others, leaf } = long({ extensions: { limits: nameConstraints({ excluded: [names.dir('CN=Jane')] }) } }, {}); return { ca, others, leaf } }],
  ['excluded: an intermediate', 'EXCLUDED_VIOLATION', () => long({ extensions: { limits: nameConstraints({ excluded: [names.dir('O=Bad')] }) } }, { subject: 'O=Bad' })],
  ['excluded: one who certified himself', undefined, () => long({ extensions: { limits: nameConstraints({ excluded: [names.dir('O=Bad')] }) }, subject: 'O=Bad' }, { subject: 'O=Bad' })],
  ['excluded: a client of its issuer\'s name', 'EXCLUDED_VIOLATION', () => ofRoot({ extensions: { limits: nameConstraints({ excluded: [names.dir('O=Bad')] }) }, subject: 'O=Bad' }, { subject: 'O=Bad' })],
  ['too many names for too many constraints', 'UNSPECIFIED', () => within({ excluded: Array.from({ length: 400 }, (_, index) => names.dns(`${index}.bad`)) }, Array.from({ length: 400 }, (_, index) => names.dns(`${index}.good`))), 'stricter'],
  ...([[1023, 1024, 'as many as openssl compares', undefined], [1024, 1024, 'one more', 'UNSPECIFIED'], [1023, 1025, 'one more constraint', 'UNSPECIFIED']] as const).map(([hosts, addresses, what, error]): Row =>
    [`names by constraints of other kinds: ${what}`, error, () => within({ excluded: Array.from({ length: addresses }, (_, index) => names.email(`${index}.bad`)) }, Array.from({ length: hosts }, (_, index) => names.dns(`${index}.good`)))]),
  ['names by constraints of other kinds: an authority with too many', 'UNSPECIFIED', () => long({ extensions: { limits: nameConstraints({ permitted: [names.dir('')], excluded: Array.from({ length: 1024 }, (_, index) => names.email(`${index}.bad`)) }) } }, { extensions: { san: alternatives(...Array.from({ length: 1024 }, (_, index) => names.dns(`${index}.good`))) } })],
  ['many names for many constraints', undefined, () => within({ excluded: Array.from({ length: 300 }, (_, index) => names.dns(`${index}.bad`)) }, Array.from({ length: 400 }, (_, index) => names.dns(`${index}.good`)))]
]

const rootList = makeList(root)
const listed = (list: Buffer | Buffer[] | undefined, leaf = make({ issuer: middle })): Chain => ({ ca: [root], others: [middle], leaf, lists: [rootList, list ?? []].flat() })
const [pointOne, pointTwo] = [names.uri('http://crl.test/1'), names.uri('http://crl.test/2')]
const NUMBER_2 = extension('2.5.29.20', integer(2))
const onBase = (number: number) => extension('2.5.29.27', integer(number), true)
const keyOf = (...parts: Uint8Array[]) => extension('2.5.29.35', seq(...parts))
const serialOf = ({ serial }: Made) => der(0x82, serial.subarray(2))

const lists: Row[] = [
  ['no certificate', undefined, () => listed(makeList(middle))],
  ['no certificate, in a list of version 1', undefined, () => listed(makeList(middle, { version: 1 }))],
  ['no certificate, in a list without an end', undefined, () => listed(makeList(middle, { days: [-1, undefined] }))],
  ['no certificate, but another was', undefined, () => listed(makeList(middle, { revoked: [make({ issuer: middle }), entry(make({ issuer: middle }), reason(1))] }))],
  ['by the root, which has no others', undefined, () => ({ ca: [root], leaf: make({ issuer: root }), lists: [rootList] })],
  ['the leaf', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed(makeList(middle, { revoked: [make({ issuer: middle }), leaf, make({ issuer: middle })] }), leaf) }],
  ['the leaf, for a reason', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed(makeList(middle, { revoked: [entry(leaf, reason(1))] }), leaf) }],
  ['the leaf, removed again', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed(makeList(middle, { revoked: [entry(leaf, reason(8))] }), leaf) }, 'stricter'],
  ['an anchor, by itself', undefined, () => { const leaf = make({ extensions: { usage: undefined } }); return { ca: [leaf], leaf, lists: [makeList(leaf, { revoked: [leaf] })] } }, 'more lenient'],
  ['the intermediate', 'CERT_REVOKED', () => ({ ...listed(makeList(middle)), lists: [makeList(root, { revoked: [middle] }), makeList(middle)] })],
  ['the root', undefined, () => ({ ...listed(makeList(middle)), lists: [makeList(root, { revoked: [root] }), makeList(middle)] }), 'more lenient'],
  ['by an anchor, of which there is no list', undefined, () => { const [leaf, issuer] = [make({ extensions: { usage: undefined } }), make({ ca: true })]; return { ca: [leaf], leaf, lists: [makeList(issuer)] } }, 'more lenient'],
  ['unknown: there is no list of the intermediate', 'UNABLE_TO_GET_CRL', () => listed(undefined)],
  ['unknown: there is no list of the root', 'UNABLE_TO_GET_CRL', () => ({ ...listed(undefined), lists: [makeList(middle)] })],
  ['a list that has expired', 'CRL_HAS_EXPIRED', () => listed(makeList(middle, { days: [-9, -1] }))],
  ['a list of tomorrow', 'CRL_NOT_YET_VALID', () => listed(makeList(middle, { days: [1, 9] }))],
  ['a list with a flipped bit', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(middle, { spoil: true }))],
  ['a list by a look-alike', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(make({ ca: true, subject: 'CN=Middle', issuer: root })))],
  ['a list by a look-alike beside the real one', undefined, () => ({ ...listed(undefined), lists: [rootList, makeList(middle), makeList(make({ ca: true, subject: 'CN=Middle', issuer: root }), { days: [-0.5, 30] })] }), 'more lenient'],
  ['a list with another algorithm inside', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { inner: 'ecdsaSha384' })), stricterThanOldOpenssl],
  ['a list that says it is signed by a key of another kind', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(middle, { algorithm: 'rsaSha256' }))],
  ['a list with a weak signature', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { algorithm: 'ecdsaSha1' })), 'stricter'],
  ...(['rsa', 'pss', 'ed25519', 'ed448', 'P384'] as const).map((kind): Row => [`no certificate, in a list by ${kind}`, undefined, () => { const issuer = make({ ca: true, issuer: root, kind }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList(issuer)] } }]),
  ['no certificate, in a list with RSASSA-PSS by an RSA key', undefined, () => { const issuer = make({ ca: true, issuer: root, kind: 'rsa' }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList(issuer, { algorithm: 'pss20' })] } }],
  ['a list of a key of another kind', 'CRL_SIGNATURE_FAILURE', () => { const issuer = make({ ca: true, issuer: root, kind: 'rsa' }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList({ ...middle, name: issuer.name })] } }],
  ['no certificate, in a list for clients', undefined, () => listed(makeList(middle, { extensions: [idp({ users: true })] }))],
  ['no certificate, in a list for clients that does not insist', undefined, () => listed(makeList(middle, { extensions: [idp({ users: true }, false)] }))],
  ['a list for authorities', 'DIFFERENT_CRL_SCOPE', () => listed(makeList(middle, { extensions: [idp({ authorities: true })] }))],
  ['a list for authorities that does not insist', 'DIFFERENT_CRL_SCOPE', () => listed(makeList(middle, { extensions: [idp({ authorities: true }, false)] }))],
  ['the intermediate, in a list for authorities', 'CERT_REVOKED', () => ({ ...listed(undefined), lists: [makeList(root, { revoked: [middle], extensions: [idp({ authorities: true })] }), makeList(middle)] })],
  ['the leaf, in a list for clients beside another for all', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed([makeList(middle, { extensions: [idp({ users: true })], revoked: [leaf] }), makeList(middle, { days: [-3, 30] })], leaf) }],
  ['the leaf, in a list for all beside a newer one for clients', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed([makeList(middle, { extensions: [idp({ users: true })] }), makeList(middle, { days: [-3, 30], revoked: [leaf] })], leaf) }, 'stricter'],
  ['no certificate, in a list for a point that it names', undefined, () => listed(makeList(middle, { extensions: [idp({ names: [pointOne] })] }), make({ issuer: middle, extensions: { points: distributionPoints([{ names: [pointOne] }]) } }))],
  ['the leaf, in a list for a point that it names', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle, extensions: { points: distributionPoints([{ names: [pointTwo, pointOne] }]) } }); return listed(makeList(middle, { revoked: [leaf], extensions: [idp({ names: [pointOne] })] }), leaf) }],
  ['a list for a point that it does not name', 'DIFFERENT_CRL_SCOPE', () => listed(makeList(middle, { extensions: [idp({ names: [pointOne] })] }), make({ issuer: middle, extensions: { points: distributionPoints([{ names: [pointTwo] }]) } }))],
  ['a list for a point, and it names none', 'DIFFERENT_CRL_SCOPE', () => listed(makeList(middle, { extensions: [idp({ names: [pointOne] })] }))],
  ['an indirect list', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { extensions: [idp({ indirect: true })] }))],
  ['a list for some reasons', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { extensions: [idp({ reasons: Buffer.of(5, 0x60) })] }))],
  ['no certificate, in a list beside an indirect one', undefined, () => listed([makeList(middle, { extensions: [idp({ indirect: true })] }), makeList(middle, { days: [-3, 30] })])],
  ['no certificate, in a list beside one of changes, which knows no number', undefined, () => listed([makeList(middle, { extensions: [NUMBER_2, onBase(1)] }), makeList(middle, { days: [-3, 30] })])],
  ['a list of changes', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { extensions: [NUMBER_2, onBase(1)] })), stricterThanOldOpenssl],
  ['a list with an unknown critical extension', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { extensions: [extension(UNKNOWN, text('odd'), true)] }))],
  ['a list with an unknown extension and a number', undefined, () => listed(makeList(middle, { extensions: [extension(UNKNOWN, text('odd')), extension('2.5.29.20', integer(2))] }))],
  ['a list with an unknown critical extension of an entry', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { revoked: [entry(make({ issuer: middle }), extension(UNKNOWN, text('odd'), true)), make({ issuer: middle })] }))],
  ['a list with an extension of an entry that only looks critical', undefined, () => listed(makeList(middle, { revoked: [entry(make({ issuer: middle }), extension(UNKNOWN, Buffer.of(4, 3, 1, 1, 1)))] }))],
  ['a list with a critical reason', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { revoked: [entry(make({ issuer: middle }), reason(1, true))] }))],
  ['a list with an entry of another issuer', 'UNABLE_TO_GET_CRL', () => listed(makeList(middle, { revoked: [entry(make({ issuer: middle }), extension('2.5.29.29', seq(names.dir('CN=Other')), true))] })), 'stricter'],
  ['an issuer who may not sign lists', 'KEYUSAGE_NO_CRL_SIGN', () => { const issuer = make({ ca: true, issuer: root, extensions: { usage: usage(CERTIFIES) } }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList(issuer)] } }],
  ['no certificate, in a list of an issuer who may do anything', undefined, () => { const issuer = make({ ca: true, issuer: root, extensions: { usage: undefined } }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList(issuer)] } }],
  ['no certificate, in a list of a named key', undefined, () => listed(makeList(middle, { extensions: [keyOf(der(0x80, middle.keyId), der(0xa1, names.dir('CN=ROOT')), serialOf(middle))] }))],
  ['no certificate, in a list of a key that is named critically', undefined, () => listed(makeList(middle, { extensions: [extension('2.5.29.35', seq(der(0x80, middle.keyId)), true)] }))],
  ['no certificate, in a list of an issuer who is named by an address', undefined, () => listed(makeList(middle, { extensions: [keyOf(der(0xa1, names.dns('middle.test')), serialOf(middle))] }))],
  ['a list of another key', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(middle, { extensions: [keyOf(der(0x80, root.keyId))] }))],
  ['a list of another serial number', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(middle, { extensions: [keyOf(serialOf(root))] }))],
  ['a list of another issuer\'s issuer', 'CRL_SIGNATURE_FAILURE', () => listed(makeList(middle, { extensions: [keyOf(der(0xa1, names.dir('CN=Other')))] }))],
  ['no certificate, in a list that names the key of an issuer who does not', undefined, () => { const issuer = make({ ca: true, issuer: root, extensions: { subjectKey: undefined } }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [rootList, makeList(issuer, { extensions: [keyOf(der(0x80, Buffer.from('key')))] })] } }],
  ['no certificate, in a list of its issuer\'s name by another key in its path', undefined, () => { const issuer = make({ ca: true, subject: 'CN=Root', issuer: root }); return { ca: [root], others: [issuer], leaf: make({ issuer }), lists: [makeList(root, { extensions: [keyOf(der(0x80, root.keyId))] })] } }],
  ['by an older list', undefined, () => { const leaf = make({ issuer: middle }); return { ...listed(undefined, leaf), lists: [rootList, makeList(middle, { days: [-2, 30], revoked: [leaf] }), makeList(middle)] } }],
  ['by a newer list', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return { ...listed(undefined, leaf), lists: [rootList, makeList(middle), makeList(middle, { days: [-0.5, 30], revoked: [leaf] })] } }],
  ['no certificate, in a list of numbers of all kinds', undefined, () => listed(makeList(middle, { revoked: [[0], [0x7f], [0, 0x80], [0x80], [0xff, 0x7f]].map((octets) => seq(der(2, Buffer.from(octets)), text('20200101000000Z', 0x18))) }))],
  ['no certificate, in a list with an entry whose extensions are none', undefined, () => listed(makeList(middle, { revoked: [seq(integer(1), text('20200101000000Z', 0x18), seq())] }))],
  ['the newest list has ended', 'CRL_HAS_EXPIRED', () => ({ ...listed(undefined), lists: [rootList, makeList(middle, { days: [-0.5, -0.1] }), makeList(middle)] }), 'stricter'],
  ['by a list that has ended', 'CERT_REVOKED', () => { const leaf = make({ issuer: middle }); return listed(makeList(middle, { days: [-9, -1], revoked: [leaf] }), leaf) }]
]

const chapters: Record<string, Row[]> = {
  'paths of every shape': shapes,
  'keys and signatures': keys,
  'authorities that look alike': lookAlikes,
  'what a certificate may be used for, how deep, and when': uses,
  'extensions that are': extensions,
  'names and extensions that are not DER': odds,
  'name constraints': constrained,
  'who was revoked': lists
}

for (const [chapter, rows] of Object.entries(chapters)) {
  t.test(`path validation accepts what openssl accepts: ${chapter}`, { skip: withoutOpenssl }, async (t) => {
    const chains = rows.map(([,, makeChain]) => makeChain())
    const words = wordsOfOpenssl(dir, chains)
    for (const [at, [title, error,, difference]] of rows.entries()) {
      const [chain, word] = [chains[at]!, words[at]]
      t.equal((await verifyListed(chain)).error, error, title, { diagnostic: false, openssl: word })
      const isAccepted = difference === undefined ? error === undefined : difference === 'stricter'
      t.equal(word === undefined, isAccepted, `${title}: ${difference ?? 'so'} says openssl`, { openssl: word })
    }
  })
}

for (const [chapter, rows] of Object.entries(suites)) {
  t.test(`path validation, cases of other suites: ${chapter}`, { skip: withoutOpenssl }, async (t) => {
    const chains = rows.map(([,,,, makeChain]) => makeChain())
    const words = wordsOfOpenssl(dir, chains)
    for (const [at, [origin, what, suite, error,, openssl]] of rows.entries()) {
      const title = `${what} (${origin})`
      const [ours, word] = [(await verifyListed(chains[at]!)).error, words[at]]
      t.equal(ours, error, title, { openssl: word })
      t.equal(word === undefined ? 'valid' : 'invalid', openssl ?? (error === undefined ? 'valid' : 'invalid'), `${title}: so says openssl`, { openssl: word })
      t.notOk(ours === undefined && suite === 'invalid' && word !== undefined, `${title}: what both refuse is refused`)
    }
  })
}

/** Whether openssl means the root of a path of an intermediate more: `error 35 at 2 depth lookup: …`. */
function isOfRoot (word: string | undefined, depth: number): boolean {
  return word !== undefined && Number(/^error (?:3|35|33) at (\d+)/.exec(word)?.[1]) === depth
}

t.test('random chains are not accepted where openssl refuses them, nor refused without a reason', { skip: withoutOpenssl }, async (t) => {
  /** The first, or seldom one of the others. */
  const mostly = <Value>(usual: Value, ...others: Value[]) => fc.oneof({ weight: 9, arbitrary: fc.constant(usual) }, { weight: 2, arbitrary: fc.constantFrom(...others) })
  const days = mostly<[number, number]>([-1, 30], [-9, -1], [1, 9])
  const limits = [
    nameConstraints({ permitted: [names.dns('acme.test')] }),
    nameConstraints({ permitted: [names.dir('O=Acme')] }),
    nameConstraints({ excluded: [names.dns('bad.test'), names.email('.acme.test')] }),
    nameConstraints({ permitted: [names.email('acme.test'), names.uri('.acme.test')], excluded: [names.dir('O=Acme, CN=Joe')] })
  ]
  const general = [
    [names.dns('a.acme.test')], [names.dns('bad.test')], [names.email('joe@acme.test')], [names.email('joe@a.acme.test'), names.dns('acme.test')],
    [names.uri('https://a.acme.test/b')], [names.uri('urn:a')], [names.dir('O=Acme, CN=Joe')], [names.ip(1, 2, 3, 4)]
  ]
  const extensionsOf = (ca: boolean) => fc.record({
    usage: ca ? mostly<Uint8Array | undefined>(usage(CERTIFIES | LISTS), usage(CERTIFIES), undefined) : mostly<Uint8Array | undefined>(usage(SIGNS), usage(AGREES), usage(ENCIPHERS), undefined),
    purposes: mostly<Uint8Array | undefined>(undefined, purposes(CLIENT), purposes(SERVER, CLIENT), purposes(ANY), purposes(SERVER)),
    constraints: ca ? mostly(constraints(true), constraints(true, 0), constraints(true, 1), constraints(false)) : mostly<Uint8Array | undefined>(undefined, constraints(false), constraints(true)),
    limits: mostly<Uint8Array | undefined>(undefined, ...limits),
    san: ca ? fc.constant(undefined) : fc.constantFrom(undefined, ...general.map((all) => alternatives(...all))),
    odd: mostly<Uint8Array | undefined>(undefined, extension(UNKNOWN, text('odd'), true), extension(UNKNOWN, text('odd')), netscape(0x80), netscape(0x40))
  })
  const subject = fc.constantFrom('O=Acme, CN=Joe', 'O=Acme, CN=Jane', 'O=[19]ACME', 'O=Acme, CN=a.acme.test', 'CN=bad.test', 'O=Acme, emailAddress=joe@acme.test', 'O=Acme')
  const authority = fc.record({ subject: fc.constantFrom('O=Acme', 'O=acme', 'O=Acme, OU=One', 'O=Other'), days, extensions: extensionsOf(true) })
  const drafts = fc.record({ all: fc.array(authority, { minLength: 1, maxLength: 4 }), leaf: fc.record({ subject, days, extensions: extensionsOf(false) }), lists: mostly('none', 'all', 'one', 'leaf') })
  const chainOf = (draft: typeof drafts extends fc.Arbitrary<infer Draft> ? Draft : never) => {
    const all = [make({ ca: true, ...draft.all[0] })]
    for (const next of draft.all.slice(1)) all.push(make({ ca: true, issuer: all.at(-1)!, ...next }))
    const leaf = make({ issuer: all.at(-1)!, ...draft.leaf })
    const lists = draft.lists === 'none' ? [] : all.slice(0, draft.lists === 'one' ? 1 : undefined).map((issuer) => makeList(issuer, { revoked: draft.lists === 'leaf' ? [leaf] : [], extensions: [keyOf(der(0x80, issuer.keyId))] }))
    return { ca: [all[0]!], others: all.slice(1), leaf, lists } satisfies Chain
  }
  let accepted = 0
  const compare = async (chain: ReturnType<typeof chainOf>, theirs: string | undefined) => {
    const { ca, others, leaf, lists } = chain
    const all = [...ca, ...others]
    const ours = (await verifyListed(chain)).error
    if (ours === undefined) {
      accepted++
      assertAuthorities(t, chain)
    }
    // A list is one of a name to openssl, of a key to us, and none is needed of a root.
    if (ours === 'CRL_SIGNATURE_FAILURE' || ours === 'KEYUSAGE_NO_CRL_SIGN') return
    if (ours === undefined && lists.length > 0 && isOfRoot(theirs, all.length)) return
    // Of authorities of one name, one may sign lists for another (RFC 5280 §6.3.3 f); openssl settles on one of them.
    const areAlike = new Set(all.map(({ certificate }) => certificate.subject.toLowerCase())).size < all.length
    if (ours === undefined && lists.length > 0 && areAlike && /^error (?:3|35) at/.test(theirs ?? '')) return
    if ((ours === undefined) !== (theirs === undefined)) throw new Error(`we say ${ours}, openssl says ${theirs}\n${[...all, leaf].map(({ pem }) => pem).join('')}`)
  }
  // Several at once, as one shell asks openssl about all of them
  await fc.assert(fc.asyncProperty(fc.array(drafts, { minLength: 15, maxLength: 15 }), async (several) => {
    const chains = several.map(chainOf)
    const words = wordsOfOpenssl(dir, chains)
    for (const [at, chain] of chains.entries()) await compare(chain, words[at])
  }), { numRuns: 10 })
  t.ok(accepted > 5, `${accepted} of them are valid`)
})

t.test('a chain with changed octets is accepted only if openssl accepts it', { skip: withoutOpenssl }, async (t) => {
  const plain: Chain = { ...under({ extensions: { san: alternatives(names.dns('a.acme.test')) } }, { extensions: { limits: nameConstraints({ permitted: [names.dns('acme.test')] }) } }), lists: [] }
  const certificates = [...plain.ca, ...plain.others!, plain.leaf]
  const change = fc.record({ which: fc.nat({ max: 2 }), at: fc.noBias(fc.nat({ max: 9999 })), octet: fc.noBias(fc.nat({ max: 255 })), kind: fc.constantFrom('set', 'set', 'set', 'set', 'set', 'insert', 'remove') })
  let parsed = 0
  fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 2 }), (changes) => {
    const raws = certificates.map((made) => Buffer.from(made.der))
    for (const { which, at, octet, kind } of changes) {
      const raw = raws[which]!
      const offset = at % raw.length
      const after = raw.subarray(kind === 'insert' ? offset : offset + 1)
      raws[which] = Buffer.concat([raw.subarray(0, offset), ...(kind === 'remove' ? [] : [Buffer.of(octet)]), after])
    }
    let changed
    try {
      changed = raws.map((raw, which) => changes.every((change) => change.which !== which) ? certificates[which]! : ({ ...plain.leaf, der: raw, pem: pemOf('CERTIFICATE', raw), certificate: new X509Certificate(raw) }))
    } catch {
      return // it is none any more
    }
    parsed++
    const [root, issuer, leaf] = changed
    const chain: Chain = { ca: [root!], others: [issuer!], leaf: leaf! }
    const { error } = verify(chain)
    if (error === undefined && wordOfOpenssl(dir, chain) !== undefined) throw new Error(`accepted:\n${changed.map(({ pem }) => pem).join('')}`)
  }), { numRuns: 2000 })
  t.ok(parsed > 100, `${parsed} of them are still certificates`)
})

t.test('a chain with one bit of a signed part changed is refused', async (t) => {
  const chain = under()
  const raw = chain.leaf.der
  // The rest is the algorithm and the signature.
  const signed = raw.length - 100
  fc.assert(fc.property(fc.integer({ min: 0, max: signed * 8 - 1 }), (bit) => {
    const other = Buffer.from(raw)
    other[bit >> 3]! ^= 1 << (bit & 7)
    let certificate
    try {
      certificate = new X509Certificate(other)
    } catch {
      return
    }
    t.not(verify({ ...chain, leaf: { ...chain.leaf, certificate } }).error, undefined)
  }), { numRuns: 500 })
})

t.test('path validation never throws', async (t) => {
  const chain = under()
  const verifier = new PathVerifier([root.certificate])
  const verifyPath = (...asked: Parameters<PathVerifier['verify']>) => verifier.verify(...asked)
  t.equal(verifyPath({} as X509Certificate, [], Date.now()).error, 'UNSPECIFIED')
  for (const odd of [{}, null, { raw: Buffer.of(1) }, { raw: chain.leaf.der, checkIssued: () => true, verify: () => true, fingerprint256: '' }]) {
    const certificate = odd as unknown as X509Certificate
    t.not(verifyPath(certificate, [], Date.now()).error, undefined)
    t.equal(verifyPath(make({ issuer: root }).certificate, [certificate], Date.now()).error, undefined, 'one among others does not matter')
  }
  for (const now of [NaN, Infinity, -Infinity]) t.not(verify(chain, now).error, undefined)
})

t.test('the result of path validation says from when until when it holds', async (t) => {
  const seconds = (days: number) => Math.floor(Date.now() / 1000 + days * DAY / 1000) * 1000
  const about = (time: number, days: number, what: string) => { t.ok(Math.abs(time - seconds(days)) <= 60_000, what) }
  const plain = under({ days: [-3, 20] }, { days: [-2, 25] })
  const { from, until, error } = verify(plain)
  t.equal(error, undefined)
  t.equal(from, Date.parse(root.certificate.validFrom), 'the root is the youngest')
  about(until, 20, 'the leaf ends first')
  t.match(verify(plain, until), { error: undefined, from, until }, 'the last moment')
  t.match(verify(plain, until + 1), { error: 'CERT_HAS_EXPIRED' })
  t.match(verify(plain, from), { error: undefined, from, until }, 'the first moment')
  t.match(verify(plain, from - 1), { error: 'CERT_NOT_YET_VALID' })
  t.match(verify(plain, until + 1), { from: NaN, until: NaN }, 'no answer about a bad one lasts')

  const issuer = plain.others![0]!
  const listed = await verifyListed({ ...plain, lists: [makeList(root, { days: [-0.5, 30] }), makeList(issuer, { days: [-0.7, 3] })] })
  about(listed.from, -0.5, 'a list is the youngest')
  about(listed.until, 3, 'a list ends first')
  const endless = await verifyListed({ ...plain, lists: [makeList(root, { days: [-3, undefined] }), makeList(issuer, { days: [-3, undefined] })] })
  t.match(endless, { error: undefined, from, until }, 'lists without an end do not shorten anything')
})

t.test('the result of path validation ends where the next CRL begins', async (t) => {
  const leaf = make({ issuer: root })
  const begins = Math.floor(Date.now() / 1000) * 1000 + 5 * DAY
  const later = makeList(root, { days: [(begins - Date.now()) / DAY, 60], revoked: [leaf] })
  const other = makeList(make({ ca: true }), { days: [1, 60] })
  const lists = [later, rootList, other]
  const { error, until } = await verifyListed({ ca: [root], leaf, lists })
  t.equal(error, undefined)
  t.ok(Math.abs(until - begins) <= 1000, 'not where that of another certificate does')
  t.equal((await verifyListed({ ca: [root], leaf, lists }, until)).error, undefined)
  t.equal((await verifyListed({ ca: [root], leaf, lists }, until + 1)).error, 'CERT_REVOKED')
})

t.test('a revoked certificate is found in a large CRL', async (t) => {
  const numbers = fc.uniqueArray(fc.integer({ min: 0x800000, max: 0xffffff }), { minLength: 2, maxLength: 400 })
  await fc.assert(fc.asyncProperty(numbers, async ([other, ...serials]) => {
    const { verify } = await revoking([root], [makeList(root, { revoked: serials.map((serial) => ({ ...root, serial: integer(serial) })) })])
    const errorOf = async (serial: number) => (await verify(make({ issuer: root, serial }).certificate)).error
    t.equal(await errorOf(other!), undefined)
    for (const serial of serials.slice(0, 3)) t.equal(await errorOf(serial), 'CERT_REVOKED')
  }), { numRuns: 20 })
  const first = make({ issuer: root, serial: 0x800000 })
  const last = make({ issuer: root, serial: 0x800000 + 99_999 })
  const list = makeList(root, { revoked: Array.from({ length: 100_000 }, (_, index) => ({ ...root, serial: integer(0x800000 + index) })) })
  const { verify } = await revoking([root], [list])
  t.equal((await verify(first.certificate)).error, 'CERT_REVOKED')
  t.equal((await verify(last.certificate)).error, 'CERT_REVOKED')
  t.equal((await verify(make({ issuer: root, serial: 0x800000 + 100_000 }).certificate)).error, undefined)
})

t.test('the CRL of one of many issuers with one name counts for that issuer alone', async (t) => {
  const alike = Array.from({ length: 40 }, () => make({ ca: true, subject: 'CN=Root' }))
  const { verify } = await revoking([...alike, root], [rootList])
  for (const issuer of alike) t.equal((await verify(make({ issuer }).certificate)).error, 'CRL_SIGNATURE_FAILURE')
  t.equal((await verify(make({ issuer: root }).certificate)).error, undefined)
})

/** A certificate that counts what is asked of it, and with which keys. To Node, a Proxy is none. */
function watched ({ der }: Made, asked: { verify: KeyObject[], checkIssued: unknown[] }): X509Certificate {
  const certificate = new X509Certificate(der)
  for (const name of ['verify', 'checkIssued'] as const) {
    const ask = certificate[name] as (argument: unknown) => boolean
    Object.defineProperty(certificate, name, { value: (argument: KeyObject) => { asked[name].push(argument); return ask.call(certificate, argument) } })
  }
  return certificate
}

t.test('path building is fast with five hundred CAs and four intermediates of one name', async (t) => {
  const extensions = { authorityKey: undefined, subjectKey: undefined }
  const draft = { ca: true, subject: 'CN=Same', extensions }
  const authorities = Array.from({ length: 500 }, () => make(draft))
  // Two names that have certified each other.
  const [one, other] = [make(draft), make({ ...draft, subject: 'CN=Other' })]
  const crossed = Array.from({ length: 500 }, (_, index) => index % 2 === 0 ? make({ ...draft, like: one, issuer: other }) : make({ ...draft, subject: 'CN=Other', like: other, issuer: one }))
  const others = crossed.splice(0, 4)
  const leaf = make({ issuer: one, extensions })
  // The second kind are no roots, and nothing that they lead to is one.
  for (const [what, all] of Object.entries({ roots: authorities, intermediates: crossed })) {
    const asked = { verify: [], checkIssued: [] }
    const verifier = new PathVerifier(all.map((made) => watched(made, asked)))
    asked.checkIssued.length = 0
    const took = await cpuTime(() => t.not(verifier.verify(watched(leaf, asked), others.map((made) => watched(made, asked)), Date.now()).error, undefined))
    t.ok(took < 2000, `${what}: ${took} ms`)
    t.ok(asked.verify.length <= 64, `${what}: ${asked.verify.length} signatures`)
    t.ok(asked.checkIssued.length <= 2000, `${what}: ${asked.checkIssued.length} pairs`)
  }
  const own = make({ issuer: authorities[30]!, extensions })
  t.equal(verify({ ca: authorities, leaf: own }).error, undefined, 'one of the first is found')
})

t.test('path building is fast with names of thousands of octets in many paths', async (t) => {
  const none = { subjectKey: undefined, authorityKey: undefined }
  const sub = make({ ca: true, issuer: root, extensions: none })
  const host = 'aB'.repeat(1800)
  const of = (base: (index: number) => Uint8Array, name: (index: number) => Uint8Array, size: number) => ({
    limits: nameConstraints({ excluded: Array.from({ length: size }, (_, index) => base(index)) }),
    san: alternatives(...Array.from({ length: size }, (_, index) => name(index)))
  })
  const kinds = {
    hosts: of(() => names.dns('a.y'), () => names.dns('a.z'), 900),
    addresses: of(() => names.ip(1, 2, 3, 4, 255, 255, 255, 255), () => names.ip(1, 2, 3, 0), 800),
    URIs: of(() => names.uri('.a'), () => names.uri('a://b.c'), 500),
    'directory names': of(() => names.dir('CN=a, CN=B'), () => names.dir('CN=a, CN=c'), 300),
    'mail addresses': { ...of(() => names.email(''), () => names.email(`a@${host}`), 900), san: alternatives(...['a', 'b'].map((local) => names.email(`${local}@${host}`))) }
  }
  for (const [what, { limits, san }] of Object.entries(kinds)) {
    // Two authorities who have certified each other, in every way that there are certificates for.
    const one = make({ ca: true, subject: 'CN=One', like: sub, issuer: sub, extensions: { ...none, limits } })
    const two = make({ ca: true, subject: 'CN=Two', like: sub, issuer: one, extensions: none })
    const others = [make({ ca: true, subject: 'CN=One', like: sub, issuer: two, extensions: none }), make({ ca: true, subject: 'CN=Two', like: sub, issuer: one, extensions: none }), two, one]
    const leaf = make({ issuer: one, extensions: { ...none, san, usage: usage(what === 'mail addresses' ? ENCIPHERS : SIGNS) } })
    const took = await cpuTime(() => t.equal(verify({ ca: [root, sub], others, leaf }).error, what === 'mail addresses' ? 'INVALID_PURPOSE' : 'UNSPECIFIED'))
    t.ok(took < 500, `${what}: ${took} ms`)
  }
})

t.test('the signature of a CRL is verified once for each key, however many look-alikes of its issuer there are', async (t) => {
  const issuer = make({ ca: true, subject: 'CN=Issuer', issuer: root })
  const neighbour = make({ ca: true, issuer: root })
  const { ask, verify } = await revoking([root], [makeList(root), makeList(neighbour), makeList(issuer)])
  const client = (): X509Certificate => make({ issuer }).certificate
  const first = ask(client(), [issuer.certificate])
  t.match(first.answer, { error: 'OCSP_VERIFY_NEEDED', pending: true })
  t.equal(first.waitsFor.length, 2, 'that of the root, and that of the issuer')
  t.equal((await verify(client(), [issuer.certificate])).error, undefined)
  for (let times = 0; times < 40; times++) {
    const alike = make({ ca: true, subject: 'CN=Issuer', issuer: neighbour, extensions: { subjectKey: undefined } })
    t.equal((await verify(make({ issuer: alike }).certificate, certificatesOf([alike, neighbour]))).error, 'CRL_SIGNATURE_FAILURE')
  }
  // Another certificate of the same key: it has come with this client
  const again = ask(client(), [make({ ca: true, subject: 'CN=Issuer', issuer: root, like: issuer }).certificate])
  t.strictSame([again.answer.error, again.waitsFor], [undefined, []])
})

t.test('one client cannot have the signatures of many CRLs verified', async (t) => {
  const list = (days: number) => makeList(make({ ca: true, subject: 'CN=Root' }), { days: [-days, 30] })
  const lists = Array.from({ length: 20 }, (_, index) => list(index + 1))
  const { ask } = await revoking([root], [...lists, makeList(root, { days: [-30, 30] })])
  const client = async () => {
    const { answer, waitsFor } = ask(make({ issuer: root }).certificate, [])
    await Promise.all(waitsFor)
    return [answer.error, waitsFor.length]
  }
  t.strictSame(await client(), ['OCSP_VERIFY_NEEDED', 16])
  t.strictSame(await client(), ['OCSP_VERIFY_NEEDED', 5], 'the next one does the rest')
  t.strictSame(await client(), [undefined, 0])
})

t.test('a client is refused where the budget is used up before every CRL is verified', async (t) => {
  const [before, after] = ['CN=Issuer', 'CN=Issuer'].map((subject) => make({ ca: true, subject, issuer: root })) as [Made, Made]
  const leaf = make({ issuer: before })
  const { verify, revocation } = await revoking([root, before, after], [rootList, makeList(before), makeList(after, { revoked: [leaf] })])
  t.equal((await verify(leaf.certificate)).error, 'CERT_REVOKED')
  const path = [leaf, before, root].map(({ certificate }) => parseCertificate(certificate))
  const work = new Budget()
  t.equal(revocation.statusOf(path, Date.now(), work, t.fail).error, 'CERT_REVOKED')
  while (work.takeSignature(1)) continue
  t.equal(revocation.statusOf(path, Date.now(), work, t.fail).error, 'UNSPECIFIED')
})

t.test('a circle of cross-certificates is walked once', async (t) => {
  const [one, two] = [make({ ca: true, subject: 'CN=One' }), make({ ca: true, subject: 'CN=Two' })]
  const others = [make({ ca: true, subject: 'CN=One', like: one, issuer: two }), make({ ca: true, subject: 'CN=Two', like: two, issuer: one })]
  const asked = { verify: [], checkIssued: [] }
  const { error } = new PathVerifier([root.certificate]).verify(watched(make({ issuer: one }), asked), others.map((made) => watched(made, asked)), Date.now())
  t.equal(error, 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY')
  t.equal(asked.checkIssued.length, 3)
})

t.test('signatures are not verified with the keys of unknown issuers', async (t) => {
  const otherRoot = make({ ca: true, subject: 'CN=Root' })
  const issuer = make({ ca: true, issuer: otherRoot, extensions: { authorityKey: undefined } })
  const asked = { verify: [] as KeyObject[], checkIssued: [] }
  const { error } = new PathVerifier([root.certificate]).verify(watched(make({ issuer }), asked), [watched(issuer, asked)], Date.now())
  t.equal(error, 'CERT_SIGNATURE_FAILURE')
  t.equal(asked.verify.length, 1)
  t.ok(asked.verify[0]!.equals(root.certificate.publicKey))
})

/** A verifier of the root and these. */
const trusting = (...all: Made[]) => new PathVerifier(certificatesOf([root, ...all]))
const idsOf = (all: ReadonlyArray<{ readonly certificate: X509Certificate }> | undefined) => all?.map(({ certificate }) => certificate.fingerprint256)
const NEVER = { from: -Infinity, until: Infinity }

/** That they have a path of their own, if they are known. */
function assertAuthorities (t: Test, { ca, others = [], leaf }: Chain): void {
  const verifier = new PathVerifier(certificatesOf(ca))
  for (const certificate of certificatesOf(others)) verifier.addIntermediate(certificate)
  const { error, path } = verifier.verify(leaf.certificate, [], Date.now())
  t.equal(error, undefined)
  for (const facts of path!.slice(1)) t.not(verifier.verifyAuthority(facts, path!.at(-1)!, Date.now()), undefined, facts.certificate.subject)
}

t.test('the result of path validation has its path, and an error the path that it is about', async (t) => {
  const leaf = make({ issuer: middle })
  const verifier = trusting()
  const { error, path, pending } = verifier.verify(leaf.certificate, [root.certificate, middle.certificate], Date.now())
  t.strictSame({ error, pending }, { error: undefined, pending: false })
  t.strictSame(idsOf(path), idsOf([leaf, middle, root]))
  const late = verifier.verify(make({ issuer: middle, days: [-9, -1] }).certificate, [middle.certificate], Date.now())
  t.match(late, { error: 'CERT_HAS_EXPIRED', from: NaN, until: NaN, pending: false })
  t.equal(late.path?.length, 3)
  t.match(verifier.verify(leaf.certificate, [], Date.now()), { error: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', path: undefined })
})

t.test('a remembered intermediate need not be sent again, and is no trust anchor', async (t) => {
  const [leaf, top] = [make({ issuer: middle }), make({ ca: true, subject: 'CN=Top' })]
  const verifier = trusting()
  const errorOf = (leaf: Made, ...others: Made[]) => verifier.verify(leaf.certificate, certificatesOf(others), Date.now()).error
  t.equal(errorOf(leaf), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  for (const certificate of [middle, middle, root, top].map(({ certificate }) => certificate)) verifier.addIntermediate(certificate)
  verifier.addIntermediate(make({ ca: true, issuer: root, extensions: { odd: extension('2.5.29.30', text('no')) } }).certificate)
  verifier.addIntermediate({} as X509Certificate)
  t.equal(errorOf(leaf), undefined)
  t.equal(errorOf(leaf, middle), undefined)
  t.equal(errorOf(make({ issuer: root })), undefined, 'an anchor that is added stays one')
  t.equal(errorOf(make({ issuer: top })), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  t.equal(errorOf(make({ issuer: top }), top), 'SELF_SIGNED_CERT_IN_CHAIN')
  const below = make({ ca: true, issuer: middle })
  t.equal(errorOf(make({ issuer: below }), below), undefined, 'above what is sent')
  const above = make({ ca: true, issuer: root })
  const between = make({ ca: true, issuer: above })
  verifier.addIntermediate(between.certificate)
  t.equal(errorOf(make({ issuer: between }), above), undefined, 'below what is sent')
  t.equal(errorOf(make({ issuer: between })), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
})

t.test('an intermediate that was forgotten has to be sent again, and nothing else is forgotten', async (t) => {
  const [one, two] = ['CN=Middle', 'CN=Middle'].map((subject) => make({ ca: true, subject, issuer: root }))
  const verifier = trusting(middle)
  for (const { certificate } of [one!, two!, root]) verifier.addIntermediate(certificate)
  const errorOf = (issuer: Made) => verifier.verify(make({ issuer }).certificate, [], Date.now()).error
  for (const { certificate } of [one!, middle, root, make({ ca: true })]) verifier.removeIntermediate(certificate)
  t.strictSame([one!, two!, middle, root].map(errorOf), ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', undefined, undefined, undefined], 'what is configured stays')
  verifier.addIntermediate(one!.certificate)
  verifier.removeIntermediate(two!.certificate)
  t.strictSame([one!, two!].map(errorOf), [undefined, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'])
})

t.test('every valid path is found once: the shortest first, then sent intermediates before remembered ones', async (t) => {
  const other = make({ ca: true, subject: 'CN=Other' })
  const between = make({ ca: true, subject: 'CN=Between', issuer: other })
  const cross = make({ ca: true, subject: 'CN=Middle', like: middle, issuer: between })
  const renewed = make({ ca: true, subject: 'CN=Middle', like: middle, issuer: root })
  const leaf = make({ issuer: middle })
  const verifier = trusting(other)
  const pathsOf = (...others: Made[]) => [...verifier.validPaths(leaf.certificate, certificatesOf(others), Date.now())].map(({ path }) => idsOf(path))
  t.strictSame(pathsOf(cross, between, middle), [[leaf, middle, root], [leaf, cross, between, other]].map(idsOf))
  verifier.addIntermediate(renewed.certificate)
  t.strictSame(pathsOf(cross, between), [[leaf, cross, between, other], [leaf, renewed, root]].map(idsOf))
  verifier.addIntermediate(middle.certificate)
  t.strictSame(pathsOf(middle), [[leaf, middle, root], [leaf, renewed, root]].map(idsOf), 'what is sent and remembered is one')
  t.strictSame(pathsOf(), [[leaf, renewed, root], [leaf, middle, root]].map(idsOf))
  for (const { certificate } of [cross, between]) verifier.addIntermediate(certificate)
  t.strictSame(pathsOf(), [[leaf, renewed, root], [leaf, middle, root], [leaf, cross, between, other]].map(idsOf))
  const generator = verifier.validPaths(leaf.certificate, [], Date.now(), () => ({ ...NEVER, error: 'CERT_REVOKED' }))
  t.match(generator.next(), { done: true, value: { error: 'CERT_REVOKED' } })
})

t.test('remembered look-alikes do not get in the way of a client that sends its own intermediates', async (t) => {
  const extensions = { authorityKey: undefined, subjectKey: undefined }
  const issuer = make({ ca: true, subject: 'CN=Issuer', issuer: middle, extensions })
  const leaf = make({ issuer, extensions })
  const verifier = trusting()
  // Under the same root, and nearer to it.
  for (let count = 0; count < 100; count++) verifier.addIntermediate(make({ ca: true, subject: 'CN=Issuer', issuer: root, extensions }).certificate)
  verifier.addIntermediate(issuer.certificate)
  verifier.addIntermediate(middle.certificate)
  t.equal(verifier.verify(leaf.certificate, certificatesOf([middle, issuer]), Date.now()).error, undefined)
  t.equal(verifier.verify(leaf.certificate, [], Date.now()).error, 'CERT_SIGNATURE_FAILURE', 'who does not has to send them')
})

t.test('the parts of a CA certificate are worked out once', async (t) => {
  const verifier = trusting()
  const chain = [make({ ca: true, issuer: root })]
  chain.push(make({ ca: true, issuer: chain[0] }))
  const client = () => {
    const asked = { verify: [], checkIssued: [] }
    t.equal(verifier.verify(watched(make({ issuer: chain[1]! }), asked), chain.map((made) => watched(made, asked)), Date.now()).error, undefined)
    return asked.verify.length
  }
  t.equal(client(), 3)
  const asked = { verify: [], checkIssued: [] }
  for (const made of chain) verifier.addIntermediate(watched(made, asked))
  t.equal(client(), 1, 'but for the client')
  t.equal(client(), 1)
  t.equal(asked.verify.length, 2, 'once')
})

t.test('revocation is checked on paths that are otherwise valid, and decides between them', async (t) => {
  const renewed = make({ ca: true, subject: 'CN=Middle', like: middle, issuer: root })
  const ended = make({ ca: true, subject: 'CN=Middle', like: middle, issuer: root, days: [-9, -1] })
  const leaf = make({ issuer: middle })
  const asked: string[] = []
  const verify = (others: Made[], of: (intermediate: Made) => ReturnType<RevocationStatusOf>) => {
    asked.length = 0
    return trusting().verify(leaf.certificate, certificatesOf(others), Date.now(), ([first, second, third, ...rest]) => {
      t.equal(first!.certificate, leaf.certificate)
      t.equal(third!.certificate.subject, 'CN=Root')
      t.equal(rest.length, 0)
      const made = others.find(({ certificate }) => certificate === second!.certificate)!
      asked.push(['middle', 'renewed', 'ended'][[middle, renewed, ended].indexOf(made)]!)
      return of(made)
    })
  }
  const [revoked, pending, known] = [{ error: 'CERT_REVOKED', from: NaN, until: NaN }, { pending: true, from: NaN, until: NaN }, { from: Date.now() - 1000, until: Date.now() + 1000 }]
  t.match(verify([ended, middle, renewed], () => known), { error: undefined, pending: false, ...known })
  t.strictSame(asked, ['middle'], 'the first that is valid is enough')
  const second = verify([ended, middle, renewed], (made) => made === middle ? revoked : known)
  t.match(second, { error: undefined, ...known })
  t.equal(second.path![1]!.certificate, renewed.certificate)
  t.match(verify([middle, renewed], (made) => made === middle ? pending : known), { error: undefined, pending: false, ...known })
  t.strictSame(asked, ['middle', 'renewed'])
  for (const order of [[middle, renewed], [renewed, middle]]) {
    const answer = verify([ended, ...order], (made) => made === middle ? pending : revoked)
    t.match(answer, { error: 'OCSP_VERIFY_NEEDED', pending: true, from: NaN, until: NaN }, 'not valid, but it may yet be')
    t.equal(answer.path![1]!.certificate, middle.certificate)
  }
  t.match(verify([middle], () => ({ ...pending, error: 'UNABLE_TO_GET_CRL' })), { error: 'UNABLE_TO_GET_CRL', pending: true })
  const last = verify([ended, middle], () => revoked)
  t.match(last, { error: 'CERT_REVOKED', pending: false }, 'not that another path is none')
  t.equal(last.path![1]!.certificate, middle.certificate)
  t.match(verify([ended], () => known), { error: 'CERT_HAS_EXPIRED' })
  t.strictSame(asked, [])
  t.match(verify([middle], () => { throw new Error('none') }), { error: 'UNSPECIFIED', pending: false })
})

t.test('a CA has a path to a trust anchor by its name and key', async (t) => {
  const other = make({ ca: true, subject: 'CN=Root' })
  const renewed = make({ ca: true, subject: 'CN=Root', like: root })
  const named = make({ ca: true, subject: 'CN=Top', like: root })
  const below = make({ ca: true, issuer: middle })
  const verifier = new PathVerifier(certificatesOf([renewed, other, middle]))
  const validityUnder = (made: Made, anchor = root) => verifier.verifyAuthority(parseCertificate(made.certificate), parseCertificate(anchor.certificate), Date.now())
  const isUnder = (...asked: Parameters<typeof validityUnder>) => validityUnder(...asked) !== undefined
  t.equal(isUnder(middle), true)
  t.equal(isUnder(renewed), true, 'itself')
  t.equal(isUnder(middle, other), false)
  t.equal(isUnder(middle, named), false)
  t.equal(isUnder(below), true)
  t.equal(isUnder(make({ ca: true, issuer: below })), false, 'what is between is not known')
  verifier.addIntermediate(below.certificate)
  t.equal(isUnder(make({ ca: true, issuer: below })), true)
  verifier.removeIntermediate(below.certificate)
  t.equal(isUnder(make({ ca: true, issuer: below })), false, 'forgotten')
  const [young, short] = [make({ ca: true, issuer: root, days: [-0.5, 20] }), make({ ca: true, issuer: root, days: [-9, 5] })]
  const [since, last] = [young, short].map(({ certificate: { validFrom, validTo } }) => [Date.parse(validFrom), Date.parse(validTo)])
  verifier.addIntermediate(short.certificate)
  t.equal(validityUnder(young)!.notBefore, since![0])
  t.equal(validityUnder(make({ ca: true, issuer: short }))!.notAfter, last![1], 'as long as all of its path')

  // RFC 4210 §4.4: the new key of an authority, certified by its old one, or by whoever is above.
  t.equal(isUnder(make({ ca: true, subject: 'CN=Middle', issuer: middle })), true)
  t.equal(isUnder(make({ ca: true, subject: 'CN=Middle', issuer: renewed })), true)
  t.equal(isUnder(make({ ca: true, subject: 'CN=Middle', issuer: make({ ca: true }) })), false)
  // PKITS 4.4.19, 4.5.6: a key for lists alone.
  t.equal(isUnder(make({ subject: 'CN=Middle', issuer: middle, extensions: { usage: usage(LISTS), purposes: undefined } })), true)
  t.equal(isUnder(make({ subject: 'CN=Middle', issuer: middle, extensions: { usage: undefined } })), false, 'a client of any use')
  t.equal(isUnder(make({ subject: 'CN=Middle', issuer: middle })), false, 'a client')
  t.equal(isUnder(make({ ca: true, issuer: middle, days: [-9, -1] })), false)
  t.equal(isUnder(make({ ca: true, issuer: middle, spoil: true })), false)
  t.equal(isUnder(make({ ca: true, issuer: middle, extensions: { purposes: purposes(SERVER) } })), false)

  const only = make({ ca: true, extensions: { constraints: constraints(true, 0) } })
  const own = new PathVerifier([only.certificate])
  t.equal(own.verifyAuthority(parseCertificate(make({ ca: true, issuer: only }).certificate), parseCertificate(only.certificate), Date.now()), undefined, 'there may be none')
  const extensions = { authorityKey: undefined, subjectKey: undefined }
  const crowded = trusting()
  for (let count = 0; count < 60; count++) crowded.addIntermediate(make({ ca: true, subject: 'CN=Crowd', issuer: root, extensions }).certificate)
  const lost = parseCertificate(make({ ca: true, issuer: make({ ca: true, subject: 'CN=Crowd' }), extensions }).certificate)
  t.equal(crowded.verifyAuthority(lost, parseCertificate(root.certificate), Date.now()), undefined, 'nor are all keys tried')
  t.equal(crowded.verifyAuthority({} as ReturnType<typeof parseCertificate>, parseCertificate(root.certificate), Date.now()), undefined)
})

t.test('each CA of a valid path has a path itself', async (t) => {
  const chains = [
    long({}, {}, {}),
    long({ extensions: { limits: nameConstraints({ excluded: [names.dir('O=Bad')] }) }, subject: 'O=Bad' }, { subject: 'O=Bad' }),
    long({}, { extensions: { limits: nameConstraints({ permitted: [names.dns('acme.test')] }) } }, { subject: 'CN=other.test' })
  ]
  for (const chain of chains) assertAuthorities(t, chain)
})

t.test('the log says in words why a client certificate is refused, and which certificate of the path is at fault', async (t) => {
  const weakly = { algorithm: 'ecdsaSha1' } as const
  const unreadable = { extensions: odd(SAN, seq(der(0x8f))) }
  const mapped = { extensions: { odd: policyMappings([ANY_POLICY, '1.2.3']) } }
  const other = make({ ca: true, subject: 'CN=Root' })
  const rows: Array<[title: string, words: RegExp | undefined, chain: Chain]> = [
    ['version 1', /^it is not of X\.509 version 3/, under({ version: 1 })],
    ['version 1 of the root', /^of an authority above it: it is not of X\.509 version 3/, ofRoot({ version: 1 })],
    ['a purpose', /^its extended key usage/, leafWith({ purposes: purposes(SERVER) })],
    ['a purpose of the authority', /^of an authority above it: its extended key usage/, middleWith({ purposes: purposes(SERVER) })],
    ['no basicConstraints of the root', /^of an authority above it: by its basicConstraints/, rootWith({ constraints: undefined })],
    ['an unknown critical extension', /^it has a critical extension/, leafWith(odd(UNKNOWN, undefined, true))],
    ['a weak key', /^its key is too weak/, under({ kind: 'rsa1024' })],
    ['a weak key of the authority', /^of an authority above it: its key is too weak/, under({}, { kind: 'rsa1024' })],
    ['SHA-1', /^it was not signed with SHA-2/, under(weakly)],
    ['SHA-1 of the authority', /^of an authority above it: it was not signed with SHA-2/, under({}, weakly)],
    ['odd policies', /^its policies are not exactly/, under(mapped)],
    ['odd policies of the authority', /^of an authority above it: its policies/, under({}, mapped)],
    ['what is not to be read', /^it is not exactly as RFC 5280 has it/, under(unreadable)],
    ['of an unknown issuer', /^its issuer is no authority that counts here/, { ca: [root], leaf: make({ issuer: middle }) }],
    ['of an unknown issuer\'s intermediate', /^the intermediates that are known lead to no/, { ca: [other], others: [middle], leaf: make({ issuer: middle }) }],
    ['a root that is not trusted', /^it leads to a root that is not among/, { ca: [other], others: [root, middle], leaf: make({ issuer: middle }) }],
    ['self-signed', /^it is self-signed/, { ca: [root], leaf: make() }],
    ['of a namesake', /another key$/, { ca: [other], leaf: make({ issuer: root, extensions: { authorityKey: undefined } }) }],
    ['an expired one', undefined, under({ days: [-9, -1] })]
  ]
  for (const [title, words, { ca, others = [], leaf }] of rows) {
    const { error } = new PathVerifier(certificatesOf(ca)).verify(leaf.certificate, certificatesOf(others), Date.now())
    t.type(error, 'string', title)
    const explained = explainProblem(leaf.certificate, error ?? '')
    if (words === undefined) t.equal(explained, undefined, title)
    else t.match(explained ?? '', words, `${title}: ${error}`)
  }
})

t.test('the log warns of a client CA that no client can be valid by', async (t) => {
  const rows: Array<[title: string, word: RegExp | undefined, draft: Parameters<typeof make>[0]]> = [
    ['a plain one', undefined, {}],
    ['an expired one', undefined, { days: [-9, -1] }],
    ['one that allows none below', undefined, { extensions: { constraints: constraints(true, 0) } }],
    ['a weak key', /^its key is too weak.*\(CA_KEY_TOO_SMALL\)$/, { kind: 'rsa1024' }],
    ['version 1', /^it is not of X\.509 version 3.*\(CERT_REJECTED\)$/, { version: 1 }],
    ['no basicConstraints', /^by its basicConstraints.*\(INVALID_CA\)$/, { extensions: { constraints: undefined } }],
    ['a keyUsage of no authority', /\(INVALID_CA\)$/, { extensions: { usage: usage(ENCIPHERS) } }],
    ['a purpose', /^its extended key usage.*\(INVALID_PURPOSE\)$/, { extensions: { purposes: purposes(SERVER) } }],
    ['an unknown critical extension', /^it has a critical extension.*\(UNHANDLED_CRITICAL_EXTENSION\)$/, { extensions: odd(UNKNOWN, undefined, true) }],
    ['what is not to be read', /^it is not exactly.* DER/, { extensions: odd(SAN, seq(der(0x8f))) }]
  ]
  for (const [title, word, draft] of rows) {
    for (const [kind, certificate] of [['a root', make({ ca: true, ...draft })], ['an intermediate', make({ ca: true, issuer: root, ...draft })]] as const) {
      const problem = problemOfAuthority(certificate.certificate)
      if (word === undefined) t.equal(problem, undefined, `${title}: ${kind}`)
      else t.match(problem, word, `${title}: ${kind}`)
    }
  }
  const weak = { algorithm: 'ecdsaSha1' } as const
  t.match(problemOfAuthority(make({ ca: true, issuer: root, ...weak }).certificate), /^it was not signed with SHA-2.*\(CA_MD_TOO_WEAK\)$/)
  t.equal(problemOfAuthority(make({ ca: true, ...weak }).certificate), undefined, 'a root signs itself as it likes')
  const mapped = { extensions: { odd: policyMappings([ANY_POLICY, '1.2.3']) } }
  t.match(problemOfAuthority(make({ ca: true, issuer: root, ...mapped }).certificate), /^its policies.*\(INVALID_POLICY_EXTENSION\)$/)
  t.equal(problemOfAuthority(make({ ca: true, ...mapped }).certificate), undefined)
  t.equal(problemOfAuthority(make({ extensions: { usage: undefined } }).certificate), undefined, 'a self-signed client is its own authority')
  t.match(problemOfAuthority(make().certificate), /INVALID_CA/, 'but not with a keyUsage that says it is none')
  const lists = { extensions: { usage: usage(LISTS), constraints: undefined } }
  t.equal(problemOfAuthority(make({ ca: true, issuer: root, ...lists }).certificate), undefined, 'a key for lists alone')
  t.match(problemOfAuthority(make({ ca: true, ...lists }).certificate), /INVALID_CA/, 'but not with nothing above it')
})

t.test('legacy: true admits short keys, SHA-1 and X.509 version 1, and nothing else', async (t) => {
  const bare = { constraints: undefined, usage: undefined, purposes: undefined, subjectKey: undefined, authorityKey: undefined }
  const oldRoot = make({ ca: true, subject: 'CN=Old root', version: 1, extensions: bare })
  const shortRoot = make({ ca: true, subject: 'CN=Short root', kind: 'rsa1024' })
  const oldMiddle = make({ ca: true, issuer: root, subject: 'CN=Old', version: 1, extensions: bare })
  const rows: Array<[title: string, strict: string, legacy: string | undefined, leaf: Made, others?: Made[]]> = [
    ['a short key', 'EE_KEY_TOO_SMALL', undefined, make({ issuer: root, kind: 'rsa1024' })],
    ['a short curve', 'EE_KEY_TOO_SMALL', undefined, make({ issuer: root, kind: 'P192' })],
    ['a binary curve', 'EE_KEY_TOO_SMALL', 'EE_KEY_TOO_SMALL', make({ issuer: root, kind: 'sect283' })],
    ['a short key that has expired', 'EE_KEY_TOO_SMALL', 'CERT_HAS_EXPIRED', make({ issuer: root, kind: 'rsa1024', days: [-2, -1] })],
    ['a short key of an issuer', 'CA_KEY_TOO_SMALL', undefined, make({ issuer: shortRoot })],
    ['SHA-1', 'CA_MD_TOO_WEAK', undefined, make({ issuer: root, algorithm: 'ecdsaSha1' })],
    ['SHA-1 with RSA', 'CA_KEY_TOO_SMALL', undefined, make({ issuer: shortRoot, algorithm: 'rsaSha1' })],
    ['MD5', 'CA_KEY_TOO_SMALL', 'CA_MD_TOO_WEAK', make({ issuer: shortRoot, algorithm: 'rsaMd5' })],
    ['a wrong signature with SHA-1', 'CA_MD_TOO_WEAK', 'CERT_SIGNATURE_FAILURE', make({ issuer: root, algorithm: 'ecdsaSha1', spoil: true })],
    ['version 1', 'CERT_REJECTED', undefined, make({ issuer: root, version: 1, extensions: bare })],
    ['version 1 of a root of version 1', 'CERT_REJECTED', undefined, make({ issuer: oldRoot, version: 1, extensions: bare })],
    ['version 1 of an authority that is no root', 'CERT_REJECTED', 'CERT_REJECTED', make({ issuer: oldMiddle, extensions: { authorityKey: undefined } }), [oldMiddle]],
    ['another purpose', 'INVALID_PURPOSE', 'INVALID_PURPOSE', make({ issuer: root, extensions: { purposes: purposes(SERVER) } })]
  ]
  for (const [title, strict, legacy, leaf, others = []] of rows) {
    const words = [false, true].map((isLegacy) => new PathVerifier(certificatesOf([root, oldRoot, shortRoot]), isLegacy).verify(leaf.certificate, certificatesOf(others), Date.now()).error)
    t.strictSame(words, [strict, legacy], title)
  }
  for (const ca of [oldRoot, shortRoot]) t.strictSame([problemOfAuthority(ca.certificate) === undefined, problemOfAuthority(ca.certificate, true)], [false, undefined])
  t.match(problemOfAuthority(oldMiddle.certificate, true), /CERT_REJECTED/)
  t.equal(problemOfAuthority(make({ ca: true, issuer: root, algorithm: 'ecdsaSha1' }).certificate, true), undefined)
})
