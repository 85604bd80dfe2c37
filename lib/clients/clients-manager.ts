/**
 * Keeps the clients document that is in force: the last valid one of its source. Begin with `ClientsManager.open`.
 */
import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { ClientsChange } from '../../types/clients.ts'
import { InvalidClientsError } from '../errors.ts'
import { type FollowedDocument, followDocument } from '../files/document.ts'
import type { Options } from '../options/resolve.ts'
import { type Clients, CLIENTS, resolveClients } from './clients.ts'
import { type CaLabels, problemOfLabel } from './rules.ts'

/** `node:diagnostics_channel`: receives a {@link ClientsChange} for each change. */
const clientsChannel = channel('fastify-http-security:clients')

/** Names of clients in one line of the log. */
const MOST_NAMED = 20

/** The clients in `proxy.trust`: proxies that prove themselves by their own certificates. */
export interface ProxiesAmongClients {
  readonly names: ReadonlySet<string>
  /** Called with each document before it is in force. */
  learn (clients: Clients): void
}

export class ClientsManager {
  /** In force. */
  clients!: Clients
  /** Called after another document has been put in force. */
  onChange: (() => void) | undefined
  readonly #log: FastifyBaseLogger
  readonly #proxies: ProxiesAmongClients | undefined
  #followed: FollowedDocument | undefined
  /** The labels of the app's client CAs, once it is ready. */
  #labels: CaLabels | undefined
  #proxyLabels: CaLabels | undefined
  /** Where the document in force came from. */
  #by = ''

  /**
   * Loads the first document, and follows its source until the app closes.
   *
   * @param deadline of the first load, by `performance.now()`
   * @throws FST_HTTP_SECURITY_INVALID_CLIENTS
   */
  static async open (app: FastifyInstance, option: NonNullable<Options['clients']>, deadline: number, proxies?: ProxiesAmongClients): Promise<ClientsManager> {
    const manager = new ClientsManager(app.log, proxies)
    await manager.#follow(option, deadline)
    app.addHook('onClose', async () => manager.#followed!.stop())
    return manager
  }

  private constructor (log: FastifyBaseLogger, proxies: ProxiesAmongClients | undefined) {
    this.#log = log
    this.#proxies = proxies
  }

  async #follow (option: NonNullable<Options['clients']>, deadline: number): Promise<void> {
    this.#followed = await followDocument(option, { ...CLIENTS, check: (input, where) => this.#check(input, where) }, {
      take: (clients, by) => this.#take(clients, by),
      rejected: (error: Error & { code?: string }) => this.#log.error({ code: error.code }, `http-security: the clients were not changed, and the ones before stay in force: ${error.message}`),
      recovered: (by) => this.#log.info({ by }, 'http-security: the clients are loaded again'),
      warn: (message) => this.#log.warn(`http-security: ${message}`)
    }, deadline)
  }

  /**
   * Called when the app is ready, so that the client CAs are known: from now on another document is in force at once.
   *
   * @param proxyLabels those that the certificates of proxies may have
   * @throws FST_HTTP_SECURITY_INVALID_CLIENTS where an entry asks for a label that no client CAs have
   */
  ready (labels: CaLabels, proxyLabels: CaLabels): void {
    this.#labels = labels
    this.#proxyLabels = proxyLabels
    // First: labels of a client whose name is misspelled there are asked of the wrong CAs.
    this.#warnOfProxies()
    this.#require(this.clients)
    this.#log.info({ by: this.#by, clients: this.clients.definitions.size }, 'http-security: clients are in force')
    this.#warnOfEntries()
  }

  async #check (input: unknown, where: string): Promise<Clients> {
    const clients = await resolveClients(input, where, this.#proxies?.names)
    this.#require(clients)
    return clients
  }

  #take (clients: Clients, by: string): void {
    const before = this.clients as Clients | undefined
    this.#by = by
    if (before === undefined || this.#labels === undefined) return this.#put(clients)
    const change = changeBetween(before, clients, by)
    const changes = change.added.length + change.changed.length + change.removed.length
    // What was worked out for the one before goes on to hold.
    if (changes === 0 && isSameOrder(before, clients)) return
    this.#put(clients)
    const [added, changed, removed] = [change.added, change.changed, change.removed].map((names) => names.slice(0, MOST_NAMED))
    this.#log.info({ by, clients: clients.definitions.size, changes, added, changed, removed }, 'http-security: the clients have changed')
    this.#warnOfEntries()
    this.#warnOfProxies()
    if (clientsChannel.hasSubscribers) clientsChannel.publish(change)
    this.onChange?.()
  }

  #put (clients: Clients): void {
    this.#proxies?.learn(clients)
    this.clients = clients
  }

  #require ({ labels, proxyLabels }: Clients): void {
    if (this.#labels === undefined || this.#proxyLabels === undefined) return
    requireLabels(labels, this.#labels)
    requireLabels(proxyLabels, this.#proxyLabels)
  }

  #warnOfEntries (): void {
    for (const warning of this.clients.warnings) this.#log.warn(`http-security: ${warning}`)
  }

  #warnOfProxies (): void {
    for (const name of this.#proxies?.names ?? []) {
      if (this.clients.named(name) === undefined) this.#log.warn(`http-security: proxy.trust names the client ${JSON.stringify(name)}, which the clients document does not have; until it does, nobody is this proxy`)
    }
  }
}

function requireLabels (asked: ReadonlyMap<string, string>, labels: CaLabels): void {
  for (const [label, place] of asked) {
    const problem = problemOfLabel(label, labels)
    if (problem !== undefined) throw new InvalidClientsError(`${place}: ${problem}`)
  }
}

function changeBetween ({ definitions: before }: Clients, { definitions: after }: Clients, by: string): ClientsChange {
  const [added, changed, removed]: [string[], string[], string[]] = [[], [], []]
  for (const [name, definition] of after) {
    const other = before.get(name)
    if (other === undefined) added.push(name)
    else if (other !== definition) changed.push(name)
  }
  for (const name of before.keys()) if (!after.has(name)) removed.push(name)
  return Object.freeze({ by, added: Object.freeze(added), changed: Object.freeze(changed), removed: Object.freeze(removed) })
}

/** Of two clients that match, the first counts: their order is a part of the document. */
function isSameOrder ({ definitions: before }: Clients, { definitions: after }: Clients): boolean {
  const names = before.keys()
  return [...after.keys()].every((name) => name === names.next().value)
}
