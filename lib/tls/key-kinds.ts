/**
 * Keys of several kinds: a host may have a certificate of each, and every client gets one that it can verify. Which of
 * them stand in the server's own context: `ownKeyPairs`. In which order they are preferred: `preferencesOf`. What a
 * connection is offered: `offer`.
 *
 * With SNI, Node 20 and 22 add the current certificate of a SecureContext to those of the server's own one, where it
 * replaces one of its kind only; OpenSSL chooses among all. Later versions drop the others first, so that there is one to
 * choose (nodejs/node#54235). Both are pinned in test/key-kinds.test.ts.
 */
import type { ServerOptions } from 'node:https'
import { DEFAULT_CIPHERS, type SecureContext, type TLSSocket } from 'node:tls'
import type { KeyPair } from './credentials.ts'

export type KeyKind = KeyPair['keyKind']

/** What a host is served with: one key pair for each kind of key, in the order of the options; none while there is no certificate at all. */
export type KeyPairs = readonly KeyPair[]

/** A SecureContext with one key pair. */
export interface Offer {
  readonly keyKind: KeyKind
  readonly context: SecureContext
}

/**
 * Signature algorithms by kind of key, in OpenSSL's names: those of TLS 1.3, and a pattern that also matches the older
 * names, and those of `getSharedSigalgs`.
 */
const SIGNATURES: ReadonlyArray<readonly [kind: KeyKind, names: readonly string[], pattern: RegExp]> = [
  ['Ed25519', ['ed25519'], /^ed25519\b/i],
  ['Ed448', ['ed448'], /^ed448\b/i],
  ['EC', ['ecdsa_secp256r1_sha256', 'ecdsa_secp384r1_sha384', 'ecdsa_secp521r1_sha512'], /^ecdsa/i],
  ['RSA-PSS', ['rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512'], /^rsa(?:_pss_pss|-pss)/i],
  ['RSA', ['rsa_pss_rsae_sha256', 'rsa_pss_rsae_sha384', 'rsa_pss_rsae_sha512', 'rsa_pkcs1_sha256', 'rsa_pkcs1_sha384', 'rsa_pkcs1_sha512'], /^(?:rsa(?!_pss_pss)|pss)/i]
]
/** RSA keys sign with PSS alone in TLS 1.3 (RFC 8446 §4.2.3). */
const RSA_IN_TLS13 = /^rsa-pss/i

function patternOf (kind: KeyKind): RegExp {
  return SIGNATURES.find(([each]) => each === kind)![2]
}

function kindsOf (keyPairs: readonly KeyPair[]): KeyKind[] {
  return keyPairs.map(({ keyKind }) => keyKind)
}

/**
 * The key pairs of the server's own context, for clients that name no host; those preferred least come last. All that are
 * meant for them, but only the first if some other host would be taken for another by it: a client would have to prefer
 * the kinds of each host to those that only this context has, and there is one order for all.
 *
 * @param first what is meant for clients that name no host
 * @param hosts what each host is served with
 */
export function ownKeyPairs (first: KeyPairs, hosts: ReadonlyArray<readonly KeyPair[]>): KeyPairs {
  const has = (keyPairs: readonly KeyPair[], kind: KeyKind): boolean => kindsOf(keyPairs).includes(kind)
  const count = new Map(first.map((keyPair) => [keyPair, hosts.filter((host) => has(host, keyPair.keyKind)).length]))
  const ordered = [...first].sort((one, other) => count.get(other)! - count.get(one)!)
  const isNested = hosts.every((host) => {
    const length = ordered.filter(({ keyKind }) => has(host, keyKind)).length
    return ordered.slice(0, length).every(({ keyKind }) => has(host, keyKind))
  })
  return isNested ? ordered : first.slice(0, 1)
}

/**
 * Makes clients choose the certificate of their host, where some hosts have other kinds of keys than the server's own
 * context: its kinds come last in the signature algorithms (TLS 1.3) and cipher suites (TLS 1.2), and the order of the
 * server counts.
 *
 * @param own from {@link ownKeyPairs}
 */
export function preferencesOf (own: KeyPairs, hosts: ReadonlyArray<readonly KeyPair[]>, { ciphers = DEFAULT_CIPHERS, sigalgs }: ServerOptions): ServerOptions {
  const kinds = kindsOf(own)
  if (hosts.every((host) => kinds.every((kind) => kindsOf(host).includes(kind)))) return {}
  const rankOf = (name: string): number => kinds.findIndex((kind) => patternOf(kind).test(name))
  const all = sigalgs?.split(':') ?? SIGNATURES.flatMap(([, names]) => names)
  return {
    sigalgs: [...all].sort((one, other) => rankOf(one) - rankOf(other)).join(':'),
    // Cipher suites of TLS 1.3 are for every kind of key. OpenSSL does not accept an order (`:+aRSA`) without another
    // suite.
    ciphers: ciphers.split(':').every((name) => name.startsWith('TLS_')) ? ciphers : [ciphers, ...kinds.map((kind) => `+${kind.startsWith('RSA') ? 'aRSA' : 'aECDSA'}`)].join(':'),
    honorCipherOrder: true
  }
}

/**
 * The signature algorithms of a client that takes keys of one kind and none of others.
 *
 * @param sigalgs those of the server, where it has an option for them
 */
export function sigalgsFor (taken: KeyKind, refused: readonly KeyKind[], sigalgs: string | undefined): string | undefined {
  if (refused.length === 0) return sigalgs
  // A server that has to choose cannot tell both kinds of RSA keys apart.
  const patterns = [...refused, ...taken !== 'RSA-PSS' && refused.includes('RSA') ? ['RSA-PSS' as const] : []].map(patternOf)
  const all = sigalgs?.split(':') ?? SIGNATURES.flatMap(([, names]) => names)
  return all.filter((name) => !patterns.some((pattern) => pattern.test(name))).join(':') || undefined
}

/**
 * For `SNICallback`: offers the client all key pairs, as far as Node can, and answers the one that Node is to take at least:
 * of those that the client can verify, the one that it prefers. Over TLS 1.2, that is RSA, since the client's cipher suites
 * are not known, and hardly a client has none for RSA.
 */
export function offer (socket: TLSSocket, offers: readonly [Offer, ...Offer[]]): SecureContext {
  const [first] = offers
  if (offers.length === 1) return first.context
  const isTls13 = socket.getProtocol() === 'TLSv1.3'
  const matches = ({ keyKind }: Offer, name: string): boolean => (isTls13 && keyKind === 'RSA' ? RSA_IN_TLS13 : patternOf(keyKind)).test(name)
  const preferred = socket.getSharedSigalgs().flatMap((name) => offers.filter((each) => matches(each, name)))
  const usable = preferred.length > 0 ? preferred : offers
  const rsa = usable.find(({ keyKind }) => keyKind === 'RSA')
  // The names are the same for both kinds of RSA keys.
  const best = rsa !== undefined && (!isTls13 || usable[0]!.keyKind === 'RSA-PSS') ? rsa : usable[0]!
  for (const other of offers) if (other !== best) socket.setKeyCert(other.context)
  return best.context
}
