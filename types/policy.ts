/**
 * What administrators enforce at run time, over what developers declared: the types of a policy.
 */
import type { Level } from '../lib/levels.ts'

/** HTTP Strict Transport Security (RFC 6797), which belongs to the environment. */
export interface HstsPolicy {
  /** Seconds that browsers remember it for (RFC 6797 §6.1.1). Above 0 it also forces HTTPS for screens; 0 takes it back. */
  readonly maxAge: number
  /** Hosts below this one are meant, too (RFC 6797 §6.1.2). */
  readonly includeSubDomains?: boolean
  /** Asks browsers' makers to put the host on the list that browsers come with. Hard to take back. */
  readonly preload?: boolean
}

/** What is forced. A policy only ever raises a level; an undeclared element is both a screen and an integration. */
export interface ForcedHttps {
  /** Screens are reached over HTTPS only. */
  readonly forceHttpsForScreens?: boolean
  /** Exposed REST and SOAP services are reached over HTTPS only. */
  readonly forceHttpsForIntegrations?: boolean
  /** `'report'`: what this part of the policy adds is counted and logged, and refuses nothing. Default `'enforce'`. */
  readonly mode?: 'enforce' | 'report'
}

/** A policy: for all applications of an environment, and for single ones. */
export interface Policy {
  readonly environment?: ForcedHttps & { readonly hsts?: HstsPolicy }
  /** By the name that an application goes by: the plugin's option `application`. */
  readonly applications?: Readonly<Record<string, ForcedHttps>>
}

/** Where a policy comes from, for what is no file. */
export interface PolicySource {
  /** Answers the policy as it is now. What fails is tried again until it succeeds, or another policy comes. */
  load (): Promise<unknown>
  /** Calls `changed` whenever it should be loaded again; answers what stops that, at once or later. */
  watch? (changed: () => void): (() => void) | Promise<() => void>
}

/** A route whose level a policy has changed. */
export interface RouteChange {
  readonly methods: readonly string[]
  readonly url: string
  readonly from: Level
  readonly to: Level
}

/** What is published on the diagnostics channel `fastify-http-security:policy`. */
export interface PolicyChange {
  /** Who or what changed it: the path of a file, `source`, `enforce`. */
  readonly by: string
  /** How many routes have a stricter level than before, and how many a laxer one. */
  readonly raised: number
  readonly lowered: number
  readonly routes: readonly RouteChange[]
  /** The header before and after, `null` for none. */
  readonly hsts: { readonly from: string | null, readonly to: string | null }
}
