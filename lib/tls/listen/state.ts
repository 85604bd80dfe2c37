/**
 * What Fastify knows of an app and keeps behind symbols. It documents neither: a test pins each, and what is not found
 * counts as not there.
 */
import { bySymbol } from '../../server.ts'
import { patch } from './override.ts'

/** Whether it closes, or has closed. `app.listen()` opens it again all the same, and nothing would close it then. */
export function isClosing (app: object): boolean {
  return (bySymbol(app, 'fastify.state') as { closing?: boolean } | undefined)?.closing === true
}

/**
 * With `forceCloseConnections: true` and a server that has no `closeAllConnections`, as with HTTP/2, Fastify keeps a list
 * of the connections that clients asked to keep alive, on both ports, and destroys those just before it closes its server,
 * requests under way or not. This takes them out of its sight.
 *
 * @returns what undoes it
 */
export function spareKeptAlive (app: object): () => void {
  const list = bySymbol(app, 'fastify.keepAliveConnections')
  return list instanceof Set ? patch(list, { [Symbol.iterator]: () => new Set().values() }) : () => {}
}
