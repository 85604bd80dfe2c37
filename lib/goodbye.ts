/** Ends a session of HTTP/2 without losing what has reached this machine (RFC 9113 §6.8). */
import { constants, type ServerHttp2Session } from 'node:http2'
import { setImmediate } from 'node:timers/promises'

/** The highest stream identifier that there is. */
const ANY_STREAM = 2 ** 31 - 1

/**
 * Has a client open no more streams, and serves those that it has opened.
 *
 * No round trip is waited for between both GOAWAYs: nghttp2 ignores every stream that comes after the first one (Node
 * cannot call `nghttp2_submit_shutdown_notice`). So what was still on its way is told at once that it was not seen, which
 * means that it may be sent again on another connection.
 */
export async function sayGoodbye (session: ServerHttp2Session): Promise<void> {
  // Requests may lie unread in the kernel: with the second one, they have been read.
  await setImmediate()
  await setImmediate()
  if (session.closed || session.destroyed) return
  session.goaway(constants.NGHTTP2_NO_ERROR, ANY_STREAM)
  session.close()
}
