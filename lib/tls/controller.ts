/**
 * The TLS controller: holds the credentials, client CAs and SecureContexts that are in force, reloads them when files
 * change, and updates the servers. The plugin reaches it as `TlsInterface` (tls-interface.ts). Begin with
 * `TlsController.create` and `#load`; SecureContexts are made in contexts.ts, and servers are patched in servers.ts.
 */
import type { X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import type { SecureContext, TLSSocket } from 'node:tls'
import { Expiry } from '../files/expiry.ts'
import { FileReader, invalid, type Located, pathOf } from '../files/pem.ts'
import { ReloadQueue } from '../files/reload-queue.ts'
import { watchFiles } from '../files/watch.ts'
import { hasSniCallback } from '../internals.ts'
import { type AcmeInterface, acmeInterfaceOf, type Handshake, markAsTlsInterface, type ServedApp, type TlsInterface, usesAcme } from '../tls-interface.ts'
import type { TrustStore } from '../trust/store.ts'
import { validityOf } from '../x509/fields.ts'
import { ClientCas } from './client-cas.ts'
import { Contexts, enumerate } from './contexts.ts'
import { offer } from './key-kinds.ts'
import { firstOf, type OpenCertificateSource, openCertificateSource } from './certificate-source.ts'
import { type Certificates, endingIn, readCertificates } from './credentials.ts'
import { LONGEST_HANDSHAKE, type TlsOptions } from './options.ts'
import { askForNoCertificate, sentBy, serverOf, Servers } from './servers.ts'
import { Sessions } from './sessions.ts'
import { TestHandshakes } from './test-handshakes.ts'

/** The initial state of a controller. */
interface Parts {
  readonly log: BootLog
  readonly source: OpenCertificateSource
  readonly reader: FileReader
  readonly certificates: Certificates
  readonly clientCas: ClientCas
  readonly contexts: Contexts
  readonly testHandshakes: TestHandshakes
  readonly secret: Buffer | undefined
}

/** While there is no certificate. */
const PENDING = 'there is no certificate yet: handshakes are refused, and what needs HTTPS is answered with 503, until the CA has issued one'

/** What is put in force together. */
interface Loaded {
  readonly certificates: Certificates
  readonly contexts: Contexts
  readonly secret: Buffer | undefined
}

/**
 * Properties of a TLSSocket: the SecureContexts in force when it was created, and how often hosts had gone by then; its
 * SNI name with the host group; and the result of its handshake. HTTP/2 passes them on.
 */
const kContexts = Symbol('fastify-http-security served')
const kRemovals = Symbol('fastify-http-security removals')
const kAsked = Symbol('fastify-http-security asked')
const kHandshake = Symbol('fastify-http-security handshake')
type Socket = TLSSocket & { [kContexts]?: Contexts, [kRemovals]?: number, [kAsked]?: { readonly host: string, readonly group: string }, [kHandshake]?: Handshake }

export class TlsController implements TlsInterface {
  readonly asksForCertificates: boolean
  readonly differsByHost: boolean
  readonly onTrustChange = new Set<() => void>()
  readonly #options: TlsOptions
  readonly #source: OpenCertificateSource
  /** What answers the CA over HTTP. */
  readonly #acme: AcmeInterface | undefined
  readonly #reader: FileReader
  readonly #clientCas: ClientCas
  readonly #testHandshakes: TestHandshakes
  readonly #sessions = new Sessions(() => this.#servers.update())
  readonly #servers = new Servers(this.#sessions, {
    options: () => this.https(),
    isOurs: (server) => this.isOurs(server),
    handshake: {
      created: (socket: Socket) => {
        socket[kContexts] = this.#contexts
        socket[kRemovals] = this.#removals
      },
      done: (socket) => {
        this.#recordHandshake(socket)
        // It may have begun before.
        if (this.#isOfGoneHost(socket)) setImmediate(() => socket.destroy())
      }
    }
  })

  readonly #log: BootLog
  readonly #expiry = new Expiry((message) => this.#log.write('warn', message))
  readonly #sniCallback: ServerOptions['SNICallback']
  readonly #reloadQueue: ReloadQueue<Loaded | undefined>

  #certificates: Certificates
  #contexts: Contexts
  /** SecureContexts with the client CAs that will be in force next. */
  #prepared: Contexts | undefined
  #secret: Buffer | undefined
  /** How often hosts have gone. */
  #removals = 0
  #stopWatching: (() => void) | undefined
  #watched: { readonly files: readonly string[], readonly stop: () => void } | undefined
  /** In milliseconds since the epoch. */
  #casChangedAt = -Infinity
  /** In a full handshake, a client was refused whose certificate may be valid when another CA is added. */
  #hasRefused = false

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES */
  static async create (options: TlsOptions): Promise<TlsController> {
    let controller: TlsController | undefined
    const log = new BootLog(() => controller === undefined ? new Set() : controller.#servers.apps)
    const source = openCertificateSource(options.source, (message) => log.write('warn', message))
    acmeInterfaceOf(options.source.certificates)?.logTo((...line) => log.write(...line))
    // Watched before the first load, so that no change is missed.
    let hasChanged = false
    const stop = source.watch(() => {
      if (controller === undefined) hasChanged = true
      else controller.#reloadQueue.changed()
    })
    try {
      const reader = new FileReader()
      const certificates = await readCertificates(await firstOf(source), reader)
      const secret = await readSecret(options.secret, reader)
      const clientCas = await ClientCas.open(options.clientCertificates, certificates.development, {
        // What is logged before that is also in `warnings` of the client CAs.
        log: (level, message, code) => { if (controller !== undefined) log.write(level, message, code) },
        prepare: async (host, cas) => await controller!.#prepare(host, cas)
      })
      const contexts = await Contexts.create({ certificates, cas: clientCas.cas(), extra: options.extra })
      const testHandshakes = new TestHandshakes()
      await testHandshakes.run(contexts)
      controller = new TlsController(options, { log, source, reader, certificates, clientCas, contexts, testHandshakes, secret })
      controller.#tellReplaced()
      controller.#watch(stop)
      if (hasChanged) controller.#reloadQueue.changed()
      return controller
    } catch (error) {
      stop()
      log.close()
      throw error
    }
  }

  private constructor (options: TlsOptions, { log, source, reader, certificates, clientCas, contexts, testHandshakes, secret }: Parts) {
    this.#options = options
    this.#log = log
    this.#source = source
    this.#acme = acmeInterfaceOf(options.source.certificates)
    this.#reader = reader
    this.#certificates = certificates
    this.#clientCas = clientCas
    this.#contexts = contexts
    this.#testHandshakes = testHandshakes
    this.#secret = secret
    this.#reloadQueue = new ReloadQueue({
      loading: source.loading,
      retryAfter: 5_000,
      // Everything is read and checked before the swap, and the swap is synchronous.
      load: async () => await this.#load(),
      // Always tried again after a failure: a half-written file may be complete soon, and no change event may follow.
      check: (loaded) => loaded,
      take: (loaded) => this.#putInForce(loaded),
      failed: (error) => this.#logRejection(error),
      recovered: () => this.#log.write('info', 'all certificates are read again'),
      waiting: (message) => this.#log.write('warn', message)
    })
    this.#shareSessions()
    this.asksForCertificates = clientCas.asksForCertificates
    this.differsByHost = clientCas.differsByHost
    clientCas.onChange = () => { for (const notify of this.onTrustChange) notify() }
    clientCas.onCasChange = (added) => this.#onCasChange(added)
    const contextFor = (socket: Socket, servername: string): SecureContext | undefined => {
      const server = serverOf(socket)
      // Fastify may have created this server without an event for us.
      if (server !== undefined) this.#servers.add(server)
      // Keep the first name. After a HelloRetryRequest (RFC 8446 §4.1.4) the client may name another host: OpenSSL then
      // reports that one, but Node does not choose the SecureContext again.
      const { group } = socket[kAsked] ??= { host: servername, group: this.hostGroupOf(servername) }
      if (this.isPending) return undefined
      // Browsers show a dialog to everyone who is asked and has a certificate.
      if (this.asksForCertificates && !this.#contexts.asksIn(group)) askForNoCertificate(socket)
      // Node has this SecureContext set already. Setting the same one again takes a tenth of the time of a handshake.
      if (socket[kContexts] === this.#contexts && this.#contexts.isDefault(servername)) return undefined
      return offer(socket, this.#contexts.offersFor(servername))
    }
    this.#sniCallback = markAsTlsInterface(function (this: TLSSocket, servername: string, done: (error: Error | null, context?: SecureContext) => void) {
      // An exception here ends the process in some versions of Node.
      try {
        done(null, contextFor(this, servername))
      } catch (error) {
        done(error as Error)
      }
    })
  }

  get certificates (): Certificates {
    return this.#certificates
  }

  /** Node's options for a server, with what is in force now. */
  https (): ServerOptions {
    const keys = this.#sessions.keysFor()
    return {
      ...this.#contexts.options(),
      ticketKeys: keys,
      sessionIdContext: this.#sessions.idFor(keys),
      requestCert: this.asksForCertificates,
      // Every handshake is accepted: the levels of the routes decide which client gets in, and the answer gives the
      // reason.
      rejectUnauthorized: false,
      SNICallback: this.#sniCallback
    }
  }

  changedOptions (server: object): readonly string[] {
    return this.#servers.changedOptions(server)
  }

  get isPending (): boolean {
    return this.#certificates.keyPairs.length === 0
  }

  /** Names for which no certificate is there yet, where one is being obtained for them. */
  get awaited (): AcmeInterface['awaited'] | undefined {
    const awaited = this.#acme?.awaited
    const names = awaited?.names.filter((name) => !this.covers(name) && !this.#certificates.keyPairs.some(({ hosts }) => hosts.includes(name))) ?? []
    return names.length === 0 ? undefined : { ...awaited!, names }
  }

  get validUntil (): number {
    return this.isPending ? Infinity : Math.max(...this.#certificates.keyPairs.map(({ chain: [leaf] }) => validityOf(leaf).notAfter))
  }

  isOurs (server: object): boolean {
    return hasSniCallback(server, this.#sniCallback)
  }

  async attach (app: ServedApp): Promise<void> {
    const isNew = !this.#servers.apps.has(app)
    this.#servers.attach(app)
    if (this.#acme !== undefined) for (const server of app.servers()) usesAcme(server, this.#acme)
    if (!isNew) return
    this.#shareSessions()
    this.#servers.update()
    // Log lines from before the app come first.
    const kept = this.#log.tellKept(app)
    if (this.#stopWatching === undefined) {
      this.#watch()
      // Nothing was watched since the last app closed.
      await this.reload().catch((error: Error) => this.#logRejection(error))
    }
    for (const warning of [...this.#warnings.values(), ...this.#clientCas.warnings]) if (!kept.includes(warning)) app.log.warn(`http-security: ${warning}`)
    this.#expiry.look(this.#ending())
    this.#clientCas.look()
  }

  release (app: ServedApp): void {
    this.#servers.release(app)
    if (this.#servers.apps.size === 0) this.close()
  }

  covers (host: string): boolean {
    return this.#contexts.covers(host)
  }

  hostGroupOf (host: string): string {
    return this.#clientCas.groupOf(host)
  }

  trustOf (hostGroup: string): TrustStore {
    return this.#clientCas.storeOf(hostGroup)
  }

  labels (): ReadonlySet<string> {
    return this.#clientCas.labels
  }

  get trustInForce () {
    return this.#clientCas.inForce
  }

  knowsPathOf (leaf: X509Certificate): boolean {
    return this.#clientCas.stores.some((store) => store.knowsPathOf(leaf))
  }

  handshakeOf (socket: Socket): Handshake {
    // This connection was accepted before its server was tracked.
    return socket[kHandshake] ?? { isResumed: socket.isSessionReused(), host: undefined, others: [], wasValid: false }
  }

  renewSessions (): void {
    this.#sessions.renew()
  }

  renewSessionsWithNextCa (): void {
    this.#hasRefused = true
  }

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES; each part that cannot be replaced stays as it was */
  async reload (): Promise<void> {
    const results = await Promise.allSettled([this.#reloadQueue.once(), this.#clientCas.reload()])
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  close (): void {
    this.#stopWatching?.()
    this.#stopWatching = undefined
    this.#sessions.close()
    this.#log.close()
  }

  /** Undefined if nothing has changed. */
  async #load (): Promise<Loaded | undefined> {
    const certificates = await readCertificates(await this.#source.load(), this.#reader, this.#certificates)
    const secret = await readSecret(this.#options.secret, this.#reader)
    const isSameSecret = secret === this.#secret || this.#secret?.equals(secret!) === true
    if (certificates.fingerprint === this.#certificates.fingerprint && isSameSecret) return undefined
    // It has ended before there was another one. That is said, and clients know better than a server that is gone.
    if (certificates.keyPairs.length === 0 && !this.isPending) return undefined
    const contexts = await Contexts.create({ certificates, cas: this.#clientCas.cas(), extra: this.#options.extra }, this.#contexts)
    await this.#testHandshakes.run(contexts)
    return { certificates, contexts, secret }
  }

  #putInForce (loaded: Loaded | undefined): void {
    if (loaded === undefined) return
    const before = this.#warnings
    const contexts = this.#contexts
    this.#certificates = loaded.certificates
    // The client CAs may have changed since this was loaded.
    this.#contexts = loaded.contexts.with(this.#clientCas.cas())
    this.#secret = loaded.secret
    this.#watchFiles()
    this.#shareSessions()
    const { added, gone } = this.#contexts.hostsSince(contexts)
    if (gone.length === 0) this.#servers.update()
    else this.#endHosts()
    this.#log.write('info', `certificates were read anew and are in force${added.length > 0 ? `; hosts that were added: ${enumerate(added)}` : ''}${gone.length > 0 ? `; hosts that are gone: ${enumerate(gone)}` : ''}`)
    this.#tellReplaced()
    // Only new warnings: often one certificate of many has changed.
    for (const [about, warning] of this.#warnings) if (!before.has(about)) this.#log.write('warn', warning)
    this.#expiry.look(this.#ending())
  }

  /** No certificate covers some hosts any more: their connections end, and no session from before is resumed. */
  #endHosts (): void {
    this.#removals++
    // With a secret, the ticket keys depend on the hosts.
    if (this.#secret === undefined) this.#sessions.renewNow()
    else this.#servers.update()
    this.#servers.endConnections((socket) => this.#isOfGoneHost(socket as Socket))
  }

  #isOfGoneHost (socket: Socket): boolean {
    if (socket[kRemovals] === undefined || socket[kRemovals] === this.#removals) return false
    const host = socket[kAsked]?.host ?? socket.servername
    // Without SNI, it was made for no host. A resumed session of TLS 1.2 does not tell: it may have been for any.
    if (typeof host !== 'string') return socket.isSessionReused() && socket.getProtocol() !== 'TLSv1.3'
    return socket[kContexts]!.covers(host) && !this.covers(host)
  }

  #tellReplaced (): void {
    const { development } = this.#certificates
    if (development?.replaced === true) this.#log.write('warn', `the development certificates in ${development.dir} were made anew: browsers and other programs have to trust their CA again, tls.development.trust says how`)
  }

  get #warnings (): ReadonlyMap<string, string> {
    const pending = this.isPending ? [`${PENDING}; waited for: ${enumerate(this.#acme!.awaited.names)}, from ${this.#acme!.awaited.source}`] : []
    return new Map([...this.#contexts.warnings, ...[...pending, ...this.#testHandshakes.warnings].map((warning) => [warning, warning] as const)])
  }

  #shareSessions (): void {
    const secret = this.#secret
    if (secret === undefined) return
    const applications = [...this.#servers.apps].map(({ application = '' }) => application)
    const hosts = [...this.#certificates.keyPairs.flatMap(({ hosts }) => hosts), ...this.#clientCas.hosts]
    this.#sessions.share({ secret, scope: [...new Set(applications)].sort().concat('', [...new Set(hosts)].sort()) })
  }

  /** Before new client CAs of a host are in force: makes their SecureContexts and runs test handshakes. */
  async #prepare (host: string, cas: readonly X509Certificate[]): Promise<void> {
    const contexts = await Contexts.create({ certificates: this.#certificates, cas: new Map([...this.#clientCas.cas(), [host, cas]]), extra: this.#options.extra }, this.#contexts)
    await this.#testHandshakes.run(contexts)
    this.#prepared = contexts
  }

  #onCasChange (wasAdded: boolean): void {
    this.#casChangedAt = Date.now()
    this.#contexts = this.#contexts.with(this.#clientCas.cas(), this.#prepared)
    this.#prepared = undefined
    this.#servers.update()
    if (!wasAdded || !this.#hasRefused) return
    // In a resumed session of such a client, OpenSSL would repeat its old result: the CA is unknown.
    this.#hasRefused = false
    this.#sessions.renew()
  }

  /** Called when a handshake is done. The intermediate certificates that a client sent can be read only here. */
  #recordHandshake (socket: Socket): void {
    const [leaf, ...sent] = sentBy(socket)
    const isResumed = socket.isSessionReused()
    // Without SNI in the handshake, Node does not call `SNICallback`.
    const host = socket[kAsked]?.group ?? (isResumed ? undefined : '')
    if (leaf === undefined) {
      if (this.differsByHost) socket[kHandshake] = { isResumed, host, others: [], wasValid: false }
      return
    }
    const store = this.trustOf(host ?? '')
    const now = Date.now()
    const { error, from, pending } = store.judge(leaf, sent, now)
    if (!isResumed && error !== undefined && pending === undefined) this.#hasRefused = true
    // Only if it was valid for some time: OpenSSL used the client CAs from when the client connected, and checked the
    // dates earlier.
    const wasValid = error === undefined && Math.max(from, this.#casChangedAt) < now - 2 * LONGEST_HANDSHAKE
    // The trust store remembers the intermediates of a valid path.
    socket[kHandshake] = { isResumed, host, others: error === undefined ? [] : sent, wasValid }
  }

  #ending () {
    return endingIn(this.#certificates)
  }

  /** @param stopSource stops the source of the certificates, where it is watched already */
  #watch (stopSource = this.#source.watch(() => this.#reloadQueue.changed())): void {
    this.#reloadQueue.start()
    const stops = [
      stopSource,
      () => {
        this.#watched?.stop()
        this.#watched = undefined
      },
      this.#sessions.watch(),
      this.#expiry.watch(() => this.#ending()),
      this.#clientCas.watch(),
      () => this.#reloadQueue.stop()
    ]
    this.#stopWatching = () => { for (const stop of stops) stop() }
    this.#watchFiles()
  }

  /** The files change where a source answers others. */
  #watchFiles (): void {
    const { files } = this.#certificates
    if (this.#stopWatching === undefined || files.join('\0') === this.#watched?.files.join('\0')) return
    this.#watched?.stop()
    const all = [...files, ...pathsOf(this.#options.secret)]
    this.#watched = { files, stop: watchFiles(all, () => this.#reloadQueue.changed()) }
    this.#reader.retain(all)
  }

  #logRejection (error: Error & { code?: string }): void {
    this.#log.write('error', `certificates were not changed, and the ones before stay in force: ${error.message}`, error.code)
  }
}

/** Bytes: the length of the pseudorandom key that HKDF with SHA-256 extracts from it (RFC 5869 §2.2). */
const SHORTEST_SECRET = 32

/**
 * Error messages contain neither the secret nor the value of the option: instead of a path, that may be the secret
 * itself.
 */
async function readSecret (source: Located | undefined, reader: FileReader): Promise<Buffer | undefined> {
  if (source === undefined) return undefined
  const { name, bytes } = await reader.read(source, 'sessions.secret').catch(({ cause = new Error('it is no path') }: Error) => {
    const { code, message } = cause as NodeJS.ErrnoException
    throw invalid('sessions.secret', `its file cannot be read: ${code ?? message}`)
  })
  if (bytes.length < SHORTEST_SECRET) throw invalid(name, `a secret of ${SHORTEST_SECRET} bytes or more is needed: openssl rand -out FILE ${SHORTEST_SECRET}`)
  return bytes
}

function pathsOf (source: Located | undefined): string[] {
  return source === undefined ? [] : [pathOf(source) ?? []].flat()
}

// Log lines of `enableTls`. They go to the logs of the apps. Before there is an app, they are kept for its log.

/** Milliseconds. If no app comes in this time, the lines also become process warnings. */
const APP_TIMEOUT = 5_000
/**
 * How many lines are kept for an app, the latest ones; an older warning or error becomes a process warning. If no app
 * ever comes, a bad file may be written again and again for months.
 */
const MOST_KEPT = 100

interface Line {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly code: string | undefined
  /** It was emitted as a process warning, or it needs none. */
  isEmitted: boolean
}

export class BootLog {
  readonly #apps: () => ReadonlySet<ServedApp>
  #kept: Line[] = []
  #timer: NodeJS.Timeout | undefined

  /** @param apps the apps whose logs are used, read on each call */
  constructor (apps: () => ReadonlySet<ServedApp>) {
    this.#apps = apps
  }

  /**
   * Logs a line to every app. If there is none, the line is kept for the first one; warnings and errors also become
   * process warnings if no app comes.
   */
  write (level: Line['level'], message: string, code?: string): void {
    const line = { level, message, code, isEmitted: level === 'info' }
    const apps = this.#apps()
    for (const app of apps) logTo(app, line)
    if (apps.size > 0) return
    this.#kept.push(line)
    if (this.#kept.length > MOST_KEPT) warnProcess(this.#kept.shift()!)
    this.#timer ??= setTimeout(() => this.#warnProcess(), APP_TIMEOUT).unref()
  }

  /** Logs the kept lines to an app, and returns their messages. */
  tellKept (app: ServedApp): string[] {
    return this.#takeKept().map((line) => {
      logTo(app, line)
      return line.message
    })
  }

  /** No app will come: kept warnings and errors become process warnings. */
  close (): void {
    for (const line of this.#takeKept()) warnProcess(line)
  }

  #warnProcess (): void {
    this.#timer = undefined
    for (const line of this.#kept) warnProcess(line)
  }

  #takeKept (): Line[] {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const kept = this.#kept
    this.#kept = []
    return kept
  }
}

function logTo ({ log }: ServedApp, { level, message, code }: Line): void {
  log[level]({ ...(code !== undefined && { code }) }, `http-security: ${message}`)
}

function warnProcess (line: Line): void {
  if (line.isEmitted) return
  line.isEmitted = true
  process.emitWarning(line.message, { code: line.code ?? 'FST_HTTP_SECURITY' })
}
