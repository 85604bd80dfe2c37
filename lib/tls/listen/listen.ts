/** One app on two ports: HTTPS, and plain HTTP beside it. */
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type {
  FastifyBaseLogger, FastifyInstance, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerBase
} from 'fastify'
import { InvalidOptionsError } from '../../errors.ts'
import { closeTogether, createPlainServer } from './plain.ts'

export interface ListenOptions {
  /** Port for plain HTTP; 0 takes a free one. Without it, there is HTTPS only. */
  readonly http?: number
  /** Port for HTTPS; 0 takes a free one. */
  readonly https: number
  /** A name or an address, for both ports. Default: `127.0.0.1`; `0.0.0.0` or `::` for every interface. */
  readonly host?: string
}

/** Where the app is reached. */
export interface ListenResult {
  readonly http?: AddressInfo
  readonly https: AddressInfo
}

/**
 * Listens for HTTPS, as `app.listen()` does, and for plain HTTP: the same app with its hooks, WebSockets, limits and
 * timeouts. `app.close()` closes both, and waits for both. Of the plain connections, idle ones are closed at once and
 * busy ones after 5 seconds; those over TLS as Fastify does it (`forceCloseConnections`).
 *
 * A name is looked up once and both ports are opened on the first address: `localhost` makes no second, hidden server
 * as it does with `app.listen()`.
 *
 * @param app - from `Fastify({ https: … })`, or with `http2: true` and `https: { allowHTTP1: true, … }`; ready or not
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an app without TLS or an empty host; Node's own error (`EADDRINUSE`, `EACCES`,
 * `ENOTFOUND`, …) when a port cannot be had. Then neither is open, and the app is as it was after `ready()`
 */
export async function listen<
  Server extends RawServerBase,
  Request extends RawRequestDefaultExpression<Server>,
  Reply extends RawReplyDefaultExpression<Server>,
  Logger extends FastifyBaseLogger,
  TypeProvider extends FastifyTypeProvider
> (app: FastifyInstance<Server, Request, Reply, Logger, TypeProvider>, options: ListenOptions): Promise<ListenResult> {
  const { server } = app
  if (!(server instanceof TlsServer)) {
    throw new InvalidOptionsError('listen: this app has no TLS, create it with Fastify({ https: … })')
  }
  if (options.host === '') {
    throw new InvalidOptionsError('listen: host is empty, which Node takes for every interface: give a name, an address, or nothing')
  }
  for (const port of [options.https, options.http ?? 0]) {
    if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new InvalidOptionsError(`listen: ${String(port)} is no port; give { https, http? } with ports from 0 to 65535`)
  }
  const { address: host } = await lookup(options.host ?? '127.0.0.1')
  const openHttps = async (): Promise<AddressInfo> => {
    await app.listen({ host, port: options.https })
    return Object.freeze(server.address() as AddressInfo)
  }
  // Routing a request before that crashes the process, and plugins have put their listeners on the server by then
  await app.ready()
  if (options.http === undefined) return Object.freeze({ https: await openHttps() })

  const plain = createPlainServer(server, (request, response) => app.routing(request as Request, response as Reply))
  const separate = closeTogether(server, plain)
  try {
    // Plain HTTP first: this server can be closed again without closing the app
    plain.listen({ host, port: options.http })
    await once(plain, 'listening')
    const https = await openHttps()
    const http = Object.freeze(plain.address() as AddressInfo)
    // An IPv6 address goes in brackets (RFC 3986 §3.2.2)
    app.log.info(`Server listening at http://${http.address.replace(/^.*:.*$/, '[$&]')}:${http.port}`)
    return Object.freeze({ http, https })
  } catch (error) {
    separate()
    plain.close()
    plain.closeAllConnections()
    throw error
  }
}
