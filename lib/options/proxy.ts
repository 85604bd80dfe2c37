/**
 * Validates and resolves the option `proxy`: which peers are trusted, and which of their headers count. Begin with
 * {@link resolveProxy}.
 */
import type { ForwardedCertificateOptions, ProxyClientOptions, ProxyOptions } from '../../types/index.ts'
import { isName } from '../clients/rules.ts'
import { InvalidOptionsError } from '../errors.ts'
import type { CertificateHeaders } from '../proxy/forwarded-certificate.ts'
import type { ForwardedProtocol } from '../proxy/forwarded-protocol.ts'
import { certificateHeaderNames, isDescription, KNOWN_PROTOCOLS, PRESETS, type ProtocolHeader, PROTOCOLS } from '../proxy/presets.ts'
import { MOST_MINUTES, parseProbeToken, type ProbeToken } from '../proxy/probe-token.ts'
import { compileTrust, type PeerTrust } from '../proxy/trusted-peers.ts'
import { resolveTrustOptions, type TrustOptions } from '../trust/options.ts'
import { show, SUBJECT } from './validation-errors.ts'

/** The resolved option `proxy`. */
export interface Proxy {
  /** By its address alone. */
  readonly trusts: PeerTrust
  /** Proxies that prove themselves by their own certificates. */
  readonly clients: readonly ProxyClient[]
  readonly protocol: ForwardedProtocol
  readonly host: 'host' | 'x-forwarded-host'
  /** How client certificates are forwarded, if they are. */
  readonly certificate: CertificateHeaders | undefined
  /** The client CAs, for `verified: 'here'`. */
  readonly authorities: TrustOptions | undefined
  /** It may have expired. */
  readonly probe: ProbeToken | undefined
}

/** A proxy that proves itself by the certificate of its own connection, and comes from one of these addresses. */
export interface ProxyClient {
  /** Its name in the clients document. */
  readonly name: string
  readonly from: PeerTrust
}

/**
 * @param options that fit the schema
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS
 */
export function resolveProxy (options: ProxyOptions): Proxy {
  const certificate = options.certificate === undefined ? undefined : resolveCertificate(options.certificate)
  return Object.freeze({
    ...resolveTrust(options.trust),
    protocol: resolveProtocol(options, certificate),
    host: options.host ?? 'host',
    certificate,
    authorities: resolveAuthorities(options, certificate),
    probe: resolveProbe(options.probe)
  })
}

/** RFC 9110 §5.1, in lower case, without `_`: some proxies and servers read `x_client_cert` as `x-client-cert`. */
const HEADER = /^[a-z0-9]+(?:-[a-z0-9]+)*$/

/** Headers that have another meaning, that Node keeps one line of, or that have values of both proxies and clients. */
const RESERVED: ReadonlySet<string> = new Set([
  'accept', 'authorization', 'connection', 'content-length', 'content-type', 'cookie', 'early-data', 'forwarded', 'host', 'origin',
  'set-cookie', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'user-agent', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'
])

function resolveCertificate (option: NonNullable<ProxyOptions['certificate']>): CertificateHeaders {
  const { header, encoding, verified, hops = 1, fingerprint }: ForwardedCertificateOptions = typeof option === 'string' ? PRESETS[option] : option
  if (hops !== 1 && encoding !== 'xfcc') throw invalid(`certificate: hops: ${hops} has no effect; allowed: 1, or encoding 'xfcc'`)
  if (verified === 'here' && isDescription(encoding)) throw invalid(`certificate: verified: 'here' needs the certificate itself, and encoding '${encoding}' only describes it; allowed: 'presence', or the header with the proxy's verdict`)
  if (fingerprint !== undefined && encoding !== 'dn') throw invalid(`certificate: fingerprint: ${show(fingerprint)} has no effect: it is known from what encoding '${encoding}' has; allowed: with encoding 'dn'`)
  const name = resolveHeader(header, 'header')
  const beside = fingerprint === undefined ? undefined : resolveHeader(fingerprint, 'fingerprint')
  if (beside === name) throw invalid(`certificate: fingerprint: ${show(beside)} is the header of the name itself`)
  const resolved = { header: name, encoding, hops, ...beside !== undefined && { fingerprint: beside } }
  if (typeof verified === 'string') return Object.freeze({ ...resolved, verified })
  const verdict = resolveHeader(verified.header, 'verified: header')
  // An empty value is what proxies send for a client without certificate.
  if (verified.value === '') throw invalid("certificate: verified: value: '' is not allowed; allowed: what the proxy says of a valid certificate, such as 'SUCCESS'")
  if (verdict === name) throw invalid(`certificate: verified: header: ${show(verdict)} is the header of the certificate itself`)
  if (verdict === beside) throw invalid(`certificate: verified: header: ${show(verdict)} is the header of the fingerprint`)
  return Object.freeze({ ...resolved, verified: Object.freeze({ header: verdict, value: verified.value }) })
}

function resolveHeader (header: string, where: string, option = 'certificate', example = 'x-client-cert'): string {
  const name = header.toLowerCase()
  if (HEADER.test(name) && !RESERVED.has(name)) return name
  throw invalid(`${option}: ${where}: ${show(header)} is not allowed; allowed: a header of its own, of letters, digits and hyphens, such as ${show(example)}`)
}

/** RFC 9110 §5.6.2: without comma or space, which lists are made of. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

function resolveProtocol ({ protocol = 'x-forwarded-proto', hops }: ProxyOptions, certificate: CertificateHeaders | undefined): ForwardedProtocol {
  const { header, value }: ProtocolHeader = typeof protocol === 'string' ? PROTOCOLS[protocol] : resolveProtocolHeader(protocol)
  // Envoy leaves its header out where a client has no certificate. Others may say there that it has none, over HTTP, too.
  const isOfEnvoy = value === undefined && header === certificate?.header && certificate.encoding.startsWith('xfcc')
  if (certificate !== undefined && !isOfEnvoy && certificateHeaderNames(certificate).includes(header)) throw invalid(`protocol: ${show(header)} is a header of the certificate`)
  if (hops !== undefined && value === undefined) throw invalid(`hops: ${hops} has no effect: ${header} is there or not, and is no list; allowed: a protocol with values`)
  return Object.freeze({ header, value, hops })
}

function resolveProtocolHeader ({ header, value, present }: ProtocolHeader): ProtocolHeader {
  if ((value === undefined) === (present === undefined)) throw invalid('protocol: allowed: either value, what the header says for HTTPS, or present: true, where it is there for HTTPS alone')
  const expected = value?.toLowerCase()
  if (header.toLowerCase() === 'x-forwarded-proto' && expected === 'https') return PROTOCOLS['x-forwarded-proto']
  const name = resolveHeader(header, 'header', 'protocol', 'x-forwarded-ssl')
  if (value !== undefined && !TOKEN.test(value)) throw invalid(`protocol: value: ${show(value)} is not allowed; allowed: what the proxy says of HTTPS, without comma or space, such as 'on'`)
  const known = KNOWN_PROTOCOLS.find((one) => one.header === name)
  // A proxy says `off` or `http` there.
  if (value === undefined && known?.value !== undefined) throw invalid(`protocol: present: ${name} may be there for plain HTTP, too; allowed: ${known.option}`)
  return { header: name, value: expected }
}

function resolveAuthorities ({ ca, crl, ocsp, unknown, dir, allow }: ProxyOptions, certificate: CertificateHeaders | undefined): Proxy['authorities'] {
  const isVerifiedHere = certificate?.verified === 'here'
  if (isVerifiedHere && ca === undefined) {
    throw invalid("ca is missing: set it to the authorities that issue client certificates. This application verifies these certificates itself (verified: 'here'), since the proxy forwards no verdict that could be relied on")
  }
  const given = Object.fromEntries(Object.entries({ ca, crl, ocsp, unknown, dir, allow }).filter(([, value]) => value !== undefined))
  const [option] = Object.keys(given)
  if (!isVerifiedHere && option !== undefined) {
    if (certificate === undefined) throw invalid(`${option} has no effect: certificate is missing, which says how the proxy forwards them`)
    throw invalid(`${option} has no effect: the proxy verifies these certificates. To have it done by this application, spell certificate out with verified: 'here'`)
  }
  return ca === undefined ? undefined : resolveTrustOptions({ ...given, ca }, `${SUBJECT}: proxy`)
}

const nobody: PeerTrust = () => false

function resolveTrust (trust: ProxyOptions['trust']): Pick<Proxy, 'trusts' | 'clients'> {
  const items = Array.isArray(trust) ? trust : [trust]
  const addresses = items.filter((item) => typeof item === 'string')
  const clients = items.filter((item) => typeof item !== 'string')
  return {
    // An empty list is an error, too.
    trusts: addresses.length === 0 && clients.length > 0 ? nobody : resolveAddresses(addresses, 'trust', clients.length > 0 ? addresses : trust),
    clients: Object.freeze(clients.map(resolveProxyClient))
  }
}

function resolveProxyClient ({ client, from }: ProxyClientOptions): ProxyClient {
  if (!isName(client)) throw invalid(`trust: client: ${show(client)} is not allowed; allowed: the name of a client in the clients document`)
  return Object.freeze({ name: client, from: resolveAddresses([from].flat(), `trust: client ${show(client)}: from`, from) })
}

function resolveAddresses (addresses: readonly string[], where: string, shown: unknown): PeerTrust {
  try {
    return compileTrust(addresses)
  } catch (cause) {
    const others = where === 'trust' ? ' or { client, from }, a proxy that proves itself by its own certificate,' : ''
    throw invalid(`${where}: ${show(shown)} is not allowed (${(cause as Error).message}); allowed: an IP address, a CIDR range (but not everybody: /0), 'loopback', 'linklocal', 'uniquelocal', 'unix',${others} or an array of these`)
  }
}

/** The messages do not contain the token: it is a secret, and errors end up in logs. */
function resolveProbe (text: string | undefined): ProbeToken | undefined {
  // An environment variable that is set, but empty.
  if (text === undefined || text === '') return undefined
  const token = parseProbeToken(text)
  if (token === undefined) throw invalid('probe: this is no token; allowed: what `npx fastify-http-security probe-token` prints')
  if (token.expires > Date.now() + MOST_MINUTES * 60_000) throw invalid('probe: this token expires more than 24 hours from now, when nobody remembers it; make another one with `npx fastify-http-security probe-token`')
  return token
}

function invalid (reason: string): Error {
  return new InvalidOptionsError(`${SUBJECT}: proxy: ${reason}`)
}
