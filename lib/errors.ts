/**
 * Every error of this package, each with a stable code, made with `@fastify/error`: {@link refusals} answer requests, the
 * classes below them stop a boot. docs/errors.md explains each code; `HttpSecurityErrorCode` lists them for users.
 */
import createError from '@fastify/error'

const code = <Name extends string>(name: Name): `FST_HTTP_SECURITY_${Name}` => `FST_HTTP_SECURITY_${name}`

/** Answers to requests. The body says no more than code and message; what is wrong with a certificate is in the log. */
export const refusals = {
  /** 403: the route is reached over HTTPS only, and this request cannot be redirected. */
  tlsRequired: createError(code('TLS_REQUIRED'), 'HTTPS is required', 403),
  /** 403: the route requires a client certificate, and the client presented none. */
  certificateRequired: createError(code('CERTIFICATE_REQUIRED'), 'A client certificate is required', 403),
  /** 403: the certificate was not issued by a client CA of the server. */
  certificateUntrusted: createError(code('CERTIFICATE_UNTRUSTED'), 'The client certificate is not trusted', 403),
  /** 403: now is after the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateExpired: createError(code('CERTIFICATE_EXPIRED'), 'The client certificate has expired', 403),
  /** 403: now is before the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateNotYetValid: createError(code('CERTIFICATE_NOT_YET_VALID'), 'The client certificate is not valid yet', 403),
  /** 403: a CRL lists the certificate (RFC 5280 §5). */
  certificateRevoked: createError(code('CERTIFICATE_REVOKED'), 'The client certificate has been revoked', 403),
  /** 403: revocation is checked, and no CRL or OCSP answer is in force for the certificate or one above it (RFC 5280 §6.3). */
  revocationUnknown: createError(code('REVOCATION_UNKNOWN'), 'It is not known whether the client certificate has been revoked', 403),
  /** 403: the certificate is valid, and the rules of the route do not admit whoever holds it. */
  certificateNotAllowed: createError(code('CERTIFICATE_NOT_ALLOWED'), 'The holder of this client certificate is not allowed here', 403),
  /** 403: wrong purpose, malformed, or anything else that verification found. */
  certificateInvalid: createError(code('CERTIFICATE_INVALID'), 'The client certificate is not valid', 403),
  /**
   * 421 (RFC 9110 §15.5.20): the connection was made for a host with other client CAs than those of the host that the
   * request names; or only a full handshake can tell whether the certificate counts by now. A client may try again on a
   * new connection.
   */
  misdirected: createError(code('MISDIRECTED'), 'This connection does not serve this request any more; try again on a new one', 421),
  /**
   * 425 (RFC 8470 §5.2): a proxy has forwarded this request from TLS early data, which an attacker can replay, and the
   * request needs a certificate or changes something. The proxy or client sends it again once the handshake is done.
   */
  tooEarly: createError(code('TOO_EARLY'), 'This request came in TLS early data, which anyone can replay; send it again after the handshake', 425),
  /**
   * 503: the route is reached over HTTPS only, for which the server has no certificate yet: a CA has still to issue the first one
   * (`fastify-http-security/acme`).
   */
  certificatePending: createError(code('CERTIFICATE_PENDING'), 'HTTPS is required, and has no certificate yet; try again later', 503),
  /** 403: this plugin has no level for the route, so that every request is refused. */
  unknownRoute: createError(code('UNKNOWN_ROUTE'), 'The security level of this route is not known', 403),
  /**
   * 400: a malformed request target; a Host that is malformed, is not one of ours, or differs from `:authority`
   * (RFC 9110 §7.2, RFC 9113 §8.3.1); a forwarded certificate that is there twice, or is not exactly one.
   */
  badRequest: createError(code('BAD_REQUEST'), 'The target, the host or the forwarded certificate of this request is not valid', 400)
} as const

export type Refusal = keyof typeof refusals

/**
 * The `code` of every error of this package. The first group answers requests; the second is thrown at boot, by
 * `app.httpSecurity.enforce` or by `fastify-http-security/tls`; the third where a document is written. docs/errors.md explains each code.
 *
 * @example
 * app.setErrorHandler((error: FastifyError, request, reply) => {
 *   const required: HttpSecurityErrorCode = 'FST_HTTP_SECURITY_CERTIFICATE_REQUIRED'
 *   reply.send(error.code === required ? { message: 'Choose your certificate' } : error)
 * })
 */
export type HttpSecurityErrorCode = `FST_HTTP_SECURITY_${
  | 'TLS_REQUIRED' | 'CERTIFICATE_REQUIRED' | 'CERTIFICATE_UNTRUSTED' | 'CERTIFICATE_EXPIRED' | 'CERTIFICATE_NOT_YET_VALID'
  | 'CERTIFICATE_REVOKED' | 'REVOCATION_UNKNOWN' | 'CERTIFICATE_INVALID' | 'CERTIFICATE_NOT_ALLOWED' | 'MISDIRECTED' | 'TOO_EARLY' | 'CERTIFICATE_PENDING' | 'UNKNOWN_ROUTE' | 'BAD_REQUEST'
  | 'INVALID_OPTIONS' | 'NO_EFFECT' | 'LOADED_LATE' | 'UNSATISFIABLE' | 'DEVELOPMENT_CERTIFICATES' | 'INVALID_POLICY' | 'INVALID_CLIENTS' | 'INVALID_CERTIFICATES'
  | 'CONFLICT' | 'NOT_SAVED'}`

/** The code of each refusal, which report mode counts by, too. By its name: an error that is made only to be asked has a stack, which takes time at every start. */
export const codeOf = Object.fromEntries(Object.keys(refusals).map((refusal) => [refusal, code(refusal.replace(/[A-Z]/g, '_$&').toUpperCase())])) as Readonly<Record<Refusal, HttpSecurityErrorCode>>

/** Not an error: counted where a peer that is not in `proxy.trust` sends the header of a client certificate. */
export const HEADER_IGNORED = code('HEADER_IGNORED')

/** A wrong option or declaration. The message names the option, route or flow, the value, and what is allowed. */
export const InvalidOptionsError = createError(code('INVALID_OPTIONS'), '%s', 500, TypeError)
/** `httpSecurity` was given where Fastify would ignore it, was changed after it was read, or the plugin was registered twice. */
export const NoEffectError = createError(code('NO_EFFECT'), '%s', 500)
/** Routes, a not-found handler, a hook or a plugin came before the plugin had loaded. */
export const LoadedLateError = createError(code('LOADED_LATE'), '%s', 500)
/** A level that this server can never deliver. */
export const UnsatisfiableError = createError(code('UNSATISFIABLE'), '%s', 500)
/** Development certificates were asked for in production, or cannot be made. */
export const DevelopmentCertificatesError = createError(code('DEVELOPMENT_CERTIFICATES'), '%s', 500)
/** A wrong policy, or one that this server cannot meet. The message names the file or source, and what is wrong. */
export const InvalidPolicyError = createError(code('INVALID_POLICY'), '%s', 500, TypeError)
/** A wrong clients document. The message names the file or source, the client, and what is wrong. */
export const InvalidClientsError = createError(code('INVALID_CLIENTS'), '%s', 500, TypeError)
/** 409: what is stored is not what the writer has seen. Nothing was written. */
export const ConflictError = createError(code('CONFLICT'), '%s', 409)
/** A document that cannot be written, or could not, and is as it was. The message says why. */
export const NotSavedError = createError(code('NOT_SAVED'), '%s', 500)
/** Certificates, keys, client CAs or CRLs that cannot be used. The message names the file. */
export const InvalidCertificatesError = createError(code('INVALID_CERTIFICATES'), '%s', 500)
