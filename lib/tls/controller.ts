/** Keeps what servers were told up to date with where it comes from, and tells the plugin what it needs to know. */
import type { X509Certificate } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import type { SecureContext, TLSSocket } from 'node:tls'
import { Expiry } from '../files/expiry.ts'
import { FileReader, invalid, type Located, pathOf } from '../files/pem.ts'
import { ReloadQueue } from '../files/reload-queue.ts'
import { watchFiles } from '../files/watch.ts'
import { hasSniCallback } from '../internals.ts'
import { type Handshake, markAsTlsInterface, type ServedApp, type TlsInterface } from '../tls-interface.ts'
import type { TrustStore } from '../trust/store.ts'
import { validityOf } from '../x509/fields.ts'
import { ClientCas } from './client-cas.ts'
import { Contexts } from './contexts.ts'
import { type Certificates, endingIn, filesOf, readCertificates } from './credentials.ts'
import { LONGEST_HANDSHAKE, type TlsOptions } from './options.ts'
import { sentBy, serverOf, Servers } from './servers.ts'
import { Sessions } from './sessions.ts'
import { TestHandshakes } from './test-handshakes.ts'

/** What a keeper begins with. */
interface Parts {
  readonly reader: FileReader
  readonly certificates: Certificates
  readonly trusts: ClientCas
  readonly contexts: Contexts
  readonly trials: TestHandshakes
  readonly secret: Buffer | undefined
}

/** What is put in force together. */
interface Loaded {
  readonly certificates: Certificates
  readonly contexts: Contexts
  readonly secret: Buffer | undefined
}

/**
 * On a socket: what its server served when it was created, which host the client named, and what was learnt when its
 * handshake was done. HTTP/2 passes them on.
 */
const kServed = Symbol('fastify-http-security served')
const kAsked = Symbol('fastify-http-security asked')
const kHandshake = Symbol('fastify-http-security handshake')
type Socket = TLSSocket & { [kServed]?: Contexts, [kAsked]?: string, [kHandshake]?: Handshake }

export class TlsController implements TlsInterface {
  readonly asksForCertificates: boolean
  readonly differsByHost: boolean
  readonly onTrustChange = new Set<() => void>()
  readonly #options: TlsOptions
  readonly #reader: FileReader
  readonly #trusts: ClientCas
  readonly #trials: TestHandshakes
  readonly #sessions = new Sessions(() => this.#servers.update())
  readonly #servers = new Servers(this.#sessions, {
    options: () => this.https(),
    isOurs: (server) => this.isOurs(server),
    handshake: {
      created: (socket: Socket) => { socket[kServed] = this.#contexts },
      done: (socket) => this.#shake(socket)
    }
  })

  readonly #log = new BootLog(() => this.#servers.apps)
  readonly #expiry = new Expiry((message) => this.#log.write('warn', message))
  readonly #sniCallback: ServerOptions['SNICallback']
  readonly #reloading = new ReloadQueue<Loaded | undefined>({
    loading: 'reading certificates',
    retryAfter: 5_000,
    // Everything is read and checked before it is swapped, and then it is swapped at once.
    load: async () => await this.#load(),
    // A file may be complete soon, and no change would tell.
    check: (loaded) => loaded,
    take: (loaded) => this.#take(loaded),
    failed: (error) => this.#rejected(error),
    recovered: () => this.#log.write('info', 'all certificates are read again'),
    waiting: (message) => this.#log.write('warn', message)
  })

  #certificates: Certificates
  #contexts: Contexts
  /** With CAs that are about to be in force. */
  #prepared: Contexts | undefined
  #secret: Buffer | undefined
  #stopWatching: (() => void) | undefined
  /** In milliseconds since the epoch. */
  #casChangedAt = -Infinity
  /** Somebody was refused in a full handshake whose certificate may count when another CA is added. */
  #hasRefused = false

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES, FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES */
  static async create (options: TlsOptions): Promise<TlsController> {
    const reader = new FileReader()
    const certificates = await readCertificates(options.source, reader)
    const secret = await readSecret(options.secret, reader)
    const keeper: { current?: TlsController } = {}
    const trusts = await ClientCas.open(options.clientCertificates, certificates.development, {
      // What goes wrong until then is among the warnings of trust.
      log: (level, message, code) => { if (keeper.current !== undefined) keeper.current.#log.write(level, message, code) },
      prepare: async (host, cas) => await keeper.current!.#prepare(host, cas)
    })
    const contexts = await Contexts.create({ certificates, cas: trusts.cas(), extra: options.extra })
    const trials = new TestHandshakes()
    await trials.run(contexts)
    keeper.current = new TlsController(options, { reader, certificates, trusts, contexts, trials, secret })
    keeper.current.#watch()
    return keeper.current
  }

  private constructor (options: TlsOptions, { reader, certificates, trusts, contexts, trials, secret }: Parts) {
    this.#options = options
    this.#reader = reader
    this.#certificates = certificates
    this.#trusts = trusts
    this.#contexts = contexts
    this.#trials = trials
    this.#secret = secret
    this.#share()
    this.asksForCertificates = trusts.asksForCertificates
    this.differsByHost = trusts.differsByHost
    trusts.onChange = () => { for (const tell of this.onTrustChange) tell() }
    trusts.onCasChange = (added) => this.#casChanged(added)
    const contextFor = (socket: Socket, servername: string): SecureContext | undefined => {
      const server = serverOf(socket)
      // One that Fastify has made and not told us of yet.
      if (server !== undefined) this.#servers.add(server)
      // Not by `servername`: a client that is asked to say hello again (RFC 8446 §4.1.4) may name another host, which
      // OpenSSL then tells, and Node does not choose again.
      socket[kAsked] ??= this.hostGroupOf(servername)
      // To take in place of what a connection has just the same again is a tenth of what a handshake takes.
      if (socket[kServed] === this.#contexts && this.#contexts.isDefault(servername)) return undefined
      return this.#contexts.contextFor(servername)
    }
    this.#sniCallback = markAsTlsInterface(function (this: TLSSocket, servername: string, done: (error: Error | null, context?: SecureContext) => void) {
      // What is thrown here ends the process in some versions of Node.
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

  /** Options for a server, as of now. */
  https (): ServerOptions {
    const keys = this.#sessions.keysFor()
    return {
      ...this.#contexts.options(),
      ticketKeys: keys,
      sessionIdContext: this.#sessions.idFor(keys),
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
    return Math.max(...this.#certificates.keyPairs.map(({ chain: [leaf] }) => validityOf(leaf).notAfter))
  }

  isOurs (server: object): boolean {
    return hasSniCallback(server, this.#sniCallback)
  }

  async attach (app: ServedApp): Promise<void> {
    const isNew = !this.#servers.apps.has(app)
    this.#servers.attach(app)
    if (!isNew) return
    this.#share()
    this.#servers.update()
    // What was said before came first.
    const kept = this.#log.tellKept(app)
    // Nothing was watched since the last app closed.
    if (this.#stopWatching === undefined) await this.reload().catch((error: Error) => this.#rejected(error))
    this.#watch()
    for (const warning of [...this.#warnings, ...this.#trusts.warnings]) if (!kept.includes(warning)) app.log.warn(`http-security: ${warning}`)
    this.#expiry.look(this.#ending())
    this.#trusts.look()
  }

  release (app: ServedApp): void {
    this.#servers.release(app)
    if (this.#servers.apps.size === 0) this.close()
  }

  covers (host: string): boolean {
    return this.#contexts.covers(host)
  }

  hostGroupOf (host: string): string {
    return this.#trusts.groupOf(host)
  }

  trustOf (hostGroup: string): TrustStore {
    return this.#trusts.storeOf(hostGroup)
  }

  get trustInForce () {
    return this.#trusts.inForce
  }

  knowsPathOf (leaf: X509Certificate): boolean {
    return this.#trusts.stores.some((store) => store.knowsPathOf(leaf))
  }

  handshakeOf (socket: Socket): Handshake {
    // Of a connection that came before its server was ours to follow.
    return socket[kHandshake] ?? { isResumed: socket.isSessionReused(), host: undefined, others: [], wasValid: false }
  }

  renewSessions (): void {
    this.#sessions.renew()
  }

  renewSessionsWithNextCa (): void {
    this.#hasRefused = true
  }

  /** @throws FST_HTTP_SECURITY_INVALID_CERTIFICATES; what could not be taken over stays as it was */
  async reload (): Promise<void> {
    const results = await Promise.allSettled([this.#reloading.once(), this.#trusts.reload()])
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  close (): void {
    this.#stopWatching?.()
    this.#stopWatching = undefined
    this.#sessions.close()
    this.#log.close()
  }

  /** Nothing where nothing has changed. */
  async #load (): Promise<Loaded | undefined> {
    const certificates = await readCertificates(this.#options.source, this.#reader, this.#certificates)
    const secret = await readSecret(this.#options.secret, this.#reader)
    const isSameSecret = secret === this.#secret || this.#secret?.equals(secret!) === true
    if (certificates.fingerprint === this.#certificates.fingerprint && isSameSecret) return undefined
    const contexts = await Contexts.create({ certificates, cas: this.#trusts.cas(), extra: this.#options.extra }, this.#contexts)
    await this.#trials.run(contexts)
    return { certificates, contexts, secret }
  }

  #take (loaded: Loaded | undefined): void {
    if (loaded === undefined) return
    const before = new Set(this.#warnings)
    this.#certificates = loaded.certificates
    // CAs may have changed since it was loaded.
    this.#contexts = loaded.contexts.with(this.#trusts.cas())
    this.#secret = loaded.secret
    this.#share()
    this.#servers.update()
    this.#log.write('info', 'certificates were read anew and are in force')
    // Of a thousand certificates, one has changed.
    for (const warning of this.#warnings) if (!before.has(warning)) this.#log.write('warn', warning)
    this.#expiry.look(this.#ending())
  }

  get #warnings (): readonly string[] {
    return [...this.#contexts.warnings, ...this.#trials.warnings]
  }

  #share (): void {
    const secret = this.#secret
    if (secret === undefined) return
    const applications = [...this.#servers.apps].map(({ application = '' }) => application)
    const hosts = [...this.#certificates.keyPairs.flatMap(({ hosts }) => hosts), ...this.#trusts.hosts]
    this.#sessions.share({ secret, scope: [...new Set(applications)].sort().concat('', [...new Set(hosts)].sort()) })
  }

  /** Before it is in force: with other CAs, the contexts of a host are made and tried. */
  async #prepare (host: string, cas: readonly X509Certificate[]): Promise<void> {
    const contexts = await Contexts.create({ certificates: this.#certificates, cas: new Map([...this.#trusts.cas(), [host, cas]]), extra: this.#options.extra }, this.#contexts)
    await this.#trials.run(contexts)
    this.#prepared = contexts
  }

  #casChanged (wasAdded: boolean): void {
    this.#casChangedAt = Date.now()
    this.#contexts = this.#contexts.with(this.#trusts.cas(), this.#prepared)
    this.#prepared = undefined
    this.#servers.update()
    if (!wasAdded || !this.#hasRefused) return
    // Their sessions would replay that OpenSSL did not know their CA.
    this.#hasRefused = false
    this.#sessions.renew()
  }

  /** A handshake is done. Intermediate certificates of clients are seen here and nowhere else. */
  #shake (socket: Socket): void {
    const [leaf, ...sent] = sentBy(socket)
    const isResumed = socket.isSessionReused()
    // Without a name in the handshake, nothing asks us for a context.
    const host = socket[kAsked] ?? (isResumed ? undefined : '')
    if (leaf === undefined) {
      if (this.differsByHost) socket[kHandshake] = { isResumed, host, others: [], wasValid: false }
      return
    }
    const store = this.trustOf(host ?? '')
    const now = Date.now()
    const { error, from, pending } = store.judge(leaf, sent, now)
    if (!isResumed && error !== undefined && pending === undefined) this.#hasRefused = true
    // Not since just now: OpenSSL goes by the CAs of when the connection came, and has looked at the clock before.
    const wasValid = error === undefined && Math.max(from, this.#casChangedAt) < now - 2 * LONGEST_HANDSHAKE
    // Those of a valid path are remembered with the trust.
    socket[kHandshake] = { isResumed, host, others: error === undefined ? [] : sent, wasValid }
  }

  #ending () {
    return endingIn(this.#certificates)
  }

  #watch (): void {
    if (this.#stopWatching !== undefined) return
    this.#reloading.start()
    const stops = [
      watchFiles([...filesOf(this.#options.source, this.#certificates), ...pathsOf(this.#options.secret)], () => this.#reloading.changed()),
      this.#sessions.watch(),
      this.#expiry.watch(() => this.#ending()),
      this.#trusts.watch(),
      () => this.#reloading.stop()
    ]
    this.#stopWatching = () => { for (const stop of stops) stop() }
  }

  #rejected (error: Error & { code?: string }): void {
    this.#log.write('error', `certificates were not changed, and the ones before stay in force: ${error.message}`, error.code)
  }
}

/** Bytes: as much as HKDF makes of it at once (RFC 5869 §2.2). */
const SHORTEST_SECRET = 32

/** Nothing of it is ever told, nor of what was given in its place: that may be the secret and no path. */
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

/** Where `enableTls` says what there is to say: in the logs of apps, of which there is none at first. */

/** Milliseconds that an app may take to come before the process is warned as well. */
const PATIENCE = 5_000
/** Lines that are kept for an app, the latest: a file may be written badly for months where none ever comes. */
const MOST_KEPT = 100

interface Line {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly code: string | undefined
  /** The process was warned of it. */
  isTold: boolean
}

export class BootLog {
  readonly #apps: () => ReadonlySet<ServedApp>
  #kept: Line[] = []
  #timer: NodeJS.Timeout | undefined

  /** @param apps whose logs these are, as of now */
  constructor (apps: () => ReadonlySet<ServedApp>) {
    this.#apps = apps
  }

  /** Before there is an app, a line is kept for its log; warnings and errors are told to the process if none comes. */
  write (level: Line['level'], message: string, code?: string): void {
    const line = { level, message, code, isTold: level === 'info' }
    const apps = this.#apps()
    for (const app of apps) tell(app, line)
    if (apps.size > 0) return
    this.#kept.push(line)
    if (this.#kept.length > MOST_KEPT) warnProcess(this.#kept.shift()!)
    this.#timer ??= setTimeout(() => this.#warnProcess(), PATIENCE).unref()
  }

  /** Gives an app what was kept, and answers these messages. */
  tellKept (app: ServedApp): string[] {
    return this.#forget().map((line) => {
      tell(app, line)
      return line.message
    })
  }

  /** No app comes any more. */
  close (): void {
    for (const line of this.#forget()) warnProcess(line)
  }

  #warnProcess (): void {
    this.#timer = undefined
    for (const line of this.#kept) warnProcess(line)
  }

  #forget (): Line[] {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const kept = this.#kept
    this.#kept = []
    return kept
  }
}

function tell ({ log }: ServedApp, { level, message, code }: Line): void {
  log[level]({ ...(code !== undefined && { code }) }, `http-security: ${message}`)
}

function warnProcess (line: Line): void {
  if (line.isTold) return
  line.isTold = true
  process.emitWarning(line.message, { code: line.code ?? 'FST_HTTP_SECURITY' })
}
