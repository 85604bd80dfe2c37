/**
 * What requests offer to handlers.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RequestSecurity } from '../../types/index.ts'
import { LEVELS, MTLS } from '../levels.ts'
import { kindIn, rankIn } from '../routes/table.ts'
import { connectionOf } from './connection.ts'
import { detailsOf, validLeafOf, valueOf } from './details.ts'
import type { Enforcement } from './enforce.ts'
import type { Transport } from './secure.ts'
import type { Verdicts } from './verdict.ts'

export function decorateRequests (app: FastifyInstance, { entryFor }: Enforcement, transport: Transport, verdicts: Verdicts): void {
  app.decorateRequest('httpSecurity', {
    getter (this: FastifyRequest): RequestSecurity {
      const entry = entryFor(this)
      return Object.freeze({
        secure: transport.isSecure(this.raw, connectionOf(this)),
        level: LEVELS[entry === undefined ? MTLS : rankIn(entry)]!,
        kind: entry === undefined ? undefined : kindIn(entry)
      })
    }
  })
  app.decorateRequest('clientCertificate', {
    getter (this: FastifyRequest) {
      return validLeafOf(this, verdicts) ?? null
    }
  })
  app.decorateRequest('clientCertificateGetDetails', function (this: FastifyRequest) {
    return detailsOf(this, verdicts)
  })
  app.decorateRequest('clientCertificateValue', function (this: FastifyRequest, key: string) {
    return valueOf(this, verdicts, key)
  })
}
