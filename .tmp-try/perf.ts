import { resolveClients } from '../lib/clients/clients.ts'
import { partsOf } from '../lib/clients/certificate-parts.ts'
import { readJson } from '../lib/files/json.ts'
import { randomBytes, X509Certificate } from 'node:crypto'
import { authority, issue } from '../test/fixtures/pki.ts'
const ca = await authority('P')
const leaf = await issue(ca, { subject: 'CN=client-777, O=Acme', san: [{ type: 'dns', value: 'client-777.test' }] })
for (const kind of [process.argv[2]!]) {
  const clients = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`client-${n}`, { groups: ['g' + n % 10], certificates: [
    kind === 'fingerprint' || (kind === 'mixed' && n % 3 === 0) ? { fingerprint256: randomBytes(32).toString('hex') } : kind === 'subject' || (kind === 'mixed' && n % 3 === 1) ? { subject: { CN: `client-${n}`, O: 'Acme' }, issuedBy: 'partners' } : { san: `DNS:client-${n}.test` }] }]))
  const text = JSON.stringify({ clients }, null, 2)
  for (let i = 0; i < 40; i++) {
    const a = performance.now()
    const json = readJson(text)
    const b = performance.now()
    const c = await resolveClients(json, 'x')
    const d = performance.now()
    if (i > 36) console.log(kind, text.length, 'read', (b - a).toFixed(1), 'compile', (d - b).toFixed(1))
    if (i === 39) {
      const labels = new Set(['partners'])
      const certs = Array.from({ length: 2000 }, () => new X509Certificate(leaf.cert))
      for (const x of certs) { x.fingerprint256; x.raw }
      const e = performance.now()
      let n = 0
      for (const x of certs) n += c.find(partsOf(x, labels)).length
      console.log('  lookup µs', ((performance.now() - e) * 1000 / 2000).toFixed(2), n)
    }
  }
}
