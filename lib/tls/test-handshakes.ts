/**
 * Handshakes in memory with what is to be served, before any client meets it. OpenSSL takes one by one what makes every
 * handshake fail together, such as more names of authorities than a message holds, and Node says nothing of it.
 */
import { constants } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import { duplexPair } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { connect, createSecureContext, DEFAULT_MIN_VERSION, type SecureContext, type SecureVersion, TLSSocket } from 'node:tls'
import { InvalidCertificatesError } from '../errors.ts'
import type { Combination, Contexts } from './contexts.ts'

/** Milliseconds. A handshake takes a few, but the process may have other things to do. */
const LONGEST = 10_000

/** Curves that clients have, each by all of its names. */
const CURVES = [['X25519'], ['P-256', 'prime256v1', 'secp256r1'], ['P-384', 'secp384r1'], ['P-521', 'secp521r1']]

export class TestHandshakes {
  /** Combinations that have passed, of those in force. */
  #passed = new Set<string>()
  /** Kinds of keys, with the options that they are served with, of which one has passed by TLS 1.2, too. */
  readonly #passedOlder = new Set<string>()
  /** Whether clients of TLS 1.2 are served with what is in force; undefined where that was not tried yet. */
  #servesOlder: boolean | undefined
  #warnings: readonly string[] = []

  /** What is odd, but may be meant. */
  get warnings (): readonly string[] {
    return this.#warnings
  }

  /**
   * Tries each combination of a certificate and client authorities that is new, one after the other: by TLS 1.3, or the
   * highest version that the options allow; and by TLS 1.2, where that is allowed and works with what is in force, one for
   * each kind of key.
   *
   * @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES for the first by which no client would be served
   */
  async run (contexts: Contexts): Promise<void> {
    const all = contexts.combinations
    const isNew = ({ id }: Combination): boolean => !this.#passed.has(id)
    if (all.some(isNew)) {
      const bench = new Bench(contexts)
      for (const combination of all.filter(isNew)) {
        await this.#try(bench, combination)
        // A retry after a failure does not begin anew.
        this.#passed.add(combination.id)
        await setImmediate()
      }
      this.#servesOlder ??= true
    }
    this.#passed = new Set(all.map(({ id }) => id))
  }

  async #try (bench: Bench, combination: Combination): Promise<void> {
    const version = await tried(bench, combination)
    if (version !== 'TLSv1.3' || !bench.allowsOlder || this.#servesOlder === false || this.#passedOlder.has(combination.kind)) return
    try {
      await tried(bench, combination, 'TLSv1.2')
      this.#passedOlder.add(combination.kind)
    } catch (error) {
      if (this.#servesOlder === true) throw error
      this.#servesOlder = false
      this.#warnings = [`${(error as Error).message}; if that is meant, give https: { minVersion: 'TLSv1.3' }`]
    }
  }
}

/** Answers the version. */
async function tried (bench: Bench, combination: Combination, version?: 'TLSv1.2'): Promise<string | null> {
  const { keyPair: { chain: [leaf], source }, role } = combination
  let reason = 'another certificate is shown'
  let cause
  try {
    const { shown, protocol } = await bench.handshake(combination, version)
    if (shown === leaf.fingerprint256) return protocol
  } catch (error) {
    cause = error
    reason = (error as Error).message
  }
  const what = role === undefined ? source : `${source} and the authorities of ${role}`
  throw new InvalidCertificatesError(`a handshake${version === undefined ? '' : ' over TLS 1.2'} with ${what} fails: ${reason}`, { cause })
}

/** Where handshakes are tried: a server's options, and a client that is satisfied with anything they allow. */
class Bench {
  /** TLS 1.2 beside TLS 1.3. */
  readonly allowsOlder: boolean
  readonly #server: SecureContext
  readonly #client: SecureContext
  readonly #olderClient: SecureContext

  constructor (contexts: Contexts) {
    const options = contexts.options()
    const { minVersion = DEFAULT_MIN_VERSION, secureOptions = 0, secureProtocol } = options
    this.allowsOlder = secureProtocol === undefined && minVersion !== 'TLSv1.3' && (secureOptions & constants.SSL_OP_NO_TLSv1_2) === 0
    this.#server = createSecureContext(options)
    this.#client = createSecureContext(clientOptions(options))
    this.#olderClient = this.allowsOlder ? createSecureContext({ ...clientOptions(options), maxVersion: 'TLSv1.2' }) : this.#client
  }

  /** Answers what the client sees: the certificate by its fingerprint, and the version. Rejects with what OpenSSL says. */
  async handshake ({ context }: Combination, version?: SecureVersion): Promise<{ shown: string | undefined, protocol: string | null }> {
    const own = context?.()
    const [here, there] = duplexPair()
    const server = new TLSSocket(here, {
      isServer: true,
      secureContext: this.#server,
      requestCert: true,
      rejectUnauthorized: false,
      ...(own && { SNICallback: (_, done) => done(null, own) })
    })
    const client = connect({ socket: there, secureContext: version === undefined ? this.#client : this.#olderClient, rejectUnauthorized: false, ...(own && { servername: 'handshake.invalid' }) })
    try {
      await settled(server, client, LONGEST)
      return { shown: client.getPeerX509Certificate()?.fingerprint256, protocol: client.getProtocol() }
    } finally {
      server.destroy()
      client.destroy()
    }
  }
}

/**
 * Resolves when both sides say that a handshake is done.
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
    // The message of OpenSSL's errors has a line end, and an address that is another each time
    const failed = (error: Error & { reason?: string }): void => {
      clearTimeout(timer)
      reject(error.reason === undefined ? error : new Error(error.reason, { cause: error }))
    }
    server.on('error', failed).once('secure', done)
    client.on('error', failed).once('secureConnect', done)
  })
}

/** No authorities: whoever the server is, it is not verified here. */
function clientOptions ({ ciphers, sigalgs, ecdhCurve = 'auto', minVersion, maxVersion, secureProtocol }: ServerOptions) {
  const given = ecdhCurve.toLowerCase().split(':')
  const others = CURVES.filter((names) => !names.some((name) => given.includes(name.toLowerCase()))).map(([name]) => name)
  return {
    ca: [],
    ciphers,
    sigalgs,
    ecdhCurve: ecdhCurve === 'auto' ? ecdhCurve : [ecdhCurve, ...others].join(':'),
    minVersion,
    maxVersion,
    secureProtocol: secureProtocol?.replace('_server', '')
  }
}
