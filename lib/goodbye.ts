/** Ends a session of HTTP/2 without losing what its client has sent (RFC 9113 §6.8). */
import { constants, type ServerHttp2Session } from 'node:http2'

/** Milliseconds that a client may take to answer a PING. */
const LONGEST = 1_000

/**
 * Has a client open no more streams: a GOAWAY with the highest stream identifier there is. Called while a request is under
 * way, since nghttp2 stops reading with the last stream after that.
 *
 * @param done called after a round trip, when all that the client had sent before has come: the session may be closed once
 * its streams are
 */
export function announceGoodbye (session: ServerHttp2Session, done: () => void): void {
  if (session.closed || session.destroyed) return done()
  session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
  let timer: NodeJS.Timeout | undefined = setTimeout(finish, LONGEST).unref()
  if (!session.ping(finish)) finish()

  function finish (): void {
    if (timer === undefined) return
    clearTimeout(timer)
    timer = undefined
    done()
  }
}
