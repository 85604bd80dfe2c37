/**
 * What trust costs that changes: revocation lists of any length, renewals under many clients, and a thousand hosts; beside
 * Node's https with the same.
 */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import tls from 'node:tls'
import { ask } from '../test/fixtures/ask.ts'
import { type Made, alternatives, make, names, purposes, SERVER } from '../test/fixtures/chains.ts'
import { makeCrl } from '../test/fixtures/crls.ts'
import type { AudienceQuestion } from './support/audience.ts'
import { Child } from './support/child.ts'
import { ENABLE_TLS, HOSTS, LIST, NODE_HOSTS, NODE_LIST } from './support/contenders.ts'
import { requireAnswer } from './support/correctness.ts'
import type { Identities, Pem } from './support/identities.ts'
import type { LoadQuestion } from './support/load.ts'
import { type Pair, measurePair, secureOptions } from './support/pairs.ts'
import type { ServerQuestion } from './support/server.ts'
import { extent } from './support/statistics.ts'
import { type Measured, type Table, againstLimits } from './support/table.ts'

/** Entries, and the seconds after which whoever is among them is refused. */
const LISTS = [{ count: 100_000, limit: 1 }, { count: 1_000_000, limit: 5 }]
const RENEWALS = 3
const CONNECTIONS = 5_000
const WEB_SOCKETS = 500
const MANY = 1_000
/** Milliseconds after which what was written is known not to have been written again. */
const SETTLED = 4_000

/** Nobody is warned that these will end. */
const days = [-1, 90] as const
const serverCa = make({ ca: true, subject: 'CN=Server CA', days })
const clientCa = make({ ca: true, subject: 'CN=Client CA', days })
const client = make({ issuer: clientCa, subject: 'CN=Jane', days })

const pemOf = ({ pem, keys }: Made): Pem => ({ cert: pem, key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string })
const certify = (host: string): Pem =>
  pemOf(make({ issuer: serverCa, subject: `CN=${host}`, days, extensions: { purposes: purposes(SERVER), alternatives: alternatives(names.dns(host), names.ip(127, 0, 0, 1)) } }))
const identities: Identities = { server: { ...certify('localhost'), ca: serverCa.pem }, client: { ...pemOf(client), ca: clientCa.pem } }
const secure = secureOptions('mtls', identities)!

export async function trust ({ long }: { long: boolean }): Promise<Table[]> {
  const dir = mkdtempSync(join(tmpdir(), 'benchmark-'))
  try {
    const tables: Table[] = []
    for (const { count, limit } of LISTS) tables.push(await lists(dir, count, limit, long))
    return [...tables, await renewals(dir), await hosts(dir)]
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** One that takes its time and then is answered once is no sample of many: its extremes are all that is known of it. */
const measured = (what: string, values: readonly number[], limit?: number): Measured => ({ what, value: extent(values), limit })

class Server {
  readonly #child = new Child('server.ts', ['--expose-gc', ...process.execArgv])
  port = 0

  async serve (contender: string, given: Identities): Promise<this> {
    this.port = await this.#child.ask<number>({ contender, transport: 'mtls', identities: given } satisfies ServerQuestion)
    await this.tell('block')
    return this
  }

  async tell (question: Extract<ServerQuestion, string>): Promise<number> {
    return await this.#child.ask<number>(question)
  }

  async end (): Promise<void> {
    await this.#child.end()
  }
}

/** As what replaces it: whole. */
function replace (path: string, content: string | Buffer): void {
  writeFileSync(`${path}.new`, content)
  renameSync(`${path}.new`, path)
}

async function lists (dir: string, count: number, limit: number, long: boolean): Promise<Table> {
  const crl = join(dir, 'clients.crl')
  const listed = { ...identities, crl }
  let number = 0
  const list = (...entries: Made[]): Buffer => makeCrl(clientCa, { number: ++number, bulk: { count }, entries })
  replace(crl, list())
  const size = statSync(crl).size
  const pairs = await handshakes(LIST, ENABLE_TLS, listed, long ? { pairs: 9, turns: 20, size: 100 } : { pairs: 3, turns: 20, size: 100 })
  // OpenSSL looks through all of it in each handshake
  const node = await handshakes(NODE_LIST, ENABLE_TLS, listed, { pairs: 1, turns: 2, size: 8 })
  const without = await new Server().serve(ENABLE_TLS, identities)
  const base = await without.tell('memory')
  await without.end()

  const server = await new Server().serve(LIST, listed)
  const agent = new https.Agent({ ...secure, keepAlive: true, maxSockets: 1, timeout: 60_000 })
  try {
    const memory = [await server.tell('memory') - base]
    const [blocks, refused]: [number[], number[]] = [[], []]
    const status = async (): Promise<number> => (await ask({ port: server.port, host: 'localhost', tls: { agent } })).status
    for (let renewal = 0; renewal < RENEWALS; renewal++) {
      await becomes(status, 200)
      const revoking = list(client)
      // Files were read again meanwhile, and nothing was to be done
      await server.tell('block')
      const start = performance.now()
      replace(crl, revoking)
      await becomes(status, 403)
      refused.push((performance.now() - start) / 1000)
      blocks.push(await server.tell('block'))
      memory.push(await server.tell('memory') - base)
      replace(crl, list())
    }
    return againstLimits(`A revocation list of ${count.toLocaleString('en')} entries, ${(size / 1e6).toFixed(1)} MB`, '', 2, [
      measured('a full handshake, × without a list', pairs.map(({ cpuRatio }) => cpuRatio), 1.05),
      measured('the same with Node\'s https, × without a list', node.map(({ cpuRatio }) => cpuRatio)),
      measured('the longest block of a reload, ms', blocks, 50),
      measured('memory, × the file', memory.map((bytes) => bytes / size), 3),
      measured('who was revoked is refused on a kept connection after, s', refused, limit)
    ])
  } finally {
    agent.destroy()
    await server.end()
  }
}

async function handshakes (name: string, against: string, given: Identities, { pairs, turns, size }: { pairs: number, turns: number, size: number }): Promise<Pair[]> {
  const load = new Child('load.ts')
  const shake = async (port: number, count: number): Promise<number> => await load.ask<number>({ handshakes: count, lanes: 8, port, secure } satisfies LoadQuestion)
  try {
    const all: Pair[] = []
    while (all.length < pairs) {
      all.push(await measurePair(name, 'mtls', given, {
        against,
        size,
        turns,
        async prepare (_side, port) { await shake(port, 6 * size) },
        async turn (_side, port) {
          const seconds = await shake(port, size)
          // A client is done before its certificate is verified
          await ask({ port, host: 'localhost', tls: secure })
          return seconds
        }
      }))
    }
    return all
  } finally {
    await load.end()
  }
}

/** Asks until it is so. */
async function becomes (status: () => Promise<number>, expected: number): Promise<void> {
  for (const end = performance.now() + 60_000; performance.now() < end; await wait(5)) if (await status() === expected) return
  requireAnswer('what a client is answered in the end', await status(), expected)
}

async function renewals (dir: string): Promise<Table> {
  const crl = join(dir, 'clients.crl')
  let number = 0
  const renewed = (): Buffer => makeCrl(clientCa, { number: ++number, bulk: { count: 100_000 } })
  replace(crl, renewed())
  const server = await new Server().serve(LIST, { ...identities, crl })
  const audience = new Child('audience.ts')
  try {
    await audience.ask({ port: server.port, connections: CONNECTIONS, webSockets: WEB_SOCKETS, secure } satisfies AudienceQuestion)
    let failed = await audience.ask<number>('ask' satisfies AudienceQuestion)
    await server.tell('full')
    for (let renewal = 0; renewal < RENEWALS; renewal++) {
      replace(crl, renewed())
      for (const end = performance.now() + 2_000; performance.now() < end;) failed += await audience.ask<number>('ask' satisfies AudienceQuestion)
    }
    return againstLimits(`A list of 100,000 entries is renewed ${RENEWALS} times under ${CONNECTIONS.toLocaleString('en')} kept connections and ${WEB_SOCKETS} WebSockets that ask all the time`, '', 0, [
      measured('failed requests', [failed], 0),
      measured('closed connections and WebSockets', [await audience.ask<number>('closed' satisfies AudienceQuestion)], 0),
      measured('full handshakes', [await server.tell('full')], 0)
    ])
  } finally {
    await Promise.all([audience.end(), server.end()])
  }
}

async function hosts (dir: string): Promise<Table> {
  const hosts = Array.from({ length: MANY }, (_, index) => ({ cert: join(dir, `h${index}.pem`), key: join(dir, `h${index}.key`) }))
  /** Answers with the certificate. */
  const write = (index: number): string => {
    const { cert, key } = certify(`h${index}.test`)
    replace(hosts[index]!.cert, cert)
    replace(hosts[index]!.key, key)
    return new X509Certificate(cert).fingerprint256
  }
  for (const index of hosts.keys()) write(index)
  const start = async (contender: string): Promise<{ server: Server, seconds: number }> => {
    const began = performance.now()
    const server = await new Server().serve(contender, { ...identities, hosts })
    return { server, seconds: (performance.now() - began) / 1000 }
  }
  const node = await start(NODE_HOSTS)
  await node.server.end()
  const { server, seconds } = await start(HOSTS)
  try {
    await wait(SETTLED)
    const [live, blocks, looks, lookBlocks]: [number[], number[], number[], number[]] = [[], [], [], []]
    for (let round = 0; round < RENEWALS; round++) {
      const index = Math.floor((round + 0.5) * MANY / RENEWALS)
      await server.tell('block')
      const began = performance.now()
      const written = write(index)
      while (await shown(server.port, `h${index}.test`) !== written) await wait(5)
      live.push(performance.now() - began)
      blocks.push(await server.tell('block'))
      await wait(SETTLED)
      looks.push(await server.tell('look'))
      lookBlocks.push(await server.tell('block'))
    }
    return againstLimits(`${MANY.toLocaleString('en')} hosts, each with files of its own`, '', 1, [
      measured('a change of one is live after, ms', live, 1000),
      measured('the longest block meanwhile, ms', blocks, 50),
      measured('the longest block of a look without a change, ms', lookBlocks, 5),
      measured('a look in all, ms', looks),
      measured('a start, s', [seconds]),
      measured('a start of Node\'s https with addContext, s', [node.seconds])
    ])
  } finally {
    await server.end()
  }
}

/** The certificate of a host. */
async function shown (port: number, servername: string): Promise<string> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername, ca: identities.server.ca })
  try {
    await once(socket, 'secureConnect')
    return socket.getPeerX509Certificate()!.fingerprint256
  } finally {
    socket.destroy()
  }
}
