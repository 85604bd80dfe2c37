/** Keeps what servers were told up to date with the files, and tells the plugin what it needs to know. */
import type { ServerOptions } from 'node:https'
import type { Server } from 'node:net'
import type { SecureContext, TLSSocket } from 'node:tls'
import { validityOf } from '../certificate/fields.ts'
import { watchFiles } from '../files/watch.ts'
import { type LinkedApp, type Term, type TlsLink, link } from '../link.ts'
import { hasSniCallback } from '../server.ts'
import { Reloading } from '../files/reloading.ts'
import { isAllElseInForce } from '../material/authorities.ts'
import { Expiry } from '../material/expiry.ts'
import { Contexts } from './contexts.ts'
import { endingIn, filesOf, readMaterial, rejectedIn } from './material/material.ts'
import type { TlsOptions } from './options.ts'
import { Servers } from './servers.ts'
import { ENDED, Terms, below } from './terms.ts'
import type { Trials } from './trials.ts'

export class Keeper implements TlsLink {
  readonly asksForCertificates: boolean
  readonly isMisdirected: TlsLink['isMisdirected']
  readonly #options: TlsOptions
  readonly #terms = new Terms()
  readonly #servers = new Servers(this.#terms, () => this.https(), (server) => this.isOurs(server))
  readonly #expiry = new Expiry((message) => this.#log('warn', message))
  readonly #sniCallback: ServerOptions['SNICallback']
  /**
   * For which hosts connections were made, as they were verified. Not by `servername`: whoever is asked to say hello again
   * (RFC 8446 §4.1.4) may name another host, which OpenSSL then tells, and Node does not choose again.
   */
  readonly #asked = new WeakMap<object, string>()
  readonly #trials: Trials
  #contexts: Contexts
  #stopWatching: (() => void) | undefined
  readonly #reloading = new Reloading(async () => await this.#load(), (error) => this.#rejected(error))

  /** @param contexts made of what was read, and tried */
  constructor (options: TlsOptions, contexts: Contexts, trials: Trials) {
    const { otherwise, byHost } = options.clientCertificates
    this.#options = options
    this.#contexts = contexts
    this.#trials = trials
    this.asksForCertificates = otherwise !== undefined || byHost.size > 0 || contexts.material.development !== undefined
    if (byHost.size > 0) this.isMisdirected = (socket, host) => this.#isElsewhere(socket, host)
    const contextFor = (socket: TLSSocket, servername: string): SecureContext => {
      // A server that nobody told us of. Node keeps it on the socket, without documenting it.
      this.#servers.add(Reflect.get(socket, 'server') as Server)
      this.#asked.set(below(socket), this.#contexts.groupOf(servername))
      return this.#contexts.contextFor(servername)
    }
    this.#sniCallback = link(function (this: TLSSocket, servername: string, done: (error: Error | null, context?: SecureContext) => void) {
      // What is thrown here ends the process in some versions of Node.
      try {
        done(null, contextFor(this, servername))
      } catch (error) {
        done(error as Error)
      }
    })
    this.#watch()
  }

  get contexts (): Contexts {
    return this.#contexts
  }

  /** Options for a server, as of now. */
  https (): ServerOptions {
    return {
      ...this.#contexts.options(this.#terms.current.id),
      requestCert: this.asksForCertificates,
      // Levels decide who gets in, and tell the others why not.
      rejectUnauthorized: false,
      SNICallback: this.#sniCallback
    }
  }

  changedOptions (server: object): readonly string[] {
    return this.#servers.changedOptions(server)
  }

  get validUntil (): number {
    return Math.max(...this.#contexts.material.identities.map(({ chain: [leaf] }) => validityOf(leaf).notAfter))
  }

  isOurs (server: object): boolean {
    return hasSniCallback(server, this.#sniCallback)
  }

  async attach (app: LinkedApp): Promise<void> {
    const isNew = !this.#servers.apps.has(app)
    this.#servers.attach(app)
    if (!isNew) return
    // Nobody has watched since the last app closed.
    if (this.#stopWatching === undefined) await this.reload().catch((error: Error) => this.#rejected(error))
    this.#watch()
    for (const warning of this.#warnings) app.log.warn(`http-security: ${warning}`)
    this.#expiry.look(endingIn(this.#contexts.material))
  }

  release (app: LinkedApp): void {
    this.#servers.release(app)
    if (this.#servers.apps.size === 0) this.close()
  }

  termOf (socket: TLSSocket): Term {
    // Where hosts differ nothing is resumed, unless somebody keeps sessions elsewhere: they do not tell the host.
    if (this.#contexts.differByHost && socket.isSessionReused()) return ENDED
    return this.#terms.termOf(socket)
  }

  covers (host: string): boolean {
    return this.#contexts.covers(host)
  }

  async reload (): Promise<void> {
    await this.#reloading.once()
  }

  close (): void {
    this.#stopWatching?.()
    this.#stopWatching = undefined
  }

  get #warnings (): readonly string[] {
    return [...this.#contexts.warnings, ...this.#trials.warnings]
  }

  /** Everything is read, checked and tried before anything is swapped, and then it is swapped at once. */
  async #load (): Promise<void> {
    const before = this.#contexts
    const next = new Contexts(await readMaterial(this.#options, before.material), this.#options.extra)
    if (next.fingerprint !== before.fingerprint) {
      await this.#trials.run(next)
      this.#change(before, next)
    }
    const rejected = rejectedIn(next.material.trust)
    if (rejected !== undefined) throw rejected
  }

  #change (before: Contexts, next: Contexts): void {
    const trustChanged = next.trustFingerprint !== before.trustFingerprint
    this.#contexts = next
    if (trustChanged) this.#terms.next()
    this.#servers.update()
    if (trustChanged) this.#servers.reconnectAll()
    this.#log('info', trustChanged
      ? 'certificates were read anew and are in force; whom to trust for clients has changed: they connect again'
      : 'certificates were read anew and are in force')
    for (const warning of this.#warnings) this.#log('warn', warning)
    this.#expiry.look(endingIn(next.material))
  }

  #watch (): void {
    if (this.#stopWatching !== undefined) return
    const stopFiles = watchFiles(filesOf(this.#options, this.#contexts.material), () => this.#reloading.keep())
    const stopClock = this.#expiry.watch(() => endingIn(this.#contexts.material))
    this.#stopWatching = () => { stopFiles(); stopClock(); this.#reloading.stop() }
  }

  #rejected (error: Error & { code?: string }): void {
    const what = isAllElseInForce(error) ? 'not all certificates and revocation lists were changed' : 'certificates were not changed, and the ones before stay in force'
    this.#log('error', `${what}: ${error.message}`, error.code)
  }

  #isElsewhere (socket: TLSSocket, host: string): boolean {
    const made = this.#asked.get(below(socket)) ?? ''
    const asked = this.#contexts.groupOf(host)
    return made !== asked && this.#contexts.trustOf(made).fingerprint !== this.#contexts.trustOf(asked).fingerprint
  }

  #log (level: 'info' | 'warn' | 'error', message: string, code?: string): void {
    const { apps } = this.#servers
    for (const { log } of apps) log[level]({ ...(code !== undefined && { code }) }, `http-security: ${message}`)
    // Before there is an app, or without the plugin: what matters is not kept silent.
    if (apps.size === 0 && level !== 'info') process.emitWarning(message, { code: code ?? 'FST_HTTP_SECURITY' })
  }
}
