/**
 * Every error of this package: one stable code each, made with `@fastify/error`.
 *
 * The first group answers requests, the second one stops a boot. README.md explains each code.
 */
import createError from '@fastify/error'

const code = <Name extends string>(name: Name): `FST_HTTP_SECURITY_${Name}` => `FST_HTTP_SECURITY_${name}`

/** Answers to requests. What is wrong with a certificate goes to the log; the body says no more than code and message. */
export const refusals = {
  /** 403: the route is reached over HTTPS only, and this request cannot be redirected. */
  tlsRequired: createError(code('TLS_REQUIRED'), 'HTTPS is required', 403),
  /** 403: the route asks for a client certificate and none was presented. */
  certificateRequired: createError(code('CERTIFICATE_REQUIRED'), 'A client certificate is required', 403),
  /** 403: the certificate was not issued by an authority that the server trusts for clients. */
  certificateUntrusted: createError(code('CERTIFICATE_UNTRUSTED'), 'The client certificate is not trusted', 403),
  /** 403: now is after the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateExpired: createError(code('CERTIFICATE_EXPIRED'), 'The client certificate has expired', 403),
  /** 403: now is before the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateNotYetValid: createError(code('CERTIFICATE_NOT_YET_VALID'), 'The client certificate is not valid yet', 403),
  /** 403: a revocation list names the certificate (RFC 5280 §5). */
  certificateRevoked: createError(code('CERTIFICATE_REVOKED'), 'The client certificate has been revoked', 403),
  /** 403: revocation is checked, and no CRL or OCSP answer is in force for the certificate or one above it (RFC 5280 §6.3). */
  revocationUnknown: createError(code('REVOCATION_UNKNOWN'), 'It is not known whether the client certificate has been revoked', 403),
  /** 403: wrong purpose, malformed, or anything else that verification found. */
  certificateInvalid: createError(code('CERTIFICATE_INVALID'), 'The client certificate is not valid', 403),
  /**
   * 421 (RFC 9110 §15.5.20): the clients of the host that the request names could not have been asked for on this
   * connection; or only a full handshake can tell whether the client counts by now. A client may try again on a new
   * connection.
   */
  misdirected: createError(code('MISDIRECTED'), 'This connection does not serve this request any more; try again on a new one', 421),
  /**
   * 425 (RFC 8470 §5.2): a proxy has forwarded this request from TLS early data, which anyone can send again, and it
   * needs a certificate or changes something. A proxy or client sends it again once the handshake is done.
   */
  tooEarly: createError(code('TOO_EARLY'), 'This request came in TLS early data, which anyone can replay; send it again after the handshake', 425),
  /** 403: this plugin has no level for the route, so nobody may pass. */
  unknownRoute: createError(code('UNKNOWN_ROUTE'), 'The security level of this route is not known', 403),
  /**
   * 400: a request target that is none; a Host that is no host, is not one of ours, or differs from `:authority`
   * (RFC 9110 §7.2, RFC 9113 §8.3.1); a forwarded certificate that is there twice, or is not exactly one.
   */
  badRequest: createError(code('BAD_REQUEST'), 'The target, the host or the forwarded certificate of this request is not valid', 400)
} as const

export type Refusal = keyof typeof refusals

/** What a refusal is called, also where nothing is refused. */
export const codeOf = Object.fromEntries(Object.entries(refusals).map(([refusal, Type]) => [refusal, new Type().code])) as unknown as { readonly [Name in Refusal]: `FST_HTTP_SECURITY_${string}` }

/** No answer to anybody: what is counted where a peer that is not in `proxy.trust` says which certificate a client has. */
export const HEADER_IGNORED = code('HEADER_IGNORED')

/** A declaration that cannot be right: names the route or flow, the value, and what is allowed. */
export const InvalidOptionsError = createError(code('INVALID_OPTIONS'), '%s', 500, TypeError)
/** `httpSecurity` was given where Fastify would ignore it. */
export const NoEffectError = createError(code('NO_EFFECT'), '%s', 500)
/** Routes were declared before the plugin had loaded. */
export const LoadedLateError = createError(code('LOADED_LATE'), '%s', 500)
/** A level that this server can never deliver. */
export const UnsatisfiableError = createError(code('UNSATISFIABLE'), '%s', 500)
/** Development certificates were asked for where they must not be, or cannot be made. */
export const DevelopmentCertificatesError = createError(code('DEVELOPMENT_CERTIFICATES'), '%s', 500)
/** A policy that cannot be: names the file or source, what is wrong, and what is allowed. */
export const InvalidPolicyError = createError(code('INVALID_POLICY'), '%s', 500, TypeError)
/** Certificates, keys, authorities or revocation lists for the server that cannot be used; names the file. */
export const InvalidCertificatesError = createError(code('INVALID_CERTIFICATES'), '%s', 500)
