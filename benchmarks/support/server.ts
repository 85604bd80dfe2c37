/**
 * A server in a process of its own, with one contender and one route. It tells what it has used of the machine.
 */
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import { answerQuestions } from './child.ts'
import { type Transport, contenders, tls } from './contenders.ts'
import { type Identities, askingServer } from './identities.ts'

export type ServerQuestion = keyof typeof answers | { readonly contender: string, readonly transport: Transport, readonly identities: Identities }

let full = 0
const delay = monitorEventLoopDelay({ resolution: 1 })

const answers = {
  /** Microseconds of CPU time of all threads: garbage collection is part of the price. */
  cpu (): number {
    const { user, system } = process.cpuUsage()
    return user + system
  },
  /** The same, apart. */
  times: () => process.cpuUsage(),
  /** Bytes that are in use, on V8's heap and beside it. Needs `--expose-gc`. */
  async memory (): Promise<number> {
    // Buffers of what was collected are let go a turn later
    for (let times = 0; times < 3; times++) {
      gc!()
      await setImmediate()
    }
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  },
  /** Milliseconds of the longest time in which nothing else had its turn, since it was asked before. */
  block (): number {
    const longest = Math.max(0, delay.max / 1e6 - 1)
    delay.reset()
    delay.enable()
    return longest
  },
  /** Full handshakes, since it was asked before. */
  full (): number {
    const count = full
    full = 0
    return count
  },
  /** Reads what has changed. Milliseconds. */
  async look (): Promise<number> {
    const start = performance.now()
    await tls!.reload()
    return performance.now() - start
  }
}

answerQuestions<ServerQuestion>((question) => typeof question === 'string' ? answers[question]() : serve(question))

async function serve ({ contender, transport, identities }: Exclude<ServerQuestion, string>): Promise<number> {
  const { https = async () => askingServer(identities), protect } = contenders[contender]!
  const app = (transport === 'http' ? Fastify() : Fastify({ https: await https(identities) })) as FastifyInstance
  await protect(app, transport, identities)
  app.get('/', (_request, reply) => { reply.send({ hello: 'world' }) })
  app.server.on('secureConnection', (socket: TLSSocket) => { if (!socket.isSessionReused()) full++ })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}
