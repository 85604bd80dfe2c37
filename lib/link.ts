/**
 * What the plugin and `fastify-http-security/tls` know of each other. The plugin never loads the latter: it is handed
 * over with the option `tls`, and found behind a symbol, which two copies of this package share.
 */
import type { Server } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'

export const kLink = Symbol.for('fastify-http-security.link')

/** Marks a function that `enableTls` gave to Node. */
export function link<Callback extends object> (callback: Callback): Callback {
  return Object.assign(callback, { [kLink]: true })
}

export function isLinked (callback: unknown): boolean {
  return Reflect.get(Object(callback), kLink) === true
}

/** A time during which the same client authorities and revocation lists were in force. */
export interface Term {
  /** False once they have changed: what was judged by them counts for nothing. */
  readonly isInForce: boolean
  /** Called once, when it ends. */
  readonly onEnd: Set<() => void>
}

/** A term, for whoever ends it. */
export interface RunningTerm extends Term {
  isInForce: boolean
}

export function beginTerm (): RunningTerm {
  return { isInForce: true, onEnd: new Set() }
}

export function endTerm (term: RunningTerm): void {
  term.isInForce = false
  for (const tell of term.onEnd) tell()
  term.onEnd.clear()
}

/** For servers whose trust in clients never changes. */
export const FOREVER: Term = Object.freeze({ isInForce: true, onEnd: new Set<() => void>() })

/** An app whose servers are looked after. */
export interface LinkedApp {
  readonly log: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
  /** Every server that the app has by now: Fastify makes further ones to listen on `localhost`. */
  servers (): readonly Server[]
}

/** What the plugin asks of the object that `enableTls` made. */
export interface TlsLink {
  /** Client certificates are asked for, and judged by explicit authorities. */
  readonly asksForCertificates: boolean
  /** When the last of the server's certificates ends, in milliseconds since the epoch. */
  readonly validUntil: number
  /** Whether a server was created with the options that it handed out. */
  isOurs (server: object): boolean
  /** Options of a server of ours that were changed on their way: they would be lost with the first reload. */
  changedOptions (server: object): readonly string[]
  /** Keeps the servers of an app up to date from now on; may be called again. */
  attach (app: LinkedApp): Promise<void>
  /** The app has closed. With the last one, files are watched no more. */
  release (app: LinkedApp): void
  /** The term in which the full handshake of a connection was made, also of one that resumes it. */
  termOf (socket: TLSSocket): Term
  /** Whether a certificate of ours is good for a host: a DNS name, or an address, IPv6 in brackets. */
  covers (host: string): boolean
  /** Where hosts have client authorities of their own: whether a request for `host` came on another host's connection. */
  readonly isMisdirected: ((socket: TLSSocket, host: string) => boolean) | undefined
}
