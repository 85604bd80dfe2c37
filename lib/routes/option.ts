/**
 * Where `httpSecurity` is written: on a route, in its `config`, and in the options of `register`.
 */
import type { FastifyInstance } from 'fastify'
import { InvalidOptionsError } from '../errors.ts'
import { show } from '../options/explain.ts'

const NAME = 'httpSecurity'

/**
 * What `httpSecurity` is in the options of a route or of `register`, or in a `config`; `undefined` where it is not there.
 *
 * @param subject whose options these are, should the name be misspelled
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a key that differs in its case only: it would have no effect
 */
export function readOption (options: unknown, subject: () => string): unknown {
  for (const key in Object(options)) {
    if (key.length === NAME.length && key !== NAME && key.toLowerCase() === NAME.toLowerCase()) {
      throw new InvalidOptionsError(`${subject()}: unknown option ${show(key)}; did you mean ${show(NAME)}?`)
    }
  }
  return (options as { [NAME]?: unknown } | null | undefined)?.[NAME]
}

/** The same of the options of `register`, where an instance may stand for options: what decorates it is no declaration. */
export function readRegisterOption (instance: FastifyInstance, options: unknown, subject: () => string): unknown {
  const value = readOption(options, subject)
  return value === instance[NAME] ? undefined : value
}
