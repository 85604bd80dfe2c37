/**
 * `listen`: one app on two ports, HTTPS and plain HTTP. The second server is made in http-listener.ts. Both ports close
 * at the same time: see graceful-close.ts.
 */
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
import { acmeOf } from '../../tls-interface.ts'
import { answerPlainHttp } from './http-on-tls-port.ts'
import { createPlainServer } from './http-listener.ts'
import { closeGracefully } from './graceful-close.ts'

/** Options of {@link listen} and `tls.listen()`. */
export interface ListenOptions {
  /**
   * The port for plain HTTP, 0 to 65535; 0 takes a free one.
   *
   * @default none: HTTPS only
   */
  readonly http?: number | undefined
  /** The port for HTTPS, 0 to 65535; 0 takes a free one. */
  readonly https: number
  /**
   * The host name or IP address to listen on, for both ports. `0.0.0.0` or `::` is every interface. A name is looked up
   * once, and its first address is used.
   *
   * @default '127.0.0.1'
   */
  readonly host?: string | undefined
}

const KNOWN: readonly string[] = ['http', 'https', 'host']

/** The addresses on which the app listens. Frozen. */
export interface ListenResult {
  /** The address and port for plain HTTP. Missing without the option `http`. */
  readonly http?: AddressInfo
  /** The address and port for HTTPS. */
  readonly https: AddressInfo
}

/** Servers that listen, or will listen soon. */
const taken = new WeakSet<object>()

/**
 * Listens for HTTPS, as `app.listen()` does, and for plain HTTP if `http` is given: the same app with its hooks,
 * WebSockets, limits and timeouts. For an app with `enableTls`, use `tls.listen()`, which does the same.
 *
 * A plain HTTP request to the HTTPS port gets a 400 that says so. If it is not HTTP, the connection is closed.
 *
 * `app.close()` closes both ports, and waits for both. No connection is accepted any more. Idle connections and those
 * that were never used are closed at once; new ones have 250 milliseconds for a request that is on its way. Other
 * connections are closed when their requests are answered, HTTP/2 sessions with GOAWAY (RFC 9113 §6.8). After 5 seconds
 * everything else is closed: requests that do not end, handshakes, WebSockets. Fastify's `forceCloseConnections` makes
 * no difference. `app.server.closeAllConnections()` does not wait; it closes HTTP/1 connections on both ports.
 *
 * A host name is looked up once, and both ports are opened on its first address. So `localhost` does not create a
 * second, hidden server as with `app.listen()`.
 *
 * @param app from `Fastify({ https: … })`, or with `http2: true` and `https: { allowHTTP1: true, … }`; ready or not
 * @returns the addresses of both ports
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an app without TLS, an unknown option, a wrong port or an empty host
 * @throws FST_ERR_REOPENED_SERVER (Fastify) for an app that listens already
 * @throws FST_ERR_REOPENED_CLOSE_SERVER (Fastify) for an app that closes
 * @throws what `app.ready()` throws, and Node's own error (`EADDRINUSE`, `EACCES`, `ENOTFOUND`, …) if a port cannot be
 * opened. Then neither port is open, and the app is as it was after `ready()`
 * @example
 * ```ts
 * const app = Fastify({ https: { key, cert } })
 * await app.register(httpSecurity)
 * const { http, https } = await listen(app, { http: 8080, https: 8443 })
 * ```
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
    // Before `ready()`, routing a request crashes the process. After it, plugins have added their listeners to the
    // server
    await app.ready()
    if (isClosing(app)) throw new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER()
    // The plugin has logged this. Without a logger, it would be lost
    if (isEmpty(server) && (app.log as { level?: string }).level === undefined) process.emitWarning(`listen: ${NOTHING_TO_SERVE}`, { code: 'FST_HTTP_SECURITY' })
    answerPlainHttp(server)
    const acme = acmeOf(server)
    const route = (request: unknown, response: unknown): void => app.routing(request as Request, response as Reply)
    const plain = options.http === undefined
      ? undefined
      : createPlainServer(server, acme === undefined ? route : (request, response) => { if (!acme.answer(request, response)) route(request, response) })
    const gracefulClose = closeGracefully(app, server, plain === undefined ? [] : [plain])
    const open = async (): Promise<ListenResult> => {
      // Plain HTTP first: that server can be closed again without closing the app
      const http = plain && await openPlain(plain, host, options.http)
      await app.listen({ host, port: options.https })
      const https = Object.freeze(server.address() as AddressInfo)
      if (isClosing(app)) {
        // Fastify has opened it nevertheless
        server.close()
        throw new errorCodes.FST_ERR_REOPENED_CLOSE_SERVER()
      }
      if (http === undefined) {
        if (acme?.needsHttp === true) app.log.warn('http-security: listen: without http, no CA can see here that the names are yours: give { http, https }, unless another process that shares the directory of acme answers it')
        return Object.freeze({ https })
      }
      listensPlainly(server, http.port)
      acme?.listens()
      // An IPv6 address is written in brackets (RFC 3986 §3.2.2)
      app.log.info(`Server listening at http://${http.address.replace(/^.*:.*$/, '[$&]')}:${http.port}`)
      return Object.freeze({ http, https })
    }
    // Node emits no event for a server that is closed before it listens
    return await Promise.race([open(), gracefulClose.closed]).catch((error) => { gracefulClose.giveUp(); throw error })
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
