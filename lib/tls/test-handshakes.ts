/**
 * Test handshakes: TLS handshakes in memory with each new SecureContext, before a client meets it. Begin with
 * `TestHandshakes.run`. They find settings that OpenSSL accepts one by one but that make every handshake fail together,
 * such as more names of client CAs than a message can hold; Node reports no error for them.
 */
import { constants } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import { duplexPair } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { connect, createSecureContext, DEFAULT_MIN_VERSION, type SecureContext, type SecureVersion, TLSSocket } from 'node:tls'
import { InvalidCertificatesError } from '../errors.ts'
import type { Combination, Contexts } from './contexts.ts'
import { type KeyKind, offer, sigalgsFor } from './key-kinds.ts'

/** Milliseconds. A handshake takes a few, but the process may be busy. */
const LONGEST = 10_000

/** Curves that clients support, each with all its names. */
const CURVES = [['X25519'], ['P-256', 'prime256v1', 'secp256r1'], ['P-384', 'secp384r1'], ['P-521', 'secp521r1']]

export class TestHandshakes {
  /** The ids of the combinations in force that have passed. */
  #passed = new Set<string>()
  /** Kinds of keys (with the options) of which one combination has passed with TLS 1.2. */
  readonly #passedTls12 = new Set<string>()
  /** Whether TLS 1.2 works with what is in force; undefined until it was tested. */
  #servesTls12: boolean | undefined
  #warnings: readonly string[] = []

  /** Unusual, but possibly intended: for the log. */
  get warnings (): readonly string[] {
    return this.#warnings
  }

  /**
   * Tests each new combination of a server certificate and client CAs, one after the other: with TLS 1.3, or the
   * highest version that the options allow. Of several certificates of a host, each is tested by a client that takes no
   * keys of the others' kinds. One combination of each kind of key is also tested with TLS 1.2, if the options allow it
   * and it works with what is in force.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES for the first combination with which no client could connect
   */
  async run (contexts: Contexts): Promise<void> {
    const all = contexts.combinations
    const isNew = ({ id }: Combination): boolean => !this.#passed.has(id)
    if (all.some(isNew)) {
      const peers = new TestPeers(contexts)
      for (const combination of all.filter(isNew)) {
        await this.#test(peers, combination)
        // A retry after a failure goes on from here.
        this.#passed.add(combination.id)
        await setImmediate()
      }
      this.#servesTls12 ??= true
    }
    this.#passed = new Set(all.map(({ id }) => id))
  }

  async #test (peers: TestPeers, combination: Combination): Promise<void> {
    const version = await testHandshake(peers, combination)
    if (version !== 'TLSv1.3' || !peers.allowsTls12 || this.#servesTls12 === false || this.#passedTls12.has(combination.kind)) return
    try {
      await testHandshake(peers, combination, 'TLSv1.2')
      this.#passedTls12.add(combination.kind)
    } catch (error) {
      if (this.#servesTls12 === true) throw error
      this.#servesTls12 = false
      this.#warnings = [`${(error as Error).message}; if that is meant, give https: { minVersion: 'TLSv1.3' }`]
    }
  }
}

/** Tests one combination, and returns the TLS version. With TLS 1.2, any certificate of the host will do. */
async function testHandshake (peers: TestPeers, combination: Combination, version?: 'TLSv1.2'): Promise<string | null> {
  const { keyPair, keyPairs, role } = combination
  const wanted = version === undefined ? [keyPair] : keyPairs
  let reason = 'another certificate is shown'
  let cause
  try {
    const { shown, protocol } = await peers.handshake(combination, keyPairs.filter((each) => !wanted.includes(each)).map(({ keyKind }) => keyKind), version)
    if (wanted.some(({ chain: [leaf] }) => shown === leaf.fingerprint256)) return protocol
  } catch (error) {
    cause = error
    reason = (error as Error).message
  }
  const what = role === undefined ? keyPair.source : `${keyPair.source} and the authorities of ${role}`
  throw new InvalidCertificatesError(`a handshake${version === undefined ? '' : ' over TLS 1.2'} with ${what} fails: ${reason}`, { cause })
}

/** The two sides of a test: the server's options, and clients that accept everything that they allow, but for some kinds of keys. */
class TestPeers {
  /** TLS 1.2 is allowed besides TLS 1.3. */
  readonly allowsTls12: boolean
  readonly #options: ServerOptions
  readonly #server: SecureContext
  readonly #clients = new Map<string, SecureContext>()

  constructor (contexts: Contexts) {
    const options = contexts.options()
    const { minVersion = DEFAULT_MIN_VERSION, secureOptions = 0, secureProtocol } = options
    this.allowsTls12 = secureProtocol === undefined && minVersion !== 'TLSv1.3' && (secureOptions & constants.SSL_OP_NO_TLSv1_2) === 0
    this.#options = options
    this.#server = createSecureContext(options)
  }

  /**
   * Returns the fingerprint of the certificate that the client sees, and the TLS version. Rejects with OpenSSL's
   * reason.
   *
   * @param refused kinds of keys that the client does not take
   */
  async handshake ({ offers, keyPair: { keyKind } }: Combination, refused: readonly KeyKind[], version?: SecureVersion): Promise<{ shown: string | undefined, protocol: string | null }> {
    const [here, there] = duplexPair()
    const server: TLSSocket = new TLSSocket(here, {
      isServer: true,
      secureContext: this.#server,
      requestCert: true,
      rejectUnauthorized: false,
      ...(offers && { SNICallback: (_, done) => done(null, offer(server, offers())) })
    })
    const client = connect({ socket: there, secureContext: this.#clientFor(keyKind, refused, version), rejectUnauthorized: false, ...(offers && { servername: 'handshake.invalid' }) })
    try {
      await settled(server, client, LONGEST)
      return { shown: client.getPeerX509Certificate()?.fingerprint256, protocol: client.getProtocol() }
    } finally {
      server.destroy()
      client.destroy()
    }
  }

  #clientFor (kind: KeyKind, refused: readonly KeyKind[], maxVersion = this.#options.maxVersion): SecureContext {
    const sigalgs = sigalgsFor(kind, refused, this.#options.sigalgs)
    const key = `${maxVersion} ${sigalgs}`
    const known = this.#clients.get(key)
    if (known !== undefined) return known
    const client = createSecureContext({ ...clientOptions(this.#options), sigalgs, maxVersion })
    this.#clients.set(key, client)
    return client
  }
}

/**
 * Resolves when the handshake is done on both sides.
 *
 * @param longest milliseconds
 */
export function settled (server: TLSSocket, client: TLSSocket, longest: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = 2
    const timer = setTimeout(() => reject(new Error(`it has not ended after ${longest} milliseconds`)), longest)
    const done = (): void => {
      if (--left > 0) return
      clearTimeout(timer)
      resolve()
    }
    // OpenSSL's full message has a line end, and an address that differs each time
    const failed = (error: Error & { reason?: string }): void => {
      clearTimeout(timer)
      reject(error.reason === undefined ? error : new Error(error.reason, { cause: error }))
    }
    server.on('error', failed).once('secure', done)
    client.on('error', failed).once('secureConnect', done)
  })
}

/** No CAs: the test does not verify the server's certificate. */
function clientOptions ({ ciphers, ecdhCurve = 'auto', minVersion, secureProtocol }: ServerOptions) {
  const given = ecdhCurve.toLowerCase().split(':')
  const others = CURVES.filter((names) => !names.some((name) => given.includes(name.toLowerCase()))).map(([name]) => name)
  return {
    ca: [],
    ciphers,
    ecdhCurve: ecdhCurve === 'auto' ? ecdhCurve : [ecdhCurve, ...others].join(':'),
    minVersion,
    secureProtocol: secureProtocol?.replace('_server', '')
  }
}
