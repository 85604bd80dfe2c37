/**
 * Which peers are trusted proxies. Only their headers count, because any client can send a forwarded header. Begin with
 * {@link compileTrust}.
 */
import { isIP, type Server, type Socket } from 'node:net'
// Fastify has loaded it already.
import proxyAddr from '@fastify/proxy-addr'

const WORDS: ReadonlySet<string> = new Set(['loopback', 'linklocal', 'uniquelocal', 'unix'])

/** Whether the peer at the other end of a socket is trusted. */
export type PeerTrust = (socket: Socket) => boolean

/**
 * Compiles `proxy.trust`.
 *
 * @param trust IP addresses, CIDR ranges, the words of `@fastify/proxy-addr`, and `'unix'`
 * @throws TypeError for anything else
 */
export function compileTrust (trust: string | readonly string[]): PeerTrust {
  const words = typeof trust === 'string' ? [trust] : trust
  if (words.length === 0) throw new TypeError('nobody is named')
  for (const word of words) {
    const [address = '', length = '128'] = word.split('/')
    if (!WORDS.has(word) && (isIP(address) === 0 || /^0\d/.test(length))) throw new TypeError(`${word} is neither an address nor a range`)
    // All of IPv4, written as IPv6.
    if (/^::ffff:/i.test(address) && Number(length) <= 96) throw new TypeError(`invalid range on address: ${word}`)
  }
  const trustsUnix = words.includes('unix')
  const trustsAddress = proxyAddr.compile(words.filter((word) => word !== 'unix'))
  // Cached on the socket, where it is found fastest: a peer's address does not change while it is connected, unlike its
  // headers. By plain assignment, which the proxy objects of HTTP/2 pass on to the socket.
  const kTrusted = Symbol('fastify-http-security trusted')
  type CachingSocket = Socket & { [kTrusted]?: boolean }

  return function trusts (socket: CachingSocket) {
    const cached = socket[kTrusted]
    if (cached !== undefined) return cached
    const { remoteAddress } = socket
    // A client that has disconnected has no address either, so that the listener has to tell whether this is a Unix socket.
    if (remoteAddress === undefined) return trustsUnix && isFromUnixListener(socket)
    return (socket[kTrusted] = trustsAddress(remoteAddress, 0))
  }
}

/** `server` has accepted the socket; only the address of a Unix socket listener is a path. */
function isFromUnixListener (socket: Socket): boolean {
  const { server } = socket as Socket & { server?: Server }
  return typeof server?.address() === 'string'
}
