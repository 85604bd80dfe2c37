/**
 * Who a client is, by the clients document, and whether the rules of a route admit it: for valid certificates only. Begin with
 * {@link createRules}.
 */
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Client, Verify } from '../../types/clients.ts'
import type { CertificateParts } from '../clients/certificate-entry.ts'
import { partsOf } from '../clients/certificate-parts.ts'
import type { Clients, KnownClient } from '../clients/clients.ts'
import type { AllowList, Rule } from '../clients/rules.ts'
import type { PeerCertificate } from '../trust/peer-certificate.ts'
import { knownOf } from '../x509/known-certificate.ts'
import type { Verdicts } from './client-certificate.ts'
import { type Connection, connectionOf, simulatedClientOf } from './connection.ts'

/** Answers about requests whose certificate is valid. */
export interface Rules {
  /** The client of a request; null without a valid certificate, for an unknown one, and for a suspended client. */
  clientOf (request: FastifyRequest): Client | null
  /** The first rule whose `allow` does not admit the certificate of a request; undefined where all do. */
  refusing (request: FastifyRequest, rules: readonly Rule[], connection?: Connection): Rule | undefined
  /**
   * The first rule whose `verify` does not admit a request; undefined where all do. A promise only where a function is
   * asynchronous. Each function is called once for each request.
   */
  verify (request: FastifyRequest, rules: readonly Rule[]): Rule | undefined | Promise<Rule | undefined>
  /** Resolves when more is known of the certificate that rules may ask for; undefined where all is. */
  pendingFor (request: FastifyRequest): Promise<unknown> | undefined
  /** Whether what is not known yet may show that a client is suspended. */
  readonly mayBeSuspended: boolean
  /** Who it is that rules refuse, for the log. */
  whoIs (request: FastifyRequest): RefusedClient
}

/** A client by the clients document, for the log. */
export interface RefusedClient {
  /** Its name; null for an unknown one. */
  readonly client: string | null
  /** The client that is suspended, where that is why: the same one, or another one that the certificate matches. */
  readonly suspended?: string
}

/** Milliseconds that a `verify` may take. */
const LONGEST = 10_000
/** What is known of one certificate by different labels: one for each host that its connection is used for. */
const MOST_IDENTITIES = 4
/** Lists that are remembered of one certificate: its connection may be used for any number of routes. */
const MOST_ALLOWED = 64
/** Bytes of memory for one of them. */
const BYTES_A_LIST = 64
/** Pairs of clients that were warned of. */
const MOST_WARNED = 100

/** What is known of a certificate, under one clients document and by the labels of its paths. */
interface Identity {
  readonly clients: Clients | undefined
  readonly labels: ReadonlySet<string>
  /** Undefined where the certificate is cached without the parsed one, which these would keep: they are read again for each list. */
  readonly parts: CertificateParts | undefined
  readonly known: KnownClient | undefined
  /** Of the clients that it matches, the name of the first suspended one. */
  readonly suspended: string | undefined
  /** Made for the second list that is asked for. */
  allowed: Map<AllowList, boolean> | undefined
  /** Of these, the one that was asked for last. */
  last: AllowList | undefined
  lastAdmitted: boolean
}

const NO_LABELS: ReadonlySet<string> = new Set()

export function createRules ({ server, clientsInForce, asksForIssuer, verdicts, log }: {
  /** That of the app. */
  server: object
  /** Undefined where there is no document. */
  clientsInForce: () => Clients | undefined
  /** Whether any rule asks for the label of a CA. */
  asksForIssuer: boolean
  verdicts: Verdicts
  log: FastifyBaseLogger
}): Rules {
  const outcomes = new WeakMap<FastifyRequest, Map<Verify, boolean>>()
  const warned = new Set<string>()
  documents.set(server, [...documents.get(server) ?? [], clientsInForce])

  /** Worked out once for a certificate, until the document or the labels change. */
  function identityOf (request: FastifyRequest, found: PeerCertificate): Identity {
    const clients = clientsInForce()
    const labels = asksForIssuer || (clients !== undefined && clients.labels.size > 0) ? verdicts.labelsOf(found, request) : NO_LABELS
    const identities = found.identities as Identity[] | undefined
    for (let index = 0; index < (identities?.length ?? 0); index++) {
      const kept = identities![index]!
      if (kept.clients === clients && kept.labels === labels) return kept
    }
    const parts = partsWhenAsked(found, labels)
    const named = found.isForwarded ? undefined : simulatedClientOf(connectionOf(request))
    const matching = named === undefined ? clients?.find(parts) ?? [] : [clients?.named(named)].filter((client) => client !== undefined)
    const [known, other] = matching
    if (other !== undefined) warn(known!.client.name, other.client.name)
    const identity: Identity = { clients, labels, parts: found.isForwarded ? undefined : parts, known, suspended: matching.find(({ isSuspended }) => isSuspended)?.client.name, allowed: undefined, last: undefined, lastAdmitted: false }
    // Hosts with client CAs of their own may each have labels of their own for it.
    found.identities = [identity, ...identities?.filter((other) => other.clients === clients).slice(0, MOST_IDENTITIES - 1) ?? []]
    return identity
  }

  function warn (first: string, second: string): void {
    const names = `${JSON.stringify(first)} and ${JSON.stringify(second)}`
    if (warned.has(names) || warned.size === MOST_WARNED) return
    warned.add(names)
    log.warn(`http-security: a certificate matches the clients ${names}; the first in the document counts`)
  }

  function validIdentityOf (request: FastifyRequest): Identity | undefined {
    const found = verdicts.presentedBy(request)
    return verdicts.isValid(found, request) ? identityOf(request, found) : undefined
  }

  /** A function that waits is called by one check of a request; the next one finds its outcome. */
  function outcomeOf (request: FastifyRequest, verify: Verify): boolean | Promise<boolean> {
    let known = outcomes.get(request)
    if (known === undefined) outcomes.set(request, known = new Map())
    const outcome = known.get(verify)
    if (outcome !== undefined) return outcome
    const keep = (answer: unknown): boolean => {
      known.set(verify, answer === true)
      return answer === true
    }
    const failed = (err: unknown): boolean => {
      // First: what is thrown may be such that a logger fails, too.
      const outcome = keep(false)
      try {
        request.log.error({ err, route: request.routeOptions.url ?? null }, 'http-security: verify has failed, so that the request is refused')
      } catch {}
      return outcome
    }
    try {
      const answer = verify(verdicts.leafOf(request) ?? null, request)
      return isPromise(answer) ? inTime(answer).then(keep, failed) : keep(answer)
    } catch (error) {
      return failed(error)
    }
  }

  return {
    clientOf (request) {
      const identity = validIdentityOf(request)
      return identity?.known === undefined || identity.suspended !== undefined ? null : identity.known.client
    },
    get mayBeSuspended () { return clientsInForce()?.suspendsByIssuer === true },
    pendingFor: (request) => verdicts.labelsPending(verdicts.presentedBy(request), request),
    whoIs (request) {
      const identity = validIdentityOf(request)
      return { client: identity?.known?.client.name ?? null, ...(identity?.suspended !== undefined && { suspended: identity.suspended }) }
    },
    refusing (request, rules, connection) {
      const found = verdicts.presentedBy(request, connection)
      const identity = identityOf(request, found)
      if (identity.suspended !== undefined) return rules[0]
      for (const rule of rules) if (rule.allow !== undefined && !admits(rule.allow, identity, found)) return rule
      return undefined
    },
    verify (request, rules) {
      for (let index = 0; index < rules.length; index++) {
        const rule = rules[index]!
        if (rule.verify === undefined) continue
        const outcome = outcomeOf(request, rule.verify)
        if (outcome === false) return rule
        if (outcome !== true) return outcome.then((admitted) => admitted ? this.verify(request, rules.slice(index + 1)) : rule)
      }
      return undefined
    }
  }
}

function admits (allow: AllowList, identity: Identity, found: PeerCertificate): boolean {
  if (identity.last === allow) return identity.lastAdmitted
  if (identity.last !== undefined) {
    const allowed = identity.allowed ??= new Map()
    if (allowed.size === MOST_ALLOWED) allowed.clear()
    allowed.set(identity.last, identity.lastAdmitted)
    found.grow?.(BYTES_A_LIST)
  }
  identity.last = allow
  return (identity.lastAdmitted = identity.allowed?.get(allow) ?? isIn(allow, identity, found))
}

function isIn ({ names, groups, entries }: AllowList, { known, labels, parts }: Identity, found: PeerCertificate): boolean {
  if (known !== undefined && (names.has(known.client.name) || known.client.groups.some((group) => groups.has(group)))) return true
  return entries.find(parts ?? partsWhenAsked(found, labels)).length > 0
}

/** The certificate may have to be parsed for them. */
function partsWhenAsked (found: PeerCertificate, labels: ReadonlySet<string>): CertificateParts {
  let parts: CertificateParts | undefined
  return { valuesOf: (name) => (parts ??= partsOf(knownOf(found), labels)).valuesOf(name) }
}

function isPromise (answer: unknown): answer is PromiseLike<unknown> {
  return typeof (answer as { then?: unknown } | null | undefined)?.then === 'function'
}

async function inTime (answer: PromiseLike<unknown>): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it has not answered within ${LONGEST / 1_000} seconds`)), LONGEST)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    clearTimeout(timer)
  }
}

// Clients that unit tests name

/** The clients documents in force of an app, by its server: one for each registration of the plugin. */
const documents = new WeakMap<object, ReadonlyArray<() => Clients | undefined>>()

/** The names of all clients of an app; undefined where it has no clients document. */
export function clientNamesOf (server: object): readonly string[] | undefined {
  const inForce = (documents.get(server) ?? []).flatMap((clientsInForce) => clientsInForce() ?? [])
  return inForce.length === 0 ? undefined : [...new Set(inForce.flatMap(({ definitions }) => [...definitions.keys()]))]
}
