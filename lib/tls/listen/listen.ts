/** One app on two ports: HTTPS, and plain HTTP beside it. */
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import type { AddressInfo, Server as NetServer } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import {
  errorCodes, type FastifyBaseLogger, type FastifyInstance, type FastifyTypeProvider, type RawReplyDefaultExpression,
  type RawRequestDefaultExpression, type RawServerBase
} from 'fastify'
import { InvalidOptionsError } from '../../errors.ts'
import { unknownOption } from '../../options/validation-errors.ts'
import { isClosing, isEmpty, listensPlainly, NOTHING_TO_SERVE } from '../../internals.ts'
import { answerPlainHttp } from './http-on-tls-port.ts'
import { createPlainServer } from './http-listener.ts'
import { closeGracefully } from './graceful-close.ts'

export interface ListenOptions {
  /** Port for plain HTTP; 0 takes a free one. Without it, there is HTTPS only. */
  readonly http?: number
  /** Port for HTTPS; 0 takes a free one. */
  readonly https: number
  /** A name or an address, for both ports. Default: `127.0.0.1`; `0.0.0.0` or `::` for every interface. */
  readonly host?: string
}

const KNOWN: readonly string[] = ['http', 'https', 'host']

/** Where the app is reached. */
export interface ListenResult {
  readonly http?: AddressInfo
  readonly https: AddressInfo
}

/** Servers that are open, or about to be. */
const taken = new WeakSet<object>()

/**
 * Listens for HTTPS, as `app.listen()` does, and for plain HTTP: the same app with its hooks, WebSockets, limits and
 * timeouts. A plain request to the HTTPS port is answered with a 400 that says so; what is no HTTP is hung up on.
 *
 * `app.close()` closes both, and waits for both: no connection is accepted any more, idle ones and those that were never
 * used are closed at once (new ones have a quarter of a second for a request that is on its way), others when their
 * requests have been answered, HTTP/2 sessions with GOAWAY (RFC 9113 §6.8). What is left after 5 seconds is cut off:
 * requests that never end, handshakes, WebSockets. Fastify's `forceCloseConnections` makes no difference;
 * `app.server.closeAllConnections()` does not wait, for HTTP/1 on both ports.
 *
 * A name is looked up once and both ports are opened on the first address: `localhost` makes no second, hidden server
 * as it does with `app.listen()`.
 *
 * @param app - from `Fastify({ https: … })`, or with `http2: true` and `https: { allowHTTP1: true, … }`; ready or not
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an app without TLS, an unknown option or an empty host; FST_ERR_REOPENED_SERVER for one that
 * listens already, FST_ERR_REOPENED_CLOSE_SERVER for one that closes; Node's own error (`EADDRINUSE`, `EACCES`, `ENOTFOUND`,
 * …) when a port cannot be had. Then neither is open, and the app is as it was after `ready()`
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
  const unknown = Object.keys(options).find((name) => !KNOWN.includes(name))
  if (unknown !== undefined) throw new InvalidOptionsError(`listen: ${unknownOption(unknown, KNOWN, options)}`)
  if (isClosing(app)) throw new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER()
  if (taken.has(server)) throw new errorCodes.FST_ERR_REOPENED_SERVER()
  taken.add(server)
  try {
    const { address: host } = await lookup(options.host ?? '127.0.0.1')
    // Routing a request before that crashes the process, and plugins have put their listeners on the server by then
    await app.ready()
    if (isClosing(app)) throw new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER()
    // The plugin has told the log. Without one, nobody would hear of it
    if (isEmpty(server) && (app.log as { level?: string }).level === undefined) process.emitWarning(`listen: ${NOTHING_TO_SERVE}`, { code: 'FST_HTTP_SECURITY' })
    answerPlainHttp(server)
    const plain = options.http === undefined
      ? undefined
      : createPlainServer(server, (request, response) => app.routing(request as Request, response as Reply))
    const together = closeGracefully(app, server, plain === undefined ? [] : [plain])
    const open = async (): Promise<ListenResult> => {
      // Plain HTTP first: this server can be closed again without closing the app
      const http = plain && await openPlain(plain, host, options.http)
      await app.listen({ host, port: options.https })
      const https = Object.freeze(server.address() as AddressInfo)
      if (isClosing(app)) {
        // Fastify has opened it all the same
        server.close()
        throw new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER()
      }
      if (http === undefined) return Object.freeze({ https })
      listensPlainly(server, http.port)
      // An IPv6 address goes in brackets (RFC 3986 §3.2.2)
      app.log.info(`Server listening at http://${http.address.replace(/^.*:.*$/, '[$&]')}:${http.port}`)
      return Object.freeze({ http, https })
    }
    // Node tells nobody of a server that is closed before it listens
    return await Promise.race([open(), together.closed]).catch((error) => { together.giveUp(); throw error })
  } catch (error) {
    taken.delete(server)
    throw error
  }
}

async function openPlain (plain: NetServer, host: string, port: number | undefined): Promise<AddressInfo> {
  plain.listen({ host, port })
  await once(plain, 'listening')
  return Object.freeze(plain.address() as AddressInfo)
}
