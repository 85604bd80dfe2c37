/**
 * A server in a process of its own, with one contender and one route. It tells the CPU time it has used.
 */
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { answerQuestions } from './child.ts'
import { type Transport, contenders } from './contenders.ts'
import { type Identities, askingServer } from './identities.ts'

export type ServerQuestion = 'cpu' | { readonly contender: string, readonly transport: Transport, readonly identities: Identities }

answerQuestions<ServerQuestion>((question) => question === 'cpu' ? cpuMicroseconds() : serve(question))

async function serve ({ contender, transport, identities }: Exclude<ServerQuestion, 'cpu'>): Promise<number> {
  const { https = async () => askingServer(identities), protect } = contenders[contender]!
  const app = (transport === 'http' ? Fastify() : Fastify({ https: await https(identities) })) as FastifyInstance
  await protect(app, transport)
  app.get('/', (_request, reply) => { reply.send({ hello: 'world' }) })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

/** Of all threads: garbage collection is part of the price. */
function cpuMicroseconds (): number {
  const { user, system } = process.cpuUsage()
  return user + system
}
