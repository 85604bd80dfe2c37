/**
 * The clients document, checked and compiled: who holds which certificate. Begin with {@link resolveClients}.
 */
import type { Client, ClientDefinition, ClientsDocument } from '../../types/clients.ts'
import { InvalidClientsError } from '../errors.ts'
import type { DocumentKind } from '../files/document.ts'
import { explain, show } from '../options/validation-errors.ts'
import { Slices } from '../slices.ts'
import { type CertificateParts, EntryIndex, isExact, labelIn, resolveEntry, type ResolvedEntry } from './certificate-entry.ts'
import { ClientsSchema, isClients } from './checks.generated.ts'
import { isName } from './rules.ts'

/** A client of a document. Frozen. */
export interface KnownClient {
  readonly client: Client
  /** No rule admits it. */
  readonly isSuspended: boolean
  /** The place in the document: the first client that matches counts. */
  readonly position: number
}

/** Pairs of clients with one certificate that are named in a warning. */
const MOST_NAMED = 10

/** A compiled document. Another document is another object. */
export class Clients {
  /** What was read of each definition, as JSON, by name: what two documents differ in. */
  readonly definitions: ReadonlyMap<string, string>
  /** Labels of client CAs that entries ask for, each with the place of one of them. Without those of proxies. */
  readonly labels: ReadonlyMap<string, string>
  /** The same of proxies, whose own certificates are judged even where it is the proxy that judges those of clients. */
  readonly proxyLabels: ReadonlyMap<string, string>
  /** The entries of the clients in `proxy.trust`, by name. */
  readonly proxies: ReadonlyMap<string, readonly ResolvedEntry[]>
  /** A client is suspended whose certificates are known by the label of a CA. */
  readonly suspendsByIssuer: boolean
  /** What is odd about the document. */
  readonly warnings: readonly string[]
  readonly #index: EntryIndex<KnownClient>
  readonly #known: ReadonlyMap<string, KnownClient>
  readonly #groups: ReadonlySet<string>

  constructor (index: EntryIndex<KnownClient>, { known, definitions, groups, labels, proxyLabels, proxies, suspendsByIssuer, warnings }: Pick<Clients, 'definitions' | 'labels' | 'proxyLabels' | 'proxies' | 'suspendsByIssuer' | 'warnings'> & { known: ReadonlyMap<string, KnownClient>, groups: ReadonlySet<string> }) {
    this.#index = index
    this.#known = known
    this.#groups = groups
    this.definitions = definitions
    this.labels = labels
    this.proxyLabels = proxyLabels
    this.proxies = proxies
    this.suspendsByIssuer = suspendsByIssuer
    this.warnings = warnings
  }

  /**
   * Clients whose entries match a certificate, in the order of the document, each once: the first one counts. Of those with the
   * same entry, the first and another one, which is suspended if any is.
   */
  find (parts: CertificateParts): readonly KnownClient[] {
    const found = this.#index.find(parts)
    return found.length < 2 ? found : [...new Set(found)].sort((a, b) => a.position - b.position)
  }

  named (name: string): KnownClient | undefined {
    return this.#known.get(name)
  }

  hasGroup (name: string): boolean {
    return this.#groups.has(name)
  }
}

const NO_NAMES: ReadonlySet<string> = new Set()

/** Clients that are compiled in a fraction of a millisecond. */
const PIECE = 128

/**
 * In slices, between which requests are served.
 *
 * @param input an object as `JSON.parse` returns it
 * @param where for messages: `clients`, or the name of a file
 * @param proxyNames clients in `proxy.trust`, of whom nothing may match but their own certificates
 * @throws FST_HTTP_SECURITY_INVALID_CLIENTS
 */
export async function resolveClients (input: unknown, where: string, proxyNames = NO_NAMES): Promise<Clients> {
  if (!isClients(input)) throw new InvalidClientsError(explain(where, ClientsSchema, input))
  const [index, all, definitions, groups, labels, alike] = [new EntryIndex<KnownClient>(), new Map<string, KnownClient>(), new Map<string, string>(), new Set<string>(), new Map<string, string>(), new Set<string>()]
  const [proxyLabels, proxies] = [new Map<string, string>(), new Map<string, readonly ResolvedEntry[]>()]
  const slices = new Slices()
  let suspendsByIssuer = false
  for (const [name, definition] of Object.entries((input as ClientsDocument).clients)) {
    if (definitions.size % PIECE === 0) await slices.rest()
    // JSON.parse makes `__proto__` an own key. Code that copies it by assignment would change another object's prototype.
    if (!isName(name)) throw new InvalidClientsError(`${where}: clients: ${show(name)}: not allowed as a name`)
    const place = (): string => `${where}: clients: ${name}`
    const known = knownClient(name, definition, definitions.size, place)
    for (const group of known.client.groups) groups.add(group)
    const entries: ResolvedEntry[] = []
    for (const [at, certificate] of definition.certificates.entries()) {
      const entry = entryAt(() => `${place()}: certificates: ${at}`, certificate)
      const other = index.add(entry, known).find((other) => other !== known)
      if (other !== undefined) alike.add(`${show(other.client.name)} and ${show(name)}`)
      entries.push(entry)
      const isOfProxy = proxyNames.has(name)
      if (isOfProxy && !isExact(entry)) throw new InvalidClientsError(`${place()}: certificates: ${at}: needs fingerprint256, or san with issuedBy, because this client is a proxy (proxy.trust), which may say of any visitor who it is`)
      const label = labelIn(entry)
      if (label === undefined) continue
      if (isOfProxy) proxyLabels.set(label, `${place()}: certificates: ${at}`)
      else labels.set(label, `${place()}: certificates: ${at}`)
      suspendsByIssuer ||= known.isSuspended
    }
    all.set(name, known)
    if (proxyNames.has(name)) proxies.set(name, entries)
    // Not of what was given: a source may answer objects whose properties JSON does not have.
    definitions.set(name, JSON.stringify([known.client.groups, known.isSuspended, entries]))
  }
  const named = [...alike].slice(0, MOST_NAMED).join('; ')
  const warnings = alike.size === 0 ? [] : [`${where}: of clients with the same certificate, the first in the document counts: ${named}${alike.size > MOST_NAMED ? `; and ${alike.size - MOST_NAMED} more` : ''}`]
  return new Clients(index, { known: all, definitions, groups, labels, proxyLabels, proxies, suspendsByIssuer, warnings })
}

/** Bytes: enough for fifty thousand clients. */
const LARGEST = 8 * 1024 * 1024

/** The kind of document that the clients document is. */
export const CLIENTS: DocumentKind<Clients> = { name: 'clients', stake: 'who may come', largest: LARGEST, Invalid: InvalidClientsError, check: resolveClients }

const NO_GROUPS: readonly string[] = Object.freeze([])

function knownClient (name: string, { groups = [], suspended = false }: ClientDefinition, position: number, place: () => string): KnownClient {
  const wrong = groups.find((group) => !isName(group))
  if (wrong !== undefined) throw new InvalidClientsError(`${place()}: groups: ${show(wrong)}: not allowed as a name`)
  return Object.freeze({ client: Object.freeze({ name, groups: groups.length === 0 ? NO_GROUPS : Object.freeze([...new Set(groups)]) }), isSuspended: suspended, position })
}

function entryAt (place: () => string, certificate: unknown): ResolvedEntry {
  try {
    return resolveEntry(certificate)
  } catch (cause) {
    throw new InvalidClientsError(`${place()}: ${(cause as Error).message}`, { cause })
  }
}
