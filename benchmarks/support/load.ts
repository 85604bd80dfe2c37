/**
 * A client in a process of its own: connections that are kept alive, each asking again as soon as it is answered. The
 * answers of a server are all of one length, so that the client costs little beside the server it shares a machine with.
 */
import net from 'node:net'
import tls from 'node:tls'
import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { answerQuestions } from './child.ts'

export type LoadQuestion =
  /** Opens connections to a server, instead of those that had this name before. */
  { readonly open: string, readonly port: number, readonly connections: number, readonly secure?: tls.ConnectionOptions } |
  /** Makes this many full handshakes, one after the other on each of some lanes, and answers with the seconds that they took. */
  { readonly handshakes: number, readonly lanes: number, readonly port: number, readonly secure: tls.ConnectionOptions } |
  /** Sends this many requests, and answers with the seconds that they took. */
  { readonly run: string, readonly requests: number }

const REQUEST = 'GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n'
const END_OF_HEADERS = '\r\n\r\n'
const pools = new Map<string, net.Socket[]>()

answerQuestions<LoadQuestion>((question) => {
  if ('open' in question) return open(question)
  return 'handshakes' in question ? shakeHands(question) : run(pools.get(question.run)!, question.requests)
})

async function shakeHands ({ handshakes, lanes, port, secure }: Extract<LoadQuestion, { handshakes: number }>): Promise<number> {
  // Made once: parsing the client's own certificate is no part of a handshake.
  const secureContext = tls.createSecureContext(secure)
  let left = handshakes
  const start = performance.now()
  await Promise.all(Array.from({ length: lanes }, async () => {
    while (left-- > 0) {
      const socket = tls.connect(port, '127.0.0.1', { servername: 'localhost', secureContext })
      await once(socket, 'secureConnect')
      socket.destroy()
    }
  }))
  return (performance.now() - start) / 1e3
}

async function open ({ open: name, port, connections, secure }: Extract<LoadQuestion, { open: string }>): Promise<void> {
  for (const socket of pools.get(name) ?? []) socket.destroy()
  const pool: net.Socket[] = []
  while (pool.length < connections) {
    const socket = secure === undefined ? net.connect(port, '127.0.0.1') : tls.connect(port, '127.0.0.1', { servername: 'localhost', ...secure })
    await once(socket, secure === undefined ? 'connect' : 'secureConnect')
    // That its server is ended between two runs is no error.
    pool.push(socket.setNoDelay().on('error', () => {}))
  }
  pools.set(name, pool)
}

async function run (pool: net.Socket[], requests: number): Promise<number> {
  let left = requests
  const takeOne = (): boolean => left-- > 0
  const start = performance.now()
  await Promise.all(pool.map((socket) => keepAsking(socket, takeOne)))
  return (performance.now() - start) / 1e3
}

function keepAsking (socket: net.Socket, takeOne: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let expected = 0
    let received = 0
    const finish = (error?: Error) => {
      socket.removeAllListeners('data').off('close', closed)
      if (error === undefined) resolve()
      else reject(error)
    }
    const closed = () => finish(new Error('a server closed a connection'))
    const ask = () => {
      received = 0
      if (takeOne()) socket.write(REQUEST)
      else finish()
    }
    socket.on('close', closed).on('data', (chunk: Buffer) => {
      if (received === 0) {
        const head = chunk.toString('latin1', 0, 12)
        if (head !== 'HTTP/1.1 200') return finish(new Error(`an answer begins with ${head}`))
        if (expected === 0) expected = lengthOf(chunk.toString('latin1'))
      }
      received += chunk.length
      if (received > expected) finish(new Error('an answer is longer than the one before'))
      else if (received === expected) ask()
    })
    ask()
  })
}

function lengthOf (answer: string): number {
  return answer.indexOf(END_OF_HEADERS) + END_OF_HEADERS.length + Number(/^content-length: *(\d+)/im.exec(answer)![1])
}
