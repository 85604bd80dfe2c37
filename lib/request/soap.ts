/**
 * Refusals as SOAP faults, sent directly: SOAP clients read nothing else.
 */
import type { FastifyReply } from 'fastify'

interface Fault { code: string, message: string, statusCode?: number }

/** Our codes and messages hold no character that XML would have escaped. */
const FAULTS = {
  // SOAP 1.1 §4.4: no `detail`, which would say that the body had been processed.
  1.1: ({ code, message }: Fault) => ({
    type: 'text/xml; charset=utf-8',
    body: '<?xml version="1.0" encoding="utf-8"?>' +
      '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><soap:Fault>' +
      `<faultcode>soap:Client</faultcode><faultstring>${code}: ${message}</faultstring>` +
      '</soap:Fault></soap:Body></soap:Envelope>'
  }),
  // SOAP 1.2 part 1 §5.4.
  1.2: ({ code, message }: Fault) => ({
    type: 'application/soap+xml; charset=utf-8',
    body: '<?xml version="1.0" encoding="utf-8"?>' +
      '<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope"><env:Body><env:Fault>' +
      `<env:Code><env:Value>env:Sender</env:Value></env:Code><env:Reason><env:Text xml:lang="en">${code}: ${message}</env:Text></env:Reason>` +
      '</env:Fault></env:Body></env:Envelope>'
  })
} as const

/** Answers with a fault of the client's SOAP version. */
export function sendFault (reply: FastifyReply, version: '1.1' | '1.2', fault: Fault): void {
  const { type, body } = FAULTS[version](fault)
  reply.code(fault.statusCode!).type(type).send(body)
}
