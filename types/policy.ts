/**
 * The types of a policy: what administrators enforce at run time, over what developers declared. Begin with {@link Policy}.
 */
import type { Level } from '../lib/levels.ts'
import type { DocumentSource } from './source.ts'

/**
 * A policy: for all applications of an environment, and for single ones. It only ever raises a level; an undeclared element
 * is both a screen and an integration.
 */
export interface Policy {
  /** What holds for every application that uses this policy. HSTS exists here only. */
  readonly environment?: (ForcedHttps & { readonly hsts?: HstsPolicy | undefined }) | undefined
  /** What holds for one application, by its name: the plugin's option `application`. */
  readonly applications?: Readonly<Record<string, ForcedHttps>> | undefined
}

/** For which kinds of elements HTTPS is forced. */
export interface ForcedHttps {
  /**
   * Screens are reached over HTTPS only.
   *
   * @default false
   */
  readonly forceHttpsForScreens?: boolean | undefined
  /**
   * Integrations, which are exposed REST and SOAP services, are reached over HTTPS only.
   *
   * @default false
   */
  readonly forceHttpsForIntegrations?: boolean | undefined
  /**
   * `'report'`: what this part of the policy adds is counted and logged, and refuses nothing.
   *
   * @default 'enforce'
   */
  readonly mode?: 'enforce' | 'report' | undefined
}

/** HTTP Strict Transport Security (RFC 6797), which belongs to the environment. */
export interface HstsPolicy {
  /** Seconds that browsers remember it for (RFC 6797 §6.1.1). Above 0 it also forces HTTPS for screens; 0 takes it back. */
  readonly maxAge: number
  /**
   * Also for all hosts below this one (RFC 6797 §6.1.2).
   *
   * @default false
   */
  readonly includeSubDomains?: boolean | undefined
  /**
   * Asks browser makers to put the host on the list that browsers come with. Hard to take back.
   *
   * @default false
   */
  readonly preload?: boolean | undefined
}

/** Where a policy comes from, if it is neither an object nor a file. */
export type PolicySource = DocumentSource<Policy>

/** What is published on the diagnostics channel `fastify-http-security:policy` for each change. Frozen. */
export interface PolicyChange {
  /** What changed it: the path of a file, `source`, or `enforce`. */
  readonly by: string
  /** How many routes have a stricter level than before. */
  readonly raised: number
  /** How many routes have a less strict level than before. */
  readonly lowered: number
  /** The routes whose level has changed, in the order of registration. */
  readonly routes: readonly RouteChange[]
  /** The value of Strict-Transport-Security before and after, `null` for none. */
  readonly hsts: { readonly from: string | null, readonly to: string | null }
}

/** A route whose level a policy has changed. */
export interface RouteChange {
  /** Upper-case HTTP methods. */
  readonly methods: readonly string[]
  /** The URL pattern, with its prefix. */
  readonly url: string
  /** The level before. */
  readonly from: Level
  /** The level since then. */
  readonly to: Level
}
