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

export class ClientsManager {
  /** In force. */
  clients!: Clients
  /** Called after another document has been put in force. */
  onChange: (() => void) | undefined
  readonly #log: FastifyBaseLogger
  #followed: FollowedDocument | undefined
  /** The labels of the app's client CAs, once it is ready. */
  #labels: CaLabels | undefined
  /** Where the document in force came from. */
  #by = ''

  /**
   * Loads the first document, and follows its source until the app closes.
   *
   * @param deadline of the first load, by `performance.now()`
   * @throws FST_HTTP_SECURITY_INVALID_CLIENTS
   */
  static async open (app: FastifyInstance, option: NonNullable<Options['clients']>, deadline: number): Promise<ClientsManager> {
    const manager = new ClientsManager(app.log)
    await manager.#follow(option, deadline)
    app.addHook('onClose', async () => manager.#followed!.stop())
    return manager
  }

  private constructor (log: FastifyBaseLogger) {
    this.#log = log
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
   * @throws FST_HTTP_SECURITY_INVALID_CLIENTS where an entry asks for a label that no client CAs have
   */
  ready (labels: CaLabels): void {
    this.#labels = labels
    this.#require(this.clients)
    this.#log.info({ by: this.#by, clients: this.clients.definitions.size }, 'http-security: clients are in force')
    this.#warn()
  }

  async #check (input: unknown, where: string): Promise<Clients> {
    const clients = await resolveClients(input, where)
    this.#require(clients)
    return clients
  }

  #take (clients: Clients, by: string): void {
    const before = this.clients as Clients | undefined
    this.#by = by
    this.clients = clients
    if (before === undefined || this.#labels === undefined) return
    const change = changeBetween(before, clients, by)
    const changes = change.added.length + change.changed.length + change.removed.length
    if (changes === 0 && isSameOrder(before, clients)) {
      // What was worked out for the one before goes on to hold.
      this.clients = before
      return
    }
    const [added, changed, removed] = [change.added, change.changed, change.removed].map((names) => names.slice(0, MOST_NAMED))
    this.#log.info({ by, clients: clients.definitions.size, changes, added, changed, removed }, 'http-security: the clients have changed')
    this.#warn()
    if (clientsChannel.hasSubscribers) clientsChannel.publish(change)
    this.onChange?.()
  }

  #require ({ labels }: Clients): void {
    if (this.#labels === undefined) return
    for (const [label, place] of labels) {
      const problem = problemOfLabel(label, this.#labels)
      if (problem !== undefined) throw new InvalidClientsError(`${place}: ${problem}`)
    }
  }

  #warn (): void {
    for (const warning of this.clients.warnings) this.#log.warn(`http-security: ${warning}`)
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
