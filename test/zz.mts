import { createHash, X509Certificate } from 'node:crypto'
import { createForwardedReader } from '../lib/proxy/forwarded-certificate.ts'
import { authority, issue } from './fixtures/pki.ts'
const ca = await authority('CA'); const jane = await issue(ca, { subject: 'CN=Jane' })
const der = new X509Certificate(jane.cert).raw
const serial = der.indexOf(Buffer.from(new X509Certificate(der).serialNumber, 'hex'))
const N = 10000
const all = Array.from({ length: N }, (_, i) => { const d = Buffer.from(der); d.writeUInt32BE(i, serial + 4); createHash('sha256').update(String(i)).digest().copy(d, d.length - 32); return Buffer.from(`:${d.toString('base64')}:`) })
const reader = createForwardedReader({ header: 'client-cert', encoding: 'rfc9440', verified: 'presence', hops: 1 }, undefined)
const host = Buffer.from('Host'), cc = Buffer.from('Client-Cert')
const ask = (i: number) => reader.read({ rawHeaders: [host.toString('latin1'), 'x', cc.toString('latin1'), all[i]!.toString('latin1')], headers: {} }, Date.now())
const bare = (i: number) => [host.toString('latin1'), 'x', cc.toString('latin1'), all[i]!.toString('latin1')].length
for (let i = 0; i < N; i++) ask(i)
let hits = 0; const seen = ask(5); if (ask(5) === seen) hits++
for (const n of [1, 100, 1000, 3000, 10000]) {
  const idx = Array.from({ length: 50000 }, () => Math.floor(Math.random() * n))
  const t = (f: (i: number) => unknown) => { const r: number[] = []; for (let k = 0; k < 12; k++) { const s = performance.now(); for (const i of idx) f(i); r.push((performance.now() - s) / idx.length * 1e6) } return r.sort((a, b) => a - b) }
  const a = t(bare), b = t(ask)
  console.log(n, 'bare', a[0]!.toFixed(0), a[6]!.toFixed(0), 'read', b[0]!.toFixed(0), b[6]!.toFixed(0), 'diff', (b[0]! - a[0]!).toFixed(0), (b[6]! - a[6]!).toFixed(0))
}
