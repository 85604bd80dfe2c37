/**
 * Validates the plugin's options and the option `httpSecurity`, and resolves them into frozen, typed objects, which are not
 * checked again. Begin with {@link resolveOptions} and {@link resolveDeclaration}.
 */
import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { ClientsDocument, DocumentSource, HttpSecurityOptions, Policy, PolicySource } from '../../types/index.ts'
import { addRules, resolveRule, type Rule } from '../clients/rules.ts'
import { InvalidOptionsError } from '../errors.ts'
import { type Kind, type Level, type Rank, rankOf } from '../levels.ts'
import { kTlsInterface, type TlsInterface } from '../tls-interface.ts'
import { parseHost } from '../url/host.ts'
import { fold } from '../url/path-readings.ts'
import { DeclarationSchema, isDeclaration, isPluginOptions, PluginOptionsSchema } from './checks.generated.ts'
import { explain, show, SUBJECT } from './validation-errors.ts'
import type { Proxy } from './proxy.ts'

/** What a route, a flow, a key of `flows` or `default` declares. Level and kind are inherited where they are missing; rules add up. */
export interface Declared {
  readonly level?: Level
  readonly kind?: Kind
  /** Not empty. */
  readonly rules?: readonly Rule[]
}

/** A declaration that has a level, as the default has. */
type Complete = Declared & Required<Pick<Declared, 'level'>>

/** The resolved options of the plugin. */
export interface Options {
  readonly default: Complete
  /** By the canonical form of the path: see `fold`. */
  readonly flows: ReadonlyMap<string, Declared>
  readonly minimum: Rank
  /** Client certificates do not apply to REST APIs (`profile: 'outsystems'`). */
  readonly forbidsMtlsOnRest: boolean
  readonly redirect: Redirect
  readonly proxy: Proxy | undefined
  readonly tls: TlsInterface | undefined
  readonly helmet: FastifyHelmetOptions | undefined
  readonly unsatisfiable: 'error' | 'warn'
  readonly application: string | undefined
  readonly policy: Policy | PolicySource | string | undefined
  readonly clients: ClientsDocument | DocumentSource<ClientsDocument> | string | undefined
  readonly mode: 'enforce' | 'report'
  readonly secureCookies: boolean
  readonly onViolation: HttpSecurityOptions['onViolation']
}

interface Redirect {
  readonly statusCode: number
  readonly httpsPort: number | undefined
  /** In lower case. */
  readonly hosts: ReadonlySet<string> | undefined
}

/** The declaration of a route or flow that declares nothing. */
export const NOTHING: Declared = Object.freeze({})

/** @throws FST_HTTP_SECURITY_INVALID_OPTIONS */
export async function resolveOptions (input: unknown): Promise<Options> {
  // Loaded only where a proxy is trusted; first, so that nothing can change between the check and its use.
  const resolveProxy = Object(input).proxy === undefined ? undefined : (await import('./proxy.ts')).resolveProxy
  if (!isPluginOptions(input)) throw new InvalidOptionsError(explain(SUBJECT, PluginOptionsSchema, input))
  const options = input as HttpSecurityOptions
  const laxest = options.profile === 'outsystems' ? 'none' : 'tls'
  const proxy = options.proxy === undefined ? undefined : resolveProxy!(options.proxy)
  const [prover] = proxy?.clients ?? []
  if (prover !== undefined && options.clients === undefined) {
    throw new InvalidOptionsError(`${SUBJECT}: proxy: trust: client ${show(prover.name)} is nobody: the option clients is missing, which says whose certificate is whose`)
  }
  return Object.freeze({
    default: Object.freeze({ level: laxest, ...partsOf(options.default, () => 'default', () => `${SUBJECT}: default`) } satisfies Complete),
    flows: resolveFlows(options.flows ?? {}),
    minimum: rankOf(options.minimum),
    forbidsMtlsOnRest: options.profile === 'outsystems',
    redirect: Object.freeze({
      statusCode: options.redirect?.statusCode ?? 308,
      httpsPort: options.redirect?.httpsPort,
      hosts: options.redirect?.hosts === undefined ? undefined : new Set(options.redirect.hosts.map(resolveHost))
    }),
    proxy,
    tls: options.tls === undefined ? undefined : resolveTls(options.tls),
    helmet: options.helmet,
    unsatisfiable: options.unsatisfiable ?? (options.mode === 'report' ? 'warn' : 'error'),
    application: options.application,
    policy: options.policy,
    clients: options.clients,
    mode: options.mode ?? 'enforce',
    secureCookies: options.secureCookies ?? false,
    onViolation: resolveFunction(options.onViolation)
  })
}

/**
 * Resolves the `httpSecurity` option of a route or a flow.
 *
 * @param by what the log and tables say of its rules: `route`, `the flow payments at /payments`
 * @param subject of the message if it is wrong: `httpSecurity of route GET /x`
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveDeclaration (input: unknown, by: () => string, subject: () => string): Declared {
  if (input === undefined) return NOTHING
  if (!isDeclaration(input)) throw new InvalidOptionsError(explain(subject(), DeclarationSchema, input))
  return partsOf(input as HttpSecurityOptions['default'], by, subject)
}

/** The same without an error: `undefined` where the option is wrong. */
export function declarationOf (input: unknown, by: string): Declared | undefined {
  try {
    return resolveDeclaration(input, () => by, () => by)
  } catch {
    return undefined
  }
}

/** The nearer declaration wins for level and kind; rules of both have to hold. */
export function inherit (far: Declared, near: Declared): Declared {
  if (near === NOTHING) return far
  if (far.rules === undefined || near.rules === undefined) return Object.freeze({ ...far, ...near })
  return Object.freeze({ ...far, ...near, rules: addRules(far.rules, near.rules) })
}

/** Only the parts that are given: an `undefined` one must not hide what is inherited. */
function partsOf (option: HttpSecurityOptions['default'], by: () => string, subject: () => string): Declared {
  if (option === undefined) return NOTHING
  if (typeof option === 'string') return Object.freeze({ level: option })
  const { level, kind } = option
  const rule = ruleOf(option, by, subject)
  return Object.freeze({ ...(level !== undefined && { level }), ...(kind !== undefined && { kind }), ...(rule !== undefined && { rules: Object.freeze([rule]) }) })
}

function ruleOf (option: Parameters<typeof resolveRule>[0], by: () => string, subject: () => string): Rule | undefined {
  if (option.allow === undefined && option.verify === undefined) return undefined
  try {
    return resolveRule(option, by())
  } catch (cause) {
    throw new InvalidOptionsError(`${subject()}: ${(cause as Error).message}`, { cause })
  }
}

/** Segments without parameter, wildcard, percent-encoding, `.` or `..`, query, fragment, white space or control characters. */
const STATIC_PATH = /^\/$|^(?:\/(?!\.{1,2}(?:\/|$))[^/\s%:*;?#\\\p{Cc}]+)+\/?$/u

function resolveFlows (flows: NonNullable<HttpSecurityOptions['flows']>): ReadonlyMap<string, Declared> {
  const resolved = new Map<string, Declared>()
  for (const [path, option] of Object.entries(flows)) {
    if (!STATIC_PATH.test(path)) {
      throw new InvalidOptionsError(`${SUBJECT}: flows: ${show(path)} is not allowed; allowed: absolute, static paths such as '/shop', without parameters, wildcards, '//' or '%'`)
    }
    const key = fold(path)
    if (resolved.has(key)) {
      throw new InvalidOptionsError(`${SUBJECT}: flows: ${show(path)} is there twice; keys ignore case, how Unicode writes a character, and a trailing slash`)
    }
    resolved.set(key, partsOf(option, () => `flows: ${key}`, () => `${SUBJECT}: flows: ${show(path)}`))
  }
  return resolved
}

function resolveHost (host: string): string {
  if (parseHost(host)?.name !== host) {
    throw new InvalidOptionsError(`${SUBJECT}: redirect: hosts: ${show(host)} is not allowed; allowed: whole host names without scheme, port or path, such as 'shop.example'`)
  }
  return host.toLowerCase()
}

function resolveFunction (onViolation: HttpSecurityOptions['onViolation']): HttpSecurityOptions['onViolation'] {
  if (onViolation === undefined || typeof onViolation === 'function') return onViolation
  throw new InvalidOptionsError(`${SUBJECT}: onViolation: ${show(onViolation)} is not allowed; allowed: a function`)
}

function resolveTls (tls: object): TlsInterface {
  const tlsInterface: unknown = Reflect.get(tls, kTlsInterface)
  if (tlsInterface === undefined) throw new InvalidOptionsError(`${SUBJECT}: tls: ${show(tls)} is not allowed; allowed: what \`await enableTls(…)\` of fastify-http-security/tls answers`)
  return tlsInterface as TlsInterface
}
