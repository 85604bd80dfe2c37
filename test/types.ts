/**
 * Type tests: compiled by `npm run types`, never run. Every `@ts-expect-error` has to be one.
 */
import Fastify from 'fastify'
import type { X509Certificate } from 'node:crypto'
import { expectTypeOf } from 'expect-type'
import type { Static } from 'typebox'
import httpSecurity, { type CertificateDetails, type Client, type ClientDefinition, type Declaration, type CertificateValueKey, type HttpSecurityErrorCode, type HttpSecurityOptions, type Kind, type Level, type ProxyOptions, type RouteSecurity } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { type CertificateOptions, type ClientCertificatesOptions, enableTls, type WatchedSource } from '../lib/tls/index.ts'
import type { DeclarationSchema, PluginOptionsSchema } from '../lib/options/schema.ts'

const app = Fastify({ https: {} })
const handler = async (): Promise<string> => 'x'
const flow = async (): Promise<void> => {}

// On routes.
app.get('/', { httpSecurity: 'tls' }, handler)
app.get('/', { httpSecurity: { kind: 'screen' } }, handler)
app.route({ method: 'GET', url: '/', httpSecurity: { level: 'mtls', kind: 'soap' }, handler })
// @ts-expect-error no such level
app.get('/', { httpSecurity: 'tsl' }, handler)
// @ts-expect-error a number is no level
app.get('/', { httpSecurity: 42 }, handler)
// @ts-expect-error no such kind
app.get('/', { httpSecurity: { kind: 'page' } }, handler)
// @ts-expect-error no such part
app.get('/', { httpSecurity: { lvel: 'tls' } }, handler)
// @ts-expect-error no such level
app.route({ method: 'GET', url: '/', httpSecurity: 'tsl', handler })
// @ts-expect-error a number is no level
app.route({ method: 'GET', url: '/', httpSecurity: 42, handler })

// In their config.
app.get('/', { config: { httpSecurity: 'mtls' } }, handler)
app.get('/', { config: { httpSecurity: { level: 'mtls', kind: 'rest' } } }, handler)
// @ts-expect-error no such level
app.get('/', { config: { httpSecurity: 'tsl' } }, handler)
// @ts-expect-error a number is no level
app.get('/', { config: { httpSecurity: 42 } }, handler)
// @ts-expect-error no such level
app.route({ method: 'GET', url: '/', config: { httpSecurity: 'tsl' }, handler })

// Rules.
app.get('/', { httpSecurity: { level: 'mtls', allow: ['acme', { group: 'writers' }, { subject: { CN: ['orders', 'invoices'] }, issuedBy: 'partners' }] } }, handler)
app.get('/', { httpSecurity: { level: 'mtls', verify: (certificate, request) => certificate?.subject === request.url } }, handler)
app.get('/', { httpSecurity: { level: 'mtls', verify: async () => true } }, handler)
// @ts-expect-error no list
app.get('/', { httpSecurity: { level: 'mtls', allow: 'acme' } }, handler)
// @ts-expect-error a number is no client
app.get('/', { httpSecurity: { level: 'mtls', allow: [42] } }, handler)
// @ts-expect-error a group is one
app.get('/', { httpSecurity: { level: 'mtls', allow: [{ group: ['writers'] }] } }, handler)
// @ts-expect-error no such part
app.get('/', { httpSecurity: { level: 'mtls', allow: [{ commonName: 'orders' }] } }, handler)
// @ts-expect-error no such attribute
app.get('/', { httpSecurity: { level: 'mtls', allow: [{ subject: { cn: 'orders' } }] } }, handler)
// @ts-expect-error a name is not one text
app.get('/', { httpSecurity: { level: 'mtls', allow: [{ subject: 'CN=orders' }] } }, handler)
// @ts-expect-error no function
app.get('/', { httpSecurity: { level: 'mtls', verify: true } }, handler)
// @ts-expect-error there may be no certificate
app.get('/', { httpSecurity: { level: 'mtls', verify: (certificate) => certificate.subject === '' } }, handler)
// @ts-expect-error a number is no client
app.register(flow, { httpSecurity: { level: 'mtls', allow: [42] } })

// On register.
app.register(flow, { prefix: '/x', httpSecurity: 'mtls' })
app.register(flow, { httpSecurity: { level: 'mtls', kind: 'rest' } })
// @ts-expect-error no such level
app.register(flow, { httpSecurity: 'tsl' })
// @ts-expect-error a number is no level
app.register(flow, { httpSecurity: 42 })
// @ts-expect-error no such kind
app.register(flow, { httpSecurity: { kind: 'page' } })

// The plugin.
app.register(httpSecurity)
app.register(httpSecurity, { default: 'none', flows: { '/a': 'tls', '/b': { kind: 'rest' } }, minimum: 'tls', helmet: { xFrameOptions: false } })
// @ts-expect-error no such level
app.register(httpSecurity, { minimum: 'tsl' })
// @ts-expect-error no such option
app.register(httpSecurity, { flow: {} })
app.register(httpSecurity, { clients: 'clients.json', proxy: { trust: ['10.0.0.1', { client: 'edge', from: ['10.0.0.0/8'] }] } })
// @ts-expect-error a certificate alone is not enough
app.register(httpSecurity, { proxy: { trust: { client: 'edge' } } })
// @ts-expect-error trusting everybody is no option
app.register(httpSecurity, { proxy: { trust: true } })
// @ts-expect-error nor is a number of hops
app.register(httpSecurity, { proxy: { trust: 1 } })

// Clients.
app.register(httpSecurity, { clients: 'clients.json' })
app.register(httpSecurity, { clients: { clients: { acme: { groups: ['writers'], suspended: true, certificates: [{ serialNumber: '05', issuer: { CN: 'Partners' } }] } } } })
app.register(httpSecurity, { clients: { load: async () => ({}), watch: (changed) => { changed(); return () => {} }, save: async ({ clients }, expected) => { expectTypeOf(clients.acme).toEqualTypeOf<ClientDefinition>(); expectTypeOf(expected).toEqualTypeOf<string>() } } })
// @ts-expect-error no names
app.register(httpSecurity, { clients: { acme: { certificates: [{ san: 'DNS:a.test' }] } } })
// @ts-expect-error no certificates
app.register(httpSecurity, { clients: { clients: { acme: { groups: ['writers'] } } } })
// @ts-expect-error no such part of a client
app.register(httpSecurity, { clients: { clients: { acme: { certificates: [{ san: 'DNS:a.test' }], group: 'writers' } } } })
// @ts-expect-error no such part of an entry
app.register(httpSecurity, { clients: { clients: { acme: { certificates: [{ fingerprint: 'ab' }] } } } })
// @ts-expect-error one alternative name
app.register(httpSecurity, { clients: { clients: { acme: { certificates: [{ san: ['DNS:a.test'] }] } } } })

// What it adds.
app.get('/', async (request) => {
  expectTypeOf(request.httpSecurity).toEqualTypeOf<{ readonly secure: boolean, readonly level: Level, readonly kind: Kind | undefined, readonly client: Client | null }>()
  expectTypeOf(request.clientCertificate).toEqualTypeOf<X509Certificate | null>()
  expectTypeOf(request.clientCertificateGetDetails()).toEqualTypeOf<CertificateDetails>()
  expectTypeOf(request.clientCertificateValue('SubjectCN')).toEqualTypeOf<string>()
  expectTypeOf(request.clientCertificateValue('any other')).toEqualTypeOf<string>()
  expectTypeOf<'ServerIssuerEmail' | 'SAN:DNS'>().toExtend<CertificateValueKey>()
  // @ts-expect-error read only
  request.httpSecurity.level = 'none'
})
expectTypeOf(app.httpSecurity.routes()).toEqualTypeOf<readonly RouteSecurity[]>()
expectTypeOf<'FST_HTTP_SECURITY_TLS_REQUIRED'>().toExtend<HttpSecurityErrorCode>()
// @ts-expect-error no such code
expectTypeOf<'FST_HTTP_SECURITY_TLS_REQUIERD'>().toExtend<HttpSecurityErrorCode>()
expectTypeOf(app.httpSecurity.print()).toEqualTypeOf<string>()

// `inject` takes any instance.
expectTypeOf(inject(Fastify({ http2: true }), '/')).toExtend<Promise<{ statusCode: number }>>()
expectTypeOf(inject(Fastify({ https: {} }), { url: '/', secure: true })).toExtend<Promise<{ statusCode: number }>>()
expectTypeOf(inject(Fastify(), { url: '/', client: 'acme' })).toExtend<Promise<{ statusCode: number }>>()

// Client CAs with and without labels.
expectTypeOf<string | Array<string | Buffer> | { partners: string, staff: Array<string | Buffer> }>().toExtend<NonNullable<ProxyOptions['ca']>>()
expectTypeOf<string | Array<string | Buffer> | { partners: string, staff: Array<string | Buffer> }>().toExtend<ClientCertificatesOptions['ca']>()
expectTypeOf<{ partners: number }>().not.toExtend<ClientCertificatesOptions['ca']>()

// A header with a value, or one whose presence counts.
expectTypeOf<'azure' | { header: 'x-forwarded-ssl', value: 'on' } | { header: 'x-arr-ssl', present: true }>().toExtend<NonNullable<ProxyOptions['protocol']>>()
expectTypeOf<{ header: 'x-forwarded-ssl' }>().not.toExtend<NonNullable<ProxyOptions['protocol']>>()
expectTypeOf<{ header: 'x-arr-ssl', value: 'on', present: true }>().not.toExtend<NonNullable<ProxyOptions['protocol']>>()
expectTypeOf<{ header: 'x-arr-ssl', present: false }>().not.toExtend<NonNullable<ProxyOptions['protocol']>>()

/** What the schema only says the kind of, and others check. */
type Loosely = 'helmet' | 'tls' | 'policy' | 'clients' | 'onViolation' | 'proxy' | 'default' | 'flows'
/** The same of declarations: a function, and entries that code checks. */
type LooselyOfRules = 'allow' | 'verify'
/** The same of `proxy`: bytes are objects there; a protocol's header has a value, or `present`. */
type LooselyOfProxy = 'ca' | 'crl' | 'protocol'
type ProxyOfSchema = NonNullable<Static<typeof PluginOptionsSchema>['proxy']>

// The public types say what the schemas check.
type DeclarationOfSchema = Exclude<Static<typeof DeclarationSchema>, string>
expectTypeOf<keyof DeclarationOfSchema>().toEqualTypeOf<keyof Declaration>()
expectTypeOf<Omit<DeclarationOfSchema, LooselyOfRules>>().toExtend<Omit<Declaration, LooselyOfRules>>()
expectTypeOf<Omit<Declaration, LooselyOfRules>>().toExtend<Omit<DeclarationOfSchema, LooselyOfRules>>()
expectTypeOf<keyof Static<typeof PluginOptionsSchema>>().toEqualTypeOf<keyof HttpSecurityOptions>()
expectTypeOf<Omit<HttpSecurityOptions, Loosely>>().toExtend<Omit<Static<typeof PluginOptionsSchema>, Loosely>>()
expectTypeOf<Omit<Static<typeof PluginOptionsSchema>, Loosely>>().toExtend<Omit<HttpSecurityOptions, Loosely>>()
expectTypeOf<keyof ProxyOfSchema>().toEqualTypeOf<keyof ProxyOptions>()
expectTypeOf<Omit<ProxyOptions, LooselyOfProxy>>().toExtend<Omit<ProxyOfSchema, LooselyOfProxy>>()
expectTypeOf<Omit<ProxyOfSchema, LooselyOfProxy>>().toExtend<Omit<ProxyOptions, LooselyOfProxy>>()

// Certificates.
enableTls({ certificates: { load: async () => ({ cert: 'shop.pem', key: 'shop.key' }), watch: (changed) => { changed(); return () => {} } } })
enableTls({ certificates: { load: async () => [{ pfx: Buffer.from(''), passphrase: undefined }] satisfies CertificateOptions[] } satisfies WatchedSource<CertificateOptions[]> })
// @ts-expect-error no certificates
enableTls({ certificates: { load: async () => ['shop.pem'] } })
