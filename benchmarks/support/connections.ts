/**
 * Requests as a server sees them, on real connections, to be given to applications again and again.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Identities, askingServer } from './identities.ts'

/** Who asks: over plain HTTP, over HTTPS as nobody, with a certificate, or with one and its issuer's beside it. */
export type Client = 'insecure' | 'anonymous' | 'known' | 'chained'

export interface Connections {
  /** A request on a new connection. It is never answered, so the connection stays as long as it is wanted. */
  connect (client: Client, path: string): Promise<IncomingMessage>
  close (): void
}

export async function openConnections (identities: Identities): Promise<Connections> {
  const arrivals = new Map<string, (raw: IncomingMessage) => void>()
  const arrive = (raw: IncomingMessage) => { arrivals.get(raw.headers['x-arrival'] as string)?.(raw) }
  const servers = { http: http.createServer(arrive), https: https.createServer(askingServer(identities), arrive) }
  const ports = { http: await listen(servers.http), https: await listen(servers.https) }
  const { ca, cert, key } = identities.client
  const presentedBy = { anonymous: {}, known: { cert, key }, chained: { cert: cert + ca, key } }
  const requests = new Set<http.ClientRequest>()
  return {
    connect: (client, path) => new Promise((resolve, reject) => {
      const id = String(requests.size)
      arrivals.set(id, resolve)
      const options = { host: '127.0.0.1', agent: false as const, path, headers: { 'x-arrival': id } }
      const request = client === 'insecure'
        ? http.request({ ...options, port: ports.http })
        : https.request({ ...options, ...presentedBy[client], port: ports.https, ca: identities.server.ca })
      requests.add(request.on('error', reject))
      request.end()
    }),
    close () {
      for (const request of requests) request.destroy()
      for (const server of Object.values(servers)) {
        server.close()
        server.closeAllConnections()
      }
    }
  }
}

async function listen (server: http.Server): Promise<number> {
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return (server.address() as AddressInfo).port
}

/** Where an application's answer goes: as much of a response as Fastify uses of one, and nothing sent. */
export class Sink {
  statusCode = 200
  readonly headersSent = false
  readonly writableEnded = false
  /** Or it would be looked after for as long as its connection is there. */
  readonly writableFinished = true
  #headers: Record<string, unknown> = {}
  body: unknown

  writeHead (status: number, headers: Record<string, unknown>): this {
    this.statusCode = status
    this.#headers = headers
    return this
  }

  end (body: unknown): this {
    this.body = body
    return this
  }

  setHeader (name: string, value: unknown): this {
    this.#headers[name] = value
    return this
  }

  getHeader (name: string): unknown { return this.#headers[name] }
  hasHeader (name: string): boolean { return name in this.#headers }
  getHeaderNames (): string[] { return Object.keys(this.#headers) }
  removeHeader (): void {}
  on (): this { return this }
  once (): this { return this }
  removeListener (): this { return this }

  /** As the type that `app.routing` takes. */
  asResponse (): ServerResponse { return this as unknown as ServerResponse }
}
