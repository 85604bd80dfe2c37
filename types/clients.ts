/**
 * The types of clients, who hold certificates, and of the rules that say which of them may come. Begin with
 * {@link ClientsDocument}; a route's rules are `allow` and `verify` of {@link Declaration}.
 */
import type { X509Certificate } from 'node:crypto'
import type { FastifyRequest } from 'fastify'

/**
 * The clients document: who holds certificates, by the names that administrators give.
 *
 * @example
 * const clients: ClientsDocument = {
 *   clients: {
 *     acme: { groups: ['writers'], certificates: [{ subject: { O: 'Acme', CN: 'orders' }, issuedBy: 'partners' }] },
 *     globex: { certificates: [{ san: 'URI:spiffe://globex.example/orders' }] }
 *   }
 * }
 */
export interface ClientsDocument {
  /**
   * Clients by name. Names have 1 to 128 characters, and no control characters. Where two clients match one certificate, the
   * first counts, and a warning names both. JavaScript puts names that are whole numbers first.
   */
  readonly clients: Readonly<Record<string, ClientDefinition>>
}

/** A client: its certificates and its groups. */
export interface ClientDefinition {
  /** Groups that rules may name. */
  readonly groups?: readonly string[] | undefined
  /** Its certificates: one that matches is enough. */
  readonly certificates: readonly CertificateEntry[]
  /**
   * `true`: its certificates stay known, no rule admits them, also where they match another client, and
   * `request.httpSecurity.client` is null. Routes without rules are not affected.
   *
   * @default false
   */
  readonly suspended?: boolean | undefined
}

/**
 * A certificate, described by at least one part. It matches where all its parts do. All values are compared exactly, case
 * included.
 */
export interface CertificateEntry {
  /** Attributes of its subject (RFC 5280 §4.1.2.6). */
  readonly subject?: NameAttributes
  /** Attributes of its issuer's name. Another CA that is trusted can have the same name: see `issuedBy`. */
  readonly issuer?: NameAttributes
  /**
   * A subject alternative name (RFC 5280 §4.2.1.6): `DNS:orders.acme.example`, `URI:spiffe://acme.example/orders`,
   * `email:orders@acme.example`, `IP:192.0.2.7`, or `UPN:jane@acme.example` of a smart card.
   */
  readonly san?: string
  /** The SHA-256 of its DER: 64 hex digits in any case, with or without colons. */
  readonly fingerprint256?: string
  /** Its serial number, in hex; needs `issuer` or `issuedBy`, since each CA numbers its own. */
  readonly serialNumber?: string
  /**
   * A label of client CAs, as in `clientCertificates: { ca: { partners: 'partners-ca.pem' } }` and `proxy.ca`: a valid path of
   * the certificate leads over a CA with this label.
   */
  readonly issuedBy?: string
}

/**
 * Attributes of a name. A string is the only value of its attribute; a list has all its values, in any order: a certificate
 * with a further one does not match.
 */
export type NameAttributes = { readonly [Attribute in NameAttribute]?: string | readonly string[] }

/** Short names of attributes; `S` and `ST`, `E` and `Email` are the same. */
export type NameAttribute = 'CN' | 'C' | 'L' | 'O' | 'OU' | 'S' | 'ST' | 'T' | 'GN' | 'I' | 'E' | 'Email' | 'SERIALNUMBER' | 'DC' | 'UID'

/** Whom a rule admits: a client by name, all clients of a group, or a certificate. */
export type Allowed = string | { readonly group: string } | CertificateEntry

/**
 * Decides about a request whose certificate is valid and which `allow` admits. Called once for each request.
 *
 * @param certificate null where a proxy has described it only
 * @returns only `true` admits; an error, and a promise that takes more than ten seconds, is a refusal
 */
export type Verify = (certificate: X509Certificate | null, request: FastifyRequest) => unknown

/** A client of the clients document that is in force. Frozen. */
export interface Client {
  /** Its name in the document. */
  readonly name: string
  /** Its groups there. */
  readonly groups: readonly string[]
}

/** What is published on the diagnostics channel `fastify-http-security:clients` for each change. Frozen. */
export interface ClientsChange {
  /** Where the document came from: the path of a file, `source`, or `options`. */
  readonly by: string
  /** Names of clients that are new. */
  readonly added: readonly string[]
  /** Names of clients whose definition is another one. */
  readonly changed: readonly string[]
  /** Names of clients that are gone. All three are empty where only the order has changed. */
  readonly removed: readonly string[]
}

/** A rule of a route, as `routes()` shows it. Frozen. */
export interface RouteRule {
  /** Where it was declared: `route`, `the flow payments at /payments`, `flows: /partners` for a key of `flows`, or `default`. */
  readonly by: string
  /** Whom it admits. */
  readonly allow?: readonly Allowed[]
  /** Whether a function decides. */
  readonly verify?: true
}
