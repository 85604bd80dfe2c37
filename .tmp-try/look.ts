import { resolveClients } from '../lib/clients/clients.ts'
import { partsOf } from '../lib/clients/certificate-parts.ts'
import { X509Certificate } from 'node:crypto'
import { subjectOf } from '../lib/x509/distinguished-names.ts'
import { fieldsOf } from '../lib/x509/fields.ts'
import { alternativeNamesOf } from '../lib/x509/general-names.ts'
import { authority, issue } from '../test/fixtures/pki.ts'
const ca = await authority('P')
const leaf = await issue(ca, { subject: 'CN=client-777, O=Acme', san: [{ type: 'dns', value: 'client-777.test' }] })
const clients = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`client-${n}`, { certificates: [{ subject: { CN: `client-${n}`, O: 'Acme' }, issuedBy: 'partners' }] }]))
const c = await resolveClients({ clients }, 'x')
const labels = new Set(['partners'])
for (const [name, f] of Object.entries({
  find: (x: X509Certificate) => c.find(partsOf(x, labels)).length, subject: (x: X509Certificate) => subjectOf(x), fields: (x: X509Certificate) => fieldsOf(x), sans: (x: X509Certificate) => alternativeNamesOf(x) })) {
  const figures: number[] = []
  for (let r = 0; r < 30; r++) {
    const certs = Array.from({ length: 500 }, () => new X509Certificate(leaf.cert))
    for (const x of certs) { x.fingerprint256; x.raw }
    const e = process.cpuUsage().user
    const s = performance.now()
    for (const x of certs) f(x)
    figures.push((performance.now() - s) * 1000 / 500)
  }
  figures.sort((a, b) => a - b)
  console.log(name, figures[0]!.toFixed(2), figures[15]!.toFixed(2))
}
