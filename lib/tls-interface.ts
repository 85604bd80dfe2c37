/**
 * What the plugin and `fastify-http-security/tls` know of each other. The plugin never loads the latter: it is handed
 * over with the option `tls`, and found behind a symbol, which two copies of this package share. In the same way,
 * `fastify-http-security/tls` is handed what `acme` made.
 */
import type { X509Certificate } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { TrustStore } from './trust/store.ts'

export const kTlsInterface = Symbol.for('fastify-http-security.link')

/** Marks a function that `enableTls` gave to Node. */
export function markAsTlsInterface<Callback extends object> (callback: Callback): Callback {
  return Object.assign(callback, { [kTlsInterface]: true })
}

export function isTlsInterface (callback: unknown): boolean {
  return Reflect.get(Object(callback), kTlsInterface) === true
}

/** An app whose servers are looked after. */
export interface ServedApp {
  readonly log: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
  /** The name that it goes by in policies. */
  application?: string | undefined
  /** Every server that the app has by now: Fastify makes further ones to listen on `localhost`. */
  servers (): readonly Server[]
}

/** What was learnt of a connection at the end of its handshake. */
export interface Handshake {
  /** Possession was proved in another handshake, whose session this one brings back, and only the leaf of its certificates. */
  readonly isResumed: boolean
  /**
   * Which of the hosts that have client CAs of their own the client was asked as; the empty string for the others, which ask
   * nobody but those who name no host. Undefined where that is not known: a resumed session does not tell.
   */
  readonly host: string | undefined
  /** The certificates that came with the client's own. */
  readonly others: readonly X509Certificate[]
  /**
   * The certificate's path was valid to us all the while, whatever OpenSSL said: should it be now and was not, OpenSSL's refusal is
   * out of date.
   */
  readonly wasValid: boolean
}

interface ServedHosts {
  readonly hosts: readonly string[]
}

/** Behind this symbol, a source that `acme` made has what `lib/tls/` asks of it, which never loads `lib/acme/`. */
export const kAcmeInterface = Symbol.for('fastify-http-security.acme')

export interface AcmeInterface {
  /** Answers a request with which a CA validates a host (RFC 8555 §8.3); false for every other request. */
  answer (request: IncomingMessage, response: ServerResponse): boolean
  /** The CA asks over HTTP. */
  readonly needsHttp: boolean
  /** The HTTP port that calls {@link answer} is open: the CA may be asked for a certificate. */
  listens (): void
  /** What it obtains a certificate for, where from, and what it waits for at this moment: why there is none yet. */
  readonly awaited: { readonly names: readonly string[], readonly source: string, readonly reason: string }
  /** From now on, what there is to say is logged by this function. */
  logTo (write: (level: 'info' | 'warn' | 'error', message: string, code?: string) => void): void
}

/** Undefined for anything that `acme` did not make. */
export function acmeInterfaceOf (source: unknown): AcmeInterface | undefined {
  return Reflect.get(Object(source), kAcmeInterface) as AcmeInterface | undefined
}

const acmeByServer = new WeakMap<object, AcmeInterface>()

/** The certificates of this HTTPS server come from there: its HTTP port answers what a CA asks. */
export function usesAcme (server: object, acme: AcmeInterface): void {
  acmeByServer.set(server, acme)
}

export function acmeOf (server: object): AcmeInterface | undefined {
  return acmeByServer.get(server)
}

/** What the plugin asks of the object that `enableTls` made. */
export interface TlsInterface {
  /** Client certificates are asked for, and judged by explicit authorities. */
  readonly asksForCertificates: boolean
  /** There is no certificate yet, and every handshake fails. */
  readonly isPending: boolean
  /** The server's certificates, with the hosts that each is good for: the first is for clients that name none of these. */
  readonly certificates: { readonly keyPairs: readonly ServedHosts[] }
  /** When the last of the server's certificates ends, in milliseconds since the epoch; infinite while the first is still to come. */
  readonly validUntil: number
  /** Whether a server was created with the options that it handed out. */
  isOurs (server: object): boolean
  /** Options of a server of ours that were changed on their way: they would be lost with the first reload. */
  changedOptions (server: object): readonly string[]
  /** Keeps the servers of an app up to date from now on; may be called again. */
  attach (app: ServedApp): Promise<void>
  /** The app has closed. With the last one, files are watched no more. */
  release (app: ServedApp): void
  /** Whether a certificate of ours is good for a host: a DNS name, or an address, IPv6 in brackets. */
  covers (host: string): boolean
  /** Told of each change of trust in clients. */
  readonly onTrustChange: Set<() => void>
  /** Some hosts have client CAs of their own. */
  readonly differsByHost: boolean
  /** Which of these a host is, by its name in the options; the empty string for the others. */
  hostGroupOf (host: string): string
  /** Who issues the certificates of the clients of such hosts. */
  trustOf (hostGroup: string): TrustStore
  /** The labels of the client CAs of all hosts. */
  labels (): ReadonlySet<string>
  /** Whether it is known which CAs a certificate leads to that are, or were, trusted at any host. */
  knowsPathOf (leaf: X509Certificate): boolean
  handshakeOf (socket: TLSSocket): Handshake
  /** Has each later connection make a full handshake, once: within the minute. */
  renewSessions (): void
  /** The same when a CA is added: OpenSSL has refused a certificate that it may accept then. */
  renewSessionsWithNextCa (): void
}
