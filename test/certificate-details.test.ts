/**
 * What handlers read of a certificate, over every kind of connection, compared with what the openssl program prints.
 */
import t from 'tap'
import { readFileSync, writeFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { CertificateDetails } from '../lib/index.ts'
import { inject } from '../lib/testing.ts'
import { askHttp2 } from './fixtures/ask.ts'
import { opensslIn } from './fixtures/openssl.ts'
import { makePki, serve } from './fixtures/serve.ts'
import { DAY } from './fixtures/time.ts'
import { tellerIn } from './fixtures/told.ts'
import { certificateValueKeys } from './fixtures/x509.ts'

const dir = t.testdir()
const openssl = opensslIn(dir)
const algorithms: Record<string, string[]> = {
  rsa: ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'],
  ec: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-384'],
  ed25519: ['ED25519']
}
writeFileSync(`${dir}/ext.cnf`, 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\nsubjectAltName=DNS:jane.test,URI:urn:jane,email:jane@acme.test,IP:192.0.2.1\n')

function makeCa (name: string): void {
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/O=Acme/CN=Acme CA', '-keyout', `${name}.key`, '-out', `${name}.pem`)
}
function makeLeaf (name: string, key: string, how: 'valid' | 'expired' | 'self-signed' | 'other-CA'): void {
  openssl('req', '-new', '-key', `${key}.key`, '-utf8', '-subj', '/C=PT/O=Acme, Lda/OU=One/OU=Two/CN=Zoë Doe/emailAddress=zoe@acme.test', '-out', `${name}.csr`)
  const signer = how === 'self-signed' ? ['-signkey', `${key}.key`] : ['-CA', how === 'other-CA' ? 'other.pem' : 'ca.pem', '-CAkey', how === 'other-CA' ? 'other.key' : 'ca.key']
  if (how !== 'expired') openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-set_serial', '0x04a7f302', '-days', '2', '-extfile', 'ext.cnf', '-out', `${name}.pem`)
  else {
    writeFileSync(`${dir}/ca.cnf`, '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\npolicy=p\nunique_subject=no\npreserve=yes\n[p]\ncountryName=supplied\norganizationName=supplied\norganizationalUnitName=supplied\ncommonName=supplied\nemailAddress=supplied\n')
    writeFileSync(`${dir}/index.txt`, '')
    writeFileSync(`${dir}/serial`, '04a7f302\n')
    openssl('ca', '-batch', '-notext', '-config', 'ca.cnf', '-in', `${name}.csr`, '-startdate', '20200101000000Z', '-enddate', '20210101000000Z', '-extfile', 'ext.cnf', '-utf8', '-out', `${name}.pem`)
  }
}

const pki = await makePki()
makeCa('ca')
makeCa('other')
const ca = readFileSync(`${dir}/ca.pem`, 'utf8')

interface Read { details: CertificateDetails, values: Record<string, string>, present: boolean }
function declare (app: FastifyInstance): void {
  app.get('/read', { httpSecurity: 'none' }, async (request): Promise<Read> => ({
    details: request.clientCertificateGetDetails(),
    values: Object.fromEntries(certificateValueKeys.map((key) => [key, request.clientCertificateValue(key)])),
    present: request.clientCertificate !== null
  }))
  app.get('/same', { httpSecurity: 'none' }, async (request) => {
    const details = request.clientCertificateGetDetails()
    details.validFrom?.setFullYear(1970)
    const again = request.clientCertificateGetDetails()
    return { same: details === again, frozen: Object.isFrozen(details), year: again.validFrom?.getFullYear(), lower: request.clientCertificateValue('subjectcn'), upper: request.clientCertificateValue('SUBJECTCN'), odd: [1, null, undefined, {}, '__proto__', 'constructor', 'SubjectXX'].map((key) => request.clientCertificateValue(key as string)) }
  })
}

const told = tellerIn(dir)

for (const isHttp2 of [false, true]) {
  t.test(`certificate details and values agree with openssl, over HTTP/${isHttp2 ? 2 : '1.1'}`, async (t) => {
    const served = await serve(t, pki, declare, { http2: isHttp2, https: { ca } })
    for (const [algorithm, generate] of Object.entries(algorithms)) {
      if (!isHttp2) openssl('genpkey', '-algorithm', ...generate, '-out', `${algorithm}.key`)
      for (const how of ['valid', 'expired', 'self-signed', 'other-CA'] as const) {
        const name = `${algorithm}-${how}`
        if (!isHttp2) makeLeaf(name, algorithm, how)
        const identity = { cert: readFileSync(`${dir}/${name}.pem`, 'utf8'), key: readFileSync(`${dir}/${algorithm}.key`, 'utf8') }
        const body = isHttp2 ? (await askHttp2(served.session(identity), { ':path': '/read' })).body : (await served.secure('/read', identity)).body
        const { details, values, present } = JSON.parse(body) as Read & { details: { validFrom: string, validUntil: string } }
        const [from, until] = [told(name).startdate, told(name).enddate].map((date) => new Date(date))
        t.strictSame(details, {
          isPresent: true,
          isValid: how === 'valid',
          flags: how === 'valid' || how === 'expired' ? 1 : 3,
          cookie: told(name).fingerprint.replaceAll(':', '').toLowerCase(),
          subject: told(name).subject,
          issuer: told(name).issuer,
          serialNumber: told(name).serial.replace(/..(?!$)/g, '$&-'),
          validFrom: from!.toISOString(),
          validUntil: until!.toISOString(),
          serverSubject: 'CN=localhost',
          serverIssuer: 'CN=Test CA'
        }, name)
        t.equal(present, how === 'valid', how)
        if (how !== 'valid') {
          t.strictSame([...new Set(Object.values(values))], [''], `${name}: no value is believed`)
          continue
        }
        const { publicKey } = told(name)
        writeFileSync(`${dir}/public.pem`, publicKey)
        const bits = /\((\d+) bit\)/.exec(openssl('pkey', '-pubin', '-in', 'public.pem', '-noout', '-text_pub'))?.[1] ?? '256'
        t.match(values, {
          isPresent: 'true',
          isValid: 'true',
          flags: '1',
          cookie: details.cookie,
          subject: details.subject,
          issuer: details.issuer,
          serialNumber: details.serialNumber,
          validFrom: from!.toUTCString(),
          validUntil: until!.toUTCString(),
          SubjectC: 'PT',
          SubjectO: 'Acme, Lda',
          SubjectOU: 'One;Two',
          SubjectCN: 'Zoë Doe',
          SubjectE: 'zoe@acme.test',
          SubjectEMAIL: 'zoe@acme.test',
          IssuerO: 'Acme',
          IssuerCN: 'Acme CA',
          ServerSubjectCN: 'localhost',
          ServerIssuerCN: 'Test CA',
          KeySize: bits,
          SecretKeySize: '256',
          Certificate: told(name).certificate.replace(/-----[^-]+-----|\n/g, ''),
          PublicKey: publicKey.replace(/-----[^-]+-----|\n/g, ''),
          Encoding: '1',
          Fingerprint256: told(name).fingerprint,
          'SAN:DNS': 'jane.test',
          'SAN:URI': 'urn:jane',
          'SAN:email': 'jane@acme.test',
          'SAN:IP': '192.0.2.1'
        }, name)
      }
    }
  })
}

t.test('certificate details are worked out once for each request, and frozen', async (t) => {
  const served = await serve(t, pki, declare)
  t.strictSame(JSON.parse((await served.secure('/same', pki.client)).body), { same: true, frozen: true, year: new Date(Date.now() - DAY).getFullYear(), lower: 'Jane', upper: 'Jane', odd: ['', '', '', '', '', '', ''] })
})

t.test('an onResponse hook can still read the client certificate', async (t) => {
  for (const isHttp2 of [false, true]) {
    const logged: unknown[] = []
    const served = await serve(t, pki, (app) => {
      app.addHook('onResponse', async (request) => { logged.push([request.clientCertificateValue('SubjectCN'), request.clientCertificateGetDetails().isValid, request.httpSecurity.secure]) })
      declare(app)
      app.get('/mtls', { httpSecurity: 'mtls' }, async () => 'x')
    }, { http2: isHttp2 })
    const session = isHttp2 ? served.session(pki.client) : undefined
    for (const path of ['/read', '/mtls', '/unknown']) {
      if (session === undefined) await served.secure(path, pki.client)
      else await askHttp2(session, { ':path': path })
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.strictSame(logged, Array(3).fill(['Jane', true, true]), isHttp2 ? 'HTTP/2' : 'HTTP/1.1')
  }
})

t.test('certificate details are absent over plain HTTP, over HTTPS without a certificate, and for injected requests', async (t) => {
  const served = await serve(t, pki, declare)
  const absent = { isPresent: false, isValid: false, flags: 0, cookie: '', subject: '', issuer: '', serialNumber: '', validFrom: null, validUntil: null, serverSubject: '', serverIssuer: '' }
  for (const body of [(await served.insecure('/read')).body, (await served.secure('/read')).body, (await inject(served.app, '/read')).body, (await served.app.inject('/read')).body, (await inject(served.app, { url: '/read', secure: true })).body]) {
    const read = JSON.parse(body) as Read
    t.strictSame(read.details, absent)
    t.strictSame([...new Set(Object.values(read.values))], [''])
    t.equal(read.present, false)
  }
  const injected = JSON.parse((await inject(served.app, { url: '/read', clientCertificate: pki.client.cert })).body) as Read
  t.match(injected, { present: true, details: { isValid: true, subject: 'CN=Jane, O=Acme', serverSubject: '' }, values: { SubjectCN: 'Jane', SecretKeySize: '', ServerSubjectCN: '' } })
})
