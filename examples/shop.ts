/**
 * A shop with pages for everybody, an API with a part for partners, and a SOAP service for the warehouse. Who the partners are,
 * and which of them may write, is in clients.json, which may be changed while it runs.
 *
 * `npm start` runs it on http://127.0.0.1:8080 and https://127.0.0.1:8443; HTTP_PORT and HTTPS_PORT change them.
 */
import { join } from 'node:path'
import Fastify, { LogController } from 'fastify'
import httpSecurity from 'fastify-http-security'
import { enableTls } from 'fastify-http-security/tls'

// In production: { certificates: { cert, key }, clientCertificates: { ca } }
const tls = await enableTls({ development: { clients: ['acme', 'globex'] } })
// On stderr, and without a line for each request: what the plugin has to say stays readable beside the curl lines below.
const app = Fastify({ https: tls.https, logger: { stream: process.stderr }, logController: new LogController({ disableRequestLogging: true }) })

await app.register(httpSecurity, {
  tls,
  clients: join(import.meta.dirname, 'clients.json'),
  flows: {
    '/shop': { level: 'tls', kind: 'screen' },
    '/api': { level: 'tls', kind: 'rest' },
    '/api/partners': { level: 'mtls', allow: ['acme', 'globex'] }
  }
})

// A flow of screens, by prefix. Asked for over HTTP, browsers are sent to HTTPS.
app.get('/', { httpSecurity: { kind: 'screen' } }, async (_request, reply) => reply.redirect('/shop'))
app.get('/shop', async (_request, reply) => reply.type('text/html').send('<h1>The shop</h1>\n<a href="/shop/cart">Cart</a>\n'))
app.get('/shop/cart', async (_request, reply) => reply.type('text/html').send('<h1>Your cart</h1>\n'))

// A REST API. Its part for partners asks for a client certificate, and for orders it has to be that of a writer.
app.get('/api/products', async () => [{ id: 1, name: 'Lamp' }])
app.get('/api/partners/me', async (request) => ({
  who: request.httpSecurity.client,
  certificate: request.clientCertificateGetDetails()
}))
app.post('/api/partners/orders', { httpSecurity: { allow: [{ group: 'writers' }] } }, async (request, reply) =>
  reply.code(201).send({ orderedBy: request.clientCertificateValue('Client') }))

// A SOAP service, as a flow by `register`. Refusals are SOAP faults.
app.register(async (warehouse) => {
  warehouse.addContentTypeParser(['text/xml', 'application/soap+xml'], { parseAs: 'string' }, (_request, body, done) => done(null, body))
  warehouse.post('/orders', async (_request, reply) => reply.type('text/xml').send(
    '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><orders/></soap:Body></soap:Envelope>\n'))
}, { prefix: '/soap', httpSecurity: { level: 'tls', kind: 'soap' } })

// For the load balancer, which speaks plain HTTP. Without a kind, a policy that forces pages would refuse it.
app.get('/health', { httpSecurity: { level: 'none', kind: 'rest' } }, async () => ({ status: 'ok' }))

const ports = await tls.listen(app, { http: Number(process.env.HTTP_PORT ?? 8080), https: Number(process.env.HTTPS_PORT ?? 8443) })
  .catch((error: Error) => {
    console.error(`${error.message}\nHTTP_PORT and HTTPS_PORT choose other ports: HTTP_PORT=8081 HTTPS_PORT=8444 npm start`)
    process.exit(1)
  })
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => app.close())

const { files: { ca, clients: { acme, globex } }, trust } = tls.development!
const asAcme = `--cacert '${ca}' --cert '${acme!.cert}' --key '${acme!.key}'`
const asGlobex = `--cacert '${ca}' --cert '${globex!.cert}' --key '${globex!.key}'`
const http = `http://127.0.0.1:${ports.http!.port}`
const https = `https://127.0.0.1:${ports.https.port}`
console.log(`
${trust}
${app.httpSecurity.print()}
Listening on ${http} and ${https}. Paste these, one at a time:

A page over HTTP is sent to HTTPS:
curl -si ${http}/shop

The page over HTTPS:
curl -si --cacert '${ca}' ${https}/shop

The partners' API refuses a client without a certificate, and the log says so:
curl -si --cacert '${ca}' ${https}/api/partners/me

The same call with the certificate of acme, and of globex:
curl -si ${asAcme} ${https}/api/partners/me
curl -si ${asGlobex} ${https}/api/partners/me

Acme may order, too. Globex may not, and the log says whom the rule admits:
curl -si -X POST ${asAcme} ${https}/api/partners/orders
curl -si -X POST ${asGlobex} ${https}/api/partners/orders

A SOAP client over HTTP gets a fault:
curl -si -H 'SOAPAction: "orders"' -H 'Content-Type: text/xml' -d '<orders/>' ${http}/soap/orders

The health check is there for everybody, over HTTP too:
curl -si ${http}/health
`)
