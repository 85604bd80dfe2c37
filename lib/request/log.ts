/**
 * What the log says of a refusal: one line, at info, with code and route.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { connectionOf, socketOf } from './connection.ts'
import { presentedOn } from './verdict.ts'

/** Longer values are cut: who presents a certificate chooses its names, and the log is not theirs to fill. */
const LONGEST = 128

export function logRefusal (request: FastifyRequest, code: string): void {
  const connection = connectionOf(request)
  const { leaf } = presentedOn(connection)
  request.log.info({
    code,
    route: request.routeOptions.url ?? null,
    ...(leaf !== undefined && {
      certificate: {
        subject: printable(leaf.subject),
        issuer: printable(leaf.issuer),
        serialNumber: printable(leaf.serialNumber),
        validFrom: leaf.validFrom,
        validTo: leaf.validTo,
        fingerprint256: leaf.fingerprint256,
        error: socketOf(connection)?.authorizationError ?? null
      }
    })
  }, 'http-security: request refused')
}

/** Fastify's own error handler would log the error a second time. One refusal is one line. */
export function silenceSecondLog ({ log }: FastifyRequest, reply: FastifyReply, error: Error): void {
  reply.log = Object.create(reply.log, {
    info: {
      value (entry: { err?: unknown } | undefined, ...rest: []) {
        if (entry?.err !== error) log.info(entry, ...rest)
      }
    }
  }) as typeof reply.log
}

/** Names hold whatever their maker liked: control characters never reach the log as such. */
function printable (value: string | undefined): string {
  const text = (value ?? '').replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text
}
