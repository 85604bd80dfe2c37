/**
 * Clients in a process of their own that stay: each has a connection or a WebSocket, which it keeps, and asks when it is told to.
 */
import { type EventEmitter, once } from 'node:events'
import tls from 'node:tls'
import { WebSocket } from 'ws'
import { answerQuestions } from './child.ts'

export type AudienceQuestion =
  { readonly port: number, readonly connections: number, readonly webSockets: number, readonly secure: tls.ConnectionOptions } |
  /** Everybody asks once. Answers with the number of those who were not served. */
  'ask' |
  /** Answers with the number of those whose connection was closed. */
  'closed'

const REQUEST = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
/** Handshakes under way at a time. */
const LANES = 8

interface Client {
  /** Rejects where it is not served. */
  ask (): Promise<void>
  isClosed (): boolean
}
const clients: Client[] = []

answerQuestions<AudienceQuestion>(async (question) => {
  if (question === 'closed') return clients.filter((client) => client.isClosed()).length
  if (question !== 'ask') return await open(question)
  const asked = await Promise.allSettled(clients.map(async (client) => await client.ask()))
  return asked.filter(({ status }) => status === 'rejected').length
})

async function open ({ port, connections, webSockets, secure }: Exclude<AudienceQuestion, string>): Promise<void> {
  const secureContext = tls.createSecureContext(secure)
  let left = connections + webSockets
  await Promise.all(Array.from({ length: LANES }, async () => {
    while (left-- > 0) clients.push(left < webSockets ? await openWebSocket(port, secureContext) : await openConnection(port, secureContext))
  }))
}

async function openConnection (port: number, secureContext: tls.SecureContext): Promise<Client> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', secureContext }).on('error', () => {})
  await once(socket, 'secureConnect')
  const closed = ended(socket)
  return {
    async ask () {
      socket.write(REQUEST)
      const [bytes] = await Promise.race([once(socket, 'data'), closed]) as [Buffer]
      if (!bytes.toString('latin1').startsWith('HTTP/1.1 200')) throw new Error('it was refused')
    },
    isClosed: () => socket.destroyed || socket.readableEnded
  }
}

async function openWebSocket (port: number, secureContext: tls.SecureContext): Promise<Client> {
  const socket = new WebSocket(`wss://localhost:${port}/live`, { secureContext } as object).on('error', () => {})
  await once(socket, 'open')
  const closed = ended(socket)
  return {
    async ask () {
      socket.send('hello')
      await Promise.race([once(socket, 'message'), closed])
    },
    isClosed: () => socket.readyState !== WebSocket.OPEN
  }
}

/** Rejects when nothing more will come. */
function ended (socket: EventEmitter): Promise<never> {
  const closed = once(socket, 'close').then(() => { throw new Error('it was closed') })
  closed.catch(() => {})
  return closed
}
